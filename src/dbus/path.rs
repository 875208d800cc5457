//! Object paths: which object a path names, and the path of an object.
//!
//! ```text
//! /org/libvirt/ROOT                      one per driver
//! /org/libvirt/ROOT/domain/_UUID         network, nwfilter, secret, storagepool the same way
//! /org/libvirt/ROOT/domainsnapshot/_UUID_STR
//! /org/libvirt/ROOT/{interface,nodedev,storagevol}/STR
//! /org/libvirt/ROOT/job/NUMBER            ours: work that goes on
//! /org/domus                             the daemon itself
//! ```
//!
//! `_UUID` is the UUID with `_` for `-` and in front. STR keeps ASCII letters and digits and writes every other byte as
//! `_` and two lower-case hex digits. The encoding is libvirt-dbus's, and clients build paths themselves.
//! Nothing here looks whether an object exists: a call on a well-formed path of a missing object reaches the method.

use std::fmt::Write;

use crate::engine::driver::DriverKind;
use crate::types::Uuid;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Root,
    Domain,
    DomainSnapshot,
    Interface,
    Network,
    NodeDevice,
    NwFilter,
    Secret,
    StoragePool,
    StorageVol,
    /// Ours: work that goes on.
    Job,
    /// `/org/domus`
    Daemon,
}

/// The fixed subtrees below every root, in the order they are listed; the last is ours.
pub const SUBTREES: [(&str, Kind); 10] = [
    ("domain", Kind::Domain),
    ("domainsnapshot", Kind::DomainSnapshot),
    ("interface", Kind::Interface),
    ("network", Kind::Network),
    ("nodedev", Kind::NodeDevice),
    ("nwfilter", Kind::NwFilter),
    ("secret", Kind::Secret),
    ("storagepool", Kind::StoragePool),
    ("storagevol", Kind::StorageVol),
    ("job", Kind::Job),
];

/// A driver root.
#[derive(Debug, PartialEq, Eq)]
pub struct Root {
    /// Last element of the path.
    pub name: &'static str,
    /// The driver we may have for it.
    pub driver: Option<DriverKind>,
    /// libvirt's URI of it on a system bus (and on our own socket).
    pub system_uri: Option<&'static str>,
    /// libvirt's URI of it on a session bus.
    pub session_uri: Option<&'static str>,
}

const fn root(
    name: &'static str,
    driver: Option<DriverKind>,
    system_uri: Option<&'static str>,
    session_uri: Option<&'static str>,
) -> Root {
    Root { name, driver, system_uri, session_uri }
}

/// Every root libvirt-dbus knows; which of them exist depends on the bus.
pub static ROOTS: [Root; 12] = [
    root("BHyve", None, Some("bhyve:///system"), None),
    root("LXC", Some(DriverKind::Lxc), Some("lxc:///"), None),
    root("OpenVZ", None, Some("openvz:///system"), None),
    root("QEMU", Some(DriverKind::Qemu), Some("qemu:///system"), Some("qemu:///session")),
    root("Test", Some(DriverKind::Test), Some("test:///default"), Some("test:///default")),
    root("UML", None, Some("uml:///system"), Some("uml:///session")),
    root("VBox", None, Some("vbox:///system"), Some("vbox:///session")),
    root("VMwareFusion", None, None, Some("vmwarefusion:///session")),
    root("VMwarePlayer", None, None, Some("vmwareplayer:///session")),
    root("VMwareWS", None, None, Some("vmwarews:///session")),
    root("VZ", None, Some("vz:///system"), None),
    root("Xen", None, Some("xen:///system"), None),
];

/// Which list of roots a connection shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    System,
    Session,
}

impl Root {
    /// libvirt's URI of this root, if the root exists in `scope`.
    pub fn uri(&self, scope: Scope) -> Option<&'static str> {
        match scope {
            Scope::System => self.system_uri,
            Scope::Session => self.session_uri,
        }
    }

    /// `/org/libvirt/NAME`
    pub fn path(&self) -> String {
        format!("/org/libvirt/{}", self.name)
    }
}

