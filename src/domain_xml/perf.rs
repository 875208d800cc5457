//! `<perf>`: which events of the host's processors are counted for a guest.

use std::collections::HashSet;

use super::DomainDef;
use super::foreign::Foreign;
use super::validate::{Check, refuse};
use super::words::YesNo;

/// Every event there is (`VIR_PERF_PARAM_*`), in libvirt's order.
pub const EVENTS: [&str; 22] = [
    "cmt",
    "mbmt",
    "mbml",
    "cpu_cycles",
    "instructions",
    "cache_references",
    "cache_misses",
    "branch_instructions",
    "branch_misses",
    "bus_cycles",
    "stalled_cycles_frontend",
    "stalled_cycles_backend",
    "ref_cpu_cycles",
    "cpu_clock",
    "task_clock",
    "page_faults",
    "context_switches",
    "cpu_migrations",
    "page_faults_min",
    "page_faults_maj",
    "alignment_faults",
    "emulation_faults",
];

fn listed(def: &DomainDef) -> impl Iterator<Item = &Foreign> {
    let lists = def.later.iter().filter(|element| element.name == "perf");
    lists.flat_map(|list| &list.children).filter(|event| event.name == "event")
}

fn value<'a>(event: &'a Foreign, name: &str) -> Option<&'a str> {
    event.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Whether an event is counted.
pub fn enabled(def: &DomainDef, event: &str) -> bool {
    listed(def).any(|one| value(one, "name") == Some(event) && value(one, "enabled") == Some("yes"))
}

/// Has an event counted, or no longer.
pub fn set(def: &mut DomainDef, event: &str, on: bool) {
    let place = match def.later.iter().position(|element| element.name == "perf") {
        Some(place) => place,
        None => {
            def.later.push(Foreign { name: "perf".into(), ..Foreign::default() });
            def.later.len() - 1
        }
    };
    let Some(list) = def.later.get_mut(place) else { return };
    list.children.retain(|one| value(one, "name") != Some(event));
    let attributes = vec![("name".into(), event.into()), ("enabled".into(), YesNo::from(on).to_string())];
    list.children.push(Foreign { name: "event".into(), attributes, ..Foreign::default() });
    let order = |one: &Foreign| EVENTS.iter().position(|event| value(one, "name") == Some(event));
    list.children.sort_by_key(order);
}

pub(super) fn check(def: &DomainDef) -> Check {
    let mut seen = HashSet::new();
    for event in listed(def) {
        let Some(name) = value(event, "name") else {
            return refuse!(XmlError, "Missing required attribute 'name' in element 'event'");
        };
        refuse!(
            if !EVENTS.contains(&name), XmlError,
            "Invalid value for attribute 'name' in element 'event': '{name}'."
        );
        match value(event, "enabled") {
            None => refuse!(XmlError, "Missing required attribute 'enabled' in element 'event'")?,
            Some("yes" | "no") => {}
            Some(other) => refuse!(XmlError, "Invalid value for attribute 'enabled' in element 'event': '{other}'.")?,
        }
        refuse!(if !seen.insert(name), XmlError, "perf event '{name}' was already specified");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_and_go_in_libvirts_order() {
        let mut def = DomainDef::default();
        set(&mut def, "cpu_cycles", true);
        set(&mut def, "cmt", true);
        set(&mut def, "cpu_cycles", false);
        let names: Vec<_> = listed(&def).map(|event| (value(event, "name"), value(event, "enabled"))).collect();
        assert_eq!(names, [(Some("cmt"), Some("yes")), (Some("cpu_cycles"), Some("no"))]);
        assert!(enabled(&def, "cmt") && !enabled(&def, "cpu_cycles") && !enabled(&def, "mbml"));
        assert!(check(&def).is_ok());
    }
}
