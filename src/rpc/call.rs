//! One call on its way through a codec, and the glue between a table row and the engine.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use super::client::Client;
use super::frame::Header;
use super::stream::StreamEnd;
use super::wire::{self, DomainHandle, Remote};
use super::xdr::{self, Put, Take};
use crate::engine::api::{self, Call, Caller};
use crate::engine::{Connection, Domain};
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::TypedParams;

/// A future that can be polled here or moved to a task.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A successful answer.
#[derive(Debug, Default)]
pub struct Answer {
    pub payload: Vec<u8>,
    /// Passed to the client after the packet.
    pub fds: Vec<OwnedFd>,
    /// The call opened a stream.
    pub stream: Option<StreamEnd>,
    /// The client is disconnected once it has the answer.
    pub last: bool,
}

impl Answer {
    /// An answer that is a value.
    pub fn value(value: &impl Put) -> Answer {
        Answer { payload: xdr::encode(value), ..Answer::default() }
    }
}

/// What a call ends with.
pub type Reply = Result<Answer>;

/// A call with everything its row needs.
#[derive(Debug)]
pub struct Invocation {
    pub client: Arc<Client>,
    pub header: Header,
    pub payload: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

impl Invocation {
    /// The arguments.
    pub fn arguments<T: Take>(&self) -> Result<T> {
        xdr::decode(&self.payload)
            .map_err(|_| Error::new(Code::Rpc, "Unable to decode message payload").with_subsystem(Subsystem::Rpc))
    }

    /// The driver that `virConnectOpen` chose, and who called it.
    pub fn connection(&self) -> Result<(Connection, Arc<Caller>)> {
        let open = self.client.opened();
        open.ok_or_else(|| Error::internal("hypervisor connection not open").with_subsystem(Subsystem::Rpc))
    }
}

/// Runs an engine call on the driver: decode, dispatch, encode.
pub fn on_connection<C, I, O>(at: Invocation, decode: fn(I) -> C::Args, encode: fn(C::Ret) -> O) -> BoxFuture<Reply>
where
    C: Call<On = Connection>,
    I: Take + Send + 'static,
    O: Put + 'static,
{
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let arguments = decode(at.arguments()?);
        Ok(Answer::value(&encode(api::dispatch::<C>(&caller, &connection, arguments).await?)))
    })
}

/// Runs an engine call on the object that the arguments begin with: decode, dispatch, encode.
pub fn on_object<C, I, O>(at: Invocation, decode: fn(I) -> C::Args, encode: fn(C::Ret) -> O) -> BoxFuture<Reply>
where
    C: Call<On: Remote>,
    I: Take + Send + 'static,
    O: Put + 'static,
{
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, arguments): (<C::On as Remote>::Handle, I) = at.arguments()?;
        let object = C::On::find(&connection, handle)?;
        Ok(Answer::value(&encode(api::dispatch::<C>(&caller, &object, decode(arguments)).await?)))
    })
}

/// Runs a `*ListAll*` call: `need_results`, flags -> the handles, their number.
pub fn on_connection_list<C, T>(at: Invocation) -> BoxFuture<Reply>
where
    C: Call<On = Connection, Args = u32, Ret = Vec<T>>,
    T: Remote + 'static,
{
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (need_results, flags): (bool, u32) = at.arguments()?;
        let objects = api::dispatch::<C>(&caller, &connection, flags).await?;
        let count = i32::try_from(objects.len()).unwrap_or(i32::MAX);
        let handles: Vec<T::Handle> =
            if need_results { objects.iter().map(Remote::handle).collect() } else { Vec::new() };
        Ok(Answer::value(&(handles, count)))
    })
}

/// Runs a call that answers with typed parameters, or with their number when asked for none. `decode` gives the engine's
/// arguments, how many parameters are asked for, and the flags.
pub fn on_object_params<C, I>(at: Invocation, decode: fn(I) -> (C::Args, i32, u32)) -> BoxFuture<Reply>
where
    C: Call<On: Remote, Ret = TypedParams>,
    I: Take + Send + 'static,
{
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, arguments): (<C::On as Remote>::Handle, I) = at.arguments()?;
        let object = C::On::find(&connection, handle)?;
        let (arguments, asked, flags) = decode(arguments);
        let params = api::dispatch::<C>(&caller, &object, arguments).await?;
        Ok(Answer::value(&wire::counted(asked, flags, params)))
    })
}

/// Runs a call that changes a domain and answers with it: its id may be another one now.
pub fn on_domain_again<C, I>(at: Invocation, decode: fn(I) -> C::Args) -> BoxFuture<Reply>
where
    C: Call<On = Domain>,
    I: Take + Send + 'static,
{
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, arguments): (DomainHandle, I) = at.arguments()?;
        let domain = connection.domain(&handle.uuid)?;
        api::dispatch::<C>(&caller, &domain, decode(arguments)).await?;
        Ok(Answer::value(&DomainHandle::from(&domain)))
    })
}

/// Table entry of a procedure that is one engine call on the driver.
macro_rules! connection {
    ($call:ty, $decode:expr, $encode:expr) => {
        (<$call as crate::engine::api::Call>::INFO.class, |at| {
            crate::rpc::call::on_connection::<$call, _, _>(at, $decode, $encode)
        })
    };
}

/// Table entry of a procedure that is one engine call on the object that its arguments begin with.
macro_rules! object {
    ($call:ty, $decode:expr, $encode:expr) => {
        (<$call as crate::engine::api::Call>::INFO.class, |at| {
            crate::rpc::call::on_object::<$call, _, _>(at, $decode, $encode)
        })
    };
}

/// Table entry of a procedure that lists all objects of a kind.
macro_rules! list {
    ($call:ty) => {
        (<$call as crate::engine::api::Call>::INFO.class, crate::rpc::call::on_connection_list::<$call, _>)
    };
}

pub(super) use {connection, list, object};
