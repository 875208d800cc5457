//! Which firmware a guest gets: a wish (`<os firmware='efi'>` with features) or a path becomes a full description of
//! loader, variable store and its template.
//!
//! Completing a full description changes nothing, so that a guest keeps the firmware it was defined with. Never looks at
//! the images themselves.

mod descriptor;

use std::path::PathBuf;

pub use descriptor::{Descriptor, load, standard_dirs};
use descriptor::{FlashMode, Image, Mapping};

use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{StorageKind, StorageSource};
use crate::domain_xml::features::Smm;
use crate::domain_xml::os::{Firmware, FirmwareFeature, FirmwareFormat, Loader, LoaderType, Nvram};
use crate::domain_xml::words::{Switch, YesNo};
use crate::error::{Code, Error, Result};

/// What firmware is chosen from.
#[derive(Clone, Debug)]
pub struct FirmwareChoice {
    /// In the order they are tried.
    pub descriptors: Vec<Descriptor>,
    /// Directory of variable stores that have no path of their own.
    pub nvram_dir: PathBuf,
    /// Whether a definition is new; one that is known already may name firmware that has gone from the descriptors.
    pub new: bool,
}

impl Default for FirmwareChoice {
    fn default() -> Self {
        FirmwareChoice { descriptors: Vec::new(), nvram_dir: "/var/lib/domus/qemu/nvram".into(), new: true }
    }
}

/// Image pairs from before there were descriptors: (code, variables), raw.
const LEGACY: &[(&str, &str)] = &[
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    ("/usr/share/AAVMF/AAVMF32_CODE.fd", "/usr/share/AAVMF/AAVMF32_VARS.fd"),
];

/// Whether descriptors decide anything of this definition: a plain BIOS machine never makes anybody read them.
pub fn concerns(def: &DomainDef) -> bool {
    let rom = def.os.loader.as_ref().is_none_or(|loader| loader.kind == Some(LoaderType::Rom));
    def.os.firmware.is_some() || !rom
}

/// Fills in firmware.
///
/// Error: `OperationFailed` when no installed firmware fits the wish.
pub fn complete(def: &mut DomainDef, choice: &FirmwareChoice) -> Result<()> {
    if !concerns(def) {
        return Ok(());
    }
    match choice.descriptors.iter().find(|descriptor| fits(def, descriptor)) {
        Some(descriptor) => take(def, descriptor),
        None if def.os.firmware.is_none() => legacy(def),
        None if !choice.new && def.os.loader.as_ref().is_some_and(|loader| loader.path.is_some()) => {}
        None => {
            let wish = def.os.firmware.map(Firmware::as_str).unwrap_or_default();
            let what = format!("Unable to find '{wish}' firmware that is compatible with the current configuration");
            return Err(Error::new(Code::OperationFailed, what));
        }
    }
    default_format(def);
    nvram(def, choice);
    Ok(())
}

fn default_format(def: &mut DomainDef) {
    if let Some(loader) = def.os.loader.as_mut().filter(|loader| loader.path.is_some()) {
        loader.format.get_or_insert(FirmwareFormat::Raw);
    }
}

/// Whether the definition asks for a feature, or not to have it.
fn wish(def: &DomainDef, feature: &str) -> Option<bool> {
    let found = def.os.firmware_features.iter().find(|wish| wish.name.as_deref() == Some(feature));
    Some(found?.enabled?.is_yes())
}

