//! PCI address: domain, bus, slot, function.

use std::fmt;

/// A PCI address as in `<address type='pci' .../>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress {
    /// PCI domain, 16 bits.
    pub domain: u32,
    /// Bus, 8 bits; for a guest the index of the PCI controller.
    pub bus: u32,
    /// Slot (device), 5 bits.
    pub slot: u32,
    /// Function, 3 bits.
    pub function: u32,
}

impl fmt::Display for PciAddress {
    /// libvirt's short form, `0000:00:1f.2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.slot, self.function)
    }
}
