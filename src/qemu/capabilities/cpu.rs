//! CPU models: what `host-model` becomes, and the two spellings of feature names.
//!
//! libvirt computes a host-model from its own tables and then reads hundreds of properties back from each started QEMU.
//! We ask QEMU once per binary: the full expansion of `max` says what the host and accelerator can give, the full
//! expansion of each named model says what it has, and the nearest named model plus the differences is the answer.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CpuModel;

/// A concrete CPU equal to what the host can give: a named model with features on and off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostModel {
    pub model: String,
    /// `Intel`, `AMD`, `Hygon`... (libvirt's names); `None` when unknown.
    pub vendor: Option<String>,
    /// libvirt's feature names in a fixed order, with whether the feature is on.
    pub features: Vec<(String, bool)>,
}

impl HostModel {
    /// The value of `-cpu`.
    pub fn for_qemu(&self) -> String {
        let feature =
            |(name, on): &(String, bool)| format!(",{}={}", feature_for_qemu(name), if *on { "on" } else { "off" });
        let features: String = self.features.iter().map(feature).collect();
        format!("{}{features}", self.model)
    }
}

/// libvirt's spelling -> QEMU's, where they differ. QEMU also has older aliases; these are its canonical ones.
const SPELLINGS: &[(&str, &str)] = &[
    ("cmp_legacy", "cmp-legacy"),
    ("ds_cpl", "ds-cpl"),
    ("fxsr_opt", "fxsr-opt"),
    ("kvm_asyncpf", "kvm-asyncpf"),
    ("kvm_mmu", "kvm-mmu"),
    ("kvm_nopiodelay", "kvm-nopiodelay"),
    ("kvm_pv_eoi", "kvm-pv-eoi"),
    ("kvm_pv_unhalt", "kvm-pv-unhalt"),
    ("kvm_steal_time", "kvm-steal-time"),
    ("lahf_lm", "lahf-lm"),
    ("nodeid_msr", "nodeid-msr"),
    ("pclmuldq", "pclmulqdq"),
    ("perfctr_core", "perfctr-core"),
    ("perfctr_nb", "perfctr-nb"),
    ("pni", "sse3"),
    ("sse4_1", "sse4.1"),
    ("sse4_2", "sse4.2"),
    ("svm_lock", "svm-lock"),
    ("tsc_adjust", "tsc-adjust"),
    ("tsc_scale", "tsc-scale"),
    ("vmcb_clean", "vmcb-clean"),
    ("pause_filter", "pause-filter"),
    ("nrip_save", "nrip-save"),
];

/// What libvirt's feature is called on QEMU's command line.
pub fn feature_for_qemu(name: &str) -> &str {
    SPELLINGS.iter().find(|(ours, _)| *ours == name).map_or(name, |(_, qemu)| qemu)
}

/// What QEMU's property is called in XML.
pub fn feature_from_qemu(name: &str) -> &str {
    // libvirt keeps QEMU's spelling for these, and its own for the rest of the table.
    if matches!(name, "pause-filter" | "nrip-save" | "sse4.1" | "sse4.2" | "sse3" | "pclmulqdq") {
        return match name {
            "sse3" => "pni",
            "pclmulqdq" => "pclmuldq",
            other => other,
        };
    }
    SPELLINGS.iter().find(|(_, qemu)| *qemu == name).map_or(name, |(ours, _)| ours)
}

/// Boolean properties of an x86 CPU object that are no CPUID features: behaviour of QEMU, KVM or Hyper-V interfaces, and
/// second spellings of features.
fn is_feature(name: &str) -> bool {
    const OTHER: &[&str] = &[
        "check",
        "enforce",
        "fill-mtrr-mask",
        "full-cpuid-auto-level",
        "host-cache-info",
        "host-phys-bits",
        "kvm",
        "l3-cache",
        "legacy-cache",
        "legacy-multi-node",
        "lmce",
        "migratable",
        "pmu",
        "start-powered-off",
        "realized",
        "hotplugged",
        "hotpluggable",
        "tcg-cpuid",
        "vmware-cpuid-freq",
        "cpuid-0xb",
        "cr8legacy-emulation",
        "xen-vapic",
        "overflow-recov-emulation",
        // second spellings
        "i64",
        "xd",
        "ffxsr",
        "pni",
        "pclmuldq",
        "sse4-1",
        "sse4-2",
        "sse4_1",
        "sse4_2",
        "hle-emulation",
    ];
    let other = name.contains('_') || ["x-", "hv-", "kvm-"].iter().any(|prefix| name.starts_with(prefix));
    !other && !OTHER.contains(&name)
}

