//! Debian's own virsh, unmodified, against the daemon.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use crate::harness::container::Container;
use crate::harness::{DEADLINE, Guest, Lab, Virsh, eventually, soon};
use crate::mock_life::xml;

#[test]
fn a_domain_lives_under_virsh() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let file = lab.write("one.xml", &xml("one"));
    assert!(virsh.ok(&["define", &file]).contains("Domain 'one' defined from"));
    assert!(virsh.ok(&["list", "--all"]).contains("shut off"));
    virsh.ok(&["start", "one"]);
    assert_eq!(virsh.ok(&["domstate", "one", "--reason"]).trim(), "running (booted)");
    virsh.ok(&["suspend", "one"]);
    assert_eq!(virsh.ok(&["domstate", "one"]).trim(), "paused");
    virsh.ok(&["resume", "one"]);
    let info = virsh.ok(&["dominfo", "one"]);
    for line in ["Id:             1", "State:          running", "Persistent:     yes", "Max memory:     8192 KiB"] {
        assert!(info.contains(line), "{info}");
    }
    assert!(virsh.ok(&["domstats", "one"]).contains("balloon.maximum=8192"));
    assert!(virsh.ok(&["dumpxml", "one"]).starts_with("<domain type='test' id='1'>"));
    assert_eq!(virsh.ok(&["domid", "one"]).trim(), "1");
    virsh.ok(&["autostart", "one"]);
    assert!(virsh.ok(&["list", "--autostart", "--name"]).contains("one"));
    virsh.ok(&["desc", "one", "--live", "--config", "what it is for"]);
    assert_eq!(virsh.ok(&["desc", "one"]).trim(), "what it is for");
    virsh.ok(&["metadata", "one", "urn:example", "--key", "ex", "--set", "<owner>me</owner>"]);
    assert_eq!(virsh.ok(&["metadata", "one", "urn:example"]).trim(), "<owner>me</owner>");
    assert!(virsh.ok(&["dumpxml", "one"]).contains("<ex:owner xmlns:ex=\"urn:example\">me</ex:owner>"));
    virsh.ok(&["metadata", "one", "urn:example", "--remove"]);
    // Which is a failure to older ones.
    assert_eq!(virsh.run(&["metadata", "one", "urn:example"]).stdout.trim(), "");
    virsh.ok(&["reboot", "one"]);
    virsh.ok(&["shutdown", "one"]);
    eventually("the domain is off", DEADLINE, || (virsh.ok(&["domstate", "one"]).trim() == "shut off").then_some(()));
    virsh.ok(&["domrename", "one", "two"]);
    virsh.ok(&["undefine", "two"]);
    assert_eq!(virsh.ok(&["list", "--all", "--name"]).trim(), "");
    lab.finish();
}

#[test]
fn the_host_is_described() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    assert!(virsh.ok(&["version"]).contains("Test"));
    assert!(virsh.ok(&["capabilities"]).contains("<capabilities>"));
    assert!(virsh.ok(&["domcapabilities"]).contains("<domainCapabilities>"));
    assert!(virsh.ok(&["nodeinfo"]).contains("CPU(s):"));
    assert!(virsh.ok(&["nodecpustats"]).contains("user:"));
    assert!(virsh.ok(&["nodememstats"]).contains("total"));
    assert!(virsh.ok(&["nodecpumap"]).contains("CPUs present:"));
    assert!(!virsh.ok(&["hostname"]).trim().is_empty());
    assert!(virsh.ok(&["sysinfo", "--help"]).contains("sysinfo"));
    lab.finish();
}

#[test]
fn errors_are_libvirts() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    virsh.fails(&["start", "nobody"], "failed to get domain 'nobody'");
    let file = lab.write("bad.xml", "<domain type='test'><nmae>x</nmae></domain>");
    virsh.fails(&["define", &file], "Failed to define domain from");
    virsh.fails(&["allocpages", "4", "1"], "this function is not supported by the connection driver");
    let file = lab.write("one.xml", &xml("one"));
    virsh.ok(&["define", &file]);
    virsh.fails(&["destroy", "one"], "domain is not running");
    let reader = Virsh::on(&lab, "test:///default", "libvirt-sock-ro").unwrap();
    assert!(reader.ok(&["list", "--all"]).contains("one"));
    reader.fails(&["start", "one"], "read only");
    lab.finish();
}

