//! `org.libvirt.StorageVol`: the members of a storage volume.

use super::{Interface, Method, Property, Signal, m, p};
use crate::dbus::call::{fact, object, property};
use crate::engine::api::{
    DeleteStorageVol, GetStorageVolInfoFlags, GetStorageVolPath, GetStorageVolXmlDesc, ResizeStorageVol,
    VolumeResizeArgs, WipeStorageVolPattern,
};
use crate::engine::storage::StorageVol;

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
    p("Name", "s", "virStorageVolGetName").constant().get(|at| fact(at, |volume: &StorageVol| volume.name.clone())),
    p("Key", "s", "virStorageVolGetKey").constant().get(|at| fact(at, |volume: &StorageVol| volume.key.clone())),
    p("Path", "s", "virStorageVolGetPath")
        .constant()
        .get(|at| property::<GetStorageVolPath, _>(at, || (), |path| path)),
];

const METHODS: &[Method] = &[
    m("Delete", "flags u", "", "virStorageVolDelete").served(object!(
        DeleteStorageVol,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("GetInfo", "flags u", "info (itt)", "virStorageVolGetInfoFlags").served(object!(
        GetStorageVolInfoFlags,
        |flags: u32| Ok(flags),
        |_, info| ((info.kind, info.capacity, info.allocation),)
    )),
    m("GetXMLDesc", "flags u", "xml s", "virStorageVolGetXMLDesc").served(object!(
        GetStorageVolXmlDesc,
        |flags: u32| Ok(flags),
        |_, xml| xml
    )),
    m("Resize", "capacity t, flags u", "", "virStorageVolResize").served(object!(
        ResizeStorageVol,
        |(capacity, flags): (u64, u32)| Ok(VolumeResizeArgs { capacity, flags }),
        |_, ()| ()
    )),
    m("Wipe", "pattern u, flags u", "", "virStorageVolWipePattern").served(object!(
        WipeStorageVolPattern,
        |args: (u32, u32)| Ok(args),
        |_, ()| ()
    )),
];

const SIGNALS: &[Signal] = &[];
