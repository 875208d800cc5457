//! New volumes: empty ones, and ones with the content of another.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Gid, Mode, Uid};

use super::part::Part;
use super::{blocking, copy, failed};
use crate::disk::progress::Progress;
use crate::disk::qemu_img::plan::{self, NewImage, Secret, Source};
use crate::disk::qemu_img::{Access, Hand, Tool};
use crate::disk::{Format, chain, sizes};
use crate::error::{Error, Result};
use crate::sys::fault;

/// A volume to make.
#[derive(Debug, Default)]
pub struct Create {
    /// The volume's name, for errors.
    pub name: String,
    /// Where it will be: a file that is not there yet, or a device that is.
    pub target: PathBuf,
    pub image: NewImage,
    /// The passphrase of a LUKS volume.
    pub secret: Option<Vec<u8>>,
    pub source: Option<From>,
    /// Share blocks with the source, or fail.
    pub reflink: bool,
    pub directory: bool,
    /// What is `None` is the daemon's own; mode 0600, of a directory 0711.
    pub mode: Option<u32>,
    pub owner: Option<u32>,
    pub group: Option<u32>,
}

/// The volume whose content the new one gets.
#[derive(Debug)]
pub struct From {
    pub path: PathBuf,
    /// QEMU's name of its format.
    pub format: String,
    pub capacity: u64,
    pub secret: Option<Vec<u8>>,
}

/// Makes it. On any error, and when the future is dropped, nothing is left; a device's content is then undefined.
/// Errors: code 9 when the path exists, 38 (full disk, rights), 67 and 1 for what cannot be made, 78 when cancelled.
pub async fn create(tool: &Tool, request: Create, progress: &Arc<Progress>) -> Result<()> {
    if let Some(source) = &request.source {
        progress.set_total(source.capacity);
    }
    one_backing_store(&request, progress).await?;
    if is_device(&request.target) {
        return on_device(tool, &request, progress).await;
    }
    let exists = std::fs::symlink_metadata(&request.target).is_ok();
    if exists {
        return Err(Error::failed(format!("volume target path '{}' already exists", request.target.display())));
    }
    if request.directory {
        return directory(request, progress).await;
    }
    let dir = parent(&request.target)?.to_path_buf();
    let part = blocking(progress, move |_| Part::file(&dir)).await?;
    let part = if simple(&request) {
        let (raw, target) = (Raw::of(&request), request.target.clone());
        blocking(progress, move |progress| {
            raw.fill(part.handle(), &target, progress)?;
            Ok(part)
        })
        .await?
    } else {
        with_tool(tool, &request, &part, progress).await?;
        part
    };
    blocking(progress, move |progress| {
        progress.check()?;
        finish(&part, &request, 0o600)?;
        part.keep(&request.target, &request.name)
    })
    .await
}

/// A copy may say what its source lies over, which it then does not; anything else is a misunderstanding. Error: code 1
/// with libvirt's text.
async fn one_backing_store(request: &Create, progress: &Arc<Progress>) -> Result<()> {
    let (Some(source), Some(backing)) = (&request.source, &request.image.backing) else { return Ok(()) };
    let Some(format) = Format::parse(&source.format) else { return Ok(()) };
    let (path, named) = (source.path.clone(), PathBuf::from(&backing.path));
    blocking(progress, move |_| match chain::resolve(&path, format)?.get(1) {
        Some(below) if below.path != named => Err(Error::internal(format!(
            "a different backing store cannot be specified: '{}' lies over '{}', not over '{}'; leave out \
             <backingStore>, a copy is complete without",
            path.display(),
            below.path.display(),
            named.display()
        ))),
        _ => Ok(()),
    })
    .await
}

fn parent(target: &Path) -> Result<&Path> {
    match target.parent() {
        Some(dir) if target.is_absolute() => Ok(dir),
        _ => Err(Error::invalid_arg(format!("volume path '{}' must be absolute", target.display()))),
    }
}

fn is_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// Whether bytes are all it takes, and no program that knows formats.
fn simple(request: &Create) -> bool {
    let raw = |format: &str| matches!(format, "raw" | "iso" | "none");
    let plain = raw(&request.image.format) && request.image.luks.is_none();
    plain && request.source.as_ref().is_none_or(|source| raw(&source.format) && source.secret.is_none())
}

