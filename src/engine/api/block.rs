//! Sizes and errors of disks.

use super::{call, check_flags};
use crate::disk;
use crate::domain_xml::device::{Disk, StorageFormat, StorageKind};
use crate::engine::Domain;
use crate::engine::cleanup::run_blocking;
use crate::error::{Code, Error, Result};
use crate::types::flags::stats;
use crate::types::{ParamValue, TypedParams};

/// Arguments of `virDomainGetBlockInfo`.
#[derive(Clone, Debug)]
pub struct BlockInfoArgs {
    /// Target (`vda`) or source of the disk.
    pub disk: String,
    pub flags: u32,
}

/// `virDomainBlockInfo`, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockInfo {
    /// What the guest sees.
    pub capacity: u64,
    /// What is used on the host; of a running guest on a block device, the highest byte written.
    pub allocation: u64,
    /// How long the file or device is.
    pub physical: u64,
}

fn find<'d>(disks: &'d [Disk], wanted: &str) -> Result<&'d Disk> {
    let found = disks.iter().find(|disk| disk.dev() == wanted || disk.source.path.as_deref() == Some(wanted));
    found.ok_or_else(|| Error::invalid_arg(format!("invalid path {wanted} not assigned to domain")))
}

/// What the hypervisor says of the disk with this target.
fn measured(all: &TypedParams, target: &str) -> Option<BlockInfo> {
    let count = match all.get("block.count") {
        Some(ParamValue::Uint(count)) => *count,
        _ => 0,
    };
    let is = |at: &u32| matches!(all.get(&format!("block.{at}.name")), Some(ParamValue::Str(name)) if name == target);
    let at = (0..count).find(is)?;
    let number = |field: &str| match all.get(&format!("block.{at}.{field}")) {
        Some(ParamValue::Ullong(value)) => Some(*value),
        _ => None,
    };
    Some(BlockInfo {
        capacity: number("capacity")?,
        allocation: number("allocation").unwrap_or(0),
        physical: number("physical").unwrap_or(0),
    })
}

/// What the image says of itself. Errors: code 38 with the path; code 84 for what is no file or device of this host.
async fn from_image(disk: &Disk) -> Result<BlockInfo> {
    let source = &disk.source;
    let Some(path) = source.path.clone().filter(|_| matches!(source.kind, StorageKind::File | StorageKind::Block))
    else {
        if source.is_empty() {
            return Err(Error::invalid_arg(format!("disk '{}' does not currently have a source assigned", disk.dev())));
        }
        let what =
            format!("the size of disk '{}' is not known while the domain is off: its source is remote", disk.dev());
        return Err(Error::new(Code::OperationUnsupported, what));
    };
    let format = match source.format {
        Some(StorageFormat::Qcow2) => disk::Format::Qcow2,
        _ => disk::Format::Raw,
    };
    let (capacity, allocation, physical) = run_blocking(move || disk::sizes(path.as_ref(), format)).await?;
    Ok(BlockInfo { capacity, allocation, physical })
}

call! {
    /// How large a disk is for the guest and on the host.
    GetBlockInfo = "virDomainGetBlockInfo", Read, "domain:read";
    (caller, on: Domain, BlockInfoArgs { disk, flags } => BlockInfoArgs) -> BlockInfo {
        check_flags(on, flags, 0, "virDomainGetBlockInfo")?;
        if disk.is_empty() {
            return Err(Error::invalid_arg("NULL or empty path"));
        }
        let snapshot = on.snapshot();
        let def = snapshot.current().ok_or_else(|| on.gone())?.clone();
        let disk = find(&def.disks, &disk)?;
        let told = match &snapshot.instance {
            Some(instance) => measured(&instance.stats(stats::BLOCK, false).await, disk.dev()),
            None => None,
        };
        let image = from_image(disk).await;
        match (told, image) {
            // An image in use may be longer than when QEMU was asked: its own length is the file's.
            (Some(told), Ok(image)) => Ok(BlockInfo {
                allocation: match disk.source.kind {
                    StorageKind::Block => told.allocation,
                    _ => image.allocation,
                },
                physical: image.physical,
                ..told
            }),
            (Some(told), Err(_)) => Ok(told),
            (None, image) => image,
        }
    }
}

call! {
    /// Disks whose requests fail, by target, with what fails (1: some error, 2: no space).
    GetDiskErrors = "virDomainGetDiskErrors", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> Vec<(String, i32)> {
        check_flags(on, flags, 0, "virDomainGetDiskErrors")?;
        match &on.snapshot().instance {
            Some(instance) => instance.disk_errors().await,
            None => Err(Error::invalid_state("domain is not running")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_measured_by_its_target() {
        let mut all = TypedParams::new();
        all.uint("block.count", 2);
        all.string("block.0.name", "vda");
        all.string("block.1.name", "vdb");
        all.ullong("block.1.capacity", 10);
        all.ullong("block.1.physical", 4);
        assert_eq!(measured(&all, "vdb"), Some(BlockInfo { capacity: 10, allocation: 0, physical: 4 }));
        assert_eq!(measured(&all, "vda"), None, "it said nothing of its size");
        assert_eq!(measured(&all, "vdc"), None);
    }
}
