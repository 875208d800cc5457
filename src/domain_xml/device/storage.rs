//! A storage source: where the bytes of a disk, of a layer of its backing chain or of an NVRAM come from.

use super::info::{read_pci, write_pci};
use crate::domain_xml::FormatOptions;
use crate::domain_xml::foreign::Foreign;
use crate::domain_xml::seclabel::DeviceSeclabel;
use crate::domain_xml::words::{YesNo, attrs, words};
use crate::error::{Code, Error, Result};
use crate::types::PciAddress;
use crate::xml::{Node, Writer};

/// `<source>` with its `type` and format. Layers of a backing chain hang on each other through `backing`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StorageSource {
    pub kind: StorageKind,
    /// `<format type>` of a layer; of a disk itself it is `<driver type>`, copied here.
    pub format: Option<StorageFormat>,
    /// `<format><metadata_cache><max_size>` of a layer, bytes; of a disk itself it is in its `<driver>`.
    pub metadata_cache_max: Option<u64>,
    /// Live only: number of the node in the running machine.
    pub index: Option<u32>,
    pub startup_policy: Option<StartupPolicy>,
    /// File, block device or directory; empty medium when `None`.
    pub path: Option<String>,
    pub network: Option<NetworkSource>,
    /// A volume of a pool. At a start `kind` and `path` become those of the volume, and the XML shows this all the same.
    pub volume: Option<VolumeSource>,
    pub nvme: Option<NvmeSource>,
    pub auth: Option<DiskAuth>,
    pub encryption: Option<Encryption>,
    pub seclabels: Vec<DeviceSeclabel>,
    pub reservations: Option<Reservations>,
    pub slice: Option<StorageSlice>,
    pub fdgroup: Option<String>,
    /// Children that nothing acts on yet.
    pub later: Vec<Foreign>,
    /// `<dataStore>`: where the contents of an image with an external data file are.
    pub data_store: Option<Box<StorageSource>>,
    /// What this image lies on.
    pub backing: Backing,
    /// `backing` was found out by probing, not said by the user: an inactive definition does not show it.
    pub backing_detected: bool,
}

/// A namespace of an NVMe device of the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NvmeSource {
    pub managed: Option<YesNo>,
    pub namespace: u64,
    pub address: PciAddress,
}

/// The next layer of a chain.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Backing {
    /// No `<backingStore>`: to be found out.
    #[default]
    Unknown,
    /// `<backingStore/>`: this is the last layer.
    End,
    Layer(Box<StorageSource>),
}

words! {
    /// `type` of a disk or layer.
    pub enum StorageKind {
        File = "file", Block = "block", Dir = "dir", Network = "network", Volume = "volume", Nvme = "nvme",
        VhostUser = "vhostuser", VhostVdpa = "vhostvdpa",
    }

    /// Image format.
    pub enum StorageFormat {
        Raw = "raw", Dir = "dir", Bochs = "bochs", Cloop = "cloop", Dmg = "dmg", Iso = "iso", Vpc = "vpc", Vdi = "vdi",
        Fat = "fat", Vhd = "vhd", Ploop = "ploop", Cow = "cow", Qcow = "qcow", Qcow2 = "qcow2", Qed = "qed", Vmdk = "vmdk",
    }

    /// What happens when the source is missing at start.
    pub enum StartupPolicy { Mandatory = "mandatory", Requisite = "requisite", Optional = "optional" }

    /// `protocol` of a network source.
    pub enum NetworkProtocol {
        Nbd = "nbd", Rbd = "rbd", Sheepdog = "sheepdog", Gluster = "gluster", Iscsi = "iscsi", Http = "http", Https = "https",
        Ftp = "ftp", Ftps = "ftps", Tftp = "tftp", Vxhs = "vxhs", Nfs = "nfs", Ssh = "ssh",
    }

    /// `transport` of a host.
    pub enum HostTransport { Tcp = "tcp", Unix = "unix", Rdma = "rdma" }

    /// `mode` of a volume source.
    pub enum VolumeMode { Host = "host", Direct = "direct" }

    /// `<encryption format>`.
    pub enum EncryptionFormat { Default = "default", Qcow = "qcow", Luks = "luks", Luks2 = "luks2", LuksAny = "luks-any" }

    /// `<encryption engine>`.
    pub enum EncryptionEngine { Qemu = "qemu", Librbd = "librbd" }

    /// `<auth><secret type>`.
    pub enum AuthType { None = "none", Chap = "chap", Ceph = "ceph", Iscsi = "iscsi" }
}

