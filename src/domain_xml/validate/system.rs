//! The machine: firmware, boot, CPU, features, sysinfo, security labels.

use std::collections::HashSet;

use super::{Check, each, refuse};
use crate::domain_xml::cpu::{CacheMode, Cpu, CpuMode, MaxPhysAddrMode};
use crate::domain_xml::features::Features;
use crate::domain_xml::model::DomainDef;
use crate::domain_xml::os::{Firmware, LoaderType, Os, OsType, Sysinfo};
use crate::domain_xml::perf;
use crate::domain_xml::seclabel::SeclabelType;
use crate::domain_xml::words::{Switch, YesNo};
use crate::types::Uuid;

/// Everything about the machine.
pub(super) fn system(def: &DomainDef) -> Check {
    if let Some(cpu) = &def.cpu {
        self::cpu(cpu).map_err(|error| error.about("cpu", 0))?;
    }
    features(&def.features).map_err(|error| error.about("features", 0))?;
    if def.os.os_type == OsType::Hvm {
        firmware(&def.os).map_err(|error| error.about("os", 0))?;
    }
    let serial = def.os.bios.as_ref().is_some_and(|bios| bios.useserial == Some(YesNo::Yes));
    refuse!(
        if serial && def.serials.is_empty(), XmlError,
        "need at least one serial port to use BIOS serial output"
    );
    for (name, _) in &def.os.acpi_tables {
        let known = matches!(name.as_str(), "raw" | "rawset" | "slic" | "msdm");
        refuse!(if !known, XmlError, "Invalid value for attribute 'type' in element 'table': '{name}'.");
        let times = def.os.acpi_tables.iter().filter(|(other, _)| other == name).count();
        refuse!(if times > 1 && name != "raw", XmlError, "ACPI table type '{name}' may only appear once");
    }
    for (nth, info) in def.sysinfo.iter().enumerate() {
        sysinfo(def, info).map_err(|error| error.about("sysinfo", nth))?;
    }
    seclabels(def)?;
    throttle_groups(def)?;
    perf::check(def)
}

fn cpu(cpu: &Cpu) -> Check {
    let host = matches!(cpu.mode, Some(CpuMode::HostPassthrough | CpuMode::Maximum));
    refuse!(
        if cpu.migratable.is_some() && !host, ConfigUnsupported,
        "Attribute migratable is only allowed for 'host-passthrough' / 'maximum' CPU mode"
    );
    let custom = cpu.mode.unwrap_or_default() == CpuMode::Custom;
    refuse!(
        if custom && cpu.vendor.is_some() && cpu.model.is_none(), XmlError,
        "CPU vendor specified without CPU model"
    );
    if let Some(cache) = &cpu.cache {
        let Some(mode) = cache.mode else {
            return refuse!(XmlError, "Missing required attribute 'mode' in element 'cache'");
        };
        refuse!(
            if cache.level.is_some_and(|level| !(1..=3).contains(&level)), XmlError,
            "invalid CPU cache level, must be in range [1,3]"
        );
        match mode {
            CacheMode::Passthrough | CacheMode::Disable => {
                refuse!(if cache.level.is_some(), ConfigUnsupported, "unsupported CPU cache level for mode '{mode}'");
            }
            CacheMode::Emulate => refuse!(
                if cache.level != Some(3), ConfigUnsupported,
                "CPU cache mode 'emulate' can only be used with level='3'"
            ),
        }
        refuse!(
            if mode == CacheMode::Passthrough && !host, ConfigUnsupported,
            "CPU cache mode 'passthrough' can only be used with 'host-passthrough' / 'maximum' CPUs"
        );
    }
    let Some(address) = &cpu.maxphysaddr else { return Ok(()) };
    let passthrough = address.mode == Some(MaxPhysAddrMode::Passthrough);
    refuse!(
        if passthrough && address.bits.is_some(), ConfigUnsupported,
        "CPU maximum physical address bits number specification cannot be used with mode='passthrough'"
    );
    refuse!(
        if !passthrough && address.limit.is_some(), ConfigUnsupported,
        "attribute 'limit' is only supported for maxphysaddr mode 'passthrough'"
    );
    Ok(())
}

