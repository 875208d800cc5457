//! The only way in: every libvirt call is declared once, here, and front ends refer to it.
//!
//! A call is a unit type that implements [`Call`]: libvirt's name, the kind of object, its access right and class in
//! [`CallInfo`], plain argument and result types, and the code. Front ends run it through [`dispatch`], which checks
//! access first. Front ends hold only (member or number, call, codec) tables.

mod address;
mod agent;
mod block;
mod block_tune;
mod capability;
mod console;
mod cpu;
mod define;
mod device;
mod device_stats;
mod exec;
mod guest_info;
mod hands;
mod images;
mod info;
mod interface;
mod interface_tune;
mod iothread;
mod lifecycle;
mod lookup;
mod metadata;
mod native;
mod network;
mod node;
mod node_device;
mod none;
mod nwfilter;
mod perf;
mod secret;
mod snapshot;
mod stats;
mod storage_pool;
mod storage_vol;
mod storage_work;
#[cfg(test)]
mod tests;
mod tune;
mod vcpu;
mod xml;

use std::future::Future;

use tokio::sync::watch;

pub use address::{AddressesArgs, GetInterfaceAddresses, address_source};
pub use agent::{
    AGENT_PORT, AgentCommandArgs, AgentSetResponseTimeout, AgentTimeoutArgs, AuthorizedKeysGet, AuthorizedKeysSet,
    FreezeArgs, FsFreeze, FsInfo, FsThaw, FsTrim, GetFsInfo, GetGuestInfo, GetGuestVcpus, GetTime, GuestInfoArgs,
    GuestVcpusArgs, KeysArgs, PasswordArgs, PmSuspend, PmSuspendArgs, QemuAgentCommand, SetGuestVcpus, SetTime,
    SetUserPassword, TimeArgs, TrimArgs,
};
pub use block::{BlockInfo, BlockInfoArgs, GetBlockInfo, GetDiskErrors};
pub use block_tune::{BlockTuneArgs, GetBlockIoTune, SetBlockIoTune, SetBlockTuneArgs};
pub use capability::{
    DomainCapsArgs, GetCapabilities, GetDomainCapabilities, GetHostname, GetLibVersion, GetMaxVcpus, GetType,
    GetVersion, IsEncrypted, IsSecure,
};
pub use console::{ConsoleArgs, OpenChannel, OpenConsole, OpenNamespace, ResizeArgs, ResizeConsole};
pub use cpu::{
    BaselineArgs, BaselineCpu, BaselineHypervisorArgs, BaselineHypervisorCpu, CompareArgs, CompareCpu,
    CompareHypervisorArgs, CompareHypervisorCpu, GetCpuModelNames,
};
pub use define::{
    CheckXml, CreateXml, CreateXmlWithFiles, DefineXml, PlanXml, Rename, RenameArgs, SetAutostart, Undefine, XmlFlags,
};
pub use device::{AliasArgs, AttachDevice, DetachDevice, DetachDeviceAlias, UpdateDevice};
pub use device_stats::{BlockStats, BlockStatsArgs, InterfaceCounters, InterfaceStats};
pub use exec::{ExecArgs, RunProgram};
pub use hands::{
    BlockPeek, BlockResize, BlockResizeArgs, CoreDump, DumpArgs, GraphicsArgs, InjectNmi, MemoryPeek, MonitorArgs,
    OpenGraphics, OpenGraphicsFd, PeekArgs, PeriodArgs, PmWakeup, QemuMonitorCommand, QemuMonitorCommandWithFiles,
    Screenshot, ScreenshotArgs, SendKey, SendKeyArgs, SendProcessSignal, SetBlockThreshold, SetMemoryStatsPeriod,
    SignalArgs, ThresholdArgs,
};
pub use images::{
    CreateImageOverlay, ImageInfo, ImportArgs, ImportImage, ListImages, OverlayArgs, PruneArgs, PruneImages,
};
pub use info::{
    AbortJob, ControlInfo, CpuStats, CpuStatsArgs, DomainInfo, GetAutostart, GetControlInfo, GetCpuStats,
    GetDomainHostname, GetInfo, GetJobInfo, GetJobStats, GetMaxMemory, GetMessages, GetMetadata, GetOsType,
    GetSecurityLabelList, GetState, GetVcpus, GetXmlDesc, IsActive, IsPersistent, IsUpdated, JobInfo, MetadataArgs,
};
pub use interface::{
    InterfaceChangeBegin, InterfaceChangeCommit, InterfaceChangeRollback, InterfaceCreate, InterfaceDefineXml,
    InterfaceDestroy, InterfaceGetMac, InterfaceGetName, InterfaceGetXmlDesc, InterfaceIsActive, InterfaceLookupByMac,
    InterfaceLookupByName, InterfaceUndefine, ListAllInterfaces,
};
pub use interface_tune::{GetInterfaceParameters, InterfaceTuneArgs, SetInterfaceParameters};
pub use iothread::{
    AddIoThread, DelIoThread, GetIoThreadInfo, IoThreadArgs, IoThreadInfo, IoThreadParamsArgs, PinIoThread,
    PinIoThreadArgs, SetIoThreadParams,
};
pub use lifecycle::{
    Create, CreateWithFiles, Destroy, FilesArgs, LifecycleArgs, Reboot, Reset, Resume, SetLifecycleAction, Shutdown,
    Suspend,
};
pub use lookup::{ListAllDomains, LookupById, LookupByName, LookupByUuid};
pub use metadata::{SetMetadata, SetMetadataArgs};
pub use native::{DomainXmlFromNative, DomainXmlToNative, NativeArgs};
pub use network::{
    DhcpLease, ListAllNetworks, NetworkCreate, NetworkCreateXml, NetworkDefineXml, NetworkDestroy, NetworkGetAutostart,
    NetworkGetBridgeName, NetworkGetDhcpLeases, NetworkGetMetadata, NetworkGetMetadataArgs, NetworkGetXmlDesc,
    NetworkIsActive, NetworkIsPersistent, NetworkListAllPorts, NetworkLookupByName, NetworkLookupByUuid,
    NetworkPortCreateXml, NetworkPortDelete, NetworkPortGetParameters, NetworkPortGetXmlDesc, NetworkPortLookupByUuid,
    NetworkPortParamsArgs, NetworkPortSetParameters, NetworkSetAutostart, NetworkSetMetadata, NetworkSetMetadataArgs,
    NetworkUndefine, NetworkUpdate, NetworkUpdateArgs,
};
pub use node::{
    FreePagesArgs, GetSysinfo, NodeGetCellsFreeMemory, NodeGetCpuMap, NodeGetCpuStats, NodeGetFreeMemory,
    NodeGetFreePages, NodeGetInfo, NodeGetMemoryParameters, NodeGetMemoryStats, NodeGetSecurityModel,
    NodeSetMemoryParameters,
};
pub use node_device::{
    ListAllNodeDevices, NodeDeviceCreateXml, NodeDeviceDestroy, NodeDeviceGetAutostart, NodeDeviceGetParent,
    NodeDeviceGetXmlDesc, NodeDeviceIsActive, NodeDeviceIsPersistent, NodeDeviceListCaps, NodeDeviceLookupByName,
    NodeDeviceLookupScsiHostByWwn, NodeListDevices,
};
pub use none::{
    BackupGetXmlDesc, BlockJobAbort, BlockJobArgs, BlockJobSetSpeed, CheckpointLookupByName, GetBlockJobInfo,
    GetLaunchSecurityInfo, ListAllCheckpoints, NodeGetSevInfo, SetLaunchSecurityState,
};
pub use nwfilter::{
    ListAllNwFilters, NwFilterDefineXml, NwFilterGetXmlDesc, NwFilterLookupByName, NwFilterLookupByUuid,
    NwFilterUndefine,
};
pub use perf::{GetPerfEvents, SetPerfEvents};
pub use secret::{
    ListAllSecrets, SecretDefineXml, SecretGetValue, SecretGetXmlDesc, SecretLookupByUsage, SecretLookupByUuid,
    SecretSetValue, SecretUndefine, SecretValueArgs,
};
pub use snapshot::{
    HasCurrentSnapshot, HasManagedSaveImage, ListAllSnapshots, ManagedSave, ManagedSaveDefineXml,
    ManagedSaveGetXmlDesc, ManagedSaveRemove, RevertToSnapshot, SnapshotCreateXml, SnapshotCurrent, SnapshotDelete,
    SnapshotGetParent, SnapshotGetXmlDesc, SnapshotHasMetadata, SnapshotIsCurrent, SnapshotListAllChildren,
    SnapshotLookupByName,
};
pub use stats::{AllStatsArgs, GetAllDomainStats, GetStats, MemoryStats, StatsArgs};
pub use storage_pool::{
    BuildStoragePool, CreateStoragePool, CreateStoragePoolXml, DefineStoragePoolXml, DeleteStoragePool,
    DestroyStoragePool, FindSourcesArgs, FindStoragePoolSources, GetStoragePoolAutostart, GetStoragePoolCapabilities,
    GetStoragePoolInfo, GetStoragePoolXmlDesc, ListAllStoragePools, LookupStoragePoolByName,
    LookupStoragePoolByTargetPath, LookupStoragePoolByUuid, LookupStoragePoolByVolume, RefreshStoragePool,
    SetStoragePoolAutostart, StoragePoolIsActive, StoragePoolIsPersistent, UndefineStoragePool,
};
pub use storage_vol::{
    GetStorageVolInfo, GetStorageVolInfoFlags, GetStorageVolPath, GetStorageVolXmlDesc, LookupStorageVolByKey,
    LookupStorageVolByName, LookupStorageVolByPath, StoragePoolListAllVolumes, VolumeInfo,
};
pub use storage_work::{
    CancelStorageJob, CopyArgs, CreateFromArgs, CreateStorageVolXml, CreateStorageVolXmlFrom, DeleteStorageVol,
    DownloadStorageVol, ListStorageJobs, ReceiveStorageVol, ResizeArgs as VolumeResizeArgs, ResizeStorageVol,
    SendStorageVol, SourceName, StreamArgs, UploadStorageVol, WipeStorageVol, WipeStorageVolPattern,
};
pub use tune::{
    GetBlkioParameters, GetMemoryParameters, GetSchedulerParameters, GetSchedulerType, MEMORY_UNLIMITED, MemoryArgs,
    ParamsArgs, SetBlkioParameters, SetMemory, SetMemoryParameters, SetSchedulerParameters,
};
pub use vcpu::{
    GetEmulatorPinInfo, GetNumaParameters, GetVcpuInfo, GetVcpuPinInfo, PinArgs, PinEmulator, PinVcpu,
    SetNumaParameters, SetVcpu, SetVcpus, VcpuStateArgs, VcpusArgs,
};
pub use xml::{DiagnoseXml, DiffXml, TwoXml};

