//! `<disk>`.

use super::info::{DeviceInfo, VirtioOptions};
use super::storage::{
    DiskAuth, Elsewhere, Encryption, StorageFormat, StorageSource, read_metadata_cache, write_metadata_cache,
};
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::{Switch, YesNo, attrs, words};
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

/// `<disk>`. Its `type` is `source.kind`, its `<driver type>` is `source.format`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disk {
    pub device: DiskDevice,
    pub model: Option<DiskModel>,
    pub rawio: Option<YesNo>,
    pub sgio: Option<Sgio>,
    pub snapshot: Option<SnapshotMode>,
    pub driver: DiskDriver,
    pub source: StorageSource,
    /// `<auth>` stands below `<disk>`, not below `<source>`.
    pub auth_on_disk: bool,
    /// `<encryption>` stands below `<disk>`, not below `<source>`.
    pub encryption_on_disk: bool,
    pub mirror: Option<DiskMirror>,
    pub target: DiskTarget,
    pub geometry: Option<Geometry>,
    pub blockio: Option<BlockIo>,
    /// Boxed: it is large, and few disks have it.
    pub iotune: Option<Box<IoTune>>,
    pub throttlefilters: Vec<String>,
    pub readonly: bool,
    pub shareable: bool,
    pub transient: bool,
    /// `<transient shareBacking>`.
    pub transient_share_backing: Option<YesNo>,
    pub serial: Option<String>,
    pub wwn: Option<String>,
    pub vendor: Option<String>,
    pub product: Option<String>,
    /// `<backenddomain name>`.
    pub backenddomain: Option<String>,
    pub info: DeviceInfo,
}

words! {
    /// `device`.
    pub enum DiskDevice { Disk = "disk", Cdrom = "cdrom", Floppy = "floppy", Lun = "lun" }

    /// `model`.
    pub enum DiskModel { Virtio = "virtio", VirtioTransitional = "virtio-transitional", VirtioNonTransitional = "virtio-non-transitional" }

    /// `sgio`.
    pub enum Sgio { Filtered = "filtered", Unfiltered = "unfiltered" }

    /// `snapshot`.
    pub enum SnapshotMode { No = "no", Internal = "internal", External = "external", Manual = "manual" }

    /// `<target bus>`.
    pub enum DiskBus {
        Ide = "ide", Fdc = "fdc", Scsi = "scsi", Virtio = "virtio", Xen = "xen", Usb = "usb", Uml = "uml", Sata = "sata",
        Sd = "sd", Nvme = "nvme",
    }

    /// `cache`.
    pub enum DiskCache {
        Default = "default", None = "none", Writethrough = "writethrough", Writeback = "writeback",
        Directsync = "directsync", Unsafe = "unsafe",
    }

    /// `io`.
    pub enum IoMode { Native = "native", Threads = "threads", IoUring = "io_uring" }

    /// `error_policy`, `rerror_policy`.
    pub enum ErrorPolicy { Stop = "stop", Report = "report", Ignore = "ignore", Enospace = "enospace" }

    /// `discard`.
    pub enum Discard { Unmap = "unmap", Ignore = "ignore" }

    /// `detect_zeroes`.
    pub enum DetectZeroes { Off = "off", On = "on", Unmap = "unmap" }

    /// `<target tray>`.
    pub enum Tray { Closed = "closed", Open = "open" }

    /// `<geometry trans>`.
    pub enum GeometryTrans { None = "none", Auto = "auto", Lba = "lba" }

    /// `<mirror job>`.
    pub enum MirrorJob { Copy = "copy", ActiveCommit = "active-commit" }
}

/// `<driver>`. The `type` attribute lives in [`StorageSource::format`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskDriver {
    /// `qemu` after the post-parse of the QEMU driver.
    pub name: Option<String>,
    pub cache: Option<DiskCache>,
    pub error_policy: Option<ErrorPolicy>,
    pub rerror_policy: Option<ErrorPolicy>,
    pub io: Option<IoMode>,
    pub ioeventfd: Option<Switch>,
    pub event_idx: Option<Switch>,
    pub copy_on_read: Option<Switch>,
    pub discard: Option<Discard>,
    /// Id of an I/O thread.
    pub iothread: Option<u32>,
    pub detect_zeroes: Option<DetectZeroes>,
    pub discard_no_unref: Option<Switch>,
    pub queues: Option<u32>,
    pub queue_size: Option<u32>,
    pub virtio: VirtioOptions,
    /// `<iothreads>` mapping: (id, queues).
    pub iothreads: Vec<(u32, Vec<u32>)>,
    /// `<metadata_cache><max_size>`, bytes.
    pub metadata_cache_max: Option<u64>,
}

