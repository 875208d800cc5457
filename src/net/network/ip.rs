//! `<ip>`: an address of the bridge, with the DHCP and TFTP services on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::domain_xml::YesNo;
use crate::domain_xml::words::words;
use crate::error::{Code, Error, Result};
use crate::types::MacAddr;
use crate::xml::{Node, Writer};

words! {
    /// `<lease unit>`.
    pub enum LeaseUnit { Seconds = "seconds", Minutes = "minutes", Hours = "hours" }
}

/// `<ip>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ip {
    /// `family` as it was written; the address decides.
    pub family: Option<Family>,
    pub address: IpAddr,
    pub netmask: Option<Ipv4Addr>,
    /// Bits; never 0.
    pub prefix: Option<u32>,
    /// Reverse look-ups in this subnet are never asked for upstream.
    pub local_ptr: Option<YesNo>,
    pub tftp_root: Option<String>,
    pub dhcp: Dhcp,
}

words! {
    /// `family` of an address.
    pub enum Family { Ipv4 = "ipv4", Ipv6 = "ipv6" }
}

/// `<dhcp>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dhcp {
    pub ranges: Vec<DhcpRange>,
    pub hosts: Vec<DhcpHost>,
    pub bootp: Option<Bootp>,
}

/// `<range>`: addresses from `start` to `end`, both included.
#[derive(Clone, Debug, PartialEq)]
pub struct DhcpRange {
    pub start: IpAddr,
    pub end: IpAddr,
    pub lease: Option<Lease>,
}

/// `<host>`: what one client gets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DhcpHost {
    /// As written; IPv4 only.
    pub mac: Option<String>,
    /// Client identifier (DUID); IPv6 only.
    pub id: Option<String>,
    pub name: Option<String>,
    pub ip: Option<IpAddr>,
    pub lease: Option<Lease>,
}

/// `<bootp>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootp {
    pub file: String,
    pub server: Option<IpAddr>,
}

/// `<lease>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// 0: for ever.
    pub expiry: u64,
    pub unit: LeaseUnit,
}

/// An address as text; blanks around it are not allowed.
pub(super) fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// An address where libvirt reports the resolver's answer: code 38.
fn resolve(node: Node<'_>, name: &'static str, text: &str) -> Result<IpAddr> {
    parse_address(text).ok_or_else(|| {
        let what = format!("Cannot parse socket address '{text}': Name or service not known");
        node.attr_error(name, Code::SystemError, what)
    })
}

impl Ip {
    pub(super) fn read(node: Node<'_>, network: &str) -> Result<Self> {
        let fail = |what: String| node.error(Code::XmlError, what);
        let config = |what: String| node.error(Code::ConfigUnsupported, what);
        let prefix: Option<u32> = node.attr_value("prefix")?.filter(|prefix| *prefix > 0);
        let Some(text) = node.attr("address") else {
            return Err(fail(format!("Missing required address attribute in network '{network}'")));
        };
        let Some(address) = parse_address(text) else {
            let what = format!("Invalid address '{text}' in network '{network}'");
            return Err(node.attr_error("address", Code::XmlError, what));
        };
        let family = read_family(node, address, text, network)?;
        let netmask = match node.attr("netmask") {
            None => None,
            Some(_) if address.is_ipv6() => {
                return Err(config(format!("netmask not allowed for IPv6 address '{text}' in network '{network}'")));
            }
            Some(_) if prefix.is_some() => {
                let what = format!("Network '{network}' IP address cannot have both a prefix and a netmask");
                return Err(config(what));
            }
            Some(mask) => match parse_address(mask) {
                Some(IpAddr::V4(parsed)) => Some(parsed),
                Some(IpAddr::V6(_)) => {
                    let what = format!(
                        "Invalid netmask '{mask}' for address '{text}' in network '{network}' (both must be IPv4)"
                    );
                    return Err(node.attr_error("netmask", Code::ConfigUnsupported, what));
                }
                None => {
                    let what = format!("Invalid netmask '{mask}' in network '{network}'");
                    return Err(node.attr_error("netmask", Code::XmlError, what));
                }
            },
        };
        let (name, most) = if address.is_ipv6() { ("IPv6", 128) } else { ("IPv4", 32) };
        if let Some(prefix) = prefix.filter(|prefix| *prefix > most) {
            let what = format!("Invalid {name} prefix '{prefix}' in network '{network}'");
            return Err(node.attr_error("prefix", Code::ConfigUnsupported, what));
        }
        let mut ip = Ip {
            family,
            address,
            netmask,
            prefix,
            local_ptr: node.attr_value("localPtr")?,
            tftp_root: None,
            dhcp: Dhcp::default(),
        };
        if ip.prefix_length().is_none() {
            node.remark("the netmask has a hole: the network cannot be started with it");
        }
        if let Some(dhcp) = node.child("dhcp") {
            ip.dhcp = Dhcp::read(dhcp, &ip, network)?;
        }
        if let Some(tftp) = node.child("tftp") {
            if address.is_ipv6() {
                let what = format!("Unsupported <tftp> element in an IPv6 element in network '{network}'");
                return Err(tftp.error(Code::ConfigUnsupported, what));
            }
            ip.tftp_root = tftp.attr("root").filter(|root| !root.is_empty()).map(str::to_string);
        }
        Ok(ip)
    }

