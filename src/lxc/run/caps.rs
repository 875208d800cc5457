//! Capabilities: what is taken out of the bounding set before init runs.

use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{Context, Result, failure};
use crate::sys::weakened;

#[rustfmt::skip]
/// libvirt's names (without `CAP_`, lower case, are the elements of `<capabilities>`) by number.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
];

/// Takes `names` out of the bounding set, and everything out of what an exec would inherit.
///
/// The effective set stays: ids are changed after this, and `execve` computes root's set from the bounding set.
pub fn drop_caps(names: &[String]) -> Result<()> {
    for name in names.iter().filter(|_| !weakened("keep-caps")) {
        let Some(number) = NAMES.iter().position(|known| known == name) else {
            return failure("capabilities", format!("unknown capability '{name}'"));
        };
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            // EINVAL: a kernel that does not know the capability cannot give it to anyone.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error).at("capabilities", format_args!("cannot drop {name}")),
        }
    }
    let _ = rustix::thread::clear_ambient_capability_set();
    let sets = rustix::thread::capabilities(None).at("capabilities", "cannot read them")?;
    let sets = CapabilitySets { inheritable: CapabilitySet::empty(), ..sets };
    rustix::thread::set_capabilities(None, sets).at("capabilities", "cannot set them")
}
