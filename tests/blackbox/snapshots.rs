//! Snapshots and saved states on the test driver: paths, events, what outlives the daemon.

use crate::harness::bus::{DOMAIN, LXC, TEST};
use crate::harness::{DEADLINE, Lab};
use crate::mock_life::xml;
use zbus::OwnedObjectPath;

const SNAPSHOT: &str = "org.libvirt.DomainSnapshot";

fn snapshot(name: &str) -> String {
    format!("<domainsnapshot><name>{name}</name></domainsnapshot>")
}

#[test]
fn there_and_back_with_its_events() {
    let lab = Lab::mock();
    let bus = lab.bus();
    let domain = bus.define(TEST, &xml("one"));
    let _: () = bus.call(&domain, DOMAIN, "Create", &(0u32,));
    let a: OwnedObjectPath = bus.call(&domain, DOMAIN, "SnapshotCreateXML", &(snapshot("a b_c"), 0u32));
    assert!(a.as_str().ends_with("_a_20b_5fc"), "{a}");
    assert_eq!(a.as_str().replace("/domainsnapshot/", "/domain/").trim_end_matches("_a_20b_5fc"), domain);
    let _: () = bus.call(&domain, DOMAIN, "Suspend", &());
    let b: OwnedObjectPath = bus.call(&domain, DOMAIN, "SnapshotCreateXML", &(snapshot("b"), 0u32));
    let parent: OwnedObjectPath = bus.call(&b, SNAPSHOT, "GetParent", &(0u32,));
    assert_eq!(parent, a);
    let children: Vec<OwnedObjectPath> = bus.call(&a, SNAPSHOT, "ListChildren", &(0u32,));
    assert_eq!(children, std::slice::from_ref(&b));
    assert!(bus.call::<_, bool>(&b, SNAPSHOT, "IsCurrent", &(0u32,)));
    let listed = bus.introspect(&format!("{TEST}/domainsnapshot"));
    assert_eq!(listed.matches("<node name=").count(), 2, "{listed}");

    let mut signals = bus.listen();
    let revert = |path: &OwnedObjectPath, flags: u32| bus.call::<_, ()>(path, SNAPSHOT, "Revert", &(flags,));
    // Running, paused, off; the reasons are "from snapshot" as well.
    revert(&a, 0);
    assert_eq!(bus.state(&domain), (1, 4));
    revert(&b, 0);
    assert_eq!(bus.state(&domain), (3, 7));
    let _: () = bus.call(&domain, DOMAIN, "Destroy", &(0u32,));
    revert(&a, 2);
    assert_eq!(bus.state(&domain), (3, 7));
    let wanted = [(5, 6), (2, 3), (5, 6), (2, 3), (3, 5), (5, 1), (2, 3), (3, 5)];
    assert_eq!(signals.domain_events(wanted.len(), DEADLINE), wanted);
    drop(signals);

    let _: () = bus.call(&domain, DOMAIN, "Destroy", &(0u32,));
    let off: OwnedObjectPath = bus.call(&domain, DOMAIN, "SnapshotCreateXML", &(snapshot("off"), 0u32));
    let _: () = bus.call(&domain, DOMAIN, "Create", &(0u32,));
    revert(&off, 0);
    assert_eq!(bus.state(&domain), (5, 7));
    let refused = bus.refused(&domain, DOMAIN, "Undefine", &(0u32,));
    assert_eq!(refused.message, "Requested operation is not valid: cannot delete inactive domain with 3 snapshots");
    let _: () = bus.call(&domain, DOMAIN, "Undefine", &(2u32,));
    let gone = bus.refused(&a, SNAPSHOT, "GetXMLDesc", &(0u32,));
    assert!(gone.message.starts_with("Domain not found"), "{}", gone.message);
    drop(bus);
    lab.finish();
}

#[test]
fn a_revert_brings_the_definition_back() {
    let lab = Lab::mock();
    let bus = lab.bus();
    let domain = bus.define(TEST, &xml("one"));
    let before: OwnedObjectPath = bus.call(&domain, DOMAIN, "SnapshotCreateXML", &(snapshot("before"), 0u32));
    bus.define(TEST, &xml("one").replace("8192", "16384"));
    let shown = || bus.call::<_, String>(&domain, DOMAIN, "GetXMLDesc", &(0u32,));
    assert!(shown().contains(">16384<"));
    let _: () = bus.call(&before, SNAPSHOT, "Revert", &(0u32,));
    assert!(shown().contains(">8192<"));
    let _: () = bus.call(&domain, DOMAIN, "Undefine", &(2u32,));
    drop(bus);
    lab.finish();
}

