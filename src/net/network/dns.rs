//! `<dns>`: what the network's DNS server knows and whom it asks.

use std::net::IpAddr;

use super::ip::parse_address;
use crate::domain_xml::YesNo;
use crate::error::{Code, Result};
use crate::xml::{Node, Writer, parse_unsigned};

/// Longest service name of an SRV record, bytes.
const SERVICE_MAX: usize = 512 - 30;

/// `<dns>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dns {
    pub enable: Option<YesNo>,
    pub forward_plain_names: Option<YesNo>,
    pub forwarders: Vec<DnsForwarder>,
    pub txts: Vec<DnsTxt>,
    pub srvs: Vec<DnsSrv>,
    pub hosts: Vec<DnsHost>,
}

/// `<forwarder>`: at least one of the two is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnsForwarder {
    pub domain: Option<String>,
    pub addr: Option<IpAddr>,
}

/// `<txt>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnsTxt {
    pub name: String,
    /// `None` only where one is looked for by name.
    pub value: Option<String>,
}

/// `<srv>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnsSrv {
    /// `None` only where one is looked for.
    pub service: Option<String>,
    pub protocol: Option<String>,
    pub domain: Option<String>,
    pub target: Option<String>,
    pub port: Option<u16>,
    pub priority: Option<u16>,
    pub weight: Option<u16>,
}

/// `<host>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnsHost {
    /// `None` only where one is looked for.
    pub ip: Option<IpAddr>,
    pub names: Vec<String>,
}

impl Dns {
    /// Whether a DNS server answers.
    pub fn is_enabled(&self) -> bool {
        self.enable != Some(YesNo::No)
    }

    /// Whether there is anything but switches.
    pub fn has_records(&self) -> bool {
        !(self.forwarders.is_empty() && self.hosts.is_empty() && self.srvs.is_empty() && self.txts.is_empty())
    }

    pub(super) fn read(node: Node<'_>, network: &str) -> Result<Self> {
        let mut dns = Dns {
            enable: node.attr_value("enable")?,
            forward_plain_names: node.attr_value("forwardPlainNames")?,
            ..Default::default()
        };
        for forwarder in node.children("forwarder") {
            dns.forwarders.push(DnsForwarder::read(forwarder, network)?);
        }
        for host in node.children("host") {
            dns.hosts.push(DnsHost::read(host, network, false)?);
        }
        for srv in node.children("srv") {
            dns.srvs.push(DnsSrv::read(srv, network, false)?);
        }
        for txt in node.children("txt") {
            dns.txts.push(DnsTxt::read(txt, network, false)?);
        }
        if !dns.is_enabled() && dns.has_records() {
            return Err(node.error(Code::XmlError, format!("Extra data in disabled network '{network}'")));
        }
        Ok(dns)
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.element_unless_empty("dns", |w| {
            w.attr_opt("enable", self.enable);
            w.attr_opt("forwardPlainNames", self.forward_plain_names);
            for forwarder in &self.forwarders {
                w.element("forwarder", |w| {
                    w.attr_opt("domain", forwarder.domain.as_ref());
                    w.attr_opt("addr", forwarder.addr);
                });
            }
            for txt in &self.txts {
                w.element("txt", |w| {
                    w.attr("name", &txt.name);
                    w.attr_opt("value", txt.value.as_ref());
                });
            }
            for srv in &self.srvs {
                srv.write(w);
            }
            for host in &self.hosts {
                w.element("host", |w| {
                    w.attr_opt("ip", host.ip);
                    for name in &host.names {
                        w.text("hostname", name);
                    }
                });
            }
        });
    }
}

impl DnsForwarder {
    fn read(node: Node<'_>, network: &str) -> Result<Self> {
        let addr = node.attr("addr");
        let domain = node.attr("domain").filter(|domain| !domain.is_empty());
        if addr.is_none() && domain.is_none() {
            let what = "Invalid forwarder element, must contain at least one of addr or domain";
            return Err(node.error(Code::XmlError, what));
        }
        let addr = match addr {
            None => None,
            Some(text) => Some(parse_address(text).ok_or_else(|| {
                let what = format!("Invalid forwarder IP address '{text}' in network '{network}'");
                node.attr_error("addr", Code::XmlError, what)
            })?),
        };
        Ok(DnsForwarder { domain: domain.map(str::to_string), addr })
    }
}

