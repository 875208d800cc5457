//! Shows the readers documents that grow by whatever they asked for, until they ask for nothing new.

use std::collections::BTreeSet;

use super::Grammar;
use crate::domain_xml::parse::{account, accounts};
use crate::xml::{Asked, AskedFor, Form};

/// One element on the way down to the one that is looked at.
#[derive(Clone, Debug)]
struct Step {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
}

/// Words that decide how the rest of an element is read although the readers take them as text: element, attribute,
/// words. An element of "*" is any that has no line of its own.
const KINDS: &[(&str, &str, &[&str])] = &[
    (
        "address",
        "type",
        &["pci", "drive", "virtio-serial", "ccid", "usb", "spapr-vio", "ccw", "isa", "dimm", "unassigned"],
    ),
    (
        "interface",
        "type",
        &[
            "user",
            "ethernet",
            "vhostuser",
            "server",
            "client",
            "mcast",
            "udp",
            "network",
            "bridge",
            "internal",
            "direct",
            "hostdev",
            "vdpa",
            "null",
        ],
    ),
    ("hostdev", "type", &["usb", "pci", "scsi", "scsi_host", "mdev", "storage", "misc", "net"]),
    ("hostdev", "mode", &["subsystem", "capabilities"]),
    ("graphics", "type", &["vnc", "spice", "sdl", "rdp", "egl-headless", "desktop", "dbus"]),
    ("listen", "type", &["address", "network", "socket", "none"]),
    (
        "audio",
        "type",
        &["none", "alsa", "coreaudio", "jack", "oss", "pulseaudio", "sdl", "spice", "file", "dbus", "pipewire"],
    ),
    ("virtualport", "type", &["802.1Qbg", "802.1Qbh", "openvswitch", "midonet"]),
    ("sysinfo", "type", &["smbios", "fwcfg"]),
    ("target", "type", &["virtio", "guestfwd", "xen", "serial", "isa-serial", "pci-serial"]),
    ("backend", "model", &["random", "egd", "builtin"]),
    ("clock", "offset", &["utc", "localtime", "variable", "timezone", "absolute"]),
    ("smartcard", "mode", &["host", "host-certificates", "passthrough"]),
    ("controller", "model", &[ABSENT, "pci-root", "pcie-root-port", "virtio-scsi", "qemu-xhci"]),
    (
        "*",
        "type",
        &[
            "pty",
            "dev",
            "file",
            "udp",
            "tcp",
            "unix",
            "spiceport",
            "nmdm",
            "qemu-vdagent",
            "dbus",
            "passthrough",
            "emulator",
            "external",
            "volume",
            "network",
        ],
    ),
    ("entry", "name", &["vendor", "manufacturer"]),
    ("*", "name", &["tsc", "vhost"]),
];

/// Where the attribute must not be there at all.
const ABSENT: &str = "";

/// The words for an attribute of an element.
fn kinds(element: &str, attribute: &str) -> Option<&'static [&'static str]> {
    let line = |wanted: &str| KINDS.iter().find(|(other, name, _)| *other == wanted && *name == attribute);
    line(element).or_else(|| line("*")).map(|(_, _, words)| *words)
}

/// A value a reader can live with.
fn value(step: &str, name: &str, form: Form) -> String {
    match (form, name) {
        (Form::Words(words), _) => words.first().unwrap_or(&"1").to_string(),
        (Form::Unsigned | Form::Signed | Form::AnyBase, _) => "1".to_string(),
        (_, "") if step == "type" => "hvm".to_string(),
        (_, "uuid") => "2fbd1d85-719f-4be8-aeb4-3a0d2fea9a4f".to_string(),
        (_, "address") if step == "mac" => "52:54:00:00:00:01".to_string(),
        (_, "address" | "gateway" | "peer") => "10.0.0.1".to_string(),
        (_, "mode") if step == "hostdev" => "subsystem".to_string(),
        (_, "type") if step == "hostdev" => "usb".to_string(),
        (_, "type") if step == "hub" => "usb".to_string(),
        (_, "type") if step == "redirdev" => "spicevmc".to_string(),
        (_, "bus") if step == "redirdev" => "usb".to_string(),
        (_, "dev") if step == "target" => "vda".to_string(),
        (_, "unit") => "KiB".to_string(),
        (_, "usage") => String::new(),
        _ => "1".to_string(),
    }
}

