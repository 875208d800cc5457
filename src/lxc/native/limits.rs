//! `lxc.cgroup.*`: memory, CPU and block I/O limits, in the names of cgroup v1 and, where they mean the same, of v2.

use super::conf::{Conf, Entry};
use crate::domain_xml::DomainDef;
use crate::domain_xml::cpu::{NumaMemory, NumaMode, NumaTune};
use crate::domain_xml::tune::{BlkioDevice, format_set, set_members};
use crate::error::{Code, Result};

/// A size with LXC's suffixes, in bytes. Error: `InternalError`, as libvirt has it.
pub(super) fn bytes(entry: Entry<'_>, text: &str) -> Result<u64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text[number.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(1u64),
        "k" | "kb" => Some(1 << 10),
        "m" | "mb" => Some(1 << 20),
        "g" | "gb" => Some(1 << 30),
        "t" | "tb" => Some(1 << 40),
        _ => None,
    };
    let size = number.parse::<u64>().ok().zip(scale).and_then(|(number, scale)| number.checked_mul(scale));
    size.ok_or_else(|| entry.error(Code::InternalError, format!("failed to convert size: '{text}'")))
}

/// A limit in KiB; `None` when it says that there is none.
fn limit(conf: &Conf<'_>, keys: &[&str]) -> Result<Option<u64>> {
    let Some(entry) = conf.first(keys).filter(|entry| !matches!(entry.value, "-1" | "max")) else { return Ok(None) };
    Ok(Some(bytes(entry, entry.value)? / 1024))
}

/// A set in libvirt's form. Error: `InvalidArg`.
fn set(entry: Entry<'_>) -> Result<String> {
    let members = set_members(entry.value).filter(|members| !members.is_empty());
    let refused = || entry.error(Code::InvalidArg, format!("Failed to parse bitmap '{}'", entry.value));
    members.map(|members| format_set(&members)).ok_or_else(refused)
}

/// Fills in what the file limits.
pub(super) fn read(conf: &Conf<'_>, def: &mut DomainDef) -> Result<()> {
    if let Some(size) = limit(conf, &["lxc.cgroup.memory.limit_in_bytes", "lxc.cgroup2.memory.max"])? {
        def.memory.size = size;
        def.memory.current = Some(size);
        def.memtune.hard_limit = Some(size);
    }
    def.memtune.soft_limit = limit(conf, &["lxc.cgroup.memory.soft_limit_in_bytes"])?;
    def.memtune.swap_hard_limit = limit(conf, &["lxc.cgroup.memory.memsw.limit_in_bytes"])?;

    let cputune = &mut def.cputune;
    cputune.shares = conf.first(&["lxc.cgroup.cpu.shares"]).map(|entry| entry.number()).transpose()?;
    cputune.quota = conf.first(&["lxc.cgroup.cpu.cfs_quota_us"]).map(|entry| entry.number()).transpose()?;
    cputune.period = conf.first(&["lxc.cgroup.cpu.cfs_period_us"]).map(|entry| entry.number()).transpose()?;
    if let Some(entry) = conf.first(&["lxc.cgroup2.cpu.max"]) {
        let mut words = entry.value.split_whitespace();
        let part = |value| Entry { value, ..entry };
        cputune.quota = match words.next() {
            Some("max") | None => Some(-1),
            Some(quota) => Some(part(quota).number()?),
        };
        cputune.period = words.next().map(|period| part(period).number()).transpose()?;
    }

    def.vcpu.cpuset = conf.first(&["lxc.cgroup.cpuset.cpus", "lxc.cgroup2.cpuset.cpus"]).map(set).transpose()?;
    if let Some(entry) = conf.first(&["lxc.cgroup.cpuset.mems", "lxc.cgroup2.cpuset.mems"]) {
        let memory = NumaMemory { mode: Some(NumaMode::Strict), nodeset: Some(set(entry)?), placement: None };
        def.numatune = Some(NumaTune { memory: Some(memory), memnodes: Vec::new() });
    }
    blkio(conf, def)
}

