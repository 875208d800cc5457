//! PCI addresses for a definition: built-in places, given addresses, then every other device in libvirt's order.

use super::pci_space::{BusKind, Need, PciError, PciSpace};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;
use crate::domain_xml::words::Switch;
use crate::error::{Code, Error, Result};
use crate::qemu::complete::{Chipset, is_root, pci_options};
use crate::types::PciAddress;

/// Which device; the order of giving out addresses is that of [`order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dev {
    Controller(usize),
    Filesystem(usize),
    Nic(usize),
    Sound(usize),
    Disk(usize),
    Hostdev(usize),
    Balloon,
    Rng(usize),
    Watchdog(usize),
    Video(usize),
    Shmem(usize),
    Input(usize),
    Serial(usize),
    Memory(usize),
    Panic(usize),
    Vsock,
    Iommu,
}

fn at(slot: u32, function: u32) -> PciAddress {
    PciAddress { domain: 0, bus: 0, slot, function }
}

fn refused(error: PciError) -> Error {
    match error {
        PciError::Full => Error::internal("No more available PCI slots"),
        other => Error::new(Code::XmlError, other.to_string()),
    }
}

/// Every PCI device, in the order libvirt gives out addresses.
fn order(def: &DomainDef) -> Vec<Dev> {
    let controllers = |pci: bool| {
        let of = move |c: &&Controller| (c.kind == ControllerType::Pci) == pci;
        let index = move |(i, c): (usize, &Controller)| of(&c).then_some(Dev::Controller(i));
        def.controllers.iter().enumerate().filter_map(index)
    };
    let mut out: Vec<Dev> = controllers(true).collect();
    out.extend((0..def.filesystems.len()).map(Dev::Filesystem));
    out.extend((0..def.interfaces.len()).map(Dev::Nic));
    out.extend((0..def.sounds.len()).map(Dev::Sound));
    out.extend(controllers(false));
    out.extend((0..def.disks.len()).map(Dev::Disk));
    out.extend((0..def.hostdevs.len()).map(Dev::Hostdev));
    out.extend(def.memballoon.iter().map(|_| Dev::Balloon));
    out.extend((0..def.rngs.len()).map(Dev::Rng));
    out.extend((0..def.watchdogs.len()).map(Dev::Watchdog));
    out.extend((0..def.videos.len()).map(Dev::Video));
    out.extend((0..def.shmems.len()).map(Dev::Shmem));
    out.extend((0..def.inputs.len()).map(Dev::Input));
    out.extend((0..def.serials.len()).map(Dev::Serial));
    out.extend((0..def.memory_devices.len()).map(Dev::Memory));
    out.extend((0..def.panics.len()).map(Dev::Panic));
    out.extend(def.vsock.iter().map(|_| Dev::Vsock));
    out.extend(def.iommu.iter().map(|_| Dev::Iommu));
    out
}

fn info(def: &mut DomainDef, dev: Dev) -> Option<&mut DeviceInfo> {
    Some(match dev {
        Dev::Controller(i) => &mut def.controllers[i].info,
        Dev::Filesystem(i) => &mut def.filesystems[i].info,
        Dev::Nic(i) => &mut def.interfaces[i].info,
        Dev::Sound(i) => &mut def.sounds[i].info,
        Dev::Disk(i) => &mut def.disks[i].info,
        Dev::Hostdev(i) => &mut def.hostdevs[i].info,
        Dev::Balloon => &mut def.memballoon.as_mut()?.info,
        Dev::Rng(i) => &mut def.rngs[i].info,
        Dev::Watchdog(i) => &mut def.watchdogs[i].info,
        Dev::Video(i) => &mut def.videos[i].info,
        Dev::Shmem(i) => &mut def.shmems[i].info,
        Dev::Input(i) => &mut def.inputs[i].info,
        Dev::Serial(i) => &mut def.serials[i].info,
        Dev::Memory(i) => &mut def.memory_devices[i].info,
        Dev::Panic(i) => &mut def.panics[i].info,
        Dev::Vsock => &mut def.vsock.as_mut()?.info,
        Dev::Iommu => &mut def.iommu.as_mut()?.info,
    })
}

