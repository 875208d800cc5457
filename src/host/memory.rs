//! How much memory there is.

use std::path::{Path, PathBuf};

use super::{auxiliary, parse_list, read, read_number};
use crate::error::{Error, Result};

/// Key of the page size among a process's auxiliary values.
pub(super) const AT_PAGESZ: usize = 6;

/// Free memory in bytes (`virNodeGetFreeMemory`): what nobody uses, without caches.
pub fn free_memory() -> Result<u64> {
    let text = read(Path::new("/proc/meminfo"))?;
    field(&text, "MemFree").map(|kib| kib * 1024).ok_or_else(|| Error::internal("no MemFree in /proc/meminfo"))
}

/// Memory in KiB of one NUMA cell (`total`, `free`) or of all (-1; also `buffers`, `cached`), as
/// `virNodeGetMemoryStats`. Errors: code 8 for a cell that does not exist.
pub fn memory_stats(cell: i32) -> Result<Vec<(String, u64)>> {
    stats(Path::new("/"), cell)
}

fn stats(root: &Path, cell: i32) -> Result<Vec<(String, u64)>> {
    let nodes = root.join("sys/devices/system/node");
    let path = if cell == -1 { root.join("proc/meminfo") } else { nodes.join(format!("node{cell}/meminfo")) };
    if cell != -1 && !path.exists() {
        let online = std::fs::read_to_string(nodes.join("online")).ok().and_then(|text| parse_list(&text));
        let last = online.and_then(|cells| cells.last().copied()).unwrap_or(0);
        let what = format!("cellNum in virHostMemGetStats must be less than or equal to {last}");
        return Err(Error::bare_arg(what));
    }
    let text = read(&path)?;
    let names = [("total", "MemTotal"), ("free", "MemFree"), ("buffers", "Buffers"), ("cached", "Cached")];
    Ok(names.iter().filter_map(|(name, key)| field(&text, key).map(|kib| (name.to_string(), kib))).collect())
}

/// The value in KiB of one line of /proc/meminfo ("KEY: 1 kB") or a node's meminfo ("Node 0 KEY: 1 kB").
pub(super) fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.split_whitespace().last()? != key {
            return None;
        }
        value.split_whitespace().next()?.parse().ok()
    })
}

/// Size of a normal page, KiB.
pub(super) fn page_size() -> u64 {
    auxiliary(AT_PAGESZ).map_or(4, |bytes| bytes as u64 / 1024).max(1)
}

/// Huge pages below `directory` (a `hugepages` directory): size in KiB and how many there are, smallest first.
pub(super) fn huge_pages(directory: &Path) -> Vec<(u64, u64)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let pool = |path: PathBuf| {
        let size = path.file_name()?.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some((size, read_number(&path.join("nr_hugepages")).unwrap_or(0)))
    };
    let mut pools: Vec<(u64, u64)> = entries.filter_map(|entry| pool(entry.path())).collect();
    pools.sort_unstable();
    pools
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_forms() {
        let text = "MemTotal:   100 kB\nSwapCached:  7 kB\nCached:  9 kB\n";
        assert_eq!((field(text, "Cached"), field(text, "MemTotal")), (Some(9), Some(100)));
        assert_eq!(field("Node 0 MemFree:   42 kB\n", "MemFree"), Some(42));
        assert_eq!(field(text, "Mem"), None);
    }

    #[test]
    fn this_host() {
        let all = memory_stats(-1).unwrap();
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["total", "free", "buffers", "cached"]);
        assert!(free_memory().unwrap() > 0);
        let error = memory_stats(4000).unwrap_err();
        assert!(error.message().starts_with("cellNum in virHostMemGetStats must be less than or equal to "), "{error}");
        assert!(memory_stats(-2).is_err());
    }
}
