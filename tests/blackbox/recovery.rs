//! The daemon dies at the worst moment. After its restart guests run on, and nothing half-built is left.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::bus::QEMU;
use crate::harness::{Guest, Lab, eventually, leaks, repository};
use crate::qemu_life::type_into;

#[test]
fn guests_outlive_the_daemon() {
    let Some(mut lab) = Lab::qemu() else { return };
    let Some(guest) = Guest::new(&mut lab, 1) else { return };
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    guest.wait_booted();
    let pid = guest.pid();
    let live = lab.ok(&["dumpxml", &guest.name]);
    lab.crash();
    assert!(guest.pings(), "the guest does not care");
    lab.start();
    assert_eq!(lab.state(&guest.name), "running");
    assert_eq!(guest.pid(), pid);
    assert_eq!(lab.ok(&["dumpxml", &guest.name]), live, "the live definition is the same");
    // Console, monitor and events work as before.
    type_into(&lab, &guest, "echo still-$((40+2))", "still-42");
    lab.ok(&["suspend", &guest.name]);
    assert_eq!(lab.state(&guest.name), "paused");
    lab.crash();
    lab.start();
    assert_eq!(lab.state(&guest.name), "paused", "the state that QEMU is in");
    let bus = lab.bus();
    let mut signals = bus.listen();
    lab.ok(&["resume", &guest.name]);
    lab.ok(&["shutdown", &guest.name]);
    lab.wait_state(&guest.name, "shut off");
    let events = signals.domain_events(4, Duration::from_secs(3));
    assert_eq!(events.first(), Some(&(4, 0)), "{events:?}");
    assert_eq!(events.last(), Some(&(5, 0)), "{events:?}");
    drop(signals);
    drop(bus);
    // An ordinary stop of the daemon leaves guests alone too.
    lab.ok(&["start", &guest.name]);
    let pid = guest.pid();
    lab.restart();
    assert_eq!(lab.state(&guest.name), "running");
    assert_eq!(guest.pid(), pid);
    lab.ok(&["destroy", &guest.name]);
    lab.finish();
}

#[test]
fn what_ended_meanwhile_is_reported() {
    let Some(mut lab) = Lab::qemu() else { return };
    let Some(guest) = Guest::new(&mut lab, 1) else { return };
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    guest.wait_booted();
    // Killed behind the daemon's back.
    let pid = Pid::from_raw(guest.pid());
    lab.crash();
    kill(pid, Signal::SIGKILL).unwrap();
    eventually("QEMU's end", Duration::from_secs(10), || guest.try_pid().is_none().then_some(()));
    lab.start();
    let bus = lab.bus();
    let state = bus.state(&bus.lookup(QEMU, &guest.name));
    assert_eq!(state, (5, 3), "shut off, crashed");
    drop(bus);
    lab.check_no_guest_left();

    // Powered off by its own: QEMU waits for somebody to see it.
    lab.ok(&["start", &guest.name]);
    guest.wait_booted();
    type_into(&lab, &guest, "echo rea''dy-to-go", "ready-to-go");
    let mut pty =
        std::fs::OpenOptions::new().write(true).open(crate::qemu_life::serial_pty(&lab, &guest.name)).unwrap();
    lab.crash();
    std::io::Write::write_all(&mut pty, b"poweroff -f\n").unwrap();
    eventually("the guest's silence", Duration::from_secs(30), || (!guest.pings()).then_some(()));
    lab.start();
    lab.wait_state(&guest.name, "shut off");
    let bus = lab.bus();
    let state = bus.state(&bus.lookup(QEMU, &guest.name));
    assert_eq!(state, (5, 1), "shut off, by shutdown");
    drop(bus);
    lab.check_no_guest_left();
    lab.finish();
}

/// All fault points of one operation, as the source names them: a new one is tested without a word here.
pub fn points(operation: &str) -> Vec<String> {
    let mut found = Vec::new();
    for path in leaks::files_below(&repository().join("src")) {
        // Containers have points of their own, and tests of their own for them.
        if path.starts_with(repository().join("src/lxc")) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for (at, mark) in text.match_indices("point(\"") {
            let name = text[at + mark.len()..].split('"').next().unwrap();
            let is_fault = ["fault::", "fault_"].iter().any(|before| text[..at].ends_with(before));
            if !is_fault {
                continue;
            }
            if name.starts_with(operation) && !found.contains(&name.to_string()) {
                found.push(name.to_string());
            }
        }
    }
    assert!(!found.is_empty(), "no fault points of {operation}");
    found.sort();
    found
}

