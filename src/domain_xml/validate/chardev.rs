//! Character devices: serial and parallel ports, consoles, channels, and what else speaks through one.

use super::{Check, each, refuse};
use crate::domain_xml::device::*;
use crate::domain_xml::model::DomainDef;

/// Every character device of a definition.
pub(super) fn character_devices(def: &DomainDef) -> Check {
    each("devices/serial", &def.serials, |device| {
        source(&device.source, true)?;
        serial(device)
    })?;
    each("devices/parallel", &def.parallels, |device| source(&device.source, true))?;
    each("devices/console", &def.consoles, |device| source(&device.source, true))?;
    each("devices/channel", &def.channels, channel)?;
    each("devices/redirdev", &def.redirdevs, |device| {
        source(&device.source, true)?;
        let usb = matches!(device.info.address, None | Some(DeviceAddress::Usb { .. } | DeviceAddress::Unassigned));
        refuse!(if !usb, XmlError, "Invalid address for a USB device");
        Ok(())
    })?;
    each("devices/smartcard", &def.smartcards, smartcard)?;
    each("devices/rng", &def.rngs, |device| match &device.backend {
        RngBackend::Egd(backend) => source(backend, true),
        _ => Ok(()),
    })
}

/// `needs_path`: no driver chooses the path of its socket.
fn source(source: &CharSource, needs_path: bool) -> Check {
    let (listens, reconnect) = match &source.kind {
        CharKind::Unix { path: None, .. } if needs_path => {
            return refuse!(InternalError, "Missing source path attribute for char device");
        }
        CharKind::Unix { path, listen, reconnect } => (*listen || path.is_none(), reconnect),
        CharKind::Tcp(tcp) => (tcp.listen, &tcp.reconnect),
        CharKind::Dbus { channel: None } => {
            return refuse!(ConfigUnsupported, "Missing source channel attribute for char device");
        }
        _ => return Ok(()),
    };
    let Some(reconnect) = reconnect.as_ref().filter(|r| r.enabled.is_some_and(|on| on.is_yes())) else { return Ok(()) };
    refuse!(
        if reconnect.timeout.is_none(), XmlError,
        "Missing required attribute 'timeout' in element 'reconnect'"
    );
    refuse!(if listens, InternalError, "chardev reconnect is possible only for connect mode");
    Ok(())
}

fn serial(serial: &Serial) -> Check {
    let Some(target) = serial.target_type else { return Ok(()) };
    if let Some(model) = serial.model {
        let needed = match model {
            SerialModel::IsaSerial => SerialTarget::Isa,
            SerialModel::UsbSerial => SerialTarget::Usb,
            SerialModel::PciSerial => SerialTarget::Pci,
            SerialModel::SpaprVty => SerialTarget::SpaprVio,
            SerialModel::Pl011 | SerialModel::Uart16550a => SerialTarget::System,
            SerialModel::SclpConsole | SerialModel::SclpLmConsole => SerialTarget::Sclp,
            SerialModel::IsaDebugcon => SerialTarget::IsaDebug,
        };
        refuse!(
            if needed != target, ConfigUnsupported,
            "Target model '{model}' requires target type '{needed}'"
        );
    }
    Ok(())
}

fn channel(channel: &Channel) -> Check {
    // The driver chooses the path of a channel's socket.
    source(&channel.source, false)?;
    let ChannelTarget::Guestfwd { address, port } = &channel.target else { return Ok(()) };
    let Some(address) = address else {
        return refuse!(XmlError, "guestfwd channel does not define a target address");
    };
    refuse!(
        if address.contains(':'), ConfigUnsupported,
        "guestfwd channel only supports IPv4 addresses"
    );
    refuse!(
        if address.parse::<std::net::Ipv4Addr>().is_err(), SystemError,
        "Cannot parse socket address '{address}': Name or service not known"
    );
    refuse!(if port.is_none(), XmlError, "Missing required attribute 'port' in element 'target'");
    Ok(())
}

fn smartcard(card: &Smartcard) -> Check {
    match &card.kind {
        SmartcardKind::Passthrough(backend) => source(backend, true)?,
        SmartcardKind::HostCertificates { database: Some(path), .. } => {
            refuse!(if !path.starts_with('/'), XmlError, "expecting absolute path: {path}");
        }
        _ => {}
    }
    let ccid = matches!(card.info.address, None | Some(DeviceAddress::Ccid { .. }));
    refuse!(if !ccid, ConfigUnsupported, "Controllers must use the 'ccid' address type");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case("<serial type='unix'/>", "internal error: Missing source path attribute for char device")]
    #[case(
        "<serial type='unix'><source mode='bind' path='/x'><reconnect enabled='yes' timeout='3'/></source></serial>",
        "internal error: chardev reconnect is possible only for connect mode (line 1"
    )]
    #[case(
        "<serial type='unix'><source mode='connect' path='/x'><reconnect enabled='yes'/></source></serial>",
        "XML error: Missing required attribute 'timeout' in element 'reconnect'"
    )]
    #[case(
        "<serial type='pty'><target type='isa-serial'><model name='pci-serial'/></target></serial>",
        "unsupported configuration: Target model 'pci-serial' requires target type 'pci-serial'"
    )]
    #[case(
        "<channel type='pty'><target type='guestfwd'/></channel>",
        "XML error: guestfwd channel does not define a target address"
    )]
    #[case(
        "<channel type='pty'><target type='guestfwd' address='2001::1' port='1'/></channel>",
        "unsupported configuration: guestfwd channel only supports IPv4 addresses"
    )]
    #[case(
        "<redirdev bus='usb' type='pty'><address type='pci' slot='9'/></redirdev>",
        "XML error: Invalid address for a USB device"
    )]
    #[case(
        "<smartcard mode='host'><address type='usb' bus='0' port='1'/></smartcard>",
        "unsupported configuration: Controllers must use the 'ccid' address type"
    )]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
