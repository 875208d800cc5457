//! `domus-run` as a sealed memfd: made once per daemon, every container is started from it.
//!
//! A container that gets hold of the file of the process that enters it (`/proc/PID/exe`, CVE-2019-5736) finds
//! something nobody can write; and an upgrade of the file on disk does not change containers half way.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::error::{Error, Result};
use crate::sys::weakened;

/// The sealed binary, once somebody has asked for it.
#[derive(Debug, Default)]
pub struct Sealed {
    path: Option<PathBuf>,
    fd: Mutex<Option<OwnedFd>>,
}

impl Sealed {
    /// `path`: the binary; `None` = beside this program's own.
    pub fn new(path: Option<PathBuf>) -> Sealed {
        Sealed { path, fd: Mutex::new(None) }
    }

    /// A descriptor of it. Blocks the first time.
    pub fn get(&self) -> Result<OwnedFd> {
        let mut fd = self.fd.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let failed =
            |error| Error::system(format!("cannot load the container supervisor '{}'", self.path().display()), error);
        let held = match fd.take() {
            Some(held) => held,
            None => seal(&self.path()).map_err(failed)?,
        };
        let copy = held.try_clone().map_err(failed);
        *fd = Some(held);
        copy
    }

    /// Where it is read from.
    pub fn path(&self) -> PathBuf {
        let beside = || Some(std::env::current_exe().ok()?.parent()?.join("domus-run"));
        self.path.clone().or_else(beside).unwrap_or_else(|| PathBuf::from("/usr/libexec/domus-run"))
    }
}

fn seal(path: &Path) -> io::Result<OwnedFd> {
    let mut source = File::open(path)?;
    if weakened("unsealed") {
        return Ok(source.into());
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 wants to be told that it will be executed; an older one refuses to be told.
    let fd = memfd_create("domus-run", flags | MemfdFlags::EXEC).or_else(|_| memfd_create("domus-run", flags))?;
    let mut copy = File::from(fd);
    io::copy(&mut source, &mut copy)?;
    // A privileged container could still make it one that nobody may execute (Linux 6.3 has a seal against that).
    let _ = fcntl_add_seals(&copy, SealFlags::EXEC);
    fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    // Only a descriptor that was opened for reading may be executed while nobody can write.
    Ok(rustix::fs::open(
        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy)),
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_it() {
        let sealed = Sealed::new(Some("/bin/true".into()));
        let fd = sealed.get().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        if rustix::fs::fcntl_get_seals(&fd).unwrap().contains(SealFlags::EXEC) {
            let nothing = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o000);
            assert!(std::fs::set_permissions(&path, nothing).is_err());
        }
        assert!(
            std::fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|mut file| {
                    use std::io::Write;
                    file.write_all(b"x")
                })
                .is_err()
        );
    }
}
