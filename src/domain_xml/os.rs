//! `<os>`, `<sysinfo>` and `<idmap>`: what is booted, and how the guest sees its firmware.

use super::FormatOptions;
use super::device::{Elsewhere, StorageKind, StorageSource};
use super::words::{YesNo, attrs, words};
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

/// `<os>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Os {
    /// `hvm`, `exe`, `linux`, `xen` ...
    pub os_type: OsType,
    pub arch: Option<String>,
    pub machine: Option<String>,
    /// `<os firmware>`.
    pub firmware: Option<Firmware>,
    /// `<firmware><feature>` elements.
    pub firmware_features: Vec<FirmwareFeature>,
    /// `<init>` of a container.
    pub init: Option<String>,
    pub initargs: Vec<String>,
    pub initenvs: Vec<(String, String)>,
    pub initdir: Option<String>,
    pub inituser: Option<String>,
    pub initgroup: Option<String>,
    pub loader: Option<Loader>,
    pub nvram: Option<Nvram>,
    pub bootloader: Option<String>,
    pub bootloader_args: Option<String>,
    pub kernel: Option<String>,
    pub initrd: Option<String>,
    pub cmdline: Option<String>,
    pub dtb: Option<String>,
    /// `<shim>`.
    pub shim: Option<String>,
    pub root: Option<String>,
    /// `<acpi><table>`: (type, path).
    pub acpi_tables: Vec<(String, String)>,
    pub boot: Vec<BootDev>,
    pub bootmenu: Option<BootMenu>,
    pub smbios: Option<SmbiosMode>,
    pub bios: Option<Bios>,
}

words! {
    /// `<type>`.
    pub enum OsType { Hvm = "hvm", Xen = "xen", Linux = "linux", Exe = "exe", Uml = "uml", XenPvh = "xenpvh" }

    /// `<os firmware>`.
    pub enum Firmware { Bios = "bios", Efi = "efi" }

    /// `<boot dev>`.
    pub enum BootDev { Fd = "fd", Cdrom = "cdrom", Hd = "hd", Network = "network" }

    /// `<smbios mode>`.
    pub enum SmbiosMode { Emulate = "emulate", Host = "host", Sysinfo = "sysinfo" }

    /// `<loader type>`.
    pub enum LoaderType { Rom = "rom", Pflash = "pflash" }

    /// Image format of firmware files.
    pub enum FirmwareFormat { Raw = "raw", Qcow2 = "qcow2" }

    /// `<sysinfo type>`.
    pub enum SysinfoType { Smbios = "smbios", Fwcfg = "fwcfg" }
}

attrs! {
    /// `<feature>` of `<firmware>`.
    pub struct FirmwareFeature {
        enabled: YesNo = "enabled",
        name: String = "name",
    }

    /// `<bootmenu>`.
    pub struct BootMenu {
        enable: YesNo = "enable",
        /// Milliseconds.
        timeout: u32 = "timeout",
    }

    /// `<bios>`.
    pub struct Bios {
        useserial: YesNo = "useserial",
        /// Milliseconds.
        reboot_timeout: i32 = "rebootTimeout",
    }
}

/// `<loader>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loader {
    pub path: Option<String>,
    pub readonly: Option<YesNo>,
    pub kind: Option<LoaderType>,
    pub secure: Option<YesNo>,
    pub stateless: Option<YesNo>,
    pub format: Option<FirmwareFormat>,
}

/// `<nvram>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nvram {
    pub template: Option<String>,
    pub template_format: Option<FirmwareFormat>,
    pub format: Option<FirmwareFormat>,
    /// It is written as `<nvram type=..><source/>`, not as a plain path.
    pub with_type: bool,
    /// A file; `None` = the driver chooses one.
    pub source: Option<super::device::StorageSource>,
}

/// `<sysinfo>`.
#[derive(Clone, Debug, PartialEq)]
pub enum Sysinfo {
    Smbios(Smbios),
    Fwcfg(Vec<FwcfgEntry>),
}

