//! A volume's bytes, piece by piece: out for a download, in for an upload. Holes can be told apart from data on both
//! ways, so that a large empty image costs neither time nor room.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::copy::{Extent, extent};
use super::failed;
use crate::disk::sizes;
use crate::error::{Error, Result};
use crate::sys::fault;

/// What comes out next.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Data(Vec<u8>),
    /// Bytes that read as zeros.
    Hole(u64),
}

/// A volume being read.
#[derive(Debug)]
pub struct Download {
    file: File,
    name: String,
    at: u64,
    end: u64,
    sparse: bool,
}

impl Download {
    /// From `offset`, `length` bytes or (0) all the rest. Errors: code 38, 8 for an offset behind the end.
    pub fn open(path: &Path, offset: u64, length: u64, sparse: bool) -> Result<Download> {
        let (mut file, metadata) = sizes::open_image(path).map_err(failed("cannot open volume", path))?;
        let size = sizes::length(&mut file, &metadata).map_err(failed("cannot read the size of", path))?;
        let end = if length == 0 { size } else { size.min(offset.saturating_add(length)) };
        if offset > size {
            return Err(Error::invalid_arg(format!(
                "offset {offset} is behind the end of volume '{}', which is {size} bytes long",
                path.display()
            )));
        }
        Ok(Download { file, name: path.display().to_string(), at: offset, end, sparse })
    }

    /// Bytes still to come.
    pub fn rest(&self) -> u64 {
        self.end - self.at
    }

    /// The next piece, of at most `most` bytes of data; `None` at the end. Holes only for a sparse download.
    pub fn next(&mut self, most: usize) -> Result<Option<Piece>> {
        let failed = |error: io::Error| Error::system(format!("cannot read from file '{}'", self.name), error);
        if self.at >= self.end {
            return Ok(None);
        }
        let mut most = most as u64;
        if self.sparse {
            match extent(&self.file, self.at, self.end).map_err(failed)? {
                Some(Extent::Hole(length)) => {
                    self.at += length;
                    return Ok(Some(Piece::Hole(length)));
                }
                Some(Extent::Data(length)) => most = most.min(length),
                None => return Ok(None),
            }
        }
        let want = usize::try_from(most.min(self.end - self.at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; want];
        let got = self.file.read_at(&mut bytes, self.at).map_err(failed)?;
        if got == 0 {
            // It has shrunk under us.
            self.end = self.at;
            return Ok(None);
        }
        bytes.truncate(got);
        self.at += got as u64;
        Ok(Some(Piece::Data(bytes)))
    }
}

/// A volume being written, in place: it exists, and what is not sent stays as it is, its length too until the end.
#[derive(Debug)]
pub struct Upload {
    file: File,
    name: String,
    at: u64,
    end: u64,
    device: bool,
    /// The length it goes back to when the upload ends before its end; `None` once it has.
    former: Option<u64>,
}

/// An upload that fails or whose client goes leaves no part of itself behind the volume's end, nor a full disk.
impl Drop for Upload {
    fn drop(&mut self) {
        let Some(former) = self.former.filter(|_| !self.device) else { return };
        if self.file.metadata().is_ok_and(|metadata| metadata.len() > former)
            && let Err(error) = self.file.set_len(former)
        {
            tracing::warn!(file = self.name, %error, "an unfinished upload stays behind the former end of the volume");
        }
    }
}

impl Upload {
    /// From `offset`, at most `length` bytes or (0) any number. Errors: code 38.
    pub fn open(path: &Path, offset: u64, length: u64) -> Result<Upload> {
        // Looked at as an image first: no pipe, no terminal.
        let (_, metadata) = sizes::open_image(path).map_err(failed("cannot open volume", path))?;
        let file = File::options().write(true).open(path).map_err(failed("cannot open volume", path))?;
        let end = if length == 0 { u64::MAX } else { offset.saturating_add(length) };
        let (name, former) = (path.display().to_string(), Some(metadata.len()));
        Ok(Upload { file, name, at: offset, end, device: !metadata.is_file(), former })
    }

    /// Writes bytes at the present place. Errors: code 38 (full disk), 8 for more than was announced.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.room(bytes.len() as u64)?;
        fault::point("volume.upload").map_err(|error| self.cannot_write(error))?;
        self.file.write_all_at(bytes, self.at).map_err(|error| self.cannot_write(error))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Makes the next `length` bytes a hole. Errors as [`Upload::data`].
    pub fn hole(&mut self, length: u64) -> Result<()> {
        self.room(length)?;
        let end = self.at + length;
        if self.device {
            self.zero(length)?;
        } else {
            let size = self.file.metadata().map_err(|error| self.cannot_write(error))?.len();
            let inside = size.min(end).saturating_sub(self.at);
            if inside > 0 {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                match rustix::fs::fallocate(&self.file, flags, self.at, inside) {
                    Ok(()) => {}
                    Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.zero(inside)?,
                    Err(errno) => return Err(self.cannot_write(errno.into())),
                }
            }
            if end > size {
                self.file.set_len(end).map_err(|error| self.cannot_write(error))?;
            }
        }
        self.at = end;
        Ok(())
    }

    /// Everything is on the disk. Errors: code 38.
    pub fn finish(mut self) -> Result<()> {
        fault::point("volume.uploaded").map_err(|error| self.cannot_write(error))?;
        self.file.sync_all().map_err(|error| self.cannot_write(error))?;
        self.former = None;
        Ok(())
    }

    fn zero(&self, length: u64) -> Result<()> {
        let zeros = vec![0; 1 << 20];
        let end = self.at + length;
        let mut at = self.at;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(zeros.len()).min(zeros.len());
            self.file.write_all_at(&zeros[..want], at).map_err(|error| self.cannot_write(error))?;
            at += want as u64;
        }
        Ok(())
    }

    fn room(&self, length: u64) -> Result<()> {
        match self.at.checked_add(length) {
            Some(end) if end <= self.end && i64::try_from(end).is_ok() => Ok(()),
            _ => Err(Error::invalid_arg(format!(
                "more bytes were sent for volume '{}' than the length that was announced",
                self.name
            ))),
        }
    }

    fn cannot_write(&self, error: io::Error) -> Error {
        Error::system(format!("cannot write to file '{}'", self.name), error)
    }
}
