//! Work on volumes that takes time: create, copy, resize, wipe, delete, and moving bytes in and out.
//!
//! ```text
//! part file under a name of its own, locked ── filled ── synced, owner and mode ── renamed to the volume's name
//!        └────────── error, cancel, drop: removed; the daemon killed: removed by the next sweep ┘
//! ```
//!
//! So a volume appears when it is whole, and never over something that has its name. Knows files and devices, no pools
//! and no guests: who uses a volume is the engine's to ask.

pub mod copy;
pub mod create;
pub mod definition;
pub mod part;
pub mod resize;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod wipe;

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::progress::Progress;
use crate::error::{Error, Result};

/// Runs `work` on a thread of its own. Dropping the future cancels it; it then ends soon, and cleans up behind itself.
pub async fn blocking<T: Send + 'static>(
    progress: &Arc<Progress>,
    work: impl FnOnce(&Progress) -> Result<T> + Send + 'static,
) -> Result<T> {
    struct CancelOnDrop(Option<Arc<Progress>>);
    impl Drop for CancelOnDrop {
        fn drop(&mut self) {
            if let Some(progress) = self.0.take() {
                progress.cancel();
            }
        }
    }
    let mut guard = CancelOnDrop(Some(progress.clone()));
    let shared = progress.clone();
    let result = tokio::task::spawn_blocking(move || work(&shared)).await;
    guard.0 = None;
    result.map_err(|error| Error::internal("a volume job died").with_source(error))?
}

fn failed(what: &str, path: &Path) -> impl Fn(io::Error) -> Error {
    let text = format!("{what} '{}'", path.display());
    move |error| Error::system(&text, error)
}

/// Removes a volume: a file, or the directory of a directory volume when it is empty. A file that is gone is no error.
/// Errors: code 38.
pub fn delete(path: &Path, directory: bool) -> Result<()> {
    crate::sys::fault::point("volume.delete").map_err(failed("cannot unlink file", path))?;
    let result = if directory { std::fs::remove_dir(path) } else { std::fs::remove_file(path) };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other if directory => other.map_err(failed("cannot remove directory", path)),
        other => other.map_err(failed("cannot unlink file", path)),
    }
}
