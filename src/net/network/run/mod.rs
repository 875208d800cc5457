//! What makes a virtual network live: its bridge, its firewall table, its dnsmasq, and how all of it goes away again.
//!
//! A [`Plan`] is plain data. [`start`] carries it out after its [`Step`]s were recorded; [`undo`] takes back whatever of
//! them came to be, after a stop, a failed start or a crash alike. What was taken from a running network from outside
//! (a flushed firewall, a killed dnsmasq, a deleted bridge) is found by [`check`] and put back by [`heal`].
//!
//! ```text
//! plan -> steps on disk -> run directory -> forwarding -> firewall -> bridge -> routes -> limits -> dnsmasq
//! ```
//!
//! Never decides what a network is to be: that is the definition's business. Knows no guest but by its interface's name.

mod filter;
pub mod foreign;
mod health;
pub mod leases;
pub mod nft;
pub mod plan;
mod programs;
pub mod server;
pub mod sriov;
mod start;
mod step;
pub mod subnet;
#[cfg(test)]
mod tests;

pub use filter::Filter;
pub use health::{Problem, Seen, check, heal};
pub use plan::{Plan, Surroundings};
pub use programs::Programs;
pub use server::ServerSpec;
pub use start::{refresh, settle, start, stop};
pub use step::{Journal, Step, undo};
