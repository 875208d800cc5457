//! `<rng>`.

use super::chardev::CharSource;
use super::info::{DeviceInfo, VirtioOptions, read_driver_options};
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::{attrs, words};
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

/// `<rng>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rng {
    pub model: RngModel,
    pub rate: Option<RngRate>,
    pub backend: RngBackend,
    pub driver: VirtioOptions,
    pub info: DeviceInfo,
}

words! {
    /// `model`.
    pub enum RngModel {
        Virtio = "virtio", VirtioTransitional = "virtio-transitional", VirtioNonTransitional = "virtio-non-transitional",
    }
}

attrs! {
    /// `<rate>`: bytes per period (milliseconds).
    pub struct RngRate {
        bytes: u32 = "bytes",
        period: u32 = "period",
    }
}

/// `<backend>`.
#[derive(Clone, Debug, PartialEq)]
pub enum RngBackend {
    /// A file of the host; `None` = /dev/urandom.
    Random(Option<String>),
    Egd(CharSource),
    Builtin,
}

impl Default for RngBackend {
    fn default() -> Self {
        RngBackend::Random(None)
    }
}

impl Rng {
    /// Reads `<rng>`. Errors: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let Some(backend) = node.child("backend") else {
            return Err(node.error(Code::XmlError, "missing RNG device backend"));
        };
        let backend = match backend.attr("model") {
            Some("random") => {
                RngBackend::Random(Some(backend.text().trim()).filter(|text| !text.is_empty()).map(str::to_string))
            }
            Some("egd") => match backend.attr("type") {
                Some(kind) => RngBackend::Egd(CharSource::read_as(backend, kind)?),
                None => return Err(backend.error(Code::XmlError, "missing EGD backend type")),
            },
            Some("builtin") => RngBackend::Builtin,
            Some(_) => return Err(backend.invalid_attr("model", None, &["random", "egd", "builtin"])),
            None => return Err(backend.missing_attr("model")),
        };
        Ok(Rng {
            model: node.require("model")?,
            rate: node.child("rate").map(RngRate::read).transpose()?,
            backend,
            driver: read_driver_options(node)?,
            info: DeviceInfo::read(node)?,
        })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("rng", |w| {
            w.attr("model", self.model);
            if let Some(rate) = &self.rate {
                rate.write("rate", w);
            }
            match &self.backend {
                RngBackend::Random(path) => {
                    w.start("backend");
                    w.attr("model", "random");
                    match path {
                        Some(path) => w.end_with_text(path),
                        None => w.end(),
                    }
                }
                RngBackend::Egd(source) => w.element("backend", |w| {
                    w.attr("model", "egd");
                    w.attr("type", source.kind.type_name());
                    source.write(w, o);
                }),
                RngBackend::Builtin => w.element("backend", |w| w.attr("model", "builtin")),
            }
            self.driver.write("driver", w);
            self.info.write(w, o);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<rng model='virtio'>\n  <rate bytes='123' period='1234'/>\n  <backend model='random'>/dev/urandom</backend>\n  \
            <alias name='rng0'/>\n</rng>\n"
    )]
    #[case(
        "<rng model='virtio'>\n  <backend model='egd' type='tcp'>\n    <source mode='connect' host='1.2.3.4' service='1234'/>\n    \
            <protocol type='raw'/>\n  </backend>\n</rng>\n"
    )]
    #[case("<rng model='virtio'>\n  <backend model='builtin'/>\n  <driver packed='on'/>\n</rng>\n")]
    fn round_trips(#[case] xml: &str) {
        assert_eq!(rewrite(xml, Rng::read, |r, w| r.write(w, FormatOptions::default())).expect("reads"), xml);
    }

    #[test]
    fn a_backend_is_needed() {
        let error = rewrite("<rng model='virtio'/>", Rng::read, |_, _| {}).expect_err("refused");
        assert!(error.detail.starts_with("missing RNG device backend"), "{}", error.detail);
    }
}
