//! QMP events as facts. Pure: what a fact means for the domain is decided in `instance`.

use serde_json::Value;

use super::qmp::Event;
use crate::engine::event::GraphicsAddress;

/// What an event says.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    Stopped,
    Resumed,
    /// The guest (or QEMU itself) ends; with `-no-shutdown` QEMU stays and waits.
    Shutdown {
        by_guest: bool,
        reason: String,
    },
    Reset {
        by_guest: bool,
    },
    Panicked,
    SuspendedToMemory,
    SuspendedToDisk,
    WokeUp,
    /// `virDomainEventWatchdogAction`
    Watchdog {
        action: i32,
        pauses: bool,
    },
    IoError {
        /// qdev id or path of the device, may be empty.
        device: String,
        node: String,
        /// `virDomainEventIOErrorAction`: 0 none, 1 pause, 2 report.
        action: i32,
        reason: String,
    },
    /// Bytes.
    Balloon {
        actual: u64,
    },
    /// Seconds the guest moved its clock by.
    RtcMoved {
        offset: i64,
    },
    Tray {
        device: String,
        open: bool,
    },
    Graphics {
        phase: i32,
        local: GraphicsAddress,
        remote: GraphicsAddress,
        auth: String,
        identities: Vec<(String, String)>,
    },
    DeviceDeleted {
        device: String,
    },
    /// Bytes.
    WriteThreshold {
        node: String,
        threshold: u64,
        excess: u64,
    },
    Port {
        device: String,
        open: bool,
    },
    /// Nothing this driver acts on.
    Other,
}

fn string(data: &Value, key: &str) -> String {
    data.get(key).and_then(Value::as_str).unwrap_or_default().to_string()
}

