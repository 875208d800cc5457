//! `<disk>`: what no driver takes.

use super::{Check, each, refuse};
use crate::domain_xml::device::*;
use crate::domain_xml::model::DomainDef;
use crate::domain_xml::words::YesNo;
use crate::error::{Code, Error, Result};

/// Every disk of a definition.
pub(super) fn disks(def: &DomainDef) -> Check {
    each("devices/disk", &def.disks, disk)?;
    let groups = throttle_groups(def);
    each("devices/disk", &def.disks, |disk| {
        let missing = disk.throttlefilters.iter().find(|name| !groups.contains(&name.as_str()));
        missing.map_or(Ok(()), |name| refuse!(XmlError, "throttle group '{name}' not found"))
    })
}

fn throttle_groups(def: &DomainDef) -> Vec<&str> {
    let groups = def.later.iter().filter(|element| element.name == "throttlegroups").flat_map(|list| &list.children);
    let names = groups.flat_map(|group| &group.children).filter(|element| element.name == "group_name");
    names.map(|name| name.text.as_str()).collect()
}

/// One disk.
pub(super) fn disk(disk: &Disk) -> Check {
    name(disk)?;
    features(disk)?;
    bus_options(disk)?;
    identity(disk)?;
    if let Some(tune) = &disk.iotune {
        if !disk.throttlefilters.is_empty() {
            let what =
                format!("block 'throttlefilters' can't be used together with 'iotune' for disk '{}'", disk.dev());
            return Err(Error::new(Code::OperationUnsupported, what));
        }
        iotune(tune)?;
    }
    startup_policy(disk)?;
    if disk.source.kind == StorageKind::VhostUser {
        vhost_user(disk)?;
    }
    super::source::source(&disk.source)?;
    let empty = disk.source.is_empty() && !matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy);
    refuse!(if empty, NoSource, "{}", disk.dev());
    if disk.target.bus == Some(DiskBus::Usb)
        && !matches!(disk.info.address, None | Some(DeviceAddress::Usb { .. } | DeviceAddress::Unassigned))
    {
        return Err(Error::internal("unexpected address type for usb disk"));
    }
    Ok(())
}

fn name(disk: &Disk) -> Check {
    let (dev, floppy) = (disk.dev(), disk.device == DiskDevice::Floppy);
    refuse!(if floppy && !dev.starts_with("fd"), InternalError, "Invalid floppy device name: {dev}");
    let known = ["hd", "sd", "vd", "xvd", "ubd"].iter().any(|prefix| dev.starts_with(prefix));
    let other = floppy || disk.device == DiskDevice::Cdrom && dev.starts_with("fd");
    refuse!(if !other && !known, InternalError, "Invalid harddisk device name: {dev}");
    Ok(())
}

fn features(disk: &Disk) -> Check {
    let lun = disk.device == DiskDevice::Lun;
    refuse!(if !lun && disk.rawio.is_some(), ConfigUnsupported, "rawio can be used only with device='lun'");
    refuse!(if !lun && disk.sgio.is_some(), ConfigUnsupported, "sgio can be used only with device='lun'");
    let ejectable = matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy);
    let open = disk.target.tray == Some(Tray::Open);
    refuse!(if open && !ejectable, ConfigUnsupported, "tray is only valid for cdrom and floppy");
    let reserved = disk.source.reservations.is_some();
    refuse!(if reserved && !lun, ConfigUnsupported, "<reservations/> allowed only for lun devices");
    refuse!(
        if disk.driver.iothread == Some(0), XmlError,
        "Invalid value for attribute 'iothread' in element 'driver': Zero is not permitted"
    );
    refuse!(
        if disk.driver.iothread.is_some() && !disk.driver.iothreads.is_empty(), XmlError,
        "disk driver 'iothread' attribute can't be used together with 'iothreads' subelement"
    );
    let no_unref = disk.driver.discard_no_unref.is_some_and(|switch| switch.is_on());
    refuse!(
        if no_unref && disk.format() != StorageFormat::Qcow2, ConfigUnsupported,
        "'discard_no_unref' only works with qcow2 disk format"
    );
    refuse!(
        if no_unref && disk.readonly, ConfigUnsupported,
        "'discard_no_unref' is not compatible with read-only disk"
    );
    Ok(())
}

