//! The daemon: configuration, directories, start-up order, signals, graceful stop. Wires drivers into the engine and the
//! engine into the front ends; decides nothing about domains.
//!
//! ```text
//! options, configuration -> log -> directories -> lock -> drivers -> engine (recovery) -> own socket, buses
//!     -> READY -> autostart -> ... -> SIGTERM -> STOPPING -> no new calls -> calls in flight end -> out
//! ```
//!
//! Stopping touches no guest: they run on, and the next start finds them again.

pub mod config;
pub mod dirs;
pub mod drivers;
pub mod lock;
pub mod logging;
pub mod notify;
pub mod options;
pub mod polkit;
pub mod run;
pub mod systemd;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use options::Options;

/// Threads that hang are left behind after this long.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// The program.
pub fn main() -> ExitCode {
    let options = Options::parse();
    if options.print_dbus_coverage {
        print!("{}", crate::dbus::coverage::markdown());
        return ExitCode::SUCCESS;
    }
    if options.print_rpc_coverage {
        print!("{}", crate::rpc::coverage::markdown());
        return ExitCode::SUCCESS;
    }
    crate::sys::alloc::share_arenas();
    // Before anything else is opened: their numbers are then either theirs or nobody's.
    let passed = match crate::sys::passed::sockets() {
        Ok(passed) => passed,
        Err(error) => {
            eprintln!("domusd: cannot take the service manager's sockets: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("domusd").build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("domusd: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run::run(options, passed));
    runtime.shutdown_timeout(LAST_PATIENCE);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("domusd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
