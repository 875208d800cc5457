//! Control groups: one interface over v1, hybrid and v2. Callers never learn which it is.
//!
//! A [`Group`] is named by its path below the mount points (`machine/qemu-3-1f2e3d4c`), the same in every hierarchy it
//! uses. Values are set and read by one file per controller; `cgroups-rs` does the file work there. This file owns
//! making, joining, killing and removing. All functions block.
//!
//! Where no cgroup can be made (not root, nothing mounted) groups are empty: everything succeeds and does nothing, and
//! the manager says so once in the log.

mod blkio;
mod container;
mod cpu;
mod cpuset;
mod devices;
mod freezer;
mod hierarchy;
mod memory;
mod pids;
pub mod scope;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use blkio::DeviceLimits;
pub use container::ContainerDirs;
pub use devices::DeviceRule;
pub use hierarchy::{Controller, Mode};
pub use scope::Scopes;

use crate::error::{Error, Result, Subsystem};
use crate::sys::weakened;
use hierarchy::Hierarchy;

/// Makes and finds groups.
#[derive(Debug, Default)]
pub struct Manager {
    hierarchies: Vec<Hierarchy>,
    /// systemd, where each run gets a scope of its own.
    scopes: Option<Arc<dyn Scopes>>,
    warned: AtomicBool,
}

/// One group in all hierarchies it uses.
#[derive(Clone, Debug, Default)]
pub struct Group {
    path: String,
    /// (directory, what it controls, whether it is v2).
    places: Vec<Place>,
    /// Of a scope that has just been made.
    holder: Option<Arc<scope::Holder>>,
}

#[derive(Clone, Debug)]
struct Place {
    dir: PathBuf,
    controllers: Vec<Controller>,
    v2: bool,
}

/// Counters of a group; `None` where its controller is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time, ns.
    pub cpu_total: Option<u64>,
    pub cpu_user: Option<u64>,
    pub cpu_system: Option<u64>,
    /// Memory in use, bytes.
    pub memory: Option<u64>,
    /// Memory of the processes without the page cache, bytes.
    pub memory_rss: Option<u64>,
    /// Read from and written to block devices, bytes.
    pub blkio_read: Option<u64>,
    pub blkio_written: Option<u64>,
    /// Tasks.
    pub pids: Option<u64>,
}

/// A memory limit that is none.
pub const UNLIMITED: u64 = u64::MAX;

/// What is set on a group, as the kernel has it; `None` where its controller or file is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub cpu_shares: Option<u64>,
    /// Microseconds per period; -1 is no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Bytes; [`UNLIMITED`] is none.
    pub memory: Option<u64>,
    /// Bytes; [`UNLIMITED`] is none.
    pub memory_soft: Option<u64>,
    /// Memory and swap, bytes; [`UNLIMITED`] is none.
    pub memory_swap: Option<u64>,
    pub blkio_weight: Option<u16>,
    /// Processors, in the kernel's list form.
    pub cpus: Option<String>,
    /// Memory nodes.
    pub mems: Option<String>,
    /// Whether v2 holds the values: libvirt has another number for "no quota" there.
    pub v2: bool,
    /// Time used of each of the host's processors, ns; only v1 keeps it.
    pub cpu_each: Option<Vec<u64>>,
}

/// Through which a process enters the group in `dir`.
///
/// v1: the `tasks` file, into which a process of one thread writes "0". Through `cgroup.procs`, or from outside, the
/// kernel would wait for an RCU grace period to be sure that no thread is born meanwhile: 3 to 15 ms. v2: the directory,
/// for `CLONE_INTO_CGROUP`, which does not wait either.
fn door(dir: &Path, v2: bool) -> Result<OwnedFd> {
    let path = if v2 { dir.to_path_buf() } else { dir.join("tasks") };
    let mut options = fs::OpenOptions::new();
    if v2 {
        options.read(true)
    } else {
        options.write(true)
    };
    options.open(&path).map(OwnedFd::from).map_err(|error| {
        Error::system(format!("cannot open '{}'", path.display()), error).with_subsystem(Subsystem::Cgroup)
    })
}

impl Manager {
    /// Looks at what is mounted.
    pub fn detect(mode: Mode) -> Manager {
        Manager { hierarchies: hierarchy::detect(mode), scopes: None, warned: AtomicBool::new(false) }
    }

