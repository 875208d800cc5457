//! Storage pools: their XML, and what makes one usable.
//!
//! [`parse`] reads libvirt's `<pool>` document of every type, [`format`] writes it in libvirt's order. Only pools whose
//! type [`PoolType::is_supported`] can be started here; the others can be defined and looked at.

pub mod backend;
pub mod capabilities;
pub mod directory;
pub mod logical;
mod model;
pub mod mount;
mod parse;
mod source;
#[cfg(test)]
mod tests;
mod write;

pub use model::*;
pub use parse::{FS_NAMESPACE, Parsed, RBD_NAMESPACE, parse, parse_strictly};
pub(in crate::disk) use source::{read_secret, write_secret};
pub use write::{Usage, format};

#[cfg(test)]
pub(in crate::disk) use tests::corpus;
