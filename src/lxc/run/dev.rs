//! The container's /dev: a fresh tmpfs, filled by the supervisor with host privileges before the child sees it.
//!
//! The image's own /dev is never used. Nodes are made by us in a mount nobody else can reach yet, and verified after.
//! The child adds what must belong to its own namespaces: devpts, shm, mqueue ([`mount_inside`]).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mkdirat, mknodat, openat, statat, symlinkat,
};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::ids::outside;
use super::inroot::{self, Links};
use super::{Context, Result, failure};
use crate::lxc::spec::{Device, IdMaps, Spec};
use crate::sys::weakened;

const STAGE: &str = "dev";

/// name, major, minor: the set every container has.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes a file system and returns it as a detached mount.
pub fn new_mount(stage: &str, fstype: &str, options: &[(&str, &str)], attr: MountAttrFlags) -> Result<OwnedFd> {
    let what = format_args!("cannot make a {fstype} mount");
    let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).at(stage, what)?;
    for (key, value) in options {
        let result = if value.is_empty() {
            fsconfig_set_flag(&context, *key)
        } else {
            fsconfig_set_string(&context, *key, *value)
        };
        result.at(stage, format_args!("{fstype} refuses option '{key}={value}'"))?;
    }
    fsconfig_create(&context).at(stage, what)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attr).at(stage, what)
}

/// Supervisor: the filled tmpfs, detached.
pub fn build(spec: &Spec) -> Result<OwnedFd> {
    let options = [("mode", "755"), ("size", "512k"), ("nr_inodes", "4096")];
    let dev = new_mount(STAGE, "tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    let (uid, gid) = owner(spec.ids.as_ref());
    chownat(&dev, "", uid, gid, AtFlags::EMPTY_PATH).at(STAGE, "cannot change the owner of /dev")?;
    for (name, major, minor) in NODES {
        node(&dev, &Device { name: name.to_string(), block: false, major, minor, mode: 0o666 }, uid, gid)?;
    }
    for device in &spec.devices {
        if let Some((dir, _)) = device.name.rsplit_once('/') {
            inroot::make_dir(&dev, dir, Links::Refuse)?;
        }
        node(&dev, device, uid, gid)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(&dev, name, Mode::from_raw_mode(0o755)).at(STAGE, format_args!("cannot make /dev/{name}"))?;
        chownat(&dev, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).at(STAGE, format_args!("cannot chown /dev/{name}"))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &dev, name).at(STAGE, format_args!("cannot make /dev/{name}"))?;
    }
    for index in 0..spec.consoles.len() {
        let name = format!("tty{}", index + 1);
        symlinkat(format!("pts/{index}"), &dev, name.as_str()).at(STAGE, format_args!("cannot make /dev/{name}"))?;
    }
    // Mount point of the first console's terminal.
    openat(
        &dev,
        "console",
        OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )
    .at(STAGE, "cannot make /dev/console")?;
    chownat(&dev, "console", uid, gid, AtFlags::SYMLINK_NOFOLLOW).at(STAGE, "cannot chown /dev/console")?;
    Ok(dev)
}

/// Supervisor: one more node in the /dev of a container that runs, which may have put anything there: names are only
/// ever looked up below `dev` itself, and what is there already is left alone.
pub fn add(dev: &OwnedFd, device: &Device, ids: Option<&IdMaps>) -> Result<()> {
    let (uid, gid) = owner(ids);
    if let Some((dir, _)) = device.name.rsplit_once('/') {
        inroot::make_dir(dev, dir, Links::Refuse)?;
    }
    let (dir, name) = parent(dev, &device.name)?;
    node(&dir, &Device { name, ..device.clone() }, uid, gid)
}

/// Supervisor: removes a node that was added.
pub fn remove(dev: &OwnedFd, name: &str) -> Result<()> {
    let (dir, last) = parent(dev, name)?;
    match rustix::fs::unlinkat(&dir, last.as_str(), AtFlags::empty()) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        result => result.at(STAGE, format_args!("cannot remove /dev/{name}")),
    }
}

/// The directory of a node, and the node's name in it.
fn parent(dev: &OwnedFd, name: &str) -> Result<(OwnedFd, String)> {
    match name.rsplit_once('/') {
        Some((dir, last)) => Ok((inroot::open_path(dev, dir, Links::Refuse)?, last.to_string())),
        None => Ok((dev.try_clone().at(STAGE, "cannot copy a descriptor")?, name.to_string())),
    }
}

