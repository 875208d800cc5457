//! Small devices: watchdogs, TPMs, shared memory, panic notifiers, IOMMU, file systems, memory balloon.

use super::{Check, each, refuse};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;
use crate::qemu::complete::{Chipset, chipset_of};

/// Every small device of a completed definition.
pub(super) fn small_devices(def: &DomainDef) -> Check {
    watchdogs(def)?;
    each("devices/tpm", &def.tpms, tpm)?;
    refuse!(if def.tpms.len() > 1, ConfigUnsupported, "only a single TPM non-proxy device is supported");
    each("devices/shmem", &def.shmems, shmem)?;
    panics(def)?;
    iommu(def).map_err(|error| error.about("devices/iommu", 0))?;
    each("devices/filesystem", &def.filesystems, |fs| filesystem(def, fs))?;
    if def.memballoon.as_ref().is_some_and(|balloon| balloon.model == BalloonModel::Xen) {
        let error =
            refuse!(ConfigUnsupported, "Memory balloon device type 'xen' is not supported by this version of qemu");
        return error.map_err(|error| error.about("devices/memballoon", 0));
    }
    if def.nvram_device.is_some() {
        let error = refuse!(ConfigUnsupported, "nvram device is only supported for PPC64");
        return error.map_err(|error| error.about("devices/nvram", 0));
    }
    Ok(())
}

fn watchdogs(def: &DomainDef) -> Check {
    each("devices/watchdog", &def.watchdogs, |watchdog| watchdog_device(def, watchdog))?;
    for (nth, watchdog) in def.watchdogs.iter().enumerate() {
        let before = &def.watchdogs[..nth];
        let again = before.iter().any(|other| other.model == watchdog.model);
        // The other models have a fixed place.
        let error = if again && watchdog.model != WatchdogModel::I6300esb {
            format!("domain can only have one watchdog with model '{}'", watchdog.model)
        } else if before.iter().any(|other| acts(other) && acts(watchdog) && other.action != watchdog.action) {
            String::from("watchdogs with different actions are not supported with this QEMU binary")
        } else {
            continue;
        };
        return refuse!(ConfigUnsupported, "{error}").map_err(|error| error.about("devices/watchdog", nth));
    }
    Ok(())
}

/// Whether a watchdog was asked for; that of the chipset is always there.
fn acts(watchdog: &Watchdog) -> bool {
    watchdog.model != WatchdogModel::Itco
}

fn watchdog_device(def: &DomainDef, watchdog: &Watchdog) -> Check {
    let address = watchdog.info.address.as_ref();
    match watchdog.model {
        WatchdogModel::I6300esb => {
            let pci = matches!(address, None | Some(DeviceAddress::Pci { .. }));
            refuse!(if !pci, ConfigUnsupported, "i6300esb model of watchdog can go only on PCI bus");
        }
        WatchdogModel::Ib700 => {
            let none = address.is_none();
            refuse!(
                if !none, ConfigUnsupported,
                "ib700 model of watchdog does not support configuring the address"
            );
        }
        WatchdogModel::Diag288 => {
            refuse!(ConfigUnsupported, "diag288 model of watchdog is allowed for s390 and s390x only")?;
        }
        WatchdogModel::Itco => {
            refuse!(
                if chipset_of(def) != Chipset::Q35, ConfigUnsupported,
                "itco model of watchdog is only part of q35 machine"
            );
            refuse!(
                if address.is_some(), ConfigUnsupported,
                "itco model of watchdog is part of the machine and cannot have any address set."
            );
        }
    }
    Ok(())
}

fn tpm(tpm: &Tpm) -> Check {
    if let Some(model @ (TpmModel::Spapr | TpmModel::SpaprProxy)) = tpm.model {
        refuse!(ConfigUnsupported, "The QEMU executable does not support TPM model {model}")?;
    }
    match &tpm.backend {
        TpmBackend::Emulator(emulator) => {
            let old = emulator.version == Some(TpmVersion::V1_2);
            refuse!(
                if old && !emulator.active_pcr_banks.is_empty(), XmlError,
                "<active_pcr_banks/> requires TPM version '2.0'"
            );
            refuse!(
                if old && emulator.profile.is_some(), XmlError,
                "<profile/> requires TPM version '2.0'"
            );
            refuse!(
                if old && tpm.model == Some(TpmModel::Crb), ConfigUnsupported,
                "Unsupported interface '{}' for TPM 1.2", TpmModel::Crb
            );
            const BANKS: &[&str] = &["sha1", "sha256", "sha384", "sha512"];
            if let Some(bank) = emulator.active_pcr_banks.iter().find(|bank| !BANKS.contains(&bank.as_str())) {
                refuse!(ConfigUnsupported, "Unsupported PCR banks '{bank}'")?;
            }
            if let Some(secret) = &emulator.encryption_secret {
                let uuid = crate::types::Uuid::parse_str(secret).is_ok();
                refuse!(if !uuid, InternalError, "Unable to parse secret uuid '{secret}'");
            }
        }
        TpmBackend::External { path } => {
            refuse!(if path.is_none(), XmlError, "missing socket path for external TPM device");
        }
        TpmBackend::Passthrough { .. } => {}
    }
    Ok(())
}

