//! The processor that several have in common.

use super::{Description, Features, Model, model, models, sort_features};
use crate::domain_xml::cpu::{Cpu, CpuFallback, CpuFeature, CpuMatch, CpuMode, FeaturePolicy};
use crate::error::{Code, Error, Result};
use crate::xml::Writer;

/// Features that tie a guest to its host.
const NOT_MIGRATABLE: [&str; 1] = ["invtsc"];

/// Bits that an operating system sets: they say nothing about a processor.
const SET_BY_SYSTEM: [&str; 2] = ["osxsave", "ospke"];

/// What [`baseline`] is to do beside the common.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// List every feature (`VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES`).
    pub expand: bool,
    /// Leave out what cannot be migrated (`VIR_CONNECT_BASELINE_CPU_MIGRATABLE`).
    pub migratable: bool,
    /// Nothing but these: what a hypervisor can give.
    pub within: Option<Features>,
}

/// The richest guest CPU that all of these can run, as XML.
///
/// Errors: code 8 without any, code 9 when they have nothing in common or come from two makers.
pub fn baseline(cpus: &[Description], options: &Options) -> Result<String> {
    let Some(first) = cpus.first() else {
        return Err(Error::invalid_arg("no CPUs given"));
    };
    let arch = first.arch.as_deref().unwrap_or("x86_64");
    if cpus.iter().any(|cpu| cpu.arch.as_deref().is_some_and(|other| other != arch)) {
        return Err(Error::new(Code::OperationFailed, "CPUs have incompatible architectures"));
    }
    if !matches!(arch, "x86_64" | "i686") {
        return Err(Error::no_support(format!("cannot compute baseline CPU of {arch} CPUs")));
    }
    let mut vendor: Option<&str> = None;
    for cpu in cpus {
        if cpu.cpu.model.is_none() {
            return Err(Error::invalid_arg("no CPU model specified: a <cpu> without <model> has no baseline"));
        }
        match (vendor, cpu.vendor.as_deref()) {
            (Some(known), Some(other)) if known != other => {
                return Err(Error::new(Code::OperationFailed, "CPU vendors do not match"));
            }
            (known, other) => vendor = known.or(other),
        }
    }
    let mut common = first.features.clone();
    for cpu in &cpus[1..] {
        common.retain(|name| cpu.features.contains(name));
    }
    if let Some(within) = &options.within {
        common.retain(|name| within.contains(name));
    }
    common.retain(|name| !SET_BY_SYSTEM.contains(&name.as_str()));
    common.retain(|name| !options.migratable || !NOT_MIGRATABLE.contains(&name.as_str()));
    if common.is_empty() {
        return Err(Error::new(Code::OperationFailed, "CPUs are incompatible"));
    }
    let named =
        first.cpu.model.as_deref().filter(|name| cpus.iter().all(|cpu| cpu.cpu.model.as_deref() == Some(*name)));
    let Some(chosen) = named.and_then(model).or_else(|| nearest(&common, vendor)) else {
        return Err(Error::internal("Cannot find suitable CPU model for given data"));
    };
    let by_name = cpus.iter().all(|cpu| cpu.cpu.vendor.is_some());
    Ok(write(chosen, &common, named.is_some(), vendor.filter(|_| by_name), options.expand))
}

/// The model that needs nothing switched off and least switched on; of these the oldest.
fn nearest(features: &Features, vendor: Option<&str>) -> Option<&'static Model> {
    let candidates = models().iter().filter(|model| !model.is_version());
    let candidates = candidates.filter(|model| vendor.is_none() || model.vendor.is_none() || model.vendor == vendor);
    candidates.min_by_key(|model| {
        let off = model.features.iter().filter(|name| !features.contains(**name)).count();
        let on = features.iter().filter(|name| !model.features.contains(name.as_str())).count();
        (off > 0, on + 2 * off)
    })
}

