//! Ports of USB controllers and hubs.

use std::collections::BTreeMap;

use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;
use crate::error::{Code, Error, Result};

/// Ports of a hub.
const HUB_PORTS: u32 = 8;

/// Ports of a controller; companions (`ich9-uhci*`) share those of their EHCI controller.
fn controller_ports(controller: &Controller) -> u32 {
    match controller.model.as_deref() {
        Some("piix3-uhci" | "piix4-uhci" | "pci-ohci" | "vt82c686b-uhci") => 2,
        Some("ehci" | "ich9-ehci1") => 6,
        Some("nec-xhci" | "qemu-xhci") => controller.ports.unwrap_or(4),
        _ => 0,
    }
}

/// Taken ports: bus -> dotted port -> whether it is a hub.
#[derive(Default)]
struct Buses {
    /// bus -> number of ports.
    sizes: BTreeMap<u32, u32>,
    taken: BTreeMap<(u32, String), bool>,
}

impl Buses {
    fn free_on(&self, bus: u32, prefix: &str, ports: u32) -> Option<String> {
        let free = (1..=ports).map(|port| format!("{prefix}{port}"));
        let mut free = free.filter(|port| !self.taken.contains_key(&(bus, port.clone())));
        if let Some(port) = free.next() {
            return Some(port);
        }
        // Then below the hubs of this level, in order of their ports.
        for port in 1..=ports {
            let port = format!("{prefix}{port}");
            if self.taken.get(&(bus, port.clone())) == Some(&true)
                && prefix.matches('.').count() < 3
                && let Some(found) = self.free_on(bus, &format!("{port}."), HUB_PORTS)
            {
                return Some(found);
            }
        }
        None
    }

    fn take(&mut self, hub: bool, wanted: Option<u32>) -> Option<(u32, String)> {
        let buses = self.sizes.iter().filter(|(bus, _)| wanted.is_none_or(|wanted| wanted == **bus));
        let found = buses.map(|(bus, ports)| (*bus, *ports)).collect::<Vec<_>>();
        let (bus, port) = found.into_iter().find_map(|(bus, ports)| Some((bus, self.free_on(bus, "", ports)?)))?;
        self.taken.insert((bus, port.clone()), hub);
        Some((bus, port))
    }
}

/// Every USB device's common part, hubs first, in the order libvirt gives out ports.
fn devices(def: &mut DomainDef) -> Vec<(&mut DeviceInfo, bool)> {
    let mut out: Vec<(&mut DeviceInfo, bool)> = def.hubs.iter_mut().map(|hub| (&mut hub.info, true)).collect();
    let mut add = |info| out.push((info, false));
    let disks = def.disks.iter_mut().filter(|disk| disk.target.bus == Some(DiskBus::Usb));
    disks.for_each(|disk| add(&mut disk.info));
    let nics = def.interfaces.iter_mut().filter(|nic| nic.model.as_deref() == Some("usb-net"));
    nics.for_each(|nic| add(&mut nic.info));
    let sounds = def.sounds.iter_mut().filter(|sound| sound.model == SoundModel::Usb);
    sounds.for_each(|sound| add(&mut sound.info));
    let hostdevs = def.hostdevs.iter_mut().filter(|dev| matches!(dev.source, HostdevSource::Usb(_)));
    hostdevs.for_each(|dev| add(&mut dev.info));
    let ccid = def.controllers.iter_mut().filter(|controller| controller.kind == ControllerType::Ccid);
    ccid.for_each(|controller| add(&mut controller.info));
    let serials = def.serials.iter_mut().filter(|serial| serial.target_type == Some(SerialTarget::Usb));
    serials.for_each(|serial| add(&mut serial.info));
    let inputs = def.inputs.iter_mut().filter(|input| input.bus == Some(InputBus::Usb));
    inputs.for_each(|input| add(&mut input.info));
    let mtp = def.filesystems.iter_mut().filter(|fs| fs.driver.kind == Some(FsDriverType::Mtp));
    mtp.for_each(|fs| add(&mut fs.info));
    def.redirdevs.iter_mut().for_each(|dev| add(&mut dev.info));
    out
}

/// Gives USB devices ports, adding hubs when the controllers have too few.
pub(super) fn assign(def: &mut DomainDef) -> Result<()> {
    let usb = |c: &&Controller| c.kind == ControllerType::Usb && c.model.as_deref() != Some("none");
    let mut buses = Buses::default();
    for controller in def.controllers.iter().filter(usb) {
        let size = buses.sizes.entry(controller.index.unwrap_or(0)).or_default();
        *size = (*size).max(controller_ports(controller));
    }
    let total: u32 = buses.sizes.values().sum();
    let count = devices(def).len() as u32;
    if count == 0 {
        return Ok(());
    }
    if buses.sizes.is_empty() {
        return match def.controllers.iter().any(|c| c.kind == ControllerType::Usb) {
            // Given as model='none'.
            true => Err(Error::unsupported_config(
                "USB is disabled for this domain, but USB devices are present in the domain XML",
            )),
            false => Ok(()),
        };
    }
    let hub_ports = def.hubs.len() as u32 * HUB_PORTS;
    if count > total + hub_ports {
        let hubs = (count - total - hub_ports + 1).div_ceil(HUB_PORTS);
        def.hubs.extend((0..hubs).map(|_| Hub::default()));
    }
    for (info, hub) in devices(def) {
        if let Some(DeviceAddress::Usb { bus, port: Some(port) }) = &info.address
            && buses.taken.insert((*bus, port.clone()), hub).is_some()
        {
            return Err(Error::new(Code::XmlError, format!("Duplicate USB address bus {bus} port {port}")));
        }
    }
    for (info, hub) in devices(def) {
        let wanted = match &info.address {
            None => None,
            Some(DeviceAddress::Usb { bus, port: None }) => Some(*bus),
            Some(_) => continue,
        };
        let Some((bus, port)) = buses.take(hub, wanted) else {
            return Err(Error::internal("No free USB ports"));
        };
        info.address = Some(DeviceAddress::Usb { bus, port: Some(port) });
    }
    Ok(())
}
