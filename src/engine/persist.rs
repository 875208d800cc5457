//! The engine's way to disk: what it stores, in its own terms, off the runtime's threads.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI32, Ordering};

use super::cleanup::run_blocking;
use super::driver::DriverKind;
use super::record::{Record, VERSION};
use crate::error::Result;
use crate::store::{Durability, Store};
use crate::types::Uuid;

/// Directories of documents that stand beside a definition.
const MOMENTS: &str = "snapshots";
const SAVED: &str = "saved";

/// See the module's text.
#[derive(Debug)]
pub struct Persist {
    store: Store,
    next_ids: HashMap<DriverKind, AtomicI32>,
}

/// What a driver's part of the store holds.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub definitions: Vec<StoredDefinition>,
    pub records: Vec<Record>,
    /// What is known of snapshots and saved states, as stored.
    pub moments: HashMap<Uuid, String>,
    pub saved: HashMap<Uuid, String>,
}

/// A persistent definition as stored.
#[derive(Debug)]
pub(crate) struct StoredDefinition {
    pub uuid: Uuid,
    pub xml: String,
    pub autostart: bool,
}

impl Persist {
    /// Opens the parts of `kinds`. Blocks.
    pub(crate) fn new(store: Store, kinds: &[DriverKind]) -> Result<Self> {
        let mut next_ids = HashMap::new();
        for kind in kinds {
            store.prepare(kind.scheme())?;
            next_ids.insert(*kind, AtomicI32::new(store.next_id(kind.scheme())?));
        }
        Ok(Persist { store, next_ids })
    }

    pub(crate) async fn put_definition(&self, kind: DriverKind, uuid: Uuid, xml: String) -> Result<()> {
        let store = self.store.clone();
        run_blocking(move || store.put_definition(kind.scheme(), uuid, xml.as_bytes())).await
    }

    pub(crate) async fn remove_definition(&self, kind: DriverKind, uuid: Uuid) -> Result<()> {
        let store = self.store.clone();
        run_blocking(move || store.remove_definition(kind.scheme(), uuid)).await
    }

    /// Replaces what is known of a domain's snapshots; `None` = nothing is.
    pub(crate) async fn put_moments(&self, kind: DriverKind, uuid: Uuid, xml: Option<String>) -> Result<()> {
        self.put_document(kind, MOMENTS, uuid, xml).await
    }

    /// Replaces the note of a domain's saved state; `None` = there is none.
    pub(crate) async fn put_saved(&self, kind: DriverKind, uuid: Uuid, xml: Option<String>) -> Result<()> {
        self.put_document(kind, SAVED, uuid, xml).await
    }

    async fn put_document(&self, kind: DriverKind, of: &'static str, uuid: Uuid, xml: Option<String>) -> Result<()> {
        let store = self.store.clone();
        run_blocking(move || match xml {
            Some(xml) => store.put_document(kind.scheme(), of, uuid, xml.as_bytes()),
            None => store.remove_document(kind.scheme(), of, uuid),
        })
        .await
    }

    pub(crate) async fn set_autostart(&self, kind: DriverKind, uuid: Uuid, on: bool) -> Result<()> {
        let store = self.store.clone();
        run_blocking(move || store.set_autostart(kind.scheme(), uuid, on)).await
    }

    pub(crate) async fn put_status(&self, record: &Record, durable: bool) -> Result<()> {
        let (store, kind, uuid) = (self.store.clone(), record.driver, record.uuid);
        let json = as_json(record)?;
        run_blocking(move || store.put_status(kind.scheme(), uuid, &json, durability(durable))).await
    }

    /// [`Persist::put_status`] on this thread. Blocks.
    pub(crate) fn write_status(&self, record: &Record, durable: bool) -> Result<()> {
        self.store.put_status(record.driver.scheme(), record.uuid, &as_json(record)?, durability(durable))
    }

    pub(crate) async fn remove_status(&self, kind: DriverKind, uuid: Uuid) -> Result<()> {
        let store = self.store.clone();
        run_blocking(move || store.remove_status(kind.scheme(), uuid)).await
    }

    fn counter(&self, kind: DriverKind) -> Result<&AtomicI32> {
        let missing = || crate::error::Error::internal(format!("the {kind} driver was not opened"));
        self.next_ids.get(&kind).ok_or_else(missing)
    }

