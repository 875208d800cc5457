//! [`Node`]: a place in a document with typed reads, and the account of what was read.
//!
//! Every read marks what it found as used and notes the name it looked for, so that afterwards [`Document::unknown`]
//! can say what nobody asked for, with the nearest name that somebody did.

use super::Value;
use super::locate::{self, Place, line_column};
use super::number::parse_any_base;
use super::tree::{Document, Element};
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::text::nearest;

/// An element of a document; cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Node<'d> {
    doc: &'d Document<'d>,
    el: &'d Element<'d>,
}

/// Something in a document that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    pub kind: UnknownKind,
    /// Name of the element or attribute.
    pub name: String,
    pub place: Place,
    /// The nearest name that was asked for at this place.
    pub nearest: Option<&'static str>,
}

/// A name that a reader asked for: what a document may have at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Where the element begins in which it was looked for.
    pub(super) start: usize,
    pub what: AskedFor,
    /// Empty for the element's own text.
    pub name: &'static str,
    pub form: Form,
}

/// What was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AskedFor {
    Attribute,
    /// At most one child of the name.
    Child,
    /// Any number of children of the name.
    Children,
    Text,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    /// One of these words.
    Words(&'static [&'static str]),
    /// Decimal, not negative.
    Unsigned,
    /// Decimal.
    Signed,
    /// Not negative, decimal or with C's prefixes.
    AnyBase,
}

impl Form {
    fn of<T: Value>() -> Form {
        match T::known() {
            [] => match T::expected() {
                Some(text) if text.contains("non-negative") => Form::Unsigned,
                Some(_) => Form::Signed,
                None => Form::Text,
            },
            words => Form::Words(words),
        }
    }
}

/// What an [`Unknown`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownKind {
    Element,
    Attribute,
    /// An element that may be there once and was there before.
    Repeated,
}

