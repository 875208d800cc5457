use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

/// The corpus of documents, when there is one: each device is written as the expected document has it.
#[test]
fn the_corpus_comes_out_as_expected() {
    let Some(corpus) = std::env::var_os("DOMUS_CORPUS").map(PathBuf::from) else { return };
    let data = corpus.join("data");
    let (mut passed, mut failed) = (0, Vec::new());
    for entry in std::fs::read_dir(data.join("nodedevxml2xmlout")).unwrap() {
        let expected = entry.unwrap().path();
        let name = expected.file_name().unwrap().to_str().unwrap().to_string();
        let inactive = name.ends_with("_inactive.xml");
        let source = data.join("nodedevschemadata").join(name.replace("_inactive.xml", ".xml"));
        let mut device = Device::parse(&std::fs::read_to_string(&source).unwrap()).unwrap();
        if inactive {
            device.path = None;
        }
        let (ours, theirs) = (device.to_xml(), std::fs::read_to_string(&expected).unwrap());
        if ours == theirs {
            passed += 1;
        } else {
            failed.push(format!("{name}\n{ours}"));
        }
    }
    eprintln!("node devices: {passed} of {}", passed + failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A sysfs of a few files and links.
struct Sysfs {
    dir: tempfile::TempDir,
}

impl Sysfs {
    fn new() -> Sysfs {
        Sysfs { dir: tempfile::tempdir().unwrap() }
    }

    #[allow(clippy::disallowed_methods)] // a fixture
    fn files(&self, below: &str, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = self.dir.path().join(below).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    fn link(&self, link: &str, target: &str) {
        let path = self.dir.path().join(link);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(self.dir.path().join(target), path).unwrap();
    }

    fn roots(&self) -> Roots {
        Roots { sys: self.dir.path().join("sys"), udev: self.dir.path().join("udev"), ids: Vec::new() }
    }

    fn scan(&self) -> BTreeMap<String, Device> {
        scan(&self.roots()).into_iter().map(|device| (device.name.clone(), device)).collect()
    }
}

const PORT: &str = "sys/devices/pci0000:00/0000:00:01.0";
const NIC: &str = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0";

fn network_card() -> Sysfs {
    let sysfs = Sysfs::new();
    let ids = |device| [("vendor", "0x8086\n"), ("device", device), ("class", "0x020000\n"), ("numa_node", "-1\n")];
    sysfs.files(PORT, &ids("0x1901\n"));
    sysfs.files(NIC, &ids("0x1572\n"));
    sysfs.files(NIC, &[("numa_node", "1\n"), ("sriov_totalvfs", "64\n"), ("net/ens1/address", "aa:bb:cc:00:11:22\n")]);
    sysfs.files(&format!("{NIC}/net/ens1"), &[("operstate", "up\n"), ("speed", "10000\n")]);
    let function = format!("{PORT}/0000:01:02.0");
    sysfs.files(&function, &ids("0x154c\n"));
    sysfs.link(&format!("{function}/physfn"), NIC);
    sysfs.link(&format!("{NIC}/virtfn0"), &function);
    sysfs.files("sys/kernel/iommu_groups/7/devices", &[("0000:01:00.0", ""), ("0000:01:02.0", "")]);
    sysfs.link(&format!("{NIC}/iommu_group"), "sys/kernel/iommu_groups/7");
    sysfs.files("sys/bus/pci/drivers/i40e", &[("bind", "")]);
    sysfs.link(&format!("{NIC}/driver"), "sys/bus/pci/drivers/i40e");
    for (name, target) in [("0000:00:01.0", PORT), ("0000:01:00.0", NIC), ("0000:01:02.0", &function)] {
        sysfs.link(&format!("sys/bus/pci/devices/{name}"), target);
    }
    sysfs.link("sys/class/net/ens1", &format!("{NIC}/net/ens1"));
    sysfs
}

#[test]
fn a_network_card_with_a_virtual_function() {
    let sysfs = network_card();
    let found = sysfs.scan();
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["computer", "net_ens1_aa_bb_cc_00_11_22", "pci_0000_00_01_0", "pci_0000_01_00_0", "pci_0000_01_02_0"]
    );
    let nic = &found["pci_0000_01_00_0"];
    let path = sysfs.dir.path().join(NIC);
    assert_eq!(
        nic.to_xml(),
        format!(
            "<device>\n  <name>pci_0000_01_00_0</name>\n  <path>{}</path>\n  <parent>pci_0000_00_01_0</parent>\n  \
             <driver>\n    <name>i40e</name>\n  </driver>\n  <capability type='pci'>\n    <class>0x020000</class>\n    \
             <domain>0</domain>\n    <bus>1</bus>\n    <slot>0</slot>\n    <function>0</function>\n    \
             <product id='0x1572'/>\n    <vendor id='0x8086'/>\n    \
             <capability type='virt_functions' maxCount='64'>\n      \
             <address domain='0x0000' bus='0x01' slot='0x02' function='0x0'/>\n    </capability>\n    \
             <iommuGroup number='7'>\n      <address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>\n      \
             <address domain='0x0000' bus='0x01' slot='0x02' function='0x0'/>\n    </iommuGroup>\n    \
             <numa node='1'/>\n  </capability>\n</device>\n",
            path.display()
        )
    );
    let Capability::Pci(function) = &found["pci_0000_01_02_0"].capabilities[0] else { panic!("no PCI function") };
    assert_eq!(function.physical, Some(PciAddress { domain: 0, bus: 1, slot: 0, function: 0 }));
    let port = &found["net_ens1_aa_bb_cc_00_11_22"];
    assert_eq!(port.parent.as_deref(), Some("pci_0000_01_00_0"));
    assert!(port.to_xml().contains("<link speed='10000' state='up'/>"), "{}", port.to_xml());
    assert_eq!(found["computer"].parent, None);
}

#[test]
fn vendors_and_products_have_their_names() {
    let sysfs = network_card();
    sysfs.files(
        "",
        &[("pci.ids", "# a list\n8086  Intel Corporation\n\t1572  X710\n\t\t8086 0001  a card\n8087  Other\n\t1901  No\nC 00  Class\n")],
    );
    let roots = Roots { ids: vec!["/nonexistent".into(), sysfs.dir.path().join("pci.ids")], ..sysfs.roots() };
    let found = scan(&roots);
    let xml = |name: &str| found.iter().find(|device| device.name == name).unwrap().to_xml();
    let nic = xml("pci_0000_01_00_0");
    assert!(nic.contains("<product id='0x1572'>X710</product>"), "{nic}");
    assert!(nic.contains("<vendor id='0x8086'>Intel Corporation</vendor>"), "{nic}");
    assert!(xml("pci_0000_00_01_0").contains("<product id='0x1901'/>"));
}

#[test]
fn interfaces_alone_are_looked_at_again() {
    let sysfs = network_card();
    let former = scan(&sysfs.roots());
    assert_eq!(scan_interfaces(&sysfs.roots(), &former), former);
    // One goes, another comes, on the same card.
    std::fs::remove_file(sysfs.dir.path().join("sys/class/net/ens1")).unwrap();
    sysfs.files(NIC, &[("net/ens2/address", "aa:bb:cc:00:11:23\n")]);
    sysfs.link("sys/class/net/ens2", &format!("{NIC}/net/ens2"));
    let again = scan_interfaces(&sysfs.roots(), &former);
    assert_eq!(again, scan(&sysfs.roots()));
    assert!(again.iter().any(|device| device.name == "net_ens2_aa_bb_cc_00_11_23"), "{again:?}");
}

#[test]
fn disks_are_told_by_udev_or_by_their_names() {
    let sysfs = Sysfs::new();
    let block = |name: &str, kind: &str| {
        let below = format!("sys/devices/virtual/block/{name}");
        let uevent = format!("MAJOR=8\nMINOR=0\nDEVNAME={name}\nDEVTYPE={kind}\n");
        sysfs.files(&below, &[("uevent", &uevent), ("size", "2048\n"), ("queue/logical_block_size", "512\n")]);
        sysfs.files(&below, &[("removable", "0\n"), ("dev", "8:0\n")]);
        sysfs.link(&format!("sys/class/block/{name}"), &below);
    };
    block("vda", "disk");
    block("vda1", "partition");
    block("loop0", "disk");
    assert_eq!(sysfs.scan().keys().collect::<Vec<_>>(), ["block_vda", "computer"]);
    let Capability::Storage(disk) = sysfs.scan().remove("block_vda").unwrap().capabilities.remove(0) else {
        panic!("no disk")
    };
    assert_eq!((disk.size, disk.num_blocks, disk.drive_type.as_deref()), (1 << 20, 2048, Some("disk")));
    sysfs.files("udev/data", &[("b8:0", "S:disk/by-id/x\nE:ID_SERIAL=A B-1\nE:ID_TYPE=disk\nE:ID_BUS=ata\n")]);
    let found = sysfs.scan();
    let disk = &found["block_vda_A_B_1"];
    assert!(disk.to_xml().contains("<bus>ata</bus>") && disk.to_xml().contains("<serial>A B-1</serial>"));
}

#[test]
fn filters_are_libvirts() {
    let found = network_card().scan();
    let listed = |flags: u32| -> Vec<&str> {
        found.values().filter(|device| device.matches(flags)).map(|device| device.name.as_str()).collect()
    };
    assert_eq!(listed(0).len(), 5);
    assert_eq!(listed(1), ["computer"]);
    assert_eq!(listed(1 << 1 | 1 << 4 | 1 << 17).len(), 4);
    assert_eq!(listed(list::PERSISTENT), ["computer"]);
    assert_eq!(listed(list::TRANSIENT | 1 << 4), ["net_ens1_aa_bb_cc_00_11_22"]);
    assert_eq!(listed(list::INACTIVE), Vec::<&str>::new());
    assert_eq!(listed(list::ACTIVE | list::INACTIVE).len(), 5);
}

#[test]
fn links_of_pci_express_are_read_from_the_configuration_space() {
    let mut config = vec![0u8; 128];
    config[0x06] = 0x10;
    config[0x0e] = 0x81;
    config[0x34] = 0x40;
    // A root port with a link: x4 of 8 GT/s possible, x2 of 5 GT/s now, port 3.
    config[0x40..0x44].copy_from_slice(&[0x10, 0, 0x42, 0]);
    config[0x4c..0x50].copy_from_slice(&(3u32 << 24 | 4 << 4 | 3).to_le_bytes());
    config[0x52..0x54].copy_from_slice(&(2u16 << 4 | 2).to_le_bytes());
    let link = |port, speed: &str, width| Some(Link { port, speed: Some(speed.into()), width });
    let express = Express { capable: link(Some(3), "8", 4), status: link(None, "5", 2) };
    assert_eq!(scan::express(&config), Some(express));
    assert_eq!(scan::header(&config).as_deref(), Some("pci-bridge"));
    // One inside the root complex has no link.
    config[0x42] = 0x92;
    assert_eq!(scan::express(&config), Some(Express::default()));
    // A loop in the list, and a configuration space cut short.
    config[0x40..0x42].copy_from_slice(&[0x01, 0x40]);
    assert_eq!(scan::express(&config), None);
    assert_eq!(scan::express(&config[..64]), None);
}

#[test]
fn this_host_is_scanned() {
    let found = scan(&Roots::host());
    assert!(found.iter().any(|device| device.name == "computer"));
    let names: std::collections::HashSet<&str> = found.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names.len(), found.len(), "names are unique");
    for device in &found {
        assert!(device.parent.as_deref().is_none_or(|parent| names.contains(parent)), "{device:?}");
        assert!(device.path.as_deref().is_none_or(|path| Path::new(path).exists()), "{device:?}");
        Device::parse(&device.to_xml()).unwrap();
    }
}
