//! References: the five predefined entities, character references, and internal entities of the DOCTYPE.
//!
//! Internal entities are text only and expand with a cap on bytes and depth. External ones are known by name and never
//! loaded.

use std::collections::HashMap;

use super::MAX_EXPANSION;

const MAX_NESTING: usize = 20;

#[derive(Debug)]
enum Entity {
    Internal(String),
    External,
}

/// The entities of one document.
#[derive(Debug, Default)]
pub struct Entities {
    declared: HashMap<String, Entity>,
    expanded: usize,
}

/// What is wrong with a reference, in libxml2's words where it has them.
#[derive(Debug, thiserror::Error)]
pub enum EntityError {
    #[error("Entity '{0}' not defined")]
    Undefined(String),
    #[error("Entity '{0}' is external and is not loaded")]
    External(String),
    #[error("Entity '{0}' holds markup, only text is expanded")]
    Markup(String),
    #[error("Detected an entity reference loop")]
    Loop,
    #[error("Maximum entity amplification factor exceeded, entities expand to more than {MAX_EXPANSION} bytes")]
    TooLarge,
    #[error("xmlParseCharRef: invalid xmlChar value {0}")]
    BadChar(u64),
    #[error("xmlParseCharRef: invalid decimal value")]
    BadDecimal,
    #[error("xmlParseCharRef: invalid hexadecimal value")]
    BadHex,
    #[error("xmlParseEntityRef: no name")]
    NoName,
    #[error("EntityRef: expecting ';'")]
    NoSemicolon,
}

/// Whether XML 1.0 allows the character.
pub fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

/// Whether `name` is an XML name, roughly: enough to refuse markup that is none.
pub fn is_name(name: &str) -> bool {
    let start = |c: char| c.is_alphabetic() || c == '_' || c == ':';
    let mut chars = name.chars();
    chars.next().is_some_and(start)
        && chars.all(|c| start(c) || c.is_alphanumeric() || matches!(c, '-' | '.' | '\u{b7}'))
}

impl Entities {
    /// Reads the declarations of a DOCTYPE's internal subset.
    pub fn declare(&mut self, doctype: &str) {
        let Some(open) = doctype.find('[') else { return };
        let mut rest = &doctype[open + 1..];
        while let Some(at) = rest.find('<') {
            rest = &rest[at..];
            if let Some(comment) = rest.strip_prefix("<!--") {
                rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            } else if let Some(declaration) = rest.strip_prefix("<!ENTITY") {
                rest = self.declare_one(declaration);
            } else {
                rest = &rest[1..];
            }
        }
    }

