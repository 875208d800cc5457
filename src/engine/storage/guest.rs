//! Volumes that guests use: what `<disk type='volume'>` and `<filesystem type='volume'>` are on this host now.

use std::sync::Arc;

use super::StorageVol;
use crate::disk::permissions::sanitize_path;
use crate::disk::volume::{FileFormat, VolumeDef, VolumeKind};
use crate::domain_xml::device::{Backing, Disk, Filesystem, FilesystemType, StorageFormat, StorageKind, StorageSource};
use crate::domain_xml::{Device, DomainDef};
use crate::engine::event::HostSet;
use crate::engine::host::HostObjects;
use crate::engine::work::{Task, Use};
use crate::error::{Code, Error, Result, Subsystem};

/// Fills in where the volumes of a guest that is about to start are. The definition goes on to name pool and volume.
/// Errors: code 49 and 50 for a pool or volume that is not there, code 67 for a pool that does not run and for what
/// cannot be had, each with the device.
pub(in crate::engine) fn resolve(host: &HostObjects, def: &mut Arc<DomainDef>) -> Result<()> {
    if !wanted(host, def) {
        return Ok(());
    }
    let def = Arc::make_mut(def);
    def.disks.iter_mut().try_for_each(|found| disk(host, found))?;
    def.filesystems.iter_mut().try_for_each(|found| filesystem(host, found))
}

/// The same for a guest that runs already, as far as it can be: a pool that has gone meanwhile takes nothing away from a
/// guest that has the volume open.
pub(in crate::engine) fn find_again(host: &HostObjects, def: &mut Arc<DomainDef>) {
    if !wanted(host, def) {
        return;
    }
    let def = Arc::make_mut(def);
    let name = def.name.clone();
    let disks = def.disks.iter_mut().map(|found| disk(host, found));
    let all = disks.chain(def.filesystems.iter_mut().map(|found| filesystem(host, found)));
    for error in all.filter_map(Result::err) {
        tracing::warn!(domain = name, %error, "where a volume of the running guest is, is not known");
    }
}

/// Keeps jobs off the images that a guest is about to open, until dropped; then the running guest does. Error: code 55
/// with the disk when one of them is being made or changed.
pub(in crate::engine) fn hold(host: &HostObjects, def: &DomainDef) -> Result<Vec<Use>> {
    let mut held = Vec::new();
    if host.context.set == HostSet::Test {
        return Ok(held);
    }
    for disk in &def.disks {
        for layer in std::iter::once(&disk.source).chain(disk.source.chain()) {
            let Some(path) = layer.path.as_deref() else { continue };
            // Volumes that are files have their path as their key.
            let volume = if layer.kind == StorageKind::Block { host.volume_by_path(path).ok() } else { None };
            let key = volume.map_or_else(|| sanitize_path(path), |volume| volume.key);
            let name = path.rsplit('/').next().unwrap_or(path);
            let used = host.work.begin(&key, name, Task::Guest);
            held.push(used.map_err(|error| Error {
                detail: format!("{} (disk '{}'): wait for its end and start again", error.detail, disk.dev()),
                ..error
            })?);
        }
    }
    Ok(held)
}

fn wanted(host: &HostObjects, def: &DomainDef) -> bool {
    let disks = def.disks.iter().any(|disk| in_pool(&disk.source));
    let any = disks || def.filesystems.iter().any(|filesystem| filesystem.kind == FilesystemType::Volume);
    // The test driver's guests open nothing.
    any && host.context.set != HostSet::Test
}

/// The same for a device of a running guest.
pub(in crate::engine) fn resolve_device(host: &HostObjects, device: &mut Device) -> Result<()> {
    if host.context.set == HostSet::Test {
        return Ok(());
    }
    match device {
        Device::Disk(found) => disk(host, found),
        Device::Filesystem(found) => filesystem(host, found),
        _ => Ok(()),
    }
}

fn in_pool(source: &StorageSource) -> bool {
    source.kind == StorageKind::Volume || source.chain().any(|layer| layer.kind == StorageKind::Volume)
}