impl<'s> Document<'s> {
    /// The root element.
    pub fn root(&self) -> Node<'_> {
        self.root.used.set(true);
        Node { doc: self, el: &self.root }
    }

    /// What was never read, in document order.
    pub fn unknown(&self) -> Vec<Unknown> {
        let mut out = Vec::new();
        self.collect_unknown(&self.root, false, &mut out);
        out
    }

    /// Refuses what was never read, for calls that were asked to validate. Error: code 92 with a line for each, where
    /// libvirt gives its schema's.
    pub fn refuse_unknown(&self) -> Result<()> {
        let line = |Unknown { name, place, .. }: Unknown| {
            format!("line {}, column {}: {}: '{name}' is not known here", place.line, place.column, place.path)
        };
        let refused: Vec<String> = self.unknown().into_iter().map(line).collect();
        if refused.is_empty() {
            return Ok(());
        }
        Err(Error::new(Code::XmlInvalidSchema, refused.join("\n")).with_subsystem(Subsystem::Xml))
    }

    /// What readers remarked, in the order of reading.
    pub fn remarks(&self) -> Vec<(Place, String)> {
        self.remarks.borrow().clone()
    }

    /// From now on readers go on after what [`Node::tolerate`] and the typed reads of optional attributes can leave
    /// out: every error is kept in [`Document::errors`], so that all of them can be told at once.
    pub fn go_on(&self) {
        self.lenient.set(true);
    }

    /// Takes what readers went on after, in the order of reading.
    pub fn errors(&self) -> Vec<(Place, Error)> {
        self.errors.take()
    }

    /// What was asked for, element by element: path from the root, and the questions in the order of asking.
    #[cfg(test)]
    pub fn asked_by_element(&self) -> Vec<(Vec<&str>, Vec<Asked>)> {
        let mut by_start: std::collections::HashMap<usize, Vec<Asked>> = Default::default();
        for asked in self.asked.borrow().iter() {
            by_start.entry(asked.start).or_default().push(*asked);
        }
        let mut out = Vec::new();
        let mut open: Vec<(Vec<&str>, &Element<'_>)> = vec![(vec![self.root.name], &self.root)];
        while let Some((path, element)) = open.pop() {
            for child in &element.children {
                open.push((path.iter().copied().chain([child.name]).collect(), child));
            }
            if let Some(asked) = by_start.remove(&element.span.start) {
                out.push((path, asked));
            }
        }
        out
    }

    fn collect_unknown(&self, element: &Element<'_>, broken: bool, out: &mut Vec<Unknown>) {
        if element.opaque.get() {
            return;
        }
        let broken = broken || element.broken.get();
        for attribute in &element.attributes {
            if attribute.used.get() || attribute.name == "xmlns" || attribute.name.contains(':') {
                continue;
            }
            let (line, column) = line_column(self.source, attribute.offset);
            let path = format!("{}/@{}", locate::path(&self.root, element.span.start), attribute.name);
            let nearest = self.nearest_asked(element.span.start, true, attribute.name);
            let place = Place { line, column, path };
            if broken && nearest.is_none() {
                continue;
            }
            out.push(Unknown { kind: UnknownKind::Attribute, name: attribute.name.to_string(), place, nearest });
        }
        for child in &element.children {
            if child.used.get() {
                self.collect_unknown(child, broken, out);
                continue;
            }
            let node = Node { doc: self, el: child };
            let repeated = element.children.iter().any(|other| other.used.get() && other.name == child.name);
            let kind = if repeated { UnknownKind::Repeated } else { UnknownKind::Element };
            let nearest = if repeated { None } else { self.nearest_asked(element.span.start, false, child.name) };
            if broken && nearest.is_none() && !repeated {
                continue;
            }
            out.push(Unknown { kind, name: child.name.to_string(), place: node.place(), nearest });
        }
    }

    fn nearest_asked(&self, start: usize, attribute: bool, name: &str) -> Option<&'static str> {
        let asked = self.asked.borrow();
        let fits = |what| what != AskedFor::Text && (what == AskedFor::Attribute) == attribute;
        let mut known: Vec<&'static str> =
            asked.iter().filter(|asked| asked.start == start && fits(asked.what)).map(|asked| asked.name).collect();
        known.sort_unstable();
        known.dedup();
        nearest(name, known)
    }
}

