//! The coverage table of the documentation, from the rows themselves.

use std::fmt::Write;

use super::table::{self, Interface};
use crate::engine::api::Class;

fn heading(interface: &Interface) -> String {
    let methods = interface.methods.iter().filter(|row| row.run.is_some()).count();
    let properties = interface.properties.iter().filter(|row| row.get.is_some()).count();
    format!(
        "{methods} of {} methods, {properties} of {} properties",
        interface.methods.len(),
        interface.properties.len()
    )
}

/// The table as Markdown (`domusd --print-dbus-coverage`, `docs/DBUS_COVERAGE.md`).
pub fn markdown() -> String {
    let mut out = String::from(
        "# D-Bus coverage\n\n\
         Generated from the tables in `src/dbus/table/` by `domusd --print-dbus-coverage`; a test keeps it current.\n\
         A method that is not served answers `org.libvirt.Error` with libvirt's \"this function is not supported by the\n\
         connection driver: FUNCTION\". Access `read` is open to read-only callers.\n\n\
         | interface | served |\n| --- | --- |\n",
    );
    for interface in table::LIBVIRT.iter().chain(&table::DOMUS) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| {} | {} |", interface.name, heading(interface));
    }
    for interface in table::LIBVIRT.iter().chain(&table::DOMUS) {
        section(&mut out, interface);
    }
    out
}

fn section(out: &mut String, interface: &Interface) {
    let _ = writeln!(out, "\n## {}\n", interface.name);
    if !interface.methods.is_empty() {
        out.push_str("| method | function | access | served |\n| --- | --- | --- | --- |\n");
        for row in interface.methods {
            let (access, served) = match (row.run, row.class) {
                (None, _) => ("", "no"),
                (Some(_), Class::Read) => ("read", "yes"),
                (Some(_), Class::Write) => ("write", "yes"),
            };
            let _ = writeln!(out, "| {} | {} | {access} | {served} |", row.name, row.function);
        }
    }
    if !interface.properties.is_empty() {
        out.push_str("\n| property | type | functions | served |\n| --- | --- | --- | --- |\n");
        for row in interface.properties {
            let served = match (row.get, row.setter, row.set) {
                (None, _, _) => "no",
                (Some(_), Some(_), None) => "read only",
                (Some(_), ..) => "yes",
            };
            let functions = match row.setter {
                Some(setter) => format!("{}, {setter}", row.function),
                None => row.function.to_string(),
            };
            let _ = writeln!(out, "| {} | {} | {functions} | {served} |", row.name, row.signature);
        }
    }
    if !interface.signals.is_empty() {
        let names: Vec<&str> = interface.signals.iter().map(|signal| signal.name).collect();
        let _ = writeln!(out, "\nSignals: {}.", names.join(", "));
    }
}