/// SMBIOS tables: (entry name, value) lists in libvirt's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Smbios {
    pub bios: Vec<(String, String)>,
    pub system: Vec<(String, String)>,
    pub base_boards: Vec<Vec<(String, String)>>,
    pub chassis: Vec<(String, String)>,
    pub processors: Vec<Vec<(String, String)>>,
    pub memory_devices: Vec<Vec<(String, String)>>,
    pub oem_strings: Vec<String>,
}

/// `<entry>` of `<sysinfo type='fwcfg'>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FwcfgEntry {
    pub name: String,
    pub value: Option<String>,
    pub file: Option<String>,
}

/// `<idmap>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IdMap {
    pub uids: Vec<IdRange>,
    pub gids: Vec<IdRange>,
}

/// One range of `<idmap>`: `count` ids from `start` in the container are those from `target` on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRange {
    pub start: u32,
    pub target: u32,
    pub count: u32,
}

impl Os {
    /// Reads `<os>` of a domain. Errors: codes 27 and 67.
    pub(crate) fn read(domain: Node<'_>) -> Result<Self> {
        let bootloader = domain.child("bootloader");
        let mut os = Os {
            bootloader: bootloader.map(|node| node.text().to_string()),
            bootloader_args: domain.child_string("bootloader_args"),
            ..Default::default()
        };
        let kind = domain.child("os").and_then(|node| node.child("type"));
        let Some(node) = domain.child("os").filter(|_| kind.is_some() || bootloader.is_some()) else {
            if bootloader.is_some() {
                os.os_type = OsType::Xen;
                return Ok(os);
            }
            return Err(domain.error(Code::XmlError, "an os <type> must be specified"));
        };
        match kind {
            Some(kind) => {
                os.os_type = match kind.text().trim() {
                    "" => return Err(kind.error(Code::XmlError, "an os <type> must be specified")),
                    word => word.parse().map_err(|_| {
                        let hint = crate::types::text::nearest(word, OsType::WORDS.iter().copied());
                        let hint = hint.map(|word| format!("; did you mean '{word}'?")).unwrap_or_default();
                        kind.error(Code::ConfigUnsupported, format!("unknown OS type '{word}'{hint}"))
                    })?,
                };
                os.arch = kind.attr("arch").map(str::to_string);
                os.machine = kind.attr("machine").map(str::to_string);
            }
            None => os.os_type = OsType::Xen,
        }
        os.read_boot(node)?;
        os.read_container(node)?;
        Ok(os)
    }

    fn read_boot(&mut self, node: Node<'_>) -> Result<()> {
        self.firmware = node.attr_value("firmware")?;
        if let Some(firmware) = node.child("firmware") {
            self.firmware_features = firmware.children("feature").map(FirmwareFeature::read).collect::<Result<_>>()?;
        }
        if let Some(loader) = node.child("loader") {
            self.loader = Some(Loader {
                path: Some(loader.text().trim()).filter(|path| !path.is_empty()).map(str::to_string),
                readonly: loader.attr_value("readonly")?,
                kind: loader.attr_value("type")?,
                secure: loader.attr_value("secure")?,
                stateless: loader.attr_value("stateless")?,
                format: loader.attr_value("format")?,
            });
        }
        if let Some(nvram) = node.child("nvram") {
            self.nvram = Some(Nvram::read(nvram)?);
        }
        self.kernel = node.child_string("kernel");
        self.initrd = node.child_string("initrd");
        self.cmdline = node.child_string("cmdline");
        self.dtb = node.child_string("dtb");
        self.shim = node.child_string("shim");
        self.root = node.child_string("root");
        if let Some(acpi) = node.child("acpi") {
            for table in acpi.children("table") {
                self.acpi_tables.push((table.require("type")?, table.text().to_string()));
            }
        }
        for boot in node.children("boot") {
            let dev = boot.attr("dev").ok_or_else(|| boot.missing_attr("dev"))?;
            self.boot
                .push(dev.parse().map_err(|_| {
                    boot.attr_error("dev", Code::InternalError, format!("unknown boot device '{dev}'"))
                })?);
        }
        if let Some(menu) = node.child("bootmenu") {
            let value = BootMenu::read(menu)?;
            if value.timeout.is_some_and(|timeout| timeout > 65535) {
                let what = "invalid value for boot menu timeout, must be in range [0,65535]";
                return Err(menu.attr_error("timeout", Code::ConfigUnsupported, what));
            }
            self.bootmenu = Some(value);
        }
        if let Some(smbios) = node.child("smbios") {
            self.smbios = Some(smbios.require("mode")?);
        }
        self.bios = node.child("bios").map(Bios::read).transpose()?;
        if let Some(bad) = self.bios.as_ref().and_then(|bios| bios.reboot_timeout).filter(|t| !(-1..=65535).contains(t))
        {
            let what = format!("invalid value for rebootTimeout, must be in range [-1,65535] ({bad} is given)");
            return Err(node.error(Code::ConfigUnsupported, what));
        }
        Ok(())
    }

