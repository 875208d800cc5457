//! Devices of a definition: putting one in, finding the one that is meant, taking it out, changing it. Pure.
//!
//! A device is found as libvirt finds it: a disk by its target, an interface by its MAC address, a file system by its
//! mount point, a controller by kind and index, a host device by what of the host it is; and each by its alias or its
//! address, where those are given.

use crate::domain_xml::device::{DeviceInfo, Disk, Interface};
use crate::domain_xml::{Device, DomainDef};
use crate::error::{Code, Error, Result};

fn missing(detail: impl Into<String>) -> Error {
    Error::new(Code::DeviceMissing, detail)
}

fn unsupported(device: &Device, verb: &str) -> Error {
    Error::new(
        Code::OperationUnsupported,
        format!("{verb} of device '{}' is not supported: change the definition with define instead", word(device)),
    )
}

/// The element's name.
pub fn word(device: &Device) -> &'static str {
    match device {
        Device::Disk(_) => "disk",
        Device::Interface(_) => "interface",
        Device::Filesystem(_) => "filesystem",
        Device::Hostdev(_) => "hostdev",
        Device::Controller(_) => "controller",
        Device::Channel(_) => "channel",
        Device::Input(_) => "input",
        Device::Rng(_) => "rng",
        Device::Redirdev(_) => "redirdev",
        Device::Shmem(_) => "shmem",
        _ => "other",
    }
}

/// The alias, if it has one.
pub fn alias(device: &Device) -> Option<&String> {
    let info = match device {
        Device::Disk(device) => &device.info,
        Device::Interface(device) => &device.info,
        Device::Filesystem(device) => &device.info,
        Device::Hostdev(device) => &device.info,
        Device::Controller(device) => &device.info,
        Device::Channel(device) => &device.info,
        Device::Input(device) => &device.info,
        Device::Rng(device) => &device.info,
        Device::Redirdev(device) => &device.info,
        Device::Shmem(device) => &device.info,
        _ => return None,
    };
    info.alias.as_ref()
}

/// Whether what `wish` names of alias and address is what `have` has. A user's alias is a name; others are made up.
fn fits(wish: &DeviceInfo, have: &DeviceInfo) -> bool {
    wish.alias.as_ref().is_none_or(|alias| have.alias.as_ref() == Some(alias))
        && wish.address.as_ref().is_none_or(|address| have.address.as_ref() == Some(address))
}

/// Puts a device into a definition. Errors: code 55 when there is one in its place.
pub fn insert(def: &mut DomainDef, device: Device) -> Result<()> {
    let taken = |what: String| Err(Error::invalid_state(what));
    match device {
        Device::Disk(disk) => {
            if def.disks.iter().any(|other| other.dev() == disk.dev()) {
                return taken(format!("target {} already exists", disk.dev()));
            }
            def.disks.push(*disk);
        }
        Device::Interface(nic) => {
            let twin = |other: &&Interface| nic.target.dev.is_some() && other.target.dev == nic.target.dev;
            if let Some(twin) = def.interfaces.iter().find(twin) {
                return taken(format!("target {} already exists", twin.target.dev.as_deref().unwrap_or_default()));
            }
            def.interfaces.push(*nic);
        }
        Device::Filesystem(fs) => {
            if def.filesystems.iter().any(|other| other.target == fs.target) {
                return taken(format!("a device with the same target '{}' already exists", fs.target));
            }
            def.filesystems.push(*fs);
        }
        Device::Hostdev(hostdev) => {
            if def.hostdevs.iter().any(|other| other.source == hostdev.source) {
                return taken("device is already in the domain configuration".into());
            }
            def.hostdevs.push(*hostdev);
        }
        Device::Controller(controller) => {
            let same = |other: &&crate::domain_xml::device::Controller| {
                other.kind == controller.kind && controller.index.is_some() && other.index == controller.index
            };
            if def.controllers.iter().any(|other| same(&other)) {
                return taken("Target already exists".into());
            }
            def.controllers.push(*controller);
        }
        Device::Channel(device) => def.channels.push(*device),
        Device::Input(device) => def.inputs.push(*device),
        Device::Rng(device) => def.rngs.push(*device),
        Device::Redirdev(device) => def.redirdevs.push(*device),
        Device::Shmem(device) => def.shmems.push(*device),
        other => return Err(unsupported(&other, "attach")),
    }
    Ok(())
}

