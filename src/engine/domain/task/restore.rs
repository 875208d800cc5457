//! Former moments: taking snapshots, going back to them, keeping a guest's state over an end.
//!
//! ```text
//! take:   moment completed ─> driver keeps memory and disks (job) ─> tree stored ─> visible
//! revert: guest ended (job), if there is one ─> definition stored ─> guest started (job), if it ran ─> current one
//! save:   driver keeps memory (job) ─> noted on disk ─> guest ended (job); the next start goes on from there
//! ```

use std::sync::Arc;

use super::{Job, Reply, Task, answer};
use crate::domain_xml::device::{Disk, DiskDevice};
use crate::domain_xml::snapshot::{SnapshotDef, SnapshotDisk, SnapshotLocation, SnapshotState};
use crate::domain_xml::{self, DomainDef, FormatOptions};
use crate::engine::cleanup::fault_point;
use crate::engine::domain::job::JobKind;
use crate::engine::domain::moments::{Saved, Tree, missing};
use crate::engine::domain::snapshot::Snapshot;
use crate::engine::domain::{Edit, Outcome};
use crate::engine::state::{Phase, shutoff};
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::flags;

/// Where a revert goes, kept while the guest that there is ends.
#[derive(Debug)]
pub(super) struct Revert {
    name: String,
    def: Arc<DomainDef>,
    inactive: Arc<DomainDef>,
    /// Whether the guest runs then, and is paused.
    start: Option<bool>,
}

/// Why a guest is started, beside that somebody wants it.
#[derive(Debug, Default)]
pub(super) enum Cause {
    #[default]
    Boot,
    /// From its kept state.
    Restore,
    /// Back to the snapshot of this name.
    Revert(String),
}

impl Task {
    // ---- the tree -----------------------------------------------------------------------------------------------

    /// Stores a tree, then shows it.
    async fn keep_moments(&mut self, tree: Tree) -> Result<()> {
        let runtime = self.domain.runtime().clone();
        let xml = if tree.is_empty() { None } else { Some(tree.to_xml()) };
        fault_point("snapshot.store")?;
        runtime.persist().put_moments(runtime.kind(), self.domain.uuid(), xml).await?;
        self.publish(|snapshot| snapshot.moments = Arc::new(tree));
        Ok(())
    }

    pub(super) async fn edit_moments(&mut self, edit: Edit) -> Result<()> {
        let moments = self.domain.snapshot().moments.clone();
        let tree = match edit {
            Edit::Redefine { def, current } => moments.redefine(*def, current, self.domain.uuid())?,
            Edit::Delete { name, reach } => moments.delete(&name, reach)?,
        };
        self.keep_moments(tree).await
    }

    // ---- taking -------------------------------------------------------------------------------------------------

    pub(super) fn begin_snapshot(&mut self, def: SnapshotDef, halt: bool, reply: Reply) {
        let snapshot = self.domain.snapshot();
        let completed = complete(def, &snapshot).and_then(|def| {
            snapshot.moments.add(def.clone())?;
            Ok(def)
        });
        let def = match completed {
            Ok(def) => def,
            Err(error) => return answer(reply, Err(error)),
        };
        let runtime = self.domain.runtime().clone();
        let instance = self.run.as_ref().map(|run| run.instance.clone());
        self.spawn_job(JobKind::Snapshot, Some(reply), None, async move {
            let result = match instance {
                Some(instance) => instance.take_snapshot(&def).await,
                None => runtime.driver().take_snapshot(&def).await,
            };
            Outcome::SnapshotTaken { result, def: Box::new(def), halt }
        });
    }

    pub(super) async fn snapshot_taken(&mut self, def: SnapshotDef, halt: bool, reply: Option<Reply>) {
        let result = match self.domain.snapshot().moments.add(def) {
            Ok(tree) => self.keep_moments(tree).await,
            Err(error) => Err(error),
        };
        if result.is_ok() && halt && self.run.is_some() {
            return self.begin_stop(JobKind::Ending, shutoff::FROM_SNAPSHOT, false, reply);
        }
        self.settle(reply, result);
    }

    // ---- going back ---------------------------------------------------------------------------------------------

    pub(super) async fn begin_revert(&mut self, name: String, running: Option<bool>, reply: Reply) {
        let snapshot = self.domain.snapshot();
        let revert = match plan_revert(&snapshot, name, running) {
            Ok(revert) => revert,
            Err(error) => return answer(reply, Err(error)),
        };
        if self.run.is_none() {
            return self.revert_stopped(revert, Some(reply)).await;
        }
        self.begin_stop(JobKind::Revert, shutoff::FROM_SNAPSHOT, false, Some(reply));
        if let Some(job) = self.jobs.last_mut() {
            job.revert = Some(revert);
        }
    }

