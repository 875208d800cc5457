//! Procedures of storage pools and volumes, node devices and secrets.

use super::{Procedure, c};
use crate::engine::api::Class;
use crate::rpc::session;

pub(super) const STORAGE: &[Procedure] = &[
    c(71, "CONNECT_NUM_OF_STORAGE_POOLS", "virConnectNumOfStoragePools"),
    c(72, "CONNECT_LIST_STORAGE_POOLS", "virConnectListStoragePools"),
    c(73, "CONNECT_NUM_OF_DEFINED_STORAGE_POOLS", "virConnectNumOfDefinedStoragePools"),
    c(74, "CONNECT_LIST_DEFINED_STORAGE_POOLS", "virConnectListDefinedStoragePools"),
    c(75, "CONNECT_FIND_STORAGE_POOL_SOURCES", "virConnectFindStoragePoolSources"),
    c(76, "STORAGE_POOL_CREATE_XML", "virStoragePoolCreateXML"),
    c(77, "STORAGE_POOL_DEFINE_XML", "virStoragePoolDefineXML"),
    c(78, "STORAGE_POOL_CREATE", "virStoragePoolCreate"),
    c(79, "STORAGE_POOL_BUILD", "virStoragePoolBuild"),
    c(80, "STORAGE_POOL_DESTROY", "virStoragePoolDestroy"),
    c(81, "STORAGE_POOL_DELETE", "virStoragePoolDelete"),
    c(82, "STORAGE_POOL_UNDEFINE", "virStoragePoolUndefine"),
    c(83, "STORAGE_POOL_REFRESH", "virStoragePoolRefresh"),
    c(84, "STORAGE_POOL_LOOKUP_BY_NAME", "virStoragePoolLookupByName"),
    c(85, "STORAGE_POOL_LOOKUP_BY_UUID", "virStoragePoolLookupByUUID"),
    c(86, "STORAGE_POOL_LOOKUP_BY_VOLUME", "virStoragePoolLookupByVolume"),
    c(87, "STORAGE_POOL_GET_INFO", "virStoragePoolGetInfo"),
    c(88, "STORAGE_POOL_GET_XML_DESC", "virStoragePoolGetXMLDesc"),
    c(89, "STORAGE_POOL_GET_AUTOSTART", "virStoragePoolGetAutostart"),
    c(90, "STORAGE_POOL_SET_AUTOSTART", "virStoragePoolSetAutostart"),
    c(91, "STORAGE_POOL_NUM_OF_VOLUMES", "virStoragePoolNumOfVolumes"),
    c(92, "STORAGE_POOL_LIST_VOLUMES", "virStoragePoolListVolumes"),
    c(93, "STORAGE_VOL_CREATE_XML", "virStorageVolCreateXML"),
    c(94, "STORAGE_VOL_DELETE", "virStorageVolDelete"),
    c(95, "STORAGE_VOL_LOOKUP_BY_NAME", "virStorageVolLookupByName"),
    c(96, "STORAGE_VOL_LOOKUP_BY_KEY", "virStorageVolLookupByKey"),
    c(97, "STORAGE_VOL_LOOKUP_BY_PATH", "virStorageVolLookupByPath"),
    c(98, "STORAGE_VOL_GET_INFO", "virStorageVolGetInfo"),
    c(99, "STORAGE_VOL_GET_XML_DESC", "virStorageVolGetXMLDesc"),
    c(100, "STORAGE_VOL_GET_PATH", "virStorageVolGetPath"),
    c(125, "STORAGE_VOL_CREATE_XML_FROM", "virStorageVolCreateXMLFrom"),
    c(154, "STORAGE_POOL_IS_ACTIVE", "virStoragePoolIsActive"),
    c(155, "STORAGE_POOL_IS_PERSISTENT", "virStoragePoolIsPersistent"),
    c(165, "STORAGE_VOL_WIPE", "virStorageVolWipe"),
    c(208, "STORAGE_VOL_UPLOAD", "virStorageVolUpload"),
    c(209, "STORAGE_VOL_DOWNLOAD", "virStorageVolDownload"),
    c(259, "STORAGE_VOL_WIPE_PATTERN", "virStorageVolWipePattern"),
    c(260, "STORAGE_VOL_RESIZE", "virStorageVolResize"),
    c(281, "CONNECT_LIST_ALL_STORAGE_POOLS", "virConnectListAllStoragePools"),
    c(282, "STORAGE_POOL_LIST_ALL_VOLUMES", "virStoragePoolListAllVolumes"),
    c(368, "CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY", "virConnectStoragePoolEventRegisterAny")
        .served((Class::Read, session::register_pool_event)),
    c(369, "CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY", "virConnectStoragePoolEventDeregisterAny")
        .served((Class::Read, session::deregister_pool_event)),
    c(378, "STORAGE_VOL_GET_INFO_FLAGS", "virStorageVolGetInfoFlags"),
    c(391, "STORAGE_POOL_LOOKUP_BY_TARGET_PATH", "virStoragePoolLookupByTargetPath"),
    c(403, "CONNECT_GET_STORAGE_POOL_CAPABILITIES", "virConnectGetStoragePoolCapabilities"),
];

