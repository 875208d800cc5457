//! Disks: the block graph of each, then the device that uses it.

use super::blockdev::{effective_cache, format_layer, node_names};
use super::boot::disk_boot_index;
use super::{Builder, FdKind, Props, alias, not_yet, pci_address, remote, usb_address, virtio_options};
use crate::domain_xml::device::*;
use crate::error::{Error, Result};
use crate::qemu::complete::{Chipset, chipset_of};

pub(super) fn disks(b: &mut Builder<'_>) -> Result<()> {
    floppy_controllers(b)?;
    for position in 0..b.def.disks.len() {
        let disk = &b.def.disks[position];
        refuse(disk)?;
        let mut layers = vec![&disk.source];
        while let Some(Backing::Layer(below)) = layers.last().map(|layer| &layer.backing) {
            layers.push(below);
        }
        for layer in &layers {
            match remote::unprepared(layer) {
                Some(what) if !b.ctx.paper => return Err(not_yet(format!("{what} of disk '{}'", disk.dev()))),
                _ => {}
            }
        }
        let mut backing: Option<String> = None;
        for (depth, layer) in layers.iter().enumerate().rev() {
            for secret in remote::secrets(layer)? {
                let object = match b.ctx.paper {
                    true => remote::on_paper(&secret.id),
                    // A path, as QEMU opens no descriptor sets here. It reads the bytes at once.
                    false => {
                        let fd = b.fd(FdKind::Secret { id: secret.id.clone() });
                        let object = Props::object("secret", &secret.id).set("format", "raw");
                        object.set("file", format!("/proc/self/fd/{fd}"))
                    }
                };
                b.object(&object);
            }
            for node in format_layer(disk, layer, depth == 0, backing.as_deref())? {
                b.arg("-blockdev", node.json());
            }
            backing = node_names(layer).map(|names| names.top().to_string());
        }
        let node = if disk.source.is_empty() { None } else { backing };
        let device = front(b, position, node)?;
        b.device(&device);
    }
    Ok(())
}

fn refuse(disk: &Disk) -> Result<()> {
    let dev = disk.dev();
    let refused = [
        (disk.device == DiskDevice::Lun, "<disk device='lun'>"),
        (disk.transient, "<transient/>"),
        (disk.driver.copy_on_read.is_some_and(|state| state.is_on()), "copy_on_read='on'"),
        (disk.sgio.is_some(), "sgio"),
        (disk.mirror.is_some(), "<mirror>"),
        (!disk.throttlefilters.is_empty(), "<throttlefilters>"),
    ];
    match refused.iter().find(|(present, _)| *present) {
        Some((_, what)) => Err(not_yet(format!("{what} of disk '{dev}'"))),
        None => Ok(()),
    }
}

/// Floppy controllers carry the boot indexes of their drives, and a q35 has none built in.
fn floppy_controllers(b: &mut Builder<'_>) -> Result<()> {
    let floppies: Vec<usize> =
        (0..b.def.disks.len()).filter(|i| b.def.disks[*i].target.bus == Some(DiskBus::Fdc)).collect();
    if floppies.is_empty() {
        return Ok(());
    }
    let mut device = Props::new().set("driver", "isa-fdc");
    let q35 = chipset_of(b.def) == Chipset::Q35;
    for position in floppies {
        let unit = match b.def.disks[position].info.address {
            Some(DeviceAddress::Drive { unit, .. }) => unit,
            _ => 0,
        };
        if let Some(index) = disk_boot_index(b, position) {
            let name = if unit == 0 { "bootindexA" } else { "bootindexB" };
            match q35 {
                true => device = device.set(name, index),
                false => b.arg("-global", format!("isa-fdc.{name}={index}")),
            }
        }
    }
    if q35 {
        b.device(&device);
    }
    Ok(())
}

