//! Guest interfaces in networks: what `<interface type='network'>` means on this host now, and who is where.
//!
//! Ports live in memory: what a running guest's live definition says of its interfaces is the record. A start notes
//! [`Step::NetworkPort`](super::super::undo::Step) before it takes one, so that every end of a run gives it back.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::driver::UndoLog;
use super::super::event::HostSet;
use super::super::host::HostObjects;
use super::super::undo::Step;
use super::{Network, live};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{Interface, InterfaceSource, MacvtapMode};
use crate::error::{Code, Error, Result, Subsystem};
use crate::net::bandwidth;
use crate::net::network::port::{DirectMode, Plug, PortDef};
use crate::net::network::run::plan::limits;
use crate::net::network::validate::check_virtualport;
use crate::net::network::{ForwardDevice, ForwardMode, NetworkDef};
use crate::types::Uuid;

/// A guest's interface in a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub def: PortDef,
    /// The host's end, once it is made.
    pub link: Option<String>,
}

/// Who is in which network.
#[derive(Debug, Default)]
pub struct Ports {
    by_network: Mutex<BTreeMap<Uuid, Vec<Port>>>,
    /// What was said about networks already.
    said: Mutex<HashSet<(Uuid, String)>>,
}

impl Ports {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Vec<Port>>> {
        self.by_network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ports of a network.
    pub fn of(&self, network: Uuid) -> Vec<Port> {
        self.lock().get(&network).cloned().unwrap_or_default()
    }

    /// Names of guests' links in a network's bridge.
    pub fn links(&self, network: Uuid) -> Vec<String> {
        self.lock().get(&network).into_iter().flatten().filter_map(|port| port.link.clone()).collect()
    }

    /// Adds or replaces a port.
    pub fn insert(&self, network: Uuid, port: Port) {
        let mut all = self.lock();
        let ports = all.entry(network).or_default();
        ports.retain(|other| other.def.uuid != port.def.uuid);
        ports.push(port);
    }

    /// Adds the port that `make` makes of a network's others, with nobody between the look and the deed.
    fn reserve<T>(&self, network: Uuid, make: impl FnOnce(&[Port]) -> Result<(Port, T)>) -> Result<T> {
        let mut all = self.lock();
        let ports = all.entry(network).or_default();
        let (port, made) = make(ports)?;
        ports.push(port);
        Ok(made)
    }

    /// How many ports of a network are on each device of the host.
    pub fn on_devices(&self, network: Uuid) -> BTreeMap<String, u32> {
        used(self.lock().get(&network).map(Vec::as_slice).unwrap_or_default())
    }

    /// Gives a port back; one that is not there is no error.
    pub fn release(&self, network: Uuid, port: Uuid) {
        if let Some(ports) = self.lock().get_mut(&network) {
            ports.retain(|other| other.def.uuid != port);
        }
    }

    /// Whether this was not said of the network before.
    pub(super) fn is_news(&self, network: Uuid, text: &str) -> bool {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).insert((network, text.to_string()))
    }
}

fn used(ports: &[Port]) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for port in ports {
        if let Plug::Direct { dev, .. } = &port.def.plug {
            *counts.entry(dev.clone()).or_default() += 1;
        }
    }
    counts
}

/// The least used device of the network's pool, the first of several. Errors: code 1 with libvirt's texts when there is
/// none, or none is free where each serves one guest only.
fn choose_device(def: &NetworkDef, ports: &[Port]) -> Result<String> {
    let name = &def.name;
    let none = |what: String| Error::internal(what).with_subsystem(Subsystem::Network);
    let used = used(ports);
    let count = |dev: &String| used.get(dev).copied().unwrap_or_default();
    let pool = def.forward.interfaces.iter().filter_map(|interface| match &interface.device {
        ForwardDevice::Netdev(dev) => Some(dev),
        ForwardDevice::Pci(_) => None,
    });
    let Some(dev) = pool.min_by_key(|dev| count(dev)) else {
        return Err(none(format!(
            "network '{name}' uses a direct mode, but has no forward dev and no interface pool: give it <forward dev='..'/>"
        )));
    };
    if def.forward.mode == ForwardMode::Passthrough && count(dev) > 0 {
        return Err(none(format!(
            "network '{name}' requires exclusive access to interfaces, but none are available: all {} are in use",
            def.forward.interfaces.len()
        )));
    }
    Ok(dev.clone())
}

