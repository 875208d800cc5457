//! Disk images: their headers, their chains, who may read them and whose they are.
//!
//! A format is never guessed from an image's content: content is written by guests, and a guest that writes a qcow2
//! header into its raw disk would make the daemon open any file that header names. The format comes from the domain's
//! XML, a backing file's from its overlay's header.

pub mod access;
pub mod cache;
pub mod chain;
pub mod job;
pub mod owner;
pub mod passphrase;
pub mod permissions;
pub mod pool;
pub mod progress;
pub mod qcow2;
pub mod qemu_img;
pub mod sizes;
pub mod volume;

use std::fmt;

pub use sizes::sizes;

/// How an image's bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Raw,
    Qcow2,
}

impl Format {
    /// The name that libvirt's XML and QEMU share.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
        }
    }

    /// The format of that name; `None` for the formats that are not supported.
    pub fn parse(name: &str) -> Option<Format> {
        match name {
            "raw" => Some(Format::Raw),
            "qcow2" => Some(Format::Qcow2),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
