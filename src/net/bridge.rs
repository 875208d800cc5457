//! Bridges of virtual networks: made in one message, recognised by MAC and alias, taken away only when they are ours.
//!
//! A bridge carries its MAC from the instant it exists, for the kernel takes no alias while it makes a link: a daemon
//! killed in between finds its bridge again by the MAC of its record.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_route::link::{BridgeStpState, InfoBridge, InfoBridgePort};
use rtnetlink::{LinkBridge, LinkBridgePort};
use serde::{Deserialize, Serialize};

use super::address::AddressSpec;
use super::link::{LinkChange, LinkInfo, Netlink, failed};
use crate::error::{Error, Result, Subsystem};
use crate::types::MacAddr;

/// A bridge to make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeSpec {
    pub name: String,
    /// `IFLA_IFALIAS`: says whose it is.
    pub alias: String,
    pub mac: MacAddr,
    /// Bytes; `None` = the kernel's.
    pub mtu: Option<u32>,
    pub stp: bool,
    /// Milliseconds before a new port forwards.
    pub forward_delay: u32,
    pub vlan_filtering: bool,
    pub addresses: Vec<AddressSpec>,
    /// Whether the bridge takes part in IPv6 at all; without it the host's side has not even a link-local address.
    pub ipv6: bool,
}

/// What a record needs to find a bridge of ours again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeMark {
    pub name: String,
    pub alias: String,
    pub mac: MacAddr,
}

impl BridgeSpec {
    /// What goes into the record before [`create`].
    pub fn mark(&self) -> BridgeMark {
        BridgeMark { name: self.name.clone(), alias: self.alias.clone(), mac: self.mac }
    }
}

impl BridgeMark {
    /// Whether `link` is the bridge this mark was written for.
    pub fn is_on(&self, link: &LinkInfo) -> bool {
        link.is_bridge
            && link.name == self.name
            && match &link.alias {
                Some(alias) => *alias == self.alias,
                None => link.mac == Some(self.mac),
            }
    }
}

/// How a guest's interface behaves as a port of a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortChange {
    /// `IFLA_BRPORT_ISOLATED`: isolated ports see only those that are not.
    pub isolated: Option<bool>,
    /// Whether the bridge learns addresses from this port.
    pub learning: Option<bool>,
    /// Whether frames for unknown addresses go out of this port.
    pub unicast_flood: Option<bool>,
}

/// Makes the bridge, gives it its alias, addresses and IPv6 settings, and sets it up. On error it may be there in part;
/// [`remove`] with its mark takes it away. Errors: code 38 with libvirt's text when the name is taken.
pub async fn create(spec: &BridgeSpec) -> Result<()> {
    let netlink = Netlink::open()?;
    make(&netlink, spec).await?;
    let index = netlink.get(&spec.name).await?.index;
    let alias = LinkChange { alias: Some(spec.alias.clone()), ..LinkChange::default() };
    netlink.change(index, alias, &format!("cannot mark bridge '{}'", spec.name)).await?;
    // Before the link is up, or the kernel gives it a link-local address and solicits routers on it.
    ipv6_settings(&spec.name, spec.ipv6)?;
    for address in &spec.addresses {
        netlink.add_address_spec(index, address).await?;
    }
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    netlink.change(index, up, &format!("failed to bring bridge '{}' up", spec.name)).await
}

async fn make(netlink: &Netlink, spec: &BridgeSpec) -> Result<()> {
    let mut builder = LinkBridge::new(&spec.name).down().address(spec.mac.0.to_vec());
    if let Some(mtu) = spec.mtu {
        builder = builder.mtu(mtu);
    }
    let stp = if spec.stp { BridgeStpState::KernelStp } else { BridgeStpState::Disabled };
    // The kernel counts in hundredths of a second, and takes 2 to 30 s only from a bridge that runs STP.
    builder = builder
        .append_info_data(InfoBridge::ForwardDelay(spec.forward_delay / 10))
        .append_info_data(InfoBridge::StpState(stp));
    if spec.vlan_filtering {
        builder = builder.append_info_data(InfoBridge::VlanFiltering(true));
    }
    let added = netlink.handle().link().add(builder.build()).execute().await;
    added.map_err(|error| {
        let taken = super::link::errno(&error) == Some(nix::libc::EEXIST);
        let hint = if taken {
            " (an interface of this name exists and is not this network's: see 'ip -d link show')"
        } else {
            ""
        };
        failed(&format!("error creating bridge interface {}{hint}", spec.name), error)
    })
}

