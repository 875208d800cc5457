//! Which device of a definition another definition of a device means, as attach, detach and update need it. Pure.
//!
//! What identifies a device is libvirt's choice per kind: a disk its target, an interface its MAC (and its address or
//! alias, when several have the same), a host device its source, others the sum of what is given.

use super::device::*;
use super::model::DomainDef;
use super::parse::Device;
use crate::error::{Code, Error, Result};

/// Position of the device that `wanted` means in the list of its kind (0 for a kind of which there is one at most).
/// Errors: code 99 when there is none, 9 when several fit.
pub fn find(def: &DomainDef, wanted: &Device) -> Result<usize> {
    match wanted {
        Device::Disk(wanted) => disk(def, wanted),
        Device::Controller(wanted) => controller(def, wanted),
        Device::Lease(wanted) => lease(def, wanted),
        Device::Filesystem(wanted) => filesystem(def, wanted),
        Device::Interface(wanted) => interface(def, wanted),
        Device::Hostdev(wanted) => hostdev(def, wanted),
        Device::Graphics(wanted) => {
            let kind = wanted.kind.type_name();
            let found = def.graphics.iter().position(|other| other.kind.type_name() == kind);
            found.ok_or_else(|| missing(format!("cannot find existing graphics device to modify of type '{kind}'")))
        }
        Device::Serial(wanted) => characters("serial", &def.serials, |other| {
            let target = (wanted.target_type.is_none() || wanted.target_type == other.target_type)
                && (wanted.port.is_none() || wanted.port == other.port);
            target && same_source(&wanted.source, &other.source) && same_info(&wanted.info, &other.info)
        }),
        Device::Parallel(wanted) => characters("parallel", &def.parallels, |other| {
            (wanted.port.is_none() || wanted.port == other.port)
                && same_source(&wanted.source, &other.source)
                && same_info(&wanted.info, &other.info)
        }),
        Device::Console(wanted) => characters("console", &def.consoles, |other| {
            (wanted.target_type.is_none() || wanted.target_type == other.target_type)
                && (wanted.port.is_none() || wanted.port == other.port)
                && same_source(&wanted.source, &other.source)
                && same_info(&wanted.info, &other.info)
        }),
        Device::Channel(wanted) => characters("channel", &def.channels, |other| {
            same_target(&wanted.target, &other.target)
                && same_source(&wanted.source, &other.source)
                && same_info(&wanted.info, &other.info)
        }),
        Device::Input(wanted) => one("input", &def.inputs, |other| {
            wanted.kind == other.kind
                && (wanted.bus.is_none() || wanted.bus == other.bus)
                && (wanted.model.is_none() || wanted.model == other.model)
                && wanted.source == other.source
                && same_info(&wanted.info, &other.info)
        }),
        Device::Memory(wanted) => memory(def, wanted),
        Device::Shmem(wanted) => one("shmem", &def.shmems, |other| {
            wanted.name == other.name
                && (wanted.size.is_none() || wanted.size == other.size)
                && (wanted.model.is_none() || wanted.model == other.model)
                && (wanted.role.is_none() || wanted.role == other.role)
                && wanted.server == other.server
                && wanted.msi == other.msi
                && same_info(&wanted.info, &other.info)
        }),
        Device::Watchdog(wanted) => one("watchdog", &def.watchdogs, |other| {
            wanted.model == other.model
                && (wanted.action.is_none() || wanted.action == other.action)
                && same_info(&wanted.info, &other.info)
        }),
        Device::Rng(wanted) => one("rng", &def.rngs, |other| {
            wanted.model == other.model
                && same_backend(&wanted.backend, &other.backend)
                && (wanted.rate.is_none() || wanted.rate == other.rate)
                && same_info(&wanted.info, &other.info)
        }),
        Device::Redirdev(wanted) => one("redirdev", &def.redirdevs, |other| {
            same_source(&wanted.source, &other.source) && same_info(&wanted.info, &other.info)
        }),
        Device::Sound(wanted) => {
            one("sound", &def.sounds, |other| wanted.model == other.model && same_info(&wanted.info, &other.info))
        }
        Device::Audio(wanted) => one("audio", &def.audios, |other| wanted.id == other.id),
        Device::Video(wanted) => one("video", &def.videos, |other| {
            wanted.model.kind == other.model.kind && same_info(&wanted.info, &other.info)
        }),
        Device::Hub(wanted) => one("hub", &def.hubs, |other| same_info(&wanted.info, &other.info)),
        Device::Panic(wanted) => one("panic", &def.panics, |other| {
            (wanted.model.is_none() || wanted.model == other.model) && same_info(&wanted.info, &other.info)
        }),
        Device::Tpm(wanted) => one("tpm", &def.tpms, |other| {
            std::mem::discriminant(&wanted.backend) == std::mem::discriminant(&other.backend)
                && (wanted.model.is_none() || wanted.model == other.model)
                && same_info(&wanted.info, &other.info)
        }),
        Device::Smartcard(wanted) => {
            one("smartcard", &def.smartcards, |other| wanted.kind == other.kind && same_info(&wanted.info, &other.info))
        }
        Device::Memballoon(wanted) => one("memballoon", def.memballoon.as_slice(), |other| wanted.model == other.model),
        Device::Nvram(_) => one("nvram", def.nvram_device.as_slice(), |_| true),
        Device::Iommu(wanted) => one("iommu", def.iommu.as_slice(), |other| wanted.model == other.model),
        Device::Vsock(wanted) => one("vsock", def.vsock.as_slice(), |other| {
            (wanted.model.is_none() || wanted.model == other.model)
                && (wanted.cid.address.is_none() || wanted.cid.address == other.cid.address)
                && same_info(&wanted.info, &other.info)
        }),
    }
}

