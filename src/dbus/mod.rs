//! The D-Bus front end: libvirt-dbus's API (`org.libvirt`) without an object server. Codecs only; no decision is taken here.
//!
//! ```text
//! socket -> client (reader) -> dispatch (path, interface, member) -> table row -> codec -> engine call
//!                 ^                                                                          |
//!                 +---- outbound queue <---- reply <-----------------------------------------+
//!                            ^
//!                            +---- signals <---- engine events, in their order
//! ```
//!
//! zbus gives connections, authentication, messages and file descriptors. Everything a client sees, introspection and
//! properties included, comes from the rows in [`table`]. Connections: message buses ([`bus`]) and our own
//! peer-to-peer socket ([`listen`]), where the few bus calls clients make first are answered too ([`bus_driver`]).
//! Never keeps state of domains and never waits for one connection on behalf of another.

pub mod bus;
pub mod bus_driver;
pub mod call;
pub mod client;
pub mod codec;
pub mod coverage;
pub mod dispatch;
pub mod fault;
pub mod introspect;
pub mod listen;
pub mod outbound;
pub mod path;
mod sender;
pub mod signals;
pub mod standard;
pub mod table;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::Poll;

use tokio::sync::mpsc::error::TryRecvError;

use crate::engine::Engine;
use crate::engine::access::{Entry, Gate};
use crate::engine::event::{Event, Subscription};
use client::{Client, Link};
use path::Scope;
use signals::Signal;

/// The well-known name, on buses and on our own socket.
pub const NAME: &str = "org.libvirt";

/// Bytes a peer may leave unread before it is disconnected.
pub const OUTBOUND_LIMIT: usize = 16 * 1024 * 1024;

/// What a server is told once.
#[derive(Clone, Debug)]
pub struct Options {
    /// `Root` of `org.domus.Daemon1`: the directory everything is below, or "" for the system's directories.
    pub root: String,
    /// Names of the drivers, as of their roots.
    pub drivers: Vec<String>,
    /// Bytes queued per connection.
    pub outbound_limit: usize,
    /// Identifies this server on its own socket: 32 hex digits.
    pub guid: String,
    /// How callers on the system bus come in.
    pub bus_gate: Gate,
}

impl Options {
    /// Defaults, with a fresh guid.
    pub fn new(root: String, drivers: Vec<String>) -> Options {
        let guid = crate::types::Uuid::new_v4().simple().to_string();
        Options { root, drivers, outbound_limit: OUTBOUND_LIMIT, guid, bus_gate: Gate::default() }
    }
}

/// All D-Bus connections of the daemon.
#[derive(Debug)]
pub struct Server {
    pub engine: Arc<Engine>,
    pub options: Options,
    clients: RwLock<Vec<Arc<Client>>>,
    next_client: AtomicU64,
    events: Mutex<Subscription>,
}

impl Server {
    /// A server without connections. Signals flow from now on; call it within a tokio runtime.
    pub fn new(engine: Arc<Engine>, options: Options) -> Arc<Server> {
        let events = Mutex::new(engine.events().subscribe());
        let server = Arc::new(Server {
            engine,
            options,
            clients: RwLock::new(Vec::new()),
            next_client: AtomicU64::new(1),
            events,
        });
        let pump = Arc::downgrade(&server);
        tokio::spawn(poll_fn(move |context| {
            let Some(server) = pump.upgrade() else { return Poll::Ready(()) };
            let mut events = server.lock_events();
            let mut any = false;
            while let Poll::Ready(event) = events.poll_recv(context) {
                match event {
                    Some(event) => server.broadcast(&event),
                    None => server.resubscribe(&mut events),
                }
                any = true;
            }
            drop(events);
            if any {
                server.kick();
            }
            Poll::Pending
        }));
        server
    }

    fn lock_events(&self) -> MutexGuard<'_, Subscription> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clients(&self) -> Vec<Arc<Client>> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Number of connections.
    pub fn client_count(&self) -> usize {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Queues the signals of every event emitted so far, on every connection.
    pub fn flush_events(&self) {
        let mut events = self.lock_events();
        let mut any = false;
        loop {
            match events.try_recv() {
                Ok(event) => self.broadcast(&event),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.resubscribe(&mut events),
            }
            any = true;
        }
        drop(events);
        if any {
            self.kick();
        }
    }

    /// Queues one event's signal everywhere; called with the subscription locked, which keeps the order.
    fn broadcast(&self, event: &Arc<Event>) {
        if !signals::has_signal(event) {
            return;
        }
        let clients = self.clients();
        // An object of the host is below the root of every driver that shares it.
        for root in &path::ROOTS {
            let Some(driver) = root.driver.filter(|driver| event.concerns(*driver)) else { continue };
            if self.engine.connection(driver).is_none() {
                continue;
            }
            let mut signal = Signal::new(event.clone(), driver);
            for client in &clients {
                if root.uri(client.scope).is_none() || !client.hears(driver) || !client.may_listen() {
                    continue;
                }
                let message = if client.is_bus() { signal.for_bus() } else { signal.for_peer() };
                match message {
                    Ok(message) => client.outbound.enqueue(message),
                    Err(error) => tracing::error!(?signal, %error, "cannot build a signal"),
                }
            }
        }
    }

    fn kick(&self) {
        for client in self.clients() {
            client.outbound.kick();
        }
    }

    /// We were too slow for the engine ourselves: every peer has missed events and is disconnected, so that it knows.
    fn resubscribe(&self, events: &mut Subscription) {
        tracing::error!("the D-Bus server overran its event queue; all peers are disconnected");
        *events = self.engine.events().subscribe();
        for client in self.clients() {
            client.outbound.close();
        }
    }

    /// Adds a connection; it gets every signal from now on. Run [`Client`]'s reader with what is returned.
    fn add_client(
        self: &Arc<Self>,
        connection: zbus::Connection,
        scope: Scope,
        entry: Entry,
        link: impl FnOnce(u64) -> Link,
    ) -> Arc<Client> {
        let id = self.next_client.fetch_add(1, Ordering::Relaxed);
        let client = Client::new(id, self.clone(), connection, scope, entry, link(id));
        self.clients.write().unwrap_or_else(PoisonError::into_inner).push(client.clone());
        client
    }

    fn remove_client(&self, id: u64) {
        self.clients.write().unwrap_or_else(PoisonError::into_inner).retain(|client| client.id != id);
    }

    /// Ends when no call is in flight on any connection.
    pub async fn idle(&self) {
        while self.clients().iter().any(|client| client.in_flight() > 0) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Sends what is queued, for at most `patience`, then disconnects everybody.
    pub async fn close(&self, patience: std::time::Duration) {
        self.flush_events();
        let clients = self.clients();
        let flushed = async {
            for client in &clients {
                client.outbound.flushed().await;
            }
        };
        let _ = tokio::time::timeout(patience, flushed).await;
        for client in clients {
            client.outbound.close();
        }
    }
}
