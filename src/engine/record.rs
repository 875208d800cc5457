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

use super::cleanup::run_blocking;
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
    /// It is being undone: what is not in it yet is not made any more.
    closed: bool,
}

impl RunFile {
    /// Binds `record` to its place; writes nothing yet.
    pub fn new(record: Record, persist: Arc<Persist>) -> Self {
        RunFile { entry: Arc::new(Mutex::new(Entry { record, closed: false })), persist }
    }

    /// Writes the first record of a run, and then does what it may undo: `first`, whose result is the second one.
    pub async fn begin(
        record: Record,
        persist: Arc<Persist>,
        first: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<(Self, Result<()>)> {
        run_blocking(move || {
            persist.note_id(record.driver)?;
            persist.write_status(&record, false)?;
            Ok((RunFile::new(record, persist), first()))
        })
        .await
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
            file.persist.write_status(&entry.record, durable)?;
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
        RunFile::new(record, Arc::new(persist))
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
    async fn nothing_is_made_once_undoing_began() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        assert!(file.close().await.undo.is_empty());
        assert_eq!(file.push(step()).await.unwrap_err().code, Code::OperationAborted);
        assert!(file.get().await.undo.is_empty());
    }
}
