//! Our own socket: peer-to-peer D-Bus without any bus daemon, many connections.
//!
//! Who may do what is decided once per connection from the kernel's credentials of the peer: root and the daemon's own
//! user may do everything, so may members of the configured group; others may read or are refused, by configuration.
//! A refused peer is told why on its first call instead of being cut off without a word.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::unistd::Group;
use tokio::net::UnixListener;
use zbus::MessageStream;
use zbus::connection::Builder;

use super::Server;
use super::client::Link;
use super::path::Scope;
use crate::engine::access::{Access, Entry, Gate};
use crate::engine::api::Class;

/// `sizeof(sun_path)` less the terminating NUL.
pub const MAX_SOCKET_PATH: usize = 107;

/// Time a peer has to authenticate.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Connections at once; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 1_000;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "socket path {path} is too long: {length} bytes, and the kernel takes {MAX_SOCKET_PATH}; use a shorter --root"
    )]
    TooLong { path: PathBuf, length: usize },
    #[error("cannot listen on {path}: {error}")]
    Bind { path: PathBuf, error: std::io::Error },
    #[error("no group '{group}' on this host; create it or change socket.group in the configuration")]
    NoGroup { group: String },
}

/// A bound socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    gate: Gate,
}

/// Refuses a path no socket can have, before anything is made.
pub fn check_path(path: &Path) -> Result<(), ListenError> {
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(ListenError::TooLong { path: path.to_path_buf(), length });
    }
    Ok(())
}

impl Listener {
    /// Listens on `path`. A socket file that is there is a former daemon's: the caller holds the lock of the root.
    pub fn bind(path: &Path, gate: Gate) -> Result<Listener, ListenError> {
        check_path(path)?;
        let failed = |error| ListenError::Bind { path: path.to_path_buf(), error };
        let group = match &gate.policy.group {
            None => None,
            Some(name) => match Group::from_name(name) {
                Ok(Some(group)) => Some(group.gid),
                _ => return Err(ListenError::NoGroup { group: name.clone() }),
            },
        };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        // Bound for nobody else first: nobody connects before owner and mode are right.
        let former = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let socket = StdListener::bind(path);
        nix::sys::stat::umask(former);
        let socket = socket.map_err(failed)?;
        if let Some(gid) = group {
            std::os::unix::fs::chown(path, None, Some(gid.as_raw())).map_err(failed)?;
        }
        let mode = gate.policy.socket_mode(group.is_some());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let socket = UnixListener::from_std(socket).map_err(failed)?;
        Ok(Listener { socket, path: path.to_path_buf(), gate })
    }

    /// Accepts and serves for ever; dropping the future stops accepting.
    pub async fn run(self, server: Arc<Server>) {
        let connections = Arc::new(AtomicUsize::new(0));
        loop {
            if connections.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            let stream = match self.socket.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: wait for some to be closed.
                    tracing::warn!(%error, path = %self.path.display(), "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (server, gate, connections) = (server.clone(), self.gate.clone(), connections.clone());
            connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                if let Err(error) = serve(server, stream, &gate).await {
                    tracing::debug!(%error, "a peer did not get through the D-Bus handshake");
                }
                connections.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(server: Arc<Server>, stream: tokio::net::UnixStream, gate: &Gate) -> zbus::Result<()> {
    let credentials = stream.peer_cred()?;
    let (uid, pid) = (credentials.uid(), credentials.pid());
    let entry = gate.enter_process(uid, credentials.gid(), pid).await;
    serve_stream(server, stream.into_std()?, entry, uid, pid).await
}

/// Serves one connected stream, authentication included.
pub(super) async fn serve_stream(
    server: Arc<Server>,
    stream: std::os::unix::net::UnixStream,
    entry: Entry,
    uid: u32,
    pid: Option<i32>,
) -> zbus::Result<()> {
    let builder = Builder::unix_stream(stream).server(server.options.guid.as_str()).p2p();
    let connection = match tokio::time::timeout(HANDSHAKE, builder.build()).await {
        Ok(connection) => connection?,
        Err(_) => return Err(zbus::Error::Failure("no authentication within 10 seconds".into())),
    };
    let messages = MessageStream::from(&connection);
    let client = server.add_client(connection, Scope::System, entry, |id| Link::Peer {
        unique_name: format!(":1.{id}"),
        uid,
        pid,
    });
    tracing::debug!(peer = %client.outbound.who(), access = ?client.entry.access, "D-Bus peer connected");
    if let (Access::Ask, Some(guard)) = (&client.entry.access, client.entry.guard.clone()) {
        // One that only listens makes no call by which it would be found out whether it may.
        tokio::spawn(async move { guard.admit(Class::Read, false).await });
    }
    let id = client.id;
    client.serve(messages).await;
    server.remove_client(id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_too_long_for_a_socket_is_named() {
        let path = PathBuf::from(format!("/{}/dbus-sock", "x".repeat(100)));
        let error = check_path(&path).unwrap_err().to_string();
        assert!(error.contains("too long: 111 bytes"), "{error}");
        assert!(error.contains("--root"), "{error}");
    }
}
