//! Procedures of domains, and the two programs of single drivers.

#![allow(clippy::needless_pass_by_value, reason = "codecs take what the engine gives")]

use super::{Procedure, c, guest};
use crate::engine::Domain;
use crate::engine::api::{
    self, AbortJob, AddIoThread, AddressesArgs, AgentCommandArgs, AgentSetResponseTimeout, AgentTimeoutArgs, AliasArgs,
    AttachDevice, AuthorizedKeysGet, AuthorizedKeysSet, BlockInfoArgs, BlockPeek, BlockResize, BlockResizeArgs,
    BlockStats, BlockStatsArgs, Class, ConsoleArgs, Create, CreateXml, DefineXml, DelIoThread, Destroy, DetachDevice,
    DetachDeviceAlias, DomainInfo, FsFreeze, FsThaw, FsTrim, GetAutostart, GetBlkioParameters, GetBlockInfo,
    GetBlockIoTune, GetControlInfo, GetDiskErrors, GetDomainHostname, GetEmulatorPinInfo, GetFsInfo, GetGuestInfo,
    GetGuestVcpus, GetInfo, GetInterfaceAddresses, GetInterfaceParameters, GetIoThreadInfo, GetJobInfo, GetJobStats,
    GetMaxMemory, GetMemoryParameters, GetMessages, GetMetadata, GetNumaParameters, GetOsType, GetSchedulerParameters,
    GetSchedulerType, GetSecurityLabelList, GetState, GetTime, GetVcpuInfo, GetVcpuPinInfo, GetVcpus, GetXmlDesc,
    GuestInfoArgs, GuestVcpusArgs, HasManagedSaveImage, InjectNmi, InterfaceCounters, InterfaceStats, IoThreadArgs,
    IsActive, IsPersistent, IsUpdated, JobInfo, KeysArgs, LifecycleArgs, LookupById, LookupByName, LookupByUuid,
    ManagedSave, ManagedSaveRemove, MemoryArgs, MemoryPeek, MemoryStats, MetadataArgs, MonitorArgs, OpenConsole,
    ParamsArgs, PasswordArgs, PeriodArgs, PinArgs, PinEmulator, PinVcpu, PmSuspend, PmSuspendArgs, PmWakeup,
    QemuAgentCommand, QemuMonitorCommand, Reboot, Rename, RenameArgs, Reset, Resume, SendKey, SendProcessSignal,
    SetAutostart, SetBlkioParameters, SetBlockIoTune, SetBlockThreshold, SetGuestVcpus, SetInterfaceParameters,
    SetLifecycleAction, SetMemory, SetMemoryParameters, SetMemoryStatsPeriod, SetMetadata, SetMetadataArgs,
    SetNumaParameters, SetSchedulerParameters, SetTime, SetUserPassword, SetVcpus, Shutdown, SignalArgs, Suspend,
    ThresholdArgs, TimeArgs, TrimArgs, Undefine, UpdateDevice, VcpusArgs, XmlFlags,
};
use crate::engine::driver::InterfaceAddresses;
use crate::rpc::call::{Answer, BoxFuture, Invocation, Reply, connection, object, on_domain_again, on_object_params};
use crate::rpc::session;
use crate::rpc::stream::StreamEnd;
use crate::rpc::wire::{self, DomainHandle, Params};
use crate::rpc::xdr::{Chars, Opaque, Put};
use crate::types::flags::{self, affect};
use crate::types::{ParamValue, TypedParams, Uuid};

/// Longest CPU map, bytes (`REMOTE_CPUMAP_MAX`).
const MAP_MAX: usize = 2048;

