//! Firmware in flash: its image and the guest's variables as block nodes that `-machine` names. On paper only.

use super::{Builder, Pairs, Props, not_yet};
use crate::domain_xml::device::StorageKind;
use crate::domain_xml::os::{Firmware, FirmwareFormat, LoaderType};
use crate::error::Result;

/// Adds the nodes and names them in the machine's option.
pub(super) fn flash(b: &mut Builder<'_>, mut machine: Pairs) -> Result<Pairs> {
    let os = &b.def.os;
    if os.firmware == Some(Firmware::Efi) && os.loader.as_ref().is_none_or(|loader| loader.path.is_none()) {
        return Err(not_yet("<os firmware='efi'> for which no firmware is chosen"));
    }
    let Some(loader) = os.loader.as_ref().filter(|loader| loader.kind == Some(LoaderType::Pflash)) else {
        return Ok(machine);
    };
    let Some(path) = &loader.path else { return Ok(machine) };
    let read_only = loader.readonly.is_some_and(|state| state.is_yes());
    let storage = Props::new().set("driver", "file").set("filename", path.as_str());
    let storage =
        storage.set("node-name", "libvirt-pflash0-storage").set("auto-read-only", true).set("discard", "unmap");
    let format = Props::new().set("node-name", "libvirt-pflash0-format").set("read-only", read_only);
    let format = format.set("driver", word(loader.format)).set("file", "libvirt-pflash0-storage");
    b.arg("-blockdev", storage.json());
    b.arg("-blockdev", format.json());
    machine = machine.set("pflash0", "libvirt-pflash0-format");
    let Some(source) = os.nvram.as_ref().and_then(|nvram| nvram.source.as_ref()) else { return Ok(machine) };
    let driver = match source.kind {
        StorageKind::File => "file",
        StorageKind::Block => "host_device",
        _ => return Err(not_yet("<nvram> that is no file")),
    };
    let format = os.nvram.as_ref().and_then(|nvram| nvram.format);
    let storage = Props::new().set("driver", driver).set_opt("filename", source.path.as_deref());
    let storage = storage.set("node-name", "libvirt-pflash1-storage");
    if format == Some(FirmwareFormat::Qcow2) {
        b.arg("-blockdev", storage.set("auto-read-only", true).set("discard", "unmap").json());
        let node = Props::new().set("node-name", "libvirt-pflash1-format").set("read-only", false);
        b.arg("-blockdev", node.set("driver", "qcow2").set("file", "libvirt-pflash1-storage").json());
        return Ok(machine.set("pflash1", "libvirt-pflash1-format"));
    }
    b.arg("-blockdev", storage.set("read-only", false).json());
    Ok(machine.set("pflash1", "libvirt-pflash1-storage"))
}

fn word(format: Option<FirmwareFormat>) -> &'static str {
    format.map_or("raw", FirmwareFormat::as_str)
}

/// Only code in system management mode may write to the flash.
pub(super) fn secure(b: &mut Builder<'_>) {
    if b.def.os.loader.as_ref().and_then(|loader| loader.secure).is_some_and(|secure| secure.is_yes()) {
        b.arg("-global", "driver=cfi.pflash01,property=secure,value=on");
    }
}
