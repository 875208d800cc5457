//! Id maps of the user namespace, written by the supervisor for the child.

use std::fmt::Write;

use super::procfs::HostProc;
use super::{Result, failure};
use crate::lxc::spec::{IdMaps, IdRange};

/// Writes `uid_map` and `gid_map` of `pid`. `setgroups` stays allowed, as a new namespace has it and as only a privileged
/// writer may leave it: the guest's root needs it for its own users.
pub fn write_maps(proc: &HostProc, pid: i32, ids: &IdMaps) -> Result<()> {
    if outside(&ids.uid, 0).is_none() || outside(&ids.gid, 0).is_none() {
        return failure("ids", "the id maps have no entry for id 0 inside; init could not be started as root");
    }
    proc.write(&format!("{pid}/uid_map"), &lines(&ids.uid))?;
    proc.write(&format!("{pid}/gid_map"), &lines(&ids.gid))
}

fn lines(ranges: &[IdRange]) -> String {
    let mut text = String::new();
    for range in ranges {
        let _ = writeln!(text, "{} {} {}", range.inside, range.outside, range.count);
    }
    text
}

/// The id outside for an id inside.
pub fn outside(ranges: &[IdRange], id: u32) -> Option<u32> {
    ranges
        .iter()
        .find(|range| id >= range.inside && id - range.inside < range.count)
        .and_then(|range| range.outside.checked_add(id - range.inside))
}

/// Whether an id outside is one of the container's: then a tree it owns was shifted on disk already.
pub fn owns(ranges: &[IdRange], id: u32) -> bool {
    ranges.iter().any(|range| id >= range.outside && id - range.outside < range.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_looked_up_both_ways() {
        let map =
            [IdRange { inside: 0, outside: 100_000, count: 1000 }, IdRange { inside: 2000, outside: 5, count: 1 }];
        assert_eq!(outside(&map, 999), Some(100_999));
        assert_eq!(outside(&map, 1000), None);
        assert_eq!(outside(&map, 2000), Some(5));
        assert!(owns(&map, 100_500) && owns(&map, 5) && !owns(&map, 0));
        assert_eq!(lines(&map[..1]), "0 100000 1000\n");
    }
}
