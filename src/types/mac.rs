//! Ethernet MAC address, libvirt's text form (`52:54:00:ac:ce:01`, lower case).

use std::fmt;
use std::str::FromStr;

/// A MAC address.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

/// Text that is no MAC address.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a MAC address (six hexadecimal bytes separated by colons)")]
pub struct MacParseError(String);

impl MacAddr {
    /// Whether the group (multicast) bit is set; libvirt refuses such addresses for interfaces.
    pub fn is_multicast(&self) -> bool {
        self.0[0] & 1 == 1
    }
}

/// Records hold the text form.
impl serde::Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for MacAddr {
    type Err = MacParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().unwrap_or_default();
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MacParseError(text.to_string()));
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacParseError(text.to_string()))?;
        }
        match parts.next() {
            None => Ok(MacAddr(bytes)),
            Some(_) => Err(MacParseError(text.to_string())),
        }
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn round_trip() {
        let mac: MacAddr = "52:54:00:AC:ce:1".parse().expect("valid");
        assert_eq!(mac.to_string(), "52:54:00:ac:ce:01");
    }

    #[rstest]
    #[case("")]
    #[case("52:54:00:ac:ce")]
    #[case("52:54:00:ac:ce:01:02")]
    #[case("52:54:00:ac:ce:+1")]
    #[case("52-54-00-ac-ce-01")]
    fn refused(#[case] text: &str) {
        assert!(text.parse::<MacAddr>().is_err());
    }
}
