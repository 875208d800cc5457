//! `<memballoon>`.

use super::info::{DeviceInfo, VirtioOptions, read_driver_options};
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::{Switch, words};
use crate::error::Result;
use crate::xml::{Node, Writer};

/// `<memballoon>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memballoon {
    pub model: BalloonModel,
    pub autodeflate: Option<Switch>,
    pub free_page_reporting: Option<Switch>,
    /// `<stats period>`, seconds.
    pub stats_period: Option<u32>,
    pub driver: VirtioOptions,
    pub info: DeviceInfo,
}

words! {
    /// `model`.
    pub enum BalloonModel {
        Virtio = "virtio", Xen = "xen", None = "none", VirtioTransitional = "virtio-transitional",
        VirtioNonTransitional = "virtio-non-transitional",
    }
}

impl Memballoon {
    /// Reads `<memballoon>`. Error: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let period: Option<u32> = node.child("stats").map_or(Ok(None), |stats| stats.attr_value("period"))?;
        Ok(Memballoon {
            model: node.require("model")?,
            autodeflate: node.attr_value("autodeflate")?,
            free_page_reporting: node.attr_value("freePageReporting")?,
            stats_period: period.filter(|period| *period != 0),
            driver: read_driver_options(node)?,
            info: DeviceInfo::read(node)?,
        })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("memballoon", |w| {
            w.attr("model", self.model);
            w.attr_opt("autodeflate", self.autodeflate);
            w.attr_opt("freePageReporting", self.free_page_reporting);
            if let Some(period) = self.stats_period {
                w.element("stats", |w| w.attr("period", period));
            }
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
        let xml = "<memballoon model='virtio' autodeflate='on' freePageReporting='on'>\n  <stats period='10'/>\n  \
                   <alias name='balloon0'/>\n  <driver iommu='on' ats='on'/>\n</memballoon>\n";
        assert_eq!(rewrite(xml, Memballoon::read, |d, w| d.write(w, FormatOptions::default())).expect("reads"), xml);
        let error = rewrite("<memballoon/>", Memballoon::read, |_, _| {}).expect_err("refused");
        assert!(error.detail.starts_with("Missing required attribute 'model' in element 'memballoon'"));
    }
}
