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
pub mod managed;
pub mod outbound;
pub mod path;
mod sender;
pub mod signals;
pub mod standard;
pub mod table;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::Poll;

use tokio::sync::mpsc::error::TryRecvError;

use crate::engine::Engine;
use crate::engine::access::{Entry, Gate};
use crate::engine::event::{Event, Subscription};
use client::{Client, Link, OWN_UNIQUE_NAME};
use managed::{Key, Managed};
use path::{Root, Scope};
use zbus::Message;

/// The well-known name, on buses and on our own socket.
pub const NAME: &str = "org.libvirt";

/// Bytes a peer may leave unread before it is disconnected.
pub const OUTBOUND_LIMIT: usize = 16 * 1024 * 1024;

/// How often the progress of a job is told.
const PROGRESS_INTERVAL: std::time::Duration = std::time::Duration::from_millis(250);

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
    managed: Managed,
    /// Whether somebody looks at the progress of jobs.
    watched: AtomicBool,
}

impl Server {
    /// A server without connections. Signals flow from now on; call it within a tokio runtime.
    pub fn new(engine: Arc<Engine>, options: Options) -> Arc<Server> {
        let events = Mutex::new(engine.events().subscribe());
        let managed = Managed::default();
        for driver in path::ROOTS.iter().filter_map(|root| root.driver) {
            if let Some(connection) = engine.connection(driver) {
                managed.fill(&connection);
            }
        }
        let server = Arc::new(Server {
            engine,
            options,
            clients: RwLock::new(Vec::new()),
            next_client: AtomicU64::new(1),
            events,
            managed,
            watched: AtomicBool::new(false),
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
    pub fn flush_events(self: &Arc<Self>) {
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

    /// Queues one event's signals everywhere; called with the subscription locked, which keeps the order.
    fn broadcast(self: &Arc<Self>, event: &Arc<Event>) {
        let (has_signal, subject) = (signals::has_signal(event), managed::subject(event));
        if matches!(subject, Some(Key::Job(_))) {
            self.watch_jobs();
        }
        // An object of the host is below the root of every driver that shares it.
        for root in &path::ROOTS {
            let Some(driver) = root.driver.filter(|driver| event.concerns(*driver)) else { continue };
            let Some(connection) = self.engine.connection(driver) else { continue };
            if has_signal {
                self.send(root, |sender| signals::build(event, driver, sender));
            }
            if let Some(change) = subject.and_then(|key| self.managed.look(&connection, key)) {
                self.send(root, |sender| change.message(sender));
            }
        }
    }

    /// Queues a signal on every connection that shows `root`; it is built at most once for buses and once for peers, to
    /// which it names its sender.
    fn send(&self, root: &Root, build: impl Fn(Option<&'static str>) -> zbus::Result<Message>) {
        let Some(driver) = root.driver else { return };
        let (mut for_bus, mut for_peer) = (None, None);
        for client in self.clients() {
            if root.uri(client.scope).is_none() || !client.hears(driver) || !client.may_listen() {
                continue;
            }
            let (slot, sender) = match client.is_bus() {
                true => (&mut for_bus, None),
                false => (&mut for_peer, Some(OWN_UNIQUE_NAME)),
            };
            if slot.is_none() {
                match build(sender) {
                    Ok(message) => *slot = Some(message),
                    Err(error) => return tracing::error!(root = root.name, %error, "cannot build a signal"),
                }
            }
            if let Some(message) = slot {
                client.outbound.enqueue(message.clone());
            }
        }
    }

    /// Tells the progress of jobs now and then as long as there are any.
    fn watch_jobs(self: &Arc<Self>) {
        if self.watched.swap(true, Ordering::AcqRel) {
            return;
        }
        let server = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PROGRESS_INTERVAL).await;
                let Some(server) = server.upgrade() else { return };
                if !server.tell_progress() {
                    return;
                }
                server.kick();
            }
        });
    }

    /// Whether there are jobs that somebody knows of.
    fn tell_progress(&self) -> bool {
        // As in every other place where signals are made: one order for all.
        let _events = self.lock_events();
        let mut any = false;
        for root in &path::ROOTS {
            let Some(connection) = root.driver.and_then(|driver| self.engine.connection(driver)) else { continue };
            for key in self.managed.jobs(connection.kind()) {
                any = true;
                // One that has ended says so by its event, which is on its way.
                if let Some(change) = self.managed.progress(&connection, key) {
                    self.send(root, |sender| change.message(sender));
                }
            }
        }
        if !any {
            self.watched.store(false, Ordering::Release);
        }
        any
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
    pub async fn close(self: &Arc<Self>, patience: std::time::Duration) {
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
