//! `org.libvirt.Interface`: the members of a host interface.

use super::{Interface, Method, Property, Signal, m, p};
use crate::dbus::call::{object, property};
use crate::engine::api::{
    InterfaceCreate, InterfaceDestroy, InterfaceGetMac, InterfaceGetName, InterfaceGetXmlDesc, InterfaceIsActive,
    InterfaceUndefine,
};

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
    p("Active", "b", "virInterfaceIsActive").get(|at| property::<InterfaceIsActive, _>(at, || (), |active| active)),
    p("MAC", "s", "virInterfaceGetMACString").constant().get(|at| property::<InterfaceGetMac, _>(at, || (), |mac| mac)),
    p("Name", "s", "virInterfaceGetName").constant().get(|at| property::<InterfaceGetName, _>(at, || (), |name| name)),
];

const METHODS: &[Method] = &[
    m("Create", "flags u", "", "virInterfaceCreate").served(object!(
        InterfaceCreate,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("Destroy", "flags u", "", "virInterfaceDestroy").served(object!(
        InterfaceDestroy,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("GetXMLDesc", "flags u", "xml s", "virInterfaceGetXMLDesc").served(object!(
        InterfaceGetXmlDesc,
        |flags: u32| Ok(flags),
        |_, xml| xml
    )),
    m("Undefine", "", "", "virInterfaceUndefine").served(object!(InterfaceUndefine, |()| Ok(()), |_, ()| ())),
];

const SIGNALS: &[Signal] = &[];
