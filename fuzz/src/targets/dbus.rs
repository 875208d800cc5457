//! Bytes on the daemon's own socket: a call of every row of the tables, with arguments made from the input, and now and
//! then a message that is broken from its first byte. Behind it is the whole front end and the engine with the test
//! driver. A valid call gets a reply; nothing panics.
//!
//! ```text
//! byte 0   which method, or: raw bytes
//! byte 1   which object
//! rest     arguments by the row's signature; text takes what is left over
//! ```

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domus::dbus::listen::Listener;
use domus::dbus::table::{DOMUS, LIBVIRT, signature};
use domus::dbus::{Options, Server};
use domus::engine::access::Policy;
use domus::engine::{Engine, EngineConfig};
use domus::mock::MockDriver;

use crate::{Outcome, hash, shape};

const UUID: &str = "2fbd1d85-719f-4be8-aeb4-3a0d2fea9a4f";
const DOMAIN: &str = "<domain type='test'><name>fuzz</name><uuid>2fbd1d85-719f-4be8-aeb4-3a0d2fea9a4f</uuid>\
                      <memory>1024</memory><os><type>hvm</type></os></domain>";

struct World {
    socket: PathBuf,
    peer: Option<UnixStream>,
    serial: u32,
    /// (interface, member, signature)
    methods: Vec<(&'static str, &'static str, String)>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

/// See the module's text.
pub fn run(data: &[u8]) -> Outcome {
    WORLD.with_borrow_mut(|world| world.run(data))
}

impl World {
    fn new() -> World {
        let base = std::env::temp_dir().join(format!("domus-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&base).expect("a directory of our own");
        let socket = base.join("socket");
        let (ready, is_ready) = std::sync::mpsc::channel();
        let path = socket.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let config = EngineConfig {
                    state_dir: base.join("state"),
                    run_dir: base.join("run"),
                    log_dir: base.join("log"),
                    autostart_parallel: 1,
                    networks: Default::default(),
                    image_user: None,
                };
                let cgroups = Arc::new(domus::cgroup::Manager::default());
                let engine = Engine::open(config, vec![MockDriver::new()], cgroups).await.expect("an engine");
                let options = Options::new(base.display().to_string(), vec!["Test".into()]);
                let server = Server::new(Arc::new(engine), options);
                let listener = Listener::bind(&path, Policy::default()).expect("a socket");
                let _ = ready.send(());
                listener.run(server).await;
            });
        });
        let _ = is_ready.recv();
        let mut methods = Vec::new();
        for interface in LIBVIRT.iter().chain(&DOMUS) {
            methods.extend(interface.methods.iter().map(|m| (interface.name, m.name, signature(m.args))));
        }
        let properties = "org.freedesktop.DBus.Properties";
        methods.push((properties, "Get", "ss".into()));
        methods.push((properties, "GetAll", "s".into()));
        methods.push((properties, "Set", "ssv".into()));
        methods.push(("org.freedesktop.DBus.Introspectable", "Introspect", String::new()));
        methods.push(("org.freedesktop.DBus", "Hello", String::new()));
        World { socket, peer: None, serial: 1, methods }
    }

    fn peer(&mut self) -> &mut UnixStream {
        let socket = &self.socket;
        self.peer.get_or_insert_with(|| {
            let mut stream = UnixStream::connect(socket).expect("the server listens");
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
            let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("/proc"));
            let hex: String = uid.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
            stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes()).expect("written");
            let mut answer = [0; 128];
            let length = stream.read(&mut answer).expect("answered");
            assert!(answer[..length].starts_with(b"OK "), "authentication is refused");
            stream.write_all(b"BEGIN\r\n").expect("written");
            stream
        })
    }

    fn run(&mut self, data: &[u8]) -> Outcome {
        let (Some(&first), Some(&second)) = (data.first(), data.get(1)) else { return 0 };
        let rest = &data[2..];
        if first == 255 {
            return self.raw(rest);
        }
        let (interface, member, signature) = self.methods[usize::from(first) % self.methods.len()].clone();
        let path = match second % 8 {
            0..=2 => "/org/libvirt/Test".to_string(),
            3 | 4 => format!("/org/libvirt/Test/domain/_{}", UUID.replace('-', "_")),
            5 => "/org/libvirt/QEMU".to_string(),
            6 => "/org/domus".to_string(),
            _ => "/".to_string(),
        };
        let mut source = Source { bytes: rest };
        let mut body = Vec::new();
        for kind in split(&signature) {
            source.value(kind, &mut body);
        }
        if second >= 250 {
            // The right signature over bytes that may not fit it.
            body = rest[..rest.len().min(512)].to_vec();
        }
        if member == "DomainDefineXML" && second % 2 == 0 {
            body.clear();
            text(DOMAIN, &mut body);
        }
        let mut domain = member.as_bytes().to_vec();
        let reply = self.call(&path, interface, member, &signature, &body);
        domain.extend(reply.to_le_bytes());
        hash([domain])
    }

    /// Sends a call; what the reply is.
    fn call(&mut self, path: &str, interface: &str, member: &str, signature: &str, body: &[u8]) -> Outcome {
        self.serial += 1;
        let message = message(self.serial, path, interface, member, signature, body);
        let serial = self.serial;
        let stream = self.peer();
        if stream.write_all(&message).is_err() {
            self.peer = None;
            return 2;
        }
        loop {
            match receive(self.peer()) {
                Ok(Some((kind, reply_to, text))) if reply_to == serial => return u64::from(kind) ^ shape(&text),
                Ok(Some(_)) => {}
                Ok(None) => {
                    // Closed: a broken body ends the connection.
                    self.peer = None;
                    return 3;
                }
                Err(error) => panic!("no reply to {interface}.{member}: {error}"),
            }
        }
    }

    /// Bytes that may be no message at all; the server must close or stay usable, and serve others.
    fn raw(&mut self, bytes: &[u8]) -> Outcome {
        let mut former = self.peer.take();
        let stream = self.peer();
        let _ = stream.set_nonblocking(false);
        let sent = stream.write_all(bytes).is_ok();
        self.peer = former.take();
        let alive = self.call("/org/libvirt/Test", "org.freedesktop.DBus.Peer", "Ping", "", &[]);
        hash([[u8::from(sent), alive as u8]])
    }
}

