//! Links over rtnetlink: look up, change, remove. Errors name the operation, the interface and the kernel's reason.

use std::io;

use futures_util::stream::TryStreamExt;
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoKind, InfoPortData, LinkAttribute, LinkFlags, LinkInfo as Info, LinkMessage,
};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth};

use crate::error::{Error, Result, Subsystem};
use crate::types::MacAddr;

/// A netlink socket; closed when dropped. Cheap to make: one per piece of work.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    reader: tokio::task::JoinHandle<()>,
}

/// A link as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkInfo {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    pub mac: Option<MacAddr>,
    pub up: bool,
    /// Index of the bridge it is a port of.
    pub controller: Option<u32>,
    pub is_bridge: bool,
    /// As a port of a bridge, whether it is isolated from other such ports.
    pub isolated: bool,
    /// `IFLA_IFALIAS`.
    pub alias: Option<String>,
}

/// Counters as the host sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// What to change; `None` leaves a thing as it is. All goes to the kernel in one message.
#[derive(Clone, Debug, Default)]
pub struct LinkChange {
    pub mac: Option<MacAddr>,
    pub mtu: Option<u32>,
    /// Index of the bridge to join.
    pub controller: Option<u32>,
    pub alias: Option<String>,
    pub up: Option<bool>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Netlink {
    /// Opens a socket in the daemon's network namespace. Needs a tokio runtime.
    pub fn open() -> Result<Netlink> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|error| Error::system("cannot open a netlink socket", error).with_subsystem(Subsystem::Net))?;
        Ok(Netlink { handle, reader: tokio::spawn(connection) })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The link with this index; `None` when there is none.
    pub async fn find_index(&self, index: u32) -> Result<Option<LinkInfo>> {
        match self.handle.link().get().match_index(index).execute().try_next().await {
            Ok(message) => Ok(message.map(|message| describe(&message))),
            Err(error) if errno(&error) == Some(nix::libc::ENODEV) => Ok(None),
            Err(error) => Err(failed(&format!("cannot look up interface {index}"), error)),
        }
    }

    /// All links of the namespace.
    pub async fn list(&self) -> Result<Vec<LinkInfo>> {
        let found: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| failed("cannot list interfaces", error))?;
        Ok(found.iter().map(describe).collect())
    }

    async fn message(&self, name: &str) -> Result<Option<LinkMessage>> {
        let mut found = self.handle.link().get().match_name(name).execute();
        match found.try_next().await {
            Ok(message) => Ok(message),
            Err(error) => match errno(&error) {
                Some(nix::libc::ENODEV) => Ok(None),
                _ => Err(failed(&format!("cannot look up interface '{name}'"), error)),
            },
        }
    }

    /// The link called `name`; `None` when there is none.
    pub async fn find(&self, name: &str) -> Result<Option<LinkInfo>> {
        Ok(self.message(name).await?.map(|message| describe(&message)))
    }

    /// The link called `name`. Errors: code 38, libvirt's text for a missing interface.
    pub async fn get(&self, name: &str) -> Result<LinkInfo> {
        match self.find(name).await? {
            Some(info) => Ok(info),
            None => Err(Error::system(
                format!("cannot get interface '{name}'"),
                io::Error::from_raw_os_error(nix::libc::ENODEV),
            )
            .with_subsystem(Subsystem::Net)),
        }
    }

    /// Counters of the link; `None` when it is gone.
    pub async fn stats(&self, name: &str) -> Result<Option<LinkStats>> {
        let Some(message) = self.message(name).await? else { return Ok(None) };
        Ok(message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(LinkStats {
                rx_bytes: stats.rx_bytes,
                rx_packets: stats.rx_packets,
                rx_errors: stats.rx_errors,
                rx_dropped: stats.rx_dropped,
                tx_bytes: stats.tx_bytes,
                tx_packets: stats.tx_packets,
                tx_errors: stats.tx_errors,
                tx_dropped: stats.tx_dropped,
            }),
            _ => None,
        }))
    }

    /// Changes a link in one step. `what` begins the error text.
    pub async fn change(&self, index: u32, change: LinkChange, what: &str) -> Result<()> {
        let mut builder = LinkUnspec::new_with_index(index);
        if let Some(mac) = change.mac {
            builder = builder.address(mac.0.to_vec());
        }
        if let Some(mtu) = change.mtu {
            builder = builder.mtu(mtu);
        }
        if let Some(controller) = change.controller {
            builder = builder.controller(controller);
        }
        if let Some(alias) = change.alias {
            builder = builder.alias(alias);
        }
        builder = match change.up {
            Some(true) => builder.up(),
            Some(false) => builder.down(),
            None => builder,
        };
        self.handle.link().set(builder.build()).execute().await.map_err(|error| failed(what, error))
    }

    /// Makes a bridge and sets it up. Errors: code 38, `File exists` when the name is taken.
    pub async fn add_bridge(&self, name: &str) -> Result<()> {
        let message = LinkBridge::new(name).up().build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(|error| failed(&format!("Unable to create bridge {name}"), error))
    }

    /// Makes a pair of linked Ethernet interfaces, both down. Errors: code 38, `File exists` when a name is taken.
    pub async fn add_veth(&self, name: &str, peer: &str) -> Result<()> {
        let added = self.handle.link().add(LinkVeth::new(name, peer).build()).execute().await;
        added.map_err(|error| failed(&format!("unable to create {name}/{peer} veth pair"), error))
    }

    /// Gives a link an address. Errors: code 38, `File exists` when it has it.
    pub async fn add_address(&self, index: u32, address: std::net::IpAddr, prefix: u8) -> Result<()> {
        let added = self.handle.address().add(index, address, prefix).execute().await;
        added.map_err(|error| failed(&format!("cannot add address {address}/{prefix} to interface {index}"), error))
    }

    /// Removes a link of the daemon's network namespace by index. One that is gone is no error.
    pub async fn remove(&self, index: u32, name: &str) -> Result<()> {
        let removed = tokio::task::spawn_blocking(move || crate::sys::rtnl::remove_announced(index)).await;
        match removed.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Err(error) if error.raw_os_error() != Some(nix::libc::ENODEV) => {
                Err(Error::system(format!("cannot remove interface '{name}'"), error).with_subsystem(Subsystem::Net))
            }
            _ => Ok(()),
        }
    }
}

