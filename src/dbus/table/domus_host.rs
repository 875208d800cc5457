//! `org.domus.*1` beside libvirt-dbus's interfaces of networks, node devices and secrets: what those have no place for.

use super::{Interface, Method, Signal, m, s};
use crate::dbus::call::object;
use crate::engine::api::{
    NetworkGetMetadata, NetworkGetMetadataArgs, NetworkListAllPorts, NetworkPortGetXmlDesc, NetworkSetMetadata,
    NetworkSetMetadataArgs,
};
use crate::engine::network::define::Metadata;
use crate::error::Error;
use crate::types::Uuid;

/// Beside `org.libvirt.Network` on every network.
pub static NETWORK: Interface = Interface {
    name: "org.domus.Network1",
    xml: include_str!("../../../schemas/dbus/org.domus.Network1.xml"),
    emits_changed: false,
    methods: NETWORK_METHODS,
    properties: &[],
    signals: NETWORK_SIGNALS,
};

const NETWORK_METHODS: &[Method] = &[
    m("GetMetadata", "type i, uri s, flags u", "metadata s", "virNetworkGetMetadata").served(object!(
        NetworkGetMetadata,
        |(kind, uri, flags): (i32, String, u32)| Ok(NetworkGetMetadataArgs { kind, uri: given(uri), flags }),
        |_, text| text
    )),
    m("GetPortXMLDesc", "port s, flags u", "xml s", "virNetworkPortGetXMLDesc").served(object!(
        NetworkPortGetXmlDesc,
        |(port, flags): (String, u32)| {
            let port = Uuid::try_parse(&port).map_err(|_| Error::bare_arg(format!("'{port}' is not a UUID")))?;
            Ok((port, flags))
        },
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
];

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
    properties: &[],
    signals: NODE_DEVICE_SIGNALS,
};

const NODE_DEVICE_METHODS: &[Method] = &[];

const NODE_DEVICE_SIGNALS: &[Signal] = &[s("Updated", "")];

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
