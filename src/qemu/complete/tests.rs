//! Whole definitions: what is added, in which order, and where it goes.

use rstest::rstest;

use super::*;
use crate::domain_xml::{FormatOptions, format, parse_inactive};

/// The completed definition, one line per element.
fn lines(machine: &str, top: &str, devices: &str) -> Vec<String> {
    let memory = if top.contains("<memory ") { "" } else { "<memory unit='GiB'>1</memory>" };
    let vcpu = if top.contains("<vcpu") { "" } else { "<vcpu>1</vcpu>" };
    let xml = format!(
        "<domain type='kvm'><name>g</name>{memory}{vcpu}<os><type arch='x86_64' machine='{machine}'>hvm</type></os>{top}\
         <devices>{devices}</devices></domain>"
    );
    let firmwares = FirmwareChoice::default();
    let mut def = parse_inactive(&xml).unwrap().def;
    complete(&mut def, "/usr/bin/qemu-system-x86_64", None, &firmwares).unwrap();
    let mut again = def.clone();
    complete(&mut again, "/usr/bin/qemu-system-x86_64", None, &firmwares).unwrap();
    assert_eq!(again, def, "not idempotent");
    let text = format(&def, FormatOptions { inactive: true, secure: true, migratable: false });
    text.lines().map(|line| line.trim().to_string()).collect()
}

fn starting<'a>(lines: &'a [String], start: &str) -> Vec<&'a str> {
    lines.iter().map(String::as_str).filter(|line| line.starts_with(start)).collect()
}

/// (bus, slot) of the address that follows the first line with this start.
fn place(lines: &[String], start: &str) -> String {
    let at = lines.iter().position(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start}"));
    let address = lines[at..].iter().find(|line| line.starts_with("<address type='pci'")).unwrap();
    let part =
        |name: &str| address.split(&format!("{name}='0x")).nth(1).unwrap().split('\'').next().unwrap().to_string();
    format!("{}:{}", part("bus"), part("slot"))
}

#[test]
fn controllers_stand_in_libvirts_order() {
    let lines = lines(
        "q35",
        "",
        "<channel type='pty'><target type='virtio' name='a'/></channel>\
         <disk><source file='/a'/><target dev='sdh' bus='scsi'/></disk>\
         <hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/>\
         <address bus='0' target='0' unit='0'/></source></hostdev>",
    );
    let controllers: Vec<&str> =
        starting(&lines, "<controller").into_iter().filter(|line| !line.contains("type='pci'")).collect();
    assert_eq!(
        controllers,
        [
            "<controller type='scsi' index='0' model='lsilogic'>",
            "<controller type='scsi' index='1' model='lsilogic'>",
            "<controller type='usb' index='0' model='qemu-xhci'>",
            "<controller type='sata' index='0'>",
            "<controller type='virtio-serial' index='0'>",
        ]
    );
}

#[rstest]
#[case::bridge_brings_its_port("<interface type='user'><model type='rtl8139'/></interface>", "<interface", "02:01")]
#[case::unknown_models_are_modern("<interface type='user'><model type='pcnet'/></interface>", "<interface", "01:00")]
#[case::moved_behind_the_bridge(
    "<interface type='user'><model type='rtl8139'/><address type='pci' bus='1' slot='1'/></interface>",
    "<interface",
    "02:01"
)]
#[case::sound("<sound model='ich9'/>", "<sound", "00:1b")]
#[case::video("<video><model type='vga'/></video>", "<video", "00:01")]
#[case::vhost_scsi(
    "<hostdev mode='subsystem' type='scsi_host'><source protocol='vhost' wwpn='naa.5123456789abcde0'/></hostdev>",
    "<hostdev",
    "02:00"
)]
fn on_q35(#[case] device: &str, #[case] start: &str, #[case] expected: &str) {
    assert_eq!(place(&lines("q35", "", device), start), expected);
}

#[test]
fn one_slot_of_a_pc_stays_free_for_a_bridge() {
    // Slots 2 to 31 hold 30 devices: the balloon and 29 disks fill them.
    let disk = |i: u8| {
        let (first, second) = (char::from(b'a' + i / 26), char::from(b'a' + i % 26));
        format!("<disk><source file='/{i}'/><target dev='vd{first}{second}'/></disk>")
    };
    let disks = |count: u8| (0..count).map(disk).collect::<String>();
    assert!(starting(&lines("pc", "", &disks(28)), "<controller type='pci' index='1'").is_empty());
    assert!(!starting(&lines("pc", "", &disks(29)), "<controller type='pci' index='1'").is_empty());
}

#[rstest]
#[case("", &["<audio id='1' type='none'/>"])]
#[case("<graphics type='vnc'/>", &["<audio id='1' type='none'/>"])]
#[case("<graphics type='sdl'/>", &[])]
#[case("<graphics type='vnc'/><graphics type='sdl'/>", &[])]
#[case("<graphics type='spice'/>", &["<audio id='1' type='spice'/>"])]
fn sound_follows_the_display(#[case] graphics: &str, #[case] expected: &[&str]) {
    assert_eq!(starting(&lines("pc", "", graphics), "<audio"), expected);
}

#[test]
fn many_vcpus_take_an_iommu() {
    let lines = lines("q35", "<vcpu>256</vcpu>", "");
    assert_eq!(starting(&lines, "<driver"), ["<driver intremap='on' eim='on'/>"]);
    assert_eq!(starting(&lines, "<ioapic"), ["<ioapic driver='qemu'/>"]);
}

#[test]
fn memory_modules_get_slots_and_a_cell() {
    let module = "<memory model='dimm'><target><size unit='MiB'>256</size></target></memory>";
    let lines = lines("pc", "<maxMemory slots='4' unit='GiB'>4</maxMemory>", &module.repeat(2));
    assert_eq!(starting(&lines, "<cell"), ["<cell id='0' cpus='0' memory='524288' unit='KiB'/>"]);
    assert_eq!(starting(&lines, "<node"), ["<node>0</node>"; 2]);
    let slots = ["<address type='dimm' slot='0'/>", "<address type='dimm' slot='1'/>"];
    assert_eq!(starting(&lines, "<address type='dimm'"), slots);
}

#[test]
fn usb_ports_are_given_by_kind_of_device() {
    let lines = lines(
        "pc",
        "",
        "<input type='tablet'/><sound model='usb'/><disk><source file='/a'/><target dev='sda' bus='usb'/></disk>\
         <filesystem><driver type='mtp'/><source dir='/t'/><target dir='x'/></filesystem>",
    );
    let port = |start: &str| {
        let at = lines.iter().position(|line| line.starts_with(start)).unwrap();
        lines[at..].iter().find(|line| line.starts_with("<address type='usb'")).unwrap().clone()
    };
    let at = |port: &str| format!("<address type='usb' bus='0' port='{port}'/>");
    let given = ["<disk", "<sound", "<input type='tablet'", "<filesystem"].map(port);
    // A hub had to be added: two ports for four devices.
    assert_eq!(given, [at("2"), at("1.1"), at("1.2"), at("1.3")]);
}
