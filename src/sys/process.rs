//! Which process is which: a pid alone is reused, so a process is named by pid, start time and boot.
//!
//! [`PidFd`] holds on to one process; waiting for its end is waiting for the descriptor to be readable, never polling.
//! Never kills by a bare stored pid.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, OnceLock};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It ended, but it was not our child: nobody tells us how.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit status {code}"),
            Exit::Signal(signal) => write!(f, "killed by signal {signal}"),
            Exit::Unknown => f.write_str("unknown exit status"),
        }
    }
}

/// The kernel's id of this boot (`/proc/sys/kernel/random/boot_id`), read once.
pub fn boot_id() -> io::Result<&'static str> {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    match BOOT_ID.get() {
        Some(id) => Ok(id),
        None => {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_string();
            Ok(BOOT_ID.get_or_init(|| id))
        }
    }
}

/// Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat); `None` if there is no such process.
pub fn start_time(pid: i32) -> Option<u64> {
    super::spawn::parse_start_time(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Holds the process that has this pid and this start time; `None` if it is gone (the pid may be another's by now).
pub fn open_verified(pid: i32, start: u64) -> Option<PidFd> {
    let fd = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Read after opening: the descriptor cannot move to another process, so a match holds for good.
    (start_time(pid)? == start).then(|| PidFd::new(pid, start, fd))
}

/// A process, held by descriptor: its number cannot be reused under us as far as signals and waiting go.
#[derive(Debug)]
pub struct PidFd {
    pid: i32,
    start_time: u64,
    fd: OwnedFd,
    exit: Mutex<Option<Exit>>,
}

impl PidFd {
    fn new(pid: i32, start_time: u64, fd: OwnedFd) -> Self {
        PidFd { pid, start_time, fd, exit: Mutex::new(None) }
    }

    pub(super) fn of_child(pid: i32, start_time: u64, fd: OwnedFd) -> Self {
        PidFd::new(pid, start_time, fd)
    }

    /// Its number, for show and for /proc.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its start time, see [`start_time`].
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Waits for its end. A child of ours is reaped, and its status given to every caller.
    /// Cancellation-safe; needs a tokio runtime.
    pub async fn wait(&self) -> io::Result<Exit> {
        if let Some(exit) = self.try_reap() {
            return Ok(exit);
        }
        // A copy of the descriptor, so that several may wait at once.
        // SAFETY: an OwnedFd is one open descriptor for as long as it exists, and nothing takes it out of the AsyncFd.
        let watched = unsafe { AsyncFd::register_with_interest(self.fd.try_clone()?, tokio::io::Interest::READABLE) }?;
        loop {
            let mut ready = watched.readable().await?;
            match self.try_reap() {
                Some(exit) => return Ok(exit),
                None => ready.clear_ready(),
            }
        }
    }

    /// How it ended, if it has ended.
    pub fn try_reap(&self) -> Option<Exit> {
        let mut known = self.exit.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if known.is_none() {
            *known = match self.waitid(WaitIdOptions::NOHANG) {
                Ok(exit) => exit,
                // Not our child: readable means ended.
                Err(_) => self.has_ended().then_some(Exit::Unknown),
            };
        }
        *known
    }

    /// Waits on this thread. For a process that has just been killed.
    pub fn reap_blocking(&self) {
        if let Ok(Some(exit)) = self.waitid(WaitIdOptions::empty()) {
            *self.exit.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(exit);
        }
    }

    fn waitid(&self, options: WaitIdOptions) -> io::Result<Option<Exit>> {
        let status = rustix::process::waitid(WaitId::PidFd(self.fd.as_fd()), options | WaitIdOptions::EXITED)?;
        Ok(status.map(|status| match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        }))
    }

    /// Whether it has ended (a zombie has).
    pub fn has_ended(&self) -> bool {
        let mut polled = [nix::poll::PollFd::new(self.fd.as_fd(), nix::poll::PollFlags::POLLIN)];
        matches!(nix::poll::poll(&mut polled, nix::poll::PollTimeout::ZERO), Ok(count) if count > 0)
    }

    /// Sends a signal; `Ok` as well when it has ended already.
    pub fn kill(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(signal).ok_or(io::ErrorKind::InvalidInput)?;
        match rustix::process::pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How long a killed process may take to disappear (uninterruptible I/O) before we say so.
const KILL_GRACE: std::time::Duration = std::time::Duration::from_secs(30);

/// Kills the process that wrote `pidfile` ("PID STARTTIME") if it still runs, and waits for its end. No file, or a
/// process that is gone: nothing to do. Errors: `TimedOut` when it hangs in the kernel.
pub async fn kill_recorded(pidfile: &std::path::Path) -> io::Result<()> {
    let text = match std::fs::read_to_string(pidfile) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut fields = text.split_whitespace();
    let (Some(Ok(pid)), Some(Ok(start))) = (fields.next().map(str::parse::<i32>), fields.next().map(str::parse::<u64>))
    else {
        // The line is written in one call before the program runs: a file without it means it never came so far.
        return Ok(());
    };
    let Some(process) = open_verified(pid, start) else { return Ok(()) };
    process.kill(nix::libc::SIGKILL)?;
    match tokio::time::timeout(KILL_GRACE, process.wait()).await {
        Ok(ended) => ended.map(drop),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("process {pid} was killed but hangs in the kernel (see /proc/{pid}/stack)"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::exec::{GuestSpec, spawn_guest};
    use super::*;

    fn sleeper() -> super::super::exec::GuestProcess {
        spawn_guest(GuestSpec {
            argv: vec!["/bin/sleep".into(), "600".into()],
            env: vec![],
            uid: None,
            gid: None,
            groups: vec![],
            umask: 0o022,
            limits: vec![],
            working_dir: "/".into(),
            fds: vec![],
            output: std::fs::File::open("/dev/null").unwrap().into(),
            cgroup_procs: vec![],
            pidfile: None,
            no_new_privs: true,
        })
        .unwrap()
    }

    #[tokio::test]
    async fn every_waiter_gets_the_signal() {
        let process = std::sync::Arc::new(sleeper().pidfd);
        assert_eq!(process.try_reap(), None);
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let process = process.clone();
                tokio::spawn(async move { process.wait().await.unwrap() })
            })
            .collect();
        tokio::task::yield_now().await;
        process.kill(9).unwrap();
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap(), Exit::Signal(9));
        }
        process.kill(9).unwrap();
    }

    #[tokio::test]
    async fn a_pid_is_verified_by_its_start_time() {
        let process = sleeper();
        assert_eq!(start_time(process.pid), Some(process.start_time));
        assert!(open_verified(process.pid, process.start_time + 1).is_none());
        let held = open_verified(process.pid, process.start_time).unwrap();
        assert!(!held.has_ended());
        held.kill(15).unwrap();
        assert_eq!(process.pidfd.wait().await.unwrap(), Exit::Signal(15));
        assert_eq!(held.wait().await.unwrap(), Exit::Unknown);
        assert!(open_verified(process.pid, process.start_time).is_none());
        assert!(boot_id().unwrap().len() == 36);
    }
}
