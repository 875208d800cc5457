//! Numbers of the host.

use super::{call, check_flags};
use crate::engine::Connection;
use crate::engine::cleanup::run_blocking;
use crate::host;

call! {
    /// Free memory, bytes.
    NodeGetFreeMemory = "virNodeGetFreeMemory", Read, "connect:read";
    (caller, on: Connection, () => ()) -> u64 { run_blocking(host::free_memory).await }
}

call! {
    /// Model, memory, CPUs and their topology.
    NodeGetInfo = "virNodeGetInfo", Read, "connect:read";
    (caller, on: Connection, () => ()) -> host::NodeInfo { run_blocking(host::node_info).await }
}

call! {
    /// One entry per host CPU: whether it is online.
    NodeGetCpuMap = "virNodeGetCPUMap", Read, "connect:read";
    (caller, on: Connection, flags => u32) -> Vec<bool> {
        check_flags(on, flags, 0, "virNodeGetCPUMap")?;
        run_blocking(host::cpu_map).await
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

call! {
    /// Security model and its domain of interpretation: none is applied yet beside file owners.
    NodeGetSecurityModel = "virNodeGetSecurityModel", Read, "connect:read";
    (caller, on: Connection, () => ()) -> (String, String) { Ok(("none".into(), "0".into())) }
}
