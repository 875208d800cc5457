//! Graphics, video cards, sound cards.

use super::{Builder, Pairs, Props, alias, not_yet, pci_address, spice, usb_address, virtio_options};
use crate::domain_xml::device::*;
use crate::domain_xml::words::YesNo;
use crate::error::{Error, Result};

/// QEMU counts VNC displays from this TCP port.
pub const VNC_BASE: i32 = 5900;

pub(super) fn graphics(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    for graphics in &def.graphics {
        match &graphics.kind {
            GraphicsKind::Vnc(vnc) => vnc_option(b, vnc, &graphics.listens)?,
            GraphicsKind::Spice(spice) if b.ctx.paper => spice::spice(b, spice, &graphics.listens)?,
            GraphicsKind::Sdl(sdl) if b.ctx.paper => spice::sdl(b, sdl)?,
            GraphicsKind::EglHeadless { rendernode } if b.ctx.paper => spice::egl_headless(b, rendernode.as_deref()),
            other => return Err(not_yet(format!("<graphics type='{}'>", other.type_name()))),
        }
    }
    Ok(())
}

fn vnc_option(b: &mut Builder<'_>, vnc: &Vnc, listens: &[Listen]) -> Result<()> {
    if listens.len() > 1 {
        return Err(Error::unsupported_config("multiple listen types are not supported for VNC"));
    }
    let mut p = match listens.first() {
        Some(Listen::Socket { socket: Some(path), .. }) => Pairs::with("vnc", format!("unix:{path}")),
        Some(Listen::Socket { socket: None, .. }) => return Err(Error::internal("VNC socket without a path")),
        Some(Listen::None) => return Err(not_yet("<graphics type='vnc'> with <listen type='none'>")),
        Some(Listen::Address { address } | Listen::Network { address, .. }) => endpoint(vnc, address.as_deref()),
        None => endpoint(vnc, None),
    };
    if vnc.websocket.is_some_and(|port| port > 0) {
        p = p.set_opt("websocket", vnc.websocket);
    }
    p = p.set_opt("share", vnc.share_policy.map(SharePolicy::as_str));
    if vnc.password.passwd.is_some() {
        p = p.on_off("password", true);
    }
    if let Some(power) = vnc.power_control {
        p = p.on_off("power-control", power == YesNo::Yes);
    }
    if let Some(audio) = b.def.audios.first() {
        p = p.set("audiodev", format!("audio{}", audio.id));
    }
    b.arg("-vnc", p.text());
    if let Some(keymap) = &vnc.keymap {
        b.arg("-k", keymap.clone());
    }
    Ok(())
}

fn endpoint(vnc: &Vnc, address: Option<&str>) -> Pairs {
    let address = match address {
        Some(address) if address.contains(':') => format!("[{address}]"),
        Some(address) => address.to_string(),
        None => String::new(),
    };
    let port = vnc.port.unwrap_or(VNC_BASE);
    Pairs::new(format!("{address}:{}", port - VNC_BASE))
}

pub(super) fn videos(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    for (index, video) in def.videos.iter().enumerate() {
        if let Some(device) = video_device(b, video, index == 0)? {
            b.device(&device);
        }
    }
    Ok(())
}

