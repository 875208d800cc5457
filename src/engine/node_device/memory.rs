//! The test driver's devices: what libvirt's has, and virtual ports that clients make and take away.

use std::sync::{Arc, PoisonError};

use super::{NodeDevice, NodeDevices, missing};
use crate::engine::event::{HostEvent, HostSet, node_device_lifecycle};
use crate::error::{Error, Result, Subsystem};
use crate::host::node_device::{Capability, Device, ScsiHost, System};
use crate::types::Uuid;

/// What there is from the start, by name.
pub(super) fn devices() -> Vec<Device> {
    let system = System {
        product: None,
        vendor: Some("Libvirt".into()),
        version: Some("Test driver".into()),
        serial: Some("123456".into()),
        uuid: Uuid::from_u128(0x1111_1111_2222_3333_4444_5555_5555_5555),
        firmware_vendor: Some("Libvirt".into()),
        firmware_version: Some("Test Driver".into()),
        firmware_date: Some("01/22/2007".into()),
    };
    let computer =
        Device { name: "computer".into(), capabilities: vec![Capability::System(system)], ..Device::default() };
    let names =
        |node: &str, port: &str, fabric: &str| Some((node.to_string(), port.to_string(), Some(fabric.to_string())));
    let one = names("2000000012341234", "1000000012341234", "2000000043214321");
    let two = names("2000000056785678", "1000000056785678", "2000000087658765");
    let port = names("2000000034563456", "1000000034563456", "2000000043214321");
    vec![
        computer,
        adapter("computer", ScsiHost { host: 1, unique_id: Some(0), fibre: one, vports: Some((0, 0)) }),
        adapter("scsi_host1", ScsiHost { host: 11, unique_id: Some(10), fibre: port, vports: None }),
        adapter("computer", ScsiHost { host: 2, unique_id: Some(1), fibre: two, vports: Some((0, 0)) }),
    ]
}

fn adapter(parent: &str, host: ScsiHost) -> Device {
    Device {
        name: format!("scsi_host{}", host.host),
        parent: Some(parent.into()),
        capabilities: vec![Capability::ScsiHost(host)],
        ..Device::default()
    }
}

fn scsi_host(device: &Device) -> Option<&ScsiHost> {
    device.capabilities.iter().find_map(|capability| match capability {
        Capability::ScsiHost(host) => Some(host),
        _ => None,
    })
}

impl NodeDevices {
    /// Makes a virtual port as `wanted` says, of its parent or else of the first adapter that can have some; its name is
    /// made up. The name. Errors: code 1 for anything else, 3 on a real host.
    pub async fn create(&self, wanted: &Device) -> Result<String> {
        if self.context.set != HostSet::Test {
            return Err(Error::no_support("virNodeDeviceCreateXML").with_subsystem(Subsystem::NodeDev));
        }
        let device = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let device = port(wanted, &memory)?;
            let devices = Arc::make_mut(&mut memory);
            devices.push(device.clone());
            devices.sort_by(|a, b| a.name.cmp(&b.name));
            // Before somebody else can take it away.
            self.tell(&device.name, node_device_lifecycle::CREATED);
            device
        };
        Ok(device.name)
    }

    fn tell(&self, name: &str, event: i32) {
        self.context.emit(HostEvent::NodeDeviceLifecycle { name: name.to_string(), event, detail: 0 });
    }
}