fn disk(host: &HostObjects, disk: &mut Disk) -> Result<()> {
    let place = format!("disk '{}'", disk.dev());
    let mut layer = &mut disk.source;
    loop {
        if layer.kind == StorageKind::Volume {
            source(host, layer, &place)?;
        }
        match &mut layer.backing {
            Backing::Layer(below) => layer = below,
            _ => return Ok(()),
        }
    }
}

fn source(host: &HostObjects, layer: &mut StorageSource, place: &str) -> Result<()> {
    let wanted = layer.volume.clone().unwrap_or_default();
    let volume = find(host, wanted.pool.as_deref(), wanted.volume.as_deref(), place)?;
    // A pool of targets, where the mode says which way leads to them, does not run here.
    if wanted.mode.is_some() {
        return Err(unsupported(format!(
            "disk source mode is only valid when storage pool is of iscsi type ({place})"
        )));
    }
    if layer.startup_policy.is_some() && volume.kind != VolumeKind::File {
        return Err(unsupported(format!("'startupPolicy' is only valid for 'file' type volume ({place})")));
    }
    layer.kind = match volume.kind {
        VolumeKind::File => StorageKind::File,
        VolumeKind::Block => StorageKind::Block,
        VolumeKind::Dir => StorageKind::Dir,
        kind => return Err(unexpected(kind, place)),
    };
    layer.path = volume.target.path.clone();
    // As libvirt does: what a volume holds may have been written by a guest and never decides how it is read.
    if layer.format.is_none() {
        let found = volume.file_format();
        if !matches!(found, FileFormat::Raw | FileFormat::Iso) {
            tracing::warn!(
                "volume '{}' of the {place} looks like {found}, but is given to the guest as raw: its <disk> has no \
                 <driver type='{found}'/>",
                volume.name
            );
        }
        layer.format = Some(StorageFormat::Raw);
    }
    Ok(())
}

fn filesystem(host: &HostObjects, filesystem: &mut Filesystem) -> Result<()> {
    if filesystem.kind != FilesystemType::Volume {
        return Ok(());
    }
    let place = format!("filesystem '{}'", filesystem.target);
    let source = &mut filesystem.source;
    let volume = find(host, source.pool.as_deref(), source.volume.as_deref(), &place)?;
    filesystem.kind = match volume.kind {
        VolumeKind::File => FilesystemType::File,
        VolumeKind::Block => FilesystemType::Block,
        VolumeKind::Dir => FilesystemType::Mount,
        kind => return Err(unexpected(kind, &place)),
    };
    source.path = volume.target.path.clone();
    Ok(())
}

fn find(host: &HostObjects, pool: Option<&str>, volume: Option<&str>, place: &str) -> Result<Arc<VolumeDef>> {
    let (pool, volume) = (pool.unwrap_or_default(), volume.unwrap_or_default());
    let at = |error: Error| Error { detail: format!("{} ({place})", error.detail), ..error };
    let found = host.pools.by_name(pool).map_err(at)?;
    if !found.state().active() {
        return Err(unsupported(format!(
            "storage pool '{pool}' containing volume '{volume}' is not active ({place}); 'domus pool-start {pool}' starts it"
        )));
    }
    let gone = |error: Error| match error.code {
        Code::NoStorageVol => {
            let hint = "a file that was put there by other means is found by";
            let detail = format!("{} in pool '{pool}' ({place}); {hint} 'domus pool-refresh {pool}'", error.detail);
            Error { detail, ..error }
        }
        _ => at(error),
    };
    found.volume(volume).and_then(|volume: StorageVol| volume.def()).map_err(gone)
}

fn unsupported(what: String) -> Error {
    Error::unsupported_config(what).with_subsystem(Subsystem::Domain)
}

fn unexpected(kind: VolumeKind, place: &str) -> Error {
    Error::internal(format!("unexpected storage volume type '{kind}' ({place})")).with_subsystem(Subsystem::Domain)
}
