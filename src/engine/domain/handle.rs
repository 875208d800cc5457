//! A snapshot as a client names it.

use std::sync::Arc;

use super::Domain;
use super::moments::{Tree, missing};
use crate::domain_xml::snapshot::SnapshotDef;
use crate::engine::access::guard::{Details, Guarded};
use crate::engine::api::{ObjectKind, On};
use crate::error::{Error, Result, Subsystem};

/// A snapshot of a domain; whether it is there each call finds out.
#[derive(Clone, Debug)]
pub struct DomainSnapshot {
    pub domain: Domain,
    pub name: String,
}

impl On for DomainSnapshot {
    const KIND: ObjectKind = ObjectKind::DomainSnapshot;

    fn scheme(&self) -> &'static str {
        self.domain.scheme()
    }

    fn subsystem(&self) -> Subsystem {
        self.domain.subsystem()
    }
}

impl Guarded for DomainSnapshot {
    const OBJECT: &'static str = <Self as On>::KIND.of_rights();

    async fn details(&self) -> Details {
        self.domain.details().await
    }
}

impl DomainSnapshot {
    /// The tree it stands in, and what it is. Error: code 72, it is not there.
    pub fn find(&self) -> Result<(Arc<Tree>, Arc<SnapshotDef>)> {
        let tree = self.domain.snapshot().moments.clone();
        let def = tree.get(&self.name).cloned().ok_or_else(|| missing(&self.name))?;
        Ok((tree, def))
    }

    /// The one it was made after. Error: code 72, none.
    pub fn parent(&self) -> Result<DomainSnapshot> {
        let (_, def) = self.find()?;
        let name = def.parent.clone().ok_or_else(|| {
            Error::new(crate::error::Code::NoDomainSnapshot, format!("snapshot '{}' does not have a parent", self.name))
        })?;
        Ok(DomainSnapshot { domain: self.domain.clone(), name })
    }
}
