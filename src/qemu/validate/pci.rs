//! Places of devices: PCI addresses that are taken, or on a bus that does not take the device; USB ports without a hub.
//! The addresses that nobody gave are right by construction, see [`crate::qemu::addresses`].

use super::{Check, refuse};
use crate::domain_xml::device::*;
use crate::domain_xml::validate::controller_attributes;
use crate::domain_xml::{DomainDef, infos};
use crate::error::Error;
use crate::qemu::addresses::BusKind;
use crate::qemu::complete::{Chipset, chipset_of};
use crate::types::PciAddress;

/// Every address of a completed definition.
pub(super) fn places(def: &DomainDef) -> Check {
    unassigned(def)?;
    usb_hubs(def)?;
    if !matches!(chipset_of(def), Chipset::I440fx | Chipset::Q35) {
        return Ok(());
    }
    controllers_fit(def)?;
    integrated(def)?;
    built_in(def)?;
    twice(def)
}

/// The bus of a number, and its controller's model.
fn bus(def: &DomainDef, number: u32) -> Option<BusKind> {
    let of = |c: &&Controller| c.kind == ControllerType::Pci && c.index.unwrap_or(0) == number;
    def.controllers.iter().find(of).and_then(|c| BusKind::from_model(c.model.as_deref()?))
}

/// Whether a PCI controller may sit on a bus when its place was given by hand.
fn accepts(bus: BusKind, controller: BusKind) -> bool {
    use BusKind::*;
    match bus {
        PciRoot => matches!(controller, PciBridge | Expander),
        PcieRoot => matches!(controller, RootPort | DmiToPciBridge | PciBridge | PcieExpander),
        RootPort | SwitchDownstream => matches!(controller, SwitchUpstream | PcieToPciBridge | PciBridge),
        SwitchUpstream => controller == SwitchDownstream,
        PcieExpander => matches!(controller, RootPort | DmiToPciBridge),
        PciBridge | DmiToPciBridge | PcieToPciBridge | Expander => controller == PciBridge,
    }
}

fn controllers_fit(def: &DomainDef) -> Check {
    for controller in def.controllers.iter().filter(|c| c.kind == ControllerType::Pci) {
        let Some(own) = controller.model.as_deref().and_then(BusKind::from_model) else { continue };
        let Some(address) = controller.info.pci() else { continue };
        let Some(parent) = bus(def, address.bus) else { continue };
        if !accepts(parent, own) {
            let what = cannot_be_plugged(address, own.model());
            return Err(what.about_one("devices/controller", 0, controller_attributes(controller)));
        }
    }
    for (path, nth, address, express) in endpoints(def) {
        let nothing = matches!(bus(def, address.bus), Some(BusKind::SwitchUpstream | BusKind::PcieExpander));
        if nothing {
            let wanted = if express { "PCI Express device" } else { "standard PCI device" };
            return Err(cannot_be_plugged(&address, wanted).about(path, nth));
        }
    }
    Ok(())
}

fn cannot_be_plugged(address: &PciAddress, needs: &str) -> Error {
    let what = format!(
        "The device at PCI address {address} cannot be plugged into the PCI controller with index='{}'. It requires a \
         controller that accepts a {needs}.",
        address.bus
    );
    Error::new(crate::error::Code::XmlError, what)
}

/// The devices most often given a place by hand: path, position, address, whether they are PCI Express.
fn endpoints(def: &DomainDef) -> Vec<(&'static str, usize, PciAddress, bool)> {
    let mut out = Vec::new();
    let mut add = |path, nth, info: &DeviceInfo, express| {
        if let Some(address) = info.pci() {
            out.push((path, nth, *address, express));
        }
    };
    for (nth, nic) in def.interfaces.iter().enumerate() {
        let express = matches!(nic.model.as_deref(), Some("virtio" | "virtio-non-transitional" | "e1000e" | "igb"));
        add("devices/interface", nth, &nic.info, express);
    }
    for (nth, disk) in def.disks.iter().enumerate() {
        add("devices/disk", nth, &disk.info, disk.model != Some(DiskModel::VirtioTransitional));
    }
    for (nth, device) in def.hostdevs.iter().enumerate() {
        add("devices/hostdev", nth, &device.info, true);
    }
    for (nth, device) in def.rngs.iter().enumerate() {
        add("devices/rng", nth, &device.info, device.model != RngModel::VirtioTransitional);
    }
    for (nth, device) in def.videos.iter().enumerate() {
        add("devices/video", nth, &device.info, matches!(device.model.kind, VideoType::Virtio | VideoType::Bochs));
    }
    for (nth, device) in def.sounds.iter().enumerate() {
        add("devices/sound", nth, &device.info, device.model == SoundModel::Virtio);
    }
    out
}

