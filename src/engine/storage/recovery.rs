//! After a start of the daemon: pools that ran run on, a half-made start is taken back.

use std::sync::Arc;

use super::lifecycle::RAW;
use super::{PoolKind, PoolLive, StoragePool, memory};
use crate::engine::event::HostSet;
use crate::engine::host::HostObjects;
use crate::engine::objects::{Objects, Run};
use crate::error::{Error, Result};

/// Finds out what of the loaded records is true. Failures are logged.
pub(in crate::engine) async fn recover(host: &HostObjects) -> Result<()> {
    if host.context.set == HostSet::Test {
        return memory::add_default(&host.pools).await;
    }
    if let Some(store) = host.context.store.clone() {
        crate::engine::cleanup::run_blocking(move || {
            store.prepare(RAW)?;
            // The store removes only what it has seen.
            store.statuses(RAW).map(drop)
        })
        .await?;
    }
    for pool in host.pools.all() {
        if let Some(run) = pool.state().run.clone()
            && let Err(error) = recover_one(&pool, run).await
        {
            tracing::warn!(pool = pool.name(), %error, "the pool does not run on");
        }
    }
    Ok(())
}

async fn recover_one(pool: &StoragePool, run: Run<PoolKind>) -> Result<()> {
    let mut change = pool.change().await?;
    // After a reboot nothing of a run is left, and what is mounted was mounted by somebody else.
    if run.boot_id != pool.context().boot_id {
        return pool.ended(&mut change).await;
    }
    if run.live.starting {
        if !run.live.was_up {
            pool.stop_storage(&run.def).await?;
        }
        return pool.ended(&mut change).await;
    }
    let looked = match pool.storage_is_up(&run.def) {
        Ok(true) => {
            let known = pool.known_raw().await;
            pool.look(&run.def, &known).await.map(|found| (known, found))
        }
        Ok(false) => Err(Error::invalid_state(format!("the storage of pool '{}' is gone", pool.name()))),
        Err(error) => Err(error),
    };
    match looked {
        Ok((known, found)) => {
            let former = PoolLive { raw: Arc::new(known), ..PoolLive::clone(&run.live) };
            let live = pool.taken_in(&former, found).await;
            change.started(change.run(run.def, live)).await
        }
        Err(error) => {
            pool.ended(&mut change).await?;
            Err(error)
        }
    }
}

/// Starts the pools that are marked for it. Failures are logged; one does not keep another from starting.
pub(in crate::engine) async fn autostart(pools: &Arc<Objects<PoolKind>>) {
    for pool in pools.all() {
        let state = pool.state();
        if state.autostart
            && !state.active()
            && let Err(error) = pool.start(None).await
        {
            tracing::error!(pool = pool.name(), %error, "autostart failed");
        }
    }
}
