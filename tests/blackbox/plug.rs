//! Devices of running and of defined domains: put in, changed, taken out, and where each of these shows.

use std::fs;
use std::path::Path;

use crate::harness::bus::{DOMAIN, LXC};
use crate::harness::container::Container;
use crate::harness::guest::make_bridge;
use crate::harness::lab::ip;
use crate::harness::{Guest, Lab, skip, test_name};

const NIC: &str =
    "<interface type='bridge'>\n  <mac address='52:54:00:ac:ce:0a'/>\n  <source bridge='br0'/>\n</interface>\n";

fn sh(lab: &Lab, name: &str, script: &str) -> String {
    lab.ok(&["exec", name, "--", "sh", "-c", script])
}

#[test]
fn live_and_config_devices_are_two_things() {
    let lab = Lab::mock();
    let xml = "<domain type='test'><name>one</name><memory>1048576</memory><os><type>hvm</type></os></domain>";
    lab.define(xml);
    let file = lab.write("nic.xml", NIC);
    lab.fails_with(&["attach-device", "one", &file], &["Failed to attach device from", "domain is not running"]);
    assert_eq!(lab.ok(&["attach-device", "one", &file, "--config"]), "Device attached successfully");
    lab.ok(&["start", "one"]);
    assert_eq!(lab.ok(&["domiflist", "one"]).lines().count(), 3);
    let out = lab.ok(&["attach-interface", "one", "bridge", "br1", "--mac", "52:54:00:00:00:07", "--model", "virtio"]);
    assert_eq!(out, "Interface attached successfully");
    assert!(lab.ok(&["domiflist", "one"]).contains("br1      virtio   52:54:00:00:00:07"));
    assert!(!lab.ok(&["domiflist", "one", "--inactive"]).contains("br1"));
    // --persistent is both.
    lab.ok(&["attach-interface", "one", "bridge", "br2", "--mac", "52:54:00:00:00:08", "--persistent"]);
    assert!(
        lab.ok(&["domiflist", "one"]).contains("br2") && lab.ok(&["domiflist", "one", "--inactive"]).contains("br2")
    );
    assert_eq!(lab.ok(&["domif-getlink", "one", "52:54:00:00:00:08"]), "52:54:00:00:00:08 up");
    assert_eq!(lab.ok(&["domif-setlink", "one", "52:54:00:00:00:08", "down"]), "Device updated successfully");
    assert_eq!(lab.ok(&["domif-getlink", "one", "52:54:00:00:00:08"]), "52:54:00:00:00:08 down");
    assert_eq!(lab.ok(&["domif-getlink", "one", "52:54:00:00:00:08", "--config"]), "52:54:00:00:00:08 up");
    lab.fails_with(&["domif-setlink", "one", "nothing", "up"], &["Interface (dev: nothing) not found."]);
    lab.fails_with(&["detach-interface", "one", "bridge"], &["Please specify which one to detach using --mac"]);
    assert_eq!(
        lab.ok(&["detach-interface", "one", "bridge", "--mac", "52:54:00:00:00:07"]),
        "Interface detached successfully"
    );
    assert_eq!(lab.ok(&["detach-device", "one", &file, "--live", "--config"]), "Device detached successfully");
    lab.fails_with(
        &["detach-device", "one", &file, "--config"],
        &["Failed to detach device from", "device not found: no device matching MAC address 52:54:00:ac:ce:0a found"],
    );
    let broken = lab.write("b.xml", "<interface type='bridge'><mac address='zz'/></interface>");
    lab.fails_with(&["attach-device", "one", &broken], &["Failed to attach device from"]);
    lab.finish();
}

