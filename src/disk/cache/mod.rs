//! Base images, imported once and shared: what guests' overlays lie over.
//!
//! ```text
//! source ── copied and hashed ── qcow2: converted to raw ── named SHA256.raw ── SHA256.json written: it is there
//!   └────────────── an error, a cancel, a kill: nothing but parts and files without record, which the next start sweeps
//! ```
//!
//! An image is known by the checksum of what was imported. Its file is never written again. Formats are declared by
//! the caller, never probed; a declared qcow2 image may not refer to other files. A tarball becomes a directory tree.
//! Who uses an image is counted from the overlays made here, which are looked at, and from what the caller knows.

mod record;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::job::blocking;
use super::job::create::{self, Create, From};
use super::job::part::{self, Part};
use super::progress::Progress;
use super::qemu_img::Tool;
use super::qemu_img::plan::{Backing, NewImage};
use super::{Format, qcow2, sizes};
use crate::error::{Code, Error, Result};
use crate::sys::exec;
use crate::sys::fault;
pub use record::{Image, Kind};

const TAR: &str = "/usr/bin/tar";

/// What to import.
#[derive(Clone, Debug)]
pub struct Import {
    pub source: PathBuf,
    /// What the source is.
    pub format: SourceFormat,
    /// Hexadecimal; the import fails when the source has another.
    pub sha256: Option<String>,
    /// For people; the source's file name when empty.
    pub name: String,
}

/// Formats that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceFormat {
    Raw,
    Qcow2,
    /// A root file system as a tar archive, compressed or not.
    Tar,
}

impl SourceFormat {
    /// By name. Errors: code 67.
    pub fn parse(word: &str) -> Result<SourceFormat> {
        match word {
            "raw" => Ok(SourceFormat::Raw),
            "qcow2" => Ok(SourceFormat::Qcow2),
            "tar" => Ok(SourceFormat::Tar),
            _ => Err(Error::unsupported_config(format!(
                "images of format '{word}' cannot be imported; raw, qcow2 and tar can"
            ))),
        }
    }
}

/// An overlay to make.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// Where it will be.
    pub target: PathBuf,
    /// Bytes; the base's size when it is not given, never less.
    pub size: Option<u64>,
    pub mode: Option<u32>,
    pub owner: Option<u32>,
    pub group: Option<u32>,
}

