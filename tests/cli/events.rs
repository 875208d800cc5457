//! `event`: what is printed, which events are taken, when it ends.

use super::fake::{Fake, uuid};

#[test]
fn all_events_in_order_and_named_as_well_as_can_be() {
    let fake = Fake::new();
    let out = fake.run(&["event", "--all", "--loop", "--timeout", "2"]);
    let expected = format!(
        "event 'lifecycle' for domain 'vm': Started Booted
event 'lifecycle' for domain 'same': Stopped Destroyed
event 'lifecycle' for domain '{}': Undefined Removed
event 'reboot' for domain 'vm'
event 'balloon-change' for domain 'vm': 4096KiB
event 'watchdog' for domain 'vm': pause
event loop timed out
events received: 6

",
        uuid(9)
    );
    assert_eq!((out.code, out.stdout, out.stderr.as_str()), (Some(0), expected, ""));
}

#[test]
fn one_event_of_one_kind_is_enough() {
    let fake = Fake::new();
    let out = fake.run(&["event", "--event", "balloon-change"]);
    assert_eq!(out.stdout, "event 'balloon-change' for domain 'vm': 4096KiB\nevents received: 1\n\n");
    assert_eq!(out.code, Some(0));
}

#[test]
fn a_driver_can_be_chosen() {
    let fake = Fake::new();
    // Asking QEMU for its domains is what makes the server emit, so LXC's only event is not seen alone.
    let out = fake.run(&["event", "--event", "lifecycle", "--loop", "--timeout", "1", "-c", "qemu"]);
    assert!(!out.stdout.contains("'same'"), "{}", out.stdout);
    assert!(out.stdout.contains("events received: 2"), "{}", out.stdout);
}

#[test]
fn nothing_in_time_is_a_failure_as_in_virsh() {
    let fake = Fake::new();
    let out = fake.run(&["event", "--event", "tunable", "--timeout", "0.2"]);
    assert_eq!(
        (out.code, out.stdout.as_str(), out.stderr.as_str()),
        (Some(1), "event loop timed out\nevents received: 0\n\n", "")
    );
}

#[test]
fn json_is_one_object_a_line() {
    let fake = Fake::new();
    let out = fake.run(&["--json", "event", "--event", "watchdog", "--timestamp"]);
    let value: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(value["event"], "watchdog");
    assert_eq!(value["domain"], "vm");
    assert_eq!(value["driver"], "QEMU");
    assert_eq!(value["data"]["action"], "pause");
    assert!(value["time"].as_str().unwrap().ends_with("+0000"));
}

#[test]
fn words_are_checked() {
    let fake = Fake::new();
    assert_eq!(fake.run(&["event"]).stderr, "error: one of --list, --all, or --event <type> is required\n");
    let out = fake.run(&["event", "--event", "lifecyle"]);
    assert_eq!(out.stderr, "error: unknown event type lifecyle; did you mean lifecycle?\n");
}
