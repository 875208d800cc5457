//! The task that turns a guest's facts into events, and carries out what the definition says about ends.
//!
//! ```text
//! SHUTDOWN --fake reboot or on_poweroff=restart--> system_reset, cont
//!          --on_poweroff=destroy--> Shutdown, SIGTERM --> process ends --> Ended(shutoff, shutdown)
//! GUEST_PANICKED --on_crash: destroy | restart | preserve-->
//! process ends without any of these --> Ended(shutoff, crashed) with the last lines of its log
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::qemu::process::{SIGKILL, SIGTERM};
use tokio::sync::mpsc::UnboundedSender;

use super::{QUICK_DEADLINE, QemuInstance, RUN_STATE_DEADLINE, lock};
use crate::domain_xml::model::{CrashAction, LifecycleAction};
use crate::engine::driver::{InstanceEvent, LiveChange};
use crate::engine::event::EventKind;
use crate::engine::state::{Phase, State, StateReason, paused, running, shutoff};
use crate::qemu::events::{self, Fact};
use crate::qemu::failure;
use crate::qemu::qmp::{Event, Events};
use crate::sys::process::Exit;

/// A QEMU that was asked to end may flush its disks this long.
const END_GRACE: Duration = Duration::from_secs(15);

/// A reset of the guest's own this soon after another is the firmware's.
const RESET_ECHO: Duration = Duration::from_secs(1);

/// A process whose monitor closed gets this long to end itself.
const CLOSE_GRACE: Duration = Duration::from_secs(3);

/// How a guest comes to its end, as far as events told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Unexpected,
    PoweredOff,
    Panicked,
}

