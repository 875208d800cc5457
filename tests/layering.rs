//! The house rules a compiler does not know: rooms name only rooms below them, unsafe code lives in `sys`, files stay
//! readable. Reads the source as text; comments and strings are taken out first, so that prose may name any room.

use std::fs;
use std::path::{Path, PathBuf};

/// Lower number, lower room. Rooms on one line are siblings and do not name each other.
/// `cli` is apart: it talks D-Bus and links nothing of the daemon.
const ROOMS: &[&[&str]] = &[
    &["sys"],
    &["error"],
    &["types"],
    &["xml"],
    &["domain_xml"],
    &["net", "disk", "host", "cgroup", "store", "secret"],
    &["engine"],
    &["mock", "qemu", "lxc"],
    &["dbus", "rpc"],
    &["daemon"],
];
const CLI_MAY_NAME: &[&str] = &["types", "error", "sys"];
const LINES_AT_MOST: usize = 800;

fn level(room: &str) -> Option<usize> {
    ROOMS.iter().position(|line| line.contains(&room))
}

fn source_files() -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.sort();
    found
}

/// `src/net/link.rs` and `src/net.rs` are in the room `net`.
fn room_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    Some(first.trim_end_matches(".rs").to_string())
}

/// The text with comments, strings and character literals replaced by blanks; line breaks stay, so line numbers hold.
fn code_only(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
    while at < bytes.len() {
        let next = bytes.get(at + 1).copied();
        match bytes[at] {
            '/' if next == Some('/') => {
                while at < bytes.len() && bytes[at] != '\n' {
                    out.push(' ');
                    at += 1;
                }
            }
            '/' if next == Some('*') => {
                let mut depth = 0;
                while at < bytes.len() {
                    let pair = (bytes[at], bytes.get(at + 1).copied());
                    let step = match pair {
                        ('/', Some('*')) => {
                            depth += 1;
                            2
                        }
                        ('*', Some('/')) => {
                            depth -= 1;
                            2
                        }
                        _ => 1,
                    };
                    for _ in 0..step {
                        out.push(blank(bytes[at]));
                        at += 1;
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            'r' if matches!(next, Some('"' | '#')) && !out.ends_with(|c: char| c.is_alphanumeric() || c == '_') => {
                let hashes = bytes[at + 1..].iter().take_while(|c| **c == '#').count();
                if bytes.get(at + 1 + hashes) != Some(&'"') {
                    out.push('r');
                    at += 1;
                    continue;
                }
                let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                let mut end = at + hashes + 2;
                while end < bytes.len() && !bytes[end..].starts_with(&close) {
                    end += 1;
                }
                end = (end + close.len()).min(bytes.len());
                out.extend(bytes[at..end].iter().map(|c| blank(*c)));
                at = end;
            }
            '"' => {
                let mut end = at + 1;
                while end < bytes.len() && bytes[end] != '"' {
                    end += if bytes[end] == '\\' { 2 } else { 1 };
                }
                end = (end + 1).min(bytes.len());
                out.extend(bytes[at..end].iter().map(|c| blank(*c)));
                at = end;
            }
            // A character literal, not a lifetime.
            '\'' if next == Some('\\') || bytes.get(at + 2) == Some(&'\'') => {
                let mut end = at + if next == Some('\\') { 3 } else { 2 };
                while end < bytes.len() && bytes[end] != '\'' {
                    end += 1;
                }
                end = (end + 1).min(bytes.len());
                out.extend(bytes[at..end].iter().map(|c| blank(*c)));
                at = end;
            }
            c => {
                out.push(c);
                at += 1;
            }
        }
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Every room that the code names as `crate::room`, `super`-free, also inside `use crate::{a::b, c}`; with its line.
fn rooms_named(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for prefix in ["crate::", "domus::"] {
        for (at, _) in code.match_indices(prefix) {
            if code[..at].ends_with(is_word) || code[..at].ends_with('$') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + prefix.len()..];
            if let Some(group) = rest.strip_prefix('{') {
                let mut depth = 1;
                let mut word = String::new();
                let mut first = true;
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    if is_word(c) && depth == 1 && first {
                        word.push(c);
                        continue;
                    }
                    if !word.is_empty() {
                        found.push((line, std::mem::take(&mut word)));
                        first = false;
                    }
                    if depth == 0 {
                        break;
                    }
                    if depth == 1 && c == ',' {
                        first = true;
                    }
                }
            } else {
                let word: String = rest.chars().take_while(|c| is_word(*c)).collect();
                found.push((line, word));
            }
        }
    }
    found
}

/// The part of a file before its unit tests: tests may build on any room.
fn without_tests(code: &str) -> &str {
    code.find("#[cfg(test)]\nmod tests").map_or(code, |at| &code[..at])
}

#[test]
fn rooms_name_only_rooms_below_them() {
    let mut wrong = Vec::new();
    for path in source_files() {
        let Some(room) = room_of(&path) else { continue };
        let tests_only = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
        if tests_only || matches!(room.as_str(), "lib" | "main" | "bin") {
            continue;
        }
        let code = code_only(&fs::read_to_string(&path).expect("source is UTF-8"));
        for (line, named) in rooms_named(without_tests(&code)) {
            if named == room || (level(&named).is_none() && named != "cli") {
                continue;
            }
            let allowed = if room == "cli" {
                CLI_MAY_NAME.contains(&named.as_str())
            } else {
                match (level(&room), level(&named)) {
                    (Some(own), Some(other)) => other < own,
                    _ => false,
                }
            };
            if !allowed {
                wrong.push(format!("{}:{line}: {room} names {named}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "a room may name only rooms below it (see src/lib.rs):\n{}", wrong.join("\n"));
}

#[test]
fn every_room_has_a_place_in_the_order() {
    let library = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("src/lib.rs");
    for line in library.lines() {
        if let Some(name) = line.trim().strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            assert!(name == "cli" || level(name).is_some(), "give the room `{name}` a line in tests/layering.rs");
        }
    }
}

#[test]
fn unsafe_code_is_in_sys_only() {
    let mut wrong = Vec::new();
    for path in source_files() {
        if room_of(&path).as_deref() == Some("sys") {
            continue;
        }
        let code = code_only(&fs::read_to_string(&path).expect("source is UTF-8"));
        for (number, line) in code.lines().enumerate() {
            if line.split(|c| !is_word(c)).any(|word| word == "unsafe") {
                wrong.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "unsafe outside src/sys:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_a_reader() {
    let long: Vec<String> = source_files()
        .iter()
        .filter_map(|path| {
            let lines = fs::read_to_string(path).expect("source is UTF-8").lines().count();
            (lines > LINES_AT_MOST).then(|| format!("{}: {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "more than {LINES_AT_MOST} lines; split by idea:\n{}", long.join("\n"));
}

#[test]
fn the_reader_of_this_test_sees_what_it_must() {
    let code = code_only("use crate::{net::link, store}; // crate::dbus\nlet s = \"crate::qemu\"; crate::engine::x();");
    let named: Vec<String> = rooms_named(&code).into_iter().map(|(_, name)| name).collect();
    assert_eq!(named, ["net", "store", "engine"]);
    assert!(!code_only("'\"' r#\"unsafe\"# /* unsafe */ 'a'").contains("unsafe"));
    assert!(code_only("fn f<'a>(x: &'a str) { unsafe {} }").contains("unsafe"));
}
