//! `org.libvirt.Interface`: the members of a host interface.

use super::{Interface, Method, Property, Signal, m, p};

/// libvirt-dbus's interface of a host interface.
pub static INTERFACE: Interface = Interface {
    name: "org.libvirt.Interface",
    xml: include_str!("../../../schemas/dbus/org.libvirt.Interface.xml"),
    emits_changed: false,
    methods: METHODS,
    properties: PROPERTIES,
    signals: SIGNALS,
};

const PROPERTIES: &[Property] = &[
    p("Active", "b", "virInterfaceIsActive"),
    p("MAC", "s", "virInterfaceGetMACString").constant(),
    p("Name", "s", "virInterfaceGetName").constant(),
];

const METHODS: &[Method] = &[
    m("Create", "flags u", "", "virInterfaceCreate"),
    m("Destroy", "flags u", "", "virInterfaceDestroy"),
    m("GetXMLDesc", "flags u", "xml s", "virInterfaceGetXMLDesc"),
    m("Undefine", "", "", "virInterfaceUndefine"),
];

const SIGNALS: &[Signal] = &[];
