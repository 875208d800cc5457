//! The block graph of a disk: per layer a storage node, and above it a format node unless the format is raw.

use super::{Props, not_yet, remote};
use crate::domain_xml::device::*;
use crate::error::{Error, Result};

/// Node names of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNames {
    /// The file or device.
    pub storage: String,
    /// The image format; `None` for raw, whose storage node is used directly.
    pub format: Option<String>,
}

impl NodeNames {
    /// The node that a device or an upper layer uses.
    pub fn top(&self) -> &str {
        self.format.as_deref().unwrap_or(&self.storage)
    }
}

/// Names of a layer, from its number; `None` for an empty medium.
pub fn node_names(source: &StorageSource) -> Option<NodeNames> {
    let index = source.index?;
    let storage = format!("libvirt-{index}-storage");
    let raw = matches!(source.format, None | Some(StorageFormat::Raw)) && source.encryption.is_none();
    let format = match (raw, &source.slice) {
        (true, None) => None,
        (true, Some(_)) => Some(format!("libvirt-{index}-slice-sto")),
        (false, _) => Some(format!("libvirt-{index}-format")),
    };
    Some(NodeNames { storage, format })
}

/// The cache mode: a shared disk has none unless the definition says otherwise, for the other side would not see it.
pub(super) fn effective_cache(disk: &Disk) -> Option<DiskCache> {
    match disk.driver.cache {
        None | Some(DiskCache::Default) if disk.shareable && !disk.readonly => Some(DiskCache::None),
        cache => cache,
    }
}

/// Cache mode as the two flags of a node; `None` = QEMU's default.
fn cache(disk: &Disk) -> Option<(bool, bool)> {
    match effective_cache(disk)? {
        DiskCache::Default => None,
        DiskCache::None | DiskCache::Directsync => Some((true, false)),
        DiskCache::Writethrough | DiskCache::Writeback => Some((false, false)),
        DiskCache::Unsafe => Some((false, true)),
    }
}

fn cache_props(props: Props, disk: &Disk) -> Props {
    match cache(disk) {
        None => props,
        Some((direct, no_flush)) => props.nest("cache", Props::new().set("direct", direct).set("no-flush", no_flush)),
    }
}

/// Driver, file name and protocol options of a storage node.
fn protocol(disk: &Disk, source: &StorageSource) -> Result<Props> {
    let dev = disk.dev();
    if source.reservations.is_some() {
        return Err(not_yet(format!("<reservations> of disk '{dev}'")));
    }
    let path =
        || source.path.clone().ok_or_else(|| Error::internal(format!("disk '{dev}' has a layer without a path")));
    let props = match source.kind {
        StorageKind::File => Props::new().set("driver", "file").set("filename", path()?),
        StorageKind::Block => Props::new().set("driver", "host_device").set("filename", path()?),
        StorageKind::Network => match &source.network {
            Some(network) if network.protocol == NetworkProtocol::Nbd => nbd(dev, network)?,
            Some(network) => remote::network(dev, source, network)?,
            None => return Err(Error::internal(format!("disk '{dev}' has a network source without a protocol"))),
        },
        StorageKind::Nvme => match &source.nvme {
            Some(nvme) => remote::nvme(nvme),
            None => return Err(Error::internal(format!("disk '{dev}' has an nvme source without a device"))),
        },
        other => return Err(not_yet(format!("<disk type='{other}'> of '{dev}'"))),
    };
    let io = match disk.driver.io {
        Some(io) if matches!(source.kind, StorageKind::File | StorageKind::Block) => Some(io.as_str()),
        _ => None,
    };
    Ok(props.set_opt("aio", io))
}

fn nbd(dev: &str, network: &NetworkSource) -> Result<Props> {
    if network.tls.is_some_and(|tls| tls.is_yes()) {
        return Err(not_yet(format!("tls='yes' of disk '{dev}'")));
    }
    let host = network
        .hosts
        .first()
        .ok_or_else(|| Error::internal(format!("disk '{dev}' has an nbd source without a host")))?;
    let server = match host.transport {
        Some(HostTransport::Unix) => Props::new().set("type", "unix").set_opt("path", host.socket.clone()),
        _ => Props::new()
            .set("type", "inet")
            .set_opt("host", host.name.clone())
            .set("port", host.port.unwrap_or(10809).to_string()),
    };
    let delay = network.reconnect_delay.filter(|delay| *delay > 0);
    Ok(Props::new()
        .set("driver", "nbd")
        .nest("server", server)
        .set_opt("export", network.name.clone())
        .set_opt("reconnect-delay", delay))
}

