//! Small devices: `<panic>`, `<hub>`, `<nvram>`, `<iommu>`, `<smartcard>`, `<lease>`, `<memory>`.

use super::chardev::CharSource;
use super::info::DeviceInfo;
use crate::domain_xml::FormatOptions;
use crate::domain_xml::memory::{MemoryAccess, read_kib, write_kib};
use crate::domain_xml::words::{Switch, YesNo, attrs, words};
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

/// `<panic>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panic {
    pub model: Option<PanicModel>,
    pub info: DeviceInfo,
}

/// `<hub type='usb'>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hub {
    pub info: DeviceInfo,
}

/// `<nvram>` among the devices (pSeries).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NvramDevice {
    pub info: DeviceInfo,
}

/// `<lease>` of a lock manager.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lease {
    pub lockspace: Option<String>,
    pub key: String,
    pub path: String,
    pub offset: Option<u64>,
}

/// `<iommu>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Iommu {
    pub model: IommuModel,
    pub driver: IommuDriver,
    pub info: DeviceInfo,
}

attrs! {
    /// `<driver>` of an IOMMU.
    pub struct IommuDriver {
        intremap: Switch = "intremap",
        caching_mode: Switch = "caching_mode",
        eim: Switch = "eim",
        iotlb: Switch = "iotlb",
        aw_bits: u32 = "aw_bits",
        dma_translation: Switch = "dma_translation",
        xtsup: Switch = "xtsup",
        passthrough: Switch = "passthrough",
    }
}

/// `<smartcard>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Smartcard {
    pub kind: SmartcardKind,
    pub info: DeviceInfo,
}

/// `mode` with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub enum SmartcardKind {
    Host,
    HostCertificates { certificates: Vec<String>, database: Option<String> },
    Passthrough(CharSource),
}

/// `<memory>` device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryDevice {
    pub model: MemoryModel,
    pub access: Option<MemoryAccess>,
    pub discard: Option<YesNo>,
    pub uuid: Option<String>,
    pub source: MemoryDeviceSource,
    /// `<target>`.
    pub target: MemoryTarget,
    pub info: DeviceInfo,
}

/// `<source>` of a memory device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryDeviceSource {
    pub path: Option<String>,
    /// KiB.
    pub pagesize: Option<u64>,
    pub nodemask: Option<String>,
    /// KiB.
    pub alignsize: Option<u64>,
    pub pmem: bool,
}

/// `<target>` of a memory device. Sizes in KiB.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryTarget {
    pub size: u64,
    pub node: Option<u32>,
    pub label_size: Option<u64>,
    pub readonly: bool,
    pub block: Option<u64>,
    pub requested: Option<u64>,
    /// Live only.
    pub current: Option<u64>,
    pub dynamic_memslots: Option<YesNo>,
    pub base: Option<u64>,
}

words! {
    /// `<panic model>`.
    pub enum PanicModel { Isa = "isa", Pseries = "pseries", Hyperv = "hyperv", S390 = "s390", Pvpanic = "pvpanic" }

    /// `<iommu model>`.
    pub enum IommuModel { Intel = "intel", Smmuv3 = "smmuv3", Virtio = "virtio", Amd = "amd" }

    /// `<memory model>`.
    pub enum MemoryModel { Dimm = "dimm", Nvdimm = "nvdimm", VirtioPmem = "virtio-pmem", VirtioMem = "virtio-mem", SgxEpc = "sgx-epc" }
}

impl Panic {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        Ok(Panic { model: node.attr_value("model")?, info: DeviceInfo::read(node)? })
    }

    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("panic", |w| {
            w.attr_opt("model", self.model);
            self.info.write(w, o);
        });
    }
}

impl Hub {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        match node.attr("type") {
            Some("usb") => Ok(Hub { info: DeviceInfo::read(node)? }),
            Some(_) => Err(node.invalid_attr("type", None, &["usb"])),
            None => Err(node.missing_attr("type")),
        }
    }

    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("hub", |w| {
            w.attr("type", "usb");
            self.info.write(w, o);
        });
    }
}

impl NvramDevice {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        Ok(NvramDevice { info: DeviceInfo::read(node)? })
    }

    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("nvram", |w| self.info.write(w, o));
    }
}

impl Lease {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let target = node.child("target");
        let Some(path) = target.and_then(|target| target.attr("path")) else {
            return Err(node.error(Code::XmlError, "Missing 'target' element for lease"));
        };
        let key =
            node.child_string("key").ok_or_else(|| node.error(Code::XmlError, "Missing 'key' element for lease"))?;
        Ok(Lease {
            lockspace: node.child_string("lockspace"),
            key,
            path: path.to_string(),
            offset: target.map_or(Ok(None), |target| target.attr_value("offset"))?,
        })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element("lease", |w| {
            w.text_opt("lockspace", self.lockspace.as_ref());
            w.text("key", &self.key);
            w.element("target", |w| {
                w.attr("path", &self.path);
                w.attr_opt("offset", self.offset);
            });
        });
    }
}

impl Iommu {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        Ok(Iommu {
            model: node.require("model")?,
            driver: node.child("driver").map(IommuDriver::read).transpose()?.unwrap_or_default(),
            info: DeviceInfo::read(node)?,
        })
    }

    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("iommu", |w| {
            w.attr("model", self.model);
            self.driver.write("driver", w);
            self.info.write(w, o);
        });
    }
}

