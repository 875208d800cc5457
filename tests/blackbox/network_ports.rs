//! Ports of networks that clients make: libvirt's words, devices that run out, what the next daemon still knows, and
//! that a network's end takes them along. Then: a daemon killed at each step of a network's change.

use std::collections::BTreeSet;

use crate::harness::bus::{CONNECT, TEST};
use crate::harness::{Lab, Virsh, program, skip, test_name};
use zbus::OwnedObjectPath;

const NETWORK1: &str = "org.domus.Network1";

/// A port's document; `body` is what follows its MAC address.
fn port(number: u32, body: &str) -> String {
    format!(
        "<networkport>\n  <uuid>{}</uuid>\n  <owner>\n    <name>guest</name>\n    \
         <uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid>\n  </owner>\n  <mac address='52:54:00:7b:35:{number:02x}'/>\n\
         {body}</networkport>\n",
        uuid(number)
    )
}

fn uuid(number: u32) -> String {
    format!("aaaaaaaa-1111-4000-8000-0000000000{number:02x}")
}

fn network(lab: &Lab, name: &str, body: &str) -> String {
    lab.write(&format!("{name}.xml"), &format!("<network><name>{name}</name>{body}</network>"))
}

/// A network of links that need not be there: nothing is made for it.
fn pool(lab: &Lab, name: &str, mode: &str) {
    let body = format!("<forward mode='{mode}'><interface dev='ea'/><interface dev='eb'/></forward>");
    lab.ok(&["net-define", &network(lab, name, &body)]);
    lab.ok(&["net-start", name]);
}

/// What libvirt 11.3's network driver says to the same documents.
#[test]
fn ports_are_made_and_refused_as_libvirt_does() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let plain = "<bridge name='tbr1' stp='off' delay='0'/><ip address='10.44.1.1' netmask='255.255.255.0'/><portgroup \
                 name='g'><bandwidth><inbound average='100'/></bandwidth></portgroup>";
    lab.ok(&["net-define", &network(&lab, "n", plain)]);
    let make = |number: u32, body: &str| lab.write("port.xml", &port(number, body));
    virsh.fails(&["net-port-create", "n", &make(1, "")], "Requested operation is not valid: network 'n' is not active");
    lab.ok(&["net-start", "n"]);
    let file = make(1, "");
    let said = virsh.ok(&["net-port-create", "n", &file]);
    assert!(said.contains(&format!("Network port {} created from {file}", uuid(1))), "{said}");
    let dumped = virsh.ok(&["net-port-dumpxml", "n", &uuid(1)]);
    assert_eq!(dumped.trim_end(), port(1, "  <plug type='network' bridge='tbr1'/>\n").trim_end());
    for (text, words) in [
        (
            port(1, ""),
            &format!("network port Network port with UUID {} already exists exists already", uuid(1)) as &str,
        ),
        (
            port(1, "<plug type='bridge' bridge='b'/>"),
            "invalid argument: Port reclaim not requested but plug type is not none",
        ),
        (
            port(2, "<virtualport type='openvswitch'/>"),
            "unsupported configuration: <virtualport type='openvswitch'> not supported for network 'n' which uses IP \
             forwarding",
        ),
        (
            port(2, "<bandwidth><inbound average='7' floor='3'/></bandwidth>"),
            "Operation not supported: Invalid use of 'floor' on interface with MAC address 52:54:00:7b:35:02 - network \
             'n' has no inbound QoS set",
        ),
        (port(2, "").replace(&uuid(2), ""), "internal error: network port has no uuid"),
    ] {
        virsh.fails(&["net-port-create", "n", &lab.write("bad.xml", &text)], words);
    }
    let strange = lab.write("strange.xml", &port(2, "<foo/>"));
    virsh.fails(&["net-port-create", "n", &strange, "--validate"], "XML document failed to validate against schema");
    // A port group that is not there gives nothing, one that is gives its limits.
    virsh.ok(&[
        "net-port-create",
        "n",
        &lab.write("p.xml", &port(3, "").replace("  <mac", "  <group>zz</group>\n  <mac")),
    ]);
    lab.ok(&[
        "net-port-create",
        "n",
        &lab.write("p.xml", &port(4, "").replace("  <mac", "  <group>g</group>\n  <mac")),
    ]);
    assert!(!lab.ok(&["net-port-dumpxml", "n", &uuid(3)]).contains("<bandwidth>"));
    assert!(lab.ok(&["net-port-dumpxml", "n", &uuid(4)]).contains("<inbound average='100'/>"));
    let listed = virsh.ok(&["net-port-list", "n", "--uuid"]);
    assert_eq!(listed.split_whitespace().collect::<BTreeSet<_>>().len(), 3, "{listed}");
    assert!(virsh.ok(&["net-dumpxml", "n"]).contains("<network connections='3'>"));
    let reader = Virsh::on(&lab, "test:///default", "libvirt-sock-ro").unwrap();
    reader.fails(&["net-port-create", "n", &make(5, "")], "read only access prevents virNetworkPortCreateXML");
    // virsh keeps the reason to itself and calls it a success.
    assert!(reader.run(&["net-port-delete", "n", &uuid(1)]).stderr.contains("Failed to delete network port"));
    assert!(virsh.ok(&["net-port-delete", "n", &uuid(1)]).contains(&format!("Network port {} deleted", uuid(1))));
    assert!(lab.ok(&["net-port-delete", "n", &uuid(3)]).contains(&format!("Network port {} deleted", uuid(3))));
    lab.fails_with(
        &["net-port-delete", "n", &uuid(1)],
        &[&format!("network port not found: Network port with UUID {} does not exist", uuid(1))],
    );
    lab.ok(&["net-destroy", "n"]);
    lab.ok(&["net-start", "n"]);
    assert_eq!(virsh.ok(&["net-port-list", "n", "--uuid"]).trim(), "", "its end takes the ports along");
    lab.finish();
}

