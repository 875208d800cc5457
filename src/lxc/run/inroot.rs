//! Paths inside a root that may be hostile: resolved by fd, never by string.
//!
//! Every resolution is `openat2` with `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS` from an fd of the root, so that links
//! and `..` cannot lead outside, and a mount goes onto the fd that was resolved, whatever happens to the path then.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstatfs, mkdirat, openat, openat2, statat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};

use super::{Context, Result, failure};
use crate::sys::weakened;

/// File systems nothing from a domain's definition may be mounted on.
const KERNEL_MAGICS: [(u64, &str); 6] = [
    (super::procfs::PROC_MAGIC, "proc"),
    (0x6265_6572, "sysfs"),
    (0x6367_7270, "cgroup2"),
    (0x0027_e0eb, "cgroup"),
    (0x7363_6673, "securityfs"),
    (0x6462_6720, "debugfs"),
];

/// How links in a path are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Followed within the root.
    InRoot,
    /// Any link is an error: for /dev, /proc and /sys, which no honest image has as links.
    Refuse,
}

fn resolve(root: impl AsFd, path: &str, flags: OFlags, links: Links) -> rustix::io::Result<OwnedFd> {
    if weakened("follow-links") && links == Links::InRoot {
        return openat(&root, format!("./{path}"), flags, Mode::empty());
    }
    let mut how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if links == Links::Refuse && !weakened("system-links") {
        how |= ResolveFlags::NO_SYMLINKS;
    }
    // IN_ROOT may report a concurrent rename as EAGAIN; trying again is the documented answer, for ever it is not.
    for _ in 0..64 {
        match openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens `path` inside `root` with `O_PATH`.
pub fn open_path(root: impl AsFd, path: &str, links: Links) -> Result<OwnedFd> {
    resolve(root, path, OFlags::PATH, links).at("root", format_args!("cannot open '{path}' inside the root"))
}

/// Opens a file inside `root` for reading.
pub fn open_read(root: impl AsFd, path: &str) -> rustix::io::Result<OwnedFd> {
    resolve(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Links::InRoot)
}

/// Opens a FIFO or file inside `root` for writing without waiting for a reader.
pub fn open_write(root: impl AsFd, path: &str) -> rustix::io::Result<OwnedFd> {
    resolve(root, path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Links::InRoot)
}

/// Opens the directory `path` inside `root`, making what is missing (mode 0755).
pub fn make_dir(root: impl AsFd, path: &str, links: Links) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let what = |error: Errno, prefix: &str| -> Result<OwnedFd> {
        let hint =
            if error == Errno::LOOP && links == Links::Refuse { " (it must not be a symbolic link)" } else { "" };
        Err(error).at("root", format_args!("cannot use directory '{prefix}' of the root{hint}"))
    };
    match resolve(&root, path, flags, links) {
        Ok(fd) => return Ok(fd),
        Err(Errno::NOENT) => {}
        Err(error) => return what(error, path),
    }
    let mut done = String::new();
    let mut here = match resolve(&root, ".", flags, links) {
        Ok(fd) => fd,
        Err(error) => return what(error, "/"),
    };
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        done.push('/');
        done.push_str(part);
        here = match resolve(&root, &done, flags, links) {
            Ok(fd) => fd,
            Err(Errno::NOENT) if part != ".." => {
                match mkdirat(&here, part, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => {
                        return Err(error).at("root", format_args!("cannot make directory '{done}' in the root"));
                    }
                }
                match resolve(&root, &done, flags, links) {
                    Ok(fd) => fd,
                    Err(error) => return what(error, &done),
                }
            }
            Err(error) => return what(error, &done),
        };
    }
    Ok(here)
}

/// Opens the file `path` inside `root` as a mount point, making it (empty) when missing.
pub fn make_file(root: impl AsFd, path: &str) -> Result<OwnedFd> {
    match resolve(&root, path, OFlags::PATH, Links::InRoot) {
        Ok(fd) => return Ok(fd),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error).at("root", format_args!("cannot open '{path}' inside the root")),
    }
    let (dir, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", path));
    let dir = make_dir(&root, if dir.is_empty() { "." } else { dir }, Links::InRoot)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(&dir, name, flags, Mode::from_raw_mode(0o644))
        .at("root", format_args!("cannot make file '{path}' in the root"))?;
    resolve(&dir, name, OFlags::PATH, Links::Refuse).at("root", format_args!("cannot open '{path}' inside the root"))
}

/// Attaches a detached mount to what `target` refers to.
pub fn attach(mount: impl AsFd, target: impl AsFd, path: &str) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags).at("mount", format_args!("cannot mount on '{path}'"))
}

/// Fails when `target` is on a kernel file system: `/proc`, `/sys` and what is below them are never covered by a
/// `<filesystem>`, however its target is spelled.
pub fn refuse_kernel_target(target: impl AsFd, path: &str) -> Result<()> {
    if weakened("kernel-targets") {
        return Ok(());
    }
    let kind = fstatfs(target).at("mount", format_args!("cannot find out the file system of '{path}'"))?.f_type as u64;
    match KERNEL_MAGICS.iter().find(|(magic, _)| *magic == kind & 0xffff_ffff) {
        Some((_, name)) => {
            failure("mount", format!("target '{path}' is on {name}; kernel file systems must not be covered"))
        }
        None => Ok(()),
    }
}

/// Whether `path` is a directory; `None` when it is not there. Follows no link.
pub fn is_dir(dir: impl AsFd, path: &str) -> Option<bool> {
    let stat = statat(dir, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (dir, fd)
    }

    #[test]
    fn links_and_dots_stay_inside() {
        let (dir, fd) = root();
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("../../../..", dir.path().join("up")).unwrap();
        // '/etc' of the host exists; inside the root it does not.
        assert!(open_path(&fd, "/link/passwd", Links::InRoot).is_err());
        make_dir(&fd, "/up/made/deep", Links::InRoot).unwrap();
        assert!(dir.path().join("made/deep").is_dir());
        let error = make_dir(&fd, "/link", Links::Refuse).unwrap_err();
        assert!(error.message.contains("symbolic link"), "{error}");
        make_file(&fd, "/a/b").unwrap();
        assert!(dir.path().join("a/b").is_file());
    }

    #[test]
    fn kernel_file_systems_are_known_by_type() {
        let proc = rustix::fs::open("/proc", OFlags::PATH, Mode::empty()).unwrap();
        assert!(refuse_kernel_target(&proc, "/x").is_err());
        let (_dir, fd) = root();
        assert!(refuse_kernel_target(&fd, "/x").is_ok());
    }
}
