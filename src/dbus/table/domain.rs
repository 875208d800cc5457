//! `org.libvirt.Domain`: the members of a domain.

use super::snapshot::{snapshot_path, snapshot_paths};
use super::{Interface, Method, Property, Signal, m, p, s};
use crate::dbus::call::{fact, object, property, set_switch};
use crate::dbus::codec::{self, Params, Tags, optional};
use crate::dbus::fault::Fault;
use crate::engine::Domain;
use crate::engine::api;
use crate::engine::api::{
    AddressesArgs, AttachDevice, Create, Destroy, DetachDevice, GetAutostart, GetBlkioParameters, GetControlInfo,
    GetDiskErrors, GetDomainHostname, GetEmulatorPinInfo, GetInterfaceAddresses, GetJobInfo, GetJobStats,
    GetMemoryParameters, GetMetadata, GetNumaParameters, GetOsType, GetSchedulerParameters, GetSchedulerType,
    GetSecurityLabelList, GetState, GetStats, GetVcpuPinInfo, GetVcpus, GetXmlDesc, HasManagedSaveImage, IsActive,
    IsPersistent, IsUpdated, JobInfo, ListAllSnapshots, ManagedSave, ManagedSaveRemove, MemoryArgs, MemoryStats,
    MetadataArgs, ParamsArgs, PinArgs, PinEmulator, PinVcpu, Reboot, Rename, RenameArgs, Reset, Resume, SetAutostart,
    SetBlkioParameters, SetMemory, SetMemoryParameters, SetMetadata, SetMetadataArgs, SetNumaParameters,
    SetSchedulerParameters, SetVcpus, Shutdown, SnapshotCreateXml, SnapshotCurrent, SnapshotLookupByName, StatsArgs,
    Suspend, Undefine, UpdateDevice, VcpusArgs, XmlFlags,
};
use crate::engine::driver::InterfaceAddresses;
use crate::types::TypedParams;
use std::collections::HashMap;
use zbus::OwnedVariant;

/// `(ittttttttttt)`: type, time elapsed and remaining, then total, processed, remaining of data, memory and files.
type JobFields = (i32, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64);

