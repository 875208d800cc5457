//! Definitions, autostart marks, status records and id counters on disk. Knows no meaning of the bytes.
//!
//! ```text
//! <state>/<driver>/definitions/<uuid>.xml        persistent definitions
//! <state>/<driver>/autostart/<uuid>              empty marks
//! <state>/host/secrets/values/<uuid>             values of secrets, bytes as they are
//! <run>/records/<driver>/<uuid>.json             one per active run
//! <state>/<driver>/status/<uuid>.json            instead of that one, when it must survive a crash of the host
//! <run>/records/<driver>.next-id                 the next id
//! ```
//!
//! `<run>` is a tmpfs on a real host, and a new file there costs a tenth of one on a disk: only a record with something
//! to undo that outlives the host's crash is worth a disk.
//!
//! All functions block: call them off the runtime's threads. Every replacement is atomic ([`atomic`]): after a crash a
//! file holds its old or its new bytes. Damaged or foreign files are reported and left alone.

pub mod atomic;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::types::Uuid;

pub use atomic::Durability;

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// Status records that need to survive the daemon only.
    records: PathBuf,
    /// Runs whose record is in the state directory.
    durable: Arc<Mutex<HashSet<PathBuf>>>,
    /// Records that cannot be used; see [`Store::guard_status`].
    guarded: Arc<Mutex<HashSet<PathBuf>>>,
    /// The next id on disk by driver, so that two starts cannot write theirs in the wrong order.
    next_ids: Arc<Mutex<HashMap<String, i32>>>,
}

