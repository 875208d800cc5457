//! What a guest runs in: its cgroup with limits, its taps, the host CPUs its threads may use.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::cgroup::{Controller, Group, Manager};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::Interface;
use crate::domain_xml::words::YesNo;
use crate::engine::driver::Noted;
use crate::engine::limits;
use crate::error::{Error, Result};
use crate::net::macvtap::{self, MacvtapSpec};
use crate::net::{TapSpec, tap};
use crate::qemu::config::QemuConfig;
use crate::types::MacAddr;

/// The path of a run's group below the mount points.
pub fn group_path(config: &QemuConfig, live: &DomainDef, run_id: &str) -> Result<String> {
    let partition = live.resource.partition.as_deref().unwrap_or(&config.partition);
    config.cgroups.group_path(partition, &format!("qemu-{run_id}"))
}

/// Controllers a definition needs. CPU time is always counted; each further one costs a directory on v1.
fn controllers(live: &DomainDef) -> Vec<Controller> {
    let mut out = vec![Controller::Cpu, Controller::Cpuacct];
    if live.memtune != Default::default() {
        out.push(Controller::Memory);
    }
    if live.blkiotune != Default::default() {
        out.push(Controller::Blkio);
    }
    if nodeset(live).is_some() {
        out.push(Controller::Cpuset);
    }
    out
}

/// The memory nodes of the machine as a whole.
fn nodeset(live: &DomainDef) -> Option<&String> {
    live.numatune.as_ref()?.memory.as_ref()?.nodeset.as_ref()
}

/// Makes the group and sets its limits; gives it with the descriptors to join it.
pub async fn group(
    manager: &Arc<Manager>,
    live: &DomainDef,
    path: &str,
    noted: Noted,
) -> Result<(Group, Vec<OwnedFd>)> {
    let (manager, path) = (manager.clone(), path.to_string());
    let wanted = controllers(live);
    let def = live.clone();
    let description = format!("Virtual machine {}", live.name);
    let vcpus = live.vcpu.current.unwrap_or(live.vcpu.max);
    let make = move || {
        let _noted = noted;
        super::fault_point("start.cgroup")?;
        let group = manager.create(&path, &description, &wanted)?;
        if group.is_empty() {
            return Ok((group, Vec::new()));
        }
        let (tune, memory, blkio) = (&def.cputune, &def.memtune, &def.blkiotune);
        if let Some(shares) = tune.shares {
            group.set_cpu_shares(shares)?;
        }
        let (quota, period) = limits::cpu_quota(&def, vcpus);
        if quota.is_some() || period.is_some() {
            group.set_cpu_quota(quota, period)?;
        }
        if let Some(kib) = memory.soft_limit {
            group.set_memory_soft_limit(kib * 1024)?;
        }
        if let Some(kib) = memory.hard_limit {
            group.set_memory_limit(kib * 1024)?;
        }
        if let Some(kib) = memory.swap_hard_limit {
            group.set_memory_swap_limit(kib * 1024, memory.hard_limit.map(|kib| kib * 1024))?;
        }
        if let Some(weight) = blkio.weight {
            group.set_blkio_weight(u16::try_from(weight).unwrap_or(1000))?;
        }
        for device in &blkio.devices {
            group.set_blkio_device(&device.path, &limits::device_limits(device))?;
        }
        if let Some(nodes) = nodeset(&def) {
            group.set_mems(nodes)?;
        }
        let procs = group.procs()?;
        Ok((group, procs))
    };
    tokio::task::spawn_blocking(make)
        .await
        .map_err(|error| Error::internal(format!("cannot make the cgroup: {error}")))?
}

/// The macvtaps that the NICs are to have, with the names they will get: a macvtap outlives its descriptors, so that
/// its undo steps are recorded before it is made.
pub async fn macvtaps(live: &DomainDef, run_id: &str) -> Result<Vec<Option<MacvtapSpec>>> {
    let mut out = Vec::new();
    for (index, nic) in live.interfaces.iter().enumerate() {
        let Some((dev, mode)) = nic.source.direct() else {
            out.push(None);
            continue;
        };
        let tail = run_id.rsplit('-').next().unwrap_or(run_id);
        let name = match nic.target.dev.clone().filter(|name| !tap::is_generated_name(name)) {
            Some(name) => name,
            None => macvtap::free_name().await?,
        };
        out.push(Some(MacvtapSpec {
            name,
            unfinished: format!("dm{}-{index}", tail.get(..8).unwrap_or(tail)),
            alias: format!("domus:{run_id}"),
            dev: dev.to_string(),
            mode,
            mac: nic.mac.unwrap_or(MacAddr([0x52, 0x54, 0, 0, 0, 0])),
            mtu: nic.mtu,
            queues: queues(nic),
        }));
    }
    Ok(out)
}

