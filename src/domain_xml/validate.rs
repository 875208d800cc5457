//! Checks of a whole definition that hold for every driver (the general part of `virDomainDefValidate`), with
//! libvirt's codes and texts. Changes nothing.

use std::collections::HashSet;

use super::cpu::{CacheMode, Cpu, CpuMode, MaxPhysAddrMode, NumaMode, NumaPlacement};
use super::device::*;
use super::model::DomainDef;
use super::os::Sysinfo;
use super::tune::{SchedOf, set_members};
use super::words::Switch;
use crate::error::{Code, Error, Result};

/// Refuses what no driver could run. Errors: codes 27, 67, 84 and 1, as libvirt.
pub fn validate(def: &DomainDef) -> Result<()> {
    if let Some(cpu) = &def.cpu {
        cpu_settings(cpu)?;
    }
    numa(def)?;
    hugepages(def)?;
    threads(def)?;
    sysinfo(def)?;
    def.disks.iter().try_for_each(disk)?;
    def.controllers.iter().try_for_each(controller)?;
    usb(def)?;
    character_devices(def)?;
    hostdevs(def)?;
    def.shmems.iter().try_for_each(shmem)?;
    small_devices(def)
}

fn unsupported<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::unsupported_config(what))
}

fn invalid<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::new(Code::XmlError, what))
}

fn cpu_settings(cpu: &Cpu) -> Result<()> {
    if let Some(cache) = &cpu.cache {
        let mode = cache.mode.unwrap_or_default();
        let host = matches!(cpu.mode, Some(CpuMode::HostPassthrough | CpuMode::Maximum));
        match mode {
            CacheMode::Passthrough | CacheMode::Disable if cache.level.is_some() => {
                return unsupported(format!("unsupported CPU cache level for mode '{mode}'"));
            }
            CacheMode::Emulate if cache.level.is_some_and(|level| level != 3) => {
                return unsupported(format!("unsupported CPU cache level for mode '{mode}'"));
            }
            CacheMode::Passthrough if !host => {
                let what = "CPU cache mode 'passthrough' can only be used with 'host-passthrough' / 'maximum' CPUs";
                return unsupported(what);
            }
            _ => {}
        }
    }
    if let Some(address) = &cpu.maxphysaddr
        && address.mode == Some(MaxPhysAddrMode::Passthrough)
        && address.bits.is_some()
    {
        let what = "CPU maximum physical address bits number specification cannot be used with mode='passthrough'";
        return unsupported(what);
    }
    if cpu.numa_cells.iter().enumerate().any(|(position, cell)| cell.id as usize != position) {
        let what = "Exactly one 'cell' element per guest NUMA cell allowed, non-contiguous ranges or ranges not \
                    starting from 0 are not allowed";
        return invalid(what);
    }
    Ok(())
}

