//! Procedures of the connection and the host.

#![allow(clippy::needless_pass_by_value, reason = "codecs take what the engine gives")]

use super::{Procedure, c};
use crate::engine::Domain;
use crate::engine::api::{
    self, AllStatsArgs, BaselineArgs, BaselineCpu, BaselineHypervisorArgs, BaselineHypervisorCpu, Class, CompareArgs,
    CompareCpu, CompareHypervisorArgs, CompareHypervisorCpu, DomainCapsArgs, DomainXmlFromNative, DomainXmlToNative,
    FreePagesArgs, GetAllDomainStats, GetCapabilities, GetCpuModelNames, GetDomainCapabilities, GetHostname,
    GetLibVersion, GetMaxVcpus, GetSysinfo, GetType, GetVersion, IsSecure, ListAllDomains, NativeArgs,
    NodeGetCellsFreeMemory, NodeGetCpuMap, NodeGetCpuStats, NodeGetFreeMemory, NodeGetFreePages, NodeGetInfo,
    NodeGetMemoryParameters, NodeGetMemoryStats, NodeGetSecurityModel, NodeSetMemoryParameters,
};
use crate::engine::driver::DomainCapsQuery;
use crate::host::NodeInfo;
use crate::rpc::call::{Answer, BoxFuture, Invocation, Reply, connection, list};
use crate::rpc::session;
use crate::rpc::wire::{DomainHandle, Params, counted};
use crate::rpc::xdr::{Chars, FixedChars, Opaque, Put};
use crate::types::flags;

type OptionalText = Option<String>;

/// Emulator, architecture, machine and type of guest.
type Query = (OptionalText, OptionalText, OptionalText, OptionalText);

fn asked((emulator, arch, machine, virt_type): Query) -> DomainCapsQuery {
    DomainCapsQuery { emulator, arch, machine, virt_type }
}

fn native((format, text, flags): (String, String, u32)) -> NativeArgs {
    NativeArgs { format, text, flags }
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn length<T>(list: &[T]) -> i32 {
    i32::try_from(list.len()).unwrap_or(i32::MAX)
}

fn count(domains: Vec<Domain>) -> i32 {
    length(&domains)
}

fn names(domains: &[Domain]) -> Vec<String> {
    domains.iter().map(Domain::name).collect()
}

fn ids(domains: &[Domain]) -> Vec<i32> {
    domains.iter().filter_map(Domain::id).collect()
}

/// `virNodeInfo`: model, memory in KiB, CPUs, MHz, then the topology.
fn node_info(info: NodeInfo) -> impl Put {
    (
        (FixedChars::<32>(info.model), info.memory, signed(info.cpus), signed(info.mhz)),
        (signed(info.nodes), signed(info.sockets), signed(info.cores), signed(info.threads)),
    )
}

/// A bit per CPU, the number online, the number of all.
fn cpu_map(online: Vec<bool>) -> impl Put {
    let mut map = vec![0u8; online.len().div_ceil(8)];
    for (cpu, _) in online.iter().enumerate().filter(|(_, on)| **on) {
        if let Some(byte) = map.get_mut(cpu / 8) {
            *byte |= 1 << (cpu % 8);
        }
    }
    let number = online.iter().filter(|on| **on).count();
    (Opaque(map), u32::try_from(number).unwrap_or(u32::MAX), length(&online))
}

/// Named numbers; asked for none, how many there are.
fn numbers(asked: i32, stats: Vec<(String, u64)>) -> Answer {
    let count = length(&stats);
    Answer::value(&(if asked <= 0 { Vec::new() } else { stats }, count))
}

fn cpu_stats(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (cpu, asked, flags): (i32, i32, u32) = at.arguments()?;
        let stats = api::dispatch::<NodeGetCpuStats>(&caller, &connection, (cpu, flags)).await?;
        Ok(numbers(asked, stats))
    })
}

fn memory_stats(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (asked, cell, flags): (i32, i32, u32) = at.arguments()?;
        let stats = api::dispatch::<NodeGetMemoryStats>(&caller, &connection, (cell, flags)).await?;
        Ok(numbers(asked, stats))
    })
}

fn memory_parameters(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (asked, flags): (i32, u32) = at.arguments()?;
        let params = api::dispatch::<NodeGetMemoryParameters>(&caller, &connection, flags).await?;
        Ok(Answer::value(&counted(asked, flags, params)))
    })
}

/// Asked only for their number, no names.
fn cpu_models(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (arch, names_too, flags): (String, bool, u32) = at.arguments()?;
        let names = api::dispatch::<GetCpuModelNames>(&caller, &connection, (arch, flags)).await?;
        let count = length(&names);
        Ok(Answer::value(&(if names_too { names } else { Vec::new() }, count)))
    })
}

