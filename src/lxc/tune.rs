//! Limits of a running container: its cgroup's.

use std::sync::PoisonError;

use super::instance::LxcInstance;
use super::protocol::Call;
use crate::domain_xml::DomainDef;
use crate::domain_xml::model::{CrashAction, LifecycleAction};
use crate::engine::driver::Tune;
use crate::engine::limits;
use crate::error::{Error, Result};

impl LxcInstance {
    /// Applies a change; see `Instance::tune`.
    pub(super) async fn set_limit(&self, live: &DomainDef, tune: &Tune) -> Result<()> {
        if matches!(tune, Tune::PinVcpu { .. } | Tune::PinEmulator { .. } | Tune::Vcpus(_)) {
            return Err(Error::no_support(tune.function()));
        }
        if matches!(tune, Tune::Lifecycle) {
            return self.set_restarts(live).await;
        }
        let (manager, path) = (self.shared.cgroups.clone(), self.group().path().to_string());
        let (live, tune) = (live.clone(), tune.clone());
        let work = move || limits::apply(&manager, &path, &live, &tune, 1);
        let group = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::internal("a worker thread panicked").with_source(error))??;
        self.set_group(group);
        Ok(())
    }

    /// Tells the supervisor after which ends init is to run again.
    async fn set_restarts(&self, live: &DomainDef) -> Result<()> {
        let restarts = Restarts::of(live);
        self.client.call(restarts.call()).await?;
        *self.restarts.lock().unwrap_or_else(PoisonError::into_inner) = restarts;
        Ok(())
    }
}

/// After which ends init runs again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Restarts {
    pub poweroff: bool,
    pub reboot: bool,
    pub crash: bool,
}

impl Restarts {
    /// What a definition says.
    pub fn of(def: &DomainDef) -> Restarts {
        Restarts {
            poweroff: def.on_poweroff == Some(LifecycleAction::Restart),
            reboot: matches!(def.on_reboot, None | Some(LifecycleAction::Restart)),
            crash: def.on_crash == Some(CrashAction::Restart),
        }
    }

    /// As the supervisor is told.
    pub fn call(self) -> Call {
        Call::Lifecycle { poweroff: self.poweroff, reboot: self.reboot, crash: self.crash }
    }
}
