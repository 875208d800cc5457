//! The child: from `clone3` to `execve` of init, inside the new namespaces.
//!
//! It starts with nothing but its copy of the spec and one end of the channel. All of its failures travel back as text.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, UnmountFlags, open_tree, unmount};

use super::dev::{self, new_mount};
use super::inroot::{self, Links};
use super::sync::{Channel, Step};
use super::{Context, Failure, Result, caps, failure, fault_point, net, seccomp, users};
use crate::lxc::spec::{Init, Mount, MountSource, Namespace, Spec};
use crate::sys::clone::{cloexec_from, default_signals, new_session_keyring};
use crate::sys::mount_attr::{MountAttr, mount_setattr};
use crate::sys::weakened;

/// Exit status when init could not be executed; nobody but the supervisor sees it.
const FAILED: i32 = 126;

/// Unreadable inside.
const MASKED: [&str; 11] = [
    "acpi",
    "asound",
    "kallsyms",
    "kcore",
    "keys",
    "latency_stats",
    "timer_list",
    "timer_stats",
    "sched_debug",
    "scsi",
    "sysrq-trigger",
];
/// Readable only.
const READ_ONLY: [&str; 4] = ["bus", "fs", "irq", "sys"];

/// Never returns: becomes init, or reports and ends.
/// `doors`: of the cgroups of [`crate::lxc::spec::Cgroups::init`].
pub fn run(spec: &Spec, channel: &Channel, doors: &[OwnedFd]) -> ! {
    let failure = match build(spec, channel, doors) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    channel.fail(&failure);
    // The parent's exit handlers and buffers are not ours to run.
    #[allow(clippy::exit)]
    std::process::exit(FAILED)
}

fn build(spec: &Spec, channel: &Channel, doors: &[OwnedFd]) -> Result<std::convert::Infallible> {
    for (door, dir) in doors.iter().zip(&spec.cgroup.init) {
        super::start::join_cgroup(door, dir)?;
    }
    // Sleeps once: with the mounts come the ids.
    let mut mounts = channel.expect(&Step::Mounts)?.into_iter();
    become_root()?;
    die_with_parent()?;
    fault_point("init.mapped")?;
    rustix::process::setsid().at("session", "cannot make a session")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Not with the clone: its root would be where the supervisor was, not where this process is now.
    if !weakened("share-cgroup") {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).at("cgroup", "cannot make a cgroup namespace")?;
    }
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )
    .at("mount", "cannot make the mounts private")?;

    let (Some(root), Some(dev)) = (mounts.next(), mounts.next()) else {
        return failure("sync", "the root or /dev is missing among the mounts");
    };
    // The supervisor's working directory, in this namespace alone.
    let point = openat(CWD, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at("root", "cannot open the directory to attach it to")?;
    inroot::attach(&root, &point, "/")?;
    let dev = match weakened("image-dev") {
        true => inroot::open_path(&root, "/dev", Links::Refuse)?,
        false => inroot::attach(&dev, inroot::make_dir(&root, "/dev", Links::Refuse)?, "/dev").map(|()| dev)?,
    };
    let consoles = dev::mount_inside(&dev, spec)?;
    let proc = mount_proc(&root)?;
    mount_sys(&root, spec, &mut mounts)?;
    for mount in &spec.mounts {
        user_mount(&root, mount, &mut mounts)?;
    }
    if let crate::lxc::spec::Root::HostOverlay { .. } = spec.root {
        for path in ["/run", "/tmp", "/var/tmp"] {
            let mode = if path == "/run" { "755" } else { "1777" };
            let attr = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
            let fresh = new_mount("root", "tmpfs", &[("mode", mode)], attr)?;
            inroot::attach(&fresh, inroot::make_dir(&root, path, Links::InRoot)?, path)?;
        }
    }
    if let Some(name) = &spec.hostname {
        nix::unistd::sethostname(name).at("hostname", format_args!("cannot set it to '{name}'"))?;
    }
    fault_point("init.mounted")?;
    switch_root(&root)?;
    fault_point("init.pivoted")?;
    protect_proc(&proc, &dev, spec)?;
    if !weakened("keep-keyring") {
        new_session_keyring().at("keyring", "cannot make a session keyring")?;
    }
    let identity = users::resolve(&root, spec.init.user.as_deref(), spec.init.group.as_deref())?;

    channel.expect(&Step::Network)?;
    if spec.net == Namespace::New {
        net::configure(&spec.nics)?;
    }
    fault_point("init.network")?;
    let masters: Vec<_> = consoles.masters.iter().map(AsFd::as_fd).collect();
    channel.send(&Step::Ready, &masters)?;
    if spec.hold {
        channel.expect(&Step::Go)?;
    }
    fault_point("init.go")?;

    enter_dir(&spec.init)?;
    let terminal = match consoles.terminal {
        Some(terminal) => terminal,
        None => dev::open_null(&dev)?,
    };
    standard_streams(&terminal, spec)?;
    if !weakened("keep-fds") {
        // Behind those that were passed for it.
        cloexec_from(3 + spec.files).at("fds", "cannot mark the fds close-on-exec")?;
    }
    default_signals();
    if spec.seccomp {
        seccomp::apply(spec.ids.is_none())?;
    }
    caps::drop_caps(&spec.drop_caps)?;
    if identity.gid != 0 || identity.uid != 0 {
        become_user(&identity)?;
    }
    execute(&spec.init)
}

