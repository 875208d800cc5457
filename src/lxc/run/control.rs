//! Connections to the supervisor: greeting, requests in, events out.
//!
//! Only root reaches the socket (mode 0600 in root's directory). A connection that does not read is dropped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Failure, exit};
use crate::lxc::protocol::{Event, ExitRecord, PROTOCOL_VERSION, Request};
use crate::sys::packet;

/// One client.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    broken: bool,
}

impl Connection {
    /// Greets; `start` is our start time.
    pub fn new(socket: OwnedFd, start: u64) -> Connection {
        if let Ok(flags) = rustix::fs::fcntl_getfl(&socket) {
            let _ = rustix::fs::fcntl_setfl(&socket, flags | rustix::fs::OFlags::NONBLOCK);
        }
        let mut connection = Connection { socket, broken: false };
        connection.send(&hello(start), None);
        connection
    }

    pub fn send(&mut self, event: &Event, fd: Option<BorrowedFd<'_>>) {
        let fds: Vec<_> = fd.into_iter().collect();
        let sent = serde_json::to_vec(event).is_ok_and(|text| packet::send(self.socket.as_fd(), &text, &fds).is_ok());
        self.broken |= !sent;
    }

    /// The next request; `None` when there is none now. A packet that is no request ends the connection.
    pub fn receive(&mut self) -> Option<Request> {
        match packet::recv(&self.socket) {
            Ok(Some((data, _))) => match serde_json::from_slice(&data) {
                Ok(request) => return Some(request),
                Err(error) => {
                    #[derive(serde::Deserialize)]
                    struct Numbered {
                        seq: u64,
                    }
                    // A call of a newer daemon: say so, and go on.
                    match serde_json::from_slice::<Numbered>(&data) {
                        Ok(Numbered { seq }) => {
                            let error = Some(format!("unknown call: {error}"));
                            self.send(&Event::Reply { seq, error, status: None }, None);
                        }
                        Err(_) => self.broken = true,
                    }
                }
            },
            Ok(None) => self.broken = true,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.broken = true,
        }
        None
    }

    pub fn is_broken(&self) -> bool {
        self.broken
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn hello(start: u64) -> Event {
    Event::Hello { version: PROTOCOL_VERSION, pid: std::process::id() as i32, start }
}

/// Reports a failure before there is a supervisor: greeting and failure on the starter's connection.
pub fn report_failure(socket: &OwnedFd, failure: &Failure) {
    report(socket, exit::of_failure(failure));
}

/// The same with the record.
pub fn report(socket: &OwnedFd, record: ExitRecord) {
    for event in [hello(0), Event::Ended(record)] {
        if let Ok(text) = serde_json::to_vec(&event) {
            let _ = packet::send(socket.as_fd(), &text, &[]);
        }
    }
}
