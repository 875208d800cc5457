//! The secrets of the host and their values.
//!
//! ```text
//! define:   definition on disk ─> visible ─> event         value: kept, unless the secret was ephemeral or becomes it
//! set:      value on disk (not of ephemeral ones) ─> in memory ─> event
//! undefine: definition off the disk ─> gone ─> value off the disk ─> event
//! ```
//!
//! The definition decides: a value whose definition is not on disk is removed when the daemon starts, so a daemon that is
//! killed between two steps leaves the state before or after the call.

mod guest;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::access::guard::Details;
use super::api::ObjectKind;
use super::cleanup::fault_point;
use super::event::{HostEvent, SecretId, secret_lifecycle};
use super::host::{Context, HostObjects};
use super::objects::{Handle, Kind};
use crate::error::{Code, Error, Result, Subsystem};
use crate::secret::{SecretDef, UsageType, Value};
use crate::types::Uuid;

pub use guest::GuestSecrets;
pub(super) use guest::gather;

/// What makes an object a secret. Its second key is what it is for: no two secrets are for one thing.
#[derive(Clone, Debug)]
pub struct SecretKind;

/// A secret.
pub type Secret = Handle<SecretKind>;

impl Kind for SecretKind {
    type Def = SecretDef;
    type Live = ();
    const NOUN: &'static str = "secret";
    const DIRECTORY: &'static str = "secrets";
    const OBJECT: ObjectKind = ObjectKind::Secret;
    const SUBSYSTEM: Subsystem = Subsystem::Secret;
    const MISSING: Code = Code::NoSecret;
    const SCHEME: &'static str = "secret";

    fn parse(xml: &str) -> Result<SecretDef> {
        SecretDef::parse(xml)
    }

    fn write(def: &SecretDef) -> String {
        def.to_xml()
    }

    fn uuid(def: &SecretDef) -> Uuid {
        def.uuid
    }

    fn name(def: &SecretDef) -> String {
        def.usage.as_ref().map_or(String::new(), |usage| usage_key(usage.kind.number(), &usage.id))
    }

    fn details(uuid: Uuid, key: &str) -> Details {
        let mut details = vec![("secret_uuid", uuid.to_string())];
        let (kind, id) = key.split_once(' ').unwrap_or_default();
        let usage = match kind.parse() {
            Ok(1) => "secret_usage_volume",
            Ok(2) => "secret_usage_ceph",
            Ok(3) => "secret_usage_target",
            Ok(4 | 5) => "secret_usage_name",
            Ok(_) | Err(_) => return details,
        };
        details.push((usage, id.to_string()));
        details
    }

    fn stored(def: &SecretDef) -> bool {
        !def.ephemeral
    }

    fn taken(_def: &SecretDef, uuid: Uuid, key: &str) -> Error {
        let id = key.split_once(' ').map_or("", |(_, id)| id);
        Error::internal(format!("a secret with UUID {uuid} is already defined for use with {id}"))
    }
}

fn usage_key(kind: i32, id: &str) -> String {
    format!("{kind} {id}")
}

impl Secret {
    /// How clients name it.
    pub fn id(&self) -> SecretId {
        let state = self.state();
        let def = state.def();
        SecretId {
            uuid: self.uuid(),
            usage_type: def.map_or(0, |def| def.usage_type()),
            usage_id: def.map_or(String::new(), |def| def.usage_id().to_string()),
        }
    }
}

/// The values of all secrets of a set.
#[derive(Debug, Default)]
pub struct Values {
    by_uuid: Mutex<HashMap<Uuid, Arc<Value>>>,
}

impl Values {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Value>>> {
        self.by_uuid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, uuid: Uuid) -> Option<Arc<Value>> {
        self.lock().get(&uuid).cloned()
    }
}

/// Values on disk.
impl Context {
    async fn put_value(&self, uuid: Uuid, value: Arc<Value>) -> Result<()> {
        self.with_store((), move |store| store.put_value(&Context::part::<SecretKind>(), uuid, value.bytes())).await
    }

    async fn remove_value(&self, uuid: Uuid) -> Result<()> {
        self.with_store((), move |store| store.remove_value(&Context::part::<SecretKind>(), uuid)).await
    }
}

impl HostObjects {
    /// Reads definitions and values. A value that cannot be read is logged; its secret has none then.
    pub(super) async fn load_secrets(&self) -> Result<()> {
        self.secrets.load().await?;
        let uuids: Vec<Uuid> = self.secrets.all().iter().map(Handle::uuid).collect();
        let work = move |store: &crate::store::Store| {
            let part = Context::part::<SecretKind>();
            store.prepare_values(&part)?;
            let mut found = HashMap::new();
            for uuid in uuids {
                match store.value(&part, uuid).and_then(|bytes| bytes.map(Value::new).transpose()) {
                    Ok(Some(value)) => drop(found.insert(uuid, Arc::new(value))),
                    Ok(None) => {}
                    Err(error) => tracing::error!(secret = %uuid, %error, "the secret has no value"),
                }
            }
            Ok(found)
        };
        *self.secret_values.lock() = self.context.with_store(HashMap::new(), work).await?;
        Ok(())
    }

