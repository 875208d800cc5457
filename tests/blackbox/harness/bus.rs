//! A D-Bus client that does not know the daemon's code: plain method calls and signals.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use zbus::message::{Flags, Type};
use zbus::zvariant::{DynamicType, Type as Signature};
use zbus::{Connection, Message, MessageStream, OwnedObjectPath, OwnedVariant};

pub const QEMU: &str = "/org/libvirt/QEMU";
pub const TEST: &str = "/org/libvirt/Test";
pub const LXC: &str = "/org/libvirt/LXC";
pub const CONNECT: &str = "org.libvirt.Connect";
pub const DOMAIN: &str = "org.libvirt.Domain";
pub const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";
pub const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A connection, and the runtime that drives it.
pub struct Bus {
    runtime: tokio::runtime::Runtime,
    connection: Connection,
    /// `org.libvirt` on a bus; nobody on a peer-to-peer connection.
    destination: Option<&'static str>,
}

/// What a failed call said.
#[derive(Debug)]
pub struct Refused {
    pub name: String,
    pub message: String,
}

impl Bus {
    /// To the daemon's own socket, without a bus daemon.
    pub fn peer(socket: &Path) -> Bus {
        let address = format!("unix:path={}", socket.display());
        let runtime = runtime();
        let connection = runtime
            .block_on(async { zbus::connection::Builder::address(address.as_str()).p2p().build().await })
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        Bus { runtime, connection, destination: None }
    }

    /// To the daemon through a bus daemon.
    pub fn over(address: &str) -> Bus {
        let runtime = runtime();
        let connection = runtime
            .block_on(async { zbus::connection::Builder::address(address).build().await })
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        Bus { runtime, connection, destination: Some("org.libvirt") }
    }

    /// Calls a method; the reply, or what the other side refused with.
    pub fn try_call<B>(&self, path: &str, interface: &str, member: &str, body: &B) -> Result<Message, Refused>
    where
        B: serde::Serialize + DynamicType,
    {
        let call = self.connection.call_method(self.destination, path, Some(interface), member, body);
        let reply = self.runtime.block_on(async { tokio::time::timeout(super::DEADLINE, call).await });
        match reply.unwrap_or_else(|_| panic!("{interface}.{member} on {path}: no reply")) {
            Ok(message) => Ok(message),
            Err(zbus::Error::MethodError(name, message, _)) => {
                Err(Refused { name: name.to_string(), message: message.unwrap_or_default() })
            }
            // The library has types of its own for the bus's standard errors.
            Err(zbus::Error::FDO(error)) => Err(Refused {
                name: zbus::DBusError::name(&*error).to_string(),
                message: zbus::DBusError::description(&*error).unwrap_or_default().to_string(),
            }),
            // A daemon that dies in the middle of a call.
            Err(error @ zbus::Error::InputOutput(_)) => {
                Err(Refused { name: "connection lost".into(), message: error.to_string() })
            }
            Err(error) => panic!("{interface}.{member} on {path}: {error}"),
        }
    }

    /// Calls a method, with leave to ask a person for a password.
    pub fn call_interactively<B>(&self, path: &str, interface: &str, member: &str, body: &B) -> Result<(), Refused>
    where
        B: serde::Serialize + DynamicType,
    {
        let mut builder = Message::method_call(path, member).interface(interface);
        if let Some(destination) = self.destination {
            builder = builder.destination(destination);
        }
        let call = builder.with_flags(Flags::ALLOW_INTERACTIVE_AUTH).build(body).unwrap();
        let answered = async {
            let mut stream = MessageStream::from(&self.connection);
            self.connection.send(&call).await.unwrap();
            loop {
                let message = stream.next().await.expect("an answer").unwrap();
                if message.header().reply_serial() == Some(call.primary_header().serial_num()) {
                    return message;
                }
            }
        };
        let answer = self.runtime.block_on(async { tokio::time::timeout(super::DEADLINE, answered).await });
        let answer = answer.unwrap_or_else(|_| panic!("{interface}.{member} on {path}: no reply"));
        match answer.header().error_name() {
            None => Ok(()),
            Some(name) => Err(Refused {
                name: name.to_string(),
                message: answer.body().deserialize::<String>().unwrap_or_default(),
            }),
        }
    }

    /// Sends a call and does not wait for the reply.
    pub fn begin<B>(&self, path: &str, interface: &str, member: &str, body: &B)
    where
        B: serde::Serialize + DynamicType,
    {
        let mut builder = Message::method_call(path, member).interface(interface);
        if let Some(destination) = self.destination {
            builder = builder.destination(destination);
        }
        let call = builder.build(body).unwrap();
        self.runtime.block_on(self.connection.send(&call)).unwrap();
    }

