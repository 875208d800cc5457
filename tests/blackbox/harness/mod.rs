//! What the suites share: a daemon in a place of its own, the CLI with a deadline, guests, and the leak check.

pub mod bus;
pub mod bus_daemon;
pub mod container;
pub mod guest;
pub mod lab;
pub mod leaks;
pub mod limit;
pub mod polkit;
pub mod run;
pub mod virsh;
pub mod wait;

pub use bus::Bus;
pub use bus_daemon::BusDaemon;
pub use guest::Guest;
pub use lab::Lab;
pub use limit::Limit;
pub use polkit::{Polkit, Say, as_user};
pub use run::{Out, run, run_with_input};
pub use virsh::Virsh;
pub use wait::{eventually, soon};

use std::io::Write;
use std::path::{Path, PathBuf};

/// Longest time a single command may take before the test calls it hung. Generous: machines are shared.
pub const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// Says loudly that a test does not run here. Written past libtest's capture, so that it is always seen and counted.
pub fn skip(name: &str, reason: &str) {
    // One write, so that lines of parallel tests do not mix.
    let line = format!("SKIP {name}: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The name of the running test as libtest shows it.
pub fn test_name() -> String {
    std::thread::current().name().unwrap_or("?").to_string()
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file below tests/fixtures.
pub fn fixture(name: &str) -> String {
    let path = repository().join("tests/fixtures").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The program in PATH (with the system directories), if there is one.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin", "/usr/bin"]).map(|d| Path::new(d).join(name)).find(|p| p.is_file())
}
