//! `<controller>`, and what USB devices ask of theirs.

use super::{Check, refuse};
use crate::domain_xml::device::*;
use crate::domain_xml::model::{DomainDef, VirtType};

/// Every controller of a definition.
pub(super) fn controllers(def: &DomainDef) -> Check {
    def.controllers.iter().try_for_each(|device| {
        let checked = controller(device).and_then(|()| root_model(def, device));
        checked.map_err(|error| error.about_one("devices/controller", 0, attributes(device)))
    })?;
    usb(def)
}

/// What tells a controller from others: the definition's order is not the document's.
pub fn attributes(controller: &Controller) -> Vec<(&'static str, String)> {
    let mut out = vec![("type", controller.kind.to_string())];
    out.extend(controller.index.map(|index| ("index", index.to_string())));
    out
}

/// The root bus needs no controller element, but one that is there has to say what it is.
fn root_model(def: &DomainDef, controller: &Controller) -> Check {
    let nameless = controller.kind == ControllerType::Pci && controller.index == Some(0) && controller.model.is_none();
    if !nameless || !matches!(def.virt_type, VirtType::Qemu | VirtType::Kvm) {
        return Ok(());
    }
    let q35 = def.os.machine.as_deref().is_some_and(|machine| machine.contains("q35"));
    let root = if q35 { "pcie-root" } else { "pci-root" };
    refuse!(
        XmlError,
        "The PCI controller with index='0' must be model='{root}' for this machine type, but model='(null)' was found \
         instead"
    )
}

fn controller(controller: &Controller) -> Check {
    let model = controller.model.as_deref().unwrap_or_default();
    let root = matches!(model, "pci-root" | "pcie-root");
    let bridge = controller.kind == ControllerType::Pci && controller.index.unwrap_or(1) != 0;
    refuse!(
        if bridge && controller.model.is_none(), InternalError,
        "PCI controller model was not set correctly"
    );
    for (name, value) in [("index", controller.index), ("ports", controller.ports), ("vectors", controller.vectors)] {
        let Some(value) = value.filter(|value| i32::try_from(*value).is_err()) else { continue };
        refuse!(
            XmlError,
            "Invalid value for attribute '{name}' in element 'controller': '{value}'. Expected integer value"
        )?;
    }
    refuse!(
        if root && controller.index.unwrap_or(0) != 0, XmlError,
        "pci-root and pcie-root controllers should have index 0"
    );
    refuse!(
        if root && controller.info.address.is_some(), ConfigUnsupported,
        "pci-root and pcie-root controllers should not have an address"
    );
    let xhci = matches!(model, "nec-xhci" | "qemu-xhci");
    refuse!(
        if xhci && controller.ports.is_some_and(|ports| ports > 15), ConfigUnsupported,
        "'{model}' controller only supports up to '15' ports"
    );
    if let Some(target) = &controller.pci.target {
        let ranges = [
            ("chassisNr", target.chassis_nr, 1, 255),
            ("chassis", target.chassis, 0, 255),
            ("port", target.port, 0, 255),
            ("busNr", target.bus_nr, 1, 254),
        ];
        for (name, value, low, high) in ranges {
            let Some(value) = value else { continue };
            refuse!(
                if !(low..=high).contains(&value), ConfigUnsupported,
                "PCI controller {name} '{value}' out of range - must be {low}-{high}"
            );
        }
    }
    let scsi = controller.kind == ControllerType::Scsi
        && matches!(model, "virtio-scsi" | "virtio-transitional" | "virtio-non-transitional" | "");
    refuse!(
        if controller.driver.iothread.is_some() && !scsi, XmlError,
        "'iothread' attribute only supported for virtio scsi controllers"
    );
    Ok(())
}

fn usb(def: &DomainDef) -> Check {
    let controllers = || def.controllers.iter().filter(|controller| controller.kind == ControllerType::Usb);
    let real = || controllers().filter(|controller| controller.model.as_deref() != Some("none"));
    let master = |c: &Controller| c.info.master_startport.is_none() && !is_companion(c);
    refuse!(
        if real().next().is_some() && !real().any(master), XmlDetail,
        "No master USB controller specified"
    );
    let off = controllers().any(|controller| controller.model.as_deref() == Some("none"));
    if !off {
        return Ok(());
    }
    refuse!(
        if controllers().count() > 1, XmlDetail,
        "Can't add another USB controller: USB is disabled for this domain"
    );
    let inputs = def.inputs.iter().any(|input| input.bus == Some(InputBus::Usb));
    refuse!(if inputs, ConfigUnsupported, "Can't add USB input device. USB bus is disabled");
    refuse!(
        if !def.hubs.is_empty(), ConfigUnsupported,
        "Can't add USB hub: USB is disabled for this domain"
    );
    let hostdevs = def.hostdevs.iter().any(|hostdev| matches!(hostdev.source, HostdevSource::Usb(_)));
    refuse!(if hostdevs, ConfigUnsupported, "Can't add host USB device: USB is disabled in this host");
    let disks = def.disks.iter().any(|disk| disk.target.bus == Some(DiskBus::Usb));
    let serials = def.serials.iter().any(|serial| serial.target_type == Some(SerialTarget::Usb));
    let sounds = def.sounds.iter().any(|sound| sound.model == SoundModel::Usb);
    let others = disks || serials || sounds || !def.redirdevs.is_empty() || !def.smartcards.is_empty();
    refuse!(
        if others, ConfigUnsupported,
        "USB is disabled for this domain, but USB devices are present in the domain XML"
    );
    Ok(())
}

fn is_companion(controller: &Controller) -> bool {
    controller.model.as_deref().is_some_and(|model| model.starts_with("ich9-uhci"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<controller type='pci' index='1' model='pci-root'/>",
        "XML error: pci-root and pcie-root controllers should have index 0 (line 1"
    )]
    #[case(
        "<controller type='pci' index='0'/>",
        "XML error: The PCI controller with index='0' must be model='pci-root'"
    )]
    #[case("<controller type='pci' index='1'/>", "internal error: PCI controller model was not set correctly")]
    #[case(
        "<controller type='usb' model='nec-xhci' ports='16'/>",
        "unsupported configuration: 'nec-xhci' controller only supports up to '15' ports"
    )]
    #[case(
        "<controller type='pci' index='1' model='pci-bridge'><target chassisNr='0'/></controller>",
        "unsupported configuration: PCI controller chassisNr '0' out of range - must be 1-255"
    )]
    #[case(
        "<controller type='scsi' model='lsilogic'><driver iothread='1'/></controller>",
        "XML error: 'iothread' attribute only supported for virtio scsi controllers"
    )]
    #[case("<controller type='usb' model='ich9-uhci1'/>", "No master USB controller specified")]
    #[case(
        "<controller type='usb' model='none'/><hub type='usb'/>",
        "unsupported configuration: Can't add USB hub: USB is disabled for this domain"
    )]
    #[case(
        "<controller type='usb' model='none'/><sound model='usb'/>",
        "unsupported configuration: USB is disabled for this domain, but USB devices are present"
    )]
    #[case(
        "<controller type='usb' index='4294967295'/>",
        "XML error: domain/devices/controller/@index is 4294967295, and at most 65535 is possible"
    )]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
