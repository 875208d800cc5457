//! One simulated guest.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::Behaviour;
use super::agent::MockAgent;
use crate::domain_xml::snapshot::SnapshotDef;
use crate::domain_xml::{Device, DomainDef};
use crate::engine::control::{AgentAnswer, AgentCommand, Control};
use crate::engine::driver::{Instance, InstanceEvent, InstanceInfo, Tune, UndoLog, VcpuInfo};
use crate::engine::state::{Phase, paused, running};
use crate::error::{Error, Result};
use crate::types::TypedParams;
use crate::types::flags::stats;

/// `VIR_VCPU_RUNNING`.
const VCPU_RUNNING: i32 = 1;

/// See the module's text.
#[derive(Debug)]
pub(super) struct MockInstance {
    def: DomainDef,
    behaviour: Behaviour,
    events: mpsc::UnboundedSender<InstanceEvent>,
    state: Mutex<GuestClock>,
    /// Balloon size, KiB.
    memory: AtomicU64,
    vcpus: AtomicU32,
    agent: MockAgent,
}

/// CPU time runs while the guest does.
#[derive(Debug)]
struct GuestClock {
    running_since: Option<Instant>,
    used: std::time::Duration,
}

impl MockInstance {
    pub(super) fn new(
        def: DomainDef,
        behaviour: Behaviour,
        phase: Phase,
    ) -> (Self, mpsc::UnboundedReceiver<InstanceEvent>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let clock =
            GuestClock { running_since: (phase == Phase::Running).then(Instant::now), used: std::time::Duration::ZERO };
        let memory = AtomicU64::new(def.memory.current.unwrap_or(def.memory.size));
        let vcpus = AtomicU32::new(def.vcpu.current.unwrap_or(def.vcpu.max));
        (
            MockInstance {
                def,
                behaviour,
                events,
                state: Mutex::new(clock),
                memory,
                vcpus,
                agent: MockAgent::default(),
            },
            receiver,
        )
    }

    fn tell(&self, event: InstanceEvent) {
        // Nobody listens any more once the domain is gone.
        let _ = self.events.send(event);
    }

    async fn obey(&self) {
        if self.behaviour.control_hangs {
            std::future::pending::<()>().await;
        }
    }

    fn run(&self, on: bool) {
        let mut clock = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (on, clock.running_since) {
            (true, None) => clock.running_since = Some(Instant::now()),
            (false, Some(since)) => {
                clock.used += since.elapsed();
                clock.running_since = None;
            }
            _ => {}
        }
    }

    /// Balloon size, KiB.
    fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Memory the guest would have of the host, KiB.
    fn resident(&self) -> u64 {
        self.def.memory.size
    }

