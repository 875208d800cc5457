//! `org.domus.StorageVol1` and `org.domus.Images1`: bytes of volumes by descriptor, work that goes on, base images.

use super::{Interface, Method, m};
use crate::dbus::call::object;
use crate::dbus::codec::optional;
use crate::dbus::fault::Fault;
use crate::engine::api::{
    CopyArgs, CreateImageOverlay, ImageInfo, ImportArgs, ImportImage, ListImages, ListStorageJobs, OverlayArgs,
    PruneArgs, PruneImages, ReceiveStorageVol, SendStorageVol, StreamArgs,
};
use crate::engine::work::UseKind;

/// Beside `org.libvirt.StorageVol` on every volume.
pub static VOLUME: Interface = Interface {
    name: "org.domus.StorageVol1",
    xml: include_str!("../../../schemas/dbus/org.domus.StorageVol1.xml"),
    emits_changed: false,
    methods: VOLUME_METHODS,
    properties: &[],
    signals: &[],
};

/// Beside `org.libvirt.Connect` on every driver root.
pub static CONNECT: Interface = Interface {
    name: "org.domus.Images1",
    xml: include_str!("../../../schemas/dbus/org.domus.Images1.xml"),
    emits_changed: false,
    methods: CONNECT_METHODS,
    properties: &[],
    signals: &[],
};

fn copy_args((fd, offset, length, flags): (zbus::OwnedFd, u64, u64, u32)) -> Result<CopyArgs, Fault> {
    Ok(CopyArgs { fd: fd.into(), range: StreamArgs { offset, length, flags } })
}

/// Checksum, name, kind, path, bytes, seconds since 1970, overlays, a user.
type ImageRow = (String, String, String, String, u64, u64, u32, String);

fn row(info: ImageInfo) -> ImageRow {
    let ImageInfo { image, path, kind, overlays, user } = info;
    let path = path.display().to_string();
    (image.sha256, image.name, kind.into(), path, image.size, image.imported, overlays, user)
}

const VOLUME_METHODS: &[Method] = &[
    m("Download", "file h, offset t, length t, flags u", "", "domusStorageVolDownload").served(object!(
        ReceiveStorageVol,
        copy_args,
        |_, ()| ()
    )),
    m("Upload", "file h, offset t, length t, flags u", "", "domusStorageVolUpload").served(object!(
        SendStorageVol,
        copy_args,
        |_, ()| ()
    )),
];

const CONNECT_METHODS: &[Method] = &[
    m("CreateOverlay", "image s, path s, size t, flags u", "", "domusImageCreateOverlay").served(object!(
        CreateImageOverlay,
        |(image, path, size, flags): (String, String, u64, u32)| Ok(OverlayArgs { image, path, size, flags }),
        |_, ()| ()
    )),
    m("Import", "path s, format s, sha256 s, name s, flags u", "image (ssssttus)", "domusImageImport").served(object!(
        ImportImage,
        |(path, format, sha256, name, flags): (String, String, String, String, u32)| {
            Ok(ImportArgs { path, format, sha256: optional(sha256), name, flags })
        },
        |_, info| (row(info),)
    )),
    m("List", "flags u", "images a(ssssttus)", "domusImageList").served(object!(
        ListImages,
        |flags: u32| Ok(flags),
        |_, images| images.into_iter().map(row).collect::<Vec<_>>()
    )),
    m("ListJobs", "", "jobs a(sstt)", "domusConnectListStorageJobs").served(object!(
        ListStorageJobs,
        |()| Ok(()),
        |_, jobs| {
            let kind = |kind| match kind {
                UseKind::Build => "build",
                UseKind::Read => "read",
                UseKind::Change => "change",
            };
            let rows = jobs.into_iter().map(|job| (job.name, kind(job.task.kind()).to_string(), job.done, job.total));
            rows.collect::<Vec<(String, String, u64, u64)>>()
        }
    )),
    m("Prune", "age t, flags u", "images as", "domusImagePrune").served(object!(
        PruneImages,
        |(age, flags): (u64, u32)| Ok(PruneArgs { age, flags }),
        |_, images| images
    )),
];
