//! Limits of domains: setmem, setmaxmem, memtune, schedinfo, blkiotune, numatune.

use std::collections::HashMap;
use std::fmt::Write;

use clap::Args;
use serde_json::Value;
use zbus::Variant;

use super::args::DomainArg;
use super::client::CallError;
use super::domains::{By, DOMAIN, Domain, Session};
use super::output::{Context, Failure};
use super::params::{Params, text};
use crate::types::flags::{affect, memory};
use crate::types::size::to_kib;
use crate::types::{ParamValue, TypedParams};

/// libvirt's number for "no limit", KiB.
const UNLIMITED: u64 = 9_007_199_254_740_991;

/// Which of the domain's two definitions a command is about.
#[derive(Clone, Copy, Debug, Args)]
pub struct Affect {
    /// In the definition: from the next boot on
    #[arg(long)]
    pub config: bool,
    /// In the running domain
    #[arg(long)]
    pub live: bool,
    /// Whichever the domain is in
    #[arg(long, conflicts_with_all = ["live", "config"])]
    pub current: bool,
}

impl Affect {
    /// `virDomainModificationImpact`.
    pub fn flags(self) -> u32 {
        let live = if self.live { affect::LIVE } else { 0 };
        live | if self.config { affect::CONFIG } else { 0 }
    }

    /// As [`Affect::flags`], of calls for which no option means the running domain.
    pub fn flags_or_live(self) -> u32 {
        if self.flags() == 0 && !self.current { affect::LIVE } else { self.flags() }
    }
}

/// Options of `setmem` and `setmaxmem`.
#[derive(Debug, Args)]
pub struct SizeArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// New size, KiB unless it has a suffix (1G, 512MiB)
    #[arg(value_name = "SIZE", value_parser = kib)]
    size: u64,
    #[command(flatten)]
    affect: Affect,
}

/// Options of `memtune`.
#[derive(Debug, Args)]
pub struct MemtuneArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Most memory it may use, KiB unless it has a suffix; -1 for no limit
    #[arg(long, value_name = "SIZE", value_parser = limit, allow_negative_numbers = true)]
    hard_limit: Option<u64>,
    /// Memory it is held to when the host runs short
    #[arg(long, value_name = "SIZE", value_parser = limit, allow_negative_numbers = true)]
    soft_limit: Option<u64>,
    /// Most memory and swap together
    #[arg(long, value_name = "SIZE", value_parser = limit, allow_negative_numbers = true)]
    swap_hard_limit: Option<u64>,
    /// Memory it gets in any case
    #[arg(long, value_name = "SIZE", value_parser = limit, allow_negative_numbers = true)]
    min_guarantee: Option<u64>,
    #[command(flatten)]
    affect: Affect,
}

/// Options of `schedinfo`.
#[derive(Debug, Args)]
pub struct SchedinfoArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Parameters to set
    #[arg(value_name = "NAME=VALUE", allow_negative_numbers = true)]
    words: Vec<String>,
    /// A parameter to set
    #[arg(long, value_name = "NAME=VALUE", num_args = 1.., allow_negative_numbers = true)]
    set: Vec<String>,
    /// Shorthand for weight=N
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// Shorthand for cap=N
    #[arg(long, value_name = "N")]
    cap: Option<u32>,
    #[command(flatten)]
    affect: Affect,
}

/// Options of `blkiotune`.
#[derive(Debug, Args)]
pub struct BlkiotuneArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Relative I/O weight, 10 to 1000
    #[arg(long)]
    weight: Option<u32>,
    /// Weights of devices, as /dev/sda,500,/dev/sdb,0
    #[arg(long, value_name = "LIST")]
    device_weights: Option<String>,
    /// Reads per second of devices
    #[arg(long, value_name = "LIST")]
    device_read_iops_sec: Option<String>,
    /// Writes per second of devices
    #[arg(long, value_name = "LIST")]
    device_write_iops_sec: Option<String>,
    /// Bytes read per second of devices
    #[arg(long, value_name = "LIST")]
    device_read_bytes_sec: Option<String>,
    /// Bytes written per second of devices
    #[arg(long, value_name = "LIST")]
    device_write_bytes_sec: Option<String>,
    #[command(flatten)]
    affect: Affect,
}

/// Options of `numatune`.
#[derive(Debug, Args)]
pub struct NumatuneArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// strict, preferred, interleave, restrictive, or its number
    #[arg(long, value_parser = numa_mode)]
    mode: Option<i32>,
    /// Memory nodes, as 0-1,^3
    #[arg(long, value_name = "LIST")]
    nodeset: Option<String>,
    #[command(flatten)]
    affect: Affect,
}

/// A scaled integer, KiB unless it says otherwise.
fn kib(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number = number.parse::<u64>().ok();
    number
        .and_then(|number| to_kib(number, unit))
        .ok_or_else(|| format!("Scaled numeric value '{text}' for <size> option is malformed or out of range"))
}

