//! `<filter>`, read and written.

use super::protocols::{self, CHAINS, Protocol};
use super::{Action, Condition, Direction, Entry, FilterDef, Packets, Reference, Rule};
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::Uuid;
use crate::xml::{Document, Node, Writer};

const WHAT: &str = "nwfilter_definition";
/// Of rules that say none.
const PRIORITY: i32 = 500;
const PRIORITIES: std::ops::RangeInclusive<i32> = -1000..=1000;

pub(super) fn parse(xml: &str) -> Result<FilterDef> {
    read(&Document::parse(xml, WHAT).map_err(ours)?)
}

pub(super) fn validate(xml: &str) -> Result<()> {
    let document = Document::parse(xml, WHAT).map_err(ours)?;
    read(&document)?;
    document.refuse_unknown()
}

fn ours(error: Error) -> Error {
    error.or_subsystem(Subsystem::Nwfilter)
}

fn read(document: &Document<'_>) -> Result<FilterDef> {
    let root = document.root();
    if root.name() != "filter" {
        let what = format!("expecting root element of 'filter', not '{}'", root.name());
        return Err(ours(root.error(Code::XmlError, what)));
    }
    filter(root).map_err(ours)
}

fn filter(root: Node<'_>) -> Result<FilterDef> {
    let name = root.attr("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| root.error(Code::InternalError, "filter has no name"))?.to_string();
    let priority: Option<i32> = root.attr_value("priority")?;
    if let Some(priority) = priority.filter(|priority| !PRIORITIES.contains(priority)) {
        let what = format!("Priority '{priority}' is outside valid range of [-1000,1000]");
        return Err(root.attr_error("priority", Code::InvalidArg, what));
    }
    let chain = root.attr("chain").unwrap_or("root").to_string();
    let is_known = |prefix: &&str| chain.starts_with(*prefix) && (**prefix != *"root" || chain == "root");
    let clean = chain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if !clean {
        return Err(root.attr_error("chain", Code::InvalidArg, "Chain name contains invalid characters"));
    }
    if !CHAINS.iter().any(is_known) {
        let what = format!(
            "Invalid chain name '{chain}'. Please use a chain name called 'root' or any of the following prefixes: {}",
            CHAINS[1..].join(", ")
        );
        return Err(root.attr_error("chain", Code::InvalidArg, what));
    }
    let uuid = match root.child("uuid") {
        Some(node) => Some(
            Uuid::try_parse(node.text().trim())
                .map_err(|_| node.error(Code::XmlError, format!("malformed uuid element: '{}'", node.text())))?,
        ),
        None => None,
    };
    let mut entries = Vec::new();
    // In their order: the names have been asked for.
    root.note(false, "filterref");
    root.note(false, "rule");
    for child in root.all_children() {
        match child.name() {
            "filterref" => {
                child.mark_used();
                entries.push(Entry::Reference(reference(child)?));
            }
            "rule" => {
                child.mark_used();
                entries.push(Entry::Rule(rule(child)?));
            }
            _ => {}
        }
    }
    Ok(FilterDef { name, chain, priority, uuid, entries })
}

fn reference(node: Node<'_>) -> Result<Reference> {
    let filter = node.attr("filter").filter(|name| !name.is_empty());
    let filter = filter.ok_or_else(|| node.error(Code::InternalError, "rule node requires action attribute"))?;
    let mut parameters = Vec::new();
    for parameter in node.children("parameter") {
        let (Some(name), Some(value)) = (parameter.attr("name"), parameter.attr("value")) else { continue };
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let is_value = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:,-/[] {}()\"'+".contains(&byte);
        if is_name && !value.is_empty() && value.bytes().all(is_value) {
            parameters.push((name.to_string(), value.to_string()));
        }
    }
    parameters.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Reference { filter: filter.to_string(), parameters })
}

