//! A program without the standard library's preparations: for one that is executed for every container.
//!
//! What they do costs a dozen system calls and the pages they touch (the stack's bounds from /proc/self/maps, an
//! alternative stack and two handlers for a message on stack overflow). Such a program is to have one thread; it starts
//! with descriptors 0 to 2 open.

use nix::libc;

/// The program's `main`, which calls `$main` (`fn() -> u8`, the exit status). With the C library whose start-up code
/// hands the arguments to `std::env`; elsewhere the ordinary one.
#[macro_export]
macro_rules! bare_main {
    ($main:path) => {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: the one symbol of this name: the program has no `main` of Rust's (`no_main`).
        #[unsafe(no_mangle)]
        extern "C" fn main() -> i32 {
            $crate::sys::bare::begin();
            i32::from($main())
        }
        #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
        fn main() -> std::process::ExitCode {
            std::process::ExitCode::from($main())
        }
    };
}

/// What is left of the preparations: a pipe that nobody reads is an error of the write, not the end of the process.
pub fn begin() {
    // SAFETY: SIG_IGN installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}