fn disk(def: &DomainDef, wanted: &Disk) -> Result<usize> {
    let found = def.disks.iter().position(|other| other.dev() == wanted.dev());
    found.ok_or_else(|| missing(format!("disk {} not found", wanted.dev())))
}

fn controller(def: &DomainDef, wanted: &Controller) -> Result<usize> {
    let index = wanted.index.unwrap_or_default();
    let found = def.controllers.iter().position(|other| other.kind == wanted.kind && other.index == Some(index));
    found.ok_or_else(|| missing(format!("controller {}:{index} not found", wanted.kind)))
}

fn lease(def: &DomainDef, wanted: &Lease) -> Result<usize> {
    let found = def.leases.iter().position(|other| other.key == wanted.key && other.lockspace == wanted.lockspace);
    found.ok_or_else(|| {
        let lockspace = wanted.lockspace.as_deref().unwrap_or_default();
        Error::invalid_arg(format!("Lease {} in lockspace {lockspace} does not exist", wanted.key))
    })
}

fn filesystem(def: &DomainDef, wanted: &Filesystem) -> Result<usize> {
    let found = def.filesystems.iter().position(|other| other.target == wanted.target);
    found.ok_or_else(|| missing(format!("filesystem with target '{}' not found", wanted.target)))
}

/// By MAC (without one by the name on the host), guest address and alias; what is not given decides nothing.
fn interface(def: &DomainDef, wanted: &Interface) -> Result<usize> {
    let given = |info: &DeviceInfo| match &info.address {
        // "Choose one" is no address.
        Some(DeviceAddress::Pci { address, .. }) if *address == Default::default() => None,
        Some(address @ (DeviceAddress::Pci { .. } | DeviceAddress::Ccw { .. })) => Some(address.clone()),
        _ => None,
    };
    let address = given(&wanted.info);
    let dev = wanted.target.dev.as_ref().filter(|_| wanted.mac.is_none());
    let fits = |other: &Interface| {
        (wanted.mac.is_none() || wanted.mac == other.mac)
            && (dev.is_none() || dev == other.target.dev.as_ref())
            && (address.is_none() || same_place(address.as_ref(), other.info.address.as_ref()))
            && (wanted.info.alias.is_none() || wanted.info.alias == other.info.alias)
    };
    let mut found = def.interfaces.iter().enumerate().filter(|(_, other)| fits(other)).map(|(at, _)| at);
    let mut what = String::from("no device");
    match (wanted.mac, &wanted.info.alias) {
        (Some(mac), Some(alias)) => what.push_str(&format!(" matching MAC address {mac} and alias {alias}")),
        (Some(mac), None) => what.push_str(&format!(" matching MAC address {mac}")),
        (None, Some(alias)) => what.push_str(&format!(" matching alias {alias}")),
        (None, None) => what = String::from("no matching interface device"),
    }
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (Some(_), Some(_)) => {
            let what =
                what.replacen("no device", "multiple devices", 1).replacen("no matching", "multiple matching", 1);
            Err(Error::new(Code::OperationFailed, format!("{what} found: give the <address> or <alias> as well")))
        }
        (None, _) => Err(missing(match wanted.info.pci().filter(|_| address.is_some()) {
            Some(pci) => format!("{what} found on PCI address {pci}"),
            None => format!("{what} found"),
        })),
    }
}

