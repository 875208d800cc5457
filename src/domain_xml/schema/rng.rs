//! A [`Grammar`] as RELAX NG: one file for the domain, one for each large group.

use std::collections::BTreeMap;

use super::{Element, Grammar, Value};

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
    <!-- Made from what the parser asks for; do not edit: the test domain_xml::schema writes it with DOMUS_BLESS=1 -->\n\
    <grammar xmlns=\"http://relaxng.org/ns/structure/1.0\" datatypeLibrary=\"http://www.w3.org/2001/XMLSchema-datatypes\">\n";

/// (file name, text) of every file.
pub fn write(grammar: &Grammar) -> Vec<(&'static str, String)> {
    let mut parts: BTreeMap<&'static str, String> = BTreeMap::new();
    for (path, element) in &grammar.0 {
        let file = match path.get(1).map(String::as_str) {
            Some("devices") if path.len() > 2 => "devices.rng",
            Some("os" | "sysinfo" | "features" | "cpu" | "clock" | "pm") => "system.rng",
            Some("cputune" | "memtune" | "blkiotune" | "numatune" | "memoryBacking" | "vcpus" | "iothreadids") => {
                "tuning.rng"
            }
            _ => "domain.rng",
        };
        define(grammar, path, element, parts.entry(file).or_default());
    }
    let mut files = Vec::new();
    for (name, defines) in &parts {
        let mut text = String::from(HEAD);
        if *name == "domain.rng" {
            text.push_str("  <start>\n    <ref name=\"domain\"/>\n  </start>\n");
            for other in parts.keys().filter(|other| *other != name) {
                text.push_str(&format!("  <include href=\"{other}\"/>\n"));
            }
            text.push_str(COMMON);
        }
        text.push_str(defines);
        text.push_str("</grammar>\n");
        files.push((*name, text));
    }
    files
}

/// What anybody may use.
const COMMON: &str = r#"  <define name="anything">
    <zeroOrMore>
      <choice>
        <attribute><anyName/></attribute>
        <text/>
        <element>
          <anyName/>
          <ref name="anything"/>
        </element>
      </choice>
    </zeroOrMore>
  </define>
  <define name="foreign">
    <zeroOrMore>
      <element>
        <anyName>
          <except>
            <nsName ns=""/>
          </except>
        </anyName>
        <ref name="anything"/>
      </element>
    </zeroOrMore>
  </define>
  <define name="unsigned">
    <data type="string">
      <param name="pattern">\s*\+?[0-9]+\s*</param>
    </data>
  </define>
  <define name="signed">
    <data type="string">
      <param name="pattern">\s*[+\-]?[0-9]+\s*</param>
    </data>
  </define>
  <define name="anyBase">
    <data type="string">
      <param name="pattern">\s*(0[xX][0-9a-fA-F]+|[0-9]+)\s*</param>
    </data>
  </define>
"#;

fn define(grammar: &Grammar, path: &[String], element: &Element, out: &mut String) {
    let name = path.last().map_or("", String::as_str);
    out.push_str(&format!("  <define name=\"{}\">\n    <element name=\"{name}\">\n", path.join(".")));
    let mut body = String::new();
    if element.anything {
        body.push_str("      <ref name=\"anything\"/>\n");
    } else {
        for (name, value) in &element.attributes {
            body.push_str("      <optional>\n        <attribute name=\"");
            body.push_str(name);
            body.push_str(&format!("\">{}</attribute>\n      </optional>\n", pattern(value)));
        }
        let mut parts: Vec<String> = Vec::new();
        for (name, many) in element.children.iter().filter(|(name, _)| !name.contains(':')) {
            let reference = reference(grammar, path, name);
            let count = if *many { "zeroOrMore" } else { "optional" };
            parts.push(format!("        <{count}>\n          {reference}\n        </{count}>\n"));
        }
        if path.len() == 1 {
            parts.push("        <ref name=\"foreign\"/>\n".into());
        }
        match (&element.text, parts.is_empty()) {
            (Some(value), true) => body.push_str(&format!("      {}\n", pattern(value))),
            (Some(_), false) => parts.push("        <text/>\n".into()),
            (None, _) => {}
        }
        match parts.len() {
            0 => {}
            1 => body.push_str(&parts.concat().replace("\n  ", "\n").replacen("  ", "", 1)),
            _ => body.push_str(&format!("      <interleave>\n{}      </interleave>\n", parts.concat())),
        }
    }
    if body.is_empty() {
        body.push_str("      <empty/>\n");
    }
    out.push_str(&body);
    out.push_str("    </element>\n  </define>\n");
}

/// A child by its own definition; inside of a chain of images the child that is described above.
fn reference(grammar: &Grammar, path: &[String], name: &str) -> String {
    let mut child = path.to_vec();
    match path.iter().position(|other| other == name).filter(|_| super::learn::NESTED.contains(&name)) {
        Some(at) => child.truncate(at + 1),
        None => child.push(name.to_string()),
    }
    debug_assert!(grammar.0.contains_key(&child), "{child:?} was never looked at");
    format!("<ref name=\"{}\"/>", child.join("."))
}

fn pattern(value: &Value) -> String {
    match value {
        Value::Text => "<text/>".to_string(),
        Value::Words(words) => {
            let values: Vec<String> =
                words.iter().map(|word| format!("<value>{}</value>", crate::xml::escape(word))).collect();
            if values.len() == 1 { values.concat() } else { format!("<choice>{}</choice>", values.concat()) }
        }
        Value::Unsigned => "<ref name=\"unsigned\"/>".to_string(),
        Value::Signed => "<ref name=\"signed\"/>".to_string(),
        Value::AnyBase => "<ref name=\"anyBase\"/>".to_string(),
    }
}