    fn cpu_time(&self) -> u64 {
        let clock = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let used = clock.used + clock.running_since.map(|since| since.elapsed()).unwrap_or_default();
        u64::try_from(used.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[async_trait]
impl Instance for MockInstance {
    async fn pause(&self) -> Result<()> {
        self.obey().await;
        self.run(false);
        self.tell(InstanceEvent::State { phase: Phase::Paused, reason: paused::USER });
        Ok(())
    }

    async fn resume(&self) -> Result<()> {
        self.obey().await;
        self.run(true);
        self.tell(InstanceEvent::State { phase: Phase::Running, reason: running::UNPAUSED });
        Ok(())
    }

    async fn shutdown(&self, _flags: u32) -> Result<()> {
        self.obey().await;
        if !self.behaviour.ignores_shutdown {
            self.run(false);
        }
        Ok(())
    }

    fn obeys_at_once(&self) -> bool {
        !self.behaviour.ignores_shutdown
    }

    async fn reboot(&self, _flags: u32) -> Result<()> {
        self.reset().await
    }

    async fn reset(&self) -> Result<()> {
        self.obey().await;
        self.tell(InstanceEvent::Reset { by_guest: false });
        Ok(())
    }

    async fn kill(&self, _graceful: bool) -> Result<()> {
        self.run(false);
        Ok(())
    }

    fn info(&self) -> InstanceInfo {
        InstanceInfo { memory: Some(self.memory()), cpu_time: self.cpu_time() }
    }

    async fn stats(&self, groups: u32, _nowait: bool) -> TypedParams {
        let mut params = TypedParams::new();
        if groups & stats::CPU_TOTAL != 0 {
            params.ullong("cpu.time", self.cpu_time());
        }
        if groups & stats::BALLOON != 0 {
            params.ullong("balloon.current", self.memory());
            params.ullong("balloon.maximum", self.def.memory.size);
            params.ullong("balloon.rss", self.resident());
        }
        if groups & stats::VCPU != 0 {
            let count = self.vcpus.load(Ordering::Relaxed);
            params.uint("vcpu.current", count);
            params.uint("vcpu.maximum", self.def.vcpu.max);
            for vcpu in 0..count {
                params.int(format!("vcpu.{vcpu}.state"), VCPU_RUNNING);
                params.ullong(format!("vcpu.{vcpu}.time"), self.cpu_time());
            }
        }
        params
    }

    async fn memory_stats(&self) -> Result<Vec<(i32, u64)>> {
        // VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON, _RSS
        Ok(vec![(6, self.memory()), (7, self.resident())])
    }

    async fn open_console(&self, _device: Option<&str>, _force: bool) -> Result<OwnedFd> {
        Err(Error::no_support("virDomainOpenConsole"))
    }

    fn pid(&self) -> Option<i32> {
        None
    }

    async fn attach(&self, live: &DomainDef, mut device: Device, _undo: &dyn UndoLog) -> Result<Device> {
        self.obey().await;
        if let Device::Interface(nic) = &mut device {
            nic.info.alias.get_or_insert_with(|| format!("net{}", live.interfaces.len()));
        }
        Ok(device)
    }

    async fn detach(&self, _live: &DomainDef, _device: &Device) -> Result<()> {
        self.obey().await;
        Ok(())
    }

    async fn update(&self, _live: &DomainDef, _old: &Device, new: Device) -> Result<Device> {
        self.obey().await;
        Ok(new)
    }

    async fn tune(&self, _live: &DomainDef, tune: &Tune) -> Result<()> {
        self.obey().await;
        match tune {
            Tune::Memory(kib) => self.memory.store(*kib, Ordering::Relaxed),
            Tune::Vcpus(count) => self.vcpus.store(*count, Ordering::Relaxed),
            // What is only in the definition of a guest that exists in memory only.
            _ => {}
        }
        Ok(())
    }

    async fn agent(&self, command: AgentCommand) -> Result<Option<AgentAnswer>> {
        self.obey().await;
        let answer = self.agent.answer(&command, self.vcpus.load(Ordering::Relaxed), &self.def.name);
        // 0: whoever asked waits for no answer.
        Ok(Some(answer).filter(|_| command.timeout != Some(0)))
    }

    fn set_agent_timeout(&self, _seconds: i32) -> Result<()> {
        Ok(())
    }

    async fn control(&self, _live: &DomainDef, control: &Control) -> Result<()> {
        self.obey().await;
        match control {
            Control::InjectNmi | Control::SendKeys { .. } | Control::ResizeDisk { .. } => Ok(()),
            _ => Err(Error::no_support(control.function())),
        }
    }

    async fn disk_errors(&self) -> Result<Vec<(String, i32)>> {
        // As libvirt's test driver: unspecified, no space, and so on in turn.
        let targets = self.def.disks.iter().filter_map(|disk| disk.target.dev.clone());
        Ok(targets.zip([1, 2].into_iter().cycle()).collect())
    }

    async fn take_snapshot(&self, _snapshot: &SnapshotDef) -> Result<()> {
        self.obey().await;
        Ok(())
    }

    async fn save(&self) -> Result<()> {
        self.obey().await;
        Ok(())
    }

    async fn vcpus(&self) -> Result<Vec<VcpuInfo>> {
        let count = self.vcpus.load(Ordering::Relaxed);
        let (cpu_time, hosts) = (self.cpu_time(), std::thread::available_parallelism().map_or(1, usize::from));
        let affinity: Vec<u32> = (0u32..).take(hosts).collect();
        let one = |number| VcpuInfo { number, state: VCPU_RUNNING, cpu_time, cpu: 0, affinity: affinity.clone() };
        Ok((0..count).map(one).collect())
    }
}
