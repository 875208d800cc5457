//! Bytes on the daemon's own RPC socket: a call of every procedure that is served, with arguments made from the input,
//! and now and then bytes that are no packet. Behind it is the whole front end and the engine with the test driver.
//! Every call gets a reply or a closed connection; nothing panics. Before that, the input goes through the decoders that
//! all rows are made of: what one of them reads is written so that it reads back.
//!
//! ```text
//! byte 0, 1   which procedure; 255 255: the rest goes to a connection of its own as it is
//! byte 2      as written, or with another type, status, program or length
//! rest        arguments, one after the other (see `arguments`)
//! ```

use std::cell::RefCell;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domus::engine::access::Policy;
use domus::engine::{Engine, EngineConfig};
use domus::mock::MockDriver;
use domus::rpc::frame::{self, Header, Kind, Status};
use domus::rpc::listen::Listener;
use domus::rpc::table::{GROUPS, REMOTE};
use domus::rpc::wire::{DomainHandle, Params};
use domus::rpc::xdr::{Opaque, Put, Reader, Take, decode, encode};
use domus::rpc::{Options, Server};

use crate::{Outcome, hash, shape};

const UUID: [u8; 16] = [0x2f, 0xbd, 0x1d, 0x85, 0x71, 0x9f, 0x4b, 0xe8, 0xae, 0xb4, 0x3a, 0x0d, 0x2f, 0xea, 0x9a, 0x4f];
const DOMAIN: &str = "<domain type='test'><name>fuzz</name><uuid>2fbd1d85-719f-4be8-aeb4-3a0d2fea9a4f</uuid>\
                      <memory>1024</memory><os><type>hvm</type></os></domain>";
const AUTH_LIST: i32 = 66;
const OPEN: i32 = 1;
const DEFINE: i32 = 11;
/// Time for an answer; nothing the test driver does takes any.
const PATIENCE: Duration = Duration::from_secs(15);

