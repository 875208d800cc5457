//! Which named CPU model the host's processor comes nearest to, and what it has beyond it.
//!
//! Names of models and features are those of libvirt's and QEMU's users; what each model has is in its vendor's
//! manuals. The kernel's names (/proc/cpuinfo) differ here and there. Features that the kernel does not show (most of
//! the "not vulnerable" bits) are not compared, nor is hardware virtualisation: a model is chosen for what runs in it.

use std::collections::BTreeSet;

use super::cpu::{self, Model};
use crate::error::{Error, Result};

/// The processor as /proc/cpuinfo describes its first CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Processor {
    pub model: &'static str,
    /// "Intel", "AMD"; of others we know no models.
    pub vendor: Option<&'static str>,
    pub family: Option<u32>,
    pub number: Option<u32>,
    pub stepping: Option<u32>,
    pub microcode: Option<u32>,
    /// Physical address bits.
    pub address_bits: Option<u32>,
    /// libvirt's names of what it has and the model has not.
    pub features: BTreeSet<&'static str>,
    /// libvirt's names of all it has.
    pub all: BTreeSet<&'static str>,
}

/// Named alike by the kernel and by libvirt. What is neither here nor below is not shown by every kernel, so that
/// nothing follows from its absence.
const SAME: &str = "3dnow 3dnowext 3dnowprefetch abm acpi adx aes apic arat avx avx2 avx512bw avx512cd avx512dq \
                    avx512er avx512f avx512ifma avx512pf avx512vbmi avx512vl bmi1 bmi2 cid clflush clflushopt clwb \
                    clzero cmov cmp_legacy cx16 cx8 dca de ds ds_cpl dtes64 erms est extapic f16c fma fma4 fpu \
                    fsgsbase fsrm fxsr fxsr_opt gfni hle ht hypervisor ibs invpcid la57 lahf_lm lm lwp mca mce \
                    misalignsse mmx mmxext monitor movbe mpx msr mtrr nodeid_msr npt nx osvw pae pat pbe pcid \
                    pconfig pdcm pdpe1gb perfctr_core perfctr_nb pge pku pni popcnt pse pse36 rdpid rdrand rdseed \
                    rdtscp rtm sep serialize skinit smap smep smx ss sse sse2 sse4a ssse3 svm syscall tbm tce tm tm2 \
                    topoext tsc tsc_adjust umip vaes vme vmx vnmi vpclmulqdq wbnoinvd wdt x2apic xgetbv1 xop xsave \
                    xsavec xsaveerptr xsaveopt xsaves xtpr";

/// The kernel's name, libvirt's name.
const RENAMED: &[(&str, &str)] = &[
    ("sse4_1", "sse4.1"),
    ("sse4_2", "sse4.2"),
    ("pclmulqdq", "pclmuldq"),
    ("tsc_deadline_timer", "tsc-deadline"),
    ("cr8_legacy", "cr8legacy"),
    ("sha_ni", "sha-ni"),
    ("avx512_vnni", "avx512vnni"),
    ("avx512_bitalg", "avx512bitalg"),
    ("avx512_vbmi2", "avx512vbmi2"),
    ("avx512_vpopcntdq", "avx512-vpopcntdq"),
    ("avx512_bf16", "avx512-bf16"),
    ("avx512_fp16", "avx512-fp16"),
    ("avx512_4vnniw", "avx512-4vnniw"),
    ("avx512_4fmaps", "avx512-4fmaps"),
    ("avx512_vp2intersect", "avx512-vp2intersect"),
    ("avx_vnni", "avx-vnni"),
    ("amx_bf16", "amx-bf16"),
    ("amx_int8", "amx-int8"),
    ("amx_tile", "amx-tile"),
    ("arch_capabilities", "arch-capabilities"),
    ("bus_lock_detect", "bus-lock-detect"),
    ("split_lock_detect", "split-lock-detect"),
    ("md_clear", "md-clear"),
    ("tsxldtrk", "tsx-ldtrk"),
    ("intel_pt", "intel-pt"),
    ("flush_l1d", "flush-l1d"),
    ("nrip_save", "nrip-save"),
];