#[test]
fn events_arrive_in_order() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let mut listener = virsh.command(&["event", "--all", "--loop", "--timeout", "20"]);
    let listener = listener.stdout(Stdio::piped()).spawn().unwrap();
    // virsh says nothing once it listens: a domain that comes and goes until the listener must have seen one.
    let file = lab.write("one.xml", &xml("one"));
    std::thread::sleep(Duration::from_millis(500));
    virsh.ok(&["define", &file]);
    virsh.ok(&["start", "one"]);
    virsh.ok(&["suspend", "one"]);
    virsh.ok(&["resume", "one"]);
    virsh.ok(&["destroy", "one"]);
    virsh.ok(&["undefine", "one"]);
    std::thread::sleep(Duration::from_millis(200));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(listener.id() as i32), nix::sys::signal::Signal::SIGINT).unwrap();
    let text = String::from_utf8(listener.wait_with_output().unwrap().stdout).unwrap();
    let seen: Vec<&str> = text.lines().filter_map(|line| line.split_once("'one': ").map(|(_, what)| what)).collect();
    assert_eq!(
        seen,
        [
            "Defined Added",
            "Started Booted",
            "Suspended Paused",
            "Resumed Unpaused",
            "Stopped Destroyed",
            "Undefined Removed"
        ],
        "{text}"
    );
    lab.finish();
}

#[test]
fn a_virtual_machine_lives_under_virsh() {
    let Some(mut lab) = Lab::qemu() else { return };
    let Some(guest) = Guest::new(&mut lab, 1) else { return };
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    let file = lab.write("guest.xml", &guest.xml);
    virsh.ok(&["define", &file]);
    let name = guest.name.as_str();
    virsh.ok(&["start", name]);
    guest.wait_booted();
    assert!(virsh.ok(&["version"]).contains("QEMU"));
    assert_eq!(virsh.ok(&["domstate", name]).trim(), "running");
    assert!(virsh.ok(&["domblklist", name]).contains("vda"));
    assert!(virsh.ok(&["domiflist", name]).contains("bridge"));
    assert!(virsh.ok(&["domstats", name]).contains("cpu.time="));
    assert!(virsh.ok(&["domblkstat", name, "vda"]).contains("vda rd_req"));
    virsh.fails(&["domblkstat", name, "vdz"], "invalid path");
    let tap = virsh.ok(&["domiflist", name]);
    let tap = tap.lines().nth(2).and_then(|line| line.split_whitespace().next()).unwrap().to_string();
    assert!(virsh.ok(&["domifstat", name, &tap]).contains("rx_bytes"));
    virsh.ok(&["destroy", name]);
    virsh.ok(&["undefine", name]);
    lab.finish();
}

#[test]
fn a_container_is_tuned_and_typed_at_under_virsh() {
    let Some(lab) = Lab::lxc() else { return };
    let Some(virsh) = Virsh::on(&lab, "lxc:///system", "libvirt-sock") else { return };
    let container = Container::new(&lab, 1, "exec /bin/sh -i");
    let name = container.name.as_str();
    let file = lab.write("box.xml", &container.xml);
    virsh.ok(&["define", &file]);
    virsh.ok(&["start", name]);
    assert!(virsh.ok(&["version"]).contains("LXC"));
    virsh.ok(&["memtune", name, "--hard-limit", "40960", "--live"]);
    assert!(virsh.ok(&["memtune", name]).contains("hard_limit     : 40960"));
    virsh.ok(&["schedinfo", name, "--set", "cpu_shares=512", "--live"]);
    assert!(virsh.ok(&["schedinfo", name]).contains("cpu_shares     : 512"));
    virsh.ok(&["setmem", name, "32768", "--live"]);
    assert!(virsh.ok(&["dominfo", name]).contains("Used memory:"));
    assert!(virsh.ok(&["vcpucount", name]).contains("current      live"));
    virsh.fails(&["setvcpus", name, "100", "--config"], "error:");

    // virsh wants a terminal: script(1) gives it one.
    let mut console = lab.program("script");
    let line = format!("virsh -c '{}' console {name}", virsh.uri);
    console.args(["-qfec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut console = console.spawn().unwrap();
    let mut keys = console.stdin.take().unwrap();
    let mut screen = console.stdout.take().unwrap();
    let mut shown = String::new();
    let mut shows = |text: &str| {
        let mut part = [0; 4096];
        while !shown.contains(text) {
            let count = screen.read(&mut part).unwrap();
            assert!(count > 0, "virsh ended before it showed {text:?}: {shown}");
            shown.push_str(&String::from_utf8_lossy(&part[..count]));
        }
    };
    shows("Escape character is");
    // virsh drops what was typed before it made the terminal raw, and does not say when it has: typed until it is heard.
    eventually("an answer of the shell", DEADLINE, || {
        keys.write_all(b"echo typed-$((40 + 2))\n").unwrap();
        soon(Duration::from_secs(1), || container.log().contains("typed-42").then_some(()))
    });
    shows("typed-42");
    container.shows("typed-42");
    keys.write_all(b"\x1d").unwrap();
    assert!(console.wait().unwrap().success());

    virsh.ok(&["destroy", name]);
    virsh.ok(&["undefine", name]);
    lab.finish();
}
