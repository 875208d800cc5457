//! Routing: path, interface and member of a call to a row of the tables, and the refusals in between.

use super::bus_driver;
use super::call::{BoxFuture, Invocation, Reply};
use super::client::{Client, Link};
use super::fault::Fault;
use super::managed;
use super::path::{self, Kind, Node};
use super::standard;
use super::table::{self, Compiled};
use crate::engine::access::Access;
use crate::engine::access::guard::MAX_CALLS;
use crate::engine::api::{Caller, Class};
use crate::engine::driver::DriverKind;
use std::sync::Arc;
use zbus::Message;
use zbus::message::Flags;

/// How a call is answered.
pub(super) enum Work {
    /// The answer is there.
    Done(Reply),
    /// May be polled in the reader: reads answer from memory.
    Read(BoxFuture<Reply>),
    /// Runs in a task of its own.
    Write(BoxFuture<Reply>),
}

impl From<Fault> for Work {
    fn from(fault: Fault) -> Work {
        Work::Done(Err(fault))
    }
}

/// Decides how `message`, a method call, is answered.
pub(super) fn route(client: &Arc<Client>, message: &Message) -> Work {
    if let Access::Refused(why) = &client.entry.access {
        return Fault::access_denied(why.clone()).into();
    }
    let header = message.header();
    let Some(member) = header.member() else { return incomplete().into() };
    let interface = header.interface().map(|interface| interface.as_str());
    if let Link::Peer { .. } = client.link {
        let destination = header.destination().map(|name| name.as_str());
        if bus_driver::is_for_bus(destination, interface) {
            return Work::Done(bus_driver::answer(client, message, interface, member.as_str()));
        }
        if let Some(name) = destination.filter(|name| !bus_driver::is_our_name(name)) {
            return bus_driver::no_such_name(name).into();
        }
    }
    // Peer is answered on every path, existing or not, as GDBus does.
    if interface == Some(standard::PEER) {
        return standard::peer(client, message, member.as_str());
    }
    match client.asks() {
        false => routed(client, message, client.caller(message)),
        true => {
            let (client, message, caller) = (client.clone(), message.clone(), client.caller(message));
            Work::Read(Box::pin(async move { admitted(&client, &message, &caller).await }))
        }
    }
}

fn incomplete() -> Fault {
    Fault::invalid_args("a method call needs a path and a member")
}

/// Answers a call whose caller has to be asked about first.
async fn admitted(client: &Arc<Client>, message: &Message, caller: &Caller) -> Reply {
    let entry = client.entry_of(message).await?;
    let full = || Fault::limits(format!("more than {MAX_CALLS} calls in flight of one caller"));
    let _place = entry.guard.as_ref().map(|guard| guard.place().ok_or_else(full)).transpose()?;
    let interactive = message.primary_header().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
    let admitted_as =
        |read_only: bool| Arc::new(Caller { read_only, ask: entry.ask("", interactive), ..caller.clone() });
    // Nothing runs before it is polled: this only says what kind of call it is.
    let class = match routed(client, message, admitted_as(true)) {
        Work::Done(reply) => return reply,
        Work::Read(_) => Class::Read,
        Work::Write(_) => Class::Write,
    };
    let read_only = match (&entry.access, &entry.guard) {
        (Access::ReadWrite, _) => false,
        (Access::ReadOnly, _) => true,
        (Access::Ask, Some(guard)) => guard.admit(class, interactive).await?,
        (Access::Refused(why), _) => return Err(Fault::access_denied(why.clone())),
        (Access::Ask, None) => return Err(Fault::access_denied("there is nobody to ask")),
    };
    match routed(client, message, admitted_as(read_only)) {
        Work::Done(reply) => reply,
        Work::Read(work) | Work::Write(work) => work.await,
    }
}

/// What `caller` gets for a call on an object.
fn routed(client: &Arc<Client>, message: &Message, caller: Arc<Caller>) -> Work {
    let header = message.header();
    let (Some(path), Some(member)) = (header.path(), header.member()) else { return incomplete().into() };
    let interface = header.interface().map(|interface| interface.as_str());
    let Some(node) = path::parse(path.as_str(), client.scope) else {
        return Fault::unknown_object(path.as_str()).into();
    };
    let caller = match node.root().and_then(|root| root.driver) {
        Some(driver) => below(caller, driver),
        None => caller,
    };
    if interface == Some(standard::INTROSPECTABLE) || (interface.is_none() && member.as_str() == "Introspect") {
        return standard::introspect(client, message, &node, member.as_str(), caller);
    }
    let (kind, root, key) = match node {
        Node::Branch(_) | Node::Subtree(..) => {
            return match interface {
                Some(interface) => Fault::unknown_interface(interface, path.as_str()).into(),
                None => Fault::unknown_method(member.as_str()).into(),
            };
        }
        Node::Root(root) => (Kind::Root, Some(root), None),
        Node::Object(root, kind, key) => (kind, Some(root), Some(key)),
        Node::Daemon => (Kind::Daemon, None, None),
    };
    if let Some(driver) = root.and_then(|root| root.driver) {
        client.note_call(driver);
    }
    let invocation = Invocation {
        client: client.clone(),
        message: message.clone(),
        caller,
        root,
        uuid: key.and_then(path::parse_uuid),
        text: key.and_then(path::decode),
        snapshot: key.filter(|_| kind == Kind::DomainSnapshot).and_then(path::parse_snapshot),
    };
    if kind == Kind::Root && interface == Some(managed::OBJECT_MANAGER) {
        return managed::call(invocation, member.as_str());
    }
    if interface == Some(standard::PROPERTIES) {
        return standard::properties(invocation, kind, member.as_str());
    }
    let lookups = table::of(kind);
    let method = match interface {
        Some(interface) => match lookups.iter().find(|lookup| lookup.interface.name == interface) {
            Some(lookup) => lookup.method(member.as_str()),
            None => return Fault::unknown_interface(interface, path.as_str()).into(),
        },
        None => lookups.iter().find_map(|lookup| lookup.method(member.as_str())),
    };
    match method {
        Some(method) => call(invocation, method),
        None => Fault::unknown_method(member.as_str()).into(),
    }
}

/// The caller as one of a driver: rules may tell drivers apart.
fn below(mut caller: Arc<Caller>, driver: DriverKind) -> Arc<Caller> {
    if caller.ask.is_some()
        && let Some(ask) = &mut Arc::make_mut(&mut caller).ask
    {
        ask.driver = driver.type_name();
    }
    caller
}

fn call(invocation: Invocation, method: &Compiled) -> Work {
    if let Err(fault) = check_signature(&invocation.message, &method.signature) {
        return fault.into();
    }
    match (method.row.run, method.row.class) {
        (Some(run), Class::Read) => Work::Read(run(invocation)),
        (Some(run), Class::Write) => Work::Write(run(invocation)),
        // A root without a driver says so, before what the driver would say.
        (None, _) => match invocation.connection() {
            Ok(_) => Fault::no_support(method.row.function).into(),
            Err(fault) => fault.into(),
        },
    }
}

/// Refuses in arguments of another type than `expected`, with GDBus's text.
pub(super) fn check_signature(message: &Message, expected: &str) -> Result<(), Fault> {
    let header = message.header();
    let given = header.signature();
    if *given == expected { Ok(()) } else { Err(Fault::wrong_signature(&given.to_string_no_parens(), expected)) }
}
