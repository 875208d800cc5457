//! A `<cpu>` document: of a host (capabilities) or of a guest, and what it asks for.

use std::collections::BTreeSet;

use super::{Features, is_known_feature, model};
use crate::domain_xml::cpu::{Cpu, CpuMode, FeaturePolicy};
use crate::error::{Code, Error, Result};
use crate::xml::Document;

/// A processor described in XML.
#[derive(Clone, Debug)]
pub struct Description {
    /// libvirt's name; a guest's description may leave it out.
    pub arch: Option<String>,
    pub cpu: Cpu,
    /// The model's vendor, or the one that is named.
    pub vendor: Option<String>,
    /// What it has: the model's features with the listed ones added and taken away.
    pub features: Features,
    /// `policy='forbid'`: it must not be there.
    pub forbidden: Features,
    /// `policy='force'` and `'optional'`: whether it is there does not matter.
    pub ignored: Features,
}

impl Description {
    /// Whether the host decides what it has (`host-passthrough`, `host-model`, `maximum`).
    pub fn follows_host(&self) -> bool {
        !matches!(self.cpu.mode, None | Some(CpuMode::Custom))
    }
}

/// Reads a document. Errors: code 35 for what is no XML, 27 for what is no `<cpu>`, code 1 for an unknown model or
/// feature, with libvirt's texts.
pub fn describe(xml: &str) -> Result<Description> {
    let document = Document::parse(xml, "CPU")?;
    let root = document.root();
    if root.name() != "cpu" {
        return Err(root.error(Code::XmlError, format!("expected a <cpu> element, found <{}>", root.name())));
    }
    let cpu = Cpu::read(root)?;
    let arch = root.child_string("arch");
    let is_guest = root.attr("mode").is_some() || root.attr("match").is_some();
    if arch.is_none() && !is_guest {
        return Err(root.error(Code::XmlError, "Missing CPU architecture"));
    }
    complete(arch, cpu)
}

fn complete(arch: Option<String>, cpu: Cpu) -> Result<Description> {
    // Models of other architectures are not ours to judge.
    let ours = arch.as_deref().is_none_or(|arch| matches!(arch, "x86_64" | "i686"));
    let mut features = BTreeSet::new();
    let mut vendor = cpu.vendor.clone();
    if let (Some(name), true) = (&cpu.model, ours) {
        let Some(model) = model(name) else {
            return Err(Error::internal(format!("Unknown CPU model {name}")));
        };
        features.extend(model.features.iter().map(|name| (*name).to_string()));
        vendor = vendor.or(model.vendor.map(str::to_string));
    }
    let (mut forbidden, mut ignored) = (BTreeSet::new(), BTreeSet::new());
    for feature in &cpu.features {
        let name = feature.name.clone();
        if ours && !is_known_feature(&name) {
            return Err(Error::internal(format!("Unknown CPU feature {name}")));
        }
        features.remove(&name);
        match feature.policy {
            None | Some(FeaturePolicy::Require) => features.insert(name),
            Some(FeaturePolicy::Disable) => false,
            Some(FeaturePolicy::Forbid) => forbidden.insert(name),
            Some(FeaturePolicy::Force | FeaturePolicy::Optional) => ignored.insert(name),
        };
    }
    Ok(Description { arch, cpu, vendor, features, forbidden, ignored })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let text = "<cpu match='exact'><model>Nehalem</model><feature policy='require' name='aes'/>\
                    <feature policy='disable' name='popcnt'/><feature policy='forbid' name='avx'/>\
                    <feature policy='optional' name='ssse3'/></cpu>";
        let seen = describe(text).unwrap();
        assert!(seen.features.contains("aes") && seen.features.contains("sse4.2"));
        assert!(["popcnt", "ssse3", "avx"].iter().all(|name| !seen.features.contains(*name)));
        assert!(seen.forbidden.contains("avx") && seen.ignored.contains("ssse3"));
        assert_eq!(seen.vendor.as_deref(), Some("Intel"));
    }

    #[rstest::rstest]
    #[case("<cpu><model>Nehalem</model></cpu>", Code::XmlError, "Missing CPU architecture")]
    #[case("<cpu match='exact'><model>Foo</model></cpu>", Code::InternalError, "Unknown CPU model Foo")]
    #[case(
        "<cpu match='exact'><model>Nehalem</model><feature name='x3'/></cpu>",
        Code::InternalError,
        "Unknown CPU feature x3"
    )]
    #[case("<domain/>", Code::XmlError, "expected a <cpu> element")]
    #[case("<cpu", Code::XmlDetail, "")]
    fn what_is_no_processor(#[case] xml: &str, #[case] code: Code, #[case] why: &str) {
        let error = describe(xml).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message().contains(why), "{error}");
    }
}
