//! Every kind of object as the usual D-Bus clients see it: its introspection beside the files in `schemas/`, a call, a
//! property.

use std::path::Path;
use std::process::Command;

use zbus::{OwnedObjectPath, Variant};

use crate::harness::bus::{CONNECT, DOMAIN, TEST};
use crate::harness::{Bus, BusDaemon, DEADLINE, Lab, program, run, skip, test_name};
use crate::mock_life::xml;

const POOL: &str = "org.libvirt.StoragePool";

/// An object to look at.
struct Object {
    path: String,
    /// All that stand on it; the first has the method and the property.
    interfaces: &'static [&'static str],
    /// Without arguments, or with flags.
    method: Option<(&'static str, bool)>,
    /// A text.
    property: Option<&'static str>,
}

/// A daemon on a bus of its own, with one object of every kind.
fn world() -> Option<(Lab, BusDaemon, Bus, Vec<Object>)> {
    let mut lab = Lab::bare(&["--mock"]);
    let daemon = BusDaemon::start(&lab)?;
    lab.argument("--bus");
    lab.argument(daemon.address.clone());
    lab.start();
    let bus = Bus::over(&daemon.address);
    let make = |path: &str, interface: &str, member: &str, xml: &str, flags: bool| -> String {
        let path: OwnedObjectPath = match flags {
            true => bus.call(path, interface, member, &(xml, 0u32)),
            false => bus.call(path, interface, member, &(xml,)),
        };
        path.to_string()
    };
    let first = |member: &str| -> String {
        let paths: Vec<OwnedObjectPath> = bus.call(TEST, CONNECT, member, &(0u32,));
        paths[0].to_string()
    };
    let domain = bus.define(TEST, &xml("one"));
    let snapshot =
        make(&domain, DOMAIN, "SnapshotCreateXML", "<domainsnapshot><name>a b</name></domainsnapshot>", true);
    let pool = first("ListStoragePools");
    let volume = "<volume><name>v</name><capacity>1024</capacity></volume>";
    let volume = make(&pool, POOL, "StorageVolCreateXML", volume, true);
    let secret = "<secret><usage type='volume'><volume>/v</volume></usage></secret>";
    let secret = make(TEST, CONNECT, "SecretDefineXML", secret, true);
    let filter = make(TEST, CONNECT, "NWFilterDefineXML", "<filter name='f'/>", false);
    let described = Some(("GetXMLDesc", true));
    let object = |path: String, interfaces: &'static [&'static str], property| Object {
        path,
        interfaces,
        method: described,
        property: Some(property),
    };
    let root = &["org.libvirt.Connect", "org.domus.Connect1", "org.domus.Images1"];
    let objects = vec![
        Object { method: Some(("NodeGetFreeMemory", false)), ..object(TEST.into(), root, "Hostname") },
        object(domain, &["org.libvirt.Domain", "org.domus.Domain1"], "Name"),
        Object { property: None, ..object(snapshot, &["org.libvirt.DomainSnapshot"], "") },
        object(first("ListNetworks"), &["org.libvirt.Network", "org.domus.Network1"], "Name"),
        object(pool, &["org.libvirt.StoragePool", "org.domus.StoragePool1"], "Name"),
        object(volume, &["org.libvirt.StorageVol", "org.domus.StorageVol1"], "Path"),
        object(secret, &["org.libvirt.Secret", "org.domus.Secret1"], "UsageID"),
        object(first("ListNodeDevices"), &["org.libvirt.NodeDevice", "org.domus.NodeDevice1"], "Name"),
        object(first("ListInterfaces"), &["org.libvirt.Interface"], "Name"),
        object(filter, &["org.libvirt.NWFilter"], "Name"),
        Object { method: None, ..object("/org/domus".into(), &["org.domus.Daemon1"], "Version") },
        // One that is not there shows what it would be.
        Object { method: None, property: None, ..object(format!("{TEST}/job/1"), &["org.domus.Job1"], "") },
    ];
    Some((lab, daemon, bus, objects))
}

/// A domain with snapshots is not undefined like any other.
fn end(lab: Lab) {
    lab.ok(&["snapshot-delete", "one", "a b"]);
    lab.finish();
}

/// The lines of a document that are no prose.
fn bare(text: &str) -> Vec<String> {
    let mut bare = String::new();
    let mut rest = text;
    while let Some((before, comment)) = rest.split_once("<!--") {
        bare.push_str(before);
        rest = comment.split_once("-->").unwrap().1;
    }
    bare.push_str(rest);
    bare.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect()
}

/// The lines of the element of the interface called `name`.
fn element(document: &str, name: &str) -> Vec<String> {
    let lines = bare(document).into_iter();
    let open = format!("<interface name=\"{name}\">");
    let mut lines = lines.skip_while(|line| *line != open).collect::<Vec<_>>();
    let end = lines.iter().position(|line| line == "</interface>").unwrap_or_default();
    lines.truncate(end);
    lines
}

