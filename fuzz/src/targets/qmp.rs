//! A byte stream from QEMU -> lines -> messages. However the bytes are cut into pieces, the lines are the same, and no
//! more than the limit is held.

use domus::qemu::qmp::{LineBuffer, LineError, Message, parse_line};

use crate::{Outcome, hash, shape};

const LIMIT: usize = 4096;

/// See the module's text.
pub fn run(data: &[u8]) -> Outcome {
    let whole = lines(data, data.len().max(1));
    let step = 1 + data.first().map_or(0, |byte| usize::from(*byte) % 17);
    let pieces = lines(data, step);
    // A line that is too long is seen when the limit is reached, which may be a push earlier or later.
    if whole.1.is_none() && pieces.1.is_none() {
        assert_eq!(whole.0, pieces.0, "lines depend on how the bytes arrive");
    }
    let mut outcomes: Vec<[u8; 8]> = Vec::new();
    for line in &whole.0 {
        assert!(line.len() <= LIMIT, "a line beyond the limit");
        let outcome = match parse_line(line) {
            Err(LineError::Malformed(text)) => shape(&text),
            Err(LineError::TooLong(_)) => 1,
            Ok(Message::Greeting(greeting)) => 2 + u64::from(greeting.package.is_empty()),
            Ok(Message::Event(event)) => hash(["event", kind(&event.data)]),
            Ok(Message::Reply { id, result }) => {
                hash(["reply", if id.is_some() { "id" } else { "-" }, if result.is_ok() { "ok" } else { "error" }])
            }
        };
        outcomes.push(outcome.to_le_bytes());
    }
    outcomes.truncate(4);
    hash(outcomes)
}

fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Object(_) => "object",
        _ => "other",
    }
}

fn lines(data: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<LineError>) {
    let mut buffer = LineBuffer::new(LIMIT);
    let mut lines = Vec::new();
    for part in data.chunks(step) {
        buffer.push(part);
        loop {
            match buffer.next_line() {
                Ok(Some(line)) => lines.push(line.to_vec()),
                Ok(None) => break,
                Err(error) => return (lines, Some(error)),
            }
        }
    }
    (lines, None)
}

/// What QEMU says.
pub fn seeds() -> Vec<Vec<u8>> {
    let lines = [
        r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "Debian"}, "capabilities": ["oob"]}}"#,
        r#"{"return": {}, "id": 1}"#,
        r#"{"return": [{"name": "a", "value": 1}], "id": 18446744073709551615}"#,
        r#"{"id": 7, "error": {"class": "GenericError", "desc": "Device 'x' not found"}}"#,
        r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#,
        r#"{"event": "RESET"}"#,
    ];
    let mut seeds: Vec<Vec<u8>> = lines.iter().map(|line| format!("{line}\r\n").into_bytes()).collect();
    seeds.push(lines.join("\n").into_bytes());
    seeds
}
