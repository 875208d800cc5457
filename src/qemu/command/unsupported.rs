//! Elements that nothing here renders. Each is refused by name: a guest that silently lacks something is worse.

use super::not_yet;
use crate::domain_xml::cpu::{NumaMode, NumaPlacement, NumaTune};
use crate::domain_xml::model::VirtType;
use crate::domain_xml::os::{Firmware, LoaderType, OsType, Sysinfo};
use crate::domain_xml::tune::VcpuState;
use crate::domain_xml::{DomainDef, YesNo, perf};
use crate::error::{Error, Result};
use crate::qemu::complete::{Chipset, chipset_of};

fn is_on(vcpu: &VcpuState) -> bool {
    vcpu.enabled.is_some_and(YesNo::is_yes)
}

/// Refuses the first element that is not supported; on paper, the first that is not even rendered.
pub(super) fn check(def: &DomainDef, paper: bool) -> Result<()> {
    if !matches!(def.virt_type, VirtType::Qemu | VirtType::Kvm) {
        return Err(not_yet(format!("<domain type='{}'>", def.virt_type)));
    }
    if def.os.os_type != OsType::Hvm {
        return Err(Error::unsupported_config(format!("unsupported OS type '{}' for a QEMU domain", def.os.os_type)));
    }
    if chipset_of(def) == Chipset::Other {
        let machine = def.os.machine.as_deref().unwrap_or_default();
        return Err(not_yet(format!(
            "machine type '{machine}' of architecture '{}'",
            def.os.arch.as_deref().unwrap_or("?")
        )));
    }
    let loader = def.os.loader.as_ref();
    let fwcfg = def.sysinfo.iter().any(|info| matches!(info, Sysinfo::Fwcfg(_)));
    // Rendered, but a start cannot prepare yet what they need: files, sockets, helper processes.
    let on_paper = [
        (def.os.firmware == Some(Firmware::Efi), "<os firmware='efi'>"),
        (loader.is_some_and(|loader| loader.kind == Some(LoaderType::Pflash)), "<loader type='pflash'>"),
        (def.os.nvram.is_some(), "<nvram>"),
        (def.memory.max.is_some(), "<maxMemory>"),
        (!def.smartcards.is_empty(), "<smartcard>"),
        (!def.tpms.is_empty(), "<tpm>"),
        (!def.redirdevs.is_empty(), "<redirdev>"),
        (!def.memory_devices.is_empty(), "<memory> devices"),
        (def.iommu.is_some(), "<iommu>"),
        (def.memory_backing.hugepages.is_some(), "<memoryBacking><hugepages>"),
        (def.memory_backing.discard, "<memoryBacking><discard>"),
        (!def.cputune.sched.is_empty(), "<vcpusched>, <iothreadsched> or <emulatorsched>"),
        (!def.filesystems.is_empty(), "<filesystem>"),
        (perf::EVENTS.iter().any(|event| perf::enabled(def, event)), "<perf> events"),
        // The path beside it is not what the guest was to get.
        (def.disks.iter().any(|disk| disk.source.fdgroup.is_some()), "<source fdgroup> of a disk"),
    ];
    if let Some((_, name)) = on_paper.iter().find(|(present, _)| *present && !paper) {
        return Err(not_yet(name));
    }
    let elements = [
        (def.os.shim.is_some(), "<shim>"),
        (def.genid.is_some(), "<genid>"),
        (fwcfg, "<sysinfo type='fwcfg'>"),
        (def.memory_backing.locked, "<memoryBacking><locked>"),
        (def.numatune.as_ref().is_some_and(numa_policy), "<numatune> other than <memory mode='strict' nodeset=..>"),
        (def.os.os_type == OsType::Hvm && def.os.bootloader.is_some(), "<bootloader>"),
        // Those that are on from the start are the first ones: QEMU is told their number.
        (
            def.vcpus.windows(2).any(|two| !is_on(&two[0]) && is_on(&two[1])),
            "<vcpus> with a disabled vcpu before others",
        ),
        (!def.leases.is_empty(), "<lease>"),
        (!def.hostdevs.is_empty(), "<hostdev>"),
        (!def.shmems.is_empty(), "<shmem>"),
        (
            def.disks
                .iter()
                .any(|disk| disk.source.data_store.is_some() || disk.source.chain().any(|l| l.data_store.is_some())),
            "<dataStore> of a disk",
        ),
        (def.controllers.iter().any(|c| !c.driver.iothreads.is_empty()), "<iothreads> of a controller"),
        (!def.cryptos.is_empty(), "<crypto>"),
        (def.pstore.is_some(), "<pstore>"),
        (def.nvram_device.is_some(), "<nvram> devices"),
        (def.lxc_namespace.is_some(), "<lxc:namespace>"),
    ];
    match elements.iter().find(|(present, _)| *present) {
        Some((_, name)) => Err(not_yet(name)),
        None => Ok(()),
    }
}

/// What a cpuset cannot do: a preference, one policy per guest node, automatic placement.
fn numa_policy(tune: &NumaTune) -> bool {
    let memory = tune.memory.clone().unwrap_or_default();
    let strict = matches!(memory.mode.unwrap_or_default(), NumaMode::Strict | NumaMode::Restrictive);
    !strict || !tune.memnodes.is_empty() || memory.placement == Some(NumaPlacement::Auto)
}
