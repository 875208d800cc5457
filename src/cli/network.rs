//! `net-*`: virtual networks.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::{FileArg, read_file};
use super::client::CallError;
use super::domains::{CONNECT, Driver, Session};
use super::edit;
use super::host_event::{self, EventArgs};
use super::output::{Context, Failure, Table};
use super::params::Params;

/// `org.libvirt.Network`
const NETWORK: &str = "org.libvirt.Network";
/// domusd's own calls on a network.
const DOMUS_NETWORK: &str = "org.domus.Network1";

/// `VIR_NETWORK_XML_INACTIVE`
const XML_INACTIVE: u32 = 1;

/// Commands of networks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List networks
    #[command(name = "net-list")]
    List(ListArgs),
    /// Define (but do not start) a network from an XML file, or change it
    #[command(name = "net-define")]
    Define(DefineArgs),
    /// Create and start a transient network from an XML file
    #[command(name = "net-create")]
    Create(DefineArgs),
    /// Start an inactive network
    #[command(name = "net-start")]
    Start(NetworkArg),
    /// Stop a network
    #[command(name = "net-destroy")]
    Destroy(NetworkArg),
    /// Undefine a network
    #[command(name = "net-undefine")]
    Undefine(NetworkArg),
    /// Have a network started when the daemon starts
    #[command(name = "net-autostart")]
    Autostart(AutostartArgs),
    /// Print a network's XML
    #[command(name = "net-dumpxml")]
    Dumpxml(DumpxmlArgs),
    /// Edit the XML of a network
    #[command(name = "net-edit")]
    Edit(NetworkArg),
    /// Print basic facts about a network
    #[command(name = "net-info")]
    Info(NetworkArg),
    /// Print the name of a network given by UUID
    #[command(name = "net-name")]
    Name(NetworkArg),
    /// Print the UUID of a network given by name
    #[command(name = "net-uuid")]
    Uuid(NetworkArg),
    /// Change part of a network
    #[command(name = "net-update")]
    Update(UpdateArgs),
    /// Print the DHCP leases of a network
    #[command(name = "net-dhcp-leases")]
    DhcpLeases(LeasesArgs),
    /// Show or set a network's description or title
    #[command(name = "net-desc")]
    Desc(DescArgs),
    /// Show or set an application's element in a network's metadata
    #[command(name = "net-metadata")]
    Metadata(MetadataArgs),
    /// Wait for events of networks
    #[command(name = "net-event")]
    Event(EventArgs),
    /// List the ports of a network
    #[command(name = "net-port-list")]
    PortList(PortListArgs),
    /// Print a network port's XML
    #[command(name = "net-port-dumpxml")]
    PortDumpxml(PortArgs),
    /// Make a port from an XML file
    #[command(name = "net-port-create")]
    PortCreate(PortCreateArgs),
    /// Give a port back
    #[command(name = "net-port-delete")]
    PortDelete(PortArgs),
}

/// A network as the first positional argument.
#[derive(Debug, Args)]
pub struct NetworkArg {
    /// Name or UUID of the network
    network: String,
}

/// Options of `net-define` and `net-create`.
#[derive(Debug, Args)]
pub struct DefineArgs {
    #[command(flatten)]
    file: FileArg,
}

/// Options of `net-autostart`.
#[derive(Debug, Args)]
pub struct AutostartArgs {
    #[command(flatten)]
    network: NetworkArg,
    /// Do not start it with the daemon any more
    #[arg(long)]
    disable: bool,
}

/// Options of `net-dumpxml`.
#[derive(Debug, Args)]
pub struct DumpxmlArgs {
    #[command(flatten)]
    network: NetworkArg,
    /// The definition of the next start
    #[arg(long)]
    inactive: bool,
}

