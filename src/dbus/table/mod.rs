//! The declarative tables: one row per member of each interface, with its arguments, libvirt's function and its codec.
//!
//! Everything else is derived from these rows: dispatch, argument checks, `NO_SUPPORT` answers, the introspection files
//! in `schemas/dbus/` (a test holds the files to the rows) and the coverage table in `docs/`.
//! A row without a handler is answered with libvirt's `NO_SUPPORT`; a row is never left out.

pub mod connect;
pub mod domain;
pub mod domus;
pub mod domus_domain;
pub mod domus_host;
pub mod images;
pub mod interface;
pub mod job;
pub mod network;
pub mod node_device;
pub mod nwfilter;
pub mod pool;
pub mod secret;
pub mod snapshot;
pub mod volume;

use std::collections::HashMap;
use std::sync::LazyLock;

use zbus::Variant;

use super::call::{BoxFuture, Invocation, Reply};
use super::fault::Fault;
use super::managed::Object;
use super::path::Kind;
use crate::engine::api::Class;

/// Runs a method: decodes, calls the engine, encodes.
pub type Run = fn(Invocation) -> BoxFuture<Reply>;
/// Reads a property.
pub type Get = fn(Invocation) -> BoxFuture<Result<Variant<'static>, Fault>>;
/// Writes a property whose type was checked.
pub type Set = fn(Invocation, Variant<'static>) -> BoxFuture<Result<(), Fault>>;

/// Reads a property of what announces itself; none when the object is of another kind.
pub type Live = fn(&Object) -> Option<Variant<'static>>;

/// One method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    pub name: &'static str,
    /// In arguments, `name type, name type`.
    pub args: &'static str,
    /// Out arguments, the same way.
    pub results: &'static str,
    /// libvirt's function, or our own name of it.
    pub function: &'static str,
    pub class: Class,
    pub run: Option<Run>,
}

/// One property.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    pub name: &'static str,
    pub signature: &'static str,
    /// libvirt's getter.
    pub function: &'static str,
    /// Annotated `EmitsChangedSignal=const`.
    pub constant: bool,
    /// libvirt's setter; `None` = read-only.
    pub setter: Option<&'static str>,
    pub get: Option<Get>,
    /// In place of `get` where changes are announced.
    pub live: Option<Live>,
    pub set: Option<Set>,
}

/// One signal.
#[derive(Clone, Copy, Debug)]
pub struct Signal {
    pub name: &'static str,
    pub args: &'static str,
}

/// One interface.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    pub name: &'static str,
    /// The introspection document in `schemas/dbus/`.
    pub xml: &'static str,
    /// `false`: the interface carries `EmitsChangedSignal=false`, as libvirt-dbus's does.
    pub emits_changed: bool,
    pub methods: &'static [Method],
    pub properties: &'static [Property],
    pub signals: &'static [Signal],
}

impl Interface {
    /// Whether it is ours and not libvirt-dbus's.
    pub fn is_own(&self) -> bool {
        self.name.starts_with("org.domus.")
    }
}

/// A method row nobody serves yet.
pub(super) const fn m(name: &'static str, args: &'static str, results: &'static str, function: &'static str) -> Method {
    Method { name, args, results, function, class: Class::Write, run: None }
}

/// A property row nobody serves yet.
pub(super) const fn p(name: &'static str, signature: &'static str, function: &'static str) -> Property {
    Property { name, signature, function, constant: false, setter: None, get: None, live: None, set: None }
}

/// A signal row.
pub(super) const fn s(name: &'static str, args: &'static str) -> Signal {
    Signal { name, args }
}

impl Method {
    /// Serves the row; `class` says whether the call may be run by read-only callers and polled in the reader.
    pub(super) const fn served(mut self, (class, run): (Class, Run)) -> Method {
        self.class = class;
        self.run = Some(run);
        self
    }
}

impl Property {
    /// The value never changes.
    pub(super) const fn constant(mut self) -> Property {
        self.constant = true;
        self
    }

    /// The property can be set; `function` is libvirt's setter.
    pub(super) const fn writable(mut self, function: &'static str) -> Property {
        self.setter = Some(function);
        self
    }

    /// Serves reading.
    pub(super) const fn get(mut self, get: Get) -> Property {
        self.get = Some(get);
        self
    }

    /// Serves reading, and announces changes.
    pub(super) const fn live(mut self, live: Live) -> Property {
        self.live = Some(live);
        self
    }

    /// Serves writing.
    pub(super) const fn set(mut self, set: Set) -> Property {
        self.set = Some(set);
        self
    }
}

/// The (name, type) pairs of an argument list.
pub fn args(list: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    list.split(", ").filter_map(|arg| arg.split_once(' '))
}

/// The concatenated types of an argument list.
pub fn signature(list: &'static str) -> String {
    args(list).map(|(_, kind)| kind).collect()
}

