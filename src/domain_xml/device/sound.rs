//! `<sound>`: the sound card the guest sees.

use super::info::DeviceInfo;
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::{YesNo, words};
use crate::error::Result;
use crate::xml::{Node, Writer};

/// `<sound>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sound {
    pub model: SoundModel,
    pub multichannel: Option<YesNo>,
    /// `<codec type>`.
    pub codecs: Vec<SoundCodec>,
    /// `<audio id>`.
    pub audio_id: Option<u32>,
    pub streams: Option<u32>,
    pub info: DeviceInfo,
}

words! {
    /// `model`.
    pub enum SoundModel {
        Sb16 = "sb16", Es1370 = "es1370", Pcspk = "pcspk", Ac97 = "ac97", Ich6 = "ich6", Ich7 = "ich7", Ich9 = "ich9",
        Usb = "usb", Virtio = "virtio",
    }

    /// `<codec type>`.
    pub enum SoundCodec { Duplex = "duplex", Micro = "micro", Output = "output" }
}

impl Sound {
    /// Reads `<sound>`. Errors: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut codecs = Vec::new();
        for codec in node.children("codec") {
            codecs.push(codec.require("type")?);
        }
        Ok(Sound {
            model: node.require("model")?,
            multichannel: node.attr_value("multichannel")?,
            codecs,
            audio_id: node.child("audio").map_or(Ok(None), |audio| audio.attr_value("id"))?,
            streams: node.attr_value("streams")?,
            info: DeviceInfo::read(node)?,
        })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("sound", |w| {
            w.attr("model", self.model);
            w.attr_opt("multichannel", self.multichannel);
            w.attr_opt("streams", self.streams);
            for codec in &self.codecs {
                w.element("codec", |w| w.attr("type", codec));
            }
            if let Some(id) = self.audio_id {
                w.element("audio", |w| w.attr("id", id));
            }
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
        let xml =
            "<sound model='ich6'>\n  <codec type='micro'/>\n  <audio id='1'/>\n  <alias name='sound0'/>\n</sound>\n";
        assert_eq!(rewrite(xml, Sound::read, |s, w| s.write(w, FormatOptions::default())).expect("reads"), xml);
    }
}
