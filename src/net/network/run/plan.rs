//! From a definition to its [`Plan`]: pure.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::foreign::Traffic;
use super::nft::TableName;
use super::server::ServerSpec;
use super::step::Step;
use crate::domain_xml::device::net_options::Bandwidth;
use crate::error::{Error, Result, Subsystem};
use crate::net::address::AddressSpec;
use crate::net::bandwidth::{BandwidthSpec, Rate};
use crate::net::bridge::{BridgeSpec, RouteSpec};
use crate::net::network::{ForwardMode, NetworkDef};

/// All that a network needs of the host, as data. Networks that use a bridge or device of the host need nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// Name of the network, for errors and the log.
    pub name: String,
    /// Run directory of the network.
    pub dir: PathBuf,
    pub bridge: Option<BridgeSpec>,
    /// The host must pass on packets of this family.
    pub forward_ipv4: bool,
    pub forward_ipv6: bool,
    /// The network's own tables, and nft's commands that make them.
    pub tables: Vec<TableName>,
    pub rules: String,
    pub routes: Vec<RouteSpec>,
    pub bandwidth: BandwidthSpec,
    pub server: Option<ServerSpec>,
}

/// What a definition does not say.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Run directory of the network; goes with it.
    pub dir: PathBuf,
    /// dnsmasq's lease file; outlives the run.
    pub leases: PathBuf,
    /// The network's tables and the commands that make them.
    pub tables: Vec<TableName>,
    pub rules: String,
    /// dnsmasq's configuration without its own files, hosts by MAC address, and hosts by name; none without a server.
    pub server: Option<[String; 3]>,
}

/// Files of the run directory that dnsmasq reads.
pub const HOSTS: &str = "hosts";
pub const ADDN_HOSTS: &str = "addnhosts";

impl Plan {
    /// What is to be made for `def`. Errors: code 1 when the definition is not complete, code 67 when it has what
    /// cannot be made.
    pub fn of(def: &NetworkDef, around: Surroundings) -> Result<Plan> {
        let name = def.name.clone();
        let mut plan = Plan { name: name.clone(), dir: around.dir.clone(), ..Plan::default() };
        if !def.owns_bridge() {
            return Ok(plan);
        }
        let incomplete =
            |what: &str| Error::internal(format!("network '{name}' has no {what}")).with_subsystem(Subsystem::Network);
        let bridge = def.bridge_name().ok_or_else(|| incomplete("bridge name"))?;
        let uuid = def.uuid.ok_or_else(|| incomplete("uuid"))?;
        let addresses: Vec<AddressSpec> = def
            .ips
            .iter()
            .map(|ip| {
                let prefix = ip.prefix_length().and_then(|prefix| u8::try_from(prefix).ok());
                let prefix = prefix.ok_or_else(|| {
                    Error::internal(format!(
                        "bridge '{bridge}' has an invalid netmask or IP address for {}: give it a prefix",
                        ip.address
                    ))
                    .with_subsystem(Subsystem::Network)
                })?;
                Ok(AddressSpec { address: ip.address, prefix })
            })
            .collect::<Result<_>>()?;
        let has = |v6: bool| addresses.iter().any(|one| one.address.is_ipv6() == v6);
        let forwards = def.forward.mode != ForwardMode::None;
        plan.forward_ipv4 = forwards && has(false);
        plan.forward_ipv6 = forwards && has(true);
        plan.routes = def
            .routes
            .iter()
            .map(|route| {
                let prefix = route.prefix_length().and_then(|prefix| u8::try_from(prefix).ok());
                let prefix = prefix.ok_or_else(|| {
                    Error::internal(format!("network '{name}' has a route to {} with a bad netmask", route.address))
                        .with_subsystem(Subsystem::Network)
                })?;
                let (destination, gateway) = (route.address, route.gateway);
                Ok(RouteSpec { destination, prefix, gateway, metric: route.metric })
            })
            .collect::<Result<_>>()?;
        plan.bandwidth = def.bandwidth.as_ref().map(limits).unwrap_or_default();
        plan.bridge = Some(BridgeSpec {
            name: bridge.to_string(),
            alias: format!("domus-network:{uuid}"),
            mac: def.mac.ok_or_else(|| incomplete("MAC address"))?,
            mtu: def.mtu,
            stp: def.bridge.stp,
            forward_delay: u32::try_from(def.bridge.delay.saturating_mul(1000)).unwrap_or(u32::MAX),
            vlan_filtering: false,
            ipv6: has(true),
            addresses,
        });
        plan.server = around.server.map(|texts| server(&name, &around.dir, &around.leases, texts));
        plan.tables = around.tables;
        plan.rules = around.rules;
        Ok(plan)
    }

