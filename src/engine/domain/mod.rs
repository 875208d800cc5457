//! A domain: a handle any caller may hold, a published snapshot, and the one task that owns it.
//!
//! ```text
//!  callers ── Op ──> queue ──> task ── admission ──> job (runs beside the task) ── outcome ──> task
//!  guest ── InstanceEvent ───────^                                                   │
//!  readers <── Snapshot <────────────────── publish, then event, then reply <────────┘
//! ```
//!
//! The task never waits for a guest: work runs in a job beside it. The task alone changes the snapshot.

pub(crate) mod change;
mod handle;
pub mod job;
pub mod moments;
pub mod snapshot;
mod start;
mod stop;
mod task;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use super::driver::{Files, InstanceEvent, Launched};
use super::event::{EventKind, lifecycle};
use super::record::RunFile;
use super::runtime::DriverRuntime;
use super::state::{Phase, shutoff};
use super::work::Use;
use crate::domain_xml::DomainDef;
use crate::domain_xml::snapshot::SnapshotDef;
use crate::error::{Code, Error, Result};
use crate::types::Uuid;
pub use handle::DomainSnapshot;
use job::JobKind;
use moments::{Reach, Saved, Tree};
pub use snapshot::Snapshot;

/// A handle to a domain. Cheap to clone; stays valid (with "Domain not found" answers) after the domain is gone.
#[derive(Clone)]
pub struct Domain(Arc<Shared>);

struct Shared {
    uuid: Uuid,
    runtime: Arc<DriverRuntime>,
    snapshot: ArcSwap<Snapshot>,
    /// Boxed: a queue keeps room for 32 messages as soon as there was one.
    queue: mpsc::UnboundedSender<Box<Message>>,
}

/// What callers ask of the task.
#[derive(Debug)]
pub(crate) enum Op {
    /// Start the persistent definition, or the given one (transient create).
    Start {
        how: How,
        transient: Option<Box<NewDefinition>>,
    },
    Suspend,
    Resume,
    Shutdown {
        flags: u32,
    },
    Reboot {
        flags: u32,
    },
    Reset,
    /// `flags`: `virDomainDestroyFlags`.
    Destroy {
        flags: u32,
    },
    /// Replace the persistent definition (or make a transient domain persistent).
    Define(Box<NewDefinition>),
    /// `flags`: `virDomainUndefineFlags`.
    Undefine {
        flags: u32,
    },
    Rename {
        name: String,
    },
    SetAutostart(bool),
    /// Change the guest, the definition or both.
    Change(Box<change::Change>),
    /// Keep the present moment, complete but for the state; `halt`: and end the guest.
    TakeSnapshot {
        def: Box<SnapshotDef>,
        halt: bool,
    },
    /// Change the tree of snapshots without touching what they are made of.
    EditMoments(Box<Edit>),
    /// Go back to a moment. `running`: whether the guest runs then; `None`: as it did.
    Revert {
        name: String,
        running: Option<bool>,
    },
    /// Keep the guest's state for the next start and end it. `running` as above.
    Save {
        running: Option<bool>,
    },
    /// Forget the kept state.
    ForgetSaved,
}

/// How a guest is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct How {
    /// `virDomainCreateFlags`
    pub flags: u32,
    pub files: Files,
}

impl From<u32> for How {
    fn from(flags: u32) -> How {
        How { flags, ..How::default() }
    }
}

/// A change of the tree of snapshots.
#[derive(Debug)]
pub(crate) enum Edit {
    Redefine { def: Box<SnapshotDef>, current: bool },
    Delete { name: String, reach: Reach },
}

impl Op {
    fn kind(&self) -> JobKind {
        match self {
            Op::Start { .. } => JobKind::Start,
            Op::Suspend => JobKind::Suspend,
            Op::Resume => JobKind::Resume,
            Op::Shutdown { .. } => JobKind::Shutdown,
            Op::Reboot { .. } => JobKind::Reboot,
            Op::Reset => JobKind::Reset,
            Op::Destroy { .. } => JobKind::Destroy,
            Op::Define(_) => JobKind::Define,
            Op::Undefine { .. } => JobKind::Undefine,
            Op::Rename { .. } => JobKind::Rename,
            Op::SetAutostart(_) => JobKind::Autostart,
            Op::Change(_) => JobKind::Modify,
            Op::TakeSnapshot { .. } => JobKind::Snapshot,
            Op::EditMoments(_) | Op::ForgetSaved => JobKind::Moments,
            Op::Revert { .. } => JobKind::Revert,
            Op::Save { .. } => JobKind::Save,
        }
    }
}

/// A definition on its way into a domain.
#[derive(Clone, Debug)]
pub(crate) struct NewDefinition {
    pub def: Arc<DomainDef>,
    pub messages: Arc<Vec<String>>,
}

