//! A small blocking rtnetlink client, for processes too small for an async one: `domus-run` before it starts a guest,
//! and the guest's side of a network namespace.
//!
//! Owns message building and the acknowledgement. One request, one answer, in the network namespace the socket was
//! opened in. Layouts are those of `rtnetlink(7)` and `<linux/if_link.h>`.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const VETH_INFO_PEER: u16 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
const NLA_F_NESTED: u16 = 0x8000;

/// `MACVLAN_MODE_*`
pub mod macvlan_mode {
    pub const PRIVATE: u32 = 1;
    pub const VEPA: u32 = 2;
    pub const BRIDGE: u32 = 4;
    pub const PASSTHROUGH: u32 = 8;
}

/// A macvlan to make.
#[derive(Debug)]
pub struct Macvlan<'a> {
    /// Its name inside.
    pub guest: &'a str,
    pub mac: [u8; 6],
    /// Bytes; `None`: that of the device.
    pub mtu: Option<u32>,
    /// Index of the host's device.
    pub lower: u32,
    /// [`macvlan_mode`]
    pub mode: u32,
}

/// A veth pair to make.
#[derive(Clone, Debug)]
pub struct Veth<'a> {
    /// Name of the end that stays in this network namespace.
    pub host: &'a str,
    /// `IFLA_IFALIAS` of the host end.
    pub alias: &'a str,
    /// Name of the end that is born in the other network namespace.
    pub guest: &'a str,
    /// MAC address of the guest end.
    pub mac: [u8; 6],
    /// MAC address of the host end; `None`: the kernel's choice.
    pub host_mac: Option<[u8; 6]>,
    /// For both ends.
    pub mtu: Option<u32>,
    /// Index of the bridge the host end joins.
    pub master: Option<u32>,
    /// Whether the host end, as a port of the bridge, sees only ports that are not isolated.
    pub isolated: bool,
    /// Whether the host end is up (link state of the guest's carrier).
    pub up: bool,
}

/// An open rtnetlink socket, bound to the network namespace it was opened in.
#[derive(Debug)]
pub struct Rtnl {
    socket: OwnedFd,
}

struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Message {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        Message(bytes)
    }

    /// `struct ifinfomsg`.
    fn link_header(&mut self, index: u32, flags: u32, change: u32) -> &mut Self {
        self.0.extend([0; 4]);
        self.0.extend(index.to_ne_bytes());
        self.0.extend(flags.to_ne_bytes());
        self.0.extend(change.to_ne_bytes());
        self
    }

    fn attr(&mut self, kind: u16, data: &[u8]) -> &mut Self {
        let start = self.open(kind);
        self.0.extend(data);
        self.close(start);
        self
    }

    fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        let start = self.open(kind);
        self.0.extend(text.as_bytes());
        self.0.push(0);
        self.close(start);
        self
    }

    /// What a veth has anyway until somebody raises it. Not said, the kernel makes one for each possible CPU and takes
    /// the others away again: a grace period per end, in which nobody on the host can change a link.
    fn one_queue(&mut self) -> &mut Self {
        self.attr(IFLA_NUM_TX_QUEUES, &1u32.to_ne_bytes()).attr(IFLA_NUM_RX_QUEUES, &1u32.to_ne_bytes())
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.0.extend([0, 0]);
        self.0.extend(kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let len = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
    }
}

