//! A look into another network namespace, from a thread that enters it and ends there.

use std::io;
use std::net::IpAddr;

/// An interface of that namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub mac: Option<[u8; 6]>,
    /// Addresses with the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// The interfaces of the network namespace that the process is in. `ESRCH`: there is no such process.
/// Blocks; needs CAP_SYS_ADMIN.
pub fn interfaces_of(pid: i32) -> io::Result<Vec<Interface>> {
    let netns = match std::fs::File::open(format!("/proc/{pid}/ns/net")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(io::Error::from_raw_os_error(nix::libc::ESRCH));
        }
        other => other?,
    };
    let thread = std::thread::Builder::new().name("netns".into()).spawn(move || {
        nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
        interfaces()
    })?;
    thread.join().map_err(|_| io::Error::other("the thread in the namespace panicked"))?
}

/// The interfaces of the calling thread's network namespace.
fn interfaces() -> io::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    for entry in nix::ifaddrs::getifaddrs()? {
        let at = found.iter().position(|known| known.name == entry.interface_name).unwrap_or_else(|| {
            found.push(Interface { name: entry.interface_name.clone(), ..Interface::default() });
            found.len() - 1
        });
        let (Some(interface), Some(address)) = (found.get_mut(at), entry.address) else { continue };
        if let Some(link) = address.as_link_addr() {
            interface.mac = link.addr();
        } else if let Some(v4) = address.as_sockaddr_in() {
            let mask = entry.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in()).map(|mask| mask.ip().to_bits());
            interface.addresses.push((IpAddr::V4(v4.ip()), mask.map_or(32, |mask| mask.count_ones() as u8)));
        } else if let Some(v6) = address.as_sockaddr_in6() {
            let mask = entry.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in6()).map(|mask| mask.ip().to_bits());
            interface.addresses.push((IpAddr::V6(v6.ip()), mask.map_or(128, |mask| mask.count_ones() as u8)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_namespace_has_a_loopback() {
        match interfaces_of(std::process::id().cast_signed()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                eprintln!("SKIP this_namespace_has_a_loopback: {error}");
            }
            found => assert!(found.unwrap().iter().any(|one| one.name == "lo")),
        }
        assert_eq!(interfaces_of(i32::MAX).unwrap_err().raw_os_error(), Some(nix::libc::ESRCH));
    }
}
