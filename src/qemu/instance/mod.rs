//! A running guest: the operations on it, and what it tells.
//!
//! ```text
//! QMP events --+                       +--> InstanceEvent (to the domain's task)
//!              +--> watch (one task) --+
//! pidfd end ---+                       +--> Ended, always last
//! ```
//!
//! Owns the QMP connection and the pidfd. Never holds the domain's state: it reports, the domain's task decides. Every
//! wait has a deadline; what must not wait (numbers for statistics) falls back to the last known values.

mod agent;
mod balloon;
mod blocks;
mod console;
mod control;
mod facts;
mod stats;
mod tune;
mod watch;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::qemu::process::{SIGKILL, SIGTERM};
use async_trait::async_trait;
use serde_json::Value;

use super::launch::PortGuard;
use super::process::GuestProcess;
use super::qmp::Qmp;
use crate::cgroup::{Group, Manager, Settings};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{Channel, CharKind, Graphics};
use crate::engine::control::{AgentAnswer, AgentCommand, Control};
use crate::engine::driver::{Instance, InstanceInfo, Tune, VcpuInfo};
use crate::error::{Code, Error, Result};
use crate::sys::sock;
use crate::types::{TypedParams, flags};
use tune::Ends;

pub use facts::{GuestFacts, facts};
pub(super) use watch::{tail as log_tail, watch};

/// A command that changes the guest's run state may take this long: QEMU flushes disks before it answers.
const RUN_STATE_DEADLINE: Duration = Duration::from_secs(30);
/// A command that QEMU answers at once.
const QUICK_DEADLINE: Duration = Duration::from_secs(5);
/// libvirt's grace for SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(10);
/// A killed process that is still there then hangs in the kernel.
const KILL_GRACE: Duration = Duration::from_secs(30);

/// Last known values of what only QEMU can say.
#[derive(Debug, Default)]
struct LastKnown {
    blocks: Vec<Option<blocks::BlockNumbers>>,
    memory: Option<balloon::GuestMemory>,
}

/// A running QEMU.
#[derive(Debug)]
pub struct QemuInstance {
    facts: GuestFacts,
    process: GuestProcess,
    /// `None` until a re-attach has connected.
    qmp: RwLock<Option<Qmp>>,
    /// Threads of the virtual CPUs, by number.
    vcpu_threads: Mutex<Vec<i32>>,
    /// KiB.
    balloon: AtomicU64,
    last: Mutex<LastKnown>,
    /// A reboot was asked for: the next power-off of the guest becomes a reset.
    fake_reboot: AtomicBool,
    /// `kill` was called: the end is expected.
    doomed: AtomicBool,
    /// Why the next STOP comes, when an event before it said so (`paused` reason number; 0 = unknown).
    next_stop_reason: AtomicU64,
    log: Option<PathBuf>,
    /// Held until the instance is gone.
    _ports: Vec<PortGuard>,
    /// Replaced when it gets another controller.
    group: Mutex<Group>,
    cgroups: Arc<Manager>,
    ends: Mutex<Ends>,
    consoles: console::Sessions,
    agent: agent::Slot,
    run_dir: Option<PathBuf>,
    /// The guest says from time to time what memory it uses.
    tells_memory: AtomicBool,
}