fn numa(def: &DomainDef) -> Result<()> {
    let Some(tune) = &def.numatune else { return Ok(()) };
    if let Some(memory) = &tune.memory {
        if let Some(nodeset) = memory.nodeset.as_ref().filter(|nodeset| set_members(nodeset).is_none()) {
            return unsupported(format!("Invalid value of 'nodeset': {nodeset}"));
        }
        if memory.placement == Some(NumaPlacement::Static) && memory.nodeset.is_none() {
            let what = "nodeset for NUMA memory tuning must be set if 'placement' is 'static'";
            return unsupported(what);
        }
        if memory.placement == Some(NumaPlacement::Auto) && !tune.memnodes.is_empty() {
            return unsupported("Per-node binding is not compatible with automatic NUMA placement.");
        }
        let restrictive = |mode: Option<NumaMode>| mode == Some(NumaMode::Restrictive);
        for memnode in &tune.memnodes {
            match (restrictive(memory.mode), restrictive(memnode.mode)) {
                (true, false) => {
                    let what = "'restrictive' mode is required in memnode element when mode is 'restrictive' in \
                                memory element";
                    return invalid(what);
                }
                (false, true) => {
                    let what = "'restrictive' mode is required in memory element when mode is 'restrictive' in \
                                memnode element";
                    return invalid(what);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn hugepages(def: &DomainDef) -> Result<()> {
    let Some(pages) = &def.memory_backing.hugepages else { return Ok(()) };
    let cells = def.cpu.as_ref().map_or(0, |cpu| cpu.numa_cells.len()) as u32;
    for page in pages {
        let members = page.nodeset.as_deref().and_then(set_members).unwrap_or_default();
        if let Some(missing) = members.into_iter().find(|node| *node >= cells.max(1)) {
            return unsupported(format!("hugepages: node {missing} not found"));
        }
    }
    Ok(())
}

fn threads(def: &DomainDef) -> Result<()> {
    let ids: HashSet<u32> = def.iothread_ids.iter().map(|thread| thread.id).collect();
    let known = |id: u32| ids.contains(&id) || id >= 1 && id <= def.iothreads.unwrap_or(0);
    let of_threads = def.cputune.sched.iter().filter(|sched| sched.of == SchedOf::IoThread);
    let wanted = of_threads.filter_map(|sched| sched.ids.as_ref()?.parse().ok());
    match wanted.into_iter().find(|id| !known(*id)) {
        Some(id) => unsupported(format!("Cannot find 'iothread' : {id}")),
        None => Ok(()),
    }
}

fn sysinfo(def: &DomainDef) -> Result<()> {
    for info in &def.sysinfo {
        let Sysinfo::Smbios(smbios) = info else { continue };
        let Some((_, date)) = smbios.bios.iter().find(|(name, _)| name == "date") else { continue };
        let parts: Vec<u32> = date.split('/').filter_map(|part| part.parse().ok()).collect();
        // mm/dd/yyyy, or mm/dd/yy as SMBIOS before 2.3 had it.
        let valid = matches!(parts[..], [1..=12, 1..=31, 0..=99 | 1900..]) && date.split('/').count() == 3;
        if !valid {
            return Err(Error::new(Code::XmlDetail, "Invalid BIOS 'date' format"));
        }
    }
    Ok(())
}

fn disk(disk: &Disk) -> Result<()> {
    if disk.vendor.as_ref().is_some_and(|vendor| vendor.len() > 8) {
        return unsupported("disk vendor is more than 8 characters");
    }
    if disk.product.as_ref().is_some_and(|product| product.len() > 16) {
        return unsupported("disk product is more than 16 characters");
    }
    for (name, value) in [("vendor", &disk.vendor), ("product", &disk.product)] {
        if value.is_some() && disk.target.bus != Some(DiskBus::Scsi) {
            return unsupported(format!("Only scsi disk supports '{name}'"));
        }
    }
    if disk.target.bus == Some(DiskBus::Usb)
        && !matches!(disk.info.address, None | Some(DeviceAddress::Usb { .. } | DeviceAddress::Unassigned))
    {
        return Err(Error::internal("unexpected address type for usb disk"));
    }
    if !disk.throttlefilters.is_empty() && disk.iotune.is_some() {
        let what = format!("block 'throttlefilters' can't be used together with 'iotune' for disk '{}'", disk.dev());
        return Err(Error::new(Code::OperationUnsupported, what));
    }
    if let Some(network) = &disk.source.network {
        if network.protocol == NetworkProtocol::Sheepdog {
            return unsupported("'sheepdog' protocol is no longer supported by any hypervisor driver");
        }
        let expected = match network.protocol {
            NetworkProtocol::Iscsi => Some("iscsi"),
            NetworkProtocol::Rbd => Some("ceph"),
            _ => None,
        };
        let given = disk.source.auth.as_ref().and_then(|auth| auth.secret.kind.as_deref());
        if let (Some(expected), Some(given)) = (expected, given)
            && expected != given
        {
            return unsupported(format!("invalid secret type '{given}'"));
        }
    }
    Ok(())
}

fn controller(controller: &Controller) -> Result<()> {
    let model = controller.model.as_deref();
    if matches!(model, Some("pci-root" | "pcie-root")) && controller.info.address.is_some() {
        return unsupported("pci-root and pcie-root controllers should not have an address");
    }
    if matches!(model, Some("nec-xhci" | "qemu-xhci")) && controller.ports.is_some_and(|ports| ports > 15) {
        let what = format!("'{}' controller only supports up to '15' ports", model.unwrap_or_default());
        return unsupported(what);
    }
    Ok(())
}

fn usb(def: &DomainDef) -> Result<()> {
    let controllers = || def.controllers.iter().filter(|controller| controller.kind == ControllerType::Usb);
    for companion in controllers().filter(|c| c.model.as_deref().is_some_and(|model| model.starts_with("ich9-uhci"))) {
        let master =
            |other: &Controller| other.index == companion.index && other.model.as_deref() == Some("ich9-ehci1");
        if !controllers().any(master) {
            return Err(Error::new(Code::XmlDetail, "No master USB controller specified"));
        }
    }
    let off = controllers().any(|controller| controller.model.as_deref() == Some("none"));
    if off && def.inputs.iter().any(|input| input.bus == Some(InputBus::Usb)) {
        return unsupported("Can't add USB input device. USB bus is disabled");
    }
    if off && controllers().count() > 1 {
        return invalid("Can't add another USB controller: USB is disabled for this domain");
    }
    Ok(())
}

fn character_devices(def: &DomainDef) -> Result<()> {
    let serials = def.serials.iter().map(|device| (&device.source, true));
    let parallels = def.parallels.iter().map(|device| (&device.source, true));
    let consoles = def.consoles.iter().map(|device| (&device.source, true));
    // The driver chooses the path of a channel's socket.
    let channels = def.channels.iter().map(|device| (&device.source, false));
    let redirdevs = def.redirdevs.iter().map(|device| (&device.source, true));
    let smartcards = def.smartcards.iter().filter_map(|device| match &device.kind {
        SmartcardKind::Passthrough(source) => Some((source, true)),
        _ => None,
    });
    let rngs = def.rngs.iter().filter_map(|device| match &device.backend {
        RngBackend::Egd(source) => Some((source, true)),
        _ => None,
    });
    let all = serials.chain(parallels).chain(consoles).chain(channels).chain(redirdevs).chain(smartcards).chain(rngs);
    for (source, needs_path) in all {
        let (listens, reconnect) = match &source.kind {
            CharKind::Unix { path: None, .. } if needs_path => {
                return Err(Error::internal("Missing source path attribute for char device"));
            }
            CharKind::Unix { path, listen, reconnect } => (*listen || path.is_none(), reconnect),
            CharKind::Tcp(tcp) => (tcp.listen, &tcp.reconnect),
            _ => continue,
        };
        if listens && reconnect.as_ref().is_some_and(|reconnect| reconnect.enabled.is_some_and(|on| on.is_yes())) {
            return Err(Error::internal("chardev reconnect is possible only for connect mode"));
        }
    }
    Ok(())
}

fn hostdevs(def: &DomainDef) -> Result<()> {
    for (position, hostdev) in def.hostdevs.iter().enumerate() {
        let same = |other: &Hostdev| match (&hostdev.source, &other.source) {
            (HostdevSource::Pci { address: a, .. }, HostdevSource::Pci { address: b, .. }) => a == b,
            (HostdevSource::Usb(a), HostdevSource::Usb(b)) => {
                a.device.is_some() && (a.bus, a.device) == (b.bus, b.device)
            }
            (
                HostdevSource::Scsi { adapter: a, bus: b, target: t, unit: u, .. },
                HostdevSource::Scsi { adapter, bus, target, unit, .. },
            ) => (a, b, t, u) == (adapter, bus, target, unit),
            (HostdevSource::Mdev { uuid: a, .. }, HostdevSource::Mdev { uuid: b, .. }) => a == b,
            _ => false,
        };
        if def.hostdevs[..position].iter().any(same) {
            return invalid("Hostdev already exists in the domain configuration");
        }
        if let HostdevSource::Mdev { display: Some(Switch::On), .. } = &hostdev.source
            && def.graphics.is_empty()
        {
            return unsupported("graphics device is needed for attribute value 'display=on' in <hostdev>");
        }
    }
    Ok(())
}

fn shmem(shmem: &Shmem) -> Result<()> {
    if shmem.size.is_some_and(|size| !size.is_power_of_two() || size < 1 << 20) {
        return invalid("shmem size must be a power of 2 and at least 1 MiB (1024 KiB)");
    }
    if shmem.msi.is_some() && shmem.server.is_none() {
        return invalid("msi option is only supported with a server");
    }
    Ok(())
}

fn small_devices(def: &DomainDef) -> Result<()> {
    if def.features.smm.as_ref().and_then(|smm| smm.tseg).is_some_and(|bytes| bytes % (1 << 20) != 0) {
        return unsupported("SMM TSEG size must be divisible by 1 MiB");
    }
    for video in &def.videos {
        if video.model.kind == VideoType::Ramfb && video.info.address.is_some() {
            return unsupported("address not supported for video type ramfb");
        }
    }
    if let Some(iommu) = &def.iommu
        && iommu.model == IommuModel::Virtio
        && iommu.driver != IommuDriver::default()
    {
        return invalid("iommu model 'virtio' doesn't support additional attributes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::domain_xml::parse;
    use rstest::rstest;

    #[rstest]
    #[case("<cpu mode='host-model'><cache mode='passthrough'/></cpu>", "can only be used with 'host-passthrough'")]
    #[case("<cpu><numa><cell id='1' memory='1'/></numa></cpu>", "Exactly one 'cell' element")]
    #[case("<numatune><memory mode='strict' placement='static'/></numatune>", "must be set if 'placement' is 'static'")]
    #[case("<memoryBacking><hugepages><page size='2048' nodeset='1'/></hugepages></memoryBacking>", "node 1 not found")]
    #[case("<cputune><iothreadsched iothreads='2' scheduler='idle'/></cputune>", "Cannot find 'iothread' : 2")]
    #[case("<sysinfo type='smbios'><bios><entry name='date'>999/1</entry></bios></sysinfo>", "Invalid BIOS 'date'")]
    #[case("<devices><disk><target dev='sda'/><product>12345678901234567</product></disk></devices>", "more than 16")]
    #[case("<devices><serial type='unix'/></devices>", "Missing source path attribute")]
    #[case("<devices><shmem name='a'><size unit='M'>3</size></shmem></devices>", "must be a power of 2")]
    #[case(
        "<devices><controller type='usb' model='none'/><input type='mouse' bus='usb'/></devices>",
        "USB bus is disabled"
    )]
    fn refused(#[case] rest: &str, #[case] expected: &str) {
        let head = "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os>";
        let error = parse(&format!("{head}{rest}</domain>")).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
    }
}
