//! The files of a directory as volumes: what a pool's refresh finds.
//!
//! A volume that is damaged, vanishes meanwhile or cannot be opened is told of and does not stop the others. Names that
//! XML cannot hold, and files that are still being made (`*.part`), are left out. Backing chains are not followed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use super::encryption::VolumeEncryption;
use super::model::*;
use super::sniff::{Sniffed, sniff};
use crate::disk::permissions::Permissions;
use crate::domain_xml::device::EncryptionFormat;
use crate::error::{Error, Result};

/// The end of a name that a file has while it is made; it is renamed when it is whole.
pub const PART: &str = ".part";

/// Files known to be raw: name and inode. A guest may have written a header of another format into such a file since.
pub type KnownRaw = BTreeMap<String, u64>;

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Found {
    /// By name.
    pub volumes: BTreeMap<String, VolumeDef>,
    /// To be remembered for the next time.
    pub raw: KnownRaw,
    /// What is wrong with which file.
    pub problems: Vec<(String, Error)>,
}

/// Looks at all files of the directory `path`. `known` is what the former look remembered. Errors: code 38 when the
/// directory itself cannot be read.
pub fn scan(path: &Path, known: &KnownRaw) -> Result<Found> {
    let failed = |errno: Errno| cannot_open(path, errno);
    let directory = open_directory(path)?;
    let mut found = Found::default();
    for entry in Dir::read_from(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = match entry.file_name().to_str() {
            Ok("." | "..") => continue,
            Ok(name) if name.chars().any(|c| c.is_control()) || name.ends_with(PART) => continue,
            Ok(name) => name.to_string(),
            Err(_) => continue,
        };
        match look(&directory, path, &name, known) {
            Ok(Some(volume)) => {
                let Looked { def, inode, problem } = volume;
                let raw = def.file_format() == FileFormat::Raw && def.target.encryption.is_none();
                if raw && def.kind == VolumeKind::File && def.capacity > 0 {
                    found.raw.insert(name.clone(), inode);
                }
                if let Some(problem) = problem {
                    let what = format!("volume '{name}' in '{}': {problem}", path.display());
                    found.problems.push((name.clone(), Error::internal(what)));
                }
                found.volumes.insert(name, def);
            }
            Ok(None) => {}
            Err(error) => found.problems.push((name, error)),
        }
    }
    Ok(found)
}

/// Looks at the one file `name` of the directory `path`. `None` when it is no volume. Errors: code 38.
pub fn scan_one(path: &Path, name: &str, known: &KnownRaw) -> Result<Option<VolumeDef>> {
    let directory = open_directory(path)?;
    Ok(look(&directory, path, name, known)?.map(|looked| looked.def))
}

/// Opens a pool's directory. A path that is a symbolic link is followed: it was an administrator who defined it.
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| cannot_open(path, errno))
}

fn cannot_open(path: &Path, errno: Errno) -> Error {
    let error = Error::system(format!("cannot open directory '{}'", path.display()), errno.into());
    match std::fs::read_link(path) {
        Ok(target) => {
            Error { detail: format!("{} (it is a symbolic link to '{}')", error.detail, target.display()), ..error }
        }
        Err(_) => error,
    }
}

struct Looked {
    def: VolumeDef,
    inode: u64,
    problem: Option<String>,
}

fn look(directory: &OwnedFd, path: &Path, name: &str, known: &KnownRaw) -> Result<Option<Looked>> {
    let file_path = path.join(name);
    let failed =
        |what: &str, errno: Errno| Error::system(format!("cannot {what} '{}'", file_path.display()), errno.into());
    let stat = match statx(directory, Path::new(name)) {
        Ok(stat) => stat,
        // It vanished, or is a link that leads nowhere.
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(failed("look at", errno)),
    };
    let kind = match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::RegularFile => VolumeKind::File,
        FileType::BlockDevice => VolumeKind::Block,
        FileType::Directory => VolumeKind::Dir,
        // Opening a pipe, a socket or a terminal may do something; none is an image.
        _ => return Ok(None),
    };
    let mut def = VolumeDef {
        kind,
        name: name.to_string(),
        key: Some(file_path.display().to_string()),
        target: VolumeTarget {
            path: Some(file_path.display().to_string()),
            format: Some(VolumeFormat::File(if kind == VolumeKind::Dir { FileFormat::Dir } else { FileFormat::Raw })),
            permissions: permissions(&stat),
            timestamps: Some(timestamps(&stat)),
            ..Default::default()
        },
        ..Default::default()
    };
    if kind == VolumeKind::Dir {
        return Ok(Some(Looked { def, inode: stat.stx_ino, problem: None }));
    }
    let is_known = known.get(name) == Some(&stat.stx_ino);
    if is_known && kind == VolumeKind::File {
        set_lengths(&mut def, &stat);
        return Ok(Some(Looked { def, inode: stat.stx_ino, problem: None }));
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(failed("open volume", errno)),
    };
    let read = |error: std::io::Error| Error::system(format!("cannot read header '{}'", file_path.display()), error);
    if kind == VolumeKind::Block {
        // A device's stat says 0; its end is where it can be sought to. It is used as a whole.
        let length = file.seek(SeekFrom::End(0)).map_err(read)?;
        (def.capacity, def.allocation, def.physical) = (length, length, Some(length));
        return Ok(Some(Looked { def, inode: stat.stx_ino, problem: None }));
    }
    set_lengths(&mut def, &stat);
    let sniffed = sniff(&file, stat.stx_size).map_err(read)?;
    let problem = describe(&mut def, sniffed, directory, path);
    Ok(Some(Looked { def, inode: stat.stx_ino, problem }))
}

