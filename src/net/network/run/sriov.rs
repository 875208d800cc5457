//! The devices of a network that are known only at its start: virtual functions of an SR-IOV device.

use std::path::Path;

use crate::error::{Code, Error, Result, Subsystem};
use crate::net::network::{ForwardDevice, ForwardInterface, ForwardMode, NetworkDef};
use crate::types::PciAddress;

/// Where the kernel shows devices.
pub const SYSFS: &str = "/sys";

/// The definition with the virtual functions of its `<pf>` as its devices, as `sysfs` has them. Errors: code 1 for a
/// device without usable ones, code 67 for an `<address>` that is no virtual function.
pub fn with_devices(def: &NetworkDef, sysfs: &Path) -> Result<NetworkDef> {
    let mut def = def.clone();
    if let Some(pf) = &def.forward.pf {
        def.forward.interfaces = functions(&pf.dev, def.forward.mode, sysfs);
        if def.forward.interfaces.is_empty() {
            let what = format!("No usable Vf's present on SRIOV PF {}", pf.dev);
            return Err(Error::internal(what).with_subsystem(Subsystem::Network));
        }
    }
    for interface in &def.forward.interfaces {
        let ForwardDevice::Pci(address) = &interface.device else { continue };
        if !sysfs.join(format!("bus/pci/devices/{address}/physfn")).exists() {
            let what = format!(
                "device '/sys/bus/pci/devices/{address}' in network '{}' is not an SR-IOV Virtual Function",
                def.name
            );
            return Err(Error::new(Code::ConfigUnsupported, what).with_subsystem(Subsystem::Network));
        }
    }
    Ok(def)
}

/// The virtual functions of a physical one, in the kernel's order: by PCI address, or by their links where guests get
/// macvtaps; one that no network driver has, because it is somebody else's, is left out there.
fn functions(dev: &str, mode: ForwardMode, sysfs: &Path) -> Vec<ForwardInterface> {
    let device = sysfs.join("class/net").join(dev).join("device");
    (0u32..)
        .map_while(|number| std::fs::canonicalize(device.join(format!("virtfn{number}"))).ok())
        .filter_map(|function| match mode {
            ForwardMode::Hostdev => pci_address(function.file_name()?.to_str()?).map(ForwardDevice::Pci),
            _ => {
                let link = std::fs::read_dir(function.join("net")).ok()?.flatten().next()?;
                Some(ForwardDevice::Netdev(link.file_name().to_str()?.to_string()))
            }
        })
        .map(|device| ForwardInterface { device, connections: 0 })
        .collect()
}

/// `0000:03:10.1`
fn pci_address(text: &str) -> Option<PciAddress> {
    let (rest, function) = text.split_once('.')?;
    let mut parts = rest.split(':').map(|part| u32::from_str_radix(part, 16).ok());
    let (domain, bus, slot) = (parts.next()??, parts.next()??, parts.next()??);
    Some(PciAddress { domain, bus, slot, function: u32::from_str_radix(function, 16).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// `eth7` with two functions, the second of which no network driver has.
    fn sysfs() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let devices = dir.path().join("devices/pci0000:00");
        let pf = devices.join("0000:03:00.0");
        fs::create_dir_all(&pf).unwrap();
        let by_address = dir.path().join("bus/pci/devices");
        fs::create_dir_all(&by_address).unwrap();
        for (number, name) in ["0000:03:10.0", "0000:03:10.2"].into_iter().enumerate() {
            fs::create_dir(devices.join(name)).unwrap();
            symlink(&pf, devices.join(name).join("physfn")).unwrap();
            symlink(devices.join(name), pf.join(format!("virtfn{number}"))).unwrap();
            symlink(devices.join(name), by_address.join(name)).unwrap();
        }
        fs::create_dir_all(devices.join("0000:03:10.0/net/eth7v0")).unwrap();
        fs::create_dir_all(dir.path().join("class/net/eth7")).unwrap();
        symlink(&pf, dir.path().join("class/net/eth7/device")).unwrap();
        dir
    }

    fn network(forward: &str) -> NetworkDef {
        crate::net::network::parse(&format!("<network><name>n</name>{forward}</network>")).unwrap().def
    }

    fn devices(forward: &str) -> Result<Vec<ForwardDevice>> {
        let made = with_devices(&network(forward), sysfs().path())?;
        Ok(made.forward.interfaces.into_iter().map(|interface| interface.device).collect())
    }

    #[test]
    fn a_physical_function_gives_its_virtual_ones() {
        let vf = |function| ForwardDevice::Pci(PciAddress { domain: 0, bus: 3, slot: 16, function });
        assert_eq!(devices("<forward mode='hostdev'><pf dev='eth7'/></forward>").unwrap(), [vf(0), vf(2)]);
        let links = devices("<forward mode='passthrough'><pf dev='eth7'/></forward>").unwrap();
        assert_eq!(links, [ForwardDevice::Netdev("eth7v0".into())], "the other is not the network driver's");
        let none = devices("<forward mode='hostdev'><pf dev='eth8'/></forward>").unwrap_err();
        assert_eq!((none.code, none.detail.as_str()), (Code::InternalError, "No usable Vf's present on SRIOV PF eth8"));
    }

    #[test]
    fn an_address_has_to_be_a_virtual_function() {
        let at = |function: u32| {
            devices(&format!(
                "<forward mode='hostdev'><address type='pci' domain='0' bus='3' slot='16' function='{function}'/></forward>"
            ))
        };
        assert_eq!(at(2).unwrap().len(), 1);
        let refused = at(1).unwrap_err();
        assert_eq!(refused.code, Code::ConfigUnsupported);
        assert!(
            refused.detail.ends_with("0000:03:10.1' in network 'n' is not an SR-IOV Virtual Function"),
            "{refused}"
        );
    }
}
