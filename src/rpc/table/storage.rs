//! Procedures of storage and node devices.

#![allow(clippy::needless_pass_by_value, reason = "codecs take what the engine gives")]

use super::{Procedure, c};
use crate::engine::api::{
    self, BuildStoragePool, Class, CreateStoragePool, CreateStoragePoolXml, DefineStoragePoolXml, DeleteStoragePool,
    DestroyStoragePool, FindSourcesArgs, FindStoragePoolSources, GetStoragePoolAutostart, GetStoragePoolCapabilities,
    GetStoragePoolInfo, GetStoragePoolXmlDesc, GetStorageVolInfo, GetStorageVolInfoFlags, GetStorageVolPath,
    GetStorageVolXmlDesc, ListAllStoragePools, LookupStoragePoolByName, LookupStoragePoolByTargetPath,
    LookupStoragePoolByUuid, LookupStoragePoolByVolume, LookupStorageVolByKey, LookupStorageVolByName,
    LookupStorageVolByPath, RefreshStoragePool, SetStoragePoolAutostart, StoragePoolIsActive, StoragePoolIsPersistent,
    StoragePoolListAllVolumes, UndefineStoragePool, VolumeInfo, XmlFlags,
};
use crate::engine::storage::{PoolInfo, StoragePool, StorageVol};
use crate::rpc::call::{Answer, BoxFuture, Invocation, Reply, connection, list, object};
use crate::rpc::session;
use crate::rpc::wire::{NamedHandle, Remote};
use crate::rpc::xdr::Put;
use crate::types::Uuid;
use crate::types::flags::storage_pool::list as bits;

fn length<T>(list: &[T]) -> i32 {
    i32::try_from(list.len()).unwrap_or(i32::MAX)
}

fn count_pools(pools: Vec<StoragePool>) -> i32 {
    length(&pools)
}

fn pool_names(pools: Vec<StoragePool>) -> Vec<String> {
    pools.iter().map(|pool| pool.name().to_string()).collect()
}

fn volume_names(volumes: Vec<StorageVol>) -> Vec<String> {
    volumes.into_iter().map(|volume| volume.name).collect()
}

fn with_flags((xml, flags): (String, u32)) -> XmlFlags {
    XmlFlags { xml, flags }
}

fn pool_info(info: PoolInfo) -> impl Put {
    (info.state, info.usage.capacity, info.usage.allocation, info.usage.available)
}

fn volume_info(info: VolumeInfo) -> impl Put {
    (info.kind, info.capacity, info.allocation)
}

/// The answer repeats the flags.
fn volume_info_flags(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, flags): (<StorageVol as Remote>::Handle, u32) = at.arguments()?;
        let volume = StorageVol::find(&connection, handle)?;
        let info = api::dispatch::<GetStorageVolInfoFlags>(&caller, &volume, flags).await?;
        Ok(Answer::value(&(info.kind, info.capacity, info.allocation, flags)))
    })
}

/// A pool, `need_results`, flags -> the volumes, their number.
fn all_volumes(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, need_results, flags): (NamedHandle, bool, u32) = at.arguments()?;
        let pool = StoragePool::find(&connection, handle)?;
        let volumes = api::dispatch::<StoragePoolListAllVolumes>(&caller, &pool, flags).await?;
        let count = length(&volumes);
        let handles: Vec<_> = if need_results { volumes.iter().map(Remote::handle).collect() } else { Vec::new() };
        Ok(Answer::value(&(handles, count)))
    })
}

