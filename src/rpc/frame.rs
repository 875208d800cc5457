//! Packets of libvirt's RPC: a length, a header of six words, a payload.
//!
//! ```text
//! u32 length (all of it) | program | version | procedure | type | serial | status | payload
//! ```
//!
//! Knows nothing of programs. What does not even have the shape of a packet ends the connection, as libvirt does it.

use super::xdr::{Garbled, Put, Reader, Take};

/// Bytes of the length word and the header.
pub const HEADER: usize = 4 + 24;
/// Largest packet, the length word included (`VIR_NET_MESSAGE_MAX` + 4).
pub const MAX_PACKET: usize = 33_554_432 + 4;
/// Payload of one stream packet that we send.
pub const STREAM_CHUNK: usize = 262_120;
/// File descriptors that may come with one packet.
pub const MAX_FDS: u32 = 32;

/// `virNetMessageType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Kind {
    Call = 0,
    Reply = 1,
    Message = 2,
    Stream = 3,
    CallWithFds = 4,
    ReplyWithFds = 5,
    StreamHole = 6,
}

impl Kind {
    fn from_number(number: i32) -> Option<Kind> {
        use Kind::*;
        [Call, Reply, Message, Stream, CallWithFds, ReplyWithFds, StreamHole].into_iter().find(|k| *k as i32 == number)
    }
}

/// `virNetMessageStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    Ok = 0,
    Error = 1,
    Continue = 2,
}

impl Status {
    fn from_number(number: i32) -> Option<Status> {
        [Status::Ok, Status::Error, Status::Continue].into_iter().find(|status| *status as i32 == number)
    }
}

/// A packet's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub program: u32,
    pub version: u32,
    pub procedure: i32,
    pub kind: Kind,
    pub serial: u32,
    pub status: Status,
}

impl Header {
    /// The header of an answer to this one.
    pub fn answer(self, kind: Kind, status: Status) -> Header {
        Header { kind, status, ..self }
    }

    /// A whole packet with `payload` written by `fill`.
    pub fn packet(self, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(&[0; 4]);
        let words = (self.program, self.version, self.procedure, self.kind as i32, self.serial, self.status as i32);
        words.put(&mut out);
        fill(&mut out);
        let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
        out[..4].copy_from_slice(&length.to_be_bytes());
        out
    }
}

/// How many bytes the packet at the front of `bytes` has; `None` while its length word is not all there.
pub fn packet_length(bytes: &[u8]) -> Result<Option<usize>, Garbled> {
    let Some(word) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*word) as usize;
    if (HEADER..=MAX_PACKET).contains(&length) { Ok(Some(length)) } else { Err(Garbled) }
}

/// The header of a whole packet. `Garbled` for a type or status that does not exist.
pub fn header(packet: &[u8]) -> Result<Header, Garbled> {
    let mut reader = Reader::new(packet.get(4..).ok_or(Garbled)?);
    let (program, version, procedure, kind, serial, status) = <(u32, u32, i32, i32, u32, i32)>::take(&mut reader)?;
    Ok(Header {
        program,
        version,
        procedure,
        kind: Kind::from_number(kind).ok_or(Garbled)?,
        serial,
        status: Status::from_number(status).ok_or(Garbled)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CALL: Header =
        Header { program: 0x2000_8086, version: 1, procedure: 66, kind: Kind::Call, serial: 0, status: Status::Ok };

    #[test]
    fn a_packet_reads_back() {
        let packet = CALL.packet(|out| "x".put(out));
        assert_eq!(packet.len(), HEADER + 8);
        assert_eq!(packet_length(&packet), Ok(Some(packet.len())));
        assert_eq!(header(&packet), Ok(CALL));
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for length in [0u32, 3, 27, 33_554_437, u32::MAX] {
            assert_eq!(packet_length(&length.to_be_bytes()), Err(Garbled), "{length}");
        }
        assert_eq!(packet_length(&[0, 0]), Ok(None));
        assert_eq!(packet_length(&28u32.to_be_bytes()), Ok(Some(28)));
    }

    proptest! {
        #[test]
        fn hostile_headers_never_panic(bytes: Vec<u8>) {
            let _ = packet_length(&bytes);
            let _ = header(&bytes);
        }
    }
}
