//! `vol-*`: storage volumes.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::read_file;
use super::client::{CallError, reason};
use super::domains::{CONNECT, Driver, Session};
use super::host::ended;
use super::output::{Context, Failure, Table};
use super::progress::watched;
use crate::types::ParamValue;
use crate::types::size::unit_scale;

const POOL: &str = "org.libvirt.StoragePool";
const VOLUME: &str = "org.libvirt.StorageVol";
const DOMUS_VOLUME: &str = "org.domus.StorageVol1";

/// Commands of volumes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a volume from an XML file
    #[command(name = "vol-create")]
    Create(CreateArgs),
    /// Create a volume from options
    #[command(name = "vol-create-as")]
    CreateAs(CreateAsArgs),
    /// Create a volume from an XML file, with the content of another volume
    #[command(name = "vol-create-from")]
    CreateFrom(CreateFromArgs),
    /// Copy a volume within its pool
    #[command(name = "vol-clone")]
    Clone(CloneArgs),
    /// Delete a volume
    #[command(name = "vol-delete")]
    Delete(VolumeArg),
    /// Overwrite a volume's content
    #[command(name = "vol-wipe")]
    Wipe(WipeArgs),
    /// Change a volume's size
    #[command(name = "vol-resize")]
    Resize(ResizeArgs),
    /// Fill a volume from a file; its holes stay holes
    #[command(name = "vol-upload")]
    Upload(TransferArgs),
    /// Copy a volume into a file; its holes stay holes
    #[command(name = "vol-download")]
    Download(TransferArgs),
    /// Print a volume's XML
    #[command(name = "vol-dumpxml")]
    Dumpxml(VolumeArg),
    /// Print basic facts about a volume
    #[command(name = "vol-info")]
    Info(InfoArgs),
    /// List the volumes of a pool
    #[command(name = "vol-list")]
    List(ListArgs),
    /// Print the path of a volume
    #[command(name = "vol-path")]
    Path(VolumeArg),
    /// Print the key of a volume
    #[command(name = "vol-key")]
    Key(VolumeArg),
    /// Print the name of a volume given by key or path
    #[command(name = "vol-name")]
    Name(VolumeArg),
    /// Print the pool of a volume given by key or path
    #[command(name = "vol-pool")]
    Pool(VolumeArg),
}

/// A volume as the first positional argument.
#[derive(Debug, Args)]
pub struct VolumeArg {
    /// Name (with --pool), key or path of the volume
    vol: String,
    /// Name or UUID of the pool
    #[arg(long)]
    pool: Option<String>,
}

/// How a volume is made.
#[derive(Clone, Copy, Debug, Args)]
pub struct MakeArgs {
    /// Lay out the metadata of a qcow2 volume at once
    #[arg(long)]
    prealloc_metadata: bool,
    /// Refuse unknown elements and attributes, which are otherwise dropped
    #[arg(long)]
    validate: bool,
}

/// Options of `vol-create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name or UUID of the pool
    pool: String,
    /// File with the volume's XML; - for standard input
    file: PathBuf,
    #[command(flatten)]
    make: MakeArgs,
}

/// Options of `vol-create-as`.
#[derive(Debug, Args)]
pub struct CreateAsArgs {
    /// Name or UUID of the pool
    pool: String,
    /// Name of the volume
    name: String,
    /// Size, bytes unless it has a suffix (20G)
    capacity: String,
    /// Bytes to use on the host at once, with a suffix as for the size
    #[arg(long)]
    allocation: Option<String>,
    /// raw, qcow2 ...
    #[arg(long)]
    format: Option<String>,
    /// Volume that this one lies over: its name in the pool, key or path
    #[arg(long)]
    backing_vol: Option<String>,
    /// Format of that volume
    #[arg(long)]
    backing_vol_format: Option<String>,
    #[command(flatten)]
    make: MakeArgs,
    /// Print the XML instead of creating the volume
    #[arg(long)]
    print_xml: bool,
}

/// Options of `vol-create-from`.
#[derive(Debug, Args)]
pub struct CreateFromArgs {
    /// Name or UUID of the pool
    pool: String,
    /// File with the volume's XML; - for standard input
    file: PathBuf,
    /// Volume with the content: name (with --inputpool), key or path
    vol: String,
    /// Pool of that volume
    #[arg(long)]
    inputpool: Option<String>,
    #[command(flatten)]
    make: MakeArgs,
    /// Share blocks with the original, or fail
    #[arg(long)]
    reflink: bool,
}

