//! Commands that tell facts about one domain: dominfo, domstate, domid, domname, domuuid, dommemstat.

use std::fmt::Write;

use clap::Args;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use zbus::{Signature, Type};

use super::args::DomainArg;
use super::client::CallError;
use super::domains::{By, CONNECT, DOMAIN, DOMUS_DOMAIN, Domain, Session};
use super::output::{Context, Failure};
use super::words;
use crate::types::flags::affect;

/// Options of `domstate`.
#[derive(Debug, Args)]
pub struct StateArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Also print the reason
    #[arg(long)]
    reason: bool,
}

/// Options of `dommemstat`.
#[derive(Debug, Args)]
pub struct MemstatArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Have the statistics collected every this many seconds, 0 for never
    #[arg(long, value_name = "SECONDS")]
    period: Option<i32>,
    /// With --period: from the next boot on
    #[arg(long)]
    config: bool,
    /// With --period: in the running domain
    #[arg(long)]
    live: bool,
    /// With --period: whichever the domain is in
    #[arg(long, conflicts_with_all = ["live", "config"])]
    current: bool,
}

/// `domus domstate`
pub async fn domstate(session: &Session, args: &StateArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let (state, reason) = session.state(&domain.path).await?;
    let (word, why) = (words::state(state), words::reason(state, reason));
    let mut value = domain.json_with("state", word);
    value["reason"] = Value::from(why);
    value["state-number"] = Value::from(state);
    value["reason-number"] = Value::from(reason);
    let text = if args.reason { format!("{word} ({why})\n") } else { format!("{word}\n") };
    session.out.show(&value, &text);
    Ok(())
}

/// `domus domid`
pub async fn domid(session: &Session, args: &DomainArg) -> Result<(), Failure> {
    let domain = session.domain(args.given(), By::NAME_UUID).await?;
    let id = id(session, &domain).await?;
    let text = id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    session.out.show(&domain.json_with("id", id), &format!("{text}\n"));
    Ok(())
}

/// `domus domname`
pub async fn domname(session: &Session, args: &DomainArg) -> Result<(), Failure> {
    let domain = session.domain(args.given(), By::ID_UUID).await?;
    session.out.show(&domain.json(), &format!("{}\n", domain.name));
    Ok(())
}

/// `domus domuuid`
pub async fn domuuid(session: &Session, args: &DomainArg) -> Result<(), Failure> {
    let domain = session.domain(args.given(), By::ID_NAME).await?;
    session.out.show(&domain.json(), &format!("{}\n", domain.uuid));
    Ok(())
}

async fn id(session: &Session, domain: &Domain) -> Result<Option<u64>, CallError> {
    let properties = session.properties(&domain.path).await?;
    Ok(if properties.flag("Active") == Some(true) { properties.number("Id") } else { None })
}

