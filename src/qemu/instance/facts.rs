//! What a running guest's statistics and events need of its definition, taken out once at start.

use std::collections::BTreeMap;

use super::blocks::DiskFacts;
use super::tune::Ends;
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;
use crate::qemu::command::node_names;

/// Facts of one guest.
#[derive(Clone, Debug, Default)]
pub struct GuestFacts {
    pub name: String,
    pub disks: Vec<DiskFacts>,
    /// The taps on the host, one per interface; `None` for interfaces without one.
    pub taps: Vec<Option<HostEnd>>,
    /// alias -> path of the pty.
    pub ptys: BTreeMap<String, String>,
    /// Aliases of what `virDomainOpenConsole` opens without a name, in order of preference.
    pub consoles: Vec<String>,
    /// KiB.
    pub memory: u64,
    pub max_vcpus: u32,
    pub vcpus: u32,
    /// Alias of the balloon.
    pub balloon: Option<String>,
    pub balloon_stats: bool,
    /// Alias of the guest agent's channel.
    pub agent: Option<String>,
    /// Its socket on the host.
    pub agent_socket: Option<String>,
    /// Sockets the daemon made for character devices; removed at the end, for QEMU does not know their names.
    pub sockets: Vec<String>,
    pub(super) ends: Option<Ends>,
}

fn pty(info: &DeviceInfo, source: &CharSource) -> Option<(String, String)> {
    match &source.kind {
        CharKind::Pty { path: Some(path) } => Some((info.alias.clone()?, path.clone())),
        _ => None,
    }
}

fn sockets(def: &DomainDef) -> Vec<String> {
    let sources = def.serials.iter().map(|d| &d.source);
    let sources = sources.chain(def.parallels.iter().map(|d| &d.source)).chain(def.channels.iter().map(|d| &d.source));
    let consoles = def.consoles.iter().filter(|d| d.target_type == Some(ConsoleTarget::Virtio)).map(|d| &d.source);
    let path = |source: &CharSource| match &source.kind {
        CharKind::Unix { path, listen: true, .. } => path.clone(),
        _ => None,
    };
    sources.chain(consoles).filter_map(path).collect()
}

/// Takes the facts out of a live definition.
pub fn facts(def: &DomainDef) -> GuestFacts {
    let disk = |disk: &Disk| {
        let names = node_names(&disk.source);
        DiskFacts {
            target: disk.dev().to_string(),
            alias: disk.info.alias.clone().unwrap_or_default(),
            path: disk.source.path.clone().unwrap_or_default(),
            node: names.as_ref().map(|names| names.top().to_string()).unwrap_or_default(),
            storage_node: names.map(|names| names.storage).unwrap_or_default(),
        }
    };
    let mut ptys = BTreeMap::new();
    ptys.extend(def.serials.iter().filter_map(|d| pty(&d.info, &d.source)));
    ptys.extend(def.parallels.iter().filter_map(|d| pty(&d.info, &d.source)));
    ptys.extend(def.consoles.iter().filter_map(|d| pty(&d.info, &d.source)));
    ptys.extend(def.channels.iter().filter_map(|d| pty(&d.info, &d.source)));
    let consoles = def.consoles.iter().map(|d| &d.info).chain(def.serials.iter().map(|d| &d.info));
    let agent = def.channels.iter().find(|channel| {
        matches!(&channel.target, ChannelTarget::Virtio { name: Some(name), .. } if name == "org.qemu.guest_agent.0")
    });
    let balloon = def.memballoon.as_ref().filter(|balloon| balloon.model != BalloonModel::None);
    GuestFacts {
        name: def.name.clone(),
        disks: def.disks.iter().map(disk).collect(),
        taps: def.interfaces.iter().map(host_end).collect(),
        ptys,
        consoles: consoles.filter_map(|info| info.alias.clone()).collect(),
        memory: def.memory.size,
        max_vcpus: def.vcpu.max,
        vcpus: def.vcpu.current.unwrap_or(def.vcpu.max),
        balloon: balloon.and_then(|balloon| balloon.info.alias.clone()),
        balloon_stats: balloon.is_some_and(|balloon| balloon.stats_period.is_some_and(|period| period > 0)),
        agent: agent.and_then(|channel| channel.info.alias.clone()),
        agent_socket: agent.and_then(|channel| match &channel.source.kind {
            CharKind::Unix { path, listen: true, .. } => path.clone(),
            _ => None,
        }),
        sockets: sockets(def),
        ends: Some(Ends::of(def)),
    }
}

/// The host's end of an interface.
#[derive(Clone, Debug)]
pub struct HostEnd {
    pub name: String,
    /// Counts as the guest does: what a macvtap receives is the guest's, what a tap receives the guest sent.
    pub guests_view: bool,
}

fn host_end(nic: &Interface) -> Option<HostEnd> {
    let name = nic.target.dev.clone()?;
    Some(HostEnd { name, guests_view: nic.source.direct().is_some() })
}

#[cfg(test)]
mod tests {
    use super::host_end;

    #[test]
    fn a_macvtap_counts_as_its_guest_does() {
        let nic = |kind: &str, source: &str| {
            let xml = format!(
                "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices>\
                 <interface type='{kind}'><source {source}/><target dev='end0'/></interface></devices></domain>"
            );
            let end = host_end(&crate::domain_xml::parse_inactive(&xml).unwrap().def.interfaces[0]);
            end.map(|end| (end.name, end.guests_view))
        };
        assert_eq!(nic("direct", "dev='eth0' mode='bridge'"), Some(("end0".into(), true)));
        assert_eq!(nic("bridge", "bridge='br0'"), Some(("end0".into(), false)));
    }
}
