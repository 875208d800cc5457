//! Which running guest uses an image.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Weak};

use crate::disk::{Format, chain};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{Backing, FsSource, StorageSource, VolumeSource};
use crate::engine::host::HostObjects;
use crate::engine::runtime::DriverRuntime;
use crate::engine::work::Which;

/// Asks the guests of these drivers. The answer looks at the files that they use, images below others included.
pub(in crate::engine) fn guests_using(
    runtimes: Vec<Weak<DriverRuntime>>,
) -> impl Fn(&Path, Which) -> Option<String> + Send + Sync {
    move |path, which| {
        let wanted = identity(path)?;
        let runtimes: Vec<Arc<DriverRuntime>> = runtimes.iter().filter_map(Weak::upgrade).collect();
        runtimes.iter().flat_map(|runtime| runtime.registry().all()).find_map(|domain| {
            let snapshot = domain.snapshot();
            let live = snapshot.live.as_ref().filter(|_| snapshot.active());
            let host = domain.runtime().host();
            if let Some(place) = live.and_then(|live| place_in(host, live, wanted)) {
                return Some(format!("running domain '{}' ({place})", snapshot.name));
            }
            let defined = snapshot.inactive.as_ref().filter(|_| which == Which::All);
            let place = defined.and_then(|defined| place_in(host, defined, wanted))?;
            Some(format!("domain '{}' ({place})", snapshot.name))
        })
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn place_in(host: &HostObjects, def: &DomainDef, wanted: (u64, u64)) -> Option<String> {
    let disk =
        def.disks.iter().find(|disk| uses(host, &disk.source, wanted)).map(|disk| format!("disk {}", disk.dev()));
    disk.or_else(|| {
        let of = |path: Option<String>| path.and_then(|path| identity(Path::new(&path))) == Some(wanted);
        let found = def.filesystems.iter().find(|filesystem| {
            let FsSource { path, pool, volume, .. } = &filesystem.source;
            of(path.clone().or_else(|| in_pool(host, pool.as_deref()?, volume.as_deref()?)))
        });
        found.map(|filesystem| format!("filesystem {}", filesystem.target))
    })
}

/// Where a volume is that a definition names: no guest started with it yet, or its pool did not run just then.
fn in_pool(host: &HostObjects, pool: &str, volume: &str) -> Option<String> {
    host.volume(pool, volume).ok()?.def().ok()?.target.path.clone()
}

fn uses(host: &HostObjects, source: &StorageSource, wanted: (u64, u64)) -> bool {
    let named = || {
        let VolumeSource { pool, volume, .. } = source.volume.as_ref()?;
        in_pool(host, pool.as_deref()?, volume.as_deref()?)
    };
    let Some(path) = source.path.clone().or_else(named) else { return false };
    let path = Path::new(&path);
    if identity(path) == Some(wanted) {
        return true;
    }
    match &source.backing {
        Backing::Layer(layer) => uses(host, layer, wanted),
        Backing::End => false,
        Backing::Unknown => {
            let format = source.format.and_then(|format| Format::parse(format.as_str()));
            format == Some(Format::Qcow2)
                && chain::resolve(path, Format::Qcow2)
                    .is_ok_and(|layers| layers.iter().any(|layer| identity(&layer.path) == Some(wanted)))
        }
    }
}
