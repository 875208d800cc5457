//! `<route>`: a static route of the host through the network.

use std::net::{IpAddr, Ipv4Addr};

use super::ip::{Family, mask, parse_address};
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

/// `<route>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// `family` as it was written; the address decides.
    pub family: Option<Family>,
    /// Destination; its host bits are 0.
    pub address: IpAddr,
    pub netmask: Option<Ipv4Addr>,
    /// Bits; `None` when not given.
    pub prefix: Option<u32>,
    pub gateway: IpAddr,
    /// 1 and more.
    pub metric: Option<u32>,
}

impl Route {
    /// Reads it; `about` stands before what is said of errors.
    pub(super) fn read(node: Node<'_>, about: &str) -> Result<Self> {
        let fail = |what: String| node.error(Code::XmlError, format!("{about}: {what}"));
        let family = node.attr("family");
        let prefix: Option<u32> = node.attr_value("prefix")?;
        let metric: Option<u32> = node.attr_value("metric")?;
        if metric == Some(0) {
            let what = "Invalid value for attribute 'metric' in element 'route': Zero is not permitted";
            return Err(node.attr_error("metric", Code::XmlError, what));
        }
        let Some(address_text) = node.attr("address") else {
            return Err(fail(String::from("Missing required address attribute in route definition")));
        };
        let Some(gateway_text) = node.attr("gateway") else {
            return Err(fail(String::from("Missing required gateway attribute in route definition")));
        };
        let Some(address) = parse_address(address_text) else {
            return Err(fail(format!("Bad network address '{address_text}' in route definition")));
        };
        let Some(gateway) = parse_address(gateway_text) else {
            return Err(fail(format!("Bad gateway address '{gateway_text}' in route definition")));
        };
        let family = match family {
            None | Some("ipv4") => {
                let said = if family.is_some() { "IPv4 family specified" } else { "No family specified" };
                if address.is_ipv6() {
                    return Err(fail(format!("{said} for non-IPv4 address '{address_text}' in route definition")));
                }
                if gateway.is_ipv6() {
                    return Err(fail(format!("{said} for non-IPv4 gateway '{gateway_text}' in route definition")));
                }
                family.map(|_| Family::Ipv4)
            }
            Some("ipv6") => {
                if address.is_ipv4() {
                    let what = format!("ipv6 family specified for non-IPv6 address '{address_text}'");
                    return Err(fail(format!("{what} in route definition")));
                }
                if gateway.is_ipv4() {
                    let what = format!("ipv6 specified for non-IPv6 gateway address '{gateway_text}'");
                    return Err(fail(format!("{what} in route definition")));
                }
                Some(Family::Ipv6)
            }
            Some(other) => return Err(fail(format!("Unrecognized family '{other}' in route definition"))),
        };
        let netmask = match node.attr("netmask") {
            None => None,
            Some(text) => match parse_address(text) {
                None => return Err(fail(format!("Bad netmask address '{text}' in route definition"))),
                Some(_) if address.is_ipv6() => {
                    let what = format!("Specifying netmask invalid for IPv6 address '{address_text}'");
                    return Err(fail(format!("{what} in route definition")));
                }
                Some(IpAddr::V6(_)) => {
                    let what = format!("Invalid netmask '{text}' for address '{address_text}' (both must be IPv4)");
                    return Err(fail(what));
                }
                Some(_) if prefix.is_some() => {
                    return Err(fail(String::from("Route definition cannot have both a prefix and a netmask")));
                }
                Some(IpAddr::V4(mask)) => Some(mask),
            },
        };
        let most = if address.is_ipv6() { 128 } else { 32 };
        if let Some(prefix) = prefix.filter(|prefix| *prefix > most) {
            let what = format!("Invalid prefix {prefix} specified in route definition, must be 0 - {most}");
            return Err(fail(what));
        }
        let destination = match (netmask, address, prefix) {
            (Some(mask), IpAddr::V4(v4), _) => IpAddr::V4(Ipv4Addr::from(u32::from(v4) & u32::from(mask))),
            (_, _, prefix) => mask(address, prefix.unwrap_or(0)),
        };
        if destination != address {
            return Err(fail(format!("Address '{address_text}' in route definition is not a network address")));
        }
        let route = Route { family, address, netmask, prefix, gateway, metric };
        if route.prefix_length().is_none() {
            node.remark("the netmask has a hole: the network cannot be started with it");
        }
        Ok(route)
    }

    /// Bits of the destination; `None` when the netmask has a hole.
    pub fn prefix_length(&self) -> Option<u32> {
        if let Some(prefix) = self.prefix {
            return Some(prefix);
        }
        if let Some(mask) = self.netmask {
            let bits = u32::from(mask);
            return (bits.leading_ones() == bits.count_ones()).then(|| bits.leading_ones());
        }
        Some(0)
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.element("route", |w| {
            w.attr_opt("family", self.family);
            w.attr("address", self.address);
            w.attr_opt("netmask", self.netmask);
            w.attr_opt("prefix", self.prefix);
            w.attr("gateway", self.gateway);
            w.attr_opt("metric", self.metric);
        });
    }
}