/// Arguments out of bytes.
struct Source<'d> {
    bytes: &'d [u8],
}

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::from(u32::MAX),
            253 => 1 << 31,
            small @ 0..=32 => u64::from(small),
            bit => 1 << (bit % 64),
        }
    }

    fn text(&mut self) -> String {
        let length = match self.byte() {
            0 => return String::new(),
            1 => return UUID.to_string(),
            2 => return DOMAIN.to_string(),
            3 => return "fuzz".to_string(),
            255 => self.bytes.len(),
            length => usize::from(length).min(self.bytes.len()),
        };
        let (text, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        String::from_utf8_lossy(text).replace('\0', "")
    }

    fn value(&mut self, kind: &str, out: &mut Vec<u8>) {
        match kind.as_bytes()[0] {
            b'y' => out.push(self.byte()),
            b'b' => put(out, 4, u64::from(self.byte() & 1)),
            b'n' | b'q' => put(out, 2, self.number()),
            b'i' | b'u' | b'h' => put(out, 4, self.number()),
            b'x' | b't' | b'd' => put(out, 8, self.number()),
            b's' => text(&self.text(), out),
            b'o' => text("/org/libvirt/Test", out),
            b'g' => signature_text("s", out),
            b'v' => {
                let kind = ["s", "u", "i", "t", "x", "b", "d", "as", "v"][usize::from(self.byte()) % 9];
                let kind = if kind == "v" && self.bytes.is_empty() { "s" } else { kind };
                signature_text(kind, out);
                self.value(kind, out);
            }
            b'a' => {
                let inside = &kind[1..];
                put(out, 4, 0);
                let length_at = out.len() - 4;
                pad(out, if inside.starts_with(['{', '(', 't', 'x', 'd']) { 8 } else { 1 });
                let start = out.len();
                for _ in 0..self.byte() % 4 {
                    self.value(inside, out);
                }
                let length = (out.len() - start) as u32;
                out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
            }
            b'{' | b'(' => {
                pad(out, 8);
                for part in split(&kind[1..kind.len() - 1]) {
                    self.value(part, out);
                }
            }
            other => panic!("no values of type {}", other as char),
        }
    }
}

