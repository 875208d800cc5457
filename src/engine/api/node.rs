//! Numbers of the host.

use super::{call, check_flags};
use crate::engine::Connection;
use crate::engine::cleanup::run_blocking;
use crate::host;
use crate::types::TypedParams;
use crate::types::params::{ParamKind, check_params};

call! {
    /// Free memory, bytes.
    NodeGetFreeMemory = "virNodeGetFreeMemory", Read, "connect:read";
    (caller, on: Connection, () => ()) -> u64 { run_blocking(host::free_memory).await }
}

call! {
    /// Model, memory, CPUs and their topology.
    NodeGetInfo = "virNodeGetInfo", Read, "connect:read";
    (caller, on: Connection, () => ()) -> host::NodeInfo {
        match on.runtime().driver().simulated_host() {
            Some(simulated) => Ok(simulated.info),
            None => run_blocking(host::node_info).await,
        }
    }
}

call! {
    /// One entry per host CPU: whether it is online.
    NodeGetCpuMap = "virNodeGetCPUMap", Read, "connect:read";
    (caller, on: Connection, flags => u32) -> Vec<bool> {
        check_flags(on, flags, 0, "virNodeGetCPUMap")?;
        match on.runtime().driver().simulated_host() {
            Some(simulated) => Ok(simulated.online),
            None => run_blocking(host::cpu_map).await,
        }
    }
}

call! {
    /// CPU times in ns of one CPU, or of all (-1).
    NodeGetCpuStats = "virNodeGetCPUStats", Read, "connect:read";
    (caller, on: Connection, (cpu, flags) => (i32, u32)) -> Vec<(String, u64)> {
        check_flags(on, flags, 0, "virNodeGetCPUStats")?;
        run_blocking(move || host::cpu_stats(cpu)).await
    }
}

call! {
    /// Memory numbers in KiB of one NUMA cell, or of all (-1).
    NodeGetMemoryStats = "virNodeGetMemoryStats", Read, "connect:read";
    (caller, on: Connection, (cell, flags) => (i32, u32)) -> Vec<(String, u64)> {
        check_flags(on, flags, 0, "virNodeGetMemoryStats")?;
        run_blocking(move || host::memory_stats(cell)).await
    }
}

/// Arguments of `virNodeGetFreePages`.
#[derive(Clone, Debug)]
pub struct FreePagesArgs {
    /// Sizes asked for, KiB.
    pub pages: Vec<u32>,
    /// First cell; -1 = the whole host.
    pub start: i32,
    pub cells: u32,
    pub flags: u32,
}

call! {
    /// Free memory of NUMA cells in bytes, from cell `start` on, at most `most` of them.
    NodeGetCellsFreeMemory = "virNodeGetCellsFreeMemory", Read, "connect:read";
    (caller, on: Connection, (start, most) => (i32, i32)) -> Vec<u64> {
        run_blocking(move || host::cells_free_memory(start, most)).await
    }
}

call! {
    /// Free pages of each size asked for, cell by cell.
    NodeGetFreePages = "virNodeGetFreePages", Read, "connect:read";
    (caller, on: Connection, FreePagesArgs { pages, start, cells, flags } => FreePagesArgs) -> Vec<u64> {
        check_flags(on, flags, 0, "virNodeGetFreePages")?;
        run_blocking(move || host::free_pages(&pages, start, cells)).await
    }
}

call! {
    /// Security model and its domain of interpretation: none is applied yet beside file owners.
    NodeGetSecurityModel = "virNodeGetSecurityModel", Read, "connect:read";
    (caller, on: Connection, () => ()) -> (String, String) { Ok(("none".into(), "0".into())) }
}

call! {
    /// How the host's kernel merges pages of equal contents (KSM), and how many it has.
    NodeGetMemoryParameters = "virNodeGetMemoryParameters", Read, "connect:read";
    (caller, on: Connection, flags => u32) -> TypedParams {
        // Strings may be among the answers: none is.
        check_flags(on, flags, 4, "virNodeGetMemoryParameters")?;
        run_blocking(|| Ok(host::merging())).await
    }
}

call! {
    /// Sets how it does that. Errors: 55 when the kernel does not merge pages.
    NodeSetMemoryParameters = "virNodeSetMemoryParameters", Write, "connect:write";
    (caller, on: Connection, (params, flags) => (TypedParams, u32)) -> () {
        check_flags(on, flags, 0, "virNodeSetMemoryParameters")?;
        check_params(&params, &host::MERGING_SETTINGS.map(|(name, _)| (name, ParamKind::Uint)))?;
        run_blocking(move || host::set_merging(&params)).await
    }
}

call! {
    /// What the firmware says of the host.
    GetSysinfo = "virConnectGetSysinfo", Read, "connect:read";
    (caller, on: Connection, flags => u32) -> String {
        check_flags(on, flags, 0, "virConnectGetSysinfo")?;
        match on.runtime().driver().simulated_host() {
            Some(simulated) => Ok(simulated.sysinfo),
            None => run_blocking(host::sysinfo).await,
        }
    }
}
