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
use super::driver::{BlockingWork, DriverKind, UndoLog};
use super::persist::Persist;
use super::state::Phase;
use super::undo::Step;
use crate::error::Result;
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
    record: Arc<Mutex<Record>>,
    persist: Arc<Persist>,
}

impl RunFile {
    /// Binds `record` to its place; writes nothing yet.
    pub fn new(record: Record, persist: Arc<Persist>) -> Self {
        RunFile { record: Arc::new(Mutex::new(record)), persist }
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
        let mut record = self.record.lock().await;
        change(&mut record);
        self.persist.put_status(&record, durable).await
    }

    /// The record as it is now.
    pub async fn get(&self) -> Record {
        self.record.lock().await.clone()
    }

    /// Removes the file: the run is over and nothing of it is left.
    pub async fn remove(&self) -> Result<()> {
        let record = self.record.lock().await;
        self.persist.remove_status(record.driver, record.uuid).await
    }
}

impl UndoLog for RunFile {
    fn pushing(&self, steps: Vec<Step>) -> BlockingWork {
        let file = self.clone();
        Box::new(move || {
            // A host crash ends every process and every link by itself; only an image's former owner outlives it.
            let durable = steps.iter().any(|step| matches!(step, Step::Owner { .. }));
            let mut record = file.record.blocking_lock();
            record.undo.extend(steps);
            file.persist.write_status(&record, durable)
        })
    }
}
