//! Devices of the host through virsh, domus and D-Bus, as Nova and people ask for them.

use zbus::OwnedObjectPath;

use crate::harness::bus::{CONNECT, LXC, QEMU, TEST};
use crate::harness::lab::ip;
use crate::harness::{DEADLINE, Lab, Virsh, eventually};

const NODE_DEVICE: &str = "org.libvirt.NodeDevice";

/// A daemon that sees the host's devices; it runs no guest.
fn lab() -> Lab {
    let mut lab = Lab::bare(&[]);
    lab.configure("drivers = ['qemu', 'lxc']\n");
    lab.start();
    lab
}

#[test]
fn domus_prints_what_virsh_prints_of_devices() {
    let lab = lab();
    let Some(virsh) = Virsh::of_11(&lab, "qemu:///system", "libvirt-sock") else { return };
    let listed = virsh.ok(&["nodedev-list"]);
    assert!(listed.lines().any(|name| name == "computer") && listed.lines().any(|name| name.starts_with("net_lo_")));
    let lo = listed.lines().find(|name| name.starts_with("net_lo_")).unwrap();
    for arguments in [
        &["nodedev-list"][..],
        &["nodedev-list", "--tree"],
        &["nodedev-list", "--cap", "net"],
        &["nodedev-list", "--cap", "system,pci"],
        &["nodedev-list", "--cap", "nonsense"],
        &["nodedev-list", "--persistent"],
        &["nodedev-list", "--transient"],
        &["nodedev-list", "--inactive"],
        &["nodedev-list", "--all"],
        &["nodedev-list", "--tree", "--all"],
        &["nodedev-list", "--tree", "--cap", "net"],
        &["nodedev-list", "--inactive", "--all"],
        &["nodedev-dumpxml", "computer"],
        &["nodedev-dumpxml", "--device", lo],
        &["nodedev-dumpxml", lo, "--inactive"],
        &["nodedev-dumpxml", "nobody"],
        &["nodedev-info", lo],
        &["nodedev-info", "computer"],
        &["nodedev-event", "--list"],
    ] {
        let (theirs, ours) = (virsh.run(arguments), lab.run(arguments));
        assert_eq!(ours.stdout, theirs.stdout, "{arguments:?}");
        assert_eq!(ours.stderr.trim_end(), theirs.stderr.trim_end(), "{arguments:?}");
        assert_eq!(ours.code, theirs.code, "{arguments:?}");
    }
    for refused in ["nodedev-detach", "nodedev-reattach", "nodedev-reset", "nodedev-destroy"] {
        virsh.fails(&[refused, lo], "this function is not supported by the connection driver");
    }
    lab.finish();
}

/// What Nova asks at its start and in its inventory, with its flags.
#[test]
fn novas_calls_are_answered() {
    const PCI: u32 = 1 << 1;
    const NET: u32 = 1 << 4;
    const VDPA: u32 = 1 << 17;
    let lab = lab();
    let bus = lab.bus();
    for root in [QEMU, LXC] {
        let devices: Vec<OwnedObjectPath> = bus.call(root, CONNECT, "ListNodeDevices", &(PCI | NET | VDPA,));
        assert!(devices.iter().any(|path| path.contains("net_5flo_5f")), "{devices:?}");
        for path in &devices {
            let caps: Vec<String> = bus.call(path, NODE_DEVICE, "ListCaps", &());
            assert!(caps.iter().any(|cap| ["pci", "net", "vdpa"].contains(&cap.as_str())), "{path}: {caps:?}");
            let xml: String = bus.call(path, NODE_DEVICE, "GetXMLDesc", &(0u32,));
            assert!(xml.starts_with("<device>\n  <name>"), "{xml}");
            let parent = bus.property(path, NODE_DEVICE, "Parent");
            let parent: String = parent.try_into().unwrap();
            let above: OwnedObjectPath = bus.call(root, CONNECT, "NodeDeviceLookupByName", &(&parent,));
            let top: String = bus.property(&above, NODE_DEVICE, "Name").try_into().unwrap();
            assert_eq!(top, parent);
        }
        let mdevs: Vec<OwnedObjectPath> = bus.call(root, CONNECT, "ListNodeDevices", &(1u32 << 14,));
        assert!(mdevs.iter().all(|path| path.contains("mdev")));
    }
    let refused = bus.refused(QEMU, CONNECT, "NodeDeviceLookupByName", &("nobody",));
    assert_eq!(refused.message, "Node device not found: no node device with matching name 'nobody'");
    let refused = bus.refused(QEMU, CONNECT, "ListNodeDevices", &(1u32 << 27,));
    assert_eq!(refused.message, "unsupported flags (0x8000000) in function nodeConnectListAllNodeDevices");
    let () = {
        let gone = format!("{QEMU}/nodedev/nobody");
        let refused = bus.refused(&gone, NODE_DEVICE, "GetXMLDesc", &(0u32,));
        assert!(refused.message.contains("no node device with matching name 'nobody'"), "{}", refused.message);
    };
    drop(bus);
    lab.finish();
}

