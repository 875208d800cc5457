//! `snapshot-*`: former moments of a domain.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::{DomainArg, read_file};
use super::client::CallError;
use super::devices::text_of;
use super::domains::{By, Domain, Session};
use super::event::time_of;
use super::host::ended;
use super::output::{self, Context, Failure, Table};

/// `org.libvirt.DomainSnapshot`
const SNAPSHOT: &str = "org.libvirt.DomainSnapshot";
const DOMAIN: &str = super::domains::DOMAIN;
/// `VIR_DOMAIN_SNAPSHOT_LIST_ROOTS`, which below a snapshot is `_DESCENDANTS`.
const LIST_ROOTS: u32 = 1;

/// Commands of snapshots.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take a snapshot, as an XML file says
    #[command(name = "snapshot-create")]
    Create(CreateArgs),
    /// Take a snapshot
    #[command(name = "snapshot-create-as")]
    CreateAs(CreateAsArgs),
    /// List a domain's snapshots
    #[command(name = "snapshot-list")]
    List(ListArgs),
    /// Print a snapshot's XML
    #[command(name = "snapshot-dumpxml")]
    Dumpxml(DumpxmlArgs),
    /// Print the current snapshot's XML
    #[command(name = "snapshot-current")]
    Current(CurrentArgs),
    /// Print the name of the snapshot that one was taken from
    #[command(name = "snapshot-parent")]
    Parent(SnapshotArg),
    /// Print basic facts about a snapshot
    #[command(name = "snapshot-info")]
    Info(SnapshotArg),
    /// Make a domain what it was
    #[command(name = "snapshot-revert")]
    Revert(RevertArgs),
    /// Delete a snapshot
    #[command(name = "snapshot-delete")]
    Delete(DeleteArgs),
}

/// What is common to taking snapshots (`virDomainSnapshotCreateFlags`).
#[derive(Debug, Args)]
pub struct HowArgs {
    /// Keep nothing of it in the daemon
    #[arg(long)]
    no_metadata: bool,
    /// Stop the domain afterwards
    #[arg(long)]
    halt: bool,
    /// Of the disks only
    #[arg(long)]
    disk_only: bool,
    /// Use files that are there
    #[arg(long)]
    reuse_external: bool,
    /// Have the guest's agent hold up writes
    #[arg(long)]
    quiesce: bool,
    /// All or nothing
    #[arg(long)]
    atomic: bool,
    /// Do not stop the guest for it
    #[arg(long)]
    live: bool,
    /// Refuse what is not known in snapshots
    #[arg(long)]
    validate: bool,
}

impl HowArgs {
    fn flags(&self) -> u32 {
        let HowArgs { no_metadata, halt, disk_only, reuse_external, quiesce, atomic, live, validate } = self;
        let bits = [
            (no_metadata, 4),
            (halt, 8),
            (disk_only, 16),
            (reuse_external, 32),
            (quiesce, 64),
            (atomic, 128),
            (live, 256),
            (validate, 512),
        ];
        bits.iter().filter(|(on, _)| **on).map(|(_, bit)| bit).sum()
    }
}

/// Options of `snapshot-create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// File with the snapshot's XML; - for standard input [default: a snapshot with a name of the daemon's choice]
    xmlfile: Option<PathBuf>,
    /// Only tell the daemon of a snapshot that is there
    #[arg(long)]
    redefine: bool,
    /// With --redefine: it is the current one
    #[arg(long, requires = "redefine")]
    current: bool,
    #[command(flatten)]
    how: HowArgs,
}

/// Options of `snapshot-create-as`.
#[derive(Debug, Args)]
pub struct CreateAsArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Name of the snapshot
    name: Option<String>,
    /// What to remember of it
    description: Option<String>,
    /// Print the XML that would be used, and take none
    #[arg(long)]
    print_xml: bool,
    #[command(flatten)]
    how: HowArgs,
}

/// A snapshot as the second positional argument, or the current one.
#[derive(Debug, Args)]
pub struct SnapshotArg {
    #[command(flatten)]
    domain: DomainArg,
    /// Name of the snapshot
    #[arg(required_unless_present = "current")]
    snapshotname: Option<String>,
    /// The current one
    #[arg(long, conflicts_with = "snapshotname")]
    current: bool,
}