/// Speculation control: the two vendors have it in different places, the kernel names it alike.
const SPECULATION: &[(&str, &str, &str)] = &[
    ("ibrs", "spec-ctrl", "ibrs"),
    ("ibpb", "spec-ctrl", "ibpb"),
    ("stibp", "stibp", "amd-stibp"),
    ("ssbd", "ssbd", "amd-ssbd"),
];

/// The host's processor, as something a guest's CPU can be compared with. Errors: code 38 when /proc cannot be read,
/// code 3 on architectures whose models we do not know.
pub fn host_offer() -> Result<cpu::Offer> {
    let arch = std::env::consts::ARCH;
    let Some(processor) = processor(&super::read(std::path::Path::new("/proc/cpuinfo"))?) else {
        return Err(Error::no_support(format!("cannot compare CPUs of the {arch} architecture")));
    };
    let owned = |names: BTreeSet<&'static str>| names.into_iter().map(str::to_string).collect();
    Ok(cpu::Offer {
        arch: arch.to_string(),
        vendor: processor.vendor.map(str::to_string),
        features: owned(processor.all),
        visible: Some(owned(visible())),
        who: "Host CPU",
    })
}

/// Reads /proc/cpuinfo. `None` when it has no `flags` (another architecture).
pub(super) fn processor(cpuinfo: &str) -> Option<Processor> {
    let value = |key: &str| {
        let lines = cpuinfo.lines().take_while(|line| !line.trim().is_empty());
        lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim() == key)
            .map(|(_, value)| value.trim())
    };
    let vendor = match value("vendor_id") {
        Some("GenuineIntel") => Some("Intel"),
        Some("AuthenticAMD") => Some("AMD"),
        _ => None,
    };
    let mut has = features(value("flags")?, vendor);
    let (model, included) = nearest(&has, vendor);
    let all = has.clone();
    has.retain(|feature| !included.contains(feature));
    let number = |key: &str| value(key).and_then(|text| text.parse().ok());
    Some(Processor {
        model,
        vendor,
        family: number("cpu family"),
        number: number("model"),
        stepping: number("stepping"),
        microcode: value("microcode").and_then(|text| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()),
        address_bits: value("address sizes").and_then(|text| text.split(' ').next()?.parse().ok()),
        features: has,
        all,
    })
}

/// libvirt's names of the kernel's flags; flags that are no processor features are left out.
fn features(flags: &str, vendor: Option<&str>) -> BTreeSet<&'static str> {
    let flags: BTreeSet<&str> = flags.split_whitespace().collect();
    let mut found: BTreeSet<&'static str> = words(SAME).filter(|word| flags.contains(word)).collect();
    found.extend(RENAMED.iter().filter(|(flag, _)| flags.contains(flag)).map(|(_, name)| *name));
    for (_, intel, amd) in SPECULATION.iter().filter(|(flag, _, _)| flags.contains(flag)) {
        found.extend(match vendor {
            Some("Intel") => Some(*intel),
            Some("AMD") => Some(*amd),
            _ => None,
        });
    }
    // Only both together are what the processor calls invariant.
    if flags.contains("constant_tsc") && flags.contains("nonstop_tsc") {
        found.insert("invtsc");
    }
    found
}

fn words(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split_whitespace()
}

/// Hardware virtualisation, and what hypervisors keep from guests: a model is chosen, and compared, for what runs in it.
const NOT_COMPARED: [&str; 6] = ["monitor", "npt", "nrip-save", "svm", "vmx", "vnmi"];

/// Every feature that [`features`] would find if it were there, and whose absence counts.
pub(super) fn visible() -> BTreeSet<&'static str> {
    let both = SPECULATION.iter().flat_map(|(_, intel, amd)| [*intel, *amd]);
    words(SAME)
        .chain(RENAMED.iter().map(|(_, name)| *name))
        .chain(both)
        .chain(["invtsc"])
        .filter(|name| !NOT_COMPARED.contains(name))
        .collect()
}

