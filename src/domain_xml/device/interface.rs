//! `<interface>`.

use super::info::{DeviceAddress, DeviceInfo, VirtioOptions};
use super::net_options::{Bandwidth, FilterRef, IpAddress, Route, VirtualPort, Vlan, read_ips, write_ips};
use crate::domain_xml::FormatOptions;
use crate::domain_xml::foreign::Foreign;
use crate::domain_xml::words::{Switch, YesNo, attrs, words};
use crate::error::{Code, Result};
use crate::types::MacAddr;
use crate::types::text::nearest;
use crate::xml::{Node, Writer};

/// `<interface>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    pub source: InterfaceSource,
    /// `managed` of a host device NIC.
    pub managed: Option<YesNo>,
    pub trust_guest_rx_filters: Option<YesNo>,
    /// `None` only until the engine gives one.
    pub mac: Option<MacAddr>,
    /// `<mac type>`: `static` or `generated`.
    pub mac_type: Option<MacType>,
    pub mac_check: Option<YesNo>,
    pub virtualport: Option<VirtualPort>,
    pub vlan: Option<Vlan>,
    pub bandwidth: Option<Bandwidth>,
    pub ips: Vec<IpAddress>,
    pub routes: Vec<Route>,
    /// `<ip>` and `<route>` of the host side, below `<source>`.
    pub host_ips: Vec<IpAddress>,
    pub host_routes: Vec<Route>,
    pub script: Option<String>,
    pub downscript: Option<String>,
    pub backenddomain: Option<String>,
    pub target: InterfaceTarget,
    pub guest: GuestNames,
    /// `virtio`, `e1000` ...
    pub model: Option<String>,
    pub driver: InterfaceDriver,
    pub backend: InterfaceBackend,
    pub filterref: Option<FilterRef>,
    pub tune_sndbuf: Option<u64>,
    pub link: Option<LinkState>,
    pub mtu: Option<u32>,
    pub coalesce_rx_frames_max: Option<u32>,
    /// `<port isolated>`.
    pub isolated: Option<YesNo>,
    pub teaming: Option<Teaming>,
    /// `<portForward>`: nothing acts on it yet.
    pub later: Vec<Foreign>,
    pub info: DeviceInfo,
}

/// `<interface type>` with its `<source>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum InterfaceSource {
    User {
        dev: Option<String>,
    },
    #[default]
    Ethernet,
    VhostUser(VhostUserSource),
    Server(SocketSource),
    Client(SocketSource),
    Mcast(SocketSource),
    Udp(SocketSource),
    Network(NetworkRef),
    Bridge {
        bridge: String,
    },
    Internal {
        name: Option<String>,
    },
    Direct {
        dev: String,
        mode: Option<MacvtapMode>,
    },
    Hostdev {
        /// `<address>` of the host device: USB or PCI.
        address: Option<super::info::DeviceAddress>,
    },
    Vdpa {
        dev: String,
    },
    Null,
}

impl InterfaceSource {
    /// The bridge it is in: named, or given to it by its network while the guest runs.
    pub fn bridge(&self) -> Option<&str> {
        match self {
            InterfaceSource::Bridge { bridge } => Some(bridge),
            InterfaceSource::Network(place) => place.bridge.as_deref(),
            _ => None,
        }
    }

    /// The device of the host that it is a macvtap on, and how: named, or given to it by its network.
    pub fn direct(&self) -> Option<(&str, MacvtapMode)> {
        match self {
            InterfaceSource::Direct { dev, mode } => Some((dev, mode.unwrap_or(MacvtapMode::Vepa))),
            InterfaceSource::Network(place) => Some((place.dev.as_deref()?, place.mode.unwrap_or(MacvtapMode::Vepa))),
            _ => None,
        }
    }

    /// Whether it is a tap (a veth pair of a container) of this host.
    pub fn is_tap(&self) -> bool {
        matches!(self, InterfaceSource::Ethernet) || self.bridge().is_some()
    }

