//! Counters of one disk or one interface of a running guest, from its statistics.

use super::{call, check_flags};
use crate::engine::Domain;
use crate::error::{Error, Result};
use crate::types::flags::stats;
use crate::types::{MacAddr, ParamValue, TypedParams};

/// Arguments of `virDomainBlockStatsFlags`.
#[derive(Clone, Debug)]
pub struct BlockStatsArgs {
    /// Target (`vda`) or source of the disk; empty = the sum of all.
    pub disk: String,
    pub flags: u32,
}

/// `virDomainInterfaceStatsStruct`, as the guest sees it; -1 = not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    pub rx_bytes: i64,
    pub rx_packets: i64,
    pub rx_errs: i64,
    pub rx_drop: i64,
    pub tx_bytes: i64,
    pub tx_packets: i64,
    pub tx_errs: i64,
    pub tx_drop: i64,
}

/// Names of `virDomainBlockStatsFlags`, and of the statistics they come from.
const BLOCK: [(&str, &str); 8] = [
    ("wr_bytes", "wr.bytes"),
    ("wr_operations", "wr.reqs"),
    ("rd_bytes", "rd.bytes"),
    ("rd_operations", "rd.reqs"),
    ("flush_operations", "fl.reqs"),
    ("wr_total_times", "wr.times"),
    ("rd_total_times", "rd.times"),
    ("flush_total_times", "fl.times"),
];

async fn group(on: &Domain, group: u32) -> Result<TypedParams> {
    match &on.snapshot().instance {
        Some(instance) => Ok(instance.stats(group, false).await),
        None => Err(Error::invalid_state("domain is not running")),
    }
}

fn text<'p>(params: &'p TypedParams, name: &str) -> Option<&'p str> {
    match params.get(name) {
        Some(ParamValue::Str(value)) => Some(value),
        _ => None,
    }
}

fn number(params: &TypedParams, name: &str) -> Option<i64> {
    match params.get(name) {
        Some(ParamValue::Ullong(value)) => i64::try_from(*value).ok(),
        _ => None,
    }
}

/// How many devices the group `prefix` has.
fn count(params: &TypedParams, prefix: &str) -> u32 {
    match params.get(&format!("{prefix}.count")) {
        Some(ParamValue::Uint(count)) => *count,
        _ => 0,
    }
}

call! {
    /// Requests, bytes and times (ns) of one disk, or of all of them together.
    BlockStats = "virDomainBlockStatsFlags", Read, "domain:read";
    (caller, on: Domain, BlockStatsArgs { disk, flags } => BlockStatsArgs) -> TypedParams {
        check_flags(on, flags, 4, "virDomainBlockStatsFlags")?;
        let all = group(on, stats::BLOCK).await?;
        let wanted: Vec<u32> = (0..count(&all, "block"))
            .filter(|at| {
                let is = |field: &str| text(&all, &format!("block.{at}.{field}")) == Some(&disk);
                disk.is_empty() || is("name") || is("path")
            })
            .collect();
        if wanted.is_empty() {
            return Err(Error::invalid_arg(format!("invalid path: {disk}")));
        }
        let mut params = TypedParams::new();
        for (name, field) in BLOCK {
            let values: Vec<i64> =
                wanted.iter().filter_map(|at| number(&all, &format!("block.{at}.{field}"))).collect();
            if !values.is_empty() {
                params.llong(name, values.iter().sum());
            }
        }
        Ok(params)
    }
}

call! {
    /// Counters of one interface, named by its host side device or its MAC address.
    InterfaceStats = "virDomainInterfaceStats", Read, "domain:read";
    (caller, on: Domain, device => String) -> InterfaceCounters {
        let snapshot = on.snapshot();
        let all = group(on, stats::INTERFACE).await?;
        let unknown = || Error::invalid_arg(format!("'{device}' is not a known interface"));
        let mac = device.parse::<MacAddr>().ok();
        let by_mac = snapshot.current().and_then(|def| {
            let interface = def.interfaces.iter().find(|interface| mac.is_some() && interface.mac == mac)?;
            interface.target.dev.clone()
        });
        let name = by_mac.unwrap_or_else(|| device.clone());
        let at = (0..count(&all, "net"))
            .find(|at| text(&all, &format!("net.{at}.name")) == Some(&name))
            .ok_or_else(unknown)?;
        let value = |field: &str| number(&all, &format!("net.{at}.{field}")).unwrap_or(-1);
        Ok(InterfaceCounters {
            rx_bytes: value("rx.bytes"),
            rx_packets: value("rx.pkts"),
            rx_errs: value("rx.errs"),
            rx_drop: value("rx.drop"),
            tx_bytes: value("tx.bytes"),
            tx_packets: value("tx.pkts"),
            tx_errs: value("tx.errs"),
            tx_drop: value("tx.drop"),
        })
    }
}
