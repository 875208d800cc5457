//! Devices from sysfs. A file that is missing or cannot be read leaves a fact out, never a device.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::{
    Capability, Device, Express, Id, IommuGroup, Link, Mdev, MdevType, Net, Pci, Scsi, ScsiHost, ScsiTarget, Storage,
    System, UsbDevice, UsbInterface,
};
use crate::types::{PciAddress, Uuid};

/// Where to look.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/sys`
    pub sys: PathBuf,
    /// `/run/udev`; what udev knows of disks.
    pub udev: PathBuf,
    /// Files in the form of `pci.ids`: the first that is there names vendors and products.
    pub ids: Vec<PathBuf>,
}

impl Roots {
    /// Those of the host.
    pub fn host() -> Roots {
        let ids = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"];
        Roots { sys: "/sys".into(), udev: "/run/udev".into(), ids: ids.map(PathBuf::from).into() }
    }
}

/// A device that was found, before it has a parent.
struct Found {
    device: Device,
    /// Resolved, for finding parents.
    path: PathBuf,
}

/// All devices, by name. Blocks for a few file reads per device.
pub fn scan(roots: &Roots) -> Vec<Device> {
    let mut found = Vec::new();
    let scan = Scan { roots };
    scan.pci(&mut found);
    scan.usb(&mut found);
    scan.scsi(&mut found);
    scan.net(&mut found);
    scan.block(&mut found);
    scan.other(&mut found);
    let by_path: HashMap<PathBuf, String> =
        found.iter().map(|one| (one.path.clone(), one.device.name.clone())).collect();
    let mut devices = with_parents(found, &by_path);
    devices.push(scan.system());
    in_order(devices)
}

/// All devices, when since the former look only network interfaces came, went or changed: the others are taken over,
/// because reading PCI configuration space is slow and guests' interfaces come and go all the time.
pub fn scan_interfaces(roots: &Roots, former: &[Device]) -> Vec<Device> {
    let is_interface = |device: &Device| matches!(device.capabilities.first(), Some(Capability::Net(_)));
    let mut devices: Vec<Device> = former.iter().filter(|device| !is_interface(device)).cloned().collect();
    let by_path: HashMap<PathBuf, String> =
        devices.iter().filter_map(|one| Some((PathBuf::from(one.path.as_ref()?), one.name.clone()))).collect();
    let mut found = Vec::new();
    Scan { roots }.net(&mut found);
    devices.extend(with_parents(found, &by_path));
    in_order(devices)
}

fn with_parents(found: Vec<Found>, by_path: &HashMap<PathBuf, String>) -> Vec<Device> {
    let child = |Found { mut device, path }: Found| {
        let parent = path.ancestors().skip(1).find_map(|above| by_path.get(above));
        device.parent = Some(parent.map_or("computer", String::as_str).to_string());
        device
    };
    found.into_iter().map(child).collect()
}

fn in_order(mut devices: Vec<Device>) -> Vec<Device> {
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    // A name that libvirt's rule gives to two devices can mean one only.
    devices.dedup_by(|b, a| a.name == b.name);
    devices
}

/// Letters and digits stay; everything else becomes `_`.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// A file of the kernel's without the blanks around; `None` when empty.
fn text(path: &Path) -> Option<String> {
    let text = String::from_utf8_lossy(&fs::read(path).ok()?).trim().to_string();
    (!text.is_empty()).then_some(text)
}

fn number<N: TryFrom<u64>>(path: &Path) -> Option<N> {
    text(path)?.parse::<u64>().ok()?.try_into().ok()
}

fn hex(path: &Path) -> Option<u32> {
    let text = text(path)?;
    u32::from_str_radix(text.strip_prefix("0x").unwrap_or(&text), 16).ok()
}

fn id(path: &Path) -> Id {
    Id { number: hex(path).and_then(|number| number.try_into().ok()).unwrap_or_default(), name: None }
}

/// The last part of what a link points to.
fn target_name(link: &Path) -> Option<String> {
    Some(fs::read_link(link).ok()?.file_name()?.to_string_lossy().into_owned())
}

/// The entries of a directory by name; none when there is no such directory.
fn entries(dir: &Path) -> Vec<(String, PathBuf)> {
    let mut all: Vec<(String, PathBuf)> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .collect();
    all.sort();
    all
}

