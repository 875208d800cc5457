//! TCP ports for displays: chosen by binding, and remembered so that two starts never choose the same.

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// Ports taken by guests of this daemon.
#[derive(Debug)]
pub struct Ports {
    first: u16,
    last: u16,
    taken: Mutex<BTreeSet<u16>>,
}

/// A port that is free again when this is dropped.
#[derive(Debug)]
pub struct PortGuard {
    ports: Arc<Ports>,
    port: u16,
}

impl PortGuard {
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PortGuard {
    fn drop(&mut self) {
        self.ports.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.port);
    }
}

impl Ports {
    /// Ports `first..=last`.
    pub fn new((first, last): (u16, u16)) -> Arc<Self> {
        Arc::new(Ports { first, last, taken: Mutex::default() })
    }

    /// The lowest port that is free on `address` now. QEMU binds it a moment later, without our help.
    ///
    /// Errors: `InternalError` with libvirt's text when there is none.
    pub fn acquire(self: &Arc<Self>, address: &str) -> Result<PortGuard> {
        let address: IpAddr = address.parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for port in self.first..=self.last {
            if !taken.contains(&port) && TcpListener::bind((address, port)).is_ok() {
                taken.insert(port);
                return Ok(PortGuard { ports: self.clone(), port });
            }
        }
        Err(Error::internal(format!("Unable to find an unused port in range 'VNC' ({}-{})", self.first, self.last)))
    }

    /// Remembers a port that a running guest has (re-attach, or one given in the definition).
    pub fn hold(self: &Arc<Self>, port: u16) -> PortGuard {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        PortGuard { ports: self.clone(), port }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_twice_until_dropped() {
        // Whatever is free in a small range of this machine.
        let probe = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let base = probe.local_addr().unwrap().port().min(65000);
        drop(probe);
        let ports = Ports::new((base, base + 50));
        let a = ports.acquire("127.0.0.1").unwrap();
        let b = ports.acquire("127.0.0.1").unwrap();
        assert_ne!(a.port(), b.port());
        let number = a.port();
        drop(a);
        assert!(!ports.taken.lock().unwrap().contains(&number));
    }
}
