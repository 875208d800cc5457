//! Which drivers there are, and what each is told.

use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::dirs::Dirs;
use crate::cgroup;
use crate::engine::driver::{Driver, DriverKind};
use crate::error::{Error, Result};
use crate::lxc::{LxcConfig, LxcDriver};
use crate::mock::MockDriver;
use crate::qemu::QemuDriver;

/// The drivers that options and configuration ask for.
pub fn build(mock: bool, config: &Config, dirs: &Dirs, cgroups: &Arc<cgroup::Manager>) -> Result<Vec<Arc<dyn Driver>>> {
    let mut kinds = if mock { vec![DriverKind::Test] } else { config.drivers.clone() };
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() {
        return Err(Error::invalid_arg("no driver is configured: name at least one of qemu, lxc, test in 'drivers'"));
    }
    kinds.into_iter().map(|kind| driver(kind, config, dirs, cgroups)).collect()
}

fn driver(kind: DriverKind, config: &Config, dirs: &Dirs, cgroups: &Arc<cgroup::Manager>) -> Result<Arc<dyn Driver>> {
    match kind {
        DriverKind::Test if config.test.domain => Ok(MockDriver::with_test_domain()),
        DriverKind::Test => Ok(MockDriver::new()),
        DriverKind::Lxc => Ok(LxcDriver::new(lxc_config(config, dirs), cgroups.clone())),
        DriverKind::Qemu => Ok(QemuDriver::new(qemu_config(config, dirs, cgroups))),
    }
}

fn lxc_config(config: &Config, dirs: &Dirs) -> LxcConfig {
    let file = &config.lxc;
    LxcConfig {
        run_binary: file.run_binary.clone(),
        privileged: file.privileged,
        overlay_dir: dirs.state.join("lxc-overlay"),
        image_fstype: file.image_fstype.clone(),
        scratch_size: file.scratch_size,
        max_processes: file.max_processes,
        start_timeout: Duration::from_secs(file.start_timeout),
        partition: file.partition.clone(),
        ..LxcConfig::default()
    }
}

fn qemu_config(config: &Config, dirs: &Dirs, cgroups: &Arc<cgroup::Manager>) -> crate::qemu::config::QemuConfig {
    let file = &config.qemu;
    crate::qemu::config::QemuConfig {
        user: file.user.clone(),
        group: file.group.clone(),
        dynamic_ownership: file.dynamic_ownership,
        default_emulator: file.emulator.clone(),
        vnc_listen: file.vnc_listen.clone(),
        vnc_ports: (file.vnc_port_min, file.vnc_port_max),
        seccomp_sandbox: file.seccomp_sandbox,
        cache_dir: dirs.cache.join("qemu"),
        monitor_timeout: Duration::from_secs(file.start_timeout),
        max_files: file.max_files,
        partition: file.partition.clone(),
        firmware_dirs: file.firmware_path.clone(),
        nvram_dir: dirs.state.join("qemu/nvram"),
        cgroups: cgroups.clone(),
    }
}

/// User and group of guests' processes, which programs that read images run as; `None` where there is none.
pub fn image_user(config: &Config, dirs: &Dirs, cgroups: &Arc<cgroup::Manager>) -> Option<(u32, u32)> {
    let identity = qemu_config(config, dirs, cgroups).identity().ok()?;
    Some((identity.uid, identity.gid))
}