/// A network source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkSource {
    pub protocol: NetworkProtocol,
    pub name: Option<String>,
    pub tls: Option<YesNo>,
    pub tls_hostname: Option<String>,
    pub query: Option<String>,
    pub hosts: Vec<NetworkHost>,
    pub snapshot: Option<String>,
    pub config_file: Option<String>,
    /// `<initiator><iqn name>`.
    pub initiator_iqn: Option<String>,
    /// `<ssl verify>`.
    pub ssl_verify: Option<YesNo>,
    /// Bytes.
    pub readahead: Option<u64>,
    /// Seconds.
    pub timeout: Option<u64>,
    /// `<reconnect delay>`, seconds.
    pub reconnect_delay: Option<u32>,
    pub cookies: Vec<(String, String)>,
    /// `<identity>`, `<knownHosts>`: nothing acts on them yet.
    pub later: Vec<Foreign>,
}

attrs! {
    /// `<host>`.
    pub struct NetworkHost {
        transport: HostTransport = "transport",
        name: String = "name",
        port: u32 = "port",
        socket: String = "socket",
    }

    /// A volume of a storage pool.
    pub struct VolumeSource {
        pool: String = "pool",
        volume: String = "volume",
        mode: VolumeMode = "mode",
    }

    /// `<slice type='storage'>`, bytes.
    pub struct StorageSlice {
        offset: u64 = "offset",
        size: u64 = "size",
    }
}

/// A reference to a `<secret>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SecretRef {
    pub kind: Option<String>,
    pub uuid: Option<String>,
    pub usage: Option<String>,
}

/// What a secret of an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretPurpose {
    /// To be let in by the server.
    Auth,
    /// To read what is on the disk.
    Encryption,
}

/// `<auth>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskAuth {
    pub username: String,
    pub secret: SecretRef,
}

/// `<encryption>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encryption {
    pub format: EncryptionFormat,
    pub engine: Option<EncryptionEngine>,
    pub secrets: Vec<SecretRef>,
}

/// `<reservations>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reservations {
    pub managed: Option<YesNo>,
    /// `<source type='unix' path mode>`.
    pub path: Option<String>,
}

impl StorageSource {
    /// Whether there is a medium at all (a cdrom may have none).
    pub fn is_empty(&self) -> bool {
        match self.kind {
            StorageKind::Network => self.network.is_none(),
            StorageKind::Volume => self.volume.is_none(),
            StorageKind::Nvme => self.nvme.is_none(),
            _ => self.path.is_none(),
        }
    }

    /// `type` as it was written: a volume stays one when it is known what it is on this host.
    pub fn written_kind(&self) -> StorageKind {
        if self.volume.is_some() { StorageKind::Volume } else { self.kind }
    }

    /// The secrets that opening this layer takes. Error: none is named, or not which.
    pub fn secrets(&self) -> Result<Vec<(SecretPurpose, &SecretRef)>> {
        let mut all = Vec::new();
        if let Some(auth) = &self.auth {
            all.push((SecretPurpose::Auth, &auth.secret));
        }
        if let Some(encryption) = &self.encryption {
            let first = encryption.secrets.first();
            let none = || Error::unsupported_config("<encryption> names no <secret>, so nothing can unlock the image");
            all.push((SecretPurpose::Encryption, first.ok_or_else(none)?));
        }
        Ok(all)
    }

