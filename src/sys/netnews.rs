//! Announcements of the kernel: that the packet filter, links and addresses, or devices changed.
//!
//! Says only *that* something changed, or in which table of the filter; whoever asks looks for himself. News that overrun
//! the socket's buffer count as a change of everything, so nothing is missed.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;

use super::nfnl::{Messages, Table, table_of};

/// `NFNLGRP_NFTABLES` as a bit of the bind mask.
const NFTABLES: u32 = 1 << (7 - 1);
/// Links, IPv4 addresses and IPv6 addresses (`RTMGRP_*`).
const LINKS: u32 = 1 | 0x10 | 0x100;

/// Tables of the packet filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tables {
    /// News were lost: any of them.
    All,
    These(BTreeSet<Table>),
}

impl Default for Tables {
    fn default() -> Self {
        Tables::These(BTreeSet::new())
    }
}

impl Tables {
    fn add(&mut self, announcement: &[u8]) {
        match self {
            _ if announcement.is_empty() => *self = Tables::All,
            Tables::These(known) => {
                known.extend(Messages(announcement).filter_map(|(kind, body)| table_of(kind, body)));
            }
            Tables::All => {}
        }
    }
}

/// A socket on which the kernel announces changes of the network namespace it was opened in.
#[derive(Debug)]
pub struct News {
    socket: OwnedFd,
}

impl News {
    /// Changes of nftables' tables, chains, rules and sets. Needs CAP_NET_ADMIN and a tokio runtime.
    pub fn of_filter() -> io::Result<News> {
        News::open(Some(netlink::NETFILTER), NFTABLES)
    }

    /// Changes of links and their addresses. Needs a tokio runtime.
    pub fn of_links() -> io::Result<News> {
        // NETLINK_ROUTE is protocol 0.
        News::open(None, LINKS)
    }

    /// Devices that come, go or change ("uevents"). Needs a tokio runtime.
    pub fn of_devices() -> io::Result<News> {
        // Group 1 is the kernel's own, 2 is udev's.
        News::open(Some(netlink::KOBJECT_UEVENT), 1)
    }

    fn open(protocol: Option<rustix::net::Protocol>, groups: u32) -> io::Result<News> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(News { socket })
    }

    /// Waits for news and takes all that are there. Cancellation-safe.
    pub async fn changed(&self) -> io::Result<()> {
        self.heard(|_| ()).await
    }

    /// The same, for the filter: which tables the news are about. Cancellation-safe.
    pub async fn changed_tables(&self) -> io::Result<Tables> {
        let mut changed = Tables::default();
        self.heard(|announcement| changed.add(announcement)).await?;
        Ok(changed)
    }

    /// The tables that news are about which are there, without waiting; `None` when there are none.
    pub fn take_tables(&self) -> io::Result<Option<Tables>> {
        let mut changed = Tables::default();
        let any = self.take(|announcement| changed.add(announcement))?;
        Ok(any.then_some(changed))
    }

    /// Waits for news and takes all that are there; `note` gets every announcement as the kernel wrote it, an empty one
    /// where some were lost or cut. Cancellation-safe.
    pub async fn heard(&self, mut note: impl FnMut(&[u8]) + Send) -> io::Result<()> {
        if self.take(&mut note)? {
            return Ok(());
        }
        // Known to the runtime only while somebody waits: news come in bursts, and would wake it one by one while
        // whoever heard the first lets the burst pass.
        // SAFETY: `self` holds the descriptor open for longer than the registration lives.
        let socket = unsafe { AsyncFd::register_with_interest(self.socket.as_fd(), tokio::io::Interest::READABLE) }?;
        loop {
            let mut ready = socket.readable().await?;
            if self.take(&mut note)? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// Takes what is there and does not wait. Whether there was anything.
    pub fn take(&self, mut note: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut any = false;
        let mut buffer = Vec::with_capacity(64 << 10);
        loop {
            buffer.clear();
            match rustix::net::recv(&self.socket, rustix::buffer::spare_capacity(&mut buffer), RecvFlags::TRUNC) {
                Ok((_, whole)) if whole > buffer.len() => note(&[]),
                Ok(_) => note(&buffer),
                Err(rustix::io::Errno::NOBUFS) => note(&[]),
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => return Ok(any),
                Err(errno) => return Err(errno.into()),
            }
            any = true;
        }
    }
}

/// The subsystem that an announcement of devices is about (`SUBSYSTEM=`, kernel documentation of kobject uevents).
pub fn subsystem(uevent: &[u8]) -> Option<&str> {
    let value = uevent.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"SUBSYSTEM="))?;
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::in_netns_async;

    #[test]
    fn an_announcement_names_its_subsystem() {
        let uevent = b"add@/devices/virtual/net/veth0\0ACTION=add\0SUBSYSTEM=net\0SEQNUM=7\0";
        assert_eq!(subsystem(uevent), Some("net"));
        assert_eq!(subsystem(b""), None);
    }

    #[test]
    fn a_new_link_is_news() {
        in_netns_async("a_new_link_is_news", async || {
            let news = News::of_links().unwrap();
            let name = "news0";
            let _tap = super::super::tap::open(
                Some(name),
                super::super::tap::Options { multi_queue: false, vnet_hdr: false, existing: false },
            )
            .unwrap();
            tokio::time::timeout(std::time::Duration::from_secs(60), news.changed()).await.unwrap().unwrap();
        });
    }
}
