//! The D-Bus side as other programs see it: the peer-to-peer socket, a bus daemon, and the usual tools on both.

use std::collections::HashMap;
use std::process::Command;

use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use crate::harness::bus::{CONNECT, DOMAIN, LXC, PROPERTIES, QEMU, TEST};
use crate::harness::{Bus, BusDaemon, DEADLINE, Lab, program, run, skip, test_name};
use crate::mock_life::xml;

#[test]
fn the_object_tree_is_libvirt_dbuss() {
    let lab = Lab::mock();
    let bus = lab.bus();
    let path = bus.define(TEST, &xml("one"));
    for root in [QEMU, LXC, TEST] {
        let text = bus.introspect(root);
        for word in ["org.libvirt.Connect", "DomainDefineXML", "DomainEvent", "StorageVolLookupByPath"] {
            assert!(text.contains(word), "{root} should show {word}");
        }
    }
    let text = bus.introspect(&format!("{TEST}/domain"));
    assert!(text.contains(path.rsplit('/').next().unwrap()), "the subtree lists its children: {text}");
    let text = bus.introspect(&path);
    for word in ["org.libvirt.Domain", "GetXMLDesc", "BlockThreshold", "SchedulerType"] {
        assert!(text.contains(word), "a domain should show {word}");
    }
    // No ObjectManager anywhere.
    let refused = bus.refused("/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &());
    assert_eq!(refused.name, "org.freedesktop.DBus.Error.UnknownMethod");
    drop(bus);
    lab.finish();
}

#[test]
fn refusals_have_libvirt_dbuss_names() {
    let lab = Lab::mock();
    let bus = lab.bus();
    let domain = |uuid: &str| format!("{TEST}/domain/{uuid}");
    let missing = domain("_c7a5fdbd_edaf_9455_926a_d65c16db1809");
    for (path, interface, member, name, text) in [
        (TEST.to_string(), CONNECT, "NoSuchMethod", "org.freedesktop.DBus.Error.UnknownMethod", ""),
        (TEST.to_string(), "org.example.None", "X", "org.freedesktop.DBus.Error.UnknownMethod", ""),
        ("/org/libvirt/Nowhere".into(), CONNECT, "X", "org.freedesktop.DBus.Error.UnknownMethod", ""),
        (domain("_not_a_uuid"), DOMAIN, "GetSecurityLabelList", "org.libvirt.Error", "Invalid UUID"),
        (missing.clone(), DOMAIN, "Suspend", "org.libvirt.Error", "Domain not found"),
    ] {
        let refused = bus.refused(&path, interface, member, &());
        assert_eq!(refused.name, name, "{interface}.{member} on {path}: {}", refused.message);
        assert!(refused.message.contains(text), "{}", refused.message);
    }
    let refused = bus.refused(TEST, CONNECT, "DomainLookupByName", &(1u32,));
    assert_eq!(refused.name, "org.freedesktop.DBus.Error.InvalidArgs");
    assert!(refused.message.contains("does not match expected type"), "{}", refused.message);
    let refused = bus.refused(TEST, PROPERTIES, "Get", &(CONNECT, "NoSuchProperty"));
    assert_eq!(refused.name, "org.freedesktop.DBus.Error.InvalidArgs");
    // A driver that does not run here answers; the object is there.
    let refused = bus.refused(LXC, CONNECT, "ListDomains", &(0u32,));
    assert_eq!(refused.name, "org.libvirt.Error");
    assert!(refused.message.contains("no connection driver available"), "{}", refused.message);
    // GetAll never fails: it leaves out what cannot be had.
    let all: HashMap<String, OwnedVariant> = bus.call(&missing, PROPERTIES, "GetAll", &(DOMAIN,));
    assert!(all.is_empty(), "{all:?}");
    drop(bus);
    lab.finish();
}

#[test]
fn getall_wraps_twice_and_get_once() {
    let lab = Lab::mock();
    let bus = lab.bus();
    let path = bus.define(TEST, &xml("one"));
    let all: HashMap<String, OwnedVariant> = bus.call(&path, PROPERTIES, "GetAll", &(DOMAIN,));
    let mut names: Vec<&str> = all.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["Active", "Autostart", "Id", "Name", "OSType", "Persistent", "SchedulerType", "UUID", "Updated"]
    );
    match &*all["Active"] {
        Variant::Variant(inner) => assert_eq!(**inner, Variant::Bool(false)),
        other => panic!("Active should be a variant in the variant, is {other:?}"),
    }
    assert_eq!(*bus.property(&path, DOMAIN, "Active"), Variant::Bool(false));
    let version = u64::try_from(bus.property(TEST, CONNECT, "LibVersion")).unwrap();
    assert!(version >= 10_000_000, "{version}");
    drop(bus);
    lab.finish();
}

