//! What becomes of a guest that ends: restarts, refusals, and how often subscribers hear of it.

use std::io::Write;
use std::time::Duration;

use crate::harness::bus::{LXC, QEMU};
use crate::harness::container::Container;
use crate::harness::{Guest, Lab, soon};
use crate::qemu_life::serial_pty;

/// Members of all signals that come within `limit`.
fn members(signals: &mut crate::harness::bus::Signals<'_>, limit: Duration) -> Vec<String> {
    let end = std::time::Instant::now() + limit;
    let mut found = Vec::new();
    while let Some(left) = end.checked_duration_since(std::time::Instant::now()) {
        let Some((_, member, _)) = signals.next(left) else { break };
        found.push(member);
    }
    found
}

/// A boot sector that says `B` on the first serial line, waits for a byte from there, and resets the machine through the
/// keyboard controller, as an operating system does.
const RESETS_ON_DEMAND: &[u8] = &[
    0xba, 0xf8, 0x03, 0xb0, b'B', 0xee, 0xb0, b'\n', 0xee, // "B\n" to COM1
    0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb, // wait for a byte
    0xba, 0xf8, 0x03, 0xec, // take it
    0xb0, 0xfe, 0xe6, 0x64, // reset
    0xf4, 0xeb, 0xfd, // halt
];

#[test]
fn one_reboot_of_a_machine_is_one_event() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    let mut disk = vec![0; 1 << 20];
    disk[..RESETS_ON_DEMAND.len()].copy_from_slice(RESETS_ON_DEMAND);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(&guest.base, disk).unwrap();
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    guest.wait_says("B\n", 1);
    let bus = lab.bus();
    let _ = bus.lookup(QEMU, &guest.name);
    let mut signals = bus.listen();
    let id = lab.ok(&["domid", &guest.name]);
    let mut line = std::fs::OpenOptions::new().write(true).open(serial_pty(&lab, &guest.name)).unwrap();
    for boots in 2..4 {
        line.write_all(b"x").unwrap();
        guest.wait_says("B\n", boots);
        let heard = members(&mut signals, Duration::from_secs(3));
        assert_eq!(heard, ["Reboot"]);
    }
    assert_eq!(lab.ok(&["domid", &guest.name]), id, "a reboot is no new run");
    // A reset by a call is one too.
    lab.ok(&["reset", &guest.name]);
    guest.wait_says("B\n", 4);
    assert_eq!(members(&mut signals, Duration::from_secs(3)), ["Reboot"]);
    drop(signals);
    drop(bus);
    lab.finish();
}

/// Init's script appends a line per run to a file and then ends in the way of `end`.
fn ending(lab: &Lab, number: u8, end: &str) -> Container {
    let script = format!("echo run >> /runs; echo up; while ! test -e /go; do sleep 0.1; done; {end}");
    let guest = Container::new(lab, number, &script);
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(guest.file("runs"), "").unwrap();
    std::fs::set_permissions(guest.file("runs"), std::fs::Permissions::from_mode(0o666)).unwrap();
    guest
}

fn runs(guest: &Container) -> usize {
    std::fs::read_to_string(guest.file("runs")).unwrap().lines().count()
}

fn wait_runs(guest: &Container, count: usize) {
    let reached = soon(Duration::from_secs(30), || (runs(guest) >= count).then_some(()));
    assert!(reached.is_some(), "{} of {count} runs", runs(guest));
}

