//! Virtual CPUs, threads, memory, NUMA and their tuning.

use std::collections::{BTreeSet, HashSet};

use super::{Check, each, refuse};
use crate::domain_xml::cpu::{NumaMode, NumaPlacement};
use crate::domain_xml::memory::{AllocationMode, MemorySource};
use crate::domain_xml::model::DomainDef;
use crate::domain_xml::tune::{SchedOf, SchedPolicy, VcpuState, set_members};
use crate::domain_xml::words::YesNo;

/// Everything the host's resources are set with.
pub(super) fn resources(def: &DomainDef) -> Check {
    vcpus(def)?;
    threads(def)?;
    schedulers(def)?;
    super::resctrl::resctrl(def)?;
    memory_backing(def)?;
    numa_cells(def)?;
    numa_tune(def)?;
    let mut paths = HashSet::new();
    each("blkiotune/device", &def.blkiotune.devices, |device| {
        let path = &device.path;
        refuse!(if !paths.insert(path), ConfigUnsupported, "duplicate blkio device path '{path}'");
        Ok(())
    })
}

fn vcpus(def: &DomainDef) -> Check {
    if def.vcpus.is_empty() {
        return Ok(());
    }
    let on = |vcpu: &VcpuState| vcpu.enabled != Some(YesNo::No);
    for vcpu in &def.vcpus {
        let max = def.vcpu.max;
        let checked = match vcpu.id {
            None => refuse!(XmlError, "Missing required attribute 'id' in element 'vcpu'"),
            _ if vcpu.enabled.is_none() => refuse!(XmlError, "Missing required attribute 'enabled' in element 'vcpu'"),
            Some(id) if id >= max => refuse!(XmlError, "vcpu id '{id}' is out of range of maximum vcpu count"),
            _ => Ok(()),
        };
        // By its number: they are sorted, and those that the document leaves out are among them.
        let id = vcpu.id.map(|id| ("id", id.to_string()));
        checked.map_err(|error| error.about_one("vcpus/vcpu", 0, id.into_iter().collect()))?;
    }
    if let Some(first) = def.vcpus.iter().find(|vcpu| vcpu.id == Some(0) && !on(vcpu)) {
        let id = first.id.map(|id| ("id", id.to_string()));
        return refuse!(ConfigUnsupported, "vcpu 0 can't be offline")
            .map_err(|error| error.about_one("vcpus/vcpu", 0, id.into_iter().collect()));
    }
    if !def.vcpus.iter().any(|vcpu| vcpu.id == Some(0)) {
        return refuse!(ConfigUnsupported, "vcpu 0 can't be offline");
    }
    let ordered = def.vcpus.iter().filter(|vcpu| on(vcpu) && vcpu.order.is_some()).count();
    let online = def.vcpus.iter().filter(|vcpu| on(vcpu)).count();
    refuse!(
        if ordered > 0 && ordered < online, ConfigUnsupported,
        "all vcpus must have either set or unset order"
    );
    let first = def.vcpus.iter().find(|vcpu| vcpu.id == Some(0)).and_then(|vcpu| vcpu.order);
    refuse!(if first.is_some_and(|order| order != 1), ConfigUnsupported, "vcpu0 must be enabled first");
    Ok(())
}

fn threads(def: &DomainDef) -> Check {
    let mut ids = HashSet::new();
    each("iothreadids/iothread", &def.iothread_ids, |thread| {
        let id = thread.id;
        refuse!(
            if id == 0, XmlError,
            "Invalid value for attribute 'id' in element 'iothread': Zero is not permitted"
        );
        refuse!(if !ids.insert(id), XmlError, "duplicate iothread id '{id}' found");
        let inverted = matches!((thread.thread_pool_min, thread.thread_pool_max), (Some(min), Some(max)) if min > max);
        refuse!(
            if inverted, ConfigUnsupported,
            "thread_pool_min must be smaller or equal to thread_pool_max"
        );
        Ok(())
    })?;
    let known = |id: u32| ids.contains(&id) || id >= 1 && id <= def.iothreads.unwrap_or(0);
    let mut pinned = HashSet::new();
    each("cputune/iothreadpin", &def.cputune.iothreadpin, |pin| {
        let id = pin.iothread;
        refuse!(
            if id == 0, XmlError,
            "Invalid value for attribute 'iothread' in element 'iothreadpin': Zero is not permitted"
        );
        refuse!(if !known(id), ConfigUnsupported, "Cannot find 'iothread' : {id}");
        refuse!(if !pinned.insert(id), InternalError, "duplicate iothreadpin for same iothread '{id}'");
        Ok(())
    })
}

