//! A running container: the operations on it, and what it tells.
//!
//! ```text
//! supervisor's events --+                       +--> InstanceEvent (to the domain's task)
//!                       +--> watch (one task) --+
//! end of connection ----+                       +--> Ended, always last
//! ```
//!
//! Pausing is the cgroup freezer's, numbers are the cgroup's, everything else is asked of the supervisor. A supervisor
//! that answers nothing does not keep the container alive: its death is init's.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::client::Client;
use super::driver::Shared;
use super::launch::reason_of;
use super::protocol::{Call, Cause, Event, ExitRecord, Running};
use super::tune::Restarts;
use crate::cgroup::{Group, Settings};
use crate::domain_xml::{Device, DomainDef};
use crate::engine::control::Control;
use crate::engine::driver::{
    Exec, ExecRequest, Instance, InstanceEvent, InstanceInfo, InterfaceAddresses, Tune, UndoLog,
};
use crate::engine::state::{Phase, State, StateReason, paused, running, shutoff};
use crate::error::{Code, Error, Result};
use crate::net::Netlink;
use crate::sys::process::{self, PidFd};
use crate::types::TypedParams;
use crate::types::flags::{shutdown, stats};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// libvirt's grace for SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(10);
/// How long a supervisor may take to end what it was told to end, before it is ended itself.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// What makes an instance.
#[derive(Debug)]
pub struct NewInstance<'a> {
    pub def: &'a DomainDef,
    pub run_id: String,
    pub client: Client,
    pub group: Group,
    pub shared: Arc<Shared>,
    pub supervisor: PidFd,
    pub status: Running,
    pub held: bool,
}

/// A running container.
#[derive(Debug)]
pub struct LxcInstance {
    pub(super) client: Client,
    pub(super) restarts: Mutex<Restarts>,
    /// Replaced when it gets another controller.
    group: Mutex<Group>,
    pub(super) shared: Arc<Shared>,
    supervisor: PidFd,
    /// Init's pid and start time; they change with a reboot.
    init: Mutex<(i32, u64)>,
    init_pid: AtomicI32,
    /// Started paused: init has not run yet.
    held: AtomicBool,
    /// Aliases of the consoles, in order.
    consoles: Vec<String>,
    /// Host ends of the interfaces.
    pub(super) nics: Mutex<Vec<String>>,
    pub(super) run_id: String,
    /// Maximum, KiB.
    memory: u64,
    /// What it may use now, KiB.
    current: AtomicU64,
    vcpus: u32,
    events: mpsc::UnboundedSender<InstanceEvent>,
}

impl LxcInstance {
    /// Makes the instance and the task that watches it.
    pub fn run(
        new: NewInstance<'_>,
        events: mpsc::UnboundedReceiver<Event>,
    ) -> (Arc<LxcInstance>, mpsc::UnboundedReceiver<InstanceEvent>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let alias = |index: usize, alias: &Option<String>| alias.clone().unwrap_or_else(|| format!("console{index}"));
        let def = new.def;
        let consoles = def.consoles.iter().enumerate().map(|(index, console)| alias(index, &console.info.alias));
        let instance = Arc::new(LxcInstance {
            client: new.client,
            restarts: Mutex::new(Restarts::of(def)),
            group: Mutex::new(new.group),
            shared: new.shared,
            supervisor: new.supervisor,
            init: Mutex::new((new.status.init, new.status.init_start)),
            init_pid: AtomicI32::new(new.status.init),
            held: AtomicBool::new(new.held),
            consoles: consoles.collect(),
            nics: Mutex::new(def.interfaces.iter().filter_map(|interface| interface.target.dev.clone()).collect()),
            run_id: new.run_id,
            memory: def.memory.size,
            current: AtomicU64::new(def.memory.current.unwrap_or(def.memory.size)),
            vcpus: def.vcpu.current.unwrap_or(def.vcpu.max).max(1),
            events: sender,
        });
        tokio::spawn(watch(instance.clone(), events));
        (instance, receiver)
    }

    fn tell(&self, event: InstanceEvent) {
        // Nobody listens any more once the domain is gone.
        let _ = self.events.send(event);
    }