#[test]
fn an_interface_comes_and_goes_in_a_running_container() {
    let Some(mut lab) = Lab::lxc() else { return };
    make_bridge(&mut lab, "br0");
    lab.forget_links();
    let guest = Container::new(&lab, 1, "echo up; while true; do sleep 1000; done");
    let name = &*guest.name;
    // Without an interface or <privnet/> a container has its host's network: nothing can be plugged there.
    lab.define(&guest.xml);
    lab.ok(&["start", name]);
    let file = lab.write("nic.xml", NIC);
    lab.fails_with(&["attach-device", name, &file], &["the container shares its network with others"]);
    lab.ok(&["destroy", name]);
    lab.define(&guest.with("<features><privnet/></features>"));
    lab.ok(&["start", name]);
    guest.shows("up");
    assert!(!sh(&lab, name, "ls /sys/class/net").contains("eth"));
    let bus = lab.bus();
    let path = bus.lookup(LXC, name);
    let mut signals = bus.listen();
    let nic = NIC.replace("</interface>", "<ip address='192.0.2.77' family='ipv4' prefix='24'/></interface>");
    let file = lab.write("nic.xml", &nic);
    lab.ok(&["attach-device", name, &file, "--live"]);
    let (_, member, message) = signals.next(crate::harness::DEADLINE).expect("a signal");
    let alias: String = message.body().deserialize().unwrap();
    assert_eq!((member.as_str(), alias.as_str()), ("DeviceAdded", "net0"));
    let inside = sh(&lab, name, "ip -o addr show eth0; cat /sys/class/net/eth0/address /sys/class/net/eth0/operstate");
    assert!(
        inside.contains("192.0.2.77/24") && inside.contains("52:54:00:ac:ce:0a") && inside.ends_with("up"),
        "{inside}"
    );
    let live = lab.ok(&["dumpxml", name]);
    assert!(live.contains("<guest dev='eth0'/>") && live.contains("<alias name='net0'/>"), "{live}");
    assert!(!lab.ok(&["dumpxml", name, "--inactive"]).contains("<interface"));
    // The link.
    lab.ok(&["domif-setlink", name, "52:54:00:ac:ce:0a", "down"]);
    assert!(sh(&lab, name, "cat /sys/class/net/eth0/operstate").ends_with("down"));
    assert_eq!(lab.ok(&["domif-getlink", name, "52:54:00:ac:ce:0a"]), "52:54:00:ac:ce:0a down");
    lab.ok(&["domif-setlink", name, "52:54:00:ac:ce:0a", "up"]);
    assert!(sh(&lab, name, "cat /sys/class/net/eth0/operstate").ends_with("up"));
    // A second one has the next number, and may not take a name that is there.
    lab.ok(&["attach-interface", name, "bridge", "br0", "--mac", "52:54:00:ac:ce:0b"]);
    assert!(sh(&lab, name, "cat /sys/class/net/eth1/address").contains("52:54:00:ac:ce:0b"));
    let twin = lab.write("twin.xml", "<interface type='bridge'><source bridge='br0'/><guest dev='eth0'/></interface>");
    lab.fails_with(&["attach-device", name, &twin], &["Requested operation is not valid", "eth0"]);
    let refused = bus.refused(&path, DOMAIN, "AttachDevice", &(NIC.replace("br0", "nobr"), 1u32));
    assert!(refused.message.contains("nobr"), "{}", refused.message);
    drop(signals);
    drop(bus);
    lab.finish();
}

