//! One connection: its reader, its calls in flight, its replies.
//!
//! ```text
//! socket -> packets -> keepalive: answered here
//!                      stream data: to the stream's task, which may make the reader wait (the socket is the window)
//!                      call: table row, polled once where it arrived (reads answer from memory), else in a task
//! ```
//!
//! Replies may overtake each other, as libvirt's do. Before a reply leaves, every event emitted so far leaves.
//! Calls in flight are limited; a client over the limit is not read until some have ended.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};

use super::call::{Answer, BoxFuture, Invocation, Reply};
use super::events::Callbacks;
use super::frame::{self, Header, Kind, MAX_FDS, Status};
use super::outbound::Outbound;
use super::stream::Streams;
use super::table::{self, KEEPALIVE, LXC, QEMU, REMOTE};
use super::xdr::{Garbled, Reader, Take};
use super::{Server, wire};
use crate::engine::Connection;
use crate::engine::access::Entry;
use crate::engine::api::{Caller, Class, Presence};
use crate::error::{Code, Error, Subsystem};
use crate::sys;

/// How long a client may take to authenticate: it takes the place of another until then.
const ANONYMOUS_PATIENCE: Duration = Duration::from_secs(30);
/// Longest packet before that, bytes.
const ANONYMOUS_PACKET: usize = 64 * 1024;
/// Calls that end something need no place among the workers: what holds those may be what they end. Both forms of
/// `virDomainDestroy` and of `virDomainAbortJob`.
const ENDS: [i32; 4] = [12, 234, 164, 442];
const PING: i32 = 1;
const PONG: i32 = 2;
/// Read from the socket in one go.
const READ_CHUNK: usize = 64 * 1024;

/// Who is at the other end and what it may do.
#[derive(Clone, Debug)]
pub struct Peer {
    pub caller: Caller,
    pub entry: Entry,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    pub id: u64,
    pub server: Arc<Server>,
    pub outbound: Arc<Outbound>,
    pub peer: Peer,
    pub callbacks: Callbacks,
    pub streams: Streams,
    session: Mutex<Session>,
    in_flight: AtomicUsize,
    ended: Notify,
    keepalive: AtomicBool,
    /// When something last arrived, and the pings since then.
    heard: Mutex<(Instant, u32)>,
    /// Dropped when it goes.
    here: Mutex<Option<watch::Sender<()>>>,
}

/// What the connection-time calls settle.
#[derive(Debug, Default)]
pub struct Session {
    /// Its place among those that have not authenticated; none once it has.
    anonymous: Option<OwnedSemaphorePermit>,
    authenticated: bool,
    /// Questions about it that have no answer.
    asking: u32,
    pub open: Option<(Connection, Arc<Caller>)>,
    /// `qemu:///system`, as the client gave it.
    pub uri: String,
    pub close_callback: bool,
}

impl Session {
    /// Whether the client has authenticated.
    pub fn authenticated(&self) -> bool {
        self.authenticated
    }

    /// It has.
    pub fn authenticate(&mut self) {
        self.authenticated = true;
        self.anonymous = None;
    }

    /// Somebody is asked about it: that may take long, and takes nobody's place.
    pub fn ask(&mut self) {
        self.asking += 1;
        self.anonymous = None;
    }

    /// There is an answer.
    pub fn asked(&mut self) {
        self.asking -= 1;
    }
}

impl Client {
    pub(super) fn new(
        id: u64,
        server: Arc<Server>,
        stream: UnixStream,
        mut peer: Peer,
        anonymous: OwnedSemaphorePermit,
    ) -> Arc<Client> {
        let (here, presence) = Presence::new();
        peer.caller.presence = presence;
        let outbound = Outbound::new(stream, server.options.outbound_limit, peer.caller.who.clone());
        Arc::new(Client {
            id,
            server,
            outbound,
            peer,
            callbacks: Callbacks::default(),
            streams: Streams::default(),
            session: Mutex::new(Session { anonymous: Some(anonymous), ..Session::default() }),
            in_flight: AtomicUsize::new(0),
            ended: Notify::new(),
            keepalive: AtomicBool::new(false),
            heard: Mutex::new((Instant::now(), 0)),
            here: Mutex::new(Some(here)),
        })
    }

