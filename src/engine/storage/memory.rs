//! What is special in the test driver's pools: they exist in memory only, and there is one from the start.

use std::path::Path;
use std::sync::Arc;

use super::{PoolKind, PoolLive, StoragePool};
use crate::disk::job::part;
use crate::disk::pool::backend::{self, Refreshed};
use crate::disk::pool::mount::Format;
use crate::disk::pool::{self, PoolDef, Usage};
use crate::disk::volume::scan::KnownRaw;
use crate::engine::cleanup::run_blocking;
use crate::engine::event::HostSet;
use crate::engine::objects::Objects;
use crate::error::Result;

const DEFAULT: &str = "<pool type='dir'><name>default-pool</name><uuid>dfe224cb-28fb-8dd0-c4b2-64eb3f0f4566</uuid>\
                       <target><path>/default-pool</path></target></pool>";
/// Bytes of every pool.
const CAPACITY: u64 = 100 << 30;

/// The pool that the test driver has from the start.
pub(in crate::engine) async fn add_default(pools: &Arc<Objects<PoolKind>>) -> Result<()> {
    let def = Arc::new(pool::parse(DEFAULT)?.def);
    let mut change = pools.claim(&def).await?;
    change.define(def.clone()).await?;
    let live = PoolLive { usage: full(0), ..PoolLive::default() };
    change.started(change.run(def, live)).await
}

pub(super) fn full(allocation: u64) -> Usage {
    Usage { capacity: CAPACITY, allocation, available: CAPACITY.saturating_sub(allocation) }
}

impl StoragePool {
    pub(super) fn in_memory(&self) -> bool {
        self.context().set == HostSet::Test
    }

    /// Sizes while it does not run.
    pub(super) fn empty_usage(&self) -> Usage {
        if self.in_memory() { full(0) } else { Usage::default() }
    }

    pub(super) async fn build_storage(&self, def: &PoolDef, format: Format) -> Result<()> {
        if self.in_memory() { Ok(()) } else { backend::build(def, format).await }
    }

    pub(super) async fn start_storage(&self, def: &PoolDef) -> Result<()> {
        if self.in_memory() { Ok(()) } else { backend::start(def).await }
    }

    pub(super) async fn stop_storage(&self, def: &PoolDef) -> Result<()> {
        if self.in_memory() { Ok(()) } else { backend::stop(def).await }
    }

    pub(super) async fn delete_storage(&self, def: &PoolDef) -> Result<()> {
        if self.in_memory() { Ok(()) } else { backend::delete(def).await }
    }

    pub(super) fn storage_is_up(&self, def: &PoolDef) -> Result<bool> {
        if self.in_memory() { Ok(false) } else { backend::is_up(def) }
    }

    /// What there is now; in memory that is what there was.
    pub(super) async fn look(&self, def: &PoolDef, known: &KnownRaw) -> Result<Refreshed> {
        if !self.in_memory() {
            // What a killed daemon was making; what is being made now is locked.
            let directory = def.target.path.clone().filter(|_| def.kind.is_directory());
            if let Some(directory) = directory {
                run_blocking(move || Ok(part::sweep(Path::new(&directory)))).await?;
            }
            return backend::refresh(def, known).await;
        }
        let volumes = self.volumes().unwrap_or_default();
        let allocation = volumes.values().map(|volume| volume.allocation).sum();
        let volumes = volumes.iter().map(|(name, volume)| (name.clone(), volume.as_ref().clone())).collect();
        Ok(Refreshed { usage: full(allocation), volumes, ..Refreshed::default() })
    }
}