impl<'d> Node<'d> {
    /// The name as written.
    pub fn name(&self) -> &'d str {
        self.el.name
    }

    /// All text directly inside.
    pub fn text(&self) -> &'d str {
        self.note_form(AskedFor::Text, "", Form::Text);
        &self.el.text
    }

    /// The element's bytes, from `<` to `>`.
    pub fn source(&self) -> &'d str {
        &self.doc.source[self.el.span.clone()]
    }

    /// Marks the element as understood.
    pub fn mark_used(&self) {
        self.el.used.set(true);
    }

    /// Marks the element and all in it as somebody else's.
    pub fn mark_opaque(&self) {
        self.el.used.set(true);
        self.el.opaque.set(true);
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        let (line, column) = line_column(self.doc.source, self.el.span.start);
        Place { line, column, path: locate::path(&self.doc.root, self.el.span.start) }
    }

    fn place_of_attr(&self, name: &str) -> Place {
        let offset = self.el.attributes.iter().find(|a| a.name == name).map_or(self.el.span.start, |a| a.offset);
        let (line, column) = line_column(self.doc.source, offset);
        Place { line, column, path: format!("{}/@{name}", locate::path(&self.doc.root, self.el.span.start)) }
    }

    /// The namespace URI its prefix (or the lack of one) stands for here.
    pub fn namespace(&self) -> Option<&'d str> {
        let prefix = self.el.name.split_once(':').map(|(prefix, _)| prefix);
        self.resolve_prefix(prefix)
    }

    /// The URI that `prefix` stands for here; `None` = the default namespace.
    pub fn resolve_prefix(&self, prefix: Option<&str>) -> Option<&'d str> {
        for element in locate::ancestry(&self.doc.root, self.el.span.start).iter().rev() {
            let found = element.attributes.iter().find(|attribute| match prefix {
                Some(prefix) => attribute.name.strip_prefix("xmlns:") == Some(prefix),
                None => attribute.name == "xmlns",
            });
            if let Some(attribute) = found {
                return Some(&attribute.value);
            }
        }
        None
    }

    /// The name without its prefix.
    pub fn local_name(&self) -> &'d str {
        self.el.name.split_once(':').map_or(self.el.name, |(_, local)| local)
    }

    /// Prefixes that this element declares; the default namespace is "".
    pub fn declared_prefixes(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        self.el.attributes.iter().filter_map(|attribute| match attribute.name {
            "xmlns" => Some(""),
            name => name.strip_prefix("xmlns:"),
        })
    }

    /// Prefixes that this element's name and attributes use; no prefix of the element is "".
    pub fn used_prefixes(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        let of_name = self.el.name.split_once(':').map_or("", |(prefix, _)| prefix);
        let of_attributes = self.el.attributes.iter().filter_map(|attribute| {
            attribute.name.split_once(':').map(|(prefix, _)| prefix).filter(|prefix| *prefix != "xmlns")
        });
        std::iter::once(of_name).chain(of_attributes)
    }

    /// An attribute's value.
    pub fn attr(&self, name: &'static str) -> Option<&'d str> {
        self.attr_of(name, Form::Text)
    }

    fn attr_of(&self, name: &'static str, form: Form) -> Option<&'d str> {
        self.note_form(AskedFor::Attribute, name, form);
        let attribute = self.el.attributes.iter().find(|attribute| attribute.name == name)?;
        attribute.used.set(true);
        Some(&attribute.value)
    }

    /// Every attribute that is no namespace declaration, marked as read.
    pub fn attrs(&self) -> impl Iterator<Item = (&'d str, &'d str)> + use<'d> {
        self.el.attributes.iter().filter(|a| a.name != "xmlns" && !a.name.starts_with("xmlns:")).map(|attribute| {
            attribute.used.set(true);
            (attribute.name, attribute.value.as_ref())
        })
    }

    /// The first child of this name.
    pub fn child(&self, name: &'static str) -> Option<Node<'d>> {
        self.note_form(AskedFor::Child, name, Form::Text);
        let element = self.el.children.iter().find(|child| child.name == name)?;
        element.used.set(true);
        Some(Node { doc: self.doc, el: element })
    }

    /// Every child of this name.
    pub fn children(&self, name: &'static str) -> impl Iterator<Item = Node<'d>> + use<'d> {
        self.note_form(AskedFor::Children, name, Form::Text);
        let doc = self.doc;
        self.el.children.iter().filter(move |child| child.name == name).map(move |element| {
            element.used.set(true);
            Node { doc, el: element }
        })
    }

    /// Every child, none marked as read.
    pub fn all_children(&self) -> impl Iterator<Item = Node<'d>> + use<'d> {
        let doc = self.doc;
        self.el.children.iter().map(move |element| Node { doc, el: element })
    }

    /// Text of the first child of this name.
    pub fn child_text(&self, name: &'static str) -> Option<&'d str> {
        self.child(name).map(|child| child.text())
    }

    /// The same; an empty text is none (`virXPathString`).
    pub fn child_string(&self, name: &'static str) -> Option<String> {
        self.child_text(name).filter(|text| !text.is_empty()).map(str::to_string)
    }

    /// A child's text as a value. Error: code 27.
    pub fn child_value<T: Value>(&self, name: &'static str) -> Result<Option<T>> {
        let Some(child) = self.child(name) else { return Ok(None) };
        child.value().map(Some)
    }

    /// The element's own text as a value. Error: code 27 with libvirt's text.
    pub fn value<T: Value>(&self) -> Result<T> {
        self.note_form(AskedFor::Text, "", Form::of::<T>());
        let text: &str = &self.el.text;
        T::read(text.trim()).ok_or_else(|| {
            let what = format!("Invalid value '{text}' for element or attribute './{}[1]'", self.name());
            self.error(Code::XmlError, with_known(what, text.trim(), T::known()))
        })
    }

    /// An attribute as a value. Error: code 27 with libvirt's text.
    pub fn attr_value<T: Value>(&self, name: &'static str) -> Result<Option<T>> {
        let value = self.strict_attr_value(name);
        self.tolerate_attr(name, value)
    }

    fn strict_attr_value<T: Value>(&self, name: &'static str) -> Result<Option<T>> {
        let Some(text) = self.attr_of(name, Form::of::<T>()) else { return Ok(None) };
        match T::read(text) {
            Some(value) => Ok(Some(value)),
            None => Err(self.invalid_attr(name, T::expected(), T::known())),
        }
    }

    /// The same for an attribute that must be there.
    pub fn require<T: Value>(&self, name: &'static str) -> Result<T> {
        self.strict_attr_value(name)?.ok_or_else(|| self.missing_attr(name))
    }

    /// A part that the whole can be read without: its error is kept and `None` returned, if the document is read to
    /// find all errors; else it is the error.
    pub fn tolerate<T>(&self, part: Result<T>) -> Result<Option<T>> {
        match part {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.doc.lenient.get() => {
                self.el.broken.set(true);
                self.doc.errors.borrow_mut().push((self.place(), error));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn tolerate_attr<T>(&self, name: &str, value: Result<Option<T>>) -> Result<Option<T>> {
        match value {
            Err(error) if self.doc.lenient.get() => {
                self.doc.errors.borrow_mut().push((self.place_of_attr(name), error));
                Ok(None)
            }
            value => value,
        }
    }

    /// A number that may be written in C's hexadecimal or octal.
    pub fn attr_any_base(&self, name: &'static str) -> Result<Option<u64>> {
        let Some(text) = self.attr_of(name, Form::AnyBase) else { return Ok(None) };
        let value = parse_any_base(text)
            .map(Some)
            .ok_or_else(|| self.invalid_attr(name, Some("Expected non-negative integer value"), &[]));
        self.tolerate_attr(name, value)
    }

    /// The same, at most 32 bits.
    pub fn attr_any_base32(&self, name: &'static str) -> Result<Option<u32>> {
        match self.attr_any_base(name)? {
            None => Ok(None),
            Some(value) => u32::try_from(value)
                .map(Some)
                .map_err(|_| self.invalid_attr(name, Some("Expected non-negative integer value"), &[])),
        }
    }

    /// "Invalid value for attribute ..." as libvirt says it, with what is known instead.
    pub fn invalid_attr(&self, name: &'static str, expected: Option<&str>, known: &[&str]) -> Error {
        let value = self.el.attributes.iter().find(|a| a.name == name).map_or("", |a| a.value.as_ref());
        let mut what = format!("Invalid value for attribute '{name}' in element '{}': '{value}'.", self.name());
        if let Some(expected) = expected {
            what.push(' ');
            what.push_str(expected);
        }
        self.attr_error(name, Code::XmlError, with_known(what, value, known))
    }

    /// "Missing required attribute ..." as libvirt says it.
    pub fn missing_attr(&self, name: &str) -> Error {
        let what = format!("Missing required attribute '{name}' in element '{}'", self.name());
        self.error(Code::XmlError, what)
    }

    /// An error about this element, with its place.
    pub fn error(&self, code: Code, what: impl AsRef<str>) -> Error {
        Error::new(code, format!("{} ({})", what.as_ref(), self.place()))
    }

    /// An error about an attribute, with its place.
    pub fn attr_error(&self, name: &str, code: Code, what: impl AsRef<str>) -> Error {
        Error::new(code, format!("{} ({})", what.as_ref(), self.place_of_attr(name)))
    }

    /// Remarks on this element: something doubtful that is no error.
    pub fn remark(&self, message: impl Into<String>) {
        self.doc.remarks.borrow_mut().push((self.place(), message.into()));
    }

    /// Notes a name as known here without reading anything.
    pub fn note(&self, attribute: bool, name: &'static str) {
        let what = if attribute { AskedFor::Attribute } else { AskedFor::Children };
        self.note_form(what, name, Form::Text);
    }

    fn note_form(&self, what: AskedFor, name: &'static str, form: Form) {
        self.doc.asked.borrow_mut().push(Asked { start: self.el.span.start, what, name, form });
    }
}

/// Adds the nearest known word, or all of them when they are few.
fn with_known(mut what: String, given: &str, known: &[&str]) -> String {
    if let Some(word) = nearest(given, known.iter().copied()) {
        what.push_str(&format!(" did you mean '{word}'?"));
    } else if !known.is_empty() && known.len() <= 16 {
        what.push_str(&format!(" known: {}", known.join(", ")));
    }
    what
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "<domain type='qemu'>\n  <devices>\n    <disk typ='file'/>\n    <disk type='file'>\n      \
                          <sourc file='/x'/>\n      <target dev='vda'/>\n      <target dev='vdb'/>\n    </disk>\n  \
                          </devices>\n</domain>";

    #[test]
    fn reads_are_accounted_for() {
        let document = Document::parse(SOURCE, "x").expect("well-formed");
        let root = document.root();
        assert_eq!(root.attr("type"), Some("qemu"));
        let devices = root.child("devices").expect("there");
        for disk in devices.children("disk") {
            disk.attr("type");
            disk.attr("device");
            disk.child("source");
            if let Some(target) = disk.child("target") {
                target.attr("dev");
            }
        }
        let unknown = document.unknown();
        let told: Vec<_> = unknown.iter().map(|u| (u.kind, u.place.to_string(), u.nearest)).collect();
        assert_eq!(
            told,
            vec![
                (UnknownKind::Attribute, "line 3, column 11, domain/devices/disk[1]/@typ".to_string(), Some("type")),
                (UnknownKind::Element, "line 5, column 7, domain/devices/disk[2]/sourc".to_string(), Some("source")),
                (UnknownKind::Repeated, "line 7, column 7, domain/devices/disk[2]/target[2]".to_string(), None),
            ]
        );
    }

    #[test]
    fn errors_name_place_and_value() {
        let document = Document::parse("<a>\n <b n='x'>y</b></a>", "x").expect("well-formed");
        let b = document.root().child("b").expect("there");
        let error = b.attr_value::<u32>("n").expect_err("no number");
        assert_eq!(error.code, Code::XmlError);
        assert_eq!(
            error.detail,
            "Invalid value for attribute 'n' in element 'b': 'x'. Expected non-negative integer value \
             (line 2, column 5, a/b/@n)"
        );
        let error = b.value::<u64>().expect_err("no number");
        assert_eq!(error.detail, "Invalid value 'y' for element or attribute './b[1]' (line 2, column 2, a/b)");
        let error = b.require::<u32>("m").expect_err("missing");
        assert_eq!(error.detail, "Missing required attribute 'm' in element 'b' (line 2, column 2, a/b)");
    }

    #[test]
    fn namespaces() {
        let source = "<a xmlns:q='urn:q'><q:b xmlns:r='urn:r'><r:c/></q:b><d/></a>";
        let document = Document::parse(source, "x").expect("well-formed");
        let root = document.root();
        let b = root.all_children().next().expect("b");
        assert_eq!((b.namespace(), b.local_name()), (Some("urn:q"), "b"));
        let c = b.all_children().next().expect("c");
        assert_eq!(c.namespace(), Some("urn:r"));
        assert_eq!(root.child("b").map(|node| node.name()), None, "a prefixed element is not found by its local name");
    }
}
