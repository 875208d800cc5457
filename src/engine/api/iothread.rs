//! Threads that serve disks.

use super::tune::{ParamsArgs, tune};
use super::{call, check_flags, info, stored, vcpu};
use crate::domain_xml::DomainDef;
use crate::domain_xml::tune::{IoThread, IoThreadPin, iothread_ids, list_iothreads, set_members};
use crate::engine::Domain;
use crate::engine::cleanup::run_blocking;
use crate::engine::driver::{DriverKind, Tune};
use crate::error::{Error, Result};
use crate::host;
use crate::types::flags::affect;
use crate::types::params::{ParamKind, check_params};
use crate::types::{ParamValue, TypedParams};

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
        let one = |id: u32| IoThreadInfo { id, cpus: bits(&pinned(id)) };
        Ok(iothread_ids(&def).into_iter().map(one).collect())
    }
}

/// Arguments of `virDomainAddIOThread` and `virDomainDelIOThread`.
#[derive(Clone, Copy, Debug)]
pub struct IoThreadArgs {
    pub id: u32,
    pub flags: u32,
}

/// Arguments of `virDomainPinIOThread`.
#[derive(Clone, Debug)]
pub struct PinIoThreadArgs {
    pub id: u32,
    /// One entry per host CPU; shorter means no to the rest.
    pub cpus: Vec<bool>,
    pub flags: u32,
}

call! {
    /// Binds such a thread to host CPUs. Errors: 8 when there is none with this number.
    PinIoThread = "virDomainPinIOThread", Write, "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, PinIoThreadArgs { id, cpus, flags } => PinIoThreadArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainPinIOThread")?;
        refuse_others(on, "virDomainPinIOThread")?;
        let cpus = vcpu::set(&cpus, "Empty iothread cpumap list for pinning")?;
        let own = cpus.clone();
        let edit = move |def: &mut DomainDef| {
            list_iothreads(def);
            if !def.iothread_ids.iter().any(|thread| thread.id == id) {
                let what = if def.id.is_some() { "iothread" } else { "iothreadid" };
                return Err(Error::invalid_arg(format!("{what} {id} not found")));
            }
            let pins = &mut def.cputune.iothreadpin;
            pins.retain(|pin| pin.iothread != id);
            pins.push(IoThreadPin { iothread: id, cpuset: own.clone() });
            pins.sort_by_key(|pin| pin.iothread);
            Ok(())
        };
        let events = vcpu::pinned(&format!("iothreadpin{id}"), &cpus);
        tune(on, flags, Tune::PinIoThread { id, cpus }, events, edit).await
    }
}

/// Arguments of `virDomainSetIOThreadParams`.
#[derive(Clone, Debug)]
pub struct IoThreadParamsArgs {
    pub id: u32,
    pub params: ParamsArgs,
}

const PARAMS: [(&str, ParamKind); 5] = [
    ("poll_max_ns", ParamKind::Ullong),
    ("poll_grow", ParamKind::Uint),
    ("poll_shrink", ParamKind::Uint),
    ("thread_pool_min", ParamKind::Int),
    ("thread_pool_max", ParamKind::Int),
];

/// Puts parameters into a thread's definition. Errors: 8 for a number of helpers that is none, 55 for a range that is none.
fn set_params(thread: &mut IoThread, params: &TypedParams) -> Result<()> {
    for (name, value) in &params.0 {
        match value {
            ParamValue::Ullong(nanoseconds) => {
                thread.poll.get_or_insert_default().max = Some(*nanoseconds);
            }
            ParamValue::Uint(factor) => {
                let poll = thread.poll.get_or_insert_default();
                let place = if name == "poll_grow" { &mut poll.grow } else { &mut poll.shrink };
                *place = Some((*factor).into());
            }
            ParamValue::Int(count) => {
                let count = u32::try_from(*count).map_err(|_| {
                    Error::invalid_arg(format!("{name} in virDomainSetIOThreadParams must not be negative"))
                })?;
                let min = name == "thread_pool_min";
                *if min { &mut thread.thread_pool_min } else { &mut thread.thread_pool_max } = Some(count);
            }
            _ => {}
        }
    }
    match (thread.thread_pool_min, thread.thread_pool_max) {
        (Some(min), Some(max)) if min > max => {
            Err(Error::invalid_state(format!("thread_pool_min ({min}) can't be greater than thread_pool_max ({max})")))
        }
        _ => Ok(()),
    }
}

