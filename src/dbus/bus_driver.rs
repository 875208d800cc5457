//! The few calls of a message bus that ordinary clients make before anything else, answered on peer-to-peer connections.
//!
//! There is no bus: names are ours (`org.libvirt`, `:1.0`) or the client's own (`:1.N`), match rules are accepted and
//! change nothing, because every signal is sent to every peer, and no name can be owned by a client.

use std::collections::HashMap;
use std::sync::Arc;

use zbus::{Message, Variant};

use super::NAME;
use super::call::Reply;
use super::client::{Client, Link, OWN_UNIQUE_NAME};
use super::dispatch::check_signature;
use super::fault::Fault;

/// Name and interface of the bus itself.
pub const BUS: &str = "org.freedesktop.DBus";

const DOCUMENT: &str = r#"<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
                      "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
<node>
  <interface name="org.freedesktop.DBus">
    <method name="Hello"><arg type="s" direction="out"/></method>
    <method name="AddMatch"><arg type="s" direction="in"/></method>
    <method name="RemoveMatch"><arg type="s" direction="in"/></method>
    <method name="GetNameOwner"><arg type="s" direction="in"/><arg type="s" direction="out"/></method>
    <method name="NameHasOwner"><arg type="s" direction="in"/><arg type="b" direction="out"/></method>
    <method name="ListNames"><arg type="as" direction="out"/></method>
    <method name="ListActivatableNames"><arg type="as" direction="out"/></method>
    <method name="StartServiceByName">
      <arg type="s" direction="in"/><arg type="u" direction="in"/><arg type="u" direction="out"/>
    </method>
    <method name="GetId"><arg type="s" direction="out"/></method>
    <method name="GetConnectionUnixUser"><arg type="s" direction="in"/><arg type="u" direction="out"/></method>
    <method name="GetConnectionUnixProcessID"><arg type="s" direction="in"/><arg type="u" direction="out"/></method>
    <method name="GetConnectionCredentials"><arg type="s" direction="in"/><arg type="a{sv}" direction="out"/></method>
  </interface>
</node>
"#;

/// Whether a call is for the bus and not for us.
pub fn is_for_bus(destination: Option<&str>, interface: Option<&str>) -> bool {
    destination == Some(BUS) || (destination.is_none() && interface == Some(BUS))
}

/// Whether `name` is one of ours.
pub fn is_our_name(name: &str) -> bool {
    name == NAME || name == OWN_UNIQUE_NAME
}

/// Nobody has this name.
pub fn no_such_name(name: &str) -> Fault {
    Fault::new("org.freedesktop.DBus.Error.ServiceUnknown", format!("The name {name} is not owned by anybody here"))
}

enum Owner {
    Bus,
    Us,
    Client,
}

/// Answers a call to the bus.
pub fn answer(client: &Arc<Client>, call: &Message, interface: Option<&str>, member: &str) -> Reply {
    let Link::Peer { unique_name, uid, pid } = &client.link else { return Err(Fault::unknown_method(member)) };
    match interface {
        None | Some(BUS) => {}
        Some("org.freedesktop.DBus.Peer") if member == "Ping" => return reply(call, &()),
        Some("org.freedesktop.DBus.Introspectable") if member == "Introspect" => return reply(call, &DOCUMENT),
        Some(other) => return Err(Fault::unknown_interface(other, "/org/freedesktop/DBus")),
    }
    let name = || -> Result<String, Fault> {
        check_signature(call, "s")?;
        Ok(call.body().deserialize()?)
    };
    let owner = |name: &str| match name {
        BUS => Ok(Owner::Bus),
        name if is_our_name(name) => Ok(Owner::Us),
        name if name == unique_name => Ok(Owner::Client),
        name => Err(Fault::new(
            "org.freedesktop.DBus.Error.NameHasNoOwner",
            format!("Could not get owner of name '{name}': no such name"),
        )),
    };
    let user = |owner: &Owner| match owner {
        Owner::Bus | Owner::Us => nix::unistd::geteuid().as_raw(),
        Owner::Client => *uid,
    };
    let process = |owner: &Owner| match owner {
        Owner::Bus | Owner::Us => Some(std::process::id()),
        Owner::Client => pid.and_then(|pid| u32::try_from(pid).ok()),
    };
    match member {
        "Hello" => reply(call, unique_name),
        "AddMatch" | "RemoveMatch" => {
            name()?;
            reply(call, &())
        }
        "GetNameOwner" => {
            let name = name()?;
            match owner(&name)? {
                Owner::Bus => reply(call, &BUS),
                Owner::Us => reply(call, &OWN_UNIQUE_NAME),
                Owner::Client => reply(call, unique_name),
            }
        }
        "NameHasOwner" => reply(call, &owner(&name()?).is_ok()),
        "ListQueuedOwners" => {
            let name = name()?;
            owner(&name)?;
            reply(call, &vec![OWN_UNIQUE_NAME])
        }
        "ListNames" => reply(call, &vec![BUS, NAME, OWN_UNIQUE_NAME, unique_name]),
        "ListActivatableNames" => reply(call, &Vec::<&str>::new()),
        "StartServiceByName" => {
            check_signature(call, "su")?;
            let (name, _flags): (String, u32) = call.body().deserialize()?;
            match owner(&name) {
                // DBUS_START_REPLY_ALREADY_RUNNING
                Ok(_) => reply(call, &2u32),
                Err(_) => Err(no_such_name(&name)),
            }
        }
        "GetId" => reply(call, &client.server.options.guid),
        "GetConnectionUnixUser" => reply(call, &user(&owner(&name()?)?)),
        "GetConnectionUnixProcessID" => match process(&owner(&name()?)?) {
            Some(pid) => reply(call, &pid),
            None => Err(Fault::new("org.freedesktop.DBus.Error.UnixProcessIdUnknown", "the kernel did not tell")),
        },
        "GetConnectionCredentials" => {
            let owner = owner(&name()?)?;
            let mut credentials = HashMap::from([("UnixUserID", Variant::U32(user(&owner)))]);
            if let Some(pid) = process(&owner) {
                credentials.insert("ProcessID", Variant::U32(pid));
            }
            reply(call, &credentials)
        }
        "RequestName" | "ReleaseName" => {
            Err(Fault::access_denied("names cannot be owned on domusd's own socket: it is no message bus"))
        }
        other => Err(Fault::unknown_method(other)),
    }
}

fn reply<B: serde::Serialize + zbus::DynamicType>(call: &Message, body: &B) -> Reply {
    Ok(Message::method_return(&call.header()).sender(BUS).build(body)?)
}
