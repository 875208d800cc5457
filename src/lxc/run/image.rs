//! File systems in image files and on block devices.
//!
//! The type comes from the definition and must be on the list: the content is the guest's, so it is never probed.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::mount::MountAttrFlags;

use super::dev::new_mount;
use super::{Context, Result, failure};
use crate::sys::{loopdev, weakened};

const STAGE: &str = "image";
/// Types that may be mounted.
pub const FSTYPES: [&str; 7] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "squashfs", "erofs"];

/// Mounts the file system of type `fstype` in `source`, detached.
pub fn mount(source: &Path, fstype: &str, loop_device: bool, readonly: bool, nodev: bool) -> Result<OwnedFd> {
    let shown = source.display();
    if !FSTYPES.contains(&fstype) && !weakened("any-fstype") {
        return failure(
            STAGE,
            format!("file system type '{fstype}' of '{shown}' is not one of {}", FSTYPES.join(", ")),
        );
    }
    let mut attr = MountAttrFlags::empty();
    if nodev {
        attr |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    let mut options = Vec::new();
    if readonly {
        attr |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        options.push(("ro", ""));
    }
    if !loop_device {
        let path = shown.to_string();
        options.insert(0, ("source", path.as_str()));
        return new_mount(STAGE, fstype, &options, attr);
    }
    let file = OpenOptions::new()
        .read(true)
        .write(!readonly)
        .open(source)
        .at(STAGE, format_args!("cannot open image '{shown}'"))?;
    let device = loopdev::attach(file.as_fd(), readonly)
        .at(STAGE, format_args!("cannot bind image '{shown}' to a loop device"))?;
    let path = device.path.to_string_lossy().into_owned();
    options.insert(0, ("source", path.as_str()));
    new_mount(STAGE, fstype, &options, attr)
}
