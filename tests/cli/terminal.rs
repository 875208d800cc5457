//! `console`: with pipes and on a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use super::fake::Fake;
use super::harness::{DEADLINE, domus, finish, run};

const GREETING: &str = "Connected to domain 'vm'\nEscape character is ^] (Ctrl + ])\n";

#[test]
fn pipes_work_and_the_guest_may_hang_up() {
    let fake = Fake::new();
    let out = run(domus().arg("--root").arg(fake.root()).args(["console", "vm"]), "hello\nbye\n");
    assert_eq!(out.stdout, format!("{GREETING}got: hello\r\n\n"));
    assert_eq!((out.code, out.stderr.as_str()), (Some(0), ""));
}

#[test]
fn the_escape_key_ends_it() {
    let fake = Fake::new();
    // What follows the key is not for the guest.
    let out = run(domus().arg("--root").arg(fake.root()).args(["-q", "console", "vm"]), "\x1dhello\n");
    assert_eq!((out.code, out.stdout.as_str()), (Some(0), ""));
    let out = run(domus().arg("--root").arg(fake.root()).args(["-e", "^A", "console", "vm"]), "\x01");
    assert_eq!(out.stdout, "Connected to domain 'vm'\nEscape character is ^A (Ctrl + A)\n\n");
}

#[test]
fn without_input_it_follows_until_the_time_is_over() {
    let fake = Fake::new();
    let out = fake.run(&["-q", "console", "vm", "--timeout", "0.2"]);
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn a_console_that_is_not_there_is_refused() {
    let fake = Fake::new();
    let out = fake.run(&["console", "vm", "--devname", "none"]);
    assert_eq!(out.stderr, "error: operation failed: cannot find character device none\n");
    assert_eq!(fake.run(&["console", "box"]).stderr, "error: The domain is not running\n");
}

/// The client on a terminal of its own.
struct Terminal {
    /// The user's end.
    user: File,
    /// The client's end, to look at its modes.
    theirs: OwnedFd,
    client: Child,
    seen: String,
}

impl Terminal {
    fn new(fake: &Fake) -> Terminal {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let name = ptsname(&user, Vec::new()).unwrap();
        let theirs = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let client = domus()
            .arg("--root")
            .arg(fake.root())
            .args(["console", "vm"])
            .stdin(Stdio::from(theirs.try_clone().unwrap()))
            .stdout(Stdio::from(theirs.try_clone().unwrap()))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Terminal { user: File::from(user), theirs: theirs.into(), client, seen: String::new() }
    }

    fn type_in(&mut self, text: &str) {
        self.user.write_all(text.as_bytes()).unwrap();
    }

    /// Reads on until the screen shows `text`.
    fn wait_for(&mut self, text: &str) {
        let mut part = [0; 1024];
        while !self.seen.contains(text) {
            let count = self.user.read(&mut part).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&part[..count]));
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(self.theirs.as_fd()).unwrap().local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    fn wait_raw(&self) {
        let end = Instant::now() + DEADLINE;
        while !self.is_raw() {
            assert!(Instant::now() < end, "the terminal does not become raw");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

#[test]
fn the_terminal_is_raw_meanwhile_and_as_before_afterwards() {
    let fake = Fake::new();
    let mut terminal = Terminal::new(&fake);
    terminal.wait_for("Escape character is ^] (Ctrl + ])");
    terminal.wait_raw();
    // In raw mode Ctrl-C is a byte for the guest.
    terminal.type_in("a\x03b\r");
    terminal.wait_for("got: a\x03b");
    terminal.type_in("\x1d");
    let Terminal { user, theirs, client, .. } = terminal;
    assert_eq!(finish(client).code, Some(0));
    assert!(tcgetattr(theirs.as_fd()).unwrap().local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
    drop(user);
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    let fake = Fake::new();
    let mut terminal = Terminal::new(&fake);
    terminal.wait_for("Escape character");
    terminal.wait_raw();
    kill(Pid::from_raw(terminal.client.id().cast_signed()), Signal::SIGTERM).unwrap();
    let Terminal { user, theirs, client, .. } = terminal;
    finish(client);
    assert!(tcgetattr(theirs.as_fd()).unwrap().local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
    drop(user);
}
