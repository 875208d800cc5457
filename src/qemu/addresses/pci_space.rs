//! The guest's PCI buses as an allocator: which slots exist, which functions are taken, where a device may go.
//!
//! Knows no definition. Rules are libvirt's: a device goes to the lowest free slot of the first bus that takes it; what
//! may be hot-plugged goes to buses that can do that; root ports share a slot of the root bus by functions. While the
//! space is still growing (first pass), a lacking bus is added; the second pass only places.

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
    Expander,
    PcieExpander,
}

/// Every kind, for the way back from its name.
const KINDS: [BusKind; 10] = [
    BusKind::PciRoot,
    BusKind::PcieRoot,
    BusKind::PciBridge,
    BusKind::DmiToPciBridge,
    BusKind::PcieToPciBridge,
    BusKind::RootPort,
    BusKind::SwitchUpstream,
    BusKind::SwitchDownstream,
    BusKind::Expander,
    BusKind::PcieExpander,
];

/// How something is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plug {
    /// Conventional PCI endpoint.
    Pci,
    /// PCI Express endpoint.
    Pcie,
    RootPort,
    PciBridge,
    DmiToPciBridge,
    PcieToPciBridge,
    SwitchUpstream,
    SwitchDownstream,
    Expander,
    PcieExpander,
}

/// What a device needs of a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub plug: Plug,
    /// Only a bus that can hot-plug will do, unless the definition names another.
    pub hotplug: bool,
    /// Belongs on bus 0, next to the chipset.
    pub integrated: bool,
}

impl Need {
    /// A hot-pluggable conventional device.
    pub const PCI: Need = Need { plug: Plug::Pci, hotplug: true, integrated: false };
    /// A hot-pluggable PCI Express device.
    pub const PCIE: Need = Need { plug: Plug::Pcie, hotplug: true, integrated: false };

    /// A bridge or port.
    pub const fn of(plug: Plug) -> Need {
        Need { plug, hotplug: false, integrated: false }
    }

    /// The same on the root bus, without hot-plug.
    pub const fn on_root(self) -> Need {
        Need { hotplug: false, integrated: true, ..self }
    }

    /// Root ports share a slot.
    fn aggregates(self) -> bool {
        self.plug == Plug::RootPort
    }
}

impl BusKind {
    /// First and last slot for devices.
    fn slots(self) -> (u32, u32) {
        match self {
            BusKind::PciRoot | BusKind::PcieRoot | BusKind::PciBridge | BusKind::PcieToPciBridge => (1, 31),
            BusKind::DmiToPciBridge | BusKind::SwitchUpstream | BusKind::Expander | BusKind::PcieExpander => (0, 31),
            BusKind::RootPort | BusKind::SwitchDownstream => (0, 0),
        }
    }

    /// What can be connected here.
    fn takes(self) -> &'static [Plug] {
        use BusKind::*;
        match self {
            PciRoot => &[Plug::Pci, Plug::PciBridge, Plug::Expander],
            PciBridge | DmiToPciBridge | PcieToPciBridge => &[Plug::Pci, Plug::PciBridge],
            PcieRoot => &[Plug::Pcie, Plug::RootPort, Plug::DmiToPciBridge, Plug::PcieExpander],
            RootPort | SwitchDownstream => &[Plug::Pcie, Plug::SwitchUpstream, Plug::PcieToPciBridge],
            SwitchUpstream => &[Plug::SwitchDownstream],
            Expander => &[Plug::PciBridge],
            PcieExpander => &[Plug::RootPort, Plug::DmiToPciBridge],
        }
    }

    fn can_hotplug(self) -> bool {
        use BusKind::*;
        matches!(self, PciRoot | PciBridge | PcieToPciBridge | RootPort | SwitchDownstream)
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
        KINDS.into_iter().find(|kind| kind.model() == model)
    }

    /// How the controller that makes the bus is itself connected; `None` = a root.
    pub fn plug(self) -> Option<Plug> {
        Some(match self {
            BusKind::PciRoot | BusKind::PcieRoot => return None,
            BusKind::PciBridge => Plug::PciBridge,
            BusKind::DmiToPciBridge => Plug::DmiToPciBridge,
            BusKind::PcieToPciBridge => Plug::PcieToPciBridge,
            BusKind::RootPort => Plug::RootPort,
            BusKind::SwitchUpstream => Plug::SwitchUpstream,
            BusKind::SwitchDownstream => Plug::SwitchDownstream,
            BusKind::Expander => Plug::Expander,
            BusKind::PcieExpander => Plug::PcieExpander,
        })
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
    #[error(
        "The device at PCI address {0} cannot be plugged into the PCI controller with index='{1}'. It requires a controller that accepts a {2}."
    )]
    WrongBus(PciAddress, usize, &'static str),
    #[error(
        "a PCI slot is needed to connect a PCI controller model='{0}', but none is available, and it cannot be automatically added"
    )]
    CannotGrow(&'static str),
    #[error("No more available PCI slots")]
    Full,
}

