//! New images, made by `qemu-img`. An image appears under its name when it is whole: it is made beside it as
//! `NAME.part` and renamed; on failure nothing is left.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Format, sizes};
use crate::error::{Error, Result};
use crate::sys::exec;

const QEMU_IMG: &str = "/usr/bin/qemu-img";

/// A qcow2 image at `path` over `backing`, as large as that or as `size` bytes say. The backing file's name is stored
/// as an absolute path, with its format. Errors: code 8 for a size below the backing's and for paths that `qemu-img`
/// would read as something else, 9 when `path` exists, 38 when the backing cannot be read, 1 when `qemu-img` fails.
pub async fn create_overlay(path: &Path, backing: &Path, backing_format: Format, size: Option<u64>) -> Result<()> {
    let backing = std::fs::canonicalize(backing)
        .map_err(|error| Error::system(format!("Cannot access storage file '{}'", backing.display()), error))?;
    plain(&backing)?;
    let (below, _, _) = sizes(&backing, backing_format)?;
    let size = size.unwrap_or(below);
    if size < below {
        return Err(Error::invalid_arg(format!(
            "image '{}' would have {size} bytes, less than its backing image '{}' with {below} bytes",
            path.display(),
            backing.display()
        )));
    }
    let mut options: Vec<OsString> =
        ["-f", "qcow2", "-F", backing_format.as_str(), "-b"].iter().map(OsString::from).collect();
    options.push(backing.into());
    make(path, options, size).await
}

/// An empty image of `size` bytes at `path`. Errors: code 9 when `path` exists, 1 when `qemu-img` fails.
pub async fn create(path: &Path, format: Format, size: u64) -> Result<()> {
    make(path, vec!["-f".into(), format.as_str().into()], size).await
}

async fn make(path: &Path, options: Vec<OsString>, size: u64) -> Result<()> {
    plain(path)?;
    if std::fs::symlink_metadata(path).is_ok() {
        return Err(Error::failed(format!("image '{}' exists already", path.display())));
    }
    let mut part = path.as_os_str().to_os_string();
    part.push(".part");
    let part = Part(PathBuf::from(part));
    let mut args: Vec<OsString> = vec!["create".into(), "-q".into()];
    args.extend(options);
    args.extend([part.0.clone().into_os_string(), size.to_string().into()]);
    let limits = exec::Options { timeout: Duration::from_secs(300), ..exec::Options::default() };
    exec::run(Path::new(QEMU_IMG), &args, limits).await?;
    let failed = |errno: rustix::io::Errno| Error::system(format!("cannot name '{}'", path.display()), errno.into());
    // Never over an image that appeared in the meantime.
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(cwd, &part.0, cwd, path, rustix::fs::RenameFlags::NOREPLACE) {
        // Some network file systems do not know the flag.
        Err(rustix::io::Errno::INVAL) => rustix::fs::rename(&part.0, path).map_err(failed),
        other => other.map_err(failed),
    }
}

/// The unfinished image: removed when dropped, also when the future is. After the rename there is none.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // Missing after success, and nothing can be done otherwise: the name says what it is.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `qemu-img` takes `word:...` as a protocol and a leading dash as an option; an absolute path is neither.
fn plain(path: &Path) -> Result<()> {
    if path.is_absolute() && !path.as_os_str().as_bytes().contains(&0) && path.file_name() != Some(OsStr::new("")) {
        return Ok(());
    }
    Err(Error::invalid_arg(format!("image path '{}' must be absolute", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::chain;

    fn installed() -> bool {
        Path::new(QEMU_IMG).exists()
    }

    #[tokio::test]
    async fn an_overlay_of_an_overlay_is_a_chain_we_can_read() {
        if !installed() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        create(&file("base:1"), Format::Raw, 1 << 20).await.unwrap();
        create_overlay(&file("mid"), &file("base:1"), Format::Raw, None).await.unwrap();
        create_overlay(&file("top"), &file("mid"), Format::Qcow2, Some(1 << 21)).await.unwrap();
        let layers = chain::resolve(&file("top"), Format::Qcow2).unwrap();
        let sizes: Vec<_> = layers.iter().map(|layer| (layer.format, layer.virtual_size)).collect();
        let expected = [(Format::Qcow2, 1 << 21), (Format::Qcow2, 1 << 20), (Format::Raw, 1 << 20)];
        assert_eq!(sizes, expected.map(|(format, size)| (format, Some(size))));
        assert_eq!(super::sizes(&file("top"), Format::Qcow2).unwrap().0, 1 << 21);
        let error = create_overlay(&file("small"), &file("top"), Format::Qcow2, Some(1 << 20)).await.unwrap_err();
        assert!(error.message().contains("less than its backing image"), "{error}");
        let error = create(&file("top"), Format::Qcow2, 1).await.unwrap_err();
        assert!(error.message().ends_with("exists already"), "{error}");
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["base:1", "mid", "top"]);
    }

    #[tokio::test]
    async fn a_failure_leaves_nothing() {
        if !installed() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let error = create(&dir.path().join("no/disk"), Format::Qcow2, 1 << 20).await.unwrap_err();
        assert!(error.message().contains("No such file or directory"), "{error}");
        // Larger than qcow2 can be.
        assert!(create(&dir.path().join("disk"), Format::Qcow2, u64::MAX).await.is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(create(Path::new("nbd:x"), Format::Raw, 1).await.unwrap_err().message().contains("must be absolute"));
    }
}
