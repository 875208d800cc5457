//! Configuration file: TOML, every key optional, unknown keys refused. Command line options win over it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::options::LogFormat;
use super::{polkit, systemd};
use crate::cgroup;
use crate::engine::access;
use crate::engine::driver::DriverKind;
use crate::engine::network::NetworkOptions;
use crate::net::network::run::Programs;
use crate::rpc;

/// The file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Drivers to run.
    pub drivers: Vec<DriverKind>,
    /// Guests autostarted at once.
    pub autostart_parallel: usize,
    /// Which cgroup hierarchies are used.
    pub cgroups: cgroup::Mode,
    pub cgroup: CgroupConfig,
    pub dbus: DbusConfig,
    pub rpc: RpcConfig,
    pub socket: SocketConfig,
    pub access: AccessConfig,
    pub log: LogConfig,
    pub network: NetworkConfig,
    pub qemu: QemuConfig,
    pub lxc: LxcConfig,
    pub test: TestConfig,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            drivers: vec![DriverKind::Qemu, DriverKind::Lxc],
            autostart_parallel: 4,
            cgroups: cgroup::Mode::Auto,
            cgroup: CgroupConfig::default(),
            dbus: DbusConfig::default(),
            rpc: RpcConfig::default(),
            socket: SocketConfig::default(),
            access: AccessConfig::default(),
            log: LogConfig::default(),
            network: NetworkConfig::default(),
            qemu: QemuConfig::default(),
            lxc: LxcConfig::default(),
            test: TestConfig::default(),
        }
    }
}

/// `[cgroup]`: where guests' groups are.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct CgroupConfig {
    /// Whether each run gets a transient scope of systemd.
    pub systemd: systemd::Use,
}

/// `[dbus]`: message buses.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct DbusConfig {
    pub system: bool,
    pub session: bool,
    /// D-Bus addresses of more buses.
    pub addresses: Vec<String>,
}

/// `[rpc]`: libvirt's own protocol.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct RpcConfig {
    /// Serve RUN/libvirt-sock and RUN/libvirt-sock-ro.
    pub enabled: bool,
    /// Serve all of libvirt's socket names in this directory as well (`/run/libvirt`).
    pub libvirt_directory: Option<PathBuf>,
    /// Connections at once, of all sockets together.
    pub max_clients: usize,
    /// Those among them that have not authenticated yet.
    pub max_anonymous_clients: usize,
    /// Calls in flight of one client.
    pub max_client_requests: usize,
    /// Calls that change something, of all clients, worked on at once.
    pub max_workers: usize,
    /// Seconds of silence after which a client that can be pinged is; 0 = never.
    pub keepalive_interval: u64,
    /// Pings that may stay without an answer.
    pub keepalive_count: u32,
}

impl Default for RpcConfig {
    fn default() -> RpcConfig {
        let options = rpc::Options::default();
        let (interval, count) = options.keepalive.unwrap_or_default();
        RpcConfig {
            enabled: true,
            libvirt_directory: None,
            max_clients: options.max_clients,
            max_anonymous_clients: options.max_anonymous_clients,
            max_client_requests: options.max_client_requests,
            max_workers: options.max_workers,
            keepalive_interval: interval.as_secs(),
            keepalive_count: count,
        }
    }
}

impl RpcConfig {
    /// For the server. Nobody is locked out: each number is at least 1.
    pub fn options(&self) -> rpc::Options {
        let interval = Duration::from_secs(self.keepalive_interval);
        rpc::Options {
            max_clients: self.max_clients.max(1),
            max_anonymous_clients: self.max_anonymous_clients.max(1),
            max_client_requests: self.max_client_requests.max(1),
            max_workers: self.max_workers.max(1),
            keepalive: (!interval.is_zero()).then_some((interval, self.keepalive_count)),
            ..rpc::Options::default()
        }
    }
}

/// `[socket]`: who may use the daemon's sockets, besides root and the daemon's user.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct SocketConfig {
    /// Members may do everything.
    pub group: Option<String>,
    pub others: Others,
}

/// What everybody else may do.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Others {
    #[default]
    Refuse,
    ReadOnly,
}

impl From<Others> for access::Others {
    fn from(others: Others) -> Self {
        match others {
            Others::Refuse => access::Others::Refuse,
            Others::ReadOnly => access::Others::ReadOnly,
        }
    }
}

/// `[access]`: who is asked about those whom `[socket]` does not name, and about each call.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// On sockets for everything: libvirt's, and the daemon's own of D-Bus.
    pub auth_unix_rw: polkit::Use,
    /// On sockets for reading.
    pub auth_unix_ro: polkit::Use,
    /// On the system bus.
    pub auth_bus: polkit::Use,
    /// Who is asked about each call (libvirt's `access_drivers`).
    pub drivers: Vec<AccessDriver>,
}

/// Who can be asked about each call.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum AccessDriver {
    Polkit,
}

/// `[log]`
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// As `--log-level`.
    pub level: Option<String>,
    pub format: LogFormat,
}