/// What a device needs on a PCIe machine; `None` = it is no PCI device. On a PCI machine endpoints are all conventional.
fn need(def: &DomainDef, dev: Dev) -> Option<Need> {
    // A transitional virtio device has legacy I/O ports and therefore wants a conventional slot.
    let virtio = |transitional: bool| if transitional { Need::Pci } else { Need::Pcie };
    match dev {
        Dev::Controller(i) => controller_need(&def.controllers[i]),
        Dev::Filesystem(i) => Some(virtio(def.filesystems[i].model == Some(FsModel::VirtioTransitional))),
        Dev::Nic(i) => {
            let nic = &def.interfaces[i];
            if let InterfaceSource::Hostdev { address } = &nic.source {
                return (!matches!(address, Some(DeviceAddress::Usb { .. }))).then_some(Need::Pcie);
            }
            match nic.model.as_deref() {
                Some("virtio" | "virtio-non-transitional" | "e1000e" | "igb" | "vmxnet3") => Some(Need::Pcie),
                Some("usb-net" | "ne2k_isa" | "spapr-vlan") => None,
                _ => Some(Need::Pci),
            }
        }
        Dev::Sound(i) => match def.sounds[i].model {
            SoundModel::Sb16 | SoundModel::Pcspk | SoundModel::Usb => None,
            SoundModel::Virtio => Some(Need::Pcie),
            _ => Some(Need::Pci),
        },
        Dev::Disk(i) => {
            let disk = &def.disks[i];
            let transitional = disk.model == Some(DiskModel::VirtioTransitional);
            (disk.target.bus == Some(DiskBus::Virtio)).then(|| virtio(transitional))
        }
        Dev::Hostdev(i) => match def.hostdevs[i].source {
            HostdevSource::Pci { .. } | HostdevSource::Mdev { .. } => Some(Need::Pcie),
            _ => None,
        },
        Dev::Balloon => match def.memballoon.as_ref()?.model {
            BalloonModel::Virtio | BalloonModel::VirtioNonTransitional => Some(Need::Pcie),
            BalloonModel::VirtioTransitional => Some(Need::Pci),
            BalloonModel::Xen | BalloonModel::None => None,
        },
        Dev::Rng(i) => Some(virtio(def.rngs[i].model == RngModel::VirtioTransitional)),
        Dev::Watchdog(i) => (def.watchdogs[i].model == WatchdogModel::I6300esb).then_some(Need::Pci),
        Dev::Video(i) => match def.videos[i].model.kind {
            VideoType::None | VideoType::Ramfb | VideoType::Default => None,
            VideoType::Virtio | VideoType::Bochs => Some(Need::Pcie),
            _ => Some(Need::Pci),
        },
        Dev::Shmem(_) => Some(Need::Pci),
        Dev::Input(i) => {
            let input = &def.inputs[i];
            let transitional = input.model == Some(InputModel::VirtioTransitional);
            (input.bus == Some(InputBus::Virtio)).then(|| virtio(transitional))
        }
        Dev::Serial(i) => (def.serials[i].target_type == Some(SerialTarget::Pci)).then_some(Need::Pci),
        Dev::Memory(i) => matches!(def.memory_devices[i].model, MemoryModel::VirtioPmem | MemoryModel::VirtioMem)
            .then_some(Need::Pcie),
        Dev::Panic(i) => (def.panics[i].model == Some(PanicModel::Pvpanic)).then_some(Need::PcieIntegrated),
        Dev::Vsock => Some(virtio(def.vsock.as_ref()?.model == Some(VsockModel::VirtioTransitional))),
        Dev::Iommu => (def.iommu.as_ref()?.model == IommuModel::Virtio).then_some(Need::PcieIntegrated),
    }
}

