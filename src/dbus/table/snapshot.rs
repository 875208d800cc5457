//! `org.libvirt.DomainSnapshot`: the members of a domain snapshot.

use super::{Interface, Method, Property, Signal, m};
use crate::dbus::call::{Invocation, object};
use crate::dbus::codec::Path;
use crate::dbus::path::{self, Kind};
use crate::engine::api::{
    RevertToSnapshot, SnapshotDelete, SnapshotGetParent, SnapshotGetXmlDesc, SnapshotIsCurrent, SnapshotListAllChildren,
};
use crate::engine::domain::DomainSnapshot;

/// libvirt-dbus's interface of a domain snapshot.
pub static INTERFACE: Interface = Interface {
    name: "org.libvirt.DomainSnapshot",
    xml: include_str!("../../../schemas/dbus/org.libvirt.DomainSnapshot.xml"),
    emits_changed: true,
    methods: METHODS,
    properties: PROPERTIES,
    signals: SIGNALS,
};

/// The path of a snapshot below the root that was called.
pub(super) fn snapshot_path(at: &Invocation, snapshot: &DomainSnapshot) -> Path {
    at.path(Kind::DomainSnapshot, &path::snapshot_key(&snapshot.domain.uuid(), &snapshot.name))
}

pub(super) fn snapshot_paths(at: &Invocation, snapshots: &[DomainSnapshot]) -> Vec<Path> {
    snapshots.iter().map(|snapshot| snapshot_path(at, snapshot)).collect()
}

const PROPERTIES: &[Property] = &[];

const METHODS: &[Method] = &[
    m("Delete", "flags u", "", "virDomainSnapshotDelete").served(object!(
        SnapshotDelete,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("GetParent", "flags u", "domainSnapshot o", "virDomainSnapshotGetParent").served(object!(
        SnapshotGetParent,
        |flags: u32| Ok(flags),
        |at, parent| snapshot_path(at, &parent)
    )),
    m("GetXMLDesc", "flags u", "xml s", "virDomainSnapshotGetXMLDesc").served(object!(
        SnapshotGetXmlDesc,
        |flags: u32| Ok(flags),
        |_, xml| xml
    )),
    m("IsCurrent", "flags u", "domainSnapshot b", "virDomainSnapshotIsCurrent").served(object!(
        SnapshotIsCurrent,
        |flags: u32| Ok(flags),
        |_, is| is
    )),
    m("ListChildren", "flags u", "domainSnapshots ao", "virDomainSnapshotListAllChildren").served(object!(
        SnapshotListAllChildren,
        |flags: u32| Ok(flags),
        |at, children| snapshot_paths(at, &children)
    )),
    m("Revert", "flags u", "", "virDomainRevertToSnapshot").served(object!(
        RevertToSnapshot,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
];

const SIGNALS: &[Signal] = &[];
