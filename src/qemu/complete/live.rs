//! What a run adds to its copy of the definition before it is planned: aliases, node numbers, thread ids.

use super::disks::disk_index;
use super::{Chipset, chipset_of};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;

fn set(info: &mut DeviceInfo, alias: String) {
    if !info.has_user_alias() {
        info.alias = Some(alias);
    }
}

fn controller_alias(controller: &Controller, chipset: Chipset, first_pci: bool) -> String {
    let index = controller.index.unwrap_or(0);
    match controller.kind {
        ControllerType::Pci if controller.model.as_deref() == Some("pcie-root") => format!("pcie.{index}"),
        ControllerType::Pci => {
            let _ = first_pci;
            format!("pci.{index}")
        }
        ControllerType::Ide if index == 0 && chipset != Chipset::Q35 => "ide".into(),
        ControllerType::Sata if index == 0 && chipset == Chipset::Q35 => "ide".into(),
        ControllerType::Usb if index == 0 => "usb".into(),
        kind => format!("{kind}{index}"),
    }
}

/// Gives every device the alias libvirt would.
pub fn assign_aliases(def: &mut DomainDef) {
    let chipset = chipset_of(def);
    for controller in &mut def.controllers {
        let alias = controller_alias(controller, chipset, false);
        set(&mut controller.info, alias);
    }
    let lsi: Vec<u32> = def
        .controllers
        .iter()
        .filter(|c| c.kind == ControllerType::Scsi && c.model.as_deref() == Some("lsilogic"))
        .filter_map(|c| c.index)
        .collect();
    for disk in &mut def.disks {
        let number = disk_index(disk.dev()).unwrap_or(0);
        let bus = disk.target.bus.map(DiskBus::as_str).unwrap_or_default();
        let alias = match disk.info.address {
            Some(DeviceAddress::Drive { controller, bus: channel, target, unit }) => {
                if disk.target.bus == Some(DiskBus::Scsi) && !lsi.contains(&controller) {
                    format!("{bus}{controller}-{channel}-{target}-{unit}")
                } else {
                    format!("{bus}{controller}-{channel}-{unit}")
                }
            }
            _ => format!("{bus}-disk{number}"),
        };
        set(&mut disk.info, alias);
    }
    fn number<'a>(name: &str, infos: impl Iterator<Item = &'a mut DeviceInfo>) {
        for (index, info) in infos.enumerate() {
            set(info, format!("{name}{index}"));
        }
    }
    number("net", def.interfaces.iter_mut().map(|d| &mut d.info));
    number("fs", def.filesystems.iter_mut().map(|d| &mut d.info));
    number("sound", def.sounds.iter_mut().map(|d| &mut d.info));
    number("video", def.videos.iter_mut().map(|d| &mut d.info));
    number("hostdev", def.hostdevs.iter_mut().map(|d| &mut d.info));
    number("redir", def.redirdevs.iter_mut().map(|d| &mut d.info));
    number("input", def.inputs.iter_mut().map(|d| &mut d.info));
    number("parallel", def.parallels.iter_mut().map(|d| &mut d.info));
    number("serial", def.serials.iter_mut().map(|d| &mut d.info));
    number("channel", def.channels.iter_mut().map(|d| &mut d.info));
    number("hub", def.hubs.iter_mut().map(|d| &mut d.info));
    number("shmem", def.shmems.iter_mut().map(|d| &mut d.info));
    number("smartcard", def.smartcards.iter_mut().map(|d| &mut d.info));
    number("watchdog", def.watchdogs.iter_mut().map(|d| &mut d.info));
    number("balloon", def.memballoon.iter_mut().map(|d| &mut d.info));
    number("rng", def.rngs.iter_mut().map(|d| &mut d.info));
    number("tpm", def.tpms.iter_mut().map(|d| &mut d.info));
    number("panic", def.panics.iter_mut().map(|d| &mut d.info));
    number("vsock", def.vsock.iter_mut().map(|d| &mut d.info));
    number("crypto", def.cryptos.iter_mut().map(|d| &mut d.info));
    number("pstore", def.pstore.iter_mut().map(|d| &mut d.info));
    for (index, device) in def.memory_devices.iter_mut().enumerate() {
        let name = match device.model {
            MemoryModel::Dimm => "dimm",
            MemoryModel::Nvdimm => "nvdimm",
            MemoryModel::VirtioPmem => "virtiopmem",
            MemoryModel::VirtioMem => "virtiomem",
            MemoryModel::SgxEpc => "epc",
        };
        let number = match device.info.address {
            Some(DeviceAddress::Dimm { slot, .. }) => slot,
            _ => index as u32,
        };
        set(&mut device.info, format!("{name}{number}"));
    }
    number("iommu", def.iommu.iter_mut().map(|d| &mut d.info));
    let first_serial = def.serials.first().and_then(|serial| serial.info.alias.clone());
    for (index, console) in def.consoles.iter_mut().enumerate() {
        let serial = matches!(console.target_type, None | Some(ConsoleTarget::Serial));
        match (&first_serial, index == 0 && serial) {
            (Some(alias), true) => console.info.alias = Some(alias.clone()),
            _ => set(&mut console.info, format!("console{index}")),
        }
    }
}

/// Numbers the layers of all chains as libvirt does: the last disk first, its own image before what it lies on.
pub fn assign_nodes(def: &mut DomainDef) {
    let mut next = 0;
    for disk in def.disks.iter_mut().rev() {
        if disk.source.is_empty() {
            continue;
        }
        let mut layer = &mut disk.source;
        loop {
            next += 1;
            layer.index = Some(next);
            match &mut layer.backing {
                Backing::Layer(below) => layer = below,
                _ => break,
            }
        }
    }
}