fn flag(data: &Value, key: &str) -> bool {
    data.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// The last part of a QOM path of a device with an id (`/machine/peripheral/net0` -> `net0`).
fn id_of(data: &Value, id_key: &str, path_key: &str) -> String {
    let id = string(data, id_key);
    if !id.is_empty() {
        return id;
    }
    let path = string(data, path_key);
    let rest = path.strip_prefix("/machine/peripheral/").unwrap_or("");
    rest.split('/').next().unwrap_or_default().to_string()
}

fn end(data: Option<&Value>) -> GraphicsAddress {
    let Some(data) = data else { return GraphicsAddress::default() };
    let family = match string(data, "family").as_str() {
        "ipv6" => 1,
        "unix" => 2,
        _ => 0,
    };
    GraphicsAddress { family, node: string(data, "host"), service: string(data, "service") }
}

fn graphics(phase: i32, data: &Value) -> Fact {
    let (server, client) = (data.get("server"), data.get("client"));
    let mut identities = Vec::new();
    for (key, name) in [("x509_dname", "x509dname"), ("sasl_username", "saslUsername")] {
        if let Some(value) = client.and_then(|client| client.get(key)).and_then(Value::as_str) {
            identities.push((name.to_string(), value.to_string()));
        }
    }
    let auth = server.map(|server| string(server, "auth")).unwrap_or_default();
    Fact::Graphics { phase, local: end(server), remote: end(client), auth, identities }
}

/// Reads an event. Fields QEMU leaves out read as empty: an event is never an error.
pub fn read(event: &Event) -> Fact {
    let data = &event.data;
    match event.name.as_str() {
        "STOP" => Fact::Stopped,
        "RESUME" => Fact::Resumed,
        "SHUTDOWN" => Fact::Shutdown { by_guest: flag(data, "guest"), reason: string(data, "reason") },
        "RESET" => Fact::Reset { by_guest: flag(data, "guest") },
        "GUEST_PANICKED" => Fact::Panicked,
        "BLOCK_WRITE_THRESHOLD" => {
            let number = |name: &str| data.get(name).and_then(Value::as_u64).unwrap_or(0);
            let (threshold, excess) = (number("write-threshold"), number("amount-exceeded"));
            Fact::WriteThreshold { node: string(data, "node-name"), threshold, excess }
        }
        "SUSPEND" => Fact::SuspendedToMemory,
        "SUSPEND_DISK" => Fact::SuspendedToDisk,
        "WAKEUP" => Fact::WokeUp,
        "WATCHDOG" => {
            let action = string(data, "action");
            let number = match action.as_str() {
                "pause" => 1,
                "reset" => 2,
                "poweroff" => 3,
                "shutdown" => 4,
                "debug" => 5,
                "inject-nmi" => 6,
                _ => 0,
            };
            Fact::Watchdog { action: number, pauses: action == "pause" }
        }
        "BLOCK_IO_ERROR" => {
            let action = match string(data, "action").as_str() {
                "stop" => 1,
                "report" => 2,
                _ => 0,
            };
            let nospace = flag(data, "nospace");
            let reason = if nospace { "enospc".to_string() } else { String::new() };
            let device = id_of(data, "device", "qom-path");
            Fact::IoError { device, node: string(data, "node-name"), action, reason }
        }
        "BALLOON_CHANGE" => Fact::Balloon { actual: data.get("actual").and_then(Value::as_u64).unwrap_or(0) },
        "RTC_CHANGE" => Fact::RtcMoved { offset: data.get("offset").and_then(Value::as_i64).unwrap_or(0) },
        "DEVICE_TRAY_MOVED" => Fact::Tray { device: id_of(data, "id", "device"), open: flag(data, "tray-open") },
        "VNC_CONNECTED" | "SPICE_CONNECTED" => graphics(0, data),
        "VNC_INITIALIZED" | "SPICE_INITIALIZED" => graphics(1, data),
        "VNC_DISCONNECTED" | "SPICE_DISCONNECTED" => graphics(2, data),
        "DEVICE_DELETED" => Fact::DeviceDeleted { device: id_of(data, "device", "path") },
        "VSERPORT_CHANGE" => Fact::Port { device: string(data, "id"), open: flag(data, "open") },
        _ => Fact::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("STOP", json!(null), Fact::Stopped)]
    #[case("SHUTDOWN", json!({"guest": true, "reason": "guest-shutdown"}), Fact::Shutdown { by_guest: true, reason: "guest-shutdown".into() })]
    #[case("BALLOON_CHANGE", json!({"actual": 1024}), Fact::Balloon { actual: 1024 })]
    #[case("DEVICE_TRAY_MOVED", json!({"device": "", "id": "ide0-0-0", "tray-open": true}), Fact::Tray { device: "ide0-0-0".into(), open: true })]
    #[case("BLOCK_IO_ERROR", json!({"device": "", "qom-path": "/machine/peripheral/virtio-disk0/virtio-backend", "node-name": "libvirt-1-format", "action": "stop", "nospace": true}),
        Fact::IoError { device: "virtio-disk0".into(), node: "libvirt-1-format".into(), action: 1, reason: "enospc".into() })]
    #[case("WATCHDOG", json!({"action": "pause"}), Fact::Watchdog { action: 1, pauses: true })]
    #[case("SHUTDOWN", json!("nonsense"), Fact::Shutdown { by_guest: false, reason: String::new() })]
    #[case("TOMORROWS_EVENT", json!({}), Fact::Other)]
    fn facts(#[case] name: &str, #[case] data: Value, #[case] fact: Fact) {
        assert_eq!(read(&Event { name: name.into(), data, seconds: 0, micros: 0 }), fact);
    }

    #[test]
    fn a_vnc_client() {
        let data = json!({
            "server": {"auth": "none", "family": "ipv4", "service": "5900", "host": "127.0.0.1"},
            "client": {"family": "ipv6", "service": "4711", "host": "::1", "sasl_username": "u"}
        });
        let Fact::Graphics { phase, local, remote, auth, identities } =
            read(&Event { name: "VNC_INITIALIZED".into(), data, seconds: 0, micros: 0 })
        else {
            panic!("not graphics")
        };
        assert_eq!((phase, auth.as_str()), (1, "none"));
        assert_eq!(local.service, "5900");
        assert_eq!(remote.family, 1);
        assert_eq!(identities, [("saslUsername".to_string(), "u".to_string())]);
    }
}
