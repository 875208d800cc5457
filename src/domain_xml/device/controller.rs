//! `<controller>`.

use super::disk::{read_iothreads, write_iothreads};
use super::info::{DeviceInfo, VirtioOptions};
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::{Switch, words};
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

/// `<controller>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Controller {
    pub kind: ControllerType,
    /// `None` = the post-parse takes the next free one.
    pub index: Option<u32>,
    /// libvirt's word (`piix3-uhci`, `pcie-root-port`, `virtio-scsi` ...); which ones there are depends on `kind`.
    pub model: Option<String>,
    /// `ports` of usb, virtio-serial, xenbus.
    pub ports: Option<u32>,
    /// `vectors` of virtio-serial.
    pub vectors: Option<u32>,
    pub max_grant_frames: Option<u32>,
    pub max_event_channels: Option<u32>,
    pub driver: ControllerDriver,
    pub pci: PciOptions,
    pub info: DeviceInfo,
}

words! {
    /// `type`.
    pub enum ControllerType {
        Ide = "ide", Fdc = "fdc", Scsi = "scsi", Sata = "sata", VirtioSerial = "virtio-serial", Ccid = "ccid", Usb = "usb",
        Pci = "pci", Xenbus = "xenbus", Isa = "isa", Nvme = "nvme",
    }
}

/// `<driver>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControllerDriver {
    pub queues: Option<u32>,
    pub cmd_per_lun: Option<u32>,
    pub max_sectors: Option<u32>,
    pub ioeventfd: Option<Switch>,
    pub iothread: Option<u32>,
    /// `<iothreads>`: thread ids, each with the queues it serves.
    pub iothreads: Vec<(u32, Vec<u32>)>,
    pub virtio: VirtioOptions,
}

/// What only PCI controllers have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PciOptions {
    /// `<model name>`: QEMU's device (`pcie-root-port`, `ioh3420` ...).
    pub model_name: Option<String>,
    pub target: Option<PciTarget>,
    /// `<pcihole64>`, KiB.
    pub hole64: Option<u64>,
}

/// `<target>` of a PCI controller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PciTarget {
    pub chassis_nr: Option<u32>,
    pub chassis: Option<u32>,
    pub port: Option<u32>,
    pub bus_nr: Option<u32>,
    pub index: Option<u32>,
    pub hotplug: Option<Switch>,
    /// KiB.
    pub mem_reserve: Option<u64>,
    /// `<node>`: guest NUMA node.
    pub node: Option<u32>,
}

/// libvirt's model words per type.
fn models(kind: ControllerType) -> &'static [&'static str] {
    match kind {
        ControllerType::Ide => &["piix3", "piix4", "ich6"],
        ControllerType::Scsi => &[
            "auto",
            "buslogic",
            "lsilogic",
            "lsisas1068",
            "vmpvscsi",
            "ibmvscsi",
            "virtio-scsi",
            "lsisas1078",
            "virtio-transitional",
            "virtio-non-transitional",
            "ncr53c90",
            "dc390",
            "am53c974",
        ],
        ControllerType::Usb => &[
            "piix3-uhci",
            "piix4-uhci",
            "ehci",
            "ich9-ehci1",
            "ich9-uhci1",
            "ich9-uhci2",
            "ich9-uhci3",
            "vt82c686b-uhci",
            "pci-ohci",
            "nec-xhci",
            "qusb1",
            "qusb2",
            "qemu-xhci",
            "none",
        ],
        ControllerType::Pci => &[
            "pci-root",
            "pcie-root",
            "pci-bridge",
            "dmi-to-pci-bridge",
            "pcie-to-pci-bridge",
            "pcie-root-port",
            "pcie-switch-upstream-port",
            "pcie-switch-downstream-port",
            "pci-expander-bus",
            "pcie-expander-bus",
        ],
        ControllerType::VirtioSerial => &["virtio", "virtio-transitional", "virtio-non-transitional"],
        ControllerType::Isa | ControllerType::Nvme | ControllerType::Sata | ControllerType::Fdc => &[],
        ControllerType::Ccid | ControllerType::Xenbus => &[],
    }
}

