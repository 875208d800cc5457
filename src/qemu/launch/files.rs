//! Everything of a start that touches the file system: chains, rights, ownership, descriptors, QEMU's log.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::disk::access::{self, Who};
use crate::disk::{Format, chain, owner, passphrase};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{Backing, StorageFormat, StorageKind, StorageSource};
use crate::engine::secret::GuestSecrets;
use crate::engine::undo::Step;
use crate::error::{Error, Result};
use crate::qemu::capabilities::{QemuCaps, open_kvm};
use crate::qemu::command::{self, CommandPlan, FdKind, SecretContent};
use crate::qemu::config::{Identity, QemuConfig};
use crate::sys::sock;

/// A change of ownership that a start makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerChange {
    /// Links resolved, so that a later undo finds the same file.
    pub path: PathBuf,
    pub old: (u32, u32),
    pub new: (u32, u32),
}

impl OwnerChange {
    /// The undo step.
    pub fn step(&self) -> Step {
        Step::Owner { path: self.path.clone(), uid: self.old.0, gid: self.old.1 }
    }
}

/// A file the guest needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    pub path: String,
    /// `disk vda`, `backing file of vda`, `kernel` ...
    pub purpose: String,
    pub write: bool,
}

/// Every file that QEMU itself opens.
pub fn needed(live: &DomainDef) -> Vec<Needed> {
    let mut out = Vec::new();
    for disk in &live.disks {
        let mut layer = Some(&disk.source);
        let mut depth = 0;
        while let Some(source) = layer {
            if matches!(source.kind, StorageKind::File | StorageKind::Block)
                && let Some(path) = &source.path
            {
                let purpose = if depth == 0 { "disk" } else { "backing file of" };
                let write = depth == 0 && !disk.readonly;
                out.push(Needed { path: path.clone(), purpose: format!("{purpose} {}", disk.dev()), write });
            }
            depth += 1;
            layer = match &source.backing {
                Backing::Layer(below) => Some(below),
                _ => None,
            };
        }
    }
    let os = &live.os;
    let loader = os.loader.as_ref().and_then(|loader| loader.path.clone());
    let files = [("kernel", &os.kernel), ("initrd", &os.initrd), ("device tree", &os.dtb), ("loader", &loader)];
    for (purpose, path) in files {
        if let Some(path) = path {
            out.push(Needed { path: path.clone(), purpose: purpose.to_string(), write: false });
        }
    }
    out
}

fn last_layer(source: &mut StorageSource) -> &mut StorageSource {
    match source.backing {
        Backing::Layer(ref mut below) => last_layer(below),
        _ => source,
    }
}

/// Fills in the layers of chains that the definition leaves open: from the headers of the images above them, never
/// from what a raw image holds.
pub fn complete_chains(live: &mut DomainDef) -> Result<()> {
    for disk in &mut live.disks {
        let dev = disk.dev().to_string();
        let layer = last_layer(&mut disk.source);
        if let (StorageKind::Network, Backing::Unknown, Some(network)) = (layer.kind, &layer.backing, &layer.network) {
            // QEMU would open whatever the header names, and it can open the disks of other guests.
            let format = layer.format.unwrap_or(StorageFormat::Raw);
            if format != StorageFormat::Raw {
                return Err(Error::unsupported_config(format!(
                    "what the {format} image of disk '{dev}' lies on cannot be looked up over '{}': say it with \
                     <backingStore>, or <backingStore/> for nothing",
                    network.protocol
                )));
            }
            layer.backing = Backing::End;
            continue;
        }
        if !matches!(layer.kind, StorageKind::File | StorageKind::Block) || layer.backing != Backing::Unknown {
            continue;
        }
        let (Some(path), Some(format)) = (layer.path.clone(), layer.format) else { continue };
        let Some(format) = Format::parse(format.as_str()) else { continue };
        let mut below = Backing::End;
        if format != Format::Raw {
            for found in chain::resolve(Path::new(&path), format)?.into_iter().skip(1).rev() {
                let format = found.format.as_str().parse().unwrap_or(StorageFormat::Raw);
                let mut source = StorageSource::file(found.path.display().to_string(), format);
                if std::fs::metadata(&found.path).is_ok_and(|metadata| metadata.file_type().is_block_device()) {
                    source.kind = StorageKind::Block;
                }
                source.backing = below;
                below = Backing::Layer(Box::new(source));
            }
        }
        layer.backing = below;
    }
    Ok(())
}

/// What a look at one file gives: the change of owner it needs, if any.
///
/// libvirt gives every image of a chain to QEMU's user. Here the images written to change hands, and a file that is
/// only read does so when that user could not read it otherwise: a base image keeps its owner if it is readable.
pub fn examine(file: &Needed, config: &QemuConfig, identity: &Identity) -> Result<Option<OwnerChange>> {
    let who = Who { uid: identity.uid, gid: identity.gid, groups: identity.groups.clone() };
    let path = Path::new(&file.path);
    let own_mode = match access::check(path, &who, file.write) {
        Ok(()) => false,
        Err(problem) if problem.is_own_mode() && config.dynamic_ownership => true,
        Err(problem) => {
            let purpose = &file.purpose;
            let error = Error::from(problem);
            let detail = format!("{} ({purpose})", error.detail);
            return Err(Error { detail, ..error });
        }
    };
    if !config.dynamic_ownership || !(file.write || own_mode) {
        return Ok(None);
    }
    let old = owner::current(path)?;
    if old.0 == identity.uid {
        return Ok(None);
    }
    let real = std::fs::canonicalize(path)
        .map_err(|error| Error::system(format!("Cannot access storage file '{}'", file.path), error))?;
    Ok(Some(OwnerChange { path: real, old, new: (identity.uid, identity.gid) }))
}

