//! PCI addresses for a definition: built-in places, given addresses, then every other device in libvirt's order.

use super::pci_space::{BusKind, Need, PciError, PciSpace, Plug};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;
use crate::domain_xml::post_parse;
use crate::domain_xml::words::Switch;
use crate::error::{Code, Error, Result};
use crate::qemu::complete::{Chipset, pci_options};
use crate::types::PciAddress;

/// Which device; the order of giving out addresses is that of [`order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dev {
    Controller(usize),
    Filesystem(usize),
    Nic(usize),
    /// A NIC that is a device of the host; its place is among those.
    HostdevNic(usize),
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
    Crypto(usize),
    Pstore,
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
    let handed_over = |i: &usize| matches!(def.interfaces[*i].source, InterfaceSource::Hostdev { .. });
    out.extend((0..def.interfaces.len()).filter(|i| !handed_over(i)).map(Dev::Nic));
    out.extend((0..def.sounds.len()).map(Dev::Sound));
    out.extend(controllers(false));
    out.extend((0..def.disks.len()).map(Dev::Disk));
    out.extend((0..def.interfaces.len()).filter(handed_over).map(Dev::HostdevNic));
    out.extend((0..def.hostdevs.len()).map(Dev::Hostdev));
    out.extend(def.memballoon.iter().map(|_| Dev::Balloon));
    out.extend((0..def.rngs.len()).map(Dev::Rng));
    out.extend((0..def.watchdogs.len()).map(Dev::Watchdog));
    out.extend((0..def.videos.len()).map(Dev::Video));
    out.extend((0..def.shmems.len()).map(Dev::Shmem));
    out.extend((0..def.inputs.len()).map(Dev::Input));
    out.extend((0..def.serials.len()).map(Dev::Serial));
    out.extend(def.vsock.iter().map(|_| Dev::Vsock));
    out.extend((0..def.memory_devices.len()).map(Dev::Memory));
    out.extend(def.iommu.iter().map(|_| Dev::Iommu));
    out.extend((0..def.panics.len()).map(Dev::Panic));
    out.extend((0..def.cryptos.len()).map(Dev::Crypto));
    out.extend(def.pstore.iter().map(|_| Dev::Pstore));
    out
}

fn info(def: &mut DomainDef, dev: Dev) -> Option<&mut DeviceInfo> {
    Some(match dev {
        Dev::Controller(i) => &mut def.controllers[i].info,
        Dev::Filesystem(i) => &mut def.filesystems[i].info,
        Dev::Nic(i) | Dev::HostdevNic(i) => &mut def.interfaces[i].info,
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
        Dev::Crypto(i) => &mut def.cryptos[i].info,
        Dev::Pstore => &mut def.pstore.as_mut()?.info,
    })
}

