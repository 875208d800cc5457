//! One console: the container's terminal master, a host pty for clients that want a path, one attached stream, the log.
//!
//! Output always reaches the log; a client that does not read loses its stream, never the guest its console. What was
//! written while nobody was attached is kept, bounded, for the next client.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::{Context, Result};
use crate::lxc::spec::ConsoleLog;

/// Bytes kept for the next client.
const BACKLOG: usize = 16 * 1024;
/// Bytes a client may lag behind what its socket takes.
const CLIENT_LAG: usize = 256 * 1024;
/// Bytes of input kept while the guest does not read.
const INPUT: usize = 4 * 1024;

#[derive(Debug)]
struct HostPty {
    master: File,
    /// Kept open so that the master never reports a hang-up between two clients.
    _terminal: OwnedFd,
    path: String,
}

/// See the module.
#[derive(Debug)]
pub struct Console {
    /// The container's side; none while it is not running.
    guest: Option<File>,
    /// The container's terminal, kept open: a master none of whose terminals is open reports a hang-up for ever.
    terminal: Option<OwnedFd>,
    host: Option<HostPty>,
    client: Option<File>,
    /// Output for the client, or for the next one.
    output: VecDeque<u8>,
    /// Input for the guest.
    input: VecDeque<u8>,
    log: Option<Log>,
}

#[derive(Debug)]
struct Log {
    spec: ConsoleLog,
    file: File,
    size: u64,
}

/// Which of a console's fds became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Guest,
    Host,
    Client,
}

impl Console {
    /// Opens the log and the host pty.
    pub fn open(log: Option<&ConsoleLog>) -> Result<Console> {
        let log = match log {
            Some(spec) => Some(Log::open(spec)?),
            None => None,
        };
        Ok(Console {
            guest: None,
            terminal: None,
            host: Some(HostPty::open()?),
            client: None,
            output: VecDeque::new(),
            input: VecDeque::new(),
            log,
        })
    }

    /// Path of the host pty; empty without one.
    pub fn tty(&self) -> String {
        self.host.as_ref().map(|host| host.path.clone()).unwrap_or_default()
    }

    /// Connects the console to a (re)started container.
    pub fn connect(&mut self, master: OwnedFd) -> Result<()> {
        nonblocking(&master)?;
        self.input.clear();
        // A getty may still hang it up; then the slow tick looks after the console.
        self.terminal = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).ok();
        self.guest = Some(File::from(master));
        Ok(())
    }

    /// A new stream for a client. With a client there, `force` ends it, else it is `EBUSY`.
    pub fn attach(&mut self, force: bool) -> io::Result<OwnedFd> {
        if self.client.is_some() && !force {
            return Err(io::Error::from_raw_os_error(nix::libc::EBUSY));
        }
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let flags = fcntl_getfl(&ours)?;
        fcntl_setfl(&ours, flags | OFlags::NONBLOCK)?;
        self.client = Some(File::from(ours));
        self.flush_client();
        Ok(theirs)
    }

    /// Tells the guest the size of its terminal; programs in its foreground get SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        self.guest.as_ref().map_or(Ok(()), |guest| crate::sys::pty::set_size(guest, rows, columns))
    }

    /// What to poll: fd, side, whether readable and writable matter.
    pub fn interests(&self) -> Vec<(BorrowedFd<'_>, Side, bool, bool)> {
        let room = self.input.len() < INPUT;
        let mut all = Vec::new();
        if let Some(guest) = &self.guest {
            all.push((guest.as_fd(), Side::Guest, true, !self.input.is_empty()));
        }
        if let Some(host) = &self.host
            && room
        {
            all.push((host.master.as_fd(), Side::Host, true, false));
        }
        if let Some(client) = &self.client {
            all.push((client.as_fd(), Side::Client, room, !self.output.is_empty()));
        }
        all
    }

    /// Moves what can be moved.
    pub fn handle(&mut self, side: Side) {
        match side {
            Side::Guest => {
                self.flush_input();
                self.read_guest(64 * 1024);
            }
            Side::Host => {
                let mut buffer = [0; 1024];
                if let Some(host) = &mut self.host
                    && let Ok(count) = host.master.read(&mut buffer)
                {
                    self.input.extend(&buffer[..count]);
                }
                self.flush_input();
            }
            Side::Client => {
                self.flush_client();
                let mut buffer = [0; 1024];
                match self.client.as_mut().map(|client| client.read(&mut buffer)) {
                    Some(Ok(0)) => self.client = None,
                    Some(Ok(count)) => self.input.extend(&buffer[..count]),
                    Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => self.client = None,
                    _ => {}
                }
                self.flush_input();
            }
        }
    }

    /// The container is gone: takes its last output and lets go of its terminal.
    pub fn disconnect(&mut self) {
        self.read_guest(1024 * 1024);
        self.guest = None;
        self.terminal = None;
    }

    /// Ends the client's stream, after what it can still take.
    pub fn close(&mut self) {
        self.flush_client();
        self.client = None;
    }

    fn read_guest(&mut self, limit: usize) {
        let mut buffer = [0; 4096];
        let mut done = 0;
        while done < limit {
            let Some(guest) = &mut self.guest else { return };
            match guest.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    done += count;
                    self.spread(&buffer[..count]);
                }
                // EIO: no terminal is open inside right now. Polling reports that for ever, so the fd is only read on
                // the supervisor's slow tick until somebody opens it again.
                Err(_) => return,
            }
        }
    }

    fn spread(&mut self, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            log.write(bytes);
        }
        if let Some(host) = &mut self.host {
            // A pty nobody reads fills up; what does not fit is dropped, as on a real line.
            let _ = host.master.write(bytes);
        }
        self.output.extend(bytes);
        self.flush_client();
        let limit = if self.client.is_some() { CLIENT_LAG } else { BACKLOG };
        if self.output.len() > limit {
            if self.client.take().is_some() {
                self.output.clear();
            }
            let excess = self.output.len().saturating_sub(BACKLOG);
            self.output.drain(..excess);
        }
    }

    fn flush_client(&mut self) {
        let Some(client) = &mut self.client else { return };
        match drain_to(&mut self.output, client) {
            Ok(()) => {}
            Err(_) => self.client = None,
        }
    }

    fn flush_input(&mut self) {
        let Some(guest) = &mut self.guest else {
            self.input.clear();
            return;
        };
        let _ = drain_to(&mut self.input, guest);
    }
}

