//! Deaths at moments of their own: who goes with whom, and what is known of it afterwards.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::container::{Container, Witness};
use crate::harness::{DEADLINE, Lab, eventually, leaks};

const LXC: &str = "/org/libvirt/LXC";
/// VIR_DOMAIN_SHUTOFF and its reasons.
const SHUTOFF: i32 = 5;
const SHUTDOWN: i32 = 1;
const DESTROYED: i32 = 2;
const CRASHED: i32 = 3;

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn is_gone(pid: i32) {
    eventually(&format!("the end of process {pid}"), DEADLINE, || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z ")).then_some(())
    });
}

fn state(lab: &Lab, container: &Container) -> (i32, i32) {
    let bus = lab.bus();
    bus.state(&bus.lookup(LXC, &container.name))
}

/// One of the two is killed behind the daemon's back: the container is over, as a crash, with an event.
fn killed(which: fn(&Container) -> i32) {
    let Some(mut lab) = Lab::lxc() else { return };
    let witness = Witness::new(&mut lab);
    let container = Container::new(&mut lab, 2);
    lab.define(&container.xml);
    container.start(&lab);
    let (init, supervisor) = (container.init(), container.supervisor().unwrap());
    let bus = lab.bus();
    let mut signals = bus.listen();
    send(which(&container), Signal::SIGKILL);
    // VIR_DOMAIN_EVENT_STOPPED, _CRASHED.
    assert_eq!(signals.domain_events(1, Duration::from_secs(20)), [(5, 2)]);
    drop(signals);
    drop(bus);
    is_gone(init);
    is_gone(supervisor);
    assert_eq!(state(&lab, &container), (SHUTOFF, CRASHED));
    container.nothing_left(&lab, "after the kill");
    witness.is_unharmed(&lab, "after the kill");
    container.start(&lab);
    container.answers(&lab, "another life");
    witness.ends(lab);
}

#[test]
fn killed_supervisor() {
    killed(|container| container.supervisor().unwrap());
}

#[test]
fn killed_init() {
    killed(Container::init);
}

fn fork_server(lab: &Lab) -> Option<i32> {
    leaks::fork_servers_of(lab.pid()).pop()
}

/// Nobody misses what supervisors are forked from: containers run on, the next one gets another, and none is left when
/// the daemon is gone.
#[test]
fn killed_fork_server() {
    let Some(mut lab) = Lab::lxc() else { return };
    let witness = Witness::new(&mut lab);
    let container = Container::new(&mut lab, 2);
    lab.define(&container.xml);
    let first = fork_server(&lab).unwrap();
    send(first, Signal::SIGKILL);
    is_gone(first);
    witness.is_unharmed(&lab, "after the kill");
    container.start(&lab);
    container.answers(&lab, "from another fork server");
    let second = fork_server(&lab).unwrap();
    assert_ne!(first, second);
    assert!(!std::path::Path::new(&format!("/proc/{first}")).exists(), "a zombie of the daemon's");
    lab.crash();
    is_gone(second);
    lab.start();
    witness.is_unharmed(&lab, "after the daemon's end");
    container.answers(&lab, "after the daemon's end");
    lab.ok(&["destroy", &container.name]);
    container.nothing_left(&lab, "after the end");
    witness.ends(lab);
}

/// A fork server that does not answer fails the start, in time, and leaves nothing; the next start has another.
#[test]
fn stopped_fork_server() {
    let Some(mut lab) = Lab::lxc_unstarted() else { return };
    lab.configure("drivers = ['lxc']\n[lxc]\nstart_timeout = 2\n");
    lab.start();
    let witness = Witness::new(&mut lab);
    let container = Container::new(&mut lab, 2);
    lab.define(&container.xml);
    let server = fork_server(&lab).unwrap();
    send(server, Signal::SIGSTOP);
    lab.fails_with(&["start", &container.name], &["was not there within 2 s"]);
    is_gone(server);
    container.nothing_left(&lab, "after a start that was given up");
    witness.is_unharmed(&lab, "meanwhile");
    container.start(&lab);
    container.answers(&lab, "later");
    lab.ok(&["destroy", &container.name]);
    witness.ends(lab);
}

