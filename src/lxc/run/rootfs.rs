//! Mounts that need the host's privileges: built by the supervisor, detached, handed to the child as fds.
//!
//! A tree that was not shifted on disk gets an idmapped mount, so that the same files serve any id range and nothing is
//! ever chowned. A file system that cannot do that is refused by name; a container is never quietly made privileged.
//! Overlay itself cannot be idmapped: its layers are, and the overlay goes on top.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid, chownat, mkdirat, statat};
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::dev::new_mount;
use super::{Context, Failure, Result, failure, ids, image};
use crate::lxc::spec::{IdMaps, MountSource, Root, Spec};
use crate::sys::mount_attr::{MountAttr, mount_setattr};
use crate::sys::weakened;

const STAGE: &str = "root";
/// Recursive clone, for `open_tree(2)`.
const AT_RECURSIVE: OpenTreeFlags = OpenTreeFlags::AT_RECURSIVE;

/// What the builder needs to know of the container.
#[derive(Debug)]
pub struct Builder<'a> {
    pub spec: &'a Spec,
    /// The container's user namespace, when it has one.
    pub userns: Option<OwnedFd>,
}

impl Builder<'_> {
    fn maps(&self) -> Option<(&IdMaps, BorrowedFd<'_>)> {
        Some((self.spec.ids.as_ref()?, self.userns.as_ref()?.as_fd()))
    }

    /// The root, detached.
    pub fn root(&self) -> Result<OwnedFd> {
        match &self.spec.root {
            Root::Dir { source, readonly } => self.tree(source, *readonly, true),
            Root::Image { source, fstype, loop_device, readonly } => {
                self.image(source, fstype, *loop_device, *readonly)
            }
            Root::Ram { size } => self.ram(*size, "755"),
            Root::Overlay { lower, upper, work } => self.overlay(lower, upper, work),
            Root::HostOverlay { size } => self.host_overlay(*size),
        }
    }

    /// The mounts of the spec that come from the host, detached, in order.
    pub fn mounts(&self) -> Result<Vec<OwnedFd>> {
        let mut mounts = Vec::new();
        for mount in &self.spec.mounts {
            match &mount.source {
                MountSource::Dir { path } => mounts.push(self.tree(path, mount.readonly, false)?),
                MountSource::Image { path, fstype, loop_device } => {
                    mounts.push(self.image(path, fstype, *loop_device, mount.readonly)?);
                }
                MountSource::Ram { size } => mounts.push(self.ram(*size, "755")?),
                MountSource::Inside { .. } => {}
            }
        }
        Ok(mounts)
    }

    /// The host's /sys, read-only and without what is mounted below it. sysfs shows a network namespace, and only that
    /// namespace's owner may mount it: a container in somebody else's gets this clone.
    pub fn sys(&self) -> Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let sys = open_tree(CWD, "/sys", flags).at("sys", "cannot clone the mount of '/sys'")?;
        let set = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let attr = MountAttr { set: u64::from(set.bits()), propagation: libc::MS_PRIVATE, ..MountAttr::default() };
        mount_setattr(sys.as_fd(), false, attr).at("sys", "cannot make '/sys' read-only")?;
        Ok(sys)
    }

    /// A clone of a host directory or file with everything mounted below it.
    fn tree(&self, source: &Path, readonly: bool, is_root: bool) -> Result<OwnedFd> {
        let shown = source.display();
        let stat = statat(CWD, source, AtFlags::empty()).at(STAGE, format_args!("cannot use source '{shown}'"))?;
        let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
        if is_root && !is_dir {
            return failure(STAGE, format!("root source '{shown}' is not a directory"));
        }
        let host = statat(CWD, "/", rustix::fs::AtFlags::empty()).at(STAGE, "cannot examine '/'")?;
        let is_host = (stat.st_dev, stat.st_ino) == (host.st_dev, host.st_ino);
        if is_host && (is_root || !readonly) && !weakened("host-root") {
            return failure(
                STAGE,
                format!(
                    "source '{shown}' is the host's own root, which a container never gets read-write: for its root \
                     leave the <filesystem> with target '/' out (what it changes is then thrown away), elsewhere add \
                     <readonly/>"
                ),
            );
        }
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if is_dir {
            flags |= AT_RECURSIVE;
        }
        let tree = open_tree(CWD, source, flags).at(STAGE, format_args!("cannot clone the mount of '{shown}'"))?;
        let mut attr = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
        if self.spec.ids.is_some() && !weakened("image-devices") {
            attr.set |= u64::from(MountAttrFlags::MOUNT_ATTR_NODEV.bits());
        }
        if readonly {
            attr.set |= u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
        }
        mount_setattr(tree.as_fd(), is_dir, attr).at(STAGE, format_args!("cannot set up the mount of '{shown}'"))?;
        self.shift(&tree, source, stat.st_uid, is_dir)?;
        Ok(tree)
    }

    /// Idmaps a detached mount unless its tree was shifted on disk already.
    fn shift(&self, mount: &OwnedFd, source: &Path, owner: u32, recursive: bool) -> Result<()> {
        let Some((maps, userns)) = self.maps() else { return Ok(()) };
        if ids::owns(&maps.uid, owner) {
            return Ok(());
        }
        let attr = MountAttr { idmap: Some(userns), ..MountAttr::default() };
        mount_setattr(mount.as_fd(), recursive, attr).map_err(|error| {
            let kind = fstype_of(source).unwrap_or_else(|| "unknown".to_string());
            Failure {
                stage: STAGE.to_string(),
                message: format!(
                    "source '{}' (file system type {kind}) cannot be mounted with shifted ids: {error}; move it to a \
                     file system that can (ext4, xfs, btrfs, tmpfs), unmount what is mounted below it, chown the tree \
                     to the container's ids, or allow and ask for a privileged container",
                    source.display()
                ),
            }
        })
    }

    fn image(&self, source: &Path, fstype: &str, loop_device: bool, readonly: bool) -> Result<OwnedFd> {
        let mount = image::mount(source, fstype, loop_device, readonly, self.spec.ids.is_some())?;
        let owner = rustix::fs::fstat(&mount).at(STAGE, "cannot examine the image's root")?.st_uid;
        self.shift(&mount, source, owner, false)?;
        Ok(mount)
    }

    fn ram(&self, size: Option<u64>, mode: &str) -> Result<OwnedFd> {
        let size = size.map(|size| size.to_string());
        let mut options = vec![("mode", mode)];
        if let Some(size) = &size {
            options.push(("size", size));
        }
        self.tmpfs(&options)
    }

    /// A tmpfs whose root belongs to the container's root. Owned instead of idmapped: what is made in it is made with
    /// ids of the container, and kernels before 6.3 cannot idmap it.
    fn tmpfs(&self, options: &[(&str, &str)]) -> Result<OwnedFd> {
        let (uid, gid) = self.mapped_root()?.unwrap_or((0, 0));
        let (uid, gid) = (uid.to_string(), gid.to_string());
        let owner = [("uid", uid.as_str()), ("gid", gid.as_str())];
        let options: Vec<(&str, &str)> = options.iter().copied().chain(owner).collect();
        new_mount(STAGE, "tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NODEV)
    }

    /// User and group of the container's root outside, when it has ids of its own.
    fn mapped_root(&self) -> Result<Option<(u32, u32)>> {
        let Some((maps, _)) = self.maps() else { return Ok(None) };
        match (ids::outside(&maps.uid, 0), ids::outside(&maps.gid, 0)) {
            (Some(uid), Some(gid)) => Ok(Some((uid, gid))),
            _ => failure(STAGE, "the id maps have no entry for id 0 inside"),
        }
    }

    fn overlay(&self, lower: &[PathBuf], upper: &Path, work: &Path) -> Result<OwnedFd> {
        let parent = match (upper.parent(), work.parent()) {
            (Some(a), Some(b)) if a == b => a,
            _ => return failure(STAGE, "upper and work directory of an overlay must share their parent directory"),
        };
        let mut layers = Vec::new();
        for source in lower {
            layers.push(self.tree(source, true, true)?);
        }
        let changes = self.tree(parent, false, true)?;
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.stack(&layers, &changes, &name(upper), &name(work))
    }

    /// Never the host's root itself: its files are seen through a read-only clone of that one mount, changes go to a
    /// tmpfs that ends with the container.
    fn host_overlay(&self, size: u64) -> Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let host = open_tree(CWD, "/", flags).at(STAGE, "cannot clone the mount of '/'")?;
        let set = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
        let attr = MountAttr { set: u64::from(set.bits()), propagation: libc::MS_PRIVATE, ..MountAttr::default() };
        mount_setattr(host.as_fd(), false, attr).at(STAGE, "cannot set up the clone of '/'")?;
        self.shift(&host, Path::new("/"), 0, false)?;
        let size = size.to_string();
        let changes = self.tmpfs(&[("mode", "700"), ("size", size.as_str())])?;
        let owner = self.mapped_root()?.map(|(uid, gid)| (Uid::from_raw(uid), Gid::from_raw(gid))).unzip();
        for name in ["upper", "work"] {
            mkdirat(&changes, name, Mode::from_raw_mode(0o755))
                .and_then(|()| chownat(&changes, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW))
                .at(STAGE, "cannot make the throw-away layer")?;
        }
        self.stack(&[host], &changes, "upper", "work")
    }

    /// Overlay takes its layers by path: they are attached on the supervisor's private staging tmpfs, which is its
    /// working directory and which nobody else sees.
    fn stack(&self, layers: &[OwnedFd], changes: &OwnedFd, upper: &str, work: &str) -> Result<OwnedFd> {
        let mut lowerdir = String::new();
        for (index, layer) in layers.iter().enumerate() {
            let name = format!("lower{index}");
            stage_mount(layer, &name)?;
            if index > 0 {
                lowerdir.push(':');
            }
            lowerdir.push_str(&name);
        }
        stage_mount(changes, "changes")?;
        let upperdir = format!("changes/{upper}");
        let workdir = format!("changes/{work}");
        let options = [("source", "overlay"), ("lowerdir", &lowerdir), ("upperdir", &upperdir), ("workdir", &workdir)];
        let overlay = self.as_mapped_root(|| new_mount(STAGE, "overlay", &options, MountAttrFlags::MOUNT_ATTR_NODEV));
        // The overlay holds clones of its layers; the attached ones have served.
        for name in lowerdir.split(':').chain(["changes"]) {
            let _ = rustix::mount::unmount(name, rustix::mount::UnmountFlags::DETACH);
        }
        overlay
    }

    /// Runs `action` with the container root's ids and all of our capabilities. Overlay keeps the credentials of its
    /// mounter for what it does in its layers; with host root's they would have no id in a shifted layer.
    fn as_mapped_root<T>(&self, action: impl FnOnce() -> Result<T>) -> Result<T> {
        use nix::unistd::{Gid, Uid, setegid, seteuid};
        let Some((uid, gid)) = self.mapped_root()? else { return action() };
        let all = rustix::thread::capabilities(None).at(STAGE, "cannot read the capabilities")?;
        setegid(Gid::from_raw(gid)).at(STAGE, "cannot change the group id")?;
        let result = seteuid(Uid::from_raw(uid)).at(STAGE, "cannot change the user id").and_then(|()| {
            // Leaving id 0 took the effective set away; the permitted one stays.
            rustix::thread::set_capabilities(None, all).at(STAGE, "cannot keep the capabilities")?;
            action()
        });
        seteuid(Uid::from_raw(0)).at(STAGE, "cannot change the user id back")?;
        setegid(Gid::from_raw(0)).at(STAGE, "cannot change the group id back")?;
        result
    }
}

/// Attaches a detached mount below the staging directory (the working directory).
fn stage_mount(mount: &OwnedFd, name: &str) -> Result<()> {
    match mkdirat(CWD, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error).at(STAGE, format_args!("cannot make staging directory '{name}'")),
    }
    move_mount(mount, "", CWD, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .at(STAGE, format_args!("cannot attach layer '{name}'"))
}

/// Type of the file system a path is on, from mountinfo's longest match; for messages.
fn fstype_of(path: &Path) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mut best: Option<(usize, String)> = None;
    for line in table.lines() {
        let point = line.split(' ').nth(4)?;
        let kind = line.split(" - ").nth(1).and_then(|rest| rest.split(' ').next())?;
        let longer = best.as_ref().is_none_or(|(len, _)| point.len() >= *len);
        if path.starts_with(point) && longer {
            best = Some((point.len(), kind.to_string()));
        }
    }
    best.map(|(_, kind)| kind)
}
