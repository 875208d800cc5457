//! Sockets that the service manager opened for us before it started us (`sd_listen_fds`).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

/// The first descriptor that is passed.
const FIRST: i32 = 3;
/// More than any unit has.
const MOST: i32 = 256;

/// A listening unix stream socket of the service manager's.
#[derive(Debug)]
pub struct PassedSocket {
    pub socket: OwnedFd,
    pub path: PathBuf,
}

/// Takes them, close-on-exec and non-blocking; none at a second call, or when none were passed. Errors: what was passed is
/// no listening unix stream socket with a path.
pub fn sockets() -> io::Result<Vec<PassedSocket>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name: &str| std::env::var(name).ok()?.parse::<i32>().ok();
    // The variables are for the process that the service manager started, not for those that inherit them.
    if number("LISTEN_PID") != i32::try_from(std::process::id()).ok() || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, MOST);
    (FIRST..FIRST + count).map(one).collect()
}

fn one(number: i32) -> io::Result<PassedSocket> {
    let wrong = |what: String| {
        let text = format!("descriptor {number} of the service manager {what}; look at the .socket units");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    };
    if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
        return Err(wrong("is not open".into()));
    }
    // SAFETY: the descriptor is open, and by the protocol it belongs to whoever takes what was passed; `sockets` hands each
    // number out once.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let stream = rustix::net::sockopt::socket_type(&socket).is_ok_and(|kind| kind == SocketType::STREAM);
    if !stream || !rustix::net::sockopt::socket_acceptconn(&socket).unwrap_or(false) {
        return Err(wrong("is no listening stream socket".into()));
    }
    let address = rustix::net::getsockname(&socket)?;
    let address = SocketAddrUnix::try_from(address)
        .ok()
        .filter(|_| rustix::net::sockopt::socket_domain(&socket).is_ok_and(|family| family == AddressFamily::UNIX));
    let path =
        address.and_then(|address| address.path_bytes().map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(path))));
    let path = path.ok_or_else(|| wrong("is no unix socket with a path".into()))?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    let flags = rustix::fs::fcntl_getfl(&socket)?;
    rustix::fs::fcntl_setfl(&socket, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok(PassedSocket { socket, path })
}
