//! `secret-*`: secrets of the host.
//!
//! A value never passes through an argument unless the user put it there, and is wiped from memory once it is sent.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use super::args::FileArg;
use super::client::{CallError, reason};
use super::domains::{CONNECT, Driver, Session};
use super::host::ended;
use super::host_event::{self, EventArgs};
use super::output::{self, Context, Failure, Table};
use crate::types::ParamValue;

/// `org.libvirt.Secret`
const SECRET: &str = "org.libvirt.Secret";

/// Commands of secrets.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Define a secret from an XML file, or change it
    #[command(name = "secret-define")]
    Define(DefineArgs),
    /// Print a secret's XML
    #[command(name = "secret-dumpxml")]
    Dumpxml(SecretArg),
    /// Set a secret's value
    #[command(name = "secret-set-value")]
    SetValue(SetValueArgs),
    /// Print a secret's value
    #[command(name = "secret-get-value")]
    GetValue(GetValueArgs),
    /// Undefine a secret
    #[command(name = "secret-undefine")]
    Undefine(SecretArg),
    /// List secrets
    #[command(name = "secret-list")]
    List(ListArgs),
    /// Wait for events of secrets
    #[command(name = "secret-event")]
    Event(EventArgs),
}

/// A secret as the first positional argument.
#[derive(Debug, Args)]
pub struct SecretArg {
    /// UUID of the secret
    secret: String,
}

/// Options of `secret-define`.
#[derive(Debug, Args)]
pub struct DefineArgs {
    #[command(flatten)]
    file: FileArg,
    /// Refuse what is not known in secrets
    #[arg(long)]
    validate: bool,
}

/// Options of `secret-set-value`.
#[derive(Debug, Args)]
pub struct SetValueArgs {
    #[command(flatten)]
    secret: SecretArg,
    /// The value in base64; others can see it while the command runs
    value: Option<String>,
    /// The same
    #[arg(long, value_name = "TEXT", conflicts_with = "value")]
    base64: Option<String>,
    /// File with the value, in base64 unless --plain
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The file's bytes are the value
    #[arg(long)]
    plain: bool,
    /// Ask for the value
    #[arg(long)]
    interactive: bool,
}

/// Options of `secret-get-value`.
#[derive(Debug, Args)]
pub struct GetValueArgs {
    #[command(flatten)]
    secret: SecretArg,
    /// Print the value as it is instead of in base64
    #[arg(long)]
    plain: bool,
}

/// Options of `secret-list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only ephemeral secrets
    #[arg(long)]
    ephemeral: bool,
    /// Only secrets that are kept
    #[arg(long)]
    no_ephemeral: bool,
    /// Only private secrets
    #[arg(long)]
    private: bool,
    /// Only secrets that are not private
    #[arg(long)]
    no_private: bool,
}

const EVENTS: host_event::Kind = host_event::Kind {
    noun: "secret",
    look_up: Some("SecretLookupByUUID"),
    property: "UUID",
    interface: SECRET,
    lifecycle: ("SecretEvent", &["Defined", "Undefined"]),
    other: ("value-changed", "org.domus.Secret1", "ValueChanged"),
};

impl Command {
    /// The wait that the command is, if it is one.
    pub fn event(&self) -> Option<(&EventArgs, &'static host_event::Kind)> {
        match self {
            Command::Event(args) => Some((args, &EVENTS)),
            _ => None,
        }
    }
}

/// Runs a command of this group.
pub async fn run(session: &Session, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Define(args) => define(session, args).await,
        Command::Dumpxml(args) => dumpxml(session, args).await,
        Command::SetValue(args) => set_value(session, args).await,
        Command::GetValue(args) => get_value(session, args).await,
        Command::Undefine(args) => undefine(session, args).await,
        Command::List(args) => list(session, args).await,
        Command::Event(args) => host_event::run(session, args, &EVENTS).await,
    }
}

/// A secret that exists.
struct Secret {
    driver: Driver,
    path: String,
    uuid: String,
}