    /// The next id. It may be used once [`Persist::note_id`] has returned.
    pub(crate) fn next_id(&self, kind: DriverKind) -> Result<i32> {
        Ok(self.counter(kind)?.fetch_add(1, Ordering::Relaxed))
    }

    /// Notes on disk that no id given until now is given again. Blocks.
    pub(crate) fn note_id(&self, kind: DriverKind) -> Result<()> {
        // Two starts may write in either order; the larger number must stay.
        self.store.set_next_id(kind.scheme(), self.counter(kind)?.load(Ordering::Relaxed))
    }

    /// Whatever became of the counter: no id of a run that is there is given again.
    fn ids_above(&self, kind: DriverKind, records: &[Record]) {
        if let (Some(counter), Some(last)) = (self.next_ids.get(&kind), records.iter().map(|record| record.id).max()) {
            counter.fetch_max(last.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Keeps the record of a run that could not be understood: starting that domain is refused until it is settled.
    pub(crate) fn guard(&self, kind: DriverKind, uuid: Uuid) {
        self.store.guard_status(kind.scheme(), uuid);
    }

    /// The status records there are.
    pub(crate) async fn records(&self, kind: DriverKind) -> Result<Vec<Record>> {
        let store = self.store.clone();
        run_blocking(move || read_records(&store, kind)).await
    }

    /// Reads a driver's part of the store. Damaged and newer records are reported and left alone.
    pub(crate) async fn load(&self, kind: DriverKind) -> Result<Loaded> {
        let store = self.store.clone();
        run_blocking(move || {
            let marked: HashSet<Uuid> = store.autostarts(kind.scheme())?.into_iter().collect();
            let mut definitions = Vec::new();
            for stored in store.definitions(kind.scheme())? {
                match String::from_utf8(stored.bytes) {
                    Ok(xml) => {
                        let autostart = marked.contains(&stored.uuid);
                        definitions.push(StoredDefinition { uuid: stored.uuid, xml, autostart });
                    }
                    Err(_) => tracing::error!(path = %stored.path.display(), "not UTF-8; left alone"),
                }
            }
            let records = read_records(&store, kind)?;
            let known: HashSet<Uuid> =
                definitions.iter().map(|stored| stored.uuid).chain(records.iter().map(|record| record.uuid)).collect();
            let read = |of: &str| -> Result<HashMap<Uuid, String>> {
                let mut found = HashMap::new();
                for stored in store.documents(kind.scheme(), of)? {
                    match String::from_utf8(stored.bytes) {
                        // Of a domain that is gone: a later one with its UUID must not inherit it.
                        _ if !known.contains(&stored.uuid) => store.remove_document(kind.scheme(), of, stored.uuid)?,
                        Ok(xml) => drop(found.insert(stored.uuid, xml)),
                        Err(_) => tracing::error!(path = %stored.path.display(), "not UTF-8; left alone"),
                    }
                }
                Ok(found)
            };
            let (moments, saved) = (read(MOMENTS)?, read(SAVED)?);
            Ok(Loaded { definitions, records, moments, saved })
        })
        .await
        .inspect(|loaded| self.ids_above(kind, &loaded.records))
    }
}

fn as_json(record: &Record) -> Result<Vec<u8>> {
    serde_json::to_vec(record)
        .map_err(|error| crate::error::Error::internal("cannot write a status record as JSON").with_source(error))
}

fn durability(durable: bool) -> Durability {
    if durable { Durability::Host } else { Durability::Daemon }
}

fn read_records(store: &Store, kind: DriverKind) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for stored in store.statuses(kind.scheme())? {
        match read_record(&stored.bytes) {
            Ok(record) => records.push(record),
            Err(why) => {
                tracing::error!(path = %stored.path.display(), why, "status record left alone");
                // It may speak of a guest that runs: a start must not write over it.
                store.guard_status(kind.scheme(), stored.uuid);
            }
        }
    }
    Ok(records)
}

/// A record of this or an older version; else why not.
fn read_record(bytes: &[u8]) -> std::result::Result<Record, String> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let versioned: Versioned = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if versioned.version > VERSION {
        return Err(format!("version {} is newer than {VERSION}, which this daemon knows", versioned.version));
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}
