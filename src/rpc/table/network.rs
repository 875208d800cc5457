//! Procedures of networks, host interfaces and network filters.

use super::{Procedure, c};
use crate::engine::api::{
    Class, DhcpLease, ListAllNetworks, NetworkCreate, NetworkCreateXml, NetworkDefineXml, NetworkDestroy,
    NetworkGetAutostart, NetworkGetBridgeName, NetworkGetDhcpLeases, NetworkGetMetadata, NetworkGetMetadataArgs,
    NetworkGetXmlDesc, NetworkIsActive, NetworkIsPersistent, NetworkListAllPorts, NetworkLookupByName,
    NetworkLookupByUuid, NetworkPortCreateXml, NetworkPortDelete, NetworkPortGetParameters, NetworkPortGetXmlDesc,
    NetworkPortLookupByUuid, NetworkPortParamsArgs, NetworkPortSetParameters, NetworkSetAutostart, NetworkSetMetadata,
    NetworkSetMetadataArgs, NetworkUndefine, NetworkUpdate, NetworkUpdateArgs, XmlFlags,
};
use crate::engine::network::Network;
use crate::engine::network::define::{Edit, Metadata};
use crate::rpc::call::{Answer, BoxFuture, Invocation, Reply, connection, list, object, on_object_params};
use crate::rpc::session;
use crate::rpc::wire::{NamedHandle, Params, Remote};
use crate::types::{TypedParams, Uuid};

/// `virConnectListAllNetworksFlags`
const INACTIVE: u32 = 1;
const ACTIVE: u32 = 2;

fn count(networks: &[Network]) -> i32 {
    i32::try_from(networks.len()).unwrap_or(i32::MAX)
}

fn names(networks: &[Network]) -> Vec<String> {
    networks.iter().map(|network| network.name().to_string()).collect()
}

/// `remote_network_dhcp_lease`, in two halves.
type Lease = ((String, i64, i32, Option<String>, Option<String>), (String, u32, Option<String>, Option<String>));

fn lease(lease: DhcpLease) -> Lease {
    let DhcpLease { interface, prefix, lease } = lease;
    let mac = lease.mac.map(|mac| mac.to_string());
    let kind = i32::from(lease.address.is_ipv6());
    (
        (interface, lease.expiry, kind, mac, lease.iaid),
        (lease.address.to_string(), prefix, lease.hostname, lease.client_id),
    )
}

fn leases(found: Vec<DhcpLease>) -> (Vec<Lease>, u32) {
    let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
    (found.into_iter().map(lease).collect(), count)
}

/// The ports of a network; a port is named by its network and its UUID.
fn list_all_ports(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, need_results, flags): (NamedHandle, bool, u32) = at.arguments()?;
        let network = Network::find(&connection, handle)?;
        let ports = crate::engine::api::dispatch::<NetworkListAllPorts>(&caller, &network, flags).await?;
        let count = u32::try_from(ports.len()).unwrap_or(u32::MAX);
        let ports: Vec<(NamedHandle, Uuid)> =
            ports.into_iter().filter(|_| need_results).map(|port| (network.handle(), port)).collect();
        Ok(Answer::value(&(ports, count)))
    })
}

fn port_lookup(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, uuid): (NamedHandle, Uuid) = at.arguments()?;
        let network = Network::find(&connection, handle)?;
        let port = crate::engine::api::dispatch::<NetworkPortLookupByUuid>(&caller, &network, uuid).await?;
        Ok(Answer::value(&(network.handle(), port)))
    })
}

fn port_create(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, xml, flags): (NamedHandle, String, u32) = at.arguments()?;
        let network = Network::find(&connection, handle)?;
        let port =
            crate::engine::api::dispatch::<NetworkPortCreateXml>(&caller, &network, XmlFlags { xml, flags }).await?;
        Ok(Answer::value(&(network.handle(), port)))
    })
}

/// Arguments, number asked for, flags.
fn port_asked((port, asked, flags): (Uuid, i32, u32)) -> (NetworkPortParamsArgs, i32, u32) {
    (NetworkPortParamsArgs { port, params: TypedParams::new(), flags }, asked, flags)
}

fn edit((command, section, parent, xml, flags): (u32, u32, i32, String, u32)) -> NetworkUpdateArgs {
    NetworkUpdateArgs { edit: Edit { command, section, parent, xml }, flags }
}

