//! The procedures a connection begins and ends with: authentication, features, opening, callbacks.

#![allow(clippy::needless_pass_by_value, reason = "handlers have the signature of the table's rows")]

use std::sync::Arc;

use super::call::{Answer, BoxFuture, Invocation, Reply};
use super::client::Client;
use super::events::{Class, MonitorName, Only};
use super::frame::{Header, Kind, Status};
use super::table::REMOTE;
use super::wire::{DeviceHandle, DomainHandle, NamedHandle, SecretHandle};
use super::xdr::{Put, Take};
use crate::engine::Connection;
use crate::engine::access::Access;
use crate::engine::access::guard::Details;
use crate::engine::access::right::{MANAGE, MONITOR, Right};
use crate::engine::api::Caller;
use crate::engine::driver::DriverKind;
use crate::error::{Code, Error, Result, Subsystem};

/// `REMOTE_AUTH_NONE`.
const AUTH_NONE: i32 = 0;
/// `REMOTE_AUTH_POLKIT`, and what its answer says: there is no more to do.
const AUTH_POLKIT: i32 = 2;
const COMPLETE: i32 = 1;
/// Of the flags that come with the opening only this one means anything here, as to libvirtd: the others are the client's
/// notes to itself (2: a user's session, 4: it may start a daemon, which every ordinary user's client says).
const OPEN_READ_ONLY: u32 = 1;
/// `VIR_DRV_FEATURE_*` that are there: descriptors beside calls and answers (8), typed parameters with strings (9), keepalive (10), XML for another host (11),
/// several events of one kind (14), close callbacks (15), command and section of a network update in the order in which
/// they are declared (16). Migration is not.
const FEATURES: [i32; 7] = [8, 9, 10, 11, 14, 15, 16];
const FEATURE_KEEPALIVE: i32 = 10;
/// `REMOTE_PROC_CONNECT_EVENT_CONNECTION_CLOSED` and its reason `VIR_CONNECT_CLOSE_REASON_EOF`.
const CONNECTION_CLOSED: i32 = 362;
const REASON_EOF: i32 = 1;

fn ready(reply: Reply) -> BoxFuture<Reply> {
    Box::pin(std::future::ready(reply))
}

fn rpc(code: Code, text: impl Into<String>) -> Error {
    Error::new(code, text).with_subsystem(Subsystem::Rpc)
}

/// How to authenticate: not at all, the kernel said who it is; with polkit's leave; or why nothing helps.
pub fn auth_list(at: Invocation) -> BoxFuture<Reply> {
    ready(match &at.client.peer.entry.access {
        Access::Refused(why) => Err(Error::new(Code::AuthFailed, why.clone()).with_subsystem(Subsystem::Auth)),
        Access::Ask => Ok(Answer::value(&vec![AUTH_POLKIT])),
        Access::ReadWrite | Access::ReadOnly => {
            at.client.session().authenticate();
            Ok(Answer::value(&vec![AUTH_NONE]))
        }
    })
}

/// Asks polkit whether the client may look, or change things too; whoever sits before it may be asked for a password.
pub fn auth_polkit(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let peer = &at.client.peer;
        let guard = peer.entry.guard.as_ref().filter(|_| peer.entry.access == Access::Ask);
        let Some(guard) = guard.filter(|_| !at.client.session().authenticated()) else {
            let text = "the client asked for polkit where it was not offered";
            return Err(Error::new(Code::AuthFailed, text).with_subsystem(Subsystem::Rpc));
        };
        at.client.session().ask();
        let asked = guard.authenticate(if peer.caller.read_only { MONITOR } else { MANAGE }, true).await;
        at.client.session().asked();
        asked?;
        at.client.session().authenticate();
        Ok(Answer::value(&COMPLETE))
    })
}

/// Refuses unless the client has `right` on the connection. Error: code 88.
async fn demand(at: &Invocation, right: &'static Right) -> Result<(Connection, Arc<Caller>)> {
    let (connection, caller) = at.connection()?;
    if let Some(ask) = &caller.ask {
        ask.demand(&[right], &Details::new()).await?;
    }
    Ok((connection, caller))
}

