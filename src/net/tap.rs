//! Taps: from "a NIC on this bridge" to descriptors a guest can be given.
//!
//! A tap we make is not persistent: it goes away with its last descriptor, so that a guest's end, however it comes,
//! leaves no interface behind and there is nothing to undo.

use std::os::fd::OwnedFd;
use std::sync::Mutex;

use super::bridge::{PortChange, change_port};
use super::link::{LinkChange, LinkInfo, Netlink};
use crate::error::{Code, Error, Result, Subsystem};
use crate::sys;
use crate::types::MacAddr;

/// Prefixes of names the host gives out; libvirt drops such names from XML and takes a new one.
const GENERATED: [&str; 4] = ["vnet", "vif", "macvtap", "macvlan"];

/// A NIC's host side.
#[derive(Clone, Debug, Default)]
pub struct TapSpec {
    /// Wanted name; `None` = the lowest free `vnetN`.
    pub name: Option<String>,
    /// Use the existing device `name` as it is (`<target managed='no'>`).
    pub existing: bool,
    /// Bridge to join.
    pub bridge: Option<String>,
    /// The guest's MAC; the tap gets it with 0xfe as first byte, so that a bridge never takes it as its own.
    pub mac: MacAddr,
    /// Bytes; `None` = the bridge's.
    pub mtu: Option<u32>,
    /// As a port of the bridge, see only ports that are not isolated.
    pub isolated: bool,
    /// Descriptors wanted, at least 1; more need a multi-queue device.
    pub queues: u32,
}

/// A tap that is up.
#[derive(Debug)]
pub struct Plugged {
    pub name: String,
    pub index: u32,
    /// One per queue.
    pub fds: Vec<OwnedFd>,
    /// What it was set to, or found with.
    pub mtu: u32,
}