#[test]
fn devices_of_a_network_are_given_out_to_ports() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let plug = |name: &str, number: u32| {
        lab.ok(&["net-port-create", name, &lab.write("p.xml", &port(number, ""))]);
        let text = virsh.ok(&["net-port-dumpxml", name, &uuid(number)]);
        text.lines().find(|line| line.contains("<plug")).unwrap_or_default().trim().to_string()
    };
    pool(&lab, "shared", "private");
    for (number, dev) in [(1, "ea"), (2, "eb"), (3, "ea")] {
        assert_eq!(plug("shared", number), format!("<plug type='direct' dev='{dev}' mode='private'/>"));
    }
    let dump = virsh.ok(&["net-dumpxml", "shared"]);
    assert!(
        dump.contains("<interface dev='ea' connections='2'/>\n    <interface dev='eb' connections='1'/>"),
        "{dump}"
    );
    pool(&lab, "alone", "passthrough");
    assert_eq!([plug("alone", 4), plug("alone", 5)].join(" ").matches("mode='passthrough'").count(), 2);
    let none = "network 'alone' requires exclusive access to interfaces, but none are available";
    virsh.fails(&["net-port-create", "alone", &lab.write("p.xml", &port(6, ""))], none);
    lab.ok(&["net-port-delete", "alone", &uuid(4)]);
    assert_eq!(plug("alone", 6), "<plug type='direct' dev='ea' mode='passthrough'/>");
    // PCI devices of the host: the test driver has any.
    let body = "<forward mode='hostdev' managed='yes'><address type='pci' domain='0' bus='3' slot='16' \
                function='2'/></forward>";
    lab.ok(&["net-define", &network(&lab, "pci", body)]);
    lab.ok(&["net-start", "pci"]);
    assert_eq!(plug("pci", 7), "<plug type='hostdev-pci' managed='yes'>");
    let none = "network 'pci' requires exclusive access to interfaces, but none are available";
    virsh.fails(&["net-port-create", "pci", &lab.write("p.xml", &port(8, ""))], none);
    assert!(lab.ok(&["net-dumpxml", "pci"]).contains("function='0x2' connections='1'/>"));
    lab.finish();
}

/// `virNetworkPortCreateXML` with `VIR_NETWORK_PORT_CREATE_RECLAIM`, and the bandwidth, which virsh has no words for.
#[test]
fn ports_are_reclaimed_and_limited() {
    let lab = Lab::mock();
    let bus = lab.bus();
    pool(&lab, "n", "passthrough");
    let path: OwnedObjectPath = bus.call(TEST, CONNECT, "NetworkLookupByName", &("n",));
    let create = |number: u32, body: &str| {
        let made = bus.try_call(&path, NETWORK1, "CreatePortXML", &(port(number, body), 1u32));
        made.map(drop).map_err(|refused| refused.message)
    };
    assert_eq!(create(1, "").unwrap_err(), "invalid argument: Port reclaim requested but plug type is none");
    let at = |dev: &str| format!("<plug type='direct' dev='{dev}' mode='passthrough'/>");
    assert!(create(1, &at("zz")).unwrap_err().contains("network 'n' doesn't have dev='zz' in use by domain"));
    create(1, &at("eb")).unwrap();
    let taken = create(2, &at("eb")).unwrap_err();
    assert!(taken.contains("network 'n' claims dev='eb' is already in use by a different port"), "{taken}");
    let get = || -> Vec<(String, u32)> {
        let all: std::collections::BTreeMap<String, zbus::OwnedVariant> =
            bus.call(&path, NETWORK1, "GetPortParameters", &(uuid(1), 0u32));
        all.into_iter().map(|(name, value)| (name, number(&value))).filter(|(_, value)| *value != 0).collect()
    };
    assert_eq!(get(), []);
    let set = |params: &[(&str, u32)]| {
        let params: std::collections::BTreeMap<&str, zbus::Variant<'_>> =
            params.iter().map(|(name, value)| (*name, zbus::Variant::from(*value))).collect();
        bus.try_call(&path, NETWORK1, "SetPortParameters", &(uuid(1), params, 0u32)).map(drop).map_err(|no| no.message)
    };
    set(&[("inbound.average", 2000), ("inbound.peak", 5000), ("outbound.average", 20)]).unwrap();
    let listed = |all: &[(&str, u32)]| all.iter().map(|(name, value)| (name.to_string(), *value)).collect::<Vec<_>>();
    assert_eq!(get(), listed(&[("inbound.average", 2000), ("inbound.peak", 5000), ("outbound.average", 20)]));
    set(&[("outbound.average", 7)]).unwrap();
    assert_eq!(get(), listed(&[("outbound.average", 7)]), "what is not said is no limit");
    assert!(set(&[("bogus", 1)]).unwrap_err().contains("parameter 'bogus' not supported"));
    assert!(set(&[("inbound.average", 5), ("inbound.floor", 1)]).unwrap_err().contains("Invalid use of 'floor'"));
    drop(bus);
    lab.finish();
}

