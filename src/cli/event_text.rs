//! Events of domains as virsh words them, and as JSON.
//!
//! Each D-Bus signal of `org.libvirt.Domain` becomes a [`Happened`]; pure, so that every text is tested here.

use serde_json::{Value, json};
use zbus::message::Body;

use super::params::{self, Params};
use super::words::word;

/// virsh's types of events.
pub const TYPES: [&str; 28] = [
    "lifecycle",
    "reboot",
    "rtc-change",
    "watchdog",
    "io-error",
    "graphics",
    "io-error-reason",
    "control-error",
    "block-job",
    "disk-change",
    "tray-change",
    "pm-wakeup",
    "pm-suspend",
    "balloon-change",
    "pm-suspend-disk",
    "device-removed",
    "block-job-2",
    "tunable",
    "agent-lifecycle",
    "device-added",
    "migration-iteration",
    "job-completed",
    "device-removal-failed",
    "metadata-change",
    "block-threshold",
    "memory-failure",
    "memory-device-size-change",
    "nic-mac-change",
];

/// One event, without its domain.
#[derive(Debug, PartialEq)]
pub struct Happened {
    /// virsh's type.
    pub name: &'static str,
    /// What follows the domain's quoted name, newline included.
    tail: String,
    /// The data for `--json`.
    pub value: Value,
    may_name: bool,
}

impl Happened {
    fn new(name: &'static str, tail: impl Into<String>, value: Value) -> Self {
        Happened { name, tail: format!("{}\n", tail.into()), value, may_name: false }
    }

    /// The line (or lines) virsh prints.
    pub fn text(&self, domain: &str) -> String {
        format!("event '{}' for domain '{domain}'{}", self.name, self.tail)
    }

    /// Whether it passes the filter `--event`. Signals carry the newer form of two events; the older name means it too.
    pub fn is(&self, wanted: &str) -> bool {
        self.name == wanted
            || matches!((self.name, wanted), ("block-job-2", "block-job") | ("io-error", "io-error-reason"))
    }

    /// Whether the domain may have a name now that it did not have before.
    pub fn may_name(&self) -> bool {
        self.may_name
    }
}

/// `DomainEvent`: `virDomainEventType` and its detail.
pub fn lifecycle(event: i32, detail: i32) -> Happened {
    const EVENTS: [&str; 9] =
        ["Defined", "Undefined", "Started", "Suspended", "Resumed", "Stopped", "Shutdown", "PMSuspended", "Crashed"];
    let details: &[&'static str] = match event {
        0 => &["Added", "Updated", "Renamed", "Snapshot"],
        1 => &["Removed", "Renamed"],
        2 => &["Booted", "Migrated", "Restored", "Snapshot", "Event wakeup"],
        3 => &[
            "Paused",
            "Migrated",
            "I/O Error",
            "Watchdog",
            "Restored",
            "Snapshot",
            "API error",
            "Post-copy",
            "Post-copy Error",
        ],
        4 => &["Unpaused", "Migrated", "Snapshot", "Post-copy", "Post-copy Error"],
        5 => &["Shutdown", "Destroyed", "Crashed", "Migrated", "Saved", "Failed", "Snapshot"],
        6 => &["Finished", "Finished after guest request", "Finished after host request"],
        7 => &["Memory", "Disk"],
        8 => &["Panicked", "Crashloaded"],
        _ => &[],
    };
    let (event_word, detail_word) = (word(&EVENTS, event, "unknown"), word(details, detail, "unknown"));
    let value = json!({ "event": event_word, "detail": detail_word, "event-number": event, "detail-number": detail });
    let mut happened = Happened::new("lifecycle", format!(": {event_word} {detail_word}"), value);
    // Defined (also by a rename) and Started (a transient domain) can be the first thing heard of a name.
    happened.may_name = matches!(event, 0 | 2);
    happened
}