fn queues(nic: &Interface) -> u32 {
    let virtio = nic.model.as_deref().is_some_and(|model| model.starts_with("virtio"));
    nic.driver.queues.filter(|_| virtio).unwrap_or(1).max(1)
}

/// Plugs every NIC that has a tap; gives the descriptors by NIC and writes the names into the definition.
pub async fn taps(live: &mut DomainDef, links: &[Option<MacvtapSpec>]) -> Result<Vec<Vec<OwnedFd>>> {
    let mut out = Vec::new();
    for (nic, link) in live.interfaces.iter_mut().zip(links) {
        if let Some(spec) = link {
            nic.target.dev = Some(spec.name.clone());
            out.push(macvtap::plug(spec).await?);
            continue;
        }
        if !nic.source.is_tap() {
            out.push(Vec::new());
            continue;
        }
        let bridge = nic.source.bridge().map(String::from);
        // A name from the host's own range is no wish: the next free one is taken, as libvirt does.
        let existing = nic.target.managed == Some(YesNo::No);
        let name = nic.target.dev.clone().filter(|name| existing || !tap::is_generated_name(name));
        let queues = queues(nic);
        let isolated = nic.isolated == Some(YesNo::Yes);
        let mac = nic.mac.unwrap_or(MacAddr([0x52, 0x54, 0, 0, 0, 0]));
        let plugged = tap::plug(&TapSpec { name, existing, bridge, mac, mtu: nic.mtu, isolated, queues }).await?;
        nic.target.dev = Some(plugged.name);
        out.push(plugged.fds);
    }
    Ok(out)
}

/// Parses `0-3,^2,7`.
fn cpu_set(text: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for part in text.split(',') {
        let part = part.trim();
        let (part, on) = match part.strip_prefix('^') {
            Some(rest) => (rest, false),
            None => (part, true),
        };
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?),
            None => (part.parse().ok()?, part.parse().ok()?),
        };
        if first > last || last >= CpuSet::MAX_CPU {
            return None;
        }
        for cpu in first..=last {
            if on { set.set(cpu) } else { set.unset(cpu) }
        }
    }
    Some(set)
}

/// Binds a thread to the host CPUs of a set in libvirt's text form.
pub fn pin(thread: i32, cpus: &str, what: &str) -> Result<()> {
    let set = cpu_set(cpus).ok_or_else(|| Error::invalid_arg(format!("Failed to parse bitmap '{cpus}' of {what}")))?;
    sched_setaffinity(rustix::thread::Pid::from_raw(thread), &set)
        .map_err(|errno| Error::system(format!("cannot set the host CPUs {cpus} of {what}"), errno.into()))
}

/// Binds the process right after its start; threads it makes later inherit that.
pub fn pin_emulator(live: &DomainDef, pid: i32) -> Result<()> {
    match live.cputune.emulatorpin.as_deref().or(live.vcpu.cpuset.as_deref()) {
        Some(cpus) => pin(pid, cpus, "the emulator"),
        None => Ok(()),
    }
}

/// Binds the threads of virtual CPUs.
pub fn pin_vcpus(live: &DomainDef, threads: &[i32]) -> Result<()> {
    for (number, thread) in threads.iter().enumerate() {
        let own = live.cputune.vcpupin.iter().find(|pin| pin.vcpu as usize == number).map(|pin| pin.cpuset.as_str());
        if let Some(cpus) = own.or(live.vcpu.cpuset.as_deref()) {
            pin(*thread, cpus, &format!("vcpu {number}"))?;
        }
    }
    Ok(())
}

/// Binds threads for disks, given as number and id.
pub fn pin_iothreads(live: &DomainDef, threads: &[(u32, i32)]) -> Result<()> {
    for wanted in &live.cputune.iothreadpin {
        if let Some((number, thread)) = threads.iter().find(|(number, _)| *number == wanted.iothread) {
            pin(*thread, &wanted.cpuset, &format!("iothread {number}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        let set = cpu_set("0-3,^2,7").unwrap();
        let on: Vec<usize> = (0..16).filter(|cpu| set.is_set(*cpu)).collect();
        assert_eq!(on, [0, 1, 3, 7]);
        assert!(cpu_set("3-1").is_none());
        assert!(cpu_set("x").is_none());
    }

    #[test]
    fn groups_are_below_the_partition() {
        let mut live = DomainDef::default();
        let config = QemuConfig { partition: "/guests".into(), ..QemuConfig::default() };
        assert_eq!(group_path(&config, &live, "r1").unwrap(), "guests/qemu-r1");
        live.resource.partition = Some("/machine/nova".into());
        assert_eq!(group_path(&config, &live, "r1").unwrap(), "machine/nova/qemu-r1");
    }
}