    /// From here on runs get scopes of systemd's, if it can keep account of them: it does so on v2 only.
    pub fn use_scopes(&mut self, scopes: Arc<dyn Scopes>) -> bool {
        let possible = self.hierarchies.iter().any(|hierarchy| hierarchy.v2);
        if possible {
            self.scopes = Some(scopes);
        }
        possible
    }

    /// Path of the group of a run: below libvirt's `partition` (`/machine`), named after the run. Error: code 1 for a
    /// partition that leads elsewhere.
    pub fn group_path(&self, partition: &str, run: &str) -> Result<String> {
        if self.scopes.is_some() {
            return scope::path(partition, run);
        }
        let partition = partition.trim_matches('/');
        let path = if partition.is_empty() { run.to_string() } else { format!("{partition}/{run}") };
        check_path(&path)?;
        Ok(path)
    }

    /// Makes the group `path` for `controllers` and for killing. `description` is for people who list systemd's units;
    /// with one of those the group lives only once a process is in it: see [`Group::settled`].
    /// Errors: code 38 naming the directory; nothing is left.
    pub fn create(&self, path: &str, description: &str, controllers: &[Controller]) -> Result<Group> {
        check_path(path)?;
        let mut group = self.locate(path, controllers);
        if let (Some(scopes), Some(_), Some(v2)) =
            (&self.scopes, scope::split(path), self.hierarchies.iter().find(|hierarchy| hierarchy.v2))
        {
            group.holder = Some(Arc::new(scope::Holder::start(scopes.as_ref(), &v2.root, path, description)?));
        }
        for place in &group.places {
            if let Err(error) = self.make(path, place) {
                if matches!(error.raw_os_error(), Some(nix::libc::EACCES | nix::libc::EPERM | nix::libc::EROFS)) {
                    if !self.warned.swap(true, Ordering::Relaxed) {
                        tracing::warn!(dir = %place.dir.display(), %error, "cannot make cgroups: guests run without limits");
                    }
                    group.remove_dirs()?;
                    return Ok(Group { path: path.to_string(), ..Group::default() });
                }
                let what = format!("cannot create cgroup '{}'", place.dir.display());
                group.remove_dirs()?;
                return Err(Error::system(what, error).with_subsystem(Subsystem::Cgroup));
            }
        }
        Ok(group)
    }

    /// The group `path` as it is on the host, in every hierarchy that has it.
    pub fn open(&self, path: &str) -> Result<Group> {
        check_path(path)?;
        let mut group = self.locate(path, &Controller::ALL);
        group.places.retain(|place| place.dir.is_dir());
        Ok(group)
    }

    /// Gives the existing group `path` more controllers, with all its processes; the group as it is then.
    /// Errors: code 38 naming the directory.
    pub fn extend(&self, path: &str, controllers: &[Controller]) -> Result<Group> {
        let before = self.open(path)?;
        if before.is_empty() {
            return Ok(before);
        }
        let failed = |place: &Place, error: io::Error| {
            Error::system(format!("cannot extend cgroup '{}'", place.dir.display()), error)
                .with_subsystem(Subsystem::Cgroup)
        };
        for place in self.locate(path, controllers).places {
            let new = !place.dir.is_dir();
            self.make(path, &place).map_err(|error| failed(&place, error))?;
            if !new || place.v2 {
                continue;
            }
            // Until nothing forked meanwhile is outside; what ended meanwhile is no error.
            for _ in 0..10 {
                let mut inside = Vec::new();
                pids_below(&place.dir, &mut inside);
                let outside: Vec<i32> = before.pids().into_iter().filter(|pid| !inside.contains(pid)).collect();
                if outside.is_empty() {
                    break;
                }
                for pid in outside {
                    match write(&place.dir.join("cgroup.procs"), &pid.to_string()) {
                        Err(error) if error.raw_os_error() != Some(nix::libc::ESRCH) => {
                            return Err(failed(&place, error));
                        }
                        _ => {}
                    }
                }
            }
        }
        self.open(path)
    }

    /// Kills all that is in the group and removes it. One that is not there is no error.
    pub fn kill_and_remove(&self, path: &str) -> Result<()> {
        let Some((_, unit, own)) = scope::split(path) else {
            let group = self.open(path)?;
            group.kill()?;
            return group.remove();
        };
        let group = self.open(own)?;
        group.kill()?;
        // An empty scope ends by itself, sooner or later.
        if let Some(scopes) = &self.scopes {
            scopes.stop(unit)?;
        }
        group.remove()
    }

