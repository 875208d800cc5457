//! Golden plans: XML in, spec out.

use super::*;
use crate::domain_xml::parse_inactive;
use crate::error::Code;
use crate::lxc::spec::{Mount, MountSource, Root};

fn host() -> Host {
    let range = vec![IdRange { inside: 0, outside: 1_000_000, count: 65_536 }];
    Host {
        run_id: "3-1f2e3d4c".into(),
        run_dir: "/run/domus/lxc/3-1f2e3d4c".into(),
        ids: Some(IdMaps { uid: range.clone(), gid: range }),
        overlay_dir: "/var/lib/domus/lxc-overlay/U".into(),
        image_fstype: "ext4".into(),
        scratch_size: 1 << 20,
        peers: Peers { net: Some(42), ipc: None, uts: None },
        cgroup: Cgroups::default(),
        log_max_size: 1000,
        log_backups: 2,
        hold: false,
    }
}

fn planned(body: &str) -> Result<Spec> {
    let xml = format!(
        "<domain type='lxc' xmlns:lxc='http://libvirt.org/schemas/domain/lxc/1.0'><name>c</name>\
         <uuid>11111111-2222-3333-4444-555555555555</uuid><memory>1024</memory>{body}</domain>"
    );
    let mut def = parse_inactive(&xml)?.def;
    for interface in &mut def.interfaces {
        interface.mac.get_or_insert(crate::types::MacAddr([0x52, 0x54, 0, 1, 2, 3]));
    }
    plan(&def, &host())
}

fn exe(devices: &str) -> String {
    format!("<os><type>exe</type><init>/sbin/init</init></os><devices>{devices}</devices>")
}

#[test]
fn nova_golden() {
    let xml = include_str!("../../../tests/fixtures/lxc/lxc-spawn-domain.xml").replace("@WORKDIR@", "/srv");
    let def = parse_inactive(&xml).unwrap().def;
    let spec = plan(&def, &host()).unwrap();
    let golden = include_str!("../../../tests/fixtures/lxc/lxc-spawn-spec.json");
    let text = serde_json::to_string_pretty(&spec).unwrap();
    assert_eq!(text.trim(), golden.trim(), "\n{text}");
}

#[test]
fn a_container_without_a_root_never_gets_the_hosts() {
    for devices in ["", "<filesystem type='mount'><source dir='/'/><target dir='/'/></filesystem>"] {
        assert_eq!(planned(&exe(devices)).unwrap().root, Root::HostOverlay { size: 1 << 20 });
    }
}

#[rstest::rstest]
#[case("/proc")]
#[case("/proc/sys")]
#[case("/x/../proc")]
#[case("//sys/./fs/cgroup")]
#[case("/dev/null")]
#[case("relative")]
fn targets_are_refused(#[case] target: &str) {
    let devices = format!("<filesystem type='mount'><source dir='/a'/><target dir='{target}'/></filesystem>");
    assert_eq!(planned(&exe(&devices)).unwrap_err().code, Code::ConfigUnsupported);
}

#[test]
fn every_kind_of_root_and_mount() {
    let root = |devices: &str| planned(&exe(devices)).unwrap().root;
    let fs = |kind: &str, inner: &str, target: &str| {
        format!("<filesystem type='{kind}'>{inner}<target dir='{target}'/></filesystem>")
    };
    assert_eq!(
        root(&fs("file", "<driver type='loop' format='raw'/><source file='/i.img'/>", "/")),
        Root::Image { source: "/i.img".into(), fstype: "ext4".into(), loop_device: true, readonly: false }
    );
    assert_eq!(
        root(&fs("block", "<source dev='/dev/x'/><readonly/>", "/")),
        Root::Image { source: "/dev/x".into(), fstype: "ext4".into(), loop_device: false, readonly: true }
    );
    assert_eq!(root(&fs("ram", "<source usage='1024' units='KiB'/>", "/")), Root::Ram { size: Some(1 << 20) });
    assert_eq!(
        root(&fs("template", "<source name='/t'/>", "/")),
        Root::Overlay {
            lower: vec!["/t".into()],
            upper: "/var/lib/domus/lxc-overlay/U/upper".into(),
            work: "/var/lib/domus/lxc-overlay/U/work".into()
        }
    );
    let two = fs("ram", "<source usage='1'/>", "/") + &fs("ram", "<source usage='1'/>", "/");
    assert!(planned(&exe(&two)).is_err());
    let mounts = planned(&exe(&fs("bind", "<source dir='/data'/><readonly/>", "/again/"))).unwrap().mounts;
    let source = MountSource::Inside { path: "/data".into() };
    assert_eq!(mounts, [Mount { source, target: "/again".into(), readonly: true }]);
}

