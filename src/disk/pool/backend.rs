//! What a pool's type does when it is built, started, refreshed, stopped and deleted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::model::{PoolDef, PoolType};
use super::mount::Format;
use super::write::Usage;
use super::{directory, logical, mount};
use crate::disk::permissions::Permissions;
use crate::disk::volume::VolumeDef;
use crate::disk::volume::scan::{self, KnownRaw};
use crate::error::{Error, Result};

/// What a refresh found.
#[derive(Debug, Default)]
pub struct Refreshed {
    pub usage: Usage,
    /// Of the target directory as it is.
    pub permissions: Option<Permissions>,
    /// By name.
    pub volumes: BTreeMap<String, VolumeDef>,
    /// To be given to the next refresh.
    pub raw: KnownRaw,
    /// Files that could not be read, or make no sense.
    pub problems: Vec<(String, Error)>,
}

/// Refuses what is not built. Error: code 3, with the types there are.
pub fn supported(def: &PoolDef) -> Result<()> {
    if def.kind.is_supported() {
        return Ok(());
    }
    let known: Vec<&str> = PoolType::ALL.iter().filter(|kind| kind.is_supported()).map(|kind| kind.as_str()).collect();
    Err(Error::no_support(format!(
        "pools of type '{}' can be defined, but not be used here; types that can: {}",
        def.kind,
        known.join(", ")
    )))
}

fn target(def: &PoolDef) -> PathBuf {
    PathBuf::from(def.target.path.as_deref().unwrap_or_default())
}

/// Prepares the storage (`virStoragePoolBuild`). Errors: code 3 for other types, else those of the backends.
pub async fn build(def: &PoolDef, format: Format) -> Result<()> {
    supported(def)?;
    match def.kind {
        PoolType::Dir => {
            let (path, target, cow) = (target(def), def.target.clone(), def.cow);
            blocking(move || directory::build(&path, &target, cow)).await
        }
        PoolType::Fs | PoolType::Netfs => mount::build(def, format).await,
        _ => logical::build(def, format == Format::Always).await,
    }
}

/// Makes the storage appear: mounts it, activates its group. Stopping takes that back. Errors as [`build`].
pub async fn start(def: &PoolDef) -> Result<()> {
    supported(def)?;
    match def.kind {
        PoolType::Dir => Ok(()),
        PoolType::Fs | PoolType::Netfs => mount::mount(def).await,
        _ => logical::start(def).await,
    }
}

/// Whether what [`start`] makes is there. Errors: code 38.
pub fn is_up(def: &PoolDef) -> Result<bool> {
    match def.kind {
        PoolType::Fs | PoolType::Netfs => mount::is_mounted(def),
        PoolType::Logical => Ok(target(def).is_dir()),
        _ => Ok(target(def).is_dir()),
    }
}

/// Takes back what [`start`] did; nothing is no error. Errors as [`build`].
pub async fn stop(def: &PoolDef) -> Result<()> {
    match def.kind {
        PoolType::Fs | PoolType::Netfs => mount::unmount(def).await,
        PoolType::Logical => logical::stop(def).await,
        _ => Ok(()),
    }
}

/// Removes the storage for good (`virStoragePoolDelete`). Errors as [`build`].
pub async fn delete(def: &PoolDef) -> Result<()> {
    supported(def)?;
    match def.kind {
        PoolType::Logical => logical::delete(def).await,
        _ => {
            let path = target(def);
            blocking(move || directory::remove(&path)).await
        }
    }
}

/// Looks at all volumes and measures the pool. `known`: what the refresh before remembered. Errors: code 38 when the
/// pool itself cannot be read; a single volume's are in the result.
pub async fn refresh(def: &PoolDef, known: &KnownRaw) -> Result<Refreshed> {
    supported(def)?;
    if def.kind == PoolType::Logical {
        let (usage, volumes) = logical::refresh(def).await?;
        return Ok(Refreshed { usage, volumes, ..Refreshed::default() });
    }
    let (path, known) = (target(def), known.clone());
    directory::absolute(&path)?;
    blocking(move || {
        let scan::Found { volumes, raw, problems } = scan::scan(&path, &known)?;
        let (usage, permissions) = directory::measure(&path)?;
        Ok(Refreshed { usage, permissions: Some(permissions), volumes, raw, problems })
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal("a worker thread panicked").with_source(error)),
    }
}
