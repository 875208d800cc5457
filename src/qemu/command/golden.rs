//! Golden command lines: `testdata/NAME.xml` against `testdata/NAME.args`, made with the capability record beside them.
//! `UPDATE_GOLDEN=1` rewrites the expected files; look at the difference before keeping it.

use std::path::{Path, PathBuf};

use rstest::rstest;

use super::{Context, plan};
use crate::domain_xml::{FormatOptions, format, parse_inactive};
use crate::qemu::capabilities::QemuCaps;
use crate::qemu::complete;
use crate::qemu::firmware::FirmwareChoice;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/qemu/command/testdata")
}

fn caps() -> QemuCaps {
    serde_json::from_str(&std::fs::read_to_string(data().join("caps.json")).unwrap()).unwrap()
}

fn check(path: &Path, actual: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        #[allow(clippy::disallowed_methods)] // expected output of a test
        std::fs::write(path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(actual, expected, "{} differs", path.display());
}

/// The command line, one option per line, or why there is none.
fn command_line(name: &str) -> String {
    let xml = std::fs::read_to_string(data().join(format!("{name}.xml"))).unwrap();
    let mut def = parse_inactive(&xml).unwrap().def;
    let caps = caps();
    complete::complete(&mut def, "/usr/bin/qemu-system-x86_64", Some(&caps), &FirmwareChoice::default()).unwrap();
    crate::qemu::validate::validate(&def, Some(&caps)).unwrap();
    // What is stored reads back as it was.
    let options = FormatOptions { inactive: true, secure: true, ..Default::default() };
    let stored = format(&def, options);
    let mut again = parse_inactive(&stored).unwrap().def;
    complete::complete(&mut again, "/usr/bin/qemu-system-x86_64", Some(&caps), &FirmwareChoice::default()).unwrap();
    assert_eq!(format(&again, options), stored, "{name} does not survive a round trip");

    crate::qemu::launch::expand_cpu(&mut def, &caps).unwrap();
    complete::assign_aliases(&mut def);
    complete::assign_nodes(&mut def);
    let context = Context { caps: &caps, sandbox: true, kvm_fd: true, vhost: true, paper: name == "paper", now: 0 };
    match plan(&def, &context) {
        Err(error) => format!("{}\n", error.message()),
        Ok(plan) => {
            let mut text = plan.program.clone();
            for arg in &plan.args {
                text.push_str(if arg.starts_with('-') { "\n" } else { " " });
                text.push_str(arg);
            }
            for fd in &plan.fds {
                text.push_str(&format!("\n# {} = {:?}", fd.number, fd.kind));
            }
            text.push('\n');
            text
        }
    }
}

#[rstest]
#[case("nova")]
#[case("q35")]
#[case("tpm")]
#[case("paper")]
#[case("secrets")]
fn golden(#[case] name: &str) {
    check(&data().join(format!("{name}.args")), &command_line(name));
}
