//! `<hostdev>`, and SCSI places that a disk or another host device has already.

use super::{Check, refuse};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;

/// Every host device of a completed definition.
pub(super) fn hostdevs(def: &DomainDef) -> Check {
    for (nth, device) in def.hostdevs.iter().enumerate() {
        hostdev(device)
            .and_then(|()| drive_place(def, device, nth))
            .map_err(|error| error.about("devices/hostdev", nth))?;
    }
    Ok(())
}

fn hostdev(device: &Hostdev) -> Check {
    match &device.source {
        HostdevSource::Storage { .. } | HostdevSource::Misc { .. } | HostdevSource::Net { .. } => {
            refuse!(ConfigUnsupported, "hostdev mode 'capabilities' is not supported in qemu")?;
        }
        HostdevSource::ScsiHost { .. } => {
            refuse!(
                if device.info.boot_order.is_some(), ConfigUnsupported,
                "booting from assigned devices is not supported by vhost SCSI devices"
            );
        }
        HostdevSource::Mdev { model, .. } => match model.as_deref() {
            Some("vfio-ccw") => {
                refuse!(ConfigUnsupported, "VFIO CCW device assignment is not supported by this version of QEMU")?
            }
            Some("vfio-ap") => {
                refuse!(ConfigUnsupported, "VFIO AP device assignment is not supported by this version of QEMU")?
            }
            _ => {}
        },
        _ => {}
    }
    super::rom(&device.info)
}

fn drive_place(def: &DomainDef, device: &Hostdev, nth: usize) -> Check {
    let Some(place @ DeviceAddress::Drive { controller, bus, target, unit }) = &device.info.address else {
        return Ok(());
    };
    if !matches!(device.source, HostdevSource::Scsi { .. }) {
        return Ok(());
    }
    refuse!(if *bus > 0, InternalError, "SCSI controller only supports 1 bus");
    let text = format!("controller='{controller}' bus='{bus}' target='{target}' unit='{unit}'");
    let taken = |other: &Hostdev| {
        matches!(other.source, HostdevSource::Scsi { .. }) && other.info.address.as_ref() == Some(place)
    };
    refuse!(
        if def.hostdevs[..nth].iter().any(taken), ConfigUnsupported,
        "SCSI host address {text} in use by another SCSI host device"
    );
    let disk = def
        .disks
        .iter()
        .find(|disk| disk.target.bus == Some(DiskBus::Scsi) && disk.info.address.as_ref() == Some(place));
    if let Some(disk) = disk {
        let dev = disk.dev();
        refuse!(XmlError, "using disk target name '{dev}' conflicts with SCSI host device address {text}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "pc",
        "<hostdev mode='capabilities' type='storage'><source><block>/dev/x</block></source></hostdev>",
        "unsupported configuration: hostdev mode 'capabilities' is not supported in qemu (line 2"
    )]
    #[case(
        "pc",
        "<hostdev mode='subsystem' type='scsi_host'><source protocol='vhost' wwpn='naa.5123456789abcde0'/><boot order='1'/></hostdev>",
        "unsupported configuration: booting from assigned devices is not supported by vhost SCSI devices"
    )]
    #[case(
        "pc",
        "<disk><source file='/x'/><target dev='sda'/></disk><hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/><address bus='0' target='0' unit='0'/></source><address type='drive' controller='0' bus='0' target='0' unit='0'/></hostdev>",
        "XML error: using disk target name 'sda' conflicts with SCSI host device address"
    )]
    #[case(
        "pc",
        "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/><address bus='0' target='0' unit='0'/></source><address type='drive' controller='0' bus='0' target='0' unit='5'/></hostdev><hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/><address bus='0' target='0' unit='1'/></source><address type='drive' controller='0' bus='0' target='0' unit='5'/></hostdev>",
        "unsupported configuration: SCSI host address controller='0' bus='0' target='0' unit='5' in use by another SCSI host device"
    )]
    fn refused(#[case] machine: &str, #[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(machine, xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
