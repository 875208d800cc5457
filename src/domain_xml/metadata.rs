//! `<metadata>`: foreign elements, kept as they were written.
//!
//! libvirt's rules: an element without a namespace is dropped, and of several with one namespace the first stays.

use std::collections::BTreeSet;

use crate::error::{Code, Error, Result};
use crate::xml::{Document, Node, Writer, escape};

/// `<metadata>` with its children.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// One entry per child element, in order.
    pub elements: Vec<MetadataElement>,
}

/// One child of `<metadata>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataElement {
    /// Namespace URI; never empty.
    pub uri: String,
    /// Prefix it was written with; may be empty.
    pub prefix: String,
    /// Name without prefix.
    pub name: String,
    /// The element's bytes from `<` to `>`; it declares every prefix that it uses.
    pub xml: String,
}

impl Metadata {
    /// Reads `<metadata>`; what is below it is not looked at.
    pub(crate) fn read(node: Node<'_>) -> Self {
        node.mark_opaque();
        let mut metadata = Metadata::default();
        for child in node.all_children() {
            let Some(uri) = child.namespace().filter(|uri| !uri.is_empty()) else { continue };
            if metadata.get(uri).is_none() {
                metadata.elements.push(MetadataElement::read(child, uri));
            }
        }
        metadata
    }

    /// Writes it; nothing when it is empty.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.element_unless_empty("metadata", |w| {
            for element in &self.elements {
                w.raw_line(&element.xml);
            }
        });
    }

    /// The element of a namespace (`virDomainGetMetadata`).
    pub fn get(&self, uri: &str) -> Option<&MetadataElement> {
        self.elements.iter().find(|element| element.uri == uri)
    }

    /// Takes the element of a namespace away; whether there was one.
    pub fn remove(&mut self, uri: &str) -> bool {
        let before = self.elements.len();
        self.elements.retain(|element| element.uri != uri);
        self.elements.len() != before
    }

    /// Puts the one element of `xml` under namespace `uri` with prefix `key` (`virDomainSetMetadata`), in place of
    /// the one that is there. Errors: code 35 when `xml` is not well-formed.
    pub fn set(&mut self, uri: &str, key: &str, xml: &str) -> Result<()> {
        let document = Document::parse(xml, "metadata_xml")?;
        let root = document.root();
        if root.local_name().is_empty() || uri.is_empty() {
            return Err(Error::new(Code::InvalidArg, "metadata needs a namespace URI and an element"));
        }
        let element = MetadataElement::qualified(root, uri, key);
        match self.elements.iter_mut().find(|other| other.uri == uri) {
            Some(place) => *place = element,
            None => self.elements.push(element),
        }
        Ok(())
    }
}

impl MetadataElement {
    fn read(node: Node<'_>, uri: &str) -> Self {
        let prefix = node.name().split_once(':').map_or("", |(prefix, _)| prefix);
        let mut xml = node.source().to_string();
        declare(&mut xml, node, &undeclared(node));
        MetadataElement {
            uri: uri.to_string(),
            prefix: prefix.to_string(),
            name: node.local_name().to_string(),
            xml: reindent(&xml, 2),
        }
    }

    /// The element put into the namespace: libvirt makes `key:name` of a plain `name`, of those inside, too.
    fn qualified(node: Node<'_>, uri: &str, key: &str) -> Self {
        let mut xml = node.source().to_string();
        let local = node.local_name();
        let mut prefix = node.name().split_once(':').map_or("", |(prefix, _)| prefix).to_string();
        if node.namespace() != Some(uri) && !key.is_empty() {
            prefix = key.to_string();
            let root = node.source().as_ptr();
            xml = renamed(node, &|one| {
                let plain = one.namespace().is_none_or(str::is_empty) || one.source().as_ptr() == root;
                plain.then(|| format!("{key}:{}", one.local_name()))
            });
            if node.resolve_prefix(Some(key)) != Some(uri) {
                let at = 1 + key.len() + 1 + local.len();
                xml.insert_str(at, &format!(" xmlns:{key}=\"{}\"", escape(uri)));
            }
        }
        MetadataElement { uri: uri.to_string(), prefix, name: local.to_string(), xml: reindent(&xml, 2) }
    }

