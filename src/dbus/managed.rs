//! Objects that announce themselves: `org.freedesktop.DBus.ObjectManager` on each driver root, and `PropertiesChanged` for
//! the interfaces `org.domus.*1`.
//!
//! ```text
//! engine event ── the object it is about ── as it is now, beside what was said of it last
//!                      only now: InterfacesAdded · gone: InterfacesRemoved · another value: PropertiesChanged
//! ```
//!
//! Managed are domains, networks, storage pools, secrets and jobs. Values are those of the moment at which the signal is
//! put together: never older than the event, and the last signal is always right. libvirt-dbus's own interfaces say by
//! annotation that their properties are not announced, and are not in here.
//! Remembered is no value, only a number per property that tells one value from another.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zbus::{Message, Signature, Variant};

use super::call::{Invocation, seen};
use super::codec::{Path, PlainProperties};
use super::dispatch::{Work, check_signature};
use super::fault::Fault;
use super::path::{self, Kind};
use super::standard::PROPERTIES;
use super::table::{self, Interface};
use crate::engine::api::{
    Caller, ListAllDomains, ListAllNetworks, ListAllSecrets, ListAllStoragePools, ListStorageJobs, dispatch,
};
use crate::engine::domain::Snapshot;
use crate::engine::driver::DriverKind;
use crate::engine::event::{About, Event, HostEvent};
use crate::engine::network::Network;
use crate::engine::secret::Secret;
use crate::engine::storage::StoragePool;
use crate::engine::work::JobView;
use crate::engine::{Connection, Domain};
use crate::error::Error;
use crate::types::Uuid;

pub const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";

/// An object that announces itself, by what names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Domain(Uuid),
    Network(Uuid),
    StoragePool(Uuid),
    Secret(Uuid),
    Job(u64),
}

/// The object itself, as it is now.
#[derive(Debug)]
pub enum Object {
    Domain(Arc<Snapshot>),
    Network(Network),
    StoragePool(StoragePool),
    Secret(Secret),
    Job(JobView),
}

impl Key {
    fn kind(self) -> Kind {
        match self {
            Key::Domain(_) => Kind::Domain,
            Key::Network(_) => Kind::Network,
            Key::StoragePool(_) => Kind::StoragePool,
            Key::Secret(_) => Kind::Secret,
            Key::Job(_) => Kind::Job,
        }
    }

    fn path(self, driver: DriverKind) -> String {
        let key = match self {
            Key::Domain(uuid) | Key::Network(uuid) | Key::StoragePool(uuid) | Key::Secret(uuid) => {
                path::uuid_key(&uuid)
            }
            Key::Job(id) => id.to_string(),
        };
        path::object_below(path::root_name(driver), self.kind(), &key)
    }

    /// Ours on it.
    fn interface(self) -> &'static Interface {
        let own = table::of(self.kind()).iter().find(|lookup| lookup.interface.is_own());
        own.map_or(&table::domus::DAEMON, |lookup| lookup.interface)
    }

    fn find(self, connection: &Connection) -> Option<Object> {
        let host = connection.host();
        Some(match self {
            Key::Domain(uuid) => Object::Domain(connection.domain(&uuid).ok()?.snapshot()),
            Key::Network(uuid) => Object::Network(host.networks.by_uuid(uuid).ok()?),
            Key::StoragePool(uuid) => Object::StoragePool(host.pools.by_uuid(uuid).ok()?),
            Key::Secret(uuid) => Object::Secret(host.secrets.by_uuid(uuid).ok()?),
            Key::Job(id) => Object::Job(host.work.job(id)?),
        })
    }
}

impl Object {
    /// The object that a call's path names, when the caller may see it.
    pub async fn of(at: &Invocation, kind: Kind) -> Result<Object, Fault> {
        Ok(match kind {
            Kind::Domain => Object::Domain(seen::<Domain>(at).await?.snapshot()),
            Kind::Network => Object::Network(seen::<Network>(at).await?),
            Kind::StoragePool => Object::StoragePool(seen::<StoragePool>(at).await?),
            Kind::Secret => Object::Secret(seen::<Secret>(at).await?),
            Kind::Job => Object::Job(job(at).await?),
            _ => return Err(Fault::libvirt("the object has no properties that are announced")),
        })
    }

