//! Paths that lead elsewhere.

use std::os::unix::fs::symlink;

use domus::lxc::spec::{Mount, MountSource};

use crate::harness::{Outcome, verdict};
use crate::lxc_support::*;

/// A file system for a target on the kernel's own, in every spelling.
pub fn mounts_over_kernel_file_systems() -> Outcome {
    let (mut broken, mut odd) = (Vec::new(), Vec::new());
    for target in [
        "/proc",
        "/proc/sys",
        "/proc/self/attr",
        "/sys",
        "/sys/fs",
        "/mnt/../proc",
        "//proc//1",
        "/link",
        "/link/bus",
        "/mnt/deep/../../../proc/sys/net",
        "/up/up/proc",
    ] {
        let (record, log) = run_script("echo runs", |spec, dir| {
            symlink("/proc", dir.join("root/link")).unwrap();
            symlink("..", dir.join("root/up")).unwrap();
            let source = MountSource::Ram { size: None };
            spec.mounts.push(Mount { source, target: target.into(), readonly: false });
        });
        match record.message {
            None => broken.push(format!("a tmpfs was mounted on {target} ({})", log.trim())),
            Some(message) if message.contains("kernel file systems must not be covered") => {}
            Some(message) => odd.push(format!("{target}: {message}")),
        }
    }
    assert!(odd.is_empty() || !broken.is_empty(), "neither mounted nor refused for its place: {odd:?}");
    verdict(&broken)
}