impl Secret {
    fn json(&self) -> serde_json::Value {
        json!({ "driver": self.driver.name(), "uuid": self.uuid })
    }
}

impl SecretArg {
    async fn find(&self, session: &Session) -> Result<Secret, Failure> {
        let driver = session.default_driver().await?;
        let path: Result<zbus::OwnedObjectPath, CallError> =
            session.client.call(driver.path(), CONNECT, "SecretLookupByUUID", &(&self.secret,)).await;
        let path = path.context(|| format!("failed to get secret '{}'", self.secret))?;
        Ok(Secret { driver, path: path.to_string(), uuid: self.secret.to_ascii_lowercase() })
    }
}

async fn text(session: &Session, path: &str, property: &str) -> Result<String, CallError> {
    match session.client.value(path, SECRET, property).await? {
        Some(ParamValue::Str(text)) => Ok(text),
        _ => Err(CallError::Answer { call: format!("{SECRET}.{property}"), reason: "not a string".into() }),
    }
}

async fn define(session: &Session, args: &DefineArgs) -> Result<(), Failure> {
    let xml = args.file.read()?;
    let driver = session.default_driver().await?;
    let body = (xml, u32::from(args.validate));
    let path: Result<zbus::OwnedObjectPath, CallError> =
        session.client.call(driver.path(), CONNECT, "SecretDefineXML", &body).await;
    let path = path.context(|| format!("Failed to set attributes from {}", args.file.name()))?;
    let uuid = text(session, &path, "UUID").await.context(|| "Failed to get UUID of created secret".to_owned())?;
    session.out.say(&json!({ "driver": driver.name(), "uuid": uuid }), &format!("Secret {uuid} created"));
    Ok(())
}

async fn dumpxml(session: &Session, args: &SecretArg) -> Result<(), Failure> {
    let secret = args.find(session).await?;
    let xml: String = session.client.call(&secret.path, SECRET, "GetXMLDesc", &(0u32,)).await?;
    let mut value = secret.json();
    value["xml"] = xml.as_str().into();
    session.out.show(&value, &ended(&xml));
    Ok(())
}

/// The bytes that base64 stands for; blanks and line breaks do not count.
fn decoded(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let text: Zeroizing<Vec<u8>> = Zeroizing::new(text.iter().copied().filter(|c| !c.is_ascii_whitespace()).collect());
    let value = STANDARD.decode(text.as_slice()).map_err(|error| {
        Failure::new(format!("Invalid base64 data: {error}; --plain takes the bytes of a file as they are"))
    })?;
    Ok(Zeroizing::new(value))
}

impl SetValueArgs {
    fn value(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let base64 = self.value.as_ref().or(self.base64.as_ref());
        let given = [("base64", base64.is_some()), ("file", self.file.is_some()), ("interactive", self.interactive)];
        let exclude =
            |one: &str, other: &str| Err(Failure::new(format!("Options --{one} and --{other} are mutually exclusive")));
        let mut used = given.iter().filter(|(_, is)| *is).map(|(name, _)| *name);
        match (used.next(), used.next()) {
            (Some("base64"), Some("file")) => return exclude("file", "base64"),
            (Some(first), Some(second)) => return exclude(second, first),
            (Some("base64"), None) if self.plain => return exclude("plain", "base64"),
            (Some("interactive"), None) if self.plain => return exclude("plain", "interactive"),
            _ => {}
        }
        if let Some(text) = base64 {
            output::error("Passing secret value as command-line argument is insecure!");
            return decoded(text.as_bytes());
        }
        if let Some(path) = &self.file {
            let bytes = std::fs::read(path).map(Zeroizing::new).map_err(|error| {
                Failure::new(format!("Failed to open file '{}': {}", path.display(), reason(&error)))
            })?;
            return if self.plain { Ok(bytes) } else { decoded(&bytes) };
        }
        if self.interactive {
            return asked();
        }
        Err(Failure::new("Input secret value is missing"))
    }
}

