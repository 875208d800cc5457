//! memory.

use std::fs;
use std::path::Path;

use cgroups_rs::memory::MemController;

use super::{setting_failed, write};
use crate::error::Result;

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(super) fn set_limit(dir: &Path, v2: bool, bytes: u64) -> Result<()> {
    let controller = MemController::new(dir.to_path_buf(), v2);
    controller.set_limit(signed(bytes)).map_err(|error| setting_failed(dir, "memory limit", bytes, error))
}

/// v2 has no soft limit; as in libvirt it is the mark above which the group is slowed down and reclaimed from.
pub(super) fn set_soft_limit(dir: &Path, v2: bool, bytes: u64) -> Result<()> {
    if v2 {
        return write(&dir.join("memory.high"), &bytes.to_string())
            .map_err(|error| setting_failed(dir, "memory soft limit", bytes, error));
    }
    let controller = MemController::new(dir.to_path_buf(), v2);
    controller.set_soft_limit(signed(bytes)).map_err(|error| setting_failed(dir, "memory soft limit", bytes, error))
}

/// v1 limits memory and swap together, v2 swap alone.
pub(super) fn set_swap_limit(dir: &Path, v2: bool, bytes: u64, memory: Option<u64>) -> Result<()> {
    if v2 {
        let swap = bytes.saturating_sub(memory.unwrap_or(0));
        return write(&dir.join("memory.swap.max"), &swap.to_string())
            .map_err(|error| setting_failed(dir, "swap limit", swap, error));
    }
    let controller = MemController::new(dir.to_path_buf(), v2);
    controller
        .set_memswap_limit(signed(bytes))
        .map_err(|error| setting_failed(dir, "memory and swap limit", bytes, error))
}

pub(super) fn usage(dir: &Path, v2: bool) -> Option<u64> {
    let file = if v2 { "memory.current" } else { "memory.usage_in_bytes" };
    fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
}

/// Memory of the processes themselves, without the page cache.
pub(super) fn rss(dir: &Path, v2: bool) -> Option<u64> {
    let text = fs::read_to_string(dir.join("memory.stat")).ok()?;
    let name = if v2 { "anon" } else { "rss" };
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