/// A bus by its controller index.
#[derive(Clone, Debug)]
struct Bus {
    kind: BusKind,
    /// Taken functions per slot, one bit each.
    taken: [u8; 32],
    /// Slots whose functions are handed out one by one.
    shared: u32,
}

impl Bus {
    fn new(kind: BusKind) -> Self {
        Bus { kind, taken: [0; 32], shared: 0 }
    }
}

/// All buses.
#[derive(Clone, Debug, Default)]
pub struct PciSpace {
    buses: Vec<Option<Bus>>,
    growing: bool,
}

impl PciSpace {
    /// An empty space; a `growing` one adds the buses it lacks.
    pub fn new(growing: bool) -> Self {
        PciSpace { buses: Vec::new(), growing }
    }

    /// Adds a bus.
    pub fn add_bus(&mut self, index: usize, kind: BusKind) {
        if self.buses.len() <= index {
            self.buses.resize(index + 1, None);
        }
        self.buses[index] = Some(Bus::new(kind));
    }

    /// Makes every index below `count` a bus: what has no controller yet gets `kind`.
    pub fn fill(&mut self, count: usize, kind: BusKind) {
        if self.buses.len() < count {
            self.buses.resize(count, None);
        }
        for bus in self.buses.iter_mut().skip(1) {
            bus.get_or_insert_with(|| Bus::new(kind));
        }
    }

    /// Whether buses are still added.
    pub fn is_growing(&self) -> bool {
        self.growing
    }

    /// Whether every slot of every bus is in use.
    pub fn is_full(&self) -> bool {
        self.buses.iter().flatten().all(|bus| {
            let (first, last) = bus.kind.slots();
            bus.taken[first as usize..=last as usize].iter().all(|functions| *functions != 0)
        })
    }

    /// The kind of a bus.
    pub fn kind(&self, index: usize) -> Option<BusKind> {
        Some(self.buses.get(index)?.as_ref()?.kind)
    }

    /// One above the highest index.
    pub fn count(&self) -> usize {
        self.buses.len()
    }

