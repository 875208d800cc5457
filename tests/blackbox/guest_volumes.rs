//! Guests on volumes of storage pools: found at the start, shown as what they are, kept from being changed meanwhile.

use std::fs;
use std::path::PathBuf;

use crate::harness::guest::qemu_img;
use crate::harness::{Lab, program, skip, test_name};

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
    // What it holds does not decide what it is: the pool saw it as raw before any guest wrote.
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
