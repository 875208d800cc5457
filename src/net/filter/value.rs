//! What stands in an attribute of a rule: read, checked, written in one form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A value in the form it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `$NAME`, `$NAME[1]`, `$NAME[@1]`: from the filter's user.
    Variable(String),
    /// Checked, and as libvirt writes it.
    Fixed(String),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Variable(text) => write!(f, "${text}"),
            Value::Fixed(text) => f.write_str(text),
        }
    }
}

/// What may stand in an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Mac,
    MacMask,
    Ipv4,
    Ipv4Mask,
    Ipv6,
    Ipv6Mask,
    /// A number in C's forms, up to this; written in hexadecimal when it was read so.
    Number(u32),
    /// A word with a number, or another number in that range.
    Word(&'static [(&'static str, u32)], u32, u32),
    Boolean,
    State,
    TcpFlags,
    IpSet,
    IpSetFlags,
    Comment,
}

/// Protocols inside an Ethernet frame; numbers below are lengths.
pub(super) const ETHERNET: Form =
    Form::Word(&[("arp", 0x806), ("rarp", 0x8035), ("ipv4", 0x800), ("ipv6", 0x86dd), ("vlan", 0x8100)], 0x600, 0xffff);
pub(super) const IP_PROTOCOL: Form = Form::Word(
    &[
        ("tcp", 6),
        ("udp", 17),
        ("udplite", 136),
        ("esp", 50),
        ("ah", 51),
        ("icmp", 1),
        ("igmp", 2),
        ("sctp", 132),
        ("icmpv6", 58),
    ],
    0,
    0xff,
);
pub(super) const ARP_OPCODE: Form = Form::Word(
    &[
        ("Request", 1),
        ("Reply", 2),
        ("Request_Reverse", 3),
        ("Reply_Reverse", 4),
        ("DRARP_Request", 5),
        ("DRARP_Reply", 6),
        ("DRARP_Error", 7),
        ("InARP_Request", 8),
        ("ARP_NAK", 9),
    ],
    0,
    0xffff,
);

impl Form {
    /// The value of `text`; `None` when it is none of this form.
    pub(super) fn read(self, text: &str) -> Option<Value> {
        if let Some(name) = text.strip_prefix('$') {
            // The first iterator is the one that is meant without any.
            return is_variable(name).then(|| Value::Variable(name.trim_end_matches("[@0]").to_string()));
        }
        let fixed = match self {
            Form::Mac => mac(text).map(write_mac),
            Form::MacMask => mac(text).filter(|mask| is_contiguous(mask)).map(write_mac),
            Form::Ipv4 => text.parse::<Ipv4Addr>().ok().map(|address| address.to_string()),
            Form::Ipv4Mask => mask(text, 32).map(|bits| bits.to_string()),
            Form::Ipv6 => text.parse::<Ipv6Addr>().ok().map(|address| address.to_string()),
            Form::Ipv6Mask => mask(text, 128).map(|bits| bits.to_string()),
            Form::Number(most) => number(text, 0, most),
            Form::Word(words, least, most) => {
                let known = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(word, _)| *word);
                known.map(str::to_string).or_else(|| number(text, least, most))
            }
            Form::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" => Some("true".into()),
                "false" | "no" | "0" => Some("false".into()),
                _ => None,
            },
            Form::State => states(text),
            Form::TcpFlags => tcp_flags(text),
            Form::IpSet => is_set_name(text).then(|| text.to_string()),
            Form::IpSetFlags => {
                let words: Vec<String> = text.split(',').map(str::to_ascii_lowercase).collect();
                let fit = words.len() <= 6 && words.iter().all(|word| word == "src" || word == "dst");
                fit.then(|| words.join(","))
            }
            Form::Comment => (text.len() <= 256).then(|| text.to_string()),
        };
        fixed.map(Value::Fixed)
    }
}

fn is_variable(name: &str) -> bool {
    let (name, index) = match name.split_once('[') {
        Some((name, rest)) => match rest.strip_suffix(']') {
            Some(index) => (name, Some(index.strip_prefix('@').unwrap_or(index))),
            None => return false,
        },
        None => (name, None),
    };
    let is_number = |index: &str| !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && index.is_none_or(is_number)
}

/// Six numbers of one or two hexadecimal digits.
fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| matches!(part.len(), 1 | 2))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

fn write_mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// Ones, then zeros.
fn is_contiguous(bytes: &[u8]) -> bool {
    let ones: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
    let leading: u32 = {
        let whole = bytes.iter().take_while(|byte| **byte == 0xff).count();
        let rest = bytes.get(whole).map_or(0, |byte| byte.leading_ones());
        u32::try_from(whole * 8).unwrap_or(0) + rest
    };
    ones == leading
}

/// A mask in bits, given so or as an address.
fn mask(text: &str, most: u32) -> Option<u32> {
    if let Ok(bits) = text.parse::<u32>() {
        return (bits <= most).then_some(bits);
    }
    let bytes = match (text.parse::<IpAddr>().ok()?, most) {
        (IpAddr::V4(address), 32) => address.octets().to_vec(),
        (IpAddr::V6(address), 128) => address.octets().to_vec(),
        _ => return None,
    };
    is_contiguous(&bytes).then(|| bytes.iter().map(|byte| byte.count_ones()).sum())
}

fn number(text: &str, least: u32, most: u32) -> Option<String> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let value = match hexadecimal {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => text.parse().ok()?,
    };
    if !(least..=most).contains(&value) {
        return None;
    }
    Some(if hexadecimal.is_some() { format!("{value:#x}") } else { value.to_string() })
}

fn states(text: &str) -> Option<String> {
    const STATES: [&str; 5] = ["NEW", "ESTABLISHED", "RELATED", "INVALID", "NONE"];
    let asked: Vec<String> = text.split(',').map(|word| word.trim().to_ascii_uppercase()).collect();
    if !asked.iter().all(|word| STATES.contains(&word.as_str())) {
        return None;
    }
    let in_order: Vec<&str> = STATES.into_iter().filter(|state| asked.iter().any(|word| word == state)).collect();
    Some(in_order.join(","))
}

/// `MASK/FLAGS`: those looked at, and which of them must be set.
fn tcp_flags(text: &str) -> Option<String> {
    const FLAGS: [&str; 6] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
    let (looked_at, set) = text.split_once('/')?;
    let side = |words: &str| {
        let words: Vec<String> = words.split(',').map(|word| word.trim().to_ascii_uppercase()).collect();
        let known = |word: &String| matches!(word.as_str(), "ALL" | "NONE" | "") || FLAGS.contains(&word.as_str());
        words.iter().all(known).then(|| match words.join(",") {
            nothing if nothing.is_empty() => "NONE".to_string(),
            words => words,
        })
    };
    Some(format!("{}/{}", side(looked_at)?, side(set)?))
}

fn is_set_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-+ ".contains(&byte);
    !text.is_empty() && text.len() < 32 && text.bytes().all(known)
}