fn blkio(conf: &Conf<'_>, def: &mut DomainDef) -> Result<()> {
    def.blkiotune.weight = conf.first(&["lxc.cgroup.blkio.weight"]).map(|entry| entry.number()).transpose()?;
    for entry in conf.entries() {
        let Some(name) = entry.key.strip_prefix("lxc.cgroup.blkio.") else { continue };
        let name = name.strip_prefix("throttle.").unwrap_or(name);
        if !matches!(
            name,
            "device_weight"
                | "weight_device"
                | "read_bps_device"
                | "write_bps_device"
                | "read_iops_device"
                | "write_iops_device"
        ) {
            continue;
        }
        let mut words = entry.value.split_whitespace();
        let (Some(device), Some(value)) = (words.next(), words.next()) else {
            let what = format!("invalid value: '{}'; expected MAJOR:MINOR NUMBER", entry.value);
            return Err(entry.error(Code::InternalError, what));
        };
        // The kernel's own link to the device of this number.
        let path = format!("/dev/block/{device}");
        let value = Entry { value, ..entry };
        let devices = &mut def.blkiotune.devices;
        let at = devices.iter().position(|known| known.path == path).unwrap_or_else(|| {
            devices.push(BlkioDevice { path, ..BlkioDevice::default() });
            devices.len() - 1
        });
        let device = &mut devices[at];
        match name {
            "read_bps_device" => device.read_bytes_sec = Some(value.number()?),
            "write_bps_device" => device.write_bytes_sec = Some(value.number()?),
            "read_iops_device" => device.read_iops_sec = Some(value.number()?),
            "write_iops_device" => device.write_iops_sec = Some(value.number()?),
            _ => device.weight = Some(value.number()?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(text: &str) -> Result<u64> {
        bytes(Entry { line: 1, key: "k", value: text }, text)
    }

    #[test]
    fn sizes() {
        for (text, size) in [("0", 0), ("100", 100), ("1k", 1024), ("3M", 3 << 20), ("1g", 1 << 30), ("2T", 2 << 40)] {
            assert_eq!(sized(text).unwrap(), size, "{text}");
        }
        for text in ["", "x", "1x", "1.5G", "1 G", "-1", "99999999999T"] {
            assert!(sized(text).is_err(), "{text}");
        }
    }

    fn read_all(text: &str) -> Result<DomainDef> {
        let mut def = DomainDef::default();
        read(&Conf::parse(text)?, &mut def)?;
        Ok(def)
    }

    #[test]
    fn both_versions_of_cgroups() {
        let v1 = "lxc.cgroup.memory.limit_in_bytes = 1G\nlxc.cgroup.cpu.cfs_quota_us = 5000\n\
                  lxc.cgroup.cpu.cfs_period_us = 10000\nlxc.cgroup.cpuset.cpus = 0,1,2\n";
        let v2 = "lxc.cgroup2.memory.max = 1G\nlxc.cgroup2.cpu.max = 5000 10000\nlxc.cgroup2.cpuset.cpus = 0-2\n";
        assert_eq!(read_all(v1).unwrap(), read_all(v2).unwrap());
        assert_eq!(read_all(v1).unwrap().vcpu.cpuset.as_deref(), Some("0-2"));
        assert_eq!(read_all("lxc.cgroup.memory.limit_in_bytes = -1\n").unwrap(), DomainDef::default());
    }

    #[test]
    fn devices_are_gathered() {
        let def = read_all(
            "lxc.cgroup.blkio.throttle.read_bps_device = 8:0 7\nlxc.cgroup.blkio.device_weight = 8:0 300\n\
             lxc.cgroup.blkio.throttle.write_iops_device = 8:16 9\n",
        )
        .unwrap();
        let [a, b] = def.blkiotune.devices.as_slice() else { panic!("{def:?}") };
        assert_eq!((a.path.as_str(), a.read_bytes_sec, a.weight), ("/dev/block/8:0", Some(7), Some(300)));
        assert_eq!((b.path.as_str(), b.write_iops_sec), ("/dev/block/8:16", Some(9)));
    }

    #[rstest::rstest]
    #[case("lxc.cgroup.cpu.shares = x", "failed to parse integer: 'x'")]
    #[case("lxc.cgroup.cpuset.cpus = foo", "Failed to parse bitmap 'foo'")]
    #[case("lxc.cgroup.blkio.device_weight = junk", "expected MAJOR:MINOR NUMBER")]
    fn limits_that_are_none(#[case] line: &str, #[case] why: &str) {
        let message = read_all(line).unwrap_err().message();
        assert!(message.contains(why) && message.contains("line 1"), "{message}");
    }
}
