//! dnsmasq's lease file: who has which address until when.
//!
//! One lease a line: `EXPIRY MAC ADDRESS HOSTNAME CLIENT-ID`; after a line `duid SERVER-DUID`, IPv6 leases follow as
//! `EXPIRY IAID ADDRESS HOSTNAME CLIENT-DUID`. `*` stands for nothing. dnsmasq rewrites the file in place, so the last
//! line may be cut off: a line that does not hold together is passed over.

use std::net::IpAddr;
use std::path::Path;

use crate::error::{Error, Result, Subsystem};
use crate::types::MacAddr;

/// A DHCP lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Seconds since 1970; 0 = never.
    pub expiry: i64,
    /// Of an IPv6 client, known only when its DUID is made from it.
    pub mac: Option<MacAddr>,
    /// Identity association, IPv6 only.
    pub iaid: Option<String>,
    pub address: IpAddr,
    pub hostname: Option<String>,
    /// Client identifier, or DUID with IPv6.
    pub client_id: Option<String>,
}

impl Lease {
    /// Whether it holds at `now`, seconds since 1970.
    pub fn is_valid(&self, now: i64) -> bool {
        self.expiry == 0 || self.expiry > now
    }
}

/// Reads the lease file; one that is not there holds no leases. Errors: code 38.
pub fn read(path: &Path) -> Result<Vec<Lease>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(parse(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::system(format!("cannot read DHCP leases from '{}'", path.display()), error)
            .with_subsystem(Subsystem::Network)),
    }
}

/// Leases of the file's text, in its order.
pub fn parse(text: &str) -> Vec<Lease> {
    // Only whole lines: a cut-off address may still look like one.
    let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    whole.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Lease> {
    let mut fields = line.split_ascii_whitespace();
    let expiry: i64 = fields.next()?.parse().ok()?;
    let hardware = fields.next()?;
    let address: IpAddr = fields.next()?.parse().ok()?;
    let given = |field: &str| (field != "*").then(|| field.to_string());
    let hostname = given(fields.next()?);
    let client_id = given(fields.next()?);
    let (mac, iaid) = match address {
        IpAddr::V4(_) => (mac_of(hardware), None),
        // A leading T marks a temporary address.
        IpAddr::V6(_) => {
            (client_id.as_deref().and_then(mac_of_duid), Some(hardware.trim_start_matches('T').to_string()))
        }
    };
    Some(Lease { expiry, mac, iaid, address, hostname, client_id })
}

/// Addresses that are not Ethernet's are written `TYPE-BYTES`.
fn mac_of(field: &str) -> Option<MacAddr> {
    field.parse().ok()
}

/// DUIDs of types 1 (address and time) and 3 (address) end with the link-layer address.
fn mac_of_duid(duid: &str) -> Option<MacAddr> {
    let bytes: Vec<u8> = duid.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>().ok()?;
    let address = match bytes.get(..4)? {
        [0, 1, 0, 1] => bytes.get(8..)?,
        [0, 3, 0, 1] => bytes.get(4..)?,
        _ => return None,
    };
    address.try_into().ok().map(MacAddr)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
1763742000 52:54:00:aa:bb:cc 192.168.122.10 web 01:52:54:00:aa:bb:cc
0 52:54:00:aa:bb:dd 192.168.122.11 * *
1763742000 20-80:00:02:08:fe:80:00:00:00 192.168.122.12 ib *
not a lease
duid 00:01:00:01:2e:00:00:00:52:54:00:00:00:01
1763742060 5555 fd00::10 web 00:03:00:01:52:54:00:aa:bb:cc
1763742061 T77 fd00::11 * 00:02:00:00:ab:11:01
1763742062 52:54:00:aa:bb:ee 192.168.1";

    #[test]
    fn every_whole_line_is_a_lease() {
        let leases = parse(FILE);
        assert_eq!(leases.len(), 5);
        let first = &leases[0];
        assert_eq!((first.expiry, first.mac.unwrap().to_string()), (1763742000, "52:54:00:aa:bb:cc".into()));
        assert_eq!((first.hostname.as_deref(), first.iaid.as_deref()), (Some("web"), None));
        assert_eq!(first.client_id.as_deref(), Some("01:52:54:00:aa:bb:cc"));
        assert!(first.is_valid(1763741999) && !first.is_valid(1763742000));
        assert!(leases[1].is_valid(i64::MAX) && leases[1].hostname.is_none() && leases[1].client_id.is_none());
        assert_eq!(leases[2].mac, None);
        assert_eq!((leases[3].mac, leases[3].iaid.as_deref()), (first.mac, Some("5555")));
        assert_eq!((leases[4].mac, leases[4].iaid.as_deref()), (None, Some("77")));
    }

    #[test]
    fn no_file_is_no_lease() {
        assert!(read(Path::new("/nonexistent/leases")).unwrap().is_empty());
        assert_eq!(read(Path::new("/")).unwrap_err().code, crate::error::Code::SystemError);
        assert!(parse("").is_empty() && parse("1 2 3").is_empty());
    }
}
