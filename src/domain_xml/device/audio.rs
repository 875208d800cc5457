//! `<audio>`: the host side of sound.

use crate::domain_xml::words::words;
use crate::error::Result;
use crate::xml::{Node, Writer};

/// `<audio>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Audio {
    pub id: u32,
    pub kind: AudioType,
    /// Microseconds.
    pub timer_period: Option<u32>,
    /// Attributes of the backend (`serverName`, `driver` ...), in document order.
    pub options: Vec<(String, String)>,
    pub input: AudioDirection,
    pub output: AudioDirection,
}

/// `<input>` or `<output>` of an audio backend, with attributes in document order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AudioDirection {
    pub options: Vec<(String, String)>,
    /// `<settings>`.
    pub settings: Vec<(String, String)>,
}

words! {
    /// `type`.
    pub enum AudioType {
        None = "none", Alsa = "alsa", Coreaudio = "coreaudio", Jack = "jack", Oss = "oss", Pulseaudio = "pulseaudio",
        Sdl = "sdl", Spice = "spice", File = "file", Dbus = "dbus", Pipewire = "pipewire",
    }
}

impl Audio {
    /// Reads `<audio>`. Errors: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let id: u32 = node.require("id")?;
        let kind = node.require("type")?;
        let timer_period = node.attr_value("timerPeriod")?;
        let options = node
            .attrs()
            .filter(|(name, _)| !matches!(*name, "id" | "type" | "timerPeriod"))
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        Ok(Audio {
            id,
            kind,
            timer_period,
            options,
            input: node.child("input").map(AudioDirection::read).unwrap_or_default(),
            output: node.child("output").map(AudioDirection::read).unwrap_or_default(),
        })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.element("audio", |w| {
            w.attr("id", self.id);
            w.attr("type", self.kind);
            w.attr_opt("timerPeriod", self.timer_period);
            for (name, value) in &self.options {
                w.attr(name, value);
            }
            self.input.write("input", w);
            self.output.write("output", w);
        });
    }
}

impl AudioDirection {
    fn read(node: Node<'_>) -> Self {
        let pairs = |node: Node<'_>| node.attrs().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        AudioDirection { options: pairs(node), settings: node.child("settings").map(pairs).unwrap_or_default() }
    }

    fn write(&self, name: &'static str, w: &mut Writer) {
        w.element_unless_empty(name, |w| {
            for (name, value) in &self.options {
                w.attr(name, value);
            }
            w.element_unless_empty("settings", |w| {
                for (name, value) in &self.settings {
                    w.attr(name, value);
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;
    use rstest::rstest;

    #[rstest]
    #[case("<audio id='1' type='none'/>\n")]
    #[case(
        "<audio id='2' type='pulseaudio' timerPeriod='50' serverName='h'>\n  <input mixingEngine='yes' name='f'>\n    \
            <settings frequency='44100' channels='2' format='s16'/>\n  </input>\n</audio>\n"
    )]
    fn round_trips(#[case] xml: &str) {
        assert_eq!(rewrite(xml, Audio::read, Audio::write).expect("reads"), xml);
    }
}
