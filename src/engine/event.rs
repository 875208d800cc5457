//! Typed events, one total order per daemon.
//!
//! Order of every change: store, snapshot, event, reply. Subscribers get their own bounded queue; one that overruns is
//! cut off and logged, never silently skipped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::driver::DriverKind;
use crate::types::{TypedParams, Uuid};

/// `virDomainEventType` with its detail numbers.
pub mod lifecycle {
    pub const DEFINED: i32 = 0;
    pub const UNDEFINED: i32 = 1;
    pub const STARTED: i32 = 2;
    pub const SUSPENDED: i32 = 3;
    pub const RESUMED: i32 = 4;
    pub const STOPPED: i32 = 5;
    pub const SHUTDOWN: i32 = 6;
    pub const PMSUSPENDED: i32 = 7;
    pub const CRASHED: i32 = 8;

    pub const DEFINED_ADDED: i32 = 0;
    pub const DEFINED_UPDATED: i32 = 1;
    pub const DEFINED_RENAMED: i32 = 2;
    pub const UNDEFINED_REMOVED: i32 = 0;
    pub const UNDEFINED_RENAMED: i32 = 1;
    pub const STARTED_BOOTED: i32 = 0;
    pub const STARTED_RESTORED: i32 = 2;
    pub const STARTED_FROM_SNAPSHOT: i32 = 3;
    pub const STARTED_WAKEUP: i32 = 4;
    pub const SUSPENDED_PAUSED: i32 = 0;
    pub const SUSPENDED_IOERROR: i32 = 2;
    pub const SUSPENDED_WATCHDOG: i32 = 3;
    pub const SUSPENDED_RESTORED: i32 = 4;
    pub const SUSPENDED_FROM_SNAPSHOT: i32 = 5;
    pub const RESUMED_UNPAUSED: i32 = 0;
    pub const STOPPED_SHUTDOWN: i32 = 0;
    pub const STOPPED_DESTROYED: i32 = 1;
    pub const STOPPED_CRASHED: i32 = 2;
    pub const STOPPED_SAVED: i32 = 4;
    pub const STOPPED_FAILED: i32 = 5;
    pub const STOPPED_FROM_SNAPSHOT: i32 = 6;
    pub const SHUTDOWN_FINISHED: i32 = 0;
    pub const SHUTDOWN_GUEST: i32 = 1;
    pub const SHUTDOWN_HOST: i32 = 2;
    pub const CRASHED_PANICKED: i32 = 0;
    pub const PMSUSPENDED_MEMORY: i32 = 0;
}

/// What happened, with the fields of libvirt's callback for it.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// `VIR_DOMAIN_EVENT_ID_LIFECYCLE`
    Lifecycle { event: i32, detail: i32 },
    /// `..._REBOOT`
    Reboot,
    /// `..._RTC_CHANGE`: offset to UTC in seconds.
    RtcChange { offset: i64 },
    /// `..._WATCHDOG`: `virDomainEventWatchdogAction`.
    Watchdog { action: i32 },
    /// `..._IO_ERROR_REASON`
    IoError { path: String, alias: String, action: i32, reason: String },
    /// `..._BALLOON_CHANGE`: KiB.
    BalloonChange { actual: u64 },
    /// `..._TRAY_CHANGE`: 0 open, 1 close.
    TrayChange { alias: String, reason: i32 },
    /// `..._DEVICE_ADDED`
    DeviceAdded { alias: String },
    /// `..._DEVICE_REMOVED`
    DeviceRemoved { alias: String },
    /// `..._AGENT_LIFECYCLE`
    Agent { state: i32, reason: i32 },
    /// `..._METADATA_CHANGE`
    MetadataChange { kind: i32, uri: String },
    /// `..._PMWAKEUP`
    PmWakeup,
    /// `..._PMSUSPEND`
    PmSuspend,
    /// `..._GRAPHICS`: phase 0 connect, 1 initialize, 2 disconnect.
    Graphics {
        phase: i32,
        local: GraphicsAddress,
        remote: GraphicsAddress,
        auth_scheme: String,
        identities: Vec<(String, String)>,
    },
    /// `..._CONTROL_ERROR`
    ControlError,
    /// `..._JOB_COMPLETED`
    JobCompleted(TypedParams),
    /// `..._TUNABLE`
    Tunable(TypedParams),
    /// `..._BLOCK_THRESHOLD`: bytes; `device` is a target (`vda`) or a layer of one (`vda[2]`).
    BlockThreshold { device: String, path: String, threshold: u64, excess: u64 },
    /// Anything QEMU itself said, in its words, with its time since the epoch; `details` is JSON.
    Monitor { name: String, seconds: i64, micros: u32, details: Option<String> },
}