    fn read_container(&mut self, node: Node<'_>) -> Result<()> {
        self.init = node.child_string("init");
        self.initargs = node.children("initarg").map(|arg| arg.text().to_string()).collect();
        for env in node.children("initenv") {
            let Some(name) = env.attr("name").filter(|name| !name.is_empty()) else {
                return Err(env.error(Code::XmlError, "No name supplied for <initenv> element"));
            };
            if env.text().is_empty() {
                let what = format!("No value supplied for <initenv name='{name}'> element");
                return Err(env.error(Code::XmlError, what));
            }
            self.initenvs.push((name.to_string(), env.text().to_string()));
        }
        self.initdir = node.child_string("initdir");
        self.inituser = node.child_string("inituser");
        self.initgroup = node.child_string("initgroup");
        Ok(())
    }

    /// Writes `<bootloader>` and `<os>`.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.text_opt("bootloader", self.bootloader.as_ref().filter(|path| !path.is_empty()));
        if self.bootloader.as_ref().is_some_and(String::is_empty) {
            w.empty("bootloader");
        }
        w.text_opt("bootloader_args", self.bootloader_args.as_ref());
        w.start("os");
        w.attr_opt("firmware", self.firmware);
        w.start("type");
        w.attr_opt("arch", self.arch.as_ref());
        w.attr_opt("machine", self.machine.as_ref());
        w.end_with_text(self.os_type);
        w.element_unless_empty("firmware", |w| {
            for feature in &self.firmware_features {
                feature.write("feature", w);
            }
        });
        w.text_opt("init", self.init.as_ref());
        for arg in &self.initargs {
            w.text("initarg", arg);
        }
        for (name, value) in &self.initenvs {
            w.start("initenv");
            w.attr("name", name);
            w.end_with_text(value);
        }
        w.text_opt("initdir", self.initdir.as_ref());
        w.text_opt("inituser", self.inituser.as_ref());
        w.text_opt("initgroup", self.initgroup.as_ref());
        if let Some(loader) = &self.loader {
            loader.write(w);
        }
        if let Some(nvram) = &self.nvram {
            nvram.write(w, o);
        }
        w.text_opt("kernel", self.kernel.as_ref());
        w.text_opt("initrd", self.initrd.as_ref());
        w.text_opt("cmdline", self.cmdline.as_ref());
        w.text_opt("dtb", self.dtb.as_ref());
        w.text_opt("shim", self.shim.as_ref());
        w.text_opt("root", self.root.as_ref());
        w.element_unless_empty("acpi", |w| {
            for (kind, path) in &self.acpi_tables {
                w.start("table");
                w.attr("type", kind);
                w.end_with_text(path);
            }
        });
        for dev in &self.boot {
            w.element("boot", |w| w.attr("dev", dev));
        }
        if let Some(menu) = &self.bootmenu {
            menu.write("bootmenu", w);
        }
        if let Some(mode) = self.smbios {
            w.element("smbios", |w| w.attr("mode", mode));
        }
        if let Some(bios) = &self.bios {
            bios.write("bios", w);
        }
        w.end();
    }
}

