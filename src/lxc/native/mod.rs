//! Configuration files of LXC's own tools (`lxc-tools`, releases 1 to 5) as domain definitions.
//!
//! Pure: text in, definition out. Included files and fstab files are not opened: who converts a text need not be
//! allowed to read this host's files.
//!
//! What libvirt makes of a file, we make of it, except where its answer is a container that is not the one described:
//! * `lxc.idmap` has the container's id first. libvirt takes the host's first, which turns `u 0 100000 65536` into a
//!   container whose root is nobody and whose user 100000 is the host's root. Both are read here: a 0 is the
//!   container's.
//! * A network of type `empty` is a private one, not the host's.
//! * `lxc.cap.keep` and every `lxc.cap.drop` line count, as do `lxc.init.*` and `lxc.environment`.
//! * Settings of an interface that cannot be expressed are refused by name.

mod conf;
mod limits;
mod mounts;
mod net;

use self::conf::{Conf, Entry};
use crate::domain_xml::device::{CharKind, CharSource, Console, ConsoleTarget};
use crate::domain_xml::features::{CAPABILITY_NAMES, Capabilities, CapabilitiesPolicy};
use crate::domain_xml::os::{IdRange, OsType};
use crate::domain_xml::{DomainDef, Switch, VirtType, post_parse};
use crate::error::{Code, Error, Result};

/// The name of this form in `virConnectDomainXMLFromNative`.
pub const FORMAT: &str = "lxc-tools";

/// A container must have some memory; libvirt's choice for a file that limits none, KiB.
const DEFAULT_MEMORY: u64 = 64 * 1024;

/// More consoles than any container has; a larger number is a mistake.
const MOST_CONSOLES: u32 = 256;

/// The definition that a configuration file describes.
///
/// Errors: `ConfSyntax` for a text that is no such file, `InvalidArg` without a name or a root, `ConfigUnsupported` for
/// what no definition can express, and libvirt's codes for wrong values; all but the second name the line.
pub fn read(text: &str) -> Result<DomainDef> {
    let conf = Conf::parse(text)?;
    let mut def = DomainDef {
        virt_type: VirtType::Lxc,
        uuid: Some(crate::types::Uuid::new_v4()),
        filesystems: mounts::filesystems(&conf)?,
        ..DomainDef::default()
    };
    def.name = name(&conf)?;
    def.os.os_type = OsType::Exe;
    def.vcpu.max = 1;
    def.memory.size = DEFAULT_MEMORY;
    def.features.present = true;
    init(&conf, &mut def);
    def.os.arch = conf.first(&["lxc.arch"]).map(arch).transpose()?.flatten();
    def.features.capabilities = Some(capabilities(&conf)?);
    id_maps(&conf, &mut def)?;
    limits::read(&conf, &mut def)?;
    net::read(&conf, &mut def)?;
    def.consoles = consoles(&conf)?;
    post_parse::post_parse(&mut def)?;
    Ok(def)
}

fn name(conf: &Conf<'_>) -> Result<String> {
    match conf.first(&["lxc.uts.name", "lxc.utsname"]) {
        Some(entry) if entry.value.contains('/') => {
            Err(entry.error(Code::XmlError, format!("name {} cannot contain '/'", entry.value)))
        }
        Some(entry) if !entry.value.is_empty() => Ok(entry.value.to_string()),
        _ => Err(Error::invalid_arg("the configuration names no container: add a line lxc.uts.name = NAME")),
    }
}

fn init(conf: &Conf<'_>, def: &mut DomainDef) {
    let command = conf.first(&["lxc.init.cmd", "lxc.init_cmd", "lxc.execute.cmd"]).map_or("", |entry| entry.value);
    let mut words = command.split_whitespace().map(str::to_string);
    def.os.init = Some(words.next().unwrap_or_else(|| super::plan::DEFAULT_INIT.to_string()));
    def.os.initargs = words.collect();
    let value = |keys: &[&str]| conf.first(keys).map(|entry| entry.value.to_string()).filter(|text| !text.is_empty());
    def.os.initdir = value(&["lxc.init.cwd"]);
    def.os.inituser = value(&["lxc.init.uid", "lxc.init_uid"]).filter(|id| id != "0");
    def.os.initgroup = value(&["lxc.init.gid", "lxc.init_gid"]).filter(|id| id != "0");
    let pair =
        |entry: Entry<'_>| entry.value.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()));
    def.os.initenvs = conf.all(&["lxc.environment"]).filter_map(pair).collect();
}

