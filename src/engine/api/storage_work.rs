//! Storage volumes: made, changed, read and written.

use std::fs::File;
use std::os::fd::OwnedFd;

use super::{XmlFlags, call, check_host_flags};
use crate::disk::job::copy;
use crate::disk::job::stream::Piece;
use crate::engine::Connection;
use crate::engine::cleanup::run_blocking;
use crate::engine::storage::{StoragePool, StorageVol, VolumeDownload, VolumeUpload, create_flags, resize_flags};
use crate::engine::work::JobView;
use crate::error::{Error, Result};

/// `VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM` and that of downloads.
const SPARSE: u32 = 1;
/// Bytes moved at once between descriptors.
const PIECE: usize = 1 << 20;

/// How a front end names the volume that is copied.
#[derive(Clone, Debug)]
pub enum SourceName {
    Key(String),
    Named { pool: String, name: String },
}

/// Arguments of `virStorageVolCreateXMLFrom`.
#[derive(Clone, Debug)]
pub struct CreateFromArgs {
    pub xml: String,
    pub source: SourceName,
    pub flags: u32,
}

/// Arguments of `virStorageVolResize`.
#[derive(Clone, Copy, Debug)]
pub struct ResizeArgs {
    /// Bytes.
    pub capacity: u64,
    pub flags: u32,
}

/// Arguments of `virStorageVolUpload` and `virStorageVolDownload`.
#[derive(Clone, Copy, Debug)]
pub struct StreamArgs {
    /// Bytes.
    pub offset: u64,
    /// Bytes; 0 for all.
    pub length: u64,
    pub flags: u32,
}

/// Arguments of the calls that copy from and to a file of the caller's.
#[derive(Debug)]
pub struct CopyArgs {
    pub fd: OwnedFd,
    pub range: StreamArgs,
}

fn strict(on: &StoragePool, xml: &str, flags: u32) -> Result<()> {
    if flags & create_flags::VALIDATE != 0 {
        crate::disk::volume::parse_strictly(xml, on.pool_type()?)?;
    }
    Ok(())
}

call! {
    /// Makes a volume; it appears when it is whole.
    CreateStorageVolXml = "virStorageVolCreateXML", Write, "storage_vol:create";
    (caller, on: StoragePool, XmlFlags { xml, flags } => XmlFlags) -> StorageVol {
        let known = create_flags::PREALLOC_METADATA | create_flags::VALIDATE;
        check_host_flags(flags, known, "virStorageVolCreateXML")?;
        strict(on, &xml, flags)?;
        caller.permit::<Self>().on_new("storage_vol", || on.new_volume_details(&xml)).await?;
        on.create_volume(&xml, flags, &caller.presence).await
    }
}

call! {
    /// Makes a volume with the content of another, perhaps of another pool.
    CreateStorageVolXmlFrom = "virStorageVolCreateXMLFrom", Write, "storage_vol:create";
    (caller, on: StoragePool, CreateFromArgs { xml, source, flags } => CreateFromArgs) -> StorageVol {
        let known = create_flags::PREALLOC_METADATA | create_flags::REFLINK | create_flags::VALIDATE;
        check_host_flags(flags, known, "virStorageVolCreateXMLFrom")?;
        strict(on, &xml, flags)?;
        caller.permit::<Self>().on_new("storage_vol", || on.new_volume_details(&xml)).await?;
        let host = on.context().host().ok_or_else(|| Error::internal("the daemon is going down"))?;
        let source = match source {
            SourceName::Key(key) => host.volume_by_key(&key)?,
            SourceName::Named { pool, name } => host.volume(&pool, &name)?,
        };
        on.create_volume_from(&xml, &source, flags, &caller.presence).await
    }
}

call! {
    /// Deletes a volume.
    DeleteStorageVol = "virStorageVolDelete", Write, "storage_vol:delete";
    (caller, on: StorageVol, flags => u32) -> () {
        check_host_flags(flags, 0, "virStorageVolDelete")?;
        on.delete().await
    }
}

call! {
    /// Overwrites a volume with zeros.
    WipeStorageVol = "virStorageVolWipe", Write, "storage_vol:format";
    (caller, on: StorageVol, flags => u32) -> () {
        check_host_flags(flags, 0, "virStorageVolWipe")?;
        on.wipe(0).await
    }
}

call! {
    /// Overwrites a volume by a `virStorageVolWipeAlgorithm`.
    WipeStorageVolPattern = "virStorageVolWipePattern", Write, "storage_vol:format";
    (caller, on: StorageVol, (algorithm, flags) => (u32, u32)) -> () {
        check_host_flags(flags, 0, "virStorageVolWipePattern")?;
        on.wipe(algorithm).await
    }
}

