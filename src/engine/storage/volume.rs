//! Volumes: found by name, key or path in the pools that run.

use std::path::Path;
use std::sync::Arc;

use super::{PoolKind, StoragePool};
use crate::disk::permissions::sanitize_path;
use crate::disk::volume::scan::scan_one;
use crate::disk::volume::{self, VolumeDef};
use crate::engine::access::guard::{Details, Guarded};
use crate::engine::api::{ObjectKind, On};
use crate::engine::cleanup::run_blocking;
use crate::engine::host::HostObjects;
use crate::engine::objects::{Kind, definition};
use crate::error::{Code, Error, Result, Subsystem};

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

impl Guarded for StorageVol {
    const OBJECT: &'static str = <Self as On>::KIND.of_rights();

    async fn details(&self) -> Details {
        let mut details = self.pool.details().await;
        details.extend([("vol_name", self.name.clone()), ("vol_key", self.key.clone())]);
        details
    }
}

impl StoragePool {
    /// Details of a volume that is yet to be made. Errors: those of the document.
    pub fn new_volume_details(&self, xml: &str) -> Result<Details> {
        let name = volume::parse(xml, self.pool_type()?, volume::Capacity::Optional)?.name;
        let mut details = definition::<PoolKind>(&*self.def()?);
        details.push(("vol_name", name));
        Ok(details)
    }

    /// A volume of this pool, by its definition.
    pub fn volume_of(&self, def: &VolumeDef) -> StorageVol {
        StorageVol { pool: self.clone(), name: def.name.clone(), key: def.key.clone().unwrap_or_default() }
    }

    /// The volume with this name. Errors: code 55 when the pool does not run, 50.
    pub fn volume(&self, name: &str) -> Result<StorageVol> {
        let volumes = self.volumes()?;
        let found = volumes.get(name).ok_or_else(|| missing(format!("no storage vol with matching name '{name}'")))?;
        Ok(self.volume_of(found))
    }

    /// All volumes, by name. Error: code 55 when the pool does not run.
    pub fn all_volumes(&self) -> Result<Vec<StorageVol>> {
        Ok(self.volumes()?.values().map(|def| self.volume_of(def)).collect())
    }
}

impl StorageVol {
    /// As of the last refresh. Errors: code 55 when the pool does not run, 50 when it is gone.
    pub fn def(&self) -> Result<Arc<VolumeDef>> {
        let found = self.pool.volumes()?.get(&self.name).cloned();
        found.ok_or_else(|| missing(format!("no storage vol with matching name '{}'", self.name)))
    }

    /// As it is now. Errors as [`StorageVol::def`], also when the file has vanished.
    pub async fn current(&self) -> Result<Arc<VolumeDef>> {
        let def = self.def()?;
        let pool = self.pool.def()?;
        let (Some(directory), true, false) =
            (pool.target.path.clone(), pool.kind.is_directory(), self.pool.in_memory())
        else {
            return Ok(def);
        };
        let (live, name) = (self.pool.live()?, self.name.clone());
        let looked = run_blocking(move || scan_one(Path::new(&directory), &name, &live.raw)).await?;
        match looked {
            Some(mut now) => {
                now.keep_secrets(&def);
                Ok(Arc::new(now))
            }
            None => Err(missing(format!("no storage vol with matching name '{}': its file is gone", self.name))),
        }
    }
}

/// Volumes of all pools.
impl HostObjects {
    /// The volume with this key (`virStorageVolLookupByKey`). Error: none.
    pub fn volume_by_key(&self, key: &str) -> Result<StorageVol> {
        let found = self.find_volume(|def| def.key.as_deref() == Some(key));
        found.ok_or_else(|| missing(format!("no storage vol with matching key '{key}'")))
    }

    /// The volume with this path (`virStorageVolLookupByPath`). Error: none.
    pub fn volume_by_path(&self, path: &str) -> Result<StorageVol> {
        let clean = sanitize_path(path);
        let found = self.find_volume(|def| def.target.path.as_deref() == Some(clean.as_str()));
        found.ok_or_else(|| match clean == path {
            true => missing(format!("no storage vol with matching path '{path}'")),
            false => missing(format!("no storage vol with matching path '{path}' ({clean})")),
        })
    }

    fn find_volume(&self, fits: impl Fn(&VolumeDef) -> bool) -> Option<StorageVol> {
        self.pools.all().into_iter().find_map(|pool| {
            let volumes = pool.volumes().ok()?;
            let def = volumes.values().find(|def| fits(def))?;
            Some(pool.volume_of(def))
        })
    }

    /// The volume called `name` in the pool called `pool`, which is how RPC clients name one. Error: none.
    pub fn volume(&self, pool: &str, name: &str) -> Result<StorageVol> {
        self.pools.by_name(pool)?.volume(name)
    }

    /// The running pool whose target is `path` (`virStoragePoolLookupByTargetPath`). Error: none.
    pub fn pool_by_target(&self, path: &str) -> Result<StoragePool> {
        let clean = sanitize_path(path);
        let fits = |pool: &StoragePool| {
            let state = pool.state();
            state.run.as_ref().is_some_and(|run| run.def.target.path.as_deref() == Some(clean.as_str()))
        };
        self.pools.all().into_iter().find(fits).ok_or_else(|| {
            let what = format!("no storage pool with matching target path '{path}'");
            Error::new(Code::NoStoragePool, what).with_subsystem(Subsystem::Storage)
        })
    }
}

fn missing(what: String) -> Error {
    Error::new(Code::NoStorageVol, what).with_subsystem(Subsystem::Storage)
}
