//! Guest interfaces in networks: what `<interface type='network'>` means on this host now, and who is where.
//!
//! Ports live in memory: what a running guest's live definition says of its interfaces is the record. A start notes
//! [`Step::NetworkPort`](super::super::undo::Step) before it takes one, so that every end of a run gives it back. Ports
//! that clients made are in the network's record ([`super::client_ports`]).

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
use crate::net::network::{ForwardDevice, NetworkDef, allot};
use crate::types::Uuid;

/// A guest's interface in a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub def: PortDef,
    /// The host's end, once it is made.
    pub link: Option<String>,
    /// A client made it; else it is an interface of a guest.
    pub by_client: bool,
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
    pub(super) fn reserve<T>(&self, network: Uuid, make: impl FnOnce(&[&PortDef]) -> Result<(Port, T)>) -> Result<T> {
        let mut all = self.lock();
        let ports = all.entry(network).or_default();
        let (port, made) = make(&ports.iter().map(|port| &port.def).collect::<Vec<_>>())?;
        ports.push(port);
        Ok(made)
    }

    /// How many ports of a network are on each device of the host.
    pub fn on_devices(&self, network: Uuid) -> BTreeMap<ForwardDevice, u32> {
        allot::used(self.lock().get(&network).into_iter().flatten().map(|port| &port.def))
    }

    /// Gives back what clients made in a network that stopped; guests that run still have their interfaces.
    pub(super) fn release_clients(&self, network: Uuid) {
        if let Some(ports) = self.lock().get_mut(&network) {
            ports.retain(|port| !port.by_client);
        }
    }

    /// Gives a port back; one that is not there is no error.
    pub fn release(&self, network: Uuid, port: Uuid) {
        if let Some(ports) = self.lock().get_mut(&network) {
            ports.retain(|other| other.def.uuid != port);
        }
    }

    /// Whatever was said of the network is over, and is news when it comes again.
    pub(super) fn nothing_to_say(&self, network: Uuid) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _)| *of != network);
    }

    /// Whether this was not said of the network before.
    pub(super) fn is_news(&self, network: Uuid, text: &str) -> bool {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).insert((network, text.to_string()))
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
    let group = def.portgroup(wanted.portgroup.as_deref());
    if let (Some(asked), None) = (&wanted.portgroup, group) {
        let known: Vec<&str> = def.portgroups.iter().map(|group| group.name.as_str()).collect();
        return Err(unsupported(format!(
            "network '{name}' has no port group '{asked}' (it has: {})",
            if known.is_empty() { "none".to_string() } else { known.join(", ") }
        )));
    }
    let port = Uuid::new_v4();
    undo.push(vec![Step::NetworkPort { network: network.uuid(), port }]).await?;
    *nic = host.ports.reserve(network.uuid(), |others| {
        let mut def_of_port = wanted_port(nic, port, (owner, owner_name));
        allot::allot(&def, &mut def_of_port, others)?;
        let nic = placed(nic, &def, &def_of_port)?;
        Ok((Port { def: def_of_port, link: nic.target.dev.clone(), by_client: false }, nic))
    })?;
    Ok(())
}

/// The interface in its place. Error: code 67 for what would silently not be done, or cannot be handed to a guest.
fn placed(nic: &Interface, network: &NetworkDef, port: &PortDef) -> Result<Interface> {
    let mut nic = nic.clone();
    nic.vlan.clone_from(&port.vlan);
    nic.virtualport.clone_from(&port.virtualport);
    nic.bandwidth.clone_from(&port.bandwidth);
    nic.isolated = port.isolated;
    nic.mtu = nic.mtu.or(network.mtu);
    if let InterfaceSource::Network(place) = &mut nic.source {
        place.portid = Some(port.uuid.to_string());
        match &port.plug {
            Plug::Network { bridge, .. } | Plug::Bridge { bridge, .. } => place.bridge = Some(bridge.clone()),
            Plug::Direct { dev, mode } => {
                place.dev = Some(dev.clone());
                place.mode = Some(match mode {
                    DirectMode::Vepa => MacvtapMode::Vepa,
                    DirectMode::Private => MacvtapMode::Private,
                    DirectMode::Bridge => MacvtapMode::Bridge,
                    DirectMode::Passthrough => MacvtapMode::Passthrough,
                });
            }
            Plug::HostdevPci { address, .. } => {
                return Err(unsupported(format!(
                    "network '{}' gives interface {} the PCI device {address} of the host, and no PCI device can be \
                     handed to a guest here yet; a network with <forward mode='bridge'/> and <bridge name='..'/> or \
                     <interface dev='..'/> can be used",
                    network.name, port.mac
                )));
            }
            Plug::None => {}
        }
    }
    check_one(&nic)?;
    Ok(nic)
}

/// What an interface says of its port, before it has a place.
fn wanted_port(nic: &Interface, uuid: Uuid, (owner_uuid, owner_name): (Uuid, &str)) -> PortDef {
    let group = match &nic.source {
        InterfaceSource::Network(place) => place.portgroup.clone(),
        _ => None,
    };
    PortDef {
        uuid,
        owner_uuid,
        owner_name: owner_name.to_string(),
        group,
        mac: nic.mac.unwrap_or_default(),
        virtualport: nic.virtualport.clone(),
        bandwidth: nic.bandwidth.clone(),
        vlan: nic.vlan.clone(),
        isolated: nic.isolated,
        trust_guest_rx_filters: nic.trust_guest_rx_filters,
        ..PortDef::default()
    }
}

/// The port of an interface that has its place.
fn port_of(nic: &Interface, uuid: Uuid, owner: (Uuid, &str), network: &NetworkDef) -> Port {
    let bridge = match &nic.source {
        InterfaceSource::Network(place) => place.bridge.clone().unwrap_or_default(),
        _ => String::new(),
    };
    let mac_table_manager = network.bridge.mac_table_manager;
    let mode = network.forward.mode;
    let plug = match (nic.source.direct(), allot::direct_mode(mode)) {
        (Some((dev, _)), Some(mode)) => Plug::Direct { dev: dev.to_string(), mode },
        _ if mode.owns_bridge() => Plug::Network { bridge, mac_table_manager },
        _ => Plug::Bridge { bridge, mac_table_manager },
    };
    let def = PortDef { plug, ..wanted_port(nic, uuid, owner) };
    Port { def, link: nic.target.dev.clone(), by_client: false }
}

/// Notes the ports of a guest that runs, from its live definition: after its start, when the links have names, and when
/// it is found running.
pub fn register(host: &HostObjects, live: &DomainDef) {
    for nic in &live.interfaces {
        let InterfaceSource::Network(place) = &nic.source else { continue };
        let Some(uuid) = place.portid.as_deref().and_then(|id| id.parse().ok()) else { continue };
        let Ok(network) = host.networks.by_name(place.network.as_deref().unwrap_or_default()) else { continue };
        let Ok(def) = network.def() else { continue };
        let owner = (live.uuid.unwrap_or_default(), live.name.as_str());
        host.ports.insert(network.uuid(), port_of(nic, uuid, owner, &def));
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
        let port = Port { def: PortDef { uuid, ..PortDef::default() }, link: None, by_client: false };
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