/// Options of `vol-clone`.
#[derive(Debug, Args)]
pub struct CloneArgs {
    /// Name (with --pool), key or path of the volume
    vol: String,
    /// Name of the copy
    newname: String,
    /// Name or UUID of the pool
    #[arg(long)]
    pool: Option<String>,
    #[command(flatten)]
    make: MakeArgs,
    /// Share blocks with the original, or fail
    #[arg(long)]
    reflink: bool,
}

/// Options of `vol-wipe`.
#[derive(Debug, Args)]
pub struct WipeArgs {
    #[command(flatten)]
    vol: VolumeArg,
    /// zero, nnsa, dod, bsi, gutmann, schneier, pfitzner7, pfitzner33, random, trim
    #[arg(long, default_value = "zero")]
    algorithm: String,
}

/// Options of `vol-resize`.
#[derive(Debug, Args)]
pub struct ResizeArgs {
    /// Name (with --pool), key or path of the volume
    vol: String,
    /// New size, bytes unless it has a suffix; with --delta the difference
    #[arg(allow_hyphen_values = true)]
    capacity: String,
    /// Name or UUID of the pool
    #[arg(long)]
    pool: Option<String>,
    /// Give the new space its place on the disk
    #[arg(long)]
    allocate: bool,
    /// The size is a difference
    #[arg(long)]
    delta: bool,
    /// Allow to make it smaller
    #[arg(long)]
    shrink: bool,
}

/// Options of `vol-upload` and `vol-download`.
#[derive(Debug, Args)]
pub struct TransferArgs {
    /// Name (with --pool), key or path of the volume
    vol: String,
    /// The file
    file: PathBuf,
    /// Name or UUID of the pool
    #[arg(long)]
    pool: Option<String>,
    /// Where in the volume to begin, bytes
    #[arg(long, default_value_t = 0)]
    offset: u64,
    /// How many bytes; 0 for all
    #[arg(long, default_value_t = 0)]
    length: u64,
    /// Accepted as virsh has it: holes always stay holes
    #[arg(long)]
    sparse: bool,
}

/// Options of `vol-info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    #[command(flatten)]
    vol: VolumeArg,
    /// Sizes in bytes
    #[arg(long)]
    bytes: bool,
    /// The physical size instead of the allocation
    #[arg(long)]
    physical: bool,
}

/// Options of `vol-list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Name or UUID of the pool
    pool: String,
    /// Also type and sizes
    #[arg(long)]
    details: bool,
}

/// Runs a command of this group.
pub async fn run(session: &Session, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create(session, args).await,
        Command::CreateAs(args) => create_as(session, args).await,
        Command::CreateFrom(args) => create_from(session, args).await,
        Command::Clone(args) => clone(session, args).await,
        Command::Delete(args) => delete(session, args).await,
        Command::Wipe(args) => wipe(session, args).await,
        Command::Resize(args) => resize(session, args).await,
        Command::Upload(args) => transfer(session, args, true).await,
        Command::Download(args) => transfer(session, args, false).await,
        Command::Dumpxml(args) => {
            let volume = find(session, &args.vol, args.pool.as_deref(), "pool").await?;
            let xml: String = session.client.call(&volume.path, VOLUME, "GetXMLDesc", &(0u32,)).await?;
            session.out.show(&json!({ "xml": xml }), &ended(&xml));
            Ok(())
        }
        Command::Info(args) => info(session, args).await,
        Command::List(args) => list(session, args).await,
        Command::Path(args) => fact(session, args, "Path").await,
        Command::Key(args) => fact(session, args, "Key").await,
        Command::Name(args) => fact(session, args, "Name").await,
        Command::Pool(args) => pool_of(session, args).await,
    }
}

/// A volume that exists.
struct Volume {
    driver: Driver,
    path: String,
    name: String,
}

async fn text(session: &Session, path: &str, interface: &str, property: &str) -> Result<String, CallError> {
    match session.client.value(path, interface, property).await? {
        Some(ParamValue::Str(text)) => Ok(text),
        _ => Err(CallError::Answer { call: format!("{interface}.{property}"), reason: "not a string".into() }),
    }
}

