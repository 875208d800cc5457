//! `<filesystem>`.

use super::info::{DeviceInfo, VirtioOptions};
use crate::domain_xml::FormatOptions;
use crate::domain_xml::memory::read_bytes;
use crate::domain_xml::os::IdMap;
use crate::domain_xml::words::{Switch, attrs, words};
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

/// `<filesystem>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filesystem {
    pub kind: FilesystemType,
    pub accessmode: Option<FsAccessMode>,
    pub multidevs: Option<FsMultidevs>,
    pub model: Option<FsModel>,
    pub fmode: Option<u32>,
    pub dmode: Option<u32>,
    pub driver: FsDriver,
    pub binary: Option<FsBinary>,
    pub idmap: IdMap,
    pub source: FsSource,
    /// `<target dir>`: mount point of a container, tag of a VM.
    pub target: String,
    pub readonly: bool,
    /// Bytes.
    pub space_hard_limit: Option<u64>,
    /// Bytes.
    pub space_soft_limit: Option<u64>,
    pub info: DeviceInfo,
}

words! {
    /// `type`.
    pub enum FilesystemType {
        Mount = "mount", Block = "block", File = "file", Template = "template", Ram = "ram", Bind = "bind", Volume = "volume",
    }

    /// `accessmode`.
    pub enum FsAccessMode { Passthrough = "passthrough", Mapped = "mapped", Squash = "squash" }

    /// `multidevs`.
    pub enum FsMultidevs { Default = "default", Remap = "remap", Forbid = "forbid", Warn = "warn" }

    /// `model`.
    pub enum FsModel { Virtio = "virtio", VirtioTransitional = "virtio-transitional", VirtioNonTransitional = "virtio-non-transitional" }

    /// `<driver type>`.
    pub enum FsDriverType { Path = "path", Handle = "handle", Loop = "loop", Nbd = "nbd", Ploop = "ploop", Virtiofs = "virtiofs", Mtp = "mtp" }

    /// `wrpolicy`.
    pub enum FsWritePolicy { Immediate = "immediate" }

    /// `<cache mode>` of virtiofsd.
    pub enum FsCacheMode { None = "none", Always = "always" }

    /// `<sandbox mode>`.
    pub enum FsSandbox { Namespace = "namespace", Chroot = "chroot" }
}

/// `<driver>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FsDriver {
    pub kind: Option<FsDriverType>,
    pub format: Option<super::storage::StorageFormat>,
    pub wrpolicy: Option<FsWritePolicy>,
    pub queue: Option<u32>,
    pub virtio: VirtioOptions,
}

/// `<binary>`: the file system daemon.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FsBinary {
    pub path: Option<String>,
    pub xattr: Option<Switch>,
    pub cache: Option<FsCacheMode>,
    pub sandbox: Option<FsSandbox>,
    pub lock_posix: Option<Switch>,
    pub lock_flock: Option<Switch>,
    pub thread_pool_size: Option<u32>,
    pub openfiles_max: Option<u64>,
}

/// `<source>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FsSource {
    /// `dir`, `file`, `dev`, `name` of the source, by type.
    pub path: Option<String>,
    /// `<source usage>` of a ram disk, KiB.
    pub usage: Option<u64>,
    /// With `volume`, a volume of a pool. At a start `kind` and `path` become those of the volume, and the XML shows
    /// these all the same.
    pub pool: Option<String>,
    pub volume: Option<String>,
    /// `<source socket>`: a running virtiofsd.
    pub socket: Option<String>,
}

attrs! {
    /// `<lock>` of a virtiofsd.
    pub struct FsLock { posix: Switch = "posix", flock: Switch = "flock" }
}