/// The complete types of a signature.
fn split(signature: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = signature;
    while !rest.is_empty() {
        let end = complete(rest.as_bytes());
        parts.push(&rest[..end]);
        rest = &rest[end..];
    }
    parts
}

fn complete(signature: &[u8]) -> usize {
    match signature[0] {
        b'a' => 1 + complete(&signature[1..]),
        b'(' | b'{' => {
            let mut at = 1;
            while !b")}".contains(&signature[at]) {
                at += complete(&signature[at..]);
            }
            at + 1
        }
        _ => 1,
    }
}

fn pad(out: &mut Vec<u8>, to: usize) {
    while !out.len().is_multiple_of(to) {
        out.push(0);
    }
}

fn put(out: &mut Vec<u8>, size: usize, value: u64) {
    pad(out, size);
    out.extend_from_slice(&value.to_le_bytes()[..size]);
}

fn text(value: &str, out: &mut Vec<u8>) {
    put(out, 4, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
    out.push(0);
}

fn signature_text(value: &str, out: &mut Vec<u8>) {
    out.push(value.len() as u8);
    out.extend_from_slice(value.as_bytes());
    out.push(0);
}

/// A method call, little endian.
fn message(serial: u32, path: &str, interface: &str, member: &str, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut out = vec![b'l', 1, 0, 1];
    put(&mut out, 4, body.len() as u64);
    put(&mut out, 4, u64::from(serial));
    put(&mut out, 4, 0);
    let start = out.len();
    for (code, kind, value) in [(1, "o", path), (2, "s", interface), (3, "s", member), (8, "g", signature)] {
        if code == 8 && value.is_empty() {
            continue;
        }
        pad(&mut out, 8);
        out.push(code);
        signature_text(kind, &mut out);
        if kind == "g" { signature_text(value, &mut out) } else { text(value, &mut out) }
    }
    let length = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&length.to_le_bytes());
    pad(&mut out, 8);
    out.extend_from_slice(body);
    out
}

/// The next message: its type, what it replies to, and an error's name. `None` = closed.
fn receive(stream: &mut UnixStream) -> std::io::Result<Option<(u8, u32, String)>> {
    let mut head = [0; 16];
    if let Err(error) = stream.read_exact(&mut head) {
        let closed = matches!(
            error.kind(),
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
        );
        return if closed { Ok(None) } else { Err(error) };
    }
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (body, fields) = (number(4), number(12));
    let mut rest = vec![0; fields.next_multiple_of(8) + body];
    stream.read_exact(&mut rest)?;
    // Field 5 is a `u`; our server writes little endian.
    let (mut reply_to, mut text) = (0, String::new());
    let mut at = 0;
    while at + 8 <= fields {
        let (code, kind) = (rest[at], rest[at + 2]);
        at += 4;
        match kind {
            b'u' => {
                let value = u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
                if code == 5 {
                    reply_to = value;
                }
                at += 4;
            }
            b'g' => at += usize::from(rest[at]) + 2,
            _ => {
                let length = u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]) as usize;
                if code == 4 {
                    text = String::from_utf8_lossy(&rest[at + 4..at + 4 + length]).into_owned();
                }
                at += 4 + length + 1;
            }
        }
        at = at.next_multiple_of(8);
    }
    if head[1] == 3 && body > 5 {
        text.push_str(&String::from_utf8_lossy(&rest[fields.next_multiple_of(8) + 4..]));
    }
    Ok(Some((head[1], reply_to, text)))
}

/// One input for each method and object, and broken messages.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for method in 0..=254u8 {
        for object in [0u8, 1, 3, 250] {
            seeds.push(vec![method, object, 1, 0, 2, 0, 3, 255, 254]);
        }
    }
    let mut broken = vec![255u8, 0];
    broken.extend(message(1, "/", "org.freedesktop.DBus.Peer", "Ping", "s", b"\xff\xff\xff\xff"));
    seeds.push(broken);
    seeds
}