fn handle(domain: Domain) -> DomainHandle {
    DomainHandle::from(&domain)
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// `virDomainGetMaxVcpus`: of the running guest, or what the next start gives.
fn max_vcpus() -> u32 {
    flags::vcpu::MAXIMUM
}

/// `virDomainInfo`; its char and its short are words on the wire.
fn info(info: DomainInfo) -> impl Put {
    (info.state.state as i32, info.max_mem, info.memory, info.vcpus, info.cpu_time)
}

/// `virDomainJobInfo`.
fn job_info(info: JobInfo) -> impl Put {
    let zero = (0u64, 0u64, 0u64);
    (info.kind, info.time_elapsed, 0u64, zero, zero, zero)
}

fn labels(labels: Vec<(String, bool)>) -> impl Put {
    let count = i32::try_from(labels.len()).unwrap_or(i32::MAX);
    (labels.into_iter().map(|(label, enforcing)| (Chars(label), enforcing)).collect::<Vec<_>>(), count)
}

fn first_label(labels: Vec<(String, bool)>) -> impl Put {
    let (label, enforcing) = labels.into_iter().next().unwrap_or_default();
    (Chars(label), enforcing)
}

/// Kind, text, prefix, namespace and flags of `virDomainSetMetadata`.
type SetMetadataFields = (i32, Option<String>, Option<String>, Option<String>, u32);

/// `virDomainBlockStatsStruct`: what is not known is -1.
fn block_stats(params: TypedParams) -> impl Put {
    let value = |name: &str| match params.get(name) {
        Some(ParamValue::Llong(value)) => *value,
        _ => -1,
    };
    (value("rd_operations"), value("rd_bytes"), value("wr_operations"), value("wr_bytes"), -1i64)
}

/// `virDomainInterfaceStatsStruct`.
fn interface_stats(c: InterfaceCounters) -> impl Put {
    (c.rx_bytes, c.rx_packets, c.rx_errs, c.rx_drop, c.tx_bytes, c.tx_packets, c.tx_errs, c.tx_drop)
}

/// `virDomainInterface`s: name, MAC address, and family, address and prefix of each address.
fn addresses(found: Vec<InterfaceAddresses>) -> impl Put {
    let one = |found: InterfaceAddresses| {
        let address = |(address, prefix): (std::net::IpAddr, u8)| {
            (i32::from(address.is_ipv6()), address.to_string(), u32::from(prefix))
        };
        let all: Vec<_> = found.addresses.into_iter().map(address).collect();
        (found.name, found.mac.map(|mac| mac.to_string()), all)
    };
    found.into_iter().map(one).collect::<Vec<_>>()
}

/// A bit per CPU, as clients send it.
fn bits(map: &Opaque) -> Vec<bool> {
    map.0.iter().flat_map(|byte| (0..8).map(move |bit| byte & (1 << bit) != 0)).collect()
}

/// `length` bytes of a map: one bit per CPU.
pub(super) fn map(cpus: &[bool], length: i32) -> Vec<u8> {
    let mut bytes = vec![0u8; usize::try_from(length).unwrap_or(0).min(MAP_MAX)];
    for (cpu, _) in cpus.iter().enumerate().filter(|(_, on)| **on) {
        if let Some(byte) = bytes.get_mut(cpu / 8) {
            *byte |= 1 << (cpu % 8);
        }
    }
    bytes
}

/// All parameters but those that are text, which these calls never carry.
fn without_text(params: TypedParams) -> Params {
    wire::counted(i32::MAX, 0, params).0
}

fn vcpus(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, most, length): (DomainHandle, i32, i32) = at.arguments()?;
        let domain = connection.domain(&handle.uuid)?;
        let mut all = api::dispatch::<GetVcpuInfo>(&caller, &domain, ()).await?;
        all.truncate(usize::try_from(most).unwrap_or(0));
        let maps = all.iter().flat_map(|(_, cpus)| map(cpus, length)).collect();
        let infos: Vec<(u32, i32, u64, i32)> =
            all.into_iter().map(|(vcpu, _)| (vcpu.number, vcpu.state, vcpu.cpu_time, vcpu.cpu)).collect();
        Ok(Answer::value(&(infos, Opaque(maps))))
    })
}

fn vcpu_pins(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, most, length, flags): (DomainHandle, i32, i32, u32) = at.arguments()?;
        let domain = connection.domain(&handle.uuid)?;
        let mut pins = api::dispatch::<GetVcpuPinInfo>(&caller, &domain, flags).await?;
        pins.truncate(usize::try_from(most).unwrap_or(0));
        let number = i32::try_from(pins.len()).unwrap_or(i32::MAX);
        Ok(Answer::value(&(Opaque(pins.iter().flat_map(|cpus| map(cpus, length)).collect()), number)))
    })
}

fn emulator_pin(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, length, flags): (DomainHandle, i32, u32) = at.arguments()?;
        let domain = connection.domain(&handle.uuid)?;
        let cpus = api::dispatch::<GetEmulatorPinInfo>(&caller, &domain, flags).await?;
        Ok(Answer::value(&(Opaque(map(&cpus, length)), 1i32)))
    })
}

/// A device for the running guest, as the calls without flags have it.
fn live(xml: String) -> XmlFlags {
    XmlFlags { xml, flags: affect::LIVE }
}

fn xml_flags((xml, flags): (String, u32)) -> XmlFlags {
    XmlFlags { xml, flags }
}

/// Asked for none, how many there are.
fn disk_errors(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, most, flags): (DomainHandle, u32, u32) = at.arguments()?;
        let domain = connection.domain(&handle.uuid)?;
        let mut errors = api::dispatch::<GetDiskErrors>(&caller, &domain, flags).await?;
        let count = i32::try_from(errors.len()).unwrap_or(i32::MAX);
        if most == 0 {
            return Ok(Answer::value(&(Vec::<(String, i32)>::new(), count)));
        }
        errors.truncate(most as usize);
        let count = i32::try_from(errors.len()).unwrap_or(i32::MAX);
        Ok(Answer::value(&(errors, count)))
    })
}

fn open_console(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, device, flags): (DomainHandle, Option<String>, u32) = at.arguments()?;
        let domain = connection.domain(&handle.uuid)?;
        let fd = api::dispatch::<OpenConsole>(&caller, &domain, ConsoleArgs { device, flags }).await?;
        Ok(Answer { stream: Some(StreamEnd::Fd(fd)), ..Answer::default() })
    })
}

