//! Volumes when things go wrong half-way: the daemon killed, the disk full, the client gone.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::harness::{DEADLINE, Lab, Virsh, eventually, program, skip, test_name};

const MIB: u64 = 1 << 20;

fn has_qemu_img() -> bool {
    let there = program("qemu-img").is_some();
    if !there {
        skip(&test_name(), "qemu-img is not installed (qemu-utils)");
    }
    there
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn filled(path: &Path, length: u64, byte: u8) {
    fs::write(path, vec![byte; usize::try_from(length).unwrap()]).unwrap();
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// What the file holds, if it is the same byte all over.
fn one_byte(path: &Path) -> Option<u8> {
    let bytes = fs::read(path).unwrap();
    bytes.iter().all(|byte| *byte == bytes[0]).then(|| bytes[0])
}

/// A daemon that runs no guest, with a running pool `p`.
fn lab() -> (Lab, PathBuf) {
    let mut lab = Lab::bare(&[]);
    lab.configure("drivers = ['qemu']\n");
    lab.start();
    lab.wait_ready();
    let dir = lab.work().join("pool");
    fs::create_dir(&dir).unwrap();
    start_pool(&lab, "p", &dir);
    (lab, dir)
}

fn start_pool(lab: &Lab, name: &str, dir: &Path) {
    lab.ok(&["pool-define-as", name, "dir", "--target", &dir.display().to_string()]);
    lab.ok(&["pool-start", name]);
}

/// Each change of a volume with the daemon killed at each of its steps: the volume is then as before or as after, never
/// shorter, longer or gone, and nothing keeps it from being changed again.
#[test]
fn a_killed_daemon_leaves_a_changed_volume_whole() {
    let (mut lab, dir) = lab();
    let volume = dir.join("v");
    let source = lab.work().join("source");
    filled(&source, 3 * MIB, b'n');
    let source = source.display().to_string();
    let resize = &["vol-resize", "v", "6M", "--pool", "p"][..];
    let allocate = &["vol-resize", "v", "6M", "--pool", "p", "--allocate"][..];
    let wipe = &["vol-wipe", "v", "--pool", "p"][..];
    let upload = &["vol-upload", "v", &source, "--pool", "p"][..];
    let delete = &["vol-delete", "v", "--pool", "p"][..];
    // The point, the change, whether the volume is sparse, and what it may be afterwards: bytes long, all of one byte.
    let cases = [
        ("volume.resize", resize, false, &[(4 * MIB, Some(b'o'))][..]),
        ("volume.resize", allocate, false, &[(4 * MIB, Some(b'o'))]),
        ("volume.allocated", allocate, false, &[(4 * MIB, Some(b'o'))]),
        ("volume.resized", resize, false, &[(6 * MIB, None)]),
        ("volume.wipe", wipe, false, &[(4 * MIB, Some(b'o'))]),
        ("volume.wipe", wipe, true, &[(4 * MIB, None)]),
        ("volume.wiped", wipe, true, &[(4 * MIB, Some(0))]),
        // In place, as with libvirt: what was sent is there, what was not is as before.
        ("volume.upload", upload, false, &[(4 * MIB, Some(b'o'))]),
        ("volume.upload:kill:2", upload, false, &[(4 * MIB, None)]),
        ("volume.uploaded", upload, false, &[(4 * MIB, None)]),
        ("volume.delete", delete, false, &[(4 * MIB, Some(b'o'))]),
    ];
    for (point, change, sparse, allowed) in cases {
        let what = format!("{change:?} with a death at {point}");
        filled(&volume, if sparse { MIB } else { 4 * MIB }, b'o');
        File::options().write(true).open(&volume).unwrap().set_len(4 * MIB).unwrap();
        lab.ok(&["pool-refresh", "p"]);
        lab.stop();
        let point = if point.contains(':') { point.to_string() } else { format!("{point}:kill") };
        lab.start_with(&[("DOMUS_FAULT", &point)]);
        lab.wait_ready();
        lab.fails(change);
        lab.wait_end();
        lab.start();
        lab.wait_ready();
        assert_eq!(names(&dir), ["v"], "{what}");
        let now = (length(&volume), one_byte(&volume));
        assert!(allowed.contains(&now), "{what}: {now:?}");
        let info = lab.ok(&["vol-info", "v", "--pool", "p", "--bytes"]);
        assert!(info.contains(&format!("{} bytes", now.0)), "{what}: {info}");
        lab.ok(change);
        match change[0] {
            "vol-delete" => assert!(names(&dir).is_empty(), "{what}"),
            "vol-resize" => assert_eq!(length(&volume), 6 * MIB, "{what}"),
            "vol-wipe" => assert_eq!((length(&volume), one_byte(&volume)), (4 * MIB, Some(0)), "{what}"),
            _ => assert_eq!(fs::read(&volume).unwrap()[..3 << 20], fs::read(&source).unwrap(), "{what}"),
        }
    }
}

/// A file system of a few megabytes that goes away with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: PathBuf) -> SmallDisk {
        fs::create_dir(&path).unwrap();
        mount(Some("small"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=8m")).unwrap();
        SmallDisk(path)
    }

    fn free(&self) -> u64 {
        nix::sys::statvfs::statvfs(&self.0).unwrap().blocks_free()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left_on_it() {
    let Some(lab) = Lab::qemu() else { return };
    let tool = has_qemu_img();
    let small = SmallDisk::at(lab.work().join("small"));
    let large = lab.work().join("large");
    fs::create_dir(&large).unwrap();
    start_pool(&lab, "p", &small.0);
    start_pool(&lab, "q", &large);
    filled(&large.join("source"), 32 * MIB, b'x');
    lab.ok(&["pool-refresh", "q"]);
    lab.ok(&["vol-create-as", "p", "v", "1M"]);
    let before = small.free();
    let clone = |format: &str| {
        let xml = format!("<volume><name>new</name><target><format type='{format}'/></target></volume>");
        lab.write(&format!("{format}.xml"), &xml)
    };
    let (raw, qcow2) = (clone("raw"), clone("qcow2"));
    let file = large.join("source").display().to_string();
    for (words, needs_tool) in [
        (&["vol-create-as", "p", "new", "64M", "--allocation", "64M"][..], false),
        (&["vol-create-from", "p", &raw, "source", "--inputpool", "q"], false),
        (&["vol-create-from", "p", &qcow2, "source", "--inputpool", "q"], true),
        (&["vol-upload", "v", &file, "--pool", "p"], false),
        (&["vol-resize", "v", "64M", "--pool", "p", "--allocate"], false),
    ] {
        if needs_tool && !tool {
            continue;
        }
        let said = lab.fails(words);
        assert!(said.contains("o space left on device") || said.contains("ot enough space left"), "{words:?}: {said}");
        assert_eq!((names(&small.0), length(&small.0.join("v"))), (vec!["v".to_string()], MIB), "{words:?}");
        assert_eq!(small.free(), before, "{words:?}");
    }
    // It is still a volume like any other.
    lab.ok(&["vol-delete", "v", "--pool", "p"]);
    for pool in ["p", "q"] {
        lab.ok(&["pool-destroy", pool]);
        lab.ok(&["pool-undefine", pool]);
    }
    drop(small);
    lab.finish();
}

/// `qemu-img` processes that the daemon started.
fn tools(lab: &Lab) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", lab.pid())).unwrap();
    let children = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let pids: Vec<String> = children.flat_map(|line| line.split(' ').map(String::from).collect::<Vec<_>>()).collect();
    let is_tool = |pid: &String| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "qemu-img\n");
    pids.into_iter().filter(is_tool).collect()
}

fn end(mut client: Child) {
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn a_client_that_goes_away_takes_its_new_volume_with_it() {
    if !has_qemu_img() {
        return;
    }
    let (lab, dir) = lab();
    let virsh = Virsh::on(&lab, "qemu:///system", "libvirt-sock");
    // Tables for so many clusters take a while, and are still within what ext4 takes as a file.
    let words = ["vol-create-as", "p", "big", "8T", "--allocation", "0", "--format", "qcow2", "--prealloc-metadata"];
    let clients = [Some(lab.cli(&words)), virsh.map(|virsh| virsh.command(&words))];
    for mut client in clients.into_iter().flatten() {
        let client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("qemu-img at work", DEADLINE, || {
            let written = || names(&dir).iter().any(|name| fs::metadata(dir.join(name)).is_ok_and(|m| m.blocks() > 0));
            (!tools(&lab).is_empty() && written()).then_some(())
        });
        end(client);
        eventually("the end of qemu-img", DEADLINE, || tools(&lab).is_empty().then_some(()));
        eventually("the end of its file", DEADLINE, || names(&dir).is_empty().then_some(()));
        eventually("the end of the job", DEADLINE, || lab.run(&["pool-refresh", "p"]).success().then_some(()));
    }
    // Nothing holds the name.
    lab.ok(&["vol-create-as", "p", "big", "1M"]);
    // An upload that ends early leaves the volume as long as it was.
    let volume = dir.join("big");
    let fifo = lab.work().join("endless");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    if let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") {
        let mut command = virsh.command(&["vol-upload", "big", fifo.to_str().unwrap(), "--pool", "p"]);
        let client = command.stdout(Stdio::null()).spawn().unwrap();
        let mut feed = File::options().read(true).write(true).open(&fifo).unwrap();
        // Held to the end, so that the client sees none; and written to by itself, for a client that reads no more would
        // stop this test.
        let held = feed.try_clone().unwrap();
        std::thread::spawn(move || (0..32).try_for_each(|_| feed.write_all(&[b'x'; 65536])));
        eventually("a volume that has grown", DEADLINE, || (length(&volume) > MIB).then_some(()));
        end(client);
        eventually("the former length", DEADLINE, || (length(&volume) == MIB).then_some(()));
        drop(held);
    }
    eventually("a volume that nobody holds", DEADLINE, || {
        lab.run(&["vol-delete", "big", "--pool", "p"]).success().then_some(())
    });
}