/// Whether the daemon, or the driver, can do something that changes what clients send.
pub fn supports_feature(at: Invocation) -> BoxFuture<Reply> {
    ready(feature(&at))
}

fn feature(at: &Invocation) -> Reply {
    let feature: i32 = at.arguments()?;
    if feature == FEATURE_KEEPALIVE {
        at.client.start_keepalive();
    } else {
        at.connection()?;
    }
    Ok(Answer::value(&FEATURES.contains(&feature)))
}

/// Binds the connection to a driver.
pub fn open(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move { opened(&at).await })
}

async fn opened(at: &Invocation) -> Reply {
    let (name, flags): (Option<String>, u32) = at.arguments()?;
    if at.client.opened().is_some() {
        return Err(rpc(Code::InternalError, "connection already open"));
    }
    let name = name.unwrap_or_default();
    let (connection, uri) = driver(at, &name)?;
    let peer = &at.client.peer;
    let caller = Caller {
        read_only: peer.caller.read_only || flags & OPEN_READ_ONLY != 0,
        ask: peer.entry.ask(connection.kind().type_name(), false),
        ..peer.caller.clone()
    };
    if let Some(ask) = &caller.ask {
        ask.demand(&[Right::named("connect:getattr")], &Details::new()).await?;
    }
    let mut session = at.client.session();
    session.open = Some((connection, Arc::new(caller)));
    session.uri = uri;
    Ok(Answer::default())
}

/// The driver that a URI names, and the URI; no URI is the first driver there is.
fn driver(at: &Invocation, name: &str) -> Result<(Connection, String)> {
    let engine = &at.client.server.engine;
    let none = || Error::new(Code::NoConnect, name);
    if name.is_empty() {
        let kind = engine.kinds().into_iter().next().ok_or_else(none)?;
        let connection = engine.connection(kind).ok_or_else(none)?;
        return Ok((connection, format!("{}://{}", kind.scheme(), paths(kind)[0])));
    }
    let (scheme, rest) = name.split_once(':').ok_or_else(none)?;
    let kind = [DriverKind::Qemu, DriverKind::Lxc, DriverKind::Test];
    let kind = kind.into_iter().find(|kind| kind.scheme() == scheme).ok_or_else(none)?;
    let connection = engine.connection(kind).ok_or_else(none)?;
    let path = rest.strip_prefix("//").unwrap_or(rest).split('?').next().unwrap_or_default();
    if !paths(kind).contains(&path) {
        let text = format!("unexpected {} URI path '{path}', try {scheme}://{}", kind.type_name(), paths(kind)[0]);
        return Err(Error::internal(text).with_subsystem(kind.subsystem()));
    }
    Ok((connection, name.to_string()))
}

/// The paths of a driver's URIs; the first is the one to suggest.
fn paths(kind: DriverKind) -> &'static [&'static str] {
    match kind {
        DriverKind::Qemu => &["/system", "/session"],
        DriverKind::Lxc => &["/system", "/", ""],
        DriverKind::Test => &["/default"],
    }
}

/// Ends the connection, after the answer.
pub fn close(at: Invocation) -> BoxFuture<Reply> {
    at.client.session().open = None;
    ready(Ok(Answer { last: true, ..Answer::default() }))
}

/// The URI as it was opened.
pub fn get_uri(at: Invocation) -> BoxFuture<Reply> {
    let uri = at.client.session().uri.clone();
    ready(at.connection().map(|_| Answer::value(&uri)))
}

/// Asks for [`CONNECTION_CLOSED`].
pub fn register_close_callback(at: Invocation) -> BoxFuture<Reply> {
    ready(close_callback(&at, true))
}

/// No longer.
pub fn unregister_close_callback(at: Invocation) -> BoxFuture<Reply> {
    ready(close_callback(&at, false))
}

