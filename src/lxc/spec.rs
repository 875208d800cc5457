//! What `domus-run` is told: the whole start of one container as data.
//!
//! The daemon plans ([`super::plan`]), writes a [`Spec`] as JSON and hands it over on an fd; the supervisor keeps it for
//! reboots. Versioned: a supervisor refuses a spec newer than itself. Owns no behaviour.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Version of [`Spec`] this build writes and reads.
pub const SPEC_VERSION: u32 = 1;

/// Everything about one run of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    pub version: u32,
    /// Domain name, for messages.
    pub name: String,
    pub uuid: String,
    /// Directory of this run: control socket, exit record, staging mount point.
    pub run_dir: PathBuf,
    /// `None`: the host's, shared UTS namespace.
    pub hostname: Option<String>,
    pub init: Init,
    /// Maps of the user namespace; `None`: a privileged container in the host's user namespace.
    pub ids: Option<IdMaps>,
    pub root: Root,
    /// Further mounts, in order.
    pub mounts: Vec<Mount>,
    pub net: Namespace,
    pub uts: Namespace,
    pub ipc: Namespace,
    /// Names of capabilities taken out of the bounding set (`CAP_SYS_TIME` ...).
    pub drop_caps: Vec<String>,
    pub seccomp: bool,
    pub cgroup: Cgroups,
    pub nics: Vec<Nic>,
    /// The first is `/dev/console`.
    pub consoles: Vec<Console>,
    /// Device nodes beyond the standard set.
    pub devices: Vec<Device>,
    /// Start again when init asks for a reboot; else end with a record that says so.
    pub restart_on_reboot: bool,
    /// The same when init powers off or returns, and when a signal that nobody sent on purpose ends it.
    #[serde(default)]
    pub restart_on_poweroff: bool,
    #[serde(default)]
    pub restart_on_crash: bool,
    /// Wait before init's first instruction until told `run`.
    pub hold: bool,
    /// How many descriptors init finds open as 3 and up; the supervisor gets them from
    /// [`FILES_FD`](super::protocol::FILES_FD) on.
    #[serde(default)]
    pub files: u32,
}

/// The first process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Init {
    /// Program first; a path inside the root.
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Working directory inside the root; `None`: `/`.
    pub dir: Option<String>,
    /// Name or number, looked up in the root's own passwd file; `None`: root.
    pub user: Option<String>,
    pub group: Option<String>,
}

/// Maps of a user namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IdMaps {
    pub uid: Vec<IdRange>,
    pub gid: Vec<IdRange>,
}

/// One line of `/proc/PID/uid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    pub count: u32,
}

/// Where `/` comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Root {
    /// A directory tree.
    Dir { source: PathBuf, readonly: bool },
    /// An overlay over read-only layers, topmost first.
    Overlay { lower: Vec<PathBuf>, upper: PathBuf, work: PathBuf },
    /// A file system in an image file (through a loop device) or on a block device. Its type is named, never probed.
    Image { source: PathBuf, fstype: String, loop_device: bool, readonly: bool },
    /// An empty tmpfs (`<filesystem type='ram'>` for `/`). `size` in bytes.
    Ram { size: Option<u64> },
    /// No root of its own: a throw-away overlay over the host's root with fresh /tmp, /run and /var/tmp. What the
    /// container writes is gone when it ends. `size` limits that, bytes.
    HostOverlay { size: u64 },
}

/// One mount inside the root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    pub source: MountSource,
    /// Absolute path inside the root; made when missing.
    pub target: String,
    pub readonly: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MountSource {
    /// A host directory or file (`type='mount'`).
    Dir { path: PathBuf },
    /// A path of the container's own root shown a second time (`type='bind'`).
    Inside { path: String },
    /// `type='ram'`: tmpfs. Bytes.
    Ram { size: Option<u64> },
    /// `type='file'` and `type='block'`.
    Image { path: PathBuf, fstype: String, loop_device: bool },
}

/// Which namespace of a kind the container gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Namespace {
    New,
    /// The host's.
    Host,
    /// That of a process or a bound namespace file.
    Join {
        path: PathBuf,
    },
}

/// cgroups of the run, already made by the daemon, with all limits set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cgroups {
    /// Directories the supervisor joins before it clones, so that init is born in them (v1 hierarchies).
    pub inherit: Vec<PathBuf>,
    /// Directories of the supervisor alone (the v2 leaf beside the guest's, a v1 freezer's parent).
    pub supervisor: Vec<PathBuf>,
    /// Directories only init joins (the v1 freezer: freezing it must not freeze the supervisor).
    pub init: Vec<PathBuf>,
    /// The v2 directory init is cloned into; root of the container's cgroup namespace, delegated to it.
    pub guest: Option<PathBuf>,
    /// Whether the container gets a cgroup2 mount at /sys/fs/cgroup.
    pub mount: bool,
}

/// One network interface: a veth pair whose guest end is born inside, or a macvlan that is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nic {
    /// Host end; of a macvlan, which has none, the name by which it is known to the supervisor.
    pub host: String,
    /// `IFLA_IFALIAS` of the host end, by which its owner is recognised.
    pub alias: String,
    pub guest: String,
    pub mac: [u8; 6],
    pub mtu: Option<u32>,
    pub bridge: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macvlan: Option<Macvlan>,
    /// As a port of the bridge; plans of older daemons have no word on it.
    #[serde(default)]
    pub isolated: bool,
    pub up: bool,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
}

/// A macvlan beside the host's own address on one of its devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Macvlan {
    /// The host's device.
    pub dev: String,
    /// `MACVLAN_MODE_*`
    pub mode: u32,
}

/// `<ip>` of an interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Address {
    pub address: IpAddr,
    pub prefix: u8,
    pub peer: Option<IpAddr>,
}

/// `<route>` of an interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    pub destination: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
    pub metric: Option<u32>,
}

/// One `<console>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Console {
    pub log: Option<ConsoleLog>,
}

/// `<log file=.. append=..>`: all output, rotated by size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConsoleLog {
    pub path: PathBuf,
    pub append: bool,
    /// Rotate at this size, bytes; 0 = never.
    pub max_size: u64,
    /// Rotated files kept.
    pub backups: u32,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Path below /dev.
    pub name: String,
    pub block: bool,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
}

/// A program to run in a container that is there: `domus-run enter`, on the same fd as a [`Spec`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Enter {
    pub version: u32,
    /// The container's init, by pid and start time: never by pid alone.
    pub init: i32,
    pub init_start: u64,
    /// Whether the container has a user namespace of its own.
    pub user_namespace: bool,
    /// Standard streams are the starter's.
    pub program: Init,
    pub drop_caps: Vec<String>,
    pub seccomp: bool,
    /// Whether [`super::protocol::CONTROL_FD`] is a socket of whom the program runs for: told of its end, asked by it
    /// for signals and sizes, and the program's end when it closes.
    #[serde(default)]
    pub control: bool,
    /// Standard input is a terminal that becomes the program's own.
    #[serde(default)]
    pub terminal: bool,
}