#[test]
fn calls_that_are_not_there_yet_say_so() {
    let lab = Lab::mock();
    let bus = lab.bus();
    let path = bus.define(TEST, &xml("one"));
    let refused = bus.refused(&path, DOMAIN, "MigrateStartPostCopy", &(0u32,));
    assert_eq!(refused.name, "org.libvirt.Error");
    assert!(
        refused.message.starts_with("this function is not supported by the connection driver"),
        "{}",
        refused.message
    );
    drop(bus);
    lab.finish();
}

#[test]
fn flags_nobody_knows_are_refused() {
    let lab = Lab::mock();
    let bus = lab.bus();
    let path = bus.define(TEST, &xml("one"));
    let refused = bus.refused(&path, DOMAIN, "Create", &(1u32 << 30,));
    assert!(refused.message.contains("unsupported flags (0x40000000)"), "{}", refused.message);
    drop(bus);
    lab.finish();
}

#[test]
fn a_bus_daemon_carries_calls_and_signals() {
    let mut lab = Lab::bare(&["--mock"]);
    let Some(daemon) = BusDaemon::start(&lab) else { return };
    lab.argument("--bus");
    lab.argument(daemon.address.clone());
    lab.start();
    let bus = Bus::over(&daemon.address);
    let mut signals = bus.listen();
    let path = bus.define(TEST, &xml("one"));
    let _: () = bus.call(&path, DOMAIN, "Create", &(0u32,));
    assert_eq!(bus.state(&path), (1, 1));
    assert_eq!(signals.domain_events(2, DEADLINE), [(0, 0), (2, 0)]);
    // The daemon's own socket shows the same world.
    assert_eq!(lab.bus().state(&path), (1, 1));
    drop(signals);
    drop(bus);
    drop(daemon);
    // The bus is gone; the daemon's own socket is not.
    assert_eq!(lab.names(), ["one"]);
    lab.finish();
}

/// Clients match signals by interface, on any path: an object of the host that two drivers share must not come twice
/// to one that never asked for the second.
#[test]
fn a_bus_hears_of_a_second_driver_once_it_asks() {
    let Some(mut lab) = Lab::qemu_unstarted() else { return };
    let Some(daemon) = BusDaemon::start(&lab) else { return };
    lab.argument("--bus");
    lab.argument(daemon.address.clone());
    lab.start();
    let bus = Bus::over(&daemon.address);
    let mut signals = bus.listen();
    let xml = format!("<network><name>{}</name></network>", lab.tag());
    let network: OwnedObjectPath = bus.call(QEMU, CONNECT, "NetworkDefineXML", &(xml,));
    let _: Vec<OwnedObjectPath> = bus.call(LXC, CONNECT, "ListNetworks", &(0u32,));
    let _: () = bus.call(network.as_str(), "org.libvirt.Network", "Undefine", &());
    let roots: Vec<String> = (0..3).map(|_| signals.next(DEADLINE).expect("three signals").0).collect();
    assert_eq!(roots, [QEMU, LXC, QEMU]);
    drop(signals);
    drop(bus);
    drop(daemon);
    lab.finish();
}

