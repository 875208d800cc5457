//! `org.domus.*1`: what libvirt-dbus has no place for. Versioned by the digit; members are only ever added.

use super::pool::pool_path;
use super::{Interface, Method, Property, m, p};
use crate::dbus::Server;
use crate::dbus::call::{BoxFuture, Invocation, object};
use crate::dbus::codec::optional;
use crate::dbus::fault::Fault;
use crate::engine::api::{
    BaselineHypervisorArgs, BaselineHypervisorCpu, CheckXml, CompareHypervisorArgs, CompareHypervisorCpu, DiagnoseXml,
    DiffXml, DomainXmlFromNative, DomainXmlToNative, GetStoragePoolCapabilities, LookupStoragePoolByTargetPath,
    NativeArgs, PlanXml, TwoXml,
};
use crate::engine::driver::{DomainCapsQuery, Plan};
use zbus::Variant;

/// XML with flags that must be 0.
fn plain_xml((xml, flags): (String, u32), function: &str) -> Result<String, Fault> {
    crate::types::flags::check(flags, 0, function)?;
    Ok(xml)
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

const DAEMON_PROPERTIES: &[Property] = &[
    p("Drivers", "as", "domusDaemonGetDrivers").constant().get(|at| fact(at, |server| server.options.drivers.clone())),
    p("Pid", "u", "domusDaemonGetPid").constant().get(|at| fact(at, |_| std::process::id())),
    p("Root", "s", "domusDaemonGetRoot").constant().get(|at| fact(at, |server| server.options.root.clone())),
    p("Version", "s", "domusDaemonGetVersion").constant().get(|at| fact(at, |_| env!("CARGO_PKG_VERSION").to_string())),
];
