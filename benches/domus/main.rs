//! What the calls cost, each beside its floor in the same run: `make bench`.
//!
//! Machines drift by more than most differences, so two things are always measured in turn (A B A B ...), and both the
//! minimum and the median are shown. The floors are what no implementation can avoid: QEMU's own start with the same
//! arguments, SIGKILL and reap, a bare ping over a Unix socket, write + fsync + rename + fsync of the directory.
//! libvirtd is measured beside it where it and its Python module are installed, `lxc-start` and `libvirt-dbus` where they
//! are.
//!
//! As root it runs with a high priority, and so does all it starts: what else the machine does shows less.
//!
//! `DOMUS_BENCH_ROUNDS` sets the number of rounds (10); `DOMUS_BENCH_FLOOR` names a floor of somebody else's for
//! containers (see `floor_program.rs`).
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should say where")]
#![allow(clippy::disallowed_methods, reason = "sys::exec and store::atomic belong to the daemon")]

mod bus;
mod client;
mod clone_floor;
mod container;
mod control;
mod floor;
mod floor_program;
mod libvirtd;
mod lxc_peer;
mod rpc;
mod table;
mod vm;
mod world;
mod xml;

use table::Table;
use world::World;

/// Of the scheduler; -20 is the highest.
const PRIORITY: i32 = -15;

fn main() {
    if std::env::args().nth(1).as_deref() == Some(control::ECHO) {
        return control::echo(std::env::args().nth(2).and_then(|text| text.parse().ok()).unwrap_or(1));
    }
    if std::env::args().nth(1).as_deref() == Some(clone_floor::MODE) {
        return clone_floor::main(&std::env::args().skip(2).collect::<Vec<_>>());
    }
    if let [_, mode, socket] = std::env::args().collect::<Vec<_>>().as_slice()
        && mode == rpc::FLOOR
    {
        return rpc::floor(socket);
    }
    if let [_, mode, socket] = std::env::args().collect::<Vec<_>>().as_slice()
        && mode == bus::ECHO
    {
        return bus::echo(socket.as_ref());
    }
    // cargo passes its own flags (--bench); a name given by hand picks sections.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let runs = |section: &str| wanted.is_empty() || wanted.iter().any(|name| section.contains(name.as_str()));
    let rounds: usize = std::env::var("DOMUS_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);

    let _ = rustix::process::setpriority_process(None, PRIORITY);
    let mut table = Table::new();
    if runs("vm") {
        match World::with_guests() {
            Ok(world) => vm::measure(&world, rounds, &mut table),
            Err(reason) => eprintln!("SKIP vm: {reason}"),
        }
    }
    type Section = fn(usize, &mut Table) -> Result<(), String>;
    let containers: [(&str, Section, usize); 3] = [
        ("container", container::sequential, rounds * 5),
        ("container-v2", container::v2_only, rounds * 5),
        ("container-many", container::at_once, rounds.div_ceil(2)),
    ];
    for (name, section, rounds) in containers {
        if runs(name)
            && let Err(reason) = section(rounds, &mut table)
        {
            eprintln!("SKIP {name}: {reason}");
        }
    }
    if runs("control") {
        control::latency(&mut table, rounds * 200);
        control::define(&mut table, rounds * 20);
    }
    if runs("pool")
        && let Err(reason) = control::refresh(&mut table, rounds)
    {
        eprintln!("SKIP pool: {reason}");
    }
    if runs("daemon") {
        control::size_and_start(&mut table, rounds);
    }
    if runs("xml") {
        xml::in_memory(&mut table, rounds * 100);
        xml::whole_define(&mut table, rounds * 20);
        xml::ten_thousand(&mut table, rounds);
    }
    if runs("libvirtd") {
        libvirtd::measure(rounds, &mut table);
    }
    if runs("rpc")
        && let Err(reason) = rpc::measure(rounds, &mut table)
    {
        eprintln!("SKIP rpc: {reason}");
    }
    if runs("bus")
        && let Err(reason) = bus::measure(rounds, &mut table)
    {
        eprintln!("SKIP bus: {reason}");
    }
    table.print();
}
