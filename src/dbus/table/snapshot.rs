//! `org.libvirt.DomainSnapshot`: the members of a domain snapshot.

use super::{Interface, Method, Property, Signal, m};

/// libvirt-dbus's interface of a domain snapshot.
pub static INTERFACE: Interface = Interface {
    name: "org.libvirt.DomainSnapshot",
    xml: include_str!("../../../schemas/dbus/org.libvirt.DomainSnapshot.xml"),
    emits_changed: true,
    methods: METHODS,
    properties: PROPERTIES,
    signals: SIGNALS,
};

const PROPERTIES: &[Property] = &[];

const METHODS: &[Method] = &[
    m("Delete", "flags u", "", "virDomainSnapshotDelete"),
    m("GetParent", "flags u", "domainSnapshot o", "virDomainSnapshotGetParent"),
    m("GetXMLDesc", "flags u", "xml s", "virDomainSnapshotGetXMLDesc"),
    m("IsCurrent", "flags u", "domainSnapshot b", "virDomainSnapshotIsCurrent"),
    m("ListChildren", "flags u", "domainSnapshots ao", "virDomainSnapshotListAllChildren"),
    m("Revert", "flags u", "", "virDomainRevertToSnapshot"),
];

const SIGNALS: &[Signal] = &[];
