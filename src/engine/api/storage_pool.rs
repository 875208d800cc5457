//! Storage pools.

use super::{call, check_host_flags};
use crate::disk::pool::mount::Format;
use crate::disk::pool::{self, PoolType, capabilities};
use crate::engine::Connection;
use crate::engine::api::XmlFlags;
use crate::engine::objects::definition;
use crate::engine::storage::{self, BuildMode, PoolInfo, PoolKind, StoragePool, StorageVol};
use crate::error::{Error, Result};
use crate::types::Uuid;
use crate::types::flags::storage_pool as bits;

/// `virConnectFindStoragePoolSources`: pool type and a `<source>` element that says where to look.
#[derive(Clone, Debug)]
pub struct FindSourcesArgs {
    pub kind: String,
    pub spec: Option<String>,
    pub flags: u32,
}

/// How a start builds, by `virStoragePoolCreateFlags`.
fn build_of_create(flags: u32) -> Result<BuildMode> {
    use bits::create::{BUILD, BUILD_NO_OVERWRITE, BUILD_OVERWRITE};
    let prefix = "VIR_STORAGE_POOL_CREATE_WITH_BUILD";
    exclusive(flags, (BUILD_OVERWRITE, BUILD_NO_OVERWRITE), prefix)?;
    Ok(match flags {
        flags if flags & BUILD_OVERWRITE != 0 => Some(Format::Always),
        flags if flags & BUILD_NO_OVERWRITE != 0 => Some(Format::IfEmpty),
        flags if flags & BUILD != 0 => Some(Format::Keep),
        _ => None,
    })
}

fn exclusive(flags: u32, (overwrite, no_overwrite): (u32, u32), prefix: &str) -> Result<()> {
    if flags & overwrite == 0 || flags & no_overwrite == 0 {
        return Ok(());
    }
    Err(Error::bare_arg(format!("Flags '{prefix}_OVERWRITE' and '{prefix}_NO_OVERWRITE' are mutually exclusive")))
}

/// A type's bit of `virConnectListAllStoragePoolsFlags`.
fn list_bit(kind: PoolType) -> u32 {
    match kind {
        PoolType::Dir => 1 << 6,
        PoolType::Fs => 1 << 7,
        PoolType::Netfs => 1 << 8,
        PoolType::Logical => 1 << 9,
        PoolType::Disk => 1 << 10,
        PoolType::Iscsi => 1 << 11,
        PoolType::Scsi => 1 << 12,
        PoolType::Mpath => 1 << 13,
        PoolType::Rbd => 1 << 14,
        PoolType::Sheepdog => 1 << 15,
        PoolType::Gluster => 1 << 16,
        PoolType::Zfs => 1 << 17,
        PoolType::Vstorage => 1 << 18,
        PoolType::IscsiDirect => 1 << 19,
    }
}

/// Whether a pool is in a list with `virConnectListAllStoragePoolsFlags`: of each group with a bit set, one must fit.
fn matches(pool: &StoragePool, flags: u32) -> bool {
    let state = pool.state();
    let group = |yes: u32, no: u32, fact: bool| flags & (yes | no) == 0 || flags & (if fact { yes } else { no }) != 0;
    let kind = state.def().map(|def| list_bit(def.kind)).unwrap_or_default();
    group(bits::list::ACTIVE, bits::list::INACTIVE, state.active())
        && group(bits::list::PERSISTENT, bits::list::TRANSIENT, state.persistent())
        && group(bits::list::AUTOSTART, bits::list::NO_AUTOSTART, state.autostart)
        && (flags & bits::list::TYPES == 0 || flags & kind != 0)
}

fn pools(on: &Connection, flags: u32) -> Vec<StoragePool> {
    on.host().pools.all().into_iter().filter(|pool| matches(pool, flags)).collect()
}

