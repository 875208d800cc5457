//! Addresses on the virtual I/O bus of pSeries machines. Starting points are QEMU's own.

use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{ControllerType, DeviceAddress, DeviceInfo, SerialTarget};

const STEP: u64 = 0x1000;

/// Every device of the bus, with the first address of its kind.
fn devices(def: &mut DomainDef) -> Vec<(&mut DeviceInfo, u64)> {
    let nics = def.interfaces.iter_mut().filter(|nic| nic.model.as_deref() == Some("spapr-vlan"));
    let mut out: Vec<(&mut DeviceInfo, u64)> = nics.map(|nic| (&mut nic.info, 0x1000)).collect();
    let scsi = def.controllers.iter_mut().filter(|c| c.kind == ControllerType::Scsi);
    let scsi = scsi.filter(|c| c.model.as_deref() == Some("ibmvscsi"));
    out.extend(scsi.map(|controller| (&mut controller.info, 0x2000)));
    let serials = def.serials.iter_mut().filter(|serial| serial.target_type == Some(SerialTarget::SpaprVio));
    out.extend(serials.map(|serial| (&mut serial.info, 0x3000_0000)));
    out.extend(def.nvram_device.iter_mut().map(|nvram| (&mut nvram.info, 0x3000)));
    out
}

fn reg(info: &DeviceInfo) -> Option<u64> {
    match info.address {
        Some(DeviceAddress::SpaprVio { reg }) => reg,
        _ => None,
    }
}

/// Gives devices of the bus the first free address of their kind.
pub(super) fn assign(def: &mut DomainDef) {
    let mut devices = devices(def);
    let mut taken: Vec<u64> = devices.iter().filter_map(|(info, _)| reg(info)).collect();
    for (info, first) in &mut devices {
        if !matches!(info.address, None | Some(DeviceAddress::SpaprVio { reg: None })) {
            continue;
        }
        let mut free = *first;
        while taken.contains(&free) {
            free += STEP;
        }
        taken.push(free);
        info.address = Some(DeviceAddress::SpaprVio { reg: Some(free) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::device::Controller;

    #[test]
    fn each_kind_has_its_range() {
        let scsi = Controller { kind: ControllerType::Scsi, model: Some("ibmvscsi".into()), ..Default::default() };
        let mut given = scsi.clone();
        given.info.address = Some(DeviceAddress::SpaprVio { reg: Some(0x2000) });
        let mut def = DomainDef { controllers: vec![scsi.clone(), given, scsi], ..Default::default() };
        def.nvram_device = Some(Default::default());
        assign(&mut def);
        let regs: Vec<_> = def.controllers.iter().filter_map(|c| reg(&c.info)).collect();
        assert_eq!(regs, [0x3000, 0x2000, 0x4000]);
        assert_eq!(def.nvram_device.and_then(|nvram| reg(&nvram.info)), Some(0x5000));
    }
}
