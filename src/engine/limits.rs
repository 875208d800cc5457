//! Limits that every driver with cgroups sets alike.

use crate::cgroup::{Controller, DeviceLimits, Group, Manager};
use crate::domain_xml::DomainDef;
use crate::domain_xml::tune::BlkioDevice;
use crate::error::{Error, Result};

use super::driver::Tune;

/// One device's limits as the cgroup takes them.
pub fn device_limits(device: &BlkioDevice) -> DeviceLimits {
    DeviceLimits {
        weight: device.weight,
        read_iops: device.read_iops_sec,
        write_iops: device.write_iops_sec,
        read_bytes: device.read_bytes_sec,
        write_bytes: device.write_bytes_sec,
    }
}

/// What the group of a whole machine gets: libvirt gives each virtual CPU a group with `quota`; one group has all of
/// them together. `<global_quota>` and `<global_period>` go before. (quota, period)
pub fn cpu_quota(def: &DomainDef, vcpus: u32) -> (Option<i64>, Option<u64>) {
    let tune = &def.cputune;
    let together = tune.quota.map(|quota| if quota > 0 { quota.saturating_mul(i64::from(vcpus)) } else { -1 });
    match (tune.global_quota, tune.global_period) {
        (None, None) => (together, tune.period),
        global => global,
    }
}

/// Applies `tune` to the group `path`, which gets the controller if it has not; the group as it is then. `live` is the
/// definition with the change in it, `vcpus` how many virtual CPUs share the group. Blocks.
/// Errors: code 55 when the host lacks the controller, 3 for what no cgroup can do.
pub fn apply(manager: &Manager, path: &str, live: &DomainDef, tune: &Tune, vcpus: u32) -> Result<Group> {
    let (controller, name) = match tune {
        Tune::Memory(_) | Tune::MemoryLimits { .. } => (Controller::Memory, "memory"),
        Tune::Cpu { .. } => (Controller::Cpu, "CPU"),
        Tune::Blkio { .. } => (Controller::Blkio, "blkio"),
        Tune::Nodeset(_) => (Controller::Cpuset, "cpuset"),
        // Threads and devices of the guest's own.
        _ => return Err(Error::no_support(tune.function())),
    };
    let group = manager.extend(path, &[controller])?;
    if !group.has(controller) {
        return Err(Error::invalid_state(format!("cgroup {name} controller is not mounted")));
    }
    match tune {
        Tune::Memory(kib) => group.set_memory_limits(Some(kib.saturating_mul(1024)), None, None)?,
        Tune::MemoryLimits { hard, soft, swap } => group.set_memory_limits(*hard, *soft, *swap)?,
        Tune::Cpu { shares, period, quota, global } => {
            if let Some(shares) = shares {
                group.set_cpu_shares(*shares)?;
            }
            if period.is_some() || quota.is_some() || *global != (None, None) {
                let (quota, period) = cpu_quota(live, vcpus);
                group.set_cpu_quota(quota, period)?;
            }
        }
        Tune::Blkio { weight, devices } => {
            if let Some(weight) = weight {
                group.set_blkio_weight(u16::try_from(*weight).unwrap_or(u16::MAX))?;
            }
            for device in devices {
                group.set_blkio_device(&device.path, &device_limits(device))?;
            }
        }
        Tune::Nodeset(nodes) if !nodes.is_empty() => group.set_mems(nodes)?,
        _ => {}
    }
    Ok(group)
}
