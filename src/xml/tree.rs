//! The element tree with byte spans, and its builder.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ops::Range;

use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::entity::{Entities, EntityError, is_name, is_xml_char, reference_length};
use super::locate::{line_column, picture};
use super::{MAX_DEPTH, MAX_NODES, MAX_SIZE};
use crate::error::{Code, Error, Result, Subsystem};

/// An attribute; namespace declarations are attributes too.
#[derive(Debug)]
pub struct Attribute<'s> {
    /// As written, with its prefix.
    pub name: &'s str,
    /// With references expanded.
    pub value: Cow<'s, str>,
    /// Byte offset of the name.
    pub offset: usize,
    pub(super) used: Cell<bool>,
}

/// An element.
#[derive(Debug)]
pub struct Element<'s> {
    /// As written, with its prefix.
    pub name: &'s str,
    pub attributes: Vec<Attribute<'s>>,
    pub children: Vec<Element<'s>>,
    /// All text directly in it, put together.
    pub text: Cow<'s, str>,
    /// Bytes from `<` of the start tag past `>` of the end tag.
    pub span: Range<usize>,
    pub(super) used: Cell<bool>,
    /// Everything below belongs to somebody else and is not looked at.
    pub(super) opaque: Cell<bool>,
    /// Its reader stopped in the middle: what it did not ask for may yet be known.
    pub(super) broken: Cell<bool>,
}

impl Element<'_> {
    /// Whether a reader took it, or took all there is in an element around it.
    pub fn was_read(&self) -> bool {
        self.used.get() || self.opaque.get()
    }

    /// Whether all in it belongs to somebody else.
    pub fn is_opaque(&self) -> bool {
        self.opaque.get()
    }
}

/// A well-formed document.
#[derive(Debug)]
pub struct Document<'s> {
    pub(super) source: &'s str,
    pub(super) root: Element<'s>,
    /// Every name that was asked for.
    pub(super) asked: RefCell<Vec<super::Asked>>,
    /// Readers go on after an error where they can.
    pub(super) lenient: Cell<bool>,
    /// What they went on after.
    pub(super) errors: RefCell<Vec<(super::Place, Error)>>,
    /// What readers had to say about single elements.
    pub(super) remarks: RefCell<Vec<(super::Place, String)>>,
}

/// A syntax error: libxml2's message and where.
struct Fault {
    offset: usize,
    message: String,
}

impl Fault {
    fn new(offset: usize, message: impl Into<String>) -> Self {
        Fault { offset, message: message.into() }
    }
}

impl<'s> Document<'s> {
    /// Builds the tree. `what` names the document in errors (libvirt: `domain_definition`).
    ///
    /// Errors: code 35 with libxml2's wording, the line and a caret.
    pub fn parse(source: &'s str, what: &str) -> Result<Document<'s>> {
        let source = without_mark(source);
        if source.len() > MAX_SIZE {
            let detail = format!("({what}): {}", too_large(source));
            return Err(Error::new(Code::XmlDetail, detail).with_subsystem(Subsystem::Xml));
        }
        let fault = match Self::build(source) {
            Ok(document) => return Ok(document),
            Err(fault) => fault,
        };
        let (line, _) = line_column(source, fault.offset);
        let detail = format!("({what}):{line}: {}\n{}", fault.message, picture(source, fault.offset));
        Err(Error::new(Code::XmlDetail, detail).with_subsystem(Subsystem::Xml))
    }

    /// The syntax error [`Document::parse`] would give, with line and column; `None` for a well-formed document.
    pub fn syntax_error(source: &str) -> Option<(u32, u32, String)> {
        let source = without_mark(source);
        if source.len() > MAX_SIZE {
            return Some((1, 1, too_large(source)));
        }
        let fault = Document::build(source).err()?;
        let (line, column) = line_column(source, fault.offset);
        Some((line, column, fault.message))
    }

    /// The root as it is, without an account of what is read.
    pub fn tree(&self) -> &Element<'s> {
        &self.root
    }