/// A signal of `org.libvirt.Domain`; `None` for one without a virsh name or with arguments that are not its own.
pub fn of_signal(member: &str, body: &Body) -> Option<Happened> {
    const JOBS: [&str; 6] = ["unknown", "Block Pull", "Block Copy", "Block Commit", "Active Block Commit", "Backup"];
    const IO_ACTIONS: [&str; 3] = ["none", "pause", "report"];
    let plain = |name| Some(Happened::new(name, "", json!({})));
    let device = |name| {
        let alias: String = body.deserialize().ok()?;
        Some(Happened::new(name, format!(": {alias}"), json!({ "device": alias })))
    };
    let params = |name| {
        let params: Params = body.deserialize().ok()?;
        let lines: String =
            params.0.0.iter().map(|(field, value)| format!("\n\t{field}: {}", params::text(value))).collect();
        Some(Happened::new(name, format!(":{lines}"), params.json()))
    };
    match member {
        "Reboot" => plain("reboot"),
        "ControlError" => plain("control-error"),
        "PMWakeup" => plain("pm-wakeup"),
        "PMSuspend" => plain("pm-suspend"),
        "PMSuspendDisk" => plain("pm-suspend-disk"),
        "DeviceAdded" => device("device-added"),
        "DeviceRemoved" => device("device-removed"),
        "DeviceRemovalFailed" => device("device-removal-failed"),
        "Tunable" => params("tunable"),
        "JobCompleted" => params("job-completed"),
        "RTCChange" => {
            let offset: i64 = body.deserialize().ok()?;
            Some(Happened::new("rtc-change", format!(": {offset}"), json!({ "utcoffset": offset })))
        }
        "Watchdog" => {
            let action: i32 = body.deserialize().ok()?;
            let words = ["none", "pause", "reset", "poweroff", "shutdown", "debug", "inject-nmi"];
            let action = word(&words, action, "unknown");
            Some(Happened::new("watchdog", format!(": {action}"), json!({ "action": action })))
        }
        "IOError" => {
            let (path, alias, action, reason): (String, String, i32, String) = body.deserialize().ok()?;
            let action = word(&IO_ACTIONS, action, "unknown");
            let due = if reason.is_empty() { String::new() } else { format!(" due to {reason}") };
            let value = json!({ "path": path, "device": alias, "action": action, "reason": reason });
            Some(Happened::new("io-error", format!(": {path} ({alias}) {action}{due}"), value))
        }
        "BalloonChange" => {
            let actual: u64 = body.deserialize().ok()?;
            Some(Happened::new("balloon-change", format!(": {actual}KiB"), json!({ "actual-kib": actual })))
        }
        "BlockJob" => {
            let (disk, job, status): (String, i32, i32) = body.deserialize().ok()?;
            let job = word(&JOBS, job, "unknown");
            let status = word(&["completed", "failed", "canceled", "ready"], status, "unknown");
            let value = json!({ "disk": disk, "job": job, "status": status });
            Some(Happened::new("block-job-2", format!(": {job} for {disk} {status}"), value))
        }
        "DiskChange" => {
            let (old, new, alias, reason): (String, String, String, i32) = body.deserialize().ok()?;
            let reason = word(&["changed", "dropped"], reason, "unknown");
            let value = json!({ "device": alias, "old": old, "new": new, "reason": reason });
            Some(Happened::new("disk-change", format!(" disk {alias}: {old} -> {new}: {reason}"), value))
        }
        "TrayChange" => {
            let (alias, reason): (String, i32) = body.deserialize().ok()?;
            let reason = word(&["opened", "closed"], reason, "unknown");
            let value = json!({ "device": alias, "tray": reason });
            Some(Happened::new("tray-change", format!(" disk {alias}: {reason}"), value))
        }
        "AgentEvent" => {
            let (state, reason): (i32, i32) = body.deserialize().ok()?;
            let state = word(&["unknown", "connected", "disconnected"], state, "unknown");
            let reason = word(&["unknown", "domain started", "channel event"], reason, "unknown");
            let value = json!({ "state": state, "reason": reason });
            Some(Happened::new("agent-lifecycle", format!(": state: '{state}' reason: '{reason}'"), value))
        }
        "MigrationIteration" => {
            let iteration: i32 = body.deserialize().ok()?;
            let value = json!({ "iteration": iteration });
            Some(Happened::new("migration-iteration", format!(": iteration: '{iteration}'"), value))
        }
        "MetadataChange" => {
            let (kind, uri): (i32, String) = body.deserialize().ok()?;
            let kind = word(&["description", "title", "element"], kind, "unknown");
            let shown = if uri.is_empty() { "<null>" } else { &uri };
            let value = json!({ "type": kind, "uri": uri });
            Some(Happened::new("metadata-change", format!(": type {kind}, uri {shown}"), value))
        }
        "BlockThreshold" => {
            let (device, path, threshold, excess): (String, String, u64, u64) = body.deserialize().ok()?;
            let value = json!({ "device": device, "path": path, "threshold": threshold, "excess": excess });
            Some(Happened::new("block-threshold", format!(": dev: {device}({path}) {threshold} {excess}"), value))
        }
        "Graphics" => graphics(body),
        _ => None,
    }
}

