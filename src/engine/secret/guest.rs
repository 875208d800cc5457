//! The secrets that a guest's images need, read for its start. They go to the driver beside the definition and are
//! nowhere else: no record and no log has them.

use std::sync::Arc;

use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{NetworkProtocol, SecretPurpose, SecretRef, StorageSource};
use crate::engine::event::HostSet;
use crate::engine::host::HostObjects;
use crate::error::{Code, Error, Result};
use crate::secret::{UsageType, Value};

/// Values of secrets, by what they are for and how a definition names them.
#[derive(Clone, Debug, Default)]
pub struct GuestSecrets(Vec<(UsageType, SecretRef, Arc<Value>)>);

impl GuestSecrets {
    /// The value of a secret of this layer of an image. Error: it was not read for this start, which is a defect.
    pub fn value(&self, layer: &StorageSource, purpose: SecretPurpose, secret: &SecretRef) -> Result<Arc<Value>> {
        let usage = usage_of(layer, purpose);
        let found = self.0.iter().find(|(kind, named, _)| *kind == usage && named == secret);
        found.map(|(.., value)| value.clone()).ok_or_else(|| Error::internal("a secret was not read for the start"))
    }
}

/// Where a secret that is named by its usage is looked for.
fn usage_of(layer: &StorageSource, purpose: SecretPurpose) -> UsageType {
    let ceph = layer.network.as_ref().is_some_and(|network| network.protocol == NetworkProtocol::Rbd);
    match purpose {
        SecretPurpose::Encryption => UsageType::Volume,
        SecretPurpose::Auth if ceph => UsageType::Ceph,
        SecretPurpose::Auth => UsageType::Iscsi,
    }
}

/// The values of all secrets that the images of a guest need. Errors: code 66 for a secret that is not there or has no
/// value, with the disk and what to do; code 67 for a disk that names none.
pub(in crate::engine) fn gather(host: &HostObjects, def: &DomainDef) -> Result<GuestSecrets> {
    let mut all = Vec::new();
    // The test driver's guests open nothing.
    if host.context.set == HostSet::Test {
        return Ok(GuestSecrets(all));
    }
    for disk in &def.disks {
        let at = |error: Error| {
            let hint = match (error.code, error.detail.contains("does not have a value")) {
                (Code::NoSecret, true) => "; 'domus secret-set-value' gives it one",
                (Code::NoSecret, false) => "; 'domus secret-define' makes one",
                _ => "",
            };
            Error { detail: format!("{} (disk '{}'){hint}", error.detail, disk.dev()), ..error }
        };
        for layer in std::iter::once(&disk.source).chain(disk.source.chain()) {
            for (purpose, secret) in layer.secrets().map_err(at)? {
                let usage = usage_of(layer, purpose);
                let value = host.named_secret(usage, secret.uuid.as_deref(), secret.usage.as_deref()).map_err(at)?;
                all.push((usage, secret.clone(), value));
            }
        }
    }
    Ok(GuestSecrets(all))
}
