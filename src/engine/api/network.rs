//! Networks, their leases and ports.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{XmlFlags, call, check_host_flags, stored};
use crate::engine::Connection;
use crate::engine::access::guard::{Details, Guarded, named};
use crate::engine::host::HostObjects;
use crate::engine::network::define::{self, Edit, Metadata};
use crate::engine::network::{self, Network, NetworkKind, client_ports};
use crate::engine::objects::definition;
use crate::error::{Code, Error, Result};
use crate::net::network::FormatOptions;
use crate::net::network::run::leases::Lease;
use crate::types::{MacAddr, TypedParams, Uuid, flags};
use std::sync::Arc;

/// `virConnectListAllNetworksFlags`
mod list {
    pub const INACTIVE: u32 = 1;
    pub const ACTIVE: u32 = 2;
    pub const PERSISTENT: u32 = 4;
    pub const TRANSIENT: u32 = 8;
    pub const AUTOSTART: u32 = 16;
    pub const NO_AUTOSTART: u32 = 32;
}

/// `VIR_TYPED_PARAM_STRING_OKAY`: clients of today always say it; no bandwidth is a string.
const STRING_OKAY: u32 = 4;
/// A port of a network.
#[derive(Clone, Debug)]
pub struct NetworkPort {
    pub network: Network,
    pub uuid: Uuid,
}

impl Guarded for NetworkPort {
    const OBJECT: &'static str = "network_port";

    async fn details(&self) -> Details {
        let mut details = network_details(&self.network);
        details.push(("port_uuid", self.uuid.to_string()));
        details
    }
}

/// Details of a port that is yet to be made. Errors: those of the document.
fn port_details(network: &Network, xml: &str) -> Result<Details> {
    let mut details = network_details(network);
    details.push(("port_uuid", crate::net::network::port::parse(xml, false)?.uuid.to_string()));
    Ok(details)
}

fn network_details(network: &Network) -> Details {
    named(["network_name", "network_uuid"], network.name(), network.uuid())
}

/// `VIR_NETWORK_XML_INACTIVE`
const XML_INACTIVE: u32 = 1;

fn host(network: &Network) -> Result<Arc<HostObjects>> {
    network.context().host().ok_or_else(|| Error::internal("the daemon is going down"))
}

fn matches(network: &Network, flags: u32) -> bool {
    let state = network.state();
    let of = |yes: u32, no: u32, is: bool| flags & (yes | no) == 0 || flags & if is { yes } else { no } != 0;
    of(list::ACTIVE, list::INACTIVE, state.active())
        && of(list::PERSISTENT, list::TRANSIENT, state.persistent())
        && of(list::AUTOSTART, list::NO_AUTOSTART, state.autostart)
}

call! {
    /// All networks that match `virConnectListAllNetworksFlags`, by name.
    ListAllNetworks = "virConnectListAllNetworks", Read, "connect:search_networks" only "network:getattr";
    (caller, on: Connection, flags => u32) -> Vec<Network> {
        check_host_flags(flags, 63, "virConnectListAllNetworks")?;
        let networks = on.host().networks.all().into_iter().filter(|network| matches(network, flags)).collect();
        caller.permit::<Self>().visible(networks).await
    }
}

call! {
    /// By name.
    NetworkLookupByName = "virNetworkLookupByName", Read, "network:getattr";
    (caller, on: Connection, name => String) -> Network {
        caller.permit::<Self>().found(on.host().networks.by_name(&name)?).await
    }
}

call! {
    /// By UUID.
    NetworkLookupByUuid = "virNetworkLookupByUUID", Read, "network:getattr";
    (caller, on: Connection, uuid => Uuid) -> Network {
        caller.permit::<Self>().found(on.host().networks.by_uuid(uuid)?).await
    }
}

call! {
    /// Defines a network or replaces its definition.
    NetworkDefineXml = "virNetworkDefineXMLFlags", Write, "network:write", "network:save";
    (caller, on: Connection, XmlFlags { xml, flags } => XmlFlags) -> Network {
        check_host_flags(flags, flags::define::VALIDATE, "virNetworkDefineXMLFlags")?;
        caller.permit::<Self>().on_new("network", || Ok(definition::<NetworkKind>(&crate::net::network::parse(&xml)?.def))).await?;
        define::define(on.host(), &xml, flags & flags::define::VALIDATE != 0).await
    }
}

