//! What every device has: alias, guest address, boot order, option ROM.

use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::{Switch, YesNo, attrs};
use crate::error::{Code, Result};
use crate::types::PciAddress;
use crate::xml::{Node, Writer};

/// The common part of every device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceInfo {
    /// Given by the driver, or by the user when it begins with `ua-`.
    pub alias: Option<String>,
    pub address: Option<DeviceAddress>,
    /// `<boot order>`, from 1.
    pub boot_order: Option<u32>,
    /// `<boot loadparm>`.
    pub loadparm: Option<String>,
    pub rom: Option<Rom>,
    /// `<acpi index>`.
    pub acpi_index: Option<u32>,
    /// `<master startport>` of a companion USB controller.
    pub master_startport: Option<u32>,
}

impl DeviceInfo {
    /// The PCI address, if it has one.
    pub fn pci(&self) -> Option<&PciAddress> {
        match &self.address {
            Some(DeviceAddress::Pci { address, .. }) => Some(address),
            _ => None,
        }
    }

    /// Reads the common children of a device that no guest boots from.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let alias = node.child("alias").and_then(|alias| alias.attr("name")).map(str::to_string);
        let mut info = DeviceInfo { alias, ..Default::default() };
        if let Some(master) = node.child("master") {
            info.master_startport = master.attr_value("startport")?;
        }
        if let Some(acpi) = node.child("acpi") {
            info.acpi_index = acpi.attr_value("index")?;
        }
        if let Some(address) = node.child("address") {
            info.address = Some(DeviceAddress::read(address)?);
        }
        Ok(info)
    }

    /// The same of a device that guests boot from: with `<boot>`.
    pub(crate) fn read_bootable(node: Node<'_>) -> Result<Self> {
        let mut info = Self::read(node)?;
        if let Some(boot) = node.child("boot") {
            let order: u32 = boot.require("order")?;
            if order == 0 {
                let what = "Invalid value for attribute 'order' in element 'boot': Zero is not permitted";
                return Err(boot.attr_error("order", Code::XmlError, what));
            }
            info.boot_order = Some(order);
            info.loadparm = boot.attr("loadparm").map(str::to_string);
        }
        Ok(info)
    }

    /// The same of a device that may have an option ROM: with `<boot>` and `<rom>`.
    pub(crate) fn read_with_rom(node: Node<'_>) -> Result<Self> {
        let mut info = Self::read_bootable(node)?;
        if let Some(rom) = node.child("rom") {
            info.rom = Some(Rom::read(rom)?);
        }
        Ok(info)
    }

    /// Writes them in libvirt's order.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        if let Some(order) = self.boot_order {
            w.element("boot", |w| {
                w.attr("order", order);
                w.attr_opt("loadparm", self.loadparm.as_ref());
            });
        }
        if let Some(alias) = self.alias.as_ref().filter(|_| !o.inactive || self.has_user_alias()) {
            w.element("alias", |w| w.attr("name", alias));
        }
        if let Some(port) = self.master_startport {
            w.element("master", |w| w.attr("startport", port));
        }
        if let Some(rom) = &self.rom {
            rom.write("rom", w);
        }
        if let Some(index) = self.acpi_index {
            w.element("acpi", |w| w.attr("index", index));
        }
        if let Some(address) = &self.address {
            address.write(w);
        }
    }

    /// Drops what belongs to one run only.
    pub(crate) fn make_inactive(&mut self) {
        if !self.has_user_alias() {
            self.alias = None;
        }
    }

    /// Whether the alias is the user's own (`ua-...`), which an inactive definition keeps.
    pub fn has_user_alias(&self) -> bool {
        self.alias.as_deref().is_some_and(|alias| alias.starts_with("ua-"))
    }
}

attrs! {
    /// `<rom>`.
    pub struct Rom {
        enabled: YesNo = "enabled",
        bar: Switch = "bar",
        file: String = "file",
    }
}

/// `<address>`: where the guest finds the device.
#[derive(Clone, Debug, PartialEq)]
pub enum DeviceAddress {
    /// An all-zero address means "choose one on PCI".
    Pci {
        address: PciAddress,
        multifunction: Option<Switch>,
    },
    Drive {
        controller: u32,
        bus: u32,
        target: u32,
        unit: u32,
    },
    VirtioSerial {
        controller: u32,
        bus: u32,
        port: u32,
    },
    Ccid {
        controller: u32,
        slot: u32,
    },
    /// `port` is dotted (`1.2`) below hubs.
    Usb {
        bus: u32,
        port: Option<String>,
    },
    SpaprVio {
        reg: Option<u64>,
    },
    Ccw {
        cssid: u32,
        ssid: u32,
        devno: u32,
    },
    VirtioS390,
    VirtioMmio,
    Isa {
        iobase: Option<u32>,
        irq: Option<u32>,
    },
    Dimm {
        slot: u32,
        base: Option<u64>,
    },
    Unassigned,
}

