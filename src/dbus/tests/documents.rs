//! The introspection files and the coverage table are what the rows say. `DOMUS_BLESS=1` rewrites them.

use std::fmt::Write;
use std::path::Path;

use crate::dbus::table::{self, Interface};
use crate::dbus::{coverage, introspect, path};
use rstest::rstest;

const EMITS_CHANGED: &str = "org.freedesktop.DBus.Property.EmitsChangedSignal";

fn arguments(out: &mut String, list: &'static str, direction: &str) {
    for (name, kind) in table::args(list) {
        writeln!(out, "      <arg name=\"{name}\" type=\"{kind}\"{direction}/>").unwrap();
    }
}

fn member(out: &mut String, element: &str, name: &str, content: &str) {
    if content.is_empty() {
        writeln!(out, "    <{element} name=\"{name}\"/>").unwrap();
    } else {
        writeln!(out, "    <{element} name=\"{name}\">\n{content}    </{element}>").unwrap();
    }
}

/// The introspection document of an interface.
fn document(interface: &Interface) -> String {
    let mut out = String::from(
        "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n\
         \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n\n<node>\n",
    );
    writeln!(out, "  <interface name=\"{}\">", interface.name).unwrap();
    if !interface.emits_changed {
        writeln!(out, "    <annotation name=\"{EMITS_CHANGED}\" value=\"false\"/>").unwrap();
    }
    for row in interface.properties {
        let access = if row.setter.is_some() { "readwrite" } else { "read" };
        write!(out, "    <property name=\"{}\" type=\"{}\" access=\"{access}\"", row.name, row.signature).unwrap();
        if row.constant {
            writeln!(out, ">\n      <annotation name=\"{EMITS_CHANGED}\" value=\"const\"/>\n    </property>").unwrap();
        } else {
            out.push_str("/>\n");
        }
    }
    for row in interface.methods {
        let mut content = String::new();
        arguments(&mut content, row.args, " direction=\"in\"");
        arguments(&mut content, row.results, " direction=\"out\"");
        member(&mut out, "method", row.name, &content);
    }
    for row in interface.signals {
        let mut content = String::new();
        arguments(&mut content, row.args, "");
        member(&mut out, "signal", row.name, &content);
    }
    out.push_str("  </interface>\n</node>\n");
    out
}

#[allow(clippy::disallowed_methods)] // a source file, not state
fn hold(file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("DOMUS_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{file} is not what the tables say; run the tests with DOMUS_BLESS=1 and look at the diff"
    );
}

#[test]
fn introspection_files_are_the_tables() {
    for interface in table::LIBVIRT.iter().chain(&table::DOMUS) {
        // Our own files carry prose as well and are compared by their element below.
        if interface.name.starts_with("org.libvirt.") {
            hold(&format!("schemas/dbus/{}.xml", interface.name), &document(interface));
        }
    }
}

/// Without prose, our own files are the tables too.
#[test]
fn own_introspection_files_are_the_tables() {
    for interface in table::DOMUS {
        let mut bare = String::new();
        let mut rest = interface.xml;
        while let Some((before, comment)) = rest.split_once("<!--") {
            bare.push_str(before);
            rest = comment.split_once("-->").unwrap().1;
        }
        bare.push_str(rest);
        let lines = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect()
        };
        assert_eq!(lines(&bare), lines(&document(interface)), "{}", interface.name);
    }
}

#[test]
fn coverage_table_is_current() {
    hold("docs/DBUS_COVERAGE.md", &coverage::markdown());
}

#[test]
fn numbers_of_members_are_libvirt_dbus_1_4s() {
    let counts: Vec<_> =
        table::LIBVIRT.iter().map(|i| (i.methods.len(), i.properties.len(), i.signals.len())).collect();
    assert_eq!(
        counts,
        [
            (56, 5, 5),
            (94, 9, 22),
            (6, 0, 0),
            (6, 5, 0),
            (12, 5, 1),
            (5, 3, 0),
            (4, 3, 0),
            (6, 2, 0),
            (2, 2, 0),
            (4, 3, 0)
        ]
    );
}

/// Each type parses, and no row is there twice.
#[test]
fn rows_are_sound() {
    for interface in table::LIBVIRT.iter().chain(&table::DOMUS) {
        let mut names = std::collections::HashSet::new();
        for row in interface.methods {
            assert!(names.insert(row.name), "{}.{} is there twice", interface.name, row.name);
            for (name, kind) in table::args(row.args).chain(table::args(row.results)) {
                assert!(zbus::Signature::try_from(kind).is_ok(), "{}.{} {name}: {kind}", interface.name, row.name);
            }
        }
    }
}

#[rstest]
#[case(path::Kind::Root, &["org.libvirt.Connect", "org.domus.Connect1"])]
#[case(path::Kind::Domain, &["org.libvirt.Domain", "org.domus.Domain1"])]
#[case(path::Kind::Daemon, &["org.domus.Daemon1"])]
fn documents_hold_all_interfaces(#[case] kind: path::Kind, #[case] interfaces: &[&str]) {
    let document = introspect::object(kind);
    for name in interfaces {
        assert!(document.contains(&format!("  <interface name=\"{name}\">")), "{document}");
    }
    assert_eq!(document.matches("<interface ").count(), document.matches("</interface>").count());
    assert_eq!(document.matches("<node").count(), 1 + document.matches("<node name=").count());
}
