//! Real files and, where it is installed, the real `qemu-img`.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::create::{Create, From, create};
use super::part::{self, Part};
use super::stream::{Download, Piece, Upload};
use super::wipe::{Algorithm, wipe};
use super::*;
use crate::disk::qemu_img::Tool;
use crate::disk::qemu_img::plan::{Backing, Luks, NewImage};
use crate::disk::{Format, qcow2, sizes};
use crate::error::Code;

/// Runs `qemu-img` as somebody else where it can, so that the tests see what the daemon sees.
fn tool(test: &str) -> Option<Tool> {
    let tool = Tool::new(Some((65_534, 65_534)));
    if !tool.installed() {
        eprintln!("SKIP {test}: qemu-img is not installed");
        return None;
    }
    Some(tool)
}

fn progress() -> Arc<Progress> {
    Arc::default()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn image(format: &str, capacity: u64) -> NewImage {
    NewImage { format: format.into(), capacity, ..NewImage::default() }
}

/// Nobody but us gets below it, as with the directory of a pool.
fn closed_dir() -> tempfile::TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
}

fn pattern(path: &Path, at: u64, length: usize) {
    let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
    file.write_all_at(&vec![7; length], at).unwrap();
}

#[tokio::test]
async fn raw_volumes_are_as_large_and_as_full_as_asked() {
    let dir = closed_dir();
    let target = dir.path().join("disk");
    let request = Create { target: target.clone(), image: image("raw", 8 << 20), ..Create::default() };
    create(&Tool::default(), request, &progress()).await.unwrap();
    let (capacity, allocation, _) = sizes(&target, Format::Raw).unwrap();
    assert_eq!((capacity, allocation), (8 << 20, 0));
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o600);

    let full = dir.path().join("full");
    let request = Create {
        target: full.clone(),
        image: NewImage { allocation: 1 << 20, ..image("raw", 8 << 20) },
        mode: Some(0o640),
        ..Create::default()
    };
    create(&Tool::default(), request, &progress()).await.unwrap();
    assert!(sizes(&full, Format::Raw).unwrap().1 >= 1 << 20);
    assert_eq!(fs::metadata(&full).unwrap().mode() & 0o7777, 0o640);

    let request = Create { target, image: image("raw", 1), ..Create::default() };
    let error = create(&Tool::default(), request, &progress()).await.unwrap_err();
    assert!(error.message().ends_with("already exists"), "{error}");
    assert_eq!(names(dir.path()), ["disk", "full"]);
}

#[tokio::test]
async fn qcow2_with_everything_in_a_directory_the_program_cannot_enter() {
    let Some(tool) = tool("qcow2_with_everything_in_a_directory_the_program_cannot_enter") else { return };
    let dir = closed_dir();
    let base = dir.path().join("base");
    File::create(&base).unwrap().set_len(4 << 20).unwrap();
    let target = dir.path().join("over,lay");
    let request = Create {
        target: target.clone(),
        image: NewImage {
            backing: Some(Backing { path: base.display().to_string(), format: "raw".into() }),
            cluster_size: Some(131_072),
            lazy_refcounts: true,
            extended_l2: true,
            ..image("qcow2", 0)
        },
        ..Create::default()
    };
    create(&tool, request, &progress()).await.unwrap();
    let header = qcow2::read(&mut File::open(&target).unwrap()).unwrap();
    assert_eq!((header.version, header.virtual_size, header.cluster_bits), (3, 4 << 20, 17));
    assert_eq!(header.backing_file.as_deref(), Some(base.as_os_str().as_encoded_bytes()));
    let metadata = fs::metadata(&target).unwrap();
    assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw(), "it belongs to the daemon in the end");
    assert_eq!(metadata.mode() & 0o7777, 0o600);

    let larger = resize::Request { format: "qcow2".into(), capacity: 5 << 20, ..resize::Request::default() };
    resize::resize(&tool, &target, larger, &progress()).await.unwrap();
    assert_eq!(sizes(&target, Format::Qcow2).unwrap().0, 5 << 20);

    // A passphrase, and the content of a chain of two whose files only we may read.
    pattern(&base, 1 << 20, 4096);
    fs::set_permissions(&base, fs::Permissions::from_mode(0o600)).unwrap();
    let copy = dir.path().join("copy");
    let request = Create {
        target: copy.clone(),
        image: image("raw", 0),
        source: Some(From { path: target.clone(), format: "qcow2".into(), capacity: 5 << 20, secret: None }),
        ..Create::default()
    };
    let seen = progress();
    create(&tool, request, &seen).await.unwrap();
    assert_eq!(seen.done(), 5 << 20, "all of it is reported");
    let mut expected = vec![0u8; 5 << 20];
    expected[1 << 20..(1 << 20) + 4096].fill(7);
    assert_eq!(fs::read(&copy).unwrap(), expected);

    let locked = dir.path().join("locked");
    let request = Create {
        target: locked.clone(),
        image: NewImage { luks: Some(Luks::default()), ..image("qcow2", 1 << 20) },
        secret: Some(b"open sesame".to_vec()),
        ..Create::default()
    };
    create(&tool, request, &progress()).await.unwrap();
    let header = qcow2::read(&mut File::open(&locked).unwrap()).unwrap();
    assert_eq!(header.encryption, qcow2::Encryption::Luks);
    let request = resize::Request {
        format: "qcow2".into(),
        capacity: 2 << 20,
        secret: Some(b"open sesame".to_vec()),
        ..resize::Request::default()
    };
    resize::resize(&tool, &locked, request, &progress()).await.unwrap();
    assert_eq!(sizes(&locked, Format::Qcow2).unwrap().0, 2 << 20);
    assert_eq!(names(dir.path()), ["base", "copy", "locked", "over,lay"]);
}