call! {
    /// How such a thread polls, and how many helpers it may have.
    SetIoThreadParams = "virDomainSetIOThreadParams", Write,
        "domain:write", "domain:save" if |args| stored(args.params.flags);
    (caller, on: Domain, IoThreadParamsArgs { id, params: ParamsArgs { params, flags } } => IoThreadParamsArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainSetIOThreadParams")?;
        if on.runtime().kind() != DriverKind::Qemu {
            return Err(Error::no_support("virDomainSetIOThreadParams"));
        }
        if id == 0 {
            return Err(Error::invalid_arg("invalid value of 0 for iothread_id"));
        }
        check_params(&params, &PARAMS)?;
        let snapshot = on.snapshot();
        let former = snapshot.live.as_ref().and_then(|def| def.iothread_ids.iter().find(|thread| thread.id == id));
        let live = Tune::IoThreadLimits { former: former.cloned().unwrap_or(IoThread { id, ..IoThread::default() }) };
        let edit = move |def: &mut DomainDef| {
            list_iothreads(def);
            let thread = def.iothread_ids.iter_mut().find(|thread| thread.id == id);
            let missing = || Error::invalid_arg(format!("cannot find IOThread '{id}' in iothreadids"));
            set_params(thread.ok_or_else(missing)?, &params)
        };
        tune(on, flags, live, Vec::new(), edit).await
    }
}

const LIVE_CONFIG: u32 = affect::LIVE | affect::CONFIG;

fn used(def: &DomainDef, id: u32) -> bool {
    def.disks.iter().any(|disk| disk.driver.iothread == Some(id) || disk.driver.iothreads.iter().any(|one| one.0 == id))
        || def.controllers.iter().any(|one| one.driver.iothread == Some(id))
}

call! {
    /// One more thread. Errors: 55 when there is one with this number.
    AddIoThread = "virDomainAddIOThread", Write, "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, IoThreadArgs { id, flags } => IoThreadArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainAddIOThread")?;
        refuse_others(on, "virDomainAddIOThread")?;
        if id == 0 {
            return Err(Error::bare_arg("invalid value of 0 for iothread_id"));
        }
        let edit = move |def: &mut DomainDef| {
            list_iothreads(def);
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
    DelIoThread = "virDomainDelIOThread", Write, "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, IoThreadArgs { id, flags } => IoThreadArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainDelIOThread")?;
        refuse_others(on, "virDomainDelIOThread")?;
        if id == 0 {
            return Err(Error::bare_arg("invalid value of 0 for iothread_id"));
        }
        let edit = move |def: &mut DomainDef| {
            list_iothreads(def);
            if !def.iothread_ids.iter().any(|thread| thread.id == id) {
                return Err(Error::invalid_arg(format!("cannot find IOThread '{id}' in iothreadids list")));
            }
            if used(def, id) {
                return Err(Error::invalid_state(format!("cannot remove IOThread {id}: a disk or a controller uses it")));
            }
            def.iothread_ids.retain(|thread| thread.id != id);
            def.cputune.iothreadpin.retain(|pin| pin.iothread != id);
            def.iothreads = u32::try_from(def.iothread_ids.len()).ok().filter(|count| *count > 0);
            Ok(())
        };
        tune(on, flags, Tune::IoThread { id, add: false }, Vec::new(), edit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn parameters_of_a_thread() {
        let mut thread = IoThread { id: 1, ..IoThread::default() };
        let with = |name: &str, value| TypedParams(vec![(name.to_string(), value)]);
        set_params(&mut thread, &with("poll_grow", ParamValue::Uint(2))).unwrap();
        set_params(&mut thread, &with("thread_pool_max", ParamValue::Int(4))).unwrap();
        let poll = thread.poll.clone().unwrap();
        assert_eq!((poll.max, poll.grow, thread.thread_pool_max), (None, Some(2), Some(4)));
        let error = set_params(&mut thread, &with("thread_pool_min", ParamValue::Int(5))).unwrap_err();
        assert_eq!(error.code, Code::OperationInvalid);
        assert!(set_params(&mut thread, &with("thread_pool_min", ParamValue::Int(-1))).is_err());
    }
}
