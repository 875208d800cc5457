//! What the kernel's packet filter is told: a definition -> one nftables table of its own. Pure.
//!
//! Owns `table inet domus_<bridge>`: taking the table away takes everything away. The rules mean what libvirt's mean:
//!
//! ```text
//!  forward:  guest to guest of one bridge       accept
//!            to the bridge    -> to_guests      nat: answers only; route: all to its subnets; else reject
//!            from the bridge  -> from_guests    from its subnets (through the one device, if named); else reject
//!  postrouting (nat): from a subnet to elsewhere: masquerade, or snat to the addresses given
//!  input:    DHCP, DNS, TFTP of guests          accept (counted: tells whether requests arrive)
//! ```
//!
//! A verdict of ours is the last word in this table only: a drop in another table still drops.

#[cfg(test)]
mod tests;

use super::forward::{AddressRange, ForwardMode, PortRange};
use super::ip::Ip;
use super::model::NetworkDef;
use crate::domain_xml::YesNo;
use crate::error::{Code, Error, Result};

/// Ports that translated connections come from when none are given.
const NAT_PORTS: PortRange = PortRange { start: 1024, end: 65535 };

/// A table with its chains, as text for `nft -f -`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// `domus_virbr0`.
    pub name: String,
    chains: Vec<Chain>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    name: &'static str,
    /// `type filter hook forward priority filter; policy accept;` of a base chain.
    hook: Option<&'static str>,
    rules: Vec<String>,
}

/// What the names of networks' tables begin with.
pub const TABLE_PREFIX: &str = "domus_";

/// The name of a network's table. Two bridges never have the same.
pub fn table_name(bridge: &str) -> String {
    let mut name = String::from(TABLE_PREFIX);
    for c in bridge.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' => name.push(c),
            '_' => name.push_str("__"),
            other => name.push_str(&format!("_{:x}_", u32::from(other))),
        }
    }
    name
}

/// The table of a network; `None` for networks that have none (open, and those without a bridge of their own).
/// Errors: code 67 for a netmask with a hole or a bridge without a name.
pub fn table(def: &NetworkDef) -> Result<Option<Table>> {
    if !matches!(def.forward.mode, ForwardMode::None | ForwardMode::Nat | ForwardMode::Route) {
        return Ok(None);
    }
    let Some(bridge) = def.bridge_name() else {
        let what = format!("network '{}' has no bridge name defined", def.name);
        return Err(Error::new(Code::ConfigUnsupported, what));
    };
    let rules = Rules { def, bridge: quoted(bridge), subnets: subnets(def)? };
    let mut chains = vec![rules.forward(), rules.to_guests(), rules.of_guests()];
    if def.forward.mode == ForwardMode::Nat {
        chains.push(rules.postrouting()?);
    }
    chains.push(rules.input());
    Ok(Some(Table { name: table_name(bridge), chains }))
}

impl Table {
    /// Commands that put the table there in one transaction, in place of one that is there already.
    pub fn replace(&self) -> String {
        format!("table inet {0} {{\n}}\ndelete table inet {0}\n{1}", self.name, self.text())
    }

    /// The table alone.
    pub fn text(&self) -> String {
        let mut out = format!("table inet {} {{\n", self.name);
        for (nth, chain) in self.chains.iter().enumerate() {
            if nth > 0 {
                out.push('\n');
            }
            out.push_str(&format!("\tchain {} {{\n", chain.name));
            if let Some(hook) = chain.hook {
                out.push_str(&format!("\t\t{hook}\n"));
            }
            for rule in &chain.rules {
                out.push_str(&format!("\t\t{rule}\n"));
            }
            out.push_str("\t}\n");
        }
        out.push_str("}\n");
        out
    }
}

/// Commands that take the table `name` away, whether it is there or not.
pub fn remove(name: &str) -> String {
    format!("table inet {name} {{\n}}\ndelete table inet {name}\n")
}

/// A subnet of the network, written `192.168.122.0/24`.
struct Subnet {
    v6: bool,
    text: String,
}

fn subnets(def: &NetworkDef) -> Result<Vec<Subnet>> {
    let subnet = |ip: &Ip| {
        let (Some(prefix), Some(address)) = (ip.prefix_length(), ip.network_address()) else {
            let what = format!("the netmask of address {} of network '{}' has a hole", ip.address, def.name);
            return Err(Error::new(Code::ConfigUnsupported, what));
        };
        Ok(Subnet { v6: ip.address.is_ipv6(), text: format!("{address}/{prefix}") })
    };
    def.ips.iter().map(subnet).collect()
}

/// A link's name as nft reads a string; names with a quote or a backslash in them were refused before.
fn quoted(link: &str) -> String {
    let safe: String = link.chars().filter(|c| !matches!(c, '"' | '\\' | '\n')).collect();
    format!("\"{safe}\"")
}

/// The words `ip` or `ip6` before an address.
fn family(v6: bool) -> &'static str {
    if v6 { "ip6" } else { "ip" }
}