#[test]
fn they_outlive_the_daemon() {
    let mut lab = Lab::mock();
    let bus = lab.bus();
    let (domain, other) = (bus.define(TEST, &xml("one")), bus.define(TEST, &xml("other")));
    for path in [&domain, &other] {
        let _: () = bus.call(path, DOMAIN, "Create", &(0u32,));
    }
    for name in ["a", "b", "c"] {
        let _: OwnedObjectPath = bus.call(&domain, DOMAIN, "SnapshotCreateXML", &(snapshot(name), 0u32));
    }
    let b: OwnedObjectPath = bus.call(&domain, DOMAIN, "SnapshotLookupByName", &("b", 0u32));
    let _: () = bus.call(&b, SNAPSHOT, "Delete", &(0u32,));
    let _: () = bus.call(&other, DOMAIN, "ManagedSave", &(4u32,));
    drop(bus);
    lab.crash();
    lab.start();
    let bus = lab.bus();
    let c: OwnedObjectPath = bus.call(&domain, DOMAIN, "SnapshotCurrent", &(0u32,));
    assert!(c.as_str().ends_with("_c"));
    let parent: OwnedObjectPath = bus.call(&c, SNAPSHOT, "GetParent", &(0u32,));
    assert!(parent.as_str().ends_with("_a"));
    assert_eq!(bus.state(&domain), (1, 1));
    // Saved as paused: the next start goes on there.
    assert!(bus.call::<_, bool>(&other, DOMAIN, "HasManagedSaveImage", &(0u32,)));
    let mut signals = bus.listen();
    let _: () = bus.call(&other, DOMAIN, "Create", &(0u32,));
    assert_eq!(bus.state(&other), (3, 1));
    assert_eq!(signals.domain_events(2, DEADLINE), [(2, 2), (3, 4)]);
    assert!(!bus.call::<_, bool>(&other, DOMAIN, "HasManagedSaveImage", &(0u32,)));
    drop(signals);

    // Nothing of a domain that is gone is inherited by a later one with its UUID.
    let _: () = bus.call(&domain, DOMAIN, "Undefine", &(0u32,));
    let _: () = bus.call(&domain, DOMAIN, "Destroy", &(0u32,));
    let uuid = domain.rsplit_once("/_").unwrap().1.replace('_', "-");
    let again = xml("one").replace("<memory", &format!("<uuid>{uuid}</uuid><memory"));
    assert_eq!(bus.define(TEST, &again), domain);
    let none: Vec<OwnedObjectPath> = bus.call(&domain, DOMAIN, "ListDomainSnapshots", &(0u32,));
    assert!(none.is_empty());
    drop(bus);
    lab.finish();
}

#[test]
fn a_driver_that_cannot_says_so() {
    let Some(lab) = Lab::lxc() else { return };
    let bus = lab.bus();
    let xml = "<domain type='lxc'><name>one</name><memory unit='KiB'>8192</memory><os><type>exe</type>\
               <init>/bin/true</init></os></domain>";
    let domain = bus.define(LXC, xml);
    let none: Vec<OwnedObjectPath> = bus.call(&domain, DOMAIN, "ListDomainSnapshots", &(0u32,));
    assert!(none.is_empty());
    let refused = bus.refused(&domain, DOMAIN, "SnapshotCreateXML", &(snapshot("a"), 0u32));
    assert_eq!(refused.message, "this function is not supported by the connection driver: virDomainSnapshotCreateXML");
    drop(bus);
    lab.ok(&["undefine", "one"]);
    lab.finish();
}

#[test]
fn a_snapshot_that_cannot_be_stored_is_none() {
    let mut lab = Lab::bare(&["--mock"]);
    lab.start_with(&[("DOMUS_FAULT", "snapshot.store:fail")]);
    lab.wait_ready();
    let bus = lab.bus();
    let domain = bus.define(TEST, &xml("one"));
    let refused = bus.refused(&domain, DOMAIN, "SnapshotCreateXML", &(snapshot("a"), 0u32));
    assert!(refused.message.contains("snapshot.store"), "{}", refused.message);
    let none: Vec<OwnedObjectPath> = bus.call(&domain, DOMAIN, "ListDomainSnapshots", &(0u32,));
    assert!(none.is_empty());
    drop(bus);
    lab.finish();
}

/// Killed after the state was noted and before the guest ended, or after it went on and before that was noted: the guest
/// runs, and nothing of an older moment waits for its next start.
#[test]
fn a_daemon_killed_while_saving_leaves_a_guest_or_its_state() {
    for (point, member, runs) in
        [("save.noted", "ManagedSave", true), ("stop.killed", "ManagedSave", false), ("start.status", "Create", true)]
    {
        let mut lab = Lab::mock();
        let bus = lab.bus();
        let domain = bus.define(TEST, &xml("one"));
        let _: () = bus.call(&domain, DOMAIN, "Create", &(0u32,));
        if member == "Create" {
            let _: () = bus.call(&domain, DOMAIN, "ManagedSave", &(0u32,));
        }
        drop(bus);
        lab.stop();
        lab.start_with(&[("DOMUS_FAULT", &format!("{point}:kill"))]);
        lab.wait_ready();
        let bus = lab.bus();
        let lost = bus.refused(&domain, DOMAIN, member, &(0u32,));
        assert_eq!(lost.name, "connection lost", "{point}: {}", lost.message);
        drop(bus);
        lab.wait_end();
        lab.start();
        let bus = lab.bus();
        let saved: bool = bus.call(&domain, DOMAIN, "HasManagedSaveImage", &(0u32,));
        let state = bus.state(&domain);
        assert_eq!((state.0 == 1, saved), (runs, !runs), "{point}: {state:?}");
        if !runs {
            assert_eq!(state, (5, 5), "{point}");
            let _: () = bus.call(&domain, DOMAIN, "Create", &(0u32,));
            assert_eq!(bus.state(&domain), (1, 3), "{point}");
        }
        drop(bus);
        lab.finish();
    }
}
