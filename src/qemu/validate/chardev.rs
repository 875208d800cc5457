//! Character devices, inputs: what QEMU and the machine cannot do.

use super::{Check, each, refuse};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;

/// Every character device of a completed definition.
pub(super) fn character_devices(def: &DomainDef) -> Check {
    let spice = def.graphics.iter().any(|graphics| matches!(graphics.kind, GraphicsKind::Spice(_)));
    each("devices/serial", &def.serials, |device| {
        refuse!(
            if device.source.kind == CharKind::Spicevmc, ConfigUnsupported,
            "spicevmc device type only supports virtio"
        );
        source(&device.source, spice)?;
        serial(device)
    })?;
    each("devices/parallel", &def.parallels, |device| {
        refuse!(
            if device.source.kind == CharKind::Spicevmc, ConfigUnsupported,
            "spicevmc device type only supports virtio"
        );
        source(&device.source, spice)
    })?;
    for (nth, console) in def.consoles.iter().enumerate() {
        self::console(console, nth).map_err(|error| error.about("devices/console", nth))?;
    }
    each("devices/channel", &def.channels, |device| {
        generated_path(&device.source)?;
        source(&device.source, spice)
    })?;
    each("devices/redirdev", &def.redirdevs, |device| source(&device.source, spice))?;
    each("devices/smartcard", &def.smartcards, |device| match &device.kind {
        SmartcardKind::Passthrough(backend) => source(backend, spice),
        _ => Ok(()),
    })?;
    refuse!(
        if def.smartcards.len() > 1, ConfigUnsupported,
        "this QEMU binary lacks multiple smartcard support"
    );
    virtio_ports(def)
}

fn source(source: &CharSource, spice: bool) -> Check {
    match &source.kind {
        CharKind::Tcp(tcp) if matches!(tcp.protocol, TcpProtocol::Tls | TcpProtocol::Telnets) => {
            refuse!(ConfigUnsupported, "tcp chardev protocol '{}' not supported", tcp.protocol)
        }
        kind @ (CharKind::Spicevmc | CharKind::Spiceport { .. }) if !spice => {
            refuse!(ConfigUnsupported, "chardev '{}' not supported without spice graphics", kind.type_name())
        }
        _ => Ok(()),
    }
}

/// Where libvirt puts the sockets of channels.
const CHANNEL_DIRECTORY: &str = "/var/lib/libvirt/qemu/channel/";

/// A path that libvirt generated is generated anew: the channel listens there, whatever it says.
fn generated_path(source: &CharSource) -> Check {
    let CharKind::Unix { path, reconnect: Some(reconnect), .. } = &source.kind else { return Ok(()) };
    let on = reconnect.enabled.is_some_and(|enabled| enabled.is_yes());
    refuse!(
        if on && path.as_ref().is_none_or(|path| path.starts_with(CHANNEL_DIRECTORY)), InternalError,
        "chardev reconnect is possible only for connect mode"
    );
    Ok(())
}

fn serial(serial: &Serial) -> Check {
    let Some(target) = serial.target_type else { return Ok(()) };
    if matches!(target, SerialTarget::SpaprVio | SerialTarget::Sclp) {
        let model = match target {
            SerialTarget::SpaprVio => "spapr-vty",
            _ => serial.model.map_or("sclpconsole", SerialModel::as_str),
        };
        return refuse!(
            ConfigUnsupported,
            "Serial device with target type '{target}' and target model '{model}' not compatible with guest \
             architecture or machine type"
        );
    }
    let Some(address) = &serial.info.address else { return Ok(()) };
    let kind = address.type_name();
    let wanted = match target {
        SerialTarget::Isa | SerialTarget::IsaDebug => "isa",
        SerialTarget::Pci => "pci",
        SerialTarget::Usb => {
            refuse!(if kind != "usb", ConfigUnsupported, "usb-serial requires address of usb type");
            return Ok(());
        }
        _ => return Ok(()),
    };
    refuse!(if kind != wanted, ConfigUnsupported, "Target type '{target}' requires address type '{wanted}'");
    Ok(())
}

fn console(console: &Console, nth: usize) -> Check {
    match console.target_type {
        Some(ConsoleTarget::Serial) if nth > 0 => {
            refuse!(ConfigUnsupported, "Only the first console can be a serial port")
        }
        Some(ConsoleTarget::Sclp | ConsoleTarget::Sclplm) => {
            refuse!(ConfigUnsupported, "sclpconsole is not supported in this QEMU binary")
        }
        None | Some(ConsoleTarget::Serial | ConsoleTarget::Virtio) => Ok(()),
        Some(other) => refuse!(ConfigUnsupported, "unsupported console target type {other}"),
    }
}

