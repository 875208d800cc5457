//! Streams: bytes that travel beside the calls of a connection, under the serial of the call that opened them.
//!
//! ```text
//! descriptor -> STREAM/CONTINUE ... -> STREAM/CONTINUE without bytes (the end)
//! client: STREAM/CONTINUE -> descriptor; STREAM/OK = finish, STREAM/ERROR = abort; either is confirmed with STREAM/OK
//! ```
//!
//! A volume's stream is the same in one direction; with holes (STREAM_HOLE packets) where the call asked for them. Its
//! finish is confirmed when everything is on the disk.
//!
//! There is no window: the socket is it. A stream's data waits for room in the outbound queue; a client whose data the
//! descriptor does not take is not read for as long.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot};

use super::client::Client;
use super::frame::{Header, Kind, STREAM_CHUNK, Status};
use super::wire;
use super::xdr::{self, Put};
use crate::disk::job::stream::Piece;
use crate::engine::storage::{VolumeDownload, VolumeUpload};
use crate::error::{Error, Subsystem};
use crate::sys::stream::AsyncStream;

/// How long a stream that has ended waits for its other side to take what is left.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// Packets of the client that wait for the descriptor.
const QUEUE: usize = 16;

/// The open streams of a connection.
#[derive(Debug, Default)]
pub struct Streams {
    open: Mutex<HashMap<u32, Handle>>,
}

/// What a stream is of.
#[derive(Debug)]
pub enum StreamEnd {
    /// Both ways.
    Fd(OwnedFd),
    /// From a file to the client.
    File(File),
    Download(VolumeDownload),
    Upload(VolumeUpload),
}

#[derive(Debug)]
enum Packet {
    Data(Vec<u8>),
    Hole(u64),
    /// The client is done, and waits to be told that we are.
    Finish,
}

#[derive(Debug)]
struct Handle {
    data: mpsc::Sender<Packet>,
    /// Whether the stream's task confirms its finish.
    confirms: bool,
    /// Dropped: the stream is to end.
    _end: oneshot::Sender<()>,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Handle>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes packets for the serial of `call` from now on: before the client is told that the stream is open, for it may
    /// send at once.
    pub(super) fn prepare(&self, call: Header, end: StreamEnd) -> Prepared {
        let (incoming, ended) = self.register(call, matches!(end, StreamEnd::Upload(_)));
        Prepared { call, end, incoming, ended }
    }

    fn register(&self, call: Header, confirms: bool) -> (mpsc::Receiver<Packet>, oneshot::Receiver<()>) {
        let (data, incoming) = mpsc::channel(QUEUE);
        let (end, ended) = oneshot::channel();
        self.lock().insert(call.serial, Handle { data, confirms, _end: end });
        (incoming, ended)
    }

    /// A packet of the client for one of its streams; for one that is not open it is dropped, as libvirt does.
    pub(super) async fn deliver(&self, header: Header, bytes: &[u8], client: &Client) {
        match header.status {
            Status::Continue => {
                let packet = match header.kind {
                    Kind::Stream => Packet::Data(bytes.to_vec()),
                    _ => match xdr::decode::<(i64, u32)>(bytes).ok().and_then(|(length, _)| u64::try_from(length).ok())
                    {
                        Some(length) => Packet::Hole(length),
                        None => return,
                    },
                };
                self.put(header.serial, packet).await;
            }
            Status::Ok if self.lock().get(&header.serial).is_some_and(|handle| handle.confirms) => {
                self.put(header.serial, Packet::Finish).await;
            }
            Status::Ok | Status::Error => {
                if let Some(handle) = self.lock().remove(&header.serial) {
                    drop(handle);
                    client.outbound_push(header.answer(Kind::Stream, Status::Ok).packet(|_| ()), Vec::new());
                }
            }
        }
    }

    async fn put(&self, serial: u32, packet: Packet) {
        let data = self.lock().get(&serial).map(|handle| handle.data.clone());
        if let Some(data) = data {
            // An error means that nobody reads any more: the end is on its way to the client.
            let _ = data.send(packet).await;
        }
    }

    /// Ends all of them.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }
}

/// A stream whose packets are taken, and which carries nothing yet.
#[derive(Debug)]
pub(super) struct Prepared {
    call: Header,
    end: StreamEnd,
    incoming: mpsc::Receiver<Packet>,
    ended: oneshot::Receiver<()>,
}

impl Prepared {
    /// Carries it until either side ends it; after the call was answered.
    pub(super) fn start(self, client: &Arc<Client>) {
        let Prepared { call, end, incoming, ended } = self;
        let client = client.clone();
        match end {
            StreamEnd::Fd(fd) => carry(&client, call, fd, incoming, ended),
            StreamEnd::Download(volume) => {
                tokio::spawn(async move {
                    tokio::select! {
                        _ = ended => {}
                        () = client.outbound.closed() => {}
                        () = send(&client, call, volume) => {}
                    }
                });
            }
            StreamEnd::File(file) => {
                tokio::spawn(async move {
                    tokio::select! {
                        _ = ended => {}
                        () = client.outbound.closed() => {}
                        () = send_file(&client, call, file) => {}
                    }
                });
            }
            StreamEnd::Upload(volume) => {
                tokio::spawn(async move {
                    tokio::select! {
                        // Aborted, or the connection is gone: what was written stays, up to the volume's former end.
                        _ = ended => {}
                        () = receive(&client, call, volume, incoming) => {}
                    }
                });
            }
        }
    }
}