#[test]
fn zbus_sees_what_the_schemas_say() {
    let Some((lab, daemon, bus, objects)) = world() else { return };
    for Object { path, interfaces, method, property } in &objects {
        let served = bus.introspect(path);
        for name in *interfaces {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/dbus/{name}.xml"));
            let expected = element(&std::fs::read_to_string(file).unwrap(), name);
            assert!(expected.len() > 1, "{name}");
            assert_eq!(element(&served, name), expected, "{name} on {path}");
        }
        let own = served.matches("<interface name=\"org.libvirt.").count()
            + served.matches("<interface name=\"org.domus.").count();
        assert_eq!(own, interfaces.len(), "{path}: {served}");
        if let Some((method, flags)) = method {
            let reply = match flags {
                true => bus.try_call(path, interfaces[0], method, &(0u32,)),
                false => bus.try_call(path, interfaces[0], method, &()),
            };
            reply.unwrap_or_else(|refused| panic!("{method} on {path}: {refused:?}"));
        }
        if let Some(property) = property {
            assert!(matches!(&*bus.property(path, interfaces[0], property), Variant::Str(_)), "{property} of {path}");
        }
    }
    drop((bus, daemon));
    end(lab);
}

/// The same through a tool: `words` are its arguments for introspection, for a method with or without flags, and for a
/// property.
fn under(tool: &str, words: impl Fn(&str, &str, Question<'_>) -> Vec<String>) {
    let Some(program) = program(tool) else {
        skip(&test_name(), &format!("{tool} is not installed"));
        return;
    };
    let Some((lab, daemon, bus, objects)) = world() else { return };
    let ask = |path: &str, question: Question<'_>| {
        let arguments = words(&daemon.address, path, question);
        let out = run(Command::new(&program).args(&arguments), DEADLINE);
        assert!(out.success(), "{tool} {arguments:?}: {}{}", out.stdout, out.stderr);
        out.stdout
    };
    for Object { path, interfaces, method, property } in &objects {
        assert_eq!(bare(&ask(path, Question::Introspect)), bare(&bus.introspect(path)), "{tool}: {path}");
        if let Some((method, flags)) = method {
            assert!(!ask(path, Question::Call(interfaces[0], method, *flags)).trim().is_empty());
        }
        if let Some(property) = property {
            let value = String::try_from(bus.property(path, interfaces[0], property)).unwrap();
            let said = ask(path, Question::Property(interfaces[0], property));
            assert!(said.contains(&value), "{tool}: {property} of {path} is {value}: {said}");
        }
    }
    drop((bus, daemon));
    end(lab);
}

#[derive(Clone, Copy)]
enum Question<'q> {
    Introspect,
    Call(&'q str, &'q str, bool),
    Property(&'q str, &'q str),
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(Into::into).collect()
}

#[test]
fn busctl_sees_the_same() {
    under("busctl", |address, path, question| {
        words(&match question {
            Question::Introspect => format!("--address={address} introspect --xml-interface org.libvirt {path}"),
            Question::Call(interface, method, flags) => {
                let flags = if flags { "u 0" } else { "" };
                format!("--address={address} call org.libvirt {path} {interface} {method} {flags}")
            }
            Question::Property(interface, name) => {
                format!("--address={address} get-property org.libvirt {path} {interface} {name}")
            }
        })
    });
}

#[test]
fn gdbus_sees_the_same() {
    under("gdbus", |address, path, question| {
        let to = format!("--address {address} --dest org.libvirt --object-path {path}");
        words(&match question {
            Question::Introspect => format!("introspect --xml {to}"),
            Question::Call(interface, method, flags) => {
                format!("call {to} --method {interface}.{method} {}", if flags { "0" } else { "" })
            }
            Question::Property(interface, name) => {
                format!("call {to} --method org.freedesktop.DBus.Properties.Get {interface} {name}")
            }
        })
    });
}

const PYTHON: &str = "\
import sys, dbus, dbus.bus
address, path, what, *rest = sys.argv[1:]
it = dbus.bus.BusConnection(address).get_object('org.libvirt', path, introspect=False)
if what == 'introspect':
    print(it.Introspect(dbus_interface='org.freedesktop.DBus.Introspectable'))
elif what == 'call':
    interface, method, *flags = rest
    print(it.get_dbus_method(method, interface)(*[dbus.UInt32(flag) for flag in flags]))
else:
    print(it.Get(*rest, dbus_interface='org.freedesktop.DBus.Properties'))
";

#[test]
fn dbus_python_sees_the_same() {
    let python = "/usr/bin/python3";
    if !Path::new(python).exists() || !run(Command::new(python).args(["-c", "import dbus"]), DEADLINE).success() {
        skip(&test_name(), "python3 with the dbus module is not installed");
        return;
    }
    under(python, |address, path, question| {
        let mut arguments = vec!["-c".to_string(), PYTHON.to_string()];
        arguments.extend(words(&match question {
            Question::Introspect => format!("{address} {path} introspect"),
            Question::Call(interface, method, flags) => {
                format!("{address} {path} call {interface} {method} {}", if flags { "0" } else { "" })
            }
            Question::Property(interface, name) => format!("{address} {path} get {interface} {name}"),
        }));
        arguments
    });
}
