//! The user's own terminal: raw mode while a console is attached.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal in raw mode; dropping it puts the former mode back.
#[derive(Debug)]
pub struct RawMode {
    fd: OwnedFd,
    saved: Termios,
}

impl RawMode {
    /// Raw mode for `fd`; `None` if it is no terminal.
    pub fn enter(fd: impl AsFd) -> io::Result<Option<RawMode>> {
        if !isatty(fd.as_fd()) {
            return Ok(None);
        }
        let fd = fd.as_fd().try_clone_to_owned()?;
        let saved = tcgetattr(&fd)?;
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(&fd, OptionalActions::Now, &raw)?;
        Ok(Some(RawMode { fd, saved }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.fd, OptionalActions::Now, &self.saved);
    }
}

/// Rows and columns of a terminal, if it is one.
pub fn size(fd: impl AsFd) -> Option<(u16, u16)> {
    tcgetwinsize(fd).ok().map(|size| (size.ws_row, size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::termios::LocalModes;

    #[test]
    fn the_former_mode_comes_back() {
        let pty = crate::sys::pty::open(false).unwrap();
        let echo = |fd: &OwnedFd| tcgetattr(fd).unwrap().local_modes.contains(LocalModes::ECHO);
        assert!(echo(&pty.peer));
        let raw = RawMode::enter(&pty.peer).unwrap().unwrap();
        assert!(!echo(&pty.peer));
        drop(raw);
        assert!(echo(&pty.peer));
        assert!(RawMode::enter(tempfile::tempfile().unwrap()).unwrap().is_none());
    }
}