/// Options of `snapshot-list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Show what each was taken from
    #[arg(long, conflicts_with_all = ["roots", "name"])]
    parent: bool,
    /// Only those that were taken from none
    #[arg(long)]
    roots: bool,
    /// Only those that none was taken from
    #[arg(long)]
    leaves: bool,
    /// Only those that some were taken from
    #[arg(long)]
    no_leaves: bool,
    /// Only of a domain that was off
    #[arg(long)]
    inactive: bool,
    /// Only of a domain that ran
    #[arg(long)]
    active: bool,
    /// Only of disks
    #[arg(long)]
    disk_only: bool,
    /// Only those inside of images
    #[arg(long)]
    internal: bool,
    /// Only those in files of their own
    #[arg(long)]
    external: bool,
    /// Each after what it was taken from
    #[arg(long)]
    topological: bool,
    /// Only those taken from this one
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "roots")]
    from: Option<String>,
    /// With --from: and from those, and so on
    #[arg(long, requires = "from")]
    descendants: bool,
    /// Print names only
    #[arg(long)]
    name: bool,
}

/// Options of `snapshot-dumpxml`.
#[derive(Debug, Args)]
pub struct DumpxmlArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Name of the snapshot
    snapshotname: String,
    /// With passwords
    #[arg(long)]
    security_info: bool,
}

/// Options of `snapshot-current`.
#[derive(Debug, Args)]
pub struct CurrentArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Print its name only
    #[arg(long)]
    name: bool,
    /// With passwords
    #[arg(long)]
    security_info: bool,
}

/// Options of `snapshot-revert`.
#[derive(Debug, Args)]
pub struct RevertArgs {
    #[command(flatten)]
    snapshot: SnapshotArg,
    /// Running afterwards, whatever it was
    #[arg(long, conflicts_with = "paused")]
    running: bool,
    /// Paused afterwards, whatever it was
    #[arg(long)]
    paused: bool,
    /// Even where it cannot be undone
    #[arg(long)]
    force: bool,
}

/// Options of `snapshot-delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    snapshot: SnapshotArg,
    /// With all that were taken from it
    #[arg(long)]
    children: bool,
    /// Those that were taken from it, and not itself
    #[arg(long, conflicts_with = "children")]
    children_only: bool,
    /// Only what the daemon keeps of it
    #[arg(long)]
    metadata: bool,
}

/// A snapshot that exists.
struct Snapshot {
    domain: Domain,
    path: String,
    xml: String,
}

impl Snapshot {
    fn name(&self) -> String {
        text_of(&self.xml, &["name"])
    }

    fn parent(&self) -> Option<String> {
        Some(text_of(&self.xml, &["parent", "name"])).filter(|name| !name.is_empty())
    }

    fn state(&self) -> String {
        text_of(&self.xml, &["state"])
    }

    fn json(&self) -> Value {
        self.domain.json_with("snapshot", self.name())
    }
}

/// Runs a command of this group.
pub async fn run(session: &Session, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create(session, args).await,
        Command::CreateAs(args) => create_as(session, args).await,
        Command::List(args) => list(session, args).await,
        Command::Dumpxml(args) => dumpxml(session, args).await,
        Command::Current(args) => current(session, args).await,
        Command::Parent(args) => parent(session, args).await,
        Command::Info(args) => info(session, args).await,
        Command::Revert(args) => revert(session, args).await,
        Command::Delete(args) => delete(session, args).await,
    }
}

async fn at(session: &Session, domain: &Domain, path: &str, flags: u32) -> Result<Snapshot, CallError> {
    let xml: String = session.client.call(path, SNAPSHOT, "GetXMLDesc", &(flags,)).await?;
    Ok(Snapshot { domain: domain.clone(), path: path.to_owned(), xml })
}

async fn named(session: &Session, domain: &Domain, name: &str, flags: u32) -> Result<Snapshot, Failure> {
    let path: zbus::OwnedObjectPath =
        session.client.call(&domain.path, DOMAIN, "SnapshotLookupByName", &(name, 0u32)).await?;
    Ok(at(session, domain, &path, flags).await?)
}