/// What makes an instance.
#[derive(Debug)]
pub struct NewInstance {
    pub facts: GuestFacts,
    pub process: GuestProcess,
    pub qmp: Option<Qmp>,
    pub vcpu_threads: Vec<i32>,
    /// KiB.
    pub balloon: u64,
    /// QEMU's log, read when it ends unexpectedly.
    pub log: Option<PathBuf>,
    /// Display ports of this run.
    pub ports: Vec<PortGuard>,
    /// Its cgroup; may be empty.
    pub group: Group,
    pub cgroups: Arc<Manager>,
    /// Of this run alone.
    pub run_dir: Option<PathBuf>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl QemuInstance {
    pub fn new(new: NewInstance) -> Arc<Self> {
        Arc::new(QemuInstance {
            ends: Mutex::new(new.facts.ends.unwrap_or_else(|| Ends::of(&DomainDef::default()))),
            consoles: console::Sessions::default(),
            agent: agent::Slot::default(),
            run_dir: new.run_dir,
            tells_memory: AtomicBool::new(new.facts.balloon_stats),
            facts: new.facts,
            process: new.process,
            qmp: RwLock::new(new.qmp),
            vcpu_threads: Mutex::new(new.vcpu_threads),
            balloon: AtomicU64::new(new.balloon),
            last: Mutex::default(),
            fake_reboot: AtomicBool::new(false),
            doomed: AtomicBool::new(false),
            next_stop_reason: AtomicU64::new(0),
            log: new.log,
            _ports: new.ports,
            group: Mutex::new(new.group),
            cgroups: new.cgroups,
        })
    }

    /// The monitor; an error while a re-attach still waits for QEMU.
    pub(super) fn qmp(&self) -> Result<Qmp> {
        let qmp = self.qmp.read().unwrap_or_else(PoisonError::into_inner).clone();
        qmp.ok_or_else(|| {
            Error::new(Code::OperationTimeout, "QEMU has not answered on its monitor since the daemon was restarted")
        })
    }

    /// Returns when the process is gone.
    pub(super) async fn gone(&self) {
        self.process.wait().await;
    }

    pub(super) fn set_qmp(&self, qmp: Qmp) {
        *self.qmp.write().unwrap_or_else(PoisonError::into_inner) = Some(qmp);
    }

    pub(super) fn set_vcpu_threads(&self, threads: Vec<i32>) {
        *lock(&self.vcpu_threads) = threads;
    }

    pub(super) fn set_balloon(&self, kib: u64) {
        self.balloon.store(kib, Ordering::Relaxed);
    }

    fn group(&self) -> Group {
        lock(&self.group).clone()
    }

    fn set_group(&self, group: Group) {
        *lock(&self.group) = group;
    }

    async fn command(&self, name: &str, deadline: Duration) -> Result<()> {
        self.qmp()?.execute_raw(name, Value::Null, deadline).await.map(drop)
    }

    /// Asks QEMU for the power button.
    async fn power_button(&self) -> Result<()> {
        self.command("system_powerdown", QUICK_DEADLINE).await
    }
}

#[async_trait]
impl Instance for QemuInstance {
    async fn pause(&self) -> Result<()> {
        self.next_stop_reason.store(crate::engine::state::paused::USER as u64, Ordering::Relaxed);
        self.command("stop", RUN_STATE_DEADLINE).await
    }

    async fn resume(&self) -> Result<()> {
        self.command("cont", RUN_STATE_DEADLINE).await
    }

    async fn shutdown(&self, given: u32) -> Result<()> {
        let (acpi, agent) = (flags::shutdown::ACPI_POWER_BTN, flags::shutdown::GUEST_AGENT);
        flags::check(given, acpi | agent, "qemuDomainShutdownFlags")?;
        self.fake_reboot.store(false, Ordering::Relaxed);
        if given & agent != 0 {
            match self.agent_shutdown("powerdown").await {
                Err(error) if given & acpi == 0 => return Err(error),
                Err(error) => tracing::debug!(%error, "guest agent not usable, pressing the power button"),
                Ok(()) => return Ok(()),
            }
        }
        self.power_button().await
    }

    async fn reboot(&self, given: u32) -> Result<()> {
        let (acpi, agent) = (flags::shutdown::ACPI_POWER_BTN, flags::shutdown::GUEST_AGENT);
        flags::check(given, acpi | agent, "qemuDomainReboot")?;
        if given & agent != 0 {
            match self.agent_shutdown("reboot").await {
                Err(error) if given & acpi == 0 => return Err(error),
                Err(error) => tracing::debug!(%error, "guest agent not usable, pressing the power button"),
                Ok(()) => return Ok(()),
            }
        }
        // ACPI has no reboot button: the guest powers off, QEMU waits (-no-shutdown), and then is reset.
        self.fake_reboot.store(true, Ordering::Relaxed);
        self.power_button().await.inspect_err(|_| self.fake_reboot.store(false, Ordering::Relaxed))
    }

    async fn reset(&self) -> Result<()> {
        self.fake_reboot.store(false, Ordering::Relaxed);
        self.command("system_reset", RUN_STATE_DEADLINE).await
    }

    async fn kill(&self, graceful: bool) -> Result<()> {
        self.doomed.store(true, Ordering::Relaxed);
        if graceful {
            self.process.signal(SIGTERM)?;
            if let Err(error) = self.process.wait_for(TERM_GRACE, "SIGTERM").await {
                self.doomed.store(false, Ordering::Relaxed);
                return Err(error);
            }
        } else {
            crate::qemu::launch::fault_point("stop.kill")?;
            self.process.signal(SIGKILL)?;
            self.process.wait_for(KILL_GRACE, "SIGKILL").await?;
        }
        Ok(())
    }

