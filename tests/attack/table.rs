//! The table itself: documented, complete, and not in a release.

use std::fs;
use std::path::{Path, PathBuf};

use crate::TABLE;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// `docs/SECURITY_TESTS.md` has the table that the tests run; `DOMUS_BLESS=1` rewrites it.
#[test]
fn the_document_has_every_row() {
    let path = repository("docs/SECURITY_TESTS.md");
    let old = fs::read_to_string(&path).unwrap();
    let begin = old.find("<!-- table").unwrap();
    let begin = begin + old[begin..].find('\n').unwrap() + 1;
    let end = old.find("<!-- end of table -->").unwrap();
    let mut table = "| requirement | attack | weakening |\n| --- | --- | --- |\n".to_string();
    for row in TABLE {
        table += &format!("| {} | `{}::{}` | `{}` |\n", row.requirement, row.module, row.attack, row.weakening);
    }
    let new = format!("{}{table}{}", &old[..begin], &old[end..]);
    if std::env::var_os("DOMUS_BLESS").is_some() {
        fs::write(&path, new).unwrap();
    } else {
        assert!(new == old, "docs/SECURITY_TESTS.md is not what runs: DOMUS_BLESS=1 cargo test --test attack document");
    }
}
