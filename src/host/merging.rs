//! Pages of equal contents that the kernel merges (KSM).

use std::path::Path;

use super::read_number;
use crate::error::{Error, Result};
use crate::types::{ParamValue, TypedParams};

const DIRECTORY: &str = "/sys/kernel/mm/ksm";
/// What can be set: libvirt's name and the kernel's file. Unsigned integers.
pub const MERGING_SETTINGS: [(&str, &str); 3] = [
    ("shm_pages_to_scan", "pages_to_scan"),
    ("shm_sleep_millisecs", "sleep_millisecs"),
    ("shm_merge_across_nodes", "merge_across_nodes"),
];
/// What is counted. Unsigned long integers.
const COUNTERS: [(&str, &str); 5] = [
    ("shm_pages_shared", "pages_shared"),
    ("shm_pages_sharing", "pages_sharing"),
    ("shm_pages_unshared", "pages_unshared"),
    ("shm_pages_volatile", "pages_volatile"),
    ("shm_full_scans", "full_scans"),
];

/// Settings and counters (`virNodeGetMemoryParameters`); nothing where the kernel has no KSM.
pub fn merging() -> TypedParams {
    read_all(Path::new(DIRECTORY))
}

fn read_all(directory: &Path) -> TypedParams {
    let [scan, sleep, across] = MERGING_SETTINGS;
    let mut params = TypedParams::new();
    let setting = |params: &mut TypedParams, (name, file): (&str, &str)| {
        if let Some(value) = read_number(&directory.join(file)) {
            params.uint(name, value);
        }
    };
    setting(&mut params, scan);
    setting(&mut params, sleep);
    for (name, file) in COUNTERS {
        if let Some(value) = read_number(&directory.join(file)) {
            params.ullong(name, value);
        }
    }
    setting(&mut params, across);
    params
}

/// Changes settings; names and types are checked. Errors: code 38 with the file.
pub fn set_merging(params: &TypedParams) -> Result<()> {
    for (name, file) in MERGING_SETTINGS {
        if let Some(ParamValue::Uint(value)) = params.get(name) {
            let path = Path::new(DIRECTORY).join(file);
            // A file of the kernel's: written in place, never replaced.
            let written = std::fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|mut file| std::io::Write::write_all(&mut file, value.to_string().as_bytes()));
            written.map_err(|error| Error::system(format!("failed to set {name}: '{}'", path.display()), error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "files of a test are no state")]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_in_libvirts_order() {
        let directory = tempfile::tempdir().unwrap();
        for (file, text) in [("pages_to_scan", "100\n"), ("full_scans", "7\n"), ("merge_across_nodes", "1\n")] {
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        let names: Vec<_> = read_all(directory.path()).0.into_iter().collect();
        let expected = [
            ("shm_pages_to_scan".to_string(), ParamValue::Uint(100)),
            ("shm_full_scans".to_string(), ParamValue::Ullong(7)),
            ("shm_merge_across_nodes".to_string(), ParamValue::Uint(1)),
        ];
        assert_eq!(names, expected);
        assert!(read_all(Path::new("/nonexistent")).0.is_empty());
    }
}
