//! `<redirdev>`, `<redirfilter>`.

use super::chardev::CharSource;
use super::info::DeviceInfo;
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::{YesNo, attrs};
use crate::error::Result;
use crate::xml::{Node, Writer};

/// `<redirdev bus='usb'>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Redirdev {
    pub source: CharSource,
    pub info: DeviceInfo,
}

attrs! {
    /// `<usbdev>` of `<redirfilter>`; absent = any.
    pub struct RedirFilterRule {
        class: String = "class",
        vendor: String = "vendor",
        product: String = "product",
        version: String = "version",
        allow: YesNo = "allow",
    }
}

impl Redirdev {
    /// Reads `<redirdev>`. Error: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        if node.attr("bus").is_some_and(|bus| bus != "usb") {
            return Err(node.invalid_attr("bus", None, &["usb"]));
        }
        let source = match node.attr("type") {
            Some("spicevmc") => CharSource::read_as(node, "spicevmc")?,
            Some(kind) => CharSource::read_as(node, kind)?,
            None => return Err(node.missing_attr("type")),
        };
        Ok(Redirdev { source, info: DeviceInfo::read_bootable(node)? })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("redirdev", |w| {
            w.attr("bus", "usb");
            w.attr("type", self.source.kind.type_name());
            self.source.write(w, o);
            self.info.write(w, o);
        });
    }
}

impl RedirFilterRule {
    /// Reads `<usbdev>`; a minor version of one digit means tenths (`9.4` is 9.40).
    pub(crate) fn read_rule(node: Node<'_>) -> Result<Self> {
        let mut rule = Self::read(node)?;
        let number = |text: &str, digits: usize| {
            let value = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => text.parse().ok(),
            };
            value.map(|value: u32| format!("0x{value:0digits$X}"))
        };
        rule.class = rule.class.map(|text| number(&text, 2).unwrap_or(text));
        rule.vendor = rule.vendor.map(|text| number(&text, 4).unwrap_or(text));
        rule.product = rule.product.map(|text| number(&text, 4).unwrap_or(text));
        if let Some(version) = &mut rule.version
            && version.split_once('.').is_some_and(|(_, minor)| minor.len() == 1)
        {
            version.push('0');
        }
        Ok(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;

    #[test]
    fn round_trip() {
        let xml = "<redirdev bus='usb' type='spicevmc'>\n  <boot order='4'/>\n  <address type='usb' bus='0' port='4'/>\n</redirdev>\n";
        assert_eq!(rewrite(xml, Redirdev::read, |r, w| r.write(w, FormatOptions::default())).expect("reads"), xml);
        assert!(rewrite("<redirdev bus='pci' type='tcp'/>", Redirdev::read, |_, _| {}).is_err());
    }
}