pub(super) const STORAGE: &[Procedure] = &[
    c(71, "CONNECT_NUM_OF_STORAGE_POOLS", "virConnectNumOfStoragePools").served(connection!(
        ListAllStoragePools,
        |()| bits::ACTIVE,
        count_pools
    )),
    c(72, "CONNECT_LIST_STORAGE_POOLS", "virConnectListStoragePools").served(connection!(
        ListAllStoragePools,
        |_most: i32| bits::ACTIVE,
        pool_names
    )),
    c(73, "CONNECT_NUM_OF_DEFINED_STORAGE_POOLS", "virConnectNumOfDefinedStoragePools").served(connection!(
        ListAllStoragePools,
        |()| bits::INACTIVE,
        count_pools
    )),
    c(74, "CONNECT_LIST_DEFINED_STORAGE_POOLS", "virConnectListDefinedStoragePools").served(connection!(
        ListAllStoragePools,
        |_most: i32| bits::INACTIVE,
        pool_names
    )),
    c(75, "CONNECT_FIND_STORAGE_POOL_SOURCES", "virConnectFindStoragePoolSources").served(connection!(
        FindStoragePoolSources,
        |(kind, spec, flags): (String, Option<String>, u32)| FindSourcesArgs { kind, spec, flags },
        |xml| xml
    )),
    c(76, "STORAGE_POOL_CREATE_XML", "virStoragePoolCreateXML").served(connection!(
        CreateStoragePoolXml,
        with_flags,
        |pool| pool.handle()
    )),
    c(77, "STORAGE_POOL_DEFINE_XML", "virStoragePoolDefineXML").served(connection!(
        DefineStoragePoolXml,
        with_flags,
        |pool| pool.handle()
    )),
    c(78, "STORAGE_POOL_CREATE", "virStoragePoolCreate")
        .served(object!(CreateStoragePool, |flags: u32| flags, |()| ())),
    c(79, "STORAGE_POOL_BUILD", "virStoragePoolBuild").served(object!(BuildStoragePool, |flags: u32| flags, |()| ())),
    c(80, "STORAGE_POOL_DESTROY", "virStoragePoolDestroy").served(object!(DestroyStoragePool, |()| (), |()| ())),
    c(81, "STORAGE_POOL_DELETE", "virStoragePoolDelete")
        .served(object!(DeleteStoragePool, |flags: u32| flags, |()| ())),
    c(82, "STORAGE_POOL_UNDEFINE", "virStoragePoolUndefine").served(object!(UndefineStoragePool, |()| (), |()| ())),
    c(83, "STORAGE_POOL_REFRESH", "virStoragePoolRefresh").served(object!(
        RefreshStoragePool,
        |flags: u32| flags,
        |()| ()
    )),
    c(84, "STORAGE_POOL_LOOKUP_BY_NAME", "virStoragePoolLookupByName").served(connection!(
        LookupStoragePoolByName,
        |name: String| name,
        |pool| pool.handle()
    )),
    c(85, "STORAGE_POOL_LOOKUP_BY_UUID", "virStoragePoolLookupByUUID").served(connection!(
        LookupStoragePoolByUuid,
        |uuid: Uuid| uuid,
        |pool| pool.handle()
    )),
    c(86, "STORAGE_POOL_LOOKUP_BY_VOLUME", "virStoragePoolLookupByVolume").served(object!(
        LookupStoragePoolByVolume,
        |()| (),
        |pool| pool.handle()
    )),
    c(87, "STORAGE_POOL_GET_INFO", "virStoragePoolGetInfo").served(object!(GetStoragePoolInfo, |()| (), pool_info)),
    c(88, "STORAGE_POOL_GET_XML_DESC", "virStoragePoolGetXMLDesc").served(object!(
        GetStoragePoolXmlDesc,
        |flags: u32| flags,
        |xml| xml
    )),
    c(89, "STORAGE_POOL_GET_AUTOSTART", "virStoragePoolGetAutostart").served(object!(
        GetStoragePoolAutostart,
        |()| (),
        |is| is
    )),
    c(90, "STORAGE_POOL_SET_AUTOSTART", "virStoragePoolSetAutostart").served(object!(
        SetStoragePoolAutostart,
        |on: bool| on,
        |()| ()
    )),
    c(91, "STORAGE_POOL_NUM_OF_VOLUMES", "virStoragePoolNumOfVolumes").served(object!(
        StoragePoolListAllVolumes,
        |()| 0,
        |volumes| length(&volumes)
    )),
    c(92, "STORAGE_POOL_LIST_VOLUMES", "virStoragePoolListVolumes").served(object!(
        StoragePoolListAllVolumes,
        |_most: i32| 0,
        volume_names
    )),
    c(93, "STORAGE_VOL_CREATE_XML", "virStorageVolCreateXML"),
    c(94, "STORAGE_VOL_DELETE", "virStorageVolDelete"),
    c(95, "STORAGE_VOL_LOOKUP_BY_NAME", "virStorageVolLookupByName").served(object!(
        LookupStorageVolByName,
        |name: String| name,
        |volume| volume.handle()
    )),
    c(96, "STORAGE_VOL_LOOKUP_BY_KEY", "virStorageVolLookupByKey").served(connection!(
        LookupStorageVolByKey,
        |key: String| key,
        |volume| volume.handle()
    )),
    c(97, "STORAGE_VOL_LOOKUP_BY_PATH", "virStorageVolLookupByPath").served(connection!(
        LookupStorageVolByPath,
        |path: String| path,
        |volume| volume.handle()
    )),
    c(98, "STORAGE_VOL_GET_INFO", "virStorageVolGetInfo").served(object!(GetStorageVolInfo, |()| (), volume_info)),
    c(99, "STORAGE_VOL_GET_XML_DESC", "virStorageVolGetXMLDesc").served(object!(
        GetStorageVolXmlDesc,
        |flags: u32| flags,
        |xml| xml
    )),
    c(100, "STORAGE_VOL_GET_PATH", "virStorageVolGetPath").served(object!(GetStorageVolPath, |()| (), |path| path)),
    c(125, "STORAGE_VOL_CREATE_XML_FROM", "virStorageVolCreateXMLFrom"),
    c(154, "STORAGE_POOL_IS_ACTIVE", "virStoragePoolIsActive").served(object!(StoragePoolIsActive, |()| (), |is| is)),
    c(155, "STORAGE_POOL_IS_PERSISTENT", "virStoragePoolIsPersistent").served(object!(
        StoragePoolIsPersistent,
        |()| (),
        |is| is
    )),
    c(165, "STORAGE_VOL_WIPE", "virStorageVolWipe"),
    c(208, "STORAGE_VOL_UPLOAD", "virStorageVolUpload"),
    c(209, "STORAGE_VOL_DOWNLOAD", "virStorageVolDownload"),
    c(259, "STORAGE_VOL_WIPE_PATTERN", "virStorageVolWipePattern"),
    c(260, "STORAGE_VOL_RESIZE", "virStorageVolResize"),
    c(281, "CONNECT_LIST_ALL_STORAGE_POOLS", "virConnectListAllStoragePools").served(list!(ListAllStoragePools)),
    c(282, "STORAGE_POOL_LIST_ALL_VOLUMES", "virStoragePoolListAllVolumes")
        .served((<StoragePoolListAllVolumes as api::Call>::INFO.class, all_volumes)),
    c(368, "CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY", "virConnectStoragePoolEventRegisterAny")
        .served((Class::Read, session::register_pool_event)),
    c(369, "CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY", "virConnectStoragePoolEventDeregisterAny")
        .served((Class::Read, session::deregister_pool_event)),
    c(378, "STORAGE_VOL_GET_INFO_FLAGS", "virStorageVolGetInfoFlags")
        .served((<GetStorageVolInfoFlags as api::Call>::INFO.class, volume_info_flags)),
    c(391, "STORAGE_POOL_LOOKUP_BY_TARGET_PATH", "virStoragePoolLookupByTargetPath").served(connection!(
        LookupStoragePoolByTargetPath,
        |path: String| path,
        |pool| pool.handle()
    )),
    c(403, "CONNECT_GET_STORAGE_POOL_CAPABILITIES", "virConnectGetStoragePoolCapabilities").served(connection!(
        GetStoragePoolCapabilities,
        |flags: u32| flags,
        |xml| xml
    )),
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
