//! Objects of the host that have a definition: networks, storage pools, secrets. One registry per kind.
//!
//! ```text
//! claim(definition) ── new: UUID and name reserved ──┐
//!                   └─ known: the object, locked ────┴─> Change ── define / started / stopped / undefine ...
//! readers <── Handle::state(): an immutable snapshot <──────────── store, then publish; the caller emits the event
//! ```
//!
//! An object is there while it has a persistent definition or runs. [`Change`] is the only way to change one; it holds
//! the object's lock, so changes of one object come one after the other and readers never wait. What is on disk (below
//! `<state>/host/<kind>/`, as `store` keeps it) is written before it is published. The registry of the test driver has no
//! disk. A kind of object is a type that implements [`Kind`]; what it does when started is its own business.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::ArcSwap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use super::access::guard::{Details, Guarded};
use super::api::{ObjectKind, On};
use super::cleanup::run_blocking;
use super::host::Context;
use crate::error::{Code, Error, Result, Subsystem};
use crate::store::Durability;
use crate::types::Uuid;

/// Version of the status records written here.
const VERSION: u32 = 1;

/// What makes networks networks and secrets secrets.
pub trait Kind: Clone + Debug + Send + Sync + 'static {
    /// A parsed definition.
    type Def: Debug + Send + Sync + 'static;
    /// What running means, as data: it is in the status record, from which a killed daemon's successor goes on or cleans
    /// up. `()` for objects that do not run.
    type Live: Debug + Send + Sync + Serialize + DeserializeOwned + 'static;

    /// In texts: `network`, `storage pool`, `secret`.
    const NOUN: &'static str;
    /// Directory below `<state>/host/`.
    const DIRECTORY: &'static str;
    const OBJECT: ObjectKind;
    const SUBSYSTEM: Subsystem;
    /// The code of "there is none".
    const MISSING: Code;
    /// What libvirt's functions of the driver begin with: `network`, `storage`, `secret`.
    const SCHEME: &'static str;

    /// Reads a definition from the store.
    fn parse(xml: &str) -> Result<Self::Def>;
    /// Writes a definition for the store: everything, also what clients see only with a flag.
    fn write(def: &Self::Def) -> String;
    fn uuid(def: &Self::Def) -> Uuid;
    /// The second unique key beside the UUID, the name as a rule; empty when it has none.
    fn name(def: &Self::Def) -> String;
    /// What rules may look at, by UUID (nil when it is to get one) and second key.
    fn details(uuid: Uuid, name: &str) -> Details;
    /// Whether a definition is kept on disk.
    fn stored(_def: &Self::Def) -> bool {
        true
    }
    /// The error for `def` when its UUID belongs to an object of another name, or its name to another UUID.
    fn taken(def: &Self::Def, uuid: Uuid, name: &str) -> Error {
        let text = if Self::uuid(def) == uuid {
            format!("{} '{name}' is already defined with uuid {uuid}", Self::SHORT_NOUN)
        } else {
            format!("{} '{name}' already exists with uuid {uuid}", Self::SHORT_NOUN)
        };
        Error::new(Code::OperationFailed, text)
    }
    /// The noun of [`Kind::taken`]; libvirt says `pool` there.
    const SHORT_NOUN: &'static str = Self::NOUN;
}

/// What runs.
#[derive(Debug)]
pub struct Run<K: Kind> {
    /// The definition it was started from (with what was changed since).
    pub def: Arc<K::Def>,
    pub live: Arc<K::Live>,
    /// The boot it was started in: after a reboot, processes and links of it are gone.
    pub boot_id: String,
}

// Not derived, which would ask definitions to be `Clone`.
impl<K: Kind> Clone for Run<K> {
    fn clone(&self) -> Self {
        Run { def: self.def.clone(), live: self.live.clone(), boot_id: self.boot_id.clone() }
    }
}