impl Loader {
    fn write(&self, w: &mut Writer) {
        if *self == Loader::default() {
            return;
        }
        w.start("loader");
        w.attr_opt("readonly", self.readonly);
        w.attr_opt("secure", self.secure);
        w.attr_opt("type", self.kind);
        w.attr_opt("stateless", self.stateless);
        w.attr_opt("format", self.format);
        match &self.path {
            Some(path) => w.end_with_text(path),
            None => w.end(),
        }
    }
}

impl Nvram {
    fn read(node: Node<'_>) -> Result<Self> {
        let mut nvram = Nvram {
            template: node.attr("template").map(str::to_string),
            template_format: node.attr_value("templateFormat")?,
            format: node.attr_value("format")?,
            with_type: false,
            source: None,
        };
        if let Some(kind) = node.attr_value::<StorageKind>("type")? {
            let Some(source) = node.child("source") else {
                return Err(node.error(Code::XmlError, "Missing source element with nvram type"));
            };
            let mut storage = StorageSource { kind, ..Default::default() };
            storage.read_source(source)?;
            nvram.source = Some(storage);
            nvram.with_type = true;
        } else if !node.text().trim().is_empty() {
            nvram.source = Some(StorageSource { path: Some(node.text().trim().to_string()), ..Default::default() });
        }
        Ok(nvram)
    }

    fn write(&self, w: &mut Writer, o: FormatOptions) {
        if *self == Nvram::default() {
            return;
        }
        w.start("nvram");
        w.attr_opt("template", self.template.as_ref());
        w.attr_opt("templateFormat", self.template_format);
        let format = self.format;
        match &self.source {
            None => {
                w.attr_opt("format", format);
                w.end();
            }
            Some(StorageSource { kind: StorageKind::File, path: Some(path), .. }) if !self.with_type => {
                w.attr_opt("format", format);
                w.end_with_text(path);
            }
            Some(source) => {
                w.attr("type", source.kind);
                w.attr_opt("format", format);
                source.write_source(w, o, false, Elsewhere::default());
                w.end();
            }
        }
    }
}

const BIOS_ENTRIES: &[&str] = &["vendor", "version", "date", "release"];
const SYSTEM_ENTRIES: &[&str] = &["manufacturer", "product", "version", "serial", "uuid", "sku", "family"];
const BASE_BOARD_ENTRIES: &[&str] = &["manufacturer", "product", "version", "serial", "asset", "location"];
const CHASSIS_ENTRIES: &[&str] = &["manufacturer", "version", "serial", "asset", "sku"];

type Entries = Vec<(String, String)>;

/// Reads `<entry name=..>` children; libvirt keeps the ones it knows, in its own order.
fn read_entries(node: Node<'_>, known: &[&str]) -> Result<Entries> {
    let mut found = Entries::new();
    for entry in node.children("entry") {
        let name: String = entry.require("name")?;
        if known.contains(&name.as_str()) && !entry.text().is_empty() {
            found.push((name, entry.text().to_string()));
        }
    }
    let position = |name: &str| known.iter().position(|word| *word == name);
    found.sort_by_key(|(name, _)| position(name));
    Ok(found)
}

fn write_entries(w: &mut Writer, name: &'static str, entries: &Entries) {
    w.element_unless_empty(name, |w| {
        for (name, value) in entries {
            w.start("entry");
            w.attr("name", name);
            w.end_with_text(value);
        }
    });
}

