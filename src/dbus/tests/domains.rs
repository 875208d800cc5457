//! The life of domains over D-Bus, with the test driver.

use std::collections::HashMap;

use zbus::{Message, OwnedObjectPath, OwnedVariant, Variant};

use super::lab::{Lab, Peer};

const CONNECT: &str = "org.libvirt.Connect";
const DOMAIN: &str = "org.libvirt.Domain";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const TEST: &str = "/org/libvirt/Test";

fn xml(name: &str) -> String {
    format!(
        "<domain type='test'><name>{name}</name><memory unit='KiB'>65536</memory><vcpu>2</vcpu>\
         <os><type arch='i686'>hvm</type></os></domain>"
    )
}

async fn define(peer: &Peer, name: &str) -> String {
    let path: OwnedObjectPath = peer.call(TEST, CONNECT, "DomainDefineXML", &xml(name)).await;
    path.to_string()
}

/// (event, detail) of the `DomainEvent` signals, which must all be about `domain`; what the standard's own interfaces tell
/// beside them is left out.
fn lifecycle(signals: &[Message], domain: &str) -> Vec<(i32, i32)> {
    let of_libvirt = |signal: &&Message| !signal.header().interface().unwrap().starts_with("org.freedesktop.DBus.");
    let events = signals.iter().filter(of_libvirt).map(|signal| {
        let header = signal.header();
        assert_eq!(header.path().unwrap().as_str(), TEST);
        assert_eq!(header.interface().unwrap().as_str(), CONNECT);
        assert_eq!(header.member().unwrap().as_str(), "DomainEvent");
        assert_eq!(header.sender().unwrap().as_str(), ":1.0");
        let body = signal.body();
        let (path, event, detail): (zbus::ObjectPath<'_>, i32, i32) = body.deserialize().unwrap();
        assert_eq!(path.as_str(), domain);
        (event, detail)
    });
    events.collect()
}

#[tokio::test]
async fn a_life_with_its_signals_each_before_its_reply() {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let path = define(&peer, "one").await;
    let state = async |expected: (i32, i32)| {
        let found: ((i32, i32),) = peer.call(&path, DOMAIN, "GetState", &0u32).await;
        assert_eq!(found.0, expected);
    };
    state((5, 0)).await;
    let mut expected = vec![(0, 0)];
    for (member, flags, event, then) in [
        ("Create", true, (2, 0), (1, 1)),
        ("Suspend", false, (3, 0), (3, 1)),
        ("Resume", false, (4, 0), (1, 5)),
        ("Destroy", true, (5, 1), (5, 2)),
        ("Undefine", true, (1, 0), (0, 0)),
    ] {
        let (reply, signals) = match flags {
            true => peer.reply(&path, DOMAIN, member, &0u32).await,
            false => peer.reply(&path, DOMAIN, member, &()).await,
        };
        assert_eq!(reply.message_type(), zbus::message::Type::MethodReturn, "{member}: {reply}");
        expected.push(event);
        assert_eq!(lifecycle(&signals, &path), expected, "{member}");
        if member != "Undefine" {
            state(then).await;
        }
    }
    let (name, message) = peer.refused(&path, DOMAIN, "GetState", &0u32).await;
    assert_eq!(name, "org.libvirt.Error");
    assert!(message.starts_with("Domain not found: no domain with matching uuid"), "{message}");
}

#[tokio::test]
async fn lookups_lists_and_introspection_agree() {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let (one, two) = (define(&peer, "one").await, define(&peer, "two").await);
    let () = peer.call(&two, DOMAIN, "Create", &0u32).await;
    let list = async |flags: u32| {
        let found: Vec<OwnedObjectPath> = peer.call(TEST, CONNECT, "ListDomains", &flags).await;
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(list(0).await, [one.clone(), two.clone()]);
    assert_eq!(list(1).await, std::slice::from_ref(&two));
    let found: OwnedObjectPath = peer.call(TEST, CONNECT, "DomainLookupByName", &"one").await;
    assert_eq!(found.as_str(), one);
    let uuid: OwnedVariant = peer.call(&two, PROPERTIES, "Get", &(DOMAIN, "UUID")).await;
    let uuid = String::try_from(uuid).unwrap();
    let found: OwnedObjectPath = peer.call(TEST, CONNECT, "DomainLookupByUUID", &uuid).await;
    assert_eq!(found.as_str(), two);
    let id: OwnedVariant = peer.call(&two, PROPERTIES, "Get", &(DOMAIN, "Id")).await;
    let id = i32::try_from(u32::try_from(id).unwrap()).unwrap();
    let found: OwnedObjectPath = peer.call(TEST, CONNECT, "DomainLookupByID", &id).await;
    assert_eq!(found.as_str(), two);
    let (_, message) = peer.refused(TEST, CONNECT, "DomainLookupByUUID", &"x").await;
    assert!(message.contains("uuidstr in virDomainLookupByUUIDString must be a valid UUID"), "{message}");
    let document: String =
        peer.call(&format!("{TEST}/domain"), "org.freedesktop.DBus.Introspectable", "Introspect", &()).await;
    for path in [&one, &two] {
        let key = path.rsplit('/').next().unwrap();
        assert!(document.contains(&format!("<node name=\"{key}\"/>")), "{document}");
    }
}

#[tokio::test]
async fn properties_of_a_domain() {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let path = define(&peer, "one").await;
    let all: HashMap<String, OwnedVariant> = peer.call(&path, PROPERTIES, "GetAll", &DOMAIN).await;
    let mut names: Vec<_> = all.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["Active", "Autostart", "Id", "Name", "OSType", "Persistent", "SchedulerType", "UUID", "Updated"]
    );
    assert_eq!(*all["Active"], Variant::Variant(Box::new(Variant::Bool(false))));
    assert_eq!(*all["Id"], Variant::Variant(Box::new(Variant::U32(0))));
    assert_eq!(*all["Name"], Variant::Variant(Box::new(Variant::from("one"))));
    let scheduler: OwnedVariant = peer.call(&path, PROPERTIES, "Get", &(DOMAIN, "SchedulerType")).await;
    assert_eq!(scheduler.value_signature(), "(si)");
    let autostart = async || {
        let value: OwnedVariant = peer.call(&path, PROPERTIES, "Get", &(DOMAIN, "Autostart")).await;
        bool::try_from(value).unwrap()
    };
    assert!(!autostart().await);
    let () = peer.call(&path, PROPERTIES, "Set", &(DOMAIN, "Autostart", Variant::Bool(true))).await;
    assert!(autostart().await);
}

#[tokio::test]
async fn statistics_are_wrapped_twice() {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let path = define(&peer, "one").await;
    let stats: HashMap<String, OwnedVariant> = peer.call(&path, DOMAIN, "GetStats", &(1u32, 0u32)).await;
    assert_eq!(*stats["state.state"], Variant::Variant(Box::new(Variant::I32(5))));
    let all: Vec<(String, HashMap<String, OwnedVariant>)> =
        peer.call(TEST, CONNECT, "GetAllDomainStats", &(1u32, 0u32)).await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].0, "one");
    assert!(all[0].1.contains_key("state.reason"));
}

