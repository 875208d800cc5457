//! Whose an image is: read, given to the guest's user, given back. Works on the file itself, never through a symbolic
//! link that could be exchanged between look and deed. The caller remembers the former owner (an undo step).

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// User and group that own the file `path` leads to. Errors: code 38, also for what can be no disk image.
pub fn current(path: &Path) -> Result<(u32, u32)> {
    let failed = |errno: Errno| Error::system(format!("cannot read the owner of '{}'", path.display()), errno.into());
    let file = pin(path).map_err(failed)?;
    let stat = rustix::fs::fstat(&file).map_err(failed)?;
    image_only(path, FileType::from_raw_mode(stat.st_mode))?;
    Ok((stat.st_uid, stat.st_gid))
}

/// Makes `uid` and `gid` the owner of the image `path` leads to (a file or a device). Nothing happens when they are
/// already. Errors: code 38 with the reason and a way out.
pub fn give(path: &Path, uid: u32, gid: u32) -> Result<()> {
    let file = pin(path).map_err(|errno| refused(path, uid, gid, errno))?;
    change(path, &file, uid, gid)
}

/// As [`give`], for the way back: an image that is gone needs none.
pub fn restore(path: &Path, uid: u32, gid: u32) -> Result<()> {
    match pin(path) {
        Ok(file) => change(path, &file, uid, gid),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(errno) => Err(refused(path, uid, gid, errno)),
    }
}

fn change(path: &Path, file: &OwnedFd, uid: u32, gid: u32) -> Result<()> {
    let failed = |errno: Errno| refused(path, uid, gid, errno);
    let stat = rustix::fs::fstat(file).map_err(failed)?;
    image_only(path, FileType::from_raw_mode(stat.st_mode))?;
    // Also spares read-only media and network shares a change that would be refused.
    if (stat.st_uid, stat.st_gid) == (uid, gid) {
        return Ok(());
    }
    let (owner, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::chownat(file, c"", Some(owner), Some(group), AtFlags::EMPTY_PATH).map_err(failed)
}

/// A descriptor of the very file, without opening its content. The real path is resolved first and then walked with
/// no link allowed: one that appears in between makes it fail (`ELOOP`).
fn pin(path: &Path) -> rustix::io::Result<OwnedFd> {
    let real = std::fs::canonicalize(path).map_err(|error| errno_of(&error))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(CWD, &real, flags, Mode::empty(), resolve) {
        // A sandbox's filter may not know the newer call.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::open(&real, flags, Mode::empty()),
        other => other,
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

fn image_only(path: &Path, kind: FileType) -> Result<()> {
    match kind {
        FileType::RegularFile | FileType::BlockDevice | FileType::CharacterDevice => Ok(()),
        kind => Err(Error::system(
            format!("'{}' is {}, not a file or device that a guest can be given", path.display(), describe(kind)),
            io::Error::from_raw_os_error(if kind == FileType::Directory {
                Errno::ISDIR.raw_os_error()
            } else {
                Errno::INVAL.raw_os_error()
            }),
        )),
    }
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        _ => "no regular file",
    }
}

/// libvirt's text ("unable to set user and group to ..."), and what to do where we know it.
fn refused(path: &Path, uid: u32, gid: u32, errno: Errno) -> Error {
    let what = format!("unable to set user and group to '{uid}:{gid}' on '{}'", path.display());
    let mut error = Error::system(what, errno.into());
    let hint = match errno {
        Errno::ROFS => "the file system is mounted read-only; remount it writable, or change the owner where it is",
        Errno::PERM | Errno::ACCESS => {
            "the file may be immutable (lsattr), or on a network share that maps root to nobody (root_squash); \
             give it that owner on the server, or set dynamic_ownership = false and grant access there"
        }
        Errno::LOOP => "a symbolic link on the way changed while it was followed; use the real path",
        Errno::OPNOTSUPP | Errno::NOSYS => "its file system has no owners; mount it with uid= and gid= options",
        _ => return error,
    };
    error.detail = format!("{}: {hint}", error.detail);
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn given_through_a_link_to_the_file_itself_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("disk"), dir.path().join("link"));
        std::fs::File::create(&file).unwrap();
        symlink(&file, &link).unwrap();
        let before = current(&link).unwrap();
        // Giving to the present owner needs no right.
        give(&link, before.0, before.1).unwrap();
        if root() {
            give(&link, 12345, 12346).unwrap();
            assert_eq!(current(&file).unwrap(), (12345, 12346));
            let kept = std::os::unix::fs::MetadataExt::uid(&std::fs::symlink_metadata(&link).unwrap());
            assert_eq!(kept, before.0, "the link keeps its owner");
            restore(&link, before.0, before.1).unwrap();
            assert_eq!(current(&file).unwrap(), before);
        }
    }

    #[test]
    fn what_is_gone_needs_no_restoring_but_cannot_be_given() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        restore(&gone, 0, 0).unwrap();
        restore(&gone.join("below"), 0, 0).unwrap();
        let error = give(&gone, 1, 2).unwrap_err();
        let text = format!("unable to set user and group to '1:2' on '{}': No such file or directory", gone.display());
        assert_eq!(error.message(), text);
    }

    #[test]
    fn directories_are_never_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let error = give(dir.path(), 1, 1).unwrap_err();
        assert!(error.message().contains("is a directory"), "{error}");
    }

    #[test]
    fn refusals_say_what_to_do() {
        let error = refused(Path::new("/mnt/x"), 1, 2, Errno::PERM);
        assert!(error.message().contains("Operation not permitted: the file may be immutable"), "{error}");
        assert!(refused(Path::new("/x"), 1, 2, Errno::ROFS).message().contains("read-only"));
    }
}