/// Whether a descriptor gives what a definition wants and nothing it refuses.
fn fits(def: &DomainDef, descriptor: &Descriptor) -> bool {
    let none = Loader::default();
    let loader = def.os.loader.as_ref().unwrap_or(&none);
    let interface = match (def.os.firmware, loader.kind) {
        (Some(Firmware::Bios), _) | (None, Some(LoaderType::Rom)) => "bios",
        (Some(Firmware::Efi), _) | (None, Some(LoaderType::Pflash)) => "uefi",
        (None, None) => return false,
    };
    if !descriptor.interface_types.iter().any(|own| own == interface) {
        return false;
    }
    let (arch, machine) = (def.os.arch.as_deref(), def.os.machine.as_deref());
    if !descriptor.fits(arch.unwrap_or_default(), machine.unwrap_or_default()) {
        return false;
    }
    if !paths_fit(loader, def.os.nvram.as_ref(), &descriptor.mapping) {
        return false;
    }
    let sleeps = [(def.pm.suspend_to_mem, "acpi-s3"), (def.pm.suspend_to_disk, "acpi-s4")];
    if sleeps.iter().any(|(wish, feature)| *wish == Some(YesNo::Yes) && !descriptor.has(feature)) {
        return false;
    }
    if ["secure-boot", "enrolled-keys"]
        .iter()
        .any(|feature| wish(def, feature).is_some_and(|wish| wish != descriptor.has(feature)))
    {
        return false;
    }
    let smm = def.features.smm.as_ref().and_then(|smm| smm.state);
    let protected = match descriptor.has("requires-smm") {
        true => smm != Some(Switch::Off) && loader.secure != Some(YesNo::No),
        false => loader.secure != Some(YesNo::Yes),
    };
    protected && flash_fits(loader, def.os.nvram.as_ref(), &descriptor.mapping) && confidential(def, descriptor)
}

fn paths_fit(loader: &Loader, nvram: Option<&Nvram>, mapping: &Mapping) -> bool {
    let template = nvram.and_then(|nvram| nvram.template.as_deref());
    let same = |given: Option<&str>, own: &str| given.is_none_or(|given| given == own);
    match mapping {
        Mapping::Flash { executable, nvram_template, .. } => {
            same(loader.path.as_deref(), &executable.filename)
                && template.is_none_or(|path| nvram_template.as_ref().is_some_and(|own| own.filename == path))
        }
        Mapping::Memory { filename } => same(loader.path.as_deref(), filename) && template.is_none(),
        Mapping::Other => false,
    }
}

fn format_of(image: &Image) -> Option<FirmwareFormat> {
    image.format.parse().ok()
}

fn flash_fits(loader: &Loader, nvram: Option<&Nvram>, mapping: &Mapping) -> bool {
    let stateless = loader.stateless == Some(YesNo::Yes);
    let (mode, executable, template) = match mapping {
        Mapping::Flash { mode, executable, nvram_template } => (*mode, executable, nvram_template.as_ref()),
        // Nothing is kept in plain memory.
        Mapping::Memory { .. } => {
            return loader.kind != Some(LoaderType::Pflash)
                && loader.stateless != Some(YesNo::No)
                && loader.format.is_none_or(|format| format == FirmwareFormat::Raw)
                && nvram.is_none();
        }
        Mapping::Other => return false,
    };
    if loader.kind == Some(LoaderType::Rom) || loader.readonly == Some(YesNo::No) {
        return false;
    }
    if mode != if stateless { FlashMode::Stateless } else { FlashMode::Split } {
        return false;
    }
    let Some(format) = format_of(executable) else { return false };
    if loader.format.is_some_and(|given| given != format) {
        return false;
    }
    if mode == FlashMode::Split {
        let Some(format) = template.and_then(format_of) else { return false };
        let given = nvram.and_then(|nvram| nvram.template_format.or(nvram.format));
        return given.is_none_or(|given| given == format);
    }
    true
}

/// Whether the firmware can run encrypted guests, when this is to be one.
fn confidential(def: &DomainDef, descriptor: &Descriptor) -> bool {
    let Some(security) = def.later.iter().find(|element| element.name == "launchSecurity") else { return true };
    let kind = security.attributes.iter().find(|(name, _)| name == "type").map(|(_, kind)| kind.as_str());
    match kind {
        Some("sev") => {
            let policy = security.children.iter().find(|child| child.name == "policy").map(|child| child.text.as_str());
            let policy = policy.and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok());
            // Bit 2: the guest's registers are encrypted too.
            let es = policy.is_some_and(|policy| policy & 4 != 0);
            descriptor.has("amd-sev") && (!es || descriptor.has("amd-sev-es"))
        }
        Some("sev-snp") => descriptor.has("amd-sev-snp"),
        Some("tdx") => descriptor.has("intel-tdx"),
        _ => true,
    }
}

