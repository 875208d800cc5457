//! Limits of a domain: memory, CPU time, block I/O; read from the cgroup while it runs, from the definition otherwise.

use std::sync::Arc;

use super::{call, check_flags, info, stored};
use crate::cgroup::{Settings, UNLIMITED};
use crate::domain_xml::DomainDef;
use crate::domain_xml::tune::{BlkioDevice, BlkioTune};
use crate::engine::Domain;
use crate::engine::domain::change::{Applied, Change, Edit};
use crate::engine::domain::{Op, Snapshot};
use crate::engine::driver::{DriverKind, Tune};
use crate::engine::event::EventKind;
use crate::error::{Code, Error, Result};
use crate::types::flags::{self, affect};
use crate::types::params::{ParamKind, check_params};
use crate::types::{ParamValue, TypedParams};

/// libvirt's number for "no limit", KiB (`VIR_DOMAIN_MEMORY_PARAM_UNLIMITED`).
pub const MEMORY_UNLIMITED: u64 = 9_007_199_254_740_991;
/// What libvirt shows for "no quota" on v2.
const QUOTA_MAX: i64 = 17_592_186_044_415;
/// `VIR_TYPED_PARAM_STRING_OKAY`: strings may be among the answers.
const STRING_OKAY: u32 = 4;
const LIVE_CONFIG: u32 = affect::LIVE | affect::CONFIG;

/// Arguments of the `virDomainSet*Parameters` calls.
#[derive(Clone, Debug)]
pub struct ParamsArgs {
    pub params: TypedParams,
    pub flags: u32,
}

/// Arguments of `virDomainSetMemoryFlags`.
#[derive(Clone, Copy, Debug)]
pub struct MemoryArgs {
    /// KiB.
    pub memory: u64,
    /// `virDomainMemoryModFlags`.
    pub flags: u32,
}

/// Changes a limit of the guest and the same of the definition.
pub(super) async fn tune(
    on: &Domain,
    flags: u32,
    tune: Tune,
    events: Vec<EventKind>,
    edit: impl Fn(&mut DomainDef) -> Result<()> + Send + Sync + 'static,
) -> Result<()> {
    let edit: Edit = Arc::new(edit);
    // A balloon takes its time, and the guest says how far it got: that moves the live definition.
    let by_guest = matches!(tune, Tune::Memory(_)) && on.runtime().kind() == DriverKind::Qemu;
    let change = Change {
        flags,
        config: edit.clone(),
        complete: true,
        live: Box::new(move |instance, def, _| {
            Box::pin(async move {
                // What the definition refuses, the guest is not asked for.
                let mut new = def.as_ref().clone();
                edit(&mut new)?;
                instance.tune(&new, &tune).await?;
                let edit = if by_guest { Arc::new(|_: &mut DomainDef| Ok(())) } else { edit };
                Ok(Applied { edit, events })
            })
        }),
    };
    on.request(Op::Change(Box::new(change))).await
}

/// The guest's settings when `flags` mean it, and the definition they mean.
fn current(on: &Domain, flags: u32) -> Result<(Option<Settings>, Arc<DomainDef>, Arc<Snapshot>)> {
    let snapshot = on.snapshot();
    let def = info::pick(&snapshot, flags)?.clone();
    let live = snapshot.active() && flags & affect::CONFIG == 0;
    let settings = snapshot.instance.as_ref().filter(|_| live).map(|instance| instance.settings());
    Ok((settings, def, snapshot))
}

call! {
    /// Memory the guest may use, or with `VIR_DOMAIN_MEM_MAXIMUM` its maximum.
    SetMemory = "virDomainSetMemoryFlags", Write, "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, MemoryArgs { memory, flags } => MemoryArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG | flags::memory::MAXIMUM, "virDomainSetMemoryFlags")?;
        if memory == 0 {
            return Err(Error::bare_arg("memory in virDomainSetMemoryFlags must not be zero"));
        }
        if flags & flags::memory::MAXIMUM != 0 {
            return set_maximum(on, memory, flags).await;
        }
        tune(on, flags & LIVE_CONFIG, Tune::Memory(memory), Vec::new(), move |def| {
            if memory > def.memory.size {
                return Err(Error::invalid_arg("cannot set memory higher than max memory"));
            }
            def.memory.current = Some(memory);
            Ok(())
        })
        .await
    }
}

