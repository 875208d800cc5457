//! Ports that clients make in a network for what they connect to it themselves (`virNetworkPortCreateXML`).
//!
//! They count among the network's connections and have a device of its pool for themselves as a guest's interface has.
//! They are part of the network's status record: written before they are shown, found again by the next daemon, gone with
//! the run of the network. Nothing of the host is made for them, and their bandwidth is for the client to keep.

use super::super::cleanup::fault_point;
use super::super::host::HostObjects;
use super::super::objects::{Change, Run};
use super::{Network, NetworkKind, NetworkLive, Port};
use crate::domain_xml::device::net_options::{Bandwidth, Rate};
use crate::error::{Code, Error, Result, Subsystem};
use crate::net::network::allot;
use crate::net::network::port::{self, Plug, PortDef};
use crate::types::params::{ParamKind, check_params};
use crate::types::{ParamValue, TypedParams, Uuid};
use std::sync::Arc;

/// `virNetworkPortCreateFlags`
pub const RECLAIM: u32 = 1;
pub const VALIDATE: u32 = 2;

type Field = fn(&mut Rate) -> &mut Option<u64>;

/// Name, whether it is of what comes in, and the field; in libvirt's order. kB/s, KiB for bursts.
const FIELDS: [(&str, bool, Field); 7] = [
    ("inbound.average", true, |rate| &mut rate.average),
    ("inbound.peak", true, |rate| &mut rate.peak),
    ("inbound.floor", true, |rate| &mut rate.floor),
    ("inbound.burst", true, |rate| &mut rate.burst),
    ("outbound.average", false, |rate| &mut rate.average),
    ("outbound.peak", false, |rate| &mut rate.peak),
    ("outbound.burst", false, |rate| &mut rate.burst),
];

fn host(network: &Network) -> Result<Arc<HostObjects>> {
    network.context().host().ok_or_else(|| Error::internal("the daemon is going down"))
}

fn missing(uuid: Uuid) -> Error {
    Error::new(Code::NoNetworkPort, format!("Network port with UUID {uuid} does not exist"))
        .with_subsystem(Subsystem::Network)
}

/// A port of a network. Error: code 107.
pub fn find(network: &Network, uuid: Uuid) -> Result<Port> {
    let found = host(network)?.ports.of(network.uuid()).into_iter().find(|port| port.def.uuid == uuid);
    found.ok_or_else(|| missing(uuid))
}

/// The run of an active network. Error: code 55.
fn running(change: &Change<NetworkKind>) -> Result<Run<NetworkKind>> {
    change.state().run.clone().ok_or_else(|| {
        let what = format!("network '{}' is not active", change.handle().name());
        Error::invalid_state(what).with_subsystem(Subsystem::Network)
    })
}

/// Makes a port as `xml` asks: with a place of the network's choice, or with [`RECLAIM`] at the one that it names.
/// Errors: code 55 for a network that is not active, code 8 for a place without the flag and a flag without a place, code
/// 106 for a UUID that a port has, code 1 where no device is free.
pub async fn create(network: &Network, xml: &str, flags: u32) -> Result<Uuid> {
    let mut def = port::parse(xml, flags & VALIDATE != 0)?;
    let uuid = def.uuid;
    let host = host(network)?;
    let mut change = network.change().await?;
    let run = running(&change)?;
    let invalid = |what: &str| Err(Error::invalid_arg(what).with_subsystem(Subsystem::Network));
    match (flags & RECLAIM != 0, &def.plug) {
        (true, Plug::None) => return invalid("Port reclaim requested but plug type is none"),
        (false, plug) if *plug != Plug::None => {
            return invalid("Port reclaim not requested but plug type is not none");
        }
        _ => {}
    }
    let added = host.ports.reserve(network.uuid(), |others| {
        if flags & RECLAIM != 0 {
            allot::reclaim(&run.def, &def, others)?;
        } else {
            allot::allot(&run.def, &mut def, others)?;
        }
        allot::check_floor(&run.def, &def)?;
        if others.iter().any(|other| other.uuid == uuid) {
            let what = format!("Network port with UUID {uuid} already exists");
            return Err(Error::new(Code::NetworkPortExist, what).with_subsystem(Subsystem::Network));
        }
        let text = port::format(&def);
        Ok((Port { def, link: None, by_client: true }, text))
    })?;
    let mut ports = run.live.ports.clone();
    ports.push(added);
    if let Err(error) = note(&mut change, run, ports).await {
        host.ports.release(network.uuid(), uuid);
        return Err(error);
    }
    Ok(uuid)
}

