//! Backing chains, read from the overlays' headers when the domain's XML does not list them. Opens the images for
//! reading only, follows local files only, and never guesses a format.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Format, qcow2, sizes};
use crate::error::{Code, Error, Result};
use crate::types::text::printable;

/// libvirt's limit for the length of a chain.
const MAX_DEPTH: usize = 200;

/// One image of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub path: PathBuf,
    pub format: Format,
    /// Bytes the guest sees; of a raw image its length.
    pub virtual_size: Option<u64>,
}

/// The chain below and with `top`, which comes first. Errors: code 38 when an image cannot be opened, 55 when a
/// backing file's format is not stored, 67 for what is not supported (protocols, other formats, external data files),
/// 1 for damaged headers, loops, and chains of more than 200 images.
pub fn resolve(top: &Path, format: Format) -> Result<Vec<Layer>> {
    let mut layers: Vec<Layer> = Vec::new();
    let mut seen = Vec::new();
    let mut next = Some((top.to_path_buf(), format));
    while let Some((path, format)) = next.take() {
        if layers.len() == MAX_DEPTH {
            return Err(Error::internal(format!(
                "backing chain of image '{}' is longer than {MAX_DEPTH} images",
                top.display()
            )));
        }
        let overlay = layers.last().map(|layer| layer.path.as_path());
        let (mut file, metadata) =
            sizes::open_image(&path).map_err(|error| unreachable_image(&path, overlay, error))?;
        let identity = (metadata.dev(), metadata.ino());
        if seen.contains(&identity) {
            let overlay = overlay.unwrap_or(top).display();
            return Err(Error::internal(format!(
                "backing store for {overlay} ({}) is self-referential",
                path.display()
            )));
        }
        seen.push(identity);
        let virtual_size = match format {
            Format::Raw => {
                let failed = |error| Error::system(format!("cannot read the size of '{}'", path.display()), error);
                sizes::length(&mut file, &metadata).map_err(failed)?
            }
            Format::Qcow2 => {
                let header = qcow2::read(&mut file).map_err(|problem| problem.of(&path))?;
                next = below(&path, &header)?;
                header.virtual_size
            }
        };
        layers.push(Layer { path, format, virtual_size: Some(virtual_size) });
    }
    Ok(layers)
}

/// The backing file that an overlay's header names, and its format.
fn below(overlay: &Path, header: &qcow2::Header) -> Result<Option<(PathBuf, Format)>> {
    let image = overlay.display();
    if header.data_file.is_some() {
        return Err(Error::unsupported_config(format!(
            "image '{image}' keeps its data in an external data file, which is not supported; \
             convert it with 'qemu-img convert -O qcow2 {image} NEW'"
        )));
    }
    let Some(name) = &header.backing_file else { return Ok(None) };
    let backing = local_path(overlay, name)?;
    let Some(stored) = &header.backing_format else {
        let name = printable(&String::from_utf8_lossy(name), 1023);
        return Err(Error::new(
            Code::OperationInvalid,
            format!(
                "format of backing image '{name}' of image '{image}' was not specified in the image metadata (See \
                 https://libvirt.org/kbase/backing_chains.html for troubleshooting); store it with \
                 'qemu-img rebase -u -F raw|qcow2 -b {name} {image}', with the format the backing image really has"
            ),
        ));
    };
    let format = Format::parse(stored).ok_or_else(|| {
        Error::unsupported_config(format!(
            "backing image '{}' of image '{image}' has format '{}'; raw and qcow2 are supported",
            backing.display(),
            printable(stored, 64)
        ))
    })?;
    Ok(Some((backing, format)))
}

/// The path a backing file's name stands for: relative to the overlay's directory. Names of other kinds (`json:`,
/// `nbd:`) are told by a colon before the first slash, as QEMU does.
fn local_path(overlay: &Path, name: &[u8]) -> Result<PathBuf> {
    let image = overlay.display();
    let shown = || printable(&String::from_utf8_lossy(name), 1023);
    let file = name.strip_prefix(b"file:").unwrap_or(name);
    let colon = file.iter().take_while(|byte| **byte != b'/').any(|byte| *byte == b':');
    if colon {
        return Err(Error::unsupported_config(format!(
            "backing image '{}' of image '{image}' is not a local file, which is not supported; \
             name a file with 'qemu-img rebase -u -F FORMAT -b FILE {image}'",
            shown()
        )));
    }
    if file.is_empty() || file.contains(&0) {
        return Err(Error::internal(format!("image '{image}': backing file name '{}' is no file name", shown())));
    }
    let directory = overlay.parent().unwrap_or(Path::new("/"));
    Ok(directory.join(OsStr::from_bytes(file)))
}

