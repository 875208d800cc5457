//! `-numa` and memory back ends: of each NUMA cell, and of memory devices (on paper only).

use super::{Builder, Pairs, Props, alias, not_yet};
use crate::domain_xml::cpu::NumaCell;
use crate::domain_xml::device::{DeviceAddress, MemoryDevice, MemoryModel};
use crate::domain_xml::memory::{AllocationMode, HugePage, MemoryAccess, MemorySource};
use crate::domain_xml::tune::set_members;
use crate::error::{Error, Result};

/// Whether the guest's memory is given per cell.
pub(super) fn has_cells(b: &Builder<'_>) -> bool {
    b.def.cpu.as_ref().is_some_and(|cpu| !cpu.numa_cells.is_empty())
}

/// More KiB than libvirt's numbers of bytes hold.
const TOO_MUCH: u64 = u64::MAX >> 11;

/// KiB in whole MiB. Error: `ConfigUnsupported` when that is too much.
fn rounded(kib: u64, what: impl FnOnce() -> String) -> Result<u64> {
    let rounded = kib.div_ceil(1024).checked_mul(1024).filter(|kib| *kib <= TOO_MUCH);
    rounded.ok_or_else(|| Error::unsupported_config(format!("{} overflowed after alignment", what())))
}

fn of_cell(cell: &NumaCell) -> Result<u64> {
    rounded(cell.memory, || format!("memory size of NUMA node '{}'", cell.id))
}

/// What the guest boots with, KiB: memory devices come on top.
pub(super) fn boot_memory(b: &Builder<'_>) -> Result<u64> {
    let mut sum: u64 = 0;
    for cell in b.def.cpu.iter().flat_map(|cpu| &cpu.numa_cells) {
        sum = sum.saturating_add(of_cell(cell)?);
    }
    if sum > 0 {
        return Ok(sum);
    }
    let devices: u64 = b.def.memory_devices.iter().map(|device| device.target.size).sum();
    rounded(b.def.memory.size.saturating_sub(devices), || "initial memory size".into())
}

/// Where pages of a size are mounted, for this cell: on paper only, so any mount point does.
fn huge_pages(b: &Builder<'_>, cell: u32) -> Option<String> {
    let pages = b.def.memory_backing.hugepages.as_ref()?;
    let is_for = |page: &&HugePage| match &page.nodeset {
        None => true,
        Some(set) => set_members(set).unwrap_or_default().contains(&cell),
    };
    // Pages of a set win over those of all; small ones are none.
    let page = pages.iter().filter(|page| page.nodeset.is_some()).find(is_for);
    let page = page.or_else(|| pages.iter().find(|page| page.nodeset.is_none()));
    match (page, pages.is_empty()) {
        (Some(page), _) if page.size <= 4 => None,
        (None, false) => None,
        _ => Some(format!("/dev/hugepages/libvirt/qemu/-1-{}", short_name(&b.def.name))),
    }
}

/// A back end of the domain's kind. Files are never made here: `not_yet` unless on paper.
pub(super) fn object(b: &Builder<'_>, id: &str, cell: u32, access: Option<MemoryAccess>) -> Result<Props> {
    let backing = &b.def.memory_backing;
    let huge = huge_pages(b, cell);
    let mut object = match backing.source {
        _ if huge.is_some() => Props::object("memory-backend-file", id).set_opt("mem-path", huge.as_deref()),
        None | Some(MemorySource::Anonymous) => Props::object("memory-backend-ram", id),
        Some(MemorySource::Memfd) => Props::object("memory-backend-memfd", id),
        Some(MemorySource::File) if b.ctx.paper => {
            let path = format!("/var/lib/libvirt/qemu/ram/-1-{}/{id}", short_name(&b.def.name));
            Props::object("memory-backend-file", id).set("mem-path", path)
        }
        Some(MemorySource::File) => return Err(not_yet("<memoryBacking><source type='file'>")),
    };
    let is_file = huge.is_some() || matches!(backing.source, Some(MemorySource::Memfd | MemorySource::File));
    if id == "pc.ram" && is_file {
        // The name that memory had before it was an object, for migration from and to older releases.
        object = object.set("x-use-canonical-path-for-ramblock-id", false);
    }
    if let Some(access) = access.or(backing.access) {
        object = object.set("share", access == MemoryAccess::Shared);
    }
    if backing.discard && is_file {
        object = object.set("discard-data", true);
    }
    let immediate = backing.allocation.as_ref().is_some_and(|a| a.mode == Some(AllocationMode::Immediate));
    if immediate || huge.is_some() {
        object = object.set("prealloc", true);
    }
    if let Some(allocation) = &backing.allocation {
        object = object.set_opt("prealloc-threads", allocation.threads);
    }
    Ok(object)
}

