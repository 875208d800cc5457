//! Copying the bytes of one opened file into another, holes as holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::disk::progress::Progress;
use crate::error::{Error, Result};

const PIECE: usize = 1 << 20;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Bytes from the place asked about that are to be read.
    Data(u64),
    /// Bytes that read as zeros and take no place.
    Hole(u64),
}

/// What lies at `at` of a file that is `end` long; `None` at the end. Files that cannot tell are data.
pub fn extent(file: &File, at: u64, end: u64) -> io::Result<Option<Extent>> {
    if at >= end {
        return Ok(None);
    }
    let rest = end - at;
    let found = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) if data > at => Extent::Hole((data - at).min(rest)),
        // No more data.
        Err(Errno::NXIO) => Extent::Hole(rest),
        Ok(_) => match rustix::fs::seek(file, SeekFrom::Hole(at)) {
            Ok(hole) if hole > at => Extent::Data((hole - at).min(rest)),
            _ => Extent::Data(rest),
        },
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Extent::Data(rest),
        Err(errno) => return Err(errno.into()),
    };
    Ok(Some(found))
}

/// Makes `to` share `from`'s blocks (btrfs, xfs ...). Errors: `EOPNOTSUPP`, `EXDEV` ... where that cannot be.
pub fn reflink(from: &File, to: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

/// Copies the first `length` bytes of `from` to the same places of `to`. With `sparse` holes are left out, so `to` must
/// read as zeros there. Errors: code 38 with the names, 78 when cancelled.
pub fn copy(
    (from, from_name): (&File, &str),
    (to, to_name): (&File, &str),
    length: u64,
    sparse: bool,
    progress: &Progress,
) -> Result<()> {
    let cannot_read = |error| Error::system(format!("cannot read from file '{from_name}'"), error);
    let cannot_write = |error| Error::system(format!("cannot write to file '{to_name}'"), error);
    let mut piece = vec![0u8; PIECE];
    let mut at = 0;
    while let Some(extent) = extent(from, at, length).map_err(cannot_read)? {
        let (data, hole) = match extent {
            Extent::Data(bytes) => (bytes, 0),
            Extent::Hole(bytes) if sparse => (0, bytes),
            Extent::Hole(bytes) => (bytes, 0),
        };
        let end = at + data;
        while at < end {
            progress.check()?;
            let want = piece.len().min(usize::try_from(end - at).unwrap_or(PIECE));
            let got = from.read_at(&mut piece[..want], at).map_err(cannot_read)?;
            if got == 0 {
                // Shorter than it was: what is missing reads as zeros.
                return Ok(());
            }
            if !sparse || piece[..got].iter().any(|byte| *byte != 0) {
                to.write_all_at(&piece[..got], at).map_err(cannot_write)?;
            }
            at += got as u64;
            progress.advance(got as u64);
        }
        at += hole;
        progress.advance(hole);
    }
    Ok(())
}

/// Writes zeros over `length` bytes from `at`. Errors as [`copy`].
pub fn zero((file, name): (&File, &str), mut at: u64, length: u64, progress: &Progress) -> Result<()> {
    let piece = vec![0u8; PIECE];
    let end = at + length;
    while at < end {
        progress.check()?;
        let want = piece.len().min(usize::try_from(end - at).unwrap_or(PIECE));
        file.write_all_at(&piece[..want], at)
            .map_err(|error| Error::system(format!("cannot fill file '{name}'"), error))?;
        at += want as u64;
        progress.advance(want as u64);
    }
    Ok(())
}

/// Gives `length` bytes from `at` their place on the disk; they read as zeros where nothing was. File systems that
/// cannot reserve get zeros written, which is for new space only. Errors as [`copy`].
pub fn allocate(target: (&File, &str), at: u64, length: u64, progress: &Progress) -> Result<()> {
    if length == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(target.0, rustix::fs::FallocateFlags::empty(), at, length) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => zero(target, at, length, progress),
        Err(errno) => {
            Err(Error::system(format!("cannot allocate {length} bytes in file '{}'", target.1), errno.into()))
        }
    }
}
