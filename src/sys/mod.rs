//! The kernel's edge: processes, file descriptors, terminals, sockets, mounts.
//!
//! Owns every `unsafe` block of the project and the only way to start a process. Never knows what a domain, a disk
//! or a network is; names no other room. Errors are `std::io::Error` or an enum of the module, converted by the caller.

pub mod exec;
pub mod fault;
pub mod netnews;
pub mod netns;
pub mod passed;
pub mod process;
pub mod pty;
pub mod sock;
mod spawn;
pub mod stream;
pub mod tap;

pub mod alloc;
pub mod bare;
pub mod bpf;
pub mod clone;
pub mod loopdev;
pub mod mount_attr;
pub mod nfnl;
pub mod packet;
pub mod rtnl;
pub mod seccomp_call;
#[cfg(test)]
pub(crate) mod testing;
pub mod userns;
pub mod users;
mod weaken;

pub use weaken::weakened;