    /// Calls that have no reply yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// What the connection-time calls settled.
    pub fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver and the caller once the connection was opened.
    pub fn opened(&self) -> Option<(Connection, Arc<Caller>)> {
        self.session().open.clone()
    }

    /// Starts pinging the client when it is silent; once.
    pub fn start_keepalive(self: &Arc<Self>) {
        let Some((interval, most)) = self.server.options.keepalive else { return };
        if self.keepalive.swap(true, Ordering::Relaxed) {
            return;
        }
        let client = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = client.outbound.closed() => return,
                    () = tokio::time::sleep(interval) => {}
                }
                let pings = {
                    let mut heard = client.heard.lock().unwrap_or_else(PoisonError::into_inner);
                    if heard.0.elapsed() < interval {
                        continue;
                    }
                    heard.1 += 1;
                    heard.1
                };
                if pings > most {
                    tracing::warn!(client = %client.outbound.who(), "client answers no keepalive and is disconnected");
                    client.outbound.close();
                    return;
                }
                client.send_keepalive(PING);
            }
        });
    }

    fn send_keepalive(&self, procedure: i32) {
        let header =
            Header { program: KEEPALIVE, version: 1, procedure, kind: Kind::Message, serial: 0, status: Status::Ok };
        self.outbound_push(header.packet(|_| ()), Vec::new());
    }

    /// Queues a packet.
    pub fn outbound_push(&self, packet: Vec<u8>, fds: Vec<OwnedFd>) {
        self.outbound.clone().push(packet, fds);
    }

    /// Reads and answers until the connection ends; then lets go of everything the client held.
    pub(super) async fn serve(self: Arc<Self>) {
        let mut input = Input::default();
        let mut since = tokio::time::Instant::now();
        loop {
            let anonymous = !self.session().authenticated();
            let most = if anonymous { ANONYMOUS_PACKET } else { frame::MAX_PACKET };
            let packet = tokio::select! {
                biased;
                () = self.outbound.closed() => break,
                packet = input.next(self.outbound.stream(), most) => packet,
                () = tokio::time::sleep_until(since + ANONYMOUS_PATIENCE), if anonymous => {
                    if self.session().asking > 0 {
                        since = tokio::time::Instant::now();
                        continue;
                    }
                    tracing::warn!(client = %self.outbound.who(), "client does not authenticate and is disconnected");
                    break;
                }
            };
            let Ok(Some((packet, fds))) = packet else { break };
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), 0);
            // While it is not read its end would not be seen: what it sent may wait for a guest that takes nothing.
            let handled = tokio::select! {
                biased;
                handled = self.handle_and_wait(packet, fds) => handled,
                () = self.outbound.closed() => break,
                () = self.outbound.hung_up() => break,
            };
            if handled.is_err() {
                break;
            }
        }
        self.outbound.close();
        drop(self.here.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(guard) = &self.peer.entry.guard {
            guard.leave();
        }
        self.streams.clear();
        self.callbacks.clear();
        self.session().open = None;
    }

    /// One packet; returns when there is room for the next. `Err`: the connection is to be ended.
    async fn handle_and_wait(self: &Arc<Self>, packet: Vec<u8>, fds: Vec<OwnedFd>) -> Result<(), Garbled> {
        self.handle(packet, fds).await?;
        self.room().await;
        self.outbound.room().await;
        Ok(())
    }

    async fn room(&self) {
        while self.in_flight() >= self.server.options.max_client_requests {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.in_flight() >= self.server.options.max_client_requests {
                ended.await;
            }
        }
    }

    /// One packet. `Err`: the connection is to be ended.
    async fn handle(self: &Arc<Self>, packet: Vec<u8>, fds: Vec<OwnedFd>) -> Result<(), Garbled> {
        let header = frame::header(&packet)?;
        if header.program == KEEPALIVE {
            if header.procedure == PING {
                self.send_keepalive(PONG);
            }
            return Ok(());
        }
        match header.kind {
            // libvirt swallows these.
            Kind::Reply | Kind::ReplyWithFds | Kind::Message => Ok(()),
            Kind::Stream | Kind::StreamHole => {
                self.streams.deliver(header, packet.get(frame::HEADER..).unwrap_or_default(), self).await;
                Ok(())
            }
            Kind::Call | Kind::CallWithFds => {
                let skip = if header.kind == Kind::CallWithFds { frame::HEADER + 4 } else { frame::HEADER };
                let payload = packet.get(skip..).unwrap_or_default().to_vec();
                self.call(Invocation { client: self.clone(), header, payload, fds });
                Ok(())
            }
        }
    }

    fn call(self: &Arc<Self>, at: Invocation) {
        let header = at.header;
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let (class, run) = match self.route(&header) {
            Ok(found) => found,
            Err(error) => return self.finish(header, Err(error)),
        };
        let mut work = caught(run(at));
        if class == Class::Read {
            // Polled once with a waker that does nothing; the task, if any, polls again with its own.
            if let Poll::Ready(reply) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return self.finish(header, reply);
            }
        } else {
            tracing::debug!(client = %self.outbound.who(), procedure = header.procedure, "call");
        }
        let client = self.clone();
        let waits = class == Class::Write && !(header.program == REMOTE && ENDS.contains(&header.procedure));
        tokio::spawn(async move {
            let worker = if waits { client.server.workers.acquire().await.ok() } else { None };
            let reply = work.await;
            drop(worker);
            client.finish(header, reply);
        });
    }

    /// The row of a call, or why there is none.
    fn route(&self, header: &Header) -> Result<(Class, table::Run), Error> {
        let rpc = |text: String| Error::new(Code::Rpc, text).with_subsystem(Subsystem::Rpc);
        if ![REMOTE, QEMU, LXC].contains(&header.program) || header.version != 1 {
            return Err(rpc(format!("Cannot find program {} version {}", header.program, header.version)));
        }
        let Some(row) = table::find(header.program, header.procedure) else {
            return Err(rpc(format!("unknown procedure: {}", header.procedure)));
        };
        if !self.session().authenticated() && !table::before_authentication(row) {
            return Err(rpc("authentication required".into()));
        }
        let Some(run) = row.run else {
            let (connection, _) = self
                .opened()
                .ok_or_else(|| Error::internal("hypervisor connection not open").with_subsystem(Subsystem::Rpc))?;
            return Err(Error::no_support(row.function).with_subsystem(connection.kind().subsystem()));
        };
        Ok((row.class, run))
    }

    /// Sends the reply, after every event emitted before it.
    fn finish(self: &Arc<Self>, call: Header, reply: Reply) {
        self.server.flush_events();
        match reply {
            Ok(answer) => self.answer(call, answer),
            Err(error) => {
                if let Some(source) = &error.source {
                    tracing::debug!(error = %error, cause = %source, "call failed");
                }
                let packet = call.answer(Kind::Reply, Status::Error).packet(|out| wire::put_error(&error, out));
                self.outbound_push(packet, Vec::new());
            }
        }
        // After the reply: a daemon that stops waits for this before it looks what is left to send.
        self.in_flight.fetch_sub(1, Ordering::Release);
        self.ended.notify_waiters();
    }

    fn answer(self: &Arc<Self>, call: Header, answer: Answer) {
        let Answer { payload, fds, stream, last } = answer;
        let kind = if fds.is_empty() { Kind::Reply } else { Kind::ReplyWithFds };
        let count = u32::try_from(fds.len()).unwrap_or(MAX_FDS);
        let packet = call.answer(kind, Status::Ok).packet(|out| {
            if kind == Kind::ReplyWithFds {
                out.extend_from_slice(&count.to_be_bytes());
            }
            out.extend_from_slice(&payload);
        });
        if packet.len() > frame::MAX_PACKET {
            let error = Error::new(Code::Rpc, "the answer does not fit into one packet").with_subsystem(Subsystem::Rpc);
            let packet = call.answer(Kind::Reply, Status::Error).packet(|out| wire::put_error(&error, out));
            return self.outbound_push(packet, Vec::new());
        }
        let stream = stream.map(|end| self.streams.prepare(call, end));
        self.outbound_push(packet, fds);
        if let Some(stream) = stream {
            stream.start(self);
        }
        if last {
            let client = self.clone();
            tokio::spawn(async move {
                client.outbound.flushed().await;
                client.outbound.close();
            });
        }
    }
}

