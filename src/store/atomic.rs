//! Atomic replacement of a file: after a crash it holds its old bytes or its new ones, never a mixture.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::sys::fault;

/// What a replacement survives once it has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the daemon (rename only).
    Daemon,
    /// A crash of the host (fsync of the file and of its directory).
    Host,
}

/// Every temporary file ends so; [`sweep`] removes what a crash left.
const SUFFIX: &str = ".domus-tmp";

/// Replaces `path` with `bytes` (mode 0600). On error the old file is untouched and no temporary file is left.
/// Errors: code 38 naming the file (`ENOSPC`, `EIO`, `EROFS` ...).
pub fn replace(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    let temporary = temporary_name(path);
    let result = write(&temporary, bytes, durability).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = result {
        // Best effort: the sweep at the next start finds it otherwise.
        let _ = fs::remove_file(&temporary);
        return Err(Error::system(format!("cannot write '{}'", path.display()), error));
    }
    if durability == Durability::Host {
        sync_dir(path)?;
    }
    Ok(())
}

fn temporary_name(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{}{SUFFIX}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    PathBuf::from(name)
}

fn write(path: &Path, bytes: &[u8], durability: Durability) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    fault::point("store.written")?;
    match durability {
        Durability::Host => file.sync_all(),
        Durability::Daemon => Ok(()),
    }
}

fn sync_dir(path: &Path) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| Error::system(format!("cannot sync directory '{}'", dir.display()), error))
}

/// Removes `path`; nothing there is no error. Errors: code 38 naming the file.
pub fn remove(path: &Path, durability: Durability) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::system(format!("cannot remove '{}'", path.display()), error)),
    }
    match durability {
        // Without it the file is back after a crash of the host.
        Durability::Host => sync_dir(path),
        Durability::Daemon => Ok(()),
    }
}

/// Removes temporary files of a daemon that was killed while writing.
pub fn sweep(dir: &Path) -> Result<()> {
    let failed = |error| Error::system(format!("cannot read directory '{}'", dir.display()), error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.as_os_str().to_string_lossy().ends_with(SUFFIX) {
            tracing::warn!(path = %path.display(), "removing a file that a killed daemon left half written");
            if let Err(error) = fs::remove_file(&path) {
                tracing::error!(path = %path.display(), %error, "cannot remove it");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_bytes_stay_when_the_new_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        replace(&path, b"old", Durability::Host).unwrap();
        let missing = dir.path().join("no/such/f");
        let error = replace(&missing, b"new", Durability::Host).unwrap_err();
        assert!(error.message().contains("no/such/f': No such file or directory"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_full_disk_is_named_and_costs_nothing() {
        use nix::mount::{MsFlags, mount};
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIP a_full_disk_is_named_and_costs_nothing: needs root to mount a tmpfs");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().to_path_buf();
        // A mount namespace of the thread's own: the tmpfs ends with the thread.
        let work = move || {
            let none: Option<&str> = None;
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("tmpfs"), &point, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
            let path = point.join("f");
            replace(&path, b"old", Durability::Host).unwrap();
            let error = replace(&path, &vec![b'x'; 1 << 20], Durability::Host).unwrap_err();
            (error.message(), fs::read(&path).unwrap(), fs::read_dir(&point).unwrap().count())
        };
        let (message, bytes, files) = std::thread::spawn(work).join().unwrap();
        assert_eq!(message, format!("cannot write '{}': No space left on device", dir.path().join("f").display()));
        assert_eq!((bytes.as_slice(), files), (b"old".as_slice(), 1));
    }

    #[test]
    fn removing_twice_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        replace(&path, b"x", Durability::Daemon).unwrap();
        remove(&path, Durability::Host).unwrap();
        remove(&path, Durability::Host).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn sweep_takes_temporary_files_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        replace(&path, b"x", Durability::Daemon).unwrap();
        File::create(temporary_name(&path)).unwrap();
        sweep(dir.path()).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.path()).collect();
        assert_eq!(left, [path]);
    }
}
