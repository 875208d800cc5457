//! The traits a driver implements; the engine knows drivers only through them.
//!
//! A driver turns definitions into running guests. It never keeps a list of domains, never writes state files and
//! never emits API events: it reports [`InstanceEvent`]s, and the domain's task decides what they mean.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::cleanup::run_blocking;
use super::control::{AgentAnswer, AgentCommand, Control};
use super::secret::GuestSecrets;
use super::state::{Phase, StateReason};
use super::undo::Step;
use crate::cgroup::Settings;
use crate::domain_xml::device::{Channel, Graphics};
use crate::domain_xml::snapshot::SnapshotDef;
use crate::domain_xml::tune::{BlkioDevice, IoThread};
use crate::domain_xml::{Device, DomainDef, Warning};
use crate::error::{Error, Result, Subsystem};
use crate::host::NodeInfo;
use crate::host::cpu::Outcome;
use crate::types::TypedParams;

/// Which driver; each has its own registry of names, UUIDs and ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    Qemu,
    Lxc,
    Test,
}

impl DriverKind {
    /// `virConnectGetType`, also the D-Bus root's name.
    pub fn type_name(self) -> &'static str {
        match self {
            DriverKind::Qemu => "QEMU",
            DriverKind::Lxc => "LXC",
            DriverKind::Test => "Test",
        }
    }

    /// Directory name below the state and run-time directories, and the URI scheme.
    pub fn scheme(self) -> &'static str {
        match self {
            DriverKind::Qemu => "qemu",
            DriverKind::Lxc => "lxc",
            DriverKind::Test => "test",
        }
    }

    /// The error domain of this driver.
    pub fn subsystem(self) -> Subsystem {
        match self {
            DriverKind::Qemu => Subsystem::Qemu,
            DriverKind::Lxc => Subsystem::Lxc,
            DriverKind::Test => Subsystem::Test,
        }
    }
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

/// Arguments of `virConnectGetDomainCapabilities`; `None` = the driver's default.
#[derive(Clone, Debug, Default)]
pub struct DomainCapsQuery {
    pub emulator: Option<String>,
    pub arch: Option<String>,
    pub machine: Option<String>,
    pub virt_type: Option<String>,
}

/// What a start gets.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// The completed inactive definition.
    pub def: Arc<DomainDef>,
    /// The id this run will have.
    pub id: i32,
    /// Names every resource of the run: short, unique per daemon root, safe in file and cgroup names.
    pub run_id: String,
    /// A directory of this run alone, made (0711, root) by the engine before `launch`; the undo record removes it.
    pub run_dir: PathBuf,
    /// Directory for logs that outlive the run (`<log dir>/<driver>`), made by the engine.
    pub log_dir: PathBuf,
    /// What unlocks its images.
    pub secrets: GuestSecrets,
    /// Leave the guest paused (`VIR_DOMAIN_START_PAUSED`).
    pub paused: bool,
    /// Descriptors for a container's first process, which finds them as 3 and up.
    pub files: Files,
}

/// Descriptors that a client passed, in its order.
pub type Files = Arc<Vec<OwnedFd>>;

/// Where a launch writes what it is about to make.
#[async_trait]
pub trait UndoLog: Send + Sync {
    /// Appends steps to the record on disk, as work that blocks: for a driver that leaves the runtime's threads anyway
    /// to make what the steps name. Error: code 78 when the launch was given up, so that nothing may be made any more.
    fn pushing(&self, steps: Vec<Step>) -> BlockingWork;

    /// The same, off the runtime's threads; returns when they are there. Call it *before* making the resources. Work
    /// on other threads that makes them keeps a clone of the result until it is done.
    async fn push(&self, steps: Vec<Step>) -> Result<Noted> {
        run_blocking(self.pushing(steps)).await
    }
}

/// See [`UndoLog::pushing`].
pub type BlockingWork = Box<dyn FnOnce() -> Result<Noted> + Send>;

/// Kept while what was noted is being made: a launch that is given up meanwhile is undone once the last clone of this
/// is dropped. Giving up drops the launch's future, but not what it has begun on other threads.
#[derive(Clone, Default)]
pub struct Noted(Option<Arc<dyn Send + Sync>>);

impl Noted {
    /// `hold` keeps the undoing back.
    pub fn new(hold: impl Send + Sync + 'static) -> Noted {
        Noted(Some(Arc::new(hold)))
    }
}

impl fmt::Debug for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noted").field("holds", &self.0.is_some()).finish()
    }
}

