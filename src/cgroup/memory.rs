//! memory.

use std::fs;
use std::path::Path;

use cgroups_rs::memory::MemController;

use super::{UNLIMITED, setting_failed, write};
use crate::error::Result;

/// What the kernel takes: -1 takes a limit away.
fn signed(bytes: u64) -> i64 {
    if bytes == UNLIMITED { -1 } else { i64::try_from(bytes).unwrap_or(i64::MAX) }
}

pub(super) fn set_limit(dir: &Path, v2: bool, bytes: u64) -> Result<()> {
    let controller = MemController::new(dir.to_path_buf(), v2);
    controller.set_limit(signed(bytes)).map_err(|error| setting_failed(dir, "memory limit", bytes, error))
}

/// v2 has no soft limit; as in libvirt it is the mark above which the group is slowed down and reclaimed from.
pub(super) fn set_soft_limit(dir: &Path, v2: bool, bytes: u64) -> Result<()> {
    if v2 {
        let value = if bytes == UNLIMITED { "max".to_string() } else { bytes.to_string() };
        return write(&dir.join("memory.high"), &value)
            .map_err(|error| setting_failed(dir, "memory soft limit", value, error));
    }
    let controller = MemController::new(dir.to_path_buf(), v2);
    controller.set_soft_limit(signed(bytes)).map_err(|error| setting_failed(dir, "memory soft limit", bytes, error))
}

/// v1 limits memory and swap together, v2 swap alone.
pub(super) fn set_swap_limit(dir: &Path, v2: bool, bytes: u64, memory: Option<u64>) -> Result<()> {
    if v2 {
        let swap = match bytes {
            UNLIMITED => "max".to_string(),
            bytes => bytes.saturating_sub(memory.unwrap_or(0)).to_string(),
        };
        return write(&dir.join("memory.swap.max"), &swap)
            .map_err(|error| setting_failed(dir, "swap limit", swap, error));
    }
    let controller = MemController::new(dir.to_path_buf(), v2);
    controller
        .set_memswap_limit(signed(bytes))
        .map_err(|error| setting_failed(dir, "memory and swap limit", bytes, error))
}

/// Hard limit, soft limit, limit of memory and swap together; [`UNLIMITED`] is none.
pub(super) fn limits(dir: &Path, v2: bool) -> [Option<u64>; 3] {
    let read = |file: &str| limit(&fs::read_to_string(dir.join(file)).ok()?);
    if !v2 {
        return ["memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.memsw.limit_in_bytes"].map(read);
    }
    let hard = read("memory.max");
    let swap = read("memory.swap.max").map(|swap| match (swap, hard) {
        (UNLIMITED, _) | (_, Some(UNLIMITED)) => UNLIMITED,
        (swap, hard) => swap.saturating_add(hard.unwrap_or(0)),
    });
    [hard, read("memory.high"), swap]
}

/// v1 has no word for "no limit": its largest number, a multiple of the page size, stands for it.
fn limit(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(UNLIMITED),
        number => number.parse().ok().map(|bytes| if bytes >= 1 << 62 { UNLIMITED } else { bytes }),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_has_many_faces() {
        assert_eq!(limit("max\n"), Some(UNLIMITED));
        assert_eq!(limit("9223372036854771712\n"), Some(UNLIMITED));
        assert_eq!(limit("4096"), Some(4096));
        assert_eq!(signed(UNLIMITED), -1);
    }
}
