//! What a start makes, as data, and how each piece is taken away.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::nft::{self, TableName};
use super::programs::Programs;
use super::{foreign, server};
use crate::error::{Error, Result, Subsystem};
use crate::net::bridge::{self, BridgeMark};

/// One thing to take back. Harmless when it never came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Step {
    /// The run directory of the network, removed with all in it.
    Dir { path: PathBuf },
    /// Firewall tables of the network.
    Tables { tables: Vec<TableName> },
    /// Our rules for this bridge in docker's chain.
    Docker { bridge: String },
    /// The bridge; its addresses, routes and limits go with it.
    Bridge { mark: BridgeMark },
    /// The dnsmasq that wrote `pidfile`.
    Server { pidfile: PathBuf },
}

/// Where steps are written.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Appends steps to the record on disk and returns when they are there.
    async fn record(&self, steps: &[Step]) -> Result<()>;

    /// A failed start took back everything it had made: the record may go.
    async fn clean(&self) {}
}

/// Takes back steps, the last first, past errors. `root`: directory that every path of a step must lie in, for a record
/// is read again as untrusted. An empty list means nothing is left.
pub async fn undo(steps: &[Step], programs: &Programs, root: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for step in steps.iter().rev() {
        if let Err(error) = undo_one(step, programs, root).await {
            tracing::warn!(?step, %error, "undo step of a network failed");
            errors.push(error);
        }
    }
    errors
}

async fn undo_one(step: &Step, programs: &Programs, root: &Path) -> Result<()> {
    match step {
        Step::Dir { path } => {
            inside(path, root)?;
            match std::fs::remove_dir_all(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::system(format!("cannot remove '{}'", path.display()), error)
                        .with_subsystem(Subsystem::Network))
                }
                _ => Ok(()),
            }
        }
        Step::Tables { tables } => match programs.nft_found() {
            // Without nft there never were any, or they cannot be removed anyhow.
            None => Ok(()),
            Some(nft) => nft::delete(&nft, tables).await,
        },
        Step::Docker { bridge } => match programs.nft_found() {
            None => Ok(()),
            Some(nft) => foreign::leave_docker(&nft, &nft::foreign(&nft).await?, bridge).await,
        },
        Step::Bridge { mark } => bridge::remove(mark).await.map(drop),
        Step::Server { pidfile } => {
            inside(pidfile, root)?;
            server::stop(pidfile).await
        }
    }
}

fn inside(path: &Path, root: &Path) -> Result<()> {
    let climbs = path.components().any(|part| matches!(part, std::path::Component::ParentDir));
    if path.starts_with(root) && path != root && !climbs {
        return Ok(());
    }
    Err(Error::internal(format!("undo record names '{}', which is not below '{}'", path.display(), root.display())))
}
