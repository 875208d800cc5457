//! libvirt's defaults and checks that need neither host nor driver (`virDomainDefPostParse` and the general part of
//! `virDomainDefValidate`). A driver calls [`post_parse`] again after it changed a definition: it is idempotent.

mod controllers;

use std::collections::HashMap;

use super::cpu::{Cpu, CpuFallback, CpuMatch, CpuMode, FeaturePolicy, NumaMemory, NumaMode, NumaPlacement, NumaTune};
use super::device::*;
use super::model::{CrashAction, DomainDef, LifecycleAction, VirtType};
use super::os::{BootDev, FirmwareFormat, LoaderType, OsType};
use super::seclabel::{Seclabel, SeclabelType};
use super::tune::{Placement, VcpuState, list_iothreads};
use super::words::YesNo;
pub use controllers::{implicit_controllers, insert_controller};

use crate::error::{Code, Error, Result};
use controllers::controllers;

/// Fills in the defaults and refuses what no driver could run. Errors: codes 27 and 67 with libvirt's texts.
pub fn post_parse(def: &mut DomainDef) -> Result<()> {
    super::limits::check(def)?;
    memory(def)?;
    def.on_poweroff.get_or_insert(LifecycleAction::Destroy);
    def.on_reboot.get_or_insert(LifecycleAction::Restart);
    def.on_crash.get_or_insert(CrashAction::Destroy);
    def.vcpu.placement.get_or_insert(Placement::Static);
    numatune(def);
    if def.os.bootmenu.as_ref().is_some_and(|menu| menu.enable.is_none()) {
        def.os.bootmenu = None;
    }
    iothreads(def);
    vcpus(def);
    if let Some(cpu) = &mut def.cpu {
        complete_cpu(cpu)?;
    }
    seclabels(def)?;
    for (nth, disk) in def.disks.iter_mut().enumerate() {
        self::disk(disk).map_err(|error| error.about("devices/disk", nth))?;
    }
    consoles(def);
    ports(def);
    videos(def);
    controllers(def)?;
    firmware(def);
    boot(def)?;
    small_devices(def);
    duplicates(def)
}

/// Listed threads count; when fewer are listed than there are, the others get the lowest free numbers.
fn iothreads(def: &mut DomainDef) {
    def.iothreads = def.iothreads.filter(|count| *count != 0);
    if !def.iothread_ids.is_empty() {
        list_iothreads(def);
    }
}

/// States of single virtual CPUs: what is not listed is off, what is on from the start stays plugged.
fn vcpus(def: &mut DomainDef) {
    let max = def.vcpu.max;
    def.cputune.vcpupin.retain(|pin| pin.vcpu < max);
    if def.vcpus.is_empty() {
        return;
    }
    for id in 0..max {
        if !def.vcpus.iter().any(|vcpu| vcpu.id == Some(id)) {
            def.vcpus.push(VcpuState { id: Some(id), enabled: Some(YesNo::No), ..Default::default() });
        }
    }
    def.vcpus.sort_by_key(|vcpu| vcpu.id);
    for vcpu in &mut def.vcpus {
        let enabled = vcpu.enabled.is_some_and(YesNo::is_yes);
        vcpu.hotpluggable.get_or_insert(YesNo::from(!enabled));
    }
    let online = def.vcpus.iter().filter(|vcpu| vcpu.enabled.is_some_and(YesNo::is_yes)).count() as u32;
    def.vcpu.current = Some(online).filter(|online| *online != max);
}

/// CPUs and memory are placed automatically together, unless one of them is bound.
fn numatune(def: &mut DomainDef) {
    let auto = Some(NumaPlacement::Auto);
    let asks = |tune: &NumaTune| tune.memory.as_ref().is_some_and(|memory| memory.placement == auto);
    let pinned = !def.cputune.vcpupin.is_empty() || def.cputune.emulatorpin.is_some() || def.vcpu.cpuset.is_some();
    if def.numatune.as_ref().is_some_and(asks) && !pinned {
        def.vcpu.placement = Some(Placement::Auto);
    }
    if def.vcpu.placement != Some(Placement::Auto) {
        return;
    }
    def.vcpu.cpuset = None;
    let memory = &mut def.numatune.get_or_insert_default().memory;
    let memory = memory.get_or_insert_with(|| NumaMemory { mode: Some(NumaMode::Strict), ..Default::default() });
    if memory.nodeset.is_none() {
        memory.placement = auto;
    }
}