call! {
    /// Changes a volume's size.
    ResizeStorageVol = "virStorageVolResize", Write, "storage_vol:resize";
    (caller, on: StorageVol, ResizeArgs { capacity, flags } => ResizeArgs) -> () {
        let known = resize_flags::ALLOCATE | resize_flags::DELTA | resize_flags::SHRINK;
        check_host_flags(flags, known, "virStorageVolResize")?;
        on.resize(capacity, flags).await
    }
}

call! {
    /// Takes a volume's bytes.
    UploadStorageVol = "virStorageVolUpload", Write, "storage_vol:data_write";
    (caller, on: StorageVol, StreamArgs { offset, length, flags } => StreamArgs) -> VolumeUpload {
        check_host_flags(flags, SPARSE, "virStorageVolUpload")?;
        on.upload(offset, length).await
    }
}

call! {
    /// Gives a volume's bytes.
    DownloadStorageVol = "virStorageVolDownload", Write, "storage_vol:data_read";
    (caller, on: StorageVol, StreamArgs { offset, length, flags } => StreamArgs) -> VolumeDownload {
        check_host_flags(flags, SPARSE, "virStorageVolDownload")?;
        on.download(offset, length, flags & SPARSE != 0).await
    }
}

call! {
    /// Fills a volume from an opened file of the caller's, whose holes stay holes.
    SendStorageVol = "domusStorageVolUpload", Write, "storage_vol:data_write";
    (caller, on: StorageVol, CopyArgs { fd, range } => CopyArgs) -> () {
        check_host_flags(range.flags, SPARSE, "domusStorageVolUpload")?;
        let file = File::from(fd);
        let size = file.metadata().map_err(unreadable)?.len();
        let length = if range.length == 0 { size } else { size.min(range.length) };
        let mut upload = on.upload(range.offset, length).await?;
        let (mut file, mut at) = (Some(file), 0);
        while let Some(moved) = file.take() {
            let (moved, piece) = run_blocking(move || {
                let piece = read_piece(&moved, at, length)?;
                Ok((moved, piece))
            })
            .await?;
            let Some(piece) = piece else { break };
            at += match &piece {
                Piece::Data(data) => data.len() as u64,
                Piece::Hole(hole) => *hole,
            };
            caller.presence.check()?;
            upload.put(piece).await?;
            file = Some(moved);
        }
        upload.finish().await
    }
}

call! {
    /// Copies a volume into an opened file of the caller's, holes as holes.
    ReceiveStorageVol = "domusStorageVolDownload", Write, "storage_vol:data_read";
    (caller, on: StorageVol, CopyArgs { fd, range } => CopyArgs) -> () {
        check_host_flags(range.flags, SPARSE, "domusStorageVolDownload")?;
        let mut download = on.download(range.offset, range.length, true).await?;
        let (mut file, mut at) = (File::from(fd), 0u64);
        while let Some(piece) = download.next(PIECE).await? {
            caller.presence.check()?;
            (file, at) = run_blocking(move || {
                use std::os::unix::fs::FileExt;
                match piece {
                    Piece::Data(data) => {
                        file.write_all_at(&data, at).map_err(unwritable)?;
                        Ok((file, at + data.len() as u64))
                    }
                    Piece::Hole(hole) => {
                        let length = file.metadata().map_err(unwritable)?.len();
                        file.set_len(length.max(at + hole)).map_err(unwritable)?;
                        Ok((file, at + hole))
                    }
                }
            })
            .await?;
        }
        Ok(())
    }
}

call! {
    /// Work on volumes that goes on.
    ListStorageJobs = "domusConnectListStorageJobs", Read, "connect:search_storage_pools";
    (caller, on: Connection, () => ()) -> Vec<JobView> { Ok(on.host().work.jobs()) }
}

call! {
    /// Asks work on a volume or image to stop; who waits for it gets code 78.
    CancelStorageJob = "domusConnectCancelStorageJob", Write, "connect:write";
    (caller, on: Connection, id => u64) -> () { on.host().work.cancel(id) }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::system("cannot read from the file that was given", error)
}

fn unwritable(error: std::io::Error) -> Error {
    Error::system("cannot write to the file that was given", error)
}

fn read_piece(file: &File, at: u64, end: u64) -> Result<Option<Piece>> {
    use std::os::unix::fs::FileExt;
    match copy::extent(file, at, end).map_err(unreadable)? {
        None => Ok(None),
        Some(copy::Extent::Hole(length)) => Ok(Some(Piece::Hole(length))),
        Some(copy::Extent::Data(length)) => {
            let mut bytes = vec![0; PIECE.min(usize::try_from(length).unwrap_or(PIECE))];
            let got = file.read_at(&mut bytes, at).map_err(unreadable)?;
            bytes.truncate(got);
            Ok((got > 0).then_some(Piece::Data(bytes)))
        }
    }
}
