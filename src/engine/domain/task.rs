//! The task that owns a domain. It never awaits a guest; jobs do, beside it, and post their outcome back.

mod restore;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::super::cleanup::fault_point;
use super::super::driver::{Instance, InstanceEvent, LiveChange};
use super::super::event::{EventKind, lifecycle};
use super::super::record::RunFile;
use super::super::state::{Phase, paused, running, shutdown, shutoff};
use super::change::{ChangeJob, Changed};
use super::job::{self, Decision, JobKind};
use super::snapshot::{JobView, Snapshot};
use super::start::StartJob;
use super::stop::StopJob;
use super::{Adopted, Domain, How, Message, NewDefinition, Op, Outcome, StartedRun};
use crate::domain_xml::{self, FormatOptions};
use crate::error::{Code, Error, Result};
use crate::types::flags;
use restore::{Cause, Revert};

type Reply = oneshot::Sender<Result<()>>;

/// Starts the task; it ends when the domain is gone.
pub(super) fn spawn(domain: Domain, inbox: mpsc::UnboundedReceiver<Box<Message>>) {
    let task = Task { domain, jobs: Vec::new(), waiting: VecDeque::new(), run: None, numbers: 0, over: false };
    tokio::spawn(task.serve(inbox));
}

struct Task {
    domain: Domain,
    /// The running job; two when a stop runs beside another.
    jobs: Vec<Job>,
    waiting: VecDeque<Waiting>,
    run: Option<Run>,
    numbers: u64,
    /// The domain is gone: answer nobody any more.
    over: bool,
}

/// The guest that exists now.
struct Run {
    number: u64,
    id: i32,
    instance: Arc<dyn Instance>,
    file: RunFile,
}

struct Job {
    number: u64,
    kind: JobKind,
    since: Instant,
    reply: Option<Reply>,
    /// Ends a start.
    cancel: Option<oneshot::Sender<()>>,
    /// Destroys that ended this start and succeed with its failure.
    destroyers: Vec<(Op, Reply)>,
    /// A start of a definition that is not persistent.
    transient: bool,
    /// Of a start.
    cause: Cause,
    /// Of the end of a guest: where to go then.
    revert: Option<Revert>,
}

struct Waiting {
    op: Op,
    reply: Reply,
    deadline: Instant,
}

