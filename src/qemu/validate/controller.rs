//! `<controller>`: what the machine and QEMU's controllers allow.

use super::{Check, refuse};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;
use crate::domain_xml::tune::iothread_ids;
use crate::domain_xml::validate::controller_attributes;
use crate::qemu::complete::{Chipset, chipset_of};

/// Every controller of a completed definition.
pub(super) fn controllers(def: &DomainDef) -> Check {
    for device in &def.controllers {
        let checked = match device.kind {
            ControllerType::Pci => pci(def, device),
            ControllerType::Scsi => scsi(def, device),
            ControllerType::Ide => ide(def, device),
            ControllerType::Usb => usb(device),
            ControllerType::Isa | ControllerType::Xenbus if chipset_of(def) == Chipset::I440fx => {
                refuse!(InternalError, "Cannot automatically add a new PCI bus for a device with connect flags 00")
            }
            ControllerType::Nvme => {
                refuse!(XmlError, "Invalid value for attribute 'type' in element 'controller': 'nvme'.")
            }
            _ => Ok(()),
        };
        let checked = checked.and_then(|()| queues(device)).and_then(|()| channel_io(def, device));
        checked.map_err(|error| error.about_one("devices/controller", 0, controller_attributes(device)))?;
    }
    Ok(())
}

fn queues(controller: &Controller) -> Check {
    let model = controller.model.as_deref().unwrap_or_default();
    let virtio = matches!(model, "virtio-scsi" | "virtio-transitional" | "virtio-non-transitional");
    if controller.kind == ControllerType::Scsi && virtio {
        return Ok(());
    }
    let driver = &controller.driver;
    let set = [
        ("queues", driver.queues.is_some()),
        ("cmd_per_lun", driver.cmd_per_lun.is_some()),
        ("max_sectors", driver.max_sectors.is_some()),
        ("ioeventfd", driver.ioeventfd.is_some()),
    ];
    match set.iter().find(|(_, given)| *given) {
        Some((name, _)) => refuse!(ConfigUnsupported, "'{name}' is only supported by virtio-scsi controller"),
        None => Ok(()),
    }
}

/// Channel I/O is what mainframes have.
fn channel_io(def: &DomainDef, controller: &Controller) -> Check {
    let virtio = controller.kind == ControllerType::VirtioSerial
        || controller.model.as_deref().is_some_and(|model| model.starts_with("virtio"));
    let ccw = matches!(controller.info.address, Some(DeviceAddress::Ccw { .. }));
    let machine = def.os.machine.as_deref().unwrap_or_default();
    refuse!(
        if virtio && ccw, ConfigUnsupported,
        "CCW addresses are not supported by machine type '{machine}'"
    );
    Ok(())
}

fn ide(def: &DomainDef, controller: &Controller) -> Check {
    refuse!(
        if chipset_of(def) == Chipset::Q35, ConfigUnsupported,
        "IDE controllers are unsupported for this QEMU binary or machine type"
    );
    refuse!(
        if chipset_of(def) == Chipset::I440fx && controller.index.unwrap_or(0) != 0, ConfigUnsupported,
        "Only a single IDE controller is supported for this machine type"
    );
    Ok(())
}

fn usb(controller: &Controller) -> Check {
    refuse!(
        if matches!(controller.model.as_deref(), Some("qusb1" | "qusb2")), ConfigUnsupported,
        "USB controller model type 'qusb1' or 'qusb2' is not supported in qemu"
    );
    Ok(())
}

fn scsi(def: &DomainDef, controller: &Controller) -> Check {
    if let Some(model @ "buslogic") = controller.model.as_deref() {
        refuse!(ConfigUnsupported, "Unsupported controller model: {model}")?;
    }
    let Some(id) = controller.driver.iothread else { return Ok(()) };
    let place = matches!(controller.info.address, None | Some(DeviceAddress::Pci { .. } | DeviceAddress::Ccw { .. }));
    refuse!(
        if !place, ConfigUnsupported,
        "virtio-scsi IOThreads only available for virtio pci and virtio ccw controllers"
    );
    refuse!(
        if !iothread_ids(def).contains(&id), ConfigUnsupported,
        "controller iothread '{id}' not defined in iothreadid"
    );
    Ok(())
}

/// Device names that a model of PCI controller can have, best known first.
fn model_names(model: &str) -> &'static [&'static str] {
    match model {
        "pci-bridge" => &["pci-bridge"],
        "dmi-to-pci-bridge" => &["i82801b11-bridge"],
        "pcie-root-port" => &["ioh3420", "pcie-root-port"],
        "pcie-switch-upstream-port" => &["x3130-upstream"],
        "pcie-switch-downstream-port" => &["xio3130-downstream"],
        "pci-expander-bus" => &["pxb"],
        "pcie-expander-bus" => &["pxb-pcie"],
        "pcie-to-pci-bridge" => &["pcie-pci-bridge"],
        _ => &[],
    }
}