async fn set_maximum(on: &Domain, memory: u64, flags: u32) -> Result<()> {
    let change = Change {
        flags: flags & LIVE_CONFIG,
        complete: true,
        live: Box::new(|_, _, _| {
            let error = Error::invalid_state("cannot resize the maximum memory on an active domain");
            Box::pin(std::future::ready(Err(error)))
        }),
        config: Arc::new(move |def| {
            if def.cpu.as_ref().is_some_and(|cpu| !cpu.numa_cells.is_empty()) {
                return Err(Error::invalid_state(
                    "initial memory size of a domain with NUMA nodes cannot be modified with this API",
                ));
            }
            def.memory.size = memory;
            def.memory.current = Some(def.memory.current.unwrap_or(memory).min(memory));
            Ok(())
        }),
    };
    on.request(Op::Change(Box::new(change))).await
}

const MEMORY_PARAMS: [(&str, ParamKind); 3] =
    [("hard_limit", ParamKind::Ullong), ("soft_limit", ParamKind::Ullong), ("swap_hard_limit", ParamKind::Ullong)];

fn ullong(params: &TypedParams, name: &str) -> Option<u64> {
    match params.get(name)? {
        ParamValue::Ullong(value) => Some(*value),
        _ => None,
    }
}

fn llong(params: &TypedParams, name: &str) -> Option<i64> {
    match params.get(name)? {
        ParamValue::Llong(value) => Some(*value),
        _ => None,
    }
}

call! {
    /// Memory limits, KiB (`VIR_DOMAIN_MEMORY_*`).
    GetMemoryParameters = "virDomainGetMemoryParameters", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> TypedParams {
        check_flags(on, flags, LIVE_CONFIG | STRING_OKAY, "virDomainGetMemoryParameters")?;
        let (settings, def, _) = current(on, flags)?;
        let settings = settings.unwrap_or_default();
        let tune = &def.memtune;
        let mut params = TypedParams::new();
        let values = [
            (settings.memory, tune.hard_limit),
            (settings.memory_soft, tune.soft_limit),
            (settings.memory_swap, tune.swap_hard_limit),
        ];
        for ((name, _), (kernel, defined)) in MEMORY_PARAMS.into_iter().zip(values) {
            let kib = match kernel {
                Some(UNLIMITED) => MEMORY_UNLIMITED,
                Some(bytes) => bytes / 1024,
                // Without the controller nothing limits the guest but what the definition will ask for.
                None => defined.unwrap_or(MEMORY_UNLIMITED),
            };
            params.ullong(name, kib);
        }
        Ok(params)
    }
}

call! {
    /// Sets memory limits, KiB.
    SetMemoryParameters = "virDomainSetMemoryParameters", Write,
        "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, ParamsArgs { params, flags } => ParamsArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainSetMemoryParameters")?;
        check_params(&params, &MEMORY_PARAMS)?;
        // None = left alone, Some(None) = no limit.
        let wish = |name: &str| ullong(&params, name).map(|kib| Some(kib).filter(|kib| *kib < MEMORY_UNLIMITED));
        let (hard, soft, swap) = (wish("hard_limit"), wish("soft_limit"), wish("swap_hard_limit"));
        let edit = move |def: &mut DomainDef| {
            let tune = &mut def.memtune;
            let (new_hard, new_swap) = (hard.unwrap_or(tune.hard_limit), swap.unwrap_or(tune.swap_hard_limit));
            if let Some(swap) = new_swap
                && new_hard.is_none_or(|hard| hard > swap)
                && (hard.is_some() || new_hard.is_some())
            {
                return Err(Error::invalid_arg(
                    "memory hard_limit tunable value must be lower than or equal to swap_hard_limit",
                ));
            }
            (tune.hard_limit, tune.swap_hard_limit) = (new_hard, new_swap);
            tune.soft_limit = soft.unwrap_or(tune.soft_limit);
            Ok(())
        };
        let kernel = |wish: Option<Option<u64>>| wish.map(|kib| kib.map_or(UNLIMITED, |kib| kib.saturating_mul(1024)));
        let live = Tune::MemoryLimits { hard: kernel(hard), soft: kernel(soft), swap: kernel(swap) };
        tune(on, flags, live, Vec::new(), edit).await
    }
}

const LXC_SCHED: usize = 3;
const SCHED_PARAMS: [(&str, ParamKind); 9] = [
    ("cpu_shares", ParamKind::Ullong),
    ("vcpu_period", ParamKind::Ullong),
    ("vcpu_quota", ParamKind::Llong),
    ("emulator_period", ParamKind::Ullong),
    ("emulator_quota", ParamKind::Llong),
    ("global_period", ParamKind::Ullong),
    ("global_quota", ParamKind::Llong),
    ("iothread_period", ParamKind::Ullong),
    ("iothread_quota", ParamKind::Llong),
];