    /// `type` of the interface.
    pub fn type_name(&self) -> &'static str {
        match self {
            InterfaceSource::User { .. } => "user",
            InterfaceSource::Ethernet => "ethernet",
            InterfaceSource::VhostUser(_) => "vhostuser",
            InterfaceSource::Server(_) => "server",
            InterfaceSource::Client(_) => "client",
            InterfaceSource::Mcast(_) => "mcast",
            InterfaceSource::Udp(_) => "udp",
            InterfaceSource::Network(_) => "network",
            InterfaceSource::Bridge { .. } => "bridge",
            InterfaceSource::Internal { .. } => "internal",
            InterfaceSource::Direct { .. } => "direct",
            InterfaceSource::Hostdev { .. } => "hostdev",
            InterfaceSource::Vdpa { .. } => "vdpa",
            InterfaceSource::Null => "null",
        }
    }
}

attrs! {
    /// `<source>` of a NIC in a libvirt network.
    pub struct NetworkRef {
        network: String = "network",
        portgroup: String = "portgroup",
        /// Live only.
        portid: String = "portid",
        /// Live only: the network's bridge.
        bridge: String = "bridge",
        /// Live only: the device of the host that the network gave it a macvtap on, and how.
        dev: String = "dev",
        mode: MacvtapMode = "mode",
    }

    /// `<source>` of a vhost-user NIC.
    pub struct VhostUserSource {
        kind: String = "type",
        path: String = "path",
        mode: SocketMode = "mode",
    }

    /// `<target>`.
    pub struct InterfaceTarget {
        /// Name of the tap on the host.
        dev: String = "dev",
        managed: YesNo = "managed",
    }

    /// `<guest>`: names seen by a container.
    pub struct GuestNames {
        dev: String = "dev",
        actual: String = "actual",
    }

    /// `<backend>`.
    pub struct InterfaceBackend {
        kind: String = "type",
        tap: String = "tap",
        vhost: String = "vhost",
        log_file: String = "logFile",
    }

    /// `<teaming>`.
    pub struct Teaming {
        kind: TeamingType = "type",
        persistent: String = "persistent",
    }
}

/// `<source>` of the socket types.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SocketSource {
    pub address: Option<String>,
    pub port: u32,
    /// `<local>` of udp.
    pub local_address: Option<String>,
    pub local_port: Option<u32>,
}

words! {
    /// `<mac type>`.
    pub enum MacType { Generated = "generated", Static = "static" }

    /// `mode` of a macvtap.
    pub enum MacvtapMode { Vepa = "vepa", Private = "private", Bridge = "bridge", Passthrough = "passthrough" }

    /// `mode` of a unix socket.
    pub enum SocketMode { Client = "client", Server = "server" }

    /// `<link state>`.
    pub enum LinkState { Up = "up", Down = "down" }

    /// `<driver name>`.
    pub enum NetBackendDriver { Qemu = "qemu", Vhost = "vhost", Vfio = "vfio" }

    /// `txmode`.
    pub enum TxMode { Iothread = "iothread", Timer = "timer" }

    /// `<teaming type>`.
    pub enum TeamingType { Persistent = "persistent", Transient = "transient" }

}

/// `<driver>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InterfaceDriver {
    pub name: Option<NetBackendDriver>,
    pub txmode: Option<TxMode>,
    pub ioeventfd: Option<Switch>,
    pub event_idx: Option<Switch>,
    pub queues: Option<u32>,
    pub rx_queue_size: Option<u32>,
    pub tx_queue_size: Option<u32>,
    pub rss: Option<Switch>,
    pub rss_hash_report: Option<Switch>,
    pub virtio: VirtioOptions,
    pub host: Option<OffloadHost>,
    pub guest: Option<OffloadGuest>,
}