fn hostdev(def: &DomainDef, wanted: &Hostdev) -> Result<usize> {
    let found = def.hostdevs.iter().position(|other| same_hostdev(&wanted.source, &other.source));
    found.ok_or_else(|| missing(format!("{} not found", described(&wanted.source))))
}

fn same_hostdev(wanted: &HostdevSource, other: &HostdevSource) -> bool {
    match (wanted, other) {
        (HostdevSource::Usb(a), HostdevSource::Usb(b)) => match (a.bus.zip(a.device), a.vendor.zip(a.product)) {
            // The place is exact; without it the kind of device must do.
            (Some(place), _) if place != (0, 0) => b.bus.zip(b.device) == Some(place),
            (_, Some(kind)) => b.vendor.zip(b.product) == Some(kind),
            _ => false,
        },
        (HostdevSource::Pci { address: a, .. }, HostdevSource::Pci { address: b, .. }) => a == b,
        (
            HostdevSource::Scsi { adapter, bus, target, unit, .. },
            HostdevSource::Scsi { adapter: a, bus: b, target: t, unit: u, .. },
        ) => (adapter, bus, target, unit) == (a, b, t, u),
        (HostdevSource::Iscsi { target: a, .. }, HostdevSource::Iscsi { target: b, .. }) => a.network == b.network,
        (HostdevSource::ScsiHost { wwpn: a, .. }, HostdevSource::ScsiHost { wwpn: b, .. }) => a == b,
        (HostdevSource::Mdev { uuid: a, .. }, HostdevSource::Mdev { uuid: b, .. }) => a == b,
        (HostdevSource::Storage { block: a }, HostdevSource::Storage { block: b }) => a == b,
        (HostdevSource::Misc { char_device: a }, HostdevSource::Misc { char_device: b }) => a == b,
        (HostdevSource::Net { interface: a, .. }, HostdevSource::Net { interface: b, .. }) => a == b,
        _ => false,
    }
}

/// A host device as libvirt names it in errors.
fn described(source: &HostdevSource) -> String {
    match source {
        HostdevSource::Usb(usb) => match (usb.bus.zip(usb.device), usb.vendor.zip(usb.product)) {
            (Some((bus, device)), _) => format!("host usb device {bus:03}.{device:03}"),
            (None, Some((vendor, product))) => format!("host usb device vendor=0x{vendor:04x} product=0x{product:04x}"),
            (None, None) => String::from("host usb device"),
        },
        HostdevSource::Pci { address, .. } => format!("host pci device {address}"),
        HostdevSource::Scsi { adapter, bus, target, unit, .. } => {
            format!("host scsi device {adapter}:{bus}:{target}.{unit}")
        }
        HostdevSource::Iscsi { target, .. } => {
            format!(
                "host scsi iSCSI path {}",
                target.network.as_ref().and_then(|network| network.name.as_deref()).unwrap_or_default()
            )
        }
        HostdevSource::ScsiHost { wwpn, .. } => format!("host scsi_host device {wwpn}"),
        HostdevSource::Mdev { uuid, .. } => format!("mediated device '{uuid}'"),
        HostdevSource::Storage { block } => format!("storage device '{block}'"),
        HostdevSource::Misc { char_device } => format!("character device '{char_device}'"),
        HostdevSource::Net { interface, .. } => format!("network device '{interface}'"),
    }
}

fn memory(def: &DomainDef, wanted: &MemoryDevice) -> Result<usize> {
    one("memory", &def.memory_devices, |other| {
        wanted.model == other.model
            && wanted.target.size == other.target.size
            && (wanted.target.node.is_none() || wanted.target.node == other.target.node)
            && (wanted.uuid.is_none() || wanted.uuid == other.uuid)
            && (wanted.source.path.is_none() || wanted.source.path == other.source.path)
            && (wanted.source.pagesize.is_none() || wanted.source.pagesize == other.source.pagesize)
            && (wanted.source.nodemask.is_none() || wanted.source.nodemask == other.source.nodemask)
            && same_info(&wanted.info, &other.info)
    })
}

