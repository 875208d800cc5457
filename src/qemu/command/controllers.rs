//! Controllers and hubs. What the machine has built in gets no argument.

use super::{Builder, Props, alias, not_yet, pci_address, usb_address, virtio_options};
use crate::domain_xml::device::*;
use crate::error::{Error, Result};
use crate::qemu::complete::{Chipset, chipset_of};

/// The order libvirt writes kinds in.
const ORDER: &[ControllerType] = &[
    ControllerType::Pci,
    ControllerType::Usb,
    ControllerType::Scsi,
    ControllerType::Ide,
    ControllerType::Sata,
    ControllerType::VirtioSerial,
    ControllerType::Ccid,
    ControllerType::Nvme,
];

pub(super) fn controllers(b: &mut Builder<'_>) -> Result<()> {
    for kind in ORDER {
        for position in 0..b.def.controllers.len() {
            let controller = &b.def.controllers[position];
            if controller.kind != *kind {
                continue;
            }
            if let Some(device) = device(b, controller)? {
                b.device(&device);
            }
        }
    }
    let unknown = b.def.controllers.iter().find(|c| !ORDER.contains(&c.kind) && c.kind != ControllerType::Fdc);
    match unknown {
        Some(controller) => Err(not_yet(format!("<controller type='{}'>", controller.kind))),
        None => Ok(()),
    }
}

fn device(b: &Builder<'_>, c: &Controller) -> Result<Option<Props>> {
    let chipset = chipset_of(b.def);
    let index = c.index.unwrap_or(0);
    let address = pci_address(b.def, &c.info)?;
    Ok(match c.kind {
        ControllerType::Pci => pci(b, c)?,
        ControllerType::Usb => usb(b, c)?,
        ControllerType::Scsi => Some(scsi(c)?.join(address)),
        ControllerType::Ide if index == 0 => None,
        ControllerType::Ide => {
            let text = format!("Only a single IDE controller is supported for this machine type (index {index})");
            return Err(Error::unsupported_config(text));
        }
        ControllerType::Sata if index == 0 && chipset == Chipset::Q35 => None,
        ControllerType::Sata => Some(Props::device("ahci", alias(&c.info)?).join(address)),
        ControllerType::VirtioSerial => {
            let model = c.model.as_deref().unwrap_or("virtio");
            let p = Props::new().set("driver", super::virtio_driver("virtio-serial", model));
            let p = p.join(virtio_options(&c.driver.virtio)).set("id", alias(&c.info)?);
            Some(p.set_opt("max_ports", c.ports).set_opt("vectors", c.vectors).join(address))
        }
        ControllerType::Ccid => Some(Props::device("usb-ccid", alias(&c.info)?).join(usb_address(b.def, &c.info)?)),
        ControllerType::Nvme => return Err(not_yet("<controller type='nvme'>")),
        ControllerType::Fdc | ControllerType::Xenbus | ControllerType::Isa => None,
    })
}

/// What is said of the bridge that the machine has built in.
pub(super) fn host_bridge(b: &mut Builder<'_>) {
    let def = b.def;
    let (bridge, manager) = match chipset_of(def) {
        Chipset::Q35 => ("q35-pcihost", "ICH9-LPC"),
        _ => ("i440FX-pcihost", "PIIX4_PM"),
    };
    let roots = def.controllers.iter().filter(|c| matches!(c.model.as_deref(), Some("pci-root" | "pcie-root")));
    for root in roots {
        if let Some(kib) = root.pci.hole64 {
            b.arg("-global", format!("{bridge}.pci-hole64-size={kib}K"));
        }
        let hotplug = root.pci.target.as_ref().and_then(|target| target.hotplug);
        if let Some(hotplug) = hotplug.filter(|_| bridge == "i440FX-pcihost") {
            b.arg("-global", format!("{manager}.acpi-root-pci-hotplug={}", hotplug.as_str()));
        }
    }
}