fn front(b: &Builder<'_>, position: usize, node: Option<String>) -> Result<Props> {
    let def = b.def;
    let disk = &def.disks[position];
    let id = alias(&disk.info)?;
    let cdrom = disk.device == DiskDevice::Cdrom;
    let drive = |controller_kind| -> Result<(u32, u32, u32, u32, String)> {
        let Some(DeviceAddress::Drive { controller, bus, target, unit }) = disk.info.address else {
            return Err(Error::internal(format!("disk '{}' has no drive address", disk.dev())));
        };
        let found = def.controllers.iter().find(|c| c.kind == controller_kind && c.index == Some(controller));
        let name = found.and_then(|c| c.info.alias.clone()).unwrap_or_else(|| format!("{controller_kind}{controller}"));
        Ok((controller, bus, target, unit, name))
    };
    let mut p = match disk.target.bus {
        Some(DiskBus::Virtio) => virtio_blk(b, disk)?,
        Some(DiskBus::Ide) => {
            let (_, bus, _, unit, name) = drive(ControllerType::Ide)?;
            Props::new()
                .set("driver", if cdrom { "ide-cd" } else { "ide-hd" })
                .set("bus", format!("{name}.{bus}"))
                .set("unit", unit)
        }
        Some(DiskBus::Sata) => {
            let (_, _, _, unit, name) = drive(ControllerType::Sata)?;
            Props::new().set("driver", if cdrom { "ide-cd" } else { "ide-hd" }).set("bus", format!("{name}.{unit}"))
        }
        Some(DiskBus::Scsi) => {
            let (controller, bus, target, unit, name) = drive(ControllerType::Scsi)?;
            let model = def.controllers.iter().find(|c| c.kind == ControllerType::Scsi && c.index == Some(controller));
            let p =
                Props::new().set("driver", if cdrom { "scsi-cd" } else { "scsi-hd" }).set("bus", format!("{name}.0"));
            let p = match model.and_then(|c| c.model.as_deref()) {
                Some("lsilogic") => p.set("scsi-id", unit),
                _ => p.set("channel", bus).set("scsi-id", target).set("lun", unit),
            };
            let device_id = disk.serial.clone().unwrap_or_else(|| format!("drive-{id}"));
            p.set("device_id", device_id)
        }
        Some(DiskBus::Usb) => Props::new().set("driver", "usb-storage").join(usb_address(def, &disk.info)?),
        Some(DiskBus::Fdc) => {
            let (_, _, _, unit, _) = drive(ControllerType::Fdc)?;
            return Ok(Props::new().set("driver", "floppy").set("unit", unit).set_opt("drive", node).set("id", id));
        }
        Some(DiskBus::Sd) => return Err(not_yet(format!("<target bus='sd'> of disk '{}'", disk.dev()))),
        Some(other) => {
            return Err(Error::unsupported_config(format!("unsupported disk bus '{other}' with device setup")));
        }
        None => return Err(Error::internal(format!("disk '{}' has no bus", disk.dev()))),
    };
    if let Some(io) = &disk.blockio {
        p = p.set_opt("logical_block_size", io.logical_block_size);
        p = p.set_opt("physical_block_size", io.physical_block_size);
        p = p.set_opt("discard_granularity", io.discard_granularity);
    }
    if let Some(geometry) = &disk.geometry {
        p = p.set_opt("cyls", geometry.cyls).set_opt("heads", geometry.heads).set_opt("secs", geometry.secs);
        p = p
            .set_opt("bios-chs-trans", geometry.trans.filter(|t| *t != GeometryTrans::None).map(GeometryTrans::as_str));
    }
    if disk.shareable && disk.target.bus != Some(DiskBus::Usb) {
        p = p.set("share-rw", true);
    }
    p = p.set_opt("drive", node).set("id", id).set_opt("bootindex", disk_boot_index(b, position));
    p = match (disk.target.bus, disk.target.removable) {
        (Some(DiskBus::Usb), removable) => p.set("removable", removable.is_some_and(|state| state.is_on())),
        (_, Some(removable)) => p.set("removable", removable.is_on()),
        (_, None) => p,
    };
    p = p.set_opt("rotation_rate", disk.target.rotation_rate);
    if let Some(wwn) = &disk.wwn {
        let number = u64::from_str_radix(wwn.trim_start_matches("0x"), 16)
            .map_err(|_| Error::unsupported_config(format!("malformed wwn '{wwn}' of disk '{}'", disk.dev())))?;
        p = p.set("wwn", number);
    }
    p = p.set_opt("vendor", disk.vendor.clone()).set_opt("product", disk.product.clone());
    if !cdrom {
        p = p.on_off("write-cache", write_cache(disk));
    }
    p = p.set_opt("werror", werror(disk)).set_opt("rerror", rerror(disk));
    Ok(p.set_opt("serial", disk.serial.clone()))
}

fn write_cache(disk: &Disk) -> Option<bool> {
    match effective_cache(disk)? {
        DiskCache::Default => None,
        DiskCache::None | DiskCache::Writeback | DiskCache::Unsafe => Some(true),
        DiskCache::Writethrough | DiskCache::Directsync => Some(false),
    }
}

fn werror(disk: &Disk) -> Option<&'static str> {
    disk.driver.error_policy.map(|policy| match policy {
        ErrorPolicy::Enospace => "enospc",
        other => other.as_str(),
    })
}

fn rerror(disk: &Disk) -> Option<&'static str> {
    // Reads know no "enospace": what is said for writes holds otherwise.
    let policy = disk.driver.rerror_policy.or(disk.driver.error_policy.filter(|p| *p != ErrorPolicy::Enospace));
    policy.map(ErrorPolicy::as_str)
}

fn virtio_blk(b: &Builder<'_>, disk: &Disk) -> Result<Props> {
    let model = disk.model.map_or("virtio", DiskModel::as_str);
    let driver = &disk.driver;
    let on = |switch: Option<crate::domain_xml::Switch>| switch.map(|switch| switch.is_on());
    let mut p = Props::new().set("driver", super::virtio_driver("virtio-blk", model));
    p = p.join(virtio_options(&driver.virtio));
    p = p.set_opt("iothread", driver.iothread.map(|id| format!("iothread{id}")));
    p = p.set_opt("ioeventfd", on(driver.ioeventfd)).set_opt("event_idx", on(driver.event_idx));
    p = p.set_opt("num-queues", driver.queues).set_opt("queue-size", driver.queue_size);
    if !driver.iothreads.is_empty() {
        let mapping = driver.iothreads.iter().map(|(id, queues)| {
            let entry = Props::new().set("iothread", format!("iothread{id}"));
            if queues.is_empty() { entry } else { entry.set("vqs", queues.clone()) }
        });
        p = p.list("iothread-vq-mapping", mapping.collect());
    }
    Ok(p.join(pci_address(b.def, &disk.info)?))
}