/// libvirt's text for an image that cannot be opened.
fn unreachable_image(path: &Path, overlay: Option<&Path>, error: std::io::Error) -> Error {
    let path = path.display();
    match overlay {
        None => Error::system(format!("Cannot access storage file '{path}'"), error),
        Some(overlay) => {
            Error::system(format!("Cannot access backing file '{path}' of storage file '{}'", overlay.display()), error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::qcow2::tests::{craft, put};
    use std::fs::File;
    use std::io::Write;

    const FORMAT: u32 = 0xE279_2ACA;

    fn write(path: &Path, bytes: &[u8]) {
        File::create(path).unwrap().write_all(bytes).unwrap();
    }

    fn overlay(path: &Path, backing: &str, format: Option<&str>) {
        let extensions: Vec<(u32, &[u8])> = format.iter().map(|format| (FORMAT, format.as_bytes())).collect();
        write(path, &craft(&extensions, Some(backing.as_bytes())));
    }

    #[test]
    fn three_layers_with_relative_names() {
        let dir = tempfile::tempdir().unwrap();
        let (top, base) = (dir.path().join("top"), dir.path().join("base/base.img"));
        std::fs::create_dir(dir.path().join("base")).unwrap();
        write(&base, &[0; 4096]);
        overlay(&dir.path().join("base/mid"), "base.img", Some("raw"));
        overlay(&top, "base/mid", Some("qcow2"));
        let layers = resolve(&top, Format::Qcow2).unwrap();
        let layer = |path: PathBuf, format, size| Layer { path, format, virtual_size: Some(size) };
        let mid = layer(dir.path().join("base/mid"), Format::Qcow2, 1 << 30);
        assert_eq!(layers, [layer(top, Format::Qcow2, 1 << 30), mid, layer(base, Format::Raw, 4096)]);
    }

    #[test]
    fn a_raw_image_ends_the_chain_whatever_a_guest_wrote_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        overlay(&top, "/etc/shadow", Some("raw"));
        assert_eq!(resolve(&top, Format::Raw).unwrap().len(), 1);
    }

    #[test]
    fn a_format_that_is_not_stored_is_never_guessed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        write(&dir.path().join("base"), &craft(&[], None));
        overlay(&top, "base", None);
        let error = resolve(&top, Format::Qcow2).unwrap_err();
        assert_eq!(error.code, Code::OperationInvalid);
        let text = format!(
            "Requested operation is not valid: format of backing image 'base' of image '{}' was not specified in the \
             image metadata (See https://libvirt.org/kbase/backing_chains.html for troubleshooting)",
            top.display()
        );
        assert!(error.message().starts_with(&text), "{error}");
        assert!(error.message().contains("qemu-img rebase -u -F raw|qcow2 -b base"), "{error}");
    }

    #[rstest::rstest]
    #[case("json:{\"driver\":\"nbd\"}", "raw", "is not a local file")]
    #[case("nbd://host/x", "raw", "is not a local file")]
    #[case("file:nbd:x", "raw", "is not a local file")]
    #[case("base", "vmdk", "has format 'vmdk'; raw and qcow2 are supported")]
    #[case("base", "r\u{1b}aw", "has format 'r\\u{1b}aw'")]
    #[case("missing", "raw", "Cannot access backing file")]
    #[case("top", "qcow2", "is self-referential")]
    #[case("./../DIR/top", "qcow2", "is self-referential")]
    #[case("base", "qcow2", "it is not a qcow2 image")]
    #[case(".", "raw", "Is a directory")]
    #[case("/dev/zero", "raw", "neither a regular file nor a block device")]
    fn refused(#[case] backing: &str, #[case] format: &str, #[case] says: &str) {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        write(&dir.path().join("base"), &[0; 512]);
        let name = dir.path().file_name().unwrap().to_str().unwrap();
        overlay(&top, &backing.replace("DIR", name), Some(format));
        let error = resolve(&top, Format::Qcow2).unwrap_err();
        assert!(error.message().contains(says), "{error}");
        assert!(error.message().contains(name), "names the image: {error}");
    }

    #[test]
    fn an_external_data_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        let mut bytes = craft(&[(0x4441_5441, b"/etc/shadow")], None);
        put(&mut bytes, 76, 4);
        write(&top, &bytes);
        let error = resolve(&top, Format::Qcow2).unwrap_err();
        assert_eq!(error.code, Code::ConfigUnsupported);
        assert!(error.message().contains("external data file"), "{error}");
    }

    #[test]
    fn an_endless_chain_ends() {
        let dir = tempfile::tempdir().unwrap();
        let file = |number: usize| dir.path().join(number.to_string());
        for number in 0..=MAX_DEPTH {
            overlay(&file(number), &(number + 1).to_string(), Some("qcow2"));
        }
        write(&file(MAX_DEPTH + 1), &craft(&[], None));
        assert!(resolve(&file(0), Format::Qcow2).unwrap_err().message().contains("longer than 200"));
        assert_eq!(resolve(&file(2), Format::Qcow2).unwrap().len(), MAX_DEPTH);
    }
}
