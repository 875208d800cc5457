//! Network interfaces: `lxc.net.N.*`, and `lxc.network.*` where each `type` begins the next one.

use super::conf::{Conf, Entry};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{
    DeviceInfo, Hostdev, HostdevSource, Interface, InterfaceSource, IpAddress, LinkState, MacvtapMode, Route,
};
use crate::error::{Code, Error, Result};

/// One interface as the file has it: what belongs together, not yet understood.
struct Nic<'t> {
    /// `N` of `lxc.net.N`, or the place of the `lxc.network.type` line.
    id: NicId<'t>,
    /// Key without its prefix, and the whole assignment.
    settings: Vec<(&'t str, Entry<'t>)>,
}

#[derive(Clone, Copy, PartialEq)]
enum NicId<'t> {
    Numbered(&'t str),
    Old(usize),
}

/// Reads all interfaces into the definition. A container that names none has a network of its own with nothing in it.
pub(super) fn read(conf: &Conf<'_>, def: &mut DomainDef) -> Result<()> {
    let nics = gather(conf)?;
    let mut shares_the_hosts = false;
    for nic in &nics {
        match nic.get(&["type"]).map(|entry| entry.value) {
            Some("none") => shares_the_hosts = true,
            // Its own network, and nothing in it.
            Some("empty" | "") => {}
            _ => nic.add_to(def)?,
        }
    }
    // With devices of its own the network is private without saying so.
    let has_devices = !def.interfaces.is_empty() || !def.hostdevs.is_empty();
    def.features.privnet = !shares_the_hosts && !has_devices;
    Ok(())
}

fn gather<'t>(conf: &Conf<'t>) -> Result<Vec<Nic<'t>>> {
    let mut nics: Vec<Nic<'t>> = Vec::new();
    let mut old = 0;
    for entry in conf.entries() {
        let (id, key) = if let Some(rest) = entry.key.strip_prefix("lxc.net.") {
            let Some((number, key)) = rest.split_once('.').filter(|(number, _)| number.parse::<u32>().is_ok()) else {
                return Err(entry.error(Code::ConfSyntax, "expected lxc.net.NUMBER.KEY"));
            };
            (NicId::Numbered(number), key)
        } else if let Some(key) = entry.key.strip_prefix("lxc.network.") {
            if key == "type" {
                old += 1;
            } else if old == 0 {
                return Err(entry.error(Code::ConfSyntax, "an interface begins with its lxc.network.type line"));
            }
            (NicId::Old(old), key)
        } else {
            continue;
        };
        match nics.iter_mut().find(|nic| nic.id == id) {
            Some(nic) => nic.settings.push((key, entry)),
            None => nics.push(Nic { id, settings: vec![(key, entry)] }),
        }
    }
    Ok(nics)
}