fn close_callback(at: &Invocation, on: bool) -> Reply {
    at.connection()?;
    let mut session = at.client.session();
    if session.close_callback == on {
        let text = if on { "A close callback is already registered" } else { "no close callback is registered" };
        return Err(rpc(Code::OperationInvalid, text));
    }
    session.close_callback = on;
    Ok(Answer::default())
}

/// Tells a client that asked for it that the daemon ends the connection.
pub(super) fn announce_close(client: &Client) {
    if !client.session().close_callback {
        return;
    }
    let header = Header {
        program: REMOTE,
        version: 1,
        procedure: CONNECTION_CLOSED,
        kind: Kind::Message,
        serial: 0,
        status: Status::Ok,
    };
    client.outbound_push(header.packet(|out| REASON_EOF.put(out)), Vec::new());
}

/// Registers for one kind of domain event.
pub fn register_event(at: Invocation) -> BoxFuture<Reply> {
    register(at, Class::Domain, |domain: DomainHandle| Only::Uuid(domain.uuid))
}

fn known_event(class: Class, event: i32) -> Result<()> {
    if class.known(event) {
        return Ok(());
    }
    let of = if class == Class::Domain { String::new() } else { format!("{} ", class.noun()) };
    Err(rpc(Code::InternalError, format!("unsupported {of}event ID {event}")))
}

/// Who is told of objects of a kind may also list them.
fn search(class: Class) -> &'static Right {
    Right::named(match class {
        Class::Domain => "connect:search_domains",
        Class::Network => "connect:search_networks",
        Class::StoragePool => "connect:search_storage_pools",
        Class::NodeDevice => "connect:search_node_devices",
        Class::Secret => "connect:search_secrets",
    })
}

/// Registers for an event: its number and perhaps the one object it is for; answers with the callback's id.
fn register<H: Take + Send + 'static>(at: Invocation, class: Class, only: fn(H) -> Only) -> BoxFuture<Reply> {
    Box::pin(async move {
        demand(&at, search(class)).await?;
        let (event, handle): (i32, Option<H>) = at.arguments()?;
        known_event(class, event)?;
        at.client.callbacks.check_room().map_err(|error| error.with_subsystem(Subsystem::Rpc))?;
        Ok(Answer::value(&at.client.callbacks.register(class, event, handle.map(only))))
    })
}

fn deregister(at: &Invocation, class: Class) -> BoxFuture<Reply> {
    let reply = at.connection().and_then(|_| at.arguments()).and_then(|id: i32| {
        let missing = || rpc(Code::InvalidArg, format!("{} event callback {id} not registered", class.noun()));
        at.client.callbacks.deregister(class, id).then(Answer::default).ok_or_else(missing)
    });
    ready(reply)
}

/// Ends a registration.
pub fn deregister_event(at: Invocation) -> BoxFuture<Reply> {
    deregister(&at, Class::Domain)
}

/// Registers for one kind of event of networks.
pub fn register_network_event(at: Invocation) -> BoxFuture<Reply> {
    register(at, Class::Network, |network: NamedHandle| Only::Uuid(network.uuid))
}

/// Ends a registration.
pub fn deregister_network_event(at: Invocation) -> BoxFuture<Reply> {
    deregister(&at, Class::Network)
}

/// Registers for one kind of event of storage pools.
pub fn register_pool_event(at: Invocation) -> BoxFuture<Reply> {
    register(at, Class::StoragePool, |pool: NamedHandle| Only::Uuid(pool.uuid))
}

/// Ends a registration.
pub fn deregister_pool_event(at: Invocation) -> BoxFuture<Reply> {
    deregister(&at, Class::StoragePool)
}

/// Registers for one kind of event of node devices.
pub fn register_node_device_event(at: Invocation) -> BoxFuture<Reply> {
    register(at, Class::NodeDevice, |device: DeviceHandle| Only::Name(device.name))
}

/// Ends a registration.
pub fn deregister_node_device_event(at: Invocation) -> BoxFuture<Reply> {
    deregister(&at, Class::NodeDevice)
}