attrs! {
    /// `<target>`.
    pub struct DiskTarget {
        dev: String = "dev",
        bus: DiskBus = "bus",
        tray: Tray = "tray",
        removable: Switch = "removable",
        rotation_rate: u32 = "rotation_rate",
    }

    /// `<geometry>`.
    pub struct Geometry {
        cyls: u32 = "cyls",
        heads: u32 = "heads",
        secs: u32 = "secs",
        trans: GeometryTrans = "trans",
    }

    /// `<blockio>`, bytes.
    pub struct BlockIo {
        logical_block_size: u32 = "logical_block_size",
        physical_block_size: u32 = "physical_block_size",
        discard_granularity: u32 = "discard_granularity",
    }
}

impl Disk {
    /// `<target dev>`.
    pub fn dev(&self) -> &str {
        self.target.dev.as_deref().unwrap_or_default()
    }

    /// Image format; raw when nothing is said.
    pub fn format(&self) -> StorageFormat {
        self.source.format.unwrap_or(StorageFormat::Raw)
    }
}

/// `<mirror>`: a running copy or commit. Live only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskMirror {
    pub job: MirrorJob,
    /// `yes`, `abort`, `pivot`.
    pub ready: Option<String>,
    pub source: StorageSource,
}

macro_rules! iotune {
    ($($field:ident),* $(,)?) => {
        /// `<iotune>`: bytes per second, operations per second, seconds.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct IoTune {
            $(pub $field: Option<u64>,)*
            pub group_name: Option<String>,
        }

        impl IoTune {
            fn read(node: Node<'_>) -> Result<Self> {
                Ok(IoTune {
                    $($field: node.child_value(stringify!($field))?.filter(|value: &u64| *value != 0),)*
                    group_name: node.child_string("group_name"),
                })
            }

            fn write(&self, w: &mut Writer) {
                w.element_unless_empty("iotune", |w| {
                    $(
                        if stringify!($field) == "total_bytes_sec_max_length" {
                            w.text_opt("group_name", self.group_name.as_ref());
                        }
                        w.text_opt(stringify!($field), self.$field);
                    )*
                });
            }
        }
    };
}

iotune! {
    total_bytes_sec, read_bytes_sec, write_bytes_sec, total_iops_sec, read_iops_sec, write_iops_sec,
    total_bytes_sec_max, read_bytes_sec_max, write_bytes_sec_max, total_iops_sec_max, read_iops_sec_max,
    write_iops_sec_max, size_iops_sec, total_bytes_sec_max_length, read_bytes_sec_max_length,
    write_bytes_sec_max_length, total_iops_sec_max_length, read_iops_sec_max_length, write_iops_sec_max_length,
}

/// Reads `<iothreads>` of a driver: thread ids, each with the queues it serves.
pub(crate) fn read_iothreads(driver: Node<'_>) -> Result<Vec<(u32, Vec<u32>)>> {
    let Some(node) = driver.child("iothreads") else { return Ok(Vec::new()) };
    node.children("iothread")
        .map(|thread| {
            let queues = thread.children("queue").map(|queue| queue.require("id")).collect::<Result<_>>()?;
            Ok((thread.require("id")?, queues))
        })
        .collect()
}

/// Writes it.
pub(crate) fn write_iothreads(w: &mut Writer, threads: &[(u32, Vec<u32>)]) {
    w.element_unless_empty("iothreads", |w| {
        for (id, queues) in threads {
            w.element("iothread", |w| {
                w.attr("id", id);
                for queue in queues {
                    w.element("queue", |w| w.attr("id", queue));
                }
            });
        }
    });
}