/// How a macvtap of such a network passes frames; `None`: it makes none.
fn direct_mode(mode: ForwardMode) -> Option<(MacvtapMode, DirectMode)> {
    match mode {
        ForwardMode::Bridge => Some((MacvtapMode::Bridge, DirectMode::Bridge)),
        ForwardMode::Private => Some((MacvtapMode::Private, DirectMode::Private)),
        ForwardMode::Vepa => Some((MacvtapMode::Vepa, DirectMode::Vepa)),
        ForwardMode::Passthrough => Some((MacvtapMode::Passthrough, DirectMode::Passthrough)),
        _ => None,
    }
}

/// Whether the guest has an interface in a network.
pub fn uses_networks(def: &DomainDef) -> bool {
    def.interfaces.iter().any(|nic| matches!(nic.source, InterfaceSource::Network(_)))
}

/// Refuses what would silently not be done for an interface: a guest that asks for a VLAN or a filter and runs without
/// it is not separated from others. Error: code 67 with the element.
pub fn check(host: &HostObjects, def: &DomainDef) -> Result<()> {
    match host.context.set {
        // The test driver's guests are plugged into nothing.
        HostSet::Test => Ok(()),
        HostSet::Shared => def.interfaces.iter().try_for_each(check_one),
    }
}

fn check_one(nic: &Interface) -> Result<()> {
    let floor =
        nic.bandwidth.as_ref().and_then(|limits| limits.inbound.as_ref()).is_some_and(|rate| rate.floor.is_some());
    let asked = [
        (nic.vlan.is_some(), "<vlan>"),
        (nic.virtualport.is_some(), "<virtualport>"),
        (nic.filterref.is_some(), "<filterref>"),
        (floor, "<bandwidth><inbound floor='..'>"),
        (nic.source.direct().is_some() && nic.bandwidth.is_some(), "<bandwidth> with <source dev='..'>"),
    ];
    match asked.into_iter().find(|(asked, _)| *asked) {
        Some((_, element)) => {
            let which = nic.mac.map(|mac| format!(" {mac}")).unwrap_or_default();
            Err(unsupported(format!("{element} of interface{which} is not supported here yet: remove it")))
        }
        None => Ok(()),
    }
}

/// Gives back the port of an interface that was taken out of a running guest.
pub fn unplug(host: &HostObjects, nic: &Interface) {
    let InterfaceSource::Network(place) = &nic.source else { return };
    let network = host.networks.by_name(place.network.as_deref().unwrap_or_default());
    if let (Ok(network), Some(port)) = (network, place.portid.as_deref().and_then(|id| id.parse().ok())) {
        host.ports.release(network.uuid(), port);
    }
}

/// Gives every `<interface type='network'>` of a guest that is about to start its place: the network is active, and the
/// live definition says which port and bridge it is. Errors: code 43 for a network that is not there, code 55 for one
/// that is not active and may not be started on demand, code 67 for what cannot be had.
pub async fn plug(host: &Arc<HostObjects>, def: &mut DomainDef, undo: &dyn UndoLog) -> Result<()> {
    let (owner, owner_name) = (def.uuid.unwrap_or_default(), def.name.clone());
    for nic in &mut def.interfaces {
        plug_one(host, nic, owner, &owner_name, undo).await?;
    }
    Ok(())
}

