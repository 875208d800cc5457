//! [`DomainDef`] -> `<domain>`, in libvirt's order.

use super::device::*;
use super::foreign::Foreign;
use super::model::{DomainDef, GenId, LxcNamespace, QemuCommandline};
use super::os::OsType;
use super::parse::{Device, LXC_NAMESPACE, QEMU_NAMESPACE};
use super::tune::{IoThread, write_vcpus};
use super::{FormatOptions, words};
use crate::xml::Writer;

pub(super) fn format(def: &DomainDef, o: FormatOptions) -> String {
    let mut w = Writer::new();
    write(def, "domain", &mut w, o);
    w.finish()
}

/// Writes a definition as the element `name` of a document.
pub(super) fn write(def: &DomainDef, name: &'static str, w: &mut Writer, o: FormatOptions) {
    w.start(name);
    w.attr("type", def.virt_type);
    if !o.inactive {
        w.attr_opt("id", def.id);
    }
    if def.lxc_namespace.is_some() {
        w.attr("xmlns:lxc", LXC_NAMESPACE);
    }
    if def.qemu_commandline.is_some() || !def.qemu_extensions.is_empty() {
        w.attr("xmlns:qemu", QEMU_NAMESPACE);
    }
    write_general(def, w);
    write_resources(def, w);
    write_system(def, w, o);
    w.element("devices", |w| write_devices(def, w, o));
    for seclabel in &def.seclabels {
        seclabel.write(w, o);
    }
    if let Some(namespace) = &def.lxc_namespace {
        write_lxc(namespace, w);
    }
    if let Some(commandline) = &def.qemu_commandline {
        write_qemu(commandline, w);
    }
    def.qemu_extensions.iter().for_each(|element| element.write(w));
    Foreign::write_named(&def.later, &["keywrap", "launchSecurity"], w);
    w.end();
}

fn write_general(def: &DomainDef, w: &mut Writer) {
    w.text("name", &def.name);
    w.text_opt("uuid", def.uuid);
    match def.genid {
        Some(GenId::Generate) => w.empty("genid"),
        Some(GenId::Value(uuid)) => w.text("genid", uuid),
        None => {}
    }
    w.text_opt("title", def.title.as_ref());
    w.text_opt("description", def.description.as_ref());
    if let Some(metadata) = &def.metadata {
        metadata.write(w);
    }
}

fn write_resources(def: &DomainDef, w: &mut Writer) {
    def.memory.write(w);
    def.blkiotune.write(w);
    def.memtune.write(w);
    def.memory_backing.write(w);
    def.vcpu.write(w);
    write_vcpus(w, &def.vcpus);
    w.text_opt("iothreads", def.iothreads);
    IoThread::write_all(w, &def.iothread_ids);
    Foreign::write_named(&def.later, &["defaultiothread"], w);
    def.cputune.write(w);
    if let Some(numatune) = &def.numatune {
        numatune.write(w);
    }
    w.element_unless_empty("resource", |w| {
        w.text_opt("partition", def.resource.partition.as_ref());
        if let Some(appid) = &def.resource.fibrechannel_appid {
            w.element("fibrechannel", |w| w.attr("appid", appid));
        }
    });
}

fn write_system(def: &DomainDef, w: &mut Writer, o: FormatOptions) {
    for sysinfo in &def.sysinfo {
        sysinfo.write(w);
    }
    def.os.write(w, o);
    def.idmap.write(w);
    def.features.write(w);
    if let Some(cpu) = &def.cpu {
        cpu.write(w);
    }
    def.clock.write(w);
    w.text_opt("on_poweroff", def.on_poweroff);
    w.text_opt("on_reboot", def.on_reboot);
    w.text_opt("on_crash", def.on_crash);
    w.text_opt("on_lockfailure", def.on_lockfailure);
    w.element_unless_empty("pm", |w| {
        write_enabled(w, "suspend-to-mem", def.pm.suspend_to_mem);
        write_enabled(w, "suspend-to-disk", def.pm.suspend_to_disk);
    });
    Foreign::write_named(&def.later, &["perf", "throttlegroups"], w);
}

fn write_enabled(w: &mut Writer, name: &'static str, enabled: Option<words::YesNo>) {
    if let Some(enabled) = enabled {
        w.element(name, |w| w.attr("enabled", enabled));
    }
}