/// A guest that now exists.
#[derive(Debug)]
pub struct Launched {
    pub instance: Arc<dyn Instance>,
    /// The definition with everything that is known only at run time (pty paths, ports, indexes, labels).
    pub live: DomainDef,
    /// Running or Paused (or another phase after a re-attach), with libvirt's reason.
    pub phase: Phase,
    pub reason: i32,
    /// What `reattach` needs after a daemon restart; stored opaquely in the status record.
    pub state: serde_json::Value,
    /// The instance's events in order; closed only after [`InstanceEvent::Ended`].
    pub events: mpsc::UnboundedReceiver<InstanceEvent>,
}

/// What a status record says of a run, for `reattach`.
#[derive(Clone, Debug)]
pub struct RunRecord {
    pub live: DomainDef,
    pub id: i32,
    pub run_id: String,
    pub run_dir: PathBuf,
    pub phase: Phase,
    pub reason: i32,
    /// [`Launched::state`] of the start.
    pub state: serde_json::Value,
}

/// What became of a run while no daemon watched.
// Made once per guest at daemon start and taken apart at once: the size is of no matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Reattached {
    /// The guest runs on.
    Running(Launched),
    /// The guest is gone; libvirt's shut-off reason.
    Gone { reason: i32 },
}

/// What a start would do, without doing it (`domus plan`). Serialised as JSON for clients.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Plan {
    /// The process that would run, program first.
    pub argv: Vec<String>,
    /// Environment of it.
    pub env: Vec<(String, String)>,
    /// User and group it would run as (`name(uid)`).
    pub user: String,
    pub group: String,
    /// Interfaces that would be made or joined.
    pub links: Vec<PlannedLink>,
    /// The cgroup it would be put in.
    pub cgroup: String,
    /// Files it would open, with what is needed and what is there.
    pub files: Vec<PlannedFile>,
    /// Why a start would fail now, if it would.
    pub problems: Vec<String>,
}

/// An interface in a [`Plan`].
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct PlannedLink {
    pub name: String,
    /// `tap`, `veth` ...
    pub kind: String,
    pub mac: String,
    pub mtu: Option<u32>,
    /// The bridge it joins.
    pub bridge: Option<String>,
    /// `false`: an existing interface is used as it is (`managed='no'`).
    pub created: bool,
}

/// A file in a [`Plan`].
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct PlannedFile {
    pub path: String,
    /// `disk vda`, `backing file of vda`, `kernel`, `serial log` ...
    pub purpose: String,
    /// `read`, `read-write`, `create`.
    pub access: String,
    /// Ownership change at start, as `user:group -> user:group`.
    pub owner: Option<String>,
    /// Why it cannot be used as things are.
    pub problem: Option<String>,
}

/// A host that a driver shows its clients instead of the one it is on.
#[derive(Clone, Debug)]
pub struct SimulatedHost {
    pub info: NodeInfo,
    /// One entry per CPU (`virNodeGetCPUMap`).
    pub online: Vec<bool>,
    /// Which CPUs a guest may use.
    pub usable: Vec<bool>,
    /// `virConnectGetSysinfo`
    pub sysinfo: String,
}

/// A driver: see the module's text for what it never does.
#[async_trait]
pub trait Driver: Send + Sync + fmt::Debug {
    fn kind(&self) -> DriverKind;

    /// Whether `<domain type='..'>` is this driver's.
    fn accepts(&self, virt_type: &str) -> bool;

    /// `virConnectGetVersion`: major * 1,000,000 + minor * 1,000 + release of the hypervisor.
    async fn version(&self) -> Result<u64>;

    /// `virConnectGetCapabilities`.
    async fn capabilities(&self) -> Result<String>;

    /// `virConnectGetDomainCapabilities`.
    async fn domain_capabilities(&self, query: &DomainCapsQuery) -> Result<String>;

    /// `virConnectGetMaxVcpus`.
    async fn max_vcpus(&self, virt_type: Option<&str>) -> Result<u32>;

    /// Fills in defaults, automatic devices, addresses. Deterministic for a given host and definition; idempotent.
    async fn complete(&self, def: &mut DomainDef, warnings: &mut Vec<Warning>) -> Result<()>;

    /// Refuses what this driver cannot run. Called after `complete`.
    async fn validate(&self, def: &DomainDef) -> Result<()>;

    /// What a start would do.
    async fn plan(&self, def: &DomainDef) -> Result<Plan>;

