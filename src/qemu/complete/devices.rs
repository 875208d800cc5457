//! Automatic devices and the defaults of given ones.

use super::Chipset;
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;
use crate::domain_xml::features::IoapicDriver;
use crate::domain_xml::memory::MemoryAccess;
use crate::domain_xml::post_parse;
use crate::domain_xml::words::Switch;
use crate::error::{Error, Result};

/// Adds what libvirt adds, in libvirt's order, and fills in models.
pub(super) fn complete(def: &mut DomainDef, chipset: Chipset) -> Result<()> {
    controllers(def, chipset)?;
    interfaces(def);
    serials(def, chipset);
    inputs(def, chipset);
    audio(def);
    watchdogs(def, chipset);
    for panic in &mut def.panics {
        panic.model.get_or_insert(PanicModel::Isa);
    }
    for tpm in &mut def.tpms {
        let model = *tpm.model.get_or_insert(TpmModel::Tis);
        if let TpmBackend::Emulator(emulator) = &mut tpm.backend {
            // The two versions are incompatible, so the choice must not change with the emulator.
            let version = if model == TpmModel::Crb { TpmVersion::V2_0 } else { TpmVersion::V1_2 };
            emulator.version.get_or_insert(version);
        }
    }
    for hostdev in &mut def.hostdevs {
        if let HostdevSource::Mdev { model, display, .. } = &mut hostdev.source
            && model.as_deref() == Some("vfio-pci")
        {
            display.get_or_insert(Switch::Off);
        }
    }
    for shmem in &mut def.shmems {
        match (shmem.model, &shmem.server) {
            (Some(ShmemModel::IvshmemDoorbell), None) => {}
            (Some(ShmemModel::IvshmemDoorbell), Some(_)) => {
                shmem.msi.get_or_insert_default().ioeventfd.get_or_insert(Switch::On);
            }
            _ => {
                shmem.size.get_or_insert(4 << 20);
            }
        }
    }
    for sound in def.sounds.iter_mut().filter(|sound| sound.model == SoundModel::Virtio) {
        sound.streams.get_or_insert(2);
    }
    for memory in &mut def.memory_devices {
        // The guest's page cache is what this is for.
        if memory.model == MemoryModel::VirtioPmem {
            memory.access.get_or_insert(MemoryAccess::Shared);
        }
    }
    memory_slots(def);
    if let Some(vsock) = &mut def.vsock {
        vsock.model.get_or_insert(VsockModel::Virtio);
    }
    iommu(def, chipset);
    for rng in &mut def.rngs {
        if let RngBackend::Random(path @ None) = &mut rng.backend {
            *path = Some("/dev/random".into());
        }
    }
    if def.memballoon.is_none() && chipset != Chipset::Other {
        def.memballoon = Some(Memballoon::default());
    }
    graphics(def);
    Ok(())
}

/// The controller of a kind and index.
pub(crate) fn find_controller(def: &DomainDef, kind: ControllerType, index: u32) -> Option<usize> {
    def.controllers.iter().position(|c| c.kind == kind && c.index.unwrap_or(0) == index)
}

/// Adds a controller unless there is one of that kind and index. Same kinds stay together, in order of index.
pub(crate) fn add_controller(def: &mut DomainDef, kind: ControllerType, index: u32, model: Option<&str>) {
    if find_controller(def, kind, index).is_some() {
        return;
    }
    let new = Controller { kind, index: Some(index), model: model.map(str::to_string), ..Default::default() };
    // libvirt inserts before the first of the same kind with a higher index, else behind the last of the kind.
    let mut place = None;
    for (position, controller) in def.controllers.iter().enumerate() {
        if controller.kind == kind {
            if controller.index.unwrap_or(0) > index {
                place = Some(position);
                break;
            }
            place = Some(position + 1);
        }
    }
    let place = place.unwrap_or(def.controllers.len());
    def.controllers.insert(place, new);
}

