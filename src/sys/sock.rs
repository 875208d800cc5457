//! Unix stream sockets: listen with a mode, connect, who is the peer.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Longest path of a unix socket in bytes (`sun_path` without the NUL byte).
pub const MAX_PATH: usize = 107;

/// The process at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

/// Refuses a path that does not fit into a socket address, naming it and the limit.
pub fn check_path(path: &Path) -> io::Result<()> {
    let length = path.as_os_str().as_bytes().len();
    if length > MAX_PATH {
        let text = format!("socket path '{}' has {length} bytes, at most {MAX_PATH} are possible", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

/// A listening socket (close-on-exec, non-blocking if asked) at `path` with file mode `mode`. A stale socket there is
/// replaced; any other kind of file is an error. Whoever calls makes sure that no other daemon owns the path.
pub fn listen(path: &Path, mode: u32, backlog: i32, nonblocking: bool) -> io::Result<OwnedFd> {
    check_path(path)?;
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::from_raw_os_error(nix::libc::EEXIST)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = new_socket(nonblocking)?;
    // No way in before listen(), so the mode is right before the first connection.
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

/// A blocking, close-on-exec connection to `path`.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    check_path(path)?;
    let socket = new_socket(false)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Who is at the other end, as of its connect.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let credentials = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(Peer {
        pid: credentials.pid.as_raw_nonzero().get(),
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
    })
}

fn new_socket(nonblocking: bool) -> io::Result<OwnedFd> {
    let mut flags = SocketFlags::CLOEXEC;
    flags.set(SocketFlags::NONBLOCK, nonblocking);
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_connect_peer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(listen(&path, 0o600, 4, false).unwrap());
        let listener = listen(&path, 0o660, 4, false).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let client = connect(&path).unwrap();
        let server = rustix::net::accept(&listener).unwrap();
        assert_eq!(peer(&server).unwrap().pid, std::process::id() as i32);
        assert_eq!(peer(&client).unwrap().uid, rustix::process::getuid().as_raw());
    }

    #[test]
    fn only_a_socket_is_replaced() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(listen(file.path(), 0o600, 4, false).unwrap_err().raw_os_error(), Some(nix::libc::EEXIST));
        assert!(file.path().exists());
    }

    #[test]
    fn long_paths_are_named() {
        let path = format!("/{}", "x".repeat(107));
        let error = connect(Path::new(&path)).unwrap_err().to_string();
        assert!(error.contains("108 bytes") && error.contains(&path), "{error}");
    }
}
