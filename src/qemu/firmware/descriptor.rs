//! Firmware descriptors: the JSON files by which distributions say which firmware images they install (QEMU's
//! `docs/interop/firmware.json`). Reads them; never looks at the images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// One descriptor.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub struct Descriptor {
    /// `uefi`, `bios` ...
    pub interface_types: Vec<String>,
    pub mapping: Mapping,
    pub targets: Vec<Target>,
    #[serde(default)]
    pub features: Vec<String>,
}

/// Where the firmware goes.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "device", rename_all = "lowercase")]
pub enum Mapping {
    #[serde(rename_all = "kebab-case")]
    Flash {
        #[serde(default)]
        mode: FlashMode,
        executable: Image,
        nvram_template: Option<Image>,
    },
    Memory {
        filename: String,
    },
    /// A kernel, or a device that is not known here: never chosen.
    #[serde(other)]
    Other,
}

/// How flash is split in code and variables.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum FlashMode {
    #[default]
    Split,
    Combined,
    Stateless,
}

/// An image file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Image {
    pub filename: String,
    /// `raw`, `qcow2`.
    pub format: String,
}

/// Machines that it is for.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Target {
    /// QEMU's name.
    pub architecture: String,
    /// Patterns with `*` and `?`.
    pub machines: Vec<String>,
}

impl Descriptor {
    /// Whether it has a feature.
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|own| own == feature)
    }

    /// Whether it is for a machine, by libvirt's name of the architecture.
    pub fn fits(&self, arch: &str, machine: &str) -> bool {
        self.targets
            .iter()
            .filter(|target| crate::qemu::complete::libvirt_arch(&target.architecture) == arch)
            .any(|target| target.machines.iter().any(|pattern| matches(pattern, machine)))
    }
}

/// Shell-like match with `*` and `?`.
fn matches(pattern: &str, text: &str) -> bool {
    let mut chars = pattern.chars();
    match chars.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = chars.as_str();
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
        }
        Some(wanted) => {
            let mut own = text.chars();
            own.next().is_some_and(|own| wanted == '?' || wanted == own) && matches(chars.as_str(), own.as_str())
        }
    }
}

/// QEMU's standard directories, most important first: the user's own (unless `privileged`), the administrator's, the
/// distribution's.
pub fn standard_dirs(privileged: bool) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    if !privileged {
        let own = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let own = own.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")));
        dirs.extend(own.map(|dir| dir.join("qemu/firmware")));
    }
    dirs.push("/etc/qemu/firmware".into());
    dirs.push("/usr/share/qemu/firmware".into());
    dirs
}

/// A directory that is a root of its own (an image, a test's data) stands for the standard directories below it.
fn expanded(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let below = |dir: &PathBuf| -> Vec<PathBuf> {
        let standard = standard_dirs(true).into_iter().filter_map(|path| Some(dir.join(path.strip_prefix("/").ok()?)));
        let found: Vec<PathBuf> = standard.filter(|path| path.is_dir()).collect();
        if found.is_empty() { vec![dir.clone()] } else { found }
    };
    dirs.iter().flat_map(below).collect()
}

/// Reads the descriptors of these directories, in the order in which they are tried: by file name. A file of an earlier
/// directory hides those of its name in later ones; an empty file only hides. What cannot be read is left out with a
/// warning.
pub fn load(dirs: &[PathBuf]) -> Vec<Descriptor> {
    let mut files: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for dir in &expanded(dirs) {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "cannot read firmware descriptors");
                continue;
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                files.entry(entry.file_name()).or_insert(path);
            }
        }
    }
    files.values().filter_map(|path| read(path)).collect()
}

fn read(path: &Path) -> Option<Descriptor> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) if text.is_empty() => return None,
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read a firmware descriptor");
            return None;
        }
    };
    serde_json::from_str(&text)
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a firmware descriptor is not understood"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("pc-q35-*", "pc-q35-10.0", true)]
    #[case("pc-q35-*", "pc-i440fx-10.0", false)]
    #[case("virt", "virt", true)]
    #[case("virt", "virt-9.0", false)]
    #[case("pc-?35-*", "pc-q35-", true)]
    fn patterns(#[case] pattern: &str, #[case] machine: &str, #[case] expected: bool) {
        assert_eq!(matches(pattern, machine), expected);
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // files of a test
    fn files_hide_each_other_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::create_dir(&first).unwrap();
        std::fs::create_dir(&second).unwrap();
        let bios = |path: &str| {
            format!(
                r#"{{"interface-types":["bios"],"mapping":{{"device":"memory","filename":"{path}"}},
                "targets":[{{"architecture":"i386","machines":["pc-*"]}}],"features":[],"tags":[],"description":"x"}}"#
            )
        };
        std::fs::write(second.join("10.json"), bios("/ten")).unwrap();
        std::fs::write(second.join("20.json"), bios("/hidden")).unwrap();
        std::fs::write(second.join("30.json"), bios("/masked")).unwrap();
        std::fs::write(second.join("40.json"), r#"{"firmware":1}"#).unwrap();
        std::fs::write(second.join("50.txt"), bios("/text")).unwrap();
        std::fs::write(first.join("20.json"), bios("/twenty")).unwrap();
        std::fs::write(first.join("30.json"), "").unwrap();
        std::fs::write(first.join("60.json"), bios("/sixty").replace("memory", "igvm")).unwrap();
        let found = load(&[first, second, dir.path().join("none")]);
        let mappings: Vec<Mapping> = found.iter().map(|descriptor| descriptor.mapping.clone()).collect();
        let memory = |path: &str| Mapping::Memory { filename: path.into() };
        assert_eq!(mappings, [memory("/ten"), memory("/twenty"), Mapping::Other]);
        assert!(found[0].fits("i686", "pc-1") && !found[0].fits("x86_64", "pc-1"));
    }
}
