//! A device from libvirt's XML.

use super::{
    Capability, Device, Express, Id, IommuGroup, Link, Mdev, MdevType, Net, Pci, Scsi, ScsiHost, ScsiTarget, Storage,
    System, Tree, UsbDevice, UsbInterface,
};
use crate::error::{Code, Result, Subsystem};
use crate::types::{PciAddress, Uuid};
use crate::xml::{Document, Node, parse_any_base};

pub(super) fn parse(xml: &str) -> Result<Device> {
    read(xml).map_err(|error| error.or_subsystem(Subsystem::NodeDev))
}

fn read(xml: &str) -> Result<Device> {
    let document = Document::parse(xml, "node_device_definition")?;
    let root = document.root();
    if root.name() != "device" {
        return Err(root.error(Code::XmlError, format!("expecting root element of 'device', not '{}'", root.name())));
    }
    let capabilities = root.children("capability").map(capability).collect::<Result<Vec<_>>>()?;
    if capabilities.is_empty() {
        return Err(root.error(Code::XmlError, "no device capabilities for device"));
    }
    Ok(Device {
        name: root.child_string("name").unwrap_or_else(|| "new device".into()),
        path: root.child_string("path"),
        devnode: root.children("devnode").find(|node| node.attr("type") == Some("dev")).map(|node| node.text().into()),
        parent: root.child_string("parent"),
        // The kernel says that, not a document.
        driver: None,
        capabilities,
    })
}

fn capability(node: Node<'_>) -> Result<Capability> {
    let kind: String = node.require("type")?;
    Ok(match kind.as_str() {
        "system" => Capability::System(system(node)?),
        "pci" => Capability::Pci(Box::new(pci(node)?)),
        "usb_device" => Capability::UsbDevice(UsbDevice {
            bus: number(node, "bus")?.unwrap_or_default(),
            device: number(node, "device")?.unwrap_or_default(),
            product: id(node, "product")?,
            vendor: id(node, "vendor")?,
        }),
        "usb" => Capability::Usb(UsbInterface {
            number: number(node, "number")?.unwrap_or_default(),
            class: number(node, "class")?.unwrap_or_default(),
            subclass: number(node, "subclass")?.unwrap_or_default(),
            protocol: number(node, "protocol")?.unwrap_or_default(),
            description: node.child_string("description"),
        }),
        "net" => Capability::Net(net(node)?),
        "scsi_host" => Capability::ScsiHost(scsi_host(node)?),
        "scsi_target" => Capability::ScsiTarget(ScsiTarget { name: node.child_string("target").unwrap_or_default() }),
        "scsi" => Capability::Scsi(Scsi {
            host: number(node, "host")?.unwrap_or_default(),
            bus: number(node, "bus")?.unwrap_or_default(),
            target: number(node, "target")?.unwrap_or_default(),
            lun: number(node, "lun")?.unwrap_or_default(),
            kind: node.child_string("type"),
        }),
        "storage" => Capability::Storage(storage(node)?),
        "scsi_generic" => Capability::ScsiGeneric(node.child_string("char").unwrap_or_default()),
        "drm" => Capability::Drm(node.child_string("type").unwrap_or_default()),
        "mdev" => Capability::Mdev(mdev(node)?),
        "vdpa" => Capability::Vdpa(node.child_string("chardev").unwrap_or_default()),
        _ => Capability::Other(tree(node)),
    })
}

/// A number in any of C's forms.
fn number<N: TryFrom<u64>>(node: Node<'_>, name: &'static str) -> Result<Option<N>> {
    let Some(child) = node.child(name) else { return Ok(None) };
    let value = parse_any_base(child.text().trim()).and_then(|value| N::try_from(value).ok());
    value.map(Some).ok_or_else(|| child.error(Code::XmlError, format!("'{}' is no number for '{name}'", child.text())))
}

fn attribute<N: TryFrom<u64>>(node: Node<'_>, name: &'static str) -> Result<Option<N>> {
    let value = node.attr_any_base(name)?;
    value.map(|value| N::try_from(value).map_err(|_| node.invalid_attr(name, None, &[]))).transpose()
}

fn id(node: Node<'_>, name: &'static str) -> Result<Id> {
    let Some(child) = node.child(name) else { return Ok(Id::default()) };
    let text = Some(child.text()).filter(|text| !text.is_empty());
    Ok(Id { number: attribute(child, "id")?.unwrap_or_default(), name: text.map(Into::into) })
}

fn address(node: Node<'_>) -> Result<PciAddress> {
    Ok(PciAddress {
        domain: attribute(node, "domain")?.unwrap_or_default(),
        bus: attribute(node, "bus")?.unwrap_or_default(),
        slot: attribute(node, "slot")?.unwrap_or_default(),
        function: attribute(node, "function")?.unwrap_or_default(),
    })
}

fn uuid(node: Node<'_>) -> Result<Option<Uuid>> {
    let Some(child) = node.child("uuid") else { return Ok(None) };
    let uuid = Uuid::try_parse(child.text().trim());
    uuid.map(Some).map_err(|_| child.error(Code::InternalError, format!("malformed uuid element: '{}'", child.text())))
}

fn system(node: Node<'_>) -> Result<System> {
    let mut system = System { product: node.child_string("product"), ..System::default() };
    if let Some(hardware) = node.child("hardware") {
        system.vendor = hardware.child_string("vendor");
        system.version = hardware.child_string("version");
        system.serial = hardware.child_string("serial");
        system.uuid = uuid(hardware)?.unwrap_or_default();
    }
    if let Some(firmware) = node.child("firmware") {
        system.firmware_vendor = firmware.child_string("vendor");
        system.firmware_version = firmware.child_string("version");
        system.firmware_date = firmware.child_string("release_date");
    }
    Ok(system)
}

