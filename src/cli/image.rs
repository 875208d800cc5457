//! `image-*`: base images.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::CallError;
use super::domains::Session;
use super::output::{Context, Failure, Table, raw};
use super::progress::{IMAGES, watched};
use super::volume::{pretty, size};

/// Commands of base images.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Import an image once, to be the base of others
    #[command(name = "image-import")]
    Import(ImportArgs),
    /// List base images
    #[command(name = "image-list")]
    List,
    /// Make a qcow2 image over a base image
    #[command(name = "image-overlay")]
    Overlay(OverlayArgs),
    /// Remove the base images that nothing uses
    #[command(name = "image-prune")]
    Prune(PruneArgs),
}

/// Options of `image-import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The image
    file: PathBuf,
    /// raw, qcow2 or tar (a root file system); never guessed
    #[arg(long)]
    format: String,
    /// Checksum that it must have
    #[arg(long)]
    sha256: Option<String>,
    /// Name for people; the file's when not given
    #[arg(long, default_value = "")]
    name: String,
}

/// Options of `image-overlay`.
#[derive(Debug, Args)]
pub struct OverlayArgs {
    /// Checksum (eight digits are enough) or name of the base image
    image: String,
    /// The new image
    file: PathBuf,
    /// Size, bytes unless it has a suffix; not less than the base's
    #[arg(long)]
    size: Option<String>,
}

/// Options of `image-prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Only those that were not asked for in this many days
    #[arg(long, default_value_t = 30)]
    days: u64,
}

/// As the daemon describes one: checksum, name, kind, path, bytes, when imported, overlays, a user.
type Row = (String, String, String, String, u64, u64, u32, String);

fn value((sha256, name, kind, path, size, imported, overlays, user): &Row) -> Value {
    json!({ "sha256": sha256, "name": name, "kind": kind, "path": path, "size": size, "imported": imported,
            "overlays": overlays, "user": user })
}

fn absolute(path: &Path) -> Result<String, Failure> {
    let path = std::path::absolute(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    path.into_os_string().into_string().map_err(|_| Failure::new("the path is not UTF-8"))
}

/// Runs a command of this group.
pub async fn run(session: &Session, command: &Command) -> Result<(), Failure> {
    let driver = session.default_driver().await?;
    let client = &session.client;
    match command {
        Command::Import(args) => {
            let path = absolute(&args.file)?;
            let body = (path.as_str(), &args.format, args.sha256.as_deref().unwrap_or(""), &args.name, 0u32);
            let shown = args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let call = client.call::<_, (Row,)>(driver.path(), IMAGES, "Import", &body);
            let (row,) = watched(session, driver, &shown, call)
                .await
                .context(|| format!("Failed to import image {}", args.file.display()))?;
            session.out.say(&value(&row), &format!("Image {} imported as {}", row.1, row.0));
        }
        Command::List => {
            let rows: Result<Vec<Row>, CallError> = client.call(driver.path(), IMAGES, "List", &(0u32,)).await;
            let rows = rows.context(|| "Failed to list images".to_owned())?;
            if session.out.json {
                session.out.value(&rows.iter().map(value).collect::<Vec<_>>().into());
                return Ok(());
            }
            let mut table = Table::new(&["Checksum", "Name", "Kind", "Size", "Overlays", "Used by"]);
            for (sum, name, kind, _, size, _, overlays, user) in rows {
                let sum = sum.get(..12).unwrap_or(&sum).to_owned();
                table.row(vec![sum, name, kind, pretty(size), overlays.to_string(), user]);
            }
            raw(&table.text(session.out.quiet));
        }
        Command::Overlay(args) => {
            let bytes = args.size.as_deref().map(|text| size(text, "size")).transpose()?.unwrap_or(0);
            let path = absolute(&args.file)?;
            let body = (&args.image, path.as_str(), bytes, 0u32);
            let done: Result<(), CallError> = client.call(driver.path(), IMAGES, "CreateOverlay", &body).await;
            done.context(|| format!("Failed to make an overlay of image {}", args.image))?;
            let told = format!("Overlay {} created over image {}", args.file.display(), args.image);
            session.out.say(&json!({ "path": path }), &told);
        }
        Command::Prune(args) => {
            let body = (args.days.saturating_mul(24 * 3600), 0u32);
            let gone: Result<Vec<String>, CallError> = client.call(driver.path(), IMAGES, "Prune", &body).await;
            let gone = gone.context(|| "Failed to prune images".to_owned())?;
            let text: String = gone.iter().map(|sum| format!("Image {sum} removed\n")).collect();
            session.out.show(&json!({ "removed": gone }), &text);
        }
    }
    Ok(())
}
