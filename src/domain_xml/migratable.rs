//! The form of a definition that a receiver of any age takes: without what every receiver makes by itself.

use super::device::{ControllerType, InputBus, InputType};
use super::model::{DomainDef, VirtType};

/// See [`super::to_migratable`].
pub(super) fn to_migratable(def: &mut DomainDef) {
    // Chosen firmware is in <loader> and <nvram>; the wish for one would be looked at once more.
    def.os.firmware = None;
    def.os.firmware_features.clear();
    def.inputs.retain(|input| !(input.kind == InputType::Keyboard && input.bus == Some(InputBus::Ps2)));
    if matches!(def.virt_type, VirtType::Qemu | VirtType::Kvm) {
        drop_only(def, ControllerType::Usb, &["piix3-uhci"]);
        drop_only(def, ControllerType::Pci, &["pci-root"]);
    }
}

/// Drops the controller of a type when it is the only one, the first, and of the model every machine of old had.
fn drop_only(def: &mut DomainDef, kind: ControllerType, models: &[&str]) {
    let mut all = def.controllers.iter().filter(|controller| controller.kind == kind);
    let (Some(first), None) = (all.next(), all.next()) else { return };
    let implied = first.model.as_deref().is_none_or(|model| models.contains(&model));
    if first.index.unwrap_or(0) == 0 && implied && first.pci.hole64.is_none() {
        def.controllers.retain(|controller| controller.kind != kind);
    }
}

#[cfg(test)]
mod tests {
    use crate::domain_xml::{FormatOptions, format, parse, to_migratable};

    fn migratable(devices: &str) -> String {
        let xml = format!(
            "<domain type='qemu'><name>a</name><memory>1024</memory><os firmware='efi'><type>hvm</type></os>\
             <devices>{devices}</devices></domain>"
        );
        let mut def = parse(&xml).expect("reads").def;
        to_migratable(&mut def);
        format(&def, FormatOptions { migratable: true, ..Default::default() })
    }

    #[test]
    fn what_every_receiver_makes_is_left_out() {
        let text = migratable(
            "<controller type='usb' model='piix3-uhci'/><controller type='pci' model='pci-root'/>\
             <input type='keyboard' bus='ps2'/><input type='mouse' bus='ps2'/>",
        );
        assert!(!text.contains("<controller") && !text.contains("keyboard") && !text.contains("efi"), "{text}");
        assert!(text.contains("<input type='mouse' bus='ps2'/>"), "{text}");
    }

    #[test]
    fn what_was_chosen_stays() {
        for device in [
            "<controller type='usb' index='0' model='qemu-xhci'/>",
            "<controller type='usb' index='0' model='piix3-uhci'/>\n    <controller type='usb' index='1' model='ehci'/>",
            "<controller type='pci' index='0' model='pcie-root'/>",
            "<input type='keyboard' bus='usb'/>",
        ] {
            assert!(migratable(device).contains(device), "{device}: {}", migratable(device));
        }
    }
}