    /// Fills in the ports of a network source's hosts that say none, by its protocol.
    pub fn default_ports(&mut self) {
        let Some(network) = self.network.as_mut().filter(|_| self.kind == StorageKind::Network) else { return };
        let port = match network.protocol {
            NetworkProtocol::Nbd => 10809,
            NetworkProtocol::Gluster => 24007,
            NetworkProtocol::Sheepdog => 7000,
            NetworkProtocol::Iscsi => 3260,
            NetworkProtocol::Http => 80,
            NetworkProtocol::Https => 443,
            NetworkProtocol::Ftp => 21,
            NetworkProtocol::Ftps => 990,
            NetworkProtocol::Tftp => 69,
            NetworkProtocol::Vxhs => 9999,
            NetworkProtocol::Ssh => 22,
            // The client library knows.
            NetworkProtocol::Rbd | NetworkProtocol::Nfs => return,
        };
        for host in &mut network.hosts {
            if matches!(host.transport, None | Some(HostTransport::Tcp)) {
                host.port.get_or_insert(port);
            }
        }
    }

    /// A file.
    pub fn file(path: impl Into<String>, format: StorageFormat) -> Self {
        StorageSource { path: Some(path.into()), format: Some(format), ..Default::default() }
    }
}

/// Where the `<auth>` and `<encryption>` of a disk stand: libvirt writes them where it read them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Elsewhere {
    pub auth: bool,
    pub encryption: bool,
}

impl StorageSource {
    /// Reads `<source>` into a source of this `kind`. Index and backing chain are the caller's.
    pub(crate) fn read_source(&mut self, node: Node<'_>) -> Result<()> {
        let string = |name| node.attr(name).map(str::to_string).filter(|text| !text.is_empty());
        match self.kind {
            StorageKind::File => self.path = string("file"),
            StorageKind::Block => self.path = string("dev"),
            StorageKind::Dir => self.path = string("dir"),
            StorageKind::VhostVdpa => self.path = string("dev"),
            StorageKind::Network => self.network = Some(NetworkSource::read(node)?),
            StorageKind::Volume => {
                let volume = VolumeSource::read(node)?;
                if volume.pool.is_none() || volume.volume.is_none() {
                    let what = "missing 'pool' or 'volume' attribute in source specification";
                    return Err(node.error(Code::XmlError, what));
                }
                self.volume = Some(volume);
            }
            StorageKind::VhostUser => {
                node.attr("type");
                self.path = string("path");
                self.later = Foreign::read_all(node, &["reconnect"]);
            }
            StorageKind::Nvme => {
                node.attr("type");
                let Some(address) = node.child("address") else {
                    return Err(node.error(Code::XmlError, "missing address of nvme disk"));
                };
                self.nvme = Some(NvmeSource {
                    managed: node.attr_value("managed")?,
                    namespace: node.require("namespace")?,
                    address: read_pci(address)?,
                });
            }
        }
        self.fdgroup = string("fdgroup");
        self.startup_policy = node.attr_value("startupPolicy")?;
        self.index = node.attr_value("index")?;
        self.seclabels = DeviceSeclabel::read_all(node)?;
        if let Some(auth) = node.child("auth") {
            self.auth = Some(DiskAuth::read(auth)?);
        }
        if let Some(encryption) = node.child("encryption") {
            self.encryption = Some(Encryption::read(encryption)?);
        }
        if let Some(store) = node.child("dataStore") {
            let mut layer = StorageSource { kind: store.attr_value("type")?.unwrap_or_default(), ..Default::default() };
            layer.format = store.child("format").map(|format| format.require("type")).transpose()?;
            if let Some(source) = store.child("source") {
                layer.read_source(source)?;
            }
            self.data_store = Some(Box::new(layer));
        }
        if let Some(reservations) = node.child("reservations") {
            self.reservations = Some(Reservations {
                managed: reservations.attr_value("managed")?,
                path: reservations.child("source").and_then(|source| {
                    source.attr("type");
                    source.attr("mode");
                    source.attr("path").map(str::to_string)
                }),
            });
        }
        if let Some(slices) = node.child("slices") {
            for slice in slices.children("slice") {
                slice.attr("type");
                self.slice = Some(StorageSlice::read(slice)?);
            }
        }
        Ok(())
    }

