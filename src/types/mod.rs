//! Small value types every room uses: identifiers, addresses, sizes, typed parameters, flag words.
//!
//! Owns no state and does no I/O. Wire and XML text forms live in `FromStr`/`Display`.

pub mod flags;
pub mod mac;
pub mod params;
pub mod pci;
pub mod size;
pub mod text;

pub use mac::MacAddr;
pub use params::{ParamValue, TypedParams};
pub use pci::PciAddress;
pub use uuid::Uuid;
