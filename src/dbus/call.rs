//! One method call on its way through a codec: who called what on which object, and the glue between a table row and
//! the engine.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use zbus::wire::DynamicDeserialize;
use zbus::{DynamicType, Message, Variant};

use super::client::Client;
use super::codec::Path;
use super::fault::Fault;
use super::path::{self, Kind, Root};
use crate::engine::access::guard::Guarded;
use crate::engine::access::right::Right;
use crate::engine::api::{self, Call, Caller};
use crate::engine::domain::DomainSnapshot;
use crate::engine::interface::HostInterface;
use crate::engine::network::Network;
use crate::engine::node_device::NodeDevice;
use crate::engine::nwfilter::NwFilter;
use crate::engine::secret::Secret;
use crate::engine::storage::{StoragePool, StorageVol};
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
    /// The key of an object that is named by a text; `None` also when it is malformed.
    pub text: Option<String>,
    /// The key of a snapshot: its domain and its name; `None` also when it is malformed.
    pub snapshot: Option<(Uuid, String)>,
}

/// A type of object that a path names.
pub trait Located: Sized {
    /// The object that the call's path names.
    fn locate(at: &Invocation) -> Result<Self, Fault>;
}

impl Located for Connection {
    fn locate(at: &Invocation) -> Result<Self, Fault> {
        at.connection()
    }
}

impl Located for Domain {
    fn locate(at: &Invocation) -> Result<Self, Fault> {
        Ok(at.connection()?.domain(&at.uuid()?)?)
    }
}

impl Located for Network {
    fn locate(at: &Invocation) -> Result<Self, Fault> {
        Ok(at.connection()?.host().networks.by_uuid(at.uuid()?)?)
    }
}

impl Located for StoragePool {
    fn locate(at: &Invocation) -> Result<Self, Fault> {
        Ok(at.connection()?.host().pools.by_uuid(at.uuid()?)?)
    }
}

impl Located for StorageVol {
    fn locate(at: &Invocation) -> Result<Self, Fault> {
        Ok(at.connection()?.host().volume_by_key(at.text()?)?)
    }
}

impl Located for Secret {
    fn locate(at: &Invocation) -> Result<Self, Fault> {
        Ok(at.connection()?.host().secrets.by_uuid(at.uuid()?)?)
    }
}

impl Located for NwFilter {
    fn locate(at: &Invocation) -> Result<Self, Fault> {
        Ok(at.connection()?.host().filters("virNWFilterLookupByUUID")?.by_uuid(at.uuid()?)?)
    }
}

impl Located for NodeDevice {
    fn locate(at: &Invocation) -> Result<Self, Fault> {
        Ok(at.connection()?.host().node_devices.named(at.text()?))
    }
}

impl Located for DomainSnapshot {
    fn locate(at: &Invocation) -> Result<Self, Fault> {
        let (uuid, name) = at.snapshot.clone().ok_or_else(|| Fault::libvirt("Invalid UUID"))?;
        Ok(DomainSnapshot { domain: at.connection()?.domain(&uuid)?, name })
    }
}

impl Located for HostInterface {
    fn locate(at: &Invocation) -> Result<Self, Fault> {
        Ok(at.connection()?.host().interfaces.keyed(at.text()?))
    }
}

impl Invocation {
    /// The driver behind the root.
    pub fn connection(&self) -> Result<Connection, Fault> {
        let Some(root) = self.root else { return Err(Fault::no_driver("/")) };
        let connection = root.driver.and_then(|driver| self.client.server.engine.connection(driver));
        connection.ok_or_else(|| Fault::no_driver(root.uri(self.client.scope).unwrap_or(root.name)))
    }

    fn uuid(&self) -> Result<Uuid, Fault> {
        self.uuid.ok_or_else(|| Fault::libvirt("Invalid UUID"))
    }

    fn text(&self) -> Result<&str, Fault> {
        self.text.as_deref().ok_or_else(|| Fault::libvirt("Invalid object path"))
    }

    /// The path of another object below the same root.
    pub fn path(&self, kind: Kind, key: &str) -> Path {
        let root = self.root.map_or("QEMU", |root| root.name);
        Path(path::object_below(root, kind, key))
    }

    /// The path of another object that is named by a UUID.
    pub fn uuid_path(&self, kind: Kind, uuid: Uuid) -> Path {
        self.path(kind, &path::uuid_key(&uuid))
    }

    /// The path of another object that is named by a text.
    pub fn text_path(&self, kind: Kind, text: &str) -> Path {
        self.path(kind, &path::encode(text))
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

/// Runs an engine call on the object that the path names: decode, dispatch, encode.
pub fn on<C, I, O>(
    invocation: Invocation,
    decode: fn(I) -> Result<C::Args, Fault>,
    encode: fn(&Invocation, C::Ret) -> O,
) -> BoxFuture<Reply>
where
    C: Call<On: Located>,
    I: for<'d> DynamicDeserialize<'d> + Send + 'static,
    O: Serialize + DynamicType + 'static,
{
    Box::pin(async move {
        let object = C::On::locate(&invocation)?;
        let arguments = decode(invocation.arguments()?)?;
        let result = api::dispatch::<C>(&invocation.caller, &object, arguments).await?;
        invocation.reply(&encode(&invocation, result))
    })
}

/// Reads a property of the object that the path names, through an engine call.
pub fn property<C, V>(
    invocation: Invocation,
    arguments: fn() -> C::Args,
    encode: fn(C::Ret) -> V,
) -> BoxFuture<Result<Variant<'static>, Fault>>
where
    C: Call<On: Located>,
    V: Into<Variant<'static>> + 'static,
{
    Box::pin(async move {
        let object = C::On::locate(&invocation)?;
        Ok(encode(api::dispatch::<C>(&invocation.caller, &object, arguments()).await?).into())
    })
}

/// Reads a property from the object itself.
pub fn fact<T, V>(invocation: Invocation, read: fn(&T) -> V) -> BoxFuture<Result<Variant<'static>, Fault>>
where
    T: Located + Guarded + Send + Sync + 'static,
    V: Into<Variant<'static>> + 'static,
{
    Box::pin(async move { Ok(read(&seen::<T>(&invocation).await?).into()) })
}

/// The object that the call's path names, when the caller may see it.
pub async fn seen<T: Located + Guarded>(at: &Invocation) -> Result<T, Fault> {
    let object = T::locate(at)?;
    if let Some(ask) = &at.caller.ask {
        ask.demand(&[Right::to_see(T::OBJECT)], &object.details().await).await?;
    }
    Ok(object)
}

/// Writes a boolean property of the object that the path names, through an engine call.
pub fn set_switch<C>(invocation: Invocation, value: Variant<'static>) -> BoxFuture<Result<(), Fault>>
where
    C: Call<On: Located, Args = bool, Ret = ()>,
{
    Box::pin(async move {
        let on = bool::try_from(value).map_err(|_| Fault::invalid_args("the property is a boolean"))?;
        let object = C::On::locate(&invocation)?;
        Ok(api::dispatch::<C>(&invocation.caller, &object, on).await?)
    })
}

/// Table entry of a method that is one engine call on the object of the path.
macro_rules! object {
    ($call:ty, $decode:expr, $encode:expr) => {
        (<$call as crate::engine::api::Call>::INFO.class, |invocation| {
            crate::dbus::call::on::<$call, _, _>(invocation, $decode, $encode)
        })
    };
}

pub(super) use object;
