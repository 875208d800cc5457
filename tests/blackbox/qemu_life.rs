//! Real guests: from Nova's XML to an answer to ping, and all the way back.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::harness::bus::{DOMAIN, QEMU};
use crate::harness::guest::qemu_img;
use crate::harness::lab::ip;
use crate::harness::{DEADLINE, Guest, Lab, eventually, skip, soon, test_name};

/// The value of an attribute in the first element of `xml` that starts with `element`.
pub fn attribute(xml: &str, element: &str, name: &str) -> String {
    let start = xml.find(&format!("<{element}")).unwrap_or_else(|| panic!("no <{element}> in\n{xml}"));
    let tag = &xml[start..start + xml[start..].find('>').unwrap()];
    let at = tag.find(&format!("{name}='")).unwrap_or_else(|| panic!("no {name} in {tag}>"));
    let value = &tag[at + name.len() + 2..];
    value[..value.find('\'').unwrap()].to_string()
}

/// The guest's first serial line, by the pty that the live XML names.
pub fn serial_pty(lab: &Lab, name: &str) -> String {
    let xml = lab.ok(&["dumpxml", name]);
    let serial = &xml[xml.find("<serial type='pty'").expect("a pty serial line")..];
    attribute(serial, "source", "path")
}

/// Types a line into the guest's shell until its console log has `answer` once more than before. More than once
/// because a shell that is just starting throws away what was typed before it.
pub fn type_into(lab: &Lab, guest: &Guest, line: &str, answer: &str) {
    let before = guest.console_log().matches(answer).count();
    let mut pty = fs::OpenOptions::new().read(true).write(true).open(serial_pty(lab, &guest.name)).unwrap();
    eventually(&format!("the answer {answer:?} to {line:?}"), DEADLINE, || {
        pty.write_all(format!("{line}\n").as_bytes()).unwrap();
        soon(Duration::from_secs(8), || (guest.console_log().matches(answer).count() > before).then_some(()))
    });
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

#[test]
fn novas_guest_from_define_to_undefine() {
    let Some(mut lab) = Lab::qemu() else { return };
    let Some(guest) = Guest::new(&mut lab, 1) else { return };
    let disk = guest.directory.join("disk");
    let before: Vec<_> = [&disk, &guest.base].iter().map(|path| owner(path)).collect();

    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    assert_eq!(lab.state(&guest.name), "running");

    // The process: not root, not nobody, in the sandbox, no capabilities.
    let status = fs::read_to_string(format!("/proc/{}/status", guest.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len() + 1..].split_whitespace().next().unwrap().to_string()
    };
    let uid: u32 = field("Uid").parse().unwrap();
    assert!(uid != 0 && uid != 65534, "QEMU runs as uid {uid}");
    assert_eq!(field("CapEff"), "0000000000000000");
    assert_eq!(field("Seccomp"), "2");
    assert_eq!(owner(&disk).0, uid, "the overlay is given to QEMU's user");

    // The link: named and in the bridge as the XML says.
    let link = ip(&format!("-d link show dev {}", guest.tap));
    assert!(link.contains("master qbr0") && link.contains("mtu 1450"), "{link}");

    guest.wait_booted();
    let console = guest.console_log();
    for word in ["domus base image", "52:54:00:ac:ce:01 mtu 1450"] {
        assert!(console.contains(word), "the guest should say {word:?}:\n{console}");
    }
    guest.wait_pings();

    // VNC answers where the live XML says.
    let xml = lab.ok(&["dumpxml", &guest.name]);
    let port: u16 = attribute(&xml, "graphics", "port").parse().unwrap();
    let mut vnc = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut greeting = [0; 3];
    vnc.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"RFB");
    drop(vnc);

    let stats = lab.ok(&["domstats", &guest.name]);
    for word in [
        "state.state=1",
        "cpu.time=",
        "balloon.current=262144",
        "vcpu.current=1",
        &format!("net.0.name={}", guest.tap),
        "net.0.rx.bytes=",
        "block.count=2",
        "block.0.name=vda",
        "block.0.rd.reqs=",
    ] {
        assert!(stats.contains(word), "domstats should have {word}:\n{stats}");
    }

    lab.ok(&["suspend", &guest.name]);
    assert_eq!(lab.state(&guest.name), "paused");
    assert!(!guest.pings(), "a paused guest does not answer");
    lab.ok(&["resume", &guest.name]);
    guest.wait_pings();

    lab.ok(&["reset", &guest.name]);
    guest.wait_says("domus-guest: ready", 2);

    lab.ok(&["shutdown", &guest.name]);
    lab.wait_state(&guest.name, "shut off");
    assert!(guest.console_log().contains("domus-guest: power button"));
    let bus = lab.bus();
    assert_eq!(bus.state(&bus.lookup(QEMU, &guest.name)), (5, 1), "shut off, by shutdown");
    drop(bus);

    let after: Vec<_> = [&disk, &guest.base].iter().map(|path| owner(path)).collect();
    assert_eq!(after, before, "owners of the images");
    lab.check_no_guest_left();
    lab.ok(&["undefine", &guest.name]);
    lab.finish();
}

