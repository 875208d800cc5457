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
mod driver;
mod entry;
mod harness;
mod kernel;
mod paths;
mod probe;
mod start;
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
    "A1", driver::a_definition_without_idmap, "no-userns";
    "A2", start::the_hosts_root_by_another_name, "host-root";
    "B1", driver::cgroup_paths_of_the_host, "share-cgroup";
    "B1", start::namespaces_of_the_host, "share-uts";
    "B2", start::a_life_after_the_supervisor, "outlive-supervisor";
    "B3", start::mounts_that_come_back_to_the_host, "shared-mounts";
    "B3", start::the_old_root, "keep-old-root";
    "B4", kernel::status_of_init, "no-seccomp";
    "B4", descriptors::groups_of_the_starter, "keep-groups";
    "B4", entry::groups_of_what_enters, "keep-groups";
    "B5", descriptors::fifty_open_directories_at_the_start, "keep-fds";
    "B5", descriptors::a_working_directory_outside, "any-cwd";
    "B6", entry::writing_the_binary_that_enters, "unsealed";
    "B6", entry::tracing_what_enters, "traceable";
    "B7", entry::a_name_service_in_the_image, "trust-nss";
    "C1", paths::links_out_of_the_root, "follow-links";
    "C1", paths::a_racing_renamer, "follow-links";
    "C1", paths::links_for_system_directories, "system-links";
    "C2", paths::nodes_of_the_image, "image-dev";
    "C2", paths::a_link_for_a_node_of_the_image, "image-dev";
    "C3", paths::a_terminal_of_the_same_number, "console-by-name";
    "C4", paths::a_mount_over_a_file_of_proc, "unproven-proc";
    "C5", kernel::proc_files_of_the_host, "no-masks";
    "C6", paths::mounts_over_kernel_file_systems, "kernel-targets";
    "C7", paths::device_nodes_in_the_image, "image-devices";
    "C7", driver::a_set_user_id_program_for_other_users, "open-overlay";
    "C8", paths::a_disk_that_says_it_is_another_format, "any-fstype";
    "C8", paths::the_hosts_proc_as_an_image, "any-fstype";
    "D1", driver::more_capabilities_than_the_policy_gives, "keep-caps";
    "D2", kernel::denied_calls_of_x86_64, "no-seccomp";
    "D2", kernel::denied_calls_of_x32, "no-seccomp";
    "D2", kernel::denied_calls_of_i386, "no-seccomp";
    "D3", driver::devices_by_v1_rules_or_both, "any-device";
    "D3", driver::devices_by_v2_programs, "any-device";
    "D4", driver::its_own_limits, "own-limits";
    "D5", driver::a_fork_bomb, "no-pids-limit";
    "D5", descriptors::keys_of_the_starter, "keep-keyring";
    "D6", driver::two_containers_on_one_range, "same-ids";
    "D7", driver::hostile_interface_names, "any-name";
    "D7", driver::a_name_that_is_a_path, "any-name";
    "D7", driver::a_partition_that_is_a_path, "any-name";
}
