//! Placement under systemd: each run in a transient scope of its own.
//!
//! Where systemd is PID 1 it owns the cgroup tree; a group made behind its back may be emptied or removed by it. There,
//! each run gets a scope by `org.freedesktop.systemd1.Manager.StartTransientUnit`. This file knows names, properties
//! and order; who talks D-Bus is given to the manager as [`Scopes`].
//!
//! ```text
//! partition /machine/production, run qemu-3-x  ->  machine-production.slice / machine-qemu\x2d3\x2dx.scope
//! below the mount point: machine.slice/machine-production.slice/machine-qemu\x2d3\x2dx.scope
//!   |- holder   a process of ours from the scope's birth until the guest is in (systemd wants one, and ends a scope
//!   |           without any); it dies with the daemon
//!   `- domus    the guest's group with its limits: files of the scope itself are systemd's to write
//! ```

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result, Subsystem};
use crate::sys::exec::{GuestProcess, GuestSpec, spawn_guest};

/// Group of the guest in its scope.
const OWN: &str = "domus";
/// Group of the holder in the scope.
const HOLDER: &str = "holder";
/// Ends when its input does: the other end of the pipe is ours alone.
const HOLDER_ARGV: [&str; 2] = ["/bin/cat", "/proc/self/fd/3"];

/// Makes and removes transient scopes: systemd, as somebody who may talk D-Bus reaches it. Both calls block.
pub trait Scopes: Send + Sync + std::fmt::Debug {
    /// `StartTransientUnit`; returns when its job is done. Errors: whatever kept systemd from it.
    fn start(&self, scope: &Scope) -> Result<()>;

    /// `StopUnit`; returns when the unit is gone. One that is not there is no error.
    fn stop(&self, unit: &str) -> Result<()>;
}

/// Arguments of `StartTransientUnit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Unit name, ends in `.scope`.
    pub unit: String,
    /// In the order given; D-Bus type `a(sv)`.
    pub properties: Vec<(&'static str, Value)>,
}

/// A property's value, with its D-Bus type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `s`
    Text(String),
    /// `b`
    Bool(bool),
    /// `t`
    Number(u64),
    /// `au`
    Pids(Vec<u32>),
}

/// Whether systemd manages this host's cgroups (it is PID 1; `sd_booted(3)`).
pub fn systemd_is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Path of a run's group below the mount points: `run` (`qemu-3-1f2e3d4c`) in libvirt's partition (`/machine`).
/// Error: code 1 for a partition with dotted parts.
pub(super) fn path(partition: &str, run: &str) -> Result<String> {
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
    Ok(format!("{path}machine-{}.scope/{OWN}", escape(run)))
}

/// A path made by [`path`], in parts: slice, unit, and the scope's own path. `None` for any other.
pub(super) fn split(path: &str) -> Option<(&str, &str, &str)> {
    let own = path.strip_suffix(OWN)?.strip_suffix('/')?;
    let (slices, unit) = own.rsplit_once('/')?;
    let slice = slices.rsplit('/').next()?;
    (unit.ends_with(".scope") && slice.ends_with(".slice")).then_some((slice, unit, own))
}

/// The scope for the processes `pids`, which must exist: systemd refuses a scope without a process.
fn scope(slice: &str, unit: &str, description: &str, pids: Vec<u32>) -> Scope {
    // The text becomes a line of a unit file.
    let description: String = description.chars().filter(|c| !c.is_control()).collect();
    let properties = vec![
        ("Description", Value::Text(description.replace('%', "%%"))),
        ("Slice", Value::Text(slice.to_string())),
        ("PIDs", Value::Pids(pids)),
        // Groups below it are ours to make.
        ("Delegate", Value::Bool(true)),
        // systemd's default for units would be a limit nobody asked for.
        ("TasksMax", Value::Number(u64::MAX)),
        // A failed scope goes away by itself, so the name can be used again.
        ("CollectMode", Value::Text("inactive-or-failed".to_string())),
    ];
    Scope { unit: unit.to_string(), properties }
}