#[tokio::test]
async fn an_encrypted_volume_opens_with_its_passphrase_alone() {
    let Some(tool) = tool("an_encrypted_volume_opens_with_its_passphrase_alone") else { return };
    let dir = closed_dir();
    let (plain, locked, back) = (dir.path().join("plain"), dir.path().join("locked"), dir.path().join("back"));
    pattern(&plain, 0, 1 << 20);
    let request = Create {
        target: locked.clone(),
        image: NewImage { luks: Some(Luks::default()), ..image("raw", 1 << 20) },
        secret: Some(b"right".to_vec()),
        source: Some(From { path: plain.clone(), format: "raw".into(), capacity: 1 << 20, secret: None }),
        ..Create::default()
    };
    create(&tool, request, &progress()).await.unwrap();
    let bytes = fs::read(&locked).unwrap();
    assert!(bytes.starts_with(b"LUKS") && !bytes.windows(64).any(|window| window == [7; 64]));
    for (secret, right) in [("wrong", false), ("right", true)] {
        let request = Create {
            target: back.clone(),
            image: image("raw", 1 << 20),
            source: Some(From {
                path: locked.clone(),
                format: "raw".into(),
                capacity: 1 << 20,
                secret: Some(secret.as_bytes().to_vec()),
            }),
            ..Create::default()
        };
        let result = create(&tool, request, &progress()).await;
        assert_eq!(result.is_ok(), right, "{result:?}");
        assert_eq!(back.exists(), right);
    }
    assert_eq!(fs::read(&back).unwrap(), fs::read(&plain).unwrap());
}

