//! Procedures of node devices.

#![allow(clippy::needless_pass_by_value, reason = "codecs take what the engine gives")]

use super::{Procedure, c};
use crate::engine::api::{
    Class, ListAllNodeDevices, NodeDeviceCreateXml, NodeDeviceDestroy, NodeDeviceGetAutostart, NodeDeviceGetParent,
    NodeDeviceGetXmlDesc, NodeDeviceIsActive, NodeDeviceIsPersistent, NodeDeviceListCaps, NodeDeviceLookupByName,
    NodeDeviceLookupScsiHostByWwn, NodeListDevices, XmlFlags,
};
use crate::engine::node_device::NodeDevice;
use crate::rpc::call::{connection, list, object};
use crate::rpc::session;
use crate::rpc::wire::Remote;

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn names(devices: Vec<NodeDevice>) -> Vec<String> {
    devices.into_iter().map(|device| device.name).collect()
}

pub(super) const NODE_DEVICE: &[Procedure] = &[
    c(111, "NODE_NUM_OF_DEVICES", "virNodeNumOfDevices").served(connection!(
        NodeListDevices,
        |args: (Option<String>, u32)| args,
        |devices| count(devices.len())
    )),
    c(112, "NODE_LIST_DEVICES", "virNodeListDevices").served(connection!(
        NodeListDevices,
        |(cap, _most, flags): (Option<String>, i32, u32)| (cap, flags),
        names
    )),
    c(113, "NODE_DEVICE_LOOKUP_BY_NAME", "virNodeDeviceLookupByName").served(connection!(
        NodeDeviceLookupByName,
        |name: String| name,
        |device| device.handle()
    )),
    c(114, "NODE_DEVICE_GET_XML_DESC", "virNodeDeviceGetXMLDesc").served(object!(
        NodeDeviceGetXmlDesc,
        |flags: u32| flags,
        |xml| xml
    )),
    c(115, "NODE_DEVICE_GET_PARENT", "virNodeDeviceGetParent").served(object!(
        NodeDeviceGetParent,
        |()| (),
        |parent| parent
    )),
    c(116, "NODE_DEVICE_NUM_OF_CAPS", "virNodeDeviceNumOfCaps")
        .served(object!(NodeDeviceListCaps, |()| (), |caps| count(caps.len()))),
    c(117, "NODE_DEVICE_LIST_CAPS", "virNodeDeviceListCaps").served(object!(
        NodeDeviceListCaps,
        |_most: i32| (),
        |caps| caps
    )),
    c(118, "NODE_DEVICE_DETTACH", "virNodeDeviceDettach"),
    c(119, "NODE_DEVICE_RE_ATTACH", "virNodeDeviceReAttach"),
    c(120, "NODE_DEVICE_RESET", "virNodeDeviceReset"),
    c(123, "NODE_DEVICE_CREATE_XML", "virNodeDeviceCreateXML").served(connection!(
        NodeDeviceCreateXml,
        |(xml, flags): (String, u32)| XmlFlags { xml, flags },
        |device| device.handle()
    )),
    c(124, "NODE_DEVICE_DESTROY", "virNodeDeviceDestroy").served(object!(NodeDeviceDestroy, |()| (), |()| ())),
    c(285, "CONNECT_LIST_ALL_NODE_DEVICES", "virConnectListAllNodeDevices").served(list!(ListAllNodeDevices)),
    c(297, "NODE_DEVICE_LOOKUP_SCSI_HOST_BY_WWN", "virNodeDeviceLookupSCSIHostByWWN").served(connection!(
        NodeDeviceLookupScsiHostByWwn,
        |args: (String, String, u32)| args,
        |device| device.handle()
    )),
    c(301, "NODE_DEVICE_DETACH_FLAGS", "virNodeDeviceDetachFlags"),
    c(374, "CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY", "virConnectNodeDeviceEventRegisterAny")
        .served((Class::Read, session::register_node_device_event)),
    c(375, "CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY", "virConnectNodeDeviceEventDeregisterAny")
        .served((Class::Read, session::deregister_node_device_event)),
    c(428, "NODE_DEVICE_DEFINE_XML", "virNodeDeviceDefineXML"),
    c(429, "NODE_DEVICE_UNDEFINE", "virNodeDeviceUndefine"),
    c(430, "NODE_DEVICE_CREATE", "virNodeDeviceCreate"),
    c(433, "NODE_DEVICE_GET_AUTOSTART", "virNodeDeviceGetAutostart").served(object!(
        NodeDeviceGetAutostart,
        |()| (),
        i32::from
    )),
    c(434, "NODE_DEVICE_SET_AUTOSTART", "virNodeDeviceSetAutostart"),
    c(435, "NODE_DEVICE_IS_PERSISTENT", "virNodeDeviceIsPersistent").served(object!(
        NodeDeviceIsPersistent,
        |()| (),
        i32::from
    )),
    c(436, "NODE_DEVICE_IS_ACTIVE", "virNodeDeviceIsActive").served(object!(NodeDeviceIsActive, |()| (), i32::from)),
    c(447, "NODE_DEVICE_UPDATE", "virNodeDeviceUpdate"),
];
