//! `org.libvirt.NWFilter`: the members of a network filter.

use super::{Interface, Method, Property, Signal, m, p};
use crate::dbus::call::{fact, object};
use crate::engine::api::{NwFilterGetXmlDesc, NwFilterUndefine};
use crate::engine::nwfilter::NwFilter;

/// libvirt-dbus's interface of a network filter.
pub static INTERFACE: Interface = Interface {
    name: "org.libvirt.NWFilter",
    xml: include_str!("../../../schemas/dbus/org.libvirt.NWFilter.xml"),
    emits_changed: true,
    methods: METHODS,
    properties: PROPERTIES,
    signals: SIGNALS,
};

const PROPERTIES: &[Property] = &[
    p("Name", "s", "virNWFilterGetName").constant().get(|at| fact(at, |filter: &NwFilter| filter.name().to_string())),
    p("UUID", "s", "virNWFilterGetUUIDString")
        .constant()
        .get(|at| fact(at, |filter: &NwFilter| filter.uuid().to_string())),
];

const METHODS: &[Method] = &[
    m("GetXMLDesc", "flags u", "xml s", "virNWFilterGetXMLDesc").served(object!(
        NwFilterGetXmlDesc,
        |flags: u32| Ok(flags),
        |_, xml| xml
    )),
    m("Undefine", "", "", "virNWFilterUndefine").served(object!(NwFilterUndefine, |()| Ok(()), |_, ()| ())),
];

const SIGNALS: &[Signal] = &[];
