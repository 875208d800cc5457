//! The declarative tables: one row per procedure of libvirt's programs, with its number, libvirt's function and its codec.
//!
//! Dispatch, `NO_SUPPORT` answers and the coverage table of the documentation come from these rows. A row without a
//! handler answers `NO_SUPPORT`; a row is never left out. Numbers that are events are no rows: they cannot be called.

mod connect;
mod domain;
mod guest;
mod interface;
mod moment;
mod network;
mod node_device;
mod nwfilter;
mod secret;
mod storage;

use std::sync::LazyLock;

use super::call::{BoxFuture, Invocation, Reply};
use crate::engine::api::Class;

/// Program numbers.
pub const REMOTE: u32 = 0x2000_8086;
pub const QEMU: u32 = 0x2000_8087;
pub const LXC: u32 = 0x0006_8000;
pub const KEEPALIVE: u32 = 0x6b65_6570;

/// Runs a procedure: decodes, calls the engine, encodes.
pub type Run = fn(Invocation) -> BoxFuture<Reply>;

/// One procedure.
#[derive(Clone, Copy, Debug)]
pub struct Procedure {
    pub number: i32,
    /// The protocol's name, without `REMOTE_PROC_`.
    pub name: &'static str,
    /// libvirt's function.
    pub function: &'static str,
    pub class: Class,
    pub run: Option<Run>,
}

/// A row nobody serves yet.
const fn c(number: i32, name: &'static str, function: &'static str) -> Procedure {
    Procedure { number, name, function, class: Class::Write, run: None }
}

impl Procedure {
    /// Serves the row; `class` says whether it may be polled in the reader. Who may make it, the engine decides.
    const fn served(mut self, (class, run): (Class, Run)) -> Procedure {
        self.class = class;
        self.run = Some(run);
        self
    }
}

/// The rows of one group, under the heading of the documentation.
#[derive(Debug)]
pub struct Group {
    pub heading: &'static str,
    pub program: u32,
    pub rows: &'static [Procedure],
}

const fn group(heading: &'static str, program: u32, rows: &'static [Procedure]) -> Group {
    Group { heading, program, rows }
}

/// Every procedure there is.
pub static GROUPS: [Group; 12] = [
    group("Connection and host", REMOTE, connect::CONNECT),
    group("Domains", REMOTE, domain::DOMAIN),
    group("Snapshots and checkpoints", REMOTE, moment::SNAPSHOT),
    group("Migration", REMOTE, moment::MIGRATE),
    group("Networks", REMOTE, network::NETWORK),
    group("Host interfaces", REMOTE, interface::INTERFACE),
    group("Network filters", REMOTE, nwfilter::NWFILTER),
    group("Storage", REMOTE, storage::STORAGE),
    group("Node devices", REMOTE, node_device::NODE_DEVICE),
    group("Secrets", REMOTE, secret::SECRET),
    group("QEMU program", QEMU, domain::QEMU),
    group("LXC program", LXC, domain::LXC),
];

/// The procedure with this number.
pub fn find(program: u32, number: i32) -> Option<&'static Procedure> {
    static BY_NUMBER: LazyLock<Vec<(u32, &'static Procedure)>> = LazyLock::new(|| {
        let mut all: Vec<(u32, &'static Procedure)> =
            GROUPS.iter().flat_map(|group| group.rows.iter().map(|row| (group.program, row))).collect();
        all.sort_by_key(|(program, row)| (*program, row.number));
        all
    });
    let at = BY_NUMBER.binary_search_by_key(&(program, number), |(program, row)| (*program, row.number)).ok()?;
    BY_NUMBER.get(at).map(|(_, row)| *row)
}

/// Whether a client that did not authenticate may call this.
pub fn before_authentication(row: &Procedure) -> bool {
    row.name.starts_with("AUTH_")
}
