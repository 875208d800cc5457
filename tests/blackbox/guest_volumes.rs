//! Guests on volumes of storage pools: found at the start, shown as what they are, kept from being changed meanwhile.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::harness::container::Container;
use crate::harness::guest::qemu_img;
use crate::harness::{DEADLINE, Lab, Virsh, eventually, program, skip, test_name};

const NAME: &str = "on-volumes";

/// A machine without an operating system, which starts as well as any.
fn machine(disks: &str) -> String {
    format!(
        "<domain type='qemu'><name>{NAME}</name><memory unit='MiB'>64</memory><os><type arch='x86_64' \
         machine='q35'>hvm</type></os><devices>{disks}</devices></domain>"
    )
}

fn disk(volume: &str, dev: &str, driver: &str) -> String {
    format!("<disk type='volume'>{driver}<source pool='p' volume='{volume}'/><target dev='{dev}' bus='virtio'/></disk>")
}

/// A daemon with a pool `p` that is defined, and its directory.
fn lab() -> Option<(Lab, PathBuf)> {
    let lab = Lab::qemu()?;
    if program("qemu-img").is_none() {
        skip(&test_name(), "qemu-img is not installed (qemu-utils)");
        return None;
    }
    let dir = lab.work().join("pool");
    fs::create_dir(&dir).unwrap();
    lab.ok(&["pool-define-as", "p", "dir", "--target", &dir.display().to_string()]);
    Some((lab, dir))
}

fn command_line(lab: &Lab) -> String {
    let log = lab.root().join("log/qemu").join(format!("{NAME}.log"));
    fs::read_to_string(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()))
}