/// libvirt-dbus's interfaces, in the order of its documentation.
pub static LIBVIRT: [&Interface; 10] = [
    &connect::INTERFACE,
    &domain::INTERFACE,
    &snapshot::INTERFACE,
    &network::INTERFACE,
    &pool::INTERFACE,
    &volume::INTERFACE,
    &interface::INTERFACE,
    &node_device::INTERFACE,
    &nwfilter::INTERFACE,
    &secret::INTERFACE,
];

/// Our own interfaces.
pub static DOMUS: [&Interface; 10] = [
    &domus::CONNECT,
    &domus_domain::INTERFACE,
    &domus::DAEMON,
    &domus_host::NETWORK,
    &domus_host::NODE_DEVICE,
    &domus_host::SECRET,
    &domus_host::STORAGE_POOL,
    &job::INTERFACE,
    &images::VOLUME,
    &images::CONNECT,
];

/// A method with what is derived from its row.
#[derive(Debug)]
pub struct Compiled {
    pub row: &'static Method,
    /// Concatenated types of the in arguments.
    pub signature: String,
}

/// An interface ready for look-up.
#[derive(Debug)]
pub struct Lookup {
    pub interface: &'static Interface,
    methods: HashMap<&'static str, Compiled>,
    /// The `<interface>` element of the introspection document.
    pub element: &'static str,
}

impl Lookup {
    fn new(interface: &'static Interface) -> Lookup {
        let methods =
            interface.methods.iter().map(|row| (row.name, Compiled { row, signature: signature(row.args) })).collect();
        Lookup { interface, methods, element: element(interface.xml) }
    }

    /// The method with this name.
    pub fn method(&self, name: &str) -> Option<&Compiled> {
        self.methods.get(name)
    }

    /// The property with this name.
    pub fn property(&self, name: &str) -> Option<&'static Property> {
        self.interface.properties.iter().find(|property| property.name == name)
    }
}

/// The `<interface>` element of an introspection document, with its indentation and a final line break.
fn element(document: &'static str) -> &'static str {
    let start = document.find("  <interface ").unwrap_or(0);
    let end = document.rfind("</interface>\n").map_or(document.len(), |at| at + "</interface>\n".len());
    &document[start..end]
}

/// The interfaces an object of `kind` has, besides the standard ones.
pub fn of(kind: Kind) -> &'static [Lookup] {
    static ROOT: LazyLock<Vec<Lookup>> =
        LazyLock::new(|| lookups(&[&connect::INTERFACE, &domus::CONNECT, &images::CONNECT]));
    static DOMAIN: LazyLock<Vec<Lookup>> = LazyLock::new(|| lookups(&[&domain::INTERFACE, &domus_domain::INTERFACE]));
    static SNAPSHOT: LazyLock<Vec<Lookup>> = LazyLock::new(|| lookups(&[&snapshot::INTERFACE]));
    static NETWORK: LazyLock<Vec<Lookup>> = LazyLock::new(|| lookups(&[&network::INTERFACE, &domus_host::NETWORK]));
    static POOL: LazyLock<Vec<Lookup>> = LazyLock::new(|| lookups(&[&pool::INTERFACE, &domus_host::STORAGE_POOL]));
    static VOLUME: LazyLock<Vec<Lookup>> = LazyLock::new(|| lookups(&[&volume::INTERFACE, &images::VOLUME]));
    static INTERFACE: LazyLock<Vec<Lookup>> = LazyLock::new(|| lookups(&[&interface::INTERFACE]));
    static NODE_DEVICE: LazyLock<Vec<Lookup>> =
        LazyLock::new(|| lookups(&[&node_device::INTERFACE, &domus_host::NODE_DEVICE]));
    static NWFILTER: LazyLock<Vec<Lookup>> = LazyLock::new(|| lookups(&[&nwfilter::INTERFACE]));
    static SECRET: LazyLock<Vec<Lookup>> = LazyLock::new(|| lookups(&[&secret::INTERFACE, &domus_host::SECRET]));
    static JOB: LazyLock<Vec<Lookup>> = LazyLock::new(|| lookups(&[&job::INTERFACE]));
    static DAEMON: LazyLock<Vec<Lookup>> = LazyLock::new(|| lookups(&[&domus::DAEMON]));
    match kind {
        Kind::Root => &ROOT,
        Kind::Domain => &DOMAIN,
        Kind::DomainSnapshot => &SNAPSHOT,
        Kind::Network => &NETWORK,
        Kind::StoragePool => &POOL,
        Kind::StorageVol => &VOLUME,
        Kind::Interface => &INTERFACE,
        Kind::NodeDevice => &NODE_DEVICE,
        Kind::NwFilter => &NWFILTER,
        Kind::Secret => &SECRET,
        Kind::Job => &JOB,
        Kind::Daemon => &DAEMON,
    }
}

fn lookups(interfaces: &[&'static Interface]) -> Vec<Lookup> {
    interfaces.iter().map(|interface| Lookup::new(interface)).collect()
}
