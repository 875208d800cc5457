//! Integers as libvirt reads them (`virStrToLong_*`): leading blanks allowed, nothing may follow.

/// A non-negative decimal number.
pub fn parse_unsigned(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// A decimal number with an optional sign.
pub fn parse_signed(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// A non-negative number with C's prefixes: `0x` hexadecimal, `0` octal, else decimal.
pub fn parse_any_base(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("12", Some(12))]
    #[case(" 12", Some(12))]
    #[case("12 ", None)]
    #[case("-1", None)]
    #[case("", None)]
    #[case("0x10", None)]
    #[case("99999999999999999999", None)]
    fn unsigned(#[case] text: &str, #[case] value: Option<u64>) {
        assert_eq!(parse_unsigned(text), value);
    }

    #[rstest]
    #[case("0x1f", Some(31))]
    #[case("010", Some(8))]
    #[case("0", Some(0))]
    #[case("08", None)]
    #[case("0x", None)]
    #[case("1g", None)]
    #[case("-1", None)]
    fn any_base(#[case] text: &str, #[case] value: Option<u64>) {
        assert_eq!(parse_any_base(text), value);
    }

    #[test]
    fn signed() {
        assert_eq!(parse_signed("-1"), Some(-1));
        assert_eq!(parse_signed("--1"), None);
        assert_eq!(parse_signed("+7"), Some(7));
    }
}
