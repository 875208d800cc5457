//! `domus-run enter`: one more program in a container that runs.
//!
//! ```text
//! starter --exec of the sealed memfd--> enter --setns, clone--> child --execve--> program
//!                                       waits, ends as the program ended
//! ```
//!
//! The cgroups are the starter's to choose: it puts this process into the container's before it runs. Until its exec
//! the child is in the container's sight: it cannot be traced from there (not dumpable), holds no fd but the standard
//! streams, and its own file is the sealed one.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::process::{DumpableBehavior, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, set_dumpable_behavior, waitid};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::procfs::HostProc;
use super::{Context, Failure, Result, caps, failure, init, read_json, seccomp, users};
use crate::lxc::protocol::SPEC_FD;
use crate::lxc::spec::{Enter, SPEC_VERSION};
use crate::sys::clone::{
    Forked, SingleThread, cloexec_from, clone3, close_from, default_signals, inherited_fd, new_session_keyring,
};
use crate::sys::weakened;

/// Exit status when the program could not be run, as shells have it.
const FAILED: u8 = 126;

/// Runs the program; its exit status, 128 + the signal that ended it, or [`FAILED`] with a line on standard error.
pub fn main() -> ExitCode {
    match run() {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("domus-run: {failure}");
            ExitCode::from(FAILED)
        }
    }
}

fn run() -> Result<u8> {
    let Some(spec) = inherited_fd(SPEC_FD) else { return failure("enter", format!("fd {SPEC_FD} is not open")) };
    close_from(SPEC_FD as u32 + 1).at("enter", "cannot close inherited fds")?;
    forbid_tracing()?;
    let spec: Enter = read_json(spec)?;
    if spec.version > SPEC_VERSION {
        return failure("enter", format!("version {} is newer than {SPEC_VERSION}", spec.version));
    }
    let target = open_init(&spec)?;
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
            let failure = match become_program(&spec) {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            eprintln!("domus-run: {failure}");
            #[allow(clippy::exit)]
            std::process::exit(FAILED.into())
        }
        Forked::Parent { pidfd, .. } => wait(&pidfd),
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

fn become_program(spec: &Enter) -> Result<std::convert::Infallible> {
    if spec.user_namespace {
        init::become_root()?;
        // Changing ids has set it back to the system's default for set-user-id programs.
        forbid_tracing()?;
    }
    init::die_with_parent()?;
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
    }
    init::execute(program)
}

fn wait(pidfd: &OwnedFd) -> Result<u8> {
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).at("enter", "cannot wait")?;
    let Some(status) = status else { return Err(Failure { stage: "enter".into(), message: "no status".into() }) };
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (_, Some(signal)) => 128 + signal,
        _ => FAILED.into(),
    };
    Ok(u8::try_from(code).unwrap_or(FAILED))
}