/// The scheduler's parameters of a driver.
fn sched_params(kind: DriverKind) -> &'static [(&'static str, ParamKind)] {
    if kind == DriverKind::Lxc { &SCHED_PARAMS[..LXC_SCHED] } else { &SCHED_PARAMS }
}

call! {
    /// Scheduler and its number of parameters.
    GetSchedulerType = "virDomainGetSchedulerType", Read, "domain:read";
    (caller, on: Domain, () => ()) -> (String, i32) {
        let kind = on.runtime().kind();
        match kind {
            DriverKind::Test => Ok(("fair".into(), 1)),
            _ => Ok(("posix".into(), i32::try_from(sched_params(kind).len()).unwrap_or(0))),
        }
    }
}

call! {
    /// CPU time limits (`VIR_DOMAIN_SCHEDULER_*`).
    GetSchedulerParameters = "virDomainGetSchedulerParametersFlags", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> TypedParams {
        check_flags(on, flags, LIVE_CONFIG | STRING_OKAY, "virDomainGetSchedulerParametersFlags")?;
        let kind = on.runtime().kind();
        let mut params = TypedParams::new();
        if kind == DriverKind::Test {
            params.uint("weight", 50);
            return Ok(params);
        }
        let (settings, def, _) = current(on, flags)?;
        let live = settings.is_some();
        let kernel = settings.unwrap_or_default();
        let tune = &def.cputune;
        // What a running guest has without a word in its definition; of one that does not run libvirt shows 0.
        let (no_period, no_quota) = if live { (100_000, -1) } else { (0, 0) };
        let kernel_quota = kernel.cpu_quota.map(|quota| if quota < 0 && kernel.v2 { QUOTA_MAX } else { quota });
        let has_global = tune.global_period.is_some() || tune.global_quota.is_some();
        // One group for the whole machine has the quota of all virtual CPUs together.
        let share = if kind == DriverKind::Qemu { i64::from(info::vcpus(&def)).max(1) } else { 1 };
        let vcpu_quota = kernel_quota
            .filter(|_| !has_global)
            .map(|quota| if quota > 0 && quota != QUOTA_MAX { quota / share } else { quota });
        params.ullong("cpu_shares", kernel.cpu_shares.or(tune.shares).unwrap_or(if live { 1024 } else { 0 }));
        params.ullong("vcpu_period", kernel.cpu_period.filter(|_| !has_global).or(tune.period).unwrap_or(no_period));
        params.llong("vcpu_quota", vcpu_quota.or(tune.quota).unwrap_or(no_quota));
        if kind == DriverKind::Lxc {
            return Ok(params);
        }
        params.ullong("emulator_period", tune.emulator_period.unwrap_or(no_period));
        params.llong("emulator_quota", tune.emulator_quota.unwrap_or(no_quota));
        params.ullong("global_period", kernel.cpu_period.filter(|_| has_global).or(tune.global_period).unwrap_or(no_period));
        params.llong("global_quota", kernel_quota.filter(|_| has_global).or(tune.global_quota).unwrap_or(no_quota));
        params.ullong("iothread_period", tune.iothread_period.unwrap_or(no_period));
        params.llong("iothread_quota", tune.iothread_quota.unwrap_or(no_quota));
        Ok(params)
    }
}

/// libvirt's ranges of periods and quotas; 0 leaves one alone, a negative quota is none.
fn check_range(params: &TypedParams) -> Result<()> {
    for (name, value) in &params.0 {
        let (value, max) = match value {
            ParamValue::Ullong(value) if name.ends_with("_period") => {
                (i64::try_from(*value).unwrap_or(i64::MAX), 1_000_000)
            }
            ParamValue::Llong(value) if name.ends_with("_quota") => (*value, QUOTA_MAX),
            _ => continue,
        };
        if (value > 0 && value < 1000) || value > max {
            return Err(Error::invalid_arg(format!("value of '{name}' is out of range [1000, {max}]")));
        }
    }
    Ok(())
}