/// `[network]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// Start an inactive network when a guest that needs it starts.
    pub start_on_demand: bool,
    /// Define the network `default`, once, in a subnet that is free.
    pub ship_default: bool,
    /// Programs; without them those in the usual places.
    pub nft: Option<PathBuf>,
    pub dnsmasq: Option<PathBuf>,
    pub tc: Option<PathBuf>,
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig { start_on_demand: true, ship_default: true, nft: None, dnsmasq: None, tc: None }
    }
}

impl NetworkConfig {
    /// As the engine takes it.
    pub fn options(&self) -> NetworkOptions {
        let programs = Programs { nft: self.nft.clone(), dnsmasq: self.dnsmasq.clone(), tc: self.tc.clone() };
        NetworkOptions { start_on_demand: self.start_on_demand, ship_default: self.ship_default, programs }
    }
}

/// `[qemu]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct QemuConfig {
    /// QEMU's user; without it libvirt-qemu or domus-qemu, whichever exists.
    pub user: Option<String>,
    /// QEMU's group; without it the user's own.
    pub group: Option<String>,
    /// Give images to QEMU's user for the time of the run.
    pub dynamic_ownership: bool,
    /// Seconds until QEMU must answer its monitor.
    pub start_timeout: u64,
    /// Emulator of definitions that name none; without it the first installed one.
    pub emulator: Option<PathBuf>,
    /// Address VNC listens on when a definition names none.
    pub vnc_listen: String,
    /// First and last TCP port for `autoport`.
    pub vnc_port_min: u16,
    pub vnc_port_max: u16,
    /// Directories with firmware descriptors, most important first; without it QEMU's standard ones.
    pub firmware_path: Option<Vec<PathBuf>>,
    /// QEMU's own seccomp filter.
    pub seccomp_sandbox: bool,
    /// Open files a QEMU may have.
    pub max_files: u64,
    /// Cgroup partition of definitions that name none.
    pub partition: String,
}

impl Default for QemuConfig {
    fn default() -> QemuConfig {
        QemuConfig {
            user: None,
            group: None,
            dynamic_ownership: true,
            start_timeout: 30,
            emulator: None,
            vnc_listen: "127.0.0.1".into(),
            vnc_port_min: 5900,
            vnc_port_max: 65535,
            firmware_path: None,
            seccomp_sandbox: true,
            max_files: 32768,
            partition: "/machine".into(),
        }
    }
}

/// `[lxc]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LxcConfig {
    /// The supervisor's binary; without it `domus-run` beside the daemon's.
    pub run_binary: Option<PathBuf>,
    /// Containers without `<idmap>` run as root of the host instead of in a range of ids of their own.
    pub privileged: bool,
    /// File system type in image files and on block devices of containers.
    pub image_fstype: String,
    /// Bytes a container without a root of its own may write.
    pub scratch_size: u64,
    /// Processes and threads of a container.
    pub max_processes: u64,
    /// Seconds a start may take.
    pub start_timeout: u64,
    /// Cgroup partition of definitions that name none.
    pub partition: String,
}

impl Default for LxcConfig {
    fn default() -> LxcConfig {
        LxcConfig {
            run_binary: None,
            privileged: false,
            image_fstype: "ext4".into(),
            scratch_size: 512 << 20,
            max_processes: 16_384,
            start_timeout: 60,
            partition: "/machine".into(),
        }
    }
}

/// `[test]`: the driver whose guests exist in memory only.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct TestConfig {
    /// The domain `test` is there, running, in a new state directory.
    pub domain: bool,
}

impl Default for TestConfig {
    fn default() -> TestConfig {
        TestConfig { domain: true }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    #[error("configuration file {path}: {error}")]
    Parse { path: PathBuf, error: Box<toml::de::Error> },
}

impl Config {
    /// Reads `path`; a file that is not there is an error only when it was asked for.
    pub fn load(path: &Path, asked_for: bool) -> Result<Config, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !asked_for => return Ok(Config::default()),
            Err(error) => return Err(ConfigError::Read { path: path.to_path_buf(), error }),
        };
        Config::parse(&text).map_err(|error| ConfigError::Parse { path: path.to_path_buf(), error: Box::new(error) })
    }

    fn parse(text: &str) -> Result<Config, toml::de::Error> {
        toml::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_says_the_defaults() {
        let text = include_str!("../../packaging/domusd.toml");
        assert_eq!(Config::parse(text).unwrap(), Config::default());
        // Every key the example shows commented out is one we know.
        let all: String =
            text.lines().map(|line| line.strip_prefix("#= ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
        let shown = Config::parse(&all).unwrap();
        assert_eq!(shown.socket.group.as_deref(), Some("libvirt"));
        assert_eq!(shown.access.drivers, [AccessDriver::Polkit]);
    }

    #[test]
    fn a_typing_error_is_named_with_its_place() {
        let error = Config::parse("[socket]\ngruop = \"x\"\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("gruop") && error.contains("group"), "{error}");
        assert!(Config::parse("drivers = [\"xen\"]").is_err());
        // A word that is none of these must not mean "none".
        assert!(Config::parse("[access]\nauth_unix_rw = \"poolkit\"\n").is_err());
        assert!(Config::parse("[access]\ndrivers = [\"none\"]\n").is_err());
    }
}