impl Rtnl {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Rtnl> {
        // Protocol 0 of this family is NETLINK_ROUTE.
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Rtnl { socket })
    }

    fn call(&self, mut message: Message) -> io::Result<()> {
        let len = message.0.len() as u32;
        message.0[0..4].copy_from_slice(&len.to_ne_bytes());
        rustix::net::send(&self.socket, &message.0, SendFlags::empty())?;
        let mut answer = [0u8; 4096];
        let (len, _) = rustix::net::recv(&self.socket, &mut answer, RecvFlags::empty())?;
        let protocol = || io::Error::from_raw_os_error(nix::libc::EPROTO);
        let answer = answer.get(..len).ok_or_else(protocol)?;
        let kind = answer.get(4..6).ok_or_else(protocol)?;
        if kind != NLMSG_ERROR.to_ne_bytes() {
            return Err(protocol());
        }
        let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).ok_or_else(protocol)?;
        match i32::from_ne_bytes(code) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(-errno)),
        }
    }

    /// Makes a veth pair whose guest end is born inside `netns`: no rename and no move, which would each cost an RCU
    /// grace period. `EEXIST`: a name is taken.
    pub fn add_veth(&self, veth: &Veth<'_>, netns: BorrowedFd<'_>) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
        // An isolated port is set up when it is one: not a frame passes before.
        let flags = if veth.up && !veth.isolated { IFF_UP } else { 0 };
        message.link_header(0, flags, IFF_UP).text(IFLA_IFNAME, veth.host).one_queue();
        if let Some(mac) = veth.host_mac {
            message.attr(IFLA_ADDRESS, &mac);
        }
        if let Some(mtu) = veth.mtu {
            message.attr(IFLA_MTU, &mtu.to_ne_bytes());
        }
        if let Some(master) = veth.master {
            message.attr(IFLA_MASTER, &master.to_ne_bytes());
        }
        let info = message.open(IFLA_LINKINFO | NLA_F_NESTED);
        message.text(IFLA_INFO_KIND, "veth");
        let data = message.open(IFLA_INFO_DATA | NLA_F_NESTED);
        let peer = message.open(VETH_INFO_PEER | NLA_F_NESTED);
        message.link_header(0, 0, 0).text(IFLA_IFNAME, veth.guest).attr(IFLA_ADDRESS, &veth.mac).one_queue();
        if let Some(mtu) = veth.mtu {
            message.attr(IFLA_MTU, &mtu.to_ne_bytes());
        }
        message.attr(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
        message.close(peer);
        message.close(data);
        message.close(info);
        self.call(message)?;
        // The kernel takes no alias while it makes a link; the name is derived from the run, so until the alias is
        // there the link is still recognisable.
        self.set_alias(veth.host, veth.alias)?;
        if veth.isolated {
            let index = index_of(veth.host)?;
            self.isolate(index)?;
            self.set_up(index, veth.up)?;
        }
        Ok(())
    }

    /// Makes a macvlan that is born inside `netns`. `EBUSY`, and `EINVAL` for a device in passthrough mode: another one
    /// has the device for itself.
    pub fn add_macvlan(&self, macvlan: &Macvlan<'_>, netns: BorrowedFd<'_>) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
        message.link_header(0, 0, 0).text(IFLA_IFNAME, macvlan.guest).attr(IFLA_ADDRESS, &macvlan.mac);
        if let Some(mtu) = macvlan.mtu {
            message.attr(IFLA_MTU, &mtu.to_ne_bytes());
        }
        message.attr(IFLA_LINK, &macvlan.lower.to_ne_bytes());
        message.attr(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
        let info = message.open(IFLA_LINKINFO | NLA_F_NESTED);
        message.text(IFLA_INFO_KIND, "macvlan");
        let data = message.open(IFLA_INFO_DATA | NLA_F_NESTED);
        message.attr(IFLA_MACVLAN_MODE, &macvlan.mode.to_ne_bytes());
        message.close(data);
        message.close(info);
        self.call(message)
    }

    fn isolate(&self, index: u32) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, 0);
        message.link_header(index, 0, 0);
        let info = message.open(IFLA_LINKINFO | NLA_F_NESTED);
        message.text(IFLA_INFO_SLAVE_KIND, "bridge");
        let data = message.open(IFLA_INFO_SLAVE_DATA | NLA_F_NESTED);
        message.attr(IFLA_BRPORT_ISOLATED, &[1]);
        message.close(data);
        message.close(info);
        self.call(message)
    }

    fn set_alias(&self, name: &str, alias: &str) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, 0);
        message.link_header(0, 0, 0).text(IFLA_IFNAME, name).attr(IFLA_IFALIAS, alias.as_bytes());
        self.call(message)
    }

    /// Sets a link up, found by its name. `ENODEV`: there is none.
    pub fn set_up_named(&self, name: &str) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, 0);
        message.link_header(0, IFF_UP, IFF_UP).text(IFLA_IFNAME, name);
        self.call(message)
    }

    /// Sets a link up or down.
    pub fn set_up(&self, index: u32, up: bool) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, 0);
        message.link_header(index, if up { IFF_UP } else { 0 }, IFF_UP);
        self.call(message)
    }

    /// Removes a link (both ends of a veth).
    pub fn remove(&self, index: u32) -> io::Result<()> {
        let mut message = Message::new(RTM_DELLINK, 0);
        message.link_header(index, 0, 0);
        self.call(message)
    }

    /// Gives a link an address. `peer`: the other end of a point-to-point link.
    pub fn add_address(&self, index: u32, address: IpAddr, prefix: u8, peer: Option<IpAddr>) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
        message.0.extend([family(address), prefix, 0, 0]);
        message.0.extend(index.to_ne_bytes());
        const IFA_ADDRESS: u16 = 1;
        const IFA_LOCAL: u16 = 2;
        const IFA_BROADCAST: u16 = 4;
        message.attr(IFA_LOCAL, &octets(address));
        message.attr(IFA_ADDRESS, &octets(peer.unwrap_or(address)));
        if let (IpAddr::V4(v4), None) = (address, peer)
            && prefix < 31
        {
            let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            message.attr(IFA_BROADCAST, &(v4.to_bits() | host).to_be_bytes());
        }
        self.call(message)
    }

    /// Adds a route through `gateway` on a link; `None` = directly reachable.
    pub fn add_route(
        &self,
        index: u32,
        destination: IpAddr,
        prefix: u8,
        gateway: Option<IpAddr>,
        metric: Option<u32>,
    ) -> io::Result<()> {
        const RT_TABLE_MAIN: u8 = 254;
        const RTPROT_BOOT: u8 = 3;
        const RT_SCOPE_LINK: u8 = 253;
        const RTN_UNICAST: u8 = 1;
        const RTA_DST: u16 = 1;
        const RTA_OIF: u16 = 4;
        const RTA_GATEWAY: u16 = 5;
        const RTA_PRIORITY: u16 = 6;
        let mut message = Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
        let scope = if gateway.is_none() { RT_SCOPE_LINK } else { 0 };
        message.0.extend([family(destination), prefix, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST]);
        message.0.extend(0u32.to_ne_bytes());
        if prefix > 0 {
            message.attr(RTA_DST, &octets(destination));
        }
        if let Some(gateway) = gateway {
            message.attr(RTA_GATEWAY, &octets(gateway));
        }
        if let Some(metric) = metric {
            message.attr(RTA_PRIORITY, &metric.to_ne_bytes());
        }
        message.attr(RTA_OIF, &index.to_ne_bytes());
        self.call(message)
    }
}

