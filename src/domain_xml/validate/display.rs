//! Graphics, video, sound and audio.

use super::{Check, each, refuse};
use crate::domain_xml::device::*;
use crate::domain_xml::model::DomainDef;
use crate::domain_xml::words::{Switch, YesNo};

/// Every display and sound device of a definition.
pub(super) fn displays(def: &DomainDef) -> Check {
    each("devices/graphics", &def.graphics, graphics)?;
    videos(def)?;
    each("devices/sound", &def.sounds, |sound| {
        refuse!(
            if sound.streams == Some(0), XmlError,
            "Invalid value for attribute 'streams' in element 'sound': Zero is not permitted"
        );
        known_audio(def, sound.audio_id)
    })?;
    each("devices/graphics", &def.graphics, |graphics| match &graphics.kind {
        GraphicsKind::Dbus(dbus) => known_audio(def, dbus.audio_id.filter(|_| !def.audios.is_empty())),
        _ => Ok(()),
    })?;
    for (nth, audio) in def.audios.iter().enumerate() {
        let again = def.audios[..nth].iter().any(|other| other.id == audio.id);
        self::audio(audio, again).map_err(|error| error.about("devices/audio", nth))?;
    }
    Ok(())
}

fn graphics(graphics: &Graphics) -> Check {
    if let GraphicsKind::Dbus(dbus) = &graphics.kind {
        refuse!(
            if dbus.p2p == Some(YesNo::Yes) && dbus.address.is_some(), XmlError,
            "D-Bus p2p with an address is not supported"
        );
    }
    let password = match &graphics.kind {
        GraphicsKind::Vnc(vnc) => &vnc.password,
        GraphicsKind::Spice(spice) => &spice.password,
        _ => return Ok(()),
    };
    if let Some(time) = password.valid_to.as_ref().filter(|time| !is_time(time)) {
        refuse!(InternalError, "cannot parse password validity time '{time}', expect YYYY-MM-DDTHH:MM:SS")?;
    }
    if let GraphicsKind::Vnc(vnc) = &graphics.kind {
        let other = vnc.password.connected.is_some_and(|connected| connected != PasswordConnected::Keep);
        refuse!(if other, ConfigUnsupported, "VNC supports connected='keep' only");
    }
    Ok(())
}

/// `YYYY-MM-DDTHH:MM:SS`.
fn is_time(text: &str) -> bool {
    let shape = b"0000-00-00T00:00:00";
    let fits = |(byte, form): (u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form };
    text.len() == shape.len() && text.bytes().zip(shape).all(fits)
}

fn videos(def: &DomainDef) -> Check {
    let primaries = def.videos.iter().skip(1).filter(|video| video.model.primary == Some(YesNo::Yes)).count();
    refuse!(if primaries > 0, ConfigUnsupported, "Only one primary video device is supported");
    let none = def.videos.iter().any(|video| video.model.kind == VideoType::None);
    refuse!(
        if none && def.videos.len() > 1, ConfigUnsupported,
        "a 'none' video type must be the only video device defined for the domain"
    );
    each("devices/video", &def.videos, video)
}

fn video(video: &Video) -> Check {
    let model = &video.model;
    let kind = model.kind;
    if let Some(resolution) = &model.resolution {
        for (name, value) in [("x", resolution.x), ("y", resolution.y)] {
            refuse!(if value.is_none(), XmlError, "Missing required attribute '{name}' in element 'resolution'");
        }
        let zero = resolution.x == Some(0) || resolution.y == Some(0);
        refuse!(if zero, ConfigUnsupported, "video resolution values must be greater than 0");
        let possible = matches!(
            kind,
            VideoType::Vga
                | VideoType::Qxl
                | VideoType::Virtio
                | VideoType::Bochs
                | VideoType::Ramfb
                | VideoType::Default
        );
        refuse!(if !possible, XmlError, "model resolution is not supported");
    }
    let qxl = matches!(kind, VideoType::Qxl);
    let set = [("ram", model.ram.is_some()), ("vram64", model.vram64.is_some()), ("vgamem", model.vgamem.is_some())];
    if let Some((name, _)) = set.iter().find(|(_, given)| *given).filter(|_| !qxl) {
        refuse!(ConfigUnsupported, "{name} attribute only supported for video type qxl")?;
    }
    if kind != VideoType::Virtio {
        super::no_virtio_options(&video.driver.virtio)?;
        refuse!(
            if model.blob == Some(Switch::On), ConfigUnsupported,
            "video type '{kind}' does not support blob resources"
        );
    }
    refuse!(
        if kind == VideoType::Ramfb && video.info.address.is_some(), ConfigUnsupported,
        "address not supported for video type ramfb"
    );
    refuse!(
        if video.driver.name == Some(VideoBackend::Vhostuser) && kind != VideoType::Virtio, ConfigUnsupported,
        "'vhostuser' driver is only supported with 'virtio' device"
    );
    if let Some(acceleration) = &model.acceleration {
        refuse!(
            if acceleration.accel2d == Some(YesNo::Yes), ConfigUnsupported,
            "qemu does not support the accel2d setting"
        );
        refuse!(
            if acceleration.rendernode.is_some() && video.driver.name != Some(VideoBackend::Vhostuser),
            ConfigUnsupported,
            "unsupported rendernode accel attribute without 'vhostuser'"
        );
        refuse!(
            if acceleration.accel3d == Some(YesNo::Yes) && kind != VideoType::Virtio, ConfigUnsupported,
            "3d acceleration is supported only with 'virtio' video device"
        );
    }
    Ok(())
}

