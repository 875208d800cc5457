//! The typed pool definition. See [`super`] for how it is read and written.

use crate::disk::permissions::Permissions;
use crate::domain_xml::device::SecretRef;
use crate::domain_xml::words::{YesNo, words};
use crate::types::{PciAddress, Uuid};

words! {
    /// `<pool type>`.
    pub enum PoolType {
        Dir = "dir", Fs = "fs", Netfs = "netfs", Logical = "logical", Disk = "disk", Iscsi = "iscsi",
        IscsiDirect = "iscsi-direct", Scsi = "scsi", Mpath = "mpath", Rbd = "rbd", Sheepdog = "sheepdog",
        Gluster = "gluster", Zfs = "zfs", Vstorage = "vstorage",
    }

    /// `<refresh><volume allocation>`: how a volume's allocation is found out.
    pub enum RefreshAllocation { Default = "default", Capacity = "capacity" }

    /// `<adapter type>`.
    pub enum AdapterType { ScsiHost = "scsi_host", FcHost = "fc_host" }

    /// `<auth type>` of a pool's source.
    pub enum PoolAuthType { Chap = "chap", Ceph = "ceph" }
}

/// What a source of a pool type consists of, and what it is when nothing is said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub hosts: bool,
    pub devices: bool,
    pub dir: bool,
    pub adapter: bool,
    pub name: bool,
    pub initiator: bool,
    /// It appears in the host's file system.
    pub target: bool,
    /// Words of `<source><format type>`; empty when the type has no such element. The first one after which nothing
    /// was said is `default_format`.
    pub formats: &'static [&'static str],
    pub default_format: &'static str,
}

const NOTHING: Shape = Shape {
    hosts: false,
    devices: false,
    dir: false,
    adapter: false,
    name: false,
    initiator: false,
    target: true,
    formats: &[],
    default_format: "",
};

const FS_FORMATS: &[&str] =
    &["auto", "ext2", "ext3", "ext4", "ufs", "iso9660", "udf", "gfs", "gfs2", "vfat", "hfs+", "xfs", "ocfs2", "vmfs"];
const NETFS_FORMATS: &[&str] = &["auto", "nfs", "glusterfs", "cifs"];
const LOGICAL_FORMATS: &[&str] = &["unknown", "lvm2"];
const DISK_FORMATS: &[&str] = &["unknown", "dos", "dvh", "gpt", "mac", "bsd", "pc98", "sun", "lvm2"];

impl PoolType {
    pub(super) fn shape(self) -> Shape {
        match self {
            PoolType::Dir | PoolType::Mpath => NOTHING,
            PoolType::Fs => Shape { devices: true, formats: FS_FORMATS, default_format: "auto", ..NOTHING },
            PoolType::Netfs => {
                Shape { hosts: true, dir: true, formats: NETFS_FORMATS, default_format: "auto", ..NOTHING }
            }
            PoolType::Logical => {
                Shape { name: true, devices: true, formats: LOGICAL_FORMATS, default_format: "lvm2", ..NOTHING }
            }
            PoolType::Disk => Shape { devices: true, formats: DISK_FORMATS, default_format: "unknown", ..NOTHING },
            PoolType::Iscsi => Shape { hosts: true, devices: true, initiator: true, ..NOTHING },
            PoolType::IscsiDirect => Shape { hosts: true, devices: true, initiator: true, target: false, ..NOTHING },
            PoolType::Scsi => Shape { adapter: true, ..NOTHING },
            PoolType::Rbd | PoolType::Sheepdog => Shape { hosts: true, name: true, target: false, ..NOTHING },
            PoolType::Gluster => Shape { hosts: true, name: true, dir: true, target: false, ..NOTHING },
            PoolType::Zfs => Shape { name: true, devices: true, ..NOTHING },
            PoolType::Vstorage => Shape { name: true, ..NOTHING },
        }
    }

