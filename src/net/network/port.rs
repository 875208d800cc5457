//! `<networkport>`: one guest interface's connection to a network.

use super::model::MacTableManager;
use super::portgroup::read_virtualport;
use crate::domain_xml::YesNo;
use crate::domain_xml::device::net_options::{Bandwidth, VirtualPort, Vlan};
use crate::domain_xml::words::words;
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::{MacAddr, PciAddress, Uuid};
use crate::xml::{Document, Node, Writer};

words! {
    /// `<plug type='direct' mode>`.
    pub enum DirectMode { Vepa = "vepa", Private = "private", Bridge = "bridge", Passthrough = "passthrough" }

    /// `<plug type>`.
    pub enum PlugType { None = "none", Network = "network", Bridge = "bridge", Direct = "direct", HostdevPci = "hostdev-pci" }
}

/// `<networkport>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortDef {
    pub uuid: Uuid,
    pub owner_name: String,
    pub owner_uuid: Uuid,
    /// The port group.
    pub group: Option<String>,
    pub mac: MacAddr,
    pub virtualport: Option<VirtualPort>,
    pub bandwidth: Option<Bandwidth>,
    /// Class of the traffic shaper that keeps its floor.
    pub class_id: Option<u32>,
    pub vlan: Option<Vlan>,
    pub isolated: Option<YesNo>,
    pub trust_guest_rx_filters: Option<YesNo>,
    pub plug: Plug,
}

/// `<plug>`: what the interface is connected to.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Plug {
    /// Not connected yet.
    #[default]
    None,
    /// The bridge of a network that owns one.
    Network {
        bridge: String,
        mac_table_manager: Option<MacTableManager>,
    },
    /// A bridge of the host.
    Bridge {
        bridge: String,
        mac_table_manager: Option<MacTableManager>,
    },
    /// A macvtap over a link.
    Direct {
        dev: String,
        mode: DirectMode,
    },
    HostdevPci {
        address: PciAddress,
        managed: bool,
    },
}

/// Reads a `<networkport>` document; with `strict`, what would be ignored is refused. Errors: code 35 for syntax, 1 and
/// 27 for meaning, as libvirt has them, 92 for what is refused because of `strict`.
pub fn parse(xml: &str, strict: bool) -> Result<PortDef> {
    read_document(xml, strict).map_err(|error| error.or_subsystem(Subsystem::Network))
}

fn read_document(xml: &str, strict: bool) -> Result<PortDef> {
    let document = Document::parse(xml, "networkport_definition")?;
    let root = document.root();
    if root.name() != "networkport" {
        let what = format!("expecting root element of 'networkport', not '{}'", root.name());
        return Err(root.error(Code::XmlError, what));
    }
    let def = PortDef::read(root)?;
    if strict {
        document.refuse_unknown()?;
    }
    Ok(def)
}

/// Writes a `<networkport>` document.
pub fn format(def: &PortDef) -> String {
    let mut w = Writer::new();
    def.write(&mut w);
    w.finish()
}

fn internal(node: Node<'_>, what: impl AsRef<str>) -> Error {
    node.error(Code::InternalError, what)
}

fn read_uuid(node: Node<'_>, what: &str) -> Result<Uuid> {
    let Some(text) = node.child("uuid").map(|uuid| uuid.text()).filter(|text| !text.is_empty()) else {
        return Err(internal(node, what));
    };
    crate::domain_xml::parse_uuid(text).ok_or_else(|| internal(node, format!("Unable to parse UUID '{text}'")))
}

