//! Memory, memory devices and NUMA as QEMU builds them.

use super::{Check, each, refuse};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;
use crate::domain_xml::memory::MemoryAccess;

/// Whether another process can map the guest's memory.
pub(super) fn shared(def: &DomainDef) -> bool {
    let cells = def.cpu.as_ref().map_or(&[][..], |cpu| &cpu.numa_cells[..]);
    let all = def.memory_backing.access == Some(MemoryAccess::Shared);
    match cells {
        [] => all,
        cells => cells.iter().all(|cell| match cell.mem_access {
            Some(access) => access == MemoryAccess::Shared,
            None => all,
        }),
    }
}

/// Memory devices of a completed definition.
pub(super) fn memory_devices(def: &DomainDef) -> Check {
    each("devices/memory", &def.memory_devices, |device| memory_device(def, device))?;
    for (nth, device) in def.memory_devices.iter().enumerate() {
        let Some(DeviceAddress::Dimm { slot, base }) = device.info.address else { continue };
        let others = def.memory_devices[..nth].iter().filter_map(|other| match other.info.address {
            Some(DeviceAddress::Dimm { slot, base }) => Some((slot, base)),
            _ => None,
        });
        for (other_slot, other_base) in others {
            let same_base = base.is_some_and(|base| base != 0) && base == other_base;
            let error = if slot == other_slot {
                format!("memory device slot '{slot}' is already being used by another memory device")
            } else if same_base {
                format!("memory device base '{:#x}' is already being used by another memory device", base.unwrap_or(0))
            } else {
                continue;
            };
            return refuse!(ConfigUnsupported, "{error}").map_err(|error| error.about("devices/memory", nth));
        }
    }
    Ok(())
}

fn memory_device(def: &DomainDef, device: &MemoryDevice) -> Check {
    let model = device.model;
    let cells = def.cpu.as_ref().map_or(0, |cpu| cpu.numa_cells.len() as u32);
    let plugged = model != MemoryModel::SgxEpc;
    refuse!(
        if plugged && def.memory.max.is_none(), ConfigUnsupported,
        "cannot use/hotplug a memory device when domain 'maxMemory' is not defined"
    );
    if let Some(node) = device.target.node.filter(|node| cells > 0 && *node >= cells) {
        refuse!(
            XmlDetail,
            "can't add memory backend for guest node '{node}' as the guest has only '{cells}' NUMA nodes configured"
        )?;
    }
    refuse!(
        if cells > 0 && device.target.node.is_none() && !matches!(model, MemoryModel::VirtioPmem | MemoryModel::SgxEpc),
        ConfigUnsupported,
        "target NUMA node needs to be specified for memory device"
    );
    let address = device.info.address.as_ref();
    match model {
        MemoryModel::Dimm | MemoryModel::Nvdimm => {
            if let (Some(DeviceAddress::Dimm { slot, .. }), Some(slots)) = (address, def.memory.slots) {
                refuse!(
                    if *slot >= slots, ConfigUnsupported,
                    "memory device slot '{slot}' exceeds slots count '{slots}'"
                );
            }
        }
        MemoryModel::VirtioMem | MemoryModel::VirtioPmem => {
            let possible = matches!(address, None | Some(DeviceAddress::Pci { .. } | DeviceAddress::Ccw { .. }));
            refuse!(
                if !possible, ConfigUnsupported,
                "only 'pci' and 'ccw' addresses are supported for the {model} device"
            );
        }
        MemoryModel::SgxEpc => {
            refuse!(
                if address.is_some(), ConfigUnsupported,
                "memory device address is not supported for model '{model}'"
            );
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
        "pc",
        "<memory model='dimm'><target><size>1024</size></target></memory>",
        "unsupported configuration: cannot use/hotplug a memory device when domain 'maxMemory' is not defined (line 2"
    )]
    fn refused(#[case] machine: &str, #[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(machine, xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