/// The images in one directory.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    tool: Tool,
    /// One import or change per image at a time.
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Cache {
    /// The cache in `dir`, which is made when the first image comes. Removes what a killed daemon left.
    pub fn open(dir: PathBuf, tool: Tool) -> Cache {
        let cache = Cache { dir, tool, locks: Mutex::default() };
        cache.sweep();
        cache
    }

    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// Where an image's file or tree is.
    pub fn path_of(&self, image: &Image) -> PathBuf {
        self.dir.join(image.file_name())
    }

    fn sweep(&self) {
        part::sweep(&self.dir);
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let Some(sum) = name.to_str().and_then(record::checksum_of_data) else { continue };
            if !self.record_path(sum).exists() {
                tracing::info!(path = %path.display(), "removed an image whose import was interrupted");
                remove(&path);
            }
        }
    }

    /// All images, by checksum. What cannot be read is logged and left out.
    pub fn list(&self) -> Vec<Image> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Vec::new() };
        let mut images: Vec<Image> = entries
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
            .filter_map(|entry| match record::read(&entry.path()) {
                Ok(image) => Some(image),
                Err(error) => {
                    tracing::warn!(path = %entry.path().display(), %error, "cannot read the record of an image");
                    None
                }
            })
            .collect();
        images.sort_by(|a, b| a.sha256.cmp(&b.sha256));
        images
    }

    /// The image with this checksum (at least eight digits of it), or with this name if only one has it.
    /// Errors: code 50, 8 when it could be several.
    pub fn find(&self, key: &str) -> Result<Image> {
        let images = self.list();
        let digits = key.len() >= 8 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
        let lower = key.to_ascii_lowercase();
        let found: Vec<&Image> =
            images.iter().filter(|image| image.name == key || (digits && image.sha256.starts_with(&lower))).collect();
        match found.as_slice() {
            [image] => Ok((*image).clone()),
            [] => Err(Error::new(Code::NoStorageVol, format!("no base image '{key}'; image-list shows them"))),
            several => {
                let sums: Vec<&str> = several.iter().map(|image| &image.sha256[..12]).collect();
                Err(Error::invalid_arg(format!(
                    "several base images are '{key}': {}; use the checksum",
                    sums.join(", ")
                )))
            }
        }
    }

    /// Imports an image; one that is there already is given back, after its checksum was verified. Errors: code 38 (full
    /// disk, rights), 8 for another checksum than expected, 67 and 1 for what is no such image, 78 when cancelled.
    pub async fn import(&self, request: Import, progress: &Arc<Progress>) -> Result<Image> {
        let expected = request.sha256.as_deref().map(record::checked_sum).transpose()?;
        let _turn = match &expected {
            Some(sum) => {
                let lock = self.lock(sum).lock_owned().await;
                if let Ok(image) = record::read(&self.record_path(sum)) {
                    record::touch(&self.record_path(sum));
                    return Ok(image);
                }
                Some(lock)
            }
            None => None,
        };
        self.make_directory()?;
        let (source, dir) = (request.source.clone(), self.dir.clone());
        let (copy, sum) = blocking(progress, move |progress| take(&source, &dir, progress)).await?;
        if let Some(expected) = &expected
            && *expected != sum
        {
            return Err(Error::invalid_arg(format!(
                "image '{}' has the SHA-256 checksum {sum}, not {expected}: it is damaged or another one",
                request.source.display()
            )));
        }
        let _turn = match _turn {
            None => {
                let lock = self.lock(&sum).lock_owned().await;
                if let Ok(image) = record::read(&self.record_path(&sum)) {
                    record::touch(&self.record_path(&sum));
                    return Ok(image);
                }
                lock
            }
            Some(lock) => lock,
        };
        let image = self.convert(&request, copy, sum, progress).await?;
        let path = self.record_path(&image.sha256);
        let result = record::write(&path, &image);
        if result.is_err() {
            remove(&self.path_of(&image));
        }
        result.map(|()| image)
    }

    /// Makes the image's final file of the copy.
    async fn convert(&self, request: &Import, copy: Part, sum: String, progress: &Arc<Progress>) -> Result<Image> {
        let name = match (request.name.as_str(), request.source.file_name()) {
            ("", Some(name)) => name.to_string_lossy().into_owned(),
            (name, _) => name.to_string(),
        };
        let kind = if request.format == SourceFormat::Tar { Kind::Tree } else { Kind::Raw };
        let mut image = Image { version: record::VERSION, sha256: sum, name, kind, ..Image::default() };
        let target = self.path_of(&image);
        // Of an import that was killed before it was recorded.
        remove(&target);
        fault::point("image.convert").map_err(failed(&target))?;
        match request.format {
            SourceFormat::Raw => {
                image.size = copy.handle().metadata().map_err(failed(&target))?.len();
                readable(&copy, 0o444)?;
                copy.keep(&target, &image.name)?;
            }
            SourceFormat::Qcow2 => {
                let header = qcow2::read(&mut copy.handle().try_clone().map_err(failed(&target))?)
                    .map_err(|problem| problem.of(&request.source))?;
                self_contained(&request.source, &header)?;
                image.size = header.virtual_size;
                progress.set_done(0);
                let from = From {
                    path: copy.path().to_path_buf(),
                    format: "qcow2".into(),
                    capacity: header.virtual_size,
                    secret: None,
                };
                let create = Create {
                    name: image.name.clone(),
                    target: target.clone(),
                    image: NewImage { format: "raw".into(), capacity: header.virtual_size, ..NewImage::default() },
                    source: Some(from),
                    mode: Some(0o444),
                    ..Create::default()
                };
                create::create(&self.tool, create, progress).await?;
            }
            SourceFormat::Tar => {
                let tree = unpack(&self.dir, &copy, &request.source, progress).await?;
                tree.keep(&target, &image.name)?;
            }
        }
        fault::point("image.record").map_err(failed(&target))?;
        image.imported = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Ok(image)
    }

    /// Makes a qcow2 overlay over the image `key`. Errors: code 50, 8 when it would be smaller than its base, 67 for a
    /// tree, else as [`create::create`].
    pub async fn overlay(&self, key: &str, overlay: Overlay, progress: &Arc<Progress>) -> Result<Image> {
        let found = self.find(key)?;
        let _turn = self.lock(&found.sha256).lock_owned().await;
        // It may have been pruned while we waited.
        let path = self.record_path(&found.sha256);
        let mut image = record::read(&path)?;
        if image.kind == Kind::Tree {
            return Err(Error::unsupported_config(format!(
                "base image '{}' is a directory tree; give it to a container as <filesystem type='mount'> with \
                 <source dir='{}'/> and <readonly/>",
                image.name,
                self.path_of(&image).display()
            )));
        }
        let base = self.path_of(&image);
        let (below, _, _) = sizes(&base, Format::Raw)?;
        let size = overlay.size.unwrap_or(below);
        if size < below {
            return Err(Error::invalid_arg(format!(
                "overlay '{}' would have {size} bytes, less than its base image '{}' with {below} bytes",
                overlay.target.display(),
                image.name
            )));
        }
        if std::fs::symlink_metadata(&overlay.target).is_ok() {
            let target = overlay.target.display();
            return Err(Error::failed(format!("volume target path '{target}' already exists")));
        }
        // Recorded before it is made: what is recorded and not there counts for nothing.
        image.overlays.retain(|known| lies_over(known, &base));
        if !image.overlays.contains(&overlay.target) {
            image.overlays.push(overlay.target.clone());
        }
        record::replace(&path, &image)?;
        fault::point("image.overlay").map_err(failed(&overlay.target))?;
        let create = Create {
            name: overlay.target.display().to_string(),
            target: overlay.target,
            image: NewImage {
                format: "qcow2".into(),
                capacity: size,
                backing: Some(Backing { path: base.display().to_string(), format: "raw".into() }),
                ..NewImage::default()
            },
            mode: overlay.mode,
            owner: overlay.owner,
            group: overlay.group,
            ..Create::default()
        };
        create::create(&self.tool, create, progress).await?;
        Ok(image)
    }

    /// How many overlays made here lie over an image.
    pub fn overlays(&self, image: &Image) -> usize {
        let base = self.path_of(image);
        image.overlays.iter().filter(|path| lies_over(path, &base)).count()
    }

    /// Removes the images that nothing uses and that were last asked for at least `age` ago, and names them. `used` says
    /// whether the caller knows a use of the file. Errors: code 38.
    pub async fn prune(&self, age: Duration, used: &(dyn Fn(&Path) -> bool + Sync)) -> Result<Vec<Image>> {
        let mut removed = Vec::new();
        for image in self.list() {
            let _turn = self.lock(&image.sha256).lock_owned().await;
            let record = self.record_path(&image.sha256);
            // As it is now.
            let Ok(image) = record::read(&record) else { continue };
            let data = self.path_of(&image);
            if self.overlays(&image) > 0 || used(&data) || record::idle(&record) < age {
                continue;
            }
            fault::point("image.prune").map_err(failed(&data))?;
            // The record first: without it the rest is swept.
            std::fs::remove_file(&record).map_err(failed(&record))?;
            fault::point("image.pruned").map_err(failed(&data))?;
            remove(&data);
            removed.push(image);
        }
        Ok(removed)
    }

    fn make_directory(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        // Guests' processes read the images.
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.dir).map_err(failed(&self.dir))
    }

    fn record_path(&self, sum: &str) -> PathBuf {
        self.dir.join(format!("{sum}.json"))
    }

    fn lock(&self, sum: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(sum.to_string()).or_default().clone()
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    let text = format!("cannot keep base image '{}'", path.display());
    move |error| Error::system(&text, error)
}

