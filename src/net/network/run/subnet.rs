//! Which addresses are free on this host: a network must not take one that the host reaches somewhere else.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::{Error, Result, Subsystem};
use crate::net::address::AddressSpec;
use crate::net::link::Netlink;

/// A subnet that the host has an address in or a route to, and through which interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub subnet: AddressSpec,
    /// Empty when no single interface can be named.
    pub interface: String,
}

/// What the host uses now, in this network namespace.
pub async fn taken(netlink: &Netlink) -> Result<Vec<Taken>> {
    let names: std::collections::HashMap<u32, String> =
        netlink.list().await?.into_iter().map(|link| (link.index, link.name)).collect();
    let name = |index: u32| names.get(&index).cloned().unwrap_or_default();
    let mut found = Vec::new();
    for address in netlink.addresses(None).await? {
        let link_local = matches!(address.address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if !address.address.is_loopback() && !link_local {
            let subnet = AddressSpec { address: address.address, prefix: address.prefix };
            found.push(Taken { subnet, interface: name(address.link) });
        }
    }
    for route in netlink.routes().await? {
        let subnet = AddressSpec { address: route.destination, prefix: route.prefix };
        found.push(Taken { subnet, interface: route.link.map(name).unwrap_or_default() });
    }
    Ok(found)
}

/// Whether two subnets have an address in common.
pub fn overlap(one: AddressSpec, other: AddressSpec) -> bool {
    let prefix = one.prefix.min(other.prefix);
    match (one.address, other.address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            a.to_bits() & mask == b.to_bits() & mask
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            a.to_bits() & mask == b.to_bits() & mask
        }
        _ => false,
    }
}

/// Refuses a network whose subnets the host uses already, other than through `own` bridge. Routes that cover nearly
/// everything (a VPN's halves of the internet) do not count, as a default route does not.
/// Errors: code 1 with libvirt's text, the subnet and what to do.
pub fn check_free(wanted: &[AddressSpec], taken: &[Taken], own: &str) -> Result<()> {
    for subnet in wanted {
        let clash = taken
            .iter()
            .find(|taken| taken.interface != own && taken.subnet.prefix >= 8 && overlap(*subnet, taken.subnet));
        if let Some(Taken { subnet: other, interface }) = clash {
            return Err(Error::internal(format!(
                "Network is already in use by interface {interface}: {}/{} of the network overlaps {}/{} of this host; \
                 choose another subnet with 'domus net-edit'",
                subnet.address, subnet.prefix, other.address, other.prefix
            ))
            .with_subsystem(Subsystem::Network));
        }
    }
    Ok(())
}

/// The host's address in the first free subnet for a network that may move: 192.168.122.0/24 if it is free, then those
/// after it, then those before it, then 10.122.0.0/24 on. `None` when all are taken.
pub fn choose_free(taken: &[Taken]) -> Option<Ipv4Addr> {
    let class_c = (122..=254).chain(2..122).map(|third| Ipv4Addr::new(192, 168, third, 1));
    let class_a = (122..=254).flat_map(|second| (0..=255).map(move |third| Ipv4Addr::new(10, second, third, 1)));
    class_c.chain(class_a).find(|address| {
        let subnet = AddressSpec { address: IpAddr::V4(*address), prefix: 24 };
        !taken.iter().any(|taken| taken.subnet.prefix > 0 && overlap(subnet, taken.subnet))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::bridge::{BridgeSpec, RouteSpec, create};
    use crate::sys::testing::in_netns_async;
    use rstest::rstest;

    fn used(subnets: &[(&str, u8)]) -> Vec<Taken> {
        let of = |(address, prefix): &(&str, u8)| Taken {
            subnet: AddressSpec::new(address, *prefix),
            interface: "eth0".into(),
        };
        subnets.iter().map(of).collect()
    }

    #[rstest]
    #[case(&[], "192.168.122.1")]
    #[case(&[("192.168.122.77", 24)], "192.168.123.1")]
    #[case(&[("192.168.122.0", 23)], "192.168.124.1")]
    #[case(&[("192.168.122.9", 32)], "192.168.123.1")]
    #[case(&[("192.168.0.0", 16)], "10.122.0.1")]
    #[case(&[("192.168.0.0", 16), ("10.122.0.0", 16)], "10.123.0.1")]
    #[case(&[("fd00::1", 8), ("10.0.0.1", 8)], "192.168.122.1")]
    fn the_next_free_one(#[case] taken: &[(&str, u8)], #[case] expect: &str) {
        assert_eq!(choose_free(&used(taken)), Some(expect.parse().unwrap()));
    }

    #[test]
    fn all_taken() {
        assert_eq!(choose_free(&used(&[("192.168.0.0", 16), ("10.0.0.0", 8)])), None);
    }

    #[test]
    fn an_overlap_is_named() {
        let wanted = [AddressSpec::new("192.168.122.1", 24)];
        let error = check_free(&wanted, &used(&[("192.168.122.200", 28)]), "virbr0").unwrap_err();
        let expect = "internal error: Network is already in use by interface eth0: 192.168.122.1/24 of the network overlaps \
                      192.168.122.200/28 of this host";
        assert!(error.message().starts_with(expect), "{error}");
        check_free(&wanted, &used(&[("192.168.122.200", 28)]), "eth0").unwrap();
        check_free(&wanted, &used(&[("128.0.0.0", 1), ("192.168.123.0", 24)]), "virbr0").unwrap();
    }

    #[test]
    fn addresses_and_routes_of_the_host() {
        in_netns_async("addresses_and_routes_of_the_host", async || {
            let netlink = Netlink::open().unwrap();
            let addresses = vec![AddressSpec::new("192.168.122.1", 24), AddressSpec::new("fd00:1::1", 64)];
            let spec = BridgeSpec {
                name: "br7".into(),
                mac: "52:54:00:00:00:09".parse().unwrap(),
                ipv6: true,
                addresses,
                ..BridgeSpec::default()
            };
            create(&spec).await.unwrap();
            let index = netlink.get("br7").await.unwrap().index;
            let route = |to: &str, prefix, via: &str| RouteSpec {
                destination: to.parse().unwrap(),
                prefix,
                gateway: via.parse().unwrap(),
                metric: Some(3),
            };
            netlink.add_route(index, &route("192.168.124.0", 24, "192.168.122.2")).await.unwrap();
            netlink.add_route(index, &route("fd00:2::", 64, "fd00:1::2")).await.unwrap();
            let bad = netlink.add_route(index, &route("192.168.125.0", 24, "10.0.0.1")).await.unwrap_err();
            assert!(bad.message().starts_with("cannot add route to 192.168.125.0/24 through 10.0.0.1: "), "{bad}");
            let taken = taken(&netlink).await.unwrap();
            assert_eq!(choose_free(&taken), Some(Ipv4Addr::new(192, 168, 123, 1)));
            assert!(taken.iter().all(|taken| taken.interface == "br7"), "{taken:?}");
            check_free(&spec.addresses, &taken, "br7").unwrap();
            let second = [AddressSpec::new("fd00:2::5", 96)];
            assert!(check_free(&second, &taken, "br8").unwrap_err().message().contains("interface br7"));
        });
    }
}