/// Removes the bridge if it is the one `mark` was written for. True when there was one to remove.
pub async fn remove(mark: &BridgeMark) -> Result<bool> {
    let netlink = Netlink::open()?;
    let Some(link) = netlink.find(&mark.name).await? else { return Ok(false) };
    if !mark.is_on(&link) {
        tracing::info!(name = mark.name, "an interface of this name exists but is not ours; left alone");
        return Ok(false);
    }
    netlink.remove(link.index, &mark.name).await?;
    Ok(true)
}

/// Changes how the link with this index behaves as a port of the bridge it is in.
pub async fn change_port(netlink: &Netlink, index: u32, name: &str, change: PortChange) -> Result<()> {
    let mut builder = LinkBridgePort::new(index);
    let infos = [
        change.isolated.map(InfoBridgePort::Isolated),
        change.learning.map(InfoBridgePort::Learning),
        change.unicast_flood.map(InfoBridgePort::UnicastFlood),
    ];
    let mut any = false;
    for info in infos.into_iter().flatten() {
        builder = builder.append_info_data(info);
        any = true;
    }
    if !any {
        return Ok(());
    }
    let set = netlink.handle().link().set_port(builder.build()).execute().await;
    set.map_err(|error| failed(&format!("unable to set bridge port settings of {name}"), error))
}

/// With IPv6 the bridge must not configure itself from a guest's advertisements; without, it has no address at all.
fn ipv6_settings(name: &str, ipv6: bool) -> Result<()> {
    if !std::path::Path::new("/proc/sys/net/ipv6").exists() {
        return match ipv6 {
            false => Ok(()),
            true => Err(Error::unsupported_config(format!(
                "bridge '{name}' is to have an IPv6 address, but IPv6 is off in this kernel (ipv6.disable=1)"
            ))
            .with_subsystem(Subsystem::Network)),
        };
    }
    let settings: &[(&str, &str)] = match ipv6 {
        true => &[("disable_ipv6", "0"), ("accept_ra", "0"), ("autoconf", "0")],
        false => &[("disable_ipv6", "1")],
    };
    for (key, value) in settings {
        sysctl(&format!("net/ipv6/conf/{name}/{key}"), value)?;
    }
    Ok(())
}

/// Writes a sysctl of the calling thread's network namespace, when it has another value. Errors: code 38, the file and
/// the reason.
pub fn sysctl(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{key}");
    let fail = |error: io::Error| {
        Error::system(format!("cannot write '{value}' to {path}"), error).with_subsystem(Subsystem::Network)
    };
    if std::fs::read_to_string(&path).map_err(fail)?.trim() == value {
        return Ok(());
    }
    use std::io::Write;
    // Not created: a sysctl that is missing is an error.
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).map_err(fail)?;
    file.write_all(value.as_bytes()).map_err(fail)
}

