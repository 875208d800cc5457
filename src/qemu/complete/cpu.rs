//! `<cpu>` as libvirt leaves it after define.

use crate::domain_xml::DomainDef;
use crate::domain_xml::cpu::{Cpu, CpuCheck, CpuFallback, CpuMatch, CpuMode, FeaturePolicy};
use crate::domain_xml::model::VirtType;
use crate::domain_xml::words::Switch;

/// Fills in mode, match, check and the model a guest without one gets.
pub(super) fn complete(def: &mut DomainDef) {
    if !matches!(def.os.arch.as_deref(), Some("x86_64" | "i686")) {
        return;
    }
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
                cpu.model = Some("qemu64".into());
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
            cpu.migratable.get_or_insert(Switch::On);
        }
    }
}