/// Options of `net-list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// List inactive networks
    #[arg(long)]
    inactive: bool,
    /// List inactive and active networks
    #[arg(long)]
    all: bool,
    /// Only persistent networks
    #[arg(long)]
    persistent: bool,
    /// Only transient networks
    #[arg(long)]
    transient: bool,
    /// Only networks with autostart
    #[arg(long)]
    autostart: bool,
    /// Only networks without autostart
    #[arg(long)]
    no_autostart: bool,
    /// Print UUIDs only
    #[arg(long)]
    uuid: bool,
    /// Print names only
    #[arg(long)]
    name: bool,
    /// Print the table (default)
    #[arg(long, conflicts_with_all = ["uuid", "name"])]
    table: bool,
    /// Show the networks' titles
    #[arg(long)]
    title: bool,
}

/// Which side of a network is changed or read.
#[derive(Clone, Copy, Debug, Args)]
pub struct Sides {
    /// The network as it runs
    #[arg(long)]
    live: bool,
    /// Its definition
    #[arg(long)]
    config: bool,
    /// The network as it is now: running, or else its definition (default)
    #[arg(long, conflicts_with_all = ["live", "config"])]
    current: bool,
}

impl Sides {
    fn flags(self) -> u32 {
        u32::from(self.live) | u32::from(self.config) << 1
    }
}

/// Options of `net-update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    network: NetworkArg,
    /// What to do: add, add-first, add-last, delete or modify
    #[arg(value_name = "COMMAND")]
    command: String,
    /// The section: ip-dhcp-host, ip-dhcp-range, forward-interface, portgroup, dns-host, dns-txt or dns-srv
    #[arg(value_name = "SECTION")]
    section: String,
    /// The element's XML, or the name of a file with it
    #[arg(value_name = "XML")]
    xml: String,
    /// Which parent of the section, from 0
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    parent_index: i32,
    #[command(flatten)]
    sides: Sides,
}

/// Options of `net-dhcp-leases`.
#[derive(Debug, Args)]
pub struct LeasesArgs {
    #[command(flatten)]
    network: NetworkArg,
    /// Only leases of this MAC address
    mac: Option<String>,
}

/// Options of `net-desc`.
#[derive(Debug, Args)]
pub struct DescArgs {
    #[command(flatten)]
    network: NetworkArg,
    #[command(flatten)]
    sides: Sides,
    /// The title instead of the description
    #[arg(long)]
    title: bool,
    /// The new text; an empty one takes it away
    #[arg(long, value_name = "TEXT")]
    new_desc: Option<String>,
    /// The same as words
    #[arg(value_name = "WORD", conflicts_with = "new_desc")]
    words: Vec<String>,
}

/// Options of `net-metadata`.
#[derive(Debug, Args)]
pub struct MetadataArgs {
    #[command(flatten)]
    network: NetworkArg,
    /// Namespace of the element
    uri: String,
    #[command(flatten)]
    sides: Sides,
    /// Namespace prefix of the new element
    #[arg(long)]
    key: Option<String>,
    /// The new element
    #[arg(long, value_name = "XML", requires = "key")]
    set: Option<String>,
    /// Take the element away
    #[arg(long, conflicts_with = "set")]
    remove: bool,
}

/// Options of `net-port-list`.
#[derive(Debug, Args)]
pub struct PortListArgs {
    #[command(flatten)]
    network: NetworkArg,
    /// Print UUIDs only
    #[arg(long)]
    uuid: bool,
}

/// Options of `net-port-create`.
#[derive(Debug, Args)]
pub struct PortCreateArgs {
    #[command(flatten)]
    network: NetworkArg,
    #[command(flatten)]
    file: FileArg,
    /// Refuse what is not known in the file
    #[arg(long)]
    validate: bool,
}

/// Options of `net-port-dumpxml` and `net-port-delete`.
#[derive(Debug, Args)]
pub struct PortArgs {
    #[command(flatten)]
    network: NetworkArg,
    /// UUID of the port
    port: String,
}

