//! Definitions: what is kept, what is refused, what survives. On the mock driver.

use crate::harness::bus::{CONNECT, DOMAIN, TEST};
use crate::harness::{Lab, fixture};
use crate::mock_life::xml;
use zbus::{OwnedObjectPath, Variant};

const UUID: &str = "c7a5fdbd-edaf-9455-926a-d65c16db1809";

fn xml_with_uuid(name: &str, uuid: &str) -> String {
    xml(name).replace("</name>", &format!("</name><uuid>{uuid}</uuid>"))
}

#[test]
fn definitions_survive_a_restart_and_a_crash() {
    let mut lab = Lab::mock();
    lab.define(&xml_with_uuid("one", UUID));
    lab.define(&xml("two"));
    lab.ok(&["autostart", "two"]);
    let before = lab.ok(&["dumpxml", "--inactive", "one"]);
    lab.restart();
    assert_eq!(lab.names(), ["one", "two"]);
    assert_eq!(lab.ok(&["dumpxml", "--inactive", "one"]), before);
    assert_eq!(lab.state("two"), "running", "autostart");
    lab.ok(&["autostart", "--disable", "two"]);
    lab.crash();
    lab.start();
    assert_eq!(lab.names(), ["one", "two"]);
    assert_eq!(lab.ok(&["dumpxml", "--inactive", "one"]), before);
    lab.ok(&["undefine", "one"]);
    lab.crash();
    lab.start();
    assert_eq!(lab.names(), ["two"]);
    lab.finish();
}

#[test]
fn a_name_and_a_uuid_belong_together() {
    let lab = Lab::mock();
    lab.define(&xml_with_uuid("one", UUID));
    // The same again is an update.
    lab.define(&xml_with_uuid("one", UUID).replace("8192", "16384"));
    assert!(lab.ok(&["dumpxml", "one"]).contains("16384"));
    let file = lab.write("x.xml", &xml_with_uuid("one", "c7a5fdbd-edaf-9455-926a-d65c16db1810"));
    lab.fails_with(&["define", &file], &["domain 'one' already exists with uuid", UUID]);
    let file = lab.write("x.xml", &xml_with_uuid("other", UUID));
    lab.fails_with(&["define", &file], &["domain 'one' is already defined with uuid", UUID]);
    assert_eq!(lab.names(), ["one"]);
    lab.finish();
}

#[test]
fn rename_keeps_everything_else() {
    let mut lab = Lab::mock();
    lab.define(&xml_with_uuid("one", UUID));
    lab.define(&xml("two"));
    lab.ok(&["autostart", "one"]);
    let bus = lab.bus();
    let path = bus.lookup(TEST, "one");
    let refused = bus.refused(&path, DOMAIN, "Rename", &("two", 0u32));
    assert!(refused.message.contains("domain with name 'two' already exists"), "{}", refused.message);
    let _: () = bus.call(&path, DOMAIN, "Rename", &("uno", 0u32));
    assert_eq!(bus.lookup(TEST, "uno"), path);
    let refused = bus.refused(TEST, CONNECT, "DomainLookupByName", &("one",));
    assert!(refused.message.starts_with("Domain not found"), "{}", refused.message);
    assert!(bool::try_from(bus.property(&path, DOMAIN, "Autostart")).unwrap());
    let refused = bus.refused(&path, DOMAIN, "Rename", &("a/b", 0u32));
    assert!(refused.message.contains("a/b"), "{}", refused.message);
    drop(bus);
    lab.restart();
    assert_eq!(lab.names(), ["two", "uno"]);
    assert_eq!(lab.state("uno"), "running", "autostart goes with the domain");
    lab.fails(&["domrename", "uno", "drei"]);
    lab.finish();
}

