//! What is known of a base image, as a small file beside it. Its time of change is when the image was last asked for.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
use serde::{Deserialize, Serialize};

use crate::disk::job::part::Part;
use crate::error::{Error, Result};

pub(super) const VERSION: u32 = 1;

/// How an image is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    #[default]
    Raw,
    /// A directory with a root file system.
    Tree,
}

/// A base image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub(super) version: u32,
    /// Of what was imported, hexadecimal.
    pub sha256: String,
    /// For people.
    pub name: String,
    pub kind: Kind,
    /// Bytes the guest sees; 0 of a tree.
    pub size: u64,
    /// Seconds since 1970.
    pub imported: u64,
    /// Overlays that were made, or were about to be.
    pub overlays: Vec<PathBuf>,
}

impl Image {
    pub(super) fn file_name(&self) -> String {
        match self.kind {
            Kind::Raw => format!("{}.raw", self.sha256),
            Kind::Tree => format!("{}.tree", self.sha256),
        }
    }
}

/// The checksum in the name of an image's file or tree.
pub(super) fn checksum_of_data(name: &str) -> Option<&str> {
    let sum = name.strip_suffix(".raw").or_else(|| name.strip_suffix(".tree"))?;
    checked_sum(sum).is_ok().then_some(sum)
}

/// A SHA-256 checksum in lower case. Errors: code 8.
pub(super) fn checked_sum(text: &str) -> Result<String> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Error::invalid_arg(format!("'{text}' is no SHA-256 checksum, which has 64 hexadecimal digits")))
}

/// Errors: code 38, 1 for a damaged or newer one.
pub(super) fn read(path: &Path) -> Result<Image> {
    let text = std::fs::read(path)
        .map_err(|error| Error::system(format!("cannot read image record '{}'", path.display()), error))?;
    let image: Image = serde_json::from_slice(&text)
        .map_err(|error| Error::internal(format!("image record '{}': {error}", path.display())))?;
    if image.version > VERSION {
        let version = image.version;
        let path = path.display();
        return Err(Error::internal(format!("image record '{path}' is of version {version}; a newer domus wrote it")));
    }
    checked_sum(&image.sha256)?;
    Ok(image)
}

/// Writes the record of a new image.
pub(super) fn write(path: &Path, image: &Image) -> Result<()> {
    made(path, image)?.keep(path, &image.name)
}

/// Writes it over the former one.
pub(super) fn replace(path: &Path, image: &Image) -> Result<()> {
    let failed = |error| Error::system(format!("cannot write image record '{}'", path.display()), error);
    let part = made(path, image)?;
    part.handle().sync_all().map_err(failed)?;
    // The part's own clean-up finds nothing under its name then.
    std::fs::rename(part.path(), path).map_err(failed)
}

fn made(path: &Path, image: &Image) -> Result<Part> {
    use std::io::Write;
    let failed = |error| Error::system(format!("cannot write image record '{}'", path.display()), error);
    let part = Part::file(path.parent().unwrap_or(Path::new("/")))?;
    let text = serde_json::to_vec_pretty(image).map_err(|error| Error::internal(error.to_string()))?;
    let mut file = part.handle();
    file.write_all(&text).map_err(failed)?;
    Ok(part)
}

/// The image was asked for.
pub(super) fn touch(path: &Path) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    // Only the age for pruning suffers.
    let _ = rustix::fs::utimensat(CWD, path, &times, AtFlags::empty());
}

/// How long it was not asked for.
pub(super) fn idle(path: &Path) -> Duration {
    let changed = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    changed.ok().and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default()
}
