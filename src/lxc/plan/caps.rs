//! `<features><capabilities>`: which capabilities init may ever have.

use crate::domain_xml::features::{Capabilities, CapabilitiesPolicy};
use crate::error::{Error, Result};

/// Every capability, by libvirt's element name (the kernel's without `CAP_`, lower case).
pub const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Taken from a privileged container unless the definition gives them: each is a way to the host.
const PRIVILEGED_DROP: [&str; 10] = [
    "sys_module",
    "sys_rawio",
    "sys_time",
    "mknod",
    "audit_control",
    "mac_admin",
    "mac_override",
    "syslog",
    "bpf",
    "perfmon",
];

/// Taken from every container unless the definition gives them: in a user namespace they allow nothing, but what a
/// distribution starts only where they are there (`ConditionCapability=` of systemd's debugfs mount, loading modules)
/// would be tried, and fail.
const USELESS_INSIDE: [&str; 3] = ["sys_module", "sys_rawio", "sys_time"];

/// Names (`CAP_...`) to take out of the bounding set.
///
/// Policy `default`: with a user namespace the few that are of no use inside, without one the list of ways to the host;
/// `allow`: nothing; `deny`: all. The elements then say otherwise for single ones.
pub(super) fn drop(features: Option<&Capabilities>, privileged: bool) -> Result<Vec<String>> {
    let none = Capabilities::default();
    let features = features.unwrap_or(&none);
    let policy = features.policy.unwrap_or(CapabilitiesPolicy::Default);
    if let Some((name, _)) = features.caps.iter().find(|(name, _)| !CAPABILITIES.contains(&name.as_str())) {
        return Err(Error::unsupported_config(format!("unknown capability <{name}> in <capabilities>")));
    }
    let dropped = |name: &str| match features.caps.iter().find(|(known, _)| known == name) {
        Some((_, state)) => !state.is_on(),
        None => match policy {
            CapabilitiesPolicy::Default if privileged => PRIVILEGED_DROP.contains(&name),
            CapabilitiesPolicy::Default => USELESS_INSIDE.contains(&name),
            CapabilitiesPolicy::Allow => false,
            CapabilitiesPolicy::Deny => true,
        },
    };
    let names = CAPABILITIES.iter().filter(|name| dropped(name));
    Ok(names.map(|name| format!("CAP_{}", name.to_ascii_uppercase())).collect())
}