pub(super) const DOMAIN: &[Procedure] = &[
    c(8, "DOMAIN_ATTACH_DEVICE", "virDomainAttachDevice").served(object!(AttachDevice, live, |()| ())),
    c(9, "DOMAIN_CREATE", "virDomainCreate").served(object!(Create, |()| 0, |()| ())),
    c(10, "DOMAIN_CREATE_XML", "virDomainCreateXML").served(connection!(
        CreateXml,
        |(xml, flags): (String, u32)| XmlFlags { xml, flags },
        handle
    )),
    c(11, "DOMAIN_DEFINE_XML", "virDomainDefineXML").served(connection!(
        DefineXml,
        |xml: String| XmlFlags { xml, flags: 0 },
        handle
    )),
    c(12, "DOMAIN_DESTROY", "virDomainDestroy").served(object!(Destroy, |()| 0, |()| ())),
    c(13, "DOMAIN_DETACH_DEVICE", "virDomainDetachDevice").served(object!(DetachDevice, live, |()| ())),
    c(14, "DOMAIN_GET_XML_DESC", "virDomainGetXMLDesc").served(object!(GetXmlDesc, |flags: u32| flags, |xml| xml)),
    c(15, "DOMAIN_GET_AUTOSTART", "virDomainGetAutostart").served(object!(GetAutostart, |()| (), |is| is)),
    c(16, "DOMAIN_GET_INFO", "virDomainGetInfo").served(object!(GetInfo, |()| (), info)),
    c(17, "DOMAIN_GET_MAX_MEMORY", "virDomainGetMaxMemory").served(object!(GetMaxMemory, |()| (), |kib| kib)),
    c(18, "DOMAIN_GET_MAX_VCPUS", "virDomainGetMaxVcpus").served(object!(GetVcpus, |()| max_vcpus(), signed)),
    c(19, "DOMAIN_GET_OS_TYPE", "virDomainGetOSType").served(object!(GetOsType, |()| (), |name| name)),
    c(20, "DOMAIN_GET_VCPUS", "virDomainGetVcpus").served((Class::Read, vcpus)),
    c(22, "DOMAIN_LOOKUP_BY_ID", "virDomainLookupByID").served(connection!(LookupById, |id: i32| id, handle)),
    c(23, "DOMAIN_LOOKUP_BY_NAME", "virDomainLookupByName").served(connection!(
        LookupByName,
        |name: String| name,
        handle
    )),
    c(24, "DOMAIN_LOOKUP_BY_UUID", "virDomainLookupByUUID").served(connection!(
        LookupByUuid,
        |uuid: Uuid| uuid,
        handle
    )),
    c(26, "DOMAIN_PIN_VCPU", "virDomainPinVcpu").served(object!(
        PinVcpu,
        |(vcpu, map): (u32, Opaque)| PinArgs { vcpu, cpus: bits(&map), flags: affect::LIVE },
        |()| ()
    )),
    c(27, "DOMAIN_REBOOT", "virDomainReboot").served(object!(Reboot, |flags: u32| flags, |()| ())),
    c(28, "DOMAIN_RESUME", "virDomainResume").served(object!(Resume, |()| (), |()| ())),
    c(29, "DOMAIN_SET_AUTOSTART", "virDomainSetAutostart").served(object!(SetAutostart, |on: bool| on, |()| ())),
    c(30, "DOMAIN_SET_MAX_MEMORY", "virDomainSetMaxMemory").served(object!(
        SetMemory,
        |memory: u64| MemoryArgs { memory, flags: flags::memory::MAXIMUM },
        |()| ()
    )),
    c(31, "DOMAIN_SET_MEMORY", "virDomainSetMemory").served(object!(
        SetMemory,
        |memory: u64| MemoryArgs { memory, flags: affect::LIVE },
        |()| ()
    )),
    c(32, "DOMAIN_SET_VCPUS", "virDomainSetVcpus").served(object!(
        SetVcpus,
        |count: u32| VcpusArgs { count, flags: affect::LIVE },
        |()| ()
    )),
    c(33, "DOMAIN_SHUTDOWN", "virDomainShutdown").served(object!(Shutdown, |()| 0, |()| ())),
    c(34, "DOMAIN_SUSPEND", "virDomainSuspend").served(object!(Suspend, |()| (), |()| ())),
    c(35, "DOMAIN_UNDEFINE", "virDomainUndefine").served(object!(Undefine, |()| 0, |()| ())),
    c(53, "DOMAIN_CORE_DUMP", "virDomainCoreDump").served(object!(
        api::CoreDump,
        |(to, flags)| api::DumpArgs { to, format: 0, flags },
        |()| ()
    )),
    c(54, "DOMAIN_RESTORE", "virDomainRestore"),
    c(55, "DOMAIN_SAVE", "virDomainSave"),
    c(56, "DOMAIN_GET_SCHEDULER_TYPE", "virDomainGetSchedulerType").served(object!(
        GetSchedulerType,
        |()| (),
        |scheduler| scheduler
    )),
    c(57, "DOMAIN_GET_SCHEDULER_PARAMETERS", "virDomainGetSchedulerParameters").served(object!(
        GetSchedulerParameters,
        |_asked: i32| 0,
        without_text
    )),
    c(58, "DOMAIN_SET_SCHEDULER_PARAMETERS", "virDomainSetSchedulerParameters").served(object!(
        SetSchedulerParameters,
        |params: Params| ParamsArgs { params: params.0, flags: 0 },
        |()| ()
    )),
    c(64, "DOMAIN_BLOCK_STATS", "virDomainBlockStats").served(object!(
        BlockStats,
        |disk: String| BlockStatsArgs { disk, flags: 0 },
        block_stats
    )),
    c(65, "DOMAIN_INTERFACE_STATS", "virDomainInterfaceStats").served(object!(
        InterfaceStats,
        |device: String| device,
        interface_stats
    )),
    c(103, "DOMAIN_BLOCK_PEEK", "virDomainBlockPeek").served(object!(BlockPeek, guest::block_peek, guest::bytes)),
    c(104, "DOMAIN_MEMORY_PEEK", "virDomainMemoryPeek").served(object!(MemoryPeek, guest::memory_peek, guest::bytes)),
    c(121, "DOMAIN_GET_SECURITY_LABEL", "virDomainGetSecurityLabel").served(object!(
        GetSecurityLabelList,
        |()| (),
        first_label
    )),
    c(150, "DOMAIN_IS_ACTIVE", "virDomainIsActive").served(object!(IsActive, |()| (), |is| is)),
    c(151, "DOMAIN_IS_PERSISTENT", "virDomainIsPersistent").served(object!(IsPersistent, |()| (), |is| is)),
    c(159, "DOMAIN_MEMORY_STATS", "virDomainMemoryStats").served(object!(
        MemoryStats,
        |(_most, flags): (u32, u32)| flags,
        |stats| stats
    )),
    c(160, "DOMAIN_ATTACH_DEVICE_FLAGS", "virDomainAttachDeviceFlags")
        .served(object!(AttachDevice, xml_flags, |()| ())),
    c(161, "DOMAIN_DETACH_DEVICE_FLAGS", "virDomainDetachDeviceFlags")
        .served(object!(DetachDevice, xml_flags, |()| ())),
    c(163, "DOMAIN_GET_JOB_INFO", "virDomainGetJobInfo").served(object!(GetJobInfo, |()| (), job_info)),
    c(164, "DOMAIN_ABORT_JOB", "virDomainAbortJob").served(object!(AbortJob, |()| 0, |()| ())),
    c(174, "DOMAIN_UPDATE_DEVICE_FLAGS", "virDomainUpdateDeviceFlags")
        .served(object!(UpdateDevice, xml_flags, |()| ())),
    c(182, "DOMAIN_MANAGED_SAVE", "virDomainManagedSave").served(object!(ManagedSave, |flags: u32| flags, |()| ())),
    c(183, "DOMAIN_HAS_MANAGED_SAVE_IMAGE", "virDomainHasManagedSaveImage").served(object!(
        HasManagedSaveImage,
        |flags: u32| flags,
        |has| has
    )),
    c(184, "DOMAIN_MANAGED_SAVE_REMOVE", "virDomainManagedSaveRemove").served(object!(
        ManagedSaveRemove,
        |flags: u32| flags,
        |()| ()
    )),
    c(194, "DOMAIN_GET_BLOCK_INFO", "virDomainGetBlockInfo").served(object!(
        GetBlockInfo,
        |(disk, flags): (String, u32)| BlockInfoArgs { disk, flags },
        |info| (info.allocation, info.capacity, info.physical)
    )),
    c(196, "DOMAIN_CREATE_WITH_FLAGS", "virDomainCreateWithFlags")
        .served((Class::Write, |at| on_domain_again::<Create, u32>(at, |flags| flags))),
    c(197, "DOMAIN_SET_MEMORY_PARAMETERS", "virDomainSetMemoryParameters").served(object!(
        SetMemoryParameters,
        |(params, flags): (Params, u32)| ParamsArgs { params: params.0, flags },
        |()| ()
    )),
    c(198, "DOMAIN_GET_MEMORY_PARAMETERS", "virDomainGetMemoryParameters").served((Class::Read, |at| {
        on_object_params::<GetMemoryParameters, (i32, u32)>(at, |(asked, flags)| (flags, asked, flags))
    })),
    c(199, "DOMAIN_SET_VCPUS_FLAGS", "virDomainSetVcpusFlags").served(object!(
        SetVcpus,
        |(count, flags): (u32, u32)| VcpusArgs { count, flags },
        |()| ()
    )),
    c(200, "DOMAIN_GET_VCPUS_FLAGS", "virDomainGetVcpusFlags").served(object!(GetVcpus, |flags: u32| flags, signed)),
    c(201, "DOMAIN_OPEN_CONSOLE", "virDomainOpenConsole").served((Class::Write, open_console)),
    c(202, "DOMAIN_IS_UPDATED", "virDomainIsUpdated").served(object!(IsUpdated, |()| (), |is| is)),
    c(204, "DOMAIN_SET_MEMORY_FLAGS", "virDomainSetMemoryFlags").served(object!(
        SetMemory,
        |(memory, flags): (u64, u32)| MemoryArgs { memory, flags },
        |()| ()
    )),
    c(205, "DOMAIN_SET_BLKIO_PARAMETERS", "virDomainSetBlkioParameters").served(object!(
        SetBlkioParameters,
        |(params, flags): (Params, u32)| ParamsArgs { params: params.0, flags },
        |()| ()
    )),
    c(206, "DOMAIN_GET_BLKIO_PARAMETERS", "virDomainGetBlkioParameters").served((Class::Read, |at| {
        on_object_params::<GetBlkioParameters, (i32, u32)>(at, |(asked, flags)| (flags, asked, flags))
    })),
    c(210, "DOMAIN_INJECT_NMI", "virDomainInjectNMI").served(object!(InjectNmi, |flags: u32| flags, |()| ())),
    c(211, "DOMAIN_SCREENSHOT", "virDomainScreenshot").served((Class::Write, guest::screenshot)),
    c(212, "DOMAIN_GET_STATE", "virDomainGetState")
        .served(object!(GetState, |flags: u32| flags, |state| (state.state as i32, state.reason))),
    c(219, "DOMAIN_SET_SCHEDULER_PARAMETERS_FLAGS", "virDomainSetSchedulerParametersFlags").served(object!(
        SetSchedulerParameters,
        |(params, flags): (Params, u32)| ParamsArgs { params: params.0, flags },
        |()| ()
    )),
    c(223, "DOMAIN_GET_SCHEDULER_PARAMETERS_FLAGS", "virDomainGetSchedulerParametersFlags").served(object!(
        GetSchedulerParameters,
        |(_asked, flags): (i32, u32)| flags,
        without_text
    )),
    c(225, "DOMAIN_PIN_VCPU_FLAGS", "virDomainPinVcpuFlags").served(object!(
        PinVcpu,
        |(vcpu, map, flags): (u32, Opaque, u32)| PinArgs { vcpu, cpus: bits(&map), flags },
        |()| ()
    )),
    c(226, "DOMAIN_SEND_KEY", "virDomainSendKey").served(object!(SendKey, guest::keys, |()| ())),
    c(229, "DOMAIN_GET_CONTROL_INFO", "virDomainGetControlInfo").served(object!(
        GetControlInfo,
        |flags: u32| flags,
        |info| (info.state, info.details, info.state_time)
    )),
    c(230, "DOMAIN_GET_VCPU_PIN_INFO", "virDomainGetVcpuPinInfo").served((Class::Read, vcpu_pins)),
    c(231, "DOMAIN_UNDEFINE_FLAGS", "virDomainUndefineFlags").served(object!(Undefine, |flags: u32| flags, |()| ())),
    c(232, "DOMAIN_SAVE_FLAGS", "virDomainSaveFlags"),
    c(233, "DOMAIN_RESTORE_FLAGS", "virDomainRestoreFlags"),
    c(234, "DOMAIN_DESTROY_FLAGS", "virDomainDestroyFlags").served(object!(Destroy, |flags: u32| flags, |()| ())),
    c(235, "DOMAIN_SAVE_IMAGE_GET_XML_DESC", "virDomainSaveImageGetXMLDesc"),
    c(236, "DOMAIN_SAVE_IMAGE_DEFINE_XML", "virDomainSaveImageDefineXML"),
    c(237, "DOMAIN_BLOCK_JOB_ABORT", "virDomainBlockJobAbort").served(object!(
        api::BlockJobAbort,
        |(disk, flags): (String, u32)| api::BlockJobArgs { disk, flags },
        |()| ()
    )),
    c(238, "DOMAIN_GET_BLOCK_JOB_INFO", "virDomainGetBlockJobInfo").served(object!(
        api::GetBlockJobInfo,
        |(disk, flags): (String, u32)| api::BlockJobArgs { disk, flags },
        guest::block_job
    )),
    c(239, "DOMAIN_BLOCK_JOB_SET_SPEED", "virDomainBlockJobSetSpeed").served(object!(
        api::BlockJobSetSpeed,
        |(disk, _bandwidth, flags): (String, u64, u32)| api::BlockJobArgs { disk, flags },
        |()| ()
    )),
    c(240, "DOMAIN_BLOCK_PULL", "virDomainBlockPull"),
    c(243, "DOMAIN_BLOCK_STATS_FLAGS", "virDomainBlockStatsFlags").served((Class::Read, |at| {
        on_object_params::<BlockStats, (String, i32, u32)>(at, |(disk, asked, flags)| {
            (BlockStatsArgs { disk, flags }, asked, flags)
        })
    })),
    c(245, "DOMAIN_RESET", "virDomainReset").served(object!(Reset, |flags: u32| flags, |()| ())),
    c(249, "DOMAIN_OPEN_GRAPHICS", "virDomainOpenGraphics").served((Class::Write, guest::show_graphics)),
    c(251, "DOMAIN_BLOCK_RESIZE", "virDomainBlockResize").served(object!(
        BlockResize,
        |(disk, size, flags): (String, u64, u32)| BlockResizeArgs { disk, size, flags },
        |()| ()
    )),
    c(252, "DOMAIN_SET_BLOCK_IO_TUNE", "virDomainSetBlockIoTune").served(object!(
        SetBlockIoTune,
        guest::set_block_tune,
        |()| ()
    )),
    c(253, "DOMAIN_GET_BLOCK_IO_TUNE", "virDomainGetBlockIoTune")
        .served((Class::Read, |at| on_object_params::<GetBlockIoTune, _>(at, guest::block_tune))),
    c(254, "DOMAIN_SET_NUMA_PARAMETERS", "virDomainSetNumaParameters").served(object!(
        SetNumaParameters,
        |(params, flags): (Params, u32)| ParamsArgs { params: params.0, flags },
        |()| ()
    )),
    c(255, "DOMAIN_GET_NUMA_PARAMETERS", "virDomainGetNumaParameters").served((Class::Read, |at| {
        on_object_params::<GetNumaParameters, (i32, u32)>(at, |(asked, flags)| (flags, asked, flags))
    })),
    c(256, "DOMAIN_SET_INTERFACE_PARAMETERS", "virDomainSetInterfaceParameters").served(object!(
        SetInterfaceParameters,
        guest::set_interface,
        |()| ()
    )),
    c(257, "DOMAIN_GET_INTERFACE_PARAMETERS", "virDomainGetInterfaceParameters")
        .served((Class::Read, |at| on_object_params::<GetInterfaceParameters, _>(at, guest::interface))),
    c(258, "DOMAIN_SHUTDOWN_FLAGS", "virDomainShutdownFlags").served(object!(Shutdown, |flags: u32| flags, |()| ())),
    c(261, "DOMAIN_PM_SUSPEND_FOR_DURATION", "virDomainPMSuspendForDuration").served(object!(
        PmSuspend,
        |(target, duration, flags): (u32, u64, u32)| PmSuspendArgs { target, duration, flags },
        |()| ()
    )),
    c(262, "DOMAIN_GET_CPU_STATS", "virDomainGetCPUStats").served((Class::Read, guest::cpu_stats)),
    c(263, "DOMAIN_GET_DISK_ERRORS", "virDomainGetDiskErrors").served((Class::Read, disk_errors)),
    c(264, "DOMAIN_SET_METADATA", "virDomainSetMetadata").served(object!(
        SetMetadata,
        |(kind, metadata, key, uri, flags): SetMetadataFields| SetMetadataArgs { kind, metadata, key, uri, flags },
        |()| ()
    )),
    c(265, "DOMAIN_GET_METADATA", "virDomainGetMetadata").served(object!(
        GetMetadata,
        |(kind, uri, flags): (i32, Option<String>, u32)| MetadataArgs { kind, uri, flags },
        |text| text
    )),
    c(266, "DOMAIN_BLOCK_REBASE", "virDomainBlockRebase"),
    c(267, "DOMAIN_PM_WAKEUP", "virDomainPMWakeup").served(object!(PmWakeup, |flags: u32| flags, |()| ())),
    c(277, "DOMAIN_GET_HOSTNAME", "virDomainGetHostname").served(object!(
        GetDomainHostname,
        |flags: u32| flags,
        |name| name
    )),
    c(278, "DOMAIN_GET_SECURITY_LABEL_LIST", "virDomainGetSecurityLabelList").served(object!(
        GetSecurityLabelList,
        |()| (),
        labels
    )),
    c(279, "DOMAIN_PIN_EMULATOR", "virDomainPinEmulator").served(object!(
        PinEmulator,
        |(map, flags): (Opaque, u32)| PinArgs { vcpu: 0, cpus: bits(&map), flags },
        |()| ()
    )),
    c(280, "DOMAIN_GET_EMULATOR_PIN_INFO", "virDomainGetEmulatorPinInfo").served((Class::Read, emulator_pin)),
    c(290, "DOMAIN_BLOCK_COMMIT", "virDomainBlockCommit"),
    c(294, "DOMAIN_FSTRIM", "virDomainFSTrim").served(object!(
        FsTrim,
        |(mountpoint, minimum, flags): (Option<String>, u64, u32)| TrimArgs { mountpoint, minimum, flags },
        |()| ()
    )),
    c(295, "DOMAIN_SEND_PROCESS_SIGNAL", "virDomainSendProcessSignal").served(object!(
        SendProcessSignal,
        |(pid, signal, flags): (i64, u32, u32)| SignalArgs { pid, signal, flags },
        |()| ()
    )),
    c(296, "DOMAIN_OPEN_CHANNEL", "virDomainOpenChannel").served((Class::Write, guest::open_channel)),
    c(298, "DOMAIN_GET_JOB_STATS", "virDomainGetJobStats").served(object!(GetJobStats, |flags: u32| flags, |(
        kind,
        params,
    )| (
        kind,
        Params(params)
    ))),
    c(308, "DOMAIN_SET_MEMORY_STATS_PERIOD", "virDomainSetMemoryStatsPeriod").served(object!(
        SetMemoryStatsPeriod,
        |(period, flags): (i32, u32)| PeriodArgs { period, flags },
        |()| ()
    )),
    c(309, "DOMAIN_CREATE_XML_WITH_FILES", "virDomainCreateXMLWithFiles")
        .served((Class::Write, guest::create_xml_with_files)),
    c(310, "DOMAIN_CREATE_WITH_FILES", "virDomainCreateWithFiles").served((Class::Write, guest::create_with_files)),
    c(334, "DOMAIN_CORE_DUMP_WITH_FORMAT", "virDomainCoreDumpWithFormat").served(object!(
        api::CoreDump,
        |(to, format, flags)| api::DumpArgs { to, format, flags },
        |()| ()
    )),
    c(335, "DOMAIN_FSFREEZE", "virDomainFSFreeze").served(object!(FsFreeze, guest::mountpoints, |count| count)),
    c(336, "DOMAIN_FSTHAW", "virDomainFSThaw").served(object!(FsThaw, guest::mountpoints, |count| count)),
    c(337, "DOMAIN_GET_TIME", "virDomainGetTime").served(object!(GetTime, |flags: u32| flags, |time| time)),
    c(338, "DOMAIN_SET_TIME", "virDomainSetTime").served(object!(
        SetTime,
        |(seconds, nanoseconds, flags): (i64, u32, u32)| TimeArgs { seconds, nanoseconds, flags },
        |()| ()
    )),
    c(343, "DOMAIN_OPEN_GRAPHICS_FD", "virDomainOpenGraphicsFD").served((Class::Write, guest::open_graphics)),
    c(345, "DOMAIN_BLOCK_COPY", "virDomainBlockCopy"),
    c(349, "DOMAIN_GET_FSINFO", "virDomainGetFSInfo").served(object!(
        GetFsInfo,
        |flags: u32| flags,
        guest::file_systems
    )),
    c(350, "DOMAIN_DEFINE_XML_FLAGS", "virDomainDefineXMLFlags").served(connection!(
        DefineXml,
        |(xml, flags): (String, u32)| XmlFlags { xml, flags },
        handle
    )),
    c(351, "DOMAIN_GET_IOTHREAD_INFO", "virDomainGetIOThreadInfo").served(object!(
        GetIoThreadInfo,
        |flags: u32| flags,
        guest::iothreads
    )),
    c(352, "DOMAIN_PIN_IOTHREAD", "virDomainPinIOThread").served(object!(
        api::PinIoThread,
        |(id, map, flags): (u32, Opaque, u32)| api::PinIoThreadArgs { id, cpus: bits(&map), flags },
        |()| ()
    )),
    c(353, "DOMAIN_INTERFACE_ADDRESSES", "virDomainInterfaceAddresses").served(object!(
        GetInterfaceAddresses,
        |(source, flags): (u32, u32)| AddressesArgs { source, flags },
        addresses
    )),
    c(355, "DOMAIN_ADD_IOTHREAD", "virDomainAddIOThread").served(object!(
        AddIoThread,
        |(id, flags): (u32, u32)| IoThreadArgs { id, flags },
        |()| ()
    )),
    c(356, "DOMAIN_DEL_IOTHREAD", "virDomainDelIOThread").served(object!(
        DelIoThread,
        |(id, flags): (u32, u32)| IoThreadArgs { id, flags },
        |()| ()
    )),
    c(357, "DOMAIN_SET_USER_PASSWORD", "virDomainSetUserPassword").served(object!(
        SetUserPassword,
        |(user, password, flags): (Option<String>, Option<String>, u32)| PasswordArgs {
            user: user.unwrap_or_default(),
            password: password.unwrap_or_default(),
            flags
        },
        |()| ()
    )),
    c(358, "DOMAIN_RENAME", "virDomainRename").served(object!(
        Rename,
        |(name, flags): (Option<String>, u32)| RenameArgs { name: name.unwrap_or_default(), flags },
        |()| 0i32
    )),
    c(365, "DOMAIN_GET_PERF_EVENTS", "virDomainGetPerfEvents").served(object!(
        api::GetPerfEvents,
        |flags: u32| flags,
        Params
    )),
    c(366, "DOMAIN_SET_PERF_EVENTS", "virDomainSetPerfEvents").served(object!(
        api::SetPerfEvents,
        |(params, flags): (Params, u32)| ParamsArgs { params: params.0, flags },
        |()| ()
    )),
    c(371, "DOMAIN_GET_GUEST_VCPUS", "virDomainGetGuestVcpus").served(object!(
        GetGuestVcpus,
        |flags: u32| flags,
        Params
    )),
    c(372, "DOMAIN_SET_GUEST_VCPUS", "virDomainSetGuestVcpus").served(object!(
        SetGuestVcpus,
        |(cpus, state, flags): (String, i32, u32)| GuestVcpusArgs { cpus, state, flags },
        |()| ()
    )),
    c(384, "DOMAIN_SET_VCPU", "virDomainSetVcpu").served(object!(
        api::SetVcpu,
        |(vcpus, state, flags): (String, i32, u32)| api::VcpuStateArgs { vcpus, state, flags },
        |()| ()
    )),
    c(386, "DOMAIN_SET_BLOCK_THRESHOLD", "virDomainSetBlockThreshold").served(object!(
        SetBlockThreshold,
        |(device, threshold, flags): (String, u64, u32)| ThresholdArgs { device, threshold, flags },
        |()| ()
    )),
    c(388, "DOMAIN_MANAGED_SAVE_GET_XML_DESC", "virDomainManagedSaveGetXMLDesc").served(object!(
        api::ManagedSaveGetXmlDesc,
        |flags: u32| flags,
        |xml| xml
    )),
    c(389, "DOMAIN_MANAGED_SAVE_DEFINE_XML", "virDomainManagedSaveDefineXML").served(object!(
        api::ManagedSaveDefineXml,
        |_: (Option<String>, u32)| (),
        |()| ()
    )),
    c(390, "DOMAIN_SET_LIFECYCLE_ACTION", "virDomainSetLifecycleAction").served(object!(
        SetLifecycleAction,
        |(kind, action, flags): (u32, u32, u32)| LifecycleArgs { kind, action, flags },
        |()| ()
    )),
    c(392, "DOMAIN_DETACH_DEVICE_ALIAS", "virDomainDetachDeviceAlias").served(object!(
        DetachDeviceAlias,
        |(alias, flags): (String, u32)| AliasArgs { alias, flags },
        |()| ()
    )),
    c(396, "DOMAIN_GET_LAUNCH_SECURITY_INFO", "virDomainGetLaunchSecurityInfo").served(object!(
        api::GetLaunchSecurityInfo,
        |flags: u32| flags,
        Params
    )),
    c(402, "DOMAIN_SET_IOTHREAD_PARAMS", "virDomainSetIOThreadParams").served(object!(
        api::SetIoThreadParams,
        guest::iothread_params,
        |()| ()
    )),
    c(418, "DOMAIN_GET_GUEST_INFO", "virDomainGetGuestInfo").served(object!(
        GetGuestInfo,
        |(types, flags): (u32, u32)| GuestInfoArgs { types, flags },
        Params
    )),
    c(420, "DOMAIN_AGENT_SET_RESPONSE_TIMEOUT", "virDomainAgentSetResponseTimeout").served(object!(
        AgentSetResponseTimeout,
        |(timeout, flags): (i32, u32)| AgentTimeoutArgs { timeout, flags },
        |()| 0i32
    )),
    c(421, "DOMAIN_BACKUP_BEGIN", "virDomainBackupBegin"),
    c(422, "DOMAIN_BACKUP_GET_XML_DESC", "virDomainBackupGetXMLDesc").served(object!(
        api::BackupGetXmlDesc,
        |flags: u32| flags,
        |()| ()
    )),
    c(424, "DOMAIN_AUTHORIZED_SSH_KEYS_GET", "virDomainAuthorizedSSHKeysGet").served(object!(
        AuthorizedKeysGet,
        |(user, flags): (String, u32)| KeysArgs { user, keys: Vec::new(), flags },
        |keys| keys
    )),
    c(425, "DOMAIN_AUTHORIZED_SSH_KEYS_SET", "virDomainAuthorizedSSHKeysSet").served(object!(
        AuthorizedKeysSet,
        guest::authorized,
        |()| ()
    )),
    c(426, "DOMAIN_GET_MESSAGES", "virDomainGetMessages")
        .served(object!(GetMessages, |flags: u32| flags, |lines| lines)),
    c(427, "DOMAIN_START_DIRTY_RATE_CALC", "virDomainStartDirtyRateCalc"),
    c(439, "DOMAIN_SET_LAUNCH_SECURITY_STATE", "virDomainSetLaunchSecurityState").served(object!(
        api::SetLaunchSecurityState,
        |(params, _flags): (Params, u32)| params.0,
        |()| ()
    )),
    c(440, "DOMAIN_SAVE_PARAMS", "virDomainSaveParams"),
    c(441, "DOMAIN_RESTORE_PARAMS", "virDomainRestoreParams"),
    c(442, "DOMAIN_ABORT_JOB_FLAGS", "virDomainAbortJobFlags").served(object!(AbortJob, |flags: u32| flags, |()| ())),
    c(443, "DOMAIN_FD_ASSOCIATE", "virDomainFDAssociate"),
    c(448, "DOMAIN_GRAPHICS_RELOAD", "virDomainGraphicsReload"),
    c(449, "DOMAIN_GET_AUTOSTART_ONCE", "virDomainGetAutostartOnce"),
    c(450, "DOMAIN_SET_AUTOSTART_ONCE", "virDomainSetAutostartOnce"),
    c(451, "DOMAIN_SET_THROTTLE_GROUP", "virDomainSetThrottleGroup"),
    c(452, "DOMAIN_DEL_THROTTLE_GROUP", "virDomainDelThrottleGroup"),
];

