//! Ports of virtio-serial controllers.

use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{ChannelTarget, ControllerType, DeviceAddress, DeviceInfo};
use crate::qemu::complete::add_controller;

/// Ports of a controller that says nothing.
const DEFAULT_PORTS: u32 = 31;

fn address(info: &DeviceInfo) -> Option<(u32, u32)> {
    match info.address {
        Some(DeviceAddress::VirtioSerial { controller, port, .. }) => Some((controller, port)),
        _ => None,
    }
}

/// Gives channels their ports. Port 0 of a controller is kept for a console, so channels start at 1.
pub(super) fn assign(def: &mut DomainDef) {
    let wanted = |target: &ChannelTarget| matches!(target, ChannelTarget::Virtio { .. });
    let mut taken: Vec<(u32, u32)> = def.channels.iter().filter_map(|channel| address(&channel.info)).collect();
    taken.extend(def.consoles.iter().filter_map(|console| address(&console.info)));
    taken.retain(|(_, port)| *port > 0);
    let named = def.channels.iter().filter_map(|channel| address(&channel.info)).map(|(controller, _)| controller);
    let named: Vec<u32> = named.chain(taken.iter().map(|(controller, _)| *controller)).collect();
    for controller in named {
        add_controller(def, ControllerType::VirtioSerial, controller, None);
    }
    for index in 0..def.channels.len() {
        let channel = &def.channels[index];
        // A port of 0 was not given: libvirt takes `<address type='virtio-serial'/>` and port 0 as a wish for any.
        let open = match channel.info.address {
            None => true,
            Some(DeviceAddress::VirtioSerial { port, .. }) => port == 0,
            _ => false,
        };
        if !wanted(&channel.target) || !open {
            continue;
        }
        let wish = address(&channel.info).map(|(controller, _)| controller);
        let mut controllers: Vec<(u32, u32)> = def
            .controllers
            .iter()
            .filter(|c| c.kind == ControllerType::VirtioSerial)
            .filter(|c| wish.is_none_or(|wish| c.index == Some(wish)))
            .map(|c| (c.index.unwrap_or(0), c.ports.unwrap_or(DEFAULT_PORTS)))
            .collect();
        controllers.sort_unstable();
        let free = controllers.iter().find_map(|(number, ports)| {
            (1..*ports).find(|port| !taken.contains(&(*number, *port))).map(|p| (*number, p))
        });
        let (controller, port) = free.unwrap_or_else(|| {
            let next = controllers.last().map_or(0, |(number, _)| number + 1);
            (next, 1)
        });
        add_controller(def, ControllerType::VirtioSerial, controller, None);
        taken.push((controller, port));
        def.channels[index].info.address = Some(DeviceAddress::VirtioSerial { controller, bus: 0, port });
    }
    // A virtio console needs a controller, and QEMU finds its port itself.
    if def.consoles.iter().any(|c| c.target_type == Some(crate::domain_xml::device::ConsoleTarget::Virtio)) {
        let any = def.controllers.iter().any(|c| c.kind == ControllerType::VirtioSerial);
        if !any {
            add_controller(def, ControllerType::VirtioSerial, 0, None);
        }
    }
}