impl Filesystem {
    /// Reads `<filesystem>`. Errors: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut fs = Filesystem {
            kind: node.attr_value("type")?.unwrap_or_default(),
            accessmode: node.attr_value("accessmode")?,
            multidevs: node.attr_value("multidevs")?,
            model: node.attr_value("model")?,
            fmode: read_octal(node, "fmode")?,
            dmode: read_octal(node, "dmode")?,
            ..Default::default()
        };
        if let Some(driver) = node.child("driver") {
            fs.driver = FsDriver {
                kind: driver.attr_value("type")?,
                format: driver.attr_value("format")?,
                wrpolicy: driver.attr_value("wrpolicy")?,
                queue: driver.attr_value("queue")?,
                virtio: VirtioOptions::read(driver)?,
            };
        }
        let virtiofs = fs.driver.kind == Some(FsDriverType::Virtiofs);
        if let Some(binary) = node.child("binary") {
            fs.binary = Some(FsBinary::read(binary)?).filter(|_| virtiofs);
        }
        if let Some(idmap) = node.child("idmap") {
            let idmap = IdMap::read(idmap)?;
            fs.idmap = if virtiofs { idmap } else { IdMap::default() };
        }
        if let Some(source) = node.child("source") {
            let name = match fs.kind {
                FilesystemType::Mount | FilesystemType::Bind => "dir",
                FilesystemType::File => "file",
                FilesystemType::Block => "dev",
                FilesystemType::Template => "name",
                FilesystemType::Ram => "usage",
                FilesystemType::Volume => "volume",
            };
            match fs.kind {
                FilesystemType::Ram => fs.source.usage = Some(read_usage(source)?),
                FilesystemType::Volume => {
                    fs.source.pool = Some(source.require("pool")?);
                    fs.source.volume = Some(source.require("volume")?);
                }
                _ => fs.source.path = source.attr(name).map(str::to_string),
            }
            fs.source.socket = source.attr("socket").map(str::to_string);
        }
        fs.target = match node.child("target").and_then(|target| target.attr("dir")) {
            Some(dir) => dir.to_string(),
            None if fs.source.socket.is_some() => String::new(),
            None => return Err(node.error(Code::XmlError, "missing target information for filesystem")),
        };
        if fs.source == FsSource::default() && fs.kind != FilesystemType::Ram {
            return Err(node.error(Code::NoSource, &fs.target));
        }
        fs.readonly = node.child("readonly").is_some();
        fs.space_hard_limit = node.child("space_hard_limit").map(read_bytes).transpose()?;
        fs.space_soft_limit = node.child("space_soft_limit").map(read_bytes).transpose()?;
        fs.info = DeviceInfo::read_bootable(node)?;
        Ok(fs)
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        let kind = if self.source.volume.is_some() { FilesystemType::Volume } else { self.kind };
        w.element("filesystem", |w| {
            w.attr("type", kind);
            w.attr_opt("accessmode", self.accessmode);
            w.attr_opt("model", self.model);
            w.attr_opt("multidevs", self.multidevs);
            w.attr_opt("fmode", self.fmode.map(|mode| format!("{mode:04o}")));
            w.attr_opt("dmode", self.dmode.map(|mode| format!("{mode:04o}")));
            w.element_unless_empty("driver", |w| {
                w.attr_opt("type", self.driver.kind);
                w.attr_opt("format", self.driver.format);
                w.attr_opt("wrpolicy", self.driver.wrpolicy);
                w.attr_opt("queue", self.driver.queue);
                self.driver.virtio.write_attrs(w);
            });
            if let Some(binary) = &self.binary {
                binary.write(w);
            }
            self.idmap.write(w);
            w.element_unless_empty("source", |w| {
                let path = self.source.path.as_ref();
                match kind {
                    FilesystemType::Mount | FilesystemType::Bind => w.attr_opt("dir", path),
                    FilesystemType::File => w.attr_opt("file", path),
                    FilesystemType::Block => w.attr_opt("dev", path),
                    FilesystemType::Template => w.attr_opt("name", path),
                    FilesystemType::Ram => {
                        w.attr_opt("usage", self.source.usage);
                        w.attr("units", "KiB");
                    }
                    FilesystemType::Volume => {
                        w.attr_opt("pool", self.source.pool.as_ref());
                        w.attr_opt("volume", self.source.volume.as_ref());
                    }
                }
                w.attr_opt("socket", self.source.socket.as_ref());
            });
            if !self.target.is_empty() {
                w.element("target", |w| w.attr("dir", &self.target));
            }
            w.empty_if("readonly", self.readonly);
            for (name, limit) in
                [("space_hard_limit", self.space_hard_limit), ("space_soft_limit", self.space_soft_limit)]
            {
                if let Some(bytes) = limit {
                    w.start(name);
                    w.attr("unit", "bytes");
                    w.end_with_text(bytes);
                }
            }
            self.info.write(w, o);
        });
    }
}