use super::access::guard::{Ask, Details, Guarded, Permit, domain_details};
use super::access::right::Right;
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::flags;

/// What a call is made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    Connect,
    Domain,
    Network,
    StoragePool,
    StorageVol,
    Secret,
    NodeDevice,
    Interface,
    NwFilter,
    DomainSnapshot,
}

impl ObjectKind {
    /// The first word of the rights about it.
    pub const fn of_rights(self) -> &'static str {
        match self {
            ObjectKind::Connect => "connect",
            ObjectKind::Domain | ObjectKind::DomainSnapshot => "domain",
            ObjectKind::Network => "network",
            ObjectKind::StoragePool => "storage_pool",
            ObjectKind::StorageVol => "storage_vol",
            ObjectKind::Secret => "secret",
            ObjectKind::NodeDevice => "node_device",
            ObjectKind::Interface => "interface",
            ObjectKind::NwFilter => "nwfilter",
        }
    }
}

/// Whether a call changes anything: a read-only caller may make `Read` calls only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Read,
    Write,
}

/// The declaration of a call.
#[derive(Clone, Copy, Debug)]
pub struct CallInfo {
    /// libvirt's function, `virDomainGetState`.
    pub name: &'static str,
    pub object: ObjectKind,
    pub class: Class,
    /// What it needs, all of them; [`Call::WHEN`] says of each whether only at times. Those on another kind of object than
    /// the call is made on are of what it finds or makes: its own code asks for them ([`Permit`]).
    pub rights: &'static [&'static Right],
    /// A list has what the caller has this right on.
    pub filter: Option<&'static Right>,
}

