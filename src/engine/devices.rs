//! Devices of a definition: putting one in, taking out the one that is meant, changing it. Pure.
//!
//! Which one is meant, [`matching`] knows.

use crate::domain_xml::device::{DeviceInfo, Interface};
use crate::domain_xml::{self, Device, DomainDef, matching};
use crate::error::{Code, Error, Result};

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

/// The device that is meant, as the definition has it. Errors: code 99 for none, 9 for several.
pub fn lookup(def: &DomainDef, wish: &Device) -> Result<Device> {
    remove(&mut def.clone(), wish)
}

/// The device with this alias. Errors: code 99 for none, 84 for one of a kind that cannot be detached.
pub fn by_alias(def: &DomainDef, wanted: &str) -> Result<Device> {
    let is = |info: &DeviceInfo| info.alias.as_deref() == Some(wanted);
    macro_rules! search {
        ($($kind:ident in $list:ident),* $(,)?) => {
            $(if let Some(found) = def.$list.iter().find(|device| is(&device.info)) {
                return Ok(Device::$kind(Box::new(found.clone())));
            })*
        };
    }
    search!(
        Disk in disks, Interface in interfaces, Filesystem in filesystems, Hostdev in hostdevs,
        Controller in controllers, Channel in channels, Input in inputs, Rng in rngs, Redirdev in redirdevs,
        Shmem in shmems,
    );
    if domain_xml::infos(&mut def.clone()).any(|info| is(info)) {
        let what = format!("detach of the device with alias '{wanted}' is not supported");
        return Err(Error::new(Code::OperationUnsupported, what));
    }
    Err(Error::new(Code::DeviceMissing, format!("no device found with alias {wanted}")))
}

/// Takes the device that is meant out of a definition. Errors as [`lookup`].
pub fn remove(def: &mut DomainDef, wish: &Device) -> Result<Device> {
    let at = matching::find(def, wish)?;
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
    if !matches!(new, Device::Interface(_) | Device::Disk(_)) {
        return Err(unsupported(&new, "update"));
    }
    let at = matching::find(def, &new)?;
    match new {
        Device::Interface(mut nic) => {
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
        assert_eq!(lookup(&def, &disk("vdb")).unwrap_err().message(), "device not found: disk vdb not found");
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