/// Runs a foreign tool twice: on the daemon's own socket and through a bus daemon.
fn with_tool(tool: &str, commands: impl Fn(&str, &str) -> Vec<(Vec<String>, &'static str)>) {
    let found = if tool.starts_with('/') { Some(tool.into()) } else { program(tool) };
    let Some(path) = found else {
        skip(&test_name(), &format!("{tool} is not installed"));
        return;
    };
    let mut lab = Lab::bare(&["--mock"]);
    let Some(daemon) = BusDaemon::start(&lab) else { return };
    lab.argument("--bus");
    lab.argument(daemon.address.clone());
    lab.start();
    let domain = lab.bus().define(TEST, &xml("one"));
    for address in [format!("unix:path={}", lab.socket().display()), daemon.address.clone()] {
        for (arguments, wanted) in commands(&address, &domain) {
            let out = run(Command::new(&path).args(&arguments), DEADLINE);
            assert!(out.success(), "{tool} {arguments:?}: {}{}", out.stdout, out.stderr);
            assert!(out.stdout.contains(wanted), "{tool} {arguments:?} should show {wanted:?}:\n{}", out.stdout);
        }
    }
    drop(daemon);
    lab.finish();
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(Into::into).collect()
}

#[test]
fn busctl_introspects_and_calls() {
    with_tool("busctl", |address, domain| {
        let at = format!("--address={address}");
        vec![
            (words(&format!("{at} introspect org.libvirt {TEST}")), ".DomainDefineXML"),
            (words(&format!("{at} call org.libvirt {domain} {DOMAIN} GetState u 0")), "(ii) 5 0"),
            (words(&format!("{at} get-property org.libvirt {domain} {DOMAIN} Name")), "s \"one\""),
        ]
    });
}

#[test]
fn gdbus_introspects_and_calls() {
    with_tool("gdbus", |address, domain| {
        let to = format!("--address {address} --dest org.libvirt --object-path");
        vec![
            (words(&format!("introspect {to} {TEST}")), "DomainDefineXML"),
            (words(&format!("call {to} {domain} --method {DOMAIN}.GetState 0")), "((5, 0),)"),
        ]
    });
}

#[test]
fn python_sees_the_same() {
    let python = "/usr/bin/python3";
    let has_module = std::path::Path::new(python).exists()
        && run(Command::new(python).args(["-c", "import dbus"]), DEADLINE).success();
    if !has_module {
        skip(&test_name(), "python3 with the dbus module is not installed");
        return;
    }
    let script = "\
import sys, dbus, dbus.connection
bus = dbus.bus.BusConnection(sys.argv[1])
domain = dbus.Interface(bus.get_object('org.libvirt', sys.argv[2], introspect=False), 'org.libvirt.Domain')
props = dbus.Interface(domain, 'org.freedesktop.DBus.Properties')
print([int(x) for x in domain.GetState(dbus.UInt32(0))], props.GetAll('org.libvirt.Domain')['Name'])
";
    with_tool(python, |address, domain| {
        vec![(vec!["-c".into(), script.into(), address.into(), domain.into()], "[5, 0] one")]
    });
}

#[test]
fn a_hundred_clients_see_a_thousand_events_in_order() {
    const CLIENTS: usize = 100;
    const ROUNDS: usize = 250;
    let lab = Lab::mock();
    let caller = lab.bus();
    let path = caller.define(TEST, &xml("one"));
    let clients: Vec<Bus> = (0..CLIENTS).map(|_| lab.bus()).collect();
    // A call first: whoever was answered is listened to.
    let mut listeners: Vec<_> = clients
        .iter()
        .map(|bus| {
            let signals = bus.listen();
            assert_eq!(bus.state(&path), (5, 0));
            signals
        })
        .collect();
    let began = std::time::Instant::now();
    for _ in 0..ROUNDS {
        for member in ["Create", "Destroy"] {
            let _: () = caller.call(&path, DOMAIN, member, &(0u32,));
        }
        for paused in [false, true] {
            let _: () = caller.call(&path, DOMAIN, "SetMetadata", &(0i32, format!("{paused}"), "", "", 2u32));
        }
    }
    let spent = began.elapsed();
    // started booted, stopped destroyed; changes of the metadata stand between them on the domain's own path.
    let round = [("DomainEvent", 2), ("DomainEvent", 5), ("MetadataChange", 0), ("MetadataChange", 0)];
    for (number, signals) in listeners.iter_mut().enumerate() {
        for at in 0..ROUNDS * round.len() {
            let (_, member, message) = signals.next(DEADLINE).unwrap_or_else(|| panic!("client {number}: event {at}"));
            let event = match member.as_str() {
                "DomainEvent" => message.body().deserialize::<(OwnedObjectPath, i32, i32)>().unwrap().1,
                _ => message.body().deserialize::<(i32, String)>().unwrap().0,
            };
            assert_eq!((member.as_str(), event), round[at % round.len()], "client {number}, event {at}");
        }
    }
    let events = ROUNDS * round.len();
    eprintln!("{CLIENTS} clients saw {events} events each; they took {spent:?} to happen");
    drop(listeners);
    drop(clients);
    drop(caller);
    lab.finish();
}