fn known_audio(def: &DomainDef, id: Option<u32>) -> Check {
    let Some(id) = id else { return Ok(()) };
    refuse!(if id == 0, XmlError, "Invalid value for attribute 'id' in element 'audio': Zero is not permitted");
    let known = def.audios.iter().any(|audio| audio.id == id);
    refuse!(if !known, XmlError, "no audio device with ID {id}");
    Ok(())
}

fn audio(audio: &Audio, again: bool) -> Check {
    refuse!(
        if audio.id == 0, XmlError,
        "Invalid value for attribute 'id' in element 'audio': Zero is not permitted"
    );
    refuse!(if again, XmlError, "audio ID {} is used multiple times", audio.id);
    word("audio", &audio.options, "tryMMap", &["yes", "no"])?;
    word("audio", &audio.options, "exclusive", &["yes", "no"])?;
    let drivers = ["esd", "alsa", "arts", "pulseaudio"];
    if audio.kind == AudioType::Sdl {
        word("audio", &audio.options, "driver", &drivers)?;
    }
    direction("input", &audio.input)?;
    direction("output", &audio.output)
}

fn word(element: &str, options: &[(String, String)], name: &str, known: &[&str]) -> Check {
    match options.iter().find(|(option, _)| option == name) {
        Some((_, value)) if !known.contains(&value.as_str()) => {
            refuse!(XmlError, "Invalid value for attribute '{name}' in element '{element}': '{value}'.")
        }
        _ => Ok(()),
    }
}

fn number(element: &str, options: &[(String, String)], name: &str, zero: bool) -> Check {
    let Some((_, value)) = options.iter().find(|(option, _)| option == name) else { return Ok(()) };
    match value.parse::<u32>() {
        Err(_) => refuse!(
            XmlError,
            "Invalid value for attribute '{name}' in element '{element}': '{value}'. Expected non-negative integer value"
        ),
        Ok(0) if !zero => {
            refuse!(XmlError, "Invalid value for attribute '{name}' in element '{element}': Zero is not permitted")
        }
        Ok(_) => Ok(()),
    }
}

fn direction(element: &str, direction: &AudioDirection) -> Check {
    const YES_NO: &[&str] = &["yes", "no"];
    for name in ["mixingEngine", "fixedSettings", "tryPoll", "exactName"] {
        word(element, &direction.options, name, YES_NO)?;
    }
    number(element, &direction.options, "voices", false)?;
    for name in ["bufferLength", "latency", "bufferCount"] {
        number(element, &direction.options, name, true)?;
    }
    number("settings", &direction.settings, "frequency", false)?;
    number("settings", &direction.settings, "channels", false)?;
    word("settings", &direction.settings, "format", &["s8", "u8", "s16", "u16", "s32", "u32", "f32"])?;
    let on = |name: &str| direction.options.iter().any(|(option, value)| option == name && value == "yes");
    let (fixed, mixing) = (on("fixedSettings"), on("mixingEngine"));
    refuse!(if fixed && !mixing, ConfigUnsupported, "fixed audio settings requires mixing engine");
    refuse!(
        if !direction.settings.is_empty() && !fixed, ConfigUnsupported,
        "audio settings specified without fixed settings flag"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<graphics type='vnc' passwd='1' passwdValidTo='x'/>",
        "internal error: cannot parse password validity time 'x', expect YYYY-MM-DDTHH:MM:SS (line 1"
    )]
    #[case(
        "<graphics type='vnc' passwd='1' connected='fail'/>",
        "unsupported configuration: VNC supports connected='keep' only"
    )]
    #[case("<graphics type='dbus' p2p='yes' address='x'/>", "XML error: D-Bus p2p with an address is not supported")]
    #[case(
        "<video><model type='none'></model></video><video><model type='vga'></model></video>",
        "unsupported configuration: a 'none' video type must be the only video device"
    )]
    #[case(
        "<video><model type='virtio' primary='yes'></model></video><video><model type='virtio' primary='yes'></model></video>",
        "unsupported configuration: Only one primary video device is supported"
    )]
    #[case(
        "<video><model type='cirrus'><resolution x='1' y='2'/></model></video>",
        "XML error: model resolution is not supported"
    )]
    #[case(
        "<video><model type='vga' ram='5'></model></video>",
        "unsupported configuration: ram attribute only supported for video type qxl"
    )]
    #[case(
        "<video><model type='vga' blob='on'></model></video>",
        "unsupported configuration: video type 'vga' does not support blob resources"
    )]
    #[case(
        "<video><model type='vga'><acceleration accel3d='yes'/></model></video>",
        "unsupported configuration: 3d acceleration is supported only with 'virtio' video device"
    )]
    #[case("<sound model='ich6'><audio id='7'/></sound>", "XML error: no audio device with ID 7")]
    #[case("<audio id='1' type='none'/><audio id='1' type='none'/>", "XML error: audio ID 1 is used multiple times")]
    #[case(
        "<audio id='1' type='none'><input fixedSettings='yes'/></audio>",
        "unsupported configuration: fixed audio settings requires mixing engine"
    )]
    #[case(
        "<audio id='1' type='none'><input><settings frequency='1'/></input></audio>",
        "unsupported configuration: audio settings specified without fixed settings flag"
    )]
    #[case(
        "<audio id='1' type='none'><input voices='0'/></audio>",
        "XML error: Invalid value for attribute 'voices' in element 'input': Zero is not permitted"
    )]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
