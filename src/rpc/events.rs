//! Engine events as libvirt's messages: which client asked for which, and the bytes of each.
//!
//! Every registration of a client gets a packet of its own for one event, with its callback id in front. Clients that
//! register the old way get the old message, which has no id.

use std::sync::{Mutex, MutexGuard, PoisonError};

use regex::bytes::{Regex, RegexBuilder};

use super::frame::{Header, Kind, Status};
use super::table::{QEMU, REMOTE};
use super::wire::{DomainHandle, NamedHandle, Params, SecretHandle};
use super::xdr::{Put, encode};
use crate::engine::event::{About, DomainId, Event, EventKind, GraphicsAddress, HostEvent};
use crate::error::{Error, Result};
use crate::types::Uuid;

/// One kind of event on the wire.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// `virDomainEventID` is the position in [`ROWS`]; this is the message with a callback id.
    procedure: i32,
    /// The message of clients that register the old way.
    legacy: Option<i32>,
}

const fn row(procedure: i32, legacy: i32) -> Row {
    Row { procedure, legacy: if legacy == 0 { None } else { Some(legacy) } }
}

/// By `virDomainEventID`.
const ROWS: [Row; 28] = [
    row(318, 107), // LIFECYCLE
    row(319, 169), // REBOOT
    row(320, 170), // RTC_CHANGE
    row(321, 171), // WATCHDOG
    row(322, 172), // IO_ERROR
    row(323, 173), // GRAPHICS
    row(324, 195), // IO_ERROR_REASON
    row(325, 224), // CONTROL_ERROR
    row(326, 241), // BLOCK_JOB
    row(327, 248), // DISK_CHANGE
    row(328, 268), // TRAY_CHANGE
    row(329, 269), // PMWAKEUP
    row(330, 270), // PMSUSPEND
    row(331, 276), // BALLOON_CHANGE
    row(332, 292), // PMSUSPEND_DISK
    row(333, 311), // DEVICE_REMOVED
    row(339, 0),   // BLOCK_JOB_2
    row(346, 0),   // TUNABLE
    row(348, 0),   // AGENT_LIFECYCLE
    row(354, 0),   // DEVICE_ADDED
    row(359, 0),   // MIGRATION_ITERATION
    row(363, 0),   // JOB_COMPLETED
    row(367, 0),   // DEVICE_REMOVAL_FAILED
    row(379, 0),   // METADATA_CHANGE
    row(385, 0),   // BLOCK_THRESHOLD
    row(423, 0),   // MEMORY_FAILURE
    row(438, 0),   // MEMORY_DEVICE_SIZE_CHANGE
    row(453, 0),   // NIC_MAC_CHANGE
];

/// What registrations are made for: events of domains and of each kind of object of the host have numbers of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Domain,
    Network,
    StoragePool,
    NodeDevice,
    Secret,
}

impl Class {
    /// The messages of its events, by number. Those of domains are [`ROWS`].
    fn procedures(self) -> &'static [i32] {
        match self {
            Class::Domain => &[],
            // Lifecycle, metadata change.
            Class::Network => &[315, 446],
            // Lifecycle, refresh.
            Class::StoragePool => &[370, 373],
            // Lifecycle, update.
            Class::NodeDevice => &[376, 377],
            // Lifecycle, value changed.
            Class::Secret => &[382, 383],
        }
    }

    /// Whether there is an event with this number.
    pub fn known(self, event: i32) -> bool {
        let count = if self == Class::Domain { ROWS.len() } else { self.procedures().len() };
        usize::try_from(event).is_ok_and(|event| event < count)
    }

    /// In texts.
    pub fn noun(self) -> &'static str {
        match self {
            Class::Domain => "domain",
            Class::Network => "network",
            Class::StoragePool => "storage pool",
            Class::NodeDevice => "node device",
            Class::Secret => "secret",
        }
    }
}

/// The one object that a registration is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Only {
    Uuid(Uuid),
    Name(String),
}

/// `QEMU_PROC_DOMAIN_MONITOR_EVENT`.
const MONITOR_EVENT: i32 = 6;
const LIFECYCLE: i32 = 0;
const IO_ERROR: i32 = 4;
const IO_ERROR_REASON: i32 = 6;

/// A registration.
#[derive(Clone, Debug)]
struct Callback {
    /// `None`: registered the old way.
    id: Option<i32>,
    class: Class,
    event: i32,
    only: Option<Only>,
}

