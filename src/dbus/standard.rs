//! The standard interfaces, as GDBus serves them for libvirt-dbus: Introspectable, Properties, Peer.
//!
//! libvirt-dbus's habits: `GetAll` leaves out each property whose getter fails (a missing domain gives an empty
//! dictionary) and wraps values twice; `PropertiesChanged` is never sent. On our own interfaces values are wrapped once, as
//! everywhere else, and changes are sent ([`super::managed`]).

use std::sync::Arc;

use zbus::{Message, OwnedVariant, Variant};

use super::call::Invocation;
use super::client::Client;
use super::codec::{PlainProperties, Properties};
use super::dispatch::{Work, check_signature};
use super::fault::Fault;
use super::introspect;
use super::managed::Object;
use super::path::{Kind, Node};
use super::table::{self, Lookup, Property};
use crate::engine::api::Caller;

pub const PEER: &str = "org.freedesktop.DBus.Peer";
pub const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
pub const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// `org.freedesktop.DBus.Peer`.
pub(super) fn peer(client: &Arc<Client>, message: &Message, member: &str) -> Work {
    let reply = match member {
        "Ping" => check_signature(message, "").and_then(|()| client.reply(message, &())),
        "GetMachineId" => check_signature(message, "").and_then(|()| match machine_id() {
            Some(id) => client.reply(message, &id),
            None => Err(Fault::new(
                "org.freedesktop.DBus.Error.Failed",
                "cannot read the machine's id from /etc/machine-id",
            )),
        }),
        other => Err(Fault::unknown_method(other)),
    };
    Work::Done(reply)
}

fn machine_id() -> Option<String> {
    let text = std::fs::read_to_string("/etc/machine-id").ok()?;
    Some(text.trim().to_string()).filter(|id| !id.is_empty())
}

/// `org.freedesktop.DBus.Introspectable`.
pub(super) fn introspect(
    client: &Arc<Client>,
    message: &Message,
    node: &Node<'_>,
    member: &str,
    caller: Arc<Caller>,
) -> Work {
    if member != "Introspect" {
        return Fault::unknown_method(member).into();
    }
    if let Err(fault) = check_signature(message, "") {
        return fault.into();
    }
    match *node {
        Node::Branch(ref children) => Work::Done(client.reply(message, &introspect::branch(children))),
        Node::Root(_) => Work::Done(client.reply(message, &introspect::object(Kind::Root))),
        Node::Object(_, kind, _) => Work::Done(client.reply(message, &introspect::object(kind))),
        Node::Daemon => Work::Done(client.reply(message, &introspect::object(Kind::Daemon))),
        Node::Subtree(root, kind) => {
            let (client, message) = (client.clone(), message.clone());
            Work::Read(Box::pin(async move {
                let children = introspect::children(&client, &caller, root, kind).await;
                client.reply(&message, &introspect::branch(&children))
            }))
        }
    }
}

/// `org.freedesktop.DBus.Properties` of an object of `kind`.
pub(super) fn properties(invocation: Invocation, kind: Kind, member: &str) -> Work {
    let expected = match member {
        "Get" => "ss",
        "GetAll" => "s",
        "Set" => "ssv",
        other => return Fault::unknown_method(other).into(),
    };
    if let Err(fault) = check_signature(&invocation.message, expected) {
        return fault.into();
    }
    let work = match expected {
        "ss" => get(invocation, kind),
        "s" => get_all(invocation, kind),
        _ => set(invocation, kind),
    };
    work.unwrap_or_else(Work::from)
}

/// The interface of a `Properties` call. An empty name means any interface, which the specification allows.
fn interface(kind: Kind, name: &str) -> Result<&'static Lookup, Fault> {
    let lookups = table::of(kind);
    let found = match name {
        "" => lookups.first(),
        name => lookups.iter().find(|lookup| lookup.interface.name == name),
    };
    found.ok_or_else(|| Fault::invalid_args(format!("No such interface “{name}”")))
}

fn property(kind: Kind, interface_name: &str, name: &str) -> Result<&'static Property, Fault> {
    let found = interface(kind, interface_name)?.property(name);
    found.ok_or_else(|| Fault::invalid_args(format!("No such property “{name}”")))
}

fn get(invocation: Invocation, kind: Kind) -> Result<Work, Fault> {
    let (interface, name): (String, String) = invocation.arguments()?;
    let property = property(kind, &interface, &name)?;
    if let Some(live) = property.live {
        return Ok(Work::Read(Box::pin(async move {
            let value = live(&Object::of(&invocation, kind).await?);
            invocation.reply(&value.ok_or_else(|| Fault::libvirt("the object has no such property"))?)
        })));
    }
    let Some(get) = property.get else { return Ok(unserved(&invocation, property.function)) };
    Ok(Work::Read(Box::pin(async move {
        let value = get(invocation.clone()).await?;
        invocation.reply(&value)
    })))
}

fn get_all(invocation: Invocation, kind: Kind) -> Result<Work, Fault> {
    let name: String = invocation.arguments()?;
    let interface = interface(kind, &name)?.interface;
    Ok(Work::Read(Box::pin(async move {
        let mut values = Vec::with_capacity(interface.properties.len());
        let announced = interface.properties.iter().any(|property| property.live.is_some());
        let object = if announced { Object::of(&invocation, kind).await.ok() } else { None };
        for property in interface.properties {
            if let (Some(live), Some(object)) = (property.live, &object) {
                values.extend(live(object).map(|value| (property.name, value)));
            }
            let Some(get) = property.get else { continue };
            if let Ok(value) = get(invocation.clone()).await {
                values.push((property.name, value));
            }
        }
        match interface.is_own() {
            true => invocation.reply(&(PlainProperties(&values),)),
            false => invocation.reply(&(Properties(values),)),
        }
    })))
}

fn set(invocation: Invocation, kind: Kind) -> Result<Work, Fault> {
    let (interface, name, value): (String, String, OwnedVariant) = invocation.arguments()?;
    let property = property(kind, &interface, &name)?;
    let Some(setter) = property.setter else {
        return Err(Fault::invalid_args(format!("Property “{name}” is not writable")));
    };
    let value = Variant::from(value);
    let given = value.value_signature().to_string();
    if given != property.signature {
        return Err(Fault::invalid_args(format!(
            "Error setting property “{name}”: Expected type “{}” but got “{given}”",
            property.signature
        )));
    }
    let Some(set) = property.set else { return Ok(unserved(&invocation, setter)) };
    Ok(Work::Write(Box::pin(async move {
        set(invocation.clone(), value).await?;
        invocation.reply(&())
    })))
}

/// What a row nobody serves yet answers: no driver, or a driver that does not have the function.
fn unserved(invocation: &Invocation, function: &'static str) -> Work {
    match invocation.connection() {
        Ok(_) => Fault::no_support(function).into(),
        Err(fault) => fault.into(),
    }
}