fn characters<T>(kind: &str, devices: &[T], fits: impl Fn(&T) -> bool) -> Result<usize> {
    devices.iter().position(fits).ok_or_else(|| missing(format!("{kind} device not present in domain configuration")))
}

/// The first that fits.
fn one<T>(kind: &str, devices: &[T], fits: impl Fn(&T) -> bool) -> Result<usize> {
    devices.iter().position(fits).ok_or_else(|| missing(format!("matching {kind} device was not found")))
}

/// Alias and guest address agree where `wanted` gives them.
fn same_info(wanted: &DeviceInfo, other: &DeviceInfo) -> bool {
    let chosen = match &wanted.address {
        Some(DeviceAddress::Pci { address, .. }) if *address == Default::default() => None,
        Some(DeviceAddress::Unassigned) => None,
        address => address.as_ref(),
    };
    (wanted.alias.is_none() || wanted.alias == other.alias)
        && (chosen.is_none() || same_place(chosen, other.address.as_ref()))
}

fn same_place(a: Option<&DeviceAddress>, b: Option<&DeviceAddress>) -> bool {
    match (a, b) {
        // `multifunction` is a property, not a place.
        (Some(DeviceAddress::Pci { address: a, .. }), Some(DeviceAddress::Pci { address: b, .. })) => a == b,
        (a, b) => a == b,
    }
}

/// What a character device is connected to; a path the host chooses (pty, socket of a channel) may be left out.
fn same_source(wanted: &CharSource, other: &CharSource) -> bool {
    match (&wanted.kind, &other.kind) {
        (CharKind::Pty { path: None }, CharKind::Pty { .. }) => true,
        (CharKind::Unix { path: None, .. }, CharKind::Unix { .. }) => true,
        (CharKind::Unix { path, listen, .. }, CharKind::Unix { path: p, listen: l, .. }) => path == p && listen == l,
        (CharKind::File { path, .. }, CharKind::File { path: p, .. }) => path == p,
        (CharKind::Tcp(a), CharKind::Tcp(b)) => {
            (&a.host, &a.service, a.listen, a.protocol) == (&b.host, &b.service, b.listen, b.protocol)
        }
        (a, b) => a == b,
    }
}

/// Whether the guest has a port open is no part of what it is.
fn same_target(wanted: &ChannelTarget, other: &ChannelTarget) -> bool {
    match (wanted, other) {
        (ChannelTarget::Virtio { name: a, .. }, ChannelTarget::Virtio { name: b, .. })
        | (ChannelTarget::Xen { name: a, .. }, ChannelTarget::Xen { name: b, .. }) => a == b,
        (a, b) => a == b,
    }
}

fn same_backend(wanted: &RngBackend, other: &RngBackend) -> bool {
    match (wanted, other) {
        (RngBackend::Random(None), RngBackend::Random(_)) => true,
        (RngBackend::Egd(a), RngBackend::Egd(b)) => same_source(a, b),
        (a, b) => a == b,
    }
}

