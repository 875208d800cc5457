//! Programs in containers: they see the container, tell how they ended, and never outlive who asked for them.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::time::Duration;

use crate::harness::bus::{LXC, TEST};
use crate::harness::container::Container;
use crate::harness::{Bus, DEADLINE, Lab, eventually, run_with_input, soon};

const DOMUS: &str = "org.domus.Domain1";

fn running() -> Option<(Lab, Container)> {
    let lab = Lab::lxc()?;
    let guest = Container::new(&lab, 1, "echo up; while true; do sleep 1000; done");
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    guest.shows("up");
    Some((lab, guest))
}

/// What a shell in the container prints.
fn sh(lab: &Lab, guest: &Container, script: &str) -> String {
    lab.ok(&["exec", &guest.name, "--", "sh", "-c", script])
}

/// Processes of the host whose command line has this word.
fn processes(word: &str) -> Vec<i32> {
    let pids =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|part| part == word.as_bytes())
    };
    pids.filter(has).collect()
}

fn gone(word: &str) {
    let left = soon(Duration::from_secs(20), || processes(word).is_empty().then_some(()));
    assert!(left.is_some(), "still there: {:?}", processes(word));
}

#[test]
fn ends_streams_and_arguments() {
    let Some((lab, guest)) = running() else { return };
    let name = &*guest.name;
    assert_eq!(sh(&lab, &guest, "echo hello; echo $0 $#"), "hello\nsh 0");
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 137), ("kill $$", 143)] {
        assert_eq!(lab.run(&["exec", name, "--", "sh", "-c", script]).code, Some(code), "{script}");
    }
    let out = lab.run(&["exec", name, "--", "/bin/nothing"]);
    assert_eq!(out.code, Some(127));
    assert!(out.stderr.contains("no such program"), "{}", out.stderr);
    let out = lab.run(&["exec", name, "--", "/etc"]);
    assert_eq!(out.code, Some(126), "{}", out.stderr);
    let out = lab.run(&["exec", name, "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\n", "err\n"));
    let out = run_with_input(&mut lab.cli(&["exec", name, "--", "wc", "-c"]), &"x".repeat(100_000), DEADLINE);
    assert_eq!(out.stdout.trim(), "100000");
    // More than any pipe or socket holds.
    let mut child = lab.cli(&["exec", name, "--", "dd", "if=/dev/zero", "bs=65536", "count=512"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let copied = std::io::copy(&mut child.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
    assert_eq!((copied, child.wait().unwrap().code()), (512 * 65536, Some(0)));
    // virsh's name of it.
    let out = lab.run(&["lxc-enter-namespace", name, "--noseclabel", "--", "/bin/sh", "-c", "exit 7"]);
    assert_eq!(out.code, Some(7), "{}", out.stderr);
    lab.finish();
}

#[test]
fn it_is_in_the_container_with_no_more_rights_than_init() {
    let Some((lab, guest)) = running() else { return };
    let name = &*guest.name;
    assert_eq!(sh(&lab, &guest, "ls /proc/self/fd"), "0\n1\n2\n3", "3 is ls's own");
    let word = |field: &str, process: &str| sh(&lab, &guest, &format!("grep ^{field}: /proc/{process}/status"));
    for field in ["CapBnd", "CapEff", "CapPrm", "Seccomp"] {
        assert_eq!(word(field, "self"), word(field, "1"), "{field}");
    }
    for space in ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup"] {
        let of = |process: &str| sh(&lab, &guest, &format!("readlink /proc/{process}/ns/{space}"));
        assert_eq!(of("self"), of("1"), "{space}");
    }
    assert_eq!(sh(&lab, &guest, "cat /proc/self/cgroup | sort"), sh(&lab, &guest, "cat /proc/1/cgroup | sort"));
    assert_eq!(sh(&lab, &guest, "id -u; pwd"), "0\n/");
    let with = |options: &[&str], script: &str| {
        let mut words = vec!["exec"];
        words.extend(options);
        words.extend([name, "--", "sh", "-c", script]);
        lab.ok(&words)
    };
    assert_eq!(with(&["--user", "1000", "--group", "1001"], "id -u; id -g"), "1000\n1001");
    assert_eq!(with(&["--cwd", "/tmp"], "pwd"), "/tmp");
    assert_eq!(with(&["--env", "A=b c", "--env", "HOME=/x"], "echo \"$A\" $HOME $container"), "b c /x lxc-libvirt");
    let out = lab.run(&["exec", name, "--cwd", "/nowhere", "--", "true"]);
    assert_eq!(out.code, Some(126), "{}", out.stderr);
    lab.fails_with(&["exec", "--cwd", "tmp", name, "--", "true"], &["not an absolute path"]);
    // Directories that lead out, as in CVE-2024-21626.
    for dir in ["/proc/self/fd/3", "/proc/self/fd/5", "/proc/1/root/../../..", "/proc/self/cwd"] {
        let out = lab.run(&["exec", name, "--cwd", dir, "--", "sh", "-c", "cat init"]);
        assert!(out.code == Some(126) || out.stdout.contains("echo up"), "{dir}: {} {}", out.stdout, out.stderr);
    }
    lab.finish();
}

#[test]
fn it_is_refused_where_nothing_runs() {
    let Some((lab, guest)) = running() else { return };
    let name = &*guest.name;
    lab.ok(&["suspend", name]);
    lab.fails_with(&["exec", name, "--", "true"], &["Requested operation is not valid", "paused"]);
    lab.ok(&["resume", name]);
    lab.ok(&["destroy", name]);
    lab.fails_with(&["exec", name, "--", "true"], &["domain is not running"]);
    lab.finish();
    let lab = Lab::mock();
    let bus = lab.bus();
    let path =
        bus.define(TEST, "<domain type='test'><name>t</name><memory>1024</memory><os><type>hvm</type></os></domain>");
    let _: () = bus.call(&path, "org.libvirt.Domain", "Create", &(0u32,));
    let body = (vec!["true"], Vec::<&str>::new(), "", "", "", Vec::<zbus::OwnedFd>::new(), (0u16, 0u16), 1u32);
    let refused = bus.refused(&path, DOMUS, "Exec", &body);
    assert!(refused.message.starts_with("this function is not supported"), "{}", refused.message);
    drop(bus);
    lab.finish();
}

#[test]
fn a_client_that_dies_takes_it_along() {
    let Some((lab, guest)) = running() else { return };
    let name = &*guest.name;
    let script = "sleep 4711 & sleep 4711 & wait";
    let mut command = lab.cli(&["exec", name, "--", "sh", "-c", script]);
    let mut client = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    eventually("the program", DEADLINE, || (processes("4711").len() == 2).then_some(()));
    client.kill().unwrap();
    client.wait().unwrap();
    gone("4711");
    // A signal to the client is the program's, which may take it its own way.
    let script = "trap 'exit 42' TERM; echo ready; while true; do sleep 0.1; done";
    let mut command = lab.cli(&["exec", name, "--", "sh", "-c", script]);
    let mut client = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 6];
    std::io::Read::read_exact(client.stdout.as_mut().unwrap(), &mut line).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(client.id().cast_signed()), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(42));
    lab.finish();
}