struct World {
    socket: PathBuf,
    peer: Option<UnixStream>,
    serial: u32,
    /// Program and number of every procedure that is served.
    rows: Vec<(u32, i32)>,
    calls: u32,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

/// See the module's text.
pub fn run(data: &[u8]) -> Outcome {
    let decoded = decoders(data);
    WORLD.with_borrow_mut(|world| world.run(data)) ^ decoded.rotate_left(1)
}

/// The types that arguments are made of.
fn decoders(data: &[u8]) -> Outcome {
    if let Ok(Some(length)) = frame::packet_length(data) {
        assert!((frame::HEADER..=frame::MAX_PACKET).contains(&length), "a packet of {length} bytes");
    }
    if let Ok(header) = frame::header(data) {
        let again = frame::header(&header.packet(|_| {}));
        assert_eq!(again, Ok(header), "a header changes on its way");
    }
    let taken = [
        one::<DomainHandle>(data),
        one::<Params>(data),
        one::<String>(data),
        one::<Option<String>>(data),
        one::<Vec<String>>(data),
        one::<Vec<(u32, i32, u64, i32)>>(data),
        one::<Opaque>(data),
        one::<(i32, u32, i64, u64)>(data),
        one::<(DomainHandle, Option<String>, u32)>(data),
        one::<(Vec<DomainHandle>, Params, u32)>(data),
    ];
    hash([taken.map(u8::from)])
}

/// Whether the bytes are one; what was read reads back as it was, and without a rest if it came without one.
fn one<T: Take + Put + Debug>(data: &[u8]) -> bool {
    let mut reader = Reader::new(data);
    let Ok(value) = T::take(&mut reader) else { return false };
    let bytes = encode(&value);
    let again: T = decode(&bytes).unwrap_or_else(|_| panic!("what was written is not read: {value:?}"));
    // Not by value: a number may be no number.
    assert_eq!(encode(&again), bytes, "a value changes on its way");
    true
}

impl World {
    fn new() -> World {
        let base = std::env::temp_dir().join(format!("domus-fuzz-rpc-{}", std::process::id()));
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
                let server = Server::new(Arc::new(engine), Options::default());
                let listener = Listener::bind(&path, Policy::default(), false).expect("a socket");
                let _ = ready.send(());
                listener.run(server).await;
            });
        });
        let _ = is_ready.recv();
        let served = GROUPS.iter().flat_map(|group| group.rows.iter().map(|row| (group.program, row)));
        let rows = served.filter(|(_, row)| row.run.is_some()).map(|(program, row)| (program, row.number)).collect();
        World { socket, peer: None, serial: 1, rows, calls: 0 }
    }

    fn run(&mut self, data: &[u8]) -> Outcome {
        let [first, second, how, rest @ ..] = data else { return 0 };
        if (*first, *second) == (255, 255) {
            return self.raw(rest);
        }
        // Now and then the domain is there as it was.
        self.calls += 1;
        if self.calls % 256 == 1 {
            self.call(REMOTE, DEFINE, &encode(&DOMAIN), None);
        }
        let at = usize::from(u16::from_be_bytes([*first, *second]));
        let (program, number) = self.rows[at % self.rows.len()];
        let outcome = self.call(program, number, &arguments(rest), Some(*how));
        hash([number.to_be_bytes().to_vec(), outcome.to_be_bytes().to_vec()])
    }

    /// A connection that is authenticated and open.
    fn peer(&mut self) -> &mut UnixStream {
        let socket = &self.socket;
        self.peer.get_or_insert_with(|| {
            let mut stream = UnixStream::connect(socket).expect("the server listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            let open = encode(&(Some("test:///default"), 0u32));
            for (number, payload) in [(AUTH_LIST, Vec::new()), (OPEN, open)] {
                let header = Header {
                    program: REMOTE,
                    version: 1,
                    procedure: number,
                    kind: Kind::Call,
                    serial: 1,
                    status: Status::Ok,
                };
                stream.write_all(&header.packet(|out| out.extend(payload))).expect("written");
                let (answer, _) = receive(&mut stream).expect("answered").expect("not closed");
                assert_eq!(answer.status, Status::Ok, "the connection is not opened");
            }
            stream
        })
    }

    /// Sends a call; what the reply is.
    fn call(&mut self, program: u32, number: i32, payload: &[u8], how: Option<u8>) -> Outcome {
        self.serial = self.serial.wrapping_add(1).max(2);
        let serial = self.serial;
        let mut header =
            Header { program, version: 1, procedure: number, kind: Kind::Call, serial, status: Status::Ok };
        let mut is_call = true;
        match how {
            Some(255) => header.version = 2,
            Some(254) => header.program = 7,
            Some(253) => header.procedure = i32::MAX,
            // Neither of these gets a reply that one could wait for; the next call shows that all is well.
            Some(252) => (header.kind, is_call) = (Kind::Stream, false),
            Some(251) => (header.kind, header.status, is_call) = (Kind::StreamHole, Status::Continue, false),
            Some(250) => (header.kind, is_call) = (Kind::Message, false),
            Some(249) => header.kind = Kind::CallWithFds,
            _ => {}
        }
        let packet = header.packet(|out| {
            if header.kind == Kind::CallWithFds {
                // How many descriptors come: with more, the server waits for them.
                0u32.put(out);
            }
            out.extend(payload);
        });
        if self.peer().write_all(&packet).is_err() {
            self.peer = None;
            return 2;
        }
        if !is_call {
            return 4 ^ self.call(REMOTE, AUTH_LIST, &[], None);
        }
        loop {
            match receive(self.peer()) {
                Ok(Some((answer, payload))) if answer.serial == serial && answer.kind != Kind::Stream => {
                    return match answer.status {
                        Status::Error => error(&payload),
                        _ => 1,
                    };
                }
                // An event, or bytes of a stream.
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.peer = None;
                    return 3;
                }
                Err(error) => panic!("no reply to {number} of {program:#x}: {error}"),
            }
        }
    }

    /// Bytes that may be no packet at all; others are served all the same.
    fn raw(&mut self, bytes: &[u8]) -> Outcome {
        let mut stream = UnixStream::connect(&self.socket).expect("the server listens");
        let sent = stream.write_all(bytes).is_ok();
        let alive = self.call(REMOTE, AUTH_LIST, &[], None);
        hash([[u8::from(sent), alive as u8]])
    }
}