async fn pool(session: &Session, given: &str) -> Result<(Driver, String), Failure> {
    let driver = session.default_driver().await?;
    let look_up = |method: &'static str| async move {
        session.client.call::<_, zbus::OwnedObjectPath>(driver.path(), CONNECT, method, &(given,)).await
    };
    if uuid::Uuid::try_parse(given).is_ok()
        && let Ok(path) = look_up("StoragePoolLookupByUUID").await
    {
        return Ok((driver, path.to_string()));
    }
    let path = look_up("StoragePoolLookupByName").await.context(|| format!("failed to get pool '{given}'"))?;
    Ok((driver, path.to_string()))
}

/// By name in a pool that is given, else by key, then by path.
async fn find(session: &Session, given: &str, of: Option<&str>, option: &str) -> Result<Volume, Failure> {
    let failed = || match of {
        None if option == "inputpool" => format!("failed to get vol '{given}', specifying --inputpool might help"),
        _ => format!("failed to get vol '{given}'"),
    };
    let driver = session.default_driver().await?;
    let mut found: Option<zbus::OwnedObjectPath> = None;
    if let Some(of) = of {
        let (_, path) = pool(session, of).await?;
        found = session.client.call(&path, POOL, "StorageVolLookupByName", &(given,)).await.ok();
    }
    if found.is_none() {
        found = session.client.call(driver.path(), CONNECT, "StorageVolLookupByKey", &(given,)).await.ok();
    }
    let path = match found {
        Some(path) => path,
        None => {
            let path: Result<zbus::OwnedObjectPath, CallError> =
                session.client.call(driver.path(), CONNECT, "StorageVolLookupByPath", &(given,)).await;
            path.context(failed)?
        }
    };
    let name = text(session, &path, VOLUME, "Name").await.context(failed)?;
    Ok(Volume { driver, path: path.to_string(), name })
}

/// Bytes of a size with a suffix.
pub fn size(given: &str, option: &str) -> Result<u64, Failure> {
    let wrong =
        || Failure::new(format!("Scaled numeric value '{given}' for <{option}> option is malformed or out of range"));
    let digits = given.len() - given.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = given.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let scale = unit_scale(unit.trim(), 1).ok_or_else(wrong)?;
    number.checked_mul(scale).ok_or_else(wrong)
}

async fn made(
    session: &Session,
    (driver, pool): (Driver, String),
    method: &'static str,
    body: &(impl serde::Serialize + zbus::DynamicType),
    name: &str,
) -> Result<String, CallError> {
    let call = session.client.call::<_, zbus::OwnedObjectPath>(&pool, POOL, method, body);
    let path = watched(session, driver, name, call).await?;
    text(session, &path, VOLUME, "Name").await
}

fn flags(make: MakeArgs, reflink: bool) -> u32 {
    u32::from(make.prealloc_metadata) | u32::from(reflink) << 1 | u32::from(make.validate) << 2
}

async fn create(session: &Session, args: &CreateArgs) -> Result<(), Failure> {
    let pool = pool(session, &args.pool).await?;
    let xml = read_file(&args.file)?;
    let body = (xml.as_str(), flags(args.make, false));
    let file = args.file.display();
    let name = made(session, pool, "StorageVolCreateXML", &body, "").await;
    let name = name.context(|| format!("Failed to create vol from {file}"))?;
    session.out.say(&json!({ "name": name }), &format!("Vol {name} created from {file}"));
    Ok(())
}

async fn create_as(session: &Session, args: &CreateAsArgs) -> Result<(), Failure> {
    let capacity = size(&args.capacity, "capacity")?;
    let allocation = args.allocation.as_deref().map(|text| size(text, "allocation")).transpose()?;
    let place = pool(session, &args.pool).await?;
    let name = escape_xml(&args.name);
    let mut xml = format!("<volume>\n  <name>{name}</name>\n  <capacity>{capacity}</capacity>\n");
    if let Some(allocation) = allocation {
        xml.push_str(&format!("  <allocation>{allocation}</allocation>\n"));
    }
    if let Some(format) = &args.format {
        xml.push_str(&format!("  <target>\n    <format type='{}'/>\n  </target>\n", escape_xml(format)));
    }
    if let Some(backing) = &args.backing_vol {
        let volume = find(session, backing, Some(&args.pool), "pool").await?;
        let path =
            text(session, &volume.path, VOLUME, "Path").await.context(|| format!("failed to get vol '{backing}'"))?;
        xml.push_str(&format!("  <backingStore>\n    <path>{}</path>\n", escape_xml(&path)));
        if let Some(format) = &args.backing_vol_format {
            xml.push_str(&format!("    <format type='{}'/>\n", escape_xml(format)));
        }
        xml.push_str("  </backingStore>\n");
    }
    xml.push_str("</volume>\n");
    if args.print_xml {
        session.out.show(&json!({ "xml": xml }), &xml);
        return Ok(());
    }
    let body = (xml.as_str(), flags(args.make, false));
    let made = made(session, place, "StorageVolCreateXML", &body, &args.name).await;
    made.context(|| format!("Failed to create vol {}", args.name))?;
    session.out.say(&json!({ "name": args.name }), &format!("Vol {} created", args.name));
    Ok(())
}

