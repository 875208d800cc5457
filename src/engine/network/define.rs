//! Definitions of networks: made, changed, forgotten. What runs is [`super::live`]'s.

use std::sync::Arc;

use super::super::cleanup::fault_point;
use super::super::event::{HostEvent, HostSet, Named, network_lifecycle};
use super::super::host::HostObjects;
use super::super::objects::{Change, Run};
use super::{Network, NetworkKind, live};
use crate::error::{Code, Error, Result, Subsystem};
use crate::net::network::update::{Command, Section};
use crate::net::network::{self, NetworkDef, complete, update};
use crate::types::Uuid;

/// `virNetworkUpdateFlags`, and libvirt's of metadata.
pub const LIVE: u32 = 1;
pub const CONFIG: u32 = 2;

/// A bridge's name is chosen and kept by one definition at a time.
static NAMING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn invalid(what: impl Into<String>) -> Error {
    Error::invalid_state(what).with_subsystem(Subsystem::Network)
}

/// Reads a document as a definition that can be kept: complete, checked, with a bridge that no other network has. With
/// `strict`, what would be ignored is refused. Errors name line and column.
fn read(host: &HostObjects, xml: &str, strict: bool) -> Result<NetworkDef> {
    let parsed = network::parse(xml)?;
    if let (true, Some(doubt)) = (strict, parsed.warnings.first()) {
        let what = format!("line {}, column {}, {}: {}", doubt.line, doubt.column, doubt.path, doubt.message);
        return Err(Error::new(Code::XmlInvalidSchema, what).with_subsystem(Subsystem::Xml));
    }
    let mut def = parsed.def;
    for doubt in &parsed.warnings {
        tracing::warn!(network = def.name, line = doubt.line, path = doubt.path, "{}", doubt.message);
    }
    let used = bridges(host, def.uuid, &def.name);
    let links = host.context.set == HostSet::Shared;
    complete(&mut def, complete::random_bytes, |name| {
        used.iter().any(|used| used == name) || links && nix::net::if_::if_nametoindex(name).is_ok()
    })?;
    network::validate(&def).map_err(|error| crate::domain_xml::place(error, xml))?;
    if let Some(bridge) = def.bridge_name().filter(|name| def.owns_bridge() && used.iter().any(|used| used == name)) {
        return Err(Error::internal(format!("bridge name '{bridge}' already in use.")));
    }
    Ok(def)
}

/// Names of the bridges of all networks but one.
fn bridges(host: &HostObjects, but: Option<Uuid>, name: &str) -> Vec<String> {
    let others = host.networks.all().into_iter().filter(|other| Some(other.uuid()) != but && other.name() != name);
    others
        .flat_map(|other| {
            let state = other.state();
            let defs = state.config.iter().chain(state.run.as_ref().map(|run| &run.def));
            defs.filter_map(|def| def.bridge_name().map(str::to_string)).collect::<Vec<_>>()
        })
        .collect()
}

/// Defines a network or replaces its definition (`virNetworkDefineXMLFlags`); one that runs goes on as it is.
pub async fn define(host: &HostObjects, xml: &str, strict: bool) -> Result<Network> {
    let _naming = NAMING.lock().await;
    let def = Arc::new(read(host, xml, strict)?);
    let mut change = host.networks.claim(&def).await?;
    fault_point("network-define.claimed")?;
    change.define(def).await?;
    fault_point("network-define.stored")?;
    let network = change.handle().clone();
    tracing::info!(network = network.name(), "network defined");
    network.emit_lifecycle(network_lifecycle::DEFINED);
    Ok(network)
}

/// Makes a network live without keeping a definition (`virNetworkCreateXMLFlags`). Errors: code 55 when one of the name
/// is active already; what a start says.
pub async fn create(host: &HostObjects, xml: &str, strict: bool) -> Result<Network> {
    let naming = NAMING.lock().await;
    let def = Arc::new(read(host, xml, strict)?);
    let mut change = host.networks.claim(&def).await?;
    if change.state().active() {
        return Err(invalid(format!("network is already active as '{}'", def.name)));
    }
    drop(naming);
    live::start_def(&mut change, def).await?;
    Ok(change.handle().clone())
}

/// Makes a defined network live (`virNetworkCreate`).
pub async fn start(network: &Network) -> Result<()> {
    live::start(&mut network.change().await?).await
}

/// Takes a network down (`virNetworkDestroy`); a transient one is gone then.
pub async fn destroy(network: &Network) -> Result<()> {
    live::stop(&mut network.change().await?).await
}

/// Forgets a definition (`virNetworkUndefine`); a network that runs goes on as a transient one.
pub async fn undefine(network: &Network) -> Result<()> {
    let mut change = network.change().await?;
    if !change.state().persistent() {
        return Err(invalid("can't undefine transient network"));
    }
    fault_point("network-undefine.begun")?;
    change.undefine().await?;
    fault_point("network-undefine.removed")?;
    tracing::info!(network = network.name(), "network undefined");
    network.emit_lifecycle(network_lifecycle::UNDEFINED);
    Ok(())
}

/// Whether it starts with the daemon (`virNetworkSetAutostart`).
pub async fn set_autostart(network: &Network, on: bool) -> Result<()> {
    let mut change = network.change().await?;
    if !change.state().persistent() {
        return Err(invalid("cannot set autostart for transient network"));
    }
    change.set_autostart(on).await
}

