//! Whether a guest would notice that its definition was replaced: [`check`] compares what it sees (CPUs, memory,
//! firmware, devices, their models and addresses) and leaves alone what it does not (paths of images, bridges,
//! tuning). A saved or migrating guest takes a new definition only when it passes. Pure.
//!
//! Texts are libvirt's, "Target .. X does not match source Y": the target is the new definition.

use std::fmt::Display;

use super::cpu::Cpu;
use super::device::*;
use super::features::Features;
use super::model::DomainDef;
use crate::error::{Error, Result};

/// Refuses the first difference a guest that runs by `source` would see under `target`. Error: code 67; the text names
/// what differs and both values.
pub fn check(source: &DomainDef, target: &DomainDef) -> Result<()> {
    same("Target domain virt type", source.virt_type, target.virt_type)?;
    same_opt("Target domain uuid", source.uuid, target.uuid)?;
    same("Target domain name", &source.name, &target.name)?;
    memory(source, target)?;
    same("Target domain vCPU max", source.vcpu.max, target.vcpu.max)?;
    let current = |def: &DomainDef| def.vcpu.current.unwrap_or(def.vcpu.max);
    same("Target domain vCPU count", current(source), current(target))?;
    let iothreads = |def: &DomainDef| def.iothreads.unwrap_or(0);
    same("Target domain iothreads count", iothreads(source), iothreads(target))?;
    system(source, target)?;
    features(&source.features, &target.features)?;
    clock(source, target)?;
    cpu(source.cpu.as_ref(), target.cpu.as_ref())?;
    if source.sysinfo != target.sysinfo {
        return refuse(String::from("Target sysinfo does not match source"));
    }
    storage(source, target)?;
    characters(source, target)?;
    others(source, target)
}

fn memory(source: &DomainDef, target: &DomainDef) -> Result<()> {
    same("Target domain max memory", source.memory.size, target.memory.size)?;
    let current = |def: &DomainDef| def.memory.current.unwrap_or(def.memory.size);
    same("Target domain current memory", current(source), current(target))?;
    let slots = |def: &DomainDef| def.memory.slots.unwrap_or(0);
    same("Target domain memory slots count", slots(source), slots(target))?;
    same_opt("Target maximum memory size", source.memory.max, target.memory.max)?;
    let huge = |def: &DomainDef| def.memory_backing.hugepages.is_some();
    same("Target domain huge page backing", huge(source), huge(target))
}

fn system(source: &DomainDef, target: &DomainDef) -> Result<()> {
    let (a, b) = (&source.os, &target.os);
    same("Target domain OS type", a.os_type, b.os_type)?;
    same_opt("Target domain architecture", a.arch.as_ref(), b.arch.as_ref())?;
    same_opt("Target domain machine type", a.machine.as_ref(), b.machine.as_ref())?;
    same_opt("Target domain SMBIOS mode", a.smbios, b.smbios)?;
    same_opt("Target domain firmware", a.firmware, b.firmware)?;
    let loader = |os: &super::os::Os| os.loader.as_ref().and_then(|loader| loader.kind);
    same_opt("Target domain loader type", loader(a), loader(b))
}

