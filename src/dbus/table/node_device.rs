//! `org.libvirt.NodeDevice`: the members of a node device.

use super::{Interface, Method, Property, Signal, m, p};

/// libvirt-dbus's interface of a node device.
pub static INTERFACE: Interface = Interface {
    name: "org.libvirt.NodeDevice",
    xml: include_str!("../../../schemas/dbus/org.libvirt.NodeDevice.xml"),
    emits_changed: true,
    methods: METHODS,
    properties: PROPERTIES,
    signals: SIGNALS,
};

const PROPERTIES: &[Property] =
    &[p("Name", "s", "virNodeDeviceGetName").constant(), p("Parent", "s", "virNodeDeviceGetParent").constant()];

const METHODS: &[Method] = &[
    m("Destroy", "", "", "virNodeDeviceDestroy"),
    m("Detach", "driverName s, flags u", "", "virNodeDeviceDetachFlags"),
    m("GetXMLDesc", "flags u", "xml s", "virNodeDeviceGetXMLDesc"),
    m("ListCaps", "", "names as", "virNodeDeviceListCaps"),
    m("ReAttach", "", "", "virNodeDeviceReAttach"),
    m("Reset", "", "", "virNodeDeviceReset"),
];

const SIGNALS: &[Signal] = &[];
