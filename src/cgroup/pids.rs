//! Number of tasks.

use std::fs;
use std::path::Path;

use super::{setting_failed, write};
use crate::error::Result;

pub(super) fn set_max(dir: &Path, max: Option<u64>) -> Result<()> {
    let value = max.map_or_else(|| "max".to_string(), |max| max.to_string());
    write(&dir.join("pids.max"), &value).map_err(|error| setting_failed(dir, "number of tasks", value, error))
}

pub(super) fn current(dir: &Path) -> Option<u64> {
    fs::read_to_string(dir.join("pids.current")).ok()?.trim().parse().ok()
}
