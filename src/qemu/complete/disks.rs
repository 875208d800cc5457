//! Where disks are attached: bus, drive address, and the controllers that needs.

use super::Chipset;
use super::devices::{add_controller, find_controller};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;
use crate::error::{Code, Error, Result};

/// The number in a target name: `vda` 0, `sdz` 25, `sdaa` 26. Digits at the end (`sda1`) do not count.
pub(crate) fn disk_index(dev: &str) -> Option<u32> {
    let letters = ["fd", "hd", "vd", "sd", "xvd", "ubd"].iter().find_map(|prefix| dev.strip_prefix(prefix))?;
    let letters = letters.trim_end_matches(|c: char| c.is_ascii_digit());
    if letters.is_empty() {
        return None;
    }
    let mut index: u32 = 0;
    for (position, byte) in letters.bytes().enumerate() {
        if !byte.is_ascii_lowercase() {
            return None;
        }
        index = index.checked_add(u32::from(position > 0))?.checked_mul(26)?.checked_add(u32::from(byte - b'a'))?;
    }
    Some(index)
}

/// The bus a target name stands for when none is said.
fn guess_bus(disk: &Disk) -> Option<DiskBus> {
    if disk.device == DiskDevice::Floppy {
        return Some(DiskBus::Fdc);
    }
    let dev = disk.dev();
    [("hd", DiskBus::Ide), ("sd", DiskBus::Scsi), ("vd", DiskBus::Virtio), ("xvd", DiskBus::Xen), ("fd", DiskBus::Fdc)]
        .into_iter()
        .find(|(prefix, _)| dev.starts_with(prefix))
        .map(|(_, bus)| bus)
}

/// Fills in buses, drive addresses and controllers.
pub(super) fn complete(def: &mut DomainDef, chipset: Chipset) -> Result<()> {
    for disk in &mut def.disks {
        if disk.target.bus.is_none() {
            disk.target.bus = guess_bus(disk);
        }
    }
    for index in 0..def.disks.len() {
        let disk = &def.disks[index];
        if disk.info.address.is_none()
            && let Some(address) = drive_address(def, index)?
        {
            def.disks[index].info.address = Some(address);
        }
        let disk = &def.disks[index];
        let Some(DeviceAddress::Drive { controller, .. }) = disk.info.address else { continue };
        let (kind, model) = match disk.target.bus {
            Some(DiskBus::Ide) => (ControllerType::Ide, None),
            Some(DiskBus::Sata) => (ControllerType::Sata, None),
            Some(DiskBus::Fdc) => (ControllerType::Fdc, None),
            Some(DiskBus::Scsi) => (ControllerType::Scsi, None),
            _ => continue,
        };
        if kind == ControllerType::Ide && chipset == Chipset::Q35 {
            return Err(Error::unsupported_config(
                "IDE controllers are unsupported for this QEMU binary or machine type: use bus='sata'",
            ));
        }
        for number in 0..=controller {
            add_controller(def, kind, number, model);
        }
    }
    for controller in def.controllers.iter_mut().filter(|c| c.kind == ControllerType::Scsi) {
        controller.model.get_or_insert_with(|| "lsilogic".into());
    }
    Ok(())
}

/// Units of a SCSI bus that libvirt hands out.
const SCSI_UNITS: u32 = 7;

/// Gives SCSI devices of the host a place behind the disks, and controllers. New ones are like those they have already.
pub(super) fn scsi_hostdevs(def: &mut DomainDef) {
    let scsi = |dev: &Hostdev| matches!(dev.source, HostdevSource::Scsi { .. } | HostdevSource::Iscsi { .. });
    for position in (0..def.hostdevs.len()).filter(|i| scsi(&def.hostdevs[*i])).collect::<Vec<_>>() {
        if def.hostdevs[position].info.address.is_some() {
            continue;
        }
        let disks = def.disks.iter().filter(|disk| disk.target.bus == Some(DiskBus::Scsi)).map(|disk| &disk.info);
        let others = def.hostdevs.iter().filter(|dev| scsi(dev)).map(|dev| &dev.info);
        let taken: Vec<_> = disks.chain(others).filter_map(|info| info.address.clone()).collect();
        let places = (0..).flat_map(|controller| (0..SCSI_UNITS).map(move |unit| (controller, unit)));
        let address = places
            .map(|(controller, unit)| DeviceAddress::Drive { controller, bus: 0, target: 0, unit })
            .find(|address| !taken.contains(address));
        def.hostdevs[position].info.address = address;
    }
    let mut highest = None;
    let mut model = None;
    for dev in def.hostdevs.iter().filter(|dev| scsi(dev)) {
        let Some(DeviceAddress::Drive { controller, .. }) = dev.info.address else { continue };
        if highest.is_none_or(|highest| controller > highest) {
            highest = Some(controller);
            let known = find_controller(def, ControllerType::Scsi, controller);
            model = known.and_then(|at| def.controllers[at].model.clone()).or(model);
        }
    }
    for index in highest.map_or(0..0, |highest| 0..highest + 1) {
        add_controller(def, ControllerType::Scsi, index, model.as_deref());
    }
}

fn drive_address(def: &DomainDef, position: usize) -> Result<Option<DeviceAddress>> {
    let disk = &def.disks[position];
    let bus = disk.target.bus;
    if !matches!(bus, Some(DiskBus::Ide | DiskBus::Sata | DiskBus::Fdc | DiskBus::Scsi)) {
        return Ok(None);
    }
    let Some(index) = disk_index(disk.dev()) else {
        return Err(Error::new(
            Code::InternalError,
            format!("Unknown disk name '{}' and no address specified", disk.dev()),
        ));
    };
    let drive = |controller, bus, target, unit| DeviceAddress::Drive { controller, bus, target, unit };
    Ok(Some(match bus {
        Some(DiskBus::Ide) => drive(index / 4, index % 4 / 2, 0, index % 2),
        Some(DiskBus::Sata) => drive(index / 6, 0, 0, index % 6),
        Some(DiskBus::Fdc) => drive(index / 2, 0, 0, index % 2),
        // A wide SCSI bus: 16 units, of which number 7 is the controller itself.
        _ => drive(index / 15, 0, 0, index % 15 + u32::from(index % 15 >= 7)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(disk_index("vda"), Some(0));
        assert_eq!(disk_index("hdc"), Some(2));
        assert_eq!(disk_index("sdaa"), Some(26));
        assert_eq!(disk_index("sda1"), Some(0));
        assert_eq!(disk_index("vd"), None);
        assert_eq!(disk_index("banana"), None);
    }
}
