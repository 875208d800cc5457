//! libvirt's network XML: bytes -> [`NetworkDef`] -> XML, and what follows from a definition alone.
//!
//! [`parse`] reads a document, drops what it does not know (with a [`Warning`] each) and refuses what libvirt's parser
//! refuses; [`validate`] adds what libvirt's network driver refuses; [`complete`] fills in UUID, MAC and bridge name.
//! Nothing here touches the host but [`run`], which makes a network live.

pub mod allot;
pub mod complete;
mod dns;
pub mod dnsmasq;
mod document;
pub mod firewall;
mod forward;
mod ip;
pub mod model;
pub mod port;
mod portgroup;
mod route;
pub mod run;
#[cfg(test)]
mod tests;
pub mod update;
pub mod validate;

pub use complete::complete;
pub use dns::{Dns, DnsForwarder, DnsHost, DnsSrv, DnsTxt};
pub use forward::{AddressRange, Forward, ForwardDevice, ForwardInterface, ForwardMode, HostdevDriver, Nat, PortRange};
pub use ip::{Bootp, Dhcp, DhcpHost, DhcpRange, Family, Ip, Lease, LeaseUnit, mask};
pub use model::{Bridge, DnsDomain, MacTableManager, NetworkDef};
pub use portgroup::PortGroup;
pub use route::Route;
pub use validate::validate;

pub use crate::domain_xml::Warning;
use crate::error::{Result, Subsystem};

/// Namespace of `<dnsmasq:options>`.
pub const DNSMASQ_NAMESPACE: &str = "http://libvirt.org/schemas/network/dnsmasq/1.0";

/// A parsed document with what was doubtful in it.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub def: NetworkDef,
    pub warnings: Vec<Warning>,
}

/// Which side of a network is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct FormatOptions {
    /// As a definition (`VIR_NETWORK_XML_INACTIVE`): without counts of connections, and with the physical function
    /// alone instead of the interfaces found behind it.
    pub inactive: bool,
}

/// Reads a `<network>` document. Errors carry line, column, element path and the nearest known word: code 35 for
/// syntax, 27 and 67 for meaning, 38 and 1 for addresses, as libvirt has them.
pub fn parse(xml: &str) -> Result<Parsed> {
    document::parse(xml).map_err(|error| error.or_subsystem(Subsystem::Network))
}

/// Writes a `<network>` document in libvirt's order, indentation and quoting.
pub fn format(def: &NetworkDef, options: FormatOptions) -> String {
    document::format(def, options)
}
