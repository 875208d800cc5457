//! The targets.

pub mod argv;
pub mod dbus;
pub mod qmp;
pub mod rpc;
pub mod spec;
pub mod xml;

use std::path::{Path, PathBuf};

/// The project's directory.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file below one of the directories whose name ends in `extension`.
pub fn files(directories: &[PathBuf], extension: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut open = directories.to_vec();
    while let Some(directory) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|given| given == extension) {
                found.extend(std::fs::read(path));
            }
        }
    }
    found.sort();
    found
}

/// Domain XML of the fixtures and examples, and of a further directory when DOMUS_CORPUS names one.
pub fn definitions() -> Vec<Vec<u8>> {
    let mut directories =
        vec![project().join("tests/fixtures"), project().join("examples"), project().join("src/qemu/command/testdata")];
    directories.extend(std::env::var_os("DOMUS_CORPUS").map(PathBuf::from));
    files(&directories, "xml")
}