impl Sysinfo {
    /// Reads `<sysinfo>`. Errors: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let kind: SysinfoType = node.require("type")?;
        if kind == SysinfoType::Fwcfg {
            let entries = node.children("entry").map(|entry| {
                Ok(FwcfgEntry {
                    name: entry.require("name")?,
                    value: Some(entry.text()).filter(|text| !text.is_empty()).map(str::to_string),
                    file: entry.attr("file").map(str::to_string),
                })
            });
            return Ok(Sysinfo::Fwcfg(entries.collect::<Result<_>>()?));
        }
        let group = |name, known| node.child(name).map(|node| read_entries(node, known)).transpose();
        let groups = |name, known: &'static [&'static str]| -> Result<Vec<Entries>> {
            node.children(name).map(|node| read_entries(node, known)).collect()
        };
        let smbios = Smbios {
            bios: group("bios", BIOS_ENTRIES)?.unwrap_or_default(),
            system: group("system", SYSTEM_ENTRIES)?.unwrap_or_default(),
            base_boards: groups("baseBoard", BASE_BOARD_ENTRIES)?,
            chassis: group("chassis", CHASSIS_ENTRIES)?.unwrap_or_default(),
            oem_strings: match node.child("oemStrings") {
                Some(strings) => strings.children("entry").map(|entry| entry.text().to_string()).collect(),
                None => Vec::new(),
            },
            ..Default::default()
        };
        if let (Some((_, uuid)), Some(system)) =
            (smbios.system.iter().find(|(name, _)| name == "uuid"), node.child("system"))
            && crate::types::Uuid::parse_str(uuid).is_err()
        {
            return Err(system.error(Code::InternalError, "malformed <sysinfo> uuid element"));
        }
        Ok(Sysinfo::Smbios(smbios))
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.start("sysinfo");
        match self {
            Sysinfo::Fwcfg(entries) => {
                w.attr("type", SysinfoType::Fwcfg);
                for entry in entries {
                    w.start("entry");
                    w.attr("name", &entry.name);
                    w.attr_opt("file", entry.file.as_ref());
                    match &entry.value {
                        Some(value) => w.end_with_text(value),
                        None => w.end(),
                    }
                }
            }
            Sysinfo::Smbios(smbios) => {
                w.attr("type", SysinfoType::Smbios);
                write_entries(w, "bios", &smbios.bios);
                write_entries(w, "system", &smbios.system);
                for board in &smbios.base_boards {
                    write_entries(w, "baseBoard", board);
                }
                write_entries(w, "chassis", &smbios.chassis);
                w.element_unless_empty("oemStrings", |w| {
                    for entry in &smbios.oem_strings {
                        w.text("entry", entry);
                    }
                });
            }
        }
        w.end();
    }
}