const EVENTS: host_event::Kind = host_event::Kind {
    noun: "network",
    look_up: Some("NetworkLookupByName"),
    property: "Name",
    interface: NETWORK,
    lifecycle: ("NetworkEvent", &["Defined", "Undefined", "Started", "Stopped"]),
    other: ("metadata-change", DOMUS_NETWORK, "MetadataChange"),
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
        Command::List(args) => list(session, args).await,
        Command::Define(args) => define(session, args, "define", "defined", "NetworkDefineXML").await,
        Command::Create(args) => define(session, args, "create", "created", "NetworkCreateXML").await,
        Command::Start(args) => act(session, args, "Create", "start", "started").await,
        Command::Destroy(args) => act(session, args, "Destroy", "destroy", "destroyed").await,
        Command::Undefine(args) => act(session, args, "Undefine", "undefine", "has been undefined").await,
        Command::Autostart(args) => autostart(session, args).await,
        Command::Dumpxml(args) => dumpxml(session, args).await,
        Command::Edit(args) => edit(session, args).await,
        Command::Info(args) => info(session, args).await,
        Command::Name(args) => name(session, args).await,
        Command::Uuid(args) => uuid(session, args).await,
        Command::Update(args) => update(session, args).await,
        Command::DhcpLeases(args) => dhcp_leases(session, args).await,
        Command::Desc(args) => desc(session, args).await,
        Command::Metadata(args) => metadata(session, args).await,
        Command::Event(args) => host_event::run(session, args, &EVENTS).await,
        Command::PortList(args) => port_list(session, args).await,
        Command::PortDumpxml(args) => port_dumpxml(session, args).await,
        Command::PortCreate(args) => port_create(session, args).await,
        Command::PortDelete(args) => port_delete(session, args).await,
    }
}

/// A network that exists.
struct Network {
    path: String,
    name: String,
    uuid: String,
}

impl Network {
    fn json(&self) -> Value {
        json!({ "name": self.name, "uuid": self.uuid })
    }

    fn json_with(&self, key: &str, value: impl Into<Value>) -> Value {
        let mut object = self.json();
        object[key] = value.into();
        object
    }
}

async fn properties(session: &Session, path: &str) -> Result<Params, CallError> {
    session.client.call(path, "org.freedesktop.DBus.Properties", "GetAll", &(NETWORK,)).await
}

async fn at(session: &Session, path: String) -> Result<Network, CallError> {
    let found = properties(session, &path).await?;
    let text = |name| found.text(name).unwrap_or_default().to_owned();
    Ok(Network { name: text("Name"), uuid: text("UUID"), path })
}

/// The network called `given`: by UUID if it is one, else by name. Networks are the same for VMs and containers.
async fn find(session: &Session, given: &str, by_name: bool) -> Result<Network, Failure> {
    let driver: Driver = session.default_driver().await?;
    let look_up = async |method: &str| {
        let path: Result<zbus::OwnedObjectPath, CallError> =
            session.client.call(driver.path(), CONNECT, method, &(given,)).await;
        path.map(|path| path.to_string())
    };
    let what = || format!("failed to get network '{given}'");
    // virsh asks nobody for what cannot be a UUID.
    if given.len() != 36 && !by_name {
        return Err(Failure::new(what()));
    }
    if given.len() == 36 {
        match look_up("NetworkLookupByUUID").await {
            Ok(path) => return at(session, path).await.context(what),
            Err(error) if !error.is_answer() || !by_name => return Err(Failure::from(error).context(what())),
            Err(_) => {}
        }
    }
    let path = look_up("NetworkLookupByName").await.context(what)?;
    at(session, path).await.context(what)
}

async fn xml_of(session: &Session, path: &str, flags: u32) -> Result<String, CallError> {
    session.client.call(path, NETWORK, "GetXMLDesc", &(flags,)).await
}

