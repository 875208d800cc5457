//! A server in this process on a socket pair: refusals, access, order of signals and replies, back pressure.
//! None of these needs a domain; the life of domains is in `domains`.

use super::lab::Lab;
use crate::engine::access::Access;
use rstest::rstest;
use zbus::message::Flags;

const CONNECT: &str = "org.libvirt.Connect";
const DOMAIN: &str = "org.libvirt.Domain";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNKNOWN_METHOD: &str = "org.freedesktop.DBus.Error.UnknownMethod";
const INVALID_ARGS: &str = "org.freedesktop.DBus.Error.InvalidArgs";
const TEST: &str = "/org/libvirt/Test";
const MISSING: &str = "/org/libvirt/Test/domain/_c7a5fdbd_edaf_9455_926a_d65c16db1809";

#[rstest]
#[case(TEST, "org.libvirt.Connect", "Nix", UNKNOWN_METHOD, "No such method “Nix”")]
#[case(TEST, "org.x.Y", "Nix", UNKNOWN_METHOD, "No such interface “org.x.Y” on object at path /org/libvirt/Test")]
#[case("/org/libvirt/Nix", CONNECT, "Nix", UNKNOWN_METHOD, "Object does not exist at path “/org/libvirt/Nix”")]
#[case("/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", UNKNOWN_METHOD, "ObjectManager")]
#[case("/org/libvirt/Test/domain", DOMAIN, "Suspend", UNKNOWN_METHOD, "No such interface")]
#[case(MISSING, DOMAIN, "Suspend", "org.libvirt.Error", "Domain not found: no domain with matching uuid")]
#[case("/org/libvirt/Test/domain/x", DOMAIN, "Suspend", "org.libvirt.Error", "Invalid UUID")]
#[case(
    "/org/libvirt/Xen",
    CONNECT,
    "GetCapabilities",
    "org.libvirt.Error",
    "no connection driver available for xen:///"
)]
#[case("/org/libvirt/Xen", CONNECT, "NodeGetFreeMemory", "org.libvirt.Error", "no connection driver available")]
#[case("/org/libvirt/LXC/domain/x", DOMAIN, "AbortJob", "org.libvirt.Error", "no connection driver available for lxc")]
#[tokio::test]
async fn refusals(
    #[case] path: &str,
    #[case] interface: &str,
    #[case] member: &str,
    #[case] name: &str,
    #[case] text: &str,
) {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let (found, message) = peer.refused(path, interface, member, &()).await;
    assert_eq!(found, name, "{message}");
    assert!(message.contains(text), "{message}");
}

#[rstest]
#[case("DomainLookupByName", "Type of message, “(u)”, does not match expected type “(s)”")]
#[case("GetCapabilities", "Type of message, “(u)”, does not match expected type “()”")]
#[case("NetworkLookupByName", "Type of message, “(u)”, does not match expected type “(s)”")]
#[tokio::test]
async fn wrong_arguments_are_refused_before_anything_else(#[case] member: &str, #[case] text: &str) {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let (name, message) = peer.refused(TEST, CONNECT, member, &1u32).await;
    assert_eq!((name.as_str(), message.as_str()), (INVALID_ARGS, text));
}

#[tokio::test]
async fn unserved_rows_name_libvirts_function() {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let (name, message) = peer.refused(TEST, CONNECT, "DomainSaveImageGetXMLDesc", &("/image", 0u32)).await;
    assert_eq!(name, "org.libvirt.Error");
    assert_eq!(message, "this function is not supported by the connection driver: virDomainSaveImageGetXMLDesc");
}

#[rstest]
#[case("Get", INVALID_ARGS, "No such property “Nix”")]
#[case("Set", INVALID_ARGS, "No such property “Nix”")]
#[tokio::test]
async fn unknown_properties(#[case] member: &str, #[case] name: &str, #[case] text: &str) {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let (found, message) = match member {
        "Get" => peer.refused(TEST, PROPERTIES, member, &(CONNECT, "Nix")).await,
        _ => peer.refused(TEST, PROPERTIES, member, &(CONNECT, "Nix", zbus::Variant::Bool(true))).await,
    };
    assert_eq!((found.as_str(), message.as_str()), (name, text));
}

#[tokio::test]
async fn properties_refuse_what_gdbus_refuses() {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let value = zbus::Variant::from("x");
    let (name, message) = peer.refused(TEST, PROPERTIES, "Set", &(CONNECT, "Hostname", &value)).await;
    assert_eq!((name.as_str(), message.as_str()), (INVALID_ARGS, "Property “Hostname” is not writable"));
    let (name, message) = peer.refused(MISSING, PROPERTIES, "Set", &(DOMAIN, "Autostart", &value)).await;
    assert_eq!(name, INVALID_ARGS);
    assert_eq!(message, "Error setting property “Autostart”: Expected type “b” but got “s”");
    let (name, message) = peer.refused(TEST, PROPERTIES, "GetAll", &"org.x.Y").await;
    assert_eq!((name.as_str(), message.as_str()), (INVALID_ARGS, "No such interface “org.x.Y”"));
}