/// The device that `wanted` is made to.
fn port(wanted: &Device, devices: &[Device]) -> Result<Device> {
    let refused = |what: String| Error::internal(what).with_subsystem(Subsystem::NodeDev);
    let fibre = scsi_host(wanted).and_then(|host| host.fibre.clone());
    let Some((node, port, _)) = fibre.filter(|(node, port, _)| !node.is_empty() && !port.is_empty()) else {
        return Err(refused("Device is not a fibre channel HBA".into()));
    };
    let is_capable = |device: &&Device| scsi_host(device).is_some_and(|host| host.vports.is_some());
    let parent = match &wanted.parent {
        Some(name) => devices.iter().find(|device| device.name == *name),
        None => devices.iter().find(is_capable),
    };
    let parent = parent.ok_or_else(|| refused(format!("Could not find parent device for '{}'", wanted.name)))?;
    let Some(above) = scsi_host(parent).filter(|host| host.vports.is_some()) else {
        return Err(refused(format!("Parent device {} is not capable of vport operations", parent.name)));
    };
    let fabric = above.fibre.as_ref().and_then(|(_, _, fabric)| fabric.clone());
    let free = (12..u32::MAX).find(|number| !devices.iter().any(|device| device.name == format!("scsi_host{number}")));
    let host = free.ok_or_else(|| refused("there are no numbers left for SCSI hosts".into()))?;
    let unique_id = Some(host - 1);
    Ok(adapter(&parent.name, ScsiHost { host, unique_id, fibre: Some((node, port, fabric)), vports: None }))
}

impl NodeDevice {
    /// Takes a virtual port away (`virNodeDeviceDestroy`). Errors: code 53 when it is not there, 55 for what is none, 3 on
    /// a real host.
    pub async fn destroy(&self) -> Result<()> {
        let host = self.context.host().ok_or_else(|| Error::internal("the daemon is going down"))?;
        if self.context.set != HostSet::Test {
            self.device().await?;
            return Err(Error::no_support("virNodeDeviceDestroy").with_subsystem(Subsystem::NodeDev));
        }
        let devices = &host.node_devices;
        {
            let mut memory = devices.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let found = memory.iter().position(|device| device.name == self.name);
            let at = found.ok_or_else(|| missing(format!("no node device with matching name '{}'", self.name)))?;
            let is_port = memory.get(at).and_then(scsi_host).is_some_and(|host| host.vports.is_none());
            if !is_port {
                let what = format!("node device '{}' is no virtual port: only these can be taken away", self.name);
                return Err(Error::invalid_state(what).with_subsystem(Subsystem::NodeDev));
            }
            Arc::make_mut(&mut memory).remove(at);
            devices.tell(&self.name, node_device_lifecycle::DELETED);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(parent: Option<&str>, fibre: bool) -> Device {
        let names = || ("2000000098765432".to_string(), "1000000098765432".to_string(), None);
        let host = ScsiHost { host: 22, fibre: fibre.then(names), ..ScsiHost::default() };
        Device { parent: parent.map(Into::into), ..adapter("", host) }
    }

    #[test]
    fn a_port_is_made_of_its_parent() {
        let devices = devices();
        assert!(devices.is_sorted_by_key(|device| device.name.clone()));
        let made = port(&wanted(Some("scsi_host2"), true), &devices).unwrap();
        assert_eq!((made.name.as_str(), made.parent.as_deref()), ("scsi_host12", Some("scsi_host2")));
        let (node, port_name, fabric) = scsi_host(&made).unwrap().fibre.clone().unwrap();
        assert_eq!((node.as_str(), port_name.as_str()), ("2000000098765432", "1000000098765432"));
        assert_eq!(fabric.as_deref(), Some("2000000087658765"));
        assert_eq!(port(&wanted(None, true), &devices).unwrap().parent.as_deref(), Some("scsi_host1"));
    }

    #[test]
    fn what_is_no_port_is_refused_in_libvirts_words() {
        let text = |device: Device| port(&device, &devices()).unwrap_err().message();
        assert_eq!(text(wanted(Some("scsi_host2"), false)), "internal error: Device is not a fibre channel HBA");
        assert_eq!(
            text(wanted(Some("computer"), true)),
            "internal error: Parent device computer is not capable of vport operations"
        );
        assert_eq!(text(wanted(Some("nix"), true)), "internal error: Could not find parent device for 'scsi_host22'");
    }
}
