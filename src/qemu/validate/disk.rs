//! `<disk>`: what QEMU's devices and block layer cannot do.

use std::collections::HashSet;

use super::{Check, each, refuse};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;
use crate::qemu::complete::{Chipset, chipset_of};

/// Every disk of a completed definition.
pub(super) fn disks(def: &DomainDef) -> Check {
    each("devices/disk", &def.disks, |disk| {
        frontend(def, disk)?;
        address(def, disk)?;
        formats(disk)?;
        access(disk)?;
        threads(def, disk)
    })?;
    groups(def)
}

fn frontend(def: &DomainDef, disk: &Disk) -> Check {
    let (bus, dev) = (disk.target.bus.unwrap_or_default(), disk.dev());
    let q35 = chipset_of(def) == Chipset::Q35;
    refuse!(
        if bus == DiskBus::Ide && q35, ConfigUnsupported,
        "IDE controllers are unsupported for this QEMU binary or machine type"
    );
    refuse!(if bus == DiskBus::Nvme, XmlError, "Invalid value for attribute 'bus' in element 'target': 'nvme'.");
    let fixed = matches!(bus, DiskBus::Virtio | DiskBus::Sd);
    refuse!(
        if disk.device == DiskDevice::Cdrom && fixed, ConfigUnsupported,
        "disk type of '{dev}' does not support ejectable media"
    );
    if disk.device == DiskDevice::Lun {
        lun(disk, bus)?;
    }
    let named = disk.driver.name.as_deref().filter(|name| *name != "qemu");
    if let Some(name) = named {
        refuse!(ConfigUnsupported, "unsupported driver name '{name}' for disk '{dev}'")?;
    }
    refuse!(
        if disk.wwn.is_some() && !matches!(bus, DiskBus::Ide | DiskBus::Scsi), ConfigUnsupported,
        "Only ide and scsi disk support wwn"
    );
    if let Some(geometry) = &disk.geometry {
        refuse!(if bus == DiskBus::Usb, ConfigUnsupported, "CHS geometry can not be set for '{bus}' bus");
        refuse!(
            if geometry.trans.is_some_and(|trans| trans != GeometryTrans::None) && bus != DiskBus::Ide, ConfigUnsupported,
            "CHS translation mode can only be set for 'ide' bus not '{bus}'"
        );
    }
    if disk.target.rotation_rate.is_some_and(|rate| rate != 0) {
        let spins = matches!(bus, DiskBus::Scsi | DiskBus::Ide | DiskBus::Sata);
        refuse!(if !spins, InternalError, "rotation rate is only valid for SCSI/IDE/SATA bus");
        refuse!(if disk.device != DiskDevice::Disk, InternalError, "rotation rate is only valid for disk device");
    }
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_ .+".contains(c);
    if let Some(serial) = disk.serial.as_ref().filter(|serial| !serial.chars().all(safe)) {
        refuse!(InternalError, "driver serial '{serial}' contains unsafe characters")?;
    }
    refuse!(
        if disk.driver.queues.is_some() && bus != DiskBus::Virtio, ConfigUnsupported,
        "queues attribute in disk driver element is only supported for virtio bus"
    );
    refuse!(
        if disk.driver.queue_size.is_some() && bus != DiskBus::Virtio, ConfigUnsupported,
        "queue_size attribute in disk driver is only supported for virtio bus"
    );
    Ok(())
}

fn lun(disk: &Disk, bus: DiskBus) -> Check {
    refuse!(
        if !matches!(bus, DiskBus::Scsi | DiskBus::Virtio), ConfigUnsupported,
        "disk device='lun' is not supported for bus='{bus}'"
    );
    if let Some(network) = &disk.source.network {
        let protocol = network.protocol;
        refuse!(
            if protocol != NetworkProtocol::Iscsi, ConfigUnsupported,
            "disk device='lun' is not supported for protocol='{protocol}'"
        );
    }
    refuse!(if disk.format() != StorageFormat::Raw, ConfigUnsupported, "disk device 'lun' must use 'raw' format");
    refuse!(if disk.sgio == Some(Sgio::Unfiltered), ConfigUnsupported, "unfiltered sgio is no longer supported");
    refuse!(if disk.wwn.is_some(), ConfigUnsupported, "Setting wwn is not supported for lun device");
    refuse!(
        if disk.vendor.is_some() || disk.product.is_some(), ConfigUnsupported,
        "Setting vendor or product is not supported for lun device"
    );
    refuse!(
        if bus == DiskBus::Virtio, ConfigUnsupported,
        "This QEMU doesn't support SCSI emulation with 'virtio-blk' device"
    );
    Ok(())
}

