//! `mount_setattr(2)`: idmaps, read-only and propagation of mounts named by fd.
//!
//! The rest of the new mount API is in rustix; this is the one call it lacks.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

/// Changes to a mount; see `mount_setattr(2)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountAttr<'fd> {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE` ... or 0 to leave it.
    pub propagation: u64,
    /// The user namespace whose maps the mount gets (adds `MOUNT_ATTR_IDMAP`). The mount must not be attached yet.
    pub idmap: Option<BorrowedFd<'fd>>,
}

/// Applies `attr` to the mount that `mount` refers to; `recursive` to all mounts below it too.
pub fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: MountAttr<'_>) -> io::Result<()> {
    let mut raw =
        libc::mount_attr { attr_set: attr.set, attr_clr: attr.clear, propagation: attr.propagation, userns_fd: 0 };
    if let Some(userns) = attr.idmap {
        raw.attr_set |= libc::MOUNT_ATTR_IDMAP;
        raw.userns_fd = userns.as_raw_fd() as u64;
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty NUL-terminated string, `raw` lives across the call and its true size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw mut raw,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
