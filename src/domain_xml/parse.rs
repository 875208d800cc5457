//! `<domain>` -> [`DomainDef`]. What this file or a device's `read` asks for is known; everything else becomes a
//! [`Warning`] and is dropped, as libvirt drops it.

use super::check::{Finding, FindingKind};
use super::clock::Clock;
use super::cpu::{Cpu, NumaTune};
use super::device::*;
use super::features::Features;
use super::foreign::Foreign;
use super::memory::{MemTune, Memory, MemoryBacking};
use super::metadata::Metadata;
use super::model::{DomainDef, GenId, LxcNamespace, LxcShare, LxcShareKind, Pm, QemuCommandline, Resource, VirtType};
use super::os::{IdMap, Os, Sysinfo};
use super::post_parse::insert_disk;
use super::seclabel::Seclabel;
use super::tune::{BlkioTune, CpuTune, IoThread, Vcpu, read_vcpus};
use super::{Parsed, Warning};
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::Uuid;
use crate::types::text::nearest;
use crate::xml::{Document, Node, Place, Unknown, UnknownKind};

/// Namespace of `<qemu:commandline>`.
pub const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";
/// Namespace of `<lxc:namespace>`.
pub const LXC_NAMESPACE: &str = "http://libvirt.org/schemas/domain/lxc/1.0";

/// Children of `<domain>` that nothing acts on yet.
const LATER: &[&str] = &["perf", "keywrap", "launchSecurity", "defaultiothread", "throttlegroups"];

pub(super) fn parse(xml: &str) -> Result<Parsed> {
    parse_document(xml, super::validate::validate).map_err(|error| error.or_subsystem(Subsystem::Domain))
}

pub(super) fn parse_stored(xml: &str) -> Result<Parsed> {
    parse_document(xml, |_| Ok(())).map_err(|error| error.or_subsystem(Subsystem::Domain))
}

fn parse_document(xml: &str, validate: fn(&DomainDef) -> Result<()>) -> Result<Parsed> {
    let document = Document::parse(xml, "domain_definition")?;
    let root = document.root();
    if root.name() != "domain" {
        let what = format!("expecting root element of 'domain', not '{}'", root.name());
        return Err(root.error(Code::XmlError, what));
    }
    super::shape::check(root)?;
    let mut def = read_domain(root)?;
    let warnings = warnings(&document);
    let checked = super::post_parse::post_parse(&mut def).and_then(|()| validate(&def));
    checked.map_err(|error| super::place::place_in(error, root))?;
    Ok(Parsed { def, warnings })
}

/// Reads a well-formed document to its end, past every error that can be passed, and tells all.
pub(super) fn read_for_check(xml: &str, findings: &mut Vec<Finding>) -> Result<()> {
    let document = Document::parse(xml, "domain_definition")?;
    document.go_on();
    let root = document.root();
    if root.name() != "domain" {
        let what = format!("expecting root element of 'domain', not '{}'", root.name());
        return Err(root.error(Code::XmlError, what));
    }
    let read = read_domain(root);
    findings.extend(
        document
            .errors()
            .iter()
            .map(|(place, e)| Finding::from_error(e, (place.line, place.column, place.path.clone()))),
    );
    let unknown =
        document.unknown().into_iter().map(|unknown| Finding::from_warning(FindingKind::Unknown, warning(unknown)));
    findings.extend(unknown);
    findings.extend(document.remarks().into_iter().map(|(place, message)| {
        let Place { line, column, path } = place;
        Finding { kind: FindingKind::Remark, line, column, path, message }
    }));
    let mut def = read?;
    if findings.iter().any(|finding| finding.kind == FindingKind::Invalid) {
        return Ok(());
    }
    super::post_parse::post_parse(&mut def)?;
    super::validate::validate(&def)
}

/// What the readers of a document ask for in elements at `path`, element by element, and whether one of them takes an
/// element that none asked for by its name,
/// `probe`; whether the document could be used does not matter.
#[cfg(test)]
pub(super) fn account(xml: &str, path: &[&str], probe: &str) -> (Vec<Vec<crate::xml::Asked>>, bool) {
    fn taken(element: &crate::xml::Element<'_>, probe: &str) -> bool {
        let takes = |child: &crate::xml::Element<'_>| child.name == probe && (child.was_read() || element.is_opaque());
        element.children.iter().any(|child| takes(child) || taken(child, probe))
    }
    let Ok(document) = Document::parse(xml, "domain_definition") else { return Default::default() };
    document.go_on();
    let _ = read_domain(document.root());
    let asked = document.asked_by_element().into_iter().filter(|(at, _)| at == path);
    (asked.map(|(_, asked)| asked).collect(), taken(document.tree(), probe))
}

