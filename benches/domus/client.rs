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

pub const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

pub struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// What of the buffer was handed out already.
    read: usize,
    /// Whom calls are for; nobody where there is no bus.
    destination: Option<&'static str>,
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
        Ok(Client { stream, buffer: Vec::new(), read: 0, destination: None })
    }

    /// A client of a message bus, whose calls are for whoever owns `destination` there.
    pub fn on_bus(socket: &Path, destination: &'static str) -> std::io::Result<Client> {
        let mut client = Client::connect(socket)?;
        client.bus("Hello", &());
        client.destination = Some(destination);
        Ok(client)
    }

    /// A call of the bus itself.
    pub fn bus<B: serde::Serialize + DynamicType>(&mut self, member: &str, body: &B) -> Reply {
        self.send(&marshalled(Some(BUS), BUS_PATH, BUS, member, body))
    }

    /// A marshalled call for a peer-to-peer connection, to be sent any number of times.
    pub fn message<B: serde::Serialize + DynamicType>(path: &str, interface: &str, member: &str, body: &B) -> Vec<u8> {
        marshalled(None, path, interface, member, body)
    }

    /// A marshalled call for this connection.
    pub fn marshal<B: serde::Serialize + DynamicType>(
        &self,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Vec<u8> {
        marshalled(self.destination, path, interface, member, body)
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
        let message = self.marshal(path, interface, member, body);
        self.send(&message)
    }

    /// Nothing more comes: every answer that was counted was the answer to its own question.
    pub fn assert_quiet(&mut self) {
        self.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let more = self.stream.read(&mut [0; 16]);
        assert!(self.read == self.buffer.len() && more.is_err(), "an answer nobody asked for");
    }

    /// Waits for the next signal with this name.
    pub fn signal(&mut self, member: &str) -> Vec<u8> {
        loop {
            let bytes = self.receive();
            if bytes[1] == 4 && text_field(&bytes, 3) == Some(member.as_bytes()) {
                return bytes;
            }
        }
    }

    /// Waits for the next call somebody made.
    pub fn next_call(&mut self) -> Vec<u8> {
        loop {
            let bytes = self.receive();
            if bytes[1] == 1 {
                return bytes;
            }
        }
    }

    pub fn answer(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// One whole message: fixed header, header fields, padding, body.
    fn receive(&mut self) -> Vec<u8> {
        loop {
            let waiting = &self.buffer[self.read..];
            if waiting.len() >= 16 {
                let length = body_at(waiting) + number(waiting, 4);
                if waiting.len() >= length {
                    let message = waiting[..length].to_vec();
                    self.read += length;
                    return message;
                }
            }
            self.buffer.drain(..self.read);
            self.read = 0;
            let mut part = [0; 65536];
            let count = self.stream.read(&mut part).unwrap();
            assert!(count > 0, "the other end closed the connection");
            self.buffer.extend(&part[..count]);
        }
    }
}

fn marshalled<B: serde::Serialize + DynamicType>(
    destination: Option<&str>,
    path: &str,
    interface: &str,
    member: &str,
    body: &B,
) -> Vec<u8> {
    let call = Message::method_call(path, member).interface(interface);
    let call = match destination {
        Some(name) => call.destination(name),
        None => call,
    };
    call.build(body).unwrap().data().to_vec()
}

/// A number of a message, in the byte order that its first byte names.
pub fn number(message: &[u8], at: usize) -> usize {
    let bytes: [u8; 4] = message[at..at + 4].try_into().unwrap();
    (if message[0] == b'l' { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }) as usize
}

/// Where the body of a message begins.
pub fn body_at(message: &[u8]) -> usize {
    16 + number(message, 12).next_multiple_of(8)
}

/// A header field that is a text.
pub fn text_field(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let end = 16 + number(message, 12);
    let mut at = 16;
    while at < end {
        at = at.next_multiple_of(8);
        let (code, kind) = (message[at], message[at + 2]);
        let (start, length) = match kind {
            b'g' => (at + 5, usize::from(message[at + 4])),
            b'u' => (at + 4, 3),
            _ => (at + 8, number(message, at + 4)),
        };
        if code == wanted {
            return Some(&message[start..start + length]);
        }
        at = start + length + 1;
    }
    None
}

impl Reply {
    /// A body that is a boolean.
    pub fn is_true(&self) -> bool {
        number(&self.bytes, body_at(&self.bytes)) == 1
    }

    /// The last string of the body: an object path, mostly.
    pub fn last_string(&self) -> String {
        let end = self.bytes.len() - 1;
        let start = self.bytes[..end].iter().rposition(|byte| *byte == 0).map_or(0, |at| at + 1);
        String::from_utf8_lossy(&self.bytes[start..end]).into_owned()
    }
}
