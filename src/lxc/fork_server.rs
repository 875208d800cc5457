//! The process that supervisors are forked from (`domus-run serve`), as the daemon sees it: started with the first
//! container, again when it has died, gone with the daemon.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::protocol::{BINARY_FD, BIRTHS_FD, Birth, Event};
use super::sealed::Sealed;
use crate::error::{Code, Error, Result};
use crate::sys::exec::{GuestProcess, GuestSpec, spawn_guest};
use crate::sys::process::{PidFd, open_verified};
use crate::sys::{fault, packet};

/// Room for a container's name among the arguments, bytes.
const NAME_ROOM: usize = 256;
/// How long a server that has enough to do may take to take one more.
const PATIENCE: Duration = Duration::from_secs(10);

/// The fork server, once there is one.
#[derive(Debug, Default)]
pub struct ForkServer {
    running: Mutex<Option<Server>>,
}

#[derive(Debug)]
struct Server {
    births: OwnedFd,
    process: PidFd,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its children are not ours to end with it.
        let _ = self.process.kill(nix::libc::SIGKILL);
        self.process.reap_blocking();
    }
}

impl ForkServer {
    /// Asks for a supervisor; `fds` as [`Birth`] says. It then talks on its control socket. Blocks for as long as a
    /// program takes to start when there is no server yet. Errors: code 38.
    pub fn ask(&self, sealed: &Sealed, birth: &Birth, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let text = serde_json::to_vec(birth).map_err(|error| Error::internal(error.to_string()))?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = &*running {
            match packet::send(server.births.as_fd(), &text, fds) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(pid = server.process.pid(), %error, "the fork server is gone, another is started");
                }
            }
        }
        // The old one goes first: there is never more than one that is asked.
        *running = None;
        let server = Server::start(sealed)?;
        let sent = packet::send(server.births.as_fd(), &text, fds);
        *running = Some(server);
        sent.map_err(|error| Error::system("cannot ask the fork server for a supervisor", error))
    }

    /// Ends a server that gave no supervisor in time (it is stopped, say), with what it has not begun; the next start gets
    /// another.
    pub fn give_up(&self) {
        let server = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            tracing::warn!(pid = server.process.pid(), "the fork server gave no supervisor in time, it is ended");
        }
    }
}

impl Server {
    fn start(sealed: &Sealed) -> Result<Server> {
        let failed = |error| Error::system("cannot start the fork server", error);
        let (births, theirs) = packet::pair().map_err(failed)?;
        rustix::net::sockopt::set_socket_timeout(&births, rustix::net::sockopt::Timeout::Send, Some(PATIENCE))
            .map_err(|errno| failed(errno.into()))?;
        let output = std::io::stderr().as_fd().try_clone_to_owned().map_err(failed)?;
        let process = spawn_guest(GuestSpec {
            argv: vec![format!("/proc/self/fd/{BINARY_FD}"), "serve".into(), " ".repeat(NAME_ROOM)],
            // Fault points of a test reach into the supervisor.
            env: fault::inherited(),
            uid: None,
            gid: None,
            groups: Vec::new(),
            umask: 0o022,
            limits: Vec::new(),
            working_dir: "/".into(),
            fds: vec![(BIRTHS_FD, theirs), (BINARY_FD, sealed.get()?)],
            output,
            cgroup_procs: Vec::new(),
            pidfile: None,
            no_new_privs: false,
        })
        .map_err(|error| Error::internal(error.to_string()))?;
        tracing::debug!(pid = process.pid, "fork server started");
        Ok(Server { births, process: process.pidfd })
    }
}

/// Waits on this thread until the supervisor at the other end of `control` is there: its pid file is written then.
/// Errors: code 1 with its words, 68 when nothing comes within `patience`.
pub fn wait_born(control: &OwnedFd, patience: Duration) -> Result<GuestProcess> {
    let failed = |error| Error::system("cannot talk to a container's supervisor", error);
    let silent =
        || Error::internal("guest failed to start: the supervisor ended without a word (see the domain's log)");
    let mut polled = [nix::poll::PollFd::new(control.as_fd(), nix::poll::PollFlags::POLLIN)];
    let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    let limit = nix::poll::PollTimeout::try_from(millis).unwrap_or(nix::poll::PollTimeout::MAX);
    loop {
        match nix::poll::poll(&mut polled, limit) {
            Ok(0) => {
                return Err(Error::new(
                    Code::OperationTimeout,
                    format!("the container's supervisor was not there within {} s", patience.as_secs()),
                ));
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno.into())),
            Ok(_) => break,
        }
    }
    let event = || match packet::recv(control).map_err(failed)? {
        Some((data, _)) => serde_json::from_slice(&data).map_err(|error| Error::internal(error.to_string())),
        None => Err(silent()),
    };
    match event()? {
        Event::Hello { start: 0, .. } => match event()? {
            Event::Ended(record) => Err(super::launch::start_failure(record)),
            _ => Err(silent()),
        },
        Event::Hello { pid, start, .. } => {
            let pidfd = open_verified(pid, start).ok_or_else(silent)?;
            Ok(GuestProcess { pid, start_time: start, pidfd })
        }
        _ => Err(silent()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lxc::protocol::{Cause, ExitRecord};

    fn said(events: &[Event]) -> Result<GuestProcess> {
        let (ours, theirs) = packet::pair().unwrap();
        for event in events {
            packet::send(theirs.as_fd(), &serde_json::to_vec(event).unwrap(), &[]).unwrap();
        }
        drop(theirs);
        wait_born(&ours, Duration::from_secs(60))
    }

    fn ended() -> Event {
        Event::Ended(ExitRecord {
            version: 1,
            cause: Cause::StartFailed,
            status: None,
            signal: None,
            killed: false,
            time: 0,
            message: Some("cgroup: it is gone".into()),
        })
    }

    #[test]
    fn a_supervisor_is_held_by_pid_and_start_time() {
        let pid = std::process::id() as i32;
        let start = crate::sys::process::start_time(pid).unwrap();
        let process = said(&[Event::Hello { version: 1, pid, start }]).unwrap();
        assert_eq!((process.pid, process.start_time), (pid, start));
        let error = said(&[Event::Hello { version: 1, pid, start: start + 1 }]).unwrap_err();
        assert!(error.message().contains("ended without a word"), "{error}");
    }

    #[test]
    fn one_that_could_not_be_says_why() {
        let error = said(&[Event::Hello { version: 1, pid: 1, start: 0 }, ended()]).unwrap_err();
        assert!(error.message().contains("guest failed to start: cgroup: it is gone"), "{error}");
        for events in [vec![], vec![Event::Hello { version: 1, pid: 1, start: 0 }], vec![ended()]] {
            assert!(said(&events).unwrap_err().message().contains("ended without a word"));
        }
    }

    #[test]
    fn one_that_never_comes_is_not_waited_for_for_ever() {
        let (ours, _theirs) = packet::pair().unwrap();
        assert_eq!(wait_born(&ours, Duration::from_millis(10)).unwrap_err().code, Code::OperationTimeout);
    }
}
