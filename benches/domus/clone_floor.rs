//! What nobody who starts a container can avoid, as one process with nothing else in it: a clone with every namespace
//! but the user's, the mounts that a system container sees, one group per cgroup hierarchy, one veth pair, `execve`.
//!
//! It has no user namespace, no seccomp filter, no check of anything and writes no record: it is a floor, not a model.
//! The process is there before the clock starts, so its own `execve` is not in the figure either.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use domus::sys::clone::{Forked, SingleThread, clone3};
use domus::sys::rtnl::{Rtnl, Veth, index_of};

/// First argument of the process that is the floor.
pub const MODE: &str = "clone-floor";

/// One group per hierarchy that the daemon would use, for `name`.
#[derive(Clone, Debug, Default)]
pub struct Groups(Vec<PathBuf>);

impl Groups {
    /// v1: those with a controller the daemon uses, and v2, as mounted here. `v2_only`: the configuration of that name.
    pub fn of(name: &str, v2_only: bool) -> Groups {
        const USED: [&str; 7] = ["cpu", "cpuacct", "memory", "blkio", "pids", "freezer", "devices"];
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut dirs = Vec::new();
        for line in table.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let mut right = right.split(' ');
            let kind = right.next().unwrap_or_default();
            let wanted = match kind {
                "cgroup2" => true,
                "cgroup" if !v2_only => right.nth(1).unwrap_or_default().split(',').any(|word| USED.contains(&word)),
                _ => false,
            };
            if wanted {
                dirs.push(PathBuf::from(left.split(' ').nth(4).unwrap()).join(format!("floor-{name}")));
            }
        }
        // A mount that another one hides is in the table too.
        dirs.sort();
        dirs.dedup();
        Groups(dirs)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn make(&self) {
        self.0.iter().for_each(|dir| fs::create_dir(dir).unwrap());
    }

    fn join(&self, pid: i32) {
        for dir in &self.0 {
            fs::OpenOptions::new()
                .write(true)
                .open(dir.join("cgroup.procs"))
                .and_then(|mut file| file.write_all(pid.to_string().as_bytes()))
                .unwrap();
        }
    }

    fn remove(&self) {
        for dir in &self.0 {
            // The last process is gone a moment before the group knows.
            while let Err(error) = fs::remove_dir(dir) {
                assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{}: {error}", dir.display());
                std::thread::yield_now();
            }
        }
    }
}

/// The floor's process, from the benchmark's side.
pub struct Floor {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Floor {
    /// `bridge`: the container gets an interface in it. `cgroups`: `None`, or whether v2 alone.
    pub fn new(name: &str, root: &Path, bridge: Option<&str>, cgroups: Option<bool>) -> Floor {
        let cgroups = cgroups.map_or("none", |v2_only| if v2_only { "v2" } else { "all" });
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([MODE, name, root.to_str().unwrap(), bridge.unwrap_or("-"), cgroups])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        // It is ready.
        answers.read_line(&mut String::new()).unwrap();
        Floor { child, orders, answers }
    }

    /// Gives an order and does not wait.
    pub fn order(&mut self) {
        self.orders.write_all(b"\n").unwrap();
    }

    /// The answer to an order: a time of CLOCK_MONOTONIC (start) or a duration (stop), ns.
    pub fn answer(&mut self) -> u64 {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().parse().unwrap_or_else(|_| panic!("the floor's process ended: {line:?}"))
    }

    /// When the start began.
    pub fn start(&mut self) -> u64 {
        self.order();
        self.answer()
    }