async fn define(session: &Session, args: &DefineArgs, verb: &str, done: &str, method: &str) -> Result<(), Failure> {
    let (file, xml) = (args.file.name(), args.file.read()?);
    let driver = session.default_driver().await?;
    let path: Result<zbus::OwnedObjectPath, CallError> =
        session.client.call(driver.path(), CONNECT, method, &(xml.as_str(),)).await;
    let path = path.context(|| format!("Failed to {verb} network from {file}"))?;
    let network = at(session, path.to_string()).await?;
    session.out.say(&network.json_with("result", done), &format!("Network {} {done} from {file}", network.name));
    Ok(())
}

async fn act(session: &Session, args: &NetworkArg, method: &str, verb: &str, done: &str) -> Result<(), Failure> {
    let network = find(session, &args.network, true).await?;
    let answer: Result<(), CallError> = session.client.call(&network.path, NETWORK, method, &()).await;
    answer.context(|| format!("Failed to {verb} network {}", network.name))?;
    let word = done.rsplit(' ').next().unwrap_or(done);
    session.out.say(&network.json_with("result", word), &format!("Network {} {done}", network.name));
    Ok(())
}

async fn autostart(session: &Session, args: &AutostartArgs) -> Result<(), Failure> {
    let network = find(session, &args.network.network, true).await?;
    let verb = if args.disable { "unmark" } else { "mark" };
    let value = zbus::Variant::Bool(!args.disable);
    let set = session.client.set_property(&network.path, NETWORK, "Autostart", value).await;
    set.context(|| format!("failed to {verb} network {} as autostarted", network.name))?;
    let value = network.json_with("autostart", !args.disable);
    session.out.say(&value, &format!("Network {} {verb}ed as autostarted", network.name));
    Ok(())
}

async fn dumpxml(session: &Session, args: &DumpxmlArgs) -> Result<(), Failure> {
    let network = find(session, &args.network.network, true).await?;
    let xml = xml_of(session, &network.path, if args.inactive { XML_INACTIVE } else { 0 }).await?;
    session.out.show(&network.json_with("xml", xml.as_str()), &xml);
    Ok(())
}

async fn edit(session: &Session, args: &NetworkArg) -> Result<(), Failure> {
    let network = find(session, &args.network, true).await?;
    let driver = session.default_driver().await?;
    let before = xml_of(session, &network.path, XML_INACTIVE).await?;
    let answer = edit::rounds(
        &before,
        async || xml_of(session, &network.path, XML_INACTIVE).await,
        async |text: &str| {
            let path: zbus::OwnedObjectPath =
                session.client.call(driver.path(), CONNECT, "NetworkDefineXML", &(text,)).await?;
            Ok(path.to_string())
        },
    )
    .await?;
    match answer {
        None => {
            let words = format!("Network {} XML configuration not changed.", network.name);
            session.out.say(&network.json_with("result", "unchanged"), &words);
        }
        Some(path) => {
            let edited = at(session, path).await?;
            let words = format!("Network {} XML configuration edited.", edited.name);
            session.out.say(&edited.json_with("result", "edited"), &words);
        }
    }
    Ok(())
}

/// The bridge that a network's XML names.
fn bridge(xml: &str) -> Option<String> {
    // The daemon writes it in this form, and a link's name has nothing that XML would escape.
    let (_, rest) = xml.split_once("<bridge name='")?;
    let (name, _) = rest.split_once('\'')?;
    Some(name.to_owned()).filter(|name| !name.is_empty())
}

async fn info(session: &Session, args: &NetworkArg) -> Result<(), Failure> {
    let network = find(session, &args.network, true).await?;
    let found = properties(session, &network.path).await?;
    let bridge = bridge(&xml_of(session, &network.path, 0).await?);
    let flag = |name| found.flag(name).unwrap_or(false);
    let word = |is: bool| if is { "yes" } else { "no" };
    let mut value = network.json();
    let mut lines = vec![("Name:", network.name.clone()), ("UUID:", network.uuid.clone())];
    for (title, key, name) in [
        ("Active:", "active", "Active"),
        ("Persistent:", "persistent", "Persistent"),
        ("Autostart:", "autostart", "Autostart"),
    ] {
        value[key] = Value::from(flag(name));
        lines.push((title, word(flag(name)).to_owned()));
    }
    value["bridge"] = Value::from(bridge.clone());
    lines.extend(bridge.map(|bridge| ("Bridge:", bridge)));
    let text: String = lines.iter().map(|(title, text)| format!("{title:<15} {text}\n")).collect();
    session.out.show(&value, &text);
    Ok(())
}

