//! `-cpu`: model, features, Hyper-V and KVM interfaces.

use super::{Builder, Pairs, not_yet};
use crate::domain_xml::clock::TimerName;
use crate::domain_xml::cpu::{CacheMode, CpuMode, FeaturePolicy, MaxPhysAddrMode};
use crate::domain_xml::device::PanicModel;
use crate::domain_xml::features::{Hyperv, HypervMode};
use crate::domain_xml::words::Switch;
use crate::error::Result;
use crate::qemu::capabilities::feature_for_qemu;

pub(super) fn cpu(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    let Some(cpu) = &def.cpu else { return Ok(()) };
    let mut p = match cpu.mode.unwrap_or_default() {
        CpuMode::Custom => Pairs::new(cpu.model.as_deref().unwrap_or("qemu64")),
        CpuMode::HostPassthrough => Pairs::new("host"),
        CpuMode::Maximum => Pairs::new("max"),
        // The launch turns it into a custom model; only a definition nobody started comes here with it.
        CpuMode::HostModel => return Err(not_yet("<cpu mode='host-model'> that was not expanded")),
    };
    if let Some(migratable) = cpu.migratable {
        p = p.on_off("migratable", migratable.is_on());
    }
    p = p.set_opt("vendor", cpu.vendor_id.as_deref());
    for feature in &cpu.features {
        let on = match feature.policy.unwrap_or(FeaturePolicy::Require) {
            FeaturePolicy::Require | FeaturePolicy::Force => true,
            FeaturePolicy::Disable | FeaturePolicy::Forbid => false,
            // The model's own value stands: whether the host has it is QEMU's business.
            FeaturePolicy::Optional => continue,
        };
        p = p.on_off(feature_for_qemu(&feature.name), on);
    }
    for timer in &def.clock.timers {
        match timer.name {
            TimerName::Kvmclock => {
                if let Some(present) = timer.present {
                    p = p.on_off("kvmclock", present.is_yes());
                }
            }
            TimerName::Hypervclock if timer.present.is_some_and(|present| present.is_yes()) => {
                p = p.on_off("hv-time", true);
            }
            TimerName::Tsc => p = p.set_opt("tsc-frequency", timer.frequency),
            _ => {}
        }
    }
    let features = &def.features;
    if let Some(eoi) = features.apic.as_ref().and_then(|apic| apic.eoi) {
        p = p.on_off("kvm-pv-eoi", eoi.is_on());
    }
    if let Some(spinlock) = features.pvspinlock {
        p = p.on_off("kvm-pv-unhalt", spinlock.is_on());
    }
    if let Some(hyperv) = &features.hyperv {
        p = hyperv_options(p, hyperv);
    }
    if def.panics.iter().any(|panic| panic.model == Some(PanicModel::Hyperv)) {
        p = p.word("hv-crash");
    }
    if let Some(kvm) = &features.kvm {
        if kvm.hidden == Some(Switch::On) {
            p = p.on_off("kvm", false);
        }
        let hints = [
            ("kvm-hint-dedicated", kvm.hint_dedicated),
            ("kvm-poll-control", kvm.poll_control),
            ("kvm-pv-ipi", kvm.pv_ipi),
        ];
        for (name, state) in hints {
            match (name, state) {
                ("kvm-pv-ipi", Some(Switch::Off)) => p = p.on_off(name, false),
                (_, Some(Switch::On)) if name != "kvm-pv-ipi" => p = p.on_off(name, true),
                _ => {}
            }
        }
    }
    if let Some(pmu) = features.pmu {
        p = p.on_off("pmu", pmu.is_on());
    }
    if let Some(cache) = &cpu.cache {
        p = match cache.mode {
            Some(CacheMode::Emulate) => p.on_off("l3-cache", true).on_off("host-cache-info", false),
            Some(CacheMode::Passthrough) => p.on_off("host-cache-info", true).on_off("l3-cache", false),
            Some(CacheMode::Disable) if cpu.mode == Some(CpuMode::HostPassthrough) => {
                p.on_off("l3-cache", false).on_off("host-cache-info", false)
            }
            Some(CacheMode::Disable) => p.on_off("l3-cache", false),
            None => p,
        };
    }
    if let Some(bits) = &cpu.maxphysaddr {
        p = match bits.mode {
            Some(MaxPhysAddrMode::Passthrough) => {
                p.on_off("host-phys-bits", true).set_opt("host-phys-bits-limit", bits.limit)
            }
            _ => p.set_opt("phys-bits", bits.bits),
        };
    }
    b.arg("-cpu", p.text());
    Ok(())
}

fn hyperv_options(mut p: Pairs, hyperv: &Hyperv) -> Pairs {
    if hyperv.mode == Some(HypervMode::Passthrough) {
        p = p.word("hv-passthrough");
    }
    let on = |switch: Option<Switch>| switch == Some(Switch::On);
    let plain = [("hv-relaxed", hyperv.relaxed), ("hv-vapic", hyperv.vapic)];
    for (name, state) in plain {
        if on(state) {
            p = p.on_off(name, true);
        }
    }
    if let Some(spinlocks) = &hyperv.spinlocks
        && on(spinlocks.state)
    {
        p = p.set("hv-spinlocks", format!("0x{:x}", spinlocks.retries.unwrap_or(0x1fff)));
    }
    for (name, state) in [("hv-vpindex", hyperv.vpindex), ("hv-runtime", hyperv.runtime), ("hv-synic", hyperv.synic)] {
        if on(state) {
            p = p.on_off(name, true);
        }
    }
    if let Some(stimer) = &hyperv.stimer
        && on(stimer.state)
    {
        p = p.on_off("hv-stimer", true);
        if on(stimer.direct) {
            p = p.on_off("hv-stimer-direct", true);
        }
    }
    if on(hyperv.reset) {
        p = p.on_off("hv-reset", true);
    }
    if let Some(vendor) = &hyperv.vendor_id
        && on(vendor.state)
    {
        p = p.set_opt("hv-vendor-id", vendor.value.as_deref());
    }
    for (name, state) in [("hv-frequencies", hyperv.frequencies), ("hv-reenlightenment", hyperv.reenlightenment)] {
        if on(state) {
            p = p.on_off(name, true);
        }
    }
    if let Some(flush) = &hyperv.tlbflush
        && on(flush.state)
    {
        p = p.on_off("hv-tlbflush", true);
        for (name, state) in [("hv-tlbflush-direct", flush.direct), ("hv-tlbflush-ext", flush.extended)] {
            if on(state) {
                p = p.on_off(name, true);
            }
        }
    }
    let rest = [
        ("hv-ipi", hyperv.ipi),
        ("hv-evmcs", hyperv.evmcs),
        ("hv-avic", hyperv.avic),
        ("hv-emsr-bitmap", hyperv.emsr_bitmap),
        ("hv-xmm-input", hyperv.xmm_input),
    ];
    for (name, state) in rest {
        if on(state) {
            p = p.on_off(name, true);
        }
    }
    p
}
