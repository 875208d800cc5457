//! A short soak of containers: `scripts/soak.sh` with fewer rounds than `make soak`, on the binaries under test.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "sys::exec belongs to the daemon")]

use std::path::Path;
use std::process::Command;

#[test]
fn starts_and_stops_leave_nothing_behind() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/soak.sh");
    let binaries = Path::new(env!("CARGO_BIN_EXE_domusd")).parent().unwrap();
    let out = Command::new(script)
        .env("DOMUS_SOAK_BIN", binaries)
        .env("DOMUS_SOAK_CYCLES", "120")
        .output()
        .expect("bash runs scripts/soak.sh");
    let said = String::from_utf8_lossy(&out.stdout);
    // Where it cannot run it says so itself, in the words that are counted.
    eprint!("{said}");
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("descriptors") || said.starts_with("SKIP "), "{said}");
}