fn rule(node: Node<'_>) -> Result<Rule> {
    let required = |name: &'static str| {
        node.attr(name).ok_or_else(|| node.error(Code::InternalError, format!("rule node requires {name} attribute")))
    };
    let action: Action = required("action")?
        .parse()
        .map_err(|_| node.attr_error("action", Code::InternalError, "unknown rule action attribute value"))?;
    let direction: Direction = required("direction")?
        .parse()
        .map_err(|_| node.attr_error("direction", Code::InternalError, "unknown rule direction attribute value"))?;
    // One out of range counts as none.
    let priority = node.attr("priority").and_then(|text| text.parse().ok());
    let priority = priority.filter(|priority| PRIORITIES.contains(priority)).unwrap_or(PRIORITY);
    let statematch = !matches!(node.attr("statematch"), Some("0" | "false"));
    let mut packets: Option<Packets> = None;
    for child in node.all_children() {
        let known = protocols::find(child.name());
        let protocol = match (&packets, known) {
            (None, Some(protocol)) => protocol,
            // One rule is about one protocol: the first.
            (Some(first), Some(protocol)) if first.protocol == protocol.name => protocol,
            _ => continue,
        };
        child.mark_used();
        let packets = packets.get_or_insert(Packets { protocol: protocol.name, conditions: Vec::new() });
        conditions(child, protocol, &mut packets.conditions)?;
    }
    if let Some(packets) = &mut packets {
        settle(packets);
    }
    Ok(Rule { action, direction, priority, statematch, packets })
}

/// Reads the attributes of one element; what an earlier one of the rule said is replaced.
fn conditions(node: Node<'_>, protocol: &Protocol, into: &mut Vec<Condition>) -> Result<()> {
    let negated = node.attr("match") == Some("no");
    for (name, form, _) in protocol.attributes() {
        let Some(text) = node.attr(name) else { continue };
        let value = form
            .read(text)
            .ok_or_else(|| node.attr_error(name, Code::InternalError, format!("{name} has illegal value {text}")))?;
        into.retain(|condition| condition.name != *name);
        into.push(Condition { name, value, negated });
    }
    Ok(())
}

/// Brings conditions into order; what says one thing together with another is negated with it.
fn settle(packets: &mut Packets) {
    let Some(protocol) = protocols::find(packets.protocol) else { return };
    let place = |name: &str| protocol.attributes().position(|(known, ..)| *known == name);
    packets.conditions.sort_by_key(|condition| place(condition.name));
    let negated: Vec<(&str, bool)> = packets.conditions.iter().map(|found| (found.name, found.negated)).collect();
    for condition in &mut packets.conditions {
        let with = protocol.attributes().find(|(name, ..)| *name == condition.name).and_then(|(.., with)| *with);
        if let Some((_, is)) = negated.iter().find(|(name, _)| Some(*name) == with) {
            condition.negated = *is;
        }
    }
}

pub(super) fn write(def: &FilterDef) -> String {
    let mut w = Writer::new();
    w.start("filter");
    w.attr("name", &def.name);
    w.attr("chain", &def.chain);
    w.attr_opt("priority", def.priority.filter(|priority| *priority != 0));
    w.text_opt("uuid", def.uuid);
    for entry in &def.entries {
        match entry {
            Entry::Reference(reference) => w.element("filterref", |w| {
                w.attr("filter", &reference.filter);
                for (name, value) in &reference.parameters {
                    w.element("parameter", |w| {
                        w.attr("name", name);
                        w.attr("value", value);
                    });
                }
            }),
            Entry::Rule(rule) => write_rule(&mut w, rule),
        }
    }
    w.end();
    w.finish()
}

fn write_rule(w: &mut Writer, rule: &Rule) {
    w.element("rule", |w| {
        w.attr("action", rule.action);
        w.attr("direction", rule.direction);
        w.attr("priority", rule.priority);
        if !rule.statematch {
            w.attr("statematch", "false");
        }
        let Some(packets) = &rule.packets else { return };
        let side = |negated: bool| packets.conditions.iter().filter(move |condition| condition.negated == negated);
        for negated in [false, true] {
            if side(negated).next().is_none() && (negated || side(true).next().is_some()) {
                continue;
            }
            w.element(packets.protocol, |w| {
                if negated {
                    w.attr("match", "no");
                }
                side(negated).for_each(|condition| w.attr(condition.name, &condition.value));
            });
        }
    });
}
