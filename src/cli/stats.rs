//! `domstats`: statistics of some or all domains, in virsh's text form.

use std::fmt::Write;

use clap::Args;
use futures_util::future::{join_all, try_join_all};
use serde_json::{Value, json};

use super::client::CallError;
use super::domains::{By, CONNECT, DOMAIN, Driver, Session};
use super::output::Failure;
use super::params::{self, Params};
use super::words::LIST_STATES;
use crate::types::flags::{all_stats, list, stats};

/// Options of `domstats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// The domain's state
    #[arg(long)]
    state: bool,
    /// CPU time used
    #[arg(long)]
    cpu_total: bool,
    /// Memory balloon
    #[arg(long)]
    balloon: bool,
    /// Virtual CPUs
    #[arg(long)]
    vcpu: bool,
    /// Network interfaces
    #[arg(long)]
    interface: bool,
    /// Block devices
    #[arg(long)]
    block: bool,
    /// perf events
    #[arg(long)]
    perf: bool,
    /// I/O threads
    #[arg(long)]
    iothread: bool,
    /// Memory bandwidth
    #[arg(long)]
    memory: bool,
    /// Dirty page rate
    #[arg(long)]
    dirtyrate: bool,
    /// The hypervisor's own statistics
    #[arg(long)]
    vm: bool,
    /// Only active domains
    #[arg(long)]
    list_active: bool,
    /// Only inactive domains
    #[arg(long)]
    list_inactive: bool,
    /// Only persistent domains
    #[arg(long)]
    list_persistent: bool,
    /// Only transient domains
    #[arg(long)]
    list_transient: bool,
    /// Only running domains
    #[arg(long)]
    list_running: bool,
    /// Only paused domains
    #[arg(long)]
    list_paused: bool,
    /// Only domains that are shut off
    #[arg(long)]
    list_shutoff: bool,
    /// Only domains in other states
    #[arg(long)]
    list_other: bool,
    /// Print numbers as they are (they always are)
    #[arg(long)]
    raw: bool,
    /// Fail when a wanted group is not supported
    #[arg(long)]
    enforce: bool,
    /// Also the backing chains of block devices
    #[arg(long)]
    backing: bool,
    /// Only what can be had without waiting
    #[arg(long)]
    nowait: bool,
    /// These domains only (name, id or UUID)
    #[arg(value_name = "DOMAIN")]
    domains: Vec<String>,
    #[arg(long = "domain", value_name = "DOMAIN", hide = true)]
    more: Vec<String>,
}

impl StatsArgs {
    fn groups(&self) -> u32 {
        let wanted = [
            (self.state, stats::STATE),
            (self.cpu_total, stats::CPU_TOTAL),
            (self.balloon, stats::BALLOON),
            (self.vcpu, stats::VCPU),
            (self.interface, stats::INTERFACE),
            (self.block, stats::BLOCK),
            (self.perf, stats::PERF),
            (self.iothread, stats::IOTHREAD),
            (self.memory, stats::MEMORY),
            (self.dirtyrate, stats::DIRTYRATE),
            (self.vm, stats::VM),
        ];
        wanted.iter().filter(|(on, _)| *on).fold(0, |groups, (_, bit)| groups | bit)
    }

    fn flags(&self) -> u32 {
        let wanted = [
            (self.list_active, list::ACTIVE),
            (self.list_inactive, list::INACTIVE),
            (self.list_persistent, list::PERSISTENT),
            (self.list_transient, list::TRANSIENT),
            (self.list_running, list::RUNNING),
            (self.list_paused, list::PAUSED),
            (self.list_shutoff, list::SHUTOFF),
            (self.list_other, list::OTHER),
            (self.enforce, all_stats::ENFORCE),
            (self.backing, all_stats::BACKING),
            (self.nowait, all_stats::NOWAIT),
        ];
        wanted.iter().filter(|(on, _)| *on).fold(0, |flags, (_, bit)| flags | bit)
    }
}

/// `domus domstats`
pub async fn domstats(session: &Session, args: &StatsArgs) -> Result<(), Failure> {
    let (groups, flags) = (args.groups(), args.flags());
    let given: Vec<&String> = args.domains.iter().chain(&args.more).collect();
    let records = if given.is_empty() {
        all(session, groups, flags).await?
    } else {
        some(session, &given, groups, flags).await?
    };
    let mut text = String::new();
    let mut values = Vec::new();
    for (index, (driver, name, params)) in records.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        let _ = writeln!(text, "Domain: '{name}'");
        for (field, value) in &params.0.0 {
            let _ = writeln!(text, "  {field}={}", params::text(value));
        }
        values.push(json!({ "driver": driver.name(), "name": name, "stats": params.json() }));
    }
    session.out.show(&Value::from(values), &text);
    Ok(())
}

type Record = (Driver, String, Params);

async fn all(session: &Session, groups: u32, flags: u32) -> Result<Vec<Record>, Failure> {
    let drivers = session.drivers().await?;
    let several = drivers.len() > 1;
    let ask = |driver: Driver| async move {
        match session.client.call(driver.path(), CONNECT, "GetAllDomainStats", &(groups, flags)).await {
            Ok::<Vec<(String, Params)>, _>(records) => {
                Ok(records.into_iter().map(|(name, params)| (driver, name, params)).collect::<Vec<Record>>())
            }
            // One driver that cannot count does not hide the others.
            Err(error) if several && error.is_unknown() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    };
    let records: Vec<Vec<Record>> = try_join_all(drivers.into_iter().map(ask)).await?;
    Ok(records.into_iter().flatten().collect())
}

async fn some(session: &Session, given: &[&String], groups: u32, flags: u32) -> Result<Vec<Record>, Failure> {
    if flags & LIST_STATES != 0 {
        return Err(Failure::new("--list-* options choose domains; name the domains or choose them, not both"));
    }
    let mut domains = Vec::new();
    for domain in join_all(given.iter().map(|given| session.domain(given, By::ANY))).await {
        domains.push(domain?);
    }
    let ask = |domain: super::domains::Domain| async move {
        let params: Result<Params, CallError> =
            session.client.call(&domain.path, DOMAIN, "GetStats", &(groups, flags)).await;
        params.map(|params| (domain.driver, domain.name, params))
    };
    Ok(try_join_all(domains.into_iter().map(ask)).await?)
}
