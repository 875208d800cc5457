//! Network interfaces: the host side by descriptor, then the NIC.

use super::boot::nic_boot_index;
use super::{Builder, FdKind, Props, alias, not_yet, pci_address, usb_address, virtio_options};
use crate::domain_xml::device::*;
use crate::domain_xml::model::VirtType;
use crate::error::{Error, Result};

/// Whether a NIC model is virtio, and so can have queues and vhost.
fn is_virtio(nic: &Interface) -> bool {
    nic.model.as_deref().is_some_and(|model| model.starts_with("virtio"))
}

pub(super) fn interfaces(b: &mut Builder<'_>) -> Result<()> {
    for position in 0..b.def.interfaces.len() {
        let nic = &b.def.interfaces[position];
        let id = alias(&nic.info)?;
        let queues = nic.driver.queues.filter(|_| is_virtio(nic)).unwrap_or(1).max(1);
        let netdev = Props::new();
        let netdev = match &nic.source {
            source if source.is_tap() || source.direct().is_some() => {
                let netdev = tap(b, position, netdev, queues)?;
                netdev.set_opt("sndbuf", nic.tune_sndbuf)
            }
            InterfaceSource::User { dev: None } if nic.backend.kind.is_none() => netdev.set("type", "user"),
            // A descriptor stands for what is made outside, whatever it is.
            _ if b.ctx.paper => tap(b, position, netdev, queues)?.set_opt("sndbuf", nic.tune_sndbuf),
            InterfaceSource::User { .. } => return Err(not_yet("<interface type='user'> with a backend")),
            other => return Err(not_yet(format!("<interface type='{}'>", other.type_name()))),
        };
        b.arg("-netdev", netdev.set("id", format!("host{id}")).json());
        let device = front(b, position, queues)?;
        b.device(&device);
    }
    Ok(())
}

fn tap(b: &mut Builder<'_>, position: usize, netdev: Props, queues: u32) -> Result<Props> {
    let nic = &b.def.interfaces[position];
    let explicit = nic.driver.name == Some(NetBackendDriver::Vhost);
    if explicit && !b.ctx.vhost {
        let text = format!(
            "vhost-net was requested for an interface, but /dev/vhost-net cannot be used: load the vhost_net module or remove <driver name='vhost'> of '{}'",
            nic.target.dev.as_deref().unwrap_or_default()
        );
        return Err(Error::unsupported_config(text));
    }
    let wanted = match nic.driver.name {
        Some(NetBackendDriver::Vhost) => true,
        Some(NetBackendDriver::Qemu | NetBackendDriver::Vfio) => false,
        None => b.ctx.vhost && b.def.virt_type == VirtType::Kvm,
    };
    let vhost = wanted && is_virtio(nic);
    let list = |b: &mut Builder<'_>, kind: fn(usize, u32) -> FdKind| {
        let numbers: Vec<String> = (0..queues).map(|queue| b.fd(kind(position, queue)).to_string()).collect();
        numbers.join(":")
    };
    let fds = list(b, |nic, queue| FdKind::Tap { nic, queue });
    let mut netdev = netdev.set("type", "tap").set(if queues > 1 { "fds" } else { "fd" }, fds);
    if vhost {
        let fds = list(b, |nic, queue| FdKind::Vhost { nic, queue });
        netdev = netdev.set("vhost", true).set(if queues > 1 { "vhostfds" } else { "vhostfd" }, fds);
    }
    Ok(netdev)
}

/// Offloads of a virtio NIC, switched off one by one.
fn offloads(mut p: Props, driver: &InterfaceDriver) -> Props {
    let on = |switch: Option<crate::domain_xml::Switch>| switch.map(|switch| switch.is_on());
    if let Some(host) = &driver.host {
        p = p.set_opt("csum", on(host.csum)).set_opt("gso", on(host.gso)).set_opt("host_tso4", on(host.tso4));
        p = p.set_opt("host_tso6", on(host.tso6)).set_opt("host_ecn", on(host.ecn)).set_opt("host_ufo", on(host.ufo));
        p = p.set_opt("mrg_rxbuf", on(host.mrg_rxbuf));
    }
    if let Some(guest) = &driver.guest {
        p = p.set_opt("guest_csum", on(guest.csum)).set_opt("guest_tso4", on(guest.tso4));
        p = p.set_opt("guest_tso6", on(guest.tso6)).set_opt("guest_ecn", on(guest.ecn));
        p = p.set_opt("guest_ufo", on(guest.ufo));
    }
    p
}

fn front(b: &Builder<'_>, position: usize, queues: u32) -> Result<Props> {
    let nic = &b.def.interfaces[position];
    let model = nic.model.as_deref().unwrap_or("rtl8139");
    let on = |switch: Option<crate::domain_xml::Switch>| switch.map(|switch| switch.is_on());
    let driver = match model {
        model if is_virtio(nic) => super::virtio_driver("virtio-net", model),
        other => other.to_string(),
    };
    if !b.ctx.paper && !b.ctx.caps.has_type(&driver) {
        return Err(Error::unsupported_config(format!("this QEMU has no network card '{model}' (device '{driver}')")));
    }
    let mut p = Props::new().set("driver", driver);
    if is_virtio(nic) {
        let d = &nic.driver;
        p = p.join(virtio_options(&d.virtio));
        p = p.set_opt("tx", d.txmode.map(|mode| if mode == TxMode::Iothread { "bh" } else { "timer" }));
        p = p.set_opt("ioeventfd", on(d.ioeventfd)).set_opt("event_idx", on(d.event_idx));
        p = offloads(p, d);
        if queues > 1 {
            p = p.set("mq", true).set("vectors", 2 * queues + 2);
        }
        p = p.set_opt("rss", on(d.rss)).set_opt("hash", on(d.rss_hash_report));
        p = p.set_opt("rx_queue_size", d.rx_queue_size).set_opt("tx_queue_size", d.tx_queue_size);
        p = p.set_opt("host_mtu", nic.mtu);
    } else if nic.driver != InterfaceDriver::default() && nic.driver.queues.is_some() {
        return Err(Error::unsupported_config(format!("multiqueue network is not supported for: {model}")));
    }
    let id = alias(&nic.info)?;
    p = p.set("netdev", format!("host{id}")).set("id", id);
    p = p.set_opt("mac", nic.mac.map(|mac| mac.to_string()));
    p = p.set_opt("bootindex", nic_boot_index(b, position));
    Ok(p.join(pci_address(b.def, &nic.info)?).join(usb_address(b.def, &nic.info)?))
}
