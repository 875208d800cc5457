//! `domus-run`: what runs beside and inside one container.
//!
//! Owns everything between a [`Spec`](super::spec::Spec) and init's first instruction, and then init's life: consoles,
//! signals, the exit record. Never talks to a bus, never plans, never decides policy. No thread, no run-time library.
//!
//! ```text
//! daemon --exec of a sealed memfd--> fork server --clone3--> supervisor --clone3--> child --execve--> init
//!
//!  supervisor                             child
//!  joins cgroups, clones                  waits
//!  writes id maps
//!  builds root, /dev        --Mounts-->   becomes root inside, dies with its parent from here on
//!  plugs NICs               --Network->   mounts all, resolved inside the root by fd; consoles; network
//!  takes console masters    <-Ready---    pivoted, masked, confined
//!  "held"                   --Go------>   waits here if it is to be held; drops capabilities, execve
//!  "started", watches       <-EOF-----    (the socket closes by exec; an error text instead means it failed)
//! ```

mod caps;
mod console;
mod control;
mod dev;
mod enter;
mod exit;
mod ids;
mod image;
mod init;
mod inroot;
mod net;
mod procfs;
mod rootfs;
mod seccomp;
mod serve;
mod shutdown;
mod start;
mod supervisor;
mod sync;
#[cfg(test)]
mod tests;
mod users;

use std::os::fd::OwnedFd;

use super::protocol::{BINARY_FD, CONTROL_FD, FILES_FD, SPEC_FD};
use super::spec::{SPEC_VERSION, Spec};
use crate::sys;
use supervisor::Start;

/// A failed step: where, and what the system said.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{stage}: {message}")]
pub(crate) struct Failure {
    /// The step (`root`, `dev`, `network` ...).
    pub stage: String,
    pub message: String,
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Names the step and the object of a failed system call.
pub(crate) trait Context<T> {
    fn at(self, stage: &str, what: impl std::fmt::Display) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Context<T> for std::result::Result<T, E> {
    fn at(self, stage: &str, what: impl std::fmt::Display) -> Result<T> {
        self.map_err(|error| {
            let error: std::io::Error = error.into();
            let reason = match error.raw_os_error() {
                Some(number) => nix::errno::Errno::from_raw(number).desc().to_string(),
                None => error.to_string(),
            };
            Failure { stage: stage.to_string(), message: format!("{what}: {reason}") }
        })
    }
}

/// A failure that is not a system call's.
pub(crate) fn failure<T>(stage: &str, message: impl Into<String>) -> Result<T> {
    Err(Failure { stage: stage.to_string(), message: message.into() })
}

/// A place where a test makes this process die or fail (`DOMUS_FAULT`, see `sys::fault`).
pub(crate) fn fault_point(name: &str) -> Result<()> {
    sys::fault::point(name).at("test", "a fault was asked for")
}

/// Exit status of what never came to a start.
const REFUSED: u8 = 2;

/// Entry of the binary; the exit status. `domus-run serve` forks supervisors; `domus-run supervise` is one, with the
/// spec on fd 3 and the starter's connection on fd 4.
pub fn main() -> u8 {
    let mut args = std::env::args();
    match args.nth(1).as_deref() {
        Some("serve") => return serve::main(),
        Some("supervise") => {}
        Some("enter") => return enter::main(),
        Some("--version") => {
            println!("domus-run {}", env!("CARGO_PKG_VERSION"));
            return 0;
        }
        _ => {
            eprintln!("domus-run: started by domusd; not for use by hand");
            return REFUSED;
        }
    }
    let (Some(spec), Some(control)) = (sys::clone::inherited_fd(SPEC_FD), sys::clone::inherited_fd(CONTROL_FD)) else {
        eprintln!("domus-run: fds {SPEC_FD} and {CONTROL_FD} are not open");
        return REFUSED;
    };
    let spec = match read_spec(spec) {
        Ok(spec) => spec,
        Err(failure) => return refuse(&control, &failure),
    };
    let end = FILES_FD + i32::try_from(spec.files).unwrap_or(0);
    // Whatever else the starter had open is nobody's business here.
    if !sys::weakened("keep-fds") {
        let _ = sys::clone::close_from(end as u32);
        drop(sys::clone::inherited_fd(BINARY_FD));
    }
    let files = (FILES_FD..end).map_while(sys::clone::inherited_fd).collect();
    supervise(Start { spec, control, pidfile: None }, files)
}

/// Runs a container whose init gets `files`, from 3 on.
fn supervise(start: Start, files: Vec<OwnedFd>) -> u8 {
    if files.len() != start.spec.files as usize {
        let what = format!("{} files for init are to be there, and {} are", start.spec.files, files.len());
        return refuse(&start.control, &Failure { stage: "fds".into(), message: what });
    }
    if files.is_empty() {
        return supervisor::run(start);
    }
    let Start { spec, control, pidfile } = start;
    // Out of the way of the files, as is everything that will be opened.
    let end = 3 + files.len() as i32;
    let moved = move_up(&control, end).and_then(|moved| {
        let pidfile = pidfile.as_ref().map(|pidfile| move_up(pidfile, end)).transpose()?;
        Ok((moved, pidfile))
    });
    let (moved, pidfile) = match moved {
        Ok(moved) => moved,
        Err(failure) => return refuse(&control, &failure),
    };
    drop(control);
    match place_files(files) {
        Ok(()) => supervisor::run(Start { spec, control: moved, pidfile }),
        Err(failure) => refuse(&moved, &failure),
    }
}

fn move_up(fd: &OwnedFd, least: i32) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, least).at("fds", "cannot move a descriptor")
}

fn refuse(control: &OwnedFd, failure: &Failure) -> u8 {
    control::report_failure(control, failure);
    REFUSED
}

/// Puts the files for init where it will find them, from 3 on, where nothing else is open: they stay open in the
/// supervisor, for each run of init.
fn place_files(files: Vec<OwnedFd>) -> Result<()> {
    use std::os::fd::{AsRawFd, IntoRawFd};
    let end = 3 + files.len() as i32;
    // One may stand where another is to be.
    let files = files.into_iter().map(|file| move_up(&file, end)).collect::<Result<Vec<_>>>()?;
    for (number, file) in (3..).zip(files) {
        // The lowest that is free: those below are taken by the files before it.
        let placed = move_up(&file, number)?;
        if placed.as_raw_fd() != number {
            return failure("fds", format!("fd {number} is taken"));
        }
        rustix::io::fcntl_setfd(&placed, rustix::io::FdFlags::empty()).at("fds", "cannot keep a file for init open")?;
        let _ = placed.into_raw_fd();
    }
    Ok(())
}

fn read_spec(fd: OwnedFd) -> Result<Spec> {
    let spec: Spec = read_json(fd)?;
    if spec.version > SPEC_VERSION {
        return failure("spec", format!("version {} is newer than {SPEC_VERSION}", spec.version));
    }
    Ok(spec)
}

/// Reads what the starter left on an fd.
fn read_json<T: serde::de::DeserializeOwned>(fd: OwnedFd) -> Result<T> {
    use std::io::{Read, Seek};
    let mut file = std::fs::File::from(fd);
    // A memfd comes with its offset at the end of what was written; a pipe has none.
    let _ = file.rewind();
    let mut text = Vec::new();
    file.read_to_end(&mut text).at("spec", "cannot read it")?;
    serde_json::from_slice(&text).map_err(|error| Failure { stage: "spec".to_string(), message: error.to_string() })
}
