//! `<vsock>`.

use super::info::{DeviceInfo, VirtioOptions, read_driver_options};
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::{YesNo, attrs, words};
use crate::error::Result;
use crate::xml::{Node, Writer};

/// `<vsock>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vsock {
    pub model: Option<VsockModel>,
    pub cid: VsockCid,
    pub driver: VirtioOptions,
    pub info: DeviceInfo,
}

words! {
    /// `model`.
    pub enum VsockModel {
        Virtio = "virtio", VirtioTransitional = "virtio-transitional", VirtioNonTransitional = "virtio-non-transitional",
    }
}

attrs! {
    /// `<cid>`.
    pub struct VsockCid {
        auto: YesNo = "auto",
        address: u32 = "address",
    }
}

impl Vsock {
    /// Reads `<vsock>`. Error: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        Ok(Vsock {
            model: node.attr_value("model")?,
            cid: node.child("cid").map(VsockCid::read).transpose()?.unwrap_or_default(),
            driver: read_driver_options(node)?,
            info: DeviceInfo::read(node)?,
        })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("vsock", |w| {
            w.attr_opt("model", self.model);
            self.cid.write("cid", w);
            self.info.write(w, o);
            self.driver.write("driver", w);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;

    #[test]
    fn round_trip() {
        let xml = "<vsock model='virtio'>\n  <cid auto='no' address='4'/>\n</vsock>\n";
        assert_eq!(rewrite(xml, Vsock::read, |v, w| v.write(w, FormatOptions::default())).expect("reads"), xml);
    }
}
