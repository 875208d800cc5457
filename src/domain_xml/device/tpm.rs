//! `<tpm>`.

use super::info::DeviceInfo;
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::{YesNo, words};
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

/// `<tpm>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tpm {
    pub model: Option<TpmModel>,
    pub backend: TpmBackend,
    pub info: DeviceInfo,
}

words! {
    /// `model`.
    pub enum TpmModel { Tis = "tpm-tis", Crb = "tpm-crb", Spapr = "tpm-spapr", SpaprProxy = "spapr-tpm-proxy" }

    /// `<backend version>`.
    pub enum TpmVersion { V1_2 = "1.2", V2_0 = "2.0" }

    /// `<source type>` of an emulated TPM's state.
    pub enum TpmSourceType { Dir = "dir", File = "file" }
}

/// `<backend>`.
#[derive(Clone, Debug, PartialEq)]
pub enum TpmBackend {
    Passthrough { path: Option<String> },
    Emulator(TpmEmulator),
    External { path: Option<String> },
}

impl Default for TpmBackend {
    fn default() -> Self {
        TpmBackend::Emulator(TpmEmulator::default())
    }
}

/// `<backend type='emulator'>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TpmEmulator {
    pub version: Option<TpmVersion>,
    pub persistent_state: Option<YesNo>,
    pub debug: Option<u32>,
    /// `<encryption secret>`.
    pub encryption_secret: Option<String>,
    /// `<active_pcr_banks>`: sha1, sha256, sha384, sha512.
    pub active_pcr_banks: Vec<String>,
    pub source: Option<(TpmSourceType, String)>,
    /// `<profile source name removeDisabled>`.
    pub profile: Option<TpmProfile>,
}

/// `<profile>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TpmProfile {
    pub source: Option<String>,
    pub remove_disabled: Option<String>,
    pub name: Option<String>,
}

impl Tpm {
    /// Reads `<tpm>`. Errors: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let backend = node.child("backend").ok_or_else(|| node.error(Code::XmlError, "missing TPM device backend"))?;
        let device_path = |name: &'static str, attr: &'static str| {
            backend.child(name).and_then(|child| child.attr(attr)).map(str::to_string)
        };
        let backend = match backend.attr("type") {
            Some("passthrough") => TpmBackend::Passthrough { path: device_path("device", "path") },
            Some("emulator") => TpmBackend::Emulator(TpmEmulator::read(backend)?),
            Some("external") => {
                if let Some(source) = backend.child("source") {
                    source.attr("type");
                    source.attr("mode");
                }
                TpmBackend::External { path: device_path("source", "path") }
            }
            Some(_) => return Err(backend.invalid_attr("type", None, &["passthrough", "emulator", "external"])),
            None => return Err(backend.missing_attr("type")),
        };
        Ok(Tpm { model: node.attr_value("model")?, backend, info: DeviceInfo::read(node)? })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("tpm", |w| {
            w.attr_opt("model", self.model);
            w.element("backend", |w| match &self.backend {
                TpmBackend::Passthrough { path } => {
                    w.attr("type", "passthrough");
                    w.element_unless_empty("device", |w| w.attr_opt("path", path.as_ref()));
                }
                TpmBackend::Emulator(emulator) => emulator.write(w),
                TpmBackend::External { path } => {
                    w.attr("type", "external");
                    if let Some(path) = path {
                        w.element("source", |w| {
                            w.attr("type", "unix");
                            w.attr("mode", "connect");
                            w.attr("path", path);
                        });
                    }
                }
            });
            self.info.write(w, o);
        });
    }
}

/// Every PCR bank there is, in the order they are written.
const PCR_BANKS: &[&str] = &["sha1", "sha256", "sha384", "sha512"];

impl TpmEmulator {
    fn read(node: Node<'_>) -> Result<Self> {
        let mut emulator = TpmEmulator {
            version: node.attr_value("version")?,
            persistent_state: node.attr_value("persistent_state")?,
            debug: node.attr_value("debug")?,
            encryption_secret: node.child("encryption").and_then(|n| n.attr("secret")).map(str::to_string),
            ..Default::default()
        };
        if let Some(banks) = node.child("active_pcr_banks") {
            PCR_BANKS.iter().for_each(|name| banks.note(false, name));
            for bank in banks.all_children() {
                if PCR_BANKS.contains(&bank.name()) {
                    bank.mark_used();
                }
                emulator.active_pcr_banks.push(bank.name().to_string());
            }
        }
        if let Some(source) = node.child("source") {
            emulator.source = Some((source.require("type")?, source.require("path")?));
        }
        if let Some(profile) = node.child("profile") {
            emulator.profile = Some(TpmProfile {
                source: profile.attr("source").map(str::to_string),
                remove_disabled: profile.attr("removeDisabled").map(str::to_string),
                name: profile.attr("name").map(str::to_string),
            });
        }
        Ok(emulator)
    }

    fn write(&self, w: &mut Writer) {
        w.attr("type", "emulator");
        w.attr_opt("version", self.version);
        w.attr_opt("persistent_state", self.persistent_state);
        w.attr_opt("debug", self.debug);
        if let Some(secret) = &self.encryption_secret {
            w.element("encryption", |w| w.attr("secret", secret));
        }
        w.element_unless_empty("active_pcr_banks", |w| {
            for bank in ["sha1", "sha256", "sha384", "sha512"] {
                w.empty_if(bank, self.active_pcr_banks.iter().any(|active| active == bank));
            }
        });
        if let Some((kind, path)) = &self.source {
            w.element("source", |w| {
                w.attr("type", kind);
                w.attr("path", path);
            });
        }
        if let Some(profile) = &self.profile {
            w.element("profile", |w| {
                w.attr_opt("source", profile.source.as_ref());
                w.attr_opt("removeDisabled", profile.remove_disabled.as_ref());
                w.attr_opt("name", profile.name.as_ref());
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<tpm model='tpm-crb'>\n  <backend type='emulator' version='2.0'>\n    <encryption secret='x'/>\n    \
            <active_pcr_banks>\n      <sha256/>\n    </active_pcr_banks>\n  </backend>\n</tpm>\n"
    )]
    #[case(
        "<tpm model='tpm-tis'>\n  <backend type='passthrough'>\n    <device path='/dev/tpm0'/>\n  </backend>\n</tpm>\n"
    )]
    fn round_trips(#[case] xml: &str) {
        assert_eq!(rewrite(xml, Tpm::read, |t, w| t.write(w, FormatOptions::default())).expect("reads"), xml);
    }
}