attrs! {
    /// `<host>` of the driver: offloads of the backend.
    pub struct OffloadHost {
        csum: Switch = "csum",
        gso: Switch = "gso",
        tso4: Switch = "tso4",
        tso6: Switch = "tso6",
        ecn: Switch = "ecn",
        ufo: Switch = "ufo",
        mrg_rxbuf: Switch = "mrg_rxbuf",
    }

    /// `<guest>` of the driver: offloads of the guest.
    pub struct OffloadGuest {
        csum: Switch = "csum",
        tso4: Switch = "tso4",
        tso6: Switch = "tso6",
        ecn: Switch = "ecn",
        ufo: Switch = "ufo",
    }
}

/// Every `type` there is.
const TYPES: &[&str] = &[
    "user",
    "ethernet",
    "vhostuser",
    "server",
    "client",
    "mcast",
    "udp",
    "network",
    "bridge",
    "internal",
    "direct",
    "hostdev",
    "vdpa",
    "null",
];

/// Tap names that the kernel or a driver made up, which an inactive definition does not show.
const GENERATED_PREFIXES: &[&str] = &["vnet", "vif", "macvtap", "macvlan"];

impl Interface {
    /// Reads `<interface>`. Errors: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut nic = Interface {
            source: InterfaceSource::read(node)?,
            managed: node.attr_value("managed")?,
            trust_guest_rx_filters: node.attr_value("trustGuestRxFilters")?,
            ..Default::default()
        };
        if let Some(mac) = node.child("mac") {
            nic.mac = read_mac(mac)?;
            nic.mac_type = mac.attr_value("type")?;
            nic.mac_check = mac.attr_value("check")?;
        }
        nic.virtualport = node.child("virtualport").map(VirtualPort::read).transpose()?;
        nic.vlan = node.child("vlan").map(Vlan::read).transpose()?;
        nic.bandwidth = node.child("bandwidth").map(Bandwidth::read).transpose()?;
        (nic.ips, nic.routes) = read_ips(node)?;
        if let (InterfaceSource::Ethernet, Some(source)) = (&nic.source, node.child("source")) {
            (nic.host_ips, nic.host_routes) = read_ips(source)?;
        }
        nic.later = Foreign::read_all(node, &["portForward"]);
        let attr_of = |child: &'static str, name: &'static str| {
            node.child(child).and_then(|child| child.attr(name)).filter(|text| !text.is_empty()).map(str::to_string)
        };
        nic.script = attr_of("script", "path");
        nic.downscript = attr_of("downscript", "path");
        nic.backenddomain = attr_of("backenddomain", "name");
        if let Some(target) = node.child("target") {
            nic.target = InterfaceTarget::read(target)?;
            nic.target.dev = nic.target.dev.filter(|dev| !dev.is_empty());
        }
        if let Some(guest) = node.child("guest") {
            nic.guest = GuestNames::read(guest)?;
        }
        nic.model = attr_of("model", "type");
        if let (Some(model), Some(child)) = (&nic.model, node.child("model"))
            && model.chars().any(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
        {
            return Err(child.attr_error("type", Code::InvalidArg, "Model name contains invalid characters"));
        }
        if let Some(driver) = node.child("driver") {
            let driver = InterfaceDriver::read(driver)?;
            // All but the name of a host device's driver is about virtio.
            nic.driver = match &nic.source {
                InterfaceSource::Hostdev { .. } => InterfaceDriver { name: driver.name, ..Default::default() },
                _ if nic.model.as_deref().is_some_and(|model| model.to_ascii_lowercase().starts_with("virtio")) => {
                    driver
                }
                // What is about virtio devices in general is read, to be refused.
                _ => InterfaceDriver { virtio: driver.virtio, ..Default::default() },
            };
        }
        if let Some(backend) = node.child("backend") {
            nic.backend = InterfaceBackend::read(backend)?;
            if let (InterfaceSource::VhostUser(source), Some("passt")) = (&mut nic.source, nic.backend.kind.as_deref())
            {
                *source = VhostUserSource::default();
            }
        }
        if let Some(filter) = node.child("filterref") {
            let filter = FilterRef::read(filter)?;
            // Only what ends in a tap of the host can be filtered.
            let filtered = matches!(
                nic.source,
                InterfaceSource::Ethernet | InterfaceSource::Network(_) | InterfaceSource::Bridge { .. }
            );
            nic.filterref = Some(filter).filter(|_| filtered);
        }
        if let Some(tune) = node.child("tune") {
            nic.tune_sndbuf = tune.child_value("sndbuf")?;
        }
        if let Some(link) = node.child("link") {
            nic.link = link.attr_value("state")?;
        }
        if let Some(mtu) = node.child("mtu") {
            nic.mtu = mtu.attr_value("size")?;
        }
        if let Some(frames) = node.child("coalesce").and_then(|n| n.child("rx")).and_then(|n| n.child("frames")) {
            nic.coalesce_rx_frames_max = frames.attr_value("max")?;
        }
        if let Some(port) = node.child("port") {
            nic.isolated = port.attr_value("isolated")?;
        }
        nic.teaming = node.child("teaming").map(Teaming::read).transpose()?;
        nic.info = DeviceInfo::read_with_rom(node)?;
        Ok(nic)
    }

    /// Writes it in libvirt's order.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.start("interface");
        w.attr("type", self.source.type_name());
        w.attr_opt("managed", self.managed);
        w.attr_opt("trustGuestRxFilters", self.trust_guest_rx_filters);
        if let Some(mac) = self.mac {
            w.element("mac", |w| {
                w.attr("address", mac);
                w.attr_opt("type", self.mac_type);
                w.attr_opt("check", self.mac_check);
            });
        }
        self.source.write(w, o);
        w.element_unless_empty("source", |w| write_ips(w, &self.host_ips, &self.host_routes));
        if let Some(vlan) = &self.vlan {
            vlan.write(w);
        }
        if let Some(port) = &self.virtualport {
            port.write(w);
        }
        if let Some(bandwidth) = &self.bandwidth {
            bandwidth.write(w);
        }
        if let Some(isolated) = self.isolated {
            w.element("port", |w| w.attr("isolated", isolated));
        }
        write_ips(w, &self.ips, &self.routes);
        for (name, path) in [("script", &self.script), ("downscript", &self.downscript)] {
            if let Some(path) = path {
                w.element(name, |w| w.attr("path", path));
            }
        }
        if let Some(name) = &self.backenddomain {
            w.element("backenddomain", |w| w.attr("name", name));
        }
        w.element_unless_empty("target", |w| {
            w.attr_opt("dev", self.target.dev.as_ref().filter(|_| !(o.inactive && self.has_generated_name())));
            w.attr_opt("managed", self.target.managed);
        });
        w.element_unless_empty("guest", |w| {
            w.attr_opt("dev", self.guest.dev.as_ref());
            w.attr_opt("actual", self.guest.actual.as_ref().filter(|_| !o.inactive));
        });
        if let Some(model) = &self.model {
            w.element("model", |w| w.attr("type", model));
        }
        self.driver.write(w);
        self.later.iter().for_each(|element| element.write(w));
        self.backend.write("backend", w);
        if let Some(filter) = &self.filterref {
            filter.write(w);
        }
        if let Some(sndbuf) = self.tune_sndbuf {
            w.element("tune", |w| w.text("sndbuf", sndbuf));
        }
        if let Some(teaming) = &self.teaming {
            teaming.write("teaming", w);
        }
        if let Some(link) = self.link {
            w.element("link", |w| w.attr("state", link));
        }
        if let Some(mtu) = self.mtu {
            w.element("mtu", |w| w.attr("size", mtu));
        }
        if let Some(max) = self.coalesce_rx_frames_max {
            w.element("coalesce", |w| w.element("rx", |w| w.element("frames", |w| w.attr("max", max))));
        }
        self.info.write(w, o);
        w.end();
    }

    /// Whether the host side's name was made up by a driver.
    pub fn has_generated_name(&self) -> bool {
        let generated = |dev: &str| {
            GENERATED_PREFIXES.iter().any(|prefix| {
                dev.strip_prefix(prefix)
                    .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
            })
        };
        self.target.dev.as_deref().is_some_and(generated)
    }

    /// Drops what belongs to one run only.
    pub(crate) fn make_inactive(&mut self) {
        if self.has_generated_name() {
            self.target.dev = None;
        }
        self.guest.actual = None;
        if let InterfaceSource::Network(network) = &mut self.source {
            network.portid = None;
            network.bridge = None;
            network.dev = None;
            network.mode = None;
        }
        self.info.make_inactive();
    }
}

