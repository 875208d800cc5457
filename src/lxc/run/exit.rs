//! The exit record: how a run ended, on disk before the supervisor ends.

use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::libc;
use rustix::process::WaitIdStatus;

use super::{Context, Failure, Result};
use crate::lxc::protocol::{Cause, EXIT_RECORD_NAME, ExitRecord};

/// Version of the record this build writes.
const VERSION: u32 = 1;

/// What a wait status means for a container's init.
///
/// `reboot(2)` inside a pid namespace ends its init with SIGHUP (restart) or SIGINT (halt, power-off); no other signal
/// of that kind can reach an init that does not handle it, so they are never mistaken.
pub fn of_status(status: &WaitIdStatus, killed: bool) -> ExitRecord {
    let signal = status.terminating_signal();
    let cause = match signal {
        None => Cause::Exited,
        Some(libc::SIGHUP) => Cause::Reboot,
        Some(libc::SIGINT) => Cause::PowerOff,
        Some(_) => Cause::Killed,
    };
    ExitRecord { version: VERSION, cause, status: status.exit_status(), signal, killed, time: now(), message: None }
}

/// Killed while it waited for its next run.
pub fn between_runs() -> ExitRecord {
    let signal = Some(libc::SIGKILL);
    ExitRecord {
        version: VERSION,
        cause: Cause::Killed,
        status: None,
        signal,
        killed: true,
        time: now(),
        message: None,
    }
}

/// A start that failed.
pub fn of_failure(failure: &Failure) -> ExitRecord {
    ExitRecord {
        version: VERSION,
        cause: Cause::StartFailed,
        status: None,
        signal: None,
        killed: false,
        time: now(),
        message: Some(failure.to_string()),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Writes the record so that a reader finds all of it or nothing. It is not synced: the run directory belongs to this
/// boot, and the page cache outlives every process.
pub fn write(run_dir: &Path, record: &ExitRecord) -> Result<()> {
    let path = run_dir.join(EXIT_RECORD_NAME);
    let temporary = run_dir.join(".exit.json.new");
    let text = serde_json::to_vec(record)
        .map_err(|error| Failure { stage: "exit record".to_string(), message: error.to_string() })?;
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&text)?;
        std::fs::rename(&temporary, &path)
    };
    write().at("exit record", format_args!("cannot write '{}'", path.display()))
}