fn job_info(info: &JobInfo) -> JobFields {
    (info.kind, info.time_elapsed, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
}

/// Interface name, MAC address, then family, address and prefix of each address.
type AddressFields = (String, String, Vec<(i32, String, u32)>);

fn addresses(found: Vec<InterfaceAddresses>) -> Vec<AddressFields> {
    let one = |found: InterfaceAddresses| {
        let address = |(address, prefix): (std::net::IpAddr, u8)| {
            (i32::from(address.is_ipv6()), address.to_string(), u32::from(prefix))
        };
        let mac = found.mac.map(|mac| mac.to_string()).unwrap_or_default();
        (found.name, mac, found.addresses.into_iter().map(address).collect())
    };
    found.into_iter().map(one).collect()
}

fn params_args((params, flags): (HashMap<String, OwnedVariant>, u32)) -> Result<ParamsArgs, Fault> {
    Ok(ParamsArgs { params: codec::params(params)?, flags })
}

/// More than 32 bits of size are too many in any case.
fn peek(disk: String, offset: u64, size: u64, flags: u32) -> api::PeekArgs {
    api::PeekArgs { disk, offset, size: u32::try_from(size).unwrap_or(u32::MAX), flags }
}

/// libvirt-dbus's interface of a domain.
pub static INTERFACE: Interface = Interface {
    name: "org.libvirt.Domain",
    xml: include_str!("../../../schemas/dbus/org.libvirt.Domain.xml"),
    emits_changed: false,
    methods: METHODS,
    properties: PROPERTIES,
    signals: SIGNALS,
};

const PROPERTIES: &[Property] = &[
    p("Active", "b", "virDomainIsActive").get(|at| property::<IsActive, _>(at, || (), |is| is)),
    p("Autostart", "b", "virDomainGetAutostart")
        .writable("virDomainSetAutostart")
        .get(|at| property::<GetAutostart, _>(at, || (), |is| is))
        .set(set_switch::<SetAutostart>),
    p("Id", "u", "virDomainGetID")
        .get(|at| fact(at, |domain: &Domain| domain.id().and_then(|id| u32::try_from(id).ok()).unwrap_or(0))),
    p("Name", "s", "virDomainGetName").get(|at| fact(at, |domain: &Domain| domain.name())),
    p("OSType", "s", "virDomainGetOSType").get(|at| property::<GetOsType, _>(at, || (), |name| name)),
    p("Persistent", "b", "virDomainIsPersistent").get(|at| property::<IsPersistent, _>(at, || (), |is| is)),
    p("SchedulerType", "(si)", "virDomainGetSchedulerType")
        .get(|at| property::<GetSchedulerType, _>(at, || (), |scheduler| scheduler)),
    p("Updated", "b", "virDomainIsUpdated").get(|at| property::<IsUpdated, _>(at, || (), |is| is)),
    p("UUID", "s", "virDomainGetUUIDString").constant().get(|at| fact(at, |domain: &Domain| domain.uuid().to_string())),
];

const METHODS: &[Method] = &[
    m("AbortJob", "", "", "virDomainAbortJob").served(object!(api::AbortJob, |()| Ok(0), |_, ()| ())),
    m("AddIOThread", "iothreadId u, flags u", "", "virDomainAddIOThread").served(object!(
        api::AddIoThread,
        |(id, flags)| Ok(api::IoThreadArgs { id, flags }),
        |_, ()| ()
    )),
    m("AttachDevice", "xml s, flags u", "", "virDomainAttachDeviceFlags").served(object!(
        AttachDevice,
        |(xml, flags): (String, u32)| Ok(XmlFlags { xml, flags }),
        |_, ()| ()
    )),
    m("BlockCommit", "disk s, base s, top s, bandwidth t, flags u", "", "virDomainBlockCommit"),
    m("BlockCopy", "disk s, destxml s, params a{sv}, flags u", "", "virDomainBlockCopy"),
    m("BlockJobAbort", "disk s, flags u", "", "virDomainBlockJobAbort"),
    m("BlockPeek", "disk s, offset t, size t, flags u", "buffer ay", "virDomainBlockPeek").served(object!(
        api::BlockPeek,
        |(disk, offset, size, flags)| Ok(peek(disk, offset, size, flags)),
        |_, bytes| bytes
    )),
    m("BlockPull", "disk s, bandwidth t, flags u", "", "virDomainBlockPull"),
    m("BlockRebase", "disk s, base s, bandwidth t, flags u", "", "virDomainBlockRebase"),
    m("BlockResize", "disk s, size t, flags u", "", "virDomainBlockResize").served(object!(
        api::BlockResize,
        |(disk, size, flags)| Ok(api::BlockResizeArgs { disk, size, flags }),
        |_, ()| ()
    )),
    m("BlockJobSetSpeed", "disk s, bandwidth t, flags u", "", "virDomainBlockJobSetSpeed"),
    m("CoreDump", "to s, dumpformat u, flags u", "", "virDomainCoreDumpWithFormat").served(object!(
        api::CoreDump,
        |(to, format, flags)| Ok(api::DumpArgs { to, format, flags }),
        |_, ()| ()
    )),
    m("Create", "flags u", "", "virDomainCreateWithFlags").served(object!(Create, |flags: u32| Ok(flags), |_, ()| ())),
    m("CreateWithFiles", "files ah, flags u", "", "virDomainCreateWithFiles"),
    m("DelIOThread", "iothreadId u, flags u", "", "virDomainDelIOThread").served(object!(
        api::DelIoThread,
        |(id, flags)| Ok(api::IoThreadArgs { id, flags }),
        |_, ()| ()
    )),
    m("Destroy", "flags u", "", "virDomainDestroyFlags").served(object!(Destroy, |flags: u32| Ok(flags), |_, ()| ())),
    m("DetachDevice", "xml s, flags u", "", "virDomainDetachDeviceFlags").served(object!(
        DetachDevice,
        |(xml, flags): (String, u32)| Ok(XmlFlags { xml, flags }),
        |_, ()| ()
    )),
    m("FSFreeze", "mountpoints as, flags u", "frozenFilesystems u", "virDomainFSFreeze").served(object!(
        api::FsFreeze,
        |(mountpoints, flags)| Ok(api::FreezeArgs { mountpoints, flags }),
        |_, count| u32::try_from(count).unwrap_or(0)
    )),
    m("FSThaw", "mountpoints as, flags u", "thawedFilesystems u", "virDomainFSThaw").served(object!(
        api::FsThaw,
        |(mountpoints, flags)| Ok(api::FreezeArgs { mountpoints, flags }),
        |_, count| u32::try_from(count).unwrap_or(0)
    )),
    m("FSTrim", "mountpoint s, minimum t, flags u", "", "virDomainFSTrim").served(object!(
        api::FsTrim,
        |(mountpoint, minimum, flags): (String, u64, u32)| Ok(api::TrimArgs {
            mountpoint: optional(mountpoint),
            minimum,
            flags
        }),
        |_, ()| ()
    )),
    m("GetBlockIOParameters", "flags u", "BlkioParameters a{sv}", "virDomainGetBlkioParameters").served(object!(
        GetBlkioParameters,
        |flags: u32| Ok(flags),
        |_, params| (Params(params),)
    )),
    m("GetBlockIOTune", "disk s, flags u", "blockIOTune a{sv}", "virDomainGetBlockIoTune").served(object!(
        api::GetBlockIoTune,
        |(disk, flags): (String, u32)| Ok(api::BlockTuneArgs { disk: Some(disk), flags: flags | 4 }),
        |_, params| (Params(params),)
    )),
    m("GetBlockJobInfo", "disk s, flags u", "blockJobInfo (ittt)", "virDomainGetBlockJobInfo"),
    m("GetControlInfo", "flags u", "controlInfo (uut)", "virDomainGetControlInfo").served(object!(
        GetControlInfo,
        |flags: u32| Ok(flags),
        |_, info| ((info.state, info.details, info.state_time),)
    )),
    m("GetDiskErrors", "flags u", "diskErrors a(si)", "virDomainGetDiskErrors").served(object!(
        GetDiskErrors,
        |flags: u32| Ok(flags),
        |_, errors| errors
    )),
    m("GetEmulatorPinInfo", "flags u", "cpumap ab", "virDomainGetEmulatorPinInfo").served(object!(
        GetEmulatorPinInfo,
        |flags: u32| Ok(flags),
        |_, map| (map,)
    )),
    m("GetFSInfo", "flags u", "fsInfo a(sssas)", "virDomainGetFSInfo").served(object!(
        api::GetFsInfo,
        |flags: u32| Ok(flags),
        |_, all| all.into_iter().map(|fs| (fs.mountpoint, fs.name, fs.kind, fs.disks)).collect::<Vec<_>>()
    )),
    m("GetGuestVcpus", "flags u", "vcpus a{sv}", "virDomainGetGuestVcpus").served(object!(
        api::GetGuestVcpus,
        |flags: u32| Ok(flags),
        |_, params| (Params(params),)
    )),
    m("GetHostname", "flags u", "hostname s", "virDomainGetHostname").served(object!(
        GetDomainHostname,
        |flags: u32| Ok(flags),
        |_, name| name
    )),
    m("GetInterfaceParameters", "device s, flags u", "interfaceParameters a{sv}", "virDomainGetInterfaceParameters")
        .served(object!(
            api::GetInterfaceParameters,
            |(device, flags): (String, u32)| Ok(api::InterfaceTuneArgs { device, params: TypedParams::new(), flags }),
            |_, params| (Params(params),)
        )),
    m("GetIOThreadInfo", "flags u", "ioThreadInfo a(uab)", "virDomainGetIOThreadInfo").served(object!(
        api::GetIoThreadInfo,
        |flags: u32| Ok(flags),
        |_, all| all.into_iter().map(|thread| (thread.id, thread.cpus)).collect::<Vec<_>>()
    )),
    m("GetJobInfo", "", "jobInfo (ittttttttttt)", "virDomainGetJobInfo").served(object!(
        GetJobInfo,
        |()| Ok(()),
        |_, info| (job_info(&info),)
    )),
    m("GetJobStats", "flags u", "stats (ia{sv})", "virDomainGetJobStats").served(object!(
        GetJobStats,
        |flags: u32| Ok(flags),
        |_, (kind, params)| ((kind, Params(params)),)
    )),
    m("GetMemoryParameters", "flags u", "memoryParameters a{sv}", "virDomainGetMemoryParameters").served(object!(
        GetMemoryParameters,
        |flags: u32| Ok(flags),
        |_, params| (Params(params),)
    )),
    m("GetMetadata", "type i, uri s, flags u", "metadata s", "virDomainGetMetadata").served(object!(
        GetMetadata,
        |(kind, uri, flags): (i32, String, u32)| Ok(MetadataArgs { kind, uri: optional(uri), flags }),
        |_, text| text
    )),
    m("GetNumaParameters", "flags u", "numaParameters a{sv}", "virDomainGetNumaParameters").served(object!(
        GetNumaParameters,
        |flags: u32| Ok(flags),
        |_, params| (Params(params),)
    )),
    m("GetPerfEvents", "flags u", "perfEvents a{sv}", "virDomainGetPerfEvents"),
    m("GetSchedulerParameters", "flags u", "SchedulerParameters a{sv}", "virDomainGetSchedulerParametersFlags")
        .served(object!(GetSchedulerParameters, |flags: u32| Ok(flags), |_, params| (Params(params),))),
    m("GetSecurityLabelList", "", "securityLabels a(sb)", "virDomainGetSecurityLabelList").served(object!(
        GetSecurityLabelList,
        |()| Ok(()),
        |_, labels| labels
    )),
    m("GetState", "flags u", "state (ii)", "virDomainGetState").served(object!(
        GetState,
        |flags: u32| Ok(flags),
        |_, now| ((now.state as i32, now.reason),)
    )),
    m("GetStats", "stats u, flags u", "records a{sv}", "virDomainListGetStats").served(object!(
        GetStats,
        |(stats, flags): (u32, u32)| Ok(StatsArgs { stats, flags }),
        |_, params| (Params(params),)
    )),
    m("GetTime", "flags u", "time (tu)", "virDomainGetTime").served(object!(
        api::GetTime,
        |flags: u32| Ok(flags),
        |_, (seconds, ns)| ((u64::try_from(seconds).unwrap_or(0), ns),)
    )),
    m("GetVcpuPinInfo", "flags u", "vcpuPinInfo aab", "virDomainGetVcpuPinInfo").served(object!(
        GetVcpuPinInfo,
        |flags: u32| Ok(flags),
        |_, maps| (maps,)
    )),
    m("GetVcpus", "flags u", "vcpus u", "virDomainGetVcpusFlags").served(object!(
        GetVcpus,
        |flags: u32| Ok(flags),
        |_, count| count
    )),
    m("GetXMLDesc", "flags u", "xml s", "virDomainGetXMLDesc").served(object!(
        GetXmlDesc,
        |flags: u32| Ok(flags),
        |_, xml| xml
    )),
    m("HasManagedSaveImage", "flags u", "managedSaveImage b", "virDomainHasManagedSaveImage").served(object!(
        HasManagedSaveImage,
        |flags: u32| Ok(flags),
        |_, has| has
    )),
    m("InjectNMI", "flags u", "", "virDomainInjectNMI").served(object!(
        api::InjectNmi,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("InterfaceAddresses", "source u, flags u", "ifaces a(ssa(isu))", "virDomainInterfaceAddresses").served(object!(
        GetInterfaceAddresses,
        |(source, flags)| Ok(AddressesArgs { source, flags }),
        |_, found| addresses(found)
    )),
    m("ListDomainSnapshots", "flags u", "domainSnapshots ao", "virDomainListAllSnapshots").served(object!(
        ListAllSnapshots,
        |flags: u32| Ok(flags),
        |at, snapshots| snapshot_paths(at, &snapshots)
    )),
    m("ManagedSave", "flags u", "", "virDomainManagedSave").served(object!(
        ManagedSave,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("ManagedSaveRemove", "flags u", "", "virDomainManagedSaveRemove").served(object!(
        ManagedSaveRemove,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("MemoryPeek", "offset t, size t, flags u", "buffer ay", "virDomainMemoryPeek").served(object!(
        api::MemoryPeek,
        |(offset, size, flags)| Ok(peek(String::new(), offset, size, flags)),
        |_, bytes| bytes
    )),
    m("MemoryStats", "flags u", "stats a{it}", "virDomainMemoryStats").served(object!(
        MemoryStats,
        |flags: u32| Ok(flags),
        |_, stats| Tags(stats)
    )),
    m("MigrateGetCompressionCache", "flags u", "cacheSize t", "virDomainMigrateGetCompressionCache"),
    m("MigrateGetMaxSpeed", "flags u", "bandwidth t", "virDomainMigrateGetMaxSpeed"),
    m("MigrateSetCompressionCache", "cacheSize t, flags u", "", "virDomainMigrateSetCompressionCache"),
    m("MigrateSetMaxDowntime", "downtime t, flags u", "", "virDomainMigrateSetMaxDowntime"),
    m("MigrateSetMaxSpeed", "bandwidth t, flags u", "", "virDomainMigrateSetMaxSpeed"),
    m("MigrateStartPostCopy", "flags u", "", "virDomainMigrateStartPostCopy"),
    m("MigrateToURI3", "dconuri s, params a{sv}, flags u", "", "virDomainMigrateToURI3"),
    m("OpenGraphicsFD", "idx u, flags u", "fd h", "virDomainOpenGraphicsFD").served(object!(
        api::OpenGraphicsFd,
        |(index, flags)| Ok(api::GraphicsArgs { index, flags }),
        |_, fd| zbus::OwnedFd::from(fd)
    )),
    m("PinEmulator", "cpumap ab, flags u", "", "virDomainPinEmulator").served(object!(
        PinEmulator,
        |(cpus, flags): (Vec<bool>, u32)| Ok(PinArgs { vcpu: 0, cpus, flags }),
        |_, ()| ()
    )),
    m("PinIOThread", "iothreadId u, cpumap ab, flags u", "", "virDomainPinIOThread"),
    m("PinVcpu", "vcpu u, cpumap ab, flags u", "", "virDomainPinVcpuFlags").served(object!(
        PinVcpu,
        |(vcpu, cpus, flags): (u32, Vec<bool>, u32)| Ok(PinArgs { vcpu, cpus, flags }),
        |_, ()| ()
    )),
    m("PMWakeup", "flags u", "", "virDomainPMWakeup").served(object!(
        api::PmWakeup,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("Reboot", "flags u", "", "virDomainReboot").served(object!(Reboot, |flags: u32| Ok(flags), |_, ()| ())),
    m("Rename", "name s, flags u", "", "virDomainRename").served(object!(
        Rename,
        |(name, flags): (String, u32)| Ok(RenameArgs { name, flags }),
        |_, ()| ()
    )),
    m("Reset", "flags u", "", "virDomainReset").served(object!(Reset, |flags: u32| Ok(flags), |_, ()| ())),
    m("Resume", "", "", "virDomainResume").served(object!(Resume, |()| Ok(()), |_, ()| ())),
    m("Save", "to s, xml s, flags u", "", "virDomainSaveFlags"),
    m("SendKey", "codeset u, holdtime u, keycodes au, flags u", "", "virDomainSendKey").served(object!(
        api::SendKey,
        |(codeset, hold_ms, keys, flags)| Ok(api::SendKeyArgs { codeset, hold_ms, keys, flags }),
        |_, ()| ()
    )),
    m("SendProcessSignal", "pidValue x, sigNum u, flags u", "", "virDomainSendProcessSignal").served(object!(
        api::SendProcessSignal,
        |(pid, signal, flags)| Ok(api::SignalArgs { pid, signal, flags }),
        |_, ()| ()
    )),
    m("SetBlockIOParameters", "params a{sv}, flags u", "", "virDomainSetBlkioParameters").served(object!(
        SetBlkioParameters,
        params_args,
        |_, ()| ()
    )),
    m("SetBlockIOTune", "disk s, params a{sv}, flags u", "", "virDomainSetBlockIoTune").served(object!(
        api::SetBlockIoTune,
        |(disk, given, flags): (String, HashMap<String, OwnedVariant>, u32)| Ok(api::SetBlockTuneArgs {
            disk,
            limits: params_args((given, flags))?
        }),
        |_, ()| ()
    )),
    m("SetBlockThreshold", "dev s, threshold t, flags u", "", "virDomainSetBlockThreshold").served(object!(
        api::SetBlockThreshold,
        |(device, threshold, flags)| Ok(api::ThresholdArgs { device, threshold, flags }),
        |_, ()| ()
    )),
    m("SetGuestVcpus", "vcpumap ab, state i, flags u", "", "virDomainSetGuestVcpus").served(object!(
        api::SetGuestVcpus,
        |(map, state, flags): (Vec<bool>, i32, u32)| {
            let set = map.iter().enumerate().filter(|(_, is)| **is).map(|(id, _)| id.to_string());
            Ok(api::GuestVcpusArgs { cpus: set.collect::<Vec<_>>().join(","), state, flags })
        },
        |_, ()| ()
    )),
    m("SetInterfaceParameters", "device s, params a{sv}, flags u", "", "virDomainSetInterfaceParameters").served(
        object!(
            api::SetInterfaceParameters,
            |(device, given, flags): (String, HashMap<String, OwnedVariant>, u32)| Ok(api::InterfaceTuneArgs {
                device,
                params: codec::params(given)?,
                flags
            }),
            |_, ()| ()
        ),
    ),
    m("SetMemory", "memory t, flags u", "", "virDomainSetMemoryFlags").served(object!(
        SetMemory,
        |(memory, flags): (u64, u32)| Ok(MemoryArgs { memory, flags }),
        |_, ()| ()
    )),
    m("SetMemoryParameters", "params a{sv}, flags u", "", "virDomainSetMemoryParameters").served(object!(
        SetMemoryParameters,
        params_args,
        |_, ()| ()
    )),
    m("SetMemoryStatsPeriod", "period i, flags u", "", "virDomainSetMemoryStatsPeriod").served(object!(
        api::SetMemoryStatsPeriod,
        |(period, flags)| Ok(api::PeriodArgs { period, flags }),
        |_, ()| ()
    )),
    m("SetMetadata", "type i, metadata s, key s, uri s, flags u", "", "virDomainSetMetadata").served(object!(
        SetMetadata,
        |(kind, metadata, key, uri, flags): (i32, String, String, String, u32)| Ok(SetMetadataArgs {
            kind,
            metadata: optional(metadata),
            key: optional(key),
            uri: optional(uri),
            flags
        }),
        |_, ()| ()
    )),
    m("SetNumaParameters", "params a{sv}, flags u", "", "virDomainSetNumaParameters").served(object!(
        SetNumaParameters,
        params_args,
        |_, ()| ()
    )),
    m("SetPerfEvents", "params a{sv}, flags u", "", "virDomainSetPerfEvents"),
    m("SetSchedulerParameters", "params a{sv}, flags u", "", "virDomainSetSchedulerParametersFlags").served(object!(
        SetSchedulerParameters,
        params_args,
        |_, ()| ()
    )),
    m("SetUserPassword", "user s, password s, flags u", "", "virDomainSetUserPassword").served(object!(
        api::SetUserPassword,
        |(user, password, flags)| Ok(api::PasswordArgs { user, password, flags }),
        |_, ()| ()
    )),
    m("SetTime", "seconds t, nseconds u, flags u", "", "virDomainSetTime").served(object!(
        api::SetTime,
        |(seconds, nanoseconds, flags): (u64, u32, u32)| Ok(api::TimeArgs {
            seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
            nanoseconds,
            flags
        }),
        |_, ()| ()
    )),
    m("SetVcpus", "vcpus u, flags u", "", "virDomainSetVcpusFlags").served(object!(
        SetVcpus,
        |(count, flags): (u32, u32)| Ok(VcpusArgs { count, flags }),
        |_, ()| ()
    )),
    m("Shutdown", "flags u", "", "virDomainShutdownFlags").served(object!(
        Shutdown,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("SnapshotCurrent", "flags u", "domainSnapshot o", "virDomainSnapshotCurrent").served(object!(
        SnapshotCurrent,
        |flags: u32| Ok(flags),
        |at, snapshot| snapshot_path(at, &snapshot)
    )),
    m("SnapshotCreateXML", "xml s, flags u", "domainSnapshot o", "virDomainSnapshotCreateXML").served(object!(
        SnapshotCreateXml,
        |(xml, flags): (String, u32)| Ok(XmlFlags { xml, flags }),
        |at, snapshot| snapshot_path(at, &snapshot)
    )),
    m("SnapshotLookupByName", "name s, flags u", "domainSnapshot o", "virDomainSnapshotLookupByName").served(object!(
        SnapshotLookupByName,
        |args: (String, u32)| Ok(args),
        |at, snapshot| snapshot_path(at, &snapshot)
    )),
    m("Suspend", "", "", "virDomainSuspend").served(object!(Suspend, |()| Ok(()), |_, ()| ())),
    m("Undefine", "flags u", "", "virDomainUndefineFlags").served(object!(
        Undefine,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("UpdateDevice", "xml s, flags u", "", "virDomainUpdateDeviceFlags").served(object!(
        UpdateDevice,
        |(xml, flags): (String, u32)| Ok(XmlFlags { xml, flags }),
        |_, ()| ()
    )),
];

const SIGNALS: &[Signal] = &[
    s("AgentEvent", "state i, reason i"),
    s("BalloonChange", "actual t"),
    s("BlockJob", "disk s, type i, status i"),
    s("ControlError", ""),
    s("DeviceAdded", "device s"),
    s("DeviceRemovalFailed", "device s"),
    s("DeviceRemoved", "device s"),
    s("DiskChange", "oldSrcPath s, newSrcPath s, device s, reason i"),
    s("Graphics", "phase i, local (iss), remote (iss), authScheme s, identities a(ss)"),
    s("IOError", "srcPath s, device s, action i, reason s"),
    s("JobCompleted", "params a{sv}"),
    s("MetadataChange", "type i, nsuri s"),
    s("MigrationIteration", "iteration i"),
    s("PMSuspend", "reason i"),
    s("PMSuspendDisk", "reason i"),
    s("PMWakeup", "reason i"),
    s("Reboot", ""),
    s("RTCChange", "utcoffset x"),
    s("TrayChange", "device s, reason i"),
    s("Tunable", "params a{sv}"),
    s("Watchdog", "action i"),
    s("BlockThreshold", "device s, devPath s, threshold t, excess t"),
];