/// Everything the readers know: what exploring finds, and what they ask for in the project's own `documents`.
pub fn learn(documents: &[String]) -> Grammar {
    let mut explorer = Explorer::default();
    let root = Step { name: "domain".into(), attributes: vec![("type".into(), "kvm".into())], text: String::new() };
    explorer.visit(&[root]);
    let mut grammar = explorer.grammar;
    for (path, asked) in documents.iter().flat_map(|text| accounts(text)) {
        let inside_anything =
            (1..=path.len()).any(|depth| grammar.0.get(&path[..depth]).is_some_and(|element| element.anything));
        if !inside_anything && !path.iter().any(|name| name.contains(':')) {
            grammar.note(&collapsed(path.iter().map(String::as_str)), &asked);
        }
    }
    // A child that is only mentioned has nothing in it that anybody asks for.
    let mentioned: Vec<Vec<String>> = grammar
        .0
        .iter()
        .flat_map(|(path, element)| {
            let child = |name: &String| collapsed(path.iter().map(String::as_str).chain([name.as_str()]));
            element.children.keys().filter(|name| !name.contains(':')).map(child).collect::<Vec<_>>()
        })
        .collect();
    for path in mentioned {
        grammar.0.entry(path).or_default();
    }
    grammar
}

#[derive(Default)]
struct Explorer {
    grammar: Grammar,
    /// Path and what was asked for there: another way to the same state teaches nothing.
    seen: BTreeSet<State>,
}

