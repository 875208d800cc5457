//! Clients that mean no good, and clients that die: limits hold, nobody else is held up, nothing is left.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use crate::harness::container::Container;
use crate::harness::{DEADLINE, Guest, Lab, eventually};
use crate::mock_life::xml;
use crate::rpc_wire::{Wire, arguments, ask, string};

const AUTH_LIST: u32 = 66;
const OPEN: u32 = 1;
const SUSPEND: u32 = 34;
const RESUME: u32 = 28;
const DEFINE: u32 = 11;
const LOOKUP: u32 = 23;
const CREATE: u32 = 9;
const LIST_ALL: u32 = 273;
const REGISTER: u32 = 316;
const OPEN_CONSOLE: u32 = 201;
/// Long enough that a daemon that answers has answered.
const SILENCE: Duration = Duration::from_millis(400);

/// A daemon of the test driver with these settings of `[rpc]`.
fn limited(settings: &str) -> Lab {
    let mut lab = Lab::bare(&["--mock"]);
    lab.configure(&format!("[rpc]\n{settings}\n"));
    lab.start();
    lab
}

fn connect(lab: &Lab) -> Wire {
    Wire::at(&lab.root().join("run/libvirt-sock"))
}

/// Whether the daemon says anything to a client for a while.
fn hears_nothing(wire: &mut Wire) -> bool {
    wire.0.set_read_timeout(Some(SILENCE)).unwrap();
    let silent = match wire.0.read(&mut [0; 1]) {
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        Ok(_) => false,
    };
    wire.0.set_read_timeout(Some(DEADLINE)).unwrap();
    silent
}

/// Whether the daemon has ended this connection.
fn is_ended(wire: &mut Wire) -> bool {
    matches!(wire.0.read(&mut [0; 1]), Ok(0))
        || wire.0.read(&mut [0; 1]).is_err_and(|e| e.kind() == ErrorKind::ConnectionReset)
}

/// Who is connected to a daemon, by its own count of open sockets.
fn sockets(pid: i32) -> usize {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))).count()
}

#[test]
fn those_who_do_not_say_who_they_are_wait_for_each_other() {
    let lab = limited("max_anonymous_clients = 2");
    let mut known = Wire::open(&lab, "libvirt-sock");
    let (first, _second) = (connect(&lab), connect(&lab));
    let mut third = connect(&lab);
    ask(&mut third, AUTH_LIST, 1, &[]);
    assert!(hears_nothing(&mut third), "there is a place for two");
    // Who is known is served all the while.
    assert_eq!(known.call(LIST_ALL, &[0, 0, 0, 1, 0, 0, 0, 3]).0[5], 0);
    drop(first);
    assert_eq!(third.receive().unwrap().1, [0, 0, 0, 1, 0, 0, 0, 0]);
    // It is known now, and takes no place of theirs any more.
    assert_eq!(connect(&lab).call(AUTH_LIST, &[]).0[5], 0);
    drop((known, third, _second));
    lab.finish();
}

#[test]
fn one_more_than_there_may_be_waits() {
    let lab = limited("max_clients = 2");
    let first = Wire::open(&lab, "libvirt-sock");
    let second = Wire::open(&lab, "libvirt-sock-ro");
    let mut third = connect(&lab);
    ask(&mut third, AUTH_LIST, 1, &[]);
    assert!(hears_nothing(&mut third), "both sockets together");
    drop(second);
    assert_eq!(third.receive().unwrap().0[5], 0);
    drop((first, third));
    lab.finish();
}

#[test]
fn a_silent_client_is_dropped_as_soon_as_it_is_said() {
    let lab = limited("keepalive_interval = 1\nkeepalive_count = 2");
    let mut silent = Wire::open(&lab, "libvirt-sock");
    assert_eq!(silent.call(60, &[0, 0, 0, 10]).1, [0, 0, 0, 1]);
    let pings = std::iter::from_fn(|| silent.receive()).count();
    assert_eq!(pings, 2);
    lab.finish();

    let lab = limited("keepalive_interval = 0");
    let mut silent = Wire::open(&lab, "libvirt-sock");
    assert_eq!(silent.call(60, &[0, 0, 0, 10]).1, [0, 0, 0, 1]);
    silent.0.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert!(silent.0.read(&mut [0; 1]).is_err(), "nobody is pinged");
    drop(silent);
    lab.finish();
}

#[test]
fn strangers_send_little() {
    let lab = Lab::mock();
    let long = u32::to_be_bytes(100_000);
    let mut stranger = connect(&lab);
    stranger.0.write_all(&long).unwrap();
    assert!(is_ended(&mut stranger));
    // The same from somebody known is only the beginning of a packet.
    let mut known = Wire::open(&lab, "libvirt-sock");
    known.0.write_all(&long).unwrap();
    assert!(hears_nothing(&mut known));
    // And no client registers for events without end.
    let mut listener = Wire::open(&lab, "libvirt-sock");
    let mut refused = None;
    for _ in 0..25_000 {
        let (words, payload) = listener.call(REGISTER, &[0; 8]);
        if words[5] != 0 {
            refused = Some(payload);
            break;
        }
    }
    assert_eq!(refused.expect("there is a limit")[..4], [0, 0, 0, 55]);
    drop((known, listener));
    lab.finish();
}

