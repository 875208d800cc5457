//! Other people's firewalls: where they would drop a network's packets whatever our own table says.
//!
//! In nftables an `accept` ends one base chain only; a `drop` in any other still drops. So a foreign chain at the same
//! hook with policy drop (docker's), or one that ends in a reject (firewalld's), blocks guests although our rules let
//! them through. Docker has a chain for others' rules, `DOCKER-USER`, which it never touches: there we let our bridges
//! through, each rule marked with a comment. Anything else is left alone and named, with what would help.

use std::path::Path;

use serde_json::Value;

use super::nft::{self, Chain, Rule, Ruleset, Table, TableName};
use crate::error::Result;

/// Docker's chain for rules of others.
const DOCKER_USER: &str = "DOCKER-USER";

/// A foreign chain that would drop a network's packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    pub table: TableName,
    pub chain: String,
    /// `forward`: to and from guests; `input`: DHCP and DNS of the host.
    pub hook: String,
    /// How it drops, and what to do.
    pub text: String,
}

impl std::fmt::Display for Blocker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn comment(bridge: &str) -> String {
    format!("domus: {bridge}")
}

/// What a network does that others can keep it from.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Between guests and the world.
    pub forwards: bool,
    /// DHCP and DNS of the host.
    pub serves: bool,
}

impl Traffic {
    /// The directions in which a packet of `bridge` passes a chain of this family and hook.
    fn passes(self, family: &str, hook: &str) -> &'static [Direction] {
        use Direction::{From, To};
        match (family, hook) {
            // Frames from one guest to another.
            ("bridge", "forward") => &[From, To],
            ("bridge" | "inet" | "ip" | "ip6", "prerouting") if self.forwards || self.serves => &[From],
            ("bridge" | "inet" | "ip" | "ip6", "postrouting") if self.forwards || self.serves => &[To],
            ("bridge", "input") if self.forwards || self.serves => &[From],
            ("bridge", "output") if self.forwards || self.serves => &[To],
            ("inet" | "ip" | "ip6", "forward") if self.forwards => &[From, To],
            ("inet" | "ip" | "ip6", "input") if self.serves => &[From],
            ("inet" | "ip" | "ip6", "output") if self.serves => &[To],
            _ => &[],
        }
    }
}

/// Whether a packet comes from the bridge or goes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    From,
    To,
}

impl Direction {
    /// nft's word for the link: a bridge family names the bridge apart from its ports.
    fn key(self, family: &str) -> &'static str {
        match (self, family) {
            (Direction::From, "bridge") => "ibrname",
            (Direction::To, "bridge") => "obrname",
            (Direction::From, _) => "iifname",
            (Direction::To, _) => "oifname",
        }
    }

    fn word(self, family: &str) -> &'static str {
        match (self, family) {
            (Direction::From, "bridge") => "meta ibrname",
            (Direction::To, "bridge") => "meta obrname",
            (other, family) => other.key(family),
        }
    }
}

/// Foreign chains that would drop what `bridge` forwards, or what guests ask of the host. `ours`: names of our own tables.
pub fn blockers(ruleset: &Ruleset, bridge: &str, traffic: Traffic, ours: &[TableName]) -> Vec<Blocker> {
    let mut found = Vec::new();
    for (name, table) in ruleset.tables.iter().filter(|(name, _)| !ours.contains(name)) {
        for (chain_name, chain) in &table.chains {
            let hook = chain.hook.as_deref().unwrap_or_default();
            let directions = traffic.passes(&name.family, hook);
            let Some(how) = how_it_drops(chain).filter(|_| !directions.is_empty()) else { continue };
            let keys = directions.iter().map(|direction| direction.key(&name.family));
            if keys.clone().all(|key| lets_through(table, key, bridge)) {
                continue;
            }
            let text = format!(
                "table '{name}' chain '{chain_name}' (hook {hook}, {how}) drops packets of bridge '{bridge}' that our \
                 rules let through; {}",
                help(name, chain_name, table, bridge, directions)
            );
            found.push(Blocker { table: name.clone(), chain: chain_name.clone(), hook: hook.into(), text });
        }
    }
    found
}

