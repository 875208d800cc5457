//! Id ranges for containers without `<idmap>`: host-wide, non-overlapping, locked.
//!
//! All daemons of a host share one directory under /run with a file per range, named by its first id and holding the
//! run directory of its owner. A range whose run directory is gone is free: it is looked for when no other is left, so
//! that a start reads the names only, however many containers run. Ranges that the host uses for its own users or gave
//! to somebody in /etc/subuid or /etc/subgid are never taken.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// What this daemon took, by run directory: giving it back needs no search.
    ours: Arc<Mutex<HashMap<PathBuf, u32>>>,
    foreign: Arc<Mutex<Foreign>>,
}

/// Where the host keeps ids of its users, and what it gave to them.
const ID_FILES: [&str; 4] = ["/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid"];

/// Which file it was, and of when: device, inode, bytes, and the change in seconds and nanoseconds.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// Ranges that the host has given to others, as of when its files were last read.
#[derive(Debug, Default)]
struct Foreign {
    stamps: Option<[Stamp; 4]>,
    ranges: Arc<Vec<(u32, u32)>>,
}

impl Foreign {
    fn current(&mut self) -> Arc<Vec<(u32, u32)>> {
        let stamps = Some(ID_FILES.map(stamp));
        if self.stamps != stamps {
            self.ranges = Arc::new(foreign_ranges());
            self.stamps = stamps;
        }
        self.ranges.clone()
    }
}

fn stamp(path: &str) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec()))
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
        Allocator { dir, first, ranges, ours: Arc::default(), foreign: Arc::default() }
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

    fn file_of(&self, first: u32) -> PathBuf {
        self.dir.join(first.to_string())
    }

    /// First ids of the ranges that have an owner. Call it with the lock held.
    fn taken(&self) -> BTreeSet<u32> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return BTreeSet::new() };
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// The run directory that has a range. Call it with the lock held.
    fn owner(&self, first: u32) -> Option<PathBuf> {
        fs::read_to_string(self.file_of(first)).ok().map(PathBuf::from)
    }

    /// The lowest range that nobody has.
    fn free(&self, taken: &BTreeSet<u32>, foreign: &[(u32, u32)]) -> Option<u32> {
        let overlaps = |first: u32| {
            let last = first + (COUNT - 1);
            taken.range(first.saturating_sub(COUNT - 1)..=last).next().is_some()
                || foreign.iter().any(|(from, to)| *from <= last && first <= *to)
        };
        (0..self.ranges)
            .filter_map(|index| self.first.checked_add(index.checked_mul(COUNT)?))
            .filter(|first| first.checked_add(COUNT).is_some())
            .find(|first| weakened("same-ids") || !overlaps(*first))
    }

    /// Takes a free range for the run whose directory is `run_dir`. Blocks.
    ///
    /// Errors: code 1 when none is left.
    pub fn take(&self, run_dir: &Path) -> Result<IdMaps> {
        let _lock = self.lock()?;
        let foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner).current();
        let mut taken = self.taken();
        let mut free = self.free(&taken, &foreign);
        if free.is_none() {
            taken.retain(|first| {
                let alive = self.owner(*first).is_some_and(|owner| owner.is_dir());
                if !alive {
                    let _ = fs::remove_file(self.file_of(*first));
                }
                alive
            });
            free = self.free(&taken, &foreign);
        }
        let Some(first) = free else {
            return Err(Error::internal(format!(
                "no free range of {COUNT} ids is left ({} are in use, see '{}'): give the domain an <idmap>",
                taken.len(),
                self.dir.display()
            )));
        };
        let path = self.file_of(first);
        fs::File::create(&path)
            .and_then(|mut file| file.write_all(run_dir.as_os_str().as_encoded_bytes()))
            .map_err(|error| Error::system(format!("cannot write '{}'", path.display()), error))?;
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).insert(run_dir.to_path_buf(), first);
        let range = vec![IdRange { inside: 0, outside: first, count: COUNT }];
        Ok(IdMaps { uid: range.clone(), gid: range })
    }

    /// Gives back what the run has. Harmless when it has nothing.
    pub fn release(&self, run_dir: &Path) -> Result<()> {
        let _lock = self.lock()?;
        let remembered = self.ours.lock().unwrap_or_else(PoisonError::into_inner).remove(run_dir);
        // Nothing is remembered of what an earlier daemon took.
        let candidates = remembered.map_or_else(|| self.taken(), |first| BTreeSet::from([first]));
        for first in candidates {
            if self.owner(first).is_some_and(|owner| owner == run_dir) {
                let _ = fs::remove_file(self.file_of(first));
            }
        }
        Ok(())
    }
}

/// Ids the host uses or has promised: users, and what subuid and subgid give to users.
fn foreign_ranges() -> Vec<(u32, u32)> {
    let mut ranges = Vec::new();
    let (own, given) = ID_FILES.split_at(2);
    for file in own {
        let text = fs::read_to_string(file).unwrap_or_default();
        ranges.extend(text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).map(|id: u32| (id, id)));
    }
    for file in given {
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
        // Another daemon knows of none of them by heart.
        Allocator::new(dir.path().join("ids"), 1_900_544_000, 3).release(&runs[1]).unwrap();
        assert_eq!(first(&ids.take(&runs[3]).unwrap()), 1_900_609_536);
        // A run that is gone without a word frees its range.
        fs::remove_dir(&runs[0]).unwrap();
        assert_eq!(first(&ids.take(&runs[1]).unwrap()), 1_900_544_000);
        // One that another daemon took meanwhile is not given back with what is remembered.
        fs::remove_dir(&runs[1]).unwrap();
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        let second = Allocator::new(dir.path().join("ids"), 1_900_544_000, 3);
        assert_eq!(first(&second.take(&other).unwrap()), 1_900_544_000);
        ids.release(&runs[1]).unwrap();
        assert!(dir.path().join("ids/1900544000").exists());
    }
}