type Asks = Vec<Asked>;
/// Path and questions.
type State = (Vec<String>, BTreeSet<(AskedFor, &'static str)>);

impl Explorer {
    /// Looks at the last element of `chain` in all its kinds, and at all below it.
    fn visit(&mut self, chain: &[Step]) {
        if chain.len() > 12 {
            return;
        }
        let (mut asks, anything) = self.ask(chain);
        if anything {
            self.grammar.0.entry(path_of(chain)).or_default().anything = true;
            return;
        }
        // Grows it by what is asked for, until nothing new is. A value may stop the reader: a child is looked at in
        // the last document in which it was asked for.
        let mut chain = chain.to_vec();
        let mut children: Vec<(&'static str, Vec<Step>)> = Vec::new();
        let mut is_new = self.seen.insert(state(&chain, &asks));
        for _ in 0..8 {
            for name in names(&asks) {
                children.retain(|(other, _)| *other != name);
                children.push((name, chain.clone()));
            }
            if !grow(chain.last_mut().expect("never empty"), &asks) {
                break;
            }
            asks = self.ask(&chain).0;
            is_new |= self.seen.insert(state(&chain, &asks));
        }
        if !is_new {
            return;
        }
        for (name, chain) in children {
            self.child(&chain, name);
        }
        for variant in variants(&chain, &asks) {
            let (asks, _) = self.ask(&variant);
            if self.seen.contains(&state(&variant, &asks)) {
                // Nothing new here, but what is below may be read in another way.
                names(&asks).into_iter().for_each(|name| self.child(&variant, name));
            } else {
                self.visit(&variant);
            }
        }
    }

    fn child(&mut self, chain: &[Step], name: &str) {
        // Namespaces are read by their URI, and a chain of images is described once.
        if name.contains(':') || NESTED.contains(&name) && chain.iter().any(|step| step.name == name) {
            return;
        }
        let mut longer = chain.to_vec();
        longer.push(Step { name: name.into(), attributes: Vec::new(), text: String::new() });
        self.visit(&longer);
    }

    /// What is asked for at the last element, noted; and whether anything may be in it.
    fn ask(&mut self, chain: &[Step]) -> (Asks, bool) {
        let names: Vec<&str> = chain.iter().map(|step| step.name.as_str()).collect();
        let (asks, anything) = account(&document(chain), &names, PROBE);
        let path = path_of(chain);
        self.grammar.0.entry(path.clone()).or_default();
        asks.iter().for_each(|asks| self.grammar.note(&path, asks));
        (asks.concat(), anything)
    }
}

/// Path and questions.
fn state(chain: &[Step], asks: &Asks) -> State {
    (path_of(chain), asks.iter().map(|asked| (asked.what, asked.name)).collect())
}

/// The children that were asked for.
fn names(asks: &Asks) -> BTreeSet<&'static str> {
    let children = asks.iter().filter(|asked| matches!(asked.what, AskedFor::Child | AskedFor::Children));
    children.map(|asked| asked.name).collect()
}

/// Gives it what was asked for and is not there; `false` when there is nothing to give.
fn grow(last: &mut Step, asks: &Asks) -> bool {
    let mut grown = false;
    // A typed question comes after an untyped one, and knows the better value.
    for asked in asks.iter().rev() {
        match asked.what {
            AskedFor::Attribute if !last.attributes.iter().any(|(name, _)| name == asked.name) => {
                last.attributes.push((asked.name.into(), value(&last.name, asked.name, asked.form)));
                grown = true;
            }
            AskedFor::Text if last.text.is_empty() => {
                last.text = value(&last.name, "", asked.form);
                grown = true;
            }
            _ => {}
        }
    }
    grown
}

/// Elements that are in themselves again, as deep as one likes.
pub(super) const NESTED: &[&str] = &["backingStore", "dataStore"];

/// A name nobody asks for: where it is not unknown, anything is taken.
const PROBE: &str = "zzz";

fn path_of(chain: &[Step]) -> Vec<String> {
    collapsed(chain.iter().map(|step| step.name.as_str()))
}

/// A path in which a chain of images, which is described once, is one element.
fn collapsed<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let mut path: Vec<String> = Vec::new();
    for name in names {
        match path.iter().position(|other| other == name).filter(|_| NESTED.contains(&name)) {
            Some(at) => path.truncate(at + 1),
            None => path.push(name.to_string()),
        }
    }
    path
}

/// The same element with other words where a word decides.
fn variants(chain: &[Step], asks: &Asks) -> Vec<Vec<Step>> {
    let last = chain.last().expect("never empty");
    let words = |name: &str| -> Vec<String> {
        let form = asks.iter().filter(|asked| asked.what == AskedFor::Attribute && asked.name == name);
        let mut closed = form.filter_map(|asked| match asked.form {
            Form::Words(words) => Some(words.iter().map(|word| word.to_string()).collect()),
            _ => None,
        });
        let open = || kinds(&last.name, name).map(|words| words.iter().map(|word| word.to_string()).collect());
        closed.next_back().or_else(open).unwrap_or_default()
    };
    let with = |changes: &[(&str, &str)]| {
        let mut variant = chain.to_vec();
        let step = variant.last_mut().expect("never empty");
        for (name, value) in changes {
            step.attributes.retain(|(other, _)| other != name);
            if *value != ABSENT {
                step.attributes.push((name.to_string(), value.to_string()));
            }
        }
        variant
    };
    let mut out = Vec::new();
    if chain.len() == 1 {
        return out;
    }
    let decides = |name: &str| kinds(&last.name, name).is_some() || matches!(name, "device" | "bus" | "mode");
    for (name, _) in last.attributes.iter().filter(|(name, _)| decides(name)) {
        out.extend(words(name).iter().map(|word| with(&[(name, word)])));
    }
    let deciding: Vec<&str> =
        last.attributes.iter().map(|(name, _)| name.as_str()).filter(|name| decides(name)).collect();
    for (at, first) in deciding.iter().enumerate() {
        for second in &deciding[at + 1..] {
            let (these, those) = (words(first), words(second));
            let pairs = these.iter().flat_map(|this| those.iter().map(move |that| (this, that)));
            out.extend(pairs.map(|(this, that)| with(&[(first, this), (second, that)])));
        }
    }
    out
}

const CHARACTER: &str = "<source mode='bind' path='/a' host='h' service='1' channel='c' master='a' slave='b'/>";
const CERTIFICATES: &str = "<source mode='bind' path='/a' host='h' service='1' channel='c' master='a' slave='b'/>\
                            <certificate>a</certificate><certificate>b</certificate><certificate>c</certificate>";
const CHANNEL: &str = "<source mode='bind' path='/a' host='h' service='1' channel='c' master='a' slave='b'/>\
                       <target type='virtio' name='a'/>";

/// What a reader stops without, whatever it is about to be asked for; first by parent and name, then by name.
const NEEDED: &[(&str, &str)] = &[
    ("devices/disk", "<target dev='vda'/>"),
    ("devices/filesystem", "<source dir='/a'/><target dir='/b'/>"),
    (
        "devices/hostdev",
        "<source><vendor id='1'/><product id='1'/><adapter name='scsi_host0'/><address domain='0' bus='1' slot='1' \
         function='0' target='0' unit='0' device='1' uuid='2fbd1d85-719f-4be8-aeb4-3a0d2fea9a4f'/><block>/a</block>\
        <char>/a</char><interface>eth0</interface></source>",
    ),
    (
        "hostdev/source",
        "<vendor id='1'/><product id='1'/><adapter name='scsi_host0'/><address domain='0' bus='1' slot='1' \
         function='0' target='0' unit='0' device='1' uuid='2fbd1d85-719f-4be8-aeb4-3a0d2fea9a4f'/>",
    ),
    ("devices/lease", "<key>k</key><target path='/a'/>"),
    ("devices/serial", CHARACTER),
    ("devices/parallel", CHARACTER),
    ("devices/console", CHARACTER),
    ("devices/channel", CHANNEL),
    ("devices/smartcard", CERTIFICATES),
    ("devices/redirdev", CHARACTER),
    ("rng/backend", CHARACTER),
    ("devices/rng", "<backend model='random'/>"),
    ("devices/tpm", "<backend type='passthrough'><device path='/a'/></backend>"),
    ("*/backingStore", "<format type='raw'/><source file='/a'/>"),
    ("disk/mirror", "<format type='raw'/><source file='/a'/>"),
    ("*/auth", "<secret type='ceph' usage='a'/>"),
    ("source/reservations", "<source type='unix' path='/a' mode='client'/>"),
    ("*/source", "<address domain='0' bus='1' slot='1' function='0'/>"),
    ("*/vlan", "<tag id='1'/>"),
    ("memory/target", "<size>1024</size><node>0</node>"),
];

/// A document with the chain in it; the last element also has an attribute and a child that nobody knows.
fn document(chain: &[Step]) -> String {
    let mut inside = String::new();
    for (depth, step) in chain.iter().enumerate().skip(1).rev() {
        let mut tag = step.name.clone();
        for (name, value) in &step.attributes {
            tag.push_str(&format!(" {name}='{value}'"));
        }
        let is_last = depth == chain.len() - 1;
        let probe = if is_last { format!("<{PROBE}/>") } else { String::new() };
        let probe_attribute = if is_last { format!(" {PROBE}='1'") } else { String::new() };
        let place = |parent: &str| format!("{parent}/{}", step.name);
        let needed = |place: String| NEEDED.iter().find(|(other, _)| *other == place).map(|(_, needed)| *needed);
        let needed = needed(place(&chain[depth - 1].name)).or_else(|| needed(place("*"))).unwrap_or_default();
        inside = format!("<{tag}{probe_attribute}>{}{inside}{needed}{probe}</{}>", step.text, step.name);
    }
    let mut out = String::from("<domain");
    for (name, value) in &chain[0].attributes {
        out.push_str(&format!(" {name}='{value}'"));
    }
    if chain.len() == 1 {
        inside = format!("<{PROBE}/>");
    }
    let has = |name: &str| chain.get(1).is_some_and(|step| step.name == name);
    let os = if chain[0].attributes.iter().any(|(_, value)| value == "lxc") { "exe" } else { "hvm" };
    out.push('>');
    for (name, text) in [("name", "<name>a</name>".to_string()), ("memory", "<memory>1024</memory>".to_string())] {
        if !has(name) {
            out.push_str(&text);
        }
    }
    match has("os") {
        true => inside = inside.replacen('>', &format!("><type>{os}</type>"), usize::from(!inside.contains("<type"))),
        false => out.push_str(&format!("<os><type>{os}</type></os>")),
    }
    out.push_str(&inside);
    out.push_str("</domain>");
    out
}
