//! Questions about processors: whether one is enough, what several have in common, which models there are.

use super::{call, check_flags};
use crate::engine::Connection;
use crate::engine::driver::DomainCapsQuery;
use crate::error::{Code, Error, Result, Subsystem};
use crate::host::cpu::Outcome;
use crate::types::flags::{baseline_cpu, compare_cpu};

/// A `<cpu>` to compare, with `virConnectCompareCPUFlags`.
#[derive(Clone, Debug)]
pub struct CompareArgs {
    pub xml: String,
    pub flags: u32,
}

/// The same, with the hypervisor that is asked.
#[derive(Clone, Debug)]
pub struct CompareHypervisorArgs {
    pub query: DomainCapsQuery,
    pub xml: String,
    pub flags: u32,
}

/// Several `<cpu>` documents, with `virConnectBaselineCPUFlags`.
#[derive(Clone, Debug)]
pub struct BaselineArgs {
    pub cpus: Vec<String>,
    pub flags: u32,
}

/// The same, with the hypervisor that is asked.
#[derive(Clone, Debug)]
pub struct BaselineHypervisorArgs {
    pub query: DomainCapsQuery,
    pub cpus: Vec<String>,
    pub flags: u32,
}

/// libvirt's number of an outcome; an error when the flag asks for one.
fn answer(outcome: &Outcome, flags: u32) -> Result<i32> {
    match outcome {
        Outcome::Incompatible(why) if flags & compare_cpu::FAIL_INCOMPATIBLE != 0 => {
            Err(Error::new(Code::CpuIncompatible, why.clone()).with_subsystem(Subsystem::Cpu))
        }
        outcome => Ok(outcome.number()),
    }
}

fn check_count(cpus: &[String], function: &str) -> Result<()> {
    if cpus.is_empty() {
        return Err(Error::invalid_arg(format!("ncpus in {function} must not be zero: give at least one <cpu>")));
    }
    Ok(())
}

call! {
    /// Whether the host's processor is enough: 0 no, 1 the same, 2 more than enough.
    CompareCpu = "virConnectCompareCPU", Read, "connect:read";
    (caller, on: Connection, CompareArgs { xml, flags } => CompareArgs) -> i32 {
        check_flags(on, flags, compare_cpu::FAIL_INCOMPATIBLE | compare_cpu::VALIDATE_XML, "virConnectCompareCPU")?;
        answer(&on.runtime().driver().compare_cpu(&xml, None).await?, flags)
    }
}

call! {
    /// Whether a hypervisor can give a guest this processor; numbers as [`CompareCpu`].
    CompareHypervisorCpu = "virConnectCompareHypervisorCPU", Write, "connect:write";
    (caller, on: Connection, CompareHypervisorArgs { query, xml, flags } => CompareHypervisorArgs) -> i32 {
        let known = compare_cpu::FAIL_INCOMPATIBLE | compare_cpu::VALIDATE_XML;
        check_flags(on, flags, known, "virConnectCompareHypervisorCPU")?;
        answer(&on.runtime().driver().compare_cpu(&xml, Some(&query)).await?, flags)
    }
}

call! {
    /// The richest guest CPU that all of these processors can run, as XML.
    BaselineCpu = "virConnectBaselineCPU", Read, "connect:read";
    (caller, on: Connection, BaselineArgs { cpus, flags } => BaselineArgs) -> String {
        use baseline_cpu::{EXPAND_FEATURES, MIGRATABLE};
        check_flags(on, flags, EXPAND_FEATURES | MIGRATABLE, "virConnectBaselineCPU")?;
        check_count(&cpus, "virConnectBaselineCPU")?;
        let (expand, migratable) = (flags & EXPAND_FEATURES != 0, flags & MIGRATABLE != 0);
        on.runtime().driver().baseline_cpu(&cpus, expand, migratable, None).await
    }
}

call! {
    /// The same, with nothing in it that the hypervisor cannot give.
    BaselineHypervisorCpu = "virConnectBaselineHypervisorCPU", Write, "connect:write";
    (caller, on: Connection, BaselineHypervisorArgs { query, cpus, flags } => BaselineHypervisorArgs) -> String {
        use baseline_cpu::{EXPAND_FEATURES, MIGRATABLE};
        check_flags(on, flags, EXPAND_FEATURES | MIGRATABLE, "virConnectBaselineHypervisorCPU")?;
        check_count(&cpus, "virConnectBaselineHypervisorCPU")?;
        let (expand, migratable) = (flags & EXPAND_FEATURES != 0, flags & MIGRATABLE != 0);
        on.runtime().driver().baseline_cpu(&cpus, expand, migratable, Some(&query)).await
    }
}

call! {
    /// Names of the CPU models of an architecture; none = every name is taken.
    GetCpuModelNames = "virConnectGetCPUModelNames", Read, "connect:read";
    (caller, on: Connection, (arch, flags) => (String, u32)) -> Vec<String> {
        check_flags(on, flags, 0, "virConnectGetCPUModelNames")?;
        on.runtime().driver().cpu_models(&arch).await
    }
}