fn number_controllers(def: &mut DomainDef) {
    for position in 0..def.controllers.len() {
        if def.controllers[position].index.is_some() {
            continue;
        }
        let kind = def.controllers[position].kind;
        let taken = |index: u32| def.controllers.iter().any(|c| c.kind == kind && c.index == Some(index));
        // Index 0 of pci is the root.
        let first = u32::from(kind == ControllerType::Pci && !is_root(&def.controllers[position]));
        let free = (first..).find(|index| !taken(*index));
        def.controllers[position].index = free;
    }
}

/// Whether a controller is a PCI root.
pub(crate) fn is_root(controller: &Controller) -> bool {
    controller.kind == ControllerType::Pci && matches!(controller.model.as_deref(), Some("pci-root" | "pcie-root"))
}

fn controllers(def: &mut DomainDef, chipset: Chipset) -> Result<()> {
    number_controllers(def);
    let q35 = chipset == Chipset::Q35;
    super::disks::scsi_hostdevs(def);
    if matches!(chipset, Chipset::I440fx | Chipset::Q35 | Chipset::Isa) {
        if chipset != Chipset::Isa && !def.controllers.iter().any(|c| c.kind == ControllerType::Usb) {
            // One that is asked for without a model is the old one on every PC.
            let model = if q35 { "qemu-xhci" } else { "piix3-uhci" };
            add_controller(def, ControllerType::Usb, 0, Some(model));
        }
        if q35 {
            add_controller(def, ControllerType::Sata, 0, None);
        }
        let root = if q35 { "pcie-root" } else { "pci-root" };
        if chipset != Chipset::Isa {
            match find_controller(def, ControllerType::Pci, 0) {
                None => add_controller(def, ControllerType::Pci, 0, Some(root)),
                Some(position) => {
                    let model = def.controllers[position].model.as_deref().unwrap_or("(null)");
                    if model != root {
                        return Err(Error::new(
                            crate::error::Code::XmlError,
                            format!(
                                "The PCI controller with index='0' must be model='{root}' for this machine type, but model='{model}' was found instead"
                            ),
                        ));
                    }
                }
            }
        }
    }
    post_parse::implicit_controllers(def)?;
    for controller in &mut def.controllers {
        let default = match controller.kind {
            ControllerType::Usb if chipset != Chipset::Other => Some("piix3-uhci"),
            ControllerType::Scsi => Some("lsilogic"),
            ControllerType::Pci if controller.index.unwrap_or(0) > 0 => {
                Some(if q35 { "pcie-root-port" } else { "pci-bridge" })
            }
            _ => None,
        };
        if controller.model.is_none() {
            controller.model = default.map(str::to_string);
        }
        if controller.kind == ControllerType::Scsi && controller.model.as_deref() == Some("auto") {
            controller.model = Some("lsilogic".into());
        }
    }
    for controller in &mut def.controllers {
        pci_options(controller);
        let port = match controller.model.as_deref() {
            Some("ich9-uhci1") => 0,
            Some("ich9-uhci2") => 2,
            Some("ich9-uhci3") => 4,
            _ => continue,
        };
        // A companion takes over slow devices on the ports of the EHCI controller with its index.
        controller.info.master_startport.get_or_insert(port);
    }
    Ok(())
}

/// `<model name>` and `<target>` of bridges and ports.
pub(crate) fn pci_options(controller: &mut Controller) {
    if controller.kind != ControllerType::Pci {
        return;
    }
    let index = controller.index.unwrap_or(0);
    let options = &mut controller.pci;
    let name = match controller.model.as_deref() {
        Some("pci-bridge") => "pci-bridge",
        Some("dmi-to-pci-bridge") => "i82801b11-bridge",
        Some("pcie-root-port") => "pcie-root-port",
        Some("pcie-to-pci-bridge") => "pcie-pci-bridge",
        Some("pcie-switch-upstream-port") => "x3130-upstream",
        Some("pcie-switch-downstream-port") => "xio3130-downstream",
        Some("pci-expander-bus") => "pxb",
        Some("pcie-expander-bus") => "pxb-pcie",
        _ => return,
    };
    options.model_name.get_or_insert_with(|| name.to_string());
    let target = options.target.get_or_insert_with(PciTarget::default);
    match controller.model.as_deref() {
        Some("pci-bridge") => {
            target.chassis_nr.get_or_insert(index);
        }
        Some("pcie-root-port" | "pcie-switch-downstream-port") => {
            target.chassis.get_or_insert(index);
        }
        _ => {}
    }
    if *target == PciTarget::default() {
        options.target = None;
    }
}

