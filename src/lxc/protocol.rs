//! The supervisor's protocol: JSON objects as `SOCK_SEQPACKET` packets, fds beside them.
//!
//! The supervisor opens with [`Event::Hello`]; then requests and answers (matched by `seq`) and events mix. A newer
//! side may add fields and calls; an unknown call is answered with an error, an unknown event is to be ignored.
//! Version 1 calls never change their meaning.

use serde::{Deserialize, Serialize};

/// Version of the protocol.
pub const PROTOCOL_VERSION: u32 = 1;
/// Name of the control socket in the run directory.
pub const SOCKET_NAME: &str = "control.sock";
/// Name of the exit record in the run directory.
pub const EXIT_RECORD_NAME: &str = "exit.json";
/// Fd the supervisor finds its [`super::spec::Spec`] on.
pub const SPEC_FD: i32 = 3;
/// Fd of its first connection: the daemon that starts it.
pub const CONTROL_FD: i32 = 4;
/// Fd of the binary it is started from, until it closes it.
pub const BINARY_FD: i32 = 5;
/// First of the fds that are for init.
pub const FILES_FD: i32 = 6;
/// Fd the fork server gets its [`Birth`]s on.
pub const BIRTHS_FD: i32 = 3;

/// What the fork server is asked: a supervisor. With it come fds: the spec, the supervisor's first connection, its
/// output, the pid file, then `groups` and the files for init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// The container's name, for `ps`.
    pub name: String,
    /// Whether the next fd is the directory of the v2 group to be born in.
    pub born_in: bool,
    /// Files of v1 groups to join.
    pub doors: usize,
}

/// A request to the supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the caller, repeated in the answer.
    pub seq: u64,
    #[serde(flatten)]
    pub call: Call,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case")]
pub enum Call {
    /// State of the run.
    Status,
    /// Lets a held init run.
    Run,
    /// A stream to console `index`; the answer carries one fd. `force` ends another user's stream.
    Console { index: usize, force: bool },
    /// Sets the size of console `index`, in characters.
    Resize { index: usize, rows: u16, columns: u16 },
    /// Plugs an interface, now and in later runs of init.
    PlugNic { nic: super::spec::Nic },
    /// Removes the interface with this host end.
    UnplugNic { host: String },
    /// Sets a host end up or down; the container sees a carrier or none.
    LinkState { host: String, up: bool },
    /// Makes a device node in /dev.
    AddDevice { device: super::spec::Device },
    /// Removes one, by its name below /dev.
    RemoveDevice { name: String },
    /// Sends init a signal.
    Signal { signal: i32 },
    /// Asks init to power off or reboot, by the ways given, the first that works.
    Shutdown { reboot: bool, initctl: bool, signal: bool },
    /// Kills init (and so everything inside).
    Kill,
    /// Whether init runs again after each kind of end, from now on.
    Lifecycle { poweroff: bool, reboot: bool, crash: bool },
}

/// What the supervisor sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// First packet of every connection. `start` is the supervisor's start time (as in [`Running`]); 0 of one that could
    /// not be started, which says so and ends.
    Hello {
        version: u32,
        pid: i32,
        #[serde(default)]
        start: u64,
    },
    /// Everything is built; init waits for [`Call::Run`] (only with `hold`).
    Held(Running),
    /// Init was let go.
    Started(Running),
    /// Init asked for a reboot, or ended in a way that the definition answers with a restart, and runs again.
    Rebooted(Running),
    /// Init ended, or never ran; the exit record is on disk. Last event.
    Ended(ExitRecord),
    /// Answer to a request.
    Reply { seq: u64, error: Option<String>, status: Option<Running> },
}

/// A container that is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Init's pid in the supervisor's pid namespace.
    pub init: i32,
    /// Its start time, clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub init_start: u64,
    /// Host pty of each console.
    pub ttys: Vec<String>,
    /// Whether it still waits for [`Call::Run`].
    pub held: bool,
}

/// How a run ended; also what [`EXIT_RECORD_NAME`] holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    pub version: u32,
    pub cause: Cause,
    /// Exit status of init, if it exited.
    pub status: Option<i32>,
    /// Signal that ended init, if one did.
    pub signal: Option<i32>,
    /// Whether a kill of ours ended it.
    pub killed: bool,
    /// Seconds since the epoch.
    pub time: u64,
    /// Start failures: what failed.
    pub message: Option<String>,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Init returned.
    Exited,
    /// `reboot(2)` with halt or power-off.
    PowerOff,
    /// `reboot(2)` with restart, and the plan says not to.
    Reboot,
    /// A signal ended init.
    Killed,
    /// It never ran.
    StartFailed,
}

/// What whoever holds the other end of a program's control socket may ask; packets as above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case")]
pub enum ExecCall {
    /// Sends the program's process group a signal.
    Signal { signal: i32 },
    /// Sets the size of its terminal, in characters.
    Resize { rows: u16, columns: u16 },
}

/// What the holder is told, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum ExecEvent {
    Exited {
        status: i32,
    },
    Signaled {
        signal: i32,
    },
    /// It never ran.
    Failed {
        message: String,
    },
}
