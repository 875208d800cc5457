//! What readers see of a domain: an immutable value, replaced as a whole. Nothing on the read path waits.

use std::sync::Arc;
use std::time::Instant;

use super::super::driver::Instance;
use super::super::event::DomainId;
use super::super::state::{Phase, State, StateReason};
use super::job::JobKind;
use super::moments::{Saved, Tree};
use crate::domain_xml::DomainDef;
use crate::types::Uuid;

/// A domain as it was at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub uuid: Uuid,
    pub name: String,
    /// The id of the present run.
    pub id: Option<i32>,
    pub phase: Phase,
    /// libvirt's reason number for the phase's public state.
    pub reason: i32,
    /// The persistent definition; `None` for a transient domain.
    pub inactive: Option<Arc<DomainDef>>,
    /// The definition of the present run.
    pub live: Option<Arc<DomainDef>>,
    pub autostart: bool,
    /// Whether the persistent definition was replaced while running (`virDomainIsUpdated`).
    pub updated: bool,
    /// The running job, if any.
    pub job: Option<JobView>,
    /// The running guest, for reads that go straight to it.
    pub instance: Option<Arc<dyn Instance>>,
    /// Its snapshots.
    pub moments: Arc<Tree>,
    /// What the next start goes on with.
    pub saved: Option<Arc<Saved>>,
    /// Doubtful points of the definition (`virDomainGetMessages`).
    pub messages: Arc<Vec<String>>,
}

/// A running job as readers see it.
#[derive(Clone, Copy, Debug)]
pub struct JobView {
    pub kind: JobKind,
    pub since: Instant,
}

impl Snapshot {
    /// libvirt's state and reason.
    pub fn state(&self) -> StateReason {
        StateReason::new(self.phase.public(), self.reason)
    }

    /// `virDomainIsPersistent`.
    pub fn persistent(&self) -> bool {
        self.inactive.is_some()
    }

    /// `virDomainIsActive`.
    pub fn active(&self) -> bool {
        self.phase.is_active()
    }

    /// The definition of the present run, else the persistent one.
    pub fn current(&self) -> Option<&Arc<DomainDef>> {
        if self.active() {
            self.live.as_ref().or(self.inactive.as_ref())
        } else {
            self.inactive.as_ref().or(self.live.as_ref())
        }
    }

    /// The definition of the next run.
    pub fn next(&self) -> Option<&Arc<DomainDef>> {
        self.inactive.as_ref().or(self.live.as_ref())
    }

    /// Who an event about this moment is about.
    pub fn domain_id(&self) -> DomainId {
        DomainId { uuid: self.uuid, name: self.name.clone(), id: self.id }
    }

    /// Whether `virConnectListAllDomains` with these flags shows it.
    pub fn matches(&self, flags: u32) -> bool {
        use crate::types::flags::list;
        let any = |bits: &[(u32, bool)]| {
            let asked = bits.iter().fold(0, |all, (bit, _)| all | bit) & flags;
            asked == 0 || bits.iter().any(|(bit, is)| flags & bit != 0 && *is)
        };
        let state = self.phase.public();
        let other = !matches!(state, State::Running | State::Paused | State::Shutoff);
        any(&[(list::ACTIVE, self.active()), (list::INACTIVE, !self.active())])
            && any(&[(list::PERSISTENT, self.persistent()), (list::TRANSIENT, !self.persistent())])
            && any(&[
                (list::RUNNING, state == State::Running),
                (list::PAUSED, state == State::Paused),
                (list::SHUTOFF, state == State::Shutoff),
                (list::OTHER, other),
            ])
            && any(&[(list::MANAGEDSAVE, self.saved.is_some()), (list::NO_MANAGEDSAVE, self.saved.is_none())])
            && any(&[(list::AUTOSTART, self.autostart), (list::NO_AUTOSTART, !self.autostart)])
            && any(&[(list::HAS_SNAPSHOT, !self.moments.is_empty()), (list::NO_SNAPSHOT, self.moments.is_empty())])
            && any(&[(list::HAS_CHECKPOINT, false), (list::NO_CHECKPOINT, true)])
    }
}