fn features(features: &Features) -> Check {
    if let Some(hyperv) = &features.hyperv {
        if let Some(spinlocks) = hyperv.spinlocks.as_ref().filter(|s| s.state == Some(Switch::On)) {
            let Some(retries) = spinlocks.retries else {
                return refuse!(XmlError, "Missing required attribute 'retries' in element 'spinlocks'");
            };
            refuse!(if retries < 4095, XmlError, "HyperV spinlock retry count must be at least 4095");
        }
        if let Some(vendor) = hyperv.vendor_id.as_ref().filter(|v| v.state == Some(Switch::On)) {
            let Some(value) = &vendor.value else {
                return refuse!(XmlError, "missing 'value' attribute for HyperV feature 'vendor_id'");
            };
            refuse!(if value.len() > 12, XmlError, "HyperV vendor_id value must not be more than 12 characters.");
            refuse!(if value.contains(','), XmlError, "HyperV vendor_id value is invalid");
        }
    }
    if let Some(ring) = features.kvm.as_ref().and_then(|kvm| kvm.dirty_ring.as_ref())
        && ring.state == Some(Switch::On)
    {
        let Some(size) = ring.size else {
            return refuse!(XmlError, "Missing required attribute 'size' in element 'dirty-ring'");
        };
        let fits = size.is_power_of_two() && (1024..=65536).contains(&size);
        refuse!(if !fits, XmlError, "dirty ring must be power of 2 and ranges [1024, 65536]");
    }
    refuse!(
        if features.smm.as_ref().and_then(|smm| smm.tseg).is_some_and(|bytes| bytes % (1 << 20) != 0), ConfigUnsupported,
        "SMM TSEG size must be divisible by 1 MiB"
    );
    Ok(())
}

fn firmware(os: &Os) -> Check {
    let enabled = |name: &str| {
        os.firmware_features.iter().find(|f| f.name.as_deref() == Some(name)).and_then(|feature| feature.enabled)
    };
    if let Some(firmware) = os.firmware {
        refuse!(
            if enabled("enrolled-keys") == Some(YesNo::Yes) && enabled("secure-boot") == Some(YesNo::No), XmlDetail,
            "firmware feature 'enrolled-keys' cannot be enabled when firmware feature 'secure-boot' is disabled"
        );
        refuse!(
            if os.nvram.is_some() && firmware != Firmware::Efi, XmlDetail,
            "firmware type '{firmware}' does not support nvram"
        );
    } else {
        refuse!(
            if !os.firmware_features.is_empty(), XmlDetail,
            "cannot use feature-based firmware autoselection when firmware autoselection is disabled"
        );
        let path = os.loader.as_ref().is_some_and(|loader| loader.path.is_some());
        refuse!(
            if !path && (os.loader.is_some() || os.nvram.is_some()), XmlDetail,
            "no loader path specified and firmware auto selection disabled"
        );
    }
    let Some(loader) = &os.loader else { return Ok(()) };
    match loader.stateless {
        Some(YesNo::Yes) => {
            let nvram = os.nvram.as_ref();
            refuse!(
                if nvram.is_some_and(|nvram| nvram.template.is_some()), XmlDetail,
                "NVRAM template is not permitted when loader is stateless"
            );
            refuse!(
                if nvram.is_some_and(|nvram| nvram.source.is_some()), XmlDetail,
                "NVRAM is not permitted when loader is stateless"
            );
        }
        Some(YesNo::No) => refuse!(
            if loader.kind == Some(LoaderType::Rom), XmlDetail,
            "Only pflash loader type permits NVRAM"
        ),
        None => {}
    }
    Ok(())
}

fn sysinfo(def: &DomainDef, info: &Sysinfo) -> Check {
    let smbios = match info {
        Sysinfo::Smbios(smbios) => smbios,
        Sysinfo::Fwcfg(entries) => {
            for entry in entries {
                refuse!(
                    if entry.value.is_none() && entry.file.is_none(), XmlError,
                    "Firmware entry must have either value or 'file' attribute"
                );
                let name = &entry.name;
                refuse!(if !name.starts_with("opt/"), ConfigUnsupported, "Invalid firmware name");
                let reserved = name.starts_with("opt/ovmf/") || name.starts_with("opt/org.qemu/");
                refuse!(if reserved, ConfigUnsupported, "That firmware name is reserved");
            }
            return Ok(());
        }
    };
    if let (Some(own), Some((_, given))) = (def.uuid, smbios.system.iter().find(|(name, _)| name == "uuid")) {
        let same = Uuid::parse_str(given).is_ok_and(|given| given == own);
        refuse!(if !same, XmlDetail, "UUID mismatch between <uuid> and <sysinfo>");
    }
    let Some((_, date)) = smbios.bios.iter().find(|(name, _)| name == "date") else { return Ok(()) };
    let parts: Vec<u32> = date.split('/').filter_map(|part| part.parse().ok()).collect();
    // mm/dd/yyyy, or mm/dd/yy as SMBIOS before 2.3 had it.
    let valid = matches!(parts[..], [1..=12, 1..=31, 0..=99 | 1900..]) && date.split('/').count() == 3;
    refuse!(if !valid, XmlDetail, "Invalid BIOS 'date' format");
    Ok(())
}

