//! Consoles: one user at a time, taken over by force only, and as large as the user's terminal.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::harness::bus::LXC;
use crate::harness::container::Container;
use crate::harness::{DEADLINE, Guest, Lab, eventually, soon};

/// A client on the console, from the moment that it is connected.
fn connect(lab: &Lab, name: &str, options: &[&str]) -> Child {
    let mut words = vec!["console", name];
    words.extend(options);
    let mut child = lab.cli(&words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut seen = Vec::new();
    let out = child.stdout.as_mut().unwrap();
    while !seen.ends_with(b"Escape character is ^] (Ctrl + ])\n") {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    child
}

fn one_user_at_a_time(lab: &Lab, name: &str) {
    let mut first = connect(lab, name, &[]);
    let words = &["operation failed: Active console session exists for this domain"];
    lab.fails_with(&["console", name], words);
    lab.fails_with(&["console", name, "--safe"], words);
    let mut second = connect(lab, name, &["--force"]);
    let ended = soon(Duration::from_secs(20), || first.try_wait().unwrap());
    assert!(ended.is_some_and(|status| status.success()), "the first user's connection ends");
    lab.fails_with(&["console", name], words);
    // Free again when its user leaves.
    second.stdin.take().unwrap().write_all(b"\x1d").unwrap();
    assert!(second.wait().unwrap().success());
    eventually("a free console", DEADLINE, || {
        let mut third = lab
            .cli(&["console", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        third.stdin.take().unwrap().write_all(b"\x1d").unwrap();
        third.wait().unwrap().success().then_some(())
    });
}

#[test]
fn a_containers_console_has_one_user() {
    let Some(lab) = Lab::lxc() else { return };
    let guest = Container::new(&lab, 1, "echo up; while read line; do echo got $line; done; sleep 1000");
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    guest.shows("up");
    one_user_at_a_time(&lab, &guest.name);
    lab.finish();
}

#[test]
fn a_machines_console_has_one_user() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    one_user_at_a_time(&lab, &guest.name);
    // Nor does a connection keep the machine from ending. By force: the daemon may not have seen the last one leave.
    let mut client = connect(&lab, &guest.name, &["--force"]);
    lab.ok(&["destroy", &guest.name]);
    assert!(client.wait().unwrap().success());
    lab.finish();
}

#[test]
fn a_containers_console_has_its_users_size() {
    let Some(lab) = Lab::lxc() else { return };
    // An init has no controlling terminal and hears no SIGWINCH: it looks.
    let script =
        "echo up; while true; do now=$(stty size); test \"$now\" = \"$last\" || echo $now; last=$now; sleep 0.1; done";
    let guest = Container::new(&lab, 1, script);
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    guest.shows("up");
    let bus = lab.bus();
    let path = bus.lookup(LXC, &guest.name);
    let _: () = bus.call(&path, "org.domus.Domain1", "ResizeConsole", &("", 33u16, 111u16));
    guest.shows("33 111");
    let refused = bus.refused(&path, "org.domus.Domain1", "ResizeConsole", &("console7", 1u16, 1u16));
    assert!(refused.message.contains("cannot find console device 'console7'"), "{}", refused.message);
    // The CLI passes on its own terminal's size, at once and when it changes.
    let pty = nix::pty::openpty(None, None).unwrap();
    let size = |rows: u16, columns: u16| {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&pty.master, size).unwrap();
    };
    size(22, 77);
    let mut client = lab.cli(&["console", &guest.name]);
    client.stdin(Stdio::from(pty.slave.try_clone().unwrap())).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = client.spawn().unwrap();
    guest.shows("22 77");
    size(23, 78);
    // It is the terminal that tells its foreground group; here there is none.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(client.id().cast_signed()), nix::sys::signal::Signal::SIGWINCH)
        .unwrap();
    guest.shows("23 78");
    nix::unistd::write(&pty.master, b"\x1d").unwrap();
    assert!(client.wait().unwrap().success());
    drop(bus);
    lab.finish();
}
