//! Macvtaps: a guest's NIC beside the host's own on one of its devices, as a descriptor a guest can be given.
//!
//! Unlike a tap, a macvtap stays when its descriptors are closed. It is made under a name that only its run has, and gets
//! its name and the alias that says whose it is in one step: whatever of it is there, a record finds it again.

use std::os::fd::OwnedFd;
use std::sync::Mutex;

use rtnetlink::packet_route::link::MacVlanMode;
use rtnetlink::{LinkMacVtap, LinkUnspec};

use super::link::{LinkChange, Netlink, failed};
use super::tap::check_name;
use crate::domain_xml::device::MacvtapMode;
use crate::error::{Error, Result, Subsystem};
use crate::sys;
use crate::types::MacAddr;

/// A macvtap to make.
#[derive(Clone, Debug, PartialEq)]
pub struct MacvtapSpec {
    pub name: String,
    /// Its name until it is finished, which nobody else has.
    pub unfinished: String,
    /// `IFLA_IFALIAS`: says whose it is.
    pub alias: String,
    /// The host's device.
    pub dev: String,
    pub mode: MacvtapMode,
    /// The guest's.
    pub mac: MacAddr,
    /// Bytes; `None` = the device's.
    pub mtu: Option<u32>,
    /// Descriptors wanted, at least 1.
    pub queues: u32,
}

/// A name `macvtapN` that no interface has and no other start of this daemon was just given.
pub async fn free_name() -> Result<String> {
    static NEXT: Mutex<u32> = Mutex::new(0);
    let netlink = Netlink::open()?;
    loop {
        let number = {
            let mut next = NEXT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let number = *next;
            *next = next.wrapping_add(1) % 1_000_000;
            number
        };
        let name = format!("macvtap{number}");
        if netlink.find(&name).await?.is_none() {
            return Ok(name);
        }
    }
}

/// Makes the macvtap, sets it up and opens it, once for each queue. On error it may be there under either name.
/// Errors: code 38 for a device that is not there, is used by another in passthrough mode, or a name that is taken.
pub async fn plug(spec: &MacvtapSpec) -> Result<Vec<OwnedFd>> {
    check_name(&spec.name)?;
    let netlink = Netlink::open()?;
    let (name, dev) = (&spec.name, &spec.dev);
    let lower = netlink.get(dev).await?;
    let mode = match spec.mode {
        MacvtapMode::Vepa => MacVlanMode::Vepa,
        MacvtapMode::Private => MacVlanMode::Private,
        MacvtapMode::Bridge => MacVlanMode::Bridge,
        MacvtapMode::Passthrough => MacVlanMode::Passthrough,
    };
    let unable = format!("error creating macvtap interface {name}@{dev} ({}, mode {})", spec.mac, spec.mode);
    let add = LinkMacVtap::new(&spec.unfinished, lower.index, mode).address(spec.mac.0.to_vec()).down().build();
    netlink.handle().link().add(add).execute().await.map_err(|error| failed(&unable, error))?;
    let index = netlink.get(&spec.unfinished).await?.index;
    let finish = LinkUnspec::new_with_index(index).name(name.clone()).alias(spec.alias.clone()).build();
    netlink.handle().link().set(finish).execute().await.map_err(|error| failed(&unable, error))?;
    let up = LinkChange { mac: Some(spec.mac), mtu: spec.mtu, up: Some(true), ..LinkChange::default() };
    netlink.change(index, up, &format!("cannot set MAC address and MTU of '{name}' and set it up")).await?;
    let (owned, queues) = (name.clone(), spec.queues.max(1));
    let opened = tokio::task::spawn_blocking(move || sys::tap::open_macvtap(&owned, index, queues)).await;
    let opened = opened.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    opened.map_err(|error| {
        Error::system(format!("cannot open macvtap tap device of '{name}'"), error).with_subsystem(Subsystem::Net)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::link::remove_if_ours;
    use crate::sys::testing::in_netns_async;

    fn spec(name: &str, mode: MacvtapMode) -> MacvtapSpec {
        MacvtapSpec {
            name: name.into(),
            unfinished: format!("dm-{name}"),
            alias: "domus:run".into(),
            dev: "host0".into(),
            mode,
            mac: "52:54:00:00:00:31".parse().unwrap(),
            mtu: Some(1400),
            queues: 2,
        }
    }

    #[test]
    fn a_macvtap_is_made_opened_and_taken_away() {
        in_netns_async("a_macvtap_is_made", async || {
            let netlink = Netlink::open().unwrap();
            let error = plug(&spec("m0", MacvtapMode::Bridge)).await.unwrap_err();
            assert_eq!(error.message(), "cannot get interface 'host0': No such device");
            netlink.add_veth("host0", "far0").await.unwrap();
            let fds = match plug(&spec("m0", MacvtapMode::Bridge)).await {
                Err(error) if error.message().ends_with("Operation not supported") => {
                    return eprintln!("SKIP a_macvtap_is_made: this kernel has no macvtap");
                }
                fds => fds.unwrap(),
            };
            assert_eq!(fds.len(), 2);
            let link = netlink.get("m0").await.unwrap();
            assert_eq!((link.mtu, link.alias.as_deref(), link.up), (1400, Some("domus:run"), true));
            assert_eq!(link.mac.unwrap().to_string(), "52:54:00:00:00:31");
            let taken = plug(&spec("m0", MacvtapMode::Vepa)).await.unwrap_err();
            assert!(taken.message().ends_with("File exists"), "{taken}");
            remove_if_ours("dm-m0", None).await.unwrap();
            let other = plug(&spec("m1", MacvtapMode::Passthrough)).await.unwrap_err();
            assert!(other.message().starts_with("error creating macvtap interface m1@host0"), "{other}");
            // Frames of a guest come out on the other side.
            let far = netlink.get("far0").await.unwrap();
            let up = |up| LinkChange { up: Some(up), ..LinkChange::default() };
            netlink.change(far.index, up(true), "up").await.unwrap();
            netlink.change(netlink.get("host0").await.unwrap().index, up(true), "up").await.unwrap();
            let before = netlink.stats("far0").await.unwrap().unwrap().rx_packets;
            let mut frame = vec![0u8; 10];
            frame.extend([0xff; 6]);
            frame.extend([0x52, 0x54, 0, 0, 0, 0x31, 0x88, 0xb5]);
            frame.extend([0; 46]);
            rustix::io::write(&fds[0], &frame).unwrap();
            let received = async || netlink.stats("far0").await.unwrap().unwrap().rx_packets > before;
            let mut tries = 0;
            while !received().await {
                tries += 1;
                assert!(tries < 6000, "nothing comes out");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            drop(fds);
            remove_if_ours("m0", Some("domus:other")).await.unwrap();
            assert!(netlink.find("m0").await.unwrap().is_some());
            remove_if_ours("m0", Some("domus:run")).await.unwrap();
            assert_eq!(netlink.find("m0").await.unwrap(), None);
        });
    }
}
