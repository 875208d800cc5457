//! Id ranges for containers without `<idmap>`: host-wide, non-overlapping, locked.
//!
//! All daemons of a host share one directory under /run with a file per range, named by its first id and holding the
//! run directory of its owner. A range whose run directory is gone is free. Ranges that the host uses for its own users
//! or gave to somebody in /etc/subuid or /etc/subgid are never taken.

use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::spec::{IdMaps, IdRange};
use crate::error::{Error, Result};
use crate::sys::weakened;

/// Ids in a range: what a whole distribution expects.
pub const COUNT: u32 = 65_536;

/// Where ranges come from.
#[derive(Clone, Debug)]
pub struct Allocator {
    dir: PathBuf,
    first: u32,
    ranges: u32,
}

impl Default for Allocator {
    fn default() -> Self {
        // Above every uid range that distributions, systemd and container engines hand out by default.
        Allocator::new(PathBuf::from("/run/domus-ids"), 1_900_544_000, 8192)
    }
}

impl Allocator {
    /// `ranges` ranges of [`COUNT`] ids from `first`; `dir` is shared by all who use them.
    pub fn new(dir: PathBuf, first: u32, ranges: u32) -> Allocator {
        Allocator { dir, first, ranges }
    }

    fn lock(&self) -> Result<fs::File> {
        let failed = |error| Error::system(format!("cannot lock the id ranges in '{}'", self.dir.display()), error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(failed)?;
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.dir.join("lock"))
            .map_err(failed)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        Ok(file)
    }

    /// Ranges that have an owner: (first id, run directory). Call it with the lock held.
    fn taken(&self) -> Vec<(u32, PathBuf)> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        entries
            .flatten()
            .filter_map(|entry| {
                let first = entry.file_name().to_str()?.parse().ok()?;
                Some((first, PathBuf::from(fs::read_to_string(entry.path()).ok()?)))
            })
            .collect()
    }

    /// Takes a free range for the run whose directory is `run_dir`. Blocks.
    ///
    /// Errors: code 1 when none is left.
    pub fn take(&self, run_dir: &Path) -> Result<IdMaps> {
        let _lock = self.lock()?;
        let mut taken = self.taken();
        taken.retain(|(first, owner)| {
            let alive = owner.is_dir();
            if !alive {
                let _ = fs::remove_file(self.dir.join(first.to_string()));
            }
            alive
        });
        let foreign = foreign_ranges();
        let overlaps = |first: u32| {
            if weakened("same-ids") {
                return false;
            }
            let last = first + (COUNT - 1);
            taken.iter().any(|(other, _)| *other <= last && first <= other.saturating_add(COUNT - 1))
                || foreign.iter().any(|(from, to)| *from <= last && first <= *to)
        };
        let candidates = (0..self.ranges).filter_map(|index| self.first.checked_add(index.checked_mul(COUNT)?));
        let mut fitting = candidates.filter(|first| first.checked_add(COUNT).is_some());
        let Some(first) = fitting.find(|first| !overlaps(*first)) else {
            return Err(Error::internal(format!(
                "no free range of {COUNT} ids is left ({} are in use, see '{}'): give the domain an <idmap>",
                taken.len(),
                self.dir.display()
            )));
        };
        let path = self.dir.join(first.to_string());
        fs::File::create(&path)
            .and_then(|mut file| file.write_all(run_dir.as_os_str().as_encoded_bytes()))
            .map_err(|error| Error::system(format!("cannot write '{}'", path.display()), error))?;
        let range = vec![IdRange { inside: 0, outside: first, count: COUNT }];
        Ok(IdMaps { uid: range.clone(), gid: range })
    }

    /// Gives back what the run has. Harmless when it has nothing.
    pub fn release(&self, run_dir: &Path) -> Result<()> {
        let _lock = self.lock()?;
        for (first, _) in self.taken().into_iter().filter(|(_, owner)| owner == run_dir) {
            let _ = fs::remove_file(self.dir.join(first.to_string()));
        }
        Ok(())
    }
}

/// Ids the host uses or has promised: users, and what subuid and subgid give to users.
fn foreign_ranges() -> Vec<(u32, u32)> {
    let mut ranges = Vec::new();
    for file in ["/etc/passwd", "/etc/group"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        ranges.extend(text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).map(|id: u32| (id, id)));
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        ranges.extend(text.lines().filter_map(|line| {
            let mut fields = line.split(':').skip(1);
            let from: u32 = fields.next()?.trim().parse().ok()?;
            let count: u32 = fields.next()?.trim().parse().ok()?;
            Some((from, from.saturating_add(count.checked_sub(1)?)))
        }));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let ids = Allocator::new(dir.path().join("ids"), 1_900_544_000, 3);
        let runs: Vec<_> = ["a", "b", "c", "d"].map(|name| dir.path().join(name)).into();
        for run in &runs {
            fs::create_dir(run).unwrap();
        }
        let first = |maps: &IdMaps| maps.uid[0].outside;
        let taken: Vec<u32> = runs[..3].iter().map(|run| first(&ids.take(run).unwrap())).collect();
        assert_eq!(taken, [1_900_544_000, 1_900_609_536, 1_900_675_072]);
        let error = ids.take(&runs[3]).unwrap_err();
        assert!(error.message().contains("no free range"), "{error}");
        ids.release(&runs[1]).unwrap();
        assert_eq!(first(&ids.take(&runs[3]).unwrap()), 1_900_609_536);
        // A run that is gone without a word frees its range.
        fs::remove_dir(&runs[0]).unwrap();
        assert_eq!(first(&ids.take(&runs[1]).unwrap()), 1_900_544_000);
    }
}