/// The process that keeps a new scope alive until the guest is in it.
#[derive(Debug)]
pub(super) struct Holder {
    dir: PathBuf,
    /// Open while it lives.
    alive: Mutex<Option<(OwnedFd, GuestProcess)>>,
}

impl Holder {
    /// Makes the scope of `path` below the v2 mount point `root`. Error: code 38 or systemd's own.
    pub(super) fn start(scopes: &dyn Scopes, root: &Path, path: &str, description: &str) -> Result<Holder> {
        let Some((slice, unit, own)) = split(path) else {
            return Err(failed(format!("'{path}' is in no scope"), std::io::ErrorKind::InvalidInput.into()));
        };
        let process = spawn().map_err(|error| failed(format!("cannot start a process for scope '{unit}'"), error))?;
        let pid = process.1.pid;
        let dir = root.join(own).join(HOLDER);
        let holder = Holder { dir, alive: Mutex::new(Some(process)) };
        scopes.start(&scope(slice, unit, description, vec![pid.cast_unsigned()]))?;
        let made = std::fs::create_dir(&holder.dir)
            .and_then(|()| super::write(&holder.dir.join("cgroup.procs"), &pid.to_string()));
        made.map_err(|error| {
            failed(format!("scope '{unit}' is not where it should be ('{}')", root.join(own).display()), error)
        })?;
        Ok(holder)
    }

    /// Ends it; the guest is in, or nothing is to be kept.
    pub(super) fn end(&self) {
        let Some((pipe, process)) = self.alive.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        drop(pipe);
        process.pidfd.reap_blocking();
        // With the scope, if it is too late now.
        let _ = super::remove_dir(&self.dir);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn() -> std::io::Result<(OwnedFd, GuestProcess)> {
    let (input, ours) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    let process = spawn_guest(GuestSpec {
        argv: HOLDER_ARGV.map(str::to_string).into(),
        env: Vec::new(),
        uid: None,
        gid: None,
        groups: Vec::new(),
        umask: 0o077,
        limits: Vec::new(),
        working_dir: "/".into(),
        fds: vec![(3, input)],
        output: null.into(),
        cgroup_procs: Vec::new(),
        pidfile: None,
        no_new_privs: true,
    })
    .map_err(std::io::Error::other)?;
    Ok((ours, process))
}

fn failed(what: String, error: std::io::Error) -> Error {
    Error::system(what, error).with_subsystem(Subsystem::Cgroup)
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
    fn places(#[case] partition: &str, #[case] slice: &str, #[case] own: &str) {
        let path = path(partition, "qemu-3").unwrap();
        assert_eq!(path, format!("{own}/domus"));
        assert_eq!(split(&path), Some((slice, r"machine-qemu\x2d3.scope", own)));
    }

    #[test]
    fn other_groups_are_in_no_scope() {
        for path in ["machine/qemu-3", "domus", "a.scope/domus", "machine/x/domus", "machine.slice/x.service/domus"] {
            assert_eq!(split(path), None, "{path}");
        }
    }

    #[test]
    fn a_partition_cannot_leave() {
        assert!(path("/machine/../x", "qemu-3").is_err());
        assert!(path("/machine", "").is_err());
    }

    #[test]
    fn a_description_stays_one_line() {
        let scope = scope("machine.slice", "machine-x.scope", "vm \n100%\u{7f}", vec![7]);
        assert!(scope.properties.contains(&("Description", Value::Text("vm 100%%".into()))));
        assert!(scope.properties.contains(&("PIDs", Value::Pids(vec![7]))));
        assert!(scope.properties.contains(&("Delegate", Value::Bool(true))));
    }

    #[test]
    fn the_holder_ends_with_its_pipe() {
        let (pipe, process) = spawn().unwrap();
        assert_eq!(process.pidfd.try_reap(), None);
        drop(pipe);
        process.pidfd.reap_blocking();
        assert_eq!(process.pidfd.try_reap(), Some(crate::sys::process::Exit::Code(0)));
    }
}