#[tokio::test]
async fn encryption_and_backing_images_go_together() {
    let Some(tool) = tool("encryption_and_backing_images_go_together") else { return };
    let dir = closed_dir();
    let path = |name: &str| dir.path().join(name);
    pattern(&path("base"), 0, 1 << 20);
    let backing = Some(Backing { path: path("base").display().to_string(), format: "raw".into() });
    let secret = || Some(b"right".to_vec());
    let luks = || Some(Luks::default());
    let from = |name: &str, format: &str, secret| {
        Some(From { path: path(name), format: format.into(), capacity: 1 << 20, secret })
    };
    // An overlay and a locked overlay; the first becomes a locked image, each locked one an open one.
    for (name, image, secret, source) in [
        ("over", NewImage { backing: backing.clone(), ..image("qcow2", 1 << 20) }, None, None),
        ("over-locked", NewImage { backing, luks: luks(), ..image("qcow2", 1 << 20) }, secret(), None),
        ("locked", NewImage { luks: luks(), ..image("raw", 1 << 20) }, secret(), from("over", "qcow2", None)),
        ("a", image("raw", 1 << 20), None, from("locked", "raw", secret())),
        ("b", image("raw", 1 << 20), None, from("over-locked", "qcow2", secret())),
    ] {
        let request = Create { target: path(name), image, secret, source, ..Create::default() };
        create(&tool, request, &progress()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    // A copy may name what its source lies over, and lies over nothing itself.
    let over = |name: &str| Some(Backing { path: path(name).display().to_string(), format: "raw".into() });
    let copied = |name: &str, backing| Create {
        target: path(name),
        image: NewImage { backing, ..image("qcow2", 1 << 20) },
        source: from("over", "qcow2", None),
        ..Create::default()
    };
    create(&tool, copied("same", over("base")), &progress()).await.unwrap();
    assert_eq!(qcow2::read(&mut File::open(path("same")).unwrap()).unwrap().backing_file, None);
    let error = create(&tool, copied("other", over("a")), &progress()).await.unwrap_err();
    assert!(error.message().starts_with("internal error: a different backing store cannot be specified"), "{error}");
    assert!(!path("other").exists());
    for name in ["a", "b"] {
        assert_eq!(fs::read(path(name)).unwrap(), fs::read(path("base")).unwrap(), "{name}");
    }
    let larger = resize::Request { format: "qcow2".into(), capacity: 2 << 20, secret: secret(), ..Default::default() };
    resize::resize(&tool, &path("over-locked"), larger, &progress()).await.unwrap();
    assert_eq!(sizes(&path("over-locked"), Format::Qcow2).unwrap().0, 2 << 20);
}

#[tokio::test]
async fn failures_and_cancelling_leave_nothing() {
    let dir = closed_dir();
    let target = dir.path().join("disk");
    let request = |image: NewImage| Create { target: target.clone(), image, ..Create::default() };
    // More than any file system here can hold.
    let huge = NewImage { allocation: 1 << 60, ..image("raw", 1 << 60) };
    create(&Tool::default(), request(huge), &progress()).await.unwrap_err();
    let cancelled = progress();
    cancelled.cancel();
    let error = create(&Tool::default(), request(image("raw", 1)), &cancelled).await.unwrap_err();
    assert_eq!(error.code, Code::OperationAborted);
    if let Some(tool) = tool("failures_and_cancelling_leave_nothing") {
        create(&tool, request(image("qcow2", u64::MAX)), &progress()).await.unwrap_err();
        let gone = Backing { path: dir.path().join("gone").display().to_string(), format: "raw".into() };
        let image = NewImage { backing: Some(gone), ..image("qcow2", 1) };
        let error = create(&tool, request(image), &progress()).await.unwrap_err();
        assert!(error.message().starts_with("inaccessible backing store volume"), "{error}");
    }
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_copy_keeps_holes_and_directories_are_volumes_too() {
    let dir = closed_dir();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    pattern(&from, 32 << 20, 8192);
    File::options().write(true).open(&from).unwrap().set_len(64 << 20).unwrap();
    let source = From { path: from.clone(), format: "raw".into(), capacity: 64 << 20, secret: None };
    let request =
        Create { target: to.clone(), image: image("raw", 65 << 20), source: Some(source), ..Create::default() };
    let seen = progress();
    create(&Tool::default(), request, &seen).await.unwrap();
    assert_eq!((seen.done(), seen.total()), (64 << 20, 64 << 20));
    assert_eq!(fs::metadata(&to).unwrap().len(), 65 << 20);
    assert!(fs::metadata(&to).unwrap().blocks() < 2048, "holes stay holes");
    assert_eq!(fs::read(&to).unwrap()[..64 << 20], fs::read(&from).unwrap()[..]);

    let tree = dir.path().join("tree");
    let request = Create { target: tree.clone(), directory: true, ..Create::default() };
    create(&Tool::default(), request, &progress()).await.unwrap();
    assert_eq!(fs::metadata(&tree).unwrap().mode() & 0o7777, 0o711);
    delete(&tree, true).unwrap();
    delete(&to, false).unwrap();
    delete(&to, false).unwrap();
    assert_eq!(names(dir.path()), ["from"]);
}

#[tokio::test]
async fn raw_sizes_change_in_place() {
    let dir = closed_dir();
    let path = dir.path().join("disk");
    pattern(&path, 0, 4096);
    let request =
        |capacity, allocate| resize::Request { format: "raw".into(), capacity, allocate, ..resize::Request::default() };
    let tool = Tool::default();
    resize::resize(&tool, &path, request(1 << 20, true), &progress()).await.unwrap();
    assert!(sizes(&path, Format::Raw).unwrap().1 >= 1 << 20);
    resize::resize(&tool, &path, request(1 << 60, true), &progress()).await.unwrap_err();
    assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20, "the old size stays");
    resize::resize(&tool, &path, request(8192, false), &progress()).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 8192);
}

#[tokio::test]
async fn wiped_is_zero_and_as_long_as_before() {
    let dir = closed_dir();
    let (sparse, dense) = (dir.path().join("sparse"), dir.path().join("dense"));
    pattern(&sparse, 4 << 20, 4096);
    pattern(&dense, 0, 1 << 20);
    for (path, length) in [(&sparse, (4 << 20) + 4096), (&dense, 1 << 20)] {
        wipe(path, Algorithm::Zero, &progress()).await.unwrap();
        assert_eq!(fs::read(path).unwrap(), vec![0; length]);
    }
    assert_eq!(fs::metadata(&sparse).unwrap().blocks(), 0);
    assert!(fs::metadata(&dense).unwrap().blocks() > 0);
    if !Path::new("/usr/bin/scrub").exists() {
        let error = wipe(&dense, Algorithm::Dod, &progress()).await.unwrap_err();
        assert_eq!(error.code, Code::NoSupport);
        assert!(error.message().contains("'dod' needs the program 'scrub'"), "{error}");
    }
    assert_eq!(Algorithm::from_number(3).unwrap(), Algorithm::Bsi);
    assert!(Algorithm::from_number(10).is_err());
}

#[test]
fn streams_carry_holes_both_ways() {
    let dir = closed_dir();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    pattern(&from, 1 << 20, 65_536);
    File::options().write(true).open(&from).unwrap().set_len(20 << 30).unwrap();
    pattern(&to, 0, 65_536);
    let mut download = Download::open(&from, 0, 0, true).unwrap();
    let mut upload = Upload::open(&to, 0, 0).unwrap();
    let mut bytes = 0;
    while let Some(piece) = download.next(16_384).unwrap() {
        match piece {
            Piece::Data(data) => {
                bytes += data.len();
                upload.data(&data).unwrap();
            }
            Piece::Hole(length) => upload.hole(length).unwrap(),
        }
    }
    upload.finish().unwrap();
    assert_eq!((bytes, download.rest()), (65_536, 0));
    let metadata = fs::metadata(&to).unwrap();
    assert_eq!((metadata.len(), metadata.blocks() < 1024), (20 << 30, true));
    let mut part = vec![1; 8];
    File::open(&to).unwrap().read_at(&mut part, 0).unwrap();
    assert_eq!(part, [0; 8], "a hole punches out what was there");

    let mut dense = Download::open(&from, (1 << 20) - 4, 8, false).unwrap();
    assert_eq!(dense.next(100).unwrap(), Some(Piece::Data(vec![0, 0, 0, 0, 7, 7, 7, 7])));
    assert_eq!(dense.next(100).unwrap(), None);
    assert!(Download::open(&from, (20 << 30) + 1, 0, false).unwrap_err().message().contains("behind the end"));
    let mut short = Upload::open(&to, 4, 2).unwrap();
    short.data(b"ab").unwrap();
    assert!(short.data(b"c").unwrap_err().message().contains("more bytes were sent"));
}

#[test]
fn only_abandoned_parts_are_swept() {
    let dir = closed_dir();
    let abandoned = dir.path().join(format!("{}1{}", part::PREFIX, part::SUFFIX));
    File::create(&abandoned).unwrap().write_all(b"x").unwrap();
    fs::create_dir(dir.path().join(format!("{}2{}", part::PREFIX, part::SUFFIX))).unwrap();
    File::create(dir.path().join("mine.part")).unwrap();
    let live = Part::file(dir.path()).unwrap();
    let kept: PathBuf = live.path().to_path_buf();
    assert_eq!(part::sweep(dir.path()), 2);
    assert!(kept.exists());
    assert!(part::is_part(kept.file_name().unwrap()));
    live.keep(&dir.path().join("whole"), "whole").unwrap();
    assert_eq!(names(dir.path()), ["mine.part", "whole"]);
    let late = Part::file(dir.path()).unwrap();
    let error = late.keep(&dir.path().join("whole"), "whole").unwrap_err();
    assert!(error.message().contains("already exists"), "{error}");
    assert_eq!(names(dir.path()), ["mine.part", "whole"]);
}