/// The same for one interface, of a running guest.
pub async fn plug_one(
    host: &Arc<HostObjects>,
    nic: &mut Interface,
    owner: Uuid,
    owner_name: &str,
    undo: &dyn UndoLog,
) -> Result<()> {
    // The test driver's guests are plugged into nothing.
    if host.context.set == HostSet::Test {
        return Ok(());
    }
    let InterfaceSource::Network(wanted) = &mut nic.source else { return Ok(()) };
    let name = wanted.network.clone().unwrap_or_default();
    let network = host.networks.by_name(&name)?;
    let def = active(&network).await?;
    let bridge = match def.forward.mode {
        mode if mode.owns_bridge() => def.bridge_name(),
        ForwardMode::Bridge => def.bridge_name(),
        _ => None,
    };
    if bridge.is_none() && direct_mode(def.forward.mode).is_none() {
        let mode = def.forward.mode;
        return Err(unsupported(format!(
            "network '{name}' hands out PCI devices of the host (<forward mode='{mode}'>), which no guest can be given \
             through a network here yet; give it <forward mode='bridge'/> with <bridge name='..'/> or <interface dev='..'/>"
        )));
    }
    let group = def.portgroup(wanted.portgroup.as_deref());
    if let (Some(asked), None) = (&wanted.portgroup, group) {
        let known: Vec<&str> = def.portgroups.iter().map(|group| group.name.as_str()).collect();
        return Err(unsupported(format!(
            "network '{name}' has no port group '{asked}' (it has: {})",
            if known.is_empty() { "none".to_string() } else { known.join(", ") }
        )));
    }
    // The interface's own words win, then the port group's, then the network's.
    check_virtualport(&def, nic.virtualport.as_ref())?;
    nic.vlan = nic.vlan.take().or_else(|| group.and_then(|group| group.vlan.clone())).or_else(|| def.vlan.clone());
    nic.virtualport = nic
        .virtualport
        .take()
        .or_else(|| group.and_then(|group| group.virtualport.clone()))
        .or_else(|| def.virtualport.clone());
    if nic.bandwidth.is_none() {
        nic.bandwidth = group.and_then(|group| group.bandwidth.clone());
    }
    check_one(nic)?;
    let InterfaceSource::Network(wanted) = &mut nic.source else { return Ok(()) };
    let port = Uuid::new_v4();
    undo.push(vec![Step::NetworkPort { network: network.uuid(), port }]).await?;
    wanted.portid = Some(port.to_string());
    wanted.bridge = bridge.map(str::to_string);
    if nic.isolated.is_none() {
        nic.isolated = def.port_isolated;
    }
    if nic.mtu.is_none() {
        nic.mtu = def.mtu;
    }
    let (owner, mode) = ((owner, owner_name), def.forward.mode);
    if bridge.is_some() {
        host.ports.insert(network.uuid(), port_of(nic, port, owner, mode));
        return Ok(());
    }
    let placed = host.ports.reserve(network.uuid(), |others| {
        let mut nic = nic.clone();
        if let InterfaceSource::Network(place) = &mut nic.source {
            place.dev = Some(choose_device(&def, others)?);
            place.mode = direct_mode(mode).map(|(mode, _)| mode);
        }
        // Once more: what a macvtap cannot have.
        check_one(&nic)?;
        Ok((port_of(&nic, port, owner, mode), nic))
    })?;
    *nic = placed;
    Ok(())
}

/// The port of an interface that has its place.
fn port_of(nic: &Interface, uuid: Uuid, (owner_uuid, owner_name): (Uuid, &str), mode: ForwardMode) -> Port {
    let (group, bridge) = match &nic.source {
        InterfaceSource::Network(place) => (place.portgroup.clone(), place.bridge.clone().unwrap_or_default()),
        _ => Default::default(),
    };
    let plug = match (mode.owns_bridge(), nic.source.direct(), direct_mode(mode)) {
        (_, Some((dev, _)), Some((_, mode))) => Plug::Direct { dev: dev.to_string(), mode },
        (true, ..) => Plug::Network { bridge, mac_table_manager: None },
        (false, ..) => Plug::Bridge { bridge, mac_table_manager: None },
    };
    let def = PortDef {
        uuid,
        owner_uuid,
        owner_name: owner_name.to_string(),
        group,
        mac: nic.mac.unwrap_or_default(),
        bandwidth: nic.bandwidth.clone(),
        isolated: nic.isolated,
        plug,
        ..PortDef::default()
    };
    Port { def, link: nic.target.dev.clone() }
}