fn graphics(body: &Body) -> Option<Happened> {
    type Address = (i32, String, String);
    let (phase, local, remote, scheme, identities): (i32, Address, Address, String, Vec<(String, String)>) =
        body.deserialize().ok()?;
    let phase = word(&["connect", "initialize", "disconnect"], phase, "unknown");
    let family = |number| word(&["IPv4", "IPv6", "unix"], number, "unknown");
    let end = |(number, node, service): &Address| format!("[{} {node} {service}]", family(*number));
    let who: String = identities.iter().map(|(name, value)| format!("\n\t{name}={value}")).collect();
    let tail = format!(": {phase} local{} remote{} {scheme}{who}", end(&local), end(&remote));
    let json_end =
        |(number, node, service): &Address| json!({ "family": family(*number), "node": node, "service": service });
    let value = json!({
        "phase": phase, "local": json_end(&local), "remote": json_end(&remote), "auth-scheme": scheme,
        "identities": identities,
    });
    Some(Happened::new("graphics", tail, value))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use zbus::DynamicType;

    use super::*;

    fn text<B: serde::Serialize + DynamicType>(member: &str, arguments: &B) -> String {
        let message = zbus::Message::signal("/x", DOMAIN, member).build(arguments).unwrap();
        of_signal(member, &message.body()).unwrap().text("d")
    }

    const DOMAIN: &str = "org.libvirt.Domain";

    #[rstest]
    #[case(2, 0, "Started Booted")]
    #[case(5, 1, "Stopped Destroyed")]
    #[case(1, 0, "Undefined Removed")]
    #[case(6, 1, "Shutdown Finished after guest request")]
    #[case(99, 0, "unknown unknown")]
    fn life_cycle(#[case] event: i32, #[case] detail: i32, #[case] words: &str) {
        assert_eq!(lifecycle(event, detail).text("d"), format!("event 'lifecycle' for domain 'd': {words}\n"));
    }

    #[test]
    fn signals_are_worded_as_in_virsh() {
        assert_eq!(text("Reboot", &()), "event 'reboot' for domain 'd'\n");
        assert_eq!(text("RTCChange", &(-3i64,)), "event 'rtc-change' for domain 'd': -3\n");
        assert_eq!(text("Watchdog", &(2i32,)), "event 'watchdog' for domain 'd': reset\n");
        assert_eq!(text("BalloonChange", &(1024u64,)), "event 'balloon-change' for domain 'd': 1024KiB\n");
        assert_eq!(text("TrayChange", &("cd", 0i32)), "event 'tray-change' for domain 'd' disk cd: opened\n");
        assert_eq!(
            text("IOError", &("/p", "vda", 1i32, "enospc")),
            "event 'io-error' for domain 'd': /p (vda) pause due to enospc\n"
        );
        assert_eq!(
            text("BlockJob", &("vda", 3i32, 0i32)),
            "event 'block-job-2' for domain 'd': Block Commit for vda completed\n"
        );
        assert_eq!(
            text("MetadataChange", &(1i32, "")),
            "event 'metadata-change' for domain 'd': type title, uri <null>\n"
        );
        let ends = ((0i32, "h", "1"), (2i32, "", "/s"));
        assert_eq!(
            text("Graphics", &(0i32, ends.0, ends.1, "none", vec![("user", "u")])),
            "event 'graphics' for domain 'd': connect local[IPv4 h 1] remote[unix  /s] none\n\tuser=u\n"
        );
    }

    #[test]
    fn wrong_arguments_are_no_event() {
        let message = zbus::Message::signal("/x", DOMAIN, "Watchdog").build(&("text",)).unwrap();
        assert_eq!(of_signal("Watchdog", &message.body()), None);
        assert_eq!(of_signal("Nothing", &message.body()), None);
    }

    #[test]
    fn old_names_select_the_newer_form() {
        let message = zbus::Message::signal("/x", DOMAIN, "BlockJob").build(&("v", 1i32, 0i32)).unwrap();
        let job = of_signal("BlockJob", &message.body()).unwrap();
        assert!(job.is("block-job") && job.is("block-job-2") && !job.is("reboot"));
    }
}
