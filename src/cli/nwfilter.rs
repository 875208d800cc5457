//! `nwfilter-*`: network filters.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::FileArg;
use super::client::CallError;
use super::domains::{CONNECT, Driver, Session};
use super::edit;
use super::host::ended;
use super::output::{self, Context, Failure, Table};
use crate::types::{ParamValue, Uuid};

/// `org.libvirt.NWFilter`
const NWFILTER: &str = "org.libvirt.NWFilter";

/// Commands of network filters.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List network filters
    #[command(name = "nwfilter-list")]
    List,
    /// Define a network filter from an XML file, or change it
    #[command(name = "nwfilter-define")]
    Define(FileArg),
    /// Print a network filter's XML
    #[command(name = "nwfilter-dumpxml")]
    Dumpxml(FilterArg),
    /// Edit a network filter's XML
    #[command(name = "nwfilter-edit")]
    Edit(FilterArg),
    /// Undefine a network filter
    #[command(name = "nwfilter-undefine")]
    Undefine(FilterArg),
}

/// A filter as the first positional argument.
#[derive(Debug, Args)]
pub struct FilterArg {
    /// Name or UUID of the network filter
    nwfilter: String,
}

/// A filter that exists.
struct Filter {
    driver: Driver,
    path: String,
    name: String,
    uuid: String,
}

impl Filter {
    fn json(&self) -> Value {
        json!({ "driver": self.driver.name(), "name": self.name, "uuid": self.uuid })
    }

    fn json_with(&self, key: &str, value: &str) -> Value {
        let mut object = self.json();
        object[key] = value.into();
        object
    }
}

/// Runs a command of this group.
pub async fn run(session: &Session, command: &Command) -> Result<(), Failure> {
    match command {
        Command::List => list(session).await,
        Command::Define(file) => define(session, file).await,
        Command::Dumpxml(args) => dumpxml(session, args).await,
        Command::Edit(args) => edit(session, args).await,
        Command::Undefine(args) => undefine(session, args).await,
    }
}

async fn at(session: &Session, driver: Driver, path: String) -> Result<Filter, CallError> {
    let text = async |property: &str| match session.client.value(&path, NWFILTER, property).await? {
        Some(ParamValue::Str(text)) => Ok(text),
        _ => Err(CallError::Answer { call: format!("{NWFILTER}.{property}"), reason: "not a string".into() }),
    };
    let (name, uuid) = (text("Name").await?, text("UUID").await?);
    Ok(Filter { driver, path, name, uuid })
}

impl FilterArg {
    async fn find(&self, session: &Session) -> Result<Filter, Failure> {
        let driver = session.default_driver().await?;
        let look_up = async |method: &str| {
            let path: zbus::OwnedObjectPath =
                session.client.call(driver.path(), CONNECT, method, &(&self.nwfilter,)).await?;
            at(session, driver, path.to_string()).await
        };
        // A UUID may be a name as well; virsh asks for the UUID first.
        let by_uuid = match Uuid::try_parse(&self.nwfilter) {
            Ok(_) => look_up("NWFilterLookupByUUID").await.ok(),
            Err(_) => None,
        };
        match by_uuid {
            Some(filter) => Ok(filter),
            None => {
                look_up("NWFilterLookupByName").await.context(|| format!("failed to get nwfilter '{}'", self.nwfilter))
            }
        }
    }
}

async fn xml_of(session: &Session, path: &str) -> Result<String, CallError> {
    session.client.call(path, NWFILTER, "GetXMLDesc", &(0u32,)).await
}

async fn define_text(session: &Session, driver: Driver, xml: &str) -> Result<String, CallError> {
    let path: zbus::OwnedObjectPath = session.client.call(driver.path(), CONNECT, "NWFilterDefineXML", &(xml,)).await?;
    Ok(path.to_string())
}

async fn define(session: &Session, file: &FileArg) -> Result<(), Failure> {
    let xml = file.read()?;
    let driver = session.default_driver().await?;
    let path = define_text(session, driver, &xml).await;
    let path = path.context(|| format!("Failed to define network filter from {}", file.name()))?;
    let filter = at(session, driver, path).await?;
    session.out.say(&filter.json(), &format!("Network filter {} defined from {}", filter.name, file.name()));
    Ok(())
}

async fn dumpxml(session: &Session, args: &FilterArg) -> Result<(), Failure> {
    let filter = args.find(session).await?;
    let xml = xml_of(session, &filter.path).await?;
    session.out.show(&filter.json_with("xml", &xml), &ended(&xml));
    Ok(())
}

async fn edit(session: &Session, args: &FilterArg) -> Result<(), Failure> {
    let filter = args.find(session).await?;
    let before = xml_of(session, &filter.path).await?;
    let answer = edit::rounds(
        &before,
        async || xml_of(session, &filter.path).await,
        async |text: &str| define_text(session, filter.driver, text).await,
    )
    .await?;
    match answer {
        None => {
            let words = format!("Network filter {} XML configuration not changed.", filter.name);
            session.out.say(&filter.json_with("result", "unchanged"), &words);
        }
        Some(path) => {
            let edited = at(session, filter.driver, path).await?;
            let words = format!("Network filter {} XML configuration edited.", edited.name);
            session.out.say(&edited.json_with("result", "edited"), &words);
        }
    }
    Ok(())
}

async fn undefine(session: &Session, args: &FilterArg) -> Result<(), Failure> {
    let filter = args.find(session).await?;
    let done: Result<(), CallError> = session.client.call(&filter.path, NWFILTER, "Undefine", &()).await;
    done.context(|| format!("Failed to undefine network filter {}", args.nwfilter))?;
    session.out.say(&filter.json(), &format!("Network filter {} undefined", args.nwfilter));
    Ok(())
}

async fn list(session: &Session) -> Result<(), Failure> {
    let driver = session.default_driver().await?;
    let paths: Result<Vec<zbus::OwnedObjectPath>, CallError> =
        session.client.call(driver.path(), CONNECT, "ListNWFilters", &(0u32,)).await;
    let mut filters = Vec::new();
    for path in paths.context(|| "Failed to list network filters".to_owned())? {
        // One that is gone meanwhile is left out.
        filters.extend(at(session, driver, path.to_string()).await.ok());
    }
    // virsh's order.
    filters.sort_by(|a, b| a.name.cmp(&b.name));
    if session.out.json {
        session.out.value(&filters.iter().map(Filter::json).collect());
        return Ok(());
    }
    let mut table = Table::new(&["UUID", "Name"]);
    for filter in filters {
        table.row(vec![filter.uuid, filter.name]);
    }
    output::raw(&table.text(session.out.quiet));
    Ok(())
}
