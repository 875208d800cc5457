//! `<interface>`: what no driver takes.

use std::net::IpAddr;

use super::{Check, each, refuse};
use crate::domain_xml::device::*;
use crate::domain_xml::foreign::Foreign;
use crate::domain_xml::model::DomainDef;
use crate::domain_xml::words::YesNo;

/// Every interface of a definition.
pub(super) fn interfaces(def: &DomainDef) -> Check {
    each("devices/interface", &def.interfaces, interface)
}

/// One interface.
pub(super) fn interface(nic: &Interface) -> Check {
    let kind = nic.source.type_name();
    backend(nic, kind)?;
    nic.ips.iter().chain(&nic.host_ips).try_for_each(ip)?;
    if let Some(port) = &nic.virtualport {
        let possible = matches!(kind, "network" | "bridge" | "direct" | "hostdev");
        refuse!(
            if !possible, ConfigUnsupported,
            "<virtualport> element unsupported for <interface type='{kind}'>"
        );
        virtual_port(port)?;
    }
    if let Some(vlan) = &nic.vlan {
        refuse!(
            if vlan.tags.iter().any(|tag| tag.id.is_none()), XmlError,
            "Missing required attribute 'id' in element 'tag'"
        );
        refuse!(
            if vlan.tags.len() > 1 && vlan.trunk == Some(YesNo::No), XmlError,
            "invalid \"trunk='no'\" in <vlan> - trunk='yes' is required for more than one vlan tag"
        );
    }
    if let Some(bandwidth) = &nic.bandwidth {
        self::bandwidth(bandwidth, kind)?;
    }
    if let Some(model) = nic.model.as_deref()
        && !model.starts_with("virtio")
        && !matches!(
            nic.source,
            InterfaceSource::Vdpa { .. } | InterfaceSource::Hostdev { .. } | InterfaceSource::VhostUser(_)
        )
    {
        super::no_virtio_options(&nic.driver.virtio)?;
    }
    if let Some(teaming) = &nic.teaming {
        self::teaming(teaming)?;
    }
    match &nic.source {
        InterfaceSource::VhostUser(source) if nic.backend.kind.as_deref() != Some("passt") => {
            refuse!(if source.path.is_none(), XmlError, "Missing required attribute 'path' in element 'source'");
            let form = source.kind.as_deref().unwrap_or("unix");
            refuse!(
                if form != "unix", ConfigUnsupported,
                "Type='{form}' unsupported for <interface type='vhostuser'>"
            );
        }
        InterfaceSource::Udp(source) => {
            refuse!(
                if source.local_address.is_none() && source.local_port.is_none(), XmlError,
                "'<local>' element missing for 'udp' socket interface"
            );
            refuse!(if source.local_port.is_none(), XmlError, "Missing required attribute 'port' in element 'local'");
        }
        InterfaceSource::Hostdev { address } => {
            let given = address.as_ref().map_or("(null)", DeviceAddress::type_name);
            refuse!(
                if !matches!(given, "pci" | "usb"), ConfigUnsupported,
                "unknown host device source address type '{given}'"
            );
        }
        _ => {}
    }
    refuse!(
        if nic.info.acpi_index == Some(0), XmlError,
        "Invalid value for attribute 'index' in element 'acpi': Zero is not permitted"
    );
    Ok(())
}

fn backend(nic: &Interface, kind: &str) -> Check {
    let given = nic.backend.kind.as_deref().unwrap_or_default();
    refuse!(
        if !matches!(given, "" | "default" | "passt"), XmlError,
        "Invalid value for attribute 'type' in element 'backend': '{given}'."
    );
    let (passt, possible) = (given == "passt", matches!(kind, "user" | "vhostuser"));
    refuse!(
        if passt && !possible, ConfigUnsupported,
        "The 'passt' backend can only be used with interface type='user' or type='vhostuser'"
    );
    let forwards = nic.later.iter().filter(|element| element.name == "portForward");
    for forward in forwards {
        refuse!(
            if !(passt && possible), ConfigUnsupported,
            "The <portForward> element can only be used with the 'passt' backend of interface type='user' or \
             type='vhostuser'"
        );
        port_forward(forward)?;
    }
    Ok(())
}

