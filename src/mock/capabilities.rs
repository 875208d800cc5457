//! What the test driver says it has: one i686 machine as libvirt's test driver, with 32 vCPUs at most.

use crate::engine::driver::DomainCapsQuery;
use crate::error::{Error, Result};

/// The architecture of every test guest.
pub(super) const ARCH: &str = "i686";
/// As libvirt's test driver.
pub(super) const MAX_VCPUS: u32 = 32;

/// A name and the values that may stand for it.
type Choices = (&'static str, &'static [&'static str]);

/// What clients offer their users to choose from. libvirt's test driver says nothing here; a client that builds its
/// dialogs from it would have none to try.
#[rustfmt::skip]
const DEVICES: [(&str, &[Choices]); 3] = [
    ("disk", &[
        ("diskDevice", &["disk", "cdrom", "floppy"]),
        ("bus", &["ide", "fdc", "scsi", "virtio", "usb", "sata"]),
    ]),
    ("graphics", &[("type", &["vnc"])]),
    ("video", &[("modelType", &["vga", "cirrus", "virtio"])]),
];

/// `virConnectGetCapabilities`.
pub(super) fn host_and_guest() -> String {
    format!(
        "<capabilities>

  <host>
    <cpu>
      <arch>{ARCH}</arch>
    </cpu>
  </host>

  <guest>
    <os_type>hvm</os_type>
    <arch name='{ARCH}'>
      <wordsize>32</wordsize>
      <domain type='test'/>
    </arch>
    <features>
      <pae/>
      <nonpae/>
    </features>
  </guest>

</capabilities>
"
    )
}

/// `virConnectGetDomainCapabilities`.
pub(super) fn domain(query: &DomainCapsQuery) -> Result<String> {
    if let Some(virt_type) = query.virt_type.as_deref().filter(|virt_type| *virt_type != "test") {
        return Err(Error::invalid_arg(format!("unknown virttype: {virt_type}")));
    }
    let arch = query.arch.as_deref().unwrap_or(ARCH);
    if arch != ARCH {
        return Err(Error::invalid_arg(format!("unknown architecture: {arch}")));
    }
    let machine =
        query.machine.as_ref().map(|machine| format!("  <machine>{}</machine>\n", crate::xml::escape(machine)));
    let models: String = crate::host::cpu::model_names(ARCH)
        .unwrap_or_default()
        .into_iter()
        .map(|model| format!("      <model usable='yes'>{model}</model>\n"))
        .collect();
    let devices: String = DEVICES.iter().map(|(device, lists)| device_lists(device, lists)).collect();
    Ok(format!(
        "<domainCapabilities>
  <path>/usr/bin/test-emulator</path>
  <domain>test</domain>
{machine}  <arch>{ARCH}</arch>
  <vcpu max='{MAX_VCPUS}'/>
  <os supported='yes'>
    <loader supported='no'/>
  </os>
  <cpu>
    <mode name='host-passthrough' supported='no'/>
    <mode name='maximum' supported='no'/>
    <mode name='host-model' supported='no'/>
    <mode name='custom' supported='yes'>
{models}    </mode>
  </cpu>
  <devices>
{devices}  </devices>
  <features/>
</domainCapabilities>
",
        machine = machine.unwrap_or_default(),
    ))
}

/// One device with its lists of choices.
fn device_lists(device: &str, lists: &[Choices]) -> String {
    let mut text = format!("    <{device} supported='yes'>\n");
    for (name, values) in lists {
        let values: String = values.iter().map(|value| format!("        <value>{value}</value>\n")).collect();
        text += &format!("      <enum name='{name}'>\n{values}      </enum>\n");
    }
    text + &format!("    </{device}>\n")
}