fn memory(def: &mut DomainDef) -> Result<()> {
    let mut numa = def.cpu.iter().flat_map(|cpu| &cpu.numa_cells).map(|cell| cell.memory);
    let cells = numa.try_fold(0, u64::checked_add);
    let pluggable = def.memory_devices.iter().map(|device| device.target.size).try_fold(0, u64::checked_add);
    let total = cells.zip(pluggable).and_then(|(cells, pluggable)| cells.checked_add(pluggable));
    let Some(total) = total else {
        return Err(Error::new(Code::Overflow, "the memory of all NUMA cells and memory devices together"));
    };
    if cells.is_some_and(|cells| cells > 0) {
        def.memory.size = total;
    }
    if def.memory.size == 0 {
        let what = "Memory size must be specified via <memory> or in the <numa> configuration";
        return Err(Error::new(Code::XmlError, what));
    }
    let size = def.memory.size;
    if def.memory.max.is_some_and(|max| max < size) {
        let what = "maximum memory size must be equal or greater than the actual memory size";
        return Err(Error::new(Code::XmlError, what));
    }
    // Without cells "node 0" is the whole guest.
    if def.cpu.as_ref().is_none_or(|cpu| cpu.numa_cells.is_empty()) {
        for page in def.memory_backing.hugepages.iter_mut().flatten() {
            page.nodeset = page.nodeset.take().filter(|set| set != "0");
        }
    }
    if def.memory.current.is_none_or(|current| current > size) {
        def.memory.current = Some(size);
    }
    Ok(())
}

fn complete_cpu(cpu: &mut Cpu) -> Result<()> {
    if cpu.mode.unwrap_or_default() == CpuMode::Custom && cpu.model.is_none() && !cpu.features.is_empty() {
        return Err(Error::new(Code::XmlError, "Non-empty feature list specified without CPU model"));
    }
    if cpu.mode.is_none() && (cpu.model.is_some() || cpu.match_.is_some()) {
        cpu.mode = Some(CpuMode::Custom);
    }
    if let Some(topology) = &mut cpu.topology {
        topology.dies.get_or_insert(1);
        topology.clusters.get_or_insert(1);
    }
    for feature in &mut cpu.features {
        feature.policy.get_or_insert(FeaturePolicy::Require);
    }
    if cpu.model.is_none() && cpu.vendor_id.is_none() {
        cpu.fallback = None;
    }
    match cpu.mode {
        None | Some(CpuMode::Custom) => {
            if cpu.model.is_some() {
                cpu.match_.get_or_insert(CpuMatch::Exact);
                cpu.fallback.get_or_insert(CpuFallback::Allow);
            }
        }
        _ => cpu.match_ = None,
    }
    Ok(())
}

/// One label without a model means the host's main security model, which is none here; several must say theirs.
fn seclabels(def: &mut DomainDef) -> Result<()> {
    let single = def.seclabels.len() == 1;
    for label in &mut def.seclabels {
        complete_seclabel(label);
        if label.model.is_none() {
            let open = label.kind == Some(SeclabelType::None)
                || (label.kind == Some(SeclabelType::Dynamic) && label.baselabel.is_none());
            if !(single && open) {
                let what = match single {
                    true => "missing security model in domain seclabel",
                    false => "missing security model when using multiple labels",
                };
                return Err(Error::new(Code::XmlError, what));
            }
            label.model = Some("none".into());
        }
        if label.model.as_deref() == Some("none") {
            *label = Seclabel { kind: Some(SeclabelType::None), model: label.model.take(), ..Default::default() };
        }
        if label.kind != Some(SeclabelType::Dynamic) {
            label.baselabel = None;
        }
    }
    Ok(())
}