fn attribute<'a>(element: &'a Foreign, name: &str) -> Option<&'a str> {
    element.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn port_forward(forward: &Foreign) -> Check {
    let Some(proto) = attribute(forward, "proto") else {
        return refuse!(XmlError, "Missing required attribute 'proto' in element 'portForward'");
    };
    refuse!(
        if !matches!(proto, "tcp" | "udp"), XmlError,
        "Invalid value for attribute 'proto' in element 'portForward': '{proto}'."
    );
    if let Some(address) = attribute(forward, "address").filter(|address| address.parse::<IpAddr>().is_err()) {
        refuse!(XmlError, "Invalid address '{address}' in <portForward>")?;
    }
    for range in forward.children.iter().filter(|child| child.name == "range") {
        for name in ["start", "end", "to"] {
            let Some(value) = attribute(range, name) else { continue };
            let Ok(number) = value.parse::<u32>() else {
                return refuse!(
                    XmlError,
                    "Invalid value for attribute '{name}' in element 'range': '{value}'. Expected non-negative integer \
                     value"
                );
            };
            refuse!(
                if number == 0, XmlError,
                "Invalid value for attribute '{name}' in element 'range': Zero is not permitted"
            );
        }
        if let Some(word) = attribute(range, "exclude").filter(|word| !matches!(*word, "yes" | "no")) {
            refuse!(XmlError, "Invalid value for attribute 'exclude' in element 'range': '{word}'.")?;
        }
    }
    Ok(())
}

fn ip(ip: &IpAddress) -> Check {
    let text = ip.address.as_deref().unwrap_or_default();
    let parsed: Option<IpAddr> = text.parse().ok();
    let fits = match (parsed, ip.family.as_deref()) {
        (Some(address), Some("ipv6")) => address.is_ipv6(),
        (Some(address), Some("ipv4")) => address.is_ipv4(),
        (address, _) => address.is_some(),
    };
    refuse!(if !fits, XmlError, "Invalid address '{text}' in <ip>");
    let most = if parsed.is_some_and(|address| address.is_ipv6()) { 128 } else { 32 };
    if let Some(prefix) = ip.prefix.filter(|prefix| *prefix > most || *prefix == 0) {
        refuse!(XmlError, "Invalid prefix value '{prefix}' in <ip>")?;
    }
    Ok(())
}

fn virtual_port(port: &VirtualPort) -> Check {
    let Some(kind) = port.kind else { return refuse!(XmlError, "missing required virtualport type") };
    let given = &port.parameters;
    let set = [
        ("managerid", given.managerid.is_some()),
        ("typeid", given.typeid.is_some()),
        ("typeidversion", given.typeidversion.is_some()),
        ("instanceid", given.instanceid.is_some()),
        ("profileid", given.profileid.is_some()),
        ("interfaceid", given.interfaceid.is_some()),
    ];
    // The driver makes an instance id and an Open vSwitch interface id.
    let (needed, possible): (&[&str], &[&str]) = match kind {
        VirtualPortType::Vepa => {
            (&["managerid", "typeid", "typeidversion"], &["managerid", "typeid", "typeidversion", "instanceid"])
        }
        VirtualPortType::Vnlink => (&["profileid"], &["profileid"]),
        VirtualPortType::Openvswitch => (&[], &["interfaceid", "profileid"]),
        VirtualPortType::Midonet => (&["interfaceid"], &["interfaceid"]),
    };
    if let Some((name, _)) = set.iter().find(|(name, given)| !given && needed.contains(name)) {
        refuse!(XmlError, "missing {name} in <virtualport type='{kind}'>")?;
    }
    if let Some((name, _)) = set.iter().find(|(name, given)| *given && !possible.contains(name)) {
        refuse!(XmlError, "extra {name} unsupported in <virtualport type='{kind}'>")?;
    }
    for (name, value, most) in [("managerid", given.managerid, 255), ("typeidversion", given.typeidversion, 255)] {
        refuse!(if value.is_some_and(|value| value > most), XmlError, "value of {name} out of range");
    }
    refuse!(if given.typeid.is_some_and(|id| id > 0xff_ffff), XmlError, "value for typeid out of range");
    for (name, value) in [("instanceid", &given.instanceid), ("interfaceid", &given.interfaceid)] {
        let bad = value.as_ref().is_some_and(|value| crate::types::Uuid::parse_str(value).is_err());
        refuse!(if bad, XmlError, "cannot parse {name} parameter as a uuid");
    }
    refuse!(
        if given.profileid.as_ref().is_some_and(|id| id.len() >= 40), XmlError,
        "profileid parameter too long"
    );
    Ok(())
}

