//! Small devices: inputs, balloon, random numbers, watchdogs, panic notifiers, vmcoreinfo.

use super::{Builder, Props, alias, chardev, not_yet, pci_address, usb_address, virtio_options};
use crate::domain_xml::device::*;
use crate::error::Result;

pub(super) fn inputs(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    for input in &def.inputs {
        let id = alias(&input.info)?;
        match input.bus {
            // Mouse and keyboard on PS/2 are part of the machine.
            Some(InputBus::Ps2) | None => {}
            Some(InputBus::Usb) => {
                let driver = match input.kind {
                    InputType::Mouse => "usb-mouse",
                    InputType::Tablet => "usb-tablet",
                    InputType::Keyboard => "usb-kbd",
                    other => return Err(not_yet(format!("<input type='{other}' bus='usb'>"))),
                };
                b.device(&Props::device(driver, id).join(usb_address(def, &input.info)?));
            }
            Some(InputBus::Virtio) => {
                if input.kind == InputType::Passthrough {
                    if !b.ctx.paper {
                        return Err(not_yet("<input type='passthrough'>"));
                    }
                    let evdev = input.source.as_ref().and_then(|source| source.evdev.clone());
                    let p = Props::device("virtio-input-host-pci", id).set_opt("evdev", evdev);
                    b.device(&p.join(pci_address(def, &input.info)?));
                    continue;
                }
                let base = match input.kind {
                    InputType::Mouse => "virtio-mouse-pci",
                    InputType::Tablet => "virtio-tablet-pci",
                    InputType::Keyboard => "virtio-keyboard-pci",
                    other => return Err(not_yet(format!("<input type='{other}' bus='virtio'>"))),
                };
                let p = Props::new().set("driver", base).join(virtio_options(&input.driver)).set("id", id);
                b.device(&p.join(pci_address(def, &input.info)?));
            }
            Some(other) => return Err(not_yet(format!("<input type='{}' bus='{other}'>", input.kind))),
        }
    }
    Ok(())
}

pub(super) fn balloon(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    let Some(balloon) = &def.memballoon else { return Ok(()) };
    let model = match balloon.model {
        BalloonModel::None => return Ok(()),
        BalloonModel::Xen => return Err(not_yet("<memballoon model='xen'>")),
        other => other.as_str(),
    };
    let p = Props::new().set("driver", super::virtio_driver("virtio-balloon", model));
    let p = p.join(virtio_options(&balloon.driver)).set("id", alias(&balloon.info)?);
    let p = p.set_opt("deflate-on-oom", balloon.autodeflate.map(|state| state.is_on()));
    let p = p.set_opt("free-page-reporting", balloon.free_page_reporting.map(|state| state.is_on()));
    let p = p.join(pci_address(def, &balloon.info)?);
    b.device(&p);
    Ok(())
}

pub(super) fn rngs(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    for rng in &def.rngs {
        let id = alias(&rng.info)?;
        let object_id = format!("obj{id}");
        let object = match &rng.backend {
            RngBackend::Random(path) => {
                Props::object("rng-random", &object_id).set("filename", path.as_deref().unwrap_or("/dev/urandom"))
            }
            RngBackend::Builtin => Props::object("rng-builtin", &object_id),
            RngBackend::Egd(source) => {
                let chardev = chardev::backend(b, source, id)?;
                Props::object("rng-egd", &object_id).set("chardev", chardev)
            }
        };
        b.object(&object);
        let mut p = Props::new().set("driver", super::virtio_driver("virtio-rng", rng.model.as_str()));
        p = p.join(virtio_options(&rng.driver)).set("rng", object_id).set("id", id);
        if let Some(rate) = &rng.rate {
            p = p.set_opt("max-bytes", rate.bytes).set("period", rate.period.unwrap_or(1000));
        }
        b.device(&p.join(pci_address(def, &rng.info)?));
    }
    Ok(())
}

pub(super) fn watchdogs(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    for watchdog in &def.watchdogs {
        match watchdog.model {
            WatchdogModel::Itco => b.arg("-global", "ICH9-LPC.noreboot=off"),
            WatchdogModel::I6300esb => {
                let p = Props::device("i6300esb", alias(&watchdog.info)?).join(pci_address(def, &watchdog.info)?);
                b.device(&p);
            }
            WatchdogModel::Ib700 => b.device(&Props::device("ib700", alias(&watchdog.info)?)),
            other => return Err(not_yet(format!("<watchdog model='{other}'>"))),
        }
    }
    if let Some(action) = def.watchdogs.first().and_then(|watchdog| watchdog.action) {
        let action = match action {
            // QEMU has no such action: libvirt pauses the guest and dumps it itself.
            WatchdogAction::Dump => return Err(not_yet("<watchdog action='dump'>")),
            other => other.as_str(),
        };
        b.arg("-watchdog-action", action);
    }
    Ok(())
}

pub(super) fn panics(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    for panic in &def.panics {
        match panic.model {
            Some(PanicModel::Isa) | None => {
                let port = match panic.info.address {
                    Some(DeviceAddress::Isa { iobase, .. }) => iobase,
                    _ => None,
                };
                b.device(&Props::new().set("driver", "pvpanic").set_opt("ioport", port));
            }
            Some(PanicModel::Pvpanic) => {
                let p = Props::device("pvpanic-pci", alias(&panic.info)?).join(pci_address(def, &panic.info)?);
                b.device(&p);
            }
            // Part of the CPU's Hyper-V interfaces.
            Some(PanicModel::Hyperv) => {}
            Some(other) => return Err(not_yet(format!("<panic model='{other}'>"))),
        }
    }
    Ok(())
}

/// QEMU's memory is given back beside its end, not within it.
pub(super) fn async_teardown(b: &mut Builder<'_>) {
    let others = b.def.features.others.iter().filter(|other| other.name == "async-teardown");
    for enabled in others.flat_map(|other| &other.attributes).filter(|(name, _)| name == "enabled") {
        b.arg("-run-with", format!("async-teardown={}", if enabled.1 == "yes" { "on" } else { "off" }));
    }
}

pub(super) fn vmcoreinfo(b: &mut Builder<'_>) {
    if b.def.features.vmcoreinfo.is_some_and(|state| state.is_on()) {
        b.device(&Props::new().set("driver", "vmcoreinfo"));
    }
}
