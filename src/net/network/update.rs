//! `virNetworkUpdate`: one entry of one section of a definition is added, replaced or taken away.
//!
//! Pure: the definition is changed, or left as it was when there is an error. What a running network has to be told
//! is the caller's.

use super::dns::{DnsHost, DnsSrv, DnsTxt};
use super::forward::{ForwardDevice, ForwardInterface};
use super::ip::{DhcpHost, DhcpRange, Ip};
use super::model::NetworkDef;
use super::portgroup::PortGroup;
use super::{FormatOptions, document, format};
use crate::domain_xml::YesNo;
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::MacAddr;
use crate::xml::{Document, Node};

/// `virNetworkUpdateCommand`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Modify,
    Delete,
    AddLast,
    AddFirst,
}

/// `virNetworkUpdateSection`, those that can be updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    DhcpHost,
    DhcpRange,
    ForwardInterface,
    PortGroup,
    DnsHost,
    DnsTxt,
    DnsSrv,
}

impl Command {
    /// Error: code 84.
    pub fn from_number(number: u32) -> Result<Command> {
        match number {
            1 => Ok(Command::Modify),
            2 => Ok(Command::Delete),
            3 => Ok(Command::AddLast),
            4 => Ok(Command::AddFirst),
            _ => Err(unsupported(format!("unrecognized network update command code {number}"))),
        }
    }

    fn adds(self) -> bool {
        matches!(self, Command::AddFirst | Command::AddLast)
    }
}

impl Section {
    /// Error: code 84, also for sections that libvirt has a number for but does not update.
    pub fn from_number(number: u32, network: &str) -> Result<Section> {
        let fixed = match number {
            4 => return Ok(Section::DhcpHost),
            5 => return Ok(Section::DhcpRange),
            7 => return Ok(Section::ForwardInterface),
            9 => return Ok(Section::PortGroup),
            10 => return Ok(Section::DnsHost),
            11 => return Ok(Section::DnsTxt),
            12 => return Ok(Section::DnsSrv),
            1 => "bridge",
            2 => "domain",
            3 => "ip",
            6 => "forward",
            8 => "forward pf",
            _ => return Err(unsupported(String::from("can't update unrecognized section of network"))),
        };
        Err(unsupported(format!("can't update '{fixed}' section of network '{network}'")))
    }
}

fn unsupported(what: String) -> Error {
    Error::new(Code::OperationUnsupported, what).with_subsystem(Subsystem::Network)
}

fn invalid(what: String) -> Error {
    Error::invalid_state(what)
}

/// Changes `def`. `parent` is the number of the `<ip>` (from 0) for DHCP sections, below 0 for the one that has DHCP.
/// Errors: code 84 for what cannot be updated, 55 where there is no such entry or one too many, 27 and 35 for the
/// document.
pub fn update(def: &mut NetworkDef, command: Command, section: Section, parent: i32, xml: &str) -> Result<()> {
    apply(def, command, section, parent, xml).map_err(|error| error.or_subsystem(Subsystem::Network))
}

fn apply(def: &mut NetworkDef, command: Command, section: Section, parent: i32, xml: &str) -> Result<()> {
    let document = Document::parse(xml, "network_update_xml")?;
    let root = document.root();
    let mut changed = def.clone();
    match section {
        Section::DhcpHost => dhcp_host(&mut changed, command, parent, root)?,
        Section::DhcpRange => dhcp_range(&mut changed, command, parent, root)?,
        Section::ForwardInterface => forward_interface(&mut changed, command, root)?,
        Section::PortGroup => portgroup(&mut changed, command, root)?,
        Section::DnsHost => dns_host(&mut changed, command, root)?,
        Section::DnsTxt => dns_txt(&mut changed, command, root)?,
        Section::DnsSrv => dns_srv(&mut changed, command, root)?,
    }
    // What comes out must be a definition that could have been given as a whole.
    document::parse(&format(&changed, FormatOptions { inactive: true }))?;
    *def = changed;
    Ok(())
}

fn expect(root: Node<'_>, name: &str, network: &str) -> Result<()> {
    if root.name() == name {
        return Ok(());
    }
    let what = format!("unexpected element <{}>, expecting <{name}>, while updating network '{network}'", root.name());
    Err(root.error(Code::XmlError, what))
}

fn place<T>(list: &mut Vec<T>, command: Command, entry: T) {
    match command {
        Command::AddFirst => list.insert(0, entry),
        _ => list.push(entry),
    }
}

