//! Pools come, run and go.

use std::sync::Arc;

use super::{PoolKind, PoolLive, StoragePool};
use crate::disk::pool::backend::{Refreshed, supported};
use crate::disk::pool::mount::Format;
use crate::disk::pool::{self, PoolDef, PoolType};
use crate::disk::volume::VolumeDef;
use crate::disk::volume::scan::KnownRaw;
use crate::engine::cleanup::fault_point;
use crate::engine::event::{HostEvent, Named, pool_lifecycle};
use crate::engine::host::HostObjects;
use crate::engine::objects::Change;
use crate::error::{Error, Result};
use crate::store::Durability;
use crate::types::Uuid;

/// Whether a start builds the storage first, and how.
pub type BuildMode = Option<Format>;

/// Store directory of what is remembered of each pool's files.
pub(super) const RAW: &str = "host/pool-raw";

impl HostObjects {
    /// Makes the pool of `xml` a persistent one that does not run. `strict`: unknown elements are refused. Errors: those
    /// of the document; code 9 when name, UUID or source are taken.
    pub async fn define_pool(&self, xml: &str, strict: bool) -> Result<StoragePool> {
        let def = self.read_pool(xml, strict)?;
        let mut change = self.pools.claim(&def).await?;
        self.no_conflict(&def)?;
        fault_point("pool.define.claimed")?;
        change.define(def).await?;
        let pool = change.handle().clone();
        pool.tell(pool_lifecycle::DEFINED);
        Ok(pool)
    }

    /// Starts the pool of `xml` without keeping its definition, building it first if asked. Errors as
    /// [`HostObjects::define_pool`]; code 55 when it runs already; those of the start.
    pub async fn create_pool(&self, xml: &str, strict: bool, build: BuildMode) -> Result<StoragePool> {
        let def = self.read_pool(xml, strict)?;
        let mut change = self.pools.claim(&def).await?;
        if change.state().active() {
            let what = format!("pool is already active as '{}'", change.handle().name());
            return Err(Error::invalid_state(what));
        }
        self.no_conflict(&def)?;
        start(&mut change, def, build).await?;
        Ok(change.handle().clone())
    }

    fn read_pool(&self, xml: &str, strict: bool) -> Result<Arc<PoolDef>> {
        let mut def = if strict { pool::parse_strictly(xml)? } else { pool::parse(xml)?.def };
        def.uuid.get_or_insert_with(Uuid::new_v4);
        Ok(Arc::new(def))
    }

    /// Refuses a source that another pool has. Error: code 9 with libvirt's text.
    fn no_conflict(&self, def: &PoolDef) -> Result<()> {
        let others = self.pools.all();
        let other = others.iter().filter(|other| Some(other.uuid()) != def.uuid).find(|other| {
            let state = other.state();
            let defs = [state.config.as_ref(), state.run.as_ref().map(|run| &run.def)];
            defs.into_iter().flatten().any(|theirs| theirs.conflicts_with(def))
        });
        match other {
            None => Ok(()),
            Some(other) => Err(Error::failed(format!("Storage source conflict with pool: '{}'", other.name()))),
        }
    }
}

impl StoragePool {
    pub(super) fn tell(&self, event: i32) {
        self.context().emit(HostEvent::PoolLifecycle { pool: self.named(), event, detail: 0 });
    }

    fn named(&self) -> Named {
        Named { uuid: self.uuid(), name: self.name().to_string() }
    }

    /// Starts it. Errors: code 55 when it runs; those of its type, with nothing left behind.
    pub async fn start(&self, build: BuildMode) -> Result<()> {
        let mut change = self.change().await?;
        if change.state().active() {
            return Err(Error::invalid_state(format!("storage pool '{}' is already active", self.name())));
        }
        let def = change.state().config.clone().ok_or_else(|| super::missing_pool(self))?;
        start(&mut change, def, build).await
    }

    /// Prepares its storage (`virStoragePoolBuild`). Error: code 55 when it runs; those of its type.
    pub async fn build(&self, format: Format) -> Result<()> {
        let change = self.change().await?;
        if change.state().active() {
            return Err(Error::invalid_state(format!("storage pool '{}' is already active", self.name())));
        }
        let def = self.def()?;
        build(self, &def, format).await?;
        self.tell(pool_lifecycle::CREATED);
        Ok(())
    }