fn pci(node: Node<'_>) -> Result<Pci> {
    let mut pci = Pci {
        class: number(node, "class")?,
        address: PciAddress {
            domain: number(node, "domain")?.unwrap_or_default(),
            bus: number(node, "bus")?.unwrap_or_default(),
            slot: number(node, "slot")?.unwrap_or_default(),
            function: number(node, "function")?.unwrap_or_default(),
        },
        product: id(node, "product")?,
        vendor: id(node, "vendor")?,
        ..Pci::default()
    };
    for inner in node.children("capability") {
        match inner.attr("type").unwrap_or_default() {
            "phys_function" => pci.physical = inner.child("address").map(address).transpose()?,
            "virt_functions" => {
                pci.virtuals_max = attribute(inner, "maxCount")?.unwrap_or_default();
                pci.virtuals = inner.children("address").map(address).collect::<Result<_>>()?;
            }
            "mdev_types" => pci.mdev_types = inner.children("type").map(mdev_type).collect::<Result<_>>()?,
            bridge @ ("pci-bridge" | "cardbus-bridge") => pci.header = Some(bridge.into()),
            _ => {}
        }
    }
    if let Some(group) = node.child("iommuGroup") {
        let members = group.children("address").map(address).collect::<Result<_>>()?;
        pci.iommu = Some(IommuGroup { number: attribute(group, "number")?.unwrap_or_default(), members });
    }
    if let Some(numa) = node.child("numa") {
        pci.numa_node = attribute(numa, "node")?;
    }
    if let Some(express) = node.child("pci-express") {
        let link = |validity: &str| {
            let found = express.children("link").find(|link| link.attr("validity") == Some(validity));
            found.map(|link| {
                let speed = link.attr("speed").map(Into::into);
                Ok::<_, crate::error::Error>(Link {
                    port: attribute(link, "port")?,
                    speed,
                    width: attribute(link, "width")?.unwrap_or_default(),
                })
            })
        };
        pci.express = Some(Express { capable: link("cap").transpose()?, status: link("sta").transpose()? });
    }
    Ok(pci)
}

fn mdev_type(node: Node<'_>) -> Result<MdevType> {
    Ok(MdevType {
        id: node.require("id")?,
        name: node.child_string("name"),
        device_api: node.child_string("deviceAPI").unwrap_or_default(),
        available: number(node, "availableInstances")?.unwrap_or_default(),
    })
}

fn net(node: Node<'_>) -> Result<Net> {
    let link = node.child("link");
    Ok(Net {
        interface: node.child_string("interface").unwrap_or_default(),
        address: node.child_string("address"),
        state: link.and_then(|link| link.attr("state")).map(Into::into),
        speed: link.map(|link| attribute(link, "speed")).transpose()?.flatten(),
        features: node.children("feature").filter_map(|feature| feature.attr("name")).map(Into::into).collect(),
        kind: node.child("capability").and_then(|inner| inner.attr("type")).map(Into::into),
    })
}

fn scsi_host(node: Node<'_>) -> Result<ScsiHost> {
    let mut host = ScsiHost {
        host: number(node, "host")?.unwrap_or_default(),
        unique_id: number(node, "unique_id")?,
        ..ScsiHost::default()
    };
    for inner in node.children("capability") {
        match inner.attr("type").unwrap_or_default() {
            "fc_host" => {
                let text = |name| inner.child_string(name);
                host.fibre =
                    Some((text("wwnn").unwrap_or_default(), text("wwpn").unwrap_or_default(), text("fabric_wwn")));
            }
            // How many there are, the kernel says.
            "vport_ops" => host.vports = Some((0, 0)),
            _ => {}
        }
    }
    Ok(host)
}

fn storage(node: Node<'_>) -> Result<Storage> {
    let mut storage = Storage {
        block: node.child_string("block").unwrap_or_default(),
        bus: node.child_string("bus"),
        drive_type: node.child_string("drive_type"),
        model: node.child_string("model"),
        vendor: node.child_string("vendor"),
        serial: node.child_string("serial"),
        size: number(node, "size")?.unwrap_or_default(),
        logical_block_size: number(node, "logical_block_size")?.unwrap_or_default(),
        num_blocks: number(node, "num_blocks")?.unwrap_or_default(),
        ..Storage::default()
    };
    for inner in node.children("capability") {
        match inner.attr("type").unwrap_or_default() {
            "removable" => {
                storage.media = Some(number::<u8>(inner, "media_available")?.unwrap_or_default() != 0);
                storage.size = number(inner, "media_size")?.unwrap_or_default();
                storage.logical_block_size = number(inner, "logical_block_size")?.unwrap_or_default();
                storage.num_blocks = number(inner, "num_blocks")?.unwrap_or_default();
            }
            "hotpluggable" => storage.hotpluggable = true,
            _ => {}
        }
    }
    Ok(storage)
}

fn mdev(node: Node<'_>) -> Result<Mdev> {
    let attr = |node: Node<'_>, name| node.attr(name).unwrap_or_default().to_string();
    Ok(Mdev {
        kind: node.child("type").map(|kind| attr(kind, "id")).unwrap_or_default(),
        uuid: uuid(node)?,
        parent_addr: None,
        iommu: node.child("iommuGroup").map(|group| attribute(group, "number")).transpose()?.flatten().unwrap_or(0),
        attributes: node.children("attr").map(|one| (attr(one, "name"), attr(one, "value"))).collect(),
    })
}

fn tree(node: Node<'_>) -> Tree {
    let children: Vec<Tree> = node.all_children().map(tree).collect();
    let text = if children.is_empty() { node.text().trim().to_string() } else { String::new() };
    let attributes = node.attrs().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Tree { name: node.name().to_string(), attributes, text, children }
}
