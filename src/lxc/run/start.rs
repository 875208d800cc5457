//! The supervisor's side of one start: clone, maps, mounts, interfaces, go.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::LinkNameSpaceType;

use super::procfs::{HostProc, open_namespace};
use super::rootfs::Builder;
use super::sync::{Channel, Step, channel};
use super::{Context, Result, dev, fault_point, ids, init, net};
use crate::lxc::spec::{Namespace, Root, Spec};
use crate::sys::clone::{Forked, SingleThread, clone3};
use crate::sys::weakened;

/// Directory of the run below which the supervisor stages mounts nobody else sees.
const STAGE_DIR: &str = "stage";

/// A container that is built: one to be held waits for [`Pending::go`], any other is about to run.
#[derive(Debug)]
pub struct Pending {
    pub pid: i32,
    pub start_time: u64,
    pub pidfd: OwnedFd,
    /// Console masters, in the spec's order.
    pub masters: Vec<OwnedFd>,
    /// The container's /dev, once it is made.
    pub dev: Option<OwnedFd>,
    /// The child waits for [`Pending::go`].
    hold: bool,
    channel: Channel,
}

/// Once per supervisor: cgroups of its own, and the directory that the child attaches its root to as working directory.
///
/// What is built for most containers is never attached anywhere outside their own mount namespaces, so the supervisor
/// stays in the host's. Overlays take their layers by path: for these it gets a namespace of its own.
pub fn prepare(spec: &Spec, proc: &HostProc) -> Result<()> {
    for dir in spec.cgroup.supervisor.iter().chain(&spec.cgroup.inherit) {
        join_cgroup(&open_door(dir)?, dir)?;
    }
    // The container's memory limit may hold for this process too; it must not be the one that is chosen to die.
    // Without CAP_SYS_RESOURCE (the daemon itself in a container) it stays as the daemon's is.
    let _ = proc.write(&format!("{}/oom_score_adj", std::process::id()), "-999");
    let dir = match spec.root {
        Root::Overlay { .. } | Root::HostOverlay { .. } => stage(spec)?,
        Root::Dir { .. } | Root::Image { .. } | Root::Ram { .. } => spec.run_dir.clone(),
    };
    rustix::process::chdir(&dir).at("mount", format_args!("cannot enter '{}'", dir.display()))
}

/// A private copy of the mounts with a tmpfs in it that nobody else sees.
fn stage(spec: &Spec) -> Result<PathBuf> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).at("mount", "cannot make a mount namespace")?;
    // Slave: unmounts on the host still arrive here, so nothing stays busy because of us.
    let flow =
        if weakened("shared-mounts") { MountPropagationFlags::SHARED } else { MountPropagationFlags::DOWNSTREAM };
    rustix::mount::mount_change("/", flow | MountPropagationFlags::REC)
        .at("mount", "cannot detach from the host's mounts")?;
    let dir = spec.run_dir.join(STAGE_DIR);
    match std::fs::create_dir(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).at("mount", format_args!("cannot make '{}'", dir.display()));
        }
        _ => {}
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", &dir, "tmpfs", flags, Some(c"mode=0711,size=64k"))
        .at("mount", format_args!("cannot mount the staging tmpfs on '{}'", dir.display()))?;
    rustix::mount::mount_change(&dir, MountPropagationFlags::PRIVATE)
        .at("mount", "cannot make the staging tmpfs private")?;
    Ok(dir)
}

