//! System containers: `<domain type='lxc'>`.
//!
//! ```text
//! DomainDef --plan (pure)--> Spec --JSON on an fd--> domus-run --clone3--> init
//!                                                     | supervisor: consoles, exit record, control socket
//! ```
//!
//! Two halves. The daemon's: [`plan`], the driver, the instance. The run-time half: [`run`], which is all that
//! `domus-run` links; it names only [`spec`], [`protocol`] and `sys`.

mod client;
pub mod config;
mod driver;
mod exec;
mod fork_server;
mod hostdev;
pub mod idalloc;
mod instance;
mod launch;
pub mod native;
pub mod plan;
mod plug;
pub mod protocol;
pub mod run;
mod sealed;
pub mod spec;
mod tune;

pub use config::LxcConfig;
pub use driver::LxcDriver;
