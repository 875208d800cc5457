//! D-Bus over a bus daemon: domusd's test driver, libvirt-dbus on libvirtd where they are installed, and a service that
//! only answers, which is what the two hops over the bus cost by themselves; the same client asks them in turn.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::client::{BUS, CONNECT, Client, DOMAIN, QEMU, TEST, body_at, number, text_field};
use crate::libvirtd::Libvirtd;
use crate::table::{Samples, Table};
use crate::world::{World, nova_xml};

/// First argument of the process that only answers; the second is the bus's socket.
pub const ECHO: &str = "bus-echo";
const ECHO_NAME: &str = "org.domus.Echo";
const LIBVIRT: &str = "org.libvirt";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const PATIENCE: Duration = Duration::from_secs(30);
const CLIENTS: usize = 16;
const DOMAINS: usize = 1000;
const LISTENERS: usize = 100;
const EVENTS: usize = 5_000;
const EVENTS_PER_SECOND: u32 = 1_000;
/// Who makes them: a call waits for its answer, which comes after the event was sent to all.
const CALLERS: usize = 4;
const GUESTS: usize = 20;

/// Answers every call on the bus with `((ii))`, as GetState is answered, and does nothing else.
pub fn echo(socket: &Path) {
    let mut client = Client::on_bus(socket, BUS).unwrap();
    client.bus("RequestName", &(ECHO_NAME, 4u32));
    loop {
        let call = client.next_call();
        client.answer(&answer_to(&call));
    }
}

/// The answer to a call, put together by hand: nothing of a library is in the floor.
fn answer_to(call: &[u8]) -> Vec<u8> {
    let mut fields = vec![5, 1, b'u', 0];
    fields.extend(&call[8..12]);
    fields.extend([6, 1, b's', 0]);
    let sender = text_field(call, 7).unwrap();
    fields.extend(u32::try_from(sender.len()).unwrap().to_le_bytes());
    fields.extend(sender);
    fields.resize((fields.len() + 1).next_multiple_of(8), 0);
    fields.extend(b"\x08\x01g\x00\x04(ii)\x00");
    // Little endian, a method's return that wants no answer, 8 bytes of body, any serial.
    let mut message = b"l\x02\x01\x01\x08\0\0\0\x01\0\0\0".to_vec();
    message.extend(u32::try_from(fields.len()).unwrap().to_le_bytes());
    message.extend(fields);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend([5, 0, 0, 0, 0, 0, 0, 0]);
    message
}

/// A bus of our own, which starts no service.
struct Bus {
    process: Child,
    socket: PathBuf,
}

impl Bus {
    /// Its socket and its configuration are `socket` with and without an ending.
    fn start(socket: PathBuf) -> Result<Bus, String> {
        let config = socket.with_extension("conf");
        let text = format!(
            "<busconfig><type>session</type><listen>{}</listen><auth>EXTERNAL</auth>\
             <policy context='default'><allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/>\
             <allow own='*'/><allow user='*'/></policy></busconfig>",
            address(&socket)
        );
        std::fs::write(&config, text).map_err(|error| error.to_string())?;
        let process = Command::new("dbus-daemon")
            .args(["--nofork", "--nopidfile", "--config-file"])
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("dbus-daemon: {error}"))?;
        let bus = Bus { process, socket };
        wait("the bus", || UnixStream::connect(&bus.socket).is_ok());
        Ok(bus)
    }

    fn client(&self, name: &'static str) -> Client {
        Client::on_bus(&self.socket, name).unwrap()
    }

    /// Waits until somebody owns `name`.
    fn wait_for(&self, name: &'static str) {
        let mut client = self.client(name);
        wait(name, || client.bus("NameHasOwner", &(name,)).is_true());
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

fn address(socket: &Path) -> String {
    format!("unix:path={}", socket.display())
}

fn end(process: &mut Child) {
    let _ = process.kill();
    let _ = process.wait();
}

fn wait(what: &str, mut there: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !there() {
        assert!(Instant::now() < end, "{what} does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// libvirt-dbus on a libvirtd, on a bus of its own: the name is the same.
struct Peer {
    bridge: Child,
    bus: Bus,
    _libvirtd: Libvirtd,
}

impl Peer {
    fn start(base: &Path) -> Result<Peer, String> {
        let program = "/usr/sbin/libvirt-dbus";
        if !Path::new(program).exists() {
            return Err("it is not installed (Debian's package libvirt-dbus)".into());
        }
        let libvirtd = Libvirtd::start()?;
        wait("libvirtd", || UnixStream::connect("/run/libvirt/libvirt-sock").is_ok());
        let bus = Bus::start(base.join("peer"))?;
        let bridge = Command::new(program)
            .arg("--system")
            .env("DBUS_SYSTEM_BUS_ADDRESS", address(&bus.socket))
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        bus.wait_for(LIBVIRT);
        Ok(Peer { bridge, bus, _libvirtd: libvirtd })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        end(&mut self.bridge);
    }
}

/// Somebody to ask, in his own way of connecting.
struct Target<'w> {
    name: &'static str,
    connect: Box<dyn Fn() -> Client + Sync + 'w>,
    client: Client,
    /// Objects to ask for; their number is what GetAll is measured with.
    domains: Vec<String>,
}

impl<'w> Target<'w> {
    fn new(name: &'static str, domains: Vec<String>, connect: impl Fn() -> Client + Sync + 'w) -> Target<'w> {
        Target { name, client: connect(), connect: Box::new(connect), domains }
    }

    fn state(&self) -> Vec<u8> {
        self.client.marshal(&self.domains[0], DOMAIN, "GetState", &(0u32,))
    }

    /// One GetAll per domain, each after the answer to the one before, as clients of libvirt-dbus do.
    fn all_properties(&mut self) -> Duration {
        let marshal = |path: &String| self.client.marshal(path, PROPERTIES, "GetAll", &(DOMAIN,));
        let messages: Vec<Vec<u8>> = self.domains.iter().map(marshal).collect();
        let start = Instant::now();
        for message in &messages {
            self.client.send(message);
        }
        start.elapsed()
    }

    /// State calls per second of [`CLIENTS`] clients together.
    fn throughput(&self, calls: usize) -> f64 {
        let (barrier, state) = (Barrier::new(CLIENTS + 1), self.state());
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut client = (self.connect)();
                        barrier.wait();
                        (0..calls).for_each(|_| drop(client.send(&state)));
                    })
                })
                .collect();
            barrier.wait();
            let start = Instant::now();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            (CLIENTS * calls) as f64 / start.elapsed().as_secs_f64()
        })
    }
}

