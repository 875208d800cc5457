//! Engine events as libvirt-dbus's signals: exact path, interface and signature, broadcast to every connection.
//!
//! One pump for all connections keeps the engine's total order. It is drained by its own task, and also by whoever is
//! about to send a reply, so that a reply never overtakes the signals of what it reports.

use serde::Serialize;
use zbus::{DynamicType, Message};

use super::codec::{Params, Path};
use super::path::{self, Kind};
use super::table;
use crate::engine::driver::DriverKind;
use crate::engine::event::{About, DomainId, Event, EventKind, GraphicsAddress, HostEvent};
use crate::types::Uuid;

const CONNECT: &str = "org.libvirt.Connect";
const DOMAIN: &str = "org.libvirt.Domain";

fn graphics(address: &GraphicsAddress) -> (i32, &str, &str) {
    (address.family, &address.node, &address.service)
}

/// The signal of `event` below the root of `driver`, which it concerns. A bus fills in the sender itself.
pub fn build(event: &Event, driver: DriverKind, sender: Option<&'static str>) -> zbus::Result<Message> {
    match &event.about {
        About::Domain { domain, kind, .. } => build_domain(driver, domain, kind, sender),
        About::Host { event, .. } => build_host(driver, event, sender),
    }
}

fn build_host(driver: DriverKind, event: &HostEvent, sender: Option<&'static str>) -> zbus::Result<Message> {
    let name = path::root_name(driver);
    let root = format!("/org/libvirt/{name}");
    let on_root = Emitter { path: &root, interface: CONNECT, sender };
    let by_uuid = |kind, uuid: &Uuid| path::object_below(name, kind, &path::uuid_key(uuid));
    let device = |device: &str| path::object_below(name, Kind::NodeDevice, &path::encode(device));
    match event {
        // libvirt-dbus leaves the detail out, which is always 0.
        HostEvent::NetworkLifecycle { network, event, .. } => {
            on_root.emit("NetworkEvent", &(Path(by_uuid(Kind::Network, &network.uuid)), event))
        }
        HostEvent::PoolLifecycle { pool, event, detail } => {
            on_root.emit("StoragePoolEvent", &(Path(by_uuid(Kind::StoragePool, &pool.uuid)), event, detail))
        }
        HostEvent::PoolRefresh { pool } => {
            let path = by_uuid(Kind::StoragePool, &pool.uuid);
            Emitter { path: &path, interface: "org.libvirt.StoragePool", sender }.emit("Refresh", &())
        }
        HostEvent::NodeDeviceLifecycle { name, event, detail } => {
            on_root.emit("NodeDeviceEvent", &(Path(device(name)), event, detail))
        }
        HostEvent::SecretLifecycle { secret, event, detail } => {
            on_root.emit("SecretEvent", &(Path(by_uuid(Kind::Secret, &secret.uuid)), event, detail))
        }
        // libvirt-dbus has no signals of these; ours stand on the object, in our own interface.
        HostEvent::NetworkMetadata { network, kind, uri } => {
            let path = by_uuid(Kind::Network, &network.uuid);
            Emitter { path: &path, interface: table::domus_host::NETWORK.name, sender }
                .emit("MetadataChange", &(kind, uri))
        }
        HostEvent::NodeDeviceUpdate { name } => {
            let path = device(name);
            Emitter { path: &path, interface: table::domus_host::NODE_DEVICE.name, sender }.emit("Updated", &())
        }
        HostEvent::SecretValueChanged { secret } => {
            let path = by_uuid(Kind::Secret, &secret.uuid);
            Emitter { path: &path, interface: table::domus_host::SECRET.name, sender }.emit("ValueChanged", &())
        }
        HostEvent::JobBegan { .. } | HostEvent::JobEnded { .. } => Err(zbus::Error::Unsupported),
    }
}

fn build_domain(
    driver: DriverKind,
    domain: &DomainId,
    kind: &EventKind,
    sender: Option<&'static str>,
) -> zbus::Result<Message> {
    let domain = path::domain(driver, &domain.uuid);
    let on_domain = Emitter { path: &domain, interface: DOMAIN, sender };
    match kind {
        EventKind::Lifecycle { event: number, detail } => {
            let root = format!("/org/libvirt/{}", path::root_name(driver));
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
        EventKind::BlockThreshold { device, path, threshold, excess } => {
            on_domain.emit("BlockThreshold", &(device, path, threshold, excess))
        }
        EventKind::Monitor { .. } => Err(zbus::Error::Unsupported),
    }
}

/// Whether libvirt-dbus has a signal for it.
pub fn has_signal(event: &Event) -> bool {
    match &event.about {
        About::Domain { kind, .. } => !matches!(kind, EventKind::Monitor { .. }),
        About::Host { event, .. } => !matches!(event, HostEvent::JobBegan { .. } | HostEvent::JobEnded { .. }),
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
    use crate::engine::event::{HostSet, Named, SecretId};
    use crate::types::TypedParams;

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
            EventKind::BlockThreshold { device: "vda".into(), path: "/d".into(), threshold: 1, excess: 2 },
        ]
    }

    #[test]
    fn signals_match_their_rows() {
        for kind in every_kind() {
            let domain = DomainId { uuid: Uuid::nil(), name: "d".into(), id: Some(1) };
            let lifecycle = matches!(kind, EventKind::Lifecycle { .. });
            let event = Event { seq: 1, about: About::Domain { driver: DriverKind::Qemu, domain, kind } };
            let message = build(&event, DriverKind::Qemu, Some(":1.0")).unwrap();
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

    #[test]
    fn signals_of_host_objects_match_their_rows() {
        const UUID: &str = "_00000000_0000_0000_0000_000000000000";
        let named = Named { uuid: Uuid::nil(), name: "n".into() };
        let secret = SecretId { uuid: Uuid::nil(), usage_type: 1, usage_id: "/v".into() };
        let on_root = |event| (event, String::new(), &table::connect::INTERFACE);
        let cases = [
            on_root(HostEvent::NetworkLifecycle { network: named.clone(), event: 2, detail: 0 }),
            on_root(HostEvent::PoolLifecycle { pool: named.clone(), event: 2, detail: 0 }),
            on_root(HostEvent::NodeDeviceLifecycle { name: "pci_0000".into(), event: 0, detail: 0 }),
            on_root(HostEvent::SecretLifecycle { secret: secret.clone(), event: 0, detail: 0 }),
            (HostEvent::PoolRefresh { pool: named.clone() }, format!("/storagepool/{UUID}"), &table::pool::INTERFACE),
            (
                HostEvent::NetworkMetadata { network: named, kind: 0, uri: String::new() },
                format!("/network/{UUID}"),
                &table::domus_host::NETWORK,
            ),
            (
                HostEvent::NodeDeviceUpdate { name: "pci_0000".into() },
                "/nodedev/pci_5f0000".into(),
                &table::domus_host::NODE_DEVICE,
            ),
            (HostEvent::SecretValueChanged { secret }, format!("/secret/{UUID}"), &table::domus_host::SECRET),
        ];
        for (event, below, interface) in cases {
            let event = Event { seq: 1, about: About::Host { set: HostSet::Shared, event } };
            let message = build(&event, DriverKind::Lxc, None).unwrap();
            let header = message.header();
            assert_eq!(header.path().unwrap().as_str(), format!("/org/libvirt/LXC{below}"));
            assert_eq!(header.interface().unwrap().as_str(), interface.name);
            let member = header.member().unwrap().as_str();
            let row = interface.signals.iter().find(|row| row.name == member).unwrap();
            assert_eq!(header.signature(), &table::signature(row.args).as_str(), "{member}");
        }
    }
}