    /// Stops it (`virStoragePoolDestroy`). Errors: code 55 when it does not run, 1 while jobs run; those of its type.
    pub async fn stop(&self) -> Result<()> {
        let mut change = self.change().await?;
        let def = change.state().run.as_ref().map(|run| run.def.clone()).ok_or_else(|| self.inactive())?;
        self.no_jobs()?;
        fault_point("pool.stop.begun")?;
        self.stop_storage(&def).await?;
        fault_point("pool.stop.down")?;
        self.ended(&mut change).await?;
        self.tell(pool_lifecycle::STOPPED);
        Ok(())
    }

    /// Removes its storage for good (`virStoragePoolDelete`). Errors: code 55 when it runs; those of its type.
    pub async fn delete(&self) -> Result<()> {
        let change = self.change().await?;
        self.not_active(&change)?;
        let def = self.def()?;
        fault_point("pool.delete.begun")?;
        self.delete_storage(&def).await?;
        fault_point("pool.delete.done")?;
        self.tell(pool_lifecycle::DELETED);
        Ok(())
    }

    /// Forgets its definition. Error: code 55 when it runs.
    pub async fn undefine(&self) -> Result<()> {
        let mut change = self.change().await?;
        self.not_active(&change)?;
        self.no_jobs()?;
        change.undefine().await?;
        self.forget_raw().await;
        self.tell(pool_lifecycle::UNDEFINED);
        Ok(())
    }

    fn not_active(&self, change: &Change<PoolKind>) -> Result<()> {
        if !change.state().active() {
            return Ok(());
        }
        Err(Error::invalid_state(format!("storage pool '{}' is still active", self.name())))
    }

    /// Whether it is started with the daemon. Error: code 1 for a transient pool.
    pub async fn set_autostart(&self, on: bool) -> Result<()> {
        let mut change = self.change().await?;
        if !change.state().persistent() {
            return Err(Error::internal("pool has no config file"));
        }
        change.set_autostart(on).await
    }

    /// Looks at all its volumes again. When its storage is gone it is stopped. Errors: code 55 when it does not run, 1
    /// while jobs run; those of its type.
    pub async fn refresh(&self) -> Result<()> {
        let mut change = self.change().await?;
        let run = change.state().run.clone().ok_or_else(|| self.inactive())?;
        self.no_jobs()?;
        match self.look(&run.def, &run.live.raw).await {
            Ok(found) => {
                let live = self.taken_in(&run.live, found).await;
                change.started(change.run(run.def, live)).await?;
                self.context().emit(HostEvent::PoolRefresh { pool: self.named() });
                Ok(())
            }
            Err(error) => {
                // A mount that is in the way would hide what is below it for ever.
                if let Err(also) = self.stop_storage(&run.def).await {
                    tracing::warn!(pool = self.name(), error = %also, "a pool that cannot be refreshed cannot be stopped");
                    return Err(error);
                }
                self.ended(&mut change).await?;
                self.tell(pool_lifecycle::STOPPED);
                Err(error)
            }
        }
    }

    /// What a refresh found, as the new live state; what is wrong with single volumes is logged.
    pub(super) async fn taken_in(&self, former: &PoolLive, found: Refreshed) -> PoolLive {
        for (name, error) in &found.problems {
            tracing::warn!(pool = self.name(), volume = %crate::types::text::printable(name, 255), %error, "damaged volume");
        }
        if found.raw != *former.raw {
            self.keep_raw(&found.raw).await;
        }
        let known = |(name, mut volume): (String, VolumeDef)| {
            if let Some(former) = former.volumes.get(&name) {
                volume.keep_secrets(former);
            }
            (name, Arc::new(volume))
        };
        let volumes = found.volumes.into_iter().map(known).collect();
        PoolLive {
            starting: false,
            was_up: former.was_up,
            usage: found.usage,
            permissions: found.permissions,
            volumes: Arc::new(volumes),
            raw: Arc::new(found.raw),
            jobs: former.jobs.clone(),
        }
    }

