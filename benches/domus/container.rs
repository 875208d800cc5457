//! A container's start and end over the daemon's socket, in turn with the floor and with `lxc-start`.
//!
//! All times of starts end at the first instruction of init, which notes it itself ([`stamp.rs`](../stamp.rs)).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::client::{CONNECT, Client, DOMAIN, LXC};
use crate::clone_floor::{Floor, Groups};
use crate::floor_program::{self, Running};
use crate::lxc_peer::Peer;
use crate::table::{Samples, Table};
use crate::world::{BRIDGE, World, pss};

/// Containers that are started at once.
const MANY: usize = 50;
const FLOOR: &str = "clone + mounts + groups + veth";

/// CLOCK_MONOTONIC, ns.
pub fn now() -> u64 {
    let mut time = nix::libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec, which is ours.
    unsafe { nix::libc::clock_gettime(nix::libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn between(begin: u64, end: u64) -> Duration {
    Duration::from_nanos(end.saturating_sub(begin))
}

/// A container's root: init, the file that it notes its time in, mount points.
pub struct Root(pub PathBuf);

impl Root {
    fn new(base: &Path, name: &str) -> Root {
        let root = base.join("roots").join(name);
        for dir in ["dev", "proc", "sys"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::hard_link(base.join("init"), root.join("init")).unwrap();
        fs::write(root.join("stamp"), "").unwrap();
        Root(root)
    }

    pub fn clear(&self) {
        fs::OpenOptions::new().write(true).open(self.0.join("stamp")).unwrap().set_len(0).unwrap();
    }

    /// When init's first instruction was.
    pub fn stamp(&self) -> u64 {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            if let Ok(bytes) = <[u8; 8]>::try_from(fs::read(self.0.join("stamp")).unwrap()) {
                return u64::from_ne_bytes(bytes);
            }
            assert!(Instant::now() < end, "init never ran in {}", self.0.display());
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// Compiles init, without anything that would run before its first instruction.
fn compile_init(base: &Path) -> Result<(), String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/domus/stamp.rs");
    let out = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2024", "-O", "-C", "panic=abort", "-C", "relocation-model=static"])
        .args(["-C", "link-args=-nostartfiles -nostdlib -static", "-o"])
        .args([&base.join("init"), &source])
        .output()
        .map_err(|error| format!("rustc: {error}"))?;
    if !out.status.success() {
        return Err(format!("init cannot be compiled: {}", String::from_utf8_lossy(&out.stderr)));
    }
    Ok(())
}

fn xml(name: &str, root: &Root, nic: bool) -> String {
    let nic = if nic {
        format!("<interface type='bridge'><source bridge='{BRIDGE}'/><guest dev='eth0'/></interface>")
    } else {
        String::new()
    };
    format!(
        "<domain type='lxc'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
         <os><type>exe</type><init>/init</init><initarg>/stamp</initarg></os><devices>\
         <filesystem type='mount'><source dir='{}'/><target dir='/'/></filesystem>{nic}<console type='pty'/>\
         </devices></domain>",
        root.0.display()
    )
}

fn define(client: &mut Client, name: &str, root: &Root, nic: bool) -> String {
    client.call(LXC, CONNECT, "DomainDefineXML", &(xml(name, root, nic).as_str(),)).last_string()
}

/// One after the other, each kind in turn with its floor and its peer.
pub fn sequential(rounds: usize, table: &mut Table) -> Result<(), String> {
    let world = World::with_containers("")?;
    compile_init(&world.base)?;
    let mut client = world.client();
    let groups = Groups::of("x", false).count();
    for nic in [false, true] {
        let kind = if nic { "bridged NIC" } else { "no NIC" };
        let bridge = nic.then_some(BRIDGE);
        let root = Root::new(&world.base, kind.split(' ').next().unwrap());
        let domain = define(&mut client, &format!("seq-{nic}"), &root, nic);
        let mut floor = Floor::new(if nic { "n" } else { "p" }, &root.0, bridge, Some(false));
        let mut bare = Floor::new(if nic { "nb" } else { "pb" }, &root.0, bridge, None);
        let peer = Peer::new(&world.base, &format!("peer-{nic}"), &root, bridge);
        let [mut ours, mut reply, mut least, mut lxc, mut without] = <[Samples; 5]>::default();
        let [mut kill, mut least_kill, mut lxc_kill] = <[Samples; 3]>::default();
        for round in 0..=rounds {
            // The first round fills caches.
            let push = |samples: &mut Samples, time| {
                if round > 0 {
                    samples.push(time)
                }
            };
            root.clear();
            let begin = now();
            push(&mut reply, client.call(&domain, DOMAIN, "Create", &(0u32,)).took);
            push(&mut ours, between(begin, root.stamp()));
            push(&mut kill, client.call(&domain, DOMAIN, "Destroy", &(0u32,)).took);
            settle();

            root.clear();
            let begin = floor.start();
            push(&mut least, between(begin, root.stamp()));
            push(&mut least_kill, floor.stop());
            settle();

            root.clear();
            let begin = bare.start();
            push(&mut without, between(begin, root.stamp()));
            bare.stop();
            settle();

            if let Ok(peer) = &peer {
                root.clear();
                let begin = now();
                peer.start();
                push(&mut lxc, between(begin, root.stamp()));
                push(&mut lxc_kill, peer.kill());
                settle();
            }
        }
        client.call(&domain, DOMAIN, "Undefine", &(0u32,));
        table.beside(
            &format!("container, {kind}: Create -> init's first instruction"),
            &ours,
            &format!("{FLOOR}, {groups} cgroup hierarchies"),
            &least,
        );
        table.alone(&format!("container, {kind}: Create -> reply"), &reply);
        table.alone(&format!("container, {kind}: the floor without cgroups"), &without);
        table.beside(&format!("container, {kind}: Destroy"), &kill, "SIGKILL, reap, remove groups", &least_kill);
        match &peer {
            Ok(_) => {
                table.beside(&format!("container, {kind}: Create -> init, beside lxc-start"), &ours, "lxc-start", &lxc);
                table.beside(
                    &format!("container, {kind}: Destroy, beside lxc-stop -k"),
                    &kill,
                    "lxc-stop -k",
                    &lxc_kill,
                );
            }
            Err(reason) => eprintln!("SKIP lxc-start: {reason}"),
        }
    }
    Ok(())
}

/// What the kernel does later (namespaces, RCU) is not to be paid by whoever comes next.
fn settle() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Only the v2 hierarchy.
pub fn v2_only(rounds: usize, table: &mut Table) -> Result<(), String> {
    let world = World::with_containers("cgroups = \"v2-only\"\n")?;
    compile_init(&world.base)?;
    let mut client = world.client();
    for nic in [false, true] {
        let kind = if nic { "bridged NIC" } else { "no NIC" };
        let root = Root::new(&world.base, kind.split(' ').next().unwrap());
        let domain = define(&mut client, &format!("v2-{nic}"), &root, nic);
        let mut floor = Floor::new(if nic { "un" } else { "up" }, &root.0, nic.then_some(BRIDGE), Some(true));
        let [mut ours, mut least] = <[Samples; 2]>::default();
        for round in 0..=rounds {
            let push = |samples: &mut Samples, time| {
                if round > 0 {
                    samples.push(time)
                }
            };
            root.clear();
            let begin = now();
            client.call(&domain, DOMAIN, "Create", &(0u32,));
            push(&mut ours, between(begin, root.stamp()));
            client.call(&domain, DOMAIN, "Destroy", &(0u32,));
            settle();
            root.clear();
            let begin = floor.start();
            push(&mut least, between(begin, root.stamp()));
            floor.stop();
            settle();
        }
        client.call(&domain, DOMAIN, "Undefine", &(0u32,));
        table.beside(&format!("container, {kind}, cgroups = v2-only: Create -> init"), &ours, FLOOR, &least);
    }
    Ok(())
}

/// Fifty at once, and what they weigh.
pub fn at_once(rounds: usize, table: &mut Table) -> Result<(), String> {
    let world = World::with_containers("")?;
    compile_init(&world.base)?;
    let mut client = world.client();
    let roots: Vec<Root> = (0..MANY).map(|number| Root::new(&world.base, &format!("many-{number}"))).collect();
    let domains: Vec<String> =
        roots.iter().enumerate().map(|(n, root)| define(&mut client, &format!("many-{n}"), root, true)).collect();
    let orders = |member: &str| -> Vec<Vec<u8>> {
        domains.iter().map(|domain| Client::message(domain, DOMAIN, member, &(0u32,))).collect()
    };
    let (creates, destroys) = (orders("Create"), orders("Destroy"));
    let mut floors: Vec<Floor> = roots
        .iter()
        .enumerate()
        .map(|(number, root)| Floor::new(&format!("m{number}-"), &root.0, Some(BRIDGE), Some(false)))
        .collect();
    let peers: Result<Vec<Peer>, String> = roots
        .iter()
        .enumerate()
        .map(|(number, root)| Peer::new(&world.base, &format!("peer-m{number}"), root, Some(BRIDGE)))
        .collect();
    let program = floor_program::given();
    let [mut ours, mut stop, mut least, mut least_stop, mut lxc, mut lxc_stop] = <[Samples; 6]>::default();
    let mut foreign = Samples::default();
    let clear = || roots.iter().for_each(Root::clear);
    let last = || roots.iter().map(Root::stamp).max().unwrap();
    let mut weight = None;
    let before = pss(world.pid());
    for round in 0..=rounds {
        let push = |samples: &mut Samples, time| {
            if round > 0 {
                samples.push(time)
            }
        };
        clear();
        let begin = now();
        client.send_all(&creates);
        push(&mut ours, between(begin, last()));
        weight = Some(weigh(&world, before));
        push(&mut stop, client.send_all(&destroys));
        settle_long();

        clear();
        let begin = now();
        floors.iter_mut().for_each(Floor::order);
        floors.iter_mut().map(Floor::answer).for_each(|_| ());
        push(&mut least, between(begin, last()));
        let begin = now();
        floors.iter_mut().for_each(Floor::order);
        floors.iter_mut().map(Floor::answer).for_each(|_| ());
        push(&mut least_stop, between(begin, now()));
        settle_long();

        if let Some(program) = &program {
            clear();
            let begin = now();
            let start = |(n, root): (usize, &Root)| Running::start(program, &format!("floor-p{n}"), &root.0, BRIDGE);
            let mut running: Vec<Running> = roots.iter().enumerate().map(start).collect();
            running.iter_mut().for_each(Running::started);
            push(&mut foreign, between(begin, last()));
            running.into_iter().for_each(Running::stop);
            settle_long();
        }

        if let Ok(peers) = &peers {
            clear();
            let begin = now();
            Peer::all(peers, Peer::starting);
            push(&mut lxc, between(begin, last()));
            let begin = now();
            Peer::all(peers, Peer::killing);
            push(&mut lxc_stop, between(begin, now()));
            settle_long();
        }
    }
    table.beside(&format!("{MANY} containers at once, NIC: -> last init"), &ours, FLOOR, &least);
    if program.is_some() {
        let what = "the program of DOMUS_BENCH_FLOOR";
        table.beside(&format!("{MANY} containers at once, beside a given floor"), &ours, what, &foreign);
    }
    table.beside(
        &format!("{MANY} containers at once, NIC: Destroy"),
        &stop,
        "SIGKILL, reap, remove groups",
        &least_stop,
    );
    if peers.is_ok() {
        table.beside(&format!("{MANY} containers at once, beside lxc-start"), &ours, "lxc-start", &lxc);
        table.beside(&format!("{MANY} destroyed at once, beside lxc-stop -k"), &stop, "lxc-stop -k", &lxc_stop);
    }
    if let Some((helpers, daemon)) = weight {
        table.add("PSS per container: supervisor", &format!("{helpers:.0} KiB"), "", "");
        table.add(&format!("PSS per container: growth of the daemon with {MANY}"), &format!("{daemon:.0} KiB"), "", "");
    }
    Ok(())
}

fn settle_long() {
    std::thread::sleep(Duration::from_millis(500));
}

/// PSS in KiB per container: of the supervisors with the process they were forked from, and by how much the daemon grew.
fn weigh(world: &World, before: u64) -> (f64, f64) {
    let daemon = world.pid();
    let servers = children(daemon);
    let supervisors: Vec<u32> = servers.iter().flat_map(|server| children(*server)).collect();
    assert_eq!(supervisors.len(), MANY, "supervisors of the running containers");
    let all: u64 = servers.iter().chain(&supervisors).map(|pid| pss(*pid)).sum();
    let many = MANY as f64;
    (all as f64 / many, (pss(daemon) as f64 - before as f64) / many)
}

fn children(of: u32) -> Vec<u32> {
    let parent = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse::<u32>().ok())
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent(pid) == Some(of)).collect()
}
