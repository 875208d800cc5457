//! The smallest possible D-Bus client: blocking, one message out, one in. What it measures is the daemon, not itself.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use zbus::Message;
use zbus::zvariant::DynamicType;

pub const QEMU: &str = "/org/libvirt/QEMU";
pub const TEST: &str = "/org/libvirt/Test";
pub const LXC: &str = "/org/libvirt/LXC";
pub const CONNECT: &str = "org.libvirt.Connect";
pub const DOMAIN: &str = "org.libvirt.Domain";

pub struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
}

/// A reply: how long it took and its bytes.
pub struct Reply {
    pub took: Duration,
    bytes: Vec<u8>,
}

impl Client {
    pub fn connect(socket: &Path) -> std::io::Result<Client> {
        let mut stream = UnixStream::connect(socket)?;
        let uid = nix::unistd::geteuid().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        assert!(line.starts_with(b"OK"), "{}", String::from_utf8_lossy(&line));
        stream.write_all(b"BEGIN\r\n")?;
        Ok(Client { stream, buffer: Vec::new() })
    }

    /// A marshalled call, to be sent any number of times.
    pub fn message<B: serde::Serialize + DynamicType>(path: &str, interface: &str, member: &str, body: &B) -> Vec<u8> {
        let message = Message::method_call(path, member).interface(interface).build(body).unwrap();
        message.data().to_vec()
    }

    /// Sends it and waits for the answer; signals that come first are passed over.
    pub fn send(&mut self, message: &[u8]) -> Reply {
        let start = Instant::now();
        self.stream.write_all(message).unwrap();
        loop {
            let bytes = self.receive();
            let took = start.elapsed();
            match bytes[1] {
                2 => return Reply { took, bytes },
                3 => panic!("{}", String::from_utf8_lossy(&bytes)),
                _ => {}
            }
        }
    }

    /// Sends all of them without waiting in between; the time until the last answer.
    pub fn send_all(&mut self, messages: &[Vec<u8>]) -> Duration {
        let start = Instant::now();
        self.stream.write_all(&messages.concat()).unwrap();
        let mut missing = messages.len();
        while missing > 0 {
            let bytes = self.receive();
            assert_ne!(bytes[1], 3, "{}", String::from_utf8_lossy(&bytes));
            missing -= usize::from(bytes[1] == 2);
        }
        start.elapsed()
    }

    pub fn call<B: serde::Serialize + DynamicType>(
        &mut self,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Reply {
        self.send(&Client::message(path, interface, member, body))
    }

    /// Nothing more comes: every answer that was counted was the answer to its own question.
    pub fn assert_quiet(&mut self) {
        self.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let more = self.stream.read(&mut [0; 16]);
        assert!(self.buffer.is_empty() && more.is_err(), "an answer nobody asked for");
    }

    /// One whole message: fixed header, header fields, padding, body.
    fn receive(&mut self) -> Vec<u8> {
        loop {
            if self.buffer.len() >= 16 {
                let number = |at: usize| {
                    let bytes: [u8; 4] = self.buffer[at..at + 4].try_into().unwrap();
                    (if self.buffer[0] == b'l' { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
                        as usize
                };
                let length = 16 + number(12).next_multiple_of(8) + number(4);
                if self.buffer.len() >= length {
                    let rest = self.buffer.split_off(length);
                    return std::mem::replace(&mut self.buffer, rest);
                }
            }
            let mut part = [0; 65536];
            let count = self.stream.read(&mut part).unwrap();
            assert!(count > 0, "the daemon closed the connection");
            self.buffer.extend(&part[..count]);
        }
    }
}

impl Reply {
    /// The last string of the body: an object path, mostly.
    pub fn last_string(&self) -> String {
        let end = self.bytes.len() - 1;
        let start = self.bytes[..end].iter().rposition(|byte| *byte == 0).map_or(0, |at| at + 1);
        String::from_utf8_lossy(&self.bytes[start..end]).into_owned()
    }
}
