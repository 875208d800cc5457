//! `<interface>`: veth pairs, macvlans, addresses, routes.

use std::net::IpAddr;

use super::Host;
use crate::domain_xml::device::{Interface, InterfaceSource, IpAddress, LinkState, MacvtapMode};
use crate::domain_xml::{DomainDef, YesNo};
use crate::error::{Error, Result};
use crate::lxc::spec::{Address, Macvlan, Nic, Route};
use crate::net::tap::{check_name, is_generated_name};
use crate::sys::rtnl::macvlan_mode;

pub(super) fn plan(def: &DomainDef, host: &Host) -> Result<Vec<Nic>> {
    let mut nics: Vec<Nic> = Vec::new();
    for (index, interface) in def.interfaces.iter().enumerate() {
        let nic = interface_of(interface, index, &host.run_id)?;
        if let Some(twin) = nics.iter().find(|other| other.guest == nic.guest || other.host == nic.host) {
            return Err(Error::unsupported_config(format!(
                "two interfaces have the same name ('{}' on the host, '{}' inside)",
                twin.host, twin.guest
            )));
        }
        nics.push(nic);
    }
    Ok(nics)
}

/// One interface, the `index`th of its run.
pub fn interface_of(interface: &Interface, index: usize, run_id: &str) -> Result<Nic> {
    let bridge = match &interface.source {
        InterfaceSource::Bridge { bridge } => {
            check_name(bridge)?;
            Some(bridge.clone())
        }
        InterfaceSource::Ethernet | InterfaceSource::Direct { .. } => None,
        // On paper there is none yet: which one it is is known when the guest starts.
        InterfaceSource::Network(place) => place.bridge.clone(),
        other => {
            return Err(Error::unsupported_config(format!(
                "Unsupported network type {}: containers have network, bridge, direct and ethernet",
                other.type_name()
            )));
        }
    };
    let macvlan = macvlan(interface)?;
    let unsupported = [
        (interface.filterref.is_some(), "filterref"),
        (interface.vlan.is_some(), "vlan"),
        (interface.virtualport.is_some(), "virtualport"),
        (interface.script.is_some(), "script"),
    ];
    if let Some((_, element)) = unsupported.iter().find(|(present, _)| *present) {
        return Err(Error::unsupported_config(format!(
            "<{element}> of an interface is not supported for containers: remove it"
        )));
    }
    let guest = interface.guest.dev.clone().unwrap_or_else(|| format!("eth{index}"));
    check_name(&guest)?;
    let Some(mac) = interface.mac else {
        return Err(Error::internal(format!("interface {index} has no MAC address")));
    };
    Ok(Nic {
        host: host_name(interface, index, run_id)?,
        alias: alias(run_id),
        guest,
        mac: mac.0,
        mtu: interface.mtu,
        bridge,
        macvlan,
        isolated: interface.isolated == Some(YesNo::Yes),
        up: interface.link != Some(LinkState::Down),
        addresses: interface.ips.iter().map(address).collect::<Result<_>>()?,
        routes: interface.routes.iter().map(route).collect::<Result<_>>()?,
    })
}

/// The macvlan of an interface that has a device of the host.
fn macvlan(interface: &Interface) -> Result<Option<Macvlan>> {
    let Some((dev, mode)) = interface.source.direct() else { return Ok(None) };
    check_name(dev)?;
    if interface.link == Some(LinkState::Down) {
        return Err(Error::unsupported_config(format!(
            "<link state='down'> of an interface on the host's device '{dev}' is not supported for containers: nothing \
             outside could hold a macvlan down"
        )));
    }
    let mode = match mode {
        MacvtapMode::Private => macvlan_mode::PRIVATE,
        MacvtapMode::Vepa => macvlan_mode::VEPA,
        MacvtapMode::Bridge => macvlan_mode::BRIDGE,
        MacvtapMode::Passthrough => macvlan_mode::PASSTHROUGH,
    };
    Ok(Some(Macvlan { dev: dev.to_string(), mode }))
}

/// Name of the host end: the definition's, or one derived from the run, so that a later daemon knows it.
pub fn host_name(interface: &Interface, index: usize, run_id: &str) -> Result<String> {
    match interface.target.dev.as_deref().filter(|name| !is_generated_name(name)) {
        Some(name) => {
            check_name(name)?;
            Ok(name.to_string())
        }
        None => {
            let tail = run_id.rsplit('-').next().unwrap_or(run_id);
            let name = format!("v{}-{index}", tail.get(..8).unwrap_or(tail));
            check_name(&name)?;
            Ok(name)
        }
    }
}

/// `IFLA_IFALIAS` of every host end of a run.
pub fn alias(run_id: &str) -> String {
    format!("domus:{run_id}")
}

fn parse(text: Option<&str>, what: &str) -> Result<IpAddr> {
    let text = text.unwrap_or_default();
    text.parse().map_err(|_| Error::unsupported_config(format!("{what} '{text}' is not an IP address")))
}

fn prefix_max(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn prefix(given: Option<u32>, address: IpAddr, default: u8) -> Result<u8> {
    let Some(given) = given else { return Ok(default) };
    match u8::try_from(given) {
        Ok(prefix) if prefix <= prefix_max(address) => Ok(prefix),
        _ => Err(Error::unsupported_config(format!("prefix {given} is too long for address {address}"))),
    }
}

fn address(ip: &IpAddress) -> Result<Address> {
    let address = parse(ip.address.as_deref(), "<ip address>")?;
    let default = match address {
        // libvirt's defaults: the class of the address, and 64.
        IpAddr::V4(v4) => match v4.octets()[0] {
            0..128 => 8,
            128..192 => 16,
            _ => 24,
        },
        IpAddr::V6(_) => 64,
    };
    let peer = ip.peer.as_deref().map(|peer| parse(Some(peer), "<ip peer>")).transpose()?;
    Ok(Address { address, prefix: prefix(ip.prefix, address, default)?, peer })
}

fn route(route: &crate::domain_xml::device::Route) -> Result<Route> {
    let destination = parse(route.address.as_deref(), "<route address>")?;
    let gateway = route.gateway.as_deref().map(|gateway| parse(Some(gateway), "<route gateway>")).transpose()?;
    let prefix = match route.netmask.as_deref() {
        Some(mask) => match parse(Some(mask), "<route netmask>")? {
            IpAddr::V4(v4) if v4.to_bits().leading_ones() + v4.to_bits().trailing_zeros() == 32 => {
                v4.to_bits().leading_ones() as u8
            }
            _ => return Err(Error::unsupported_config(format!("<route netmask> '{mask}' is not a netmask"))),
        },
        // The default route; anything else is a route to one host.
        None if destination.is_unspecified() => prefix(route.prefix, destination, 0)?,
        None => prefix(route.prefix, destination, prefix_max(destination))?,
    };
    Ok(Route { destination, prefix, gateway, metric: route.metric })
}
