//! `-audiodev`: the host side of sound.

use super::{Builder, Props, not_yet};
use crate::domain_xml::device::{Audio, AudioDirection, AudioType};
use crate::error::{Error, Result};

pub(super) fn audio(b: &mut Builder<'_>) -> Result<()> {
    for audio in &b.def.audios {
        if !b.ctx.paper && matches!(audio.kind, AudioType::Spice | AudioType::Sdl | AudioType::Dbus) {
            // They are parts of displays that no start can make yet.
            return Err(not_yet(format!("<audio type='{}'>", audio.kind)));
        }
        b.arg("-audiodev", backend(audio)?.json());
    }
    Ok(())
}

fn backend(audio: &Audio) -> Result<Props> {
    let driver = match audio.kind {
        AudioType::Pulseaudio => "pa",
        AudioType::File => "wav",
        other => other.as_str(),
    };
    let mut p = Props::new().set("id", format!("audio{}", audio.id)).set("driver", driver);
    p = p.set_opt("timer-period", audio.timer_period);
    for (name, value) in &audio.options {
        p = match (audio.kind, name.as_str()) {
            (AudioType::Pulseaudio, "serverName") => p.set("server", value.as_str()),
            (AudioType::File, "path") => p.set("path", value.as_str()),
            (AudioType::Oss, "tryMMap") => p.set("try-mmap", yes(value)),
            (AudioType::Oss, "exclusive") => p.set("exclusive", yes(value)),
            (AudioType::Oss, "dspPolicy") => p.set("dsp-policy", number(name, value)?),
            // Both are variables of QEMU's environment.
            (AudioType::Sdl, "driver") | (AudioType::Pipewire, "runtimeDir") => p,
            _ => return Err(not_yet(format!("{name} of <audio type='{}'>", audio.kind))),
        };
    }
    for (key, direction) in [("in", &audio.input), ("out", &audio.output)] {
        if *direction != AudioDirection::default() {
            p = p.nest(key, side(audio.kind, direction)?);
        }
    }
    Ok(p)
}

fn yes(value: &str) -> bool {
    matches!(value, "yes" | "on")
}

fn number(name: &str, value: &str) -> Result<u64> {
    value.parse().map_err(|_| Error::unsupported_config(format!("{name}='{value}' of <audio> is not a number")))
}

/// One direction; what its settings say comes between the options of all backends and those of one.
fn side(kind: AudioType, direction: &AudioDirection) -> Result<Props> {
    let mut p = Props::new();
    for (name, value) in direction.options.iter().chain(&direction.settings) {
        p = match (name.as_str(), kind) {
            ("mixingEngine", _) => p.set("mixing-engine", yes(value)),
            ("fixedSettings", _) => p.set("fixed-settings", yes(value)),
            ("voices" | "frequency" | "channels", _) => p.set(name, number(name, value)?),
            ("latency", AudioType::Pulseaudio | AudioType::Pipewire) => p.set(name, number(name, value)?),
            ("bufferLength", _) => p.set("buffer-length", number(name, value)?),
            ("bufferCount", _) => p.set("buffer-count", number(name, value)?),
            ("format", _) => p.set(name, value.as_str()),
            ("dev", AudioType::Alsa | AudioType::Oss) => p.set(name, value.as_str()),
            ("name", AudioType::Pulseaudio | AudioType::Pipewire) => p.set(name, value.as_str()),
            ("streamName", _) => p.set("stream-name", value.as_str()),
            ("tryPoll", _) => p.set("try-poll", yes(value)),
            ("serverName", AudioType::Jack) => p.set("server-name", value.as_str()),
            ("clientName", AudioType::Jack) => p.set("client-name", value.as_str()),
            ("connectPorts", AudioType::Jack) => p.set("connect-ports", value.as_str()),
            ("exactName", AudioType::Jack) => p.set("exact-name", yes(value)),
            (other, _) => return Err(not_yet(format!("{other} of <audio type='{kind}'>"))),
        };
    }
    Ok(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn options_by_their_types() {
        let input = AudioDirection {
            options: pairs(&[("mixingEngine", "yes"), ("dev", "/dev/dsp0"), ("tryPoll", "no")]),
            settings: pairs(&[("frequency", "44100"), ("format", "s16")]),
        };
        let options = pairs(&[("tryMMap", "yes"), ("dspPolicy", "3")]);
        let audio = Audio { id: 2, kind: AudioType::Oss, options, input, ..Audio::default() };
        assert_eq!(
            backend(&audio).unwrap().json(),
            r#"{"id":"audio2","driver":"oss","try-mmap":true,"dsp-policy":3,"in":{"mixing-engine":true,"dev":"/dev/dsp0","try-poll":false,"frequency":44100,"format":"s16"}}"#
        );
        let unknown = Audio { kind: AudioType::Coreaudio, options: pairs(&[("x", "y")]), ..Audio::default() };
        assert!(backend(&unknown).unwrap_err().message().contains("x of <audio type='coreaudio'>"));
    }
}
