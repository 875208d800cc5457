//! The kernel's packet filter, through the program `nft`: a batch goes in whole or not at all.
//!
//! Never looks into the text it applies; a table is known by family and name, and by a fingerprint of what the kernel
//! says it holds, without handles and counters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result, Subsystem};
use crate::net::network::firewall::TABLE_PREFIX;
use crate::sys::exec::{self, ExecError};
use crate::sys::nfnl;

/// A table by family (`ip`, `inet`, `bridge`) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    pub family: String,
    pub name: String,
}

impl TableName {
    pub fn new(family: impl Into<String>, name: impl Into<String>) -> TableName {
        TableName { family: family.into(), name: name.into() }
    }

    /// From the kernel's number of the family.
    pub(super) fn of_kernel((family, name): nfnl::Table) -> Option<TableName> {
        let family = match family {
            1 => "inet",
            2 => "ip",
            3 => "arp",
            5 => "netdev",
            7 => "bridge",
            10 => "ip6",
            _ => return None,
        };
        Some(TableName::new(family, name))
    }

    /// Whether it is the own table of some network, which drops nothing of others: there may be hundreds.
    pub fn is_of_network(&self) -> bool {
        self.family == "inet" && self.name.starts_with(TABLE_PREFIX)
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// Applies a batch of commands (`nft -f -`), all or nothing. Errors: code 1 with what nft said and the line it is about.
pub async fn apply(nft: &Path, text: &str) -> Result<()> {
    run(nft, &["-f", "-"], Some(text)).await.map(drop).map_err(|error| refused(error, text))
}

/// Deletes tables; those that are not there are no error.
pub async fn delete(nft: &Path, tables: &[TableName]) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    // Adding one that is there does nothing, so that the deletion always finds it; `destroy` is younger than nft 1.0.6.
    let text: String = tables.iter().map(|table| format!("add table {table}\ndelete table {table}\n")).collect();
    apply(nft, &text).await
}

/// Names of all tables. Errors: code 38 without CAP_NET_ADMIN.
pub fn tables() -> Result<BTreeSet<TableName>> {
    let found = nfnl::tables()
        .map_err(|error| Error::system("cannot list nftables' tables", error).with_subsystem(Subsystem::Network))?;
    Ok(found.into_iter().filter_map(TableName::of_kernel).collect())
}

/// What these tables hold now; those that are not there are left out. One nft for each: with all of them in one listing,
/// nft 1.0 needs seconds where there are hundreds of tables, and it cannot list some.
pub async fn read(nft: &Path, tables: &[TableName]) -> Result<Ruleset> {
    let mut ruleset = Ruleset::default();
    for table in tables {
        if let Some(found) = read_one(nft, table).await? {
            ruleset.tables.insert(table.clone(), found);
        }
    }
    Ok(ruleset)
}

async fn read_one(nft: &Path, table: &TableName) -> Result<Option<Table>> {
    let TableName { family, name } = table;
    // Not as text, where a name may be one of the language's words.
    let ask = serde_json::json!({"nftables": [{"list": {"table": {"family": family, "name": name}}}]}).to_string();
    let output = match run(nft, &["-j", "-f", "-"], Some(&ask)).await {
        Ok(output) => output,
        Err(_) if !tables()?.contains(table) => return Ok(None),
        Err(error) => return Err(Error::from(error).with_subsystem(Subsystem::Network)),
    };
    let mut ruleset = Ruleset::parse(&output).map_err(|error| {
        Error::internal(format!("{} gave no JSON that can be read: {error}", nft.display()))
            .with_subsystem(Subsystem::Network)
    })?;
    Ok(ruleset.tables.remove(table))
}

/// What the tables of others hold, those that are no network's.
pub async fn foreign(nft: &Path) -> Result<Ruleset> {
    let names: Vec<TableName> = tables()?.into_iter().filter(|name| !name.is_of_network()).collect();
    read(nft, &names).await
}

async fn run(nft: &Path, args: &[&str], stdin: Option<&str>) -> Result<Vec<u8>, ExecError> {
    let options = exec::Options {
        stdin: stdin.map(|text| text.as_bytes().to_vec()),
        max_output: 256 << 20,
        ..exec::Options::default()
    };
    exec::run(nft, args, options).await.map(|output| output.stdout)
}

/// nft names lines of its standard input; the line's text is worth more than its number.
fn refused(error: ExecError, text: &str) -> Error {
    let said = match &error {
        ExecError::Failed { stderr, .. } => stderr.clone(),
        _ => return Error::from(error).with_subsystem(Subsystem::Network),
    };
    let number = said.split(':').nth(1).and_then(|number| number.parse::<usize>().ok());
    let line = number.and_then(|number| text.lines().nth(number.checked_sub(1)?)).map(str::trim);
    let about = line.map(|line| format!(" in '{line}'")).unwrap_or_default();
    let reason = said.lines().next().unwrap_or_default();
    let reason = reason.split_once("Error: ").map_or(reason, |(_, reason)| reason).trim();
    let hint = match reason.contains("Operation not permitted") || reason.contains("cache initialization") {
        true => " (the daemon needs CAP_NET_ADMIN in its network namespace)",
        false => "",
    };
    Error::internal(format!("nft refused the firewall rules{about}: {reason}{hint}"))
        .with_subsystem(Subsystem::Network)
        .with_source(error)
}

/// A chain with its rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// `forward`, `input`, ... of a base chain.
    pub hook: Option<String>,
    /// Whether a packet that reaches the end is dropped.
    pub policy_drop: bool,
    pub rules: Vec<Rule>,
}