fn schedulers(def: &DomainDef) -> Check {
    let known: HashSet<u32> = def.iothread_ids.iter().map(|thread| thread.id).collect();
    let threads = def.iothreads.unwrap_or(0);
    let mut seen = HashSet::new();
    for sched in &def.cputune.sched {
        let (path, element, attribute) = match sched.of {
            SchedOf::Emulator => ("cputune/emulatorsched", "emulatorsched", ""),
            SchedOf::Vcpu => ("cputune/vcpusched", "vcpusched", "vcpus"),
            SchedOf::IoThread => ("cputune/iothreadsched", "iothreadsched", "iothreads"),
        };
        let id: Option<u32> = sched.ids.as_ref().and_then(|id| id.parse().ok());
        let again = !seen.insert((sched.of, id));
        let checked = match (sched.of, id) {
            (SchedOf::Emulator, _) if again => refuse!(XmlError, "only one emulatorsched is supported"),
            (SchedOf::IoThread, Some(id)) if !known.contains(&id) && !(1..=threads).contains(&id) => {
                refuse!(ConfigUnsupported, "Cannot find 'iothread' : {id}")
            }
            (SchedOf::Vcpu, Some(id)) if id >= def.vcpu.max => {
                refuse!(ConfigUnsupported, "vCPU '{id}' is not present in domain definition")
            }
            _ if again => refuse!(XmlDetail, "'{element}' attributes '{attribute}' must not overlap"),
            _ if matches!(sched.scheduler, SchedPolicy::Fifo | SchedPolicy::Rr) && sched.priority.is_none() => {
                refuse!(XmlError, "Missing required attribute 'priority' in element '{element}'")
            }
            _ => Ok(()),
        };
        checked.map_err(|error| error.about(path, 0))?;
    }
    Ok(())
}

fn memory_backing(def: &DomainDef) -> Check {
    let backing = &def.memory_backing;
    let Some(pages) = &backing.hugepages else { return Ok(()) };
    refuse!(
        if backing.allocation.as_ref().is_some_and(|a| a.mode == Some(AllocationMode::Ondemand)), ConfigUnsupported,
        "hugepages are not allowed with memory allocation ondemand"
    );
    refuse!(
        if backing.source == Some(MemorySource::Anonymous), ConfigUnsupported,
        "hugepages are not allowed with anonymous memory source"
    );
    let cells = def.cpu.as_ref().map_or(0, |cpu| cpu.numa_cells.len()) as u32;
    let members = |nodeset: &Option<String>| nodeset.as_deref().and_then(set_members).unwrap_or_default();
    for (nth, page) in pages.iter().enumerate() {
        let nodes = members(&page.nodeset);
        let missing = nodes.iter().find(|node| **node >= cells.max(1));
        let checked = missing.map_or(Ok(()), |node| refuse!(XmlDetail, "hugepages: node {node} not found"));
        let checked = checked.and_then(|()| {
            for other in &pages[..nth] {
                let (new, old) = (page.size, other.size);
                refuse!(
                    if page.nodeset.is_none() && other.nodeset.is_none(), XmlDetail,
                    "two master hugepages detected: {new} and {old}"
                );
                refuse!(
                    if members(&other.nodeset).iter().any(|node| nodes.contains(node)), XmlDetail,
                    "nodeset attribute of hugepages of sizes {new} and {old} intersect"
                );
            }
            Ok(())
        });
        checked.map_err(|error| error.about("memoryBacking/hugepages/page", nth))?;
    }
    // One set for the whole guest, and one for its only node.
    if let (Some(whole), Some(part)) =
        (pages.iter().find(|page| page.nodeset.is_none()), pages.iter().find(|page| page.nodeset.is_some()))
        && cells == 0
    {
        return refuse!(XmlDetail, "two master hugepages detected: {} and {}", part.size, whole.size);
    }
    Ok(())
}

