//! `<cachetune>` and `<memorytune>`: groups of virtual CPUs that share a cache or bandwidth allocation.

use std::collections::BTreeSet;

use super::{Check, refuse};
use crate::domain_xml::foreign::Foreign;
use crate::domain_xml::model::DomainDef;
use crate::domain_xml::tune::set_members;

type Set = BTreeSet<u32>;

fn attribute<'a>(element: &'a Foreign, name: &str) -> Option<&'a str> {
    element.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn need<'a>(element: &'a Foreign, name: &str) -> crate::error::Result<&'a str> {
    match attribute(element, name) {
        Some(value) => Ok(value),
        None => refuse!(XmlError, "Missing required attribute '{name}' in element '{}'", element.name).map(|()| ""),
    }
}

fn number(element: &Foreign, name: &str) -> crate::error::Result<u32> {
    let text = need(element, name)?;
    let what = format!(
        "Invalid value for attribute '{name}' in element '{}': '{text}'. Expected non-negative integer value",
        element.name
    );
    text.parse().map_err(|_| crate::error::Error::new(crate::error::Code::XmlError, what))
}

fn vcpus(element: &Foreign, most: u32) -> crate::error::Result<Set> {
    let name = &element.name;
    let Some(text) = attribute(element, "vcpus") else {
        return refuse!(XmlError, "Missing {name} attribute 'vcpus'").map(|()| Set::new());
    };
    match set_members(text) {
        // CPUs that the domain does not have are left aside.
        Some(members) => Ok(members.into_iter().filter(|id| *id < most).collect()),
        None => refuse!(XmlError, "Invalid {name} attribute 'vcpus' value '{text}'").map(|()| Set::new()),
    }
}

/// Every group of a definition.
pub(super) fn resctrl(def: &DomainDef) -> Check {
    let mut groups: Vec<(&str, Set)> = Vec::new();
    let mut counts = [0usize; 2];
    for element in &def.cputune.later {
        let (path, kind) = match element.name.as_str() {
            "cachetune" => ("cputune/cachetune", 0),
            "memorytune" => ("cputune/memorytune", 1),
            _ => continue,
        };
        let nth = counts[kind];
        counts[kind] += 1;
        group(element, &mut groups, def.vcpu.max).map_err(|error| error.about(path, nth))?;
    }
    Ok(())
}

fn group<'a>(element: &'a Foreign, groups: &mut Vec<(&'a str, Set)>, most: u32) -> Check {
    let set = vcpus(element, most)?;
    if element.name == "cachetune" {
        caches(element)?;
        monitors(element, &set, most)?;
    } else {
        nodes(element)?;
    }
    if set.is_empty() {
        return Ok(());
    }
    for (kind, other) in groups.iter() {
        if *other == set {
            let name = &element.name;
            refuse!(if kind == name, XmlError, "Identical vcpus in {name}s found");
            continue;
        }
        refuse!(if !other.is_disjoint(&set), XmlError, "Overlapping vcpus in resctrls");
    }
    groups.push((&element.name, set));
    Ok(())
}

fn caches(element: &Foreign) -> Check {
    let mut taken: Vec<(u32, u32, &str)> = Vec::new();
    for cache in element.children.iter().filter(|child| child.name == "cache") {
        let (id, level, kind) = (number(cache, "id")?, number(cache, "level")?, need(cache, "type")?);
        refuse!(
            if !matches!(kind, "both" | "code" | "data"), XmlError,
            "Invalid value for attribute 'type' in element 'cache': '{kind}'."
        );
        refuse!(if attribute(cache, "size").is_none(), XmlError, "missing element or attribute './@size'");
        let collides = |(other_id, other_level, other): &(u32, u32, &str)| {
            (*other_id, *other_level) == (id, level) && (*other == kind || *other == "both" || kind == "both")
        };
        refuse!(
            if taken.iter().any(collides), XmlError,
            "Colliding cache allocations for cache level '{level}' id '{id}', type '{kind}'"
        );
        taken.push((id, level, kind));
    }
    Ok(())
}

fn monitors(element: &Foreign, group: &Set, most: u32) -> Check {
    let mut sets: Vec<Set> = Vec::new();
    for monitor in element.children.iter().filter(|child| child.name == "monitor") {
        let level = number(monitor, "level")?;
        refuse!(if level != 3, XmlError, "Invalid monitor cache level '{level}'");
        let set = vcpus(monitor, most)?;
        refuse!(if sets.contains(&set), InvalidArg, "Identical vcpus found in same type monitors");
        refuse!(if !set.is_subset(group), InvalidArg, "Monitor vcpus conflicts with allocation");
        // A monitor of the whole group may stand beside others.
        let part = |other: &Set| !other.is_disjoint(&set) && *other != *group && set != *group;
        refuse!(if sets.iter().any(part), InvalidArg, "vcpus overlaps in resctrl groups");
        sets.push(set);
    }
    Ok(())
}

fn nodes(element: &Foreign) -> Check {
    let mut seen = BTreeSet::new();
    for node in element.children.iter().filter(|child| child.name == "node") {
        let (id, _) = (number(node, "id")?, number(node, "bandwidth")?);
        refuse!(if !seen.insert(id), XmlError, "Memory Bandwidth already defined for node {id}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case("<cputune><cachetune/></cputune>", "XML error: Missing cachetune attribute 'vcpus' (line 1")]
    #[case("<cputune><cachetune vcpus='x'/></cputune>", "XML error: Invalid cachetune attribute 'vcpus' value 'x'")]
    #[case(
        "<cputune><cachetune vcpus='0-1'/><cachetune vcpus='1-2'/></cputune>",
        "XML error: Overlapping vcpus in resctrls"
    )]
    #[case(
        "<cputune><cachetune vcpus='0-1'/><cachetune vcpus='0-1'/></cputune>",
        "XML error: Identical vcpus in cachetunes found"
    )]
    #[case(
        "<cputune><cachetune vcpus='0'><cache id='0' level='3' type='both' size='3'/><cache id='0' level='3' type='code' size='3'/></cachetune></cputune>",
        "XML error: Colliding cache allocations for cache level '3' id '0', type 'code'"
    )]
    #[case(
        "<cputune><cachetune vcpus='0'><monitor level='3' vcpus='1'/></cachetune></cputune>",
        "invalid argument: Monitor vcpus conflicts with allocation"
    )]
    #[case(
        "<cputune><cachetune vcpus='0'><monitor level='5' vcpus='0'/></cachetune></cputune>",
        "XML error: Invalid monitor cache level '5'"
    )]
    #[case(
        "<cputune><memorytune vcpus='0'><node id='0' bandwidth='20'/><node id='0' bandwidth='20'/></memorytune></cputune>",
        "XML error: Memory Bandwidth already defined for node 0"
    )]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let text = refusal(xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