    /// Reads `<backingStore>` of `parent` and what hangs on it.
    pub(crate) fn read_backing(&mut self, parent: Node<'_>) -> Result<()> {
        let Some(node) = parent.child("backingStore") else { return Ok(()) };
        let Some(kind) = node.attr_value("type")? else {
            self.backing = Backing::End;
            return Ok(());
        };
        let mut layer = StorageSource { kind, ..Default::default() };
        let index = node.attr_value("index")?;
        let format =
            node.child("format").ok_or_else(|| node.error(Code::XmlError, "missing disk backing store format"))?;
        layer.format = Some(format.require("type")?);
        layer.metadata_cache_max = read_metadata_cache(format)?;
        let source =
            node.child("source").ok_or_else(|| node.error(Code::XmlError, "missing disk backing store source"))?;
        layer.read_source(source)?;
        layer.index = index;
        layer.read_backing(node)?;
        self.backing = Backing::Layer(Box::new(layer));
        Ok(())
    }

    /// Writes `<source>`; nothing when it says nothing.
    pub(crate) fn write_source(&self, w: &mut Writer, o: FormatOptions, with_index: bool, elsewhere: Elsewhere) {
        w.element_unless_empty("source", |w| {
            let path = self.path.as_ref();
            match self.written_kind() {
                StorageKind::File => w.attr_opt("file", path),
                StorageKind::Block | StorageKind::VhostVdpa => w.attr_opt("dev", path),
                StorageKind::Dir => w.attr_opt("dir", path),
                StorageKind::Volume => {
                    if let Some(volume) = &self.volume {
                        volume.write_attrs(w);
                    }
                }
                StorageKind::Network => {
                    if let Some(network) = &self.network {
                        network.write_attrs(w);
                    }
                }
                StorageKind::VhostUser => {
                    w.attr("type", "unix");
                    w.attr_opt("path", path);
                }
                StorageKind::Nvme => {
                    if let Some(nvme) = &self.nvme {
                        w.attr("type", "pci");
                        w.attr_opt("managed", nvme.managed);
                        w.attr("namespace", nvme.namespace);
                    }
                }
            }
            w.attr_opt("fdgroup", self.fdgroup.as_ref());
            w.attr_opt("startupPolicy", self.startup_policy);
            if with_index && !o.inactive {
                w.attr_opt("index", self.index);
            }
            if let Some(network) = self.network.as_ref().filter(|_| self.kind == StorageKind::Network) {
                network.write_children(w, o);
            }
            if let Some(nvme) = &self.nvme {
                w.element("address", |w| write_pci(w, &nvme.address));
            }
            self.later.iter().for_each(|element| element.write(w));
            if let Some(slice) = &self.slice {
                w.element("slices", |w| {
                    w.element("slice", |w| {
                        w.attr("type", "storage");
                        slice.write_attrs(w);
                    });
                });
            }
            for label in &self.seclabels {
                label.write(w, o);
            }
            if let Some(auth) = self.auth.as_ref().filter(|_| !elsewhere.auth) {
                auth.write(w);
            }
            if let Some(reservations) = &self.reservations {
                w.element("reservations", |w| {
                    w.attr_opt("managed", reservations.managed);
                    if let Some(path) = &reservations.path {
                        w.element("source", |w| {
                            w.attr("type", "unix");
                            w.attr("path", path);
                            w.attr("mode", "client");
                        });
                    }
                });
            }
            if let Some(encryption) = self.encryption.as_ref().filter(|_| !elsewhere.encryption) {
                encryption.write(w);
            }
            if let Some(store) = &self.data_store {
                w.element("dataStore", |w| {
                    w.attr("type", store.kind);
                    w.element_unless_empty("format", |w| w.attr_opt("type", store.format));
                    store.write_source(w, o, false, Elsewhere::default());
                });
            }
        });
    }

