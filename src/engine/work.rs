//! What long work on images needs beside the pools: the program, who uses what, and the base images.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::disk::cache::Cache;
use crate::disk::progress::Progress;
use crate::disk::qemu_img::Tool;
use crate::error::{Error, Result};

/// Who uses the image at a path: `running domain 'a' (disk vda)`. Looks at files; for a blocking thread.
pub type Users = dyn Fn(&Path, Which) -> Option<String> + Send + Sync;

/// Which guests are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Running,
    /// All that are defined, running or not.
    All,
}

/// One per set of host objects.
pub struct Work {
    pub tool: Tool,
    /// `None` in memory.
    pub images: Option<Arc<Cache>>,
    users: OnceLock<Box<Users>>,
    busy: Arc<Busy>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("tool", &self.tool).field("busy", &self.busy).finish_non_exhaustive()
    }
}

impl Work {
    /// `user` is whom `qemu-img` runs as, `images` where base images are kept.
    pub fn new(user: Option<(u32, u32)>, images: Option<PathBuf>) -> Work {
        let tool = Tool::new(user);
        let images = images.map(|dir| Arc::new(Cache::open(dir, tool.clone())));
        Work { tool, images, users: OnceLock::new(), busy: Arc::default() }
    }

    /// Tells how guests are asked for what they use; once, when there are guests.
    pub fn set_users(&self, users: Box<Users>) {
        let _ = self.users.set(users);
    }

    /// Who uses the image at `path`, if anybody. For a blocking thread.
    pub fn user_of(&self, path: &Path, which: Which) -> Option<String> {
        self.users.get().and_then(|users| users(path, which))
    }

    /// A use of the volume with this key, until dropped. Errors: code 55 with libvirt's texts.
    pub fn begin(&self, key: &str, name: &str, kind: UseKind) -> Result<Use> {
        self.busy.clone().begin(key, name, kind)
    }

    /// Work that goes on, by the key of the volume.
    pub fn jobs(&self) -> Vec<JobView> {
        let uses = self.busy.lock();
        let view = |(key, entry): (&String, &Entry)| JobView {
            key: key.clone(),
            name: entry.name.clone(),
            kind: entry.kind,
            done: entry.progress.done(),
            total: entry.progress.total(),
        };
        let mut jobs: Vec<JobView> = uses.iter().map(view).collect();
        jobs.sort_by(|a, b| a.key.cmp(&b.key));
        jobs
    }
}

/// How a job uses a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseKind {
    /// It is being made.
    Build,
    /// Its bytes are read; others may read as well.
    Read,
    /// It is changed.
    Change,
}

/// A job as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    pub key: String,
    pub name: String,
    pub kind: UseKind,
    /// Bytes.
    pub done: u64,
    /// Bytes; 0 where that is not known.
    pub total: u64,
}

#[derive(Debug)]
struct Entry {
    kind: UseKind,
    count: usize,
    name: String,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Busy(Mutex<HashMap<String, Entry>>);

impl Busy {
    fn begin(self: Arc<Self>, key: &str, name: &str, kind: UseKind) -> Result<Use> {
        let mut uses = self.lock();
        let progress: Arc<Progress> = Arc::default();
        match uses.get_mut(key) {
            None => {
                let entry = Entry { kind, count: 1, name: name.to_string(), progress: progress.clone() };
                uses.insert(key.to_string(), entry);
            }
            Some(entry) if entry.kind == UseKind::Read && kind == UseKind::Read => entry.count += 1,
            Some(entry) if entry.kind == UseKind::Build => {
                return Err(Error::invalid_state(format!("volume '{name}' is still being allocated.")));
            }
            Some(_) => return Err(Error::invalid_state(format!("volume '{name}' is still in use."))),
        }
        drop(uses);
        Ok(Use { busy: self, key: key.to_string(), progress })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A use of a volume; ends when dropped.
#[derive(Debug)]
pub struct Use {
    busy: Arc<Busy>,
    key: String,
    /// How far it is; shown for the first of several readers.
    pub progress: Arc<Progress>,
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut uses = self.busy.lock();
        if let Some(entry) = uses.get_mut(&self.key) {
            entry.count -= 1;
            if entry.count == 0 {
                uses.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_and_nobody_else() {
        let work = Work::new(None, None);
        let first = work.begin("/a", "a", UseKind::Read).unwrap();
        let second = work.begin("/a", "a", UseKind::Read).unwrap();
        let error = work.begin("/a", "a", UseKind::Change).unwrap_err();
        assert_eq!(error.message(), "Requested operation is not valid: volume 'a' is still in use.");
        drop(first);
        work.begin("/a", "a", UseKind::Change).unwrap_err();
        drop(second);
        let build = work.begin("/a", "a", UseKind::Build).unwrap();
        assert!(work.begin("/a", "a", UseKind::Read).unwrap_err().message().contains("still being allocated"));
        drop(build);
        work.begin("/a", "a", UseKind::Change).unwrap();
    }
}
