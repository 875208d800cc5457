//! Help for the unit tests of single devices.

use crate::error::Result;
use crate::xml::{Document, Node, Writer};

/// Reads a fragment and writes it again.
pub fn rewrite<T>(
    xml: &str,
    read: impl FnOnce(Node<'_>) -> Result<T>,
    write: impl FnOnce(&T, &mut Writer),
) -> Result<String> {
    let document = Document::parse(xml, "test")?;
    let value = read(document.root())?;
    let mut w = Writer::new();
    write(&value, &mut w);
    Ok(w.finish())
}