#[test]
fn it_outlives_the_daemon_but_not_the_container() {
    let Some((mut lab, guest)) = running() else { return };
    let name = guest.name.clone();
    let start = |lab: &Lab, script: &str| {
        let mut command = lab.cli(&["exec", &name, "--", "sh", "-c", script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut client = start(&lab, "echo ready; read line; echo got $line; exit 5");
    let mut out = client.stdout.take().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(&mut out, &mut ready).unwrap();
    lab.crash();
    lab.start();
    client.stdin.take().unwrap().write_all(b"word\n").unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    assert_eq!((rest.as_str(), client.wait().unwrap().code()), ("got word\n", Some(5)));
    let mut client = start(&lab, "echo ready; sleep 4712");
    std::io::Read::read_exact(client.stdout.as_mut().unwrap(), &mut ready).unwrap();
    lab.ok(&["destroy", &name]);
    assert_eq!(client.wait().unwrap().code(), Some(137));
    gone("4712");
    lab.finish();
}

fn exec_on_bus(bus: &Bus, path: &str, argv: &[&str], size: (u16, u16)) -> (OwnedFd, OwnedFd) {
    let body = (argv, vec!["TERM=dumb"], "", "", "", Vec::<zbus::OwnedFd>::new(), size, 1u32);
    let (control, mut terminal): (zbus::OwnedFd, Vec<zbus::OwnedFd>) = bus.call(path, DOMUS, "Exec", &body);
    (control.into(), terminal.pop().expect("a terminal").into())
}

/// Reads a terminal until it has shown `text`.
fn read_until(terminal: &OwnedFd, text: &str) -> String {
    let mut seen = String::new();
    eventually(&format!("{text:?} on the terminal"), DEADLINE, || {
        let mut fds = [nix::poll::PollFd::new(terminal.as_fd(), nix::poll::PollFlags::POLLIN)];
        if nix::poll::poll(&mut fds, 100u16).unwrap() > 0 {
            let mut buffer = [0; 4096];
            let count = nix::unistd::read(terminal, &mut buffer).unwrap_or(0);
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]).replace('\r', ""));
        }
        seen.contains(text).then_some(())
    });
    seen
}