/// What a device needs on a PCIe machine; `None` = it is no PCI device. On a PCI machine endpoints are all conventional.
fn need(def: &DomainDef, dev: Dev) -> Option<Need> {
    // A transitional virtio device has legacy I/O ports and therefore wants a conventional slot.
    let virtio = |transitional: bool| if transitional { Need::PCI } else { Need::PCIE };
    match dev {
        Dev::Controller(i) => controller_need(&def.controllers[i]),
        Dev::Filesystem(i) => {
            let filesystem = &def.filesystems[i];
            (filesystem.driver.kind != Some(FsDriverType::Mtp))
                .then(|| virtio(filesystem.model == Some(FsModel::VirtioTransitional)))
        }
        Dev::Nic(i) => match def.interfaces[i].model.as_deref() {
            Some("virtio" | "virtio-non-transitional" | "e1000e" | "igb") => Some(Need::PCIE),
            Some("usb-net" | "ne2k_isa" | "spapr-vlan") => None,
            // QEMU may know more about it than anybody here; modern is the better guess.
            Some(model) if !post_parse::is_known_nic(model) => Some(Need::PCIE),
            _ => Some(Need::PCI),
        },
        Dev::HostdevNic(i) => match &def.interfaces[i].source {
            InterfaceSource::Hostdev { address: Some(DeviceAddress::Usb { .. }) } => None,
            _ => Some(Need::PCIE),
        },
        Dev::Sound(i) => match def.sounds[i].model {
            SoundModel::Sb16 | SoundModel::Pcspk | SoundModel::Usb => None,
            SoundModel::Virtio => Some(Need::PCIE),
            _ => Some(Need::PCI),
        },
        Dev::Disk(i) => {
            let disk = &def.disks[i];
            let transitional = disk.model == Some(DiskModel::VirtioTransitional);
            (disk.target.bus == Some(DiskBus::Virtio)).then(|| virtio(transitional))
        }
        Dev::Hostdev(i) => match &def.hostdevs[i].source {
            // Nearly every device that is handed over is a PCI Express one.
            HostdevSource::Pci { .. } => Some(Need::PCIE),
            HostdevSource::Mdev { model, .. } => (model.as_deref() == Some("vfio-pci")).then_some(Need::PCIE),
            HostdevSource::ScsiHost { model, .. } => Some(virtio(model.as_deref() == Some("virtio-transitional"))),
            _ => None,
        },
        Dev::Balloon => match def.memballoon.as_ref()?.model {
            BalloonModel::Virtio | BalloonModel::VirtioNonTransitional => Some(Need::PCIE),
            BalloonModel::VirtioTransitional => Some(Need::PCI),
            BalloonModel::Xen | BalloonModel::None => None,
        },
        Dev::Rng(i) => Some(virtio(def.rngs[i].model == RngModel::VirtioTransitional)),
        Dev::Watchdog(i) => (def.watchdogs[i].model == WatchdogModel::I6300esb).then_some(Need::PCI),
        Dev::Video(i) => match def.videos[i].model.kind {
            VideoType::None | VideoType::Ramfb | VideoType::Default => None,
            VideoType::Virtio | VideoType::Bochs => Some(Need::PCIE),
            _ => Some(Need::PCI),
        },
        Dev::Shmem(_) => Some(Need::PCI),
        Dev::Input(i) => {
            let input = &def.inputs[i];
            let transitional = input.model == Some(InputModel::VirtioTransitional);
            (input.bus == Some(InputBus::Virtio)).then(|| virtio(transitional))
        }
        Dev::Serial(i) => (def.serials[i].target_type == Some(SerialTarget::Pci)).then_some(Need::PCI),
        Dev::Memory(i) => matches!(def.memory_devices[i].model, MemoryModel::VirtioPmem | MemoryModel::VirtioMem)
            .then_some(Need::PCIE),
        Dev::Panic(i) => (def.panics[i].model == Some(PanicModel::Pvpanic)).then_some(Need::PCIE.on_root()),
        Dev::Vsock => Some(virtio(def.vsock.as_ref()?.model == Some(VsockModel::VirtioTransitional))),
        Dev::Crypto(_) => Some(Need::PCI),
        Dev::Pstore => Some(Need::PCI),
        Dev::Iommu => (def.iommu.as_ref()?.model == IommuModel::Virtio).then_some(Need::PCIE.on_root()),
    }
}

fn controller_need(controller: &Controller) -> Option<Need> {
    let model = controller.model.as_deref().unwrap_or_default();
    match controller.kind {
        ControllerType::Pci => BusKind::from_model(model)?.plug().map(Need::of),
        ControllerType::Scsi => match model {
            "virtio-scsi" | "virtio-non-transitional" => Some(Need::PCIE),
            "ibmvscsi" => None,
            _ => Some(Need::PCI),
        },
        ControllerType::VirtioSerial if model == "virtio-transitional" => Some(Need::PCI),
        ControllerType::VirtioSerial => Some(Need::PCIE),
        ControllerType::Usb => match model {
            "none" => None,
            "nec-xhci" | "qemu-xhci" => Some(Need::PCIE),
            _ => Some(Need::PCI),
        },
        ControllerType::Ide | ControllerType::Sata | ControllerType::Nvme => Some(Need::PCI),
        ControllerType::Fdc | ControllerType::Ccid | ControllerType::Xenbus | ControllerType::Isa => None,
    }
}