fn address(def: &DomainDef, disk: &Disk) -> Check {
    let bus = disk.target.bus.unwrap_or_default();
    if bus == DiskBus::Virtio
        && let Some(address) = &disk.info.address
    {
        let kind = address.type_name();
        let machine = def.os.machine.as_deref().unwrap_or_default();
        refuse!(
            if matches!(address, DeviceAddress::Ccw { .. }), ConfigUnsupported,
            "CCW addresses are not supported by machine type '{machine}'"
        );
        let possible =
            matches!(address, DeviceAddress::Pci { .. } | DeviceAddress::VirtioMmio | DeviceAddress::VirtioS390);
        refuse!(if !possible, ConfigUnsupported, "virtio disk cannot have an address of type '{kind}'");
    }
    let Some(DeviceAddress::Drive { controller, bus: place, target, .. }) = disk.info.address else { return Ok(()) };
    match bus {
        DiskBus::Fdc => {
            refuse!(if controller > 0, InternalError, "Only 1 fdc controller is supported");
            refuse!(if place > 0, InternalError, "Only 1 fdc bus is supported");
            refuse!(if target != 0, ConfigUnsupported, "target must be 0 for controller fdc");
        }
        DiskBus::Ide => {
            refuse!(if target != 0, ConfigUnsupported, "target must be 0 for ide controller");
            refuse!(if controller > 0, InternalError, "Only 1 IDE controller is supported");
        }
        DiskBus::Sata => {
            refuse!(if place != 0, ConfigUnsupported, "bus must be 0 for sata controller");
            refuse!(if target != 0, ConfigUnsupported, "target must be 0 for sata controller");
        }
        DiskBus::Scsi => {
            refuse!(if place > 0, InternalError, "SCSI controller only supports 1 bus");
            let on = |c: &&Controller| c.kind == ControllerType::Scsi && c.index == Some(controller);
            let model = def.controllers.iter().find(on).and_then(|c| c.model.as_deref());
            refuse!(
                if model == Some("lsilogic") && target != 0, ConfigUnsupported,
                "target must be 0 for controller model 'lsilogic'"
            );
        }
        _ => {}
    }
    Ok(())
}

fn formats(disk: &Disk) -> Check {
    let mut layers = vec![&disk.source];
    while let Some(Backing::Layer(next)) = layers.last().map(|layer| &layer.backing) {
        layers.push(next);
    }
    layers.into_iter().try_for_each(layer)?;
    let qcow2 = disk.format() == StorageFormat::Qcow2;
    refuse!(
        if disk.driver.metadata_cache_max.is_some_and(|max| max > 0) && !qcow2, ConfigUnsupported,
        "metadata cache max size control is supported only with qcow2 images"
    );
    let dir = disk.source.kind == StorageKind::Dir;
    let fat = disk.format() == StorageFormat::Fat;
    refuse!(
        if dir && fat && !disk.readonly, ConfigUnsupported,
        "virtual FAT storage can't be accessed in read-write mode"
    );
    Ok(())
}