    /// Words of `<source><format type>`; empty for types without.
    pub fn source_formats(self) -> &'static [&'static str] {
        self.shape().formats
    }

    /// The source format that counts when none is given; empty for types without.
    pub fn default_source_format(self) -> &'static str {
        self.shape().default_format
    }

    /// Whether its volumes are files in a directory.
    pub fn is_directory(self) -> bool {
        matches!(self, PoolType::Dir | PoolType::Fs | PoolType::Netfs)
    }

    /// Whether pools of this type can be started here.
    pub fn is_supported(self) -> bool {
        self.is_directory() || self == PoolType::Logical
    }
}

/// `<pool>`: a storage pool's definition, without what is measured while it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolDef {
    pub kind: PoolType,
    pub name: String,
    /// `None` until the pool is given one.
    pub uuid: Option<Uuid>,
    /// `<features><cow state>`: whether files on btrfs are copied on write.
    pub cow: Option<YesNo>,
    pub source: PoolSource,
    pub target: PoolTarget,
    pub refresh: Option<RefreshAllocation>,
    /// `<fs:mount_opts>` of fs and netfs pools.
    pub mount_options: Vec<String>,
    /// `<rbd:config_opts>`: name and value.
    pub rbd_options: Vec<(String, String)>,
}

/// `<source>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolSource {
    pub hosts: Vec<PoolHost>,
    pub devices: Vec<PoolDevice>,
    pub dir: Option<String>,
    pub adapter: Option<Adapter>,
    pub name: Option<String>,
    pub initiator_iqn: Option<String>,
    pub auth: Option<PoolAuth>,
    /// A word of [`PoolType::source_formats`].
    pub format: Option<&'static str>,
    /// `<protocol ver>` of a netfs pool.
    pub protocol_version: Option<String>,
    pub vendor: Option<String>,
    pub product: Option<String>,
}

/// `<host>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolHost {
    pub name: String,
    /// 0 when none is given.
    pub port: i32,
}

/// `<device>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolDevice {
    pub path: String,
    pub part_separator: Option<YesNo>,
}

/// `<adapter>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adapter {
    ScsiHost(ScsiHost),
    FcHost(FcHost),
}

/// An adapter by its name or its PCI parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScsiHost {
    Name(String),
    Parent { unique_id: u32, address: PciAddress },
}

/// A virtual host bus adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FcHost {
    pub parent: Option<String>,
    pub parent_wwnn: Option<String>,
    pub parent_wwpn: Option<String>,
    pub parent_fabric_wwn: Option<String>,
    pub managed: Option<YesNo>,
    pub wwnn: String,
    pub wwpn: String,
}

/// `<auth>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolAuth {
    pub kind: PoolAuthType,
    pub username: String,
    pub secret: SecretRef,
}

/// `<target>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolTarget {
    /// Where it appears in the host's file system; `None` for types that do not.
    pub path: Option<String>,
    pub permissions: Permissions,
}

impl PoolDef {
    /// Whether the two would take the same storage: such a pair may not be defined together
    /// (`virStoragePoolObjSourceFindDuplicate`).
    pub fn conflicts_with(&self, other: &PoolDef) -> bool {
        if self.kind != other.kind {
            return false;
        }
        let shares_device =
            || self.source.devices.iter().any(|mine| other.source.devices.iter().any(|its| its.path == mine.path));
        let same_hosts = || !self.source.hosts.is_empty() && self.source.hosts == other.source.hosts;
        let same_name = || self.source.name.is_some() && self.source.name == other.source.name;
        match self.kind {
            PoolType::Dir => self.target.path == other.target.path,
            PoolType::Fs | PoolType::Disk => shares_device(),
            PoolType::Logical | PoolType::Zfs => same_name() || shares_device(),
            PoolType::Vstorage => same_name(),
            PoolType::Netfs | PoolType::Gluster => {
                same_hosts() && self.source.dir == other.source.dir && self.source.name == other.source.name
            }
            PoolType::Rbd | PoolType::Sheepdog => same_hosts() && same_name(),
            PoolType::Iscsi | PoolType::IscsiDirect => {
                same_hosts() && shares_device() && self.source.initiator_iqn == other.source.initiator_iqn
            }
            PoolType::Scsi => self.source.adapter.is_some() && self.source.adapter == other.source.adapter,
            // There is one on a host.
            PoolType::Mpath => true,
        }
    }
}
