//! What the agent's answers say, as libvirt's typed parameters. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::FsInfo;
use super::agent::malformed;
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{ControllerType, DeviceAddress};
use crate::engine::driver::InterfaceAddresses;
use crate::error::Result;
use crate::types::{ParamValue, PciAddress, TypedParams};

/// One group of `virDomainGetGuestInfo`.
pub(super) struct Group {
    /// `virDomainGuestInfoTypes`.
    pub flag: u32,
    pub command: &'static str,
    /// `None` for an answer that is not what the command answers.
    pub read: fn(&Value, &DomainDef, &mut TypedParams) -> Option<()>,
}

/// All groups, in libvirt's order.
pub(super) const GROUPS: [Group; 8] = [
    Group { flag: 1, command: "guest-get-users", read: users },
    Group { flag: 2, command: "guest-get-osinfo", read: system },
    Group { flag: 4, command: "guest-get-timezone", read: timezone },
    Group { flag: 8, command: "guest-get-host-name", read: host_name },
    Group { flag: 16, command: "guest-get-fsinfo", read: mounts },
    Group { flag: 32, command: "guest-get-disks", read: disks },
    Group { flag: 64, command: "guest-network-get-interfaces", read: network },
    Group { flag: 128, command: "guest-get-load", read: load },
];
/// All their flags.
pub(super) const ALL: u32 = 255;
/// Entries read of any list: an agent must not make us build more than libvirt's client takes.
const MOST: usize = 256;

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name)?.as_str()
}

fn length<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

fn list(value: &Value) -> Option<&[Value]> {
    let all = value.as_array()?;
    Some(all.get(..all.len().min(MOST)).unwrap_or_default())
}

/// Optional fields: (the agent's name, ours).
fn put(params: &mut TypedParams, from: &Value, prefix: &str, fields: &[(&str, &str)]) {
    for (theirs, ours) in fields {
        if let Some(found) = text(from, theirs) {
            params.string(format!("{prefix}{ours}"), found);
        }
    }
}

fn users(answer: &Value, _live: &DomainDef, params: &mut TypedParams) -> Option<()> {
    let all = list(answer)?;
    params.uint("user.count", length(all));
    for (at, user) in all.iter().enumerate() {
        params.string(format!("user.{at}.name"), text(user, "user")?);
        put(params, user, &format!("user.{at}."), &[("domain", "domain")]);
        // Seconds with a fraction; ms for libvirt.
        let ms = user.get("login-time")?.as_f64()? * 1000.0;
        params.ullong(format!("user.{at}.login-time"), ms.max(0.0) as u64);
    }
    Some(())
}

fn system(answer: &Value, _live: &DomainDef, params: &mut TypedParams) -> Option<()> {
    answer.as_object()?;
    const FIELDS: [&str; 10] = [
        "id",
        "name",
        "pretty-name",
        "version",
        "version-id",
        "machine",
        "variant",
        "variant-id",
        "kernel-release",
        "kernel-version",
    ];
    put(params, answer, "os.", &FIELDS.map(|name| (name, name)));
    Some(())
}

fn timezone(answer: &Value, _live: &DomainDef, params: &mut TypedParams) -> Option<()> {
    put(params, answer, "timezone.", &[("zone", "name")]);
    params.int("timezone.offset", i32::try_from(answer.get("offset")?.as_i64()?).ok()?);
    Some(())
}

fn host_name(answer: &Value, _live: &DomainDef, params: &mut TypedParams) -> Option<()> {
    params.string("hostname", text(answer, "host-name")?);
    Some(())
}

fn load(answer: &Value, _live: &DomainDef, params: &mut TypedParams) -> Option<()> {
    for minutes in ["1m", "5m", "15m"] {
        let value = answer.get(format!("load{minutes}"))?.as_f64()?;
        params.push(format!("load.{minutes}"), ParamValue::Double(value));
    }
    Some(())
}