impl DeviceAddress {
    /// The `type` attribute.
    pub fn type_name(&self) -> &'static str {
        match self {
            DeviceAddress::Pci { .. } => "pci",
            DeviceAddress::Drive { .. } => "drive",
            DeviceAddress::VirtioSerial { .. } => "virtio-serial",
            DeviceAddress::Ccid { .. } => "ccid",
            DeviceAddress::Usb { .. } => "usb",
            DeviceAddress::SpaprVio { .. } => "spapr-vio",
            DeviceAddress::Ccw { .. } => "ccw",
            DeviceAddress::VirtioS390 => "virtio-s390",
            DeviceAddress::VirtioMmio => "virtio-mmio",
            DeviceAddress::Isa { .. } => "isa",
            DeviceAddress::Dimm { .. } => "dimm",
            DeviceAddress::Unassigned => "unassigned",
        }
    }

    /// Reads `<address>`. Errors: codes 27 and 1, as libvirt.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let number = |name| node.attr_any_base32(name).map(Option::unwrap_or_default);
        let kind = node.attr("type").ok_or_else(|| node.missing_attr("type"))?;
        Ok(match kind {
            "pci" => DeviceAddress::Pci { address: read_pci(node)?, multifunction: node.attr_value("multifunction")? },
            "drive" => DeviceAddress::Drive {
                controller: number("controller")?,
                bus: number("bus")?,
                target: number("target")?,
                unit: number("unit")?,
            },
            "virtio-serial" => DeviceAddress::VirtioSerial {
                controller: number("controller")?,
                bus: number("bus")?,
                port: number("port")?,
            },
            "ccid" => DeviceAddress::Ccid { controller: number("controller")?, slot: number("slot")? },
            "usb" => DeviceAddress::Usb {
                bus: number("bus")?,
                port: node.attr("port").map(|p| usb_port(node, p)).transpose()?,
            },
            "spapr-vio" => DeviceAddress::SpaprVio { reg: node.attr_any_base("reg")? },
            "ccw" => DeviceAddress::Ccw { cssid: number("cssid")?, ssid: number("ssid")?, devno: number("devno")? },
            "virtio-s390" => DeviceAddress::VirtioS390,
            "virtio-mmio" => DeviceAddress::VirtioMmio,
            "isa" => DeviceAddress::Isa { iobase: node.attr_any_base32("iobase")?, irq: node.attr_any_base32("irq")? },
            "dimm" => DeviceAddress::Dimm { slot: number("slot")?, base: node.attr_any_base("base")? },
            "unassigned" => DeviceAddress::Unassigned,
            other => {
                let what = format!("unknown address type '{other}'");
                return Err(node.attr_error("type", Code::ConfigUnsupported, what));
            }
        })
    }

    /// Writes `<address>`.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.element("address", |w| {
            w.attr("type", self.type_name());
            match self {
                DeviceAddress::Pci { address, multifunction } => {
                    write_pci(w, address);
                    w.attr_opt("multifunction", *multifunction);
                }
                DeviceAddress::Drive { controller, bus, target, unit } => {
                    w.attr("controller", controller);
                    w.attr("bus", bus);
                    w.attr("target", target);
                    w.attr("unit", unit);
                }
                DeviceAddress::VirtioSerial { controller, bus, port } => {
                    w.attr("controller", controller);
                    w.attr("bus", bus);
                    w.attr("port", port);
                }
                DeviceAddress::Ccid { controller, slot } => {
                    w.attr("controller", controller);
                    w.attr("slot", slot);
                }
                DeviceAddress::Usb { bus, port } => {
                    w.attr("bus", bus);
                    w.attr_opt("port", port.as_ref());
                }
                DeviceAddress::SpaprVio { reg } => w.attr_opt("reg", reg.map(|reg| format!("{reg:#010x}"))),
                DeviceAddress::Ccw { cssid, ssid, devno } => {
                    w.attr("cssid", format_args!("{cssid:#x}"));
                    w.attr("ssid", format_args!("{ssid:#x}"));
                    w.attr("devno", format_args!("{devno:#06x}"));
                }
                DeviceAddress::Isa { iobase, irq } => {
                    w.attr_opt("iobase", iobase.map(|base| format!("{base:#x}")));
                    w.attr_opt("irq", irq.map(|irq| format!("{irq:#x}")));
                }
                DeviceAddress::Dimm { slot, base } => {
                    w.attr("slot", slot);
                    w.attr_opt("base", base.map(|base| format!("{base:#x}")));
                }
                DeviceAddress::VirtioS390 | DeviceAddress::VirtioMmio | DeviceAddress::Unassigned => {}
            }
        });
    }

    /// A plain single-function PCI address.
    pub fn pci(address: PciAddress) -> Self {
        DeviceAddress::Pci { address, multifunction: None }
    }
}

attrs! {
    /// The virtio options many drivers share.
    pub struct VirtioOptions {
        iommu: Switch = "iommu",
        ats: Switch = "ats",
        packed: Switch = "packed",
        page_per_vq: Switch = "page_per_vq",
    }
}

