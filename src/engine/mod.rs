//! The driver-neutral heart: registries, one task per domain, jobs, events, recovery, and the API.
//!
//! Owns every decision about domains. Knows drivers only through [`driver`]'s traits and never names a front end.

pub mod access;
pub mod api;
mod built_in;
pub mod cleanup;
pub mod control;
pub mod devices;
pub mod domain;
pub mod driver;
pub mod event;
pub mod host;
pub mod interface;
pub mod limits;
mod live;
pub mod network;
pub mod node_device;
pub mod nwfilter;
pub mod objects;
mod persist;
pub mod record;
mod recovery;
mod registry;
mod runtime;
pub mod secret;
pub mod state;
pub mod storage;
pub mod undo;
pub mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub use domain::Domain;
pub use runtime::Connection;

use crate::cgroup;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::sys;
use cleanup::Cleaner;
use driver::{Driver, DriverKind};
use event::{EventBus, HostSet};
use host::{HostDirs, HostObjects, HostOptions};
use persist::Persist;
use runtime::{Dirs, DriverRuntime};

/// Where the engine keeps things; each is made by the daemon before.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Definitions, autostart marks, status records.
    pub state_dir: PathBuf,
    /// Run-time files; one directory per run below `<run_dir>/<driver>/`.
    pub run_dir: PathBuf,
    /// Logs.
    pub log_dir: PathBuf,
    /// How many guests are autostarted at once.
    pub autostart_parallel: usize,
    pub networks: network::NetworkOptions,
    /// User and group that programs run as which read images; `None`: the daemon's own.
    pub image_user: Option<(u32, u32)>,
}

/// The engine: one [`Connection`] per driver, one order of events.
#[derive(Debug)]
pub struct Engine {
    connections: BTreeMap<DriverKind, Connection>,
    hosts: Vec<Arc<HostObjects>>,
    events: Arc<EventBus>,
    config: EngineConfig,
}

impl Engine {
    /// Opens the store, loads every definition, finds running guests again, undoes what was half built. Returns when
    /// all of that is done; [`Engine::autostart`] is a step of its own, after the front ends listen.
    pub async fn open(
        config: EngineConfig,
        drivers: Vec<Arc<dyn Driver>>,
        cgroups: Arc<cgroup::Manager>,
    ) -> Result<Engine> {
        let events = Arc::new(EventBus::default());
        let boot_id =
            sys::process::boot_id().map_err(|error| Error::system("cannot read the boot id", error))?.to_string();
        let mut connections = BTreeMap::new();
        let kinds: Vec<DriverKind> = drivers.iter().map(|driver| driver.kind()).collect();
        let store = Store::open(&config.state_dir, &config.run_dir)?;
        let persist = Arc::new(Persist::new(store.clone(), &kinds)?);
        // Before the drivers look for their guests, which use networks, volumes and secrets.
        let mut hosts: Vec<Arc<HostObjects>> = Vec::new();
        for set in [HostSet::Shared, HostSet::Test] {
            if kinds.iter().any(|kind| HostSet::of(*kind) == set) {
                hosts.push(open_host(set, &config, &store, &events, &boot_id).await?);
            }
        }
        for driver in drivers {
            let kind = driver.kind();
            let host = hosts
                .iter()
                .find(|host| host.context.set == HostSet::of(kind))
                .ok_or_else(|| Error::internal(format!("the {kind} driver has no objects of the host")))?;
            let dirs = Dirs { runs: config.run_dir.join(kind.scheme()), logs: config.log_dir.join(kind.scheme()) };
            for dir in [&dirs.runs, &dirs.logs] {
                std::fs::create_dir_all(dir)
                    .map_err(|error| Error::system(format!("cannot create directory '{}'", dir.display()), error))?;
            }
            let cleaner =
                Cleaner { cgroups: cgroups.clone(), roots: vec![dirs.runs.clone()], host: Some(host.clone()) };
            let runtime =
                Arc::new(DriverRuntime::new(driver, persist.clone(), cleaner, host.clone(), dirs, boot_id.clone()));
            recovery::load(&runtime).await?;
            let connection = Connection::new(runtime);
            built_in::ship(&connection, &config.state_dir).await?;
            connections.insert(kind, connection);
        }
        for host in &hosts {
            let set = host.context.set;
            let runtimes = connections.values().filter(|connection| HostSet::of(connection.kind()) == set);
            let runtimes = runtimes.map(|connection| Arc::downgrade(connection.runtime())).collect();
            host.work.set_users(Box::new(storage::guests_using(runtimes)));
        }
        Ok(Engine { connections, hosts, events, config })
    }

    /// The view of one driver, when the daemon has it.
    pub fn connection(&self, kind: DriverKind) -> Option<Connection> {
        self.connections.get(&kind).cloned()
    }

    /// The driver that clients mean when they do not care: the first of QEMU, containers, the test driver.
    pub fn main_kind(&self) -> Option<DriverKind> {
        self.connections.keys().next().copied()
    }

    /// The drivers this daemon has.
    pub fn kinds(&self) -> Vec<DriverKind> {
        self.connections.keys().copied().collect()
    }

    /// All events of all drivers.
    pub fn events(&self) -> &EventBus {
        &self.events
    }

    /// Starts every domain marked for it that does not run. Failures are logged; one does not keep another from
    /// starting.
    pub async fn autostart(&self) {
        for host in &self.hosts {
            host.autostart().await;
        }
        let limit = Arc::new(tokio::sync::Semaphore::new(self.config.autostart_parallel.max(1)));
        let mut starts = tokio::task::JoinSet::new();
        for domain in self.connections.values().flat_map(Connection::domains) {
            let snapshot = domain.snapshot();
            if !snapshot.autostart || snapshot.active() {
                continue;
            }
            let limit = limit.clone();
            starts.spawn(async move {
                let _permit = limit.acquire_owned().await;
                if let Err(error) = domain.request(domain::Op::Start { how: 0.into(), transient: None }).await {
                    tracing::error!(domain = %domain.name(), %error, "autostart failed");
                }
            });
        }
        while starts.join_next().await.is_some() {}
    }
}

/// Reads the objects of one set; those of the test driver live in memory.
async fn open_host(
    set: HostSet,
    config: &EngineConfig,
    store: &Store,
    events: &Arc<EventBus>,
    boot_id: &str,
) -> Result<Arc<HostObjects>> {
    let dirs = HostDirs {
        run: config.run_dir.join("host"),
        log: config.log_dir.join("host"),
        state: config.state_dir.join("host"),
    };
    let store = match set {
        HostSet::Shared => Some(store.clone()),
        HostSet::Test => None,
    };
    if store.is_some() {
        for dir in [&dirs.run, &dirs.log] {
            std::fs::create_dir_all(dir)
                .map_err(|error| Error::system(format!("cannot create directory '{}'", dir.display()), error))?;
        }
    }
    let host = HostObjects::new(
        set,
        events.clone(),
        HostOptions {
            dirs,
            images: store.is_some().then(|| config.state_dir.join("images")),
            store,
            boot_id: boot_id.into(),
            networks: config.networks.clone(),
            image_user: config.image_user,
        },
    );
    host.load().await?;
    node_device::watch(&host);
    Ok(host)
}
