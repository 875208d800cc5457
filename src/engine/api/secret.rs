//! Secrets.

use super::{XmlFlags, call, check_host_flags};
use crate::engine::Connection;
use crate::engine::host::HostObjects;
use crate::engine::objects::definition;
use crate::engine::secret::{Secret, SecretKind};
use crate::error::{Code, Error, Result, Subsystem};
use crate::secret::{SecretDef, Value, list};
use crate::types::{Uuid, flags};
use std::sync::Arc;

/// A value with flags. Its bytes are wiped when they were not taken.
#[derive(Debug)]
pub struct SecretValueArgs {
    pub value: Result<Value>,
    pub flags: u32,
}

impl SecretValueArgs {
    /// The value as it came from a client.
    pub fn new(bytes: Vec<u8>, flags: u32) -> Self {
        SecretValueArgs { value: Value::new(bytes), flags }
    }
}

fn host(secret: &Secret) -> Result<Arc<HostObjects>> {
    secret.context().host().ok_or_else(|| Error::internal("the daemon is going down"))
}

call! {
    /// All secrets that match `virConnectListAllSecretsFlags`.
    ListAllSecrets = "virConnectListAllSecrets", Read, "connect:search_secrets" only "secret:getattr";
    (caller, on: Connection, flags => u32) -> Vec<Secret> {
        check_host_flags(flags, list::ALL, "virConnectListAllSecrets")?;
        let matches = |secret: &Secret| secret.state().def().is_some_and(|def| def.matches(flags));
        caller.permit::<Self>().visible(on.host().secrets.all().into_iter().filter(matches).collect()).await
    }
}

call! {
    /// Defines a secret or replaces its definition (`virSecretDefineFlags`).
    SecretDefineXml = "virSecretDefineXML", Write, "secret:write", "secret:save";
    (caller, on: Connection, XmlFlags { xml, flags } => XmlFlags) -> Secret {
        check_host_flags(flags, flags::define::VALIDATE, "virSecretDefineXML")?;
        if flags & flags::define::VALIDATE != 0 {
            SecretDef::validate(&xml)?;
        }
        let def = SecretDef::parse(&xml)?;
        caller.permit::<Self>().on_new("secret", || Ok(definition::<SecretKind>(&def))).await?;
        on.host().define_secret(def).await
    }
}

call! {
    /// By UUID.
    SecretLookupByUuid = "virSecretLookupByUUID", Read, "secret:getattr";
    (caller, on: Connection, uuid => Uuid) -> Secret {
        caller.permit::<Self>().found(on.host().secrets.by_uuid(uuid)?).await
    }
}

call! {
    /// By `virSecretUsageType` and what it is for.
    SecretLookupByUsage = "virSecretLookupByUsage", Read, "secret:getattr";
    (caller, on: Connection, (kind, id) => (i32, String)) -> Secret {
        caller.permit::<Self>().found(on.host().secret_by_usage(kind, &id)?).await
    }
}

call! {
    /// The definition.
    SecretGetXmlDesc = "virSecretGetXMLDesc", Read, "secret:read";
    (caller, on: Secret, flags => u32) -> String {
        check_host_flags(flags, 0, "virSecretGetXMLDesc")?;
        Ok(on.def()?.to_xml())
    }
}

call! {
    /// The value, for a client. Errors: code 65 for a private secret, 66 when it has none.
    SecretGetValue = "virSecretGetValue", Write, "secret:read_secure";
    (caller, on: Secret, flags => u32) -> Arc<Value> {
        check_host_flags(flags, 0, "virSecretGetValue")?;
        if on.def()?.private {
            return Err(Error::new(Code::InvalidSecret, "secret is private").with_subsystem(Subsystem::Secret));
        }
        host(on)?.secret_value(on)
    }
}

call! {
    /// Gives it a value.
    SecretSetValue = "virSecretSetValue", Write, "secret:write";
    (caller, on: Secret, SecretValueArgs { value, flags } => SecretValueArgs) -> () {
        check_host_flags(flags, 0, "virSecretSetValue")?;
        host(on)?.set_secret_value(on, value?).await
    }
}

call! {
    /// Forgets it.
    SecretUndefine = "virSecretUndefine", Write, "secret:delete";
    (caller, on: Secret, () => ()) -> () { host(on)?.undefine_secret(on).await }
}
