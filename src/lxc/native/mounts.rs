//! `lxc.rootfs` and `lxc.mount.entry`.

use super::conf::{Conf, Entry};
use super::limits::bytes;
use crate::domain_xml::device::{Filesystem, FilesystemType, FsAccessMode, FsSource};
use crate::error::{Code, Result};

/// The root and everything mounted in it.
pub(super) fn filesystems(conf: &Conf<'_>) -> Result<Vec<Filesystem>> {
    if let Some(table) = conf.first(&["lxc.mount.fstab", "lxc.mount"]) {
        let what = "lxc.mount.fstab or lxc.mount found, use lxc.mount.entry lines instead";
        return Err(table.error(Code::ArgumentUnsupported, what));
    }
    let Some(root) = conf.first(&["lxc.rootfs.path", "lxc.rootfs"]) else {
        return Err(crate::error::Error::invalid_arg(
            "the configuration names no root file system: add a line lxc.rootfs.path = DIRECTORY",
        ));
    };
    let mut all = vec![with_source(root_path(root)?, "/".into(), false)];
    for entry in conf.all(&["lxc.mount.entry"]) {
        all.extend(mount(entry)?);
    }
    Ok(all)
}

/// LXC writes the kind of storage before the path, `dir:/srv/web`.
fn root_path(root: Entry<'_>) -> Result<&str> {
    const OTHERS: [&str; 9] = ["aufs", "btrfs", "dir", "loop", "lvm", "nbd", "overlay", "overlayfs", "zfs"];
    match root.value.split_once(':') {
        Some(("btrfs" | "dir" | "lvm", path)) if path.starts_with('/') => Ok(path),
        Some((kind, _)) if OTHERS.contains(&kind) => {
            let what = format!("a root on '{kind}' cannot be expressed: mount it and give the directory");
            Err(root.error(Code::ConfigUnsupported, what))
        }
        _ => Ok(root.value),
    }
}

/// A device node is a file system of its own, anything else a directory.
fn with_source(source: &str, target: String, readonly: bool) -> Filesystem {
    let kind = if source.starts_with("/dev/") { FilesystemType::Block } else { FilesystemType::Mount };
    let source = FsSource { path: Some(source.to_string()), ..FsSource::default() };
    Filesystem { kind, accessmode: Some(FsAccessMode::Passthrough), source, target, readonly, ..Filesystem::default() }
}

/// One line of fstab(5). `None`: `/proc` and `/sys`, which every container has.
fn mount(entry: Entry<'_>) -> Result<Option<Filesystem>> {
    let mut fields = entry.value.split_whitespace();
    let (Some(source), Some(target), Some(kind), Some(options)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        let what = format!("'{}' is no mount: expected SOURCE TARGET TYPE OPTIONS as in fstab", entry.value);
        return Err(entry.error(Code::InternalError, what));
    };
    let target = format!("/{}", target.trim_start_matches('/'));
    if target == "/proc" || target == "/sys" {
        return Ok(None);
    }
    let mut options = options.split(',');
    let readonly = options.clone().any(|option| option == "ro");
    if kind != "tmpfs" {
        return Ok(Some(with_source(&unescaped(source), unescaped(&target), readonly)));
    }
    let Some(size) = options.find_map(|option| option.strip_prefix("size=")) else {
        return Err(entry.error(Code::InternalError, "missing tmpfs size, set the size option"));
    };
    if size.ends_with('%') {
        return Err(entry.error(Code::InternalError, format!("can't convert relative size: '{size}'")));
    }
    Ok(Some(Filesystem {
        kind: FilesystemType::Ram,
        accessmode: Some(FsAccessMode::Passthrough),
        source: FsSource { usage: Some(bytes(entry, size)? / 1024), ..FsSource::default() },
        target: unescaped(&target),
        readonly,
        ..Filesystem::default()
    }))
}

/// fstab's octal escapes of blanks.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &str) -> Result<Option<Filesystem>> {
        mount(Entry { line: 7, key: "lxc.mount.entry", value })
    }

    #[test]
    fn kinds_of_mounts() {
        let dir = one("/srv/a\\040b mnt/x none rw,bind,create=dir 0 0").unwrap().unwrap();
        assert_eq!((dir.kind, dir.source.path.as_deref()), (FilesystemType::Mount, Some("/srv/a b")));
        assert_eq!((dir.target.as_str(), dir.readonly), ("/mnt/x", false));
        let block = one("/dev/sda1 /b ext4 ro").unwrap().unwrap();
        assert_eq!((block.kind, block.readonly), (FilesystemType::Block, true));
        let ram = one("tmpfs run tmpfs nodev,size=4M 0 0").unwrap().unwrap();
        assert_eq!((ram.kind, ram.source.usage), (FilesystemType::Ram, Some(4096)));
        assert!(one("proc proc proc nodev 0 0").unwrap().is_none());
        assert!(one("/sys sys none bind 0 0").unwrap().is_none());
    }

    #[rstest::rstest]
    #[case("/a b none", "expected SOURCE TARGET")]
    #[case("tmpfs b tmpfs defaults 0 0", "missing tmpfs size")]
    #[case("tmpfs b tmpfs size=10% 0 0", "can't convert relative size: '10%'")]
    #[case("tmpfs b tmpfs size=5x 0 0", "failed to convert size: '5x'")]
    fn mounts_that_are_none(#[case] value: &str, #[case] why: &str) {
        let message = one(value).unwrap_err().message();
        assert!(message.contains(why) && message.contains("line 7"), "{message}");
    }

    #[test]
    fn kinds_of_roots() {
        let root = |value| Entry { line: 1, key: "lxc.rootfs.path", value };
        assert_eq!(root_path(root("dir:/r")).unwrap(), "/r");
        assert_eq!(root_path(root("/a:/b")).unwrap(), "/a:/b");
        assert!(root_path(root("overlay:/a:/b")).unwrap_err().message().contains("'overlay'"));
    }
}