impl<'t> Nic<'t> {
    /// The last assignment to any of these keys: a later line replaces an earlier one.
    fn get(&self, keys: &[&str]) -> Option<Entry<'t>> {
        self.settings.iter().rev().find(|(key, _)| keys.contains(key)).map(|(_, entry)| *entry)
    }

    fn text(&self, key: &str) -> Option<String> {
        self.get(&[key]).map(|entry| entry.value.to_string()).filter(|text| !text.is_empty())
    }

    fn first(&self) -> Entry<'t> {
        self.settings[0].1
    }

    fn link(&self) -> Result<String> {
        let missing = || self.first().error(Code::ConfigUnsupported, "Missing 'link' attribute for NIC");
        self.text("link").ok_or_else(missing)
    }

    fn add_to(&self, def: &mut DomainDef) -> Result<()> {
        let kind = self.get(&["type"]).ok_or_else(|| {
            self.first().error(Code::ConfigUnsupported, "this interface has no type: add a line that says veth or phys")
        })?;
        for (key, entry) in &self.settings {
            check_key(key, *entry)?;
        }
        let (ips, routes) = (self.addresses()?, self.routes()?);
        let handed_over = |interface| Hostdev {
            managed: None,
            source: HostdevSource::Net { interface, ips: ips.clone(), routes: routes.clone() },
            readonly: false,
            shareable: false,
            teaming: None,
            display: None,
            ramfb: None,
            info: DeviceInfo::default(),
        };
        let source = match kind.value {
            "veth" => self.text("link").map_or(InterfaceSource::Ethernet, |bridge| InterfaceSource::Bridge { bridge }),
            "macvlan" => InterfaceSource::Direct { dev: self.link()?, mode: Some(self.macvlan_mode()?) },
            "phys" => {
                def.hostdevs.push(handed_over(self.link()?));
                return Ok(());
            }
            "vlan" => {
                // The kernel's name of such a device; it is made outside.
                let id = self.text("vlan.id").map(|id| format!(".{id}")).unwrap_or_default();
                def.hostdevs.push(handed_over(format!("{}{id}", self.link()?)));
                return Ok(());
            }
            other => {
                let what = format!(
                    "an interface of type '{other}' cannot be expressed: known are veth, macvlan, vlan, phys, empty, none"
                );
                return Err(kind.error(Code::ConfigUnsupported, what));
            }
        };
        // An address with LXC's "xx" is a wish for a random one, as is none.
        let mac = self.get(&["hwaddr"]).and_then(|entry| entry.value.parse().ok());
        let up = self.text("flags").as_deref() == Some("up");
        let mut interface = Interface {
            source,
            mac,
            ips,
            routes,
            link: Some(if up { LinkState::Up } else { LinkState::Down }),
            mtu: self.get(&["mtu"]).map(|entry| entry.number()).transpose()?,
            ..Interface::default()
        };
        interface.guest.dev = self.text("name");
        interface.target.dev = self.text("veth.pair");
        def.interfaces.push(interface);
        Ok(())
    }

    fn macvlan_mode(&self) -> Result<MacvtapMode> {
        let Some(entry) = self.get(&["macvlan.mode"]) else { return Ok(MacvtapMode::Private) };
        match entry.value {
            "private" => Ok(MacvtapMode::Private),
            "vepa" => Ok(MacvtapMode::Vepa),
            "bridge" => Ok(MacvtapMode::Bridge),
            "passthru" => Ok(MacvtapMode::Passthrough),
            other => {
                let what = format!("unknown mode '{other}': known are private, vepa, bridge, passthru");
                Err(entry.error(Code::ConfigUnsupported, what))
            }
        }
    }

    fn addresses(&self) -> Result<Vec<IpAddress>> {
        let mut ips = Vec::new();
        for (key, entry) in &self.settings {
            let family = match *key {
                "ipv4" | "ipv4.address" => "ipv4",
                "ipv6" | "ipv6.address" => "ipv6",
                _ => continue,
            };
            let parsed = entry.value.split_once('/').and_then(|(address, prefix)| {
                let ip: std::net::IpAddr = address.parse().ok()?;
                let prefix: u32 = prefix.parse().ok()?;
                (prefix <= if ip.is_ipv4() { 32 } else { 128 }).then_some((address, prefix))
            });
            let refused = || entry.error(Code::InvalidArg, format!("Invalid CIDR address: '{}'", entry.value));
            let (address, prefix) = parsed.ok_or_else(refused)?;
            ips.push(IpAddress {
                address: Some(address.to_string()),
                family: Some(family.to_string()),
                prefix: Some(prefix),
                peer: None,
            });
        }
        Ok(ips)
    }

    fn routes(&self) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for (key, family, everything) in [("ipv4.gateway", "ipv4", "0.0.0.0"), ("ipv6.gateway", "ipv6", "::")] {
            let Some(entry) = self.get(&[key]) else { continue };
            if entry.value.parse::<std::net::IpAddr>().is_err() {
                let what = format!("Bad gateway address '{}' in route definition", entry.value);
                return Err(entry.error(Code::XmlError, what));
            }
            routes.push(Route {
                family: Some(family.to_string()),
                address: Some(everything.to_string()),
                gateway: Some(entry.value.to_string()),
                ..Route::default()
            });
        }
        Ok(routes)
    }
}

