//! Where a port of a network is connected, from the definition of the network and its other ports: pure.

use std::collections::BTreeMap;

use super::forward::{ForwardDevice, ForwardMode};
use super::model::NetworkDef;
use super::port::{DirectMode, Plug, PortDef};
use super::validate::check_virtualport;
use crate::domain_xml::device::net_options::VirtualPortType;
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::{PciAddress, Uuid};

fn internal(what: String) -> Error {
    Error::internal(what).with_subsystem(Subsystem::Network)
}

/// How a macvtap of such a network passes frames; `None`: it makes none.
pub fn direct_mode(mode: ForwardMode) -> Option<DirectMode> {
    match mode {
        ForwardMode::Bridge => Some(DirectMode::Bridge),
        ForwardMode::Private => Some(DirectMode::Private),
        ForwardMode::Vepa => Some(DirectMode::Vepa),
        ForwardMode::Passthrough => Some(DirectMode::Passthrough),
        _ => None,
    }
}

/// The device of the host that a port uses alone or with others.
pub fn device_of(plug: &Plug) -> Option<ForwardDevice> {
    match plug {
        Plug::Direct { dev, .. } => Some(ForwardDevice::Netdev(dev.clone())),
        Plug::HostdevPci { address, .. } => Some(ForwardDevice::Pci(*address)),
        Plug::None | Plug::Network { .. } | Plug::Bridge { .. } => None,
    }
}

/// How many of the ports are on each device of the host.
pub fn used<'a>(ports: impl IntoIterator<Item = &'a PortDef>) -> BTreeMap<ForwardDevice, u32> {
    let mut counts = BTreeMap::new();
    for device in ports.into_iter().filter_map(|port| device_of(&port.plug)) {
        *counts.entry(device).or_default() += 1;
    }
    counts
}

/// Gives a new port what its port group and the network have for it, and its plug: the bridge, or the least used device
/// of the pool. Errors: code 67 for a virtual port that does not go with the network, code 1 with libvirt's texts where
/// no device is there or free.
pub fn allot(def: &NetworkDef, port: &mut PortDef, others: &[&PortDef]) -> Result<()> {
    inherit(def, port);
    check_virtualport(def, port.virtualport.as_ref())?;
    let mode = def.forward.mode;
    let bridge = def.bridge_name().map(str::to_string);
    let mac_table_manager = def.bridge.mac_table_manager;
    port.plug = match (bridge, direct_mode(mode)) {
        (Some(bridge), _) if mode.owns_bridge() => Plug::Network { bridge, mac_table_manager },
        (Some(bridge), _) if mode == ForwardMode::Bridge => Plug::Bridge { bridge, mac_table_manager },
        (_, Some(mode)) => Plug::Direct { dev: choose_link(def, others)?, mode },
        _ => Plug::HostdevPci { address: choose_pci(def, others)?, managed: def.forward.managed },
    };
    if let Some(virtualport) = port.virtualport.as_mut()
        && virtualport.kind == Some(VirtualPortType::Openvswitch)
        && matches!(port.plug, Plug::Bridge { .. })
    {
        virtualport.parameters.interfaceid.get_or_insert_with(|| Uuid::new_v4().to_string());
    }
    Ok(())
}

/// The port's own words win, then the port group's, then the network's.
fn inherit(def: &NetworkDef, port: &mut PortDef) {
    let group = def.portgroup(port.group.as_deref());
    port.vlan = port.vlan.take().or_else(|| group.and_then(|group| group.vlan.clone())).or_else(|| def.vlan.clone());
    port.virtualport = port
        .virtualport
        .take()
        .or_else(|| group.and_then(|group| group.virtualport.clone()))
        .or_else(|| def.virtualport.clone());
    port.bandwidth = port.bandwidth.take().or_else(|| group.and_then(|group| group.bandwidth.clone()));
    port.trust_guest_rx_filters = port
        .trust_guest_rx_filters
        .or_else(|| group.and_then(|group| group.trust_guest_rx_filters))
        .or(def.trust_guest_rx_filters);
    port.isolated = port.isolated.or(def.port_isolated);
}

/// The least used link of the pool, the first of several.
fn choose_link(def: &NetworkDef, others: &[&PortDef]) -> Result<String> {
    let name = &def.name;
    let used = used(others.iter().copied());
    let pool = def.forward.interfaces.iter().filter_map(|interface| match &interface.device {
        ForwardDevice::Netdev(dev) => Some((used.get(&interface.device).copied().unwrap_or_default(), dev)),
        ForwardDevice::Pci(_) => None,
    });
    let Some((count, dev)) = pool.min_by_key(|(count, _)| *count) else {
        return Err(internal(format!(
            "network '{name}' uses a direct mode, but has no forward dev and no interface pool: give it <forward dev='..'/>"
        )));
    };
    if def.forward.mode == ForwardMode::Passthrough && count > 0 {
        return Err(none_free(def));
    }
    Ok(dev.clone())
}

