//! Whole documents: libvirt's own, our own, what is refused.

use std::path::PathBuf;

use rstest::rstest;

use super::*;

/// Documents of the conformance corpus, where one is given.
pub(super) fn corpus() -> Option<PathBuf> {
    let corpus = std::env::var_os("DOMUS_CORPUS").map(PathBuf::from).map(|path| match path.join("data").is_dir() {
        true => path.join("data"),
        false => path,
    });
    if corpus.is_none() {
        println!("SKIP corpus: DOMUS_CORPUS does not name the conformance corpus");
    }
    corpus
}

fn files(directory: &std::path::Path, extension: &str) -> Vec<PathBuf> {
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

#[rstest]
#[case("<network/>", "missing network name")]
fn refused(#[case] xml: &str, #[case] expected: &str) {
    let error = parse(xml).expect_err("refused");
    assert!(error.detail.contains(expected), "{}", error.detail);
}
