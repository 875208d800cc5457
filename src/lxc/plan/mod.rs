//! From a definition to a [`Spec`]: pure, no I/O, no clock. What the host must be asked first is in [`Host`].
//!
//! One file per part. Every refusal names the element and what to do; nothing is quietly left out.

mod caps;
mod filesystem;
mod init;
mod network;

use std::path::PathBuf;

use super::spec::{Cgroups, Console, ConsoleLog, Enter, IdMaps, IdRange, Init, Namespace, SPEC_VERSION, Spec};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::CharKind;
use crate::domain_xml::model::{CrashAction, LifecycleAction, LxcShare, LxcShareKind};
use crate::error::{Error, Result};

pub use caps::CAPABILITIES;
pub use init::DEFAULT_INIT;
pub use network::host_name;
pub use network::interface_of as interface;

/// What planning needs to know besides the definition.
#[derive(Clone, Debug)]
pub struct Host {
    /// Names every resource of the run.
    pub run_id: String,
    pub run_dir: PathBuf,
    /// The range a definition without `<idmap>` gets; `None`: such a container is privileged, which only the
    /// configuration can ask for.
    pub ids: Option<IdMaps>,
    /// Where changes to a template are kept (`<filesystem type='template'>`), one directory per domain.
    pub overlay_dir: PathBuf,
    /// Type of the file systems in image files and on block devices.
    pub image_fstype: String,
    /// Bytes a container without a root may write.
    pub scratch_size: u64,
    /// Network, IPC and UTS namespace of another domain, by `<lxc:namespace>`; made by the driver before planning.
    pub peers: Peers,
    pub cgroup: Cgroups,
    /// Console logs are rotated at this size, bytes, and this many are kept.
    pub log_max_size: u64,
    pub log_backups: u32,
    pub hold: bool,
}

/// Init pids of the domains whose namespaces are shared by name.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    pub net: Option<i32>,
    pub ipc: Option<i32>,
    pub uts: Option<i32>,
}

/// Plans one run.
pub fn plan(def: &DomainDef, host: &Host) -> Result<Spec> {
    let (root, mounts) = filesystem::plan(def, host)?;
    let share = def.lxc_namespace.clone().unwrap_or_default();
    let own_net = !def.interfaces.is_empty() || def.features.privnet;
    let default_net = if own_net { Namespace::New } else { Namespace::Host };
    let net = shared(share.sharenet.as_ref(), host.peers.net, "net", "sharenet")?.unwrap_or(default_net);
    if net != Namespace::New && !def.interfaces.is_empty() {
        return Err(Error::unsupported_config(
            "a container that shares a network namespace (<lxc:sharenet>) cannot have interfaces of its own: remove \
             <interface> or <lxc:sharenet>",
        ));
    }
    let uts = shared(share.shareuts.as_ref(), host.peers.uts, "uts", "shareuts")?.unwrap_or(Namespace::New);
    let ipc = shared(share.shareipc.as_ref(), host.peers.ipc, "ipc", "shareipc")?.unwrap_or(Namespace::New);
    let ids = id_maps(def, host)?;
    Ok(Spec {
        version: SPEC_VERSION,
        name: def.name.clone(),
        uuid: def.uuid.map(|uuid| uuid.to_string()).unwrap_or_default(),
        run_dir: host.run_dir.clone(),
        hostname: (uts == Namespace::New).then(|| init::hostname(&def.name)),
        init: init::plan(def),
        drop_caps: caps::drop(def.features.capabilities.as_ref(), ids.is_none())?,
        ids,
        root,
        mounts,
        net,
        uts,
        ipc,
        seccomp: true,
        cgroup: host.cgroup.clone(),
        nics: network::plan(def, host)?,
        consoles: consoles(def, host)?,
        devices: Vec::new(),
        restart_on_reboot: matches!(def.on_reboot, None | Some(LifecycleAction::Restart)),
        restart_on_poweroff: def.on_poweroff == Some(LifecycleAction::Restart),
        restart_on_crash: def.on_crash == Some(CrashAction::Restart),
        hold: host.hold,
        files: 0,
    })
}

/// A program to run in a container that is there; the rest of the plan is that of its init.
pub fn enter(def: &DomainDef, init: (i32, u64), user_namespace: bool, program: Program) -> Result<Enter> {
    let mut base = init::plan(def);
    for (name, value) in program.env {
        base.env.retain(|(known, _)| *known != name);
        base.env.push((name, value));
    }
    let Program { argv, dir, user, group, terminal, .. } = program;
    Ok(Enter {
        version: SPEC_VERSION,
        init: init.0,
        init_start: init.1,
        user_namespace,
        program: Init { argv, env: base.env, dir, user, group },
        drop_caps: caps::drop(def.features.capabilities.as_ref(), !user_namespace)?,
        seccomp: true,
        control: true,
        terminal,
    })
}