/// `domus dominfo`
pub async fn dominfo(session: &Session, args: &DomainArg) -> Result<(), Failure> {
    let domain = session.domain(args.given(), By::ANY).await?;
    let path = &domain.path;
    let client = &session.client;
    let (properties, info, saved, model, labels, messages) = tokio::join!(
        session.properties(path),
        client.call::<_, (u32, u64, u64, u32, u64)>(path, DOMUS_DOMAIN, "GetInfo", &()),
        client.call::<_, bool>(path, DOMAIN, "HasManagedSaveImage", &(0u32,)),
        client.call::<_, (String, String)>(domain.driver.path(), CONNECT, "NodeGetSecurityModel", &()),
        client.call::<_, Vec<(String, bool)>>(path, DOMAIN, "GetSecurityLabelList", &()),
        client.call::<_, Vec<String>>(path, DOMUS_DOMAIN, "GetMessages", &(0u32,)),
    );
    let properties = properties?;
    let (state, max_memory, memory, vcpus, cpu_time) = info?;
    let active = properties.flag("Active") == Some(true);
    let id = if active { properties.number("Id") } else { None };
    let id_text = id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let os_type = properties.text("OSType").unwrap_or_default().to_owned();
    let state = words::state(i32::try_from(state).unwrap_or_default());
    let (persistent, autostart) = (properties.flag("Persistent"), properties.flag("Autostart"));
    let saved = match saved {
        Ok(saved) => Some(saved),
        // A daemon without managed save has no saved domain.
        Err(error) if error.is_unknown() => Some(false),
        Err(_) => None,
    };
    let (model, doi) = model.unwrap_or_default();
    let labels = labels.unwrap_or_default();
    let messages = messages.unwrap_or_default();

    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<15} {value}");
    };
    let yes_no = |known: Option<bool>| known.map_or("unknown", |yes| if yes { "yes" } else { "no" });
    line("Id:", &id_text);
    line("Name:", &domain.name);
    line("UUID:", &domain.uuid);
    line("OS Type:", &os_type);
    line("State:", state);
    line("CPU(s):", &vcpus.to_string());
    if cpu_time != 0 {
        line("CPU time:", &format!("{}s", tenths(cpu_time)));
    }
    line("Max memory:", &format!("{max_memory} KiB"));
    line("Used memory:", &format!("{memory} KiB"));
    line("Persistent:", yes_no(persistent));
    line("Autostart:", if autostart == Some(true) { "enable" } else { "disable" });
    line("Managed save:", yes_no(saved));
    if !model.is_empty() {
        line("Security model:", &model);
        line("Security DOI:", &doi);
        if active && let Some((label, enforcing)) = labels.first().filter(|(label, _)| !label.is_empty()) {
            let mode = if *enforcing { "enforcing" } else { "permissive" };
            line("Security label:", &format!("{label} ({mode})"));
        }
    }
    for (index, message) in messages.iter().enumerate() {
        line(if index == 0 { "Messages:" } else { "" }, message);
    }
    let value = json!({
        "driver": domain.driver.name(), "id": id, "name": domain.name, "uuid": domain.uuid, "os-type": os_type,
        "state": state, "vcpus": vcpus, "cpu-time-ns": cpu_time, "max-memory-kib": max_memory, "memory-kib": memory,
        "persistent": persistent, "autostart": autostart, "managed-save": saved,
        "security": { "model": model, "doi": doi, "labels": labels.iter().map(|(label, _)| label).collect::<Vec<_>>() },
        "messages": messages,
    });
    session.out.show(&value, &text);
    Ok(())
}

/// Nanoseconds as seconds with one digit, rounded.
fn tenths(ns: u64) -> String {
    let tenths = ns / 100_000_000 + u64::from(ns % 100_000_000 >= 50_000_000);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// `a{it}` in the daemon's order.
#[derive(Debug, Default)]
struct MemoryStats(Vec<(i32, u64)>);

impl Type for MemoryStats {
    const SIGNATURE: &'static Signature = <std::collections::HashMap<i32, u64>>::SIGNATURE;
}

impl<'de> Deserialize<'de> for MemoryStats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ordered;
        impl<'de> Visitor<'de> for Ordered {
            type Value = MemoryStats;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a dictionary of numbers")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<MemoryStats, M::Error> {
                let mut stats = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    stats.push(pair);
                }
                Ok(MemoryStats(stats))
            }
        }
        deserializer.deserialize_map(Ordered)
    }
}

/// `domus dommemstat`
pub async fn dommemstat(session: &Session, args: &MemstatArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    if let Some(period) = args.period {
        if period < 0 {
            return Err(Failure::new(format!("Invalid collection period value '{period}'")));
        }
        let flags = if args.live { affect::LIVE } else { 0 } | if args.config { affect::CONFIG } else { 0 };
        let set: Result<(), CallError> =
            session.client.call(&domain.path, DOMAIN, "SetMemoryStatsPeriod", &(period, flags)).await;
        set.context(|| "Unable to change balloon collection period.".to_owned())?;
        session.out.show(&domain.json_with("period", period), "");
        return Ok(());
    }
    let stats: Result<MemoryStats, CallError> =
        session.client.call(&domain.path, DOMAIN, "MemoryStats", &(0u32,)).await;
    let stats = stats.context(|| format!("Failed to get memory statistics for domain {}", domain.name))?;
    let mut text = String::new();
    let mut members = Map::new();
    for (tag, value) in stats.0 {
        let name = words::word(&words::MEMORY_STATS, tag, "");
        if !name.is_empty() {
            let _ = writeln!(text, "{name} {value}");
            members.insert(name.to_owned(), Value::from(value));
        }
    }
    session.out.show(&domain.json_with("memory", members), &text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_rounded_to_tenths() {
        assert_eq!(tenths(1_250_000_000), "1.3");
        assert_eq!(tenths(49_999_999), "0.0");
        assert_eq!(tenths(59_990_000_000), "60.0");
    }
}