    /// How long the kill took: SIGKILL, reap, removal of the groups.
    pub fn stop(&mut self) -> Duration {
        self.order();
        Duration::from_nanos(self.answer())
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The floor's process. Arguments: name, root, bridge or `-`, `all`, `v2` or `none`.
pub fn main(arguments: &[String]) {
    let [name, root, bridge, cgroups] = arguments else { panic!("arguments of the floor: {arguments:?}") };
    let groups = if cgroups == "none" { Groups::default() } else { Groups::of(name, cgroups == "v2") };
    let bridge = (bridge != "-").then_some(bridge.as_str());
    // Of a benchmark that was killed.
    groups.0.iter().for_each(|dir| drop(fs::remove_dir(dir)));
    let alone = SingleThread::prove().unwrap();
    let mut orders = std::io::stdin().lock();
    let mut out = std::io::stdout();
    let mut round = 0;
    out.write_all(b"ready\n").unwrap();
    while orders.read_exact(&mut [0]).is_ok() {
        round += 1;
        let begin = super::container::now();
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let flags = libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWCGROUP;
        // v2 takes a process at its birth.
        let into = (cgroups == "v2").then(|| {
            groups.make();
            fs::File::open(&groups.0[0]).unwrap()
        });
        let (pid, pidfd) = match clone3(flags as u64, into.as_ref().map(AsFd::as_fd), &alone).unwrap() {
            Forked::Child => {
                drop(near);
                inside(Path::new(root), far)
            }
            Forked::Parent { pid, pidfd } => (pid, pidfd),
        };
        drop(far);
        if into.is_none() {
            groups.make();
            groups.join(pid);
        }
        if let Some(bridge) = bridge {
            let host = format!("fl{name}{round}");
            let netns = fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
            let veth = Veth {
                host: &host,
                alias: "floor",
                guest: "eth0",
                mac: [0x52, 0x54, 0, 1, 2, 3],
                host_mac: None,
                mtu: None,
                master: Some(index_of(bridge).unwrap()),
                isolated: false,
                up: true,
            };
            Rtnl::open().unwrap().add_veth(&veth, netns.as_fd()).unwrap();
        }
        near.write_all(b"x").unwrap();
        writeln!(out, "{begin}").unwrap();
        if orders.read_exact(&mut [0]).is_err() {
            return;
        }
        let begin = super::container::now();
        rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).unwrap();
        let id = rustix::process::WaitId::PidFd(pidfd.as_fd());
        rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED).unwrap();
        groups.remove();
        writeln!(out, "{}", super::container::now() - begin).unwrap();
    }
}

/// From the clone to the container's first instruction.
fn inside(root: &Path, mut go: std::os::unix::net::UnixStream) -> ! {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some(root), root, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).unwrap();
    std::env::set_current_dir(root).unwrap();
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "proc", Some("proc"), quiet, none).unwrap();
    mount(Some("sysfs"), "sys", Some("sysfs"), quiet | MsFlags::MS_RDONLY, none).unwrap();
    mount(Some("tmpfs"), "dev", Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755,size=64k")).unwrap();
    let all = Mode::from_bits_truncate(0o666);
    nix::sys::stat::umask(Mode::empty());
    for (path, major, minor) in [
        ("dev/null", 1, 3),
        ("dev/zero", 1, 5),
        ("dev/full", 1, 7),
        ("dev/random", 1, 8),
        ("dev/urandom", 1, 9),
        ("dev/tty", 5, 0),
    ] {
        mknod(path, SFlag::S_IFCHR, all, makedev(major, minor)).unwrap();
    }
    for path in ["dev/pts", "dev/shm"] {
        nix::unistd::mkdir(path, Mode::from_bits_truncate(0o755)).unwrap();
    }
    let pts = Some("newinstance,ptmxmode=0666,mode=0620");
    mount(Some("devpts"), "dev/pts", Some("devpts"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, pts).unwrap();
    mount(Some("tmpfs"), "dev/shm", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("size=64m")).unwrap();
    std::os::unix::fs::symlink("pts/ptmx", "dev/ptmx").unwrap();
    nix::unistd::sethostname("floor").unwrap();
    nix::unistd::pivot_root(".", ".").unwrap();
    umount2(".", MntFlags::MNT_DETACH).unwrap();
    std::env::set_current_dir("/").unwrap();
    go.read_exact(&mut [0]).unwrap();
    nix::unistd::setsid().unwrap();
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    nix::unistd::dup2_stdin(&null).unwrap();
    nix::unistd::dup2_stdout(&null).unwrap();
    nix::unistd::dup2_stderr(&null).unwrap();
    let error = nix::unistd::execv(c"/init", &[c"/init", c"/stamp"]);
    panic!("exec of the measured init: {error:?}");
}