fn complete_seclabel(label: &mut Seclabel) {
    let kind = *label.kind.get_or_insert(SeclabelType::Dynamic);
    if kind != SeclabelType::None {
        label.relabel.get_or_insert(YesNo::from(kind != SeclabelType::Static));
    }
}

fn disk(disk: &mut Disk) -> Result<()> {
    disk.target.bus = bus_of(disk);
    let bus = disk.target.bus;
    match (disk.device, bus) {
        (DiskDevice::Floppy, Some(bus)) if bus != DiskBus::Fdc => {
            return Err(Error::internal(format!("Invalid bus type '{bus}' for floppy disk")));
        }
        (device, Some(DiskBus::Fdc)) if device != DiskDevice::Floppy => {
            return Err(Error::internal("Invalid bus type 'fdc' for disk"));
        }
        _ => {}
    }
    if bus != Some(DiskBus::Usb) {
        disk.target.removable = None;
    }
    if disk.target.tray == Some(Tray::Closed) {
        disk.target.tray = None;
    }
    if disk.device == DiskDevice::Lun
        && !matches!(disk.source.kind, StorageKind::Block | StorageKind::Network | StorageKind::Volume)
    {
        let what = "disk device='lun' is only valid for block type disk source";
        return Err(Error::new(Code::ConfigUnsupported, what));
    }
    match &disk.info.address {
        None if disk_index(disk.dev()).is_none() => {
            let what = format!("Unknown disk name '{}' and no address specified", disk.dev());
            return Err(Error::new(Code::XmlError, what));
        }
        Some(address)
            if matches!(bus, Some(DiskBus::Ide | DiskBus::Scsi | DiskBus::Sata | DiskBus::Fdc))
                && !matches!(address, DeviceAddress::Drive { .. } | DeviceAddress::Unassigned) =>
        {
            let what = format!(
                "Invalid address type '{}' for the disk '{}' with the bus type '{}'",
                address.type_name(),
                disk.dev(),
                bus.unwrap_or_default()
            );
            return Err(Error::new(Code::ConfigUnsupported, what));
        }
        _ => {}
    }
    if disk.source.is_empty() {
        disk.source.kind = StorageKind::File;
    }
    if disk.device == DiskDevice::Cdrom {
        disk.readonly = true;
    }
    if disk.info.address.is_none() {
        disk.info.address = bus.and_then(|bus| drive_address(disk.dev(), bus));
    }
    Ok(())
}

/// The bus of a disk; without one, what its kind or its name stands for.
fn bus_of(disk: &Disk) -> Option<DiskBus> {
    let by_name = || {
        let buses = [
            ("hd", DiskBus::Ide),
            ("sd", DiskBus::Scsi),
            ("vd", DiskBus::Virtio),
            ("xvd", DiskBus::Xen),
            ("ubd", DiskBus::Uml),
        ];
        match disk.device {
            DiskDevice::Floppy => Some(DiskBus::Fdc),
            _ => buses.iter().find(|(prefix, _)| disk.dev().starts_with(prefix)).map(|(_, bus)| *bus),
        }
    };
    disk.target.bus.or_else(by_name)
}

/// The place on its bus that a disk's name stands for (`virDomainDiskDefAssignAddress`).
fn drive_address(dev: &str, bus: DiskBus) -> Option<DeviceAddress> {
    let index = disk_index(dev)?;
    let (controller, bus, unit) = match bus {
        DiskBus::Ide => (index / 4, (index % 4) / 2, index % 2),
        DiskBus::Scsi => (index / 7, 0, index % 7),
        DiskBus::Sata => (index / 6, 0, index % 6),
        DiskBus::Fdc => (index / 2, 0, index % 2),
        _ => return None,
    };
    Some(DeviceAddress::Drive { controller, bus, target: 0, unit })
}

