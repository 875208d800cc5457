//! Virtual CPUs, where they may run, and the guest's memory nodes.

use super::tune::{ParamsArgs, tune};
use super::{call, check_flags, info, stored};
use crate::domain_xml::cpu::{NumaMemory, NumaMode, Topology};
use crate::domain_xml::tune::{VcpuPin, VcpuState, format_set, set_members};
use crate::domain_xml::{DomainDef, YesNo};
use crate::engine::Domain;
use crate::engine::cleanup::run_blocking;
use crate::engine::driver::{DriverKind, Tune, VcpuInfo};
use crate::engine::event::EventKind;
use crate::error::{Error, Result};
use crate::host;
use crate::types::flags::{affect, vcpu};
use crate::types::params::{ParamKind, check_params};
use crate::types::{ParamValue, TypedParams};

const LIVE_CONFIG: u32 = affect::LIVE | affect::CONFIG;

/// Arguments of `virDomainSetVcpusFlags`.
#[derive(Clone, Copy, Debug)]
pub struct VcpusArgs {
    pub count: u32,
    /// `virDomainVcpuFlags`.
    pub flags: u32,
}

/// Arguments of `virDomainPinVcpuFlags` and, without `vcpu`, of `virDomainPinEmulator`.
#[derive(Clone, Debug)]
pub struct PinArgs {
    pub vcpu: u32,
    /// One entry per host CPU; shorter means no to the rest.
    pub cpus: Vec<bool>,
    pub flags: u32,
}

call! {
    /// How many virtual CPUs are on, or with `VIR_DOMAIN_VCPU_MAXIMUM` how many there are at most.
    SetVcpus = "virDomainSetVcpusFlags", Write,
        "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, VcpusArgs { count, flags } => VcpusArgs) -> () {
        let known = LIVE_CONFIG | vcpu::MAXIMUM | vcpu::GUEST | vcpu::HOTPLUGGABLE;
        check_flags(on, flags, known, "virDomainSetVcpusFlags")?;
        if count == 0 {
            return Err(Error::bare_arg("nvcpus in virDomainSetVcpusFlags must not be zero"));
        }
        if flags & vcpu::GUEST != 0 {
            return super::agent::use_vcpus(on, count).await;
        }
        let maximum = flags & vcpu::MAXIMUM != 0;
        let edit = move |def: &mut DomainDef| {
            let live = def.id.is_some();
            if maximum && live {
                return Err(Error::invalid_arg("maximum vcpu count of a live domain can't be modified"));
            }
            if maximum {
                let topology = def.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref());
                let parts = |t: &Topology| [t.sockets, t.dies, t.clusters, t.cores, t.threads];
                let total = |t: &Topology| parts(t).into_iter().flatten().fold(1u32, u32::saturating_mul);
                if topology.is_some_and(|topology| total(topology) != count) {
                    return Err(Error::invalid_arg("CPU topology doesn't match the desired vcpu count"));
                }
                def.vcpu.current = def.vcpu.current.filter(|current| *current < count);
                def.vcpu.max = count;
                return Ok(());
            }
            if count > def.vcpu.max {
                let what = if live { "live" } else { "persistent" };
                return Err(Error::invalid_arg(format!(
                    "requested vcpus is greater than max allowable vcpus for the {what} domain: {count} > {}",
                    def.vcpu.max
                )));
            }
            def.vcpu.current = Some(count).filter(|count| *count != def.vcpu.max);
            Ok(())
        };
        tune(on, flags & LIVE_CONFIG, Tune::Vcpus(count), Vec::new(), edit).await
    }
}

call! {
    /// The running guest's virtual CPUs: state, time, where they are and may be.
    GetVcpuInfo = "virDomainGetVcpus", Read, "domain:read";
    (caller, on: Domain, () => ()) -> Vec<(VcpuInfo, Vec<bool>)> {
        let snapshot = on.snapshot();
        let instance = snapshot.instance.clone().ok_or_else(|| {
            Error::invalid_state("cannot retrieve vcpu information for inactive domain")
        })?;
        let host = usable_cpus(on).await?;
        let vcpus = instance.vcpus().await?;
        Ok(vcpus.into_iter().map(|info| { let map = bits(&info.affinity, host.len()); (info, map) }).collect())
    }
}