/// Reads domain, bus, slot and function of `node`; what is not there is 0. Error: code 27 for a part out of range.
pub(crate) fn read_pci(node: Node<'_>) -> Result<PciAddress> {
    let part = |name, max: u32| -> Result<u32> {
        let value = node.attr_any_base32(name)?.unwrap_or_default();
        if value > max {
            let quote = if name == "function" { "" } else { "'" };
            let most = if max > 9 { format!("0x{max:X}") } else { max.to_string() };
            let what = format!("Invalid PCI address {name}={quote}{value:#x}{quote}, must be <= {most}");
            return Err(node.attr_error(name, Code::XmlError, what));
        }
        Ok(value)
    };
    Ok(PciAddress {
        domain: part("domain", 0xffff)?,
        bus: part("bus", 0xff)?,
        slot: part("slot", 0x1f)?,
        function: part("function", 7)?,
    })
}

/// Writes them.
pub(crate) fn write_pci(w: &mut Writer, address: &PciAddress) {
    w.attr("domain", format_args!("{:#06x}", address.domain));
    w.attr("bus", format_args!("{:#04x}", address.bus));
    w.attr("slot", format_args!("{:#04x}", address.slot));
    w.attr("function", format_args!("{:#x}", address.function));
}

fn usb_port(node: Node<'_>, port: &str) -> Result<String> {
    let parts: Vec<&str> = port.split('.').collect();
    if parts.len() > 4 || parts.iter().any(|part| crate::xml::parse_unsigned(part).is_none()) {
        let what = "Cannot parse <address> 'port' attribute";
        return Err(node.attr_error("port", Code::InternalError, what));
    }
    Ok(port.to_string())
}

/// Reads the virtio options of a `<driver>` child, if there is one.
pub(crate) fn read_driver_options(node: Node<'_>) -> Result<VirtioOptions> {
    node.child("driver").map_or_else(|| Ok(VirtioOptions::default()), VirtioOptions::read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;
    use rstest::rstest;

    #[rstest]
    #[case("<address type='pci' domain='0x0000' bus='0x00' slot='0x1f' function='0x2' multifunction='on'/>")]
    #[case("<address type='drive' controller='0' bus='1' target='2' unit='3'/>")]
    #[case("<address type='virtio-serial' controller='0' bus='0' port='1'/>")]
    #[case("<address type='usb' bus='0' port='1.2'/>")]
    #[case("<address type='isa' iobase='0x505' irq='0x1'/>")]
    #[case("<address type='ccw' cssid='0xfe' ssid='0x0' devno='0x0001'/>")]
    #[case("<address type='ccid' controller='0' slot='1'/>")]
    #[case("<address type='dimm' slot='0' base='0x100000000'/>")]
    #[case("<address type='spapr-vio' reg='0x00002000'/>")]
    #[case("<address type='virtio-mmio'/>")]
    #[case("<address type='unassigned'/>")]
    fn addresses(#[case] xml: &str) {
        let written = rewrite(xml, DeviceAddress::read, |address, w| address.write(w)).expect("reads");
        assert_eq!(written.trim_end(), xml);
    }

    #[rstest]
    #[case("<address type='pci' slot='0x20'/>", "Invalid PCI address slot='0x20', must be <= 0x1F")]
    #[case("<address type='pci' slot='x'/>", "Invalid value for attribute 'slot' in element 'address': 'x'")]
    #[case("<address type='moon'/>", "unknown address type 'moon'")]
    #[case("<address/>", "Missing required attribute 'type' in element 'address'")]
    #[case("<address type='usb' bus='0' port='a'/>", "Cannot parse <address> 'port' attribute")]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let error = rewrite(xml, DeviceAddress::read, |address, w| address.write(w)).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
        assert!(error.detail.contains("line 1, column"), "{}", error.detail);
    }

    #[test]
    fn an_inactive_definition_keeps_only_user_aliases() {
        let mut info = DeviceInfo { alias: Some("ua-mine".into()), ..Default::default() };
        info.make_inactive();
        assert!(info.alias.is_some());
        info.alias = Some("net0".into());
        info.make_inactive();
        assert!(info.alias.is_none());
    }

    /// libvirt does not read `<boot>` and `<rom>` of other devices, so there they may not count as boot devices either.
    #[test]
    fn boot_and_rom_only_where_they_mean_something() {
        let xml = "<a>\n  <boot order='1'/>\n  <rom bar='off'/>\n</a>\n";
        let again = |read: fn(Node<'_>) -> Result<DeviceInfo>| {
            let write = |info: &DeviceInfo, w: &mut Writer| w.element("a", |w| info.write(w, FormatOptions::default()));
            rewrite(xml, read, write).expect("reads")
        };
        assert_eq!(again(DeviceInfo::read), "<a/>\n");
        assert_eq!(again(DeviceInfo::read_bootable), "<a>\n  <boot order='1'/>\n</a>\n");
        assert_eq!(again(DeviceInfo::read_with_rom), xml);
    }
}
