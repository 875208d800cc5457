//! What no guest of this daemon has: block jobs, checkpoints, backups, memory that is encrypted at its launch. Asked for
//! it, the answer is libvirt's for a guest without.

use super::{call, check_flags};
use crate::engine::driver::DriverKind;
use crate::engine::{Connection, Domain};
use crate::error::{Code, Error, Result};
use crate::types::TypedParams;

/// `VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES`.
const BANDWIDTH_BYTES: u32 = 1;
/// `virDomainBlockJobAbortFlags`: asynchronous, pivot.
const ABORT_FLAGS: u32 = 3;
/// `VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES`.
const SPEED_BYTES: u32 = 1;
/// `virDomainCheckpointListFlags`: roots, topological, no leaves, leaves, with and without metadata.
const CHECKPOINT_LIST: u32 = 127;

/// Only some drivers have a notion of it at all.
fn only(on: &Domain, drivers: &[DriverKind], function: &'static str) -> Result<()> {
    if drivers.contains(&on.runtime().kind()) { Ok(()) } else { Err(Error::no_support(function)) }
}

/// Arguments of the calls about a block job.
#[derive(Clone, Debug)]
pub struct BlockJobArgs {
    /// Target (`vda`) or source.
    pub disk: String,
    pub flags: u32,
}

/// The target of a disk of the running guest. Errors: 55 when it does not run, 8 when it has no such disk.
fn disk(on: &Domain, wanted: &str) -> Result<String> {
    let snapshot = on.snapshot();
    let live = snapshot.live.as_ref().filter(|_| snapshot.active());
    let live = live.ok_or_else(|| Error::invalid_state("domain is not running"))?;
    let found = live.disks.iter().find(|disk| disk.dev() == wanted || disk.source.path.as_deref() == Some(wanted));
    let missing = || Error::invalid_arg(format!("disk '{wanted}' not found in domain"));
    Ok(found.ok_or_else(missing)?.dev().to_string())
}

fn no_job(on: &Domain, wanted: &str) -> Error {
    match disk(on, wanted) {
        Ok(target) => Error::invalid_arg(format!("disk {target} does not have an active block job")),
        Err(error) => error,
    }
}

call! {
    /// Whether there is a job on a disk: there is none.
    GetBlockJobInfo = "virDomainGetBlockJobInfo", Read, "domain:read";
    (caller, on: Domain, BlockJobArgs { disk: wanted, flags } => BlockJobArgs) -> bool {
        only(on, &[DriverKind::Qemu], "virDomainGetBlockJobInfo")?;
        check_flags(on, flags, BANDWIDTH_BYTES, "virDomainGetBlockJobInfo")?;
        disk(on, &wanted).map(|_| false)
    }
}

call! {
    /// Ends the job on a disk. Errors: code 8, for there is none.
    BlockJobAbort = "virDomainBlockJobAbort", Write, "domain:write";
    (caller, on: Domain, BlockJobArgs { disk: wanted, flags } => BlockJobArgs) -> () {
        only(on, &[DriverKind::Qemu], "virDomainBlockJobAbort")?;
        check_flags(on, flags, ABORT_FLAGS, "virDomainBlockJobAbort")?;
        Err(no_job(on, &wanted))
    }
}

call! {
    /// How fast the job on a disk may be. Errors: code 8, for there is none.
    BlockJobSetSpeed = "virDomainBlockJobSetSpeed", Write, "domain:write";
    (caller, on: Domain, BlockJobArgs { disk: wanted, flags } => BlockJobArgs) -> () {
        only(on, &[DriverKind::Qemu], "virDomainBlockJobSetSpeed")?;
        check_flags(on, flags, SPEED_BYTES, "virDomainBlockJobSetSpeed")?;
        Err(no_job(on, &wanted))
    }
}

call! {
    /// The checkpoints of a domain: none.
    ListAllCheckpoints = "virDomainListAllCheckpoints", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> () {
        only(on, &[DriverKind::Qemu, DriverKind::Test], "virDomainListAllCheckpoints")?;
        check_flags(on, flags, CHECKPOINT_LIST, "virDomainListAllCheckpoints")
    }
}

call! {
    /// A checkpoint by its name. Errors: code 103, for there is none.
    CheckpointLookupByName = "virDomainCheckpointLookupByName", Read, "domain:read";
    (caller, on: Domain, (name, flags) => (String, u32)) -> () {
        only(on, &[DriverKind::Qemu, DriverKind::Test], "virDomainCheckpointLookupByName")?;
        check_flags(on, flags, 0, "virDomainCheckpointLookupByName")?;
        Err(Error::new(Code::NoDomainCheckpoint, format!("no domain checkpoint with matching name '{name}'")))
    }
}

call! {
    /// The backup that runs. Errors: code 104, for there is none.
    BackupGetXmlDesc = "virDomainBackupGetXMLDesc", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> () {
        only(on, &[DriverKind::Qemu], "virDomainBackupGetXMLDesc")?;
        check_flags(on, flags, 0, "virDomainBackupGetXMLDesc")?;
        Err(Error::new(Code::NoDomainBackup, "no domain backup job present"))
    }
}

call! {
    /// What a guest with encrypted memory shows of its launch: nothing, for a driver refuses to start one.
    GetLaunchSecurityInfo = "virDomainGetLaunchSecurityInfo", Read, "domain:read";
    (caller, on: Domain, _flags => u32) -> TypedParams {
        only(on, &[DriverKind::Qemu, DriverKind::Test], "virDomainGetLaunchSecurityInfo")?;
        Ok(TypedParams::new())
    }
}

call! {
    /// Gives such a guest its secret. Errors: code 84, for it is none.
    SetLaunchSecurityState = "virDomainSetLaunchSecurityState", Write, "domain:write";
    (caller, on: Domain, params => TypedParams) -> () {
        only(on, &[DriverKind::Qemu], "virDomainSetLaunchSecurityState")?;
        if params.0.is_empty() {
            return Err(Error::bare_arg("params in virDomainSetLaunchSecurityState must not be NULL"));
        }
        Err(Error::new(
            Code::OperationUnsupported,
            "setting a launch secret is only supported in SEV-enabled domains",
        ))
    }
}

call! {
    /// What the host offers such guests. Errors: code 84, for no guest here can use it.
    NodeGetSevInfo = "virNodeGetSEVInfo", Read, "connect:read";
    (caller, on: Connection, flags => u32) -> () {
        if on.kind() != DriverKind::Qemu {
            return Err(Error::no_support("virNodeGetSEVInfo"));
        }
        check_flags(on, flags, 4, "virNodeGetSEVInfo")?;
        Err(Error::new(Code::OperationUnsupported, "QEMU does not support SEV guest"))
    }
}