fn bandwidth(bandwidth: &Bandwidth, kind: &str) -> Check {
    for rate in [&bandwidth.inbound, &bandwidth.outbound].into_iter().flatten() {
        refuse!(
            if rate.average.is_none() && rate.floor.is_none(), XmlDetail,
            "Missing mandatory average or floor attributes"
        );
        refuse!(
            if rate.floor.is_some_and(|floor| floor > 0) && kind != "network", ConfigUnsupported,
            "floor attribute is not supported for this config"
        );
    }
    Ok(())
}

fn teaming(teaming: &Teaming) -> Check {
    match teaming.kind {
        Some(TeamingType::Transient) => refuse!(
            if teaming.persistent.is_none(), ConfigUnsupported,
            "teaming persistent attribute must be set if teaming type is 'transient'"
        ),
        Some(TeamingType::Persistent) => refuse!(
            if teaming.persistent.is_some(), ConfigUnsupported,
            "teaming persistent attribute not allowed if teaming type is 'persistent'"
        ),
        None => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<interface type='bridge'><source bridge='b'/><backend type='passt'/></interface>",
        "unsupported configuration: The 'passt' backend can only be used with interface type='user'"
    )]
    #[case(
        "<interface type='user'><portForward proto='tcp'/></interface>",
        "unsupported configuration: The <portForward> element can only be used with the 'passt' backend"
    )]
    #[case(
        "<interface type='user'><backend type='passt'/><portForward proto='tcp'><range start='0'/></portForward></interface>",
        "XML error: Invalid value for attribute 'start' in element 'range': Zero is not permitted"
    )]
    #[case(
        "<interface type='user'><ip address='1.2.3.4' family='ipv6'/></interface>",
        "XML error: Invalid address '1.2.3.4' in <ip> (line 1"
    )]
    #[case(
        "<interface type='user'><ip address='1.2.3.4' prefix='40'/></interface>",
        "XML error: Invalid prefix value '40' in <ip>"
    )]
    #[case(
        "<interface type='bridge'><source bridge='b'/><virtualport/></interface>",
        "XML error: missing required virtualport type"
    )]
    #[case(
        "<interface type='user'><virtualport type='openvswitch'/></interface>",
        "unsupported configuration: <virtualport> element unsupported for <interface type='user'>"
    )]
    #[case(
        "<interface type='bridge'><source bridge='b'/><virtualport type='midonet'/></interface>",
        "XML error: missing interfaceid in <virtualport type='midonet'>"
    )]
    #[case(
        "<interface type='bridge'><source bridge='b'/><virtualport type='openvswitch'><parameters managerid='1'/></virtualport></interface>",
        "XML error: extra managerid unsupported in <virtualport type='openvswitch'>"
    )]
    #[case(
        "<interface type='bridge'><source bridge='b'/><vlan trunk='no'><tag id='5'/><tag id='6'/></vlan></interface>",
        "XML error: invalid \"trunk='no'\" in <vlan>"
    )]
    #[case(
        "<interface type='bridge'><source bridge='b'/><bandwidth><inbound peak='5'/></bandwidth></interface>",
        "Missing mandatory average or floor attributes"
    )]
    #[case(
        "<interface type='bridge'><source bridge='b'/><bandwidth><inbound average='1' floor='5'/></bandwidth></interface>",
        "unsupported configuration: floor attribute is not supported for this config"
    )]
    #[case(
        "<interface type='bridge'><source bridge='b'/><model type='e1000'/><driver iommu='on'/></interface>",
        "unsupported configuration: iommu driver option is only supported for virtio devices"
    )]
    #[case(
        "<interface type='bridge'><source bridge='b'/><teaming type='transient'/></interface>",
        "unsupported configuration: teaming persistent attribute must be set if teaming type is 'transient'"
    )]
    #[case(
        "<interface type='udp'><source address='1.2.3.4' port='4'/></interface>",
        "XML error: '<local>' element missing for 'udp' socket interface"
    )]
    #[case(
        "<interface type='vhostuser'><source type='memfd' path='/x' mode='client'/></interface>",
        "unsupported configuration: Type='memfd' unsupported for <interface type='vhostuser'>"
    )]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
