//! Graphics, video and audio: what QEMU cannot show or play.

use super::{Check, each, refuse};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;
use crate::domain_xml::memory::MemorySource;
use crate::domain_xml::words::{Switch, YesNo};

/// Every display of a completed definition.
pub(super) fn displays(def: &DomainDef) -> Check {
    graphics(def)?;
    for (nth, video) in def.videos.iter().enumerate() {
        self::video(def, video, nth == 0).map_err(|error| error.about("devices/video", nth))?;
    }
    let spice = def.graphics.iter().any(|graphics| matches!(graphics.kind, GraphicsKind::Spice(_)));
    each("devices/audio", &def.audios, |audio| {
        refuse!(
            if audio.kind == AudioType::Spice && !spice, ConfigUnsupported,
            "Spice audio is not supported without spice graphics"
        );
        Ok(())
    })
}

fn uses_gl(kind: &GraphicsKind) -> bool {
    let on = |gl: &Option<DisplayGl>| gl.as_ref().is_some_and(|gl| gl.enable == Some(YesNo::Yes));
    match kind {
        GraphicsKind::EglHeadless { .. } => true,
        GraphicsKind::Spice(spice) => on(&spice.gl),
        GraphicsKind::Sdl(sdl) => on(&sdl.gl),
        GraphicsKind::Dbus(dbus) => on(&dbus.gl),
        _ => false,
    }
}

fn graphics(def: &DomainDef) -> Check {
    each("devices/graphics", &def.graphics, |graphics| match &graphics.kind {
        GraphicsKind::Vnc(vnc) => {
            let length = vnc.password.passwd.as_ref().map_or(0, String::len);
            refuse!(
                if length > 8, ConfigUnsupported,
                "VNC password is {length} characters long, only 8 permitted"
            );
            Ok(())
        }
        GraphicsKind::Desktop { .. } => {
            refuse!(ConfigUnsupported, "{} graphics are not supported with this QEMU", graphics.kind.type_name())
        }
        _ => Ok(()),
    })?;
    let egl = def.graphics.iter().any(|graphics| matches!(graphics.kind, GraphicsKind::EglHeadless { .. }));
    let remote = |graphics: &Graphics| matches!(graphics.kind, GraphicsKind::Vnc(_) | GraphicsKind::Spice(_));
    let other = |graphics: &Graphics| !remote(graphics) && !matches!(graphics.kind, GraphicsKind::EglHeadless { .. });
    refuse!(
        if egl && def.graphics.iter().any(other), ConfigUnsupported,
        "graphics type 'egl-headless' is only supported with one of: 'vnc', 'spice' graphics types"
    );
    let different: std::collections::HashSet<&str> =
        def.graphics.iter().filter(|g| uses_gl(&g.kind)).map(|g| g.kind.type_name()).collect();
    refuse!(if different.len() > 1, ConfigUnsupported, "multiple OpenGL displays are not supported by QEMU");
    Ok(())
}

fn video(def: &DomainDef, video: &Video, first: bool) -> Check {
    let (model, kind) = (&video.model, video.model.kind);
    let foreign = matches!(kind, VideoType::Xen | VideoType::Vbox | VideoType::Parallels | VideoType::Gop);
    refuse!(if foreign, ConfigUnsupported, "domain configuration does not support video model '{kind}'");
    let alone =
        matches!(kind, VideoType::Vga | VideoType::Cirrus | VideoType::Vmvga | VideoType::Bochs | VideoType::Ramfb);
    let second = !first && matches!(kind, VideoType::Vga | VideoType::Cirrus | VideoType::Vmvga | VideoType::Ramfb);
    refuse!(
        if second, ConfigUnsupported,
        "video type '{kind}' is only valid as primary video device"
    );
    refuse!(
        if alone && model.heads.is_some_and(|heads| heads != 1), ConfigUnsupported,
        "video type '{kind}' doesn't support multiple 'heads'"
    );
    let vram = matches!(kind, VideoType::Vga | VideoType::Vmvga);
    refuse!(
        if vram && model.vram.is_some_and(|kib| kib > 0 && kib < 1024), ConfigUnsupported,
        "value for 'vram' must be at least 1 MiB (1024 KiB)"
    );
    refuse!(
        if kind == VideoType::Virtio && model.blob == Some(Switch::On)
            && def.memory_backing.source != Some(MemorySource::Memfd),
        ConfigUnsupported,
        "'blob' support for virtio-gpu devices requires a memfd memory backend"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "pc",
        "<graphics type='vnc' passwd='123456789'/>",
        "unsupported configuration: VNC password is 9 characters long, only 8 permitted (line 2"
    )]
    #[case(
        "pc",
        "<graphics type='dbus'/><graphics type='egl-headless'/>",
        "unsupported configuration: graphics type 'egl-headless' is only supported with one of"
    )]
    #[case(
        "pc",
        "<graphics type='spice'><gl enable='yes'/></graphics><graphics type='egl-headless'/>",
        "unsupported configuration: multiple OpenGL displays are not supported by QEMU"
    )]
    #[case(
        "pc",
        "<video><model type='xen'></model></video>",
        "unsupported configuration: domain configuration does not support video model 'xen'"
    )]
    #[case(
        "pc",
        "<video><model type='vga'></model></video><video><model type='vga'></model></video>",
        "unsupported configuration: video type 'vga' is only valid as primary video device"
    )]
    #[case(
        "pc",
        "<video><model type='vga' heads='2'></model></video>",
        "unsupported configuration: video type 'vga' doesn't support multiple 'heads'"
    )]
    #[case(
        "pc",
        "<video><model type='vga' vram='100'></model></video>",
        "unsupported configuration: value for 'vram' must be at least 1 MiB (1024 KiB)"
    )]
    #[case(
        "pc",
        "<video><model type='virtio' blob='on'></model></video>",
        "unsupported configuration: 'blob' support for virtio-gpu devices requires a memfd memory backend"
    )]
    #[case(
        "pc",
        "<audio id='1' type='spice'/>",
        "unsupported configuration: Spice audio is not supported without spice graphics"
    )]
    fn refused(#[case] machine: &str, #[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(machine, xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
