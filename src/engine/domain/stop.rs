//! The stop job: ends what still runs of a guest, then takes its resources away by the undo record.

use std::sync::Arc;

use super::super::cleanup::fault_point;
use super::super::driver::Instance;
use super::super::record::RunFile;
use super::super::runtime::DriverRuntime;
use super::super::state::Phase;
use super::Outcome;
use crate::error::Error;

/// What a stop job works on.
#[derive(Debug)]
pub(super) struct StopJob {
    pub runtime: Arc<DriverRuntime>,
    pub name: String,
    pub instance: Arc<dyn Instance>,
    pub file: RunFile,
    /// Shut-off reason when it succeeds.
    pub reason: i32,
    /// SIGTERM only, and an error when the guest does not obey.
    pub graceful: bool,
}

impl StopJob {
    pub async fn run(self) -> Outcome {
        let reason = self.reason;
        // From here on a restarted daemon finishes the stop instead of adopting the guest.
        let noted = self
            .file
            .update(false, move |record| {
                record.phase = Phase::Stopping;
                record.reason = reason;
            })
            .await;
        if let Err(error) = noted {
            // A full disk must not keep a guest alive that somebody wants gone.
            tracing::error!(domain = %self.name, %error, "cannot note the stop in the status record");
        }
        if let Err(error) = fault_point("stop.note") {
            return Outcome::StopFailed(error);
        }
        if let Err(error) = self.instance.kill(self.graceful).await {
            return Outcome::StopFailed(error);
        }
        if let Err(error) = fault_point("stop.killed") {
            tracing::warn!(%error, "fault point");
        }
        self.undo().await;
        Outcome::Stopped { reason: self.reason }
    }

    async fn undo(&self) {
        let record = self.file.get().await;
        let errors = self.runtime.cleaner().undo(self.runtime.driver(), &record.undo).await;
        if let Err(error) = fault_point("stop.undo") {
            tracing::warn!(%error, "fault point");
        }
        report(&self.name, &errors);
        // With something left the record stays: the next daemon start tries again.
        if errors.is_empty()
            && let Err(error) = self.file.remove().await
        {
            tracing::error!(domain = %self.name, %error, "cannot remove the status record");
        }
    }
}

fn report(name: &str, errors: &[Error]) {
    for error in errors {
        tracing::error!(domain = %name, %error, "stop left something behind; the next daemon start tries again");
    }
}