call! {
    /// Makes a network live that has no definition.
    NetworkCreateXml = "virNetworkCreateXMLFlags", Write, "network:write", "network:start";
    (caller, on: Connection, XmlFlags { xml, flags } => XmlFlags) -> Network {
        check_host_flags(flags, flags::define::VALIDATE, "virNetworkCreateXMLFlags")?;
        caller.permit::<Self>().on_new("network", || Ok(definition::<NetworkKind>(&crate::net::network::parse(&xml)?.def))).await?;
        define::create(on.host(), &xml, flags & flags::define::VALIDATE != 0).await
    }
}

call! {
    /// Makes a defined network live.
    NetworkCreate = "virNetworkCreate", Write, "network:start";
    (caller, on: Network, () => ()) -> () { define::start(on).await }
}

call! {
    /// Takes a network down.
    NetworkDestroy = "virNetworkDestroy", Write, "network:stop";
    (caller, on: Network, () => ()) -> () { define::destroy(on).await }
}

call! {
    /// Forgets its definition.
    NetworkUndefine = "virNetworkUndefine", Write, "network:delete";
    (caller, on: Network, () => ()) -> () { define::undefine(on).await }
}

call! {
    /// The definition in force, or with `VIR_NETWORK_XML_INACTIVE` that of the next start.
    NetworkGetXmlDesc = "virNetworkGetXMLDesc", Read, "network:read";
    (caller, on: Network, flags => u32) -> String {
        check_host_flags(flags, XML_INACTIVE, "virNetworkGetXMLDesc")?;
        let inactive = flags & XML_INACTIVE != 0;
        let state = on.state();
        let def = if inactive { state.inactive_def() } else { state.def() };
        let mut def = def.map_or_else(|| on.def(), |def| Ok(def.clone()))?;
        if state.active() && !inactive {
            let connections = host(on)?.ports.of(on.uuid()).len();
            let devices = host(on)?.ports.on_devices(on.uuid());
            let def = Arc::make_mut(&mut def);
            def.connections = u32::try_from(connections).unwrap_or(u32::MAX);
            for interface in &mut def.forward.interfaces {
                interface.connections = devices.get(&interface.device).copied().unwrap_or_default();
            }
            if let Some(pf) = &mut def.forward.pf {
                pf.connections = devices.values().sum();
            }
        }
        Ok(crate::net::network::format(&def, FormatOptions { inactive }))
    }
}

call! {
    /// The name of its bridge. Error: code 1 when it has none.
    NetworkGetBridgeName = "virNetworkGetBridgeName", Read, "network:read";
    (caller, on: Network, () => ()) -> String {
        on.def()?.bridge_name().map(str::to_string).ok_or_else(|| {
            Error::internal(format!("network '{}' does not have a bridge name.", on.name()))
        })
    }
}

call! {
    /// Whether it is live.
    NetworkIsActive = "virNetworkIsActive", Read, "network:read";
    (caller, on: Network, () => ()) -> bool {
        on.def()?;
        Ok(on.state().active())
    }
}

call! {
    /// Whether it has a definition that is kept.
    NetworkIsPersistent = "virNetworkIsPersistent", Read, "network:read";
    (caller, on: Network, () => ()) -> bool {
        on.def()?;
        Ok(on.state().persistent())
    }
}

call! {
    /// Whether it starts with the daemon.
    NetworkGetAutostart = "virNetworkGetAutostart", Read, "network:read";
    (caller, on: Network, () => ()) -> bool {
        on.def()?;
        Ok(on.state().autostart)
    }
}

call! {
    /// Sets whether it starts with the daemon.
    NetworkSetAutostart = "virNetworkSetAutostart", Write, "network:write";
    (caller, on: Network, autostart => bool) -> () { define::set_autostart(on, autostart).await }
}

/// Arguments of `virNetworkUpdate`.
#[derive(Clone, Debug)]
pub struct NetworkUpdateArgs {
    pub edit: Edit,
    pub flags: u32,
}

