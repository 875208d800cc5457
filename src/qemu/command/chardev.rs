//! Character devices: the host side (`-chardev`), then serial ports, parallel ports, channels and consoles.
//!
//! Files and listening sockets are opened by the daemon and passed by descriptor, so QEMU needs no right to the path.

use super::{Builder, FdKind, Pairs, Props, alias, not_yet, pci_address, usb_address};
use crate::domain_xml::device::*;
use crate::domain_xml::words::Switch;
use crate::error::{Error, Result};

/// Writes `-chardev` for a source and returns the chardev's id.
pub(super) fn backend(b: &mut Builder<'_>, source: &CharSource, alias: &str) -> Result<String> {
    let id = format!("char{alias}");
    let mut p = match &source.kind {
        CharKind::Null => Pairs::new("null").set("id", &id),
        CharKind::Vc => Pairs::new("vc").set("id", &id),
        CharKind::Pty { .. } => Pairs::new("pty").set("id", &id),
        CharKind::Stdio => Pairs::new("stdio").set("id", &id),
        CharKind::Dev { path } if alias.starts_with("parallel") => {
            Pairs::new("parallel").set("id", &id).set("path", path)
        }
        CharKind::Dev { path } => Pairs::new("serial").set("id", &id).set("path", path),
        CharKind::Pipe { path } => Pairs::new("pipe").set("id", &id).set("path", path),
        CharKind::File { path, append } => {
            let truncate = *append != Some(Switch::On);
            let set = b.fdset(FdKind::Log { path: path.clone(), truncate }, &format!("{alias}-source"));
            Pairs::new("file").set("id", &id).set("path", set).on_off("append", true)
        }
        CharKind::Unix { path, listen: true, .. } => {
            let path =
                path.clone().ok_or_else(|| Error::internal(format!("'{alias}' listens on a socket without a path")))?;
            let fd = b.fd(FdKind::Listen { path });
            Pairs::new("socket").set("id", &id).set("fd", fd).on_off("server", true).on_off("wait", false)
        }
        CharKind::Unix { path, listen: false, reconnect } => {
            let path = path
                .clone()
                .ok_or_else(|| Error::internal(format!("'{alias}' connects to a socket without a path")))?;
            let p = Pairs::new("socket").set("id", &id).set("path", path);
            reconnect_option(p, reconnect.as_ref())
        }
        CharKind::Tcp(tcp) => tcp_backend(&id, tcp)?,
        CharKind::Udp(udp) => {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            Pairs::new("udp")
                .set("id", &id)
                .set("host", text(&udp.connect_host))
                .set("port", text(&udp.connect_service))
                .set("localaddr", text(&udp.bind_host))
                .set("localport", udp.bind_service.clone().unwrap_or_else(|| "0".into()))
        }
        CharKind::Spicevmc if b.ctx.paper => {
            let name = match alias.trim_end_matches(|c: char| c.is_ascii_digit()) {
                "redir" => "usbredir",
                "smartcard" => "smartcard",
                _ => "vdagent",
            };
            Pairs::new("spicevmc").set("id", &id).set("name", name)
        }
        CharKind::Spiceport { channel } if b.ctx.paper => Pairs::new("spiceport").set("id", &id).set("name", channel),
        CharKind::QemuVdagent { clipboard, mouse } if b.ctx.paper => {
            let mut p = Pairs::new("qemu-vdagent").set("id", &id).set("name", "vdagent");
            if let Some(clipboard) = clipboard {
                p = p.on_off("clipboard", clipboard.is_yes());
            }
            match mouse {
                Some(mouse) => p.on_off("mouse", mouse == "client"),
                None => p,
            }
        }
        other => return Err(not_yet(format!("a character device of type '{}' ('{alias}')", other.type_name()))),
    };
    if let Some(log) = &source.log
        && let Some(file) = &log.file
    {
        let truncate = log.append == Some(Switch::Off);
        let set = b.fdset(FdKind::Log { path: file.clone(), truncate }, &format!("{alias}-log"));
        p = p.set("logfile", set).on_off("logappend", true);
    }
    b.arg("-chardev", p.text());
    Ok(id)
}

fn reconnect_option(p: Pairs, reconnect: Option<&Reconnect>) -> Pairs {
    match reconnect {
        Some(r) if r.enabled.is_some_and(|enabled| enabled.is_yes()) => {
            p.set("reconnect-ms", u64::from(r.timeout.unwrap_or(1)) * 1000)
        }
        _ => p,
    }
}