call! {
    /// Pools with `virConnectListAllStoragePoolsFlags`, by name.
    ListAllStoragePools = "virConnectListAllStoragePools", Read,
        "connect:search_storage_pools" only "storage_pool:getattr";
    (caller, on: Connection, flags => u32) -> Vec<StoragePool> {
        check_host_flags(flags, bits::list::ALL, "virConnectListAllStoragePools")?;
        caller.permit::<Self>().visible(pools(on, flags)).await
    }
}

call! {
    /// `<sources>` of the host or a server. Errors: code 3 for types without, 8, 9.
    FindStoragePoolSources = "virConnectFindStoragePoolSources", Write, "connect:detect_storage_pools";
    (caller, on: Connection, args => FindSourcesArgs) -> String {
        check_host_flags(args.flags, 0, "virConnectFindStoragePoolSources")?;
        storage::find_sources(&args.kind, args.spec.as_deref(), on.host().context.set).await
    }
}

call! {
    /// `<storagepoolCapabilities>`
    GetStoragePoolCapabilities = "virConnectGetStoragePoolCapabilities", Read, "connect:read";
    (caller, on: Connection, flags => u32) -> String {
        check_host_flags(flags, 0, "virConnectGetStoragePoolCapabilities")?;
        Ok(capabilities::capabilities())
    }
}

call! {
    /// By name.
    LookupStoragePoolByName = "virStoragePoolLookupByName", Read, "storage_pool:getattr";
    (caller, on: Connection, name => String) -> StoragePool {
        caller.permit::<Self>().found(on.host().pools.by_name(&name)?).await
    }
}

call! {
    /// By UUID.
    LookupStoragePoolByUuid = "virStoragePoolLookupByUUID", Read, "storage_pool:getattr";
    (caller, on: Connection, uuid => Uuid) -> StoragePool {
        caller.permit::<Self>().found(on.host().pools.by_uuid(uuid)?).await
    }
}

call! {
    /// The pool of a volume.
    LookupStoragePoolByVolume = "virStoragePoolLookupByVolume", Read, "storage_pool:getattr";
    (caller, on: StorageVol, () => ()) -> StoragePool { caller.permit::<Self>().found(on.pool.clone()).await }
}

call! {
    /// The running pool whose target is this path.
    LookupStoragePoolByTargetPath = "virStoragePoolLookupByTargetPath", Read, "storage_pool:getattr";
    (caller, on: Connection, path => String) -> StoragePool {
        caller.permit::<Self>().found(on.host().pool_by_target(&path)?).await
    }
}

call! {
    /// Starts a pool that is gone when it stops. Flags: `virStoragePoolCreateFlags`.
    CreateStoragePoolXml = "virStoragePoolCreateXML", Write, "storage_pool:start", "storage_pool:write";
    (caller, on: Connection, args => XmlFlags) -> StoragePool {
        check_host_flags(args.flags, bits::create::ALL, "virStoragePoolCreateXML")?;
        let build = build_of_create(args.flags)?;
        caller.permit::<Self>().on_new("storage_pool", || Ok(definition::<PoolKind>(&pool::parse(&args.xml)?.def))).await?;
        on.host().create_pool(&args.xml, args.flags & bits::create::VALIDATE != 0, build).await
    }
}

call! {
    /// Makes a pool persistent. Flags: `virStoragePoolDefineFlags`.
    DefineStoragePoolXml = "virStoragePoolDefineXML", Write, "storage_pool:write", "storage_pool:save";
    (caller, on: Connection, args => XmlFlags) -> StoragePool {
        check_host_flags(args.flags, bits::DEFINE_VALIDATE, "virStoragePoolDefineXML")?;
        caller.permit::<Self>().on_new("storage_pool", || Ok(definition::<PoolKind>(&pool::parse(&args.xml)?.def))).await?;
        on.host().define_pool(&args.xml, args.flags & bits::DEFINE_VALIDATE != 0).await
    }
}