    /// Writes `<source>` of a layer, which may not be missing there: an empty one where it says nothing.
    fn write_layer_source(&self, w: &mut Writer, o: FormatOptions) {
        let before = w.written();
        self.write_source(w, o, false, Elsewhere::default());
        if w.written() == before {
            w.empty("source");
        }
    }

    /// Writes `<backingStore>` and what hangs on it.
    pub(crate) fn write_backing(&self, w: &mut Writer, o: FormatOptions) {
        if o.inactive && self.backing_detected {
            return;
        }
        match &self.backing {
            Backing::Unknown => {}
            Backing::End => w.empty("backingStore"),
            Backing::Layer(layer) => w.element("backingStore", |w| {
                w.attr("type", layer.written_kind());
                if !o.inactive {
                    w.attr_opt("index", layer.index);
                }
                w.element("format", |w| {
                    w.attr_opt("type", layer.format);
                    write_metadata_cache(w, layer.metadata_cache_max);
                });
                layer.write_layer_source(w, o);
                layer.write_backing(w, o);
            }),
        }
    }

    /// Drops what belongs to one run only, down the chain.
    pub(crate) fn make_inactive(&mut self) {
        self.index = None;
        if self.volume.is_some() {
            (self.kind, self.path) = (StorageKind::Volume, None);
        }
        if self.backing_detected {
            self.backing = Backing::Unknown;
            self.backing_detected = false;
        }
        if let Backing::Layer(layer) = &mut self.backing {
            layer.make_inactive();
        }
    }

    /// The layers below this one, nearest first.
    pub fn chain(&self) -> impl Iterator<Item = &StorageSource> {
        Chain(self)
    }
}

/// Reads `<metadata_cache>` in a `<format>` or `<driver>`: the most it may take, bytes.
pub(crate) fn read_metadata_cache(node: Node<'_>) -> Result<Option<u64>> {
    let size = node.child("metadata_cache").and_then(|cache| cache.child("max_size"));
    size.map(crate::domain_xml::memory::read_bytes).transpose()
}

/// Writes it.
pub(crate) fn write_metadata_cache(w: &mut Writer, max: Option<u64>) {
    let Some(bytes) = max else { return };
    w.element("metadata_cache", |w| {
        w.start("max_size");
        w.attr("unit", "bytes");
        w.end_with_text(bytes);
    });
}

/// Walks down a backing chain.
struct Chain<'a>(&'a StorageSource);

impl<'a> Iterator for Chain<'a> {
    type Item = &'a StorageSource;

    fn next(&mut self) -> Option<Self::Item> {
        match &self.0.backing {
            Backing::Layer(layer) => {
                self.0 = layer;
                Some(layer)
            }
            _ => None,
        }
    }
}