    /// Init's pid and start time.
    pub(super) fn init(&self) -> (i32, u64) {
        *self.init.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn group(&self) -> Group {
        self.group.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_group(&self, group: Group) {
        *self.group.lock().unwrap_or_else(PoisonError::into_inner) = group;
    }

    fn set_init(&self, status: &Running) {
        *self.init.lock().unwrap_or_else(PoisonError::into_inner) = (status.init, status.init_start);
        self.init_pid.store(status.init, Ordering::Relaxed);
    }

    /// Kills init itself, by identity: for when its supervisor cannot.
    fn kill_init(&self) {
        let (pid, start) = self.init();
        if let Some(init) = process::open_verified(pid, start) {
            let _ = init.kill(SIGKILL);
        }
    }

    async fn frozen(&self, frozen: bool) -> Result<()> {
        let group = self.group();
        let work = move || if frozen { group.freeze() } else { group.thaw() };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(Error::internal("a worker thread panicked").with_source(error)),
        }
    }

    async fn ask(&self, reboot: bool, flags: u32, function: &str) -> Result<()> {
        crate::types::flags::check(flags, shutdown::INITCTL | shutdown::SIGNAL, function)?;
        let any = flags == 0;
        let call = Call::Shutdown {
            reboot,
            initctl: any || flags & shutdown::INITCTL != 0,
            signal: any || flags & shutdown::SIGNAL != 0,
        };
        self.client.call(call).await.map(drop)
    }
}

/// For the log.
fn describe(record: &ExitRecord) -> String {
    match (record.cause, record.status, record.signal) {
        (Cause::StartFailed, ..) => record.message.clone().unwrap_or_default(),
        (Cause::PowerOff, ..) => "it powered off".to_string(),
        (Cause::Reboot, ..) => "it asked for a reboot, which the definition answers with its end".to_string(),
        (_, Some(status), _) => format!("init ended with status {status}"),
        (_, _, Some(signal)) => format!("init was killed by signal {signal}"),
        _ => "init ended".to_string(),
    }
}

async fn watch(instance: Arc<LxcInstance>, mut events: mpsc::UnboundedReceiver<Event>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Rebooted(status) => {
                instance.set_init(&status);
                instance.tell(InstanceEvent::Reset { by_guest: true });
            }
            Event::Started(status) | Event::Held(status) => instance.set_init(&status),
            Event::Ended(record) => {
                let text = describe(&record);
                let reason = Some(StateReason::new(State::Shutoff, reason_of(&record)));
                // The supervisor ends by itself now; when it has, nothing of the run moves any more.
                let _ = tokio::time::timeout(KILL_PATIENCE, instance.supervisor.wait()).await;
                instance.tell(InstanceEvent::Ended { reason, text });
                return;
            }
            Event::Hello { .. } | Event::Reply { .. } => {}
        }
    }
    // The supervisor died. Init asked to die with it, but a hostile one may have taken that back.
    instance.kill_init();
    let group = instance.group();
    let _ = tokio::task::spawn_blocking(move || group.kill()).await;
    instance.tell(InstanceEvent::Ended {
        reason: Some(StateReason::new(State::Shutoff, shutoff::CRASHED)),
        text: "the container's supervisor was killed".to_string(),
    });
}

#[async_trait]
impl Instance for LxcInstance {
    async fn pause(&self) -> Result<()> {
        if !self.held.load(Ordering::Relaxed) {
            self.frozen(true).await?;
        }
        self.tell(InstanceEvent::State { phase: Phase::Paused, reason: paused::USER });
        Ok(())
    }

    async fn resume(&self) -> Result<()> {
        if self.held.load(Ordering::Relaxed) {
            self.client.call(Call::Run).await?;
            self.held.store(false, Ordering::Relaxed);
        } else {
            self.frozen(false).await?;
        }
        self.tell(InstanceEvent::State { phase: Phase::Running, reason: running::UNPAUSED });
        Ok(())
    }

    async fn shutdown(&self, flags: u32) -> Result<()> {
        self.ask(false, flags, "lxcDomainShutdownFlags").await
    }

    async fn reboot(&self, flags: u32) -> Result<()> {
        self.ask(true, flags, "lxcDomainReboot").await
    }

    async fn reset(&self) -> Result<()> {
        Err(Error::no_support("virDomainReset"))
    }

