//! `org.domus.*1` beside libvirt-dbus's interfaces of networks, node devices and secrets: what those have no place for.

use super::{Interface, Method, Property, Signal, p, s};
use crate::dbus::call::property;
use crate::engine::api::{NodeDeviceGetAutostart, NodeDeviceIsActive, NodeDeviceIsPersistent};

/// Beside `org.libvirt.Network` on every network.
pub static NETWORK: Interface = Interface {
    name: "org.domus.Network1",
    xml: include_str!("../../../schemas/dbus/org.domus.Network1.xml"),
    emits_changed: false,
    methods: NETWORK_METHODS,
    properties: &[],
    signals: NETWORK_SIGNALS,
};

const NETWORK_METHODS: &[Method] = &[];

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