#[test]
fn a_guest_starts_on_volumes() {
    let Some((mut lab, dir)) = lab() else { return };
    lab.define(&machine(&(disk("top", "vda", "<driver type='qcow2'/>") + &disk("plain", "vdb", ""))));
    lab.fails_with(
        &["start", NAME],
        &["unsupported configuration: storage pool 'p' containing volume 'top' is not active", "domus pool-start p"],
    );
    lab.ok(&["pool-start", "p"]);
    lab.fails_with(
        &["start", NAME],
        &["Storage volume not found: no storage vol with matching name 'top'", "disk 'vda'", "domus pool-refresh p"],
    );
    lab.ok(&["vol-create-as", "p", "base", "2M"]);
    let over = ["vol-create-as", "p", "top", "4M", "--format", "qcow2", "--backing-vol", "base"];
    lab.ok(&[&over[..], &["--backing-vol-format", "raw"]].concat());
    // What it holds does not decide what it is: a guest may have written that.
    lab.ok(&["vol-create-as", "p", "plain", "1M"]);
    let header = lab.work().join("header");
    qemu_img(&["create", "-q", "-f", "qcow2", header.to_str().unwrap(), "64M"]);
    let mut bytes = fs::read(&header).unwrap();
    bytes.resize(1 << 20, 0);
    fs::write(dir.join("plain"), &bytes).unwrap();
    lab.ok(&["start", NAME]);

    let xml = lab.ok(&["dumpxml", NAME]);
    assert!(xml.contains("<disk type='volume' device='disk'>"), "{xml}");
    assert!(xml.contains("<source pool='p' volume='top' index='2'/>"), "{xml}");
    assert!(xml.contains(&format!("<source file='{}'/>", dir.join("base").display())), "its backing store: {xml}");
    assert!(!xml.contains(&format!("'{}'", dir.join("top").display())), "{xml}");
    let raw =
        "<driver name='qemu' type='raw'/>\n      <source pool='p' volume='plain' index='1'/>\n      <backingStore/>";
    assert!(xml.contains(raw), "{xml}");
    let said = command_line(&lab);
    assert!(said.contains(&format!(r#""filename":"{}","#, dir.join("top").display())), "{said}");
    let stats = lab.ok(&["domstats", NAME]);
    for capacity in ["block.0.capacity=4194304", "block.1.capacity=1048576"] {
        assert!(stats.contains(capacity), "{capacity}: {stats}");
    }

    // Also after the daemon was gone, also what lies below.
    let header = header.display().to_string();
    for _ in 0..2 {
        let user = format!("used by running domain '{NAME}' (disk vda)");
        for volume in ["top", "base"] {
            for words in [
                &["vol-delete", volume, "--pool", "p"][..],
                &["vol-wipe", volume, "--pool", "p"],
                &["vol-resize", volume, "8M", "--pool", "p"],
                &["vol-upload", volume, &header, "--pool", "p"],
            ] {
                lab.fails_with(words, &[&user, "stop the guest"]);
            }
        }
        lab.crash();
        lab.start();
    }
    assert!(lab.ok(&["dumpxml", NAME]).contains("<source pool='p' volume='top' index='2'/>"));
    lab.ok(&["destroy", NAME]);
    for volume in ["top", "base", "plain"] {
        lab.ok(&["vol-delete", volume, "--pool", "p"]);
    }
    // A pool that nobody knows.
    lab.define(&machine(&disk("x", "vda", "").replace("pool='p'", "pool='nobody'")));
    lab.fails_with(&["start", NAME], &["Storage pool not found: no storage pool with matching name 'nobody'", "vda"]);
    lab.ok(&["undefine", NAME]);
    lab.ok(&["pool-destroy", "p"]);
    lab.ok(&["pool-undefine", "p"]);
    lab.check_no_guest_left();
    lab.finish();
}

#[test]
fn a_guest_does_not_start_on_what_is_being_written() {
    let Some((lab, dir)) = lab() else { return };
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    lab.ok(&["pool-start", "p"]);
    lab.ok(&["vol-create-as", "p", "v", "1M"]);
    let fifo = lab.work().join("endless");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let held = fs::File::options().read(true).write(true).open(&fifo).unwrap();
    let mut client = virsh.command(&["vol-upload", "v", fifo.to_str().unwrap(), "--pool", "p"]).spawn().unwrap();
    // More than virsh collects before it sends; by itself, for a client that reads no more would stop this test.
    let mut feed = held.try_clone().unwrap();
    std::thread::spawn(move || (0..32).try_for_each(|_| feed.write_all(&[b'x'; 65536])));
    // Looked at only: to try a change would keep the upload out.
    eventually("the upload", DEADLINE, || fs::read(dir.join("v")).unwrap().starts_with(b"x").then_some(()));
    // By whatever name it is called.
    let path = format!("<disk type='file'><source file='{}/v'/><target dev='vda'/></disk>", dir.display());
    for disk in [path, disk("v", "vda", "")] {
        lab.define(&machine(&disk));
        lab.fails_with(&["start", NAME], &["volume 'v' is still in use", "disk 'vda'", "start again"]);
    }
    client.kill().unwrap();
    client.wait().unwrap();
    drop(held);
    eventually("a start", DEADLINE, || lab.run(&["start", NAME]).success().then_some(()));
    lab.fails_with(&["vol-wipe", "v", "--pool", "p"], &["used by running domain"]);
    lab.ok(&["destroy", NAME]);
    lab.ok(&["vol-wipe", "v", "--pool", "p"]);
    lab.ok(&["undefine", NAME]);
    lab.ok(&["pool-destroy", "p"]);
    lab.ok(&["pool-undefine", "p"]);
    lab.check_no_guest_left();
    lab.finish();
}

#[test]
fn a_container_has_a_volume_as_a_directory() {
    let Some(lab) = Lab::lxc() else { return };
    let dir = lab.work().join("pool");
    fs::create_dir(&dir).unwrap();
    lab.ok(&["pool-define-as", "p", "dir", "--target", &dir.display().to_string()]);
    lab.ok(&["pool-start", "p"]);
    lab.ok(&["vol-create-as", "p", "tree", "0", "--format", "dir"]);
    fs::write(dir.join("tree/word"), "from the volume").unwrap();
    let mut guest = Container::new(&lab, 1, "cat /mnt/word; while true; do sleep 1000; done");
    let volume =
        "<filesystem type='volume'><source pool='p' volume='tree'/><target dir='/mnt'/><readonly/></filesystem>";
    guest.xml = guest.with_device(volume);
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    guest.shows("from the volume");
    let xml = lab.ok(&["dumpxml", &guest.name]);
    assert!(xml.contains("<filesystem type='volume'") && xml.contains("<source pool='p' volume='tree'/>"), "{xml}");
    let user = format!("used by running domain '{}' (filesystem /mnt)", guest.name);
    lab.fails_with(&["vol-delete", "tree", "--pool", "p"], &[&user]);
    lab.ok(&["destroy", &guest.name]);
    lab.ok(&["pool-destroy", "p"]);
    lab.fails_with(&["start", &guest.name], &["'p' containing volume 'tree' is not active", "filesystem '/mnt'"]);
    lab.ok(&["undefine", &guest.name]);
    lab.ok(&["pool-undefine", "p"]);
    lab.finish();
}

const SECRET: &str = "22e1353d-c27e-4d6d-bf15-465053e6ba0b";
const PASSPHRASE: &str = "open-sesame-4711";

/// Files below a directory, and the like of them, that hold a text.
fn holding(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(holding(&entry.path(), text));
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).unwrap();
            let there = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            found.extend(there.then(|| entry.path()));
        }
    }
    found
}