#[test]
fn a_terminal_of_its_own() {
    let Some((lab, guest)) = running() else { return };
    let bus = lab.bus();
    let path = bus.lookup(LXC, &guest.name);
    let script = "stty size; echo ready; read line; until test \"$(stty size)\" = '11 22'; do sleep 0.1; done; \
                  stty size; test -t 0 && echo is-tty; (echo x > /dev/tty); exit 9";
    let (control, terminal) = exec_on_bus(&bus, &path, &["sh", "-c", script], (31, 97));
    let seen = read_until(&terminal, "ready\n");
    assert!(seen.contains("31 97\n"), "{seen}");
    nix::sys::socket::send(
        std::os::fd::AsRawFd::as_raw_fd(&control),
        br#"{"call":"resize","rows":11,"columns":22}"#,
        nix::sys::socket::MsgFlags::empty(),
    )
    .unwrap();
    nix::unistd::write(&terminal, b"go\n").unwrap();
    let seen = read_until(&terminal, "is-tty\nx\n");
    assert!(seen.contains("11 22\n"), "{seen}");
    let mut text = [0; 256];
    let count = nix::unistd::read(&control, &mut text).unwrap();
    assert_eq!(String::from_utf8_lossy(&text[..count]), r#"{"event":"exited","status":9}"#);
    // Ctrl-C reaches what runs in it; closing the socket ends what does not care.
    let script = "trap 'echo caught' INT; echo ready; while true; do sleep 0.1; done; : 4713";
    let (control, terminal) = exec_on_bus(&bus, &path, &["sh", "-c", script], (24, 80));
    read_until(&terminal, "ready\n");
    nix::unistd::write(&terminal, b"\x03").unwrap();
    read_until(&terminal, "caught\n");
    // A shell that is just forking counts twice.
    assert!(!processes(script).is_empty());
    drop(control);
    gone(script);
    // Through the CLI: the exit status and the output are the program's.
    let out = lab.run(&["exec", "--tty", &guest.name, "--", "sh", "-c", "test -t 1 && echo yes; exit 4"]);
    assert_eq!((out.code, out.stdout.replace('\r', "")), (Some(4), "yes\n".to_string()), "{}", out.stderr);
    let streams = vec![zbus::OwnedFd::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap())];
    let body = (vec!["true"], Vec::<&str>::new(), "", "", "", streams, (0u16, 0u16), 0u32);
    let refused = bus.refused(&path, DOMUS, "Exec", &body);
    assert!(refused.message.contains("three standard streams are wanted, 1 were given"), "{}", refused.message);
    drop((terminal, bus));
    lab.finish();
}
