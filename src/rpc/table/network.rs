//! Procedures of networks, host interfaces and network filters.

use super::{Procedure, c};
use crate::engine::api::Class;
use crate::rpc::session;

pub(super) const NETWORK: &[Procedure] = &[
    c(36, "CONNECT_LIST_DEFINED_NETWORKS", "virConnectListDefinedNetworks"),
    c(38, "CONNECT_LIST_NETWORKS", "virConnectListNetworks"),
    c(39, "NETWORK_CREATE", "virNetworkCreate"),
    c(40, "NETWORK_CREATE_XML", "virNetworkCreateXML"),
    c(41, "NETWORK_DEFINE_XML", "virNetworkDefineXML"),
    c(42, "NETWORK_DESTROY", "virNetworkDestroy"),
    c(43, "NETWORK_GET_XML_DESC", "virNetworkGetXMLDesc"),
    c(44, "NETWORK_GET_AUTOSTART", "virNetworkGetAutostart"),
    c(45, "NETWORK_GET_BRIDGE_NAME", "virNetworkGetBridgeName"),
    c(46, "NETWORK_LOOKUP_BY_NAME", "virNetworkLookupByName"),
    c(47, "NETWORK_LOOKUP_BY_UUID", "virNetworkLookupByUUID"),
    c(48, "NETWORK_SET_AUTOSTART", "virNetworkSetAutostart"),
    c(49, "NETWORK_UNDEFINE", "virNetworkUndefine"),
    c(50, "CONNECT_NUM_OF_DEFINED_NETWORKS", "virConnectNumOfDefinedNetworks"),
    c(52, "CONNECT_NUM_OF_NETWORKS", "virConnectNumOfNetworks"),
    c(152, "NETWORK_IS_ACTIVE", "virNetworkIsActive"),
    c(153, "NETWORK_IS_PERSISTENT", "virNetworkIsPersistent"),
    c(283, "CONNECT_LIST_ALL_NETWORKS", "virConnectListAllNetworks"),
    c(291, "NETWORK_UPDATE", "virNetworkUpdate"),
    c(313, "CONNECT_NETWORK_EVENT_REGISTER_ANY", "virConnectNetworkEventRegisterAny")
        .served((Class::Read, session::register_network_event)),
    c(314, "CONNECT_NETWORK_EVENT_DEREGISTER_ANY", "virConnectNetworkEventDeregisterAny")
        .served((Class::Read, session::deregister_network_event)),
    c(341, "NETWORK_GET_DHCP_LEASES", "virNetworkGetDHCPLeases"),
    c(404, "NETWORK_LIST_ALL_PORTS", "virNetworkListAllPorts"),
    c(405, "NETWORK_PORT_LOOKUP_BY_UUID", "virNetworkPortLookupByUUID"),
    c(406, "NETWORK_PORT_CREATE_XML", "virNetworkPortCreateXML"),
    c(407, "NETWORK_PORT_GET_PARAMETERS", "virNetworkPortGetParameters"),
    c(408, "NETWORK_PORT_SET_PARAMETERS", "virNetworkPortSetParameters"),
    c(409, "NETWORK_PORT_GET_XML_DESC", "virNetworkPortGetXMLDesc"),
    c(410, "NETWORK_PORT_DELETE", "virNetworkPortDelete"),
    c(432, "NETWORK_DEFINE_XML_FLAGS", "virNetworkDefineXMLFlags"),
    c(437, "NETWORK_CREATE_XML_FLAGS", "virNetworkCreateXMLFlags"),
    c(444, "NETWORK_SET_METADATA", "virNetworkSetMetadata"),
    c(445, "NETWORK_GET_METADATA", "virNetworkGetMetadata"),
];

pub(super) const INTERFACE: &[Procedure] = &[
    c(126, "CONNECT_NUM_OF_INTERFACES", "virConnectNumOfInterfaces"),
    c(127, "CONNECT_LIST_INTERFACES", "virConnectListInterfaces"),
    c(128, "INTERFACE_LOOKUP_BY_NAME", "virInterfaceLookupByName"),
    c(129, "INTERFACE_LOOKUP_BY_MAC_STRING", "virInterfaceLookupByMACString"),
    c(130, "INTERFACE_GET_XML_DESC", "virInterfaceGetXMLDesc"),
    c(131, "INTERFACE_DEFINE_XML", "virInterfaceDefineXML"),
    c(132, "INTERFACE_UNDEFINE", "virInterfaceUndefine"),
    c(133, "INTERFACE_CREATE", "virInterfaceCreate"),
    c(134, "INTERFACE_DESTROY", "virInterfaceDestroy"),
    c(137, "CONNECT_NUM_OF_DEFINED_INTERFACES", "virConnectNumOfDefinedInterfaces"),
    c(138, "CONNECT_LIST_DEFINED_INTERFACES", "virConnectListDefinedInterfaces"),
    c(156, "INTERFACE_IS_ACTIVE", "virInterfaceIsActive"),
    c(220, "INTERFACE_CHANGE_BEGIN", "virInterfaceChangeBegin"),
    c(221, "INTERFACE_CHANGE_COMMIT", "virInterfaceChangeCommit"),
    c(222, "INTERFACE_CHANGE_ROLLBACK", "virInterfaceChangeRollback"),
    c(284, "CONNECT_LIST_ALL_INTERFACES", "virConnectListAllInterfaces"),
];

pub(super) const NWFILTER: &[Procedure] = &[
    c(175, "NWFILTER_LOOKUP_BY_NAME", "virNWFilterLookupByName"),
    c(176, "NWFILTER_LOOKUP_BY_UUID", "virNWFilterLookupByUUID"),
    c(177, "NWFILTER_GET_XML_DESC", "virNWFilterGetXMLDesc"),
    c(178, "CONNECT_NUM_OF_NWFILTERS", "virConnectNumOfNWFilters"),
    c(179, "CONNECT_LIST_NWFILTERS", "virConnectListNWFilters"),
    c(180, "NWFILTER_DEFINE_XML", "virNWFilterDefineXML"),
    c(181, "NWFILTER_UNDEFINE", "virNWFilterUndefine"),
    c(286, "CONNECT_LIST_ALL_NWFILTERS", "virConnectListAllNWFilters"),
    c(397, "NWFILTER_BINDING_LOOKUP_BY_PORT_DEV", "virNWFilterBindingLookupByPortDev"),
    c(398, "NWFILTER_BINDING_GET_XML_DESC", "virNWFilterBindingGetXMLDesc"),
    c(399, "NWFILTER_BINDING_CREATE_XML", "virNWFilterBindingCreateXML"),
    c(400, "NWFILTER_BINDING_DELETE", "virNWFilterBindingDelete"),
    c(401, "CONNECT_LIST_ALL_NWFILTER_BINDINGS", "virConnectListAllNWFilterBindings"),
    c(431, "NWFILTER_DEFINE_XML_FLAGS", "virNWFilterDefineXMLFlags"),
];
