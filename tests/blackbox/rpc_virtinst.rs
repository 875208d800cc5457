//! virt-install, virt-xml and virt-clone, unmodified, with a guest that has no operating system.

use crate::harness::guest::{make_bridge, qemu_img};
use crate::harness::{DEADLINE, Lab, Out, Virsh, program, run, skip, test_name};

fn virtinst(lab: &Lab, name: &str, uri: &str, arguments: &[&str]) -> Out {
    let mut command = lab.program(name);
    // Their logs and caches.
    command.env("HOME", lab.work()).env("XDG_CACHE_HOME", lab.work().join("cache"));
    let out = run(command.args(["--connect", uri]).args(arguments), DEADLINE);
    assert!(out.success(), "{name} {arguments:?}: {out:?}");
    out
}

#[test]
fn virt_install_and_its_kin() {
    if program("virt-install").is_none() {
        return skip(&test_name(), "virt-install is not installed (virtinst)");
    }
    let Some(mut lab) = Lab::qemu() else { return };
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    let uri = virsh.uri.clone();
    let images = lab.work().join("images");
    std::fs::create_dir(&images).unwrap();
    let disk = images.join("disk.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", disk.to_str().unwrap(), "8M"]);
    let (disk, name, clone) = (disk.to_str().unwrap(), format!("vi-{}", lab.tag()), format!("vc-{}", lab.tag()));
    drop(virsh);
    make_bridge(&mut lab, "qbr0");
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };

    let disk_option = format!("path={disk},format=qcow2,bus=virtio");
    #[rustfmt::skip]
    let install = [
        "--virt-type", "qemu", "--name", &name, "--memory", "64", "--vcpus", "1", "--import", "--disk", &disk_option,
        "--network", "bridge=qbr0,model=virtio", "--graphics", "vnc", "--noautoconsole",
        "--os-variant", "detect=off,require=off",
    ];
    assert!(virtinst(&lab, "virt-install", &uri, &install).stdout.contains("Domain creation completed"));
    assert_eq!(virsh.ok(&["domstate", &name]).trim(), "running");
    // It makes a pool of the directory that the image is in.
    assert!(virsh.ok(&["pool-list", "--name"]).contains("images"));

    virtinst(&lab, "virt-xml", &uri, &[&name, "--edit", "--vcpus", "2", "--define"]);
    assert!(virsh.ok(&["dumpxml", &name, "--inactive"]).contains("<vcpu placement='static'>2</vcpu>"));
    let second = format!("path={},size=0.002,format=raw", images.join("two.raw").display());
    virtinst(&lab, "virt-xml", &uri, &[&name, "--add-device", "--disk", &second, "--define"]);
    assert!(virsh.ok(&["domblklist", &name, "--inactive"]).contains("two.raw"));
    virsh.ok(&["destroy", &name]);

    virtinst(&lab, "virt-clone", &uri, &["--original", &name, "--name", &clone, "--auto-clone"]);
    let listed = virsh.ok(&["domblklist", &clone]);
    assert!(listed.contains("disk-clone.qcow2") && listed.contains("two-clone.raw"), "{listed}");
    assert_ne!(virsh.ok(&["domuuid", &clone]), virsh.ok(&["domuuid", &name]));
    virsh.ok(&["start", &clone]);
    virsh.ok(&["destroy", &clone]);

    virsh.ok(&["undefine", &clone, "--remove-all-storage"]);
    assert!(!images.join("disk-clone.qcow2").exists() && images.join("disk.qcow2").exists());
    virsh.ok(&["undefine", &name]);
    virsh.ok(&["pool-destroy", "images"]);
    virsh.ok(&["pool-undefine", "images"]);
    lab.finish();
}
