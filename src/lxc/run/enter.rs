//! `domus-run enter`: one more program in a container that runs.
//!
//! ```text
//! starter --exec of the sealed memfd--> enter --setns, clone--> child --execve--> program
//!                                       waits, ends as the program ended
//! ```
//!
//! With a control socket the program lives for whoever holds its other end: it is told how the program ended, and its
//! closing (its death) ends the program.
//!
//! The cgroups are the starter's to choose: it puts this process into the container's before it runs. Until its exec
//! the child is in the container's sight: it cannot be traced from there (not dumpable), holds no fd but the standard
//! streams, and its own file is the sealed one.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{
    DumpableBehavior, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, set_dumpable_behavior, waitid,
};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::procfs::HostProc;
use super::{Context, Failure, Result, caps, failure, init, read_json, seccomp, users};
use crate::lxc::protocol::{CONTROL_FD, ExecCall, ExecEvent, SPEC_FD};
use crate::lxc::spec::{Enter, Init, SPEC_VERSION};
use crate::sys::clone::{
    Forked, SingleThread, cloexec_from, clone3, close_from, default_signals, inherited_fd, new_session_keyring,
};
use crate::sys::packet;
use crate::sys::weakened;

/// Exit status when the program could not be run, as shells have it.
const FAILED: u8 = 126;
/// The same when there is no such program.
const NOT_FOUND: u8 = 127;

/// Runs the program; its exit status, 128 + the signal that ended it, or [`FAILED`] with a line on standard error.
pub fn main() -> u8 {
    match run() {
        Ok(status) => status,
        Err(failure) => {
            eprintln!("domus-run: {failure}");
            FAILED
        }
    }
}

fn run() -> Result<u8> {
    let Some(spec) = inherited_fd(SPEC_FD) else { return failure("enter", format!("fd {SPEC_FD} is not open")) };
    let control = inherited_fd(CONTROL_FD);
    close_from(CONTROL_FD as u32 + 1).at("enter", "cannot close inherited fds")?;
    forbid_tracing()?;
    let spec: Enter = read_json(spec)?;
    if spec.version > SPEC_VERSION {
        return failure("enter", format!("version {} is newer than {SPEC_VERSION}", spec.version));
    }
    let Some(control) = control.filter(|_| spec.control) else { return enter(&spec, None) };
    let result = enter(&spec, Some(&control));
    if let Err(failure) = &result {
        tell(&control, &ExecEvent::Failed { message: failure.to_string() });
    }
    result
}

fn tell(control: &OwnedFd, event: &ExecEvent) {
    // Whoever is gone needs no news.
    let _ = serde_json::to_vec(event).map(|text| packet::send(control.as_fd(), &text, &[]));
}

fn enter(spec: &Enter, control: Option<&OwnedFd>) -> Result<u8> {
    let target = open_init(spec)?;
    let alone = SingleThread::prove().at("enter", "this process has threads")?;
    let mut kinds = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK;
    if spec.user_namespace {
        kinds |= ThreadNameSpaceType::USER;
    }
    move_into_thread_name_spaces(target.as_fd(), kinds).at("enter", "cannot join the container's namespaces")?;
    drop(target);
    match clone3(0, None, &alone).at("enter", "cannot fork")? {
        Forked::Child => {
            let (code, text) = match become_program(spec) {
                Ok(Some(never)) => match never {},
                Ok(None) => {
                    let name = spec.program.argv.first().map(String::as_str).unwrap_or_default();
                    (NOT_FOUND, format!("cannot execute '{name}': there is no such program in the container"))
                }
                Err(failure) => (FAILED, failure.to_string()),
            };
            eprintln!("domus-run: {text}");
            #[allow(clippy::exit)]
            std::process::exit(code.into())
        }
        Forked::Parent { pid, pidfd } => match control {
            Some(control) => serve(pid, &pidfd, control),
            None => wait(&pidfd).map(|status| shell_code(&status)),
        },
    }
}