/// A file as it was found.
#[derive(Clone, Debug)]
pub struct Stored {
    pub uuid: Uuid,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl Store {
    /// A store below `root` and the run-time directory `run`; both are made when missing, what is in them with mode 0700.
    pub fn open(root: &Path, run: &Path) -> Result<Store> {
        let records = run.join("records");
        make_dir(root)?;
        make_dir(&records)?;
        Ok(Store {
            root: root.to_path_buf(),
            records,
            durable: Arc::default(),
            guarded: Arc::default(),
            next_ids: Arc::default(),
        })
    }

    fn dir(&self, driver: &str, kind: &str) -> PathBuf {
        self.root.join(driver).join(kind)
    }

    /// Makes a driver's directories and removes what a crash left: temporary files, and marks whose definition is gone
    /// (a later domain with that UUID must not inherit one).
    pub fn prepare(&self, driver: &str) -> Result<()> {
        for kind in ["definitions", "autostart", "status"] {
            let dir = self.dir(driver, kind);
            make_dir(&dir)?;
            atomic::sweep(&dir)?;
        }
        let records = self.records.join(driver);
        make_dir(&records)?;
        atomic::sweep(&records)?;
        atomic::sweep(&self.records)?;
        for uuid in self.autostarts(driver)? {
            if !self.definition_path(driver, uuid).exists() {
                atomic::remove(&self.mark_path(driver, uuid), Durability::Daemon)?;
            }
        }
        Ok(())
    }

    /// A document that stands beside a definition; `of` names what it is about.
    fn document_path(&self, driver: &str, of: &str, uuid: Uuid) -> PathBuf {
        self.dir(driver, of).join(format!("{uuid}.xml"))
    }

    /// Replaces such a document; durable when it returns.
    pub fn put_document(&self, driver: &str, of: &str, uuid: Uuid, xml: &[u8]) -> Result<()> {
        make_dir(&self.dir(driver, of))?;
        atomic::replace(&self.document_path(driver, of, uuid), xml, Durability::Host)
    }

    /// Removes such a document; durable when it returns. Nothing there is no error.
    pub fn remove_document(&self, driver: &str, of: &str, uuid: Uuid) -> Result<()> {
        if !self.dir(driver, of).is_dir() {
            return Ok(());
        }
        atomic::remove(&self.document_path(driver, of, uuid), Durability::Host)
    }

    /// All such documents. Files that are none are left alone.
    pub fn documents(&self, driver: &str, of: &str) -> Result<Vec<Stored>> {
        let dir = self.dir(driver, of);
        if !dir.is_dir() {
            return Ok(Vec::new());
        }
        atomic::sweep(&dir)?;
        read_all(&dir, "xml")
    }

    fn definition_path(&self, driver: &str, uuid: Uuid) -> PathBuf {
        self.dir(driver, "definitions").join(format!("{uuid}.xml"))
    }

    fn mark_path(&self, driver: &str, uuid: Uuid) -> PathBuf {
        self.dir(driver, "autostart").join(uuid.to_string())
    }

    /// Replaces a definition; durable when it returns.
    pub fn put_definition(&self, driver: &str, uuid: Uuid, xml: &[u8]) -> Result<()> {
        atomic::replace(&self.definition_path(driver, uuid), xml, Durability::Host)
    }

    /// Removes a definition and its autostart mark; durable when it returns. Nothing there is no error.
    ///
    /// The definition goes first: a crash in between leaves a mark without meaning, which [`Store::prepare`] sweeps.
    pub fn remove_definition(&self, driver: &str, uuid: Uuid) -> Result<()> {
        atomic::remove(&self.definition_path(driver, uuid), Durability::Host)?;
        atomic::remove(&self.mark_path(driver, uuid), Durability::Daemon)
    }

    /// All definitions, in no order.
    pub fn definitions(&self, driver: &str) -> Result<Vec<Stored>> {
        read_all(&self.dir(driver, "definitions"), "xml")
    }

    fn value_path(&self, driver: &str, uuid: Uuid) -> PathBuf {
        self.dir(driver, "values").join(uuid.to_string())
    }

    /// Makes the directory of values and removes what a crash left: temporary files, and values whose definition is gone.
    pub fn prepare_values(&self, driver: &str) -> Result<()> {
        let dir = self.dir(driver, "values");
        make_dir(&dir)?;
        atomic::sweep(&dir)?;
        for path in entries(&dir)? {
            let uuid = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            if uuid.is_some_and(|uuid| !self.definition_path(driver, uuid).exists()) {
                tracing::warn!(path = %path.display(), "removing the value of an object that is gone");
                atomic::remove(&path, Durability::Host)?;
            }
        }
        Ok(())
    }

    /// Replaces the value (mode 0600) that belongs to a definition; durable when it returns.
    pub fn put_value(&self, driver: &str, uuid: Uuid, value: &[u8]) -> Result<()> {
        atomic::replace(&self.value_path(driver, uuid), value, Durability::Host)
    }

    /// Removes a value; durable when it returns. Nothing there is no error.
    pub fn remove_value(&self, driver: &str, uuid: Uuid) -> Result<()> {
        atomic::remove(&self.value_path(driver, uuid), Durability::Host)
    }

    /// The value that belongs to a definition, if there is one. Error: code 38 naming the file.
    pub fn value(&self, driver: &str, uuid: Uuid) -> Result<Option<Vec<u8>>> {
        let path = self.value_path(driver, uuid);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::system(format!("cannot read '{}'", path.display()), error)),
        }
    }

    /// Sets or clears the autostart mark.
    pub fn set_autostart(&self, driver: &str, uuid: Uuid, on: bool) -> Result<()> {
        let path = self.mark_path(driver, uuid);
        if on { atomic::replace(&path, b"", Durability::Host) } else { atomic::remove(&path, Durability::Host) }
    }

    /// UUIDs with an autostart mark.
    pub fn autostarts(&self, driver: &str) -> Result<Vec<Uuid>> {
        let dir = self.dir(driver, "autostart");
        let names = entries(&dir)?.into_iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok());
        Ok(names.collect())
    }

    fn status_path(&self, driver: &str, uuid: Uuid) -> PathBuf {
        self.dir(driver, "status").join(format!("{uuid}.json"))
    }

    fn record_path(&self, driver: &str, uuid: Uuid) -> PathBuf {
        self.records.join(driver).join(format!("{uuid}.json"))
    }

    fn durable(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Protects a record that could not be understood (damaged, or a newer daemon's) from being replaced or removed
    /// while this daemon runs: it may describe a guest that runs.
    pub fn guard_status(&self, driver: &str, uuid: Uuid) {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner).insert(self.status_path(driver, uuid));
    }

    fn is_guarded(&self, path: &Path) -> bool {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// Replaces a status record. Once it was written to survive the host it stays where it does. Error: code 55 for a
    /// guarded one.
    pub fn put_status(&self, driver: &str, uuid: Uuid, json: &[u8], durability: Durability) -> Result<()> {
        let (path, record) = (self.status_path(driver, uuid), self.record_path(driver, uuid));
        if self.is_guarded(&path) {
            let there = if record.exists() { &record } else { &path };
            return Err(Error::invalid_state(format!(
                "status record '{}' cannot be read by this daemon (its log says why) and may describe a running guest: \
                 run the daemon that wrote it, or make sure that no guest runs, remove the file and restart the daemon",
                there.display()
            )));
        }
        if durability == Durability::Daemon && !self.durable().contains(&path) {
            return atomic::replace(&record, json, durability);
        }
        atomic::replace(&path, json, durability)?;
        if self.durable().insert(path) { atomic::remove(&record, Durability::Daemon) } else { Ok(()) }
    }

    /// Removes a status record. Nothing there is no error; a guarded one stays.
    pub fn remove_status(&self, driver: &str, uuid: Uuid) -> Result<()> {
        let path = self.status_path(driver, uuid);
        if self.is_guarded(&path) {
            return Ok(());
        }
        // First: with the one in the state directory gone it would count again.
        atomic::remove(&self.record_path(driver, uuid), Durability::Daemon)?;
        if self.durable().contains(&path) {
            atomic::remove(&path, Durability::Daemon)?;
            self.durable().remove(&path);
        }
        Ok(())
    }

    /// All status records, in no order.
    pub fn statuses(&self, driver: &str) -> Result<Vec<Stored>> {
        let mut all = read_all(&self.dir(driver, "status"), "json")?;
        let outlive: HashSet<Uuid> = all.iter().map(|stored| stored.uuid).collect();
        self.durable().extend(all.iter().map(|stored| stored.path.clone()));
        // Of the same run, from before it had something that outlives the host.
        all.extend(
            read_all(&self.records.join(driver), "json")?.into_iter().filter(|one| !outlive.contains(&one.uuid)),
        );
        Ok(all)
    }

    fn next_id_path(&self, driver: &str) -> PathBuf {
        self.records.join(format!("{driver}.next-id"))
    }

    /// The next id as last written; 1 in a new store.
    pub fn next_id(&self, driver: &str) -> Result<i32> {
        let path = self.next_id_path(driver);
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                Error::internal(format!("'{}' holds no number: put the next free domain id there", path.display()))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(1),
            Err(error) => Err(Error::system(format!("cannot read '{}'", path.display()), error)),
        }
    }

    /// Notes the next id; a number below the one noted before changes nothing. Survives a crash of the daemon; after a
    /// crash of the host no run is left that had one.
    pub fn set_next_id(&self, driver: &str, next: i32) -> Result<()> {
        let mut noted = self.next_ids.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.get(driver).is_some_and(|noted| *noted >= next) {
            return Ok(());
        }
        atomic::replace(&self.next_id_path(driver), next.to_string().as_bytes(), Durability::Daemon)?;
        noted.insert(driver.to_string(), next);
        Ok(())
    }
}