impl Controller {
    /// Reads `<controller>`. Error: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let kind: ControllerType = node.attr_value("type")?.unwrap_or_default();
        let mut controller = Controller {
            kind,
            index: node.attr_value("index")?,
            ports: node.attr_value("ports")?,
            ..Default::default()
        };
        if let Some(model) = node.attr("model") {
            let known = models(kind);
            if !known.contains(&model) {
                let near = crate::types::text::nearest(model, known.iter().copied());
                let hint = near.map(|word| format!("; did you mean '{word}'?")).unwrap_or_default();
                let what = format!("Unknown model type '{model}'{hint}");
                return Err(node.attr_error("model", Code::ConfigUnsupported, what));
            }
            controller.model = Some(model.to_string());
        }
        controller.vectors = node.attr_value("vectors")?;
        if kind == ControllerType::Xenbus {
            controller.max_grant_frames = node.attr_value("maxGrantFrames")?;
            controller.max_event_channels = node.attr_value("maxEventChannels")?;
        }
        if let Some(driver) = node.child("driver") {
            controller.driver = ControllerDriver {
                queues: driver.attr_value("queues")?,
                cmd_per_lun: driver.attr_value("cmd_per_lun")?,
                max_sectors: driver.attr_value("max_sectors")?,
                ioeventfd: driver.attr_value("ioeventfd")?,
                iothread: driver.attr_value("iothread")?,
                iothreads: read_iothreads(driver)?,
                virtio: VirtioOptions::read(driver)?,
            };
        }
        if kind == ControllerType::Pci {
            controller.pci = PciOptions::read(node)?;
        }
        controller.info = DeviceInfo::read(node)?;
        Ok(controller)
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("controller", |w| {
            w.attr("type", self.kind);
            w.attr("index", self.index.unwrap_or_default());
            w.attr_opt("model", self.model.as_ref());
            w.attr_opt("ports", self.ports);
            w.attr_opt("vectors", self.vectors);
            w.attr_opt("maxGrantFrames", self.max_grant_frames);
            w.attr_opt("maxEventChannels", self.max_event_channels);
            self.pci.write(w);
            w.element_unless_empty("driver", |w| {
                w.attr_opt("queues", self.driver.queues);
                w.attr_opt("cmd_per_lun", self.driver.cmd_per_lun);
                w.attr_opt("max_sectors", self.driver.max_sectors);
                w.attr_opt("ioeventfd", self.driver.ioeventfd);
                w.attr_opt("iothread", self.driver.iothread);
                self.driver.virtio.write_attrs(w);
                write_iothreads(w, &self.driver.iothreads);
            });
            self.info.write(w, o);
            if let Some(hole) = self.pci.hole64 {
                w.start("pcihole64");
                w.attr("unit", "KiB");
                w.end_with_text(hole);
            }
        });
    }
}

impl PciOptions {
    fn read(node: Node<'_>) -> Result<Self> {
        let mut pci = PciOptions {
            model_name: node.child("model").and_then(|model| model.attr("name")).map(str::to_string),
            ..Default::default()
        };
        if let Some(target) = node.child("target") {
            pci.target = Some(PciTarget {
                chassis_nr: target.attr_any_base32("chassisNr")?,
                chassis: target.attr_any_base32("chassis")?,
                port: target.attr_any_base32("port")?,
                bus_nr: target.attr_any_base32("busNr")?,
                index: target.attr_any_base32("index")?,
                hotplug: target.attr_value("hotplug")?,
                mem_reserve: target.attr_value("memReserve")?,
                node: target.child_value("node")?,
            });
        }
        pci.hole64 = node.child("pcihole64").map(crate::domain_xml::memory::read_kib).transpose()?;
        Ok(pci)
    }

    fn write(&self, w: &mut Writer) {
        if let Some(name) = &self.model_name {
            w.element("model", |w| w.attr("name", name));
        }
        let Some(target) = &self.target else { return };
        w.element_unless_empty("target", |w| {
            w.attr_opt("chassisNr", target.chassis_nr);
            w.attr_opt("chassis", target.chassis);
            w.attr_opt("port", target.port.map(|port| format!("{port:#x}")));
            w.attr_opt("busNr", target.bus_nr);
            w.attr_opt("index", target.index);
            w.attr_opt("hotplug", target.hotplug);
            w.attr_opt("memReserve", target.mem_reserve);
            w.text_opt("node", target.node);
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
        "<controller type='usb' index='0' model='piix3-uhci' ports='2'>\n  <master startport='2'/>\n</controller>\n"
    )]
    #[case("<controller type='virtio-serial' index='0' ports='16' vectors='4'/>\n")]
    #[case(
        "<controller type='scsi' index='0' model='virtio-scsi'>\n  <driver queues='4' iothread='1' iommu='on'/>\n</controller>\n"
    )]
    #[case(
        "<controller type='pci' index='1' model='pcie-root-port'>\n  <model name='ioh3420'/>\n  \
            <target chassis='1' port='0x10' hotplug='off'/>\n</controller>\n"
    )]
    #[case(
        "<controller type='pci' index='0' model='pci-root'>\n  <pcihole64 unit='KiB'>1048576</pcihole64>\n</controller>\n"
    )]
    fn round_trips(#[case] xml: &str) {
        let written = rewrite(xml, Controller::read, |c, w| c.write(w, FormatOptions::default())).expect("reads");
        assert_eq!(written, xml);
    }

    #[test]
    fn a_model_is_checked_against_its_type() {
        let xml = "<controller type='usb' index='0' model='virtio-scsi'/>";
        let error = rewrite(xml, Controller::read, |_, _| {}).expect_err("refused");
        assert!(error.detail.starts_with("Unknown model type 'virtio-scsi'"), "{}", error.detail);
    }
}
