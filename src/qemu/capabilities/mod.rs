//! What an installed QEMU can do: asked once, kept on disk by the binary's identity.
//!
//! Owns the probe, the record ([`QemuCaps`]) and its cache. Never decides what a definition needs; `complete`, `validate`
//! and `command` look up facts here.

mod cpu;
mod domain;
mod guest;
mod markup;
mod probe;
mod store;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use cpu::{HostModel, feature_for_qemu, feature_from_qemu};
pub use domain::{Subject, domain_xml};
pub use guest::guest_xml;
pub use probe::{Accel, ProbeAnswers, assemble, query};
pub use store::{CapsStore, open_kvm};

/// Raised when a field is added or its meaning changes: an older cache file is then thrown away and asked anew.
pub const RECORD_VERSION: u32 = 3;

/// Which binary a record is about. Any difference makes the record stale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinaryId {
    pub path: String,
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    /// Nanoseconds since the epoch.
    pub mtime_ns: i128,
}

/// A machine type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub name: String,
    pub alias: Option<String>,
    pub is_default: bool,
    pub max_cpus: u32,
    pub hotpluggable_cpus: bool,
    pub numa_memory: bool,
    pub default_cpu: Option<String>,
    /// Id of the memory back end that stands for the guest's RAM (`pc.ram`).
    pub default_ram_id: Option<String>,
    pub acpi: bool,
    pub deprecated: bool,
}

/// A CPU model under one accelerator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuModel {
    pub name: String,
    /// Features of it that this host and accelerator cannot give; empty = usable.
    pub unavailable: Vec<String>,
    pub deprecated: bool,
}

impl CpuModel {
    /// Whether the model runs as it is.
    pub fn usable(&self) -> bool {
        self.unavailable.is_empty()
    }
}

/// What one accelerator offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccelCaps {
    pub cpus: Vec<CpuModel>,
    /// What `mode='host-model'` becomes; `None` when QEMU could not tell.
    pub host_model: Option<HostModel>,
    /// All features a guest can be given, by libvirt's names.
    #[serde(default)]
    pub features: BTreeSet<String>,
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QemuCaps {
    pub record_version: u32,
    pub binary: BinaryId,
    /// Whether the host had a /dev/kvm when the probe ran.
    pub kvm_device: bool,
    /// major * 1,000,000 + minor * 1,000 + micro.
    pub version: u64,
    pub package: String,
    /// QEMU's name of the target, which is libvirt's for all we support.
    pub arch: String,
    pub machines: Vec<Machine>,
    pub tcg: Option<AccelCaps>,
    /// `None`: no usable /dev/kvm when the probe ran.
    pub kvm: Option<AccelCaps>,
    /// This QEMU cannot be given /dev/kvm as a descriptor (older ones cannot): its user opens the device.
    #[serde(default)]
    pub kvm_by_path: bool,
    /// Names of all concrete QOM types: devices, objects, back ends.
    pub types: BTreeSet<String>,
}

impl QemuCaps {
    /// The machine with this name or alias.
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.machines
            .iter()
            .find(|machine| machine.name == name)
            .or_else(|| self.machines.iter().find(|machine| machine.alias.as_deref() == Some(name)))
    }

    /// The machine a definition without one gets: libvirt prefers the newest i440fx on x86 whatever QEMU's default is.
    pub fn default_machine(&self) -> Option<&Machine> {
        let preferred = if matches!(self.arch.as_str(), "x86_64" | "i386") { self.machine("pc") } else { None };
        preferred.or_else(|| self.machines.iter().find(|machine| machine.is_default))
    }

    /// Whether QEMU knows this device or object type.
    pub fn has_type(&self, name: &str) -> bool {
        self.types.contains(name)
    }

    /// What `<domain type=..>` can use; `None` when the accelerator is not there.
    pub fn accel(&self, virt_type: &str) -> Option<&AccelCaps> {
        match virt_type {
            "kvm" => self.kvm.as_ref(),
            "qemu" => self.tcg.as_ref(),
            _ => None,
        }
    }

    /// 64 or 32.
    pub fn wordsize(&self) -> u32 {
        match self.arch.as_str() {
            "i386" | "arm" | "ppc" | "mips" | "riscv32" => 32,
            _ => 64,
        }
    }

    /// `10.0.2`.
    pub fn version_text(&self) -> String {
        format!("{}.{}.{}", self.version / 1_000_000, self.version / 1_000 % 1_000, self.version % 1_000)
    }
}
