//! Our rules and libvirt's are walked with the same packets: what happens to each must be the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::net::network::mask;
use crate::net::network::tests::{corpus, files};

/// Whether an address is in a subnet written as rules have it.
fn in_subnet(address: IpAddr, subnet: &str) -> bool {
    let (net, prefix) = subnet.split_once('/').unwrap_or((subnet, if subnet.contains(':') { "128" } else { "32" }));
    let (Ok(net), Ok(prefix)) = (net.parse::<IpAddr>(), prefix.parse()) else { return false };
    net.is_ipv6() == address.is_ipv6() && mask(address, prefix) == mask(net, prefix)
}

/// Chains by family and name, rules as words.
#[derive(Debug, Default)]
struct Ruleset(BTreeMap<(String, String), Vec<Vec<String>>>);

#[derive(Clone, Debug)]
struct Packet {
    iif: &'static str,
    oif: &'static str,
    from: IpAddr,
    to: IpAddr,
    protocol: &'static str,
    answer: bool,
}

impl Ruleset {
    /// A listing, as `nft list ruleset` prints it.
    fn listing(text: &str) -> Ruleset {
        let mut rules = Ruleset::default();
        let (mut family, mut chain) = (String::new(), String::new());
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["table", which, ..] => family = which.to_string(),
                ["chain", name, "{"] => {
                    chain = name.to_string();
                    rules.0.entry((family.clone(), chain.clone())).or_default();
                }
                ["}"] | [] | ["type", ..] => {}
                words => {
                    let rule = words.iter().map(|word| word.trim_matches('"').to_string()).collect();
                    rules.0.entry((family.clone(), chain.clone())).or_default().push(rule);
                }
            }
        }
        rules
    }

    /// The commands that libvirt runs: every rule is put first in its chain.
    fn commands(text: &str) -> Ruleset {
        let mut rules = Ruleset::default();
        for command in text.replace("\\\n", " ").lines() {
            let words: Vec<String> =
                command.split_whitespace().map(|word| word.trim_matches('\'').to_string()).collect();
            if words.first().is_some_and(|word| word == "nft")
                && let Some(at) = words.iter().position(|word| word == "rule")
                && let [family, _, chain, rule @ ..] = &words[at + 1..]
            {
                let chain = rules.0.entry((family.clone(), chain.clone())).or_default();
                chain.insert(0, rule.to_vec());
            }
        }
        rules
    }

    /// The verdict of a chain, `None` at its end.
    fn walk(&self, family: &str, chain: &str, packet: &Packet) -> Option<String> {
        for rule in self.0.get(&(family.to_string(), chain.to_string()))? {
            match self.rule(family, rule, packet) {
                Some(verdict) if verdict == "return" => return None,
                Some(verdict) => return Some(verdict),
                None => {}
            }
        }
        None
    }

    fn rule(&self, family: &str, rule: &[String], packet: &Packet) -> Option<String> {
        let mut rest: Vec<&str> = rule.iter().map(String::as_str).collect();
        loop {
            let matches = match rest.as_slice() {
                [] => return None,
                ["iif" | "iifname", link, ..] => packet.iif == *link,
                ["oif" | "oifname", link, ..] => packet.oif == *link,
                ["meta", "l4proto", protocol, ..] => packet.protocol == *protocol,
                ["meta", "nfproto", "ipv4", ..] => packet.from.is_ipv4(),
                ["ip" | "ip6", end @ ("saddr" | "daddr"), "!=", net, ..] => {
                    let address = if *end == "saddr" { packet.from } else { packet.to };
                    if in_subnet(address, net) {
                        return None;
                    }
                    rest.drain(..4);
                    continue;
                }
                ["ip" | "ip6", "saddr", net, ..] => in_subnet(packet.from, net),
                ["ip" | "ip6", "daddr", net, ..] => in_subnet(packet.to, net),
                ["ct", "state", "established,related" | "related,established", ..] => packet.answer,
                ["counter", ..] => {
                    rest.drain(..1);
                    continue;
                }
                ["jump", chain] => return self.walk(family, chain, packet),
                // The bare family before a translation is a matter of the table's kind.
                verdict => return Some(verdict.join(" ").replace("snat ip to", "snat to").replace("/32", "")),
            };
            if !matches {
                return None;
            }
            let used = if matches!(rest[0], "iif" | "iifname" | "oif" | "oifname") { 2 } else { 3 };
            rest.drain(..used);
        }
    }

    /// What happens to a forwarded packet: rejected or not, and how it is translated.
    fn fate(&self, packet: &Packet) -> (bool, String) {
        let v6 = packet.from.is_ipv6();
        let family =
            if self.0.keys().any(|(family, _)| family == "inet") { "inet" } else { if v6 { "ip6" } else { "ip" } };
        let filter = if family == "inet" {
            self.walk(family, "forward", packet)
        } else {
            ["guest_cross", "guest_input", "guest_output"].iter().find_map(|chain| self.walk(family, chain, packet))
        };
        let nat = ["postrouting", "guest_nat"].iter().find_map(|chain| self.walk(family, chain, packet));
        (filter.as_deref() == Some("reject"), nat.unwrap_or_default())
    }
}

