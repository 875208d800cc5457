//! Changes of volumes: resized, wiped, deleted, read and written.

use super::job::PoolJob;
use super::{StoragePool, StorageVol, Volumes};
use crate::disk::job::stream::{Download, Piece, Upload};
use crate::disk::job::wipe::{Algorithm, wipe};
use crate::disk::job::{self, definition, resize};
use crate::disk::pool::{PoolDef, PoolType, Usage, directory, logical};
use crate::disk::volume::scan::scan_one;
use crate::disk::volume::{VolumeDef, VolumeKind};
use crate::engine::cleanup::run_blocking;
use crate::engine::work::{Task, Use, UseKind, Which};
use crate::error::{Code, Error, Result};
use std::path::{Path, PathBuf};

/// `virStorageVolResizeFlags`
pub mod resize_flags {
    pub const ALLOCATE: u32 = 1;
    pub const DELTA: u32 = 2;
    pub const SHRINK: u32 = 4;
}

/// The right to work on a volume.
#[derive(Debug)]
struct Hold {
    path: PathBuf,
    used: Use,
    _job: PoolJob,
}

impl StorageVol {
    /// Refuses while a job or a running guest uses it. Errors: code 55 that says who, 50.
    async fn hold(&self, task: Task) -> Result<Hold> {
        let job = self.pool.begin_job().await?;
        let work = self.pool.work()?;
        let path = self.path()?;
        let used = work.begin(&self.key, &self.name, task)?;
        if task.kind() == UseKind::Change && !self.pool.in_memory() {
            let looked = path.clone();
            let user = run_blocking(move || Ok(work.user_of(&looked, Which::Running))).await?;
            if let Some(user) = user {
                return Err(Error::invalid_state(format!(
                    "volume '{}' is used by {user}; stop the guest or detach the disk first",
                    self.name
                )));
            }
        }
        Ok(Hold { path, used, _job: job })
    }

    /// Deletes it (`virStorageVolDelete`). Errors: code 55, 38.
    pub async fn delete(&self) -> Result<()> {
        let hold = self.hold(Task::Delete).await?;
        let (path, directory) = (hold.path.clone(), self.def()?.kind == VolumeKind::Dir);
        if self.pool.is_logical()? {
            logical::remove(self.pool.def()?.as_ref(), &self.name).await?;
            return self.pool.look_again(&self.name, false).await;
        }
        self.files_only("storage pool does not support vol deletion")?;
        if !self.pool.in_memory() {
            run_blocking(move || job::delete(&path, directory)).await?;
        }
        self.pool.publish(&self.name, None, None).await
    }

    /// Changes its size (`virStorageVolResize`). Errors: code 8 and 9 with libvirt's texts, 55, 38, 67.
    pub async fn resize(&self, capacity: u64, flags: u32) -> Result<()> {
        let hold = self.hold(Task::Resize).await?;
        let def = self.current().await?;
        let (allocate, shrink) = (flags & resize_flags::ALLOCATE != 0, flags & resize_flags::SHRINK != 0);
        let target = target_capacity(&def, capacity, flags)?;
        if allocate && target.saturating_sub(def.allocation) > self.pool.info().usage.available {
            return Err(Error::failed("Not enough space left in storage pool"));
        }
        self.files_only("storage pool does not support changing of volume capacity")?;
        if self.pool.in_memory() {
            let mut def = def.as_ref().clone();
            def.capacity = target;
            if allocate {
                def.allocation = target;
            }
            return self.pool.publish(&self.name, Some(def), None).await;
        }
        if def.kind == VolumeKind::Dir {
            let what = format!("volume '{}' is a directory, which has no size to change", self.name);
            return Err(Error::new(Code::OperationUnsupported, what));
        }
        let format = definition::format_name(&def);
        if allocate && (format != "raw" || def.target.encryption.is_some()) {
            let what = if format == "raw" { "an unencrypted raw volume" } else { "raw type volume" };
            return Err(Error::new(Code::OperationUnsupported, format!("preallocate is only supported for {what}")));
        }
        let secret = self.pool.passphrase(&def)?;
        let request = resize::Request { format: format.into(), capacity: target, allocate, shrink, secret };
        let tool = self.pool.work()?.tool.clone();
        resize::resize(&tool, &hold.path, request, &hold.used.progress).await?;
        self.pool.look_again(&self.name, format == "raw" && def.target.encryption.is_none()).await
    }