/// Everything the readers of a document ask for: each element's path and the questions about it.
#[cfg(test)]
pub(super) fn accounts(xml: &str) -> Vec<(Vec<String>, Vec<crate::xml::Asked>)> {
    let Ok(document) = Document::parse(xml, "domain_definition") else { return Vec::new() };
    document.go_on();
    let _ = read_domain(document.root());
    let asked = document.asked_by_element().into_iter();
    asked.map(|(path, asked)| (path.into_iter().map(str::to_string).collect(), asked)).collect()
}

/// Reads one device element (`<disk>`, `<interface>` ...) as `attach` gets it.
pub(super) fn parse_device(xml: &str) -> Result<(Device, Vec<Warning>)> {
    let read = || {
        let document = Document::parse(xml, "device_definition")?;
        let device = read_device(document.root())?;
        Ok((device, warnings(&document)))
    };
    read().map_err(|error: Error| error.or_subsystem(Subsystem::Domain))
}

pub(super) fn warnings(document: &Document<'_>) -> Vec<Warning> {
    let remark = |(place, message): (Place, String)| Warning {
        line: place.line,
        column: place.column,
        path: place.path,
        message,
    };
    let mut all: Vec<Warning> = document.unknown().into_iter().map(warning).collect();
    all.extend(document.remarks().into_iter().map(remark));
    all.sort_by_key(|warning| (warning.line, warning.column));
    all
}

fn warning(unknown: Unknown) -> Warning {
    let Unknown { kind, name, place, nearest } = unknown;
    let mut message = match kind {
        UnknownKind::Element => format!("element '{name}' is not known here and is ignored"),
        UnknownKind::Attribute => format!("attribute '{name}' is not known here and is ignored"),
        UnknownKind::Repeated => format!("element '{name}' is given more than once; only the first counts"),
    };
    if let Some(word) = nearest {
        message.push_str(&format!("; did you mean '{word}'?"));
    }
    Warning { line: place.line, column: place.column, path: place.path, message }
}

fn read_domain(root: Node<'_>) -> Result<DomainDef> {
    let mut def = DomainDef { virt_type: read_type(root)?, ..Default::default() };
    if let Some(id) = root.attr("id") {
        def.id = crate::xml::parse_signed(id).and_then(|id| i32::try_from(id).ok()).filter(|id| *id >= 0);
    }
    root.tolerate(read_general(root, &mut def))?;
    def.memory = root.tolerate(Memory::read(root))?.unwrap_or_default();
    def.memory_backing = group(root, "memoryBacking", MemoryBacking::read)?;
    def.memtune = group(root, "memtune", MemTune::read)?;
    def.blkiotune = group(root, "blkiotune", BlkioTune::read)?;
    def.vcpu = root.tolerate(Vcpu::read(root))?.unwrap_or_default();
    def.vcpus = root.tolerate(read_vcpus(root))?.unwrap_or_default();
    def.iothreads = match root.child("iothreads") {
        Some(node) => {
            let count = crate::xml::parse_unsigned(node.text().trim()).and_then(|count| u32::try_from(count).ok());
            let invalid = || node.error(Code::XmlError, format!("invalid iothreads count '{}'", node.text()));
            Some(count.ok_or_else(invalid)?)
        }
        None => None,
    };
    def.iothread_ids = root.tolerate(IoThread::read_all(root))?.unwrap_or_default();
    def.cputune = group(root, "cputune", CpuTune::read)?;
    def.numatune = optional(root, "numatune", NumaTune::read)?;
    if let Some(node) = root.child("resource") {
        def.resource = Resource {
            partition: node.child_string("partition"),
            fibrechannel_appid: node.child("fibrechannel").and_then(|node| node.attr("appid")).map(str::to_string),
        };
    }
    def.sysinfo = root.children("sysinfo").map(Sysinfo::read).collect::<Result<_>>()?;
    def.idmap = group(root, "idmap", IdMap::read)?;
    def.features = group(root, "features", Features::read)?;
    def.cpu = optional(root, "cpu", Cpu::read)?;
    def.clock = group(root, "clock", Clock::read)?;
    def.on_poweroff = action(root, "on_poweroff")?;
    def.on_reboot = action(root, "on_reboot")?;
    def.on_crash = action(root, "on_crash")?;
    def.on_lockfailure = action(root, "on_lockfailure")?;
    if let Some(node) = root.child("pm") {
        let enabled = |name| node.child(name).map_or(Ok(None), |child| child.attr_value("enabled"));
        def.pm = Pm { suspend_to_mem: enabled("suspend-to-mem")?, suspend_to_disk: enabled("suspend-to-disk")? };
    }
    if let Some(devices) = root.child("devices") {
        read_devices(devices, &mut def)?;
    }
    def.seclabels = root.children("seclabel").map(Seclabel::read).collect::<Result<_>>()?;
    read_extensions(root, &mut def)?;
    def.later = Foreign::read_all(root, LATER);
    Ok(def)
}