/// libvirt's name of an architecture; `None` for a word neither knows, as libvirt has it.
fn arch(entry: Entry<'_>) -> Result<Option<String>> {
    let name = match entry.value {
        "x86" | "i386" | "i486" | "i586" | "i686" | "linux32" => "i686",
        "amd64" | "x86_64" | "linux64" => "x86_64",
        "arm" | "armv7l" | "armv7hl" | "armhf" => "armv7l",
        "aarch64" | "arm64" => "aarch64",
        "ppc64le" | "ppc64el" => "ppc64le",
        "riscv64" => "riscv64",
        "s390x" => "s390x",
        _ => return Ok(None),
    };
    let host = super::driver::host_arch();
    if !super::driver::runs(name) {
        let what = format!("could not find capabilities for arch={name}: a container runs on the host's {host}");
        return Err(entry.error(Code::InvalidArg, what));
    }
    Ok(Some(name.to_string()))
}

fn capabilities(conf: &Conf<'_>) -> Result<Capabilities> {
    let named = |key: &str| -> Vec<String> {
        let entries = conf.entries().filter(|entry| entry.key == key);
        let words = entries.flat_map(|entry| entry.value.split_whitespace());
        words.map(|word| word.trim_start_matches("CAP_").to_ascii_lowercase()).collect()
    };
    let (keep, drop) = (named("lxc.cap.keep"), named("lxc.cap.drop"));
    if let (false, false, Some(entry)) = (keep.is_empty(), drop.is_empty(), conf.first(&["lxc.cap.keep"])) {
        let what = "lxc.cap.keep and lxc.cap.drop exclude each other: remove one of them";
        return Err(entry.error(Code::ConfigUnsupported, what));
    }
    // A name the kernel at hand does not have drops nothing.
    let listed = |names: &[String], state: Switch| {
        let known = CAPABILITY_NAMES.iter().filter(|name| names.iter().any(|given| given == *name));
        known.map(|name| (name.to_string(), state)).collect::<Vec<_>>()
    };
    Ok(match conf.first(&["lxc.cap.keep"]) {
        Some(_) => Capabilities { policy: Some(CapabilitiesPolicy::Deny), caps: listed(&keep, Switch::On) },
        None => Capabilities { policy: Some(CapabilitiesPolicy::Allow), caps: listed(&drop, Switch::Off) },
    })
}

/// `u INSIDE OUTSIDE COUNT`; see the module's text about the order.
fn id_maps(conf: &Conf<'_>, def: &mut DomainDef) -> Result<()> {
    for entry in conf.all(&["lxc.idmap", "lxc.id_map"]) {
        let refused = || {
            let what =
                format!("invalid map '{}': expected u or g, first id inside, first id outside, count", entry.value);
            entry.error(Code::InternalError, what)
        };
        let mut words = entry.value.split_whitespace();
        let kind = words.next();
        let numbers: Option<Vec<u32>> = words.map(|word| word.parse().ok()).collect();
        let Some([first, second, count]) = numbers.as_deref().and_then(|all| <[u32; 3]>::try_from(all).ok()) else {
            return Err(refused());
        };
        let (start, target) = if second == 0 { (second, first) } else { (first, second) };
        let range = IdRange { start, target, count };
        match kind {
            Some("u") => def.idmap.uids.push(range),
            Some("g") => def.idmap.gids.push(range),
            _ => return Err(refused()),
        }
    }
    def.idmap.uids.sort_by_key(|range| range.start);
    def.idmap.gids.sort_by_key(|range| range.start);
    Ok(())
}

fn consoles(conf: &Conf<'_>) -> Result<Vec<Console>> {
    let Some(entry) = conf.first(&["lxc.tty.max", "lxc.tty"]) else { return Ok(Vec::new()) };
    let count: u32 = entry.number()?;
    if count > MOST_CONSOLES {
        return Err(entry.error(Code::InternalError, format!("{count} consoles are more than {MOST_CONSOLES}")));
    }
    let console = |port| Console {
        source: CharSource { kind: CharKind::Pty { path: None }, ..CharSource::default() },
        target_type: Some(ConsoleTarget::Lxc),
        port: Some(port),
        ..Console::default()
    };
    Ok((0..count).map(console).collect())
}

#[cfg(test)]
mod tests;
