//! Domain XML -> definition -> XML -> definition. What was read is written so that it reads back the same.

use domus::domain_xml::{self, FormatOptions};

use crate::{Outcome, hash, shape};

const STORED: FormatOptions = FormatOptions { secure: true, inactive: true, migratable: false };
const LIVE: FormatOptions = FormatOptions { secure: true, inactive: false, migratable: false };

/// See the module's text.
pub fn run(data: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(data) else { return 0 };
    let device = match domain_xml::parse_device(text) {
        Err(error) => shape(&error.detail),
        Ok((device, _)) => {
            let written = domain_xml::format_device(&device, LIVE);
            let (again, _) = domain_xml::parse_device(&written)
                .unwrap_or_else(|error| panic!("a written device is refused: {}\n{written}", error.detail));
            assert_eq!(domain_xml::format_device(&again, LIVE), written, "a device changes when written twice");
            hash(words(&written))
        }
    };
    let domain = match domain_xml::parse(text) {
        Err(error) => shape(&error.detail),
        Ok(parsed) => {
            let written = domain_xml::format(&parsed.def, LIVE);
            let again = domain_xml::parse(&written)
                .unwrap_or_else(|error| panic!("a written definition is refused: {}\n{written}", error.detail));
            assert_eq!(domain_xml::format(&again.def, LIVE), written, "a definition changes when written twice");
            let mut inactive = parsed.def;
            domain_xml::to_inactive(&mut inactive);
            let stored = domain_xml::format(&inactive, STORED);
            let again = domain_xml::parse_inactive(&stored)
                .unwrap_or_else(|error| panic!("a stored definition is refused: {}\n{stored}", error.detail));
            assert_eq!(domain_xml::format(&again.def, STORED), stored, "a stored definition changes when read");
            hash(words(&stored))
        }
    };
    device ^ domain.rotate_left(1)
}

/// The element and attribute names of a document, each once, in order: its shape without its values.
fn words(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for part in text.split(['<', ' ']) {
        let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || "_:-".contains(*c)).collect();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Definitions and single devices.
pub fn seeds() -> Vec<Vec<u8>> {
    super::definitions()
}