/// libvirt's directory names hold so much of a domain's name.
fn short_name(name: &str) -> String {
    name.chars().take(20).collect()
}

pub(super) fn cells(b: &mut Builder<'_>) -> Result<()> {
    let Some(cpu) = &b.def.cpu else { return Ok(()) };
    if !cpu.later.is_empty() || cpu.numa_cells.iter().any(|cell| !cell.later.is_empty()) {
        return Err(not_yet("<interconnects> or <cache> of <numa>"));
    }
    for cell in &cpu.numa_cells {
        if cell.discard.is_some() {
            return Err(not_yet("<cell discard>"));
        }
        node(b, cell)?;
    }
    for cell in &cpu.numa_cells {
        for (other, distance) in &cell.distances {
            let p = Pairs::new("dist").set("src", cell.id).set("dst", other).set("val", distance);
            b.arg("-numa", p.text());
        }
    }
    Ok(())
}

fn node(b: &mut Builder<'_>, cell: &NumaCell) -> Result<()> {
    let id = format!("ram-node{}", cell.id);
    let size = of_cell(cell)?;
    let backing = &b.def.memory_backing;
    let machine = b.ctx.caps.machine(b.def.os.machine.as_deref().unwrap_or_default());
    // Old machine types divide the memory themselves when nothing is said of its kind.
    let divided = machine.is_some_and(|machine| machine.numa_memory)
        && backing.hugepages.is_none()
        && backing.source.is_none()
        && backing.access.is_none()
        && backing.allocation.is_none()
        && cell.mem_access.is_none()
        && b.def.memory.max.is_none();
    if size > 0 && !divided {
        let object = object(b, &id, cell.id, cell.mem_access)?.set("size", size * 1024);
        b.object(&object);
    }
    let mut p = Pairs::new("node").set("nodeid", cell.id);
    // libvirt's text form of the set, one range an option.
    for range in cell.cpus.iter().flat_map(|cpus| cpus.split(',')).filter(|range| !range.is_empty()) {
        p = p.set("cpus", range);
    }
    if divided {
        p = p.set("mem", size / 1024);
    } else if size > 0 {
        p = p.set("memdev", id);
    }
    b.arg("-numa", p.text());
    Ok(())
}

pub(super) fn memory_devices(b: &mut Builder<'_>) -> Result<()> {
    for device in &b.def.memory_devices {
        memory_device(b, device)?;
    }
    Ok(())
}

fn memory_device(b: &mut Builder<'_>, device: &MemoryDevice) -> Result<()> {
    let driver = match device.model {
        MemoryModel::Dimm => "pc-dimm",
        MemoryModel::Nvdimm => "nvdimm",
        other => return Err(not_yet(format!("<memory model='{other}'>"))),
    };
    let source = &device.source;
    if source.pagesize.is_some() || source.nodemask.is_some() || b.def.memory_backing.hugepages.is_some() {
        return Err(not_yet("<pagesize>, <nodemask> or huge pages of a memory device"));
    }
    let id = alias(&device.info)?;
    let memdev = format!("mem{id}");
    let object = match (&source.path, device.model) {
        (Some(path), MemoryModel::Nvdimm) => {
            let mut p = Props::object("memory-backend-file", &memdev).set("mem-path", path.as_str());
            let access = device.access.or(b.def.memory_backing.access);
            p = p.set_opt("share", access.map(|access| access == MemoryAccess::Shared));
            if !source.pmem {
                p = p.set("prealloc", true);
            }
            p = p.set_opt("align", source.alignsize.map(|kib| kib * 1024));
            if source.pmem { p.set("pmem", true) } else { p }
        }
        _ => object(b, &memdev, device.target.node.unwrap_or(0), device.access)?,
    };
    // Modules are handed out in these steps.
    let wanted = device.target.size.div_ceil(2048).saturating_mul(2048);
    let size = rounded(wanted, || format!("size of the memory module '{id}'"))?;
    b.object(&object.set("size", size * 1024));
    let mut p = Props::new().set("driver", driver).set_opt("node", device.target.node);
    p = p.set_opt("label-size", device.target.label_size.map(|kib| kib * 1024));
    if device.target.readonly {
        p = p.set("unarmed", true);
    }
    p = p.set_opt("uuid", device.uuid.as_deref()).set("memdev", memdev).set("id", id);
    if let Some(DeviceAddress::Dimm { slot, base }) = device.info.address {
        p = p.set("slot", slot).set_opt("addr", base);
    }
    b.device(&p);
    Ok(())
}
