//! `<source>` of a pool.

use super::model::*;
use crate::disk::permissions::sanitize_path;
use crate::domain_xml::device::{SecretRef, read_pci, write_pci};
use crate::error::{Code, Result};
use crate::types::Uuid;
use crate::types::text::nearest;
use crate::xml::{Node, Writer};

impl PoolSource {
    /// Reads `<source>` of a pool of this type. Errors: code 27 and 67.
    pub(super) fn read(node: Option<Node<'_>>, kind: PoolType) -> Result<Self> {
        let shape = kind.shape();
        let mut source = PoolSource::default();
        if !shape.formats.is_empty() {
            source.format = Some(shape.default_format);
        }
        if kind == PoolType::Gluster {
            source.dir = Some("/".to_string());
        }
        let Some(node) = node else { return Ok(source) };
        let named = |name: &'static str| node.child(name).and_then(|child| child.attr("name")).map(str::to_string);
        source.name = node.child_string("name");
        for host in node.children("host") {
            let missing = || host.error(Code::XmlError, "missing storage pool host name");
            let name = host.attr("name").filter(|name| !name.is_empty()).ok_or_else(missing)?;
            source.hosts.push(PoolHost { name: name.to_string(), port: host.attr_value("port")?.unwrap_or_default() });
        }
        for device in node.children("device") {
            let missing = || device.error(Code::XmlError, "missing storage pool source device path");
            let path = device.attr("path").filter(|path| !path.is_empty()).ok_or_else(missing)?.to_string();
            source.devices.push(PoolDevice { path, part_separator: device.attr_value("part_separator")? });
            // Measured, never defined.
            for extent in device.children("freeExtent") {
                extent.attr("start");
                extent.attr("end");
            }
        }
        if let Some(dir) = node.child("dir").and_then(|dir| dir.attr("path")) {
            source.dir = Some(if kind == PoolType::Netfs && cifs(node) { dir.into() } else { sanitize_path(dir) });
        }
        source.adapter = node.child("adapter").map(Adapter::read).transpose()?.flatten();
        source.initiator_iqn = node
            .child("initiator")
            .and_then(|node| node.child("iqn"))
            .and_then(|iqn| iqn.attr("name").map(str::to_string));
        if let Some(format) = node.child("format").filter(|_| !shape.formats.is_empty())
            && let Some(word) = format.attr("type")
        {
            let known = shape.formats.iter().find(|known| **known == word);
            source.format = Some(known.ok_or_else(|| {
                let near = nearest(word, shape.formats.iter().copied());
                let hint = match near {
                    Some(near) => format!("did you mean '{near}'?"),
                    None => format!("known: {}", shape.formats.join(", ")),
                };
                format.attr_error("type", Code::ConfigUnsupported, format!("unknown pool format type {word}; {hint}"))
            })?);
        }
        source.auth = node.child("auth").map(PoolAuth::read).transpose()?;
        source.protocol_version = node.child("protocol").and_then(|node| node.attr("ver")).map(str::to_string);
        source.vendor = named("vendor");
        source.product = named("product");
        Ok(source)
    }

    /// Refuses a source that lacks what its type needs. Errors: code 27 and 67.
    pub(super) fn require_parts(&self, kind: PoolType, root: Node<'_>) -> Result<()> {
        let shape = kind.shape();
        let missing = |what: &str| Err(root.error(Code::XmlError, format!("missing storage pool source {what}")));
        if shape.initiator && kind == PoolType::IscsiDirect && self.initiator_iqn.is_none() {
            return Err(root.error(Code::ConfigUnsupported, "missing initiator IQN"));
        }
        if shape.hosts && self.hosts.is_empty() {
            return missing("host name");
        }
        if shape.dir && self.dir.is_none() {
            return missing("path");
        }
        if shape.adapter && self.adapter.is_none() {
            return missing("adapter");
        }
        // Of the other types a source can be told without.
        if matches!(kind, PoolType::Fs | PoolType::Disk) && self.devices.is_empty() {
            return missing("device name");
        }
        Ok(())
    }

