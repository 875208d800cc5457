//! virsh's words for libvirt's numbers: states, reasons, memory statistics.

use crate::types::flags::list;

/// The state's word (`virDomainState`).
pub fn state(state: i32) -> &'static str {
    const WORDS: [&str; 8] =
        ["no state", "running", "idle", "paused", "in shutdown", "shut off", "crashed", "pmsuspended"];
    word(&WORDS, state, "no state")
}

/// The reason's word for a state.
pub fn reason(state: i32, reason: i32) -> &'static str {
    const RUNNING: [&str; 12] = [
        "unknown",
        "booted",
        "migrated",
        "restored",
        "from snapshot",
        "unpaused",
        "migration canceled",
        "save canceled",
        "event wakeup",
        "crashed",
        "post-copy",
        "post-copy failed",
    ];
    const PAUSED: [&str; 15] = [
        "unknown",
        "user",
        "migrating",
        "saving",
        "dumping",
        "I/O error",
        "watchdog",
        "from snapshot",
        "shutting down",
        "creating snapshot",
        "crashed",
        "starting up",
        "post-copy",
        "post-copy failed",
        "api error",
    ];
    const SHUTDOWN: [&str; 2] = ["unknown", "user"];
    const SHUTOFF: [&str; 9] =
        ["unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot", "daemon"];
    const CRASHED: [&str; 2] = ["unknown", "panicked"];
    let words: &[&'static str] = match state {
        1 => &RUNNING,
        3 => &PAUSED,
        4 => &SHUTDOWN,
        5 => &SHUTOFF,
        6 => &CRASHED,
        _ => &[],
    };
    word(words, reason, "unknown")
}

/// virsh's names of `virDomainMemoryStatTags`, by number.
pub const MEMORY_STATS: [&str; 13] = [
    "swap_in",
    "swap_out",
    "major_fault",
    "minor_fault",
    "unused",
    "available",
    "actual",
    "rss",
    "usable",
    "last_update",
    "disk_caches",
    "hugetlb_pgalloc",
    "hugetlb_pgfail",
];

/// The word at `number`, or `other` for one we do not know.
pub fn word(words: &[&'static str], number: i32, other: &'static str) -> &'static str {
    usize::try_from(number).ok().and_then(|index| words.get(index).copied()).unwrap_or(other)
}

/// Flags of `virConnectListAllDomains` that `domstats` may pass on (its list of states).
pub const LIST_STATES: u32 = list::ACTIVE
    | list::INACTIVE
    | list::PERSISTENT
    | list::TRANSIENT
    | list::RUNNING
    | list::PAUSED
    | list::SHUTOFF
    | list::OTHER;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(1, 1, "running", "booted")]
    #[case(3, 1, "paused", "user")]
    #[case(5, 2, "shut off", "destroyed")]
    #[case(5, 8, "shut off", "daemon")]
    #[case(6, 1, "crashed", "panicked")]
    #[case(1, 99, "running", "unknown")]
    #[case(99, 0, "no state", "unknown")]
    fn words(#[case] number: i32, #[case] why: i32, #[case] first: &str, #[case] second: &str) {
        assert_eq!((state(number), reason(number, why)), (first, second));
    }
}