/// Whether who called is still there. Long work for a client alone ends with it.
#[derive(Clone, Debug, Default)]
pub struct Presence(Option<watch::Receiver<()>>);

impl Presence {
    /// A client that is there until the first of the two is dropped.
    pub fn new() -> (watch::Sender<()>, Presence) {
        let (here, seen) = watch::channel(());
        (here, Presence(Some(seen)))
    }

    /// Whether it can be told when the client goes.
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// Error: code 78 once the client has gone.
    pub fn check(&self) -> Result<()> {
        match &self.0 {
            Some(seen) if seen.has_changed().is_err() => Err(Self::left()),
            _ => Ok(()),
        }
    }

    /// Runs `work`, and drops it when the client goes before it ends. Errors: those of the work, code 78.
    pub async fn during<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            () = self.gone() => Err(Self::left()),
        }
    }

    fn left() -> Error {
        Error::new(Code::OperationAborted, "the client has gone")
    }

    /// Returns when the client has gone; never where nobody can tell.
    pub async fn gone(&self) {
        match self.0.clone() {
            Some(mut seen) => while seen.changed().await.is_ok() {},
            None => std::future::pending().await,
        }
    }
}

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// May call readers only.
    pub read_only: bool,
    /// For the log: `uid 0 pid 4711`, `:1.42`.
    pub who: String,
    pub presence: Presence,
    /// Set where each call is asked about.
    pub ask: Option<Ask>,
}