call! {
    /// Sets CPU time limits.
    SetSchedulerParameters = "virDomainSetSchedulerParametersFlags", Write,
        "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, ParamsArgs { params, flags } => ParamsArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainSetSchedulerParametersFlags")?;
        let kind = on.runtime().kind();
        if kind == DriverKind::Test {
            return Err(Error::no_support("virDomainSetSchedulerParametersFlags"));
        }
        check_params(&params, sched_params(kind))?;
        check_range(&params)?;
        let mut told = TypedParams::new();
        params.0.iter().for_each(|(name, value)| told.push(format!("cputune.{name}"), value.clone()));
        let nonzero = |name: &str| ullong(&params, name).filter(|value| *value != 0);
        let quota = |name: &str| llong(&params, name).filter(|value| *value != 0);
        let live = Tune::Cpu {
            shares: nonzero("cpu_shares"),
            period: nonzero("vcpu_period"),
            quota: quota("vcpu_quota"),
            global: (nonzero("global_period"), quota("global_quota")),
        };
        // Threads other than the machine as a whole have no group of their own: see ARCHITECTURE.md.
        let lone = ["emulator_period", "emulator_quota", "iothread_period", "iothread_quota"];
        let lone = lone.into_iter().find(|name| params.get(name).is_some());
        let edit = move |def: &mut DomainDef| {
            if let Some(name) = lone.filter(|_| def.id.is_some()) {
                return Err(Error::new(
                    Code::OperationUnsupported,
                    format!("'{name}' cannot be set on a running domain: limit the whole machine with global_* instead"),
                ));
            }
            let tune = &mut def.cputune;
            for (name, place) in [
                ("cpu_shares", &mut tune.shares),
                ("vcpu_period", &mut tune.period),
                ("emulator_period", &mut tune.emulator_period),
                ("global_period", &mut tune.global_period),
                ("iothread_period", &mut tune.iothread_period),
            ] {
                if let Some(value) = ullong(&params, name) {
                    *place = Some(value).filter(|value| *value != 0);
                }
            }
            for (name, place) in [
                ("vcpu_quota", &mut tune.quota),
                ("emulator_quota", &mut tune.emulator_quota),
                ("global_quota", &mut tune.global_quota),
                ("iothread_quota", &mut tune.iothread_quota),
            ] {
                if let Some(value) = llong(&params, name) {
                    *place = Some(value).filter(|value| *value != 0);
                }
            }
            Ok(())
        };
        tune(on, flags, live, vec![EventKind::Tunable(told)], edit).await
    }
}

const BLKIO_PARAMS: [(&str, ParamKind); 6] = [
    ("weight", ParamKind::Uint),
    ("device_weight", ParamKind::Str),
    ("device_read_iops_sec", ParamKind::Str),
    ("device_write_iops_sec", ParamKind::Str),
    ("device_read_bytes_sec", ParamKind::Str),
    ("device_write_bytes_sec", ParamKind::Str),
];

/// The value of one device that a parameter is about.
fn device_value(device: &BlkioDevice, name: &str) -> Option<u64> {
    match name {
        "device_weight" => device.weight.map(u64::from),
        "device_read_iops_sec" => device.read_iops_sec.map(u64::from),
        "device_write_iops_sec" => device.write_iops_sec.map(u64::from),
        "device_read_bytes_sec" => device.read_bytes_sec,
        _ => device.write_bytes_sec,
    }
}

fn set_device_value(device: &mut BlkioDevice, name: &str, value: Option<u64>) -> Result<()> {
    let small = |value: Option<u64>| {
        let convert = |value| {
            u32::try_from(value).map_err(|_| Error::invalid_arg(format!("value {value} of {name} is too large")))
        };
        value.map(convert).transpose()
    };
    match name {
        "device_weight" => device.weight = small(value)?,
        "device_read_iops_sec" => device.read_iops_sec = small(value)?,
        "device_write_iops_sec" => device.write_iops_sec = small(value)?,
        "device_read_bytes_sec" => device.read_bytes_sec = value,
        _ => device.write_bytes_sec = value,
    }
    Ok(())
}

/// Reads libvirt's `PATH,VALUE,PATH,VALUE`.
fn parse_devices(name: &str, text: &str) -> Result<Vec<(String, u64)>> {
    let bad = || Error::invalid_arg(format!("unable to parse blkio device '{name}' '{text}'"));
    let words: Vec<&str> = text.split(',').collect();
    if !words.len().is_multiple_of(2) {
        return Err(bad());
    }
    let pair = |pair: &[&str]| match pair {
        [path, value] if !path.is_empty() => Ok((path.to_string(), value.parse().map_err(|_| bad())?)),
        _ => Err(bad()),
    };
    words.chunks(2).map(pair).collect()
}

call! {
    /// Block I/O limits (`VIR_DOMAIN_BLKIO_*`).
    GetBlkioParameters = "virDomainGetBlkioParameters", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> TypedParams {
        check_flags(on, flags, LIVE_CONFIG | STRING_OKAY, "virDomainGetBlkioParameters")?;
        let (settings, def, _) = current(on, flags)?;
        let tune = &def.blkiotune;
        let weight = settings.and_then(|settings| settings.blkio_weight).map(u32::from).or(tune.weight);
        let mut params = TypedParams::new();
        params.uint("weight", weight.unwrap_or(0));
        for (name, _) in &BLKIO_PARAMS[1..] {
            let pairs = tune.devices.iter().filter_map(|device| {
                let value = device_value(device, name).filter(|value| *value != 0)?;
                Some(format!("{},{value}", device.path))
            });
            params.string(*name, pairs.collect::<Vec<_>>().join(","));
        }
        Ok(params)
    }
}

