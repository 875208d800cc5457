//! Whether a processor, the host's or what a hypervisor can give, is enough for one described in XML.

use super::{Description, Features, sort_features};
use crate::domain_xml::cpu::CpuMatch;

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// libvirt's name.
    pub arch: String,
    /// `Intel`, `AMD` ...; `None` matches every one.
    pub vendor: Option<String>,
    pub features: Features,
    /// Features that would be seen if they were there; of others nothing is known, and they do not count as missing.
    /// `None`: all.
    pub visible: Option<Features>,
    /// Who offers it, for the reason why it does not do ("Host CPU").
    pub who: &'static str,
}

/// libvirt's answers (`virCPUCompareResult`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With the reason.
    Incompatible(String),
    Identical,
    Superset,
}

impl Outcome {
    /// The number of the answer.
    pub fn number(&self) -> i32 {
        match self {
            Outcome::Incompatible(_) => 0,
            Outcome::Identical => 1,
            Outcome::Superset => 2,
        }
    }
}

fn listed<'f>(names: impl Iterator<Item = &'f String>) -> String {
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    sort_features(&mut names);
    names.join(", ")
}

/// Compares.
pub fn compare(offer: &Offer, wanted: &Description) -> Outcome {
    let who = offer.who;
    if let Some(arch) = wanted.arch.as_ref().filter(|arch| **arch != offer.arch) {
        return Outcome::Incompatible(format!("CPU arch {arch} does not match host arch"));
    }
    if let Some(vendor) = wanted.cpu.vendor.as_ref().filter(|vendor| Some(*vendor) != offer.vendor.as_ref()) {
        return Outcome::Incompatible(format!("host CPU vendor does not match required CPU vendor {vendor}"));
    }
    if wanted.follows_host() {
        return Outcome::Identical;
    }
    let present = listed(wanted.forbidden.intersection(&offer.features));
    if !present.is_empty() {
        return Outcome::Incompatible(format!("{who} provides forbidden features: {present}"));
    }
    let seen = |name: &&String| offer.visible.as_ref().is_none_or(|visible| visible.contains(*name));
    let missing = listed(wanted.features.difference(&offer.features).filter(seen));
    if !missing.is_empty() {
        return Outcome::Incompatible(format!("{who} does not provide required features: {missing}"));
    }
    let extra = offer.features.difference(&wanted.features).filter(|name| !wanted.ignored.contains(*name));
    let extra = listed(extra);
    match (extra.is_empty(), wanted.cpu.match_) {
        (true, _) => Outcome::Identical,
        (false, Some(CpuMatch::Strict)) => {
            Outcome::Incompatible(format!("{who} does not strictly match guest CPU: Extra features: {extra}"))
        }
        (false, _) => Outcome::Superset,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{describe, model};
    use super::*;

    fn offer(model_name: &str, more: &[&str]) -> Offer {
        let model = model(model_name).unwrap();
        let features = model.features.iter().chain(more).map(|name| name.to_string()).collect();
        let vendor = model.vendor.map(str::to_string);
        Offer { arch: "x86_64".into(), vendor, features, visible: None, who: "Host CPU" }
    }

    #[rstest::rstest]
    #[case("<cpu><arch>x86_64</arch><model>Westmere</model><feature name='vme'/></cpu>", Outcome::Identical)]
    #[case("<cpu match='exact'><model>Nehalem</model></cpu>", Outcome::Superset)]
    #[case(
        "<cpu match='minimum'><model>Westmere</model><feature policy='optional' name='vme'/></cpu>",
        Outcome::Identical
    )]
    #[case("<cpu mode='host-passthrough'/>", Outcome::Identical)]
    fn enough(#[case] xml: &str, #[case] outcome: Outcome) {
        assert_eq!(compare(&offer("Westmere", &["vme"]), &describe(xml).unwrap()), outcome);
    }

    #[rstest::rstest]
    #[case("<cpu><arch>aarch64</arch><model>x</model></cpu>", "CPU arch aarch64 does not match host arch")]
    #[case(
        "<cpu match='exact'><model>qemu64</model><vendor>AMD</vendor></cpu>",
        "does not match required CPU vendor AMD"
    )]
    #[case(
        "<cpu match='exact'><model>Westmere</model><feature name='rtm'/><feature name='avx'/></cpu>",
        "Host CPU does not provide required features: avx, rtm"
    )]
    #[case(
        "<cpu match='exact'><model>Nehalem</model><feature policy='forbid' name='vme'/></cpu>",
        "Host CPU provides forbidden features: vme"
    )]
    #[case("<cpu match='strict'><model>Nehalem</model></cpu>", "Extra features: aes, vme")]
    fn not_enough(#[case] xml: &str, #[case] why: &str) {
        match compare(&offer("Westmere", &["vme"]), &describe(xml).unwrap()) {
            Outcome::Incompatible(reason) => assert!(reason.contains(why), "{reason}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_seen_is_not_missing() {
        let wanted = describe("<cpu match='exact'><model>Nehalem</model><feature name='taa-no'/></cpu>").unwrap();
        let mut seen = offer("Nehalem", &[]);
        assert!(matches!(compare(&seen, &wanted), Outcome::Incompatible(_)));
        seen.visible = Some(seen.features.clone());
        assert_eq!(compare(&seen, &wanted), Outcome::Identical);
    }
}
