//! Jobs and admission: which call may run now, given the domain's phase and the job that runs. Pure.
//!
//! At most one job changes a domain at a time; another changing call waits its turn, at most [`WAIT`]. Exceptions are
//! an explicit mask here: destroy runs beside any job but another stop, and takes a running start down with it.

use std::time::Duration;

use super::super::state::{Phase, paused};
use crate::error::{Code, Error};

/// How long a call waits for a running job, as libvirt does (`QEMU_JOB_WAIT_TIME`).
pub const WAIT: Duration = Duration::from_secs(30);

/// What a changing call wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobKind {
    Start,
    Suspend,
    Resume,
    Shutdown,
    Reboot,
    Reset,
    Destroy,
    /// The guest ended by itself and is being cleaned up after.
    Ending,
    Define,
    Undefine,
    Rename,
    Autostart,
    /// A setting or device of the guest, of the definition, or of both.
    Modify,
    /// The present moment is kept.
    Snapshot,
    /// What is known of former moments changes.
    Moments,
    /// Back to a former moment: ends the guest, if there is one, then perhaps starts it.
    Revert,
    /// The guest's state is kept for the next start, and the guest ends.
    Save,
}

impl JobKind {
    /// The word used in messages.
    pub fn word(self) -> &'static str {
        match self {
            JobKind::Start => "start",
            JobKind::Suspend => "suspend",
            JobKind::Resume => "resume",
            JobKind::Shutdown => "shutdown",
            JobKind::Reboot => "reboot",
            JobKind::Reset => "reset",
            JobKind::Destroy => "destroy",
            JobKind::Ending => "clean-up",
            JobKind::Define => "define",
            JobKind::Undefine => "undefine",
            JobKind::Rename => "rename",
            JobKind::Autostart => "autostart",
            JobKind::Modify => "modify",
            JobKind::Snapshot => "snapshot",
            JobKind::Moments => "snapshot change",
            JobKind::Revert => "revert",
            JobKind::Save => "save",
        }
    }

    /// Whether this job takes the domain to shut off.
    pub fn stops(self) -> bool {
        matches!(self, JobKind::Destroy | JobKind::Ending | JobKind::Revert)
    }

    /// Changes the persistent definition or its marks only, and needs no turn.
    fn definition_only(self) -> bool {
        matches!(self, JobKind::Define | JobKind::Autostart)
    }
}

/// What admission decides.
#[derive(Debug)]
pub enum Decision {
    /// Run it now.
    Run,
    /// Nothing to do: it is already so.
    Done,
    /// Queue it behind the running job.
    Wait,
    /// Cancel the running start, then decide again.
    CancelStart,
    /// The state does not allow it.
    Refuse(Error),
}

/// Whether `kind` may run on a domain in `phase` (with libvirt's `reason` number) while `running` runs.
pub fn admit(kind: JobKind, phase: Phase, reason: i32, running: Option<JobKind>) -> Decision {
    if kind.definition_only() {
        // A change writes the definition from the one it began with.
        return if running == Some(JobKind::Modify) { Decision::Wait } else { Decision::Run };
    }
    match running {
        Some(job) if job.stops() => return Decision::Wait,
        Some(JobKind::Start) if kind == JobKind::Destroy => return Decision::CancelStart,
        Some(_) if kind.stops() && kind != JobKind::Revert => {}
        Some(_) => return Decision::Wait,
        None => {}
    }
    let refuse = |text: &str| Decision::Refuse(Error::invalid_state(text));
    match kind {
        JobKind::Start => match phase {
            Phase::Shutoff => Decision::Run,
            _ => refuse("domain is already running"),
        },
        JobKind::Rename => match phase {
            Phase::Shutoff => Decision::Run,
            _ => refuse("cannot rename active domain"),
        },
        JobKind::Undefine
        | JobKind::Define
        | JobKind::Autostart
        | JobKind::Modify
        | JobKind::Snapshot
        | JobKind::Moments
        | JobKind::Revert => Decision::Run,
        _ if !phase.is_active() => refuse("domain is not running"),
        JobKind::Suspend => match phase {
            Phase::Paused => Decision::Done,
            Phase::PmSuspended => refuse("domain is pmsuspended"),
            _ => Decision::Run,
        },
        JobKind::Resume => match phase {
            Phase::Running => refuse("domain is already running"),
            Phase::PmSuspended => refuse("domain is pmsuspended"),
            Phase::Paused if reason == paused::STARTING_UP => Decision::Wait,
            _ => Decision::Run,
        },
        JobKind::Shutdown | JobKind::Reboot | JobKind::Reset | JobKind::Destroy | JobKind::Ending | JobKind::Save => {
            Decision::Run
        }
    }
}

