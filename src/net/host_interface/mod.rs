//! Interfaces of the host (`virInterface`): their definitions in libvirt's XML, and the links that this host has.
//!
//! Owns `<interface>` as `virInterfaceDefineXML` takes it; nothing to do with interfaces of guests. Links are looked at
//! in sysfs and never changed.

mod document;
mod scan;
#[cfg(test)]
mod tests;

pub use scan::{Found, scan};

use crate::domain_xml::words::{YesNo, words};
use crate::error::Result;

/// `<interface>`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InterfaceDef {
    /// Unique on a host.
    pub name: String,
    /// When it is brought up; unset says nothing.
    pub start: Option<StartMode>,
    /// Bytes.
    pub mtu: Option<u32>,
    pub protocols: Vec<Protocol>,
    pub link: Option<Link>,
    pub kind: InterfaceKind,
}

words! {
    /// When an interface is brought up.
    pub enum StartMode { None = "none", OnBoot = "onboot", Hotplug = "hotplug" }

    /// Which addresses `<protocol>` is about.
    pub enum Family { Ipv4 = "ipv4", Ipv6 = "ipv6" }

    /// What a link is doing (the kernel's `operstate`).
    pub enum LinkState {
        Unknown = "unknown",
        NotPresent = "notpresent",
        Down = "down",
        LowerLayerDown = "lowerlayerdown",
        Testing = "testing",
        Dormant = "dormant",
        Up = "up",
    }

    /// How a bond chooses among its interfaces.
    pub enum BondMode {
        RoundRobin = "balance-rr",
        ActiveBackup = "active-backup",
        Xor = "balance-xor",
        Broadcast = "broadcast",
        Lacp = "802.3ad",
        Tlb = "balance-tlb",
        Alb = "balance-alb",
    }

    /// Who tells a bond of the state of a link.
    pub enum Carrier { Ioctl = "ioctl", Netif = "netif" }

    /// Which links of a bond are checked by ARP.
    pub enum Validate { None = "none", Active = "active", Backup = "backup", All = "all" }
}

/// What else there is to say of an interface, by its type.
#[derive(Clone, Debug, PartialEq)]
pub enum InterfaceKind {
    /// With its MAC address, as it was written.
    Ethernet(Option<String>),
    Bridge(Bridge),
    Bond(Box<Bond>),
    Vlan(Vlan),
}

impl Default for InterfaceKind {
    fn default() -> Self {
        InterfaceKind::Ethernet(None)
    }
}

/// `<protocol>`: addresses of one family.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Protocol {
    pub family: Family,
    /// From router advertisements; IPv6 only.
    pub autoconf: bool,
    pub dhcp: Option<Dhcp>,
    pub addresses: Vec<Address>,
    /// The default route.
    pub gateway: Option<String>,
}

/// `<dhcp>`
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dhcp {
    /// Whether name servers are taken from it.
    pub peerdns: Option<YesNo>,
}

/// `<ip>`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Address {
    pub address: String,
    /// Bits; 0 is not written.
    pub prefix: u32,
}

/// `<link>`
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    /// Mbit/s.
    pub speed: Option<u32>,
    pub state: Option<LinkState>,
}

/// `<bridge>`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bridge {
    /// `on` or `off`.
    pub stp: Option<bool>,
    /// Seconds, as it was written.
    pub delay: Option<String>,
    pub members: Vec<InterfaceDef>,
}

/// `<bond>`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bond {
    pub mode: Option<BondMode>,
    pub monitor: Option<Monitor>,
    pub members: Vec<InterfaceDef>,
}

/// How a bond notices that a link is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Monitor {
    /// Milliseconds.
    Mii { frequency: u32, down_delay: u32, up_delay: u32, carrier: Option<Carrier> },
    /// Milliseconds, and who must answer.
    Arp { interval: u32, target: String, validate: Option<Validate> },
}

/// `<vlan>`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vlan {
    pub tag: String,
    /// The interface below.
    pub parent: String,
}

impl InterfaceDef {
    /// Reads libvirt's interface XML. Errors: codes 27 and 35.
    pub fn parse(xml: &str) -> Result<InterfaceDef> {
        document::parse(xml)
    }

    /// Refuses what the XML has that an interface does not (`VIR_INTERFACE_DEFINE_VALIDATE`). Error: code 92.
    pub fn validate(xml: &str) -> Result<()> {
        document::validate(xml)
    }

    /// libvirt's interface XML.
    pub fn to_xml(&self) -> String {
        document::write(self)
    }

    /// Its MAC address; empty when it has none of its own.
    pub fn mac(&self) -> &str {
        match &self.kind {
            InterfaceKind::Ethernet(Some(mac)) => mac,
            _ => "",
        }
    }
}

/// `virConnectListAllInterfacesFlags`
pub mod list {
    pub const INACTIVE: u32 = 1;
    pub const ACTIVE: u32 = 2;
    pub const ALL: u32 = 3;
}