/// The one place for which `matches` holds. Errors: code 99 for none, 9 for several.
fn only<T>(devices: &[T], what: &str, matches: impl Fn(&T) -> bool) -> Result<usize> {
    let mut found = devices.iter().enumerate().filter(|(_, device)| matches(device)).map(|(at, _)| at);
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (Some(_), Some(_)) => Err(Error::failed(format!("multiple devices matching {what} found"))),
        _ => Err(missing(format!("no device matching {what} found"))),
    }
}

fn find_interface(def: &DomainDef, wish: &Interface) -> Result<usize> {
    let what = match (wish.mac, &wish.target.dev, &wish.info.alias) {
        (Some(mac), ..) => format!("MAC address {mac}"),
        (None, Some(dev), _) => format!("target {dev}"),
        (None, None, Some(alias)) => format!("alias {alias}"),
        _ => "the interface".to_string(),
    };
    only(&def.interfaces, &what, |have| {
        wish.mac.is_none_or(|mac| have.mac == Some(mac))
            && wish.target.dev.as_ref().is_none_or(|dev| have.target.dev.as_ref() == Some(dev))
            && fits(&wish.info, &have.info)
    })
}

fn find_disk(def: &DomainDef, wish: &Disk) -> Result<usize> {
    let at = def.disks.iter().position(|have| have.dev() == wish.dev() && fits(&wish.info, &have.info));
    at.ok_or_else(|| missing(format!("no target device {}", wish.dev())))
}

/// Where in its list the device is that is meant.
fn find(def: &DomainDef, wish: &Device) -> Result<usize> {
    let absent = || missing("device not present in domain configuration");
    match wish {
        Device::Disk(disk) => find_disk(def, disk),
        Device::Interface(nic) => find_interface(def, nic),
        Device::Filesystem(fs) => def.filesystems.iter().position(|have| have.target == fs.target).ok_or_else(absent),
        Device::Hostdev(hostdev) => {
            def.hostdevs.iter().position(|have| have.source == hostdev.source).ok_or_else(absent)
        }
        Device::Controller(wish) => {
            let matches = |have: &crate::domain_xml::device::Controller| {
                have.kind == wish.kind && wish.index.is_none_or(|index| have.index == Some(index))
            };
            def.controllers.iter().position(matches).ok_or_else(absent)
        }
        Device::Channel(wish) => def
            .channels
            .iter()
            .position(|have| have.target == wish.target && fits(&wish.info, &have.info))
            .ok_or_else(absent),
        Device::Input(wish) => {
            let matches =
                |have: &crate::domain_xml::device::Input| have.kind == wish.kind && fits(&wish.info, &have.info);
            def.inputs.iter().position(matches).ok_or_else(absent)
        }
        Device::Rng(wish) => {
            let matches =
                |have: &crate::domain_xml::device::Rng| have.backend == wish.backend && fits(&wish.info, &have.info);
            def.rngs.iter().position(matches).ok_or_else(absent)
        }
        Device::Redirdev(wish) => def
            .redirdevs
            .iter()
            .position(|have| have.source == wish.source && fits(&wish.info, &have.info))
            .ok_or_else(absent),
        Device::Shmem(wish) => def.shmems.iter().position(|have| have.name == wish.name).ok_or_else(absent),
        other => Err(unsupported(other, "detach")),
    }
}

/// The device that is meant, as the definition has it. Errors: code 99 for none, 9 for several.
pub fn lookup(def: &DomainDef, wish: &Device) -> Result<Device> {
    remove(&mut def.clone(), wish)
}

/// Takes the device that is meant out of a definition. Errors as [`lookup`].
pub fn remove(def: &mut DomainDef, wish: &Device) -> Result<Device> {
    let at = find(def, wish)?;
    Ok(match wish {
        Device::Disk(_) => Device::Disk(Box::new(def.disks.remove(at))),
        Device::Interface(_) => Device::Interface(Box::new(def.interfaces.remove(at))),
        Device::Filesystem(_) => Device::Filesystem(Box::new(def.filesystems.remove(at))),
        Device::Hostdev(_) => Device::Hostdev(Box::new(def.hostdevs.remove(at))),
        Device::Controller(_) => Device::Controller(Box::new(def.controllers.remove(at))),
        Device::Channel(_) => Device::Channel(Box::new(def.channels.remove(at))),
        Device::Input(_) => Device::Input(Box::new(def.inputs.remove(at))),
        Device::Rng(_) => Device::Rng(Box::new(def.rngs.remove(at))),
        Device::Redirdev(_) => Device::Redirdev(Box::new(def.redirdevs.remove(at))),
        Device::Shmem(_) => Device::Shmem(Box::new(def.shmems.remove(at))),
        other => return Err(unsupported(other, "detach")),
    })
}