/// The `<ip>` that a DHCP section is about.
fn parent_ip(def: &NetworkDef, parent: i32) -> Result<usize> {
    let name = &def.name;
    match usize::try_from(parent) {
        Ok(index) if index < def.ips.len() => Ok(index),
        Ok(_) => Err(invalid(format!(
            "couldn't update dhcp host entry - no <ip> element found at index {parent} in network '{name}'"
        ))),
        Err(_) if def.ips.is_empty() => {
            Err(invalid(format!("couldn't update dhcp host entry - no <ip> element found in network '{name}'")))
        }
        Err(_) => Ok(def.ips.iter().position(Ip::serves_dhcp).unwrap_or(0)),
    }
}

/// DHCP is served on one address of a family only.
fn check_single(def: &NetworkDef, index: usize) -> Result<()> {
    let v6 = def.ips[index].address.is_ipv6();
    let other = |(nth, ip): (usize, &Ip)| nth != index && ip.address.is_ipv6() == v6 && ip.serves_dhcp();
    if def.ips.iter().enumerate().any(other) {
        let family = if v6 { "IPv6" } else { "IPv4" };
        return Err(invalid(format!("dhcp is supported only for a single {family} address on each network")));
    }
    Ok(())
}

fn same_mac(a: Option<&str>, b: Option<&str>) -> bool {
    let read = |mac: Option<&str>| mac.and_then(|mac| mac.parse::<MacAddr>().ok());
    read(a).is_some() && read(a) == read(b)
}

fn dhcp_host(def: &mut NetworkDef, command: Command, parent: i32, root: Node<'_>) -> Result<()> {
    let network = def.name.clone();
    expect(root, "host", &network)?;
    let index = parent_ip(def, parent)?;
    let v6 = def.ips[index].address.is_ipv6();
    let host = DhcpHost::read(root, v6, &network, command == Command::Delete)?;
    if command.adds() && host.ip.is_some_and(|ip| ip.is_ipv6() != v6) {
        return Err(invalid(String::from(
            "the address family of a host entry IP must match the address family of the dhcp element's parent",
        )));
    }
    if command.adds() {
        check_single(def, index)?;
    }
    let hosts = &mut def.ips[index].dhcp.hosts;
    let any_same = |other: &DhcpHost| {
        same_mac(other.mac.as_deref(), host.mac.as_deref())
            || host.name.is_some() && other.name == host.name
            || host.ip.is_some() && other.ip == host.ip
    };
    let all_same = |other: &DhcpHost| {
        (host.mac.is_none() || same_mac(other.mac.as_deref(), host.mac.as_deref()))
            && (host.id.is_none() || other.id == host.id)
            && (host.name.is_none() || other.name == host.name)
            && (host.ip.is_none() || other.ip == host.ip)
    };
    let mac = host.mac.as_deref().unwrap_or("unknown").to_string();
    let name = host.name.as_deref().unwrap_or("(null)").to_string();
    let ip = host.ip.map_or_else(|| String::from("unknown"), |ip| ip.to_string());
    match command {
        Command::Modify => match hosts.iter().position(any_same) {
            Some(at) => hosts[at] = host,
            None => {
                return Err(invalid(format!(
                    "couldn't locate an existing dhcp host entry with \"mac='{mac}'\" \"name='{name}'\" \"ip='{ip}'\" \
                     in network '{network}'"
                )));
            }
        },
        Command::Delete => match hosts.iter().position(all_same) {
            Some(at) => drop(hosts.remove(at)),
            None => return Err(invalid(format!("couldn't locate a matching dhcp host entry in network '{network}'"))),
        },
        Command::AddFirst | Command::AddLast => {
            if hosts.iter().any(any_same) {
                return Err(invalid(format!(
                    "there is an existing dhcp host entry in network '{network}' that matches \
                     \"<host mac='{mac}' name='{name}' ip='{ip}'/>\""
                )));
            }
            place(hosts, command, host);
        }
    }
    Ok(())
}

fn dhcp_range(def: &mut NetworkDef, command: Command, parent: i32, root: Node<'_>) -> Result<()> {
    let network = def.name.clone();
    expect(root, "range", &network)?;
    if command == Command::Modify {
        return Err(unsupported(String::from("dhcp ranges cannot be modified, only added or deleted")));
    }
    let index = parent_ip(def, parent)?;
    let range = DhcpRange::read(root, &def.ips[index], &network)?;
    if command.adds() {
        check_single(def, index)?;
    }
    let ranges = &mut def.ips[index].dhcp.ranges;
    let at = ranges.iter().position(|other| other.start == range.start && other.end == range.end);
    match (command, at) {
        (Command::Delete, Some(at)) => drop(ranges.remove(at)),
        (Command::Delete, None) => {
            return Err(invalid(format!("couldn't locate a matching dhcp range entry in network '{network}'")));
        }
        (_, Some(_)) => {
            return Err(invalid(format!(
                "there is an existing dhcp range entry in network '{network}' that matches \
                 \"<range start='{}' end='{}'/>\"",
                range.start, range.end
            )));
        }
        (_, None) => place(ranges, command, range),
    }
    Ok(())
}