call! {
    /// Sets block I/O limits; a device's value of 0 takes it away.
    SetBlkioParameters = "virDomainSetBlkioParameters", Write,
        "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, ParamsArgs { params, flags } => ParamsArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainSetBlkioParameters")?;
        check_params(&params, &BLKIO_PARAMS)?;
        let mut weight = None;
        let mut devices: Vec<BlkioDevice> = Vec::new();
        for (name, value) in &params.0 {
            match value {
                ParamValue::Uint(value) if *value == 0 || (10..=1000).contains(value) => weight = Some(*value),
                ParamValue::Uint(value) => {
                    return Err(Error::invalid_arg(format!("weight {value} is out of range [10, 1000]")));
                }
                ParamValue::Str(text) => {
                    for (path, value) in parse_devices(name, text)? {
                        let at = devices.iter().position(|device| device.path == path).unwrap_or_else(|| {
                            devices.push(BlkioDevice { path, ..Default::default() });
                            devices.len() - 1
                        });
                        set_device_value(&mut devices[at], name, Some(value))?;
                    }
                }
                _ => {}
            }
        }
        let wished = devices.clone();
        let edit = move |def: &mut DomainDef| {
            if let Some(weight) = weight {
                def.blkiotune.weight = Some(weight).filter(|weight| *weight != 0);
            }
            merge(&mut def.blkiotune, &wished)
        };
        let weight = weight.filter(|weight| *weight != 0);
        tune(on, flags, Tune::Blkio { weight, devices }, Vec::new(), edit).await
    }
}

/// Values that are given replace the former ones; a device without any goes.
fn merge(tune: &mut BlkioTune, wished: &[BlkioDevice]) -> Result<()> {
    for wish in wished {
        let at = tune.devices.iter().position(|device| device.path == wish.path).unwrap_or_else(|| {
            tune.devices.push(BlkioDevice { path: wish.path.clone(), ..Default::default() });
            tune.devices.len() - 1
        });
        for (name, _) in &BLKIO_PARAMS[1..] {
            if let Some(value) = device_value(wish, name) {
                set_device_value(&mut tune.devices[at], name, Some(value).filter(|value| *value != 0))?;
            }
        }
    }
    let blank = |device: &BlkioDevice| BLKIO_PARAMS[1..].iter().all(|(name, _)| device_value(device, name).is_none());
    tune.devices.retain(|device| !blank(device));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_a_parameter() {
        let parsed = parse_devices("device_weight", "/dev/sda,300,/dev/sdb,0").unwrap();
        assert_eq!(parsed, [("/dev/sda".to_string(), 300), ("/dev/sdb".to_string(), 0)]);
        for bad in ["", "/dev/sda", "/dev/sda,x", ",5"] {
            assert!(parse_devices("device_weight", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_device_without_values_goes() {
        let mut tune = BlkioTune::default();
        let wish = |weight, iops| {
            vec![BlkioDevice { path: "/dev/a".into(), weight, read_iops_sec: iops, ..Default::default() }]
        };
        merge(&mut tune, &wish(Some(200), None)).unwrap();
        merge(&mut tune, &wish(None, Some(5))).unwrap();
        assert_eq!((tune.devices[0].weight, tune.devices[0].read_iops_sec), (Some(200), Some(5)));
        merge(&mut tune, &wish(Some(0), None)).unwrap();
        assert_eq!((tune.devices[0].weight, tune.devices[0].read_iops_sec), (None, Some(5)));
        merge(&mut tune, &wish(None, Some(0))).unwrap();
        assert!(tune.devices.is_empty());
    }

    #[test]
    fn ranges_are_libvirts() {
        let with = |name: &str, value| TypedParams(vec![(name.to_string(), value)]);
        assert!(check_range(&with("vcpu_quota", ParamValue::Llong(-1))).is_ok());
        assert!(check_range(&with("vcpu_quota", ParamValue::Llong(999))).is_err());
        assert!(check_range(&with("vcpu_period", ParamValue::Ullong(1_000_001))).is_err());
        assert!(check_range(&with("cpu_shares", ParamValue::Ullong(2))).is_ok());
    }
}