/// Serves the holder until the program has ended.
fn serve(pid: i32, pidfd: &OwnedFd, control: &OwnedFd) -> Result<u8> {
    let mut held = true;
    loop {
        let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        if held {
            fds.push(PollFd::new(control.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error).at("enter", "cannot wait"),
        }
        let ready = |at: usize| fds.get(at).and_then(PollFd::any).unwrap_or(false);
        if ready(0) {
            break;
        }
        if ready(1) {
            // The program has not been waited for: its number is still its own.
            match packet::recv(control) {
                Ok(Some((text, _))) => obey(pid, &text),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                _ => {
                    held = false;
                    kill_group(pid, nix::libc::SIGKILL);
                }
            }
        }
    }
    let status = wait(pidfd)?;
    tell(
        control,
        &match status.terminating_signal() {
            Some(signal) => ExecEvent::Signaled { signal },
            None => ExecEvent::Exited { status: status.exit_status().unwrap_or(FAILED.into()) },
        },
    );
    Ok(shell_code(&status))
}

fn obey(pid: i32, text: &[u8]) {
    match serde_json::from_slice(text) {
        Ok(ExecCall::Signal { signal }) => kill_group(pid, signal),
        Ok(ExecCall::Resize { rows, columns }) => {
            let _ = crate::sys::pty::set_size(rustix::stdio::stdin(), rows, columns);
        }
        // A call of a newer holder.
        Err(_) => {}
    }
}

/// The program leads its own session, hence a group that has its number.
fn kill_group(pid: i32, signal: i32) {
    if let Ok(signal) = nix::sys::signal::Signal::try_from(signal) {
        let target = nix::unistd::Pid::from_raw(pid);
        // Before the program has made its group it is alone.
        if nix::sys::signal::killpg(target, signal).is_err() {
            let _ = nix::sys::signal::kill(target, signal);
        }
    }
}

/// The container's init, held: the number is checked against the start time after it is opened.
fn open_init(spec: &Enter) -> Result<OwnedFd> {
    let Some(pid) = rustix::process::Pid::from_raw(spec.init) else {
        return failure("enter", format!("{} is no process id", spec.init));
    };
    let fd = pidfd_open(pid, PidfdFlags::empty()).at("enter", "the container's init is gone")?;
    if HostProc::open()?.start_time(spec.init)? != spec.init_start {
        return failure("enter", "the container's init is gone");
    }
    Ok(fd)
}

fn forbid_tracing() -> Result<()> {
    if weakened("traceable") {
        return Ok(());
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at("enter", "cannot forbid tracing")
}

/// `Ok(None)`: there is no such program.
fn become_program(spec: &Enter) -> Result<Option<std::convert::Infallible>> {
    // Also where root inside is root outside: the starter's groups are not the container's.
    init::become_root()?;
    // Changing ids has set it back to the system's default for set-user-id programs.
    forbid_tracing()?;
    init::die_with_parent()?;
    rustix::process::setsid().at("session", "cannot make a session")?;
    if spec.terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
            .at("session", "cannot take the terminal for the program")?;
    }
    let root = rustix::fs::open(
        "/",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .at("enter", "cannot open the container's root")?;
    let program = &spec.program;
    let identity = users::resolve(&root, program.user.as_deref(), program.group.as_deref())?;
    new_session_keyring().at("keyring", "cannot make a session keyring")?;
    init::enter_dir(program)?;
    cloexec_from(3).at("fds", "cannot mark the fds close-on-exec")?;
    default_signals();
    if spec.seccomp {
        seccomp::apply(!spec.user_namespace)?;
    }
    caps::drop_caps(&spec.drop_caps)?;
    if identity.uid != 0 || identity.gid != 0 {
        init::become_user(&identity)?;
        // A change of ids takes both back.
        init::die_with_parent()?;
    }
    match find(program) {
        Some(file) => init::execute_file(&file, program).map(Some),
        None => Ok(None),
    }
}

/// The program's file, looked up in PATH as the user who will run it.
fn find(program: &Init) -> Option<String> {
    let name = program.argv.first()?.clone();
    let there = |path: &String| rustix::fs::access(path.as_str(), rustix::fs::Access::EXISTS).is_ok();
    if name.contains('/') {
        return Some(name).filter(there);
    }
    let path = program.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str());
    path.unwrap_or("/usr/bin:/bin").split(':').map(|dir| format!("{dir}/{name}")).find(there)
}

fn wait(pidfd: &OwnedFd) -> Result<WaitIdStatus> {
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).at("enter", "cannot wait")?;
    status.ok_or_else(|| Failure { stage: "enter".into(), message: "no status".into() })
}

/// The end as shells have it.
fn shell_code(status: &WaitIdStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (_, Some(signal)) => 128 + signal,
        _ => FAILED.into(),
    };
    u8::try_from(code).unwrap_or(FAILED)
}