/// Removes the link `name` if it carries `alias` (any, when none is given): never somebody else's of the same name.
pub async fn remove_if_ours(name: &str, alias: Option<&str>) -> Result<()> {
    let netlink = Netlink::open()?;
    let Some(info) = netlink.find(name).await? else { return Ok(()) };
    if alias.is_some() && info.alias.as_deref() != alias {
        tracing::info!(name, "an interface of this name exists but is not ours; left alone");
        return Ok(());
    }
    netlink.remove(info.index, name).await
}

fn describe(message: &LinkMessage) -> LinkInfo {
    let mut info = LinkInfo {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        ..LinkInfo::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => info.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => info.mtu = *mtu,
            LinkAttribute::Address(bytes) => info.mac = bytes.as_slice().try_into().ok().map(MacAddr),
            LinkAttribute::Controller(index) => info.controller = Some(*index).filter(|index| *index != 0),
            LinkAttribute::IfAlias(alias) => info.alias = Some(alias.clone()),
            LinkAttribute::LinkInfo(parts) => {
                info.is_bridge |= parts.iter().any(|part| matches!(part, Info::Kind(InfoKind::Bridge)));
                info.isolated |= parts.iter().any(|part| match part {
                    Info::PortData(InfoPortData::BridgePort(port)) => port.contains(&InfoBridgePort::Isolated(true)),
                    _ => false,
                });
            }
            _ => {}
        }
    }
    info
}

pub(super) fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|code| -code.get()),
        _ => None,
    }
}

/// The crate's own text holds raw bytes; only the errno is of use.
pub(super) fn failed(what: &str, error: rtnetlink::Error) -> Error {
    let error = match errno(&error) {
        Some(errno) => Error::system(what, io::Error::from_raw_os_error(errno)),
        None => Error::internal(format!("{what}: netlink request failed")).with_source(error),
    };
    error.with_subsystem(Subsystem::Net)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::in_netns_async;

    #[test]
    fn a_pair_and_an_address() {
        in_netns_async("a_pair_and_an_address", async || {
            let netlink = Netlink::open().unwrap();
            netlink.add_veth("left", "right").await.unwrap();
            let taken = netlink.add_veth("left", "other").await.unwrap_err();
            assert_eq!(taken.message(), "unable to create left/other veth pair: File exists");
            let left = netlink.get("left").await.unwrap();
            let address = "192.0.2.1".parse().unwrap();
            netlink.add_address(left.index, address, 24).await.unwrap();
            let twice = netlink.add_address(left.index, address, 24).await.unwrap_err();
            assert!(twice.message().ends_with("File exists"), "{twice}");
            netlink.remove(left.index, "left").await.unwrap();
            // One end takes the other with it.
            assert_eq!(netlink.find("right").await.unwrap(), None);
            let gone = netlink.get("left").await.unwrap_err();
            assert_eq!(gone.message(), "cannot get interface 'left': No such device");
        });
    }
}
