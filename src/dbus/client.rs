//! One D-Bus connection: its reader, its calls in flight, its replies.
//!
//! The reader never awaits a handler. A read is polled once where it arrived, because reads answer from memory and a
//! reply then needs no second thread; whatever is not ready after that, and every write, runs in a task of its own.
//! Replies may therefore overtake each other; a caller that needs an order waits for its replies.
//!
//! Before a reply leaves, every event emitted so far leaves: a client that has the reply has the signals too.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::{FutureExt, StreamExt};
use serde::Serialize;
use tokio::sync::watch;
use zbus::message::{Flags, Type};
use zbus::{DynamicType, Message, MessageStream};

use super::call::{BoxFuture, Reply};
use super::dispatch::{self, Work};
use super::fault::Fault;
use super::outbound::Outbound;
use super::path::Scope;
use super::sender::Senders;
use super::{NAME, Server};
use crate::engine::access::{Access, Entry};
use crate::engine::api::{Caller, Presence};
use crate::engine::driver::DriverKind;

/// Our unique name on a peer-to-peer connection, where there is no bus to give one.
pub const OWN_UNIQUE_NAME: &str = ":1.0";

/// Calls one connection may have in flight; more are refused.
const MAX_IN_FLIGHT: usize = 2_000;

/// What is at the other end.
#[derive(Clone, Debug)]
pub enum Link {
    /// A message bus: many callers, told apart by their unique names; `gated`: they are asked about.
    Bus { gated: bool },
    /// One peer on our own socket; its credentials come from the kernel.
    Peer { unique_name: String, uid: u32, pid: Option<i32> },
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    pub id: u64,
    pub server: Arc<Server>,
    pub scope: Scope,
    /// How the other end came in; on a bus, what the bus itself may.
    pub entry: Entry,
    pub link: Link,
    pub outbound: Arc<Outbound>,
    /// The caller on a peer-to-peer connection.
    peer: Arc<Caller>,
    /// The callers on a bus who are asked about.
    senders: Senders,
    in_flight: AtomicUsize,
    /// One bit for each driver whose root was called here.
    called: AtomicU8,
    /// Dropped when the other end goes.
    here: Mutex<Option<watch::Sender<()>>>,
}

/// Why a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The other end went away, or was disconnected by us.
    Closed,
    /// The bus took our name away.
    NameLost,
}

impl Client {
    pub(super) fn new(
        id: u64,
        server: Arc<Server>,
        connection: zbus::Connection,
        scope: Scope,
        entry: Entry,
        link: Link,
    ) -> Arc<Client> {
        let who = match &link {
            Link::Bus { .. } => "bus".to_string(),
            Link::Peer { uid, pid: Some(pid), .. } => format!("uid {uid} pid {pid}"),
            Link::Peer { uid, pid: None, .. } => format!("uid {uid}"),
        };
        let outbound = Outbound::new(connection, server.options.outbound_limit, who.clone());
        let (here, presence) = Presence::new();
        let peer = Arc::new(Caller { read_only: entry.access != Access::ReadWrite, who, presence, ask: None });
        let (here, senders) = (Mutex::new(Some(here)), Senders::default());
        let (in_flight, called) = (AtomicUsize::new(0), AtomicU8::new(0));
        Arc::new(Client { id, server, scope, entry, link, outbound, peer, senders, in_flight, called, here })
    }

    /// Calls that have no reply yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Whether the other end is a message bus.
    pub fn is_bus(&self) -> bool {
        matches!(self.link, Link::Bus { .. })
    }

    /// Notes a call to the root of `driver`, or to an object below it.
    pub(super) fn note_call(&self, driver: DriverKind) {
        self.called.fetch_or(bit(driver), Ordering::Relaxed);
    }

    /// Whether signals below the root of `driver` belong on this connection. libvirt-dbus opens a driver's connection
    /// with the first call to its root and says nothing of it before. Clients on a bus rely on that: they match signals
    /// by interface on any path, and would show each object of the host once per driver. The main driver's are
    /// always sent, and so is everything on our own socket.
    pub(super) fn hears(&self, driver: DriverKind) -> bool {
        !self.is_bus()
            || self.server.engine.main_kind() == Some(driver)
            || self.called.load(Ordering::Relaxed) & bit(driver) != 0
    }

    /// Who sent `message`, which the reader has just read.
    pub(super) fn caller(&self, message: &Message) -> Arc<Caller> {
        match &self.link {
            Link::Peer { .. } => self.peer.clone(),
            Link::Bus { .. } => {
                let who = message.header().sender().map_or_else(String::new, ToString::to_string);
                let presence = self.senders.presence(&who);
                Arc::new(Caller { read_only: self.peer.read_only, who, presence, ask: None })
            }
        }
    }

    /// Whether callers are asked about.
    pub(super) fn asks(&self) -> bool {
        match self.link {
            Link::Bus { gated } => gated,
            Link::Peer { .. } => self.entry.guard.is_some(),
        }
    }

