//! `org.libvirt.NodeDevice`: the members of a node device.

use super::{Interface, Method, Property, Signal, m, p};
use crate::dbus::call::{fact, object, property};
use crate::engine::api::{NodeDeviceDestroy, NodeDeviceGetParent, NodeDeviceGetXmlDesc, NodeDeviceListCaps};
use crate::engine::node_device::NodeDevice;

/// libvirt-dbus's interface of a node device.
pub static INTERFACE: Interface = Interface {
    name: "org.libvirt.NodeDevice",
    xml: include_str!("../../../schemas/dbus/org.libvirt.NodeDevice.xml"),
    emits_changed: true,
    methods: METHODS,
    properties: PROPERTIES,
    signals: SIGNALS,
};

const PROPERTIES: &[Property] = &[
    p("Name", "s", "virNodeDeviceGetName").constant().get(|at| fact(at, |device: &NodeDevice| device.name.clone())),
    // "" where libvirt has NULL.
    p("Parent", "s", "virNodeDeviceGetParent")
        .constant()
        .get(|at| property::<NodeDeviceGetParent, _>(at, || (), Option::unwrap_or_default)),
];

const METHODS: &[Method] = &[
    m("Destroy", "", "", "virNodeDeviceDestroy").served(object!(NodeDeviceDestroy, |()| Ok(()), |_, ()| ())),
    m("Detach", "driverName s, flags u", "", "virNodeDeviceDetachFlags"),
    m("GetXMLDesc", "flags u", "xml s", "virNodeDeviceGetXMLDesc").served(object!(
        NodeDeviceGetXmlDesc,
        |flags: u32| Ok(flags),
        |_, xml| xml
    )),
    m("ListCaps", "", "names as", "virNodeDeviceListCaps").served(object!(
        NodeDeviceListCaps,
        |()| Ok(()),
        |_, caps| caps
    )),
    m("ReAttach", "", "", "virNodeDeviceReAttach"),
    m("Reset", "", "", "virNodeDeviceReset"),
];

const SIGNALS: &[Signal] = &[];
