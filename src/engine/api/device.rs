//! Devices put into, taken out of and changed in a domain: the running one, its definition, or both.

use std::sync::Arc;

use super::define::XmlFlags;
use super::{call, check_flags, stored};
use crate::domain_xml::{self, Device, DomainDef};
use crate::engine::domain::Op;
use crate::engine::domain::change::{Applied, Change};
use crate::engine::event::EventKind;
use crate::engine::host::HostObjects;
use crate::engine::{Domain, devices, network, storage};
use crate::error::{Code, Error, Result};
use crate::types::flags::affect;
use crate::types::{MacAddr, Uuid};

const LIVE_CONFIG: u32 = affect::LIVE | affect::CONFIG;
/// `VIR_DOMAIN_DEVICE_MODIFY_FORCE`.
const FORCE: u32 = 4;

fn read(xml: &str) -> Result<Device> {
    Ok(domain_xml::parse_device(xml)?.0)
}

fn unplug(host: &HostObjects, device: &Device) {
    if let Device::Interface(nic) = device {
        network::unplug(host, nic);
    }
}

/// Where the interface is on this host does not change with its settings, and clients do not say it.
fn keep_place(old: &Device, mut new: Device) -> Device {
    if let (Device::Interface(old), Device::Interface(new)) = (old, &mut new)
        && matches!(old.source, domain_xml::device::InterfaceSource::Network(_))
    {
        new.source = old.source.clone();
    }
    new
}

/// A network cannot be changed under a running guest; libvirt's text.
fn same_network(old: &Device, new: &Device) -> Result<()> {
    use domain_xml::device::InterfaceSource::Network;
    let (Device::Interface(old), Device::Interface(new)) = (old, new) else { return Ok(()) };
    match (&old.source, &new.source) {
        (Network(old), Network(new)) if (&old.network, &old.portgroup) == (&new.network, &new.portgroup) => Ok(()),
        (Network(_), _) | (_, Network(_)) => Err(Error::new(
            Code::OperationUnsupported,
            "unable to change config on the network of a running domain's interface: detach it and attach another",
        )),
        _ => Ok(()),
    }
}

call! {
    /// Puts a device into a domain.
    AttachDevice = "virDomainAttachDeviceFlags", Write, "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, XmlFlags { xml, flags } => XmlFlags) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainAttachDeviceFlags")?;
        let mut device = read(&xml)?;
        let host = on.runtime().host().clone();
        if let Device::Interface(nic) = &mut device {
            // One address for both halves.
            let random = Uuid::new_v4().into_bytes();
            nic.mac.get_or_insert(MacAddr([0x52, 0x54, 0x00, random[0], random[1], random[2]]));
        }
        let config = device.clone();
        let change = Change {
            flags,
            complete: true,
            config: Arc::new(move |def| devices::insert(def, config.clone())),
            live: Box::new(move |instance, def, undo| {
                Box::pin(async move {
                    devices::insert(&mut def.as_ref().clone(), device.clone())?;
                    let mut device = device;
                    storage::resolve_device(&host, &mut device)?;
                    if let Device::Interface(nic) = &mut device {
                        let owner = def.uuid.unwrap_or_default();
                        network::plug_one(&host, nic, owner, &def.name, &undo).await?;
                    }
                    let plugged = device.clone();
                    let attached = match instance.attach(&def, device, &undo).await {
                        Ok(attached) => attached,
                        Err(error) => {
                            unplug(&host, &plugged);
                            return Err(error);
                        }
                    };
                    if let Device::Interface(nic) = &attached {
                        let mut one = DomainDef::clone(&def);
                        one.interfaces = vec![nic.as_ref().clone()];
                        network::register(&host, &one);
                        network::limit(&host, &one).await?;
                    }
                    let alias = devices::alias(&attached).cloned().unwrap_or_default();
                    let edit = Arc::new(move |def: &mut DomainDef| devices::insert(def, attached.clone()));
                    Ok(Applied { edit, events: vec![EventKind::DeviceAdded { alias }] })
                })
            }),
        };
        on.request(Op::Change(Box::new(change))).await
    }
}

call! {
    /// Takes a device out of a domain.
    DetachDevice = "virDomainDetachDeviceFlags", Write, "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, XmlFlags { xml, flags } => XmlFlags) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainDetachDeviceFlags")?;
        let device = read(&xml)?;
        let host = on.runtime().host().clone();
        let config = device.clone();
        let change = Change {
            flags,
            complete: true,
            config: Arc::new(move |def| devices::remove(def, &config).map(drop)),
            live: Box::new(move |instance, def, _| {
                Box::pin(async move {
                    let found = devices::lookup(&def, &device)?;
                    instance.detach(&def, &found).await?;
                    unplug(&host, &found);
                    let alias = devices::alias(&found).cloned().unwrap_or_default();
                    let edit = Arc::new(move |def: &mut DomainDef| devices::remove(def, &found).map(drop));
                    Ok(Applied { edit, events: vec![EventKind::DeviceRemoved { alias }] })
                })
            }),
        };
        on.request(Op::Change(Box::new(change))).await
    }
}

/// Arguments of `virDomainDetachDeviceAlias`.
#[derive(Clone, Debug)]
pub struct AliasArgs {
    pub alias: String,
    pub flags: u32,
}

call! {
    /// Takes the device with an alias out of a domain. A definition has only the user's own aliases.
    DetachDeviceAlias = "virDomainDetachDeviceAlias", Write,
        "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, AliasArgs { alias, flags } => AliasArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainDetachDeviceAlias")?;
        let host = on.runtime().host().clone();
        let wanted = alias.clone();
        let change = Change {
            flags,
            complete: true,
            config: Arc::new(move |def| {
                let found = devices::by_alias(def, &wanted)?;
                devices::remove(def, &found).map(drop)
            }),
            live: Box::new(move |instance, def, _| {
                Box::pin(async move {
                    let found = devices::by_alias(&def, &alias)?;
                    instance.detach(&def, &found).await?;
                    unplug(&host, &found);
                    let edit = Arc::new(move |def: &mut DomainDef| devices::remove(def, &found).map(drop));
                    Ok(Applied { edit, events: vec![EventKind::DeviceRemoved { alias }] })
                })
            }),
        };
        on.request(Op::Change(Box::new(change))).await
    }
}

call! {
    /// Changes a device: an interface or a disk.
    UpdateDevice = "virDomainUpdateDeviceFlags", Write, "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, XmlFlags { xml, flags } => XmlFlags) -> () {
        check_flags(on, flags, LIVE_CONFIG | FORCE, "virDomainUpdateDeviceFlags")?;
        let device = read(&xml)?;
        let host = on.runtime().host().clone();
        let config = device.clone();
        let change = Change {
            flags: flags & LIVE_CONFIG,
            complete: true,
            config: Arc::new(move |def| devices::replace(def, config.clone())),
            live: Box::new(move |instance, def, _| {
                Box::pin(async move {
                    let old = devices::lookup(&def, &device)?;
                    same_network(&old, &device)?;
                    let mut device = keep_place(&old, device);
                    storage::resolve_device(&host, &mut device)?;
                    let new = instance.update(&def, &old, device).await?;
                    let edit = Arc::new(move |def: &mut DomainDef| devices::replace(def, new.clone()));
                    Ok(Applied { edit, events: Vec::new() })
                })
            }),
        };
        on.request(Op::Change(Box::new(change))).await
    }
}