fn forward_interface(def: &mut NetworkDef, command: Command, root: Node<'_>) -> Result<()> {
    let network = def.name.clone();
    expect(root, "interface", &network)?;
    if command == Command::Modify {
        return Err(unsupported(String::from("forward interface entries cannot be modified, only added or deleted")));
    }
    let Some(dev) = root.attr("dev").filter(|dev| !dev.is_empty()) else {
        return Err(root.error(Code::XmlError, "missing dev attribute in <interface> element"));
    };
    let device = ForwardDevice::Netdev(dev.to_string());
    let interfaces = &mut def.forward.interfaces;
    let at = interfaces.iter().position(|other| other.device == device);
    match (command, at) {
        (Command::Delete, Some(at)) if interfaces[at].connections > 0 => {
            return Err(invalid(format!(
                "unable to delete interface '{dev}' in network '{network}'. It is currently being used by {} domains.",
                interfaces[at].connections
            )));
        }
        (Command::Delete, Some(at)) => drop(interfaces.remove(at)),
        (Command::Delete, None) => {
            return Err(invalid(format!(
                "couldn't find an interface entry in network '{network}' matching <interface dev='{dev}'>"
            )));
        }
        (_, Some(_)) => {
            return Err(invalid(format!(
                "there is an existing interface entry in network '{network}' that matches \"<interface dev='{dev}'>\""
            )));
        }
        (_, None) => place(interfaces, command, ForwardInterface { device, connections: 0 }),
    }
    Ok(())
}

fn portgroup(def: &mut NetworkDef, command: Command, root: Node<'_>) -> Result<()> {
    let network = def.name.clone();
    expect(root, "portgroup", &network)?;
    let group = PortGroup::read(root)?;
    let groups = &mut def.portgroups;
    let at = groups.iter().position(|other| other.name == group.name);
    match (command, at) {
        (Command::Modify | Command::Delete, None) => {
            return Err(invalid(format!(
                "couldn't find a portgroup entry in network '{network}' matching <portgroup name='{}'>",
                group.name
            )));
        }
        (Command::AddFirst | Command::AddLast, Some(_)) => {
            return Err(invalid(format!(
                "there is an existing portgroup entry in network '{network}' that matches \"<portgroup name='{}'>\"",
                group.name
            )));
        }
        _ => {}
    }
    let other_default = groups.iter().any(|other| other.is_default == Some(YesNo::Yes) && other.name != group.name);
    if command != Command::Delete && group.is_default == Some(YesNo::Yes) && other_default {
        return Err(invalid(format!(
            "a different portgroup entry in network '{network}' is already set as the default. Only one default is \
             allowed."
        )));
    }
    match (command, at) {
        (Command::Modify, Some(at)) => groups[at] = group,
        (Command::Delete, Some(at)) => drop(groups.remove(at)),
        _ => place(groups, command, group),
    }
    Ok(())
}

fn dns_host(def: &mut NetworkDef, command: Command, root: Node<'_>) -> Result<()> {
    let network = def.name.clone();
    expect(root, "host", &network)?;
    let host = DnsHost::read(root, &network, !command.adds())?;
    let hosts = &mut def.dns.hosts;
    // Two addresses may have one name; to find an entry for its removal either is enough.
    let same_ip = |other: &DnsHost| host.ip.is_some() && other.ip == host.ip;
    let named = |other: &DnsHost| host.names.iter().any(|name| other.names.contains(name));
    let found: Vec<usize> = (0..hosts.len())
        .filter(|at| same_ip(&hosts[*at]) || command == Command::Delete && named(&hosts[*at]))
        .collect();
    let missing = || invalid(format!("couldn't locate a matching DNS HOST record in network {network}"));
    match command {
        Command::AddFirst | Command::AddLast => {
            if !found.is_empty() {
                return Err(invalid(format!(
                    "there is already at least one DNS HOST record with a matching field in network {network}"
                )));
            }
            place(hosts, command, host);
        }
        Command::Delete => match found.as_slice() {
            [] => return Err(missing()),
            [at] => drop(hosts.remove(*at)),
            _ => return Err(invalid(format!("multiple matching DNS HOST records were found in network {network}"))),
        },
        Command::Modify => {
            let at = *found.first().ok_or_else(missing)?;
            if host.names.is_empty() {
                let what = format!("Missing hostname in network '{network}' DNS HOST record");
                return Err(root.error(Code::XmlDetail, what));
            }
            hosts[at] = host;
        }
    }
    Ok(())
}

