//! What two definitions say differently: defaults are filled in on both sides, and parts whose order means nothing are
//! matched by what identifies them. Works on the written form, so that no part can be forgotten.

use super::{DomainDef, FormatOptions};
use crate::xml::{Document, Element};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// `domain/devices/disk[vda]/driver/@cache`.
    pub path: String,
    /// `None`: the first definition has no such part.
    pub old: Option<String>,
    /// `None`: the second definition has no such part.
    pub new: Option<String>,
}

/// The differences from `a` to `b`, in the order of the written form; without one the two mean the same.
/// What belongs to one run (id, aliases, ports) is not looked at; passwords are compared and shown as `***`.
pub fn diff(a: &DomainDef, b: &DomainDef) -> Vec<Change> {
    let written = |def: &DomainDef| {
        let mut def = def.clone();
        super::to_inactive(&mut def);
        super::format(&def, FormatOptions { secure: true, inactive: true, migratable: false })
    };
    let (a, b) = (written(a), written(b));
    let mut out = Vec::new();
    // What we wrote is well-formed.
    if let (Ok(a), Ok(b)) = (Document::parse(&a, "first"), Document::parse(&b, "second")) {
        let path = a.tree().name.to_string();
        elements(&Pair { sources: (a.source(), b.source()) }, a.tree(), b.tree(), &path, &mut out);
    }
    out
}

/// The texts both trees were read from.
struct Pair<'s> {
    sources: (&'s str, &'s str),
}

fn elements(pair: &Pair<'_>, a: &Element<'_>, b: &Element<'_>, path: &str, out: &mut Vec<Change>) {
    attributes(a, b, path, out);
    if a.children.is_empty() && b.children.is_empty() {
        let (old, new) = (a.text.trim(), b.text.trim());
        if old != new {
            out.push(changed(path, old, new));
        }
        return;
    }
    let (ours, theirs) = (labels(a), labels(b));
    let matched = matches(pair, a, b, &ours, &theirs);
    for (at, child) in a.children.iter().enumerate() {
        match matched.iter().find(|(i, _)| *i == at) {
            Some((_, j)) => elements(pair, child, &b.children[*j], &format!("{path}/{}", ours[at].shown), out),
            None => out.push(Change {
                path: format!("{path}/{}", ours[at].shown),
                old: Some(whole(pair.sources.0, child)),
                new: None,
            }),
        }
    }
    for (at, child) in b.children.iter().enumerate().filter(|(at, _)| !matched.iter().any(|(_, j)| j == at)) {
        out.push(Change {
            path: format!("{path}/{}", theirs[at].shown),
            old: None,
            new: Some(whole(pair.sources.1, child)),
        });
    }
}

fn attributes(a: &Element<'_>, b: &Element<'_>, path: &str, out: &mut Vec<Change>) {
    let value = |element: &Element<'_>, name: &str| attribute(element, name).map(str::to_string);
    let added = b.attributes.iter().filter(|theirs| attribute(a, theirs.name).is_none());
    for name in a.attributes.iter().chain(added).map(|attribute| attribute.name) {
        let (old, new) = (value(a, name), value(b, name));
        if old != new {
            let hide = |value: Option<String>| if name == "passwd" { value.map(|_| "***".to_string()) } else { value };
            out.push(Change { path: format!("{path}/@{name}"), old: hide(old), new: hide(new) });
        }
    }
}

fn changed(path: &str, old: &str, new: &str) -> Change {
    let side = |text: &str| (!text.is_empty()).then(|| text.to_string());
    Change { path: path.to_string(), old: side(old), new: side(new) }
}

/// A child's name with what tells it from its siblings.
struct Label {
    name: String,
    key: Option<String>,
    shown: String,
}

fn labels(parent: &Element<'_>) -> Vec<Label> {
    let same = |name: &str| parent.children.iter().filter(|other| other.name == name).count();
    let mut labels: Vec<Label> = Vec::new();
    for child in &parent.children {
        let name = child.name.to_string();
        let key = key(child);
        let position = labels.iter().filter(|label| label.name == name).count() + 1;
        let shown = match &key {
            Some(key) => format!("{name}[{key}]"),
            None if same(&name) > 1 => format!("{name}[{position}]"),
            None => name.clone(),
        };
        labels.push(Label { name, key, shown });
    }
    labels
}

/// Which child of the first is which of the second: by name and key, then those that are equal, then by position. Only
/// devices may be in any order.
fn matches(pair: &Pair<'_>, a: &Element<'_>, b: &Element<'_>, ours: &[Label], theirs: &[Label]) -> Vec<(usize, usize)> {
    let mut matched: Vec<(usize, usize)> = Vec::new();
    let mut pair_up = |fits: &dyn Fn(usize, usize) -> bool| {
        for (i, our) in ours.iter().enumerate() {
            let taken = matched.iter().any(|(at, _)| *at == i);
            let free = |j: &usize| !matched.iter().any(|(_, at)| at == j);
            let found = (0..theirs.len()).filter(free).find(|j| our.name == theirs[*j].name && fits(i, *j));
            if let (false, Some(j)) = (taken, found) {
                matched.push((i, j));
            }
        }
    };
    pair_up(&|i, j| ours[i].key.is_some() && ours[i].key == theirs[j].key);
    let keyless = |i: usize, j: usize| ours[i].key.is_none() && theirs[j].key.is_none();
    if a.name == "devices" {
        pair_up(&|i, j| {
            keyless(i, j) && whole(pair.sources.0, &a.children[i]) == whole(pair.sources.1, &b.children[j])
        });
    }
    pair_up(&keyless);
    matched
}