/// libvirt-dbus puts parameters into variants twice.
fn number(value: &zbus::Variant<'_>) -> u32 {
    match value {
        zbus::Variant::Variant(inner) => number(inner),
        zbus::Variant::U32(number) => *number,
        other => panic!("{other:?} is no u32"),
    }
}

/// A daemon whose networks are the host's, in a namespace.
fn host() -> Option<Lab> {
    for (name, package) in [("nft", "nftables"), ("dnsmasq", "dnsmasq-base")] {
        if program(name).is_none() {
            skip(&test_name(), &format!("{name} is not installed ({package})"));
            return None;
        }
    }
    Lab::lxc()
}

/// Lets the daemon die at a point of a command.
fn dies(lab: &mut Lab, point: &str, words: &[&str]) {
    lab.stop();
    lab.start_with(&[("DOMUS_FAULT", &format!("{point}:kill"))]);
    lab.wait_ready();
    lab.fails(words);
    lab.wait_end();
    lab.start();
}

#[test]
fn ports_outlive_the_daemon_and_not_their_network() {
    let Some(mut lab) = host() else { return };
    pool(&lab, "n", "passthrough");
    let file = lab.write("p.xml", &port(1, ""));
    lab.ok(&["net-port-create", "n", &file]);
    let before = lab.ok(&["net-port-dumpxml", "n", &uuid(1)]);
    lab.crash();
    lab.start();
    assert_eq!(lab.ok(&["net-port-dumpxml", "n", &uuid(1)]), before);
    assert!(lab.ok(&["net-dumpxml", "n"]).contains("<interface dev='ea' connections='1'/>"));
    // Killed before it is noted there is no port, and its device is free; afterwards there is one.
    let file = lab.write("p.xml", &port(2, ""));
    dies(&mut lab, "network-port.reserved", &["net-port-create", "n", &file]);
    assert_eq!(lab.ok(&["net-port-list", "n", "--uuid"]).trim(), uuid(1));
    dies(&mut lab, "network-port.noted", &["net-port-create", "n", &file]);
    assert!(lab.ok(&["net-port-dumpxml", "n", &uuid(2)]).contains("dev='eb'"));
    dies(&mut lab, "network-port.reserved", &["net-port-delete", "n", &uuid(1)]);
    assert_eq!(lab.ok(&["net-port-dumpxml", "n", &uuid(1)]), before);
    dies(&mut lab, "network-port.noted", &["net-port-delete", "n", &uuid(1)]);
    assert_eq!(lab.ok(&["net-port-list", "n", "--uuid"]).trim(), uuid(2));
    lab.ok(&["net-destroy", "n"]);
    lab.restart();
    lab.ok(&["net-start", "n"]);
    assert_eq!(lab.ok(&["net-port-list", "n", "--uuid"]).trim(), "");
    lab.ok(&["net-destroy", "n"]);
    lab.ok(&["net-undefine", "n"]);
    // Devices of a host that has none such.
    for (forward, words) in [
        ("<forward mode='hostdev'><pf dev='nopf'/></forward>", "No usable Vf's present on SRIOV PF nopf"),
        ("<forward mode='bridge'><pf dev='lo'/></forward>", "No usable Vf's present on SRIOV PF lo"),
        (
            "<forward mode='hostdev'><address type='pci' domain='0xffff' bus='3' slot='0' function='1'/></forward>",
            "device '/sys/bus/pci/devices/ffff:03:00.1' in network 'v' is not an SR-IOV Virtual Function",
        ),
    ] {
        lab.ok(&["net-define", &network(&lab, "v", forward)]);
        lab.fails_with(&["net-start", "v"], &[words]);
        lab.ok(&["net-undefine", "v"]);
    }
    lab.finish();
}