async fn create_from(session: &Session, args: &CreateFromArgs) -> Result<(), Failure> {
    let place = pool(session, &args.pool).await?;
    let source = find(session, &args.vol, args.inputpool.as_deref(), "inputpool").await?;
    let key = text(session, &source.path, VOLUME, "Key").await?;
    let xml = read_file(&args.file)?;
    let body = (xml.as_str(), key.as_str(), flags(args.make, args.reflink));
    let name = made(session, place, "StorageVolCreateXMLFrom", &body, "").await;
    let name = name.context(|| format!("Failed to create vol from {}", args.file.display()))?;
    let told = format!("Vol {name} created from input vol {}", source.name);
    session.out.say(&json!({ "name": name, "source": source.name }), &told);
    Ok(())
}

async fn clone(session: &Session, args: &CloneArgs) -> Result<(), Failure> {
    let source = find(session, &args.vol, args.pool.as_deref(), "pool").await?;
    let failed = || format!("Failed to clone vol from {}", source.name);
    let (_, pool) = pool_path(session, &source).await?;
    let key = text(session, &source.path, VOLUME, "Key").await.context(failed)?;
    let xml: String = session.client.call(&source.path, VOLUME, "GetXMLDesc", &(0u32,)).await.context(failed)?;
    let xml =
        renamed(&xml, &args.newname).ok_or_else(|| Failure::new("the volume's XML has no name").context(failed()))?;
    let body = (xml.as_str(), key.as_str(), flags(args.make, args.reflink));
    let made = made(session, (source.driver, pool), "StorageVolCreateXMLFrom", &body, &args.newname).await;
    made.context(failed)?;
    let told = format!("Vol {} cloned from {}", args.newname, source.name);
    session.out.say(&json!({ "name": args.newname, "source": source.name }), &told);
    Ok(())
}

/// The definition under another name. Key and path are the daemon's to choose.
fn renamed(xml: &str, name: &str) -> Option<String> {
    let start = xml.find("<name>")? + "<name>".len();
    let end = start + xml.get(start..)?.find("</name>")?;
    Some(format!("{}{}{}", &xml[..start], escape_xml(name), &xml[end..]))
}

async fn delete(session: &Session, args: &VolumeArg) -> Result<(), Failure> {
    let volume = find(session, &args.vol, args.pool.as_deref(), "pool").await?;
    let done: Result<(), CallError> = session.client.call(&volume.path, VOLUME, "Delete", &(0u32,)).await;
    done.context(|| format!("Failed to delete vol {}", args.vol))?;
    session.out.say(&json!({ "name": volume.name }), &format!("Vol {} deleted", args.vol));
    Ok(())
}

async fn wipe(session: &Session, args: &WipeArgs) -> Result<(), Failure> {
    const WORDS: [&str; 10] =
        ["zero", "nnsa", "dod", "bsi", "gutmann", "schneier", "pfitzner7", "pfitzner33", "random", "trim"];
    let volume = find(session, &args.vol.vol, args.vol.pool.as_deref(), "pool").await?;
    let number = WORDS.iter().position(|word| *word == args.algorithm).and_then(|index| u32::try_from(index).ok());
    let number = number.ok_or_else(|| {
        Failure::new(format!("Unsupported algorithm '{}'; there are {}", args.algorithm, WORDS.join(", ")))
    })?;
    let body = (number, 0u32);
    let call = session.client.call::<_, ()>(&volume.path, VOLUME, "Wipe", &body);
    let done = watched(session, volume.driver, &volume.name, call).await;
    done.context(|| format!("Failed to wipe vol {}", args.vol.vol))?;
    session.out.say(&json!({ "name": volume.name }), &format!("Vol {} wiped", args.vol.vol));
    Ok(())
}

