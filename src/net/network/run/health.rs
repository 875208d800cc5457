//! Whether a live network still is what its plan made, and putting back what is not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;

use super::filter::Filter;
use super::nft::{self, Ruleset, TableName};
use super::plan::Plan;
use super::{Programs, foreign, server, start};
use crate::error::Result;
use crate::net::address::AddressSpec;
use crate::net::bridge;
use crate::net::link::{LinkChange, LinkInfo, Netlink};

/// Something that is not as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The bridge is gone, or another link has its name.
    BridgeGone {
        bridge: String,
    },
    BridgeDown {
        bridge: String,
    },
    AddressGone {
        bridge: String,
        address: IpAddr,
        prefix: u8,
    },
    /// An interface of a guest is no longer a port of the bridge.
    PortGone {
        bridge: String,
        port: String,
    },
    /// A table is gone, or holds something else.
    Table {
        table: TableName,
    },
    /// Docker's chain lacks our rules.
    Docker {
        bridge: String,
    },
    ForwardingOff {
        family: &'static str,
    },
    ServerDead,
    /// A foreign firewall drops our packets; only its owner can mend it.
    Blocked {
        text: String,
    },
}

impl Problem {
    /// Whether [`heal`] can do something about it.
    pub fn can_heal(&self) -> bool {
        !matches!(self, Problem::Blocked { .. })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::BridgeGone { bridge } => write!(f, "bridge '{bridge}' is gone"),
            Problem::BridgeDown { bridge } => write!(f, "bridge '{bridge}' is down"),
            Problem::AddressGone { bridge, address, prefix } => {
                write!(f, "bridge '{bridge}' lost its address {address}/{prefix}")
            }
            Problem::PortGone { bridge, port } => write!(f, "interface '{port}' is no longer in bridge '{bridge}'"),
            Problem::Table { table } => write!(f, "firewall table '{table}' was changed or deleted"),
            Problem::Docker { bridge } => write!(f, "docker's firewall blocks bridge '{bridge}'"),
            Problem::ForwardingOff { family } => write!(f, "forwarding of {family} was switched off on the host"),
            Problem::ServerDead => f.write_str("dnsmasq does not run"),
            Problem::Blocked { text } => f.write_str(text),
        }
    }
}

/// The host as it is now, looked at once for any number of networks.
#[derive(Debug)]
pub struct Seen<'a> {
    /// `None` when there is no nft.
    ruleset: Option<&'a Ruleset>,
    links: HashMap<String, LinkInfo>,
    addresses: HashSet<(u32, AddressSpec)>,
}

impl<'a> Seen<'a> {
    /// Looks at the daemon's network namespace.
    pub async fn now(programs: &Programs, filter: &'a mut Filter) -> Result<Seen<'a>> {
        let netlink = Netlink::open()?;
        let ruleset = filter.now(programs).await?;
        let links = netlink.list().await?.into_iter().map(|link| (link.name.clone(), link)).collect();
        let addresses = netlink.addresses(None).await?;
        let of = |found: crate::net::address::HostAddress| {
            (found.link, AddressSpec { address: found.address, prefix: found.prefix })
        };
        Ok(Seen { ruleset, links, addresses: addresses.into_iter().map(of).collect() })
    }
}

/// What of the network is not as it was made. `ports`: interfaces of guests that are to be in its bridge.
pub fn check(plan: &Plan, seen: &Seen<'_>, ports: &[String]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (on, family, key) in [
        (plan.forward_ipv4, "IPv4", "/proc/sys/net/ipv4/ip_forward"),
        (plan.forward_ipv6, "IPv6", "/proc/sys/net/ipv6/conf/all/forwarding"),
    ] {
        if on && std::fs::read_to_string(key).is_ok_and(|value| value.trim() == "0") {
            problems.push(Problem::ForwardingOff { family });
        }
    }
    if let Some(ruleset) = seen.ruleset {
        check_rules(plan, ruleset, &mut problems);
    }
    check_bridge(plan, seen, ports, &mut problems);
    if plan.server.as_ref().is_some_and(|server| server::running(&server.pidfile()).is_none()) {
        problems.push(Problem::ServerDead);
    }
    problems
}

