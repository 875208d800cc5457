//! Interfaces of the host. Those of the test driver are definitions in memory, with libvirt's transactions; a real host's
//! are the links it has, to be looked at.
//!
//! ```text
//! define ─> there, inactive ─ create ─> active ─ destroy ─> inactive ─ undefine ─> gone
//! begin ─> changes ─┬─ commit ───> as changed
//!                   └─ rollback ─> as it was
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::access::guard::{Details, Guarded};
use super::api::{ObjectKind, On};
use super::cleanup::run_blocking;
use super::event::HostSet;
use super::host::Context;
use crate::error::{Code, Error, Result, Subsystem};
use crate::net::host_interface::{Found, InterfaceDef, scan};

/// What libvirt's test driver has.
const TEST: &str = "<interface type='ethernet' name='eth1'><start mode='onboot'/><mac address='aa:bb:cc:dd:ee:ff'/>\
                    <mtu size='1492'/><protocol family='ipv4'><ip address='192.168.0.5' prefix='24'/>\
                    <route gateway='192.168.0.1'/></protocol></interface>";

/// An interface as a client names it; whether it is there each call finds out.
#[derive(Clone, Debug)]
pub struct HostInterface {
    /// Empty when the client knows the address only.
    pub name: String,
    /// Empty when it has none of its own.
    pub mac: String,
    context: Arc<Context>,
}

impl On for HostInterface {
    const KIND: ObjectKind = ObjectKind::Interface;

    fn scheme(&self) -> &'static str {
        "interface"
    }

    fn subsystem(&self) -> Subsystem {
        Subsystem::Interface
    }
}

impl Guarded for HostInterface {
    const OBJECT: &'static str = <Self as On>::KIND.of_rights();

    /// As it is found, not as the client names it: a name is not taken for another's address.
    async fn details(&self) -> Details {
        match self.entry().await {
            Ok(entry) => details(&entry.def.name, &entry.mac),
            Err(_) => details(&self.name, &self.mac),
        }
    }
}

/// What rules may look at.
pub fn details(name: &str, mac: &str) -> Details {
    vec![("interface_name", name.to_string()), ("interface_macaddr", mac.to_string())]
}

/// One interface at one moment.
#[derive(Clone, Debug)]
pub struct Entry {
    pub def: Arc<InterfaceDef>,
    /// Empty when it has none of its own.
    pub mac: String,
    pub active: bool,
}

impl From<Found> for Entry {
    fn from(Found { def, mac, up }: Found) -> Entry {
        Entry { def: Arc::new(def), mac, active: up }
    }
}

impl Entry {
    fn new(def: InterfaceDef, active: bool) -> Entry {
        Entry { mac: def.mac().to_string(), def: Arc::new(def), active }
    }
}

type Entries = BTreeMap<String, Entry>;

#[derive(Debug, Default)]
struct Memory {
    entries: Entries,
    /// What a rollback goes back to.
    before: Option<Entries>,
}

/// The interfaces of one set of objects.
#[derive(Debug)]
pub struct Interfaces {
    context: Arc<Context>,
    memory: Mutex<Memory>,
}

fn missing(what: String) -> Error {
    Error::new(Code::NoInterface, what).with_subsystem(Subsystem::Interface)
}

fn invalid(what: impl Into<String>) -> Error {
    Error::invalid_state(what).with_subsystem(Subsystem::Interface)
}

fn find(mut entries: Entries, name: &str) -> Result<Entry> {
    entries.remove(name).ok_or_else(|| missing(format!("no interface with matching name '{name}'")))
}

fn find_mac(entries: Entries, mac: &str) -> Result<Entry> {
    let mut found = entries.into_values().filter(|entry| entry.mac.eq_ignore_ascii_case(mac));
    match (found.next(), found.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => {
            let what = format!("'{mac}'; look the interface up by its name");
            Err(Error::new(Code::MultipleInterfaces, what).with_subsystem(Subsystem::Interface))
        }
        (None, _) => Err(missing(format!("no interface with matching mac '{mac}'"))),
    }
}

impl Interfaces {
    pub(super) fn new(context: Arc<Context>) -> Interfaces {
        Interfaces { context, memory: Mutex::default() }
    }

