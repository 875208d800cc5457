//! How large an image is.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::{Format, qcow2};
use crate::error::{Error, Result};

/// What libvirt calls an image's capacity, allocation and physical size (`virDomainGetBlockInfo`), all bytes: what the
/// guest sees, what is really used on the host, and how long the file or device is. Errors: code 38 with the path.
pub fn sizes(path: &Path, format: Format) -> Result<(u64, u64, u64)> {
    let failed = |error: io::Error| Error::system(format!("cannot read the size of '{}'", path.display()), error);
    let (mut file, metadata) = open_image(path).map_err(failed)?;
    let physical = length(&mut file, &metadata).map_err(failed)?;
    // A device is used as a whole.
    let allocation = if metadata.is_file() { metadata.blocks().saturating_mul(512) } else { physical };
    let capacity = match format {
        Format::Raw => physical,
        Format::Qcow2 => qcow2::read(&mut file).map_err(|problem| problem.of(path))?.virtual_size,
    };
    Ok((capacity, allocation, physical))
}

/// Opens an image for reading: regular files and block devices only, so that no pipe or terminal can hold us up.
pub(super) fn open_image(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    // Looked at before it is opened too, as opening alone has effects on some devices.
    image_type(&std::fs::metadata(path)?)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    image_type(&metadata)?;
    Ok((file, metadata))
}

fn image_type(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    Err(match kind.is_dir() {
        true => io::Error::from_raw_os_error(nix::libc::EISDIR),
        false => io::Error::other("it is neither a regular file nor a block device"),
    })
}

/// Length of the file or device in bytes.
pub(super) fn length(file: &mut File, metadata: &Metadata) -> io::Result<u64> {
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    // A block device's stat says 0; its end is where it can be sought to.
    let end = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_file_is_long_but_uses_little() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        File::create(&path).unwrap().set_len(1 << 30).unwrap();
        let (capacity, allocation, physical) = sizes(&path, Format::Raw).unwrap();
        assert_eq!((capacity, physical), (1 << 30, 1 << 30));
        assert!(allocation < 1 << 20);
    }

    #[test]
    fn only_files_and_block_devices() {
        let dir = tempfile::tempdir().unwrap();
        let error = sizes(dir.path(), Format::Raw).unwrap_err();
        assert!(error.message().ends_with("Is a directory"), "{error}");
        assert!(sizes(Path::new("/dev/null"), Format::Raw).unwrap_err().message().contains("neither a regular file"));
        assert!(
            sizes(&dir.path().join("no"), Format::Raw).unwrap_err().message().ends_with("No such file or directory")
        );
    }
}