impl PortDef {
    fn read(root: Node<'_>) -> Result<Self> {
        let uuid = read_uuid(root, "network port has no uuid")?;
        let Some(owner) = root.child("owner") else { return Err(internal(root, "network port has no owner name")) };
        let Some(owner_name) = owner.child_string("name") else {
            return Err(internal(owner, "network port has no owner name"));
        };
        let owner_uuid = read_uuid(owner, "network port has no owner UUID")?;
        let Some(mac) = root.child("mac").and_then(|mac| mac.attr("address")) else {
            return Err(internal(root, "network port has no mac"));
        };
        let mac = mac.parse().map_err(|_| internal(root, format!("Unable to parse MAC '{mac}'")))?;
        let bandwidth = root.child("bandwidth");
        Ok(PortDef {
            uuid,
            owner_name,
            owner_uuid,
            group: root.child_string("group"),
            mac,
            virtualport: root.child("virtualport").map(|port| read_virtualport(port, false)).transpose()?,
            class_id: bandwidth.map(|node| node.attr_value("classID")).transpose()?.flatten(),
            bandwidth: bandwidth.map(Bandwidth::read).transpose()?,
            vlan: root.child("vlan").map(Vlan::read).transpose()?,
            isolated: root.child("port").map(|node| node.attr_value("isolated")).transpose()?.flatten(),
            trust_guest_rx_filters: root
                .child("rxfilters")
                .map(|node| node.attr_value("trustGuest"))
                .transpose()?
                .flatten(),
            plug: root.child("plug").map(Plug::read).transpose()?.unwrap_or_default(),
        })
    }

    fn write(&self, w: &mut Writer) {
        w.element("networkport", |w| {
            w.text("uuid", self.uuid);
            w.element("owner", |w| {
                w.text("name", &self.owner_name);
                w.text("uuid", self.owner_uuid);
            });
            w.text_opt("group", self.group.as_ref());
            w.element("mac", |w| w.attr("address", self.mac));
            if let Some(virtualport) = &self.virtualport {
                virtualport.write(w);
            }
            if let Some(bandwidth) = &self.bandwidth {
                w.element_unless_empty("bandwidth", |w| {
                    w.attr_opt("classID", self.class_id);
                    if let Some(rate) = &bandwidth.inbound {
                        rate.write("inbound", w);
                    }
                    if let Some(rate) = &bandwidth.outbound {
                        rate.write("outbound", w);
                    }
                });
            }
            if let Some(vlan) = &self.vlan {
                vlan.write(w);
            }
            if let Some(isolated) = self.isolated {
                w.element("port", |w| w.attr("isolated", isolated));
            }
            if let Some(trust) = self.trust_guest_rx_filters {
                w.element("rxfilters", |w| w.attr("trustGuest", trust));
            }
            self.plug.write(w);
        });
    }
}