    /// The definition that a configuration in another tool's form describes (`virConnectDomainXMLFromNative`).
    /// Errors: `InvalidArg` for a form that is not this driver's.
    async fn read_native(&self, _format: &str, _config: &str) -> Result<DomainDef> {
        Err(Error::no_support("virConnectDomainXMLFromNative"))
    }

    /// A completed definition in this driver's native form (`virConnectDomainXMLToNative`). Errors as above.
    async fn write_native(&self, _format: &str, _def: &DomainDef) -> Result<String> {
        Err(Error::no_support("virConnectDomainXMLToNative"))
    }

    /// `virConnectCompareCPU` with the host's processor, or with what the hypervisor of `query` can give a guest.
    async fn compare_cpu(&self, _xml: &str, query: Option<&DomainCapsQuery>) -> Result<Outcome> {
        Err(Error::no_support(if query.is_some() { "virConnectCompareHypervisorCPU" } else { "virConnectCompareCPU" }))
    }

    /// `virConnectBaselineCPU`, within what the hypervisor of `query` can give when there is one.
    async fn baseline_cpu(
        &self,
        _cpus: &[String],
        _expand: bool,
        _migratable: bool,
        query: Option<&DomainCapsQuery>,
    ) -> Result<String> {
        Err(Error::no_support(if query.is_some() {
            "virConnectBaselineHypervisorCPU"
        } else {
            "virConnectBaselineCPU"
        }))
    }

    /// `virConnectGetCPUModelNames`; empty = every name is taken.
    async fn cpu_models(&self, _arch: &str) -> Result<Vec<String>> {
        Err(Error::no_support("virConnectGetCPUModelNames"))
    }

    /// A definition as a run would see its CPU (`VIR_DOMAIN_XML_UPDATE_CPU`): `host-model` becomes a named model.
    async fn update_cpu(&self, _def: &mut DomainDef) -> Result<()> {
        Ok(())
    }

    /// Builds and starts the guest. Every resource is pushed to `undo` before it is made. On error the engine undoes
    /// the record; `launch` itself cleans up nothing that is recorded. Cancelled by dropping the future.
    async fn launch(&self, start: StartRequest, undo: &dyn UndoLog) -> Result<Launched>;

    /// Finds the guest of a run again after a daemon restart.
    async fn reattach(&self, run: &RunRecord) -> Result<Reattached>;

    /// Whether it can take snapshots, and go back to what it knows of one.
    fn keeps_moments(&self) -> bool {
        false
    }

    /// Keeps the disks of a domain that does not run, as `snapshot` says (`virDomainSnapshotCreateXML`).
    async fn take_snapshot(&self, _snapshot: &SnapshotDef) -> Result<()> {
        Err(Error::no_support("virDomainSnapshotCreateXML"))
    }

    /// The host as clients see it, when that is not the one the daemon is on.
    fn simulated_host(&self) -> Option<SimulatedHost> {
        None
    }

    /// Definitions of domains that are there, and run, before anybody has defined one.
    fn built_in(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Undoes a [`Step::Driver`].
    async fn undo(&self, data: &serde_json::Value) -> Result<()> {
        tracing::warn!(%data, "undo step that this driver does not know");
        Ok(())
    }
}

/// Numbers about a running guest that need no QEMU answer (`virDomainGetInfo`).
#[derive(Clone, Copy, Debug, Default)]
pub struct InstanceInfo {
    /// Balloon size or memory in use, KiB.
    pub memory: Option<u64>,
    /// CPU time used, ns.
    pub cpu_time: u64,
}

/// What an interface of a guest is called and which addresses it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceAddresses {
    /// The host's name of it, or the guest's when the guest was asked.
    pub name: String,
    pub mac: Option<crate::types::MacAddr>,
    /// With the lengths of their prefixes; 0 = not known.
    pub addresses: Vec<(std::net::IpAddr, u8)>,
}

/// One running guest. All methods may be called at once; none may hang for ever: each has its own deadline.
#[async_trait]
pub trait Instance: Send + Sync + fmt::Debug {
    /// Stops the guest's CPUs.
    async fn pause(&self) -> Result<()>;

    /// Lets them run again.
    async fn resume(&self) -> Result<()>;

    /// Asks the guest to power off (`virDomainShutdownFlags`); returns once it was asked.
    async fn shutdown(&self, flags: u32) -> Result<()>;

    /// Whether the guest is off as soon as [`Instance::shutdown`] returns: it is cleaned up after before the caller gets
    /// his answer.
    fn obeys_at_once(&self) -> bool {
        false
    }