/// One end of a graphics connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GraphicsAddress {
    /// `virDomainEventGraphicsAddressType`: 0 ipv4, 1 ipv6, 2 unix.
    pub family: i32,
    pub node: String,
    pub service: String,
}

/// Which domain an event is about, as it was when it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainId {
    pub uuid: Uuid,
    pub name: String,
    /// `None` when not running.
    pub id: Option<i32>,
}

/// One event in the daemon's total order.
#[derive(Clone, Debug)]
pub struct Event {
    /// Position in the total order, from 1.
    pub seq: u64,
    pub about: About,
}

/// What an event is about: a domain of one driver, or an object of the host.
#[derive(Clone, Debug, PartialEq)]
pub enum About {
    Domain { driver: DriverKind, domain: DomainId, kind: EventKind },
    Host { set: HostSet, event: HostEvent },
}

impl Event {
    /// Whether clients of this driver see it.
    pub fn concerns(&self, kind: DriverKind) -> bool {
        match &self.about {
            About::Domain { driver, .. } => *driver == kind,
            About::Host { set, .. } => *set == HostSet::of(kind),
        }
    }
}

/// Which objects of the host: a domain belongs to a driver, these do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostSet {
    /// What VMs and containers share.
    Shared,
    /// What the test driver keeps in memory.
    Test,
}

impl HostSet {
    /// The set that a driver's clients see.
    pub fn of(kind: DriverKind) -> HostSet {
        match kind {
            DriverKind::Qemu | DriverKind::Lxc => HostSet::Shared,
            DriverKind::Test => HostSet::Test,
        }
    }
}

/// What happened to an object of the host, with the fields of libvirt's callback for it. The lifecycle numbers are in
/// [`network_lifecycle`], [`pool_lifecycle`], [`node_device_lifecycle`] and [`secret_lifecycle`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEvent {
    /// `VIR_NETWORK_EVENT_ID_LIFECYCLE`
    NetworkLifecycle {
        network: Named,
        event: i32,
        detail: i32,
    },
    /// `VIR_NETWORK_EVENT_ID_METADATA_CHANGE`
    NetworkMetadata {
        network: Named,
        kind: i32,
        uri: String,
    },
    /// `VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE`
    PoolLifecycle {
        pool: Named,
        event: i32,
        detail: i32,
    },
    /// `VIR_STORAGE_POOL_EVENT_ID_REFRESH`
    PoolRefresh {
        pool: Named,
    },
    /// `VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE`
    NodeDeviceLifecycle {
        name: String,
        event: i32,
        detail: i32,
    },
    /// `VIR_NODE_DEVICE_EVENT_ID_UPDATE`
    NodeDeviceUpdate {
        name: String,
    },
    /// `VIR_SECRET_EVENT_ID_LIFECYCLE`
    SecretLifecycle {
        secret: SecretId,
        event: i32,
        detail: i32,
    },
    /// `VIR_SECRET_EVENT_ID_VALUE_CHANGED`
    SecretValueChanged {
        secret: SecretId,
    },
    /// A long piece of work on volumes or images; libvirt knows none.
    JobBegan {
        id: u64,
    },
    JobEnded {
        id: u64,
    },
}