/// The root of a driver. Every driver has one.
pub fn root_name(driver: DriverKind) -> &'static str {
    driver.type_name()
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub enum Node<'p> {
    /// `/`, `/org`, `/org/libvirt`: only there to be introspected; the names of its children.
    Branch(Vec<&'static str>),
    Root(&'static Root),
    /// The parent of all objects of a kind below a root.
    Subtree(&'static Root, Kind),
    /// An object below a root, existing or not; the last element of the path is its encoded key.
    Object(&'static Root, Kind, &'p str),
    Daemon,
}

impl Node<'_> {
    /// The root it is, or is below.
    pub fn root(&self) -> Option<&'static Root> {
        match *self {
            Node::Root(root) | Node::Subtree(root, _) | Node::Object(root, ..) => Some(root),
            Node::Branch(_) | Node::Daemon => None,
        }
    }
}

/// What `path` names on a connection that shows `scope`; `None` when no object can be there.
pub fn parse(path: &str, scope: Scope) -> Option<Node<'_>> {
    match path {
        "/" => return Some(Node::Branch(vec!["org"])),
        "/org" => return Some(Node::Branch(vec!["domus", "libvirt"])),
        "/org/domus" => return Some(Node::Daemon),
        "/org/libvirt" => {
            let names = ROOTS.iter().filter(|root| root.uri(scope).is_some()).map(|root| root.name);
            return Some(Node::Branch(names.collect()));
        }
        _ => {}
    }
    let mut parts = path.strip_prefix("/org/libvirt/")?.splitn(3, '/');
    let name = parts.next()?;
    let root = ROOTS.iter().find(|root| root.name == name && root.uri(scope).is_some())?;
    let Some(subtree) = parts.next() else { return Some(Node::Root(root)) };
    let kind = SUBTREES.iter().find(|(name, _)| *name == subtree)?.1;
    match parts.next() {
        None => Some(Node::Subtree(root, kind)),
        Some(key) if key.is_empty() || key.contains('/') => None,
        Some(key) => Some(Node::Object(root, kind, key)),
    }
}

/// The path of a domain.
pub fn domain(driver: DriverKind, uuid: &Uuid) -> String {
    domain_below(root_name(driver), uuid)
}

/// The path of a domain below the root called `root`.
pub fn domain_below(root: &str, uuid: &Uuid) -> String {
    let mut path = String::with_capacity(64);
    path.push_str("/org/libvirt/");
    path.push_str(root);
    path.push_str("/domain/");
    push_uuid(&mut path, uuid);
    path
}

/// The path of an object of `kind` below the root called `root`; `key` is encoded already.
pub fn object_below(root: &str, kind: Kind, key: &str) -> String {
    let subtree = SUBTREES.iter().find(|(_, of)| *of == kind).map_or("", |(name, _)| name);
    format!("/org/libvirt/{root}/{subtree}/{key}")
}

/// The last element of the path of an object that is named by a UUID.
pub fn uuid_key(uuid: &Uuid) -> String {
    let mut key = String::with_capacity(37);
    push_uuid(&mut key, uuid);
    key
}

/// The last element of the path of a domain's snapshot.
pub fn snapshot_key(domain: &Uuid, name: &str) -> String {
    let mut key = uuid_key(domain);
    key.push('_');
    key.push_str(&encode(name));
    key
}

/// The domain and the name in a snapshot's key; `None` when malformed.
pub fn parse_snapshot(key: &str) -> Option<(Uuid, String)> {
    let (uuid, name) = key.split_at_checked(37)?;
    Some((parse_uuid(uuid)?, decode(name.strip_prefix('_')?)?))
}

fn push_uuid(out: &mut String, uuid: &Uuid) {
    let mut buffer = [0; 36];
    let text = uuid.hyphenated().encode_lower(&mut buffer);
    out.push('_');
    out.extend(text.chars().map(|c| if c == '-' { '_' } else { c }));
}