#[test]
fn a_listener_that_sleeps_through_a_storm_is_dropped_alone() {
    let lab = Lab::mock();
    let mut wire = Wire::open(&lab, "libvirt-sock");
    let handle = wire.call(DEFINE, &string(&xml("one"))).1;
    assert_eq!(wire.call(CREATE, &handle).0[5], 0);
    // Hears each event a thousand times, once it listens.
    let mut sleeper = Wire::open(&lab, "libvirt-sock");
    for _ in 0..5_000 {
        assert_eq!(sleeper.call(REGISTER, &[0; 8]).0[5], 0);
    }
    let mut other = Wire::open(&lab, "libvirt-sock");
    assert_eq!(other.call(REGISTER, &[0; 8]).0[5], 0);
    for round in 0..200 {
        for procedure in [SUSPEND, RESUME] {
            assert_eq!(wire.call(procedure, &handle).0[5], 0, "{round}");
            // The event, and nothing is missing.
            assert_eq!(other.receive().expect("an event").0[2], 318);
        }
    }
    // What it was not sent any more it will never miss without knowing: after what the socket held comes the end.
    let mut heard = vec![0; 1 << 20];
    eventually("the sleeper was dropped", DEADLINE, || {
        loop {
            match sleeper.0.read(&mut heard) {
                Ok(0) => return Some(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Some(()),
                Err(_) => return None,
            }
        }
    });
    drop((wire, other, sleeper));
    lab.finish();
}

/// Opens a console as a stream and writes into it until nobody takes any more.
fn stuff(lab: &Lab, name: &str) -> Wire {
    let mut wire = connect(lab);
    assert_eq!(wire.call(AUTH_LIST, &[]).0[5], 0);
    assert_eq!(wire.call(OPEN, &arguments("lxc:///system")).0[5], 0);
    let mut payload = wire.call(LOOKUP, &string(name)).1;
    // No device named, no flags.
    payload.extend([0; 8]);
    // The one before may not be known to be dead yet: a console has one user.
    eventually("the console is free", DEADLINE, || (wire.call(OPEN_CONSOLE, &payload).0[5] == 0).then_some(()));
    wire.0.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut packet = Vec::new();
    // A stream's packet has the serial of the call that opened it.
    let data = [b'x'; 32 * 1024];
    for word in [28 + data.len() as u32, 0x2000_8086, 1, OPEN_CONSOLE, 3, 7, 2] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(data);
    let stuck = (0..100_000).any(|_| wire.0.write_all(&packet).is_err());
    assert!(stuck, "a terminal that nobody reads takes no end of bytes");
    wire
}

#[test]
fn a_client_that_dies_over_a_full_terminal_leaves_nothing() {
    let Some(lab) = Lab::lxc() else { return };
    let container = Container::new(&lab, 1, "stty raw -echo; echo ready; exec sleep 100000");
    lab.define(&container.xml);
    lab.ok(&["start", &container.name]);
    container.shows("ready");
    let before = sockets(lab.pid());
    for _ in 0..3 {
        drop(stuff(&lab, &container.name));
    }
    // The container still runs, and still reads nothing.
    eventually("all of the dead clients' connections are closed", DEADLINE, || {
        (sockets(lab.pid()) <= before).then_some(())
    });
    lab.ok(&["destroy", &container.name]);
    lab.finish();
}

#[test]
fn a_call_in_flight_is_answered_before_the_daemon_ends() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    lab.define(&guest.xml);
    let mut idle = connect(&lab);
    assert_eq!(idle.call(AUTH_LIST, &[]).0[5], 0);
    let mut wire = connect(&lab);
    assert_eq!(wire.call(AUTH_LIST, &[]).0[5], 0);
    assert_eq!(wire.call(OPEN, &arguments("qemu:///system")).0[5], 0);
    let handle = wire.call(LOOKUP, &string(&guest.name)).1;
    ask(&mut wire, CREATE, 9, &handle);
    // The start is under way when the daemon is told to end.
    eventually("QEMU is started", DEADLINE, || guest.try_pid());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(lab.pid()), nix::sys::signal::Signal::SIGTERM).unwrap();
    let (words, _) = wire.receive().expect("an answer");
    assert_eq!((words[2], words[4], words[5]), (CREATE, 9, 0));
    assert!(wire.receive().is_none() && idle.receive().is_none(), "then the end");
    assert!(lab.wait_end().success());
    assert!(Path::new(&format!("/proc/{}", guest.pid())).exists(), "the guest runs on");
    lab.start();
    lab.wait_state(&guest.name, "running");
    lab.ok(&["destroy", &guest.name]);
    lab.finish();
}
