//! `<network>` as a whole: reading, and writing in libvirt's order.

use super::dns::Dns;
use super::forward::{Forward, ForwardMode};
use super::ip::Ip;
use super::model::{Bridge, DnsDomain, NetworkDef};
use super::portgroup::{PortGroup, read_bandwidth, read_virtualport};
use super::route::Route;
use super::{DNSMASQ_NAMESPACE, FormatOptions, Parsed, Warning};
use crate::domain_xml::YesNo;
use crate::domain_xml::device::net_options::Vlan;
use crate::domain_xml::metadata::Metadata;
use crate::domain_xml::words::Switch;
use crate::error::{Code, Error, Result};
use crate::types::{MacAddr, Uuid};
use crate::xml::{Document, Node, UnknownKind, Writer, parse_unsigned};

pub(super) fn parse(xml: &str) -> Result<Parsed> {
    let document = Document::parse(xml, "network_definition")?;
    let root = document.root();
    if root.name() != "network" {
        let what = format!("expecting root element of 'network', not '{}'", root.name());
        return Err(root.error(Code::XmlError, what));
    }
    let def = read(root)?;
    Ok(Parsed { def, warnings: warnings(&document) })
}

fn warnings(document: &Document<'_>) -> Vec<Warning> {
    let mut all = Vec::new();
    for unknown in document.unknown() {
        let name = &unknown.name;
        let mut message = match unknown.kind {
            UnknownKind::Element => format!("element '{name}' is not known here and is ignored"),
            UnknownKind::Attribute => format!("attribute '{name}' is not known here and is ignored"),
            UnknownKind::Repeated => format!("element '{name}' is given more than once; only the first counts"),
        };
        if let Some(word) = unknown.nearest {
            message.push_str(&format!("; did you mean '{word}'?"));
        }
        let place = unknown.place;
        all.push(Warning { line: place.line, column: place.column, path: place.path, message });
    }
    for (place, message) in document.remarks() {
        all.push(Warning { line: place.line, column: place.column, path: place.path, message });
    }
    all.sort_by_key(|warning| (warning.line, warning.column));
    all
}

fn read(root: Node<'_>) -> Result<NetworkDef> {
    root.attr("connections");
    let Some(name) = root.child("name").filter(|name| !name.text().is_empty()) else {
        let error = root.error(Code::NoName, "missing name information: <network> needs a <name>");
        return Err(Error { bare: true, ..error });
    };
    let network = name.text();
    if network.contains('/') {
        return Err(name.error(Code::XmlDetail, "invalid char in name: /"));
    }
    let mut def = NetworkDef {
        name: network.to_string(),
        ipv6: read_ipv6(root, network)?,
        trust_guest_rx_filters: root.attr_value("trustGuestRxFilters")?,
        uuid: read_uuid(root)?,
        title: root.child_string("title"),
        description: root.child_string("description"),
        ..Default::default()
    };
    if let Some(title) = root.child("title").filter(|title| title.text().contains('\n')) {
        return Err(title.error(Code::XmlError, "Network title can't contain newlines"));
    }
    if let Some(metadata) = root.child("metadata") {
        def.metadata = Metadata::read(metadata);
    }
    if let Some(domain) = root.child("domain") {
        def.domain = read_domain(domain, network)?;
    }
    if let Some(bandwidth) = root.child("bandwidth") {
        def.bandwidth = Some(read_bandwidth(bandwidth)?);
    }
    if let Some(vlan) = root.child("vlan") {
        def.vlan = Some(Vlan::read(vlan)?);
    }
    if let Some(port) = root.child("port") {
        def.port_isolated = port.attr_value("isolated")?;
    }
    if let Some(bridge) = root.child("bridge") {
        def.bridge = Bridge::read(bridge, network)?;
    }
    if let Some(mac) = root.child("mac") {
        def.mac = read_mac(mac, network)?;
    }
    if let Some(dns) = root.child("dns") {
        def.dns = Dns::read(dns, network)?;
    }
    if let Some(virtualport) = root.child("virtualport") {
        def.virtualport = Some(read_virtualport(virtualport, true)?);
    }
    def.portgroups = root.children("portgroup").map(PortGroup::read).collect::<Result<_>>()?;
    def.ips = root.children("ip").map(|ip| Ip::read(ip, network)).collect::<Result<_>>()?;
    for node in root.children("route") {
        let route = Route::read(node, network)?;
        if !def.ips.iter().any(|ip| ip.contains(route.gateway)) {
            let what =
                format!("unreachable static route gateway '{}' specified for network '{network}'", route.gateway);
            return Err(node.attr_error("gateway", Code::ConfigUnsupported, what));
        }
        def.routes.push(route);
    }
    let forward = root.child("forward");
    if let Some(forward) = forward {
        def.forward = Forward::read(forward, network)?;
    }
    def.mtu = read_mtu(root, network)?;
    check_mode(root, forward.unwrap_or(root), &def)?;
    read_dnsmasq_options(root, &mut def)?;
    Ok(def)
}