    fn build(source: &'s str) -> std::result::Result<Document<'s>, Fault> {
        let control = source.char_indices().find(|(_, c)| !is_xml_char(*c));
        let control = control.map(|(offset, c)| Fault::new(offset, format!("PCDATA invalid Char value {}", c as u32)));
        match (Builder::new(source).build(), control) {
            (Ok(root), None) => Ok(Document {
                source,
                root,
                asked: RefCell::default(),
                lenient: Cell::new(false),
                errors: RefCell::default(),
                remarks: RefCell::default(),
            }),
            (Ok(_), Some(control)) => Err(control),
            (Err(fault), Some(control)) if control.offset < fault.offset => Err(control),
            (Err(fault), _) => Err(fault),
        }
    }

    /// The document's text, to which spans relate: without a byte order mark.
    pub fn source(&self) -> &'s str {
        self.source
    }
}

fn without_mark(source: &str) -> &str {
    source.strip_prefix('\u{feff}').unwrap_or(source)
}

fn too_large(source: &str) -> String {
    format!("the document has {} bytes, at most {MAX_SIZE} are read", source.len())
}

struct Builder<'s> {
    source: &'s str,
    reader: Reader<&'s [u8]>,
    stack: Vec<Element<'s>>,
    root: Option<Element<'s>>,
    entities: Entities,
    nodes: usize,
}

impl<'s> Builder<'s> {
    fn new(source: &'s str) -> Self {
        let mut reader = Reader::from_str(source);
        let config = reader.config_mut();
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        config.check_comments = true;
        Builder { source, reader, stack: Vec::new(), root: None, entities: Entities::default(), nodes: 0 }
    }

