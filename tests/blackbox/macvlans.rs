//! Containers with a macvlan on a device of the host: packets in every mode, plugged while they run, in networks of
//! devices, and again and again.

use std::process::Command;

use crate::harness::container::Container;
use crate::harness::lab::ip;
use crate::harness::{Lab, program, skip, test_name};
use crate::network_traffic::{FAR, lab, pings, reaches, tear_down};

/// Whether macvlans can be made here.
fn has_macvlan() -> bool {
    let probe = "link add link uplink name mvprobe type macvlan mode bridge";
    let made = Command::new(program("ip").unwrap()).args(probe.split(' ')).status().unwrap().success();
    match made {
        true => drop(ip("link del mvprobe")),
        false => skip(&test_name(), "this kernel has no macvlan"),
    }
    made
}

/// An interface with an address of its own beside the uplink's.
fn interface(number: u8, kind: &str, source: &str) -> String {
    format!(
        "<interface type='{kind}'><mac address='52:54:00:0d:05:{number:02x}'/><source {source}/>\
         <ip address='203.0.113.{}' family='ipv4' prefix='24'/></interface>",
        100 + number
    )
}

fn address(number: u8) -> String {
    format!("203.0.113.{}", 100 + number)
}

/// A container that does nothing, with this interface.
fn member(lab: &Lab, number: u8, interface: &str) -> Container {
    let mut guest = Container::new(lab, number, "while true; do sleep 1000; done");
    guest.xml = guest.with_device(interface);
    lab.define(&guest.xml);
    guest
}

fn links_inside(lab: &Lab, guest: &Container) -> String {
    lab.ok(&["exec", &guest.name, "--", "/bin/busybox", "ip", "-o", "link"])
}

#[test]
fn a_container_has_a_macvlan_on_a_device_of_the_host() {
    let Some((mut lab, _far)) = lab(&[], "") else { return };
    if !has_macvlan() {
        return tear_down(lab, &[]);
    }
    lab.start();
    for (mode, see_each_other) in [("bridge", true), ("private", false)] {
        let source = format!("dev='uplink' mode='{mode}'");
        let (one, two) =
            (member(&lab, 1, &interface(1, "direct", &source)), member(&lab, 2, &interface(2, "direct", &source)));
        // Twice: the second must not trip over what is left of the first.
        for _ in 0..2 {
            for guest in [&one, &two] {
                lab.ok(&["start", &guest.name]);
                reaches(&lab, guest, FAR);
            }
            match see_each_other {
                true => reaches(&lab, &one, &address(2)),
                false => assert!(!pings(&lab, &one, &address(2)), "mode {mode}"),
            }
            for guest in [&one, &two] {
                lab.ok(&["destroy", &guest.name]);
            }
        }
        for guest in [&one, &two] {
            lab.ok(&["undefine", &guest.name]);
        }
    }

    // Plugged and taken out while it runs, and there again after a crash of the daemon.
    let guest = member(&lab, 3, &interface(3, "direct", "dev='uplink' mode='vepa'"));
    lab.ok(&["start", &guest.name]);
    let more = lab.write("more.xml", &interface(4, "direct", "dev='uplink' mode='bridge'"));
    lab.fails_with(
        &["attach-device", &guest.name, &lab.write("no.xml", &interface(5, "direct", "dev='nodev'"))],
        &["cannot find device 'nodev' of the host"],
    );
    lab.ok(&["attach-device", &guest.name, &more]);
    assert!(links_inside(&lab, &guest).contains(": eth1"), "{}", links_inside(&lab, &guest));
    lab.crash();
    lab.start();
    lab.ok(&["detach-device", &guest.name, &more]);
    assert!(!links_inside(&lab, &guest).contains(": eth1"), "{}", links_inside(&lab, &guest));
    reaches(&lab, &guest, FAR);
    lab.ok(&["destroy", &guest.name]);
    tear_down(lab, &[]);
}

#[test]
fn a_network_of_devices_has_containers() {
    const ALONE: &str = "<network><name>alone</name><uuid>aaaaaaaa-0000-4000-8000-00000000000b</uuid>\
        <forward mode='passthrough'><interface dev='uplink'/></forward></network>";
    let Some((mut lab, _far)) = lab(&[ALONE], "") else { return };
    if !has_macvlan() {
        return tear_down(lab, &[]);
    }
    lab.start();
    // The device is the container's, with its address.
    ip("addr flush dev uplink");
    let [one, two] = [1, 2].map(|number| member(&lab, number, &interface(number, "network", "network='alone'")));
    for _ in 0..2 {
        lab.ok(&["start", &one.name]);
        reaches(&lab, &one, FAR);
        let exclusive = "requires exclusive access to interfaces, but none are available";
        lab.fails_with(&["start", &two.name], &[exclusive]);
        assert!(lab.ok(&["net-dumpxml", "alone"]).contains("<interface dev='uplink' connections='1'/>"));
        assert!(lab.ok(&["dumpxml", &one.name]).contains("dev='uplink' mode='passthrough'"));
        lab.ok(&["destroy", &one.name]);
    }
    lab.ok(&["start", &two.name]);
    reaches(&lab, &two, FAR);
    lab.ok(&["destroy", &two.name]);
    tear_down(lab, &[ALONE]);
}
