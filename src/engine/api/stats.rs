//! Statistics. Never take a job; a guest that does not answer costs at most its driver's deadline.

use super::{call, check_flags};
use crate::engine::{Connection, Domain};
use crate::error::{Error, Result};
use crate::types::flags::{self, all_stats, stats};
use crate::types::{ParamValue, TypedParams};

/// Arguments of `virConnectGetAllDomainStats`.
#[derive(Clone, Debug)]
pub struct AllStatsArgs {
    /// `virDomainStatsTypes`; 0 = all that exist.
    pub stats: u32,
    pub flags: u32,
    /// Only these; `None` = all of the connection that match `flags`.
    pub domains: Option<Vec<Domain>>,
}

/// Arguments of `virDomainListGetStats` for one domain.
#[derive(Clone, Copy, Debug)]
pub struct StatsArgs {
    pub stats: u32,
    pub flags: u32,
}

fn groups(asked: u32, flags: u32) -> Result<u32> {
    if asked & !stats::ALL != 0 && flags & all_stats::ENFORCE != 0 {
        return Err(Error::new(
            crate::error::Code::ArgumentUnsupported,
            format!("Stats types bits 0x{:x} are not supported by this daemon", asked & !stats::ALL),
        ));
    }
    Ok(if asked == 0 { stats::ALL } else { asked & stats::ALL })
}

async fn collect(domain: &Domain, groups: u32, flags: u32) -> TypedParams {
    let snapshot = domain.snapshot();
    let mut params = TypedParams::new();
    if groups & stats::STATE != 0 {
        let state = snapshot.state();
        params.int("state.state", state.state as i32);
        params.int("state.reason", state.reason);
    }
    match &snapshot.instance {
        Some(instance) => {
            let nowait = flags & all_stats::NOWAIT != 0;
            params.extend(instance.stats(groups & !stats::STATE, nowait).await);
        }
        None => configured(&snapshot, groups, &mut params),
    }
    params
}

/// What libvirt says of a domain that does not run.
fn configured(snapshot: &crate::engine::domain::Snapshot, groups: u32, params: &mut TypedParams) {
    let Some(def) = snapshot.current() else { return };
    if groups & stats::BALLOON != 0 {
        params.push("balloon.maximum", ParamValue::Ullong(def.memory.size));
    }
    if groups & stats::VCPU != 0 {
        params.uint("vcpu.current", super::info::vcpus(def));
        params.uint("vcpu.maximum", def.vcpu.max);
    }
    if groups & stats::BLOCK != 0 {
        let disks: Vec<_> = def.disks.iter().collect();
        params.uint("block.count", u32::try_from(disks.len()).unwrap_or(u32::MAX));
        for (at, disk) in disks.iter().enumerate() {
            params.string(format!("block.{at}.name"), disk.target.dev.clone().unwrap_or_default());
            if let Some(path) = disk.source.path.clone() {
                params.string(format!("block.{at}.path"), path);
            }
        }
    }
}

call! {
    /// Statistics of many domains.
    GetAllDomainStats = "virConnectGetAllDomainStats", Read, "connect:search_domains" only "domain:read";
    (caller, on: Connection, args => AllStatsArgs) -> Vec<(Domain, TypedParams)> {
        let AllStatsArgs { stats, flags, domains } = args;
        let list_flags = (flags::list::NO_CHECKPOINT << 1) - 1;
        let known = list_flags | all_stats::NOWAIT | all_stats::BACKING | all_stats::ENFORCE;
        check_flags(on, flags, known, "virConnectGetAllDomainStats")?;
        let groups = groups(stats, flags)?;
        let domains = domains.unwrap_or_else(|| on.domains());
        let wanted = domains.into_iter().filter(|domain| domain.snapshot().matches(flags & list_flags)).collect();
        let wanted = caller.permit::<Self>().visible(wanted).await?;
        // All at once: one guest that hangs must not add its deadline to every other's.
        let all = wanted.into_iter().map(|domain| async move {
            let params = collect(&domain, groups, flags).await;
            (domain, params)
        });
        Ok(futures_util::future::join_all(all).await)
    }
}

call! {
    /// Statistics of one domain.
    GetStats = "virDomainListGetStats", Read, "domain:read";
    (caller, on: Domain, StatsArgs { stats, flags } => StatsArgs) -> TypedParams {
        let known = all_stats::NOWAIT | all_stats::BACKING | all_stats::ENFORCE;
        check_flags(on, flags, known, "virDomainListGetStats")?;
        let groups = groups(stats, flags)?;
        Ok(collect(on, groups, flags).await)
    }
}

call! {
    /// Balloon statistics: (`virDomainMemoryStatTags`, KiB or count).
    MemoryStats = "virDomainMemoryStats", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> Vec<(i32, u64)> {
        check_flags(on, flags, 0, "virDomainMemoryStats")?;
        match &on.snapshot().instance {
            Some(instance) => instance.memory_stats().await,
            None => Err(Error::invalid_state("domain is not running")),
        }
    }
}