/// Options that only some buses have.
fn bus_options(disk: &Disk) -> Check {
    let bus = disk.target.bus.unwrap_or_default();
    if bus == DiskBus::Virtio {
        return Ok(());
    }
    if let Some(model) = disk.model {
        refuse!(ConfigUnsupported, "disk model '{model}' not supported for bus '{bus}'")?;
    }
    let driver = &disk.driver;
    super::no_virtio_options(&driver.virtio)?;
    refuse!(if driver.event_idx.is_some(), ConfigUnsupported, "disk event_idx mode supported only for virtio bus");
    refuse!(if driver.ioeventfd.is_some(), ConfigUnsupported, "disk ioeventfd mode supported only for virtio bus");
    Ok(())
}

fn identity(disk: &Disk) -> Check {
    let printable = |text: &String| text.bytes().all(|b| (0x20..0x7f).contains(&b));
    for (name, value, most) in [("vendor", &disk.vendor, 8), ("product", &disk.product, 16)] {
        let Some(value) = value else { continue };
        refuse!(if !printable(value), XmlError, "disk {name} is not printable string");
        refuse!(if value.len() > most, ConfigUnsupported, "disk {name} is more than {most} characters");
        refuse!(if disk.target.bus != Some(DiskBus::Scsi), ConfigUnsupported, "Only scsi disk supports '{name}'");
    }
    Ok(())
}

fn iotune(tune: &IoTune) -> Check {
    let both = |total: Option<u64>, parts: [Option<u64>; 2]| total.is_some() && parts.iter().any(Option::is_some);
    let groups = [
        ("bytes_sec", tune.total_bytes_sec, [tune.read_bytes_sec, tune.write_bytes_sec]),
        ("iops_sec", tune.total_iops_sec, [tune.read_iops_sec, tune.write_iops_sec]),
        ("bytes_sec_max", tune.total_bytes_sec_max, [tune.read_bytes_sec_max, tune.write_bytes_sec_max]),
        ("iops_sec_max", tune.total_iops_sec_max, [tune.read_iops_sec_max, tune.write_iops_sec_max]),
    ];
    match groups.into_iter().find(|(_, total, parts)| both(*total, *parts)) {
        Some((name, ..)) => refuse!(XmlError, "total and read/write {name} cannot be set at the same time"),
        None => Ok(()),
    }
}

fn startup_policy(disk: &Disk) -> Check {
    let Some(policy) = disk.source.startup_policy else { return Ok(()) };
    let kind = disk.source.kind;
    let network = kind == StorageKind::Network;
    refuse!(if network, XmlError, "disk startupPolicy '{policy}' is not allowed for disk of '{kind}' type");
    let removable = matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy);
    refuse!(
        if policy == StartupPolicy::Requisite && !removable, XmlError,
        "disk startupPolicy 'requisite' is allowed only for cdrom or floppy"
    );
    Ok(())
}

/// What the process behind the socket decides cannot be set here.
fn vhost_user(disk: &Disk) -> Check {
    refuse!(if disk.source.path.is_none(), XmlError, "missing 'path' attribute for vhostuser disk source");
    refuse!(
        if disk.target.bus != Some(DiskBus::Virtio), ConfigUnsupported,
        "vhostuser disk supports only virtio bus"
    );
    let (driver, source) = (&disk.driver, &disk.source);
    let set = [
        ("encryption", source.encryption.is_some()),
        ("reservations", source.reservations.is_some()),
        ("snapshot", disk.snapshot.is_some_and(|mode| mode != SnapshotMode::No)),
        ("blockio", disk.blockio.is_some()),
        ("iotune", disk.iotune.is_some()),
        ("serial", disk.serial.is_some()),
        ("wwn", disk.wwn.is_some()),
        ("vendor", disk.vendor.is_some()),
        ("product", disk.product.is_some()),
        ("cache", driver.cache.is_some_and(|cache| cache != DiskCache::Default)),
        ("error_policy", driver.error_policy.is_some()),
        ("rerror_policy", driver.rerror_policy.is_some()),
        ("io", driver.io.is_some()),
        ("copy_on_read", driver.copy_on_read.is_some()),
        ("discard", driver.discard.is_some()),
        ("iothread", driver.iothread.is_some()),
        ("detect_zeroes", driver.detect_zeroes.is_some()),
        ("readonly", disk.readonly),
        ("shareable", disk.shareable),
        ("transient", disk.transient),
        ("geometry", disk.geometry.is_some()),
        ("rawio", disk.rawio == Some(YesNo::Yes)),
    ];
    match set.iter().find(|(_, given)| *given) {
        Some((name, _)) => refuse!(ConfigUnsupported, "{name} is not supported with vhostuser disk"),
        None => Ok(()),
    }
}

