//! Procedures of snapshots, checkpoints and migration.

#![allow(clippy::needless_pass_by_value, reason = "codecs take what the engine gives")]

use super::{Procedure, c};
use crate::engine::api::{
    CheckpointLookupByName, HasCurrentSnapshot, ListAllCheckpoints, ListAllSnapshots, RevertToSnapshot,
    SnapshotCreateXml, SnapshotCurrent, SnapshotDelete, SnapshotGetParent, SnapshotGetXmlDesc, SnapshotHasMetadata,
    SnapshotIsCurrent, SnapshotListAllChildren, SnapshotLookupByName, XmlFlags,
};
use crate::engine::domain::DomainSnapshot;
use crate::rpc::call::object;
use crate::rpc::wire::{Remote, SnapshotHandle};

fn count(snapshots: &[DomainSnapshot]) -> i32 {
    i32::try_from(snapshots.len()).unwrap_or(i32::MAX)
}

fn names(snapshots: Vec<DomainSnapshot>) -> Vec<String> {
    snapshots.into_iter().map(|snapshot| snapshot.name).collect()
}

fn handles(snapshots: Vec<DomainSnapshot>) -> (Vec<SnapshotHandle>, i32) {
    (snapshots.iter().map(Remote::handle).collect(), count(&snapshots))
}

pub(super) const SNAPSHOT: &[Procedure] = &[
    c(185, "DOMAIN_SNAPSHOT_CREATE_XML", "virDomainSnapshotCreateXML").served(object!(
        SnapshotCreateXml,
        |(xml, flags): (String, u32)| XmlFlags { xml, flags },
        |snapshot| snapshot.handle()
    )),
    c(186, "DOMAIN_SNAPSHOT_GET_XML_DESC", "virDomainSnapshotGetXMLDesc").served(object!(
        SnapshotGetXmlDesc,
        |flags: u32| flags,
        |xml| xml
    )),
    c(187, "DOMAIN_SNAPSHOT_NUM", "virDomainSnapshotNum").served(object!(
        ListAllSnapshots,
        |flags: u32| flags,
        |snapshots| count(&snapshots)
    )),
    c(188, "DOMAIN_SNAPSHOT_LIST_NAMES", "virDomainSnapshotListNames").served(object!(
        ListAllSnapshots,
        |(_most, flags): (i32, u32)| flags,
        names
    )),
    c(189, "DOMAIN_SNAPSHOT_LOOKUP_BY_NAME", "virDomainSnapshotLookupByName").served(object!(
        SnapshotLookupByName,
        |args: (String, u32)| args,
        |snapshot| snapshot.handle()
    )),
    c(190, "DOMAIN_HAS_CURRENT_SNAPSHOT", "virDomainHasCurrentSnapshot").served(object!(
        HasCurrentSnapshot,
        |flags: u32| flags,
        i32::from
    )),
    c(191, "DOMAIN_SNAPSHOT_CURRENT", "virDomainSnapshotCurrent").served(object!(
        SnapshotCurrent,
        |flags: u32| flags,
        |snapshot| snapshot.handle()
    )),
    c(192, "DOMAIN_REVERT_TO_SNAPSHOT", "virDomainRevertToSnapshot").served(object!(
        RevertToSnapshot,
        |flags: u32| flags,
        |()| ()
    )),
    c(193, "DOMAIN_SNAPSHOT_DELETE", "virDomainSnapshotDelete").served(object!(
        SnapshotDelete,
        |flags: u32| flags,
        |()| ()
    )),
    c(244, "DOMAIN_SNAPSHOT_GET_PARENT", "virDomainSnapshotGetParent").served(object!(
        SnapshotGetParent,
        |flags: u32| flags,
        |snapshot| snapshot.handle()
    )),
    c(246, "DOMAIN_SNAPSHOT_NUM_CHILDREN", "virDomainSnapshotNumChildren").served(object!(
        SnapshotListAllChildren,
        |flags: u32| flags,
        |snapshots| count(&snapshots)
    )),
    c(247, "DOMAIN_SNAPSHOT_LIST_CHILDREN_NAMES", "virDomainSnapshotListChildrenNames").served(object!(
        SnapshotListAllChildren,
        |(_most, flags): (i32, u32)| flags,
        names
    )),
    c(271, "DOMAIN_SNAPSHOT_IS_CURRENT", "virDomainSnapshotIsCurrent").served(object!(
        SnapshotIsCurrent,
        |flags: u32| flags,
        i32::from
    )),
    c(272, "DOMAIN_SNAPSHOT_HAS_METADATA", "virDomainSnapshotHasMetadata").served(object!(
        SnapshotHasMetadata,
        |flags: u32| flags,
        i32::from
    )),
    c(274, "DOMAIN_LIST_ALL_SNAPSHOTS", "virDomainListAllSnapshots").served(object!(
        ListAllSnapshots,
        |(_need_results, flags): (bool, u32)| flags,
        handles
    )),
    c(275, "DOMAIN_SNAPSHOT_LIST_ALL_CHILDREN", "virDomainSnapshotListAllChildren").served(object!(
        SnapshotListAllChildren,
        |(_need_results, flags): (bool, u32)| flags,
        handles
    )),
    c(411, "DOMAIN_CHECKPOINT_CREATE_XML", "virDomainCheckpointCreateXML"),
    c(412, "DOMAIN_CHECKPOINT_GET_XML_DESC", "virDomainCheckpointGetXMLDesc"),
    c(413, "DOMAIN_LIST_ALL_CHECKPOINTS", "virDomainListAllCheckpoints").served(object!(
        ListAllCheckpoints,
        |(_need_results, flags): (bool, u32)| flags,
        |()| (Vec::<SnapshotHandle>::new(), 0i32)
    )),
    c(414, "DOMAIN_CHECKPOINT_LIST_ALL_CHILDREN", "virDomainCheckpointListAllChildren"),
    c(415, "DOMAIN_CHECKPOINT_LOOKUP_BY_NAME", "virDomainCheckpointLookupByName").served(object!(
        CheckpointLookupByName,
        |args: (String, u32)| args,
        |()| ()
    )),
    c(416, "DOMAIN_CHECKPOINT_GET_PARENT", "virDomainCheckpointGetParent"),
    c(417, "DOMAIN_CHECKPOINT_DELETE", "virDomainCheckpointDelete"),
];

