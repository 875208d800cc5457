//! From a volume's definition to the image that `qemu-img` is asked for. Pure.

use crate::disk::pool::PoolType;
use crate::disk::qemu_img::plan::{Backing, Luks, NewImage};
use crate::disk::volume::{FileFormat, VolumeDef, VolumeFormat};
use crate::domain_xml::device::EncryptionFormat;
use crate::error::{Error, Result};

/// The image of a new volume in a pool of type `pool`; `preallocate` is libvirt's flag. Errors: code 67 and 1 with
/// libvirt's texts.
pub fn image(def: &VolumeDef, pool: PoolType, preallocate: bool) -> Result<NewImage> {
    let format = format_name(def);
    let backing = def
        .backing
        .as_ref()
        .map(|backing| {
            let format = match backing.format {
                Some(VolumeFormat::File(format)) => format,
                // Volumes of devices have no format of their own.
                _ if pool != PoolType::Dir => FileFormat::Raw,
                _ => {
                    return Err(Error::unsupported_config(format!(
                        "the format of backing store '{}' is not given, and formats are never guessed; \
                         add <format type='raw'/> or <format type='qcow2'/> to <backingStore>",
                        backing.path
                    )));
                }
            };
            Ok(Backing { path: backing.path.clone(), format: format.as_str().to_string() })
        })
        .transpose()?;
    let luks = match &def.target.encryption {
        None => None,
        Some(encryption) => {
            match encryption.format {
                EncryptionFormat::Luks => {}
                EncryptionFormat::Qcow | EncryptionFormat::Default if format == "qcow2" => {
                    return Err(Error::unsupported_config("creation of qcow2 encrypted image is not supported"));
                }
                _ if format == "raw" => {
                    return Err(Error::unsupported_config("Only luks encryption is supported for raw files"));
                }
                other => {
                    return Err(Error::unsupported_config(format!(
                        "unsupported volume encryption format {}",
                        other.as_str()
                    )));
                }
            }
            match encryption.secrets.len() {
                0 => return Err(Error::unsupported_config("no secret provided for luks encryption")),
                1 => {}
                _ => return Err(Error::unsupported_config("too many secrets for luks encryption")),
            }
            let (cipher, ivgen) = (encryption.cipher.as_ref(), encryption.ivgen.as_ref());
            Some(Luks {
                cipher: cipher.map(|cipher| format!("{}-{}", cipher.name, cipher.size)),
                mode: cipher.and_then(|cipher| cipher.mode.clone()),
                hash: cipher.and_then(|cipher| cipher.hash.clone()),
                ivgen: ivgen.map(|ivgen| ivgen.name.clone()),
                ivgen_hash: ivgen.and_then(|ivgen| ivgen.hash.clone()),
            })
        }
    };
    let features = def.target.features.unwrap_or_default();
    Ok(NewImage {
        format: format.to_string(),
        capacity: def.capacity,
        allocation: def.allocation,
        backing,
        preallocate,
        compat: def.target.compat.clone(),
        nocow: def.target.nocow,
        cluster_size: def.target.cluster_size,
        lazy_refcounts: features.lazy_refcounts,
        extended_l2: features.extended_l2,
        luks,
    })
}

/// QEMU's name of a volume's format.
pub fn format_name(def: &VolumeDef) -> &'static str {
    match def.file_format() {
        FileFormat::None | FileFormat::Iso => "raw",
        format => format.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::pool::{corpus, parse as parse_pool};
    use crate::disk::qemu_img::plan::{self, Secret, Source};
    use crate::disk::volume::{Capacity, parse};

    /// One case of libvirt's: how its files belong together.
    struct Case {
        name: String,
        volume: String,
        pool: String,
        input: Option<(String, String)>,
        preallocate: bool,
    }

    /// From the index beside the vectors, in which "flags" stands for the only flag that the original tests set.
    fn cases(data: &std::path::Path) -> Vec<Case> {
        let index = std::fs::read_to_string(data.with_file_name("index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_str(&index).unwrap();
        let text = |value: &serde_json::Value| value.as_str().map(str::to_string);
        let cases = index["cases"].as_array().unwrap().iter();
        cases
            .filter(|case| case["family"] == "storagevolxml2argv")
            .map(|case| Case {
                name: text(&case["name"]).unwrap(),
                volume: text(&case["input"]).unwrap(),
                pool: text(&case["extra"]["pool"]).unwrap(),
                input: text(&case["extra"]["inputvol"]).zip(text(&case["extra"]["inputpool"])),
                preallocate: case["flags"] == "flags",
            })
            .collect()
    }

    fn argv(case: &Case, data: &std::path::Path) -> Vec<Vec<String>> {
        let read = |volume: &str, pool: &str| {
            let pool = parse_pool(&std::fs::read_to_string(data.join(pool)).unwrap()).unwrap().def;
            let xml = std::fs::read_to_string(data.join(volume)).unwrap();
            (parse(&xml, pool.kind, Capacity::Optional).unwrap(), pool)
        };
        let place = |def: &VolumeDef, pool: &crate::disk::pool::PoolDef| {
            format!("{}/{}", pool.target.path.as_deref().unwrap(), def.name)
        };
        let (def, pool) = read(&case.volume, &case.pool);
        let image = image(&def, pool.kind, case.preallocate).unwrap();
        let secret = |def: &VolumeDef, file: &str| {
            let id = format!("{}_encrypt0", def.name);
            def.target.encryption.as_ref().map(|_| Secret { id, file: file.into() })
        };
        let source = case.input.as_ref().map(|(volume, pool)| {
            let (input, pool) = read(volume, pool);
            let (format, file) = (format_name(&input).to_string(), place(&input, &pool));
            match secret(&input, "/path/to/inputSecretFile") {
                None => Source::Plain { format, file },
                Some(secret) => Source::Encrypted { layers: vec![(format, file)], secret },
            }
        });
        let secret = secret(&def, "/path/to/secretFile");
        plan::create(&image, &place(&def, &pool), secret.as_ref(), source.as_ref()).unwrap()
    }

    /// libvirt's shorter and ours longer spelling of a switch are the same to QEMU.
    fn normal(word: &str) -> String {
        word.replace("lazy_refcounts=on", "lazy_refcounts")
    }

    #[test]
    fn conformance_vectors_of_command_lines() {
        let Some(expected) = corpus("storagevolxml2argvdata") else { return };
        let data = expected.parent().unwrap();
        let cases = cases(data);
        let (mut wrong, total) = (Vec::new(), cases.len());
        for case in cases {
            let ours: Vec<String> = argv(&case, data).iter().map(|list| normal(&list.join(" "))).collect();
            let theirs = std::fs::read_to_string(expected.join(format!("{}.argv", case.name))).unwrap();
            let theirs = theirs.replace("\\\n", "").trim().to_string();
            let theirs: Vec<String> = theirs.lines().map(|line| normal(line.trim_start_matches("qemu-img "))).collect();
            if ours != theirs {
                wrong.push(format!("{}:\n{}\nexpected\n{}", case.name, ours.join("\n"), theirs.join("\n")));
            }
        }
        assert!(total > 0 && wrong.is_empty(), "{} of {total} differ\n{}", wrong.len(), wrong.join("\n"));
    }
}