/// Position that a disk's name stands for: `sda` is 0, `sdaa` is 26; a partition number is left aside.
pub fn disk_index(dev: &str) -> Option<u32> {
    let letters = ["fd", "hd", "vd", "sd", "xvd", "ubd"].iter().find_map(|prefix| dev.strip_prefix(prefix))?;
    let letters = letters.trim_end_matches(|c: char| c.is_ascii_digit());
    if letters.is_empty() || !letters.bytes().all(|b| b.is_ascii_lowercase()) {
        return None;
    }
    let mut index: u32 = 0;
    for byte in letters.bytes() {
        index = index.checked_mul(26)?.checked_add(u32::from(byte - b'a') + 1)?;
    }
    Some(index - 1)
}

/// The first console of a full machine is its first serial port, and the other way round.
fn consoles(def: &mut DomainDef) {
    let default = match def.os.os_type {
        OsType::Exe => ConsoleTarget::Lxc,
        OsType::Xen | OsType::XenPvh | OsType::Linux if def.virt_type == VirtType::Xen => ConsoleTarget::Xen,
        _ => ConsoleTarget::Serial,
    };
    for console in &mut def.consoles {
        console.target_type.get_or_insert(default);
    }
    if def.os.os_type != OsType::Hvm {
        return;
    }
    match (def.consoles.first(), def.serials.first()) {
        (Some(console), None) if console.target_type == Some(ConsoleTarget::Serial) => {
            def.serials.push(Serial {
                source: console.source.clone(),
                info: console.info.clone(),
                port: Some(0),
                ..Default::default()
            });
        }
        (console, Some(serial))
            if console.is_none_or(|console| console.target_type != Some(ConsoleTarget::Serial))
                && !matches!(
                    serial.target_type,
                    Some(SerialTarget::Pci | SerialTarget::Usb | SerialTarget::IsaDebug)
                ) =>
        {
            let mirror = Console {
                source: serial.source.clone(),
                target_type: Some(ConsoleTarget::Serial),
                ..Default::default()
            };
            def.consoles.insert(0, mirror);
        }
        _ => {}
    }
    let serials = def.serials.iter();
    for (console, serial) in def.consoles.iter_mut().zip(serials) {
        if console.target_type == Some(ConsoleTarget::Serial) {
            console.source = serial.source.clone();
            console.info = serial.info.clone();
        }
    }
}

fn ports(def: &mut DomainDef) {
    fn number<'a>(ports: impl Iterator<Item = &'a mut Option<u32>>) {
        let mut ports: Vec<_> = ports.collect();
        let mut next = ports.iter().filter_map(|port| port.map(|port| port.saturating_add(1))).max().unwrap_or(0);
        for port in ports.iter_mut().filter(|port| port.is_none()) {
            **port = Some(next);
            next = next.saturating_add(1);
        }
    }
    number(def.serials.iter_mut().map(|serial| &mut serial.port));
    // Parallel ports only look at those before them.
    let mut next = 0;
    for parallel in &mut def.parallels {
        let port = *parallel.port.get_or_insert(next);
        next = next.max(port + 1);
    }
    for (index, console) in def.consoles.iter_mut().enumerate() {
        console.port = Some(index as u32);
    }
    // The console that stands for a serial port has its number.
    let mirrors = def.os.os_type == OsType::Hvm;
    if let (Some(console), Some(serial)) = (def.consoles.first_mut(), def.serials.first())
        && mirrors
        && console.target_type == Some(ConsoleTarget::Serial)
    {
        console.port = serial.port;
    }
}

fn videos(def: &mut DomainDef) {
    if def.videos.is_empty() && !def.graphics.is_empty() && def.os.os_type == OsType::Hvm {
        def.videos.push(Video::default());
    }
    if let Some(primary) = def.videos.iter().position(|video| video.model.primary == Some(YesNo::Yes)) {
        let video = def.videos.remove(primary);
        def.videos.insert(0, video);
    }
    if let Some(first) = def.videos.first_mut()
        && first.model.kind != VideoType::None
    {
        first.model.primary = Some(YesNo::Yes);
    }
    for video in &mut def.videos {
        let model = &mut video.model;
        let vram = match model.kind {
            VideoType::Vga | VideoType::Cirrus | VideoType::Vmvga | VideoType::Bochs | VideoType::Gop => {
                Some(16 * 1024)
            }
            VideoType::Xen => Some(4 * 1024),
            VideoType::Vbox => Some(8 * 1024),
            VideoType::Qxl | VideoType::Parallels => Some(64 * 1024),
            VideoType::Default | VideoType::Virtio | VideoType::None | VideoType::Ramfb => None,
        };
        model.vram = model.vram.or(vram);
        if model.kind == VideoType::Qxl {
            model.ram.get_or_insert(64 * 1024);
        }
        for size in [&mut model.ram, &mut model.vram] {
            *size = size.map(|kib| kib.checked_next_power_of_two().unwrap_or(kib));
        }
        if model.kind != VideoType::None {
            model.heads.get_or_insert(1);
        }
    }
}