    /// Reads one declaration after `<!ENTITY`; returns what follows it.
    fn declare_one<'s>(&mut self, text: &'s str) -> &'s str {
        let text = text.trim_start();
        let Some(name_end) = text.find(char::is_whitespace) else { return "" };
        let (name, rest) = (&text[..name_end], text[name_end..].trim_start());
        let (entity, rest) = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let value = &rest[1..];
                let Some(end) = value.find(quote) else { return "" };
                (Entity::Internal(value[..end].to_string()), &value[end + 1..])
            }
            _ => (Entity::External, rest),
        };
        if is_name(name) {
            self.declared.entry(name.to_string()).or_insert(entity);
        }
        rest
    }

    /// Appends what `&name;` stands for.
    pub fn expand(&mut self, name: &str, out: &mut String) -> Result<(), EntityError> {
        self.expand_nested(name, out, 0)
    }

    fn expand_nested(&mut self, name: &str, out: &mut String, depth: usize) -> Result<(), EntityError> {
        if let Some(number) = name.strip_prefix('#') {
            out.push(character(number)?);
            return Ok(());
        }
        match name {
            "lt" => out.push('<'),
            "gt" => out.push('>'),
            "amp" => out.push('&'),
            "apos" => out.push('\''),
            "quot" => out.push('"'),
            "" => return Err(EntityError::NoName),
            _ => {
                if depth >= MAX_NESTING {
                    return Err(EntityError::Loop);
                }
                let value = match self.declared.get(name) {
                    None if is_name(name) => return Err(EntityError::Undefined(name.to_string())),
                    None => return Err(EntityError::NoName),
                    Some(Entity::External) => return Err(EntityError::External(name.to_string())),
                    Some(Entity::Internal(value)) => value.clone(),
                };
                if value.contains('<') {
                    return Err(EntityError::Markup(name.to_string()));
                }
                self.expanded = self.expanded.saturating_add(value.len().max(1));
                if self.expanded > MAX_EXPANSION {
                    return Err(EntityError::TooLarge);
                }
                self.text_nested(&value, out, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Appends `text` with its references expanded; the offset of a bad one comes with the error.
    pub fn text(&mut self, text: &str, out: &mut String) -> Result<(), (usize, EntityError)> {
        let mut at = 0;
        while let Some(found) = text[at..].find('&') {
            out.push_str(&text[at..at + found]);
            let name_start = at + found + 1;
            let length = reference_length(&text[name_start..]).map_err(|error| (name_start, error))?;
            let name_end = name_start + length;
            self.expand(&text[name_start..name_end], out).map_err(|error| (name_end + 1, error))?;
            at = name_end + 1;
        }
        out.push_str(&text[at..]);
        Ok(())
    }

    fn text_nested(&mut self, text: &str, out: &mut String, depth: usize) -> Result<(), EntityError> {
        let mut rest = text;
        while let Some(found) = rest.find('&') {
            out.push_str(&rest[..found]);
            rest = &rest[found + 1..];
            let length = reference_length(rest)?;
            self.expand_nested(&rest[..length], out, depth)?;
            rest = &rest[length + 1..];
        }
        out.push_str(rest);
        Ok(())
    }
}

/// Length of the name that begins at `text` and ends before `;`.
pub fn reference_length(text: &str) -> Result<usize, EntityError> {
    let name_end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '#' | '_' | ':' | '-' | '.')));
    match name_end {
        Some(0) => Err(EntityError::NoName),
        Some(end) if text.as_bytes()[end] == b';' => Ok(end),
        None if text.is_empty() => Err(EntityError::NoName),
        _ => Err(EntityError::NoSemicolon),
    }
}

fn character(number: &str) -> Result<char, EntityError> {
    let value = match number.strip_prefix('x') {
        Some(hex) if !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u64::from_str_radix(hex, 16).map_err(|_| EntityError::BadHex)?
        }
        Some(_) => return Err(EntityError::BadHex),
        None if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
            number.parse().map_err(|_| EntityError::BadDecimal)?
        }
        None => return Err(EntityError::BadDecimal),
    };
    u32::try_from(value).ok().and_then(char::from_u32).filter(|c| is_xml_char(*c)).ok_or(EntityError::BadChar(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_entities_expand() {
        let mut entities = Entities::default();
        entities.declare(
            "d [<!ENTITY a 'x&b;'> <!-- <!ENTITY a 'no'> --> <!ENTITY b \"y\"><!ENTITY e SYSTEM '/etc/passwd'>]",
        );
        let mut out = String::new();
        entities.text("1&a;2&#65;&#x42;&lt;", &mut out).expect("expands");
        assert_eq!(out, "1xy2AB<");
        assert!(matches!(entities.expand("e", &mut out), Err(EntityError::External(_))));
        assert!(matches!(entities.expand("f", &mut out), Err(EntityError::Undefined(_))));
    }

    #[test]
    fn laughs_and_loops_end() {
        let mut doctype = String::from("d [<!ENTITY l0 'ha ha ha ha ha ha ha ha'>");
        for i in 1..12 {
            doctype.push_str(&format!("<!ENTITY l{i} '{}'>", format!("&l{};", i - 1).repeat(10)));
        }
        doctype.push_str("<!ENTITY self '&self;'>]");
        let mut entities = Entities::default();
        entities.declare(&doctype);
        let mut out = String::new();
        assert!(matches!(entities.expand("l11", &mut out), Err(EntityError::TooLarge)));
        assert!(out.len() <= MAX_EXPANSION);
        assert!(matches!(Entities::default().expand("self", &mut out), Err(EntityError::Undefined(_))));
        let mut entities = Entities::default();
        entities.declare(&doctype);
        assert!(matches!(entities.expand("self", &mut out), Err(EntityError::Loop)));
    }
}