    /// Asks the guest to reboot (`virDomainReboot`); returns once it was asked.
    async fn reboot(&self, flags: u32) -> Result<()>;

    /// Presses the reset button.
    async fn reset(&self) -> Result<()>;

    /// Ends the guest's processes and returns when they are gone. `graceful`: SIGTERM only, error if it does not
    /// obey within libvirt's grace; otherwise SIGKILL at once. Works on a guest that answers nothing.
    async fn kill(&self, graceful: bool) -> Result<()>;

    /// Cheap numbers, read at call time, without asking the guest.
    fn info(&self) -> InstanceInfo;

    /// `virConnectGetAllDomainStats` for the given groups (`types::flags::stats`) except `state`. Parts that need an
    /// answer of the hypervisor are left out (or the last known is given) after 500 ms; with `nowait`, at once.
    async fn stats(&self, groups: u32, nowait: bool) -> TypedParams;

    /// `virDomainGetDiskErrors`: targets of disks whose requests fail, with libvirt's number of the error.
    async fn disk_errors(&self) -> Result<Vec<(String, i32)>> {
        Err(Error::no_support("virDomainGetDiskErrors"))
    }

    /// `virDomainMemoryStats`: (tag, value) pairs.
    async fn memory_stats(&self) -> Result<Vec<(i32, u64)>>;

    /// A stream to the console or channel with this alias; `None` = the first console. `force` ends another user's.
    async fn open_console(&self, device: Option<&str>, force: bool) -> Result<OwnedFd>;

    /// A stream to a channel of the live definition. `force` ends another user's.
    async fn open_channel(&self, channel: &Channel, force: bool) -> Result<OwnedFd> {
        let _ = (channel, force);
        Err(Error::no_support("virDomainOpenChannel"))
    }

    /// The namespaces of a container's init.
    fn namespaces(&self) -> Result<Vec<OwnedFd>> {
        Err(Error::no_support("virDomainLxcOpenNamespace"))
    }

    /// Tells a console the size of its user's terminal, in characters.
    async fn resize_console(&self, device: Option<&str>, rows: u16, columns: u16) -> Result<()> {
        let _ = (device, rows, columns);
        Err(Error::no_support("domusDomainResizeConsole"))
    }

    /// The machine's main process, for the status record and the log.
    fn pid(&self) -> Option<i32>;

    /// Changes a limit of the running guest; `live` is its definition with the change in it. The values are in range and fit the
    /// definition. `Err(NO_SUPPORT)` for what the driver cannot change while the guest runs.
    async fn tune(&self, live: &DomainDef, tune: &Tune) -> Result<()> {
        let _ = live;
        Err(Error::no_support(tune.function()))
    }

    /// What is set on its cgroup, as the kernel has it.
    fn settings(&self) -> Settings {
        Settings::default()
    }

    /// Plugs a device into the running guest; `live` is its definition. What is made is pushed to `undo` before.
    /// The device with what only the run knows (alias, names).
    async fn attach(&self, live: &DomainDef, device: Device, undo: &dyn UndoLog) -> Result<Device> {
        let _ = (live, device, undo);
        Err(Error::no_support("virDomainAttachDevice"))
    }

    /// Unplugs a device of the running guest, given as its live definition has it.
    async fn detach(&self, live: &DomainDef, device: &Device) -> Result<()> {
        let _ = (live, device);
        Err(Error::no_support("virDomainDetachDevice"))
    }

    /// Changes a device of the running guest from `old`, which the live definition has, to `new`; what it is then.
    async fn update(&self, live: &DomainDef, old: &Device, new: Device) -> Result<Device> {
        let _ = (live, old, new);
        Err(Error::no_support("virDomainUpdateDeviceFlags"))
    }

    /// Runs a program inside the running guest and returns once it was started; `live` is the guest's definition.
    async fn exec(&self, live: &DomainDef, request: ExecRequest) -> Result<Exec> {
        let _ = (live, request);
        Err(Error::no_support("domusDomainExec"))
    }

    /// Addresses of the guest's interfaces, as the guest itself sees them.
    async fn addresses(&self) -> Result<Vec<InterfaceAddresses>> {
        Err(Error::no_support("virDomainInterfaceAddresses"))
    }

    /// Asks the agent inside the guest, one command at a time; `None` when nobody waited for the answer. Errors: 86 for
    /// an agent that does not answer.
    async fn agent(&self, command: AgentCommand) -> Result<Option<AgentAnswer>> {
        Err(Error::no_support(command.function))
    }