/// Devices that are part of the root complex.
fn integrated(def: &DomainDef) -> Check {
    let iommu = def.iommu.iter().filter(|iommu| iommu.model == IommuModel::Virtio).map(|iommu| &iommu.info);
    let panics = def.panics.iter().enumerate().filter(|(_, panic)| panic.model == Some(PanicModel::Pvpanic));
    let all = iommu
        .map(|info| ("devices/iommu", 0, info))
        .chain(panics.map(|(nth, panic)| ("devices/panic", nth, &panic.info)));
    for (path, nth, info) in all {
        if let Some(address) = info.pci().filter(|address| address.bus != 0) {
            let what =
                refuse!(XmlError, "The device at PCI address {address} needs to be an integrated device (bus=0)");
            return what.map_err(|error| error.about(path, nth));
        }
    }
    Ok(())
}

fn at(slot: u32, function: u32) -> PciAddress {
    PciAddress { domain: 0, bus: 0, slot, function }
}

/// Places that the chipset has for itself.
fn built_in(def: &DomainDef) -> Check {
    let q35 = chipset_of(def) == Chipset::Q35;
    let reserved = if q35 { [at(0x1f, 0), at(0x1f, 3)] } else { [at(1, 0), at(1, 3)] };
    let fixed = |c: &&Controller| {
        c.index.unwrap_or(0) == 0
            && match c.kind {
                ControllerType::Ide => !q35,
                ControllerType::Sata => q35,
                ControllerType::Usb => !q35 && c.model.as_deref() == Some("piix3-uhci"),
                _ => false,
            }
    };
    // A controller of the chipset that did not get its place: somebody else has it.
    for controller in def.controllers.iter().filter(fixed) {
        let place = match controller.kind {
            ControllerType::Ide => at(1, 1),
            ControllerType::Sata => at(0x1f, 2),
            _ => at(1, 2),
        };
        let elsewhere = !matches!(controller.info.address, None | Some(DeviceAddress::Pci { .. }));
        if controller.info.pci() != Some(&place) && !elsewhere {
            return taken(def, &place);
        }
    }
    let mut copy = addressed(def);
    let found = infos(&mut copy).filter_map(|info| info.pci().copied()).find(|address| reserved.contains(address));
    match found {
        Some(address) => taken(def, &address),
        None => Ok(()),
    }
}

fn taken(def: &DomainDef, address: &PciAddress) -> Check {
    let error = refuse!(XmlError, "Attempted double use of PCI Address {address}");
    let last = endpoints(def).into_iter().rfind(|(_, _, other, _)| other == address);
    error.map_err(|error| match last {
        Some((path, nth, ..)) => error.about(path, nth),
        None => error,
    })
}

fn twice(def: &DomainDef) -> Check {
    let mut copy = addressed(def);
    let mut seen = std::collections::HashSet::new();
    let again = infos(&mut copy)
        .filter_map(|info| info.pci().copied())
        .find(|address| *address != PciAddress::default() && !seen.insert(*address));
    again.map_or(Ok(()), |address| taken(def, &address))
}

/// The definition without devices whose address says nothing.
fn addressed(def: &DomainDef) -> DomainDef {
    let mut copy = def.clone();
    // The first console stands for the first serial port.
    copy.consoles.clear();
    copy.memballoon.take_if(|balloon| balloon.model == BalloonModel::None);
    copy.inputs.retain(|input| matches!(input.bus, Some(InputBus::Usb | InputBus::Virtio)));
    copy
}