async fn name(session: &Session, args: &NetworkArg) -> Result<(), Failure> {
    let network = find(session, &args.network, false).await?;
    session.out.show(&network.json(), &format!("{}\n", network.name));
    Ok(())
}

async fn uuid(session: &Session, args: &NetworkArg) -> Result<(), Failure> {
    let network = find(session, &args.network, true).await?;
    session.out.show(&network.json(), &format!("{}\n", network.uuid));
    Ok(())
}

async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let driver = session.default_driver().await?;
    // virConnectListAllNetworksFlags
    let mut flags: u32 = if args.inactive { 1 } else { 2 };
    if args.all {
        flags = 3;
    }
    let filters = [(args.persistent, 4), (args.transient, 8), (args.autostart, 16), (args.no_autostart, 32)];
    filters.iter().filter(|(wanted, _)| *wanted).for_each(|(_, bit)| flags |= bit);
    let paths: Vec<zbus::OwnedObjectPath> =
        session.client.call(driver.path(), CONNECT, "ListNetworks", &(flags,)).await?;
    let word = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let mut header = vec!["Name", "State", "Autostart", "Persistent"];
    if args.title {
        header.push("Title");
    }
    let (mut table, mut values, mut columns) = (Table::new(&header), Vec::new(), String::new());
    for path in paths {
        // One that has gone in the meantime is not listed.
        let Ok(found) = properties(session, &path).await else { continue };
        let flag = |name| found.flag(name).unwrap_or(false);
        let (name, uuid) = (found.text("Name").unwrap_or_default(), found.text("UUID").unwrap_or_default());
        let state = if flag("Active") { "active" } else { "inactive" };
        let mut row = vec![name.to_owned(), state.to_owned(), word(flag("Autostart")), word(flag("Persistent"))];
        let mut value = json!({
            "name": name, "uuid": uuid, "active": flag("Active"), "autostart": flag("Autostart"),
            "persistent": flag("Persistent"),
        });
        if args.title {
            let title = super::devices::title(&xml_of(session, &path, 0).await.unwrap_or_default());
            value["title"] = Value::from(title.as_str());
            row.push(title);
        }
        table.row(row);
        values.push(value);
        let cells: Vec<&str> = [(args.uuid, uuid), (args.name, name)]
            .into_iter()
            .filter_map(|(wanted, cell)| wanted.then_some(cell))
            .collect();
        columns.push_str(&cells.join(" "));
        columns.push('\n');
    }
    let text = if args.uuid || args.name { columns } else { table.text(session.out.quiet) };
    session.out.show(&Value::from(values), &text);
    Ok(())
}

/// A number of libvirt's for a word of virsh's.
fn number(words: &[(&str, u32)], given: &str, what: &str) -> Result<u32, Failure> {
    words.iter().find(|(word, _)| *word == given).map(|(_, number)| *number).ok_or_else(|| {
        let mut known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        known.sort_unstable();
        Failure::new(format!("unrecognized {what} name '{given}' (known: {})", known.join(", ")))
    })
}

