//! Finding a guest again after a daemon restart.
//!
//! The process is proven by pid, start time and boot id. Its monitor is connected beside: a QEMU that does not answer
//! (stopped by a signal, say) must not hold up the start of the daemon.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc::{self, UnboundedSender};

use super::events::Fact;
use super::failure;
use super::instance::{self, NewInstance, QemuInstance};
use super::launch::{RunState, STATE_VERSION, Shared, monitor_client, vcpu_threads};
use super::process::GuestProcess;
use super::qmp::Events;
use crate::engine::driver::{InstanceEvent, Launched, Reattached, RunRecord};
use crate::engine::state::{Phase, paused, running, shutoff};
use crate::error::{Error, Result};
use crate::sys::{process, sock};

/// A healthy QEMU greets at once; one that does not is waited for in the background.
const PATIENCE: Duration = Duration::from_millis(300);
/// A process that was killed needs this long to be gone, memory and all.
const DYING: Duration = Duration::from_secs(2);
/// Waiting for one round of answers in the background.
const ROUND: Duration = Duration::from_secs(3600);

/// See the module's text.
pub async fn reattach(run: &RunRecord, shared: &Shared) -> Result<Reattached> {
    let state: RunState = serde_json::from_value(run.state.clone()).map_err(|error| {
        Error::internal(format!("cannot read the state of the run of '{}': {error}", run.live.name))
    })?;
    if state.version > STATE_VERSION {
        return Err(Error::internal(format!(
            "the run of '{}' was recorded by a newer version ({}); it is left alone",
            run.live.name, state.version
        )));
    }
    let boot = process::boot_id().map(str::to_string).unwrap_or_default();
    let same_boot = state.boot_id == boot;
    let found = if same_boot { GuestProcess::open(state.pid, state.start_time) } else { None };
    let Some(process) = found else {
        return Ok(Reattached::Gone { reason: how_it_ended(&state, run.phase, same_boot) });
    };
    let new = NewInstance {
        facts: instance::facts(&run.live),
        process,
        qmp: None,
        vcpu_threads: state.vcpu_threads.clone(),
        balloon: run.live.memory.current.unwrap_or(state.balloon),
        log: Some(state.log.clone()),
        ports: state.ports.iter().map(|port| shared.ports.hold(*port)).collect(),
        group: shared.config.cgroups.open(&state.cgroup).unwrap_or_default(),
        cgroups: shared.config.cgroups.clone(),
        run_dir: Some(run.run_dir.clone()),
    };
    let instance = QemuInstance::new(new);
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut attempt = tokio::spawn(connect(instance.clone(), state.clone()));
    let (mut phase, mut reason) = (run.phase, run.reason);
    match tokio::time::timeout(PATIENCE, &mut attempt).await {
        Ok(Ok(Ok((events, status)))) => {
            let missed = missed(&status);
            if missed.is_none() {
                (phase, reason) = resolve(&status, run.phase, run.reason);
            }
            tokio::spawn(instance::watch(instance.clone(), missed, Some(events), sender));
        }
        // Its end of the monitor is closed: most likely it is just dying.
        Ok(_) if tokio::time::timeout(DYING, instance.gone()).await.is_ok() => {
            return Ok(Reattached::Gone { reason: how_it_ended(&state, run.phase, same_boot) });
        }
        Ok(other) => {
            let error = match other {
                Ok(Err(error)) => error.message(),
                _ => "the attempt was cancelled".into(),
            };
            tracing::warn!(domain = %run.live.name, %error, "the monitor of a running QEMU cannot be used");
            tokio::spawn(instance::watch(instance.clone(), None, None, sender));
        }
        Err(_) => {
            tracing::warn!(domain = %run.live.name, pid = state.pid, "QEMU does not answer yet; waiting for it in the background");
            tokio::spawn(later(instance.clone(), attempt, run.phase, run.reason, sender));
        }
    }
    let launched =
        Launched { instance, live: run.live.clone(), phase, reason, state: run.state.clone(), events: receiver };
    Ok(Reattached::Running(launched))
}