fn video_device(b: &Builder<'_>, video: &Video, primary: bool) -> Result<Option<Props>> {
    let model = &video.model;
    if video.driver.name == Some(VideoBackend::Vhostuser) {
        return Err(not_yet("<video><driver name='vhostuser'>"));
    }
    let accelerated = model.acceleration.as_ref().and_then(|a| a.accel3d).is_some_and(|accel| accel.is_yes());
    if accelerated && !(b.ctx.paper && model.kind == VideoType::Virtio) {
        return Err(not_yet("<acceleration accel3d='yes'>"));
    }
    let driver = match (model.kind, primary) {
        (VideoType::None, _) => return Ok(None),
        (VideoType::Vga, true) => "VGA",
        (VideoType::Vga, false) => "secondary-vga",
        (VideoType::Cirrus, _) => "cirrus-vga",
        (VideoType::Vmvga, _) => "vmware-svga",
        (VideoType::Qxl, true) => "qxl-vga",
        (VideoType::Qxl, false) => "qxl",
        (VideoType::Virtio, true) if accelerated => "virtio-vga-gl",
        (VideoType::Virtio, false) if accelerated => "virtio-gpu-gl-pci",
        (VideoType::Virtio, true) => "virtio-vga",
        (VideoType::Virtio, false) => "virtio-gpu-pci",
        (VideoType::Bochs, _) => "bochs-display",
        (VideoType::Ramfb, _) => "ramfb",
        (other, _) => {
            return Err(Error::unsupported_config(format!(
                "domain configuration does not support video model '{other}'"
            )));
        }
    };
    if !b.ctx.paper && !b.ctx.caps.has_type(driver) {
        return Err(Error::unsupported_config(format!(
            "domain configuration does not support video model '{}': this QEMU has no device '{driver}'",
            model.kind
        )));
    }
    let mut p = Props::new().set("driver", driver).join(virtio_options(&video.driver.virtio));
    p = p.set("id", alias(&video.info)?);
    match model.kind {
        VideoType::Qxl => {
            p = p.set_opt("max_outputs", model.heads).set_opt("ram_size", model.ram.map(|kib| u64::from(kib) * 1024));
            p = p.set_opt("vram_size", model.vram.map(|kib| u64::from(kib) * 1024));
            p = p.set("vram64_size_mb", model.vram64.unwrap_or(0) / 1024);
            p = p.set_opt("vgamem_mb", model.vgamem.map(|kib| kib / 1024));
        }
        VideoType::Virtio => {
            p = p.set_opt("max_outputs", model.heads).set_opt("blob", model.blob.map(|blob| blob.is_on()));
        }
        VideoType::Vga | VideoType::Vmvga => p = p.set_opt("vgamem_mb", model.vram.map(|kib| kib / 1024)),
        VideoType::Bochs => p = p.set_opt("vgamem", model.vram.map(|kib| format!("{kib}k"))),
        _ => {}
    }
    p = p.set_opt("edid", model.edid.map(|edid| edid.is_on()));
    if let Some(resolution) = &model.resolution {
        p = p.set_opt("xres", resolution.x).set_opt("yres", resolution.y);
    }
    Ok(Some(p.join(pci_address(b.def, &video.info)?)))
}

pub(super) fn sounds(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    for sound in &def.sounds {
        let id = alias(&sound.info)?;
        let audiodev = format!("audio{}", sound.audio_id.or(def.audios.first().map(|audio| audio.id)).unwrap_or(1));
        let address = pci_address(def, &sound.info)?;
        match sound.model {
            SoundModel::Ich6 | SoundModel::Ich9 => {
                let driver = if sound.model == SoundModel::Ich6 { "intel-hda" } else { "ich9-intel-hda" };
                b.device(&Props::device(driver, id).join(address));
                let codecs = if sound.codecs.is_empty() { vec![SoundCodec::Duplex] } else { sound.codecs.clone() };
                for (number, codec) in codecs.iter().enumerate() {
                    let p = Props::device(&format!("hda-{codec}"), &format!("{id}-codec{number}"));
                    let p = p.set("bus", format!("{id}.0")).set("cad", number).set("audiodev", audiodev.clone());
                    b.device(&p);
                }
            }
            SoundModel::Ac97 => b.device(&Props::device("AC97", id).set("audiodev", audiodev).join(address)),
            SoundModel::Es1370 => b.device(&Props::device("ES1370", id).set("audiodev", audiodev).join(address)),
            SoundModel::Sb16 => b.device(&Props::device("sb16", id).set("audiodev", audiodev)),
            SoundModel::Usb => {
                let p = Props::device("usb-audio", id).set("audiodev", audiodev);
                let p = p.set_opt("multi", sound.multichannel.map(|multi| multi.is_yes()));
                b.device(&p.join(usb_address(def, &sound.info)?));
            }
            other => return Err(not_yet(format!("<sound model='{other}'>"))),
        }
    }
    Ok(())
}