    fn build(mut self) -> std::result::Result<Element<'s>, Fault> {
        loop {
            let start = self.reader.buffer_position() as usize;
            let event = match self.reader.read_event() {
                Ok(event) => event,
                Err(error) => return Err(self.reader_fault(&error, start)),
            };
            let end = self.reader.buffer_position() as usize;
            match event {
                Event::Start(_) => {
                    let element = self.element(start, end, 1)?;
                    if self.stack.len() >= MAX_DEPTH {
                        return Err(Fault::new(start, format!("Excessive depth in document: {MAX_DEPTH}")));
                    }
                    self.stack.push(element);
                }
                Event::Empty(_) => {
                    let element = self.element(start, end, 2)?;
                    self.attach(element)?;
                }
                Event::End(tag) => {
                    let name = tag.name();
                    let Some(mut element) = self.stack.pop() else {
                        return Err(Fault::new(start, self.outside_message()));
                    };
                    if element.name != name.as_ref() {
                        let (line, _) = line_column(self.source, element.span.start);
                        let message = format!(
                            "Opening and ending tag mismatch: {} line {line} and {}",
                            element.name,
                            name.as_ref()
                        );
                        return Err(Fault::new(end, message));
                    }
                    element.span.end = end;
                    self.attach(element)?;
                }
                Event::Text(text) => {
                    let raw = &self.source[start..end];
                    debug_assert_eq!(raw.len(), text.len());
                    self.text(raw, start)?;
                }
                Event::CData(data) => {
                    if self.stack.is_empty() {
                        return Err(Fault::new(start, self.outside_message()));
                    }
                    self.push_text(normalise_lines(match data.into_inner() {
                        Cow::Borrowed(text) => Cow::Borrowed(text),
                        Cow::Owned(text) => Cow::Owned(text),
                    }));
                }
                Event::GeneralRef(reference) => {
                    if self.stack.is_empty() {
                        return Err(Fault::new(start, self.outside_message()));
                    }
                    let mut out = String::new();
                    let name: &str = &reference;
                    self.entities.expand(name, &mut out).map_err(|error| Fault::new(end, error.to_string()))?;
                    self.push_text(Cow::Owned(out));
                }
                Event::DocType(doctype) => {
                    if self.root.is_some() || !self.stack.is_empty() {
                        return Err(Fault::new(start, "StartTag: invalid element name"));
                    }
                    self.entities.declare(&doctype);
                }
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
                Event::Eof => break,
            }
        }
        if let Some(open) = self.stack.last() {
            let (line, _) = line_column(self.source, open.span.start);
            let message = format!("Premature end of data in tag {} line {line}", open.name);
            return Err(Fault::new(self.source.len(), message));
        }
        match self.root {
            Some(root) => Ok(root),
            None if self.source.trim().is_empty() => Err(Fault::new(0, "Document is empty")),
            None => Err(Fault::new(self.source.len(), "Start tag expected, '<' not found")),
        }
    }

    fn outside_message(&self) -> &'static str {
        match self.root {
            Some(_) => "Extra content at the end of the document",
            None => "Start tag expected, '<' not found",
        }
    }

    fn attach(&mut self, element: Element<'s>) -> std::result::Result<(), Fault> {
        match self.stack.last_mut() {
            Some(parent) => parent.children.push(element),
            None if self.root.is_some() => {
                return Err(Fault::new(element.span.start, "Extra content at the end of the document"));
            }
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, raw: &'s str, start: usize) -> std::result::Result<(), Fault> {
        if self.stack.is_empty() {
            return match raw.find(|c: char| !c.is_ascii_whitespace()) {
                Some(at) => Err(Fault::new(start + at, self.outside_message())),
                None => Ok(()),
            };
        }
        if let Some(at) = raw.find("]]>") {
            return Err(Fault::new(start + at, "Sequence ']]>' not allowed in content"));
        }
        self.push_text(normalise_lines(Cow::Borrowed(raw)));
        Ok(())
    }

    fn push_text(&mut self, text: Cow<'s, str>) {
        let Some(element) = self.stack.last_mut() else { return };
        if element.text.is_empty() {
            element.text = text;
        } else {
            element.text.to_mut().push_str(&text);
        }
    }

    /// An element from its tag at `start..end`; `tail` bytes (`>` or `/>`) close it.
    fn element(&mut self, start: usize, end: usize, tail: usize) -> std::result::Result<Element<'s>, Fault> {
        let source = self.source;
        let content = &source[start + 1..end - tail];
        let name_length = content.find(|c: char| c.is_ascii_whitespace()).unwrap_or(content.len());
        let name = &content[..name_length];
        if !is_name(name) {
            return Err(Fault::new(start + 1, "StartTag: invalid element name"));
        }
        let attributes = self.attributes(&content[name_length..], start + 1 + name_length)?;
        self.nodes += 1 + attributes.len();
        if self.nodes > MAX_NODES {
            return Err(Fault::new(start, format!("more than {MAX_NODES} elements and attributes")));
        }
        Ok(Element {
            name,
            attributes,
            children: Vec::new(),
            text: Cow::Borrowed(""),
            span: start..end,
            used: Cell::new(false),
            opaque: Cell::new(false),
            broken: Cell::new(false),
        })
    }

    fn attributes(&mut self, text: &'s str, base: usize) -> std::result::Result<Vec<Attribute<'s>>, Fault> {
        let mut attributes: Vec<Attribute<'s>> = Vec::new();
        let mut at = 0;
        loop {
            let rest = &text[at..];
            let blank = rest.len() - rest.trim_ascii_start().len();
            at += blank;
            let rest = &text[at..];
            if rest.is_empty() {
                return Ok(attributes);
            }
            let offset = base + at;
            let name_length = rest.find(|c: char| c == '=' || c.is_ascii_whitespace()).unwrap_or(rest.len());
            let name = &rest[..name_length];
            if blank == 0 || !is_name(name) {
                return Err(Fault::new(offset, "attributes construct error"));
            }
            let after = rest[name_length..].trim_ascii_start();
            let Some(after) = after.strip_prefix('=') else {
                let message = format!("Specification mandates value for attribute {name}");
                return Err(Fault::new(offset + name_length, message));
            };
            let after = after.trim_ascii_start();
            let value_at = text.len() - after.len();
            let quote = match after.as_bytes().first() {
                Some(quote @ (b'"' | b'\'')) => *quote as char,
                _ => return Err(Fault::new(base + value_at, "AttValue: \" or ' expected")),
            };
            let Some(length) = after[1..].find(quote) else {
                return Err(Fault::new(base + value_at + 1, "AttValue: ' expected"));
            };
            let raw = &after[1..=length];
            let value_start = base + value_at + 1;
            if let Some(bad) = raw.find('<') {
                return Err(Fault::new(value_start + bad, "Unescaped '<' not allowed in attributes values"));
            }
            let value = self.attribute_value(raw, value_start)?;
            if attributes.iter().any(|other| other.name == name) {
                return Err(Fault::new(value_start + length + 1, format!("Attribute {name} redefined")));
            }
            attributes.push(Attribute { name, value, offset, used: Cell::new(false) });
            at = value_at + length + 2;
        }
    }

    fn attribute_value(&mut self, raw: &'s str, start: usize) -> std::result::Result<Cow<'s, str>, Fault> {
        if !raw.bytes().any(|b| matches!(b, b'&' | b'\n' | b'\r' | b'\t')) {
            return Ok(Cow::Borrowed(raw));
        }
        let flat = raw.replace("\r\n", " ").replace(['\n', '\r', '\t'], " ");
        let mut out = String::with_capacity(flat.len());
        self.entities.text(&flat, &mut out).map_err(|(at, error)| Fault::new(start + at, error.to_string()))?;
        Ok(Cow::Owned(out))
    }

    fn reader_fault(&self, error: &quick_xml::Error, start: usize) -> Fault {
        use quick_xml::errors::{IllFormedError, SyntaxError};
        let end = self.source.len();
        let at = (self.reader.error_position() as usize).min(end);
        match error {
            quick_xml::Error::Syntax(kind) => match kind {
                SyntaxError::UnclosedCData => Fault::new(end, "CData section not finished"),
                SyntaxError::UnclosedComment => Fault::new(end, "Comment not terminated"),
                SyntaxError::UnclosedPI => Fault::new(end, "PI not terminated"),
                SyntaxError::UnclosedXmlDecl => Fault::new(end, "parsing XML declaration: '?>' expected"),
                SyntaxError::UnclosedDoctype => Fault::new(end, "DOCTYPE improperly terminated"),
                SyntaxError::InvalidBangMarkup => Fault::new(at, "StartTag: invalid element name"),
                SyntaxError::UnclosedTag
                | SyntaxError::UnclosedSingleQuotedAttributeValue
                | SyntaxError::UnclosedDoubleQuotedAttributeValue => {
                    let name = self.source[at..].trim_start_matches(['<', '/']);
                    let name = &name[..name.find(|c: char| c.is_ascii_whitespace()).unwrap_or(name.len())];
                    let (line, _) = line_column(self.source, at);
                    Fault::new(end, format!("Couldn't find end of Start Tag {name} line {line}"))
                }
            },
            quick_xml::Error::IllFormed(IllFormedError::UnclosedReference) => {
                let reference = self.source[at..].strip_prefix('&').unwrap_or_default();
                let length = reference.find(|c: char| !c.is_alphanumeric()).unwrap_or(reference.len());
                let error = reference_length(reference).err().unwrap_or(EntityError::NoSemicolon);
                Fault::new(at + 1 + length, error.to_string())
            }
            quick_xml::Error::IllFormed(IllFormedError::DoubleHyphenInComment) => {
                Fault::new(at, "Double hyphen within comment")
            }
            quick_xml::Error::IllFormed(IllFormedError::MissingDoctypeName) => {
                Fault::new(at, "xmlParseDocTypeDecl : no DOCTYPE name !")
            }
            other => Fault::new(at.max(start), other.to_string()),
        }
    }
}

/// XML's line ends: `\r\n` and `\r` are `\n`.
fn normalise_lines(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn fault(source: &str) -> String {
        match Document::parse(source, "domain_definition") {
            Ok(_) => String::from("accepted"),
            Err(error) => {
                assert_eq!(error.code, Code::XmlDetail);
                error.detail
            }
        }
    }

    /// The messages are libxml2's for the same input.
    #[rstest]
    #[case("<a><b>x</a>", "1: Opening and ending tag mismatch: b line 1 and a\n<a><b>x</a>\n-----------^")]
    #[case("<a>\n<b>x</b>", "2: Premature end of data in tag a line 1\n<b>x</b>\n--------^")]
    #[case("<a/><b/>", "1: Extra content at the end of the document")]
    #[case("<a/>x", "1: Extra content at the end of the document\n<a/>x\n----^")]
    #[case("<a></a></b>", "1: Extra content at the end of the document")]
    #[case("", "1: Document is empty")]
    #[case(" \n ", "Document is empty")]
    #[case("hello", "1: Start tag expected, '<' not found\nhello\n^")]
    #[case("<a>&nbsp;</a>", "1: Entity 'nbsp' not defined\n<a>&nbsp;</a>\n---------^")]
    #[case("<a b='&nbsp;'/>", "1: Entity 'nbsp' not defined")]
    #[case("<a t='1' t='2'/>", "1: Attribute t redefined")]
    #[case("<a>x\u{1}</a>", "1: PCDATA invalid Char value 1")]
    #[case("<a>&#1;</a>", "1: xmlParseCharRef: invalid xmlChar value 1")]
    #[case("<a foo/>", "1: Specification mandates value for attribute foo\n<a foo/>\n------^")]
    #[case("<a foo=bar/>", "1: AttValue: \" or ' expected\n<a foo=bar/>\n-------^")]
    #[case("<a x='1'y='2'/>", "1: attributes construct error")]
    #[case("<a x='<'/>", "1: Unescaped '<' not allowed in attributes values")]
    #[case("<a>x & y</a>", "1: xmlParseEntityRef: no name")]
    #[case("<a>x &amp y</a>", "1: EntityRef: expecting ';'")]
    #[case("<a x='&amp'/>", "1: EntityRef: expecting ';'")]
    #[case("<a><1/></a>", "1: StartTag: invalid element name")]
    #[case("<a>< b/></a>", "1: StartTag: invalid element name")]
    #[case("<a><!-- x -- y --></a>", "1: Double hyphen within comment")]
    #[case("<a", "1: Couldn't find end of Start Tag a line 1")]
    #[case("<a><![CDATA[ x", "1: CData section not finished")]
    #[case("<a>]]></a>", "1: Sequence ']]>' not allowed in content")]
    fn refused(#[case] source: &str, #[case] expected: &str) {
        let detail = fault(source);
        assert!(detail.starts_with("(domain_definition):"), "{detail}");
        assert!(detail.contains(expected), "{detail}");
    }

    #[test]
    fn content_is_decoded() {
        let source = "\u{feff}<?xml version='1.0'?>\n<!DOCTYPE a [<!ENTITY v 'val&#33;'>]>\n<!-- c -->\n\
                      <a x = \"1\n&lt;&v;\"><b>t&amp;<![CDATA[<&]]>\r\nu</b><c/></a>\n<!-- end -->";
        let document = Document::parse(source, "x").expect("well-formed");
        assert_eq!(document.root.attributes[0].value, "1 <val!");
        assert_eq!(document.root.children[0].text, "t&<&\nu");
        let span = document.root.children[1].span.clone();
        assert_eq!(&document.source()[span], "<c/>");
        let span = document.root.children[0].span.clone();
        assert!(document.source()[span].ends_with("</b>"));
    }

    #[test]
    fn limits() {
        let deep = "<a>".repeat(MAX_DEPTH + 1);
        assert!(fault(&deep).contains("Excessive depth"));
        let ok = format!("{}{}", "<a>".repeat(MAX_DEPTH), "</a>".repeat(MAX_DEPTH));
        assert!(Document::parse(&ok, "x").is_ok());
        let large = " ".repeat(MAX_SIZE + 1);
        assert!(fault_of_any_shape(&large).contains("at most"));
        let many = format!("<a>{}</a>", "<b/>".repeat(MAX_NODES));
        assert!(fault(&many).contains("elements and attributes"));
    }

    fn fault_of_any_shape(source: &str) -> String {
        Document::parse(source, "x").expect_err("too large").detail
    }

    #[test]
    fn a_billion_laughs() {
        let mut source = String::from("<!DOCTYPE a [<!ENTITY l0 'ha ha ha ha ha ha'>");
        for i in 1..12 {
            source.push_str(&format!("<!ENTITY l{i} '{}'>", format!("&l{};", i - 1).repeat(10)));
        }
        source.push_str("]><a>&l11;</a>");
        assert!(fault(&source).contains("amplification"));
    }
}