fn numa_cells(def: &DomainDef) -> Check {
    let cells = def.cpu.as_ref().map_or(&[][..], |cpu| &cpu.numa_cells[..]);
    let sets: Vec<BTreeSet<u32>> = cells
        .iter()
        .map(|cell| cell.cpus.as_deref().and_then(set_members).unwrap_or_default().into_iter().collect())
        .collect();
    for (nth, cell) in cells.iter().enumerate() {
        let id = cell.id;
        let place = |error: crate::error::Error| error.about_one("cpu/numa/cell", 0, vec![("id", id.to_string())]);
        if let Some(other) = cells[..nth].iter().find(|other| other.id == id) {
            return refuse!(XmlError, "Duplicate NUMA cell info for cell id '{}'", other.id).map_err(place);
        }
        if let Some(other) = (0..nth).find(|other| !sets[*other].is_disjoint(&sets[nth])) {
            let what = refuse!(ConfigUnsupported, "NUMA cells {id} and {} have overlapping vCPU ids", cells[other].id);
            return what.map_err(place);
        }
        for (sibling, value) in &cell.distances {
            let known = (*sibling as usize) < cells.len();
            let what = if !known {
                format!("'sibling_id {sibling}' does not refer to a valid cell within NUMA 'cell id {id}'")
            } else if !(10..=255).contains(value) || (*sibling == id) != (*value == 10) {
                format!("'value {value}' is invalid for 'sibling id {sibling}' under NUMA 'cell id {id}'")
            } else {
                continue;
            };
            return refuse!(XmlError, "{what}").map_err(place);
        }
    }
    if cells.iter().enumerate().any(|(position, cell)| cell.id as usize != position) {
        return refuse!(
            XmlError,
            "Exactly one 'cell' element per guest NUMA cell allowed, non-contiguous ranges or ranges not starting from \
             0 are not allowed"
        )
        .map_err(|error| error.about("cpu/numa", 0));
    }
    let count: usize = sets.iter().map(BTreeSet::len).sum();
    refuse!(
        if count > def.vcpu.max as usize, InternalError,
        "Number of CPUs in <numa> exceeds the <vcpu> count"
    );
    let last = sets.iter().flatten().max();
    refuse!(
        if last.is_some_and(|last| *last >= def.vcpu.max), InternalError,
        "CPU IDs in <numa> exceed the <vcpu> count"
    );
    Ok(())
}

