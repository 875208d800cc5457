//! Framing and parsing: bytes -> lines -> messages. Pure; this is what a fuzzer drives.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Longest line taken from QEMU, in bytes. The longest honest one (the schema of QEMU 10) is about 200 KiB.
pub const MAX_LINE: usize = 16 * 1024 * 1024;

/// Why bytes of a connection cannot be used; the connection is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("a line longer than {0} bytes")]
    TooLong(usize),
    #[error("a line that is no QMP message: {0}")]
    Malformed(String),
}

/// Cuts a byte stream into lines, holding at most `max` bytes of an unfinished one.
#[derive(Debug)]
pub struct LineBuffer {
    data: Vec<u8>,
    /// Bytes before this were handed out already.
    start: usize,
    /// No newline before this.
    scanned: usize,
    max: usize,
}

impl LineBuffer {
    pub fn new(max: usize) -> Self {
        LineBuffer { data: Vec::new(), start: 0, scanned: 0, max }
    }

    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.data.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.data.extend_from_slice(bytes);
    }

    /// The next complete line without its line end, or `None` until more bytes come. Empty lines are skipped.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineError> {
        loop {
            let found = self.data[self.scanned..].iter().position(|byte| *byte == b'\n');
            let Some(offset) = found else {
                self.scanned = self.data.len();
                if self.data.len() - self.start > self.max {
                    return Err(LineError::TooLong(self.max));
                }
                return Ok(None);
            };
            let (from, to) = (self.start, self.scanned + offset);
            self.start = to + 1;
            self.scanned = self.start;
            if to - from > self.max {
                return Err(LineError::TooLong(self.max));
            }
            if !self.data[from..to].iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(self.data[from..to].trim_ascii()));
            }
        }
    }
}

/// An error reply.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{desc}")]
pub struct QmpError {
    /// `GenericError`, `CommandNotFound`, `DeviceNotFound` ...
    pub class: String,
    pub desc: String,
}

/// An asynchronous event, uninterpreted.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: String,
    pub data: Value,
    /// Since the epoch, by the host's clock; 0 when QEMU does not say.
    pub seconds: i64,
    pub micros: u32,
}

/// QEMU's first line.
#[derive(Debug, Clone, PartialEq)]
pub struct Greeting {
    /// major * 1,000,000 + minor * 1,000 + micro.
    pub version: u64,
    /// The distribution's package text, may be empty.
    pub package: String,
}

/// One line of QEMU.
#[derive(Debug)]
pub enum Message {
    Greeting(Greeting),
    Event(Event),
    /// A reply; `id` is missing when QEMU could not even read the command.
    Reply {
        id: Option<u64>,
        result: Result<Box<RawValue>, QmpError>,
    },
}

#[derive(Deserialize)]
struct RawMessage<'a> {
    #[serde(rename = "QMP")]
    qmp: Option<Value>,
    event: Option<String>,
    data: Option<Value>,
    timestamp: Option<Value>,
    #[serde(rename = "return", borrow)]
    ret: Option<&'a RawValue>,
    error: Option<QmpError>,
    id: Option<Value>,
}

/// Parses one line.
pub fn parse_line(line: &[u8]) -> Result<Message, LineError> {
    let malformed = |error: serde_json::Error| LineError::Malformed(error.to_string());
    let raw: RawMessage = serde_json::from_slice(line).map_err(malformed)?;
    if let Some(greeting) = raw.qmp {
        let number = |key: &str| greeting.pointer(&format!("/version/qemu/{key}")).and_then(Value::as_u64);
        let (Some(major), Some(minor), Some(micro)) = (number("major"), number("minor"), number("micro")) else {
            return Err(LineError::Malformed("greeting without a version".into()));
        };
        let version = major
            .checked_mul(1_000_000)
            .and_then(|v| v.checked_add(minor.checked_mul(1_000)?))
            .and_then(|v| v.checked_add(micro))
            .ok_or_else(|| LineError::Malformed("greeting with an absurd version".into()))?;
        let package = greeting.pointer("/version/package").and_then(Value::as_str).unwrap_or_default().to_string();
        return Ok(Message::Greeting(Greeting { version, package }));
    }
    if let Some(name) = raw.event {
        let time = |unit: &str| raw.timestamp.as_ref()?.get(unit)?.as_i64();
        let (seconds, micros) = (time("seconds").unwrap_or(0), time("microseconds").unwrap_or(0));
        let micros = u32::try_from(micros).unwrap_or(0);
        return Ok(Message::Event(Event { name, data: raw.data.unwrap_or(Value::Null), seconds, micros }));
    }
    let id = raw.id.as_ref().and_then(Value::as_u64);
    if let Some(error) = raw.error {
        return Ok(Message::Reply { id, result: Err(error) });
    }
    match raw.ret {
        Some(ret) => Ok(Message::Reply { id, result: Ok(ret.to_owned()) }),
        None => Err(LineError::Malformed("neither greeting, event nor reply".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[test]
    fn lines_across_pieces() {
        let mut buffer = LineBuffer::new(10);
        buffer.push(b"ab");
        assert_eq!(buffer.next_line(), Ok(None));
        buffer.push(b"c\r\n\n  \nde\nf");
        assert_eq!(buffer.next_line().unwrap(), Some(&b"abc"[..]));
        assert_eq!(buffer.next_line().unwrap(), Some(&b"de"[..]));
        assert_eq!(buffer.next_line(), Ok(None));
        buffer.push(b"g\n");
        assert_eq!(buffer.next_line().unwrap(), Some(&b"fg"[..]));
    }

    #[test]
    fn an_endless_line_is_an_error() {
        let mut buffer = LineBuffer::new(10);
        buffer.push(b"0123456789");
        assert_eq!(buffer.next_line(), Ok(None));
        buffer.push(b"x");
        assert_eq!(buffer.next_line(), Err(LineError::TooLong(10)));
    }

    #[rstest]
    #[case(
        br#"{"QMP":{"version":{"qemu":{"micro":2,"minor":0,"major":10},"package":"Debian"},"capabilities":["oob"]}}"#,
        true
    )]
    #[case(br#"{"timestamp":{"seconds":1,"microseconds":2},"event":"NEW_ONE","data":{"x":[1]}}"#, true)]
    #[case(br#"{"return":{},"id":4}"#, true)]
    #[case(br#"{"error":{"class":"GenericError","desc":"no"}}"#, true)]
    #[case(b"{}", false)]
    #[case(b"[]", false)]
    #[case(b"\xff\xfe", false)]
    #[case(br#"{"QMP":{}}"#, false)]
    fn messages(#[case] line: &[u8], #[case] good: bool) {
        assert_eq!(parse_line(line).is_ok(), good);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let mut buffer = LineBuffer::new(64);
            for piece in pieces {
                buffer.push(&piece);
                while let Ok(Some(line)) = buffer.next_line() {
                    let _ = parse_line(line);
                }
            }
        }
    }
}
