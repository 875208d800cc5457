//! The outbound queue of one connection: bounded in bytes, in order, written by whoever adds to it.
//!
//! ```text
//! push ──> queue ──> nobody sending: write here and now; the socket is full: a task finishes
//!             └────> somebody is sending: they take it along
//! ```
//!
//! Whoever adds a message while nobody writes becomes the writer and tries the socket at once, so that a reply costs no
//! wake-up of another thread. Only when the socket does not take it, a task is spawned for the rest.
//! A queue over its limit closes the connection: a subscriber never misses a signal without noticing.
//! Knows nothing of what it carries.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use tokio::sync::{Notify, watch};
use zbus::Message;

/// Messages handed to the socket in one go.
const BATCH: usize = 64;

/// See the module's text.
#[derive(Debug)]
pub struct Outbound {
    state: Mutex<State>,
    limit: usize,
    room: Notify,
    closed: watch::Sender<bool>,
    who: String,
}

#[derive(Debug)]
struct State {
    /// `None` once closed.
    connection: Option<zbus::Connection>,
    queue: VecDeque<Message>,
    /// Bytes queued or being written.
    bytes: usize,
    sending: bool,
}

impl Outbound {
    /// A queue of at most `limit` bytes for `connection`; `who` names the peer in the log.
    pub fn new(connection: zbus::Connection, limit: usize, who: String) -> Arc<Outbound> {
        let state = State { connection: Some(connection), queue: VecDeque::new(), bytes: 0, sending: false };
        Arc::new(Outbound {
            state: Mutex::new(state),
            limit,
            room: Notify::new(),
            closed: watch::Sender::new(false),
            who,
        })
    }

    /// The peer, for the log.
    pub fn who(&self) -> &str {
        &self.who
    }

    /// The connection, until it is closed.
    pub fn connection(&self) -> Option<zbus::Connection> {
        self.lock().connection.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message and sees that it is written.
    pub fn push(self: &Arc<Self>, message: Message) {
        self.enqueue(message);
        self.kick();
    }

    /// Adds a message; a later [`Outbound::kick`] writes it. A single message of any size is taken by an empty queue.
    pub fn enqueue(&self, message: Message) {
        let size = message.data().bytes().len();
        let mut state = self.lock();
        if state.connection.is_none() {
            return;
        }
        if state.bytes > 0 && state.bytes + size > self.limit {
            tracing::warn!(
                peer = %self.who,
                queued = state.bytes,
                limit = self.limit,
                "D-Bus peer does not read what it is sent and is disconnected"
            );
            drop(state);
            self.close();
            return;
        }
        state.bytes += size;
        state.queue.push_back(message);
    }

    /// Writes what is queued unless somebody does already.
    pub fn kick(self: &Arc<Self>) {
        let connection = {
            let mut state = self.lock();
            if state.sending || state.queue.is_empty() {
                return;
            }
            let Some(connection) = state.connection.clone() else { return };
            state.sending = true;
            connection
        };
        let mut work = Box::pin(self.clone().drain(connection));
        // Polled once with a waker that does nothing: if that is not enough, the task polls it again with its own.
        if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            let this = self.clone();
            tokio::spawn(async move {
                tokio::select! {
                    biased;
                    () = this.closed() => {}
                    () = work => {}
                }
            });
        }
    }

    async fn drain(self: Arc<Self>, connection: zbus::Connection) {
        loop {
            let batch: Vec<Message> = {
                let mut state = self.lock();
                let count = state.queue.len().min(BATCH);
                if count == 0 {
                    state.sending = false;
                    return;
                }
                state.queue.drain(..count).collect()
            };
            let size: usize = batch.iter().map(|message| message.data().bytes().len()).sum();
            let sent = match batch.as_slice() {
                [message] => connection.send(message).await,
                messages => connection.send_all(messages).await,
            };
            match sent {
                Ok(()) => {
                    let mut state = self.lock();
                    state.bytes = state.bytes.saturating_sub(size);
                    drop(state);
                    self.room.notify_waiters();
                }
                // File descriptors for a peer that did not negotiate them: that message alone is lost.
                Err(zbus::Error::Unsupported) => {
                    tracing::warn!(peer = %self.who, "D-Bus peer cannot take file descriptors");
                    let mut state = self.lock();
                    state.bytes = state.bytes.saturating_sub(size);
                }
                Err(error) => {
                    tracing::debug!(peer = %self.who, %error, "D-Bus peer is gone");
                    self.close();
                    return;
                }
            }
        }
    }

    /// Waits until less than half of the limit is queued: calls are not read faster than their replies are.
    pub async fn room(&self) {
        self.until(|state| state.connection.is_none() || state.bytes <= self.limit / 2).await;
    }

    /// Waits until `done` says so; looked at again after every write and when closed.
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

    /// Drops the connection and all that is queued.
    pub fn close(&self) {
        let connection = {
            let mut state = self.lock();
            state.queue.clear();
            state.bytes = 0;
            state.connection.take()
        };
        drop(connection);
        self.closed.send_replace(true);
        self.room.notify_waiters();
    }

    /// Ends when the connection was closed.
    pub async fn closed(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Ends when everything queued was handed to the socket, or the connection was closed.
    pub async fn flushed(&self) {
        self.until(|state| state.bytes == 0).await;
    }
}
