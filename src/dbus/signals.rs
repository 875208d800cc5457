//! Engine events as libvirt-dbus's signals: exact path, interface and signature, broadcast to every connection.
//!
//! One pump for all connections keeps the engine's total order. It is drained by its own task, and also by whoever is
//! about to send a reply, so that a reply never overtakes the signals of what it reports.

use std::sync::Arc;

use serde::Serialize;
use zbus::{DynamicType, Message};

use super::client::OWN_UNIQUE_NAME;
use super::codec::{Params, Path};
use super::path;
use crate::engine::event::{Event, EventKind, GraphicsAddress};

const CONNECT: &str = "org.libvirt.Connect";
const DOMAIN: &str = "org.libvirt.Domain";

/// The signal of one event, built at most once with and once without our peer-to-peer name as its sender.
#[derive(Debug)]
pub struct Signal {
    event: Arc<Event>,
    for_bus: Option<Message>,
    for_peer: Option<Message>,
}

impl Signal {
    pub fn new(event: Arc<Event>) -> Signal {
        Signal { event, for_bus: None, for_peer: None }
    }

    /// The message for a bus, which fills in the sender itself.
    pub fn for_bus(&mut self) -> zbus::Result<Message> {
        Signal::cached(&mut self.for_bus, &self.event, None)
    }

    /// The message for a peer-to-peer connection.
    pub fn for_peer(&mut self) -> zbus::Result<Message> {
        Signal::cached(&mut self.for_peer, &self.event, Some(OWN_UNIQUE_NAME))
    }

    fn cached(slot: &mut Option<Message>, event: &Event, sender: Option<&'static str>) -> zbus::Result<Message> {
        if let Some(message) = slot {
            return Ok(message.clone());
        }
        let message = build(event, sender)?;
        *slot = Some(message.clone());
        Ok(message)
    }
}

fn graphics(address: &GraphicsAddress) -> (i32, &str, &str) {
    (address.family, &address.node, &address.service)
}

/// The signal of `event`.
fn build(event: &Event, sender: Option<&'static str>) -> zbus::Result<Message> {
    let domain = path::domain(event.driver, &event.domain.uuid);
    let on_domain = Emitter { path: &domain, interface: DOMAIN, sender };
    match &event.kind {
        EventKind::Lifecycle { event: number, detail } => {
            let root = format!("/org/libvirt/{}", path::root_name(event.driver));
            let on_root = Emitter { path: &root, interface: CONNECT, sender };
            on_root.emit("DomainEvent", &(Path(domain.clone()), number, detail))
        }
        EventKind::Reboot => on_domain.emit("Reboot", &()),
        EventKind::RtcChange { offset } => on_domain.emit("RTCChange", offset),
        EventKind::Watchdog { action } => on_domain.emit("Watchdog", action),
        EventKind::IoError { path, alias, action, reason } => on_domain.emit("IOError", &(path, alias, action, reason)),
        EventKind::BalloonChange { actual } => on_domain.emit("BalloonChange", actual),
        EventKind::TrayChange { alias, reason } => on_domain.emit("TrayChange", &(alias, reason)),
        EventKind::DeviceAdded { alias } => on_domain.emit("DeviceAdded", alias),
        EventKind::DeviceRemoved { alias } => on_domain.emit("DeviceRemoved", alias),
        EventKind::Agent { state, reason } => on_domain.emit("AgentEvent", &(state, reason)),
        EventKind::MetadataChange { kind, uri } => on_domain.emit("MetadataChange", &(kind, uri)),
        EventKind::PmWakeup => on_domain.emit("PMWakeup", &0i32),
        EventKind::PmSuspend => on_domain.emit("PMSuspend", &0i32),
        EventKind::Graphics { phase, local, remote, auth_scheme, identities } => {
            on_domain.emit("Graphics", &(phase, graphics(local), graphics(remote), auth_scheme, identities))
        }
        EventKind::ControlError => on_domain.emit("ControlError", &()),
        EventKind::JobCompleted(params) => on_domain.emit("JobCompleted", &(Params(params.clone()),)),
        EventKind::Tunable(params) => on_domain.emit("Tunable", &(Params(params.clone()),)),
    }
}

struct Emitter<'e> {
    path: &'e str,
    interface: &'static str,
    sender: Option<&'static str>,
}

impl Emitter<'_> {
    fn emit<B: Serialize + DynamicType>(&self, member: &'static str, body: &B) -> zbus::Result<Message> {
        let builder = Message::signal(self.path, self.interface, member);
        match self.sender {
            Some(sender) => builder.sender(sender).build(body),
            None => builder.build(body),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dbus::table;
    use crate::engine::driver::DriverKind;
    use crate::engine::event::DomainId;
    use crate::types::{TypedParams, Uuid};

    /// Every kind of event, so that each signal's signature is held against its row.
    fn every_kind() -> Vec<EventKind> {
        let mut params = TypedParams::new();
        params.int("a", 1);
        vec![
            EventKind::Lifecycle { event: 2, detail: 0 },
            EventKind::Reboot,
            EventKind::RtcChange { offset: -1 },
            EventKind::Watchdog { action: 1 },
            EventKind::IoError { path: "/d".into(), alias: "vda".into(), action: 1, reason: "enospc".into() },
            EventKind::BalloonChange { actual: 1 },
            EventKind::TrayChange { alias: "sr0".into(), reason: 1 },
            EventKind::DeviceAdded { alias: "net0".into() },
            EventKind::DeviceRemoved { alias: "net0".into() },
            EventKind::Agent { state: 1, reason: 2 },
            EventKind::MetadataChange { kind: 0, uri: String::new() },
            EventKind::PmWakeup,
            EventKind::PmSuspend,
            EventKind::Graphics {
                phase: 0,
                local: GraphicsAddress::default(),
                remote: GraphicsAddress::default(),
                auth_scheme: "none".into(),
                identities: vec![("x".into(), "y".into())],
            },
            EventKind::ControlError,
            EventKind::JobCompleted(params.clone()),
            EventKind::Tunable(params),
        ]
    }

    #[test]
    fn signals_match_their_rows() {
        for kind in every_kind() {
            let domain = DomainId { uuid: Uuid::nil(), name: "d".into(), id: Some(1) };
            let lifecycle = matches!(kind, EventKind::Lifecycle { .. });
            let event = Arc::new(Event { seq: 1, driver: DriverKind::Qemu, domain, kind });
            let message = Signal::new(event).for_peer().unwrap();
            let empty = message.body().is_empty();
            assert!(empty || message.body().deserialize::<zbus::Structure<'_>>().is_ok());
            let header = message.header();
            let (path, interface) = match lifecycle {
                true => ("/org/libvirt/QEMU", &table::connect::INTERFACE),
                false => ("/org/libvirt/QEMU/domain/_00000000_0000_0000_0000_000000000000", &table::domain::INTERFACE),
            };
            assert_eq!(header.path().unwrap().as_str(), path);
            assert_eq!(header.interface().unwrap().as_str(), interface.name);
            let member = header.member().unwrap().as_str();
            let row = interface.signals.iter().find(|row| row.name == member).unwrap();
            assert_eq!(header.signature(), &table::signature(row.args).as_str(), "{member}");
        }
    }
}
