//! Threads that serve disks.

use super::tune::tune;
use super::{call, check_flags, info};
use crate::domain_xml::DomainDef;
use crate::domain_xml::tune::{IoThread, set_members};
use crate::engine::Domain;
use crate::engine::cleanup::run_blocking;
use crate::engine::driver::{DriverKind, Tune};
use crate::error::{Error, Result};
use crate::host;
use crate::types::flags::affect;

/// A thread and the host CPUs it may use: one entry per CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoThreadInfo {
    pub id: u32,
    pub cpus: Vec<bool>,
}

fn refuse_others(on: &Domain, function: &'static str) -> Result<()> {
    match on.runtime().kind() {
        DriverKind::Lxc => Err(Error::no_support(function)),
        DriverKind::Qemu | DriverKind::Test => Ok(()),
    }
}

call! {
    /// The threads of the running guest, or those its next start makes.
    GetIoThreadInfo = "virDomainGetIOThreadInfo", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> Vec<IoThreadInfo> {
        check_flags(on, flags, affect::LIVE | affect::CONFIG, "virDomainGetIOThreadInfo")?;
        refuse_others(on, "virDomainGetIOThreadInfo")?;
        let snapshot = on.snapshot();
        let def = info::pick(&snapshot, flags)?.clone();
        let count = run_blocking(host::cpu_map).await?.len();
        let bits = |cpus: &[u32]| (0..count).map(|cpu| cpus.iter().any(|one| *one as usize == cpu)).collect();
        let live = flags & affect::CONFIG == 0;
        if let Some(instance) = snapshot.instance.as_ref().filter(|_| live && on.runtime().kind() == DriverKind::Qemu) {
            let threads = instance.iothreads().await?;
            return Ok(threads.into_iter().map(|(id, cpus)| IoThreadInfo { id, cpus: bits(&cpus) }).collect());
        }
        let pinned = |id: u32| {
            let pin = def.cputune.iothreadpin.iter().find(|pin| pin.iothread == id);
            let set = pin.map(|pin| pin.cpuset.as_str()).or(def.vcpu.cpuset.as_deref());
            set.and_then(set_members).unwrap_or_else(|| (0u32..).take(count).collect())
        };
        let one = |thread: &IoThread| IoThreadInfo { id: thread.id, cpus: bits(&pinned(thread.id)) };
        Ok(def.iothread_ids.iter().map(one).collect())
    }
}

/// Arguments of `virDomainAddIOThread` and `virDomainDelIOThread`.
#[derive(Clone, Copy, Debug)]
pub struct IoThreadArgs {
    pub id: u32,
    pub flags: u32,
}

const LIVE_CONFIG: u32 = affect::LIVE | affect::CONFIG;

fn used(def: &DomainDef, id: u32) -> bool {
    def.disks.iter().any(|disk| disk.driver.iothread == Some(id) || disk.driver.iothreads.iter().any(|one| one.0 == id))
        || def.controllers.iter().any(|one| one.driver.iothread == Some(id))
}

call! {
    /// One more thread. Errors: 55 when there is one with this number.
    AddIoThread = "virDomainAddIOThread", Write, "domain:write";
    (caller, on: Domain, IoThreadArgs { id, flags } => IoThreadArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainAddIOThread")?;
        refuse_others(on, "virDomainAddIOThread")?;
        if id == 0 {
            return Err(Error::bare_arg("invalid value of 0 for iothread_id"));
        }
        let edit = move |def: &mut DomainDef| {
            if def.iothread_ids.iter().any(|thread| thread.id == id) {
                return Err(Error::invalid_arg(format!("an IOThread is already using iothread_id '{id}'")));
            }
            def.iothread_ids.push(IoThread { id, ..IoThread::default() });
            def.iothreads = u32::try_from(def.iothread_ids.len()).ok();
            Ok(())
        };
        tune(on, flags, Tune::IoThread { id, add: true }, Vec::new(), edit).await
    }
}

call! {
    /// One less. Errors: 8 when there is none with this number, 55 when something uses it.
    DelIoThread = "virDomainDelIOThread", Write, "domain:write";
    (caller, on: Domain, IoThreadArgs { id, flags } => IoThreadArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainDelIOThread")?;
        refuse_others(on, "virDomainDelIOThread")?;
        if id == 0 {
            return Err(Error::bare_arg("invalid value of 0 for iothread_id"));
        }
        let edit = move |def: &mut DomainDef| {
            if !def.iothread_ids.iter().any(|thread| thread.id == id) {
                return Err(Error::invalid_arg(format!("cannot find IOThread '{id}' in iothreadids list")));
            }
            if used(def, id) {
                return Err(Error::invalid_state(format!("cannot remove IOThread {id}: a disk or a controller uses it")));
            }
            def.iothread_ids.retain(|thread| thread.id != id);
            def.iothreads = u32::try_from(def.iothread_ids.len()).ok().filter(|count| *count > 0);
            Ok(())
        };
        tune(on, flags, Tune::IoThread { id, add: false }, Vec::new(), edit).await
    }
}
