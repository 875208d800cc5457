//! libvirt's protocol: domusd, libvirtd where it is installed, and a server that only answers, asked by the same client in turn.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use domus::rpc::frame::{Header, Kind, Status};
use domus::rpc::table::REMOTE;
use domus::rpc::xdr::Put;

use crate::libvirtd::Libvirtd;
use crate::table::{Samples, Table};
use crate::world::{World, nova_xml, pss};

/// First argument of the process that only answers; the second is its socket.
pub const FLOOR: &str = "rpc-floor";
const CLIENTS: usize = 16;
const DOMAINS: usize = 1000;
const IDLE: usize = 1000;
const OPEN: i32 = 1;
const DEFINE: i32 = 11;
const AUTH_LIST: i32 = 66;
const GET_STATE: i32 = 212;
const REGISTER_EVENT: i32 = 316;
const ALL_STATS: i32 = 344;
/// Bytes of the floor's answer about 1,000 domains: as many as domusd gives.
const ALL_STATS_ANSWER: usize = 500_000;

/// A blocking client: what is measured is the server, not it.
struct Caller {
    stream: UnixStream,
    serial: u32,
    answer: Vec<u8>,
}

impl Caller {
    fn new(socket: &Path) -> Caller {
        let end = Instant::now() + Duration::from_secs(30);
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > end => panic!("{}: {error}", socket.display()),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let mut caller = Caller { stream, serial: 0, answer: Vec::new() };
        caller.call(AUTH_LIST, &());
        caller.call(OPEN, &(Some("qemu:///system"), 0u32));
        caller
    }

    fn call(&mut self, procedure: i32, arguments: &impl Put) -> &[u8] {
        let packet = call(procedure, self.serial, arguments);
        self.serial += 1;
        self.send(&packet)
    }

    /// Sends a whole packet and waits for its answer; messages that come before are passed over.
    fn send(&mut self, packet: &[u8]) -> &[u8] {
        self.stream.write_all(packet).unwrap();
        loop {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length).unwrap();
            self.answer.resize(u32::from_be_bytes(length) as usize - 4, 0);
            self.stream.read_exact(&mut self.answer).unwrap();
            if self.answer[12..16] != [0, 0, 0, 1] {
                continue;
            }
            assert!(self.answer[20..24] == [0; 4], "{}", String::from_utf8_lossy(&self.answer[24..]));
            return &self.answer[24..];
        }
    }
}

fn call(procedure: i32, serial: u32, arguments: &impl Put) -> Vec<u8> {
    let header = Header { program: REMOTE, version: 1, procedure, kind: Kind::Call, serial, status: Status::Ok };
    header.packet(|out| arguments.put(out))
}

/// Answers every call with a void, or with what is right for the few calls that are measured. One thread per client, as
/// there is nothing cheaper.
pub fn floor(socket: &str) {
    for stream in UnixListener::bind(socket).unwrap().incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let mut packet = vec![0; 64 * 1024];
            loop {
                // One read: a call this small comes in one piece.
                let count = stream.read(&mut packet).unwrap_or(0);
                if count < 28 {
                    return;
                }
                let procedure = i32::from_be_bytes([packet[12], packet[13], packet[14], packet[15]]);
                let serial = u32::from_be_bytes([packet[20], packet[21], packet[22], packet[23]]);
                let header =
                    Header { program: REMOTE, version: 1, procedure, kind: Kind::Reply, serial, status: Status::Ok };
                let answer = header.packet(|out| match procedure {
                    AUTH_LIST => vec![0i32].put(out),
                    GET_STATE => (1i32, 1i32).put(out),
                    ALL_STATS => out.resize(ALL_STATS_ANSWER, 0),
                    // A domain: the few procedures that libvirt's client looks into before its first call.
                    _ => (("bench-0", 0u64), (0u64, -1i32)).put(out),
                });
                if stream.write_all(&answer).is_err() {
                    return;
                }
            }
        });
    }
}

/// A server to ask, and a domain of its.
struct Target {
    name: &'static str,
    socket: PathBuf,
    pid: u32,
    state: Vec<u8>,
}

fn definition(number: usize, base: &Path) -> String {
    nova_xml(&format!("bench-{number}"), &format!("2fbd1d85-719f-4be8-aeb4-{number:012x}"), base)
}

impl Target {
    /// With [`DOMAINS`] definitions in it.
    fn new(name: &'static str, socket: PathBuf, pid: u32, base: &Path) -> Target {
        let mut caller = Caller::new(&socket);
        let mut domain = Vec::new();
        for number in 0..DOMAINS {
            domain = caller.call(DEFINE, &definition(number, base).as_str()).to_vec();
            if name == FLOOR_NAME {
                break;
            }
        }
        let header = Header {
            program: REMOTE,
            version: 1,
            procedure: GET_STATE,
            kind: Kind::Call,
            serial: 9,
            status: Status::Ok,
        };
        let state = header.packet(|out| {
            out.extend(domain);
            0u32.put(out);
        });
        Target { name, socket, pid, state }
    }

