//! The devices of the host, as libvirt tells of them: found in sysfs, written as node device XML. Read-only.
//!
//! ```text
//! scan (sysfs, udev's database where there is one) ─> Device ─> write ─> XML
//!                                      read (XML, for tests and clients' documents) ─> Device
//! ```
//!
//! Nothing is kept here: a scan reads what is there now. s390's channel devices are not looked for; a document about one
//! is kept as it is.

mod read;
mod scan;
mod write;

pub use scan::{Roots, scan, scan_interfaces};

use crate::types::{PciAddress, Uuid};

/// A device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Device {
    /// Unique, made of letters, digits and `_`: `pci_0000_00_1f_2`.
    pub name: String,
    /// In sysfs; none for the host itself.
    pub path: Option<String>,
    /// Below /dev.
    pub devnode: Option<String>,
    /// The name of the device it hangs on; none for the host itself.
    pub parent: Option<String>,
    /// The kernel's driver that has it.
    pub driver: Option<String>,
    pub capabilities: Vec<Capability>,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq)]
pub enum Capability {
    System(System),
    Pci(Box<Pci>),
    UsbDevice(UsbDevice),
    Usb(UsbInterface),
    Net(Net),
    ScsiHost(ScsiHost),
    ScsiTarget(ScsiTarget),
    Scsi(Scsi),
    Storage(Storage),
    /// The character device.
    ScsiGeneric(String),
    /// `primary`, `control` or `render`.
    Drm(String),
    Mdev(Mdev),
    /// The character device.
    Vdpa(String),
    /// A kind that is not scanned for, as it was written.
    Other(Tree),
}

/// An element as it was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub text: String,
    pub children: Vec<Tree>,
}

/// The host: what its firmware says of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct System {
    pub product: Option<String>,
    pub vendor: Option<String>,
    pub version: Option<String>,
    pub serial: Option<String>,
    pub uuid: Uuid,
    pub firmware_vendor: Option<String>,
    pub firmware_version: Option<String>,
    pub firmware_date: Option<String>,
}

/// A number with the name that a database has for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Id {
    pub number: u16,
    pub name: Option<String>,
}

/// A PCI function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pci {
    /// 24 bits.
    pub class: Option<u32>,
    pub address: PciAddress,
    pub product: Id,
    pub vendor: Id,
    /// Of a virtual function.
    pub physical: Option<PciAddress>,
    pub virtuals: Vec<PciAddress>,
    /// How many there could be.
    pub virtuals_max: u32,
    /// `pci-bridge` or `cardbus-bridge`.
    pub header: Option<String>,
    pub mdev_types: Vec<MdevType>,
    pub iommu: Option<IommuGroup>,
    pub numa_node: Option<i32>,
    pub express: Option<Express>,
}

/// Devices that the IOMMU cannot tell apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IommuGroup {
    pub number: u32,
    pub members: Vec<PciAddress>,
}

/// The links of a PCI Express device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Express {
    /// What it can do.
    pub capable: Option<Link>,
    /// What it does.
    pub status: Option<Link>,
}

/// A link of PCI Express.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub port: Option<u32>,
    /// GT/s.
    pub speed: Option<String>,
    /// Lanes.
    pub width: u32,
}

/// A kind of mediated device that a parent can make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MdevType {
    pub id: String,
    pub name: Option<String>,
    pub device_api: String,
    pub available: u32,
}

/// A USB device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsbDevice {
    pub bus: u32,
    pub device: u32,
    pub product: Id,
    pub vendor: Id,
}

/// An interface of a USB device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsbInterface {
    pub number: u32,
    pub class: u32,
    pub subclass: u32,
    pub protocol: u32,
    pub description: Option<String>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Net {
    pub interface: String,
    pub address: Option<String>,
    /// `up`, `down`, `unknown` ...
    pub state: Option<String>,
    /// Mbit/s.
    pub speed: Option<u32>,
    pub features: Vec<String>,
    /// `80203` or `80211`.
    pub kind: Option<String>,
}

/// A SCSI host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScsiHost {
    pub host: u32,
    pub unique_id: Option<u32>,
    /// World wide names of a Fibre Channel host: node, port, fabric.
    pub fibre: Option<(String, String, Option<String>)>,
    /// Virtual ports: most, now.
    pub vports: Option<(u32, u32)>,
}

/// A SCSI target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScsiTarget {
    pub name: String,
}

/// A SCSI device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scsi {
    pub host: u32,
    pub bus: u32,
    pub target: u32,
    pub lun: u32,
    pub kind: Option<String>,
}