    fn info(&self) -> InstanceInfo {
        InstanceInfo {
            memory: Some(self.balloon.load(Ordering::Relaxed)),
            cpu_time: self.cpu_times().map(|(total, _, _)| total).unwrap_or_default(),
        }
    }

    async fn stats(&self, groups: u32, nowait: bool) -> TypedParams {
        self.collect_stats(groups, nowait).await
    }

    async fn disk_errors(&self) -> Result<Vec<(String, i32)>> {
        self.failing_disks().await
    }

    async fn memory_stats(&self) -> Result<Vec<(i32, u64)>> {
        let memory = self.guest_memory(QUICK_DEADLINE).await;
        let rss = self.rss_kib();
        Ok(balloon::memory_stats(self.balloon.load(Ordering::Relaxed), memory.as_ref(), rss))
    }

    async fn open_console(&self, device: Option<&str>, force: bool) -> Result<OwnedFd> {
        let name = match device {
            Some(name) => name.to_string(),
            None => match self.facts.consoles.first() {
                Some(name) => name.clone(),
                None => return Err(Error::internal("cannot find default console device")),
            },
        };
        if device.is_some() && !self.facts.consoles.contains(&name) && !self.facts.ptys.contains_key(&name) {
            return Err(Error::invalid_arg(format!("cannot find device {name}")));
        }
        let Some(path) = self.facts.ptys.get(&name) else {
            return Err(Error::internal(format!("character device {name} is not using a PTY")));
        };
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let pty = rustix::fs::open(path.as_str(), flags, Mode::empty())
            .map_err(|errno| Error::system(format!("Unable to open file '{path}'"), errno.into()))?;
        self.consoles.open(&name, pty, force)
    }

    async fn open_channel(&self, channel: &Channel, force: bool) -> Result<OwnedFd> {
        let alias = channel.info.alias.clone().unwrap_or_default();
        if self.facts.agent.as_deref() == Some(alias.as_str()) {
            return Err(Error::invalid_state(format!("channel {alias} is the guest agent's")));
        }
        let end = match &channel.source.kind {
            CharKind::Pty { .. } => return self.open_console(Some(&alias), force).await,
            CharKind::Unix { path: Some(path), listen: true, .. } => sock::connect(path.as_ref())
                .map_err(|error| Error::system(format!("cannot connect to channel '{alias}' at '{path}'"), error))?,
            _ => {
                let what = format!("channel {alias} is not using a UNIX socket");
                return Err(Error::internal(what));
            }
        };
        rustix::io::ioctl_fionbio(&end, true).map_err(|errno| Error::system("cannot use the channel", errno.into()))?;
        self.consoles.open(&alias, end, force)
    }

    fn pid(&self) -> Option<i32> {
        Some(self.process.pid())
    }

    async fn tune(&self, live: &DomainDef, tune: &Tune) -> Result<()> {
        self.set_limit(live, tune).await
    }

    fn settings(&self) -> Settings {
        self.group().settings()
    }

    async fn vcpus(&self) -> Result<Vec<VcpuInfo>> {
        Ok(self.vcpu_infos())
    }

    async fn agent(&self, command: AgentCommand) -> Result<Option<AgentAnswer>> {
        self.ask_agent(command).await
    }

    fn set_agent_timeout(&self, seconds: i32) -> Result<()> {
        self.set_agent_patience(seconds);
        Ok(())
    }

    async fn control(&self, live: &DomainDef, control: &Control) -> Result<()> {
        self.do_control(live, control).await
    }

    async fn peek_memory(&self, virtual_addresses: bool, offset: u64, size: u32) -> Result<Vec<u8>> {
        self.read_memory(virtual_addresses, offset, size).await
    }

    async fn screenshot(&self, live: &DomainDef, screen: u32) -> Result<(String, std::fs::File)> {
        self.picture(live, screen).await
    }

    async fn show_display(&self, display: &Graphics, client: OwnedFd, trusted: bool) -> Result<()> {
        self.add_client(display, client, trusted).await
    }

    async fn dump_memory(&self, file: OwnedFd, format: u32) -> Result<()> {
        self.dump(file, format).await
    }

    async fn monitor_command(&self, command: &str, human: bool, files: Vec<OwnedFd>) -> Result<String> {
        self.monitor(command, human, files).await
    }

    async fn iothreads(&self) -> Result<Vec<(u32, Vec<u32>)>> {
        self.iothread_infos().await
    }
}