pub(super) const MIGRATE: &[Procedure] = &[
    c(61, "DOMAIN_MIGRATE_PREPARE", "virDomainMigratePrepare"),
    c(62, "DOMAIN_MIGRATE_PERFORM", "virDomainMigratePerform"),
    c(63, "DOMAIN_MIGRATE_FINISH", "virDomainMigrateFinish"),
    c(108, "DOMAIN_MIGRATE_PREPARE2", "virDomainMigratePrepare2"),
    c(109, "DOMAIN_MIGRATE_FINISH2", "virDomainMigrateFinish2"),
    c(148, "DOMAIN_MIGRATE_PREPARE_TUNNEL", "virDomainMigratePrepareTunnel"),
    c(166, "DOMAIN_MIGRATE_SET_MAX_DOWNTIME", "virDomainMigrateSetMaxDowntime"),
    c(207, "DOMAIN_MIGRATE_SET_MAX_SPEED", "virDomainMigrateSetMaxSpeed"),
    c(213, "DOMAIN_MIGRATE_BEGIN3", "virDomainMigrateBegin3"),
    c(214, "DOMAIN_MIGRATE_PREPARE3", "virDomainMigratePrepare3"),
    c(215, "DOMAIN_MIGRATE_PREPARE_TUNNEL3", "virDomainMigratePrepareTunnel3"),
    c(216, "DOMAIN_MIGRATE_PERFORM3", "virDomainMigratePerform3"),
    c(217, "DOMAIN_MIGRATE_FINISH3", "virDomainMigrateFinish3"),
    c(218, "DOMAIN_MIGRATE_CONFIRM3", "virDomainMigrateConfirm3"),
    c(242, "DOMAIN_MIGRATE_GET_MAX_SPEED", "virDomainMigrateGetMaxSpeed"),
    c(299, "DOMAIN_MIGRATE_GET_COMPRESSION_CACHE", "virDomainMigrateGetCompressionCache"),
    c(300, "DOMAIN_MIGRATE_SET_COMPRESSION_CACHE", "virDomainMigrateSetCompressionCache"),
    c(302, "DOMAIN_MIGRATE_BEGIN3_PARAMS", "virDomainMigrateBegin3Params"),
    c(303, "DOMAIN_MIGRATE_PREPARE3_PARAMS", "virDomainMigratePrepare3Params"),
    c(304, "DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS", "virDomainMigratePrepareTunnel3Params"),
    c(305, "DOMAIN_MIGRATE_PERFORM3_PARAMS", "virDomainMigratePerform3Params"),
    c(306, "DOMAIN_MIGRATE_FINISH3_PARAMS", "virDomainMigrateFinish3Params"),
    c(307, "DOMAIN_MIGRATE_CONFIRM3_PARAMS", "virDomainMigrateConfirm3Params"),
    c(364, "DOMAIN_MIGRATE_START_POST_COPY", "virDomainMigrateStartPostCopy"),
    c(387, "DOMAIN_MIGRATE_GET_MAX_DOWNTIME", "virDomainMigrateGetMaxDowntime"),
];