fn boot(def: &mut DomainDef) -> Result<()> {
    let mut orders: HashMap<u32, u32> = HashMap::new();
    for info in super::infos(def) {
        if let Some(order) = info.boot_order {
            *orders.entry(order).or_default() += 1;
        }
    }
    if let Some((order, _)) = orders.iter().find(|(_, count)| **count > 1) {
        let what = format!("boot order '{order}' used for more than one device");
        return Err(Error::unsupported_config(what));
    }
    if def.os.os_type != OsType::Hvm {
        return Ok(());
    }
    if !orders.is_empty() && !def.os.boot.is_empty() {
        let what = "per-device boot elements cannot be used together with os/boot elements";
        return Err(Error::new(Code::ConfigUnsupported, what));
    }
    if orders.is_empty() && def.os.boot.is_empty() {
        def.os.boot.push(BootDev::Hd);
    }
    Ok(())
}

/// Whether libvirt has a word of its own for a NIC's model.
pub fn is_known_nic(model: &str) -> bool {
    INTERFACE_MODELS.contains(&model)
}

/// Puts a disk behind those of its bus with a smaller name, before those with a greater one. A bus that it does not have
/// yet counts as the one it will get, so that the order is the same when the completed definition is read.
pub(super) fn insert_disk(disks: &mut Vec<Disk>, new: Disk) {
    insert_by(disks, new, |disk| disk);
}

/// The same for anything that has a disk.
pub(super) fn insert_by<T>(items: &mut Vec<T>, new: T, disk: impl Fn(&T) -> &Disk) {
    let mut place = None;
    let of = disk(&new);
    for (position, other) in items.iter().map(&disk).enumerate().rev() {
        if bus_of(other) != bus_of(of) {
            continue;
        }
        if disk_index(other.dev()) > disk_index(of.dev()) {
            place = Some(position);
        } else {
            place.get_or_insert(position + 1);
        }
    }
    items.insert(place.unwrap_or(items.len()), new);
}

/// Interface models that libvirt knows; it takes them in any case.
const INTERFACE_MODELS: &[&str] = &[
    "netfront",
    "rtl8139",
    "virtio",
    "e1000",
    "e1000e",
    "igb",
    "virtio-transitional",
    "virtio-non-transitional",
    "usb-net",
    "spapr-vlan",
    "lan9118",
    "scm91c111",
    "vlance",
    "vmxnet",
    "vmxnet2",
    "vmxnet3",
    "Am79C970A",
    "Am79C973",
    "82540EM",
    "82545EM",
    "82543GC",
];

fn firmware(def: &mut DomainDef) {
    if let Some(loader) = def.os.loader.as_mut().filter(|loader| loader.path.is_some())
        && def.os.firmware.is_none()
        && loader.kind.is_none()
    {
        loader.kind = Some(LoaderType::Rom);
        if matches!(def.virt_type, VirtType::Qemu | VirtType::Kvm | VirtType::Hvf) {
            loader.format.get_or_insert(FirmwareFormat::Raw);
        }
    }
}

