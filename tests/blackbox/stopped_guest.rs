//! A QEMU that does not run (SIGSTOP) must not slow down anybody who only reads, and can be got rid of.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::bus::{CONNECT, QEMU};
use crate::harness::{Guest, Lab};

#[test]
fn reads_answer_while_a_guest_is_stopped() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guests = [Guest::blank(&mut lab, 1), Guest::blank(&mut lab, 2)];
    for guest in &guests {
        lab.define(&guest.xml);
        lab.ok(&["start", &guest.name]);
    }
    let [stopped, other] = &guests;
    let reads: Vec<Vec<&str>> = vec![
        vec!["list", "--all"],
        vec!["dominfo", &stopped.name],
        vec!["dominfo", &other.name],
        vec!["dumpxml", &stopped.name],
        vec!["dumpxml", "--inactive", &stopped.name],
        vec!["dumpxml", &other.name],
        vec!["domstate", &stopped.name],
        vec!["domstats"],
        vec!["domstats", &other.name],
    ];
    for read in &reads {
        lab.ok(read);
    }
    let pid = Pid::from_raw(stopped.pid());
    kill(pid, Signal::SIGSTOP).unwrap();
    // Nothing that waits for the stopped QEMU could answer at all; the bound only tells waiting from answering.
    for read in &reads {
        let start = Instant::now();
        lab.ok(read);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5), "domus {read:?} took {took:?} with a stopped guest");
    }
    // Many readers at once, and domstats of all: the deadline for the stopped one is not paid by the others.
    let bus = lab.bus();
    let start = Instant::now();
    for _ in 0..5 {
        let _: Vec<(String, std::collections::HashMap<String, zbus::OwnedVariant>)> =
            bus.call(QEMU, CONNECT, "GetAllDomainStats", &(0u32, 0u32));
    }
    assert!(start.elapsed() < Duration::from_secs(10), "5 x all statistics took {:?}", start.elapsed());
    drop(bus);

    // The other one still obeys.
    lab.ok(&["suspend", &other.name]);
    lab.ok(&["resume", &other.name]);
    // A call that needs the stopped one fails by itself, and does not stand in the way of its end.
    let mut waiting = lab.cli(&["suspend", &stopped.name]).stderr(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    lab.ok(&["destroy", &stopped.name]);
    assert_eq!(lab.state(&stopped.name), "shut off");
    waiting.wait().unwrap();
    assert_eq!(lab.state(&other.name), "running");
    lab.finish();
}

#[test]
fn a_daemon_starts_with_a_stopped_guest() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    let pid = Pid::from_raw(guest.pid());
    kill(pid, Signal::SIGSTOP).unwrap();
    lab.crash();
    lab.start();
    assert_eq!(lab.names(), [guest.name.as_str()]);
    assert_eq!(guest.try_pid(), Some(pid.as_raw()), "a guest that only does not answer is not killed");
    lab.ok(&["destroy", &guest.name]);
    lab.finish();
}
