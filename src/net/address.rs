//! Addresses, routes and neighbours over rtnetlink: what the host has, and what a network adds.

use std::net::IpAddr;

use futures_util::stream::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::{IpVersion, RouteMessageBuilder};
use serde::{Deserialize, Serialize};

use super::bridge::RouteSpec;
use super::link::{Netlink, errno, failed};
use crate::error::Result;
use crate::types::MacAddr;

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AddressSpec {
    pub address: IpAddr,
    pub prefix: u8,
}

impl AddressSpec {
    #[cfg(test)]
    pub(crate) fn new(address: &str, prefix: u8) -> AddressSpec {
        AddressSpec { address: address.parse().expect("an address"), prefix }
    }
}

/// An address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// Index of the link.
    pub link: u32,
    pub address: IpAddr,
    pub prefix: u8,
}

/// A unicast route of any table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRoute {
    /// Index of the link it goes out of; `None` for multipath and unreachable routes.
    pub link: Option<u32>,
    pub destination: IpAddr,
    pub prefix: u8,
}

/// A neighbour that answered lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub address: IpAddr,
    pub mac: MacAddr,
}

impl Netlink {
    /// Addresses of the host, or of one link.
    pub async fn addresses(&self, link: Option<u32>) -> Result<Vec<HostAddress>> {
        let mut request = self.handle().address().get();
        if let Some(index) = link {
            request = request.set_link_index_filter(index);
        }
        let messages: Vec<AddressMessage> =
            request.execute().try_collect().await.map_err(|error| failed("cannot list addresses", error))?;
        let of = |message: &AddressMessage| {
            // On a point-to-point link the address is the peer's, and the local one ours.
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            });
            let prefix = message.header.prefix_len;
            Some(HostAddress { link: message.header.index, address: local.or(address)?, prefix })
        };
        Ok(messages.iter().filter_map(of).collect())
    }

    /// Gives a link an address that is usable at once: nobody else can have it on a link that we just made.
    pub async fn add_address_spec(&self, index: u32, spec: &AddressSpec) -> Result<()> {
        let mut request = self.handle().address().add(index, spec.address, spec.prefix);
        request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        let AddressSpec { address, prefix } = spec;
        request
            .execute()
            .await
            .map_err(|error| failed(&format!("cannot add address {address}/{prefix} to interface {index}"), error))
    }

    /// Unicast routes of all tables, the kernel's own for its addresses among them, without default routes.
    pub async fn routes(&self) -> Result<Vec<HostRoute>> {
        let messages = self.route_messages().await?;
        Ok(messages.iter().filter_map(|(version, message)| host_route(version, message)).collect())
    }

    /// Names of the links with routes from router advertisements.
    pub async fn advertised_route_links(&self) -> Result<Vec<String>> {
        let mut indexes: Vec<u32> = Vec::new();
        for (_, message) in self.route_messages().await? {
            if message.header.protocol == RouteProtocol::Ra {
                indexes.extend(message.attributes.iter().filter_map(|attribute| match attribute {
                    RouteAttribute::Oif(index) => Some(*index),
                    _ => None,
                }));
            }
        }
        indexes.sort_unstable();
        indexes.dedup();
        let mut names = Vec::new();
        for index in indexes {
            names.extend(self.find_index(index).await?.map(|link| link.name));
        }
        Ok(names)
    }

    async fn route_messages(&self) -> Result<Vec<(IpVersion, RouteMessage)>> {
        let mut all = Vec::new();
        for version in [IpVersion::V4, IpVersion::V6] {
            let ask = match version {
                IpVersion::V4 => RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
                IpVersion::V6 => RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
            };
            let found: Vec<RouteMessage> = match self.handle().route().get(ask).execute().try_collect().await {
                Ok(found) => found,
                // A kernel without this family.
                Err(error) if errno(&error) == Some(nix::libc::EOPNOTSUPP) => continue,
                Err(error) => return Err(failed("cannot list routes", error)),
            };
            all.extend(found.into_iter().map(|message| (version.clone(), message)));
        }
        Ok(all)
    }

    /// Adds a route through a gateway on the link with this index.
    pub async fn add_route(&self, index: u32, route: &RouteSpec) -> Result<()> {
        let RouteSpec { destination, prefix, gateway, metric } = route;
        let what = format!("cannot add route to {destination}/{prefix} through {gateway}");
        let bad = |error| crate::error::Error::internal(what.clone()).with_source(error);
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(*destination, *prefix)
            .map_err(bad)?
            .gateway(*gateway)
            .map_err(bad)?
            .output_interface(index);
        if let Some(metric) = metric {
            builder = builder.priority(*metric);
        }
        let added = self.handle().route().add(builder.build()).execute().await;
        added.map_err(|error| failed(&what, error))
    }

    /// The neighbour table of one link: who has shown that he is there.
    pub async fn neighbours(&self, link: u32) -> Result<Vec<Neighbour>> {
        let found: Vec<_> = self
            .handle()
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| failed("cannot read the neighbour table", error))?;
        let known = |state: NeighbourState| {
            !matches!(state, NeighbourState::Failed | NeighbourState::Incomplete | NeighbourState::Noarp)
        };
        Ok(found
            .iter()
            .filter(|message| message.header.ifindex == link && known(message.header.state))
            .filter_map(|message| {
                let address = message.attributes.iter().find_map(|attribute| match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
                    _ => None,
                })?;
                let mac = message.attributes.iter().find_map(|attribute| match attribute {
                    NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok().map(MacAddr),
                    _ => None,
                })?;
                Some(Neighbour { address, mac })
            })
            .collect())
    }
}

fn host_route(version: &IpVersion, message: &RouteMessage) -> Option<HostRoute> {
    if message.header.kind != RouteType::Unicast || message.header.destination_prefix_length == 0 {
        return None;
    }
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })?;
    // Every link has these; they collide with nothing.
    let link_local = match destination {
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast(),
        IpAddr::V4(v4) => v4.is_multicast(),
    };
    if link_local || (*version == IpVersion::V4) != destination.is_ipv4() {
        return None;
    }
    let link = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    Some(HostRoute { link, destination, prefix: message.header.destination_prefix_length })
}