fn remove(path: &Path) {
    let result = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => return,
    };
    if let Err(error) = result {
        tracing::warn!(path = %path.display(), %error, "cannot remove a base image");
    }
}

/// Copies `source` into the cache and hashes what was copied: the source may change meanwhile.
fn take(source: &Path, dir: &Path, progress: &Progress) -> Result<(Part, String)> {
    let cannot_read = |error| Error::system(format!("cannot read image '{}'", source.display()), error);
    let (mut file, metadata) = sizes::open_image(source).map_err(cannot_read)?;
    let length = sizes::length(&mut file, &metadata).map_err(cannot_read)?;
    progress.set_total(length);
    let part = Part::file(dir)?;
    let cannot_write = |error| Error::system(format!("cannot write to a file in '{}'", dir.display()), error);
    part.handle().set_len(length).map_err(cannot_write)?;
    fault::point("image.copy").map_err(cannot_write)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0u8; 1 << 20];
    let mut at = 0;
    while at < length {
        progress.check()?;
        let got = file.read_at(&mut piece, at).map_err(cannot_read)?;
        if got == 0 {
            return Err(Error::failed(format!("image '{}' became shorter while it was read", source.display())));
        }
        hash.update(&piece[..got]);
        // Zeros are holes of the new file.
        if piece[..got].iter().any(|byte| *byte != 0) {
            part.handle().write_all_at(&piece[..got], at).map_err(cannot_write)?;
        }
        at += got as u64;
        progress.advance(got as u64);
    }
    fault::point("image.hashed").map_err(cannot_write)?;
    let sum: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((part, sum))
}

