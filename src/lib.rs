//! domus: libvirt domain XML in, running QEMU virtual machines and system containers out.
//!
//! The rooms, top to bottom. A room may name only rooms below its own line; `tests/layering.rs` holds it to that:
//!
//! ```text
//! cli                                   talks D-Bus only, names no room but types, error, sys
//! daemon
//! dbus  rpc                             front ends: codecs only
//! lxc  qemu  mock                       drivers
//! engine                                the driver-neutral heart
//! net  disk  host  cgroup  store secret services
//! domain_xml                            vocabulary
//! xml
//! types
//! error
//! sys                                   the only unsafe code
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cgroup;
pub mod cli;
pub mod daemon;
pub mod dbus;
pub mod disk;
pub mod domain_xml;
pub mod engine;
pub mod error;
pub mod host;
pub mod lxc;
pub mod mock;
pub mod net;
pub mod qemu;
pub mod rpc;
pub mod secret;
pub mod store;
pub mod sys;
pub mod types;
pub mod xml;