fn read_type(root: Node<'_>) -> Result<VirtType> {
    let word = root.attr("type").ok_or_else(|| root.error(Code::InternalError, "missing domain type attribute"))?;
    word.parse().map_err(|_| {
        let hint = nearest(word, VirtType::WORDS.iter().copied());
        let hint = hint.map(|word| format!("; did you mean '{word}'?")).unwrap_or_default();
        root.attr_error("type", Code::InternalError, format!("invalid domain type {word}{hint}"))
    })
}

fn read_general(root: Node<'_>, def: &mut DomainDef) -> Result<()> {
    let Some(name) = root.child_string("name") else {
        return Err(Error::new(Code::XmlError, format!("missing name information ({})", root.place())));
    };
    if let Some(node) = root.child("name") {
        if name.contains('/') && !crate::sys::weakened("any-name") {
            return Err(node.error(Code::XmlError, format!("name {name} cannot contain '/'")));
        }
        if name.contains('\n') {
            return Err(node.error(Code::XmlError, "name cannot contain '\\n'"));
        }
        if name.chars().all(char::is_whitespace) {
            return Err(node.error(Code::XmlError, "name must contain at least one non-whitespace character"));
        }
    }
    def.name = name;
    if let Some(node) = root.child("uuid") {
        let text = node.text().trim();
        def.uuid =
            Some(parse_uuid(text).ok_or_else(|| {
                node.error(Code::InternalError, format!("malformed uuid element: '{text}' is no UUID"))
            })?);
    }
    if let Some(node) = root.child("genid") {
        let text = node.text().trim();
        def.genid = Some(match text {
            "" => GenId::Generate,
            text => GenId::Value(
                parse_uuid(text).ok_or_else(|| node.error(Code::InternalError, "malformed genid element"))?,
            ),
        });
    }
    def.title = root.child_string("title");
    if let (Some(title), Some(node)) = (&def.title, root.child("title"))
        && title.contains('\n')
    {
        return Err(node.error(Code::XmlError, "Domain title can't contain newlines"));
    }
    def.description = root.child_string("description");
    def.metadata = root.child("metadata").map(Metadata::read).filter(|metadata| !metadata.elements.is_empty());
    def.os = root.tolerate(Os::read(root))?.unwrap_or_default();
    Ok(())
}

/// A UUID as libvirt reads it: 32 hexadecimal digits with hyphens anywhere.
pub(crate) fn parse_uuid(text: &str) -> Option<Uuid> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    Uuid::parse_str(&digits).ok()
}