call! {
    /// Starts it. Flags: `virStoragePoolCreateFlags`.
    CreateStoragePool = "virStoragePoolCreate", Write, "storage_pool:start";
    (caller, on: StoragePool, flags => u32) -> () {
        check_host_flags(flags, bits::create::STARTS, "virStoragePoolCreate")?;
        on.start(build_of_create(flags)?).await
    }
}

call! {
    /// Prepares its storage. Flags: `virStoragePoolBuildFlags`.
    BuildStoragePool = "virStoragePoolBuild", Write, "storage_pool:format";
    (caller, on: StoragePool, flags => u32) -> () {
        use bits::build::{NO_OVERWRITE, OVERWRITE};
        check_host_flags(flags, OVERWRITE | NO_OVERWRITE, "virStoragePoolBuild")?;
        exclusive(flags, (OVERWRITE, NO_OVERWRITE), "VIR_STORAGE_POOL_BUILD")?;
        on.build(match flags {
            OVERWRITE => Format::Always,
            NO_OVERWRITE => Format::IfEmpty,
            _ => Format::Keep,
        })
        .await
    }
}

call! {
    /// Stops it; what it holds stays.
    DestroyStoragePool = "virStoragePoolDestroy", Write, "storage_pool:stop";
    (caller, on: StoragePool, () => ()) -> () { on.stop().await }
}

call! {
    /// Removes its storage for good.
    DeleteStoragePool = "virStoragePoolDelete", Write, "storage_pool:format";
    (caller, on: StoragePool, flags => u32) -> () {
        // Not even libvirt writes zeros over it.
        check_host_flags(flags, 0, "virStoragePoolDelete")?;
        on.delete().await
    }
}

call! {
    /// Forgets its definition.
    UndefineStoragePool = "virStoragePoolUndefine", Write, "storage_pool:delete";
    (caller, on: StoragePool, () => ()) -> () { on.undefine().await }
}

call! {
    /// Looks at all volumes again.
    RefreshStoragePool = "virStoragePoolRefresh", Write, "storage_pool:refresh";
    (caller, on: StoragePool, flags => u32) -> () {
        check_host_flags(flags, 0, "virStoragePoolRefresh")?;
        on.refresh().await
    }
}

call! {
    /// State and sizes.
    GetStoragePoolInfo = "virStoragePoolGetInfo", Read, "storage_pool:read";
    (caller, on: StoragePool, () => ()) -> PoolInfo { Ok(on.info()) }
}

call! {
    /// The definition. Flags: `virStorageXMLFlags`.
    GetStoragePoolXmlDesc = "virStoragePoolGetXMLDesc", Read, "storage_pool:read";
    (caller, on: StoragePool, flags => u32) -> String {
        check_host_flags(flags, bits::XML_INACTIVE, "virStoragePoolGetXMLDesc")?;
        on.xml(flags & bits::XML_INACTIVE != 0)
    }
}

call! {
    /// Whether it is started with the daemon.
    GetStoragePoolAutostart = "virStoragePoolGetAutostart", Read, "storage_pool:read";
    (caller, on: StoragePool, () => ()) -> bool { Ok(on.state().autostart) }
}

call! {
    /// Sets that.
    SetStoragePoolAutostart = "virStoragePoolSetAutostart", Write, "storage_pool:write";
    (caller, on: StoragePool, on_start => bool) -> () { on.set_autostart(on_start).await }
}

call! {
    /// Whether it runs.
    StoragePoolIsActive = "virStoragePoolIsActive", Read, "storage_pool:read";
    (caller, on: StoragePool, () => ()) -> bool { Ok(on.state().active()) }
}

call! {
    /// Whether it has a definition that outlives its run.
    StoragePoolIsPersistent = "virStoragePoolIsPersistent", Read, "storage_pool:read";
    (caller, on: StoragePool, () => ()) -> bool { Ok(on.state().persistent()) }
}