#[test]
fn a_plugged_interface_outlives_reboots_and_daemons_but_not_the_run() {
    let Some(mut lab) = Lab::lxc() else { return };
    make_bridge(&mut lab, "br0");
    lab.forget_links();
    let script = "echo boot $(ls /sys/class/net); while ! test -e /again; do sleep 0.1; done; rm /again; reboot -f";
    let guest = Container::new(&lab, 1, script);
    fs::set_permissions(guest.directory.join("root"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    lab.define(&guest.with("<features><privnet/></features>"));
    let name = &*guest.name;
    lab.ok(&["start", name]);
    guest.shows("boot");
    assert!(!guest.log().contains("eth0"), "{}", guest.log());
    let file = lab.write("nic.xml", NIC);
    lab.ok(&["attach-device", name, &file]);
    lab.crash();
    lab.start();
    assert!(lab.ok(&["domiflist", name]).contains("52:54:00:ac:ce:0a"));
    sh(&lab, name, "touch /again");
    guest.shows("boot eth0");
    lab.ok(&["detach-device", name, &file]);
    assert!(!sh(&lab, name, "ls /sys/class/net").contains("eth0"));
    assert!(!lab.ok(&["domiflist", name]).contains("52:54:00:ac:ce:0a"));
    lab.ok(&["attach-device", name, &file]);
    lab.ok(&["destroy", name]);
    assert!(!ip("-o link").contains("52:54:00:ac:ce:0a"), "its host end is gone with the run");
    lab.ok(&["start", name]);
    assert!(!sh(&lab, name, "ls /sys/class/net").contains("eth0"), "what was live only is gone with the run");
    lab.finish();
}

#[test]
fn host_devices_of_containers() {
    let Some(lab) = Lab::lxc() else { return };
    if !Path::new("/dev/kmsg").exists() {
        skip(&test_name(), "the host has no /dev/kmsg");
        return lab.finish();
    }
    let hostdev = |kind: &str, path: &str| {
        let tag = if kind == "misc" { "char" } else { "block" };
        format!("<hostdev mode='capabilities' type='{kind}'><source><{tag}>{path}</{tag}></source></hostdev>")
    };
    let guest = Container::new(&lab, 1, "echo up; while true; do sleep 1000; done");
    let name = &*guest.name;
    lab.define(&guest.with_device(&hostdev("misc", "/dev/kmsg")));
    lab.ok(&["start", name]);
    guest.shows("up");
    // Made, and not kept closed by the device rules; whether the kernel lets this user read it is another matter.
    assert!(sh(&lab, name, "stat -c '%t:%T %F' /dev/kmsg").contains("1:b character special file"));
    // One that any user may read and no container has.
    let loop_device = fs::read_dir("/dev").unwrap().flatten().map(|entry| entry.path()).find(|path| {
        let number = path.file_name().unwrap().to_str().unwrap().strip_prefix("loop").map(str::to_string);
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    });
    let Some(device) = loop_device.and_then(|path| path.to_str().map(str::to_string)) else {
        skip(&test_name(), "no loop devices here");
        return lab.finish();
    };
    let opens = |lab: &Lab| sh(lab, name, &format!("head -c1 {device} >/dev/null 2>&1 && echo yes || echo no"));
    assert_eq!(opens(&lab), "no");
    let file = lab.write("dev.xml", &hostdev("storage", &device));
    let out = lab.run(&["attach-device", name, &file]);
    if out.stderr.contains("cgroup v2") {
        skip(&test_name(), "device rules of running containers need cgroup v1");
        return lab.finish();
    }
    assert!(out.success(), "{}", out.stderr);
    assert!(sh(&lab, name, &format!("test -b {device} && echo block")).contains("block"));
    assert_eq!(opens(&lab), "yes");
    lab.fails_with(&["attach-device", name, &file], &["device is already in the domain configuration"]);
    assert!(lab.ok(&["dumpxml", name]).contains("<alias name='hostdev1'/>"));
    lab.ok(&["detach-device", name, &file]);
    assert_eq!(opens(&lab), "no");
    assert!(!sh(&lab, name, "ls /dev").contains("loop"));
    // What was open before stays open, what a name hides does not come back: a node made by hand does not open.
    for (kind, path, words) in [
        ("misc", "/dev/nothing-here", "Unable to access '/dev/nothing-here'"),
        ("storage", "/dev/null", "must be a block device"),
        ("misc", "/etc/passwd", "must be a node below /dev"),
    ] {
        let file = lab.write("bad.xml", &hostdev(kind, path));
        lab.fails_with(&["attach-device", name, &file, "--live"], &[words]);
    }
    lab.finish();
}

#[test]
fn a_machines_definition_takes_devices() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    lab.define(&guest.xml);
    let name = &*guest.name;
    let disk = "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/dev/null'/><target dev='vdz' bus='virtio'/></disk>";
    let file = lab.write("disk.xml", disk);
    lab.ok(&["attach-device", name, &file, "--config"]);
    let xml = lab.ok(&["dumpxml", name]);
    let from = xml.find("<target dev='vdz'").expect("the disk");
    assert!(xml[from..].find("<address type='pci'").is_some_and(|at| at < 200), "it has an address: {xml}");
    lab.fails_with(&["attach-device", name, &file, "--config"], &["target vdz already exists"]);
    lab.ok(&["detach-device", name, &file, "--config"]);
    assert!(!lab.ok(&["dumpxml", name]).contains("vdz"));
    lab.ok(&["start", name]);
    lab.fails_with(&["attach-device", name, &file], &["not supported by the connection driver: virDomainAttachDevice"]);
    assert!(!lab.ok(&["dumpxml", name]).contains("vdz"), "a refused change changes nothing");
    lab.finish();
}