/// Runs the daemon with a fault point, does `operation`, which kills it, and starts it again without.
fn killed_at(lab: &mut Lab, point: &str, operation: &[&str]) {
    lab.stop();
    lab.start_with(&[("DOMUS_FAULT", &format!("{point}:kill"))]);
    lab.wait_ready();
    let out = lab.run(operation);
    assert!(!out.success(), "domus {operation:?} succeeded, so the daemon never came to {point}");
    let status = lab.wait_end();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9),
        "the daemon should have been killed at {point}, ended with {status}; the client said: {}",
        out.stderr
    );
    lab.note_runs();
    lab.start();
}

/// Runs the daemon with a fault point where `operation` fails instead; the daemon lives on, then starts without.
fn fails_at(lab: &mut Lab, point: &str, operation: &[&str]) {
    lab.stop();
    lab.start_with(&[("DOMUS_FAULT", &format!("{point}:fail"))]);
    lab.wait_ready();
    lab.fails(operation);
}

/// A guest that runs the whole time and must not notice anything.
fn bystander(lab: &mut Lab) -> (Guest, i32) {
    let guest = Guest::blank(lab, 1);
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    let pid = guest.pid();
    lab.forget_links();
    (guest, pid)
}

fn unharmed(lab: &Lab, guest: &Guest, pid: i32, point: &str) {
    assert_eq!(lab.state(&guest.name), "running", "after a kill at {point}");
    assert_eq!(guest.try_pid(), Some(pid), "after a kill at {point}");
}

fn ends_clean(lab: Lab, witness: &Guest) {
    lab.ok(&["destroy", &witness.name]);
    lab.forget_link(&witness.tap);
    lab.finish();
}

#[test]
fn killed_while_defining() {
    let Some(mut lab) = Lab::qemu() else { return };
    let (witness, pid) = bystander(&mut lab);
    let guest = Guest::files(&lab, 2, None);
    let file = lab.write("x.xml", &guest.xml);
    for point in points("define.") {
        killed_at(&mut lab, &point, &["define", &file]);
        unharmed(&lab, &witness, pid, &point);
        // Either there or not there, never a half: what is listed can be dumped and undefined.
        if lab.names().contains(&guest.name) {
            lab.ok(&["dumpxml", &guest.name]);
            lab.ok(&["undefine", &guest.name]);
        }
        // A new version of something that is there: the old one or the new one.
        lab.define(&guest.xml);
        let old = lab.ok(&["dumpxml", "--inactive", &guest.name]);
        let changed = lab.write("y.xml", &guest.xml.replace("<memory>262144", "<memory>524288"));
        killed_at(&mut lab, &point, &["define", &changed]);
        unharmed(&lab, &witness, pid, &point);
        let now = lab.ok(&["dumpxml", "--inactive", &guest.name]);
        assert!(now == old || now == old.replace("262144", "524288"), "after a kill at {point}:\n{now}");
        lab.ok(&["undefine", &guest.name]);
    }
    ends_clean(lab, &witness);
}

#[test]
fn killed_while_starting() {
    let Some(mut lab) = Lab::qemu() else { return };
    let (witness, pid) = bystander(&mut lab);
    let guest = Guest::blank(&mut lab, 2);
    let disk = guest.directory.join("disk");
    let owner = |path: &std::path::Path| {
        let meta = std::fs::metadata(path).unwrap();
        (std::os::unix::fs::MetadataExt::uid(&meta), std::os::unix::fs::MetadataExt::gid(&meta))
    };
    let before = owner(&disk);
    let nothing_left = |lab: &Lab, point: &str| {
        eventually(&format!("nothing left after {point}"), Duration::from_secs(10), || {
            (guest.try_pid().is_none() && !leaks::links().contains(&guest.tap) && owner(&disk) == before).then_some(())
        });
        assert_eq!(lab.state(&guest.name), "shut off", "after {point}");
    };
    lab.define(&guest.xml);
    for point in points("start.") {
        killed_at(&mut lab, &point, &["start", &guest.name]);
        unharmed(&lab, &witness, pid, &point);
        match lab.state(&guest.name).as_str() {
            // Undone completely.
            "shut off" => nothing_left(&lab, &point),
            // Adopted: then it must be a whole guest.
            "running" | "paused" => {
                guest.pid();
                lab.ok(&["destroy", &guest.name]);
                nothing_left(&lab, &point);
            }
            other => panic!("after a kill at {point} the guest is {other:?}"),
        }
        // It can be started as if nothing had been.
        lab.ok(&["start", &guest.name]);
        assert_eq!(lab.state(&guest.name), "running", "second start after {point}");
        lab.ok(&["destroy", &guest.name]);
        nothing_left(&lab, &point);
    }
    ends_clean(lab, &witness);
}

