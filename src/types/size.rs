//! Sizes with libvirt's unit names.
//!
//! libvirt (`virScaleInteger`): `b`/`bytes` = 1; `k`/`KiB` = 1024, `KB` = 1000, and so on for M, G, T, P, E;
//! the comparison ignores case.

/// Bytes in one `unit`, or `None` for a word that is no unit. An empty unit is `default`.
pub fn unit_scale(unit: &str, default: u64) -> Option<u64> {
    let lower = unit.to_ascii_lowercase();
    let (power, base) = match lower.as_str() {
        "" => return Some(default),
        "b" | "byte" | "bytes" => return Some(1),
        "k" | "kib" => (1, 1024u64),
        "m" | "mib" => (2, 1024),
        "g" | "gib" => (3, 1024),
        "t" | "tib" => (4, 1024),
        "p" | "pib" => (5, 1024),
        "e" | "eib" => (6, 1024),
        "kb" => (1, 1000),
        "mb" => (2, 1000),
        "gb" => (3, 1000),
        "tb" => (4, 1000),
        "pb" => (5, 1000),
        "eb" => (6, 1000),
        _ => return None,
    };
    Some(base.pow(power))
}

/// `value` of `unit` in KiB, rounded up as libvirt does for memory; `None` when it overflows or the unit is unknown.
pub fn to_kib(value: u64, unit: &str) -> Option<u64> {
    let bytes = value.checked_mul(unit_scale(unit, 1024)?)?;
    Some(bytes.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(to_kib(1, "GiB"), Some(1024 * 1024));
        assert_eq!(to_kib(1, ""), Some(1));
        assert_eq!(to_kib(1, "b"), Some(1));
        assert_eq!(to_kib(1000, "KB"), Some(977));
        assert_eq!(to_kib(1, "furlong"), None);
        assert_eq!(to_kib(u64::MAX, "MiB"), None);
    }
}
