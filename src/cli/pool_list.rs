//! `pool-list` and `pool-info`.

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};

use super::client::CallError;
use super::domains::{CONNECT, Session};
use super::output::{Failure, Table};
use super::params::Params;
use super::pool::{POOL, Pool, PoolArg};
use crate::types::ParamValue;
use crate::types::flags::storage_pool::list as flag;

/// Calls in flight at once while the details of the listed pools are read.
const WINDOW: usize = 64;

/// Options of `pool-list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// List inactive pools
    #[arg(long)]
    inactive: bool,
    /// List inactive and active pools
    #[arg(long)]
    all: bool,
    /// Only transient pools
    #[arg(long)]
    transient: bool,
    /// Only persistent pools
    #[arg(long)]
    persistent: bool,
    /// Only pools with autostart
    #[arg(long)]
    autostart: bool,
    /// Only pools without autostart
    #[arg(long)]
    no_autostart: bool,
    /// Only pools of these types
    #[arg(long = "type", value_name = "TYPE,...")]
    kinds: Option<String>,
    /// Show sizes too
    #[arg(long, conflicts_with_all = ["uuid", "name"])]
    details: bool,
    /// Print UUIDs only
    #[arg(long)]
    uuid: bool,
    /// Print names only
    #[arg(long)]
    name: bool,
}

/// Options of `pool-info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    #[command(flatten)]
    pool: PoolArg,
    /// Print sizes in bytes
    #[arg(long)]
    bytes: bool,
}

/// Types by their bits of `virConnectListAllStoragePoolsFlags`, from 6.
const TYPES: [&str; 14] = [
    "dir",
    "fs",
    "netfs",
    "logical",
    "disk",
    "iscsi",
    "scsi",
    "mpath",
    "rbd",
    "sheepdog",
    "gluster",
    "zfs",
    "vstorage",
    "iscsi-direct",
];

impl ListArgs {
    fn flags(&self) -> Result<u32, Failure> {
        let mut flags = if self.inactive { flag::INACTIVE } else { flag::ACTIVE };
        if self.all {
            flags = flag::INACTIVE | flag::ACTIVE;
        }
        let filters = [
            (self.autostart, flag::AUTOSTART),
            (self.no_autostart, flag::NO_AUTOSTART),
            (self.persistent, flag::PERSISTENT),
            (self.transient, flag::TRANSIENT),
        ];
        filters.iter().filter(|(wanted, _)| *wanted).for_each(|(_, bit)| flags |= bit);
        for kind in self.kinds.iter().flat_map(|kinds| kinds.split(',')) {
            let at = TYPES.iter().position(|known| *known == kind);
            flags |= 1 << (6 + at.ok_or_else(|| Failure::new(format!("Invalid pool type '{kind}'")))?);
        }
        Ok(flags)
    }
}

/// State and sizes of a pool.
#[derive(Clone, Copy, Debug, Default)]
struct Info {
    state: i32,
    sizes: [u64; 3],
}

impl Info {
    async fn of(session: &Session, pool: &Pool) -> Result<Info, CallError> {
        let ((state, capacity, allocation, available),): ((i32, u64, u64, u64),) =
            session.client.call(&pool.path, POOL, "GetInfo", &()).await?;
        Ok(Info { state, sizes: [capacity, allocation, available] })
    }

    fn state(self) -> &'static str {
        const WORDS: [&str; 5] = ["inactive", "building", "running", "degraded", "inaccessible"];
        usize::try_from(self.state).ok().and_then(|state| WORDS.get(state)).copied().unwrap_or("unknown")
    }

    /// Whether the sizes mean something.
    fn is_measured(self) -> bool {
        matches!(self.state, 2 | 3)
    }
}

/// One pool of the list.
#[derive(Debug)]
struct Entry {
    pool: Pool,
    active: bool,
    persistent: bool,
    autostart: bool,
    info: Option<Info>,
}

