//! Black-box tests of `domus`: what it prints, byte for byte, and its exit status.
//!
//! `texts` and `warnings` run it against `domusd --mock`. `several`, `events` and `terminal` run it against a small
//! server of their own, for what the mock driver has no way to show: two drivers at once, every kind of event, a
//! console. Expected texts are virsh 11.3's unless a comment says why not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::disallowed_methods, reason = "sys::exec and store::atomic belong to the daemon, not to its tests")]

mod bus;
mod events;
mod fake;
mod harness;
mod json;
mod several;
mod terminal;
mod texts;
mod usage;
mod warnings;
