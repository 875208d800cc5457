//! `<hostdev>`: what no driver takes.

use super::{Check, refuse};
use crate::domain_xml::device::*;
use crate::domain_xml::model::DomainDef;
use crate::domain_xml::words::Switch;
use crate::types::Uuid;

/// Every host device of a definition.
pub(super) fn hostdevs(def: &DomainDef) -> Check {
    for (nth, device) in def.hostdevs.iter().enumerate() {
        let again = def.hostdevs[..nth].iter().any(|other| same(&device.source, &other.source));
        hostdev(def, device, again).map_err(|error| error.about("devices/hostdev", nth))?;
    }
    Ok(())
}

fn same(one: &HostdevSource, other: &HostdevSource) -> bool {
    match (one, other) {
        (HostdevSource::Pci { address: a, .. }, HostdevSource::Pci { address: b, .. }) => a == b,
        (HostdevSource::Usb(a), HostdevSource::Usb(b)) => a.device.is_some() && (a.bus, a.device) == (b.bus, b.device),
        (
            HostdevSource::Scsi { adapter: a, bus: b, target: t, unit: u, .. },
            HostdevSource::Scsi { adapter, bus, target, unit, .. },
        ) => (a, b, t, u) == (adapter, bus, target, unit),
        (HostdevSource::ScsiHost { wwpn: a, .. }, HostdevSource::ScsiHost { wwpn: b, .. }) => a == b,
        (HostdevSource::Mdev { uuid: a, .. }, HostdevSource::Mdev { uuid: b, .. }) => a == b,
        _ => false,
    }
}

fn hostdev(def: &DomainDef, device: &Hostdev, again: bool) -> Check {
    refuse!(if again, XmlError, "Hostdev already exists in the domain configuration");
    let address = device.info.address.as_ref();
    let unassigned = matches!(address, Some(DeviceAddress::Unassigned));
    match &device.source {
        HostdevSource::Pci { .. } => {
            let pci = matches!(address, None | Some(DeviceAddress::Pci { .. } | DeviceAddress::Unassigned));
            refuse!(if !pci, InternalError, "PCI host devices must use 'pci' or 'unassigned' address type");
        }
        HostdevSource::Usb(_) => {
            let usb = matches!(address, None | Some(DeviceAddress::Usb { .. }));
            refuse!(if !usb && !unassigned, ConfigUnsupported, "USB host device must use 'usb' address type");
        }
        HostdevSource::Scsi { sgio, .. } => {
            let drive = matches!(address, None | Some(DeviceAddress::Drive { .. }));
            refuse!(if !drive, ConfigUnsupported, "SCSI host device must use 'drive' address type");
            refuse!(
                if *sgio == Some(Sgio::Unfiltered), ConfigUnsupported,
                "unfiltered sgio is no longer supported"
            );
        }
        HostdevSource::ScsiHost { wwpn, .. } => {
            let digits = wwpn.strip_prefix("naa.").unwrap_or_default();
            let valid = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            refuse!(if !valid, XmlError, "malformed 'wwpn' value");
            let scsi = matches!(address, None | Some(DeviceAddress::Pci { .. } | DeviceAddress::Ccw { .. }));
            refuse!(if !scsi, ConfigUnsupported, "SCSI_host host device must use 'pci' or 'ccw' address type");
        }
        HostdevSource::Mdev { uuid, model, .. } => {
            refuse!(if model.is_none(), XmlError, "Missing required attribute 'model' in element 'hostdev'");
            let model = model.as_deref().unwrap_or_default();
            refuse!(
                if !matches!(model, "vfio-pci" | "vfio-ccw" | "vfio-ap"), XmlError,
                "Invalid value for attribute 'model' in element 'hostdev': '{model}'."
            );
            refuse!(
                if Uuid::parse_str(uuid).is_err(), InternalError,
                "Cannot parse uuid attribute of element <address>"
            );
        }
        _ => {}
    }
    let shown = match &device.source {
        HostdevSource::Mdev { display, .. } => *display == Some(Switch::On),
        _ => device.display == Some(Switch::On),
    };
    refuse!(
        if shown && def.graphics.is_empty(), ConfigUnsupported,
        "graphics device is needed for attribute value 'display=on' in <hostdev>"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<hostdev mode='subsystem' type='usb' ><source><address bus='1' device='2'/></source></hostdev><hostdev mode='subsystem' type='usb' ><source><address bus='1' device='2'/></source></hostdev>",
        "XML error: Hostdev already exists in the domain configuration (line 1"
    )]
    #[case(
        "<hostdev mode='subsystem' type='usb' ><source><address bus='1' device='2'/></source><address type='pci' slot='9'/></hostdev>",
        "unsupported configuration: USB host device must use 'usb' address type"
    )]
    #[case(
        "<hostdev mode='subsystem' type='pci' ><source><address bus='6' slot='3'/></source><address type='usb' bus='0'/></hostdev>",
        "internal error: PCI host devices must use 'pci' or 'unassigned' address type"
    )]
    #[case(
        "<hostdev mode='subsystem' type='scsi_host' ><source protocol='vhost' wwpn='x'></source></hostdev>",
        "XML error: malformed 'wwpn' value"
    )]
    #[case(
        "<hostdev mode='subsystem' type='mdev' ><source><address uuid='53764d0e-85a0-42b4-af5c-2046b460b1dc'/></source></hostdev>",
        "XML error: Missing required attribute 'model' in element 'hostdev'"
    )]
    #[case(
        "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='x'/></source></hostdev>",
        "internal error: Cannot parse uuid attribute of element <address>"
    )]
    #[case(
        "<hostdev mode='subsystem' type='mdev' model='vfio-pci' display='on'><source><address uuid='53764d0e-85a0-42b4-af5c-2046b460b1dc'/></source></hostdev>",
        "unsupported configuration: graphics device is needed for attribute value 'display=on' in <hostdev>"
    )]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
