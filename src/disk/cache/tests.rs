//! Real files; the real `qemu-img` and `tar` where they are installed.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;

const TEXT: &[u8] = b"a base image, or the start of one";
/// `sha256sum` of [`TEXT`] followed by zeros up to 64 KiB.
fn write(path: &Path) -> String {
    let mut bytes = TEXT.to_vec();
    bytes.resize(1 << 16, 0);
    #[allow(clippy::disallowed_methods, reason = "input of a test")]
    fs::write(path, &bytes).unwrap();
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn import(source: &Path, format: SourceFormat, sha256: Option<&str>) -> Import {
    Import { source: source.into(), format, sha256: sha256.map(str::to_string), name: String::new() }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn progress() -> Arc<Progress> {
    Arc::default()
}

#[test]
fn the_checksum_is_sha256() {
    let sum: String = Sha256::digest(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[tokio::test]
async fn an_image_is_imported_once_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("cirros.img");
    let sum = write(&source);
    let cache = Cache::open(dir.path().join("cache"), Tool::default());
    assert_eq!(cache.list(), []);
    let wrong = "0".repeat(64);
    let error = cache.import(import(&source, SourceFormat::Raw, Some(&wrong)), &progress()).await.unwrap_err();
    assert!(error.message().contains(&format!("checksum {sum}, not {wrong}")), "{error}");
    assert_eq!(names(cache.directory()), Vec::<String>::new());

    let seen = progress();
    let image = cache.import(import(&source, SourceFormat::Raw, None), &seen).await.unwrap();
    assert_eq!((image.sha256.as_str(), image.name.as_str(), image.size), (sum.as_str(), "cirros.img", 1 << 16));
    assert_eq!((seen.done(), seen.total()), (1 << 16, 1 << 16));
    let file = cache.path_of(&image);
    assert_eq!(fs::read(&file).unwrap(), fs::read(&source).unwrap());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o444);
    assert_eq!(names(cache.directory()), [format!("{sum}.json"), format!("{sum}.raw")]);

    // The source is not even needed the second time.
    fs::remove_file(&source).unwrap();
    let again = cache.import(import(&source, SourceFormat::Raw, Some(&sum.to_uppercase())), &progress()).await.unwrap();
    assert_eq!(again, image);
    assert_eq!(cache.find("cirros.img").unwrap(), image);
    assert_eq!(cache.find(&sum[..10]).unwrap(), image);
    assert!(cache.find("other").unwrap_err().message().contains("no base image 'other'"));
}

#[tokio::test]
async fn two_imports_at_once_make_one_image() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("image");
    let sum = write(&source);
    let cache = Arc::new(Cache::open(dir.path().join("cache"), Tool::default()));
    let tasks: Vec<_> = [None, Some(sum.clone()), None, Some(sum.clone())]
        .into_iter()
        .map(|sum| {
            let (cache, request) = (cache.clone(), import(&source, SourceFormat::Raw, sum.as_deref()));
            tokio::spawn(async move { cache.import(request, &progress()).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().sha256, sum);
    }
    assert_eq!(names(cache.directory()), [format!("{sum}.json"), format!("{sum}.raw")]);
}

#[tokio::test]
async fn overlays_count_as_use_until_they_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let tool = Tool::default();
    if !tool.installed() {
        eprintln!("SKIP overlays_count_as_use_until_they_are_gone: qemu-img is not installed");
        return;
    }
    let source = dir.path().join("image");
    write(&source);
    let cache = Cache::open(dir.path().join("cache"), tool);
    let image = cache.import(import(&source, SourceFormat::Raw, None), &progress()).await.unwrap();
    let target = dir.path().join("overlay");
    let request = |size| Overlay { target: target.clone(), size, ..Overlay::default() };
    let error = cache.overlay("image", request(Some(1024)), &progress()).await.unwrap_err();
    assert!(error.message().contains("less than its base image 'image' with 65536 bytes"), "{error}");
    cache.overlay("image", request(Some(1 << 20)), &progress()).await.unwrap();
    assert_eq!(sizes(&target, Format::Qcow2).unwrap().0, 1 << 20);
    let error = cache.overlay("image", request(None), &progress()).await.unwrap_err();
    assert!(error.message().ends_with("already exists"), "{error}");

    let image = cache.find(&image.sha256).unwrap();
    assert_eq!(cache.overlays(&image), 1);
    assert_eq!(cache.prune(Duration::ZERO, &|_| false).await.unwrap(), []);
    fs::remove_file(&target).unwrap();
    assert_eq!(cache.overlays(&image), 0);
    assert_eq!(cache.prune(Duration::ZERO, &|_| true).await.unwrap(), [], "the caller knows a use");
    assert_eq!(cache.prune(Duration::from_secs(3600), &|_| false).await.unwrap(), [], "too young");
    assert_eq!(cache.prune(Duration::ZERO, &|_| false).await.unwrap().len(), 1);
    assert_eq!(names(cache.directory()), Vec::<String>::new());
}

#[tokio::test]
async fn qcow2_becomes_raw_and_may_not_refer_to_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let tool = Tool::new(Some((65_534, 65_534)));
    if !tool.installed() {
        eprintln!("SKIP qcow2_becomes_raw_and_may_not_refer_to_other_files: qemu-img is not installed");
        return;
    }
    let (base, whole, part) = (dir.path().join("base"), dir.path().join("whole"), dir.path().join("part"));
    write(&base);
    let make = |target: &Path, backing: Option<Backing>, source: Option<From>| Create {
        target: target.into(),
        image: NewImage { format: "qcow2".into(), capacity: 1 << 16, backing, ..NewImage::default() },
        source,
        ..Create::default()
    };
    let source = From { path: base.clone(), format: "raw".into(), capacity: 1 << 16, secret: None };
    create::create(&tool, make(&whole, None, Some(source)), &progress()).await.unwrap();
    let backing = Backing { path: base.display().to_string(), format: "raw".into() };
    create::create(&tool, make(&part, Some(backing), None), &progress()).await.unwrap();

    let cache = Cache::open(dir.path().join("cache"), tool);
    let error = cache.import(import(&part, SourceFormat::Qcow2, None), &progress()).await.unwrap_err();
    assert!(error.message().contains("refers to another file"), "{error}");
    let error = cache.import(import(&base, SourceFormat::Qcow2, None), &progress()).await.unwrap_err();
    assert!(error.message().contains("not a qcow2 image"), "{error}");
    assert_eq!(names(cache.directory()), Vec::<String>::new());
    let image = cache.import(import(&whole, SourceFormat::Qcow2, None), &progress()).await.unwrap();
    assert_eq!(fs::read(cache.path_of(&image)).unwrap(), fs::read(&base).unwrap());
    // A header is not believed when the image is said to be raw.
    let raw = cache.import(import(&part, SourceFormat::Raw, None), &progress()).await.unwrap();
    assert_eq!(fs::read(cache.path_of(&raw)).unwrap(), fs::read(&part).unwrap());
}

#[tokio::test]
async fn a_tarball_becomes_a_tree() {
    if !Path::new(TAR).exists() {
        eprintln!("SKIP a_tarball_becomes_a_tree: tar is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, archive) = (dir.path().join("root"), dir.path().join("root.tar"));
    fs::create_dir_all(root.join("etc")).unwrap();
    write(&root.join("etc/image"));
    let args = ["-c", "-f", archive.to_str().unwrap(), "-C", root.to_str().unwrap(), "."];
    exec::run(Path::new(TAR), &args, exec::Options::default()).await.unwrap();
    let cache = Cache::open(dir.path().join("cache"), Tool::default());
    let image = cache.import(import(&archive, SourceFormat::Tar, None), &progress()).await.unwrap();
    assert_eq!(fs::read(cache.path_of(&image).join("etc/image")).unwrap(), fs::read(root.join("etc/image")).unwrap());
    let error = cache.overlay(&image.sha256, Overlay::default(), &progress()).await.unwrap_err();
    assert!(error.message().contains("is a directory tree"), "{error}");
    let error = cache.import(import(&root.join("etc/image"), SourceFormat::Tar, None), &progress()).await.unwrap_err();
    assert!(error.message().contains("cannot unpack image"), "{error}");
    assert_eq!(names(cache.directory()).len(), 2);
}

#[test]
fn interrupted_imports_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let sum = "a".repeat(64);
    for name in [format!("{sum}.raw"), format!("{}x{}", part::PREFIX, part::SUFFIX), "note.raw".into()] {
        File::create(dir.path().join(name)).unwrap();
    }
    fs::create_dir(dir.path().join(format!("{sum}.tree"))).unwrap();
    Cache::open(dir.path().into(), Tool::default());
    assert_eq!(names(dir.path()), ["note.raw"]);
}
