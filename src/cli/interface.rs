//! `iface-*`: interfaces of the host.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::FileArg;
use super::client::CallError;
use super::domains::{CONNECT, Driver, Session};
use super::edit;
use super::host::ended;
use super::output::{self, Context, Failure, Table};
use crate::types::{MacAddr, ParamValue};

/// `org.libvirt.Interface`
const INTERFACE: &str = "org.libvirt.Interface";
/// `VIR_CONNECT_LIST_INTERFACES_INACTIVE` and `_ACTIVE`.
const LIST_INACTIVE: u32 = 1;
const LIST_ACTIVE: u32 = 2;
/// `VIR_INTERFACE_XML_INACTIVE`
const XML_INACTIVE: u32 = 1;

/// Commands of interfaces.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List interfaces of the host
    #[command(name = "iface-list")]
    List(ListArgs),
    /// Print an interface's XML
    #[command(name = "iface-dumpxml")]
    Dumpxml(DumpxmlArgs),
    /// Define an interface from an XML file, or change it
    #[command(name = "iface-define")]
    Define(FileArg),
    /// Edit an interface's XML
    #[command(name = "iface-edit")]
    Edit(InterfaceArg),
    /// Undefine an interface
    #[command(name = "iface-undefine")]
    Undefine(InterfaceArg),
    /// Start an interface
    #[command(name = "iface-start")]
    Start(InterfaceArg),
    /// Stop an interface
    #[command(name = "iface-destroy")]
    Destroy(InterfaceArg),
    /// Print the name of the interface with a MAC address
    #[command(name = "iface-name")]
    Name(InterfaceArg),
    /// Print an interface's MAC address
    #[command(name = "iface-mac")]
    Mac(InterfaceArg),
    /// Keep the interfaces as they are, to go back to
    #[command(name = "iface-begin")]
    Begin,
    /// Forget what the interfaces were
    #[command(name = "iface-commit")]
    Commit,
    /// Go back to what the interfaces were
    #[command(name = "iface-rollback")]
    Rollback,
}

/// An interface as the first positional argument.
#[derive(Debug, Args)]
pub struct InterfaceArg {
    /// Name or MAC address of the interface
    interface: String,
}

/// Options of `iface-list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// List inactive interfaces
    #[arg(long)]
    inactive: bool,
    /// List inactive and active interfaces
    #[arg(long)]
    all: bool,
}

/// Options of `iface-dumpxml`.
#[derive(Debug, Args)]
pub struct DumpxmlArgs {
    #[command(flatten)]
    interface: InterfaceArg,
    /// Print the definition for the next start
    #[arg(long)]
    inactive: bool,
}

/// An interface that exists.
struct Interface {
    driver: Driver,
    path: String,
    name: String,
    mac: String,
    active: bool,
}

impl Interface {
    fn json(&self) -> Value {
        json!({ "driver": self.driver.name(), "name": self.name, "mac": self.mac })
    }

    fn json_with(&self, key: &str, value: impl Into<Value>) -> Value {
        let mut object = self.json();
        object[key] = value.into();
        object
    }
}

/// Runs a command of this group.
pub async fn run(session: &Session, command: &Command) -> Result<(), Failure> {
    match command {
        Command::List(args) => list(session, args).await,
        Command::Dumpxml(args) => dumpxml(session, args).await,
        Command::Define(file) => define(session, file).await,
        Command::Edit(args) => edit(session, args).await,
        Command::Undefine(args) => act(session, args, ("Undefine", "undefine", "undefined")).await,
        Command::Start(args) => act(session, args, ("Create", "start", "started")).await,
        Command::Destroy(args) => act(session, args, ("Destroy", "destroy", "destroyed")).await,
        Command::Name(args) => {
            let found = args.find(session).await?;
            session.out.show(&found.json(), &found.name);
            Ok(())
        }
        Command::Mac(args) => {
            let found = args.find(session).await?;
            session.out.show(&found.json(), &found.mac);
            Ok(())
        }
        Command::Begin => change(session, ("InterfaceChangeBegin", "begin", "started")).await,
        Command::Commit => change(session, ("InterfaceChangeCommit", "commit", "committed")).await,
        Command::Rollback => change(session, ("InterfaceChangeRollback", "rollback", "rolled back")).await,
    }
}

async fn at(session: &Session, driver: Driver, path: String) -> Result<Interface, CallError> {
    let wrong = |property: &str| CallError::Answer {
        call: format!("{INTERFACE}.{property}"),
        reason: "of another type".into(),
    };
    let text = async |property: &str| match session.client.value(&path, INTERFACE, property).await? {
        Some(ParamValue::Str(text)) => Ok(text),
        _ => Err(wrong(property)),
    };
    let (name, mac) = (text("Name").await?, text("MAC").await?);
    let Some(ParamValue::Bool(active)) = session.client.value(&path, INTERFACE, "Active").await? else {
        return Err(wrong("Active"));
    };
    Ok(Interface { driver, path, name, mac, active })
}