#[test]
fn writes_stay_in_the_overlay() {
    let Some(mut lab) = Lab::qemu() else { return };
    let Some(guest) = Guest::new(&mut lab, 1) else { return };
    let base = fs::read(&guest.base).unwrap();
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    guest.wait_booted();
    type_into(
        &lab,
        &guest,
        "echo written-by-guest | dd of=/dev/vda bs=512 seek=64 conv=fsync; sync; echo do''ne",
        "done",
    );
    lab.ok(&["destroy", &guest.name]);
    assert!(fs::read(&guest.base).unwrap() == base, "the base image must not change");
    let disk = guest.directory.join("disk");
    let raw = guest.directory.join("flat");
    qemu_img(&["convert", "-O", "raw", disk.to_str().unwrap(), raw.to_str().unwrap()]);
    let flat = fs::read(&raw).unwrap();
    assert!(flat.starts_with(b"domus base image\n"));
    assert!(flat[64 * 512..].starts_with(b"written-by-guest"));
    lab.finish();
}

#[test]
fn reboot_is_one_run() {
    let Some(mut lab) = Lab::qemu() else { return };
    let Some(guest) = Guest::new(&mut lab, 1) else { return };
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    guest.wait_booted();
    let pid = guest.pid();
    let bus = lab.bus();
    let path = bus.lookup(QEMU, &guest.name);
    let mut signals = bus.listen();
    // From inside: the guest asks its machine to reset.
    type_into(&lab, &guest, "reboot -f", "domus-guest: init");
    guest.wait_says("domus-guest: ready", 2);
    assert_eq!(guest.pid(), pid);
    let heard = std::iter::from_fn(|| signals.next(Duration::from_secs(2))).any(|(_, member, _)| member == "Reboot");
    assert!(heard, "no Reboot signal");
    assert_eq!(bus.state(&path).0, 1);
    drop(signals);
    drop(bus);
    lab.finish();
}

#[test]
fn a_guest_that_powers_itself_off_is_shut_off() {
    let Some(mut lab) = Lab::qemu() else { return };
    let Some(guest) = Guest::new(&mut lab, 1) else { return };
    lab.define(&guest.xml);
    let bus = lab.bus();
    let mut signals = bus.listen();
    lab.ok(&["start", &guest.name]);
    guest.wait_booted();
    let mut pty = fs::OpenOptions::new().write(true).open(serial_pty(&lab, &guest.name)).unwrap();
    type_into(&lab, &guest, "echo rea''dy-to-go", "ready-to-go");
    pty.write_all(b"poweroff -f\n").unwrap();
    lab.wait_state(&guest.name, "shut off");
    // started booted, then (shutdown finished by the guest,) stopped by shutdown
    let events = signals.domain_events(4, Duration::from_secs(3));
    assert_eq!(events.first(), Some(&(2, 0)), "{events:?}");
    assert_eq!(events.last(), Some(&(5, 0)), "{events:?}");
    drop(signals);
    drop(bus);
    lab.check_no_guest_left();
    lab.finish();
}