fn all_domain_stats(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handles, stats, flags): (Vec<DomainHandle>, u32, u32) = at.arguments()?;
        let domains = match handles.as_slice() {
            [] => None,
            // One that is gone meanwhile is left out, as libvirt does.
            some => Some(some.iter().filter_map(|handle| connection.domain(&handle.uuid).ok()).collect()),
        };
        let records =
            api::dispatch::<GetAllDomainStats>(&caller, &connection, AllStatsArgs { stats, flags, domains }).await?;
        let records: Vec<(DomainHandle, Params)> =
            records.into_iter().map(|(domain, params)| (DomainHandle::from(&domain), Params(params))).collect();
        Ok(Answer::value(&records))
    })
}

pub(super) const CONNECT: &[Procedure] = &[
    c(1, "CONNECT_OPEN", "virConnectOpen").served((Class::Read, session::open)),
    c(2, "CONNECT_CLOSE", "virConnectClose").served((Class::Read, session::close)),
    c(3, "CONNECT_GET_TYPE", "virConnectGetType").served(connection!(GetType, |()| (), |name| name)),
    c(4, "CONNECT_GET_VERSION", "virConnectGetVersion").served(connection!(GetVersion, |()| (), |version| version)),
    c(5, "CONNECT_GET_MAX_VCPUS", "virConnectGetMaxVcpus").served(connection!(
        GetMaxVcpus,
        |kind: Option<String>| kind,
        signed
    )),
    c(6, "NODE_GET_INFO", "virNodeGetInfo").served(connection!(NodeGetInfo, |()| (), node_info)),
    c(7, "CONNECT_GET_CAPABILITIES", "virConnectGetCapabilities").served(connection!(
        GetCapabilities,
        |()| (),
        |xml| xml
    )),
    c(21, "CONNECT_LIST_DEFINED_DOMAINS", "virConnectListDefinedDomains").served(connection!(
        ListAllDomains,
        |_most: i32| flags::list::INACTIVE,
        |domains| names(&domains)
    )),
    c(25, "CONNECT_NUM_OF_DEFINED_DOMAINS", "virConnectNumOfDefinedDomains").served(connection!(
        ListAllDomains,
        |()| flags::list::INACTIVE,
        count
    )),
    c(37, "CONNECT_LIST_DOMAINS", "virConnectListDomains").served(connection!(
        ListAllDomains,
        |_most: i32| flags::list::ACTIVE,
        |domains| ids(&domains)
    )),
    c(51, "CONNECT_NUM_OF_DOMAINS", "virConnectNumOfDomains").served(connection!(
        ListAllDomains,
        |()| flags::list::ACTIVE,
        count
    )),
    c(59, "CONNECT_GET_HOSTNAME", "virConnectGetHostname").served(connection!(GetHostname, |()| (), |name| name)),
    c(60, "CONNECT_SUPPORTS_FEATURE", "virConnectSupportsFeature").served((Class::Read, session::supports_feature)),
    c(66, "AUTH_LIST", "virConnectOpen").served((Class::Read, session::auth_list)),
    c(67, "AUTH_SASL_INIT", "virConnectOpen"),
    c(68, "AUTH_SASL_START", "virConnectOpen"),
    c(69, "AUTH_SASL_STEP", "virConnectOpen"),
    c(70, "AUTH_POLKIT", "virConnectOpen").served((Class::Read, session::auth_polkit)),
    c(101, "NODE_GET_CELLS_FREE_MEMORY", "virNodeGetCellsFreeMemory").served(connection!(
        NodeGetCellsFreeMemory,
        |(start, most): (i32, i32)| (start, most),
        |cells| cells
    )),
    c(102, "NODE_GET_FREE_MEMORY", "virNodeGetFreeMemory")
        .served(connection!(NodeGetFreeMemory, |()| (), |bytes| bytes)),
    c(105, "CONNECT_DOMAIN_EVENT_REGISTER", "virConnectDomainEventRegister")
        .served((Class::Read, session::register_lifecycle)),
    c(106, "CONNECT_DOMAIN_EVENT_DEREGISTER", "virConnectDomainEventDeregister")
        .served((Class::Read, session::deregister_lifecycle)),
    c(110, "CONNECT_GET_URI", "virConnectGetURI").served((Class::Read, session::get_uri)),
    c(122, "NODE_GET_SECURITY_MODEL", "virNodeGetSecurityModel").served(connection!(
        NodeGetSecurityModel,
        |()| (),
        |(model, doi)| (Chars(model), Chars(doi))
    )),
    c(135, "CONNECT_DOMAIN_XML_FROM_NATIVE", "virConnectDomainXMLFromNative").served(connection!(
        DomainXmlFromNative,
        native,
        |xml| xml
    )),
    c(136, "CONNECT_DOMAIN_XML_TO_NATIVE", "virConnectDomainXMLToNative").served(connection!(
        DomainXmlToNative,
        native,
        |text| text
    )),
    c(149, "CONNECT_IS_SECURE", "virConnectIsSecure").served(connection!(IsSecure, |()| (), |is| is)),
    c(157, "CONNECT_GET_LIB_VERSION", "virConnectGetLibVersion").served(connection!(
        GetLibVersion,
        |()| (),
        |version| version
    )),
    c(158, "CONNECT_COMPARE_CPU", "virConnectCompareCPU").served(connection!(
        CompareCpu,
        |(xml, flags): (String, u32)| CompareArgs { xml, flags },
        |outcome| outcome
    )),
    c(162, "CONNECT_BASELINE_CPU", "virConnectBaselineCPU").served(connection!(
        BaselineCpu,
        |(cpus, flags): (Vec<String>, u32)| BaselineArgs { cpus, flags },
        |xml| xml
    )),
    c(167, "CONNECT_DOMAIN_EVENT_REGISTER_ANY", "virConnectDomainEventRegisterAny")
        .served((Class::Read, session::register_legacy_event)),
    c(168, "CONNECT_DOMAIN_EVENT_DEREGISTER_ANY", "virConnectDomainEventDeregisterAny")
        .served((Class::Read, session::deregister_legacy_event)),
    c(203, "CONNECT_GET_SYSINFO", "virConnectGetSysinfo")
        .served(connection!(GetSysinfo, |flags: u32| flags, |xml| xml)),
    c(227, "NODE_GET_CPU_STATS", "virNodeGetCPUStats").served((Class::Read, cpu_stats)),
    c(228, "NODE_GET_MEMORY_STATS", "virNodeGetMemoryStats").served((Class::Read, memory_stats)),
    c(250, "NODE_SUSPEND_FOR_DURATION", "virNodeSuspendForDuration"),
    c(273, "CONNECT_LIST_ALL_DOMAINS", "virConnectListAllDomains").served(list!(ListAllDomains)),
    c(288, "NODE_SET_MEMORY_PARAMETERS", "virNodeSetMemoryParameters").served(connection!(
        NodeSetMemoryParameters,
        |(params, flags): (Params, u32)| (params.0, flags),
        |()| ()
    )),
    c(289, "NODE_GET_MEMORY_PARAMETERS", "virNodeGetMemoryParameters").served((Class::Read, memory_parameters)),
    c(293, "NODE_GET_CPU_MAP", "virNodeGetCPUMap").served(connection!(
        NodeGetCpuMap,
        |(_map, _online, flags): (bool, bool, u32)| flags,
        cpu_map
    )),
    c(312, "CONNECT_GET_CPU_MODEL_NAMES", "virConnectGetCPUModelNames").served((Class::Read, cpu_models)),
    c(316, "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", "virConnectDomainEventRegisterAny")
        .served((Class::Read, session::register_event)),
    c(317, "CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY", "virConnectDomainEventDeregisterAny")
        .served((Class::Read, session::deregister_event)),
    c(340, "NODE_GET_FREE_PAGES", "virNodeGetFreePages").served(connection!(
        NodeGetFreePages,
        |(pages, start, cells, flags): (Vec<u32>, i32, u32, u32)| FreePagesArgs { pages, start, cells, flags },
        |counts| counts
    )),
    c(342, "CONNECT_GET_DOMAIN_CAPABILITIES", "virConnectGetDomainCapabilities").served(connection!(
        GetDomainCapabilities,
        |(emulator, arch, machine, virt_type, flags): (OptionalText, OptionalText, OptionalText, OptionalText, u32)| {
            DomainCapsArgs { query: DomainCapsQuery { emulator, arch, machine, virt_type }, flags }
        },
        |xml| xml
    )),
    c(344, "CONNECT_GET_ALL_DOMAIN_STATS", "virConnectGetAllDomainStats").served((Class::Read, all_domain_stats)),
    c(347, "NODE_ALLOC_PAGES", "virNodeAllocPages"),
    c(360, "CONNECT_REGISTER_CLOSE_CALLBACK", "virConnectRegisterCloseCallback")
        .served((Class::Read, session::register_close_callback)),
    c(361, "CONNECT_UNREGISTER_CLOSE_CALLBACK", "virConnectUnregisterCloseCallback")
        .served((Class::Read, session::unregister_close_callback)),
    c(393, "CONNECT_COMPARE_HYPERVISOR_CPU", "virConnectCompareHypervisorCPU").served(connection!(
        CompareHypervisorCpu,
        |(query, (xml, flags)): (Query, (String, u32))| CompareHypervisorArgs { query: asked(query), xml, flags },
        |outcome| outcome
    )),
    c(394, "CONNECT_BASELINE_HYPERVISOR_CPU", "virConnectBaselineHypervisorCPU").served(connection!(
        BaselineHypervisorCpu,
        |(query, (cpus, flags)): (Query, (Vec<String>, u32))| {
            BaselineHypervisorArgs { query: asked(query), cpus, flags }
        },
        |xml| xml
    )),
    c(395, "NODE_GET_SEV_INFO", "virNodeGetSEVInfo").served(connection!(
        api::NodeGetSevInfo,
        |(_asked, flags): (i32, u32)| flags,
        |()| ()
    )),
    c(419, "CONNECT_SET_IDENTITY", "virConnectSetIdentity"),
];