/// The UUID of an `_UUID` key; `None` when malformed.
pub fn parse_uuid(key: &str) -> Option<Uuid> {
    let rest = key.strip_prefix('_')?;
    if rest.len() != 36 {
        return None;
    }
    let mut bytes = [0; 36];
    for (at, byte) in rest.bytes().enumerate() {
        let dash = matches!(at, 8 | 13 | 18 | 23);
        bytes[at] = match byte {
            b'_' if dash => b'-',
            byte if !dash && byte.is_ascii_hexdigit() => byte,
            _ => return None,
        };
    }
    Uuid::try_parse_ascii(&bytes).ok()
}

/// STR: see the module's text.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "_{byte:02x}");
        }
    }
    out
}

/// The text of an STR key; `None` when malformed or not UTF-8.
pub fn decode(key: &str) -> Option<String> {
    let bytes = key.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'_' => {
                let digits = key.get(at + 1..at + 3)?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                at += 3;
            }
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const UUID: &str = "6695eb01-f6a4-8304-79aa-97f2502e193f";

    #[test]
    fn domain_path_both_ways() {
        let uuid: Uuid = UUID.parse().unwrap();
        let path = domain(DriverKind::Qemu, &uuid);
        assert_eq!(path, "/org/libvirt/QEMU/domain/_6695eb01_f6a4_8304_79aa_97f2502e193f");
        let Some(Node::Object(root, Kind::Domain, key)) = parse(&path, Scope::System) else { panic!("not a domain") };
        assert_eq!((root.name, parse_uuid(key)), ("QEMU", Some(uuid)));
    }

    #[rstest]
    #[case("aa:bb:cc:dd:ee:ff", "aa_3abb_3acc_3add_3aee_3aff")]
    #[case("scsi_host2", "scsi_5fhost2")]
    #[case("/default-pool/v", "_2fdefault_2dpool_2fv")]
    #[case("a b_c", "a_20b_5fc")]
    #[case("é", "_c3_a9")]
    fn str_encoding(#[case] text: &str, #[case] key: &str) {
        assert_eq!(encode(text), key);
        assert_eq!(decode(key).as_deref(), Some(text));
    }

    #[test]
    fn snapshot_key_both_ways() {
        let uuid: Uuid = UUID.parse().unwrap();
        let key = snapshot_key(&uuid, "a b_c");
        assert_eq!(key, "_6695eb01_f6a4_8304_79aa_97f2502e193f_a_20b_5fc");
        assert_eq!(parse_snapshot(&key), Some((uuid, "a b_c".to_string())));
        assert_eq!(parse_snapshot(&key[..37]), None);
    }

    #[rstest]
    #[case("_6695eb01_f6a4_8304_79aa_97f2502e193")]
    #[case("6695eb01_f6a4_8304_79aa_97f2502e193f")]
    #[case("_6695eb01-f6a4-8304-79aa-97f2502e193f")]
    #[case("_6695eb01_f6a4_8304_79aa_97f2502e193g")]
    #[case("_6695eb01f6a4830479aa97f2502e193f")]
    fn malformed_uuid(#[case] key: &str) {
        assert_eq!(parse_uuid(key), None);
    }

    #[rstest]
    #[case("/org/libvirt/QEMUX")]
    #[case("/org/libvirt/VMwareWS")]
    #[case("/org/libvirt/QEMU/volume")]
    #[case("/org/libvirt/QEMU/domain/a/b")]
    #[case("/com")]
    fn nothing_there(#[case] path: &str) {
        assert_eq!(parse(path, Scope::System), None);
    }

    #[test]
    fn roots_depend_on_the_bus() {
        let Some(Node::Branch(system)) = parse("/org/libvirt", Scope::System) else { panic!("no branch") };
        assert_eq!(system, ["BHyve", "LXC", "OpenVZ", "QEMU", "Test", "UML", "VBox", "VZ", "Xen"]);
        let Some(Node::Branch(session)) = parse("/org/libvirt", Scope::Session) else { panic!("no branch") };
        assert_eq!(session, ["QEMU", "Test", "UML", "VBox", "VMwareFusion", "VMwarePlayer", "VMwareWS"]);
    }
}
