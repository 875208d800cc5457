//! `<watchdog>`.

use super::info::DeviceInfo;
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::words;
use crate::error::Result;
use crate::xml::{Node, Writer};

/// `<watchdog>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watchdog {
    pub model: WatchdogModel,
    /// The post-parse sets `reset`.
    pub action: Option<WatchdogAction>,
    pub info: DeviceInfo,
}

words! {
    /// `model`.
    pub enum WatchdogModel { I6300esb = "i6300esb", Ib700 = "ib700", Diag288 = "diag288", Itco = "itco" }

    /// `action`.
    pub enum WatchdogAction {
        Reset = "reset", Shutdown = "shutdown", Poweroff = "poweroff", Pause = "pause", Dump = "dump", None = "none",
        InjectNmi = "inject-nmi",
    }
}

impl Watchdog {
    /// Reads `<watchdog>`. Error: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        Ok(Watchdog {
            model: node.require("model")?,
            action: node.attr_value("action")?,
            info: DeviceInfo::read(node)?,
        })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("watchdog", |w| {
            w.attr("model", self.model);
            w.attr_opt("action", self.action);
            self.info.write(w, o);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;

    #[test]
    fn round_trip() {
        let xml = "<watchdog model='ib700' action='poweroff'/>\n";
        assert_eq!(rewrite(xml, Watchdog::read, |d, w| d.write(w, FormatOptions::default())).expect("reads"), xml);
        let error = rewrite("<watchdog model='ib7000'/>", Watchdog::read, |_, _| {}).expect_err("refused");
        assert!(error.detail.contains("did you mean 'ib700'?"), "{}", error.detail);
    }
}
