//! Procedures of secrets.

use super::{Procedure, c};
use crate::engine::api::{
    Class, ListAllSecrets, SecretDefineXml, SecretGetValue, SecretGetXmlDesc, SecretLookupByUsage, SecretLookupByUuid,
    SecretSetValue, SecretUndefine, SecretValueArgs, XmlFlags,
};
use crate::engine::secret::Secret;
use crate::rpc::call::{connection, list, object};
use crate::rpc::session;
use crate::rpc::wire::Remote;
use crate::rpc::xdr::Opaque;
use crate::types::Uuid;

fn count(secrets: &[Secret]) -> i32 {
    i32::try_from(secrets.len()).unwrap_or(i32::MAX)
}

fn uuids(secrets: &[Secret]) -> Vec<String> {
    secrets.iter().map(|secret| secret.uuid().to_string()).collect()
}

pub(super) const SECRET: &[Procedure] = &[
    c(139, "CONNECT_NUM_OF_SECRETS", "virConnectNumOfSecrets")
        .served(connection!(ListAllSecrets, |()| 0, |secrets| count(&secrets))),
    c(140, "CONNECT_LIST_SECRETS", "virConnectListSecrets").served(connection!(
        ListAllSecrets,
        |_most: i32| 0,
        |secrets| uuids(&secrets)
    )),
    c(141, "SECRET_LOOKUP_BY_UUID", "virSecretLookupByUUID").served(connection!(
        SecretLookupByUuid,
        |uuid: Uuid| uuid,
        |secret| secret.handle()
    )),
    c(142, "SECRET_DEFINE_XML", "virSecretDefineXML").served(connection!(
        SecretDefineXml,
        |(xml, flags): (String, u32)| XmlFlags { xml, flags },
        |secret| secret.handle()
    )),
    c(143, "SECRET_GET_XML_DESC", "virSecretGetXMLDesc")
        .served(object!(SecretGetXmlDesc, |flags: u32| flags, |xml| xml)),
    c(144, "SECRET_SET_VALUE", "virSecretSetValue").served(object!(
        SecretSetValue,
        |(value, flags): (Opaque, u32)| SecretValueArgs::new(value.0, flags),
        |()| ()
    )),
    c(145, "SECRET_GET_VALUE", "virSecretGetValue").served(object!(
        SecretGetValue,
        |flags: u32| flags,
        |value| Opaque(value.bytes().to_vec())
    )),
    c(146, "SECRET_UNDEFINE", "virSecretUndefine").served(object!(SecretUndefine, |()| (), |()| ())),
    c(147, "SECRET_LOOKUP_BY_USAGE", "virSecretLookupByUsage").served(connection!(
        SecretLookupByUsage,
        |args: (i32, String)| args,
        |secret| secret.handle()
    )),
    c(287, "CONNECT_LIST_ALL_SECRETS", "virConnectListAllSecrets").served(list!(ListAllSecrets)),
    c(380, "CONNECT_SECRET_EVENT_REGISTER_ANY", "virConnectSecretEventRegisterAny")
        .served((Class::Read, session::register_secret_event)),
    c(381, "CONNECT_SECRET_EVENT_DEREGISTER_ANY", "virConnectSecretEventDeregisterAny")
        .served((Class::Read, session::deregister_secret_event)),
];
