//! The status record of a run: one JSON file per active domain, written before what it speaks of exists.
//!
//! ```text
//! start job            Starting, undo: [run directory]          durable
//!   driver.launch      + steps, each batch before it is made    durable when it names an owner to restore
//! started              Running, live XML, driver state
//! guest event          phase and reason
//! stopped              undone in reverse, then the file is removed
//! ```
//!
//! Owns the format and its version; `store` keeps the bytes.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::driver::{BlockingWork, DriverKind, Noted, UndoLog};
use super::persist::Persist;
use super::state::Phase;
use super::undo::Step;
use crate::error::{Code, Error, Result};
use crate::types::Uuid;

/// Version this daemon writes. It reads all older ones and leaves newer ones alone.
pub const VERSION: u32 = 1;

/// See the module's text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub driver: DriverKind,
    pub uuid: Uuid,
    pub name: String,
    pub id: i32,
    pub run_id: String,
    pub run_dir: PathBuf,
    /// Boot the run belongs to; of another boot nothing but files is left.
    pub boot_id: String,
    pub phase: Phase,
    pub reason: i32,
    /// Whether a persistent definition exists beside it.
    pub persistent: bool,
    /// Whether it belongs to one client: then it ends with the daemon's connection to it, however that ends.
    #[serde(default)]
    pub autodestroy: bool,
    /// The live definition; of a start that has not ended, the definition it starts from.
    pub live_xml: String,
    /// What [`super::driver::Launched::state`] was.
    pub state: serde_json::Value,
    /// What to undo, in order of making.
    pub undo: Vec<Step>,
}

/// A record bound to its file; the start job and the stop job share it.
#[derive(Clone, Debug)]
pub struct RunFile {
    entry: Arc<Mutex<Entry>>,
    persist: Arc<Persist>,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    /// Nothing of the run is on disk yet.
    first: Option<First>,
    /// It is being undone: what is not in it yet is not made any more.
    closed: bool,
}

/// Makes what the steps undo that a record begins with; to be done once the record is on disk.
struct First(Box<dyn FnOnce() -> Result<()> + Send + Sync>);

impl std::fmt::Debug for First {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("First")
    }
}

impl RunFile {
    /// The record of a run that is there.
    pub fn new(record: Record, persist: Arc<Persist>) -> Self {
        RunFile { entry: Arc::new(Mutex::new(Entry { record, first: None, closed: false })), persist }
    }

    /// The record of a run that is to be. It comes on disk with the first steps that are pushed; then `first` makes what
    /// the steps undo that it begins with.
    pub fn begin(
        record: Record,
        persist: Arc<Persist>,
        first: impl FnOnce() -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let first = Some(First(Box::new(first)));
        RunFile { entry: Arc::new(Mutex::new(Entry { record, first, closed: false })), persist }
    }

    /// Changes the record and writes it. `durable`: with fsync, for what must survive a crash of the host; without,
    /// it survives a crash of the daemon.
    pub async fn update(&self, durable: bool, change: impl FnOnce(&mut Record)) -> Result<()> {
        let mut entry = self.entry.lock().await;
        change(&mut entry.record);
        self.persist.put_status(&entry.record, durable).await
    }

    /// The record as it is now.
    pub async fn get(&self) -> Record {
        self.entry.lock().await.record.clone()
    }

    /// The record to undo, once nothing that it names is being made; nothing is any more.
    pub async fn close(&self) -> Record {
        let mut entry = self.entry.lock().await;
        entry.closed = true;
        entry.record.clone()
    }

    /// Removes the file: the run is over and nothing of it is left.
    pub async fn remove(&self) -> Result<()> {
        let Entry { record, .. } = &*self.entry.lock().await;
        self.persist.remove_status(record.driver, record.uuid).await
    }
}

impl UndoLog for RunFile {
    fn pushing(&self, steps: Vec<Step>) -> BlockingWork {
        let file = self.clone();
        Box::new(move || {
            // A host crash ends every process and every link by itself; only an image's former owner outlives it.
            let durable = steps.iter().any(|step| matches!(step, Step::Owner { .. }));
            let mut entry = file.entry.blocking_lock_owned();
            if entry.closed {
                return Err(Error::new(Code::OperationAborted, "the start was given up"));
            }
            entry.record.undo.extend(steps);
            let first = entry.first.take();
            if first.is_some() {
                file.persist.note_id(entry.record.driver)?;
            }
            file.persist.write_status(&entry.record, durable)?;
            if let Some(First(make)) = first {
                make()?;
            }
            Ok(Noted::new(entry))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::Store;

    fn file(dir: &tempfile::TempDir) -> RunFile {
        let store = Store::open(dir.path(), &dir.path().join("run")).unwrap();
        let persist = Persist::new(store, &[DriverKind::Lxc]).unwrap();
        let record = Record {
            version: VERSION,
            driver: DriverKind::Lxc,
            uuid: "6695eb01-f6a4-8304-79aa-97f2502e193f".parse().unwrap(),
            name: "one".into(),
            id: 1,
            run_id: "one-1".into(),
            run_dir: "/nonexistent".into(),
            boot_id: String::new(),
            phase: Phase::Starting,
            reason: 0,
            persistent: true,
            autodestroy: false,
            live_xml: String::new(),
            state: serde_json::Value::Null,
            undo: Vec::new(),
        };
        let made = dir.path().join("made");
        RunFile::begin(record, Arc::new(persist), move || {
            std::fs::create_dir(&made).map_err(|error| Error::system("mkdir", error))
        })
    }

    fn step() -> Vec<Step> {
        vec![Step::Cgroup { path: "machine/lxc-one-1".into() }]
    }

    #[tokio::test]
    async fn undoing_waits_for_what_is_being_made() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        let noted = file.push(step()).await.unwrap();
        let copy = noted.clone();
        drop(noted);
        let early = tokio::time::timeout(Duration::from_millis(20), file.close()).await;
        assert!(early.is_err(), "closed while something was being made");
        drop(copy);
        assert_eq!(file.close().await.undo.len(), 1);
    }

    #[tokio::test]
    async fn the_record_is_on_disk_before_what_it_undoes() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        let records = dir.path().join("run/records/lxc");
        let written = || std::fs::read_dir(&records).unwrap().count();
        assert_eq!((written(), dir.path().join("made").exists()), (0, false));
        // Where the record cannot be written nothing is made.
        std::fs::remove_dir(&records).unwrap();
        std::os::unix::fs::symlink("/nonexistent", &records).unwrap();
        file.push(step()).await.unwrap_err();
        assert!(!dir.path().join("made").exists());
    }

    #[tokio::test]
    async fn nothing_is_made_once_undoing_began() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        assert!(file.close().await.undo.is_empty());
        assert_eq!(file.push(step()).await.unwrap_err().code, Code::OperationAborted);
        assert!(file.get().await.undo.is_empty());
    }
}
