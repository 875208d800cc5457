//! Containers when something dies: the daemon, the supervisor or init, at every fault point and at moments of their own.
//! Nothing half-built is left, what runs goes on, and how a container ended is known.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::disallowed_methods, reason = "sys::exec and store::atomic belong to the daemon, not to its tests")]

mod container;
#[allow(dead_code, unused_imports, clippy::needless_pass_by_value, reason = "written for all suites")]
#[path = "../blackbox/harness/mod.rs"]
mod harness;

mod deaths;
mod points;
