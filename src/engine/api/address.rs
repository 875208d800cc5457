//! Addresses of a running guest's interfaces: from its networks' leases, from the host's neighbour tables, or from inside.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{call, check_flags};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::InterfaceSource;
use crate::engine::driver::{DriverKind, InterfaceAddresses};
use crate::engine::host::HostObjects;
use crate::engine::{Domain, network};
use crate::error::{Code, Error, Result};
use crate::net::Netlink;

/// `virDomainInterfaceAddressesSource`
pub mod address_source {
    pub const LEASE: u32 = 0;
    pub const AGENT: u32 = 1;
    pub const ARP: u32 = 2;
}

/// Arguments of `virDomainInterfaceAddresses`.
#[derive(Clone, Copy, Debug)]
pub struct AddressesArgs {
    /// One of [`address_source`].
    pub source: u32,
    pub flags: u32,
}

call! {
    /// The addresses of a running guest. From inside (`AGENT`) a container tells through its network namespace.
    GetInterfaceAddresses = "virDomainInterfaceAddresses", Read,
        "domain:read", "domain:write" if |args| args.source == address_source::AGENT;
    (caller, on: Domain, AddressesArgs { source, flags } => AddressesArgs) -> Vec<InterfaceAddresses> {
        check_flags(on, flags, 0, "virDomainInterfaceAddresses")?;
        let snapshot = on.snapshot();
        let (Some(live), Some(instance)) = (&snapshot.live, &snapshot.instance) else {
            return Err(Error::invalid_state("domain is not running"));
        };
        match source {
            address_source::LEASE => leased(on.runtime().host(), live),
            address_source::AGENT if on.runtime().kind() == DriverKind::Lxc => instance.addresses().await,
            address_source::AGENT => super::agent::addresses(on).await,
            address_source::ARP => neighbours(live).await,
            other => Err(Error::new(Code::ArgumentUnsupported, format!("Unknown IP address data source {other}"))),
        }
    }
}

/// What the dnsmasq of each interface's network has given out.
fn leased(host: &HostObjects, live: &DomainDef) -> Result<Vec<InterfaceAddresses>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    for nic in &live.interfaces {
        let (InterfaceSource::Network(place), Some(mac)) = (&nic.source, nic.mac) else { continue };
        let network = host.networks.by_name(place.network.as_deref().unwrap_or_default())?;
        let Ok(def) = network.def() else { continue };
        let addresses: Vec<_> = network::leases(&network, now)?
            .into_iter()
            .filter(|lease| lease.mac == Some(mac))
            .map(|lease| {
                let subnet = def.ips.iter().find(|ip| ip.contains(lease.address));
                let prefix = subnet.and_then(|ip| ip.prefix_length()).unwrap_or_default();
                (lease.address, u8::try_from(prefix).unwrap_or_default())
            })
            .collect();
        if !addresses.is_empty() {
            let name = nic.target.dev.clone().unwrap_or_default();
            found.push(InterfaceAddresses { name, mac: Some(mac), addresses });
        }
    }
    Ok(found)
}

/// Who has answered to the host on the bridges that the guest is in.
async fn neighbours(live: &DomainDef) -> Result<Vec<InterfaceAddresses>> {
    let netlink = Netlink::open()?;
    let mut found = Vec::new();
    for nic in &live.interfaces {
        let (Some(mac), Some(name)) = (nic.mac, nic.target.dev.clone()) else { continue };
        // Without a bridge the guest's link is the host's own.
        let link = nic.source.bridge().unwrap_or(&name);
        let Some(link) = netlink.find(link).await? else { continue };
        let known = netlink.neighbours(link.index).await?;
        let addresses: Vec<_> = known.iter().filter(|one| one.mac == mac).map(|one| (one.address, 0)).collect();
        if !addresses.is_empty() {
            found.push(InterfaceAddresses { name, mac: Some(mac), addresses });
        }
    }
    Ok(found)
}
