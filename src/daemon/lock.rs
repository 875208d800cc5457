//! One daemon per set of directories: a locked file in the run-time directory that holds the owner's pid.
//!
//! The lock is the kernel's (`flock`), so it ends with the process however that ends; the pid is only told to people.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Why the directories are not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another domusd (pid {pid}) uses {place}; stop it, or give this one another --root")]
    Held { pid: String, place: PathBuf },
    #[error("cannot lock {path}: {error}")]
    Lock { path: PathBuf, error: std::io::Error },
}

impl Lock {
    /// Takes the lock of `run`, the run-time directory of what is called `place` in the error.
    pub fn take(run: &Path, place: &Path) -> Result<Lock, LockError> {
        let path = run.join("domusd.lock");
        let failed = |error| LockError::Lock { path: path.clone(), error };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(&path);
        match Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let write = |file: &mut File| {
                    file.set_len(0)?;
                    file.rewind()?;
                    writeln!(file, "{}", std::process::id())
                };
                write(&mut file).map_err(failed)?;
                Ok(Lock { _file: file })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                let pid = Some(pid.trim()).filter(|pid| !pid.is_empty()).unwrap_or("unknown").to_string();
                Err(LockError::Held { pid, place: place.to_path_buf() })
            }
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path(), Path::new("/my/root")).unwrap();
        let error = Lock::take(dir.path(), Path::new("/my/root")).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())) && error.contains("/my/root"), "{error}");
        drop(first);
        Lock::take(dir.path(), Path::new("/my/root")).unwrap();
    }
}
