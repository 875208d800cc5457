//! A lock file: two daemons cannot share one root.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// A held lock. The file stays when it is dropped: removing it would let two holders lock two different files.
#[derive(Debug)]
pub struct LockFile {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it; the text is what it wrote (its pid).
    #[error("'{path}' is locked by process {holder}")]
    Held { path: String, holder: String },
    #[error("cannot lock '{path}': {source}")]
    Io { path: String, source: io::Error },
}

/// Takes the lock at `path` (made when missing, mode 0600) and writes our pid into it. Ends with the process.
pub fn take(path: &Path) -> Result<LockFile, LockError> {
    let name = path.display().to_string();
    let io_error = |source| LockError::Io { path: name.clone(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io_error)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let _ = file.take(32).read_to_string(&mut holder);
            return Err(LockError::Held { path: name, holder: holder.trim().to_string() });
        }
        Err(errno) => return Err(io_error(errno.into())),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
    };
    write(&mut file).map_err(io_error)?;
    Ok(LockFile { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = take(&path).unwrap();
        match take(&path).unwrap_err() {
            LockError::Held { holder, .. } => assert_eq!(holder, std::process::id().to_string()),
            other => panic!("{other}"),
        }
        drop(first);
        take(&path).unwrap();
    }
}