    /// An address of `prefix` bits and nothing more.
    pub fn new(address: IpAddr, prefix: u32) -> Self {
        let family = address.is_ipv6().then_some(Family::Ipv6);
        let dhcp = Dhcp::default();
        Ip { family, address, netmask: None, prefix: Some(prefix), local_ptr: None, tftp_root: None, dhcp }
    }

    /// Bits of the network part: as given, else by the address's class (IPv4) or 64 (IPv6). `None` when the netmask
    /// has a hole.
    pub fn prefix_length(&self) -> Option<u32> {
        if let Some(prefix) = self.prefix {
            return Some(prefix);
        }
        if let Some(mask) = self.netmask {
            let bits = u32::from(mask);
            return (bits.leading_ones() == bits.count_ones()).then(|| bits.leading_ones());
        }
        Some(classful_prefix(self.address))
    }

    /// The address with all host bits cleared.
    pub fn network_address(&self) -> Option<IpAddr> {
        Some(mask(self.address, self.prefix_length()?))
    }

    /// Whether `other` is in this subnet.
    pub fn contains(&self, other: IpAddr) -> bool {
        let Some(prefix) = self.prefix_length() else { return false };
        self.address.is_ipv6() == other.is_ipv6() && mask(self.address, prefix) == mask(other, prefix)
    }

    /// Whether there are DHCP ranges or hosts.
    pub fn serves_dhcp(&self) -> bool {
        !self.dhcp.ranges.is_empty() || !self.dhcp.hosts.is_empty()
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.start("ip");
        w.attr_opt("family", self.family);
        w.attr("address", self.address);
        w.attr_opt("netmask", self.netmask);
        w.attr_opt("prefix", self.prefix);
        w.attr_opt("localPtr", self.local_ptr);
        if let Some(root) = &self.tftp_root {
            w.element("tftp", |w| w.attr("root", root));
        }
        self.dhcp.write(w);
        w.end_wide();
    }
}

fn read_family(node: Node<'_>, address: IpAddr, text: &str, network: &str) -> Result<Option<Family>> {
    let fail = |what: String| Err(node.error(Code::ConfigUnsupported, what));
    match node.attr("family") {
        None if address.is_ipv6() => {
            fail(format!("no family specified for non-IPv4 address '{text}' in network '{network}'"))
        }
        None => Ok(None),
        Some("ipv4") if address.is_ipv6() => {
            fail(format!("ipv4 family specified for non-IPv4 address '{text}' in network '{network}'"))
        }
        Some("ipv4") => Ok(Some(Family::Ipv4)),
        Some("ipv6") if address.is_ipv4() => {
            fail(format!("Family 'ipv6' specified for non-IPv6 address '{text}' in network '{network}'"))
        }
        Some("ipv6") => Ok(Some(Family::Ipv6)),
        Some(other) => {
            let what = format!("Unrecognized family '{other}' in network '{network}' (known: ipv4, ipv6)");
            Err(node.attr_error("family", Code::XmlError, what))
        }
    }
}

/// The prefix of an address without one: by class for IPv4, 64 for IPv6, 0 for the unspecified address.
fn classful_prefix(address: IpAddr) -> u32 {
    match address {
        IpAddr::V6(_) => 64,
        IpAddr::V4(v4) if v4.is_unspecified() => 0,
        IpAddr::V4(v4) => match v4.octets()[0] {
            0..=127 => 8,
            128..=191 => 16,
            _ => 24,
        },
    }
}

