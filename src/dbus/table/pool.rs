//! `org.libvirt.StoragePool`: the members of a storage pool.

use super::{Interface, Method, Property, Signal, m, p, s};

/// libvirt-dbus's interface of a storage pool.
pub static INTERFACE: Interface = Interface {
    name: "org.libvirt.StoragePool",
    xml: include_str!("../../../schemas/dbus/org.libvirt.StoragePool.xml"),
    emits_changed: false,
    methods: METHODS,
    properties: PROPERTIES,
    signals: SIGNALS,
};

const PROPERTIES: &[Property] = &[
    p("Active", "b", "virStoragePoolIsActive"),
    p("Autostart", "b", "virStoragePoolGetAutostart").writable("virStoragePoolSetAutostart"),
    p("Name", "s", "virStoragePoolGetName").constant(),
    p("Persistent", "b", "virStoragePoolIsPersistent"),
    p("UUID", "s", "virStoragePoolGetUUIDString").constant(),
];

const METHODS: &[Method] = &[
    m("Build", "flags u", "", "virStoragePoolBuild"),
    m("Create", "flags u", "", "virStoragePoolCreate"),
    m("Delete", "flags u", "", "virStoragePoolDelete"),
    m("Destroy", "", "", "virStoragePoolDestroy"),
    m("GetInfo", "", "info (ittt)", "virStoragePoolGetInfo"),
    m("GetXMLDesc", "flags u", "xml s", "virStoragePoolGetXMLDesc"),
    m("ListStorageVolumes", "flags u", "storageVols ao", "virStoragePoolListAllVolumes"),
    m("Refresh", "flags u", "", "virStoragePoolRefresh"),
    m("StorageVolCreateXML", "xml s, flags u", "storageVol o", "virStorageVolCreateXML"),
    m("StorageVolCreateXMLFrom", "xml s, key s, flags u", "storageVol o", "virStorageVolCreateXMLFrom"),
    m("StorageVolLookupByName", "name s", "storageVol o", "virStorageVolLookupByName"),
    m("Undefine", "", "", "virStoragePoolUndefine"),
];

const SIGNALS: &[Signal] = &[s("Refresh", "")];