/// One entry per host CPU: whether a guest can be on it.
async fn usable_cpus(on: &Domain) -> Result<Vec<bool>> {
    match on.runtime().driver().simulated_host() {
        Some(simulated) => Ok(simulated.usable),
        None => run_blocking(host::cpu_map).await,
    }
}

fn bits(cpus: &[u32], count: usize) -> Vec<bool> {
    (0..count).map(|cpu| cpus.iter().any(|member| *member as usize == cpu)).collect()
}

/// The set a map of bits means. Errors: code 8 with `empty` for an empty one.
pub(super) fn set(cpus: &[bool], empty: &str) -> Result<String> {
    let members: Vec<u32> = (0u32..).zip(cpus).filter(|(_, on)| **on).map(|(cpu, _)| cpu).collect();
    if members.is_empty() {
        return Err(Error::invalid_arg(empty));
    }
    Ok(format_set(&members))
}

const EMPTY: &str = "Empty cpu list for pinning";

/// A set in libvirt's text form. Errors: code 8 for what is none, and for an empty one.
fn parse_set(text: &str) -> Result<Vec<u32>> {
    let members = set_members(text).filter(|members| !members.is_empty());
    members.ok_or_else(|| Error::invalid_arg(format!("Failed to parse bitmap '{text}'")))
}

/// A set of the definition as a map; without one every host CPU that is online.
fn map(set: Option<&String>, host: &[bool]) -> Vec<bool> {
    match set.and_then(|set| set_members(set)) {
        Some(members) => bits(&members, host.len()),
        None => host.to_vec(),
    }
}

/// Arguments of `virDomainSetVcpu`.
#[derive(Clone, Debug)]
pub struct VcpuStateArgs {
    /// Virtual CPUs, as a set in libvirt's text form.
    pub vcpus: String,
    /// 1 on, 0 off.
    pub state: i32,
    pub flags: u32,
}

call! {
    /// Turns single virtual CPUs on or off. Errors: code 8 for one that is not there, and for the first going off.
    SetVcpu = "virDomainSetVcpu", Write, "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, VcpuStateArgs { vcpus, state, flags } => VcpuStateArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainSetVcpu")?;
        if on.runtime().kind() != DriverKind::Qemu {
            return Err(Error::no_support("virDomainSetVcpu"));
        }
        if !matches!(state, 0 | 1) {
            return Err(Error::bare_arg("unsupported state value"));
        }
        let members = parse_set(&vcpus)?;
        let edit = move |def: &mut DomainDef| turn(def, &members, state == 1);
        tune(on, flags, Tune::VcpuStates, Vec::new(), edit).await
    }
}

/// What [`SetVcpu`] does to a definition.
fn turn(def: &mut DomainDef, members: &[u32], on: bool) -> Result<()> {
    if let Some(missing) = members.iter().find(|id| **id >= def.vcpu.max) {
        let what = if def.id.is_some() { "live" } else { "persistent" };
        return Err(Error::invalid_arg(format!("vcpu {missing} is not present in {what} config")));
    }
    if members.contains(&0) {
        return Err(Error::invalid_arg("vCPU '0' can't be modified"));
    }
    let current = info::vcpus(def);
    if def.vcpus.is_empty() {
        let one = |id| VcpuState {
            id: Some(id),
            enabled: Some(YesNo::from(id < current)),
            hotpluggable: Some(YesNo::from(id >= current)),
            ..VcpuState::default()
        };
        def.vcpus = (0..def.vcpu.max).map(one).collect();
    }
    for vcpu in def.vcpus.iter_mut().filter(|vcpu| vcpu.id.is_some_and(|id| members.contains(&id))) {
        (vcpu.enabled, vcpu.hotpluggable) = (Some(YesNo::from(on)), Some(YesNo::Yes));
    }
    let count = def.vcpus.iter().filter(|vcpu| vcpu.enabled.is_some_and(YesNo::is_yes)).count();
    def.vcpu.current = u32::try_from(count).ok().filter(|count| *count != def.vcpu.max);
    Ok(())
}

