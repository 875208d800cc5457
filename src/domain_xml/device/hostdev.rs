//! `<hostdev>`.

use super::info::{DeviceInfo, read_pci, write_pci};
use super::interface::Teaming;
use super::net_options::{IpAddress, Route, read_ips, write_ips};
use super::storage::{Elsewhere, StorageKind, StorageSource};
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::{Switch, YesNo, attrs, words};
use crate::error::{Code, Result};
use crate::types::PciAddress;
use crate::xml::{Node, Writer};

/// `<hostdev>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hostdev {
    pub managed: Option<YesNo>,
    pub source: HostdevSource,
    pub readonly: bool,
    pub shareable: bool,
    pub teaming: Option<Teaming>,
    /// `display` and `ramfb` of a PCI device.
    pub display: Option<Switch>,
    pub ramfb: Option<Switch>,
    pub info: DeviceInfo,
}

/// What of the host is handed over.
#[derive(Clone, Debug, PartialEq)]
pub enum HostdevSource {
    /// `mode='subsystem' type='usb'`.
    Usb(UsbHostdev),
    /// `mode='subsystem' type='pci'`.
    Pci { address: PciAddress, driver: Option<HostdevPciDriver>, write_filtering: Option<YesNo> },
    /// `mode='subsystem' type='scsi'`.
    Scsi {
        /// `scsi_hostN`.
        adapter: String,
        bus: u32,
        target: u32,
        unit: u64,
        sgio: Option<super::disk::Sgio>,
        rawio: Option<YesNo>,
    },
    /// `mode='subsystem' type='scsi'` with `protocol='iscsi'`: the emulator itself talks to the target.
    Iscsi { target: Box<StorageSource>, sgio: Option<super::disk::Sgio>, rawio: Option<YesNo> },
    /// `mode='subsystem' type='scsi_host'` over vhost.
    ScsiHost { wwpn: String, model: Option<String> },
    /// `mode='subsystem' type='mdev'`.
    Mdev { uuid: String, model: Option<String>, display: Option<Switch>, ramfb: Option<Switch> },
    /// `mode='capabilities' type='storage'`.
    Storage { block: String },
    /// `mode='capabilities' type='misc'`.
    Misc { char_device: String },
    /// `mode='capabilities' type='net'`.
    Net { interface: String, ips: Vec<IpAddress>, routes: Vec<Route> },
}

/// A USB device, by name, by place, or both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsbHostdev {
    pub vendor: Option<u32>,
    pub product: Option<u32>,
    pub bus: Option<u32>,
    pub device: Option<u32>,
    pub startup_policy: Option<super::storage::StartupPolicy>,
    pub guest_reset: Option<UsbGuestReset>,
}

attrs! {
    /// `<driver>` of a PCI device.
    pub struct HostdevPciDriver {
        name: String = "name",
        model: String = "model",
    }
}

words! {
    /// `guestReset`.
    pub enum UsbGuestReset { Off = "off", Uninitialized = "uninitialized", On = "on" }
}

