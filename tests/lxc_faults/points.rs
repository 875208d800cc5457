//! Every fault point that a container passes, as the source names them: a new one is tested without a word here.

use std::os::unix::process::ExitStatusExt;

use crate::container::{Container, Witness};
use crate::harness::{Lab, leaks, repository};

/// Points whose name begins with one of `operations`, each with the number of places that have it: those of one name
/// are passed one after the other. QEMU's own are not a container's.
fn points(operations: &[&str]) -> Vec<(String, usize)> {
    let mut found: Vec<(String, usize)> = Vec::new();
    for path in leaks::files_below(&repository().join("src")) {
        if path.starts_with(repository().join("src/qemu")) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for (at, mark) in text.match_indices("point(\"") {
            let name = text[at + mark.len()..].split('"').next().unwrap();
            let is_fault = ["fault::", "fault_"].iter().any(|before| text[..at].ends_with(before));
            if !is_fault || !operations.iter().any(|operation| name.starts_with(operation)) {
                continue;
            }
            match found.iter_mut().find(|(known, _)| known == name) {
                Some((_, count)) => *count += 1,
                None => found.push((name.to_string(), 1)),
            }
        }
    }
    assert!(!found.is_empty(), "no fault points of {operations:?}");
    found.sort();
    found
}

/// `NAME:kill:1`, `NAME:kill:2` ... for every place.
fn faults(operations: &[&str], action: &str) -> Vec<String> {
    let points = points(operations);
    points
        .iter()
        .flat_map(|(name, places)| (1..=*places).map(move |place| format!("{name}:{action}:{place}")))
        .collect()
}

fn restart_with(lab: &mut Lab, fault: &str) {
    lab.stop();
    lab.start_with(&[("DOMUS_FAULT", fault)]);
    lab.wait_ready();
}

/// Does `operation`, which kills the daemon at the fault, and starts it again without. Whether it came to the fault.
fn killed_at(lab: &mut Lab, fault: &str, operation: &[&str]) -> bool {
    restart_with(lab, fault);
    let out = lab.run(operation);
    // A place that another driver's operation passes, or a branch that was not taken.
    if out.success() && fault.rsplit(':').next() != Some("1") {
        lab.restart();
        return false;
    }
    assert!(!out.success(), "domus {operation:?} succeeded, so the daemon never came to {fault}");
    let status = lab.wait_end();
    assert_eq!(status.signal(), Some(9), "killed at {fault}? it ended with {status}; the client said: {}", out.stderr);
    lab.note_runs();
    lab.start();
    true
}

#[test]
fn daemon_killed_while_starting() {
    let Some(mut lab) = Lab::lxc() else { return };
    let witness = Witness::new(&mut lab);
    let container = Container::new(&mut lab, 2);
    lab.define(&container.xml);
    for fault in faults(&["start."], "kill") {
        if !killed_at(&mut lab, &fault, &["start", &container.name]) {
            lab.ok(&["destroy", &container.name]);
            continue;
        }
        witness.is_unharmed(&lab, &fault);
        match lab.state(&container.name).as_str() {
            // Undone completely.
            "shut off" => container.nothing_left(&lab, &fault),
            // Adopted: then it must be a whole container.
            "running" => {
                container.answers(&lab, &fault);
                lab.ok(&["destroy", &container.name]);
                container.nothing_left(&lab, &fault);
            }
            other => panic!("after a kill at {fault} the container is {other:?}"),
        }
        // It can be started as if nothing had been.
        container.start(&lab);
        lab.ok(&["destroy", &container.name]);
        container.nothing_left(&lab, &format!("second life after {fault}"));
    }
    witness.ends(lab);
}

#[test]
fn steps_that_fail_while_starting() {
    let Some(mut lab) = Lab::lxc() else { return };
    let witness = Witness::new(&mut lab);
    let container = Container::new(&mut lab, 2);
    lab.define(&container.xml);
    // The daemon's own, and those of the supervisor and of init, which the daemon hands its variable.
    for fault in faults(&["start.", "run.", "init."], "fail") {
        restart_with(&mut lab, &fault);
        let out = lab.run(&["start", &container.name]);
        if out.success() && !fault.ends_with(":1") {
            lab.ok(&["destroy", &container.name]);
            continue;
        }
        assert!(!out.success(), "the start never came to {fault}");
        assert_ne!(out.stderr.trim(), "", "{fault}");
        assert_eq!(lab.state(&container.name), "shut off", "after {fault}");
        container.nothing_left(&lab, &fault);
        witness.is_unharmed(&lab, &fault);
    }
    lab.restart();
    container.start(&lab);
    container.answers(&lab, "after all failures");
    witness.ends(lab);
}

