//! The storage pools of the host, and the volumes in them.
//!
//! A pool that runs has a [`PoolLive`]: what its last refresh found, immutable and replaced as a whole, so that readers
//! never wait for a directory. Starting one notes on disk that it is being started, makes the storage appear, looks at
//! it, and notes that it runs; a daemon that is killed in between takes back what it had made when it comes back
//! ([`recovery`]). Volumes are files and belong to no record: they are looked at again.

mod change;
mod guest;
mod job;
mod lifecycle;
mod make;
mod memory;
pub(super) mod recovery;
mod sources;
mod users;
mod volume;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde::{Deserialize, Serialize};

pub use change::{VolumeDownload, VolumeUpload, resize_flags};
pub(super) use guest::{find_again, hold, resolve, resolve_device};
pub use job::PoolJob;
pub use lifecycle::BuildMode;
pub use make::flags as create_flags;
pub use sources::find_sources;
pub(super) use users::guests_using;
pub use volume::StorageVol;

use super::access::guard::{Details, named};
use super::api::ObjectKind;
use super::objects::{Handle, Kind, State};
use crate::disk::permissions::Permissions;
use crate::disk::pool::{self, PoolDef, PoolType, Usage};
use crate::disk::volume::VolumeDef;
use crate::disk::volume::scan::KnownRaw;
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::Uuid;

/// What makes an object a storage pool.
#[derive(Clone, Debug)]
pub struct PoolKind;

/// A storage pool.
pub type StoragePool = Handle<PoolKind>;

/// Volumes by their names.
pub type Volumes = BTreeMap<String, Arc<VolumeDef>>;

/// How a pool runs. On disk is only what undoing a start needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PoolLive {
    /// It is being started: nobody has seen it run yet.
    pub starting: bool,
    /// What starting makes was there before: a start that fails leaves it.
    pub was_up: bool,
    #[serde(skip)]
    pub usage: Usage,
    /// Of the target directory as it is.
    #[serde(skip)]
    pub permissions: Option<Permissions>,
    #[serde(skip)]
    pub volumes: Arc<Volumes>,
    /// See [`crate::disk::volume::scan`].
    #[serde(skip)]
    pub raw: Arc<KnownRaw>,
    /// How many [`PoolJob`]s there are; the same counter for the whole run.
    #[serde(skip)]
    pub jobs: Arc<AtomicUsize>,
}

impl Kind for PoolKind {
    type Def = PoolDef;
    type Live = PoolLive;
    const NOUN: &'static str = "storage pool";
    const DIRECTORY: &'static str = "pools";
    const OBJECT: ObjectKind = ObjectKind::StoragePool;
    const SUBSYSTEM: Subsystem = Subsystem::Storage;
    const MISSING: Code = Code::NoStoragePool;
    const SCHEME: &'static str = "storage";
    const SHORT_NOUN: &'static str = "pool";

    fn parse(xml: &str) -> Result<PoolDef> {
        let def = pool::parse(xml)?.def;
        match def.uuid {
            Some(_) => Ok(def),
            None => Err(Error::new(Code::XmlError, "the stored definition of a pool has no uuid")),
        }
    }

    fn write(def: &PoolDef) -> String {
        pool::format(def, Usage::default())
    }

    fn details(uuid: Uuid, name: &str) -> Details {
        named(["pool_name", "pool_uuid"], name, uuid)
    }

    fn uuid(def: &PoolDef) -> Uuid {
        def.uuid.unwrap_or_default()
    }

    fn name(def: &PoolDef) -> String {
        def.name.clone()
    }
}

/// `virStoragePoolInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolInfo {
    /// `virStoragePoolState`: 0 inactive, 2 running.
    pub state: i32,
    pub usage: Usage,
}

impl Handle<PoolKind> {
    /// State and sizes, as of the last refresh.
    pub fn info(&self) -> PoolInfo {
        let state = self.state();
        PoolInfo { state: if state.active() { 2 } else { 0 }, usage: self.usage(&state) }
    }

    fn usage(&self, state: &State<PoolKind>) -> Usage {
        match &state.run {
            Some(run) => run.live.usage,
            None => self.empty_usage(),
        }
    }

    /// The definition with the sizes of the last refresh. `inactive`: what the next start takes. Error: it is gone.
    pub fn xml(&self, inactive: bool) -> Result<String> {
        let state = self.state();
        let def = if inactive { state.inactive_def() } else { state.def() };
        let mut def = PoolDef::clone(def.ok_or_else(|| missing_pool(self))?);
        if let Some(permissions) = state.run.as_ref().and_then(|run| run.live.permissions.clone()) {
            let label = def.target.permissions.label.take();
            def.target.permissions = Permissions { label, ..permissions };
        }
        Ok(pool::format(&def, self.usage(&state)))
    }

    /// What runs. Error: code 55 when it does not.
    pub fn live(&self) -> Result<Arc<PoolLive>> {
        let state = self.state();
        state.run.as_ref().map(|run| run.live.clone()).ok_or_else(|| self.inactive())
    }

    /// The volumes as of the last refresh. Error: code 55 when the pool does not run.
    pub fn volumes(&self) -> Result<Arc<Volumes>> {
        Ok(self.live()?.volumes.clone())
    }

    /// Type of the definition in force. Error: it is gone.
    pub fn pool_type(&self) -> Result<PoolType> {
        Ok(self.def()?.kind)
    }

    fn inactive(&self) -> Error {
        Error::invalid_state(format!("storage pool '{}' is not active", self.name()))
    }
}

fn missing_pool(pool: &StoragePool) -> Error {
    let what = format!("no storage pool with matching uuid '{}' ({})", pool.uuid(), pool.name());
    Error::new(Code::NoStoragePool, what).with_subsystem(Subsystem::Storage)
}