/// Writes what a non-blocking fd takes.
fn drain_to(buffer: &mut VecDeque<u8>, file: &mut File) -> io::Result<()> {
    while !buffer.is_empty() {
        let (front, _) = buffer.as_slices();
        match file.write(front) {
            Ok(count) => {
                buffer.drain(..count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn nonblocking(fd: &OwnedFd) -> Result<()> {
    let flags = fcntl_getfl(fd).at("console", "cannot read the flags of a terminal")?;
    fcntl_setfl(fd, flags | OFlags::NONBLOCK).at("console", "cannot set the flags of a terminal")
}

impl HostPty {
    fn open() -> Result<HostPty> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .at("console", "cannot open a host pty")?;
        unlockpt(&master).at("console", "cannot unlock a host pty")?;
        let path = ptsname(&master, Vec::new()).at("console", "cannot name a host pty")?;
        let terminal = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .at("console", "cannot open a host pty from its master")?;
        let mut modes = tcgetattr(&terminal).at("console", "cannot read the modes of a host pty")?;
        modes.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &modes).at("console", "cannot make a host pty raw")?;
        nonblocking(&master)?;
        Ok(HostPty { master: File::from(master), _terminal: terminal, path: path.to_string_lossy().into_owned() })
    }
}

impl Log {
    fn open(spec: &ConsoleLog) -> Result<Log> {
        let file = Log::file(spec, !spec.append)
            .at("console", format_args!("cannot open console log '{}'", spec.path.display()))?;
        let size = file.metadata().map_or(0, |meta| meta.len());
        Ok(Log { spec: spec.clone(), file, size })
    }

    fn file(spec: &ConsoleLog, truncate: bool) -> io::Result<File> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NOCTTY | nix::libc::O_NONBLOCK)
            .open(&spec.path)?;
        if truncate && file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        Ok(file)
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.spec.max_size > 0 && self.size + bytes.len() as u64 > self.spec.max_size {
            self.rotate();
        }
        if self.file.write_all(bytes).is_ok() {
            self.size += bytes.len() as u64;
        }
    }

    /// `log` -> `log.0` -> `log.1` ... A failure keeps the present file.
    fn rotate(&mut self) {
        let name = |index: u32| {
            let mut path = self.spec.path.as_os_str().to_os_string();
            path.push(format!(".{index}"));
            PathBuf::from(path)
        };
        for index in (1..self.spec.backups).rev() {
            let _ = std::fs::rename(name(index - 1), name(index));
        }
        if self.spec.backups > 0 {
            let _ = std::fs::rename(&self.spec.path, name(0));
        }
        if let Ok(file) = Log::file(&self.spec, true) {
            self.file = file;
            self.size = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_rotates_by_size_and_keeps_backups() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let spec = ConsoleLog { path: path.clone(), append: true, max_size: 4, backups: 2 };
        let mut log = Log::open(&spec).unwrap();
        for text in ["aaaa", "bbbb", "cccc", "dddd"] {
            log.write(text.as_bytes());
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        assert_eq!((read("log"), read("log.0"), read("log.1")), ("dddd".into(), "cccc".into(), "bbbb".into()));
        assert!(!dir.path().join("log.2").exists());
    }

    #[test]
    fn output_before_a_client_is_kept_and_bounded() {
        let mut console = Console {
            guest: None,
            terminal: None,
            host: None,
            client: None,
            output: VecDeque::new(),
            input: VecDeque::new(),
            log: None,
        };
        console.spread(b"early ");
        let stream = console.attach(false).unwrap();
        console.spread(b"late");
        assert!(console.attach(false).is_err());
        let mut buffer = [0; 64];
        let count = File::from(stream).read(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"early late");
        console.client = None;
        console.spread(&vec![b'x'; BACKLOG * 2]);
        assert_eq!(console.output.len(), BACKLOG);
    }
}
