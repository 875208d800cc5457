//! The coverage table is what the rows say; the rows are libvirt's. `DOMUS_BLESS=1` rewrites the table.

use std::collections::HashSet;
use std::path::Path;

use super::{coverage, table};

#[test]
fn coverage_table_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/RPC_COVERAGE.md");
    let text = coverage::markdown();
    if std::env::var_os("DOMUS_BLESS").is_some() {
        #[allow(clippy::disallowed_methods)] // a document of the repository, no state
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "run the tests with DOMUS_BLESS=1");
}

#[test]
fn every_procedure_of_libvirt_11_3_has_one_row() {
    let mut seen = HashSet::new();
    for group in &table::GROUPS {
        for row in group.rows {
            assert!(seen.insert((group.program, row.number)), "{} is there twice", row.name);
            assert!(row.function.starts_with("vir"), "{}", row.name);
        }
    }
    let remote = seen.iter().filter(|(program, _)| *program == table::REMOTE).count();
    assert_eq!(remote, 400, "453 numbers, 53 of them events");
    assert!(table::find(table::REMOTE, 318).is_none(), "an event cannot be called");
    assert_eq!(table::find(table::REMOTE, 212).map(|row| row.function), Some("virDomainGetState"));
}