/// The first PCI device of the pool that no port has.
fn choose_pci(def: &NetworkDef, others: &[&PortDef]) -> Result<PciAddress> {
    let used = used(others.iter().copied());
    let free = def.forward.interfaces.iter().find_map(|interface| match &interface.device {
        ForwardDevice::Pci(address) if !used.contains_key(&interface.device) => Some(*address),
        _ => None,
    });
    free.ok_or_else(|| none_free(def))
}

fn none_free(def: &NetworkDef) -> Error {
    let count = def.forward.interfaces.len();
    let why = if count == 0 { "it has none".to_string() } else { format!("all {count} are in use") };
    internal(format!("network '{}' requires exclusive access to interfaces, but none are available: {why}", def.name))
}

/// Whether a port that says itself where it is (`VIR_NETWORK_PORT_CREATE_RECLAIM`) can be there. Errors: code 1 with
/// libvirt's texts for a device that the network does not have, or that another port has for itself.
pub fn reclaim(def: &NetworkDef, port: &PortDef, others: &[&PortDef]) -> Result<()> {
    let Some(device) = device_of(&port.plug) else { return Ok(()) };
    let name = &def.name;
    if def.forward.interfaces.is_empty() {
        let kind = if matches!(device, ForwardDevice::Pci(_)) { "hostdev" } else { "direct" };
        return Err(internal(format!(
            "network '{name}' uses a {kind} mode, but has no forward dev and no interface pool"
        )));
    }
    let known = def.forward.interfaces.iter().any(|interface| interface.device == device);
    let taken = used(others.iter().copied()).contains_key(&device);
    match device {
        ForwardDevice::Netdev(dev) if !known => {
            Err(internal(format!("network '{name}' doesn't have dev='{dev}' in use by domain")))
        }
        ForwardDevice::Pci(address) if !known => {
            Err(internal(format!("network '{name}' doesn't have PCI device {address} in use by domain")))
        }
        ForwardDevice::Netdev(dev) if taken && def.forward.mode == ForwardMode::Passthrough => {
            Err(internal(format!("network '{name}' claims dev='{dev}' is already in use by a different port")))
        }
        ForwardDevice::Pci(PciAddress { domain, bus, slot, function }) if taken => Err(internal(format!(
            "network '{name}' claims the PCI device at domain={domain} bus={bus} slot={slot} function={function} is \
             already in use by a different network port"
        ))),
        _ => Ok(()),
    }
}

/// Refuses a floor where nothing could keep it. Error: code 84.
pub fn check_floor(def: &NetworkDef, port: &PortDef) -> Result<()> {
    let inbound = port.bandwidth.as_ref().and_then(|limits| limits.inbound.as_ref());
    if inbound.is_none_or(|rate| rate.floor.unwrap_or_default() == 0) {
        return Ok(());
    }
    let (name, mac) = (&def.name, port.mac);
    let why = if !def.owns_bridge() {
        "'floor' is only supported for interface type 'network' with forward type 'nat', 'route', 'open' or none"
            .to_string()
    } else if def.bandwidth.as_ref().is_none_or(|limits| limits.inbound.is_none()) {
        format!("network '{name}' has no inbound QoS set")
    } else {
        format!("no floor is kept on the bridge of network '{name}' here yet: give the port an average and a peak")
    };
    let what = format!("Invalid use of 'floor' on interface with MAC address {mac} - {why}");
    Err(Error::new(Code::OperationUnsupported, what).with_subsystem(Subsystem::Network))
}

#[cfg(test)]
mod tests {
    use super::super::{parse, port};
    use super::*;
    use rstest::rstest;

    fn network(body: &str) -> NetworkDef {
        parse(&format!("<network><name>n</name>{body}</network>")).expect("parses").def
    }

    fn new(body: &str) -> PortDef {
        let text = format!(
            "<networkport><uuid>{}</uuid><owner><name>g</name><uuid>{}</uuid></owner><mac \
             address='52:54:00:00:00:01'/>{body}</networkport>",
            Uuid::new_v4(),
            Uuid::new_v4()
        );
        port::parse(&text, false).expect("parses")
    }

