//! Machine, firmware, features, clock: what QEMU's x86 machines do not have.

use super::{Check, each, refuse};
use crate::domain_xml::DomainDef;
use crate::domain_xml::clock::{TickPolicy, Timer, TimerName};
use crate::domain_xml::os::LoaderType;
use crate::domain_xml::words::{Switch, YesNo};
use crate::qemu::complete::{Chipset, chipset_of};

/// Everything about the machine of a completed definition.
pub(super) fn machine(def: &DomainDef) -> Check {
    firmware(def).map_err(|error| error.about("os", 0))?;
    features(def).map_err(|error| error.about("features", 0))?;
    each("clock/timer", &def.clock.timers, |timer| self::timer(def, timer))?;
    refuse!(
        if def.memtune.min_guarantee.is_some(), ConfigUnsupported,
        "Parameter 'min_guarantee' not supported by QEMU."
    );
    let resctrl = def.cputune.later.iter().any(|e| matches!(e.name.as_str(), "cachetune" | "memorytune"));
    refuse!(
        if resctrl && def.virt_type != crate::domain_xml::VirtType::Kvm, ConfigUnsupported,
        "cachetune is only supported for KVM domains"
    );
    Ok(())
}

fn firmware(def: &DomainDef) -> Check {
    let os = &def.os;
    let acpi = def.features.acpi;
    refuse!(if os.bootloader.is_some(), ConfigUnsupported, "bootloader is not supported by QEMU");
    let foreign = os.acpi_tables.iter().find(|(kind, _)| kind == "rawset");
    refuse!(if foreign.is_some(), ConfigUnsupported, "ACPI table type 'rawset' is not supported");
    let Some(loader) = &os.loader else { return Ok(()) };
    let x86 = matches!(os.arch.as_deref(), None | Some("x86_64" | "i686"));
    if loader.secure == Some(YesNo::Yes) && x86 && loader.kind != Some(LoaderType::Pflash) {
        refuse!(
            if chipset_of(def) != Chipset::Q35, ConfigUnsupported,
            "Secure boot is supported with q35 machine types only"
        );
    }
    refuse!(
        if loader.kind == Some(LoaderType::Pflash) && loader.path.is_some() && !acpi && x86, ConfigUnsupported,
        "UEFI requires ACPI on this architecture"
    );
    if loader.secure == Some(YesNo::Yes) && x86 {
        refuse!(
            if chipset_of(def) != Chipset::Q35, ConfigUnsupported,
            "Secure boot is supported with q35 machine types only"
        );
        let smm = def.features.smm.as_ref().and_then(|smm| smm.state);
        refuse!(if smm != Some(Switch::On), ConfigUnsupported, "Secure boot requires SMM feature enabled");
    }
    Ok(())
}

fn features(def: &DomainDef) -> Check {
    let (arch, machine) = (def.os.arch.as_deref().unwrap_or("x86_64"), def.os.machine.as_deref().unwrap_or_default());
    let given = def.features.others.iter().map(|element| element.name.as_str());
    let gic = def.features.gic.iter().map(|_| "gic");
    for name in given.chain(gic) {
        match name {
            "gic" | "hpt" | "htm" | "nested-hv" | "ccf-assist" | "cfpc" | "sbbc" | "ibs" => refuse!(
                ConfigUnsupported,
                "The '{name}' feature is not supported for architecture '{arch}' or machine type '{machine}'"
            )?,
            "ras" => refuse!(ConfigUnsupported, "ras feature is only supported with ARM Virt machines")?,
            "aia" => refuse!(ConfigUnsupported, "aia feature is only supported with RISC-V Virt machines")?,
            _ => {}
        }
    }
    let smm = def.features.smm.as_ref();
    refuse!(
        if smm.is_some_and(|smm| smm.tseg.is_some()) && chipset_of(def) != Chipset::Q35, ConfigUnsupported,
        "SMM TSEG is only supported with q35 machine type"
    );
    Ok(())
}

fn timer(def: &DomainDef, timer: &Timer) -> Check {
    let name = timer.name;
    let policy = timer.tickpolicy;
    refuse!(
        if timer.catchup.as_ref().is_some_and(|c| *c != Default::default()) && policy != Some(TickPolicy::Catchup), XmlError,
        "setting of timer catchup policies is only supported with tickpolicy='catchup'"
    );
    match name {
        TimerName::Platform => refuse!(ConfigUnsupported, "unsupported timer type (name) '{name}'")?,
        TimerName::Armvtimer => {
            let (kind, arch) = (def.virt_type, def.os.arch.as_deref().unwrap_or("x86_64"));
            let machine = def.os.machine.as_deref().unwrap_or_default();
            refuse!(
                ConfigUnsupported,
                "Configuring the '{name}' timer is not supported for virtType={kind} arch={arch} machine={machine} guests"
            )?;
        }
        _ => {}
    }
    let settings = [
        ("track", timer.track.is_some(), name == TimerName::Rtc),
        ("tickpolicy", policy.is_some(), matches!(name, TimerName::Rtc | TimerName::Pit | TimerName::Hpet)),
        ("frequency", timer.frequency.is_some(), name == TimerName::Tsc),
        ("mode", timer.mode.is_some(), name == TimerName::Tsc),
    ];
    if let Some((setting, ..)) = settings.iter().find(|(_, given, possible)| *given && !possible) {
        refuse!(ConfigUnsupported, "timer {name} doesn't support setting of timer {setting}")?;
    }
    match (name, policy) {
        (TimerName::Rtc, Some(policy @ (TickPolicy::Merge | TickPolicy::Discard))) => {
            refuse!(ConfigUnsupported, "unsupported rtc timer tickpolicy '{policy}'")
        }
        (TimerName::Pit, Some(policy @ TickPolicy::Merge)) => {
            refuse!(ConfigUnsupported, "unsupported pit tickpolicy '{policy}'")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case("pc", "<bootloader>/x</bootloader>", "unsupported configuration: bootloader is not supported by QEMU")]
    #[case(
        "pc",
        "<features><gic version='2'/></features>",
        "unsupported configuration: The 'gic' feature is not supported for architecture 'x86_64' or machine type 'pc' (line 2"
    )]
    #[case(
        "pc",
        "<features><hpt resizing='enabled'/></features>",
        "unsupported configuration: The 'hpt' feature is not supported"
    )]
    #[case(
        "pc",
        "<features><smm state='on'><tseg>5</tseg></smm></features>",
        "unsupported configuration: SMM TSEG is only supported with q35 machine type"
    )]
    #[case(
        "pc",
        "<clock><timer name='platform'/></clock>",
        "unsupported configuration: unsupported timer type (name) 'platform'"
    )]
    #[case(
        "pc",
        "<clock><timer name='hpet' track='wall'/></clock>",
        "unsupported configuration: timer hpet doesn't support setting of timer track"
    )]
    #[case(
        "pc",
        "<clock><timer name='rtc' tickpolicy='merge'/></clock>",
        "unsupported configuration: unsupported rtc timer tickpolicy 'merge'"
    )]
    #[case(
        "pc",
        "<clock><timer name='rtc' tickpolicy='delay'><catchup slew='5'/></timer></clock>",
        "XML error: setting of timer catchup policies is only supported"
    )]
    #[case(
        "pc",
        "<memtune><min_guarantee>5</min_guarantee></memtune>",
        "unsupported configuration: Parameter 'min_guarantee' not supported by QEMU."
    )]
    fn refused(#[case] machine: &str, #[case] xml: &str, #[case] expected: &str) {
        let text = refusal(machine, xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
