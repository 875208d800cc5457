//! The links that a host has, as definitions, from sysfs.

use std::path::Path;

use super::{Bond, Bridge, InterfaceDef, InterfaceKind, Link, LinkState, Vlan};
use crate::error::{Error, Result};

/// A link of the host.
#[derive(Clone, Debug)]
pub struct Found {
    pub def: InterfaceDef,
    pub mac: String,
    pub up: bool,
}

/// Links with an address of their own, by name. Blocks for the short time sysfs takes.
pub fn scan() -> Result<Vec<Found>> {
    look(Path::new("/sys/class/net"), Path::new("/proc/net/vlan"))
}

pub(super) fn look(net: &Path, vlans: &Path) -> Result<Vec<Found>> {
    let entries = std::fs::read_dir(net)
        .map_err(|error| Error::system(format!("cannot open directory '{}'", net.display()), error))?;
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let mut found = Vec::new();
    for name in names {
        let mac = text(&net.join(&name).join("address")).unwrap_or_default();
        // The loopback interface and what has no link layer are nobody's to configure. Members are listed with what they
        // are a part of.
        let is_member = net.join(&name).join("brport").exists() || net.join(&name).join("bonding_slave").exists();
        if mac.is_empty() || mac.bytes().all(|byte| matches!(byte, b'0' | b':')) || is_member {
            continue;
        }
        let up = state(net, &name) == Some(LinkState::Up);
        found.push(Found { def: describe(net, vlans, &name), mac, up });
    }
    Ok(found)
}

fn text(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_string())
}

fn state(net: &Path, name: &str) -> Option<LinkState> {
    text(&net.join(name).join("operstate"))?.parse().ok()
}

fn describe(net: &Path, vlans: &Path, name: &str) -> InterfaceDef {
    let own = net.join(name);
    let mtu = text(&own.join("mtu")).and_then(|mtu| mtu.parse().ok());
    // -1 where the kernel does not know.
    let speed = text(&own.join("speed")).and_then(|speed| speed.parse().ok());
    let link = Some(Link { speed, state: state(net, name) }).filter(|link| *link != Link::default());
    let members = |directory: &str| {
        let entries = std::fs::read_dir(own.join(directory)).ok();
        let mut names: Vec<String> =
            entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    };
    let as_members = |names: Vec<String>| names.iter().map(|name| describe(net, vlans, name)).collect();
    let def = InterfaceDef { name: name.to_string(), mtu, ..InterfaceDef::default() };
    if own.join("bridge").is_dir() {
        let stp = text(&own.join("bridge/stp_state")).map(|stp| stp != "0");
        let delay = text(&own.join("bridge/forward_delay")).and_then(|delay| delay.parse::<u32>().ok());
        let delay = delay.map(|hundredths| format!("{}.{:02}", hundredths / 100, hundredths % 100));
        let members = as_members(members("brif"));
        return InterfaceDef { kind: InterfaceKind::Bridge(Bridge { stp, delay, members }), ..def };
    }
    if own.join("bonding").is_dir() {
        let mode = text(&own.join("bonding/mode")).unwrap_or_default();
        let mode = mode.split_whitespace().next().and_then(|word| word.parse().ok());
        let names = text(&own.join("bonding/slaves")).unwrap_or_default();
        let members = as_members(names.split_whitespace().map(str::to_string).collect());
        return InterfaceDef {
            link,
            kind: InterfaceKind::Bond(Box::new(Bond { mode, monitor: None, members })),
            ..def
        };
    }
    if let Some(vlan) = text(&vlans.join(name)).and_then(|text| vlan(&text)) {
        return InterfaceDef { link, kind: InterfaceKind::Vlan(vlan), ..def };
    }
    InterfaceDef { link, kind: InterfaceKind::Ethernet(text(&own.join("address"))), ..def }
}

/// `eth0.42  VID: 42  REORDER_HDR: 1 ...`, `Device: eth0`
fn vlan(text: &str) -> Option<Vlan> {
    let after = |word: &str| {
        let mut words = text.split_whitespace().skip_while(|found| *found != word);
        words.nth(1).map(str::to_string)
    };
    Some(Vlan { tag: after("VID:")?, parent: after("Device:")? })
}