    /// What the last refresh of any run remembered.
    pub(super) async fn known_raw(&self) -> KnownRaw {
        let (uuid, store) = (self.uuid(), self.context().store.clone());
        let Some(store) = store else { return KnownRaw::new() };
        let read = move || {
            let records = store.statuses(RAW)?;
            let mine = records.into_iter().find(|stored| stored.uuid == uuid);
            Ok(mine.and_then(|stored| serde_json::from_slice(&stored.bytes).ok()).unwrap_or_default())
        };
        crate::engine::cleanup::run_blocking(read).await.unwrap_or_else(|error| {
            tracing::warn!(pool = self.name(), %error, "cannot read which volumes were raw");
            KnownRaw::new()
        })
    }

    pub(super) async fn keep_raw(&self, raw: &KnownRaw) {
        let (uuid, Some(store)) = (self.uuid(), self.context().store.clone()) else { return };
        let Ok(json) = serde_json::to_vec(raw) else { return };
        let write = move || store.put_status(RAW, uuid, &json, Durability::Host);
        if let Err(error) = crate::engine::cleanup::run_blocking(write).await {
            tracing::warn!(pool = self.name(), %error, "cannot note which volumes are raw");
        }
    }

    /// It runs no longer. What was known of the volumes of a transient pool, which is gone then, goes with it.
    pub(super) async fn ended(&self, change: &mut Change<PoolKind>) -> Result<()> {
        let transient = !change.state().persistent();
        change.stopped().await?;
        if transient {
            self.forget_raw().await;
        }
        Ok(())
    }

    async fn forget_raw(&self) {
        let (uuid, Some(store)) = (self.uuid(), self.context().store.clone()) else { return };
        if let Err(error) = crate::engine::cleanup::run_blocking(move || store.remove_status(RAW, uuid)).await {
            tracing::warn!(pool = self.name(), %error, "cannot forget which volumes were raw");
        }
    }
}

/// Error: code 55 for a file system on a pool that has no device.
async fn build(pool: &StoragePool, def: &PoolDef, format: Format) -> Result<()> {
    if !pool.in_memory() {
        supported(def)?;
    }
    if format != Format::Keep && matches!(def.kind, PoolType::Dir | PoolType::Netfs) {
        let what = format!("No source device specified when formatting pool '{}'", def.name);
        return Err(Error::invalid_state(what));
    }
    fault_point("pool.build.begun")?;
    pool.build_storage(def, format).await?;
    fault_point("pool.build.done")
}

async fn start(change: &mut Change<PoolKind>, def: Arc<PoolDef>, mode: BuildMode) -> Result<()> {
    let pool = change.handle().clone();
    if !pool.in_memory() {
        supported(&def)?;
    }
    if let Some(format) = mode {
        build(&pool, &def, format).await?;
        pool.tell(pool_lifecycle::CREATED);
    }
    let was_up = pool.storage_is_up(&def)?;
    let starting = PoolLive { starting: true, was_up, ..PoolLive::default() };
    change.prepare(&change.run(def.clone(), starting.clone())).await?;
    match bring_up(&pool, &def, &starting).await {
        Ok(live) => {
            change.started(change.run(def, live)).await?;
            // Whoever asks again from here on finds it running.
            fault_point("pool.start.running")?;
            pool.tell(pool_lifecycle::STARTED);
            Ok(())
        }
        Err(error) => {
            if !was_up && let Err(also) = pool.stop_storage(&def).await {
                tracing::warn!(pool = pool.name(), error = %also, "a pool whose start failed cannot be stopped");
                // Its record stays: the next start of the daemon tries again.
                return Err(error);
            }
            change.stopped().await?;
            Err(error)
        }
    }
}

async fn bring_up(pool: &StoragePool, def: &PoolDef, starting: &PoolLive) -> Result<PoolLive> {
    fault_point("pool.start.prepared")?;
    pool.start_storage(def).await?;
    fault_point("pool.start.up")?;
    let known = pool.known_raw().await;
    let found = pool.look(def, &known).await?;
    fault_point("pool.start.refreshed")?;
    let starting = PoolLive { raw: Arc::new(known), ..starting.clone() };
    Ok(pool.taken_in(&starting, found).await)
}