/// One optional group; absent = its default.
fn group<T: Default>(root: Node<'_>, name: &'static str, read: fn(Node<'_>) -> Result<T>) -> Result<T> {
    let Some(node) = root.child(name) else { return Ok(T::default()) };
    Ok(node.tolerate(read(node))?.unwrap_or_default())
}

/// One optional group that is `None` when absent.
fn optional<T>(root: Node<'_>, name: &'static str, read: fn(Node<'_>) -> Result<T>) -> Result<Option<T>> {
    let Some(node) = root.child(name) else { return Ok(None) };
    node.tolerate(read(node))
}

fn action<T: crate::xml::Value>(root: Node<'_>, name: &'static str) -> Result<Option<T>> {
    let Some(node) = root.child(name) else { return Ok(None) };
    let word = node.text().trim();
    T::read(word).map(Some).ok_or_else(|| {
        let hint = nearest(word, T::known().iter().copied());
        let hint = hint.map(|word| format!("; did you mean '{word}'?")).unwrap_or_default();
        node.error(Code::ConfigUnsupported, format!("unknown {name} action: {word}{hint}"))
    })
}

/// One device, as it is attached, updated or detached.
#[derive(Clone, Debug, PartialEq)]
pub enum Device {
    Disk(Box<Disk>),
    Controller(Box<Controller>),
    Lease(Lease),
    Filesystem(Box<Filesystem>),
    Interface(Box<Interface>),
    Smartcard(Box<Smartcard>),
    Serial(Box<Serial>),
    Parallel(Box<Parallel>),
    Console(Box<Console>),
    Channel(Box<Channel>),
    Input(Box<Input>),
    Tpm(Box<Tpm>),
    Graphics(Box<Graphics>),
    Sound(Box<Sound>),
    Audio(Box<Audio>),
    Video(Box<Video>),
    Hostdev(Box<Hostdev>),
    Redirdev(Box<Redirdev>),
    Hub(Box<Hub>),
    Watchdog(Box<Watchdog>),
    Memballoon(Box<Memballoon>),
    Rng(Box<Rng>),
    Nvram(Box<NvramDevice>),
    Panic(Box<Panic>),
    Shmem(Box<Shmem>),
    Memory(Box<MemoryDevice>),
    Iommu(Box<Iommu>),
    Vsock(Box<Vsock>),
}

/// Element names of all devices.
const DEVICE_NAMES: &[&str] = &[
    "disk",
    "controller",
    "lease",
    "filesystem",
    "interface",
    "smartcard",
    "serial",
    "parallel",
    "console",
    "channel",
    "input",
    "tpm",
    "graphics",
    "sound",
    "audio",
    "video",
    "hostdev",
    "redirdev",
    "hub",
    "watchdog",
    "memballoon",
    "rng",
    "nvram",
    "panic",
    "shmem",
    "memory",
    "iommu",
    "vsock",
];

/// Reads any device by its element name. Error: code 27 for an unknown one.
pub(super) fn read_device(node: Node<'_>) -> Result<Device> {
    node.mark_used();
    Ok(match node.name() {
        "disk" => Device::Disk(Box::new(Disk::read(node)?)),
        "controller" => Device::Controller(Box::new(Controller::read(node)?)),
        "lease" => Device::Lease(Lease::read(node)?),
        "filesystem" => Device::Filesystem(Box::new(Filesystem::read(node)?)),
        "interface" => Device::Interface(Box::new(Interface::read(node)?)),
        "smartcard" => Device::Smartcard(Box::new(Smartcard::read(node)?)),
        "serial" => Device::Serial(Box::new(Serial::read(node)?)),
        "parallel" => Device::Parallel(Box::new(Parallel::read(node)?)),
        "console" => Device::Console(Box::new(Console::read(node)?)),
        "channel" => Device::Channel(Box::new(Channel::read(node)?)),
        "input" => Device::Input(Box::new(Input::read(node)?)),
        "tpm" => Device::Tpm(Box::new(Tpm::read(node)?)),
        "graphics" => Device::Graphics(Box::new(Graphics::read(node)?)),
        "sound" => Device::Sound(Box::new(Sound::read(node)?)),
        "audio" => Device::Audio(Box::new(Audio::read(node)?)),
        "video" => Device::Video(Box::new(Video::read(node)?)),
        "hostdev" => Device::Hostdev(Box::new(Hostdev::read(node)?)),
        "redirdev" => Device::Redirdev(Box::new(Redirdev::read(node)?)),
        "hub" => Device::Hub(Box::new(Hub::read(node)?)),
        "watchdog" => Device::Watchdog(Box::new(Watchdog::read(node)?)),
        "memballoon" => Device::Memballoon(Box::new(Memballoon::read(node)?)),
        "rng" => Device::Rng(Box::new(Rng::read(node)?)),
        "nvram" => Device::Nvram(Box::new(NvramDevice::read(node)?)),
        "panic" => Device::Panic(Box::new(Panic::read(node)?)),
        "shmem" => Device::Shmem(Box::new(Shmem::read(node)?)),
        "memory" => Device::Memory(Box::new(MemoryDevice::read(node)?)),
        "iommu" => Device::Iommu(Box::new(Iommu::read(node)?)),
        "vsock" => Device::Vsock(Box::new(Vsock::read(node)?)),
        name => {
            let hint = nearest(name, DEVICE_NAMES.iter().copied());
            let hint = hint.map(|word| format!("; did you mean '{word}'?")).unwrap_or_default();
            return Err(node.error(Code::XmlError, format!("unknown device type '{name}'{hint}")));
        }
    })
}

fn read_devices(devices: Node<'_>, def: &mut DomainDef) -> Result<()> {
    def.emulator = devices.child_string("emulator");
    for name in DEVICE_NAMES {
        devices.note(false, name);
    }
    def.cryptos = devices.children("crypto").map(Crypto::read).collect::<Result<_>>()?;
    def.pstore = devices.child("pstore").map(Pstore::read).transpose()?;
    if let Some(filter) = devices.child("redirfilter") {
        def.redir_filter = filter.children("usbdev").map(RedirFilterRule::read_rule).collect::<Result<_>>()?;
    }
    for node in devices.all_children().filter(|node| DEVICE_NAMES.contains(&node.name())) {
        let Some(device) = node.tolerate(read_device(node))? else { continue };
        match device {
            Device::Disk(disk) => insert_disk(&mut def.disks, *disk),
            Device::Controller(controller) => def.controllers.push(*controller),
            Device::Lease(lease) => def.leases.push(lease),
            Device::Filesystem(filesystem) => def.filesystems.push(*filesystem),
            Device::Interface(interface) => def.interfaces.push(*interface),
            Device::Smartcard(smartcard) => def.smartcards.push(*smartcard),
            Device::Serial(serial) => def.serials.push(*serial),
            Device::Parallel(parallel) => def.parallels.push(*parallel),
            Device::Console(console) => def.consoles.push(*console),
            Device::Channel(channel) => def.channels.push(*channel),
            Device::Input(input) => def.inputs.push(*input),
            Device::Tpm(tpm) => def.tpms.push(*tpm),
            Device::Graphics(graphics) => def.graphics.push(*graphics),
            Device::Sound(sound) => def.sounds.push(*sound),
            Device::Audio(audio) => def.audios.push(*audio),
            Device::Video(video) => def.videos.push(*video),
            Device::Hostdev(hostdev) => def.hostdevs.push(*hostdev),
            Device::Redirdev(redirdev) => def.redirdevs.push(*redirdev),
            Device::Hub(hub) => def.hubs.push(*hub),
            Device::Watchdog(watchdog) => def.watchdogs.push(*watchdog),
            Device::Memballoon(memballoon) => {
                def.memballoon = Some(*memballoon);
            }
            Device::Rng(rng) => def.rngs.push(*rng),
            Device::Nvram(nvram) => def.nvram_device = Some(*nvram),
            Device::Panic(panic) => def.panics.push(*panic),
            Device::Shmem(shmem) => def.shmems.push(*shmem),
            Device::Memory(memory) => def.memory_devices.push(*memory),
            Device::Iommu(iommu) => def.iommu = Some(*iommu),
            Device::Vsock(vsock) => def.vsock = Some(*vsock),
        }
    }
    Ok(())
}

/// Elements of the drivers' own namespaces.
fn read_extensions(root: Node<'_>, def: &mut DomainDef) -> Result<()> {
    for node in
        root.all_children().filter(|node| node.name().contains(':') || node.declared_prefixes().any(str::is_empty))
    {
        match (node.namespace(), node.local_name()) {
            (Some(QEMU_NAMESPACE), "commandline") => {
                node.mark_used();
                let mut commandline = QemuCommandline::default();
                for child in node.all_children() {
                    child.mark_used();
                    match child.local_name() {
                        "arg" => commandline.args.push(child.require("value")?),
                        "env" => {
                            let value = child.attr("value").map(str::to_string);
                            commandline.envs.push((child.require("name")?, value));
                        }
                        _ => {}
                    }
                }
                if !commandline.args.is_empty() || !commandline.envs.is_empty() {
                    def.qemu_commandline = Some(commandline);
                }
            }
            (Some(QEMU_NAMESPACE), _) => def.qemu_extensions.push(qemu_prefixed(Foreign::read(node))),
            (Some(LXC_NAMESPACE), "namespace") => {
                node.mark_used();
                let mut namespace = LxcNamespace::default();
                for child in node.all_children() {
                    child.mark_used();
                    let place = match child.local_name() {
                        "sharenet" => &mut namespace.sharenet,
                        "shareipc" => &mut namespace.shareipc,
                        "shareuts" => &mut namespace.shareuts,
                        other => {
                            let what = format!("unknown element '{other}' of <lxc:namespace>");
                            return Err(child.error(Code::ConfigUnsupported, what));
                        }
                    };
                    let share = LxcShare::read(child)?;
                    if share.kind.unwrap_or_default() == LxcShareKind::None || share.value.is_none() {
                        return Err(child.error(Code::ConfigUnsupported, "a shared namespace needs a type and a value"));
                    }
                    *place = Some(share);
                }
                def.lxc_namespace = Some(namespace);
            }
            _ => {}
        }
    }
    Ok(())
}

/// The element with the prefix that the writer declares.
fn qemu_prefixed(mut element: Foreign) -> Foreign {
    let local = element.name.rsplit(':').next().unwrap_or_default();
    element.name = format!("qemu:{local}");
    element.children = element.children.into_iter().map(qemu_prefixed).collect();
    element
}