call! {
    /// Changes one entry of a section, of the running network, its definition, or both.
    NetworkUpdate = "virNetworkUpdate", Write, "network:write", "network:save" if |args| stored(args.flags);
    (caller, on: Network, NetworkUpdateArgs { edit, flags } => NetworkUpdateArgs) -> () {
        check_host_flags(flags, define::LIVE | define::CONFIG, "virNetworkUpdate")?;
        define::change_section(on, &edit, flags).await
    }
}

/// Arguments of `virNetworkSetMetadata`.
#[derive(Clone, Debug)]
pub struct NetworkSetMetadataArgs {
    pub metadata: Metadata,
    pub flags: u32,
}

/// libvirt's rules for which arguments go with which kind.
fn check_metadata(metadata: &Metadata) -> Result<()> {
    let Metadata { kind, text, key, uri } = metadata;
    let bad = |text: &str| Err(Error::bare_arg(format!("{text} in virNetworkSetMetadata")));
    match *kind {
        define::TITLE if text.as_ref().is_some_and(|text| text.contains('\n')) => {
            bad("metadata title can't contain newlines")
        }
        define::TITLE | define::DESCRIPTION if uri.is_some() => bad("uri must be NULL"),
        define::TITLE | define::DESCRIPTION if key.is_some() => bad("key must be NULL"),
        define::ELEMENT if uri.is_none() => bad("uri must not be NULL"),
        define::ELEMENT if text.is_some() && key.is_none() => bad("key must not be NULL"),
        define::TITLE | define::DESCRIPTION | define::ELEMENT => Ok(()),
        other => Err(Error::invalid_arg(format!("unknown metadata type {other}"))),
    }
}

call! {
    /// Changes title, description or one application's element.
    NetworkSetMetadata = "virNetworkSetMetadata", Write,
        "network:write", "network:save" if |args| stored(args.flags);
    (caller, on: Network, NetworkSetMetadataArgs { metadata, flags } => NetworkSetMetadataArgs) -> () {
        check_host_flags(flags, define::LIVE | define::CONFIG, "virNetworkSetMetadata")?;
        check_metadata(&metadata)?;
        define::set_metadata(on, &metadata, flags).await
    }
}

/// Arguments of `virNetworkGetMetadata`.
#[derive(Clone, Debug)]
pub struct NetworkGetMetadataArgs {
    pub kind: i32,
    pub uri: Option<String>,
    pub flags: u32,
}

call! {
    /// Title, description or one application's element. Error: code 111 when there is none.
    NetworkGetMetadata = "virNetworkGetMetadata", Read, "network:read";
    (caller, on: Network, NetworkGetMetadataArgs { kind, uri, flags } => NetworkGetMetadataArgs) -> String {
        check_host_flags(flags, define::LIVE | define::CONFIG, "virNetworkGetMetadata")?;
        define::metadata(on, kind, uri.as_deref(), flags)
    }
}

/// A lease as clients see it (`virNetworkDHCPLease`).
#[derive(Clone, Debug)]
pub struct DhcpLease {
    /// The network's bridge.
    pub interface: String,
    /// Bits of the subnet.
    pub prefix: u32,
    pub lease: Lease,
}

call! {
    /// Leases that hold now, of one MAC address or of all; none of a network that is not active.
    NetworkGetDhcpLeases = "virNetworkGetDHCPLeases", Read, "network:read";
    (caller, on: Network, (mac, flags) => (Option<String>, u32)) -> Vec<DhcpLease> {
        check_host_flags(flags, 0, "virNetworkGetDHCPLeases")?;
        let mac: Option<MacAddr> = match mac.filter(|mac| !mac.is_empty()) {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| Error::new(Code::InvalidMac, text))?),
        };
        let Some(run) = on.state().run.clone() else { return Ok(Vec::new()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let prefix = |lease: &Lease| {
            run.def.ips.iter().find(|ip| ip.contains(lease.address)).and_then(|ip| ip.prefix_length()).unwrap_or(0)
        };
        let interface = run.def.bridge_name().unwrap_or_default();
        let leases = network::leases(on, i64::try_from(now).unwrap_or(i64::MAX))?.into_iter();
        let wanted = leases.filter(|lease| mac.is_none() || lease.mac == mac);
        Ok(wanted
            .map(|lease| DhcpLease { interface: interface.to_string(), prefix: prefix(&lease), lease })
            .collect())
    }
}