/// The features that are on in a full expansion.
fn enabled(props: &Value) -> BTreeSet<&str> {
    let map = props.as_object().into_iter().flatten();
    map.filter(|(name, value)| **value == Value::Bool(true) && is_feature(name))
        .map(|(name, _)| name.as_str())
        .collect()
}

/// The same by libvirt's names.
pub(super) fn offered(props: &Value) -> BTreeSet<String> {
    enabled(props).into_iter().map(|name| feature_from_qemu(name).to_string()).collect()
}

fn vendor_name(props: &Value) -> Option<&'static str> {
    match props.get("vendor")?.as_str()? {
        "GenuineIntel" => Some("Intel"),
        "AuthenticAMD" => Some("AMD"),
        "HygonGenuine" => Some("Hygon"),
        "CentaurHauls" | "  Shanghai  " => Some("Zhaoxin"),
        _ => None,
    }
}

/// Whether a model may stand as the base of a host-model: a named hardware generation, no QEMU invention, no version.
pub(super) fn is_base_candidate(model: &CpuModel) -> bool {
    let name = model.name.as_str();
    let version = name.rsplit_once("-v").is_some_and(|(_, rest)| rest.bytes().all(|byte| byte.is_ascii_digit()));
    !version
        && !model.deprecated
        && !matches!(name, "max" | "host" | "base" | "486" | "athlon" | "phenom" | "n270" | "coreduo")
        && !["qemu", "kvm", "pentium"].iter().any(|prefix| name.starts_with(prefix))
}

/// The named model nearest to `max`, with what has to be switched on and off to equal it.
///
/// `models` are the accelerator's models, `expansions` the full expansions of the candidates by name. Deterministic: the
/// same vendor first, then the fewest differences, then the name.
pub(super) fn choose(max: &Value, models: &[CpuModel], expansions: &BTreeMap<String, Value>) -> Option<HostModel> {
    let available = enabled(max);
    let vendor = max.get("vendor");
    let best = models
        .iter()
        .filter_map(|model| {
            let props = expansions.get(&model.name)?;
            let has = enabled(props);
            let on: Vec<&str> = available.difference(&has).copied().collect();
            // A full expansion shows what the model asks for; what it cannot get is listed apart.
            let mut off: BTreeSet<&str> = has.difference(&available).copied().collect();
            off.extend(model.unavailable.iter().map(String::as_str).filter(|name| is_feature(name)));
            let key = (props.get("vendor") != vendor, on.len() + off.len() * 2, model.name.clone());
            Some((key, model, on, off))
        })
        .min_by(|a, b| a.0.cmp(&b.0));
    let (_, model, on, off) = best?;
    let spelled = |name: &&str, state| (feature_from_qemu(name).to_string(), state);
    let features =
        on.iter().map(|name| spelled(name, true)).chain(off.iter().map(|name| spelled(name, false))).collect();
    Some(HostModel { model: model.name.clone(), vendor: vendor_name(max).map(str::to_string), features })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn model(name: &str, unavailable: &[&str]) -> CpuModel {
        CpuModel {
            name: name.into(),
            unavailable: unavailable.iter().map(|s| s.to_string()).collect(),
            deprecated: false,
        }
    }

    #[test]
    fn nearest_model_of_the_same_vendor_with_differences() {
        let max = json!({"vendor": "AuthenticAMD", "sse2": true, "cmp-legacy": true, "cmp_legacy": true, "kvm": true});
        let models = [model("Nehalem", &[]), model("EPYC", &["fxsr-opt"])];
        let expansions = BTreeMap::from([
            ("Nehalem".to_string(), json!({"vendor": "GenuineIntel", "sse2": true, "cmp-legacy": true})),
            ("EPYC".to_string(), json!({"vendor": "AuthenticAMD", "sse2": true, "fxsr-opt": true, "ffxsr": true})),
        ]);
        let chosen = choose(&max, &models, &expansions).expect("a model");
        assert_eq!(chosen.model, "EPYC");
        assert_eq!(chosen.vendor.as_deref(), Some("AMD"));
        assert_eq!(chosen.features, [("cmp_legacy".to_string(), true), ("fxsr_opt".to_string(), false)]);
    }

    #[test]
    fn spellings() {
        assert_eq!(feature_for_qemu("fxsr_opt"), "fxsr-opt");
        assert_eq!(feature_from_qemu("fxsr-opt"), "fxsr_opt");
        assert_eq!(feature_from_qemu("nrip-save"), "nrip-save");
        assert_eq!(feature_for_qemu("vmx"), "vmx");
    }

    #[test]
    fn candidates() {
        assert!(is_base_candidate(&model("EPYC-Milan", &[])));
        assert!(!is_base_candidate(&model("EPYC-v1", &[])));
        assert!(!is_base_candidate(&model("qemu64", &[])));
    }
}
