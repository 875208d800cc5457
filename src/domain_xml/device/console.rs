//! `<console>`.

use super::chardev::{CharKind, CharSource};
use super::info::DeviceInfo;
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::words;
use crate::error::Result;
use crate::xml::{Node, Writer};

/// `<console>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Console {
    pub source: CharSource,
    pub target_type: Option<ConsoleTarget>,
    /// `<target port>`; the post-parse counts.
    pub port: Option<u32>,
    pub info: DeviceInfo,
}

words! {
    /// `<target type>` of a console.
    pub enum ConsoleTarget {
        Serial = "serial", Xen = "xen", Uml = "uml", Virtio = "virtio", Lxc = "lxc", Openvz = "openvz", Sclp = "sclp", Sclplm = "sclplm",
    }
}

impl Console {
    /// Reads `<console>`. Error: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut console =
            Console { source: CharSource::read(node)?, info: DeviceInfo::read(node)?, ..Default::default() };
        if let Some(target) = node.child("target") {
            console.target_type = target.attr_value("type")?;
            console.port = target.attr_value("port")?;
        }
        // An old form of the pty's path; written only beside a live `<source>`.
        if let (Some(tty), CharKind::Pty { path: path @ None }) = (node.attr("tty"), &mut console.source.kind) {
            *path = Some(tty.to_string());
        }
        Ok(console)
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("console", |w| {
            w.attr("type", self.source.kind.type_name());
            if let CharKind::Pty { path: Some(path) } = &self.source.kind
                && !o.inactive
            {
                w.attr("tty", path);
            }
            self.source.write(w, o);
            w.element_unless_empty("target", |w| {
                w.attr_opt("type", self.target_type);
                w.attr_opt("port", self.port);
            });
            self.info.write(w, o);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;

    #[test]
    fn live_and_inactive_forms() {
        let live = "<console type='pty' tty='/dev/pts/2'>\n  <source path='/dev/pts/2'/>\n  \
                    <target type='lxc' port='0'/>\n  <alias name='console0'/>\n</console>\n";
        let write = |o: FormatOptions| rewrite(live, Console::read, |c, w| c.write(w, o)).expect("reads");
        assert_eq!(write(FormatOptions::default()), live);
        let inactive = FormatOptions { inactive: true, ..Default::default() };
        assert_eq!(write(inactive), "<console type='pty'>\n  <target type='lxc' port='0'/>\n</console>\n");
    }
}
