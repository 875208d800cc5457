//! `<permissions>` of a pool's directory or a volume's file, and path clean-up as libvirt does it.

use std::path::Path;

use crate::error::{Code, Error, Result};
use crate::xml::{Node, Writer, parse_signed};

/// `<permissions>`; what is `None` is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// File mode, `0` to `0777`.
    pub mode: Option<u32>,
    pub owner: Option<u32>,
    pub group: Option<u32>,
    /// Security label.
    pub label: Option<String>,
}

impl Permissions {
    /// Reads `<permissions>` of `parent`, if there is one. Errors: code 27 with libvirt's texts.
    pub(crate) fn read(parent: Node<'_>) -> Result<Option<Self>> {
        let Some(node) = parent.child("permissions") else { return Ok(None) };
        let mode = match node.child_string("mode") {
            None => None,
            Some(text) => match u32::from_str_radix(text.trim_start(), 8) {
                Ok(mode) if mode <= 0o777 => Some(mode),
                _ => {
                    let what = format!("malformed octal mode: '{text}' is no number from 0 to 0777");
                    return Err(node.error(Code::XmlError, what));
                }
            },
        };
        let owner = read_id(node, "owner")?;
        Ok(Some(Permissions { mode, owner, group: read_id(node, "group")?, label: node.child_string("label") }))
    }

    /// Writes it; nothing when it says nothing.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.element_unless_empty("permissions", |w| {
            w.text_opt("mode", self.mode.map(|mode| format!("0{mode:o}")));
            w.text_opt("owner", self.owner);
            w.text_opt("group", self.group);
            w.text_opt("label", self.label.as_ref());
        });
    }
}

/// Gives the file or device at `path` the owner and mode that are asked for. Errors: code 38.
pub fn apply(path: &Path, wanted: &Permissions) -> Result<()> {
    let failed = |what: &str, error| Error::system(format!("cannot set {what} of '{}'", path.display()), error);
    if wanted.owner.is_some() || wanted.group.is_some() {
        std::os::unix::fs::chown(path, wanted.owner, wanted.group).map_err(|error| failed("owner", error))?;
    }
    match wanted.mode {
        Some(mode) => {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path, mode).map_err(|error| failed("mode", error))
        }
        None => Ok(()),
    }
}

/// A user or group id; -1, also as 32 bits, is "as it is".
fn read_id(node: Node<'_>, name: &'static str) -> Result<Option<u32>> {
    let Some(child) = node.child(name) else { return Ok(None) };
    let text = child.text();
    if text.is_empty() {
        return Ok(None);
    }
    match parse_signed(text) {
        Some(-1) => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(u32::MAX) => Ok(None),
            Ok(id) => Ok(Some(id)),
            Err(_) => Err(malformed(child, name, text)),
        },
        None => Err(malformed(child, name, text)),
    }
}

fn malformed(node: Node<'_>, name: &str, text: &str) -> crate::error::Error {
    node.error(Code::XmlError, format!("malformed {name} element: '{text}' is no id, and not -1"))
}

/// `path` without repeated and trailing slashes; exactly two at the start mean something and stay
/// (`virFileSanitizePath`).
pub fn sanitize_path(path: &str) -> String {
    let leading = path.len() - path.trim_start_matches('/').len();
    let mut clean = match leading {
        0 => String::new(),
        2 => "//".to_string(),
        _ => "/".to_string(),
    };
    clean.push_str(&path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"));
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Document;
    use rstest::rstest;

    #[rstest]
    #[case("///var//lib/", "/var/lib")]
    #[case("//x//y/", "//x/y")]
    #[case("relative//", "relative")]
    #[case("/", "/")]
    #[case("", "")]
    fn paths(#[case] path: &str, #[case] clean: &str) {
        assert_eq!(sanitize_path(path), clean);
    }

    fn read(inner: &str) -> Result<Option<Permissions>> {
        let xml = format!("<target><permissions>{inner}</permissions></target>");
        let document = Document::parse(&xml, "x").expect("well-formed");
        Permissions::read(document.root())
    }

    #[test]
    fn reads_and_writes_as_libvirt() {
        let read = read("<owner>0744</owner><group>-1</group><mode>0</mode><label/>").expect("reads").expect("there");
        assert_eq!(read, Permissions { mode: Some(0), owner: Some(744), group: None, label: None });
        let mut w = Writer::new();
        read.write(&mut w);
        assert_eq!(w.finish(), "<permissions>\n  <mode>00</mode>\n  <owner>744</owner>\n</permissions>\n");
    }

    #[rstest]
    #[case("<mode>9</mode>", "malformed octal mode")]
    #[case("<mode>7777</mode>", "malformed octal mode")]
    #[case("<owner>x</owner>", "malformed owner element")]
    #[case("<owner>-2</owner>", "malformed owner element")]
    #[case("<group>4294967296</group>", "malformed group element")]
    fn refused(#[case] inner: &str, #[case] says: &str) {
        let error = read(inner).expect_err("refused");
        assert_eq!(error.code, Code::XmlError);
        assert!(error.detail.starts_with(says), "{}", error.detail);
    }
}
