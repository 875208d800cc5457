//! `nodedev-*`: devices of the host.

use std::fmt::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::CallError;
use super::domains::{CONNECT, Driver, Session};
use super::host::ended;
use super::host_event::{self, EventArgs, decode};
use super::output::{self, Context, Failure};
use crate::types::ParamValue;

/// `org.libvirt.NodeDevice`
const NODE_DEVICE: &str = "org.libvirt.NodeDevice";
/// domusd's own properties of one.
const DOMUS_NODE_DEVICE: &str = "org.domus.NodeDevice1";

/// Capabilities by the bits of `virConnectListAllNodeDeviceFlags`.
const CAPS: [&str; 22] = [
    "system",
    "pci",
    "usb_device",
    "usb",
    "net",
    "scsi_host",
    "scsi_target",
    "scsi",
    "storage",
    "fc_host",
    "vports",
    "scsi_generic",
    "drm",
    "mdev_types",
    "mdev",
    "ccw",
    "css",
    "vdpa",
    "ap_card",
    "ap_queue",
    "ap_matrix",
    "vpd",
];
const PERSISTENT: u32 = 1 << 28;
const TRANSIENT: u32 = 1 << 29;
const INACTIVE: u32 = 1 << 30;
const ACTIVE: u32 = 1 << 31;

/// Commands of devices.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the host's devices
    #[command(name = "nodedev-list")]
    List(ListArgs),
    /// Print a device's XML
    #[command(name = "nodedev-dumpxml")]
    Dumpxml(DumpxmlArgs),
    /// Print basic facts about a device
    #[command(name = "nodedev-info")]
    Info(DeviceArg),
    /// Wait for events of devices
    #[command(name = "nodedev-event")]
    Event(EventArgs),
}

/// A device as the first positional argument.
#[derive(Debug, Args)]
pub struct DeviceArg {
    /// Name of the device, or wwnn,wwpn of a SCSI host
    device: String,
}

/// Options of `nodedev-list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show what hangs on what
    #[arg(long)]
    tree: bool,
    /// Only devices with one of these capabilities
    #[arg(long, value_name = "CAP[,CAP...]")]
    cap: Option<String>,
    /// List inactive devices
    #[arg(long)]
    inactive: bool,
    /// List inactive and active devices
    #[arg(long)]
    all: bool,
    /// Only persistent devices
    #[arg(long)]
    persistent: bool,
    /// Only transient devices
    #[arg(long)]
    transient: bool,
}

/// Options of `nodedev-dumpxml`.
#[derive(Debug, Args)]
pub struct DumpxmlArgs {
    #[command(flatten)]
    device: DeviceArg,
    /// Print the persistent definition
    #[arg(long)]
    inactive: bool,
}

const EVENTS: host_event::Kind = host_event::Kind {
    noun: "node device",
    look_up: None,
    property: "Name",
    interface: NODE_DEVICE,
    lifecycle: ("NodeDeviceEvent", &["Created", "Deleted", "Defined", "Undefined"]),
    other: ("update", "org.domus.NodeDevice1", "Updated"),
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
        Command::Dumpxml(args) => dumpxml(session, args).await,
        Command::Info(args) => info(session, args).await,
        Command::Event(args) => host_event::run(session, args, &EVENTS).await,
    }
}

impl DeviceArg {
    /// The driver asked, and the device's path.
    async fn find(&self, session: &Session) -> Result<(Driver, String), Failure> {
        let driver = session.default_driver().await?;
        let path: Result<zbus::OwnedObjectPath, CallError> = match self.device.split_once(',') {
            Some((node, port)) => {
                let body = (node, port, 0u32);
                session.client.call(driver.path(), CONNECT, "NodeDeviceLookupSCSIHostByWWN", &body).await
            }
            None => session.client.call(driver.path(), CONNECT, "NodeDeviceLookupByName", &(&self.device,)).await,
        };
        let path = path.context(|| format!("Could not find matching device '{}'", self.device))?;
        Ok((driver, path.to_string()))
    }
}

fn name_of(path: &str) -> String {
    decode(path.rsplit('/').next().unwrap_or_default())
}

async fn parent_of(session: &Session, path: &str) -> Result<String, CallError> {
    match session.client.value(path, NODE_DEVICE, "Parent").await? {
        Some(ParamValue::Str(parent)) => Ok(parent),
        _ => Err(CallError::Answer { call: format!("{NODE_DEVICE}.Parent"), reason: "not a string".into() }),
    }
}