fn missing(what: String) -> Error {
    Error::new(Code::DeviceMissing, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::{parse, parse_device};
    use rstest::rstest;

    const DEVICES: &str = "
        <disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/></disk>
        <disk type='file'><source file='/b'/><target dev='vdb' bus='virtio'/><alias name='ua-b'/></disk>
        <controller type='scsi' index='0' model='virtio-scsi'/><controller type='scsi' index='1' model='virtio-scsi'/>
        <lease><lockspace>l</lockspace><key>k</key><target path='/p'/></lease>
        <filesystem type='mount'><source dir='/x'/><target dir='tag'/></filesystem>
        <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='b'/>
          <address type='pci' domain='0' bus='0' slot='3' function='0'/></interface>
        <interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='b'/>
          <address type='pci' domain='0' bus='0' slot='4' function='0'/></interface>
        <interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='c'/><alias name='ua-n'/>
          <address type='pci' domain='0' bus='0' slot='5' function='0'/></interface>
        <hostdev mode='subsystem' type='usb'><source><vendor id='0x1'/><product id='0x2'/></source></hostdev>
        <hostdev mode='subsystem' type='pci'><source><address domain='0' bus='6' slot='2' function='0'/></source></hostdev>
        <hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>
        <graphics type='vnc'/><input type='tablet' bus='usb'/><input type='keyboard' bus='usb'/>
        <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
        <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
        <channel type='unix'><source mode='bind' path='/s'/><target type='virtio' name='other'/></channel>
        <shmem name='s'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>
        <watchdog model='i6300esb' action='reset'/>
        <redirdev bus='usb' type='spicevmc'/>";

    fn lookup(device: &str) -> Result<usize> {
        let xml = format!(
            "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices>{DEVICES}</devices></domain>"
        );
        find(&parse(&xml).expect("parses").def, &parse_device(device).expect("a device").0)
    }

    #[rstest]
    #[case("<disk type='file'><source file='/elsewhere'/><target dev='vdb'/></disk>", 1)]
    #[case("<controller type='scsi' index='1'/>", 1)]
    #[case("<lease><lockspace>l</lockspace><key>k</key><target path='/q'/></lease>", 0)]
    #[case("<filesystem><source dir='/other'/><target dir='tag'/></filesystem>", 0)]
    #[case("<interface type='network'><mac address='52:54:00:00:00:01'/><source network='n'/></interface>", 0)]
    #[case(
        "<interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='b'/>\
         <address type='pci' domain='0' bus='0' slot='5' function='0'/></interface>",
        2
    )]
    #[case("<interface type='bridge'><source bridge='b'/><alias name='ua-n'/></interface>", 2)]
    #[case("<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>", 2)]
    #[case("<hostdev mode='subsystem' type='usb'><source><vendor id='1'/><product id='2'/></source></hostdev>", 0)]
    #[case(
        "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='6' slot='2' function='0'/></source></hostdev>",
        1
    )]
    #[case("<graphics type='vnc' port='5900'/>", 0)]
    #[case("<input type='keyboard' bus='usb'/>", 1)]
    #[case("<rng model='virtio'><backend model='random'/></rng>", 0)]
    #[case("<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>", 0)]
    #[case("<channel type='unix'><target type='virtio' name='other'/></channel>", 1)]
    #[case("<shmem name='s'/>", 0)]
    #[case("<watchdog model='i6300esb'/>", 0)]
    #[case("<redirdev bus='usb' type='spicevmc'/>", 0)]
    fn found(#[case] device: &str, #[case] position: usize) {
        assert_eq!(lookup(device).expect("found"), position, "{device}");
    }

    #[rstest]
    #[case("<disk><target dev='vdc'/></disk>", 99, "disk vdc not found")]
    #[case("<controller type='usb' index='7'/>", 99, "controller usb:7 not found")]
    #[case(
        "<interface type='ethernet'><mac address='52:54:00:00:00:09'/></interface>",
        99,
        "no device matching MAC address 52:54:00:00:00:09 found"
    )]
    #[case(
        "<interface type='ethernet'><mac address='52:54:00:00:00:02'/></interface>",
        9,
        "multiple devices matching MAC address 52:54:00:00:00:02 found: give the <address> or <alias> as well"
    )]
    #[case(
        "<interface type='ethernet'><mac address='52:54:00:00:00:01'/>\
         <address type='pci' domain='0' bus='0' slot='9' function='0'/></interface>",
        99,
        "no device matching MAC address 52:54:00:00:00:01 found on PCI address 0000:00:09.0"
    )]
    #[case(
        "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='1' slot='2' function='3'/></source></hostdev>",
        99,
        "host pci device 0000:01:02.3 not found"
    )]
    #[case("<graphics type='spice'/>", 99, "cannot find existing graphics device to modify of type 'spice'")]
    #[case("<input type='mouse' bus='usb'/>", 99, "matching input device was not found")]
    #[case(
        "<channel type='unix'><target type='virtio' name='none'/></channel>",
        99,
        "channel device not present in domain configuration"
    )]
    #[case(
        "<rng model='virtio'><backend model='random'>/dev/random</backend></rng>",
        99,
        "matching rng device was not found"
    )]
    fn not_found(#[case] device: &str, #[case] code: i32, #[case] text: &str) {
        let error = lookup(device).expect_err("not there");
        assert_eq!((error.code as i32, error.detail.as_str()), (code, text));
    }
}