/// Refuses what would be lost in the translation: a firewall script that does not run is worse than an error.
fn check_key(key: &str, entry: Entry<'_>) -> Result<(), Error> {
    const KNOWN: [&str; 13] = [
        "type",
        "link",
        "hwaddr",
        "flags",
        "name",
        "mtu",
        "veth.pair",
        "macvlan.mode",
        "vlan.id",
        "ipv4",
        "ipv4.address",
        "ipv6",
        "ipv6.address",
    ];
    if KNOWN.contains(&key) || matches!(key, "ipv4.gateway" | "ipv6.gateway") {
        return Ok(());
    }
    Err(entry.error(Code::ConfigUnsupported, "this setting of an interface cannot be expressed: remove the line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &str) -> Result<DomainDef> {
        let mut def = DomainDef::default();
        read(&Conf::parse(text)?, &mut def)?;
        Ok(def)
    }

    #[test]
    fn both_spellings_mean_the_same() {
        let old = "lxc.network.type = veth\nlxc.network.link = br0\nlxc.network.flags = up\nlxc.network.ipv4 = 10.0.0.2/24\n\
                   lxc.network.type = phys\nlxc.network.link = eth1\nlxc.network.ipv4.gateway = 10.0.0.1\n";
        let new = "lxc.net.1.type = phys\nlxc.net.0.link = br0\nlxc.net.0.type = veth\nlxc.net.0.flags = up\n\
                   lxc.net.0.ipv4.address = 10.0.0.2/24\nlxc.net.1.ipv4.gateway = 10.0.0.1\nlxc.net.1.link = eth1\n";
        let def = read_all(old).unwrap();
        assert_eq!(def, read_all(new).unwrap());
        assert!(!def.features.privnet);
        assert_eq!(def.interfaces[0].link, Some(LinkState::Up));
        assert_eq!(def.interfaces[0].ips[0].prefix, Some(24));
        assert!(matches!(&def.hostdevs[0].source, HostdevSource::Net { interface, .. } if interface == "eth1"));
    }

    #[test]
    fn whose_network_it_is() {
        assert!(read_all("").unwrap().features.privnet);
        assert!(read_all("lxc.net.0.type = empty\n").unwrap().features.privnet);
        assert!(!read_all("lxc.net.0.type = none\n").unwrap().features.privnet);
    }

    #[rstest::rstest]
    #[case("lxc.net.0.type = phys", "Missing 'link' attribute for NIC")]
    #[case("lxc.net.0.type = ipvlan", "type 'ipvlan' cannot be expressed")]
    #[case("lxc.net.0.link = br0", "has no type")]
    #[case("lxc.net.x.type = veth", "expected lxc.net.NUMBER.KEY")]
    #[case("lxc.network.link = br0", "begins with its lxc.network.type line")]
    #[case("lxc.net.0.type = veth\nlxc.net.0.script.up = /fw", "cannot be expressed: remove the line")]
    #[case("lxc.net.0.type = veth\nlxc.net.0.ipv4.address = 10.0.0.2", "Invalid CIDR address: '10.0.0.2'")]
    #[case("lxc.net.0.type = veth\nlxc.net.0.ipv4.address = 10.0.0.2/33", "Invalid CIDR address")]
    #[case("lxc.net.0.type = veth\nlxc.net.0.ipv4.gateway = auto", "Bad gateway address 'auto'")]
    #[case("lxc.net.0.type = macvlan\nlxc.net.0.link = e\nlxc.net.0.macvlan.mode = x", "unknown mode 'x'")]
    fn interfaces_that_are_none(#[case] text: &str, #[case] why: &str) {
        let message = read_all(text).unwrap_err().message();
        assert!(message.contains(why) && message.contains("line "), "{message}");
    }
}
