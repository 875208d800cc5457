//! Controllers: their indexes, and those that devices need although nobody wrote them.

use crate::domain_xml::device::*;
use crate::domain_xml::model::{DomainDef, VirtType};
use crate::error::{Code, Error, Result};

pub(super) fn controllers(def: &mut DomainDef) -> Result<()> {
    let given = std::mem::take(&mut def.controllers);
    let fixed: Vec<(ControllerType, u32)> =
        given.iter().filter_map(|controller| controller.index.map(|index| (controller.kind, index))).collect();
    for mut controller in given {
        if controller.index.is_none() && is_ich9(&controller) {
            controller.index = companion_index(&def.controllers, &controller);
        }
        if controller.index.is_none() {
            let taken = |index: u32| {
                let own = def.controllers.iter().filter_map(|c| Some((c.kind, c.index?)));
                fixed.iter().copied().chain(own).any(|taken| taken == (controller.kind, index))
            };
            controller.index = (0..).find(|index| !taken(*index));
        }
        let (kind, index) = (controller.kind, controller.index.unwrap_or_default());
        let same = |other: &Controller| other.kind == kind && other.index == Some(index);
        // The companions of a USB controller share its index.
        let companion = |other: &Controller| kind == ControllerType::Usb && is_ich9(other) && is_ich9(&controller);
        if def.controllers.iter().any(|other| same(other) && !companion(other)) {
            let what = format!("Multiple '{kind}' controllers with index '{index}'");
            return Err(Error::new(Code::XmlError, what));
        }
        insert_controller(&mut def.controllers, controller);
    }
    // A machine has controllers of its own, which stand before these.
    if !matches!(def.virt_type, VirtType::Qemu | VirtType::Kvm | VirtType::Hvf) {
        implicit_controllers(def)?;
    }
    Ok(())
}

/// Controllers for what hangs on one that is not there.
pub fn implicit_controllers(def: &mut DomainDef) -> Result<()> {
    let buses = [
        (DiskBus::Scsi, ControllerType::Scsi),
        (DiskBus::Fdc, ControllerType::Fdc),
        (DiskBus::Ide, ControllerType::Ide),
        (DiskBus::Sata, ControllerType::Sata),
    ];
    for (bus, kind) in buses {
        let used = def.disks.iter().filter(|disk| disk.target.bus == Some(bus));
        let last = used.filter_map(|disk| match disk.info.address {
            Some(DeviceAddress::Drive { controller, .. }) => Some(controller),
            _ => None,
        });
        if let Some(last) = last.max() {
            few_controllers(bus, last)?;
            (0..=last).for_each(|index| need_controller(def, kind, index));
        }
    }
    let ports = def.channels.iter().filter(|channel| matches!(channel.target, ChannelTarget::Virtio { .. }));
    let virtio_consoles = def.consoles.iter().filter(|console| console.target_type == Some(ConsoleTarget::Virtio));
    let infos = ports.map(|channel| &channel.info).chain(virtio_consoles.map(|console| &console.info));
    let indexes: Vec<u32> = infos
        .map(|info| match info.address {
            Some(DeviceAddress::VirtioSerial { controller, .. }) => controller,
            _ => 0,
        })
        .collect();
    for index in indexes {
        need_controller(def, ControllerType::VirtioSerial, index);
    }
    smartcards(def);
    Ok(())
}

/// Smart cards without a place get the next slot of the first reader.
fn smartcards(def: &mut DomainDef) {
    for position in 0..def.smartcards.len() {
        let slots = def.smartcards.iter().filter_map(|card| match card.info.address {
            Some(DeviceAddress::Ccid { controller: 0, slot }) => Some(slot + 1),
            _ => None,
        });
        let free = slots.max().unwrap_or(0);
        let address =
            def.smartcards[position].info.address.get_or_insert(DeviceAddress::Ccid { controller: 0, slot: free });
        if let DeviceAddress::Ccid { controller, .. } = *address {
            need_controller(def, ControllerType::Ccid, controller);
        }
    }
}

/// A USB 2 controller without an index joins the group before it, unless that has one like it already.
fn companion_index(before: &[Controller], new: &Controller) -> Option<u32> {
    let last = before.iter().rev().find(|other| other.kind == ControllerType::Usb).filter(|last| is_ich9(last))?;
    let same = |other: &&Controller| other.kind == ControllerType::Usb && other.index == last.index;
    let taken = before.iter().filter(same).any(|other| other.model == new.model);
    last.index.filter(|_| !taken)
}

/// The highest controller that a drive address may name: each up to it is added to the definition.
const MOST_CONTROLLERS: u32 = 1024;

fn few_controllers(bus: DiskBus, last: u32) -> Result<()> {
    if last < MOST_CONTROLLERS {
        return Ok(());
    }
    Err(Error::internal(match bus {
        DiskBus::Ide => String::from("Only 1 IDE controller is supported"),
        DiskBus::Fdc => String::from("Only 1 fdc controller is supported"),
        _ => format!("controller='{last}' of a drive address is too large: at most {}", MOST_CONTROLLERS - 1),
    }))
}

fn is_ich9(controller: &Controller) -> bool {
    controller.model.as_deref().is_some_and(|model| model.starts_with("ich9-"))
}

/// Adds a controller unless there is one.
fn need_controller(def: &mut DomainDef, kind: ControllerType, index: u32) {
    if !def.controllers.iter().any(|other| other.kind == kind && other.index == Some(index)) {
        insert_controller(&mut def.controllers, Controller { kind, index: Some(index), ..Default::default() });
    }
}

/// Puts a controller behind those of its type with a smaller index (`virDomainControllerInsert`).
pub fn insert_controller(controllers: &mut Vec<Controller>, new: Controller) {
    let mut place = None;
    for (position, other) in controllers.iter().enumerate().rev().filter(|(_, other)| other.kind == new.kind) {
        if new.index >= other.index {
            place.get_or_insert(position + 1);
            break;
        }
        place = Some(position);
    }
    controllers.insert(place.unwrap_or(controllers.len()), new);
}
