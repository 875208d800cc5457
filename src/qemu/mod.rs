//! The QEMU driver: virtual machines.
//!
//! ```text
//! DomainDef --complete--> completed definition --validate--> stored by the engine
//!           --launch: prepare, command (pure), files, spawn, qmp--> instance
//!           --reattach--> instance again, after a daemon restart
//! ```
//!
//! `capabilities` knows the installed QEMU, `addresses` and `complete` fill in definitions, `command` writes command
//! lines, `qmp` talks, `launch` starts, `instance` is a running guest. Never keeps a list of guests, never writes state
//! records: the engine does.

pub mod addresses;
pub mod capabilities;
pub mod command;
pub mod complete;
pub mod config;
mod driver;
pub mod events;
pub mod failure;
pub mod firmware;
pub mod instance;
pub mod launch;
pub mod process;
pub mod procstat;
pub mod qmp;
mod reattach;
mod validate;

pub use config::QemuConfig;
pub use driver::QemuDriver;
