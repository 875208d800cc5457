//! The two tables: models with their features, and features in the order of their CPUID bits.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

const MODELS_TEXT: &str = include_str!("x86_models.txt");
const FEATURES_TEXT: &str = include_str!("x86_features.txt");

/// A named CPU model.
#[derive(Clone, Debug)]
pub struct Model {
    pub name: &'static str,
    /// `Intel`, `AMD` ...; `None` for the models nobody built.
    pub vendor: Option<&'static str>,
    /// libvirt's names.
    pub features: BTreeSet<&'static str>,
}

impl Model {
    /// Whether the name ends in a version (`EPYC-v2`): users name them, nobody is offered them.
    pub fn is_version(&self) -> bool {
        let version = self.name.rsplit_once("-v").map(|(_, number)| number);
        version.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| read_models(MODELS_TEXT));

static POSITIONS: LazyLock<HashMap<&'static str, usize>> = LazyLock::new(|| {
    let lines = FEATURES_TEXT.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(|line| line.split_whitespace().skip(1)).enumerate().map(|(place, name)| (name, place)).collect()
});

/// Models of QEMU's own, which stand for no maker's processor.
fn is_generic(name: &str) -> bool {
    ["qemu", "kvm", "486"].iter().any(|prefix| name.starts_with(prefix))
}

/// `NAME VENDOR FEATURE...` or `NAME = OTHER +FEATURE -FEATURE...`, the other one above.
fn read_models(text: &'static str) -> Vec<Model> {
    let mut models: Vec<Model> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(second)) = (words.next(), words.next()) else { continue };
        if second != "=" {
            models.push(Model { name, vendor: Some(second), features: words.collect() });
            continue;
        }
        let Some(base) = words.next().and_then(|base| models.iter().find(|model| model.name == base)) else { continue };
        let mut model = Model { name, ..base.clone() };
        for word in words {
            match word.split_at(1) {
                ("+", feature) => model.features.insert(feature),
                (_, feature) => model.features.remove(feature),
            };
        }
        models.push(model);
    }
    models.iter_mut().filter(|model| is_generic(model.name)).for_each(|model| model.vendor = None);
    models
}

/// All x86 models, oldest first within a maker.
pub fn models() -> &'static [Model] {
    &MODELS
}

/// The model of this name.
pub fn model(name: &str) -> Option<&'static Model> {
    models().iter().find(|model| model.name == name)
}

/// Names for an architecture (libvirt's names): none where models are not restricted, `None` when it is none we know of.
pub fn model_names(arch: &str) -> Option<Vec<&'static str>> {
    const OTHERS: [&str; 22] = [
        "aarch64",
        "alpha",
        "armv6l",
        "armv7b",
        "armv7l",
        "hppa",
        "loongarch64",
        "m68k",
        "microblaze",
        "mips",
        "mips64",
        "mips64el",
        "mipsel",
        "ppc",
        "ppc64",
        "ppc64le",
        "riscv32",
        "riscv64",
        "s390",
        "s390x",
        "sparc",
        "sparc64",
    ];
    match arch {
        "x86_64" | "i686" => Some(models().iter().map(|model| model.name).collect()),
        other if OTHERS.contains(&other) => Some(Vec::new()),
        _ => None,
    }
}

/// Whether there is a feature of this name.
pub fn is_known_feature(name: &str) -> bool {
    // Details of hardware virtualisation: QEMU has a property for each.
    POSITIONS.contains_key(name) || name.starts_with("vmx-")
}

/// Into the order of CPUID's bits; what is not there comes last, by name.
pub fn sort_features<T: AsRef<str>>(features: &mut [T]) {
    features.sort_by(|a, b| {
        let place = |name: &T| POSITIONS.get(name.as_ref()).copied().unwrap_or(usize::MAX);
        place(a).cmp(&place(b)).then_with(|| a.as_ref().cmp(b.as_ref()))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_tables_is_read() {
        let lines = MODELS_TEXT.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(models().len(), lines);
        for model in models() {
            for feature in &model.features {
                assert!(POSITIONS.contains_key(feature), "{} has the unknown feature {feature}", model.name);
            }
        }
        let words = FEATURES_TEXT.lines().filter(|line| !line.starts_with('#'));
        let count: usize = words.map(|line| line.split_whitespace().skip(1).count()).sum();
        assert_eq!(count, POSITIONS.len(), "a feature is listed twice");
    }

    #[test]
    fn a_model_is_another_with_changes() {
        let (westmere, nehalem) = (model("Westmere").unwrap(), model("Nehalem").unwrap());
        assert_eq!(westmere.vendor, Some("Intel"));
        let more: Vec<_> = westmere.features.difference(&nehalem.features).collect();
        assert_eq!(more, [&"aes"]);
        assert!(model("Haswell-noTSX").unwrap().features.is_subset(&model("Haswell").unwrap().features));
        assert_eq!(model("qemu64").unwrap().vendor, None);
        assert!(model("EPYC-v2").unwrap().is_version() && !model("EPYC-Milan").unwrap().is_version());
    }

    #[test]
    fn bits_in_order() {
        let mut names = ["invtsc", "zzz", "vme", "aaa", "avx", "pni"];
        sort_features(&mut names);
        assert_eq!(names, ["pni", "avx", "vme", "invtsc", "aaa", "zzz"]);
    }

    #[test]
    fn names_by_architecture() {
        assert!(model_names("x86_64").unwrap().contains(&"EPYC-Milan"));
        assert_eq!(model_names("aarch64").unwrap(), Vec::<&str>::new());
        assert_eq!(model_names("foo"), None);
    }
}