    /// What the interface says of it now.
    fn values(&self, interface: &'static Interface) -> Values {
        let live = interface.properties.iter().filter_map(|row| Some((row.name, row.live?)));
        live.filter_map(|(name, read)| Some((name, read(self)?))).collect()
    }
}

/// The job that a call's path names.
pub async fn job(at: &Invocation) -> Result<JobView, Fault> {
    let id = at.text.as_deref().and_then(|text| text.parse().ok());
    let jobs = dispatch::<ListStorageJobs>(&at.caller, &at.connection()?, ()).await?;
    let found = jobs.into_iter().find(|job| Some(job.id) == id);
    found.ok_or_else(|| Fault::libvirt("there is no such job: it has ended, or there never was one"))
}

/// What is to be said of one object.
#[derive(Debug)]
pub struct Change {
    key: Key,
    driver: DriverKind,
    what: What,
}

#[derive(Debug)]
enum What {
    Added(Values),
    Changed(Values),
    Removed,
}

impl Change {
    /// The signal; a bus fills in the sender itself.
    pub fn message(&self, sender: Option<&'static str>) -> zbus::Result<Message> {
        let (path, interface) = (self.key.path(self.driver), self.key.interface().name);
        let root = format!("/org/libvirt/{}", path::root_name(self.driver));
        let signal = |path: &str, interface, member| {
            let builder = Message::signal(path.to_string(), interface, member);
            match sender {
                Some(sender) => builder.sender(sender),
                None => builder,
            }
        };
        match &self.what {
            What::Added(values) => {
                let interfaces = HashMap::from([(interface, PlainProperties(values))]);
                signal(&root, OBJECT_MANAGER, "InterfacesAdded").build(&(Path(path), interfaces))
            }
            What::Removed => {
                signal(&root, OBJECT_MANAGER, "InterfacesRemoved").build(&(Path(path), [interface].as_slice()))
            }
            What::Changed(values) => {
                let none: &[&str] = &[];
                signal(&path, PROPERTIES, "PropertiesChanged").build(&(interface, PlainProperties(values), none))
            }
        }
    }
}

/// Which objects clients know of, and a number for each value they were told.
#[derive(Debug, Default)]
pub struct Managed(Mutex<Known>);

type Known = HashMap<(DriverKind, Key), Box<[u64]>>;

fn number(value: &Variant<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{value:?}").hash(&mut hasher);
    hasher.finish()
}