/// A panic in a handler becomes an error reply: one call must not leave its caller waiting for ever.
fn caught(work: BoxFuture<Reply>) -> BoxFuture<Reply> {
    Box::pin(AssertUnwindSafe(work).catch_unwind().map(|result| {
        result.unwrap_or_else(|_| {
            tracing::error!("an RPC handler panicked");
            Err(Error::internal("the daemon failed on this call; its log has the details"))
        })
    }))
}

/// Bytes and descriptors that arrived and are not packets yet.
#[derive(Debug, Default)]
struct Input {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Input {
    /// The next packet with its descriptors; `None` at the end. Cancellation-safe: what was read stays here.
    /// Longer than `most` bytes is an error.
    async fn next(&mut self, socket: &UnixStream, most: usize) -> std::io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        let garbled = |_: Garbled| std::io::Error::from(std::io::ErrorKind::InvalidData);
        loop {
            let length = frame::packet_length(&self.bytes).map_err(garbled)?;
            if length.is_some_and(|length| length > most) {
                return Err(garbled(Garbled));
            }
            let mut wanted = length.unwrap_or(frame::HEADER);
            if length.is_some_and(|length| self.bytes.len() >= length) {
                let packet = self.bytes.get(..wanted).unwrap_or_default();
                let count = descriptors(packet).map_err(garbled)?;
                // Each descriptor comes with a byte of its own behind the packet.
                if self.bytes.len() >= wanted + count && self.fds.len() >= count {
                    let packet = packet.to_vec();
                    self.bytes.drain(..wanted + count);
                    // One large packet must not cost an idle client its memory.
                    if self.bytes.is_empty() && self.bytes.capacity() > READ_CHUNK {
                        self.bytes = Vec::new();
                    }
                    return Ok(Some((packet, self.fds.drain(..count).collect())));
                }
                wanted += count;
            }
            self.fill(socket, wanted).await?;
            if self.bytes.is_empty() && length.is_none() {
                return Ok(None);
            }
        }
    }