fn check_rules(plan: &Plan, ruleset: &Ruleset, problems: &mut Vec<Problem>) {
    let prints: BTreeMap<String, Option<String>> = std::fs::read(plan.prints_file())
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    for table in &plan.tables {
        let made = prints.get(&table.to_string()).cloned().flatten();
        let now = ruleset.fingerprint(table);
        if now.is_none() || now != made {
            problems.push(Problem::Table { table: table.clone() });
        }
    }
    let Some(bridge) = &plan.bridge else { return };
    if plan.forwards() && foreign::docker_rules_missing(ruleset, &bridge.name) {
        problems.push(Problem::Docker { bridge: bridge.name.clone() });
    } else {
        let blockers = foreign::blockers(ruleset, &bridge.name, plan.traffic(), &plan.tables);
        problems.extend(blockers.into_iter().map(|blocker| Problem::Blocked { text: blocker.text }));
    }
}

fn check_bridge(plan: &Plan, seen: &Seen<'_>, ports: &[String], problems: &mut Vec<Problem>) {
    let Some(spec) = &plan.bridge else { return };
    let bridge = spec.name.clone();
    let Some(link) = seen.links.get(&spec.name).filter(|link| spec.mark().is_on(link)) else {
        return problems.push(Problem::BridgeGone { bridge });
    };
    if !link.up {
        problems.push(Problem::BridgeDown { bridge: bridge.clone() });
    }
    for wanted in &spec.addresses {
        if !seen.addresses.contains(&(link.index, *wanted)) {
            let AddressSpec { address, prefix } = *wanted;
            problems.push(Problem::AddressGone { bridge: bridge.clone(), address, prefix });
        }
    }
    for port in ports {
        // An interface that is gone went with its guest.
        if seen.links.get(port).is_some_and(|found| found.controller != Some(link.index)) {
            problems.push(Problem::PortGone { bridge: bridge.clone(), port: port.clone() });
        }
    }
}

/// Puts back what [`check`] found, in the order of a start. The first error ends it: the next check finds the rest.
pub async fn heal(plan: &Plan, programs: &Programs, problems: &[Problem], ports: &[String]) -> Result<()> {
    start::make_dir(&plan.dir)?;
    let netlink = Netlink::open()?;
    let any = |wanted: fn(&Problem) -> bool| problems.iter().any(wanted);
    if any(|problem| matches!(problem, Problem::ForwardingOff { .. })) {
        bridge::enable_forwarding(&netlink, plan.forward_ipv4, plan.forward_ipv6).await?;
    }
    if any(|problem| matches!(problem, Problem::Table { .. })) {
        start::apply_rules(plan, programs).await?;
    } else if let Some(spec) = plan.bridge.as_ref().filter(|_| any(|p| matches!(p, Problem::Docker { .. }))) {
        let nft = programs.nft()?;
        foreign::pass_docker(&nft, &nft::foreign(&nft).await?, &spec.name).await?;
    }
    if let Some(spec) = &plan.bridge {
        let gone = any(|problem| matches!(problem, Problem::BridgeGone { .. }));
        if gone {
            start::make_bridge(plan, spec, programs).await?;
        }
        let index = netlink.get(&spec.name).await?.index;
        for problem in problems {
            match problem {
                Problem::BridgeDown { .. } => {
                    let up = LinkChange { up: Some(true), ..LinkChange::default() };
                    netlink.change(index, up, &format!("failed to bring bridge '{}' up", spec.name)).await?;
                }
                Problem::AddressGone { address, prefix, .. } => {
                    let address = AddressSpec { address: *address, prefix: *prefix };
                    netlink.add_address_spec(index, &address).await?;
                }
                _ => {}
            }
        }
        for port in ports {
            let strayed =
                gone || problems.iter().any(|p| matches!(p, Problem::PortGone { port: name, .. } if name == port));
            if let Some(link) = netlink.find(port).await?.filter(|_| strayed) {
                let join = LinkChange { controller: Some(index), ..LinkChange::default() };
                netlink.change(link.index, join, &format!("Unable to add bridge {} port {port}", spec.name)).await?;
            }
        }
    }
    // A bridge that was made again is another interface to dnsmasq, which follows by itself (bind-dynamic).
    if let Some(spec) = plan.server.as_ref().filter(|_| any(|p| *p == Problem::ServerDead)) {
        server::start(&programs.dnsmasq()?, spec).await?;
    }
    Ok(())
}
