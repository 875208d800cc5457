//! Addresses inside the guest: PCI, USB, virtio-serial ports. (Drive addresses follow from target names, `complete`.)

mod pci;
mod pci_space;
mod serial_ports;
mod spapr;
mod usb;

pub use pci_space::BusKind;

use crate::domain_xml::DomainDef;
use crate::error::Result;
use crate::qemu::complete::Chipset;

/// Gives every device without an address its own, in libvirt's order, adding controllers where needed.
pub fn assign(def: &mut DomainDef, chipset: Chipset) -> Result<()> {
    serial_ports::assign(def);
    spapr::assign(def);
    if matches!(chipset, Chipset::I440fx | Chipset::Q35) {
        pci::assign(def, chipset)?;
    }
    usb::assign(def)
}