fn layer(source: &StorageSource) -> Check {
    let format = source.format.unwrap_or(StorageFormat::Raw);
    if let Some(encryption) = &source.encryption {
        let format = source.format;
        refuse!(
            if matches!(encryption.format, EncryptionFormat::Qcow | EncryptionFormat::Default), ConfigUnsupported,
            "old qcow/qcow2 encryption is not supported"
        );
        if encryption.engine == Some(EncryptionEngine::Librbd) {
            let rbd = source.network.as_ref().is_some_and(|network| network.protocol == NetworkProtocol::Rbd);
            refuse!(if !rbd, ConfigUnsupported, "librbd encryption is supported only with RBD backed disks");
        } else {
            let possible = matches!(format, None | Some(StorageFormat::Raw | StorageFormat::Qcow2));
            refuse!(
                if !possible, ConfigUnsupported,
                "encryption is supported only with 'raw' and 'qcow2' image format"
            );
            let unknown = matches!(encryption.format, EncryptionFormat::Luks2 | EncryptionFormat::LuksAny);
            let kind = encryption.format;
            refuse!(
                if unknown, ConfigUnsupported,
                "'{kind}' is currently not supported by the qemu encryption engine"
            );
            refuse!(
                if encryption.secrets.len() > 1, ConfigUnsupported,
                "qemu encryption engine expects only a single secret"
            );
        }
    }
    let dir = source.kind == StorageKind::Dir;
    match format {
        StorageFormat::Fat => {
            refuse!(if !dir, ConfigUnsupported, "storage format 'fat' is supported only with 'dir' storage type");
        }
        _ if dir => refuse!(ConfigUnsupported, "storage type 'dir' requires use of storage format 'fat'")?,
        StorageFormat::Cow => refuse!(ConfigUnsupported, "'cow' storage format is not supported")?,
        StorageFormat::Iso => {
            refuse!(ConfigUnsupported, "storage format 'iso' is not directly supported by QEMU, use 'raw' instead")?
        }
        StorageFormat::Dir => refuse!(
            ConfigUnsupported,
            "'directory' storage format is not directly supported by QEMU, use 'dir' disk type instead"
        )?,
        _ => {}
    }
    if let Some(network) = source.network.as_ref().filter(|network| network.protocol == NetworkProtocol::Nfs) {
        refuse!(
            if network.hosts.len() != 1, ConfigUnsupported,
            "'nfs' protocol requires the usage of exactly one host"
        );
        let tcp = network.hosts.iter().all(|host| host.transport.unwrap_or_default() == HostTransport::Tcp);
        refuse!(if !tcp, ConfigUnsupported, "'nfs' host must use TCP protocol");
    }
    Ok(())
}

fn access(disk: &Disk) -> Check {
    let (dev, bus) = (disk.dev(), disk.target.bus.unwrap_or_default());
    let cache = disk.driver.cache.unwrap_or_default();
    refuse!(
        if disk.driver.io == Some(IoMode::Native) && !matches!(cache, DiskCache::None | DiskCache::Directsync),
        ConfigUnsupported,
        "io='native' needs either no disk cache or directsync cache mode"
    );
    let copies = disk.driver.copy_on_read.is_some_and(|switch| switch.is_on());
    refuse!(
        if copies && disk.readonly, ConfigUnsupported,
        "copy_on_read is not compatible with read-only disk '{dev}'"
    );
    refuse!(
        if disk.shareable && disk.format() != StorageFormat::Raw, ConfigUnsupported,
        "shared access for disk '{dev}' requires use of supported storage format"
    );
    refuse!(
        if disk.readonly && disk.device == DiskDevice::Disk && matches!(bus, DiskBus::Ide | DiskBus::Sata),
        ConfigUnsupported,
        "readonly {bus} disks are not supported"
    );
    if disk.transient {
        refuse!(if disk.readonly, ConfigUnsupported, "transient disk '{dev}' must not be read-only");
        refuse!(
            if disk.source.kind != StorageKind::File, ConfigUnsupported,
            "transient disk supported only with 'file' type ({dev})"
        );
        let shares = disk.transient_share_backing.is_some_and(|share| share.is_yes());
        let hotplugged = matches!(bus, DiskBus::Usb | DiskBus::Virtio | DiskBus::Scsi);
        refuse!(
            if shares && !hotplugged, ConfigUnsupported,
            "disk bus '{bus}' doesn't support transiend disk backing image sharing"
        );
    }
    refuse!(
        if disk.driver.rerror_policy == Some(ErrorPolicy::Enospace), ConfigUnsupported,
        "Invalid disk read error policy: 'enospace'"
    );
    if let Some(tune) = &disk.iotune {
        let limits = limits(tune);
        const MOST: u64 = 1_000_000_000_000_000;
        refuse!(
            if limits.iter().any(|limit| limit.is_some_and(|limit| limit > MOST)), ArgumentUnsupported,
            "block I/O throttle limit must be no more than {MOST} using QEMU"
        );
        refuse!(
            if tune.group_name.is_some() && limits.iter().all(Option::is_none), ConfigUnsupported,
            "group_name can be configured only together with settings"
        );
    }
    Ok(())
}

