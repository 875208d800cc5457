//! `org.domus.*1`: what libvirt-dbus has no place for. Versioned by the digit; members are only ever added.

use super::pool::pool_path;
use super::{Interface, Method, Property, m, p};
use crate::dbus::Server;
use crate::dbus::call::{BoxFuture, Invocation, object};
use crate::dbus::codec::optional;
use crate::dbus::fault::Fault;
use crate::engine::api::{
    BaselineHypervisorArgs, BaselineHypervisorCpu, CheckXml, CompareHypervisorArgs, CompareHypervisorCpu, ConsoleArgs,
    DiagnoseXml, DiffXml, DomainXmlFromNative, DomainXmlToNative, ExecArgs, GetInfo, GetMessages,
    GetStoragePoolCapabilities, GetVcpuInfo, LifecycleArgs, LookupStoragePoolByTargetPath, NativeArgs, OpenConsole,
    PlanXml, ResizeArgs, ResizeConsole, RunProgram, SetLifecycleAction, TwoXml,
};
use crate::engine::driver::{DomainCapsQuery, Plan, VcpuInfo};
use zbus::Variant;

/// XML with flags that must be 0.
fn plain_xml((xml, flags): (String, u32), function: &str) -> Result<String, Fault> {
    crate::types::flags::check(flags, 0, function)?;
    Ok(xml)
}

/// Arguments of `Exec` as they come.
type ExecTuple = (Vec<String>, Vec<String>, String, String, String, Vec<zbus::OwnedFd>, (u16, u16), u32);

fn exec_args((argv, env, user, group, dir, stdio, size, flags): ExecTuple) -> Result<ExecArgs, Fault> {
    let stdio = stdio.into_iter().map(std::os::fd::OwnedFd::from).collect();
    let (user, group, dir) = (optional(user), optional(group), optional(dir));
    Ok(ExecArgs { argv, env, user, group, dir, stdio, size, flags })
}

fn json(plan: &Plan) -> String {
    // Strings, numbers and lists only: nothing in it can fail.
    serde_json::to_string(plan).unwrap_or_default()
}

/// A property of the daemon.
fn fact<V: Into<Variant<'static>> + 'static>(
    at: Invocation,
    read: fn(&Server) -> V,
) -> BoxFuture<Result<Variant<'static>, Fault>> {
    Box::pin(async move { Ok(read(&at.client.server).into()) })
}

/// Beside `org.libvirt.Connect` on every driver root.
pub static CONNECT: Interface = Interface {
    name: "org.domus.Connect1",
    xml: include_str!("../../../schemas/dbus/org.domus.Connect1.xml"),
    emits_changed: false,
    methods: CONNECT_METHODS,
    properties: &[],
    signals: &[],
};

/// Beside `org.libvirt.Domain` on every domain.
pub static DOMAIN: Interface = Interface {
    name: "org.domus.Domain1",
    xml: include_str!("../../../schemas/dbus/org.domus.Domain1.xml"),
    emits_changed: false,
    methods: DOMAIN_METHODS,
    properties: &[],
    signals: &[],
};

/// The daemon itself, on `/org/domus`.
pub static DAEMON: Interface = Interface {
    name: "org.domus.Daemon1",
    xml: include_str!("../../../schemas/dbus/org.domus.Daemon1.xml"),
    emits_changed: false,
    methods: &[],
    properties: DAEMON_PROPERTIES,
    signals: &[],
};

/// The hypervisor a question is about; "" stands for the driver's default.
fn hypervisor((emulator, arch, machine, virt_type): (String, String, String, String)) -> DomainCapsQuery {
    DomainCapsQuery {
        emulator: optional(emulator),
        arch: optional(arch),
        machine: optional(machine),
        virt_type: optional(virt_type),
    }
}

