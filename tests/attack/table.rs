//! The table itself: documented, complete, and not in a release.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

fn sources() -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), found);
            } else {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    walk(&repository("src"), &mut found);
    found
}

/// A weakening point without an attack proves nothing; an attack without its point is not tested at all.
#[test]
fn every_weakening_point_has_an_attack() {
    let mut points = BTreeSet::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for (at, mark) in text.match_indices("weakened(\"") {
            points.insert(text[at + mark.len()..].split('"').next().unwrap().to_string());
        }
    }
    let attacked: BTreeSet<String> = TABLE.iter().map(|row| row.weakening.to_string()).collect();
    assert_eq!(points, attacked, "left: in the source; right: in the table");
}

/// The function behind the points, compiled as a release is: it reads no variable, and its names are nowhere.
#[test]
fn a_release_has_no_weakening_points() {
    let profile = fs::read_to_string(repository("Cargo.toml")).unwrap();
    assert!(!profile.contains("debug-assertions"), "a profile with debug assertions has weakening points");
    let dir = tempfile::tempdir().unwrap();
    let program = "mod weaken { include!(\"WEAKEN\"); }\nfn main() {\n    let passed_on = weaken::inherited().is_some();\n    \
                   std::process::exit(i32::from(weaken::weakened(\"keep-fds\")) + 2 * i32::from(passed_on));\n}\n";
    let weaken = fs::read_to_string(repository("src/sys/weaken.rs")).unwrap().replace("//!", "//");
    fs::write(dir.path().join("weaken.rs"), weaken).unwrap();
    let main = dir.path().join("main.rs");
    fs::write(&main, program.replace("WEAKEN", "weaken.rs")).unwrap();
    let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let rustc = std::env::var_os("RUSTC").map_or_else(|| cargo.with_file_name("rustc"), PathBuf::from);
    for (profile, status) in [(["-O", "-Cdebug-assertions=off"], 0), (["-Copt-level=0", "-Cdebug-assertions=on"], 3)] {
        let binary = dir.path().join(format!("program{status}"));
        let built = Command::new(&rustc).args(["--edition=2024", "-o"]).arg(&binary).arg(&main).args(profile).output();
        let built = built.unwrap_or_else(|error| panic!("{}: {error}", rustc.display()));
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let ran = Command::new(&binary).env("DOMUS_WEAKEN", "keep-fds").status().unwrap();
        assert_eq!(ran.code(), Some(status), "{profile:?}");
        let text = fs::read(&binary).unwrap();
        let named =
            ["DOMUS_WEAKEN", "keep-fds"].map(|name| text.windows(name.len()).any(|part| part == name.as_bytes()));
        assert_eq!(named, [status != 0; 2], "{profile:?}");
    }
}

/// The release binaries, where they have been built since the source last changed.
#[test]
fn release_binaries_have_no_weakening_points() {
    let newest = sources().iter().filter_map(|path| fs::metadata(path).ok()?.modified().ok()).max().unwrap();
    let debug = Path::new(env!("CARGO_BIN_EXE_domus-run"));
    let names: BTreeSet<&str> = TABLE.iter().map(|row| row.weakening).chain(["DOMUS_WEAKEN"]).collect();
    let count = |path: &Path| {
        let text = fs::read(path).unwrap();
        let text = String::from_utf8_lossy(&text);
        names.iter().filter(|name| text.contains(**name)).count()
    };
    if cfg!(debug_assertions) {
        assert!(count(debug) > 15, "the names would be seen in a binary that has them");
    }
    let binaries = ["domusd", "domus-run"].map(|binary| repository("target/release").join(binary));
    let fresh = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).is_ok_and(|built| built >= newest);
    if !binaries.iter().all(fresh) {
        return crate::harness::skip("release binaries", "not built, or older than the source (make build)");
    }
    for path in binaries {
        assert_eq!(count(&path), 0, "{} has weakening points", path.display());
    }
}
