//! What dnsmasq is told: a definition -> its configuration, its file of DHCP hosts, its file of names. Pure.
//!
//! The settings mean what libvirt's mean, line for line; where files lie is the caller's.

use std::net::IpAddr;
use std::path::Path;

use super::dns::{DnsForwarder, DnsSrv};
use super::forward::ForwardMode;
use super::ip::{Ip, Lease, LeaseUnit};
use super::model::NetworkDef;
use crate::domain_xml::YesNo;
use crate::error::{Code, Error, Result};

/// Files that the configuration names.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// Of DHCP hosts, [`hosts_file`].
    pub hosts: &'a Path,
    /// Of names, [`addn_hosts_file`].
    pub addn_hosts: &'a Path,
}

/// The lines a file is made of.
#[derive(Debug, Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, line: impl std::fmt::Display) {
        // A line that a value could end early would be an option of its own.
        let line: String = line.to_string().chars().filter(|c| !matches!(c, '\n' | '\r' | '\0')).collect();
        self.0.push_str(&line);
        self.0.push('\n');
    }
}

/// Whether the network needs a dnsmasq at all: DHCP, DNS, TFTP or router advertisements on an address of it.
pub fn is_needed(def: &NetworkDef) -> bool {
    def.owns_bridge()
        && def
            .ips
            .iter()
            .any(|ip| def.dns.is_enabled() || ip.serves_dhcp() || ip.tftp_root.is_some() || ip.address.is_ipv6())
}

/// The configuration file. Errors: code 67 when a reverse domain is asked for that does not exist, or a netmask has
/// a hole.
pub fn configuration(def: &NetworkDef, files: Files<'_>) -> Result<String> {
    let mut out = Lines::default();
    out.line("strict-order");
    if def.dns.is_enabled() {
        dns_servers(def, &mut out);
    } else {
        out.line("port=0");
    }
    if let Some(domain) = &def.domain {
        if def.dns.is_enabled() && domain.local_only == Some(YesNo::Yes) {
            out.line(format_args!("local=/{}/", domain.name));
        }
        out.line(format_args!("domain={}", domain.name));
        out.line("expand-hosts");
    }
    if def.dns.is_enabled() {
        for ip in def.ips.iter().filter(|ip| ip.local_ptr == Some(YesNo::Yes)) {
            out.line(format_args!("local=/{}/", reverse_domain(ip)?));
        }
        if def.dns.forward_plain_names == Some(YesNo::No) {
            out.line("domain-needed");
            out.line("local=//");
        }
    }
    out.line("except-interface=lo");
    out.line("bind-dynamic");
    out.line(format_args!("interface={}", def.bridge_name().unwrap_or_default()));
    if def.forward.mode == ForwardMode::None {
        // No default route, no question upstream, no router: an isolated network must not offer a way out.
        out.line("dhcp-option=3");
        out.line("no-resolv");
        out.line("ra-param=*,0,0");
    }
    if def.dns.is_enabled() {
        for txt in &def.dns.txts {
            out.line(format_args!("txt-record={},{}", txt.name, txt.value.as_deref().unwrap_or_default()));
        }
        for srv in &def.dns.srvs {
            out.line(srv_record(srv));
        }
    }
    if let Some(root) = def.ips.iter().find_map(|ip| ip.tftp_root.as_ref()) {
        out.line("enable-tftp");
        out.line(format_args!("tftp-root={root}"));
    }
    dhcp(def, files, &mut out)?;
    for option in &def.dnsmasq_options {
        out.line(option);
    }
    Ok(out.0)
}

fn dns_servers(def: &NetworkDef, out: &mut Lines) {
    for DnsForwarder { domain, addr } in &def.dns.forwarders {
        match (domain, addr) {
            (Some(domain), Some(addr)) => out.line(format_args!("server=/{domain}/{addr}")),
            (Some(domain), None) => out.line(format_args!("server=/{domain}/#")),
            (None, Some(addr)) => out.line(format_args!("server={addr}")),
            (None, None) => {}
        }
    }
    if def.dns.forwarders.iter().any(|forwarder| forwarder.domain.is_none()) {
        out.line("no-resolv");
    }
}

/// `_service._protocol[.domain][,target[,port[,priority[,weight]]]]`.
fn srv_record(srv: &DnsSrv) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut line = format!("srv-host=_{}._{}", text(&srv.service), text(&srv.protocol));
    if let Some(domain) = &srv.domain {
        line.push_str(&format!(".{domain}"));
    }
    let some = |value: Option<u16>| value.filter(|value| *value != 0);
    let (port, priority, weight) = (some(srv.port), some(srv.priority), some(srv.weight));
    if let Some(target) = srv.target.as_deref().filter(|target| *target != ".") {
        line.push_str(&format!(",{target}"));
        if port.is_some() || priority.is_some() || weight.is_some() {
            line.push_str(&format!(",{}", port.unwrap_or(1)));
        }
        if priority.is_some() || weight.is_some() {
            line.push_str(&format!(",{}", priority.unwrap_or(0)));
        }
        if let Some(weight) = weight {
            line.push_str(&format!(",{weight}"));
        }
    }
    line
}