fn limits(tune: &IoTune) -> [Option<u64>; 13] {
    [
        tune.total_bytes_sec,
        tune.read_bytes_sec,
        tune.write_bytes_sec,
        tune.total_iops_sec,
        tune.read_iops_sec,
        tune.write_iops_sec,
        tune.total_bytes_sec_max,
        tune.read_bytes_sec_max,
        tune.write_bytes_sec_max,
        tune.total_iops_sec_max,
        tune.read_iops_sec_max,
        tune.write_iops_sec_max,
        tune.size_iops_sec,
    ]
}

/// Disks of one throttle group have the same limits.
fn groups(def: &DomainDef) -> Check {
    for (nth, disk) in def.disks.iter().enumerate() {
        let Some(tune) = disk.iotune.as_ref().filter(|tune| tune.group_name.is_some()) else { continue };
        let other = def.disks[..nth].iter().find(|other| {
            other.iotune.as_ref().is_some_and(|theirs| theirs.group_name == tune.group_name && theirs != tune)
        });
        if let Some(other) = other {
            let (first, second) = (other.dev(), disk.dev());
            let error = refuse!(ConfigUnsupported, "different iotunes for disks {first} and {second}");
            return error.map_err(|error| error.about("devices/disk", nth));
        }
    }
    Ok(())
}

fn threads(def: &DomainDef, disk: &Disk) -> Check {
    let driver = &disk.driver;
    if driver.iothread.is_none() && driver.iothreads.is_empty() {
        return Ok(());
    }
    let (bus, dev) = (disk.target.bus.unwrap_or_default(), disk.dev());
    refuse!(
        if bus != DiskBus::Virtio, ConfigUnsupported,
        "IOThreads not available for bus {bus} target {dev}"
    );
    let ids = crate::domain_xml::tune::iothread_ids(def);
    if let Some(id) = driver.iothread {
        refuse!(if !ids.contains(&id), ConfigUnsupported, "Disk iothread '{id}' not defined in iothreadid");
    }
    mapping(&driver.iothreads, driver.queues, &ids)
}