fn interfaces(def: &mut DomainDef) {
    for nic in &mut def.interfaces {
        let model = match nic.source {
            InterfaceSource::Hostdev { .. } => continue,
            InterfaceSource::Vdpa { .. } | InterfaceSource::VhostUser(_) => "virtio",
            _ => "rtl8139",
        };
        nic.model.get_or_insert_with(|| model.into());
    }
}

fn serials(def: &mut DomainDef, chipset: Chipset) {
    let x86 = chipset != Chipset::Other || matches!(def.os.arch.as_deref(), Some("x86_64" | "i686"));
    for serial in &mut def.serials {
        if serial.target_type.is_none() {
            serial.target_type = match serial.info.address {
                Some(DeviceAddress::Usb { .. }) => Some(SerialTarget::Usb),
                Some(DeviceAddress::Pci { .. }) => Some(SerialTarget::Pci),
                _ if x86 => Some(SerialTarget::Isa),
                _ => None,
            };
        }
        if serial.model.is_none() {
            serial.model = match serial.target_type {
                Some(SerialTarget::Isa) => Some(SerialModel::IsaSerial),
                Some(SerialTarget::Usb) => Some(SerialModel::UsbSerial),
                Some(SerialTarget::Pci) => Some(SerialModel::PciSerial),
                Some(SerialTarget::IsaDebug) => Some(SerialModel::IsaDebugcon),
                _ => None,
            };
        }
    }
    for index in 0..def.serials.len() {
        if def.serials[index].port.is_none() {
            let free = (0..).find(|port| !def.serials.iter().any(|serial| serial.port == Some(*port)));
            def.serials[index].port = free;
        }
    }
    for index in 0..def.parallels.len() {
        if def.parallels[index].port.is_none() {
            let free = (0..).find(|port| !def.parallels.iter().any(|parallel| parallel.port == Some(*port)));
            def.parallels[index].port = free;
        }
    }
    // The first console of a VM stands for the first serial port.
    let stands = |serial: &Serial| {
        !matches!(serial.target_type, Some(SerialTarget::Pci | SerialTarget::Usb | SerialTarget::IsaDebug))
    };
    if let Some(serial) = def.serials.first().filter(|_| def.consoles.is_empty()).filter(|serial| stands(serial)) {
        let (source, info) = (serial.source.clone(), serial.info.clone());
        def.consoles.push(Console { source, target_type: Some(ConsoleTarget::Serial), port: serial.port, info });
    } else if let Some(console) = def.consoles.first_mut()
        && matches!(console.target_type, None | Some(ConsoleTarget::Serial))
    {
        console.target_type = Some(ConsoleTarget::Serial);
        match def.serials.first() {
            Some(serial) => {
                console.source = serial.source.clone();
                console.port = serial.port;
            }
            None if x86 => def.serials.push(Serial {
                source: console.source.clone(),
                target_type: Some(SerialTarget::Isa),
                port: Some(0),
                model: Some(SerialModel::IsaSerial),
                info: DeviceInfo::default(),
            }),
            None => {}
        }
    }
    for (index, console) in def.consoles.iter_mut().enumerate() {
        console.target_type.get_or_insert(ConsoleTarget::Serial);
        console.port.get_or_insert(index as u32);
    }
}

