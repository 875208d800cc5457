//! Devices put into, taken out of and changed in a domain: attach-device, detach-device, update-device,
//! attach-interface, detach-interface, domif-setlink, domif-getlink.

use std::fmt::Write;

use clap::Args;
use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;
use serde_json::Value;

use super::args::{DomainArg, FileArg};
use super::client::CallError;
use super::domains::{By, DOMAIN, Domain, Session};
use super::output::{Context, Failure};
use super::tune::Affect;
use super::{devices, lifecycle};
use crate::types::flags::{affect, xml};

/// `UpdateDevice`: force.
const FORCE: u32 = 4;

/// Which definition, with virsh's `--persistent`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Where {
    /// In the definition, and in the domain if it runs
    #[arg(long, conflicts_with = "current")]
    persistent: bool,
    #[command(flatten)]
    affect: Affect,
}

impl Where {
    async fn flags(self, session: &Session, domain: &Domain, none_is_live: bool) -> Result<u32, CallError> {
        if !self.persistent {
            return Ok(if none_is_live { self.affect.flags_or_live() } else { self.affect.flags() });
        }
        let live = if lifecycle::is_active(session, domain).await? { affect::LIVE } else { 0 };
        Ok(self.affect.flags() | affect::CONFIG | live)
    }
}

/// Options of `attach-device` and `detach-device`.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    #[command(flatten)]
    domain: DomainArg,
    #[command(flatten)]
    file: FileArg,
    #[command(flatten)]
    place: Where,
}

/// Options of `update-device`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Change it even if the guest does not agree
    #[arg(long)]
    force: bool,
}

/// Options of `attach-interface`.
#[derive(Debug, Args)]
pub struct AttachInterfaceArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// bridge or ethernet
    #[arg(value_name = "TYPE")]
    kind: String,
    /// The bridge; for ethernet a name that is not used
    source: String,
    /// Name of the interface on the host
    #[arg(long)]
    target: Option<String>,
    /// MAC address
    #[arg(long)]
    mac: Option<String>,
    /// Script that joins it to a bridge
    #[arg(long)]
    script: Option<String>,
    /// Model, as virtio or e1000
    #[arg(long)]
    model: Option<String>,
    /// Alias beginning with ua-
    #[arg(long)]
    alias: Option<String>,
    /// Print the XML only
    #[arg(long)]
    print_xml: bool,
    #[command(flatten)]
    place: Where,
}

/// Options of `detach-interface`.
#[derive(Debug, Args)]
pub struct DetachInterfaceArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// bridge, ethernet ...
    #[arg(value_name = "TYPE")]
    kind: String,
    /// MAC address, when there are several of the type
    #[arg(long)]
    mac: Option<String>,
    /// Print the XML only
    #[arg(long)]
    print_xml: bool,
    #[command(flatten)]
    place: Where,
}

/// Options of `domif-setlink`.
#[derive(Debug, Args)]
pub struct SetlinkArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Name on the host or MAC address
    interface: String,
    /// up or down
    state: String,
    /// In the definition: from the next boot on
    #[arg(long)]
    config: bool,
    /// Print the XML only
    #[arg(long)]
    print_xml: bool,
}

/// Options of `domif-getlink`.
#[derive(Debug, Args)]
pub struct GetlinkArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Name on the host or MAC address
    interface: String,
    /// Of the definition the next start will use
    #[arg(long)]
    config: bool,
}

/// Calls the member; says `done`, or `failed` before the reason.
async fn call(
    session: &Session,
    domain: &Domain,
    member: &str,
    (xml, flags): (&str, u32),
    done: &str,
    failed: String,
) -> Result<(), Failure> {
    let answer: Result<(), CallError> = session.client.call(&domain.path, DOMAIN, member, &(xml, flags)).await;
    answer.context(|| failed)?;
    session.out.say(&domain.json_with("result", Value::from(done)), done);
    // virsh's texts end with an empty line of their own.
    Ok(())
}