struct Rules<'a> {
    def: &'a NetworkDef,
    bridge: String,
    subnets: Vec<Subnet>,
}

impl Rules<'_> {
    /// IPv6 is filtered when the network has to do with it; otherwise it is off on the bridge.
    fn filters_v6(&self) -> bool {
        self.subnets.iter().any(|subnet| subnet.v6) || self.def.ipv6 == Some(YesNo::Yes)
    }

    fn of_filtered_families(&self) -> &'static str {
        if self.filters_v6() { "" } else { "meta nfproto ipv4 " }
    }

    fn nats(&self, subnet: &Subnet) -> bool {
        let forward = &self.def.forward;
        forward.mode == ForwardMode::Nat && (!subnet.v6 || forward.nat.ipv6 == Some(YesNo::Yes))
    }

    /// `<word> "eth0" `, when forwarding is bound to a device.
    fn device(&self, word: &str) -> String {
        self.def.forward_device().map(|device| format!("{word} {} ", quoted(device))).unwrap_or_default()
    }

    fn forward(&self) -> Chain {
        let (bridge, families) = (&self.bridge, self.of_filtered_families());
        Chain {
            name: "forward",
            hook: Some("type filter hook forward priority filter; policy accept;"),
            rules: vec![
                format!("iifname {bridge} oifname {bridge} counter accept"),
                format!("{families}oifname {bridge} counter jump to_guests"),
                format!("{families}iifname {bridge} counter jump from_guests"),
            ],
        }
    }

    fn to_guests(&self) -> Chain {
        let mut rules = Vec::new();
        for subnet in &self.subnets {
            let (family, net) = (family(subnet.v6), &subnet.text);
            let device = self.device("iifname");
            let answers = if self.nats(subnet) { "ct state established,related " } else { "" };
            if self.def.forward.mode != ForwardMode::None {
                rules.push(format!("{device}{family} daddr {net} {answers}counter accept"));
            }
        }
        rules.push(String::from("counter reject"));
        Chain { name: "to_guests", hook: None, rules }
    }

    fn of_guests(&self) -> Chain {
        let mut rules = Vec::new();
        for subnet in &self.subnets {
            let (family, net) = (family(subnet.v6), &subnet.text);
            let device = self.device("oifname");
            if self.def.forward.mode != ForwardMode::None {
                rules.push(format!("{device}{family} saddr {net} counter accept"));
            }
        }
        rules.push(String::from("counter reject"));
        Chain { name: "from_guests", hook: None, rules }
    }

    fn postrouting(&self) -> Result<Chain> {
        let nat = &self.def.forward.nat;
        let ports = nat.port.unwrap_or(NAT_PORTS);
        let device = self.device("oifname");
        let mut rules = Vec::new();
        for subnet in self.subnets.iter().filter(|subnet| self.nats(subnet)) {
            let (word, net) = (family(subnet.v6), &subnet.text);
            let untouched: &[&str] = if subnet.v6 { &["ff02::/16"] } else { &["224.0.0.0/24", "255.255.255.255"] };
            for group in untouched {
                rules.push(format!("{device}{word} saddr {net} {word} daddr {group} counter return"));
            }
            let ports = format!(":{}-{}", ports.start, ports.end);
            let outward = format!("{word} saddr {net} {word} daddr != {net} {device}");
            for protocol in ["tcp", "udp"] {
                let to = translation(nat.address.filter(|_| !subnet.v6), Some(&ports));
                rules.push(format!("meta l4proto {protocol} {outward}counter {to}"));
            }
            let to = translation(nat.address.filter(|_| !subnet.v6), None);
            rules.push(format!("{outward}counter {to}"));
        }
        Ok(Chain {
            name: "postrouting",
            hook: Some("type nat hook postrouting priority srcnat; policy accept;"),
            rules,
        })
    }

    fn input(&self) -> Chain {
        let bridge = &self.bridge;
        let mut rules = vec![
            format!("iifname {bridge} udp dport {{ 53, 67 }} counter accept"),
            format!("iifname {bridge} tcp dport {{ 53, 67 }} counter accept"),
        ];
        if self.def.ips.iter().any(|ip| ip.tftp_root.is_some()) {
            rules.push(format!("iifname {bridge} udp dport 69 counter accept"));
        }
        if self.def.ips.iter().any(|ip| ip.address.is_ipv6()) {
            rules.push(format!("iifname {bridge} udp dport 547 counter accept"));
        }
        Chain { name: "input", hook: Some("type filter hook input priority filter; policy accept;"), rules }
    }
}

fn translation(addresses: Option<AddressRange>, ports: Option<&str>) -> String {
    let ports = ports.unwrap_or_default();
    match addresses {
        None if ports.is_empty() => String::from("masquerade"),
        None => format!("masquerade to {ports}"),
        // In a table of both families the address's one must be said.
        Some(AddressRange { start, end }) if start == end => format!("snat ip to {start}{ports}"),
        Some(AddressRange { start, end }) => format!("snat ip to {start}-{end}{ports}"),
    }
}