fn owner(ids: Option<&IdMaps>) -> (Option<Uid>, Option<Gid>) {
    let uid = ids.map_or(Some(0), |ids| outside(&ids.uid, 0)).map(Uid::from_raw);
    let gid = ids.map_or(Some(0), |ids| outside(&ids.gid, 0)).map(Gid::from_raw);
    (uid, gid)
}

fn node(dev: &OwnedFd, device: &Device, uid: Option<Uid>, gid: Option<Gid>) -> Result<()> {
    let Device { name, major, minor, .. } = device;
    let kind = if device.block { FileType::BlockDevice } else { FileType::CharacterDevice };
    let number = makedev(*major, *minor);
    mknodat(dev, name.as_str(), kind, Mode::from_raw_mode(device.mode), number)
        .at(STAGE, format_args!("cannot make /dev/{name} ({major}:{minor})"))?;
    rustix::fs::chmodat(dev, name.as_str(), Mode::from_raw_mode(device.mode), AtFlags::empty())
        .at(STAGE, format_args!("cannot change the mode of /dev/{name}"))?;
    chownat(dev, name.as_str(), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        .at(STAGE, format_args!("cannot change the owner of /dev/{name}"))?;
    let stat = statat(dev, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).at(STAGE, format_args!("no /dev/{name}"))?;
    if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != number {
        return failure(STAGE, format!("/dev/{name} is not the device {major}:{minor}"));
    }
    Ok(())
}

/// The consoles as the child made them.
#[derive(Debug)]
pub struct Consoles {
    /// Masters, for the supervisor.
    pub masters: Vec<OwnedFd>,
    /// The first console's terminal, for init's standard streams.
    pub terminal: Option<OwnedFd>,
}

/// Child: mounts on the attached /dev what belongs to the container's namespaces, and makes the consoles.
pub fn mount_inside(dev: &OwnedFd, spec: &Spec) -> Result<Consoles> {
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    // Group 5 is tty on every distribution; maps without it leave the terminal's group to its opener.
    let tty_group = spec.ids.as_ref().is_none_or(|ids| outside(&ids.gid, 5).is_some());
    let mut options = vec![("ptmxmode", "0666"), ("mode", "0620"), ("max", "1024")];
    if tty_group {
        options.push(("gid", "5"));
    }
    let pts = new_mount(STAGE, "devpts", &options, quiet)?;
    let target = inroot::open_path(dev, "pts", Links::Refuse)?;
    inroot::attach(&pts, &target, "/dev/pts")?;

    let shm = [("mode", "1777"), ("size", "64m")];
    let shm = new_mount(STAGE, "tmpfs", &shm, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)?;
    inroot::attach(&shm, &inroot::open_path(dev, "shm", Links::Refuse)?, "/dev/shm")?;

    if spec.ipc == crate::lxc::spec::Namespace::New {
        let mqueue = new_mount(STAGE, "mqueue", &[], quiet | MountAttrFlags::MOUNT_ATTR_NODEV)?;
        inroot::attach(&mqueue, &inroot::open_path(dev, "mqueue", Links::Refuse)?, "/dev/mqueue")?;
    }
    consoles(dev, &pts, spec)
}

/// Terminals are opened from their master, never by a name somebody could have replaced.
fn consoles(dev: &OwnedFd, pts: &OwnedFd, spec: &Spec) -> Result<Consoles> {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
    let mut result = Consoles { masters: Vec::new(), terminal: None };
    for index in 0..spec.consoles.len() {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = openat(pts, "ptmx", flags, Mode::empty()).at(STAGE, "cannot open a new terminal")?;
        unlockpt(&master).at(STAGE, "cannot unlock a terminal")?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = match weakened("console-by-name") {
            true => openat(rustix::fs::CWD, format!("/dev/pts/{index}"), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()),
            false => ioctl_tiocgptpeer(&master, flags),
        };
        let terminal = terminal.at(STAGE, "cannot open a terminal from its master")?;
        if index == 0 {
            let clone = rustix::mount::open_tree(
                &terminal,
                "",
                rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE
                    | rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | rustix::mount::OpenTreeFlags::AT_EMPTY_PATH,
            )
            .at(STAGE, "cannot clone the mount of the console")?;
            inroot::attach(&clone, &inroot::open_path(dev, "console", Links::Refuse)?, "/dev/console")?;
            result.terminal = Some(terminal);
        }
        result.masters.push(master);
    }
    Ok(result)
}

/// The null device, for init's standard streams when there is no console.
pub fn open_null(dev: impl AsFd) -> Result<OwnedFd> {
    openat(dev, "null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(STAGE, "cannot open /dev/null")
}