const CONNECT_METHODS: &[Method] = &[
    m(
        "BaselineHypervisorCPU",
        "emulatorbin s, arch s, machine s, virttype s, xmlCPUs as, flags u",
        "cpu s",
        "virConnectBaselineHypervisorCPU",
    )
    .served(object!(
        BaselineHypervisorCpu,
        |(a, b, c, d, cpus, flags): (String, String, String, String, Vec<String>, u32)| {
            Ok(BaselineHypervisorArgs { query: hypervisor((a, b, c, d)), cpus, flags })
        },
        |_, xml| xml
    )),
    m("CheckXML", "xml s, flags u", "warnings a(uuss)", "domusConnectCheckXML").served(object!(
        CheckXml,
        |args: (String, u32)| plain_xml(args, "domusConnectCheckXML"),
        |_, warnings| {
            let rows = warnings.into_iter().map(|at| (at.line, at.column, at.path, at.message));
            rows.collect::<Vec<(u32, u32, String, String)>>()
        }
    )),
    m(
        "CompareHypervisorCPU",
        "emulatorbin s, arch s, machine s, virttype s, xmlDesc s, flags u",
        "compareResult i",
        "virConnectCompareHypervisorCPU",
    )
    .served(object!(
        CompareHypervisorCpu,
        |(a, b, c, d, xml, flags): (String, String, String, String, String, u32)| {
            Ok(CompareHypervisorArgs { query: hypervisor((a, b, c, d)), xml, flags })
        },
        |_, result| result
    )),
    m("DiagnoseXML", "xml s, flags u", "findings a(uusss)", "domusConnectDiagnoseXML").served(object!(
        DiagnoseXml,
        |args: (String, u32)| plain_xml(args, "domusConnectDiagnoseXML"),
        |_, findings| {
            let rows =
                findings.into_iter().map(|at| (at.line, at.column, at.kind.severity().into(), at.path, at.message));
            rows.collect::<Vec<(u32, u32, String, String, String)>>()
        }
    )),
    m("DiffXML", "first s, second s, flags u", "changes a(sasas)", "domusConnectDiffXML").served(object!(
        DiffXml,
        |(first, second, flags): (String, String, u32)| {
            crate::types::flags::check(flags, 0, "domusConnectDiffXML")?;
            Ok(TwoXml { first, second })
        },
        |_, changes| {
            let side = |value: Option<String>| value.into_iter().collect::<Vec<String>>();
            let rows = changes.into_iter().map(|change| (change.path, side(change.old), side(change.new)));
            rows.collect::<Vec<(String, Vec<String>, Vec<String>)>>()
        }
    )),
    m("DomainXMLFromNative", "format s, config s, flags u", "xml s", "virConnectDomainXMLFromNative").served(object!(
        DomainXmlFromNative,
        |(format, text, flags): (String, String, u32)| Ok(NativeArgs { format, text, flags }),
        |_, xml| xml
    )),
    m("DomainXMLToNative", "format s, xml s, flags u", "config s", "virConnectDomainXMLToNative").served(object!(
        DomainXmlToNative,
        |(format, text, flags): (String, String, u32)| Ok(NativeArgs { format, text, flags }),
        |_, config| config
    )),
    m("GetStoragePoolCapabilities", "flags u", "capabilities s", "virConnectGetStoragePoolCapabilities")
        .served(object!(GetStoragePoolCapabilities, |flags: u32| Ok(flags), |_, xml| xml)),
    m("Plan", "xml s, flags u", "plan s", "domusConnectPlan").served(object!(
        PlanXml,
        |args: (String, u32)| plain_xml(args, "domusConnectPlan"),
        |_, plan| json(&plan)
    )),
    m("StoragePoolLookupByTargetPath", "path s", "storagePool o", "virStoragePoolLookupByTargetPath").served(object!(
        LookupStoragePoolByTargetPath,
        |path: String| Ok(path),
        |at, pool| pool_path(at, &pool)
    )),
];

const DOMAIN_METHODS: &[Method] = &[
    m("GetInfo", "", "info (uttut)", "virDomainGetInfo").served(object!(GetInfo, |()| Ok(()), |_, info| ((
        info.state.state as u32,
        info.max_mem,
        info.memory,
        info.vcpus,
        info.cpu_time
    ),))),
    m("GetMessages", "flags u", "messages as", "virDomainGetMessages").served(object!(
        GetMessages,
        |flags: u32| Ok(flags),
        |_, messages| messages
    )),
    m(
        "Exec",
        "argv as, env as, user s, group s, cwd s, stdio ah, size (qq), flags u",
        "control h, terminal ah",
        "domusDomainExec",
    )
    .served(object!(RunProgram, exec_args, |_, exec| {
        let terminal: Vec<zbus::OwnedFd> = exec.terminal.into_iter().map(zbus::OwnedFd::from).collect();
        (zbus::OwnedFd::from(exec.control), terminal)
    })),
    m("GetVcpuInfo", "", "vcpus a(uitiab)", "virDomainGetVcpus").served(object!(
        GetVcpuInfo,
        |()| Ok(()),
        |_, vcpus| {
            let row = |(info, map): (VcpuInfo, Vec<bool>)| (info.number, info.state, info.cpu_time, info.cpu, map);
            (vcpus.into_iter().map(row).collect::<Vec<_>>(),)
        }
    )),
    m("ResizeConsole", "device s, rows q, columns q", "", "domusDomainResizeConsole").served(object!(
        ResizeConsole,
        |(device, rows, columns): (String, u16, u16)| Ok(ResizeArgs { device: optional(device), rows, columns }),
        |_, ()| ()
    )),
    m("SetLifecycleAction", "type u, action u, flags u", "", "virDomainSetLifecycleAction").served(object!(
        SetLifecycleAction,
        |(kind, action, flags): (u32, u32, u32)| Ok(LifecycleArgs { kind, action, flags }),
        |_, ()| ()
    )),
    m("OpenConsole", "device s, flags u", "console h", "virDomainOpenConsole").served(object!(
        OpenConsole,
        |(device, flags): (String, u32)| Ok(ConsoleArgs { device: optional(device), flags }),
        |_, console| zbus::OwnedFd::from(console)
    )),
];

const DAEMON_PROPERTIES: &[Property] = &[
    p("Drivers", "as", "domusDaemonGetDrivers").constant().get(|at| fact(at, |server| server.options.drivers.clone())),
    p("Pid", "u", "domusDaemonGetPid").constant().get(|at| fact(at, |_| std::process::id())),
    p("Root", "s", "domusDaemonGetRoot").constant().get(|at| fact(at, |server| server.options.root.clone())),
    p("Version", "s", "domusDaemonGetVersion").constant().get(|at| fact(at, |_| env!("CARGO_PKG_VERSION").to_string())),
];