const ALL_NAMES: &[&str] = &[
    "pci-bridge",
    "i82801b11-bridge",
    "ioh3420",
    "x3130-upstream",
    "xio3130-downstream",
    "pxb",
    "pxb-pcie",
    "pcie-root-port",
    "spapr-pci-host-bridge",
    "pcie-pci-bridge",
];

fn pci(def: &DomainDef, controller: &Controller) -> Check {
    let Some(model) = controller.model.as_deref() else {
        return refuse!(InternalError, "PCI controller model was not set correctly");
    };
    let (index, options, chipset) = (controller.index.unwrap_or(0), &controller.pci, chipset_of(def));
    if let Some(name) = options.model_name.as_deref().filter(|name| !ALL_NAMES.contains(name)) {
        refuse!(XmlError, "Invalid value for attribute 'name' in element 'model': '{name}'.")?;
    }
    let name = options.model_name.as_deref().unwrap_or("none");
    let named = |what: &str, option: &str| {
        refuse!(
            ConfigUnsupported,
            "Option '{option}' {what} for PCI controller with index '{index}', model '{model}' and modelName '{name}'"
        )
    };
    let cells = def.cpu.as_ref().map_or(0, |cpu| cpu.numa_cells.len() as u32);
    let target = options.target.clone().unwrap_or_default();
    if let Some(node) = target.node.filter(|node| *node >= cells) {
        refuse!(
            XmlError,
            "{model} with index {index} is configured for a NUMA node ({node}) not present in the domain's \
             <cpu><numa> array ({cells})"
        )?;
    }
    match (model, chipset) {
        ("pci-expander-bus", Chipset::Q35) => {
            refuse!(ConfigUnsupported, "pci-expander-bus controllers are only supported on 440fx-based machinetypes")?
        }
        ("pcie-expander-bus", Chipset::I440fx) => {
            refuse!(ConfigUnsupported, "pcie-expander-bus controllers are not supported with this machine type")?
        }
        _ => {}
    }
    let names = model_names(model);
    if !names.is_empty() && options.model_name.is_some() && !names.contains(&name) {
        return named("has invalid value", "modelName");
    }
    if names.is_empty() && options.model_name.is_some() {
        return named("is not valid", "modelName");
    }
    let port = matches!(model, "pcie-root-port" | "pcie-switch-downstream-port");
    let expander = matches!(model, "pci-expander-bus" | "pcie-expander-bus");
    let root = matches!(model, "pci-root" | "pcie-root");
    let set = [
        ("targetIndex", target.index.is_some(), false),
        ("pcihole64", options.hole64.is_some(), root || port),
        ("busNr", target.bus_nr.is_some(), expander),
        ("chassisNr", target.chassis_nr.is_some(), model == "pci-bridge"),
        ("chassis", target.chassis.is_some(), port),
        ("port", target.port.is_some(), port),
        ("numaNode", target.node.is_some(), expander),
        ("hotplug", target.hotplug.is_some(), port || model == "pci-root"),
    ];
    match set.iter().find(|(_, given, allowed)| *given && !allowed) {
        Some((option, ..)) => named("is not valid", option),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "pc",
        "<controller type='ide' index='1'/>",
        "unsupported configuration: Only a single IDE controller is supported for this machine type (line 2"
    )]
    #[case(
        "pc",
        "<controller type='usb' model='qusb1'/>",
        "unsupported configuration: USB controller model type 'qusb1' or 'qusb2' is not supported in qemu"
    )]
    #[case(
        "pc",
        "<controller type='scsi' model='lsilogic'><driver queues='3'/></controller>",
        "unsupported configuration: 'queues' is only supported by virtio-scsi controller"
    )]
    #[case(
        "pc",
        "<controller type='scsi' model='virtio-scsi'><driver iothread='1'/></controller>",
        "unsupported configuration: controller iothread '1' not defined in iothreadid"
    )]
    #[case(
        "q35",
        "<controller type='pci' index='1' model='pcie-root-port'><target busNr='3'/></controller>",
        "unsupported configuration: Option 'busNr' is not valid for PCI controller with index '1', model 'pcie-root-port'"
    )]
    #[case(
        "q35",
        "<controller type='pci' index='1' model='pcie-root-port'><model name='pxb'/></controller>",
        "unsupported configuration: Option 'modelName' has invalid value"
    )]
    #[case(
        "pc",
        "<controller type='pci' index='1' model='pci-expander-bus'><target><node>1</node></target></controller>",
        "XML error: pci-expander-bus with index 1 is configured for a NUMA node (1)"
    )]
    fn refused(#[case] machine: &str, #[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(machine, xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
