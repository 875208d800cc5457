//! `<cpu>` as libvirt leaves it after define.

use crate::domain_xml::DomainDef;
use crate::domain_xml::cpu::{Cpu, CpuCheck, CpuFallback, CpuMatch, CpuMode, FeaturePolicy, NumaCell};
use crate::domain_xml::device::MemoryModel;
use crate::domain_xml::model::VirtType;
use crate::domain_xml::tune::{format_set, set_members};
use crate::domain_xml::words::Switch;
use crate::qemu::capabilities::QemuCaps;

/// Fills in mode, match, check and the model a guest without one gets.
pub(super) fn complete(def: &mut DomainDef, caps: Option<&QemuCaps>) {
    hotplug_numa(def);
    numa(def);
    if !matches!(def.os.arch.as_deref(), Some("x86_64" | "i686")) {
        return;
    }
    let default = default_model(def, caps);
    let tcg = def.virt_type == VirtType::Qemu;
    let cpu = def.cpu.get_or_insert_with(Cpu::default);
    let mode = *cpu.mode.get_or_insert(CpuMode::Custom);
    for feature in &mut cpu.features {
        feature.policy.get_or_insert(FeaturePolicy::Require);
    }
    if let Some(topology) = &mut cpu.topology {
        topology.dies.get_or_insert(1);
        topology.clusters.get_or_insert(1);
    }
    match mode {
        CpuMode::Custom => {
            if cpu.model.is_none() {
                cpu.model = Some(default);
                cpu.fallback = Some(CpuFallback::Forbid);
                cpu.match_ = Some(CpuMatch::Exact);
                cpu.check.get_or_insert(CpuCheck::None);
            }
            cpu.match_.get_or_insert(CpuMatch::Exact);
            cpu.fallback.get_or_insert(CpuFallback::Allow);
            cpu.check.get_or_insert(if tcg { CpuCheck::None } else { CpuCheck::Partial });
        }
        CpuMode::HostModel => {
            cpu.check.get_or_insert(CpuCheck::Partial);
        }
        CpuMode::HostPassthrough | CpuMode::Maximum => {
            cpu.check.get_or_insert(CpuCheck::None);
            if mode == CpuMode::HostPassthrough {
                cpu.migratable.get_or_insert(Switch::On);
            }
        }
    }
}

/// The model QEMU takes when it is told none.
fn default_model(def: &DomainDef, caps: Option<&QemuCaps>) -> String {
    let machine = caps.zip(def.os.machine.as_deref()).and_then(|(caps, name)| caps.machine(name));
    let model = machine.and_then(|machine| machine.default_cpu.as_deref()).unwrap_or("qemu64");
    ["-x86_64-cpu", "-i386-cpu"].iter().find_map(|tail| model.strip_suffix(tail)).unwrap_or(model).to_string()
}

/// Virtual CPUs that no NUMA cell has belong to the first one.
fn numa(def: &mut DomainDef) {
    let max = def.vcpu.max;
    let Some(cpu) = def.cpu.as_mut().filter(|cpu| !cpu.numa_cells.is_empty()) else { return };
    let others = cpu.numa_cells.iter().skip(1).filter_map(|cell| set_members(cell.cpus.as_deref()?));
    let taken: Vec<u32> = others.flatten().collect();
    let first = &mut cpu.numa_cells[0];
    let mut own: Vec<u32> = first.cpus.as_deref().and_then(set_members).unwrap_or_default();
    let missing: Vec<u32> = (0..max).filter(|vcpu| !taken.contains(vcpu) && !own.contains(vcpu)).collect();
    own.extend(missing);
    own.sort_unstable();
    first.cpus = Some(format_set(&own)).filter(|set| !set.is_empty());
}

/// Memory can only be plugged into a cell: a guest that may get more, but has none, gets one with all it has.
fn hotplug_numa(def: &mut DomainDef) {
    let hotplug = def.memory.max.is_some() || def.memory.slots.is_some();
    if !hotplug || def.cpu.as_ref().is_some_and(|cpu| !cpu.numa_cells.is_empty()) {
        return;
    }
    let plugged: u64 = def.memory_devices.iter().map(|device| device.target.size).sum();
    let memory = def.memory.size.saturating_sub(plugged);
    def.cpu.get_or_insert_default().numa_cells.push(NumaCell { memory, ..Default::default() });
    for device in def.memory_devices.iter_mut().filter(|device| device.model != MemoryModel::VirtioPmem) {
        device.target.node.get_or_insert(0);
    }
}
