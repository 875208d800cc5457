//! The directory of a pool: made, opened, measured, removed; copy-on-write on btrfs. Works on the opened directory, so
//! that a path exchanged in between changes nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{Gid, IFlags, Mode, Uid};
use rustix::io::Errno;

use super::model::PoolTarget;
use super::write::Usage;
use crate::disk::permissions::Permissions;
use crate::disk::volume::scan::open_directory;
use crate::domain_xml::words::YesNo;
use crate::error::{Error, Result};

/// Mode of a pool's directory that is made, where none is given.
const DEFAULT_MODE: u32 = 0o711;
const BTRFS: i64 = 0x9123_683E;

/// Makes the directory with its parents where it is missing, and gives it the permissions that are asked for. `cow`:
/// whether files on btrfs are copied on write; where nothing is said they are not, as it ruins images. Errors: code 38
/// with the path; 55 when `cow` cannot be controlled.
pub fn build(path: &Path, target: &PoolTarget, cow: Option<YesNo>) -> Result<()> {
    let failed = |what: &str, error: std::io::Error| Error::system(format!("{what} '{}'", path.display()), error);
    absolute(path)?;
    let mut made = false;
    if !path.exists() {
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)
                .map_err(|error| failed("cannot create directories above", error))?;
        }
        let asked = target.permissions.mode.unwrap_or(DEFAULT_MODE);
        match std::fs::DirBuilder::new().mode(asked).create(path) {
            Ok(()) => made = true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("failed to create directory", error)),
        }
    }
    let directory = open_directory(path)?;
    let errno = |what: &'static str| move |errno: Errno| failed(what, errno.into());
    let Permissions { mode, owner, group, .. } = target.permissions;
    if owner.is_some() || group.is_some() {
        rustix::fs::fchown(&directory, owner.map(Uid::from_raw), group.map(Gid::from_raw))
            .map_err(errno("cannot change the owner of"))?;
    }
    if let Some(mode) = mode.or(made.then_some(DEFAULT_MODE)) {
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode)).map_err(errno("cannot set the mode of"))?;
    }
    set_cow(path, &directory, cow)
}

/// Sets or clears the attribute against copy-on-write, which files made in the directory inherit.
fn set_cow(path: &Path, directory: &OwnedFd, cow: Option<YesNo>) -> Result<()> {
    let kind = rustix::fs::fstatfs(directory).map(|stat| stat.f_type);
    if kind.ok().is_none_or(|kind| kind != BTRFS) {
        return match cow {
            None => Ok(()),
            Some(_) => Err(Error::invalid_state(format!(
                "unable to control COW flag on '{}', not btrfs: remove <features><cow/></features>",
                path.display()
            ))),
        };
    }
    let wanted = cow != Some(YesNo::Yes);
    let done = rustix::fs::ioctl_getflags(directory).and_then(|flags| {
        let mut new = flags;
        new.set(IFlags::NOCOW, wanted);
        if new == flags { Ok(()) } else { rustix::fs::ioctl_setflags(directory, new) }
    });
    match done {
        // Only a request of the user's is worth failing for.
        Err(errno) if cow.is_some() => {
            Err(Error::system(format!("unable to control COW flag on '{}'", path.display()), errno.into()))
        }
        _ => Ok(()),
    }
}

/// Size and use of the file system that the directory is on, and the directory's own permissions. Errors: code 38.
pub fn measure(path: &Path) -> Result<(Usage, Permissions)> {
    let failed = |errno: Errno| Error::system(format!("cannot statvfs path '{}'", path.display()), errno.into());
    let directory = open_directory(path)?;
    let space = rustix::fs::fstatvfs(directory.as_fd()).map_err(failed)?;
    let capacity = space.f_blocks.saturating_mul(space.f_frsize);
    let available = space.f_bfree.saturating_mul(space.f_frsize);
    let stat = rustix::fs::fstat(&directory).map_err(failed)?;
    let permissions = Permissions {
        mode: Some(stat.st_mode & 0o777),
        owner: Some(stat.st_uid),
        group: Some(stat.st_gid),
        label: None,
    };
    Ok((Usage { capacity, allocation: capacity.saturating_sub(available), available }, permissions))
}

/// Removes the directory, which must be empty. Error: code 38 with the path.
pub fn remove(path: &Path) -> Result<()> {
    absolute(path)?;
    let failed = |error| Error::system(format!("failed to remove pool '{}'", path.display()), error);
    std::fs::remove_dir(path).map_err(failed)
}

/// Refuses a path that would depend on where the daemon was started. Error: code 8.
pub fn absolute(path: &Path) -> Result<()> {
    match path.is_absolute() {
        true => Ok(()),
        false => Err(Error::invalid_arg(format!("pool target path '{}' must be absolute", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_directory_is_made_measured_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let mut target = PoolTarget::default();
        build(&path, &target, None).unwrap();
        assert_eq!((mode(&path), mode(&dir.path().join("a"))), (0o711, 0o755));
        target.permissions.mode = Some(0o750);
        build(&path, &target, None).unwrap();
        assert_eq!(mode(&path), 0o750);
        target.permissions.mode = None;
        build(&path, &target, None).unwrap();
        assert_eq!(mode(&path), 0o750, "what is not said is left");
        let (usage, permissions) = measure(&path).unwrap();
        assert!(usage.capacity > 0 && usage.capacity == usage.allocation + usage.available);
        assert_eq!(permissions.mode, Some(0o750));
        remove(&path).unwrap();
        assert!(remove(&path).unwrap_err().message().contains("failed to remove pool"));
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::File::create(&file).unwrap();
        assert!(build(&file, &PoolTarget::default(), None).unwrap_err().message().contains("Not a directory"));
        assert!(
            build(Path::new("x"), &PoolTarget::default(), None).unwrap_err().message().contains("must be absolute")
        );
    }

    #[test]
    fn copy_on_write_is_controlled_on_btrfs_only() {
        let dir = tempfile::tempdir().unwrap();
        if rustix::fs::statfs(dir.path()).unwrap().f_type as i64 == BTRFS {
            println!("SKIP copy_on_write_is_controlled_on_btrfs_only: the temporary directory is on btrfs");
            return;
        }
        let error = build(&dir.path().join("p"), &PoolTarget::default(), Some(YesNo::Yes)).unwrap_err();
        assert!(error.message().contains("not btrfs"), "{error}");
    }
}