fn features(a: &Features, b: &Features) -> Result<()> {
    let state = |name: &str, a: Option<String>, b: Option<String>| {
        let word = |side: Option<String>| side.unwrap_or_else(|| String::from("absent"));
        let (a, b) = (word(a), word(b));
        if a == b {
            return Ok(());
        }
        refuse(format!("State of feature '{name}' differs: source: '{a}', destination: '{b}'"))
    };
    let flag = |on: bool| on.then(|| String::from("on"));
    let word = |switch: Option<super::Switch>| switch.map(|switch| switch.to_string());
    state("acpi", flag(a.acpi), flag(b.acpi))?;
    state("apic", flag(a.apic.is_some()), flag(b.apic.is_some()))?;
    state("pae", flag(a.pae), flag(b.pae))?;
    state("viridian", flag(a.viridian), flag(b.viridian))?;
    state("privnet", flag(a.privnet), flag(b.privnet))?;
    for (name, a, b) in [
        ("hap", a.hap, b.hap),
        ("pvspinlock", a.pvspinlock, b.pvspinlock),
        ("pmu", a.pmu, b.pmu),
        ("vmport", a.vmport, b.vmport),
        ("vmcoreinfo", a.vmcoreinfo, b.vmcoreinfo),
        ("ps2", a.ps2, b.ps2),
    ] {
        state(name, word(a), word(b))?;
    }
    let smm = |features: &Features| {
        features.smm.as_ref().map(|smm| smm.state.map_or("on", |state| state.as_str()).to_string())
    };
    state("smm", smm(a), smm(b))?;
    state("ioapic", a.ioapic.map(|driver| driver.to_string()), b.ioapic.map(|driver| driver.to_string()))?;
    let gic = |features: &Features| features.gic.as_ref().map(|gic| gic.version.clone().unwrap_or_default());
    state("gic", gic(a), gic(b))?;
    for (name, differs) in [("hyperv", a.hyperv != b.hyperv), ("kvm", a.kvm != b.kvm)] {
        if differs {
            return refuse(format!("State of a '{name}' enlightenment differs between source and destination"));
        }
    }
    Ok(())
}

fn clock(source: &DomainDef, target: &DomainDef) -> Result<()> {
    let (a, b) = (&source.clock.timers, &target.clock.timers);
    same("Target domain timer count", a.len(), b.len())?;
    for (a, b) in a.iter().zip(b) {
        same("Target timer", a.name, b.name)?;
        same_opt("Target timer presence", a.present, b.present)?;
        same_opt("TSC frequency of target timer", a.frequency, b.frequency)?;
        same_opt("Target TSC mode", a.mode, b.mode)?;
    }
    Ok(())
}

fn cpu(a: Option<&Cpu>, b: Option<&Cpu>) -> Result<()> {
    let (a, b) = match (a, b) {
        (None, None) => return Ok(()),
        (Some(a), Some(b)) => (a, b),
        (a, _) => {
            let only = if a.is_some() { "source" } else { "target" };
            return refuse(format!("Target CPU does not match source: only the {only} has a <cpu>"));
        }
    };
    same_opt("Target CPU mode", a.mode, b.mode)?;
    same_opt("Target CPU model", a.model.as_ref(), b.model.as_ref())?;
    same_opt("Target CPU vendor", a.vendor.as_ref(), b.vendor.as_ref())?;
    same_opt("Target CPU vendor id", a.vendor_id.as_ref(), b.vendor_id.as_ref())?;
    let topology = |cpu: &Cpu| cpu.topology.clone().unwrap_or_default();
    let (s, t) = (topology(a), topology(b));
    same("Target CPU sockets", s.sockets.unwrap_or(0), t.sockets.unwrap_or(0))?;
    same("Target CPU dies", s.dies.unwrap_or(1), t.dies.unwrap_or(1))?;
    same("Target CPU clusters", s.clusters.unwrap_or(1), t.clusters.unwrap_or(1))?;
    same("Target CPU cores", s.cores.unwrap_or(0), t.cores.unwrap_or(0))?;
    same("Target CPU threads", s.threads.unwrap_or(0), t.threads.unwrap_or(0))?;
    if a.cache != b.cache || a.maxphysaddr != b.maxphysaddr {
        return refuse(String::from("Target CPU cache or physical address width does not match source"));
    }
    same("Target CPU feature count", a.features.len(), b.features.len())?;
    for feature in &a.features {
        let Some(other) = b.features.iter().find(|other| other.name == feature.name) else {
            return refuse(format!("Target CPU lacks feature '{}' of the source", feature.name));
        };
        same_opt(&format!("Target CPU feature '{}' policy", feature.name), feature.policy, other.policy)?;
    }
    same("Target CPU NUMA cell count", a.numa_cells.len(), b.numa_cells.len())?;
    for (a, b) in a.numa_cells.iter().zip(&b.numa_cells) {
        same(&format!("Target NUMA cell {} memory size", a.id), a.memory, b.memory)?;
        same_opt(&format!("Target NUMA cell {} CPUs", a.id), a.cpus.as_ref(), b.cpus.as_ref())?;
    }
    Ok(())
}

