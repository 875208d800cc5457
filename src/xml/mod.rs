//! XML as domus needs it: an element tree with byte spans, a cursor with typed reads, a writer in libvirt's hand.
//!
//! Owns well-formedness, entities, limits and positions. Knows no libvirt element name and does no I/O: external
//! entities are never loaded. quick-xml supplies the events; it lets several kinds of broken documents pass (missing
//! end tags, two roots, undefined entities, control characters), so the builder in [`tree`] checks those itself.
//!
//! Errors of syntax have libvirt's code 35 and libxml2's wording, with the source line and a caret below it. Errors of
//! meaning are made by the [`Node`] a value was read from and name line, column, element path and the nearest known word.

mod cursor;
mod entity;
mod locate;
mod number;
mod tree;
mod writer;

pub use cursor::{Asked, AskedFor, Form, Node, Unknown, UnknownKind};
pub use locate::Place;
pub use number::{parse_any_base, parse_signed, parse_unsigned};
pub use tree::{Attribute, Document, Element};
pub use writer::{Writer, escape};

/// Largest document, bytes.
pub const MAX_SIZE: usize = 16 * 1024 * 1024;
/// Deepest nesting of elements.
pub const MAX_DEPTH: usize = 256;
/// Most elements and attributes together.
pub const MAX_NODES: usize = 1_000_000;
/// Most bytes that entities may expand to in one document.
pub const MAX_EXPANSION: usize = 1024 * 1024;

/// A type that is written as the text of an attribute or an element.
pub trait Value: Sized + std::fmt::Display {
    /// Reads it; `None` when `text` is no such value.
    fn read(text: &str) -> Option<Self>;

    /// The words there are, for a closed vocabulary.
    fn known() -> &'static [&'static str] {
        &[]
    }

    /// What libvirt says was expected, to be put after the value ("Expected integer value").
    fn expected() -> Option<&'static str> {
        None
    }
}

impl Value for String {
    fn read(text: &str) -> Option<Self> {
        Some(text.to_string())
    }
}

macro_rules! unsigned_values {
    ($($ty:ty),*) => {$(
        impl Value for $ty {
            fn read(text: &str) -> Option<Self> {
                parse_unsigned(text).and_then(|value| value.try_into().ok())
            }

            fn expected() -> Option<&'static str> {
                Some("Expected non-negative integer value")
            }
        }
    )*};
}

macro_rules! signed_values {
    ($($ty:ty),*) => {$(
        impl Value for $ty {
            fn read(text: &str) -> Option<Self> {
                parse_signed(text).and_then(|value| value.try_into().ok())
            }

            fn expected() -> Option<&'static str> {
                Some("Expected integer value")
            }
        }
    )*};
}

unsigned_values!(u8, u16, u32, u64);
signed_values!(i32, i64);
