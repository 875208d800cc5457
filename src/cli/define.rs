//! Commands about definitions: define, create, undefine, domrename, autostart.
//!
//! Before a definition is handed over, the daemon is asked what it thinks of the XML; its warnings go to standard error
//! with file, line and column, because libvirt's define has no place for them.

use clap::Args;
use serde_json::{Value, json};

use super::args::{DomainArg, FileArg};
use super::client::CallError;
use super::console;
use super::devices;
use super::domains::{By, CONNECT, DOMAIN, DOMUS_CONNECT, Driver, Session};
use super::lifecycle::done;
use super::output::{self, Context, Failure};
use super::xml;
use crate::types::flags::{create, undefine as undefine_flag};

/// Options of `define`.
#[derive(Debug, Args)]
pub struct DefineArgs {
    #[command(flatten)]
    file: FileArg,
    /// Refuse misspelled, misplaced and repeated elements and attributes, which are otherwise dropped with a warning
    #[arg(long)]
    validate: bool,
}

/// Options of `create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    file: FileArg,
    /// Connect to the console; nothing the guest prints is missed
    #[arg(long)]
    console: bool,
    /// Leave the guest paused
    #[arg(long)]
    paused: bool,
    /// Refuse misspelled, misplaced and repeated elements and attributes, which are otherwise dropped with a warning
    #[arg(long)]
    validate: bool,
    /// Make the NVRAM afresh from its template
    #[arg(long)]
    reset_nvram: bool,
}

/// Options of `undefine`.
#[derive(Debug, Args)]
pub struct UndefineArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Remove the managed save image
    #[arg(long)]
    managed_save: bool,
    /// Remove the snapshots' metadata
    #[arg(long)]
    snapshots_metadata: bool,
    /// Remove the checkpoints' metadata
    #[arg(long)]
    checkpoints_metadata: bool,
    /// Remove the NVRAM file
    #[arg(long, conflicts_with = "keep_nvram")]
    nvram: bool,
    /// Keep the NVRAM file
    #[arg(long)]
    keep_nvram: bool,
    /// Remove the TPM's state
    #[arg(long, conflicts_with = "keep_tpm")]
    tpm: bool,
    /// Keep the TPM's state
    #[arg(long)]
    keep_tpm: bool,
    /// Remove all of these, except what a --keep option keeps
    #[arg(long)]
    all: bool,
}

/// Options of `domrename`.
#[derive(Debug, Args)]
pub struct RenameArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// The new name
    #[arg(value_name = "NEW-NAME")]
    new_name: String,
}

/// Options of `autostart`.
#[derive(Debug, Args)]
pub struct AutostartArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Do not start it with the daemon any more
    #[arg(long)]
    disable: bool,
}

/// `domus define`
pub async fn define(session: &Session, args: &DefineArgs) -> Result<(), Failure> {
    let file = args.file.name();
    let xml = args.file.read()?;
    let driver = session.driver_for(devices::domain_type(&xml).as_deref()).await?;
    let failed = || format!("Failed to define domain from {file}");
    let warnings = check(session, driver, &xml).await?;
    warn(&file, &warnings);
    if args.validate {
        refuse(session, driver, &file, &xml).await.map_err(|failure| failure.context(failed()))?;
    }
    let path: Result<zbus::OwnedObjectPath, CallError> =
        session.client.call(driver.path(), CONNECT, "DomainDefineXML", &(xml.as_str(),)).await;
    let path = path.context(failed)?;
    let domain = session.domain_at(driver, &path).await?;
    let mut value = domain.json_with("result", "defined");
    value["warnings"] = warnings_json(&warnings);
    session.out.say(&value, &format!("Domain '{}' defined from {file}", domain.name));
    Ok(())
}

/// `domus create`
pub async fn create(session: &Session, args: &CreateArgs) -> Result<(), Failure> {
    let file = args.file.name();
    let xml = args.file.read()?;
    let driver = session.driver_for(devices::domain_type(&xml).as_deref()).await?;
    let failed = || format!("Failed to create domain from {file}");
    let warnings = check(session, driver, &xml).await?;
    warn(&file, &warnings);
    if args.validate {
        refuse(session, driver, &file, &xml).await.map_err(|failure| failure.context(failed()))?;
    }
    let mut flags = if args.paused || args.console { create::PAUSED } else { 0 };
    if args.reset_nvram {
        flags |= create::RESET_NVRAM;
    }
    let path: Result<zbus::OwnedObjectPath, CallError> =
        session.client.call(driver.path(), CONNECT, "DomainCreateXML", &(xml.as_str(), flags)).await;
    let path = path.context(failed)?;
    let domain = session.domain_at(driver, &path).await?;
    let mut value = domain.json_with("result", "created");
    value["warnings"] = warnings_json(&warnings);
    session.out.say(&value, &format!("Domain '{}' created from {file}", domain.name));
    if args.console {
        console::attach(session, &domain, "", false, !args.paused).await?;
    }
    Ok(())
}

