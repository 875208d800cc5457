//! `<interface>` of the host, read and written.

use super::{
    Address, Bond, Bridge, Carrier, Dhcp, Family, InterfaceDef, InterfaceKind, Link, LinkState, Monitor, Protocol,
    StartMode, Validate, Vlan,
};
use crate::error::{Code, Error, Result, Subsystem};
use crate::xml::{Document, Node, Value, Writer};

const WHAT: &str = "interface_definition";

/// What an interface is a part of.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Nothing,
    Bridge,
    Bond,
}

pub(super) fn parse(xml: &str) -> Result<InterfaceDef> {
    read(&Document::parse(xml, WHAT).map_err(ours)?)
}

pub(super) fn validate(xml: &str) -> Result<()> {
    let document = Document::parse(xml, WHAT).map_err(ours)?;
    read(&document)?;
    document.refuse_unknown()
}

fn ours(error: Error) -> Error {
    error.or_subsystem(Subsystem::Interface)
}

fn read(document: &Document<'_>) -> Result<InterfaceDef> {
    let root = document.root();
    if root.name() != "interface" {
        let what = format!("expecting root element of 'interface', not '{}'", root.name());
        return Err(ours(root.error(Code::XmlError, what)));
    }
    interface(root, Within::Nothing).map_err(ours)
}

fn refused(node: Node<'_>, what: impl AsRef<str>) -> Error {
    node.error(Code::XmlError, what)
}

/// A word of a vocabulary; `what` begins libvirt's text for one that is not in it.
fn word<T: Value>(node: Node<'_>, name: &'static str, what: &str) -> Result<Option<T>> {
    let Some(text) = node.attr(name) else { return Ok(None) };
    let read = T::read(text).ok_or_else(|| node.attr_error(name, Code::XmlError, format!("{what} {text}")));
    read.map(Some)
}

/// A number, which libvirt calls `what`.
fn number(node: Node<'_>, name: &'static str, what: &str) -> Result<Option<u32>> {
    let Some(text) = node.attr(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| node.attr_error(name, Code::XmlError, format!("{what}: '{text}'")))
}

fn interface(node: Node<'_>, within: Within) -> Result<InterfaceDef> {
    let kind = node.attr("type").ok_or_else(|| node.missing_attr("type"))?;
    let allowed: &[&str] = match within {
        Within::Nothing => &["ethernet", "bridge", "bond", "vlan"],
        Within::Bridge => &["ethernet", "bond", "vlan"],
        Within::Bond => &["ethernet"],
    };
    if !allowed.contains(&kind) {
        return Err(if matches!(kind, "ethernet" | "bridge" | "bond" | "vlan") {
            node.attr_error("type", Code::XmlError, format!("interface has unsupported type '{kind}'"))
        } else {
            node.invalid_attr("type", None, allowed)
        });
    }
    let name = node.attr("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| refused(node, "interface has no name"))?.to_string();
    let mut def = InterfaceDef { name, ..InterfaceDef::default() };
    if within == Within::Nothing {
        if let Some(start) = node.child("start") {
            def.start = word::<StartMode>(start, "mode", "unknown interface startmode")?;
        }
        if let Some(mtu) = node.child("mtu") {
            def.mtu = number(mtu, "size", "interface mtu value is improper")?;
        }
        def.protocols = node.children("protocol").map(protocol).collect::<Result<_>>()?;
    }
    if kind != "bridge"
        && let Some(link) = node.child("link")
    {
        let link = Link { speed: link.attr_value("speed")?, state: link.attr_value::<LinkState>("state")? };
        def.link = (link != Link::default()).then_some(link);
    }
    let part = |name: &'static str| {
        node.child(name).ok_or_else(|| refused(node, format!("{name} interface misses the {name} element")))
    };
    def.kind = match kind {
        "bridge" => InterfaceKind::Bridge(bridge(part("bridge")?)?),
        "bond" => InterfaceKind::Bond(Box::new(bond(part("bond")?)?)),
        "vlan" => InterfaceKind::Vlan(vlan(part("vlan")?)?),
        _ => {
            let mac = node.child("mac").and_then(|mac| mac.attr("address"));
            InterfaceKind::Ethernet(mac.map(str::to_string))
        }
    };
    Ok(def)
}

fn protocol(node: Node<'_>) -> Result<Protocol> {
    let family = node.attr("family").ok_or_else(|| refused(node, "protocol misses the family attribute"))?;
    let family: Family = family
        .parse()
        .map_err(|_| node.attr_error("family", Code::XmlError, format!("unsupported protocol family '{family}'")))?;
    let dhcp = match node.child("dhcp") {
        Some(dhcp) => Some(Dhcp { peerdns: dhcp.attr_value("peerdns")? }),
        None => None,
    };
    let mut addresses = Vec::new();
    for ip in node.children("ip") {
        let prefix = ip.attr_value("prefix")?.unwrap_or(0);
        // One without an address says nothing.
        if let Some(address) = ip.attr("address") {
            addresses.push(Address { address: address.to_string(), prefix });
        }
    }
    Ok(Protocol {
        family,
        autoconf: family == Family::Ipv6 && node.child("autoconf").is_some(),
        dhcp,
        addresses,
        gateway: node.child("route").and_then(|route| route.attr("gateway")).map(str::to_string),
    })
}

fn bridge(node: Node<'_>) -> Result<Bridge> {
    let stp = match node.attr("stp") {
        None => None,
        Some("on") => Some(true),
        Some("off") => Some(false),
        Some(other) => {
            let what = format!("bridge interface stp should be on or off got {other}");
            return Err(node.attr_error("stp", Code::XmlError, what));
        }
    };
    Ok(Bridge { stp, delay: node.attr("delay").map(str::to_string), members: members(node, Within::Bridge)? })
}