#[test]
fn an_encrypted_volume_is_unlocked_at_the_start() {
    let Some((mut lab, _)) = lab() else { return };
    lab.ok(&["pool-start", "p"]);
    let secret = lab.write("s.xml", &format!("<secret private='yes'><uuid>{SECRET}</uuid></secret>"));
    let set = |lab: &Lab, value: &str| {
        let file = lab.write("value", value);
        lab.ok(&["secret-set-value", SECRET, "--file", &file, "--plain"]);
        fs::remove_file(file).unwrap();
    };
    lab.ok(&["secret-define", &secret]);
    set(&lab, PASSPHRASE);
    let encryption = format!("<encryption format='luks'><secret type='passphrase' uuid='{SECRET}'/></encryption>");
    for (name, format) in [("plain", "raw"), ("over", "qcow2")] {
        let xml = format!(
            "<volume><name>{name}</name><capacity>3145728</capacity><target><format type='{format}'/>{encryption}\
             </target></volume>"
        );
        let file = lab.write("v.xml", &xml);
        lab.ok(&["vol-create", "p", &file]);
    }
    let locked = |volume: &str, dev: &str, format: &str| {
        disk(volume, dev, &format!("<driver type='{format}'/>")).replace("<target", &format!("{encryption}<target"))
    };
    lab.define(&machine(&(locked("plain", "vda", "raw") + &locked("over", "vdb", "qcow2"))));
    lab.ok(&["secret-undefine", SECRET]);
    let missing = format!("Secret not found: no secret with matching uuid '{SECRET}' (disk 'vda')");
    lab.fails_with(&["start", NAME], &[&missing, "domus secret-define"]);
    lab.ok(&["secret-define", &secret]);
    let empty = format!("Secret not found: secret '{SECRET}' does not have a value (disk 'vda')");
    lab.fails_with(&["start", NAME], &[&empty, "domus secret-set-value"]);
    set(&lab, "mellon");
    lab.fails_with(&["start", NAME], &["Invalid password, cannot unlock any keyslot"]);
    set(&lab, PASSPHRASE);
    lab.ok(&["start", NAME]);

    for _ in 0..2 {
        let stats = lab.ok(&["domstats", NAME]);
        for disk in ["block.0.capacity=3145728", "block.1.capacity=3145728"] {
            assert!(stats.contains(disk), "the guest sees what is behind the header: {stats}");
        }
        lab.crash();
        lab.start();
        lab.ok(&["dumpxml", NAME]);
    }
    // Nobody reads it on the way: arguments, logs, records.
    let pid =
        lab.pids().into_iter().find(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().starts_with("qemu"));
    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", pid.expect("a QEMU"))).unwrap();
    assert!(arguments.contains("format-encryption-secret0") && !arguments.contains(PASSPHRASE), "{arguments}");
    let shown = holding(lab.root().parent().unwrap(), PASSPHRASE);
    let kept: Vec<_> = shown.iter().filter(|path| !path.to_str().unwrap().contains("/state/")).collect();
    assert!(kept.is_empty(), "{kept:?}");
    lab.ok(&["destroy", NAME]);
    lab.ok(&["undefine", NAME]);
    lab.ok(&["secret-undefine", SECRET]);
    lab.ok(&["pool-destroy", "p"]);
    lab.ok(&["pool-undefine", "p"]);
    lab.check_no_guest_left();
    lab.finish();
}