fn storage(source: &DomainDef, target: &DomainDef) -> Result<()> {
    each("disk", &source.disks, &target.disks, |a, b| {
        same("Target disk device", a.device, b.device)?;
        same_opt("Target disk bus", a.target.bus, b.target.bus)?;
        same("Target disk", a.dev(), b.dev())?;
        same_opt("Target disk serial", a.serial.as_ref(), b.serial.as_ref())?;
        same_opt("Target disk wwn", a.wwn.as_ref(), b.wwn.as_ref())?;
        same_opt("Target disk model", a.model, b.model)?;
        let access = |disk: &Disk| if disk.readonly || disk.shareable { "restricted" } else { "exclusive" };
        same("Target disk access mode", access(a), access(b))?;
        same_opt("Target disk queues", a.driver.queues, b.driver.queues)?;
        info(&format!("disk {}", a.dev()), &a.info, &b.info)
    })?;
    each("controller", &source.controllers, &target.controllers, |a, b| {
        same("Target controller type", a.kind, b.kind)?;
        same_opt("Target controller index", a.index, b.index)?;
        same_opt("Target controller model", a.model.as_ref(), b.model.as_ref())?;
        same_opt("Target controller ports", a.ports, b.ports)?;
        same_opt("Target controller vectors", a.vectors, b.vectors)?;
        info(&format!("controller {} {}", a.kind, a.index.unwrap_or_default()), &a.info, &b.info)
    })?;
    each("filesystem", &source.filesystems, &target.filesystems, |a, b| {
        same("Target filesystem guest target", &a.target, &b.target)?;
        same_opt("Target filesystem model", a.model, b.model)?;
        info(&format!("filesystem {}", a.target), &a.info, &b.info)
    })?;
    each("network card", &source.interfaces, &target.interfaces, |a, b| {
        same_opt("Target network card mac", a.mac, b.mac)?;
        same_opt("Target network card model", a.model.as_ref(), b.model.as_ref())?;
        same_opt("Target network card MTU", a.mtu, b.mtu)?;
        same_opt("Target network card queues", a.driver.queues, b.driver.queues)?;
        info(&format!("network card {}", a.mac.map(|mac| mac.to_string()).unwrap_or_default()), &a.info, &b.info)
    })?;
    each("host device", &source.hostdevs, &target.hostdevs, |a, b| {
        same("Target host device type", hostdev_type(a), hostdev_type(b))?;
        info("host device", &a.info, &b.info)
    })
}

fn hostdev_type(hostdev: &Hostdev) -> &'static str {
    match hostdev.source {
        HostdevSource::Usb(_) => "usb",
        HostdevSource::Pci { .. } => "pci",
        HostdevSource::Scsi { .. } | HostdevSource::Iscsi { .. } => "scsi",
        HostdevSource::ScsiHost { .. } => "scsi_host",
        HostdevSource::Mdev { .. } => "mdev",
        HostdevSource::Storage { .. } => "storage",
        HostdevSource::Misc { .. } => "misc",
        HostdevSource::Net { .. } => "net",
    }
}

