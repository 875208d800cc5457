//! What the tables of these checks share.

use crate::domain_xml::parse_inactive;
use crate::error::Error;
use crate::qemu::complete;

fn answer(machine: &str, rest: &str, devices: &str) -> Result<(), Error> {
    let xml = format!(
        "<domain type='qemu'><name>a</name><memory>1048576</memory><vcpu>4</vcpu>\n<os><type arch='x86_64' \
         machine='{machine}'>hvm</type></os>{rest}<devices>{devices}</devices></domain>"
    );
    let mut def = parse_inactive(&xml)?.def;
    complete::complete(
        &mut def,
        "/usr/bin/qemu-system-x86_64",
        None,
        &crate::qemu::firmware::FirmwareChoice::default(),
    )?;
    super::validate(&def, None).map_err(|error| crate::domain_xml::place(error, &xml))
}

/// What a definition is refused with.
pub fn refusal(machine: &str, rest: &str) -> String {
    answer(machine, rest, "").expect_err("refused").message()
}

/// What devices are refused with.
pub fn device_refusal(machine: &str, devices: &str) -> String {
    answer(machine, "", devices).expect_err("refused").message()
}

/// Devices of a guest whose memory others can map.
pub fn shared_refusal(machine: &str, devices: &str) -> String {
    let shared = "<memoryBacking><access mode='shared'/></memoryBacking>";
    answer(machine, shared, devices).expect_err("refused").message()
}
