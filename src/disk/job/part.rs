//! Unfinished files and directories: hidden names that no volume has, locked while somebody works on them, so that
//! what a killed daemon left can be told from what another one is making.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Code, Error, Result};
use crate::sys::fault;

/// How every unfinished name starts and ends. Pools show no such file.
pub const PREFIX: &str = ".domus-";
pub const SUFFIX: &str = ".part";

/// Whether a directory entry is unfinished work.
pub fn is_part(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(PREFIX.as_bytes()) && name.ends_with(SUFFIX.as_bytes())
}

/// An unfinished file or directory. Removed when dropped, unless it got its name.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    /// Holds the lock.
    file: File,
    directory: bool,
    kept: bool,
}

impl Part {
    /// An empty file in `dir`, mode 0600. Errors: code 38.
    pub fn file(dir: &Path) -> Result<Part> {
        Self::make(dir, false)
    }

    /// An empty directory in `dir`, mode 0700. Errors: code 38.
    pub fn directory(dir: &Path) -> Result<Part> {
        Self::make(dir, true)
    }

    fn make(dir: &Path, directory: bool) -> Result<Part> {
        let path = || dir.join(format!("{PREFIX}{}{SUFFIX}", uuid::Uuid::new_v4().simple()));
        let failed = |error: io::Error| Error::system(format!("cannot create a file in '{}'", dir.display()), error);
        fault::point("volume.part").map_err(failed)?;
        // A sweep may come between making and locking; then it is gone and another one is made.
        for _ in 0..16 {
            let path = path();
            let file = open(&path, directory).map_err(|errno| failed(errno.into()))?;
            let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
            let part = Part { path, file, directory, kept: false };
            match locked {
                // Some network file systems have no locks: then nothing is swept there either.
                Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP) => {}
                Err(_) => continue,
            }
            let links = rustix::fs::fstat(&part.file).map_err(|errno| failed(errno.into()))?.st_nlink;
            if links > 0 && part.path.exists() {
                fault::point("volume.made").map_err(failed)?;
                return Ok(part);
            }
        }
        Err(Error::internal(format!("files in '{}' vanish as soon as they are made", dir.display())))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Open for reading and writing.
    pub fn handle(&self) -> &File {
        &self.file
    }

    /// Syncs it and gives it its name, for good. Errors: code 90 with `name` when something has that name, 38.
    pub fn keep(mut self, target: &Path, name: &str) -> Result<()> {
        let failed = |error: io::Error| Error::system(format!("cannot create '{}'", target.display()), error);
        fault::point("volume.sync").map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        fault::point("volume.rename").map_err(failed)?;
        match rename(&self.path, target) {
            Ok(()) => {}
            Err(Errno::EXIST | Errno::NOTEMPTY) => {
                return Err(Error::new(
                    Code::OperationFailed,
                    format!("volume target path '{}' already exists; '{name}' needs another name", target.display()),
                ));
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        self.kept = true;
        fault::point("volume.named").map_err(failed)?;
        if let Some(dir) = target.parent() {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Nothing can be done about a failure here; the next sweep tries again.
        let _ = if self.directory { std::fs::remove_dir_all(&self.path) } else { std::fs::remove_file(&self.path) };
    }
}

fn open(path: &Path, directory: bool) -> rustix::io::Result<File> {
    let create = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if directory {
        rustix::fs::mkdir(path, Mode::from_raw_mode(0o700))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        return rustix::fs::open(path, flags, Mode::empty()).map(File::from);
    }
    rustix::fs::open(path, create, Mode::from_raw_mode(0o600)).map(File::from)
}

/// Never over something that is there.
fn rename(from: &Path, to: &Path) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some network file systems do not know the flag. A link refuses to replace as well; directories have none.
        Err(Errno::INVAL) => match rustix::fs::link(from, to) {
            Ok(()) => rustix::fs::unlink(from),
            Err(Errno::PERM) if rustix::fs::lstat(to).is_err() => rustix::fs::rename(from, to),
            Err(errno) => Err(errno),
        },
        other => other,
    }
}

/// Removes what killed daemons left in `dir`, and tells how many that were. What somebody works on stays.
pub fn sweep(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let left = entries.flatten().filter(|entry| is_part(&entry.file_name()));
    left.filter(|entry| {
        let path = entry.path();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::open(&path, flags, Mode::empty()) else { return false };
        if rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
            return false;
        }
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(&path),
            _ => std::fs::remove_file(&path),
        };
        match removed {
            Ok(()) => {
                tracing::info!(path = %path.display(), "removed an unfinished volume of a killed daemon");
                true
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished volume");
                false
            }
        }
    })
    .count()
}
