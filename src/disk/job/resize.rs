//! Changing a volume's size, in place.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{blocking, copy, failed};
use crate::disk::progress::Progress;
use crate::disk::qemu_img::plan::{self, Resize, Secret, Source};
use crate::disk::qemu_img::{Access, Tool};
use crate::disk::{Format, chain};
use crate::error::{Error, Result};
use crate::sys::fault;

/// What a volume is resized to.
#[derive(Debug, Default)]
pub struct Request {
    /// QEMU's name of its format.
    pub format: String,
    /// Bytes.
    pub capacity: u64,
    /// Give the new space its place on the disk.
    pub allocate: bool,
    pub shrink: bool,
    /// The passphrase of an encrypted volume.
    pub secret: Option<Vec<u8>>,
}

/// Resizes the file at `path`. Errors: code 38 (on a full disk the old size stays), 67, 1, 78.
pub async fn resize(tool: &Tool, path: &Path, request: Request, progress: &Arc<Progress>) -> Result<()> {
    let raw = matches!(request.format.as_str(), "raw" | "iso" | "none");
    if raw && request.secret.is_none() {
        let path = path.to_path_buf();
        return blocking(progress, move |progress| resize_raw(&path, &request, progress)).await;
    }
    if request.allocate {
        return Err(Error::unsupported_config(match raw {
            true => "preallocate is only supported for an unencrypted raw volume",
            false => "preallocate is only supported for raw type volume",
        }));
    }
    let mut hand = tool.hand();
    let format = request.format.clone();
    let below = match Format::parse(&format) {
        Some(known) => chain::resolve(path, known)?.split_off(1),
        None => Vec::new(),
    };
    let mut layers = vec![(format.clone(), hand.path(path, Access::Write)?)];
    for layer in &below {
        layers.push((layer.format.as_str().to_string(), hand.path(&layer.path, Access::Read)?));
    }
    let source = match &request.secret {
        Some(value) => {
            let secret = Secret { id: "volume".into(), file: hand.secret(value)? };
            Source::Encrypted { layers, secret }
        }
        None if layers.len() > 1 => Source::Chain(layers),
        None => {
            let (format, file) = layers.swap_remove(0);
            Source::Plain { format, file }
        }
    };
    fault::point("volume.resize").map_err(failed("cannot resize", path))?;
    let options = Resize { shrink: request.shrink, preallocate: false };
    let mut args = plan::resize(&source, request.capacity.next_multiple_of(512), options);
    args.insert(1, "-q".into());
    let length = std::fs::metadata(path).map_err(failed("cannot stat", path))?.len();
    tool.run(&args, hand, request.capacity.max(length), 0, Some(progress.clone())).await
}

fn resize_raw(path: &Path, request: &Request, progress: &Progress) -> Result<()> {
    let name = path.display().to_string();
    let file = File::options().write(true).open(path).map_err(failed("cannot open", path))?;
    let before = file.metadata().map_err(failed("cannot stat", path))?.len();
    fault::point("volume.resize").map_err(failed("cannot resize", path))?;
    if request.allocate && request.capacity > before {
        let grown = request.capacity - before;
        progress.set_total(grown);
        let allocated = reserve(&file, &name, before, grown, progress);
        if allocated.is_err() {
            // Half the space is no success: back to what it was.
            let _ = file.set_len(before);
            return allocated;
        }
    }
    file.set_len(request.capacity).map_err(failed("Failed to truncate file", path))?;
    fault::point("volume.resized").map_err(failed("cannot resize", path))
}

/// Room behind the file's end, which stays where it is: a daemon killed now leaves the volume as long as it was.
fn reserve(file: &File, name: &str, end: u64, length: u64, progress: &Progress) -> Result<()> {
    let failed = |error| Error::system(format!("cannot allocate {length} bytes in file '{name}'"), error);
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, end, length) {
        Ok(()) => progress.set_done(length),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => copy::zero((file, name), end, length, progress)?,
        Err(errno) => return Err(failed(errno.into())),
    }
    fault::point("volume.allocated").map_err(failed)
}
