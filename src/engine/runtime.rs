//! What one driver's domains share: registry, ids, directories, events, the way to disk.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::cleanup::Cleaner;
use super::domain::Domain;
use super::driver::{Driver, DriverKind};
use super::event::{DomainId, EventKind};
use super::host::HostObjects;
use super::persist::Persist;
use super::registry::Registry;
use crate::error::{Code, Error, Result};
use crate::types::Uuid;

/// Directories of one driver.
#[derive(Clone, Debug)]
pub struct Dirs {
    /// One directory per run below it.
    pub runs: PathBuf,
    /// Logs that outlive runs.
    pub logs: PathBuf,
}

/// See the module's text.
pub struct DriverRuntime {
    driver: Arc<dyn Driver>,
    kind: DriverKind,
    registry: Registry,
    persist: Arc<Persist>,
    cleaner: Cleaner,
    host: Arc<HostObjects>,
    dirs: Dirs,
    boot_id: String,
}

impl DriverRuntime {
    pub(crate) fn new(
        driver: Arc<dyn Driver>,
        persist: Arc<Persist>,
        cleaner: Cleaner,
        host: Arc<HostObjects>,
        dirs: Dirs,
        boot_id: String,
    ) -> Self {
        let kind = driver.kind();
        DriverRuntime { driver, kind, registry: Registry::default(), persist, cleaner, host, dirs, boot_id }
    }

    /// Which driver.
    pub fn kind(&self) -> DriverKind {
        self.kind
    }

    /// The driver itself.
    pub fn driver(&self) -> &dyn Driver {
        self.driver.as_ref()
    }

    /// All domains of this driver.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn persist(&self) -> &Arc<Persist> {
        &self.persist
    }

    pub(crate) fn cleaner(&self) -> &Cleaner {
        &self.cleaner
    }

    pub(crate) fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// The objects of the host that its domains use.
    pub fn host(&self) -> &Arc<HostObjects> {
        &self.host
    }

    /// The kernel's boot id.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    pub(crate) fn emit(&self, domain: DomainId, kind: EventKind) {
        self.host.context.events.emit(self.kind, domain, kind);
    }

    /// The next id: increasing, never used again, also after a restart.
    pub(crate) fn next_id(&self) -> Result<i32> {
        self.persist.next_id(self.kind)
    }

    /// Names the resources of a run: unique among all daemons of the host (cgroups are host-wide), short (socket paths).
    pub(crate) fn new_run_id(&self, id: i32) -> String {
        let random = Uuid::new_v4().simple().to_string();
        format!("{id}-{}", &random[..8])
    }
}

impl fmt::Debug for DriverRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriverRuntime").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A client's view of one driver: what an RPC connection or a D-Bus root is bound to.
#[derive(Clone, Debug)]
pub struct Connection(Arc<DriverRuntime>);

impl Connection {
    pub(crate) fn new(runtime: Arc<DriverRuntime>) -> Self {
        Connection(runtime)
    }

    pub(crate) fn runtime(&self) -> &Arc<DriverRuntime> {
        &self.0
    }

    /// Which driver.
    pub fn kind(&self) -> DriverKind {
        self.0.kind
    }

    /// The networks, storage pools, secrets and devices that clients of this driver see.
    pub fn host(&self) -> &Arc<HostObjects> {
        &self.0.host
    }

    fn missing(&self, what: String) -> Error {
        Error::new(Code::NoDomain, what).with_subsystem(self.0.kind.subsystem())
    }

    /// The domain with this UUID (`virDomainLookupByUUID`).
    pub fn domain(&self, uuid: &Uuid) -> Result<Domain> {
        self.0.registry.by_uuid(uuid).ok_or_else(|| self.missing(format!("no domain with matching uuid '{uuid}'")))
    }

    /// The domain with this name (`virDomainLookupByName`).
    pub fn domain_by_name(&self, name: &str) -> Result<Domain> {
        self.0.registry.by_name(name).ok_or_else(|| self.missing(format!("no domain with matching name '{name}'")))
    }

    /// The running domain with this id (`virDomainLookupByID`).
    pub fn domain_by_id(&self, id: i32) -> Result<Domain> {
        self.0.registry.by_id(id).ok_or_else(|| self.missing(format!("no domain with matching id {id}")))
    }

    /// All domains of the driver, by name.
    pub fn domains(&self) -> Vec<Domain> {
        self.0.registry.all()
    }
}
