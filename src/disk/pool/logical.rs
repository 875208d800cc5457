//! Logical pools: a volume group of LVM, by its own programs. Their output is parsed by pure functions.

use std::collections::BTreeMap;
use std::time::Duration;

use super::model::PoolDef;
use super::mount::program;
use super::write::Usage;
use crate::disk::volume::{Extent, VolumeDef, VolumeKind, VolumeTarget};
use crate::error::{Error, Result};
use crate::sys::exec;

const LIMIT: Duration = Duration::from_secs(120);

/// The group's name: it comes from XML, and LVM takes a dash at the start as an option. Error: code 67.
fn group(def: &PoolDef) -> Result<&str> {
    let name = def.source.name.as_deref().unwrap_or(&def.name);
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'_' | b'.' | b'-');
    match !name.is_empty() && !name.starts_with('-') && name.bytes().all(known) && name != "." && name != ".." {
        true => Ok(name),
        false => Err(Error::unsupported_config(format!("'{name}' cannot be the name of a volume group"))),
    }
}

/// The arguments of vgchange that make the group's volumes appear or disappear.
pub fn activate_arguments(def: &PoolDef, active: bool) -> Vec<String> {
    let name = def.source.name.as_deref().unwrap_or(&def.name);
    vec![if active { "-aly" } else { "-aln" }.to_string(), name.to_string()]
}

/// Makes the group's volumes appear. Errors: code 1 with what vgchange said, or when it is not installed.
pub async fn start(def: &PoolDef) -> Result<()> {
    group(def)?;
    run("vgchange", &activate_arguments(def, true)).await.map(drop)
}

/// Makes them disappear. Errors as [`start`].
pub async fn stop(def: &PoolDef) -> Result<()> {
    group(def)?;
    run("vgchange", &activate_arguments(def, false)).await.map(drop)
}