fn limit(text: &str) -> Result<u64, String> {
    if text == "-1" { Ok(UNLIMITED) } else { kib(text).map(|kib| kib.min(UNLIMITED)) }
}

const NUMA_MODES: [&str; 4] = ["strict", "preferred", "interleave", "restrictive"];

fn numa_mode(text: &str) -> Result<i32, String> {
    let position = NUMA_MODES.iter().position(|mode| *mode == text).and_then(|at| i32::try_from(at).ok());
    position.or_else(|| text.parse().ok()).ok_or_else(|| format!("Invalid mode: {text}"))
}

async fn set_size(session: &Session, domain: &Domain, size: u64, flags: u32) -> Result<(), Failure> {
    let set: Result<(), CallError> = session.client.call(&domain.path, DOMAIN, "SetMemory", &(size, flags)).await;
    set?;
    session.out.show(&domain.json_with("memory-kib", size), "");
    Ok(())
}

/// `domus setmem`
pub async fn setmem(session: &Session, args: &SizeArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    set_size(session, &domain, args.size, args.affect.flags_or_live()).await
}

/// `domus setmaxmem`
pub async fn setmaxmem(session: &Session, args: &SizeArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let set = set_size(session, &domain, args.size, args.affect.flags() | memory::MAXIMUM).await;
    set.context(|| "Unable to change MaxMemorySize".to_owned())
}

/// Typed parameters as a method's argument.
fn argument(params: &TypedParams) -> HashMap<&str, Variant<'_>> {
    let variant = |value: &ParamValue| match value {
        ParamValue::Int(value) => Variant::I32(*value),
        ParamValue::Uint(value) => Variant::U32(*value),
        ParamValue::Llong(value) => Variant::I64(*value),
        ParamValue::Ullong(value) => Variant::U64(*value),
        ParamValue::Double(value) => Variant::F64(*value),
        ParamValue::Bool(value) => Variant::Bool(*value),
        ParamValue::Str(value) => Variant::from(value.clone()),
    };
    params.0.iter().map(|(name, value)| (name.as_str(), variant(value))).collect()
}

/// One kind of parameters: the members that get and set it, and virsh's words for a failure.
struct Kind {
    get: &'static str,
    set: &'static str,
    cannot_get: &'static str,
    cannot_set: &'static str,
}

impl Kind {
    async fn set(&self, session: &Session, domain: &Domain, params: &TypedParams, flags: u32) -> Result<(), Failure> {
        let set: Result<(), CallError> =
            session.client.call(&domain.path, DOMAIN, self.set, &(argument(params), flags)).await;
        set.context(|| self.cannot_set.to_owned())
    }

    async fn get(&self, session: &Session, domain: &Domain, flags: u32) -> Result<Params, Failure> {
        let got: Result<Params, CallError> = session.client.call(&domain.path, DOMAIN, self.get, &(flags,)).await;
        got.context(|| self.cannot_get.to_owned())
    }

    /// Sets what there is, else shows what is set.
    async fn run(
        &self,
        session: &Session,
        domain: &Domain,
        params: &TypedParams,
        affect: Affect,
        word: fn(&str, &ParamValue) -> String,
    ) -> Result<(), Failure> {
        if !params.0.is_empty() {
            self.set(session, domain, params, affect.flags()).await?;
            session.out.show(&domain.json_with("set", Params(params.clone()).json()), "");
            return Ok(());
        }
        let params = self.get(session, domain, affect.flags()).await?;
        let mut lines = String::new();
        for (name, value) in &params.0.0 {
            let _ = writeln!(lines, "{name:<15}: {}", word(name, value));
        }
        session.out.show(&domain.json_with("parameters", params.json()), &lines);
        Ok(())
    }
}

fn plain(_: &str, value: &ParamValue) -> String {
    text(value)
}

/// `domus memtune`
pub async fn memtune(session: &Session, args: &MemtuneArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let mut params = TypedParams::new();
    for (name, value) in [
        ("hard_limit", args.hard_limit),
        ("soft_limit", args.soft_limit),
        ("swap_hard_limit", args.swap_hard_limit),
        ("min_guarantee", args.min_guarantee),
    ] {
        if let Some(value) = value {
            params.ullong(name, value);
        }
    }
    let kind = Kind {
        get: "GetMemoryParameters",
        set: "SetMemoryParameters",
        cannot_get: "Unable to get memory parameters",
        cannot_set: "Unable to change memory parameters",
    };
    let word = |_: &str, value: &ParamValue| match value {
        ParamValue::Ullong(UNLIMITED) => "unlimited".to_owned(),
        value => text(value),
    };
    kind.run(session, &domain, &params, args.affect, word).await
}

