//! `<pool>` -> [`PoolDef`].

use super::model::{PoolDef, PoolSource, PoolType, RefreshAllocation};
use crate::disk::permissions::{Permissions, sanitize_path};
use crate::domain_xml::{Warning, warnings_of};
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::Uuid;
use crate::xml::{Document, Node};

/// Namespace of `<fs:mount_opts>`.
pub const FS_NAMESPACE: &str = "http://libvirt.org/schemas/storagepool/fs/1.0";
/// Namespace of `<rbd:config_opts>`.
pub const RBD_NAMESPACE: &str = "http://libvirt.org/schemas/storagepool/rbd/1.0";

/// A parsed document with what was doubtful in it.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub def: PoolDef,
    pub warnings: Vec<Warning>,
}

/// Reads a `<pool>` document. Errors carry line, column and element path: code 35 for syntax, 27 and 67 for meaning,
/// with libvirt's texts.
pub fn parse(xml: &str) -> Result<Parsed> {
    read(xml).map_err(|error| error.or_subsystem(Subsystem::Storage))
}

/// The same, but refuses unknown elements and attributes (`VIR_STORAGE_POOL_DEFINE_VALIDATE`). Error: code 92.
pub fn parse_strictly(xml: &str) -> Result<PoolDef> {
    let Parsed { def, warnings } = parse(xml)?;
    let told: Vec<String> =
        warnings.iter().map(|w| format!("line {}, column {}: {}: {}", w.line, w.column, w.path, w.message)).collect();
    match told.is_empty() {
        true => Ok(def),
        false => Err(Error::new(Code::XmlInvalidSchema, told.join("\n")).or_subsystem(Subsystem::Storage)),
    }
}

fn read(xml: &str) -> Result<Parsed> {
    let document = Document::parse(xml, "storage_pool_definition")?;
    let root = document.root();
    if root.name() != "pool" {
        let what = format!("expecting root element of 'pool', not '{}'", root.name());
        return Err(root.error(Code::XmlError, what));
    }
    let def = read_pool(root)?;
    Ok(Parsed { def, warnings: warnings_of(&document) })
}

fn read_pool(root: Node<'_>) -> Result<PoolDef> {
    let kind: PoolType = root.require("type")?;
    let shape = kind.shape();
    // Output only, but a dump is a definition too.
    for measured in ["capacity", "allocation", "available"] {
        if let Some(node) = root.child(measured) {
            node.attr("unit");
        }
    }
    let mut def = PoolDef { kind, source: PoolSource::read(root.child("source"), kind)?, ..Default::default() };
    let name = root.child_string("name").or_else(|| def.source.name.clone().filter(|_| shape.name));
    def.name = name.ok_or_else(|| root.error(Code::XmlError, "missing pool source name element"))?;
    if def.name.contains('/') {
        return Err(root.error(Code::XmlError, format!("name {} cannot contain '/'", def.name)));
    }
    if let Some(text) = root.child_string("uuid") {
        let uuid = Uuid::parse_str(text.trim());
        let malformed = |_| root.error(Code::XmlError, format!("malformed uuid element: '{text}' is no UUID"));
        def.uuid = Some(uuid.map_err(malformed)?);
    }
    if let Some(cow) = root.child("features").and_then(|features| features.child("cow")) {
        if !matches!(kind, PoolType::Dir | PoolType::Fs) {
            let what = "cow feature may only be used for 'fs' and 'dir' pools";
            return Err(cow.error(Code::NoSupport, what));
        }
        def.cow = cow.attr_value("state")?;
    }
    def.source.require_parts(kind, root)?;
    if shape.name && def.source.name.is_none() {
        if kind == PoolType::Rbd {
            return Err(root.error(Code::XmlError, "element 'name' is mandatory for RBD pool"));
        }
        def.source.name = Some(def.name.clone());
    }
    read_target(root, &mut def)?;
    if let Some(volume) = root.child("refresh").and_then(|refresh| refresh.child("volume")) {
        def.refresh = Some(volume.attr_value::<RefreshAllocation>("allocation")?.unwrap_or_default());
    }
    read_namespaces(root, &mut def)?;
    Ok(def)
}

fn read_target(root: Node<'_>, def: &mut PoolDef) -> Result<()> {
    let node = root.child("target");
    let given = node.and_then(|target| target.child_string("path"));
    let permissions = node.map(Permissions::read).transpose()?.flatten();
    if !def.kind.shape().target {
        return Ok(());
    }
    let name = def.source.name.as_deref().unwrap_or(&def.name);
    def.target.path = Some(match def.kind {
        PoolType::Logical => format!("/dev/{name}"),
        PoolType::Zfs => format!("/dev/zvol/{name}"),
        _ => {
            let missing = || root.error(Code::XmlError, "missing storage pool target path");
            sanitize_path(&given.ok_or_else(missing)?)
        }
    });
    def.target.permissions = permissions.unwrap_or_default();
    Ok(())
}

fn read_namespaces(root: Node<'_>, def: &mut PoolDef) -> Result<()> {
    let has_options = matches!(def.kind, PoolType::Fs | PoolType::Netfs);
    if has_options && root.resolve_prefix(Some("fs")) == Some(FS_NAMESPACE) {
        for option in root.child("fs:mount_opts").into_iter().flat_map(|list| list.children("fs:option")) {
            let missing = || option.error(Code::XmlError, "no fs mount option name specified");
            def.mount_options.push(option.attr("name").ok_or_else(missing)?.to_string());
        }
    }
    if def.kind == PoolType::Rbd && root.resolve_prefix(Some("rbd")) == Some(RBD_NAMESPACE) {
        for option in root.child("rbd:config_opts").into_iter().flat_map(|list| list.children("rbd:option")) {
            let part = |name: &'static str| match option.attr(name) {
                Some(text) if !text.is_empty() => Ok(text.to_string()),
                _ => Err(option.error(Code::XmlError, format!("no rbd option {name} specified"))),
            };
            def.rbd_options.push((part("name")?, part("value")?));
        }
    }
    Ok(())
}