    /// Brings the test driver's to what it begins with.
    pub(super) fn load(&self) -> Result<()> {
        if self.context.set == HostSet::Test {
            let entry = Entry::new(InterfaceDef::parse(TEST)?, true);
            self.lock().entries.insert(entry.def.name.clone(), entry);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a client means by this name and address.
    pub fn named(&self, name: &str, mac: &str) -> HostInterface {
        HostInterface { name: name.to_string(), mac: mac.to_string(), context: self.context.clone() }
    }

    /// What a client means by [`HostInterface::key`].
    pub fn keyed(&self, key: &str) -> HostInterface {
        if key.contains(':') { self.named("", key) } else { self.named(key, "") }
    }

    /// All interfaces, by name. Blocks on a real host for the short time sysfs takes.
    fn entries(&self) -> Result<Entries> {
        if self.context.set == HostSet::Test {
            return Ok(self.lock().entries.clone());
        }
        Ok(scan()?.into_iter().map(|found| (found.def.name.clone(), Entry::from(found))).collect())
    }

    fn handle(&self, entry: &Entry) -> HostInterface {
        self.named(&entry.def.name, &entry.mac)
    }

    /// Those that are up, those that are not, or both.
    pub async fn all(self: &Arc<Self>, active: bool, inactive: bool) -> Result<Vec<HostInterface>> {
        let this = self.clone();
        run_blocking(move || {
            let entries = this.entries()?;
            let wanted = entries.values().filter(|entry| if entry.active { active } else { inactive });
            Ok(wanted.map(|entry| this.handle(entry)).collect())
        })
        .await
    }

    /// The interface with this name. Error: code 57.
    pub async fn by_name(self: &Arc<Self>, name: &str) -> Result<HostInterface> {
        let (this, name) = (self.clone(), name.to_string());
        run_blocking(move || Ok(this.handle(&find(this.entries()?, &name)?))).await
    }

    /// The interface with this MAC address. Errors: code 57, and 58 when there are several.
    pub async fn by_mac(self: &Arc<Self>, mac: &str) -> Result<HostInterface> {
        let (this, mac) = (self.clone(), mac.to_string());
        run_blocking(move || Ok(this.handle(&find_mac(this.entries()?, &mac)?))).await
    }

    /// The test driver's own; a real host's links are not ours to change.
    fn changeable(&self, function: &str) -> Result<MutexGuard<'_, Memory>> {
        match self.context.set {
            HostSet::Test => Ok(self.lock()),
            HostSet::Shared => Err(Error::no_support(function).with_subsystem(Subsystem::Interface)),
        }
    }

    /// Defines an interface or replaces its definition (`virInterfaceDefineXML`).
    pub fn define(&self, def: InterfaceDef) -> Result<HostInterface> {
        let mut memory = self.changeable("virInterfaceDefineXML")?;
        let active = memory.entries.get(&def.name).is_some_and(|former| former.active);
        let entry = Entry::new(def, active);
        let handle = self.handle(&entry);
        memory.entries.insert(handle.name.clone(), entry);
        Ok(handle)
    }

    /// `virInterfaceUndefine`
    pub fn undefine(&self, name: &str) -> Result<()> {
        let mut memory = self.changeable("virInterfaceUndefine")?;
        let gone = memory.entries.remove(name);
        gone.map(drop).ok_or_else(|| missing(format!("no interface with matching name '{name}'")))
    }

    /// Brings it up or down (`virInterfaceCreate`, `virInterfaceDestroy`).
    pub fn set_active(&self, name: &str, active: bool) -> Result<()> {
        let mut memory = self.changeable(if active { "virInterfaceCreate" } else { "virInterfaceDestroy" })?;
        let entry = memory.entries.get_mut(name);
        let entry = entry.ok_or_else(|| missing(format!("no interface with matching name '{name}'")))?;
        if entry.active == active {
            let state = if active { "already" } else { "not" };
            return Err(invalid(format!("interface '{name}' is {state} active")));
        }
        entry.active = active;
        Ok(())
    }

    /// Notes everything as it is (`virInterfaceChangeBegin`).
    pub fn begin(&self) -> Result<()> {
        let mut memory = self.changeable("virInterfaceChangeBegin")?;
        if memory.before.is_some() {
            return Err(invalid("there is another transaction running."));
        }
        memory.before = Some(memory.entries.clone());
        Ok(())
    }

    /// Keeps what was changed since (`virInterfaceChangeCommit`).
    pub fn commit(&self) -> Result<()> {
        let mut memory = self.changeable("virInterfaceChangeCommit")?;
        let before = memory.before.take();
        before.map(drop).ok_or_else(|| invalid("no transaction running, nothing to be committed."))
    }

    /// Takes back what was changed since (`virInterfaceChangeRollback`).
    pub fn roll_back(&self) -> Result<()> {
        let mut memory = self.changeable("virInterfaceChangeRollback")?;
        let before = memory.before.take();
        memory.entries = before.ok_or_else(|| invalid("no transaction running, nothing to rollback."))?;
        Ok(())
    }
}

impl HostInterface {
    /// What it is called in object paths: its address, as clients expect, or its name when it has none.
    pub fn key(&self) -> &str {
        if self.mac.is_empty() { &self.name } else { &self.mac }
    }

    /// All interfaces of its host. Error: the daemon goes down.
    pub fn interfaces(&self) -> Result<Arc<Interfaces>> {
        let host = self.context.host().ok_or_else(|| Error::internal("the daemon is going down"))?;
        Ok(host.interfaces.clone())
    }

    /// The interface as it is now. Error: it is not there.
    pub async fn entry(&self) -> Result<Entry> {
        let (interfaces, name, mac) = (self.interfaces()?, self.name.clone(), self.mac.clone());
        run_blocking(move || {
            let entries = interfaces.entries()?;
            if name.is_empty() { find_mac(entries, &mac) } else { find(entries, &name) }
        })
        .await
    }
}
