//! `exec` and `lxc-enter-namespace`: a program in a container, joined to this one's standard streams.
//!
//! ```text
//! no terminal wanted: the standard streams themselves are passed (a terminal among them is relayed, never passed)
//! terminal wanted:    stdin, stdout <--bytes--> master of a terminal of the container's own
//! both:               control socket: its end <- , signals ->
//! ```
//!
//! The program's exit status is this program's; 128 + N when signal N ended it.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{read, write};
use serde_json::{Value, json};

use super::args::DomainArg;
use super::console::{RawMode, write_all};
use super::domains::{By, DOMUS_DOMAIN, Session};
use super::output::Failure;
use crate::sys::{packet, pty};

/// `Exec`: a terminal of its own.
const TERMINAL: u32 = 1;
const CHUNK: usize = 64 * 1024;

/// Options of `exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Give the program a terminal even when standard input and output are none
    #[arg(short = 't', long)]
    tty: bool,
    /// Give it none even when they are
    #[arg(short = 'T', long, conflicts_with = "tty")]
    no_tty: bool,
    /// User inside the container, by name or number
    #[arg(short = 'u', long, value_name = "USER", default_value = "", hide_default_value = true)]
    user: String,
    /// Group inside the container, by name or number
    #[arg(short = 'g', long, value_name = "GROUP", default_value = "", hide_default_value = true)]
    group: String,
    /// Directory inside the container to run it in
    #[arg(short = 'w', long, value_name = "DIR", default_value = "", hide_default_value = true)]
    cwd: String,
    /// A variable of its environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Options of `lxc-enter-namespace`.
#[derive(Debug, Args)]
pub struct EnterArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Accepted for virsh's sake: no security label is applied
    #[arg(long)]
    noseclabel: bool,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// `domus exec`
pub async fn exec(session: &Session, args: &ExecArgs) -> Result<(), Failure> {
    let terminal = args.tty || (!args.no_tty && io::stdin().is_terminal() && io::stdout().is_terminal());
    run(session, args, terminal).await
}

/// `domus lxc-enter-namespace`
pub async fn enter(session: &Session, args: &EnterArgs) -> Result<(), Failure> {
    let as_exec = ExecArgs {
        domain: args.domain.clone(),
        tty: false,
        no_tty: false,
        user: String::new(),
        group: String::new(),
        cwd: String::new(),
        env: Vec::new(),
        command: args.command.clone(),
    };
    exec(session, &as_exec).await
}

async fn run(session: &Session, args: &ExecArgs, terminal: bool) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let broken = |error: io::Error| {
        Failure::new(format!("program in domain '{}': {}", domain.name, super::client::reason(&error)))
    };
    // Blocked before the program runs: an early Ctrl-C is the program's too.
    let signals = signals().map_err(broken)?;
    let mut env = args.env.clone();
    if terminal
        && let Ok(term) = std::env::var("TERM")
        && !env.iter().any(|word| word.starts_with("TERM="))
    {
        env.push(format!("TERM={term}"));
    }
    let (stdio, relays) = if terminal { (Vec::new(), Vec::new()) } else { streams().map_err(broken)? };
    let stdio: Vec<zbus::OwnedFd> = stdio.into_iter().map(zbus::OwnedFd::from).collect();
    let size = if terminal { window(io::stdin().as_fd()) } else { (0, 0) };
    let flags = if terminal { TERMINAL } else { 0 };
    let body = (&args.command, &env, &args.user, &args.group, &args.cwd, &stdio, size, flags);
    let (control, masters): (zbus::OwnedFd, Vec<zbus::OwnedFd>) =
        session.client.call(&domain.path, DOMUS_DOMAIN, "Exec", &body).await?;
    // The program's copies alone are to hold the pipes open.
    drop(stdio);
    let relays: Vec<_> =
        relays.into_iter().map(|(from, to, last)| (std::thread::spawn(move || relay(from, to)), last)).collect();
    let control = OwnedFd::from(control);
    let end = match masters.into_iter().next() {
        Some(master) => with_terminal(&control, &OwnedFd::from(master), &signals),
        None => until_end(&control, &signals),
    };
    let end = end.map_err(broken)?;
    // What it wrote last may still be on its way.
    for (thread, _) in relays.into_iter().filter(|(_, last)| *last) {
        let _ = thread.join();
    }
    let code = match (end["event"].as_str(), end["status"].as_i64(), end["signal"].as_i64()) {
        (Some("exited"), Some(status), _) => status,
        (Some("signaled"), _, Some(signal)) => 128 + signal,
        _ => {
            let message = end["message"].as_str().unwrap_or("it ended without a word");
            return Err(Failure::new(format!("program in domain '{}': {message}", domain.name)));
        }
    };
    if code == 0 {
        // Nothing but the program's own words.
        std::process::exit(0);
    }
    std::process::exit(i32::try_from(code).unwrap_or(1));
}

/// Signals a program is told of by its terminal or its supervisor, as a descriptor.
fn signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

type Relay = (OwnedFd, OwnedFd, bool);