impl Hostdev {
    /// Reads `<hostdev>`. Errors: codes 27 and 67.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mode = node.attr("mode").unwrap_or("subsystem");
        let kind = node.attr("type").ok_or_else(|| node.missing_attr("type"))?;
        let source = node
            .child("source")
            .ok_or_else(|| node.error(Code::XmlError, "Missing <source> element in hostdev device"))?;
        let source = match (mode, kind) {
            ("subsystem", "usb") => HostdevSource::Usb(UsbHostdev::read(source)?),
            ("subsystem", "pci") => HostdevSource::Pci {
                address: source.child("address").map(read_pci).transpose()?.unwrap_or_default(),
                driver: node.child("driver").map(HostdevPciDriver::read).transpose()?,
                write_filtering: source.attr_value("writeFiltering")?,
            },
            ("subsystem", "scsi") => read_scsi(node, source)?,
            ("subsystem", "scsi_host") => {
                source.attr("protocol");
                HostdevSource::ScsiHost { wwpn: source.require("wwpn")?, model: node.attr("model").map(str::to_string) }
            }
            ("subsystem", "mdev") => HostdevSource::Mdev {
                uuid: match source.child("address") {
                    Some(address) => address.require("uuid")?,
                    None => return Err(source.error(Code::XmlError, "Missing <address> element")),
                },
                model: node.attr("model").map(str::to_string),
                display: node.attr_value("display")?,
                ramfb: node.attr_value("ramfb")?,
            },
            ("capabilities", "storage") => HostdevSource::Storage { block: need_text(source, "block")? },
            ("capabilities", "misc") => HostdevSource::Misc { char_device: need_text(source, "char")? },
            ("capabilities", "net") => {
                let (ips, routes) = read_ips(node)?;
                HostdevSource::Net { interface: need_text(source, "interface")?, ips, routes }
            }
            ("subsystem" | "capabilities", _) => {
                let what = format!("unknown host device source address type '{kind}'");
                return Err(node.attr_error("type", Code::ConfigUnsupported, what));
            }
            _ => return Err(node.invalid_attr("mode", None, &["subsystem", "capabilities"])),
        };
        Ok(Hostdev {
            managed: node.attr_value("managed")?,
            source,
            readonly: node.child("readonly").is_some(),
            shareable: node.child("shareable").is_some(),
            teaming: node.child("teaming").map(Teaming::read).transpose()?,
            display: if kind == "pci" { node.attr_value("display")? } else { None },
            ramfb: if kind == "pci" { node.attr_value("ramfb")? } else { None },
            info: DeviceInfo::read_with_rom(node)?,
        })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.start("hostdev");
        let (mode, kind) = self.source.words();
        w.attr("mode", mode);
        w.attr("type", kind);
        if mode == "subsystem" {
            w.attr("managed", self.managed.unwrap_or(YesNo::No));
        }
        match &self.source {
            HostdevSource::Scsi { sgio, rawio, .. } | HostdevSource::Iscsi { sgio, rawio, .. } => {
                w.attr_opt("sgio", *sgio);
                w.attr_opt("rawio", *rawio);
            }
            HostdevSource::Mdev { model, display, ramfb, .. } => {
                w.attr_opt("model", model.as_ref());
                w.attr_opt("display", *display);
                w.attr_opt("ramfb", *ramfb);
            }
            HostdevSource::ScsiHost { model, .. } => w.attr_opt("model", model.as_ref()),
            HostdevSource::Pci { driver, .. } => {
                w.attr_opt("display", self.display);
                w.attr_opt("ramfb", self.ramfb);
                if let Some(driver) = driver {
                    driver.write("driver", w);
                }
            }
            _ => {}
        }
        match &self.source {
            HostdevSource::Iscsi { target, .. } => target.write_source(w, o, false, Elsewhere::default()),
            source => w.element("source", |w| source.write(w)),
        }
        if let HostdevSource::Net { ips, routes, .. } = &self.source {
            write_ips(w, ips, routes);
        }
        if let Some(teaming) = &self.teaming {
            teaming.write("teaming", w);
        }
        w.empty_if("readonly", self.readonly);
        w.empty_if("shareable", self.shareable);
        self.info.write(w, o);
        w.end();
    }
}

impl HostdevSource {
    /// `mode` and `type`.
    pub fn words(&self) -> (&'static str, &'static str) {
        match self {
            HostdevSource::Usb(_) => ("subsystem", "usb"),
            HostdevSource::Pci { .. } => ("subsystem", "pci"),
            HostdevSource::Scsi { .. } | HostdevSource::Iscsi { .. } => ("subsystem", "scsi"),
            HostdevSource::ScsiHost { .. } => ("subsystem", "scsi_host"),
            HostdevSource::Mdev { .. } => ("subsystem", "mdev"),
            HostdevSource::Storage { .. } => ("capabilities", "storage"),
            HostdevSource::Misc { .. } => ("capabilities", "misc"),
            HostdevSource::Net { .. } => ("capabilities", "net"),
        }
    }

    fn write(&self, w: &mut Writer) {
        match self {
            HostdevSource::Usb(usb) => usb.write(w),
            HostdevSource::Pci { address, write_filtering, .. } => {
                w.attr_opt("writeFiltering", *write_filtering);
                w.element("address", |w| write_pci(w, address));
            }
            HostdevSource::Scsi { adapter, bus, target, unit, .. } => {
                w.element("adapter", |w| w.attr("name", adapter));
                w.element("address", |w| {
                    w.attr("bus", bus);
                    w.attr("target", target);
                    w.attr("unit", unit);
                });
            }
            HostdevSource::ScsiHost { wwpn, .. } => {
                w.attr("protocol", "vhost");
                w.attr("wwpn", wwpn);
            }
            // Written as a network source.
            HostdevSource::Iscsi { .. } => {}
            HostdevSource::Mdev { uuid, .. } => w.element("address", |w| w.attr("uuid", uuid)),
            HostdevSource::Storage { block } => w.text("block", block),
            HostdevSource::Misc { char_device } => w.text("char", char_device),
            HostdevSource::Net { interface, .. } => w.text("interface", interface),
        }
    }
}

fn need_text(source: Node<'_>, name: &'static str) -> Result<String> {
    source
        .child_string(name)
        .ok_or_else(|| source.error(Code::XmlError, format!("Missing <{name}> element in hostdev {name} device")))
}