/// Removes a link (both ends of a veth) and returns as soon as it and its name are gone, which the kernel announces long
/// before its answer: that one waits until nobody can hold the link's memory any more (10 ms and more). A thread of its
/// own waits for it. Blocks the calling thread. `ENODEV`: no such link.
pub fn remove_announced(index: u32) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    const RTMGRP_LINK: u32 = 1;
    let news = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&news, &rustix::net::netlink::SocketAddrNetlink::new(0, RTMGRP_LINK))?;
    let rtnl = Rtnl::open()?;
    let (over, hold) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let remover = std::thread::Builder::new().name("link-removal".into()).spawn(move || {
        let result = rtnl.remove(index);
        drop(hold);
        result
    })?;
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        let mut fds = [PollFd::new(news.as_fd(), PollFlags::POLLIN), PollFd::new(over.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            result => result?,
        };
        let [announced, answered] = fds.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        // News that were lost are in the answer too.
        if announced
            && let Ok((len, _)) = rustix::net::recv(&news, &mut buffer, RecvFlags::DONTWAIT)
            && tells_removal(buffer.get(..len).unwrap_or_default(), index)
        {
            return Ok(());
        }
        if answered {
            let panicked = |_| io::Error::other("the thread that removes a link panicked");
            return remover.join().map_err(panicked)?;
        }
    }
}

