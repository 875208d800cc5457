//! `<portgroup>`.

use crate::domain_xml::YesNo;
use crate::domain_xml::device::net_options::{Bandwidth, VirtualPort, Vlan};
use crate::error::{Code, Result};
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
            is_default: node.attr_value("default")?.filter(|is: &YesNo| is.is_yes()),
            trust_guest_rx_filters: node.attr_value("trustGuestRxFilters")?,
            virtualport: node.child("virtualport").map(VirtualPort::read).transpose()?,
            bandwidth: node.child("bandwidth").map(read_bandwidth).transpose()?,
            vlan: node.child("vlan").map(Vlan::read).transpose()?,
        })
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.element("portgroup", |w| {
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
        });
    }
}

/// `<bandwidth>` of a network or a port group: no `floor`, and peak and burst only beside an average.
pub(super) fn read_bandwidth(node: Node<'_>) -> Result<Bandwidth> {
    let bandwidth = Bandwidth::read(node)?;
    for (name, rate) in [("inbound", &bandwidth.inbound), ("outbound", &bandwidth.outbound)] {
        let (Some(rate), Some(at)) = (rate, node.child(name)) else { continue };
        let what = if rate.floor.is_some() {
            "floor attribute is not supported for this config"
        } else if rate.average.is_none() && (rate.peak.is_some() || rate.burst.is_some()) {
            "'peak' and 'burst' require 'average' attribute"
        } else if rate.average.is_none() {
            "Missing mandatory average or floor attributes"
        } else {
            continue;
        };
        let code = if rate.floor.is_some() { Code::ConfigUnsupported } else { Code::XmlError };
        return Err(at.error(code, what));
    }
    Ok(bandwidth)
}