/// `domus attach-device`
pub async fn attach(session: &Session, args: &DeviceArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let xml = args.file.read()?;
    let flags = args.place.flags(session, &domain, true).await?;
    let failed = format!("Failed to attach device from {}", args.file.name());
    call(session, &domain, "AttachDevice", (&xml, flags), "Device attached successfully", failed).await
}

/// `domus detach-device`
pub async fn detach(session: &Session, args: &DeviceArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let xml = args.file.read()?;
    let flags = args.place.flags(session, &domain, true).await?;
    let failed = format!("Failed to detach device from {}", args.file.name());
    call(session, &domain, "DetachDevice", (&xml, flags), "Device detached successfully", failed).await
}

/// `domus update-device`
pub async fn update(session: &Session, args: &UpdateArgs) -> Result<(), Failure> {
    let device = &args.device;
    let domain = session.domain(device.domain.given(), By::ANY).await?;
    let xml = device.file.read()?;
    let flags = device.place.flags(session, &domain, false).await? | if args.force { FORCE } else { 0 };
    let failed = format!("Failed to update device from {}", device.file.name());
    call(session, &domain, "UpdateDevice", (&xml, flags), "Device updated successfully", failed).await
}

/// `domus attach-interface`
pub async fn attach_interface(session: &Session, args: &AttachInterfaceArgs) -> Result<(), Failure> {
    let mut xml = format!("<interface type='{}'>\n", escape(&args.kind));
    let source = match args.kind.as_str() {
        "network" => Some("network"),
        "bridge" => Some("bridge"),
        "direct" => Some("dev"),
        "ethernet" => None,
        other => return Err(Failure::new(format!("No support for {other} in command 'attach-interface'"))),
    };
    let mut line = |element: &str, attribute: &str, value: Option<&str>| {
        if let Some(value) = value {
            let _ = writeln!(xml, "  <{element} {attribute}='{}'/>", escape(value));
        }
    };
    if let Some(attribute) = source {
        line("source", attribute, Some(&args.source));
    }
    line("target", "dev", args.target.as_deref());
    line("mac", "address", args.mac.as_deref());
    line("script", "path", args.script.as_deref());
    line("model", "type", args.model.as_deref());
    line("alias", "name", args.alias.as_deref());
    xml.push_str("</interface>\n");
    if args.print_xml {
        super::output::raw(&xml);
        return Ok(());
    }
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let flags = args.place.flags(session, &domain, true).await?;
    let failed = "Failed to attach interface".to_owned();
    call(session, &domain, "AttachDevice", (&xml, flags), "Interface attached successfully", failed).await
}

/// `domus detach-interface`
pub async fn detach_interface(session: &Session, args: &DetachInterfaceArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let flags = args.place.flags(session, &domain, true).await?;
    let inactive = flags & affect::LIVE == 0;
    let text = session.xml(&domain.path, if inactive { xml::INACTIVE } else { 0 }).await?;
    let of_type: Vec<Found<'_>> = interfaces(&text).into_iter().filter(|found| found.kind == args.kind).collect();
    if of_type.is_empty() {
        return Err(Failure::new(format!("No interface found whose type is {}", args.kind)));
    }
    let wanted = match &args.mac {
        Some(mac) => {
            let found = of_type.iter().find(|found| found.mac.eq_ignore_ascii_case(mac));
            found.ok_or_else(|| Failure::new(format!("No interface with MAC address {mac} was found")))?
        }
        None if of_type.len() > 1 => {
            return Err(Failure::new(format!(
                "Domain has {} interfaces. Please specify which one to detach using --mac",
                of_type.len()
            )));
        }
        None => &of_type[0],
    };
    if args.print_xml {
        super::output::raw(&format!("{}\n", wanted.xml));
        return Ok(());
    }
    let failed = "Failed to detach interface".to_owned();
    call(session, &domain, "DetachDevice", (wanted.xml, flags), "Interface detached successfully", failed).await
}

