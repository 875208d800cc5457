//! What the firmware says of the machine (`virConnectGetSysinfo`), as the kernel shows it below /sys/class/dmi.

use std::path::Path;

use crate::error::{Code, Error, Result};
use crate::xml::Writer;

/// Blocks of libvirt's `<sysinfo>`, with libvirt's name of each entry and the kernel's file of it.
const BLOCKS: [(&str, &[(&str, &str)]); 4] = [
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

/// libvirt's `<sysinfo type='smbios'>`. Error: code 67 where the kernel shows no such tables.
pub fn sysinfo() -> Result<String> {
    describe(Path::new("/sys/class/dmi/id"))
}

fn describe(directory: &Path) -> Result<String> {
    if !directory.is_dir() {
        return Err(Error::new(Code::ConfigUnsupported, "Host SMBIOS information is not available"));
    }
    let mut w = Writer::new();
    w.start("sysinfo");
    w.attr("type", "smbios");
    for (block, entries) in BLOCKS {
        w.element_unless_empty(block, |w| {
            for (name, file) in entries {
                // Serial numbers are for root alone: what cannot be read is left out.
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
    w.end();
    Ok(w.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a fixture")]
    fn what_is_there_is_told() {
        let temp = tempfile::tempdir().unwrap();
        for (file, text) in [("bios_vendor", "Maker & Co\n"), ("product_name", "Box\n"), ("product_serial", "\n")] {
            std::fs::write(temp.path().join(file), text).unwrap();
        }
        assert_eq!(
            describe(temp.path()).unwrap(),
            "<sysinfo type='smbios'>\n  <bios>\n    <entry name='vendor'>Maker &amp; Co</entry>\n  </bios>\n  <system>\n    \
             <entry name='product'>Box</entry>\n  </system>\n</sysinfo>\n"
        );
        let error = describe(&temp.path().join("none")).unwrap_err();
        assert_eq!(error.message(), "unsupported configuration: Host SMBIOS information is not available");
    }
}