    /// Reads once; the end of the stream is an error unless it comes between packets.
    async fn fill(&mut self, socket: &UnixStream, wanted: usize) -> std::io::Result<()> {
        let missing = wanted.saturating_sub(self.bytes.len());
        // Grown by what is there, never by what a length word promises.
        let chunk = missing.clamp(4096, READ_CHUNK);
        let start = self.bytes.len();
        loop {
            // Nothing is kept for a client that is silent.
            if start == 0 {
                self.bytes = Vec::new();
            }
            socket.readable().await?;
            self.bytes.resize(start + chunk, 0);
            let target = self.bytes.get_mut(start..).unwrap_or_default();
            match socket.try_io(Interest::READABLE, || sys::stream::recv(socket, target)) {
                Ok((count, fds)) => {
                    self.bytes.truncate(start + count);
                    self.fds.extend(fds);
                    if self.fds.len() > MAX_FDS as usize || (count == 0 && start > 0) {
                        return Err(std::io::ErrorKind::InvalidData.into());
                    }
                    return Ok(());
                }
                Err(error) => {
                    self.bytes.truncate(start);
                    if !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// How many descriptors follow a whole packet.
fn descriptors(packet: &[u8]) -> Result<usize, Garbled> {
    let header = frame::header(packet)?;
    if !matches!(header.kind, Kind::CallWithFds | Kind::ReplyWithFds) {
        return Ok(0);
    }
    let count = u32::take(&mut Reader::new(packet.get(frame::HEADER..).unwrap_or_default()))?;
    if count > MAX_FDS { Err(Garbled) } else { Ok(count as usize) }
}