fn write_devices(def: &DomainDef, w: &mut Writer, o: FormatOptions) {
    w.text_opt("emulator", def.emulator.as_ref());
    def.disks.iter().for_each(|disk| disk.write(w, o));
    def.controllers.iter().for_each(|controller| controller.write(w, o));
    def.leases.iter().for_each(|lease| lease.write(w));
    def.filesystems.iter().for_each(|filesystem| filesystem.write(w, o));
    def.interfaces.iter().for_each(|interface| interface.write(w, o));
    def.smartcards.iter().for_each(|smartcard| smartcard.write(w, o));
    def.serials.iter().for_each(|serial| serial.write(w, o));
    def.parallels.iter().for_each(|parallel| parallel.write(w, o));
    for (index, console) in def.consoles.iter().enumerate() {
        // The console of a full machine that is its serial port shows the port's state.
        match def.serials.get(index).filter(|_| is_serial_console(def, console)) {
            Some(serial) => {
                let mut mirror = console.clone();
                mirror.source = serial.source.clone();
                mirror.info = serial.info.clone();
                mirror.write(w, o);
            }
            None => console.write(w, o),
        }
    }
    def.channels.iter().for_each(|channel| channel.write(w, o));
    def.inputs.iter().for_each(|input| input.write(w, o));
    def.tpms.iter().for_each(|tpm| tpm.write(w, o));
    def.graphics.iter().for_each(|graphics| graphics.write(w, o));
    def.sounds.iter().for_each(|sound| sound.write(w, o));
    def.audios.iter().for_each(|audio| audio.write(w));
    def.videos.iter().for_each(|video| video.write(w, o));
    def.hostdevs.iter().for_each(|hostdev| hostdev.write(w, o));
    def.redirdevs.iter().for_each(|redirdev| redirdev.write(w, o));
    w.element_unless_empty("redirfilter", |w| {
        for rule in &def.redir_filter {
            w.element("usbdev", |w| rule.write_attrs(w));
        }
    });
    def.hubs.iter().for_each(|hub| hub.write(w, o));
    def.watchdogs.iter().for_each(|watchdog| watchdog.write(w, o));
    if let Some(memballoon) = &def.memballoon {
        memballoon.write(w, o);
    }
    def.rngs.iter().for_each(|rng| rng.write(w, o));
    if let Some(nvram) = &def.nvram_device {
        nvram.write(w, o);
    }
    def.panics.iter().for_each(|panic| panic.write(w, o));
    def.shmems.iter().for_each(|shmem| shmem.write(w, o));
    def.memory_devices.iter().for_each(|memory| memory.write(w, o));
    def.cryptos.iter().for_each(|crypto| crypto.write(w, o));
    if let Some(iommu) = &def.iommu {
        iommu.write(w, o);
    }
    if let Some(vsock) = &def.vsock {
        vsock.write(w, o);
    }
    if let Some(pstore) = &def.pstore {
        pstore.write(w, o);
    }
}

fn is_serial_console(def: &DomainDef, console: &Console) -> bool {
    def.os.os_type == OsType::Hvm && console.target_type == Some(ConsoleTarget::Serial)
}

fn write_lxc(namespace: &LxcNamespace, w: &mut Writer) {
    w.element("lxc:namespace", |w| {
        for (name, share) in [
            ("lxc:sharenet", &namespace.sharenet),
            ("lxc:shareipc", &namespace.shareipc),
            ("lxc:shareuts", &namespace.shareuts),
        ] {
            if let Some(share) = share {
                share.write(name, w);
            }
        }
    });
}

fn write_qemu(commandline: &QemuCommandline, w: &mut Writer) {
    w.element("qemu:commandline", |w| {
        for arg in &commandline.args {
            w.element("qemu:arg", |w| w.attr("value", arg));
        }
        for (name, value) in &commandline.envs {
            w.element("qemu:env", |w| {
                w.attr("name", name);
                w.attr_opt("value", value.as_ref());
            });
        }
    });
}

