//! Paths that lead elsewhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use domus::lxc::spec::{Mount, MountSource, Root};

use crate::harness::{Outcome, verdict};
use crate::lxc_support::*;

/// A file system for a target on the kernel's own, in every spelling.
pub fn mounts_over_kernel_file_systems() -> Outcome {
    let (mut broken, mut odd) = (Vec::new(), Vec::new());
    for target in [
        "/proc",
        "/proc/sys",
        "/proc/self/attr",
        "/sys",
        "/sys/fs",
        "/mnt/../proc",
        "//proc//1",
        "/link",
        "/link/bus",
        "/mnt/deep/../../../proc/sys/net",
        "/up/up/proc",
    ] {
        let (record, log) = run_script("echo runs", |spec, dir| {
            symlink("/proc", dir.join("root/link")).unwrap();
            symlink("..", dir.join("root/up")).unwrap();
            let source = MountSource::Ram { size: None };
            spec.mounts.push(Mount { source, target: target.into(), readonly: false });
        });
        match record.message {
            None => broken.push(format!("a tmpfs was mounted on {target} ({})", log.trim())),
            Some(message) if message.contains("kernel file systems must not be covered") => {}
            Some(message) => odd.push(format!("{target}: {message}")),
        }
    }
    assert!(odd.is_empty() || !broken.is_empty(), "neither mounted nor refused for its place: {odd:?}");
    verdict(&broken)
}

/// A directory of the host that must stay as it is, and what became of it.
struct Victim(tempfile::TempDir);

