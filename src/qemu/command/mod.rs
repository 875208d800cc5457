//! DomainDef -> command line. Pure: no file is opened, nothing is asked.
//!
//! The input is the live copy of a completed definition: aliases, node numbers, ports and the concrete CPU are in it.
//! The output is a [`CommandPlan`]: the argument list and what each inherited descriptor in it must be. Descriptor
//! numbers are chosen here, so the arguments are final and the same in a dry run.
//!
//! Every element either becomes arguments or is refused by name ([`unsupported`]); none is ignored silently.

mod audio;
mod blockdev;
mod boot;
mod chardev;
mod controllers;
mod cpu;
mod disks;
mod display;
mod extras;
mod firmware;
#[cfg(test)]
mod golden;
mod machine;
mod misc;
mod net;
mod numa;
mod props;
mod remote;
mod spice;
mod unsupported;

use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{DeviceAddress, DeviceInfo, VirtioOptions};
use crate::error::{Error, Result};
use crate::qemu::capabilities::QemuCaps;

pub use blockdev::{NodeNames, format_layer, node_names};
pub use boot::iso_time;
pub use props::{Pairs, Props};
pub use remote::{SecretContent, secrets};

/// First number given to an inherited descriptor.
pub const FIRST_FD: i32 = 16;

/// What an inherited descriptor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FdKind {
    /// The listening monitor socket.
    Monitor,
    /// Queue `queue` of the tap of interface number `nic`.
    Tap { nic: usize, queue: u32 },
    /// `/dev/vhost-net` for a queue of interface number `nic`.
    Vhost { nic: usize, queue: u32 },
    /// A file the guest writes to: opened for appending, created, and emptied first when `truncate`.
    Log { path: String, truncate: bool },
    /// A listening unix socket at `path`.
    Listen { path: String },
    /// `/dev/kvm`.
    Kvm,
    /// What the secret object with this id holds, in memory; the plan does not know it.
    Secret { id: String },
}

/// One inherited descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFd {
    /// Its number in QEMU.
    pub number: i32,
    pub kind: FdKind,
}

/// Everything needed to start the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandPlan {
    /// The emulator.
    pub program: String,
    /// Arguments without the program.
    pub args: Vec<String>,
    /// Additional environment (`<qemu:env>`).
    pub env: Vec<(String, String)>,
    pub fds: Vec<PlannedFd>,
}

/// What planning needs besides the definition.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    pub caps: &'a QemuCaps,
    /// `-sandbox` with everything denied.
    pub sandbox: bool,
    /// Pass `/dev/kvm` as a descriptor: the user QEMU runs as may not open it.
    pub kvm_fd: bool,
    /// `/dev/vhost-net` can be used.
    pub vhost: bool,
    /// Only to be shown: elements are rendered that no start can prepare yet, and what this QEMU lacks is no error.
    pub paper: bool,
    /// Seconds since the epoch, for clocks with a start time.
    pub now: i64,
}

/// The plan under construction.
pub(super) struct Builder<'a> {
    def: &'a DomainDef,
    ctx: &'a Context<'a>,
    plan: CommandPlan,
    fdsets: u32,
}

impl Builder<'_> {
    fn arg(&mut self, option: &str, value: impl Into<String>) {
        self.plan.args.push(option.to_string());
        self.plan.args.push(value.into());
    }

    fn flag(&mut self, option: &str) {
        self.plan.args.push(option.to_string());
    }

    fn device(&mut self, props: &Props) {
        self.arg("-device", props.json());
    }

    fn object(&mut self, props: &Props) {
        self.arg("-object", props.json());
    }

    /// Plans an inherited descriptor and returns its number.
    fn fd(&mut self, kind: FdKind) -> i32 {
        let number = FIRST_FD + self.plan.fds.len() as i32;
        self.plan.fds.push(PlannedFd { number, kind });
        number
    }

    /// Plans an inherited descriptor inside an fd set and returns the path that names it.
    fn fdset(&mut self, kind: FdKind, opaque: &str) -> String {
        let fd = self.fd(kind);
        let set = self.fdsets;
        self.fdsets += 1;
        self.arg("-add-fd", Pairs::with("set", set).set("fd", fd).set("opaque", opaque).text());
        format!("/dev/fdset/{set}")
    }
}

/// The alias; a device without one was added after the aliases were given, which is a defect.
fn alias(info: &DeviceInfo) -> Result<&str> {
    info.alias.as_deref().ok_or_else(|| Error::internal("a device has no alias"))
}

/// `bus` and `addr` (and `multifunction`, `rombar` ...) of a PCI device; nothing for other addresses.
fn pci_address(def: &DomainDef, info: &DeviceInfo) -> Result<Props> {
    let Some(DeviceAddress::Pci { address, multifunction }) = &info.address else { return Ok(Props::new()) };
    let bus = def
        .controllers
        .iter()
        .find(|c| c.kind == crate::domain_xml::device::ControllerType::Pci && c.index == Some(address.bus))
        .and_then(|c| c.info.alias.clone());
    let Some(bus) = bus else {
        return Err(Error::internal(format!("Could not find PCI controller with index {}", address.bus)));
    };
    let place = match address.function {
        0 => format!("0x{:x}", address.slot),
        function => format!("0x{:x}.0x{function:x}", address.slot),
    };
    let multifunction = multifunction.map(|switch| switch.is_on());
    let mut props = Props::new().set("bus", bus).set_opt("multifunction", multifunction).set("addr", place);
    if let Some(index) = info.acpi_index {
        props = props.set("acpi-index", index);
    }
    if let Some(rom) = &info.rom {
        props = props.set_opt("rombar", rom.bar.map(|bar| i32::from(bar.is_on())));
        if rom.enabled.is_some_and(|enabled| !enabled.is_yes()) {
            props = props.set("romfile", "");
        } else {
            props = props.set_opt("romfile", rom.file.clone());
        }
    }
    Ok(props)
}