#[rstest::rstest]
#[case::poweroff("on_poweroff", "poweroff -f")]
#[case::exit("on_poweroff", "exit 0")]
#[case::reboot("on_reboot", "reboot -f")]
fn a_container_restarts_or_ends_as_defined(#[case] element: &str, #[case] end: &str) {
    let Some(lab) = Lab::lxc() else { return };
    let guest = ending(&lab, 1, end);
    let name = &*guest.name;
    lab.define(&guest.with(&format!("<{element}>restart</{element}>")));
    lab.ok(&["start", name]);
    wait_runs(&guest, 1);
    let (id, bus) = (lab.ok(&["domid", name]), lab.bus());
    let _ = bus.lookup(LXC, name);
    let mut signals = bus.listen();
    std::fs::write(guest.file("go"), "").unwrap();
    // Each run ends at once: restarts follow each other with a pause, and go on.
    wait_runs(&guest, 3);
    assert_eq!((lab.state(name), lab.ok(&["domid", name])), ("running".into(), id));
    let heard = members(&mut signals, Duration::from_millis(200));
    assert!(heard.iter().all(|member| member == "Reboot") && heard.len() >= 2, "{heard:?}");
    // And end when told so while it runs.
    let kind = element.trim_start_matches("on_");
    lab.ok(&["set-lifecycle-action", name, kind, "destroy", "--live"]);
    lab.wait_state(name, "shut off");
    assert_eq!(lab.ok(&["domstate", name, "--reason"]), "shut off (shutdown)");
    let before = runs(&guest);
    lab.ok(&["start", name]);
    wait_runs(&guest, before + 2);
    lab.ok(&["destroy", name]);
    assert_eq!(lab.state(name), "shut off");
    drop(signals);
    drop(bus);
    lab.finish();
}

#[test]
fn a_crashed_container_restarts_or_ends_as_defined() {
    let Some(lab) = Lab::lxc() else { return };
    let guest = ending(&lab, 1, "sleep 1000");
    let name = &*guest.name;
    lab.define(&guest.with("<on_crash>restart</on_crash>"));
    lab.ok(&["start", name]);
    wait_runs(&guest, 1);
    let init = || {
        let record = std::fs::read_dir(lab.root().join("run/lxc")).unwrap().flatten().next().unwrap();
        let pid = std::fs::read_to_string(record.path().join("supervisor.pid")).unwrap();
        let supervisor = pid.split_whitespace().next().unwrap().to_string();
        let children = std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse::<i32>().unwrap()
    };
    let kill =
        |pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    kill(init());
    wait_runs(&guest, 2);
    assert_eq!(lab.state(name), "running");
    lab.ok(&["set-lifecycle-action", name, "crash", "destroy"]);
    kill(init());
    lab.wait_state(name, "shut off");
    assert_eq!(lab.ok(&["domstate", name, "--reason"]), "shut off (crashed)");
    // A restart that waits for its turn does not keep a destroy waiting.
    lab.ok(&["start", name]);
    lab.ok(&["set-lifecycle-action", name, "crash", "restart"]);
    kill(init());
    lab.ok(&["destroy", name]);
    assert_eq!(lab.ok(&["domstate", name, "--reason"]), "shut off (destroyed)");
    lab.finish();
}

#[test]
fn what_cannot_be_is_refused_at_define() {
    let Some(lab) = Lab::lxc() else { return };
    let guest = Container::new(&lab, 1, "sleep 1000");
    for (element, action) in
        [("on_poweroff", "preserve"), ("on_reboot", "rename-restart"), ("on_crash", "coredump-destroy")]
    {
        let file = lab.write("bad.xml", &guest.with(&format!("<{element}>{action}</{element}>")));
        lab.fails_with(&["define", &file], &["unsupported configuration", action, element]);
    }
    lab.define(&guest.xml);
    lab.fails_with(
        &["set-lifecycle-action", &guest.name, "poweroff", "preserve", "--config"],
        &["Unable to change lifecycle action.", "preserve"],
    );
    lab.fails_with(
        &["set-lifecycle-action", &guest.name, "reboot", "coredump-restart"],
        &["doesn't support 'coredump-restart' action"],
    );
    lab.fails_with(&["set-lifecycle-action", &guest.name, "sleep", "destroy"], &["Invalid lifecycle type 'sleep'."]);
    lab.ok(&["set-lifecycle-action", &guest.name, "poweroff", "restart", "--config"]);
    assert!(lab.ok(&["dumpxml", &guest.name]).contains("<on_poweroff>restart</on_poweroff>"));
    lab.finish();
}