impl DiskDriver {
    fn read(node: Node<'_>) -> Result<(Self, Option<StorageFormat>)> {
        let mut driver = DiskDriver {
            name: node.attr("name").map(str::to_string),
            cache: node.attr_value("cache")?,
            error_policy: node.attr_value("error_policy")?,
            rerror_policy: node.attr_value("rerror_policy")?,
            io: node.attr_value("io")?,
            ioeventfd: node.attr_value("ioeventfd")?,
            event_idx: node.attr_value("event_idx")?,
            copy_on_read: node.attr_value("copy_on_read")?,
            discard: node.attr_value("discard")?,
            iothread: node.attr_value("iothread")?,
            detect_zeroes: node.attr_value("detect_zeroes")?,
            discard_no_unref: node.attr_value("discard_no_unref")?,
            queues: node.attr_value("queues")?,
            queue_size: node.attr_value("queue_size")?,
            virtio: VirtioOptions::read(node)?,
            ..Default::default()
        };
        driver.iothreads = read_iothreads(node)?;
        driver.metadata_cache_max = read_metadata_cache(node)?;
        // libvirt reads "aio" as an old name of raw.
        let format = match node.attr("type") {
            Some("aio") => Some(StorageFormat::Raw),
            _ => node.attr_value("type")?,
        };
        Ok((driver, format))
    }

    fn write(&self, w: &mut Writer, format: Option<StorageFormat>) {
        w.element_unless_empty("driver", |w| {
            w.attr_opt("name", self.name.as_ref());
            w.attr_opt("type", format);
            w.attr_opt("cache", self.cache);
            w.attr_opt("error_policy", self.error_policy);
            w.attr_opt("rerror_policy", self.rerror_policy);
            w.attr_opt("io", self.io);
            w.attr_opt("ioeventfd", self.ioeventfd);
            w.attr_opt("event_idx", self.event_idx);
            w.attr_opt("copy_on_read", self.copy_on_read);
            w.attr_opt("discard", self.discard);
            w.attr_opt("iothread", self.iothread);
            w.attr_opt("detect_zeroes", self.detect_zeroes);
            w.attr_opt("discard_no_unref", self.discard_no_unref);
            w.attr_opt("queues", self.queues);
            w.attr_opt("queue_size", self.queue_size);
            self.virtio.write_attrs(w);
            write_iothreads(w, &self.iothreads);
            write_metadata_cache(w, self.metadata_cache_max);
        });
    }
}

