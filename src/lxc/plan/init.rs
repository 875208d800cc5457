//! Init's command line, environment and host name, as libvirt gives them.

use crate::domain_xml::DomainDef;
use crate::lxc::spec::Init;

/// libvirt's default for `<init>`.
pub const DEFAULT_INIT: &str = "/sbin/init";
/// Longest host name the kernel takes, bytes.
const HOSTNAME_MAX: usize = 64;

pub(super) fn plan(def: &DomainDef) -> Init {
    let os = &def.os;
    let mut argv = vec![os.init.clone().unwrap_or_else(|| DEFAULT_INIT.to_string())];
    argv.extend(os.initargs.iter().cloned());
    let uuid = def.uuid.map(|uuid| uuid.to_string()).unwrap_or_default();
    let mut env: Vec<(String, String)> = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("TERM", "linux"),
        ("HOME", "/"),
        // What tells a program that it runs in a container, and in which.
        ("container", "lxc-libvirt"),
        ("container_uuid", &uuid),
        ("LIBVIRT_LXC_UUID", &uuid),
        ("LIBVIRT_LXC_NAME", &def.name),
    ]
    .map(|(name, value)| (name.to_string(), value.to_string()))
    .into();
    if let Some(cmdline) = &os.cmdline {
        env.push(("LIBVIRT_LXC_CMDLINE".to_string(), cmdline.clone()));
    }
    // The first console is /dev/console; on the others an init may offer logins.
    let ttys: Vec<String> = (1..def.consoles.len()).map(|index| format!("tty{}", index + 1)).collect();
    if !ttys.is_empty() {
        env.push(("container_ttys".to_string(), ttys.join(" ")));
    }
    for (name, value) in &os.initenvs {
        env.retain(|(known, _)| known != name);
        env.push((name.clone(), value.clone()));
    }
    Init { argv, env, dir: os.initdir.clone(), user: os.inituser.clone(), group: os.initgroup.clone() }
}

/// A host name from a domain name: letters, digits, dots and hyphens, never empty.
pub(super) fn hostname(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' };
    let mut text: String = name.chars().map(allowed).take(HOSTNAME_MAX).collect();
    text = text.trim_matches(['-', '.']).to_string();
    if text.is_empty() { "container".to_string() } else { text }
}