fn numbers(values: &[(&str, Variant<'_>)]) -> Box<[u64]> {
    values.iter().map(|(_, value)| number(value)).collect()
}

impl Managed {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what is there already, which nobody has to be told.
    pub fn fill(&self, connection: &Connection) {
        let mut known = self.lock();
        let host = connection.host();
        let mut keys: Vec<Key> = connection.domains().iter().map(|domain| Key::Domain(domain.uuid())).collect();
        keys.extend(host.networks.all().iter().map(|network| Key::Network(network.uuid())));
        keys.extend(host.pools.all().iter().map(|pool| Key::StoragePool(pool.uuid())));
        keys.extend(host.secrets.all().iter().map(|secret| Key::Secret(secret.uuid())));
        for key in keys {
            if let Some(object) = key.find(connection) {
                known.insert((connection.kind(), key), numbers(&object.values(key.interface())));
            }
        }
    }

    /// What an event changes for the clients of a driver.
    pub fn look(&self, connection: &Connection, key: Key) -> Option<Change> {
        let driver = connection.kind();
        let mut known = self.lock();
        let Some(object) = key.find(connection) else {
            return known.remove(&(driver, key)).map(|_| Change { key, driver, what: What::Removed });
        };
        let mut values = object.values(key.interface());
        let now = numbers(&values);
        let what = match known.insert((driver, key), now.clone()) {
            None => What::Added(values),
            Some(former) => {
                let mut same = now.iter().zip(former.iter()).map(|(now, former)| now == former);
                values.retain(|_| same.next() == Some(false));
                What::Changed(values)
            }
        };
        let nothing = matches!(&what, What::Changed(values) if values.is_empty());
        (!nothing).then_some(Change { key, driver, what })
    }

    /// What there is to say of a job that goes on.
    pub fn progress(&self, connection: &Connection, key: Key) -> Option<Change> {
        key.find(connection)?;
        self.look(connection, key).filter(|change| matches!(change.what, What::Changed(_)))
    }

    /// The jobs that clients of a driver know of.
    pub fn jobs(&self, of: DriverKind) -> Vec<Key> {
        let known = self.lock();
        let jobs = known.keys().filter(|(driver, key)| *driver == of && matches!(key, Key::Job(_)));
        jobs.map(|(_, key)| *key).collect()
    }
}

/// The object an event is about; none where it is not one of those here.
pub fn subject(event: &Event) -> Option<Key> {
    Some(match &event.about {
        About::Domain { domain, .. } => Key::Domain(domain.uuid),
        About::Host { event, .. } => match event {
            HostEvent::NetworkLifecycle { network, .. } | HostEvent::NetworkMetadata { network, .. } => {
                Key::Network(network.uuid)
            }
            HostEvent::PoolLifecycle { pool, .. } | HostEvent::PoolRefresh { pool } => Key::StoragePool(pool.uuid),
            HostEvent::SecretLifecycle { secret, .. } | HostEvent::SecretValueChanged { secret } => {
                Key::Secret(secret.uuid)
            }
            HostEvent::JobBegan { id } | HostEvent::JobEnded { id } => Key::Job(*id),
            HostEvent::NodeDeviceLifecycle { .. } | HostEvent::NodeDeviceUpdate { .. } => return None,
        },
    })
}

type Values = Vec<(&'static str, Variant<'static>)>;

/// Everything that a caller may see.
async fn all(connection: &Connection, caller: &Caller) -> Result<Vec<(Key, Values)>, Error> {
    let mut keys: Vec<Key> = Vec::new();
    keys.extend(dispatch::<ListAllDomains>(caller, connection, 0).await?.iter().map(|it| Key::Domain(it.uuid())));
    keys.extend(dispatch::<ListAllNetworks>(caller, connection, 0).await?.iter().map(|it| Key::Network(it.uuid())));
    let pools = dispatch::<ListAllStoragePools>(caller, connection, 0).await?;
    keys.extend(pools.iter().map(|pool| Key::StoragePool(pool.uuid())));
    keys.extend(dispatch::<ListAllSecrets>(caller, connection, 0).await?.iter().map(|it| Key::Secret(it.uuid())));
    keys.extend(dispatch::<ListStorageJobs>(caller, connection, ()).await?.iter().map(|job| Key::Job(job.id)));
    let found = |key: Key| Some((key, key.find(connection)?.values(key.interface())));
    Ok(keys.into_iter().filter_map(found).collect())
}

/// `org.freedesktop.DBus.ObjectManager` of a driver root.
pub(super) fn call(invocation: Invocation, member: &str) -> Work {
    if member != "GetManagedObjects" {
        return Fault::unknown_method(member).into();
    }
    if let Err(fault) = check_signature(&invocation.message, "") {
        return fault.into();
    }
    Work::Read(Box::pin(async move {
        let connection = invocation.connection()?;
        let objects = all(&connection, &invocation.caller).await?.into_iter();
        let place = |(key, values): (Key, Values)| {
            (Path(key.path(connection.kind())), HashMap::from([(key.interface().name, values)]))
        };
        invocation.reply(&(Objects(objects.map(place).collect()),))
    }))
}

/// `a{oa{sa{sv}}}`
struct Objects(Vec<(Path, HashMap<&'static str, Values>)>);

impl serde::Serialize for Objects {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(path, interfaces)| {
            let wrapped: HashMap<&str, PlainProperties<'_>> =
                interfaces.iter().map(|(name, values)| (*name, PlainProperties(values))).collect();
            (path, wrapped)
        }))
    }
}

const VALUES: &Signature = &Signature::static_dict(&Signature::Str, &Signature::Variant);
const INTERFACES: &Signature = &Signature::static_dict(&Signature::Str, VALUES);

impl zbus::Type for Objects {
    const SIGNATURE: &'static Signature = &Signature::static_dict(&Signature::ObjectPath, INTERFACES);
}