impl Smartcard {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let kind = match node.attr("mode") {
            Some("host") => SmartcardKind::Host,
            Some("host-certificates") => {
                let certificates: Vec<String> =
                    node.children("certificate").map(|certificate| certificate.text().to_string()).collect();
                if certificates.len() != 3 {
                    let what = "host-certificates mode needs exactly three certificates";
                    return Err(node.error(Code::XmlError, what));
                }
                SmartcardKind::HostCertificates { certificates, database: node.child_string("database") }
            }
            Some("passthrough") => match node.attr("type") {
                Some(kind) => SmartcardKind::Passthrough(CharSource::read_as(node, kind)?),
                None => {
                    let what = "passthrough mode requires a character device type attribute";
                    return Err(node.error(Code::XmlError, what));
                }
            },
            Some(_) => return Err(node.invalid_attr("mode", None, &["host", "host-certificates", "passthrough"])),
            None => return Err(node.missing_attr("mode")),
        };
        Ok(Smartcard { kind, info: DeviceInfo::read(node)? })
    }

    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("smartcard", |w| {
            match &self.kind {
                SmartcardKind::Host => w.attr("mode", "host"),
                SmartcardKind::HostCertificates { certificates, database } => {
                    w.attr("mode", "host-certificates");
                    for certificate in certificates {
                        w.text("certificate", certificate);
                    }
                    w.text_opt("database", database.as_ref());
                }
                SmartcardKind::Passthrough(source) => {
                    w.attr("mode", "passthrough");
                    w.attr("type", source.kind.type_name());
                    source.write(w, o);
                }
            }
            self.info.write(w, o);
        });
    }
}

impl MemoryDevice {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut device = MemoryDevice {
            model: node.require("model")?,
            access: node.attr_value("access")?,
            discard: node.attr_value("discard")?,
            uuid: node.child_string("uuid"),
            info: DeviceInfo::read(node)?,
            ..Default::default()
        };
        if let Some(source) = node.child("source") {
            device.source = MemoryDeviceSource {
                path: source.child_string("path"),
                pagesize: source.child("pagesize").map(read_kib).transpose()?,
                nodemask: source.child_string("nodemask"),
                alignsize: source.child("alignsize").map(read_kib).transpose()?,
                pmem: source.child("pmem").is_some(),
            };
        }
        let Some(target) = node.child("target") else {
            return Err(node.error(Code::XmlError, "missing <target> element for <memory> device"));
        };
        let Some(size) = target.child("size") else {
            return Err(target.error(Code::XmlError, "missing memory device size"));
        };
        device.target = MemoryTarget {
            size: read_kib(size)?,
            node: target.child_value("node")?,
            label_size: target.child("label").and_then(|label| label.child("size")).map(read_kib).transpose()?,
            readonly: target.child("readonly").is_some(),
            block: target.child("block").map(read_kib).transpose()?,
            requested: target.child("requested").map(read_kib).transpose()?,
            current: target.child("current").map(read_kib).transpose()?,
            dynamic_memslots: target.attr_value("dynamicMemslots")?,
            base: target.child("address").map_or(Ok(None), |address| address.attr_any_base("base"))?,
        };
        Ok(device)
    }

    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("memory", |w| {
            w.attr("model", self.model);
            w.attr_opt("access", self.access);
            w.attr_opt("discard", self.discard);
            w.text_opt("uuid", self.uuid.as_ref());
            let source = &self.source;
            w.element_unless_empty("source", |w| {
                w.text_opt("nodemask", source.nodemask.as_ref());
                write_kib(w, "pagesize", source.pagesize);
                w.text_opt("path", source.path.as_ref());
                write_kib(w, "alignsize", source.alignsize);
                w.empty_if("pmem", source.pmem);
            });
            let target = &self.target;
            w.element("target", |w| {
                w.attr_opt("dynamicMemslots", target.dynamic_memslots);
                write_kib(w, "size", Some(target.size));
                w.text_opt("node", target.node);
                w.element_unless_empty("label", |w| write_kib(w, "size", target.label_size));
                w.empty_if("readonly", target.readonly);
                write_kib(w, "block", target.block);
                write_kib(w, "requested", target.requested);
                write_kib(w, "current", target.current.filter(|_| !o.inactive));
                if let Some(base) = target.base {
                    w.element("address", |w| w.attr("base", format_args!("{base:#x}")));
                }
            });
            self.info.write(w, o);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;

    fn same<T>(xml: &str, read: fn(Node<'_>) -> Result<T>, write: fn(&T, &mut Writer, FormatOptions)) {
        assert_eq!(rewrite(xml, read, |value, w| write(value, w, FormatOptions::default())).expect("reads"), xml);
    }

    #[test]
    fn round_trips() {
        same("<panic model='isa'>\n  <address type='isa' iobase='0x505'/>\n</panic>\n", Panic::read, Panic::write);
        same("<hub type='usb'>\n  <address type='usb' bus='0' port='1'/>\n</hub>\n", Hub::read, Hub::write);
        same("<iommu model='intel'>\n  <driver intremap='on' aw_bits='48'/>\n</iommu>\n", Iommu::read, Iommu::write);
        same("<smartcard mode='host'/>\n", Smartcard::read, Smartcard::write);
        same("<smartcard mode='passthrough' type='spicevmc'/>\n", Smartcard::read, Smartcard::write);
        same(
            "<memory model='dimm' access='private'>\n  <source>\n    <pagesize unit='KiB'>2048</pagesize>\n  </source>\n  \
             <target>\n    <size unit='KiB'>524288</size>\n    <node>0</node>\n  </target>\n</memory>\n",
            MemoryDevice::read,
            MemoryDevice::write,
        );
        let lease =
            "<lease>\n  <lockspace>a</lockspace>\n  <key>k</key>\n  <target path='/p' offset='1024'/>\n</lease>\n";
        assert_eq!(rewrite(lease, Lease::read, Lease::write).expect("reads"), lease);
    }
}
