//! `<forward>`.

use std::net::Ipv4Addr;

use super::FormatOptions;
use super::ip::parse_address;
use crate::domain_xml::YesNo;
use crate::domain_xml::words::{attrs, words};
use crate::error::{Code, Result};
use crate::types::PciAddress;
use crate::types::text::nearest;
use crate::xml::{Node, Writer};

words! {
    /// `<forward mode>`; `none` is a network without the element.
    pub enum ForwardMode {
        None = "none", Nat = "nat", Route = "route", Open = "open", Bridge = "bridge", Private = "private",
        Vepa = "vepa", Passthrough = "passthrough", Hostdev = "hostdev",
    }
}

attrs! {
    /// `<driver>` of host devices.
    pub struct HostdevDriver {
        name: String = "name",
        model: String = "model",
    }
}

/// `<forward>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forward {
    pub mode: ForwardMode,
    /// Whether host devices are taken from and given back to the host's driver.
    pub managed: bool,
    pub driver: HostdevDriver,
    pub nat: Nat,
    pub pf: Option<PhysicalFunction>,
    pub interfaces: Vec<ForwardInterface>,
}

/// `<pf>`: an SR-IOV device whose virtual functions are used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PhysicalFunction {
    pub dev: String,
    /// Guest interfaces that use it now.
    pub connections: u32,
}

/// `<interface>` or `<address>`: a device that traffic goes through.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardInterface {
    pub device: ForwardDevice,
    /// Guest interfaces that use it now.
    pub connections: u32,
}

/// What a [`ForwardInterface`] is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForwardDevice {
    Netdev(String),
    Pci(PciAddress),
}

/// `<nat>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nat {
    pub ipv6: Option<YesNo>,
    pub address: Option<AddressRange>,
    pub port: Option<PortRange>,
}

/// Addresses from `start` to `end`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    pub start: Ipv4Addr,
    pub end: Ipv4Addr,
}

/// Ports from `start` to `end`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub start: u16,
    pub end: u16,
}

impl ForwardMode {
    /// Whether such a network makes its own bridge.
    pub fn owns_bridge(self) -> bool {
        matches!(self, ForwardMode::None | ForwardMode::Nat | ForwardMode::Route | ForwardMode::Open)
    }
}

impl Forward {
    pub(super) fn read(node: Node<'_>, network: &str) -> Result<Self> {
        let mut forward = Forward {
            mode: read_mode(node)?,
            managed: match node.attr("managed") {
                Some("yes") => true,
                None | Some("no") => false,
                Some(other) => {
                    node.remark(format!("managed='{other}' is neither 'yes' nor 'no' and counts as 'no'"));
                    false
                }
            },
            ..Default::default()
        };
        if let Some(driver) = node.child("driver") {
            forward.driver = HostdevDriver::read(driver)?;
        }
        let xml = |at: Node<'_>, what: String| at.error(Code::XmlError, what);
        let mut nats = node.children("nat");
        if let Some(nat) = nats.next() {
            if forward.mode != ForwardMode::Nat {
                let what =
                    format!("The <nat> element can only be used when <forward> 'mode' is 'nat' in network {network}");
                return Err(xml(nat, what));
            }
            if let Some(second) = nats.next() {
                let what = format!("Only one <nat> element is allowed in <forward> of network {network}");
                return Err(xml(second, what));
            }
            forward.nat = Nat::read(nat, network)?;
        }
        let addresses: Vec<_> = node.children("address").collect();
        let mut pfs = node.children("pf");
        let pf = pfs.next();
        if let Some(second) = pfs.next() {
            return Err(xml(second, format!("Only one <pf> element is allowed in <forward> of network {network}")));
        }
        let dev = node.attr("dev").filter(|dev| !dev.is_empty());
        if dev.is_some() && (!addresses.is_empty() || pf.is_some()) {
            let what = format!(
                "the <forward> 'dev' attribute cannot be used when <address> or <pf> sub-elements are present in \
                 network {network}"
            );
            return Err(node.attr_error("dev", Code::XmlError, what));
        }
        forward.read_interfaces(node, dev, network)?;
        if let Some(pf) = pf {
            let Some(dev) = pf.attr("dev").filter(|dev| !dev.is_empty()) else {
                let what = format!("Missing required dev attribute in <pf> element of network '{network}'");
                return Err(xml(pf, what));
            };
            pf.note(true, "connections");
            forward.pf = Some(PhysicalFunction { dev: dev.to_string(), connections: 0 });
        }
        for address in addresses {
            forward.read_address(address, network)?;
        }
        Ok(forward)
    }

