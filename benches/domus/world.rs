//! A daemon in a directory of its own, and what its guests need.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;

use crate::client::Client;

pub const BRIDGE: &str = "qbr769dc43b-19";
const UUID: &str = "2fbd1d85-719f-4be8-aeb4-3a0d2fea9a4f";
const NAME: &str = "novaacc-0000dc71";

/// Where the daemon keeps the id ranges of containers, whatever its root.
const ID_RANGES: &str = "/run/domus-ids";

pub struct World {
    pub base: PathBuf,
    daemon: Option<Child>,
    arguments: Vec<String>,
}

impl World {
    /// A daemon with the mock driver alone: the control plane and nothing else.
    pub fn mock() -> World {
        World::mock_with(|_| Vec::new())
    }

    /// As [`World::mock`], with more arguments, made from the directory of everything.
    pub fn mock_with(more: impl FnOnce(&Path) -> Vec<String>) -> World {
        let mut world = World::directory(vec!["--mock".into()]);
        world.arguments.extend(more(&world.base));
        fs::create_dir_all(world.root()).unwrap();
        fs::write(world.root().join("domusd.toml"), "[test]\ndomain = false\n").unwrap();
        world.start();
        world
    }

    /// A daemon for guests, in a network and a mount namespace of this process's own.
    pub fn with_guests() -> Result<World, String> {
        for program in ["/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-img"] {
            if !Path::new(program).exists() {
                return Err(format!("{program} is not installed (scripts/setup.sh)"));
            }
        }
        own_namespaces()?;
        let mut world = World::directory(vec![]);
        world.start();
        Ok(world)
    }

    /// As [`World::with_guests`], for containers; `settings` is the daemon's configuration file.
    pub fn with_containers(settings: &str) -> Result<World, String> {
        own_namespaces()?;
        let mut world = World::directory(vec![]);
        // As on a real host: /run is a tmpfs, the state is on a disk.
        let run = world.root().join("run");
        fs::create_dir_all(&run).unwrap();
        let ids = PathBuf::from(ID_RANGES);
        fs::create_dir_all(&ids).unwrap();
        for dir in [&run, &ids] {
            let flags = nix::mount::MsFlags::MS_NOSUID | nix::mount::MsFlags::MS_NODEV;
            nix::mount::mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some("mode=755"))
                .map_err(|error| format!("tmpfs on '{}': {error}", dir.display()))?;
        }
        fs::write(world.root().join("domusd.toml"), settings).unwrap();
        world.start();
        Ok(world)
    }

    fn directory(arguments: Vec<String>) -> World {
        let base = nix::unistd::mkdtemp("/tmp/domus-bench.XXXXXX").unwrap();
        fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
        World { base, daemon: None, arguments }
    }

    pub fn root(&self) -> PathBuf {
        self.base.join("root")
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Starts the daemon; the time until it answered a first call.
    pub fn start(&mut self) -> Duration {
        let start = Instant::now();
        let log = fs::File::create(self.base.join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_domusd"))
            .arg("--root")
            .arg(self.root())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(child);
        let root = if self.arguments.is_empty() { crate::client::QEMU } else { crate::client::TEST };
        let end = start + Duration::from_secs(30);
        let mut client = loop {
            match Client::connect(&self.root().join("run/dbus-sock")) {
                Ok(client) => break client,
                Err(error) if Instant::now() > end => panic!("the daemon does not answer: {error}"),
                Err(_) => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        client.call(root, crate::client::CONNECT, "ListDomains", &(0u32,));
        start.elapsed()
    }

    pub fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let pid = nix::unistd::Pid::from_raw(daemon.id().cast_signed());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _ = daemon.wait();
        }
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.root().join("run/dbus-sock")).unwrap()
    }

    /// RSS and PSS in KiB.
    pub fn memory(&self) -> (u64, u64) {
        (rollup(self.pid(), "Rss:"), pss(self.pid()))
    }
}

/// A line of /proc/PID/smaps_rollup, KiB.
fn rollup(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or("0 0");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Proportional set size of a process, KiB.
pub fn pss(pid: u32) -> u64 {
    rollup(pid, "Pss:")
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
        for dir in [self.root().join("run"), PathBuf::from(ID_RANGES)] {
            let _ = nix::mount::umount2(&dir, nix::mount::MntFlags::MNT_DETACH);
        }
        let _ = fs::remove_dir_all(&self.base);
    }
}

/// Once per process: an empty network with the bridge in it, and a private mount table.
pub fn own_namespaces() -> Result<(), String> {
    static DONE: std::sync::OnceLock<Result<(), String>> = std::sync::OnceLock::new();
    DONE.get_or_init(|| {
        if !nix::unistd::geteuid().is_root() {
            return Err("needs root (namespaces, taps, guests' users)".into());
        }
        nix::sched::unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).map_err(|error| error.to_string())?;
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(|error| error.to_string())?;
        own_sysfs().map_err(|error| format!("/sys: {error}"))?;
        for line in [
            "link set lo up".to_string(),
            format!("link add {BRIDGE} type bridge"),
            format!("addr add 192.0.2.1/24 dev {BRIDGE}"),
            format!("link set {BRIDGE} up"),
        ] {
            let status = Command::new("ip").args(line.split(' ')).status().map_err(|error| error.to_string())?;
            if !status.success() {
                return Err(format!("ip {line} failed"));
            }
        }
        Ok(())
    })
    .clone()
}

/// /sys shows the links of the network namespace it was mounted in: a new one, with the cgroups of the old.
fn own_sysfs() -> rustix::io::Result<()> {
    use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let cgroups = open_tree(rustix::fs::CWD, "/sys/fs/cgroup", clone)?;
    mount("sysfs", "/sys", "sysfs", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)?;
    move_mount(&cgroups, "", rustix::fs::CWD, "/sys/fs/cgroup", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Nova's guest without an operating system, with its files below `base`; QEMU's start does not depend on them.
pub fn nova_guest(base: &Path) -> String {
    let directory = base.join("instances").join(UUID);
    let backing = base.join("instances/_base");
    fs::create_dir_all(&directory).unwrap();
    fs::create_dir_all(&backing).unwrap();
    fs::File::create(backing.join("base")).unwrap().set_len(64 << 20).unwrap();
    fs::File::create(directory.join("disk.config")).unwrap().set_len(64 << 10).unwrap();
    let status = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .args([backing.join("base"), directory.join("disk")])
        .status()
        .unwrap();
    assert!(status.success());
    let xml = nova_xml(NAME, UUID, base);
    ["kernel", "initrd", "cmdline"].iter().fold(xml, |xml, element| {
        let (start, close) = (xml.find(&format!("<{element}>")).unwrap(), format!("</{element}>"));
        let end = xml.find(&close).unwrap() + close.len();
        format!("{}{}", &xml[..start], &xml[end..])
    })
}

/// Nova's XML under another name.
pub fn nova_xml(name: &str, uuid: &str, base: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nova/qemu-spawn-domain.xml");
    fs::read_to_string(path)
        .unwrap()
        .replace("@WORKDIR@", base.to_str().unwrap())
        .replace(UUID, uuid)
        .replace(NAME, name)
}