/// The same as the machine has it: without PCI Express everything is conventional.
fn need_on(def: &DomainDef, dev: Dev, chipset: Chipset) -> Option<Need> {
    let need = need(def, dev)?;
    match (chipset, need.plug) {
        (Chipset::Q35, _) => Some(need),
        (_, Plug::Pcie) => Some(Need { plug: Plug::Pci, ..need }),
        _ => Some(need),
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
///
/// Two passes, as in libvirt: the first finds out which buses are lacking and adds their controllers, the second places.
pub(super) fn assign(def: &mut DomainDef, chipset: Chipset) -> Result<()> {
    let highest = |def: &DomainDef| {
        let pci = def.controllers.iter().filter(|c| c.kind == ControllerType::Pci);
        pci.filter_map(|c| c.index).max().map_or(0, |index| index as usize)
    };
    let only_root = highest(def) == 0;
    let count = highest(def) + 1;
    let mut space = space(def, chipset, count, true)?;
    let mut trial = def.clone();
    place(&mut trial, chipset, &mut space)?;
    if only_root && space.count() > 1 && chipset == Chipset::Q35 {
        // libvirt keeps one free root port for hot-plug when it manages the ports itself.
        space.take_next(Need::PCIE, 0).map_err(refused)?;
    }
    let mut index = 1;
    while index < space.count() {
        let known = crate::qemu::complete::find_controller(def, ControllerType::Pci, index as u32).is_some();
        if let (false, Some(kind)) = (known, space.kind(index)) {
            add_bus(def, index as u32, kind.model());
            // The new controller needs a place too, which may take yet another bus; a bridge came with its port.
            if let Some(plug) = kind.plug().filter(|plug| *plug != Plug::PcieToPciBridge) {
                space.take_next(Need::of(plug), 0).map_err(refused)?;
            }
        }
        index += 1;
    }
    let mut space = self::space(def, chipset, space.count(), false)?;
    place(def, chipset, &mut space)?;
    finish(def, &space)
}

fn add_bus(def: &mut DomainDef, index: u32, model: &str) {
    crate::qemu::complete::add_controller(def, ControllerType::Pci, index, Some(model));
    if let Some(at) = crate::qemu::complete::find_controller(def, ControllerType::Pci, index) {
        pci_options(&mut def.controllers[at]);
    }
}

/// The buses there are, with everything that has an address on them.
fn space(def: &mut DomainDef, chipset: Chipset, count: usize, growing: bool) -> Result<PciSpace> {
    let mut space = PciSpace::new(growing);
    for controller in def.controllers.iter().filter(|c| c.kind == ControllerType::Pci) {
        if let Some(kind) = controller.model.as_deref().and_then(BusKind::from_model) {
            space.add_bus(controller.index.unwrap_or(0) as usize, kind);
        }
    }
    space.fill(count, if chipset == Chipset::Q35 { BusKind::RootPort } else { BusKind::PciBridge });
    for dev in order(def) {
        let Some(need) = need_on(def, dev, chipset) else { continue };
        if built_in(def, dev, chipset) {
            continue;
        }
        if let Some(info) = info(def, dev)
            && let Given::Address(given) = given(info)
        {
            let place = space.reserve(given, need).map_err(refused)?;
            if let Some(DeviceAddress::Pci { address, .. }) = &mut info.address {
                *address = place;
            }
        }
    }
    Ok(space)
}

/// Whether a device stands where the chipset has it anyway, in a slot that is taken as a whole.
fn built_in(def: &DomainDef, dev: Dev, chipset: Chipset) -> bool {
    let Dev::Controller(i) = dev else { return false };
    let controller = &def.controllers[i];
    chipset == Chipset::I440fx
        && match (controller.kind, controller.info.pci()) {
            (ControllerType::Ide, Some(address)) => *address == at(1, 1) && controller.index == Some(0),
            (ControllerType::Usb, Some(address)) => {
                *address == at(1, 2) && matches!(controller.model.as_deref(), None | Some("piix3-uhci"))
            }
            _ => false,
        }
}

/// Places everything that has no address yet.
fn place(def: &mut DomainDef, chipset: Chipset, space: &mut PciSpace) -> Result<()> {
    match chipset {
        Chipset::Q35 => built_in_q35(def, space)?,
        _ => built_in_i440fx(def, space)?,
    }
    if space.is_growing() && chipset != Chipset::Q35 && !space.is_full() {
        // One slot stays free for the bridge that a later device may need.
        space.take_next(Need::PCI, 0).map_err(refused)?;
    }
    for dev in order(def) {
        let Some(need) = need_on(def, dev, chipset) else { continue };
        if info(def, dev).is_none_or(|info| !matches!(given(info), Given::Nothing)) {
            continue;
        }
        let function = match dev {
            Dev::Controller(i) => usb2_function(&def.controllers[i]),
            _ => None,
        };
        if let (Dev::Controller(i), Some(function)) = (dev, function) {
            usb2(def, space, i, function, need)?;
            continue;
        }
        let address = space.take_next(need, 0).map_err(refused)?;
        if let Some(info) = info(def, dev) {
            info.address = Some(DeviceAddress::pci(address));
        }
    }
    Ok(())
}

/// Puts a device where the chipset has it.
fn fix(info: &mut DeviceInfo, space: &mut PciSpace, address: PciAddress, multifunction: Option<Switch>) {
    space.take_built_in(address);
    info.address = Some(DeviceAddress::Pci { address, multifunction });
}

fn built_in_i440fx(def: &mut DomainDef, space: &mut PciSpace) -> Result<()> {
    let mut fixed = Vec::new();
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
            Given::Address(_) => {}
            _ => controller.info.address = Some(DeviceAddress::pci(place)),
        }
        fixed.push(place);
    }
    // The ISA bridge, with IDE and USB.
    fixed.push(at(1, 0));
    if let Some(taken) = fixed.into_iter().find(|place| space.is_taken(place)) {
        return Err(refused(PciError::InUse(taken)));
    }
    (0..8).for_each(|function| space.take_built_in(at(1, function)));
    primary_video(def, space, at(2, 0), Need::PCI)
}