    /// The devices that as many new ports get, one after the other, and what the next one hears.
    fn fill(def: &NetworkDef, wanted: usize) -> (Vec<Plug>, Option<String>) {
        let mut ports: Vec<PortDef> = Vec::new();
        for _ in 0..wanted {
            let mut one = new("");
            if let Err(error) = allot(def, &mut one, &ports.iter().collect::<Vec<_>>()) {
                return (ports.into_iter().map(|port| port.plug).collect(), Some(error.detail));
            }
            ports.push(one);
        }
        (ports.into_iter().map(|port| port.plug).collect(), None)
    }

    #[test]
    fn devices_are_spread_and_exclusive_ones_run_out() {
        let pool =
            |mode| network(&format!("<forward mode='{mode}'><interface dev='a'/><interface dev='b'/></forward>"));
        let on = |dev: &str, mode| Plug::Direct { dev: dev.into(), mode };
        let (plugs, _) = fill(&pool("vepa"), 3);
        assert_eq!(plugs, [on("a", DirectMode::Vepa), on("b", DirectMode::Vepa), on("a", DirectMode::Vepa)]);
        let (plugs, error) = fill(&pool("passthrough"), 3);
        assert_eq!(plugs.len(), 2);
        assert_eq!(
            error.as_deref(),
            Some("network 'n' requires exclusive access to interfaces, but none are available: all 2 are in use")
        );
        let devices = "<forward mode='hostdev' managed='yes'><address type='pci' domain='0' bus='3' slot='0' \
                       function='1'/><address type='pci' domain='0' bus='3' slot='0' function='2'/></forward>";
        let (plugs, error) = fill(&network(devices), 3);
        let vf =
            |function| Plug::HostdevPci { address: PciAddress { domain: 0, bus: 3, slot: 0, function }, managed: true };
        assert_eq!(plugs, [vf(1), vf(2)]);
        assert!(error.is_some_and(|error| error.contains("none are available")));
        assert!(fill(&network("<forward mode='bridge'/>"), 1).1.unwrap().contains("no interface pool"));
    }

    #[test]
    fn groups_and_network_give_what_the_port_does_not_say() {
        let def = network(
            "<forward mode='bridge'/><bridge name='br0'/><vlan><tag id='7'/></vlan><port isolated='yes'/><portgroup \
             name='g' trustGuestRxFilters='yes'><bandwidth><inbound average='9'/></bandwidth></portgroup>",
        );
        let mut port = new("<group>g</group>");
        allot(&def, &mut port, &[]).unwrap();
        let text = port::format(&port);
        for part in ["<tag id='7'/>", "average='9'", "isolated='yes'", "trustGuest='yes'", "type='bridge' bridge='br0'"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let mut port = new("<vlan><tag id='8'/></vlan><virtualport type='openvswitch'/>");
        allot(&def, &mut port, &[]).unwrap();
        let text = port::format(&port);
        assert!(text.contains("<tag id='8'/>") && text.contains("interfaceid='"), "{text}");
        let mut port = new("<virtualport type='802.1Qbh'/>");
        assert!(allot(&def, &mut port, &[]).unwrap_err().detail.contains("uses a bridge device"));
    }

    #[rstest]
    #[case("<forward mode='vepa'><interface dev='a'/></forward>", "zz", Some("doesn't have dev='zz' in use by domain"))]
    #[case("<forward mode='vepa'><interface dev='a'/></forward>", "a", None)]
    #[case("<forward mode='passthrough'><interface dev='a'/></forward>", "a", Some("in use by a different port"))]
    #[case("<bridge name='b'/>", "a", Some("no interface pool"))]
    fn only_what_is_there_is_reclaimed(#[case] body: &str, #[case] dev: &str, #[case] refusal: Option<&str>) {
        let port = new(&format!("<plug type='direct' dev='{dev}' mode='bridge'/>"));
        let other = new("<plug type='direct' dev='a' mode='bridge'/>");
        let said = reclaim(&network(body), &port, &[&other]).err().map(|error| error.detail);
        match (&said, refusal) {
            (Some(said), Some(words)) => assert!(said.contains(words), "{said}"),
            (said, refusal) => assert_eq!(said.is_some(), refusal.is_some(), "{said:?}"),
        }
    }

    #[test]
    fn a_floor_needs_somebody_who_keeps_it() {
        let floor = new("<bandwidth><inbound average='9' floor='5'/></bandwidth>");
        let said = check_floor(&network("<bridge name='b'/>"), &floor).unwrap_err();
        assert_eq!(said.code, Code::OperationUnsupported);
        assert!(said.detail.ends_with("network 'n' has no inbound QoS set"), "{said}");
        check_floor(&network(""), &new("<bandwidth><inbound average='9'/></bandwidth>")).unwrap();
    }
}