pub(super) const NETWORK: &[Procedure] = &[
    c(36, "CONNECT_LIST_DEFINED_NETWORKS", "virConnectListDefinedNetworks").served(connection!(
        ListAllNetworks,
        |_most: i32| INACTIVE,
        |found| names(&found)
    )),
    c(38, "CONNECT_LIST_NETWORKS", "virConnectListNetworks").served(connection!(
        ListAllNetworks,
        |_most: i32| ACTIVE,
        |found| names(&found)
    )),
    c(39, "NETWORK_CREATE", "virNetworkCreate").served(object!(NetworkCreate, |()| (), |()| ())),
    c(40, "NETWORK_CREATE_XML", "virNetworkCreateXML").served(connection!(
        NetworkCreateXml,
        |xml: String| XmlFlags { xml, flags: 0 },
        |found| found.handle()
    )),
    c(41, "NETWORK_DEFINE_XML", "virNetworkDefineXML").served(connection!(
        NetworkDefineXml,
        |xml: String| XmlFlags { xml, flags: 0 },
        |found| found.handle()
    )),
    c(42, "NETWORK_DESTROY", "virNetworkDestroy").served(object!(NetworkDestroy, |()| (), |()| ())),
    c(43, "NETWORK_GET_XML_DESC", "virNetworkGetXMLDesc").served(object!(
        NetworkGetXmlDesc,
        |flags: u32| flags,
        |xml| xml
    )),
    c(44, "NETWORK_GET_AUTOSTART", "virNetworkGetAutostart").served(object!(NetworkGetAutostart, |()| (), |is| is)),
    c(45, "NETWORK_GET_BRIDGE_NAME", "virNetworkGetBridgeName").served(object!(
        NetworkGetBridgeName,
        |()| (),
        |name| name
    )),
    c(46, "NETWORK_LOOKUP_BY_NAME", "virNetworkLookupByName").served(connection!(
        NetworkLookupByName,
        |name: String| name,
        |found| found.handle()
    )),
    c(47, "NETWORK_LOOKUP_BY_UUID", "virNetworkLookupByUUID").served(connection!(
        NetworkLookupByUuid,
        |uuid: Uuid| uuid,
        |found| found.handle()
    )),
    c(48, "NETWORK_SET_AUTOSTART", "virNetworkSetAutostart").served(object!(
        NetworkSetAutostart,
        |on: i32| on != 0,
        |()| ()
    )),
    c(49, "NETWORK_UNDEFINE", "virNetworkUndefine").served(object!(NetworkUndefine, |()| (), |()| ())),
    c(50, "CONNECT_NUM_OF_DEFINED_NETWORKS", "virConnectNumOfDefinedNetworks").served(connection!(
        ListAllNetworks,
        |()| INACTIVE,
        |found| count(&found)
    )),
    c(52, "CONNECT_NUM_OF_NETWORKS", "virConnectNumOfNetworks").served(connection!(
        ListAllNetworks,
        |()| ACTIVE,
        |found| count(&found)
    )),
    c(152, "NETWORK_IS_ACTIVE", "virNetworkIsActive").served(object!(NetworkIsActive, |()| (), |is| is)),
    c(153, "NETWORK_IS_PERSISTENT", "virNetworkIsPersistent").served(object!(NetworkIsPersistent, |()| (), |is| is)),
    c(283, "CONNECT_LIST_ALL_NETWORKS", "virConnectListAllNetworks").served(list!(ListAllNetworks)),
    c(291, "NETWORK_UPDATE", "virNetworkUpdate").served(object!(NetworkUpdate, edit, |()| ())),
    c(313, "CONNECT_NETWORK_EVENT_REGISTER_ANY", "virConnectNetworkEventRegisterAny")
        .served((Class::Read, session::register_network_event)),
    c(314, "CONNECT_NETWORK_EVENT_DEREGISTER_ANY", "virConnectNetworkEventDeregisterAny")
        .served((Class::Read, session::deregister_network_event)),
    c(341, "NETWORK_GET_DHCP_LEASES", "virNetworkGetDHCPLeases").served(object!(
        NetworkGetDhcpLeases,
        |(mac, _all, flags): (Option<String>, bool, u32)| (mac, flags),
        leases
    )),
    c(404, "NETWORK_LIST_ALL_PORTS", "virNetworkListAllPorts").served((Class::Read, list_all_ports)),
    c(405, "NETWORK_PORT_LOOKUP_BY_UUID", "virNetworkPortLookupByUUID").served((Class::Read, port_lookup)),
    c(406, "NETWORK_PORT_CREATE_XML", "virNetworkPortCreateXML").served((Class::Write, port_create)),
    c(407, "NETWORK_PORT_GET_PARAMETERS", "virNetworkPortGetParameters")
        .served((Class::Read, |at| on_object_params::<NetworkPortGetParameters, _>(at, port_asked))),
    c(408, "NETWORK_PORT_SET_PARAMETERS", "virNetworkPortSetParameters").served(object!(
        NetworkPortSetParameters,
        |(port, params, flags): (Uuid, Params, u32)| NetworkPortParamsArgs { port, params: params.0, flags },
        |()| ()
    )),
    c(409, "NETWORK_PORT_GET_XML_DESC", "virNetworkPortGetXMLDesc").served(object!(
        NetworkPortGetXmlDesc,
        |args: (Uuid, u32)| args,
        |xml| xml
    )),
    c(410, "NETWORK_PORT_DELETE", "virNetworkPortDelete").served(object!(
        NetworkPortDelete,
        |args: (Uuid, u32)| args,
        |()| ()
    )),
    c(432, "NETWORK_DEFINE_XML_FLAGS", "virNetworkDefineXMLFlags").served(connection!(
        NetworkDefineXml,
        |(xml, flags): (String, u32)| XmlFlags { xml, flags },
        |found| found.handle()
    )),
    c(437, "NETWORK_CREATE_XML_FLAGS", "virNetworkCreateXMLFlags").served(connection!(
        NetworkCreateXml,
        |(xml, flags): (String, u32)| XmlFlags { xml, flags },
        |found| found.handle()
    )),
    c(444, "NETWORK_SET_METADATA", "virNetworkSetMetadata").served(object!(
        NetworkSetMetadata,
        |(kind, text, key, uri, flags): (i32, Option<String>, Option<String>, Option<String>, u32)| {
            NetworkSetMetadataArgs { metadata: Metadata { kind, text, key, uri }, flags }
        },
        |()| ()
    )),
    c(445, "NETWORK_GET_METADATA", "virNetworkGetMetadata").served(object!(
        NetworkGetMetadata,
        |(kind, uri, flags): (i32, Option<String>, u32)| NetworkGetMetadataArgs { kind, uri, flags },
        |text| text
    )),
];