/// Notes the ports of a guest that runs, from its live definition: after its start, when the links have names, and when
/// it is found running.
pub fn register(host: &HostObjects, live: &DomainDef) {
    for nic in &live.interfaces {
        let InterfaceSource::Network(place) = &nic.source else { continue };
        let Some(uuid) = place.portid.as_deref().and_then(|id| id.parse().ok()) else { continue };
        let Ok(network) = host.networks.by_name(place.network.as_deref().unwrap_or_default()) else { continue };
        let mode = network.def().map(|def| def.forward.mode).unwrap_or_default();
        let owner = (live.uuid.unwrap_or_default(), live.name.as_str());
        host.ports.insert(network.uuid(), port_of(nic, uuid, owner, mode));
    }
}

/// Limits the bandwidth of a running guest's interfaces, those in networks and others.
pub async fn limit(host: &HostObjects, live: &DomainDef) -> Result<()> {
    for nic in live.interfaces.iter().filter(|_| host.context.set != HostSet::Test) {
        if let (Some(bandwidth), Some(link), true) = (&nic.bandwidth, &nic.target.dev, nic.source.is_tap()) {
            let tc = host.context.networks.programs.tc();
            bandwidth::set(tc.as_deref(), link, &limits(bandwidth)).await?;
        }
    }
    Ok(())
}

/// The definition of the network as it runs, started on demand.
async fn active(network: &Network) -> Result<Arc<NetworkDef>> {
    if let Some(run) = network.state().run.as_ref().filter(|run| run.live.started) {
        return Ok(run.def.clone());
    }
    let mut change = network.change().await?;
    if !change.state().active() {
        let name = network.name();
        if !network.context().networks.start_on_demand || network.context().set == HostSet::Test {
            return Err(Error::invalid_state(format!(
                "network '{name}' is not active ('domus net-start {name}' starts it)"
            ))
            .with_subsystem(Subsystem::Network));
        }
        tracing::info!(network = name, "started because a guest needs it");
        live::start(&mut change).await?;
    }
    let state = change.state();
    state.run.as_ref().map(|run| run.def.clone()).ok_or_else(|| Error::internal("a started network does not run"))
}

fn unsupported(what: String) -> Error {
    Error::new(Code::ConfigUnsupported, what).with_subsystem(Subsystem::Network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_and_go() {
        let ports = Ports::default();
        let (network, uuid) = (Uuid::new_v4(), Uuid::new_v4());
        let port = Port { def: PortDef { uuid, ..PortDef::default() }, link: None };
        ports.insert(network, port.clone());
        ports.insert(network, Port { link: Some("vnet0".into()), ..port });
        assert_eq!((ports.of(network).len(), ports.links(network)), (1, vec!["vnet0".to_string()]));
        ports.release(network, Uuid::new_v4());
        assert_eq!(ports.of(network).len(), 1);
        ports.release(network, uuid);
        assert!(ports.of(network).is_empty());
        assert!(ports.is_news(network, "x") && !ports.is_news(network, "x"));
    }

    #[rstest::rstest]
    #[case("<vlan><tag id='7'/></vlan>", "<vlan> of interface 52:54:00:00:00:07 is not supported")]
    #[case("<virtualport type='openvswitch'/>", "<virtualport>")]
    #[case("<filterref filter='clean-traffic'/>", "<filterref>")]
    #[case("<bandwidth><inbound average='9' floor='5'/></bandwidth>", "floor")]
    fn what_would_not_be_done_is_refused(#[case] element: &str, #[case] words: &str) {
        let xml = format!(
            "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices><interface \
             type='network'><source network='n'/><mac address='52:54:00:00:00:07'/>{element}</interface></devices></domain>"
        );
        let def = crate::domain_xml::parse_inactive(&xml).unwrap().def;
        let error = check_one(&def.interfaces[0]).unwrap_err();
        assert_eq!(error.code, Code::ConfigUnsupported);
        assert!(error.detail.contains(words), "{error}");
    }
}