/// QEMU's driver of an image format.
fn format_driver(format: StorageFormat) -> Result<&'static str> {
    Ok(match format {
        StorageFormat::Raw | StorageFormat::Iso => "raw",
        StorageFormat::Qcow2 => "qcow2",
        StorageFormat::Qcow => "qcow",
        StorageFormat::Qed => "qed",
        StorageFormat::Vmdk => "vmdk",
        StorageFormat::Vdi => "vdi",
        StorageFormat::Vpc => "vpc",
        StorageFormat::Dmg => "dmg",
        StorageFormat::Bochs => "bochs",
        StorageFormat::Cloop => "cloop",
        StorageFormat::Ploop => "parallels",
        other => return Err(not_yet(format!("disk format '{other}'"))),
    })
}

/// The nodes of one layer, lowest first. `top`: the layer the guest sees. `backing`: the node below it.
pub fn format_layer(disk: &Disk, source: &StorageSource, top: bool, backing: Option<&str>) -> Result<Vec<Props>> {
    let Some(names) = node_names(source) else { return Ok(Vec::new()) };
    // The guest writes to the topmost layer only.
    let read_only = !top || disk.readonly;
    let discard = disk.driver.discard.filter(|_| top).map(Discard::as_str);
    let zeroes = disk.driver.detect_zeroes.filter(|_| top).map(|mode| match mode {
        // Unmapping needs discard; QEMU refuses the pair otherwise.
        DetectZeroes::Unmap if disk.driver.discard != Some(Discard::Unmap) => "on",
        other => other.as_str(),
    });
    let storage = protocol(disk, source)?.set("node-name", names.storage.as_str());
    let Some(format) = &names.format else {
        let storage = storage.set("read-only", read_only).set_opt("discard", discard).set_opt("detect-zeroes", zeroes);
        return Ok(vec![cache_props(storage, disk)]);
    };
    let storage = storage.set("auto-read-only", true).set("discard", "unmap");
    let raw = matches!(source.format, None | Some(StorageFormat::Raw));
    let mut nodes = vec![cache_props(storage, disk)];
    let mut below = names.storage.clone();
    if let Some(slice) = &source.slice {
        let node = Props::new().set("driver", "raw").set("file", below.as_str());
        let node = node.set("offset", slice.offset.unwrap_or(0)).set_opt("size", slice.size);
        if raw && source.encryption.is_none() {
            let node = node.set("node-name", format.as_str()).set("read-only", read_only);
            nodes.push(cache_props(node.set_opt("discard", discard).set_opt("detect-zeroes", zeroes), disk));
            return Ok(nodes);
        }
        below = format!("libvirt-{}-slice-sto", source.index.unwrap_or_default());
        let node = node.set("node-name", below.as_str()).set("auto-read-only", true).set("discard", "unmap");
        nodes.push(cache_props(node, disk));
    }
    let secret = remote::encryption(source)?;
    let driver = match (&secret, raw) {
        (Some(_), true) => "luks",
        _ => format_driver(source.format.unwrap_or_default())?,
    };
    let mut node = Props::new().set("node-name", format.as_str()).set("read-only", read_only);
    node = node.set_opt("discard", discard).set_opt("detect-zeroes", zeroes);
    node = cache_props(node, disk).set("driver", driver);
    if driver == "qcow2" {
        let cache = if top { disk.driver.metadata_cache_max } else { source.metadata_cache_max };
        node = node.set_opt("cache-size", cache.filter(|max| *max > 0));
    }
    if driver == "qcow2" && top {
        node = node.set_opt("discard-no-unref", disk.driver.discard_no_unref.map(|state| state.is_on()));
    }
    node = match &secret {
        Some(secret) if driver == "luks" => node.set("key-secret", secret.as_str()),
        Some(secret) if driver == "qcow2" => {
            node.nest("encrypt", Props::new().set("format", "luks").set("key-secret", secret.as_str()))
        }
        Some(_) => return Err(not_yet(format!("<encryption> of a {driver} image"))),
        None => node,
    };
    node = node.set("file", below.as_str());
    node = match backing {
        Some(backing) => node.set("backing", backing),
        // Without this QEMU would open whatever the image's header names.
        None if matches!(source.backing, Backing::End) && driver == "qcow2" => {
            node.set("backing", serde_json::Value::Null)
        }
        None => node,
    };
    nodes.push(node);
    Ok(nodes)
}
