//! Byte streams without a thread: unix stream sockets that carry file descriptors, and any pollable descriptor.
//!
//! Owns the system calls alone; knows nothing of what the bytes say. A peer that is gone is an error, never a signal.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use tokio::io::unix::AsyncFd;

/// Descriptors one `recvmsg` can bring; the kernel closes what is beyond.
const MAX_FDS: usize = 64;

/// Reads what is there into `buffer`, with the descriptors that came along (close-on-exec). 0 bytes: the peer closed.
pub fn recv(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    Ok((message.bytes, fds))
}

/// Sends as much of `data` as fits now.
pub fn send(socket: impl AsFd, data: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, data, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// Sends one NUL byte that carries `fd`, as libvirt's RPC passes descriptors.
pub fn send_fd(socket: impl AsFd, fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::from_raw_os_error(nix::libc::EMSGSIZE));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(&[0])], &mut control, flags)?;
    Ok(())
}

/// Most descriptors that one message carries here; the kernel's own limit is higher.
pub const MAX_SENT_FDS: usize = 32;

/// Sends as much of `data` as fits now, with `fds` on its first byte; nothing is sent without the other.
/// Errors: `EMSGSIZE` for more than [`MAX_SENT_FDS`].
pub fn send_with_fds(socket: impl AsFd, data: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SENT_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if fds.len() > MAX_SENT_FDS || !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from_raw_os_error(nix::libc::EMSGSIZE));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(data)], &mut control, flags)?)
}

/// A socket, pipe or terminal, read and written as its readiness allows.
#[derive(Debug)]
pub struct AsyncStream {
    fd: AsyncFd<OwnedFd>,
}

impl AsyncStream {
    /// Takes over a descriptor and makes it non-blocking. Needs a tokio runtime.
    pub fn new(fd: OwnedFd) -> io::Result<AsyncStream> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        // SAFETY: the AsyncFd owns the descriptor, which so stays open and the same until it is dropped.
        let fd = unsafe { AsyncFd::register(fd) }?;
        Ok(AsyncStream { fd })
    }

    /// Some bytes; 0 at the end. A terminal whose other side is closed (`EIO`) has ended, too. Cancellation-safe.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.fd.readable().await?;
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *buffer)?)) {
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => return Ok(0),
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// All of `data`.
    pub async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let mut ready = self.fd.writable().await?;
            if let Ok(written) = ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), data)?)) {
                data = data.get(written?..).unwrap_or_default();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_travel_with_their_byte() {
        let (a, b) = UnixStream::pair().unwrap();
        let (c, _d) = UnixStream::pair().unwrap();
        assert_eq!(send(&a, b"xy").unwrap(), 2);
        send_fd(&a, c.as_fd()).unwrap();
        let mut buffer = [0; 16];
        let (mut bytes, mut fds) = (0, 0);
        while bytes < 3 {
            let (count, received) = recv(&b, &mut buffer).unwrap();
            bytes += count;
            fds += received.len();
        }
        assert_eq!((bytes, fds), (3, 1));
        assert_eq!(recv(&b, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert_eq!(recv(&b, &mut buffer).unwrap().0, 0);
    }
}