/// The addresses that DHCP is served on, at most one of each family, IPv4 first.
fn served(def: &NetworkDef) -> impl Iterator<Item = &Ip> {
    [false, true].into_iter().filter_map(|v6| def.ips_of(v6).find(|ip| ip.serves_dhcp()))
}

fn dhcp(def: &NetworkDef, files: Files<'_>, out: &mut Lines) -> Result<()> {
    let mut leases: u128 = 0;
    for ip in served(def) {
        let v6 = ip.address.is_ipv6();
        let prefix = ip.prefix_length().ok_or_else(|| bad_netmask(def, ip))?;
        let size = if v6 { prefix.to_string() } else { netmask(prefix) };
        for range in &ip.dhcp.ranges {
            let lease = range.lease.map(|lease| format!(",{}", lease_time(lease))).unwrap_or_default();
            out.line(format_args!("dhcp-range={},{},{size}{lease}", range.start, range.end));
            leases += range.size();
        }
        // Without a range dnsmasq answers hosts only when told that there is a subnet.
        if ip.dhcp.ranges.is_empty() {
            let size = if v6 { format!(",{prefix}") } else { String::new() };
            out.line(format_args!("dhcp-range={},static{size}", ip.address));
        }
        if v6 {
            continue;
        }
        out.line("dhcp-no-override");
        out.line("dhcp-authoritative");
        if let Some(bootp) = &ip.dhcp.bootp {
            let server = bootp.server.map(|server| format!(",,{server}")).unwrap_or_default();
            out.line(format_args!("dhcp-boot={}{server}", bootp.file));
        }
    }
    if leases > 0 {
        out.line(format_args!("dhcp-lease-max={leases}"));
    }
    let any = served(def).next().is_some();
    if any {
        out.line(format_args!("dhcp-hostsfile={}", files.hosts.display()));
    }
    if def.dns.is_enabled() {
        out.line(format_args!("addn-hosts={}", files.addn_hosts.display()));
    }
    if let Some(mtu) = def.mtu.filter(|_| any) {
        out.line(format_args!("dhcp-option=option:mtu,{mtu}"));
    }
    if served(def).any(|ip| ip.address.is_ipv6()) {
        out.line("enable-ra");
    } else {
        for ip in def.ips_of(true) {
            out.line(format_args!("dhcp-range={},ra-only", ip.address));
        }
    }
    Ok(())
}

fn bad_netmask(def: &NetworkDef, ip: &Ip) -> Error {
    let what = format!("the netmask of address {} of network '{}' has a hole", ip.address, def.name);
    Error::new(Code::ConfigUnsupported, what)
}

fn netmask(prefix: u32) -> String {
    super::ip::mask(IpAddr::V4(std::net::Ipv4Addr::BROADCAST), prefix).to_string()
}

fn lease_time(lease: Lease) -> String {
    if lease.expiry == 0 {
        return String::from("infinite");
    }
    let unit = match lease.unit {
        LeaseUnit::Seconds => 's',
        LeaseUnit::Minutes => 'm',
        LeaseUnit::Hours => 'h',
    };
    format!("{}{unit}", lease.expiry)
}

/// The reverse domain of a subnet, `122.168.192.in-addr.arpa`. Error: code 67 when its prefix is not on a border of
/// labels.
fn reverse_domain(ip: &Ip) -> Result<String> {
    let prefix = ip.prefix_length().unwrap_or(u32::MAX);
    let (labels, step, suffix, family): (Vec<String>, u32, _, _) = match ip.address {
        IpAddr::V4(v4) => (v4.octets().iter().map(u8::to_string).collect(), 8, "in-addr.arpa", "IPv4"),
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
            (nibbles.map(|nibble| format!("{nibble:x}")).collect(), 4, "ip6.arpa", "IPv6")
        }
    };
    let kept = (prefix / step) as usize;
    if prefix == 0 || !prefix.is_multiple_of(step) || kept > labels.len() {
        let what = format!(
            "PTR domain for {family} network with prefix {prefix} cannot be automatically created: leave out localPtr \
             or use a prefix that is a multiple of {step}"
        );
        return Err(Error::new(Code::ConfigUnsupported, what).about("ip", 0));
    }
    let mut name: Vec<&str> = labels[..kept].iter().rev().map(String::as_str).collect();
    name.push(suffix);
    Ok(name.join("."))
}

/// The file of DHCP hosts, one client a line.
pub fn hosts_file(def: &NetworkDef) -> String {
    let mut out = Lines::default();
    for ip in served(def) {
        for host in &ip.dhcp.hosts {
            let v6 = ip.address.is_ipv6();
            let mut fields = Vec::new();
            fields.extend(host.id.as_ref().filter(|_| v6).map(|id| format!("id:{id}")));
            fields.extend(host.mac.clone());
            match (v6, host.ip) {
                (true, address) => {
                    fields.extend(host.name.clone());
                    fields.extend(address.map(|address| format!("[{address}]")));
                }
                (false, address) if host.mac.is_some() => {
                    fields.extend(address.map(|address| address.to_string()));
                    fields.extend(host.name.clone());
                }
                (false, address) => {
                    fields.extend(host.name.clone());
                    fields.extend(address.map(|address| address.to_string()));
                }
            }
            fields.extend(host.lease.map(lease_time));
            out.line(fields.join(","));
        }
    }
    out.0
}