fn read_mac(node: Node<'_>) -> Result<Option<MacAddr>> {
    let Some(text) = node.attr("address") else { return Ok(None) };
    let mac: MacAddr = text
        .parse()
        .map_err(|_| node.attr_error("address", Code::XmlError, format!("unable to parse mac address '{text}'")))?;
    if mac.is_multicast() {
        let what = format!("expected unicast mac address, found multicast '{text}'");
        return Err(node.attr_error("address", Code::XmlError, what));
    }
    Ok(Some(mac))
}

impl InterfaceSource {
    fn read(node: Node<'_>) -> Result<Self> {
        let source = node.child("source");
        let kind = node.attr("type").unwrap_or("user");
        let attr = |name: &'static str| {
            source.and_then(|source| source.attr(name)).filter(|text| !text.is_empty()).map(str::to_string)
        };
        let need_source = || {
            let what = format!("interface type='{kind}' requires a 'source' element");
            source.ok_or_else(|| node.error(Code::XmlError, what))
        };
        Ok(match kind {
            "user" => InterfaceSource::User { dev: attr("dev") },
            "ethernet" => InterfaceSource::Ethernet,
            "null" => InterfaceSource::Null,
            // With the passt backend there is nothing to say about the socket.
            "vhostuser" => {
                InterfaceSource::VhostUser(source.map(VhostUserSource::read).transpose()?.unwrap_or_default())
            }
            "server" => InterfaceSource::Server(SocketSource::read(need_source()?)?),
            "client" => InterfaceSource::Client(SocketSource::read(need_source()?)?),
            "mcast" => InterfaceSource::Mcast(SocketSource::read(need_source()?)?),
            "udp" => InterfaceSource::Udp(SocketSource::read(need_source()?)?),
            "network" => {
                let source = need_source()?;
                let network = NetworkRef::read(source)?;
                if network.network.is_none() {
                    return Err(source.missing_attr("network"));
                }
                InterfaceSource::Network(network)
            }
            "bridge" => InterfaceSource::Bridge { bridge: need_source()?.require("bridge")? },
            "internal" => InterfaceSource::Internal { name: attr("name") },
            "direct" => {
                let source = need_source()?;
                InterfaceSource::Direct {
                    dev: source.require("dev")?,
                    mode: Some(source.attr_value("mode")?.unwrap_or_default()),
                }
            }
            "vdpa" => InterfaceSource::Vdpa { dev: need_source()?.require("dev")? },
            "hostdev" => InterfaceSource::Hostdev {
                address: match need_source()?.child("address") {
                    Some(address) => Some(DeviceAddress::read(address)?),
                    None => None,
                },
            },
            _ => {
                let mut what = format!("Invalid value for attribute 'type' in element 'interface': '{kind}'.");
                if let Some(word) = nearest(kind, TYPES.iter().copied()) {
                    what.push_str(&format!(" did you mean '{word}'?"));
                }
                return Err(node.attr_error("type", Code::XmlError, what));
            }
        })
    }

    fn write(&self, w: &mut Writer, o: FormatOptions) {
        match self {
            InterfaceSource::Ethernet | InterfaceSource::Null => {}
            InterfaceSource::User { dev } => w.element_unless_empty("source", |w| w.attr_opt("dev", dev.as_ref())),
            InterfaceSource::VhostUser(source) => source.write("source", w),
            InterfaceSource::Server(source)
            | InterfaceSource::Client(source)
            | InterfaceSource::Mcast(source)
            | InterfaceSource::Udp(source) => source.write(w),
            InterfaceSource::Network(network) => w.element("source", |w| {
                w.attr_opt("network", network.network.as_ref());
                w.attr_opt("portgroup", network.portgroup.as_ref());
                if !o.inactive {
                    w.attr_opt("portid", network.portid.as_ref());
                    w.attr_opt("bridge", network.bridge.as_ref());
                    w.attr_opt("dev", network.dev.as_ref());
                    w.attr_opt("mode", network.mode);
                }
            }),
            InterfaceSource::Bridge { bridge } => w.element("source", |w| w.attr("bridge", bridge)),
            InterfaceSource::Internal { name } => {
                w.element_unless_empty("source", |w| w.attr_opt("name", name.as_ref()));
            }
            InterfaceSource::Direct { dev, mode } => w.element("source", |w| {
                w.attr("dev", dev);
                w.attr_opt("mode", *mode);
            }),
            InterfaceSource::Vdpa { dev } => w.element("source", |w| w.attr("dev", dev)),
            InterfaceSource::Hostdev { address } => w.element("source", |w| {
                if let Some(address) = address {
                    address.write(w);
                }
            }),
        }
    }
}

