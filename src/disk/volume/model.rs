//! The typed volume definition.

use super::encryption::VolumeEncryption;
use crate::disk::permissions::Permissions;
use crate::disk::pool::PoolType;
use crate::domain_xml::words::words;

words! {
    /// `<volume type>`; the numbers of `virStorageVolType` are these in order.
    pub enum VolumeKind {
        File = "file", Block = "block", Dir = "dir", Network = "network", Netdir = "netdir", Ploop = "ploop",
    }

    /// Format of a volume that is a file.
    pub enum FileFormat {
        None = "none", Raw = "raw", Dir = "dir", Bochs = "bochs", Cloop = "cloop", Dmg = "dmg", Iso = "iso",
        Vpc = "vpc", Vdi = "vdi", Fat = "fat", Vhd = "vhd", Ploop = "ploop", Cow = "cow", Qcow = "qcow",
        Qcow2 = "qcow2", Qed = "qed", Vmdk = "vmdk",
    }

    /// Type of a partition of a disk pool.
    pub enum PartitionFormat {
        None = "none", Linux = "linux", Fat16 = "fat16", Fat32 = "fat32", LinuxSwap = "linux-swap",
        LinuxLvm = "linux-lvm", LinuxRaid = "linux-raid", Extended = "extended",
    }
}

/// `<format type>`, whose words depend on the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeFormat {
    File(FileFormat),
    Partition(PartitionFormat),
}

impl VolumeFormat {
    /// libvirt's word.
    pub fn as_str(self) -> &'static str {
        match self {
            VolumeFormat::File(format) => format.as_str(),
            VolumeFormat::Partition(format) => format.as_str(),
        }
    }

    /// Words of volume formats in a pool of this type; empty where volumes have none.
    pub fn words(pool: PoolType) -> &'static [&'static str] {
        match pool {
            PoolType::Dir | PoolType::Fs | PoolType::Netfs | PoolType::Gluster | PoolType::Vstorage => {
                FileFormat::WORDS
            }
            PoolType::Disk => PartitionFormat::WORDS,
            _ => &[],
        }
    }

    /// The format of that name in a pool of this type.
    pub fn parse(pool: PoolType, word: &str) -> Option<VolumeFormat> {
        match pool {
            PoolType::Disk => word.parse().ok().map(VolumeFormat::Partition),
            _ => word.parse().ok().map(VolumeFormat::File),
        }
    }

    /// What counts when nothing is said; `None` where volumes have no format.
    pub fn default_in(pool: PoolType) -> Option<VolumeFormat> {
        match pool {
            PoolType::Disk => Some(VolumeFormat::Partition(PartitionFormat::None)),
            _ if Self::words(pool).is_empty() => None,
            _ => Some(VolumeFormat::File(FileFormat::Raw)),
        }
    }
}

/// `<volume>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VolumeDef {
    pub kind: VolumeKind,
    /// Unique in its pool.
    pub name: String,
    /// Unique on the host; `None` in a definition that is still to be created.
    pub key: Option<String>,
    /// Parts of devices that a logical volume or partition lies on; measured, never read from a definition.
    pub extents: Vec<Extent>,
    /// Bytes the guest sees.
    pub capacity: u64,
    /// Bytes used on the host, or to be allocated at creation.
    pub allocation: u64,
    /// Whether a definition said an allocation; else it is the capacity.
    pub has_allocation: bool,
    /// Length of the file or device in bytes, where it was measured.
    pub physical: Option<u64>,
    pub target: VolumeTarget,
    pub backing: Option<BackingStore>,
}

/// A range of a device in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub device: String,
    pub start: u64,
    pub end: u64,
}

/// `<target>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VolumeTarget {
    pub path: Option<String>,
    /// `None` in pools whose volumes have no format.
    pub format: Option<VolumeFormat>,
    pub permissions: Permissions,
    pub timestamps: Option<Timestamps>,
    pub encryption: Option<VolumeEncryption>,
    /// qcow2: `0.10` (version 2) or `1.1` (version 3).
    pub compat: Option<String>,
    /// No copy on write on btrfs.
    pub nocow: bool,
    /// qcow2: bytes of a cluster.
    pub cluster_size: Option<u64>,
    /// `<features>` was given, or is to be shown.
    pub features: Option<VolumeFeatures>,
}

/// `<features>` of a qcow2 volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeFeatures {
    pub lazy_refcounts: bool,
    pub extended_l2: bool,
    /// The data is in another file; found in an image, not to be asked for.
    pub data_file: bool,
}

/// `<timestamps>`: seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    pub accessed: (i64, i64),
    pub modified: (i64, i64),
    pub changed: (i64, i64),
    /// Birth, where the file system keeps it.
    pub born: Option<(i64, i64)>,
}

/// `<backingStore>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackingStore {
    pub path: String,
    pub format: Option<VolumeFormat>,
    pub permissions: Permissions,
    pub timestamps: Option<Timestamps>,
}

impl VolumeDef {
    /// Takes over which secret unlocks it from what was known before: no header says that.
    pub fn keep_secrets(&mut self, known: &VolumeDef) {
        if let (Some(now), Some(before)) = (&mut self.target.encryption, &known.target.encryption)
            && now.secrets.is_empty()
            && now.format == before.format
        {
            now.secrets = before.secrets.clone();
        }
    }

    /// The format of a volume that is a file; raw where nothing is said.
    pub fn file_format(&self) -> FileFormat {
        match self.target.format {
            Some(VolumeFormat::File(format)) => format,
            _ => FileFormat::Raw,
        }
    }
}