    /// Wipes it (`virStorageVolWipePattern`). Errors: code 55, 38, 3 without the program that is needed.
    pub async fn wipe(&self, algorithm: u32) -> Result<()> {
        let algorithm = Algorithm::from_number(algorithm)?;
        let hold = self.hold(Task::Wipe).await?;
        if !self.pool.is_logical()? {
            self.files_only("storage pool doesn't support volume wiping")?;
        }
        if self.pool.in_memory() {
            return Ok(());
        }
        let def = self.def()?;
        if def.kind == VolumeKind::Dir {
            let error = std::io::Error::from_raw_os_error(nix::libc::EISDIR);
            let what = format!("Failed to open storage volume with path '{}'", hold.path.display());
            return Err(Error::system(what, error));
        }
        wipe(&hold.path, algorithm, &hold.used.progress).await?;
        self.pool.look_again(&self.name, definition::format_name(&def) == "raw").await
    }

    /// Its bytes (`virStorageVolDownload`). Errors: code 55, 38, 8.
    pub async fn download(&self, offset: u64, length: u64, sparse: bool) -> Result<VolumeDownload> {
        let hold = self.hold(Task::Download).await?;
        self.real("storage pool doesn't support volume download")?;
        let path = hold.path.clone();
        let bytes = run_blocking(move || Download::open(&path, offset, length, sparse)).await?;
        hold.used.progress.set_total(bytes.rest());
        Ok(VolumeDownload { bytes: Some(bytes), hold })
    }

    /// A place for its bytes (`virStorageVolUpload`). Errors: code 55, 38.
    pub async fn upload(&self, offset: u64, length: u64) -> Result<VolumeUpload> {
        let hold = self.hold(Task::Upload).await?;
        self.real("storage pool doesn't support volume upload")?;
        let path = hold.path.clone();
        let bytes = run_blocking(move || Upload::open(&path, offset, length)).await?;
        hold.used.progress.set_total(length);
        Ok(VolumeUpload { bytes: Some(bytes), volume: self.clone(), hold })
    }

    fn files_only(&self, refused: &str) -> Result<()> {
        match self.pool.in_memory() || self.pool.pool_type()?.is_directory() {
            true => Ok(()),
            false => Err(Error::no_support(refused)),
        }
    }

    fn real(&self, refused: &str) -> Result<()> {
        if self.pool.in_memory() { Err(Error::no_support(refused)) } else { Ok(()) }
    }
}

fn target_capacity(def: &VolumeDef, capacity: u64, flags: u32) -> Result<u64> {
    let shrink = flags & resize_flags::SHRINK != 0;
    let delta = flags & resize_flags::DELTA != 0;
    let absolute = match (delta, shrink) {
        (false, _) => Some(capacity),
        (true, false) => def.capacity.checked_add(capacity),
        (true, true) => Some(def.capacity - capacity.min(def.capacity)),
    };
    let absolute = absolute.ok_or_else(|| Error::new(Code::Overflow, "the new capacity is larger than 64 bits"))?;
    if absolute < def.allocation {
        return Err(Error::invalid_arg("can't shrink capacity below existing allocation"));
    }
    if absolute < def.capacity && !shrink {
        let what = "Can't shrink capacity below current capacity unless shrink flag explicitly specified";
        return Err(Error::invalid_arg(what));
    }
    Ok(absolute)
}

impl StoragePool {
    /// Looks at one volume again and publishes it. `raw`: it is a raw image, whatever its guest wrote into it, and its
    /// header is not read.
    pub(super) async fn look_again(&self, name: &str, raw: bool) -> Result<()> {
        self.look_at(name, raw, None).await
    }

    /// The same for a volume that was just made as `known`.
    pub(super) async fn look_at(&self, name: &str, raw: bool, known: Option<&VolumeDef>) -> Result<()> {
        if self.is_logical()? {
            return self.look_at_all_again().await;
        }
        let former = self.live()?.volumes.get(name).cloned();
        let (live, def, file) = (self.live()?, self.def()?, name.to_string());
        let directory = PathBuf::from(def.target.path.clone().unwrap_or_default());
        let looked = run_blocking(move || {
            let inode = || {
                use std::os::unix::fs::MetadataExt;
                std::fs::metadata(directory.join(&file)).ok().map(|metadata| metadata.ino())
            };
            let inode = if raw { inode() } else { None };
            let mut known = live.raw.as_ref().clone();
            match inode {
                Some(inode) => known.insert(file.clone(), inode),
                None => known.remove(&file),
            };
            Ok((scan_one(&directory, &file, &known)?, inode))
        });
        let (mut volume, inode) = looked.await?;
        if let (Some(volume), Some(known)) = (&mut volume, known.or(former.as_deref())) {
            volume.keep_secrets(known);
        }
        self.publish(name, volume, inode).await
    }

