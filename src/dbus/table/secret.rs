//! `org.libvirt.Secret`: the members of a secret.

use super::{Interface, Method, Property, Signal, m, p};

/// libvirt-dbus's interface of a secret.
pub static INTERFACE: Interface = Interface {
    name: "org.libvirt.Secret",
    xml: include_str!("../../../schemas/dbus/org.libvirt.Secret.xml"),
    emits_changed: true,
    methods: METHODS,
    properties: PROPERTIES,
    signals: SIGNALS,
};

const PROPERTIES: &[Property] = &[
    p("UUID", "s", "virSecretGetUUIDString").constant(),
    p("UsageID", "s", "virSecretGetUsageID").constant(),
    p("UsageType", "i", "virSecretGetUsageType").constant(),
];

const METHODS: &[Method] = &[
    m("GetValue", "flags u", "value ay", "virSecretGetValue"),
    m("GetXMLDesc", "flags u", "xml s", "virSecretGetXMLDesc"),
    m("SetValue", "value ay, flags u", "", "virSecretSetValue"),
    m("Undefine", "", "", "virSecretUndefine"),
];

const SIGNALS: &[Signal] = &[];
