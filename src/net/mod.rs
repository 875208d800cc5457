//! Host networking for guests: links, taps, bridges, virtual networks. Knows no driver and keeps no state of its own.
//!
//! Everything goes through netlink in this process ([`link`]); no `ip` or `brctl` is run. A socket belongs to the
//! network namespace of the daemon.

pub mod address;
pub mod bandwidth;
pub mod bridge;
pub mod filter;
pub mod host_interface;
pub mod link;
pub mod macvtap;
pub mod network;
pub mod tap;

pub use link::{LinkInfo, LinkStats, Netlink};
pub use tap::{Plugged, TapSpec};
