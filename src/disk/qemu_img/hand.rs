//! Files as `qemu-img` gets them: a descriptor of the very file, opened by the daemon, that the program opens again
//! through `/proc/self/fd/N`. The directories on the way then do not matter, only the file's own owner and mode do.
//!
//! A file that its user may not open is shown to it through a mount of that one file which maps the owner to the user
//! and which nobody else sees; nothing changes on the disk. Where the file system cannot do that, the program runs as
//! the file's owner, still without capabilities.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::disk::passphrase;
use crate::error::{Code, Error, Result};
use crate::sys::mount_attr::{MountAttr, mount_setattr};
use crate::sys::userns;

/// The first descriptor's number in the program.
const FIRST: RawFd = 10;

/// What the program does with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// Files to hand over, for one run.
#[derive(Debug, Default)]
pub struct Hand {
    fds: Vec<(RawFd, Arc<OwnedFd>)>,
    user: (u32, u32),
    /// The owner it has to run as instead, and of which file.
    owner: Option<((u32, u32), String)>,
}

impl Hand {
    pub(super) fn new(user: (u32, u32)) -> Hand {
        Hand { fds: Vec::new(), user, owner: None }
    }

    pub(super) fn runs_as(&self) -> (u32, u32) {
        self.owner.as_ref().map_or(self.user, |(owner, _)| *owner)
    }

    pub(super) fn into_fds(self) -> Vec<(RawFd, Arc<OwnedFd>)> {
        self.fds
    }

    /// The file or device at `path`, and its name for the program. Errors: code 38 when it cannot be opened, 67 when
    /// the program can be given no right to it.
    pub fn path(&mut self, path: &Path, access: Access) -> Result<String> {
        let failed = |error| Error::system(format!("cannot open '{}'", path.display()), error);
        // Opening for reading or writing would have effects on some devices, and is the program's to do.
        let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(errno.into()))?;
        self.file(file, access, &path.display().to_string())
    }

    /// An opened file, `shown` in errors.
    pub fn file(&mut self, file: impl Into<OwnedFd>, access: Access, shown: &str) -> Result<String> {
        let file = file.into();
        let failed = |errno: rustix::io::Errno| Error::system(format!("cannot open '{shown}'"), errno.into());
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        let owner = (stat.st_uid, stat.st_gid);
        let file = if may(stat.st_mode, owner, self.user, access) {
            file
        } else {
            match mapped(&file, owner, self.user) {
                Ok(mount) => mount,
                Err(error) => {
                    self.run_as_owner(owner, shown, &error)?;
                    file
                }
            }
        };
        Ok(self.add(file))
    }

    /// A passphrase, which is in no argument and on no disk.
    pub fn secret(&mut self, value: &[u8]) -> Result<String> {
        Ok(self.add(passphrase::file(value)?))
    }

    fn add(&mut self, file: OwnedFd) -> String {
        let number = FIRST + RawFd::try_from(self.fds.len()).unwrap_or(RawFd::MAX - FIRST);
        self.fds.push((number, Arc::new(file)));
        format!("/proc/self/fd/{number}")
    }

    fn run_as_owner(&mut self, owner: (u32, u32), shown: &str, why: &io::Error) -> Result<()> {
        tracing::debug!(file = shown, error = %why, "no mapped mount; qemu-img runs as the owner");
        match &self.owner {
            Some((other, first)) if *other != owner => Err(Error::new(
                Code::ConfigUnsupported,
                format!(
                    "qemu-img cannot be given both '{first}' and '{shown}': they belong to different users, and their \
                     file system has no idmapped mounts; make them belong to one user"
                ),
            )),
            _ => {
                self.owner = Some((owner, shown.to_string()));
                Ok(())
            }
        }
    }
}

/// By mode bits alone: access control lists can only make us take the other way.
fn may(mode: u32, owner: (u32, u32), user: (u32, u32), access: Access) -> bool {
    if rustix::process::geteuid().as_raw() == user.0 {
        // As ourselves: the program's open says what is wrong, if anything is.
        return true;
    }
    let need = if access == Access::Write { 6 } else { 4 };
    let bits = match (user.0 == owner.0, user.1 == owner.1) {
        (true, _) => mode >> 6,
        (_, true) => mode >> 3,
        _ => mode,
    };
    bits & need == need
}

/// A mount of the file alone, on which `owner` is `user`.
fn mapped(file: &OwnedFd, owner: (u32, u32), user: (u32, u32)) -> io::Result<OwnedFd> {
    use rustix::mount::{OpenTreeFlags, open_tree};
    let mode = rustix::fs::fstat(file)?.st_mode;
    // The owner's own bits decide on the mount as well.
    if mode & 0o600 != 0o600 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(file, "", flags)?;
    let namespace = userns::mapping(owner, user)?;
    mount_setattr(mount.as_fd(), false, MountAttr { idmap: Some(namespace.as_fd()), ..MountAttr::default() })?;
    let seen = rustix::fs::statat(&mount, "", AtFlags::EMPTY_PATH)?;
    if seen.st_uid != user.0 {
        return Err(io::Error::other("the mapped mount shows another owner"));
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_bits_decide_by_class() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP mode_bits_decide_by_class: only root runs it as somebody else");
            return;
        }
        let user = (4000, 4001);
        assert!(may(0o600, (4000, 0), user, Access::Write));
        assert!(!may(0o400, (4000, 0), user, Access::Write));
        assert!(may(0o640, (0, 4001), user, Access::Read));
        assert!(!may(0o604, (0, 4001), user, Access::Read));
        assert!(may(0o604, (0, 0), user, Access::Read));
        assert!(!may(0o600, (0, 0), user, Access::Read));
    }

    #[test]
    fn a_closed_file_is_shown_as_the_users_own_and_stays_as_it_is() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP a_closed_file_is_shown_as_the_users_own_and_stays_as_it_is: needs root");
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut hand = Hand::new((4000, 4001));
        assert_eq!(hand.path(file.path(), Access::Write).unwrap(), "/proc/self/fd/10");
        assert_eq!(std::fs::metadata(file.path()).unwrap().uid(), 0);
        if hand.runs_as() == (0, 0) {
            eprintln!("SKIP a_closed_file_is_shown_as_the_users_own_and_stays_as_it_is: no idmapped mounts here");
            return;
        }
        let seen = rustix::fs::fstat(&*hand.fds[0].1).unwrap();
        assert_eq!((seen.st_uid, seen.st_gid), (4000, 4001));
    }
}