impl SocketSource {
    fn read(node: Node<'_>) -> Result<Self> {
        let mut source = SocketSource {
            address: node.attr("address").map(str::to_string),
            port: node.require("port")?,
            ..Default::default()
        };
        if let Some(local) = node.child("local") {
            source.local_address = local.attr("address").map(str::to_string);
            source.local_port = local.attr_value("port")?;
        }
        Ok(source)
    }

    fn write(&self, w: &mut Writer) {
        w.element("source", |w| {
            w.attr_opt("address", self.address.as_ref());
            w.attr("port", self.port);
            w.element_unless_empty("local", |w| {
                w.attr_opt("address", self.local_address.as_ref());
                w.attr_opt("port", self.local_port);
            });
        });
    }
}

impl InterfaceDriver {
    fn read(node: Node<'_>) -> Result<Self> {
        Ok(InterfaceDriver {
            name: node.attr_value("name")?,
            txmode: node.attr_value("txmode")?,
            ioeventfd: node.attr_value("ioeventfd")?,
            event_idx: node.attr_value("event_idx")?,
            queues: node.attr_value("queues")?,
            rx_queue_size: node.attr_value("rx_queue_size")?,
            tx_queue_size: node.attr_value("tx_queue_size")?,
            rss: node.attr_value("rss")?,
            rss_hash_report: node.attr_value("rss_hash_report")?,
            virtio: VirtioOptions::read(node)?,
            host: node.child("host").map(OffloadHost::read).transpose()?,
            guest: node.child("guest").map(OffloadGuest::read).transpose()?,
        })
    }

