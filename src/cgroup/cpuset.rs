//! Which processors and memory nodes a group may use. Lists are the kernel's (`0-3,8`).

use std::fs;
use std::io;
use std::path::Path;

use super::{setting_failed, write};
use crate::error::Result;

/// v1: a new group may use nothing, and takes no process, until told; it gets what its parent has.
pub(super) fn inherit(dir: &Path) -> io::Result<()> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = fs::read_to_string(dir.join(file))?;
        if own.trim().is_empty() {
            write(&dir.join(file), fs::read_to_string(parent.join(file))?.trim())?;
        }
    }
    Ok(())
}

pub(super) fn set_cpus(dir: &Path, list: &str) -> Result<()> {
    write(&dir.join("cpuset.cpus"), list).map_err(|error| setting_failed(dir, "cpuset.cpus", list, error))
}

pub(super) fn set_mems(dir: &Path, list: &str) -> Result<()> {
    write(&dir.join("cpuset.mems"), list).map_err(|error| setting_failed(dir, "cpuset.mems", list, error))
}

/// What is set: processors and memory nodes.
pub(super) fn lists(dir: &Path) -> (Option<String>, Option<String>) {
    let read = |file: &str| Some(fs::read_to_string(dir.join(file)).ok()?.trim().to_string());
    (read("cpuset.cpus"), read("cpuset.mems"))
}
