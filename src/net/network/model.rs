//! [`NetworkDef`]: a network as its document has it.

use super::dns::Dns;
use super::forward::{Forward, ForwardMode};
use super::ip::Ip;
use super::portgroup::PortGroup;
use super::route::Route;
use crate::domain_xml::YesNo;
use crate::domain_xml::device::net_options::{Bandwidth, VirtualPort, Vlan};
use crate::domain_xml::metadata::Metadata;
use crate::domain_xml::words::words;
use crate::types::{MacAddr, Uuid};

words! {
    /// Who fills the bridge's table of MAC addresses.
    pub enum MacTableManager { Kernel = "kernel", Libvirt = "libvirt" }
}

/// `<network>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkDef {
    /// `None` until [`super::complete`] gives one.
    pub uuid: Option<Uuid>,
    pub name: String,
    pub title: Option<String>,
    pub description: Option<String>,
    pub metadata: Metadata,
    /// Guest interfaces connected now; written for an active network only.
    pub connections: u32,
    /// Whether guests may talk IPv6 to each other when the network has no IPv6 address.
    pub ipv6: Option<YesNo>,
    pub trust_guest_rx_filters: Option<YesNo>,
    pub forward: Forward,
    pub bridge: Bridge,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Of the bridge; `None` until [`super::complete`] gives one, and for networks without a bridge of their own.
    pub mac: Option<MacAddr>,
    pub domain: Option<DnsDomain>,
    pub dns: Dns,
    pub vlan: Option<Vlan>,
    pub bandwidth: Option<Bandwidth>,
    /// `<port isolated>`.
    pub port_isolated: Option<YesNo>,
    pub ips: Vec<Ip>,
    pub routes: Vec<Route>,
    pub virtualport: Option<VirtualPort>,
    pub portgroups: Vec<PortGroup>,
    /// Lines for dnsmasq's configuration (`<dnsmasq:options>`).
    pub dnsmasq_options: Vec<String>,
}

/// `<bridge>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Bridge {
    /// `None` until [`super::complete`] chooses one, and for networks without a bridge.
    pub name: Option<String>,
    /// firewalld's zone.
    pub zone: Option<String>,
    pub stp: bool,
    /// Forward delay, seconds.
    pub delay: u64,
    pub mac_table_manager: Option<MacTableManager>,
}

impl Default for Bridge {
    fn default() -> Self {
        Bridge { name: None, zone: None, stp: true, delay: 0, mac_table_manager: None }
    }
}

/// `<domain>`: the DNS domain of the network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnsDomain {
    pub name: String,
    /// Names in it are never asked for upstream.
    pub local_only: Option<YesNo>,
    /// The host's resolver shall ask this network's server about it.
    pub register: Option<YesNo>,
}

impl NetworkDef {
    /// Whether the network has a bridge that is made and removed with it (isolated, nat, route, open).
    pub fn owns_bridge(&self) -> bool {
        self.forward.mode.owns_bridge()
    }

    /// The bridge's name, when there is one.
    pub fn bridge_name(&self) -> Option<&str> {
        self.bridge.name.as_deref()
    }

    /// The port group of this name; without a name the default one.
    pub fn portgroup(&self, name: Option<&str>) -> Option<&PortGroup> {
        self.portgroups.iter().find(|group| match name {
            Some(name) => group.name == name,
            None => group.is_default == Some(YesNo::Yes),
        })
    }

    /// Addresses of one family.
    pub fn ips_of(&self, v6: bool) -> impl Iterator<Item = &Ip> {
        self.ips.iter().filter(move |ip| ip.address.is_ipv6() == v6)
    }

    /// The only device that forwarded traffic may use, when one is named.
    pub fn forward_device(&self) -> Option<&str> {
        match self.forward.mode {
            ForwardMode::Nat | ForwardMode::Route => self.forward.first_device(),
            _ => None,
        }
    }
}
