//! One registry per driver: UUID, name and id -> domain. Owns the uniqueness rules; reads take a short shared lock.
//!
//! A new domain first *reserves* its name and UUID, then commits once its definition is stored: nobody can look up a
//! domain that might still fail to be defined, and two definitions of one name cannot race.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::domain::Domain;
use crate::error::{Code, Error, Result};
use crate::types::Uuid;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Registry {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_uuid: HashMap<Uuid, Domain>,
    /// Ordered, so that lists come out the same every time.
    by_name: BTreeMap<String, Uuid>,
    by_id: HashMap<i32, Uuid>,
    reserved: HashSet<(Uuid, String)>,
}

/// A claim on a name and UUID; given back when dropped without [`Reservation::commit`].
#[derive(Debug)]
pub struct Reservation<'a> {
    registry: &'a Registry,
    key: Option<(Uuid, String)>,
}

/// What a definition with some UUID and name meets.
#[derive(Debug)]
pub enum Claim<'a> {
    /// Nobody has it: reserved.
    New(Reservation<'a>),
    /// The domain with this UUID and name.
    Existing(Domain),
}

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The domain with this UUID.
    pub fn by_uuid(&self, uuid: &Uuid) -> Option<Domain> {
        self.read().by_uuid.get(uuid).cloned()
    }

    /// The domain with this name.
    pub fn by_name(&self, name: &str) -> Option<Domain> {
        let inner = self.read();
        inner.by_name.get(name).and_then(|uuid| inner.by_uuid.get(uuid)).cloned()
    }

    /// The running domain with this id.
    pub fn by_id(&self, id: i32) -> Option<Domain> {
        let inner = self.read();
        inner.by_id.get(&id).and_then(|uuid| inner.by_uuid.get(uuid)).cloned()
    }

    /// All domains, by name.
    pub fn all(&self) -> Vec<Domain> {
        let inner = self.read();
        inner.by_name.values().filter_map(|uuid| inner.by_uuid.get(uuid)).cloned().collect()
    }

    /// Number of domains.
    pub fn len(&self) -> usize {
        self.read().by_uuid.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds the domain a definition is for, or reserves its UUID and name (`virDomainObjListAdd`).
    pub fn claim(&self, uuid: Uuid, name: &str) -> Result<Claim<'_>> {
        let mut inner = self.write();
        if let Some(domain) = inner.by_uuid.get(&uuid) {
            if domain.name() == name {
                return Ok(Claim::Existing(domain.clone()));
            }
            return Err(Error::new(
                Code::OperationFailed,
                format!("domain '{}' is already defined with uuid {uuid}", domain.name()),
            ));
        }
        if let Some(other) = inner.by_name.get(name) {
            return Err(Error::new(Code::OperationFailed, format!("domain '{name}' already exists with uuid {other}")));
        }
        if let Some((other, _)) = inner.reserved.iter().find(|(id, n)| *id == uuid || n == name) {
            return Err(Error::new(
                Code::OperationFailed,
                format!("domain '{name}' is just being defined by another call, with uuid {other}"),
            ));
        }
        let key = (uuid, name.to_string());
        inner.reserved.insert(key.clone());
        Ok(Claim::New(Reservation { registry: self, key: Some(key) }))
    }

    /// Moves a domain to another name, which must be free (`virDomainRename`). `commit` runs under the lock's
    /// reservation, so nobody can take the name meanwhile.
    pub fn reserve_name(&self, uuid: Uuid, name: &str) -> Result<Reservation<'_>> {
        let mut inner = self.write();
        if inner.by_name.contains_key(name) || inner.reserved.iter().any(|(_, n)| n == name) {
            return Err(Error::invalid_state(format!("domain with name '{name}' already exists")));
        }
        let key = (uuid, name.to_string());
        inner.reserved.insert(key.clone());
        Ok(Reservation { registry: self, key: Some(key) })
    }

    /// Gives `id` to the domain's present run.
    pub fn set_id(&self, uuid: Uuid, id: i32) {
        self.write().by_id.insert(id, uuid);
    }

    /// The run with this id is over.
    pub fn clear_id(&self, id: i32) {
        self.write().by_id.remove(&id);
    }

    /// Forgets a domain.
    pub fn remove(&self, uuid: &Uuid, name: &str) {
        let mut inner = self.write();
        inner.by_uuid.remove(uuid);
        if inner.by_name.get(name) == Some(uuid) {
            inner.by_name.remove(name);
        }
        inner.by_id.retain(|_, of| of != uuid);
    }
}

impl Reservation<'_> {
    /// Makes the reserved domain visible.
    pub fn commit(mut self, domain: Domain) {
        if let Some((uuid, name)) = self.key.take() {
            let mut inner = self.registry.write();
            inner.reserved.remove(&(uuid, name.clone()));
            inner.by_name.insert(name, uuid);
            inner.by_uuid.insert(uuid, domain);
        }
    }

    /// Gives the reserved name to a domain that had `old`.
    pub fn commit_rename(mut self, old: &str) {
        if let Some((uuid, name)) = self.key.take() {
            let mut inner = self.registry.write();
            inner.reserved.remove(&(uuid, name.clone()));
            inner.by_name.remove(old);
            inner.by_name.insert(name, uuid);
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.registry.write().reserved.remove(&key);
        }
    }
}
