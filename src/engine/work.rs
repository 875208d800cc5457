//! What long work on images needs beside the pools: the program, who uses what, and the base images.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::event::HostEvent;
use super::host::Context;

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
    /// `context` is where it is told that jobs begin and end.
    pub fn new(user: Option<(u32, u32)>, images: Option<PathBuf>, context: Option<Arc<Context>>) -> Work {
        let tool = Tool::new(user);
        let images = images.map(|dir| Arc::new(Cache::open(dir, tool.clone())));
        Work { tool, images, users: OnceLock::new(), busy: Arc::new(Busy { context, ..Busy::default() }) }
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
    pub fn begin(&self, key: &str, name: &str, task: Task) -> Result<Use> {
        self.busy.clone().begin(key, name, task)
    }

    /// Work that goes on, in the order in which it began.
    pub fn jobs(&self) -> Vec<JobView> {
        self.busy.lock().jobs.iter().filter(|(_, job)| job.task.is_job()).map(|(id, job)| job.view(*id)).collect()
    }

    /// A job that goes on.
    pub fn job(&self, id: u64) -> Option<JobView> {
        self.busy.lock().jobs.get(&id).filter(|job| job.task.is_job()).map(|job| job.view(id))
    }

    /// Asks a job to stop; who waits for it gets code 78 soon, unless it was at its end. Errors: code 55 when there is no
    /// such job.
    pub fn cancel(&self, id: u64) -> Result<()> {
        let state = self.busy.lock();
        let Some(job) = state.jobs.get(&id).filter(|job| job.task.is_job()) else {
            return Err(Error::invalid_state(format!("there is no job {id}: it has ended, or there never was one")));
        };
        tracing::info!(id, volume = job.name, task = job.task.word(), "a client cancels a job");
        job.progress.cancel();
        Ok(())
    }
}

/// How a volume is used, which says who else may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseKind {
    /// It is being made.
    Build,
    /// Its bytes are read; others may read as well.
    Read,
    /// It is changed.
    Change,
}

/// What a volume is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Create,
    Clone,
    Import,
    Overlay,
    Download,
    Upload,
    Resize,
    Wipe,
    Delete,
    /// Another one is made from it.
    Source,
    /// A guest is being started with it.
    Guest,
}

impl Task {
    /// How others may use the volume meanwhile.
    pub fn kind(self) -> UseKind {
        match self {
            Task::Create | Task::Clone | Task::Import | Task::Overlay => UseKind::Build,
            Task::Download | Task::Source | Task::Guest => UseKind::Read,
            Task::Upload | Task::Resize | Task::Wipe | Task::Delete => UseKind::Change,
        }
    }

    /// For clients.
    pub fn word(self) -> &'static str {
        match self {
            Task::Create => "create",
            Task::Clone => "clone",
            Task::Import => "import",
            Task::Overlay => "overlay",
            Task::Download => "download",
            Task::Upload => "upload",
            Task::Resize => "resize",
            Task::Wipe => "wipe",
            Task::Delete => "delete",
            Task::Source => "source",
            Task::Guest => "guest",
        }
    }

    /// Whether it is work of its own, and not a part of other work.
    fn is_job(self) -> bool {
        !matches!(self, Task::Source | Task::Guest)
    }
}

/// A job as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    /// From 1, never used again while the daemon runs.
    pub id: u64,
    /// Of the volume.
    pub key: String,
    /// Of the volume.
    pub name: String,
    pub task: Task,
    /// Bytes.
    pub done: u64,
    /// Bytes; 0 where that is not known.
    pub total: u64,
}

#[derive(Debug)]
struct Job {
    key: String,
    name: String,
    task: Task,
    progress: Arc<Progress>,
}

impl Job {
    fn view(&self, id: u64) -> JobView {
        let Job { key, name, task, progress } = self;
        let (done, total) = (progress.done(), progress.total());
        JobView { id, key: key.clone(), name: name.clone(), task: *task, done, total }
    }
}