/// Whether libvirt would drop this name from a definition and give out another (a generated prefix and a number).
pub fn is_generated_name(name: &str) -> bool {
    GENERATED.iter().any(|prefix| {
        name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// Refuses names the kernel would refuse, or that would be something else to it (`%d`).
/// Errors: code 27, naming the rule.
pub fn check_name(name: &str) -> Result<()> {
    let why = if sys::weakened("any-name") {
        return Ok(());
    } else if name.is_empty() {
        "is empty"
    } else if name.len() > sys::tap::MAX_NAME {
        "is longer than 15 bytes"
    } else if name == "." || name == ".." {
        "is no interface name"
    } else if name.bytes().any(|byte| byte == b'/' || byte == b':' || byte == b'%' || byte.is_ascii_whitespace()) {
        "holds a character that interface names cannot have ('/', ':', '%', white space)"
    } else {
        return Ok(());
    };
    Err(Error::new(Code::XmlError, format!("target name '{name}' of the interface {why}"))
        .with_subsystem(Subsystem::Net))
}

/// Makes (or opens) the tap, sets its MAC and MTU, joins the bridge, sets it up. On error nothing is left.
pub async fn plug(spec: &TapSpec) -> Result<Plugged> {
    let netlink = Netlink::open()?;
    let bridge = match &spec.bridge {
        Some(name) => Some(find_bridge(&netlink, name).await?),
        None => None,
    };
    let (fds, name) = open(spec, &netlink).await?;
    let info = netlink.get(&name).await?;
    if spec.existing {
        return Ok(Plugged { name, index: info.index, fds, mtu: info.mtu });
    }
    let mtu = spec.mtu.or(bridge.as_ref().map(|bridge| bridge.mtu)).unwrap_or(info.mtu);
    let mut mac = spec.mac;
    mac.0[0] = 0xfe;
    let set = LinkChange { mac: Some(mac), mtu: Some(mtu), ..LinkChange::default() };
    netlink.change(info.index, set, &format!("cannot set MAC address and MTU {mtu} of '{name}'")).await?;
    let what = match &spec.bridge {
        Some(bridge) => format!("Unable to add bridge {bridge} port {name}"),
        None => format!("cannot set '{name}' up"),
    };
    let controller = bridge.map(|bridge| bridge.index);
    let mut join = LinkChange { controller, up: Some(true), ..LinkChange::default() };
    if spec.isolated && controller.is_some() {
        // Up only as an isolated port: not a frame passes before.
        let port = LinkChange { controller, ..LinkChange::default() };
        netlink.change(info.index, port, &what).await?;
        let isolated = PortChange { isolated: Some(true), ..PortChange::default() };
        change_port(&netlink, info.index, &name, isolated).await?;
        join.controller = None;
    }
    netlink.change(info.index, join, &what).await?;
    Ok(Plugged { name, index: info.index, fds, mtu })
}

async fn find_bridge(netlink: &Netlink, name: &str) -> Result<LinkInfo> {
    let refuse = |text: String| Err(Error::system(text, nodev()).with_subsystem(Subsystem::Net));
    match netlink.find(name).await? {
        Some(info) if info.is_bridge => Ok(info),
        Some(_) => Err(Error::unsupported_config(format!(
            "interface '{name}' is no bridge: <source bridge='..'/> must name one"
        ))
        .with_subsystem(Subsystem::Net)),
        None => refuse(format!(
            "Cannot get interface MTU on '{name}' (no such bridge on this host; 'ip link add {name} type bridge' makes one)"
        )),
    }
}

fn nodev() -> std::io::Error {
    std::io::Error::from_raw_os_error(nix::libc::ENODEV)
}

async fn open(spec: &TapSpec, netlink: &Netlink) -> Result<(Vec<OwnedFd>, String)> {
    let queues = spec.queues.max(1);
    let multi = queues > 1;
    let options = sys::tap::Options { multi_queue: multi, vnet_hdr: true, existing: spec.existing };
    let (first, name) = first_queue(spec, options, netlink).await?;
    let mut fds = vec![first];
    let more = sys::tap::Options { existing: true, ..options };
    for _ in 1..queues {
        fds.push(sys::tap::open(Some(&name), more).map_err(|error| unable(&name, error))?.0);
    }
    Ok((fds, name))
}

async fn first_queue(spec: &TapSpec, options: sys::tap::Options, netlink: &Netlink) -> Result<(OwnedFd, String)> {
    match &spec.name {
        Some(name) => {
            check_name(name)?;
            let exists = netlink.find(name).await?.is_some();
            if spec.existing && !exists {
                return Err(unable(name, nodev()));
            }
            // TUNSETIFF would attach to a persistent tap of somebody else's, and would then not be ours to configure.
            if !spec.existing && exists {
                return Err(unable(name, std::io::Error::from_raw_os_error(nix::libc::EBUSY)));
            }
            sys::tap::open(Some(name), options).map_err(|error| unable(name, error))
        }
        None if spec.existing => Err(Error::new(Code::XmlError, "an unmanaged interface needs <target dev='..'/>")
            .with_subsystem(Subsystem::Net)),
        None => loop {
            let name = free_name(netlink).await?;
            match sys::tap::open(Some(&name), options) {
                // Another program took it since we looked.
                Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {}
                other => return other.map_err(|error| unable(&name, error)),
            }
        },
    }
}

/// libvirt's text; the errno says the rest.
fn unable(name: &str, error: std::io::Error) -> Error {
    let hint = match error.raw_os_error() {
        Some(nix::libc::EBUSY) => " (the name is in use: see 'ip -d link show', or leave <target dev> out)",
        Some(nix::libc::EINVAL) => {
            " (an interface of this name exists and is of another kind, or has another number of queues)"
        }
        _ => "",
    };
    Error::system(format!("Unable to create tap device {name}{hint}"), error).with_subsystem(Subsystem::Net)
}

/// A name no interface has and no other start of this daemon was just given. Numbers are not used again before they
/// must be, as in libvirt: a log line or a firewall rule about `vnet7` then means one guest.
async fn free_name(netlink: &Netlink) -> Result<String> {
    static NEXT: Mutex<u32> = Mutex::new(0);
    loop {
        let number = {
            let mut next = NEXT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let number = *next;
            *next = next.wrapping_add(1) % 1_000_000;
            number
        };
        let name = format!("vnet{number}");
        if netlink.find(&name).await?.is_none() {
            return Ok(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("vnet0", true)]
    #[case("vnet", false)]
    #[case("vnet0a", false)]
    #[case("macvtap12", true)]
    #[case("tap769dc43b-19", false)]
    fn generated(#[case] name: &str, #[case] expect: bool) {
        assert_eq!(is_generated_name(name), expect);
    }

    #[rstest]
    #[case("")]
    #[case("sixteen-bytes-xx")]
    #[case("a/b")]
    #[case("a b")]
    #[case("tap%d")]
    #[case("..")]
    fn bad_names(#[case] name: &str) {
        assert_eq!(check_name(name).unwrap_err().code, Code::XmlError);
    }

    /// Runs `work` in a network namespace of its own; skips loudly where that is not allowed.
    fn in_netns(name: &str, work: impl AsyncFnOnce() + Send + 'static) {
        let name = name.to_string();
        let thread = std::thread::spawn(move || {
            if let Err(errno) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
                eprintln!("SKIP {name}: cannot make a network namespace: {errno}");
                return;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(work());
        });
        thread.join().unwrap();
    }

    fn spec(name: &str, bridge: Option<&str>) -> TapSpec {
        TapSpec {
            name: Some(name.into()),
            bridge: bridge.map(String::from),
            mac: "52:54:00:00:00:01".parse().unwrap(),
            queues: 1,
            ..TapSpec::default()
        }
    }

    #[test]
    fn a_tap_joins_its_bridge_and_goes_with_its_descriptor() {
        in_netns("a_tap_joins_its_bridge", async || {
            let netlink = Netlink::open().unwrap();
            netlink.add_bridge("br0").await.unwrap();
            let bridge = netlink.get("br0").await.unwrap();
            let plugged = plug(&TapSpec { mtu: Some(1450), ..spec("tap0", Some("br0")) }).await.unwrap();
            let info = netlink.get("tap0").await.unwrap();
            assert!(!info.isolated);
            assert_eq!((info.controller, info.mtu, info.up), (Some(bridge.index), 1450, true));
            assert_eq!(info.mac.unwrap().to_string(), "fe:54:00:00:00:01");
            assert!(netlink.stats("tap0").await.unwrap().is_some());
            drop(plugged);
            assert_eq!(netlink.find("tap0").await.unwrap(), None);
            let _alone = plug(&TapSpec { isolated: true, ..spec("tap1", Some("br0")) }).await.unwrap();
            let info = netlink.get("tap1").await.unwrap();
            assert_eq!((info.controller, info.up, info.isolated), (Some(bridge.index), true, true));
        });
    }

    #[test]
    fn a_busy_name_is_refused_and_left_alone() {
        in_netns("a_busy_name_is_refused", async || {
            let netlink = Netlink::open().unwrap();
            netlink.add_bridge("busy").await.unwrap();
            let error = plug(&spec("busy", None)).await.unwrap_err();
            assert!(error.message().starts_with("Unable to create tap device busy"), "{error}");
            assert!(error.message().ends_with("Device or resource busy"), "{error}");
            assert!(netlink.find("busy").await.unwrap().is_some());
        });
    }

    #[test]
    fn a_missing_bridge_or_no_bridge_is_named() {
        in_netns("a_missing_bridge", async || {
            let error = plug(&spec("tap0", Some("nope"))).await.unwrap_err();
            assert!(error.message().contains("'nope'") && error.message().ends_with("No such device"), "{error}");
            let error = plug(&spec("tap0", Some("lo"))).await.unwrap_err();
            assert_eq!(error.code, Code::ConfigUnsupported);
            assert_eq!(Netlink::open().unwrap().find("tap0").await.unwrap(), None);
        });
    }

    #[test]
    fn queues_and_generated_names() {
        in_netns("queues", async || {
            let many = TapSpec { name: None, queues: 3, ..spec("x", None) };
            let first = plug(&many).await.unwrap();
            let second = plug(&many).await.unwrap();
            assert_eq!(first.fds.len(), 3);
            assert!(is_generated_name(&first.name) && first.name != second.name);
        });
    }

    #[test]
    fn an_unmanaged_tap_must_exist_and_stays() {
        in_netns("an_unmanaged_tap", async || {
            let unmanaged = TapSpec { existing: true, ..spec("mine", None) };
            let error = plug(&unmanaged).await.unwrap_err();
            assert!(error.message().ends_with("No such device"), "{error}");
            let error = plug(&TapSpec { name: None, ..unmanaged.clone() }).await.unwrap_err();
            assert_eq!(error.code, Code::XmlError);

            // Somebody's device with queues to spare, which he holds: opened as it is, and still there afterwards.
            let options = sys::tap::Options { multi_queue: true, vnet_hdr: true, existing: false };
            let _theirs = sys::tap::open(Some("mine"), options).unwrap();
            let netlink = Netlink::open().unwrap();
            let before = netlink.get("mine").await.unwrap();
            let plugged = plug(&TapSpec { queues: 2, mtu: Some(1400), ..unmanaged.clone() }).await.unwrap();
            assert_eq!((plugged.fds.len(), plugged.mtu), (2, before.mtu));
            assert_eq!(netlink.get("mine").await.unwrap().mac, before.mac);
            drop(plugged);
            assert!(netlink.find("mine").await.unwrap().is_some());
            // The other number of queues.
            let error = plug(&unmanaged).await.unwrap_err();
            assert!(error.message().starts_with("Unable to create tap device mine"), "{error}");
        });
    }

    #[test]
    fn a_tap_takes_the_bridges_mtu() {
        in_netns("a_tap_takes_the_bridges_mtu", async || {
            let netlink = Netlink::open().unwrap();
            netlink.add_bridge("br0").await.unwrap();
            let index = netlink.get("br0").await.unwrap().index;
            let mtu = LinkChange { mtu: Some(1400), ..LinkChange::default() };
            netlink.change(index, mtu, "mtu").await.unwrap();
            let plugged = plug(&spec("tap0", Some("br0"))).await.unwrap();
            assert_eq!(plugged.mtu, 1400);
            assert_eq!(netlink.get("tap0").await.unwrap().mtu, 1400);
            assert_eq!(netlink.get("br0").await.unwrap().mtu, 1400);
        });
    }

    #[test]
    fn only_our_own_links_are_removed() {
        in_netns("only_our_own", async || {
            let netlink = Netlink::open().unwrap();
            netlink.add_bridge("theirs").await.unwrap();
            super::super::link::remove_if_ours("theirs", Some("domus:1")).await.unwrap();
            assert!(netlink.find("theirs").await.unwrap().is_some());
            let index = netlink.get("theirs").await.unwrap().index;
            let alias = LinkChange { alias: Some("domus:1".into()), ..LinkChange::default() };
            netlink.change(index, alias, "alias").await.unwrap();
            super::super::link::remove_if_ours("theirs", Some("domus:1")).await.unwrap();
            assert!(netlink.find("theirs").await.unwrap().is_none());
        });
    }
}