#[test]
fn namespaces_follow_interfaces_and_sharing() {
    let net = |body: String| planned(&body).unwrap().net;
    assert_eq!(net(exe("")), Namespace::Host);
    assert_eq!(net(exe("<interface type='ethernet'/>")), Namespace::New);
    assert_eq!(net(format!("<features><privnet/></features>{}", exe(""))), Namespace::New);
    let share = |kind: &str, value: &str| {
        format!("{}<lxc:namespace><lxc:sharenet type='{kind}' value='{value}'/></lxc:namespace>", exe(""))
    };
    assert_eq!(net(share("pid", "7")), Namespace::Join { path: "/proc/7/ns/net".into() });
    assert_eq!(net(share("netns", "red")), Namespace::Join { path: "/run/netns/red".into() });
    assert_eq!(net(share("name", "other")), Namespace::Join { path: "/proc/42/ns/net".into() });
    assert!(planned(&share("netns", "../x")).is_err());
    let ipc = format!("{}<lxc:namespace><lxc:shareipc type='name' value='gone'/></lxc:namespace>", exe(""));
    assert!(planned(&ipc).unwrap_err().message().contains("'gone' is not running"));
}

#[test]
fn id_maps_are_the_definitions_or_the_hosts() {
    assert_eq!(planned(&exe("")).unwrap().ids, host().ids);
    let own = |map: &str| planned(&format!("<idmap>{map}</idmap>{}", exe("")));
    let spec = own("<uid start='0' target='1000' count='10'/><gid start='0' target='2000' count='5'/>").unwrap();
    assert_eq!(spec.ids.unwrap().gid, [IdRange { inside: 0, outside: 2000, count: 5 }]);
    for bad in [
        "<uid start='5' target='1000' count='10'/><gid start='0' target='2000' count='5'/>",
        "<uid start='0' target='0' count='10'/><gid start='0' target='2000' count='5'/>",
    ] {
        assert!(own(bad).is_err(), "{bad}");
    }
}

#[test]
fn capability_policies() {
    let drop = |policy: &str, privileged: bool| {
        let body = format!("<features>{policy}</features>{}", exe(""));
        let xml = format!("<domain type='lxc'><name>c</name><memory>1</memory>{body}</domain>");
        let def = parse_inactive(&xml).unwrap().def;
        let host = Host { ids: if privileged { None } else { host().ids }, ..host() };
        plan(&def, &host).unwrap().drop_caps
    };
    assert_eq!(drop("", false), ["CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_TIME"]);
    assert!(drop("", true).contains(&"CAP_SYS_MODULE".to_string()));
    let one = "<capabilities policy='default'><mknod state='off'/><sys_time state='on'/></capabilities>";
    assert_eq!(drop(one, false), ["CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_MKNOD"]);
    let deny = drop("<capabilities policy='deny'><chown state='on'/></capabilities>", false);
    assert_eq!(deny.len(), CAPABILITIES.len() - 1);
    assert!(!deny.contains(&"CAP_CHOWN".to_string()));
    let allow = drop("<capabilities policy='allow'><sys_time state='off'/></capabilities>", true);
    assert_eq!(allow, ["CAP_SYS_TIME"]);
}

#[test]
fn interfaces_get_names_addresses_and_routes() {
    let spec = planned(&exe("<interface type='bridge'><source bridge='br0'/><target dev='vnet3'/>\
         <ip address='192.0.2.7' family='ipv4' prefix='24'/><ip address='2001:db8::7' family='ipv6'/>\
         <route family='ipv4' address='198.51.100.0' netmask='255.255.255.0' gateway='192.0.2.1'/></interface>\
         <interface type='ethernet'><target dev='mine'/><guest dev='lan'/><link state='down'/></interface>"))
    .unwrap();
    let names: Vec<_> = spec.nics.iter().map(|nic| (nic.host.as_str(), nic.guest.as_str(), nic.up)).collect();
    assert_eq!(names, [("v1f2e3d4c-0", "eth0", true), ("mine", "lan", false)]);
    assert_eq!(spec.nics[0].addresses[1].prefix, 64);
    assert_eq!(spec.nics[0].routes[0].prefix, 24);
    for bad in [
        "<interface type='user'/>",
        "<interface type='bridge'><source bridge='a/b'/></interface>",
        "<interface type='ethernet'><guest dev='a-name-that-is-too-long'/></interface>",
        "<interface type='ethernet'><target dev='x'/></interface><interface type='ethernet'><target dev='x'/></interface>",
    ] {
        assert!(planned(&exe(bad)).is_err(), "{bad}");
    }
}

#[test]
fn other_devices_are_refused_by_name() {
    let xml = format!(
        "<domain type='lxc'><name>c</name><memory>1</memory>{}</domain>",
        exe("<disk type='file'><source file='/x'/><target dev='vda' bus='virtio'/></disk>")
    );
    let def = parse_inactive(&xml).unwrap().def;
    assert!(check(&def).unwrap_err().message().contains("<disk>"));
}