/// One moment of an object.
#[derive(Debug)]
pub struct State<K: Kind> {
    /// The persistent definition: what the next start takes.
    pub config: Option<Arc<K::Def>>,
    pub run: Option<Run<K>>,
    pub autostart: bool,
}

impl<K: Kind> Clone for State<K> {
    fn clone(&self) -> Self {
        State { config: self.config.clone(), run: self.run.clone(), autostart: self.autostart }
    }
}

impl<K: Kind> State<K> {
    fn nothing() -> Self {
        State { config: None, run: None, autostart: false }
    }

    pub fn active(&self) -> bool {
        self.run.is_some()
    }

    pub fn persistent(&self) -> bool {
        self.config.is_some()
    }

    /// The definition in force: that of the run, else the persistent one.
    pub fn def(&self) -> Option<&Arc<K::Def>> {
        self.run.as_ref().map(|run| &run.def).or(self.config.as_ref())
    }

    /// The persistent definition where there is one, else that of the run (`*_XML_INACTIVE`).
    pub fn inactive_def(&self) -> Option<&Arc<K::Def>> {
        self.config.as_ref().or(self.run.as_ref().map(|run| &run.def))
    }
}

/// An object. Cheap to clone; stays valid, with "not found" answers, after the object is gone.
#[derive(Clone, Debug)]
pub struct Handle<K: Kind>(Arc<Shared<K>>);

#[derive(Debug)]
struct Shared<K: Kind> {
    uuid: Uuid,
    name: String,
    objects: Arc<Objects<K>>,
    state: ArcSwap<State<K>>,
    changes: Arc<tokio::sync::Mutex<()>>,
    gone: AtomicBool,
}

impl<K: Kind> Handle<K> {
    pub fn uuid(&self) -> Uuid {
        self.0.uuid
    }

    /// [`Kind::name`]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The object as it is now; never waits.
    pub fn state(&self) -> Arc<State<K>> {
        self.0.state.load_full()
    }

    /// The definition in force. Error: it is gone.
    pub fn def(&self) -> Result<Arc<K::Def>> {
        self.state().def().cloned().ok_or_else(|| self.missing())
    }

    /// The registry it is in.
    pub fn objects(&self) -> &Arc<Objects<K>> {
        &self.0.objects
    }

    /// What it shares with the other objects of the host.
    pub fn context(&self) -> &Context {
        &self.0.objects.context
    }

    /// Waits for the changes that others make, and locks them out. Error: the object is gone.
    pub async fn change(&self) -> Result<Change<K>> {
        let lock = self.0.changes.clone().lock_owned().await;
        if self.0.gone.load(Ordering::Acquire) {
            return Err(self.missing());
        }
        Ok(Change { handle: self.clone(), reserved: false, _lock: lock })
    }

    fn missing(&self) -> Error {
        K::missing_uuid(self.0.uuid, Some(&self.0.name))
    }
}

impl<K: Kind> On for Handle<K> {
    const KIND: ObjectKind = K::OBJECT;

    fn scheme(&self) -> &'static str {
        K::SCHEME
    }

    fn subsystem(&self) -> Subsystem {
        K::SUBSYSTEM
    }
}

impl<K: Kind> Guarded for Handle<K> {
    const OBJECT: &'static str = K::OBJECT.of_rights();

    async fn details(&self) -> Details {
        K::details(self.uuid(), self.name())
    }
}

/// What rules may look at of an object that is to be as `def` says.
pub fn definition<K: Kind>(def: &K::Def) -> Details {
    K::details(K::uuid(def), &K::name(def))
}

/// Errors that every kind has.
trait Errors: Kind {
    fn missing(what: String) -> Error {
        Error::new(Self::MISSING, what).with_subsystem(Self::SUBSYSTEM)
    }

    fn missing_uuid(uuid: Uuid, name: Option<&str>) -> Error {
        match name.filter(|name| !name.is_empty()) {
            Some(name) => Self::missing(format!("no {} with matching uuid '{uuid}' ({name})", Self::NOUN)),
            None => Self::missing(format!("no {} with matching uuid '{uuid}'", Self::NOUN)),
        }
    }
}

