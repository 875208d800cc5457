//! The programs that networks need, looked up once more at each use: they may be installed while the daemon runs.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result, Subsystem};
use crate::sys::exec::BASE_ENV;

/// Where the programs are; `None` = where programs usually are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    pub nft: Option<PathBuf>,
    pub dnsmasq: Option<PathBuf>,
    pub tc: Option<PathBuf>,
}

impl Programs {
    /// The program `nft`. Errors: code 1, naming the package.
    pub fn nft(&self) -> Result<PathBuf> {
        self.nft_found().ok_or_else(|| missing("nft", "nftables", self.nft.as_deref(), "firewall rules"))
    }

    /// The same; `None` when there is none.
    pub fn nft_found(&self) -> Option<PathBuf> {
        find("nft", self.nft.as_deref())
    }

    /// The program `dnsmasq`. Errors: code 1, naming the package.
    pub fn dnsmasq(&self) -> Result<PathBuf> {
        find("dnsmasq", self.dnsmasq.as_deref())
            .ok_or_else(|| missing("dnsmasq", "dnsmasq-base", self.dnsmasq.as_deref(), "DHCP and DNS"))
    }

    /// The program `tc`; `None` when there is none.
    pub fn tc(&self) -> Option<PathBuf> {
        find("tc", self.tc.as_deref())
    }
}

fn find(name: &str, given: Option<&Path>) -> Option<PathBuf> {
    let runs = |path: &PathBuf| nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok();
    if let Some(path) = given {
        return Some(path.to_path_buf()).filter(runs);
    }
    let dirs = BASE_ENV.iter().find(|(key, _)| *key == "PATH").map_or("", |(_, value)| *value);
    dirs.split(':').map(|dir| Path::new(dir).join(name)).find(runs)
}

fn missing(name: &str, package: &str, given: Option<&Path>, what: &str) -> Error {
    let place = match given {
        Some(path) => format!("'{}' is no program that can be run", path.display()),
        None => format!("program '{name}' was not found"),
    };
    Error::internal(format!("Cannot find '{name}' binary: {place}; networks with {what} need it (package {package})"))
        .with_subsystem(Subsystem::Network)
}