/// Lets the host pass packets on between its interfaces.
///
/// Errors: code 1 when forwarding IPv6 would flush the routes that an interface took from router advertisements.
pub async fn enable_forwarding(netlink: &Netlink, ipv4: bool, ipv6: bool) -> Result<()> {
    if ipv4 {
        sysctl("net/ipv4/ip_forward", "1")?;
    }
    if ipv6 && std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").is_ok_and(|now| now.trim() != "1") {
        for name in netlink.advertised_route_links().await? {
            let accept = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"));
            if accept.is_ok_and(|value| value.trim() == "1") {
                return Err(Error::internal(format!(
                    "Check the host setup: interface {name} has kernel autoconfigured IPv6 routes and enabling \
                     forwarding without accept_ra set to 2 will cause the kernel to flush them, breaking networking \
                     ('sysctl net.ipv6.conf.{name}.accept_ra=2' allows both)"
                ))
                .with_subsystem(Subsystem::Network));
            }
        }
        sysctl("net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// The route of a `<route>` element, through the bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSpec {
    pub destination: IpAddr,
    pub prefix: u8,
    pub gateway: IpAddr,
    pub metric: Option<u32>,
}

impl RouteSpec {
    /// The subnet it leads to.
    pub fn subnet(&self) -> AddressSpec {
        AddressSpec { address: self.destination, prefix: self.prefix }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::in_netns_async;

    fn spec() -> BridgeSpec {
        BridgeSpec {
            name: "virbr7".into(),
            alias: "domus-network:one".into(),
            mac: "52:54:00:00:00:07".parse().unwrap(),
            mtu: Some(1400),
            stp: true,
            forward_delay: 2000,
            vlan_filtering: false,
            addresses: vec![AddressSpec::new("192.168.122.1", 24), AddressSpec::new("fd00:7::1", 64)],
            ipv6: true,
        }
    }

    fn class(key: &str) -> String {
        // sysfs is bound to the namespace it was mounted in, so look through a thread's own mount of /proc instead.
        std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/virbr7/{key}")).unwrap().trim().to_string()
    }

    #[test]
    fn a_bridge_as_described_and_gone_again() {
        in_netns_async("a_bridge_as_described", async || {
            let netlink = Netlink::open().unwrap();
            create(&spec()).await.unwrap();
            let link = netlink.get("virbr7").await.unwrap();
            assert!(link.is_bridge && link.up);
            assert_eq!((link.mtu, link.mac), (1400, Some(spec().mac)));
            assert_eq!(link.alias.as_deref(), Some("domus-network:one"));
            let addresses = netlink.addresses(Some(link.index)).await.unwrap();
            let texts: Vec<_> = addresses.iter().map(|a| format!("{}/{}", a.address, a.prefix)).collect();
            assert!(texts.contains(&"192.168.122.1/24".into()) && texts.contains(&"fd00:7::1/64".into()), "{texts:?}");
            assert_eq!((class("accept_ra"), class("disable_ipv6")), ("0".into(), "0".into()));

            let taken = create(&spec()).await.unwrap_err();
            assert!(taken.message().starts_with("error creating bridge interface virbr7"), "{taken}");
            assert!(taken.message().ends_with("File exists"), "{taken}");
            let other = BridgeMark { alias: "domus-network:two".into(), ..spec().mark() };
            assert!(!remove(&other).await.unwrap());
            assert!(remove(&spec().mark()).await.unwrap());
            assert!(!remove(&spec().mark()).await.unwrap());
            assert_eq!(netlink.find("virbr7").await.unwrap(), None);
        });
    }

    #[test]
    fn without_ipv6_the_bridge_has_no_address_of_it() {
        in_netns_async("without_ipv6", async || {
            let netlink = Netlink::open().unwrap();
            let spec = BridgeSpec { ipv6: false, addresses: vec![], stp: false, forward_delay: 0, ..spec() };
            create(&spec).await.unwrap();
            assert_eq!(class("disable_ipv6"), "1");
            assert_eq!(netlink.addresses(None).await.unwrap().len(), 0);
        });
    }

    #[test]
    fn a_bridge_that_never_got_its_alias_is_known_by_its_mac() {
        in_netns_async("a_bridge_that_never_got_its_alias", async || {
            let netlink = Netlink::open().unwrap();
            make(&netlink, &spec()).await.unwrap();
            let other = BridgeMark { mac: "52:54:00:00:00:08".parse().unwrap(), ..spec().mark() };
            assert!(!remove(&other).await.unwrap());
            assert!(remove(&spec().mark()).await.unwrap());
        });
    }

    #[test]
    fn isolated_ports_and_forwarding() {
        in_netns_async("isolated_ports", async || {
            let netlink = Netlink::open().unwrap();
            create(&spec()).await.unwrap();
            let bridge = netlink.get("virbr7").await.unwrap().index;
            netlink.add_veth("left", "right").await.unwrap();
            let left = netlink.get("left").await.unwrap().index;
            let none = change_port(&netlink, left, "left", PortChange { isolated: Some(true), ..Default::default() });
            assert!(none.await.is_err());
            let join = LinkChange { controller: Some(bridge), ..LinkChange::default() };
            netlink.change(left, join, "join").await.unwrap();
            let change = PortChange { isolated: Some(true), learning: Some(false), unicast_flood: Some(false) };
            change_port(&netlink, left, "left", change).await.unwrap();
            assert!(netlink.get("left").await.unwrap().isolated);

            enable_forwarding(&netlink, true, true).await.unwrap();
            let read = |key: &str| std::fs::read_to_string(format!("/proc/sys/net/{key}")).unwrap();
            assert_eq!((read("ipv4/ip_forward").trim(), read("ipv6/conf/all/forwarding").trim()), ("1", "1"));
            let error = sysctl("net/ipv4/no_such_thing", "1").unwrap_err();
            assert!(error.message().contains("/proc/sys/net/ipv4/no_such_thing"), "{error}");
        });
    }
}
