//! Packets with fds over `AF_UNIX` `SOCK_SEQPACKET`: one send is one receive, fds travel with their packet.
//!
//! Owns framing and fd passing. Knows nothing of what the packets say. Never blocks when the socket is non-blocking:
//! `WouldBlock` comes back as it is.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use tokio::io::unix::AsyncFd;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// The largest packet sent or received, bytes.
pub const MAX_PACKET: usize = 16 * 1024;
/// The most fds in one packet.
pub const MAX_FDS: usize = 128;

/// A connected pair, close-on-exec, blocking.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A listening socket at `path` with mode 0600; removes what an earlier run left there.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::fs::chmod(path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}

/// Takes a waiting connection; it is non-blocking.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
}

/// Connects to a [`listen`]ing socket; non-blocking. `WouldBlock` when too many wait there already.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Sends one packet. A peer that is gone is `BrokenPipe`, never a signal.
pub fn send(socket: BorrowedFd<'_>, data: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if data.len() > MAX_PACKET || fds.len() > MAX_FDS {
        return Err(io::Error::from_raw_os_error(nix::libc::EMSGSIZE));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from_raw_os_error(nix::libc::EMSGSIZE));
    }
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(data)], &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map(drop).map_err(io::Error::from),
        }
    }
}

/// Receives one packet; `None` when the peer closed. Received fds are close-on-exec. A packet cut short is an error.
pub fn recv(socket: impl AsFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    // Looked at first: room for the largest would be pages that every process of a container has to be given and to clear.
    let size = loop {
        match rustix::net::recv(&socket, &mut [0u8; 0], RecvFlags::PEEK | RecvFlags::TRUNC) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?.1,
        }
    };
    let mut data = vec![0; size.min(MAX_PACKET)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(&mut data)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?,
        }
    };
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    if message.flags.intersects(rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC) {
        return Err(io::Error::from_raw_os_error(nix::libc::EMSGSIZE));
    }
    if message.bytes == 0 && fds.is_empty() {
        return Ok(None);
    }
    data.truncate(message.bytes);
    Ok(Some((data, fds)))
}

/// A connection in the daemon: as above, waiting on the runtime instead of the thread.
#[derive(Debug)]
pub struct AsyncPackets {
    fd: AsyncFd<OwnedFd>,
}

impl AsyncPackets {
    /// Takes over a connected socket. Needs a tokio runtime.
    pub fn new(socket: OwnedFd) -> io::Result<AsyncPackets> {
        let flags = rustix::fs::fcntl_getfl(&socket)?;
        rustix::fs::fcntl_setfl(&socket, flags | rustix::fs::OFlags::NONBLOCK)?;
        // SAFETY: the AsyncFd owns the descriptor, which so stays open and the same until it is dropped.
        let fd = unsafe { AsyncFd::register(socket) }?;
        Ok(AsyncPackets { fd })
    }

    /// As [`recv`]; cancellation-safe.
    pub async fn recv(&self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        loop {
            let mut ready = self.fd.readable().await?;
            if let Ok(result) = ready.try_io(|fd| recv(fd.get_ref())) {
                return result;
            }
        }
    }

    /// As [`send`]; a packet goes as a whole or not at all.
    pub async fn send(&self, data: &[u8]) -> io::Result<()> {
        loop {
            let mut ready = self.fd.writable().await?;
            if let Ok(result) = ready.try_io(|fd| send(fd.get_ref().as_fd(), data, &[])) {
                return result;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_keep_their_borders_and_fds() {
        let (a, b) = pair().unwrap();
        let (c, _d) = pair().unwrap();
        send(a.as_fd(), b"one", &[c.as_fd()]).unwrap();
        send(a.as_fd(), b"two", &[]).unwrap();
        let (data, fds) = recv(&b).unwrap().unwrap();
        assert_eq!((data.as_slice(), fds.len()), (&b"one"[..], 1));
        assert_eq!(recv(&b).unwrap().unwrap().0, b"two");
        let large = vec![7; MAX_PACKET];
        send(a.as_fd(), &large, &[]).unwrap();
        assert_eq!(recv(&b).unwrap().unwrap().0, large);
        rustix::net::send(&a, &vec![7; MAX_PACKET + 1], SendFlags::empty()).unwrap();
        assert_eq!(recv(&b).unwrap_err().raw_os_error(), Some(nix::libc::EMSGSIZE));
        send(a.as_fd(), b"", &[c.as_fd()]).unwrap();
        let (data, fds) = recv(&b).unwrap().unwrap();
        assert_eq!((data.len(), fds.len()), (0, 1));
        drop(a);
        assert!(recv(&b).unwrap().is_none());
        assert_eq!(send(b.as_fd(), b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