    async fn kill(&self, graceful: bool) -> Result<()> {
        if graceful {
            // What ends now is to stay ended.
            let _ = self.client.call(Restarts::default().call()).await;
            let _ = self.client.call(Call::Signal { signal: SIGTERM }).await;
            return match tokio::time::timeout(TERM_GRACE, self.supervisor.wait()).await {
                Ok(_) => Ok(()),
                Err(_) => {
                    let restarts = *self.restarts.lock().unwrap_or_else(PoisonError::into_inner);
                    let _ = self.client.call(restarts.call()).await;
                    Err(Error::new(
                        Code::SystemError,
                        format!(
                            "Failed to terminate process {} with SIGTERM: Device or resource busy",
                            self.init_pid.load(Ordering::Relaxed)
                        ),
                    ))
                }
            };
        }
        let asked = self.client.call_within(Call::Kill, KILL_PATIENCE).await.is_ok();
        // Processes in a v1 freezer do not even die while they are frozen.
        let group = self.group();
        let _ = tokio::task::spawn_blocking(move || group.thaw()).await;
        let ended = asked && tokio::time::timeout(KILL_PATIENCE, self.supervisor.wait()).await.is_ok();
        if !ended {
            self.kill_init();
            self.supervisor
                .kill(SIGKILL)
                .map_err(|error| Error::system("cannot kill the container's supervisor", error))?;
            let _ = self.supervisor.wait().await;
        }
        Ok(())
    }

    fn info(&self) -> InstanceInfo {
        let stats = self.group().stats();
        InstanceInfo { memory: stats.memory.map(|bytes| bytes / 1024), cpu_time: stats.cpu_total.unwrap_or(0) }
    }

    async fn stats(&self, groups: u32, _nowait: bool) -> TypedParams {
        let mut params = TypedParams::new();
        let counters = self.group().stats();
        if groups & stats::CPU_TOTAL != 0 {
            for (name, value) in
                [("cpu.time", counters.cpu_total), ("cpu.user", counters.cpu_user), ("cpu.system", counters.cpu_system)]
            {
                if let Some(value) = value {
                    params.ullong(name, value);
                }
            }
        }
        if groups & stats::BALLOON != 0 {
            params.ullong("balloon.current", self.current.load(Ordering::Relaxed));
            params.ullong("balloon.maximum", self.memory);
            if let Some(memory) = counters.memory {
                params.ullong("balloon.rss", memory / 1024);
            }
        }
        if groups & stats::VCPU != 0 {
            params.uint("vcpu.current", self.vcpus);
            params.uint("vcpu.maximum", self.vcpus);
        }
        if groups & stats::INTERFACE != 0 {
            self.interface_stats(&mut params).await;
        }
        params
    }

    async fn memory_stats(&self) -> Result<Vec<(i32, u64)>> {
        // VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON, _RSS
        let rss = self.group().stats().memory.unwrap_or(0) / 1024;
        Ok(vec![(6, self.current.load(Ordering::Relaxed)), (7, rss)])
    }

    fn namespaces(&self) -> Result<Vec<OwnedFd>> {
        let (pid, start) = self.init();
        let gone = || Error::invalid_state("domain is not running");
        let init = process::open_verified(pid, start).ok_or_else(gone)?;
        // The user's last: some of the others belong to the host's, and who is in the container's may not enter them.
        let open = |name: &str| {
            let path = format!("/proc/{pid}/ns/{name}");
            let file = std::fs::File::open(&path);
            file.map(OwnedFd::from).map_err(|error| Error::system(format!("cannot open '{path}'"), error))
        };
        let all = ["ipc", "uts", "net", "pid", "mnt", "user"].map(open).into_iter().collect::<Result<Vec<_>>>()?;
        // Only then it is certain that the number was not somebody else's meanwhile.
        if init.has_ended() { Err(gone()) } else { Ok(all) }
    }

    async fn control(&self, _live: &DomainDef, control: &Control) -> Result<()> {
        let Control::Signal { pid: target, number } = control else {
            return Err(Error::no_support(control.function()));
        };
        if *target != 1 {
            return Err(Error::new(
                Code::ArgumentUnsupported,
                "Only the init process may be killed: the numbers of others are the container's own",
            ));
        }
        let (pid, start) = self.init();
        let init = process::open_verified(pid, start).ok_or_else(|| Error::invalid_state("domain is not running"))?;
        // Which only asks whether it is there.
        if *number == 0 {
            return Ok(());
        }
        let failed = |error| Error::system(format!("Unable to send {number} signal to process {pid}"), error);
        init.kill(i32::try_from(*number).unwrap_or(0)).map_err(failed)
    }