    fn read_interfaces(&mut self, node: Node<'_>, dev: Option<&str>, network: &str) -> Result<()> {
        let mut listed = Vec::new();
        for interface in node.children("interface") {
            interface.attr("connections");
            let Some(name) = interface.attr("dev").filter(|dev| !dev.is_empty()) else {
                let what =
                    format!("Missing required dev attribute in <forward> <interface> element of network {network}");
                return Err(interface.error(Code::XmlError, what));
            };
            if let Some(dev) = dev.filter(|dev| listed.is_empty() && *dev != name) {
                let what =
                    format!("<forward dev='{dev}'> must match first <interface dev='{name}'/> in network {network}");
                return Err(interface.error(Code::XmlError, what));
            }
            if listed.contains(&name) {
                let what = format!("interface '{name}' can only be listed once in network {network}");
                return Err(interface.error(Code::XmlError, what));
            }
            listed.push(name);
        }
        if listed.is_empty() {
            listed.extend(dev);
        }
        let device = |name: &str| ForwardInterface { device: ForwardDevice::Netdev(name.to_string()), connections: 0 };
        self.interfaces.extend(listed.into_iter().map(device));
        Ok(())
    }

    fn read_address(&mut self, node: Node<'_>, network: &str) -> Result<()> {
        node.attr("connections");
        match node.attr("type") {
            None => return Err(node.error(Code::XmlError, format!("missing address type in network {network}"))),
            Some("pci") => {}
            Some(other) => {
                let what = format!("unknown address type '{other}' in network {network}: only 'pci' can be had");
                return Err(node.attr_error("type", Code::ConfigUnsupported, what));
            }
        }
        let part = |name| node.attr_any_base32(name).map(Option::unwrap_or_default);
        let address =
            PciAddress { domain: part("domain")?, bus: part("bus")?, slot: part("slot")?, function: part("function")? };
        let limits = [
            ("domain", address.domain, 0xffff),
            ("bus", address.bus, 0xff),
            ("slot", address.slot, 0x1f),
            ("function", address.function, 7),
        ];
        if let Some((name, value, most)) = limits.iter().find(|(_, value, most)| value > most) {
            let what = format!("Invalid PCI address {name}='0x{value:x}', must be <= 0x{most:X}");
            return Err(node.attr_error(name, Code::XmlError, what));
        }
        if self.interfaces.iter().any(|other| other.device == ForwardDevice::Pci(address)) {
            let what = format!("PCI device '{address}' can only be listed once in network {network}");
            return Err(node.error(Code::XmlError, what));
        }
        self.interfaces.push(ForwardInterface { device: ForwardDevice::Pci(address), connections: 0 });
        Ok(())
    }

    /// The first device that is named by its network interface.
    pub fn first_device(&self) -> Option<&str> {
        match self.interfaces.first()?.device {
            ForwardDevice::Netdev(ref name) => Some(name),
            ForwardDevice::Pci(_) => None,
        }
    }

    pub(super) fn write(&self, w: &mut Writer, o: FormatOptions) {
        if self.mode == ForwardMode::None {
            return;
        }
        w.element("forward", |w| {
            if self.pf.is_none() {
                w.attr_opt("dev", self.first_device());
            }
            w.attr("mode", self.mode);
            if self.mode == ForwardMode::Hostdev {
                w.attr("managed", YesNo::from(self.managed));
            }
            self.driver.write("driver", w);
            self.nat.write(w);
            let connections = |w: &mut Writer, count: u32| {
                if !o.inactive && count > 0 {
                    w.attr("connections", count);
                }
            };
            if let Some(pf) = &self.pf {
                w.element("pf", |w| {
                    w.attr("dev", &pf.dev);
                    connections(w, pf.connections);
                });
            }
            if self.pf.is_some() && o.inactive {
                return;
            }
            for interface in &self.interfaces {
                match &interface.device {
                    ForwardDevice::Netdev(name) => w.element("interface", |w| {
                        w.attr("dev", name);
                        connections(w, interface.connections);
                    }),
                    ForwardDevice::Pci(address) => w.element("address", |w| {
                        w.attr("type", "pci");
                        write_pci(w, *address);
                        connections(w, interface.connections);
                    }),
                }
            }
        });
    }
}

