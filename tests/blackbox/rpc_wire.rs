//! libvirt's protocol as bytes: what a client that means no good, or no sense, gets. On the mock driver.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::harness::{DEADLINE, Lab};

const REMOTE: u32 = 0x2000_8086;
const KEEPALIVE: u32 = 0x6b65_6570;
const CALL: u32 = 0;

/// A connection.
pub struct Wire(pub UnixStream);

/// Program, version, procedure, type, serial, status; then the payload.
pub type Packet = ([u32; 6], Vec<u8>);

impl Wire {
    fn connect(lab: &Lab, name: &str) -> Wire {
        Wire::at(&lab.root().join("run").join(name))
    }

    pub fn at(path: &std::path::Path) -> Wire {
        let socket = UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Wire(socket)
    }

    fn send(&mut self, words: [u32; 6], payload: &[u8]) {
        let length = u32::try_from(28 + payload.len()).unwrap();
        let mut packet = length.to_be_bytes().to_vec();
        words.iter().for_each(|word| packet.extend(word.to_be_bytes()));
        packet.extend(payload);
        self.0.write_all(&packet).unwrap();
    }

    /// A call whose answer is not waited for.
    pub fn begin(&mut self, procedure: u32, payload: &[u8]) {
        self.send([REMOTE, 1, procedure, CALL, 7, 0], payload);
    }

    pub fn call(&mut self, procedure: u32, payload: &[u8]) -> Packet {
        self.begin(procedure, payload);
        self.receive().expect("an answer")
    }

    pub fn receive(&mut self) -> Option<Packet> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).ok()?;
        let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
        self.0.read_exact(&mut rest).unwrap();
        let mut words = [0; 6];
        for (word, bytes) in words.iter_mut().zip(rest.chunks(4)) {
            *word = u32::from_be_bytes(bytes.try_into().unwrap());
        }
        Some((words, rest[24..].to_vec()))
    }

    pub fn open(lab: &Lab, name: &str) -> Wire {
        let mut wire = Wire::connect(lab, name);
        assert_eq!(wire.call(66, &[]).1, [0, 0, 0, 1, 0, 0, 0, 0]);
        let (words, _) = wire.call(1, &arguments("test:///default"));
        assert_eq!(words[5], 0);
        wire
    }
}

/// Sends a call and does not wait.
pub fn ask(wire: &mut Wire, procedure: u32, serial: u32, payload: &[u8]) {
    wire.send([REMOTE, 1, procedure, CALL, serial, 0], payload);
}

/// `remote_connect_open_args` without flags.
pub fn arguments(uri: &str) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 1];
    out.extend(string(uri));
    out.extend([0; 4]);
    out
}