    /// No guest is there any more.
    pub(super) async fn revert_stopped(&mut self, revert: Revert, reply: Option<Reply>) {
        let Revert { name, def, inactive, start } = revert;
        let persistent = self.domain.snapshot().persistent();
        if persistent && let Err(error) = self.put_inactive(inactive).await {
            return self.settle(reply, Err(error));
        }
        match start {
            Some(paused) => {
                let flags = if paused { flags::create::PAUSED } else { 0 };
                self.start_with(def, !persistent, flags.into(), Cause::Revert(name), reply);
            }
            None => {
                self.publish(|snapshot| snapshot.reason = shutoff::FROM_SNAPSHOT);
                let result = self.make_current(&name).await;
                self.settle(reply, result);
            }
        }
    }

    /// Makes `def` the definition of the next start.
    async fn put_inactive(&mut self, def: Arc<DomainDef>) -> Result<()> {
        let runtime = self.domain.runtime().clone();
        let mut def = def.as_ref().clone();
        // It may have been renamed since.
        def.name = self.domain.name();
        let xml = domain_xml::format(&def, FormatOptions { secure: true, inactive: true, ..Default::default() });
        runtime.persist().put_definition(runtime.kind(), self.domain.uuid(), xml).await?;
        self.publish(|snapshot| snapshot.inactive = Some(Arc::new(def)));
        Ok(())
    }

    async fn make_current(&mut self, name: &str) -> Result<()> {
        let moments = self.domain.snapshot().moments.clone();
        // It may have been deleted while the guest was started.
        if moments.get(name).is_none() || moments.current() == Some(name) {
            return Ok(());
        }
        self.keep_moments(moments.with_current(name)).await
    }

    // ---- saving -------------------------------------------------------------------------------------------------

    pub(super) fn begin_save(&mut self, running: Option<bool>, reply: Reply) {
        let snapshot = self.domain.snapshot();
        let (Some(run), Some(live)) = (&self.run, &snapshot.live) else {
            return answer(reply, Err(Error::invalid_state("domain is not running")));
        };
        if !snapshot.persistent() {
            return answer(reply, Err(Error::invalid_state("cannot do managed save for transient domain")));
        }
        let paused = running.map_or(snapshot.phase == Phase::Paused, |running| !running);
        let saved = Box::new(Saved { live: live.clone(), paused });
        let instance = run.instance.clone();
        self.spawn_job(JobKind::Save, Some(reply), None, async move {
            Outcome::Saved { result: instance.save().await, saved }
        });
    }

    pub(super) async fn state_saved(&mut self, saved: Saved, reply: Option<Reply>) {
        let runtime = self.domain.runtime().clone();
        let noted = runtime.persist().put_saved(runtime.kind(), self.domain.uuid(), Some(saved.to_xml())).await;
        if let Err(error) = noted {
            return self.settle(reply, Err(error));
        }
        self.publish(|snapshot| snapshot.saved = Some(Arc::new(saved)));
        if let Err(error) = fault_point("save.noted") {
            tracing::warn!(%error, "fault point");
        }
        self.begin_stop(JobKind::Ending, shutoff::SAVED, false, reply);
    }

    pub(super) async fn forget_saved(&mut self) -> Result<()> {
        if self.domain.snapshot().saved.is_some() {
            let runtime = self.domain.runtime().clone();
            runtime.persist().put_saved(runtime.kind(), self.domain.uuid(), None).await?;
            self.publish(|snapshot| snapshot.saved = None);
        }
        Ok(())
    }

    /// What a start goes on with: its definition, and whether it is paused then.
    pub(super) fn saved_start(&self, flags: u32) -> Option<(Arc<DomainDef>, bool)> {
        let saved = self.domain.snapshot().saved.clone().filter(|_| flags & flags::create::FORCE_BOOT == 0)?;
        let mut def = saved.live.as_ref().clone();
        domain_xml::to_inactive(&mut def);
        def.id = None;
        Some((Arc::new(def.compact()), saved.paused))
    }

    /// After a guest was started for a reason of its own.
    pub(super) async fn after_start(&mut self, cause: &Cause) {
        let result = match cause {
            // With a forced boot, the state that was kept is of no use any more.
            Cause::Boot | Cause::Restore => self.forget_saved().await,
            Cause::Revert(name) => self.make_current(name).await,
        };
        if let Err(error) = result {
            tracing::error!(domain = %self.domain.name(), %error, "the guest runs, but that it does cannot be noted");
        }
    }