async fn update(session: &Session, args: &UpdateArgs) -> Result<(), Failure> {
    let network = find(session, &args.network.network, true).await?;
    const COMMANDS: [(&str, u32); 5] = [("modify", 1), ("delete", 2), ("add-last", 3), ("add", 3), ("add-first", 4)];
    const SECTIONS: [(&str, u32); 12] = [
        ("bridge", 1),
        ("domain", 2),
        ("ip", 3),
        ("ip-dhcp-host", 4),
        ("ip-dhcp-range", 5),
        ("forward", 6),
        ("forward-interface", 7),
        ("forward-pf", 8),
        ("portgroup", 9),
        ("dns-host", 10),
        ("dns-txt", 11),
        ("dns-srv", 12),
    ];
    let command = number(&COMMANDS, &args.command, "command")?;
    let section = number(&SECTIONS, &args.section, "section")?;
    let xml = match args.xml.starts_with('<') {
        true => args.xml.clone(),
        false => read_file(std::path::Path::new(&args.xml))?,
    };
    let (sides, parent) = (args.sides, args.parent_index);
    let answer: Result<(), CallError> =
        session.client.call(&network.path, NETWORK, "Update", &(command, section, parent, xml, sides.flags())).await;
    answer.context(|| format!("Failed to update network {}", network.name))?;
    let what = match (sides.config, sides.live) {
        (true, true) => "persistent config and live state",
        (true, false) => "persistent config",
        (false, true) => "live state",
        (false, false) if properties(session, &network.path).await?.flag("Active").unwrap_or(false) => "live state",
        (false, false) => "persistent config",
    };
    session.out.say(&network.json_with("result", "updated"), &format!("Updated network {} {what}", network.name));
    Ok(())
}

/// Interface, expiry, type, MAC, IAID, address, prefix, hostname, client id.
type Lease = (String, i64, i32, String, String, String, u32, String, String);

async fn dhcp_leases(session: &Session, args: &LeasesArgs) -> Result<(), Failure> {
    let network = find(session, &args.network.network, true).await?;
    let mac = args.mac.clone().unwrap_or_default();
    let answer: Result<Vec<Lease>, CallError> =
        session.client.call(&network.path, NETWORK, "GetDHCPLeases", &(mac, 0u32)).await;
    let mut leases = answer.context(|| format!("Failed to get leases info for {}", network.name))?;
    leases.sort_by(|a, b| (&a.3, &a.5).cmp(&(&b.3, &b.5)));
    let mut table =
        Table::new(&["Expiry Time", "MAC address", "Protocol", "IP address", "Hostname", "Client ID or DUID"]);
    let mut values = Vec::new();
    for (interface, expiry, kind, mac, iaid, address, prefix, hostname, client) in leases {
        let dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
        let protocol = if kind == 1 { "ipv6" } else { "ipv4" };
        let until = match expiry {
            0 => "infinite".to_owned(),
            seconds => super::event::time_of(seconds),
        };
        values.push(json!({
            "interface": interface, "expiry": expiry, "protocol": protocol, "mac": mac, "iaid": iaid,
            "address": address, "prefix": prefix, "hostname": hostname, "client-id": client,
        }));
        let address = format!("{address}/{prefix}");
        table.row(vec![until, dash(&mac), protocol.to_owned(), address, dash(&hostname), dash(&client)]);
    }
    session.out.show(&Value::from(values), &table.text(session.out.quiet));
    Ok(())
}

/// Whether the error says that there is none.
fn is_missing(error: &CallError) -> bool {
    matches!(error, CallError::Remote { message, .. } if message.starts_with("metadata not found"))
}

async fn get_metadata(session: &Session, path: &str, kind: i32, uri: &str, flags: u32) -> Result<String, CallError> {
    match session.client.call(path, DOMUS_NETWORK, "GetMetadata", &(kind, uri, flags)).await {
        Err(error) if is_missing(&error) => Ok(String::new()),
        answer => answer,
    }
}

