//! The unix sockets: one for everybody who may change things, one for those who may only look.
//!
//! A socket file that answers is another daemon's and is left alone; one that does not is what a former daemon left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Group;
use tokio::net::{UnixListener, UnixStream};

use super::Server;
use super::client::Peer;
use crate::engine::access::{Access, Gate};
use crate::engine::api::Caller;
use crate::sys::passed::PassedSocket;
use crate::sys::sock;

const BACKLOG: i32 = 128;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {path}: {error}")]
    Bind { path: PathBuf, error: std::io::Error },
    #[error(
        "another daemon answers on {path} (libvirtd, virtqemud?): stop it and its .socket units, or do not set \
         rpc.libvirt_directory in the configuration"
    )]
    Taken { path: PathBuf },
    #[error("no group '{group}' on this host; create it or change socket.group in the configuration")]
    NoGroup { group: String },
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Its file is removed when this is dropped: not one of the service manager, which listens on.
    ours: bool,
    gate: Gate,
    read_only: bool,
}

impl Listener {
    /// Listens on `path`. Over a `read_only` socket nobody changes anything.
    pub fn bind(path: &Path, gate: Gate, read_only: bool) -> Result<Listener, ListenError> {
        let failed = |error| ListenError::Bind { path: path.to_path_buf(), error };
        if sock::connect(path).is_ok() {
            return Err(ListenError::Taken { path: path.to_path_buf() });
        }
        let group = match &gate.policy.group {
            None => None,
            Some(name) => match Group::from_name(name) {
                Ok(Some(group)) => Some(group.gid.as_raw()),
                _ => return Err(ListenError::NoGroup { group: name.clone() }),
            },
        };
        let socket = sock::listen(path, gate.policy.socket_mode(group.is_some()), BACKLOG, true).map_err(failed)?;
        if group.is_some() {
            std::os::unix::fs::chown(path, None, group).map_err(failed)?;
        }
        let socket = UnixListener::from_std(socket.into()).map_err(failed)?;
        Ok(Listener { socket, path: path.to_path_buf(), ours: true, gate, read_only })
    }

    /// Serves a socket that the service manager listens on.
    pub fn passed(passed: PassedSocket, gate: Gate, read_only: bool) -> Result<Listener, ListenError> {
        let PassedSocket { socket, path } = passed;
        let socket = UnixListener::from_std(socket.into());
        let socket = socket.map_err(|error| ListenError::Bind { path: path.clone(), error })?;
        Ok(Listener { socket, path, ours: false, gate, read_only })
    }

    /// Accepts and serves for ever; dropping the future stops accepting.
    pub async fn run(self, server: Arc<Server>) {
        loop {
            let place = server.place().await;
            let stream = match self.socket.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: wait for some to be closed.
                    tracing::warn!(%error, path = %self.path.display(), "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (server, gate, read_only) = (server.clone(), self.gate.clone(), self.read_only);
            tokio::spawn(async move {
                if let Some(peer) = who(&stream, &gate, read_only).await {
                    server.serve(stream, peer, place).await;
                }
            });
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

async fn who(stream: &UnixStream, gate: &Gate, read_only: bool) -> Option<Peer> {
    let peer = sock::peer(stream).ok()?;
    let entry = gate.enter_process(peer.uid, peer.gid, Some(peer.pid)).await;
    let who = format!("uid {} pid {}", peer.uid, peer.pid);
    let read_only = read_only || entry.access == Access::ReadOnly;
    Some(Peer { caller: Caller { read_only, who, ..Caller::daemon() }, entry })
}