/// Registers for one kind of event of secrets.
pub fn register_secret_event(at: Invocation) -> BoxFuture<Reply> {
    register(at, Class::Secret, |secret: SecretHandle| Only::Uuid(secret.uuid))
}

/// Ends a registration.
pub fn deregister_secret_event(at: Invocation) -> BoxFuture<Reply> {
    deregister(&at, Class::Secret)
}

/// `VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX`, `_NOCASE`.
const MONITOR_REGEX: u32 = 1;
const MONITOR_NOCASE: u32 = 2;

/// Registers for what QEMU itself says.
pub fn register_monitor_event(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move { monitor_event(&at).await })
}

async fn monitor_event(at: &Invocation) -> Reply {
    let (connection, caller) = demand(at, search(Class::Domain)).await?;
    demand(at, Right::named("connect:write")).await?;
    const FUNCTION: &str = "virConnectDomainQemuMonitorEventRegister";
    if caller.read_only {
        return Err(Error::new(Code::OperationDenied, format!("read only access prevents {FUNCTION}")));
    }
    if connection.kind() != DriverKind::Qemu {
        return Err(Error::no_support(FUNCTION).with_subsystem(connection.kind().subsystem()));
    }
    let (domain, name, flags): (Option<DomainHandle>, Option<String>, u32) = at.arguments()?;
    at.client.callbacks.check_room().map_err(|error| error.with_subsystem(Subsystem::Rpc))?;
    crate::types::flags::check(flags, MONITOR_REGEX | MONITOR_NOCASE, "virDomainQemuMonitorEventStateRegisterID")?;
    let folded = flags & MONITOR_NOCASE != 0;
    let name = name.map(|name| match flags & MONITOR_REGEX != 0 {
        true => MonitorName::pattern(&name, folded),
        false if folded => Ok(MonitorName::Folded(name)),
        false => Ok(MonitorName::Exact(name)),
    });
    let name = name.transpose()?;
    let only = domain.map(|domain| domain.uuid);
    Ok(Answer::value(&at.client.callbacks.register_monitor(only, name)))
}

/// Ends such a registration.
pub fn deregister_monitor_event(at: Invocation) -> BoxFuture<Reply> {
    let reply = at.connection().and_then(|_| at.arguments()).and_then(|id: i32| {
        let missing = || rpc(Code::InvalidArg, format!("monitor event callback {id} not registered"));
        at.client.callbacks.deregister_monitor(id).then(Answer::default).ok_or_else(missing)
    });
    ready(reply)
}

/// Registers the old way, one event per kind and connection.
pub fn register_legacy_event(at: Invocation) -> BoxFuture<Reply> {
    legacy(at, None, true, None)
}

/// Ends it.
pub fn deregister_legacy_event(at: Invocation) -> BoxFuture<Reply> {
    legacy(at, None, false, None)
}

/// The oldest way: life cycle events, and the answer says how many registrations there are.
pub fn register_lifecycle(at: Invocation) -> BoxFuture<Reply> {
    legacy(at, Some(0), true, Some(1))
}

/// Ends it.
pub fn deregister_lifecycle(at: Invocation) -> BoxFuture<Reply> {
    legacy(at, Some(0), false, Some(0))
}

/// Without an `event`, the argument says which; `count` is what is answered.
fn legacy(at: Invocation, event: Option<i32>, on: bool, count: Option<i32>) -> BoxFuture<Reply> {
    Box::pin(async move {
        demand(&at, search(Class::Domain)).await?;
        let event = event.map_or_else(|| at.arguments(), Ok)?;
        known_event(Class::Domain, event)?;
        let callbacks = &at.client.callbacks;
        let done = if on { callbacks.register_legacy(event) } else { callbacks.deregister_legacy(event) };
        let text = if on { "event callback already tracked" } else { "event callback is not registered" };
        let answer = count.map_or_else(Answer::default, |count| Answer::value(&count));
        done.then_some(answer).ok_or_else(|| rpc(Code::InvalidArg, text))
    })
}
