//! libvirt's domain XML: bytes -> [`DomainDef`] -> XML. No I/O, no clock.
//!
//! [`parse`] reads a document, drops what it does not know (with a [`Warning`] each) and applies libvirt's defaults
//! that need neither host nor driver ([`post_parse`]). [`format`] writes libvirt's order, indentation and quoting.

pub mod abi;
pub mod check;
pub mod clock;
pub mod cpu;
pub mod device;
pub mod diff;
pub mod features;
pub mod foreign;
mod format;
mod limits;
pub mod matching;
pub mod memory;
pub mod metadata;
mod migratable;
pub mod model;
pub mod os;
mod parse;
pub mod perf;
mod place;
pub mod post_parse;
#[cfg(test)]
mod schema;
pub mod seclabel;
mod shape;
pub mod snapshot;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tune;
pub mod validate;
pub mod words;

pub use format::infos;
pub use model::{DomainDef, VirtType};
pub use parse::Device;
pub(crate) use parse::parse_uuid;
pub use place::place;
pub use words::{Switch, YesNo};

use crate::error::Result;

/// Something accepted but doubtful: an unknown element, an ignored value. Shown by `CheckXML`, `define` and the log.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Warning {
    /// 1-based; 0 when the warning is about no place in particular.
    pub line: u32,
    /// 1-based, in characters; 0 as above.
    pub column: u32,
    /// Element path, `domain/devices/disk[2]/source`; may be empty.
    pub path: String,
    /// What is doubtful and what to do.
    pub message: String,
}

/// A parsed document with what was doubtful in it.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub def: DomainDef,
    pub warnings: Vec<Warning>,
}

/// Which side of a definition is written (`virDomainXMLFlags`).
#[derive(Clone, Copy, Debug, Default)]
pub struct FormatOptions {
    /// With secrets (passwords).
    pub secure: bool,
    /// As an inactive definition: without id, aliases, run-time ports and paths.
    pub inactive: bool,
    /// Fit for an older receiver (`VIR_DOMAIN_XML_MIGRATABLE`): the caller has called [`to_migratable`].
    pub migratable: bool,
}

/// Reads a `<domain>` document, run-time parts included. Errors carry line, column, element path, what was expected
/// and the nearest known word: code 35 for syntax, 27 and 67 for meaning, 8 and 82 for sizes.
pub fn parse(xml: &str) -> Result<Parsed> {
    parse::parse(xml)
}

/// Reads a `<domain>` document as a definition that is not running (`VIR_DOMAIN_DEF_PARSE_INACTIVE`): what belongs to
/// one run is dropped, see [`to_inactive`].
pub fn parse_inactive(xml: &str) -> Result<Parsed> {
    let mut parsed = parse::parse(xml)?;
    to_inactive(&mut parsed.def);
    Ok(parsed)
}

/// Reads a document that this daemon wrote, run-time parts included, without the checks of [`validate`]: a definition
/// that was accepted once stays readable when a later version refuses more. Errors as [`parse`].
pub fn parse_stored(xml: &str) -> Result<Parsed> {
    parse::parse_stored(xml)
}

/// Writes a `<domain>` document in libvirt's order, indentation and quoting.
pub fn format(def: &DomainDef, options: FormatOptions) -> String {
    format::format(def, options)
}

/// Drops what belongs to one run: id, aliases that are not the user's, pty paths, allocated ports, node indexes,
/// detected backing chains, made-up tap names, dynamic labels.
pub fn to_inactive(def: &mut DomainDef) {
    format::to_inactive(def);
}

/// Leaves out what older receivers do not understand and make by themselves, as libvirt does for `MIGRATABLE`.
pub fn to_migratable(def: &mut DomainDef) {
    migratable::to_migratable(def);
}

/// Reads one device element, as `virDomainAttachDevice` gets it. Errors as [`parse`].
pub fn parse_device(xml: &str) -> Result<(Device, Vec<Warning>)> {
    parse::parse_device(xml)
}

/// What of a document nobody asked for and what readers remarked on: also for the formats of other objects.
pub(crate) fn warnings_of(document: &crate::xml::Document<'_>) -> Vec<Warning> {
    parse::warnings(document)
}

/// Writes one device.
pub fn format_device(device: &Device, options: FormatOptions) -> String {
    format::format_device(device, options)
}
