//! `console`: the user's terminal joined to a guest's console.
//!
//! The daemon passes a file descriptor; from then on bytes go between it and standard input and output without the
//! daemon. Owns the terminal's raw mode, which is undone on every way out, a signal included.
//!
//! Works without a terminal too: then input is passed on until it ends, and output goes on until the console closes,
//! the escape byte comes, or `--timeout` is over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, SetArg, Termios};
use nix::unistd::{read, write};

use super::args::DomainArg;
use super::domains::{By, DOMUS_DOMAIN, Domain, Session};
use super::lifecycle;
use super::output::Failure;

/// `OpenConsole`: end another user's connection.
const FORCE: u32 = 1;

/// Bytes moved at once.
const CHUNK: usize = 16 * 1024;

/// Input read ahead of a guest that does not take it.
const AHEAD: usize = 64 * 1024;

/// Options of `console`.
#[derive(Debug, Args)]
pub struct ConsoleArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Alias of the console, serial port or channel (serial1); without it the first console
    #[arg(long, value_name = "ALIAS", default_value = "", hide_default_value = true)]
    devname: String,
    /// Take the console from another user
    #[arg(long)]
    force: bool,
    /// Let a paused guest run once connected
    #[arg(long)]
    resume: bool,
    /// Accepted for virsh's sake: a console has one user at a time always
    #[arg(long)]
    safe: bool,
}

/// `domus console`
pub async fn console(session: &Session, args: &ConsoleArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    if !lifecycle::is_active(session, &domain).await? {
        return Err(Failure::new("The domain is not running"));
    }
    attach(session, &domain, &args.devname, args.force, args.resume).await
}

/// Joins standard input and output to a console until one side ends. `resume`: let the guest run once we listen.
pub async fn attach(
    session: &Session,
    domain: &Domain,
    device: &str,
    force: bool,
    resume: bool,
) -> Result<(), Failure> {
    let flags = if force { FORCE } else { 0 };
    let fd: zbus::OwnedFd = session.client.call(&domain.path, DOMUS_DOMAIN, "OpenConsole", &(device, flags)).await?;
    if !session.out.json && !session.out.quiet {
        super::output::raw(&format!(
            "Connected to domain '{}'\nEscape character is {}\n",
            domain.name,
            key_name(session.escape)
        ));
    }
    if resume {
        lifecycle::resume_domain(session, domain).await?;
    }
    let broken = |error: io::Error| {
        Failure::new(format!("console of domain '{}': {}", domain.name, super::client::reason(&error)))
    };
    let (console, stdin) = (OwnedFd::from(fd), io::stdin());
    let mut join = Join::new(session.escape, session.timeout).map_err(broken)?;
    let _raw = RawMode::enter(stdin.as_fd()).map_err(broken)?;
    loop {
        if let Ok(size) = rustix::termios::tcgetwinsize(&stdin) {
            let body = (device, size.ws_row, size.ws_col);
            // A serial line has no size, and a libvirt-dbus no such call.
            let _: Result<(), _> = session.client.call(&domain.path, DOMUS_DOMAIN, "ResizeConsole", &body).await;
        }
        match join.run(&console).map_err(broken)? {
            Pause::Ended => return Ok(()),
            Pause::Resized => {}
        }
    }
}

/// Raw mode of a terminal, for as long as this lives.
pub(super) struct RawMode<'fd> {
    terminal: BorrowedFd<'fd>,
    before: Termios,
}

impl<'fd> RawMode<'fd> {
    /// `None` when it is not a terminal.
    pub(super) fn enter(terminal: BorrowedFd<'fd>) -> io::Result<Option<Self>> {
        let Ok(before) = termios::tcgetattr(terminal) else { return Ok(None) };
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(terminal, SetArg::TCSAFLUSH, &raw)?;
        Ok(Some(RawMode { terminal, before }))
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

/// The signals that end a program, as a descriptor, so that raw mode is undone; and the one that tells of a new size.
fn signals() -> io::Result<SignalFd> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGWINCH] {
        signals.add(signal);
    }
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Why bytes no longer flow.
enum Pause {
    Ended,
    /// The user's terminal has another size now.
    Resized,
}

/// The user's side of a console.
struct Join {
    escape: u8,
    end: Option<Instant>,
    signals: SignalFd,
    /// Typed, and not yet taken by the guest.
    pending: Vec<u8>,
    input_open: bool,
}

impl Join {
    fn new(escape: u8, limit: Option<Duration>) -> io::Result<Join> {
        let end = limit.map(|limit| Instant::now() + limit);
        Ok(Join { escape, end, signals: signals()?, pending: Vec::new(), input_open: true })
    }

