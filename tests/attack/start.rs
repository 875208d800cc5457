//! The order of a start: whose the namespaces are, what of the host's mounts is seen, who dies with whom.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::libc;
use nix::mount::MsFlags;

use domus::lxc::spec::Root;

use crate::harness::{Outcome, verdict};
use crate::lxc_support::*;
use crate::probe::say;

/// Runs `work` on a thread with mounts of its own, which nothing of this machine shares.
pub fn in_own_mounts<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)
            .unwrap();
        work()
    })
    .join()
    .unwrap()
}

/// Identity of the user namespace that owns a namespace.
fn owner(namespace: &str) -> (u64, u64) {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    let file = fs::File::open(namespace).unwrap();
    // SAFETY: takes no argument; on success the result is a new fd that nobody else owns.
    let fd = unsafe {
        let fd = libc::ioctl(file.as_raw_fd(), NS_GET_USERNS);
        assert!(fd >= 0, "{namespace}: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    };
    let stat = rustix::fs::fstat(&fd).unwrap();
    (stat.st_dev, stat.st_ino)
}

/// A namespace that the host's user namespace owns is one the container's root has no power in, and the other way round.
pub fn namespaces_of_the_host() -> Outcome {
    // A container without a name of its own: setting one needs a namespace of its own.
    let live = live("", |spec, _| spec.hostname = None);
    let init = live.running.init;
    let stat = rustix::fs::stat(format!("/proc/{init}/ns/user")).unwrap();
    let own = (stat.st_dev, stat.st_ino);
    let mut broken = Vec::new();
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        if owner(&format!("/proc/{init}/ns/{kind}")) != own {
            broken.push(format!("the {kind} namespace is not the container's"));
        }
    }
    verdict(&broken)
}

/// A host whose root is shared, as systemd makes it: mounts of the start must not come back to it.
pub fn mounts_that_come_back_to_the_host() -> Outcome {
    in_own_mounts(|| {
        nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>).unwrap();
        let table = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let before = table();
        let mut new = Vec::new();
        for overlay in [false, true] {
            let live = live("", |spec, dir| {
                if overlay {
                    let changes = dir.join("changes");
                    let (upper, work) = (changes.join("upper"), changes.join("work"));
                    fs::create_dir_all(&upper).and_then(|()| fs::create_dir_all(&work)).unwrap();
                    spec.root = Root::Overlay { lower: vec![dir.join("root")], upper, work };
                }
            });
            let now = table();
            drop(live.run);
            let lines = now.lines().filter(|line| !before.contains(*line));
            new.extend(lines.map(|line| format!("a mount on the host: {line}")));
        }
        verdict(&new)
    })
}

/// The host's tree below, beside or over the container's root.
pub fn the_old_root() -> Outcome {
    let (record, log) = run_script("cat /proc/1/mountinfo", |_, _| {});
    assert_eq!(record.message, None);
    let points: Vec<_> = log.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    assert!(points.contains(&"/") && points.contains(&"/dev/pts"), "{log}");
    // The root itself is of the host's file system; no other mount of the host may be there.
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let devices: Vec<_> = host.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    let foreign = log.lines().filter(|line| {
        let mut fields = line.split(' ').skip(2);
        let (device, root, point) =
            (fields.next().unwrap_or_default(), fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        devices.contains(&device) && (root == "/" || point != "/") && !point.starts_with("/proc/") && point != "/sys"
    });
    verdict(&foreign.map(|line| format!("the host's mount is there: {line}")).collect::<Vec<_>>())
}

/// The supervisor is killed: what it holds must not run on without it.
pub fn a_life_after_the_supervisor() -> Outcome {
    let mut live = live("", |_, _| {});
    let init = live.running.init;
    live.run.child.kill().unwrap();
    live.run.child.wait().unwrap();
    let died = ends_soon(init);
    if !died {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::Signal::SIGKILL);
    }
    verdict(&(!died).then(|| "init runs on without its supervisor".to_string()).into_iter().collect::<Vec<_>>())
}

/// Whether a process ends within what is much longer than it takes.
fn ends_soon(pid: i32) -> bool {
    for _ in 0..1000 {
        // Dead is dead, also where nobody has collected it.
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) if !stat.contains(") Z ") => {}
            _ => return true,
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    false
}

/// Takes back that it dies with its parent.
pub fn clear_death_signal_inside() {
    rustix::process::set_parent_process_death_signal(None).unwrap();
    say("cleared");
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1000));
    }
}