fn mapping(threads: &[(u32, Vec<u32>)], queues: Option<u32>, ids: &[u32]) -> Check {
    let (mut seen, mut assigned) = (HashSet::new(), HashSet::new());
    let with_queues = threads.iter().filter(|(_, queues)| !queues.is_empty()).count();
    for (id, mapped) in threads {
        refuse!(if !ids.contains(id), ConfigUnsupported, "iothread '{id}' not defined in iothreadid");
        refuse!(if !seen.insert(id), ConfigUnsupported, "duplicate mapping for iothread '{id}'");
        for queue in mapped {
            let Some(count) = queues else {
                return refuse!(
                    ConfigUnsupported,
                    "'queue' count must be configured for explicit iothread to queue mapping"
                );
            };
            refuse!(if *queue >= count, ConfigUnsupported, "iothread queue '{queue}' mapping out of range");
            refuse!(if !assigned.insert(queue), ConfigUnsupported, "iothread queue '{queue}' is already assigned");
        }
    }
    refuse!(
        if with_queues > 0 && with_queues < threads.len(), ConfigUnsupported,
        "iothread to queue mapping must be provided for all iothreads or for none"
    );
    let missing = (0..queues.unwrap_or(0)).find(|queue| !assigned.contains(queue)).filter(|_| with_queues > 0);
    missing.map_or(Ok(()), |queue| refuse!(ConfigUnsupported, "missing iothread mapping for queue '{queue}'"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "q35",
        "<disk><source file='/x'/><target dev='hda' bus='ide'/></disk>",
        "unsupported configuration: IDE controllers are unsupported for this QEMU binary or machine type"
    )]
    #[case(
        "pc",
        "<disk device='cdrom'><target dev='vda'/></disk>",
        "unsupported configuration: disk type of 'vda' does not support ejectable media (line 2"
    )]
    #[case(
        "pc",
        "<disk type='block' device='lun'><source dev='/x'/><target dev='hda'/></disk>",
        "unsupported configuration: disk device='lun' is not supported for bus='ide'"
    )]
    #[case(
        "pc",
        "<disk><source file='/x'/><target dev='vda'/><serial>a:b</serial></disk>",
        "internal error: driver serial 'a:b' contains unsafe characters"
    )]
    #[case(
        "pc",
        "<disk><source file='/x'/><target dev='vda'/><geometry cyls='1' heads='1' secs='1' trans='lba'/></disk>",
        "unsupported configuration: CHS translation mode can only be set for 'ide' bus not 'virtio'"
    )]
    #[case(
        "pc",
        "<disk><source file='/x'/><target dev='vda'/><address type='drive'/></disk>",
        "unsupported configuration: virtio disk cannot have an address of type 'drive'"
    )]
    #[case(
        "pc",
        "<disk><source file='/x'/><target dev='hde' bus='ide'/></disk>",
        "internal error: Only 1 IDE controller is supported"
    )]
    #[case(
        "pc",
        "<disk><driver type='qcow2'/><source file='/x'/><target dev='vda'/><shareable/></disk>",
        "unsupported configuration: shared access for disk 'vda' requires use of supported storage format"
    )]
    #[case(
        "pc",
        "<disk><driver type='iso'/><source file='/x'/><target dev='vda'/></disk>",
        "unsupported configuration: storage format 'iso' is not directly supported by QEMU, use 'raw' instead"
    )]
    #[case(
        "pc",
        "<disk type='dir'><source dir='/x'/><target dev='vda'/></disk>",
        "unsupported configuration: storage type 'dir' requires use of storage format 'fat'"
    )]
    #[case(
        "pc",
        "<disk><driver type='vmdk'/><source file='/x'/><target dev='vda'/><encryption format='luks'/></disk>",
        "unsupported configuration: encryption is supported only with 'raw' and 'qcow2' image format"
    )]
    #[case(
        "pc",
        "<disk><driver io='native'/><source file='/x'/><target dev='vda'/></disk>",
        "unsupported configuration: io='native' needs either no disk cache or directsync cache mode"
    )]
    #[case(
        "pc",
        "<disk><source file='/x'/><target dev='hda'/><readonly/></disk>",
        "unsupported configuration: readonly ide disks are not supported"
    )]
    #[case(
        "pc",
        "<disk><source file='/x'/><target dev='vda'/><transient/><readonly/></disk>",
        "unsupported configuration: transient disk 'vda' must not be read-only"
    )]
    #[case(
        "pc",
        "<disk><source file='/x'/><target dev='vda'/><iotune><group_name>g</group_name></iotune></disk>",
        "unsupported configuration: group_name can be configured only together with settings"
    )]
    #[case(
        "pc",
        "<disk><driver iothread='1'/><source file='/x'/><target dev='vda'/></disk>",
        "unsupported configuration: Disk iothread '1' not defined in iothreadid"
    )]
    #[case(
        "pc",
        "<disk><driver><iothreads><iothread id='3'/></iothreads></driver><source file='/x'/><target dev='vda'/></disk>",
        "unsupported configuration: iothread '3' not defined in iothreadid"
    )]
    fn refused(#[case] machine: &str, #[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(machine, xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