/// Two devices on one port of a virtio-serial controller, or on a port it does not have.
fn virtio_ports(def: &DomainDef) -> Check {
    let channels =
        def.channels.iter().map(|device| &device.info).enumerate().map(|(n, info)| ("devices/channel", n, info));
    let consoles =
        def.consoles.iter().map(|device| &device.info).enumerate().map(|(n, info)| ("devices/console", n, info));
    let mut taken = std::collections::HashSet::new();
    for (path, nth, info) in channels.chain(consoles) {
        let Some(DeviceAddress::VirtioSerial { controller, port, .. }) = info.address else { continue };
        let on = |c: &&Controller| c.kind == ControllerType::VirtioSerial && c.index == Some(controller);
        let ports = def.controllers.iter().find(on).and_then(|c| c.ports).unwrap_or(31);
        let error = if port >= ports.max(1) {
            format!("virtio serial controller {controller} does not have port {port}")
        } else if port != 0 && !taken.insert((controller, port)) {
            format!("virtio serial port {port} on controller {controller} is already occupied")
        } else {
            continue;
        };
        return refuse!(XmlError, "{error}").map_err(|error| error.about(path, nth));
    }
    Ok(())
}

/// Every `<input>`.
pub(super) fn inputs(def: &DomainDef) -> Check {
    each("devices/input", &def.inputs, input)
}

fn input(input: &Input) -> Check {
    let kind = input.kind;
    let transitional = matches!(input.model, Some(InputModel::VirtioTransitional | InputModel::VirtioNonTransitional));
    let passes = kind == InputType::Passthrough;
    match input.bus {
        Some(InputBus::Ps2) => refuse!(
            if !matches!(kind, InputType::Mouse | InputType::Keyboard), InternalError,
            "ps2 bus does not support {kind} input device"
        ),
        Some(InputBus::Usb) => {
            let usb = matches!(input.info.address, None | Some(DeviceAddress::Usb { .. } | DeviceAddress::Unassigned));
            refuse!(if !usb, XmlError, "Invalid address for a USB device");
        }
        Some(bus @ InputBus::Xen) => refuse!(InternalError, "unsupported input bus {bus}")?,
        _ => {}
    }
    let evdev = kind == InputType::Evdev;
    refuse!(
        if evdev && !matches!(input.bus, None | Some(InputBus::None)), ConfigUnsupported,
        "input evdev doesn't support bus element"
    );
    let virtio = input.bus == Some(InputBus::Virtio);
    refuse!(
        if passes && !virtio, ConfigUnsupported,
        "only bus 'virtio' is supported for '{kind}' input devices"
    );
    if let Some(model) = input.model {
        refuse!(if !virtio, ConfigUnsupported, "only bus 'virtio' is supported for input model '{model}'");
    }
    refuse!(
        if transitional, ConfigUnsupported,
        "virtio (non-)transitional models are not supported for input type={kind}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "pc",
        "<serial type='tcp'><source mode='connect' host='a' service='1'/><protocol type='tls'/></serial>",
        "unsupported configuration: tcp chardev protocol 'tls' not supported (line 2"
    )]
    #[case(
        "pc",
        "<channel type='spicevmc'><target type='virtio' name='x'/></channel>",
        "unsupported configuration: chardev 'spicevmc' not supported without spice graphics"
    )]
    #[case(
        "pc",
        "<serial type='pty'><target type='isa-serial'/><address type='usb' bus='0' port='1'/></serial>",
        "unsupported configuration: Target type 'isa-serial' requires address type 'isa'"
    )]
    #[case(
        "pc",
        "<console type='pty'/><console type='pty'/>",
        "unsupported configuration: Only the first console can be a serial port"
    )]
    #[case(
        "pc",
        "<console type='pty'><target type='xen'/></console>",
        "unsupported configuration: unsupported console target type xen"
    )]
    #[case(
        "pc",
        "<smartcard mode='host'/><smartcard mode='host'/>",
        "unsupported configuration: this QEMU binary lacks multiple smartcard support"
    )]
    #[case(
        "pc",
        "<channel type='pty'><target type='virtio' name='a'/><address type='virtio-serial' controller='0' bus='0' port='50'/></channel>",
        "XML error: virtio serial controller 0 does not have port 50"
    )]
    #[case(
        "pc",
        "<channel type='unix'><source mode='connect' path='/var/lib/libvirt/qemu/channel/target/d/a'><reconnect enabled='yes' timeout='3'/></source><target type='virtio' name='a'/></channel>",
        "internal error: chardev reconnect is possible only for connect mode"
    )]
    #[case("pc", "<input type='tablet' bus='ps2'/>", "internal error: ps2 bus does not support tablet input device")]
    #[case(
        "pc",
        "<input type='passthrough' bus='usb'><source evdev='/x'/></input>",
        "unsupported configuration: only bus 'virtio' is supported for 'passthrough' input devices"
    )]
    #[case(
        "pc",
        "<input type='keyboard' bus='virtio' model='virtio-transitional'/>",
        "unsupported configuration: virtio (non-)transitional models are not supported for input type=keyboard"
    )]
    fn refused(#[case] machine: &str, #[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(machine, xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
