//! `org.domus.*1` beside libvirt-dbus's interfaces of networks, node devices and secrets: what those have no place for.

use std::collections::HashMap;

use zbus::OwnedVariant;

use super::{Interface, Method, Property, Signal, m, p, s};
use crate::dbus::call::{object, property};
use crate::dbus::codec::{self, Params};
use crate::dbus::fault::Fault;
use crate::dbus::managed::Object;
use crate::engine::api::{
    NetworkGetMetadata, NetworkGetMetadataArgs, NetworkListAllPorts, NetworkPortCreateXml, NetworkPortDelete,
    NetworkPortGetParameters, NetworkPortGetXmlDesc, NetworkPortParamsArgs, NetworkPortSetParameters,
    NetworkSetMetadata, NetworkSetMetadataArgs, NodeDeviceGetAutostart, NodeDeviceIsActive, NodeDeviceIsPersistent,
    XmlFlags,
};
use crate::engine::network::Network;
use crate::engine::network::define::Metadata;
use crate::engine::storage::StoragePool;
use crate::error::Error;
use crate::types::{TypedParams, Uuid};
use zbus::Variant;

/// Beside `org.libvirt.Network` on every network.
pub static NETWORK: Interface = Interface {
    name: "org.domus.Network1",
    xml: include_str!("../../../schemas/dbus/org.domus.Network1.xml"),
    emits_changed: true,
    methods: NETWORK_METHODS,
    properties: NETWORK_PROPERTIES,
    signals: NETWORK_SIGNALS,
};

fn network<V: Into<Variant<'static>>>(object: &Object, read: fn(&Network) -> V) -> Option<Variant<'static>> {
    match object {
        Object::Network(network) => Some(read(network).into()),
        _ => None,
    }
}

fn bridge(network: &Network) -> String {
    network.state().def().and_then(|def| def.bridge_name()).unwrap_or_default().to_string()
}

const NETWORK_PROPERTIES: &[Property] = &[
    p("Active", "b", "virNetworkIsActive").live(|at| network(at, |network| network.state().active())),
    p("Bridge", "s", "virNetworkGetBridgeName").live(|at| network(at, bridge)),
    p("Name", "s", "virNetworkGetName").live(|at| network(at, |network| network.name().to_string())),
    p("Persistent", "b", "virNetworkIsPersistent").live(|at| network(at, |network| network.state().persistent())),
];

const NETWORK_METHODS: &[Method] = &[
    m("CreatePortXML", "xml s, flags u", "port s", "virNetworkPortCreateXML").served(object!(
        NetworkPortCreateXml,
        |(xml, flags): (String, u32)| Ok(XmlFlags { xml, flags }),
        |_, port| port.to_string()
    )),
    m("DeletePort", "port s, flags u", "", "virNetworkPortDelete").served(object!(
        NetworkPortDelete,
        |(port, flags): (String, u32)| Ok((port_uuid(&port)?, flags)),
        |_, ()| ()
    )),
    m("GetMetadata", "type i, uri s, flags u", "metadata s", "virNetworkGetMetadata").served(object!(
        NetworkGetMetadata,
        |(kind, uri, flags): (i32, String, u32)| Ok(NetworkGetMetadataArgs { kind, uri: given(uri), flags }),
        |_, text| text
    )),
    m("GetPortParameters", "port s, flags u", "portParameters a{sv}", "virNetworkPortGetParameters").served(object!(
        NetworkPortGetParameters,
        |(port, flags): (String, u32)| {
            Ok(NetworkPortParamsArgs { port: port_uuid(&port)?, params: TypedParams::new(), flags })
        },
        |_, params| (Params(params),)
    )),
    m("GetPortXMLDesc", "port s, flags u", "xml s", "virNetworkPortGetXMLDesc").served(object!(
        NetworkPortGetXmlDesc,
        |(port, flags): (String, u32)| Ok((port_uuid(&port)?, flags)),
        |_, xml| xml
    )),
    m("ListPorts", "flags u", "ports as", "virNetworkListAllPorts").served(object!(
        NetworkListAllPorts,
        |flags: u32| Ok(flags),
        |_, ports| ports.iter().map(Uuid::to_string).collect::<Vec<_>>()
    )),
    m("SetMetadata", "type i, metadata s, key s, uri s, flags u", "", "virNetworkSetMetadata").served(object!(
        NetworkSetMetadata,
        |(kind, text, key, uri, flags): (i32, String, String, String, u32)| {
            let metadata = Metadata { kind, text: given(text), key: given(key), uri: given(uri) };
            Ok(NetworkSetMetadataArgs { metadata, flags })
        },
        |_, ()| ()
    )),
    m("SetPortParameters", "port s, params a{sv}, flags u", "", "virNetworkPortSetParameters").served(object!(
        NetworkPortSetParameters,
        |(port, given, flags): (String, HashMap<String, OwnedVariant>, u32)| {
            Ok(NetworkPortParamsArgs { port: port_uuid(&port)?, params: codec::params(given)?, flags })
        },
        |_, ()| ()
    )),
];

