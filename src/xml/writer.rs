//! Writes XML in libvirt's hand: two spaces per level, single quotes, empty elements closed at once.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

/// Builds a document; elements are opened and closed in order, attributes come before content.
#[derive(Debug, Default)]
pub struct Writer {
    out: String,
    open: Vec<Cow<'static, str>>,
    /// The start tag written last is not closed by `>` yet.
    pending: bool,
    /// Levels to begin with, for a fragment that goes into a larger document.
    base: usize,
}

impl Writer {
    /// An empty document.
    pub fn new() -> Self {
        Writer { out: String::with_capacity(8192), ..Default::default() }
    }

    /// The text written so far.
    pub fn finish(self) -> String {
        self.out
    }

    /// Bytes written so far: whether something came since.
    pub fn written(&self) -> usize {
        self.out.len()
    }

    fn indent(&mut self) {
        for _ in 0..self.base + self.open.len() {
            self.out.push_str("  ");
        }
    }

    fn settle(&mut self) {
        if self.pending {
            self.out.push_str(">\n");
            self.pending = false;
        }
    }

    /// Opens an element.
    pub fn start(&mut self, name: impl Into<Cow<'static, str>>) {
        let name = name.into();
        self.settle();
        self.indent();
        self.out.push('<');
        self.out.push_str(&name);
        self.open.push(name);
        self.pending = true;
    }

    /// Closes the element opened last.
    pub fn end(&mut self) {
        let Some(name) = self.open.pop() else { return };
        if self.pending {
            self.out.push_str("/>\n");
            self.pending = false;
        } else {
            self.indent();
            self.out.push_str("</");
            self.out.push_str(&name);
            self.out.push_str(">\n");
        }
    }

    /// Closes the element opened last by an end tag on a line of its own, even when nothing is in it.
    pub fn end_wide(&mut self) {
        self.settle();
        self.end();
    }

    /// An attribute of the element opened last.
    pub fn attr(&mut self, name: &str, value: impl Display) {
        debug_assert!(self.pending, "attribute {name} after content");
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("='");
        let _ = write!(Escaped(&mut self.out), "{value}");
        self.out.push('\'');
    }

    /// An attribute, when there is a value.
    pub fn attr_opt(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.attr(name, value);
        }
    }

    /// `<name/>`.
    pub fn empty(&mut self, name: &'static str) {
        self.start(name);
        self.end();
    }

    /// `<name/>` when `yes`.
    pub fn empty_if(&mut self, name: &'static str, yes: bool) {
        if yes {
            self.empty(name);
        }
    }

    /// `<name>text</name>`.
    pub fn text(&mut self, name: &'static str, text: impl Display) {
        self.start(name);
        self.end_with_text(text);
    }

    /// `<name>text</name>`, when there is a text.
    pub fn text_opt(&mut self, name: &'static str, text: Option<impl Display>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// Closes the element opened last with `text` as its only content.
    pub fn end_with_text(&mut self, text: impl Display) {
        let Some(name) = self.open.pop() else { return };
        self.pending = false;
        self.out.push('>');
        let _ = write!(Escaped(&mut self.out), "{text}");
        self.out.push_str("</");
        self.out.push_str(&name);
        self.out.push_str(">\n");
    }

    /// An element with whatever `fill` writes.
    pub fn element(&mut self, name: &'static str, fill: impl FnOnce(&mut Writer)) {
        self.start(name);
        fill(self);
        self.end();
    }

    /// The same, but nothing at all when `fill` writes nothing (`virXMLFormatElement`).
    pub fn element_unless_empty(&mut self, name: &'static str, fill: impl FnOnce(&mut Writer)) {
        let (length, pending) = (self.out.len(), self.pending);
        self.start(name);
        let started = self.out.len();
        fill(self);
        if self.pending && self.out.len() == started {
            self.out.truncate(length);
            self.open.pop();
            self.pending = pending;
        } else {
            self.end();
        }
    }

    /// A line of ready XML, indented as a child of the open element.
    pub fn raw_line(&mut self, xml: &str) {
        self.settle();
        self.indent();
        self.out.push_str(xml);
        self.out.push('\n');
    }
}

/// Escapes what libvirt escapes, in attributes and text alike; control characters that XML cannot hold are left out.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| matches!(c, '<' | '>' | '&' | '\'' | '"') || is_unprintable(c)) {
            self.0.push_str(&rest[..at]);
            match rest.as_bytes()[at] {
                b'<' => self.0.push_str("&lt;"),
                b'>' => self.0.push_str("&gt;"),
                b'&' => self.0.push_str("&amp;"),
                b'\'' => self.0.push_str("&apos;"),
                b'"' => self.0.push_str("&quot;"),
                _ => {}
            }
            rest = &rest[at + 1..];
        }
        self.0.push_str(rest);
        Ok(())
    }
}

fn is_unprintable(c: char) -> bool {
    (c as u32) < 0x20 && !matches!(c, '\t' | '\n' | '\r')
}

/// `text` escaped for an attribute or for content.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let _ = Escaped(&mut out).write_str(text);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libvirts_hand() {
        let mut w = Writer::new();
        w.start("a");
        w.attr("x", "<'&\">");
        w.empty("b");
        w.text("c", "1 < 2");
        w.element_unless_empty("d", |_| {});
        w.element_unless_empty("e", |w| w.attr("y", 1));
        w.end();
        assert_eq!(w.finish(), "<a x='&lt;&apos;&amp;&quot;&gt;'>\n  <b/>\n  <c>1 &lt; 2</c>\n  <e y='1'/>\n</a>\n");
    }

    #[test]
    fn an_empty_optional_child_leaves_its_parent_empty() {
        let mut w = Writer::new();
        w.element("a", |w| w.element_unless_empty("b", |w| w.element_unless_empty("c", |_| {})));
        assert_eq!(w.finish(), "<a/>\n");
    }

    #[test]
    fn control_characters_are_left_out() {
        assert_eq!(escape("a\u{1}b\tc\u{e4}"), "ab\tc\u{e4}");
    }
}
