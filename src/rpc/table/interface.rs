//! Procedures of interfaces of the host.

#![allow(clippy::needless_pass_by_value, reason = "codecs take what the engine gives")]

use super::{Procedure, c};
use crate::engine::api::{
    InterfaceChangeBegin, InterfaceChangeCommit, InterfaceChangeRollback, InterfaceCreate, InterfaceDefineXml,
    InterfaceDestroy, InterfaceGetXmlDesc, InterfaceIsActive, InterfaceLookupByMac, InterfaceLookupByName,
    InterfaceUndefine, ListAllInterfaces, XmlFlags,
};
use crate::engine::interface::HostInterface;
use crate::net::host_interface::list::{ACTIVE, INACTIVE};
use crate::rpc::call::{connection, list, object};
use crate::rpc::wire::Remote;

fn count(interfaces: Vec<HostInterface>) -> i32 {
    i32::try_from(interfaces.len()).unwrap_or(i32::MAX)
}

fn names(interfaces: Vec<HostInterface>) -> Vec<String> {
    interfaces.into_iter().map(|interface| interface.name).collect()
}

pub(super) const INTERFACE: &[Procedure] = &[
    c(126, "CONNECT_NUM_OF_INTERFACES", "virConnectNumOfInterfaces").served(connection!(
        ListAllInterfaces,
        |()| ACTIVE,
        count
    )),
    c(127, "CONNECT_LIST_INTERFACES", "virConnectListInterfaces").served(connection!(
        ListAllInterfaces,
        |_most: i32| ACTIVE,
        names
    )),
    c(128, "INTERFACE_LOOKUP_BY_NAME", "virInterfaceLookupByName").served(connection!(
        InterfaceLookupByName,
        |name: String| name,
        |interface| interface.handle()
    )),
    c(129, "INTERFACE_LOOKUP_BY_MAC_STRING", "virInterfaceLookupByMACString").served(connection!(
        InterfaceLookupByMac,
        |mac: String| mac,
        |interface| interface.handle()
    )),
    c(130, "INTERFACE_GET_XML_DESC", "virInterfaceGetXMLDesc").served(object!(
        InterfaceGetXmlDesc,
        |flags: u32| flags,
        |xml| xml
    )),
    c(131, "INTERFACE_DEFINE_XML", "virInterfaceDefineXML").served(connection!(
        InterfaceDefineXml,
        |(xml, flags): (String, u32)| XmlFlags { xml, flags },
        |interface| interface.handle()
    )),
    c(132, "INTERFACE_UNDEFINE", "virInterfaceUndefine").served(object!(InterfaceUndefine, |()| (), |()| ())),
    c(133, "INTERFACE_CREATE", "virInterfaceCreate").served(object!(InterfaceCreate, |flags: u32| flags, |()| ())),
    c(134, "INTERFACE_DESTROY", "virInterfaceDestroy").served(object!(InterfaceDestroy, |flags: u32| flags, |()| ())),
    c(137, "CONNECT_NUM_OF_DEFINED_INTERFACES", "virConnectNumOfDefinedInterfaces").served(connection!(
        ListAllInterfaces,
        |()| INACTIVE,
        count
    )),
    c(138, "CONNECT_LIST_DEFINED_INTERFACES", "virConnectListDefinedInterfaces").served(connection!(
        ListAllInterfaces,
        |_most: i32| INACTIVE,
        names
    )),
    c(156, "INTERFACE_IS_ACTIVE", "virInterfaceIsActive").served(object!(InterfaceIsActive, |()| (), i32::from)),
    c(220, "INTERFACE_CHANGE_BEGIN", "virInterfaceChangeBegin").served(connection!(
        InterfaceChangeBegin,
        |flags: u32| flags,
        |()| ()
    )),
    c(221, "INTERFACE_CHANGE_COMMIT", "virInterfaceChangeCommit").served(connection!(
        InterfaceChangeCommit,
        |flags: u32| flags,
        |()| ()
    )),
    c(222, "INTERFACE_CHANGE_ROLLBACK", "virInterfaceChangeRollback").served(connection!(
        InterfaceChangeRollback,
        |flags: u32| flags,
        |()| ()
    )),
    c(284, "CONNECT_LIST_ALL_INTERFACES", "virConnectListAllInterfaces").served(list!(ListAllInterfaces)),
];
