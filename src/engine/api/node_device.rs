//! Devices of the host.

use super::{XmlFlags, call, check_host_flags};
use crate::engine::Connection;
use crate::engine::node_device::NodeDevice;
use crate::error::Error;
use crate::host::node_device::{CAPS, Device, list};
use crate::types::flags;

/// `VIR_NODE_DEVICE_XML_INACTIVE`
const XML_INACTIVE: u32 = 1;

async fn all(on: &Connection, flags: u32) -> crate::error::Result<Vec<NodeDevice>> {
    let devices = on.host().node_devices.all().await?;
    let matching = devices.iter().filter(|device| device.matches(flags));
    Ok(matching.map(|device| on.host().node_devices.named(&device.name)).collect())
}

call! {
    /// All devices that match `virConnectListAllNodeDeviceFlags`, by name.
    ListAllNodeDevices = "virConnectListAllNodeDevices", Read,
        "connect:search_node_devices" only "node_device:getattr";
    (caller, on: Connection, flags => u32) -> Vec<NodeDevice> {
        check_host_flags(flags, list::ALL, "virConnectListAllNodeDevices")?;
        caller.permit::<Self>().visible(all(on, flags).await?).await
    }
}

call! {
    /// Devices with this capability, or all. A word that is no capability is one that no device has.
    NodeListDevices = "virNodeListDevices", Read, "connect:search_node_devices" only "node_device:getattr";
    (caller, on: Connection, (cap, flags) => (Option<String>, u32)) -> Vec<NodeDevice> {
        check_host_flags(flags, 0, "virNodeListDevices")?;
        let flags = match cap.filter(|cap| !cap.is_empty()) {
            None => 0,
            Some(cap) => match CAPS.iter().position(|known| *known == cap) {
                Some(bit) => 1 << bit,
                None => return Ok(Vec::new()),
            },
        };
        caller.permit::<Self>().visible(all(on, flags).await?).await
    }
}

call! {
    /// By name.
    NodeDeviceLookupByName = "virNodeDeviceLookupByName", Read, "node_device:getattr";
    (caller, on: Connection, name => String) -> NodeDevice {
        on.host().node_devices.device(&name).await?;
        caller.permit::<Self>().found(on.host().node_devices.named(&name)).await
    }
}

call! {
    /// By the world wide names of a Fibre Channel host: node, port.
    NodeDeviceLookupScsiHostByWwn = "virNodeDeviceLookupSCSIHostByWWN", Read, "node_device:getattr";
    (caller, on: Connection, (node, port, flags) => (String, String, u32)) -> NodeDevice {
        check_host_flags(flags, 0, "virNodeDeviceLookupSCSIHostByWWN")?;
        let device = on.host().node_devices.by_wwn(&node, &port).await?;
        caller.permit::<Self>().found(on.host().node_devices.named(&device.name)).await
    }
}

call! {
    /// Its description; flag 1 asks for a persistent definition, which none has.
    NodeDeviceGetXmlDesc = "virNodeDeviceGetXMLDesc", Read, "node_device:read";
    (caller, on: NodeDevice, flags => u32) -> String {
        check_host_flags(flags, XML_INACTIVE, "virNodeDeviceGetXMLDesc")?;
        let device = on.device().await?;
        if flags & XML_INACTIVE != 0 && device.parent.is_some() {
            return Err(Error::invalid_state(format!("node device '{}' is not persistent", on.name)));
        }
        Ok(device.to_xml())
    }
}

call! {
    /// The device it hangs on; none for the host itself.
    NodeDeviceGetParent = "virNodeDeviceGetParent", Read, "node_device:read";
    (caller, on: NodeDevice, () => ()) -> Option<String> { Ok(on.device().await?.parent) }
}

call! {
    /// What it is and can do.
    NodeDeviceListCaps = "virNodeDeviceListCaps", Read, "node_device:read";
    (caller, on: NodeDevice, () => ()) -> Vec<String> { Ok(on.device().await?.caps()) }
}

call! {
    /// Whether it has a definition of its own; the host itself counts as one that has.
    NodeDeviceIsPersistent = "virNodeDeviceIsPersistent", Read, "node_device:read";
    (caller, on: NodeDevice, () => ()) -> bool { Ok(on.device().await?.parent.is_none()) }
}

call! {
    /// Whether it is there; all that are listed are.
    NodeDeviceIsActive = "virNodeDeviceIsActive", Read, "node_device:read";
    (caller, on: NodeDevice, () => ()) -> bool {
        on.device().await?;
        Ok(true)
    }
}

call! {
    /// Whether it comes with the host.
    NodeDeviceGetAutostart = "virNodeDeviceGetAutostart", Read, "node_device:read";
    (caller, on: NodeDevice, () => ()) -> bool { Ok(on.device().await?.parent.is_none()) }
}

call! {
    /// Makes a device: a virtual port of a Fibre Channel host (`virNodeDeviceCreateXMLFlags`).
    NodeDeviceCreateXml = "virNodeDeviceCreateXML", Write, "node_device:write", "node_device:start";
    (caller, on: Connection, XmlFlags { xml, flags } => XmlFlags) -> NodeDevice {
        check_host_flags(flags, flags::define::VALIDATE, "virNodeDeviceCreateXML")?;
        let device = Device::parse(&xml)?;
        caller.permit::<Self>().on_new("node_device", || Ok(vec![("node_device_name", device.name.clone())])).await?;
        let name = on.host().node_devices.create(&device).await?;
        Ok(on.host().node_devices.named(&name))
    }
}

call! {
    /// Takes such a device away.
    NodeDeviceDestroy = "virNodeDeviceDestroy", Write, "node_device:stop";
    (caller, on: NodeDevice, () => ()) -> () { on.destroy().await }
}