fn define(client: &mut Client, root: &str, kind: &str, base: &Path) -> Vec<String> {
    let define = |number: usize| {
        let uuid = format!("2fbd1d85-719f-4be8-aeb4-{number:012x}");
        let xml = nova_xml(&format!("bench-{number}"), &uuid, base)
            .replace("<domain type=\"qemu\"", &format!("<domain type=\"{kind}\""));
        client.call(root, CONNECT, "DomainDefineXML", &(xml.as_str(),)).last_string()
    };
    (0..DOMAINS).map(define).collect()
}

/// See the module's text.
pub fn measure(rounds: usize, table: &mut Table) -> Result<(), String> {
    let mut bus = Err("no bus".into());
    let world = World::mock_with(|base| {
        bus = Bus::start(base.join("bus"));
        vec!["--bus".into(), address(&base.join("bus"))]
    });
    let bus = bus?;
    bus.wait_for(LIBVIRT);
    let mut echo = Command::new(std::env::current_exe().unwrap())
        .args([ECHO, bus.socket.to_str().unwrap()])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    bus.wait_for(ECHO_NAME);
    let peer = Peer::start(&world.base).inspect_err(|reason| eprintln!("SKIP libvirt-dbus: {reason}")).ok();

    let domains = define(&mut world.client(), TEST, "test", &world.base);
    let mut targets = vec![
        Target::new("domusd", domains.clone(), || bus.client(LIBVIRT)),
        Target::new(ECHO_TEXT, domains.clone(), || bus.client(ECHO_NAME)),
        Target::new("domusd, peer-to-peer", domains.clone(), || world.client()),
    ];
    if let Some(peer) = &peer {
        let domains = define(&mut peer.bus.client(LIBVIRT), QEMU, "qemu", &world.base);
        targets.push(Target::new("libvirt-dbus", domains, || peer.bus.client(LIBVIRT)));
    }
    let mut states: Vec<Samples> = targets.iter().map(|_| Samples::default()).collect();
    let messages: Vec<Vec<u8>> = targets.iter().map(Target::state).collect();
    for round in 0..rounds * 20 + 20 {
        for ((target, message), samples) in targets.iter_mut().zip(&messages).zip(&mut states) {
            // Some in a row: one alone would pay for the caches that the one before it has filled for itself.
            let took: Vec<Duration> = (0..10).map(|_| target.client.send(message).took).collect();
            if round >= 20 {
                took.into_iter().for_each(|took| samples.push(took));
            }
        }
    }
    show(table, "GetState", &targets, &states);
    let mut all: Vec<Samples> = targets.iter().map(|_| Samples::default()).collect();
    for _ in 0..rounds {
        for (target, samples) in targets.iter_mut().zip(&mut all) {
            samples.push(target.all_properties());
        }
    }
    show(table, &format!("GetAll of {DOMAINS} domains, one after the other"), &targets, &all);
    let mut rates = vec![Vec::new(); targets.len()];
    for _ in 0..rounds.clamp(1, 5) {
        for (target, rates) in targets.iter().zip(&mut rates) {
            rates.push(target.throughput(if target.name == "libvirt-dbus" { 100 } else { 1000 }));
        }
    }
    for (target, mut rates) in targets.iter().zip(rates) {
        rates.sort_by(f64::total_cmp);
        let (median, least, most) = (rates[rates.len() / 2], rates[0], rates[rates.len() - 1]);
        let value = format!("{median:.0}/s ({least:.0} .. {most:.0})");
        table.add(&format!("bus: GetState, {CLIENTS} clients: {}", target.name), &value, "", "");
    }
    for target in [0, 2] {
        events(table, &world, &domains, &targets[target]);
    }
    drop(targets);
    end(&mut echo);
    Ok(())
}