/// A rule as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    pub handle: u64,
    pub comment: Option<String>,
    /// Statements and matches, in nft's JSON.
    pub expr: Vec<Value>,
}

/// A table's content.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub chains: BTreeMap<String, Chain>,
    /// Everything of the table in order, without what changes by itself.
    canonical: String,
}

impl Table {
    /// Tells whether the table still is what it was.
    pub fn fingerprint(&self) -> String {
        // FNV-1a: the same in every build; nobody attacks it, who could change the table could change the record.
        let hash = self
            .canonical
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("{hash:016x}")
    }
}

/// Tables with what they hold.
#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    pub tables: BTreeMap<TableName, Table>,
}

impl Ruleset {
    fn parse(json: &[u8]) -> Result<Ruleset, serde_json::Error> {
        #[derive(Deserialize)]
        struct Listing {
            nftables: Vec<BTreeMap<String, Value>>,
        }
        let listing: Listing = serde_json::from_slice(json)?;
        let mut ruleset = Ruleset::default();
        for (kind, mut object) in listing.nftables.into_iter().flatten() {
            let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_string);
            let Some(family) = text("family") else { continue };
            let table = if kind == "table" { text("name") } else { text("table") };
            let Some(table) = table else { continue };
            let (name, chain) = (text("name").unwrap_or_default(), text("chain").unwrap_or_default());
            let entry = ruleset.tables.entry(TableName { family, name: table }).or_default();
            match kind.as_str() {
                "chain" => {
                    let base = entry.chains.entry(name).or_default();
                    base.hook = text("hook");
                    base.policy_drop = text("policy").as_deref() == Some("drop");
                }
                "rule" => entry.chains.entry(chain).or_default().rules.push(Rule {
                    handle: object.get("handle").and_then(Value::as_u64).unwrap_or_default(),
                    comment: text("comment"),
                    expr: object.get("expr").and_then(Value::as_array).cloned().unwrap_or_default(),
                }),
                _ => {}
            }
            strip(&mut object);
            entry.canonical.push_str(&kind);
            entry.canonical.push_str(&object.to_string());
        }
        Ok(ruleset)
    }

    /// The fingerprint of a table; `None` when it is not there.
    pub fn fingerprint(&self, table: &TableName) -> Option<String> {
        self.tables.get(table).map(Table::fingerprint)
    }
}

