//! Opening tap devices (`/dev/net/tun`, TUNSETIFF).
//!
//! A device made here lives as long as its descriptors: never persistent, so a killed daemon or QEMU leaves none.

use std::ffi::{c_char, c_short};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;

/// Longest interface name (IFNAMSIZ without the NUL byte).
pub const MAX_NAME: usize = libc::IFNAMSIZ - 1;

/// How a tap is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Several queues; each queue is one descriptor ([`open`] for the first, again with `existing` for the others).
    pub multi_queue: bool,
    /// Frames carry a virtio-net header (offloads).
    pub vnet_hdr: bool,
    /// Open a device that is there already. Otherwise a device of that name is an error (EBUSY).
    pub existing: bool,
}

#[repr(C)]
struct IfReq {
    name: [c_char; libc::IFNAMSIZ],
    flags: c_short,
    pad: [u8; 22],
}

mod ioctls {
    // The kernel's numbers say "int" but the argument is a `struct ifreq`.
    nix::ioctl_write_ptr_bad!(
        tunsetiff,
        nix::request_code_write!(b'T', 202, std::mem::size_of::<nix::libc::c_int>()),
        super::IfReq
    );
    nix::ioctl_read!(tungetfeatures, b'T', 207, u32);
    nix::ioctl_read_bad!(tungetiff, nix::request_code_read!(b'T', 210, std::mem::size_of::<u32>()), super::IfReq);
}

/// Opens one queue of a tap. `name` may hold one `%d`, which the kernel replaces; without a name it is `tap%d`.
/// Gives the descriptor (non-blocking, close-on-exec) and the device's name.
///
/// Errors: EBUSY when the name is taken (or the device in use), EINVAL for a device that is no tap or has other queues.
pub fn open(name: Option<&str>, options: Options) -> io::Result<(OwnedFd, String)> {
    let mut request = IfReq { name: [0; libc::IFNAMSIZ], flags: 0, pad: [0; 22] };
    let name = name.unwrap_or("tap%d");
    if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (to, from) in request.name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI;
    if options.multi_queue {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    if options.vnet_hdr {
        flags |= libc::IFF_VNET_HDR;
    }
    if !options.existing {
        flags |= libc::IFF_TUN_EXCL;
    }
    // The kernel's flag word is a short; IFF_TUN_EXCL is its top bit.
    request.flags = flags as u16 as c_short;

    use std::os::unix::fs::OpenOptionsExt;
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    // SAFETY: `request` is a complete `struct ifreq` that outlives the call; the descriptor is open.
    unsafe { ioctls::tunsetiff(file.as_raw_fd(), &raw const request) }?;
    let actual = name_of(std::os::fd::AsFd::as_fd(&file))?;
    Ok((file.into(), actual))
}

/// Opens the queues of a macvtap by the index and name of its link.
///
/// Its character device is known by number from a sysfs of the calling thread's own network namespace: nodes in `/dev` are
/// named after the index, of which each namespace has its own.
pub fn open_macvtap(link: &str, index: u32, queues: u32) -> io::Result<Vec<OwnedFd>> {
    use rustix::fs::{Mode, OFlags};
    let text = {
        let sysfs = own_sysfs()?;
        let path = format!("class/net/{link}/tap{index}/dev");
        let file = rustix::fs::openat(&sysfs, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        io::read_to_string(std::fs::File::from(file))?
    };
    let number = text
        .trim()
        .split_once(':')
        .and_then(|(major, minor)| Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?)));
    let number = number.ok_or_else(|| io::Error::other(format!("the device number of '{link}' is '{text}'")))?;
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if queues > 1 {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    let node = Node::of(number, index)?;
    (0..queues)
        .map(|_| {
            let flags_open = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let fd = rustix::fs::open(&node.path, flags_open, Mode::empty())?;
            let mut request = IfReq { name: [0; libc::IFNAMSIZ], flags: 0, pad: [0; 22] };
            for (to, from) in request.name.iter_mut().zip(link.bytes().take(MAX_NAME)) {
                *to = from as c_char;
            }
            request.flags = flags as u16 as c_short;
            // SAFETY: `request` is a complete `struct ifreq` that outlives the call; the descriptor is open.
            unsafe { ioctls::tunsetiff(fd.as_raw_fd(), &raw const request) }?;
            Ok(fd)
        })
        .collect()
}

/// A detached mount of sysfs that shows this network namespace.
fn own_sysfs() -> io::Result<OwnedFd> {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
    let context = fsopen("sysfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
}

/// A node of a character device: the one in `/dev`, or one made for a moment.
struct Node {
    path: std::path::PathBuf,
    made: bool,
}

impl Node {
    fn of(number: u64, index: u32) -> io::Result<Node> {
        use rustix::fs::{CWD, FileType, Mode};
        let path = std::path::PathBuf::from(format!("/dev/tap{index}"));
        if rustix::fs::lstat(&path).is_ok_and(|stat| {
            stat.st_rdev == number && FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        }) {
            return Ok(Node { path, made: false });
        }
        // `/dev` is where nodes work; a run directory's file system may forbid them.
        let path = std::path::PathBuf::from(format!("/dev/.domus-tap-{}-{number:x}", std::process::id()));
        rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, number)?;
        Ok(Node { path, made: true })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.made {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The name of the device behind a tap descriptor.
pub fn name_of(fd: BorrowedFd<'_>) -> io::Result<String> {
    let mut request = IfReq { name: [0; libc::IFNAMSIZ], flags: 0, pad: [0; 22] };
    // SAFETY: the kernel fills `request`, a complete `struct ifreq`.
    unsafe { ioctls::tungetiff(fd.as_raw_fd(), &raw mut request) }?;
    let bytes: Vec<u8> = request.name.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// What the kernel's taps can do (`IFF_*` bits).
pub fn features() -> io::Result<u32> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let mut features = 0u32;
    // SAFETY: the kernel writes one u32.
    unsafe { ioctls::tungetfeatures(file.as_raw_fd(), &raw mut features) }?;
    Ok(features)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::in_netns;

    #[test]
    fn a_tap_is_exclusive_and_ends_with_its_descriptor() {
        in_netns("a_tap_is_exclusive_and_ends_with_its_descriptor", || {
            let (fd, name) = open(Some("vnet%d"), Options { vnet_hdr: true, ..Options::default() }).unwrap();
            assert_eq!(name, "vnet0");
            let busy = open(Some("vnet0"), Options::default()).unwrap_err();
            assert_eq!(busy.raw_os_error(), Some(libc::EBUSY));
            drop(fd);
            let (_fd, name) = open(Some("vnet0"), Options::default()).unwrap();
            assert_eq!(name, "vnet0");
            assert_eq!(open(Some("lo"), Options::default()).unwrap_err().raw_os_error(), Some(libc::EBUSY));
        });
    }

    #[test]
    fn queues_of_one_device() {
        in_netns("queues_of_one_device", || {
            let options = Options { multi_queue: true, vnet_hdr: true, existing: false };
            let (_first, name) = open(Some("mq0"), options).unwrap();
            let (second, same) = open(Some(&name), Options { existing: true, ..options }).unwrap();
            assert_eq!(same, "mq0");
            assert_eq!(name_of(std::os::fd::AsFd::as_fd(&second)).unwrap(), "mq0");
        });
    }

    #[test]
    fn a_bad_name_is_refused() {
        for name in ["", "a-name-of-17-byte"] {
            assert_eq!(open(Some(name), Options::default()).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
    }
}