    fn locate(&self, path: &str, wanted: &[Controller]) -> Group {
        let mut places: Vec<Place> = Vec::new();
        for hierarchy in &self.hierarchies {
            let controllers: Vec<Controller> =
                hierarchy.controllers.iter().copied().filter(|controller| wanted.contains(controller)).collect();
            // A v2 hierarchy without controllers still kills a whole group at once.
            if controllers.is_empty() && !hierarchy.v2 {
                continue;
            }
            places.push(Place { dir: hierarchy.root.join(path), controllers, v2: hierarchy.v2 });
        }
        Group { path: path.to_string(), places, holder: None }
    }

    fn make(&self, path: &str, place: &Place) -> io::Result<()> {
        make_dirs(&place.dir)?;
        if !place.v2 && place.controllers.contains(&Controller::Cpuset) {
            let root = self.hierarchies.iter().find(|h| !h.v2 && place.dir.starts_with(&h.root));
            let below = root.map_or(0, |h| place.dir.components().count() - h.root.components().count());
            let chain: Vec<&Path> = place.dir.ancestors().take(below).collect();
            for dir in chain.into_iter().rev() {
                cpuset::inherit(dir)?;
            }
        }
        if place.v2 && !place.controllers.is_empty() {
            let root = self.hierarchies.iter().find(|h| h.v2 && place.dir.starts_with(&h.root));
            // Above a scope it is systemd that passes controllers on.
            let scoped = scope::split(path).and_then(|_| place.dir.parent());
            if let Some(root) = scoped.or(root.map(|root| root.root.as_path())) {
                hierarchy::delegate(root, &place.dir, &place.controllers);
            }
        }
        Ok(())
    }
}

impl Group {
    /// Path below the mount points.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether nothing is behind it.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The guest's process is in it: what kept the group alive until now is no longer needed.
    pub fn settled(&self) {
        if let Some(holder) = &self.holder {
            holder.end();
        }
    }

    /// What `sys::exec::spawn_guest` needs to start a process in the group.
    pub fn procs(&self) -> Result<Vec<OwnedFd>> {
        self.places.iter().map(|place| door(&place.dir, place.v2)).collect()
    }

    /// The directory that has `controller`.
    fn place(&self, controller: Controller) -> Option<&Place> {
        self.places.iter().find(|place| place.controllers.contains(&controller))
    }

    /// Relative CPU time, libvirt's `<shares>` (2..262144; 1024 is the default). v2: converted to `cpu.weight`.
    pub fn set_cpu_shares(&self, shares: u64) -> Result<()> {
        self.place(Controller::Cpu).map_or(Ok(()), |place| cpu::set_shares(&place.dir, place.v2, shares))
    }

    /// Bandwidth: `quota` µs per `period` µs; a quota of -1 is none.
    pub fn set_cpu_quota(&self, quota: Option<i64>, period: Option<u64>) -> Result<()> {
        self.place(Controller::Cpu).map_or(Ok(()), |place| cpu::set_quota(&place.dir, place.v2, quota, period))
    }

    /// Hard limit, bytes.
    pub fn set_memory_limit(&self, bytes: u64) -> Result<()> {
        self.place(Controller::Memory).map_or(Ok(()), |place| memory::set_limit(&place.dir, place.v2, bytes))
    }

    /// Soft limit, bytes.
    pub fn set_memory_soft_limit(&self, bytes: u64) -> Result<()> {
        self.place(Controller::Memory).map_or(Ok(()), |place| memory::set_soft_limit(&place.dir, place.v2, bytes))
    }

    /// Memory and swap together, bytes (libvirt's `<swap_hard_limit>`).
    pub fn set_memory_swap_limit(&self, bytes: u64, memory: Option<u64>) -> Result<()> {
        self.place(Controller::Memory)
            .map_or(Ok(()), |place| memory::set_swap_limit(&place.dir, place.v2, bytes, memory))
    }

    /// Limits that change, bytes or [`UNLIMITED`], in the order the kernel takes them: memory alone may never be above
    /// memory and swap together.
    pub fn set_memory_limits(&self, hard: Option<u64>, soft: Option<u64>, swap: Option<u64>) -> Result<()> {
        let now = self.settings();
        let raises = swap.is_some_and(|swap| swap > now.memory_swap.unwrap_or(UNLIMITED));
        let both = |swap: u64| self.set_memory_swap_limit(swap, hard.or(now.memory));
        if let Some(swap) = swap.filter(|_| raises) {
            both(swap)?;
        }
        if let Some(hard) = hard {
            self.set_memory_limit(hard)?;
        }
        if let Some(swap) = swap.filter(|_| !raises) {
            both(swap)?;
        }
        soft.map_or(Ok(()), |soft| self.set_memory_soft_limit(soft))
    }

