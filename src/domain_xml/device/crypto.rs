//! `<crypto>` and `<pstore>`.

use super::info::{DeviceInfo, VirtioOptions, read_driver_options};
use crate::domain_xml::FormatOptions;
use crate::domain_xml::memory::{read_kib, write_kib};
use crate::domain_xml::words::words;
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

/// `<crypto>`: a virtual cryptography device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Crypto {
    pub model: CryptoModel,
    pub kind: CryptoType,
    pub backend: CryptoBackend,
    /// `queues` of the backend.
    pub queues: Option<u32>,
    pub driver: VirtioOptions,
    pub info: DeviceInfo,
}

/// `<pstore>`: where a guest's kernel leaves its last words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pstore {
    pub backend: PstoreBackend,
    /// `None` = the driver chooses a file.
    pub path: Option<String>,
    /// KiB.
    pub size: Option<u64>,
    pub info: DeviceInfo,
}

words! {
    /// `model`.
    pub enum CryptoModel { Virtio = "virtio" }

    /// `type`.
    pub enum CryptoType { Qemu = "qemu" }

    /// `<backend model>`.
    pub enum CryptoBackend { Builtin = "builtin", Lkcf = "lkcf" }

    /// `backend`.
    pub enum PstoreBackend { AcpiErst = "acpi-erst" }
}

impl Crypto {
    /// Reads `<crypto>`. Error: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let (model, kind) = (node.require("model")?, node.require("type")?);
        let Some(backend) = node.child("backend") else {
            return Err(node.error(Code::XmlError, "missing crypto device backend"));
        };
        Ok(Crypto {
            model,
            kind,
            backend: backend.require("model")?,
            queues: backend.attr_value("queues")?.filter(|queues| *queues != 0),
            driver: read_driver_options(node)?,
            info: DeviceInfo::read(node)?,
        })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("crypto", |w| {
            w.attr("model", self.model);
            w.attr("type", self.kind);
            w.element("backend", |w| {
                w.attr("model", self.backend);
                w.attr_opt("queues", self.queues);
            });
            self.driver.write("driver", w);
            self.info.write(w, o);
        });
    }
}

impl Pstore {
    /// Reads `<pstore>`. Error: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        Ok(Pstore {
            backend: node.require("backend")?,
            path: node.child_string("path"),
            size: node.child("size").map(read_kib).transpose()?,
            info: DeviceInfo::read(node)?,
        })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("pstore", |w| {
            w.attr("backend", self.backend);
            w.text_opt("path", self.path.as_ref());
            write_kib(w, "size", self.size);
            self.info.write(w, o);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;

    #[test]
    fn round_trips() {
        let xml = "<crypto model='virtio' type='qemu'>\n  <backend model='builtin' queues='2'/>\n  <driver iommu='on'/>\n</crypto>\n";
        assert_eq!(rewrite(xml, Crypto::read, |c, w| c.write(w, FormatOptions::default())).expect("reads"), xml);
        let xml = "<pstore backend='acpi-erst'><path>/p</path><size unit='MiB'>1</size></pstore>";
        let written = rewrite(xml, Pstore::read, |p, w| p.write(w, FormatOptions::default())).expect("reads");
        assert_eq!(
            written,
            "<pstore backend='acpi-erst'>\n  <path>/p</path>\n  <size unit='KiB'>1024</size>\n</pstore>\n"
        );
    }
}