fn port_uuid(text: &str) -> Result<Uuid, Fault> {
    Ok(Uuid::try_parse(text).map_err(|_| Error::bare_arg(format!("'{text}' is not a UUID")))?)
}

/// D-Bus has no NULL: an empty text is one.
fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

const NETWORK_SIGNALS: &[Signal] = &[s("MetadataChange", "type i, nsuri s")];

/// Beside `org.libvirt.NodeDevice` on every node device.
pub static NODE_DEVICE: Interface = Interface {
    name: "org.domus.NodeDevice1",
    xml: include_str!("../../../schemas/dbus/org.domus.NodeDevice1.xml"),
    emits_changed: false,
    methods: NODE_DEVICE_METHODS,
    properties: NODE_DEVICE_PROPERTIES,
    signals: NODE_DEVICE_SIGNALS,
};

const NODE_DEVICE_PROPERTIES: &[Property] = &[
    p("Active", "b", "virNodeDeviceIsActive").get(|at| property::<NodeDeviceIsActive, _>(at, || (), |is| is)),
    p("Autostart", "b", "virNodeDeviceGetAutostart")
        .get(|at| property::<NodeDeviceGetAutostart, _>(at, || (), |is| is)),
    p("Persistent", "b", "virNodeDeviceIsPersistent")
        .get(|at| property::<NodeDeviceIsPersistent, _>(at, || (), |is| is)),
];

const NODE_DEVICE_METHODS: &[Method] = &[];

const NODE_DEVICE_SIGNALS: &[Signal] = &[s("Updated", "")];

/// Beside `org.libvirt.StoragePool` on every storage pool.
pub static STORAGE_POOL: Interface = Interface {
    name: "org.domus.StoragePool1",
    xml: include_str!("../../../schemas/dbus/org.domus.StoragePool1.xml"),
    emits_changed: true,
    methods: STORAGE_POOL_METHODS,
    properties: STORAGE_POOL_PROPERTIES,
    signals: &[],
};

const STORAGE_POOL_METHODS: &[Method] = &[];

fn pool<V: Into<Variant<'static>>>(object: &Object, read: fn(&StoragePool) -> V) -> Option<Variant<'static>> {
    match object {
        Object::StoragePool(pool) => Some(read(pool).into()),
        _ => None,
    }
}

const STORAGE_POOL_PROPERTIES: &[Property] = &[
    p("Active", "b", "virStoragePoolIsActive").live(|at| pool(at, |pool| pool.state().active())),
    p("Allocation", "t", "virStoragePoolGetInfo").live(|at| pool(at, |pool| pool.info().usage.allocation)),
    p("Available", "t", "virStoragePoolGetInfo").live(|at| pool(at, |pool| pool.info().usage.available)),
    p("Capacity", "t", "virStoragePoolGetInfo").live(|at| pool(at, |pool| pool.info().usage.capacity)),
    p("Name", "s", "virStoragePoolGetName").live(|at| pool(at, |pool| pool.name().to_string())),
    p("Persistent", "b", "virStoragePoolIsPersistent").live(|at| pool(at, |pool| pool.state().persistent())),
];

/// Beside `org.libvirt.Secret` on every secret.
pub static SECRET: Interface = Interface {
    name: "org.domus.Secret1",
    xml: include_str!("../../../schemas/dbus/org.domus.Secret1.xml"),
    emits_changed: false,
    methods: SECRET_METHODS,
    properties: &[],
    signals: SECRET_SIGNALS,
};

const SECRET_METHODS: &[Method] = &[];

const SECRET_SIGNALS: &[Signal] = &[s("ValueChanged", "")];