/// Puts `new` in the place of the device it means: of interfaces and disks, which keep the address they have.
pub fn replace(def: &mut DomainDef, new: Device) -> Result<()> {
    match new {
        Device::Interface(mut nic) => {
            let at = find_interface(def, &nic)?;
            let old = &def.interfaces[at];
            nic.info.address = nic.info.address.or_else(|| old.info.address.clone());
            nic.info.alias = nic.info.alias.or_else(|| old.info.alias.clone());
            nic.target.dev = nic.target.dev.or_else(|| old.target.dev.clone());
            nic.guest.dev = nic.guest.dev.or_else(|| old.guest.dev.clone());
            nic.mac = nic.mac.or(old.mac);
            def.interfaces[at] = *nic;
            Ok(())
        }
        Device::Disk(mut disk) => {
            let at = find_disk(def, &disk)?;
            let old = &def.disks[at];
            disk.info.address = disk.info.address.or_else(|| old.info.address.clone());
            disk.info.alias = disk.info.alias.or_else(|| old.info.alias.clone());
            def.disks[at] = *disk;
            Ok(())
        }
        other => Err(unsupported(&other, "update")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::parse_device;

    fn device(xml: &str) -> Device {
        parse_device(xml).unwrap().0
    }

    fn nic(mac: &str, rest: &str) -> Device {
        device(&format!("<interface type='bridge'><mac address='{mac}'/><source bridge='br0'/>{rest}</interface>"))
    }

    #[test]
    fn interfaces_are_found_by_what_is_given() {
        let mut def = DomainDef::default();
        insert(&mut def, nic("52:54:00:00:00:01", "<target dev='a0'/>")).unwrap();
        insert(&mut def, nic("52:54:00:00:00:02", "<alias name='ua-two'/>")).unwrap();
        insert(&mut def, nic("52:54:00:00:00:02", "<alias name='ua-three'/>")).unwrap();
        let code = |wish: &Device| lookup(&def, wish).map(|_| ()).map_err(|error| error.code);
        assert_eq!(code(&nic("52:54:00:00:00:01", "")), Ok(()));
        assert_eq!(code(&nic("52:54:00:00:00:02", "")), Err(Code::OperationFailed));
        assert_eq!(code(&nic("52:54:00:00:00:02", "<alias name='ua-two'/>")), Ok(()));
        assert_eq!(code(&nic("52:54:00:00:00:09", "")), Err(Code::DeviceMissing));
        let by_target = device("<interface type='bridge'><source bridge='br0'/><target dev='a0'/></interface>");
        assert_eq!(code(&by_target), Ok(()));
        remove(&mut def, &by_target).unwrap();
        assert_eq!(def.interfaces.len(), 2);
    }

    #[test]
    fn a_place_is_taken_once() {
        let mut def = DomainDef::default();
        let disk = |dev: &str| {
            device(&format!(
                "<disk type='file' device='disk'><source file='/x'/><target dev='{dev}' bus='virtio'/></disk>"
            ))
        };
        insert(&mut def, disk("vda")).unwrap();
        let error = insert(&mut def, disk("vda")).unwrap_err();
        assert_eq!(error.message(), "Requested operation is not valid: target vda already exists");
        assert_eq!(lookup(&def, &disk("vdb")).unwrap_err().message(), "device not found: no target device vdb");
        let cap = |path: &str| {
            device(&format!("<hostdev mode='capabilities' type='misc'><source><char>{path}</char></source></hostdev>"))
        };
        insert(&mut def, cap("/dev/fuse")).unwrap();
        assert!(insert(&mut def, cap("/dev/fuse")).is_err());
        remove(&mut def, &cap("/dev/fuse")).unwrap();
        assert_eq!(remove(&mut def, &cap("/dev/fuse")).unwrap_err().code, Code::DeviceMissing);
    }

    #[test]
    fn an_update_keeps_what_it_does_not_say() {
        let mut def = DomainDef::default();
        insert(&mut def, nic("52:54:00:00:00:01", "<target dev='a0'/><alias name='net0'/>")).unwrap();
        replace(&mut def, nic("52:54:00:00:00:01", "<link state='down'/>")).unwrap();
        let now = &def.interfaces[0];
        assert_eq!(
            (now.target.dev.as_deref(), now.link),
            (Some("a0"), Some(crate::domain_xml::device::LinkState::Down))
        );
        assert!(replace(&mut def, nic("52:54:00:00:00:02", "")).is_err());
    }
}
