//! Virtual networks.

pub mod run;