/// `0000:00:1f.2`
fn pci_address(name: &str) -> Option<PciAddress> {
    let (rest, function) = name.split_once('.')?;
    let mut parts = rest.split(':').map(|part| u32::from_str_radix(part, 16));
    let (domain, bus, slot) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    Some(PciAddress { domain, bus, slot, function: u32::from_str_radix(function, 16).ok()? })
}

fn mdev_types(path: &Path) -> Vec<MdevType> {
    let types = entries(&path.join("mdev_supported_types")).into_iter();
    types
        .map(|(id, path)| MdevType {
            id,
            name: text(&path.join("name")),
            device_api: text(&path.join("device_api")).unwrap_or_default(),
            available: number(&path.join("available_instances")).unwrap_or_default(),
        })
        .collect()
}

/// What kind of bridge a configuration space is of.
pub(super) fn header(config: &[u8]) -> Option<String> {
    match config.get(0x0e)? & 0x7f {
        1 => Some("pci-bridge".into()),
        2 => Some("cardbus-bridge".into()),
        _ => None,
    }
}

/// The links that the PCI Express capability of a configuration space tells of; `None` without such a capability.
pub(super) fn express(config: &[u8]) -> Option<Express> {
    let byte = |at: usize| config.get(at).copied();
    let word = |at: usize| Some(u16::from_le_bytes([byte(at)?, byte(at + 1)?]));
    if word(0x06)? & 0x10 == 0 {
        return None;
    }
    let mut at = usize::from(byte(0x34)? & 0xfc);
    // More than fit in: a list that does not end is nobody's.
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        if byte(at)? == 0x10 {
            let kind = word(at + 2)? >> 4 & 0xf;
            // Devices and event collectors inside the root complex have no link.
            if kind == 9 || kind == 10 {
                return Some(Express::default());
            }
            let capable = u32::from(word(at + 0x0c)?) | u32::from(word(at + 0x0e)?) << 16;
            let status = u32::from(word(at + 0x12)?);
            let link = |port: Option<u32>, bits: u32| Link { port, speed: speed(bits & 0xf), width: bits >> 4 & 0x3f };
            return Some(Express {
                capable: Some(link(Some(capable >> 24), capable)),
                status: Some(link(None, status)),
            });
        }
        at = usize::from(byte(at + 1)? & 0xfc);
    }
    None
}

fn speed(code: u32) -> Option<String> {
    let speeds = ["2.5", "5", "8", "16", "32", "64"];
    speeds.get(usize::try_from(code).ok()?.checked_sub(1)?).map(ToString::to_string)
}

struct Scan<'r> {
    roots: &'r Roots,
}