/// `domus blkiotune`
pub async fn blkiotune(session: &Session, args: &BlkiotuneArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let mut params = TypedParams::new();
    if let Some(weight) = args.weight {
        params.uint("weight", weight);
    }
    for (name, value) in [
        ("device_weight", &args.device_weights),
        ("device_read_iops_sec", &args.device_read_iops_sec),
        ("device_write_iops_sec", &args.device_write_iops_sec),
        ("device_read_bytes_sec", &args.device_read_bytes_sec),
        ("device_write_bytes_sec", &args.device_write_bytes_sec),
    ] {
        if let Some(value) = value {
            params.string(name, value.as_str());
        }
    }
    let kind = Kind {
        get: "GetBlockIOParameters",
        set: "SetBlockIOParameters",
        cannot_get: "Unable to get blkio parameters",
        cannot_set: "Unable to change blkio parameters",
    };
    kind.run(session, &domain, &params, args.affect, plain).await
}

/// `domus numatune`
pub async fn numatune(session: &Session, args: &NumatuneArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let mut params = TypedParams::new();
    if let Some(mode) = args.mode {
        params.int("numa_mode", mode);
    }
    if let Some(nodes) = &args.nodeset {
        params.string("numa_nodeset", nodes.as_str());
    }
    let kind = Kind {
        get: "GetNumaParameters",
        set: "SetNumaParameters",
        cannot_get: "Unable to get numa parameters",
        cannot_set: "Unable to change numa parameters",
    };
    let word = |_: &str, value: &ParamValue| match value {
        ParamValue::Int(mode) => {
            let known = usize::try_from(*mode).ok().and_then(|mode| NUMA_MODES.get(mode));
            known.map_or_else(|| mode.to_string(), |word| (*word).to_owned())
        }
        value => text(value),
    };
    kind.run(session, &domain, &params, args.affect, word).await
}

/// `domus schedinfo`
pub async fn schedinfo(session: &Session, args: &SchedinfoArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let kind = Kind {
        get: "GetSchedulerParameters",
        set: "SetSchedulerParameters",
        cannot_get: "Unable to get scheduler parameters",
        cannot_set: "Unable to set scheduler parameters",
    };
    let scheduler = session.client.property(&domain.path, DOMAIN, "SchedulerType").await?;
    let (scheduler, _): (String, i32) = scheduler.try_into().unwrap_or_default();
    let mut params = kind.get(session, &domain, args.affect.flags()).await?;
    let mut wished: Vec<(String, String)> = Vec::new();
    for word in args.words.iter().chain(&args.set) {
        let (name, value) = word
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("Invalid syntax for --set, expecting name=value: '{word}'")))?;
        wished.push((name.to_owned(), value.to_owned()));
    }
    wished.extend(args.weight.map(|weight| ("weight".to_owned(), weight.to_string())));
    wished.extend(args.cap.map(|cap| ("cap".to_owned(), cap.to_string())));
    if !wished.is_empty() {
        // Types are the daemon's: a value takes that of the parameter as it is now.
        let mut new = TypedParams::new();
        for (name, value) in &wished {
            let Some(now) = params.0.get(name) else {
                return Err(Failure::new(format!("invalid scheduler option: {name}")));
            };
            new.push(name.clone(), typed(now, name, value)?);
        }
        kind.set(session, &domain, &new, args.affect.flags()).await?;
        params = kind.get(session, &domain, args.affect.flags()).await?;
    }
    let mut lines = format!("{:<15}: {scheduler}\n", "Scheduler");
    for (name, value) in &params.0.0 {
        let _ = writeln!(lines, "{name:<15}: {}", text(value));
    }
    let mut object = domain.json_with("parameters", params.json());
    object["scheduler"] = Value::from(scheduler);
    session.out.show(&object, &lines);
    Ok(())
}

/// `text` as a value of the type `like` has.
fn typed(like: &ParamValue, name: &str, text: &str) -> Result<ParamValue, Failure> {
    let value = match like {
        ParamValue::Int(_) => text.parse().map(ParamValue::Int).ok(),
        ParamValue::Uint(_) => text.parse().map(ParamValue::Uint).ok(),
        ParamValue::Llong(_) => text.parse().map(ParamValue::Llong).ok(),
        ParamValue::Ullong(_) => text.parse().map(ParamValue::Ullong).ok(),
        ParamValue::Double(_) => text.parse().map(ParamValue::Double).ok(),
        ParamValue::Bool(_) => text.parse().map(ParamValue::Bool).ok(),
        ParamValue::Str(_) => Some(ParamValue::Str(text.to_owned())),
    };
    value.ok_or_else(|| Failure::new(format!("Invalid value for field '{name}': '{text}' is no number it can be")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_kib_unless_they_say_otherwise() {
        assert_eq!(kib("1024").unwrap(), 1024);
        assert_eq!(kib("1G").unwrap(), 1 << 20);
        assert_eq!(kib("2MiB").unwrap(), 2048);
        assert!(kib("abc").is_err() && kib("").is_err() && kib("1q").is_err());
        assert_eq!(limit("-1").unwrap(), UNLIMITED);
    }

    #[test]
    fn modes_have_words_and_numbers() {
        assert_eq!(numa_mode("interleave"), Ok(2));
        assert_eq!(numa_mode("1"), Ok(1));
        assert!(numa_mode("x").is_err());
    }
}
