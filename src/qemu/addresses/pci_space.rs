//! The guest's PCI buses as an allocator: which slots exist, which functions are taken, where a device may go.
//!
//! Knows no definition. Rules are libvirt's: a conventional device goes to the lowest free slot of the first bus that
//! takes it; on a PCIe machine hot-pluggable devices go to root ports, one each, and root ports share a slot of the root
//! bus by functions.

use crate::types::PciAddress;

/// What a bus is made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusKind {
    PciRoot,
    PcieRoot,
    PciBridge,
    DmiToPciBridge,
    PcieToPciBridge,
    RootPort,
    SwitchUpstream,
    SwitchDownstream,
    /// `pci-expander-bus`: one slot space like a bridge.
    Expander,
    PcieExpander,
}

/// What a device needs of a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Conventional PCI endpoint.
    Pci,
    /// PCI Express endpoint.
    Pcie,
    /// PCI Express endpoint soldered to the root bus.
    PcieIntegrated,
    RootPort,
    PciBridge,
    DmiToPciBridge,
    PcieToPciBridge,
    SwitchUpstream,
    SwitchDownstream,
    Expander,
}

impl BusKind {
    /// First and last slot for devices.
    fn slots(self) -> (u32, u32) {
        match self {
            BusKind::PciRoot | BusKind::PcieRoot | BusKind::PciBridge | BusKind::PcieToPciBridge => (1, 31),
            BusKind::DmiToPciBridge | BusKind::SwitchUpstream => (0, 31),
            BusKind::RootPort | BusKind::SwitchDownstream => (0, 0),
            BusKind::Expander => (0, 0),
            BusKind::PcieExpander => (0, 31),
        }
    }

    /// Whether a device with this need is put here without having been told to.
    fn attracts(self, need: Need) -> bool {
        use BusKind::*;
        match need {
            Need::Pci => matches!(self, PciRoot | PciBridge | PcieToPciBridge),
            Need::Pcie => matches!(self, RootPort | SwitchDownstream),
            Need::PcieIntegrated | Need::DmiToPciBridge => matches!(self, PcieRoot),
            Need::RootPort => matches!(self, PcieRoot | PcieExpander),
            Need::PciBridge => matches!(self, PciRoot | PciBridge | DmiToPciBridge | PcieToPciBridge | Expander),
            Need::PcieToPciBridge => matches!(self, RootPort | SwitchDownstream),
            Need::SwitchUpstream => matches!(self, RootPort | SwitchDownstream),
            Need::SwitchDownstream => matches!(self, SwitchUpstream),
            Need::Expander => matches!(self, PciRoot | PcieRoot),
        }
    }

    /// libvirt's model name.
    pub fn model(self) -> &'static str {
        match self {
            BusKind::PciRoot => "pci-root",
            BusKind::PcieRoot => "pcie-root",
            BusKind::PciBridge => "pci-bridge",
            BusKind::DmiToPciBridge => "dmi-to-pci-bridge",
            BusKind::PcieToPciBridge => "pcie-to-pci-bridge",
            BusKind::RootPort => "pcie-root-port",
            BusKind::SwitchUpstream => "pcie-switch-upstream-port",
            BusKind::SwitchDownstream => "pcie-switch-downstream-port",
            BusKind::Expander => "pci-expander-bus",
            BusKind::PcieExpander => "pcie-expander-bus",
        }
    }

    /// The bus a `<controller type='pci' model=..>` makes.
    pub fn from_model(model: &str) -> Option<BusKind> {
        use BusKind::*;
        [
            PciRoot,
            PcieRoot,
            PciBridge,
            DmiToPciBridge,
            PcieToPciBridge,
            RootPort,
            SwitchUpstream,
            SwitchDownstream,
            Expander,
            PcieExpander,
        ]
        .into_iter()
        .find(|kind| kind.model() == model)
    }
}