fn shmem(shmem: &Shmem) -> Check {
    match shmem.model {
        None | Some(ShmemModel::Ivshmem) => refuse!(ConfigUnsupported, "ivshmem device is no longer supported"),
        Some(model @ ShmemModel::IvshmemPlain) => {
            refuse!(
                if shmem.server.is_some(), ConfigUnsupported,
                "shmem model '{model}' is supported only with server option disabled"
            );
            Ok(())
        }
        Some(model @ ShmemModel::IvshmemDoorbell) => {
            refuse!(
                if shmem.server.is_none(), ConfigUnsupported,
                "shmem model '{model}' is supported only with server option enabled"
            );
            refuse!(
                if shmem.size.is_some_and(|size| size > 0), ConfigUnsupported,
                "shmem model '{model}' does not support size setting"
            );
            Ok(())
        }
    }
}

fn panics(def: &DomainDef) -> Check {
    for (nth, device) in def.panics.iter().enumerate() {
        let model = device.model.unwrap_or_default();
        let address = device.info.address.as_ref();
        let again = def.panics[..nth].iter().any(|other| other.model.unwrap_or_default() == model);
        let checked = match model {
            _ if again => refuse!(XmlError, "Multiple panic devices with model '{model}'"),
            PanicModel::Pseries => {
                refuse!(ConfigUnsupported, "only pSeries guests support panic device of model 'pseries'")
            }
            PanicModel::S390 => refuse!(ConfigUnsupported, "only S390 guests support panic device of model 's390'"),
            PanicModel::Hyperv if address.is_some() => {
                refuse!(ConfigUnsupported, "setting the panic device address is not supported for model '{model}'")
            }
            PanicModel::Isa if !matches!(address, None | Some(DeviceAddress::Isa { .. })) => {
                refuse!(ConfigUnsupported, "panic is supported only with ISA address type")
            }
            PanicModel::Pvpanic if !matches!(address, None | Some(DeviceAddress::Pci { .. })) => {
                refuse!(ConfigUnsupported, "pvpanic is supported only with PCI address type")
            }
            _ => Ok(()),
        };
        checked.map_err(|error| error.about("devices/panic", nth))?;
    }
    Ok(())
}

fn iommu(def: &DomainDef) -> Check {
    let Some(iommu) = &def.iommu else { return Ok(()) };
    let (model, q35) = (iommu.model, chipset_of(def) == Chipset::Q35);
    match model {
        IommuModel::Intel => {
            refuse!(if !q35, ConfigUnsupported, "IOMMU device: '{model}' is only supported with Q35 machines");
        }
        IommuModel::Amd => {
            refuse!(XmlError, "Invalid value for attribute 'model' in element 'iommu': 'amd'.")?;
        }
        IommuModel::Smmuv3 => {
            refuse!(ConfigUnsupported, "IOMMU device: '{model}' is only supported with ARM Virt machines")?;
        }
        IommuModel::Virtio => {
            refuse!(
                if !q35, ConfigUnsupported,
                "IOMMU device: '{model}' is only supported with Q35 and ARM Virt machines"
            );
            refuse!(if !def.features.acpi, ConfigUnsupported, "IOMMU device: '{model}' requires ACPI");
            let pci = matches!(iommu.info.address, None | Some(DeviceAddress::Pci { .. }));
            refuse!(if !pci, ConfigUnsupported, "IOMMU device: '{model}' needs a PCI address");
        }
    }
    let on = |switch: Option<crate::domain_xml::Switch>| switch.is_some_and(|switch| switch.is_on());
    let split = def.features.ioapic == Some(crate::domain_xml::features::IoapicDriver::Qemu);
    refuse!(
        if on(iommu.driver.intremap) && !split && def.features.ioapic.is_some(), ConfigUnsupported,
        "IOMMU interrupt remapping requires split I/O APIC (ioapic driver='qemu')"
    );
    refuse!(
        // With a split I/O APIC, eim brings interrupt remapping along.
        if on(iommu.driver.eim) && !on(iommu.driver.intremap) && !(split && iommu.driver.intremap.is_none()),
        ConfigUnsupported,
        "IOMMU eim requires interrupt remapping to be enabled"
    );
    Ok(())
}