    /// Adds buses up to the one of this address, of the kind a device with this need wants. The first conventional bus
    /// of a PCI Express machine is a bridge, which comes with the port it hangs on: the address moves behind both.
    fn grow(&mut self, address: &mut PciAddress, need: Need) -> Result<(), PciError> {
        let mut add = (address.bus as usize + 1).saturating_sub(self.buses.len());
        if add == 0 {
            return Ok(());
        }
        let mut first: &[BusKind] = &[];
        let kind = match need.plug {
            Plug::Pci | Plug::PciBridge => {
                if !self.buses.iter().flatten().any(|bus| bus.kind.takes().contains(&Plug::PciBridge)) {
                    first = &[BusKind::RootPort, BusKind::PcieToPciBridge];
                    if add == 1 {
                        add = 2;
                        address.bus += 1;
                    }
                }
                BusKind::PciBridge
            }
            Plug::Pcie | Plug::SwitchUpstream => BusKind::RootPort,
            Plug::PcieToPciBridge => return Err(PciError::CannotGrow("pcie-to-pci-bridge")),
            Plug::SwitchDownstream => return Err(PciError::CannotGrow("pcie-switch-downstream-port")),
            Plug::RootPort => return Err(PciError::CannotGrow("pcie-root-port")),
            Plug::DmiToPciBridge => return Err(PciError::CannotGrow("dmi-to-pci-bridge")),
            Plug::Expander => return Err(PciError::CannotGrow("pci-expander-bus")),
            Plug::PcieExpander => return Err(PciError::CannotGrow("pcie-expander-bus")),
        };
        let kinds = first.iter().copied().chain(std::iter::repeat(kind));
        let start = self.buses.len();
        self.buses.extend(kinds.take(add).map(|kind| Some(Bus::new(kind))));
        if let (false, Some(Some(port))) = (first.is_empty(), self.buses.get_mut(start)) {
            port.taken[0] = 1;
        }
        // Bus numbers have eight bits.
        if self.buses.len() > 256 { Err(PciError::Full) } else { Ok(()) }
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

    /// Takes the function of an address given in a definition; a growing space adds its bus. Returns where the device
    /// really goes, which is another bus when the one it names turns out to be the port of a bridge.
    pub fn reserve(&mut self, mut address: PciAddress, need: Need) -> Result<PciAddress, PciError> {
        if self.growing && address.domain == 0 {
            self.grow(&mut address, need)?;
        }
        let index = address.bus as usize;
        let bus = self.bus_mut(&address)?;
        if let Some(wanted) = refuses(bus.kind, need) {
            return Err(PciError::WrongBus(address, index, wanted));
        }
        let bit = 1u8 << address.function;
        let slot = &mut bus.taken[address.slot as usize];
        if *slot & bit != 0 {
            return Err(PciError::InUse(address));
        }
        if need.aggregates() && *slot == 0 {
            bus.shared |= 1 << address.slot;
        }
        *slot |= bit;
        Ok(address)
    }

    /// Takes a function that the chipset has, whatever is there.
    pub fn take_built_in(&mut self, address: PciAddress) {
        if let Ok(bus) = self.bus_mut(&address) {
            bus.taken[address.slot as usize] |= 1 << address.function;
        }
    }

    /// Whether this very function is taken.
    pub fn is_taken(&self, address: &PciAddress) -> bool {
        let bus = self.buses.get(address.bus as usize).and_then(Option::as_ref);
        bus.is_some_and(|bus| bus.taken[address.slot as usize & 31] & (1 << (address.function & 7)) != 0)
    }

    /// Whether any function of the slot is taken.
    pub fn slot_in_use(&self, bus: usize, slot: u32) -> bool {
        self.buses.get(bus).and_then(Option::as_ref).is_some_and(|bus| bus.taken[slot as usize & 31] != 0)
    }

    /// Whether other functions of this address's slot are taken, so that function 0 must say `multifunction`.
    pub fn slot_is_shared(&self, address: &PciAddress) -> bool {
        let bus = self.buses.get(address.bus as usize).and_then(Option::as_ref);
        bus.is_some_and(|bus| bus.taken[address.slot as usize & 31] & !(1 << (address.function & 7)) != 0)
    }

    /// Takes the lowest free place for a device with this need, at this function of its slot. A growing space always
    /// has one.
    pub fn take_next(&mut self, need: Need, function: u32) -> Result<PciAddress, PciError> {
        for (index, bus) in self.buses.iter_mut().enumerate() {
            let Some(bus) = bus.as_mut().filter(|bus| attracts(bus, index, need)) else { continue };
            let (first, last) = bus.kind.slots();
            for slot in first..=last {
                let taken = &mut bus.taken[slot as usize];
                let function = match *taken {
                    0 => function,
                    taken if need.aggregates() && bus.shared & (1 << slot) != 0 && taken != 0xff => {
                        taken.trailing_ones()
                    }
                    _ => continue,
                };
                if *taken == 0 && need.aggregates() {
                    bus.shared |= 1 << slot;
                }
                *taken |= 1 << function;
                return Ok(PciAddress { domain: 0, bus: index as u32, slot, function });
            }
        }
        if !self.growing {
            return Err(PciError::Full);
        }
        let mut address = PciAddress { domain: 0, bus: self.buses.len() as u32, slot: 0, function };
        self.grow(&mut address, need)?;
        let bus = self.buses.get_mut(address.bus as usize).and_then(Option::as_mut).ok_or(PciError::Full)?;
        address.slot = bus.kind.slots().0;
        bus.taken[address.slot as usize] |= 1 << function;
        Ok(address)
    }
}

/// Whether a bus is chosen for a device that was not given an address.
fn attracts(bus: &Bus, index: usize, need: Need) -> bool {
    bus.kind.takes().contains(&need.plug)
        && (!need.hotplug || bus.kind.can_hotplug())
        && (!need.integrated || index == 0)
}

/// The kind of slot a device lacks on the bus that its given address names. A person may mix PCI and PCIe endpoints.
fn refuses(kind: BusKind, need: Need) -> Option<&'static str> {
    let takes = kind.takes();
    let endpoint = takes.contains(&Plug::Pci) || takes.contains(&Plug::Pcie);
    let fits = match need.plug {
        Plug::Pci | Plug::Pcie => endpoint,
        Plug::PciBridge => takes.contains(&Plug::PciBridge) || endpoint,
        plug => takes.contains(&plug),
    };
    if fits {
        return None;
    }
    Some(match need.plug {
        Plug::Pci => "standard PCI device",
        Plug::Pcie => "PCI Express device",
        Plug::RootPort => "pcie-root-port",
        Plug::PciBridge => "pci-bridge",
        Plug::DmiToPciBridge => "dmi-to-pci-bridge",
        Plug::PcieToPciBridge => "pcie-to-pci-bridge",
        Plug::SwitchUpstream => "pcie-switch-upstream-port",
        Plug::SwitchDownstream => "pcie-switch-downstream-port",
        Plug::Expander => "pci-expander-bus",
        Plug::PcieExpander => "pcie-expander-bus",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(bus: u32, slot: u32, function: u32) -> PciAddress {
        PciAddress { domain: 0, bus, slot, function }
    }

    #[test]
    fn conventional_devices_fill_slots() {
        let mut space = PciSpace::new(false);
        space.add_bus(0, BusKind::PciRoot);
        space.take_built_in(at(0, 1, 0));
        space.reserve(at(0, 3, 0), Need::PCI).unwrap();
        assert_eq!(space.take_next(Need::PCI, 0), Ok(at(0, 2, 0)));
        assert_eq!(space.take_next(Need::PCI, 0), Ok(at(0, 4, 0)));
        assert_eq!(space.take_next(Need::PCIE, 0), Err(PciError::Full));
    }

    #[test]
    fn root_ports_share_slots_and_take_one_device_each() {
        let port = Need::of(Plug::RootPort);
        let mut space = PciSpace::new(false);
        space.add_bus(0, BusKind::PcieRoot);
        space.take_built_in(at(0, 1, 0));
        for index in 1..=9 {
            space.add_bus(index, BusKind::RootPort);
            let address = space.take_next(port, 0).unwrap();
            assert_eq!(address, at(0, 2 + (index as u32 - 1) / 8, (index as u32 - 1) % 8));
        }
        assert!(space.slot_is_shared(&at(0, 2, 0)));
        assert_eq!(space.take_next(Need::PCIE, 0), Ok(at(1, 0, 0)));
        assert_eq!(space.take_next(Need::PCIE, 0), Ok(at(2, 0, 0)));
        assert_eq!(space.take_next(Need::PCIE.on_root(), 0), Ok(at(0, 4, 0)));
    }

    #[test]
    fn a_growing_space_adds_what_a_device_hangs_on() {
        let mut space = PciSpace::new(true);
        space.add_bus(0, BusKind::PcieRoot);
        assert_eq!(space.take_next(Need::PCI, 0), Ok(at(2, 1, 0)));
        assert_eq!(space.take_next(Need::PCIE, 0), Ok(at(3, 0, 0)));
        assert_eq!(space.kind(1), Some(BusKind::RootPort));
        assert_eq!(space.kind(2), Some(BusKind::PcieToPciBridge));
        space.reserve(at(5, 0, 0), Need::PCIE).unwrap();
        assert_eq!(space.count(), 6);
    }

    #[test]
    fn an_address_on_the_port_of_a_new_bridge_moves_behind_it() {
        let mut space = PciSpace::new(true);
        space.add_bus(0, BusKind::PcieRoot);
        assert_eq!(space.reserve(at(1, 1, 0), Need::PCI), Ok(at(2, 1, 0)));
    }

    #[test]
    fn refusals() {
        let mut space = PciSpace::new(false);
        space.add_bus(0, BusKind::PciRoot);
        space.reserve(at(0, 5, 0), Need::PCI).unwrap();
        assert_eq!(space.reserve(at(0, 5, 0), Need::PCI), Err(PciError::InUse(at(0, 5, 0))));
        assert!(space.reserve(at(0, 5, 1), Need::PCIE).is_ok());
        assert!(matches!(space.reserve(at(0, 0, 0), Need::PCI), Err(PciError::SlotTooLow(..))));
        assert!(matches!(space.reserve(at(3, 1, 0), Need::PCI), Err(PciError::Bus(..))));
        assert!(matches!(space.reserve(at(0, 1, 9), Need::PCI), Err(PciError::Function(..))));
        assert!(matches!(space.reserve(at(0, 6, 0), Need::of(Plug::RootPort)), Err(PciError::WrongBus(..))));
    }
}