    /// Relative block I/O, libvirt's `<weight>` (100..1000).
    pub fn set_blkio_weight(&self, weight: u16) -> Result<()> {
        self.place(Controller::Blkio).map_or(Ok(()), |place| blkio::set_weight(&place.dir, place.v2, weight))
    }

    /// Limits of the block device whose node is `path`. Errors: code 38, for a path that is none too.
    pub fn set_blkio_device(&self, path: &str, limits: &DeviceLimits) -> Result<()> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let Some(place) = self.place(Controller::Blkio) else { return Ok(()) };
        let failed = |error| Error::system(format!("cannot use '{path}'"), error).with_subsystem(Subsystem::Cgroup);
        let metadata = fs::metadata(path).map_err(failed)?;
        if !metadata.file_type().is_block_device() {
            return Err(failed(io::Error::from_raw_os_error(nix::libc::ENOTBLK)));
        }
        let number = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        blkio::set_device(&place.dir, place.v2, number, limits)
    }

    /// Whether `controller` acts on the group.
    pub fn has(&self, controller: Controller) -> bool {
        self.place(controller).is_some()
    }

    /// What is set, as of now.
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        if let Some(place) = self.place(Controller::Cpu) {
            settings.cpu_shares = cpu::shares(&place.dir, place.v2);
            (settings.cpu_quota, settings.cpu_period) = cpu::quota(&place.dir, place.v2);
            settings.v2 = place.v2;
        }
        if let Some(place) = self.place(Controller::Cpuacct) {
            settings.cpu_each = cpu::each(&place.dir);
        }
        if let Some(place) = self.place(Controller::Memory) {
            [settings.memory, settings.memory_soft, settings.memory_swap] = memory::limits(&place.dir, place.v2);
        }
        if let Some(place) = self.place(Controller::Blkio) {
            settings.blkio_weight = blkio::weight(&place.dir, place.v2);
        }
        if let Some(place) = self.place(Controller::Cpuset) {
            (settings.cpus, settings.mems) = cpuset::lists(&place.dir);
        }
        settings
    }

    /// Counters as of now.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        if let Some(place) = self.place(Controller::Cpuacct).or_else(|| self.place(Controller::Cpu)) {
            cpu::read(&place.dir, place.v2, &mut stats);
        }
        if let Some(place) = self.place(Controller::Memory) {
            stats.memory = memory::usage(&place.dir, place.v2);
            stats.memory_rss = memory::rss(&place.dir, place.v2);
        }
        if let Some((read, written)) =
            self.place(Controller::Blkio).and_then(|place| blkio::bytes(&place.dir, place.v2))
        {
            (stats.blkio_read, stats.blkio_written) = (Some(read), Some(written));
        }
        stats.pids = self.place(Controller::Pids).and_then(|place| pids::current(&place.dir));
        stats
    }

    /// Largest number of tasks; `None` is no limit.
    pub fn set_pids_max(&self, max: Option<u64>) -> Result<()> {
        self.place(Controller::Pids).map_or(Ok(()), |place| pids::set_max(&place.dir, max))
    }

    /// Processors it may use (`0-3,8`).
    pub fn set_cpus(&self, list: &str) -> Result<()> {
        self.place(Controller::Cpuset).map_or(Ok(()), |place| cpuset::set_cpus(&place.dir, list))
    }

    /// Memory nodes it may use.
    pub fn set_mems(&self, list: &str) -> Result<()> {
        self.place(Controller::Cpuset).map_or(Ok(()), |place| cpuset::set_mems(&place.dir, list))
    }

    /// Whether [`Group::freeze`] can stop it.
    pub fn can_freeze(&self) -> bool {
        self.place(Controller::Freezer).is_some()
    }

    /// Stops every process in it, and those that join, until [`Group::thaw`]; returns when they stand.
    /// Errors: code 38, `timed out` when one sits in an uninterruptible wait.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)
    }

    /// Lets it run on.
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    /// Whether every process in it stands.
    pub fn is_frozen(&self) -> bool {
        self.freezer_dir().is_some_and(|(dir, v2)| freezer::is_frozen(&dir, v2).unwrap_or(false))
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        let Some((dir, v2)) = self.freezer_dir() else { return Ok(()) };
        freezer::set(&dir, v2, frozen).map_err(|error| {
            let verb = if frozen { "freeze" } else { "thaw" };
            Error::system(format!("cannot {verb} cgroup '{}'", dir.display()), error).with_subsystem(Subsystem::Cgroup)
        })
    }

    /// Pids in the group, whichever hierarchy knows them.
    fn pids(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for place in &self.places {
            pids_below(&place.dir, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills everything in it with SIGKILL: at once where v2 can, else until no new process appears.
    ///
    /// v1 with a freezer: frozen first, so that nothing forks away between reading the list and the signals, which are
    /// delivered at the thaw.
    pub fn kill(&self) -> Result<()> {
        for place in self.places.iter().filter(|place| place.v2) {
            // Absent before Linux 5.14: then the loop below does it.
            let _ = write(&place.dir.join("cgroup.kill"), "1");
        }
        let mut pause = Duration::from_millis(1);
        for _ in 0..60 {
            let pids = self.pids();
            if pids.is_empty() {
                return Ok(());
            }
            // Only a help: a group that cannot be frozen is killed all the same.
            let frozen = self.freeze().is_ok();
            for pid in self.pids() {
                self.kill_member(pid);
            }
            if frozen {
                self.thaw()?;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        Err(Error::failed(format!("processes in cgroup '{}' do not end: {:?}", self.path, self.pids()))
            .with_subsystem(Subsystem::Cgroup))
    }

    /// Kills one of our processes. The number may have become another's since the list was read, so it is held first and
    /// looked up again: what is in our group is ours.
    fn kill_member(&self, pid: i32) {
        let Some(number) = rustix::process::Pid::from_raw(pid) else { return };
        let Ok(held) = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty()) else { return };
        if self.pids().contains(&pid) {
            // Gone meanwhile is what we want.
            let _ = rustix::process::pidfd_send_signal(&held, rustix::process::Signal::KILL);
        }
    }

    /// Removes the group, which must be empty of processes.
    pub fn remove(&self) -> Result<()> {
        self.remove_dirs()
    }

    fn remove_dirs(&self) -> Result<()> {
        for place in &self.places {
            remove_below(&place.dir);
            remove_dir(&place.dir).map_err(|error| {
                Error::system(format!("cannot remove cgroup '{}'", place.dir.display()), error)
                    .with_subsystem(Subsystem::Cgroup)
            })?;
            // The partition above goes with its last group; another daemon's groups keep it. A slice is systemd's.
            if let Some(parent) = place.dir.parent()
                && self.path.contains('/')
                && !self.path.ends_with(".scope")
            {
                let _ = fs::remove_dir(parent);
            }
        }
        Ok(())
    }
}

/// Like `create_dir_all`, but stands another run's end taking the empty partition away in between.
fn make_dirs(dir: &Path) -> io::Result<()> {
    for _ in 0..10 {
        match fs::create_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    fs::create_dir_all(dir)
}

/// Pids in `dir` and in all groups below.
fn pids_below(dir: &Path, pids: &mut Vec<i32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // 0 is a process of another pid namespace: not ours to name.
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        pids_below(&entry.path(), pids);
    }
}

/// Groups inside the group: a container's own. What cannot go makes the removal of the group fail, with its name.
fn remove_below(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_below(&entry.path());
        let _ = remove_dir(&entry.path());
    }
}

/// A process that was just reaped may still hold its group for a moment.
fn remove_dir(dir: &Path) -> io::Result<()> {
    let mut pause = Duration::from_micros(200);
    for _ in 0..60 {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(error) => return Err(error),
        }
    }
    fs::remove_dir(dir)
}

/// Records are re-read as untrusted: a path may not leave the mount points.
fn check_path(path: &str) -> Result<()> {
    let good = !path.is_empty() && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if good || weakened("any-name") {
        return Ok(());
    }
    Err(Error::internal(format!("'{path}' is no cgroup path")).with_subsystem(Subsystem::Cgroup))
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write;
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// Turns a failed setting into an error that names group, setting and value.
fn setting_failed(dir: &Path, what: &str, value: impl std::fmt::Display, error: impl std::fmt::Display) -> Error {
    Error::internal(format!("cannot set {what} to {value} in cgroup '{}': {error}", dir.display()))
        .with_subsystem(Subsystem::Cgroup)
}

#[cfg(test)]
mod tests;
