//! The RPC front end: libvirt's remote protocol on unix sockets, for unmodified virsh, libvirt-python, Nova and others.
//! Codecs only; no decision is taken here.
//!
//! ```text
//! socket -> client (reader) -> packet -> table row (program, procedure) -> codec -> engine call
//!                 ^                                                             |
//!                 +---- outbound queue <---- reply <----------------------------+
//!                            ^    ^
//!                            |    +--- streams (consoles)
//!                            +-------- messages <---- engine events, in their order
//! ```
//!
//! Layouts, numbers and texts are facts of the protocol (`remote_protocol.x`); each procedure is a row in [`table`].
//! A procedure nobody serves yet answers `NO_SUPPORT`, which applications take as "skip this".

pub mod call;
pub mod client;
pub mod coverage;
pub mod events;
pub mod frame;
pub mod listen;
pub mod outbound;
mod session;
pub mod stream;
pub mod table;
#[cfg(test)]
mod tests;
pub mod wire;
pub mod xdr;

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::Poll;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::engine::Engine;
use crate::engine::event::{Event, Subscription};
use client::{Client, Peer};

/// Bytes a client may leave unread before it is disconnected.
pub const OUTBOUND_LIMIT: usize = 64 * 1024 * 1024;

/// What a server is told once.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes queued per connection.
    pub outbound_limit: usize,
    /// Connections at once, of all sockets together; more wait in the kernel's backlog.
    pub max_clients: usize,
    /// Those among them that have not authenticated yet.
    pub max_anonymous_clients: usize,
    /// Calls one client may have in flight; then it is not read until one has ended.
    pub max_client_requests: usize,
    /// Calls that change something, of all clients together, that are worked on at once; more wait.
    pub max_workers: usize,
    /// Silence after which a client that wants it is pinged, and how many pings it may leave unanswered; `None` = never.
    pub keepalive: Option<(Duration, u32)>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            outbound_limit: OUTBOUND_LIMIT,
            max_clients: 5000,
            max_anonymous_clients: 20,
            max_client_requests: 32,
            max_workers: 200,
            keepalive: Some((Duration::from_secs(5), 5)),
        }
    }
}

/// A connection's place among those that may be there at once.
#[derive(Debug)]
pub struct Place {
    _among_all: OwnedSemaphorePermit,
    /// Given back when it authenticates.
    anonymous: OwnedSemaphorePermit,
}

/// All RPC connections of the daemon.
#[derive(Debug)]
pub struct Server {
    pub engine: Arc<Engine>,
    pub options: Options,
    clients: RwLock<Vec<Arc<Client>>>,
    next_client: AtomicU64,
    events: Mutex<Subscription>,
    places: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
    /// One for each call that may be worked on.
    workers: Semaphore,
}

impl Server {
    /// A server without connections; call it within a tokio runtime.
    pub fn new(engine: Arc<Engine>, options: Options) -> Arc<Server> {
        let events = Mutex::new(engine.events().subscribe());
        let clients = RwLock::default();
        let server = Arc::new(Server {
            engine,
            options,
            clients,
            next_client: AtomicU64::new(1),
            events,
            places: Arc::new(Semaphore::new(options.max_clients)),
            anonymous: Arc::new(Semaphore::new(options.max_anonymous_clients)),
            workers: Semaphore::new(options.max_workers),
        });
        let pump = Arc::downgrade(&server);
        tokio::spawn(poll_fn(move |context| {
            let Some(server) = pump.upgrade() else { return Poll::Ready(()) };
            let mut events = server.lock_events();
            while let Poll::Ready(event) = events.poll_recv(context) {
                match event {
                    Some(event) => server.broadcast(&event),
                    None => server.resubscribe(&mut events),
                }
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

    /// Queues the messages of every event emitted so far.
    pub fn flush_events(&self) {
        let mut events = self.lock_events();
        loop {
            match events.try_recv() {
                Ok(event) => self.broadcast(&event),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.resubscribe(&mut events),
            }
        }
    }

    /// Queues one event's messages; called with the subscription locked, which keeps the order.
    fn broadcast(&self, event: &Event) {
        for client in self.clients() {
            let concerned = client.opened().is_some_and(|(connection, _)| event.concerns(connection.kind()));
            if concerned {
                for packet in client.callbacks.packets(event) {
                    client.outbound_push(packet, Vec::new());
                }
            }
        }
    }

    /// We were too slow for the engine ourselves: every client has missed events and is disconnected, so that it knows.
    fn resubscribe(&self, events: &mut Subscription) {
        tracing::error!("the RPC server overran its event queue; all clients are disconnected");
        *events = self.engine.events().subscribe();
        for client in self.clients() {
            client.outbound.close();
        }
    }

    /// A place for one more connection, once there is one.
    pub async fn place(&self) -> Place {
        let permit = async |places: &Arc<Semaphore>| match places.clone().acquire_owned().await {
            Ok(permit) => permit,
            // Never closed.
            Err(_) => std::future::pending().await,
        };
        Place { _among_all: permit(&self.places).await, anonymous: permit(&self.anonymous).await }
    }

    /// Serves one connected client until it goes.
    pub async fn serve(self: &Arc<Self>, stream: UnixStream, peer: Peer, place: Place) {
        let Place { _among_all, anonymous } = place;
        let id = self.next_client.fetch_add(1, Ordering::Relaxed);
        let client = Client::new(id, self.clone(), stream, peer, anonymous);
        self.clients.write().unwrap_or_else(PoisonError::into_inner).push(client.clone());
        tracing::debug!(client = %client.outbound.who(), "RPC client connected");
        client.serve().await;
        self.clients.write().unwrap_or_else(PoisonError::into_inner).retain(|client| client.id != id);
    }

    /// Ends when no call is in flight on any connection.
    pub async fn idle(&self) {
        while self.clients().iter().any(|client| client.in_flight() > 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Tells those who asked for it that the connection ends, sends what is queued for at most `patience`, and
    /// disconnects everybody.
    pub async fn close(&self, patience: Duration) {
        self.flush_events();
        let clients = self.clients();
        for client in &clients {
            session::announce_close(client);
        }
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