fn read_scsi(node: Node<'_>, source: Node<'_>) -> Result<HostdevSource> {
    match source.attr("protocol") {
        None | Some("adapter") => {}
        Some("iscsi") => {
            let mut target = StorageSource { kind: StorageKind::Network, ..Default::default() };
            target.read_source(source)?;
            if let Some(name) = target.network.as_mut().and_then(|network| network.name.as_mut())
                && !name.contains('/')
            {
                name.push_str("/0");
            }
            let (sgio, rawio) = (node.attr_value("sgio")?, node.attr_value("rawio")?);
            return Ok(HostdevSource::Iscsi { target: Box::new(target), sgio, rawio });
        }
        Some(_) => return Err(source.invalid_attr("protocol", None, &["adapter", "iscsi"])),
    }
    let (Some(adapter), Some(address)) = (source.child("adapter"), source.child("address")) else {
        let what = "'adapter' and 'address' must be specified for scsi hostdev source";
        return Err(source.error(Code::XmlError, what));
    };
    Ok(HostdevSource::Scsi {
        adapter: adapter.require("name")?,
        bus: address.require("bus")?,
        target: address.require("target")?,
        unit: address.require("unit")?,
        sgio: node.attr_value("sgio")?,
        rawio: node.attr_value("rawio")?,
    })
}

impl UsbHostdev {
    fn read(source: Node<'_>) -> Result<Self> {
        let mut usb = UsbHostdev {
            startup_policy: source.attr_value("startupPolicy")?,
            guest_reset: source.attr_value("guestReset")?,
            ..Default::default()
        };
        if let Some(vendor) = source.child("vendor") {
            usb.vendor = vendor.attr_any_base32("id")?;
        }
        if let Some(product) = source.child("product") {
            usb.product = product.attr_any_base32("id")?;
        }
        if usb.vendor.is_some() != usb.product.is_some() {
            return Err(source.error(Code::XmlError, "usb vendor and product must be given together"));
        }
        if let Some(address) = source.child("address") {
            usb.bus = address.attr_any_base32("bus")?;
            usb.device = address.attr_any_base32("device")?;
        }
        if usb.vendor.is_none() && usb.device.is_none() {
            return Err(source.error(Code::XmlError, "usb address or vendor must be given"));
        }
        Ok(usb)
    }

    fn write(&self, w: &mut Writer) {
        w.attr_opt("startupPolicy", self.startup_policy);
        w.attr_opt("guestReset", self.guest_reset);
        if let (Some(vendor), Some(product)) = (self.vendor, self.product) {
            w.element("vendor", |w| w.attr("id", format_args!("{vendor:#06x}")));
            w.element("product", |w| w.attr("id", format_args!("{product:#06x}")));
        }
        if self.bus.is_some() || self.device.is_some() {
            w.element("address", |w| {
                w.attr_opt("bus", self.bus);
                w.attr_opt("device", self.device);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<hostdev mode='subsystem' type='usb' managed='no'>\n  <source startupPolicy='optional'>\n    <vendor id='0x1234'/>\n    \
            <product id='0xbeef'/>\n    <address bus='14' device='6'/>\n  </source>\n</hostdev>\n"
    )]
    #[case(
        "<hostdev mode='subsystem' type='pci' managed='yes'>\n  <driver name='vfio'/>\n  <source>\n    \
            <address domain='0x0000' bus='0x06' slot='0x12' function='0x5'/>\n  </source>\n</hostdev>\n"
    )]
    #[case(
        "<hostdev mode='capabilities' type='net'>\n  <source>\n    <interface>eth0</interface>\n  </source>\n  \
            <ip address='10.0.0.2' family='ipv4'/>\n</hostdev>\n"
    )]
    #[case(
        "<hostdev mode='capabilities' type='misc'>\n  <source>\n    <char>/dev/input/event3</char>\n  </source>\n</hostdev>\n"
    )]
    fn round_trips(#[case] xml: &str) {
        assert_eq!(rewrite(xml, Hostdev::read, |h, w| h.write(w, FormatOptions::default())).expect("reads"), xml);
    }

    #[rstest]
    #[case("<hostdev mode='subsystem' type='usb'/>", "Missing <source> element in hostdev device")]
    #[case(
        "<hostdev mode='subsystem' type='moon'><source/></hostdev>",
        "unknown host device source address type 'moon'"
    )]
    #[case("<hostdev mode='capabilities' type='misc'><source/></hostdev>", "Missing <char> element")]
    #[case("<hostdev mode='sub' type='usb'><source/></hostdev>", "attribute 'mode' in element 'hostdev': 'sub'")]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let error = rewrite(xml, Hostdev::read, |_, _| {}).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
    }
}