impl Caller {
    /// The daemon itself.
    pub fn daemon() -> Self {
        Caller { read_only: false, who: "the daemon".into(), presence: Presence::default(), ask: None }
    }

    /// Its leave to make `C` on what the call itself finds or makes.
    fn permit<C: Call>(&self) -> Permit<'_> {
        Permit { ask: self.ask.as_ref(), info: &C::INFO }
    }
}

/// When a right is needed; `None` = always.
pub type When<Args> = Option<fn(&Args) -> bool>;

/// One libvirt call; see the module's text.
pub trait Call: 'static {
    const INFO: CallInfo;
    /// Beside [`CallInfo::rights`], one for each.
    const WHEN: &'static [When<Self::Args>];
    /// [`ObjectKind`]'s type: `Connection`, `Domain`, `Network` ...
    type On: On + Guarded + Send + Sync;
    type Args: Send + 'static;
    type Ret: Send + 'static;

    fn run(caller: &Caller, on: &Self::On, args: Self::Args) -> impl Future<Output = Result<Self::Ret>> + Send;
}

/// Checks access, then runs the call.
pub async fn dispatch<C: Call>(caller: &Caller, on: &C::On, args: C::Args) -> Result<C::Ret> {
    if caller.read_only {
        refuse_changes::<C>(&args)?;
    }
    if let Some(ask) = &caller.ask {
        let rights: Vec<_> = needed::<C>(&args).map(|(right, _)| right).filter(|right| is_about::<C>(right)).collect();
        // In a box: a call that nobody is asked about is not to carry its room.
        Box::pin(async { ask.demand(&rights, &on.details().await).await }).await?;
    }
    C::run(caller, on, args).await
}

fn is_about<C: Call>(right: &Right) -> bool {
    right.object == <C::On as Guarded>::OBJECT
}

/// The rights that the call needs with these arguments, and whether it does not always.
fn needed<C: Call>(args: &C::Args) -> impl Iterator<Item = (&'static Right, bool)> {
    let rights = C::INFO.rights.iter().copied().zip(C::WHEN);
    rights.filter_map(|(right, when)| when.is_none_or(|when| when(args)).then_some((right, when.is_some())))
}

/// Refuses a caller who may only look, with libvirt's text. What a call needs only at times it does not get either,
/// unless everybody has it.
fn refuse_changes<C: Call>(args: &C::Args) -> Result<()> {
    let name = C::INFO.name;
    let denied = |what: String| Err(Error::new(Code::OperationDenied, what));
    if C::INFO.class == Class::Write {
        return denied(format!("read only access prevents {name}"));
    }
    match needed::<C>(args).find(|(right, at_times)| *at_times && !right.by_default) {
        None => Ok(()),
        Some((right, _)) if right.permission == "read_secure" => denied(format!("{name} with secure flag")),
        Some(_) => denied(format!("read only access prevents {name}")),
    }
}

/// Whether a change of these flags (`VIR_DOMAIN_AFFECT_*`) is one of the kept definition: unless it is of what runs only.
fn stored(flags: u32) -> bool {
    flags & (flags::affect::LIVE | flags::affect::CONFIG) != flags::affect::LIVE
}