fn readable(part: &Part, mode: u32) -> Result<()> {
    rustix::fs::fchmod(part.handle(), rustix::fs::Mode::from_raw_mode(mode))
        .map_err(|errno| failed(part.path())(errno.into()))
}

/// An image that names other files of the host is not what its checksum says.
fn self_contained(source: &Path, header: &qcow2::Header) -> Result<()> {
    let image = source.display();
    if header.backing_file.is_some() || header.data_file.is_some() {
        return Err(Error::unsupported_config(format!(
            "image '{image}' refers to another file; make it whole with 'qemu-img convert -O qcow2 {image} NEW' first"
        )));
    }
    if header.encryption != qcow2::Encryption::None {
        return Err(Error::unsupported_config(format!("image '{image}' is encrypted, which a base image cannot be")));
    }
    if header.is_corrupt() {
        return Err(Error::unsupported_config(format!(
            "image '{image}' is marked as corrupt; try 'qemu-img check -r all'"
        )));
    }
    Ok(())
}

/// Unpacks a root file system. Owners are kept as numbers where we may.
async fn unpack(dir: &Path, archive: &Part, source: &Path, progress: &Arc<Progress>) -> Result<Part> {
    let program = Path::new(TAR);
    if !program.exists() {
        return Err(Error::unsupported_config(format!("'{TAR}' is missing, which unpacks root file systems")));
    }
    let tree = Part::directory(dir)?;
    readable(&tree, 0o755)?;
    let file = archive.handle().try_clone().map_err(failed(source))?;
    let owner = if rustix::process::geteuid().is_root() { "--same-owner" } else { "--no-same-owner" };
    let args = ["-x", "-p", "--numeric-owner", owner, "-f", "/proc/self/fd/10", "-C"].map(String::from);
    let args: Vec<String> = args.into_iter().chain([tree.path().display().to_string()]).collect();
    let options = exec::Options {
        timeout: Duration::from_secs(6 * 3600),
        fds: vec![(10, Arc::new(file.into()))],
        dies_with_us: true,
        ..exec::Options::default()
    };
    tokio::select! {
        result = exec::run(program, &args, options) => result.map_err(|error| {
            let error = Error::from(error);
            Error { detail: format!("cannot unpack image '{}': {}", source.display(), error.detail), ..error }
        })?,
        () = progress.cancelled() => return Err(Error::new(Code::OperationAborted, "the job was cancelled")),
    };
    Ok(tree)
}

/// Whether the image at `path` is there and lies over `base`. One that cannot be read might.
fn lies_over(path: &Path, base: &Path) -> bool {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    };
    match qcow2::read(&mut file) {
        Ok(header) => header.backing_file.is_some_and(|name| name == base.as_os_str().as_encoded_bytes()),
        // Something else has that name now.
        Err(qcow2::Problem::Magic) => false,
        Err(_) => true,
    }
}