/// `bus` and `port` of a USB device.
fn usb_address(def: &DomainDef, info: &DeviceInfo) -> Result<Props> {
    use crate::domain_xml::device::ControllerType;
    let Some(DeviceAddress::Usb { bus, port }) = &info.address else { return Ok(Props::new()) };
    let controller = def.controllers.iter().find(|c| c.kind == ControllerType::Usb && c.index == Some(*bus));
    let Some(name) = controller.and_then(|c| c.info.alias.as_deref()) else {
        return Err(Error::internal(format!("Could not find USB controller with index {bus}")));
    };
    Ok(Props::new().set("bus", format!("{name}.0")).set_opt("port", port.clone()))
}

/// The options many virtio devices share.
fn virtio_options(options: &VirtioOptions) -> Props {
    let on = |switch: Option<crate::domain_xml::words::Switch>| switch.map(|switch| switch.is_on());
    Props::new()
        .set_opt("iommu_platform", on(options.iommu))
        .set_opt("ats", on(options.ats))
        .set_opt("packed", on(options.packed))
        .set_opt("page-per-vq", on(options.page_per_vq))
}

/// QEMU's device name of a virtio model word (`virtio`, `virtio-transitional`, `virtio-non-transitional`).
fn virtio_driver(base: &str, model: &str) -> String {
    match model {
        "virtio-transitional" => format!("{base}-pci-transitional"),
        "virtio-non-transitional" => format!("{base}-pci-non-transitional"),
        _ => format!("{base}-pci"),
    }
}

/// "... is not supported by domus yet", code 67.
fn not_yet(what: impl std::fmt::Display) -> Error {
    Error::unsupported_config(format!("{what} is not supported by domus yet"))
}

/// Plans the command line of a live definition.
pub fn plan(def: &DomainDef, ctx: &Context<'_>) -> Result<CommandPlan> {
    unsupported::check(def, ctx.paper)?;
    let program = def.emulator.clone().unwrap_or_default();
    let mut b = Builder { def, ctx, plan: CommandPlan { program, ..Default::default() }, fdsets: 0 };
    b.arg("-name", Pairs::with("guest", &def.name).on_off("debug-threads", true).text());
    b.flag("-S");
    machine::machine(&mut b)?;
    cpu::cpu(&mut b)?;
    machine::memory(&mut b)?;
    machine::processors(&mut b)?;
    numa::cells(&mut b)?;
    numa::memory_devices(&mut b)?;
    b.arg("-uuid", def.uuid.unwrap_or_default().to_string());
    boot::smbios(&mut b)?;
    if def.graphics.is_empty() {
        b.arg("-display", "none");
    }
    b.flag("-no-user-config");
    b.flag("-nodefaults");
    let monitor = b.fd(FdKind::Monitor);
    let chardev = Pairs::new("socket").set("id", "charmonitor").set("fd", monitor).on_off("server", true);
    b.arg("-chardev", chardev.on_off("wait", false).text());
    b.arg("-mon", Pairs::with("chardev", "charmonitor").set("id", "monitor").set("mode", "control").text());
    boot::clock(&mut b)?;
    b.flag("-no-shutdown");
    boot::power_management(&mut b);
    firmware::secure(&mut b);
    controllers::host_bridge(&mut b);
    boot::boot(&mut b);
    boot::kernel(&mut b);
    extras::iommu(&mut b)?;
    controllers::controllers(&mut b)?;
    controllers::hubs(&mut b)?;
    disks::disks(&mut b)?;
    extras::filesystems(&mut b)?;
    net::interfaces(&mut b)?;
    extras::smartcards(&mut b)?;
    chardev::serials(&mut b)?;
    chardev::parallels(&mut b)?;
    chardev::channels(&mut b)?;
    chardev::consoles(&mut b)?;
    extras::tpms(&mut b)?;
    misc::inputs(&mut b)?;
    audio::audio(&mut b)?;
    display::graphics(&mut b)?;
    display::videos(&mut b)?;
    display::sounds(&mut b)?;
    misc::watchdogs(&mut b)?;
    extras::redirdevs(&mut b)?;
    misc::balloon(&mut b)?;
    misc::rngs(&mut b)?;
    extras::vsock(&mut b)?;
    if ctx.sandbox {
        let deny = Pairs::new("on").set("obsolete", "deny").set("elevateprivileges", "deny").set("spawn", "deny");
        b.arg("-sandbox", deny.set("resourcecontrol", "deny").text());
    }
    misc::panics(&mut b)?;
    misc::async_teardown(&mut b);
    misc::vmcoreinfo(&mut b);
    if let Some(extra) = &def.qemu_commandline {
        b.plan.args.extend(extra.args.iter().cloned());
        b.plan.env.extend(extra.envs.iter().map(|(name, value)| (name.clone(), value.clone().unwrap_or_default())));
    }
    b.arg("-msg", "timestamp=on");
    Ok(b.plan)
}