fn inputs(def: &mut DomainDef, chipset: Chipset) {
    // One that gets its bus only now does not count as the machine's own.
    let own = |kind| def.inputs.iter().any(|input| input.kind == kind && input.bus == Some(InputBus::Ps2));
    let missing: Vec<InputType> = [InputType::Mouse, InputType::Keyboard].into_iter().filter(|k| !own(*k)).collect();
    for input in &mut def.inputs {
        input.bus.get_or_insert(match input.kind {
            InputType::Mouse | InputType::Keyboard if chipset != Chipset::Other => InputBus::Ps2,
            InputType::Passthrough => InputBus::Virtio,
            InputType::Evdev => InputBus::None,
            _ => InputBus::Usb,
        });
    }
    if chipset == Chipset::Other || def.features.ps2 == Some(Switch::Off) {
        return;
    }
    for kind in missing {
        def.inputs.push(Input { kind, bus: Some(InputBus::Ps2), ..Default::default() });
    }
}

fn audio(def: &mut DomainDef) {
    if !def.audios.is_empty() {
        return;
    }
    // The last display that has to do with sound decides. One of the desktop's own has sound that QEMU finds by itself.
    let kinds = def.graphics.iter().rev().find_map(|graphics| match graphics.kind {
        GraphicsKind::Spice(_) => Some(Some(AudioType::Spice)),
        GraphicsKind::Vnc(_) => Some(Some(AudioType::None)),
        GraphicsKind::Sdl(_) => Some(None),
        _ => None,
    });
    let kind = match def.graphics.is_empty() {
        true => Some(AudioType::None),
        false => kinds.flatten(),
    };
    def.audios.extend(kind.map(|kind| Audio { id: 1, kind, ..Default::default() }));
}

/// Gives memory modules the free slots of the board, in order.
fn memory_slots(def: &mut DomainDef) {
    let given = |memory: &MemoryDevice| match memory.info.address {
        Some(DeviceAddress::Dimm { slot, .. }) => Some(slot),
        _ => None,
    };
    let mut taken: Vec<u32> = def.memory_devices.iter().filter_map(given).collect();
    let modules = def.memory_devices.iter_mut().filter(|m| matches!(m.model, MemoryModel::Dimm | MemoryModel::Nvdimm));
    for memory in modules.filter(|memory| memory.info.address.is_none()) {
        let slot = (0..).find(|slot| !taken.contains(slot)).unwrap_or_default();
        taken.push(slot);
        memory.info.address = Some(DeviceAddress::Dimm { slot, base: None });
    }
}

/// Vcpus a q35 can address without extended interrupt mode.
const MAX_VCPUS_WITHOUT_EIM: u32 = 255;

fn iommu(def: &mut DomainDef, chipset: Chipset) {
    let many = def.vcpu.max > MAX_VCPUS_WITHOUT_EIM;
    if chipset == Chipset::Q35 && many && def.iommu.is_none() {
        def.iommu = Some(Iommu { model: IommuModel::Intel, ..Default::default() });
    }
    let Some(iommu) = def.iommu.as_mut().filter(|iommu| iommu.model == IommuModel::Intel) else { return };
    if many && iommu.driver.eim.is_none() {
        iommu.driver.eim = Some(Switch::On);
        iommu.driver.intremap.get_or_insert(Switch::On);
    }
    if iommu.driver.intremap == Some(Switch::On) {
        def.features.ioapic.get_or_insert(IoapicDriver::Qemu);
    }
}

fn watchdogs(def: &mut DomainDef, chipset: Chipset) {
    if chipset == Chipset::Q35 && !def.watchdogs.iter().any(|watchdog| watchdog.model == WatchdogModel::Itco) {
        def.watchdogs.push(Watchdog { model: WatchdogModel::Itco, ..Default::default() });
    }
    for watchdog in &mut def.watchdogs {
        watchdog.action.get_or_insert(WatchdogAction::Reset);
    }
}

fn graphics(def: &mut DomainDef) {
    for graphics in &mut def.graphics {
        if graphics.listens.is_empty() && matches!(graphics.kind, GraphicsKind::Vnc(_) | GraphicsKind::Spice(_)) {
            graphics.listens.push(Listen::Address { address: None });
        }
    }
}
