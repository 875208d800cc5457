//! `org.libvirt.Secret`: the members of a secret.

use super::{Interface, Method, Property, Signal, m, p};
use crate::dbus::call::{fact, object};
use crate::engine::api::{SecretGetValue, SecretGetXmlDesc, SecretSetValue, SecretUndefine, SecretValueArgs};
use crate::engine::secret::Secret;

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
    p("UUID", "s", "virSecretGetUUIDString").constant().get(|at| fact(at, |secret: &Secret| secret.uuid().to_string())),
    p("UsageID", "s", "virSecretGetUsageID").constant().get(|at| fact(at, |secret: &Secret| secret.id().usage_id)),
    p("UsageType", "i", "virSecretGetUsageType")
        .constant()
        .get(|at| fact(at, |secret: &Secret| secret.id().usage_type)),
];

const METHODS: &[Method] = &[
    m("GetValue", "flags u", "value ay", "virSecretGetValue").served(object!(
        SecretGetValue,
        |flags: u32| Ok(flags),
        |_, value| value.bytes().to_vec()
    )),
    m("GetXMLDesc", "flags u", "xml s", "virSecretGetXMLDesc").served(object!(
        SecretGetXmlDesc,
        |flags: u32| Ok(flags),
        |_, xml| xml
    )),
    m("SetValue", "value ay, flags u", "", "virSecretSetValue").served(object!(
        SecretSetValue,
        |(value, flags): (Vec<u8>, u32)| Ok(SecretValueArgs::new(value, flags)),
        |_, ()| ()
    )),
    m("Undefine", "", "", "virSecretUndefine").served(object!(SecretUndefine, |()| Ok(()), |_, ()| ())),
];

const SIGNALS: &[Signal] = &[];
