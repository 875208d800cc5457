//! How much memory there is.

use std::path::{Path, PathBuf};

use super::{auxiliary, parse_list, read, read_number};
use crate::error::{Code, Error, Result};

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

/// Free memory in bytes of NUMA cells from `start` on, at most `most` of them (`virNodeGetCellsFreeMemory`). Errors: code 8
/// for a first cell that does not exist.
pub fn cells_free_memory(start: i32, most: i32) -> Result<Vec<u64>> {
    let last = last_cell(Path::new("/"));
    let first = u32::try_from(start).ok().filter(|start| *start <= last);
    let first = first.ok_or_else(|| Error::invalid_arg(format!("start cell {start} out of range (0-{last})")))?;
    let most = usize::try_from(most).unwrap_or(0);
    let free = |cell: u32| {
        let text = read(&node(Path::new("/"), cell).join("meminfo")).unwrap_or_default();
        // A cell number that is left out has no memory.
        field(&text, "MemFree").unwrap_or(0).saturating_mul(1024)
    };
    match node(Path::new("/"), 0).exists() {
        true => Ok((first..=last).take(most).map(free).collect()),
        // A kernel that knows no cells.
        false => Ok((first..=last).take(most).map(|_| free_memory()).collect::<Result<_>>()?),
    }
}

/// Free pages of each of `sizes` (KiB) in `count` cells from `start` on, -1 being the whole host (`virNodeGetFreePages`).
/// Errors: code 8 for a cell that does not exist, code 38 for a size the host has no pages of.
pub fn free_pages(sizes: &[u32], start: i32, count: u32) -> Result<Vec<u64>> {
    let root = Path::new("/");
    let last = i64::from(last_cell(root));
    let start = i64::from(start);
    if start < -1 || start > last {
        return Err(Error::invalid_arg(format!("start cell {start} out of range (0-{last})")));
    }
    let mut counts = Vec::new();
    for cell in (start..=last).take(count as usize) {
        let cell = u32::try_from(cell).ok();
        for size in sizes {
            counts.push(free_pages_of(root, cell, u64::from(*size))?);
        }
        if cell.is_none() {
            break;
        }
    }
    Ok(counts)
}

fn free_pages_of(root: &Path, cell: Option<u32>, size: u64) -> Result<u64> {
    if size == page_size() {
        let path = match cell.map(|cell| node(root, cell).join("meminfo")).filter(|path| path.exists()) {
            Some(path) => path,
            None => root.join("proc/meminfo"),
        };
        return Ok(field(&read(&path)?, "MemFree").unwrap_or(0) / size);
    }
    let pools = match cell {
        Some(cell) => node(root, cell).join("hugepages"),
        None => root.join("sys/kernel/mm/hugepages"),
    };
    let pool = pools.join(format!("hugepages-{size}kB"));
    if !pool.exists() {
        return Err(Error::new(
            Code::OperationFailed,
            format!("page size {size} is not available on node {}", cell.map_or(-1, i64::from)),
        ));
    }
    Ok(read_number(&pool.join("free_hugepages")).unwrap_or(0))
}

fn node(root: &Path, cell: u32) -> PathBuf {
    root.join(format!("sys/devices/system/node/node{cell}"))
}

/// The highest number of a NUMA cell; 0 without any.
fn last_cell(root: &Path) -> u32 {
    let online = std::fs::read_to_string(root.join("sys/devices/system/node/online")).ok();
    let cells = online.and_then(|text| parse_list(&text));
    cells.and_then(|cells| cells.last().copied()).unwrap_or(0)
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
        let cells = cells_free_memory(0, 1024).unwrap();
        assert!(!cells.is_empty() && cells.iter().all(|bytes| *bytes > 0), "{cells:?}");
        assert_eq!(cells_free_memory(0, 0).unwrap(), Vec::<u64>::new());
        assert!(cells_free_memory(4000, 1).is_err() && cells_free_memory(-1, 1).is_err());
        let size = u32::try_from(page_size()).unwrap();
        assert!(free_pages(&[size], -1, 1).unwrap()[0] > 0 && free_pages(&[size], 0, 1).unwrap()[0] > 0);
        let error = free_pages(&[3], 0, 1).unwrap_err();
        assert!(error.message().contains("page size 3 is not available on node 0"), "{error}");
        let error = memory_stats(4000).unwrap_err();
        assert!(error.message().starts_with("cellNum in virHostMemGetStats must be less than or equal to "), "{error}");
        assert!(memory_stats(-2).is_err());
    }
}
