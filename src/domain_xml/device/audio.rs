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
    /// Attributes of the backend (`serverName`, `driver` ...).
    pub options: Vec<(String, String)>,
    pub input: AudioDirection,
    pub output: AudioDirection,
}

/// `<input>` or `<output>` of an audio backend.
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

/// What every direction of every backend has.
const DIRECTION: &[&str] = &["mixingEngine", "fixedSettings", "voices", "bufferLength"];
const SETTINGS: &[&str] = &["frequency", "channels", "format"];

impl AudioType {
    /// Attributes of `<audio>` that only this backend has, and those of its `<input>` and `<output>`.
    const fn names(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            AudioType::None | AudioType::Spice | AudioType::Dbus => (&[], &[]),
            AudioType::Alsa => (&[], &["dev", "tryPoll"]),
            AudioType::Coreaudio => (&[], &["bufferCount"]),
            AudioType::Jack => (&[], &["serverName", "clientName", "connectPorts", "exactName"]),
            AudioType::Oss => (&["tryMMap", "exclusive", "dspPolicy"], &["dev", "bufferCount", "tryPoll"]),
            AudioType::Pulseaudio => (&["serverName"], &["name", "streamName", "latency"]),
            AudioType::Pipewire => (&["runtimeDir"], &["name", "streamName", "latency"]),
            AudioType::Sdl => (&["driver"], &["bufferCount"]),
            AudioType::File => (&["path"], &[]),
        }
    }
}

/// Those of `names` that are there.
fn pairs<'n>(node: Node<'_>, names: impl IntoIterator<Item = &'n &'static str>) -> Vec<(String, String)> {
    let given = names.into_iter().filter_map(|name| Some((name.to_string(), node.attr(name)?.to_string())));
    given.collect()
}

impl Audio {
    /// Reads `<audio>`. Errors: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let id: u32 = node.require("id")?;
        let kind: AudioType = node.require("type")?;
        let (own, of_directions) = kind.names();
        let direction =
            |name| node.child(name).map(|node| AudioDirection::read(node, of_directions)).unwrap_or_default();
        Ok(Audio {
            id,
            kind,
            timer_period: node.attr_value("timerPeriod")?,
            options: pairs(node, own),
            input: direction("input"),
            output: direction("output"),
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
    fn read(node: Node<'_>, own: &[&'static str]) -> Self {
        let settings = node.child("settings").map(|settings| pairs(settings, SETTINGS));
        AudioDirection { options: pairs(node, DIRECTION.iter().chain(own)), settings: settings.unwrap_or_default() }
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
    #[case("<audio id='3' type='file' path='/a'>\n  <output voices='1'/>\n</audio>\n")]
    fn round_trips(#[case] xml: &str) {
        assert_eq!(rewrite(xml, Audio::read, Audio::write).expect("reads"), xml);
    }

    #[test]
    fn what_another_backend_has_is_dropped() {
        let xml = "<audio id='1' type='file' driver='x' path='/a'><input dev='d' voices='2'/></audio>";
        let expected = "<audio id='1' type='file' path='/a'>\n  <input voices='2'/>\n</audio>\n";
        assert_eq!(rewrite(xml, Audio::read, Audio::write).expect("reads"), expected);
    }
}