/// A line typed at the terminal, which does not show it.
fn asked() -> Result<Zeroizing<Vec<u8>>, Failure> {
    use nix::sys::termios::{self, LocalFlags, SetArg};
    use std::io::{BufRead, IsTerminal};
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new("Failed to read secret: standard input is not a terminal; use --file"));
    }
    let failed = |error: nix::Error| Failure::new(format!("Failed to read secret: {}", error.desc()));
    let before = termios::tcgetattr(&stdin).map_err(failed)?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    output::raw("Enter new value for secret: ");
    termios::tcsetattr(&stdin, SetArg::TCSAFLUSH, &silent).map_err(failed)?;
    let mut line = Zeroizing::new(Vec::new());
    let read = stdin.lock().read_until(b'\n', &mut line);
    let _ = termios::tcsetattr(&stdin, SetArg::TCSAFLUSH, &before);
    output::raw("\n");
    read.map_err(|error| Failure::new(format!("Failed to read secret: {}", reason(&error))))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(line)
}

async fn set_value(session: &Session, args: &SetValueArgs) -> Result<(), Failure> {
    let secret = args.secret.find(session).await?;
    let value = args.value()?;
    let set: Result<(), CallError> =
        session.client.call(&secret.path, SECRET, "SetValue", &(value.as_slice(), 0u32)).await;
    set.context(|| "Failed to set secret value".to_owned())?;
    session.out.say(&secret.json(), "Secret value set");
    Ok(())
}

async fn get_value(session: &Session, args: &GetValueArgs) -> Result<(), Failure> {
    let secret = args.secret.find(session).await?;
    let value: Vec<u8> = session.client.call(&secret.path, SECRET, "GetValue", &(0u32,)).await?;
    let value = Zeroizing::new(value);
    let base64 = Zeroizing::new(STANDARD.encode(value.as_slice()));
    if args.plain && !session.out.json {
        output::raw_bytes(&value);
        return Ok(());
    }
    let mut shown = secret.json();
    shown["value"] = base64.as_str().into();
    session.out.show(&shown, &base64);
    Ok(())
}

async fn undefine(session: &Session, args: &SecretArg) -> Result<(), Failure> {
    let secret = args.find(session).await?;
    let done: Result<(), CallError> = session.client.call(&secret.path, SECRET, "Undefine", &()).await;
    done.context(|| format!("Failed to delete secret {}", args.secret))?;
    session.out.say(&secret.json(), &format!("Secret {} deleted", args.secret));
    Ok(())
}

async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let filters = [args.ephemeral, args.no_ephemeral, args.private, args.no_private];
    let flags = filters.iter().enumerate().map(|(bit, on)| u32::from(*on) << bit).sum::<u32>();
    let driver = session.default_driver().await?;
    let paths: Result<Vec<zbus::OwnedObjectPath>, CallError> =
        session.client.call(driver.path(), CONNECT, "ListSecrets", &(flags,)).await;
    let mut rows = Vec::new();
    for path in paths.context(|| "Failed to list node secrets".to_owned())? {
        // One that is gone meanwhile is left out.
        let (Ok(uuid), Ok(usage)) = (text(session, &path, "UUID").await, text(session, &path, "UsageID").await) else {
            continue;
        };
        let Ok(Some(ParamValue::Int(kind))) = session.client.value(&path, SECRET, "UsageType").await else { continue };
        rows.push((uuid, kind, usage));
    }
    // virsh's order.
    rows.sort();
    let word = |kind: i32| match kind {
        0 => "none",
        1 => "volume",
        2 => "ceph",
        3 => "iscsi",
        4 => "tls",
        5 => "vtpm",
        _ => "unknown",
    };
    if session.out.json {
        let list = rows.iter().map(|(uuid, kind, id)| json!({ "uuid": uuid, "usage": word(*kind), "id": id }));
        session.out.value(&list.collect());
        return Ok(());
    }
    let mut table = Table::new(&["UUID", "Usage"]);
    for (uuid, kind, id) in rows {
        let usage = if kind == 0 { "Unused".to_owned() } else { format!("{} {id}", word(kind)) };
        table.row(vec![uuid, usage]);
    }
    output::raw(&table.text(session.out.quiet));
    Ok(())
}