fn controller_need(controller: &Controller) -> Option<Need> {
    let model = controller.model.as_deref().unwrap_or_default();
    match controller.kind {
        ControllerType::Pci => match BusKind::from_model(model)? {
            BusKind::PciRoot | BusKind::PcieRoot => None,
            BusKind::PciBridge => Some(Need::PciBridge),
            BusKind::DmiToPciBridge => Some(Need::DmiToPciBridge),
            BusKind::PcieToPciBridge => Some(Need::PcieToPciBridge),
            BusKind::RootPort => Some(Need::RootPort),
            BusKind::SwitchUpstream => Some(Need::SwitchUpstream),
            BusKind::SwitchDownstream => Some(Need::SwitchDownstream),
            BusKind::Expander | BusKind::PcieExpander => Some(Need::Expander),
        },
        ControllerType::Scsi => match model {
            "virtio-scsi" | "virtio-non-transitional" => Some(Need::Pcie),
            "ibmvscsi" => None,
            _ => Some(Need::Pci),
        },
        ControllerType::VirtioSerial if model == "virtio-transitional" => Some(Need::Pci),
        ControllerType::VirtioSerial => Some(Need::Pcie),
        ControllerType::Usb => match model {
            "none" => None,
            "nec-xhci" | "qemu-xhci" => Some(Need::Pcie),
            _ => Some(Need::Pci),
        },
        ControllerType::Ide | ControllerType::Sata => Some(Need::Pci),
        ControllerType::Nvme => Some(Need::Pcie),
        ControllerType::Fdc | ControllerType::Ccid | ControllerType::Xenbus | ControllerType::Isa => None,
    }
}

/// The address a device has, or `None` when one is wanted; `<address type='pci'/>` alone is a wish.
fn given(info: &DeviceInfo) -> Given {
    match &info.address {
        None => Given::Nothing,
        Some(DeviceAddress::Pci { address, .. }) if *address == PciAddress::default() => Given::Nothing,
        Some(DeviceAddress::Pci { address, .. }) => Given::Address(*address),
        Some(_) => Given::Elsewhere,
    }
}

enum Given {
    Nothing,
    Address(PciAddress),
    /// Not on PCI.
    Elsewhere,
}

/// Gives PCI addresses; adds bridges and root ports until everything has a place.
pub(super) fn assign(def: &mut DomainDef, chipset: Chipset) -> Result<()> {
    let given_buses = def.controllers.iter().filter(|c| c.kind == ControllerType::Pci && !is_root(c)).count();
    add_missing_buses(def, chipset);
    let mut work = def.clone();
    loop {
        let mut attempt = work.clone();
        let mut space = PciSpace::default();
        match place_all(&mut attempt, chipset, &mut space)? {
            None => {
                let grown = pci_controllers(&attempt) > given_buses;
                if chipset == Chipset::Q35 && given_buses == 0 && grown && space.take_next(Need::Pcie, None).is_err() {
                    // libvirt keeps one free root port for hot-plug when it manages the ports itself.
                    grow(&mut work, Need::Pcie, chipset)?;
                    continue;
                }
                finish(&mut attempt, &space);
                *def = attempt;
                return Ok(());
            }
            Some(lacking) => grow(&mut work, lacking, chipset)?,
        }
    }
}

fn pci_controllers(def: &DomainDef) -> usize {
    def.controllers.iter().filter(|c| c.kind == ControllerType::Pci && !is_root(c)).count()
}

/// Buses that given addresses name but no controller makes.
fn add_missing_buses(def: &mut DomainDef, chipset: Chipset) {
    let mut highest = 0;
    for dev in order(def) {
        if let Some(info) = info(def, dev)
            && let Given::Address(address) = given(info)
        {
            highest = highest.max(address.bus);
        }
    }
    let model = if chipset == Chipset::Q35 { "pcie-root-port" } else { "pci-bridge" };
    for index in 1..=highest.min(255) {
        add_bus(def, index, model);
    }
}