/// Makes a group of the source's devices. `overwrite`: also of devices with something on them. Errors: code 1 with what
/// the programs said; what was made until then is taken back.
pub async fn build(def: &PoolDef, overwrite: bool) -> Result<()> {
    let name = group(def)?;
    let devices: Vec<String> = def.source.devices.iter().map(|device| device.path.clone()).collect();
    if devices.is_empty() {
        let what = format!("pool '{}' has no source devices to make a volume group of", def.name);
        return Err(Error::unsupported_config(what));
    }
    if let Some(device) = devices.iter().find(|device| !device.starts_with('/')) {
        return Err(Error::unsupported_config(format!("source device '{device}' must be an absolute path")));
    }
    let mut made = Vec::new();
    let mut failed = None;
    for device in &devices {
        let mut arguments = vec!["--yes".to_string()];
        arguments.extend(overwrite.then(|| "-ff".to_string()));
        arguments.push(device.clone());
        match run("pvcreate", &arguments).await {
            Ok(_) => made.push(device.clone()),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    if failed.is_none() {
        let arguments: Vec<String> = std::iter::once(name.to_string()).chain(devices).collect();
        failed = run("vgcreate", &arguments).await.err();
    }
    let Some(error) = failed else { return Ok(()) };
    for device in made {
        if let Err(error) = run("pvremove", &[device]).await {
            tracing::warn!(%error, "a physical volume that was just made is left");
        }
    }
    Err(error)
}

/// Removes the group and takes its devices from LVM. Errors: code 1 with what the programs said.
pub async fn delete(def: &PoolDef) -> Result<()> {
    run("vgremove", &["-f".to_string(), group(def)?.to_string()]).await?;
    for device in &def.source.devices {
        run("pvremove", std::slice::from_ref(&device.path)).await?;
    }
    Ok(())
}

/// The arguments of lvcreate for a new volume: one that takes all its room, a copy-on-write view of another, or one that
/// takes room as it is written to. Errors: code 67 for a name or form that LVM does not have.
pub fn create_arguments(def: &PoolDef, volume: &VolumeDef) -> Result<Vec<String>> {
    let group = group(def)?;
    let name = &volume.name;
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'_' | b'.' | b'-');
    if name.starts_with('-') || !name.bytes().all(known) {
        return Err(Error::unsupported_config(format!(
            "'{name}' cannot be the name of a logical volume: letters, digits and + _ . - make one"
        )));
    }
    if volume.target.encryption.is_some() {
        return Err(Error::unsupported_config(format!(
            "logical volume '{name}' cannot be made with <encryption> here"
        )));
    }
    let kib = |bytes: u64| format!("{}K", bytes.div_ceil(1024).max(1));
    let sparse = volume.allocation != volume.capacity;
    // Or it asks, on a terminal there is none of, whether remains of an earlier volume may go.
    let mut arguments: Vec<String> = ["--yes", "--name", name, "-L"].map(String::from).into();
    arguments.push(kib(if sparse { volume.allocation } else { volume.capacity }));
    match &volume.backing {
        Some(backing) if backing.path.starts_with('/') => arguments.extend(["-s".to_string(), backing.path.clone()]),
        Some(backing) => {
            let what = format!("backing store '{}' of '{name}' must be an absolute path", backing.path);
            return Err(Error::unsupported_config(what));
        }
        None => {
            if sparse {
                arguments.extend(["--type", "snapshot", "--virtualsize"].map(String::from));
                arguments.push(kib(volume.capacity));
            }
            arguments.push(group.to_string());
        }
    }
    Ok(arguments)
}

/// Makes a volume of the group. Errors: as [`create_arguments`], and code 1 with what lvcreate said.
pub async fn create(def: &PoolDef, volume: &VolumeDef) -> Result<()> {
    run("lvcreate", &create_arguments(def, volume)?).await.map(drop)
}

/// Removes a volume of the group; LVM refuses while it is open. Errors: code 1 with what lvremove said.
pub async fn remove(def: &PoolDef, volume: &str) -> Result<()> {
    run("lvremove", &["-f".to_string(), format!("{}/{volume}", group(def)?)]).await.map(drop)
}

/// Sizes of the group and its volumes. Errors: code 1 with what the programs said.
pub async fn refresh(def: &PoolDef) -> Result<(Usage, BTreeMap<String, VolumeDef>)> {
    let name = group(def)?;
    let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
    let common = ["--noheadings", "--units", "b", "--nosuffix"];
    let mut sizes = words(&["--separator", ":"]);
    sizes.extend(words(&common));
    sizes.extend(words(&["--options", "vg_size,vg_free", name]));
    let usage = run("vgs", &sizes).await?;
    let usage = parse_group(&usage).ok_or_else(|| Error::internal(format!("vgs says of '{name}': '{usage}'")))?;
    let mut list = words(&["--separator", "#"]);
    list.extend(words(&common));
    list.extend(words(&["--options", "lv_name,lv_uuid,lv_size,lv_attr,devices,seg_size,vg_extent_size", name]));
    let listed = run("lvs", &list).await?;
    let path = def.target.path.clone().unwrap_or_else(|| format!("/dev/{name}"));
    Ok((usage, parse_volumes(&listed, &path)))
}

fn parse_group(text: &str) -> Option<Usage> {
    let (size, free) = text.trim().split_once(':')?;
    let (capacity, available): (u64, u64) = (size.parse().ok()?, free.parse().ok()?);
    Some(Usage { capacity, allocation: capacity.saturating_sub(available), available })
}

/// One line per segment; a volume may have several.
fn parse_volumes(text: &str, path: &str) -> BTreeMap<String, VolumeDef> {
    let mut volumes = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.trim().split('#').collect();
        let [name, uuid, size, attributes, devices, segment, extent] = fields[..] else { continue };
        // Snapshots' and mirrors' inner volumes are shown in brackets; a thin pool is no volume, and what is not
        // active has no device.
        let hidden = name.starts_with('[') || matches!(attributes.as_bytes().first(), Some(b't' | b'e' | b'l' | b'i'));
        if hidden || attributes.as_bytes().get(4) != Some(&b'a') {
            continue;
        }
        let Ok(size) = size.parse::<u64>() else { continue };
        let def = volumes.entry(name.to_string()).or_insert_with(|| VolumeDef {
            kind: VolumeKind::Block,
            name: name.to_string(),
            key: Some(uuid.to_string()),
            capacity: size,
            allocation: size,
            physical: Some(size),
            target: VolumeTarget { path: Some(format!("{path}/{name}")), ..Default::default() },
            ..Default::default()
        });
        let (Ok(segment), Ok(extent)) = (segment.parse::<u64>(), extent.parse::<u64>()) else { continue };
        for device in devices.split(',') {
            let Some((device, first)) = device.strip_suffix(')').and_then(|device| device.rsplit_once('(')) else {
                continue;
            };
            let Ok(first) = first.parse::<u64>() else { continue };
            let start = first.saturating_mul(extent);
            def.extents.push(Extent { device: device.to_string(), start, end: start.saturating_add(segment) });
        }
    }
    volumes
}

