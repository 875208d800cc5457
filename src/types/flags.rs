//! libvirt's flag words. Plain `u32` constants: they are passed through front ends unchanged and checked in the engine.

use crate::error::{Error, Result};

/// Refuses bits outside `supported` with libvirt's text ("unsupported flags (0x..) in function F").
pub fn check(given: u32, supported: u32, function: &str) -> Result<()> {
    match given & !supported {
        0 => Ok(()),
        unknown => Err(Error::bare_arg(format!("unsupported flags (0x{unknown:x}) in function {function}"))),
    }
}

/// `virDomainXMLFlags`.
pub mod xml {
    pub const SECURE: u32 = 1;
    pub const INACTIVE: u32 = 2;
    pub const UPDATE_CPU: u32 = 4;
    pub const MIGRATABLE: u32 = 8;
}

/// `virConnectCompareCPUFlags`.
pub mod compare_cpu {
    pub const FAIL_INCOMPATIBLE: u32 = 1;
    pub const VALIDATE_XML: u32 = 2;
}

/// `virConnectBaselineCPUFlags`.
pub mod baseline_cpu {
    pub const EXPAND_FEATURES: u32 = 1;
    pub const MIGRATABLE: u32 = 2;
}

/// `virDomainModificationImpact`.
pub mod affect {
    pub const CURRENT: u32 = 0;
    pub const LIVE: u32 = 1;
    pub const CONFIG: u32 = 2;
}

/// `virDomainCreateFlags`.
pub mod create {
    pub const PAUSED: u32 = 1;
    pub const AUTODESTROY: u32 = 2;
    pub const BYPASS_CACHE: u32 = 4;
    pub const FORCE_BOOT: u32 = 8;
    pub const VALIDATE: u32 = 16;
    pub const RESET_NVRAM: u32 = 32;
}

/// `virDomainDefineFlags`.
pub mod define {
    pub const VALIDATE: u32 = 1;
}

/// `virDomainDestroyFlagsValues`.
pub mod destroy {
    pub const GRACEFUL: u32 = 1;
    pub const REMOVE_LOGS: u32 = 2;
}

/// `virDomainShutdownFlagValues`; reboot has the same first five bits.
pub mod shutdown {
    pub const ACPI_POWER_BTN: u32 = 1;
    pub const GUEST_AGENT: u32 = 2;
    pub const INITCTL: u32 = 4;
    pub const SIGNAL: u32 = 8;
    pub const PARAVIRT: u32 = 16;
}

/// `virDomainUndefineFlagsValues`.
pub mod undefine {
    pub const MANAGED_SAVE: u32 = 1;
    pub const SNAPSHOTS_METADATA: u32 = 2;
    pub const NVRAM: u32 = 4;
    pub const KEEP_NVRAM: u32 = 8;
    pub const CHECKPOINTS_METADATA: u32 = 16;
    pub const TPM: u32 = 32;
    pub const KEEP_TPM: u32 = 64;
}

/// `virConnectListAllDomainsFlags`.
pub mod list {
    pub const ACTIVE: u32 = 1;
    pub const INACTIVE: u32 = 2;
    pub const PERSISTENT: u32 = 4;
    pub const TRANSIENT: u32 = 8;
    pub const RUNNING: u32 = 16;
    pub const PAUSED: u32 = 32;
    pub const SHUTOFF: u32 = 64;
    pub const OTHER: u32 = 128;
    pub const MANAGEDSAVE: u32 = 256;
    pub const NO_MANAGEDSAVE: u32 = 512;
    pub const AUTOSTART: u32 = 1024;
    pub const NO_AUTOSTART: u32 = 2048;
    pub const HAS_SNAPSHOT: u32 = 4096;
    pub const NO_SNAPSHOT: u32 = 8192;
    pub const HAS_CHECKPOINT: u32 = 16384;
    pub const NO_CHECKPOINT: u32 = 32768;
}

/// `virDomainStatsTypes`: which groups of statistics.
pub mod stats {
    pub const STATE: u32 = 1;
    pub const CPU_TOTAL: u32 = 2;
    pub const BALLOON: u32 = 4;
    pub const VCPU: u32 = 8;
    pub const INTERFACE: u32 = 16;
    pub const BLOCK: u32 = 32;
    pub const PERF: u32 = 64;
    pub const IOTHREAD: u32 = 128;
    pub const MEMORY: u32 = 256;
    pub const DIRTYRATE: u32 = 512;
    pub const VM: u32 = 1024;
    pub const ALL: u32 = 2047;
}

/// `virConnectGetAllDomainStatsFlags`.
pub mod all_stats {
    pub const NOWAIT: u32 = 1 << 29;
    pub const BACKING: u32 = 1 << 30;
    pub const ENFORCE: u32 = 1 << 31;
}

/// `virDomainVcpuFlags`.
pub mod vcpu {
    pub const MAXIMUM: u32 = 4;
    pub const GUEST: u32 = 8;
    pub const HOTPLUGGABLE: u32 = 16;
}

/// `virDomainMemoryModFlags`.
pub mod memory {
    pub const MAXIMUM: u32 = 4;
}

/// Flags of storage pools.
pub mod storage_pool {
    /// `VIR_STORAGE_XML_INACTIVE`
    pub const XML_INACTIVE: u32 = 1;
    /// `VIR_STORAGE_POOL_DEFINE_VALIDATE`
    pub const DEFINE_VALIDATE: u32 = 1;

    /// `virStoragePoolCreateFlags`.
    pub mod create {
        pub const BUILD: u32 = 1;
        pub const BUILD_OVERWRITE: u32 = 2;
        pub const BUILD_NO_OVERWRITE: u32 = 4;
        pub const VALIDATE: u32 = 8;
        /// Those of a pool that has a definition.
        pub const STARTS: u32 = 7;
        pub const ALL: u32 = 15;
    }

    /// `virStoragePoolBuildFlags`.
    pub mod build {
        pub const NO_OVERWRITE: u32 = 4;
        pub const OVERWRITE: u32 = 8;
    }

    /// `virConnectListAllStoragePoolsFlags`.
    pub mod list {
        pub const INACTIVE: u32 = 1;
        pub const ACTIVE: u32 = 2;
        pub const PERSISTENT: u32 = 4;
        pub const TRANSIENT: u32 = 8;
        pub const AUTOSTART: u32 = 16;
        pub const NO_AUTOSTART: u32 = 32;
        /// One bit per type.
        pub const TYPES: u32 = 0x3fff << 6;
        pub const ALL: u32 = 63 | TYPES;
    }
}