fn how_it_drops(chain: &Chain) -> Option<&'static str> {
    // The first rule without a condition decides; behind it nothing is read.
    let verdict = |rule: &Rule| {
        let kinds = ["counter", "log", "accept", "reject", "drop"];
        let kind = |statement: &Value| kinds.into_iter().find(|kind| statement.get(kind).is_some());
        let all: Option<Vec<&str>> = rule.expr.iter().map(kind).collect();
        all?.last().copied().filter(|kind| !matches!(*kind, "counter" | "log"))
    };
    match chain.rules.iter().find_map(verdict) {
        Some("reject") => Some("ends with reject"),
        Some("drop") => Some("ends with drop"),
        Some(_) => None,
        None => chain.policy_drop.then_some("policy drop"),
    }
}

/// Whether some rule of the table accepts, or sends on to another chain, packets whose link `key` is the bridge. A guess
/// about others' rules: it keeps quiet when somebody has obviously thought of this bridge.
fn lets_through(table: &Table, key: &str, bridge: &str) -> bool {
    let names = |rule: &Rule| matches_interface(rule, key, bridge) && goes_on(rule);
    table.chains.values().flat_map(|chain| &chain.rules).any(names)
}

fn goes_on(rule: &Rule) -> bool {
    rule.expr.last().is_some_and(|last| ["accept", "jump", "goto"].iter().any(|kind| last.get(kind).is_some()))
}

fn matches_interface(rule: &Rule, key: &str, bridge: &str) -> bool {
    rule.expr.iter().any(|statement| {
        let Some(test) = statement.get("match") else { return false };
        let on = test.pointer("/left/meta/key").and_then(Value::as_str) == Some(key);
        let positive = matches!(test.get("op").and_then(Value::as_str), Some("==" | "in"));
        on && positive && test.get("right").is_some_and(|right| names(right, bridge))
    })
}

fn names(right: &Value, bridge: &str) -> bool {
    match right {
        Value::String(name) => match name.strip_suffix('*') {
            Some(prefix) => bridge.starts_with(prefix),
            None => name == bridge,
        },
        Value::Array(items) => items.iter().any(|item| names(item, bridge)),
        Value::Object(object) => object.get("set").is_some_and(|set| names(set, bridge)),
        _ => false,
    }
}

fn help(name: &TableName, chain: &str, table: &Table, bridge: &str, directions: &[Direction]) -> String {
    if name.name == "firewalld" {
        return format!("'firewall-cmd --zone=trusted --change-interface={bridge}' lets it through");
    }
    let forward = directions.len() > 1;
    if table.chains.contains_key("ufw-user-forward") || table.chains.contains_key("ufw-before-forward") {
        return match forward {
            true => format!("'ufw route allow in on {bridge}' and 'ufw route allow out on {bridge}' let it through"),
            false => format!("'ufw allow in on {bridge}' lets it through"),
        };
    }
    let insert = |direction: &Direction| {
        format!("'nft insert rule {name} {chain} {} {bridge} accept'", direction.word(&name.family))
    };
    let commands: Vec<String> = directions.iter().map(insert).collect();
    format!("{} {} it through", commands.join(" and "), if forward { "let" } else { "lets" })
}

/// Tables whose `DOCKER-USER` chain lacks our rules for the bridge.
fn docker_tables(ruleset: &Ruleset) -> impl Iterator<Item = (&TableName, &Chain)> {
    ruleset
        .tables
        .iter()
        .filter(|(name, _)| matches!(name.family.as_str(), "ip" | "ip6"))
        .filter_map(|(name, table)| table.chains.get(DOCKER_USER).map(|chain| (name, chain)))
}

fn ours<'a>(chain: &'a Chain, bridge: &str) -> impl Iterator<Item = &'a Rule> {
    let comment = comment(bridge);
    chain.rules.iter().filter(move |rule| rule.comment.as_deref() == Some(&comment))
}