const ECHO_TEXT: &str = "a service that only answers, over the same bus";

/// Ours beside the floor; the others below.
fn show(table: &mut Table, what: &str, targets: &[Target<'_>], samples: &[Samples]) {
    table.beside(&format!("bus: {what}"), &samples[0], targets[1].name, &samples[1]);
    for (target, samples) in targets.iter().zip(samples).skip(2) {
        table.alone(&format!("bus: {what}: {}", target.name), samples);
    }
}

/// Which guest, what happened to it (`virDomainEventType`), and when it was heard of.
type Heard = (usize, u32, Instant);

/// Pauses and resumes guests at a steady rate while many listen: each must see each event, all of them in one order.
fn events(table: &mut Table, world: &World, domains: &[String], target: &Target<'_>) {
    let guests = &domains[..GUESTS];
    let mut caller = world.client();
    for path in guests {
        caller.call(path, DOMAIN, "Create", &(0u32,));
    }
    let ready = Barrier::new(LISTENERS + CALLERS);
    let (made, heard) = std::thread::scope(|scope| {
        let ready = &ready;
        let listeners: Vec<_> = (0..LISTENERS).map(|_| scope.spawn(move || listen(target, guests, ready))).collect();
        let callers: Vec<_> =
            (0..CALLERS).map(|part| scope.spawn(move || make(world.client(), guests, part, ready))).collect();
        let made: Vec<Vec<Instant>> = callers.into_iter().map(|thread| thread.join().unwrap()).collect();
        (made, listeners.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>())
    });
    for path in guests {
        caller.call(path, DOMAIN, "Destroy", &(0u32,));
    }
    let mut delays = Samples::default();
    for list in &heard {
        let order = |list: &[Heard]| list.iter().map(|(guest, event, _)| (*guest, *event)).collect::<Vec<_>>();
        assert_eq!(order(list), order(&heard[0]), "all see one order");
        let mut seen = [0; GUESTS];
        for (guest, event, when) in list {
            // Suspended 3, resumed 4, each guest in turn.
            assert_eq!(*event, 3 + seen[*guest] % 2, "guest {guest}");
            let number = seen[*guest] as usize * (GUESTS / CALLERS) + guest / CALLERS;
            delays.push(when.duration_since(made[guest % CALLERS][number]));
            seen[*guest] += 1;
        }
    }
    let (first, last) = (made.iter().map(|part| part[0]).min().unwrap(), made.iter().flatten().max().unwrap());
    let rate = EVENTS as f64 / last.duration_since(first).as_secs_f64();
    let what =
        format!("bus: call -> event, {LISTENERS} listeners, {EVENTS} events at {rate:.0}/s, none lost, one order");
    table.alone(&format!("{what}: {}", target.name), &delays);
}

/// One of the callers: the guests that are its own, one after the other, over and over. When each call was made.
fn make(mut client: Client, guests: &[String], part: usize, ready: &Barrier) -> Vec<Instant> {
    let own: Vec<&String> = guests.iter().skip(part).step_by(CALLERS).collect();
    let turn = |at: usize| if (at / own.len()).is_multiple_of(2) { "Suspend" } else { "Resume" };
    let message = |at: usize| Client::message(own[at % own.len()], DOMAIN, turn(at), &());
    let calls: Vec<Vec<u8>> = (0..EVENTS / CALLERS).map(message).collect();
    ready.wait();
    let (start, pause) = (Instant::now(), Duration::from_secs(1) * CALLERS as u32 / EVENTS_PER_SECOND);
    let one = |(call, number): (&Vec<u8>, u32)| {
        std::thread::sleep((start + pause * number).saturating_duration_since(Instant::now()));
        let now = Instant::now();
        client.send(call);
        now
    };
    calls.iter().zip(0..).map(one).collect()
}

fn listen(target: &Target<'_>, guests: &[String], ready: &Barrier) -> Vec<Heard> {
    let mut client = (target.connect)();
    if target.name == "domusd" {
        client.bus("AddMatch", &("type='signal',interface='org.libvirt.Connect',member='DomainEvent'",));
    } else {
        // Whoever was answered is listened to.
        client.call(&guests[0], DOMAIN, "GetState", &(0u32,));
    }
    ready.wait();
    let hear = |_| {
        let (message, now) = (client.signal("DomainEvent"), Instant::now());
        let (body, end) = (body_at(&message), message.len());
        let path = &message[body + 4..body + 4 + number(&message, body)];
        let guest = guests.iter().position(|guest| guest.as_bytes() == path).unwrap();
        (guest, u32::try_from(number(&message, end - 8)).unwrap(), now)
    };
    (0..EVENTS).map(hear).collect()
}