async fn run(name: &str, arguments: &[String]) -> Result<String> {
    let options = exec::Options { timeout: LIMIT, ..exec::Options::default() };
    Ok(exec::run(&program(name)?, arguments, options).await?.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::pool::parse;
    use crate::disk::volume::BackingStore;

    #[test]
    fn what_lvm_says_is_read() {
        assert_eq!(parse_group("  1000:400\n"), Some(Usage { capacity: 1000, allocation: 600, available: 400 }));
        assert_eq!(parse_group("  WARNING\n"), None);
        let text = "  a#u-1#8388608#-wi-a-----#/dev/sda(0)#4194304#4194304\n  a#u-1#8388608#-wi-a-----#/dev/sdb(3)#4194304#4194304\n  \
                    off#u-2#8388608#-wi-------#/dev/sda(9)#8388608#4194304\n  thin#u-3#8388608#twi-aotz--#x#1#1\n  nonsense\n";
        let volumes = parse_volumes(text, "/dev/vg");
        assert_eq!(volumes.keys().collect::<Vec<_>>(), ["a"]);
        let a = &volumes["a"];
        assert_eq!((a.capacity, a.key.as_deref(), a.target.path.as_deref()), (8 << 20, Some("u-1"), Some("/dev/vg/a")));
        assert_eq!(a.extents[1], Extent { device: "/dev/sdb".into(), start: 12 << 20, end: 16 << 20 });
    }

    #[test]
    fn what_lvcreate_is_told() {
        let pool = parse("<pool type='logical'><name>p</name><source><name>vg</name></source></pool>").unwrap().def;
        let mut volume =
            VolumeDef { name: "v".into(), capacity: 10 << 20, allocation: 10 << 20, ..VolumeDef::default() };
        let words = |volume: &VolumeDef| create_arguments(&pool, volume).unwrap()[1..].join(" ");
        assert_eq!(words(&volume), "--name v -L 10240K vg");
        volume.allocation = 0;
        assert_eq!(words(&volume), "--name v -L 1K --type snapshot --virtualsize 10240K vg");
        volume.backing = Some(BackingStore { path: "/dev/vg/base".into(), ..BackingStore::default() });
        volume.allocation = 4 << 20;
        assert_eq!(words(&volume), "--name v -L 4096K -s /dev/vg/base");
        for name in ["-f", "a b", "a\nb"] {
            let named = VolumeDef { name: name.into(), ..volume.clone() };
            assert!(create_arguments(&pool, &named).unwrap_err().message().contains("name of a logical volume"));
        }
        volume.backing = Some(BackingStore { path: "-f".into(), ..BackingStore::default() });
        assert!(create_arguments(&pool, &volume).unwrap_err().message().contains("absolute"));
    }

    #[test]
    fn a_name_is_no_option() {
        let def = parse("<pool type='logical'><name>-f</name></pool>").unwrap().def;
        assert!(group(&def).unwrap_err().message().contains("cannot be the name of a volume group"));
    }

    #[tokio::test]
    async fn missing_programs_are_named() {
        if program("vgchange").is_ok() {
            println!("SKIP missing_programs_are_named: LVM is installed");
            return;
        }
        let def = parse("<pool type='logical'><name>vg</name></pool>").unwrap().def;
        let error = start(&def).await.unwrap_err();
        assert!(error.message().contains("Cannot find 'vgchange' in path"), "{error}");
        assert!(error.message().contains("lvm2"), "{error}");
    }
}