/// What a forward mode rules out, as libvirt's parser has it.
fn check_mode(root: Node<'_>, forward: Node<'_>, def: &NetworkDef) -> Result<()> {
    let (mode, network) = (def.forward.mode, &def.name);
    let bridge = root.child("bridge");
    let at_bridge = |what: String| bridge.unwrap_or(root).error(Code::XmlError, what);
    match mode {
        ForwardMode::None => {}
        ForwardMode::Nat | ForwardMode::Route => {
            if def.ips.is_empty() {
                let what = format!("{mode} forwarding requested, but no IP address provided for network '{network}'");
                return Err(forward.error(Code::XmlError, what));
            }
            if def.forward.interfaces.len() > 1 {
                let what =
                    format!("multiple forwarding interfaces specified for network '{network}', only one is supported");
                return Err(forward.error(Code::XmlError, what));
            }
        }
        ForwardMode::Open => {
            if !def.forward.interfaces.is_empty() {
                let what = format!("forward dev not allowed for network '{network}' with forward mode='{mode}'");
                return Err(forward.error(Code::XmlError, what));
            }
        }
        ForwardMode::Private | ForwardMode::Vepa | ForwardMode::Passthrough | ForwardMode::Hostdev => {
            if def.bridge.name.is_some() {
                return Err(at_bridge(format!("bridge name not allowed in {mode} mode (network '{network}')")));
            }
            if def.bridge.zone.is_some() {
                return Err(at_bridge(format!("bridge zone not allowed in {mode} mode (network '{network}')")));
            }
            if def.bridge.mac_table_manager.is_some() {
                let what = format!("bridge macTableManager setting not allowed in {mode} mode (network '{network}')");
                return Err(at_bridge(what));
            }
        }
        ForwardMode::Bridge => {}
    }
    if !mode.owns_bridge() {
        let set = |name| bridge.is_some_and(|bridge| bridge.attr(name).is_some());
        if def.bridge.delay != 0 || set("stp") || def.bridge.zone.is_some() {
            return Err(at_bridge(format!(
                "bridge delay/stp/zone options only allowed in open, route, nat, and isolated mode, not in {mode} \
                 (network '{network}')"
            )));
        }
        if def.bridge.name.is_some() && (!def.forward.interfaces.is_empty() || def.forward.pf.is_some()) {
            return Err(at_bridge(format!(
                "A network with forward mode='{mode}' can specify a bridge name or a forward dev, but not both \
                 (network '{network}')"
            )));
        }
        if def.mtu.is_some() {
            let what = format!(
                "mtu size only allowed in open, route, nat, and isolated mode, not in {mode} (network '{network}')"
            );
            return Err(root.child("mtu").unwrap_or(root).error(Code::XmlError, what));
        }
    }
    Ok(())
}

fn read_ipv6(root: Node<'_>, network: &str) -> Result<Option<YesNo>> {
    match root.attr("ipv6") {
        None => Ok(None),
        Some("yes") => Ok(Some(YesNo::Yes)),
        Some("no") => Ok(None),
        Some(other) => {
            let what = format!("Invalid ipv6 setting '{other}' in network '{network}' (known: yes, no)");
            Err(root.attr_error("ipv6", Code::XmlError, what))
        }
    }
}

fn read_uuid(root: Node<'_>) -> Result<Option<Uuid>> {
    let Some(node) = root.child("uuid").filter(|uuid| !uuid.text().is_empty()) else { return Ok(None) };
    match crate::domain_xml::parse_uuid(node.text()) {
        Some(uuid) => Ok(Some(uuid)),
        None => {
            let what = format!("malformed uuid element: '{}' is no UUID", node.text());
            Err(node.error(Code::InternalError, what))
        }
    }
}

fn read_domain(node: Node<'_>, network: &str) -> Result<Option<DnsDomain>> {
    let local_only = node.attr_value("localOnly")?;
    let register = node.attr_value("register")?;
    if register == Some(YesNo::Yes) && local_only != Some(YesNo::Yes) {
        let what =
            format!("attribute 'register=yes' in <domain> element requires 'localOnly=yes' in network {network}");
        return Err(node.error(Code::ConfigUnsupported, what));
    }
    let Some(name) = node.attr("name").filter(|name| !name.is_empty()) else { return Ok(None) };
    Ok(Some(DnsDomain { name: name.to_string(), local_only, register }))
}

fn read_mac(node: Node<'_>, network: &str) -> Result<Option<MacAddr>> {
    let Some(text) = node.attr("address") else { return Ok(None) };
    let wrong = |what: String| Err(node.attr_error("address", Code::XmlError, what));
    match text.parse::<MacAddr>() {
        Err(_) => wrong(format!("Invalid bridge mac address '{text}' in network '{network}'")),
        Ok(mac) if mac.is_multicast() => {
            wrong(format!("Invalid multicast bridge mac address '{text}' in network '{network}'"))
        }
        Ok(mac) => Ok(Some(mac)),
    }
}