/// The standard streams to pass, and what is to be copied here. A terminal of the user's is never passed: whoever has it
/// can read what is typed into it later.
fn streams() -> io::Result<(Vec<OwnedFd>, Vec<Relay>)> {
    let ours = [
        io::stdin().as_fd().try_clone_to_owned()?,
        io::stdout().as_fd().try_clone_to_owned()?,
        io::stderr().as_fd().try_clone_to_owned()?,
    ];
    let mut passed = Vec::new();
    let mut relays = Vec::new();
    for (index, fd) in ours.into_iter().enumerate() {
        if !fd.is_terminal() {
            passed.push(fd);
            continue;
        }
        let (reader, writer) = io::pipe()?;
        let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
        if index == 0 {
            relays.push((fd, writer, false));
            passed.push(reader);
        } else {
            relays.push((reader, fd, true));
            passed.push(writer);
        }
    }
    Ok((passed, relays))
}

fn relay(from: OwnedFd, to: OwnedFd) {
    // The other side going away is how it ends.
    let _ = io::copy(&mut File::from(from), &mut File::from(to));
}

fn window(terminal: BorrowedFd<'_>) -> (u16, u16) {
    rustix::termios::tcgetwinsize(terminal).map_or((0, 0), |size| (size.ws_row, size.ws_col))
}

fn tell(control: &OwnedFd, call: &Value) {
    // A program that has just ended takes no more calls.
    let _ = packet::send(control.as_fd(), call.to_string().as_bytes(), &[]);
}

/// The program's end, if that is what came.
fn end_of(control: &OwnedFd) -> io::Result<Value> {
    match packet::recv(control)? {
        Some((text, _)) => serde_json::from_slice(&text).map_err(io::Error::other),
        None => Ok(json!({ "event": "failed", "message": "whatever ran it was killed" })),
    }
}

fn pass_on(signals: &SignalFd, control: &OwnedFd) {
    while let Ok(Some(info)) = signals.read_signal() {
        if info.ssi_signo != Signal::SIGWINCH as u32 {
            tell(control, &json!({ "call": "signal", "signal": info.ssi_signo }));
        }
    }
}

fn until_end(control: &OwnedFd, signals: &SignalFd) -> io::Result<Value> {
    loop {
        let mut fds =
            [PollFd::new(control.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        if fds[1].any().unwrap_or(false) {
            pass_on(signals, control);
        }
        if fds[0].any().unwrap_or(false) {
            return end_of(control);
        }
    }
}

/// Joins standard input and output to the program's terminal until the program has ended.
fn with_terminal(control: &OwnedFd, master: &OwnedFd, signals: &SignalFd) -> io::Result<Value> {
    rustix::io::ioctl_fionbio(master, true)?;
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let (stdin, stdout) = (stdin.as_fd(), stdout.as_fd());
    let _raw = RawMode::enter(stdin)?;
    let mut pending: Vec<u8> = Vec::new();
    let mut buffer = vec![0; CHUNK];
    let (mut open, mut input_open, mut end) = (true, true, None);
    loop {
        if let Some(end) = end.take_if(|_| !open) {
            return Ok(end);
        }
        let mut wanted = PollFlags::POLLIN;
        wanted.set(PollFlags::POLLOUT, !pending.is_empty());
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let mut add = |on: bool, fd, flags| {
            on.then(|| {
                fds.push(PollFd::new(fd, flags));
                fds.len() - 1
            })
        };
        let at_control = add(end.is_none(), control.as_fd(), PollFlags::POLLIN);
        let at_master = add(open, master.as_fd(), wanted);
        let at_input = add(input_open && open && pending.len() < CHUNK, stdin, PollFlags::POLLIN);
        // Once it has ended, what is left in its terminal is there at once; a child it left behind may hold it open.
        let patience = if end.is_some() { PollTimeout::from(100u16) } else { PollTimeout::NONE };
        match poll(&mut fds, patience) {
            Ok(0) => open = false,
            Err(Errno::EINTR) => continue,
            other => drop(other?),
        }
        let ready = |at: Option<usize>| at.and_then(|at| fds.get(at)?.revents()).unwrap_or(PollFlags::empty());
        let (told, device, user) = (ready(at_control), ready(at_master), ready(at_input));
        if !ready(Some(0)).is_empty() {
            let _ = pty::set_size(master, window(stdin).0, window(stdin).1);
            pass_on(signals, control);
        }
        if device.contains(PollFlags::POLLOUT)
            && let Ok(count) = write(master, &pending)
        {
            pending.drain(..count);
        }
        if device.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            match read(master, &mut buffer) {
                // EIO is how a pty says that its other end is closed.
                Ok(0) | Err(Errno::EIO) => open = false,
                Ok(count) => write_all(stdout, &buffer[..count])?,
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !told.is_empty() {
            end = Some(end_of(control)?);
        }
        if !user.is_empty() {
            match read(stdin, &mut buffer) {
                Ok(0) | Err(Errno::EIO) => {
                    // The end of input is a character on a terminal.
                    pending.push(4);
                    input_open = false;
                }
                Ok(count) => pending.extend_from_slice(&buffer[..count]),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
