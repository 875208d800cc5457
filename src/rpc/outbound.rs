//! What one client is sent: packets in order, bounded in bytes, written by whoever adds to it.
//!
//! Whoever adds a packet while nobody writes tries the socket at once, so that a reply costs no wake-up of another
//! thread; a task finishes what the socket did not take. A client that lets more than the limit pile up is
//! disconnected: it never misses an event without noticing. Streams wait for [`Outbound::room`] instead.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, watch};

use crate::sys;

/// See the module's text.
#[derive(Debug)]
pub struct Outbound {
    stream: UnixStream,
    state: Mutex<State>,
    limit: usize,
    room: Notify,
    closed: watch::Sender<bool>,
    who: String,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Packet>,
    bytes: usize,
    sending: bool,
    closed: bool,
}

#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    written: usize,
    fds: VecDeque<OwnedFd>,
}

/// What a try at the socket ended with.
enum Progress {
    Done,
    Full,
    Gone,
}

impl Outbound {
    /// For `stream`, of which it owns the writing half; `who` names the client in the log.
    pub fn new(stream: UnixStream, limit: usize, who: String) -> Arc<Outbound> {
        Arc::new(Outbound {
            stream,
            state: Mutex::default(),
            limit,
            room: Notify::new(),
            closed: watch::Sender::new(false),
            who,
        })
    }

    /// The client, for the log.
    pub fn who(&self) -> &str {
        &self.who
    }

    /// The socket, for its reader.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a packet and sees that it is written. A single packet of any size is taken by an empty queue.
    pub fn push(self: &Arc<Self>, bytes: Vec<u8>, fds: Vec<OwnedFd>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if state.bytes > 0 && state.bytes + bytes.len() > self.limit {
            tracing::warn!(
                client = %self.who,
                queued = state.bytes,
                limit = self.limit,
                "client does not read what it is sent and is disconnected"
            );
            drop(state);
            self.close();
            return;
        }
        state.bytes += bytes.len();
        state.queue.push_back(Packet { bytes, written: 0, fds: fds.into() });
        if state.sending {
            return;
        }
        match self.try_write(&mut state) {
            Progress::Done => {}
            Progress::Gone => {
                drop(state);
                self.close();
            }
            Progress::Full => {
                state.sending = true;
                let this = self.clone();
                tokio::spawn(async move { this.finish().await });
            }
        }
    }

    /// Writes until the queue is empty or the socket is full.
    fn try_write(&self, state: &mut State) -> Progress {
        while let Some(packet) = state.queue.front_mut() {
            let rest = packet.bytes.get(packet.written..).unwrap_or_default();
            let result = if !rest.is_empty() {
                self.stream.try_io(Interest::WRITABLE, || sys::stream::send(&self.stream, rest))
            } else if let Some(fd) = packet.fds.front() {
                self.stream.try_io(Interest::WRITABLE, || sys::stream::send_fd(&self.stream, fd.as_fd())).map(|()| 0)
            } else {
                state.bytes -= packet.bytes.len();
                state.queue.pop_front();
                continue;
            };
            match result {
                Ok(0) => drop(packet.fds.pop_front()),
                Ok(count) => packet.written += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Progress::Full,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Progress::Gone,
            }
        }
        Progress::Done
    }

    async fn finish(self: Arc<Self>) {
        let mut closed = self.closed.subscribe();
        loop {
            let gone = tokio::select! {
                _ = closed.wait_for(|closed| *closed) => true,
                ready = self.stream.writable() => ready.is_err(),
            };
            let mut state = self.lock();
            match if gone { Progress::Gone } else { self.try_write(&mut state) } {
                Progress::Full => {}
                Progress::Done => {
                    state.sending = false;
                    drop(state);
                    self.room.notify_waiters();
                    return;
                }
                Progress::Gone => {
                    state.sending = false;
                    drop(state);
                    self.close();
                    return;
                }
            }
            drop(state);
            self.room.notify_waiters();
        }
    }

    /// Waits until less than half of the limit is queued.
    pub async fn room(&self) {
        self.until(|state| state.closed || state.bytes <= self.limit / 2).await;
    }

    /// Ends when everything was handed to the socket, or the connection was closed.
    pub async fn flushed(&self) {
        self.until(|state| state.closed || state.bytes == 0).await;
    }

    async fn until(&self, done: impl Fn(&State) -> bool) {
        if done(&self.lock()) {
            return;
        }
        loop {
            let notified = self.room.notified();
            tokio::pin!(notified);
            // Registered before looking: nothing that happens in between is missed.
            notified.as_mut().enable();
            if done(&self.lock()) {
                return;
            }
            notified.await;
        }
    }

    /// Drops what is queued and ends the connection.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.queue.clear();
        state.bytes = 0;
        drop(state);
        // The peer must see the end although readers may still hold the socket.
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Both);
        self.closed.send_replace(true);
        self.room.notify_waiters();
    }

    /// Ends when the client has closed its end, which whoever reads would see, too.
    pub async fn hung_up(&self) {
        // A client may be done with sending alone; gone is who does not receive either.
        if self.stream.ready(Interest::PRIORITY).await.is_ok()
            && self.stream.ready(Interest::WRITABLE).await.is_ok_and(|ready| !ready.is_write_closed())
        {
            std::future::pending().await
        }
    }

    /// Ends when the connection was closed.
    pub async fn closed(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }
}