/// Takes out what differs between two readings of a table that nobody touched.
fn strip(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.remove("handle");
            let changes_itself = ["dynamic", "timeout"].iter().any(|flag| {
                object.get("flags").and_then(Value::as_array).is_some_and(|flags| flags.iter().any(|f| f == flag))
            });
            if changes_itself {
                object.remove("elem");
            }
            if let Some(counter) = object.get_mut("counter").and_then(Value::as_object_mut) {
                counter.remove("packets");
                counter.remove("bytes");
            }
            object.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::in_netns_async;

    const NFT: &str = "/usr/sbin/nft";
    const TEXT: &str = "table ip t {\n chain c {\n type filter hook forward priority 0; policy accept;\n iifname \"a\" counter drop comment \"why\"\n }\n}\n";

    fn nft() -> Option<&'static Path> {
        let path = Path::new(NFT);
        if !path.exists() {
            eprintln!("SKIP nft: {NFT} is not installed");
        }
        path.exists().then_some(path)
    }

    #[test]
    fn a_batch_is_applied_seen_and_deleted() {
        let Some(nft) = nft() else { return };
        in_netns_async("a_batch_is_applied", async || {
            let table = TableName::new("ip", "t");
            let ruleset = async |nft| read(nft, std::slice::from_ref(&table)).await;
            assert_eq!(ruleset(nft).await.unwrap().fingerprint(&table), None);
            apply(nft, TEXT).await.unwrap();
            assert!(tables().unwrap().contains(&table));
            let seen = ruleset(nft).await.unwrap();
            let chain = &seen.tables[&table].chains["c"];
            assert_eq!((chain.hook.as_deref(), chain.policy_drop), (Some("forward"), false));
            assert_eq!(chain.rules[0].comment.as_deref(), Some("why"));
            let print = seen.fingerprint(&table).unwrap();

            // The same rules again, with other handles, are the same table; emptied ones are not.
            delete(nft, std::slice::from_ref(&table)).await.unwrap();
            delete(nft, std::slice::from_ref(&table)).await.unwrap();
            assert_eq!(ruleset(nft).await.unwrap().fingerprint(&table), None);
            apply(nft, TEXT).await.unwrap();
            assert_eq!(ruleset(nft).await.unwrap().fingerprint(&table).unwrap(), print);
            apply(nft, "flush table ip t\n").await.unwrap();
            assert_ne!(ruleset(nft).await.unwrap().fingerprint(&table).unwrap(), print);
        });
    }

    #[test]
    fn others_are_all_but_networks_and_any_name_is_read() {
        let Some(nft) = nft() else { return };
        in_netns_async("others_are_all_but_networks", async || {
            apply(nft, "table inet domus_virbr0 { }\ntable ip domus_x { }\ntable ip nat { }\ntable bridge b { }\n")
                .await
                .unwrap();
            // The language's own word is a name as well.
            let word = r#"{"nftables": [{"add": {"table": {"family": "ip6", "name": "fwd"}}}]}"#;
            run(nft, &["-j", "-f", "-"], Some(word)).await.unwrap();
            let names: Vec<_> = foreign(nft).await.unwrap().tables.keys().map(TableName::to_string).collect();
            assert_eq!(names, ["bridge b", "ip domus_x", "ip nat", "ip6 fwd"]);
            let error = read(Path::new("/nonexistent/nft"), &[TableName::new("ip", "nat")]).await.unwrap_err();
            assert!(error.message().contains("/nonexistent/nft"), "{error}");
        });
    }

    #[test]
    fn a_bad_batch_changes_nothing_and_names_the_line() {
        let Some(nft) = nft() else { return };
        in_netns_async("a_bad_batch", async || {
            let error = apply(nft, &format!("{TEXT}add rule ip t nowhere accept\n")).await.unwrap_err();
            let message = error.message();
            assert!(message.contains("in 'add rule ip t nowhere accept': "), "{message}");
            assert!(message.contains("No such file or directory"), "{message}");
            assert!(tables().unwrap().is_empty());
        });
    }
}