impl<K: Kind> Errors for K {}

/// The right to change an object, until it is dropped. The methods store first and publish then; each is atomic on disk.
#[derive(Debug)]
pub struct Change<K: Kind> {
    handle: Handle<K>,
    /// The object is not visible yet: its UUID and name are only reserved.
    reserved: bool,
    _lock: OwnedMutexGuard<()>,
}

impl<K: Kind> Change<K> {
    pub fn handle(&self) -> &Handle<K> {
        &self.handle
    }

    pub fn state(&self) -> Arc<State<K>> {
        self.handle.state()
    }

    /// Whether this is an object that nobody sees yet.
    pub fn is_new(&self) -> bool {
        self.reserved
    }

    fn objects(&self) -> &Arc<Objects<K>> {
        self.handle.objects()
    }

    fn publish(&mut self, change: impl FnOnce(&mut State<K>)) {
        let mut state = State::clone(&self.state());
        change(&mut state);
        let exists = state.persistent() || state.active();
        self.handle.0.state.store(Arc::new(state));
        if exists && self.reserved {
            self.objects().show(&self.handle);
            self.reserved = false;
        }
        if !exists && !self.reserved {
            self.objects().forget(&self.handle);
        }
    }

    /// Makes `def` the persistent definition.
    pub async fn define(&mut self, def: Arc<K::Def>) -> Result<()> {
        if K::stored(&def) {
            self.objects().context.put_definition::<K>(self.handle.uuid(), K::write(&def)).await?;
        } else if self.state().config.as_ref().is_some_and(|former| K::stored(former)) {
            self.objects().context.remove_definition::<K>(self.handle.uuid()).await?;
        }
        self.publish(|state| state.config = Some(def));
        Ok(())
    }

    /// Forgets the persistent definition and the autostart mark; an object that does not run is gone then.
    pub async fn undefine(&mut self) -> Result<()> {
        self.objects().context.remove_definition::<K>(self.handle.uuid()).await?;
        self.publish(|state| {
            state.config = None;
            state.autostart = false;
        });
        Ok(())
    }

    /// Whether it is started with the daemon. The caller has refused that for transient objects.
    pub async fn set_autostart(&mut self, on: bool) -> Result<()> {
        self.objects().context.set_autostart::<K>(self.handle.uuid(), on).await?;
        self.publish(|state| state.autostart = on);
        Ok(())
    }

    /// What `def` and `live` are as a run of now.
    pub fn run(&self, def: Arc<K::Def>, live: K::Live) -> Run<K> {
        Run { def, live: Arc::new(live), boot_id: self.handle.context().boot_id.clone() }
    }

    /// Notes on disk what is about to be made, before it is made, and shows nobody: a daemon killed from here on finds it
    /// and cleans up.
    pub async fn prepare(&self, run: &Run<K>) -> Result<()> {
        self.objects().context.put_record::<K>(self.handle.uuid(), run).await
    }

    /// What [`Change::prepare`] noted never came to be, or was taken back: the run on disk is again the one that readers
    /// see, or none.
    pub async fn forget_record(&self) -> Result<()> {
        match &self.state().run {
            Some(run) => self.prepare(run).await,
            None => self.objects().context.remove_record::<K>(self.handle.uuid()).await,
        }
    }

    /// It runs, or runs in another way than before: noted on disk, then published.
    pub async fn started(&mut self, run: Run<K>) -> Result<()> {
        self.prepare(&run).await?;
        self.publish(|state| state.run = Some(run));
        Ok(())
    }

    /// It runs no longer, and everything it had made is cleaned up. A transient object is gone then.
    pub async fn stopped(&mut self) -> Result<()> {
        self.objects().context.remove_record::<K>(self.handle.uuid()).await?;
        self.publish(|state| state.run = None);
        Ok(())
    }
}

