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
use crate::engine::access::{Access, Policy};
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
    policy: Policy,
    read_only: bool,
}

impl Listener {
    /// Listens on `path`. Over a `read_only` socket nobody changes anything.
    pub fn bind(path: &Path, policy: Policy, read_only: bool) -> Result<Listener, ListenError> {
        let failed = |error| ListenError::Bind { path: path.to_path_buf(), error };
        if sock::connect(path).is_ok() {
            return Err(ListenError::Taken { path: path.to_path_buf() });
        }
        let group = match &policy.group {
            None => None,
            Some(name) => match Group::from_name(name) {
                Ok(Some(group)) => Some(group.gid.as_raw()),
                _ => return Err(ListenError::NoGroup { group: name.clone() }),
            },
        };
        let mode = match (policy.others_read_only, group) {
            (true, _) => 0o666,
            (false, Some(_)) => 0o660,
            (false, None) => 0o600,
        };
        let socket = sock::listen(path, mode, BACKLOG, true).map_err(failed)?;
        if group.is_some() {
            std::os::unix::fs::chown(path, None, group).map_err(failed)?;
        }
        let socket = UnixListener::from_std(socket.into()).map_err(failed)?;
        Ok(Listener { socket, path: path.to_path_buf(), ours: true, policy, read_only })
    }

    /// Serves a socket that the service manager listens on. One whose name ends as libvirt's for reading (`-ro`) is for
    /// reading.
    pub fn passed(passed: PassedSocket, policy: Policy) -> Result<Listener, ListenError> {
        let PassedSocket { socket, path } = passed;
        let read_only = path.to_string_lossy().ends_with("-ro");
        let socket = UnixListener::from_std(socket.into());
        let socket = socket.map_err(|error| ListenError::Bind { path: path.clone(), error })?;
        Ok(Listener { socket, path, ours: false, policy, read_only })
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
            let (server, policy, read_only) = (server.clone(), self.policy.clone(), self.read_only);
            tokio::spawn(async move {
                if let Some(peer) = who(&stream, policy, read_only).await {
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

async fn who(stream: &UnixStream, policy: Policy, read_only: bool) -> Option<Peer> {
    let peer = sock::peer(stream).ok()?;
    // Groups come from the name service, which may block.
    let access = tokio::task::spawn_blocking(move || policy.access(peer.uid, peer.gid)).await;
    let access = access.unwrap_or_else(|_| Access::Refused("the daemon failed to look up your groups".into()));
    let (changes, refused) = match access {
        Access::ReadWrite => (true, None),
        Access::ReadOnly => (false, None),
        Access::Refused(why) => (false, Some(why)),
    };
    let who = format!("uid {} pid {}", peer.uid, peer.pid);
    Some(Peer { caller: Caller { read_only: read_only || !changes, who, ..Caller::daemon() }, refused })
}