impl DnsHost {
    /// Reads it; `partial` is enough to find another one by.
    pub(super) fn read(node: Node<'_>, network: &str, partial: bool) -> Result<Self> {
        let fail =
            |what: &str| Err(node.error(Code::XmlDetail, format!("{what} in network '{network}' DNS HOST record")));
        let mut names = Vec::new();
        for name in node.children("hostname") {
            if name.text().is_empty() {
                let what = format!("Missing hostname in network '{network}' DNS HOST record");
                return Err(name.error(Code::XmlDetail, what));
            }
            names.push(name.text().to_string());
        }
        if names.is_empty() && !partial {
            return fail("Missing hostname");
        }
        let ip = match node.attr("ip") {
            None if !partial => return fail("Missing IP address"),
            None if names.is_empty() => return fail("Missing ip and hostname"),
            None => None,
            Some(text) => match parse_address(text) {
                Some(ip) => Some(ip),
                None => return fail("Invalid IP address"),
            },
        };
        Ok(DnsHost { ip, names })
    }
}

impl DnsTxt {
    /// Reads it; `partial` is enough to find another one by.
    pub(super) fn read(node: Node<'_>, network: &str, partial: bool) -> Result<Self> {
        let Some(name) = node.attr("name") else {
            let what = format!("missing required name attribute in DNS TXT record of network {network}");
            return Err(node.error(Code::XmlDetail, what));
        };
        if name.contains([' ', ',']) {
            let what = format!("prohibited character in DNS TXT record name '{name}' of network {network}");
            return Err(node.attr_error("name", Code::XmlDetail, what));
        }
        let value = node.attr("value").map(str::to_string);
        if value.is_none() && !partial {
            let what =
                format!("missing required value attribute in DNS TXT record named '{name}' of network {network}");
            return Err(node.error(Code::XmlDetail, what));
        }
        Ok(DnsTxt { name: name.to_string(), value })
    }
}

impl DnsSrv {
    /// Reads it; `partial` is enough to find another one by.
    pub(super) fn read(node: Node<'_>, network: &str, partial: bool) -> Result<Self> {
        let service = node.attr("service");
        match service {
            None if !partial => {
                let what = format!("missing required service attribute in DNS SRV record of network '{network}'");
                return Err(node.error(Code::XmlDetail, what));
            }
            Some(service) if service.len() > SERVICE_MAX => {
                let what = format!(
                    "service attribute '{service}' in network '{network}' is too long, limit is {SERVICE_MAX} bytes"
                );
                return Err(node.attr_error("service", Code::XmlDetail, what));
            }
            Some(service) if !is_plain(service) => {
                let what = format!(
                    "invalid character in service attribute '{service}' in DNS SRV record of network '{network}'"
                );
                return Err(node.attr_error("service", Code::XmlDetail, what));
            }
            _ => {}
        }
        let said = service.unwrap_or("");
        let protocol = node.attr("protocol");
        match protocol {
            None if !partial => {
                let what =
                    format!("missing required protocol attribute in DNS SRV record '{said}' of network '{network}'");
                return Err(node.error(Code::XmlDetail, what));
            }
            Some(protocol) if !is_plain(protocol) => {
                let what = format!(
                    "invalid character in protocol attribute '{protocol}' in DNS SRV record of network '{network}'"
                );
                return Err(node.attr_error("protocol", Code::XmlDetail, what));
            }
            _ => {}
        }
        let target = node.attr("target");
        let number = |name: &'static str, shown: &str, least: u64| -> Result<Option<u16>> {
            let Some(text) = node.attr(name) else { return Ok(None) };
            if target.is_none() {
                let what = format!(
                    "DNS SRV {name} attribute not permitted without target for service '{said}' in network '{network}'"
                );
                return Err(node.attr_error(name, Code::XmlDetail, what));
            }
            match parse_unsigned(text).filter(|value| *value >= least).and_then(|value| u16::try_from(value).ok()) {
                Some(value) => Ok(Some(value)),
                None => {
                    let what = format!(
                        "{shown} DNS SRV {name} attribute for service '{said}' in network '{network}' ({least} to \
                         65535)"
                    );
                    Err(node.attr_error(name, Code::XmlDetail, what))
                }
            }
        };
        Ok(DnsSrv {
            port: number("port", "invalid", 1)?,
            priority: number("priority", "Invalid", 0)?,
            weight: number("weight", "invalid", 0)?,
            service: service.map(str::to_string),
            protocol: protocol.map(str::to_string),
            domain: node.attr("domain").map(str::to_string),
            target: target.map(str::to_string),
        })
    }

    fn write(&self, w: &mut Writer) {
        w.element("srv", |w| {
            w.attr_opt("service", self.service.as_ref());
            w.attr_opt("protocol", self.protocol.as_ref());
            w.attr_opt("domain", self.domain.as_ref());
            w.attr_opt("target", self.target.as_ref());
            let some = |value: Option<u16>| value.filter(|value| *value != 0);
            w.attr_opt("port", some(self.port));
            w.attr_opt("priority", some(self.priority));
            w.attr_opt("weight", some(self.weight));
        });
    }
}

fn is_plain(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'/'))
}