fn characters(source: &DomainDef, target: &DomainDef) -> Result<()> {
    each("smartcard", &source.smartcards, &target.smartcards, |a, b| info("smartcard", &a.info, &b.info))?;
    each("serial port", &source.serials, &target.serials, |a, b| {
        same_opt("Target serial type", a.target_type, b.target_type)?;
        same_opt("Target serial port", a.port, b.port)?;
        info("serial port", &a.info, &b.info)
    })?;
    each("parallel port", &source.parallels, &target.parallels, |a, b| {
        same_opt("Target parallel port", a.port, b.port)?;
        info("parallel port", &a.info, &b.info)
    })?;
    each("console", &source.consoles, &target.consoles, |a, b| {
        same_opt("Target console type", a.target_type, b.target_type)?;
        info("console", &a.info, &b.info)
    })?;
    each("channel", &source.channels, &target.channels, |a, b| {
        let named = |channel: &Channel| match &channel.target {
            ChannelTarget::Virtio { name, .. } => ("virtio", name.clone().unwrap_or_default()),
            ChannelTarget::Xen { name, .. } => ("xen", name.clone().unwrap_or_default()),
            ChannelTarget::Guestfwd { address, port } => {
                ("guestfwd", format!("{}:{}", address.as_deref().unwrap_or_default(), port.unwrap_or(0)))
            }
        };
        let ((kind, name), (other_kind, other_name)) = (named(a), named(b));
        same("Target channel type", kind, other_kind)?;
        same("Target channel name", &name, other_name)?;
        info(&format!("channel {name}"), &a.info, &b.info)
    })
}

fn others(source: &DomainDef, target: &DomainDef) -> Result<()> {
    each("input device", &source.inputs, &target.inputs, |a, b| {
        same("Target input device type", a.kind, b.kind)?;
        same_opt("Target input device bus", a.bus, b.bus)?;
        same_opt("Target input device model", a.model, b.model)?;
        info(&format!("input device {}", a.kind), &a.info, &b.info)
    })?;
    each("sound card", &source.sounds, &target.sounds, |a, b| {
        same("Target sound card model", a.model, b.model)?;
        info("sound card", &a.info, &b.info)
    })?;
    each("video card", &source.videos, &target.videos, |a, b| {
        same("Target video card model", a.model.kind, b.model.kind)?;
        same_opt("Target video card vram", a.model.vram, b.model.vram)?;
        same_opt("Target video card ram", a.model.ram, b.model.ram)?;
        same_opt("Target video card vgamem", a.model.vgamem, b.model.vgamem)?;
        same_opt("Target video card heads", a.model.heads, b.model.heads)?;
        info("video card", &a.info, &b.info)
    })?;
    each("hub", &source.hubs, &target.hubs, |a, b| info("hub", &a.info, &b.info))?;
    each("redirected device", &source.redirdevs, &target.redirdevs, |a, b| {
        info("redirected device", &a.info, &b.info)
    })?;
    each("watchdog", &source.watchdogs, &target.watchdogs, |a, b| {
        same("Target watchdog model", a.model, b.model)?;
        same_opt("Target watchdog action", a.action, b.action)?;
        info("watchdog", &a.info, &b.info)
    })?;
    each("memory balloon", source.memballoon.as_slice(), target.memballoon.as_slice(), |a, b| {
        same("Target balloon model", a.model, b.model)?;
        info("memory balloon", &a.info, &b.info)
    })?;
    each("RNG", &source.rngs, &target.rngs, |a, b| {
        same("Target RNG model", a.model, b.model)?;
        info("RNG", &a.info, &b.info)
    })?;
    each("panic device", &source.panics, &target.panics, |a, b| {
        same_opt("Target panic model", a.model, b.model)?;
        info("panic device", &a.info, &b.info)
    })?;
    each("shared memory device", &source.shmems, &target.shmems, |a, b| {
        same("Target shared memory name", &a.name, &b.name)?;
        same_opt("Target shared memory model", a.model, b.model)?;
        same_opt("Target shared memory size", a.size, b.size)?;
        info(&format!("shared memory {}", a.name), &a.info, &b.info)
    })?;
    each("memory device", &source.memory_devices, &target.memory_devices, |a, b| {
        same("Target memory device model", a.model, b.model)?;
        same("Target memory device size", a.target.size, b.target.size)?;
        same_opt("Target memory device targetNode", a.target.node, b.target.node)?;
        same_opt("Target memory device label size", a.target.label_size, b.target.label_size)?;
        same_opt("Target memory device block size", a.target.block, b.target.block)?;
        info("memory device", &a.info, &b.info)
    })?;
    each("TPM", &source.tpms, &target.tpms, |a, b| {
        same_opt("Target TPM device model", a.model, b.model)?;
        info("TPM", &a.info, &b.info)
    })?;
    each("IOMMU", source.iommu.as_slice(), target.iommu.as_slice(), |a, b| {
        same("Target domain IOMMU device model", a.model, b.model)
    })?;
    each("vsock", source.vsock.as_slice(), target.vsock.as_slice(), |a, b| {
        same_opt("Target domain vsock device model", a.model, b.model)?;
        info("vsock", &a.info, &b.info)
    })
}

