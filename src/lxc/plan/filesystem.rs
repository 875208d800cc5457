//! `<filesystem>`: the root and what is mounted in it.

use std::path::PathBuf;

use super::Host;
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{Filesystem, FilesystemType, FsDriverType};
use crate::error::{Error, Result};
use crate::lxc::spec::{Mount, MountSource, Root};

/// Kernel directories a target may not be or be below, however it is spelled. Checked again where links are resolved.
const KERNEL_DIRS: [&str; 3] = ["proc", "sys", "dev"];

pub(super) fn plan(def: &DomainDef, host: &Host) -> Result<(Root, Vec<Mount>)> {
    let mut root = None;
    let mut mounts = Vec::new();
    for fs in &def.filesystems {
        let target = normalize(&fs.target)?;
        if target == "/" {
            if root.is_some() {
                return Err(Error::unsupported_config(
                    "two <filesystem> elements have the target '/': a container has one root",
                ));
            }
            root = Some(root_of(fs, host)?);
        } else {
            mounts.push(Mount { source: source_of(fs, host)?, target, readonly: fs.readonly });
        }
    }
    Ok((root.unwrap_or(Root::HostOverlay { size: host.scratch_size }), mounts))
}

/// An absolute path without `.`, `..` and double slashes; `..` never leads above `/`, as in a root.
fn normalize(target: &str) -> Result<String> {
    if !target.starts_with('/') {
        return Err(Error::unsupported_config(format!(
            "filesystem target '{target}' must be an absolute path inside the container"
        )));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    match parts.as_slice() {
        ["dev", "shm" | "hugepages", ..] => {}
        [first, ..] if KERNEL_DIRS.contains(first) => {
            return Err(Error::unsupported_config(format!(
                "filesystem target '{target}' is in /{first}, which the container's own kernel file systems cover: \
                 choose another target"
            )));
        }
        _ => {}
    }
    Ok(format!("/{}", parts.join("/")))
}

fn path(fs: &Filesystem) -> Result<PathBuf> {
    match &fs.source.path {
        Some(path) if path.starts_with('/') => Ok(path.into()),
        Some(path) => Err(Error::unsupported_config(format!(
            "filesystem source '{path}' for target '{}' must be an absolute path",
            fs.target
        ))),
        None => Err(Error::unsupported_config(format!("filesystem with target '{}' has no source", fs.target))),
    }
}

fn loop_driver(fs: &Filesystem) -> Result<()> {
    match fs.driver.kind {
        None | Some(FsDriverType::Loop) => Ok(()),
        Some(other) => Err(Error::unsupported_config(format!(
            "filesystem driver type {other} is not supported for target '{}': use type='loop' format='raw'",
            fs.target
        ))),
    }
}

/// Bytes.
fn ram_size(fs: &Filesystem) -> Option<u64> {
    fs.source.usage.map(|kib| kib.saturating_mul(1024))
}

fn root_of(fs: &Filesystem, host: &Host) -> Result<Root> {
    Ok(match fs.kind {
        FilesystemType::Mount if fs.source.path.as_deref() == Some("/") => {
            // The host's own root read-write is the one thing a container never gets.
            Root::HostOverlay { size: host.scratch_size }
        }
        FilesystemType::Mount => Root::Dir { source: path(fs)?, readonly: fs.readonly },
        FilesystemType::Template => Root::Overlay {
            lower: vec![path(fs)?],
            upper: host.overlay_dir.join("upper"),
            work: host.overlay_dir.join("work"),
        },
        FilesystemType::File | FilesystemType::Block => {
            loop_driver(fs)?;
            Root::Image {
                source: path(fs)?,
                fstype: host.image_fstype.clone(),
                loop_device: fs.kind == FilesystemType::File,
                readonly: fs.readonly,
            }
        }
        FilesystemType::Ram => Root::Ram { size: ram_size(fs) },
        FilesystemType::Bind | FilesystemType::Volume => {
            return Err(Error::unsupported_config(format!(
                "filesystem type '{}' cannot be the root of a container: use mount, template, file, block or ram",
                fs.kind
            )));
        }
    })
}

fn source_of(fs: &Filesystem, host: &Host) -> Result<MountSource> {
    Ok(match fs.kind {
        FilesystemType::Mount => MountSource::Dir { path: path(fs)? },
        FilesystemType::Bind => MountSource::Inside { path: path(fs)?.to_string_lossy().into_owned() },
        FilesystemType::Ram => MountSource::Ram { size: ram_size(fs) },
        FilesystemType::File | FilesystemType::Block => {
            loop_driver(fs)?;
            MountSource::Image {
                path: path(fs)?,
                fstype: host.image_fstype.clone(),
                loop_device: fs.kind == FilesystemType::File,
            }
        }
        FilesystemType::Template | FilesystemType::Volume => {
            return Err(Error::unsupported_config(format!(
                "filesystem type '{}' is not supported for target '{}'",
                fs.kind, fs.target
            )));
        }
    })
}
