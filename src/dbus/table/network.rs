//! `org.libvirt.Network`: the members of a network.

use super::{Interface, Method, Property, Signal, m, p};

/// libvirt-dbus's interface of a network.
pub static INTERFACE: Interface = Interface {
    name: "org.libvirt.Network",
    xml: include_str!("../../../schemas/dbus/org.libvirt.Network.xml"),
    emits_changed: false,
    methods: METHODS,
    properties: PROPERTIES,
    signals: SIGNALS,
};

const PROPERTIES: &[Property] = &[
    p("Active", "b", "virNetworkIsActive"),
    p("Autostart", "b", "virNetworkGetAutostart").writable("virNetworkSetAutostart"),
    p("Name", "s", "virNetworkGetName").constant(),
    p("Persistent", "b", "virNetworkIsPersistent"),
    p("UUID", "s", "virNetworkGetUUIDString").constant(),
];

const METHODS: &[Method] = &[
    m("Create", "", "", "virNetworkCreate"),
    m("Destroy", "", "", "virNetworkDestroy"),
    m("GetDHCPLeases", "mac s, flags u", "leases a(sxisssuss)", "virNetworkGetDHCPLeases"),
    m("GetXMLDesc", "flags u", "xml s", "virNetworkGetXMLDesc"),
    m("Undefine", "", "", "virNetworkUndefine"),
    m("Update", "command u, section u, parentIndex i, xml s, flags u", "", "virNetworkUpdate"),
];

const SIGNALS: &[Signal] = &[];
