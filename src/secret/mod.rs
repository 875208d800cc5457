//! Secrets: what a passphrase is for, and the passphrase itself.
//!
//! Owns libvirt's secret XML and the rules about what may change. Never does I/O: the engine keeps definitions and
//! values, in files of mode 0600. A [`Value`] is wiped when it is dropped and prints nothing of itself.

mod xml;

use std::fmt;

use zeroize::Zeroizing;

use crate::domain_xml::words::words;
use crate::error::{Code, Error, Result};
use crate::types::Uuid;

/// Longest value, bytes: what libvirt's protocol can carry.
pub const VALUE_MAX: usize = 65_536;

words! {
    /// What a secret is for (`virSecretUsageType`).
    pub enum UsageType {
        None = "none",
        Volume = "volume",
        Ceph = "ceph",
        Iscsi = "iscsi",
        Tls = "tls",
        Vtpm = "vtpm",
    }
}

impl UsageType {
    /// libvirt's number.
    pub fn number(self) -> i32 {
        match self {
            UsageType::None => 0,
            UsageType::Volume => 1,
            UsageType::Ceph => 2,
            UsageType::Iscsi => 3,
            UsageType::Tls => 4,
            UsageType::Vtpm => 5,
        }
    }
}

/// What a secret is used for: the type, and which thing of that type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Never `none`.
    pub kind: UsageType,
    /// A path, a target or a name; never empty.
    pub id: String,
}

/// A secret without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretDef {
    pub uuid: Uuid,
    /// Neither definition nor value are ever on disk.
    pub ephemeral: bool,
    /// The value is for the daemon itself; no client gets it.
    pub private: bool,
    pub description: Option<String>,
    pub usage: Option<Usage>,
}

impl SecretDef {
    /// Reads libvirt's secret XML; a secret without a UUID gets one. Errors: codes 1, 27 and 35.
    pub fn parse(text: &str) -> Result<SecretDef> {
        xml::parse(text)
    }

    /// Refuses what the XML has that a secret does not (`VIR_SECRET_DEFINE_VALIDATE`). Error: code 92.
    pub fn validate(text: &str) -> Result<()> {
        xml::validate(text)
    }

    /// libvirt's secret XML.
    pub fn to_xml(&self) -> String {
        xml::write(self)
    }

    /// libvirt's number of the usage type.
    pub fn usage_type(&self) -> i32 {
        self.usage.as_ref().map_or(0, |usage| usage.kind.number())
    }

    /// Which thing it is for; empty when for none.
    pub fn usage_id(&self) -> &str {
        self.usage.as_ref().map_or("", |usage| &usage.id)
    }

    /// Whether a secret may become `self`: what was private stays so. Error: code 1 with libvirt's text.
    pub fn may_replace(&self, former: &SecretDef) -> Result<()> {
        if former.private && !self.private {
            return Err(Error::internal("cannot change private flag on existing secret"));
        }
        Ok(())
    }

    /// Whether `virConnectListAllSecrets` with `flags` lists it: of each pair of filters one that holds, or none set.
    pub fn matches(&self, flags: u32) -> bool {
        let filter = |yes: u32, no: u32, is: bool| flags & (yes | no) == 0 || flags & if is { yes } else { no } != 0;
        filter(list::EPHEMERAL, list::NO_EPHEMERAL, self.ephemeral)
            && filter(list::PRIVATE, list::NO_PRIVATE, self.private)
    }
}

/// `virConnectListAllSecretsFlags`
pub mod list {
    pub const EPHEMERAL: u32 = 1;
    pub const NO_EPHEMERAL: u32 = 2;
    pub const PRIVATE: u32 = 4;
    pub const NO_PRIVATE: u32 = 8;
    pub const ALL: u32 = 15;
}

/// The value of a secret.
pub struct Value(Zeroizing<Vec<u8>>);

impl Value {
    /// Takes the bytes. Error: they are more than [`VALUE_MAX`].
    pub fn new(bytes: Vec<u8>) -> Result<Value> {
        let value = Value(Zeroizing::new(bytes));
        if value.0.len() > VALUE_MAX {
            let text = format!("the value of a secret has at most {VALUE_MAX} bytes, not {}", value.0.len());
            return Err(Error::new(Code::InvalidArg, text));
        }
        Ok(value)
    }

    /// The bytes, for whoever needs them now.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(ephemeral: bool, private: bool) -> SecretDef {
        SecretDef { uuid: Uuid::nil(), ephemeral, private, description: None, usage: None }
    }

    #[test]
    fn filters_are_libvirts() {
        let all = [def(false, false), def(false, true), def(true, false), def(true, true)];
        let listed = |flags| all.iter().map(|def| def.matches(flags)).collect::<Vec<_>>();
        assert_eq!(listed(0), [true; 4]);
        assert_eq!(listed(list::EPHEMERAL), [false, false, true, true]);
        assert_eq!(listed(list::NO_EPHEMERAL | list::PRIVATE), [false, true, false, false]);
        assert_eq!(listed(list::ALL), [true; 4]);
    }

    #[test]
    fn private_stays_private() {
        let error = def(false, false).may_replace(&def(false, true)).unwrap_err();
        assert_eq!(error.message(), "internal error: cannot change private flag on existing secret");
        assert!(def(false, true).may_replace(&def(false, false)).is_ok());
    }

    #[test]
    fn a_value_tells_nothing_and_has_a_limit() {
        let value = Value::new(b"passphrase".to_vec()).unwrap();
        assert_eq!(format!("{value:?}"), "Value(..)");
        assert_eq!(value.bytes(), b"passphrase");
        assert!(Value::new(vec![0; VALUE_MAX]).is_ok());
        assert_eq!(Value::new(vec![0; VALUE_MAX + 1]).unwrap_err().code, Code::InvalidArg);
    }
}
