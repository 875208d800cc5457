//! What this driver refuses to run, with libvirt's texts. Called on completed definitions.

use super::capabilities::QemuCaps;
use super::complete::{Chipset, chipset_of, runs_arch};
use crate::domain_xml::DomainDef;
use crate::domain_xml::cpu::{Cpu, CpuMode};
use crate::domain_xml::device::*;
use crate::domain_xml::model::{LifecycleAction, VirtType};
use crate::domain_xml::os::OsType;
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
    disks(def)?;
    iothreads(def)?;
    if let Some(caps) = caps {
        against(def, caps)?;
    }
    Ok(())
}

fn lifecycle(def: &DomainDef) -> Result<()> {
    let refused = [("on_poweroff", def.on_poweroff), ("on_reboot", def.on_reboot)];
    for (event, action) in refused {
        if let Some(action @ (LifecycleAction::Preserve | LifecycleAction::RenameRestart)) = action {
            let text = format!("qemu driver doesn't support '{action}' action for '{event}'");
            return Err(Error::unsupported_config(text));
        }
    }
    if def.on_poweroff == Some(LifecycleAction::Restart) && def.on_reboot == Some(LifecycleAction::Destroy) {
        return Err(Error::unsupported_config(
            "qemu driver doesn't support 'restart' action for 'on_poweroff' with 'destroy' for 'on_reboot'",
        ));
    }
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

fn disks(def: &DomainDef) -> Result<()> {
    for (position, disk) in def.disks.iter().enumerate() {
        let dev = disk.dev();
        let q35 = chipset_of(def) == Chipset::Q35;
        if disk.target.bus == Some(DiskBus::Ide) && q35 {
            return Err(Error::unsupported_config(
                "IDE controllers are unsupported for this QEMU binary or machine type",
            ));
        }
        if disk.source.is_empty() && !matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy) {
            return Err(Error::new(
                Code::XmlError,
                format!("missing source of disk '{dev}': only a cdrom or floppy may be empty"),
            ));
        }
        for other in &def.disks[..position] {
            if other.dev() == dev && other.target.bus == disk.target.bus {
                return Err(Error::new(
                    Code::XmlError,
                    format!(
                        "target '{dev}' duplicated for disk sources '{}' and '{}'",
                        other.source.path.as_deref().unwrap_or("(null)"),
                        disk.source.path.as_deref().unwrap_or("(null)")
                    ),
                ));
            }
            if let (Some(DeviceAddress::Drive { .. }), true) =
                (&disk.info.address, disk.info.address == other.info.address)
                && disk.target.bus == other.target.bus
            {
                return Err(Error::new(
                    Code::XmlError,
                    format!("Found duplicate drive address for disk with target name '{dev}'"),
                ));
            }
        }
    }
    Ok(())
}

fn iothreads(def: &DomainDef) -> Result<()> {
    let ids = super::complete::iothread_ids(def);
    for disk in &def.disks {
        if let Some(id) = disk.driver.iothread {
            if !ids.contains(&id) {
                return Err(Error::unsupported_config(format!("Disk iothread '{id}' not defined in iothreadid")));
            }
            if disk.target.bus != Some(DiskBus::Virtio) {
                let bus = disk.target.bus.map(DiskBus::as_str).unwrap_or_default();
                return Err(Error::unsupported_config(format!(
                    "IOThreads not available for bus {bus} target {}",
                    disk.dev()
                )));
            }
        }
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