fn members(node: Node<'_>, within: Within) -> Result<Vec<InterfaceDef>> {
    node.children("interface").map(|member| interface(member, within)).collect()
}

fn bond(node: Node<'_>) -> Result<Bond> {
    let mode = word(node, "mode", "unknown bonding mode")?;
    let members = members(node, Within::Bond)?;
    let monitor = if let Some(mii) = node.child("miimon") {
        let missing = "bond interface miimon freq missing or invalid";
        Some(Monitor::Mii {
            frequency: number(mii, "freq", missing)?.ok_or_else(|| refused(mii, missing))?,
            down_delay: number(mii, "downdelay", "bond interface miimon downdelay invalid")?.unwrap_or(0),
            up_delay: number(mii, "updelay", "bond interface miimon updelay invalid")?.unwrap_or(0),
            carrier: word::<Carrier>(mii, "carrier", "unknown mii bonding carrier")?,
        })
    } else if let Some(arp) = node.child("arpmon") {
        let missing = "bond interface arpmon interval missing or invalid";
        let target = arp.attr("target");
        Some(Monitor::Arp {
            interval: number(arp, "interval", missing)?.ok_or_else(|| refused(arp, missing))?,
            target: target.ok_or_else(|| refused(arp, "bond interface arpmon target missing"))?.to_string(),
            validate: word::<Validate>(arp, "validate", "unknown arp bonding validate")?,
        })
    } else {
        None
    };
    Ok(Bond { mode, monitor, members })
}

fn vlan(node: Node<'_>) -> Result<Vlan> {
    let tag = node.attr("tag").ok_or_else(|| refused(node, "vlan interface misses the tag attribute"))?;
    let parent = node.child("interface").and_then(|parent| parent.attr("name"));
    let parent = parent.ok_or_else(|| refused(node, "vlan interface misses name attribute"))?;
    Ok(Vlan { tag: tag.to_string(), parent: parent.to_string() })
}

pub(super) fn write(def: &InterfaceDef) -> String {
    let mut w = Writer::new();
    write_interface(&mut w, def);
    w.finish()
}

fn write_interface(w: &mut Writer, def: &InterfaceDef) {
    w.start("interface");
    w.attr(
        "type",
        match def.kind {
            InterfaceKind::Ethernet(_) => "ethernet",
            InterfaceKind::Bridge(_) => "bridge",
            InterfaceKind::Bond(_) => "bond",
            InterfaceKind::Vlan(_) => "vlan",
        },
    );
    w.attr("name", &def.name);
    if let Some(mode) = def.start {
        w.element("start", |w| w.attr("mode", mode));
    }
    if let Some(size) = def.mtu.filter(|size| *size != 0) {
        w.element("mtu", |w| w.attr("size", size));
    }
    def.protocols.iter().for_each(|protocol| write_protocol(w, protocol));
    if let Some(link) = def.link {
        w.element("link", |w| {
            w.attr_opt("speed", link.speed.filter(|speed| *speed != 0));
            w.attr_opt("state", link.state);
        });
    }
    match &def.kind {
        InterfaceKind::Ethernet(None) => {}
        InterfaceKind::Ethernet(Some(mac)) => w.element("mac", |w| w.attr("address", mac)),
        InterfaceKind::Bridge(bridge) => {
            w.start("bridge");
            w.attr_opt("stp", bridge.stp.map(|on| if on { "on" } else { "off" }));
            w.attr_opt("delay", bridge.delay.as_ref());
            bridge.members.iter().for_each(|member| write_interface(w, member));
            w.end_wide();
        }
        InterfaceKind::Bond(bond) => write_bond(w, bond),
        InterfaceKind::Vlan(vlan) => {
            w.start("vlan");
            w.attr("tag", &vlan.tag);
            w.element("interface", |w| w.attr("name", &vlan.parent));
            w.end();
        }
    }
    w.end_wide();
}

fn write_protocol(w: &mut Writer, protocol: &Protocol) {
    w.start("protocol");
    w.attr("family", protocol.family);
    w.empty_if("autoconf", protocol.autoconf);
    if let Some(dhcp) = protocol.dhcp {
        w.element("dhcp", |w| w.attr_opt("peerdns", dhcp.peerdns));
    }
    for ip in &protocol.addresses {
        w.element("ip", |w| {
            w.attr("address", &ip.address);
            w.attr_opt("prefix", Some(ip.prefix).filter(|prefix| *prefix != 0));
        });
    }
    if let Some(gateway) = &protocol.gateway {
        w.element("route", |w| w.attr("gateway", gateway));
    }
    w.end_wide();
}

fn write_bond(w: &mut Writer, bond: &Bond) {
    w.start("bond");
    w.attr_opt("mode", bond.mode);
    match &bond.monitor {
        None => {}
        Some(Monitor::Mii { frequency, down_delay, up_delay, carrier }) => w.element("miimon", |w| {
            w.attr("freq", frequency);
            w.attr_opt("downdelay", Some(down_delay).filter(|delay| **delay != 0));
            w.attr_opt("updelay", Some(up_delay).filter(|delay| **delay != 0));
            w.attr_opt("carrier", *carrier);
        }),
        Some(Monitor::Arp { interval, target, validate }) => w.element("arpmon", |w| {
            w.attr("interval", interval);
            w.attr("target", target);
            w.attr_opt("validate", *validate);
        }),
    }
    bond.members.iter().for_each(|member| write_interface(w, member));
    w.end_wide();
}
