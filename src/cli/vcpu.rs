//! Virtual CPUs and where they run: setvcpus, vcpucount, vcpuinfo, vcpupin, emulatorpin.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};

use super::args::DomainArg;
use super::client::CallError;
use super::domains::{By, CONNECT, DOMAIN, DOMUS_DOMAIN, Domain, Session};
use super::output::{Failure, Table};
use super::tune::Affect;
use super::{lifecycle, words};
use crate::types::flags::{affect, vcpu};

/// Options of `setvcpus`.
#[derive(Debug, Args)]
pub struct SetvcpusArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// How many
    count: u32,
    /// Set the maximum, from the next boot on
    #[arg(long, requires = "config")]
    maximum: bool,
    /// Change the state of the CPUs inside the guest
    #[arg(long)]
    guest: bool,
    /// Added CPUs can be taken away again
    #[arg(long)]
    hotpluggable: bool,
    #[command(flatten)]
    affect: Affect,
}

/// Options of `vcpucount`.
#[derive(Debug, Args)]
pub struct VcpucountArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Only the maximum
    #[arg(long, conflicts_with = "active")]
    maximum: bool,
    /// Only how many are on
    #[arg(long)]
    active: bool,
    /// What the guest says
    #[arg(long)]
    guest: bool,
    #[command(flatten)]
    affect: Affect,
}

/// Options of `vcpuinfo`.
#[derive(Debug, Args)]
pub struct VcpuinfoArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Show the host CPUs as ranges
    #[arg(long)]
    pretty: bool,
}

/// Options of `vcpupin`.
#[derive(Debug, Args)]
pub struct VcpupinArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Number of the virtual CPU
    #[arg(value_name = "VCPU")]
    number: Option<u32>,
    /// Host CPUs it may use, as 0-3,^2; r for all
    #[arg(value_name = "CPULIST")]
    list: Option<String>,
    #[arg(long = "vcpu", hide = true, conflicts_with = "number")]
    vcpu: Option<u32>,
    #[arg(long = "cpulist", hide = true, conflicts_with = "list")]
    cpulist: Option<String>,
    #[command(flatten)]
    affect: Affect,
}

/// Options of `emulatorpin`.
#[derive(Debug, Args)]
pub struct EmulatorpinArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Host CPUs the emulator may use, as 0-3,^2; r for all
    #[arg(value_name = "CPULIST")]
    list: Option<String>,
    #[arg(long = "cpulist", hide = true, conflicts_with = "list")]
    cpulist: Option<String>,
    #[command(flatten)]
    affect: Affect,
}

/// `domus setvcpus`
pub async fn setvcpus(session: &Session, args: &SetvcpusArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let mut flags = if args.maximum || args.guest { args.affect.flags() } else { args.affect.flags_or_live() };
    for (on, bit) in [(args.maximum, vcpu::MAXIMUM), (args.guest, vcpu::GUEST), (args.hotpluggable, vcpu::HOTPLUGGABLE)]
    {
        flags |= if on { bit } else { 0 };
    }
    let set: Result<(), CallError> = session.client.call(&domain.path, DOMAIN, "SetVcpus", &(args.count, flags)).await;
    set?;
    session.out.show(&domain.json_with("vcpus", args.count), "");
    Ok(())
}

async fn count(session: &Session, domain: &Domain, flags: u32) -> Result<u32, CallError> {
    session.client.call(&domain.path, DOMAIN, "GetVcpus", &(flags,)).await
}

/// `domus vcpucount`
pub async fn vcpucount(session: &Session, args: &VcpucountArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    if args.maximum || args.active || args.guest || args.affect.flags() != 0 || args.affect.current {
        let mut flags = args.affect.flags();
        flags |= if args.maximum { vcpu::MAXIMUM } else { 0 } | if args.guest { vcpu::GUEST } else { 0 };
        let count = count(session, &domain, flags).await?;
        session.out.show(&domain.json_with("vcpus", count), &format!("{count}\n"));
        return Ok(());
    }
    let active = lifecycle::is_active(session, &domain).await?;
    let persistent = session.properties(&domain.path).await?.flag("Persistent") == Some(true);
    let mut lines = String::new();
    let mut rows = Vec::new();
    for (what, bit) in [("maximum", vcpu::MAXIMUM), ("current", 0)] {
        for (where_, flag, there) in [("config", affect::CONFIG, persistent), ("live", affect::LIVE, active)] {
            if there {
                let count = count(session, &domain, bit | flag).await?;
                let _ = writeln!(lines, "{what:<12} {where_:<12} {count:>3}");
                rows.push(json!({ "what": what, "of": where_, "vcpus": count }));
            }
        }
    }
    session.out.show(&domain.json_with("counts", Value::from(rows)), &lines);
    Ok(())
}

/// A map as virsh prints it: one letter per host CPU, or ranges.
fn affinity(map: &[bool], pretty: bool) -> String {
    if pretty {
        return format!("{} (out of {})", ranges(map), map.len());
    }
    map.iter().map(|on| if *on { 'y' } else { '-' }).collect()
}

fn ranges(map: &[bool]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut at = 0;
    while at < map.len() {
        if !map[at] {
            at += 1;
            continue;
        }
        let end = map[at..].iter().take_while(|on| **on).count() + at - 1;
        parts.push(if end == at { at.to_string() } else { format!("{at}-{end}") });
        at = end + 1;
    }
    parts.join(",")
}