impl<K: Kind> Drop for Change<K> {
    fn drop(&mut self) {
        if self.reserved {
            self.handle.0.gone.store(true, Ordering::Release);
            self.objects().unreserve(&self.handle);
        } else if self.handle.0.gone.load(Ordering::Acquire) {
            self.objects().left(&self.handle);
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Objects<K: Kind> {
    context: Arc<Context>,
    inner: RwLock<Inner<K>>,
}

#[derive(Debug)]
struct Inner<K: Kind> {
    by_uuid: HashMap<Uuid, Handle<K>>,
    /// Ordered, so that lists come out the same every time. Objects without a name are not in it.
    by_name: BTreeMap<String, Uuid>,
    reserved: HashSet<(Uuid, String)>,
    /// Gone, but whoever took them away has not told yet: nothing of their UUID or name is made before, or its events
    /// would come first.
    leaving: Vec<Handle<K>>,
}

impl<K: Kind> Objects<K> {
    pub(super) fn new(context: Arc<Context>) -> Arc<Self> {
        let inner =
            Inner { by_uuid: HashMap::new(), by_name: BTreeMap::new(), reserved: HashSet::new(), leaving: Vec::new() };
        Arc::new(Objects { context, inner: RwLock::new(inner) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner<K>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<K>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object with this UUID. Error: none.
    pub fn by_uuid(&self, uuid: Uuid) -> Result<Handle<K>> {
        self.read().by_uuid.get(&uuid).cloned().ok_or_else(|| K::missing_uuid(uuid, None))
    }

    /// The object a client's handle means; its UUID decides, the name is for the text.
    pub fn find(&self, uuid: Uuid, name: &str) -> Result<Handle<K>> {
        self.read().by_uuid.get(&uuid).cloned().ok_or_else(|| K::missing_uuid(uuid, Some(name)))
    }

    /// The object with this name. Error: none.
    pub fn by_name(&self, name: &str) -> Result<Handle<K>> {
        let found = self.get(name);
        found.ok_or_else(|| K::missing(format!("no {} with matching name '{name}'", K::NOUN)))
    }

    /// The object with this name, if any.
    pub fn get(&self, name: &str) -> Option<Handle<K>> {
        let inner = self.read();
        inner.by_name.get(name).and_then(|uuid| inner.by_uuid.get(uuid)).cloned()
    }

    /// All objects, by name, then by UUID.
    pub fn all(&self) -> Vec<Handle<K>> {
        let mut all: Vec<Handle<K>> = self.read().by_uuid.values().cloned().collect();
        all.sort_by(|a, b| (a.name(), a.uuid()).cmp(&(b.name(), b.uuid())));
        all
    }

    fn handle(self: &Arc<Self>, uuid: Uuid, name: String, state: State<K>) -> Handle<K> {
        Handle(Arc::new(Shared {
            uuid,
            name,
            objects: self.clone(),
            state: ArcSwap::from_pointee(state),
            changes: Arc::default(),
            gone: AtomicBool::new(false),
        }))
    }

    /// The object that `def` is about, locked: a known one, or a new one that is visible to nobody before its first
    /// [`Change::define`] or [`Change::started`]. Errors: [`Kind::taken`].
    pub async fn claim(self: &Arc<Self>, def: &K::Def) -> Result<Change<K>> {
        let (uuid, name) = (K::uuid(def), K::name(def));
        loop {
            let known = match self.known_or_reserve(def, uuid, &name)? {
                Some(handle) => handle,
                None => {
                    let handle = self.handle(uuid, name, State::nothing());
                    let lock = handle.0.changes.clone().lock_owned().await;
                    return Ok(Change { handle, reserved: true, _lock: lock });
                }
            };
            // Gone while we waited: then it is a new one.
            if let Ok(change) = known.change().await {
                return Ok(change);
            }
        }
    }

    fn known_or_reserve(&self, def: &K::Def, uuid: Uuid, name: &str) -> Result<Option<Handle<K>>> {
        let taken = |uuid: Uuid, name: &str| K::taken(def, uuid, name).or_subsystem(K::SUBSYSTEM);
        let mut inner = self.write();
        if let Some(known) = inner.by_uuid.get(&uuid) {
            return if known.name() == name { Ok(Some(known.clone())) } else { Err(taken(uuid, known.name())) };
        }
        if let Some(other) = inner.by_name.get(name) {
            return Err(taken(*other, name));
        }
        if let Some(leaving) =
            inner.leaving.iter().find(|left| left.uuid() == uuid || left.name() == name && !name.is_empty())
        {
            return Ok(Some(leaving.clone()));
        }
        let reserved = inner.reserved.iter().find(|(of, as_name)| *of == uuid || (as_name == name && !name.is_empty()));
        if let Some((_, name)) = reserved {
            let text = format!("{} '{name}' is just being defined by another call", K::SHORT_NOUN);
            return Err(Error::new(Code::OperationFailed, text).with_subsystem(K::SUBSYSTEM));
        }
        inner.reserved.insert((uuid, name.to_string()));
        Ok(None)
    }

    fn show(&self, handle: &Handle<K>) {
        let mut inner = self.write();
        inner.reserved.remove(&(handle.uuid(), handle.name().to_string()));
        if !handle.name().is_empty() {
            inner.by_name.insert(handle.name().to_string(), handle.uuid());
        }
        inner.by_uuid.insert(handle.uuid(), handle.clone());
    }

    fn forget(&self, handle: &Handle<K>) {
        handle.0.gone.store(true, Ordering::Release);
        let mut inner = self.write();
        inner.by_uuid.remove(&handle.uuid());
        if inner.by_name.get(handle.name()) == Some(&handle.uuid()) {
            inner.by_name.remove(handle.name());
        }
        inner.leaving.push(handle.clone());
    }

    fn left(&self, handle: &Handle<K>) {
        self.write().leaving.retain(|leaving| !Arc::ptr_eq(&leaving.0, &handle.0));
    }

    fn unreserve(&self, handle: &Handle<K>) {
        self.write().reserved.remove(&(handle.uuid(), handle.name().to_string()));
    }

    /// Reads what the store has. What cannot be read is logged and left alone. Runs are as their records say: whether they
    /// still run is for the kind's own recovery to find out.
    pub(super) async fn load(self: &Arc<Self>) -> Result<()> {
        for (uuid, xml, autostart) in self.context.definitions::<K>().await? {
            match K::parse(&xml) {
                Ok(def) if K::uuid(&def) == uuid => {
                    if let Err(error) = self.known_or_reserve(&def, uuid, &K::name(&def)) {
                        tracing::error!(kind = K::DIRECTORY, %uuid, %error, "definition left alone");
                        continue;
                    }
                    let name = K::name(&def);
                    let state = State { config: Some(Arc::new(def)), run: None, autostart };
                    self.show(&self.handle(uuid, name, state));
                }
                Ok(def) => {
                    tracing::error!(kind = K::DIRECTORY, %uuid, inside = %K::uuid(&def), "definition of another uuid");
                }
                Err(error) => tracing::error!(kind = K::DIRECTORY, %uuid, %error, "definition left alone"),
            }
        }
        for (uuid, run) in self.context.records::<K>().await? {
            if let Ok(known) = self.by_uuid(uuid) {
                let mut state = State::clone(&known.state());
                state.run = Some(run);
                known.0.state.store(Arc::new(state));
            } else if let Err(error) = self.known_or_reserve(&run.def, uuid, &K::name(&run.def)) {
                tracing::error!(kind = K::DIRECTORY, %uuid, %error, "status record left alone");
            } else {
                let name = K::name(&run.def);
                self.show(&self.handle(uuid, name, State { config: None, run: Some(run), autostart: false }));
            }
        }
        Ok(())
    }
}

/// A status record as it is on disk.
#[derive(Serialize, Deserialize)]
struct Record<L> {
    version: u32,
    boot_id: String,
    definition: String,
    live: L,
}

/// The store, in terms of kinds. Nothing without a disk.
impl Context {
    pub(super) fn part<K: Kind>() -> String {
        format!("host/{}", K::DIRECTORY)
    }

    /// Works on the store off the runtime's threads; without a disk it is `nothing`.
    pub(super) async fn with_store<T: Send + 'static>(
        &self,
        nothing: T,
        work: impl FnOnce(&crate::store::Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match self.store.clone() {
            Some(store) => run_blocking(move || work(&store)).await,
            None => Ok(nothing),
        }
    }

    async fn put_definition<K: Kind>(&self, uuid: Uuid, xml: String) -> Result<()> {
        self.with_store((), move |store| store.put_definition(&Self::part::<K>(), uuid, xml.as_bytes())).await
    }

    async fn remove_definition<K: Kind>(&self, uuid: Uuid) -> Result<()> {
        self.with_store((), move |store| store.remove_definition(&Self::part::<K>(), uuid)).await
    }

    async fn set_autostart<K: Kind>(&self, uuid: Uuid, on: bool) -> Result<()> {
        self.with_store((), move |store| store.set_autostart(&Self::part::<K>(), uuid, on)).await
    }

    async fn put_record<K: Kind>(&self, uuid: Uuid, run: &Run<K>) -> Result<()> {
        let record = Record {
            version: VERSION,
            boot_id: run.boot_id.clone(),
            definition: K::write(&run.def),
            live: run.live.as_ref(),
        };
        let json = serde_json::to_vec_pretty(&record)
            .map_err(|error| Error::internal("cannot write a status record as JSON").with_source(error))?;
        // Survives the daemon, not the host, as everything a run makes.
        self.with_store((), move |store| store.put_status(&Self::part::<K>(), uuid, &json, Durability::Daemon)).await
    }

    async fn remove_record<K: Kind>(&self, uuid: Uuid) -> Result<()> {
        self.with_store((), move |store| store.remove_status(&Self::part::<K>(), uuid)).await
    }

    async fn definitions<K: Kind>(&self) -> Result<Vec<(Uuid, String, bool)>> {
        self.with_store(Vec::new(), |store| {
            let part = Self::part::<K>();
            store.prepare(&part)?;
            let marked: HashSet<Uuid> = store.autostarts(&part)?.into_iter().collect();
            let mut found = Vec::new();
            for stored in store.definitions(&part)? {
                match String::from_utf8(stored.bytes) {
                    Ok(xml) => found.push((stored.uuid, xml, marked.contains(&stored.uuid))),
                    Err(_) => tracing::error!(path = %stored.path.display(), "not UTF-8; left alone"),
                }
            }
            Ok(found)
        })
        .await
    }

    async fn records<K: Kind>(&self) -> Result<Vec<(Uuid, Run<K>)>> {
        self.with_store(Vec::new(), |store| {
            let part = Self::part::<K>();
            let mut found = Vec::new();
            for stored in store.statuses(&part)? {
                match read_record::<K>(&stored.bytes) {
                    Ok(run) => found.push((stored.uuid, run)),
                    Err(why) => {
                        tracing::error!(path = %stored.path.display(), why, "status record left alone");
                        // It may speak of something that runs: a start must not write over it.
                        store.guard_status(&part, stored.uuid);
                    }
                }
            }
            Ok(found)
        })
        .await
    }
}

/// The run of a record of this or an older version; else why not.
fn read_record<K: Kind>(bytes: &[u8]) -> std::result::Result<Run<K>, String> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let versioned: Versioned = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if versioned.version > VERSION {
        return Err(format!("version {} is newer than {VERSION}, which this daemon knows", versioned.version));
    }
    let record: Record<K::Live> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let def = K::parse(&record.definition).map_err(|error| error.to_string())?;
    Ok(Run { def: Arc::new(def), live: Arc::new(record.live), boot_id: record.boot_id })
}

#[cfg(test)]
mod tests;
