//! Commands that read a domain's XML: dumpxml, domblklist, domiflist; and the few facts other commands need from XML.
//!
//! Looks only for what a command shows. Whether XML is right is the daemon's to say: what cannot be read is skipped.

use clap::Args;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Value, json};

use super::args::DomainArg;
use super::domains::{By, Session};
use super::output::{Failure, Table};
use crate::types::flags::xml;

/// Options of `dumpxml`.
#[derive(Debug, Args)]
pub struct DumpxmlArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Print the definition the next start will use
    #[arg(long)]
    inactive: bool,
    /// Include secrets such as passwords
    #[arg(long)]
    security_info: bool,
    /// Print the CPU as the host provides it
    #[arg(long)]
    update_cpu: bool,
    /// Print XML that fits a migration
    #[arg(long)]
    migratable: bool,
}

/// Options of `domblklist`.
#[derive(Debug, Args)]
pub struct BlockArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Of the definition the next start will use
    #[arg(long)]
    inactive: bool,
    /// Also print type and device
    #[arg(long)]
    details: bool,
}

/// Options of `domiflist`.
#[derive(Debug, Args)]
pub struct InterfaceArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Of the definition the next start will use
    #[arg(long)]
    inactive: bool,
}

/// `domus dumpxml`
pub async fn dumpxml(session: &Session, args: &DumpxmlArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let wanted = [
        (args.inactive, xml::INACTIVE),
        (args.security_info, xml::SECURE),
        (args.update_cpu, xml::UPDATE_CPU),
        (args.migratable, xml::MIGRATABLE),
    ];
    let flags = wanted.iter().filter(|(on, _)| *on).fold(0, |flags, (_, bit)| flags | bit);
    let text = session.xml(&domain.path, flags).await?;
    session.out.show(&domain.json_with("xml", text.as_str()), &text);
    Ok(())
}

/// `domus domblklist`
pub async fn domblklist(session: &Session, args: &BlockArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let text = session.xml(&domain.path, if args.inactive { xml::INACTIVE } else { 0 }).await?;
    let disks = disks(&text);
    let header: &[&str] = if args.details { &["Type", "Device", "Target", "Source"] } else { &["Target", "Source"] };
    let mut table = Table::new(header);
    for disk in &disks {
        let place = [dash(disk.target.as_deref()), dash(disk.source.as_deref())];
        let details = [dash(disk.kind.as_deref()), dash(disk.device.as_deref())];
        table.row(if args.details { details.into_iter().chain(place).collect() } else { place.to_vec() });
    }
    let list: Vec<Value> = disks
        .iter()
        .map(|disk| json!({ "type": disk.kind, "device": disk.device, "target": disk.target, "source": disk.source }))
        .collect();
    session.out.show(&domain.json_with("disks", list), &table.text(session.out.quiet));
    Ok(())
}

/// `domus domiflist`
pub async fn domiflist(session: &Session, args: &InterfaceArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let text = session.xml(&domain.path, if args.inactive { xml::INACTIVE } else { 0 }).await?;
    let interfaces = interfaces(&text);
    let mut table = Table::new(&["Interface", "Type", "Source", "Model", "MAC"]);
    for nic in &interfaces {
        let cells = [&nic.target, &nic.kind, &nic.source, &nic.model, &nic.mac];
        table.row(cells.into_iter().map(|cell| dash(cell.as_deref())).collect());
    }
    let list: Vec<Value> = interfaces
        .iter()
        .map(|nic| {
            json!({ "interface": nic.target, "type": nic.kind, "source": nic.source, "model": nic.model, "mac": nic.mac })
        })
        .collect();
    session.out.show(&domain.json_with("interfaces", list), &table.text(session.out.quiet));
    Ok(())
}

fn dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Disk {
    kind: Option<String>,
    device: Option<String>,
    target: Option<String>,
    source: Option<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Interface {
    target: Option<String>,
    kind: Option<String>,
    source: Option<String>,
    model: Option<String>,
    mac: Option<String>,
}

fn disks(xml: &str) -> Vec<Disk> {
    let mut disks: Vec<Disk> = Vec::new();
    walk(xml, |path, element| match path {
        ["domain", "devices", "disk"] => disks.push(Disk {
            kind: attribute(element, &["type"]),
            device: attribute(element, &["device"]),
            ..Disk::default()
        }),
        ["domain", "devices", "disk", child] => {
            let Some(disk) = disks.last_mut() else { return };
            match *child {
                "target" => disk.target = attribute(element, &["dev"]),
                "source" => disk.source = attribute(element, &["file", "dev", "dir", "name", "volume", "path"]),
                _ => {}
            }
        }
        _ => {}
    });
    disks
}

fn interfaces(xml: &str) -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = Vec::new();
    walk(xml, |path, element| match path {
        ["domain", "devices", "interface"] => {
            interfaces.push(Interface { kind: attribute(element, &["type"]), ..Interface::default() });
        }
        ["domain", "devices", "interface", child] => {
            let Some(nic) = interfaces.last_mut() else { return };
            match *child {
                "target" => nic.target = attribute(element, &["dev"]),
                "source" => nic.source = attribute(element, &["bridge", "dev", "network", "name", "path"]),
                "model" => nic.model = attribute(element, &["type"]),
                "mac" => nic.mac = attribute(element, &["address"]),
                _ => {}
            }
        }
        _ => {}
    });
    interfaces
}

