//! Pseudo terminals.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// A pseudo terminal pair, both ends close-on-exec and nobody's controlling terminal.
#[derive(Debug)]
pub struct Pty {
    pub master: OwnedFd,
    /// The other end, opened through the master and not by name.
    pub peer: OwnedFd,
    /// `/dev/pts/N`.
    pub path: String,
}

/// Opens a pair. `raw` sets the peer to raw mode (bytes pass unchanged).
pub fn open(raw: bool) -> io::Result<Pty> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let path = ptsname(&master, Vec::new())?.into_string().map_err(io::Error::other)?;
    let peer = rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    if raw {
        let mut mode = tcgetattr(&peer)?;
        mode.make_raw();
        tcsetattr(&peer, OptionalActions::Now, &mode)?;
    }
    Ok(Pty { master, peer, path })
}

/// Sets the window size of a terminal, in characters.
pub fn set_size(fd: impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(fd, size)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn bytes_pass_unchanged() {
        let pty = open(true).unwrap();
        assert!(pty.path.starts_with("/dev/pts/"));
        let (mut master, mut peer) = (std::fs::File::from(pty.master), std::fs::File::from(pty.peer));
        master.write_all(b"a\r\x03\n").unwrap();
        let mut bytes = [0u8; 4];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"a\r\x03\n");
        set_size(&master, 25, 80).unwrap();
    }
}