    /// Whether its volumes are those of a volume group on this host. Error: it is gone.
    pub(super) fn is_logical(&self) -> Result<bool> {
        Ok(!self.in_memory() && self.pool_type()? == PoolType::Logical)
    }

    /// As a refresh, though jobs run: a look at one logical volume is one at all.
    async fn look_at_all_again(&self) -> Result<()> {
        let mut change = self.change().await?;
        let Some(run) = change.state().run.clone() else { return Ok(()) };
        let found = self.look(&run.def, &run.live.raw).await?;
        let live = self.taken_in(&run.live, found).await;
        change.started(change.run(run.def, live)).await
    }

    /// Sizes of the pool with these volumes.
    pub(super) async fn usage_now(&self, def: &PoolDef, volumes: &Volumes) -> Result<Usage> {
        if self.in_memory() {
            return Ok(super::memory::full(volumes.values().map(|volume| volume.allocation).sum()));
        }
        let path = PathBuf::from(def.target.path.clone().unwrap_or_default());
        run_blocking(move || Ok(directory::measure(Path::new(&path))?.0)).await
    }

    /// The passphrase of an encrypted volume, from the secret that its definition names. Errors: code 8 when none is
    /// known, 66, 67.
    pub(super) fn passphrase(&self, def: &VolumeDef) -> Result<Option<Vec<u8>>> {
        let Some(encryption) = &def.target.encryption else { return Ok(None) };
        let Some(secret) = encryption.secrets.first() else {
            return Err(Error::invalid_arg(format!(
                "A single <secret type='passphrase'...> element is expected in encryption description: which secret \
                 unlocks volume '{}' is known from its creation until the daemon is restarted",
                def.name
            )));
        };
        if self.in_memory() {
            return Ok(Some(Vec::new()));
        }
        let host = self.context().host().ok_or_else(|| Error::internal("the daemon is going down"))?;
        let value = host.volume_passphrase(secret.uuid.as_deref(), secret.usage.as_deref())?;
        Ok(Some(value.bytes().to_vec()))
    }
}

fn length(piece: &Piece) -> u64 {
    match piece {
        Piece::Data(data) => data.len() as u64,
        Piece::Hole(length) => *length,
    }
}

/// A volume's bytes on their way out.
#[derive(Debug)]
pub struct VolumeDownload {
    bytes: Option<Download>,
    hold: Hold,
}

impl VolumeDownload {
    /// The next piece, of at most `most` bytes of data; `None` at the end. Errors: code 38, 78.
    pub async fn next(&mut self, most: usize) -> Result<Option<Piece>> {
        self.hold.used.progress.check()?;
        let Some(mut bytes) = self.bytes.take() else { return Ok(None) };
        let (bytes, piece) = run_blocking(move || bytes.next(most).map(|piece| (bytes, piece))).await?;
        self.bytes = Some(bytes);
        self.hold.used.progress.advance(piece.as_ref().map_or(0, length));
        Ok(piece)
    }
}

/// A volume's bytes on their way in.
#[derive(Debug)]
pub struct VolumeUpload {
    bytes: Option<Upload>,
    volume: StorageVol,
    hold: Hold,
}

impl VolumeUpload {
    /// Writes a piece. Errors: code 38, 8, 78; after one nothing more is written.
    pub async fn put(&mut self, piece: Piece) -> Result<()> {
        self.hold.used.progress.check()?;
        let Some(mut bytes) = self.bytes.take() else {
            return Err(Error::invalid_state("the upload has failed already"));
        };
        let moved = length(&piece);
        let write = move || {
            match piece {
                Piece::Data(data) => bytes.data(&data)?,
                Piece::Hole(length) => bytes.hole(length)?,
            }
            Ok(bytes)
        };
        self.bytes = Some(run_blocking(write).await?);
        self.hold.used.progress.advance(moved);
        Ok(())
    }

    /// Everything is written and on the disk; the pool knows the volume's new sizes. Errors: code 38.
    pub async fn finish(mut self) -> Result<()> {
        if let Some(bytes) = self.bytes.take() {
            run_blocking(move || bytes.finish()).await?;
        }
        // What was uploaded may be another format: it was the user who sent it, not a guest.
        self.volume.pool.look_again(&self.volume.name, false).await
    }
}