    /// What goes into the record before a start.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Dir { path: self.dir.clone() }];
        if !self.tables.is_empty() {
            steps.push(Step::Tables { tables: self.tables.clone() });
        }
        if let Some(bridge) = &self.bridge {
            if self.forwards() {
                steps.push(Step::Docker { bridge: bridge.name.clone() });
            }
            steps.push(Step::Bridge { mark: bridge.mark() });
        }
        if let Some(server) = &self.server {
            steps.push(Step::Server { pidfile: server.pidfile() });
        }
        steps
    }

    /// Whether guests reach other networks through the host.
    pub fn forwards(&self) -> bool {
        self.forward_ipv4 || self.forward_ipv6
    }

    /// What of the network others could keep it from.
    pub(super) fn traffic(&self) -> Traffic {
        Traffic { forwards: self.forwards(), serves: self.server.is_some() }
    }

    pub(super) fn prints_file(&self) -> PathBuf {
        self.dir.join("firewall.json")
    }
}

fn server(name: &str, dir: &Path, leases: &Path, [conf, hosts, addn_hosts]: [String; 3]) -> ServerSpec {
    let (path, ready) = (dir.join("dnsmasq.conf"), dir.join("dnsmasq.pid"));
    let conf = format!("pid-file={}\ndhcp-leasefile={}\n{conf}", ready.display(), leases.display());
    ServerSpec {
        network: name.to_string(),
        dir: dir.to_path_buf(),
        files: vec![(path.clone(), conf), (dir.join(HOSTS), hosts), (dir.join(ADDN_HOSTS), addn_hosts)],
        conf: path,
        ready,
        leases: Some(leases.to_path_buf()),
    }
}

/// `<bandwidth>` as a link's limits.
pub fn limits(bandwidth: &Bandwidth) -> BandwidthSpec {
    let rate = |rate: &crate::domain_xml::device::net_options::Rate| Rate {
        average: rate.average.unwrap_or_default(),
        peak: rate.peak.unwrap_or_default(),
        burst: rate.burst.unwrap_or_default(),
    };
    BandwidthSpec {
        inbound: bandwidth.inbound.as_ref().map(rate).filter(|rate| rate.average > 0),
        outbound: bandwidth.outbound.as_ref().map(rate).filter(|rate| rate.average > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<network><name>n</name><uuid>11111111-2222-3333-4444-555555555555</uuid>
        <forward mode='nat'/><bridge name='virbr5' stp='off' delay='2'/><mtu size='1400'/><mac address='52:54:00:00:00:05'/>
        <bandwidth><inbound average='100' peak='200' burst='300'/></bandwidth>
        <ip address='192.168.5.1' netmask='255.255.255.0'/>
        <ip family='ipv6' address='fd00:5::1' prefix='64'/>
        <route address='10.5.0.0' prefix='16' gateway='192.168.5.9' metric='4'/></network>";

    #[test]
    fn a_definition_is_planned() {
        let def = crate::net::network::parse(XML).unwrap().def;
        let around = Surroundings {
            dir: "/run/n".into(),
            leases: "/var/n.leases".into(),
            tables: vec![TableName::new("inet", "n")],
            rules: "table inet n { }".into(),
            server: Some(["interface=virbr5\n".into(), "hosts".into(), "names".into()]),
        };
        let plan = Plan::of(&def, around.clone()).unwrap();
        let bridge = plan.bridge.clone().unwrap();
        assert_eq!((bridge.forward_delay, bridge.stp, bridge.mtu, bridge.ipv6), (2000, false, Some(1400), true));
        assert_eq!(bridge.addresses, [AddressSpec::new("192.168.5.1", 24), AddressSpec::new("fd00:5::1", 64)]);
        assert_eq!(bridge.alias, "domus-network:11111111-2222-3333-4444-555555555555");
        assert!(plan.forward_ipv4 && plan.forward_ipv6);
        assert_eq!((plan.routes[0].prefix, plan.routes[0].metric), (16, Some(4)));
        assert_eq!(plan.bandwidth.inbound, Some(Rate { average: 100, peak: 200, burst: 300 }));
        let server = plan.server.clone().unwrap();
        let conf = "pid-file=/run/n/dnsmasq.pid\ndhcp-leasefile=/var/n.leases\ninterface=virbr5\n";
        assert_eq!(server.files[0], ("/run/n/dnsmasq.conf".into(), conf.to_string()));
        let kinds: Vec<String> = plan
            .steps()
            .iter()
            .map(|step| serde_json::to_value(step).unwrap()["kind"].as_str().unwrap().to_string())
            .collect();
        assert_eq!(kinds, ["dir", "tables", "docker", "bridge", "server"]);

        let alone = XML.replace("<forward mode='nat'/>", "");
        let plan = Plan::of(&crate::net::network::parse(&alone).unwrap().def, around.clone()).unwrap();
        assert!(!plan.forwards());
        let foreign = "<network><name>n</name><forward mode='bridge'/><bridge name='br0'/></network>";
        let plan = Plan::of(&crate::net::network::parse(foreign).unwrap().def, around).unwrap();
        assert_eq!(plan, Plan { name: "n".into(), dir: "/run/n".into(), ..Plan::default() });
    }
}