/// A network or pool as it was when something happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub uuid: Uuid,
    pub name: String,
}

/// A secret as clients name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretId {
    pub uuid: Uuid,
    /// `virSecretUsageType`.
    pub usage_type: i32,
    /// Empty when it is for no use in particular.
    pub usage_id: String,
}

/// `virNetworkEventLifecycleType`
pub mod network_lifecycle {
    pub const DEFINED: i32 = 0;
    pub const UNDEFINED: i32 = 1;
    pub const STARTED: i32 = 2;
    pub const STOPPED: i32 = 3;
}

/// `virStoragePoolEventLifecycleType`
pub mod pool_lifecycle {
    pub const DEFINED: i32 = 0;
    pub const UNDEFINED: i32 = 1;
    pub const STARTED: i32 = 2;
    pub const STOPPED: i32 = 3;
    pub const CREATED: i32 = 4;
    pub const DELETED: i32 = 5;
}

/// `virNodeDeviceEventLifecycleType`
pub mod node_device_lifecycle {
    pub const CREATED: i32 = 0;
    pub const DELETED: i32 = 1;
    pub const DEFINED: i32 = 2;
    pub const UNDEFINED: i32 = 3;
}

/// `virSecretEventLifecycleType`
pub mod secret_lifecycle {
    pub const DEFINED: i32 = 0;
    pub const UNDEFINED: i32 = 1;
}

/// Events a subscriber may lag behind before it is cut off.
const QUEUE: usize = 65_536;

/// Hands events to subscribers in order.
#[derive(Debug, Default)]
pub struct EventBus {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seq: u64,
    next: u64,
    subscribers: HashMap<u64, mpsc::Sender<Arc<Event>>>,
}

/// The receiving end; ends (`None`) when the subscriber was too slow or the daemon stops.
pub type Subscription = mpsc::Receiver<Arc<Event>>;

impl EventBus {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new subscriber; it sees every event from now on.
    pub fn subscribe(&self) -> Subscription {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut inner = self.lock();
        let key = inner.next;
        inner.next += 1;
        inner.subscribers.insert(key, sender);
        receiver
    }

    /// Publishes what happened to a domain; never blocks.
    pub fn emit(&self, driver: DriverKind, domain: DomainId, kind: EventKind) {
        self.publish(About::Domain { driver, domain, kind });
    }

    /// Publishes what happened to an object of the host; never blocks.
    pub fn emit_host(&self, set: HostSet, event: HostEvent) {
        self.publish(About::Host { set, event });
    }

    fn publish(&self, about: About) {
        let mut inner = self.lock();
        inner.seq += 1;
        let event = Arc::new(Event { seq: inner.seq, about });
        tracing::debug!(seq = event.seq, about = ?event.about, "event");
        inner.subscribers.retain(|key, sender| match sender.try_send(event.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(subscriber = key, queued = QUEUE, "event subscriber overran its queue and is cut off");
                false
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> DomainId {
        DomainId { uuid: Uuid::nil(), name: "d".into(), id: None }
    }

    #[tokio::test]
    async fn one_order_for_all_and_no_gap() {
        let bus = EventBus::default();
        let (mut a, mut b) = (bus.subscribe(), bus.subscribe());
        for _ in 0..100 {
            bus.emit(DriverKind::Test, domain(), EventKind::Reboot);
        }
        for seq in 1..=100 {
            assert_eq!(a.recv().await.map(|e| e.seq), Some(seq));
            assert_eq!(b.recv().await.map(|e| e.seq), Some(seq));
        }
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_cut_off_not_skipped() {
        let bus = EventBus::default();
        let mut slow = bus.subscribe();
        for _ in 0..QUEUE + 10 {
            bus.emit(DriverKind::Test, domain(), EventKind::Reboot);
        }
        let mut last = 0;
        while let Some(event) = slow.recv().await {
            assert_eq!(event.seq, last + 1);
            last = event.seq;
        }
        assert_eq!(last as usize, QUEUE);
    }
}
