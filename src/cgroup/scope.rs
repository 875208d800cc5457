//! Placement under systemd: what a transient scope for a run is called and which properties it gets.
//!
//! Where systemd is PID 1 it owns the cgroup tree; a group made behind its back may be emptied or removed by it. There,
//! each run gets a scope of its own by `org.freedesktop.systemd1.Manager.StartTransientUnit`; this file only computes
//! the arguments. Whoever talks D-Bus makes the call, waits for `JobRemoved`, and then uses [`Scope::path`] with
//! [`super::Manager::open`] like any other group.
//!
//! ```text
//! partition /machine/production, run qemu-3-x  ->  machine-production.slice / machine-qemu\x2d3\x2dx.scope
//! below the mount point: machine.slice/machine-production.slice/machine-qemu\x2d3\x2dx.scope
//! ```

use std::path::Path;

use crate::error::{Error, Result, Subsystem};

/// Arguments of `StartTransientUnit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Unit name, ends in `.scope`.
    pub unit: String,
    /// In the order given; D-Bus type `a(sv)`.
    pub properties: Vec<(&'static str, Value)>,
    /// The group's path below the mount points.
    pub path: String,
}

/// A property's value, with its D-Bus type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `s`
    Text(String),
    /// `b`
    Bool(bool),
    /// `au`
    Pids(Vec<u32>),
}

/// Whether systemd manages this host's cgroups (it is PID 1; `sd_booted(3)`).
pub fn systemd_is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The scope of run `run` (`qemu-3-1f2e3d4c`) in libvirt's partition (`/machine`), for the processes `pids`, which must
/// exist: a scope without a process is refused by systemd. Error: code 1 for a partition with empty or dotted parts.
pub fn scope(partition: &str, run: &str, description: &str, pids: &[u32]) -> Result<Scope> {
    let parts: Vec<&str> = partition.trim_matches('/').split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| *part == "." || *part == "..") || run.is_empty() {
        return Err(Error::internal(format!("'{partition}' is no resource partition for run '{run}'"))
            .with_subsystem(Subsystem::Cgroup));
    }
    let parts = if parts.is_empty() { vec!["machine"] } else { parts };
    // A slice's name tells where it is: a-b.slice lies in a.slice. Hence a part's own dashes are escaped.
    let mut name = String::new();
    let mut path = String::new();
    for part in &parts {
        // Partitions may already carry systemd's suffix, as libvirt allows.
        let part = part.strip_suffix(".slice").unwrap_or(part);
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(&escape(part));
        path.push_str(&name);
        path.push_str(".slice/");
    }
    let unit = format!("machine-{}.scope", escape(run));
    path.push_str(&unit);
    let properties = vec![
        ("Description", Value::Text(description.to_string())),
        ("Slice", Value::Text(format!("{name}.slice"))),
        ("PIDs", Value::Pids(pids.to_vec())),
        // Groups below it are ours to make.
        ("Delegate", Value::Bool(true)),
        // A failed scope goes away by itself, so the name can be used again.
        ("CollectMode", Value::Text("inactive-or-failed".to_string())),
    ];
    Ok(Scope { unit, properties, path })
}

/// systemd's escaping of a unit name part (`systemd-escape`): everything but letters, digits, `:`, `_` and inner `.`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'/' => out.push('-'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' => out.push(char::from(byte)),
            b'.' if index > 0 => out.push('.'),
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("qemu-3-x", r"qemu\x2d3\x2dx")]
    #[case(".a.b", r"\x2ea.b")]
    #[case("a/b c", r"a-b\x20c")]
    #[case("é", r"\xc3\xa9")]
    fn escaping(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(escape(text), expected);
    }

    #[rstest]
    #[case("/machine", "machine.slice", r"machine.slice/machine-qemu\x2d3.scope")]
    #[case("", "machine.slice", r"machine.slice/machine-qemu\x2d3.scope")]
    #[case(
        "/machine/web-shop",
        r"machine-web\x2dshop.slice",
        r"machine.slice/machine-web\x2dshop.slice/machine-qemu\x2d3.scope"
    )]
    #[case("/machine.slice", "machine.slice", r"machine.slice/machine-qemu\x2d3.scope")]
    fn places(#[case] partition: &str, #[case] slice: &str, #[case] path: &str) {
        let scope = scope(partition, "qemu-3", "vm", &[7]).unwrap();
        assert_eq!(scope.unit, r"machine-qemu\x2d3.scope");
        assert_eq!(scope.path, path);
        assert!(scope.properties.contains(&("Slice", Value::Text(slice.into()))));
        assert!(scope.properties.contains(&("PIDs", Value::Pids(vec![7]))));
    }

    #[test]
    fn a_partition_cannot_leave() {
        assert!(scope("/machine/../x", "qemu-3", "vm", &[1]).is_err());
        assert!(scope("/machine", "", "vm", &[1]).is_err());
    }
}