async fn connect(instance: Arc<QemuInstance>, state: RunState) -> Result<(Events, String)> {
    let path = state.monitor.clone();
    // connect() to a unix socket blocks only while the backlog is full.
    let connection = tokio::task::spawn_blocking(move || sock::connect(&path))
        .await
        .map_err(|error| Error::internal(error.to_string()))?
        .map_err(|error| {
            Error::system(format!("failed to connect to monitor socket '{}'", state.monitor.display()), error)
        })?;
    let (qmp, events) = monitor_client(connection)?;
    qmp.negotiate(ROUND).await?;
    let (status, threads, balloon) = tokio::join!(
        qmp.execute_value("query-status", Value::Null, ROUND),
        vcpu_threads(&qmp),
        qmp.execute_value("query-balloon", Value::Null, ROUND),
    );
    if let Ok(threads) = threads {
        instance.set_vcpu_threads(threads);
    }
    if let Some(actual) = balloon.ok().and_then(|answer| answer.get("actual")?.as_u64()) {
        instance.set_balloon(actual / 1024);
    }
    instance.set_qmp(qmp);
    let status = status?.get("status").and_then(Value::as_str).unwrap_or_default().to_string();
    Ok((events, status))
}

/// Waits for a connection attempt or the end of the process, then watches as usual.
async fn later(
    instance: Arc<QemuInstance>,
    attempt: tokio::task::JoinHandle<Result<(Events, String)>>,
    phase: Phase,
    reason: i32,
    sender: UnboundedSender<InstanceEvent>,
) {
    let abort = attempt.abort_handle();
    let connected = tokio::select! {
        done = attempt => done.ok().and_then(Result::ok),
        () = instance.gone() => None,
    };
    abort.abort();
    let (events, missed) = match connected {
        Some((events, status)) => {
            let missed = missed(&status);
            let (now, why) = resolve(&status, phase, reason);
            if missed.is_none() && now != phase {
                let _ = sender.send(InstanceEvent::State { phase: now, reason: why });
            }
            (Some(events), missed)
        }
        None => (None, None),
    };
    instance::watch(instance, missed, events, sender).await;
}

/// The fact behind a status that asks for an action of ours: a guest that powered off or panicked while no daemon
/// ran still waits for what its definition says.
fn missed(status: &str) -> Option<Fact> {
    match status {
        "shutdown" => Some(Fact::Shutdown { by_guest: true, reason: String::new() }),
        "guest-panicked" => Some(Fact::Panicked),
        _ => None,
    }
}

/// What `query-status` means, given what was recorded; the recorded reason stands when the phase is the same.
fn resolve(status: &str, phase: Phase, reason: i32) -> (Phase, i32) {
    let (now, why) = match status {
        "running" => (Phase::Running, running::UNKNOWN),
        "paused" | "prelaunch" | "debug" => (Phase::Paused, paused::UNKNOWN),
        "io-error" => (Phase::Paused, paused::IOERROR),
        "watchdog" => (Phase::Paused, paused::WATCHDOG),
        "shutdown" => (Phase::ShuttingDown, 0),
        "suspended" => (Phase::PmSuspended, 0),
        "guest-panicked" => (Phase::Crashed, 1),
        _ => (phase, reason),
    };
    if now == phase { (phase, reason) } else { (now, why) }
}

/// libvirt's shut-off reason of a run whose process is gone.
///
/// A guest that powers off leaves its QEMU waiting (`-no-shutdown`), so one that is gone was ended by somebody, or fell.
fn how_it_ended(state: &RunState, phase: Phase, same_boot: bool) -> i32 {
    if !same_boot {
        return shutoff::UNKNOWN;
    }
    if phase == Phase::ShuttingDown {
        return shutoff::SHUTDOWN;
    }
    let log = instance::log_tail(&state.log).unwrap_or_default();
    match log.contains("terminating on signal") {
        true => shutoff::DESTROYED,
        false => {
            tracing::warn!(log = %state.log.display(), said = %failure::last_lines(&log), "a QEMU ended while no daemon ran");
            shutoff::CRASHED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_words() {
        assert_eq!(resolve("running", Phase::Running, 1), (Phase::Running, 1));
        assert_eq!(resolve("paused", Phase::Running, 1), (Phase::Paused, 0));
        assert_eq!(resolve("io-error", Phase::Running, 1), (Phase::Paused, paused::IOERROR));
        assert_eq!(resolve("tomorrow", Phase::Running, 1), (Phase::Running, 1));
    }
}
