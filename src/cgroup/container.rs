//! A group with a container in it: who is where, and what the container may do with its part.
//!
//! ```text
//!            v1 hierarchy                       v2 hierarchy
//! GROUP      limits; supervisor and init        limits, root's own; no process, but the supervisor where v2 has no
//!                                               controllers, and so no rule against processes in an inner group
//! `- supervisor                                 the supervisor
//! `- guest                                      init; root of the container's cgroup namespace, delegated to it
//! ```
//!
//! v1 freezer and device rules are init's alone: what is frozen must not be the supervisor, which answers for the
//! container, and the supervisor opens what the container may not (loop devices).

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::{Controller, Group, Place, write};
use crate::error::{Error, Result, Subsystem};
use crate::sys::weakened;

/// Subgroup of the container proper (v2).
pub(super) const GUEST: &str = "guest";
/// Subgroup of its supervisor (v2).
const SUPERVISOR: &str = "supervisor";

/// Where the processes of a container go.
#[derive(Debug, Default)]
pub struct ContainerDirs {
    /// What the supervisor is started with ([`Group::procs`]); init is born in the v1 ones.
    pub supervisor: Vec<OwnedFd>,
    /// Directories only init joins.
    pub init: Vec<PathBuf>,
    /// The v2 directory init is cloned into.
    pub guest: Option<PathBuf>,
}

impl Group {
    /// Prepares the group for a container whose root is `owner` outside (user, group). Errors: code 38.
    pub fn container(&self, owner: (u32, u32)) -> Result<ContainerDirs> {
        let mut dirs = ContainerDirs::default();
        for place in &self.places {
            let guests_own = [Controller::Freezer, Controller::Devices];
            let only_init = !place.v2 && place.controllers.iter().all(|controller| guests_own.contains(controller));
            if only_init {
                dirs.init.push(place.dir.clone());
                continue;
            }
            let make = |name: &str| {
                let dir = place.dir.join(name);
                fs::create_dir(&dir).map_err(|error| failed("create cgroup", &dir, error))?;
                Ok::<_, Error>(dir)
            };
            let controls = place.v2 && place.controllers.iter().any(|controller| controller.v2_name().is_some());
            let joined = if controls { make(SUPERVISOR)? } else { place.dir.clone() };
            if place.v2 {
                let guest = make(GUEST)?;
                delegate(place, &guest, owner)?;
                dirs.guest = Some(guest);
            }
            dirs.supervisor.push(super::door(&joined, place.v2)?);
        }
        Ok(dirs)
    }

    /// Opened `cgroup.procs` files: who joins them is where the container's `init` is, with its limits and its device
    /// rules. Errors: code 38; code 1 when `init` is not in this group.
    pub fn beside(&self, init: i32) -> Result<Vec<OwnedFd>> {
        let table = fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap_or_default();
        let mut all = Vec::new();
        for place in &self.places {
            let dir = if place.v2 {
                // The container may have moved it further down; its own group is then no place for processes.
                let path = table.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
                let inside = path.split_once(&format!("/{}/", self.path)).map(|(_, inside)| inside);
                let Some(inside) = inside.filter(|inside| inside.split('/').next() == Some(GUEST)) else {
                    let detail = format!("process {init} is not in cgroup '{}' but in '{path}'", self.path);
                    return Err(Error::internal(detail).with_subsystem(Subsystem::Cgroup));
                };
                place.dir.join(inside)
            } else {
                place.dir.clone()
            };
            let file = dir.join("cgroup.procs");
            let procs = fs::OpenOptions::new().write(true).open(&file).map_err(|error| failed("open", &file, error))?;
            all.push(procs.into());
        }
        Ok(all)
    }

    /// The directory whose freezer file stops the container.
    pub(super) fn freezer_dir(&self) -> Option<(PathBuf, bool)> {
        let place = self.place(Controller::Freezer)?;
        let guest = place.dir.join(GUEST);
        let dir = if place.v2 && guest.is_dir() { guest } else { place.dir.clone() };
        Some((dir, place.v2))
    }
}

/// The container's root may make groups below its own and move its processes among them, nothing else: limits stay in
/// files of root (systemd's delegation rules).
fn delegate(place: &Place, guest: &Path, (uid, gid): (u32, u32)) -> Result<()> {
    for controller in &place.controllers {
        if let Some(word) = controller.v2_name() {
            // What cannot be passed on is simply not there inside.
            let _ = write(&place.dir.join("cgroup.subtree_control"), &format!("+{word}"));
        }
    }
    let more: &[&str] = if weakened("own-limits") { &["cgroup.max.descendants", "cgroup.max.depth"] } else { &[] };
    for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"].iter().chain(more) {
        let path = if name.is_empty() { guest.to_path_buf() } else { guest.join(name) };
        match std::os::unix::fs::chown(&path, Some(uid), Some(gid)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("delegate", &path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::system(format!("cannot {what} '{}'", path.display()), error).with_subsystem(Subsystem::Cgroup)
}