impl Victim {
    fn new() -> Victim {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("canary"), "alive").unwrap();
        Victim(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn harm(&self) -> Option<String> {
        let names: Vec<_> = fs::read_dir(self.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        let whole = names == ["canary"] && fs::read_to_string(self.path().join("canary")).unwrap() == "alive";
        (!whole).then(|| format!("the host's directory was written to: {names:?}"))
    }
}

fn ram(target: &str) -> Mount {
    Mount { source: MountSource::Ram { size: None }, target: target.into(), readonly: false }
}

/// Mount points that lead out of the root: absolute links, chains of `..`, links to links, a file's place.
pub fn links_out_of_the_root() -> Outcome {
    let victim = Victim::new();
    let outside = victim.path().to_str().unwrap().to_string();
    let mut broken = Vec::new();
    let targets =
        ["/evil/made", "/evil/a/b/c", "/chain/made", "/mnt/up/made", &format!("/../../../../../../..{outside}/made")];
    for target in targets {
        let (_, _) = run_script("ls /", |spec, dir| {
            let root = dir.join("root");
            // As the host's root, whom no file mode stops.
            spec.ids = None;
            symlink(&outside, root.join("evil")).unwrap();
            symlink("evil", root.join("chain")).unwrap();
            symlink(format!("../../../../../../../..{outside}"), root.join("mnt/up")).unwrap();
            spec.mounts.push(ram(target));
            let file = MountSource::Dir { path: dir.join("root/init") };
            spec.mounts.push(Mount { source: file, target: format!("{target}-file"), readonly: true });
        });
        broken.extend(victim.harm().map(|harm| format!("{target}: {harm}")));
        if !broken.is_empty() {
            break;
        }
    }
    verdict(&broken)
}

/// Somebody swaps a directory of the root for a link to the host's while containers start in it.
pub fn a_racing_renamer() -> Outcome {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let victim = Victim::new();
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path(), "true");
    fs::create_dir(root.join("mnt/real")).unwrap();
    symlink(victim.path(), root.join("mnt/link")).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let renamer = {
        let (stop, real, link) = (stop.clone(), root.join("mnt/real"), root.join("mnt/link"));
        std::thread::spawn(move || {
            let mut swaps = 0u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        })
    };
    let mut started = 0;
    // Most starts meet a swap and fail: go on until one got through.
    for round in 0..200 {
        if round >= 12 && started > 0 {
            break;
        }
        let run_dir = dir.path().join(format!("run{round}"));
        fs::create_dir(&run_dir).unwrap();
        let mut spec = spec(&run_dir, &root);
        spec.ids = None;
        spec.mounts =
            (0..if round % 2 == 0 { 6 } else { 1 }).map(|index| ram(&format!("/mnt/real/{round}-{index}/x"))).collect();
        started += u32::from(Run::start(&spec).output().0.message.is_none());
        if victim.harm().is_some() {
            break;
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let swaps = renamer.join().unwrap();
    let harm = victim.harm();
    assert!(swaps > 100, "the renamer came to {swaps} swaps only");
    assert!(started > 0 || harm.is_some(), "no container started beside the renamer");
    verdict(&harm.into_iter().collect::<Vec<_>>())
}

/// System directories that are links: to the host's, up and out, within the root (CVE-2026-41579).
pub fn links_for_system_directories() -> Outcome {
    let mut broken = Vec::new();
    for (name, target) in [
        ("dev", "/etc"),
        ("proc", "/etc"),
        ("sys", "/"),
        ("dev", "../../../../../etc"),
        ("proc", "tmp"),
        ("sys", "mnt"),
    ] {
        let (record, log) = run_script("echo runs", |_, dir| symlink(target, dir.join("root").join(name)).unwrap());
        match record.message {
            Some(message) if message.contains(&format!("'/{name}'")) && message.contains("symbolic link") => {}
            other => broken.push(format!("/{name} -> {target} was followed: {other:?} {log}")),
        }
    }
    verdict(&broken)
}

/// The image's own /dev has a null that keeps what is written to it, and a link to a file of the host.
pub fn nodes_of_the_image() -> Outcome {
    let script = "echo secret > /dev/null; cat /dev/null; ls /dev/evil && echo the image\\'s; stat -c %t:%T /dev/null";
    let (record, log) = run_script(script, |_, dir| {
        let dev = dir.join("root/dev");
        for name in ["pts", "shm", "mqueue"] {
            fs::create_dir_all(dev.join(name)).unwrap();
        }
        for name in ["null", "console", "evil"] {
            fs::write(dev.join(name), "").unwrap();
            fs::set_permissions(dev.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        }
    });
    assert_eq!(record.message, None);
    let broken = ["secret", "the image's"].into_iter().filter(|word| log.contains(*word));
    verdict(&broken.map(|word| format!("{word}: the image's node is used: {}", log.trim())).collect::<Vec<_>>())
}

/// A link for a node in the image's /dev (CVE-2025-31133): nothing is read or masked through it.
pub fn a_link_for_a_node_of_the_image() -> Outcome {
    let script = "echo secret > /dev/null; cat /tmp/catch; stat -c %t:%T /dev/null; head -c 1 /proc/kallsyms | wc -c";
    let (record, log) = run_script(script, |_, dir| {
        let dev = dir.join("root/dev");
        for name in ["pts", "shm", "mqueue"] {
            fs::create_dir_all(dev.join(name)).unwrap();
        }
        fs::write(dev.join("console"), "").unwrap();
        fs::write(dir.join("root/tmp/catch"), "").unwrap();
        symlink("/tmp/catch", dev.join("null")).unwrap();
    });
    let broken = record.message.is_some() || log.contains("secret") || !log.contains("1:3\n0\n");
    verdict(
        &broken
            .then(|| format!("the link is followed: {:?} {}", record.message, log.trim()))
            .into_iter()
            .collect::<Vec<_>>(),
    )
}

/// Device nodes that the image brings.
pub fn device_nodes_in_the_image() -> Outcome {
    let (record, log) = run_script("head -c 4 /mnt/zero | wc -c; echo done", |_, dir| {
        use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
        let path = dir.join("root/mnt/zero");
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 5)).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    });
    assert_eq!(record.message, None);
    assert!(log.ends_with("done\n"), "{log}");
    let broken = log.contains("4\n").then(|| "a device node of the image opens".to_string());
    verdict(&broken.into_iter().collect::<Vec<_>>())
}

/// The host's terminals: a console opened by its name would be the one that has that number outside (CVE-2025-52565).
pub fn a_terminal_of_the_same_number() -> Outcome {
    crate::start::in_own_mounts(|| {
        use rustix::fs::{Mode, OFlags};
        let none = None::<&str>;
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("devpts"), "/dev/pts", Some("devpts"), flags, Some("newinstance,ptmxmode=0666"))
            .unwrap();
        let _ = none;
        let master =
            rustix::fs::open("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        assert!(Path::new("/dev/pts/0").exists());
        let (record, log) = run_script("echo for the console only", |_, _| {});
        let mut buffer = [0; 256];
        let read = rustix::io::read(&master, &mut buffer).unwrap_or(0);
        let stray = String::from_utf8_lossy(&buffer[..read]).into_owned();
        let broken = stray.contains("console only") || !log.contains("console only");
        verdict(
            &broken
                .then(|| format!("the host's terminal got {stray:?} ({:?})", record.message))
                .into_iter()
                .collect::<Vec<_>>(),
        )
    })
}

/// A mount over a file of /proc that the supervisor writes (CVE-2025-52881, CVE-2019-19921).
pub fn a_mount_over_a_file_of_proc() -> Outcome {
    crate::start::in_own_mounts(|| {
        let dir = tempfile::tempdir().unwrap();
        let catch = dir.path().join("catch");
        fs::write(&catch, "").unwrap();
        // The shell's pid is the supervisor's.
        let before = format!("mount --bind {} /proc/$$/oom_score_adj;", catch.display());
        let root = busybox_root(dir.path(), "true");
        let run_dir = dir.path().join("run");
        fs::create_dir(&run_dir).unwrap();
        // Where something covers a part of /proc, the kernel refuses a user namespace a proc of its own.
        let mut spec = spec(&run_dir, &root);
        spec.ids = None;
        let (record, _) = Run::after(&before, &spec).output();
        assert_eq!(record.message, None);
        let caught = fs::read_to_string(&catch).unwrap();
        verdict(
            &(!caught.is_empty())
                .then(|| format!("a write to /proc came to another file: {caught:?}"))
                .into_iter()
                .collect::<Vec<_>>(),
        )
    })
}

/// A file system type that is none for images: the kernel's own, with the host's view.
pub fn the_hosts_proc_as_an_image() -> Outcome {
    let me = std::process::id();
    let (record, log) = run_script(&format!("test -d /mnt/{me} && echo sees the host; echo done"), |spec, _| {
        let source = MountSource::Image { path: "proc".into(), fstype: "proc".into(), loop_device: false };
        // Without a user namespace, which would refuse to shift such a file system.
        spec.ids = None;
        spec.mounts.push(Mount { source, target: "/mnt".into(), readonly: false });
    });
    if let Some(message) = &record.message {
        assert!(message.contains("'proc'") && message.contains("is not one of"), "{message}");
    }
    verdict(
        &log.contains("sees the host")
            .then(|| "the host's proc is mounted inside".to_string())
            .into_iter()
            .collect::<Vec<_>>(),
    )
}

/// A disk of the guest's whose beginning is the header of a qcow2 image that names a file of the host as its backing
/// file. It is mounted as what the definition says it is: its own ext4, which begins behind that header. Taken for
/// anything else it would show the host's file.
pub fn a_disk_that_says_it_is_another_format() -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let root =
        busybox_root(dir.path(), "cat /content; grep ' / ' /proc/1/mountinfo; test -d /1/fd && echo sees the host");
    fs::write(root.join("content"), "its own content\n").unwrap();
    let image = dir.path().join("disk.raw");
    let Some(()) = image_of(&root, &image) else { return Outcome::Skipped("needs mkfs.ext4 and loop devices".into()) };
    let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
    let backing = b"/etc/shadow";
    header.extend(256u64.to_be_bytes());
    header.extend((backing.len() as u32).to_be_bytes());
    header.resize(256, 0);
    header.extend(backing);
    // The first 1024 bytes are the boot block, which ext4 leaves alone.
    let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &header, 0).unwrap();
    drop(file);
    let run = |number: u32, fstype: &str| {
        let run_dir = dir.path().join(format!("run{number}"));
        fs::create_dir(&run_dir).unwrap();
        let mut spec = spec(&run_dir, &root);
        spec.ids = None;
        spec.root = Root::Image { source: image.clone(), fstype: fstype.into(), loop_device: true, readonly: false };
        Run::start(&spec).output()
    };
    let (record, log) = run(0, "ext4");
    assert_eq!(record.message, None);
    assert!(log.starts_with("its own content\n") && log.contains(" - ext4 /dev/loop"), "{log}");
    // No word for "find out", and no type that is none of a disk.
    let mut broken = Vec::new();
    for (number, fstype) in ["auto", "qcow2", "tmpfs", "overlay", "proc"].into_iter().enumerate() {
        let (record, _) = run(number as u32 + 1, fstype);
        let message = record.message.unwrap_or_default();
        if !message.contains("is not one of") {
            broken.push(format!("type '{fstype}' was tried: {message}"));
        }
    }
    verdict(&broken)
}