/// The target (`vda`) of the disk that the agent found at an address of the guest.
fn target(place: &Value, live: &DomainDef) -> Option<String> {
    let number = |from: &Value, name: &str| u32::try_from(from.get(name)?.as_u64()?).ok();
    let controller = place.get("pci-controller")?;
    let pci = PciAddress {
        domain: number(controller, "domain")?,
        bus: number(controller, "bus")?,
        slot: number(controller, "slot")?,
        function: number(controller, "function")?,
    };
    let at = |address: &Option<DeviceAddress>| matches!(address, Some(DeviceAddress::Pci { address, .. }) if *address == pci);
    if let Some(disk) = live.disks.iter().find(|disk| at(&disk.info.address)) {
        return disk.target.dev.clone();
    }
    let (bus, target, unit) = (number(place, "bus")?, number(place, "target")?, number(place, "unit")?);
    let controllers: Vec<u32> = live
        .controllers
        .iter()
        .filter(|controller| {
            matches!(controller.kind, ControllerType::Scsi | ControllerType::Sata | ControllerType::Ide)
        })
        .filter(|controller| at(&controller.info.address))
        .filter_map(|controller| controller.index)
        .collect();
    let disk = live.disks.iter().find(|disk| match &disk.info.address {
        Some(DeviceAddress::Drive { controller, bus: b, target: t, unit: u }) => {
            controllers.contains(controller) && (*b, *t, *u) == (bus, target, unit)
        }
        _ => false,
    })?;
    disk.target.dev.clone()
}

fn mounts(answer: &Value, live: &DomainDef, params: &mut TypedParams) -> Option<()> {
    let all = list(answer)?;
    params.uint("fs.count", length(all));
    for (at, fs) in all.iter().enumerate() {
        let prefix = format!("fs.{at}.");
        put(params, fs, &prefix, &[("mountpoint", "mountpoint"), ("name", "name"), ("type", "fstype")]);
        for (theirs, ours) in [("total-bytes", "total-bytes"), ("used-bytes", "used-bytes")] {
            if let Some(bytes) = fs.get(theirs).and_then(Value::as_u64) {
                params.ullong(format!("{prefix}{ours}"), bytes);
            }
        }
        let disks = fs.get("disk").and_then(list).unwrap_or_default();
        params.uint(format!("{prefix}disk.count"), length(disks));
        for (number, disk) in disks.iter().enumerate() {
            let prefix = format!("{prefix}disk.{number}.");
            if let Some(target) = target(disk, live) {
                params.string(format!("{prefix}alias"), target);
            }
            put(params, disk, &prefix, &[("serial", "serial"), ("dev", "device")]);
        }
    }
    Some(())
}

fn disks(answer: &Value, live: &DomainDef, params: &mut TypedParams) -> Option<()> {
    let all = list(answer)?;
    params.uint("disk.count", length(all));
    for (at, disk) in all.iter().enumerate() {
        let prefix = format!("disk.{at}.");
        params.string(format!("{prefix}name"), text(disk, "name")?);
        params.push(format!("{prefix}partition"), ParamValue::Bool(disk.get("partition")?.as_bool()?));
        let below = disk.get("dependencies").and_then(list).unwrap_or_default();
        if !below.is_empty() {
            params.uint(format!("{prefix}dependency.count"), length(below));
        }
        for (number, name) in below.iter().enumerate() {
            params.string(format!("{prefix}dependency.{number}.name"), name.as_str()?);
        }
        let address = disk.get("address").unwrap_or(&Value::Null);
        put(params, address, &prefix, &[("serial", "serial")]);
        if let Some(target) = target(address, live) {
            params.string(format!("{prefix}alias"), target);
        }
        put(params, disk, &prefix, &[("alias", "guest_alias")]);
        put(params, address, &prefix, &[("bus-type", "guest_bus")]);
    }
    Some(())
}

fn network(answer: &Value, _live: &DomainDef, params: &mut TypedParams) -> Option<()> {
    let all = list(answer)?;
    params.uint("if.count", length(all));
    for (at, link) in all.iter().enumerate() {
        let prefix = format!("if.{at}.");
        params.string(format!("{prefix}name"), text(link, "name")?);
        put(params, link, &prefix, &[("hardware-address", "hwaddr")]);
        let addresses = link.get("ip-addresses").and_then(list).unwrap_or_default();
        params.uint(format!("{prefix}addr.count"), length(addresses));
        for (number, address) in addresses.iter().enumerate() {
            let prefix = format!("{prefix}addr.{number}.");
            put(params, address, &prefix, &[("ip-address-type", "type"), ("ip-address", "addr")]);
            let length = address.get("prefix").and_then(Value::as_u64).and_then(|length| u32::try_from(length).ok());
            if let Some(length) = length {
                params.uint(format!("{prefix}prefix"), length);
            }
        }
    }
    Some(())
}