/// A host whose root is a directory of the test: a file system in memory with a shell, the supervisor and what it needs.
/// Whatever becomes of it, it is not this machine's.
fn in_a_throw_away_host<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_path_buf();
    let identity = || {
        let root = fs::metadata("/").unwrap();
        (root.dev(), root.ino())
    };
    let machine = identity();
    in_own_mounts(move || {
        let none = None::<&str>;
        let (flags, bind) = (MsFlags::empty(), MsFlags::MS_BIND | MsFlags::MS_REC);
        nix::mount::mount(Some("tmpfs"), &place, Some("tmpfs"), flags, none).unwrap();
        busybox_root(&place, "");
        let host = place.join("root");
        nix::mount::mount(Some(&host), &host, none, bind, none).unwrap();
        for name in ["proc", "sys", "dev", "old", "run"] {
            fs::create_dir(host.join(name)).unwrap();
        }
        nix::mount::mount(Some("proc"), &host.join("proc"), Some("proc"), flags, none).unwrap();
        nix::mount::mount(Some("sysfs"), &host.join("sys"), Some("sysfs"), flags, none).unwrap();
        nix::mount::mount(Some("/dev"), &host.join("dev"), none, bind, none).unwrap();
        // The C library, read-only.
        for name in ["usr", "lib", "lib64"] {
            let place = host.join(name);
            match fs::read_link(Path::new("/").join(name)) {
                Ok(target) => std::os::unix::fs::symlink(target, place).unwrap(),
                Err(_) => {
                    fs::create_dir(&place).unwrap();
                    nix::mount::mount(Some(&Path::new("/").join(name)), &place, none, bind, none).unwrap();
                    let readonly = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                    nix::mount::mount(none, &place, none, readonly, none).unwrap();
                }
            }
        }
        let binary = Path::new(env!("CARGO_BIN_EXE_domus-run"));
        let copy = host.join(binary.strip_prefix("/").unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(binary, &copy).unwrap();
        nix::unistd::chdir(&host).unwrap();
        nix::unistd::pivot_root(".", "old").unwrap();
        nix::mount::umount2("/old", nix::mount::MntFlags::MNT_DETACH).unwrap();
        nix::unistd::chdir("/").unwrap();
        assert!(identity() != machine, "this is the machine's own root");
        work()
    })
}

/// The host's own root for a container's, in every spelling but the one that is refused as text, and none at all.
pub fn the_hosts_root_by_another_name() -> Outcome {
    in_a_throw_away_host(|| {
        fs::create_dir_all("/srv").unwrap();
        std::os::unix::fs::symlink("/", "/srv/link").unwrap();
        fs::create_dir("/srv/bind").unwrap();
        nix::mount::mount(Some("/"), "/srv/bind", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let (mut broken, mut odd) = (Vec::new(), Vec::new());
        for (number, source) in
            ["", "//", "/.", "/srv/..", "/proc/self/root", "/srv/link", "/srv/bind"].into_iter().enumerate()
        {
            for privileged in [false, true] {
                for below in [false, true] {
                    fs::write("/canary", "alive").unwrap();
                    let run_dir = Path::new("/run").join(format!("{number}-{privileged}-{below}"));
                    fs::create_dir(&run_dir).unwrap();
                    let mut spec = spec(&run_dir, Path::new("/"));
                    use domus::lxc::spec::{Mount, MountSource, Root};
                    spec.root = match source {
                        "" => Root::HostOverlay { size: 1 << 24 },
                        _ if below => Root::HostOverlay { size: 1 << 24 },
                        _ => Root::Dir { source: source.into(), readonly: false },
                    };
                    if below && !source.is_empty() {
                        let source = MountSource::Dir { path: source.into() };
                        spec.mounts.push(Mount { source, target: "/mnt".into(), readonly: false });
                    }
                    if privileged {
                        spec.ids = None;
                    }
                    spec.init.argv = ["/bin/busybox", "sh", "-c", "echo dead > /canary; echo dead > /mnt/canary"]
                        .map(Into::into)
                        .into();
                    let (record, log) = Run::start(&spec).output();
                    if fs::read_to_string("/canary").unwrap() != "alive" {
                        broken.push(format!(
                            "'{source}' (below: {below}, privileged: {privileged}) is the host's root read-write"
                        ));
                    } else if !source.is_empty() {
                        let message = record.message.unwrap_or_else(|| format!("started: {log}"));
                        if !message.contains("host's own root") {
                            odd.push(format!("'{source}': {message}"));
                        }
                    }
                }
            }
        }
        assert!(odd.is_empty() || !broken.is_empty(), "neither used nor refused for what it is: {odd:?}");
        verdict(&broken)
    })
}