    /// The element alone, not indented.
    pub fn to_xml(&self) -> String {
        reindent(&self.xml, 0)
    }

    /// The same as `virDomainGetMetadata` gives it: whoever asks knows the namespace, and gets plain names.
    pub fn to_plain_xml(&self) -> String {
        let xml = self.to_xml();
        let Ok(document) = Document::parse(&xml, "metadata_xml") else { return xml };
        let prefixed = !self.prefix.is_empty();
        let mine = |node: Node<'_>| prefixed && node.namespace() == Some(self.uri.as_str());
        let mut plain = renamed(document.root(), &|node| mine(node).then(|| node.local_name().to_string()));
        let attribute = if prefixed { format!("xmlns:{}", self.prefix) } else { "xmlns".to_string() };
        // An attribute may still have the prefix; what declares it stays then.
        if !prefixed || !plain.contains(&format!(" {}:", self.prefix)) {
            let uri = escape(&self.uri);
            let written = ['"', '\''].map(|quote| format!(" {attribute}={quote}{uri}{quote}"));
            for declaration in written {
                plain = plain.replacen(&declaration, "", 1);
            }
        }
        plain
    }
}

/// The bytes of `node` with other names for those elements in it that `new` names.
fn renamed(node: Node<'_>, new: &dyn Fn(Node<'_>) -> Option<String>) -> String {
    fn walk(
        node: Node<'_>,
        base: usize,
        new: &dyn Fn(Node<'_>) -> Option<String>,
        edits: &mut Vec<(usize, usize, String)>,
    ) {
        if let Some(name) = new(node) {
            let (source, length) = (node.source(), node.name().len());
            let at = source.as_ptr() as usize - base;
            if !source.ends_with("/>")
                && let Some(close) = source.rfind("</")
            {
                edits.push((at + close + 2, length, name.clone()));
            }
            edits.push((at + 1, length, name));
        }
        for child in node.all_children() {
            walk(child, base, new, edits);
        }
    }
    let mut xml = node.source().to_string();
    let mut edits = Vec::new();
    walk(node, node.source().as_ptr() as usize, new, &mut edits);
    edits.sort_unstable_by_key(|(at, ..)| std::cmp::Reverse(*at));
    for (at, length, name) in edits {
        xml.replace_range(at..at + length, &name);
    }
    xml
}

/// Prefixes used in `node` that only an ancestor declares.
fn undeclared(node: Node<'_>) -> Vec<(String, String)> {
    fn walk(node: Node<'_>, declared: &[&str], missing: &mut BTreeSet<String>) {
        let mut declared = declared.to_vec();
        declared.extend(node.declared_prefixes());
        for prefix in node.used_prefixes() {
            if prefix != "xml" && !declared.contains(&prefix) {
                missing.insert(prefix.to_string());
            }
        }
        for child in node.all_children() {
            walk(child, &declared, missing);
        }
    }
    let mut missing = BTreeSet::new();
    walk(node, &[], &mut missing);
    let with_uri = |prefix: String| {
        let key = Some(prefix.as_str()).filter(|prefix| !prefix.is_empty());
        node.resolve_prefix(key).map(|uri| (prefix.clone(), uri.to_string()))
    };
    missing.into_iter().filter_map(with_uri).collect()
}

fn declare(xml: &mut String, node: Node<'_>, missing: &[(String, String)]) {
    for (prefix, uri) in missing {
        let name = if prefix.is_empty() { String::from("xmlns") } else { format!("xmlns:{prefix}") };
        xml.insert_str(1 + node.name().len(), &format!(" {name}=\"{}\"", escape(uri)));
    }
}

/// Moves the lines after the first so that the last one (the end tag) stands at `level`; text that is not
/// indented as a whole is left alone.
fn reindent(xml: &str, level: usize) -> String {
    let Some(last) = xml.lines().last() else { return String::new() };
    let blank = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let (now, want) = (blank(last), level * 2);
    if now == want || !xml.contains('\n') || !last.trim_start().starts_with("</") {
        return xml.to_string();
    }
    if xml.lines().skip(1).any(|line| !line.trim().is_empty() && blank(line) < now) {
        return xml.to_string();
    }
    let mut out = String::with_capacity(xml.len() + 256);
    for (number, line) in xml.lines().enumerate() {
        if number == 0 {
            out.push_str(line);
            continue;
        }
        out.push('\n');
        if !line.trim().is_empty() {
            out.push_str(&" ".repeat(want));
            out.push_str(&line[now..]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;

    fn read(node: Node<'_>) -> Result<Metadata> {
        Ok(Metadata::read(node))
    }

    #[test]
    fn children_are_kept_byte_for_byte() {
        let xml = "<metadata>\n  <n:i xmlns:n=\"u\">\n    <n:a  b = 'c'   >x &lt; \"ä\"</n:a>\n  <!-- k -->\n  </n:i>\n</metadata>\n";
        let written = rewrite(xml, read, |metadata, w| {
            w.raw_line(&metadata.elements[0].to_xml());
        });
        let inner = "<n:i xmlns:n=\"u\">\n  <n:a  b = 'c'   >x &lt; \"ä\"</n:a>\n<!-- k -->\n</n:i>\n";
        assert_eq!(written.expect("reads"), inner);
    }

    #[test]
    fn an_outer_declaration_is_taken_along() {
        let source =
            "<domain xmlns:o='urn:o'><metadata><o:x a=\"1\"/><plain/><o:y xmlns:o='urn:o'/></metadata></domain>";
        let document = Document::parse(source, "x").expect("well-formed");
        let metadata = Metadata::read(document.root().child("metadata").expect("there"));
        assert_eq!(metadata.elements.len(), 1, "no namespace: dropped; same namespace: the first stays");
        assert_eq!(metadata.elements[0].xml, "<o:x xmlns:o=\"urn:o\" a=\"1\"/>");
    }

    #[test]
    fn set_get_remove() {
        let mut metadata = Metadata::default();
        metadata.set("urn:a", "a", "<x><y/></x>").expect("sets");
        assert_eq!(metadata.get("urn:a").expect("there").xml, "<a:x xmlns:a=\"urn:a\"><a:y/></a:x>");
        assert_eq!(metadata.get("urn:a").expect("there").to_plain_xml(), "<x><y/></x>");
        metadata.set("urn:b", "b", "<x xmlns:q='urn:q' c='1'><q:b/><y>t<z></z></y></x>").expect("sets");
        let b = metadata.get("urn:b").expect("there");
        assert_eq!(b.xml, "<b:x xmlns:b=\"urn:b\" xmlns:q='urn:q' c='1'><q:b/><b:y>t<b:z></b:z></b:y></b:x>");
        assert_eq!(b.to_plain_xml(), "<x xmlns:q='urn:q' c='1'><q:b/><y>t<z></z></y></x>");
        metadata.set("urn:d", "", "<x xmlns='urn:d'/>").expect("sets");
        assert_eq!(metadata.get("urn:d").expect("there").to_plain_xml(), "<x/>");
        let nova = "<nova:instance xmlns:nova=\"urn:n\">\n  <nova:name>n</nova:name>\n</nova:instance>";
        metadata.set("urn:n", "instance", nova).expect("sets");
        let kept = metadata.get("urn:n").expect("there");
        assert_eq!(kept.to_xml(), nova);
        assert!(kept.xml.ends_with("\n    </nova:instance>"));
        metadata.set("urn:a", "a", "<a:z xmlns:a='urn:a'/>").expect("replaces");
        assert_eq!(metadata.get("urn:a").expect("there").name, "z");
        assert!(metadata.remove("urn:a") && !metadata.remove("urn:a"));
        assert!(metadata.set("urn:a", "a", "<x>").is_err());
    }
}