/// The guest's interfaces; what an alias (`eth0:1`) has is its interface's.
pub(super) fn interfaces(answer: &Value) -> Option<Vec<InterfaceAddresses>> {
    let mut found: BTreeMap<&str, InterfaceAddresses> = BTreeMap::new();
    let mut order = Vec::new();
    for link in list(answer)? {
        let name = text(link, "name")?.split(':').next().unwrap_or_default();
        let one = found.entry(name).or_insert_with(|| {
            order.push(name);
            InterfaceAddresses { name: name.to_string(), ..InterfaceAddresses::default() }
        });
        one.mac = one.mac.or_else(|| text(link, "hardware-address")?.parse().ok());
        for address in link.get("ip-addresses").and_then(list).unwrap_or_default() {
            let prefix = address.get("prefix").and_then(Value::as_u64).and_then(|length| u8::try_from(length).ok());
            one.addresses.push((text(address, "ip-address")?.parse().ok()?, prefix.unwrap_or_default()));
        }
    }
    Some(order.iter().filter_map(|name| found.remove(name)).collect())
}

/// `guest-get-fsinfo`. Errors: code 1.
pub(super) fn file_systems(answer: &Value, live: &DomainDef) -> Result<Vec<FsInfo>> {
    let one = |fs: &Value| {
        let field = |name: &str| text(fs, name).map(str::to_string);
        let disks = fs.get("disk").and_then(list).unwrap_or_default();
        let disks = disks.iter().filter_map(|disk| target(disk, live)).collect();
        Some(FsInfo { mountpoint: field("mountpoint")?, name: field("name")?, kind: field("type")?, disks })
    };
    let all = list(answer).and_then(|all| all.iter().map(one).collect());
    all.ok_or_else(|| malformed("guest-get-fsinfo"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml;
    use serde_json::json;

    fn live() -> DomainDef {
        let xml = "<domain type='qemu'><name>a</name><memory>1024</memory><os><type arch='x86_64'>hvm</type></os><devices>\
            <controller type='scsi' index='0'><address type='pci' domain='0' bus='0' slot='7' function='0'/></controller>\
            <disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/>\
            <address type='pci' domain='0' bus='0' slot='5' function='0'/></disk>\
            <disk type='file'><source file='/b'/><target dev='sdb' bus='scsi'/>\
            <address type='drive' controller='0' bus='0' target='0' unit='3'/></disk></devices></domain>";
        domain_xml::parse_inactive(xml).unwrap().def
    }

    fn place(slot: u32, unit: u32) -> Value {
        let pci = json!({"domain": 0, "bus": 0, "slot": slot, "function": 0});
        json!({"bus-type": "x", "bus": 0, "target": 0, "unit": unit, "pci-controller": pci, "dev": "/dev/x"})
    }

    #[test]
    fn file_systems_name_their_disks() {
        let answer = json!([{"name": "vda1", "mountpoint": "/", "type": "ext4",
            "disk": [place(5, 0), place(7, 3), place(7, 4), {"bus": -1}]}]);
        let found = file_systems(&answer, &live()).unwrap();
        assert_eq!(found[0].disks, ["vda", "sdb"]);
        assert_eq!((found[0].mountpoint.as_str(), found[0].kind.as_str()), ("/", "ext4"));
        for bad in [json!({}), json!([{"name": 1}]), json!([[]]), Value::Null] {
            assert!(file_systems(&bad, &live()).is_err(), "{bad}");
        }
    }

    #[test]
    fn aliases_of_an_interface_are_one() {
        let address = |ip: &str| json!([{"ip-address": ip, "ip-address-type": "ipv4", "prefix": 24}]);
        let answer = json!([
            {"name": "eth0", "hardware-address": "52:54:00:00:00:01", "ip-addresses": address("192.0.2.1")},
            {"name": "lo", "ip-addresses": address("127.0.0.1")},
            {"name": "eth0:1", "ip-addresses": address("192.0.2.2")},
        ]);
        let found = interfaces(&answer).unwrap();
        let names: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.addresses.len())).collect();
        assert_eq!(names, [("eth0", 2), ("lo", 1)]);
    }

    #[test]
    fn hostile_answers_are_refused_or_bounded() {
        let live = live();
        let many = Value::Array(vec![json!({"name": "x"}); 5000]);
        for group in &GROUPS {
            for bad in [Value::Null, json!([1]), json!({"offset": "x"}), json!([{"user": 1}]), many.clone()] {
                let mut params = TypedParams::new();
                let _ = (group.read)(&bad, &live, &mut params);
                assert!(params.0.len() <= 2 + MOST * 4, "{}", group.command);
            }
        }
    }
}
