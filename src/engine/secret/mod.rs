//! The secrets of the host.

use super::api::ObjectKind;
use super::event::SecretId;
use super::objects::{Handle, Kind};
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::Uuid;

/// What makes an object a secret.
#[derive(Clone, Debug)]
pub struct SecretKind;

/// A secret.
pub type Secret = Handle<SecretKind>;

impl Secret {
    /// How clients name it.
    pub fn id(&self) -> SecretId {
        SecretId { uuid: self.uuid(), usage_type: 0, usage_id: String::new() }
    }
}

/// The definition, until its own type is here.
#[derive(Debug)]
pub struct Placeholder {
    uuid: Uuid,
    name: String,
}

impl Kind for SecretKind {
    type Def = Placeholder;
    type Live = ();
    const NOUN: &'static str = "secret";
    const DIRECTORY: &'static str = "secrets";
    const OBJECT: ObjectKind = ObjectKind::Secret;
    const SUBSYSTEM: Subsystem = Subsystem::Secret;
    const MISSING: Code = Code::NoSecret;
    const SCHEME: &'static str = "secret";

    fn parse(_xml: &str) -> Result<Placeholder> {
        Err(Error::internal("secrets are not there yet"))
    }

    fn write(_def: &Placeholder) -> String {
        String::new()
    }

    fn uuid(def: &Placeholder) -> Uuid {
        def.uuid
    }

    fn name(def: &Placeholder) -> String {
        def.name.clone()
    }
}
