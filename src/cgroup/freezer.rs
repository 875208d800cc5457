//! The freezer: stops every process of a group without telling it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::write;

/// How long the kernel may take to bring all tasks to a stop.
const SETTLE: Duration = Duration::from_secs(2);

/// Freezes or thaws and waits until it is so. `TimedOut` when a task sits in an uninterruptible wait; it freezes when
/// it comes out.
pub(super) fn set(dir: &Path, v2: bool, frozen: bool) -> io::Result<()> {
    let (file, value) = match (v2, frozen) {
        (true, true) => ("cgroup.freeze", "1"),
        (true, false) => ("cgroup.freeze", "0"),
        (false, true) => ("freezer.state", "FROZEN"),
        (false, false) => ("freezer.state", "THAWED"),
    };
    write(&dir.join(file), value)?;
    let started = Instant::now();
    let mut pause = Duration::from_micros(200);
    while is_frozen(dir, v2)? != frozen {
        if started.elapsed() > SETTLE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
        if !v2 && frozen {
            // v1 may stay at FREEZING; writing again makes it look again.
            write(&dir.join(file), value)?;
        }
    }
    Ok(())
}

/// Whether all tasks are stopped.
pub(super) fn is_frozen(dir: &Path, v2: bool) -> io::Result<bool> {
    if v2 {
        let events = fs::read_to_string(dir.join("cgroup.events"))?;
        Ok(events.lines().any(|line| line.trim() == "frozen 1"))
    } else {
        Ok(fs::read_to_string(dir.join("freezer.state"))?.trim() == "FROZEN")
    }
}
