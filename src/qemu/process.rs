//! A QEMU process: signals, numbers, and its end without polling. The pidfd itself is `sys::process`'s.

use std::time::Duration;

use super::procstat;
use crate::error::{Code, Error, Result};
use crate::sys::process::{Exit, PidFd, open_verified};

pub const SIGTERM: i32 = 15;
pub const SIGKILL: i32 = 9;

/// A process that is, or was, alive when this was made.
#[derive(Debug)]
pub struct GuestProcess {
    pidfd: PidFd,
}

impl GuestProcess {
    pub fn new(pidfd: PidFd) -> Self {
        GuestProcess { pidfd }
    }

    /// Finds a process again by number and start time; `None` when it is gone.
    pub fn open(pid: i32, start_time: u64) -> Option<Self> {
        let pidfd = open_verified(pid, start_time)?;
        (!pidfd.has_ended()).then_some(GuestProcess { pidfd })
    }

    pub fn pid(&self) -> i32 {
        self.pidfd.pid()
    }

    /// Ticks since boot.
    pub fn start_time(&self) -> u64 {
        self.pidfd.start_time()
    }

    /// The kernel's numbers, while the process lives.
    pub fn stat(&self) -> Option<procstat::ProcStat> {
        procstat::process(self.pid()).filter(|stat| stat.start_time == self.start_time())
    }

    /// Sends a signal; a process that is gone is no error.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.pidfd.kill(signal).map_err(|error| Error::system(format!("cannot signal process {}", self.pid()), error))
    }

    /// Waits for the end. May be called by many at once.
    pub async fn wait(&self) -> Exit {
        match self.pidfd.wait().await {
            Ok(exit) => exit,
            Err(error) => {
                tracing::error!(pid = self.pid(), %error, "cannot wait for the end of a process");
                Exit::Unknown
            }
        }
    }

    /// Waits at most `limit`.
    ///
    /// Errors: `SystemError` with libvirt's text when the process is still there.
    pub async fn wait_for(&self, limit: Duration, signal_name: &str) -> Result<Exit> {
        tokio::time::timeout(limit, self.wait()).await.map_err(|_| {
            let text =
                format!("Failed to terminate process {} with {signal_name}: Device or resource busy", self.pid());
            Error::new(Code::SystemError, text)
        })
    }
}