impl ListArgs {
    fn flags(&self) -> Result<u32, Failure> {
        if self.tree && (self.cap.is_some() || self.inactive || self.persistent || self.transient) {
            let others = "--cap, --inactive, --persistent and --transient";
            return Err(Failure::new(format!("Option --tree is incompatible with {others}")));
        }
        if self.all && self.inactive {
            return Err(Failure::new("Option --all is incompatible with --inactive"));
        }
        let mut flags = 0;
        for cap in self.cap.iter().flat_map(|caps| caps.split(',')) {
            let bit = CAPS.iter().position(|known| *known == cap);
            flags |= 1 << bit.ok_or_else(|| Failure::new("Invalid capability type"))?;
        }
        if self.inactive || self.all {
            flags |= INACTIVE;
        }
        if !self.inactive {
            flags |= ACTIVE;
        }
        if self.persistent {
            flags |= PERSISTENT;
        }
        if self.transient {
            flags |= TRANSIENT;
        }
        Ok(flags)
    }
}

async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let flags = args.flags()?;
    let driver = session.default_driver().await?;
    let paths: Result<Vec<zbus::OwnedObjectPath>, CallError> =
        session.client.call(driver.path(), CONNECT, "ListNodeDevices", &(flags,)).await;
    let paths = paths.context(|| "Failed to list node devices".to_owned())?;
    if !args.tree && !session.out.json {
        let mut names: Vec<String> = paths.iter().map(|path| name_of(path)).collect();
        names.sort();
        output::raw(&names.iter().map(|name| format!("{name}\n")).collect::<String>());
        return Ok(());
    }
    let mut devices = Vec::new();
    for path in &paths {
        // One that is gone meanwhile is left out.
        if let Ok(parent) = parent_of(session, path).await {
            devices.push((name_of(path), Some(parent).filter(|parent| !parent.is_empty())));
        }
    }
    devices.sort();
    if session.out.json {
        let list = devices.iter().map(|(name, parent)| json!({ "name": name, "parent": parent }));
        session.out.value(&list.collect());
        return Ok(());
    }
    let mut text = String::new();
    for (name, _) in devices.iter().filter(|(_, parent)| parent.is_none()) {
        branch(&mut text, &devices, name, None, "");
    }
    output::raw(&text);
    Ok(())
}

/// A device and all that hangs on it, as virsh draws it. `last` is the last of its siblings, for a device that has any.
fn branch(text: &mut String, all: &[(String, Option<String>)], name: &str, last: Option<&str>, indent: &str) {
    let mut inner = indent.to_string();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{indent}{}{name}", if last.is_some() { "+- " } else { "" });
    if let Some(last) = last {
        inner.push_str(if last == name { "  " } else { "| " });
    }
    let children: Vec<&str> =
        all.iter().filter(|(_, parent)| parent.as_deref() == Some(name)).map(|(name, _)| name.as_str()).collect();
    if let Some(last_child) = children.last() {
        let _ = writeln!(text, "{inner}  |");
        let below = format!("{inner}  ");
        for child in &children {
            branch(text, all, child, Some(last_child), &below);
        }
    } else if last == Some(name) {
        let _ = writeln!(text, "{inner}");
    }
}

async fn dumpxml(session: &Session, args: &DumpxmlArgs) -> Result<(), Failure> {
    let (driver, path) = args.device.find(session).await?;
    let xml: String = session.client.call(&path, NODE_DEVICE, "GetXMLDesc", &(u32::from(args.inactive),)).await?;
    session.out.show(&json!({ "driver": driver.name(), "name": name_of(&path), "xml": xml }), &ended(&xml));
    Ok(())
}

async fn info(session: &Session, args: &DeviceArg) -> Result<(), Failure> {
    let (driver, path) = args.find(session).await?;
    let (name, parent) = (name_of(&path), parent_of(session, &path).await?);
    let mut text = format!("{:<15} {name}\n{:<15} {parent}\n", "Name:", "Parent:");
    let mut value = json!({ "driver": driver.name(), "name": name, "parent": parent });
    for (title, property) in [("Active:", "Active"), ("Persistent:", "Persistent"), ("Autostart:", "Autostart")] {
        if let Some(ParamValue::Bool(is)) = session.client.value(&path, DOMUS_NODE_DEVICE, property).await? {
            let _ = writeln!(text, "{title:<15} {}", if is { "yes" } else { "no" });
            value[property.to_lowercase()] = is.into();
        }
    }
    session.out.show(&value, &text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_virshs_to_the_blank() {
        let device = |name: &str, parent: Option<&str>| (name.to_string(), parent.map(str::to_string));
        let all = [
            device("a", Some("computer")),
            device("b", Some("computer")),
            device("b1", Some("b")),
            device("c", Some("computer")),
            device("computer", None),
        ];
        let mut text = String::new();
        branch(&mut text, &all, "computer", None, "");
        assert_eq!(text, "computer\n  |\n  +- a\n  +- b\n  |   |\n  |   +- b1\n  |     \n  +- c\n    \n");
    }
}