    async fn open_console(&self, device: Option<&str>, force: bool) -> Result<OwnedFd> {
        let index = self.console_index(device)?;
        let (_, mut fds) = self.client.call(Call::Console { index, force }).await.map_err(|error| {
            if error.detail.contains("in use") {
                Error::failed("Active console session exists for this domain")
            } else {
                error
            }
        })?;
        fds.pop().ok_or_else(|| Error::internal("the supervisor sent no console"))
    }

    async fn resize_console(&self, device: Option<&str>, rows: u16, columns: u16) -> Result<()> {
        let index = self.console_index(device)?;
        self.client.call(Call::Resize { index, rows, columns }).await.map(drop)
    }

    async fn addresses(&self) -> Result<Vec<InterfaceAddresses>> {
        let (pid, start) = *self.init.lock().unwrap_or_else(PoisonError::into_inner);
        let look = move || {
            let Some(_held) = crate::sys::process::open_verified(pid, start) else {
                return Err(Error::invalid_state("the container's init does not run now"));
            };
            crate::sys::netns::interfaces_of(pid)
                .map_err(|error| Error::system("cannot look into the container's network namespace", error))
        };
        let found = tokio::task::spawn_blocking(look)
            .await
            .map_err(|error| Error::internal("a worker thread panicked").with_source(error))??;
        let of = |one: crate::sys::netns::Interface| InterfaceAddresses {
            name: one.name,
            mac: one.mac.map(crate::types::MacAddr),
            addresses: one.addresses,
        };
        Ok(found.into_iter().map(of).collect())
    }

    fn pid(&self) -> Option<i32> {
        Some(self.init_pid.load(Ordering::Relaxed)).filter(|pid| *pid > 0)
    }

    async fn tune(&self, live: &DomainDef, tune: &Tune) -> Result<()> {
        self.set_limit(live, tune).await?;
        if let Tune::Memory(kib) = tune {
            self.current.store(*kib, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn attach(&self, live: &DomainDef, device: Device, undo: &dyn UndoLog) -> Result<Device> {
        self.plug(live, device, undo).await
    }

    async fn detach(&self, _live: &DomainDef, device: &Device) -> Result<()> {
        self.unplug(device).await
    }

    async fn update(&self, _live: &DomainDef, old: &Device, new: Device) -> Result<Device> {
        self.change(old, new).await
    }

    async fn exec(&self, live: &DomainDef, request: ExecRequest) -> Result<Exec> {
        if self.held.load(Ordering::Relaxed) {
            return Err(Error::invalid_state("domain is paused: nothing runs in it yet"));
        }
        self.run_program(live, request).await
    }

    fn settings(&self) -> Settings {
        self.group().settings()
    }
}

impl LxcInstance {
    /// The console with this alias, the first without one.
    fn console_index(&self, device: Option<&str>) -> Result<usize> {
        let index = match device {
            None => 0,
            Some(device) => self
                .consoles
                .iter()
                .position(|alias| alias == device)
                .ok_or_else(|| Error::internal(format!("cannot find console device '{device}'")))?,
        };
        if self.consoles.is_empty() {
            return Err(Error::internal("cannot find default console device"));
        }
        Ok(index)
    }

    /// Interface counters as the guest sees them: the host end receives what the guest sends.
    async fn interface_stats(&self, params: &mut TypedParams) {
        let Ok(netlink) = Netlink::open() else { return };
        let nics = self.nics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        params.uint("net.count", u32::try_from(nics.len()).unwrap_or(0));
        for (index, name) in nics.iter().enumerate() {
            params.string(format!("net.{index}.name"), name.as_str());
            let mut put = |what: &str, value: u64| params.ullong(format!("net.{index}.{what}"), value);
            let Ok(Some(link)) = netlink.stats(name).await else { continue };
            put("rx.bytes", link.tx_bytes);
            put("rx.pkts", link.tx_packets);
            put("rx.errs", link.tx_errors);
            put("rx.drop", link.tx_dropped);
            put("tx.bytes", link.rx_bytes);
            put("tx.pkts", link.rx_packets);
            put("tx.errs", link.rx_errors);
            put("tx.drop", link.rx_dropped);
        }
    }
}
