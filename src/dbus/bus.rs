//! Message buses: connecting, owning `org.libvirt`, and what happens when it is lost.
//!
//! As libvirt-dbus: the name is asked for without queueing or replacing, and a name that is taken or lost ends the
//! daemon with "Disconnected from D-Bus."; guests run on and the next daemon finds them. A bus that merely goes away is
//! the caller's to try again: our own socket needs none.

use std::sync::Arc;

use zbus::MessageStream;
use zbus::connection::Builder;

use super::client::{Client, End, Link};
use super::path::Scope;
use super::{NAME, Server, sender};
use crate::engine::access::{Access, Entry};

/// Which bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    System,
    Session,
    /// A D-Bus address; roots as on a system bus.
    Address(String),
}

/// What libvirt-dbus prints when it ends because of the bus.
pub const DISCONNECTED: &str = "Disconnected from D-Bus.";

/// `DBUS_NAME_FLAG_DO_NOT_QUEUE`.
const DO_NOT_QUEUE: u32 = 4;
/// `DBUS_REQUEST_NAME_REPLY_PRIMARY_OWNER`.
const PRIMARY_OWNER: u32 = 1;

/// Why a bus cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("cannot connect to the {bus}: {error}")]
    Connect { bus: String, error: zbus::Error },
    #[error("the name {NAME} is already taken on the {bus}; stop the libvirt-dbus or domusd that owns it")]
    NameTaken { bus: String },
    #[error("cannot own the name {NAME} on the {bus}: {error}; a policy file in /etc/dbus-1/system.d must allow it")]
    Name { bus: String, error: zbus::Error },
}

impl std::fmt::Display for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bus::System => f.write_str("system bus"),
            Bus::Session => f.write_str("session bus"),
            Bus::Address(address) => write!(f, "bus at {address}"),
        }
    }
}

/// A bus that is being served.
#[derive(Debug)]
pub struct Served {
    client: Arc<Client>,
    stream: MessageStream,
}

/// Connects and takes the name. Calls that arrive meanwhile are queued until [`Served::run`].
pub async fn connect(server: &Arc<Server>, bus: &Bus) -> Result<Served, BusError> {
    let builder = match bus {
        Bus::System => Builder::system(),
        Bus::Session => Builder::session(),
        Bus::Address(address) => Builder::address(address.as_str()),
    };
    let connection = builder.build().await.map_err(|error| BusError::Connect { bus: bus.to_string(), error })?;
    let stream = MessageStream::from(&connection);
    let scope = if *bus == Bus::Session { Scope::Session } else { Scope::System };
    let reply = connection
        .call_method(
            Some("org.freedesktop.DBus"),
            "/org/freedesktop/DBus",
            Some("org.freedesktop.DBus"),
            "RequestName",
            &(NAME, DO_NOT_QUEUE),
        )
        .await
        .and_then(|reply| reply.body().deserialize::<u32>())
        .map_err(|error| BusError::Name { bus: bus.to_string(), error })?;
    if reply != PRIMARY_OWNER {
        return Err(BusError::NameTaken { bus: bus.to_string() });
    }
    // Who leaves the bus waits for nothing any more.
    sender::watch(&connection).await.map_err(|error| BusError::Connect { bus: bus.to_string(), error })?;
    // Who calls over another bus than the system's was let in by that bus.
    let gated = *bus == Bus::System && server.options.bus_gate.asks();
    let client = server.add_client(connection, scope, Entry::settled(Access::ReadWrite), |_| Link::Bus { gated });
    tracing::info!(%bus, "serving {NAME}");
    Ok(Served { client, stream })
}

impl Served {
    /// Serves until the bus is gone or takes the name away.
    pub async fn run(self) -> End {
        let (server, id) = (self.client.server.clone(), self.client.id);
        let end = self.client.serve(self.stream).await;
        server.remove_client(id);
        end
    }
}