/// Guest address and option ROM.
fn info(device: &str, a: &DeviceInfo, b: &DeviceInfo) -> Result<()> {
    let kind = |info: &DeviceInfo| info.address.as_ref().map_or("none", DeviceAddress::type_name);
    same(&format!("Target device address type of {device}"), kind(a), kind(b))?;
    if let (Some(pci), Some(other)) = (a.pci(), b.pci()) {
        same(&format!("Target device PCI address of {device}"), pci, other)?;
    } else if let (Some(x), Some(y)) = (&a.address, &b.address)
        && x != y
    {
        let (x, y) = (numbers(x), numbers(y));
        return refuse(format!("Target device {} address {y} of {device} does not match source {x}", kind(a)));
    }
    let rom = |info: &DeviceInfo| info.rom.as_ref().and_then(|rom| rom.bar);
    same_opt(&format!("Target device ROM bar of {device}"), rom(a), rom(b))?;
    same_opt(&format!("Target device ACPI index of {device}"), a.acpi_index, b.acpi_index)
}

fn numbers(address: &DeviceAddress) -> String {
    match address {
        DeviceAddress::Drive { controller, bus, target, unit } => format!("{controller}:{bus}:{target}:{unit}"),
        DeviceAddress::VirtioSerial { controller, bus, port } => format!("{controller}:{bus}:{port}"),
        DeviceAddress::Ccid { controller, slot } => format!("{controller}:{slot}"),
        DeviceAddress::Usb { bus, port } => format!("{bus}:{}", port.as_deref().unwrap_or_default()),
        DeviceAddress::Ccw { cssid, ssid, devno } => format!("{cssid:x}.{ssid:x}.{devno:04x}"),
        DeviceAddress::Isa { iobase, irq } => format!("{}:{}", iobase.unwrap_or(0), irq.unwrap_or(0)),
        DeviceAddress::Dimm { slot, base } => format!("{slot}:{:x}", base.unwrap_or(0)),
        DeviceAddress::SpaprVio { reg } => format!("{:x}", reg.unwrap_or(0)),
        DeviceAddress::Pci { address, .. } => address.to_string(),
        DeviceAddress::VirtioS390 | DeviceAddress::VirtioMmio | DeviceAddress::Unassigned => String::new(),
    }
}

fn each<T>(kind: &str, source: &[T], target: &[T], same_device: impl Fn(&T, &T) -> Result<()>) -> Result<()> {
    same(&format!("Target domain {kind} count"), source.len(), target.len())?;
    source.iter().zip(target).try_for_each(|(a, b)| same_device(a, b))
}

fn same<A: Display, B: Display>(what: &str, source: A, target: B) -> Result<()> {
    let (source, target) = (source.to_string(), target.to_string());
    if source == target { Ok(()) } else { refuse(format!("{what} {target} does not match source {source}")) }
}

fn same_opt<T: Display>(what: &str, source: Option<T>, target: Option<T>) -> Result<()> {
    let word = |side: Option<T>| side.map_or_else(|| String::from("none"), |value| value.to_string());
    same(what, word(source), word(target))
}

