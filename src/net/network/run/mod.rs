//! What makes a virtual network live.

pub mod foreign;
pub mod leases;
pub mod nft;
pub mod subnet;
