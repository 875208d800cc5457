//! Interfaces of the host over D-Bus: those of the test driver, and what a real host says instead.

use crate::harness::bus::{CONNECT, LXC, TEST};
use crate::harness::{Lab, Virsh};
use zbus::OwnedObjectPath;

const INTERFACE: &str = "org.libvirt.Interface";
const XML: &str = "<interface type='ethernet' name='test-iface'><start mode='onboot'/>\
                   <mac address='11:22:33:44:55:66'/></interface>";

#[test]
fn one_lives_on_the_test_driver() {
    let lab = Lab::mock();
    let bus = lab.bus();
    let path: OwnedObjectPath = bus.call(TEST, CONNECT, "InterfaceDefineXML", &(XML, 0u32));
    assert_eq!(path.as_str(), format!("{TEST}/interface/11_3a22_3a33_3a44_3a55_3a66"));
    for (member, key) in [("InterfaceLookupByName", "test-iface"), ("InterfaceLookupByMAC", "11:22:33:44:55:66")] {
        let found: OwnedObjectPath = bus.call(TEST, CONNECT, member, &(key,));
        assert_eq!(found, path, "{member}");
    }
    let active = || bool::try_from(bus.property(&path, INTERFACE, "Active")).unwrap();
    assert!(!active());
    let _: () = bus.call(&path, INTERFACE, "Create", &(0u32,));
    assert!(active());
    assert_eq!(String::try_from(bus.property(&path, INTERFACE, "Name")).unwrap(), "test-iface");
    assert_eq!(String::try_from(bus.property(&path, INTERFACE, "MAC")).unwrap(), "11:22:33:44:55:66");
    let inactive: Vec<OwnedObjectPath> = bus.call(TEST, CONNECT, "ListInterfaces", &(1u32,));
    assert!(inactive.is_empty());
    assert!(bus.introspect(&format!("{TEST}/interface")).contains("<node name=\"11_3a22_3a33_3a44_3a55_3a66\"/>"));
    // One that has no address of its own goes by its name.
    let bridge = "<interface type='bridge' name='br_0'><bridge/></interface>";
    let bridge: OwnedObjectPath = bus.call(TEST, CONNECT, "InterfaceDefineXML", &(bridge, 0u32));
    assert_eq!(bridge.as_str(), format!("{TEST}/interface/br_5f0"));
    assert_eq!(String::try_from(bus.property(&bridge, INTERFACE, "Name")).unwrap(), "br_0");
    let _: () = bus.call(&bridge, INTERFACE, "Undefine", &());
    let refused = bus.refused(&bridge, INTERFACE, "Undefine", &());
    assert_eq!(refused.message, "Interface not found: no interface with matching name 'br_0'");
    let flags = bus.refused(TEST, CONNECT, "ListInterfaces", &(4u32,));
    assert_eq!(flags.message, "unsupported flags (0x4) in function interfaceConnectListAllInterfaces");
    drop(bus);
    lab.finish();
}

#[test]
fn a_real_hosts_are_not_ours_to_change() {
    let Some(lab) = Lab::lxc() else { return };
    let bus = lab.bus();
    // What /sys shows here is the machine's; whatever it is, it can be listed.
    let found: Vec<OwnedObjectPath> = bus.call(LXC, CONNECT, "ListInterfaces", &(0u32,));
    for path in &found {
        assert!(path.as_str().starts_with(&format!("{LXC}/interface/")), "{path}");
    }
    let refused = bus.refused(LXC, CONNECT, "InterfaceDefineXML", &(XML, 0u32));
    assert_eq!(refused.message, "this function is not supported by the connection driver: virInterfaceDefineXML");
    drop(bus);
    if let Some(virsh) = Virsh::on(&lab, "lxc:///system", "libvirt-sock") {
        virsh.fails(&["iface-dumpxml", "lo"], "Interface not found: no interface with matching name 'lo'");
    }
    lab.finish();
}