fn unassigned(def: &DomainDef) -> Check {
    let disks = def.disks.iter().map(|device| &device.info).enumerate().map(|(nth, info)| ("devices/disk", nth, info));
    let sounds =
        def.sounds.iter().map(|device| &device.info).enumerate().map(|(nth, info)| ("devices/sound", nth, info));
    let nics =
        def.interfaces.iter().map(|device| &device.info).enumerate().map(|(n, info)| ("devices/interface", n, info));
    let balloon = def.memballoon.iter().map(|device| ("devices/memballoon", 0, &device.info));
    let rngs = def.rngs.iter().map(|device| &device.info).enumerate().map(|(nth, info)| ("devices/rng", nth, info));
    let mut all = disks.chain(sounds).chain(nics).chain(balloon).chain(rngs);
    match all.find(|(.., info)| info.address == Some(DeviceAddress::Unassigned)) {
        Some((path, nth, _)) => {
            refuse!(ConfigUnsupported, "address of type 'unassigned' is supported only for hostdevs")
                .map_err(|error| error.about(path, nth))
        }
        None => Ok(()),
    }
}

/// `1.2` is a port of the hub at port `1`.
fn usb_hubs(def: &DomainDef) -> Check {
    let place = |info: &DeviceInfo| match &info.address {
        Some(DeviceAddress::Usb { bus, port: Some(port) }) => Some((*bus, port.clone())),
        _ => None,
    };
    let hubs: Vec<(u32, String)> = def.hubs.iter().filter_map(|hub| place(&hub.info)).collect();
    let mut copy = addressed(def);
    copy.inputs.retain(|input| input.bus == Some(InputBus::Usb));
    for (bus, port) in infos(&mut copy).filter_map(|info| place(info)) {
        let Some((parent, _)) = port.rsplit_once('.') else { continue };
        let mut depth = String::new();
        for part in parent.split('.') {
            depth = if depth.is_empty() { part.to_string() } else { format!("{depth}.{part}") };
            refuse!(
                if !hubs.contains(&(bus, depth.clone())), XmlError,
                "there is no hub at port {part} in USB address bus: {bus} port: {port}"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "pc",
        "<disk><source file='/x'/><target dev='vda'/><address type='pci' slot='1'/></disk>",
        "XML error: Attempted double use of PCI Address 0000:00:01.0"
    )]
    #[case(
        "q35",
        "<disk><source file='/x'/><target dev='vda'/><address type='pci' slot='31' function='3'/></disk>",
        "XML error: Attempted double use of PCI Address 0000:00:1f.3"
    )]
    #[case(
        "pc",
        "<controller type='ide' index='0'/><disk><source file='/x'/><target dev='vda'/><address type='pci' slot='1' function='1'/></disk>",
        "XML error: Attempted double use of PCI Address 0000:00:01.1"
    )]
    #[case(
        "q35",
        "<controller type='pci' index='1' model='pcie-switch-upstream-port'><address type='pci' slot='5'/></controller>",
        "XML error: The device at PCI address 0000:00:05.0 cannot be plugged into the PCI controller with index='0'. It requires a controller that accepts a pcie-switch-upstream-port."
    )]
    #[case(
        "q35",
        "<controller type='pci' index='1' model='pcie-root-port'/><panic model='pvpanic'><address type='pci' bus='1' slot='0'/></panic>",
        "XML error: The device at PCI address 0000:01:00.0 needs to be an integrated device (bus=0)"
    )]
    #[case(
        "pc",
        "<sound model='ac97'><address type='unassigned'/></sound>",
        "unsupported configuration: address of type 'unassigned' is supported only for hostdevs"
    )]
    #[case(
        "pc",
        "<input type='mouse' bus='usb'><address type='usb' bus='0' port='1.1'/></input>",
        "XML error: there is no hub at port 1 in USB address bus: 0 port: 1.1"
    )]
    fn refused(#[case] machine: &str, #[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(machine, xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