fn read_octal(node: Node<'_>, name: &'static str) -> Result<Option<u32>> {
    let Some(text) = node.attr(name) else { return Ok(None) };
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(Some(mode)),
        _ => Err(node.attr_error(name, Code::XmlError, format!("invalid {name}: '{text}'"))),
    }
}

fn read_usage(source: Node<'_>) -> Result<u64> {
    let value: u64 = source.require("usage")?;
    let unit = source.attr("units").or_else(|| source.attr("unit")).unwrap_or("KiB");
    crate::types::size::to_kib(value, unit)
        .ok_or_else(|| source.error(Code::InvalidArg, format!("unknown suffix '{unit}'")))
}

impl FsBinary {
    fn read(node: Node<'_>) -> Result<Self> {
        let mut binary = FsBinary {
            path: node.attr("path").map(str::to_string),
            xattr: node.attr_value("xattr")?,
            ..Default::default()
        };
        if let Some(cache) = node.child("cache") {
            binary.cache = cache.attr_value("mode")?;
        }
        if let Some(sandbox) = node.child("sandbox") {
            binary.sandbox = sandbox.attr_value("mode")?;
        }
        if let Some(lock) = node.child("lock") {
            let lock = FsLock::read(lock)?;
            (binary.lock_posix, binary.lock_flock) = (lock.posix, lock.flock);
        }
        if let Some(pool) = node.child("thread_pool") {
            binary.thread_pool_size = pool.attr_value("size")?;
        }
        if let Some(files) = node.child("openfiles") {
            binary.openfiles_max = files.attr_value("max")?;
        }
        Ok(binary)
    }

    fn write(&self, w: &mut Writer) {
        w.element_unless_empty("binary", |w| {
            w.attr_opt("path", self.path.as_ref());
            w.attr_opt("xattr", self.xattr);
            w.element_unless_empty("cache", |w| w.attr_opt("mode", self.cache));
            w.element_unless_empty("sandbox", |w| w.attr_opt("mode", self.sandbox));
            FsLock { posix: self.lock_posix, flock: self.lock_flock }.write("lock", w);
            w.element_unless_empty("thread_pool", |w| w.attr_opt("size", self.thread_pool_size));
            w.element_unless_empty("openfiles", |w| w.attr_opt("max", self.openfiles_max));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<filesystem type='mount' accessmode='passthrough'>\n  <source dir='/r'/>\n  <target dir='/'/>\n</filesystem>\n"
    )]
    #[case("<filesystem type='ram'>\n  <source usage='1024' units='KiB'/>\n  <target dir='/t'/>\n</filesystem>\n")]
    #[case(
        "<filesystem type='file' accessmode='passthrough'>\n  <driver type='nbd' format='qcow2'/>\n  \
            <source file='/i'/>\n  <target dir='/t'/>\n  <readonly/>\n  \
            <space_hard_limit unit='bytes'>1024</space_hard_limit>\n</filesystem>\n"
    )]
    #[case(
        "<filesystem type='mount'>\n  <driver type='virtiofs' queue='1024'/>\n  \
            <binary path='/v' xattr='on'>\n    <cache mode='always'/>\n    <lock posix='off' flock='off'/>\n  </binary>\n  \
            <source dir='/r'/>\n  <target dir='t'/>\n</filesystem>\n"
    )]
    fn round_trips(#[case] xml: &str) {
        let written = rewrite(xml, Filesystem::read, |f, w| f.write(w, FormatOptions::default())).expect("reads");
        assert_eq!(written, xml);
    }

    #[rstest]
    #[case("<filesystem><source dir='/x'/></filesystem>", "missing target information for filesystem")]
    #[case("<filesystem><target dir='/x'/></filesystem>", "/x")]
    #[case(
        "<filesystem type='ram'><source usage='1' units='furlong'/><target dir='/'/></filesystem>",
        "unknown suffix"
    )]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let error = rewrite(xml, Filesystem::read, |_, _| {}).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
    }
}
