//! The host's name, kernel and UUID.

use std::path::Path;

use nix::sys::utsname::uname;

use crate::error::{Error, Result};
use crate::types::Uuid;

/// The host's full name (`virConnectGetHostname`). As libvirt, which clients know hosts by: the kernel's name when it
/// has a dot, else the canonical name that /etc/hosts gives it, unless that is a localhost.
pub fn hostname() -> Result<String> {
    let name =
        nix::unistd::gethostname().map_err(|errno| Error::system("failed to determine host name", errno.into()))?;
    let name = name.to_string_lossy().into_owned();
    let hosts = std::fs::read("/etc/hosts").unwrap_or_default();
    Ok(full_name(&name, &String::from_utf8_lossy(&hosts)))
}

fn full_name(name: &str, hosts: &str) -> String {
    if name.starts_with("localhost") || name.contains('.') {
        return name.to_string();
    }
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut entries = lines.map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>());
    let canonical = entries.find(|names| names.contains(&name)).and_then(|names| names.first().copied());
    canonical.filter(|canonical| !canonical.starts_with("localhost")).unwrap_or(name).to_string()
}

/// The running kernel's version as libvirt numbers versions: major * 1,000,000 + minor * 1,000 + patch.
pub fn kernel_version() -> Result<u64> {
    let name = uname().map_err(|errno| Error::system("cannot read the kernel's name", errno.into()))?;
    let release = name.release().to_string_lossy();
    version(&release).ok_or_else(|| Error::internal(format!("cannot parse kernel release '{release}'")))
}

fn version(release: &str) -> Option<u64> {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    let mut numbers = release[..end].split('.').map(str::parse::<u64>);
    let major = numbers.next()?.ok()?;
    let mut next = || numbers.next().and_then(std::result::Result::ok).unwrap_or(0).min(999);
    Some(major * 1_000_000 + next() * 1_000 + next())
}

/// The host's UUID: the one in its firmware, else its machine id. `None` when it has neither.
pub fn uuid() -> Option<Uuid> {
    ["/sys/class/dmi/id/product_uuid", "/etc/machine-id"].iter().find_map(|path| from_file(Path::new(path)))
}

fn from_file(path: &Path) -> Option<Uuid> {
    let uuid: Uuid = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    // Firmware that was never given one says all zeros or all ones: libvirt takes neither, nor any single digit.
    let digits = uuid.to_string().replace('-', "");
    let single = digits.chars().all(|digit| digits.starts_with(digit));
    (!single).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let hosts = "127.0.0.1 localhost\n# 10.0.0.9 old.example node\n10.0.0.5 node.example node # us\n";
        assert_eq!(full_name("node", hosts), "node.example");
        assert_eq!(full_name("node.other", hosts), "node.other");
        assert_eq!(full_name("other", hosts), "other");
        assert_eq!(full_name("node", "127.0.0.1 localhost node\n"), "node");
        assert!(!hostname().unwrap().is_empty());
    }

    #[test]
    fn versions() {
        assert_eq!(version("6.12.9-amd64"), Some(6_012_009));
        assert_eq!(version("6.1"), Some(6_001_000));
        assert_eq!(version("5.15.0.1-generic"), Some(5_015_000));
        assert_eq!(version("x"), None);
        assert!(kernel_version().unwrap() > 3_000_000);
    }

    #[test]
    fn uuids_that_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uuid");
        let read = |text: &str| {
            std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
            from_file(&path).map(|uuid| uuid.to_string())
        };
        assert_eq!(read("00000000-0000-0000-0000-000000000000\n"), None);
        assert_eq!(read("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n"), None);
        assert_eq!(read("Not Settable\n"), None);
        assert_eq!(read("3d1219c7c4c5404aaa1f6d2a48adfda4\n").as_deref(), Some("3d1219c7-c4c5-404a-aa1f-6d2a48adfda4"));
    }
}
