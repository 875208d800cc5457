//! `<video>`.

use super::info::{DeviceInfo, VirtioOptions};
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::{Switch, YesNo, attrs, words};
use crate::error::Result;
use crate::xml::{Node, Writer};

/// `<video>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Video {
    pub model: VideoModel,
    pub driver: VideoDriver,
    pub info: DeviceInfo,
}

/// `<model>`. Memory sizes in KiB.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VideoModel {
    pub kind: VideoType,
    pub ram: Option<u32>,
    pub vram: Option<u32>,
    pub vram64: Option<u32>,
    pub vgamem: Option<u32>,
    pub heads: Option<u32>,
    pub primary: Option<YesNo>,
    pub blob: Option<Switch>,
    pub edid: Option<Switch>,
    pub acceleration: Option<Acceleration>,
    pub resolution: Option<Resolution>,
}

words! {
    /// `<model type>`; `Default` = the driver chooses.
    pub enum VideoType {
        Default = "default", Vga = "vga", Cirrus = "cirrus", Vmvga = "vmvga", Xen = "xen", Vbox = "vbox", Qxl = "qxl",
        Parallels = "parallels", Virtio = "virtio", Gop = "gop", None = "none", Bochs = "bochs", Ramfb = "ramfb",
    }

    /// `<driver name>`.
    pub enum VideoBackend { Qemu = "qemu", Vhostuser = "vhostuser" }

    /// `vgaconf`.
    pub enum VgaConf { Io = "io", On = "on", Off = "off" }
}

attrs! {
    /// `<acceleration>`.
    pub struct Acceleration {
        accel3d: YesNo = "accel3d",
        accel2d: YesNo = "accel2d",
        rendernode: String = "rendernode",
    }

    /// `<resolution>`.
    pub struct Resolution {
        x: u32 = "x",
        y: u32 = "y",
    }
}

/// `<driver>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VideoDriver {
    pub name: Option<VideoBackend>,
    pub vgaconf: Option<VgaConf>,
    pub virtio: VirtioOptions,
}

impl Video {
    /// Reads `<video>`. Error: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut video = Video { info: DeviceInfo::read(node)?, ..Default::default() };
        if let Some(driver) = node.child("driver") {
            video.driver = VideoDriver {
                name: driver.attr_value("name")?,
                vgaconf: driver.attr_value("vgaconf")?,
                virtio: VirtioOptions::read(driver)?,
            };
        }
        if let Some(model) = node.child("model") {
            video.model = VideoModel {
                kind: model.attr_value("type")?.unwrap_or_default(),
                ram: model.attr_value("ram")?,
                vram: model.attr_value("vram")?,
                vram64: model.attr_value("vram64")?,
                vgamem: model.attr_value("vgamem")?,
                heads: model.attr_value("heads")?,
                primary: model.attr_value("primary")?,
                blob: model.attr_value("blob")?,
                edid: model.attr_value("edid")?,
                acceleration: model.child("acceleration").map(Acceleration::read).transpose()?,
                resolution: model.child("resolution").map(Resolution::read).transpose()?,
            };
        }
        Ok(video)
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("video", |w| {
            w.element_unless_empty("driver", |w| {
                self.driver.virtio.write_attrs(w);
                w.attr_opt("name", self.driver.name);
                w.attr_opt("vgaconf", self.driver.vgaconf);
            });
            let model = &self.model;
            w.element("model", |w| {
                w.attr("type", model.kind);
                w.attr_opt("ram", model.ram);
                w.attr_opt("vram", model.vram);
                w.attr_opt("vram64", model.vram64);
                w.attr_opt("vgamem", model.vgamem);
                w.attr_opt("heads", model.heads);
                w.attr_opt("primary", model.primary.filter(|primary| primary.is_yes()));
                w.attr_opt("blob", model.blob);
                w.attr_opt("edid", model.edid);
                if let Some(acceleration) = &model.acceleration {
                    acceleration.write("acceleration", w);
                }
                if let Some(resolution) = &model.resolution {
                    resolution.write("resolution", w);
                }
            });
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
        "<video>\n  <model type='virtio' heads='1' primary='yes'>\n    <acceleration accel3d='yes'/>\n    \
            <resolution x='1280' y='720'/>\n  </model>\n  <alias name='video0'/>\n</video>\n"
    )]
    #[case(
        "<video>\n  <driver iommu='on' name='vhostuser'/>\n  <model type='qxl' ram='65536' vram='65536' vgamem='16384' heads='1'/>\n</video>\n"
    )]
    #[case("<video>\n  <model type='none'/>\n</video>\n")]
    fn round_trips(#[case] xml: &str) {
        assert_eq!(rewrite(xml, Video::read, |v, w| v.write(w, FormatOptions::default())).expect("reads"), xml);
    }
}