/// A registration for what QEMU itself says.
#[derive(Clone, Debug)]
struct MonitorCallback {
    id: i32,
    only: Option<Uuid>,
    /// Only events of this name.
    name: Option<MonitorName>,
}

/// Which of QEMU's events a registration is for.
#[derive(Clone, Debug)]
pub enum MonitorName {
    Exact(String),
    /// Capitals do not matter.
    Folded(String),
    /// Found anywhere in the name.
    Pattern(Regex),
}

impl MonitorName {
    /// Largest compiled pattern, bytes: names are short, and each registration may have one of its own.
    const PATTERN_LIMIT: usize = 256 * 1024;

    /// A regular expression. Errors: code 8 with what is wrong with it, on one line.
    pub fn pattern(text: &str, folded: bool) -> Result<MonitorName> {
        let mut builder = RegexBuilder::new(text);
        // Names are ASCII.
        builder.unicode(false).case_insensitive(folded).size_limit(Self::PATTERN_LIMIT);
        builder.dfa_size_limit(Self::PATTERN_LIMIT);
        builder.build().map(MonitorName::Pattern).map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
            Error::invalid_arg(format!("failed to compile regex '{text}': {why}"))
        })
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            MonitorName::Exact(wanted) => wanted == name,
            MonitorName::Folded(wanted) => wanted.eq_ignore_ascii_case(name),
            MonitorName::Pattern(pattern) => pattern.is_match(name.as_bytes()),
        }
    }
}

/// The registrations of one client: those of each program, and the next id.
#[derive(Debug, Default)]
struct Registered {
    callbacks: Vec<Callback>,
    monitor: Vec<MonitorCallback>,
    next: i32,
}

impl Registered {
    fn next(&mut self) -> i32 {
        self.next += 1;
        self.next - 1
    }
}

/// The registrations of one client.
#[derive(Debug, Default)]
pub struct Callbacks {
    inner: Mutex<Registered>,
}

impl Callbacks {
    /// Most registrations of one client: each event is sent once for each.
    const MOST: usize = 20_000;

