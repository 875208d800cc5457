//! The storage pools of the host.

use super::api::{ObjectKind, On};
use super::host::HostObjects;
use super::objects::{Handle, Kind};
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::Uuid;

/// What makes an object a storage pool.
#[derive(Clone, Debug)]
pub struct PoolKind;

/// A storage pool.
pub type StoragePool = Handle<PoolKind>;

/// The definition, until its own type is here.
#[derive(Debug)]
pub struct Placeholder {
    uuid: Uuid,
    name: String,
}

impl Kind for PoolKind {
    type Def = Placeholder;
    type Live = ();
    const NOUN: &'static str = "storage pool";
    const DIRECTORY: &'static str = "pools";
    const OBJECT: ObjectKind = ObjectKind::StoragePool;
    const SUBSYSTEM: Subsystem = Subsystem::Storage;
    const MISSING: Code = Code::NoStoragePool;
    const SCHEME: &'static str = "storage";
    const SHORT_NOUN: &'static str = "pool";

    fn parse(_xml: &str) -> Result<Placeholder> {
        Err(Error::internal("storage pools are not there yet"))
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

/// A volume, found in its pool at every call.
#[derive(Clone, Debug)]
pub struct StorageVol {
    pub pool: StoragePool,
    pub name: String,
    /// Unique among all volumes of the host.
    pub key: String,
}

impl On for StorageVol {
    const KIND: ObjectKind = ObjectKind::StorageVol;

    fn scheme(&self) -> &'static str {
        PoolKind::SCHEME
    }

    fn subsystem(&self) -> Subsystem {
        PoolKind::SUBSYSTEM
    }
}

/// Volumes of all pools.
impl HostObjects {
    /// The volume with this key (`virStorageVolLookupByKey`). Error: none.
    pub fn volume_by_key(&self, key: &str) -> Result<StorageVol> {
        Err(missing(format!("no storage vol with matching key '{key}'")))
    }

    /// The volume called `name` in the pool called `pool`, which is how RPC clients name one. Error: none.
    pub fn volume(&self, pool: &str, name: &str) -> Result<StorageVol> {
        self.pools.by_name(pool)?;
        Err(missing(format!("no storage vol with matching name '{name}'")))
    }
}

fn missing(what: String) -> Error {
    Error::new(Code::NoStorageVol, what).with_subsystem(Subsystem::Storage)
}
