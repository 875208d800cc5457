//! The start job: from a definition to a running guest, or back to nothing.

use std::path::Path;
use std::sync::Arc;

use super::super::cleanup::fault_point;
use super::super::driver::StartRequest;
use super::super::network;
use super::super::record::{Record, RunFile, VERSION};
use super::super::runtime::DriverRuntime;
use super::super::secret;
use super::super::state::Phase;
use super::super::storage;
use super::super::undo::Step;
use super::{How, Outcome, StartedRun};
use crate::domain_xml::{self, DomainDef, FormatOptions};
use crate::error::{Error, Result};
use crate::types::{Uuid, flags};

/// What a start job works on.
#[derive(Debug)]
pub(super) struct StartJob {
    pub runtime: Arc<DriverRuntime>,
    pub uuid: Uuid,
    pub name: String,
    pub def: Arc<DomainDef>,
    pub persistent: bool,
    pub how: How,
}

impl StartJob {
    /// Runs the job; `cancel` resolving takes the start down (destroy wins against a start that hangs).
    pub async fn run(self, cancel: tokio::sync::oneshot::Receiver<()>) -> Outcome {
        let (file, request) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(error) => return Outcome::StartFailed(error),
        };
        let built = tokio::select! {
            built = self.build(&file, request) => built,
            _ = cancel => Err(Error::new(
                crate::error::Code::OperationAborted,
                format!("the start of domain '{}' was ended by destroy", self.name),
            )),
        };
        match built {
            Ok(started) => Outcome::Started(Box::new(started)),
            Err(error) => {
                let record = file.close().await;
                let left = self.runtime.cleaner().undo(self.runtime.driver(), &record.undo).await;
                for problem in &left {
                    tracing::error!(domain = %self.name, error = %problem, "failed start left something behind");
                }
                if left.is_empty()
                    && let Err(problem) = file.remove().await
                {
                    tracing::error!(domain = %self.name, error = %problem, "cannot remove the status record");
                }
                Outcome::StartFailed(error)
            }
        }
    }

    /// The record, which comes on disk before anything exists, and what the driver is asked.
    fn prepare(&self) -> Result<(RunFile, StartRequest)> {
        let id = self.runtime.next_id()?;
        let run_id = self.runtime.new_run_id(id);
        let run_dir = self.runtime.dirs().runs.join(&run_id);
        let record = Record {
            version: VERSION,
            driver: self.runtime.kind(),
            uuid: self.uuid,
            name: self.name.clone(),
            id,
            run_id: run_id.clone(),
            run_dir: run_dir.clone(),
            boot_id: self.runtime.boot_id().to_string(),
            phase: Phase::Starting,
            reason: 0,
            persistent: self.persistent,
            autodestroy: self.how.flags & flags::create::AUTODESTROY != 0,
            live_xml: domain_xml::format(&self.def, FormatOptions { secure: true, ..Default::default() }),
            state: serde_json::Value::Null,
            undo: vec![Step::Dir { path: run_dir.clone() }],
        };
        let request = StartRequest {
            def: self.def.clone(),
            id,
            run_id,
            run_dir: run_dir.clone(),
            log_dir: self.runtime.dirs().logs.clone(),
            secrets: Default::default(),
            paused: self.how.flags & flags::create::PAUSED != 0,
            files: self.how.files.clone(),
        };
        Ok((RunFile::begin(record, self.runtime.persist().clone(), move || make_run_dir(&run_dir)), request))
    }

    async fn build(&self, file: &RunFile, mut request: StartRequest) -> Result<StartedRun> {
        let (host, id) = (self.runtime.host(), request.id);
        network::check_interfaces(host, &request.def)?;
        if network::uses_networks(&request.def) {
            network::plug(host, Arc::make_mut(&mut request.def), file).await?;
        }
        fault_point("start.networks")?;
        storage::resolve(host, &mut request.def)?;
        let held = storage::hold(host, &request.def)?;
        request.secrets = secret::gather(host, &request.def)?;
        let launched = self.runtime.driver().launch(request, file).await?;
        network::register(host, &launched.live);
        network::limit(host, &launched.live).await?;
        let live_xml = domain_xml::format(&launched.live, FormatOptions { secure: true, ..Default::default() });
        let (phase, reason, state) = (launched.phase, launched.reason, launched.state.clone());
        // Before "running" is announced: a daemon killed after this line adopts the guest, before it, undoes it.
        file.update(false, move |record| {
            record.phase = phase;
            record.reason = reason;
            record.live_xml = live_xml;
            record.state = state;
        })
        .await?;
        fault_point("start.status")?;
        Ok(StartedRun { id, launched, file: file.clone(), held })
    }
}

fn make_run_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fault_point("start.undo")?;
    std::fs::DirBuilder::new()
        .mode(0o711)
        .create(path)
        .map_err(|error| Error::system(format!("cannot create directory '{}'", path.display()), error))?;
    fault_point("start.dir")
}
