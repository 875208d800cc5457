//! Daemon start: definitions are loaded, running guests found again, half-built runs undone, strays swept.
//!
//! ```text
//! status record says     guest found           guest gone
//!   Starting             undo                  undo              -> Shutoff(failed)
//!   Stopping             undo                  undo              -> Shutoff(its reason)
//!   Running, Paused ...  adopt                 undo              -> Shutoff(how it ended)
//!   of another boot      -                     undo files only   -> Shutoff(crashed)
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::cleanup::run_blocking;
use super::domain::moments::{Saved, Tree};
use super::domain::{Adopted, Domain, Message, Op, Seed, StartedRun};
use super::driver::{Reattached, RunRecord};
use super::event::{EventKind, lifecycle};
use super::record::{Record, RunFile};
use super::registry::Claim;
use super::runtime::DriverRuntime;
use super::state::{Phase, shutoff};
use crate::domain_xml;
use crate::error::{Error, Result};
use crate::types::Uuid;

/// How many guests are looked for at once.
const PARALLEL: usize = 16;

/// Brings `runtime`'s registry to what disk and kernel say. Damaged files are reported and left alone.
pub(super) async fn load(runtime: &Arc<DriverRuntime>) -> Result<()> {
    let loaded = runtime.persist().load(runtime.kind()).await?;
    let mut records: HashMap<Uuid, Record> = loaded.records.into_iter().map(|record| (record.uuid, record)).collect();
    for stored in loaded.definitions {
        let parsed = match domain_xml::parse_stored(&stored.xml) {
            Ok(parsed) => parsed,
            Err(error) => {
                tracing::error!(uuid = %stored.uuid, %error, "stored definition cannot be read; left alone");
                continue;
            }
        };
        let def = Arc::new(parsed.def.compact());
        let reason = records.get(&stored.uuid).map_or(shutoff::UNKNOWN, |record| record.reason);
        let name = def.name.clone();
        let seed = Seed {
            inactive: Some(def),
            autostart: stored.autostart,
            reason,
            moments: moments_of(&loaded.moments, stored.uuid),
            saved: saved_of(&loaded.saved, stored.uuid),
            ..Seed::new(stored.uuid, name)
        };
        add(runtime, seed);
    }
    let mut work = tokio::task::JoinSet::new();
    for (_, record) in records.drain() {
        if work.len() >= PARALLEL {
            work.join_next().await;
        }
        let (runtime, moments) = (runtime.clone(), moments_of(&loaded.moments, record.uuid));
        work.spawn(async move {
            let (name, uuid) = (record.name.clone(), record.uuid);
            if let Err(error) = settle(&runtime, record, moments).await {
                // The guest may run: a start must not write over what is known of it.
                runtime.persist().guard(runtime.kind(), uuid);
                tracing::error!(domain = name, %error, "recovery failed; the status record is kept");
            }
        });
    }
    while work.join_next().await.is_some() {}
    sweep(runtime).await
}

/// The snapshots that are noted. What cannot be read is logged: the domain is more than they.
fn moments_of(stored: &HashMap<Uuid, String>, uuid: Uuid) -> Tree {
    let Some(xml) = stored.get(&uuid) else { return Tree::default() };
    Tree::parse(xml).unwrap_or_else(|error| {
        tracing::error!(%uuid, %error, "what is known of snapshots cannot be read");
        Tree::default()
    })
}

fn saved_of(stored: &HashMap<Uuid, String>, uuid: Uuid) -> Option<Saved> {
    let result = Saved::parse(stored.get(&uuid)?);
    result.inspect_err(|error| tracing::error!(%uuid, %error, "the note of a saved state cannot be read")).ok()
}

fn add(runtime: &Arc<DriverRuntime>, seed: Seed) -> Option<Domain> {
    match runtime.registry().claim(seed.uuid, &seed.name) {
        Ok(Claim::New(reservation)) => {
            let domain = Domain::spawn(runtime.clone(), seed);
            reservation.commit(domain.clone());
            Some(domain)
        }
        Ok(Claim::Existing(domain)) => Some(domain),
        Err(error) => {
            tracing::error!(name = seed.name, uuid = %seed.uuid, %error, "stored domain collides with another; left alone");
            None
        }
    }
}

