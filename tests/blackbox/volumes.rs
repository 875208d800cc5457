//! Volumes and base images through virsh and domus: made, copied, changed, streamed, and what a killed daemon leaves.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::harness::{Lab, Virsh, skip, test_name};

/// A daemon with a running pool `p`; it runs no guest.
fn lab() -> (Lab, PathBuf) {
    let mut lab = Lab::bare(&[]);
    lab.configure("drivers = ['qemu']\n");
    lab.start();
    lab.wait_ready();
    let dir = lab.work().join("pool");
    fs::create_dir(&dir).unwrap();
    (lab, dir)
}

fn start_pool(virsh: &Virsh<'_>, dir: &Path) {
    virsh.ok(&["pool-create-as", "p", "dir", "--target", &dir.display().to_string()]);
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn has_qemu_img() -> bool {
    let there = Path::new("/usr/bin/qemu-img").exists();
    if !there {
        skip(&test_name(), "qemu-img is not installed (qemu-utils)");
    }
    there
}

fn sparse(path: &Path, length: u64, data: &[(u64, &[u8])]) {
    let file = File::create(path).unwrap();
    file.set_len(length).unwrap();
    for (at, bytes) in data {
        file.write_all_at(bytes, *at).unwrap();
    }
}

fn read(path: &Path, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
    bytes
}

#[test]
fn volumes_live_under_virsh() {
    let (lab, dir) = lab();
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    start_pool(&virsh, &dir);
    assert_eq!(virsh.ok(&["vol-create-as", "p", "a", "10M", "--allocation", "0"]).trim(), "Vol a created");
    virsh.fails(&["vol-create-as", "p", "a", "10M"], "storage volume 'a' exists already");
    virsh.fails(&["vol-create-as", "p", "b/c", "10M"], "volume name 'b/c' cannot contain '/'");
    virsh.fails(&["vol-create-as", "p", "x.part", "1M"], "cannot end in '.part'");
    virsh.fails(&["vol-create-as", "p", "m", "1M", "--prealloc-metadata"], "not supported for raw volumes");
    virsh.fails(&["vol-create-as", "p", "huge", "4E", "--allocation", "4E"], "cannot ");
    virsh.ok(&["vol-create-as", "p", "tree", "0", "--format", "dir"]);
    sparse(&dir.join("a"), 10 << 20, &[(5 << 20, b"content")]);
    assert_eq!(virsh.ok(&["vol-clone", "a", "copy", "--pool", "p"]).trim(), "Vol copy cloned from a");
    assert_eq!(read(&dir.join("copy"), 5 << 20, 7), b"content");
    virsh.fails(&["vol-clone", "a", "copy", "--pool", "p"], "storage volume name 'copy' already in use.");
    virsh.ok(&["vol-resize", "copy", "20M", "--pool", "p"]);
    virsh.ok(&["vol-resize", "copy", "5M", "--pool", "p", "--delta"]);
    assert_eq!(fs::metadata(dir.join("copy")).unwrap().len(), 25 << 20);
    virsh.fails(&["vol-resize", "copy", "15M", "--pool", "p"], "unless shrink flag explicitly specified");
    virsh.ok(&["vol-resize", "copy", "15M", "--pool", "p", "--shrink"]);
    assert!(virsh.ok(&["vol-info", "copy", "--pool", "p"]).contains("Capacity:       15.00 MiB"));
    virsh.ok(&["vol-wipe", "copy", "--pool", "p"]);
    assert_eq!(read(&dir.join("copy"), 5 << 20, 7), [0; 7]);
    virsh.fails(&["vol-wipe", "copy", "--pool", "p", "--algorithm", "trim"], "'trim' algorithm not supported");
    virsh.fails(&["vol-wipe", "tree", "--pool", "p"], "Is a directory");
    for name in ["tree", "copy"] {
        assert_eq!(virsh.ok(&["vol-delete", name, "--pool", "p"]).trim(), format!("Vol {name} deleted"));
    }
    assert_eq!(names(&dir), ["a"]);
    // The same words from domus, to the byte.
    for words in
        [&["vol-list", "p", "--details"][..], &["vol-info", "a", "--pool", "p"], &["vol-path", "a", "--pool", "p"]]
    {
        assert_eq!(lab.run(words).stdout, virsh.ok(words), "{words:?}");
    }
}

#[test]
fn qcow2_volumes_over_others() {
    if !has_qemu_img() {
        return;
    }
    let (lab, dir) = lab();
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    start_pool(&virsh, &dir);
    virsh.ok(&["vol-create-as", "p", "base", "4M"]);
    sparse(&dir.join("base"), 4 << 20, &[(1 << 20, b"content")]);
    let overlay = ["vol-create-as", "p", "over", "8M", "--format", "qcow2", "--backing-vol", "base"];
    virsh.ok(&[&overlay[..], &["--backing-vol-format", "raw"]].concat());
    let xml = virsh.ok(&["vol-dumpxml", "over", "--pool", "p"]);
    assert!(xml.contains("<backingStore>") && xml.contains("<capacity unit='bytes'>8388608</capacity>"), "{xml}");
    virsh.ok(&["vol-resize", "over", "16M", "--pool", "p"]);
    let flat = lab.write("flat.xml", "<volume><name>flat</name><target><format type='raw'/></target></volume>");
    virsh.ok(&["vol-create-from", "p", &flat, "over", "--inputpool", "p"]);
    assert_eq!(fs::metadata(dir.join("flat")).unwrap().len(), 16 << 20);
    assert_eq!(read(&dir.join("flat"), 1 << 20, 7), b"content");
    for name in ["base", "over", "flat"] {
        let metadata = fs::metadata(dir.join(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o777), (rustix::process::geteuid().as_raw(), 0o600), "{name}");
    }
    // A file that became something else is an error that names it, and nothing is left.
    sparse(&dir.join("over"), 1 << 16, &[(0, b"QFI\xfbbroken")]);
    let other = lab.write("other.xml", "<volume><name>other</name><target><format type='raw'/></target></volume>");
    virsh.fails(&["vol-create-from", "p", &other, "over", "--inputpool", "p"], "over");
    assert_eq!(names(&dir), ["base", "flat", "over"]);
}

#[test]
fn a_volume_is_encrypted_with_the_secret_it_names() {
    if !has_qemu_img() {
        return;
    }
    const UUID: &str = "22e1353d-c27e-4d6d-bf15-465053e6ba0b";
    let (mut lab, dir) = lab();
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    start_pool(&virsh, &dir);
    let xml = lab.write(
        "v.xml",
        &format!(
            "<volume><name>locked</name><capacity>1048576</capacity><target><format type='raw'/><encryption \
             format='luks'><secret type='passphrase' uuid='{UUID}'/></encryption></target></volume>"
        ),
    );
    virsh.fails(&["vol-create", "p", &xml], "no secret with matching uuid");
    let secret = lab.write("s.xml", &format!("<secret><uuid>{UUID}</uuid></secret>"));
    virsh.ok(&["secret-define", &secret]);
    virsh.fails(&["vol-create", "p", &xml], "does not have a value");
    let value = lab.write("value", "open sesame");
    virsh.ok(&["secret-set-value", UUID, "--file", &value, "--plain"]);
    virsh.ok(&["vol-create", "p", &xml]);
    assert_eq!(read(&dir.join("locked"), 0, 4), b"LUKS");
    // Which secret it was is known from then on: for a change of its size, for a copy, through a refresh.
    let open = lab.write("open.xml", "<volume><name>open</name><target><format type='raw'/></target></volume>");
    let secret = format!("<secret type='passphrase' uuid='{UUID}'/>");
    let capacity = |bytes: &str| {
        let xml = virsh.ok(&["vol-dumpxml", "locked", "--pool", "p"]);
        assert!(xml.contains(&secret) && xml.contains(&format!("<capacity unit='bytes'>{bytes}<")), "{xml}");
    };
    capacity("1048576");
    virsh.ok(&["vol-resize", "locked", "2M", "--pool", "p"]);
    capacity("2097152");
    virsh.ok(&["pool-refresh", "p"]);
    capacity("2097152");
    virsh.ok(&["vol-create-from", "p", &open, "locked", "--inputpool", "p"]);
    assert_eq!(fs::metadata(dir.join("open")).unwrap().len(), 2 << 20);
    assert_eq!(names(&dir), ["locked", "open"]);
    lab.crash();
    lab.start();
    lab.wait_ready();
    let virsh = Virsh::on(&lab, "qemu:///system", "libvirt-sock").unwrap();
    for words in
        [&["vol-resize", "locked", "3M", "--pool", "p"][..], &["vol-clone", "locked", "another", "--pool", "p"]]
    {
        virsh.fails(words, "A single <secret type='passphrase'...> element is expected in encryption description");
    }
    assert_eq!(names(&dir), ["locked", "open"]);
}

#[test]
fn twenty_sparse_gigabytes_keep_their_holes() {
    const LENGTH: u64 = 20 << 30;
    let (lab, dir) = lab();
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    start_pool(&virsh, &dir);
    let (from, to) = (lab.work().join("from"), lab.work().join("to"));
    sparse(&from, LENGTH, &[(10 << 30, b"middle"), (LENGTH - 3, b"end")]);
    let (from, to) = (from.display().to_string(), to.display().to_string());
    for program in ["virsh", "domus"] {
        virsh.ok(&["vol-create-as", "p", "v", "20G", "--allocation", "0"]);
        for words in [
            ["vol-upload", "v", &from, "--pool", "p", "--sparse"],
            ["vol-download", "v", &to, "--pool", "p", "--sparse"],
        ] {
            if program == "virsh" {
                virsh.ok(&words);
            } else {
                let out = lab.run(&words);
                assert!(out.success(), "{out:?}");
            }
        }
        for path in [dir.join("v"), PathBuf::from(&to)] {
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(metadata.len(), LENGTH, "{program} {path:?}");
            assert!(metadata.blocks() * 512 < 1 << 20, "{program} {path:?} has {} blocks", metadata.blocks());
            assert_eq!((read(&path, 10 << 30, 6), read(&path, LENGTH - 3, 3)), (b"middle".to_vec(), b"end".to_vec()));
        }
        virsh.ok(&["vol-delete", "v", "--pool", "p"]);
        fs::remove_file(&to).unwrap();
    }
}

#[test]
fn streams_carry_parts_and_say_what_is_wrong() {
    let (lab, dir) = lab();
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    start_pool(&virsh, &dir);
    virsh.ok(&["vol-create-as", "p", "v", "3M"]);
    let bytes: Vec<u8> = (0..2_000_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
    let (from, to) = (lab.work().join("from"), lab.work().join("to"));
    sparse(&from, 0, &[(0, &bytes)]);
    let (source, target) = (from.display().to_string(), to.display().to_string());
    virsh.ok(&["vol-upload", "v", &source, "--pool", "p", "--offset", "100000"]);
    assert_eq!(read(&dir.join("v"), 100_000, bytes.len()), bytes);
    virsh.ok(&["vol-download", "v", &target, "--pool", "p", "--offset", "100007", "--length", "500000"]);
    assert_eq!(fs::read(&to).unwrap(), bytes[7..500_007]);
    virsh.fails(&["vol-upload", "v", &source, "--pool", "p", "--length", "10"], "than the length that was announced");
    virsh.fails(&["vol-download", "v", &target, "--pool", "p", "--offset", "4000000"], "is behind the end of volume");
    // Nothing holds the volume any more.
    virsh.ok(&["vol-delete", "v", "--pool", "p"]);
}

#[test]
fn the_test_driver_has_volumes_in_memory() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    virsh.ok(&["vol-create-as", "default-pool", "a", "1G"]);
    virsh.ok(&["vol-clone", "a", "b", "--pool", "default-pool"]);
    virsh.ok(&["vol-resize", "b", "2G", "--pool", "default-pool"]);
    virsh.ok(&["vol-wipe", "b", "--pool", "default-pool"]);
    let list = virsh.ok(&["vol-list", "default-pool"]);
    assert!(list.contains("/default-pool/a") && list.contains("/default-pool/b"), "{list}");
    assert!(virsh.ok(&["vol-info", "b", "--pool", "default-pool"]).contains("2.00 GiB"));
    virsh.ok(&["vol-delete", "a", "--pool", "default-pool"]);
    virsh.fails(&["vol-upload", "b", "/dev/null", "--pool", "default-pool"], "not supported");
    assert!(!Path::new("/default-pool").exists());
}

/// The daemon is killed at each of these points of a job, and comes back to a pool without half a volume.
#[test]
fn a_killed_daemon_leaves_no_half_volume() {
    let tool = has_qemu_img();
    let (mut lab, dir) = lab();
    if Virsh::on(&lab, "qemu:///system", "libvirt-sock").is_none() {
        return;
    }
    lab.stop();
    sparse(&dir.join("base"), 1 << 20, &[(0, b"content")]);
    let place = dir.display().to_string();
    for step in ["part", "made", "fill", "filled", "owner", "sync", "rename", "named"] {
        for format in ["raw", "qcow2"] {
            if format == "qcow2" && !tool {
                continue;
            }
            let fault = format!("volume.{step}:kill");
            lab.start_with(&[("DOMUS_FAULT", &fault)]);
            lab.wait_ready();
            if !lab.run(&["-q", "vol-list", "p"]).success() {
                let virsh = Virsh::on(&lab, "qemu:///system", "libvirt-sock").unwrap();
                virsh.ok(&["pool-create-as", "p", "dir", "--target", &place]);
            }
            let xml = format!("<volume><name>new</name><target><format type='{format}'/></target></volume>");
            let xml = lab.write("v.xml", &xml);
            let out = lab.run(&["vol-create-from", "p", &xml, "base", "--inputpool", "p"]);
            assert!(!out.success(), "{step} {format}: {out:?}");
            lab.wait_end();
            lab.start();
            lab.wait_ready();
            let out = lab.run(&["vol-list", "p"]);
            assert!(out.success(), "{out:?}");
            let whole = step == "named";
            let expected: &[&str] = if whole { &["base", "new"] } else { &["base"] };
            assert_eq!(names(&dir), expected, "{step} {format}");
            assert_eq!(out.stdout.contains("new"), whole, "{step} {format}: {out:?}");
            if whole {
                assert!(lab.run(&["vol-delete", "new", "--pool", "p"]).success());
            }
            lab.stop();
        }
    }
}

#[test]
fn base_images_are_imported_once_and_pruned() {
    if !has_qemu_img() {
        return;
    }
    let (mut lab, dir) = lab();
    let source = lab.work().join("source.img");
    sparse(&source, 1 << 20, &[(4096, b"content")]);
    let source = source.display().to_string();
    let ok = |lab: &Lab, words: &[&str]| {
        let out = lab.run(words);
        assert!(out.success(), "{words:?}: {out:?}");
        out.stdout
    };
    let wrong = "0".repeat(64);
    let out = lab.run(&["image-import", &source, "--format", "raw", "--sha256", &wrong]);
    assert!(!out.success() && out.stderr.contains("has the SHA-256 checksum"), "{out:?}");
    let cache = lab.root().join("state/images");
    assert_eq!(names(&cache), Vec::<String>::new());
    lab.stop();
    for step in ["volume.part", "image.copy", "image.hashed", "image.convert", "volume.rename", "image.record"] {
        lab.start_with(&[("DOMUS_FAULT", &format!("{step}:kill"))]);
        lab.wait_ready();
        assert!(!lab.run(&["image-import", &source, "--format", "raw"]).success(), "{step}");
        lab.wait_end();
        lab.start();
        lab.wait_ready();
        assert_eq!(names(&cache), Vec::<String>::new(), "{step}");
        lab.stop();
    }
    lab.start();
    lab.wait_ready();
    let told = ok(&lab, &["image-import", &source, "--format", "raw"]);
    assert_eq!(ok(&lab, &["image-import", &source, "--format", "raw"]), told);
    assert_eq!(names(&cache).len(), 2);
    let overlay = dir.join("overlay").display().to_string();
    let small = lab.run(&["image-overlay", "source.img", &overlay, "--size", "1K"]);
    assert!(!small.success() && small.stderr.contains("less than its base image"), "{small:?}");
    ok(&lab, &["image-overlay", "source.img", &overlay, "--size", "2M"]);
    assert_eq!(ok(&lab, &["image-prune", "--days", "0"]).trim(), "");
    assert!(ok(&lab, &["image-list"]).contains("source.img"));
    fs::remove_file(&overlay).unwrap();
    assert!(ok(&lab, &["image-prune", "--days", "0"]).contains("removed"));
    assert_eq!(names(&cache), Vec::<String>::new());
}