/// Writes down what a descriptor says.
fn take(def: &mut DomainDef, descriptor: &Descriptor) {
    let loader = def.os.loader.get_or_insert_default();
    match &descriptor.mapping {
        Mapping::Flash { mode, executable, nvram_template } => {
            loader.kind = Some(LoaderType::Pflash);
            loader.readonly = Some(YesNo::Yes);
            loader.format = format_of(executable);
            loader.path = Some(executable.filename.clone());
            // A store on the network is neither made nor reset here, so its template would be a lie.
            let source = def.os.nvram.as_ref().and_then(|nvram| nvram.source.as_ref());
            if let (FlashMode::Split, Some(template)) = (mode, nvram_template)
                && source.is_none_or(|source| source.kind != StorageKind::Network)
            {
                let nvram = def.os.nvram.get_or_insert_default();
                nvram.template = Some(template.filename.clone());
                nvram.template_format = format_of(template);
            }
        }
        Mapping::Memory { filename } => {
            loader.kind = Some(LoaderType::Rom);
            loader.path = Some(filename.clone());
        }
        Mapping::Other => {}
    }
    if descriptor.has("requires-smm") {
        def.features.smm.get_or_insert_with(Smm::default).state = Some(Switch::On);
        loader.secure = Some(YesNo::Yes);
    }
    let efi = descriptor.interface_types.iter().any(|interface| interface == "uefi");
    let firmware = *def.os.firmware.get_or_insert(if efi { Firmware::Efi } else { Firmware::Bios });
    if firmware == Firmware::Efi {
        let state = loader.kind == Some(LoaderType::Pflash) && loader.stateless != Some(YesNo::Yes);
        let template = def.os.nvram.as_ref().is_some_and(|nvram| nvram.template.is_some());
        // Which keys are in a store that was not made from the template is not known.
        let keys = (!state || template).then(|| descriptor.has("enrolled-keys"));
        let features = [("enrolled-keys", keys), ("secure-boot", Some(descriptor.has("secure-boot")))];
        def.os.firmware_features = features
            .into_iter()
            .filter_map(|(name, on)| {
                Some(FirmwareFeature { enabled: Some(YesNo::from(on?)), name: Some(name.to_string()) })
            })
            .collect();
    }
}

/// Fills in the template of a well-known image that no descriptor names.
fn legacy(def: &mut DomainDef) {
    let Some(loader) = &mut def.os.loader else { return };
    if loader.kind != Some(LoaderType::Pflash)
        || loader.readonly == Some(YesNo::No)
        || loader.stateless == Some(YesNo::Yes)
        || loader.format.is_some_and(|format| format != FirmwareFormat::Raw)
    {
        return;
    }
    let Some((_, variables)) = LEGACY.iter().find(|(code, _)| loader.path.as_deref() == Some(*code)) else { return };
    loader.readonly = Some(YesNo::Yes);
    loader.format = Some(FirmwareFormat::Raw);
    let nvram = def.os.nvram.get_or_insert_default();
    nvram.template.get_or_insert_with(|| (*variables).to_string());
    nvram.template_format.get_or_insert(FirmwareFormat::Raw);
}

/// Gives a guest with flash a variable store.
fn nvram(def: &mut DomainDef, choice: &FirmwareChoice) {
    let Some(loader) = &def.os.loader else { return };
    if loader.kind != Some(LoaderType::Pflash)
        || loader.readonly != Some(YesNo::Yes)
        || loader.stateless == Some(YesNo::Yes)
    {
        return;
    }
    let nvram = def.os.nvram.get_or_insert_default();
    let format = nvram.template_format.or(loader.format).unwrap_or(FirmwareFormat::Raw);
    nvram.format.get_or_insert(format);
    if let Some(source) = nvram.source.as_mut().filter(|source| !source.is_empty()) {
        source.default_ports();
        return;
    }
    // A store that is made from the template has its format, whatever was asked for.
    nvram.format = Some(format);
    let raw = nvram.template.as_ref().is_some_and(|template| template.ends_with(".raw"));
    let extension = match format {
        FirmwareFormat::Qcow2 => "qcow2",
        FirmwareFormat::Raw if choice.new && raw => "raw",
        FirmwareFormat::Raw => "fd",
    };
    let path = choice.nvram_dir.join(format!("{}_VARS.{extension}", def.name));
    nvram.with_type = false;
    nvram.source = Some(StorageSource { path: Some(path.display().to_string()), ..Default::default() });
}

#[cfg(test)]
mod tests;
