//! `<volume>` -> [`VolumeDef`].

use super::encryption::VolumeEncryption;
use super::model::*;
use crate::disk::permissions::Permissions;
use crate::disk::pool::PoolType;
use crate::domain_xml::warnings_of;
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::size::unit_scale;
use crate::types::text::nearest;
use crate::xml::{Document, Node, parse_unsigned};

/// What a definition must say of its capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    Required,
    /// May be left out where there is a backing store, whose capacity counts then.
    OptionalWithBacking,
    /// May be left out: it comes from the volume that is copied.
    Optional,
}

/// Reads a `<volume>` document for a pool of type `pool`. Errors carry line, column and element path: code 35 for
/// syntax, 27 and 67 for meaning, 8 for an unknown unit, 82 for a size that is too large.
pub fn parse(xml: &str, pool: PoolType, capacity: Capacity) -> Result<VolumeDef> {
    let read = || {
        let document = Document::parse(xml, "storage_volume_definition")?;
        let root = document.root();
        if root.name() != "volume" {
            let what = format!("expecting root element of 'volume', not '{}'", root.name());
            return Err(root.error(Code::XmlError, what));
        }
        read_volume(root, pool, capacity)
    };
    read().map_err(|error: Error| error.or_subsystem(Subsystem::Storage))
}

/// Refuses what [`parse`] drops silently. Errors: code 92 with every place.
pub fn parse_strictly(xml: &str, pool: PoolType) -> Result<VolumeDef> {
    let def = parse(xml, pool, Capacity::Optional)?;
    let document = Document::parse(xml, "storage_volume_definition")?;
    let read = || read_volume(document.root(), pool, Capacity::Optional);
    read()?;
    let told: Vec<String> = warnings_of(&document)
        .iter()
        .map(|at| format!("line {}, column {}: {}: {}", at.line, at.column, at.path, at.message))
        .collect();
    match told.is_empty() {
        true => Ok(def),
        false => Err(Error::new(Code::XmlInvalidSchema, told.join("\n")).or_subsystem(Subsystem::Storage)),
    }
}

fn read_volume(root: Node<'_>, pool: PoolType, need: Capacity) -> Result<VolumeDef> {
    let missing = |what: &str| root.error(Code::XmlError, format!("missing {what} element"));
    let mut def = VolumeDef {
        name: root.child_string("name").ok_or_else(|| missing("volume name"))?,
        key: root.child_string("key"),
        ..Default::default()
    };
    if let Some(word) = root.attr("type") {
        def.kind = word
            .parse()
            .map_err(|_| root.attr_error("type", Code::ConfigUnsupported, format!("unknown volume type '{word}'")))?;
    }
    if let Some(node) = root.child("backingStore")
        && let Some(path) = node.child_string("path")
    {
        def.backing = Some(BackingStore {
            path,
            format: read_format(node, pool)?,
            permissions: Permissions::read(node)?.unwrap_or_default(),
            timestamps: None,
        });
    }
    let optional = match need {
        Capacity::Required => false,
        Capacity::OptionalWithBacking => def.backing.is_some(),
        Capacity::Optional => true,
    };
    def.capacity = match root.child("capacity") {
        Some(node) => read_size(node)?,
        None if optional => 0,
        None => return Err(missing("capacity")),
    };
    let allocation = root.child("allocation").map(read_size).transpose()?;
    def.has_allocation = allocation.is_some();
    def.allocation = allocation.unwrap_or(def.capacity);
    // Output only.
    if let Some(physical) = root.child("physical") {
        physical.attr("unit");
    }
    def.target.format = VolumeFormat::default_in(pool);
    if let Some(target) = root.child("target") {
        read_target(target, pool, &mut def.target)?;
    }
    Ok(def)
}

fn read_target(node: Node<'_>, pool: PoolType, target: &mut VolumeTarget) -> Result<()> {
    target.path = node.child_string("path");
    target.format = read_format(node, pool)?;
    target.permissions = Permissions::read(node)?.unwrap_or_default();
    target.encryption = node.child("encryption").map(VolumeEncryption::read).transpose()?;
    if let Some(timestamps) = node.child("timestamps") {
        timestamps.mark_opaque();
    }
    target.compat = node.child_string("compat");
    if let Some(compat) = &target.compat {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !compat.split_once('.').is_some_and(|(major, minor)| digits(major) && digits(minor)) {
            let what = format!("forbidden characters in 'compat' attribute: '{compat}' is neither 0.10 nor 1.1");
            return Err(node.error(Code::XmlError, what));
        }
    }
    target.nocow = node.child("nocow").is_some();
    target.cluster_size = node.child("clusterSize").map(read_size).transpose()?.filter(|size| *size > 0);
    if let Some(list) = node.child("features") {
        let mut features = VolumeFeatures::default();
        target.compat.get_or_insert_with(|| "1.1".to_string());
        for feature in list.all_children() {
            feature.mark_used();
            match feature.name() {
                "lazy_refcounts" => features.lazy_refcounts = true,
                "extended_l2" => features.extended_l2 = true,
                "data_file" => features.data_file = true,
                other => {
                    return Err(feature.error(Code::ConfigUnsupported, format!("unsupported feature {other}")));
                }
            }
        }
        target.features = Some(features);
    }
    Ok(())
}

/// `<format type>` of `parent`; the pool's default where there is none.
fn read_format(parent: Node<'_>, pool: PoolType) -> Result<Option<VolumeFormat>> {
    let words = VolumeFormat::words(pool);
    let Some(word) = parent.child("format").and_then(|format| format.attr("type")).filter(|_| !words.is_empty()) else {
        return Ok(VolumeFormat::default_in(pool));
    };
    let unknown = || {
        let mut what = format!("unknown volume format type {word}");
        if let Some(near) = nearest(word, words.iter().copied()) {
            what.push_str(&format!("; did you mean '{near}'?"));
        }
        parent.error(Code::ConfigUnsupported, what)
    };
    VolumeFormat::parse(pool, word).map(Some).ok_or_else(unknown)
}

/// Bytes, with a unit.
fn read_size(node: Node<'_>) -> Result<u64> {
    let (text, unit) = (node.text(), node.attr("unit").unwrap_or_default());
    let malformed = || node.error(Code::XmlError, format!("malformed capacity element: '{text}' is no size"));
    let value = parse_unsigned(text.trim_end()).ok_or_else(malformed)?;
    let scale = unit_scale(unit, 1).ok_or_else(|| node.error(Code::InvalidArg, format!("unknown suffix '{unit}'")))?;
    let bytes = value.checked_mul(scale).filter(|bytes| i64::try_from(*bytes).is_ok());
    bytes.ok_or_else(|| node.error(Code::Overflow, format!("value too large: {text}{unit}")))
}
