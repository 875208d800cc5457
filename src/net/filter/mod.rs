//! Network filters (`virNWFilter`): their definitions in libvirt's XML.
//!
//! ```text
//! document ── <filter>, <filterref>, <rule> in their order ──> protocols: which attributes an element has
//!                                                          └─> value: what stands in one, checked and in one form
//! ```
//!
//! Owns the definition only; no filter is put into force here.

mod document;
mod protocols;
#[cfg(test)]
mod tests;
mod value;

pub use value::Value;

use crate::domain_xml::words::words;
use crate::error::Result;
use crate::types::Uuid;

/// `<filter>`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilterDef {
    /// Unique.
    pub name: String,
    /// `root`, or a name that begins with a protocol.
    pub chain: String,
    /// -1000 to 1000: the order among chains.
    pub priority: Option<i32>,
    /// Given by who keeps it, when the document has none.
    pub uuid: Option<Uuid>,
    pub entries: Vec<Entry>,
}

/// What a filter is made of, in its order.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Reference(Reference),
    Rule(Rule),
}

/// `<filterref>`: another filter, with values for its variables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reference {
    pub filter: String,
    /// Sorted by name; values of one name in their order.
    pub parameters: Vec<(String, String)>,
}

words! {
    /// What becomes of a packet.
    pub enum Action {
        Drop = "drop",
        Accept = "accept",
        Reject = "reject",
        Return = "return",
        Continue = "continue",
    }

    /// As the guest sees it.
    pub enum Direction { In = "in", Out = "out", Inout = "inout" }
}

/// `<rule>`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    pub action: Action,
    pub direction: Direction,
    /// -1000 to 1000: the order among rules; 500 when not given.
    pub priority: i32,
    /// Whether only packets of known connections are looked at the other way.
    pub statematch: bool,
    pub packets: Option<Packets>,
}

/// Which packets a rule is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packets {
    /// `tcp`, `arp` ...
    pub protocol: &'static str,
    /// In libvirt's order.
    pub conditions: Vec<Condition>,
}

/// What an attribute asks of a packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub name: &'static str,
    pub value: Value,
    /// It must not be so (`match='no'`).
    pub negated: bool,
}

impl FilterDef {
    /// Reads libvirt's filter XML. Errors: codes 1, 27 and 35.
    pub fn parse(xml: &str) -> Result<FilterDef> {
        document::parse(xml)
    }

    /// Refuses what the XML has that a filter does not (`VIR_NWFILTER_DEFINE_VALIDATE`). Error: code 92.
    pub fn validate(xml: &str) -> Result<()> {
        document::validate(xml)
    }

    /// libvirt's filter XML.
    pub fn to_xml(&self) -> String {
        document::write(self)
    }

    /// The filters it refers to.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Reference(reference) => Some(reference.filter.as_str()),
            Entry::Rule(_) => None,
        })
    }
}