/// `address` with all but the first `prefix` bits cleared.
pub fn mask(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & keep))
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128 - prefix.min(128)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & keep))
        }
    }
}

impl Dhcp {
    fn read(node: Node<'_>, ip: &Ip, network: &str) -> Result<Self> {
        let mut dhcp = Dhcp::default();
        for range in node.children("range") {
            dhcp.ranges.push(DhcpRange::read(range, ip, network)?);
        }
        for host in node.children("host") {
            dhcp.hosts.push(DhcpHost::read(host, ip.address.is_ipv6(), network, false)?);
        }
        for bootp in node.children("bootp") {
            let file: String = bootp.require("file")?;
            let server = bootp.attr("server").map(|server| resolve(bootp, "server", server)).transpose()?;
            dhcp.bootp = Some(Bootp { file, server });
        }
        Ok(dhcp)
    }

    fn write(&self, w: &mut Writer) {
        w.element_unless_empty("dhcp", |w| {
            for range in &self.ranges {
                range.write(w);
            }
            for host in &self.hosts {
                host.write(w);
            }
            if let Some(bootp) = &self.bootp {
                w.element("bootp", |w| {
                    w.attr("file", &bootp.file);
                    w.attr_opt("server", bootp.server);
                });
            }
        });
    }
}

impl DhcpRange {
    /// Reads and checks it against the subnet of `ip`.
    pub(super) fn read(node: Node<'_>, ip: &Ip, network: &str) -> Result<Self> {
        let end_of = |name: &'static str| match node.attr(name) {
            Some(text) => resolve(node, name, text),
            None => {
                let what = format!("Missing '{name}' attribute in dhcp range for network '{network}'");
                Err(node.error(Code::XmlError, what))
            }
        };
        let range = DhcpRange { start: end_of("start")?, end: end_of("end")?, lease: Lease::read_in(node)? };
        range.check(ip).map_err(|error| node.error(error.code, error.detail))?;
        Ok(range)
    }

    /// How many addresses it has.
    pub fn size(&self) -> u128 {
        match (self.start, self.end) {
            (IpAddr::V4(start), IpAddr::V4(end)) => {
                u128::from(u32::from(end)).saturating_sub(u32::from(start).into()).saturating_add(1)
            }
            (IpAddr::V6(start), IpAddr::V6(end)) => u128::from(end).saturating_sub(u128::from(start)).saturating_add(1),
            _ => 0,
        }
    }

    /// Whether dnsmasq could serve it on `ip`. Errors: code 1, as libvirt has it.
    pub fn check(&self, ip: &Ip) -> Result<()> {
        let DhcpRange { start, end, .. } = *self;
        let families = [start, end, ip.address].map(|address| address.is_ipv6());
        if families != [families[0]; 3] {
            let what = format!("mismatch of address family in range {start} - {end} for network {}", ip.address);
            return Err(Error::internal(what));
        }
        let Some(prefix) = ip.prefix_length() else {
            let what = format!("bad prefix -1 for network {} when checking range {start} - {end}", ip.address);
            return Err(Error::internal(what));
        };
        let place = format!("{}/{prefix}", ip.address);
        if start > end {
            return Err(Error::internal(format!("range {start} - {end} is reversed ")));
        }
        if !ip.contains(start) || !ip.contains(end) {
            return Err(Error::internal(format!("range {start} - {end} is not entirely within network {place}")));
        }
        if self.size() > 65536 {
            return Err(Error::internal(format!("range {start} - {end} is too large (> 65535)")));
        }
        if start.is_ipv4() && prefix < 31 {
            if start == mask(start, prefix) {
                let what = format!("start of range {start} - {end} in network {place} is the network address");
                return Err(Error::internal(what));
            }
            if is_broadcast(end, prefix) {
                let what = format!("end of range {start} - {end} in network {place} is the broadcast address");
                return Err(Error::internal(what));
            }
        }
        Ok(())
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.element("range", |w| {
            w.attr("start", self.start);
            w.attr("end", self.end);
            if let Some(lease) = self.lease {
                lease.write(w);
            }
        });
    }
}

