//! The undo record: what a start has made, as data, on disk before it is made.
//!
//! A step names a resource; undoing it must be harmless when the resource never came to be, because the record is
//! written first. The same steps, in reverse, end a run that went well: stop and failed start share one path.
//! Owns the step vocabulary; `engine::cleanup` carries steps out through the services.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::types::Uuid;

/// One thing to take back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Step {
    /// A directory of this run, removed with all in it. Always below the daemon's run-time directory.
    Dir { path: PathBuf },
    /// A file of this run.
    File { path: PathBuf },
    /// A process whose pid and start time the child itself wrote to `pidfile` before exec. Killed only if both match.
    Process { pidfile: PathBuf },
    /// A network interface this run made; removed only if its alias (`IFLA_IFALIAS`) is `alias`, when one is given.
    Link { name: String, alias: Option<String> },
    /// The owner of an image before it was given to the guest's user.
    Owner { path: PathBuf, uid: u32, gid: u32 },
    /// A cgroup of this run (path below the mount points); its processes are killed, then it is removed.
    Cgroup { path: String },
    /// A guest's interface in a network.
    NetworkPort { network: Uuid, port: Uuid },
    /// Something only the driver understands.
    Driver { data: serde_json::Value },
}