#[tokio::test]
async fn getall_of_a_missing_domain_is_empty() {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let all: std::collections::HashMap<String, zbus::OwnedVariant> =
        peer.call(MISSING, PROPERTIES, "GetAll", &DOMAIN).await;
    assert!(all.is_empty());
}

#[tokio::test]
async fn a_bus_clients_first_calls_are_answered() {
    const BUS: &str = "org.freedesktop.DBus";
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let own: String = peer.call("/org/freedesktop/DBus", BUS, "Hello", &()).await;
    assert!(own.starts_with(":1."), "{own}");
    assert_ne!(own, ":1.0");
    let () = peer.call("/org/freedesktop/DBus", BUS, "AddMatch", &"type='signal'").await;
    let owner: String = peer.call("/org/freedesktop/DBus", BUS, "GetNameOwner", &"org.libvirt").await;
    assert_eq!(owner, ":1.0");
    let has: bool = peer.call("/org/freedesktop/DBus", BUS, "NameHasOwner", &"org.example").await;
    assert!(!has);
    let (name, _) = peer.refused("/org/freedesktop/DBus", BUS, "GetNameOwner", &"org.example").await;
    assert_eq!(name, "org.freedesktop.DBus.Error.NameHasNoOwner");
    let (name, _) = peer.refused("/org/freedesktop/DBus", BUS, "RequestName", &("org.example", 0u32)).await;
    assert_eq!(name, "org.freedesktop.DBus.Error.AccessDenied");
}

#[tokio::test]
async fn a_refused_peer_is_told_why() {
    let lab = Lab::new().await;
    let peer = lab.peer_with(Access::Refused("add the user to group 'x'".into())).await;
    let (name, message) = peer.refused(TEST, CONNECT, "GetCapabilities", &()).await;
    assert_eq!(name, "org.freedesktop.DBus.Error.AccessDenied");
    assert_eq!(message, "add the user to group 'x'");
}

#[tokio::test]
async fn a_reader_may_read_and_nothing_else() {
    let lab = Lab::new().await;
    let peer = lab.peer_with(Access::ReadOnly).await;
    let paths: Vec<zbus::OwnedObjectPath> = peer.call(TEST, CONNECT, "ListDomains", &0u32).await;
    assert!(paths.is_empty());
    let (name, message) = peer.refused(TEST, CONNECT, "DomainDefineXML", &"<domain/>").await;
    assert_eq!(name, "org.libvirt.Error");
    assert_eq!(message, "operation forbidden: read only access prevents virDomainDefineXMLFlags");
}

#[tokio::test]
async fn no_reply_when_none_is_wanted() {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let call = zbus::Message::method_call(TEST, "GetCapabilities")
        .interface(CONNECT)
        .with_flags(Flags::NO_REPLY_EXPECTED)
        .build(&())
        .unwrap();
    peer.connection.send(&call).await.unwrap();
    let version: zbus::OwnedVariant = peer.call(TEST, PROPERTIES, "Get", &(CONNECT, "LibVersion")).await;
    assert!(u64::try_from(version).unwrap() >= 10_000_000);
    assert_eq!(peer.replies_to(call.primary_header().serial_num()), 0);
}

#[tokio::test]
async fn a_call_without_interface_finds_its_member() {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let reply = peer.connection.call_method(None::<&str>, TEST, None::<&str>, "GetCapabilities", &()).await.unwrap();
    assert!(reply.body().deserialize::<String>().unwrap().contains("<capabilities>"));
}

#[tokio::test]
async fn the_daemons_own_object() {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    let drivers: zbus::OwnedVariant =
        peer.call("/org/domus", PROPERTIES, "Get", &("org.domus.Daemon1", "Drivers")).await;
    assert_eq!(Vec::<String>::try_from(drivers).unwrap(), ["Test"]);
    let pid: zbus::OwnedVariant = peer.call("/org/domus", PROPERTIES, "Get", &("org.domus.Daemon1", "Pid")).await;
    assert_eq!(u32::try_from(pid).unwrap(), std::process::id());
}

#[tokio::test]
async fn every_event_is_signalled_before_the_reply_that_follows_it() {
    let lab = Lab::new().await;
    let peer = lab.peer().await;
    for round in 0..50 {
        lab.emit_reboot();
        let (_, signals) = peer.reply(TEST, CONNECT, "GetCapabilities", &()).await;
        assert_eq!(signals.len(), round + 1);
    }
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_cut_off_and_others_are_not() {
    let lab = Lab::with_limit(64 * 1024).await;
    let deaf = lab.deaf_peer().await;
    let peer = lab.peer().await;
    lab.until_clients(2).await;
    // Each signal is some 200 bytes; the socket's own buffers take some too.
    for _ in 0..200 {
        for _ in 0..50 {
            lab.emit_reboot();
        }
        let _: String = peer.call(TEST, CONNECT, "GetCapabilities", &()).await;
        if lab.server.client_count() == 1 {
            break;
        }
    }
    lab.until_clients(1).await;
    drop(deaf);
    let _: String = peer.call(TEST, CONNECT, "GetCapabilities", &()).await;
}