    /// Writes `<source>`, with what this type has only.
    pub(super) fn write(&self, kind: PoolType, w: &mut Writer) {
        let shape = kind.shape();
        w.start("source");
        for host in self.hosts.iter().filter(|_| shape.hosts) {
            w.element("host", |w| {
                w.attr("name", &host.name);
                w.attr_opt("port", Some(host.port).filter(|port| *port != 0));
            });
        }
        for device in self.devices.iter().filter(|_| shape.devices) {
            w.element("device", |w| {
                w.attr("path", &device.path);
                w.attr_opt("part_separator", device.part_separator);
            });
        }
        if let Some(dir) = self.dir.as_ref().filter(|_| shape.dir) {
            w.element("dir", |w| w.attr("path", dir));
        }
        if let Some(adapter) = self.adapter.as_ref().filter(|_| shape.adapter) {
            adapter.write(w);
        }
        w.text_opt("name", self.name.as_ref().filter(|_| shape.name));
        if let Some(iqn) = self.initiator_iqn.as_ref().filter(|_| shape.initiator) {
            w.element("initiator", |w| w.element("iqn", |w| w.attr("name", iqn)));
        }
        if let Some(format) = self.format {
            w.element("format", |w| w.attr("type", format));
        }
        if let Some(auth) = &self.auth {
            auth.write(w);
        }
        if let Some(version) = &self.protocol_version {
            w.element("protocol", |w| w.attr("ver", version));
        }
        if let Some(vendor) = &self.vendor {
            w.element("vendor", |w| w.attr("name", vendor));
        }
        if let Some(product) = &self.product {
            w.element("product", |w| w.attr("name", product));
        }
        // Also of an empty one.
        w.end_wide();
    }
}

/// A Samba share's name is no path.
fn cifs(source: Node<'_>) -> bool {
    source.child("format").and_then(|format| format.attr("type")) == Some("cifs")
}

impl Adapter {
    /// Reads `<adapter>`; one that says nothing is none.
    fn read(node: Node<'_>) -> Result<Option<Self>> {
        let text = |name: &'static str| node.attr(name).map(str::to_string);
        let kind = match node.attr_value::<AdapterType>("type")? {
            Some(kind) => kind,
            None if node.attr("name").is_some() => AdapterType::ScsiHost,
            None => return Ok(None),
        };
        if kind == AdapterType::FcHost {
            let (Some(wwnn), Some(wwpn)) = (text("wwnn"), text("wwpn")) else {
                let what = "'wwnn' and 'wwpn' must be specified for adapter type 'fchost'";
                return Err(node.error(Code::XmlError, what));
            };
            let host = FcHost {
                parent: text("parent"),
                parent_wwnn: text("parent_wwnn"),
                parent_wwpn: text("parent_wwpn"),
                parent_fabric_wwn: text("parent_fabric_wwn"),
                managed: node.attr_value("managed")?,
                wwnn,
                wwpn,
            };
            let names = [Some(&host.wwnn), Some(&host.wwpn), host.parent_wwnn.as_ref(), host.parent_wwpn.as_ref()];
            for name in names.into_iter().flatten() {
                if name.len() != 16 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(node.error(Code::InternalError, format!("Malformed wwn: {name}")));
                }
            }
            if host.parent_wwnn.is_some() != host.parent_wwpn.is_some() {
                let what = "must supply both parent_wwnn and parent_wwpn not just one or the other";
                return Err(node.error(Code::XmlError, what));
            }
            return Ok(Some(Adapter::FcHost(host)));
        }
        if let Some(parent) = node.child("parentaddr") {
            let Some(address) = parent.child("address") else {
                return Err(parent.error(Code::XmlError, "Missing scsi_host PCI address element"));
            };
            let address = read_pci(address)?;
            let Some(unique_id) = parent.attr_value("unique_id")? else {
                return Err(parent.error(Code::XmlError, "Missing or invalid scsi adapter 'unique_id' value"));
            };
            return Ok(Some(Adapter::ScsiHost(ScsiHost::Parent { unique_id, address })));
        }
        match text("name") {
            Some(name) => Ok(Some(Adapter::ScsiHost(ScsiHost::Name(name)))),
            None => {
                let what = "Either 'name' or 'parent' must be specified for the 'scsi_host' adapter";
                Err(node.error(Code::XmlError, what))
            }
        }
    }

    fn write(&self, w: &mut Writer) {
        w.element("adapter", |w| match self {
            Adapter::FcHost(host) => {
                w.attr("type", "fc_host");
                w.attr_opt("parent", host.parent.as_ref());
                w.attr_opt("parent_wwnn", host.parent_wwnn.as_ref());
                w.attr_opt("parent_wwpn", host.parent_wwpn.as_ref());
                w.attr_opt("parent_fabric_wwn", host.parent_fabric_wwn.as_ref());
                w.attr_opt("managed", host.managed);
                w.attr("wwnn", &host.wwnn);
                w.attr("wwpn", &host.wwpn);
            }
            Adapter::ScsiHost(ScsiHost::Name(name)) => {
                w.attr("type", "scsi_host");
                w.attr("name", name);
            }
            Adapter::ScsiHost(ScsiHost::Parent { unique_id, address }) => {
                w.attr("type", "scsi_host");
                w.element("parentaddr", |w| {
                    w.attr("unique_id", unique_id);
                    w.element("address", |w| write_pci(w, address));
                });
            }
        });
    }
}