/// `domus pool-list`
pub async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let flags = args.flags()?;
    let driver = session.default_driver().await?;
    let paths: Vec<zbus::OwnedObjectPath> =
        session.client.call(driver.path(), CONNECT, "ListStoragePools", &(flags,)).await?;
    let read = paths.iter().map(|path| async move {
        let all: Params = session.client.call(path, "org.freedesktop.DBus.Properties", "GetAll", &(POOL,)).await?;
        let text = |name: &str| all.text(name).unwrap_or_default().to_string();
        let is = |name: &str| all.flag(name).unwrap_or_default();
        let pool = Pool { driver, path: path.to_string(), name: text("Name"), uuid: text("UUID") };
        let info = if args.details || session.out.json { Some(Info::of(session, &pool).await?) } else { None };
        Ok::<_, CallError>(Entry {
            active: is("Active"),
            persistent: is("Persistent"),
            autostart: is("Autostart"),
            pool,
            info,
        })
    });
    let answers: Vec<Result<Entry, CallError>> = stream::iter(read).buffered(WINDOW).collect().await;
    let mut entries = Vec::new();
    for answer in answers {
        match answer {
            // It may have vanished since it was listed.
            Ok(entry) if !entry.pool.name.is_empty() => entries.push(entry),
            Ok(_) => {}
            Err(error) if error.is_answer() => {}
            Err(error) => return Err(error.into()),
        }
    }
    entries.sort_by_key(|entry| entry.pool.name.to_lowercase());
    session.out.show(&Value::Array(entries.iter().map(Entry::json).collect()), &text(session, args, &entries));
    Ok(())
}

fn text(session: &Session, args: &ListArgs, entries: &[Entry]) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_string();
    if args.uuid || args.name {
        let line = |entry: &Entry| match (args.uuid, args.name) {
            (true, true) => format!("{:<36} {}\n", entry.pool.uuid, entry.pool.name),
            (true, false) => format!("{}\n", entry.pool.uuid),
            _ => format!("{}\n", entry.pool.name),
        };
        return entries.iter().map(line).collect();
    }
    if !args.details {
        let mut table = Table::new(&["Name", "State", "Autostart"]);
        for entry in entries {
            let state = if entry.active { "active" } else { "inactive" };
            table.row(vec![entry.pool.name.clone(), state.to_string(), yes(entry.autostart)]);
        }
        return table.text(session.out.quiet);
    }
    let mut table = Table::new(&["Name", "State", "Autostart", "Persistent", "Capacity", "Allocation", "Available"]);
    for entry in entries {
        let info = entry.info.unwrap_or_default();
        let mut cells =
            vec![entry.pool.name.clone(), info.state().to_string(), yes(entry.autostart), yes(entry.persistent)];
        cells.extend(info.sizes.map(|bytes| if info.is_measured() { pretty(bytes) } else { "-".to_string() }));
        table.row(cells);
    }
    table.text(session.out.quiet)
}

impl Entry {
    fn json(&self) -> Value {
        let mut value = self.pool.json();
        value["active"] = self.active.into();
        value["persistent"] = self.persistent.into();
        value["autostart"] = self.autostart.into();
        if let Some(info) = self.info {
            put_info(&mut value, info);
        }
        value
    }
}

fn put_info(value: &mut Value, info: Info) {
    value["state"] = info.state().into();
    if info.is_measured() {
        let [capacity, allocation, available] = info.sizes;
        value["bytes"] = json!({ "capacity": capacity, "allocation": allocation, "available": available });
    }
}

/// `domus pool-info`
pub async fn info(session: &Session, args: &InfoArgs) -> Result<(), Failure> {
    let pool = session.pool(args.pool.given()).await?;
    let info = Info::of(session, &pool).await?;
    let is = |name: &'static str| async {
        Ok::<_, CallError>(matches!(session.client.value(&pool.path, POOL, name).await?, Some(ParamValue::Bool(true))))
    };
    let (persistent, autostart) = (is("Persistent").await?, is("Autostart").await?);
    let yes = |is: bool| if is { "yes" } else { "no" };
    let mut lines = vec![
        ("Name:", pool.name.clone()),
        ("UUID:", pool.uuid.clone()),
        ("State:", info.state().to_string()),
        ("Persistent:", yes(persistent).to_string()),
        ("Autostart:", yes(autostart).to_string()),
    ];
    if info.is_measured() {
        let [capacity, allocation, available] =
            info.sizes.map(|bytes| if args.bytes { bytes.to_string() } else { pretty(bytes) });
        lines.extend([("Capacity:", capacity), ("Allocation:", allocation), ("Available:", available)]);
    }
    let mut value = pool.json();
    value["persistent"] = persistent.into();
    value["autostart"] = autostart.into();
    put_info(&mut value, info);
    session.out.show(&value, &lines.iter().map(|(name, text)| format!("{name:<15} {text}\n")).collect::<String>());
    Ok(())
}

/// A size with two decimals in the largest unit that it fills (`vshPrettyCapacity`).
pub fn pretty(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    #[allow(clippy::cast_precision_loss, reason = "two decimals are shown")]
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.2} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_virshs() {
        assert_eq!(pretty(0), "0.00 B");
        assert_eq!(pretty(1023), "1023.00 B");
        assert_eq!(pretty(45_056), "44.00 KiB");
        assert_eq!(pretty(12_638_257_152), "11.77 GiB");
        assert_eq!(pretty(u64::MAX), "16.00 EiB");
    }
}