/// Containers that end while no daemon is there: the exit record says how.
#[test]
fn ends_while_the_daemon_is_dead() {
    let Some(mut lab) = Lab::lxc() else { return };
    let witness = Witness::new(&mut lab);
    let container = Container::new(&mut lab, 2);
    lab.define(&container.xml);
    type End = (&'static str, fn(&Container), i32);
    let ends: [End; 5] = [
        ("poweroff -f", |_| {}, SHUTDOWN),
        ("exit 3", |_| {}, SHUTDOWN),
        // Which the definition answers with a new start; this one does not come to it.
        ("", |container| send(container.init(), Signal::SIGKILL), CRASHED),
        ("", |container| send(container.supervisor().unwrap(), Signal::SIGKILL), CRASHED),
        (
            "",
            |container| {
                // At the worst moment: it cannot write its record.
                let supervisor = container.supervisor().unwrap();
                send(supervisor, Signal::SIGSTOP);
                send(container.init(), Signal::SIGKILL);
                send(supervisor, Signal::SIGKILL);
            },
            CRASHED,
        ),
    ];
    for (number, (line, act, reason)) in ends.into_iter().enumerate() {
        container.start(&lab);
        let supervisor = container.supervisor().unwrap();
        if line.is_empty() {
            lab.crash();
        } else {
            // Typed after the daemon's death, by what was known before it.
            let terminal = lab.ok(&["dumpxml", &container.name]);
            let at = terminal.find("tty='").unwrap() + 5;
            let terminal = terminal[at..].split('\'').next().unwrap().to_string();
            lab.crash();
            let mut pty = std::fs::OpenOptions::new().write(true).open(terminal).unwrap();
            std::io::Write::write_all(&mut pty, format!("{line}\n").as_bytes()).unwrap();
        }
        act(&container);
        is_gone(supervisor);
        lab.start();
        assert_eq!(state(&lab, &container), (SHUTOFF, reason), "end number {number} ({line})");
        container.nothing_left(&lab, &format!("end number {number}"));
        witness.is_unharmed(&lab, &format!("end number {number}"));
    }
    witness.ends(lab);
}

/// A container that reboots while no daemon is there is adopted as what it is now.
#[test]
fn reboots_while_the_daemon_is_dead() {
    let Some(mut lab) = Lab::lxc() else { return };
    let witness = Witness::new(&mut lab);
    let container = Container::new(&mut lab, 2);
    lab.define(&container.xml);
    container.start(&lab);
    let first = container.init();
    let terminal = lab.ok(&["dumpxml", &container.name]);
    let at = terminal.find("tty='").unwrap() + 5;
    let terminal = terminal[at..].split('\'').next().unwrap().to_string();
    lab.crash();
    let mut pty = std::fs::OpenOptions::new().write(true).open(terminal).unwrap();
    std::io::Write::write_all(&mut pty, b"reboot -f\n").unwrap();
    drop(pty);
    eventually("the second life", DEADLINE, || {
        (container.said().matches("container is up").count() == 2).then_some(())
    });
    lab.start();
    assert_ne!(container.init(), first);
    container.answers(&lab, "after a reboot that nobody saw");
    lab.ok(&["suspend", &container.name]);
    lab.ok(&["resume", &container.name]);
    lab.ok(&["destroy", &container.name]);
    assert_eq!(state(&lab, &container), (SHUTOFF, DESTROYED));
    container.nothing_left(&lab, "after its end");
    witness.ends(lab);
}

/// Init has taken back that it dies with its supervisor: by becoming another user, which the kernel takes as that. The
/// supervisor dies, with the daemon there and without.
#[test]
fn init_that_outlives_its_supervisor() {
    let Some(mut lab) = Lab::lxc() else { return };
    let witness = Witness::new(&mut lab);
    let container = Container::new(&mut lab, 2);
    lab.define(&container.xml);
    for with_daemon in [true, false] {
        container.start(&lab);
        container.types(&lab, "exec su -s /bin/sh web -c 'echo other user; sleep 1000'");
        eventually("another user", DEADLINE, || container.said().contains("\nother user").then_some(()));
        let (init, supervisor) = (container.init(), container.supervisor().unwrap());
        if !with_daemon {
            lab.crash();
        }
        send(supervisor, Signal::SIGKILL);
        is_gone(supervisor);
        if !with_daemon {
            assert!(Path::new(&format!("/proc/{init}")).exists(), "it should have outlived its supervisor");
            lab.start();
        }
        lab.wait_state(&container.name, "shut off");
        assert_eq!(state(&lab, &container), (SHUTOFF, CRASHED));
        is_gone(init);
        container.nothing_left(&lab, "after both");
        witness.is_unharmed(&lab, "after both");
    }
    witness.ends(lab);
}

/// A supervisor that does not run must not slow down anybody who only reads, and can be got rid of.
#[test]
fn stopped_supervisor() {
    let Some(mut lab) = Lab::lxc() else { return };
    let witness = Witness::new(&mut lab);
    let container = Container::new(&mut lab, 2);
    lab.define(&container.xml);
    container.start(&lab);
    let (init, supervisor) = (container.init(), container.supervisor().unwrap());
    send(supervisor, Signal::SIGSTOP);
    let name = container.name.as_str();
    for read in [
        &["list", "--all"][..],
        &["dominfo", name],
        &["dumpxml", name],
        &["dumpxml", "--inactive", name],
        &["domstate", name],
        &["dommemstat", name],
        &["domstats"],
        &["domstats", name],
        &["dominfo", &witness.container.name],
    ] {
        let start = Instant::now();
        lab.ok(read);
        // Nothing that waits for it could answer at all; the bound only tells waiting from answering.
        assert!(start.elapsed() < Duration::from_secs(10), "domus {read:?} waits for a stopped supervisor");
    }
    witness.is_unharmed(&lab, "beside a stopped supervisor");
    // The freezer is the daemon's own: it works without the supervisor.
    lab.ok(&["suspend", name]);
    lab.ok(&["resume", name]);
    lab.ok(&["destroy", name]);
    is_gone(init);
    is_gone(supervisor);
    assert_eq!(state(&lab, &container), (SHUTOFF, DESTROYED));
    container.nothing_left(&lab, "after destroy");

    // A daemon that starts while the supervisor is stopped finds the container all the same, and can end it.
    container.start(&lab);
    let supervisor = container.supervisor().unwrap();
    send(supervisor, Signal::SIGSTOP);
    lab.crash();
    lab.start();
    witness.is_unharmed(&lab, "after a restart beside a stopped supervisor");
    assert_eq!(lab.state(name), "running");
    lab.ok(&["domstats", name]);
    lab.ok(&["destroy", name]);
    is_gone(supervisor);
    assert_eq!(state(&lab, &container), (SHUTOFF, DESTROYED));
    container.nothing_left(&lab, "after the second destroy");

    // One that runs again after such a start is as if it had never stopped.
    container.start(&lab);
    let supervisor = container.supervisor().unwrap();
    send(supervisor, Signal::SIGSTOP);
    lab.crash();
    lab.start();
    send(supervisor, Signal::SIGCONT);
    container.answers(&lab, "after a supervisor's pause");
    container.types(&lab, "poweroff -f");
    lab.wait_state(name, "shut off");
    assert_eq!(state(&lab, &container), (SHUTOFF, SHUTDOWN));
    witness.ends(lab);
}