fn set_lengths(def: &mut VolumeDef, stat: &Statx) {
    let length = stat.stx_size;
    (def.capacity, def.allocation, def.physical) = (length, stat.stx_blocks.saturating_mul(512), Some(length));
}

/// Puts what a header says into the volume; gives what is wrong with it.
fn describe(def: &mut VolumeDef, sniffed: Sniffed, directory: &OwnedFd, path: &Path) -> Option<String> {
    let encrypted = |format| Some(VolumeEncryption { format, ..Default::default() });
    if let Some(format) = sniffed.format {
        def.target.format = Some(VolumeFormat::File(format));
    }
    if let Some(capacity) = sniffed.capacity {
        def.capacity = capacity;
    }
    if sniffed.luks {
        def.target.encryption = encrypted(EncryptionFormat::Luks);
    }
    if let Some(header) = sniffed.qcow2 {
        use crate::disk::qcow2::Encryption;
        def.target.encryption = match header.encryption {
            Encryption::Luks => encrypted(EncryptionFormat::Luks),
            Encryption::Aes => encrypted(EncryptionFormat::Qcow),
            Encryption::None | Encryption::Unknown(_) => None,
        };
        def.target.cluster_size = Some(1 << header.cluster_bits);
        if header.version >= 3 {
            def.target.compat = Some("1.1".to_string());
            def.target.features = Some(VolumeFeatures {
                lazy_refcounts: header.has_lazy_refcounts(),
                extended_l2: header.has_extended_l2(),
                data_file: header.data_file.is_some(),
            });
        }
        def.backing = header.backing_file.as_deref().map(|name| {
            let name = String::from_utf8_lossy(name);
            backing(directory, path, &name, header.backing_format.as_deref())
        });
    }
    sniffed.problem
}

/// The backing file as the header names it. It is looked at only if it is in the pool's own directory: any other name
/// is anybody's, and looking may take for ever.
fn backing(directory: &OwnedFd, path: &Path, name: &str, format: Option<&str>) -> BackingStore {
    let protocol = name.split('/').next().is_some_and(|start| start.contains(':'));
    let full = if protocol { name.to_string() } else { path.join(name).display().to_string() };
    let mut store = BackingStore {
        path: full,
        format: format.and_then(|word| word.parse().ok()).map(VolumeFormat::File),
        ..Default::default()
    };
    let inside = Path::new(&store.path).strip_prefix(path).ok().filter(|_| !protocol);
    if let Some(inside) = inside
        && inside.components().count() == 1
        && matches!(inside.components().next(), Some(Component::Normal(_)))
        && let Ok(stat) = statx(directory, inside)
    {
        store.permissions = permissions(&stat);
        store.timestamps = Some(timestamps(&stat));
    }
    store
}

