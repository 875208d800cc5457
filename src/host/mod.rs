//! What the host is: names, processors, memory. Reads /proc and /sys each time it is asked, keeps nothing, changes
//! nothing. Numbers come in libvirt's units and under libvirt's names.
//!
//! All functions block for the short time such files take; call them off the runtime's threads.

pub mod capabilities;
pub mod cpu;
mod identity;
mod memory;
mod merging;
mod model;
pub mod node_device;
mod sysinfo;
mod topology;

use std::path::Path;

pub use cpu::{cpu_map, cpu_stats};
pub use identity::{hostname, kernel_version, uuid};
pub use memory::{cells_free_memory, free_memory, free_pages, memory_stats};
pub use merging::{MERGING_SETTINGS, merging, set_merging};
pub use model::host_offer;
pub use sysinfo::sysinfo;
pub use topology::{NodeInfo, node_info};

use crate::error::{Error, Result};

/// A small text file of the kernel's. Errors: code 38 with the path.
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::system(format!("cannot read '{}'", path.display()), error))
}

/// The number in a file of the kernel's; `None` when there is no such file or no number in it.
fn read_number<N: std::str::FromStr>(path: &Path) -> Option<N> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The kernel's list form, "0-3,8": ascending numbers.
fn parse_list(text: &str) -> Option<Vec<u32>> {
    /// More CPUs than any kernel is built for.
    const MOST: u32 = 1 << 16;
    let mut numbers = Vec::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if last >= MOST {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// A value the kernel gave this process at its start (getauxval(3)).
fn auxiliary(wanted: usize) -> Option<usize> {
    const WORD: usize = size_of::<usize>();
    let bytes = std::fs::read("/proc/self/auxv").ok()?;
    let (words, _) = bytes.as_chunks::<WORD>();
    let words: Vec<usize> = words.iter().map(|word| usize::from_ne_bytes(*word)).collect();
    words.as_chunks::<2>().0.iter().find(|[kind, _]| *kind == wanted).map(|[_, value]| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_kernel() {
        assert_eq!(parse_list("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_list("\n"), Some(vec![]));
        assert_eq!(parse_list("0-x"), None);
        assert_eq!(parse_list("0-4294967295"), None);
    }

    #[test]
    fn the_kernel_tells_page_size_and_ticks() {
        assert!(auxiliary(memory::AT_PAGESZ).unwrap() >= 4096);
        assert!(auxiliary(cpu::AT_CLKTCK).unwrap() >= 100);
    }
}