    /// Calls a method that must succeed and gives the decoded reply.
    pub fn call<B, R>(&self, path: &str, interface: &str, member: &str, body: &B) -> R
    where
        B: serde::Serialize + DynamicType,
        R: serde::de::DeserializeOwned + Signature,
    {
        let reply = self
            .try_call(path, interface, member, body)
            .unwrap_or_else(|refused| panic!("{interface}.{member} on {path}: {refused:?}"));
        reply.body().deserialize().unwrap_or_else(|error| panic!("{interface}.{member}: {error}: {reply:?}"))
    }

    /// Calls a method that must be refused.
    pub fn refused<B>(&self, path: &str, interface: &str, member: &str, body: &B) -> Refused
    where
        B: serde::Serialize + DynamicType,
    {
        match self.try_call(path, interface, member, body) {
            Ok(reply) => panic!("{interface}.{member} on {path} succeeded: {reply:?}"),
            Err(refused) => refused,
        }
    }

    pub fn define(&self, root: &str, xml: &str) -> String {
        let path: OwnedObjectPath = self.call(root, CONNECT, "DomainDefineXML", &(xml,));
        path.to_string()
    }

    pub fn lookup(&self, root: &str, name: &str) -> String {
        let path: OwnedObjectPath = self.call(root, CONNECT, "DomainLookupByName", &(name,));
        path.to_string()
    }

    /// State and reason.
    pub fn state(&self, domain: &str) -> (i32, i32) {
        let (pair,): ((i32, i32),) = self.call(domain, DOMAIN, "GetState", &(0u32,));
        pair
    }

    pub fn property(&self, path: &str, interface: &str, name: &str) -> OwnedVariant {
        self.call(path, PROPERTIES, "Get", &(interface, name))
    }

    pub fn introspect(&self, path: &str) -> String {
        self.call(path, "org.freedesktop.DBus.Introspectable", "Introspect", &())
    }

    /// Starts collecting signals: everything the daemon sends from now on.
    pub fn listen(&self) -> Signals<'_> {
        if self.destination.is_some() {
            let rule = "type='signal',sender='org.libvirt'";
            let _: () = self.on_bus("AddMatch", rule);
        }
        let stream = self.runtime.block_on(async { MessageStream::from(&self.connection) });
        Signals { bus: self, stream, standard: false }
    }

    fn on_bus<R: serde::de::DeserializeOwned + Signature>(&self, member: &str, argument: &str) -> R {
        let interface = "org.freedesktop.DBus";
        let body = (argument,);
        let call =
            self.connection.call_method(Some(interface), "/org/freedesktop/DBus", Some(interface), member, &body);
        self.runtime.block_on(call).unwrap().body().deserialize().unwrap()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Signals in the order they came.
pub struct Signals<'a> {
    bus: &'a Bus,
    stream: MessageStream,
    standard: bool,
}

impl Signals<'_> {
    /// Those of `PropertiesChanged` and of the object managers as well.
    pub fn with_standard(mut self) -> Self {
        self.standard = true;
        self
    }

    /// The next signal within `limit`: path, member, message.
    pub fn next(&mut self, limit: Duration) -> Option<(String, String, Message)> {
        let end = std::time::Instant::now() + limit;
        loop {
            let left = end.checked_duration_since(std::time::Instant::now())?;
            let next = self.bus.runtime.block_on(async { tokio::time::timeout(left, self.stream.next()).await });
            let message = match next {
                Err(_) | Ok(None) => return None,
                Ok(Some(message)) => message.unwrap(),
            };
            if message.message_type() != Type::Signal {
                continue;
            }
            let header = message.header();
            let interface = header.interface().map(ToString::to_string).unwrap_or_default();
            let standard = self.standard && (interface == PROPERTIES || interface == OBJECT_MANAGER);
            if !standard && !interface.starts_with("org.libvirt") && !interface.starts_with("org.domus") {
                continue;
            }
            let path = header.path().unwrap().to_string();
            let member = header.member().unwrap().to_string();
            return Some((path, member, message));
        }
    }

    /// The next `count` domain events as (event, detail).
    pub fn domain_events(&mut self, count: usize, limit: Duration) -> Vec<(i32, i32)> {
        let mut found = Vec::new();
        while found.len() < count {
            let Some((_, member, message)) = self.next(limit) else { break };
            if member == "DomainEvent" {
                let (_, event, detail): (OwnedObjectPath, i32, i32) = message.body().deserialize().unwrap();
                found.push((event, detail));
            }
        }
        found
    }
}
