//! Domain states: libvirt's public numbers, our phases, and the one table of legal transitions.
//!
//! ```text
//!            define                 create                launch ok
//!   (none) ---------> Shutoff ------------> Starting ------------------> Running | Paused
//!                        ^                     |                            |  ^
//!                        |   undo              | fails                      v  |
//!                        +---------------------+                suspend, resume, guest events
//!                        |                                                  |
//!                        +---------------- Stopping <-----------------------+
//!                                  destroy, guest ended
//! ```
//!
//! Owns no lock and does no I/O.

use crate::error::{Error, Result};

/// `virDomainState` numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[repr(i32)]
pub enum State {
    NoState = 0,
    Running = 1,
    Blocked = 2,
    Paused = 3,
    Shutdown = 4,
    Shutoff = 5,
    Crashed = 6,
    PmSuspended = 7,
}

/// A state with libvirt's reason number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StateReason {
    pub state: State,
    pub reason: i32,
}

impl StateReason {
    pub const fn new(state: State, reason: i32) -> Self {
        StateReason { state, reason }
    }
}

/// `virDomainRunningReason`.
pub mod running {
    pub const UNKNOWN: i32 = 0;
    pub const BOOTED: i32 = 1;
    pub const MIGRATED: i32 = 2;
    pub const RESTORED: i32 = 3;
    pub const FROM_SNAPSHOT: i32 = 4;
    pub const UNPAUSED: i32 = 5;
    pub const MIGRATION_CANCELED: i32 = 6;
    pub const SAVE_CANCELED: i32 = 7;
    pub const WAKEUP: i32 = 8;
    pub const CRASHED: i32 = 9;
}

/// `virDomainPausedReason`.
pub mod paused {
    pub const UNKNOWN: i32 = 0;
    pub const USER: i32 = 1;
    pub const MIGRATION: i32 = 2;
    pub const SAVE: i32 = 3;
    pub const DUMP: i32 = 4;
    pub const IOERROR: i32 = 5;
    pub const WATCHDOG: i32 = 6;
    pub const FROM_SNAPSHOT: i32 = 7;
    pub const SHUTTING_DOWN: i32 = 8;
    pub const SNAPSHOT: i32 = 9;
    pub const CRASHED: i32 = 10;
    pub const STARTING_UP: i32 = 11;
}

/// `virDomainShutdownReason`.
pub mod shutdown {
    pub const UNKNOWN: i32 = 0;
    pub const USER: i32 = 1;
}

/// `virDomainShutoffReason`.
pub mod shutoff {
    pub const UNKNOWN: i32 = 0;
    pub const SHUTDOWN: i32 = 1;
    pub const DESTROYED: i32 = 2;
    pub const CRASHED: i32 = 3;
    pub const MIGRATED: i32 = 4;
    pub const SAVED: i32 = 5;
    pub const FAILED: i32 = 6;
    pub const FROM_SNAPSHOT: i32 = 7;
    pub const DAEMON: i32 = 8;
}

/// Where a domain is in its life. Finer than libvirt's public state; see [`Phase::public`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Phase {
    /// Defined, not running.
    Shutoff,
    /// Being built; libvirt shows it as shut off until it runs.
    Starting,
    /// The guest executes.
    Running,
    /// The guest is stopped but exists.
    Paused,
    /// The guest has asked for, or been told of, its end (`VIR_DOMAIN_SHUTDOWN`).
    ShuttingDown,
    /// Suspended to memory by the guest.
    PmSuspended,
    /// The guest panicked and is kept for inspection.
    Crashed,
    /// Being torn down.
    Stopping,
}

impl Phase {
    /// libvirt's number for it.
    pub fn public(self) -> State {
        match self {
            Phase::Shutoff | Phase::Starting => State::Shutoff,
            Phase::Running => State::Running,
            Phase::Paused => State::Paused,
            Phase::ShuttingDown | Phase::Stopping => State::Shutdown,
            Phase::PmSuspended => State::PmSuspended,
            Phase::Crashed => State::Crashed,
        }
    }

    /// Whether a guest exists (`virDomainIsActive`).
    pub fn is_active(self) -> bool {
        !matches!(self, Phase::Shutoff | Phase::Starting)
    }

    /// The word used in messages.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Shutoff => "shut off",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::ShuttingDown => "in shutdown",
            Phase::PmSuspended => "pmsuspended",
            Phase::Crashed => "crashed",
            Phase::Stopping => "being stopped",
        }
    }

    /// Whether `self -> to` is legal. Total: every pair is decided here and nowhere else.
    pub fn may_become(self, to: Phase) -> bool {
        use Phase::*;
        match (self, to) {
            (Shutoff, Starting) => true,
            (Shutoff, _) => false,
            (Starting, Running | Paused | Shutoff) => true,
            (Starting, _) => false,
            (Running | Paused | ShuttingDown | PmSuspended | Crashed, Stopping) => true,
            (Running, Running | Paused | ShuttingDown | PmSuspended | Crashed) => true,
            (Paused, Paused | Running | ShuttingDown | Crashed) => true,
            (ShuttingDown, Running | Paused | ShuttingDown | Crashed) => true,
            (PmSuspended, Running | Paused | ShuttingDown) => true,
            (Crashed, Running | Paused | ShuttingDown) => true,
            (Running | Paused | ShuttingDown | PmSuspended | Crashed, _) => false,
            (Stopping, Shutoff) => true,
            (Stopping, _) => false,
        }
    }

    /// `Err` naming both phases when the transition is illegal.
    pub fn check(self, to: Phase) -> Result<()> {
        if self.may_become(to) {
            Ok(())
        } else {
            Err(Error::internal(format!("a domain that is {} cannot become {}", self.word(), to.word())))
        }
    }
}