/// Why an address cannot be had. Texts are libvirt's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PciError {
    #[error("Attempted double use of PCI Address {0}")]
    InUse(PciAddress),
    #[error("Invalid PCI address {0}. slot must be <= {1}")]
    SlotTooHigh(PciAddress, u32),
    #[error("Invalid PCI address {0}. slot must be >= {1}")]
    SlotTooLow(PciAddress, u32),
    #[error("Invalid PCI address {0}. function must be <= 7")]
    Function(PciAddress),
    #[error("Invalid PCI address {0}. Only PCI domain 0 is available")]
    Domain(PciAddress),
    #[error("Invalid PCI address {0}. bus must be <= {1}")]
    Bus(PciAddress, usize),
    #[error("No more available PCI slots")]
    Full,
}

/// A bus by its controller index.
#[derive(Clone, Debug)]
struct Bus {
    kind: BusKind,
    /// Taken functions per slot, one bit each.
    taken: [u8; 32],
    /// Slots whose functions are given out one by one to root ports.
    shared: u32,
}

/// All buses of a guest.
#[derive(Clone, Debug, Default)]
pub struct PciSpace {
    buses: Vec<Option<Bus>>,
}

impl PciSpace {
    /// Adds the bus with this controller index.
    pub fn add_bus(&mut self, index: usize, kind: BusKind) {
        if self.buses.len() <= index {
            self.buses.resize(index + 1, None);
        }
        self.buses[index] = Some(Bus { kind, taken: [0; 32], shared: 0 });
    }

    /// The kind of a bus.
    pub fn kind(&self, index: usize) -> Option<BusKind> {
        Some(self.buses.get(index)?.as_ref()?.kind)
    }

    /// One above the highest index.
    pub fn len(&self) -> usize {
        self.buses.len()
    }

    /// Whether there is no bus at all.
    pub fn is_empty(&self) -> bool {
        self.buses.is_empty()
    }

    fn bus_mut(&mut self, address: &PciAddress) -> Result<&mut Bus, PciError> {
        let last = self.buses.len().saturating_sub(1);
        if address.domain != 0 {
            return Err(PciError::Domain(*address));
        }
        let bus =
            self.buses.get_mut(address.bus as usize).and_then(Option::as_mut).ok_or(PciError::Bus(*address, last))?;
        if address.function > 7 {
            return Err(PciError::Function(*address));
        }
        if address.slot > bus.kind.slots().1 {
            return Err(PciError::SlotTooHigh(*address, bus.kind.slots().1));
        }
        if address.slot < bus.kind.slots().0 {
            return Err(PciError::SlotTooLow(*address, bus.kind.slots().0));
        }
        Ok(bus)
    }

    /// Takes the function of an address given in a definition. `shares_slot`: a root port, whose neighbours may follow
    /// on the other functions of its slot.
    pub fn reserve(&mut self, address: PciAddress, shares_slot: bool) -> Result<(), PciError> {
        let bus = self.bus_mut(&address)?;
        let bit = 1u8 << address.function;
        let slot = &mut bus.taken[address.slot as usize];
        if *slot & bit != 0 {
            return Err(PciError::InUse(address));
        }
        if shares_slot && (*slot == 0 || bus.shared & (1 << address.slot) != 0) {
            bus.shared |= 1 << address.slot;
        }
        *slot |= bit;
        Ok(())
    }

    /// Takes a whole slot (built-in devices); quietly nothing when the bus is missing.
    pub fn reserve_slot(&mut self, address: PciAddress) {
        if let Some(bus) = self.buses.get_mut(address.bus as usize).and_then(Option::as_mut) {
            bus.taken[address.slot as usize & 31] = 0xff;
        }
    }

    /// Whether any function of the slot is taken.
    pub fn slot_in_use(&self, bus: usize, slot: u32) -> bool {
        self.buses.get(bus).and_then(Option::as_ref).is_some_and(|bus| bus.taken[slot as usize & 31] != 0)
    }

    /// Whether exactly this function is taken.
    pub fn in_use(&self, address: &PciAddress) -> bool {
        let bus = self.buses.get(address.bus as usize).and_then(Option::as_ref);
        bus.is_some_and(|bus| bus.taken[address.slot as usize & 31] & (1 << (address.function & 7)) != 0)
    }

