//! `<interface>`: what QEMU's network devices and backends cannot do.

use super::{Check, each, refuse};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;
use crate::domain_xml::words::YesNo;

/// Every interface of a completed definition.
pub(super) fn interfaces(def: &DomainDef) -> Check {
    each("devices/interface", &def.interfaces, |nic| interface(def, nic))
}

fn interface(def: &DomainDef, nic: &Interface) -> Check {
    let kind = nic.source.type_name();
    let mac = nic.mac.map(|mac| mac.to_string()).unwrap_or_default();
    let model = nic.model.as_deref().unwrap_or("rtl8139");
    let virtio = matches!(model, "virtio" | "virtio-transitional" | "virtio-non-transitional");
    refuse!(
        // Completion gives rtl8139 to an interface without a model.
        if matches!(kind, "vdpa" | "vhostuser") && model != "rtl8139" && !virtio, ConfigUnsupported,
        "invalid model for interface of type '{kind}': '{model}' - must be 'virtio'"
    );
    refuse!(
        if kind == "vhostuser" && !super::memory::shared(def), ConfigUnsupported,
        "'interface' requires shared memory"
    );
    addresses(nic, kind)?;
    if virtio {
        let sizes = [("rx_queue_size", nic.driver.rx_queue_size), ("tx_queue_size", nic.driver.tx_queue_size)];
        for (name, size) in sizes {
            let odd = size.is_some_and(|size| !size.is_power_of_two());
            refuse!(if odd, ConfigUnsupported, "{name} has to be a power of two");
        }
    }
    let mtu = matches!(kind, "network" | "bridge" | "ethernet" | "vhostuser");
    refuse!(
        if nic.mtu.is_some_and(|mtu| mtu > 0) && !mtu, ConfigUnsupported,
        "setting MTU on interface type {kind} is not supported yet"
    );
    refuse!(
        if nic.coalesce_rx_frames_max.is_some() && !matches!(kind, "network" | "bridge" | "ethernet"), ConfigUnsupported,
        "coalesce settings on interface type {kind} are not supported"
    );
    refuse!(
        if nic.isolated == Some(YesNo::Yes) && !matches!(kind, "network" | "bridge"), ConfigUnsupported,
        "interface {mac} - <port isolated='yes'/> is not supported for network interfaces with type='{kind}'"
    );
    refuse!(
        if nic.target.managed == Some(YesNo::No) && kind != "ethernet", ConfigUnsupported,
        "unmanaged target dev is not supported on interfaces of type '{kind}'"
    );
    if let Some(teaming) = &nic.teaming {
        let transient = teaming.kind == Some(TeamingType::Transient);
        refuse!(
            if transient && kind != "hostdev" && kind != "network", ConfigUnsupported,
            "virtio-net teaming transient interface must be type='hostdev', not '{kind}'"
        );
        refuse!(
            if !transient && !virtio, ConfigUnsupported,
            "virtio-net teaming persistent interface must be <model type='virtio'/>, not '{model}'"
        );
    }
    super::rom(&nic.info)
}

fn addresses(nic: &Interface, kind: &str) -> Check {
    refuse!(
        if kind != "ethernet" && (!nic.host_ips.is_empty() || !nic.host_routes.is_empty()), ConfigUnsupported,
        "Invalid attempt to set network interface host-side IP route and/or address info on interface of type \
         '{kind}'. This is only supported on interfaces of type 'ethernet'"
    );
    refuse!(
        if !nic.routes.is_empty(), ConfigUnsupported,
        "Invalid attempt to set network interface guest-side IP route, not supported by QEMU"
    );
    if kind != "user" && !(kind == "vhostuser" && nic.backend.kind.as_deref() == Some("passt")) {
        refuse!(
            if !nic.ips.is_empty(), ConfigUnsupported,
            "Invalid attempt to set network interface guest-side IP address info, not supported by QEMU"
        );
        return Ok(());
    }
    let (mut v4, mut v6) = (false, false);
    for ip in &nic.ips {
        refuse!(if ip.peer.is_some(), ConfigUnsupported, "Invalid attempt to set peer IP for guest");
        if ip.address.as_deref().is_some_and(|address| address.contains(':')) {
            refuse!(if v6, ConfigUnsupported, "Only one IPv6 address per interface is allowed");
            v6 = true;
            if let Some(prefix) = ip.prefix.filter(|prefix| *prefix != 64) {
                refuse!(ConfigUnsupported, "unsupported IPv6 address prefix='{prefix}' - must be 64")?;
            }
        } else {
            refuse!(if v4, ConfigUnsupported, "Only one IPv4 address per interface is allowed");
            v4 = true;
            let range = ip.prefix.is_none_or(|prefix| (4..=27).contains(&prefix));
            refuse!(if !range, XmlError, "invalid prefix, must be in range of 4-27");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "pc",
        "<interface type='vdpa'><source dev='/x'/><model type='e1000'/></interface>",
        "unsupported configuration: invalid model for interface of type 'vdpa': 'e1000' - must be 'virtio' (line 2"
    )]
    #[case(
        "pc",
        "<interface type='vhostuser'><source type='unix' path='/x' mode='client'/><model type='virtio'/></interface>",
        "unsupported configuration: 'interface' requires shared memory"
    )]
    #[case(
        "pc",
        "<interface type='user'><mtu size='1500'/></interface>",
        "unsupported configuration: setting MTU on interface type user is not supported yet"
    )]
    #[case(
        "pc",
        "<interface type='user'><ip address='1.2.3.4'/><ip address='1.2.3.5'/></interface>",
        "unsupported configuration: Only one IPv4 address per interface is allowed"
    )]
    #[case(
        "pc",
        "<interface type='user'><ip address='1.2.3.4' prefix='28'/></interface>",
        "XML error: invalid prefix, must be in range of 4-27"
    )]
    #[case(
        "pc",
        "<interface type='bridge'><source bridge='b'/><ip address='1.2.3.4'/></interface>",
        "unsupported configuration: Invalid attempt to set network interface guest-side IP address info"
    )]
    #[case(
        "pc",
        "<interface type='bridge'><source bridge='b'/><model type='virtio'/><driver rx_queue_size='100'/></interface>",
        "unsupported configuration: rx_queue_size has to be a power of two"
    )]
    #[case(
        "pc",
        "<interface type='bridge'><source bridge='b'/><target dev='x' managed='no'/></interface>",
        "unsupported configuration: unmanaged target dev is not supported on interfaces of type 'bridge'"
    )]
    #[case(
        "pc",
        "<interface type='bridge'><source bridge='b'/><model type='e1000'/><teaming type='persistent'/></interface>",
        "unsupported configuration: virtio-net teaming persistent interface must be <model type='virtio'/>, not 'e1000'"
    )]
    #[case(
        "pc",
        "<interface type='user'><rom enabled='no' file='/x'/></interface>",
        "unsupported configuration: ROM tuning is not supported when ROM is disabled"
    )]
    fn refused(#[case] machine: &str, #[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(machine, xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
