//! cpu and cpuacct.

use std::fs;
use std::path::Path;

use cgroups_rs::cpu::CpuController;

use super::{Stats, setting_failed};
use crate::error::Result;

/// Nanoseconds in a clock tick of cpuacct (USER_HZ is 100 on every architecture we run on).
const TICK_NS: u64 = 10_000_000;

pub(super) fn set_shares(dir: &Path, v2: bool, shares: u64) -> Result<()> {
    // v1 shares 2..262144 onto v2 weights 1..10000, as systemd and runc convert.
    let value = if v2 { 1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142 } else { shares };
    let controller = CpuController::new(dir.to_path_buf(), v2);
    controller.set_shares(value).map_err(|error| setting_failed(dir, "cpu shares", shares, error))
}

pub(super) fn set_quota(dir: &Path, v2: bool, quota: Option<i64>, period: Option<u64>) -> Result<()> {
    let controller = CpuController::new(dir.to_path_buf(), v2);
    controller
        .set_cfs_quota_and_period(quota, period)
        .map_err(|error| setting_failed(dir, "cpu quota and period", format!("{quota:?} and {period:?} us"), error))
}

/// libvirt's shares as set: v2 weights are converted back.
pub(super) fn shares(dir: &Path, v2: bool) -> Option<u64> {
    if !v2 {
        return number(dir, "cpu.shares");
    }
    // Rounded up: what was converted from shares converts back to the weight it was made from.
    number(dir, "cpu.weight").map(|weight| 2 + ((weight.max(1) - 1) * 262_142).div_ceil(9_999))
}

/// Quota (-1 is none) and period, microseconds.
pub(super) fn quota(dir: &Path, v2: bool) -> (Option<i64>, Option<u64>) {
    if !v2 {
        let quota = fs::read_to_string(dir.join("cpu.cfs_quota_us")).ok();
        return (quota.and_then(|text| text.trim().parse().ok()), number(dir, "cpu.cfs_period_us"));
    }
    let text = fs::read_to_string(dir.join("cpu.max")).unwrap_or_default();
    let mut words = text.split_whitespace();
    let quota = words.next().and_then(|word| if word == "max" { Some(-1) } else { word.parse().ok() });
    (quota, words.next().and_then(|word| word.parse().ok()))
}

fn number(dir: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
}

pub(super) fn read(dir: &Path, v2: bool, stats: &mut Stats) {
    if v2 {
        let text = fs::read_to_string(dir.join("cpu.stat")).unwrap_or_default();
        stats.cpu_total = field(&text, "usage_usec").map(|us| us * 1000);
        stats.cpu_user = field(&text, "user_usec").map(|us| us * 1000);
        stats.cpu_system = field(&text, "system_usec").map(|us| us * 1000);
    } else {
        let usage = fs::read_to_string(dir.join("cpuacct.usage")).unwrap_or_default();
        stats.cpu_total = usage.trim().parse().ok();
        let text = fs::read_to_string(dir.join("cpuacct.stat")).unwrap_or_default();
        stats.cpu_user = field(&text, "user").map(|ticks| ticks * TICK_NS);
        stats.cpu_system = field(&text, "system").map(|ticks| ticks * TICK_NS);
    }
}

/// Time used of each processor, ns.
pub(super) fn each(dir: &Path) -> Option<Vec<u64>> {
    let text = fs::read_to_string(dir.join("cpuacct.usage_percpu")).ok()?;
    text.split_whitespace().map(|number| number.parse().ok()).collect()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        assert_eq!(field("usage_usec 12\nuser_usec 7\n", "user_usec"), Some(7));
        assert_eq!(field("user 5\nsystem 6\n", "system"), Some(6));
        assert_eq!(field("", "system"), None);
    }
}