/// Every way through a network's bridge, from and to addresses in and out of its subnets.
fn packets(def: &NetworkDef) -> Vec<Packet> {
    let bridge: &'static str = Box::leak(def.bridge_name().expect("named").to_string().into_boxed_str());
    let mut addresses: Vec<IpAddr> = ["8.8.8.8", "224.0.0.5", "255.255.255.255", "2001:4860::8", "ff02::5"]
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect();
    for ip in &def.ips {
        addresses.push(match ip.address {
            IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) + 7).into()),
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) + 7).into()),
        });
    }
    let mut all = Vec::new();
    for (iif, oif) in
        [(bridge, bridge), (bridge, "eth7"), ("eth7", bridge), (bridge, "eth8"), ("eth8", bridge), ("eth7", "eth8")]
    {
        for from in &addresses {
            for to in addresses.iter().filter(|to| to.is_ipv6() == from.is_ipv6()) {
                for protocol in ["tcp", "udp", "icmp"] {
                    for answer in [false, true] {
                        all.push(Packet { iif, oif, from: *from, to: *to, protocol, answer });
                    }
                }
            }
        }
    }
    all
}

fn same(def: &NetworkDef, theirs: &Ruleset, what: &str) {
    let text = table(def).expect("has rules").map(|table| table.text()).unwrap_or_default();
    let ours = Ruleset::listing(&text);
    let mut rejected = 0;
    for packet in packets(def) {
        let (our, their) = (ours.fate(&packet), theirs.fate(&packet));
        // What is rejected is not translated by anybody.
        assert_eq!(our.0, their.0, "{what}: {packet:?}\n{text}");
        if !our.0 {
            assert_eq!(our.1, their.1, "{what}: {packet:?}\n{text}");
        }
        rejected += usize::from(our.0);
    }
    assert!(rejected > 0 || text.is_empty(), "{what}: nothing is rejected");
}

#[test]
fn corpus_rules() {
    let Some(corpus) = corpus() else { return };
    let mut seen = 0;
    for path in files(&corpus.join("networkxml2firewalldata"), "xml") {
        let def = super::super::parse(&std::fs::read_to_string(&path).expect("readable")).expect("parses").def;
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("named");
        let commands = std::fs::read_to_string(path.with_file_name(format!("{stem}-linux.nftables")));
        same(&def, &Ruleset::commands(&commands.expect("readable")), stem);
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
}

/// libvirt's rules for the four networks of the fixtures, running together.
const LISTING: &str = include_str!("../../../../tests/fixtures/network/firewall/libvirt.ruleset");

#[rstest::rstest]
#[case("nat", include_str!("../../../../tests/fixtures/network/firewall/nat.xml"))]
#[case("route", include_str!("../../../../tests/fixtures/network/firewall/route.xml"))]
#[case("nat-one-address", include_str!("../../../../tests/fixtures/network/firewall/nat-one-address.xml"))]
#[case("isolated", include_str!("../../../../tests/fixtures/network/firewall/isolated.xml"))]
fn rules_are_libvirts(#[case] name: &str, #[case] xml: &str) {
    let def = super::super::parse(xml).expect("parses").def;
    same(&def, &Ruleset::listing(LISTING), name);
}

#[test]
fn an_open_network_has_no_rules() {
    let xml = "<network><name>n</name><forward mode='open'/><bridge name='b'/><ip address='10.0.0.1'/></network>";
    assert_eq!(table(&super::super::parse(xml).expect("parses").def).expect("works"), None);
}

#[test]
fn names_of_tables_differ_where_bridges_do() {
    let names: Vec<String> = ["virbr0", "a_b", "a__b", "a+b", "a_2b_b", "ü"].map(table_name).to_vec();
    assert_eq!(names[0], "domus_virbr0");
    let mut unique = names.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), names.len(), "{names:?}");
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    assert!(names.iter().all(|name| name.chars().all(allowed)), "{names:?}");
}

/// nft itself reads what we write; it needs a network namespace of its own to look into.
#[test]
fn nft_takes_the_tables() {
    #[allow(clippy::disallowed_methods)] // a test's own program
    let mut run = std::process::Command::new("unshare");
    run.args(["-Urn", "nft", "-c", "-f", "-"]);
    run.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut input = remove("domus_gone");
    for name in ["nat", "route", "nat-one-address", "isolated"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/network/firewall");
        let xml = std::fs::read_to_string(path.join(format!("{name}.xml"))).expect("readable");
        let def = super::super::parse(&xml).expect("parses").def;
        input.push_str(&table(&def).expect("works").expect("has rules").replace());
    }
    let Ok(mut child) = run.spawn() else {
        println!("SKIP nft_takes_the_tables: unshare does not run");
        return;
    };
    use std::io::Write as _;
    let fed = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let out = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&out.stderr);
    if said.contains("unshare") || said.contains("Operation not permitted") || said.contains("not supported") {
        println!("SKIP nft_takes_the_tables: {said}");
        return;
    }
    assert!(out.status.success(), "{said} ({fed:?})\n{input}");
}
