//! Connections to the supervisor: greeting, requests in, events out.
//!
//! Only root reaches the socket (mode 0600 in root's directory). A connection that does not read is dropped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Failure, exit};
use crate::lxc::protocol::{Event, PROTOCOL_VERSION, Request};
use crate::sys::packet;

/// One client.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    greeted: bool,
    broken: bool,
}

impl Connection {
    /// Greets.
    pub fn new(socket: OwnedFd) -> Connection {
        let mut connection = Connection::of_starter(socket);
        connection.greet();
        connection
    }

    /// Greets when it first has something to say: whoever started us waits for that, and is woken once.
    pub fn of_starter(socket: OwnedFd) -> Connection {
        if let Ok(flags) = rustix::fs::fcntl_getfl(&socket) {
            let _ = rustix::fs::fcntl_setfl(&socket, flags | rustix::fs::OFlags::NONBLOCK);
        }
        Connection { socket, greeted: false, broken: false }
    }

    fn greet(&mut self) {
        self.greeted = true;
        self.send(&Event::Hello { version: PROTOCOL_VERSION, pid: std::process::id() as i32 }, None);
    }

    pub fn send(&mut self, event: &Event, fd: Option<BorrowedFd<'_>>) {
        if !self.greeted {
            self.greet();
        }
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

/// Reports a failure before there is a supervisor: greeting and failure on the starter's connection.
pub fn report_failure(socket: &OwnedFd, failure: &Failure) {
    let hello = Event::Hello { version: PROTOCOL_VERSION, pid: std::process::id() as i32 };
    for event in [hello, Event::Ended(exit::of_failure(failure))] {
        if let Ok(text) = serde_json::to_vec(&event) {
            let _ = packet::send(socket.as_fd(), &text, &[]);
        }
    }
}