async fn resize(session: &Session, args: &ResizeArgs) -> Result<(), Failure> {
    let volume = find(session, &args.vol, args.pool.as_deref(), "pool").await?;
    let (mut delta, mut given) = (args.delta, args.capacity.as_str());
    // virsh's other way to say that it becomes smaller.
    if let Some(rest) = given.strip_prefix('-') {
        if !args.shrink {
            return Err(Failure::new("negative size requires --shrink"));
        }
        (delta, given) = (true, rest);
    }
    let capacity = size(given, "capacity")?;
    let flags = u32::from(args.allocate) | u32::from(delta) << 1 | u32::from(args.shrink) << 2;
    let body = (capacity, flags);
    let call = session.client.call::<_, ()>(&volume.path, VOLUME, "Resize", &body);
    let done = watched(session, volume.driver, &volume.name, call).await;
    let (shown, by) = (&args.capacity, if delta { "by" } else { "to" });
    done.context(|| match delta {
        true => format!("Failed to change size of volume '{}' by {shown}", volume.name),
        false => format!("Failed to change size of volume '{}' to {shown}", volume.name),
    })?;
    let told = format!("Size of volume '{}' successfully changed {by} {shown}", volume.name);
    session.out.say(&json!({ "name": volume.name }), &told);
    Ok(())
}

async fn transfer(session: &Session, args: &TransferArgs, up: bool) -> Result<(), Failure> {
    let volume = find(session, &args.vol, args.pool.as_deref(), "pool").await?;
    let file = args.file.display();
    let opened = match up {
        true => File::open(&args.file),
        false => File::options().write(true).create(true).truncate(true).open(&args.file),
    };
    let opened = opened.map_err(|error| {
        let what = if up { "cannot read" } else { "cannot create" };
        Failure::new(format!("{what} {file}: {}", reason(&error)))
    })?;
    let method = if up { "Upload" } else { "Download" };
    let fd = zbus::OwnedFd::from(OwnedFd::from(opened));
    let body = (fd, args.offset, args.length, u32::from(args.sparse));
    let call = session.client.call::<_, ()>(&volume.path, DOMUS_VOLUME, method, &body);
    let done = watched(session, volume.driver, &volume.name, call).await;
    let what = if up { "cannot upload to volume" } else { "cannot download from volume" };
    done.context(|| format!("{what} {}", volume.name))?;
    session.out.say(&json!({ "name": volume.name }), "");
    Ok(())
}

/// Type, capacity, allocation.
async fn sizes(session: &Session, path: &str, physical: bool) -> Result<(i32, u64, u64), CallError> {
    let ((kind, capacity, allocation),): ((i32, u64, u64),) =
        session.client.call(path, VOLUME, "GetInfo", &(u32::from(physical),)).await?;
    Ok((kind, capacity, allocation))
}

fn kind_word(kind: i32) -> &'static str {
    match kind {
        0 => "file",
        1 => "block",
        2 => "dir",
        3 => "network",
        4 => "net-dir",
        5 => "ploop",
        _ => "unknown",
    }
}

/// Text for an element or attribute.
fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;")
}

/// `10.00 MiB`
pub fn pretty(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2} {}", UNITS[unit])
}

async fn info(session: &Session, args: &InfoArgs) -> Result<(), Failure> {
    let volume = find(session, &args.vol.vol, args.vol.pool.as_deref(), "pool").await?;
    let (kind, capacity, allocation) = sizes(session, &volume.path, args.physical).await?;
    let shown = |bytes: u64| if args.bytes { format!("{bytes} bytes") } else { pretty(bytes) };
    let (label, key) = if args.physical { ("Physical:", "physical") } else { ("Allocation:", "allocation") };
    let mut text = String::new();
    let lines = [
        ("Name:", volume.name.clone()),
        ("Type:", kind_word(kind).to_string()),
        ("Capacity:", shown(capacity)),
        (label, shown(allocation)),
    ];
    for (label, value) in lines {
        text.push_str(&format!("{label:<15} {value}\n"));
    }
    let mut value = json!({ "name": volume.name, "type": kind_word(kind), "capacity": capacity });
    value[key] = allocation.into();
    session.out.show(&value, &text);
    Ok(())
}