fn refuse_containers(on: &Domain, function: &str) -> Result<()> {
    // A container's processes are no virtual CPUs: which host CPUs they may use is <vcpu cpuset>.
    if on.runtime().kind() == DriverKind::Lxc { Err(Error::no_support(function)) } else { Ok(()) }
}

pub(super) fn pinned(what: &str, cpus: &str) -> Vec<EventKind> {
    let mut told = TypedParams::new();
    told.string(format!("cputune.{what}"), cpus);
    vec![EventKind::Tunable(told)]
}

call! {
    /// Host CPUs of each virtual CPU.
    GetVcpuPinInfo = "virDomainGetVcpuPinInfo", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> Vec<Vec<bool>> {
        check_flags(on, flags, LIVE_CONFIG, "virDomainGetVcpuPinInfo")?;
        refuse_containers(on, "virDomainGetVcpuPinInfo")?;
        let snapshot = on.snapshot();
        let def = info::pick(&snapshot, flags)?;
        let host = usable_cpus(on).await?;
        let one = |number: u32| {
            let own = def.cputune.vcpupin.iter().find(|pin| pin.vcpu == number).map(|pin| &pin.cpuset);
            map(own.or(def.vcpu.cpuset.as_ref()), &host)
        };
        Ok((0..info::vcpus(def)).map(one).collect())
    }
}

call! {
    /// Binds a virtual CPU to host CPUs.
    PinVcpu = "virDomainPinVcpuFlags", Write, "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, PinArgs { vcpu, cpus, flags } => PinArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainPinVcpuFlags")?;
        refuse_containers(on, "virDomainPinVcpuFlags")?;
        let cpus = set(&cpus, EMPTY)?;
        let own = cpus.clone();
        let edit = move |def: &mut DomainDef| {
            let (count, what) = if def.id.is_some() { (info::vcpus(def), "live") } else { (def.vcpu.max, "persistent") };
            if vcpu >= count {
                return Err(Error::invalid_arg(format!("vcpu {vcpu} is out of range of {what} cpu count {count}")));
            }
            let pins = &mut def.cputune.vcpupin;
            pins.retain(|pin| pin.vcpu != vcpu);
            pins.push(VcpuPin { vcpu, cpuset: own.clone() });
            pins.sort_by_key(|pin| pin.vcpu);
            Ok(())
        };
        let events = pinned(&format!("vcpupin{vcpu}"), &cpus);
        tune(on, flags, Tune::PinVcpu { vcpu, cpus }, events, edit).await
    }
}

call! {
    /// Host CPUs of everything but the virtual CPUs.
    GetEmulatorPinInfo = "virDomainGetEmulatorPinInfo", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> Vec<bool> {
        check_flags(on, flags, LIVE_CONFIG, "virDomainGetEmulatorPinInfo")?;
        refuse_containers(on, "virDomainGetEmulatorPinInfo")?;
        let snapshot = on.snapshot();
        let def = info::pick(&snapshot, flags)?;
        let host = usable_cpus(on).await?;
        Ok(map(def.cputune.emulatorpin.as_ref().or(def.vcpu.cpuset.as_ref()), &host))
    }
}

call! {
    /// Binds everything but the virtual CPUs to host CPUs.
    PinEmulator = "virDomainPinEmulator", Write, "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, PinArgs { cpus, flags, .. } => PinArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainPinEmulator")?;
        refuse_containers(on, "virDomainPinEmulator")?;
        let cpus = set(&cpus, EMPTY)?;
        let own = cpus.clone();
        let edit = move |def: &mut DomainDef| {
            def.cputune.emulatorpin = Some(own.clone());
            Ok(())
        };
        let events = pinned("emulatorpin", &cpus);
        tune(on, flags, Tune::PinEmulator { cpus }, events, edit).await
    }
}

const NUMA_PARAMS: [(&str, ParamKind); 2] = [("numa_mode", ParamKind::Int), ("numa_nodeset", ParamKind::Str)];