/// What a change is made on: the run, the definition, or both.
type Sides = (Option<Run<NetworkKind>>, Option<Arc<NetworkDef>>);

/// The sides that flags mean; 0 is the running network, or else its definition.
fn sides(change: &Change<NetworkKind>, flags: u32) -> Result<Sides> {
    let state = change.state();
    let flags = match flags {
        0 if state.active() => LIVE,
        0 => CONFIG,
        given => given,
    };
    if flags & LIVE != 0 && !state.active() {
        return Err(invalid("network is not running"));
    }
    if flags & CONFIG != 0 && !state.persistent() {
        return Err(invalid("cannot change persistent config of a transient network"));
    }
    let live = state.run.clone().filter(|_| flags & LIVE != 0);
    let config = state.config.clone().filter(|_| flags & CONFIG != 0);
    Ok((live, config))
}

/// What `virNetworkUpdate` is told beside its flags.
#[derive(Clone, Debug)]
pub struct Edit {
    /// `virNetworkUpdateCommand`
    pub command: u32,
    /// `virNetworkUpdateSection`
    pub section: u32,
    /// The number of the `<ip>`; below 0 the one with DHCP.
    pub parent: i32,
    pub xml: String,
}

/// Changes one entry of a section (`virNetworkUpdate`): of the running network, of its definition, or of both, or of
/// neither when one of them refuses it.
pub async fn change_section(network: &Network, edit: &Edit, flags: u32) -> Result<()> {
    let mut change = network.change().await?;
    let (live, config) = sides(&change, flags)?;
    let section = Section::from_number(edit.section, network.name())?;
    let command = Command::from_number(edit.command)?;
    let edited = |def: &NetworkDef| {
        let mut def = def.clone();
        update::update(&mut def, command, section, edit.parent, &edit.xml)?;
        Ok::<_, Error>(Arc::new(def))
    };
    let new_config = config.as_deref().map(edited).transpose()?;
    if let Some(run) = &live {
        let def = edited(&run.def)?;
        live::refresh(&mut change, def).await?;
        fault_point("network-update.live")?;
    }
    if let Some(def) = new_config {
        change.define(def).await?;
    }
    fault_point("network-update.stored")
}

/// `virNetworkMetadataType`
pub const DESCRIPTION: i32 = 0;
pub const TITLE: i32 = 1;
pub const ELEMENT: i32 = 2;

/// What `virNetworkSetMetadata` is told beside its flags.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// [`DESCRIPTION`], [`TITLE`] or [`ELEMENT`].
    pub kind: i32,
    /// `None` takes it away.
    pub text: Option<String>,
    /// Namespace prefix of a new element.
    pub key: Option<String>,
    /// Namespace of the element.
    pub uri: Option<String>,
}

fn missing_metadata(what: &str) -> Error {
    Error::new(Code::NoNetworkMetadata, what).with_subsystem(Subsystem::Network)
}

/// Changes title, description or one application's element (`virNetworkSetMetadata`).
pub async fn set_metadata(network: &Network, metadata: &Metadata, flags: u32) -> Result<()> {
    let mut change = network.change().await?;
    let (live, config) = sides(&change, flags)?;
    let edited = |def: &NetworkDef| {
        let mut def = def.clone();
        let text = metadata.text.clone().filter(|text| !text.is_empty());
        match (metadata.kind, &metadata.text) {
            (DESCRIPTION, _) => def.description = text,
            (TITLE, _) => def.title = text,
            (_, Some(xml)) => {
                let (uri, key) = (metadata.uri.as_deref(), metadata.key.as_deref());
                def.metadata.set(uri.unwrap_or_default(), key.unwrap_or_default(), xml)?;
            }
            (_, None) => drop(def.metadata.remove(metadata.uri.as_deref().unwrap_or_default())),
        }
        Ok::<_, Error>(Arc::new(def))
    };
    let new_config = config.as_deref().map(edited).transpose()?;
    if let Some(run) = live {
        let def = edited(&run.def)?;
        change.started(Run { def, ..run }).await?;
    }
    if let Some(def) = new_config {
        change.define(def).await?;
    }
    let named = Named { uuid: network.uuid(), name: network.name().to_string() };
    let uri = metadata.uri.clone().unwrap_or_default();
    network.context().emit(HostEvent::NetworkMetadata { network: named, kind: metadata.kind, uri });
    Ok(())
}

/// Title, description or one application's element (`virNetworkGetMetadata`). Errors: code 111 when there is none.
pub fn metadata(network: &Network, kind: i32, uri: Option<&str>, flags: u32) -> Result<String> {
    let state = network.state();
    let def = match flags {
        0 => state.def().cloned(),
        LIVE if !state.active() => return Err(invalid("network is not running")),
        CONFIG if !state.persistent() => {
            return Err(invalid("cannot change persistent config of a transient network"));
        }
        LIVE => state.run.as_ref().map(|run| run.def.clone()),
        _ => state.config.clone(),
    };
    let def = def.map_or_else(|| network.def(), Ok)?;
    let found = match kind {
        DESCRIPTION => def.description.clone(),
        TITLE => def.title.clone(),
        ELEMENT => def.metadata.get(uri.unwrap_or_default()).map(|element| element.to_plain_xml()),
        other => return Err(Error::invalid_arg(format!("unknown metadata type {other}"))),
    };
    found.ok_or_else(|| missing_metadata("Requested metadata element is not present"))
}