pub(super) const NODE_DEVICE: &[Procedure] = &[
    c(111, "NODE_NUM_OF_DEVICES", "virNodeNumOfDevices"),
    c(112, "NODE_LIST_DEVICES", "virNodeListDevices"),
    c(113, "NODE_DEVICE_LOOKUP_BY_NAME", "virNodeDeviceLookupByName"),
    c(114, "NODE_DEVICE_GET_XML_DESC", "virNodeDeviceGetXMLDesc"),
    c(115, "NODE_DEVICE_GET_PARENT", "virNodeDeviceGetParent"),
    c(116, "NODE_DEVICE_NUM_OF_CAPS", "virNodeDeviceNumOfCaps"),
    c(117, "NODE_DEVICE_LIST_CAPS", "virNodeDeviceListCaps"),
    c(118, "NODE_DEVICE_DETTACH", "virNodeDeviceDettach"),
    c(119, "NODE_DEVICE_RE_ATTACH", "virNodeDeviceReAttach"),
    c(120, "NODE_DEVICE_RESET", "virNodeDeviceReset"),
    c(123, "NODE_DEVICE_CREATE_XML", "virNodeDeviceCreateXML"),
    c(124, "NODE_DEVICE_DESTROY", "virNodeDeviceDestroy"),
    c(285, "CONNECT_LIST_ALL_NODE_DEVICES", "virConnectListAllNodeDevices"),
    c(297, "NODE_DEVICE_LOOKUP_SCSI_HOST_BY_WWN", "virNodeDeviceLookupSCSIHostByWWN"),
    c(301, "NODE_DEVICE_DETACH_FLAGS", "virNodeDeviceDetachFlags"),
    c(374, "CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY", "virConnectNodeDeviceEventRegisterAny")
        .served((Class::Read, session::register_node_device_event)),
    c(375, "CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY", "virConnectNodeDeviceEventDeregisterAny")
        .served((Class::Read, session::deregister_node_device_event)),
    c(428, "NODE_DEVICE_DEFINE_XML", "virNodeDeviceDefineXML"),
    c(429, "NODE_DEVICE_UNDEFINE", "virNodeDeviceUndefine"),
    c(430, "NODE_DEVICE_CREATE", "virNodeDeviceCreate"),
    c(433, "NODE_DEVICE_GET_AUTOSTART", "virNodeDeviceGetAutostart"),
    c(434, "NODE_DEVICE_SET_AUTOSTART", "virNodeDeviceSetAutostart"),
    c(435, "NODE_DEVICE_IS_PERSISTENT", "virNodeDeviceIsPersistent"),
    c(436, "NODE_DEVICE_IS_ACTIVE", "virNodeDeviceIsActive"),
    c(447, "NODE_DEVICE_UPDATE", "virNodeDeviceUpdate"),
];

pub(super) const SECRET: &[Procedure] = &[
    c(139, "CONNECT_NUM_OF_SECRETS", "virConnectNumOfSecrets"),
    c(140, "CONNECT_LIST_SECRETS", "virConnectListSecrets"),
    c(141, "SECRET_LOOKUP_BY_UUID", "virSecretLookupByUUID"),
    c(142, "SECRET_DEFINE_XML", "virSecretDefineXML"),
    c(143, "SECRET_GET_XML_DESC", "virSecretGetXMLDesc"),
    c(144, "SECRET_SET_VALUE", "virSecretSetValue"),
    c(145, "SECRET_GET_VALUE", "virSecretGetValue"),
    c(146, "SECRET_UNDEFINE", "virSecretUndefine"),
    c(147, "SECRET_LOOKUP_BY_USAGE", "virSecretLookupByUsage"),
    c(287, "CONNECT_LIST_ALL_SECRETS", "virConnectListAllSecrets"),
    c(380, "CONNECT_SECRET_EVENT_REGISTER_ANY", "virConnectSecretEventRegisterAny")
        .served((Class::Read, session::register_secret_event)),
    c(381, "CONNECT_SECRET_EVENT_DEREGISTER_ANY", "virConnectSecretEventDeregisterAny")
        .served((Class::Read, session::deregister_secret_event)),
];