    /// Whether an undefine with these flags leaves nothing behind. Error: code 55 with what would be.
    pub(super) fn check_undefine(&self, flags: u32) -> Result<()> {
        let snapshot = self.domain.snapshot();
        if snapshot.saved.is_some() && flags & flags::undefine::MANAGED_SAVE == 0 {
            return Err(Error::invalid_state("Refusing to undefine while domain managed save image exists"));
        }
        let count = snapshot.moments.len();
        if !snapshot.active() && count > 0 && flags & flags::undefine::SNAPSHOTS_METADATA == 0 {
            return Err(Error::invalid_state(format!("cannot delete inactive domain with {count} snapshots")));
        }
        Ok(())
    }
}

impl Job {
    /// What the end of this job is followed by.
    pub(super) fn take_revert(&mut self) -> Option<Revert> {
        self.revert.take()
    }
}

fn plan_revert(snapshot: &Snapshot, name: String, running: Option<bool>) -> Result<Revert> {
    let moment = snapshot.moments.get(&name).ok_or_else(|| missing(&name))?;
    let def = moment.domain.as_ref().ok_or_else(|| {
        let what = format!("snapshot '{name}' lacks domain '{}' rollback info", snapshot.name);
        Error::new(Code::InternalError, what)
    })?;
    let start = match (running, moment.state) {
        (Some(running), _) => Some(!running),
        (None, Some(SnapshotState::Running)) => Some(false),
        (None, Some(SnapshotState::Paused)) => Some(true),
        (None, _) => None,
    };
    if start.is_none() && !snapshot.persistent() {
        return Err(Error::invalid_state(
            "transient domain needs to request run or pause to revert to inactive snapshot",
        ));
    }
    let def = def.clone();
    let inactive = moment.inactive_domain.clone().unwrap_or_else(|| def.clone());
    Ok(Revert { name, def, inactive, start })
}

/// Fills in what the moment decides: definition, state, where memory and each disk are kept. Errors: code 67.
fn complete(mut def: SnapshotDef, snapshot: &Snapshot) -> Result<SnapshotDef> {
    let domain = snapshot.current().ok_or_else(|| Error::invalid_state("domain has no definition"))?;
    let active = snapshot.active();
    let mut kept = domain.as_ref().clone();
    domain_xml::to_inactive(&mut kept);
    kept.id = None;
    def.state = Some(match snapshot.phase {
        Phase::Running | Phase::ShuttingDown => SnapshotState::Running,
        Phase::Paused => SnapshotState::Paused,
        Phase::PmSuspended => SnapshotState::PmSuspended,
        Phase::Crashed => SnapshotState::Crashed,
        _ => SnapshotState::Shutoff,
    });
    let refused = |what: String| Error::unsupported_config(what).with_subsystem(Subsystem::DomainSnapshot);
    match def.memory {
        None => def.memory = Some(if active { SnapshotLocation::Internal } else { SnapshotLocation::No }),
        Some(SnapshotLocation::No) => {}
        Some(_) if !active => {
            return Err(refused("memory state cannot be saved with offline or disk-only snapshot".into()));
        }
        Some(_) => {}
    }
    def.disks = align(std::mem::take(&mut def.disks), &kept.disks).map_err(refused)?;
    if active && let Some(next) = snapshot.inactive.as_ref().filter(|next| ***next != kept) {
        def.inactive_domain = Some(next.clone());
    }
    def.domain = Some(Arc::new(kept.compact()));
    Ok(def)
}

/// One entry per disk of the domain, in its order, named by its target.
fn align(asked: Vec<SnapshotDisk>, disks: &[Disk]) -> std::result::Result<Vec<SnapshotDisk>, String> {
    let mut places: Vec<Option<SnapshotDisk>> = disks.iter().map(|_| None).collect();
    for entry in asked {
        let is = |disk: &&Disk| {
            disk.target.dev.as_ref() == Some(&entry.name) || disk.source.path.as_ref() == Some(&entry.name)
        };
        let at = disks.iter().position(|disk| is(&disk)).ok_or_else(|| format!("no disk named '{}'", entry.name))?;
        if places[at].is_some() {
            return Err(format!("disk '{}' specified twice", entry.name));
        }
        places[at] = Some(entry);
    }
    let mut aligned = Vec::new();
    for (disk, place) in disks.iter().zip(places) {
        let nothing = disk.source.is_empty() || disk.readonly || disk.device != DiskDevice::Disk;
        let mut entry = place.unwrap_or_default();
        if let Some(target) = &disk.target.dev {
            entry.name.clone_from(target);
        }
        let default = if nothing { SnapshotLocation::No } else { SnapshotLocation::Internal };
        let location = *entry.location.get_or_insert(default);
        if !matches!(location, SnapshotLocation::No | SnapshotLocation::Internal) {
            return Err(format!("disk '{}' must use snapshot mode 'internal'", entry.name));
        }
        aligned.push(entry);
    }
    Ok(aligned)
}
