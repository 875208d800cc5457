//! Limits of a running QEMU: its cgroup's, the balloon, and where its threads may run.

use serde_json::json;

use super::{QUICK_DEADLINE, QemuInstance, lock};
use crate::domain_xml::DomainDef;
use crate::domain_xml::model::{CrashAction, LifecycleAction};
use crate::engine::driver::{Tune, VcpuInfo};
use crate::engine::limits;
use crate::error::{Error, Result};
use crate::qemu::launch::pin;
use crate::qemu::procstat;

/// What the definition says of each end of the guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub on_poweroff: LifecycleAction,
    pub on_crash: CrashAction,
}

impl Ends {
    pub fn of(def: &DomainDef) -> Ends {
        Ends {
            on_poweroff: def.on_poweroff.unwrap_or(LifecycleAction::Destroy),
            on_crash: def.on_crash.unwrap_or(CrashAction::Destroy),
        }
    }
}

impl QemuInstance {
    /// Applies a change; see `Instance::tune`.
    pub(super) async fn set_limit(&self, live: &DomainDef, tune: &Tune) -> Result<()> {
        match tune {
            Tune::Memory(kib) => self.set_balloon_target(*kib).await,
            Tune::PinVcpu { vcpu, cpus } => {
                let threads = lock(&self.vcpu_threads).clone();
                let thread = usize::try_from(*vcpu).ok().and_then(|number| threads.get(number));
                let Some(thread) = thread else {
                    return Err(Error::invalid_state("cpu affinity is not supported"));
                };
                pin(*thread, cpus, &format!("vcpu {vcpu}"))
            }
            Tune::PinEmulator { cpus } => {
                let vcpus = lock(&self.vcpu_threads).clone();
                // Every thread that is no virtual CPU: QEMU makes more of them while it runs, from ones bound here.
                for thread in procstat::threads(self.process.pid()).into_iter().filter(|id| !vcpus.contains(id)) {
                    pin(thread, cpus, "the emulator")?;
                }
                Ok(())
            }
            Tune::Lifecycle => self.set_lifecycle(live).await,
            Tune::Vcpus(_) => Err(Error::no_support(tune.function())),
            Tune::MemoryLimits { .. } | Tune::Cpu { .. } | Tune::Blkio { .. } | Tune::Nodeset(_) => {
                let (manager, path) = (self.cgroups.clone(), self.group().path().to_string());
                let vcpus = live.vcpu.current.unwrap_or(live.vcpu.max);
                let (live, tune) = (live.clone(), tune.clone());
                let work = move || limits::apply(&manager, &path, &live, &tune, vcpus);
                let group = tokio::task::spawn_blocking(work)
                    .await
                    .map_err(|error| Error::internal("a worker thread panicked").with_source(error))??;
                self.set_group(group);
                Ok(())
            }
        }
    }

    /// QEMU itself ends or resets a guest that reboots; the other ends are answered by the watcher.
    async fn set_lifecycle(&self, live: &DomainDef) -> Result<()> {
        let reboot = if live.on_reboot == Some(LifecycleAction::Destroy) { "shutdown" } else { "reset" };
        self.qmp()?.execute_value("set-action", json!({ "reboot": reboot }), QUICK_DEADLINE).await?;
        *lock(&self.ends) = Ends::of(live);
        Ok(())
    }

    /// Tells the balloon its target; the guest gets there in its own time, and says so.
    async fn set_balloon_target(&self, kib: u64) -> Result<()> {
        if self.facts.balloon.is_none() {
            return Err(Error::invalid_state(
                "Unable to change memory of active domain without the balloon device and guest OS balloon driver",
            ));
        }
        let bytes = kib.saturating_mul(1024);
        self.qmp()?.execute_value("balloon", json!({ "value": bytes }), QUICK_DEADLINE).await.map(drop)
    }

    /// `virDomainGetVcpus`.
    pub(super) fn vcpu_infos(&self) -> Vec<VcpuInfo> {
        let threads = lock(&self.vcpu_threads).clone();
        let one = |(number, thread): (u32, i32)| {
            let stat = procstat::thread(self.process.pid(), thread)?;
            let affinity = rustix::thread::sched_getaffinity(rustix::thread::Pid::from_raw(thread)).ok();
            let affinity = affinity.map(|set| {
                let count = u32::try_from(rustix::thread::CpuSet::MAX_CPU).unwrap_or(0);
                (0..count).filter(|cpu| set.is_set(*cpu as usize)).collect()
            });
            let affinity = affinity.unwrap_or_default();
            Some(VcpuInfo { number, state: 1, cpu_time: stat.cpu_ns(), cpu: stat.processor, affinity })
        };
        (0u32..).zip(threads).filter_map(one).collect()
    }
}
