//! Debian's own libvirt-python against the daemon: events, typed parameters, threads, streams, clients that die.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::container::Container;
use crate::harness::{DEADLINE, Guest, Lab, Virsh, eventually, run, skip, test_name};
use crate::mock_life::xml;
use crate::rpc_wire::{Wire, ask, string};

const PYTHON: &str = "/usr/bin/python3";
const EVENTS: &str = include_str!("python/events.py");
const CALLS: &str = include_str!("python/calls.py");
const TOOLS: &str = include_str!("python/tools.py");
const STREAMS: &str = include_str!("python/streams.py");

fn no_module() -> bool {
    let module = run(Command::new(PYTHON).args(["-c", "import libvirt"]), DEADLINE);
    if !module.success() {
        skip(&test_name(), "python3-libvirt is not installed");
    }
    !module.success()
}

/// A script with its arguments, ready to run.
fn python(lab: &Lab, script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(PYTHON);
    command.arg(lab.write("script.py", script)).args(arguments);
    command
}

fn succeeds(lab: &Lab, script: &str, arguments: &[&str]) {
    let out = run(&mut python(lab, script, arguments), DEADLINE);
    assert!(out.success() && out.stdout.ends_with("ok\n"), "{out:?}");
}

fn uri(lab: &Lab, scheme: &str, path: &str) -> String {
    format!("{scheme}+unix://{path}?socket={}", lab.root().join("run/libvirt-sock").display())
}

/// The domain `one` of the test driver, with a disk `vda`.
fn with_disk(lab: &Lab) -> String {
    let image = lab.write("disk.raw", &"domus".repeat(100));
    let disk = format!(
        "<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{image}'/>\
         <target dev='vda' bus='virtio'/></disk></devices></domain>"
    );
    xml("one").replace("</domain>", &disk)
}

#[test]
fn python_hears_everything() {
    if no_module() {
        return;
    }
    let mut lab = Lab::mock();
    let file = lab.write("one.xml", &with_disk(&lab));
    let mut command = python(&lab, EVENTS, &[&uri(&lab, "test", "/default"), &file]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().map(Result::unwrap).as_deref(), Some("listening"), "{:?}", child.wait());
    lab.stop();
    child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    assert_eq!(lines.next().map(Result::unwrap).as_deref(), Some("ok"));
    assert!(child.wait().unwrap().success());
    lab.start();
    lab.finish();
}

#[test]
fn python_gets_what_it_asks_for() {
    if no_module() {
        return;
    }
    let lab = Lab::mock();
    let file = lab.write("one.xml", &with_disk(&lab));
    succeeds(&lab, CALLS, &[&uri(&lab, "test", "/default"), &file]);
    lab.finish();
}

#[test]
fn python_streams_volumes_and_dies_over_them() {
    if no_module() {
        return;
    }
    let Some(lab) = Lab::qemu() else { return };
    let uri = uri(&lab, "qemu", "/system");
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    let place = lab.work().join("pool");
    std::fs::create_dir(&place).unwrap();
    virsh.ok(&["pool-define-as", "p", "dir", "--target", place.to_str().unwrap()]);
    virsh.ok(&["pool-start", "p"]);
    succeeds(&lab, STREAMS, &["volumes", &uri, lab.work().to_str().unwrap()]);
    let out = run(&mut python(&lab, STREAMS, &["die", &uri, ""]), DEADLINE);
    assert_eq!((out.code, out.stdout.as_str()), (None, "ok\n"), "{out:?}");
    // Nothing keeps the volumes of the client that is gone: the next one may have them.
    eventually("the volume is free", DEADLINE, || {
        virsh.run(&["vol-delete", "w", "--pool", "p"]).success().then_some(())
    });
    virsh.ok(&["vol-delete", "v", "--pool", "p"]);
    virsh.ok(&["pool-destroy", "p"]);
    virsh.ok(&["pool-undefine", "p"]);
    let left: Vec<_> = std::fs::read_dir(&place).unwrap().flatten().map(|file| file.file_name()).collect();
    assert_eq!(left, ["s"]);
    lab.finish();
}