/// A destroy that comes while the start is at a step: whatever that step makes goes too, however late it is made.
#[test]
fn destroyed_while_starting() {
    let Some(mut lab) = Lab::lxc() else { return };
    let witness = Witness::new(&mut lab);
    let container = Container::new(&mut lab, 2);
    lab.define(&container.xml);
    for fault in faults(&["start.", "run.", "init."], "wait") {
        restart_with(&mut lab, &fault);
        lab.destroyed_while_starting(&container.name);
        assert_eq!(lab.state(&container.name), "shut off", "after {fault}");
        container.nothing_left(&lab, &fault);
        witness.is_unharmed(&lab, &fault);
    }
    lab.restart();
    container.start(&lab);
    container.answers(&lab, "after all of them");
    witness.ends(lab);
}

#[test]
fn supervisor_or_init_killed_while_starting() {
    let Some(mut lab) = Lab::lxc() else { return };
    let witness = Witness::new(&mut lab);
    let container = Container::new(&mut lab, 2);
    lab.define(&container.xml);
    for fault in faults(&["run.", "init."], "kill") {
        restart_with(&mut lab, &fault);
        let out = lab.run(&["start", &container.name]);
        // After "go" the end of init's socket is what its exec looks like: it started, and ended at once.
        let late = ["run.go", "init.go"].iter().any(|point| fault.starts_with(point));
        assert!(!out.success() || late, "the start never came to {fault}");
        assert!(lab.is_alive(), "the daemon ended with its supervisor at {fault}");
        lab.wait_state(&container.name, "shut off");
        container.nothing_left(&lab, &fault);
        witness.is_unharmed(&lab, &fault);
    }
    lab.restart();
    container.start(&lab);
    container.answers(&lab, "after all kills");
    witness.ends(lab);
}

/// A reboot passes the supervisor's points a second time.
#[test]
fn supervisor_fails_or_is_killed_while_rebooting() {
    let Some(mut lab) = Lab::lxc() else { return };
    let witness = Witness::new(&mut lab);
    let container = Container::new(&mut lab, 2);
    lab.define(&container.xml);
    for (point, _) in points(&["run."]) {
        for action in ["kill", "fail"] {
            let fault = format!("{point}:{action}:2");
            restart_with(&mut lab, &fault);
            container.start(&lab);
            container.types(&lab, "reboot -f");
            lab.wait_state(&container.name, "shut off");
            let bus = lab.bus();
            let (state, reason) = bus.state(&bus.lookup("/org/libvirt/LXC", &container.name));
            // VIR_DOMAIN_SHUTOFF: crashed, or failed to start.
            assert_eq!((state, reason), (5, if action == "kill" { 3 } else { 6 }), "after {fault}");
            drop(bus);
            container.nothing_left(&lab, &fault);
            witness.is_unharmed(&lab, &fault);
        }
    }
    witness.ends(lab);
}

#[test]
fn daemon_killed_while_stopping() {
    let Some(mut lab) = Lab::lxc() else { return };
    let witness = Witness::new(&mut lab);
    let container = Container::new(&mut lab, 2);
    lab.define(&container.xml);
    for fault in faults(&["stop."], "kill") {
        container.start(&lab);
        if !killed_at(&mut lab, &fault, &["destroy", &container.name]) {
            continue;
        }
        witness.is_unharmed(&lab, &fault);
        match lab.state(&container.name).as_str() {
            "shut off" => {}
            // Killed before anything happened to it.
            "running" => drop(lab.ok(&["destroy", &container.name])),
            other => panic!("after a kill at {fault} the container is {other:?}"),
        }
        container.nothing_left(&lab, &fault);
    }
    witness.ends(lab);
}

#[test]
fn daemon_killed_while_defining_and_undefining() {
    let Some(mut lab) = Lab::lxc() else { return };
    let witness = Witness::new(&mut lab);
    let container = Container::new(&mut lab, 2);
    let file = lab.write("x.xml", &container.xml);
    let changed = lab.write("y.xml", &container.xml.replace("<memory unit='MiB'>64", "<memory unit='MiB'>128"));
    for (point, _) in points(&["define."]) {
        let fault = format!("{point}:kill:1");
        assert!(killed_at(&mut lab, &fault, &["define", &file]));
        witness.is_unharmed(&lab, &fault);
        // Either there or not there, never a half.
        if lab.names().contains(&container.name) {
            lab.ok(&["dumpxml", &container.name]);
            lab.ok(&["undefine", &container.name]);
        }
        lab.define(&container.xml);
        let old = lab.ok(&["dumpxml", "--inactive", &container.name]);
        assert!(killed_at(&mut lab, &fault, &["define", &changed]));
        let now = lab.ok(&["dumpxml", "--inactive", &container.name]);
        assert!(now == old || now == old.replace("65536", "131072"), "after {fault}:\n{now}");
        witness.is_unharmed(&lab, &fault);
        lab.ok(&["undefine", &container.name]);
    }
    for (point, _) in points(&["undefine."]) {
        lab.define(&container.xml);
        let fault = format!("{point}:kill:1");
        assert!(killed_at(&mut lab, &fault, &["undefine", &container.name]));
        witness.is_unharmed(&lab, &fault);
        if lab.names().contains(&container.name) {
            lab.ok(&["undefine", &container.name]);
        }
    }
    witness.ends(lab);
}
