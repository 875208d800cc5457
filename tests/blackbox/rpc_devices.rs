//! Devices, sizes of disks, processors and memory of the host, through Debian's own virsh.

use crate::harness::{Guest, Lab, Virsh};
use crate::mock_life::xml;

const NIC: &str = "<interface type='bridge'><mac address='52:54:00:ac:ce:0a'/><source bridge='br0'/>\
                   <model type='virtio'/><alias name='ua-first'/></interface>";

#[test]
fn devices_come_and_go_under_virsh() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let file = lab.write("one.xml", &xml("one"));
    virsh.ok(&["define", &file]);
    let nic = lab.write("nic.xml", NIC);
    virsh.fails(&["attach-device", "one", &nic, "--live"], "domain is not running");
    assert!(virsh.ok(&["attach-device", "one", &nic, "--config"]).contains("Device attached successfully"));
    assert!(virsh.ok(&["domiflist", "one", "--inactive"]).contains("52:54:00:ac:ce:0a"));
    let changed = lab.write("changed.xml", &NIC.replace("br0", "br1"));
    assert!(virsh.ok(&["update-device", "one", &changed, "--config"]).contains("Device updated successfully"));
    assert!(virsh.ok(&["domiflist", "one", "--inactive"]).contains("br1"));
    virsh.ok(&["detach-device", "one", &changed, "--config"]);
    virsh.fails(&["detach-device", "one", &changed, "--config"], "no device matching MAC address 52:54:00:ac:ce:0a");
    // By its alias.
    virsh.ok(&["attach-device", "one", &nic, "--config"]);
    virsh.fails(&["detach-device-alias", "one", "ua-other", "--config"], "no device found with alias ua-other");
    virsh.ok(&["detach-device-alias", "one", "ua-first", "--config"]);
    assert!(!virsh.ok(&["domiflist", "one", "--inactive"]).contains("52:54"));
    // Running: without a flag the running guest is meant.
    virsh.ok(&["start", "one"]);
    virsh.ok(&["attach-interface", "one", "bridge", "br2", "--mac", "52:54:00:ac:ce:0b"]);
    assert!(virsh.ok(&["domiflist", "one"]).contains("br2"));
    assert!(!virsh.ok(&["domiflist", "one", "--inactive"]).contains("br2"));
    virsh.ok(&["detach-interface", "one", "bridge", "--mac", "52:54:00:ac:ce:0b"]);
    virsh.ok(&["attach-disk", "one", "/images/two", "vdb", "--persistent"]);
    assert!(virsh.ok(&["domblklist", "one"]).contains("/images/two"));
    virsh.ok(&["detach-disk", "one", "vdb", "--persistent"]);
    assert!(!virsh.ok(&["domblklist", "one", "--inactive"]).contains("vdb"));
    virsh.ok(&["set-lifecycle-action", "one", "poweroff", "restart", "--config"]);
    assert!(virsh.ok(&["dumpxml", "one", "--inactive"]).contains("<on_poweroff>restart</on_poweroff>"));
    assert_eq!(virsh.ok(&["domhostname", "one"]).trim(), "onehost");
    virsh.ok(&["destroy", "one"]);
    lab.finish();
}

#[test]
fn the_size_of_a_disk_is_the_images() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let image = lab.work().join("disk.raw");
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(3 << 20).unwrap();
    let disk = format!("<disk><source file='{}'/><target dev='vda'/></disk>", image.display());
    let text = xml("one").replace("</domain>", &format!("<devices>{disk}</devices></domain>"));
    assert!(text.contains("<disk>"), "{text}");
    let file = lab.write("one.xml", &text);
    virsh.ok(&["define", &file]);
    for path in ["vda", image.to_str().unwrap()] {
        let said = virsh.ok(&["domblkinfo", "one", path]);
        let values: Vec<&str> = said.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(values, ["3145728", "0", "3145728"], "{said}");
    }
    virsh.fails(&["domblkinfo", "one", "vdz"], "invalid path vdz not assigned to domain");
    std::fs::remove_file(&image).unwrap();
    virsh.fails(&["domblkinfo", "one", "vda"], "No such file or directory");
    virsh.fails(&["domblkerror", "one"], "domain is not running");
    lab.finish();
}

#[test]
fn cells_and_pages_of_the_host() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    assert!(virsh.ok(&["freecell"]).contains("Total:"));
    assert!(virsh.ok(&["freecell", "--cellno", "0"]).contains("0:"));
    virsh.fails(&["freecell", "--cellno", "999"], "start cell 999 out of range");
    let pages = virsh.ok(&["freepages", "--cellno", "0", "--pagesize", "4"]);
    assert!(pages.contains("4KiB:"), "{pages}");
    virsh.fails(&["allocpages", "--pagesize", "2048", "--pagecount", "1"], "not supported");
    lab.finish();
}

#[test]
fn processors_are_compared_under_virsh() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    let models = virsh.ok(&["cpu-models", "x86_64"]);
    assert!(models.lines().any(|line| line == "Haswell"), "{models}");
    virsh.fails(&["cpu-models", "vax"], "cannot find architecture vax");
    let cpu = |model: &str| format!("<cpu mode='custom' match='exact'><model>{model}</model></cpu>");
    let old = lab.write("old.xml", &cpu("qemu64"));
    let answer = virsh.ok(&["hypervisor-cpu-compare", &old, "--virttype", "qemu"]);
    assert!(answer.contains("superset") || answer.contains("identical"), "{answer}");
    virsh.fails(&["hypervisor-cpu-compare", &lab.write("no.xml", "<cpu><model>nosuch</model></cpu>")], "error:");
    let both = lab.write("both.xml", &[arch("Nehalem"), arch("Westmere")].concat());
    assert!(virsh.ok(&["cpu-baseline", &both]).contains("Nehalem"));
    let baseline = virsh.ok(&["hypervisor-cpu-baseline", &both, "--virttype", "qemu"]);
    assert!(baseline.contains(">Nehalem</model>"), "{baseline}");
    // The running guest's disk, as QEMU has it.
    lab.define(&guest.xml);
    virsh.ok(&["start", &guest.name]);
    let said = virsh.ok(&["domblkinfo", &guest.name, "vda"]);
    let capacity = said.lines().next().and_then(|line| line.split_whitespace().nth(1)).unwrap();
    assert!(capacity.parse::<u64>().unwrap() > 0, "{said}");
    assert!(virsh.ok(&["domblkerror", &guest.name]).contains("No errors found"));
    virsh.ok(&["destroy", &guest.name]);
    lab.finish();
}

fn arch(model: &str) -> String {
    format!("<cpu><arch>x86_64</arch><model>{model}</model></cpu>")
}