fn statx(directory: &OwnedFd, name: &Path) -> rustix::io::Result<Statx> {
    rustix::fs::statx(directory, name, AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

fn permissions(stat: &Statx) -> Permissions {
    Permissions {
        mode: Some(u32::from(stat.stx_mode) & 0o777),
        owner: Some(stat.stx_uid),
        group: Some(stat.stx_gid),
        label: None,
    }
}

fn timestamps(stat: &Statx) -> Timestamps {
    let time = |time: StatxTimestamp| (time.tv_sec, i64::from(time.tv_nsec));
    Timestamps {
        accessed: time(stat.stx_atime),
        modified: time(stat.stx_mtime),
        changed: time(stat.stx_ctime),
        born: StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME).then(|| time(stat.stx_btime)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::qcow2::tests::{craft, put};
    use std::os::unix::fs::symlink;

    #[allow(clippy::disallowed_methods)] // input of a test
    fn write(path: &Path, bytes: &[u8]) {
        std::fs::write(path, bytes).unwrap();
    }

    const BACKING_FORMAT: u32 = 0xE279_2ACA;

    #[test]
    fn a_directory_with_everything_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        File::create(file("raw")).unwrap().set_len(1 << 20).unwrap();
        File::create(file("empty")).unwrap();
        File::create(file("new.part")).unwrap();
        write(&file("q.qcow2"), &craft(&[(BACKING_FORMAT, b"raw")], Some(b"raw")));
        write(&file("away.qcow2"), &craft(&[], Some(b"nbd://host/export")));
        write(&file("out.qcow2"), &craft(&[(BACKING_FORMAT, b"raw")], Some(b"../../etc/shadow")));
        write(&file("self.qcow2"), &craft(&[(BACKING_FORMAT, b"qcow2")], Some(b"self.qcow2")));
        let mut bad = craft(&[], None);
        put(&mut bad, 20, 63);
        write(&file("bad.qcow2"), &bad);
        write(&file("short.qcow2"), &craft(&[], None)[..60]);
        write(&file("c\u{1}"), b"x");
        std::fs::create_dir(file("sub")).unwrap();
        symlink(file("raw"), file("link")).unwrap();
        symlink("/nowhere", file("dangling")).unwrap();
        symlink("loop", file("loop")).unwrap();
        nix::unistd::mkfifo(&file("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        symlink("/dev/zero", file("zero")).unwrap();
        let found = scan(dir.path(), &KnownRaw::new()).unwrap();
        let names: Vec<&str> = found.volumes.keys().map(String::as_str).collect();
        let expected = [
            "away.qcow2",
            "bad.qcow2",
            "empty",
            "link",
            "out.qcow2",
            "q.qcow2",
            "raw",
            "self.qcow2",
            "short.qcow2",
            "sub",
        ];
        assert_eq!(names, expected);
        let damaged: Vec<&str> = found.problems.iter().map(|(name, _)| name.as_str()).collect();
        let mut sorted = damaged.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, ["bad.qcow2", "short.qcow2"]);
        let told = |name: &str| found.problems.iter().find(|(of, _)| of == name).unwrap().1.message();
        assert!(told("bad.qcow2").contains("says cluster bits 63, which cannot be"), "{}", told("bad.qcow2"));
        let overlay = &found.volumes["q.qcow2"];
        assert_eq!((overlay.file_format(), overlay.capacity), (FileFormat::Qcow2, 1 << 30));
        let backing = overlay.backing.as_ref().unwrap();
        assert_eq!(backing.path, file("raw").display().to_string());
        assert!(backing.timestamps.is_some());
        let away = found.volumes["away.qcow2"].backing.as_ref().unwrap();
        assert_eq!((away.path.as_str(), away.format, away.timestamps), ("nbd://host/export", None, None));
        assert_eq!(found.volumes["out.qcow2"].backing.as_ref().unwrap().timestamps, None, "looked at from outside");
        assert_eq!(found.volumes["bad.qcow2"].file_format(), FileFormat::Qcow2);
        assert_eq!(found.volumes["sub"].kind, VolumeKind::Dir);
        assert_eq!(found.volumes["raw"].capacity, 1 << 20);
    }

    #[test]
    fn what_was_raw_stays_raw() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        let first = scan(dir.path(), &KnownRaw::new()).unwrap();
        // The guest writes a header that names a file of the host.
        use std::os::unix::fs::FileExt;
        let guest = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        guest.write_all_at(&craft(&[], Some(b"/etc/shadow")), 0).unwrap();
        let second = scan(dir.path(), &first.raw).unwrap();
        assert_eq!(second.volumes["disk"].file_format(), FileFormat::Raw);
        assert_eq!(second.volumes["disk"].backing, None);
        assert_eq!(second.raw, first.raw, "also the next time");
        assert_eq!(scan(dir.path(), &KnownRaw::new()).unwrap().volumes["disk"].file_format(), FileFormat::Qcow2);
        // Another file of that name is another volume.
        write(&dir.path().join("new"), &craft(&[], None));
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(scan(dir.path(), &second.raw).unwrap().volumes["disk"].file_format(), FileFormat::Qcow2);
    }

    #[test]
    fn a_directory_that_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let told = |path: &Path| scan(path, &KnownRaw::new()).unwrap_err().message();
        assert!(told(&gone).ends_with("No such file or directory"), "{}", told(&gone));
        symlink(&gone, dir.path().join("link")).unwrap();
        let link = told(&dir.path().join("link"));
        assert!(link.contains("symbolic link to"), "{link}");
        File::create(&gone).unwrap();
        assert!(told(&gone).contains("Not a directory"));
    }

    #[test]
    fn ten_thousand_volumes_are_read_in_one_go() {
        let dir = tempfile::tempdir().unwrap();
        let header = craft(&[(BACKING_FORMAT, b"raw")], Some(b"base"));
        for number in 0..2_000 {
            write(&dir.path().join(format!("v{number}")), &header[..512]);
        }
        assert_eq!(scan(dir.path(), &KnownRaw::new()).unwrap().volumes.len(), 2_000);
    }
}
