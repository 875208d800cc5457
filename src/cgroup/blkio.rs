//! blkio, `io` in v2.

use std::fs;
use std::path::Path;

use super::{setting_failed, write};
use crate::error::Result;

/// libvirt's weight of 100..1000 (10..1000 on newer kernels). Kernels have one of two schedulers and their files.
pub(super) fn set_weight(dir: &Path, v2: bool, weight: u16) -> Result<()> {
    let files: &[&str] = if v2 { &["io.bfq.weight", "io.weight"] } else { &["blkio.bfq.weight", "blkio.weight"] };
    let Some(file) = files.iter().map(|file| dir.join(file)).find(|file| file.exists()) else {
        return Err(setting_failed(dir, "blkio weight", weight, "this kernel has no I/O weights"));
    };
    let value = if v2 && file.ends_with("io.weight") { format!("default {weight}") } else { weight.to_string() };
    write(&file, &value).map_err(|error| setting_failed(dir, "blkio weight", weight, error))
}

/// What is set by [`set_weight`].
pub(super) fn weight(dir: &Path, v2: bool) -> Option<u16> {
    let files: &[&str] = if v2 { &["io.bfq.weight", "io.weight"] } else { &["blkio.bfq.weight", "blkio.weight"] };
    let text = files.iter().find_map(|file| fs::read_to_string(dir.join(file)).ok())?;
    let first = text.lines().next()?;
    first.strip_prefix("default ").unwrap_or(first).trim().parse().ok()
}

/// Limits of one block device; 0 takes one away, `None` leaves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceLimits {
    pub weight: Option<u32>,
    pub read_iops: Option<u32>,
    pub write_iops: Option<u32>,
    /// Bytes per second.
    pub read_bytes: Option<u64>,
    /// Bytes per second.
    pub write_bytes: Option<u64>,
}

pub(super) fn set_device(dir: &Path, v2: bool, (major, minor): (u32, u32), limits: &DeviceLimits) -> Result<()> {
    let put = |file: &str, value: String| {
        write(&dir.join(file), &value).map_err(|error| setting_failed(dir, file, &value, error))
    };
    if let Some(weight) = limits.weight {
        let files: &[&str] =
            if v2 { &["io.bfq.weight", "io.weight"] } else { &["blkio.bfq.weight_device", "blkio.weight_device"] };
        let Some(file) = files.iter().find(|file| dir.join(file).exists()) else {
            return Err(setting_failed(
                dir,
                "blkio device weight",
                weight,
                "this kernel has no I/O weights per device",
            ));
        };
        let value = if weight == 0 && v2 { "default".to_string() } else { weight.to_string() };
        put(file, format!("{major}:{minor} {value}"))?;
    }
    let numbers = [
        ("rbps", "blkio.throttle.read_bps_device", limits.read_bytes),
        ("wbps", "blkio.throttle.write_bps_device", limits.write_bytes),
        ("riops", "blkio.throttle.read_iops_device", limits.read_iops.map(u64::from)),
        ("wiops", "blkio.throttle.write_iops_device", limits.write_iops.map(u64::from)),
    ];
    for (key, file, value) in numbers {
        match value {
            None => {}
            Some(0) if v2 => put("io.max", format!("{major}:{minor} {key}=max"))?,
            Some(value) if v2 => put("io.max", format!("{major}:{minor} {key}={value}"))?,
            Some(value) => put(file, format!("{major}:{minor} {value}"))?,
        }
    }
    Ok(())
}

/// Bytes read and written by the group, over all devices.
pub(super) fn bytes(dir: &Path, v2: bool) -> Option<(u64, u64)> {
    if v2 {
        return Some(sum_v2(&fs::read_to_string(dir.join("io.stat")).ok()?));
    }
    let files = ["blkio.bfq.io_service_bytes", "blkio.throttle.io_service_bytes"];
    let texts = files.iter().filter_map(|file| fs::read_to_string(dir.join(file)).ok());
    // Only the file of the scheduler in use counts; the other stays at 0.
    texts.map(|text| sum_v1(&text)).max_by_key(|(read, written)| read + written)
}

/// Lines like `8:0 Read 4096`.
fn sum_v1(text: &str) -> (u64, u64) {
    let mut sum = (0u64, 0u64);
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, kind, value] = words[..] {
            let value: u64 = value.parse().unwrap_or(0);
            match kind {
                "Read" => sum.0 += value,
                "Write" => sum.1 += value,
                _ => {}
            }
        }
    }
    sum
}

/// Lines like `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn sum_v2(text: &str) -> (u64, u64) {
    let total = |key: &str| {
        text.split_whitespace()
            .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
            .fold(0, u64::saturating_add)
    };
    (total("rbytes="), total("wbytes="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_summed() {
        assert_eq!(sum_v1("8:0 Read 10\n8:0 Write 20\n8:16 Read 1\n8:0 Sync 5\nTotal 31\n"), (11, 20));
        assert_eq!(sum_v2("8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n"), (11, 22));
        assert_eq!((sum_v1(""), sum_v2("")), ((0, 0), (0, 0)));
    }
}