fn add_bus(def: &mut DomainDef, index: u32, model: &str) {
    crate::qemu::complete::add_controller(def, ControllerType::Pci, index, Some(model));
    if let Some(at) = crate::qemu::complete::find_controller(def, ControllerType::Pci, index) {
        pci_options(&mut def.controllers[at]);
    }
}

/// Adds the bus that a device with this need lacks.
fn grow(def: &mut DomainDef, need: Need, chipset: Chipset) -> Result<()> {
    let pci = def.controllers.iter().filter(|c| c.kind == ControllerType::Pci);
    let next = pci.filter_map(|c| c.index).max().map_or(1, |index| index + 1);
    if next > 255 {
        return Err(refused(PciError::Full));
    }
    let model = match (need, chipset) {
        (Need::Pcie | Need::PcieToPciBridge | Need::SwitchUpstream, _) => "pcie-root-port",
        (Need::Pci, Chipset::Q35) => "pcie-to-pci-bridge",
        (Need::Pci, _) => "pci-bridge",
        _ => return Err(refused(PciError::Full)),
    };
    add_bus(def, next, model);
    Ok(())
}

/// Places everything; `Some(need)` when a bus is lacking.
fn place_all(def: &mut DomainDef, chipset: Chipset, space: &mut PciSpace) -> Result<Option<Need>> {
    for controller in def.controllers.iter().filter(|c| c.kind == ControllerType::Pci) {
        if let Some(kind) = controller.model.as_deref().and_then(BusKind::from_model) {
            space.add_bus(controller.index.unwrap_or(0) as usize, kind);
        }
    }
    for dev in order(def) {
        let shares = need(def, dev) == Some(Need::RootPort);
        if need(def, dev).is_some()
            && let Some(info) = info(def, dev)
            && let Given::Address(address) = given(info)
        {
            space.reserve(address, shares).map_err(refused)?;
        }
    }
    match chipset {
        Chipset::Q35 => built_in_q35(def, space),
        _ => built_in_i440fx(def, space)?,
    }
    usb2_groups(def, space, chipset)?;
    for dev in order(def) {
        let Some(need) = need(def, dev) else { continue };
        let need = match (chipset, need) {
            (Chipset::I440fx, Need::Pcie | Need::PcieIntegrated) => Need::Pci,
            (_, need) => need,
        };
        let below = match dev {
            Dev::Controller(i) if def.controllers[i].kind == ControllerType::Pci => {
                def.controllers[i].index.map(|index| index as usize)
            }
            _ => None,
        };
        let Some(info) = info(def, dev) else { continue };
        if !matches!(given(info), Given::Nothing) {
            continue;
        }
        match space.take_next(need, below) {
            Ok(address) => info.address = Some(DeviceAddress::pci(address)),
            Err(PciError::Full) => return Ok(Some(need)),
            Err(error) => return Err(refused(error)),
        }
    }
    Ok(None)
}

/// Puts a device where the chipset has it.
fn fix(info: &mut DeviceInfo, space: &mut PciSpace, address: PciAddress) {
    if matches!(given(info), Given::Nothing) && !space.in_use(&address) {
        let _ = space.reserve(address, false);
        info.address = Some(DeviceAddress::pci(address));
    }
}

fn built_in_i440fx(def: &mut DomainDef, space: &mut PciSpace) -> Result<()> {
    for controller in &mut def.controllers {
        let (place, who) = match (controller.kind, controller.index.unwrap_or(0), controller.model.as_deref()) {
            (ControllerType::Ide, 0, _) => (at(1, 1), "Primary IDE controller"),
            (ControllerType::Usb, 0, Some("piix3-uhci")) => (at(1, 2), "PIIX3 USB controller at index 0"),
            _ => continue,
        };
        match given(&controller.info) {
            Given::Address(address) if address != place => {
                let text = format!("{who} must have PCI address 0:0:{:x}.{:x}", place.slot, place.function);
                return Err(Error::internal(text));
            }
            _ => fix(&mut controller.info, space, place),
        }
    }
    space.reserve_slot(at(1, 0));
    primary_video(def, space, at(2, 0));
    Ok(())
}