    /// How long the agent may take from now on; see [`AgentCommand::timeout`].
    fn set_agent_timeout(&self, seconds: i32) -> Result<()> {
        let _ = seconds;
        Err(Error::no_support("virDomainAgentSetResponseTimeout"))
    }

    /// Does something to the running guest; `live` is its definition.
    async fn control(&self, live: &DomainDef, control: &Control) -> Result<()> {
        let _ = live;
        Err(Error::no_support(control.function()))
    }

    /// Bytes of the guest's memory, at a virtual address of its first processor or at a physical one.
    async fn peek_memory(&self, virtual_addresses: bool, offset: u64, size: u32) -> Result<Vec<u8>> {
        let _ = (virtual_addresses, offset, size);
        Err(Error::no_support("virDomainMemoryPeek"))
    }

    /// A picture of a screen: its MIME type and a file without a name.
    async fn screenshot(&self, live: &DomainDef, screen: u32) -> Result<(String, std::fs::File)> {
        let _ = (live, screen);
        Err(Error::no_support("virDomainScreenshot"))
    }

    /// Shows a display of the live definition to whoever is at the other end of `client`; `trusted`: no password is asked.
    async fn show_display(&self, display: &Graphics, client: OwnedFd, trusted: bool) -> Result<()> {
        let _ = (display, client, trusted);
        Err(Error::no_support("virDomainOpenGraphicsFD"))
    }

    /// Writes the guest's memory to a file, in one of `virDomainCoreDumpFormat`'s forms, and returns when it is there.
    async fn dump_memory(&self, file: OwnedFd, format: u32) -> Result<()> {
        let _ = (file, format);
        Err(Error::no_support("virDomainCoreDumpWithFormat"))
    }

    /// A command in the hypervisor's own words, JSON or for humans, and descriptors that go with it.
    async fn monitor_command(&self, command: &str, human: bool, files: Vec<OwnedFd>) -> Result<String> {
        let _ = (command, human, files);
        Err(Error::no_support("virDomainQemuMonitorCommand"))
    }

    /// Threads for disks: number and host CPUs each may use.
    async fn iothreads(&self) -> Result<Vec<(u32, Vec<u32>)>> {
        Err(Error::no_support("virDomainGetIOThreadInfo"))
    }

    /// Keeps memory and disks as `snapshot` says (`virDomainSnapshotCreateXML`).
    async fn take_snapshot(&self, _snapshot: &SnapshotDef) -> Result<()> {
        Err(Error::no_support("virDomainSnapshotCreateXML"))
    }

    /// Keeps what a start needs to go on from here (`virDomainManagedSave`); the guest is ended then.
    async fn save(&self) -> Result<()> {
        Err(Error::no_support("virDomainManagedSave"))
    }

    /// `virDomainGetVcpus`: each virtual CPU that is on.
    async fn vcpus(&self) -> Result<Vec<VcpuInfo>> {
        Err(Error::no_support("virDomainGetVcpus"))
    }
}

/// A program to run inside a guest.
#[derive(Debug)]
pub struct ExecRequest {
    /// Program first; without a slash it is looked up in the guest's PATH.
    pub argv: Vec<String>,
    /// Beside the environment init has.
    pub env: Vec<(String, String)>,
    /// Directory inside the guest; `None`: `/`.
    pub dir: Option<String>,
    /// Name or number, looked up inside the guest; `None`: root.
    pub user: Option<String>,
    pub group: Option<String>,
    /// Standard input, output and error; `None`: a terminal of its own.
    pub stdio: Option<[OwnedFd; 3]>,
    /// Rows and columns of that terminal.
    pub size: (u16, u16),
}

