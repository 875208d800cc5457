//! Engine events as libvirt's messages: which client asked for which, and the bytes of each.
//!
//! Every registration of a client gets a packet of its own for one event, with its callback id in front. Clients that
//! register the old way get the old message, which has no id.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::frame::{Header, Kind, Status};
use super::table::REMOTE;
use super::wire::{DomainHandle, Params};
use super::xdr::{Put, encode};
use crate::engine::event::{Event, EventKind, GraphicsAddress};
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

const LIFECYCLE: i32 = 0;
const IO_ERROR: i32 = 4;
const IO_ERROR_REASON: i32 = 6;

/// A registration.
#[derive(Clone, Copy, Debug)]
struct Callback {
    /// `None`: registered the old way.
    id: Option<i32>,
    event: i32,
    domain: Option<Uuid>,
}

/// The registrations of one client.
#[derive(Debug, Default)]
pub struct Callbacks {
    inner: Mutex<(Vec<Callback>, i32)>,
}

impl Callbacks {
    fn lock(&self) -> MutexGuard<'_, (Vec<Callback>, i32)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is an event with this number.
    pub fn known(event: i32) -> bool {
        usize::try_from(event).is_ok_and(|event| event < ROWS.len())
    }

    /// Registers for `event`, of one domain or of all; gives the callback's id.
    pub fn register(&self, event: i32, domain: Option<Uuid>) -> i32 {
        let mut inner = self.lock();
        let id = inner.1;
        inner.1 += 1;
        inner.0.push(Callback { id: Some(id), event, domain });
        id
    }

    /// Registers the old way; `false` when that was done already.
    pub fn register_legacy(&self, event: i32) -> bool {
        let mut inner = self.lock();
        if inner.0.iter().any(|callback| callback.event == event) {
            return false;
        }
        inner.0.push(Callback { id: None, event, domain: None });
        true
    }

    /// Ends a registration; `false` when there is none with this id.
    pub fn deregister(&self, id: i32) -> bool {
        self.remove(|callback| callback.id == Some(id))
    }

    /// Ends a registration of the old kind.
    pub fn deregister_legacy(&self, event: i32) -> bool {
        self.remove(|callback| callback.id.is_none() && callback.event == event)
    }

    fn remove(&self, which: impl Fn(&Callback) -> bool) -> bool {
        let mut inner = self.lock();
        let before = inner.0.len();
        inner.0.retain(|callback| !which(callback));
        inner.0.len() < before
    }

    /// Ends all of them.
    pub fn clear(&self) {
        self.lock().0.clear();
    }

    /// The packets of `event` for this client.
    pub fn packets(&self, event: &Event) -> Vec<Vec<u8>> {
        let inner = self.lock();
        let mut packets = Vec::new();
        for callback in &inner.0 {
            if callback.domain.is_some_and(|domain| domain != event.domain.uuid) {
                continue;
            }
            let Some(body) = body(event, callback.event) else { continue };
            let Some(row) = usize::try_from(callback.event).ok().and_then(|at| ROWS.get(at)) else { continue };
            let procedure = match callback.id {
                Some(_) => row.procedure,
                None => match row.legacy {
                    Some(procedure) => procedure,
                    None => continue,
                },
            };
            let header =
                Header { program: REMOTE, version: 1, procedure, kind: Kind::Message, serial: 0, status: Status::Ok };
            packets.push(header.packet(|out| {
                if let Some(id) = callback.id {
                    id.put(out);
                    if has_reason(callback.event) {
                        0i32.put(out);
                    }
                }
                out.extend_from_slice(&body);
            }));
        }
        packets
    }
}

/// The power management messages have a reason, always 0, between the callback id and the domain.
fn has_reason(event: i32) -> bool {
    matches!(event, 11 | 12 | 14)
}

fn address(address: &GraphicsAddress) -> (i32, &str, &str) {
    (address.family, &address.node, &address.service)
}

/// The message of `event` as the event with number `id`, or nothing when it is another one.
fn body(event: &Event, id: i32) -> Option<Vec<u8>> {
    let domain =
        DomainHandle { name: event.domain.name.clone(), uuid: event.domain.uuid, id: event.domain.id.unwrap_or(-1) };
    Some(match (&event.kind, id) {
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
    use crate::engine::event::DomainId;

    fn event(kind: EventKind) -> Event {
        let domain = DomainId { uuid: Uuid::from_bytes([7; 16]), name: "d".into(), id: Some(3) };
        Event { seq: 1, driver: DriverKind::Test, domain, kind }
    }

    #[test]
    fn each_callback_gets_its_own_packet() {
        let callbacks = Callbacks::default();
        assert_eq!(callbacks.register(0, None), 0);
        assert_eq!(callbacks.register(0, Some(Uuid::from_bytes([7; 16]))), 1);
        assert_eq!(callbacks.register(0, Some(Uuid::nil())), 2);
        assert_eq!(callbacks.register(1, None), 3);
        let packets = callbacks.packets(&event(EventKind::Lifecycle { event: 2, detail: 0 }));
        assert_eq!(packets.len(), 2);
        let header = frame::header(&packets[1]).unwrap();
        assert_eq!((header.procedure, header.kind, header.serial), (318, Kind::Message, 0));
        assert_eq!(packets[1][frame::HEADER..][..8], [0, 0, 0, 1, 0, 0, 0, 1]);
        assert!(callbacks.deregister(1) && !callbacks.deregister(1));
        assert_eq!(callbacks.packets(&event(EventKind::Lifecycle { event: 2, detail: 0 })).len(), 1);
    }

    #[test]
    fn one_io_error_is_two_events() {
        let callbacks = Callbacks::default();
        callbacks.register(IO_ERROR, None);
        callbacks.register(IO_ERROR_REASON, None);
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
}