/// The four attributes of a PCI address.
pub(super) fn write_pci(w: &mut Writer, address: PciAddress) {
    w.attr("domain", format_args!("0x{:04x}", address.domain));
    w.attr("bus", format_args!("0x{:02x}", address.bus));
    w.attr("slot", format_args!("0x{:02x}", address.slot));
    w.attr("function", format_args!("0x{:x}", address.function));
}

impl Nat {
    fn read(node: Node<'_>, network: &str) -> Result<Self> {
        let mut nat = Nat { ipv6: node.attr_value("ipv6")?, ..Default::default() };
        let mut addresses = node.children("address");
        if let Some(address) = addresses.next() {
            if let Some(second) = addresses.next() {
                let what = format!("Only one <address> element is allowed in <nat> in <forward> in network {network}");
                return Err(second.error(Code::XmlError, what));
            }
            let (start, end) = (range_address(address, "start", network)?, range_address(address, "end", network)?);
            if start > end {
                return Err(address.error(Code::InternalError, format!("range {start} - {end} is reversed ")));
            }
            nat.address = Some(AddressRange { start, end });
        }
        let mut ports = node.children("port");
        if let Some(port) = ports.next() {
            if let Some(second) = ports.next() {
                let what = format!("Only one <port> element is allowed in <nat> in <forward> in network {network}");
                return Err(second.error(Code::XmlError, what));
            }
            let start = range_port(port, "start", 0, network)?;
            let end = range_port(port, "end", start, network)?;
            nat.port = Some(PortRange { start, end });
        }
        Ok(nat)
    }

    fn write(&self, w: &mut Writer) {
        w.element_unless_empty("nat", |w| {
            w.attr_opt("ipv6", self.ipv6);
            if let Some(range) = self.address {
                w.element("address", |w| {
                    w.attr("start", range.start);
                    w.attr("end", range.end);
                });
            }
            if let Some(range) = self.port {
                w.element("port", |w| {
                    w.attr("start", range.start);
                    w.attr("end", range.end);
                });
            }
        });
    }
}

fn read_mode(node: Node<'_>) -> Result<ForwardMode> {
    let Some(text) = node.attr("mode") else { return Ok(ForwardMode::Nat) };
    text.parse().map_err(|_| {
        let mut what = format!("unknown forwarding type '{text}'");
        match nearest(text, ForwardMode::WORDS.iter().copied()) {
            Some(word) => what.push_str(&format!(": did you mean '{word}'?")),
            None => what.push_str(&format!(": known: {}", ForwardMode::WORDS.join(", "))),
        }
        node.attr_error("mode", Code::ConfigUnsupported, what)
    })
}

fn range_address(node: Node<'_>, name: &'static str, network: &str) -> Result<Ipv4Addr> {
    let Some(text) = node.attr(name) else {
        let what =
            format!("missing '{name}' attribute in <address> element in <nat> in <forward> in network {network}");
        return Err(node.error(Code::XmlError, what));
    };
    match parse_address(text) {
        Some(std::net::IpAddr::V4(address)) => Ok(address),
        _ => {
            let what = format!("Bad ipv4 {name} address '{text}' in <nat> in <forward> in network '{network}'");
            Err(node.attr_error(name, Code::XmlError, what))
        }
    }
}

fn range_port(node: Node<'_>, name: &'static str, least: u16, network: &str) -> Result<u16> {
    let port = node.attr(name).and_then(crate::xml::parse_unsigned).and_then(|port| u16::try_from(port).ok());
    let port = port.filter(|port| *port >= least);
    port.ok_or_else(|| {
        let what = format!(
            "Missing or invalid '{name}' attribute in <port> in <nat> in <forward> in network {network} ({least} to \
             65535)"
        );
        node.attr_error(name, Code::XmlDetail, what)
    })
}