/// A program that runs inside a guest.
#[derive(Debug)]
pub struct Exec {
    /// Whoever holds it is told of the program's end; the program ends when it is closed. See `org.domus.Domain1.Exec`.
    pub control: OwnedFd,
    /// The master of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// A change of a running guest's limits.
#[derive(Clone, Debug, PartialEq)]
pub enum Tune {
    /// What it may use now, KiB; not above the maximum.
    Memory(u64),
    /// Limits that change: KiB, or [`crate::cgroup::UNLIMITED`].
    MemoryLimits { hard: Option<u64>, soft: Option<u64>, swap: Option<u64> },
    /// What changes of `<cputune>`; microseconds, a negative quota is none.
    Cpu { shares: Option<u64>, period: Option<u64>, quota: Option<i64>, global: (Option<u64>, Option<i64>) },
    /// What changes of `<blkiotune>`; 0 takes a device's value away.
    Blkio { weight: Option<u32>, devices: Vec<BlkioDevice> },
    /// Host CPUs of one virtual CPU, as a set in libvirt's text form.
    PinVcpu { vcpu: u32, cpus: String },
    /// Host CPUs of everything else.
    PinEmulator { cpus: String },
    /// Memory nodes, as a set in libvirt's text form.
    Nodeset(String),
    /// How many virtual CPUs are on.
    Vcpus(u32),
    /// What becomes of the guest after an end: the live definition says it.
    Lifecycle,
    /// How often the guest says what memory it uses; seconds, 0 = never.
    MemoryPeriod(u32),
    /// `<iotune>` of the disk with this target: the live definition says it.
    DiskLimits(String),
    /// A thread for disks comes, or goes.
    IoThread { id: u32, add: bool },
    /// Host CPUs of such a thread, as a set in libvirt's text form.
    PinIoThread { id: u32, cpus: String },
    /// How such a thread polls and how many helpers it has: the live definition says it; `former` is what it said before.
    IoThreadLimits { former: IoThread },
    /// Single virtual CPUs are on or off: the live definition says which.
    VcpuStates,
    /// Events of the host's processors that are counted for the guest, or no longer.
    Perf(Vec<(String, bool)>),
}

impl Tune {
    /// libvirt's function for it.
    pub fn function(&self) -> &'static str {
        match self {
            Tune::Memory(_) => "virDomainSetMemory",
            Tune::MemoryLimits { .. } => "virDomainSetMemoryParameters",
            Tune::Cpu { .. } => "virDomainSetSchedulerParametersFlags",
            Tune::Blkio { .. } => "virDomainSetBlkioParameters",
            Tune::PinVcpu { .. } => "virDomainPinVcpu",
            Tune::PinEmulator { .. } => "virDomainPinEmulator",
            Tune::Nodeset(_) => "virDomainSetNumaParameters",
            Tune::Vcpus(_) => "virDomainSetVcpus",
            Tune::Lifecycle => "virDomainSetLifecycleAction",
            Tune::MemoryPeriod(_) => "virDomainSetMemoryStatsPeriod",
            Tune::DiskLimits(_) => "virDomainSetBlockIoTune",
            Tune::IoThread { add: true, .. } => "virDomainAddIOThread",
            Tune::IoThread { add: false, .. } => "virDomainDelIOThread",
            Tune::PinIoThread { .. } => "virDomainPinIOThread",
            Tune::IoThreadLimits { .. } => "virDomainSetIOThreadParams",
            Tune::VcpuStates => "virDomainSetVcpu",
            Tune::Perf(_) => "virDomainSetPerfEvents",
        }
    }
}

/// One virtual CPU of a running guest (`virVcpuInfo` and its map).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VcpuInfo {
    pub number: u32,
    /// `virVcpuState`: 0 offline, 1 running, 2 blocked.
    pub state: i32,
    /// ns.
    pub cpu_time: u64,
    /// The host CPU it is on.
    pub cpu: i32,
    /// Host CPUs it may use.
    pub affinity: Vec<u32>,
}

/// What an instance tells its domain's task.
#[derive(Clone, Debug, PartialEq)]
pub enum InstanceEvent {
    /// The guest is in this state now (QMP STOP/RESUME/SHUTDOWN/SUSPEND/GUEST_PANICKED ...), with libvirt's reason.
    /// The task drops it when it already is in that phase through a call of ours.
    State { phase: Phase, reason: i32 },
    /// The guest powers itself off (`by_guest`) or was told to; QEMU waits for its end.
    Shutdown { by_guest: bool },
    /// The guest was reset (by itself or by a call).
    Reset { by_guest: bool },
    /// Anything that goes to subscribers unchanged.
    Event(super::event::EventKind),
    /// The live definition changed (balloon size, tray ...): the closure-free form is a new copy.
    Live(Box<LiveChange>),
    /// The guest is gone; last event. libvirt's shut-off reason if the instance knows better than the task.
    Ended { reason: Option<StateReason>, text: String },
}

/// A change QEMU made to the live definition by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum LiveChange {
    /// `<currentMemory>`, KiB.
    CurrentMemory(u64),
    /// Tray of a removable disk, by alias.
    Tray { alias: String, open: bool },
    /// `<clock>` offset adjustment in seconds.
    ClockAdjustment(i64),
    /// State of a virtio-serial port, by alias.
    Channel { alias: String, connected: bool },
}
