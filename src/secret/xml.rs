//! `<secret>`, read and written.

use super::{SecretDef, Usage, UsageType};
use crate::domain_xml::words::YesNo;
use crate::error::{Code, Result, Subsystem};
use crate::types::Uuid;
use crate::xml::{Document, Node, Writer};

const WHAT: &str = "secret_definition";

pub(super) fn parse(text: &str) -> Result<SecretDef> {
    let document = Document::parse(text, WHAT).map_err(|error| error.with_subsystem(Subsystem::Secret))?;
    read(&document)
}

pub(super) fn validate(text: &str) -> Result<()> {
    let document = Document::parse(text, WHAT).map_err(|error| error.with_subsystem(Subsystem::Secret))?;
    read(&document)?;
    document.refuse_unknown()
}

fn read(document: &Document<'_>) -> Result<SecretDef> {
    let root = document.root();
    if root.name() != "secret" {
        let what = format!("expecting root element of 'secret', not '{}'", root.name());
        return Err(root.error(Code::XmlError, what).with_subsystem(Subsystem::Xml));
    }
    read_root(root).map_err(|error| error.or_subsystem(Subsystem::Secret))
}

fn read_root(root: Node<'_>) -> Result<SecretDef> {
    let ephemeral = flag(root, "ephemeral")?;
    let private = flag(root, "private")?;
    let uuid = match root.child("uuid") {
        Some(node) => Uuid::try_parse(node.text().trim())
            .map_err(|_| node.error(Code::InternalError, format!("malformed uuid element: '{}'", node.text())))?,
        None => Uuid::new_v4(),
    };
    let description = root.child_string("description");
    let usage = match root.child("usage") {
        Some(node) => read_usage(node)?,
        None => None,
    };
    Ok(SecretDef { uuid, ephemeral, private, description, usage })
}

fn flag(root: Node<'_>, name: &'static str) -> Result<bool> {
    match root.attr(name) {
        None => Ok(false),
        Some("yes") => Ok(true),
        Some("no") => Ok(false),
        Some(other) => {
            Err(root.attr_error(name, Code::XmlError, format!("invalid value of '{name}': '{other}' is not yes or no")))
        }
    }
}

/// The element that says which thing of a type, and libvirt's words for its absence.
fn id_of(kind: UsageType) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        UsageType::None => return None,
        UsageType::Volume => ("volume", "volume usage specified, but volume path is missing"),
        UsageType::Ceph => ("name", "Ceph usage specified, but name is missing"),
        UsageType::Iscsi => ("target", "iSCSI usage specified, but target is missing"),
        UsageType::Tls => ("name", "TLS usage specified, but name is missing"),
        UsageType::Vtpm => ("name", "vTPM usage specified, but name is missing"),
    })
}

fn read_usage(node: Node<'_>) -> Result<Option<Usage>> {
    let kind: UsageType = node.require("type").map_err(|error| error.with_subsystem(Subsystem::Xml))?;
    let Some((element, missing)) = id_of(kind) else { return Ok(None) };
    let id = node.child_string(element).ok_or_else(|| node.error(Code::InternalError, missing))?;
    Ok(Some(Usage { kind, id }))
}

pub(super) fn write(def: &SecretDef) -> String {
    let mut w = Writer::new();
    w.start("secret");
    w.attr("ephemeral", YesNo::from(def.ephemeral));
    w.attr("private", YesNo::from(def.private));
    w.text("uuid", def.uuid);
    w.text_opt("description", def.description.as_ref());
    if let Some(usage) = &def.usage {
        w.start("usage");
        w.attr("type", usage.kind);
        if let Some((element, _)) = id_of(usage.kind) {
            w.text(element, &usage.id);
        }
        w.end();
    }
    w.end();
    w.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const UUID: &str = "<uuid>22e1353d-c27e-4d6d-bf15-465053e6ba0b</uuid>";

    #[rstest]
    #[case("volume", "volume", "/var/lib/images/a &amp; b.img")]
    #[case("ceph", "name", "client.admin secret")]
    #[case("iscsi", "target", "iqn.2013-07.com.example:pool")]
    #[case("tls", "name", "t")]
    #[case("vtpm", "name", "v")]
    fn comes_out_as_it_went_in(#[case] kind: &str, #[case] element: &str, #[case] id: &str) {
        let xml = format!(
            "<secret ephemeral='no' private='yes'>\n  {UUID}\n  <description>d</description>\n  \
             <usage type='{kind}'>\n    <{element}>{id}</{element}>\n  </usage>\n</secret>\n"
        );
        assert_eq!(parse(&xml).unwrap().to_xml(), xml);
        assert!(validate(&xml).is_ok());
    }

    #[test]
    fn little_is_enough() {
        let def = parse("<secret><usage type='none'/><description/></secret>").unwrap();
        assert!(!def.uuid.is_nil());
        assert_eq!(
            def.to_xml(),
            format!("<secret ephemeral='no' private='no'>\n  <uuid>{}</uuid>\n</secret>\n", def.uuid)
        );
    }

    #[rstest]
    #[case("<foo/>", 27, Subsystem::Xml, "expecting root element of 'secret', not 'foo'")]
    #[case("<secret", 35, Subsystem::Secret, "(secret_definition):1: ")]
    #[case("<secret><uuid>x</uuid></secret>", 1, Subsystem::Secret, "malformed uuid element")]
    #[case("<secret ephemeral='maybe'/>", 27, Subsystem::Secret, "invalid value of 'ephemeral'")]
    #[case("<secret private='1'/>", 27, Subsystem::Secret, "invalid value of 'private'")]
    #[case("<secret><usage/></secret>", 27, Subsystem::Xml, "Missing required attribute 'type' in element 'usage'")]
    #[case(
        "<secret><usage type='foo'/></secret>",
        27,
        Subsystem::Xml,
        "Invalid value for attribute 'type' in element 'usage': 'foo'."
    )]
    #[case(
        "<secret><usage type='volume'><volume/></usage></secret>",
        1,
        Subsystem::Secret,
        "volume usage specified, but volume path is missing (line 1, column 9, secret/usage)"
    )]
    #[case("<secret><usage type='tls'/></secret>", 1, Subsystem::Secret, "TLS usage specified, but name is missing")]
    fn refused_as_libvirt_does(
        #[case] xml: &str,
        #[case] code: i32,
        #[case] subsystem: Subsystem,
        #[case] start: &str,
    ) {
        let error = parse(xml).unwrap_err();
        assert!(error.detail.starts_with(start), "{error}");
        assert_eq!((error.code as i32, error.subsystem), (code, subsystem), "{error}");
    }

    #[test]
    fn validation_finds_what_is_too_much() {
        let xml = "<secret><foo/></secret>";
        assert!(parse(xml).is_ok());
        let error = validate(xml).unwrap_err();
        assert_eq!((error.code, error.subsystem), (Code::XmlInvalidSchema, Subsystem::Xml));
        assert!(error.detail.contains("secret/foo"), "{error}");
    }
}
