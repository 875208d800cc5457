//! The daemon's end of the supervisor's protocol: many calls at once, each with a deadline; events in order.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::protocol::{Call, Event, Request, Running, SOCKET_NAME};
use crate::error::{Code, Error, Result};
use crate::sys::packet::{self, AsyncPackets};

/// The supervisor answers at once, whatever the guest does.
const DEADLINE: Duration = Duration::from_secs(10);

/// An answer with the fds that came with it.
type Answer = (Result<Running, String>, Vec<OwnedFd>);
type Pending = Mutex<HashMap<u64, oneshot::Sender<Answer>>>;

/// One connection to a supervisor; closed when dropped.
#[derive(Debug)]
pub struct Client {
    socket: Arc<AsyncPackets>,
    pending: Arc<Pending>,
    seq: AtomicU64,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Client {
    /// Takes over a connected socket. The receiver ends with the connection.
    pub fn new(socket: OwnedFd) -> Result<(Client, mpsc::UnboundedReceiver<Event>)> {
        let socket = AsyncPackets::new(socket)
            .map_err(|error| Error::system("cannot use the socket of a container's supervisor", error))?;
        let socket = Arc::new(socket);
        let pending = Arc::new(Pending::default());
        let (sender, events) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read(socket.clone(), pending.clone(), sender));
        Ok((Client { socket, pending, seq: AtomicU64::new(1), reader }, events))
    }

    /// Connects to the supervisor of the run in `run_dir`; `None` when none listens there. Never waits: a supervisor that
    /// has taken nobody in for long is an error, code 68.
    pub fn connect(run_dir: &Path) -> Result<Option<(Client, mpsc::UnboundedReceiver<Event>)>> {
        match packet::connect(&run_dir.join(SOCKET_NAME)) {
            Ok(socket) => Client::new(socket).map(Some),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(Error::new(Code::OperationTimeout, "the container's supervisor takes no connections"))
            }
            Err(error) => Err(Error::system("cannot connect to a container's supervisor", error)),
        }
    }

    /// Asks; the answer's status and fds. Errors: code 9 with the supervisor's words, 68 when it does not answer.
    pub async fn call(&self, call: Call) -> Result<(Running, Vec<OwnedFd>)> {
        self.call_within(call, DEADLINE).await
    }

    /// As [`Client::call`] with another deadline.
    pub async fn call_within(&self, call: Call, deadline: Duration) -> Result<(Running, Vec<OwnedFd>)> {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.pending).insert(seq, sender);
        let ask = async {
            let text =
                serde_json::to_vec(&Request { seq, call }).map_err(|error| Error::internal(error.to_string()))?;
            let gone = || Error::invalid_state("the container's supervisor is gone");
            self.socket.send(&text).await.map_err(|error| gone().with_source(error))?;
            let (result, fds) = answer.await.map_err(|error| gone().with_source(error))?;
            Ok((result.map_err(Error::failed)?, fds))
        };
        match tokio::time::timeout(deadline, ask).await {
            Ok(result) => result,
            Err(_) => {
                lock(&self.pending).remove(&seq);
                Err(Error::new(Code::OperationTimeout, "the container's supervisor does not answer"))
            }
        }
    }
}

fn lock(pending: &Pending) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(socket: Arc<AsyncPackets>, pending: Arc<Pending>, events: mpsc::UnboundedSender<Event>) {
    while let Ok(Some((data, fds))) = socket.recv().await {
        match serde_json::from_slice(&data) {
            Ok(Event::Reply { seq, error, status }) => {
                if let Some(waiting) = lock(&pending).remove(&seq) {
                    let result = match error {
                        Some(error) => Err(error),
                        None => Ok(status.unwrap_or_default()),
                    };
                    let _ = waiting.send((result, fds));
                }
            }
            Ok(event) => {
                let _ = events.send(event);
            }
            // A newer supervisor's event: the protocol says that it may be ignored.
            Err(error) => tracing::debug!(%error, "unknown event of a container's supervisor"),
        }
    }
    lock(&pending).clear();
}
