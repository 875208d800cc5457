//! Fault points: named places where a test makes the daemon die, a step fail or take its time.
//!
//! `DOMUS_FAULT=NAME:kill` kills the process with SIGKILL at the point, `NAME:fail` makes it an I/O error, `NAME:wait`
//! holds the thread for half a second; several are separated by commas, and `NAME:kill:3` means the third time the
//! point is passed. Read once; without the variable a point costs one load.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The variable.
pub const VARIABLE: &str = "DOMUS_FAULT";

/// How long a point that waits does: a test has begun its next call well before.
const WAIT: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Kill,
    Fail,
    Wait,
}

#[derive(Debug)]
struct Fault {
    name: String,
    action: Action,
    /// Passes left until it acts; it then acts once when killing and always otherwise.
    countdown: AtomicU32,
}

static FAULTS: OnceLock<Vec<Fault>> = OnceLock::new();

/// The variables of a test that a process passes on to those it starts: this one and, in a build that has them, the
/// weakening points'.
pub fn inherited() -> Vec<(String, String)> {
    let own = std::env::var(VARIABLE).ok().map(|faults| (VARIABLE.to_string(), faults));
    own.into_iter().chain(super::weaken::inherited()).collect()
}

/// Passes the point `name` (`<operation>.<step>`, for example `start.tap`).
pub fn point(name: &str) -> io::Result<()> {
    let faults = FAULTS.get_or_init(|| parse(&std::env::var(VARIABLE).unwrap_or_default()));
    if faults.is_empty() { Ok(()) } else { pass(faults, name) }
}

fn parse(text: &str) -> Vec<Fault> {
    text.split(',')
        .filter_map(|entry| {
            let mut parts = entry.trim().split(':');
            let name = parts.next().filter(|name| !name.is_empty())?.to_string();
            let action = match parts.next() {
                Some("fail") => Action::Fail,
                Some("wait") => Action::Wait,
                _ => Action::Kill,
            };
            let count = parts.next().and_then(|count| count.parse().ok()).unwrap_or(1);
            Some(Fault { name, action, countdown: AtomicU32::new(count) })
        })
        .collect()
}

fn pass(faults: &[Fault], name: &str) -> io::Result<()> {
    for fault in faults.iter().filter(|fault| fault.name == name) {
        let left = fault.countdown.load(Ordering::Relaxed);
        if left > 1 {
            fault.countdown.store(left - 1, Ordering::Relaxed);
            continue;
        }
        match fault.action {
            Action::Kill => {
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                // The first process of a pid namespace is deaf to its own signals, this one too.
                // SAFETY: ends the process; runs nothing of ours, as SIGKILL would not.
                unsafe { nix::libc::_exit(137) }
            }
            Action::Wait => std::thread::sleep(WAIT),
            Action::Fail => return Err(io::Error::other(format!("fault point {name}"))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_points_fail() {
        let faults = parse("start.tap:fail, start.exec:fail:2");
        assert!(pass(&faults, "start.disk").is_ok());
        assert!(pass(&faults, "start.tap").is_err());
        assert!(pass(&faults, "start.exec").is_ok());
        assert!(pass(&faults, "start.exec").is_err());
        assert!(point("anything").is_ok());
    }

    #[test]
    fn empty_is_no_fault() {
        assert!(parse("").is_empty());
        assert_eq!(parse("x").first().map(|fault| fault.action), Some(Action::Kill));
    }
}
