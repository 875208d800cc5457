//! `org.libvirt.StorageVol`: the members of a storage volume.

use super::{Interface, Method, Property, Signal, m, p};

/// libvirt-dbus's interface of a storage volume.
pub static INTERFACE: Interface = Interface {
    name: "org.libvirt.StorageVol",
    xml: include_str!("../../../schemas/dbus/org.libvirt.StorageVol.xml"),
    emits_changed: true,
    methods: METHODS,
    properties: PROPERTIES,
    signals: SIGNALS,
};

const PROPERTIES: &[Property] = &[
    p("Name", "s", "virStorageVolGetName").constant(),
    p("Key", "s", "virStorageVolGetKey").constant(),
    p("Path", "s", "virStorageVolGetPath").constant(),
];

const METHODS: &[Method] = &[
    m("Delete", "flags u", "", "virStorageVolDelete"),
    m("GetInfo", "flags u", "info (itt)", "virStorageVolGetInfoFlags"),
    m("GetXMLDesc", "flags u", "xml s", "virStorageVolGetXMLDesc"),
    m("Resize", "capacity t, flags u", "", "virStorageVolResize"),
    m("Wipe", "pattern u, flags u", "", "virStorageVolWipePattern"),
];

const SIGNALS: &[Signal] = &[];