impl Task {
    async fn serve(mut self, mut inbox: mpsc::UnboundedReceiver<Box<Message>>) {
        while !self.over {
            let deadline = self.waiting.iter().map(|waiting| waiting.deadline).min();
            let expiry = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = inbox.recv() => match message {
                    // Boxed: what handling needs is much, and an idle domain's task should be small.
                    Some(message) => Box::pin(self.handle(*message)).await,
                    None => break,
                },
                () = expiry => self.expire(),
            }
        }
    }

    async fn handle(&mut self, message: Message) {
        match message {
            Message::Op { op, reply } => self.admit(op, reply).await,
            Message::Guest { run, event } => {
                if self.run.as_ref().is_some_and(|current| current.number == run) {
                    self.guest(event).await;
                }
            }
            Message::Job { job, outcome } => {
                self.job_ended(job, outcome).await;
                self.next().await;
            }
            Message::Adopt(adopted) => self.adopt(*adopted),
        }
    }

    // ---- admission ----------------------------------------------------------------------------------------------

    fn running_kind(&self) -> Option<JobKind> {
        let stop = self.jobs.iter().find(|job| job.kind.stops());
        stop.or(self.jobs.first()).map(|job| job.kind)
    }

    async fn admit(&mut self, op: Op, reply: Reply) {
        let snapshot = self.domain.snapshot();
        match job::admit(op.kind(), snapshot.phase, snapshot.reason, self.running_kind()) {
            Decision::Run => self.begin(op, reply).await,
            Decision::Done => answer(reply, Ok(())),
            Decision::Refuse(error) => answer(reply, Err(error)),
            Decision::Wait => self.waiting.push_back(Waiting { op, reply, deadline: Instant::now() + job::WAIT }),
            Decision::CancelStart => {
                if let Some(start) = self.jobs.iter_mut().find(|job| job.kind == JobKind::Start) {
                    start.destroyers.push((op, reply));
                    if let Some(cancel) = start.cancel.take() {
                        let _ = cancel.send(());
                    }
                }
            }
        }
    }

    /// Lets waiting calls have their turn, in order.
    async fn next(&mut self) {
        let mut queue = std::mem::take(&mut self.waiting);
        while let Some(waiting) = queue.pop_front() {
            if self.over {
                return;
            }
            let snapshot = self.domain.snapshot();
            match job::admit(waiting.op.kind(), snapshot.phase, snapshot.reason, self.running_kind()) {
                Decision::Wait => self.waiting.push_back(waiting),
                _ => self.admit(waiting.op, waiting.reply).await,
            }
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let name = self.domain.name();
        let holder = self.jobs.first().map(|job| (job.kind, job.since.elapsed()));
        let (due, rest): (VecDeque<_>, VecDeque<_>) =
            self.waiting.drain(..).partition(|waiting| waiting.deadline <= now);
        self.waiting = rest;
        for waiting in due {
            let (kind, age) = holder.unwrap_or((waiting.op.kind(), Duration::ZERO));
            answer(waiting.reply, Err(job::busy(&name, kind, age)));
        }
    }

    // ---- jobs ---------------------------------------------------------------------------------------------------

    async fn begin(&mut self, op: Op, reply: Reply) {
        let kind = op.kind();
        match op {
            Op::Define(new) => {
                let result = self.define(*new).await;
                answer(reply, result);
            }
            Op::SetAutostart(on) => {
                let result = self.set_autostart(on).await;
                answer(reply, result);
            }
            Op::Rename { name } => {
                let result = self.rename(&name).await;
                answer(reply, result);
            }
            Op::Undefine { flags } => {
                let result = self.undefine(flags).await;
                answer(reply, result);
            }
            Op::TakeSnapshot { def, halt } => self.begin_snapshot(*def, halt, reply),
            Op::EditMoments(edit) => {
                let result = self.edit_moments(*edit).await;
                answer(reply, result);
            }
            Op::Revert { name, running } => self.begin_revert(name, running, reply).await,
            Op::Save { running } => self.begin_save(running, reply),
            Op::ForgetSaved => {
                let result = self.forget_saved().await;
                answer(reply, result);
            }
            Op::Start { how, transient } => self.begin_start(how, transient.as_deref(), reply),
            Op::Destroy { flags } => {
                self.begin_stop(kind, shutoff::DESTROYED, flags & flags::destroy::GRACEFUL != 0, Some(reply));
            }
            Op::Change(change) => {
                let file = self.run.as_ref().map(|run| run.file.clone());
                match ChangeJob::new(self.domain.runtime().clone(), &self.domain.snapshot(), file, *change) {
                    Ok(job) => self.spawn_job(kind, Some(reply), None, job.run()),
                    Err(error) => answer(reply, Err(error)),
                }
            }
            Op::Suspend | Op::Resume | Op::Shutdown { .. } | Op::Reboot { .. } | Op::Reset => {
                let Some(run) = &self.run else {
                    return answer(reply, Err(Error::invalid_state("domain is not running")));
                };
                let instance = run.instance.clone();
                self.spawn_job(kind, Some(reply), None, async move {
                    Outcome::Done(match op {
                        Op::Suspend => instance.pause().await,
                        Op::Resume => instance.resume().await,
                        Op::Shutdown { flags } => instance.shutdown(flags).await,
                        Op::Reboot { flags } => instance.reboot(flags).await,
                        _ => instance.reset().await,
                    })
                });
            }
        }
    }

    fn begin_start(&mut self, mut how: How, transient: Option<&NewDefinition>, reply: Reply) {
        let snapshot = self.domain.snapshot();
        let is_transient = transient.is_some() && snapshot.inactive.is_none();
        if transient.is_none()
            && let Some((def, paused)) = self.saved_start(how.flags)
        {
            how.flags |= if paused { flags::create::PAUSED } else { 0 };
            return self.start_with(def, false, how, Cause::Restore, Some(reply));
        }
        let Some(def) = transient.map(|new| new.def.clone()).or_else(|| snapshot.inactive.clone()) else {
            return answer(reply, Err(self.domain.gone()));
        };
        self.start_with(def, is_transient, how, Cause::Boot, Some(reply));
    }

    fn start_with(
        &mut self,
        def: Arc<domain_xml::DomainDef>,
        is_transient: bool,
        how: How,
        cause: Cause,
        reply: Option<Reply>,
    ) {
        let snapshot = self.domain.snapshot();
        let start = StartJob {
            runtime: self.domain.runtime().clone(),
            uuid: self.domain.uuid(),
            name: snapshot.name.clone(),
            def: def.clone(),
            persistent: snapshot.persistent(),
            how,
        };
        self.publish(|snapshot| {
            snapshot.phase = Phase::Starting;
            snapshot.live = Some(def);
        });
        let (cancel, cancelled) = oneshot::channel();
        self.spawn_job(JobKind::Start, reply, Some(cancel), start.run(cancelled));
        if let Some(job) = self.jobs.last_mut() {
            job.transient = is_transient;
            job.cause = cause;
        }
    }

    fn begin_stop(&mut self, kind: JobKind, reason: i32, graceful: bool, reply: Option<Reply>) {
        let Some(run) = &self.run else {
            if let Some(reply) = reply {
                answer(reply, Err(Error::invalid_state("domain is not running")));
            }
            return;
        };
        let stop = StopJob {
            runtime: self.domain.runtime().clone(),
            name: self.domain.name(),
            instance: run.instance.clone(),
            file: run.file.clone(),
            reason,
            graceful,
        };
        self.spawn_job(kind, reply, None, stop.run());
    }

    fn spawn_job(
        &mut self,
        kind: JobKind,
        reply: Option<Reply>,
        cancel: Option<oneshot::Sender<()>>,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) {
        self.numbers += 1;
        let number = self.numbers;
        self.jobs.push(Job {
            number,
            kind,
            since: Instant::now(),
            reply,
            cancel,
            destroyers: Vec::new(),
            transient: false,
            cause: Cause::default(),
            revert: None,
        });
        self.publish(|snapshot| snapshot.job = Some(JobView { kind, since: std::time::Instant::now() }));
        let domain = self.domain.clone();
        tokio::spawn(async move {
            // A panic in a job must end the job, not leave the domain locked for ever.
            let outcome = match tokio::spawn(work).await {
                Ok(outcome) => outcome,
                Err(error) => {
                    let error = Error::internal(format!("the {} job panicked", kind.word())).with_source(error);
                    match kind {
                        JobKind::Start => Outcome::StartFailed(error),
                        kind if kind.stops() => Outcome::StopFailed(error),
                        _ => Outcome::Done(Err(error)),
                    }
                }
            };
            domain.tell(Message::Job { job: number, outcome });
        });
    }

    async fn job_ended(&mut self, number: u64, outcome: Outcome) {
        let Some(at) = self.jobs.iter().position(|job| job.number == number) else { return };
        let mut job = self.jobs.remove(at);
        let left = self.jobs.first().map(|job| JobView { kind: job.kind, since: job.since.into_std() });
        self.publish(|snapshot| snapshot.job = left);
        match outcome {
            Outcome::Started(started) => {
                self.started(*started, &job.cause).await;
                self.after_start(&job.cause).await;
                self.settle(job.reply, Ok(()));
                for (op, reply) in job.destroyers {
                    self.waiting.push_front(Waiting { op, reply, deadline: Instant::now() + job::WAIT });
                }
            }
            Outcome::StartFailed(error) => {
                self.publish(|snapshot| {
                    snapshot.phase = Phase::Shutoff;
                    snapshot.reason = shutoff::FAILED;
                    snapshot.live = None;
                });
                if job.transient {
                    self.forget().await;
                }
                for (_, reply) in job.destroyers {
                    answer(reply, Ok(()));
                }
                self.settle(job.reply, Err(error));
            }
            Outcome::Stopped { reason } => {
                let revert = job.take_revert();
                self.stopped(reason, revert.is_some()).await;
                match revert {
                    Some(revert) => self.revert_stopped(revert, job.reply).await,
                    None => self.settle(job.reply, Ok(())),
                }
            }
            Outcome::StopFailed(error) => {
                // A guest that runs on has no use for a state that was kept to end it.
                if let Err(error) = self.forget_saved().await {
                    tracing::error!(domain = %self.domain.name(), %error, "cannot forget the saved state");
                }
                self.settle(job.reply, Err(error));
            }
            Outcome::SnapshotTaken { result: Err(error), .. } | Outcome::Saved { result: Err(error), .. } => {
                self.settle(job.reply, Err(error));
            }
            Outcome::SnapshotTaken { def, halt, .. } => self.snapshot_taken(*def, halt, job.reply).await,
            Outcome::Saved { saved, .. } => self.state_saved(*saved, job.reply).await,
            Outcome::Changed(changed) => {
                let result = self.changed(*changed).await;
                self.settle(job.reply, result);
            }
            Outcome::Done(result) => {
                if result.is_ok() {
                    // The guest's own event normally was first; this is for guests that tell nothing.
                    match job.kind {
                        JobKind::Suspend => self.change(Phase::Paused, paused::USER).await,
                        JobKind::Resume => self.change(Phase::Running, running::UNPAUSED).await,
                        JobKind::Shutdown if self.run.as_ref().is_some_and(|run| run.instance.obeys_at_once()) => {
                            return self.begin_stop(JobKind::Ending, shutoff::SHUTDOWN, false, job.reply);
                        }
                        _ => {}
                    }
                }
                self.settle(job.reply, result);
            }
        }
    }

    fn settle(&self, reply: Option<Reply>, result: Result<()>) {
        if let Err(error) = &result {
            tracing::info!(domain = %self.domain.name(), %error, "call failed");
        }
        if let Some(reply) = reply {
            answer(reply, result);
        }
    }

    // ---- runs ---------------------------------------------------------------------------------------------------

    fn adopt(&mut self, adopted: Adopted) {
        self.install(adopted.run);
        let _ = adopted.done.send(());
    }

    async fn started(&mut self, mut started: StartedRun, cause: &Cause) {
        let is_paused = started.launched.phase == Phase::Paused;
        let (running, suspended, reasons) = match cause {
            Cause::Boot => (lifecycle::STARTED_BOOTED, lifecycle::SUSPENDED_PAUSED, None),
            Cause::Restore => {
                let reasons = Some((running::RESTORED, paused::USER));
                (lifecycle::STARTED_RESTORED, lifecycle::SUSPENDED_RESTORED, reasons)
            }
            Cause::Revert(_) => {
                let reasons = Some((running::FROM_SNAPSHOT, paused::FROM_SNAPSHOT));
                (lifecycle::STARTED_FROM_SNAPSHOT, lifecycle::SUSPENDED_FROM_SNAPSHOT, reasons)
            }
        };
        if let Some((when_running, when_paused)) = reasons {
            let reason = if is_paused { when_paused } else { when_running };
            started.launched.reason = reason;
            if let Err(error) = started.file.update(false, |record| record.reason = reason).await {
                tracing::error!(domain = %self.domain.name(), %error, "cannot note the state in the status record");
            }
        }
        self.install(started);
        self.emit(lifecycle::STARTED, running);
        if is_paused {
            self.emit(lifecycle::SUSPENDED, suspended);
        }
    }

    fn install(&mut self, started: StartedRun) {
        let StartedRun { id, launched, file, held } = started;
        self.numbers += 1;
        let number = self.numbers;
        self.domain.runtime().registry().set_id(self.domain.uuid(), id);
        let live = Arc::new(launched.live);
        let instance = launched.instance.clone();
        self.publish(|snapshot| {
            snapshot.id = Some(id);
            snapshot.phase = launched.phase;
            snapshot.reason = launched.reason;
            snapshot.live = Some(live);
            snapshot.instance = Some(instance);
        });
        // Whoever asks finds the guest running now.
        drop(held);
        tracing::info!(domain = %self.domain.name(), id, pid = launched.instance.pid(), "running");
        self.run = Some(Run { number, id, instance: launched.instance, file });
        let (domain, mut events) = (self.domain.clone(), launched.events);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                domain.tell(Message::Guest { run: number, event });
            }
        });
    }

    /// No guest is there any more; `keep`: another comes at once, so a domain without a definition stays.
    async fn stopped(&mut self, reason: i32, keep: bool) {
        if let Some(run) = self.run.take() {
            self.domain.runtime().registry().clear_id(run.id);
        }
        self.publish(|snapshot| {
            snapshot.id = None;
            snapshot.phase = Phase::Shutoff;
            snapshot.reason = reason;
            snapshot.live = None;
            snapshot.instance = None;
            snapshot.updated = false;
        });
        tracing::info!(domain = %self.domain.name(), reason, "shut off");
        let persistent = self.domain.snapshot().persistent();
        if !persistent && !keep {
            self.forget().await;
        }
        self.emit(
            lifecycle::STOPPED,
            match reason {
                shutoff::SHUTDOWN => lifecycle::STOPPED_SHUTDOWN,
                shutoff::DESTROYED => lifecycle::STOPPED_DESTROYED,
                shutoff::CRASHED => lifecycle::STOPPED_CRASHED,
                shutoff::SAVED => lifecycle::STOPPED_SAVED,
                shutoff::FROM_SNAPSHOT => lifecycle::STOPPED_FROM_SNAPSHOT,
                _ => lifecycle::STOPPED_FAILED,
            },
        );
    }

    /// The domain leaves the registry and its task ends.
    async fn forget(&mut self) {
        if !self.domain.snapshot().moments.is_empty() {
            let (persist, kind) = (self.domain.runtime().persist().clone(), self.domain.runtime().kind());
            if let Err(error) = persist.put_moments(kind, self.domain.uuid(), None).await {
                tracing::error!(domain = %self.domain.name(), %error, "cannot remove what is known of the snapshots");
            }
        }
        self.domain.runtime().registry().remove(&self.domain.uuid(), &self.domain.name());
        self.over = true;
    }

    // ---- what the guest says ------------------------------------------------------------------------------------

    async fn guest(&mut self, event: InstanceEvent) {
        let stopping = self.running_kind().is_some_and(JobKind::stops);
        match event {
            InstanceEvent::Ended { reason, text } if !stopping => {
                let phase = self.domain.snapshot().phase;
                let by_phase = if phase == Phase::ShuttingDown { shutoff::SHUTDOWN } else { shutoff::CRASHED };
                let reason = reason.map_or(by_phase, |known| known.reason);
                tracing::info!(domain = %self.domain.name(), reason, text, "guest ended");
                self.begin_stop(JobKind::Ending, reason, false, None);
            }
            InstanceEvent::Ended { .. } => {}
            InstanceEvent::State { phase, reason } if !stopping => {
                let reason = match (phase, self.running_kind()) {
                    (Phase::Paused, Some(JobKind::Suspend)) => paused::USER,
                    (Phase::Running, Some(JobKind::Resume)) => running::UNPAUSED,
                    _ => reason,
                };
                self.change(phase, reason).await;
            }
            InstanceEvent::State { .. } => {}
            InstanceEvent::Shutdown { by_guest } if !stopping => {
                let detail = if by_guest { lifecycle::SHUTDOWN_GUEST } else { lifecycle::SHUTDOWN_HOST };
                if self.enter(Phase::ShuttingDown, shutdown::USER).await {
                    self.emit(lifecycle::SHUTDOWN, detail);
                }
            }
            InstanceEvent::Shutdown { .. } => {}
            InstanceEvent::Reset { .. } => self.send(EventKind::Reboot),
            InstanceEvent::Event(kind) => self.send(kind),
            InstanceEvent::Live(change) => self.live_change(&change),
        }
    }

    /// Enters `phase` and tells subscribers, unless the domain is in it already.
    async fn change(&mut self, phase: Phase, reason: i32) {
        let before = self.domain.snapshot().phase;
        if !self.enter(phase, reason).await {
            return;
        }
        match phase {
            Phase::Paused => self.emit(
                lifecycle::SUSPENDED,
                match reason {
                    paused::IOERROR => lifecycle::SUSPENDED_IOERROR,
                    paused::WATCHDOG => lifecycle::SUSPENDED_WATCHDOG,
                    _ => lifecycle::SUSPENDED_PAUSED,
                },
            ),
            Phase::Running if before == Phase::PmSuspended => {
                self.emit(lifecycle::STARTED, lifecycle::STARTED_WAKEUP);
            }
            Phase::Running => self.emit(lifecycle::RESUMED, lifecycle::RESUMED_UNPAUSED),
            Phase::Crashed => self.emit(lifecycle::CRASHED, lifecycle::CRASHED_PANICKED),
            Phase::PmSuspended => self.emit(lifecycle::PMSUSPENDED, lifecycle::PMSUSPENDED_MEMORY),
            _ => {}
        }
    }

    /// Record, then snapshot. `false` when there was nothing to change.
    async fn enter(&mut self, phase: Phase, reason: i32) -> bool {
        let snapshot = self.domain.snapshot();
        if snapshot.phase == phase {
            return false;
        }
        if let Err(error) = snapshot.phase.check(phase) {
            tracing::warn!(domain = %snapshot.name, %error, "guest event ignored");
            return false;
        }
        if let Some(run) = &self.run {
            let noted = run.file.update(false, |record| {
                record.phase = phase;
                record.reason = reason;
            });
            if let Err(error) = noted.await {
                tracing::error!(domain = %snapshot.name, %error, "cannot note the state in the status record");
            }
        }
        self.publish(|snapshot| {
            snapshot.phase = phase;
            snapshot.reason = reason;
        });
        true
    }

    fn live_change(&mut self, change: &LiveChange) {
        let snapshot = self.domain.snapshot();
        if let Some(live) = &snapshot.live {
            let mut live = live.as_ref().clone();
            super::super::live::apply(&mut live, change);
            self.publish(|snapshot| snapshot.live = Some(Arc::new(live)));
        }
    }

    /// What a change did to the guest and to the definition becomes visible.
    async fn changed(&mut self, changed: Changed) -> Result<()> {
        let Changed { live, config, result } = changed;
        if let Some(def) = config {
            self.publish(|snapshot| snapshot.inactive = Some(def));
        }
        let snapshot = self.domain.snapshot();
        // A guest that ended meanwhile took its live definition with it.
        let (Some(applied), Some(run), Some(before)) = (live, &self.run, &snapshot.live) else { return result };
        let mut live = before.as_ref().clone();
        (applied.edit)(&mut live)?;
        let xml = domain_xml::format(&live, FormatOptions { secure: true, ..Default::default() });
        let noted = run.file.update(false, move |record| record.live_xml = xml).await;
        self.publish(|snapshot| snapshot.live = Some(Arc::new(live)));
        applied.events.into_iter().for_each(|event| self.send(event));
        result.and(noted)
    }

    // ---- the persistent definition ------------------------------------------------------------------------------

    async fn define(&mut self, new: NewDefinition) -> Result<()> {
        let runtime = self.domain.runtime().clone();
        let xml = domain_xml::format(&new.def, FormatOptions { secure: true, inactive: true, ..Default::default() });
        fault_point("define.store")?;
        runtime.persist().put_definition(runtime.kind(), self.domain.uuid(), xml).await?;
        fault_point("define.stored")?;
        let before = self.domain.snapshot();
        if let (false, Some(run)) = (before.persistent(), &self.run) {
            run.file.update(false, |record| record.persistent = true).await?;
        }
        self.publish(|snapshot| {
            snapshot.updated = snapshot.active() && snapshot.persistent();
            snapshot.inactive = Some(new.def);
            snapshot.messages = new.messages;
        });
        let detail = if before.persistent() { lifecycle::DEFINED_UPDATED } else { lifecycle::DEFINED_ADDED };
        self.emit(lifecycle::DEFINED, detail);
        Ok(())
    }

    async fn undefine(&mut self, flags: u32) -> Result<()> {
        let before = self.domain.snapshot();
        if !before.persistent() {
            return Err(Error::invalid_state("cannot undefine transient domain"));
        }
        self.check_undefine(flags)?;
        let nvram = nvram_file(&before);
        let (remove, keep) = (flags & flags::undefine::NVRAM != 0, flags & flags::undefine::KEEP_NVRAM != 0);
        let nvram = match nvram {
            Some(path) if !remove && !keep && path.exists() => {
                return Err(Error::invalid_state(format!(
                    "cannot undefine domain with nvram: '{}' would be left; say whether to remove or to keep it \
                     (VIR_DOMAIN_UNDEFINE_NVRAM or _KEEP_NVRAM; undefine --nvram or --keep-nvram)",
                    path.display()
                )));
            }
            Some(path) if remove && !before.active() => Some(path),
            _ => None,
        };
        let runtime = self.domain.runtime().clone();
        fault_point("undefine.store")?;
        if let Some(run) = &self.run {
            run.file.update(false, |record| record.persistent = false).await?;
        }
        self.forget_saved().await?;
        runtime.persist().remove_definition(runtime.kind(), self.domain.uuid()).await?;
        fault_point("undefine.stored")?;
        if let Some(path) = nvram
            && let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::error!(domain = %before.name, path = %path.display(), %error, "cannot remove the nvram file");
        }
        self.publish(|snapshot| {
            snapshot.inactive = None;
            snapshot.autostart = false;
            snapshot.updated = false;
        });
        if !before.active() {
            self.forget().await;
        }
        self.emit(lifecycle::UNDEFINED, lifecycle::UNDEFINED_REMOVED);
        Ok(())
    }

    async fn rename(&mut self, name: &str) -> Result<()> {
        let runtime = self.domain.runtime().clone();
        let before = self.domain.snapshot();
        let Some(inactive) = &before.inactive else {
            return Err(Error::invalid_state("cannot rename a transient domain"));
        };
        if before.name == name {
            return Err(Error::new(Code::OperationInvalid, "Can't rename domain to itself"));
        }
        let reservation = runtime.registry().reserve_name(self.domain.uuid(), name)?;
        let mut def = inactive.as_ref().clone();
        def.name = name.to_string();
        let xml = domain_xml::format(&def, FormatOptions { secure: true, inactive: true, ..Default::default() });
        runtime.persist().put_definition(runtime.kind(), self.domain.uuid(), xml).await?;
        reservation.commit_rename(&before.name);
        let old = before.domain_id();
        self.publish(|snapshot| {
            snapshot.name = name.to_string();
            snapshot.inactive = Some(Arc::new(def));
        });
        runtime.emit(old, EventKind::Lifecycle { event: lifecycle::UNDEFINED, detail: lifecycle::UNDEFINED_RENAMED });
        self.emit(lifecycle::DEFINED, lifecycle::DEFINED_RENAMED);
        Ok(())
    }

    async fn set_autostart(&mut self, on: bool) -> Result<()> {
        let before = self.domain.snapshot();
        if !before.persistent() {
            return Err(Error::invalid_state("cannot set autostart for transient domain"));
        }
        if before.autostart == on {
            return Ok(());
        }
        let runtime = self.domain.runtime().clone();
        runtime.persist().set_autostart(runtime.kind(), self.domain.uuid(), on).await?;
        self.publish(|snapshot| snapshot.autostart = on);
        Ok(())
    }

    // ---- publishing ---------------------------------------------------------------------------------------------

    fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = self.domain.0.snapshot.load().as_ref().clone();
        change(&mut snapshot);
        self.domain.0.snapshot.store(Arc::new(snapshot));
    }

    fn emit(&self, event: i32, detail: i32) {
        self.send(EventKind::Lifecycle { event, detail });
    }

    fn send(&self, kind: EventKind) {
        self.domain.runtime().emit(self.domain.snapshot().domain_id(), kind);
    }
}

/// The guest's own variable store, if the definition names one.
fn nvram_file(snapshot: &Snapshot) -> Option<std::path::PathBuf> {
    let nvram = snapshot.inactive.as_ref()?.os.nvram.as_ref()?;
    nvram.source.as_ref()?.path.as_ref().map(std::path::PathBuf::from)
}

fn answer(reply: Reply, result: Result<()>) {
    // The caller may have gone away; the work stands.
    let _ = reply.send(result);
}
