//! The objects of the host that VMs and containers share; another set of them, in memory, for the test driver.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use super::event::{EventBus, HostEvent, HostSet};
use super::interface::Interfaces;
use super::network::{NetworkKind, NetworkOptions, Ports, Watch};
use super::node_device::NodeDevices;
use super::nwfilter::NwFilterKind;
use super::objects::Objects;
use super::secret::{SecretKind, Values};
use super::storage::PoolKind;
use super::work::Work;
use crate::error::Result;
use crate::store::Store;

/// Where the objects keep things.
#[derive(Clone, Debug, Default)]
pub struct HostDirs {
    /// Run-time files: `<run>/host`.
    pub run: PathBuf,
    /// Logs: `<log>/host`.
    pub log: PathBuf,
    /// What must survive a boot beside definitions: `<state>/host`.
    pub state: PathBuf,
}

/// What every object of the host can reach.
#[derive(Clone, Debug)]
pub struct Context {
    pub set: HostSet,
    pub dirs: HostDirs,
    /// The kernel's boot id.
    pub boot_id: String,
    pub networks: NetworkOptions,
    pub(super) events: Arc<EventBus>,
    /// `None`: everything is in memory only.
    pub(super) store: Option<Store>,
    host: Weak<HostObjects>,
}

impl Context {
    /// Publishes what happened to an object, after it was stored and published.
    pub fn emit(&self, event: HostEvent) {
        self.events.emit_host(self.set, event);
    }

    /// All objects; a pool finds its secrets there. `None` while the daemon stops.
    pub fn host(&self) -> Option<Arc<HostObjects>> {
        self.host.upgrade()
    }
}

/// What [`HostObjects::new`] is told.
#[derive(Debug, Default)]
pub struct HostOptions {
    pub dirs: HostDirs,
    pub store: Option<Store>,
    pub boot_id: String,
    pub networks: NetworkOptions,
    /// Where base images are kept; `None`: nowhere.
    pub images: Option<PathBuf>,
    /// User and group that programs run as which read images.
    pub image_user: Option<(u32, u32)>,
}

/// See the module's text. `Connection::host()` gives the set that a connection sees.
#[derive(Debug)]
pub struct HostObjects {
    pub context: Arc<Context>,
    pub networks: Arc<Objects<NetworkKind>>,
    pub pools: Arc<Objects<PoolKind>>,
    pub secrets: Arc<Objects<SecretKind>>,
    pub(super) nwfilters: Arc<Objects<NwFilterKind>>,
    pub(super) secret_values: Values,
    pub node_devices: NodeDevices,
    pub interfaces: Arc<Interfaces>,
    /// Guest interfaces in networks.
    pub ports: Ports,
    pub(super) network_watch: Watch,
    /// What long work on images needs.
    pub work: Arc<Work>,
}

impl HostObjects {
    /// A set without objects; [`HostObjects::load`] reads those of the store.
    pub fn new(set: HostSet, events: Arc<EventBus>, options: HostOptions) -> Arc<HostObjects> {
        let HostOptions { dirs, store, boot_id, networks: settings, images, image_user } = options;
        Arc::new_cyclic(|host| {
            let context =
                Arc::new(Context { set, dirs, boot_id, networks: settings, events, store, host: host.clone() });
            HostObjects {
                networks: Objects::new(context.clone()),
                pools: Objects::new(context.clone()),
                secrets: Objects::new(context.clone()),
                nwfilters: Objects::new(context.clone()),
                secret_values: Values::default(),
                node_devices: NodeDevices::new(context.clone()),
                interfaces: Arc::new(Interfaces::new(context.clone())),
                ports: Ports::default(),
                network_watch: Watch::default(),
                work: Arc::new(Work::new(image_user, images, Some(context.clone()))),
                context,
            }
        })
    }

    /// Reads the store, then finds out what still runs and undoes what does not: each kind's `recover`, in the order in
    /// which one needs the other. Before the drivers look for their guests.
    pub async fn load(&self) -> Result<()> {
        self.load_secrets().await?;
        self.interfaces.load()?;
        self.networks.load().await?;
        super::network::recover(self).await;
        super::network::ship(self).await?;
        self.pools.load().await?;
        super::storage::recovery::recover(self).await?;
        Ok(())
    }

    /// Starts what is marked for it, before any domain is. Failures are logged.
    pub async fn autostart(self: &Arc<Self>) {
        super::network::autostart(self).await;
        super::storage::recovery::autostart(&self.pools).await;
    }
}
