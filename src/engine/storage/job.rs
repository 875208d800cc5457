//! Long work on volumes of a pool: while there is any, the pool stays as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::StoragePool;
use crate::error::{Error, Result};

/// A job; it ends when this is dropped. While it lives the pool is not refreshed, stopped or undefined.
#[derive(Debug)]
pub struct PoolJob(Arc<AtomicUsize>);

impl StoragePool {
    /// Begins a job. Error: code 55 when the pool does not run.
    pub async fn begin_job(&self) -> Result<PoolJob> {
        // Whoever stops or refreshes the pool holds this from its look at the jobs to its end.
        let _change = self.change().await?;
        let jobs = self.live()?.jobs.clone();
        jobs.fetch_add(1, Ordering::AcqRel);
        Ok(PoolJob(jobs))
    }

    /// Refuses while jobs run. Error: code 1 with libvirt's text.
    pub(super) fn no_jobs(&self) -> Result<()> {
        match self.live() {
            Ok(live) if live.jobs.load(Ordering::Acquire) > 0 => {
                Err(Error::internal(format!("pool '{}' has asynchronous jobs running.", self.name())))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for PoolJob {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
