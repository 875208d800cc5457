//! A device as libvirt writes it.

use super::{Capability, Device, Express, Id, IommuGroup, Link, MdevType, Pci, ScsiHost, Storage, System, Tree};
use crate::types::PciAddress;
use crate::xml::Writer;

pub(super) fn write(device: &Device) -> String {
    let mut w = Writer::new();
    w.start("device");
    w.text("name", &device.name);
    w.text_opt("path", device.path.as_ref());
    if let Some(node) = &device.devnode {
        w.start("devnode");
        w.attr("type", "dev");
        w.end_with_text(node);
    }
    w.text_opt("parent", device.parent.as_ref());
    if let Some(driver) = &device.driver {
        w.element("driver", |w| w.text("name", driver));
    }
    for capability in &device.capabilities {
        if let Capability::Other(tree) = capability {
            write_tree(&mut w, tree);
            continue;
        }
        w.start("capability");
        w.attr("type", capability.word());
        body(&mut w, capability);
        w.end();
    }
    w.end();
    w.finish()
}

fn body(w: &mut Writer, capability: &Capability) {
    match capability {
        Capability::System(system) => write_system(w, system),
        Capability::Pci(pci) => write_pci(w, pci),
        Capability::UsbDevice(usb) => {
            w.text("bus", usb.bus);
            w.text("device", usb.device);
            id(w, "product", &usb.product);
            id(w, "vendor", &usb.vendor);
        }
        Capability::Usb(usb) => {
            w.text("number", usb.number);
            w.text("class", usb.class);
            w.text("subclass", usb.subclass);
            w.text("protocol", usb.protocol);
            w.text_opt("description", usb.description.as_ref());
        }
        Capability::Net(net) => {
            w.text("interface", &net.interface);
            w.text_opt("address", net.address.as_ref());
            if net.state.is_some() || net.speed.is_some() {
                w.start("link");
                w.attr_opt("speed", net.speed);
                w.attr_opt("state", net.state.as_ref());
                w.end();
            }
            for feature in &net.features {
                w.start("feature");
                w.attr("name", feature);
                w.end();
            }
            if let Some(kind) = &net.kind {
                plain(w, kind);
            }
        }
        Capability::ScsiHost(host) => write_scsi_host(w, host),
        Capability::ScsiTarget(target) => w.text("target", &target.name),
        Capability::Scsi(scsi) => {
            w.text("host", scsi.host);
            w.text("bus", scsi.bus);
            w.text("target", scsi.target);
            w.text("lun", scsi.lun);
            w.text_opt("type", scsi.kind.as_ref());
        }
        Capability::Storage(storage) => write_storage(w, storage),
        Capability::ScsiGeneric(node) => w.text("char", node),
        Capability::Drm(kind) => w.text("type", kind),
        Capability::Mdev(mdev) => {
            w.start("type");
            w.attr("id", &mdev.kind);
            w.end();
            w.text_opt("uuid", mdev.uuid);
            w.text_opt("parent_addr", mdev.parent_addr.as_ref());
            w.start("iommuGroup");
            w.attr("number", mdev.iommu);
            w.end();
            for (name, value) in &mdev.attributes {
                w.start("attr");
                w.attr("name", name);
                w.attr("value", value);
                w.end();
            }
        }
        Capability::Vdpa(node) => w.text("chardev", node),
        Capability::Other(_) => {}
    }
}

fn plain(w: &mut Writer, kind: &str) {
    w.start("capability");
    w.attr("type", kind);
    w.end();
}

fn id(w: &mut Writer, name: &'static str, id: &Id) {
    w.start(name);
    w.attr("id", format_args!("0x{:04x}", id.number));
    match &id.name {
        Some(text) => w.end_with_text(text),
        None => w.end(),
    }
}

fn address(w: &mut Writer, address: &PciAddress) {
    w.start("address");
    w.attr("domain", format_args!("0x{:04x}", address.domain));
    w.attr("bus", format_args!("0x{:02x}", address.bus));
    w.attr("slot", format_args!("0x{:02x}", address.slot));
    w.attr("function", format_args!("0x{:x}", address.function));
    w.end();
}

fn write_system(w: &mut Writer, system: &System) {
    w.text_opt("product", system.product.as_ref());
    w.element("hardware", |w| {
        w.text_opt("vendor", system.vendor.as_ref());
        w.text_opt("version", system.version.as_ref());
        w.text_opt("serial", system.serial.as_ref());
        w.text("uuid", system.uuid);
    });
    w.element("firmware", |w| {
        w.text_opt("vendor", system.firmware_vendor.as_ref());
        w.text_opt("version", system.firmware_version.as_ref());
        w.text_opt("release_date", system.firmware_date.as_ref());
    });
}

