//! Storage volumes: their XML.
//!
//! What a `<volume>` document may say depends on the type of the pool it is in: [`parse`] takes that type.

mod encryption;
mod model;
mod parse;
pub mod scan;
pub mod sniff;
#[cfg(test)]
mod tests;
mod write;

pub use encryption::VolumeEncryption;
pub use model::*;
pub use parse::{Capacity, parse, parse_strictly};
pub use write::{format, format_time};