/// What identifies an element among its siblings; `None`: its position.
fn key(element: &Element<'_>) -> Option<String> {
    let own = |names: &[&str]| {
        let values: Vec<&str> = names.iter().filter_map(|name| attribute(element, name)).collect();
        (!values.is_empty()).then(|| values.join(" "))
    };
    let below = |child: &str, name: &str| {
        let child = element.children.iter().find(|other| other.name == child)?;
        attribute(child, name).map(str::to_string)
    };
    match element.name {
        "disk" => below("target", "dev"),
        "interface" => below("mac", "address"),
        "filesystem" => below("target", "dir"),
        "channel" => below("target", "name"),
        "serial" | "parallel" | "console" => below("target", "port"),
        "controller" => own(&["type", "index"]),
        "graphics" => own(&["type"]),
        "shmem" | "feature" | "timer" | "event" | "entry" => own(&["name"]),
        "vcpupin" => own(&["vcpu"]),
        "iothreadpin" => own(&["iothread"]),
        "iothread" | "vcpu" | "cell" | "audio" | "node" => own(&["id"]),
        "memnode" => own(&["cellid"]),
        "seclabel" => own(&["model"]),
        "sysinfo" => own(&["type"]),
        "route" | "ip" => own(&["address"]),
        _ => None,
    }
}

fn attribute<'e>(element: &'e Element<'_>, name: &str) -> Option<&'e str> {
    element.attributes.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.value.as_ref())
}

/// An element as it is written, on one line; the text alone when there is nothing else.
fn whole(source: &str, element: &Element<'_>) -> String {
    if element.attributes.is_empty() && element.children.is_empty() && !element.text.trim().is_empty() {
        return element.text.trim().to_string();
    }
    let source = source.get(element.span.clone()).unwrap_or_default();
    let text: String = source.lines().map(str::trim).collect();
    match text.split_once("passwd='") {
        Some((head, rest)) => format!("{head}passwd='***{}", &rest[rest.find('\'').unwrap_or(0)..]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::parse;

    fn told(a: &str, b: &str) -> Vec<String> {
        let domain = |rest: &str| {
            let xml = format!(
                "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os>{rest}</domain>"
            );
            parse(&xml).expect("parses").def
        };
        let show = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".into());
        let changes = diff(&domain(a), &domain(b));
        changes
            .iter()
            .map(|change| format!("{}: {} -> {}", change.path, show(&change.old), show(&change.new)))
            .collect()
    }

    const VDA: &str = "<disk type='file'><source file='/a'/><target dev='vda'/></disk>";
    const VDB: &str = "<disk type='file'><source file='/b'/><target dev='vdb'/></disk>";

    #[test]
    fn defaults_and_order_of_devices_are_no_difference() {
        let a = format!("<devices>{VDA}{VDB}<input type='mouse'/><input type='tablet'/></devices>");
        let b = format!(
            "<vcpu placement='static'>1</vcpu><devices><input type='tablet'/>{VDB}<input type='mouse'/>{}</devices>",
            VDA.replace("<target dev='vda'/>", "<target dev='vda' bus='virtio'/>")
        );
        assert_eq!(told(&a, &b), Vec::<String>::new());
    }

    #[test]
    fn a_change_is_named_by_device_and_attribute() {
        let a = format!("<vcpu>1</vcpu><devices>{VDA}{VDB}</devices>");
        let b = format!("<vcpu>2</vcpu><devices>{}{VDA}</devices>", VDB.replace("/b", "/c"));
        assert_eq!(told(&a, &b), ["domain/vcpu: 1 -> 2", "domain/devices/disk[vdb]/source/@file: /b -> /c"]);
    }

    #[test]
    fn what_only_one_side_has_is_shown_whole() {
        let a = format!("<title>x</title><devices>{VDA}</devices>");
        let b = format!("<devices>{VDA}<rng model='virtio'><backend model='builtin'/></rng></devices>");
        assert_eq!(
            told(&a, &b),
            ["domain/title: x -> -", "domain/devices/rng: - -> <rng model='virtio'><backend model='builtin'/></rng>",]
        );
    }

    #[test]
    fn the_order_of_boot_devices_is_a_difference() {
        let boot =
            |first: &str, second: &str| format!("<os><type>hvm</type><boot dev='{first}'/><boot dev='{second}'/></os>");
        let domain = |os: &str| {
            parse(&format!("<domain type='qemu'><name>a</name><memory>1024</memory>{os}</domain>")).expect("parses").def
        };
        let changes = diff(&domain(&boot("hd", "cdrom")), &domain(&boot("cdrom", "hd")));
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert_eq!(changes[0].path, "domain/os/boot[1]/@dev");
    }

    #[test]
    fn passwords_are_not_shown() {
        let vnc = |password: &str| format!("<devices><graphics type='vnc' passwd='{password}'/></devices>");
        assert_eq!(told(&vnc("one"), &vnc("two")), ["domain/devices/graphics[vnc]/@passwd: *** -> ***"]);
        assert!(!told(&vnc("one"), "").concat().contains("one"));
    }
}