    /// Error: code 55 when there are as many as there may be.
    pub fn check_room(&self) -> Result<()> {
        let inner = self.lock();
        match inner.callbacks.len() + inner.monitor.len() < Self::MOST {
            true => Ok(()),
            false => Err(Error::invalid_state(format!("a client may have {} event callbacks at most", Self::MOST))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers for what QEMU says, of one guest or of all, under one name or all; gives the callback's id.
    pub fn register_monitor(&self, only: Option<Uuid>, name: Option<MonitorName>) -> i32 {
        let mut inner = self.lock();
        let id = inner.next();
        inner.monitor.push(MonitorCallback { id, only, name });
        id
    }

    /// Ends such a registration; `false` when there is none with this id.
    pub fn deregister_monitor(&self, id: i32) -> bool {
        let mut inner = self.lock();
        let before = inner.monitor.len();
        inner.monitor.retain(|callback| callback.id != id);
        inner.monitor.len() < before
    }

    /// Registers for `event`, of one object or of all; gives the callback's id.
    pub fn register(&self, class: Class, event: i32, only: Option<Only>) -> i32 {
        let mut inner = self.lock();
        let id = inner.next();
        inner.callbacks.push(Callback { id: Some(id), class, event, only });
        id
    }

    /// Registers the old way; `false` when that was done already.
    pub fn register_legacy(&self, event: i32) -> bool {
        let mut inner = self.lock();
        if inner.callbacks.iter().any(|callback| callback.class == Class::Domain && callback.event == event) {
            return false;
        }
        inner.callbacks.push(Callback { id: None, class: Class::Domain, event, only: None });
        true
    }

    /// Ends a registration; `false` when there is none with this id.
    pub fn deregister(&self, class: Class, id: i32) -> bool {
        self.remove(|callback| callback.class == class && callback.id == Some(id))
    }

    /// Ends a registration of the old kind.
    pub fn deregister_legacy(&self, event: i32) -> bool {
        self.remove(|callback| callback.id.is_none() && callback.event == event)
    }

    fn remove(&self, which: impl Fn(&Callback) -> bool) -> bool {
        let mut inner = self.lock();
        let before = inner.callbacks.len();
        inner.callbacks.retain(|callback| !which(callback));
        inner.callbacks.len() < before
    }

    /// Ends all of them.
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.callbacks.clear();
        inner.monitor.clear();
    }

    /// The packets of `event` for this client.
    pub fn packets(&self, event: &Event) -> Vec<Vec<u8>> {
        let inner = self.lock();
        if let About::Domain { domain, kind: EventKind::Monitor { name, seconds, micros, details }, .. } = &event.about
        {
            let wanted = inner.monitor.iter().filter(|callback| callback.wants(domain, name));
            let said = (name.as_str(), *seconds, *micros, details.as_deref());
            return wanted.map(|callback| monitor_packet(callback.id, domain, said)).collect();
        }
        let mut packets = Vec::new();
        for callback in &inner.callbacks {
            let Some((procedure, body)) = (match &event.about {
                About::Domain { domain, kind, .. } => domain_message(callback, domain, kind),
                About::Host { event, .. } => host_message(callback, event),
            }) else {
                continue;
            };
            let header =
                Header { program: REMOTE, version: 1, procedure, kind: Kind::Message, serial: 0, status: Status::Ok };
            packets.push(header.packet(|out| {
                if let Some(id) = callback.id {
                    id.put(out);
                    if callback.class == Class::Domain && has_reason(callback.event) {
                        0i32.put(out);
                    }
                }
                out.extend_from_slice(&body);
            }));
        }
        packets
    }
}

impl MonitorCallback {
    fn wants(&self, domain: &DomainId, name: &str) -> bool {
        self.only.is_none_or(|uuid| uuid == domain.uuid) && self.name.as_ref().is_none_or(|wanted| wanted.matches(name))
    }
}

/// The QEMU program's message: callback id, guest, event, its time, what it says.
fn monitor_packet(id: i32, domain: &DomainId, said: (&str, i64, u32, Option<&str>)) -> Vec<u8> {
    let procedure = MONITOR_EVENT;
    let header = Header { program: QEMU, version: 1, procedure, kind: Kind::Message, serial: 0, status: Status::Ok };
    let domain = DomainHandle { name: domain.name.clone(), uuid: domain.uuid, id: domain.id.unwrap_or(-1) };
    header.packet(|out| (id, domain, said).put(out))
}

/// The procedure and the body of a message about a domain, when `callback` asked for it.
fn domain_message(callback: &Callback, domain: &DomainId, kind: &EventKind) -> Option<(i32, Vec<u8>)> {
    let wanted = callback.only.as_ref().is_none_or(|only| *only == Only::Uuid(domain.uuid));
    if callback.class != Class::Domain || !wanted {
        return None;
    }
    let row = ROWS.get(usize::try_from(callback.event).ok()?)?;
    let procedure = if callback.id.is_some() { Some(row.procedure) } else { row.legacy };
    Some((procedure?, body(domain, kind, callback.event)?))
}

/// The same of an object of the host.
fn host_message(callback: &Callback, event: &HostEvent) -> Option<(i32, Vec<u8>)> {
    let (class, number, subject, body) = match event {
        // libvirt's protocol knows no jobs of volumes.
        HostEvent::JobBegan { .. } | HostEvent::JobEnded { .. } => return None,
        HostEvent::NetworkLifecycle { network, event, detail } => {
            (Class::Network, 0, Only::Uuid(network.uuid), encode(&(NamedHandle::from(network), *event, *detail)))
        }
        HostEvent::NetworkMetadata { network, kind, uri } => {
            let uri = Some(uri.as_str()).filter(|uri| !uri.is_empty());
            (Class::Network, 1, Only::Uuid(network.uuid), encode(&(NamedHandle::from(network), *kind, uri)))
        }
        HostEvent::PoolLifecycle { pool, event, detail } => {
            (Class::StoragePool, 0, Only::Uuid(pool.uuid), encode(&(NamedHandle::from(pool), *event, *detail)))
        }
        HostEvent::PoolRefresh { pool } => {
            (Class::StoragePool, 1, Only::Uuid(pool.uuid), encode(&NamedHandle::from(pool)))
        }
        HostEvent::NodeDeviceLifecycle { name, event, detail } => {
            (Class::NodeDevice, 0, Only::Name(name.clone()), encode(&(name.as_str(), *event, *detail)))
        }
        HostEvent::NodeDeviceUpdate { name } => {
            (Class::NodeDevice, 1, Only::Name(name.clone()), encode(&name.as_str()))
        }
        HostEvent::SecretLifecycle { secret, event, detail } => {
            (Class::Secret, 0, Only::Uuid(secret.uuid), encode(&(SecretHandle::from(secret), *event, *detail)))
        }
        HostEvent::SecretValueChanged { secret } => {
            (Class::Secret, 1, Only::Uuid(secret.uuid), encode(&SecretHandle::from(secret)))
        }
    };
    let wanted = callback.only.as_ref().is_none_or(|only| *only == subject);
    if callback.class != class || callback.event != number || !wanted {
        return None;
    }
    Some((*class.procedures().get(usize::try_from(number).ok()?)?, body))
}

/// The power management messages have a reason, always 0, between the callback id and the domain.
fn has_reason(event: i32) -> bool {
    matches!(event, 11 | 12 | 14)
}

fn address(address: &GraphicsAddress) -> (i32, &str, &str) {
    (address.family, &address.node, &address.service)
}

/// The message of a domain's event as the event with number `id`, or nothing when it is another one.
fn body(domain: &DomainId, kind: &EventKind, id: i32) -> Option<Vec<u8>> {
    let domain = DomainHandle { name: domain.name.clone(), uuid: domain.uuid, id: domain.id.unwrap_or(-1) };
    Some(match (kind, id) {
        (EventKind::Lifecycle { event, detail }, LIFECYCLE) => encode(&(domain, *event, *detail)),
        (EventKind::Reboot, 1) | (EventKind::ControlError, 7) => encode(&domain),
        (EventKind::RtcChange { offset }, 2) => encode(&(domain, *offset)),
        (EventKind::Watchdog { action }, 3) => encode(&(domain, *action)),
        (EventKind::IoError { path, alias, action, .. }, IO_ERROR) => {
            encode(&(domain, path.as_str(), alias.as_str(), *action))
        }
        (EventKind::IoError { path, alias, action, reason }, IO_ERROR_REASON) => {
            encode(&(domain, path.as_str(), alias.as_str(), *action, reason.as_str()))
        }
        (EventKind::Graphics { phase, local, remote, auth_scheme, identities }, 5) => {
            encode(&(domain, *phase, address(local), address(remote), auth_scheme.as_str(), identities.clone()))
        }
        (EventKind::TrayChange { alias, reason }, 10) => encode(&(domain, alias.as_str(), *reason)),
        (EventKind::PmWakeup, 11) | (EventKind::PmSuspend, 12) => encode(&domain),
        (EventKind::BalloonChange { actual }, 13) => encode(&(domain, *actual)),
        (EventKind::DeviceRemoved { alias }, 15) | (EventKind::DeviceAdded { alias }, 19) => {
            encode(&(domain, alias.as_str()))
        }
        (EventKind::Tunable(params), 17) | (EventKind::JobCompleted(params), 21) => {
            encode(&(domain, Params(params.clone())))
        }
        (EventKind::BlockThreshold { device, path, threshold, excess }, 24) => {
            let path = Some(path.as_str()).filter(|path| !path.is_empty());
            encode(&(domain, device.as_str(), path, *threshold, *excess))
        }
        (EventKind::Agent { state, reason }, 18) => encode(&(domain, *state, *reason)),
        (EventKind::MetadataChange { kind, uri }, 23) => {
            // Title and description have no namespace.
            encode(&(domain, *kind, Some(uri.as_str()).filter(|uri| !uri.is_empty())))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::frame;
    use super::*;
    use crate::engine::driver::DriverKind;
    use crate::engine::event::{HostSet, SecretId};
    use crate::error::Code;

    fn event(kind: EventKind) -> Event {
        let domain = DomainId { uuid: Uuid::from_bytes([7; 16]), name: "d".into(), id: Some(3) };
        Event { seq: 1, about: About::Domain { driver: DriverKind::Test, domain, kind } }
    }

    #[test]
    fn each_callback_gets_its_own_packet() {
        let callbacks = Callbacks::default();
        assert_eq!(callbacks.register(Class::Domain, 0, None), 0);
        assert_eq!(callbacks.register(Class::Domain, 0, Some(Only::Uuid(Uuid::from_bytes([7; 16])))), 1);
        assert_eq!(callbacks.register(Class::Domain, 0, Some(Only::Uuid(Uuid::nil()))), 2);
        assert_eq!(callbacks.register(Class::Domain, 1, None), 3);
        let packets = callbacks.packets(&event(EventKind::Lifecycle { event: 2, detail: 0 }));
        assert_eq!(packets.len(), 2);
        let header = frame::header(&packets[1]).unwrap();
        assert_eq!((header.procedure, header.kind, header.serial), (318, Kind::Message, 0));
        assert_eq!(packets[1][frame::HEADER..][..8], [0, 0, 0, 1, 0, 0, 0, 1]);
        assert!(callbacks.deregister(Class::Domain, 1) && !callbacks.deregister(Class::Domain, 1));
        assert_eq!(callbacks.packets(&event(EventKind::Lifecycle { event: 2, detail: 0 })).len(), 1);
    }

    #[test]
    fn qemus_own_words_go_to_who_asked_for_them() {
        let callbacks = Callbacks::default();
        callbacks.register(Class::Domain, 0, None);
        let all = callbacks.register_monitor(None, None);
        callbacks.register_monitor(Some(Uuid::nil()), None);
        callbacks.register_monitor(None, Some(MonitorName::Exact("stop".into())));
        let named = callbacks.register_monitor(None, Some(MonitorName::Folded("stop".into())));
        assert_eq!((all, named), (1, 4));
        let said = event(EventKind::Monitor { name: "STOP".into(), seconds: 1, micros: 2, details: None });
        let packets = callbacks.packets(&said);
        assert_eq!(packets.len(), 2);
        let header = frame::header(&packets[0]).unwrap();
        assert_eq!((header.program, header.procedure), (QEMU, MONITOR_EVENT));
        // After the guest: the name, 1 s, 2 us, nothing more.
        let tail = [0, 0, 0, 4, b'S', b'T', b'O', b'P', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0];
        assert!(packets[0].ends_with(&tail));
        assert!(callbacks.deregister_monitor(all) && !callbacks.deregister_monitor(all));
        assert_eq!(callbacks.packets(&said).len(), 1);
    }

    #[test]
    fn names_of_qemus_events() {
        let pattern = |text: &str, folded| MonitorName::pattern(text, folded).unwrap();
        assert!(pattern("^S.*P$", false).matches("STOP") && pattern("TO", false).matches("STOP"));
        assert!(!pattern("^s.*p$", false).matches("STOP") && pattern("^s.*p$", true).matches("STOP"));
        let error = MonitorName::pattern("(", false).unwrap_err();
        assert_eq!(error.code, Code::InvalidArg);
        assert_eq!(error.detail, "failed to compile regex '(': unclosed group");
        // A short text must not become megabytes.
        assert!(MonitorName::pattern("((a{100}){100}){100}", false).is_err());
    }

    #[test]
    fn one_io_error_is_two_events() {
        let callbacks = Callbacks::default();
        callbacks.register(Class::Domain, IO_ERROR, None);
        callbacks.register(Class::Domain, IO_ERROR_REASON, None);
        let kind = EventKind::IoError { path: "/d".into(), alias: "a".into(), action: 1, reason: "enospc".into() };
        assert_eq!(callbacks.packets(&event(kind)).len(), 2);
    }

    #[test]
    fn the_old_way_has_no_callback_id() {
        let callbacks = Callbacks::default();
        assert!(callbacks.register_legacy(0) && !callbacks.register_legacy(0));
        let packets = callbacks.packets(&event(EventKind::Lifecycle { event: 2, detail: 0 }));
        assert_eq!(frame::header(&packets[0]).unwrap().procedure, 107);
        assert_eq!(packets[0][frame::HEADER..][..8], [0, 0, 0, 1, b'd', 0, 0, 0]);
    }

    #[test]
    fn host_objects_have_numbers_of_their_own() {
        let callbacks = Callbacks::default();
        let uuid = Uuid::from_bytes([7; 16]);
        // Lifecycle of domains has the same number.
        callbacks.register(Class::Domain, 0, None);
        let any = callbacks.register(Class::Secret, 0, None);
        callbacks.register(Class::Secret, 0, Some(Only::Uuid(Uuid::nil())));
        callbacks.register(Class::Secret, 1, None);
        let secret = SecretId { uuid, usage_type: 2, usage_id: "c".into() };
        let event = HostEvent::SecretLifecycle { secret, event: 1, detail: 0 };
        let event = Event { seq: 1, about: About::Host { set: HostSet::Test, event } };
        let packets = callbacks.packets(&event);
        assert_eq!(packets.len(), 1);
        assert_eq!(frame::header(&packets[0]).unwrap().procedure, 382);
        // Callback id, UUID, usage type, usage id with its length and padding, event, detail.
        let mut expected = encode(&any);
        expected.extend([7; 16]);
        expected.extend([0, 0, 0, 2, 0, 0, 0, 1, b'c', 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(packets[0][frame::HEADER..], expected);
        assert!(!callbacks.deregister(Class::Domain, any) && callbacks.deregister(Class::Secret, any));
    }
}
