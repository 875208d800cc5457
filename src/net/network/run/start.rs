//! Starting a network from its plan.

use std::collections::BTreeMap;
use std::path::Path;

use super::plan::Plan;
use super::step::{self, Journal};
use super::{Programs, foreign, nft, server, subnet};
use crate::error::{Error, Result, Subsystem};
use crate::net::bandwidth::{self, BandwidthSpec};
use crate::net::bridge::{self, BridgeSpec, RouteSpec};
use crate::net::link::Netlink;
use crate::sys::fault;

/// Makes the network live. Nothing is made before it was recorded; what a failed start made is taken back before the
/// error is returned. Errors say what is in the way: a missing program, an overlapping subnet, a busy bridge name.
pub async fn start(plan: &Plan, programs: &Programs, journal: &dyn Journal) -> Result<()> {
    preflight(plan, programs).await?;
    let steps = plan.steps();
    journal.record(&steps).await?;
    let made = make(plan, programs).await;
    if let Err(error) = &made {
        tracing::warn!(network = plan.name, %error, "network did not start");
        let root = plan.dir.parent().unwrap_or(Path::new("/"));
        if step::undo(&steps, programs, root).await.is_empty() {
            journal.clean().await;
        }
    }
    made
}

/// Takes the network away; every step is tried, the first error is returned.
pub async fn stop(plan: &Plan, programs: &Programs) -> Result<()> {
    let root = plan.dir.parent().unwrap_or(Path::new("/"));
    step::undo(&plan.steps(), programs, root).await.into_iter().next().map_or(Ok(()), Err)
}

/// All that can be known to fail before anything is made.
async fn preflight(plan: &Plan, programs: &Programs) -> Result<()> {
    if !plan.tables.is_empty() {
        programs.nft()?;
    }
    if plan.server.is_some() {
        programs.dnsmasq()?;
    }
    let Some(bridge) = &plan.bridge else { return Ok(()) };
    let netlink = Netlink::open()?;
    let network = &plan.name;
    if let Some(link) = netlink.find(&bridge.name).await? {
        let what = if link.is_bridge { "a bridge" } else { "an interface" };
        if !bridge.mark().is_on(&link) {
            return Err(Error::invalid_state(format!(
                "network '{network}' cannot make its bridge '{}': {what} of this name exists and is not this \
                 network's; remove it ('ip link delete {}'), or give the network another with <bridge name='..'/>",
                bridge.name, bridge.name
            ))
            .with_subsystem(Subsystem::Network));
        }
        // Left by a run whose record is lost.
        tracing::warn!(network, bridge = bridge.name, "a bridge of this network was left over and is removed");
        bridge::remove(&bridge.mark()).await?;
    }
    let subnets: Vec<_> = bridge.addresses.iter().copied().chain(plan.routes.iter().map(RouteSpec::subnet)).collect();
    subnet::check_free(&subnets, &subnet::taken(&netlink).await?, &bridge.name)
}

fn fault_point(name: &str) -> Result<()> {
    fault::point(name).map_err(|error| Error::internal(format!("fault point '{name}' failed")).with_source(error))
}

async fn make(plan: &Plan, programs: &Programs) -> Result<()> {
    fault_point("network-start.recorded")?;
    make_dir(&plan.dir)?;
    fault_point("network-start.dir")?;
    bridge::enable_forwarding(&Netlink::open()?, plan.forward_ipv4, plan.forward_ipv6).await?;
    // Before the bridge is up: no packet shall ever pass without the rules.
    apply_rules(plan, programs).await?;
    fault_point("network-start.firewall")?;
    if let Some(bridge) = &plan.bridge {
        make_bridge(plan, bridge, programs).await?;
    }
    if let Some(server) = &plan.server {
        server::start(&programs.dnsmasq()?, server).await?;
        fault_point("network-start.server")?;
    }
    Ok(())
}

pub(super) async fn make_bridge(plan: &Plan, spec: &BridgeSpec, programs: &Programs) -> Result<()> {
    bridge::create(spec).await?;
    fault_point("network-start.bridge")?;
    let netlink = Netlink::open()?;
    let index = netlink.get(&spec.name).await?.index;
    for route in &plan.routes {
        netlink.add_route(index, route).await?;
    }
    fault_point("network-start.routes")?;
    if plan.bandwidth != BandwidthSpec::default() {
        bandwidth::set(programs.tc().as_deref(), &spec.name, &plan.bandwidth).await?;
        fault_point("network-start.bandwidth")?;
    }
    Ok(())
}

/// Puts the network's tables in, in place of what they held, and lets its bridge through docker's chain.
pub(super) async fn apply_rules(plan: &Plan, programs: &Programs) -> Result<()> {
    if plan.tables.is_empty() {
        return Ok(());
    }
    let nft = programs.nft()?;
    let old: String = plan.tables.iter().map(|table| format!("add table {table}\ndelete table {table}\n")).collect();
    nft::apply(&nft, &format!("{old}{}", plan.rules)).await?;
    let ruleset = nft::read(&nft, &plan.tables).await?;
    if let Some(bridge) = &plan.bridge {
        let mut others = nft::foreign(&nft).await?;
        if plan.forwards() && foreign::pass_docker(&nft, &others, &bridge.name).await? {
            others = nft::foreign(&nft).await?;
        }
        for blocker in foreign::blockers(&others, &bridge.name, plan.traffic(), &plan.tables) {
            tracing::warn!(network = plan.name, "{blocker}");
        }
    }
    let prints: BTreeMap<String, Option<String>> =
        plan.tables.iter().map(|table| (table.to_string(), ruleset.fingerprint(table))).collect();
    let path = plan.prints_file();
    let json = serde_json::to_string(&prints).unwrap_or_default();
    server::replace(&path, &json).map(drop).map_err(|error| {
        Error::system(format!("cannot write '{}'", path.display()), error).with_subsystem(Subsystem::Network)
    })
}

pub(super) fn make_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    // dnsmasq's user reads hosts here.
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(|error| {
        Error::system(format!("cannot make directory '{}'", dir.display()), error).with_subsystem(Subsystem::Network)
    })
}

/// Makes what runs as `old` says be as `new` says, but for the bridge.
pub async fn refresh(old: &Plan, new: &Plan, programs: &Programs) -> Result<()> {
    if (&old.tables, &old.rules) != (&new.tables, &new.rules) {
        apply_rules(new, programs).await?;
    }
    let [old, new] = [old.server.as_ref(), new.server.as_ref()];
    match (old, new) {
        (Some(old), None) => server::stop(&old.pidfile()).await,
        (Some(old), Some(new)) if old == new => Ok(()),
        // Hosts are read again when told; everything else is read once.
        (Some(old), Some(new)) if old.same_configuration(new) => match server::reload(new)? {
            true => Ok(()),
            false => server::start(&programs.dnsmasq()?, new).await.map(drop),
        },
        (_, Some(new)) => server::start(&programs.dnsmasq()?, new).await.map(drop),
        (None, None) => Ok(()),
    }
}

/// Makes rules and server be as the plan says, whatever they are now: what [`refresh`] would have ended with.
pub async fn settle(plan: &Plan, programs: &Programs) -> Result<()> {
    apply_rules(plan, programs).await?;
    match &plan.server {
        Some(server) => server::start(&programs.dnsmasq()?, server).await.map(drop),
        None => server::stop(&plan.dir.join(server::PIDFILE)).await,
    }
}