async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let (_, path) = pool(session, &args.pool).await?;
    let paths: Result<Vec<zbus::OwnedObjectPath>, CallError> =
        session.client.call(&path, POOL, "ListStorageVolumes", &(0u32,)).await;
    let mut rows = Vec::new();
    for path in paths.context(|| "Failed to list storage volumes".to_owned())? {
        // One that is gone meanwhile is left out.
        let (Ok(name), Ok(place)) =
            (text(session, &path, VOLUME, "Name").await, text(session, &path, VOLUME, "Path").await)
        else {
            continue;
        };
        let sizes = if args.details { sizes(session, &path, false).await.ok() } else { None };
        rows.push((name, place, sizes));
    }
    // virsh's order.
    rows.sort_by_key(|(name, ..)| name.to_lowercase());
    if session.out.json {
        let list = rows.iter().map(|(name, path, sizes)| {
            let mut value = json!({ "name": name, "path": path });
            if let Some((kind, capacity, allocation)) = sizes {
                value["type"] = kind_word(*kind).into();
                value["capacity"] = (*capacity).into();
                value["allocation"] = (*allocation).into();
            }
            value
        });
        session.out.value(&list.collect::<Vec<Value>>().into());
        return Ok(());
    }
    let header: &[&str] =
        if args.details { &["Name", "Path", "Type", "Capacity", "Allocation"] } else { &["Name", "Path"] };
    let mut table = Table::new(header);
    for (name, path, sizes) in rows {
        let mut cells = vec![name, path];
        if args.details {
            let (kind, capacity, allocation) = sizes.unwrap_or((-1, 0, 0));
            cells.extend([kind_word(kind).to_owned(), pretty(capacity), pretty(allocation)]);
        }
        table.row(cells);
    }
    super::output::raw(&table.text(session.out.quiet));
    Ok(())
}

async fn fact(session: &Session, args: &VolumeArg, property: &str) -> Result<(), Failure> {
    let volume = find(session, &args.vol, args.pool.as_deref(), "pool").await?;
    let value = text(session, &volume.path, VOLUME, property).await?;
    session.out.show(&json!({ property.to_lowercase(): value }), &format!("{value}\n"));
    Ok(())
}

/// The pool of a volume, which D-Bus has no call for: the one whose list has it.
async fn pool_path(session: &Session, volume: &Volume) -> Result<(Driver, String), Failure> {
    let pools: Vec<zbus::OwnedObjectPath> =
        session.client.call(volume.driver.path(), CONNECT, "ListStoragePools", &(2u32,)).await?;
    for pool in pools {
        let volumes: Result<Vec<zbus::OwnedObjectPath>, CallError> =
            session.client.call(&pool, POOL, "ListStorageVolumes", &(0u32,)).await;
        if volumes.is_ok_and(|volumes| volumes.iter().any(|path| path.as_str() == volume.path)) {
            return Ok((volume.driver, pool.to_string()));
        }
    }
    Err(Failure::new(format!("no running pool has volume '{}'", volume.name)).context("failed to get parent pool"))
}

async fn pool_of(session: &Session, args: &VolumeArg) -> Result<(), Failure> {
    let volume = find(session, &args.vol, args.pool.as_deref(), "pool").await?;
    let (_, path) = pool_path(session, &volume).await?;
    let name = text(session, &path, POOL, "Name").await?;
    session.out.show(&json!({ "pool": name }), &format!("{name}\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(size("20M", "capacity").unwrap(), 20 << 20);
        assert_eq!(size("7", "capacity").unwrap(), 7);
        for wrong in ["", "M", "1X", "99999999999999999999"] {
            assert!(size(wrong, "capacity").is_err(), "{wrong}");
        }
        assert_eq!(
            (pretty(0), pretty(10 << 20), pretty(200_704)),
            ("0.00 B".into(), "10.00 MiB".into(), "196.00 KiB".into())
        );
    }

    #[test]
    fn a_clone_has_another_name() {
        let xml = "<volume><name>a</name><key>/p/a</key></volume>";
        assert_eq!(renamed(xml, "b<").unwrap(), "<volume><name>b&lt;</name><key>/p/a</key></volume>");
        assert_eq!(renamed("<volume/>", "b"), None);
    }
}