/// `domus undefine`
pub async fn undefine(session: &Session, args: &UndefineArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let mut flags = 0;
    let wanted = [
        (args.managed_save || args.all, undefine_flag::MANAGED_SAVE),
        (args.snapshots_metadata || args.all, undefine_flag::SNAPSHOTS_METADATA),
        (args.checkpoints_metadata || args.all, undefine_flag::CHECKPOINTS_METADATA),
        (args.nvram || args.all && !args.keep_nvram, undefine_flag::NVRAM),
        (args.keep_nvram, undefine_flag::KEEP_NVRAM),
        (args.tpm || args.all && !args.keep_tpm, undefine_flag::TPM),
        (args.keep_tpm, undefine_flag::KEEP_TPM),
    ];
    wanted.iter().filter(|(on, _)| *on).for_each(|(_, bit)| flags |= bit);
    let answer: Result<(), CallError> = session.client.call(&domain.path, DOMAIN, "Undefine", &(flags,)).await;
    answer.context(|| format!("Failed to undefine domain '{}'", domain.name))?;
    done(session, &domain, "undefined", &format!("Domain '{}' has been undefined", domain.name));
    Ok(())
}

/// `domus domrename`
pub async fn rename(session: &Session, args: &RenameArgs) -> Result<(), Failure> {
    let new_name = args.new_name.as_str();
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    session.client.call::<_, ()>(&domain.path, DOMAIN, "Rename", &(new_name, 0u32)).await?;
    let mut value = domain.json_with("result", "renamed");
    value["new-name"] = Value::from(new_name);
    session.out.say(&value, "Domain successfully renamed");
    Ok(())
}

/// `domus autostart`
pub async fn autostart(session: &Session, args: &AutostartArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let (verb, word) = if args.disable { ("unmark", "unmarked") } else { ("mark", "marked") };
    let set = session.client.set_property(&domain.path, DOMAIN, "Autostart", zbus::Variant::Bool(!args.disable)).await;
    set.context(|| format!("Failed to {verb} domain '{}' as autostarted", domain.name))?;
    let value = domain.json_with("autostart", !args.disable);
    session.out.say(&value, &format!("Domain '{}' {word} as autostarted", domain.name));
    Ok(())
}

/// One warning: line, column, element path, text.
pub type Warning = (u32, u32, String, String);

/// What the daemon has to say about the XML. Nothing, when it cannot read it: the definition's error says it better;
/// nothing, when the daemon has no such call.
pub async fn check(session: &Session, driver: Driver, xml: &str) -> Result<Vec<Warning>, CallError> {
    match session.client.call(driver.path(), DOMUS_CONNECT, "CheckXML", &(xml, 0u32)).await {
        Err(error) if error.is_answer() => Ok(Vec::new()),
        answer => answer,
    }
}

/// `FILE:LINE:COL: path: message`
pub fn warning_text(file: &str, (line, column, path, message): &Warning) -> String {
    if path.is_empty() {
        format!("{file}:{line}:{column}: {message}")
    } else {
        format!("{file}:{line}:{column}: {path}: {message}")
    }
}

/// Warnings for `--json`.
pub fn warnings_json(warnings: &[Warning]) -> Value {
    let one = |(line, column, path, message): &Warning| json!({ "line": line, "column": column, "path": path, "message": message });
    Value::from(warnings.iter().map(one).collect::<Vec<_>>())
}

fn warn(file: &str, warnings: &[Warning]) {
    for warning in warnings {
        output::warning(&warning_text(file, warning));
    }
}

/// Refuses what the VALIDATE flag refuses: libvirt-dbus's define has no flags.
async fn refuse(session: &Session, driver: Driver, file: &str, xml: &str) -> Result<(), Failure> {
    let findings = xml::diagnose(session, driver, xml).await?;
    let line = |finding: &xml::Finding| {
        let (line, column, _, path, message) = finding.clone();
        warning_text(file, &(line, column, path, message))
    };
    let lines: Vec<String> = findings.iter().filter(|finding| xml::is_refused(finding)).map(line).collect();
    if lines.is_empty() { Ok(()) } else { Err(Failure { lines }) }
}