/// A descriptor, both ways.
fn carry(
    client: &Arc<Client>,
    call: Header,
    fd: OwnedFd,
    mut incoming: mpsc::Receiver<Packet>,
    mut ended: oneshot::Receiver<()>,
) {
    let fd = match AsyncStream::new(fd) {
        Ok(fd) => Arc::new(fd),
        Err(error) => {
            client.streams.lock().remove(&call.serial);
            let error = Error::system("cannot use the stream", error).with_subsystem(Subsystem::Streams);
            return fail(client, call, &error);
        }
    };
    let writer = fd.clone();
    let mut writing = tokio::spawn(async move {
        while let Some(Packet::Data(bytes)) = incoming.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let client = client.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = &mut ended => {}
            () = client.outbound.closed() => {}
            () = read(&client, call, &fd) => {}
        }
        // What the client had sent before it finished is written, unless it is gone or nobody takes it.
        tokio::select! {
            _ = &mut writing => {}
            () = client.outbound.closed() => writing.abort(),
            () = tokio::time::sleep(DRAIN_PATIENCE) => writing.abort(),
        }
    });
}

/// A volume to the client, holes as holes; an empty packet is the end.
async fn send(client: &Arc<Client>, call: Header, mut volume: VolumeDownload) {
    loop {
        let packet = match volume.next(STREAM_CHUNK).await {
            Ok(Some(Piece::Data(bytes))) => {
                call.answer(Kind::Stream, Status::Continue).packet(|out| out.extend_from_slice(&bytes))
            }
            Ok(Some(Piece::Hole(length))) => {
                let length = i64::try_from(length).unwrap_or(i64::MAX);
                call.answer(Kind::StreamHole, Status::Continue).packet(|out| (length, 0u32).put(out))
            }
            Ok(None) => {
                let end = call.answer(Kind::Stream, Status::Continue).packet(|_| ());
                return client.outbound_push(end, Vec::new());
            }
            Err(error) => {
                client.streams.lock().remove(&call.serial);
                return fail(client, call, &error);
            }
        };
        client.outbound_push(packet, Vec::new());
        client.outbound.room().await;
    }
}

/// A file to the client; an empty packet is the end.
async fn send_file(client: &Arc<Client>, call: Header, file: File) {
    let mut file = tokio::fs::File::from_std(file);
    let mut buffer = vec![0; STREAM_CHUNK];
    loop {
        match file.read(&mut buffer).await {
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                let header = call.answer(Kind::Stream, Status::Continue);
                client.outbound_push(header.packet(|out| out.extend_from_slice(bytes)), Vec::new());
                if count == 0 {
                    return;
                }
            }
            Err(error) => {
                let error = Error::system("cannot read the stream's file", error).with_subsystem(Subsystem::Streams);
                client.streams.lock().remove(&call.serial);
                return fail(client, call, &error);
            }
        }
        client.outbound.room().await;
    }
}

/// From the client into a volume, until the client is done. The first error ends it.
async fn receive(client: &Arc<Client>, call: Header, mut volume: VolumeUpload, mut incoming: mpsc::Receiver<Packet>) {
    let result = loop {
        let piece = match incoming.recv().await {
            None => return,
            Some(Packet::Finish) => break volume.finish().await,
            Some(Packet::Data(bytes)) => Piece::Data(bytes),
            Some(Packet::Hole(length)) => Piece::Hole(length),
        };
        if let Err(error) = volume.put(piece).await {
            break Err(error);
        }
    };
    client.streams.lock().remove(&call.serial);
    match result {
        Ok(()) => client.outbound_push(call.answer(Kind::Stream, Status::Ok).packet(|_| ()), Vec::new()),
        Err(error) => fail(client, call, &error),
    }
}

/// From the descriptor to the client, until its end.
async fn read(client: &Arc<Client>, call: Header, fd: &AsyncStream) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let header = call.answer(Kind::Stream, Status::Continue);
        match fd.read(&mut buffer).await {
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                client.outbound_push(header.packet(|out| out.extend_from_slice(bytes)), Vec::new());
                if count == 0 {
                    return;
                }
                // A burst is worth a larger buffer, a console is not.
                if count == buffer.len() && count < STREAM_CHUNK {
                    buffer.resize((count * 2).min(STREAM_CHUNK), 0);
                }
            }
            Err(error) => {
                let error = Error::system("cannot read from the stream", error).with_subsystem(Subsystem::Streams);
                client.streams.lock().remove(&call.serial);
                return fail(client, call, &error);
            }
        }
        client.outbound.room().await;
    }
}

fn fail(client: &Client, call: Header, error: &Error) {
    let packet = call.answer(Kind::Stream, Status::Error).packet(|out| wire::put_error(error, out));
    client.outbound_push(packet, Vec::new());
}