async fn current_of(session: &Session, domain: &Domain, flags: u32) -> Result<Snapshot, Failure> {
    let path: zbus::OwnedObjectPath = session.client.call(&domain.path, DOMAIN, "SnapshotCurrent", &(0u32,)).await?;
    Ok(at(session, domain, &path, flags).await?)
}

impl SnapshotArg {
    async fn find(&self, session: &Session) -> Result<Snapshot, Failure> {
        let domain = session.domain(self.domain.given(), By::ANY).await?;
        match &self.snapshotname {
            Some(name) => named(session, &domain, name, 0).await,
            None => current_of(session, &domain, 0).await,
        }
    }
}

async fn take(session: &Session, domain: &Domain, xml: &str, flags: u32) -> Result<Snapshot, Failure> {
    let path: zbus::OwnedObjectPath =
        session.client.call(&domain.path, DOMAIN, "SnapshotCreateXML", &(xml, flags)).await?;
    Ok(at(session, domain, &path, 0).await?)
}

async fn create(session: &Session, args: &CreateArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let xml = match &args.xmlfile {
        Some(file) => read_file(file)?,
        None => "<domainsnapshot/>".to_owned(),
    };
    let flags = args.how.flags() | u32::from(args.redefine) | u32::from(args.current) << 1;
    let taken = take(session, &domain, &xml, flags).await?;
    let from = args.xmlfile.as_ref().map(|file| format!(" from '{}'", file.display())).unwrap_or_default();
    session.out.say(&taken.json(), &format!("Domain snapshot {} created{from}", taken.name()));
    Ok(())
}

async fn create_as(session: &Session, args: &CreateAsArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let element = |name: &str, text: &Option<String>| match text {
        Some(text) => format!("  <{name}>{}</{name}>\n", quick_xml::escape::escape(text.as_str())),
        None => String::new(),
    };
    let (name, description) = (element("name", &args.name), element("description", &args.description));
    let xml = format!("<domainsnapshot>\n{name}{description}</domainsnapshot>\n");
    if args.print_xml {
        session.out.show(&domain.json_with("xml", xml.as_str()), &ended(&xml));
        return Ok(());
    }
    let taken = take(session, &domain, &xml, args.how.flags()).await?;
    session.out.say(&taken.json(), &format!("Domain snapshot {} created", taken.name()));
    Ok(())
}

impl ListArgs {
    /// `virDomainSnapshotListFlags`
    fn flags(&self) -> u32 {
        let bits = [
            (self.roots || self.descendants, LIST_ROOTS),
            (self.leaves, 4),
            (self.no_leaves, 16),
            (self.inactive, 32),
            (self.active, 64),
            (self.disk_only, 128),
            (self.internal, 256),
            (self.external, 512),
            (self.topological, 1024),
        ];
        bits.iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum()
    }
}

async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let paths: Vec<zbus::OwnedObjectPath> = match &args.from {
        Some(name) => {
            let from = named(session, &domain, name, 0).await?;
            session.client.call(&from.path, SNAPSHOT, "ListChildren", &(args.flags(),)).await?
        }
        None => session.client.call(&domain.path, DOMAIN, "ListDomainSnapshots", &(args.flags(),)).await?,
    };
    let mut found = Vec::new();
    for path in paths {
        // One that is gone meanwhile is left out.
        found.extend(at(session, &domain, &path, 0).await.ok());
    }
    if !args.topological {
        found.sort_by_key(Snapshot::name);
    }
    let time = |snapshot: &Snapshot| text_of(&snapshot.xml, &["creationTime"]).parse::<i64>().unwrap_or_default();
    if session.out.json {
        let one = |snapshot: &Snapshot| {
            json!({
                "name": snapshot.name(), "created": time(snapshot), "state": snapshot.state(),
                "parent": snapshot.parent(),
            })
        };
        session.out.value(&found.iter().map(one).collect());
        return Ok(());
    }
    if args.name {
        for snapshot in &found {
            output::raw(&format!("{}\n", snapshot.name()));
        }
        return Ok(());
    }
    let header: &[&str] = match args.parent {
        true => &["Name", "Creation Time", "State", "Parent"],
        false => &["Name", "Creation Time", "State"],
    };
    let mut table = Table::new(header);
    for snapshot in &found {
        let mut row = vec![snapshot.name(), format!("{} +0000", time_of(time(snapshot))), snapshot.state()];
        if args.parent {
            row.push(snapshot.parent().unwrap_or_default());
        }
        table.row(row);
    }
    output::raw(&table.text(session.out.quiet));
    Ok(())
}