#[tokio::test]
async fn own_interfaces() {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let path = define(&peer, "one").await;
    let info: ((u32, u64, u64, u32, u64),) = peer.call(&path, "org.domus.Domain1", "GetInfo", &()).await;
    assert_eq!((info.0.0, info.0.1, info.0.3), (5, 65536, 2));
    let _: Vec<String> = peer.call(&path, "org.domus.Domain1", "GetMessages", &0u32).await;
    let doubtful = xml("two").replace("<vcpu>", "<featurs/><vcpu>");
    let warnings: Vec<(u32, u32, String, String)> =
        peer.call(TEST, "org.domus.Connect1", "CheckXML", &(doubtful, 0u32)).await;
    assert!(warnings.iter().any(|(line, _, _, text)| *line == 1 && text.contains("featurs")), "{warnings:?}");
    let plan: String = peer.call(TEST, "org.domus.Connect1", "Plan", &(xml("two"), 0u32)).await;
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert!(plan["argv"].is_array() && plan["files"].is_array());
    let (_, message) = peer.refused(TEST, "org.domus.Connect1", "Plan", &(xml("two"), 8u32)).await;
    assert!(message.contains("unsupported flags (0x8)"), "{message}");
}

#[tokio::test]
async fn calls_in_flight_at_once_all_end() {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let path = define(&peer, "one").await;
    let calls = (0..500).map(|_| peer.call::<_, ((i32, i32),)>(&path, DOMAIN, "GetState", &0u32));
    for state in futures_util::future::join_all(calls).await {
        assert_eq!(state.0, (5, 0));
    }
}