call! {
    /// Memory nodes of the guest (`VIR_DOMAIN_NUMA_*`).
    GetNumaParameters = "virDomainGetNumaParameters", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> TypedParams {
        check_flags(on, flags, LIVE_CONFIG | 4, "virDomainGetNumaParameters")?;
        let snapshot = on.snapshot();
        let memory = info::pick(&snapshot, flags)?.numatune.as_ref().and_then(|tune| tune.memory.clone());
        let memory = memory.unwrap_or_default();
        let mode = memory.mode.unwrap_or_default();
        let number = NumaMode::ALL.iter().position(|other| *other == mode).unwrap_or(0);
        let mut params = TypedParams::new();
        params.int("numa_mode", i32::try_from(number).unwrap_or(0));
        params.string("numa_nodeset", memory.nodeset.unwrap_or_default());
        Ok(params)
    }
}

call! {
    /// Sets the guest's memory nodes; a running guest's only when it is bound to nodes strictly.
    SetNumaParameters = "virDomainSetNumaParameters", Write,
        "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, ParamsArgs { params, flags } => ParamsArgs) -> () {
        check_flags(on, flags, LIVE_CONFIG, "virDomainSetNumaParameters")?;
        check_params(&params, &NUMA_PARAMS)?;
        let (mut mode, mut nodes) = (None, None);
        for (_, value) in &params.0 {
            match value {
                ParamValue::Int(number) => {
                    let found = usize::try_from(*number).ok().and_then(|number| NumaMode::ALL.get(number));
                    mode = Some(*found.ok_or_else(|| Error::invalid_arg(format!("unsupported numatune mode: '{number}'")))?);
                }
                ParamValue::Str(text) => {
                    let members = set_members(text)
                        .ok_or_else(|| Error::invalid_arg(format!("Failed to parse bitmap '{text}'")))?;
                    nodes = Some(format_set(&members));
                }
                _ => {}
            }
        }
        let wished = nodes.clone();
        let edit = move |def: &mut DomainDef| {
            let live = def.id.is_some();
            let now = def.numatune.as_ref().and_then(|tune| tune.memory.as_ref()).and_then(|memory| memory.mode).unwrap_or_default();
            if live && mode.is_some_and(|mode| mode != now) {
                return Err(Error::invalid_state("can't change numatune mode for running domain"));
            }
            if live && wished.is_some() && !matches!(now, NumaMode::Strict | NumaMode::Restrictive) {
                return Err(Error::invalid_state("change of nodeset for running domain requires strict numa mode"));
            }
            let tune = def.numatune.get_or_insert_with(Default::default);
            let memory = tune.memory.get_or_insert_with(NumaMemory::default);
            memory.mode = mode.or(memory.mode);
            if let Some(nodes) = &wished {
                memory.nodeset = Some(nodes.clone());
                memory.placement = None;
            }
            Ok(())
        };
        tune(on, flags, Tune::Nodeset(nodes.unwrap_or_default()), Vec::new(), edit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn single_virtual_cpus() {
        let mut def = DomainDef::default();
        (def.vcpu.max, def.vcpu.current) = (4, Some(2));
        turn(&mut def, &[3], true).unwrap();
        turn(&mut def, &[1], false).unwrap();
        let on: Vec<_> = def.vcpus.iter().map(|vcpu| (vcpu.enabled, vcpu.hotpluggable)).collect();
        let (yes, no) = (Some(YesNo::Yes), Some(YesNo::No));
        assert_eq!(on, [(yes, no), (no, yes), (no, yes), (yes, yes)]);
        assert_eq!(def.vcpu.current, Some(2));
        turn(&mut def, &[1, 2], true).unwrap();
        assert_eq!(def.vcpu.current, None);
        assert_eq!(turn(&mut def, &[9], true).unwrap_err().detail, "vcpu 9 is not present in persistent config");
        assert_eq!(turn(&mut def, &[0], true).unwrap_err().code, Code::InvalidArg);
        assert!(parse_set("").is_err() && parse_set("x").is_err());
    }

    #[test]
    fn maps_and_sets() {
        assert_eq!(set(&[true, false, true, true], EMPTY).unwrap(), "0,2-3");
        assert!(set(&[false], EMPTY).is_err());
        assert_eq!(map(Some(&"1".to_string()), &[true, true, true]), [false, true, false]);
        assert_eq!(map(None, &[true, false]), [true, false]);
    }
}