fn is_broadcast(address: IpAddr, prefix: u32) -> bool {
    match address {
        IpAddr::V4(v4) => u32::from(v4) | u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0) == u32::MAX,
        IpAddr::V6(_) => false,
    }
}

impl DhcpHost {
    /// Reads it; `partial` is enough to find another one by.
    pub(super) fn read(node: Node<'_>, v6: bool, network: &str, partial: bool) -> Result<Self> {
        let fail = |what: String| node.error(Code::XmlError, what);
        let host = DhcpHost {
            mac: node.attr("mac").map(str::to_string),
            id: node.attr("id").map(str::to_string),
            name: node.attr("name").map(str::to_string),
            ip: match node.attr("ip") {
                None => None,
                Some(text) => Some(parse_address(text).ok_or_else(|| {
                    let what =
                        format!("Invalid IP address in static host definition for network '{network}': '{text}'");
                    node.attr_error("ip", Code::XmlError, what)
                })?),
            },
            lease: Lease::read_in(node)?,
        };
        if let Some(mac) = &host.mac {
            let wrong = |what: String| Err(node.attr_error("mac", Code::XmlError, what));
            if v6 {
                return wrong(format!(
                    "Invalid to specify MAC address '{mac}' in network '{network}' IPv6 static host definition"
                ));
            }
            match mac.parse::<MacAddr>() {
                Err(_) => return wrong(format!("Cannot parse MAC address '{mac}' in network '{network}'")),
                Ok(parsed) if parsed.is_multicast() => {
                    return wrong(format!(
                        "expected unicast mac address, found multicast '{mac}' in network '{network}'"
                    ));
                }
                Ok(_) => {}
            }
        }
        if let Some(id) = &host.id
            && let Some(bad) = id.chars().find(|c| !c.is_ascii_hexdigit() && *c != ':')
        {
            let what = format!("Invalid character '{bad}' in id '{id}' of network '{network}'");
            return Err(node.attr_error("id", Code::XmlError, what));
        }
        if let Some(name) = &host.name
            && !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            let what = format!("Cannot use host name '{name}' in network '{network}'");
            return Err(node.attr_error("name", Code::XmlError, what));
        }
        if partial {
            if host.mac.is_none() && host.name.is_none() && host.ip.is_none() {
                return Err(fail(format!(
                    "At least one of name, mac, or ip attribute must be specified for static host definition in \
                     network '{network}'"
                )));
            }
        } else if v6 && host.id.is_none() && host.name.is_none() {
            let what = format!("Static host definition in IPv6 network '{network}' must have id or name attribute");
            return Err(fail(what));
        } else if !v6 && host.mac.is_none() && host.name.is_none() {
            let what = format!("Static host definition in IPv4 network '{network}' must have mac or name attribute");
            return Err(fail(what));
        } else if host.ip.is_none() {
            return Err(fail(format!("Missing IP address in static host definition for network '{network}'")));
        }
        Ok(host)
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.element("host", |w| {
            w.attr_opt("mac", self.mac.as_ref());
            w.attr_opt("id", self.id.as_ref());
            w.attr_opt("name", self.name.as_ref());
            w.attr_opt("ip", self.ip);
            if let Some(lease) = self.lease {
                lease.write(w);
            }
        });
    }
}

impl Lease {
    fn read_in(node: Node<'_>) -> Result<Option<Self>> {
        let Some(node) = node.child("lease") else { return Ok(None) };
        let Some(expiry) = node.attr_value::<u64>("expiry")? else { return Ok(None) };
        let unit = node.attr_value("unit")?.unwrap_or(LeaseUnit::Minutes);
        let lease = Lease { expiry, unit };
        if expiry != 0 && lease.seconds() < 120 {
            let what = "The minimum lease time should be greater than 2 minutes";
            return Err(node.error(Code::ConfigUnsupported, what));
        }
        Ok(Some(lease))
    }

    /// Seconds; 0: for ever.
    pub fn seconds(self) -> u64 {
        let scale = match self.unit {
            LeaseUnit::Seconds => 1,
            LeaseUnit::Minutes => 60,
            LeaseUnit::Hours => 3600,
        };
        self.expiry.saturating_mul(scale)
    }

    fn write(self, w: &mut Writer) {
        w.element("lease", |w| {
            w.attr("expiry", self.expiry);
            if self.expiry != 0 {
                w.attr("unit", self.unit);
            }
        });
    }
}