fn tcp_backend(id: &str, tcp: &TcpSource) -> Result<Pairs> {
    if tcp.tls.is_some_and(|tls| tls.is_yes()) || matches!(tcp.protocol, TcpProtocol::Tls | TcpProtocol::Telnets) {
        return Err(not_yet(format!("TLS of character device '{id}'")));
    }
    let mut p = Pairs::new("socket").set("id", id).set("host", &tcp.host).set("port", &tcp.service);
    if tcp.protocol == TcpProtocol::Telnet {
        p = p.on_off("telnet", true);
    }
    if tcp.listen {
        return Ok(p.on_off("server", true).on_off("wait", false));
    }
    Ok(reconnect_option(p, tcp.reconnect.as_ref()))
}

pub(super) fn serials(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    for serial in &def.serials {
        let id = alias(&serial.info)?;
        let chardev = backend(b, &serial.source, id)?;
        let p = match serial.target_type {
            Some(SerialTarget::Isa) | None => {
                let p = Props::new().set("driver", "isa-serial").set("chardev", chardev).set("id", id);
                match serial.info.address {
                    Some(DeviceAddress::Isa { iobase, irq }) => {
                        p.set("index", serial.port.unwrap_or(0)).set_opt("iobase", iobase).set_opt("irq", irq)
                    }
                    _ => p.set("index", serial.port.unwrap_or(0)),
                }
            }
            Some(SerialTarget::Usb) => {
                let p = Props::new().set("driver", "usb-serial").set("chardev", chardev).set("id", id);
                p.join(usb_address(def, &serial.info)?)
            }
            Some(SerialTarget::Pci) => {
                let p = Props::new().set("driver", "pci-serial").set("chardev", chardev).set("id", id);
                p.join(pci_address(def, &serial.info)?)
            }
            Some(SerialTarget::IsaDebug) => {
                let p = Props::new().set("driver", "isa-debugcon").set("chardev", chardev).set("id", id);
                match serial.info.address {
                    Some(DeviceAddress::Isa { iobase, .. }) => p.set_opt("iobase", iobase),
                    _ => p,
                }
            }
            Some(other) => return Err(not_yet(format!("<serial> with target type '{other}'"))),
        };
        b.device(&p);
    }
    Ok(())
}

pub(super) fn parallels(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    for parallel in &def.parallels {
        let id = alias(&parallel.info)?;
        let chardev = backend(b, &parallel.source, id)?;
        b.device(&Props::new().set("driver", "isa-parallel").set("chardev", chardev).set("id", id));
    }
    Ok(())
}

/// `bus` and `nr` of a virtio-serial port.
fn port_address(b: &Builder<'_>, info: &DeviceInfo) -> Props {
    let Some(DeviceAddress::VirtioSerial { controller, bus, port }) = info.address else { return Props::new() };
    let found =
        b.def.controllers.iter().find(|c| c.kind == ControllerType::VirtioSerial && c.index == Some(controller));
    let name = found.and_then(|c| c.info.alias.clone()).unwrap_or_else(|| format!("virtio-serial{controller}"));
    Props::new().set("bus", format!("{name}.{bus}")).set("nr", port)
}

pub(super) fn channels(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    for channel in &def.channels {
        let id = alias(&channel.info)?;
        let ChannelTarget::Virtio { name, .. } = &channel.target else {
            return Err(not_yet("a <channel> whose target is not virtio"));
        };
        let chardev = backend(b, &channel.source, id)?;
        let p = Props::new().set("driver", "virtserialport").join(port_address(b, &channel.info));
        b.device(&p.set("chardev", chardev).set("id", id).set_opt("name", name.clone()));
    }
    Ok(())
}

pub(super) fn consoles(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    for (index, console) in def.consoles.iter().enumerate() {
        match console.target_type {
            // The first serial console is the first serial port, which is there already.
            Some(ConsoleTarget::Serial) | None if index == 0 => {}
            Some(ConsoleTarget::Virtio) => {
                let id = alias(&console.info)?;
                let chardev = backend(b, &console.source, id)?;
                let p = Props::new().set("driver", "virtconsole").join(port_address(b, &console.info));
                b.device(&p.set("chardev", chardev).set("id", id));
            }
            Some(other) => return Err(not_yet(format!("<console> {index} with target type '{other}'"))),
            None => return Err(not_yet(format!("<console> {index} without a target type"))),
        }
    }
    Ok(())
}