/// Watches until the process is gone; `Ended` is the last thing sent. `missed`: what QEMU told while nobody listened.
pub async fn watch(
    instance: Arc<QemuInstance>,
    missed: Option<Fact>,
    events: Option<Events>,
    out: UnboundedSender<InstanceEvent>,
) {
    let mut watcher =
        Watcher { instance: instance.clone(), out, ending: Ending::Unexpected, running_reason: 0, last_reset: None };
    if let Some(fact) = missed {
        watcher.fact(fact).await;
    }
    let mut events = events;
    let mut monitor_lost = false;
    let exit = loop {
        let next = async {
            match &mut events {
                Some(events) => events.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Events first: what QEMU said before its end explains the end.
            biased;
            event = next => match event {
                Some(event) => watcher.said(&event).await,
                None => {
                    events = None;
                    monitor_lost = true;
                }
            },
            // Usually the process ends at the same moment; a monitor lost alone is worth a word.
            () = tokio::time::sleep(CLOSE_GRACE), if monitor_lost => {
                monitor_lost = false;
                watcher.monitor_closed();
            }
            exit = instance.process.wait() => {
                if let Some(events) = &mut events {
                    while let Ok(event) = events.try_recv() {
                        watcher.said(&event).await;
                    }
                }
                break exit;
            }
        }
    };
    watcher.ended(exit);
}

struct Watcher {
    instance: Arc<QemuInstance>,
    out: UnboundedSender<InstanceEvent>,
    ending: Ending,
    /// Reason of the next RESUME; 0 = unpaused.
    running_reason: i32,
    last_reset: Option<Instant>,
}

impl Watcher {
    fn send(&self, event: InstanceEvent) {
        let _ = self.out.send(event);
    }

    fn state(&self, phase: Phase, reason: i32) {
        self.send(InstanceEvent::State { phase, reason });
    }

    fn event(&self, kind: EventKind) {
        self.send(InstanceEvent::Event(kind));
    }

    fn monitor_closed(&self) {
        let instance = &self.instance;
        if self.ending == Ending::Unexpected && !instance.doomed.load(Ordering::Relaxed) {
            tracing::warn!(domain = %instance.facts.name, "the monitor connection to QEMU ended, but QEMU did not");
            self.event(EventKind::ControlError);
        }
    }

    /// What QEMU said: what it means, and then in its own words, for whoever listens to those.
    async fn said(&mut self, event: &Event) {
        self.fact(events::read(event)).await;
        let details = Some(event.data.to_string()).filter(|_| !event.data.is_null());
        let (seconds, micros) = (event.seconds, event.micros);
        self.event(EventKind::Monitor { name: event.name.clone(), seconds, micros, details });
    }

    async fn fact(&mut self, fact: Fact) {
        let instance = self.instance.clone();
        match fact {
            Fact::Stopped => {
                if self.ending == Ending::Unexpected {
                    let reason = instance.next_stop_reason.swap(0, Ordering::Relaxed) as i32;
                    self.state(Phase::Paused, reason);
                }
            }
            Fact::Resumed => {
                let reason = std::mem::replace(&mut self.running_reason, 0);
                self.state(Phase::Running, if reason == 0 { running::UNPAUSED } else { reason });
            }
            Fact::Shutdown { by_guest, reason } => self.shutdown(by_guest, &reason).await,
            Fact::Reset { by_guest } => {
                // SeaBIOS, entered by a reset of a machine it has run on, puts its memory right and resets once more.
                let echo = by_guest && self.last_reset.is_some_and(|last| last.elapsed() < RESET_ECHO);
                self.last_reset = Some(Instant::now());
                if !echo {
                    self.send(InstanceEvent::Reset { by_guest });
                }
            }
            Fact::Panicked => self.panicked().await,
            Fact::SuspendedToMemory => {
                self.state(Phase::PmSuspended, 0);
                self.event(EventKind::PmSuspend);
            }
            Fact::SuspendedToDisk => {}
            Fact::WokeUp => {
                self.state(Phase::Running, running::WAKEUP);
                self.event(EventKind::PmWakeup);
            }
            Fact::Watchdog { action, pauses } => {
                if pauses {
                    instance.next_stop_reason.store(paused::WATCHDOG as u64, Ordering::Relaxed);
                }
                self.event(EventKind::Watchdog { action });
            }
            Fact::IoError { device, node, action, reason } => {
                if action == 1 {
                    instance.next_stop_reason.store(paused::IOERROR as u64, Ordering::Relaxed);
                }
                let disk = instance.facts.disks.iter().find(|disk| {
                    disk.alias == device || (!node.is_empty() && (disk.node == node || disk.storage_node == node))
                });
                let path = disk.map(|disk| disk.path.clone()).unwrap_or_default();
                let alias = disk.map(|disk| disk.alias.clone()).unwrap_or(device);
                self.event(EventKind::IoError { path, alias, action, reason });
            }
            Fact::Balloon { actual } => {
                let kib = actual / 1024;
                instance.set_balloon(kib);
                self.send(InstanceEvent::Live(Box::new(LiveChange::CurrentMemory(kib))));
                self.event(EventKind::BalloonChange { actual: kib });
            }
            Fact::RtcMoved { offset } => {
                self.send(InstanceEvent::Live(Box::new(LiveChange::ClockAdjustment(offset))));
                self.event(EventKind::RtcChange { offset });
            }
            Fact::Tray { device, open } => {
                self.send(InstanceEvent::Live(Box::new(LiveChange::Tray { alias: device.clone(), open })));
                self.event(EventKind::TrayChange { alias: device, reason: i32::from(!open) });
            }
            Fact::Graphics { phase, local, remote, auth, identities } => {
                self.event(EventKind::Graphics { phase, local, remote, auth_scheme: auth, identities });
            }
            Fact::DeviceDeleted { device } if !device.is_empty() => {
                self.event(EventKind::DeviceRemoved { alias: device });
            }
            Fact::Port { device, open } => {
                if instance.facts.agent.as_deref() == Some(device.as_str()) {
                    self.event(EventKind::Agent { state: if open { 1 } else { 2 }, reason: 2 });
                }
                let change = LiveChange::Channel { alias: device, connected: open };
                self.send(InstanceEvent::Live(Box::new(change)));
            }
            Fact::WriteThreshold { node, threshold, excess } => {
                let disks = &instance.facts.disks;
                if let Some(disk) = disks.iter().find(|disk| disk.storage_node == node || disk.node == node) {
                    let (device, path) = (disk.target.clone(), disk.path.clone());
                    self.event(EventKind::BlockThreshold { device, path, threshold, excess });
                }
            }
            Fact::DeviceDeleted { .. } | Fact::Other => {}
        }
    }

    async fn shutdown(&mut self, by_guest: bool, reason: &str) {
        let instance = &self.instance;
        // QEMU says it again when our own SIGTERM ends it.
        if self.ending != Ending::Unexpected || instance.doomed.load(Ordering::Relaxed) {
            return;
        }
        let on_poweroff = lock(&instance.ends).on_poweroff;
        let restart = on_poweroff == LifecycleAction::Restart && reason != "guest-reset";
        if instance.fake_reboot.swap(false, Ordering::Relaxed) || restart {
            self.restart().await;
            return;
        }
        self.ending = Ending::PoweredOff;
        self.send(InstanceEvent::Shutdown { by_guest });
        if on_poweroff != LifecycleAction::Preserve {
            self.end();
        }
    }

    async fn panicked(&mut self) {
        self.state(Phase::Crashed, 1);
        let on_crash = lock(&self.instance.ends).on_crash;
        match on_crash {
            CrashAction::Destroy | CrashAction::CoredumpDestroy => {
                self.ending = Ending::Panicked;
                self.end();
            }
            CrashAction::Restart | CrashAction::CoredumpRestart | CrashAction::RenameRestart => self.restart().await,
            CrashAction::Preserve => {}
        }
    }

    /// Resets a guest that has stopped and lets it run again.
    async fn restart(&mut self) {
        self.running_reason = running::BOOTED;
        let Ok(qmp) = self.instance.qmp() else { return };
        let domain = self.instance.facts.name.clone();
        // Beside this task: the answers come through the same connection as the events.
        tokio::spawn(async move {
            for (command, deadline) in [("system_reset", QUICK_DEADLINE), ("cont", RUN_STATE_DEADLINE)] {
                if let Err(error) = qmp.execute_raw(command, serde_json::Value::Null, deadline).await {
                    tracing::warn!(%domain, command, %error, "cannot restart the guest after its power-off");
                    return;
                }
            }
        });
    }

    /// Ends QEMU: politely, so that it flushes its disks, then by force.
    fn end(&self) {
        let instance = self.instance.clone();
        tokio::spawn(async move {
            let _ = instance.process.signal(SIGTERM);
            if instance.process.wait_for(END_GRACE, "SIGTERM").await.is_err() {
                tracing::warn!(domain = %instance.facts.name, "QEMU did not end by itself after the guest's power-off");
                let _ = instance.process.signal(SIGKILL);
            }
        });
    }

    fn ended(&self, exit: Exit) {
        let instance = &self.instance;
        let off = |reason| Some(StateReason::new(State::Shutoff, reason));
        let doomed = instance.doomed.load(Ordering::Relaxed);
        for socket in &instance.facts.sockets {
            let _ = std::fs::remove_file(socket);
        }
        let (reason, text) = match (self.ending, doomed) {
            (Ending::PoweredOff, _) => (off(shutoff::SHUTDOWN), String::new()),
            (Ending::Panicked, _) => (off(shutoff::CRASHED), "the guest panicked".to_string()),
            (Ending::Unexpected, true) => (None, String::new()),
            (Ending::Unexpected, false) => {
                let log = instance.log.as_deref().and_then(tail).unwrap_or_default();
                let lines = failure::last_lines(&log);
                (off(shutoff::CRASHED), format!("QEMU ended unexpectedly ({exit}): {lines}"))
            }
        };
        tracing::info!(domain = %instance.facts.name, pid = instance.process.pid(), %exit, %text, "QEMU is gone");
        self.send(InstanceEvent::Ended { reason, text });
    }
}

/// The last part of a log file.
pub(in crate::qemu) fn tail(path: &std::path::Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(16 * 1024))).ok()?;
    let mut bytes = Vec::new();
    file.take(16 * 1024).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // Only what this run wrote: the last header starts it.
    Some(match text.rfind(": starting up ") {
        Some(at) => text[text[..at].rfind('\n').map_or(0, |line| line + 1)..].to_string(),
        None => text,
    })
}