call! {
    /// The UUIDs of its ports. Error: code 55 when it is not active.
    NetworkListAllPorts = "virNetworkListAllPorts", Read, "network:search_ports" only "network_port:getattr";
    (caller, on: Network, flags => u32) -> Vec<Uuid> {
        check_host_flags(flags, 0, "virNetworkListAllPorts")?;
        if !on.state().active() {
            return Err(Error::invalid_state(format!("network '{}' is not active", on.name())));
        }
        let ports = host(on)?.ports.of(on.uuid()).into_iter();
        let ports = ports.map(|port| NetworkPort { network: on.clone(), uuid: port.def.uuid }).collect();
        let seen = caller.permit::<Self>().visible(ports).await?;
        Ok(seen.into_iter().map(|port| port.uuid).collect())
    }
}

call! {
    /// Whether it has a port of this UUID. Error: code 107.
    NetworkPortLookupByUuid = "virNetworkPortLookupByUUID", Read, "network_port:getattr";
    (caller, on: Network, uuid => Uuid) -> Uuid {
        let uuid = client_ports::find(on, uuid)?.def.uuid;
        Ok(caller.permit::<Self>().found(NetworkPort { network: on.clone(), uuid }).await?.uuid)
    }
}

call! {
    /// What a port is.
    NetworkPortGetXmlDesc = "virNetworkPortGetXMLDesc", Read, "network_port:read";
    (caller, on: Network, (uuid, flags) => (Uuid, u32)) -> String {
        check_host_flags(flags, 0, "virNetworkPortGetXMLDesc")?;
        let port = client_ports::find(on, uuid)?;
        caller.permit::<Self>().on(&NetworkPort { network: on.clone(), uuid }).await?;
        Ok(crate::net::network::port::format(&port.def))
    }
}

call! {
    /// Makes a port for what a client connects itself; its UUID.
    NetworkPortCreateXml = "virNetworkPortCreateXML", Write, "network_port:create";
    (caller, on: Network, XmlFlags { xml, flags } => XmlFlags) -> Uuid {
        check_host_flags(flags, client_ports::RECLAIM | client_ports::VALIDATE, "virNetworkPortCreateXML")?;
        caller.permit::<Self>().on_new("network_port", || port_details(on, &xml)).await?;
        client_ports::create(on, &xml, flags).await
    }
}

call! {
    /// Gives a port back.
    NetworkPortDelete = "virNetworkPortDelete", Write, "network_port:delete";
    (caller, on: Network, (uuid, flags) => (Uuid, u32)) -> () {
        check_host_flags(flags, 0, "virNetworkPortDelete")?;
        caller.permit::<Self>().on(&NetworkPort { network: on.clone(), uuid }).await?;
        client_ports::delete(on, uuid).await
    }
}

/// Arguments of `virNetworkPortGetParameters` and `Set`.
#[derive(Clone, Debug)]
pub struct NetworkPortParamsArgs {
    pub port: Uuid,
    /// None for `Get`.
    pub params: TypedParams,
    pub flags: u32,
}

call! {
    /// The bandwidth of a port, of the directions that are limited.
    NetworkPortGetParameters = "virNetworkPortGetParameters", Read, "network_port:read";
    (caller, on: Network, NetworkPortParamsArgs { port, flags, .. } => NetworkPortParamsArgs) -> TypedParams {
        check_host_flags(flags, STRING_OKAY, "virNetworkPortGetParameters")?;
        caller.permit::<Self>().on(&NetworkPort { network: on.clone(), uuid: port }).await?;
        client_ports::parameters(on, port)
    }
}

call! {
    /// Replaces the bandwidth of a port that a client made.
    NetworkPortSetParameters = "virNetworkPortSetParameters", Write, "network_port:write";
    (caller, on: Network, NetworkPortParamsArgs { port, params, flags } => NetworkPortParamsArgs) -> () {
        check_host_flags(flags, 0, "virNetworkPortSetParameters")?;
        caller.permit::<Self>().on(&NetworkPort { network: on.clone(), uuid: port }).await?;
        client_ports::set_parameters(on, port, &params).await
    }
}
