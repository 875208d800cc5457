//! Making a volume's content unreadable.

use std::fs::File;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FallocateFlags;

use super::{blocking, copy, failed};
use crate::disk::progress::Progress;
use crate::error::{Code, Error, Result};
use crate::sys::exec;
use crate::sys::fault;

/// `virStorageVolWipeAlgorithm`; the numbers are these in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Zero,
    Nnsa,
    Dod,
    Bsi,
    Gutmann,
    Schneier,
    Pfitzner7,
    Pfitzner33,
    Random,
    Trim,
}

const ALL: [(Algorithm, &str); 10] = [
    (Algorithm::Zero, "zero"),
    (Algorithm::Nnsa, "nnsa"),
    (Algorithm::Dod, "dod"),
    (Algorithm::Bsi, "bsi"),
    (Algorithm::Gutmann, "gutmann"),
    (Algorithm::Schneier, "schneier"),
    (Algorithm::Pfitzner7, "pfitzner7"),
    (Algorithm::Pfitzner33, "pfitzner33"),
    (Algorithm::Random, "random"),
    (Algorithm::Trim, "trim"),
];

impl Algorithm {
    /// By libvirt's number. Errors: code 8.
    pub fn from_number(number: u32) -> Result<Algorithm> {
        let known = usize::try_from(number).ok().and_then(|index| ALL.get(index));
        known.map(|(algorithm, _)| *algorithm).ok_or_else(|| {
            Error::invalid_arg(format!(
                "wiping algorithm {number} not supported; the numbers are 0 to {}",
                ALL.len() - 1
            ))
        })
    }

    /// libvirt's and scrub's word.
    pub fn name(self) -> &'static str {
        ALL.iter().find(|(algorithm, _)| *algorithm == self).map_or("zero", |(_, name)| name)
    }
}

/// Where `scrub` is looked for.
const SCRUB: [&str; 2] = ["/usr/bin/scrub", "/usr/local/bin/scrub"];

/// Wipes the file or device at `path`. A sparse file becomes one hole, any other gets zeros over all of it. Errors: code 38, 78, 3 without the program that the algorithm needs, 74 for `trim`.
pub async fn wipe(path: &Path, algorithm: Algorithm, progress: &Arc<Progress>) -> Result<()> {
    match algorithm {
        Algorithm::Trim => Err(Error::new(Code::ArgumentUnsupported, "'trim' algorithm not supported")),
        Algorithm::Zero => {
            let path = path.to_path_buf();
            blocking(progress, move |progress| zero(&path, progress)).await
        }
        other => scrub(path, other, progress).await,
    }
}

fn zero(path: &Path, progress: &Progress) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let name = path.display().to_string();
    let mut file =
        File::options().write(true).open(path).map_err(failed("Failed to open storage volume with path", path))?;
    let metadata = file.metadata().map_err(failed("Failed to stat storage volume with path", path))?;
    let device = metadata.file_type().is_block_device();
    let length = match device {
        true => crate::disk::sizes::length(&mut file, &metadata).map_err(failed("cannot read the size of", path))?,
        false => metadata.len(),
    };
    progress.set_total(length);
    fault::point("volume.wipe").map_err(failed("cannot wipe", path))?;
    // As long as it was all the time: a daemon killed here must not leave a volume without its size.
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let sparse = !device && metadata.blocks().saturating_mul(512) < length;
    if sparse && rustix::fs::fallocate(&file, hole, 0, length).is_ok() {
        progress.set_done(length);
    } else {
        copy::zero((&file, &name), 0, length, progress)?;
    }
    fault::point("volume.wiped").map_err(failed("cannot wipe", path))?;
    file.sync_all().map_err(failed("cannot sync data to volume with path", path))
}

async fn scrub(path: &Path, algorithm: Algorithm, progress: &Arc<Progress>) -> Result<()> {
    let Some(program) = SCRUB.iter().map(PathBuf::from).find(|program| program.exists()) else {
        return Err(Error::new(
            Code::NoSupport,
            format!(
                "wiping algorithm '{}' needs the program 'scrub', which is not installed; install it or use 'zero'",
                algorithm.name()
            ),
        ));
    };
    let args = ["-f".into(), "-p".into(), algorithm.name().to_string(), path.display().to_string()];
    let options =
        exec::Options { timeout: Duration::from_secs(7 * 24 * 3600), dies_with_us: true, ..exec::Options::default() };
    tokio::select! {
        result = exec::run(&program, &args, options) => result.map(drop).map_err(Error::from),
        () = progress.cancelled() => Err(Error::new(Code::OperationAborted, "the job was cancelled")),
    }
}