/// Whether a chain of docker's lacks our rules for this bridge.
pub fn docker_rules_missing(ruleset: &Ruleset, bridge: &str) -> bool {
    docker_tables(ruleset).any(|(_, chain)| ours(chain, bridge).count() < 2)
}

/// Lets the bridge's packets through docker's chain, where there is one. True when something was added.
pub async fn pass_docker(nft: &Path, ruleset: &Ruleset, bridge: &str) -> Result<bool> {
    let mut text = String::new();
    for (table, chain) in docker_tables(ruleset).filter(|(_, chain)| ours(chain, bridge).count() < 2) {
        for rule in ours(chain, bridge) {
            text.push_str(&format!("delete rule {table} {DOCKER_USER} handle {}\n", rule.handle));
        }
        for key in ["oifname", "iifname"] {
            let comment = comment(bridge);
            text.push_str(&format!(
                "insert rule {table} {DOCKER_USER} {key} \"{bridge}\" accept comment \"{comment}\"\n"
            ));
        }
    }
    if text.is_empty() {
        return Ok(false);
    }
    nft::apply(nft, &text).await?;
    Ok(true)
}

/// Takes our rules for the bridge out of docker's chains.
pub async fn leave_docker(nft: &Path, ruleset: &Ruleset, bridge: &str) -> Result<()> {
    let text: String = docker_tables(ruleset)
        .flat_map(|(table, chain)| {
            ours(chain, bridge).map(move |rule| format!("delete rule {table} {DOCKER_USER} handle {}\n", rule.handle))
        })
        .collect();
    if text.is_empty() { Ok(()) } else { nft::apply(nft, &text).await }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::in_netns_async;

    const BOTH: Traffic = Traffic { forwards: true, serves: true };
    const FORWARDS: Traffic = Traffic { forwards: true, serves: false };

    /// What dockerd's iptables-nft calls leave, cut to its bones.
    const DOCKER: &str = "
        table ip filter {
            chain DOCKER { }
            chain DOCKER-USER {
                counter return
            }
            chain FORWARD {
                type filter hook forward priority filter; policy drop;
                counter jump DOCKER-USER
                oifname \"docker0\" ct state related,established counter accept
                oifname \"docker0\" counter jump DOCKER
            }
        }";
    const FIREWALLD: &str = "
        table inet firewalld {
            chain filter_FORWARD {
                type filter hook forward priority filter + 10; policy accept;
                ct state established,related accept
                reject with icmpx type admin-prohibited
            }
        }";

    #[test]
    fn dockers_drop_is_named_and_passed() {
        let nft = Path::new("/usr/sbin/nft");
        if !nft.exists() {
            return eprintln!("SKIP dockers_drop_is_named_and_passed: {} is not installed", nft.display());
        }
        in_netns_async("dockers_drop_is_named_and_passed", async || {
            nft::apply(nft, DOCKER).await.unwrap();
            let before = nft::foreign(nft).await.unwrap();
            let found = blockers(&before, "virbr0", BOTH, &[]);
            assert_eq!(found.len(), 1);
            let text = found[0].to_string();
            assert!(text.starts_with("table 'ip filter' chain 'FORWARD' (hook forward, policy drop)"), "{text}");
            assert!(blockers(&before, "virbr0", BOTH, &[TableName::new("ip", "filter")]).is_empty());
            assert!(blockers(&before, "virbr0", Traffic { forwards: false, serves: true }, &[]).is_empty());

            assert!(docker_rules_missing(&before, "virbr0"));
            assert!(pass_docker(nft, &before, "virbr0").await.unwrap());
            let passed = nft::foreign(nft).await.unwrap();
            assert!(!docker_rules_missing(&passed, "virbr0") && docker_rules_missing(&passed, "virbr1"));
            assert!(!pass_docker(nft, &passed, "virbr0").await.unwrap());
            assert!(blockers(&passed, "virbr0", BOTH, &[]).is_empty());
            assert_eq!(blockers(&passed, "virbr1", BOTH, &[]).len(), 1);
            leave_docker(nft, &passed, "virbr0").await.unwrap();
            let after = nft::foreign(nft).await.unwrap();
            let table = TableName::new("ip", "filter");
            assert_eq!(after.fingerprint(&table), before.fingerprint(&table));
        });
    }

    #[test]
    fn firewallds_reject_is_named_with_its_command() {
        let nft = Path::new("/usr/sbin/nft");
        if !nft.exists() {
            return eprintln!("SKIP firewallds_reject_is_named: {} is not installed", nft.display());
        }
        in_netns_async("firewallds_reject_is_named", async || {
            nft::apply(nft, FIREWALLD).await.unwrap();
            let seen = nft::foreign(nft).await.unwrap();
            let found = blockers(&seen, "virbr0", FORWARDS, &[]);
            assert_eq!(found.len(), 1);
            assert!(
                found[0].text.contains("ends with reject") && found[0].text.contains("firewall-cmd"),
                "{}",
                found[0]
            );
            assert!(!pass_docker(nft, &seen, "virbr0").await.unwrap());
            nft::apply(
                nft,
                "insert rule inet firewalld filter_FORWARD iifname { \"virbr0\", \"x\" } accept\n\
                             insert rule inet firewalld filter_FORWARD oifname \"virbr*\" accept\n",
            )
            .await
            .unwrap();
            assert!(blockers(&nft::foreign(nft).await.unwrap(), "virbr0", FORWARDS, &[]).is_empty());
        });
    }

    #[test]
    fn every_hook_that_packets_pass_is_looked_at() {
        let nft = Path::new("/usr/sbin/nft");
        if !nft.exists() {
            return eprintln!("SKIP every_hook_that_packets_pass: {} is not installed", nft.display());
        }
        in_netns_async("every_hook_that_packets_pass", async || {
            for (family, hook, keys) in [
                ("inet", "input", &["iifname"][..]),
                ("ip", "output", &["oifname"]),
                ("ip6", "prerouting", &["iifname"]),
                ("inet", "postrouting", &["oifname"]),
                ("ip", "forward", &["iifname", "oifname"]),
                ("bridge", "forward", &["meta ibrname", "meta obrname"]),
                ("bridge", "input", &["meta ibrname"]),
            ] {
                let table = format!(
                    "table {family} t {{\nchain c {{\ntype filter hook {hook} priority 0; policy drop;\n}}\n}}"
                );
                nft::apply(nft, &table).await.unwrap();
                let found = blockers(&nft::foreign(nft).await.unwrap(), "virbr0", BOTH, &[]);
                assert_eq!(found.len(), 1, "{family} {hook}");
                // What is advised is understood by nft, and is enough.
                let advice: Vec<&str> =
                    found[0].text.split('\'').filter_map(|text| text.strip_prefix("nft ")).collect();
                assert_eq!(advice.len(), keys.len(), "{}", found[0]);
                assert!(advice.iter().zip(keys).all(|(advice, key)| advice.contains(key)), "{}", found[0]);
                if let Err(error) = nft::apply(nft, &(advice.join("\n") + "\n")).await {
                    // Module nft_meta_bridge.
                    assert!(family == "bridge" && error.detail.contains("not supported"), "{error}");
                    eprintln!("SKIP every_hook_that_packets_pass ({family} {hook}): {error}");
                    nft::apply(nft, &format!("delete table {family} t")).await.unwrap();
                    continue;
                }
                assert!(blockers(&nft::foreign(nft).await.unwrap(), "virbr0", BOTH, &[]).is_empty(), "{family} {hook}");
                assert_eq!(blockers(&nft::foreign(nft).await.unwrap(), "virbr1", BOTH, &[]).len(), 1);
                nft::apply(nft, &format!("delete table {family} t")).await.unwrap();
            }
            // A policy that no packet comes to.
            let open = "table inet t {\nchain c {\ntype filter hook forward priority 0; policy drop;\ncounter accept\ndrop\n}\n}";
            nft::apply(nft, open).await.unwrap();
            assert!(blockers(&nft::foreign(nft).await.unwrap(), "virbr0", BOTH, &[]).is_empty());
        });
    }
}
