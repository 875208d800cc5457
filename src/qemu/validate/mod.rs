//! What this driver refuses to run, with libvirt's texts, one file per device or group. Called on completed definitions.

#![allow(clippy::collapsible_match, reason = "the condition is inside a macro, where a guard cannot be")]

mod chardev;
mod controller;
mod disk;
mod display;
mod hostdev;
mod machine;
mod memory;
mod misc;
mod net;
mod pci;
#[cfg(test)]
mod testing;

use super::capabilities::QemuCaps;
use super::complete::runs_arch;
use crate::domain_xml::DomainDef;
use crate::domain_xml::cpu::{Cpu, CpuMode};
use crate::domain_xml::device::DeviceInfo;
use crate::domain_xml::model::{CrashAction, LifecycleAction, VirtType};
use crate::domain_xml::os::OsType;
use crate::domain_xml::validate::{Check, each, refuse};
use crate::domain_xml::words::YesNo;
use crate::error::{Code, Error, Result};

/// Checks that need no capabilities, then those that do (when the emulator is installed).
pub fn validate(def: &DomainDef, caps: Option<&QemuCaps>) -> Result<()> {
    if def.os.os_type != OsType::Hvm {
        return Err(Error::unsupported_config(format!("unsupported OS type '{}' for a QEMU domain", def.os.os_type)));
    }
    if def.memory.size == 0 {
        return Err(Error::new(
            Code::XmlError,
            "Memory size must be specified via <memory> or in the <numa> configuration",
        ));
    }
    lifecycle(def)?;
    topology(def)?;
    machine::machine(def)?;
    disk::disks(def)?;
    controller::controllers(def)?;
    net::interfaces(def)?;
    chardev::character_devices(def)?;
    chardev::inputs(def)?;
    hostdev::hostdevs(def)?;
    display::displays(def)?;
    memory::memory_devices(def)?;
    misc::small_devices(def)?;
    pci::places(def)?;
    if let Some(caps) = caps {
        against(def, caps)?;
    }
    Ok(())
}

fn lifecycle(def: &DomainDef) -> Check {
    let both = [def.on_poweroff, def.on_reboot];
    refuse!(
        if both.contains(&Some(LifecycleAction::Preserve)), ConfigUnsupported,
        "qemu driver doesn't support the 'preserve' action for 'on_reboot'/'on_poweroff'"
    );
    let renames =
        both.contains(&Some(LifecycleAction::RenameRestart)) || def.on_crash == Some(CrashAction::RenameRestart);
    refuse!(
        if renames, ConfigUnsupported,
        "qemu driver doesn't support the 'rename-restart' action for 'on_reboot'/'on_poweroff'/'on_crash'"
    );
    refuse!(
        if both == [Some(LifecycleAction::Restart), Some(LifecycleAction::Destroy)], ConfigUnsupported,
        "qemu driver doesn't support 'onReboot' set to 'destroy and 'onPoweroff' set to 'reboot'"
    );
    Ok(())
}

/// An option ROM that is switched off cannot be tuned.
fn rom(info: &DeviceInfo) -> Check {
    let Some(rom) = &info.rom else { return Ok(()) };
    refuse!(
        if rom.enabled == Some(YesNo::No) && (rom.bar.is_some() || rom.file.is_some()), ConfigUnsupported,
        "ROM tuning is not supported when ROM is disabled"
    );
    Ok(())
}

fn topology(def: &DomainDef) -> Result<()> {
    let (max, current) = (def.vcpu.max, def.vcpu.current.unwrap_or(def.vcpu.max));
    if max == 0 {
        return Err(Error::new(Code::XmlError, "invalid maximum number of vCPUs '0'"));
    }
    if current > max {
        return Err(Error::internal(format!("maxvcpus must not be less than current vcpus ({max} < {current})")));
    }
    let Some(topology) = def.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref()) else { return Ok(()) };
    let parts = [topology.sockets, topology.dies, topology.clusters, topology.cores, topology.threads];
    let total = parts.iter().try_fold(1u32, |total, part| total.checked_mul(part.unwrap_or(1)));
    if total != Some(max) {
        return Err(Error::unsupported_config("CPU topology doesn't match maximum vcpu count"));
    }
    Ok(())
}

fn against(def: &DomainDef, caps: &QemuCaps) -> Result<()> {
    let emulator = def.emulator.as_deref().unwrap_or_default();
    let arch = def.os.arch.as_deref().unwrap_or_default();
    if !runs_arch(&caps.arch, arch) {
        return Err(Error::unsupported_config(format!("Emulator '{emulator}' does not support arch '{arch}'")));
    }
    let name = def.os.machine.as_deref().unwrap_or_default();
    let Some(machine) = caps.machine(name) else {
        return Err(Error::unsupported_config(format!("Emulator '{emulator}' does not support machine type '{name}'")));
    };
    if def.vcpu.max > machine.max_cpus {
        let text = format!("Maximum CPUs greater than specified machine type limit {}", machine.max_cpus);
        return Err(Error::unsupported_config(text));
    }
    if def.virt_type == VirtType::Kvm && caps.kvm.is_none() && !caps.kvm_device {
        tracing::debug!(domain = %def.name, "a KVM domain on a host without KVM can be defined, but not started");
    }
    match &def.cpu {
        Some(cpu) => model(def, cpu, caps),
        None => Ok(()),
    }
}

fn model(def: &DomainDef, cpu: &Cpu, caps: &QemuCaps) -> Result<()> {
    let virt_type = def.virt_type.as_str();
    match cpu.mode {
        Some(CpuMode::Custom) | None => {
            let Some(name) = &cpu.model else { return Ok(()) };
            let accel = caps.accel(virt_type).or(caps.tcg.as_ref());
            let known = accel.is_none_or(|accel| accel.cpus.iter().any(|known| known.name == *name));
            match known {
                true => Ok(()),
                false => Err(Error::internal(format!("Unknown CPU model {name}"))),
            }
        }
        _ => Ok(()),
    }
}