fn numa_tune(def: &DomainDef) -> Check {
    let Some(tune) = &def.numatune else { return Ok(()) };
    let cells = def.cpu.as_ref().map_or(0, |cpu| cpu.numa_cells.len()) as u32;
    if !tune.memnodes.is_empty() && cells == 0 {
        return refuse!(XmlError, "Element 'memnode' is invalid without any guest NUMA cells")
            .map_err(|error| error.about("numatune/memnode", 0));
    }
    if let Some(memory) = &tune.memory {
        let placed = |error: crate::error::Error| error.about("numatune/memory", 0);
        if let Some(nodeset) = memory.nodeset.as_ref().filter(|nodeset| set_members(nodeset).is_none()) {
            return refuse!(ConfigUnsupported, "Invalid value of 'nodeset': {nodeset}").map_err(placed);
        }
        let automatic = memory.placement == Some(NumaPlacement::Auto)
            || memory.placement.is_none() && def.vcpu.placement == Some(crate::domain_xml::tune::Placement::Auto);
        if memory.nodeset.is_none() && !automatic {
            return refuse!(ConfigUnsupported, "nodeset for NUMA memory tuning must be set if 'placement' is 'static'")
                .map_err(placed);
        }
        if memory.placement == Some(NumaPlacement::Auto) && !tune.memnodes.is_empty() {
            return refuse!(ConfigUnsupported, "Per-node binding is not compatible with automatic NUMA placement.")
                .map_err(placed);
        }
    }
    let restrictive = |mode: Option<NumaMode>| mode == Some(NumaMode::Restrictive);
    let whole = tune.memory.as_ref().map(|memory| restrictive(memory.mode));
    let mut seen = HashSet::new();
    each("numatune/memnode", &tune.memnodes, |memnode| {
        let Some(id) = memnode.cellid else {
            return refuse!(XmlError, "Missing required attribute 'cellid' in element 'memnode'");
        };
        refuse!(
            if id >= cells, XmlError,
            "Argument 'cellid' in memnode element must correspond to existing guest's NUMA cell"
        );
        refuse!(if !seen.insert(id), XmlError, "Multiple memnode elements with cellid {id}");
        refuse!(if memnode.nodeset.is_none(), XmlError, "Missing required nodeset attribute in memnode element");
        match (whole, restrictive(memnode.mode)) {
            (Some(true), false) => refuse!(
                XmlError,
                "'restrictive' mode is required in memnode element when mode is 'restrictive' in memory element"
            ),
            (Some(false), true) => refuse!(
                XmlError,
                "'restrictive' mode is required in memory element when mode is 'restrictive' in memnode element"
            ),
            _ => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<vcpus><vcpu id='9' enabled='yes'/></vcpus>",
        "XML error: vcpu id '9' is out of range of maximum vcpu count (line 1"
    )]
    #[case("<vcpus><vcpu id='0' enabled='no'/></vcpus>", "unsupported configuration: vcpu 0 can't be offline")]
    #[case(
        "<iothreadids><iothread id='0'/></iothreadids>",
        "XML error: Invalid value for attribute 'id' in element 'iothread': Zero is not permitted"
    )]
    #[case(
        "<iothreadids><iothread id='1'/><iothread id='1'/></iothreadids>",
        "XML error: duplicate iothread id '1' found"
    )]
    #[case(
        "<cputune><iothreadpin iothread='1' cpuset='0'/></cputune>",
        "unsupported configuration: Cannot find 'iothread' : 1"
    )]
    #[case(
        "<cputune><vcpusched vcpus='0' scheduler='fifo'/></cputune>",
        "XML error: Missing required attribute 'priority' in element 'vcpusched'"
    )]
    #[case(
        "<cputune><vcpusched vcpus='0' scheduler='idle'/><vcpusched vcpus='0' scheduler='idle'/></cputune>",
        "'vcpusched' attributes 'vcpus' must not overlap"
    )]
    #[case(
        "<memoryBacking><hugepages/><allocation mode='ondemand'/></memoryBacking>",
        "unsupported configuration: hugepages are not allowed with memory allocation ondemand"
    )]
    #[case(
        "<memoryBacking><hugepages><page size='2048'/><page size='1048576'/></hugepages></memoryBacking>",
        "two master hugepages detected: 1048576 and 2048"
    )]
    #[case(
        "<cpu><numa><cell id='0' cpus='0-3' memory='1048576'/><cell id='1' cpus='1-2' memory='5'/></numa></cpu>",
        "unsupported configuration: NUMA cells 1 and 0 have overlapping vCPU ids"
    )]
    #[case(
        "<cpu><numa><cell id='0' cpus='0-3' memory='1048576'><distances><sibling id='0' value='20'/></distances></cell></numa></cpu>",
        "XML error: 'value 20' is invalid for 'sibling id 0' under NUMA 'cell id 0'"
    )]
    #[case(
        "<cpu><numa><cell id='0' cpus='0-9' memory='5'/></numa></cpu>",
        "internal error: Number of CPUs in <numa> exceeds the <vcpu> count"
    )]
    #[case(
        "<numatune><memnode cellid='0' mode='strict' nodeset='0'/></numatune>",
        "XML error: Element 'memnode' is invalid without any guest NUMA cells"
    )]
    #[case(
        "<blkiotune><device><path>/x</path></device><device><path>/x</path></device></blkiotune>",
        "unsupported configuration: duplicate blkio device path '/x'"
    )]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let text = refusal(xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
