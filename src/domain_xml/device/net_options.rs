//! What an interface has in common with networks and ports: virtual port, VLAN, bandwidth, filter, addresses.

use crate::domain_xml::words::{YesNo, attrs, words};
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

words! {
    /// `<virtualport type>`.
    pub enum VirtualPortType {
        Vepa = "802.1Qbg", Vnlink = "802.1Qbh", Openvswitch = "openvswitch", Midonet = "midonet",
    }

    /// `nativeMode` of a vlan tag.
    pub enum NativeVlanMode { Tagged = "tagged", Untagged = "untagged" }
}

attrs! {
    /// `<route>`.
    pub struct Route {
        family: String = "family",
        address: String = "address",
        netmask: String = "netmask",
        prefix: u32 = "prefix",
        gateway: String = "gateway",
        metric: u32 = "metric",
    }

    /// `<ip>`.
    pub struct IpAddress {
        address: String = "address",
        family: String = "family",
        prefix: u32 = "prefix",
        peer: String = "peer",
    }
}

/// `<virtualport>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VirtualPort {
    pub kind: Option<VirtualPortType>,
    pub parameters: VirtualPortParameters,
}

attrs! {
    /// `<parameters>` of a virtual port.
    pub struct VirtualPortParameters {
        managerid: u32 = "managerid",
        typeid: u32 = "typeid",
        typeidversion: u32 = "typeidversion",
        instanceid: String = "instanceid",
        interfaceid: String = "interfaceid",
        profileid: String = "profileid",
    }
}

/// `<vlan>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vlan {
    pub trunk: Option<YesNo>,
    pub tags: Vec<VlanTag>,
}

attrs! {
    /// `<tag>`.
    pub struct VlanTag {
        id: u32 = "id",
        native_mode: NativeVlanMode = "nativeMode",
    }
}

/// `<bandwidth>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bandwidth {
    pub inbound: Option<Rate>,
    pub outbound: Option<Rate>,
}

attrs! {
    /// A rate: KiB/s, and KiB for `burst`.
    pub struct Rate {
        average: u64 = "average",
        peak: u64 = "peak",
        floor: u64 = "floor",
        burst: u64 = "burst",
    }
}

/// `<filterref>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilterRef {
    pub filter: String,
    pub parameters: Vec<(String, String)>,
}

/// Reads `<ip>` and `<route>` children.
pub(crate) fn read_ips(node: Node<'_>) -> Result<(Vec<IpAddress>, Vec<Route>)> {
    let mut ips = Vec::new();
    for ip in node.children("ip") {
        if ip.attr("address").is_none() {
            return Err(ip.error(Code::XmlError, "Missing network address"));
        }
        let mut ip = IpAddress::read(ip)?;
        let v6 = ip.address.as_deref().is_some_and(|address| address.contains(':'));
        ip.family.get_or_insert_with(|| String::from(if v6 { "ipv6" } else { "ipv4" }));
        ips.push(ip);
    }
    let routes = node.children("route").map(Route::read).collect::<Result<_>>()?;
    Ok((ips, routes))
}

/// Writes them.
pub(crate) fn write_ips(w: &mut Writer, ips: &[IpAddress], routes: &[Route]) {
    for ip in ips {
        ip.write("ip", w);
    }
    for route in routes {
        route.write("route", w);
    }
}

impl VirtualPort {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        Ok(VirtualPort {
            kind: node.attr_value("type")?,
            parameters: node.child("parameters").map(VirtualPortParameters::read).transpose()?.unwrap_or_default(),
        })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element("virtualport", |w| {
            w.attr_opt("type", self.kind);
            self.parameters.write("parameters", w);
        });
    }
}

impl Vlan {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut tags = Vec::new();
        for tag in node.children("tag") {
            tag.require::<u32>("id")?;
            tags.push(VlanTag::read(tag)?);
        }
        if tags.is_empty() {
            return Err(node.error(
                Code::XmlError,
                "missing tag id - each <vlan> must have at least one <tag id='n'/> subelement",
            ));
        }
        if let Some(id) = tags.iter().filter_map(|tag| tag.id).find(|id| *id > 4095) {
            return Err(node.error(Code::XmlError, format!("vlan tag id {id} too large (maximum 4095)")));
        }
        let trunk = match node.attr("trunk") {
            None => (tags.len() > 1).then_some(YesNo::Yes),
            Some("yes") => Some(YesNo::Yes),
            Some("no") if tags.len() > 1 => {
                let what = "invalid \"trunk='no'\" in <vlan> - trunk='yes' is required for more than one vlan tag";
                return Err(node.attr_error("trunk", Code::XmlError, what));
            }
            Some("no") => Some(YesNo::No),
            Some(other) => {
                let what = format!("invalid \"trunk='{other}'\" in <vlan> - must be yes or no");
                return Err(node.attr_error("trunk", Code::XmlError, what));
            }
        };
        Ok(Vlan { trunk, tags })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element("vlan", |w| {
            w.attr_opt("trunk", self.trunk.filter(|trunk| trunk.is_yes()));
            for tag in &self.tags {
                w.element("tag", |w| {
                    w.attr_opt("id", tag.id);
                    w.attr_opt("nativeMode", tag.native_mode);
                });
            }
        });
    }
}

impl Rate {
    /// 0 is the same as not given.
    fn read_nonzero(node: Node<'_>) -> Result<Self> {
        let rate = Self::read(node)?;
        let some = |value: Option<u64>| value.filter(|value| *value != 0);
        Ok(Rate {
            average: some(rate.average),
            peak: some(rate.peak),
            floor: some(rate.floor),
            burst: some(rate.burst),
        })
    }
}

impl Bandwidth {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let rate = |name| node.child(name).map(Rate::read_nonzero).transpose();
        Ok(Bandwidth { inbound: rate("inbound")?, outbound: rate("outbound")? })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element_unless_empty("bandwidth", |w| {
            if let Some(rate) = &self.inbound {
                rate.write("inbound", w);
            }
            if let Some(rate) = &self.outbound {
                rate.write("outbound", w);
            }
        });
    }
}

impl FilterRef {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut filter = FilterRef { filter: node.require("filter")?, parameters: Vec::new() };
        for parameter in node.children("parameter") {
            filter.parameters.push((parameter.require("name")?, parameter.require("value")?));
        }
        Ok(filter)
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element("filterref", |w| {
            w.attr("filter", &self.filter);
            for (name, value) in &self.parameters {
                w.element("parameter", |w| {
                    w.attr("name", name);
                    w.attr("value", value);
                });
            }
        });
    }
}
