//! Streams: bytes that travel beside the calls of a connection, under the serial of the call that opened them.
//!
//! ```text
//! descriptor -> STREAM/CONTINUE ... -> STREAM/CONTINUE without bytes (the end)
//! client: STREAM/CONTINUE -> descriptor; STREAM/OK = finish, STREAM/ERROR = abort; either is confirmed with STREAM/OK
//! ```
//!
//! There is no window: the socket is it. A stream's data waits for room in the outbound queue; a client whose data the
//! descriptor does not take is not read for as long.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::client::Client;
use super::frame::{Header, Kind, STREAM_CHUNK, Status};
use super::wire;
use crate::error::{Error, Subsystem};
use crate::sys::stream::AsyncStream;

/// Packets of the client that wait for the descriptor.
const QUEUE: usize = 16;

/// The open streams of a connection.
#[derive(Debug, Default)]
pub struct Streams {
    open: Mutex<HashMap<u32, Handle>>,
}

#[derive(Debug)]
struct Handle {
    data: mpsc::Sender<Vec<u8>>,
    /// Dropped: the stream is to end.
    _end: oneshot::Sender<()>,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Handle>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries `fd` over the serial of `call` until either side ends it.
    pub(super) fn open(&self, client: &Arc<Client>, call: Header, fd: OwnedFd) {
        let fd = match AsyncStream::new(fd) {
            Ok(fd) => Arc::new(fd),
            Err(error) => {
                let error = Error::system("cannot use the stream", error).with_subsystem(Subsystem::Streams);
                return fail(client, call, &error);
            }
        };
        let (data, mut incoming) = mpsc::channel::<Vec<u8>>(QUEUE);
        let (end, mut ended) = oneshot::channel::<()>();
        self.lock().insert(call.serial, Handle { data, _end: end });
        let writer = fd.clone();
        tokio::spawn(async move {
            while let Some(bytes) = incoming.recv().await {
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
        });
    }

    /// A packet of the client for one of its streams; for one that is not open it is dropped, as libvirt does.
    pub(super) async fn deliver(&self, header: Header, bytes: &[u8], client: &Client) {
        match header.status {
            Status::Continue if header.kind == Kind::Stream => {
                let data = self.lock().get(&header.serial).map(|handle| handle.data.clone());
                if let Some(data) = data {
                    // An error means that nobody reads any more: the end is on its way to the client.
                    let _ = data.send(bytes.to_vec()).await;
                }
            }
            Status::Continue => {}
            Status::Ok | Status::Error => {
                if let Some(handle) = self.lock().remove(&header.serial) {
                    drop(handle);
                    client.outbound_push(header.answer(Kind::Stream, Status::Ok).packet(|_| ()), Vec::new());
                }
            }
        }
    }

    /// Ends all of them.
    pub(super) fn clear(&self) {
        self.lock().clear();
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
