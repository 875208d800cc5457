//! `org.domus.Domain1`: what libvirt-dbus has no place for on a domain. Descriptors are the caller's own from the reply on.

use zbus::{OwnedFd, Variant};

use super::{Interface, Method, Property, m, p};
use crate::dbus::call::object;
use crate::dbus::codec::{PlainParams, optional};
use crate::dbus::fault::Fault;
use crate::dbus::managed::Object;
use crate::engine::api::{
    AgentCommandArgs, AgentSetResponseTimeout, AgentTimeoutArgs, AliasArgs, AuthorizedKeysGet, AuthorizedKeysSet,
    BlockInfoArgs, BlockStats, BlockStatsArgs, ConsoleArgs, DetachDeviceAlias, ExecArgs, GetBlockInfo, GetGuestInfo,
    GetInfo, GetMessages, GetVcpuInfo, GuestInfoArgs, KeysArgs, LifecycleArgs, MonitorArgs, OpenChannel, OpenConsole,
    OpenNamespace, PmSuspend, PmSuspendArgs, QemuAgentCommand, QemuMonitorCommand, ResizeArgs, ResizeConsole,
    RunProgram, Screenshot, ScreenshotArgs, SetLifecycleAction,
};
use crate::engine::domain::Snapshot;
use crate::engine::driver::VcpuInfo;

/// Beside `org.libvirt.Domain` on every domain.
pub static INTERFACE: Interface = Interface {
    name: "org.domus.Domain1",
    xml: include_str!("../../../schemas/dbus/org.domus.Domain1.xml"),
    emits_changed: true,
    methods: METHODS,
    properties: PROPERTIES,
    signals: &[],
};

/// Arguments of `Exec` as they come.
type ExecTuple = (Vec<String>, Vec<String>, String, String, String, Vec<OwnedFd>, (u16, u16), u32);

fn exec_args((argv, env, user, group, dir, stdio, size, flags): ExecTuple) -> Result<ExecArgs, Fault> {
    let stdio = stdio.into_iter().map(std::os::fd::OwnedFd::from).collect();
    let (user, group, dir) = (optional(user), optional(group), optional(dir));
    Ok(ExecArgs { argv, env, user, group, dir, stdio, size, flags })
}

fn now<V: Into<Variant<'static>>>(object: &Object, read: fn(&Snapshot) -> V) -> Option<Variant<'static>> {
    match object {
        Object::Domain(domain) => Some(read(domain).into()),
        _ => None,
    }
}

const PROPERTIES: &[Property] = &[
    p("Active", "b", "virDomainIsActive").live(|at| now(at, Snapshot::active)),
    p("Id", "i", "virDomainGetID").live(|at| now(at, |domain| domain.id.unwrap_or(-1))),
    p("Name", "s", "virDomainGetName").live(|at| now(at, |domain| domain.name.clone())),
    p("Persistent", "b", "virDomainIsPersistent").live(|at| now(at, Snapshot::persistent)),
    p("Saved", "b", "virDomainHasManagedSaveImage").live(|at| now(at, |domain| domain.saved.is_some())),
    p("State", "(ii)", "virDomainGetState").live(|at| {
        now(at, |domain| {
            let state = domain.state();
            zbus::Structure::from((state.state as i32, state.reason))
        })
    }),
    p("Title", "s", "virDomainGetMetadata")
        .live(|at| now(at, |domain| domain.current().and_then(|def| def.title.clone()).unwrap_or_default())),
];

const METHODS: &[Method] = &[
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
        let terminal: Vec<OwnedFd> = exec.terminal.into_iter().map(OwnedFd::from).collect();
        (OwnedFd::from(exec.control), terminal)
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
        |_, console| OwnedFd::from(console)
    )),
    m("OpenChannel", "device s, flags u", "channel h", "virDomainOpenChannel").served(object!(
        OpenChannel,
        |(device, flags): (String, u32)| Ok(ConsoleArgs { device: optional(device), flags }),
        |_, channel| OwnedFd::from(channel)
    )),
    m("OpenNamespaces", "flags u", "namespaces ah", "virDomainLxcOpenNamespace").served(object!(
        OpenNamespace,
        |flags: u32| Ok(flags),
        |_, fds| fds.into_iter().map(OwnedFd::from).collect::<Vec<_>>()
    )),
    m("Screenshot", "screen u, flags u", "mime s, file h", "virDomainScreenshot").served(object!(
        Screenshot,
        |(screen, flags)| Ok(ScreenshotArgs { screen, flags }),
        |_, (mime, file)| (mime, OwnedFd::from(std::os::fd::OwnedFd::from(file)))
    )),
    m("GetGuestInfo", "types u, flags u", "info a{sv}", "virDomainGetGuestInfo").served(object!(
        GetGuestInfo,
        |(types, flags)| Ok(GuestInfoArgs { types, flags }),
        |_, params| (PlainParams(params),)
    )),
    m("PMSuspend", "target u, flags u", "", "virDomainPMSuspendForDuration").served(object!(
        PmSuspend,
        |(target, flags)| Ok(PmSuspendArgs { target, duration: 0, flags }),
        |_, ()| ()
    )),
    m("GetBlockStats", "disk s, flags u", "stats a{sv}", "virDomainBlockStatsFlags").served(object!(
        BlockStats,
        |(disk, flags)| Ok(BlockStatsArgs { disk, flags }),
        |_, params| (PlainParams(params),)
    )),
    m("GetBlockInfo", "disk s, flags u", "capacity t, allocation t, physical t", "virDomainGetBlockInfo").served(
        object!(GetBlockInfo, |(disk, flags)| Ok(BlockInfoArgs { disk, flags }), |_, info| (
            info.capacity,
            info.allocation,
            info.physical
        )),
    ),
    m("DetachDeviceAlias", "alias s, flags u", "", "virDomainDetachDeviceAlias").served(object!(
        DetachDeviceAlias,
        |(alias, flags)| Ok(AliasArgs { alias, flags }),
        |_, ()| ()
    )),
    m("GetAuthorizedSSHKeys", "user s, flags u", "keys as", "virDomainAuthorizedSSHKeysGet").served(object!(
        AuthorizedKeysGet,
        |(user, flags)| Ok(KeysArgs { user, keys: Vec::new(), flags }),
        |_, keys| keys
    )),
    m("SetAuthorizedSSHKeys", "user s, keys as, flags u", "", "virDomainAuthorizedSSHKeysSet").served(object!(
        AuthorizedKeysSet,
        |(user, keys, flags)| Ok(KeysArgs { user, keys, flags }),
        |_, ()| ()
    )),
    m("AgentSetResponseTimeout", "timeout i, flags u", "", "virDomainAgentSetResponseTimeout").served(object!(
        AgentSetResponseTimeout,
        |(timeout, flags)| Ok(AgentTimeoutArgs { timeout, flags }),
        |_, ()| ()
    )),
    m("AgentCommand", "command s, timeout i, flags u", "answer s", "virDomainQemuAgentCommand").served(object!(
        QemuAgentCommand,
        |(command, timeout, flags)| Ok(AgentCommandArgs { command, timeout, flags }),
        |_, answer| answer.unwrap_or_default()
    )),
    m("MonitorCommand", "command s, flags u", "answer s", "virDomainQemuMonitorCommand").served(object!(
        QemuMonitorCommand,
        |(command, flags)| Ok(MonitorArgs { command, flags }),
        |_, answer| answer
    )),
];