fn write_pci(w: &mut Writer, pci: &Pci) {
    if let Some(class) = pci.class {
        w.text("class", format_args!("0x{class:06x}"));
    }
    w.text("domain", pci.address.domain);
    w.text("bus", pci.address.bus);
    w.text("slot", pci.address.slot);
    w.text("function", pci.address.function);
    id(w, "product", &pci.product);
    id(w, "vendor", &pci.vendor);
    if let Some(physical) = &pci.physical {
        w.start("capability");
        w.attr("type", "phys_function");
        address(w, physical);
        w.end();
    }
    if pci.virtuals_max > 0 || !pci.virtuals.is_empty() {
        w.start("capability");
        w.attr("type", "virt_functions");
        w.attr_opt("maxCount", Some(pci.virtuals_max).filter(|most| *most > 0));
        for one in &pci.virtuals {
            address(w, one);
        }
        w.end();
    }
    if let Some(header) = &pci.header {
        plain(w, header);
    }
    write_mdev_types(w, &pci.mdev_types);
    if let Some(IommuGroup { number, members }) = &pci.iommu {
        w.start("iommuGroup");
        w.attr("number", number);
        for member in members {
            address(w, member);
        }
        w.end();
    }
    if let Some(node) = pci.numa_node {
        w.start("numa");
        w.attr("node", node);
        w.end();
    }
    if let Some(Express { capable, status }) = &pci.express {
        w.start("pci-express");
        for (validity, link) in [("cap", capable), ("sta", status)] {
            let Some(Link { port, speed, width }) = link else { continue };
            w.start("link");
            w.attr("validity", validity);
            w.attr_opt("port", *port);
            w.attr_opt("speed", speed.as_ref());
            w.attr("width", width);
            w.end();
        }
        w.end();
    }
}

fn write_mdev_types(w: &mut Writer, types: &[MdevType]) {
    if types.is_empty() {
        return;
    }
    w.start("capability");
    w.attr("type", "mdev_types");
    for one in types {
        w.start("type");
        w.attr("id", &one.id);
        w.text_opt("name", one.name.as_ref());
        w.text("deviceAPI", &one.device_api);
        w.text("availableInstances", one.available);
        w.end();
    }
    w.end();
}

fn write_scsi_host(w: &mut Writer, host: &ScsiHost) {
    w.text("host", host.host);
    w.text_opt("unique_id", host.unique_id);
    if let Some((node, port, fabric)) = &host.fibre {
        w.start("capability");
        w.attr("type", "fc_host");
        w.text("wwnn", node);
        w.text("wwpn", port);
        w.text_opt("fabric_wwn", fabric.as_ref());
        w.end();
    }
    if let Some((most, now)) = host.vports {
        w.start("capability");
        w.attr("type", "vport_ops");
        w.text("max_vports", most);
        w.text("vports", now);
        w.end();
    }
}

fn write_storage(w: &mut Writer, storage: &Storage) {
    w.text("block", &storage.block);
    w.text_opt("bus", storage.bus.as_ref());
    w.text_opt("drive_type", storage.drive_type.as_ref());
    w.text_opt("model", storage.model.as_ref());
    w.text_opt("vendor", storage.vendor.as_ref());
    w.text_opt("serial", storage.serial.as_ref());
    let sizes = |w: &mut Writer| {
        w.text_opt("logical_block_size", Some(storage.logical_block_size).filter(|size| *size > 0));
        w.text_opt("num_blocks", Some(storage.num_blocks).filter(|blocks| *blocks > 0));
    };
    match storage.media {
        Some(available) => {
            w.start("capability");
            w.attr("type", "removable");
            w.text("media_available", u8::from(available));
            w.text("media_size", storage.size);
            sizes(w);
            w.end();
        }
        None => {
            w.text("size", storage.size);
            sizes(w);
        }
    }
    if storage.hotpluggable {
        plain(w, "hotpluggable");
    }
}

fn write_tree(w: &mut Writer, tree: &Tree) {
    w.start(tree.name.clone());
    for (name, value) in &tree.attributes {
        w.attr(name, value);
    }
    if tree.children.is_empty() {
        if tree.text.is_empty() {
            w.end();
        } else {
            w.end_with_text(&tree.text);
        }
        return;
    }
    for child in &tree.children {
        write_tree(w, child);
    }
    w.end();
}