/// Builds a container up to the point where only init's `execve` is left.
pub fn build(spec: &Spec, proc: &HostProc) -> Result<Pending> {
    let (ours, theirs) = channel()?;
    let joined = Joined::enter(spec, proc)?;
    let guest = match &spec.cgroup.guest {
        Some(dir) => Some(
            open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .at("cgroup", format_args!("cannot open '{}'", dir.display()))?,
        ),
        None => None,
    };
    let doors = spec.cgroup.init.iter().map(|dir| open_door(dir)).collect::<Result<Vec<_>>>()?;
    let alone = SingleThread::prove().at("clone", "this process has threads")?;
    let forked =
        clone3(flags_of(spec), guest.as_ref().map(AsFd::as_fd), &alone).at("clone", "cannot make the namespaces")?;
    let (pid, pidfd) = match forked {
        Forked::Child => {
            drop(ours);
            init::run(spec, &theirs, &doors)
        }
        Forked::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    joined.leave()?;
    let hold = spec.hold;
    let mut pending = Pending { pid, start_time: 0, pidfd, masters: Vec::new(), dev: None, hold, channel: ours };
    match pending.construct(spec, proc) {
        Ok(()) => Ok(pending),
        Err(failure) => {
            // The child hears it too, in case it waits; then it is ended by the drop.
            pending.channel.fail(&failure);
            // A child that has died makes steps of ours fail too; why it died is the better answer.
            let failure = pending.channel.last_words().unwrap_or(failure);
            pending.abandon();
            Err(failure)
        }
    }
}

impl Pending {
    fn construct(&mut self, spec: &Spec, proc: &HostProc) -> Result<()> {
        let pid = self.pid;
        fault_point("run.cloned")?;
        self.start_time = proc.start_time(pid)?;
        let _ = proc.write(&format!("{pid}/oom_score_adj"), "0");
        if let Some(maps) = &spec.ids {
            ids::write_maps(proc, pid, maps)?;
        }
        fault_point("run.ids")?;

        let userns = if spec.ids.is_some() { Some(proc.namespace(pid, "user")?) } else { None };
        let builder = Builder { spec, userns };
        let dev = dev::build(spec)?;
        self.dev = Some(dev.try_clone().at("dev", "cannot copy a descriptor")?);
        let mut mounts = vec![builder.root()?, dev];
        if spec.net != Namespace::New {
            mounts.push(builder.sys()?);
        }
        mounts.extend(builder.mounts()?);
        let fds: Vec<_> = mounts.iter().map(AsFd::as_fd).collect();
        self.channel.send(&Step::Mounts, &fds)?;
        drop(mounts);
        fault_point("run.mounts")?;

        // The child mounts meanwhile.
        net::plug(spec, proc, pid)?;
        fault_point("run.plugged")?;
        self.channel.send(&Step::Network, &[])?;
        fault_point("run.network")?;
        self.masters = self.channel.expect(&Step::Ready)?;
        fault_point("run.ready")
    }

    /// Lets a held init run; returns when its program is executing, or why it is not.
    pub fn go(&self) -> Result<()> {
        if self.hold {
            self.channel.send(&Step::Go, &[])?;
        }
        fault_point("run.go")?;
        self.channel.expect_end()
    }

    /// Kills the child and reaps it.
    pub fn abandon(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
        let _ = rustix::process::waitid(
            rustix::process::WaitId::PidFd(self.pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        );
    }
}

fn flags_of(spec: &Spec) -> u64 {
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    if spec.ids.is_some() {
        flags |= libc::CLONE_NEWUSER;
    }
    for (namespace, flag) in
        [(&spec.net, libc::CLONE_NEWNET), (&spec.uts, libc::CLONE_NEWUTS), (&spec.ipc, libc::CLONE_NEWIPC)]
    {
        if *namespace == Namespace::New && !(flag == libc::CLONE_NEWUTS && weakened("share-uts")) {
            flags |= flag;
        }
    }
    flags as u64
}

/// The file through which a process of one thread joins a v1 group without waiting for a grace period (see
/// `cgroup::door`); of a v2 group the one there is.
fn open_door(dir: &Path) -> Result<OwnedFd> {
    let open_one = |name: &str| open(dir.join(name), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    open_one("tasks")
        .or_else(|_| open_one("cgroup.procs"))
        .at("cgroup", format_args!("cannot join '{}'", dir.display()))
}

/// Puts the calling process into the group behind `door`; `dir` is for the message.
pub fn join_cgroup(door: &OwnedFd, dir: &Path) -> Result<()> {
    rustix::io::write(door, b"0").map(drop).at("cgroup", format_args!("cannot join '{}'", dir.display()))
}

/// Namespaces of others the container shares: entered before the clone, because afterwards a child in a user namespace
/// of its own may not; left again by the supervisor.
struct Joined {
    back: Vec<(LinkNameSpaceType, OwnedFd)>,
}

impl Joined {
    fn enter(spec: &Spec, proc: &HostProc) -> Result<Joined> {
        let own = std::process::id() as i32;
        let mut back = Vec::new();
        for (namespace, kind, name) in [
            (&spec.net, LinkNameSpaceType::Network, "net"),
            (&spec.uts, LinkNameSpaceType::HostNameAndNISDomainName, "uts"),
            (&spec.ipc, LinkNameSpaceType::InterProcessCommunication, "ipc"),
        ] {
            if let Namespace::Join { path } = namespace {
                let target = open_namespace(path)?;
                back.push((kind, proc.namespace(own, name)?));
                rustix::thread::move_into_link_name_space(target.as_fd(), Some(kind))
                    .at("namespace", format_args!("cannot join '{}'", path.display()))?;
            }
        }
        Ok(Joined { back })
    }

    fn leave(self) -> Result<()> {
        for (kind, fd) in self.back {
            rustix::thread::move_into_link_name_space(fd.as_fd(), Some(kind))
                .at("namespace", "cannot return to the own namespace")?;
        }
        Ok(())
    }
}
