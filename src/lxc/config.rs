//! Settings of the driver. Values only.

use std::path::PathBuf;
use std::time::Duration;

use super::idalloc::Allocator;

/// Settings; the daemon fills them from its configuration file.
#[derive(Clone, Debug)]
pub struct LxcConfig {
    /// `domus-run`; `None` = beside the daemon's own binary.
    pub run_binary: Option<PathBuf>,
    /// Run containers without `<idmap>` as host root. Off: they get a range of their own.
    pub privileged: bool,
    /// Where those ranges come from.
    pub ids: Allocator,
    /// Changes to templates, one directory per domain (its UUID).
    pub overlay_dir: PathBuf,
    /// Type of the file systems in image files and on block devices; never probed.
    pub image_fstype: String,
    /// Bytes a container without a root may write.
    pub scratch_size: u64,
    /// Processes and threads a container may have.
    pub max_processes: u64,
    /// Console logs are rotated at this size, bytes; this many rotated ones are kept.
    pub log_max_size: u64,
    pub log_backups: u32,
    /// How long a start may take.
    pub start_timeout: Duration,
    /// Cgroup partition of definitions that name none.
    pub partition: String,
}

impl Default for LxcConfig {
    fn default() -> Self {
        LxcConfig {
            run_binary: None,
            privileged: false,
            ids: Allocator::default(),
            overlay_dir: PathBuf::from("/var/lib/domus/lxc-overlay"),
            image_fstype: "ext4".into(),
            scratch_size: 512 << 20,
            max_processes: 16_384,
            log_max_size: 2 << 20,
            log_backups: 3,
            start_timeout: Duration::from_secs(60),
            partition: "/machine".into(),
        }
    }
}
