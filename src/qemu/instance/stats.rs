//! `virDomainListGetStats` for a running guest.
//!
//! The kernel's numbers are read at call time. What needs QEMU is asked with a short deadline, and not at all while QEMU
//! is known not to answer (held by a signal, or behind with its answers): then the last known values stand.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::{QemuInstance, balloon, blocks, lock};
use crate::net::Netlink;
use crate::qemu::procstat;
use crate::types::{ParamValue, TypedParams, flags::stats as group};

/// QEMU's share of a statistics call.
const DEADLINE: Duration = Duration::from_millis(500);
/// A QEMU this far behind is not asked again.
const LAG: Duration = Duration::from_millis(300);

impl QemuInstance {
    /// Whether asking QEMU now would only waste the caller's time.
    fn is_silent(&self) -> bool {
        let held = self.process.stat().is_none_or(|stat| stat.is_held());
        held || self.qmp().map_or(true, |qmp| qmp.is_closed() || qmp.lag() > LAG)
    }

    /// Guest memory numbers, fresh if QEMU answers within `deadline`, else the last known.
    pub(super) async fn guest_memory(&self, deadline: Duration) -> Option<balloon::GuestMemory> {
        let alias = self.facts.balloon.as_ref().filter(|_| self.tells_memory.load(Ordering::Relaxed))?;
        if !self.is_silent()
            && let Ok(qmp) = self.qmp()
        {
            let arguments = json!({"path": format!("/machine/peripheral/{alias}"), "property": "guest-stats"});
            match qmp.execute_value("qom-get", arguments, deadline).await {
                Ok(answer) => lock(&self.last).memory = Some(balloon::guest_memory(&answer)),
                Err(error) => tracing::debug!(domain = %self.facts.name, %error, "no fresh guest memory statistics"),
            }
        }
        lock(&self.last).memory.clone()
    }

    /// Memory QEMU has resident, KiB.
    pub(super) fn rss_kib(&self) -> Option<u64> {
        procstat::resident_kib(self.process.pid())
    }

    async fn block_numbers(&self) {
        let Ok(qmp) = self.qmp() else { return };
        let (stats, nodes) = tokio::join!(
            qmp.execute_value("query-blockstats", Value::Null, DEADLINE),
            qmp.execute_value("query-named-block-nodes", json!({"flat": true}), DEADLINE),
        );
        let Ok(stats) = stats else { return };
        let nodes = nodes.unwrap_or(Value::Null);
        lock(&self.last).blocks = self.facts.disks.iter().map(|disk| blocks::numbers(disk, &stats, &nodes)).collect();
    }

    /// See [`blocks::errors`].
    pub(super) async fn failing_disks(&self) -> crate::error::Result<Vec<(String, i32)>> {
        let answer = self.qmp()?.execute_value("query-block", Value::Null, DEADLINE).await?;
        Ok(blocks::errors(&self.facts.disks, &answer))
    }

    pub(super) async fn collect_stats(&self, groups: u32, nowait: bool) -> TypedParams {
        let silent = nowait || self.is_silent();
        let memory = async {
            match groups & group::BALLOON != 0 && !silent {
                true => self.guest_memory(DEADLINE).await,
                false => lock(&self.last).memory.clone(),
            }
        };
        let blocks = async {
            if groups & group::BLOCK != 0 && !silent && !self.facts.disks.is_empty() {
                self.block_numbers().await;
            }
        };
        // Both at once: the deadline is one for the whole call.
        let (memory, ()) = tokio::join!(memory, blocks);
        let mut out = TypedParams::new();
        if groups & group::CPU_TOTAL != 0 {
            self.cpu_params(&mut out);
        }
        if groups & group::BALLOON != 0 {
            let current = self.balloon.load(Ordering::Relaxed);
            balloon::params(&mut out, current, self.facts.memory, memory.as_ref(), self.rss_kib());
        }
        if groups & group::VCPU != 0 {
            self.vcpu_params(&mut out);
        }
        if groups & group::INTERFACE != 0 {
            self.net_params(&mut out).await;
        }
        if groups & group::BLOCK != 0 {
            blocks::params(&mut out, &self.facts.disks, &lock(&self.last).blocks);
        }
        out
    }

    /// CPU time of the whole guest: total, user, system, in ns. The group's count outlives threads; without a group it
    /// is the process's.
    pub(super) fn cpu_times(&self) -> Option<(u64, u64, u64)> {
        let stat = self.process.stat()?;
        let group = self.group().stats();
        Some((
            group.cpu_total.unwrap_or_else(|| stat.cpu_ns()),
            group.cpu_user.unwrap_or(stat.utime * procstat::TICK_NS),
            group.cpu_system.unwrap_or(stat.stime * procstat::TICK_NS),
        ))
    }

    fn cpu_params(&self, out: &mut TypedParams) {
        let Some((total, user, system)) = self.cpu_times() else { return };
        out.ullong("cpu.time", total);
        out.ullong("cpu.user", user);
        out.ullong("cpu.system", system);
    }

    fn vcpu_params(&self, out: &mut TypedParams) {
        out.uint("vcpu.current", self.facts.vcpus);
        out.uint("vcpu.maximum", self.facts.max_vcpus);
        let threads = lock(&self.vcpu_threads).clone();
        for (number, thread) in threads.iter().enumerate() {
            let Some(stat) = procstat::thread(self.process.pid(), *thread) else { continue };
            // virVcpuState: 1 running (libvirt reports every virtual CPU that is on as running).
            out.push(format!("vcpu.{number}.state"), ParamValue::Int(1));
            out.ullong(format!("vcpu.{number}.time"), stat.cpu_ns());
            if let Some((_, wait)) = procstat::thread_sched(self.process.pid(), *thread) {
                out.ullong(format!("vcpu.{number}.wait"), 0);
                out.ullong(format!("vcpu.{number}.delay"), wait);
            }
        }
    }

    async fn net_params(&self, out: &mut TypedParams) {
        out.uint("net.count", self.facts.taps.len() as u32);
        let Ok(netlink) = Netlink::open() else { return };
        for (number, end) in self.facts.taps.iter().enumerate() {
            let Some(end) = end else { continue };
            out.string(format!("net.{number}.name"), end.name.as_str());
            let Ok(Some(host)) = netlink.stats(&end.name).await else { continue };
            let received = [host.rx_bytes, host.rx_packets, host.rx_errors, host.rx_dropped];
            let sent = [host.tx_bytes, host.tx_packets, host.tx_errors, host.tx_dropped];
            let (rx, tx) = if end.guests_view { (received, sent) } else { (sent, received) };
            for (direction, values) in [("rx", rx), ("tx", tx)] {
                for (name, value) in ["bytes", "pkts", "errs", "drop"].into_iter().zip(values) {
                    out.ullong(format!("net.{number}.{direction}.{name}"), value);
                }
            }
        }
    }
}