impl InterfaceArg {
    async fn find(&self, session: &Session) -> Result<Interface, Failure> {
        let driver = session.default_driver().await?;
        let method =
            if self.interface.parse::<MacAddr>().is_ok() { "InterfaceLookupByMAC" } else { "InterfaceLookupByName" };
        let path: Result<zbus::OwnedObjectPath, CallError> =
            session.client.call(driver.path(), CONNECT, method, &(&self.interface,)).await;
        let path = path.context(|| format!("failed to get interface '{}'", self.interface))?;
        Ok(at(session, driver, path.to_string()).await?)
    }
}

async fn act(session: &Session, args: &InterfaceArg, (method, word, done): (&str, &str, &str)) -> Result<(), Failure> {
    let found = args.find(session).await?;
    let result: Result<(), CallError> = match method {
        "Undefine" => session.client.call(&found.path, INTERFACE, method, &()).await,
        _ => session.client.call(&found.path, INTERFACE, method, &(0u32,)).await,
    };
    result.context(|| format!("Failed to {word} interface {}", args.interface))?;
    session.out.say(&found.json_with("result", done), &format!("Interface {} {done}", args.interface));
    Ok(())
}

async fn change(session: &Session, (method, word, done): (&str, &str, &str)) -> Result<(), Failure> {
    let driver = session.default_driver().await?;
    let result: Result<(), CallError> = session.client.call(driver.path(), CONNECT, method, &(0u32,)).await;
    result.context(|| format!("Failed to {word} network config change transaction"))?;
    let value = json!({ "driver": driver.name(), "result": done });
    session.out.say(&value, &format!("Network config change transaction {done}"));
    Ok(())
}

async fn xml_of(session: &Session, path: &str, flags: u32) -> Result<String, CallError> {
    session.client.call(path, INTERFACE, "GetXMLDesc", &(flags,)).await
}

async fn define_text(session: &Session, driver: Driver, xml: &str) -> Result<String, CallError> {
    let path: zbus::OwnedObjectPath =
        session.client.call(driver.path(), CONNECT, "InterfaceDefineXML", &(xml, 0u32)).await?;
    Ok(path.to_string())
}

async fn define(session: &Session, file: &FileArg) -> Result<(), Failure> {
    let xml = file.read()?;
    let driver = session.default_driver().await?;
    let path = define_text(session, driver, &xml).await;
    let path = path.context(|| format!("Failed to define interface from {}", file.name()))?;
    let found = at(session, driver, path).await?;
    session.out.say(&found.json(), &format!("Interface {} defined from {}", found.name, file.name()));
    Ok(())
}

async fn dumpxml(session: &Session, args: &DumpxmlArgs) -> Result<(), Failure> {
    let found = args.interface.find(session).await?;
    let xml = xml_of(session, &found.path, if args.inactive { XML_INACTIVE } else { 0 }).await?;
    session.out.show(&found.json_with("xml", xml.as_str()), &ended(&xml));
    Ok(())
}

async fn edit(session: &Session, args: &InterfaceArg) -> Result<(), Failure> {
    let found = args.find(session).await?;
    let before = xml_of(session, &found.path, XML_INACTIVE).await?;
    let answer = edit::rounds(
        &before,
        async || xml_of(session, &found.path, XML_INACTIVE).await,
        async |text: &str| define_text(session, found.driver, text).await,
    )
    .await?;
    let (about, result) = match answer {
        None => (found, "not changed"),
        Some(path) => (at(session, found.driver, path).await?, "edited"),
    };
    let words = format!("Interface {} XML configuration {result}.", about.name);
    session.out.say(&about.json_with("result", result), &words);
    Ok(())
}

async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let flags = match (args.all, args.inactive) {
        (true, _) => LIST_ACTIVE | LIST_INACTIVE,
        (false, true) => LIST_INACTIVE,
        (false, false) => LIST_ACTIVE,
    };
    let driver = session.default_driver().await?;
    let paths: Result<Vec<zbus::OwnedObjectPath>, CallError> =
        session.client.call(driver.path(), CONNECT, "ListInterfaces", &(flags,)).await;
    let mut found = Vec::new();
    for path in paths.context(|| "Failed to list interfaces".to_owned())? {
        // One that is gone meanwhile is left out.
        found.extend(at(session, driver, path.to_string()).await.ok());
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    if session.out.json {
        session.out.value(&found.iter().map(|one| one.json_with("active", one.active)).collect());
        return Ok(());
    }
    let mut table = Table::new(&["Name", "State", "MAC Address"]);
    for one in found {
        table.row(vec![one.name, if one.active { "active" } else { "inactive" }.into(), one.mac]);
    }
    output::raw(&table.text(session.out.quiet));
    Ok(())
}
