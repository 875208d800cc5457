//! `-spice`, and the displays that need no server. Shown on paper; no start makes them yet.

use super::{Builder, Pairs, not_yet};
use crate::domain_xml::device::{DisplayGl, Listen, Sdl, Spice, SpiceMode};
use crate::domain_xml::words::YesNo;
use crate::error::{Error, Result};

fn mode_option(mode: SpiceMode) -> Option<&'static str> {
    match mode {
        SpiceMode::Any => None,
        SpiceMode::Secure => Some("tls-channel"),
        SpiceMode::Insecure => Some("plaintext-channel"),
    }
}

fn enabled(gl: Option<&DisplayGl>) -> Option<&DisplayGl> {
    gl.filter(|gl| gl.enable == Some(YesNo::Yes))
}

pub(super) fn spice(b: &mut Builder<'_>, spice: &Spice, listens: &[Listen]) -> Result<()> {
    if listens.len() > 1 {
        return Err(Error::unsupported_config("multiple listen types are not supported for spice"));
    }
    let port = spice.port.filter(|port| *port > 0);
    let tls = spice.tls_port.filter(|port| *port > 0);
    let ports = || match (port, tls) {
        // libvirt's first: VNC has the one before.
        (None, None) if spice.autoport => Pairs::with("port", super::display::VNC_BASE + 1),
        (None, None) => Pairs::with("port", 0),
        (Some(port), None) => Pairs::with("port", port),
        (Some(port), Some(tls)) => Pairs::with("port", port).set("tls-port", tls),
        (None, Some(tls)) => Pairs::with("tls-port", tls),
    };
    let mut p = match listens.first() {
        Some(Listen::Socket { socket: Some(path), .. }) => Pairs::new("unix").set("addr", path),
        Some(Listen::Socket { socket: None, .. }) => return Err(Error::internal("spice socket without a path")),
        Some(Listen::None) => Pairs::with("port", 0),
        Some(Listen::Address { address: Some(address) } | Listen::Network { address: Some(address), .. })
            if port.is_some() || tls.is_some() || spice.autoport =>
        {
            ports().set("addr", address)
        }
        Some(Listen::Network { address: None, .. }) => {
            return Err(not_yet("<graphics type='spice'> that listens on a network"));
        }
        _ => ports(),
    };
    if tls.is_some() {
        p = p.set("x509-dir", "/etc/pki/libvirt-spice");
    }
    if let Some(option) = spice.default_mode.and_then(mode_option) {
        p = p.set(option, "default");
    }
    for (name, mode) in &spice.channels {
        if let Some(option) = mode_option(*mode) {
            p = p.set(option, name);
        }
    }
    p = p.set_opt("image-compression", spice.image_compression.as_deref());
    p = p.set_opt("jpeg-wan-compression", spice.jpeg_compression.as_deref());
    p = p.set_opt("zlib-glz-wan-compression", spice.zlib_compression.as_deref());
    if let Some(playback) = spice.playback_compression {
        p = p.on_off("playback-compression", playback.is_on());
    }
    p = p.set_opt("streaming-video", spice.streaming_mode.as_deref());
    if let Some(mouse) = &spice.mouse_mode {
        p = p.on_off("agent-mouse", mouse == "client");
    }
    if spice.copypaste == Some(YesNo::No) {
        p = p.on_off("disable-copy-paste", true);
    }
    if spice.filetransfer_enable == Some(YesNo::No) {
        p = p.on_off("disable-agent-file-xfer", true);
    }
    if let Some(gl) = enabled(spice.gl.as_ref()) {
        p = p.on_off("gl", true).set_opt("rendernode", gl.rendernode.as_deref());
    }
    b.arg("-spice", p.on_off("seamless-migration", true).text());
    if let Some(keymap) = &spice.keymap {
        b.arg("-k", keymap.clone());
    }
    Ok(())
}

pub(super) fn sdl(b: &mut Builder<'_>, sdl: &Sdl) -> Result<()> {
    if sdl.fullscreen == Some(YesNo::Yes) {
        return Err(not_yet("<graphics type='sdl' fullscreen='yes'>"));
    }
    let mut p = Pairs::new("sdl");
    if let Some(gl) = &sdl.gl {
        p = p.on_off("gl", gl.enable == Some(YesNo::Yes));
    }
    b.arg("-display", p.text());
    Ok(())
}

pub(super) fn egl_headless(b: &mut Builder<'_>, rendernode: Option<&str>) {
    b.arg("-display", Pairs::new("egl-headless").set_opt("rendernode", rendernode).text());
}
