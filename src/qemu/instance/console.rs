//! Consoles of a running QEMU: one user at a time, through the daemon.
//!
//! The pty itself is not passed on: whoever held it once could read along for ever, and nobody could take it back.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::lock;
use crate::error::{Error, Result};

const CHUNK: usize = 4096;

/// Who is connected, by alias.
#[derive(Debug, Default)]
pub(super) struct Sessions(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// The end of each is told by closing this pipe.
    by_alias: HashMap<String, (u64, OwnedFd)>,
}

impl Sessions {
    /// Connects to the pty of `alias`. With a user there, `force` ends that connection, else code 9 with libvirt's text.
    pub fn open(&self, alias: &str, pty: OwnedFd, force: bool) -> Result<OwnedFd> {
        let failed = |error: io::Error| Error::system(format!("cannot connect to console '{alias}'"), error);
        let mut open = lock(&self.0);
        if !force && open.by_alias.contains_key(alias) {
            return Err(Error::failed("Active console session exists for this domain"));
        }
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .map_err(|errno| failed(errno.into()))?;
        rustix::io::ioctl_fionbio(&ours, true).map_err(|errno| failed(errno.into()))?;
        let (until, end) = io::pipe().map_err(failed)?;
        open.next += 1;
        let number = open.next;
        open.by_alias.insert(alias.to_string(), (number, end.into()));
        drop(open);
        let (sessions, name) = (self.0.clone(), alias.to_string());
        let work = move || {
            if let Err(error) = relay(&pty, &ours, &OwnedFd::from(until)) {
                tracing::debug!(console = name, %error, "console connection ended");
            }
            let mut open = lock(&sessions);
            if open.by_alias.get(&name).is_some_and(|(current, _)| *current == number) {
                open.by_alias.remove(&name);
            }
        };
        std::thread::Builder::new().name("console".into()).spawn(work).map_err(failed)?;
        Ok(theirs)
    }
}

/// Copies both ways until a side ends or `until` is closed. All but `until` are non-blocking.
fn relay(pty: &OwnedFd, client: &OwnedFd, until: &OwnedFd) -> io::Result<()> {
    let (mut to_guest, mut to_client) = (Vec::new(), Vec::new());
    loop {
        let wish = |room: &Vec<u8>, waiting: &Vec<u8>| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, room.len() < CHUNK);
            flags.set(PollFlags::POLLOUT, !waiting.is_empty());
            flags
        };
        let mut fds = [
            PollFd::new(pty.as_fd(), wish(&to_client, &to_guest)),
            PollFd::new(client.as_fd(), wish(&to_guest, &to_client)),
            PollFd::new(until.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let ready = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        if !ready[2].is_empty() {
            return Ok(());
        }
        let ends = PollFlags::POLLHUP | PollFlags::POLLERR;
        let mut over = false;
        for (at, from, buffer) in [(0, pty, &mut to_client), (1, client, &mut to_guest)] {
            over |= ready[at].intersects(PollFlags::POLLIN | ends) && !take(from, buffer)?;
        }
        // What the guest said last still goes out, if it goes at once.
        give(client, &mut to_client)?;
        if over {
            return Ok(());
        }
        give(pty, &mut to_guest)?;
    }
}

/// Reads what is there; `false` at the end.
fn take(from: &OwnedFd, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; CHUNK];
    match nix::unistd::read(from, &mut chunk) {
        Ok(0) | Err(Errno::EIO | Errno::ECONNRESET) => Ok(false),
        Ok(count) => {
            buffer.extend_from_slice(&chunk[..count]);
            Ok(true)
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Writes what is taken.
fn give(to: &OwnedFd, buffer: &mut Vec<u8>) -> io::Result<()> {
    if buffer.is_empty() {
        return Ok(());
    }
    match nix::unistd::write(to, buffer) {
        Ok(count) => {
            buffer.drain(..count);
            Ok(())
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    fn nonblocking(fd: OwnedFd) -> OwnedFd {
        rustix::io::ioctl_fionbio(&fd, true).unwrap();
        fd
    }

    #[test]
    fn one_at_a_time_unless_forced() {
        let sessions = Sessions::default();
        let open = |force| {
            let pair = crate::sys::pty::open(true).unwrap();
            sessions.open("serial0", nonblocking(pair.peer), force).map(|stream| (pair.master, stream))
        };
        let (guest, stream) = open(false).unwrap();
        assert_eq!(
            open(false).unwrap_err().message(),
            "operation failed: Active console session exists for this domain"
        );
        let (mut guest, mut stream) = (File::from(guest), File::from(stream));
        let mut bytes = [0; 4];
        guest.write_all(b"out\n").unwrap();
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"out\n");
        stream.write_all(b"in\n.").unwrap();
        guest.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"in\n.");
        // Taken by force: the first user's ends.
        let (_guest, second) = open(true).unwrap();
        assert_eq!(stream.read(&mut bytes).unwrap(), 0);
        // And free again once the second goes.
        drop(second);
        let free = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            open(false).is_ok()
        });
        assert!(free);
    }
}
