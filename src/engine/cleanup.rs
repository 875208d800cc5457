//! Carries out undo steps: the one path by which anything of a run is taken away, after a stop, a failed start or a
//! crash of the daemon. Goes on past errors and reports all of them.

use std::path::Path;
use std::sync::Arc;

use super::driver::Driver;
use super::host::HostObjects;
use super::undo::Step;
use crate::error::{Error, Result};
use crate::{cgroup, disk, net, sys};

/// What undoing needs besides the steps.
#[derive(Clone, Debug)]
pub struct Cleaner {
    pub cgroups: Arc<cgroup::Manager>,
    /// Directories a `Step::Dir` or `Step::File` may lie in; anything else is refused.
    pub roots: Vec<std::path::PathBuf>,
    /// Whose networks' ports are given back.
    pub host: Option<Arc<HostObjects>>,
}

impl Cleaner {
    /// Undoes `steps` in reverse. Returns the errors; an empty list means nothing is left.
    pub async fn undo(&self, driver: &dyn Driver, steps: &[Step]) -> Vec<Error> {
        let mut errors = Vec::new();
        for step in steps.iter().rev() {
            if let Err(error) = self.undo_one(driver, step).await {
                tracing::warn!(?step, %error, "undo step failed");
                errors.push(error);
            }
        }
        errors
    }

    async fn undo_one(&self, driver: &dyn Driver, step: &Step) -> Result<()> {
        match step {
            Step::Dir { path } => {
                self.inside(path)?;
                blocking(path.clone(), |path| ignore_missing(std::fs::remove_dir_all(path))).await
            }
            Step::File { path } => {
                self.inside(path)?;
                blocking(path.clone(), |path| ignore_missing(std::fs::remove_file(path))).await
            }
            Step::Process { pidfile } => sys::process::kill_recorded(pidfile)
                .await
                .map_err(|error| Error::system(format!("cannot end the process of '{}'", pidfile.display()), error)),
            Step::Link { name, alias } => net::link::remove_if_ours(name, alias.as_deref()).await,
            Step::Owner { path, uid, gid } => {
                let (path, uid, gid) = (path.clone(), *uid, *gid);
                run_blocking(move || disk::owner::restore(&path, uid, gid)).await
            }
            Step::Cgroup { path } => {
                let (manager, path) = (self.cgroups.clone(), path.clone());
                run_blocking(move || manager.kill_and_remove(&path)).await
            }
            Step::NetworkPort { network, port } => {
                if let Some(host) = &self.host {
                    host.ports.release(*network, *port);
                }
                Ok(())
            }
            Step::Driver { data } => driver.undo(data).await,
        }
    }

    /// A record is re-read as untrusted: it may only name paths below the daemon's own directories.
    fn inside(&self, path: &Path) -> Result<()> {
        let clean =
            path.is_absolute() && path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
        if clean && self.roots.iter().any(|root| path.starts_with(root) && path != root) {
            return Ok(());
        }
        Err(Error::internal(format!(
            "undo record names '{}', which is not below the daemon's directories",
            path.display()
        )))
    }
}

fn ignore_missing(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

async fn blocking(path: std::path::PathBuf, act: fn(&Path) -> std::io::Result<()>) -> Result<()> {
    run_blocking(move || {
        act(&path).map_err(|error| Error::system(format!("cannot remove '{}'", path.display()), error))
    })
    .await
}

/// Passes the fault point `name`; see [`sys::fault`].
pub fn fault_point(name: &str) -> Result<()> {
    sys::fault::point(name).map_err(|error| Error::internal(format!("fault point '{name}' failed")).with_source(error))
}

/// Runs blocking work off the runtime's threads.
pub async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal("a worker thread panicked").with_source(error)),
    }
}
