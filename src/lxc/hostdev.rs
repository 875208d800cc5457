//! `<hostdev mode='capabilities'>` of containers: which device nodes they get. Looks at the host's nodes; makes none.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::spec::Device;
use crate::cgroup::DeviceRule;
use crate::domain_xml::device::{Hostdev, HostdevSource};
use crate::error::{Error, Result};

/// The host path a hostdev names, and whether it must be a block device. Errors: code 67 for what containers have not.
pub fn path(hostdev: &Hostdev) -> Result<(&str, bool)> {
    let (path, block) = match &hostdev.source {
        HostdevSource::Storage { block } => (block.as_str(), true),
        HostdevSource::Misc { char_device } => (char_device.as_str(), false),
        _ => {
            return Err(Error::unsupported_config(
                "containers have <hostdev mode='capabilities'> of type 'misc' and 'storage' only: remove the element",
            ));
        }
    };
    let name = path.strip_prefix("/dev/").unwrap_or_default();
    let clean = !name.is_empty() && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !clean || ["pts", "shm", "mqueue"].contains(&name.split('/').next().unwrap_or_default()) {
        return Err(Error::unsupported_config(format!(
            "device '{path}' of a container must be a node below /dev by its plain name"
        )));
    }
    Ok((path, block))
}

/// The node as it is on the host now. Errors: code 38 when there is none, 67 when it is of the other kind.
pub fn node(hostdev: &Hostdev) -> Result<Device> {
    let (path, block) = path(hostdev)?;
    let metadata =
        std::fs::metadata(path).map_err(|error| Error::system(format!("Unable to access '{path}'"), error))?;
    let kind = metadata.file_type();
    if !(if block { kind.is_block_device() } else { kind.is_char_device() }) {
        let word = if block { "block" } else { "character" };
        return Err(Error::unsupported_config(format!("Hostdev source '{path}' must be a {word} device")));
    }
    Ok(Device {
        name: path.trim_start_matches("/dev/").to_string(),
        block,
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
        mode: 0o600,
    })
}

/// The rule that lets the container open it.
pub fn rule(device: &Device) -> DeviceRule {
    DeviceRule { block: device.block, major: device.major, minor: device.minor }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::{Device as XmlDevice, parse_device};

    fn hostdev(kind: &str, inner: &str) -> Hostdev {
        let xml = format!("<hostdev mode='capabilities' type='{kind}'><source>{inner}</source></hostdev>");
        match parse_device(&xml).unwrap().0 {
            XmlDevice::Hostdev(hostdev) => *hostdev,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nodes_are_the_hosts() {
        let null = node(&hostdev("misc", "<char>/dev/null</char>")).unwrap();
        assert_eq!((null.name.as_str(), null.major, null.minor, null.block), ("null", 1, 3, false));
        let error = node(&hostdev("storage", "<block>/dev/null</block>")).unwrap_err();
        assert!(error.message().contains("must be a block device"), "{error}");
        assert!(node(&hostdev("misc", "<char>/dev/nothing</char>")).is_err());
        for bad in ["/etc/passwd", "/dev/../etc/passwd", "/dev/", "/dev/pts/0", "/dev//null"] {
            assert!(path(&hostdev("misc", &format!("<char>{bad}</char>"))).is_err(), "{bad}");
        }
    }
}
