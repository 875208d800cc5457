//! What libvirt's network driver refuses beyond its parser (`networkValidate`).

use super::forward::{ForwardDevice, ForwardMode};
use super::model::NetworkDef;
use crate::domain_xml::YesNo;
use crate::domain_xml::device::net_options::{Bandwidth, VirtualPort, VirtualPortType};
use crate::error::{Code, Error, Result, Subsystem};

/// Longest name of a link, bytes.
const LINK_NAME_MAX: usize = 15;

/// Checks a definition; the bridge's name must be given already. Errors: code 67, and 27 for names; they have the
/// element as their subject.
pub fn validate(def: &NetworkDef) -> Result<()> {
    check(def).map_err(|error| error.or_subsystem(Subsystem::Network))
}

fn check(def: &NetworkDef) -> Result<()> {
    if def.owns_bridge() {
        check_own_bridge(def)?;
    } else {
        check_foreign(def)?;
    }
    check_forward(def)?;
    check_dhcp(def)?;
    check_groups(def)
}

fn check_own_bridge(def: &NetworkDef) -> Result<()> {
    let name = &def.name;
    let Some(bridge) = def.bridge_name() else {
        return Err(Error::internal(format!("network '{name}' has no bridge name defined")));
    };
    if bridge.len() > LINK_NAME_MAX {
        let what = format!("bridge name '{bridge}' is too long: a link's name has at most {LINK_NAME_MAX} bytes");
        return Err(Error::new(Code::XmlError, what).about("bridge", 0));
    }
    if bridge.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) || matches!(bridge, "." | "..") {
        let what = format!("bridge name '{bridge}' is no name for a link: it has a blank, '/' or ':' in it");
        return Err(Error::new(Code::XmlError, what).about("bridge", 0));
    }
    Ok(())
}

fn unsupported(what: String) -> Error {
    Error::new(Code::ConfigUnsupported, what)
}

/// What only a network with a bridge of its own can have.
fn check_foreign(def: &NetworkDef) -> Result<()> {
    let (name, mode) = (&def.name, def.forward.mode);
    let present = [
        (def.mac.is_some(), "mac"),
        (!def.ips.is_empty(), "ip"),
        (def.dns.has_records(), "dns"),
        (def.domain.is_some(), "domain"),
    ];
    if let Some((_, element)) = present.iter().find(|(present, _)| *present) {
        let what = format!("Unsupported <{element}> element in network {name} with forward mode='{mode}'");
        return Err(unsupported(what).about(element, 0));
    }
    if is_limited(def.bandwidth.as_ref()) && !may_limit(def) {
        let what = format!("Unsupported network-wide <bandwidth> element in network {name} with forward mode='{mode}'");
        return Err(unsupported(what).about("bandwidth", 0));
    }
    Ok(())
}

fn is_limited(bandwidth: Option<&Bandwidth>) -> bool {
    bandwidth.is_some_and(|bandwidth| bandwidth.inbound.is_some() || bandwidth.outbound.is_some())
}

/// Whether all traffic of the network goes through one bridge.
fn may_limit(def: &NetworkDef) -> bool {
    def.owns_bridge() || def.forward.mode == ForwardMode::Bridge && def.bridge.name.is_some()
}

fn check_forward(def: &NetworkDef) -> Result<()> {
    let (name, mode) = (&def.name, def.forward.mode);
    let interfaces = &def.forward.interfaces;
    let pci = interfaces.iter().any(|one| matches!(one.device, ForwardDevice::Pci(_)));
    let netdev = interfaces.iter().find_map(|one| match &one.device {
        ForwardDevice::Netdev(dev) => Some(dev),
        ForwardDevice::Pci(_) => None,
    });
    let what = match (mode, netdev) {
        (ForwardMode::Hostdev, Some(dev)) => format!(
            "hostdev network '{name}' lists '{dev}' in the device pool, but hostdev networks require all devices to \
             be listed by PCI address, not network device name"
        ),
        (ForwardMode::Hostdev, None) => return Ok(()),
        _ if pci => format!(
            "network '{name}' has forward mode '{mode}' but lists a device by PCI address in the device pool. This is \
             only supported for networks with forward mode 'hostdev'"
        ),
        (_, Some(_)) if def.forward.pf.is_some() => {
            format!("<address>, <interface>, and <pf> elements of <forward> in network {name} are mutually exclusive")
        }
        _ => return Ok(()),
    };
    Err(unsupported(what).about("forward", 0))
}

fn check_dhcp(def: &NetworkDef) -> Result<()> {
    for (v6, family) in [(false, "IPv4"), (true, "IPv6")] {
        if def.ips_of(v6).filter(|ip| ip.serves_dhcp()).count() > 1 {
            let what = format!(
                "Multiple {family} dhcp sections found -- dhcp is supported only for a single {family} address on \
                 each network"
            );
            return Err(unsupported(what).about("ip", 0));
        }
    }
    Ok(())
}

fn check_groups(def: &NetworkDef) -> Result<()> {
    let (name, mode) = (&def.name, def.forward.mode);
    let mut default: Option<&str> = None;
    for (nth, group) in def.portgroups.iter().enumerate() {
        let about = |what: String| Err(unsupported(what).about("portgroup", nth));
        if group.is_default == Some(YesNo::Yes) {
            if let Some(first) = default {
                return about(format!(
                    "network '{name}' has multiple default <portgroup> elements ({first} and {}), but only one \
                     default is allowed",
                    group.name
                ));
            }
            default = Some(&group.name);
        }
        if def.portgroups[..nth].iter().any(|other| other.name == group.name) {
            let what = "multiple <portgroup> elements with the same name";
            return about(format!("{what} ({}) in network '{name}'", group.name));
        }
        if is_limited(group.bandwidth.as_ref()) && !may_limit(def) {
            return about(format!(
                "Unsupported <bandwidth> element in network '{name}' in portgroup '{}' with forward mode='{mode}'",
                group.name
            ));
        }
    }
    let allowed = matches!(mode, ForwardMode::Bridge | ForwardMode::Hostdev | ForwardMode::Passthrough);
    if !allowed && (def.vlan.is_some() || def.portgroups.iter().any(|group| group.vlan.is_some())) {
        let what =
            format!("<vlan> element specified for network {name}, whose type doesn't support vlan configuration");
        return Err(unsupported(what).about(if def.vlan.is_some() { "vlan" } else { "portgroup/vlan" }, 0));
    }
    Ok(())
}

/// Whether a guest interface with this virtual port can be connected to the network. Error: code 67.
pub fn check_virtualport(def: &NetworkDef, port: Option<&VirtualPort>) -> Result<()> {
    let Some(kind) = port.and_then(|port| port.kind) else { return Ok(()) };
    let name = &def.name;
    let uses = match def.forward.mode {
        ForwardMode::None | ForwardMode::Nat | ForwardMode::Route | ForwardMode::Open => "uses IP forwarding",
        ForwardMode::Bridge if def.bridge.name.is_some() => match kind {
            VirtualPortType::Openvswitch | VirtualPortType::Midonet => return Ok(()),
            _ => "uses a bridge device",
        },
        ForwardMode::Hostdev => match kind {
            VirtualPortType::Vnlink => return Ok(()),
            _ => "uses an SR-IOV Virtual Function via PCI passthrough",
        },
        _ => match kind {
            VirtualPortType::Vepa | VirtualPortType::Vnlink => return Ok(()),
            _ => "uses a macvtap device",
        },
    };
    let what = format!("<virtualport type='{kind}'> not supported for network '{name}' which {uses}");
    Err(unsupported(what).about("virtualport", 0))
}