#[test]
fn the_test_driver_has_its_own() {
    let lab = Lab::mock();
    let bus = lab.bus();
    let devices: Vec<OwnedObjectPath> = bus.call(TEST, CONNECT, "ListNodeDevices", &(0u32,));
    assert_eq!(
        devices.iter().map(|path| path.as_str()).collect::<Vec<_>>(),
        ["computer", "scsi_5fhost1", "scsi_5fhost11", "scsi_5fhost2"].map(|key| format!("{TEST}/nodedev/{key}"))
    );
    let xml: String = bus.call(&devices[0], NODE_DEVICE, "GetXMLDesc", &(0u32,));
    assert!(xml.contains("<version>Test driver</version>"), "{xml}");
    assert!(bus.introspect(&format!("{TEST}/nodedev")).contains("<node name=\"computer\"/>"));
    drop(bus);
    lab.finish();
}

/// The network namespace's own devices in /sys, with the cgroups that were there.
fn own_sysfs(lab: &Lab) {
    use nix::mount::{MsFlags, mount};
    let none = None::<&str>;
    let aside = lab.work().join("cgroup");
    std::fs::create_dir(&aside).unwrap();
    mount(Some("/sys/fs/cgroup"), &aside, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).unwrap();
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).unwrap();
    mount(Some(&aside), "/sys/fs/cgroup", none, MsFlags::MS_MOVE, none).unwrap();
}

#[test]
fn devices_that_come_and_go_are_told() {
    let Some(mut lab) = Lab::qemu_unstarted() else { return };
    own_sysfs(&lab);
    lab.start();
    let bus = lab.bus();
    let mut signals = bus.listen();
    // The daemon takes its first look when it likes: a device that comes before that is nothing new.
    let (root, path, event) = eventually("a device comes", DEADLINE, || {
        ip("link add coming0 type bridge");
        let told = signals.next(std::time::Duration::from_secs(5));
        let Some((root, member, message)) = told.filter(|(_, member, _)| member == "NodeDeviceEvent") else {
            ip("link del coming0");
            return None;
        };
        assert_eq!(member, "NodeDeviceEvent");
        let (path, event, _): (OwnedObjectPath, i32, i32) = message.body().deserialize().unwrap();
        Some((root, path, event))
    });
    assert!(path.contains("/nodedev/net_5fcoming0_5f"), "{path}");
    assert!(path.starts_with(&root) && event == 0, "created: {path} {event}");
    let parent: String = bus.property(&path, NODE_DEVICE, "Parent").try_into().unwrap();
    assert_eq!(parent, "computer");
    ip("link del coming0");
    let gone = eventually("it goes", DEADLINE, || {
        let (_, member, message) = signals.next(DEADLINE)?;
        let body = message.body();
        let (gone, event, _): (OwnedObjectPath, i32, i32) = body.deserialize().ok()?;
        (member == "NodeDeviceEvent" && event == 1).then_some(gone)
    });
    assert_eq!(gone.rsplit('/').next(), path.rsplit('/').next());
    drop(signals);
    drop(bus);
    lab.finish();
}