/// The error of a call that waited too long: names the job that holds the domain, its age, and what helps.
pub fn busy(name: &str, holder: JobKind, age: Duration) -> Error {
    let word = holder.word();
    Error::new(
        Code::OperationTimeout,
        format!(
            "cannot acquire state change lock (held by {word} of domain '{name}' for {}s; 'destroy' ends it)",
            age.as_secs()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const PHASES: [Phase; 8] = [
        Phase::Shutoff,
        Phase::Starting,
        Phase::Running,
        Phase::Paused,
        Phase::ShuttingDown,
        Phase::PmSuspended,
        Phase::Crashed,
        Phase::Stopping,
    ];

    fn word(decision: &Decision) -> String {
        match decision {
            Decision::Refuse(error) => error.detail.clone(),
            other => format!("{other:?}"),
        }
    }

    #[rstest]
    #[case(JobKind::Start, Phase::Shutoff, None, "Run")]
    #[case(JobKind::Start, Phase::Running, None, "domain is already running")]
    #[case(JobKind::Start, Phase::Starting, Some(JobKind::Start), "Wait")]
    #[case(JobKind::Destroy, Phase::Starting, Some(JobKind::Start), "CancelStart")]
    #[case(JobKind::Destroy, Phase::Running, Some(JobKind::Suspend), "Run")]
    #[case(JobKind::Destroy, Phase::Stopping, Some(JobKind::Destroy), "Wait")]
    #[case(JobKind::Destroy, Phase::Shutoff, None, "domain is not running")]
    #[case(JobKind::Ending, Phase::Running, Some(JobKind::Reboot), "Run")]
    #[case(JobKind::Suspend, Phase::Paused, None, "Done")]
    #[case(JobKind::Suspend, Phase::Running, Some(JobKind::Reset), "Wait")]
    #[case(JobKind::Resume, Phase::Running, None, "domain is already running")]
    #[case(JobKind::Resume, Phase::PmSuspended, None, "domain is pmsuspended")]
    #[case(JobKind::Shutdown, Phase::Shutoff, None, "domain is not running")]
    #[case(JobKind::Rename, Phase::Paused, None, "cannot rename active domain")]
    #[case(JobKind::Define, Phase::Running, Some(JobKind::Start), "Run")]
    #[case(JobKind::Define, Phase::Running, Some(JobKind::Modify), "Wait")]
    #[case(JobKind::Modify, Phase::Shutoff, None, "Run")]
    #[case(JobKind::Modify, Phase::Starting, Some(JobKind::Start), "Wait")]
    #[case(JobKind::Destroy, Phase::Running, Some(JobKind::Modify), "Run")]
    fn decisions(#[case] kind: JobKind, #[case] phase: Phase, #[case] running: Option<JobKind>, #[case] expect: &str) {
        assert_eq!(word(&admit(kind, phase, 0, running)), expect);
    }

    #[test]
    fn destroy_is_never_kept_waiting_by_anything_but_a_stop() {
        for phase in PHASES {
            for job in
                [JobKind::Start, JobKind::Suspend, JobKind::Resume, JobKind::Shutdown, JobKind::Reboot, JobKind::Reset]
            {
                assert!(!matches!(admit(JobKind::Destroy, phase, 0, Some(job)), Decision::Wait), "{phase:?} {job:?}");
            }
        }
    }

    #[test]
    fn busy_names_the_holder_and_the_way_out() {
        let error = busy("d", JobKind::Reboot, Duration::from_secs(31));
        assert_eq!(error.code, Code::OperationTimeout);
        assert!(error.detail.contains("held by reboot of domain 'd' for 31s"), "{}", error.detail);
    }
}