/// Two disks of one name.
pub(super) fn duplicate_targets(def: &DomainDef) -> Result<()> {
    let name = |disk: &Disk| disk.source.path.clone().unwrap_or_else(|| String::from("(null)"));
    for (position, disk) in def.disks.iter().enumerate() {
        if let Some(other) = def.disks[..position].iter().find(|other| other.dev() == disk.dev()) {
            let (dev, first, second) = (disk.dev(), name(other), name(disk));
            let what = format!("target '{dev}' duplicated for disk sources '{first}' and '{second}'");
            return Err(Error::new(Code::XmlError, what).about("devices/disk", position));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<disk device='floppy'><target dev='hda'/></disk>",
        "internal error: Invalid floppy device name: hda (line 1, column "
    )]
    #[case(
        "<disk type='block'><target dev='vda'/></disk>",
        "missing source information for device vda (line 1, column "
    )]
    #[case(
        "<disk rawio='yes'><source file='/x'/><target dev='sda'/></disk>",
        "unsupported configuration: rawio can be used only with device='lun'"
    )]
    #[case(
        "<disk><source file='/x'/><target dev='sda' tray='open'/></disk>",
        "unsupported configuration: tray is only valid for cdrom and floppy"
    )]
    #[case(
        "<disk model='virtio'><source file='/x'/><target dev='sda'/></disk>",
        "unsupported configuration: disk model 'virtio' not supported for bus 'scsi'"
    )]
    #[case(
        "<disk><driver ats='on'/><source file='/x'/><target dev='sda'/></disk>",
        "unsupported configuration: ats driver option is only supported for virtio devices"
    )]
    #[case(
        "<disk><source file='/x'/><target dev='sda'/><vendor>123456789</vendor></disk>",
        "unsupported configuration: disk vendor is more than 8 characters"
    )]
    #[case(
        "<disk><source file='/x'/><target dev='vda'/><vendor>1</vendor></disk>",
        "unsupported configuration: Only scsi disk supports 'vendor'"
    )]
    #[case(
        "<disk><source file='/x'/><target dev='vda'/><iotune><total_iops_sec>1</total_iops_sec><read_iops_sec>1</read_iops_sec></iotune></disk>",
        "XML error: total and read/write iops_sec cannot be set at the same time"
    )]
    #[case(
        "<disk><source file='/x'/><target dev='vda'/><throttlefilters><throttlefilter group='x'/></throttlefilters></disk>",
        "XML error: throttle group 'x' not found (line 1"
    )]
    #[case(
        "<disk><source file='/x' startupPolicy='requisite'/><target dev='vda'/></disk>",
        "XML error: disk startupPolicy 'requisite' is allowed only for cdrom or floppy"
    )]
    #[case(
        "<disk type='vhostuser'><driver cache='none'/><source type='unix' path='/x'/><target dev='vda'/></disk>",
        "unsupported configuration: cache is not supported with vhostuser disk"
    )]
    #[case(
        "<disk type='vhostuser'><source type='unix' path='/x'/><target dev='sda'/></disk>",
        "unsupported configuration: vhostuser disk supports only virtio bus"
    )]
    #[case(
        "<disk><driver discard_no_unref='on'/><source file='/x'/><target dev='vda'/></disk>",
        "unsupported configuration: 'discard_no_unref' only works with qcow2 disk format"
    )]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