/// The map of a list such as `0-3,^2`, or `r` for all.
fn parse_map(list: &str, count: usize) -> Result<Vec<bool>, Failure> {
    let bad = || Failure::new(format!("Invalid cpulist '{list}'"));
    if list == "r" {
        return Ok(vec![true; count]);
    }
    let mut map = vec![false; count];
    for part in list.split(',') {
        let (part, on) = part.strip_prefix('^').map_or((part, true), |rest| (rest, false));
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) =
            (first.trim().parse().map_err(|_| bad())?, last.trim().parse().map_err(|_| bad())?);
        if first > last || last >= count {
            return Err(bad());
        }
        map[first..=last].fill(on);
    }
    Ok(map)
}

async fn host_cpus(session: &Session, domain: &Domain) -> Result<usize, CallError> {
    let map: Vec<bool> = session.client.call(domain.driver.path(), CONNECT, "NodeGetCPUMap", &(0u32,)).await?;
    Ok(map.len())
}

/// `domus vcpuinfo`
pub async fn vcpuinfo(session: &Session, args: &VcpuinfoArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let mut text = String::new();
    let mut rows = Vec::new();
    if !lifecycle::is_active(session, &domain).await? {
        let maps: Vec<Vec<bool>> =
            session.client.call(&domain.path, DOMAIN, "GetVcpuPinInfo", &(affect::CONFIG,)).await?;
        for (number, map) in maps.iter().enumerate() {
            text.push_str(if number == 0 { "" } else { "\n" });
            let _ = writeln!(text, "{:<15} {number}\n{:<15} N/A\n{:<15} N/A", "VCPU:", "CPU:", "State:");
            let _ = writeln!(text, "{:<15} N/A\n{:<15} {}", "CPU time", "CPU Affinity:", affinity(map, args.pretty));
            rows.push(json!({ "vcpu": number, "affinity": ranges(map) }));
        }
    } else {
        type Row = (u32, i32, u64, i32, Vec<bool>);
        let vcpus: Vec<Row> = session.client.call(&domain.path, DOMUS_DOMAIN, "GetVcpuInfo", &()).await?;
        const STATES: [&str; 3] = ["offline", "running", "blocked"];
        for (at, (number, state, time, cpu, map)) in vcpus.iter().enumerate() {
            text.push_str(if at == 0 { "" } else { "\n" });
            let state = words::word(&STATES, *state, "no state");
            let _ = writeln!(text, "{:<15} {number}\n{:<15} {cpu}\n{:<15} {state}", "VCPU:", "CPU:", "State:");
            let _ = writeln!(text, "{:<15} {:.1}s", "CPU time:", *time as f64 / 1e9);
            let _ = writeln!(text, "{:<15} {}", "CPU Affinity:", affinity(map, args.pretty));
            rows.push(json!({
                "vcpu": number, "cpu": cpu, "state": state, "cpu-time-ns": time, "affinity": ranges(map),
            }));
        }
    }
    session.out.show(&domain.json_with("vcpus", Value::from(rows)), &text);
    Ok(())
}

/// `domus vcpupin`
pub async fn vcpupin(session: &Session, args: &VcpupinArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let (number, list) = (args.number.or(args.vcpu), args.list.as_ref().or(args.cpulist.as_ref()));
    let flags = args.affect.flags();
    let Some(list) = list else {
        let maps: Vec<Vec<bool>> = session.client.call(&domain.path, DOMAIN, "GetVcpuPinInfo", &(flags,)).await?;
        if let Some(number) = number.filter(|number| *number as usize >= maps.len()) {
            return Err(Failure::new(format!("vcpu {number} is out of range of cpu count {}", maps.len())));
        }
        let mut table = Table::new(&["VCPU", "CPU Affinity"]);
        let mut rows = Vec::new();
        for (at, map) in maps.iter().enumerate().filter(|(at, _)| number.is_none_or(|number| number as usize == *at)) {
            table.row(vec![at.to_string(), ranges(map)]);
            rows.push(json!({ "vcpu": at, "affinity": ranges(map) }));
        }
        session.out.show(&domain.json_with("vcpus", Value::from(rows)), &table.text(session.out.quiet));
        return Ok(());
    };
    let Some(number) = number else {
        return Err(Failure::new("vcpupin: Missing vCPU number in pin mode."));
    };
    let map = parse_map(list, host_cpus(session, &domain).await?)?;
    let pinned: Result<(), CallError> =
        session.client.call(&domain.path, DOMAIN, "PinVcpu", &(number, map, flags)).await;
    pinned?;
    session.out.show(&domain.json_with("vcpu", number), "");
    Ok(())
}

/// `domus emulatorpin`
pub async fn emulatorpin(session: &Session, args: &EmulatorpinArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let flags = args.affect.flags();
    let Some(list) = args.list.as_ref().or(args.cpulist.as_ref()) else {
        let map: Vec<bool> = session.client.call(&domain.path, DOMAIN, "GetEmulatorPinInfo", &(flags,)).await?;
        let mut text = String::new();
        let _ = writeln!(text, "emulator: CPU Affinity\n----------------------------------");
        let _ = writeln!(text, "       *: {}", ranges(&map));
        session.out.show(&domain.json_with("affinity", ranges(&map)), &text);
        return Ok(());
    };
    let map = parse_map(list, host_cpus(session, &domain).await?)?;
    let pinned: Result<(), CallError> =
        session.client.call(&domain.path, DOMAIN, "PinEmulator", &(map.clone(), flags)).await;
    pinned?;
    session.out.show(&domain.json_with("affinity", ranges(&map)), "");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_virshs() {
        let map = parse_map("0-3,^2", 8).unwrap();
        assert_eq!((affinity(&map, false).as_str(), ranges(&map).as_str()), ("yy-y----", "0-1,3"));
        assert_eq!(affinity(&map, true), "0-1,3 (out of 8)");
        assert_eq!(parse_map("r", 2).unwrap(), [true, true]);
        for bad in ["", "8", "3-1", "x"] {
            assert!(parse_map(bad, 8).is_err(), "{bad:?}");
        }
    }
}