fn refuse(what: String) -> Result<()> {
    Err(Error::unsupported_config(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::parse;
    use rstest::rstest;

    const GUEST: &str = "<domain type='qemu'><name>a</name><uuid>2fbd1d85-719f-4be8-aeb4-3a0d2fea9a4f</uuid>\
        <memory>1024</memory><vcpu>2</vcpu><os><type arch='x86_64' machine='pc-i440fx-8.0'>hvm</type></os>\
        <features><acpi/></features><cpu mode='custom'><model>qemu64</model><topology sockets='2' cores='1' threads='1'/>\
        <feature policy='require' name='vmx'/></cpu><devices>\
        <disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><serial>s1</serial>\
        <address type='pci' domain='0' bus='0' slot='4' function='0'/></disk>\
        <disk type='file'><source file='/b'/><target dev='sda' bus='scsi'/></disk>\
        <controller type='usb' index='0' model='piix3-uhci'/>\
        <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/><model type='virtio'/></interface>\
        <graphics type='vnc'/><rng model='virtio'><backend model='random'/></rng></devices></domain>";

    fn compared(from: &str, to: &str) -> Result<()> {
        assert!(GUEST.contains(from), "{from}");
        let def = |xml: &str| parse(xml).expect("parses").def;
        check(&def(GUEST), &def(&GUEST.replace(from, to)))
    }

    #[rstest]
    #[case("/a", "/elsewhere")]
    #[case("bridge='br0'", "bridge='br1'")]
    #[case("<graphics type='vnc'/>", "<graphics type='vnc' port='5901'/>")]
    #[case("<features>", "<title>another</title><features>")]
    fn what_a_guest_does_not_see_may_change(#[case] from: &str, #[case] to: &str) {
        assert_eq!(compared(from, to).map_err(|error| error.detail), Ok(()));
    }

    #[rstest]
    #[case("<domain type='qemu'>", "<domain type='kvm'>", "Target domain virt type kvm does not match source qemu")]
    #[case("<name>a</name>", "<name>b</name>", "Target domain name b does not match source a")]
    #[case(">1024<", ">2048<", "Target domain max memory 2048 does not match source 1024")]
    #[case(">2</vcpu>", ">4</vcpu>", "Target domain vCPU max 4 does not match source 2")]
    #[case("8.0", "9.0", "Target domain machine type pc-i440fx-9.0 does not match source pc-i440fx-8.0")]
    #[case("<acpi/>", "", "State of feature 'acpi' differs: source: 'on', destination: 'absent'")]
    #[case("qemu64", "Nehalem", "Target CPU model Nehalem does not match source qemu64")]
    #[case("sockets='2' cores='1'", "sockets='1' cores='2'", "Target CPU sockets 1 does not match source 2")]
    #[case("'require'", "'disable'", "Target CPU feature 'vmx' policy disable does not match source require")]
    #[case("name='vmx'", "name='svm'", "Target CPU lacks feature 'vmx' of the source")]
    #[case("'vda' bus='virtio'", "'vdb' bus='virtio'", "Target disk vdb does not match source vda")]
    #[case("<serial>s1</serial>", "", "Target disk serial none does not match source s1")]
    #[case(
        "slot='4'",
        "slot='5'",
        "Target device PCI address of disk vda 0000:00:05.0 does not match source 0000:00:04.0"
    )]
    #[case("dev='sda' bus='scsi'", "dev='sda' bus='sata'", "Target disk bus sata does not match source scsi")]
    #[case("piix3-uhci", "ich9-ehci1", "Target controller model ich9-ehci1 does not match source piix3-uhci")]
    #[case(":01'", ":02'", "Target network card mac 52:54:00:00:00:02 does not match source 52:54:00:00:00:01")]
    #[case(
        "type='virtio'/></interface>",
        "type='e1000'/></interface>",
        "Target network card model e1000 does not match source virtio"
    )]
    #[case(
        "<rng model='virtio'><backend model='random'/></rng>",
        "",
        "Target domain RNG count 0 does not match source 1"
    )]
    fn what_it_sees_may_not(#[case] from: &str, #[case] to: &str, #[case] text: &str) {
        let error = compared(from, to).expect_err("refused");
        assert_eq!((error.code as i32, error.detail.as_str()), (67, text));
    }
}