fn read_mtu(root: Node<'_>, network: &str) -> Result<Option<u32>> {
    let Some(node) = root.child("mtu") else { return Ok(None) };
    let Some(text) = node.attr("size") else { return Ok(None) };
    match parse_unsigned(text).and_then(|size| u32::try_from(size).ok()) {
        Some(size) => Ok(Some(size).filter(|size| *size != 0)),
        None => {
            let what = format!("Invalid mtu size '{text}' in network '{network}'");
            Err(node.attr_error("size", Code::XmlError, what))
        }
    }
}

fn read_dnsmasq_options(root: Node<'_>, def: &mut NetworkDef) -> Result<()> {
    for node in root.all_children() {
        if node.local_name() != "options" || node.namespace() != Some(DNSMASQ_NAMESPACE) {
            continue;
        }
        node.mark_used();
        for option in node.all_children() {
            if option.local_name() != "option" {
                continue;
            }
            option.mark_used();
            let Some(value) = option.attr("value") else {
                return Err(option.error(Code::InternalError, "No dnsmasq options value specified"));
            };
            def.dnsmasq_options.push(value.to_string());
        }
    }
    Ok(())
}

impl Bridge {
    fn read(node: Node<'_>, network: &str) -> Result<Self> {
        let text = |name| node.attr(name).filter(|text: &&str| !text.is_empty()).map(str::to_string);
        let delay = match node.attr("delay") {
            None => 0,
            Some(given) => parse_unsigned(given).ok_or_else(|| {
                let what = format!("Invalid delay value in network '{network}'");
                node.attr_error("delay", Code::XmlError, what)
            })?,
        };
        let mac_table_manager = match node.attr("macTableManager") {
            None => None,
            Some(given) => Some(given.parse().map_err(|_| {
                let what = format!(
                    "Invalid macTableManager setting '{given}' in network '{network}' (known: kernel, libvirt)"
                );
                node.attr_error("macTableManager", Code::XmlError, what)
            })?),
        };
        let stp = match node.attr("stp") {
            None | Some("on") => true,
            Some("off") => false,
            Some(other) => {
                node.remark(format!("stp='{other}' is neither 'on' nor 'off' and counts as 'on'"));
                true
            }
        };
        Ok(Bridge { name: text("name"), zone: text("zone"), stp, delay, mac_table_manager })
    }

    fn write(&self, mode: ForwardMode, w: &mut Writer) {
        w.element_unless_empty("bridge", |w| {
            w.attr_opt("name", self.name.as_ref());
            w.attr_opt("zone", self.zone.as_ref());
            if mode.owns_bridge() {
                w.attr("stp", Switch::from(self.stp));
                w.attr("delay", self.delay);
            }
            w.attr_opt("macTableManager", self.mac_table_manager);
        });
    }
}

pub(super) fn format(def: &NetworkDef, o: FormatOptions) -> String {
    let mut w = Writer::new();
    w.element("network", |w| write(def, o, w));
    w.finish()
}

fn write(def: &NetworkDef, o: FormatOptions, w: &mut Writer) {
    if !def.dnsmasq_options.is_empty() {
        w.attr("xmlns:dnsmasq", DNSMASQ_NAMESPACE);
    }
    if !o.inactive && def.connections > 0 {
        w.attr("connections", def.connections);
    }
    w.attr_opt("ipv6", def.ipv6);
    w.attr_opt("trustGuestRxFilters", def.trust_guest_rx_filters);
    w.text("name", &def.name);
    w.text_opt("uuid", def.uuid);
    w.text_opt("title", def.title.as_ref());
    w.text_opt("description", def.description.as_ref());
    def.metadata.write(w);
    def.forward.write(w, o);
    def.bridge.write(def.forward.mode, w);
    if let Some(mtu) = def.mtu {
        w.element("mtu", |w| w.attr("size", mtu));
    }
    if let Some(mac) = def.mac {
        w.element("mac", |w| w.attr("address", mac));
    }
    if let Some(domain) = &def.domain {
        w.element("domain", |w| {
            w.attr("name", &domain.name);
            w.attr_opt("localOnly", domain.local_only);
            w.attr_opt("register", domain.register);
        });
    }
    def.dns.write(w);
    if let Some(vlan) = &def.vlan {
        vlan.write(w);
    }
    if let Some(bandwidth) = &def.bandwidth {
        bandwidth.write(w);
    }
    if let Some(isolated) = def.port_isolated {
        w.element("port", |w| w.attr("isolated", isolated));
    }
    for ip in &def.ips {
        ip.write(w);
    }
    for route in &def.routes {
        route.write(w);
    }
    if let Some(virtualport) = &def.virtualport {
        virtualport.write(w);
    }
    for group in &def.portgroups {
        group.write(w);
    }
    if !def.dnsmasq_options.is_empty() {
        w.element("dnsmasq:options", |w| {
            for option in &def.dnsmasq_options {
                w.element("dnsmasq:option", |w| w.attr("value", option));
            }
        });
    }
}
