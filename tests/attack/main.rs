//! The proof that containers hold: every promise of the container's confinement has an attack that tries to break it.
//!
//! An attack says what came of it: held, broken, or that this machine cannot tell. Each is run twice: against the build
//! as it is, where it must be held; and with the defence it is about switched off (`DOMUS_WEAKEN`, see
//! `src/sys/weaken.rs`), where the same attack must succeed. So no attack can pass because it tries nothing.
//!
//! A weakened attack succeeds on this very machine: none may do harm by it. They open for writing without writing, read
//! what is the test's own, and change what is in the test's own directory.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::disallowed_methods, reason = "sys::exec and store::atomic belong to the daemon, not to its tests")]

#[path = "../lxc_support/mod.rs"]
mod lxc_support;

mod descriptors;
mod harness;
mod kernel;
mod paths;
mod table;

use harness::{Row, holds, is_noticed};

/// One row a line: the requirement, the attack, the defence without which it succeeds.
macro_rules! attacks {
    ($($requirement:literal, $module:ident::$attack:ident, $weakening:literal;)*) => {
        /// All of them.
        const TABLE: &[Row] = &[$(Row {
            requirement: $requirement,
            module: stringify!($module),
            attack: stringify!($attack),
            weakening: $weakening,
            run: $module::$attack,
        }),*];

        mod attack {
            $(pub mod $attack {
                #[test]
                fn is_held() {
                    crate::holds(stringify!($attack));
                }

                #[test]
                fn succeeds_when_weakened() {
                    crate::is_noticed(stringify!($attack));
                }
            })*
        }
    };
}

attacks! {
    "B5", descriptors::fifty_open_directories_at_the_start, "keep-fds";
    "C5", kernel::proc_files_of_the_host, "no-masks";
    "C6", paths::mounts_over_kernel_file_systems, "kernel-targets";
}
