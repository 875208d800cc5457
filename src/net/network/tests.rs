//! Whole documents: libvirt's own, our own, what is refused.

use std::path::PathBuf;

use super::*;

/// Documents of the conformance corpus, when `DOMUS_CORPUS` names one; else there is nothing to do beyond the project's own.
pub(super) fn corpus() -> Option<PathBuf> {
    std::env::var_os("DOMUS_CORPUS").map(PathBuf::from).map(|path| match path.join("data").is_dir() {
        true => path.join("data"),
        false => path,
    })
}

pub(super) fn files(directory: &std::path::Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

#[test]
fn corpus_round_trips() {
    let Some(corpus) = corpus() else { return };
    let documents = files(&corpus.join("networkxml2xmlin"), "xml");
    assert!(documents.len() > 10, "{documents:?}");
    let mut wrong = Vec::new();
    for path in documents {
        let expected = corpus.join("networkxml2xmlout").join(path.file_name().expect("a file"));
        let text = std::fs::read_to_string(&path).expect("readable");
        match (parse(&text), std::fs::read_to_string(&expected)) {
            (Ok(parsed), Ok(expected)) => {
                let written = format(&parsed.def, FormatOptions { inactive: true });
                if written != expected {
                    wrong.push(format!("{}: {written}", path.display()));
                }
                if !parsed.warnings.is_empty() {
                    wrong.push(format!("{}: {:?}", path.display(), parsed.warnings));
                }
            }
            (Err(_), Err(_)) => {}
            (Ok(_), Err(_)) => wrong.push(format!("{}: accepted", path.display())),
            (Err(error), Ok(_)) => wrong.push(format!("{}: {error}", path.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const FULL: &str = include_str!("../../../tests/fixtures/network/full.xml");

#[test]
fn a_document_with_everything_is_kept() {
    let parsed = parse(FULL).expect("parses");
    assert_eq!(parsed.warnings, Vec::new());
    assert_eq!(format(&parsed.def, FormatOptions { inactive: true }), FULL);
}

const ANSWERS: &str = include_str!("../../../tests/fixtures/network/answers.json");

/// What libvirt 11.3 says to a document: `gives` the definition it keeps, or `code` and `message`.
#[derive(serde::Deserialize)]
struct Answer {
    xml: String,
    gives: Option<String>,
    code: Option<i32>,
    message: Option<String>,
}

/// UUID and MAC are chance.
fn without_chance(xml: &str) -> String {
    let mut out = String::new();
    for line in xml.lines() {
        let line = match line.trim_start() {
            text if text.starts_with("<uuid>") => "  <uuid>UUID</uuid>",
            text if text.starts_with("<mac address='52:54:00:") => "  <mac address='MAC'/>",
            _ => line,
        };
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// Parse, completion and check, as a definition goes through them.
fn define(xml: &str) -> crate::error::Result<String> {
    let mut def = parse(xml)?.def;
    complete(&mut def, complete::random_bytes, |name| name == "virbr0")?;
    validate(&def)?;
    Ok(format(&def, FormatOptions { inactive: true }))
}

/// Where we answer otherwise on purpose, by a part of the document.
const OTHERWISE: &[(&str, &str)] = &[
    ("<bridge name='averyveryverylongname'/>", "no link can have the name, so the network could never start"),
    ("<bridge name='a/b'/>", "the same"),
    ("<address type='pci'/>", "whether a host device can be used is asked when a guest wants it"),
    ("<inbound average='0'/>", "an empty element is not written"),
    ("gateway='::1'/>", "libvirt names the wrong attribute"),
    ("<dhcp><bootp file='f'/></dhcp>", "libvirt loses it"),
];

#[test]
fn answers_are_libvirts() {
    let answers: Vec<Answer> = serde_json::from_str(ANSWERS).expect("JSON");
    assert!(answers.len() > 200);
    let mut wrong = Vec::new();
    for answer in &answers {
        if OTHERWISE.iter().any(|(part, _)| answer.xml.contains(part)) {
            continue;
        }
        let ours = define(&answer.xml);
        let same = match (&ours, &answer.gives) {
            (Ok(ours), Some(theirs)) => without_chance(ours) == without_chance(theirs),
            (Err(error), None) => {
                let theirs = answer.message.as_deref().unwrap_or_default();
                let text = error.message();
                Some(error.code as i32) == answer.code && text.starts_with(theirs.trim_end())
            }
            _ => false,
        };
        if !same {
            let theirs = answer.gives.as_ref().or(answer.message.as_ref());
            let ours = ours.map_err(|error| (error.code, error.message()));
            wrong.push(format!("{}\n  ours: {ours:?}\n  libvirt: {:?} {theirs:?}", answer.xml, answer.code));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), answers.len(), wrong.join("\n"));
}
