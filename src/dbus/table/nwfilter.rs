//! `org.libvirt.NWFilter`: the members of a network filter.

use super::{Interface, Method, Property, Signal, m, p};

/// libvirt-dbus's interface of a network filter.
pub static INTERFACE: Interface = Interface {
    name: "org.libvirt.NWFilter",
    xml: include_str!("../../../schemas/dbus/org.libvirt.NWFilter.xml"),
    emits_changed: true,
    methods: METHODS,
    properties: PROPERTIES,
    signals: SIGNALS,
};

const PROPERTIES: &[Property] =
    &[p("Name", "s", "virNWFilterGetName").constant(), p("UUID", "s", "virNWFilterGetUUIDString").constant()];

const METHODS: &[Method] =
    &[m("GetXMLDesc", "flags u", "xml s", "virNWFilterGetXMLDesc"), m("Undefine", "", "", "virNWFilterUndefine")];

const SIGNALS: &[Signal] = &[];