#[test]
fn failing_while_starting() {
    let Some(mut lab) = Lab::qemu() else { return };
    let (witness, pid) = bystander(&mut lab);
    let guest = Guest::blank(&mut lab, 2);
    lab.define(&guest.xml);
    for point in points("start.") {
        fails_at(&mut lab, &point, &["start", &guest.name]);
        unharmed(&lab, &witness, pid, &point);
        assert_eq!(lab.state(&guest.name), "shut off", "after a failure at {point}");
        assert_eq!(guest.try_pid(), None, "after a failure at {point}");
        assert!(!leaks::links().contains(&guest.tap), "after a failure at {point}");
    }
    lab.restart();
    lab.ok(&["start", &guest.name]);
    ends_clean(lab, &witness);
}

#[test]
fn destroyed_while_starting() {
    let Some(mut lab) = Lab::qemu() else { return };
    let (witness, pid) = bystander(&mut lab);
    let guest = Guest::blank(&mut lab, 2);
    lab.define(&guest.xml);
    for point in points("start.") {
        lab.stop();
        lab.start_with(&[("DOMUS_FAULT", &format!("{point}:wait"))]);
        lab.wait_ready();
        lab.destroyed_while_starting(&guest.name);
        unharmed(&lab, &witness, pid, &point);
        assert_eq!(lab.state(&guest.name), "shut off", "destroyed at {point}");
        assert_eq!(guest.try_pid(), None, "destroyed at {point}");
        assert!(!leaks::links().contains(&guest.tap), "destroyed at {point}");
    }
    lab.restart();
    lab.ok(&["start", &guest.name]);
    ends_clean(lab, &witness);
}

#[test]
fn killed_while_stopping() {
    let Some(mut lab) = Lab::qemu() else { return };
    let (witness, pid) = bystander(&mut lab);
    let guest = Guest::blank(&mut lab, 2);
    lab.define(&guest.xml);
    for point in points("stop.") {
        lab.ok(&["start", &guest.name]);
        killed_at(&mut lab, &point, &["destroy", &guest.name]);
        unharmed(&lab, &witness, pid, &point);
        match lab.state(&guest.name).as_str() {
            "shut off" => {}
            // Killed before anything happened to it.
            "running" => drop(lab.ok(&["destroy", &guest.name])),
            other => panic!("after a kill at {point} the guest is {other:?}"),
        }
        assert_eq!(guest.try_pid(), None, "after a kill at {point}");
        assert!(!leaks::links().contains(&guest.tap), "after a kill at {point}");
    }
    lab.ok(&["start", &guest.name]);
    ends_clean(lab, &witness);
}

#[test]
fn killed_while_undefining() {
    let Some(mut lab) = Lab::qemu() else { return };
    let (witness, pid) = bystander(&mut lab);
    let guest = Guest::files(&lab, 2, None);
    for point in points("undefine.") {
        lab.define(&guest.xml);
        killed_at(&mut lab, &point, &["undefine", &guest.name]);
        unharmed(&lab, &witness, pid, &point);
        if lab.names().contains(&guest.name) {
            lab.ok(&["undefine", &guest.name]);
        }
        assert_eq!(lab.names(), [witness.name.as_str()]);
    }
    ends_clean(lab, &witness);
}

/// Every durable write is a moment to die at. On the mock driver, because there the whole life is cheap.
#[test]
fn killed_at_every_write() {
    let mut lab = Lab::mock();
    let file = lab.write("one.xml", &crate::mock_life::xml("one"));
    let life: [&[&str]; 7] = [
        &["define", &file],
        &["autostart", "one"],
        &["start", "one"],
        &["suspend", "one"],
        &["resume", "one"],
        &["destroy", "one"],
        &["undefine", "one"],
    ];
    let mut deaths = 0;
    for write in 1.. {
        assert!(write < 100, "the life of a domain never ends");
        lab.stop();
        lab.start_with(&[("DOMUS_FAULT", &format!("store.written:kill:{write}"))]);
        let mut died = None;
        if lab.comes_up() {
            died = life.iter().find(|command| !lab.run(command).success());
        }
        if died.is_none() && lab.is_alive() {
            break;
        }
        let status = lab.wait_end();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "at write {write}: {status}");
        deaths += 1;
        lab.start();
        // Whatever is there is whole: it can be shown, started, ended and forgotten.
        for name in lab.names() {
            let xml = lab.ok(&["dumpxml", "--inactive", &name]);
            assert!(xml.contains("<name>one</name>"), "after a kill at write {write} ({died:?}):\n{xml}");
            lab.run(&["destroy", &name]);
            lab.ok(&["start", &name]);
            lab.ok(&["destroy", &name]);
            lab.ok(&["undefine", &name]);
        }
    }
    assert!(deaths >= 4, "only {deaths} writes in a whole life: is the fault point still there?");
    lab.finish();
}