impl Scan<'_> {
    fn sys(&self, below: &str) -> PathBuf {
        self.roots.sys.join(below)
    }

    /// Adds the device at `link`, with what is the same for all.
    fn add(&self, found: &mut Vec<Found>, name: String, link: &Path, capability: Capability) {
        let Ok(path) = fs::canonicalize(link) else { return };
        let devnode = text(&path.join("uevent")).and_then(|uevent| {
            let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?.to_string();
            Some(format!("/dev/{name}"))
        });
        found.push(Found {
            device: Device {
                name,
                path: Some(path.to_string_lossy().into_owned()),
                devnode,
                parent: None,
                driver: target_name(&path.join("driver")),
                capabilities: vec![capability],
            },
            path,
        });
    }

    fn system(&self) -> Device {
        let dmi = |name: &str| text(&self.sys("class/dmi/id").join(name));
        let system = System {
            product: dmi("product_name"),
            vendor: dmi("sys_vendor"),
            version: dmi("product_version"),
            serial: dmi("product_serial"),
            uuid: dmi("product_uuid").and_then(|uuid| Uuid::try_parse(&uuid).ok()).unwrap_or_default(),
            firmware_vendor: dmi("bios_vendor"),
            firmware_version: dmi("bios_version"),
            firmware_date: dmi("bios_date"),
        };
        let capabilities = vec![Capability::System(system)];
        Device { name: "computer".into(), capabilities, ..Device::default() }
    }

    fn pci(&self, found: &mut Vec<Found>) {
        let devices = entries(&self.sys("bus/pci/devices"));
        let wanted = devices.iter().map(|(_, link)| (id(&link.join("vendor")).number, id(&link.join("device")).number));
        let names = Names::of(self.roots.ids.iter().find_map(|path| fs::File::open(path).ok()), &wanted.collect());
        for (name, link) in devices {
            let Some(address) = pci_address(&name) else { continue };
            // Beyond 64 bytes only for who may; then there is no telling of links.
            let config = fs::read(link.join("config")).unwrap_or_default();
            let (mut vendor, mut product) = (id(&link.join("vendor")), id(&link.join("device")));
            vendor.name = names.vendors.get(&vendor.number).cloned();
            product.name = names.products.get(&(vendor.number, product.number)).cloned();
            let numbered = |link: &Path| target_name(link).as_deref().and_then(pci_address);
            let mut virtuals: Vec<(u32, PciAddress)> = entries(&link)
                .into_iter()
                .filter_map(|(name, link)| Some((name.strip_prefix("virtfn")?.parse().ok()?, numbered(&link)?)))
                .collect();
            virtuals.sort_unstable();
            let iommu = target_name(&link.join("iommu_group")).and_then(|number| {
                let members = entries(&link.join("iommu_group/devices"));
                let members = members.iter().filter_map(|(name, _)| pci_address(name)).collect();
                Some(IommuGroup { number: number.parse().ok()?, members })
            });
            let pci = Pci {
                class: hex(&link.join("class")),
                address,
                product,
                vendor,
                physical: numbered(&link.join("physfn")),
                virtuals: virtuals.into_iter().map(|(_, address)| address).collect(),
                virtuals_max: number(&link.join("sriov_totalvfs")).unwrap_or_default(),
                header: header(&config),
                mdev_types: mdev_types(&link),
                iommu,
                numa_node: text(&link.join("numa_node")).and_then(|node| node.parse().ok()).filter(|node| *node >= 0),
                express: express(&config),
            };
            self.add(found, format!("pci_{}", plain(&name)), &link, Capability::Pci(Box::new(pci)));
        }
    }

    fn usb(&self, found: &mut Vec<Found>) {
        for (name, link) in entries(&self.sys("bus/usb/devices")) {
            let capability = if name.contains(':') {
                let value = |file: &str| hex(&link.join(file)).unwrap_or_default();
                Capability::Usb(UsbInterface {
                    number: value("bInterfaceNumber"),
                    class: value("bInterfaceClass"),
                    subclass: value("bInterfaceSubClass"),
                    protocol: value("bInterfaceProtocol"),
                    description: text(&link.join("interface")),
                })
            } else {
                let (Some(bus), Some(device)) = (number(&link.join("busnum")), number(&link.join("devnum"))) else {
                    continue;
                };
                let named = |number: &str, name: &str| Id { name: text(&link.join(name)), ..id(&link.join(number)) };
                Capability::UsbDevice(UsbDevice {
                    bus,
                    device,
                    product: named("idProduct", "product"),
                    vendor: named("idVendor", "manufacturer"),
                })
            };
            self.add(found, format!("usb_{}", plain(&name)), &link, capability);
        }
    }

    fn net(&self, found: &mut Vec<Found>) {
        for (interface, link) in entries(&self.sys("class/net")) {
            let Ok(path) = fs::canonicalize(&link) else { continue };
            // Beside the links stand files of the bonding driver.
            if !path.is_dir() {
                continue;
            }
            let address = text(&path.join("address"));
            let state = text(&path.join("operstate"));
            let up = state.as_deref() == Some("up");
            let wireless = path.join("wireless").exists() || path.join("phy80211").exists();
            let net = Net {
                // -1 where nobody knows.
                speed: number(&path.join("speed")).filter(|_| up),
                kind: Some(if wireless { "80211" } else { "80203" }.into()),
                features: Vec::new(),
                state,
                address: address.clone(),
                interface: interface.clone(),
            };
            let name = format!("net_{}_{}", plain(&interface), plain(&address.unwrap_or_default()));
            self.add(found, name, &link, Capability::Net(net));
        }
    }

    fn scsi(&self, found: &mut Vec<Found>) {
        for (name, link) in entries(&self.sys("class/scsi_host")) {
            let Some(host) = name.strip_prefix("host").and_then(|number| number.parse().ok()) else { continue };
            let fibre = self.sys("class/fc_host").join(&name);
            let wwn = |file: &str| text(&fibre.join(file)).map(|text| text.trim_start_matches("0x").to_string());
            let vports = |dir: &Path| {
                Some((
                    number(&dir.join("max_npiv_vports"))?,
                    number(&dir.join("npiv_vports_inuse")).unwrap_or_default(),
                ))
            };
            let capability = Capability::ScsiHost(ScsiHost {
                host,
                unique_id: number(&link.join("unique_id")),
                fibre: wwn("node_name").map(|node| (node, wwn("port_name").unwrap_or_default(), wwn("fabric_name"))),
                vports: vports(&fibre).or_else(|| vports(&link)),
            });
            // libvirt's is the host's device, not the entry of its class.
            let device = link.join("device");
            self.add(found, format!("scsi_host{host}"), if device.exists() { &device } else { &link }, capability);
        }
        for (name, link) in entries(&self.sys("bus/scsi/devices")) {
            if name.starts_with("target") {
                let device = format!("scsi_{}", plain(&name));
                self.add(found, device, &link, Capability::ScsiTarget(ScsiTarget { name }));
                continue;
            }
            let mut numbers = name.split(':').map(str::parse);
            let mut next = || numbers.next().and_then(Result::ok);
            let (Some(host), Some(bus), Some(target), Some(lun)) = (next(), next(), next(), next()) else { continue };
            let kind = number::<usize>(&link.join("type")).and_then(scsi_type).map(Into::into);
            let scsi = Scsi { host, bus, target, lun, kind };
            self.add(found, format!("scsi_{}", plain(&name)), &link, Capability::Scsi(scsi));
        }
    }

    /// What udev noted of the device with this number.
    fn udev(&self, dev: Option<String>) -> HashMap<String, String> {
        let Some(dev) = dev else { return HashMap::new() };
        let noted = text(&self.roots.udev.join("data").join(format!("b{dev}"))).unwrap_or_default();
        let pairs = noted.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
        pairs.map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    fn block(&self, found: &mut Vec<Found>) {
        for (name, link) in entries(&self.sys("class/block")) {
            let uevent = text(&link.join("uevent")).unwrap_or_default();
            if !uevent.lines().any(|line| line == "DEVTYPE=disk") {
                continue;
            }
            let mut udev = self.udev(text(&link.join("dev")));
            // Loop devices and their like are nobody's disk.
            let Some(kind) = udev.remove("ID_TYPE").or_else(|| drive_type(&name, &link)) else { continue };
            let blocks: u64 = number(&link.join("size")).unwrap_or_default();
            let removable = number::<u8>(&link.join("removable")) == Some(1);
            let serial = udev.remove("ID_SERIAL");
            // The kernel counts in sectors of 512 bytes, whatever the device does.
            let size = blocks.saturating_mul(512);
            let logical_block_size = number(&link.join("queue/logical_block_size")).unwrap_or(512u64);
            let storage = Storage {
                block: format!("/dev/{}", name.replace('!', "/")),
                bus: udev.remove("ID_BUS"),
                drive_type: Some(kind),
                model: udev.remove("ID_MODEL").or_else(|| text(&link.join("device/model"))),
                vendor: udev.remove("ID_VENDOR").or_else(|| text(&link.join("device/vendor"))),
                serial: serial.clone(),
                size,
                logical_block_size,
                num_blocks: size / logical_block_size.max(1),
                media: removable.then_some(blocks > 0),
                hotpluggable: false,
            };
            let serial = serial.map(|serial| format!("_{}", plain(&serial))).unwrap_or_default();
            self.add(found, format!("block_{}{serial}", plain(&name)), &link, Capability::Storage(storage));
        }
    }

    fn other(&self, found: &mut Vec<Found>) {
        for (name, link) in entries(&self.sys("class/scsi_generic")) {
            let node = Capability::ScsiGeneric(format!("/dev/{name}"));
            self.add(found, format!("scsi_generic_{}", plain(&name)), &link, node);
        }
        for (name, link) in entries(&self.sys("class/drm")) {
            let kind = match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
                "card" => "primary",
                "controlD" => "control",
                "renderD" => "render",
                // Connectors and the version.
                _ => continue,
            };
            self.add(found, format!("drm_{}", plain(&name)), &link, Capability::Drm(kind.into()));
        }
        for (name, link) in entries(&self.sys("bus/mdev/devices")) {
            let parent = fs::canonicalize(&link).ok().and_then(|path| target_of_parent(&path)).unwrap_or_default();
            let mdev = Mdev {
                kind: target_name(&link.join("mdev_type")).unwrap_or_default(),
                uuid: Uuid::try_parse(&name).ok(),
                parent_addr: Some(parent.clone()).filter(|parent| !parent.is_empty()),
                iommu: target_name(&link.join("iommu_group")).and_then(|number| number.parse().ok()).unwrap_or(0),
                attributes: Vec::new(),
            };
            self.add(found, format!("mdev_{}_{}", plain(&name), plain(&parent)), &link, Capability::Mdev(mdev));
        }
        for (name, link) in entries(&self.sys("bus/vdpa/devices")) {
            let node = entries(&link).into_iter().find(|(name, _)| name.starts_with("vhost-vdpa"));
            let node = node.map(|(name, _)| format!("/dev/{name}")).unwrap_or_default();
            self.add(found, format!("vdpa_{}", plain(&name)), &link, Capability::Vdpa(node));
        }
    }
}