/// A string as XDR writes it.
pub fn string(text: &str) -> Vec<u8> {
    let mut out = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    out.extend(text.as_bytes());
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// Code, error domain and message of an error.
fn error((words, payload): &Packet) -> (u32, u32, String) {
    assert_eq!(words[5], 1, "this is no error");
    let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
    let length = word(12) as usize;
    (word(0), word(4), String::from_utf8(payload[16..16 + length].to_vec()).unwrap())
}

#[test]
fn refusals_have_libvirts_codes() {
    let lab = Lab::mock();
    let mut wire = Wire::connect(&lab, "libvirt-sock");
    assert_eq!(error(&wire.call(212, &[])), (39, 7, "RPC error: authentication required".into()));
    wire.call(66, &[]);
    let not_open = (1, 7, "internal error: hypervisor connection not open".to_string());
    assert_eq!(error(&wire.call(4, &[])), not_open);
    assert_eq!(error(&wire.call(38, &[])), not_open);
    let (code, domain, text) = error(&wire.call(1, &arguments("foo:///system")));
    assert_eq!((code, domain), (5, 0));
    assert_eq!(text, "no connection driver available for foo:///system");
    wire.call(1, &arguments("test:///default"));
    assert_eq!(error(&wire.call(1, &arguments("test:///default"))).2, "internal error: connection already open");
    // The first opening still stands.
    assert_eq!(wire.call(4, &[]).0[5], 0);
    assert_eq!(error(&wire.call(318, &[])), (39, 7, "RPC error: unknown procedure: 318".into()));
    assert_eq!(error(&wire.call(9999, &[])), (39, 7, "RPC error: unknown procedure: 9999".into()));
    let (code, domain, text) = error(&wire.call(305, &[]));
    assert_eq!((code, domain), (3, 12), "{text}");
    wire.send([42, 3, 1, CALL, 8, 0], &[]);
    let answer = wire.receive().unwrap();
    assert_eq!(answer.0[..5], [42, 3, 1, 1, 8]);
    assert_eq!(error(&answer), (39, 7, "RPC error: Cannot find program 42 version 3".into()));
    assert_eq!(error(&wire.call(23, &[0, 0, 0, 9, b'a'])).2, "RPC error: Unable to decode message payload");
    assert_eq!(
        error(&wire.call(316, &[0, 0, 0, 99, 0, 0, 0, 0])),
        (1, 7, "internal error: unsupported event ID 99".into())
    );
    // Bytes after the arguments are ignored.
    assert_eq!(wire.call(4, &[1; 16]).0[5], 0);
    drop(wire);
    lab.finish();
}

#[test]
fn packets_without_a_shape_end_the_connection_and_nothing_else() {
    let lab = Lab::mock();
    let mut bystander = Wire::open(&lab, "libvirt-sock");
    for bytes in [
        &3u32.to_be_bytes()[..],
        &20u32.to_be_bytes(),
        &40_000_000u32.to_be_bytes(),
        &u32::MAX.to_be_bytes(),
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut wire = Wire::open(&lab, "libvirt-sock");
        wire.0.write_all(bytes).unwrap();
        assert!(wire.receive().is_none(), "{bytes:?}");
    }
    // A type and a status that do not exist; more descriptors promised than there can be.
    for (kind, status, payload) in [(9, 0, vec![]), (0, 9, vec![]), (4, 0, vec![0, 0, 0, 33])] {
        let mut wire = Wire::open(&lab, "libvirt-sock");
        wire.send([REMOTE, 1, 4, kind, 1, status], &payload);
        assert!(wire.receive().is_none(), "{kind} {status}");
    }
    // Half a packet, then nothing.
    let mut half = Wire::open(&lab, "libvirt-sock");
    half.0.write_all(&33_000_000u32.to_be_bytes()).unwrap();
    half.0.write_all(&[0; 100]).unwrap();
    drop(half);
    assert_eq!(bystander.call(4, &[]).0[5], 0);
    drop(bystander);
    lab.finish();
}

#[test]
fn calls_of_one_client_overlap_and_pings_are_answered() {
    let lab = Lab::mock();
    let mut wire = Wire::open(&lab, "libvirt-sock");
    for serial in 100..200 {
        wire.send([REMOTE, 1, 4, CALL, serial, 0], &[]);
    }
    wire.send([KEEPALIVE, 1, 1, 2, 0, 0], &[]);
    let mut serials = Vec::new();
    let mut pongs = 0;
    while serials.len() < 100 || pongs < 1 {
        let (words, _) = wire.receive().unwrap();
        match words[0] {
            KEEPALIVE => pongs += 1,
            _ => serials.push(words[4]),
        }
    }
    serials.sort_unstable();
    assert_eq!(serials, (100..200).collect::<Vec<_>>());
    drop(wire);
    lab.finish();
}

#[test]
fn the_read_only_socket_only_reads() {
    let lab = Lab::mock();
    let mut wire = Wire::open(&lab, "libvirt-sock-ro");
    let mut payload =
        string("<domain type='test'><name>n</name><memory>8192</memory><os><type>hvm</type></os></domain>");
    let (code, _, text) = error(&wire.call(11, &payload));
    assert_eq!(code, 29, "{text}");
    let mut all = Wire::open(&lab, "libvirt-sock");
    assert_eq!(all.call(11, &payload).0[5], 0);
    payload = string("n");
    assert_eq!(wire.call(23, &payload).0[5], 0, "reading is allowed");
    drop((wire, all));
    lab.finish();
}

#[test]
fn idle_clients_are_cheap_and_a_silent_one_is_dropped() {
    let lab = Lab::mock();
    let resident = || -> i64 {
        // Its own memory: its share of the program's pages depends on who else runs it now.
        let text = std::fs::read_to_string(format!("/proc/{}/status", lab.pid())).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or("RssAnon: 0 kB").to_string();
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    let warm: Vec<Wire> = (0..50).map(|_| Wire::open(&lab, "libvirt-sock")).collect();
    let before = resident();
    let clients: Vec<Wire> = (0..500).map(|_| Wire::open(&lab, "libvirt-sock")).collect();
    let each = (resident() - before) / 500;
    assert!(each < 20, "{each} KiB per idle client");
    drop(clients);
    // Asked for keepalive, never answers: pings come, then the end. The interval is libvirt's, so this takes 30 s.
    let mut silent = Wire::open(&lab, "libvirt-sock");
    assert_eq!(silent.call(60, &[0, 0, 0, 10]).1, [0, 0, 0, 1]);
    silent.0.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut pings = 0;
    while let Some((words, _)) = silent.receive() {
        assert_eq!((words[0], words[2]), (KEEPALIVE, 1));
        pings += 1;
    }
    assert_eq!(pings, 5);
    drop((warm, silent));
    lab.finish();
}
