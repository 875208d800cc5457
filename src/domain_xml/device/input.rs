//! `<input>`.

use super::info::{DeviceInfo, VirtioOptions, read_driver_options};
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::{Switch, attrs, words};
use crate::error::Result;
use crate::xml::{Node, Writer};

/// `<input>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Input {
    pub kind: InputType,
    /// The post-parse decides when absent.
    pub bus: Option<InputBus>,
    pub model: Option<InputModel>,
    pub driver: VirtioOptions,
    pub source: Option<InputSource>,
    pub info: DeviceInfo,
}

words! {
    /// `type`.
    pub enum InputType { Mouse = "mouse", Tablet = "tablet", Keyboard = "keyboard", Passthrough = "passthrough", Evdev = "evdev" }

    /// `bus`.
    pub enum InputBus { Ps2 = "ps2", Usb = "usb", Xen = "xen", Parallels = "parallels", Virtio = "virtio", None = "none" }

    /// `model`.
    pub enum InputModel { Virtio = "virtio", VirtioTransitional = "virtio-transitional", VirtioNonTransitional = "virtio-non-transitional" }

    /// `grab` of evdev.
    pub enum InputGrab { All = "all" }

    /// `grabToggle` of evdev.
    pub enum GrabToggle {
        CtrlCtrl = "ctrl-ctrl", AltAlt = "alt-alt", ShiftShift = "shift-shift", MetaMeta = "meta-meta", Scrolllock = "scrolllock",
        CtrlScrolllock = "ctrl-scrolllock",
    }
}

attrs! {
    /// `<source>`: `evdev` of a passed-through device, `dev` of an evdev one.
    pub struct InputSource {
        evdev: String = "evdev",
        dev: String = "dev",
        grab: InputGrab = "grab",
        grab_toggle: GrabToggle = "grabToggle",
        repeat: Switch = "repeat",
    }
}

impl Input {
    /// Reads `<input>`. Error: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        Ok(Input {
            kind: node.require("type")?,
            bus: node.attr_value("bus")?,
            model: node.attr_value("model")?,
            driver: read_driver_options(node)?,
            source: node.child("source").map(InputSource::read).transpose()?,
            info: DeviceInfo::read(node)?,
        })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("input", |w| {
            w.attr("type", self.kind);
            if self.kind != InputType::Evdev {
                w.attr_opt("bus", self.bus);
            }
            w.attr_opt("model", self.model);
            self.driver.write("driver", w);
            if let Some(source) = &self.source {
                source.write("source", w);
            }
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
        "<input type='tablet' bus='usb'>\n  <alias name='input0'/>\n  <address type='usb' bus='0' port='1'/>\n</input>\n"
    )]
    #[case("<input type='keyboard' bus='virtio' model='virtio-transitional'>\n  <driver iommu='on'/>\n</input>\n")]
    #[case("<input type='passthrough' bus='virtio'>\n  <source evdev='/dev/input/event1'/>\n</input>\n")]
    #[case(
        "<input type='evdev'>\n  <source dev='/dev/input/event1' grab='all' grabToggle='alt-alt' repeat='on'/>\n</input>\n"
    )]
    fn round_trips(#[case] xml: &str) {
        let written = rewrite(xml, Input::read, |i, w| i.write(w, FormatOptions::default())).expect("reads");
        assert_eq!(written, xml);
    }
}