fn dns_txt(def: &mut NetworkDef, command: Command, root: Node<'_>) -> Result<()> {
    let network = def.name.clone();
    expect(root, "txt", &network)?;
    let txt = DnsTxt::read(root, &network, !command.adds())?;
    let txts = &mut def.dns.txts;
    let at = txts.iter().position(|other| other.name == txt.name);
    match (command, at) {
        (Command::AddFirst | Command::AddLast, Some(_)) => {
            Err(invalid(format!("there is already a DNS TXT record with name '{}' in network {network}", txt.name)))
        }
        (Command::AddFirst | Command::AddLast, None) => {
            place(txts, command, txt);
            Ok(())
        }
        (_, None) => Err(invalid(format!("couldn't locate a matching DNS TXT record in network {network}"))),
        (Command::Delete, Some(at)) => {
            txts.remove(at);
            Ok(())
        }
        (Command::Modify, Some(_)) if txt.value.is_none() => {
            Err(invalid(format!("missing value of modifying DNS TXT record in network {network}")))
        }
        (Command::Modify, Some(at)) => {
            txts[at] = txt;
            Ok(())
        }
    }
}

fn dns_srv(def: &mut NetworkDef, command: Command, root: Node<'_>) -> Result<()> {
    let network = def.name.clone();
    if command == Command::Modify {
        return Err(unsupported(String::from("DNS SRV records cannot be modified, only added or deleted")));
    }
    expect(root, "srv", &network)?;
    let srv = DnsSrv::read(root, &network, !command.adds())?;
    let srvs = &mut def.dns.srvs;
    let fits = |given: &Option<String>, there: &Option<String>| given.is_none() || given == there;
    let found: Vec<usize> = (0..srvs.len())
        .filter(|at| {
            let other = &srvs[*at];
            fits(&srv.domain, &other.domain)
                && fits(&srv.service, &other.service)
                && fits(&srv.protocol, &other.protocol)
                && fits(&srv.target, &other.target)
        })
        .collect();
    if command.adds() {
        if !found.is_empty() {
            return Err(invalid(format!(
                "there is already at least one DNS SRV record matching all specified fields in network {network}"
            )));
        }
        place(srvs, command, srv);
        return Ok(());
    }
    match found.as_slice() {
        [] => Err(invalid(format!("couldn't locate a matching DNS SRV record in network {network}"))),
        [at] => {
            srvs.remove(*at);
            Ok(())
        }
        _ => Err(invalid(format!(
            "multiple DNS SRV records matching all specified fields were found in network {network}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::network::parse;

    const ANSWERS: &str = include_str!("../../../tests/fixtures/network/updates.json");

    /// What libvirt 11.3 makes of one update of the base definition of that name.
    #[derive(serde::Deserialize)]
    struct Answers {
        bases: std::collections::BTreeMap<String, String>,
        updates: Vec<Answer>,
    }

    #[derive(serde::Deserialize)]
    struct Answer {
        base: String,
        command: u32,
        section: u32,
        index: i32,
        xml: String,
        gives: Option<String>,
        code: Option<i32>,
        message: Option<String>,
    }

    fn ours(base: &str, answer: &Answer) -> Result<String> {
        let mut def = parse(base)?.def;
        let section = Section::from_number(answer.section, &def.name)?;
        let command = Command::from_number(answer.command)?;
        let before = def.clone();
        let result = update(&mut def, command, section, answer.index, &answer.xml);
        assert!(result.is_ok() || def == before, "changed although refused: {}", answer.xml);
        result.map(|()| format(&def, FormatOptions { inactive: true }))
    }

    #[test]
    fn updates_are_libvirts() {
        let answers: Answers = serde_json::from_str(ANSWERS).expect("JSON");
        assert!(answers.updates.len() > 300);
        let mut wrong = Vec::new();
        for answer in &answers.updates {
            let ours = ours(&answers.bases[&answer.base], answer);
            let same = match (&ours, &answer.gives) {
                (Ok(ours), Some(theirs)) => ours == theirs,
                (Err(error), None) => {
                    let theirs = answer.message.as_deref().unwrap_or_default();
                    // Of a document that is none we say which one it was.
                    let first = theirs.lines().next().unwrap_or_default().trim_end().trim_start_matches("at line 1: ");
                    Some(error.code as i32) == answer.code && error.message().contains(first)
                }
                _ => false,
            };
            if !same {
                let ours = ours.map_err(|error| (error.code, error.message()));
                let theirs = answer.gives.as_ref().or(answer.message.as_ref());
                wrong.push(format!(
                    "{} {} {} {} {}\n  ours: {ours:?}\n  libvirt: {:?} {theirs:?}",
                    answer.base, answer.command, answer.section, answer.index, answer.xml, answer.code
                ));
            }
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), answers.updates.len(), wrong.join("\n"));
    }
}