impl PoolAuth {
    fn read(node: Node<'_>) -> Result<Self> {
        let missing = |what: &str| node.error(Code::XmlError, what);
        let username = node.attr("username").ok_or_else(|| missing("missing username for auth"))?.to_string();
        let kind = match node.attr("type") {
            None => None,
            Some(word) => Some(word.parse::<PoolAuthType>().map_err(|_| {
                node.attr_error("type", Code::ConfigUnsupported, format!("unknown auth type '{word}'"))
            })?),
        };
        let secret = node.child("secret").ok_or_else(|| missing("Missing <secret> element in auth"))?;
        let secret = read_secret(secret)?;
        let kind = kind.ok_or_else(|| missing("missing auth type: 'chap' or 'ceph'"))?;
        Ok(PoolAuth { kind, username, secret })
    }

    fn write(&self, w: &mut Writer) {
        w.element("auth", |w| {
            w.attr("type", self.kind);
            w.attr("username", &self.username);
            write_secret(&self.secret, w);
        });
    }
}

/// Reads a `<secret>` that names one by UUID or by use. Errors: code 27.
pub(in crate::disk) fn read_secret(node: Node<'_>) -> Result<SecretRef> {
    let text = |name: &'static str| node.attr(name).map(str::to_string);
    let mut secret = SecretRef { kind: text("type"), uuid: text("uuid"), usage: text("usage") };
    match (&secret.uuid, &secret.usage) {
        (None, None) => return Err(node.error(Code::XmlError, "missing secret uuid or usage attribute")),
        (Some(_), Some(_)) => {
            return Err(node.error(Code::XmlError, "either secret uuid or usage expected, not both"));
        }
        (Some(uuid), None) => {
            let invalid = |_| node.attr_error("uuid", Code::XmlError, format!("invalid secret uuid '{uuid}'"));
            secret.uuid = Some(Uuid::parse_str(uuid).map_err(invalid)?.to_string());
        }
        (None, Some(_)) => {}
    }
    Ok(secret)
}

/// Writes it.
pub(in crate::disk) fn write_secret(secret: &SecretRef, w: &mut Writer) {
    w.element("secret", |w| {
        w.attr_opt("type", secret.kind.as_ref());
        w.attr_opt("uuid", secret.uuid.as_ref());
        w.attr_opt("usage", secret.usage.as_ref());
    });
}