    /// Joins standard input and output to `console` until something is to be done.
    fn run(&mut self, console: &OwnedFd) -> io::Result<Pause> {
        rustix::io::ioctl_fionbio(console, true)?;
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let (stdin, stdout) = (stdin.as_fd(), stdout.as_fd());
        let Join { escape, end, signals, pending, input_open } = self;
        let mut buffer = vec![0; CHUNK];
        loop {
            let mut wanted = PollFlags::POLLIN;
            if !pending.is_empty() {
                wanted |= PollFlags::POLLOUT;
            }
            // poll ignores what is asked of a descriptor whose flags are empty, except errors; an ended input is left out.
            let input = if *input_open && pending.len() < AHEAD { PollFlags::POLLIN } else { PollFlags::empty() };
            let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(console.as_fd(), wanted)];
            if !input.is_empty() {
                fds.push(PollFd::new(stdin, input));
            }
            match poll(&mut fds, remaining(*end)) {
                Ok(0) => return Ok(Pause::Ended),
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let ready = |index: usize| fds.get(index).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
            let (signal, device, user) = (ready(0), ready(1), ready(2));
            if !signal.is_empty() {
                let mut ended = false;
                while let Ok(Some(info)) = signals.read_signal() {
                    ended |= info.ssi_signo != Signal::SIGWINCH as u32;
                }
                return Ok(if ended { Pause::Ended } else { Pause::Resized });
            }
            if device.contains(PollFlags::POLLOUT) {
                match write(console, pending) {
                    Ok(count) => drop(pending.drain(..count)),
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(Errno::EIO | Errno::EPIPE | Errno::ECONNRESET) => return Ok(Pause::Ended),
                    Err(error) => return Err(error.into()),
                }
            }
            if device.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
                match read(console, &mut buffer) {
                    // EIO is how a pty says that its other end is closed.
                    Ok(0) | Err(Errno::EIO | Errno::ECONNRESET) => return Ok(Pause::Ended),
                    Ok(count) => write_all(stdout, &buffer[..count])?,
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if !user.is_empty() {
                match read(stdin, &mut buffer) {
                    Ok(0) | Err(Errno::EIO) => *input_open = false,
                    Ok(count) => {
                        let typed = &buffer[..count];
                        if let Some(at) = typed.iter().position(|byte| *byte == *escape) {
                            pending.extend_from_slice(&typed[..at]);
                            // What was typed before the key still goes out, if it goes at once.
                            let _ = write(console, pending);
                            return Ok(Pause::Ended);
                        }
                        pending.extend_from_slice(typed);
                    }
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

/// Time left until `end` for poll, rounded up so that it never spins.
fn remaining(end: Option<Instant>) -> PollTimeout {
    let Some(end) = end else { return PollTimeout::NONE };
    let left = end.saturating_duration_since(Instant::now()).as_micros().div_ceil(1_000);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

/// Writes all, also to an output that is in non-blocking mode (a terminal shared with someone who set it).
pub(super) fn write_all(out: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(out, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                poll(&mut [PollFd::new(out, PollFlags::POLLOUT)], PollTimeout::NONE)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// `^]` or one character, as for `--escape`.
pub fn escape_key(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [b'^', key @ (b'@'..=b'_' | b'a'..=b'z')] => Ok(key.to_ascii_uppercase() & 0x1f),
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err(format!("Invalid string '{text}' for escape sequence")),
    }
}

fn key_name(key: u8) -> String {
    if key < 0x20 {
        let letter = char::from(key | 0x40);
        format!("^{letter} (Ctrl + {letter})")
    } else {
        char::from(key).to_string()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("^]", Some(0x1d))]
    #[case("^A", Some(1))]
    #[case("^a", Some(1))]
    #[case("~", Some(b'~'))]
    #[case("^^", Some(0x1e))]
    #[case("ab", None)]
    #[case("", None)]
    fn escape_keys(#[case] text: &str, #[case] key: Option<u8>) {
        assert_eq!(escape_key(text).ok(), key);
    }

    #[test]
    fn keys_are_named_as_in_virsh() {
        assert_eq!(key_name(0x1d), "^] (Ctrl + ])");
        assert_eq!(key_name(b'~'), "~");
    }

    #[test]
    fn no_limit_means_no_limit() {
        assert_eq!(remaining(None), PollTimeout::NONE);
        assert_eq!(remaining(Some(Instant::now())), PollTimeout::ZERO);
    }
}
