//! The networks of the host.
//!
//! ```text
//! inactive ── start: record (not started) -> host's side made -> record (started) ──> active
//!    ^                                                                                  │ watch: check, heal
//!    └── undone <── record (not started) <── stop ──────────────────────────────────────┘
//! ```
//!
//! A record that says "not started" is undone by the next daemon, whatever of it came to be; one that says "started" is
//! taken over, and what was broken meanwhile is healed. What is made on the host is [`crate::net::network::run`]'s.

pub mod client_ports;
pub mod define;
mod live;
mod ports;
mod shipped;
mod watch;

use serde::{Deserialize, Serialize};

use super::access::guard::{Details, named};
use super::api::ObjectKind;
use super::event::{HostEvent, Named};
use super::objects::{Handle, Kind};
use crate::error::{Code, Result, Subsystem};
use crate::net::network::run::{Plan, Programs};
use crate::net::network::{self, FormatOptions, NetworkDef};
use crate::types::Uuid;

pub use live::{leases, refresh, start, start_def, stop};
pub use ports::{Port, Ports, check as check_interfaces, limit, plug, plug_one, register, unplug, uses_networks};
pub(super) use shipped::ship;
pub(super) use watch::{Watch, autostart, recover};

/// What the daemon's configuration says about networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Start an inactive network when a guest that needs it starts.
    pub start_on_demand: bool,
    /// Define the network `default` once.
    pub ship_default: bool,
    pub programs: Programs,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        NetworkOptions { start_on_demand: true, ship_default: false, programs: Programs::default() }
    }
}

/// What makes an object a network.
#[derive(Clone, Debug)]
pub struct NetworkKind;

/// A network.
pub type Network = Handle<NetworkKind>;

/// A network that runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkLive {
    pub plan: Plan,
    /// Everything of the plan is there, and nothing of it is being taken away.
    pub started: bool,
    /// The plan is another one since, and its rules and server may not be there yet.
    pub changing: bool,
    /// `<networkport>` documents of the ports that clients made.
    pub ports: Vec<String>,
}

impl Network {
    fn emit_lifecycle(&self, event: i32) {
        let network = Named { uuid: self.uuid(), name: self.name().to_string() };
        self.context().emit(HostEvent::NetworkLifecycle { network, event, detail: 0 });
    }
}

impl Kind for NetworkKind {
    type Def = NetworkDef;
    type Live = NetworkLive;
    const NOUN: &'static str = "network";
    const DIRECTORY: &'static str = "networks";
    const OBJECT: ObjectKind = ObjectKind::Network;
    const SUBSYSTEM: Subsystem = Subsystem::Network;
    const MISSING: Code = Code::NoNetwork;
    const SCHEME: &'static str = "network";

    fn parse(xml: &str) -> Result<NetworkDef> {
        Ok(network::parse(xml)?.def)
    }

    fn write(def: &NetworkDef) -> String {
        network::format(def, FormatOptions { inactive: true })
    }

    fn details(uuid: Uuid, name: &str) -> Details {
        named(["network_name", "network_uuid"], name, uuid)
    }

    fn uuid(def: &NetworkDef) -> Uuid {
        def.uuid.unwrap_or_default()
    }

    fn name(def: &NetworkDef) -> String {
        def.name.clone()
    }
}
