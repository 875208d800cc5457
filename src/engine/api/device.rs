//! Devices put into, taken out of and changed in a domain: the running one, its definition, or both.

use std::sync::Arc;

use super::define::XmlFlags;
use super::{call, check_flags};
use crate::domain_xml::{self, Device, DomainDef};
use crate::engine::domain::Op;
use crate::engine::domain::change::{Applied, Change};
use crate::engine::event::EventKind;
use crate::engine::{Domain, devices};
use crate::error::{Code, Error, Result};
use crate::types::flags::affect;
use crate::types::{MacAddr, Uuid};

const LIVE_CONFIG: u32 = affect::LIVE | affect::CONFIG;
/// `VIR_DOMAIN_DEVICE_MODIFY_FORCE`.
const FORCE: u32 = 4;

fn read(xml: &str) -> Result<Device> {
    Ok(domain_xml::parse_device(xml)?.0)
}

fn refuse_networks(device: &Device) -> Result<()> {
    use domain_xml::device::InterfaceSource;
    if let Device::Interface(nic) = device
        && matches!(nic.source, InterfaceSource::Network { .. })
    {
        return Err(Error::new(
            Code::ConfigUnsupported,
            "<interface type='network'> is not supported: name the bridge with <interface type='bridge'>",
        ));
    }
    Ok(())
}

call! {
    /// Puts a device into a domain.
    AttachDevice = "virDomainAttachDeviceFlags", Write, "domain:write";
    (caller, on: Domain, XmlFlags { xml, flags } => XmlFlags) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainAttachDeviceFlags")?;
        let mut device = read(&xml)?;
        refuse_networks(&device)?;
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
                    let attached = instance.attach(&def, device, &undo).await?;
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
    DetachDevice = "virDomainDetachDeviceFlags", Write, "domain:write";
    (caller, on: Domain, XmlFlags { xml, flags } => XmlFlags) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainDetachDeviceFlags")?;
        let device = read(&xml)?;
        let config = device.clone();
        let change = Change {
            flags,
            complete: true,
            config: Arc::new(move |def| devices::remove(def, &config).map(drop)),
            live: Box::new(move |instance, def, _| {
                Box::pin(async move {
                    let found = devices::lookup(&def, &device)?;
                    instance.detach(&def, &found).await?;
                    let alias = devices::alias(&found).cloned().unwrap_or_default();
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
    UpdateDevice = "virDomainUpdateDeviceFlags", Write, "domain:write";
    (caller, on: Domain, XmlFlags { xml, flags } => XmlFlags) -> () {
        check_flags(on, flags, LIVE_CONFIG | FORCE, "virDomainUpdateDeviceFlags")?;
        let device = read(&xml)?;
        refuse_networks(&device)?;
        let config = device.clone();
        let change = Change {
            flags: flags & LIVE_CONFIG,
            complete: true,
            config: Arc::new(move |def| devices::replace(def, config.clone())),
            live: Box::new(move |instance, def, _| {
                Box::pin(async move {
                    let old = devices::lookup(&def, &device)?;
                    let new = instance.update(&def, &old, device).await?;
                    let edit = Arc::new(move |def: &mut DomainDef| devices::replace(def, new.clone()));
                    Ok(Applied { edit, events: Vec::new() })
                })
            }),
        };
        on.request(Op::Change(Box::new(change))).await
    }
}