fn small_devices(def: &mut DomainDef) {
    for nic in &mut def.interfaces {
        // Only a back end outside the emulator can be bound to a device of the host.
        if let InterfaceSource::User { dev } = &mut nic.source
            && nic.backend.kind.as_deref() != Some("passt")
        {
            *dev = None;
        }
        nic.coalesce_rx_frames_max = nic.coalesce_rx_frames_max.filter(|max| *max != 0);
        if let Some(model) = &mut nic.model
            && let Some(known) = INTERFACE_MODELS.iter().find(|known| known.eq_ignore_ascii_case(model))
        {
            *model = known.to_string();
        }
    }
    if let Some(vsock) = &mut def.vsock {
        let given = vsock.cid.address.is_some();
        vsock.cid.auto.get_or_insert(YesNo::from(!given));
    }
    for watchdog in &mut def.watchdogs {
        watchdog.action.get_or_insert(WatchdogAction::Reset);
    }
    for rng in &mut def.rngs {
        if let RngBackend::Random(path) = &mut rng.backend {
            path.get_or_insert_with(|| String::from("/dev/random"));
        }
    }
    for filesystem in &mut def.filesystems {
        if filesystem.source.socket.is_none() {
            filesystem.accessmode.get_or_insert(FsAccessMode::Passthrough);
        }
    }
    for tpm in &mut def.tpms {
        if let TpmBackend::Passthrough { path } = &mut tpm.backend {
            path.get_or_insert_with(|| String::from("/dev/tpm0"));
        }
    }
}