/// What is asked for in [`enter`].
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub argv: Vec<String>,
    /// Beside what init has.
    pub env: Vec<(String, String)>,
    pub dir: Option<String>,
    pub user: Option<String>,
    pub group: Option<String>,
    pub terminal: bool,
}

/// The definition's own maps, or the host's range for this run.
fn id_maps(def: &DomainDef, host: &Host) -> Result<Option<IdMaps>> {
    let convert = |ranges: &[crate::domain_xml::os::IdRange]| -> Vec<IdRange> {
        ranges.iter().map(|range| IdRange { inside: range.start, outside: range.target, count: range.count }).collect()
    };
    let (uid, gid) = (convert(&def.idmap.uids), convert(&def.idmap.gids));
    if uid.is_empty() && gid.is_empty() {
        return Ok(host.ids.clone());
    }
    for (name, ranges) in [("uid", &uid), ("gid", &gid)] {
        if !ranges.iter().any(|range| range.inside == 0 && range.count > 0) {
            return Err(Error::unsupported_config(format!(
                "<idmap> must map {name} 0: add <{name} start='0' target='...' count='...'/>"
            )));
        }
        if ranges.iter().any(|range| range.outside == 0) {
            return Err(Error::unsupported_config(format!(
                "<idmap> maps a {name} to 0, root of the host: choose another target"
            )));
        }
    }
    Ok(Some(IdMaps { uid, gid }))
}

fn shared(share: Option<&LxcShare>, peer: Option<i32>, namespace: &str, element: &str) -> Result<Option<Namespace>> {
    let Some(share) = share else { return Ok(None) };
    let value = share.value.clone().unwrap_or_default();
    let path = match share.kind {
        None | Some(LxcShareKind::None) => return Ok(None),
        Some(LxcShareKind::Pid) => match value.parse::<u32>() {
            Ok(pid) if pid > 0 => format!("/proc/{pid}/ns/{namespace}"),
            _ => return Err(Error::unsupported_config(format!("<lxc:{element}>: '{value}' is not a process id"))),
        },
        Some(LxcShareKind::Netns) if namespace == "net" => {
            if value.is_empty() || value.contains('/') || value.starts_with('.') {
                return Err(Error::unsupported_config(format!(
                    "<lxc:{element}>: '{value}' is not the name of a network namespace"
                )));
            }
            format!("/run/netns/{value}")
        }
        Some(LxcShareKind::Netns) => {
            return Err(Error::unsupported_config(format!("<lxc:{element}> knows no type 'netns': only name and pid")));
        }
        Some(LxcShareKind::Name) => match peer {
            Some(pid) => format!("/proc/{pid}/ns/{namespace}"),
            None => {
                return Err(Error::failed(format!("<lxc:{element}>: domain '{value}' is not running; start it first")));
            }
        },
    };
    Ok(Some(Namespace::Join { path: path.into() }))
}

fn consoles(def: &DomainDef, host: &Host) -> Result<Vec<Console>> {
    def.consoles
        .iter()
        .map(|console| {
            if !matches!(console.source.kind, CharKind::Pty { .. }) {
                return Err(Error::unsupported_config("Only PTY console types are supported"));
            }
            let log = console.source.log.as_ref().and_then(|log| {
                Some(ConsoleLog {
                    path: log.file.as_ref()?.into(),
                    append: log.append.is_some_and(crate::domain_xml::words::Switch::is_on),
                    max_size: host.log_max_size,
                    backups: host.log_backups,
                })
            });
            Ok(Console { log })
        })
        .collect()
}

/// Whether there is anything in the definition that a container cannot have; part of validation.
pub fn check(def: &DomainDef) -> Result<()> {
    let unsupported = [
        (!def.disks.is_empty(), "disk"),
        (!def.graphics.is_empty(), "graphics"),
        (!def.tpms.is_empty(), "tpm"),
        (!def.serials.is_empty(), "serial"),
        (!def.channels.is_empty(), "channel"),
        (!def.shmems.is_empty(), "shmem"),
    ];
    for (present, element) in unsupported {
        if present {
            return Err(Error::unsupported_config(format!(
                "containers have no <{element}> devices yet: remove the element"
            )));
        }
    }
    lifecycle(def)
}

/// A container that ended is gone: there is nothing to preserve and nothing to dump.
fn lifecycle(def: &DomainDef) -> Result<()> {
    use LifecycleAction::{Destroy, Restart};
    for (event, action) in [("on_poweroff", def.on_poweroff), ("on_reboot", def.on_reboot)] {
        if let Some(action) = action.filter(|action| !matches!(action, Destroy | Restart)) {
            let text = format!("lxc driver doesn't support '{action}' action for '{event}': use destroy or restart");
            return Err(Error::unsupported_config(text));
        }
    }
    match def.on_crash {
        None | Some(CrashAction::Destroy | CrashAction::Restart) => Ok(()),
        Some(action) => Err(Error::unsupported_config(format!(
            "lxc driver doesn't support '{action}' action for 'on_crash': use destroy or restart"
        ))),
    }
}

#[cfg(test)]
mod tests;