pub(super) const QEMU: &[Procedure] = &[
    c(1, "DOMAIN_MONITOR_COMMAND", "virDomainQemuMonitorCommand").served(object!(
        QemuMonitorCommand,
        |(command, flags): (String, u32)| MonitorArgs { command, flags },
        |text| text
    )),
    c(2, "DOMAIN_ATTACH", "virDomainQemuAttach"),
    c(3, "DOMAIN_AGENT_COMMAND", "virDomainQemuAgentCommand").served(object!(
        QemuAgentCommand,
        |(command, timeout, flags): (String, i32, u32)| AgentCommandArgs { command, timeout, flags },
        |text| text
    )),
    c(4, "CONNECT_DOMAIN_MONITOR_EVENT_REGISTER", "virConnectDomainQemuMonitorEventRegister")
        .served((Class::Write, session::register_monitor_event)),
    c(5, "CONNECT_DOMAIN_MONITOR_EVENT_DEREGISTER", "virConnectDomainQemuMonitorEventDeregister")
        .served((Class::Write, session::deregister_monitor_event)),
    c(7, "DOMAIN_MONITOR_COMMAND_WITH_FILES", "virDomainQemuMonitorCommandWithFiles")
        .served((Class::Write, guest::monitor_command_with_files)),
];

pub(super) const LXC: &[Procedure] =
    &[c(1, "DOMAIN_OPEN_NAMESPACE", "virDomainLxcOpenNamespace").served((Class::Write, guest::namespaces))];
