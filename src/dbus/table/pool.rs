//! `org.libvirt.StoragePool`: the members of a storage pool.

use super::{Interface, Method, Property, Signal, m, p, s};
use crate::dbus::call::{Invocation, fact, object, property, set_switch};
use crate::dbus::codec::Path;
use crate::dbus::path::Kind;
use crate::engine::api::{
    BuildStoragePool, CreateFromArgs, CreateStoragePool, CreateStorageVolXml, CreateStorageVolXmlFrom,
    DeleteStoragePool, DestroyStoragePool, GetStoragePoolAutostart, GetStoragePoolInfo, GetStoragePoolXmlDesc,
    LookupStorageVolByName, RefreshStoragePool, SetStoragePoolAutostart, SourceName, StoragePoolIsActive,
    StoragePoolIsPersistent, StoragePoolListAllVolumes, UndefineStoragePool, XmlFlags,
};
use crate::engine::storage::{PoolInfo, StoragePool, StorageVol};

/// The path of a volume.
pub(super) fn volume_path(at: &Invocation, volume: &StorageVol) -> Path {
    at.text_path(Kind::StorageVol, &volume.key)
}

/// The path of a pool.
pub(super) fn pool_path(at: &Invocation, pool: &StoragePool) -> Path {
    at.uuid_path(Kind::StoragePool, pool.uuid())
}

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
    p("Active", "b", "virStoragePoolIsActive").get(|at| property::<StoragePoolIsActive, _>(at, || (), |is| is)),
    p("Autostart", "b", "virStoragePoolGetAutostart")
        .writable("virStoragePoolSetAutostart")
        .get(|at| property::<GetStoragePoolAutostart, _>(at, || (), |is| is))
        .set(set_switch::<SetStoragePoolAutostart>),
    p("Name", "s", "virStoragePoolGetName").constant().get(|at| fact(at, |pool: &StoragePool| pool.name().to_string())),
    p("Persistent", "b", "virStoragePoolIsPersistent")
        .get(|at| property::<StoragePoolIsPersistent, _>(at, || (), |is| is)),
    p("UUID", "s", "virStoragePoolGetUUIDString")
        .constant()
        .get(|at| fact(at, |pool: &StoragePool| pool.uuid().to_string())),
];

const METHODS: &[Method] = &[
    m("Build", "flags u", "", "virStoragePoolBuild").served(object!(
        BuildStoragePool,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("Create", "flags u", "", "virStoragePoolCreate").served(object!(
        CreateStoragePool,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("Delete", "flags u", "", "virStoragePoolDelete").served(object!(
        DeleteStoragePool,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("Destroy", "", "", "virStoragePoolDestroy").served(object!(DestroyStoragePool, |()| Ok(()), |_, ()| ())),
    m("GetInfo", "", "info (ittt)", "virStoragePoolGetInfo").served(object!(
        GetStoragePoolInfo,
        |()| Ok(()),
        |_, PoolInfo { state, usage }| ((state, usage.capacity, usage.allocation, usage.available),)
    )),
    m("GetXMLDesc", "flags u", "xml s", "virStoragePoolGetXMLDesc").served(object!(
        GetStoragePoolXmlDesc,
        |flags: u32| Ok(flags),
        |_, xml| xml
    )),
    m("ListStorageVolumes", "flags u", "storageVols ao", "virStoragePoolListAllVolumes").served(object!(
        StoragePoolListAllVolumes,
        |flags: u32| Ok(flags),
        |at, volumes| volumes.iter().map(|volume| volume_path(at, volume)).collect::<Vec<_>>()
    )),
    m("Refresh", "flags u", "", "virStoragePoolRefresh").served(object!(
        RefreshStoragePool,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("StorageVolCreateXML", "xml s, flags u", "storageVol o", "virStorageVolCreateXML").served(object!(
        CreateStorageVolXml,
        |(xml, flags): (String, u32)| Ok(XmlFlags { xml, flags }),
        |at, volume| volume_path(at, &volume)
    )),
    m("StorageVolCreateXMLFrom", "xml s, key s, flags u", "storageVol o", "virStorageVolCreateXMLFrom").served(
        object!(
            CreateStorageVolXmlFrom,
            |(xml, key, flags): (String, String, u32)| Ok(CreateFromArgs { xml, source: SourceName::Key(key), flags }),
            |at, volume| volume_path(at, &volume)
        ),
    ),
    m("StorageVolLookupByName", "name s", "storageVol o", "virStorageVolLookupByName").served(object!(
        LookupStorageVolByName,
        |name: String| Ok(name),
        |at, volume| volume_path(at, &volume)
    )),
    m("Undefine", "", "", "virStoragePoolUndefine").served(object!(UndefineStoragePool, |()| Ok(()), |_, ()| ())),
];

const SIGNALS: &[Signal] = &[s("Refresh", "")];