pub(super) fn become_root() -> Result<()> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    if !weakened("keep-groups") {
        setgroups(&[]).at("ids", "cannot drop the groups")?;
    }
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid).at("ids", "cannot become group 0 inside")?;
    setresuid(uid, uid, uid).at("ids", "cannot become user 0 inside")
}

pub(super) fn become_user(identity: &users::Identity) -> Result<()> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    setgroups(&[gid]).at("user", "cannot set the groups")?;
    setresgid(gid, gid, gid).at("user", format_args!("cannot become group {gid}"))?;
    setresuid(uid, uid, uid).at("user", format_args!("cannot become user {uid}"))?;
    // The kernel forgets the request when ids change.
    die_with_parent()
}

pub(super) fn die_with_parent() -> Result<()> {
    if weakened("outlive-supervisor") {
        return Ok(());
    }
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .at("session", "cannot ask to die with the supervisor")
}

fn mount_proc(root: &OwnedFd) -> Result<OwnedFd> {
    let attr = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let proc = new_mount("proc", "proc", &[], attr)?;
    super::procfs::prove(&proc)?;
    inroot::attach(&proc, inroot::make_dir(root, "/proc", Links::Refuse)?, "/proc")?;
    Ok(proc)
}

fn mount_sys(root: &OwnedFd, spec: &Spec, given: &mut std::vec::IntoIter<OwnedFd>) -> Result<()> {
    let attr = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let sys = if spec.net == Namespace::New {
        new_mount("sys", "sysfs", &[], attr | MountAttrFlags::MOUNT_ATTR_RDONLY)?
    } else {
        match given.next() {
            Some(fd) => fd,
            None => return failure("sync", "the mount for /sys is missing"),
        }
    };
    inroot::attach(&sys, inroot::make_dir(root, "/sys", Links::Refuse)?, "/sys")?;
    if spec.cgroup.mount {
        let cgroup = new_mount("cgroup", "cgroup2", &[], attr)?;
        let point = inroot::open_path(root, "/sys/fs/cgroup", Links::Refuse)?;
        inroot::attach(&cgroup, &point, "/sys/fs/cgroup")?;
    }
    Ok(())
}

fn user_mount(root: &OwnedFd, mount: &Mount, given: &mut std::vec::IntoIter<OwnedFd>) -> Result<()> {
    let path = mount.target.as_str();
    let source = match &mount.source {
        MountSource::Inside { path: source } => {
            let source = inroot::open_path(root, source, Links::InRoot)?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH
                | OpenTreeFlags::AT_RECURSIVE;
            let clone = open_tree(&source, "", flags).at("mount", format_args!("cannot clone for '{path}'"))?;
            if mount.readonly {
                let attr =
                    MountAttr { set: u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()), ..MountAttr::default() };
                mount_setattr(clone.as_fd(), true, attr).at("mount", format_args!("cannot make '{path}' read-only"))?;
            }
            clone
        }
        _ => match given.next() {
            Some(fd) => fd,
            None => return failure("sync", format!("the mount for '{path}' is missing")),
        },
    };
    let stat = rustix::fs::fstat(&source).at("mount", format_args!("cannot examine the source of '{path}'"))?;
    let target = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::Directory => inroot::make_dir(root, path, Links::InRoot)?,
        _ => inroot::make_file(root, path)?,
    };
    inroot::refuse_kernel_target(&target, path)?;
    inroot::attach(&source, &target, path)
}

/// `pivot_root(".", ".")` and detach: the old root is gone, not merely out of sight.
fn switch_root(root: &OwnedFd) -> Result<()> {
    rustix::process::fchdir(root).at("pivot", "cannot enter the new root")?;
    rustix::process::pivot_root(".", ".").at("pivot", "cannot change the root")?;
    if !weakened("keep-old-root") {
        unmount(".", UnmountFlags::DETACH).at("pivot", "cannot detach the old root")?;
    }
    rustix::process::chdir("/").at("pivot", "cannot enter '/'")
}

