//! Interfaces: the veth pair or macvlan from the host's side, addresses and routes from the inside.
//!
//! The host end of a pair stays in the supervisor's network namespace; the guest end is born in the container's, as a
//! macvlan is.

use super::procfs::HostProc;
use super::{Context, Result};
use crate::lxc::spec::{self, Nic, Spec};
use crate::sys::rtnl::{LOOPBACK, Macvlan, Rtnl, Veth, index_of, mtu_of};
use std::time::{Duration, Instant};

use nix::libc::{EADDRINUSE, EBUSY, EINVAL};

const STAGE: &str = "network";

/// Supervisor: makes all pairs.
pub fn plug(spec: &Spec, proc: &HostProc, init: i32) -> Result<()> {
    if spec.nics.is_empty() {
        return Ok(());
    }
    spec.nics.iter().try_for_each(|nic| plug_one(nic, proc, init))
}

/// Supervisor: makes one pair or macvlan.
pub fn plug_one(nic: &Nic, proc: &HostProc, init: i32) -> Result<()> {
    use std::os::fd::AsFd;
    let netns = proc.namespace(init, "net")?;
    let rtnl = Rtnl::open().at(STAGE, "cannot open a netlink socket")?;
    if let Some(spec::Macvlan { dev, mode }) = &nic.macvlan {
        let lower = index_of(dev).at(STAGE, format_args!("cannot find device '{dev}' of the host"))?;
        let (guest, mac, mtu) = (nic.guest.as_str(), nic.mac, nic.mtu);
        let macvlan = Macvlan { guest, mac, mtu, lower, mode: *mode };
        patiently(|| rtnl.add_macvlan(&macvlan, netns.as_fd()))
            .at(STAGE, format_args!("cannot make macvlan '{guest}' on device '{dev}' of the host"))?;
    } else {
        let master = match &nic.bridge {
            Some(bridge) => Some(index_of(bridge).at(STAGE, format_args!("cannot find bridge '{bridge}'"))?),
            None => None,
        };
        // As for a tap: without a word about it, the bridge's own.
        let bridge_mtu = || mtu_of(nic.bridge.as_ref()?).ok();
        let veth = Veth {
            host: &nic.host,
            alias: &nic.alias,
            guest: &nic.guest,
            mac: nic.mac,
            host_mac: Some(host_mac(nic.mac)),
            mtu: nic.mtu.or_else(bridge_mtu),
            master,
            isolated: nic.isolated && master.is_some(),
            up: nic.up,
        };
        rtnl.add_veth(&veth, netns.as_fd())
            .at(STAGE, format_args!("cannot make interface '{}' with guest end '{}'", nic.host, nic.guest))?;
    }
    Ok(())
}

/// A macvlan of a container that just ended has its device, and its address, until the kernel is done with the network
/// namespace: the next one of a reboot waits for that.
fn patiently(work: impl Fn() -> std::io::Result<()>) -> std::io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let busy = |error: &std::io::Error| matches!(error.raw_os_error(), Some(EADDRINUSE | EBUSY | EINVAL));
        match work() {
            Err(error) if busy(&error) && Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
}

/// libvirt's rule: the host end gets the guest's address with the first octet 0xfe, so that a bridge never takes it as
/// its own lowest one.
fn host_mac(mut mac: [u8; 6]) -> [u8; 6] {
    mac[0] = if mac[0] == 0xfe { 0xfa } else { 0xfe };
    mac
}

/// Supervisor: removes the host ends of this run that are still there. Best effort: the kernel removes them with the
/// network namespace, only later.
pub fn unplug(spec: &Spec) {
    let Ok(rtnl) = Rtnl::open() else { return };
    for nic in &spec.nics {
        if let Ok(index) = index_of(&nic.host) {
            let _ = rtnl.remove(index);
        }
    }
}

/// Supervisor: removes one pair, by its host end; one that is gone is no error.
pub fn unplug_one(host: &str) {
    if let (Ok(rtnl), Ok(index)) = (Rtnl::open(), index_of(host)) {
        let _ = rtnl.remove(index);
    }
}

/// Inside: removes an interface; one that is gone is no error.
pub fn remove_inside(guest: &str) -> Result<()> {
    let Ok(index) = index_of(guest) else { return Ok(()) };
    let rtnl = Rtnl::open().at(STAGE, "cannot open a netlink socket")?;
    rtnl.remove(index).at(STAGE, format_args!("cannot remove interface '{guest}' inside"))
}

/// Supervisor: sets a host end up or down.
pub fn set_up(host: &str, up: bool) -> Result<()> {
    let rtnl = Rtnl::open().at(STAGE, "cannot open a netlink socket")?;
    let index = index_of(host).at(STAGE, format_args!("cannot find '{host}'"))?;
    rtnl.set_up(index, up).at(STAGE, format_args!("cannot change the state of '{host}'"))
}

/// Child: loopback, addresses, routes, up.
pub fn configure(nics: &[Nic]) -> Result<()> {
    let rtnl = Rtnl::open().at(STAGE, "cannot open a netlink socket")?;
    rtnl.set_up(LOOPBACK, true).at(STAGE, "cannot set 'lo' up")?;
    for nic in nics {
        let name = &nic.guest;
        let index = || index_of(name).at(STAGE, format_args!("cannot find interface '{name}' inside"));
        for ip in &nic.addresses {
            rtnl.add_address(index()?, ip.address, ip.prefix, ip.peer)
                .at(STAGE, format_args!("cannot give '{name}' the address {}/{}", ip.address, ip.prefix))?;
        }
        // A link that is down in the definition is down on the host's side: inside it is up without a carrier.
        match nic.macvlan {
            Some(_) => patiently(|| rtnl.set_up_named(name)),
            None => rtnl.set_up_named(name),
        }
        .at(STAGE, format_args!("cannot set '{name}' up"))?;
        for route in &nic.routes {
            rtnl.add_route(index()?, route.destination, route.prefix, route.gateway, route.metric)
                .at(STAGE, format_args!("cannot add route {}/{} to '{name}'", route.destination, route.prefix))?;
        }
    }
    Ok(())
}
