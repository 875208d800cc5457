//! What the firmware says of the machine, from the kernel's copy of its tables.

use std::path::Path;

use crate::error::{Code, Error, Result};
use crate::xml::Writer;

type Entries = &'static [(&'static str, &'static str)];

/// Element, then libvirt's name and the kernel's file of each entry.
const GROUPS: [(&str, Entries); 4] = [
    (
        "bios",
        &[("vendor", "bios_vendor"), ("version", "bios_version"), ("date", "bios_date"), ("release", "bios_release")],
    ),
    (
        "system",
        &[
            ("manufacturer", "sys_vendor"),
            ("product", "product_name"),
            ("version", "product_version"),
            ("serial", "product_serial"),
            ("uuid", "product_uuid"),
            ("sku", "product_sku"),
            ("family", "product_family"),
        ],
    ),
    (
        "baseBoard",
        &[
            ("manufacturer", "board_vendor"),
            ("product", "board_name"),
            ("version", "board_version"),
            ("serial", "board_serial"),
            ("asset", "board_asset_tag"),
        ],
    ),
    (
        "chassis",
        &[
            ("manufacturer", "chassis_vendor"),
            ("version", "chassis_version"),
            ("serial", "chassis_serial"),
            ("asset", "chassis_asset_tag"),
        ],
    ),
];

/// `<sysinfo type='smbios'>` (`virConnectGetSysinfo`). Errors: code 84 for a machine without such firmware.
pub fn sysinfo() -> Result<String> {
    described(Path::new("/sys/class/dmi/id"))
}

fn described(directory: &Path) -> Result<String> {
    if !directory.is_dir() {
        let text = format!("Host SMBIOS information is not available: the kernel has no '{}'", directory.display());
        return Err(Error::new(Code::OperationUnsupported, text));
    }
    let mut w = Writer::new();
    w.element("sysinfo", |w| {
        w.attr("type", "smbios");
        for (element, entries) in GROUPS {
            w.element_unless_empty(element, |w| {
                for (name, file) in entries {
                    let text = std::fs::read_to_string(directory.join(file)).unwrap_or_default();
                    let text = text.trim();
                    if !text.is_empty() {
                        w.start("entry");
                        w.attr("name", name);
                        w.end_with_text(text);
                    }
                }
            });
        }
    });
    Ok(w.finish())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "files of a test are no state")]
mod tests {
    use super::*;

    #[test]
    fn entries_that_are_there() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("sys_vendor"), "A & B\n").unwrap();
        std::fs::write(directory.path().join("product_name"), "\n").unwrap();
        let xml = described(directory.path()).unwrap();
        let expected = "<sysinfo type='smbios'>\n  <system>\n    <entry name='manufacturer'>A &amp; B</entry>\n  </system>\n</sysinfo>\n";
        assert_eq!(xml, expected);
        assert_eq!(described(Path::new("/nonexistent")).unwrap_err().code, Code::OperationUnsupported);
    }
}