/// What arrives at the task.
#[derive(Debug)]
pub(crate) enum Message {
    Op {
        op: Op,
        reply: oneshot::Sender<Result<()>>,
    },
    /// From the guest of run number `run`.
    Guest {
        run: u64,
        event: InstanceEvent,
    },
    /// A job's end; `job` is its number.
    Job {
        job: u64,
        outcome: Outcome,
    },
    /// A run found again at daemon start.
    Adopt(Box<Adopted>),
}

/// How a job ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Started(Box<StartedRun>),
    StartFailed(Error),
    /// Everything of the run is gone.
    Stopped {
        reason: i32,
    },
    /// The guest could not be ended; it runs on.
    StopFailed(Error),
    /// Suspend, resume, shutdown, reboot, reset.
    Done(Result<()>),
    Changed(Box<change::Changed>),
    /// The moment is kept, or is not.
    SnapshotTaken {
        result: Result<()>,
        def: Box<SnapshotDef>,
        halt: bool,
    },
    /// The guest's state is kept, or is not.
    Saved {
        result: Result<()>,
        saved: Box<Saved>,
    },
}

/// A run that was built.
#[derive(Debug)]
pub(crate) struct StartedRun {
    pub id: i32,
    pub launched: Launched,
    pub file: RunFile,
    /// Keep jobs off its volumes until it is seen to run.
    pub held: Vec<Use>,
}

/// A run that outlived a daemon.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub run: StartedRun,
    pub done: oneshot::Sender<()>,
}

/// What a domain is made from.
#[derive(Debug)]
pub(crate) struct Seed {
    pub uuid: Uuid,
    pub name: String,
    pub inactive: Option<Arc<DomainDef>>,
    pub autostart: bool,
    pub messages: Arc<Vec<String>>,
    /// Reason of the shut-off state it begins in.
    pub reason: i32,
    pub moments: Tree,
    pub saved: Option<Saved>,
}

impl Seed {
    /// A domain without a definition, that never ran.
    pub(crate) fn new(uuid: Uuid, name: String) -> Seed {
        Seed {
            uuid,
            name,
            inactive: None,
            autostart: false,
            messages: Arc::default(),
            reason: shutoff::UNKNOWN,
            moments: Tree::default(),
            saved: None,
        }
    }
}

impl Domain {
    /// Makes the handle and starts the domain's task.
    pub(crate) fn spawn(runtime: Arc<DriverRuntime>, seed: Seed) -> Domain {
        let (queue, inbox) = mpsc::unbounded_channel();
        let snapshot = Snapshot {
            uuid: seed.uuid,
            name: seed.name,
            id: None,
            phase: Phase::Shutoff,
            reason: seed.reason,
            inactive: seed.inactive,
            live: None,
            autostart: seed.autostart,
            updated: false,
            job: None,
            instance: None,
            moments: Arc::new(seed.moments),
            saved: seed.saved.map(Arc::new),
            messages: seed.messages,
        };
        let domain =
            Domain(Arc::new(Shared { uuid: seed.uuid, runtime, snapshot: ArcSwap::from_pointee(snapshot), queue }));
        task::spawn(domain.clone(), inbox);
        domain
    }

    /// The domain's UUID; never changes.
    pub fn uuid(&self) -> Uuid {
        self.0.uuid
    }

    /// The name as of now.
    pub fn name(&self) -> String {
        self.0.snapshot.load().name.clone()
    }

    /// The id of the present run.
    pub fn id(&self) -> Option<i32> {
        self.0.snapshot.load().id
    }

    /// The domain as of now. Never waits.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// The driver's side of things.
    pub fn runtime(&self) -> &Arc<DriverRuntime> {
        &self.0.runtime
    }

    /// Hands `op` to the task and waits for its end. The caller going away does not undo it.
    pub(crate) async fn request(&self, op: Op) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.0.queue.send(Box::new(Message::Op { op, reply })).map_err(|_| self.gone())?;
        answer.await.map_err(|_| self.gone())?
    }

    /// For `define`, once a new domain is stored and visible.
    pub(crate) fn announce_defined(&self) {
        let kind = EventKind::Lifecycle { event: lifecycle::DEFINED, detail: lifecycle::DEFINED_ADDED };
        self.0.runtime.emit(self.snapshot().domain_id(), kind);
    }

    /// For recovery, before anybody else can see the domain: how its last run ended.
    pub(crate) fn set_shutoff_reason(&self, reason: i32) {
        let mut snapshot = self.0.snapshot.load().as_ref().clone();
        snapshot.reason = reason;
        self.0.snapshot.store(Arc::new(snapshot));
    }

    pub(crate) fn tell(&self, message: Message) {
        // A task that is gone has no use for messages.
        let _ = self.0.queue.send(Box::new(message));
    }

    /// "Domain not found" for this domain.
    pub fn gone(&self) -> Error {
        Error::new(Code::NoDomain, format!("no domain with matching uuid '{}' ({})", self.uuid(), self.name()))
            .with_subsystem(self.0.runtime.kind().subsystem())
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").field("driver", &self.0.runtime.kind()).field("name", &self.name()).finish()
    }
}
