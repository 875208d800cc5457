//! Storage volumes: found and looked at.

use super::{call, check_host_flags};
use crate::engine::Connection;
use crate::engine::storage::{StoragePool, StorageVol};
use crate::error::{Code, Error};

/// `virStorageVolInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeInfo {
    /// `virStorageVolType`
    pub kind: i32,
    /// Bytes.
    pub capacity: u64,
    /// Bytes; the physical size where that was asked for.
    pub allocation: u64,
}

/// `VIR_STORAGE_VOL_GET_PHYSICAL`
const GET_PHYSICAL: u32 = 1;

async fn info(volume: &StorageVol, physical: bool) -> crate::error::Result<VolumeInfo> {
    let def = volume.current().await?;
    let allocation = if physical { def.physical.unwrap_or_default() } else { def.allocation };
    Ok(VolumeInfo { kind: def.kind as i32, capacity: def.capacity, allocation })
}

call! {
    /// The volumes of a running pool, by name. Error: code 55.
    StoragePoolListAllVolumes = "virStoragePoolListAllVolumes", Read,
        "storage_pool:search_storage_vols" only "storage_vol:getattr";
    (caller, on: StoragePool, flags => u32) -> Vec<StorageVol> {
        check_host_flags(flags, 0, "virStoragePoolListAllVolumes")?;
        caller.permit::<Self>().visible(on.all_volumes()?).await
    }
}

call! {
    /// By name in its pool. Errors: code 55, 50.
    LookupStorageVolByName = "virStorageVolLookupByName", Read, "storage_vol:getattr";
    (caller, on: StoragePool, name => String) -> StorageVol { caller.permit::<Self>().found(on.volume(&name)?).await }
}

call! {
    /// By key among all running pools. Error: code 50.
    LookupStorageVolByKey = "virStorageVolLookupByKey", Read, "storage_vol:getattr";
    (caller, on: Connection, key => String) -> StorageVol {
        caller.permit::<Self>().found(on.host().volume_by_key(&key)?).await
    }
}

call! {
    /// By path among all running pools. Error: code 50.
    LookupStorageVolByPath = "virStorageVolLookupByPath", Read, "storage_vol:getattr";
    (caller, on: Connection, path => String) -> StorageVol {
        caller.permit::<Self>().found(on.host().volume_by_path(&path)?).await
    }
}

call! {
    /// Type and sizes as they are now.
    GetStorageVolInfo = "virStorageVolGetInfo", Read, "storage_vol:read";
    (caller, on: StorageVol, () => ()) -> VolumeInfo { info(on, false).await }
}

call! {
    /// The same; with a flag the physical size instead of the allocation.
    GetStorageVolInfoFlags = "virStorageVolGetInfoFlags", Read, "storage_vol:read";
    (caller, on: StorageVol, flags => u32) -> VolumeInfo {
        check_host_flags(flags, GET_PHYSICAL, "virStorageVolGetInfoFlags")?;
        info(on, flags & GET_PHYSICAL != 0).await
    }
}

call! {
    /// `<volume>` as it is now.
    GetStorageVolXmlDesc = "virStorageVolGetXMLDesc", Read, "storage_vol:read";
    (caller, on: StorageVol, flags => u32) -> String {
        check_host_flags(flags, 0, "virStorageVolGetXMLDesc")?;
        Ok(crate::disk::volume::format(on.current().await?.as_ref()))
    }
}

call! {
    /// Where it is in the host's file system.
    GetStorageVolPath = "virStorageVolGetPath", Read, "storage_vol:read";
    (caller, on: StorageVol, () => ()) -> String {
        on.def()?.target.path.clone().ok_or_else(|| Error::new(Code::NoStorageVol, on.name.clone()))
    }
}