async fn directory(request: Create, progress: &Arc<Progress>) -> Result<()> {
    if request.source.is_some() {
        return Err(Error::internal("cannot copy from a directory volume"));
    }
    blocking(progress, move |_| {
        let part = Part::directory(parent(&request.target)?)?;
        finish(&part, &request, 0o711)?;
        part.keep(&request.target, &request.name)
    })
    .await
}

/// Owner first, as changing it clears bits of the mode.
fn finish(part: &Part, request: &Create, mode: u32) -> Result<()> {
    let failed = |error: io::Error| Error::system(format!("cannot set owner of '{}'", request.target.display()), error);
    fault::point("volume.owner").map_err(failed)?;
    let stat = rustix::fs::fstat(part.handle()).map_err(|errno| failed(errno.into()))?;
    // What the program made is its user's until here.
    let (own_user, own_group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (user, group) = (request.owner.unwrap_or(own_user), request.group.unwrap_or(own_group));
    if (stat.st_uid, stat.st_gid) != (user, group) {
        rustix::fs::fchown(part.handle(), Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
            .map_err(|errno| failed(errno.into()))?;
    }
    rustix::fs::fchmod(part.handle(), Mode::from_raw_mode(request.mode.unwrap_or(mode)))
        .map_err(|errno| Error::system(format!("cannot set mode of '{}'", request.target.display()), errno.into()))
}

/// A raw volume without a format's program.
struct Raw {
    capacity: u64,
    allocation: u64,
    reflink: bool,
    source: Option<(PathBuf, u64)>,
}

impl Raw {
    fn of(request: &Create) -> Raw {
        let source = request.source.as_ref().map(|source| (source.path.clone(), source.capacity));
        let (capacity, allocation) = (request.image.capacity, request.image.allocation);
        Raw { capacity, allocation, reflink: request.reflink, source }
    }

    fn fill(&self, to: &File, target: &Path, progress: &Progress) -> Result<()> {
        let name = target.display().to_string();
        let extend = failed("cannot extend file", target);
        fault::point("volume.fill").map_err(&extend)?;
        let Some((from, length)) = &self.source else {
            to.set_len(self.capacity).map_err(&extend)?;
            progress.set_total(self.allocation);
            copy::allocate((to, &name), 0, self.allocation, progress)?;
            progress.set_done(self.allocation);
            return Ok(());
        };
        let file = File::open(from).map_err(failed("could not open input path", from))?;
        let length = (*length).min(self.capacity.max(*length));
        let cloned = copy::reflink(&file, to);
        match cloned {
            Ok(()) => progress.set_done(length),
            Err(error) if self.reflink => {
                return Err(Error::system(format!("failed to clone files from '{}'", from.display()), error));
            }
            Err(_) => {}
        }
        let cloned = to.metadata().map_err(&extend)?.len() > 0;
        if !cloned {
            to.set_len(self.capacity.max(length)).map_err(&extend)?;
            copy::allocate((to, &name), 0, self.allocation, &Progress::default())?;
            copy::copy((&file, &from.display().to_string()), (to, &name), length, true, progress)?;
        } else if self.capacity > length {
            to.set_len(self.capacity).map_err(&extend)?;
        }
        fault::point("volume.filled").map_err(extend)
    }
}

/// Lets `qemu-img` fill the part file, which is its user's for that time.
async fn with_tool(tool: &Tool, request: &Create, part: &Part, progress: &Arc<Progress>) -> Result<()> {
    let failed = failed("cannot create", &request.target);
    let (uid, gid) = tool.user();
    let own = rustix::process::geteuid();
    if own.is_root() && uid != 0 {
        rustix::fs::fchown(part.handle(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(|errno| failed(errno.into()))?;
    }
    fault::point("volume.fill").map_err(&failed)?;
    let target = |hand: &mut Hand| {
        let copied = part.handle().try_clone().map_err(&failed)?;
        hand.file(copied, Access::Write, &request.target.display().to_string())
    };
    run(tool, request, progress, &target).await?;
    fault::point("volume.filled").map_err(failed)
}

/// A device is filled in place.
async fn on_device(tool: &Tool, request: &Create, progress: &Arc<Progress>) -> Result<()> {
    let device = request.target.clone();
    if !simple(request) {
        return run(tool, request, progress, &|hand| hand.path(&device, Access::Write)).await;
    }
    let Some(source) = &request.source else { return Ok(()) };
    let (from, length) = (source.path.clone(), source.capacity);
    blocking(progress, move |progress| {
        let file = File::open(&from).map_err(failed("could not open input path", &from))?;
        let to = File::options().write(true).open(&device).map_err(failed("cannot open", &device))?;
        let names = (from.display().to_string(), device.display().to_string());
        // A device need not read as zeros.
        copy::copy((&file, &names.0), (&to, &names.1), length, false, progress)?;
        to.sync_all().map_err(failed("cannot sync data to file", &device))
    })
    .await
}

async fn run(
    tool: &Tool,
    request: &Create,
    progress: &Arc<Progress>,
    target: &(dyn Fn(&mut Hand) -> Result<String> + Send + Sync),
) -> Result<()> {
    let mut image = request.image.clone();
    // Checked by now; a copy is complete.
    image.backing = image.backing.filter(|_| request.source.is_none());
    if matches!(image.format.as_str(), "iso" | "none") {
        image.format = "raw".into();
    }
    if let Some(backing) = &image.backing {
        let format = Format::parse(&backing.format);
        check_backing(&mut image.capacity, Path::new(&backing.path), format)?;
    }
    // Planned with stand-ins to know how many runs there are: each gets descriptors of its own.
    let runs = arguments(request, &image, &mut Hand::default(), "", true)?.len();
    for step in 0..runs {
        let mut hand = tool.hand();
        let file = target(&mut hand)?;
        let mut args = arguments(request, &image, &mut hand, &file, false)?.swap_remove(step);
        let verb = args.first().cloned().unwrap_or_default();
        if verb == "convert" {
            args.insert(1, "-p".into());
        } else {
            args.insert(1, "-q".into());
            // Looked at above; the program need not, and could not.
            if image.backing.is_some() {
                args.insert(2, "-u".into());
            }
        }
        let capacity = request.source.as_ref().map_or(0, |source| source.capacity).max(image.capacity);
        let work = if verb == "convert" || image.preallocate { capacity } else { 0 };
        tool.run(&args, hand, capacity, work, Some(progress.clone())).await?;
    }
    Ok(())
}

/// The backing image must be there, readable as what it is said to be, and not larger than what lies over it.
fn check_backing(capacity: &mut u64, path: &Path, format: Option<Format>) -> Result<()> {
    let Some(format) = format else {
        std::fs::metadata(path).map_err(failed("inaccessible backing store volume", path))?;
        if *capacity == 0 {
            return Err(Error::unsupported_config(format!(
                "the size of backing store volume '{}' is not known; give a capacity",
                path.display()
            )));
        }
        return Ok(());
    };
    std::fs::metadata(path).map_err(failed("inaccessible backing store volume", path))?;
    if *capacity == 0 {
        *capacity = sizes(path, format)?.0;
    }
    // Damaged headers and loops are found now rather than by the guest.
    chain::resolve(path, format).map(drop)
}

fn arguments(
    request: &Create,
    image: &NewImage,
    hand: &mut Hand,
    target: &str,
    pretend: bool,
) -> Result<Vec<Vec<String>>> {
    let mut secret = |id: &str, value: &Option<Vec<u8>>| -> Result<Option<Secret>> {
        let Some(value) = value else { return Ok(None) };
        let file = if pretend { String::new() } else { hand.secret(value)? };
        Ok(Some(Secret { id: id.into(), file }))
    };
    let own = secret("volume", &request.secret)?;
    let Some(from) = &request.source else { return plan::create(image, target, own.as_ref(), None) };
    let input = secret("input", &from.secret)?;
    let format = plan::input_format(&from.format)?.to_string();
    let mut file = |path: &Path| if pretend { Ok(String::new()) } else { hand.path(path, Access::Read) };
    let mut layers = Vec::new();
    match Format::parse(&format) {
        Some(known) => {
            for layer in chain::resolve(&from.path, known)? {
                layers.push((layer.format.as_str().to_string(), file(&layer.path)?));
            }
        }
        None => layers.push((format, file(&from.path)?)),
    }
    let source = match input {
        Some(secret) => Source::Encrypted { layers, secret },
        None if layers.len() > 1 => Source::Chain(layers),
        None => {
            let (format, file) = layers.swap_remove(0);
            Source::Plain { format, file }
        }
    };
    plan::create(image, target, own.as_ref(), Some(&source))
}