fn pci(b: &Builder<'_>, c: &Controller) -> Result<Option<Props>> {
    let model = c.model.as_deref().unwrap_or_default();
    if matches!(model, "pci-root" | "pcie-root") {
        return Ok(None);
    }
    let name = c.pci.model_name.as_deref().unwrap_or_default();
    let target = c.pci.target.clone().unwrap_or_default();
    let id = alias(&c.info)?;
    let p = Props::new().set("driver", name);
    let p = match model {
        "pci-bridge" => p.set_opt("chassis_nr", target.chassis_nr),
        "dmi-to-pci-bridge" | "pcie-to-pci-bridge" | "pcie-switch-upstream-port" => p,
        "pcie-root-port" | "pcie-switch-downstream-port" => {
            let p = p.set_opt("port", target.port).set_opt("chassis", target.chassis);
            p.set_opt("hotplug", target.hotplug.filter(|h| !h.is_on()).map(|_| false))
        }
        "pci-expander-bus" | "pcie-expander-bus" => {
            if target.node.is_some() {
                return Err(not_yet("<node> of an expander bus"));
            }
            p.set_opt("bus_nr", target.bus_nr)
        }
        other => return Err(not_yet(format!("<controller type='pci' model='{other}'>"))),
    };
    Ok(Some(p.set("id", id).join(pci_address(b.def, &c.info)?)))
}

fn usb(b: &Builder<'_>, c: &Controller) -> Result<Option<Props>> {
    let driver = match c.model.as_deref() {
        None | Some("none") => return Ok(None),
        Some("piix3-uhci") => "piix3-usb-uhci",
        Some("piix4-uhci") => "piix4-usb-uhci",
        Some("ehci") => "usb-ehci",
        Some("ich9-ehci1") => "ich9-usb-ehci1",
        Some("ich9-uhci1") => "ich9-usb-uhci1",
        Some("ich9-uhci2") => "ich9-usb-uhci2",
        Some("ich9-uhci3") => "ich9-usb-uhci3",
        Some("vt82c686b-uhci") => "vt82c686b-usb-uhci",
        Some("pci-ohci") => "pci-ohci",
        Some("nec-xhci") => "nec-usb-xhci",
        Some("qemu-xhci") => "qemu-xhci",
        Some(other) => {
            return Err(Error::unsupported_config(format!("{other} not supported in this QEMU binary")));
        }
    };
    let mut p = Props::new().set("driver", driver);
    if driver.ends_with("xhci") {
        p = p.set_opt("p2", c.ports).set_opt("p3", c.ports);
    }
    let id = alias(&c.info)?;
    p = match c.info.master_startport {
        Some(first) => p.set("masterbus", format!("{id}.0")).set("firstport", first),
        None => p.set("id", id),
    };
    Ok(Some(p.join(pci_address(b.def, &c.info)?)))
}

fn scsi(c: &Controller) -> Result<Props> {
    let id = alias(&c.info)?;
    let model = c.model.as_deref().unwrap_or("lsilogic");
    let driver = match model {
        "virtio-scsi" | "virtio-transitional" | "virtio-non-transitional" => {
            let word = if model == "virtio-scsi" { "virtio" } else { model };
            let on = |switch: Option<crate::domain_xml::Switch>| switch.map(|switch| switch.is_on());
            let p = Props::new().set("driver", super::virtio_driver("virtio-scsi", word));
            let p = p.join(virtio_options(&c.driver.virtio));
            let p = p.set_opt("iothread", c.driver.iothread.map(|id| format!("iothread{id}")));
            let p = p.set("id", id).set_opt("num_queues", c.driver.queues).set_opt("cmd_per_lun", c.driver.cmd_per_lun);
            return Ok(p.set_opt("max_sectors", c.driver.max_sectors).set_opt("ioeventfd", on(c.driver.ioeventfd)));
        }
        "lsilogic" => "lsi",
        "lsisas1068" => "mptsas1068",
        "lsisas1078" => "megasas",
        "vmpvscsi" => "pvscsi",
        "am53c974" => "am53c974",
        "dc390" => "dc-390",
        other => return Err(Error::unsupported_config(format!("Unsupported controller model: {other}"))),
    };
    Ok(Props::device(driver, id))
}

pub(super) fn hubs(b: &mut Builder<'_>) -> Result<()> {
    for hub in &b.def.hubs {
        let device = Props::device("usb-hub", alias(&hub.info)?).join(usb_address(b.def, &hub.info)?);
        b.device(&device);
    }
    Ok(())
}