/// Writes one device.
pub(super) fn format_device(device: &Device, o: FormatOptions) -> String {
    let mut w = Writer::new();
    let w_ref = &mut w;
    match device {
        Device::Disk(device) => device.write(w_ref, o),
        Device::Controller(device) => device.write(w_ref, o),
        Device::Lease(device) => device.write(w_ref),
        Device::Filesystem(device) => device.write(w_ref, o),
        Device::Interface(device) => device.write(w_ref, o),
        Device::Smartcard(device) => device.write(w_ref, o),
        Device::Serial(device) => device.write(w_ref, o),
        Device::Parallel(device) => device.write(w_ref, o),
        Device::Console(device) => device.write(w_ref, o),
        Device::Channel(device) => device.write(w_ref, o),
        Device::Input(device) => device.write(w_ref, o),
        Device::Tpm(device) => device.write(w_ref, o),
        Device::Graphics(device) => device.write(w_ref, o),
        Device::Sound(device) => device.write(w_ref, o),
        Device::Audio(device) => device.write(w_ref),
        Device::Video(device) => device.write(w_ref, o),
        Device::Hostdev(device) => device.write(w_ref, o),
        Device::Redirdev(device) => device.write(w_ref, o),
        Device::Hub(device) => device.write(w_ref, o),
        Device::Watchdog(device) => device.write(w_ref, o),
        Device::Memballoon(device) => device.write(w_ref, o),
        Device::Rng(device) => device.write(w_ref, o),
        Device::Nvram(device) => device.write(w_ref, o),
        Device::Panic(device) => device.write(w_ref, o),
        Device::Shmem(device) => device.write(w_ref, o),
        Device::Memory(device) => device.write(w_ref, o),
        Device::Iommu(device) => device.write(w_ref, o),
        Device::Vsock(device) => device.write(w_ref, o),
    }
    w.finish()
}

/// Drops everything that belongs to one run: id, aliases, ports, paths and names the driver made up.
pub(super) fn to_inactive(def: &mut DomainDef) {
    def.id = None;
    def.seclabels.iter_mut().for_each(|label| label.make_inactive());
    def.disks.iter_mut().for_each(Disk::make_inactive);
    def.interfaces.iter_mut().for_each(Interface::make_inactive);
    def.channels.iter_mut().for_each(Channel::make_inactive);
    def.graphics.iter_mut().for_each(Graphics::make_inactive);
    for source in sources(def) {
        source.make_inactive();
    }
    for memory in &mut def.memory_devices {
        memory.target.current = None;
    }
    for info in infos(def) {
        info.make_inactive();
    }
}

fn sources(def: &mut DomainDef) -> impl Iterator<Item = &mut CharSource> {
    let serials = def.serials.iter_mut().map(|device| &mut device.source);
    let parallels = def.parallels.iter_mut().map(|device| &mut device.source);
    let consoles = def.consoles.iter_mut().map(|device| &mut device.source);
    let redirdevs = def.redirdevs.iter_mut().map(|device| &mut device.source);
    serials.chain(parallels).chain(consoles).chain(redirdevs)
}

/// The common part of every device that has one, in libvirt's order of devices.
pub fn infos(def: &mut DomainDef) -> impl Iterator<Item = &mut DeviceInfo> {
    let mut out: Vec<&mut DeviceInfo> = Vec::new();
    out.extend(def.disks.iter_mut().map(|device| &mut device.info));
    out.extend(def.controllers.iter_mut().map(|device| &mut device.info));
    out.extend(def.filesystems.iter_mut().map(|device| &mut device.info));
    out.extend(def.interfaces.iter_mut().map(|device| &mut device.info));
    out.extend(def.smartcards.iter_mut().map(|device| &mut device.info));
    out.extend(def.serials.iter_mut().map(|device| &mut device.info));
    out.extend(def.parallels.iter_mut().map(|device| &mut device.info));
    out.extend(def.consoles.iter_mut().map(|device| &mut device.info));
    out.extend(def.channels.iter_mut().map(|device| &mut device.info));
    out.extend(def.inputs.iter_mut().map(|device| &mut device.info));
    out.extend(def.tpms.iter_mut().map(|device| &mut device.info));
    out.extend(def.sounds.iter_mut().map(|device| &mut device.info));
    out.extend(def.videos.iter_mut().map(|device| &mut device.info));
    out.extend(def.hostdevs.iter_mut().map(|device| &mut device.info));
    out.extend(def.redirdevs.iter_mut().map(|device| &mut device.info));
    out.extend(def.hubs.iter_mut().map(|device| &mut device.info));
    out.extend(def.watchdogs.iter_mut().map(|device| &mut device.info));
    out.extend(def.memballoon.iter_mut().map(|device| &mut device.info));
    out.extend(def.rngs.iter_mut().map(|device| &mut device.info));
    out.extend(def.nvram_device.iter_mut().map(|device| &mut device.info));
    out.extend(def.panics.iter_mut().map(|device| &mut device.info));
    out.extend(def.shmems.iter_mut().map(|device| &mut device.info));
    out.extend(def.memory_devices.iter_mut().map(|device| &mut device.info));
    out.extend(def.iommu.iter_mut().map(|device| &mut device.info));
    out.extend(def.vsock.iter_mut().map(|device| &mut device.info));
    out.extend(def.cryptos.iter_mut().map(|device| &mut device.info));
    out.extend(def.pstore.iter_mut().map(|device| &mut device.info));
    out.into_iter()
}