#[derive(Debug, Default)]
struct Uses {
    last: u64,
    jobs: BTreeMap<u64, Job>,
    /// By the volume's key: how, and by how many.
    volumes: HashMap<String, (UseKind, usize)>,
}

#[derive(Debug, Default)]
struct Busy {
    uses: Mutex<Uses>,
    context: Option<Arc<Context>>,
}

impl Busy {
    fn begin(self: Arc<Self>, key: &str, name: &str, task: Task) -> Result<Use> {
        let mut uses = self.lock();
        let kind = task.kind();
        match uses.volumes.get_mut(key) {
            None => {
                uses.volumes.insert(key.to_string(), (kind, 1));
            }
            Some((UseKind::Read, count)) if kind == UseKind::Read => *count += 1,
            Some((UseKind::Build, _)) => {
                return Err(Error::invalid_state(format!("volume '{name}' is still being allocated.")));
            }
            Some(_) => return Err(Error::invalid_state(format!("volume '{name}' is still in use."))),
        }
        uses.last += 1;
        let (id, progress) = (uses.last, Arc::<Progress>::default());
        let job = Job { key: key.to_string(), name: name.to_string(), task, progress: progress.clone() };
        uses.jobs.insert(id, job);
        drop(uses);
        self.tell(task, HostEvent::JobBegan { id });
        Ok(Use { busy: self, id, progress })
    }

    fn tell(&self, task: Task, event: HostEvent) {
        if let Some(context) = self.context.as_ref().filter(|_| task.is_job()) {
            context.emit(event);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Uses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A use of a volume; ends when dropped.
#[derive(Debug)]
pub struct Use {
    busy: Arc<Busy>,
    id: u64,
    /// How far it is, and the way to stop it.
    pub progress: Arc<Progress>,
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut uses = self.busy.lock();
        let Some(job) = uses.jobs.remove(&self.id) else { return };
        if let Some((_, count)) = uses.volumes.get_mut(&job.key) {
            *count -= 1;
            if *count == 0 {
                uses.volumes.remove(&job.key);
            }
        }
        drop(uses);
        self.busy.tell(job.task, HostEvent::JobEnded { id: self.id });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_and_nobody_else() {
        let work = Work::new(None, None, None);
        let first = work.begin("/a", "a", Task::Download).unwrap();
        let second = work.begin("/a", "a", Task::Source).unwrap();
        let error = work.begin("/a", "a", Task::Wipe).unwrap_err();
        assert_eq!(error.message(), "Requested operation is not valid: volume 'a' is still in use.");
        drop(first);
        work.begin("/a", "a", Task::Wipe).unwrap_err();
        drop(second);
        let build = work.begin("/a", "a", Task::Create).unwrap();
        assert!(work.begin("/a", "a", Task::Download).unwrap_err().message().contains("still being allocated"));
        drop(build);
        work.begin("/a", "a", Task::Wipe).unwrap();
    }

    #[test]
    fn a_job_is_cancelled_by_its_number() {
        let work = Work::new(None, None, None);
        let (source, clone) =
            (work.begin("/a", "a", Task::Source).unwrap(), work.begin("/b", "b", Task::Clone).unwrap());
        clone.progress.set_total(7);
        let [job] = work.jobs().try_into().unwrap();
        assert_eq!((job.name.as_str(), job.task, job.total), ("b", Task::Clone, 7));
        // What is read for it is a part of it.
        work.cancel(job.id - 1).unwrap_err();
        assert!(!clone.progress.is_cancelled());
        work.cancel(job.id).unwrap();
        assert!(clone.progress.is_cancelled() && !source.progress.is_cancelled());
        drop(clone);
        assert!(work.job(job.id).is_none());
        assert!(work.cancel(job.id).unwrap_err().message().contains("no job"));
    }
}
