//! What the test driver says it has: one i686 machine as libvirt's test driver, with 32 vCPUs at most.

use crate::engine::driver::DomainCapsQuery;
use crate::error::{Error, Result};

/// The architecture of every test guest.
pub(super) const ARCH: &str = "i686";
/// As libvirt's test driver.
pub(super) const MAX_VCPUS: u32 = 32;

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
    Ok(format!(
        "<domainCapabilities>
  <path>/usr/bin/test-emulator</path>
  <domain>test</domain>
  <arch>{ARCH}</arch>
  <vcpu max='{MAX_VCPUS}'/>
  <os supported='yes'/>
  <cpu/>
  <devices/>
  <features/>
</domainCapabilities>
"
    ))
}