impl NetworkSource {
    fn read(node: Node<'_>) -> Result<Self> {
        let mut source = NetworkSource {
            protocol: node.require("protocol")?,
            name: node.attr("name").map(str::to_string),
            tls: node.attr_value("tls")?,
            tls_hostname: node.attr("tlsHostname").map(str::to_string),
            query: node.attr("query").map(str::to_string),
            ..Default::default()
        };
        for host in node.children("host") {
            let mut host = NetworkHost::read(host)?;
            host.transport = host.transport.filter(|transport| *transport != HostTransport::Tcp);
            host.port = host.port.filter(|port| *port != 0);
            source.hosts.push(host);
        }
        source.snapshot = node.child("snapshot").and_then(|n| n.attr("name")).map(str::to_string);
        source.config_file = node.child("config").and_then(|n| n.attr("file")).map(str::to_string);
        source.initiator_iqn =
            node.child("initiator").and_then(|n| n.child("iqn")).and_then(|n| n.attr("name")).map(str::to_string);
        if let Some(ssl) = node.child("ssl") {
            source.ssl_verify = ssl.attr_value("verify")?;
        }
        if let Some(readahead) = node.child("readahead") {
            source.readahead = readahead.attr_value("size")?;
        }
        if let Some(timeout) = node.child("timeout") {
            source.timeout = timeout.attr_value("seconds")?;
        }
        if let Some(reconnect) = node.child("reconnect") {
            source.reconnect_delay = reconnect.attr_value("delay")?;
        }
        source.later = Foreign::read_all(node, &["identity", "knownHosts"]);
        if let Some(cookies) = node.child("cookies") {
            for cookie in cookies.children("cookie") {
                source.cookies.push((cookie.require("name")?, cookie.text().to_string()));
            }
        }
        Ok(source)
    }

    fn write_attrs(&self, w: &mut Writer) {
        w.attr("protocol", self.protocol);
        w.attr_opt("name", self.name.as_ref());
        w.attr_opt("query", self.query.as_ref());
        w.attr_opt("tls", self.tls);
        w.attr_opt("tlsHostname", self.tls_hostname.as_ref());
    }

    fn write_children(&self, w: &mut Writer, o: FormatOptions) {
        for host in &self.hosts {
            host.write("host", w);
        }
        if let Some(name) = &self.snapshot {
            w.element("snapshot", |w| w.attr("name", name));
        }
        if let Some(file) = &self.config_file {
            w.element("config", |w| w.attr("file", file));
        }
        if let Some(iqn) = &self.initiator_iqn {
            w.element("initiator", |w| w.element("iqn", |w| w.attr("name", iqn)));
        }
        if let Some(verify) = self.ssl_verify {
            w.element("ssl", |w| w.attr("verify", verify));
        }
        if o.secure && !self.cookies.is_empty() {
            w.element("cookies", |w| {
                for (name, value) in &self.cookies {
                    w.start("cookie");
                    w.attr("name", name);
                    w.end_with_text(value);
                }
            });
        }
        if let Some(size) = self.readahead {
            w.element("readahead", |w| w.attr("size", size));
        }
        if let Some(seconds) = self.timeout {
            w.element("timeout", |w| w.attr("seconds", seconds));
        }
        self.later.iter().for_each(|element| element.write(w));
        if let Some(delay) = self.reconnect_delay {
            w.element("reconnect", |w| w.attr("delay", delay));
        }
    }
}

impl SecretRef {
    fn read(node: Node<'_>) -> Self {
        SecretRef {
            kind: node.attr("type").map(str::to_string),
            uuid: node.attr("uuid").map(str::to_string),
            usage: node.attr("usage").map(str::to_string),
        }
    }

    fn write(&self, w: &mut Writer) {
        w.element("secret", |w| {
            w.attr_opt("type", self.kind.as_ref());
            w.attr_opt("uuid", self.uuid.as_ref());
            w.attr_opt("usage", self.usage.as_ref());
        });
    }
}

impl DiskAuth {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let secret = node.child("secret").ok_or_else(|| node.error(Code::XmlError, "missing <secret> in <auth>"))?;
        Ok(DiskAuth { username: node.require("username")?, secret: SecretRef::read(secret) })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element("auth", |w| {
            w.attr("username", &self.username);
            self.secret.write(w);
        });
    }
}

impl Encryption {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        Ok(Encryption {
            format: node.require("format")?,
            engine: node.attr_value("engine")?,
            secrets: node.children("secret").map(SecretRef::read).collect(),
        })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element("encryption", |w| {
            w.attr("format", self.format);
            w.attr_opt("engine", self.engine);
            for secret in &self.secrets {
                secret.write(w);
            }
        });
    }
}