#[test]
fn console_shows_the_serial_line() {
    let Some(mut lab) = Lab::qemu() else { return };
    let Some(guest) = Guest::new(&mut lab, 1) else { return };
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    guest.wait_booted();
    let mut child = lab
        .cli(&["console", &guest.name])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(count @ 1..) = stdout.read(&mut part) {
            if send.send(part[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut seen = Vec::new();
    eventually("the shell's answer on the console", DEADLINE, || {
        let _ = stdin.write_all(b"\necho co''nsole-$((6*7))\n");
        let _ = stdin.flush();
        soon(Duration::from_secs(3), || {
            seen.extend(receive.try_iter().flatten());
            String::from_utf8_lossy(&seen).contains("console-42").then_some(())
        })
    });
    drop(stdin);
    let _ = child.kill();
    let _ = child.wait();
    lab.finish();
}

#[test]
fn a_transient_guest_leaves_nothing() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    let file = lab.write("t.xml", &guest.xml);
    lab.ok(&["create", &file]);
    assert_eq!(lab.state(&guest.name), "running");
    let bus = lab.bus();
    assert!(!bool::try_from(bus.property(&bus.lookup(QEMU, &guest.name), DOMAIN, "Persistent")).unwrap());
    drop(bus);
    lab.ok(&["destroy", &guest.name]);
    assert_eq!(lab.names(), Vec::<String>::new());
    lab.check_no_guest_left();
    lab.finish();
}

#[test]
fn two_guests_share_a_base_and_a_bridge() {
    let Some(mut lab) = Lab::qemu() else { return };
    let one = Guest::blank(&mut lab, 1);
    let two = Guest::blank(&mut lab, 2);
    let disk = two.directory.join("disk");
    qemu_img(&["rebase", "-q", "-u", "-F", "raw", "-b", one.base.to_str().unwrap(), disk.to_str().unwrap()]);
    lab.define(&one.xml);
    lab.define(&two.xml);
    let before = owner(&one.base);
    lab.ok(&["start", &one.name]);
    lab.ok(&["start", &two.name]);
    lab.ok(&["destroy", &one.name]);
    // The base still has a user, so the other guest can still read it.
    assert_eq!(lab.state(&two.name), "running");
    lab.ok(&["reset", &two.name]);
    lab.ok(&["destroy", &two.name]);
    assert_eq!(owner(&one.base), before);
    lab.finish();
}

#[test]
fn paused_start_and_kvm() {
    let Some(mut lab) = Lab::qemu() else { return };
    let mut guest = Guest::blank(&mut lab, 1);
    lab.define(&guest.xml);
    lab.ok(&["start", "--paused", &guest.name]);
    assert_eq!(lab.state(&guest.name), "paused");
    lab.ok(&["resume", &guest.name]);
    assert_eq!(lab.state(&guest.name), "running");
    lab.ok(&["destroy", &guest.name]);
    lab.ok(&["undefine", &guest.name]);

    if !kvm_works() {
        skip(&test_name(), "the kvm half: /dev/kvm makes no virtual machine here");
        lab.finish();
        return;
    }
    // Started paused only: some hosts can create KVM machines and hang running them.
    guest.change("<domain type=\"qemu\"", "<domain type=\"kvm\"");
    // Nested hosts often cannot give a guest all that their own CPU claims to have.
    guest.xml = crate::harness::guest::without_element(&guest.xml, "cpu ");
    lab.define(&guest.xml);
    lab.ok(&["start", "--paused", &guest.name]);
    assert_eq!(lab.state(&guest.name), "paused");
    let argv = fs::read(format!("/proc/{}/cmdline", guest.pid())).unwrap();
    assert!(String::from_utf8_lossy(&argv).contains("kvm"));
    lab.ok(&["destroy", &guest.name]);
    lab.finish();
}

/// Whether a bare QEMU gets a KVM machine as far as its monitor.
fn kvm_works() -> bool {
    if fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return false;
    }
    let mut command = std::process::Command::new("qemu-system-x86_64");
    command.args(["-S", "-accel", "kvm", "-machine", "pc", "-nodefaults", "-display", "none", "-monitor", "stdio"]);
    crate::harness::run_with_input(&mut command, "quit\n", DEADLINE).success()
}

#[test]
fn autostart_starts_with_the_daemon() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    lab.define(&guest.xml);
    lab.ok(&["autostart", &guest.name]);
    lab.restart();
    lab.wait_state(&guest.name, "running");
    lab.finish();
}

#[test]
fn an_ethernet_interface_may_be_somebody_elses() {
    let Some(mut lab) = Lab::qemu() else { return };
    let mut guest = Guest::blank(&mut lab, 1);
    ip("tuntap add dev mytap0 mode tap vnet_hdr");
    ip("link set mytap0 up");
    lab.forget_links();
    guest.change("<interface type=\"bridge\">", "<interface type=\"ethernet\">");
    guest.change("<source bridge=\"qbr0\"/>", "");
    let tap = guest.tap.clone();
    guest.change(&format!("<target dev=\"{tap}\"/>"), "<target dev=\"mytap0\" managed=\"no\"/>");
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    assert_eq!(lab.state(&guest.name), "running");
    lab.ok(&["destroy", &guest.name]);
    assert!(ip("link show dev mytap0").contains("mytap0"), "a link that is not ours stays");
    lab.finish();
}

#[test]
fn qemu_runs_as_the_configured_user() {
    let Some(mut lab) = Lab::qemu_unstarted() else { return };
    let users: Vec<_> =
        ["libvirt-qemu", "domus-qemu"].iter().filter_map(|name| nix::unistd::User::from_name(name).unwrap()).collect();
    assert!(!users.is_empty(), "scripts/setup.sh makes one of them");
    let guest = Guest::blank(&mut lab, 1);
    let disk = guest.directory.join("disk");
    for user in &users {
        lab.configure(&format!("[qemu]\nuser = \"{}\"\n", user.name));
        lab.start();
        lab.define(&guest.xml);
        lab.ok(&["start", &guest.name]);
        let status = fs::read_to_string(format!("/proc/{}/status", guest.pid())).unwrap();
        let wanted = format!("Uid:\t{0}\t{0}\t{0}\t{0}", user.uid);
        assert!(status.contains(&wanted), "{status}");
        assert_eq!(owner(&disk).0, user.uid.as_raw());
        lab.ok(&["destroy", &guest.name]);
        assert_eq!(owner(&disk).0, 0);
        lab.stop();
    }
    lab.finish();
}