/// Whether one of the messages says that the link is gone. A bridge tells of a port that leaves in the same words, but
/// with a family of its own.
fn tells_removal(mut messages: &[u8], index: u32) -> bool {
    while let Some(header) = messages.first_chunk::<16>() {
        let [a, b, c, d, kind @ .., _, _, _, _, _, _, _, _, _, _] = *header;
        let len = u32::from_ne_bytes([a, b, c, d]) as usize;
        let family_is_none = messages.get(16) == Some(&0);
        let about = messages.get(20..24).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
        if u16::from_ne_bytes(kind) == RTM_DELLINK && family_is_none && about == Some(index) {
            return true;
        }
        match messages.get(len.next_multiple_of(4).max(16)..) {
            Some(rest) => messages = rest,
            None => return false,
        }
    }
    false
}

/// The loopback interface's index, in every network namespace (`LOOPBACK_IFINDEX`).
pub const LOOPBACK: u32 = 1;

/// MTU of the interface `name` in the calling thread's network namespace, bytes (`SIOCGIFMTU`, netdevice(7)).
pub fn mtu_of(name: &str) -> io::Result<u32> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: of plain numbers, for which zeros are values.
    let mut request: nix::libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(nix::libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as nix::libc::c_char;
    }
    // SAFETY: the call reads and writes one ifreq, whose name ends with a zero.
    if unsafe { nix::libc::ioctl(socket.as_raw_fd(), nix::libc::SIOCGIFMTU as _, &raw mut request) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has set this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_mtu }.try_into().unwrap_or(0))
}

/// Index of the interface `name` in the calling thread's network namespace.
pub fn index_of(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { nix::libc::AF_INET as u8 } else { nix::libc::AF_INET6 as u8 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_link_is_gone() {
        let work = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
            let own = std::fs::File::open("/proc/thread-self/ns/net")?;
            let veth = Veth {
                host: "left",
                alias: "a test",
                guest: "right",
                mac: [2, 0, 0, 0, 0, 1],
                host_mac: None,
                mtu: None,
                master: None,
                isolated: false,
                up: true,
            };
            use std::os::fd::AsFd;
            Rtnl::open()?.add_veth(&veth, own.as_fd())?;
            let index = index_of("left")?;
            remove_announced(index)?;
            assert!(index_of("left").is_err());
            io::Result::Ok(remove_announced(index).unwrap_err().raw_os_error())
        };
        match std::thread::spawn(work).join().unwrap() {
            Err(error) => eprintln!("SKIP a_removed_link_is_gone: {error}"),
            Ok(errno) => assert_eq!(errno, Some(nix::libc::ENODEV)),
        }
    }

    #[test]
    fn only_the_link_itself_counts_as_removed() {
        let message = |kind: u16, family: u8, index: u32| {
            let mut bytes = Message::new(kind, 0);
            bytes.link_header(index, 0, 0).text(IFLA_IFNAME, "a");
            bytes.0[16] = family;
            let len = bytes.0.len() as u32;
            bytes.0[..4].copy_from_slice(&len.to_ne_bytes());
            bytes.0
        };
        let port = message(RTM_DELLINK, nix::libc::AF_BRIDGE as u8, 7);
        let others = [port, message(RTM_NEWLINK, 0, 7), message(RTM_DELLINK, 0, 8)].concat();
        assert!(!tells_removal(&others, 7));
        assert!(tells_removal(&[others, message(RTM_DELLINK, 0, 7)].concat(), 7));
        assert!(!tells_removal(&[0; 40], 7) && !tells_removal(&[], 7));
    }

    #[test]
    fn attributes_are_padded_and_sized() {
        let mut message = Message::new(RTM_NEWLINK, 0);
        message.link_header(0, 0, 0).text(IFLA_IFNAME, "ab");
        assert_eq!(message.0.len(), 16 + 16 + 8);
        assert_eq!(message.0[32..36], [7, 0, 3, 0]);
    }
}