#[test]
fn python_types_at_a_container() {
    if no_module() {
        return;
    }
    let Some(lab) = Lab::lxc() else { return };
    let container = Container::new(&lab, 1, "exec /bin/sh -i");
    lab.define(&container.xml);
    lab.ok(&["start", &container.name]);
    // What is typed before the shell reads is lost to it.
    container.shows("#");
    succeeds(&lab, STREAMS, &["console", &uri(&lab, "lxc", "/system"), &container.name]);
    lab.ok(&["destroy", &container.name]);
    lab.finish();
}

#[test]
fn python_opens_a_channel() {
    if no_module() {
        return;
    }
    let Some(mut lab) = Lab::qemu() else { return };
    let mut guest = Guest::blank(&mut lab, 1);
    let channel = "<channel type='unix'><target type='virtio' name='org.example.0'/></channel><rng model=\"virtio\">";
    guest.change("<rng model=\"virtio\">", channel);
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    succeeds(&lab, STREAMS, &["channel", &uri(&lab, "qemu", "/system"), &guest.name]);
    lab.ok(&["destroy", &guest.name]);
    lab.finish();
}

#[test]
fn the_calls_of_other_tools_in_their_order() {
    if no_module() {
        return;
    }
    let Some(lab) = Lab::qemu() else { return };
    for who in ["terraform", "virt-manager"] {
        let place = lab.work().join(who);
        std::fs::create_dir(&place).unwrap();
        succeeds(&lab, TOOLS, &[who, &uri(&lab, "qemu", "/system"), place.to_str().unwrap()]);
    }
    assert!(lab.names().is_empty());
    lab.finish();
}

#[test]
fn a_client_that_is_gone_before_its_answer_leaves_nothing() {
    let lab = Lab::mock();
    let mut bystander = Wire::open(&lab, "libvirt-sock");
    for number in 0..50 {
        let mut wire = Wire::open(&lab, "libvirt-sock");
        // Define, then start, and gone.
        ask(&mut wire, 11, 8, &string(&xml(&format!("d{number}"))));
        ask(&mut wire, 23, 9, &string(&format!("d{number}")));
        ask(&mut wire, 316, 10, &[0; 8]);
        drop(wire);
    }
    // What was asked was done or not, but never half: each domain that is there can be started and goes again.
    for name in lab.names() {
        lab.ok(&["start", &name]);
        lab.ok(&["destroy", &name]);
        lab.ok(&["undefine", &name]);
    }
    assert_eq!(bystander.call(4, &[]).0[5], 0);
    drop(bystander);
    // Looks for descriptors that are left.
    lab.finish();
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let lab = Lab::mock();
    let mut wire = Wire::open(&lab, "libvirt-sock");
    for number in 0..20 {
        assert_eq!(wire.call(11, &string(&xml(&format!("d{number}")))).0[5], 0);
    }
    // Asks for all domains again and again, listens to everything, and reads nothing, until it is not read either.
    let mut slow = Wire::open(&lab, "libvirt-sock");
    assert_eq!(slow.call(316, &[0; 8]).0[5], 0);
    slow.0.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let packet: Vec<u8> = [36u32, 0x2000_8086, 1, 273, 0, 9, 0, 1, 3].into_iter().flat_map(u32::to_be_bytes).collect();
    let asked = (0..10_000_000).find(|_| slow.0.write_all(&packet).is_err());
    assert!(asked.is_some(), "whoever does not read is not read for ever");
    // Others are served, and what it does not read does not grow.
    let status = |lab: &Lab| std::fs::read_to_string(format!("/proc/{}/status", lab.pid())).unwrap();
    let resident = |lab: &Lab| -> u64 {
        let text = status(lab);
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_string();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    for _ in 0..100 {
        assert_eq!(wire.call(273, &[0, 0, 0, 1, 0, 0, 0, 3]).0[5], 0);
    }
    lab.ok(&["start", "d0"]);
    assert!(resident(&lab) < 200 * 1024, "{}", status(&lab));
    drop((slow, wire));
    lab.finish();
}