fn clone_of(dir: &OwnedFd, name: &str) -> Result<Option<OwnedFd>> {
    // The names are ours, directly below a proven procfs, and /proc itself has no links among them.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    match open_tree(dir, name, flags) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error).at("proc", format_args!("cannot clone '{name}'")),
    }
}

fn protect_proc(proc: &OwnedFd, dev: &OwnedFd, spec: &Spec) -> Result<()> {
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_RDONLY;
    for name in MASKED.iter().filter(|_| !weakened("no-masks")) {
        let mask = match inroot::is_dir(proc, name) {
            None => continue,
            Some(true) => new_mount("proc", "tmpfs", &[("mode", "000"), ("nr_inodes", "1")], quiet)?,
            Some(false) => match clone_of(dev, "null")? {
                Some(fd) => fd,
                None => return failure("proc", "/dev/null is missing"),
            },
        };
        inroot::attach(&mask, inroot::open_path(proc, name, Links::Refuse)?, name)?;
    }
    // Sysctls of its own network namespace stay the container's to set.
    let own_net = if spec.net == Namespace::New { clone_of(proc, "sys/net")? } else { None };
    for name in READ_ONLY.iter().filter(|_| !weakened("no-masks")) {
        let Some(clone) = clone_of(proc, name)? else { continue };
        let attr = MountAttr { set: u64::from(quiet.bits()), ..MountAttr::default() };
        mount_setattr(clone.as_fd(), false, attr).at("proc", format_args!("cannot make '/proc/{name}' read-only"))?;
        inroot::attach(&clone, inroot::open_path(proc, name, Links::Refuse)?, name)?;
    }
    if let Some(net) = own_net {
        let sys = inroot::open_path(CWD, "/proc/sys/net", Links::Refuse)?;
        super::procfs::prove(&sys)?;
        inroot::attach(&net, &sys, "/proc/sys/net")?;
    }
    Ok(())
}

pub(super) fn enter_dir(init: &Init) -> Result<()> {
    let dir = init.dir.as_deref().unwrap_or("/");
    rustix::process::chdir(dir).at("init", format_args!("cannot enter directory '{dir}'"))?;
    // A directory outside the root would show as "(unreachable)" (CVE-2024-21626).
    match nix::unistd::getcwd() {
        Ok(cwd) if cwd.is_absolute() => Ok(()),
        _ if weakened("any-cwd") => Ok(()),
        _ => failure("init", format!("directory '{dir}' is not inside the root")),
    }
}

fn standard_streams(terminal: &OwnedFd, spec: &Spec) -> Result<()> {
    rustix::stdio::dup2_stdin(terminal).at("console", "cannot set the standard input")?;
    rustix::stdio::dup2_stdout(terminal).at("console", "cannot set the standard output")?;
    rustix::stdio::dup2_stderr(terminal).at("console", "cannot set the standard error")?;
    // An init hands terminals to its children, which could not take one that init already controls. Anything else
    // (a shell, an application) wants job control itself.
    let program = spec.init.argv.first().map(String::as_str).unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    if !spec.consoles.is_empty() && !["init", "systemd", "openrc-init", "runit-init", "s6-svscan"].contains(&name) {
        let _ = rustix::process::ioctl_tiocsctty(terminal);
    }
    Ok(())
}

pub(super) fn execute(init: &Init) -> Result<std::convert::Infallible> {
    execute_file(init.argv.first().map(String::as_str).unwrap_or_default(), init)
}

/// The same with the program's file found elsewhere than at the first word of its command line.
pub(super) fn execute_file(file: &str, init: &Init) -> Result<std::convert::Infallible> {
    let text = |text: &str| {
        CString::new(text).map_err(|_| Failure { stage: "init".into(), message: format!("{text:?} has a NUL in it") })
    };
    let argv = init.argv.iter().map(|arg| text(arg)).collect::<Result<Vec<_>>>()?;
    let env = init.env.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect::<Result<Vec<_>>>()?;
    if argv.is_empty() {
        return failure("init", "no program is given");
    }
    let (program, shown) = (text(file)?, file);
    match nix::unistd::execve(&program, &argv, &env) {
        Ok(never) => Ok(never),
        Err(nix::Error::ENOENT) => {
            failure("init", format!("cannot execute '{shown}': it, or the interpreter it names, is not in the root"))
        }
        Err(error) => Err(error).at("init", format_args!("cannot execute '{shown}'")),
    }
}