    /// Calls per second of [`CLIENTS`] clients together.
    fn throughput(&self, calls: usize) -> f64 {
        let barrier = Barrier::new(CLIENTS + 1);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut caller = Caller::new(&self.socket);
                        barrier.wait();
                        for _ in 0..calls {
                            caller.send(&self.state);
                        }
                    })
                })
                .collect();
            barrier.wait();
            let start = Instant::now();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            (CLIENTS * calls) as f64 / start.elapsed().as_secs_f64()
        })
    }

    /// What a client that is connected, listens to life-cycle events and does nothing costs the server, bytes.
    fn idle(&self) -> f64 {
        let open = || {
            let mut caller = Caller::new(&self.socket);
            caller.call(REGISTER_EVENT, &(0i32, None::<u32>));
            caller
        };
        // A few before: what the first client alone costs is not each one's. No more, or the memory that they leave
        // behind would hide what the others take.
        drop((0..CLIENTS).map(|_| open()).collect::<Vec<_>>());
        let before = pss(self.pid);
        let clients: Vec<Caller> = (0..IDLE).map(|_| open()).collect();
        let after = pss(self.pid);
        drop(clients);
        (after as f64 - before as f64) * 1024.0 / IDLE as f64
    }
}

const FLOOR_NAME: &str = "a server that only answers";

/// See the module's text.
pub fn measure(rounds: usize, table: &mut Table) -> Result<(), String> {
    let world = World::with_guests()?;
    let libvirtd = Libvirtd::start().inspect_err(|reason| eprintln!("SKIP libvirtd: {reason}")).ok();
    let socket = world.base.join("floor");
    let mut floor = Command::new(std::env::current_exe().unwrap())
        .args([FLOOR, socket.to_str().unwrap()])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut targets = vec![
        Target::new("domusd", world.root().join("run/libvirt-sock"), world.pid(), &world.base),
        Target::new(FLOOR_NAME, socket, floor.id(), &world.base),
    ];
    if let Some(libvirtd) = &libvirtd {
        let socket = PathBuf::from("/run/libvirt/libvirt-sock");
        targets.push(Target::new("libvirtd", socket, libvirtd.pid(), &world.base));
    }
    let mut callers: Vec<Caller> = targets.iter().map(|target| Caller::new(&target.socket)).collect();

    let mut states: Vec<Samples> = targets.iter().map(|_| Samples::default()).collect();
    for round in 0..rounds * 200 + 200 {
        for ((target, caller), samples) in targets.iter().zip(&mut callers).zip(&mut states) {
            let start = Instant::now();
            caller.send(&target.state);
            if round >= 200 {
                samples.push(start.elapsed());
            }
        }
    }
    show(table, "state call, 1 client", &targets, &states);
    all_stats(rounds, table, &targets, &mut callers);
    drop(callers);
    // Before many clients at once have made the server larger.
    for target in targets.iter().filter(|target| target.name != FLOOR_NAME) {
        let bytes = target.idle();
        let what = format!("RPC: an idle client of {IDLE} with an event callback: {}", target.name);
        table.add(&what, &format!("{:.1} kB", bytes / 1e3), "", "");
    }
    let mut rates = vec![Vec::new(); targets.len()];
    for _ in 0..rounds.clamp(1, 5) {
        for (target, rates) in targets.iter().zip(&mut rates) {
            rates.push(target.throughput(1000));
        }
    }
    for (target, mut rates) in targets.iter().zip(rates) {
        rates.sort_by(f64::total_cmp);
        let (median, least, most) = (rates[rates.len() / 2], rates[0], rates[rates.len() - 1]);
        let value = format!("{median:.0}/s ({least:.0} .. {most:.0})");
        table.add(&format!("RPC: state calls, {CLIENTS} clients: {}", target.name), &value, "", "");
    }
    let _ = floor.kill();
    let _ = floor.wait();
    Ok(())
}

fn all_stats(rounds: usize, table: &mut Table, targets: &[Target], callers: &mut [Caller]) {
    let mut all: Vec<Samples> = targets.iter().map(|_| Samples::default()).collect();
    let mut bytes = Vec::new();
    for _ in 0..rounds * 2 {
        bytes.clear();
        for (caller, samples) in callers.iter_mut().zip(&mut all) {
            let start = Instant::now();
            let length = caller.call(ALL_STATS, &(0u32, 0u32, 0u32)).len();
            samples.push(start.elapsed());
            bytes.push(length);
        }
    }
    show(table, &format!("statistics of {DOMAINS} domains, all off ({bytes:?} bytes)"), targets, &all);
}

/// Ours beside the floor; libvirtd below.
fn show(table: &mut Table, what: &str, targets: &[Target], samples: &[Samples]) {
    table.beside(&format!("RPC: {what}"), &samples[0], targets[1].name, &samples[1]);
    if let (Some(target), Some(samples)) = (targets.get(2), samples.get(2)) {
        table.alone(&format!("RPC: {what}: {}", target.name), samples);
    }
}