fn duplicates(def: &mut DomainDef) -> Result<()> {
    for (position, disk) in def.disks.iter().enumerate() {
        for other in &def.disks[..position] {
            let drive = other.dev() != disk.dev() && matches!(disk.info.address, Some(DeviceAddress::Drive { .. }));
            if drive
                && other.info.address == disk.info.address
                && other.target.bus == disk.target.bus
                && let Some(DeviceAddress::Drive { controller, bus, target, unit }) = disk.info.address
            {
                let what = format!(
                    "Found duplicate drive address for disk with target name '{}' controller='{controller}' \
                         bus='{bus}' target='{target}' unit='{unit}'",
                    disk.dev()
                );
                return Err(Error::unsupported_config(what).about("devices/disk", position));
            }
        }
    }
    // The console that stands for the first serial port has its alias.
    let mirrored = def.consoles.first().is_some_and(|c| c.target_type == Some(ConsoleTarget::Serial));
    let console_alias = def.consoles.first().filter(|_| mirrored).and_then(|console| console.info.alias.clone());
    let serial_alias = def.serials.first().and_then(|serial| serial.info.alias.clone());
    let mut seen: HashMap<String, u32> = HashMap::new();
    for info in super::infos(def) {
        if let Some(alias) = &info.alias {
            *seen.entry(alias.clone()).or_default() += 1;
        }
    }
    for (alias, count) in seen {
        let allowed = if Some(&alias) == console_alias.as_ref() && console_alias == serial_alias { 2 } else { 1 };
        if count > allowed {
            return Err(Error::unsupported_config(format!("non unique alias detected: {alias}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::{FormatOptions, format, parse};
    use rstest::rstest;

    fn domain(rest: &str) -> String {
        format!("<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os>{rest}</domain>")
    }

    fn devices(devices: &str) -> String {
        domain(&format!("<devices>{devices}</devices>"))
    }

    fn written(xml: &str) -> String {
        let mut def = parse(xml).expect("parses").def;
        implicit_controllers(&mut def).expect("few controllers");
        format(&def, FormatOptions { inactive: true, ..Default::default() })
    }

    #[test]
    fn a_bare_domain_gets_libvirts_defaults() {
        let expected = "<domain type='qemu'>\n  <name>a</name>\n  <memory unit='KiB'>1024</memory>\n  \
                        <currentMemory unit='KiB'>1024</currentMemory>\n  <vcpu placement='static'>1</vcpu>\n  <os>\n    \
                        <type>hvm</type>\n    <boot dev='hd'/>\n  </os>\n  <clock offset='utc'/>\n  \
                        <on_poweroff>destroy</on_poweroff>\n  <on_reboot>restart</on_reboot>\n  \
                        <on_crash>destroy</on_crash>\n  <devices/>\n</domain>\n";
        assert_eq!(written(&domain("")).replace("  <devices>\n  </devices>\n", "  <devices/>\n"), expected);
    }

    #[rstest]
    #[case("hda", 0)]
    #[case("sdz", 25)]
    #[case("sdaa", 26)]
    #[case("vdb3", 1)]
    fn disk_names(#[case] dev: &str, #[case] index: u32) {
        assert_eq!(disk_index(dev), Some(index));
    }

    #[test]
    fn disks_get_bus_address_and_controller() {
        let text = written(&devices(
            "<disk device='cdrom'><target dev='hdc'/></disk><disk><source file='/x'/><target dev='vda'/></disk>",
        ));
        assert!(text.contains("<target dev='hdc' bus='ide'/>\n      <readonly/>"), "{text}");
        assert!(text.contains("<address type='drive' controller='0' bus='1' target='0' unit='0'/>"), "{text}");
        assert!(text.contains("<target dev='vda' bus='virtio'/>"), "{text}");
        assert!(text.contains("<controller type='ide' index='0'/>"), "{text}");
    }

    #[test]
    fn disks_without_a_bus_are_sorted_as_with_it() {
        let text = written(&devices(
            "<disk><source file='/x'/><target dev='vda' bus='virtio'/></disk><disk device='cdrom'><target dev='hda'/></disk>\
             <disk><source file='/y'/><target dev='vdb'/></disk>",
        ));
        let at = |dev: &str| text.find(&format!("<target dev='{dev}'")).unwrap();
        assert!(at("vda") < at("vdb") && at("vdb") < at("hda"), "{text}");
        assert_eq!(written(&text), text);
    }

    #[test]
    fn console_and_serial_stand_for_each_other() {
        for device in ["<serial type='pty'/>", "<console type='pty'/>"] {
            let text = written(&devices(device));
            assert!(text.contains("<serial type='pty'>\n      <target port='0'/>"), "{text}");
            assert!(text.contains("<console type='pty'>\n      <target type='serial' port='0'/>"), "{text}");
        }
    }

    #[test]
    fn controllers_are_kept_in_order() {
        let text = written(&devices(
            "<controller type='pci' index='1' model='pci-bridge'/><controller type='usb' index='0'/>\
             <controller type='pci' index='0' model='pci-root'/><controller type='usb'/>",
        ));
        let order: Vec<&str> = text.lines().filter(|line| line.contains("<controller")).map(str::trim).collect();
        assert_eq!(
            order,
            [
                "<controller type='pci' index='0' model='pci-root'/>",
                "<controller type='pci' index='1' model='pci-bridge'/>",
                "<controller type='usb' index='0'/>",
                "<controller type='usb' index='1'/>",
            ]
        );
    }

    #[rstest]
    #[case(
        "<disk><source file='/x'/><target dev='vda'/></disk><disk><source file='/y'/><target dev='vda'/></disk>",
        "target 'vda' duplicated for disk sources '/x' and '/y'"
    )]
    #[case(
        "<disk><source file='/x'/><target dev='sda'/><address type='drive' controller='4294967295'/></disk>",
        "domain/devices/disk/address/@controller is 4294967295, and at most 1023 is possible"
    )]
    #[case(
        "<controller type='usb' index='0'/><controller type='usb' index='0'/>",
        "Multiple 'usb' controllers with index '0'"
    )]
    #[case(
        "<disk><target dev='vda'/><boot order='1'/></disk><disk><target dev='vdb'/><boot order='1'/></disk>",
        "boot order '1' used for more than one device"
    )]
    #[case("<disk device='floppy'><target dev='vda' bus='ide'/></disk>", "Invalid bus type 'ide' for floppy disk")]
    #[case(
        "<disk><target dev='vda'/><alias name='ua-1'/></disk><disk><target dev='vdb'/><alias name='ua-1'/></disk>",
        "non unique alias detected: ua-1"
    )]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let error = parse(&devices(xml)).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
    }

    #[test]
    fn it_is_idempotent() {
        let xml = devices("<disk device='cdrom'><target dev='hdc'/></disk><serial type='pty'/><graphics type='vnc'/>");
        let mut def = parse(&xml).expect("parses").def;
        let once = def.clone();
        post_parse(&mut def).expect("again");
        assert_eq!(def, once);
    }
}
