//! From the element an error is about to its line and column: the checks work on the typed model, which has no places.

use super::device::Disk;
use super::parse::{Device, read_device};
use super::post_parse::insert_by;
use crate::error::Error;
use crate::xml::{Document, Node};

/// Adds line, column and element path of the error's subject in `xml`, the document the definition was read from.
/// Without a subject, or when the document does not have that element (a driver added it), the error stays as it is.
pub fn place(error: Error, xml: &str) -> Error {
    if error.subject.is_none() {
        return error;
    }
    match Document::parse(xml, "domain_definition") {
        Ok(document) => place_in(error, document.root()),
        Err(_) => error,
    }
}

/// The same with the document at hand.
pub(crate) fn place_in(mut error: Error, root: Node<'_>) -> Error {
    let Some(subject) = error.subject.take() else { return error };
    let mut nodes = vec![root];
    for name in subject.path.split('/') {
        nodes = nodes.into_iter().flat_map(|node| node.all_children().filter(|child| child.name() == name)).collect();
    }
    if subject.path == "devices/disk" {
        nodes = as_the_model_has_them(nodes);
    }
    let matches = |node: &Node<'_>| {
        let has = |name: &str, value: &str| node.attrs().any(|attr| attr == (name, value));
        subject.attributes.iter().all(|(name, value)| has(name, value))
    };
    if let Some(node) = nodes.into_iter().filter(matches).nth(subject.nth) {
        error.detail = format!("{} ({})", error.detail, node.place());
    }
    error
}

/// Disks are sorted when they are read: the nodes in that order. One that cannot be read is none in the model either.
fn as_the_model_has_them(nodes: Vec<Node<'_>>) -> Vec<Node<'_>> {
    let mut sorted: Vec<(Disk, Node<'_>)> = Vec::new();
    for node in nodes {
        if let Ok(Device::Disk(disk)) = read_device(node) {
            insert_by(&mut sorted, (*disk, node), |(disk, _)| disk);
        }
    }
    sorted.into_iter().map(|(_, node)| node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<domain>\n <devices>\n  <disk><target dev='vda'/></disk>\n  <controller type='usb' index='1'/>\n  <disk a='1'><target dev='vdb'/></disk>\n \
                       </devices>\n</domain>";

    #[test]
    fn disks_are_found_although_they_are_sorted() {
        let xml =
            "<domain><devices>\n<disk><target dev='vdb'/></disk>\n<disk><target dev='vda'/></disk></devices></domain>";
        let first = place(Error::internal("x").about("devices/disk", 0), xml).detail;
        assert_eq!(first, "x (line 3, column 1, domain/devices/disk[2])");
    }

    #[test]
    fn the_place_of_the_subject_is_added() {
        let of = |error: Error| place(error, XML).detail;
        assert_eq!(of(Error::internal("x").about("devices/disk", 1)), "x (line 5, column 3, domain/devices/disk[2])");
        let usb = vec![("type", String::from("usb")), ("index", String::from("1"))];
        let text = of(Error::internal("x").about_one("devices/controller", 0, usb));
        assert_eq!(text, "x (line 4, column 3, domain/devices/controller)");
        assert_eq!(of(Error::internal("x").about("devices/disk", 7)), "x", "not in the document");
        assert_eq!(of(Error::internal("x")), "x");
    }
}