impl Disk {
    /// Reads `<disk>`. Errors: code 27, and 20 for a missing target.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut disk = Disk {
            device: node.attr_value("device")?.unwrap_or_default(),
            model: node.attr_value("model")?,
            rawio: node.attr_value("rawio")?,
            sgio: node.attr_value("sgio")?,
            snapshot: node.attr_value("snapshot")?,
            ..Default::default()
        };
        disk.source.kind = node.attr_value("type")?.unwrap_or_default();
        if let Some(source) = node.child("source") {
            disk.source.read_source(source)?;
        }
        if let Some(driver) = node.child("driver") {
            (disk.driver, disk.source.format) = DiskDriver::read(driver)?;
        }
        disk.source.read_backing(node)?;
        if let Some(auth) = node.child("auth") {
            disk.source.auth = Some(DiskAuth::read(auth)?);
            disk.auth_on_disk = true;
        }
        if let Some(encryption) = node.child("encryption") {
            disk.source.encryption = Some(Encryption::read(encryption)?);
            disk.encryption_on_disk = true;
        }
        disk.backenddomain = node.child("backenddomain").and_then(|n| n.attr("name")).map(str::to_string);
        disk.geometry = node.child("geometry").map(Geometry::read).transpose()?;
        disk.blockio = node.child("blockio").map(BlockIo::read).transpose()?;
        if let Some(mirror) = node.child("mirror") {
            disk.mirror = Some(DiskMirror::read(mirror)?);
        }
        let target = node.child("target").filter(|target| target.attr("dev").is_some_and(|dev| !dev.is_empty()));
        let Some(target) = target else {
            let source = disk.source.path.as_deref().unwrap_or_default();
            return Err(node.error(Code::NoTarget, source));
        };
        disk.target = DiskTarget::read(target)?;
        disk.iotune = node.child("iotune").map(IoTune::read).transpose()?.map(Box::new);
        if let Some(filters) = node.child("throttlefilters") {
            for filter in filters.children("throttlefilter") {
                disk.throttlefilters.push(filter.require("group")?);
            }
        }
        disk.readonly = node.child("readonly").is_some();
        disk.shareable = node.child("shareable").is_some();
        if let Some(transient) = node.child("transient") {
            disk.transient = true;
            disk.transient_share_backing = transient.attr_value("shareBacking")?;
        }
        disk.serial = node.child_string("serial");
        disk.wwn = node.child_string("wwn");
        if let (Some(wwn), Some(child)) = (&disk.wwn, node.child("wwn"))
            && (wwn.len() != 16 || !wwn.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(child.error(Code::InternalError, format!("Malformed wwn: {wwn}")));
        }
        disk.vendor = node.child_string("vendor");
        disk.product = node.child_string("product");
        disk.info = DeviceInfo::read_bootable(node)?;
        Ok(disk)
    }

    /// Writes it in libvirt's order.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        let elsewhere = Elsewhere { auth: self.auth_on_disk, encryption: self.encryption_on_disk };
        w.start("disk");
        w.attr("type", self.source.written_kind());
        w.attr("device", self.device);
        w.attr_opt("model", self.model);
        w.attr_opt("rawio", self.rawio);
        w.attr_opt("sgio", self.sgio);
        let implied = self.snapshot == Some(SnapshotMode::No) && self.readonly;
        w.attr_opt("snapshot", self.snapshot.filter(|_| !implied));
        self.driver.write(w, self.source.format);
        if let Some(auth) = self.source.auth.as_ref().filter(|_| self.auth_on_disk) {
            auth.write(w);
        }
        self.source.write_source(w, o, true, elsewhere);
        self.source.write_backing(w, o);
        if let Some(name) = &self.backenddomain {
            w.element("backenddomain", |w| w.attr("name", name));
        }
        if let Some(geometry) = &self.geometry {
            geometry.write("geometry", w);
        }
        if let Some(blockio) = &self.blockio {
            blockio.write("blockio", w);
        }
        if let Some(mirror) = self.mirror.as_ref().filter(|_| !o.inactive) {
            mirror.write(w, o);
        }
        self.target.write("target", w);
        if let Some(iotune) = &self.iotune {
            iotune.write(w);
        }
        w.element_unless_empty("throttlefilters", |w| {
            for group in &self.throttlefilters {
                w.element("throttlefilter", |w| w.attr("group", group));
            }
        });
        w.empty_if("readonly", self.readonly);
        w.empty_if("shareable", self.shareable);
        if self.transient {
            w.element("transient", |w| w.attr_opt("shareBacking", self.transient_share_backing));
        }
        w.text_opt("serial", self.serial.as_ref());
        w.text_opt("wwn", self.wwn.as_ref());
        w.text_opt("vendor", self.vendor.as_ref());
        w.text_opt("product", self.product.as_ref());
        if let Some(encryption) = self.source.encryption.as_ref().filter(|_| self.encryption_on_disk) {
            encryption.write(w);
        }
        self.info.write(w, o);
        w.end();
    }

    /// Drops what belongs to one run only.
    pub(crate) fn make_inactive(&mut self) {
        self.source.make_inactive();
        self.mirror = None;
        self.info.make_inactive();
    }
}

impl DiskMirror {
    fn read(node: Node<'_>) -> Result<Self> {
        let kind = node.attr_value("type")?.unwrap_or_default();
        let mut mirror = DiskMirror {
            job: node.attr_value("job")?.unwrap_or_default(),
            ready: node.attr("ready").map(str::to_string),
            source: super::storage::StorageSource { kind, ..Default::default() },
        };
        // Attributes of former versions, repeated by libvirt for old readers.
        node.attr("file");
        node.attr("format");
        if let Some(format) = node.child("format") {
            mirror.source.format = format.attr_value("type")?;
            mirror.source.metadata_cache_max = read_metadata_cache(format)?;
        }
        if let Some(source) = node.child("source") {
            mirror.source.read_source(source)?;
        }
        mirror.source.read_backing(node)?;
        Ok(mirror)
    }

    fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("mirror", |w| {
            w.attr("type", self.source.written_kind());
            if let Some(path) = self.source.path.as_ref().filter(|_| self.job == MirrorJob::Copy) {
                w.attr("file", path);
                w.attr_opt("format", self.source.format);
            }
            w.attr("job", self.job);
            w.attr_opt("ready", self.ready.as_ref());
            w.element_unless_empty("format", |w| {
                w.attr_opt("type", self.source.format);
                write_metadata_cache(w, self.source.metadata_cache_max);
            });
            self.source.write_source(w, o, true, Elsewhere::default());
            self.source.write_backing(w, o);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;
    use rstest::rstest;

    fn again(xml: &str, inactive: bool) -> Result<String> {
        let o = FormatOptions { inactive, ..Default::default() };
        rewrite(xml, Disk::read, |disk, w| disk.write(w, o))
    }

    const LIVE: &str = "\
<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2' cache='none' io='native' discard='unmap' iothread='1'/>
  <source file='/a/disk' index='2'/>
  <backingStore type='file' index='3'>
    <format type='raw'/>
    <source file='/a/base'/>
    <backingStore/>
  </backingStore>
  <target dev='vda' bus='virtio'/>
  <iotune>
    <total_bytes_sec>1000</total_bytes_sec>
    <group_name>g</group_name>
  </iotune>
  <serial>s1</serial>
  <wwn>5000c50015ea71ac</wwn>
  <encryption format='luks'>
    <secret type='passphrase' uuid='e96a5f37-88ed-4c6d-9b86-b29b92a8ae64'/>
  </encryption>
  <boot order='1'/>
  <alias name='virtio-disk0'/>
  <address type='pci' domain='0x0000' bus='0x00' slot='0x04' function='0x0'/>
</disk>
";

    #[test]
    fn live_form_round_trips() {
        assert_eq!(again(LIVE, false).expect("reads"), LIVE);
    }

    #[test]
    fn inactive_form_drops_indexes_and_alias() {
        let written = again(LIVE, true).expect("reads");
        assert!(!written.contains("index=") && !written.contains("<alias"), "{written}");
        assert!(written.contains("<backingStore type='file'>"), "the user's own chain stays");
    }

    #[rstest]
    #[case(
        "<disk type='block' device='lun' rawio='yes' sgio='unfiltered'>\n  <source dev='/dev/sda'>\n    \
            <reservations managed='yes'/>\n  </source>\n  <target dev='sda' bus='scsi'/>\n  <shareable/>\n</disk>\n"
    )]
    #[case(
        "<disk type='network' device='disk'>\n  <driver name='qemu' type='raw'/>\n  \
            <auth username='u'>\n    <secret type='ceph' usage='x'/>\n  </auth>\n  \
            <source protocol='rbd' name='p/i'>\n    <host name='h' port='6789'/>\n    <snapshot name='s'/>\n  </source>\n  \
            <target dev='vdb' bus='virtio'/>\n</disk>\n"
    )]
    #[case(
        "<disk type='volume' device='cdrom'>\n  <source pool='p' volume='v' startupPolicy='optional'/>\n  \
            <target dev='hda' bus='ide' tray='open'/>\n  <readonly/>\n</disk>\n"
    )]
    #[case(
        "<disk type='file' device='disk'>\n  <source file='/x'/>\n  <backingStore type='file'>\n    \
            <format type='qcow2'>\n      <metadata_cache>\n        <max_size unit='bytes'>1234</max_size>\n      \
            </metadata_cache>\n    </format>\n    <source/>\n  </backingStore>\n  <target dev='hda' bus='ide'/>\n</disk>\n"
    )]
    fn forms(#[case] xml: &str) {
        assert_eq!(again(xml, false).expect("reads"), xml);
    }

    #[rstest]
    #[case("<disk><source file='/x'/><target bus='ide'/></disk>", "/x")]
    #[case("<disk type='fil'><target dev='a'/></disk>", "element 'disk': 'fil'. did you mean 'file'?")]
    #[case("<disk><driver cache='no'/><target dev='a'/></disk>", "attribute 'cache' in element 'driver': 'no'.")]
    #[case("<disk><target dev='a'/><boot order='0'/></disk>", "Zero is not permitted")]
    #[case("<disk><target dev='a'/><wwn>xyz</wwn></disk>", "Malformed wwn: xyz")]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let error = again(xml, false).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
        assert!(error.detail.contains("(line 1, column "), "{}", error.detail);
    }
}