    fn write(&self, w: &mut Writer) {
        w.element_unless_empty("driver", |w| {
            w.attr_opt("name", self.name);
            w.attr_opt("txmode", self.txmode);
            w.attr_opt("ioeventfd", self.ioeventfd);
            w.attr_opt("event_idx", self.event_idx);
            w.attr_opt("queues", self.queues);
            w.attr_opt("rx_queue_size", self.rx_queue_size);
            w.attr_opt("tx_queue_size", self.tx_queue_size);
            w.attr_opt("rss", self.rss);
            w.attr_opt("rss_hash_report", self.rss_hash_report);
            self.virtio.write_attrs(w);
            if let Some(host) = &self.host {
                host.write("host", w);
            }
            if let Some(guest) = &self.guest {
                guest.write("guest", w);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;
    use rstest::rstest;

    fn again(xml: &str, inactive: bool) -> Result<String> {
        let o = FormatOptions { inactive, ..Default::default() };
        rewrite(xml, Interface::read, |nic, w| nic.write(w, o))
    }

    #[rstest]
    #[case(
        "<interface type='bridge'>\n  <mac address='52:54:00:ac:ce:01'/>\n  <source bridge='br0'/>\n  \
            <target dev='tap1'/>\n  <model type='virtio'/>\n  <driver name='qemu'/>\n  <mtu size='1450'/>\n  \
            <alias name='net0'/>\n</interface>\n"
    )]
    #[case(
        "<interface type='ethernet'>\n  <ip address='10.0.0.1' family='ipv4' prefix='24'/>\n  \
            <target dev='tap1' managed='no'/>\n</interface>\n"
    )]
    #[case(
        "<interface type='network'>\n  <source network='default' portid='p' bridge='virbr0'/>\n  \
            <vlan trunk='yes'>\n    <tag id='1' nativeMode='untagged'/>\n    <tag id='2'/>\n  </vlan>\n  \
            <bandwidth>\n    <inbound average='1' peak='2' burst='3'/>\n  </bandwidth>\n  <port isolated='yes'/>\n  \
            <filterref filter='clean'>\n    <parameter name='IP' value='1'/>\n  </filterref>\n  <link state='down'/>\n</interface>\n"
    )]
    #[case(
        "<interface type='direct'>\n  <source dev='eth0' mode='bridge'/>\n  \
            <virtualport type='802.1Qbh'>\n    <parameters profileid='x'/>\n  </virtualport>\n</interface>\n"
    )]
    #[case(
        "<interface type='udp'>\n  <source address='1.2.3.4' port='55'>\n    <local address='2.3.4.5' port='66'/>\n  </source>\n</interface>\n"
    )]
    #[case(
        "<interface type='vhostuser'>\n  <source type='unix' path='/s' mode='server'/>\n  \
            <model type='virtio'/>\n  <driver queues='4'>\n    <host csum='off'/>\n    <guest ufo='off'/>\n  </driver>\n</interface>\n"
    )]
    #[case(
        "<interface type='hostdev' managed='yes'>\n  <source>\n    \
            <address type='pci' domain='0x0000' bus='0x03' slot='0x07' function='0x1'/>\n  </source>\n</interface>\n"
    )]
    #[case("<interface type='user'>\n  <rom bar='off'/>\n</interface>\n")]
    fn round_trips(#[case] xml: &str) {
        assert_eq!(again(xml, false).expect("reads"), xml);
    }

    #[test]
    fn a_generated_tap_name_belongs_to_a_run() {
        let xml = "<interface type='bridge'><source bridge='b'/><target dev='vnet12'/></interface>";
        assert!(!again(xml, true).expect("reads").contains("vnet12"));
        assert!(again(xml, false).expect("reads").contains("vnet12"));
        let own = "<interface type='bridge'><source bridge='b'/><target dev='vnetwork'/></interface>";
        assert!(again(own, true).expect("reads").contains("vnetwork"));
    }

    #[rstest]
    #[case("<interface type='brigde'/>", "did you mean 'bridge'?")]
    #[case("<interface type='bridge'/>", "interface type='bridge' requires a 'source' element")]
    #[case("<interface type='bridge'><source/></interface>", "Missing required attribute 'bridge' in element 'source'")]
    #[case("<interface type='user'><mac address='x'/></interface>", "unable to parse mac address 'x'")]
    #[case("<interface type='user'><mac address='01:00:00:00:00:01'/></interface>", "expected unicast mac address")]
    #[case("<interface type='user'><mtu size='big'/></interface>", "Expected non-negative integer value")]
    #[case("<interface type='user'><vlan><tag id='4096'/></vlan></interface>", "too large (maximum 4095)")]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let error = again(xml, false).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
    }
}