    /// Whether other functions of this address's slot are taken, so that function 0 must say `multifunction`.
    pub fn slot_is_shared(&self, address: &PciAddress) -> bool {
        let bus = self.buses.get(address.bus as usize).and_then(Option::as_ref);
        bus.is_some_and(|bus| bus.taken[address.slot as usize & 31] & !(1 << (address.function & 7)) != 0)
    }

    /// Takes the lowest free place for a device with this need. `below` restricts a controller to buses with a lower
    /// index than its own.
    pub fn take_next(&mut self, need: Need, below: Option<usize>) -> Result<PciAddress, PciError> {
        let limit = below.unwrap_or(usize::MAX);
        for (index, bus) in self.buses.iter_mut().enumerate().take_while(|(index, _)| *index < limit) {
            let Some(bus) = bus.as_mut().filter(|bus| bus.kind.attracts(need)) else { continue };
            let (first, last) = bus.kind.slots();
            let shares = matches!(need, Need::RootPort | Need::SwitchDownstream);
            for slot in first..=last {
                let taken = &mut bus.taken[slot as usize];
                let function = match *taken {
                    0 => 0,
                    taken if shares && bus.shared & (1 << slot) != 0 && taken != 0xff => taken.trailing_ones(),
                    _ => continue,
                };
                *taken |= 1 << function;
                if shares {
                    bus.shared |= 1 << slot;
                }
                return Ok(PciAddress { domain: 0, bus: index as u32, slot, function });
            }
        }
        Err(PciError::Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(bus: u32, slot: u32, function: u32) -> PciAddress {
        PciAddress { domain: 0, bus, slot, function }
    }

    #[test]
    fn conventional_devices_fill_slots() {
        let mut space = PciSpace::default();
        space.add_bus(0, BusKind::PciRoot);
        space.reserve_slot(at(0, 1, 0));
        space.reserve(at(0, 3, 0), false).unwrap();
        assert_eq!(space.take_next(Need::Pci, None), Ok(at(0, 2, 0)));
        assert_eq!(space.take_next(Need::Pci, None), Ok(at(0, 4, 0)));
        assert_eq!(space.take_next(Need::Pcie, None), Err(PciError::Full));
    }

    #[test]
    fn root_ports_share_slots_and_take_one_device_each() {
        let mut space = PciSpace::default();
        space.add_bus(0, BusKind::PcieRoot);
        space.reserve_slot(at(0, 1, 0));
        for index in 1..=9 {
            space.add_bus(index, BusKind::RootPort);
            let address = space.take_next(Need::RootPort, Some(index)).unwrap();
            assert_eq!(address, at(0, 2 + (index as u32 - 1) / 8, (index as u32 - 1) % 8));
        }
        assert!(space.slot_is_shared(&at(0, 2, 0)));
        assert_eq!(space.take_next(Need::Pcie, None), Ok(at(1, 0, 0)));
        assert_eq!(space.take_next(Need::Pcie, None), Ok(at(2, 0, 0)));
        assert_eq!(space.take_next(Need::PcieIntegrated, None), Ok(at(0, 4, 0)));
    }

    #[test]
    fn refusals() {
        let mut space = PciSpace::default();
        space.add_bus(0, BusKind::PciRoot);
        space.reserve(at(0, 5, 0), false).unwrap();
        assert_eq!(space.reserve(at(0, 5, 0), false), Err(PciError::InUse(at(0, 5, 0))));
        assert!(space.reserve(at(0, 5, 1), false).is_ok());
        assert!(matches!(space.reserve(at(0, 0, 0), false), Err(PciError::SlotTooLow(..))));
        assert!(matches!(space.reserve(at(3, 1, 0), false), Err(PciError::Bus(..))));
        assert!(matches!(space.reserve(at(0, 1, 9), false), Err(PciError::Function(..))));
    }
}