/// Declares a call:
/// `call!(doc, Type = "virFunction", Class, "object:right"; (caller, on: On, args => Args) -> Ret { .. })`.
///
/// Behind the first right: `only "object:right"`, a list leaves out what the caller does not have this right on; and, after
/// commas, further rights, those with `if |args| ..` needed at times only.
macro_rules! call {
    (
        $(#[$doc:meta])*
        $name:ident = $function:literal, $class:ident,
        $right:literal $(only $filter:literal)? $(, $more:literal $(if $when:expr)?)*;
        ($caller:ident, $on:ident: $On:ident, $args:pat => $Args:ty) -> $Ret:ty $body:block
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl $crate::engine::api::Call for $name {
            const INFO: $crate::engine::api::CallInfo = $crate::engine::api::CallInfo {
                name: $function,
                object: <$On as $crate::engine::api::On>::KIND,
                class: $crate::engine::api::Class::$class,
                rights: &[
                    $crate::engine::access::right::Right::named($right)
                    $(, $crate::engine::access::right::Right::named($more))*
                ],
                filter: $crate::engine::api::call!(@filter $($filter)?),
            };
            const WHEN: &'static [$crate::engine::api::When<$Args>] =
                &[None $(, $crate::engine::api::call!(@when $($when)?))*];
            type On = $On;
            type Args = $Args;
            type Ret = $Ret;

            async fn run(
                $caller: &$crate::engine::api::Caller,
                $on: &$On,
                $args: $Args,
            ) -> $crate::error::Result<$Ret> {
                // The body may need neither.
                let _ = ($caller, $on);
                let result: $crate::error::Result<$Ret> = async move { $body }.await;
                let subsystem = $crate::engine::api::subsystem_of($function)
                    .unwrap_or_else(|| $crate::engine::api::On::subsystem($on));
                result.map_err(|error| error.or_subsystem(subsystem))
            }
        }
    };
    (@filter) => { None };
    (@filter $filter:literal) => { Some($crate::engine::access::right::Right::named($filter)) };
    (@when) => { None };
    (@when $when:expr) => { Some($when) };
}
pub(crate) use call;

/// Something calls are made on.
pub trait On {
    const KIND: ObjectKind;
    /// What its driver's functions begin with.
    fn scheme(&self) -> &'static str;
    /// The error domain of its driver.
    fn subsystem(&self) -> crate::error::Subsystem;
}

/// The error domain of a function about an object of the host, whatever it is called on: libvirt has a driver of its own
/// for each kind, beside the drivers of domains.
fn subsystem_of(function: &str) -> Option<Subsystem> {
    const BY_WORD: [(&str, Subsystem); 8] = [
        ("NWFilter", Subsystem::Nwfilter),
        ("Interface", Subsystem::Interface),
        ("Network", Subsystem::Network),
        ("Storage", Subsystem::Storage),
        ("Secret", Subsystem::Secret),
        ("NodeDevice", Subsystem::NodeDev),
        ("NodeNumOfDevices", Subsystem::NodeDev),
        ("NodeListDevices", Subsystem::NodeDev),
    ];
    if function.starts_with("virDomain") {
        return None;
    }
    BY_WORD.iter().find(|(word, _)| function.contains(word)).map(|(_, subsystem)| *subsystem)
}

/// Refuses unknown flags of a function about an object of the host, as the driver of that kind does: `secretDefineXML`
/// for `virSecretDefineXML`, `secretConnectListAllSecrets` for `virConnectListAllSecrets`.
fn check_host_flags(given: u32, known: u32, function: &str) -> Result<()> {
    if given & !known == 0 {
        return Ok(());
    }
    let rest = function.strip_prefix("vir").unwrap_or(function);
    let scheme = match subsystem_of(function) {
        Some(Subsystem::Network) => "network",
        Some(Subsystem::Storage) => "storage",
        Some(Subsystem::Secret) => "secret",
        Some(Subsystem::Interface) => "interface",
        Some(Subsystem::Nwfilter) => "nwfilter",
        _ => "node",
    };
    if let Some(rest) = rest.strip_prefix("NWFilter") {
        return crate::types::flags::check(given, known, &format!("nwfilter{rest}"));
    }
    let mut letters = rest.chars();
    let name = match letters.next() {
        Some(first) if !rest.starts_with("Connect") => format!("{}{}", first.to_ascii_lowercase(), letters.as_str()),
        _ => format!("{scheme}{rest}"),
    };
    crate::types::flags::check(given, known, &name)
}

/// Refuses unknown flags, naming the driver's function as libvirt does (`qemuDomainReset` for `virDomainReset`).
fn check_flags(on: &impl On, given: u32, known: u32, function: &str) -> Result<()> {
    if given & !known == 0 {
        return Ok(());
    }
    let rest = function.strip_prefix("vir").unwrap_or(function);
    crate::types::flags::check(given, known, &format!("{}{rest}", on.scheme()))
}

impl On for super::Connection {
    const KIND: ObjectKind = ObjectKind::Connect;

    fn scheme(&self) -> &'static str {
        self.kind().scheme()
    }

    fn subsystem(&self) -> crate::error::Subsystem {
        self.kind().subsystem()
    }
}

impl Guarded for super::Connection {
    const OBJECT: &'static str = <Self as On>::KIND.of_rights();

    async fn details(&self) -> Details {
        Details::new()
    }
}

impl Guarded for super::Domain {
    const OBJECT: &'static str = <Self as On>::KIND.of_rights();

    async fn details(&self) -> Details {
        domain_details(&self.name(), self.uuid())
    }
}

impl On for super::Domain {
    const KIND: ObjectKind = ObjectKind::Domain;

    fn scheme(&self) -> &'static str {
        self.runtime().kind().scheme()
    }

    fn subsystem(&self) -> crate::error::Subsystem {
        self.runtime().kind().subsystem()
    }
}
