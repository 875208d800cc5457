//! A writer for the small documents made here: two blanks per level, single quotes, as libvirt indents.

use std::fmt::Write;

#[derive(Debug, Default)]
pub(super) struct Markup {
    out: String,
    open: Vec<&'static str>,
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;")
}

impl Markup {
    /// A writer whose first line is indented by `level` levels.
    fn indent(&mut self) {
        for _ in 0..self.open.len() {
            self.out.push_str("  ");
        }
    }

    fn start(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.indent();
        let _ = write!(self.out, "<{name}");
        for (key, value) in attributes {
            let _ = write!(self.out, " {key}='{}'", escape(value));
        }
    }

    /// Opens an element, lets `body` fill it and closes it.
    pub(super) fn element(&mut self, name: &'static str, attributes: &[(&str, &str)], body: impl FnOnce(&mut Markup)) {
        self.start(name, attributes);
        self.out.push_str(">\n");
        self.open.push(name);
        body(self);
        self.open.pop();
        self.indent();
        let _ = writeln!(self.out, "</{name}>");
    }

    /// An element without content.
    pub(super) fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.start(name, attributes);
        self.out.push_str("/>\n");
    }

    /// An element with text.
    pub(super) fn text(&mut self, name: &str, attributes: &[(&str, &str)], text: &str) {
        self.start(name, attributes);
        let _ = writeln!(self.out, ">{}</{name}>", escape(text));
    }

    /// `<enum name='..'>` with a `<value>` each.
    pub(super) fn enumeration(&mut self, name: &str, values: &[&str]) {
        if values.is_empty() {
            return self.empty("enum", &[("name", name)]);
        }
        self.element("enum", &[("name", name)], |m| {
            for value in values {
                m.text("value", &[], value);
            }
        });
    }

    /// `<name supported='no'/>`.
    pub(super) fn unsupported(&mut self, name: &str) {
        self.empty(name, &[("supported", "no")]);
    }

    /// `<name supported='yes'/>` or `no`.
    pub(super) fn supported(&mut self, name: &str, yes: bool) {
        self.empty(name, &[("supported", if yes { "yes" } else { "no" })]);
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}
