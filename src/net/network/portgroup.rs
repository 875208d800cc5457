//! `<portgroup>`.

use crate::domain_xml::YesNo;
use crate::domain_xml::device::net_options::{Bandwidth, VirtualPort, VirtualPortType, Vlan};
use crate::error::{Code, Result};
use crate::types::text::nearest;
use crate::xml::{Node, Writer};

/// `<portgroup>`: settings for guest interfaces that name it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortGroup {
    pub name: String,
    pub is_default: Option<YesNo>,
    pub trust_guest_rx_filters: Option<YesNo>,
    pub vlan: Option<Vlan>,
    pub virtualport: Option<VirtualPort>,
    pub bandwidth: Option<Bandwidth>,
}

impl PortGroup {
    pub(super) fn read(node: Node<'_>) -> Result<Self> {
        let Some(name) = node.attr("name") else {
            return Err(node.error(Code::XmlError, "Missing required name attribute in portgroup"));
        };
        Ok(PortGroup {
            name: name.to_string(),
            is_default: match node.attr("default") {
                Some("yes") => Some(YesNo::Yes),
                None | Some("no") => None,
                Some(other) => {
                    node.remark(format!("default='{other}' is neither 'yes' nor 'no' and counts as 'no'"));
                    None
                }
            },
            trust_guest_rx_filters: node.attr_value("trustGuestRxFilters")?,
            virtualport: node.child("virtualport").map(|port| read_virtualport(port, false)).transpose()?,
            bandwidth: node.child("bandwidth").map(read_bandwidth).transpose()?,
            vlan: node.child("vlan").map(Vlan::read).transpose()?,
        })
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.start("portgroup");
        w.attr("name", &self.name);
        w.attr_opt("default", self.is_default);
        w.attr_opt("trustGuestRxFilters", self.trust_guest_rx_filters);
        if let Some(vlan) = &self.vlan {
            vlan.write(w);
        }
        if let Some(virtualport) = &self.virtualport {
            virtualport.write(w);
        }
        if let Some(bandwidth) = &self.bandwidth {
            bandwidth.write(w);
        }
        w.end_wide();
    }
}

/// `<bandwidth>` of a network or a port group: no `floor`, and peak and burst only beside an average.
pub(super) fn read_bandwidth(node: Node<'_>) -> Result<Bandwidth> {
    let bandwidth = Bandwidth::read(node)?;
    for (name, rate) in [("inbound", &bandwidth.inbound), ("outbound", &bandwidth.outbound)] {
        let (Some(rate), Some(at)) = (rate, node.child(name)) else { continue };
        if rate.floor.is_some() {
            return Err(at.error(Code::ConfigUnsupported, "floor attribute is not supported for this config"));
        }
        if at.attr("average").is_none() {
            return Err(at.error(Code::XmlDetail, "Missing mandatory average or floor attributes"));
        }
    }
    Ok(bandwidth)
}

/// `<virtualport>` of a network (which needs a type) or a port group.
pub(super) fn read_virtualport(node: Node<'_>, needs_type: bool) -> Result<VirtualPort> {
    match node.attr("type") {
        None if needs_type => return Err(node.error(Code::XmlError, "missing required virtualport type")),
        Some(kind) if kind.parse::<VirtualPortType>().is_err() => {
            let mut what = format!("unknown virtualport type {kind}");
            match nearest(kind, VirtualPortType::WORDS.iter().copied()) {
                Some(word) => what.push_str(&format!(": did you mean '{word}'?")),
                None => what.push_str(&format!(": known: {}", VirtualPortType::WORDS.join(", "))),
            }
            return Err(node.attr_error("type", Code::ConfigUnsupported, what));
        }
        _ => {}
    }
    let port = VirtualPort::read(node)?;
    let limits = [
        ("managerid", port.parameters.managerid, 0xff),
        ("typeid", port.parameters.typeid, 0xff_ffff),
        ("typeidversion", port.parameters.typeidversion, 0xff),
    ];
    for (name, value, most) in limits {
        if value.is_some_and(|value| value > most) {
            let what = format!("value of {name} out of range: at most {most}");
            return Err(node.error(Code::XmlError, what));
        }
    }
    Ok(port)
}