/// `type` of the root element `<domain>`.
pub fn domain_type(xml: &str) -> Option<String> {
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event().ok()? {
            Event::Start(root) | Event::Empty(root) => {
                return if name(&root) == "domain" { attribute(&root, &["type"]) } else { None };
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// The text of `<title>`, empty when there is none.
pub fn title(xml: &str) -> String {
    text_of(xml, &["title"])
}

/// The text of the first element with these names below the root, empty when there is none.
pub fn text_of(xml: &str, wanted: &[&str]) -> String {
    let mut reader = Reader::from_str(xml);
    let mut path: Vec<String> = Vec::new();
    let mut inside = false;
    let mut text = String::new();
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(element) => {
                path.push(name(&element));
                inside = path.get(1..).is_some_and(|below| below == wanted);
            }
            Event::End(_) => {
                if inside {
                    break;
                }
                path.pop();
            }
            Event::Text(part) if inside => text.push_str(&part.xml10_content()),
            Event::GeneralRef(reference) if inside => {
                text.push_str(
                    &quick_xml::escape::unescape(&format!("&{};", reference.xml10_content())).unwrap_or_default(),
                );
            }
            Event::CData(part) if inside => text.push_str(&part.xml10_content()),
            Event::Eof => break,
            _ => {}
        }
    }
    text
}

/// Calls `visit` at each element with the names from the root to it. Stops at the first error.
fn walk(xml: &str, mut visit: impl FnMut(&[&str], &BytesStart<'_>)) {
    let mut reader = Reader::from_str(xml);
    let mut path: Vec<String> = Vec::new();
    let mut seen = |path: &[String], element: &BytesStart<'_>| {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        visit(&names, element);
    };
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(element) => {
                path.push(name(&element));
                seen(&path, &element);
            }
            Event::Empty(element) => {
                path.push(name(&element));
                seen(&path, &element);
                path.pop();
            }
            Event::End(_) => {
                path.pop();
            }
            Event::Eof => break,
            _ => {}
        }
    }
}

fn name(element: &BytesStart<'_>) -> String {
    element.name().as_ref().to_owned()
}

/// The first of these attributes that is there.
pub(super) fn attribute(element: &BytesStart<'_>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let attribute = element.try_get_attribute(name).ok()??;
        attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0).ok().map(|value| value.into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str =
        "<?xml version='1.0'?><!-- c --><domain type='kvm'><name>x</name><title>a &amp; b</title><devices>
        <disk type='file' device='disk'><driver name='qemu'/><source file='/a&amp;b'/>
          <backingStore type='file'><source file='/base'/></backingStore><target dev='vda' bus='virtio'/></disk>
        <disk type='network' device='cdrom'><source protocol='rbd' name='p/i'/><target dev='sda'/></disk>
        <disk type='file' device='floppy'><target dev='fda'/></disk>
        <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/><target dev='tap0'/>
          <model type='virtio'/></interface>
        <interface type='ethernet'><mac address='52:54:00:00:00:02'/></interface></devices></domain>";

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn disks_show_their_own_source_not_the_backing_file() {
        let found = disks(XML);
        assert_eq!(
            found[0],
            Disk { kind: some("file"), device: some("disk"), target: some("vda"), source: some("/a&b") }
        );
        assert_eq!(found[1].source, some("p/i"));
        assert_eq!(found[2].source, None);
    }

    #[test]
    fn interfaces_show_what_is_there() {
        let found = interfaces(XML);
        assert_eq!(found[0].source, some("br0"));
        assert_eq!(found[0].model, some("virtio"));
        assert_eq!(found[1].target, None);
    }

    #[test]
    fn root_facts() {
        assert_eq!(domain_type(XML), some("kvm"));
        assert_eq!(domain_type("<network type='x'/>"), None);
        assert_eq!(domain_type("no xml"), None);
        assert_eq!(title(XML), "a & b");
        assert_eq!(
            text_of("<s><domain><name>x</name></domain><parent><name>p</name></parent></s>", &["parent", "name"]),
            "p"
        );
        assert_eq!(title("<domain><metadata><title>no</title></metadata></domain>"), "");
    }
}
