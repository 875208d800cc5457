//! Limits of a running container: its cgroup's.

use super::instance::LxcInstance;
use crate::domain_xml::DomainDef;
use crate::engine::driver::Tune;
use crate::engine::limits;
use crate::error::{Error, Result};

impl LxcInstance {
    /// Applies a change; see `Instance::tune`.
    pub(super) async fn set_limit(&self, live: &DomainDef, tune: &Tune) -> Result<()> {
        if matches!(tune, Tune::PinVcpu { .. } | Tune::PinEmulator { .. } | Tune::Vcpus(_)) {
            return Err(Error::no_support(tune.function()));
        }
        let (manager, path) = (self.cgroups.clone(), self.group().path().to_string());
        let (live, tune) = (live.clone(), tune.clone());
        let work = move || limits::apply(&manager, &path, &live, &tune, 1);
        let group = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::internal("a worker thread panicked").with_source(error))??;
        self.set_group(group);
        Ok(())
    }
}