/// Writes the ports of clients into the network's record.
async fn note(change: &mut Change<NetworkKind>, run: Run<NetworkKind>, ports: Vec<String>) -> Result<()> {
    let live = NetworkLive { ports, ..NetworkLive::clone(&run.live) };
    fault_point("network-port.reserved")?;
    change.started(Run { live: Arc::new(live), ..run }).await?;
    fault_point("network-port.noted")
}

/// The documents of a record but that of one port.
fn others(run: &Run<NetworkKind>, uuid: Uuid) -> Vec<String> {
    run.live.ports.iter().filter(|text| port::parse(text, false).is_ok_and(|def| def.uuid != uuid)).cloned().collect()
}

/// Gives a port back; a guest's interface stays as it is and has its port again with the next daemon. Error: code 107.
pub async fn delete(network: &Network, uuid: Uuid) -> Result<()> {
    let host = host(network)?;
    let mut change = network.change().await?;
    if find(network, uuid)?.by_client {
        let run = running(&change)?;
        let left = others(&run, uuid);
        note(&mut change, run, left).await?;
    }
    host.ports.release(network.uuid(), uuid);
    Ok(())
}

/// The bandwidth of a port: the directions that are limited. Error: code 107.
pub fn parameters(network: &Network, uuid: Uuid) -> Result<TypedParams> {
    let limits = find(network, uuid)?.def.bandwidth.unwrap_or_default();
    let mut params = TypedParams::new();
    for (name, into, field) in FIELDS {
        if let Some(mut rate) = if into { limits.inbound.clone() } else { limits.outbound.clone() } {
            params.uint(name, u32::try_from(field(&mut rate).unwrap_or_default()).unwrap_or(u32::MAX));
        }
    }
    Ok(params)
}

/// Replaces the bandwidth of a port that a client made: what is not said is no limit. Errors: code 107; code 55 for the
/// port of a guest's interface, which has its limits from its own definition; code 84 for a floor that nobody keeps.
pub async fn set_parameters(network: &Network, uuid: Uuid, params: &TypedParams) -> Result<()> {
    check_params(params, &FIELDS.map(|(name, ..)| (name, ParamKind::Uint)))?;
    let host = host(network)?;
    let mut change = network.change().await?;
    let Port { def, by_client, .. } = find(network, uuid)?;
    if !by_client {
        return Err(Error::invalid_state(format!(
            "port {uuid} is interface {} of guest '{}': set its limits there ('domus domiftune {} {}')",
            def.mac, def.owner_name, def.owner_name, def.mac
        ))
        .with_subsystem(Subsystem::Network));
    }
    let run = running(&change)?;
    let def = PortDef { bandwidth: Some(limits(params)), ..def };
    allot::check_floor(&run.def, &def)?;
    let mut ports = others(&run, uuid);
    ports.push(port::format(&def));
    note(&mut change, run, ports).await?;
    host.ports.insert(network.uuid(), Port { def, link: None, by_client: true });
    Ok(())
}

/// The limits that parameters say; a direction without average and floor is none.
fn limits(params: &TypedParams) -> Bandwidth {
    let direction = |wanted: bool| {
        let mut rate = Rate::default();
        for (name, _, field) in FIELDS.iter().filter(|(_, into, _)| *into == wanted) {
            if let Some(ParamValue::Uint(value)) = params.get(name) {
                *field(&mut rate) = Some(u64::from(*value)).filter(|value| *value != 0);
            }
        }
        Some(rate).filter(|rate| rate.average.is_some() || rate.floor.is_some())
    };
    Bandwidth { inbound: direction(true), outbound: direction(false) }
}

/// Takes over the ports that clients made in a network that a former daemon left running.
pub(super) fn register(host: &HostObjects, network: &Network) {
    let state = network.state();
    for text in state.run.iter().flat_map(|run| &run.live.ports) {
        match port::parse(text, false) {
            Ok(def) => host.ports.insert(network.uuid(), Port { def, link: None, by_client: true }),
            Err(error) => tracing::error!(network = network.name(), %error, "port of a client is lost"),
        }
    }
}