async fn desc(session: &Session, args: &DescArgs) -> Result<(), Failure> {
    let network = find(session, &args.network.network, true).await?;
    let (kind, word) = if args.title { (1, "title") } else { (0, "description") };
    let words = (!args.words.is_empty()).then(|| args.words.join(" "));
    let flags = args.sides.flags();
    if let Some(text) = args.new_desc.clone().or(words) {
        let body = (kind, text, "", "", flags);
        let answer: Result<(), CallError> =
            session.client.call(&network.path, DOMUS_NETWORK, "SetMetadata", &body).await;
        answer.context(|| format!("Failed to set new network {word}"))?;
        // virsh ends neither this line nor the text below; the empty line after the command does.
        let words = format!("Network {word} updated successfully");
        session.out.show(&network.json_with("result", "updated"), if session.out.quiet { "" } else { &words });
        return Ok(());
    }
    let text = get_metadata(session, &network.path, kind, "", flags).await?;
    let said = if text.is_empty() { format!("No {word} for network: {}", network.name) } else { text.clone() };
    session.out.show(&network.json_with(word, text), &said);
    Ok(())
}

async fn metadata(session: &Session, args: &MetadataArgs) -> Result<(), Failure> {
    let network = find(session, &args.network.network, true).await?;
    let flags = args.sides.flags();
    let set = args.set.clone().or(args.remove.then(String::new));
    if let Some(xml) = set {
        let key = args.key.clone().unwrap_or_default();
        let body = (2, xml, key, args.uri.as_str(), flags);
        session.client.call::<_, ()>(&network.path, DOMUS_NETWORK, "SetMetadata", &body).await?;
        let word = if args.remove { "removed" } else { "modified" };
        session.out.say(&network.json_with("result", word), &format!("Metadata {word}"));
        return Ok(());
    }
    let text = get_metadata(session, &network.path, 2, &args.uri, flags).await?;
    session.out.show(&network.json_with("metadata", text.as_str()), &format!("{text}\n"));
    Ok(())
}

async fn port_list(session: &Session, args: &PortListArgs) -> Result<(), Failure> {
    let network = find(session, &args.network.network, true).await?;
    let mut ports: Vec<String> = session.client.call(&network.path, DOMUS_NETWORK, "ListPorts", &(0u32,)).await?;
    ports.sort();
    let text = if args.uuid {
        ports.iter().map(|port| format!("{port}\n")).collect()
    } else {
        let mut table = Table::new(&["UUID"]);
        ports.iter().for_each(|port| table.row(vec![port.clone()]));
        table.text(session.out.quiet)
    };
    session.out.show(&Value::from(ports), &text);
    Ok(())
}

async fn port_dumpxml(session: &Session, args: &PortArgs) -> Result<(), Failure> {
    let network = find(session, &args.network.network, true).await?;
    let port = args.port.as_str();
    let xml: String = session.client.call(&network.path, DOMUS_NETWORK, "GetPortXMLDesc", &(port, 0u32)).await?;
    session.out.show(&json!({ "port": port, "xml": xml }), &xml);
    Ok(())
}

async fn port_create(session: &Session, args: &PortCreateArgs) -> Result<(), Failure> {
    let (file, xml) = (args.file.name(), args.file.read()?);
    let network = find(session, &args.network.network, true).await?;
    let flags = u32::from(args.validate) << 1;
    let port: Result<String, CallError> =
        session.client.call(&network.path, DOMUS_NETWORK, "CreatePortXML", &(xml.as_str(), flags)).await;
    let port = port.context(|| format!("Failed to create network from {file}"))?;
    session.out.say(&json!({ "port": port, "result": "created" }), &format!("Network port {port} created from {file}"));
    Ok(())
}

async fn port_delete(session: &Session, args: &PortArgs) -> Result<(), Failure> {
    let network = find(session, &args.network.network, true).await?;
    let port = args.port.as_str();
    let answer: Result<(), CallError> =
        session.client.call(&network.path, DOMUS_NETWORK, "DeletePort", &(port, 0u32)).await;
    answer.context(|| format!("Failed to delete network port {port}"))?;
    session.out.say(&json!({ "port": port, "result": "deleted" }), &format!("Network port {port} deleted"));
    Ok(())
}