/// `domus domif-setlink`
pub async fn setlink(session: &Session, args: &SetlinkArgs) -> Result<(), Failure> {
    if !["up", "down"].contains(&args.state.as_str()) {
        return Err(Failure::new(format!("invalid link state '{}'", args.state)));
    }
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let config = args.config || !lifecycle::is_active(session, &domain).await?;
    let text = session.xml(&domain.path, if config { xml::INACTIVE } else { 0 }).await?;
    let interfaces = interfaces(&text);
    let found = named(&interfaces, &args.interface)?;
    let mut lines: Vec<&str> = found.xml.lines().filter(|line| !line.trim_start().starts_with("<link ")).collect();
    let last = lines.pop().unwrap_or_default();
    let changed = format!("{}\n<link state='{}'/>\n{last}", lines.join("\n"), args.state);
    if args.print_xml {
        super::output::raw(&format!("{changed}\n"));
        return Ok(());
    }
    let flags = if config { affect::CONFIG } else { affect::LIVE };
    let failed = "Failed to update interface link state".to_owned();
    call(session, &domain, "UpdateDevice", (&changed, flags), "Device updated successfully", failed).await
}

/// `domus domif-getlink`
pub async fn getlink(session: &Session, args: &GetlinkArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let text = session.xml(&domain.path, if args.config { xml::INACTIVE } else { 0 }).await?;
    let interfaces = interfaces(&text);
    let found = named(&interfaces, &args.interface)?;
    let state = if found.link.is_empty() { "up" } else { &found.link };
    session.out.show(&domain.json_with("link", state), &format!("{} {state}", args.interface));
    Ok(())
}

fn named<'f, 'x>(interfaces: &'f [Found<'x>], name: &str) -> Result<&'f Found<'x>, Failure> {
    let found = interfaces.iter().find(|found| found.target == name || found.mac.eq_ignore_ascii_case(name));
    let by = if name.contains(':') { "mac" } else { "dev" };
    found.ok_or_else(|| Failure::new(format!("Interface ({by}: {name}) not found.")))
}

/// An `<interface>` as the domain's XML has it.
#[derive(Debug, Default)]
struct Found<'x> {
    xml: &'x str,
    kind: String,
    mac: String,
    target: String,
    link: String,
}

fn interfaces(text: &str) -> Vec<Found<'_>> {
    let mut reader = Reader::from_str(text);
    let mut all = Vec::new();
    let mut open: Option<(usize, Found<'_>)> = None;
    loop {
        let before = usize::try_from(reader.buffer_position()).unwrap_or(0);
        match reader.read_event() {
            Ok(Event::Start(element)) if element.name().as_ref() == "interface" && open.is_none() => {
                let kind = devices::attribute(&element, &["type"]).unwrap_or_default();
                open = Some((before, Found { kind, ..Found::default() }));
            }
            Ok(Event::Start(element) | Event::Empty(element)) => {
                let Some((_, found)) = &mut open else { continue };
                let value = |name: &str| devices::attribute(&element, &[name]).unwrap_or_default();
                match element.name().as_ref() {
                    "mac" => found.mac = value("address"),
                    "target" => found.target = value("dev"),
                    "link" => found.link = value("state"),
                    _ => {}
                }
            }
            Ok(Event::End(element)) if element.name().as_ref() == "interface" => {
                let end = usize::try_from(reader.buffer_position()).unwrap_or(0);
                if let Some((start, mut found)) = open.take() {
                    found.xml = text.get(start..end).unwrap_or_default();
                    all.push(found);
                }
            }
            Ok(Event::Eof) | Err(_) => return all,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_found_whole() {
        let text = "<domain><devices>\n<interface type='bridge'>\n  <mac address='52:54:00:00:00:01'/>\n  <target dev='v0'/>\n  \
                    <link state='down'/>\n</interface><interface type='ethernet'><mac address='x'/></interface></devices></domain>";
        let found = interfaces(text);
        assert_eq!(found.len(), 2);
        assert!(found[0].xml.starts_with("<interface type='bridge'>") && found[0].xml.ends_with("</interface>"));
        assert_eq!((found[0].target.as_str(), found[0].link.as_str()), ("v0", "down"));
        assert_eq!(named(&found, "52:54:00:00:00:01").unwrap().target, "v0");
        assert!(named(&found, "v1").is_err());
    }
}