fn built_in_q35(def: &mut DomainDef, space: &mut PciSpace) -> Result<()> {
    for controller in &mut def.controllers {
        let wanted = matches!(given(&controller.info), Given::Nothing);
        match (controller.kind, controller.model.as_deref()) {
            (ControllerType::Sata, _) if controller.index.unwrap_or(0) == 0 => match given(&controller.info) {
                Given::Address(address) if address != at(0x1f, 2) => {
                    return Err(Error::internal("Primary SATA controller must have PCI address 0:0:1f.2"));
                }
                Given::Nothing => fix(&mut controller.info, space, at(0x1f, 2), None),
                _ => {}
            },
            (ControllerType::Usb, Some("ich9-uhci1")) if wanted => {
                // Where real hardware has its two sets of USB 2 controllers; the companions follow.
                if let Some(slot) = [0x1d, 0x1a].into_iter().find(|slot| !space.slot_in_use(0, *slot)) {
                    fix(&mut controller.info, space, at(slot, 0), Some(Switch::On));
                }
            }
            (ControllerType::Pci, Some("dmi-to-pci-bridge")) if wanted && !space.slot_in_use(0, 0x1e) => {
                fix(&mut controller.info, space, at(0x1e, 0), None);
            }
            _ => {}
        }
    }
    // LPC bridge and SMBus share the slot of the SATA controller.
    space.take_built_in(at(0x1f, 0));
    space.take_built_in(at(0x1f, 3));
    primary_video(def, space, at(1, 0), Need::PCI)?;
    if !space.slot_in_use(0, 0x1b)
        && let Some(sound) = def
            .sounds
            .iter_mut()
            .find(|sound| sound.model == SoundModel::Ich9 && matches!(given(&sound.info), Given::Nothing))
    {
        fix(&mut sound.info, space, at(0x1b, 0), None);
    }
    Ok(())
}