fn make_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::system(format!("cannot create directory '{}'", path.display()), error))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::system(format!("cannot read directory '{}'", dir.display()), error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    Ok(paths)
}

fn read_all(dir: &Path, extension: &str) -> Result<Vec<Stored>> {
    let mut all = Vec::new();
    for path in entries(dir)? {
        let uuid = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        match (uuid, path.extension()) {
            (Some(uuid), Some(found)) if found == extension => match fs::read(&path) {
                Ok(bytes) => all.push(Stored { uuid, path, bytes }),
                Err(error) => tracing::error!(path = %path.display(), %error, "cannot be read; left alone"),
            },
            _ => tracing::warn!(path = %path.display(), "not a file of this store; left alone"),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state"), &dir.path().join("run")).unwrap();
        store.prepare("test").unwrap();
        (dir, store)
    }

    #[test]
    fn definitions_come_back_and_go_with_their_mark() {
        let (_dir, store) = store();
        let uuid = Uuid::new_v4();
        store.put_definition("test", uuid, b"<a/>").unwrap();
        store.put_definition("test", uuid, b"<b/>").unwrap();
        store.set_autostart("test", uuid, true).unwrap();
        assert_eq!(store.definitions("test").unwrap()[0].bytes, b"<b/>");
        assert_eq!(store.autostarts("test").unwrap(), [uuid]);
        store.remove_definition("test", uuid).unwrap();
        store.remove_definition("test", uuid).unwrap();
        assert!(store.definitions("test").unwrap().is_empty() && store.autostarts("test").unwrap().is_empty());
    }

    #[test]
    fn foreign_files_are_left_alone() {
        let (dir, store) = store();
        let foreign = dir.path().join("state/test/definitions/README");
        fs::File::create(&foreign).unwrap();
        assert!(store.definitions("test").unwrap().is_empty());
        assert!(foreign.exists());
    }

    #[test]
    fn a_guarded_record_stays_as_it_is() {
        let (_dir, store) = store();
        let uuid = Uuid::new_v4();
        store.put_status("test", uuid, b"{\"version\": 99}", Durability::Daemon).unwrap();
        store.guard_status("test", uuid);
        let error = store.put_status("test", uuid, b"{}", Durability::Daemon).unwrap_err();
        assert_eq!(error.code, crate::error::Code::OperationInvalid);
        assert!(error.detail.contains(&uuid.to_string()), "{error}");
        store.clone().remove_status("test", uuid).unwrap();
        assert_eq!(store.statuses("test").unwrap()[0].bytes, b"{\"version\": 99}");
        let other = Uuid::new_v4();
        store.put_status("test", other, b"{}", Durability::Daemon).unwrap();
        store.remove_status("test", other).unwrap();
    }

    #[test]
    fn a_record_that_must_survive_the_host_is_on_the_disk_from_then_on() {
        let (dir, store) = store();
        let uuid = Uuid::new_v4();
        let (disk, memory) = (store.status_path("test", uuid), store.record_path("test", uuid));
        store.put_status("test", uuid, b"1", Durability::Daemon).unwrap();
        assert_eq!((disk.exists(), memory.exists()), (false, true));
        store.put_status("test", uuid, b"2", Durability::Host).unwrap();
        assert_eq!((disk.exists(), memory.exists()), (true, false));
        store.put_status("test", uuid, b"3", Durability::Daemon).unwrap();
        assert_eq!((fs::read(&disk).unwrap(), memory.exists()), (b"3".to_vec(), false));
        // A daemon killed between the two files.
        fs::File::create(&memory).unwrap();
        let next = Store::open(&dir.path().join("state"), &dir.path().join("run")).unwrap();
        assert_eq!(next.statuses("test").unwrap().iter().map(|one| &*one.bytes).collect::<Vec<_>>(), [b"3"]);
        next.put_status("test", uuid, b"4", Durability::Daemon).unwrap();
        assert_eq!(fs::read(&disk).unwrap(), b"4");
        next.remove_status("test", uuid).unwrap();
        assert!(next.statuses("test").unwrap().is_empty());
        next.put_status("test", uuid, b"5", Durability::Daemon).unwrap();
        assert_eq!((disk.exists(), memory.exists()), (false, true));
    }

    #[test]
    fn a_value_is_private_and_goes_with_its_definition() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, store) = store();
        store.prepare_values("test").unwrap();
        let (kept, stale) = (Uuid::new_v4(), Uuid::new_v4());
        store.put_definition("test", kept, b"<a/>").unwrap();
        store.put_value("test", kept, b"1").unwrap();
        store.put_value("test", kept, b"2").unwrap();
        store.put_value("test", stale, b"3").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.value_path("test", kept)), 0o600);
        assert_eq!(mode(&store.dir("test", "values")), 0o700);
        store.prepare_values("test").unwrap();
        assert_eq!(store.value("test", kept).unwrap().as_deref(), Some(b"2".as_slice()));
        assert_eq!(store.value("test", stale).unwrap(), None);
        store.remove_value("test", kept).unwrap();
        store.remove_value("test", kept).unwrap();
        assert_eq!(store.value("test", kept).unwrap(), None);
    }

    #[test]
    fn a_mark_without_definition_is_swept() {
        let (_dir, store) = store();
        let (kept, stale) = (Uuid::new_v4(), Uuid::new_v4());
        store.put_definition("test", kept, b"<a/>").unwrap();
        store.set_autostart("test", kept, true).unwrap();
        store.set_autostart("test", stale, true).unwrap();
        store.prepare("test").unwrap();
        assert_eq!(store.autostarts("test").unwrap(), [kept]);
    }

    #[test]
    fn a_thousand_definitions_come_back() {
        let (_dir, store) = store();
        let dir = store.dir("test", "definitions");
        for number in 0..1000u128 {
            // Not through the store: a thousand waits for the disk are not what is tested.
            fs::File::create(dir.join(format!("{}.xml", Uuid::from_u128(number)))).unwrap();
        }
        assert_eq!(store.definitions("test").unwrap().len(), 1000);
    }

    #[test]
    fn ids_are_remembered() {
        let (_dir, store) = store();
        assert_eq!(store.next_id("test").unwrap(), 1);
        store.set_next_id("test", 7).unwrap();
        // The start that got the smaller number came to write later.
        store.clone().set_next_id("test", 6).unwrap();
        assert_eq!(store.next_id("test").unwrap(), 7);
    }
}