#[test]
fn a_running_domain_keeps_its_live_definition() {
    let lab = Lab::mock();
    lab.define(&xml("one"));
    lab.ok(&["start", "one"]);
    let uuid = lab.ok(&["domuuid", "one"]);
    lab.define(&xml_with_uuid("one", &uuid).replace("8192", "16384"));
    assert!(lab.ok(&["dumpxml", "one"]).contains("8192"));
    assert!(lab.ok(&["dumpxml", "--inactive", "one"]).contains("16384"));
    lab.ok(&["destroy", "one"]);
    assert!(lab.ok(&["dumpxml", "one"]).contains("16384"));
    lab.finish();
}

#[test]
fn dumpxml_of_dumpxml_is_the_same() {
    let lab = Lab::mock();
    let nova = fixture("nova/qemu-spawn-domain.xml")
        .replace("<domain type=\"qemu\"", "<domain type=\"test\"")
        .replace("@WORKDIR@", "/srv/nova");
    lab.define(&nova);
    let first = lab.ok(&["dumpxml", "--inactive", "novaacc-0000dc71"]);
    lab.define(&first);
    assert_eq!(lab.ok(&["dumpxml", "--inactive", "novaacc-0000dc71"]), first);
    assert!(first.contains("Acc Näme &lt;1&gt;"), "metadata is kept byte for byte");
    lab.finish();
}

#[test]
fn a_thousand_definitions() {
    let mut lab = Lab::mock();
    let bus = lab.bus();
    for number in 0..1000 {
        bus.define(TEST, &xml(&format!("many-{number:04}")));
    }
    let paths: Vec<OwnedObjectPath> = bus.call(TEST, CONNECT, "ListDomains", &(0u32,));
    assert_eq!(paths.len(), 1000);
    drop(bus);
    lab.crash();
    lab.start();
    let bus = lab.bus();
    let paths: Vec<OwnedObjectPath> = bus.call(TEST, CONNECT, "ListDomains", &(0u32,));
    assert_eq!(paths.len(), 1000, "after a crash");
    assert_eq!(lab.names()[999], "many-0999");
    for path in &paths {
        let _: () = bus.call(path.as_str(), DOMAIN, "Undefine", &(0u32,));
    }
    drop(bus);
    lab.finish();
}

#[test]
fn autostart_is_a_writable_property() {
    let lab = Lab::mock();
    let bus = lab.bus();
    let path = bus.define(TEST, &xml("one"));
    let interface = crate::harness::bus::PROPERTIES;
    let _: () = bus.call(&path, interface, "Set", &(DOMAIN, "Autostart", Variant::from(true)));
    assert!(bool::try_from(bus.property(&path, DOMAIN, "Autostart")).unwrap());
    let refused = bus.refused(&path, interface, "Set", &(DOMAIN, "Name", Variant::from("two")));
    assert_eq!(refused.name, "org.freedesktop.DBus.Error.InvalidArgs");
    drop(bus);
    lab.finish();
}

#[test]
fn two_daemons_cannot_share_a_root() {
    let lab = Lab::mock();
    let mut second = lab.program(env!("CARGO_BIN_EXE_domusd"));
    second.arg("--root").arg(lab.root()).arg("--mock");
    let out = crate::harness::run(&mut second, crate::harness::DEADLINE);
    assert!(!out.success());
    let said = out.stdout + &out.stderr;
    assert!(said.contains(lab.root().to_str().unwrap()), "it should name the root: {said}");
    // The first one noticed nothing.
    lab.define(&xml("one"));
    assert_eq!(lab.names(), ["one"]);
    lab.finish();
}

#[test]
fn a_root_too_long_for_a_socket_is_refused() {
    let lab = Lab::mock();
    let long = lab.work().join("x".repeat(120));
    let mut daemon = lab.program(env!("CARGO_BIN_EXE_domusd"));
    daemon.arg("--root").arg(&long).arg("--mock");
    let out = crate::harness::run(&mut daemon, crate::harness::DEADLINE);
    assert!(!out.success());
    let said = out.stdout + &out.stderr;
    assert!(said.contains("too long"), "{said}");
    lab.finish();
}