/// Arguments out of bytes: each says what the next argument is.
fn arguments(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((kind, rest)) = bytes.split_first() {
        bytes = rest;
        let mut byte = || {
            let Some((first, rest)) = bytes.split_first() else { return 0 };
            bytes = rest;
            *first
        };
        match kind % 16 {
            0 => u32::from(byte()).put(&mut out),
            1 => u64::from(byte()).put(&mut out),
            2 => (1u32 << (byte() % 32)).put(&mut out),
            3 => u32::MAX.put(&mut out),
            4 => DomainHandle { name: "fuzz".into(), uuid: domus::types::Uuid::from_bytes(UUID), id: -1 }.put(&mut out),
            5 => None::<String>.put(&mut out),
            6 => Some(text(&mut byte)).put(&mut out),
            7 => text(&mut byte).put(&mut out),
            8 => DOMAIN.put(&mut out),
            9 => UUID.iter().for_each(|part| out.push(*part)),
            10 => {
                // Typed parameters: name, type, value.
                let count = u32::from(byte() % 4);
                count.put(&mut out);
                for _ in 0..count {
                    text(&mut byte).put(&mut out);
                    let kind = i32::from(byte() % 9);
                    kind.put(&mut out);
                    match kind {
                        3..=5 => u64::from(byte()).put(&mut out),
                        7 => text(&mut byte).put(&mut out),
                        _ => u32::from(byte()).put(&mut out),
                    }
                }
            }
            11 => Opaque((0..byte() % 64).map(|_| byte()).collect()).put(&mut out),
            12 => {
                // A length that nothing stands behind.
                (u32::from(byte()) << 24).put(&mut out);
            }
            _ => out.push(byte()),
        }
    }
    out
}

fn text(byte: &mut impl FnMut() -> u8) -> String {
    match byte() {
        0 => String::new(),
        1 => "fuzz".to_string(),
        2 => "vda".to_string(),
        3 => DOMAIN.to_string(),
        4 => "<disk><source file='/a'/><target dev='vda'/></disk>".to_string(),
        5 => "cpu_shares".to_string(),
        length => (0..length % 64).map(|_| char::from(byte())).collect(),
    }
}

/// An error's code and text.
fn error(payload: &[u8]) -> Outcome {
    let mut reader = Reader::new(payload);
    let (code, domain, message) =
        <(i32, i32, Option<String>)>::take(&mut reader).expect("an error has code, subsystem and message");
    shape(&format!("{code} {domain} {}", message.unwrap_or_default()))
}

/// The next packet; `None` = closed.
fn receive(stream: &mut UnixStream) -> std::io::Result<Option<(Header, Vec<u8>)>> {
    let mut length = [0; 4];
    if let Err(error) = stream.read_exact(&mut length) {
        let closed = matches!(
            error.kind(),
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
        );
        return if closed { Ok(None) } else { Err(error) };
    }
    let size = frame::packet_length(&length).ok().flatten().expect("our own server sends packets");
    let mut packet = length.to_vec();
    packet.resize(size, 0);
    stream.read_exact(&mut packet[4..])?;
    let header = frame::header(&packet).expect("our own server sends headers");
    // What fds came with it, the kernel closes.
    let payload = packet.split_off(frame::HEADER);
    Ok(Some((header, payload)))
}

/// Inputs for each procedure, and broken packets.
pub fn seeds() -> Vec<Vec<u8>> {
    let rows = GROUPS.iter().flat_map(|group| group.rows.iter()).filter(|row| row.run.is_some()).count();
    let arguments: [&[u8]; 8] = [
        &[],
        &[4],
        &[4, 0, 0],
        &[4, 0, 0, 0, 0, 0, 0, 0, 0],
        &[4, 7, 2, 0, 0],
        &[4, 10, 1, 5, 4, 9, 0, 0],
        &[7, 1, 0, 0],
        &[8, 0, 0],
    ];
    let mut seeds = Vec::new();
    for row in 0..rows {
        let [first, second] = (row as u16).to_be_bytes();
        seeds.extend(arguments.iter().map(|rest| [&[first, second, 0][..], rest].concat()));
    }
    for how in 249..=255 {
        seeds.push(vec![0, 1, how, 4, 0, 0]);
    }
    for length in [0u32, 3, 27, 28, 29, 1 << 20, frame::MAX_PACKET as u32, frame::MAX_PACKET as u32 + 1, u32::MAX] {
        let mut broken = vec![255, 255, 0];
        broken.extend(length.to_be_bytes());
        broken.extend(REMOTE.to_be_bytes());
        seeds.push(broken);
    }
    // What the decoders take as it is.
    let handle = DomainHandle { name: "fuzz".into(), uuid: domus::types::Uuid::from_bytes(UUID), id: 7 };
    let mut params = domus::types::TypedParams::new();
    params.ullong("cpu_shares", 1024);
    params.string("a", "b");
    seeds.push(encode(&(vec![handle], Params(params), 0u32)));
    seeds
}
