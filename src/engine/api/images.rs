//! Base images: calls of our own, for libvirt has none.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{call, check_host_flags};
use crate::disk::cache::{Cache, Image, Import, Kind, Overlay, SourceFormat};
use crate::engine::Connection;
use crate::engine::work::{Task, Which};
use crate::error::{Error, Result};

/// Arguments of `domusImageImport`.
#[derive(Clone, Debug)]
pub struct ImportArgs {
    pub path: String,
    /// `raw`, `qcow2` or `tar`.
    pub format: String,
    pub sha256: Option<String>,
    pub name: String,
    pub flags: u32,
}

/// Arguments of `domusImageCreateOverlay`.
#[derive(Clone, Debug)]
pub struct OverlayArgs {
    /// Checksum or name.
    pub image: String,
    pub path: String,
    /// Bytes; 0 for the base's.
    pub size: u64,
    pub flags: u32,
}

/// Arguments of `domusImagePrune`.
#[derive(Clone, Copy, Debug)]
pub struct PruneArgs {
    /// Seconds that an image must not have been asked for.
    pub age: u64,
    pub flags: u32,
}

/// A base image as it is shown.
#[derive(Clone, Debug)]
pub struct ImageInfo {
    pub image: Image,
    pub path: PathBuf,
    /// `raw` or `tree`.
    pub kind: &'static str,
    /// Overlays made here that are still there.
    pub overlays: u32,
    /// A guest that uses it; empty when none does.
    pub user: String,
}

fn cache(on: &Connection) -> Result<Arc<Cache>> {
    on.host().work.images.clone().ok_or_else(|| Error::no_support("the test driver keeps no base images"))
}

fn absolute(path: &str) -> Result<PathBuf> {
    let path = PathBuf::from(path);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(Error::invalid_arg(format!("path '{}' must be absolute", path.display())))
}

fn described(on: &Connection, cache: &Cache, image: Image) -> ImageInfo {
    let path = cache.path_of(&image);
    let kind = match image.kind {
        Kind::Raw => "raw",
        Kind::Tree => "tree",
    };
    let overlays = u32::try_from(cache.overlays(&image)).unwrap_or(u32::MAX);
    let user = on.host().work.user_of(&path, Which::All).unwrap_or_default();
    ImageInfo { image, path, kind, overlays, user }
}

call! {
    /// Imports an image, or finds the one that was imported before.
    ImportImage = "domusImageImport", Write, "connect:write";
    (caller, on: Connection, ImportArgs { path, format, sha256, name, flags } => ImportArgs) -> ImageInfo {
        check_host_flags(flags, 0, "domusImageImport")?;
        let cache = cache(on)?;
        let import = Import { source: absolute(&path)?, format: SourceFormat::parse(&format)?, sha256, name };
        let shown = import.source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // Each import is a job of its own: the same source may be asked for twice.
        let key = format!("import {}", uuid::Uuid::new_v4());
        let job = on.host().work.begin(&key, &shown, Task::Import)?;
        let image = caller.presence.during(cache.import(import, &job.progress)).await?;
        drop(job);
        let connection = on.clone();
        crate::engine::cleanup::run_blocking(move || Ok(described(&connection, &cache, image))).await
    }
}

call! {
    /// All base images.
    ListImages = "domusImageList", Read, "connect:read";
    (caller, on: Connection, flags => u32) -> Vec<ImageInfo> {
        check_host_flags(flags, 0, "domusImageList")?;
        let (cache, connection) = (cache(on)?, on.clone());
        crate::engine::cleanup::run_blocking(move || {
            Ok(cache.list().into_iter().map(|image| described(&connection, &cache, image)).collect())
        })
        .await
    }
}

call! {
    /// A qcow2 image over a base image.
    CreateImageOverlay = "domusImageCreateOverlay", Write, "connect:write";
    (caller, on: Connection, OverlayArgs { image, path, size, flags } => OverlayArgs) -> () {
        check_host_flags(flags, 0, "domusImageCreateOverlay")?;
        let cache = cache(on)?;
        let overlay = Overlay { target: absolute(&path)?, size: (size > 0).then_some(size), ..Overlay::default() };
        let job = on.host().work.begin(&path, &path, Task::Overlay)?;
        cache.overlay(&image, overlay, &job.progress).await.map(drop)
    }
}

call! {
    /// Removes the base images that nothing uses; their checksums.
    PruneImages = "domusImagePrune", Write, "connect:write";
    (caller, on: Connection, PruneArgs { age, flags } => PruneArgs) -> Vec<String> {
        check_host_flags(flags, 0, "domusImagePrune")?;
        let (cache, work) = (cache(on)?, on.host().work.clone());
        let used = |path: &std::path::Path| work.user_of(path, Which::All).is_some();
        let removed = cache.prune(Duration::from_secs(age), &used).await?;
        Ok(removed.into_iter().map(|image| image.sha256).collect())
    }
}
