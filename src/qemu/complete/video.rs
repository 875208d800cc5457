//! Video cards: the automatic one, models, memory sizes.

use super::Chipset;
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{Video, VideoType};
use crate::domain_xml::words::YesNo;
use crate::qemu::capabilities::QemuCaps;

/// Fills in video cards. A guest with a display but no card gets one.
pub(super) fn complete(def: &mut DomainDef, chipset: Chipset, caps: Option<&QemuCaps>) {
    if chipset == Chipset::Other {
        return;
    }
    if !def.graphics.is_empty() && def.videos.is_empty() {
        def.videos.push(Video::default());
    }
    let cirrus = caps.is_none_or(|caps| caps.has_type("cirrus-vga"));
    for (index, video) in def.videos.iter_mut().enumerate() {
        let model = &mut video.model;
        if model.kind == VideoType::Default {
            model.kind = if cirrus { VideoType::Cirrus } else { VideoType::Vga };
        }
        match model.kind {
            VideoType::Vga | VideoType::Cirrus | VideoType::Vmvga | VideoType::Bochs => {
                model.vram.get_or_insert(16 * 1024);
            }
            VideoType::Qxl => {
                model.ram.get_or_insert(64 * 1024);
                model.vram.get_or_insert(64 * 1024);
                model.vgamem.get_or_insert(16 * 1024);
                // QEMU wants whole powers of two, and vram below ram.
                for size in [&mut model.ram, &mut model.vram, &mut model.vgamem] {
                    *size = size.map(|kib| kib.checked_next_power_of_two().unwrap_or(kib));
                }
            }
            _ => {}
        }
        if model.kind != VideoType::None {
            model.heads.get_or_insert(1);
        }
        if index == 0 && model.kind != VideoType::None && model.primary.is_none() {
            model.primary = Some(YesNo::Yes);
        }
    }
}
