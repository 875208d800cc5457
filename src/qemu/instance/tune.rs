//! Limits of a running QEMU: its cgroup's, the balloon, and where its threads may run.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::{QUICK_DEADLINE, QemuInstance, lock};
use crate::domain_xml::DomainDef;
use crate::domain_xml::model::{CrashAction, LifecycleAction};
use crate::domain_xml::tune::IoThread;
use crate::engine::driver::{Tune, VcpuInfo};
use crate::engine::limits;
use crate::error::{Code, Error, Result};
use crate::qemu::launch::{iothreads, pin, throttle};
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

/// Host CPUs a thread may use; none when it is gone.
fn affinity(thread: i32) -> Vec<u32> {
    let Ok(set) = rustix::thread::sched_getaffinity(rustix::thread::Pid::from_raw(thread)) else { return Vec::new() };
    let count = u32::try_from(rustix::thread::CpuSet::MAX_CPU).unwrap_or(0);
    (0..count).filter(|cpu| set.is_set(*cpu as usize)).collect()
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
            Tune::MemoryPeriod(seconds) => self.set_memory_period(*seconds).await,
            Tune::DiskLimits(target) => self.set_disk_limits(live, target).await,
            Tune::IoThread { id, add } => self.change_iothread(*id, *add).await,
            Tune::PinIoThread { id, cpus } => {
                let all = iothreads(&self.qmp()?).await?;
                let thread = all.iter().find(|(number, _)| number == id).map(|(_, thread)| *thread);
                let missing = || Error::invalid_arg(format!("iothread {id} not found"));
                pin(thread.ok_or_else(missing)?, cpus, &format!("iothread {id}"))
            }
            Tune::IoThreadLimits { former } => self.set_iothread(live, former).await,
            Tune::Perf(events) => match events.iter().find(|(_, on)| *on) {
                Some((event, _)) => Err(Error::new(
                    Code::ArgumentUnsupported,
                    format!("unable to enable host cpu perf event for {event}: no events are counted for guests"),
                )),
                None => Ok(()),
            },
            Tune::Vcpus(_) | Tune::VcpuStates => Err(Error::no_support(tune.function())),
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

    async fn set_memory_period(&self, seconds: u32) -> Result<()> {
        let Some(alias) = &self.facts.balloon else {
            return Err(Error::invalid_state("No memory balloon device configured, can not set the collection period"));
        };
        let path = format!("/machine/peripheral/{alias}");
        let arguments = json!({"path": path, "property": "guest-stats-polling-interval", "value": seconds});
        self.qmp()?.execute_raw("qom-set", arguments, QUICK_DEADLINE).await?;
        self.tells_memory.store(seconds > 0, Ordering::Relaxed);
        Ok(())
    }

    /// What the definition says of this disk; nothing there takes its limits away.
    async fn set_disk_limits(&self, live: &DomainDef, target: &str) -> Result<()> {
        let Some(disk) = live.disks.iter().find(|disk| disk.dev() == target) else {
            return Err(Error::invalid_arg(format!("invalid path: {target}")));
        };
        if disk.source.is_empty() {
            return Err(Error::invalid_state(format!("there is nothing in disk '{target}' to be limited")));
        }
        let arguments = throttle(disk, &disk.iotune.as_deref().cloned().unwrap_or_default());
        self.qmp()?.execute_raw("block_set_io_throttle", arguments, QUICK_DEADLINE).await.map(drop)
    }

    async fn change_iothread(&self, id: u32, add: bool) -> Result<()> {
        let name = format!("iothread{id}");
        let (command, arguments) = match add {
            true => ("object-add", json!({ "qom-type": "iothread", "id": name })),
            false => ("object-del", json!({ "id": name })),
        };
        self.qmp()?.execute_raw(command, arguments, QUICK_DEADLINE).await.map(drop)
    }

    /// Tells QEMU what of a thread's definition is another than `former`.
    async fn set_iothread(&self, live: &DomainDef, former: &IoThread) -> Result<()> {
        let Some(new) = live.iothread_ids.iter().find(|thread| thread.id == former.id) else { return Ok(()) };
        let (poll, before) = (new.poll.clone().unwrap_or_default(), former.poll.clone().unwrap_or_default());
        let pool = |thread: &IoThread| (thread.thread_pool_min.map(u64::from), thread.thread_pool_max.map(u64::from));
        let ((min, max), (old_min, old_max)) = (pool(new), pool(former));
        let mut changes = vec![
            ("poll-max-ns", poll.max, before.max),
            ("poll-grow", poll.grow, before.grow),
            ("poll-shrink", poll.shrink, before.shrink),
            ("thread-pool-max", max, old_max),
            ("thread-pool-min", min, old_min),
        ];
        // QEMU refuses a smallest number above the greatest at any moment.
        if max < old_min.or(Some(0)) {
            changes.swap(3, 4);
        }
        let (qmp, path) = (self.qmp()?, format!("/objects/iothread{}", new.id));
        for (property, value, before) in changes {
            if let Some(value) = value.filter(|value| Some(*value) != before) {
                let arguments = json!({ "path": path, "property": property, "value": value });
                qmp.execute_raw("qom-set", arguments, QUICK_DEADLINE).await?;
            }
        }
        Ok(())
    }

    /// See `Instance::iothreads`.
    pub(super) async fn iothread_infos(&self) -> Result<Vec<(u32, Vec<u32>)>> {
        let all = iothreads(&self.qmp()?).await?;
        Ok(all.into_iter().map(|(id, thread)| (id, affinity(thread))).collect())
    }

    /// `virDomainGetVcpus`.
    pub(super) fn vcpu_infos(&self) -> Vec<VcpuInfo> {
        let threads = lock(&self.vcpu_threads).clone();
        let one = |(number, thread): (u32, i32)| {
            let stat = procstat::thread(self.process.pid(), thread)?;
            let affinity = affinity(thread);
            Some(VcpuInfo { number, state: 1, cpu_time: stat.cpu_ns(), cpu: stat.processor, affinity })
        };
        (0u32..).zip(threads).filter_map(one).collect()
    }
}
