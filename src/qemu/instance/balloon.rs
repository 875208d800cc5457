//! Balloon and guest memory statistics. Pure.

use serde_json::Value;

use crate::types::TypedParams;

/// What `qom-get guest-stats` says; KiB where it is a size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestMemory {
    pub swap_in: Option<u64>,
    pub swap_out: Option<u64>,
    pub major_faults: Option<u64>,
    pub minor_faults: Option<u64>,
    pub free: Option<u64>,
    pub total: Option<u64>,
    pub available: Option<u64>,
    pub disk_caches: Option<u64>,
    pub hugetlb_allocations: Option<u64>,
    pub hugetlb_failures: Option<u64>,
    /// Seconds since the epoch; 0 = the guest has told nothing yet.
    pub last_update: u64,
}

/// Reads the answer. A value the guest does not know is all ones.
pub fn guest_memory(answer: &Value) -> GuestMemory {
    let stat = |key: &str| {
        let value = answer.pointer(&format!("/stats/{key}"))?;
        // QEMU prints an unknown value as -1 or as 2^64 - 1, by version.
        value.as_u64().filter(|number| *number != u64::MAX)
    };
    let kib = |key: &str| stat(key).map(|bytes| bytes / 1024);
    GuestMemory {
        swap_in: kib("stat-swap-in"),
        swap_out: kib("stat-swap-out"),
        major_faults: stat("stat-major-faults"),
        minor_faults: stat("stat-minor-faults"),
        free: kib("stat-free-memory"),
        total: kib("stat-total-memory"),
        available: kib("stat-available-memory"),
        disk_caches: kib("stat-disk-caches"),
        hugetlb_allocations: stat("stat-htlb-pgalloc"),
        hugetlb_failures: stat("stat-htlb-pgfail"),
        last_update: answer.get("last-update").and_then(Value::as_u64).unwrap_or(0),
    }
}

/// `virDomainMemoryStatTags` with their names in `balloon.*`.
fn tagged(memory: &GuestMemory) -> [(i32, &'static str, Option<u64>); 11] {
    [
        (0, "swap_in", memory.swap_in),
        (1, "swap_out", memory.swap_out),
        (2, "major_fault", memory.major_faults),
        (3, "minor_fault", memory.minor_faults),
        (4, "unused", memory.free),
        (5, "available", memory.total),
        (8, "usable", memory.available),
        (9, "last-update", (memory.last_update > 0).then_some(memory.last_update)),
        (10, "disk_caches", memory.disk_caches),
        (11, "hugetlb_pgalloc", memory.hugetlb_allocations),
        (12, "hugetlb_pgfail", memory.hugetlb_failures),
    ]
}

/// `virDomainMemoryStats` pairs; `current` and `rss` in KiB.
pub fn memory_stats(current: u64, memory: Option<&GuestMemory>, rss: Option<u64>) -> Vec<(i32, u64)> {
    let mut out = vec![(6, current)];
    if let Some(memory) = memory {
        out.extend(tagged(memory).into_iter().filter_map(|(tag, _, value)| Some((tag, value?))));
    }
    out.extend(rss.map(|rss| (7, rss)));
    out
}

/// Appends `balloon.*` in libvirt's order; sizes in KiB.
pub fn params(out: &mut TypedParams, current: u64, maximum: u64, memory: Option<&GuestMemory>, rss: Option<u64>) {
    out.ullong("balloon.current", current);
    out.ullong("balloon.maximum", maximum);
    if let Some(memory) = memory {
        for (_, name, value) in tagged(memory) {
            if let Some(value) = value {
                out.ullong(format!("balloon.{name}"), value);
            }
        }
    }
    if let Some(rss) = rss {
        out.ullong("balloon.rss", rss);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_values_are_left_out() {
        let answer = json!({"last-update": 5, "stats": {"stat-swap-in": 18446744073709551615u64, "stat-free-memory": 2048, "stat-total-memory": -1}});
        let memory = guest_memory(&answer);
        assert_eq!(memory.swap_in, None);
        assert_eq!(memory.free, Some(2));
        assert_eq!(memory_stats(1024, Some(&memory), Some(9)), [(6, 1024), (4, 2), (9, 5), (7, 9)]);
        let mut out = TypedParams::new();
        params(&mut out, 1, 2, None, None);
        assert_eq!(out.0.len(), 2);
    }
}