fn target_of_parent(path: &Path) -> Option<String> {
    Some(path.parent()?.file_name()?.to_string_lossy().into_owned())
}

/// libvirt's words for the peripheral device types of SCSI.
fn scsi_type(number: usize) -> Option<&'static str> {
    let words = [
        "disk",
        "tape",
        "printer",
        "processor",
        "worm",
        "cdrom",
        "scanner",
        "mod",
        "changer",
        "",
        "",
        "",
        "raid",
        "enclosure",
        "rbc",
    ];
    words.get(number).copied().filter(|word| !word.is_empty())
}

/// What kind of drive a disk is that udev knows nothing of.
fn drive_type(name: &str, link: &Path) -> Option<String> {
    let scsi = || number::<usize>(&link.join("device/type")).and_then(scsi_type);
    let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    let kind = if begins(&["vd", "nvme", "xvd", "pmem"]) {
        Some("disk")
    } else if begins(&["mmcblk"]) {
        Some("sd")
    } else if begins(&["sr"]) {
        Some("cdrom")
    } else if begins(&["fd"]) {
        Some("floppy")
    } else {
        scsi()
    };
    kind.map(Into::into)
}

/// Names of PCI vendors and products.
#[derive(Default)]
struct Names {
    vendors: HashMap<u16, String>,
    products: HashMap<(u16, u16), String>,
}