fn filesystem(def: &DomainDef, fs: &Filesystem) -> Check {
    refuse!(if fs.kind != FilesystemType::Mount, ConfigUnsupported, "only supports mount filesystem type");
    refuse!(
        if fs.space_hard_limit.is_some() || fs.space_soft_limit.is_some(), ConfigUnsupported,
        "filesystem usage limits are not supported with QEMU"
    );
    let mapped = fs.accessmode == Some(FsAccessMode::Mapped);
    refuse!(
        if (fs.fmode.is_some() || fs.dmode.is_some()) && !mapped, ConfigUnsupported,
        "fmode and dmode must be used with accessmode=mapped"
    );
    match fs.driver.kind {
        Some(FsDriverType::Virtiofs) => {}
        Some(FsDriverType::Loop | FsDriverType::Nbd | FsDriverType::Ploop) => {
            return refuse!(ConfigUnsupported, "Filesystem driver type not supported");
        }
        _ => return Ok(()),
    }
    refuse!(if !super::memory::shared(def), ConfigUnsupported, "'virtiofs' requires shared memory");
    refuse!(if fs.driver.wrpolicy.is_some(), ConfigUnsupported, "virtiofs does not support wrpolicy");
    let mode = fs.accessmode.unwrap_or(FsAccessMode::Passthrough);
    refuse!(
        if mode != FsAccessMode::Passthrough, ConfigUnsupported,
        "virtiofs only supports passthrough accessmode"
    );
    refuse!(if fs.model.is_some(), ConfigUnsupported, "virtiofs does not support model");
    let multidevs = fs.multidevs.is_some_and(|mode| mode != FsMultidevs::Default);
    refuse!(if multidevs, ConfigUnsupported, "virtiofs does not support multidevs");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "pc",
        "<watchdog model='itco'/>",
        "unsupported configuration: itco model of watchdog is only part of q35 machine (line 2"
    )]
    #[case(
        "pc",
        "<watchdog model='ib700'/><watchdog model='ib700'/>",
        "unsupported configuration: domain can only have one watchdog with model 'ib700'"
    )]
    #[case(
        "pc",
        "<watchdog model='ib700' action='none'/><watchdog model='i6300esb' action='reset'/>",
        "unsupported configuration: watchdogs with different actions are not supported"
    )]
    #[case(
        "pc",
        "<tpm><backend type='emulator' version='2.0'><encryption secret='x'/></backend></tpm>",
        "internal error: Unable to parse secret uuid 'x'"
    )]
    #[case(
        "pc",
        "<tpm><backend type='passthrough'/></tpm><tpm><backend type='passthrough'/></tpm>",
        "unsupported configuration: only a single TPM non-proxy device is supported"
    )]
    #[case("pc", "<shmem name='a'/>", "unsupported configuration: ivshmem device is no longer supported")]
    #[case("pc", "<panic model='isa'/><panic model='isa'/>", "XML error: Multiple panic devices with model 'isa'")]
    #[case(
        "pc",
        "<panic model='hyperv'><address type='isa'/></panic>",
        "unsupported configuration: setting the panic device address is not supported for model 'hyperv'"
    )]
    #[case(
        "pc",
        "<iommu model='intel'/>",
        "unsupported configuration: IOMMU device: 'intel' is only supported with Q35 machines"
    )]
    #[case(
        "q35",
        "<iommu model='intel'><driver eim='on'/></iommu>",
        "unsupported configuration: IOMMU eim requires interrupt remapping to be enabled"
    )]
    #[case(
        "pc",
        "<filesystem type='mount' fmode='644'><source dir='/x'/><target dir='x'/></filesystem>",
        "unsupported configuration: fmode and dmode must be used with accessmode=mapped"
    )]
    #[case(
        "pc",
        "<filesystem type='mount'><driver type='virtiofs'/><source dir='/x'/><target dir='x'/></filesystem>",
        "unsupported configuration: 'virtiofs' requires shared memory"
    )]
    #[case("pc", "<nvram/>", "unsupported configuration: nvram device is only supported for PPC64")]
    fn refused(#[case] machine: &str, #[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(machine, xml);
        assert!(text.starts_with(expected), "{text}");
    }

    #[rstest]
    #[case(
        "pc",
        "<filesystem type='mount' multidevs='remap'><driver type='virtiofs'/><source dir='/x'/><target dir='x'/></filesystem>",
        "unsupported configuration: virtiofs does not support multidevs"
    )]
    fn refused_with_shared_memory(#[case] machine: &str, #[case] xml: &str, #[case] expected: &str) {
        let text = shared_refusal(machine, xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
