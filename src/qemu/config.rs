//! Settings of the driver. Values only; who the QEMU user is gets resolved here, nothing else is decided.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cgroup;
use crate::domain_xml::DomainDef;
use crate::error::{Error, Result};
use crate::qemu::firmware::{self, FirmwareChoice};
use crate::sys::users;

/// Settings; the daemon fills them from its configuration file.
#[derive(Clone, Debug)]
pub struct QemuConfig {
    /// User QEMU runs as; `None` = `libvirt-qemu`, else `domus-qemu`.
    pub user: Option<String>,
    /// Group; `None` = the user's.
    pub group: Option<String>,
    /// Give images to that user while a guest uses them.
    pub dynamic_ownership: bool,
    /// Emulator of definitions that name none; `None` = the first installed one.
    pub default_emulator: Option<PathBuf>,
    /// Address VNC listens on when a definition names none.
    pub vnc_listen: String,
    /// TCP ports for `autoport`, first and last.
    pub vnc_ports: (u16, u16),
    /// QEMU's own seccomp filter, everything denied that can be.
    pub seccomp_sandbox: bool,
    /// Where capability records are kept.
    pub cache_dir: PathBuf,
    /// How long a started QEMU may take to answer on its monitor.
    pub monitor_timeout: Duration,
    /// Open files a QEMU may have.
    pub max_files: u64,
    /// Cgroup partition of definitions that name none.
    pub partition: String,
    /// Directories with firmware descriptors, most important first; `None` = QEMU's standard ones.
    pub firmware_dirs: Option<Vec<PathBuf>>,
    /// Where variable stores of UEFI guests are kept.
    pub nvram_dir: PathBuf,
    /// Where guests' cgroups are made; an empty manager makes none.
    pub cgroups: Arc<cgroup::Manager>,
}

impl Default for QemuConfig {
    fn default() -> Self {
        QemuConfig {
            user: None,
            group: None,
            dynamic_ownership: true,
            default_emulator: None,
            vnc_listen: "127.0.0.1".into(),
            vnc_ports: (5900, 65535),
            seccomp_sandbox: true,
            cache_dir: PathBuf::from("/var/cache/domus/qemu"),
            monitor_timeout: Duration::from_secs(30),
            max_files: 32768,
            partition: "/machine".into(),
            firmware_dirs: None,
            nvram_dir: PathBuf::from("/var/lib/domus/qemu/nvram"),
            cgroups: Arc::default(),
        }
    }
}

/// Emulators looked for when neither definition nor configuration names one.
const EMULATORS: &[&str] = &["/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"];

/// Users looked for when none is configured.
const USERS: &[&str] = &["libvirt-qemu", "domus-qemu"];

/// Who QEMU runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

impl QemuConfig {
    /// The emulator of a definition that names none; a path even when nothing is installed.
    pub fn emulator(&self) -> String {
        self.emulator_for(None)
    }

    /// The emulator of a definition for an architecture: QEMU's own for it, else one that runs it too.
    pub fn emulator_for(&self, arch: Option<&str>) -> String {
        if let Some(path) = &self.default_emulator {
            return path.display().to_string();
        }
        let exists = |path: &str| std::path::Path::new(path).exists();
        let target = match arch {
            Some("i686") => Some("i386"),
            Some("armv7l" | "armv6l") => Some("arm"),
            other => other,
        };
        // The name comes from clients: it must not lead elsewhere.
        let target = target.filter(|name| name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_'));
        if let Some(path) = target.map(|target| format!("/usr/bin/qemu-system-{target}"))
            && (exists(&path) || !matches!(target, Some("i386" | "x86_64")))
        {
            return path;
        }
        let found = EMULATORS.iter().find(|path| exists(path));
        found.or(EMULATORS.first()).map(|path| (*path).to_string()).unwrap_or_default()
    }

    /// The firmware there is, for a definition that it concerns; read anew: packages come and go. `new`: for a definition
    /// that is made now.
    pub fn firmware_choice(&self, def: &DomainDef, new: bool) -> FirmwareChoice {
        let descriptors = if firmware::concerns(def) {
            match &self.firmware_dirs {
                Some(dirs) => firmware::load(dirs),
                None => firmware::load(&firmware::standard_dirs(rustix::process::geteuid().is_root())),
            }
        } else {
            Vec::new()
        };
        FirmwareChoice { descriptors, nvram_dir: self.nvram_dir.clone(), new }
    }

    /// Resolves the user.
    ///
    /// Errors: `InternalError` naming the missing user and how to make it, or when the user may not be used.
    pub fn identity(&self) -> Result<Identity> {
        let look_up = |name: &str| {
            users::account(name).map_err(|error| Error::system(format!("cannot look up user '{name}'"), error))
        };
        let account = match &self.user {
            Some(name) => look_up(name)?.ok_or_else(|| {
                Error::internal(format!("the user '{name}' that QEMU is to run as does not exist: create it or change 'user' in the configuration"))
            })?,
            None => {
                let mut found = None;
                for name in USERS {
                    found = look_up(name)?;
                    if found.is_some() {
                        break;
                    }
                }
                found.ok_or_else(|| {
                    Error::internal(format!(
                        "no user for QEMU to run as ({}): create one (useradd --system --no-create-home domus-qemu) or set 'user' in the configuration",
                        USERS.join(", ")
                    ))
                })?
            }
        };
        if account.name == "nobody" {
            return Err(Error::internal("QEMU must not run as 'nobody', whose processes belong to others as well"));
        }
        let gid = match &self.group {
            None => account.gid,
            Some(name) => users::group(name)
                .map_err(|error| Error::system(format!("cannot look up group '{name}'"), error))?
                .ok_or_else(|| Error::internal(format!("the group '{name}' that QEMU is to run as does not exist")))?,
        };
        let mut groups = account.groups;
        if !groups.contains(&gid) {
            groups.push(gid);
        }
        Ok(Identity { user: account.name, uid: account.uid, gid, groups })
    }
}