impl Names {
    /// Those of the wanted ones, from the form of `pci.ids`: a line per vendor, below it its products after a tab. The
    /// file has more than a megabyte: it is never held as a whole.
    fn of(file: Option<fs::File>, wanted: &HashSet<(u16, u16)>) -> Names {
        let mut names = Names::default();
        let Some(file) = file.filter(|_| !wanted.is_empty()) else { return names };
        let entry = |line: &str| {
            let (number, name) = line.split_once("  ")?;
            Some((u16::from_str_radix(number, 16).ok()?, name.trim().to_string()))
        };
        let mut vendor = None;
        let (mut file, mut bytes) = (BufReader::new(file), Vec::new());
        while file.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&bytes);
            let line = text.trim_end_matches('\n');
            if let Some(product) = line.strip_prefix('\t') {
                if let (Some(vendor), Some((number, name))) = (vendor, entry(product))
                    && wanted.contains(&(vendor, number))
                {
                    names.products.insert((vendor, number), name);
                }
            } else if let Some((number, name)) = entry(line) {
                vendor = wanted.iter().any(|(vendor, _)| *vendor == number).then_some(number);
                if vendor.is_some() {
                    names.vendors.insert(number, name);
                }
            } else if line.starts_with("C ") {
                // Classes follow.
                break;
            }
            drop(text);
            bytes.clear();
        }
        names
    }
}
