//! What libvirt's QEMU driver adds to a definition after parsing: machine, CPU, automatic devices, addresses.
//!
//! Deterministic and idempotent: completing a completed definition changes nothing. Never looks at the host beyond the
//! capability record it is given; without one (the emulator is not installed here) everything that needs it is left out.

#[cfg(test)]
mod corpus;
mod cpu;
mod devices;
mod disks;
mod live;
#[cfg(test)]
mod tests;
mod video;

use super::addresses;
use super::capabilities::QemuCaps;
use super::firmware::{self, FirmwareChoice};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{Backing, DiskDevice, EncryptionEngine, SnapshotMode, StorageFormat, StorageKind};
use crate::domain_xml::os::BootDev;
use crate::error::{Error, Result};

pub(crate) use devices::{add_controller, find_controller, pci_options};
pub use live::{assign_aliases, assign_nodes};

/// The chipset a definition is completed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chipset {
    I440fx,
    Q35,
    /// `isapc`: no PCI.
    Isa,
    /// `microvm` and machines of other architectures: nothing is added.
    Other,
}

/// The chipset of a machine type, canonical or alias.
pub fn chipset(arch: &str, machine: &str) -> Chipset {
    if !matches!(arch, "x86_64" | "i686") {
        return Chipset::Other;
    }
    match machine {
        "q35" => Chipset::Q35,
        "pc" => Chipset::I440fx,
        "isapc" => Chipset::Isa,
        name if name.starts_with("pc-q35-") => Chipset::Q35,
        // Red Hat's names, and the oldest upstream ones (`pc-1.2`).
        name if name.starts_with("pc-i440fx-") || name.starts_with("pc-0") || name.starts_with("pc-1") => {
            Chipset::I440fx
        }
        name if name.starts_with("rhel6") => Chipset::I440fx,
        _ => Chipset::Other,
    }
}

/// The chipset of a definition.
pub fn chipset_of(def: &DomainDef) -> Chipset {
    chipset(def.os.arch.as_deref().unwrap_or("x86_64"), def.os.machine.as_deref().unwrap_or("pc"))
}

/// libvirt's name of QEMU's target.
pub fn libvirt_arch(qemu_target: &str) -> &str {
    match qemu_target {
        "i386" => "i686",
        "arm" => "armv7l",
        other => other,
    }
}

/// Whether an emulator for one architecture also runs guests of another: the 64-bit x86 and ARM ones run their 32-bit
/// relatives.
pub fn runs_arch(qemu_target: &str, arch: &str) -> bool {
    match libvirt_arch(qemu_target) {
        own if own == arch => true,
        "x86_64" => arch == "i686",
        "aarch64" => matches!(arch, "armv7l" | "armv6l"),
        "armv7l" => arch == "armv6l",
        _ => false,
    }
}

/// Fills in everything; see the module's text. `emulator` is used when the definition names none.
pub fn complete(
    def: &mut DomainDef,
    emulator: &str,
    caps: Option<&QemuCaps>,
    firmwares: &FirmwareChoice,
) -> Result<()> {
    if def.emulator.is_none() {
        def.emulator = Some(emulator.to_string());
    }
    if def.os.arch.is_none() {
        def.os.arch = Some(caps.map_or("x86_64", |caps| libvirt_arch(&caps.arch)).to_string());
    }
    if let Some(caps) = caps {
        machine(def, caps)?;
    }
    firmware::complete(def, firmwares)?;
    boot(def);
    cpu::complete(def, caps);
    if def.os.machine.is_none() && caps.is_none() {
        // Which devices are automatic depends on the machine, and nobody knows it here.
        basics(def);
        return Ok(());
    }
    let chipset = chipset_of(def);
    basics(def);
    devices::complete(def, chipset)?;
    video::complete(def, chipset, caps);
    disks::complete(def, chipset)?;
    addresses::assign(def, chipset)
}

/// Resolves the machine's alias, as libvirt does at define; refuses one the emulator does not have.
fn machine(def: &mut DomainDef, caps: &QemuCaps) -> Result<()> {
    let emulator = def.emulator.clone().unwrap_or_default();
    if let Some(arch) = &def.os.arch
        && !runs_arch(&caps.arch, arch)
    {
        return Err(Error::unsupported_config(format!("Emulator '{emulator}' does not support arch '{arch}'")));
    }
    let found = match def.os.machine.as_deref() {
        None => caps.default_machine(),
        Some(name) => caps.machine(name),
    };
    match (found, def.os.machine.as_deref()) {
        (Some(machine), _) => def.os.machine = Some(machine.name.clone()),
        (None, Some(name)) => {
            let text = format!("Emulator '{emulator}' does not support machine type '{name}'");
            return Err(Error::unsupported_config(text));
        }
        (None, None) => {
            return Err(Error::unsupported_config(format!("Emulator '{emulator}' has no default machine type")));
        }
    }
    Ok(())
}

/// `<boot dev='hd'/>` when nothing says what to boot from.
fn boot(def: &mut DomainDef) {
    let per_device = def.disks.iter().any(|disk| disk.info.boot_order.is_some())
        || def.interfaces.iter().any(|nic| nic.info.boot_order.is_some())
        || def.hostdevs.iter().any(|dev| dev.info.boot_order.is_some())
        || def.redirdevs.iter().any(|dev| dev.info.boot_order.is_some());
    if def.os.boot.is_empty() && !per_device {
        def.os.boot.push(BootDev::Hd);
    }
}

/// What needs no machine.
fn basics(def: &mut DomainDef) {
    for disk in &mut def.disks {
        disk.driver.name.get_or_insert_with(|| "qemu".into());
        // What a volume holds is looked up when the guest starts.
        if disk.source.format.is_none() && disk.source.kind != StorageKind::Volume {
            disk.source.format = Some(StorageFormat::Raw);
        }
        let mut layer = &mut disk.source;
        loop {
            layer.default_ports();
            if let Some(encryption) = &mut layer.encryption {
                encryption.engine.get_or_insert(EncryptionEngine::Qemu);
            }
            match &mut layer.backing {
                Backing::Layer(below) => layer = below,
                _ => break,
            }
        }
        if disk.source.kind == StorageKind::VhostUser {
            disk.snapshot.get_or_insert(SnapshotMode::No);
        }
        if disk.device == DiskDevice::Cdrom {
            disk.readonly = true;
        }
    }
}