async fn dumpxml(session: &Session, args: &DumpxmlArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let found = named(session, &domain, &args.snapshotname, u32::from(args.security_info)).await?;
    show_xml(session, &found);
    Ok(())
}

fn show_xml(session: &Session, found: &Snapshot) {
    let mut value = found.json();
    value["xml"] = found.xml.as_str().into();
    session.out.show(&value, &ended(&found.xml));
}

async fn current(session: &Session, args: &CurrentArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let found = current_of(session, &domain, u32::from(args.security_info)).await?;
    match args.name {
        true => session.out.show(&found.json(), &found.name()),
        false => show_xml(session, &found),
    }
    Ok(())
}

async fn parent(session: &Session, args: &SnapshotArg) -> Result<(), Failure> {
    let found = args.find(session).await?;
    let Some(parent) = found.parent() else {
        return Err(Failure::new(format!("snapshot '{}' has no parent", found.name())));
    };
    let mut value = found.json();
    value["parent"] = parent.as_str().into();
    session.out.show(&value, &parent);
    Ok(())
}

async fn info(session: &Session, args: &SnapshotArg) -> Result<(), Failure> {
    let found = args.find(session).await?;
    let count = async |flags: u32| -> Result<usize, CallError> {
        let paths: Vec<zbus::OwnedObjectPath> =
            session.client.call(&found.path, SNAPSHOT, "ListChildren", &(flags,)).await?;
        Ok(paths.len())
    };
    let (children, descendants) = (count(0).await?, count(LIST_ROOTS).await?);
    let is_current: bool = session.client.call(&found.path, SNAPSHOT, "IsCurrent", &(0u32,)).await?;
    let external = found.state() == "disk-snapshot" || found.xml.contains("snapshot='external'");
    let mut value = found.json();
    value["current"] = is_current.into();
    value["state"] = found.state().into();
    value["parent"] = found.parent().into();
    value["children"] = children.into();
    value["descendants"] = descendants.into();
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let rows = [
        ("Name", found.name()),
        ("Domain", found.domain.name.clone()),
        ("Current", yes(is_current)),
        ("State", found.state()),
        ("Location", if external { "external" } else { "internal" }.into()),
        ("Parent", found.parent().unwrap_or_else(|| "-".into())),
        ("Children", children.to_string()),
        ("Descendants", descendants.to_string()),
        ("Metadata", "yes".into()),
    ];
    let text: String = rows.iter().map(|(name, value)| format!("{:<15}{value}\n", format!("{name}:"))).collect();
    session.out.show(&value, &text);
    Ok(())
}

async fn revert(session: &Session, args: &RevertArgs) -> Result<(), Failure> {
    let found = args.snapshot.find(session).await?;
    let flags = u32::from(args.running) | u32::from(args.paused) << 1 | u32::from(args.force) << 2;
    let done: Result<(), CallError> = session.client.call(&found.path, SNAPSHOT, "Revert", &(flags,)).await;
    done.context(|| format!("Failed to revert snapshot {}", found.name()))?;
    session.out.say(&found.json(), &format!("Domain snapshot {} reverted", found.name()));
    Ok(())
}

async fn delete(session: &Session, args: &DeleteArgs) -> Result<(), Failure> {
    let found = args.snapshot.find(session).await?;
    let flags = u32::from(args.children) | u32::from(args.metadata) << 1 | u32::from(args.children_only) << 2;
    let done: Result<(), CallError> = session.client.call(&found.path, SNAPSHOT, "Delete", &(flags,)).await;
    done.context(|| format!("Failed to delete snapshot {}", found.name()))?;
    let what = if args.children_only { " children" } else { "" };
    session.out.say(&found.json(), &format!("Domain snapshot {}{what} deleted", found.name()));
    Ok(())
}
