//! `list`: the domains of all drivers, as virsh's table or as names, UUIDs or ids.

use std::cmp::Ordering;

use clap::Args;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream;
use serde_json::{Value, json};

use super::client::CallError;
use super::domains::{CONNECT, DOMAIN, Driver, Session, uuid_of};
use super::output::{Failure, Table};
use super::words;
use crate::types::flags::list as flag;

/// Calls in flight at once while the details of the listed domains are read.
const WINDOW: usize = 64;

/// Options of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// List inactive domains
    #[arg(long)]
    inactive: bool,
    /// List inactive and active domains
    #[arg(long)]
    all: bool,
    /// Only transient domains
    #[arg(long)]
    transient: bool,
    /// Only persistent domains
    #[arg(long)]
    persistent: bool,
    /// Only domains with a snapshot
    #[arg(long)]
    with_snapshot: bool,
    /// Only domains without a snapshot
    #[arg(long)]
    without_snapshot: bool,
    /// Only domains with a checkpoint
    #[arg(long)]
    with_checkpoint: bool,
    /// Only domains without a checkpoint
    #[arg(long)]
    without_checkpoint: bool,
    /// Only running domains
    #[arg(long)]
    state_running: bool,
    /// Only paused domains
    #[arg(long)]
    state_paused: bool,
    /// Only domains that are shut off
    #[arg(long)]
    state_shutoff: bool,
    /// Only domains in other states
    #[arg(long)]
    state_other: bool,
    /// Only domains with autostart
    #[arg(long)]
    autostart: bool,
    /// Only domains without autostart
    #[arg(long)]
    no_autostart: bool,
    /// Only domains with a managed save image
    #[arg(long)]
    with_managed_save: bool,
    /// Only domains without a managed save image
    #[arg(long)]
    without_managed_save: bool,
    /// Print UUIDs only
    #[arg(long)]
    uuid: bool,
    /// Print names only
    #[arg(long)]
    name: bool,
    /// Print ids only
    #[arg(long)]
    id: bool,
    /// Print the table (default)
    #[arg(long, conflicts_with_all = ["uuid", "name", "id"])]
    table: bool,
    /// Show inactive domains that have a managed save image as "saved"
    #[arg(long)]
    managed_save: bool,
    /// Show the domains' titles
    #[arg(long)]
    title: bool,
}

impl ListArgs {
    fn flags(&self) -> u32 {
        // Domains that are shut off are inactive ones, so asking for them asks for those, as in virsh.
        let mut flags = if self.inactive || self.state_shutoff { flag::INACTIVE } else { flag::ACTIVE };
        if self.all {
            flags = flag::INACTIVE | flag::ACTIVE;
        }
        let filters = [
            (self.persistent, flag::PERSISTENT),
            (self.transient, flag::TRANSIENT),
            (self.state_running, flag::RUNNING),
            (self.state_paused, flag::PAUSED),
            (self.state_shutoff, flag::SHUTOFF),
            (self.state_other, flag::OTHER),
            (self.autostart, flag::AUTOSTART),
            (self.no_autostart, flag::NO_AUTOSTART),
            (self.with_snapshot, flag::HAS_SNAPSHOT),
            (self.without_snapshot, flag::NO_SNAPSHOT),
            (self.with_checkpoint, flag::HAS_CHECKPOINT),
            (self.without_checkpoint, flag::NO_CHECKPOINT),
            (self.with_managed_save, flag::MANAGEDSAVE),
            (self.without_managed_save, flag::NO_MANAGEDSAVE),
        ];
        filters.iter().filter(|(wanted, _)| *wanted).for_each(|(_, bit)| flags |= bit);
        flags
    }
}

/// One domain of the list.
#[derive(Clone, Debug, Default)]
struct Entry {
    driver: Option<Driver>,
    /// `None` when inactive.
    id: Option<u64>,
    name: String,
    uuid: String,
    state: &'static str,
    persistent: bool,
    autostart: bool,
    title: Option<String>,
}

impl Entry {
    fn id_text(&self) -> String {
        self.id.map_or_else(|| "-".to_owned(), |id| id.to_string())
    }

    fn json(&self) -> Value {
        let mut value = json!({
            "driver": self.driver.map(Driver::name),
            "id": self.id,
            "name": self.name,
            "uuid": self.uuid,
            "state": self.state,
            "persistent": self.persistent,
            "autostart": self.autostart,
        });
        if let Some(title) = &self.title {
            value["title"] = Value::from(title.as_str());
        }
        value
    }
}