/// The model of this vendor that has most and nothing the processor lacks; else `qemu64`.
fn nearest(has: &BTreeSet<&str>, vendor: Option<&str>) -> (&'static str, BTreeSet<&'static str>) {
    let visible = visible();
    let shown = |model: &'static Model| model.features.intersection(&visible).copied().collect::<BTreeSet<_>>();
    let of_vendor = cpu::models().iter().filter(|model| model.vendor.is_some() && model.vendor == vendor);
    of_vendor
        // Before that processors were not 64 bit wide.
        .filter(|model| !model.is_version() && model.features.contains("lm"))
        .map(|model| (model, shown(model)))
        .filter(|(_, features)| features.iter().all(|feature| has.contains(feature)))
        .max_by_key(|(_, features)| features.len())
        .map(|(model, features)| (model.name, features))
        .unwrap_or_else(|| ("qemu64", cpu::model("qemu64").map(shown).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIRTUAL_EPYC: &str = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr \
        sse sse2 ht syscall nx mmxext fxsr_opt pdpe1gb rdtscp lm constant_tsc rep_good nopl nonstop_tsc cpuid pni \
        pclmulqdq ssse3 fma cx16 pcid sse4_1 sse4_2 x2apic movbe popcnt aes xsave avx f16c rdrand hypervisor lahf_lm \
        cmp_legacy cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw topoext fsgsbase bmi1 avx2 smep bmi2 rdseed adx \
        smap clflushopt sha_ni xsaveopt xsavec xgetbv1 arat";

    fn cpuinfo(vendor: &str, flags: &str) -> String {
        format!(
            "processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: X\nstepping\t: 1\n\
             microcode\t: 0x1000065\nflags\t\t: {flags}\naddress sizes\t: 48 bits physical, 48 bits virtual\n\n\
             processor\t: 1\nmodel\t\t: 99\n"
        )
    }

    #[test]
    fn a_processor_is_a_model_and_what_it_has_beyond() {
        let processor = processor(&cpuinfo("AuthenticAMD", VIRTUAL_EPYC)).unwrap();
        assert_eq!((processor.model, processor.vendor), ("EPYC", Some("AMD")));
        let extra: Vec<_> = processor.features.iter().copied().collect();
        assert_eq!(extra, ["cmp_legacy", "ht", "hypervisor", "invtsc", "pcid", "vme", "x2apic"]);
        let numbers = (processor.family, processor.number, processor.stepping, processor.address_bits);
        assert_eq!(numbers, (Some(25), Some(17), Some(1), Some(48)));
        assert_eq!(processor.microcode, Some(0x100_0065));
    }

    #[test]
    fn a_missing_feature_means_an_older_model() {
        let model = |vendor, flags: &str| processor(&cpuinfo(vendor, flags)).unwrap().model;
        assert_eq!(model("AuthenticAMD", &VIRTUAL_EPYC.replace("sha_ni", "")), "Opteron_G3");
        assert_eq!(model("GenuineIntel", VIRTUAL_EPYC), "Westmere");
        let haswell = format!("{VIRTUAL_EPYC} tsc_deadline_timer erms invpcid");
        assert_eq!(model("GenuineIntel", &haswell), "Broadwell-noTSX");
        assert_eq!(model("GenuineIntel", &format!("{haswell} ibrs ibpb")), "Skylake-Client-noTSX-IBRS");
        assert_eq!(model("CentaurHauls", &haswell), "qemu64");
    }

    #[test]
    fn speculation_control_has_each_vendors_name() {
        let names = |vendor| features("ibrs ibpb stibp ssbd", Some(vendor)).into_iter().collect::<Vec<_>>();
        assert_eq!(names("Intel"), ["spec-ctrl", "ssbd", "stibp"]);
        assert_eq!(names("AMD"), ["amd-ssbd", "amd-stibp", "ibpb", "ibrs"]);
    }

    #[test]
    fn other_architectures_have_no_flags() {
        assert_eq!(processor("processor\t: 0\nFeatures\t: fp asimd\n"), None);
    }
}