/// Decides what becomes of one recorded run.
async fn settle(runtime: &Arc<DriverRuntime>, record: Record, moments: Tree) -> Result<()> {
    let file = RunFile::new(record.clone(), runtime.persist().clone());
    let half_built = matches!(record.phase, Phase::Starting | Phase::Stopping);
    let same_boot = record.boot_id == runtime.boot_id();
    if half_built || !same_boot {
        let reason = match record.phase {
            Phase::Starting => shutoff::FAILED,
            Phase::Stopping => record.reason,
            _ => shutoff::CRASHED,
        };
        tracing::warn!(domain = record.name, phase = record.phase.word(), same_boot, "undoing an unfinished run");
        return undo(runtime, &file, &record, reason).await;
    }
    let parsed = domain_xml::parse_stored(&record.live_xml)?;
    let mut live = Arc::new(parsed.def);
    super::storage::find_again(runtime.host(), &mut live);
    let run = RunRecord {
        live: Arc::unwrap_or_clone(live),
        id: record.id,
        run_id: record.run_id.clone(),
        run_dir: record.run_dir.clone(),
        phase: record.phase,
        reason: record.reason,
        state: record.state.clone(),
    };
    match runtime.driver().reattach(&run).await? {
        Reattached::Running(launched) => {
            let Some(domain) = add(runtime, Seed { moments, ..Seed::new(record.uuid, record.name.clone()) }) else {
                return Err(Error::internal(format!("no place for the running domain '{}'", record.name)));
            };
            super::network::register(runtime.host(), &launched.live);
            let (done, adopted) = oneshot::channel();
            let run = StartedRun { id: record.id, launched, file, held: Vec::new() };
            domain.tell(Message::Adopt(Box::new(Adopted { run, done })));
            let _ = adopted.await;
            // It runs: either it went on from there already, or the daemon that was to end it was killed before it did.
            if domain.snapshot().saved.is_some() {
                domain.request(Op::ForgetSaved).await?;
            }
            if record.autodestroy {
                tracing::info!(
                    domain = record.name,
                    id = record.id,
                    "its client went with the former daemon: it is ended"
                );
                return domain.request(Op::Destroy { flags: 0 }).await;
            }
            tracing::info!(domain = record.name, id = record.id, "found running");
            Ok(())
        }
        Reattached::Gone { reason } => {
            tracing::info!(domain = record.name, reason, "ended while no daemon ran");
            undo(runtime, &file, &record, reason).await?;
            let detail = match reason {
                shutoff::SHUTDOWN => lifecycle::STOPPED_SHUTDOWN,
                shutoff::DESTROYED => lifecycle::STOPPED_DESTROYED,
                shutoff::CRASHED => lifecycle::STOPPED_CRASHED,
                _ => lifecycle::STOPPED_FAILED,
            };
            if let Some(domain) = runtime.registry().by_uuid(&record.uuid) {
                let id = domain.snapshot().domain_id();
                runtime.emit(id, EventKind::Lifecycle { event: lifecycle::STOPPED, detail });
            }
            Ok(())
        }
    }
}

async fn undo(runtime: &Arc<DriverRuntime>, file: &RunFile, record: &Record, reason: i32) -> Result<()> {
    let errors = runtime.cleaner().undo(runtime.driver(), &record.undo).await;
    for error in &errors {
        tracing::error!(domain = record.name, %error, "clean-up of an ended run left something behind");
    }
    if let Some(domain) = runtime.registry().by_uuid(&record.uuid) {
        domain.set_shutoff_reason(reason);
    }
    if errors.is_empty() { file.remove().await } else { Ok(()) }
}

/// Removes run directories that no record owns.
async fn sweep(runtime: &Arc<DriverRuntime>) -> Result<()> {
    let owned = runtime.persist().records(runtime.kind()).await?;
    let owned: Vec<String> = owned.into_iter().map(|record| record.run_id).collect();
    let runs = runtime.dirs().runs.clone();
    run_blocking(move || {
        let entries = std::fs::read_dir(&runs)
            .map_err(|error| Error::system(format!("cannot read directory '{}'", runs.display()), error))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            if owned.iter().any(|id| name.to_str() == Some(id)) {
                continue;
            }
            tracing::warn!(path = %entry.path().display(), "removing a run directory that no record owns");
            if let Err(error) = std::fs::remove_dir_all(entry.path()) {
                tracing::error!(path = %entry.path().display(), %error, "cannot remove it");
            }
        }
        Ok(())
    })
    .await
}