    /// The secret for this use (`virSecretLookupByUsage`). Error: none.
    pub fn secret_by_usage(&self, kind: i32, id: &str) -> Result<Secret> {
        let missing = || Error::new(Code::NoSecret, format!("no secret with matching usage '{id}'"));
        // The empty key is that of the secrets for nothing in particular.
        self.secrets
            .get(&usage_key(kind, id))
            .ok_or_else(missing)
            .map_err(|error| error.or_subsystem(Subsystem::Secret))
    }

    /// Defines a secret or replaces its definition (`virSecretDefineXML`).
    pub(super) async fn define_secret(&self, def: SecretDef) -> Result<Secret> {
        let def = Arc::new(def);
        let mut change = self.secrets.claim(&def).await?;
        let former = change.state().config.clone();
        if let Some(former) = &former {
            def.may_replace(former)?;
        }
        let value = self.secret_values.get(def.uuid);
        if let (Some(value), false, true) =
            (&value, def.ephemeral, former.as_ref().is_some_and(|former| former.ephemeral))
        {
            // Before the definition: without that it counts for nothing.
            self.context.put_value(def.uuid, value.clone()).await?;
            fault_point("secret-define.value")?;
        }
        change.define(def.clone()).await?;
        fault_point("secret-define.stored")?;
        if def.ephemeral && former.is_some_and(|former| !former.ephemeral) {
            self.context.remove_value(def.uuid).await?;
        }
        let secret = change.handle().clone();
        self.context.emit(HostEvent::SecretLifecycle {
            secret: secret.id(),
            event: secret_lifecycle::DEFINED,
            detail: 0,
        });
        Ok(secret)
    }

    /// Gives a secret a value (`virSecretSetValue`).
    pub(super) async fn set_secret_value(&self, secret: &Secret, value: Value) -> Result<()> {
        let change = secret.change().await?;
        let value = Arc::new(value);
        if !secret.def()?.ephemeral {
            self.context.put_value(secret.uuid(), value.clone()).await?;
            fault_point("secret-set-value.stored")?;
        }
        self.secret_values.lock().insert(secret.uuid(), value);
        self.context.emit(HostEvent::SecretValueChanged { secret: secret.id() });
        drop(change);
        Ok(())
    }

    /// The value of a secret, private or not: for the daemon itself. Error: code 66 when it has none.
    pub fn secret_value(&self, secret: &Secret) -> Result<Arc<Value>> {
        secret.def()?;
        self.secret_values.get(secret.uuid()).ok_or_else(|| {
            let text = format!("secret '{}' does not have a value", secret.uuid());
            Error::new(Code::NoSecret, text).with_subsystem(Subsystem::Secret)
        })
    }

    /// The value of the secret of a volume, named by its UUID or by its usage. Errors: code 66, 67.
    pub fn volume_passphrase(&self, uuid: Option<&str>, usage: Option<&str>) -> Result<Arc<Value>> {
        self.named_secret(UsageType::Volume, uuid, usage)
    }

    /// The value of a secret named by its UUID, or by its usage of this type. Errors: code 66, 67.
    fn named_secret(&self, kind: UsageType, uuid: Option<&str>, usage: Option<&str>) -> Result<Arc<Value>> {
        let secret = match (uuid, usage) {
            (Some(text), _) => {
                let uuid = Uuid::try_parse(text)
                    .map_err(|_| Error::invalid_arg(format!("'{text}' in <secret uuid> is no UUID")))?;
                self.secrets.by_uuid(uuid)?
            }
            (None, Some(usage)) => self.secret_by_usage(kind.number(), usage)?,
            (None, None) => return Err(Error::unsupported_config("no secret provided for luks encryption")),
        };
        self.secret_value(&secret)
    }

    /// Forgets a secret and its value (`virSecretUndefine`).
    pub(super) async fn undefine_secret(&self, secret: &Secret) -> Result<()> {
        let mut change = secret.change().await?;
        let (id, ephemeral) = (secret.id(), secret.def()?.ephemeral);
        change.undefine().await?;
        self.secret_values.lock().remove(&id.uuid);
        fault_point("secret-undefine.removed")?;
        if !ephemeral {
            self.context.remove_value(id.uuid).await?;
        }
        self.context.emit(HostEvent::SecretLifecycle { secret: id, event: secret_lifecycle::UNDEFINED, detail: 0 });
        Ok(())
    }
}
