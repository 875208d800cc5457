//! `<serial>` and `<parallel>`.

use super::chardev::CharSource;
use super::info::DeviceInfo;
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::words;
use crate::error::Result;
use crate::xml::{Node, Writer};

/// `<serial>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Serial {
    pub source: CharSource,
    /// `<target type>`.
    pub target_type: Option<SerialTarget>,
    /// `<target port>`; the post-parse counts.
    pub port: Option<u32>,
    /// `<target><model name>`.
    pub model: Option<SerialModel>,
    pub info: DeviceInfo,
}

/// `<parallel>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parallel {
    pub source: CharSource,
    pub port: Option<u32>,
    pub info: DeviceInfo,
}

words! {
    /// `<target type>` of a serial device.
    pub enum SerialTarget {
        Isa = "isa-serial", Usb = "usb-serial", Pci = "pci-serial", SpaprVio = "spapr-vio-serial", System = "system-serial",
        Sclp = "sclp-serial", IsaDebug = "isa-debug",
    }

    /// `<model name>` of a serial device.
    pub enum SerialModel {
        IsaSerial = "isa-serial", UsbSerial = "usb-serial", PciSerial = "pci-serial", SpaprVty = "spapr-vty", Pl011 = "pl011",
        SclpConsole = "sclpconsole", SclpLmConsole = "sclplmconsole", Uart16550a = "16550a", IsaDebugcon = "isa-debugcon",
    }
}

impl Serial {
    /// Reads `<serial>`. Error: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut serial =
            Serial { source: CharSource::read(node)?, info: DeviceInfo::read(node)?, ..Default::default() };
        if let Some(target) = node.child("target") {
            serial.target_type = target.attr_value("type")?;
            serial.port = target.attr_value("port")?;
            if let Some(model) = target.child("model") {
                serial.model = Some(model.require("name")?);
            }
        }
        Ok(serial)
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("serial", |w| {
            w.attr("type", self.source.kind.type_name());
            self.source.write(w, o);
            w.element_unless_empty("target", |w| {
                w.attr_opt("type", self.target_type);
                w.attr_opt("port", self.port);
                w.element_unless_empty("model", |w| w.attr_opt("name", self.model));
            });
            self.info.write(w, o);
        });
    }
}

impl Parallel {
    /// Reads `<parallel>`. Error: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let port = match node.child("target") {
            Some(target) => target.attr_value("port")?,
            None => None,
        };
        Ok(Parallel { source: CharSource::read(node)?, port, info: DeviceInfo::read(node)? })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("parallel", |w| {
            w.attr("type", self.source.kind.type_name());
            self.source.write(w, o);
            w.element_unless_empty("target", |w| w.attr_opt("port", self.port));
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
        "<serial type='pty'>\n  <source path='/dev/pts/0'/>\n  <log file='/l' append='off'/>\n  \
            <target type='isa-serial' port='0'>\n    <model name='isa-serial'/>\n  </target>\n  <alias name='serial0'/>\n</serial>\n"
    )]
    #[case(
        "<serial type='tcp'>\n  <source mode='bind' host='::1' service='77' tls='no'/>\n  <protocol type='telnet'/>\n</serial>\n"
    )]
    #[case(
        "<serial type='unix'>\n  <source mode='connect' path='/s'>\n    <reconnect enabled='yes' timeout='5'/>\n  </source>\n</serial>\n"
    )]
    #[case(
        "<serial type='udp'>\n  <source mode='bind' host='a' service='1'/>\n  <source mode='connect' host='b' service='2'/>\n</serial>\n"
    )]
    #[case("<serial type='file'>\n  <source path='/f' append='on'/>\n</serial>\n")]
    #[case("<serial type='null'/>\n")]
    fn round_trips(#[case] xml: &str) {
        let written = rewrite(xml, Serial::read, |s, w| s.write(w, FormatOptions::default())).expect("reads");
        assert_eq!(written, xml);
    }

    #[test]
    fn parallel_port() {
        let xml = "<parallel type='dev'>\n  <source path='/dev/parport0'/>\n  <target port='0'/>\n</parallel>\n";
        assert_eq!(rewrite(xml, Parallel::read, |p, w| p.write(w, FormatOptions::default())).expect("reads"), xml);
    }

    #[test]
    fn a_pty_path_belongs_to_a_run() {
        let xml = "<serial type='pty'><source path='/dev/pts/3'/></serial>";
        let o = FormatOptions { inactive: true, ..Default::default() };
        assert_eq!(rewrite(xml, Serial::read, |s, w| s.write(w, o)).expect("reads"), "<serial type='pty'/>\n");
    }

    #[rstest]
    #[case("<serial type='ptty'/>", "unknown type presented to host for character device: ptty; did you mean 'pty'?")]
    #[case("<serial type='file'/>", "Missing source path attribute for char device")]
    #[case("<serial type='tcp'><source mode='bind' host='x'/></serial>", "Missing source service attribute")]
    #[case("<serial type='pty'><log/></serial>", "Missing required attribute 'file' in element 'log'")]
    #[case("<serial type='pty'><target type='isa'/></serial>", "attribute 'type' in element 'target': 'isa'.")]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let error = rewrite(xml, Serial::read, |_, _| {}).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
    }
}