impl Plug {
    fn read(node: Node<'_>) -> Result<Self> {
        let bridge = || match node.attr("bridge") {
            Some(bridge) => Ok(bridge.to_string()),
            None => Err(node.error(Code::XmlError, "Missing network port bridge name")),
        };
        let mac_table_manager = || match node.attr("macTableManager") {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                let what = format!("Invalid macTableManager setting '{text}' in network port");
                node.attr_error("macTableManager", Code::XmlError, what)
            }),
        };
        Ok(match node.attr_value("type")?.unwrap_or_default() {
            PlugType::None => Plug::None,
            PlugType::Network => Plug::Network { bridge: bridge()?, mac_table_manager: mac_table_manager()? },
            PlugType::Bridge => Plug::Bridge { bridge: bridge()?, mac_table_manager: mac_table_manager()? },
            PlugType::Direct => {
                let Some(dev) = node.attr("dev") else {
                    return Err(node.error(Code::XmlError, "Missing network port link device name"));
                };
                let mode = match node.attr("mode") {
                    None => DirectMode::default(),
                    Some(text) => text.parse().map_err(|_| {
                        let what = format!("Invalid mode setting '{text}' in network port");
                        node.attr_error("mode", Code::XmlError, what)
                    })?,
                };
                Plug::Direct { dev: dev.to_string(), mode }
            }
            PlugType::HostdevPci => {
                let managed = node.attr_value("managed")? == Some(YesNo::Yes);
                let Some(address) = node.child("address") else {
                    return Err(node.error(Code::XmlError, "Missing network port PCI address"));
                };
                let part = |name| address.attr_any_base32(name).map(Option::unwrap_or_default);
                let address = PciAddress {
                    domain: part("domain")?,
                    bus: part("bus")?,
                    slot: part("slot")?,
                    function: part("function")?,
                };
                Plug::HostdevPci { address, managed }
            }
        })
    }

    fn write(&self, w: &mut Writer) {
        if *self == Plug::None {
            return;
        }
        w.element("plug", |w| {
            w.attr("type", self.kind());
            match self {
                Plug::None => {}
                Plug::Network { bridge, mac_table_manager } | Plug::Bridge { bridge, mac_table_manager } => {
                    w.attr("bridge", bridge);
                    w.attr_opt("macTableManager", *mac_table_manager);
                }
                Plug::Direct { dev, mode } => {
                    w.attr("dev", dev);
                    w.attr("mode", mode);
                }
                Plug::HostdevPci { address, managed } => {
                    w.attr("managed", YesNo::from(*managed));
                    w.element("address", |w| super::forward::write_pci(w, *address));
                }
            }
        });
    }

    fn kind(&self) -> PlugType {
        match self {
            Plug::None => PlugType::None,
            Plug::Network { .. } => PlugType::Network,
            Plug::Bridge { .. } => PlugType::Bridge,
            Plug::Direct { .. } => PlugType::Direct,
            Plug::HostdevPci { .. } => PlugType::HostdevPci,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{corpus, files};
    use super::*;
    use rstest::rstest;

    #[test]
    fn corpus_round_trips() {
        let Some(corpus) = corpus() else { return };
        let documents = files(&corpus.join("virnetworkportxml2xmldata"), "xml");
        assert!(documents.len() >= 3, "{documents:?}");
        for path in documents {
            let text = std::fs::read_to_string(&path).expect("readable");
            assert_eq!(format(&parse(&text, false).expect("parses")), text, "{}", path.display());
        }
    }

    const HEAD: &str = "<networkport>\n  <uuid>2cf660ef-3814-4cab-bf5c-4612c0f914fd</uuid>\n  <owner>\n    \
                        <name>guest</name>\n    <uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid>\n  </owner>\n";

    #[rstest]
    #[case("  <mac address='52:54:00:7b:35:93'/>\n")]
    #[case(
        "  <group>g</group>\n  <mac address='52:54:00:7b:35:93'/>\n  <virtualport type='802.1Qbh'>\n    \
         <parameters profileid='x'/>\n  </virtualport>\n  <plug type='direct' dev='eth0' mode='bridge'/>\n"
    )]
    #[case(
        "  <mac address='52:54:00:7b:35:93'/>\n  <port isolated='no'/>\n  <rxfilters trustGuest='no'/>\n  \
         <plug type='hostdev-pci' managed='yes'>\n    <address domain='0x0001' bus='0x02' slot='0x03' \
         function='0x4'/>\n  </plug>\n"
    )]
    fn round_trips(#[case] body: &str) {
        let text = format!("{HEAD}{body}</networkport>\n");
        assert_eq!(format(&parse(&text, false).expect("parses")), text);
    }

    #[rstest]
    #[case("", 1, "network port has no mac")]
    #[case("<mac address='x'/>", 1, "Unable to parse MAC 'x'")]
    #[case("<mac address='52:54:00:7b:35:93'/><plug type='netwrok'/>", 27, "did you mean 'network'?")]
    #[case("<mac address='52:54:00:7b:35:93'/><plug type='bridge'/>", 27, "Missing network port bridge name")]
    #[case("<mac address='52:54:00:7b:35:93'/><plug type='direct'/>", 27, "Missing network port link device name")]
    #[case("<mac address='52:54:00:7b:35:93'/><plug type='hostdev-pci'/>", 27, "Missing network port PCI address")]
    fn refused(#[case] body: &str, #[case] code: i32, #[case] expected: &str) {
        let error = parse(&format!("{HEAD}{body}</networkport>"), false).expect_err("refused");
        assert_eq!(error.code as i32, code, "{error}");
        assert!(error.detail.contains(expected), "{error}");
    }
}