/// The file of names, one address a line.
pub fn addn_hosts_file(def: &NetworkDef) -> String {
    let mut out = Lines::default();
    for host in &def.dns.hosts {
        if let Some(ip) = host.ip {
            out.line(format_args!("{ip}\t{}", host.names.join("\t")));
        }
    }
    out.0
}

#[cfg(test)]
mod tests {
    use super::super::tests::corpus;
    use super::*;

    fn files() -> Files<'static> {
        Files { hosts: Path::new("/HOSTS"), addn_hosts: Path::new("/ADDN") }
    }

    fn conf(xml: &str) -> Vec<String> {
        let def = super::super::parse(xml).expect("parses").def;
        configuration(&def, files()).expect("has one").lines().map(str::to_string).collect()
    }

    /// Lines that say something, without the files that are ours; the order of records of one kind is kept.
    fn told(text: &str) -> Vec<String> {
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.starts_with("pid-file="))
            .map(|line| match line.split_once('=') {
                Some((key @ ("dhcp-hostsfile" | "addn-hosts"), _)) => key.to_string(),
                _ => line.to_string(),
            })
            .collect();
        lines.sort();
        lines.dedup();
        lines
    }

    #[test]
    fn corpus_configurations() {
        let Some(corpus) = corpus() else { return };
        let mut seen = 0;
        for path in super::super::tests::files(&corpus.join("networkxml2confdata"), "xml") {
            let def = super::super::parse(&std::fs::read_to_string(&path).expect("readable")).expect("parses").def;
            let expected = std::fs::read_to_string(path.with_extension("conf")).expect("readable");
            let ours = configuration(&def, files()).expect("has one");
            assert_eq!(told(&ours), told(&expected), "{}", path.display());
            let hosts = std::fs::read_to_string(path.with_extension("hostsfile")).unwrap_or_default();
            assert_eq!(hosts_file(&def), hosts, "{}", path.display());
            seen += 1;
        }
        assert!(seen > 10, "{seen}");
    }

    const ISOLATED: &str = include_str!("../../../tests/fixtures/network/dnsmasq/isolated.xml");
    const IPV6: &str = include_str!("../../../tests/fixtures/network/dnsmasq/ipv6.xml");
    const ROUTED: &str = include_str!("../../../tests/fixtures/network/dnsmasq/routed.xml");

    #[rstest::rstest]
    #[case(ISOLATED, include_str!("../../../tests/fixtures/network/dnsmasq/isolated.conf"))]
    #[case(IPV6, include_str!("../../../tests/fixtures/network/dnsmasq/ipv6.conf"))]
    #[case(ROUTED, include_str!("../../../tests/fixtures/network/dnsmasq/routed.conf"))]
    fn settings_are_libvirts(#[case] xml: &str, #[case] expected: &str) {
        assert_eq!(told(&conf(xml).join("\n")), told(expected));
    }

    #[test]
    fn hosts_and_names() {
        let def = super::super::parse(ISOLATED).expect("parses").def;
        assert_eq!(
            hosts_file(&def),
            "52:54:00:00:00:01,10.9.1.50\nonlyname,10.9.1.51\n52:54:00:00:00:02,10.9.1.52,b,5m\n"
        );
        assert_eq!(addn_hosts_file(&def), "10.9.1.7\th1\th2\nfd00::7\th3\n");
        let def = super::super::parse(IPV6).expect("parses").def;
        assert_eq!(hosts_file(&def), "id:0:1:2,x,[fd00:1::9],infinite\n");
    }

    #[test]
    fn a_reverse_domain_needs_a_border() {
        let xml = "<network><name>n</name><ip address='10.9.16.1' prefix='20' localPtr='yes'/></network>";
        let error = configuration(&super::super::parse(xml).expect("parses").def, files()).expect_err("refused");
        assert!(error.detail.starts_with("PTR domain for IPv4 network with prefix 20 cannot"), "{}", error.detail);
    }

    #[test]
    fn a_value_cannot_add_a_line() {
        let xml = "<network><name>n</name><dns><txt name='a' value='b&#10;dhcp-script=/x'/></dns>\
                   <ip address='10.0.0.1' prefix='8'/></network>";
        assert!(conf(xml).contains(&String::from("txt-record=a,bdhcp-script=/x")), "{:?}", conf(xml));
    }

    #[rstest::rstest]
    #[case("<ip address='10.0.0.1' prefix='8'/>", true)]
    #[case("<dns enable='no'/><ip address='10.0.0.1' prefix='8'/>", false)]
    #[case("<dns enable='no'/><ip family='ipv6' address='fd00::1' prefix='64'/>", true)]
    #[case("", false)]
    fn needed(#[case] body: &str, #[case] expected: bool) {
        let xml = format!("<network><name>n</name>{body}</network>");
        assert_eq!(is_needed(&super::super::parse(&xml).expect("parses").def), expected);
    }
}