/// Checks every file the guest needs and says whose owner has to change.
pub fn preflight(live: &DomainDef, config: &QemuConfig, identity: &Identity) -> Result<Vec<OwnerChange>> {
    let mut changes: Vec<OwnerChange> = Vec::new();
    for file in needed(live) {
        if let Some(change) = examine(&file, config, identity)?
            && !changes.contains(&change)
        {
            changes.push(change);
        }
    }
    Ok(changes)
}

/// Carries out the changes.
pub fn give(changes: &[OwnerChange]) -> Result<()> {
    changes.iter().try_for_each(|change| owner::give(&change.path, change.new.0, change.new.1))
}

/// What the secret objects of a guest hold, by their ids, as files in memory.
pub fn secret_files(live: &DomainDef, secrets: &GuestSecrets) -> Result<HashMap<String, OwnedFd>> {
    let mut files = HashMap::new();
    for disk in &live.disks {
        for layer in std::iter::once(&disk.source).chain(disk.source.chain()) {
            for secret in command::secrets(layer)? {
                let file = match secret.content {
                    SecretContent::Of(purpose, named) => {
                        passphrase::file(secrets.value(layer, purpose, named)?.bytes())?
                    }
                    SecretContent::Cookies(cookies) => passphrase::file(SecretContent::cookies(cookies).as_bytes())?,
                };
                files.insert(secret.id, file);
            }
        }
    }
    Ok(files)
}

/// Whether vhost-net can be used.
pub fn vhost_usable() -> bool {
    Path::new("/dev/vhost-net").exists()
}

/// A listening socket.
pub fn listen(path: &Path, mode: u32) -> Result<OwnedFd> {
    sock::listen(path, mode, 8, false)
        .map_err(|error| Error::system(format!("Unable to listen on socket '{}'", path.display()), error))
}

/// A connection to it.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    sock::connect(path)
        .map_err(|error| Error::system(format!("failed to connect to monitor socket '{}'", path.display()), error))
}

/// A new file only root can read.
pub fn create_private(path: &Path) -> Result<OwnedFd> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map(OwnedFd::from)
        .map_err(|error| Error::system(format!("cannot create '{}'", path.display()), error))
}

/// Opens one planned descriptor.
pub fn open(kind: &FdKind, identity: &Identity) -> Result<OwnedFd> {
    match kind {
        FdKind::Monitor => Err(Error::internal("the monitor socket is opened apart")),
        FdKind::Secret { id } => Err(Error::internal(format!("nothing is known of secret '{id}'"))),
        FdKind::Tap { nic, .. } => Err(Error::internal(format!("the tap of interface {nic} was not plugged"))),
        FdKind::Vhost { .. } => device("/dev/vhost-net"),
        FdKind::Kvm => open_kvm().ok_or_else(|| Error::system("cannot open /dev/kvm", std::io::Error::last_os_error())),
        FdKind::Log { path, truncate } => {
            let options = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .custom_flags(OFlags::NOCTTY.bits() as i32)
                .open(path);
            let file = options.map_err(|error| Error::system(format!("Unable to open file '{path}'"), error))?;
            // Only a plain file has a length to cut; a device given as a "file" has none.
            if *truncate && file.metadata().is_ok_and(|metadata| metadata.is_file()) {
                file.set_len(0).map_err(|error| Error::system(format!("cannot empty '{path}'"), error))?;
            }
            Ok(file.into())
        }
        FdKind::Listen { path } => {
            let path = Path::new(path);
            let socket = listen(path, 0o660)?;
            std::os::unix::fs::chown(path, Some(identity.uid), Some(identity.gid))
                .map_err(|error| Error::system(format!("cannot change the owner of '{}'", path.display()), error))?;
            Ok(socket)
        }
    }
}

fn device(path: &str) -> Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.map(OwnedFd::from).map_err(|error| Error::system(format!("Unable to open '{path}'"), error))
}

/// QEMU's log, for appending; the directory is the engine's.
pub fn open_log(path: &Path) -> Result<OwnedFd> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)
            .map_err(|error| Error::system(format!("cannot create directory '{}'", dir.display()), error))?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map(OwnedFd::from)
        .map_err(|error| Error::system(format!("failed to open logfile '{}'", path.display()), error))
}

/// Writes who starts what, as libvirt does; gives the position where QEMU's own words begin.
pub fn write_header(log: &OwnedFd, plan: &CommandPlan, caps: &QemuCaps) -> Result<u64> {
    let failed = |error| Error::system("cannot write to QEMU's log", error);
    let mut file = File::from(log.try_clone().map_err(failed)?);
    let time = crate::qemu::command::iso_time(super::prepare::now()).replace('T', " ");
    let mut text = format!(
        "{time}.000+0000: starting up domus version: {}, qemu version: {}{}\n{}",
        env!("CARGO_PKG_VERSION"),
        caps.version_text(),
        caps.package,
        plan.program
    );
    for arg in &plan.args {
        // One option per line, quoted where a shell would need it.
        let option = arg.starts_with('-') && arg.len() > 1;
        text.push_str(if option { " \\\n" } else { " " });
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:=/@%+".contains(c);
        match arg.chars().all(plain) && !arg.is_empty() {
            true => text.push_str(arg),
            false => text.push_str(&format!("'{}'", arg.replace('\'', "'\\''"))),
        }
    }
    text.push('\n');
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.metadata().map(|metadata| metadata.size()).map_err(failed)
}

/// What was written to a log from a position on, at most 16 KiB of it.
pub fn read_from(path: &Path, start: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(size.saturating_sub(16 * 1024))))?;
        let mut bytes = Vec::new();
        file.take(16 * 1024).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
