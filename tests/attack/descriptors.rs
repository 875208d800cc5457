//! What is open, current or remembered at the moment init begins.

use std::os::fd::OwnedFd;

use crate::harness::{Outcome, verdict};
use crate::lxc_support::*;

/// Whoever starts the supervisor has directories of the host open without close-on-exec (CVE-2024-21626).
pub fn fifty_open_directories_at_the_start() -> Outcome {
    let leaks: Vec<OwnedFd> = (0..50)
        .map(|_| {
            let fd = rustix::fs::open("/", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
            rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
            fd
        })
        .collect();
    let (record, log) = run_script("", |spec, _| spec.init.argv = vec!["/bin/ls".into(), "/proc/self/fd".into()]);
    drop(leaks);
    assert_eq!(record.message, None);
    // 3 is the directory ls reads.
    let more = log.split_whitespace().filter(|fd| !["0", "1", "2", "3"].contains(fd));
    verdict(&more.map(|fd| format!("fd {fd} is open inside")).collect::<Vec<_>>())
}