fn primary_video(def: &mut DomainDef, space: &mut PciSpace, place: PciAddress, need: Need) -> Result<()> {
    let Some(video) = def.videos.first_mut() else { return Ok(()) };
    if matches!(video.model.kind, VideoType::None | VideoType::Ramfb) || !matches!(given(&video.info), Given::Nothing) {
        return Ok(());
    }
    if !space.slot_in_use(0, place.slot) {
        fix(&mut video.info, space, place, None);
        return Ok(());
    }
    let address = space.take_next(need, 0).map_err(refused)?;
    video.info.address = Some(DeviceAddress::pci(address));
    Ok(())
}

/// The function of an EHCI controller and its UHCI companions in the slot they share.
fn usb2_function(controller: &Controller) -> Option<u32> {
    match controller.model.as_deref() {
        Some("ich9-ehci1") => Some(7),
        Some("ich9-uhci1") => Some(0),
        Some("ich9-uhci2") => Some(1),
        Some("ich9-uhci3") => Some(2),
        _ => None,
    }
}

fn usb2(def: &mut DomainDef, space: &mut PciSpace, position: usize, function: u32, need: Need) -> Result<()> {
    let index = def.controllers[position].index;
    let mut group = def.controllers.iter().filter(|c| c.kind == ControllerType::Usb && c.index == index);
    let placed = group.find_map(|c| {
        usb2_function(c).and(match given(&c.info) {
            Given::Address(address) => Some(address),
            _ => None,
        })
    });
    let address = match placed {
        Some(address) => {
            let address = PciAddress { function, ..address };
            space.reserve(address, need).map_err(refused)?;
            address
        }
        None => space.take_next(need, function).map_err(refused)?,
    };
    let multifunction = (function == 0).then_some(Switch::On);
    def.controllers[position].info.address = Some(DeviceAddress::Pci { address, multifunction });
    Ok(())
}

/// Marks shared slots and fills in numbers that follow from addresses.
fn finish(def: &mut DomainDef, space: &PciSpace) -> Result<()> {
    for dev in order(def) {
        let pci = need(def, dev).is_some();
        if let Some(info) = info(def, dev).filter(|_| pci)
            && let Some(DeviceAddress::Pci { address, multifunction }) = &mut info.address
            && address.function == 0
            && multifunction.is_none()
            && space.slot_is_shared(address)
        {
            *multifunction = Some(Switch::On);
        }
    }
    let mut lowest: u32 = def.controllers.iter().filter_map(|c| c.pci.target.as_ref()?.bus_nr).min().unwrap_or(256);
    for controller in def.controllers.iter_mut().filter(|c| c.kind == ControllerType::Pci) {
        let model = controller.model.as_deref().and_then(BusKind::from_model);
        let Some(DeviceAddress::Pci { address, .. }) = &controller.info.address else { continue };
        let target = controller.pci.target.get_or_insert_with(PciTarget::default);
        match model {
            Some(BusKind::RootPort) => {
                target.port.get_or_insert((address.slot << 3) + address.function);
            }
            Some(BusKind::SwitchDownstream) => {
                target.port.get_or_insert(address.slot);
            }
            Some(BusKind::Expander | BusKind::PcieExpander) if target.bus_nr.is_none() => {
                // Two apart and from the top down, so that buses below one have numbers too.
                if lowest <= 2 {
                    return Err(Error::internal(
                        "No free busNr lower than current lowest busNr is available to auto-assign to bus. Must be manually assigned",
                    ));
                }
                lowest -= 2;
                target.bus_nr = Some(lowest);
            }
            _ => {}
        }
        if *target == PciTarget::default() {
            controller.pci.target = None;
        }
    }
    Ok(())
}
