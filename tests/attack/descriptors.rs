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

/// A working directory that is an open directory of the host, by its number.
pub fn a_working_directory_outside() -> Outcome {
    let mut broken = Vec::new();
    let me = std::process::id();
    for fd in 3..16 {
        let (record, log) = run_script(&format!("test -d {me} && echo sees the host; pwd"), |spec, _| {
            spec.init.dir = Some(format!("/proc/self/fd/{fd}"));
        });
        if record.message.is_none() && (log.contains("sees the host") || !log.starts_with('/')) {
            broken.push(format!("init starts in fd {fd}: {}", log.trim().replace('\n', ", ")));
        }
    }
    verdict(&broken)
}

/// The starter is in groups that own files of the host.
pub fn groups_of_the_starter() -> Outcome {
    let group = 60_606;
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "secret of the group\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::os::unix::fs::chown(&secret, Some(60_607), Some(group)).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o640)).unwrap();
    // A thread of its own: groups are a thread's, and what it starts gets them.
    let (record, log) = std::thread::spawn(move || {
        join_group(group);
        run_script("cat /secret; grep Groups: /proc/self/status", |_, dir| {
            // Owned by an id that the container has not, so that it is shown as it is.
            std::fs::copy(&secret, dir.join("root/secret")).unwrap();
            std::os::unix::fs::chown(dir.join("root/secret"), Some(60_607), Some(group)).unwrap();
            std::fs::set_permissions(dir.join("root/secret"), std::fs::Permissions::from_mode(0o640)).unwrap();
            // Owned by the container: not shifted, so that groups outside are groups of the file.
            std::os::unix::fs::chown(dir.join("root"), Some(BASE), Some(BASE)).unwrap();
        })
    })
    .join()
    .unwrap();
    assert_eq!(record.message, None);
    let mut broken = Vec::new();
    if log.contains("secret of the group") {
        broken.push("init reads a file of a group that its starter is in".into());
    }
    assert!(log.contains("Groups:"), "{log}");
    verdict(&broken)
}

/// Only of the calling thread: the C library's function would change all.
pub fn join_group(group: u32) {
    // SAFETY: one group id, whose address is valid for the call.
    let result = unsafe { nix::libc::syscall(nix::libc::SYS_setgroups, 1, &raw const group) };
    assert_eq!(result, 0);
}

const KEY_SPEC_SESSION_KEYRING: i64 = -3;

fn keyctl(operation: i64, args: [i64; 4]) -> i64 {
    // SAFETY: every address among the arguments is of a string with its NUL that outlives the call.
    unsafe { nix::libc::syscall(nix::libc::SYS_keyctl, operation, args[0], args[1], args[2], args[3]) }
}

/// Looks for the starter's key.
pub fn keyring_inside() {
    const SEARCH: i64 = 10;
    let found = keyctl(SEARCH, [KEY_SPEC_SESSION_KEYRING, c"user".as_ptr() as i64, c"domus-secret".as_ptr() as i64, 0]);
    crate::probe::say(if found > 0 { "found" } else { "nothing" });
}

/// The starter has a key in its session keyring.
pub fn keys_of_the_starter() -> Outcome {
    let lines = std::thread::spawn(|| {
        const JOIN: i64 = 1;
        if keyctl(JOIN, [0; 4]) == -1 {
            return Vec::new();
        }
        // SAFETY: the strings and the six bytes outlive the call.
        let key = unsafe {
            let (kind, name) = (c"user".as_ptr(), c"domus-secret".as_ptr());
            nix::libc::syscall(nix::libc::SYS_add_key, kind, name, c"secret".as_ptr(), 6, KEY_SPEC_SESSION_KEYRING)
        };
        assert!(key > 0);
        crate::probe::run("keyring", |_, _| {})
    })
    .join()
    .unwrap();
    if lines.is_empty() {
        return Outcome::Skipped("this kernel has no keyrings".into());
    }
    let broken = lines.iter().any(|line| line == "found").then(|| "init has a key of its starter".to_string());
    verdict(&broken.into_iter().collect::<Vec<_>>())
}