    /// How who sent `message` came in, where callers are asked about.
    pub(super) async fn entry_of(&self, message: &Message) -> Result<Entry, Fault> {
        match (&self.link, message.header().sender()) {
            (Link::Peer { .. }, _) => Ok(self.entry.clone()),
            (Link::Bus { .. }, Some(sender)) => {
                let connection = self.outbound.connection().ok_or_else(|| Fault::access_denied("the bus is gone"))?;
                self.senders.entry(&connection, &self.server.options.bus_gate, sender.as_str()).await
            }
            (Link::Bus { .. }, None) => Err(Fault::access_denied("a call on a bus needs a sender")),
        }
    }

    /// Whether the other end may be told what happens. One who is asked about may once it was found that it may look.
    pub(super) fn may_listen(&self) -> bool {
        match (&self.entry.access, &self.entry.guard) {
            (Access::ReadWrite | Access::ReadOnly, _) => true,
            (Access::Ask, Some(guard)) => guard.may_listen(),
            (Access::Ask, None) | (Access::Refused(_), _) => false,
        }
    }

    /// Reads and answers until the connection ends.
    pub(super) async fn serve(self: Arc<Self>, mut stream: MessageStream) -> End {
        let end = {
            let mut closed = pin!(self.outbound.closed());
            loop {
                let message = tokio::select! {
                    biased;
                    () = &mut closed => break End::Closed,
                    message = stream.next() => message,
                };
                let Some(Ok(message)) = message else { break End::Closed };
                match message.message_type() {
                    Type::MethodCall => self.handle(message),
                    Type::Signal if self.is_bus() && lost_our_name(&message) => break End::NameLost,
                    Type::Signal if self.is_bus() => self.senders.heard(&message),
                    _ => {}
                }
                self.outbound.room().await;
            }
        };
        self.outbound.close();
        drop(self.here.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(guard) = &self.entry.guard {
            guard.leave();
        }
        self.senders.clear();
        end
    }

    fn handle(self: &Arc<Self>, message: Message) {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= MAX_IN_FLIGHT {
            let fault = Fault::limits(format!("more than {MAX_IN_FLIGHT} calls in flight on one connection"));
            self.finish(&message, Err(fault));
            return;
        }
        match dispatch::route(self, &message) {
            Work::Done(reply) => self.finish(&message, reply),
            Work::Read(work) => {
                let mut work = caught(work);
                // Polled once with a waker that does nothing; the task, if any, polls again with its own.
                match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(reply) => self.finish(&message, reply),
                    Poll::Pending => self.spawn(message, work),
                }
            }
            Work::Write(work) => {
                let header = message.header();
                let path = header.path().map(|path| path.as_str());
                let member = header.member().map(|member| member.as_str());
                tracing::debug!(peer = %self.outbound.who(), path, member, "call");
                self.spawn(message.clone(), caught(work));
            }
        }
    }

    fn spawn(self: &Arc<Self>, message: Message, work: BoxFuture<Reply>) {
        let client = self.clone();
        tokio::spawn(async move {
            let reply = work.await;
            client.finish(&message, reply);
        });
    }

    /// Sends the reply, after every event emitted before it.
    fn finish(self: &Arc<Self>, call: &Message, reply: Reply) {
        self.server.flush_events();
        if !call.primary_header().flags().contains(Flags::NO_REPLY_EXPECTED) {
            match reply.or_else(|fault| self.error(call, &fault)) {
                Ok(message) => self.outbound.push(message),
                Err(fault) => tracing::error!(call = %call, error = %fault.message, "cannot build a D-Bus reply"),
            }
        }
        // Last: a daemon that stops waits for this before it looks what is left to send.
        self.in_flight.fetch_sub(1, Ordering::Release);
    }

    /// The successful reply to `call` with `body`.
    pub fn reply<B: Serialize + DynamicType>(&self, call: &Message, body: &B) -> Reply {
        let builder = Message::method_return(&call.header());
        Ok(match self.link {
            Link::Bus { .. } => builder.build(body)?,
            Link::Peer { .. } => builder.sender(OWN_UNIQUE_NAME).build(body)?,
        })
    }

    fn error(&self, call: &Message, fault: &Fault) -> Reply {
        let header = call.header();
        let builder = Message::error(&header, fault.name);
        // A NUL cannot travel in a D-Bus string.
        let text = fault.message.replace('\0', "\\0");
        Ok(match self.link {
            Link::Bus { .. } => builder.build(&text)?,
            Link::Peer { .. } => builder.sender(OWN_UNIQUE_NAME).build(&text)?,
        })
    }
}

fn bit(driver: DriverKind) -> u8 {
    1 << driver as u8
}

/// A panic in a handler becomes an error reply: one call must not leave its caller waiting for ever.
fn caught(work: BoxFuture<Reply>) -> BoxFuture<Reply> {
    Box::pin(AssertUnwindSafe(work).catch_unwind().map(|result| {
        result.unwrap_or_else(|_| {
            tracing::error!("a D-Bus handler panicked");
            Err(Fault::libvirt("internal error: the daemon failed on this call; its log has the details"))
        })
    }))
}

/// `NameLost` for our name, sent by the bus to us alone.
fn lost_our_name(message: &Message) -> bool {
    let header = message.header();
    header.member().is_some_and(|member| member == "NameLost")
        && header.interface().is_some_and(|interface| interface == "org.freedesktop.DBus")
        && header.sender().is_some_and(|sender| sender == "org.freedesktop.DBus")
        && message.body().deserialize::<&str>().is_ok_and(|name| name == NAME)
}