/// A block device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Storage {
    pub block: String,
    pub bus: Option<String>,
    pub drive_type: Option<String>,
    pub model: Option<String>,
    pub vendor: Option<String>,
    pub serial: Option<String>,
    /// Bytes.
    pub size: u64,
    pub logical_block_size: u64,
    pub num_blocks: u64,
    /// Whether a removable medium is in.
    pub media: Option<bool>,
    pub hotpluggable: bool,
}

/// A mediated device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mdev {
    pub kind: String,
    pub uuid: Option<Uuid>,
    pub parent_addr: Option<String>,
    pub iommu: u32,
    pub attributes: Vec<(String, String)>,
}

impl Capability {
    /// libvirt's word for it.
    pub fn word(&self) -> &str {
        match self {
            Capability::System(_) => "system",
            Capability::Pci(_) => "pci",
            Capability::UsbDevice(_) => "usb_device",
            Capability::Usb(_) => "usb",
            Capability::Net(_) => "net",
            Capability::ScsiHost(_) => "scsi_host",
            Capability::ScsiTarget(_) => "scsi_target",
            Capability::Scsi(_) => "scsi",
            Capability::Storage(_) => "storage",
            Capability::ScsiGeneric(_) => "scsi_generic",
            Capability::Drm(_) => "drm",
            Capability::Mdev(_) => "mdev",
            Capability::Vdpa(_) => "vdpa",
            Capability::Other(tree) => {
                tree.attributes.iter().find(|(name, _)| name == "type").map_or("", |(_, value)| value)
            }
        }
    }
}

impl Device {
    /// libvirt's node device XML.
    pub fn to_xml(&self) -> String {
        write::write(self)
    }

    /// Reads libvirt's node device XML. Error: code 27 or 35.
    pub fn parse(xml: &str) -> crate::error::Result<Device> {
        read::parse(xml)
    }

    /// What `virNodeDeviceListCaps` lists: what it is, and what it can do beside.
    pub fn caps(&self) -> Vec<String> {
        let mut caps = Vec::new();
        for capability in &self.capabilities {
            caps.push(capability.word().to_string());
            match capability {
                Capability::ScsiHost(host) => {
                    caps.extend(host.fibre.is_some().then(|| "fc_host".to_string()));
                    caps.extend(host.vports.is_some().then(|| "vports".to_string()));
                }
                Capability::Pci(pci) if !pci.mdev_types.is_empty() => caps.push("mdev_types".into()),
                _ => {}
            }
        }
        caps
    }

    /// Whether `virConnectListAllNodeDevices` with `flags` lists it: one of its capabilities is among those asked for, or
    /// none was, and the same of its persistence and activity.
    pub fn matches(&self, flags: u32) -> bool {
        let asked = flags & ((1 << CAPS.len()) - 1);
        let has = |word: &String| CAPS.iter().position(|cap| cap == word).is_some_and(|bit| asked & (1 << bit) != 0);
        // What is in sysfs is active; only the host itself is there for good.
        let persistent = self.parent.is_none();
        let kept = flags & (list::PERSISTENT | list::TRANSIENT);
        let kept_matches = kept == 0 || kept & if persistent { list::PERSISTENT } else { list::TRANSIENT } != 0;
        let activity = flags & (list::ACTIVE | list::INACTIVE);
        (asked == 0 || self.caps().iter().any(has)) && kept_matches && (activity == 0 || activity & list::ACTIVE != 0)
    }
}

/// Capabilities by the bits of `virConnectListAllNodeDeviceFlags`.
pub const CAPS: [&str; 23] = [
    "system",
    "pci",
    "usb_device",
    "usb",
    "net",
    "scsi_host",
    "scsi_target",
    "scsi",
    "storage",
    "fc_host",
    "vports",
    "scsi_generic",
    "drm",
    "mdev_types",
    "mdev",
    "ccw",
    "css",
    "vdpa",
    "ap_card",
    "ap_queue",
    "ap_matrix",
    "vpd",
    "ccwgroup",
];

/// The other bits of `virConnectListAllNodeDeviceFlags`.
pub mod list {
    pub const PERSISTENT: u32 = 1 << 28;
    pub const TRANSIENT: u32 = 1 << 29;
    pub const INACTIVE: u32 = 1 << 30;
    pub const ACTIVE: u32 = 1 << 31;
    /// All bits there are.
    pub const ALL: u32 = ((1 << super::CAPS.len()) - 1) | PERSISTENT | TRANSIENT | INACTIVE | ACTIVE;
}

#[cfg(test)]
mod tests;
