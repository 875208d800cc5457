//! The agent inside a simulated guest: always there, knows a little.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::engine::control::{AgentAnswer, AgentCommand, AgentRefusal};

/// What it remembers.
#[derive(Debug, Default)]
pub(super) struct MockAgent {
    /// How far its clock is from the host's, ns.
    clock: AtomicI64,
    frozen: Mutex<Vec<String>>,
    keys: Mutex<Vec<String>>,
}

const MOUNTS: [(&str, &str); 2] = [("/", "vda1"), ("/boot", "vda2")];

fn host_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

fn texts(value: &Value, name: &str) -> Vec<String> {
    let all = value.get(name).and_then(Value::as_array);
    all.into_iter().flatten().filter_map(|one| one.as_str().map(str::to_string)).collect()
}

impl MockAgent {
    /// `domain`: the guest's name; its own name for itself is libvirt's test driver's.
    pub fn answer(&self, command: &AgentCommand, vcpus: u32, domain: &str) -> AgentAnswer {
        let arguments = &command.arguments;
        let no = |text: &'static str| AgentRefusal { class: "GenericError".into(), text: text.into() };
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        match command.name.as_str() {
            "guest-ping" | "guest-fstrim" | "guest-set-user-password" => Ok(json!({})),
            "guest-get-time" => Ok(json!(host_ns().saturating_add(self.clock.load(Ordering::Relaxed)))),
            "guest-set-time" => {
                let to = arguments.get("time").and_then(Value::as_i64).map_or(0, |ns| ns.saturating_sub(host_ns()));
                self.clock.store(to, Ordering::Relaxed);
                Ok(json!({}))
            }
            "guest-fsfreeze-freeze" | "guest-fsfreeze-freeze-list" => {
                if !frozen.is_empty() {
                    return Err(no("file systems are frozen already"));
                }
                let wanted = texts(arguments, "mountpoints");
                let all = MOUNTS.map(|(place, _)| place.to_string()).to_vec();
                let listed = command.name.ends_with("-list");
                *frozen = all.into_iter().filter(|place| !listed || wanted.contains(place)).collect();
                Ok(json!(frozen.len()))
            }
            "guest-fsfreeze-thaw" => Ok(json!(std::mem::take(&mut *frozen).len())),
            "guest-get-fsinfo" => {
                let one = |(place, name): (&str, &str)| {
                    json!({"name": name, "mountpoint": place, "type": "ext4", "total-bytes": 1 << 30, "used-bytes": 1 << 20,
                        "disk": []})
                };
                Ok(Value::Array(MOUNTS.map(one).to_vec()))
            }
            "guest-get-vcpus" => {
                let one = |id: u32| json!({"logical-id": id, "online": true, "can-offline": id != 0});
                Ok(Value::Array((0..vcpus).map(one).collect()))
            }
            "guest-set-vcpus" => Ok(json!(arguments.get("vcpus").and_then(Value::as_array).map_or(0, Vec::len))),
            "guest-get-host-name" => Ok(json!({"host-name": format!("{domain}host")})),
            "guest-get-osinfo" => {
                Ok(json!({"id": "test", "name": "Test", "pretty-name": "Test OS", "machine": "x86_64"}))
            }
            "guest-get-timezone" => Ok(json!({"zone": "UTC", "offset": 0})),
            "guest-get-users" => Ok(json!([{"user": "root", "login-time": 1.5}])),
            "guest-network-get-interfaces" => Ok(json!([{"name": "lo", "hardware-address": "00:00:00:00:00:00",
                "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8}]}])),
            "guest-ssh-get-authorized-keys" => Ok(json!({ "keys": *keys })),
            "guest-ssh-add-authorized-keys" => {
                if arguments.get("reset").and_then(Value::as_bool) == Some(true) {
                    keys.clear();
                }
                keys.extend(texts(arguments, "keys"));
                Ok(json!({}))
            }
            "guest-ssh-remove-authorized-keys" => {
                let gone = texts(arguments, "keys");
                keys.retain(|key| !gone.contains(key));
                Ok(json!({}))
            }
            name => Err(AgentRefusal {
                class: "CommandNotFound".into(),
                text: format!("The command {name} has not been found"),
            }),
        }
    }
}