fn built_in_q35(def: &mut DomainDef, space: &mut PciSpace) {
    for controller in &mut def.controllers {
        if controller.kind == ControllerType::Sata && controller.index.unwrap_or(0) == 0 {
            fix(&mut controller.info, space, at(0x1f, 2));
        }
        if controller.kind == ControllerType::Pci && controller.model.as_deref() == Some("dmi-to-pci-bridge") {
            fix(&mut controller.info, space, at(0x1e, 0));
        }
    }
    // LPC bridge and SMBus share the slot of the SATA controller.
    space.reserve_slot(at(0x1f, 0));
    for sound in &mut def.sounds {
        if sound.model == SoundModel::Ich9 {
            fix(&mut sound.info, space, at(0x1b, 0));
        }
    }
    primary_video(def, space, at(1, 0));
}

fn primary_video(def: &mut DomainDef, space: &mut PciSpace, place: PciAddress) {
    if let Some(video) = def.videos.first_mut()
        && !matches!(video.model.kind, VideoType::None | VideoType::Ramfb)
        && !space.slot_in_use(0, place.slot)
    {
        fix(&mut video.info, space, place);
    }
}

/// EHCI controllers with their UHCI companions live on one slot: 0x1d and 0x1a of a q35, any free one elsewhere.
fn usb2_groups(def: &mut DomainDef, space: &mut PciSpace, chipset: Chipset) -> Result<()> {
    let function = |model: Option<&str>| match model {
        Some("ich9-ehci1") => Some(7),
        Some("ich9-uhci1") => Some(0),
        Some("ich9-uhci2") => Some(1),
        Some("ich9-uhci3") => Some(2),
        _ => None,
    };
    for position in 0..def.controllers.len() {
        let controller = &def.controllers[position];
        let (ControllerType::Usb, Some(own)) = (controller.kind, function(controller.model.as_deref())) else {
            continue;
        };
        if !matches!(given(&controller.info), Given::Nothing) {
            continue;
        }
        let index = controller.index;
        let group = def.controllers.iter().filter(|c| c.kind == ControllerType::Usb && c.index == index);
        let slot = group.filter(|c| function(c.model.as_deref()).is_some()).find_map(|c| c.info.pci().copied());
        let slot = match slot {
            Some(address) => PciAddress { function: own, ..address },
            None => {
                let fixed = match chipset {
                    Chipset::Q35 => [0x1d, 0x1a].into_iter().find(|slot| !space.slot_in_use(0, *slot)),
                    _ => None,
                };
                match fixed {
                    Some(slot) => at(slot, own),
                    None => {
                        let mut probe = space.clone();
                        let address = probe.take_next(Need::Pci, None).map_err(refused)?;
                        PciAddress { function: own, ..address }
                    }
                }
            }
        };
        space.reserve(slot, false).map_err(refused)?;
        let multifunction = (own == 0).then_some(Switch::On);
        def.controllers[position].info.address = Some(DeviceAddress::Pci { address: slot, multifunction });
    }
    Ok(())
}

/// Marks shared slots and fills in port numbers, which follow from addresses.
fn finish(def: &mut DomainDef, space: &PciSpace) {
    for controller in &mut def.controllers {
        if controller.kind != ControllerType::Pci {
            continue;
        }
        let port = matches!(controller.model.as_deref(), Some("pcie-root-port" | "pcie-switch-downstream-port"));
        let Some(DeviceAddress::Pci { address, multifunction }) = &mut controller.info.address else { continue };
        if !port {
            continue;
        }
        if address.function == 0 && multifunction.is_none() && space.slot_is_shared(address) {
            *multifunction = Some(Switch::On);
        }
        let target = controller.pci.target.get_or_insert_with(PciTarget::default);
        target.port.get_or_insert(match controller.model.as_deref() {
            Some("pcie-root-port") => (address.slot << 3) + address.function,
            _ => address.slot,
        });
    }
}