/// Active ones first by id, then inactive ones by name without regard to case; within that by driver.
fn order(a: &Entry, b: &Entry) -> Ordering {
    match (a.id, b.id) {
        (Some(x), Some(y)) => (x, a.driver).cmp(&(y, b.driver)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => (a.name.to_lowercase(), &a.name, a.driver).cmp(&(b.name.to_lowercase(), &b.name, b.driver)),
    }
}

/// `domus list`
pub async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let drivers = session.drivers().await?;
    let flags = args.flags();
    let ask = |driver: Driver| async move {
        match session.client.call(driver.path(), CONNECT, "ListDomains", &(flags,)).await {
            Ok::<Vec<zbus::OwnedObjectPath>, _>(paths) => {
                Ok(paths.into_iter().map(|path| (driver, path.to_string())).collect())
            }
            // On a bus the root of a driver that the daemon does not have may answer with an error.
            Err(error) if session.driver.is_none() && is_no_driver(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    };
    let listed: Vec<Vec<(Driver, String)>> = try_join_all(drivers.into_iter().map(ask)).await?;
    let paths: Vec<(Driver, String)> = listed.into_iter().flatten().collect();
    let with_state = !(args.uuid || args.name || args.id) || session.out.json;
    let mut entries: Vec<Entry> = stream::iter(paths)
        .map(|(driver, path)| async move { entry(session, args, driver, &path, with_state).await })
        .buffered(WINDOW)
        .filter_map(|entry| async move { entry })
        .collect()
        .await;
    entries.sort_by(order);
    let value = Value::from(entries.iter().map(Entry::json).collect::<Vec<_>>());
    let text = if with_state { table(args, &entries).text(session.out.quiet) } else { columns(args, &entries) };
    session.out.show(&value, &text);
    Ok(())
}

fn is_no_driver(error: &CallError) -> bool {
    matches!(error, CallError::Remote { message, .. } if message.starts_with("no connection driver"))
}

/// One domain's line; `None` when it has gone in the meantime.
async fn entry(session: &Session, args: &ListArgs, driver: Driver, path: &str, with_state: bool) -> Option<Entry> {
    let state = async { if with_state { session.state(path).await.map(|(state, _)| Some(state)) } else { Ok(None) } };
    let (properties, state) = tokio::try_join!(session.properties(path), state).ok()?;
    let active = properties.flag("Active")?;
    let mut entry = Entry {
        driver: Some(driver),
        id: if active { properties.number("Id") } else { None },
        name: properties.text("Name")?.to_owned(),
        uuid: properties.text("UUID").map(str::to_owned).or_else(|| uuid_of(path))?,
        persistent: properties.flag("Persistent").unwrap_or(true),
        autostart: properties.flag("Autostart").unwrap_or(false),
        ..Entry::default()
    };
    if let Some(state) = state {
        entry.state = words::state(state);
        if args.managed_save && !active {
            let saved = session.client.call::<_, bool>(path, DOMAIN, "HasManagedSaveImage", &(0u32,)).await;
            if saved.unwrap_or(false) {
                entry.state = "saved";
            }
        }
        if args.title {
            let xml = session.xml(path, 0).await.unwrap_or_default();
            entry.title = Some(super::devices::title(&xml));
        }
    }
    Some(entry)
}

fn table(args: &ListArgs, entries: &[Entry]) -> Table {
    // virsh's table as it is; a column for the driver only when there is something to tell apart.
    let mixed = entries.windows(2).any(|pair| pair[0].driver != pair[1].driver);
    let mut header = vec!["Id", "Name", "State"];
    if args.title {
        header.push("Title");
    }
    if mixed {
        header.push("Driver");
    }
    let mut table = Table::new(&header);
    for entry in entries {
        let mut row = vec![entry.id_text(), entry.name.clone(), entry.state.to_owned()];
        if args.title {
            row.push(entry.title.clone().unwrap_or_default());
        }
        if mixed {
            row.push(entry.driver.map(Driver::name).unwrap_or_default().to_owned());
        }
        table.row(row);
    }
    table
}

fn columns(args: &ListArgs, entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let mut cells = Vec::new();
        if args.uuid {
            cells.push(entry.uuid.clone());
        }
        if args.id {
            cells.push(entry.id_text());
        }
        if args.name {
            cells.push(entry.name.clone());
        }
        text.push_str(&cells.join(" "));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(id: Option<u64>, name: &str) -> Entry {
        Entry { id, name: name.into(), ..Entry::default() }
    }

    #[test]
    fn active_by_id_then_inactive_by_name() {
        let mut entries = [named(None, "b"), named(Some(2), "z"), named(None, "A"), named(Some(1), "y")];
        entries.sort_by(order);
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["y", "z", "A", "b"]);
    }

    #[test]
    fn the_driver_column_appears_only_when_drivers_mix() {
        let of = |driver| Entry { driver: Some(driver), state: "running", ..named(Some(1), "x") };
        let args = <ListArgs as clap::FromArgMatches>::from_arg_matches(
            &<ListArgs as Args>::augment_args(clap::Command::new("list")).get_matches_from(["list"]),
        )
        .unwrap();
        assert!(!table(&args, &[of(Driver::Qemu), of(Driver::Qemu)]).text(false).contains("Driver"));
        assert!(table(&args, &[of(Driver::Qemu), of(Driver::Lxc)]).text(false).contains("Driver"));
    }
}