fn seclabels(def: &DomainDef) -> Check {
    let labels = &def.seclabels;
    let mut seen = HashSet::new();
    each("seclabel", labels, |label| {
        let kind = label.kind.unwrap_or(SeclabelType::Dynamic);
        refuse!(
            if kind == SeclabelType::Dynamic && label.relabel == Some(YesNo::No), ConfigUnsupported,
            "dynamic label type must use resource relabeling"
        );
        refuse!(
            if kind == SeclabelType::None && label.relabel == Some(YesNo::Yes), ConfigUnsupported,
            "resource relabeling is not compatible with 'none' label type"
        );
        refuse!(if kind == SeclabelType::Static && label.label.is_none(), XmlError, "security label is missing");
        match &label.model {
            None if labels.len() > 1 => refuse!(XmlError, "missing security model when using multiple labels"),
            None if kind == SeclabelType::Static || label.baselabel.is_some() => {
                refuse!(XmlError, "missing security model in domain seclabel")
            }
            Some(model) if !seen.insert(model) => refuse!(XmlDetail, "seclabel for model {model} is already provided"),
            _ => Ok(()),
        }
    })
}

fn throttle_groups(def: &DomainDef) -> Check {
    let groups = def.later.iter().filter(|element| element.name == "throttlegroups").flat_map(|list| &list.children);
    let mut seen = HashSet::new();
    for group in groups.filter(|group| group.name == "throttlegroup") {
        match group.children.iter().find(|child| child.name == "group_name") {
            None => refuse!(XmlError, "missing group name")?,
            Some(name) if !seen.insert(&name.text) => refuse!(XmlError, "duplicate group name '{}' found", name.text)?,
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<cpu mode='host-model' migratable='off'/>",
        "unsupported configuration: Attribute migratable is only allowed for 'host-passthrough' / 'maximum' CPU mode (line 1"
    )]
    #[case(
        "<cpu mode='host-model'><cache level='5' mode='emulate'/></cpu>",
        "XML error: invalid CPU cache level, must be in range [1,3]"
    )]
    #[case(
        "<cpu mode='maximum'><maxphysaddr mode='emulate' limit='5'/></cpu>",
        "unsupported configuration: attribute 'limit' is only supported for maxphysaddr mode 'passthrough'"
    )]
    #[case(
        "<features><hyperv><spinlocks state='on' retries='100'/></hyperv></features>",
        "XML error: HyperV spinlock retry count must be at least 4095"
    )]
    #[case(
        "<features><hyperv><vendor_id state='on' value='a,b'/></hyperv></features>",
        "XML error: HyperV vendor_id value is invalid"
    )]
    #[case(
        "<features><kvm><dirty-ring state='on' size='1000'/></kvm></features>",
        "XML error: dirty ring must be power of 2 and ranges [1024, 65536]"
    )]
    #[case(
        "<seclabel type='dynamic' relabel='no' model='dac'/>",
        "unsupported configuration: dynamic label type must use resource relabeling"
    )]
    #[case("<seclabel type='static' model='dac'/>", "XML error: security label is missing")]
    #[case(
        "<sysinfo type='fwcfg'><entry name='opt/ovmf/x'>z</entry></sysinfo>",
        "unsupported configuration: That firmware name is reserved"
    )]
    #[case(
        "<perf><event name='cmt' enabled='yes'/><event name='cmt' enabled='yes'/></perf>",
        "XML error: perf event 'cmt' was already specified"
    )]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let text = refusal(xml);
        assert!(text.starts_with(expected), "{text}");
    }

    #[rstest]
    #[case("<os firmware='bios'><type>hvm</type><nvram>/x</nvram></os>", "firmware type 'bios' does not support nvram")]
    #[case(
        "<os><type>hvm</type><nvram>/x</nvram></os>",
        "no loader path specified and firmware auto selection disabled"
    )]
    #[case(
        "<os><type>hvm</type><loader type='rom' stateless='no'>/x</loader></os>",
        "Only pflash loader type permits NVRAM"
    )]
    #[case(
        "<os><type>hvm</type><loader type='pflash' stateless='yes'>/x</loader><nvram>/y</nvram></os>",
        "NVRAM is not permitted when loader is stateless"
    )]
    fn firmware_refused(#[case] os: &str, #[case] expected: &str) {
        let xml = format!("<domain type='qemu'><name>a</name><memory>1024</memory>{os}</domain>");
        let text = crate::domain_xml::parse(&xml).expect_err("refused").message();
        assert!(text.starts_with(expected), "{text}");
    }
}