impl IdMap {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let ranges = |name| -> Result<Vec<IdRange>> {
            let mut ranges: Vec<IdRange> = node
                .children(name)
                .map(|range| {
                    Ok(IdRange {
                        start: range.require("start")?,
                        target: range.require("target")?,
                        count: range.require("count")?,
                    })
                })
                .collect::<Result<_>>()?;
            ranges.sort_by_key(|range| range.start);
            if ranges.first().is_some_and(|first| first.start != 0) {
                let what = "You must map the root user of container";
                return Err(node.error(Code::ConfigUnsupported, what));
            }
            Ok(ranges)
        };
        let map = IdMap { uids: ranges("uid")?, gids: ranges("gid")? };
        if map.uids.is_empty() != map.gids.is_empty() {
            return Err(node.error(Code::ConfigUnsupported, "uid and gid should be mapped both"));
        }
        Ok(map)
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element_unless_empty("idmap", |w| {
            for (name, ranges) in [("uid", &self.uids), ("gid", &self.gids)] {
                for range in ranges {
                    w.element(name, |w| {
                        w.attr("start", range.start);
                        w.attr("target", range.target);
                        w.attr("count", range.count);
                    });
                }
            }
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
        "<os firmware='efi'>\n    <type arch='x86_64' machine='q35'>hvm</type>\n    <firmware>\n      \
            <feature enabled='yes' name='secure-boot'/>\n    </firmware>\n    \
            <loader readonly='yes' secure='yes' type='pflash'>/l</loader>\n    <nvram template='/t'>/n</nvram>\n    \
            <boot dev='network'/>\n    <boot dev='hd'/>\n    <bootmenu enable='yes' timeout='3000'/>\n    \
            <smbios mode='sysinfo'/>\n    <bios useserial='yes' rebootTimeout='-1'/>\n  </os>"
    )]
    #[case(
        "<os>\n    <type>exe</type>\n    <init>/sbin/init</init>\n    <initarg>a</initarg>\n    \
            <initenv name='E'>v</initenv>\n    <initdir>/d</initdir>\n    <inituser>u</inituser>\n    \
            <initgroup>g</initgroup>\n    <cmdline>c</cmdline>\n  </os>"
    )]
    #[case(
        "<os>\n    <type>hvm</type>\n    <nvram type='network'>\n      \
            <source protocol='iscsi' name='i/0'>\n        <host name='h' port='3260'/>\n      </source>\n    </nvram>\n  </os>"
    )]
    fn os_round_trips(#[case] os: &str) {
        let xml = format!("<domain>\n  {os}\n</domain>");
        let written = rewrite(&xml, Os::read, |value, w| {
            w.element("domain", |w| value.write(w, FormatOptions::default()));
        });
        assert_eq!(written.expect("reads").trim_end(), xml);
    }

    #[rstest]
    #[case("<domain/>", "an os <type> must be specified")]
    #[case("<domain><os><type>hvmm</type></os></domain>", "unknown OS type 'hvmm'; did you mean 'hvm'?")]
    #[case("<domain><os><type>hvm</type><boot dev='x'/></os></domain>", "unknown boot device 'x'")]
    #[case("<domain><os><type>exe</type><initenv>x</initenv></os></domain>", "No name supplied for <initenv> element")]
    #[case("<domain><os><type>hvm</type><bios rebootTimeout='99999'/></os></domain>", "must be in range [-1,65535]")]
    fn os_refused(#[case] xml: &str, #[case] expected: &str) {
        let error = rewrite(xml, Os::read, |_, _| {}).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
    }

    #[test]
    fn sysinfo_keeps_known_entries_in_libvirts_order() {
        let xml = "<sysinfo type='smbios'><system><entry name='serial'>s</entry><entry name='manufacturer'>m</entry>\
                   <entry name='moon'>x</entry></system></sysinfo>";
        let written = rewrite(xml, Sysinfo::read, Sysinfo::write).expect("reads");
        assert_eq!(
            written,
            "<sysinfo type='smbios'>\n  <system>\n    <entry name='manufacturer'>m</entry>\n    \
             <entry name='serial'>s</entry>\n  </system>\n</sysinfo>\n"
        );
        let xml =
            "<sysinfo type='fwcfg'>\n  <entry name='opt/a'>v</entry>\n  <entry name='opt/b' file='/f'/>\n</sysinfo>\n";
        assert_eq!(rewrite(xml, Sysinfo::read, Sysinfo::write).expect("reads"), xml);
    }

    #[test]
    fn idmap_must_map_root() {
        let xml = "<idmap>\n  <uid start='0' target='1000' count='10'/>\n  <gid start='0' target='1000' count='10'/>\n</idmap>\n";
        assert_eq!(rewrite(xml, IdMap::read, IdMap::write).expect("reads"), xml);
        let xml = "<idmap><uid start='5' target='1000' count='10'/></idmap>";
        let error = rewrite(xml, IdMap::read, |_, _| {}).expect_err("refused");
        assert!(error.detail.starts_with("You must map the root user of container"));
    }
}
