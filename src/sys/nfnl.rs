//! The names of the packet filter's tables, asked from the kernel itself: a list that the program `nft` takes seconds
//! for when there are hundreds, because it reads everything that is in them as well.
//!
//! Layouts are those of `<linux/netfilter/nf_tables.h>` and `<linux/netfilter/nfnetlink.h>`.

use std::collections::BTreeSet;
use std::io;

use rustix::net::netlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const SUBSYSTEM: u16 = 10 << 8;
const GETTABLE: u16 = SUBSYSTEM | 1;
/// The kernel fills at most so much of one datagram.
const BUFFER: usize = 64 << 10;

/// A table: nftables' number of the family (2 = ip, 10 = ip6, 1 = inet, 7 = bridge, 3 = arp, 5 = netdev) and its name.
pub type Table = (u8, String);

/// All tables of the calling thread's network namespace. Needs CAP_NET_ADMIN.
pub fn tables() -> io::Result<BTreeSet<Table>> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
    let mut request = Vec::with_capacity(20);
    request.extend(20u32.to_ne_bytes());
    request.extend(GETTABLE.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // Sequence number and port, then family, version and resource: all families.
    request.extend([0; 12]);
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    let mut found = BTreeSet::new();
    let mut buffer = vec![0u8; BUFFER];
    loop {
        let (len, _) = match rustix::net::recv(&socket, &mut buffer, RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            received => received?,
        };
        for (kind, body) in Messages(buffer.get(..len).unwrap_or_default()) {
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => {
                    let code = body.first_chunk().map_or(nix::libc::EPROTO, |code| -i32::from_ne_bytes(*code));
                    return Err(io::Error::from_raw_os_error(code));
                }
                _ => found.extend(table_of(kind, body)),
            }
        }
    }
}

/// Netlink messages of a datagram: type and body.
pub(super) struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [a, b, c, d, e, f, ..] = *self.0.first_chunk::<16>()?;
        let len = u32::from_ne_bytes([a, b, c, d]) as usize;
        let body = self.0.get(16..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([e, f]), body))
    }
}

/// The table that a message of nftables is about: the first attribute of a table, chain, rule, set, element or object
/// is its table's name.
pub(super) fn table_of(kind: u16, body: &[u8]) -> Option<Table> {
    if kind & 0xff00 != SUBSYSTEM {
        return None;
    }
    let family = *body.first()?;
    let mut rest = body.get(4..)?;
    loop {
        let [a, b, c, d] = *rest.first_chunk::<4>()?;
        let (len, attribute) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]) & 0x3fff);
        let value = rest.get(4..len)?;
        if attribute == 1 {
            let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
            return Some((family, String::from_utf8_lossy(text).into_owned()));
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_table() {
        // NEWRULE of table "t" in family ip, its table after another attribute.
        let mut bytes = vec![40, 0, 0, 0, 6, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 9];
        bytes.extend([8, 0, 3, 0, 7, 7, 7, 7, 6, 0, 1, 0, b't', 0, 0, 0]);
        bytes.extend([0; 4]);
        let found: Vec<_> = Messages(&bytes).map(|(kind, body)| table_of(kind, body)).collect();
        assert_eq!(found, [Some((2, "t".to_string()))]);
        assert_eq!(table_of(SUBSYSTEM | 15, &[0, 0, 0, 5, 8, 0, 2, 0, 0, 0, 0, 1]), None);
        assert_eq!(Messages(&bytes[..30]).count(), 0);
        for cut in 0..bytes.len() {
            assert!(Messages(&bytes[..cut]).all(|(kind, body)| table_of(kind, body).is_some()));
        }
    }
}