fn write(model: &Model, features: &Features, as_named: bool, vendor: Option<&str>, expand: bool) -> String {
    let missing = model.features.iter().filter(|name| !features.contains(**name));
    let mut off: Vec<&str> = missing.copied().collect();
    let extra = features.iter().filter(|name| expand || !model.features.contains(name.as_str()));
    let mut on: Vec<&str> = extra.map(String::as_str).collect();
    sort_features(&mut off);
    if expand {
        on.sort_unstable();
    } else {
        sort_features(&mut on);
    }
    let with = |policy| move |name: &&str| CpuFeature { policy: Some(policy), name: (*name).to_string() };
    let listed = on.iter().map(with(FeaturePolicy::Require)).chain(off.iter().map(with(FeaturePolicy::Disable)));
    let cpu = Cpu {
        mode: Some(CpuMode::Custom),
        match_: Some(CpuMatch::Exact),
        model: Some(model.name.to_string()),
        fallback: Some(if as_named { CpuFallback::Forbid } else { CpuFallback::Allow }),
        vendor: vendor.map(str::to_string),
        features: listed.collect(),
        ..Cpu::default()
    };
    let mut w = Writer::new();
    cpu.write(&mut w);
    w.finish()
}

#[cfg(test)]
mod tests {
    use super::super::describe;
    use super::*;

    fn of(documents: &[&str], options: &Options) -> Result<String> {
        let cpus: Vec<Description> = documents.iter().map(|xml| describe(xml)).collect::<Result<_>>()?;
        baseline(&cpus, options)
    }

    const WESTMERE: &str = "<cpu><arch>x86_64</arch><model>Westmere</model><vendor>Intel</vendor>\
                            <feature name='avx'/><feature name='osxsave'/><feature name='invtsc'/></cpu>";
    const NEHALEM: &str = "<cpu><arch>x86_64</arch><model>Nehalem</model><vendor>Intel</vendor>\
                           <feature name='aes'/><feature name='avx'/><feature name='invtsc'/><feature name='vme'/></cpu>";
    const OPTERON: &str = "<cpu><arch>x86_64</arch><model>Opteron_G3</model><vendor>AMD</vendor></cpu>";

    #[test]
    fn two_of_one_maker() {
        let xml = of(&[WESTMERE, NEHALEM], &Options::default()).unwrap();
        assert_eq!(
            xml,
            "<cpu mode='custom' match='exact'>\n  <model fallback='allow'>Westmere</model>\n  <vendor>Intel</vendor>\n  \
             <feature policy='require' name='avx'/>\n  <feature policy='require' name='invtsc'/>\n</cpu>\n"
        );
        let xml = of(&[WESTMERE, NEHALEM], &Options { migratable: true, ..Options::default() }).unwrap();
        assert!(xml.contains("'avx'") && !xml.contains("invtsc"), "{xml}");
    }

    #[test]
    fn one_alone_keeps_its_name() {
        let alone = "<cpu><arch>x86_64</arch><model>Westmere</model></cpu>";
        let xml = of(&[alone], &Options::default()).unwrap();
        assert_eq!(xml, "<cpu mode='custom' match='exact'>\n  <model fallback='forbid'>Westmere</model>\n</cpu>\n");
        let xml = of(&[alone], &Options { expand: true, ..Options::default() }).unwrap();
        let first = xml.lines().nth(2).unwrap();
        assert_eq!(first, "  <feature policy='require' name='aes'/>");
        assert_eq!(xml.matches("<feature").count(), model("Westmere").unwrap().features.len());
    }

    #[test]
    fn within_what_a_hypervisor_gives() {
        let within: Features = model("Westmere").unwrap().features.iter().map(|name| name.to_string()).collect();
        let within = within.into_iter().filter(|name| name != "aes").collect();
        let xml = of(&[WESTMERE], &Options { within: Some(within), ..Options::default() }).unwrap();
        assert!(xml.contains("<feature policy='disable' name='aes'/>") && !xml.contains("avx"), "{xml}");
    }

    #[test]
    fn nothing_in_common() {
        let message = of(&[WESTMERE, OPTERON], &Options::default()).unwrap_err().message();
        assert_eq!(message, "operation failed: CPU vendors do not match");
        let none = Options { within: Some(Features::new()), ..Options::default() };
        assert!(of(&[WESTMERE], &none).unwrap_err().message().contains("CPUs are incompatible"));
        assert!(of(&[], &Options::default()).is_err());
    }
}
