//! One method call on its way through a codec: who called what on which object, and the glue between a table row and
//! the engine.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use zbus::wire::DynamicDeserialize;
use zbus::{DynamicType, Message, Variant};

use super::client::Client;
use super::fault::Fault;
use super::path::Root;
use crate::engine::api::{self, Call, Caller};
use crate::engine::{Connection, Domain};
use crate::types::Uuid;

/// A future that can be polled here or moved to a task.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a call ends with.
pub type Reply = Result<Message, Fault>;

/// A call that was routed to an object.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub client: Arc<Client>,
    pub message: Message,
    pub caller: Arc<Caller>,
    /// The driver root the object is below.
    pub root: Option<&'static Root>,
    /// The key of an object that is named by a UUID; `None` also when it is malformed.
    pub uuid: Option<Uuid>,
}

impl Invocation {
    /// The driver behind the root.
    pub fn connection(&self) -> Result<Connection, Fault> {
        let Some(root) = self.root else { return Err(Fault::no_driver("/")) };
        let connection = root.driver.and_then(|driver| self.client.server.engine.connection(driver));
        connection.ok_or_else(|| Fault::no_driver(root.uri(self.client.scope).unwrap_or(root.name)))
    }

    /// The domain the path names.
    pub fn domain(&self) -> Result<Domain, Fault> {
        let connection = self.connection()?;
        let uuid = self.uuid.ok_or_else(|| Fault::libvirt("Invalid UUID"))?;
        Ok(connection.domain(&uuid)?)
    }

    /// The successful reply with `body`.
    pub fn reply<B: Serialize + DynamicType>(&self, body: &B) -> Reply {
        self.client.reply(&self.message, body)
    }

    /// The in arguments, whose signature was checked against the row.
    pub fn arguments<I>(&self) -> Result<I, Fault>
    where
        I: for<'d> DynamicDeserialize<'d>,
    {
        Ok(self.message.body().deserialize()?)
    }
}

/// Runs an engine call on the driver: decode, dispatch, encode.
pub fn on_connection<C, I, O>(
    invocation: Invocation,
    decode: fn(I) -> Result<C::Args, Fault>,
    encode: fn(&Invocation, C::Ret) -> O,
) -> BoxFuture<Reply>
where
    C: Call<On = Connection>,
    I: for<'d> DynamicDeserialize<'d> + Send + 'static,
    O: Serialize + DynamicType + 'static,
{
    Box::pin(async move {
        let connection = invocation.connection()?;
        let arguments = decode(invocation.arguments()?)?;
        let result = api::dispatch::<C>(&invocation.caller, &connection, arguments).await?;
        invocation.reply(&encode(&invocation, result))
    })
}

/// Runs an engine call on a domain: decode, dispatch, encode.
pub fn on_domain<C, I, O>(
    invocation: Invocation,
    decode: fn(I) -> Result<C::Args, Fault>,
    encode: fn(&Invocation, C::Ret) -> O,
) -> BoxFuture<Reply>
where
    C: Call<On = Domain>,
    I: for<'d> DynamicDeserialize<'d> + Send + 'static,
    O: Serialize + DynamicType + 'static,
{
    Box::pin(async move {
        let domain = invocation.domain()?;
        let arguments = decode(invocation.arguments()?)?;
        let result = api::dispatch::<C>(&invocation.caller, &domain, arguments).await?;
        invocation.reply(&encode(&invocation, result))
    })
}

/// Reads a property of the driver through an engine call.
pub fn connection_property<C, V>(
    invocation: Invocation,
    arguments: fn() -> C::Args,
    encode: fn(C::Ret) -> V,
) -> BoxFuture<Result<Variant<'static>, Fault>>
where
    C: Call<On = Connection>,
    V: Into<Variant<'static>> + 'static,
{
    Box::pin(async move {
        let connection = invocation.connection()?;
        Ok(encode(api::dispatch::<C>(&invocation.caller, &connection, arguments()).await?).into())
    })
}

/// Reads a property of a domain through an engine call.
pub fn domain_property<C, V>(
    invocation: Invocation,
    arguments: fn() -> C::Args,
    encode: fn(C::Ret) -> V,
) -> BoxFuture<Result<Variant<'static>, Fault>>
where
    C: Call<On = Domain>,
    V: Into<Variant<'static>> + 'static,
{
    Box::pin(async move {
        let domain = invocation.domain()?;
        Ok(encode(api::dispatch::<C>(&invocation.caller, &domain, arguments()).await?).into())
    })
}

/// Reads a property of a domain from the object itself.
pub fn domain_fact<V>(invocation: Invocation, read: fn(&Domain) -> V) -> BoxFuture<Result<Variant<'static>, Fault>>
where
    V: Into<Variant<'static>> + 'static,
{
    Box::pin(async move { Ok(read(&invocation.domain()?).into()) })
}

/// Table entry of a method that is one engine call on the driver.
macro_rules! connection {
    ($call:ty, $decode:expr, $encode:expr) => {
        (<$call as crate::engine::api::Call>::INFO.class, |invocation| {
            crate::dbus::call::on_connection::<$call, _, _>(invocation, $decode, $encode)
        })
    };
}

/// Table entry of a method that is one engine call on a domain.
macro_rules! domain {
    ($call:ty, $decode:expr, $encode:expr) => {
        (<$call as crate::engine::api::Call>::INFO.class, |invocation| {
            crate::dbus::call::on_domain::<$call, _, _>(invocation, $decode, $encode)
        })
    };
}

pub(super) use {connection, domain};
